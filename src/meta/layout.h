/* The bytes of the checkpoint store's rows: keys and values, without the CRC (row.h). Pure; used by meta.c only.
 *
 * Keys are big-endian so that byte order is number order; values are little-endian with fixed places, the first two
 * bytes the row's own version. Decoders take any bytes: ERR_VERSION for a version this build does not know, ERR_FORMAT
 * for a size, count or number that no writer makes. */
#ifndef FLOTILLA_META_LAYOUT_H
#define FLOTILLA_META_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "meta/done.h"
#include "meta/meta.h"
#include "port/kv.h"

enum layout_type {
    LAYOUT_IDENTITY = 'B',
    LAYOUT_GROUP = 'G',
    LAYOUT_SEGMENT = 'M',
    LAYOUT_EPOCH = 'E',
    LAYOUT_DONE = 'D',
    LAYOUT_STATE = 'S',
};

struct layout_key {
    uint8_t bytes[KV_KEY_BYTES_MAX];
    size_t size;
};

#define LAYOUT_GROUP_KEY_BYTES  9u  /* type, group */
#define LAYOUT_NUMBER_KEY_BYTES 17u /* type, group, number */

/* The first two are prefixes too, and the keys of the identity and of a group's own row. */
void layout_type_key(struct layout_key *ret_key, enum layout_type type);
void layout_group_key(struct layout_key *ret_key, enum layout_type type, uint64_t group);
void layout_number_key(struct layout_key *ret_key, enum layout_type type, uint64_t group, uint64_t number);
enum err layout_state_key(struct layout_key *ret_key, uint64_t group, const void *key, uint32_t key_size);
struct kv_bytes layout_bytes(const struct layout_key *key); /* borrows */

/* Of keys found by a scan with the type's prefix. */
enum err layout_parse_group_key(struct kv_bytes key, uint64_t *ret_group);
enum err layout_parse_number_key(struct kv_bytes key, uint64_t *ret_number);

#define LAYOUT_IDENTITY_BYTES 56u
#define LAYOUT_GROUP_BYTES    168u /* members follow */
#define LAYOUT_MEMBER_BYTES   18u
#define LAYOUT_SEGMENT_BYTES  64u /* the tail follows */
#define LAYOUT_EPOCH_BYTES    16u
#define LAYOUT_DONE_BYTES     128u

void layout_encode_identity(uint8_t bytes[LAYOUT_IDENTITY_BYTES], const struct meta_identity *identity);
enum err layout_decode_identity(struct kv_bytes value, struct meta_identity *ret_identity);
/* rows_sum: over the group's other rows, meta.c. Returns the size written. */
size_t layout_encode_group(uint8_t bytes[LAYOUT_GROUP_BYTES + RAFT_MEMBERS_MAX * LAYOUT_MEMBER_BYTES],
                           const struct meta_group *group, uint64_t rows_sum);
enum err layout_decode_group(uint64_t group, struct kv_bytes value, struct meta_group *ret_group,
                             uint64_t *ret_rows_sum);
/* Returns the size written: LAYOUT_SEGMENT_BYTES + tail_size. */
size_t layout_encode_segment(uint8_t bytes[LAYOUT_SEGMENT_BYTES + META_TAIL_BYTES_MAX],
                             const struct meta_segment *segment);
/* The tail borrows from value. */
enum err layout_decode_segment(uint64_t base_offset, struct kv_bytes value, struct meta_segment *ret_segment);
void layout_encode_epoch(uint8_t bytes[LAYOUT_EPOCH_BYTES], const struct meta_epoch *epoch);
enum err layout_decode_epoch(uint64_t term, struct kv_bytes value, struct meta_epoch *ret_epoch);
void layout_encode_done(uint8_t bytes[LAYOUT_DONE_BYTES], const struct done_row *row);
enum err layout_decode_done(uint64_t producer_id, struct kv_bytes value, struct done_row *ret_row);

#endif
