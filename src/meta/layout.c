/* Row formats of the checkpoint store, groups in version 3, segments in 2, the others in 1. Offsets in bytes, numbers
 * little-endian, gaps zero and reserved.
 *
 * identity   0 version u16     8 cluster id[16]   24 broker u64   32 disk uuid[16]   48 boot u64
 *
 * group      0 version u16     2 kind u8          3 damaged u8    4 members u32      8 replica u64
 *           16 term u64       24 vote u64        32 applied index u64               40 applied term u64
 *           48 next offset    56 log start       64 log clock ms                    72 segment bytes u64
 *           80 segment ms     88 retention bytes 96 retention ms                   104 snapshot lsn u64
 *          112 repaired lsn  120 csm count u32  124 reserved u32
 *          128 idle clock ms 136 damaged lsn    144 accepted lsn                   152 sum of the group's other rows
 *          160 config index  168 members: {replica u64, broker u64, now u8, next u8}
 *   in version 2 there were only the voters of its birth:                            4 voters u32
 *          128 seven times {voter u64, broker u64}               240 idle clock ms 248 damaged lsn
 *          256 accepted lsn  264 sum
 *
 * segment    0 version u16     4 tail size u32    8 end offset   16 size bytes u64  24 generation u64  32 chain u32
 *           40 max timestamp  48 created clock ms                56 newest ms       64 tail
 *
 * epoch      0 version u16     8 first offset
 *
 * done       0 version u16     2 epoch i16        4 count u8      5 reserved[3]      8 last idle ms
 *           16 reserved[32] for transactions: first offset, coordinator epoch, deadline
 *           48 five times {first sequence i32, last sequence i32, offset i64}, oldest first
 *
 * What a key holds (group, base offset, term, producer id) is not repeated in the value, whose CRC covers the key. */
#include "meta/layout.h"

#include <string.h>

#include "base/assert.h"
#include "base/endian.h"

#define IDENTITY_VERSION 1u
#define GROUP_VERSION    3u
#define GROUP_DAMAGED    1u
#define GROUP_HEALING    2u
#define SEGMENT_VERSION  2u
#define EPOCH_VERSION    1u
#define DONE_VERSION     1u

#define GROUP_CLOCK_AT   128u /* idle clock, and what stands behind it */
#define GROUP_CONFIG_AT  160u
#define MEMBER_VOTES     2u /* the highest of enum raft_membership */
#define DONE_BATCHES_AT  48u
#define DONE_BATCH_BYTES 16u

#define GROUP_2_VERSION     2u
#define GROUP_2_VOTERS      7u
#define GROUP_2_VOTER_BYTES 16u
#define GROUP_2_CLOCK_AT    240u
#define GROUP_2_BYTES       272u

_Static_assert(GROUP_CONFIG_AT + 8 == LAYOUT_GROUP_BYTES, "members follow");
_Static_assert(GROUP_CLOCK_AT + GROUP_2_VOTERS * GROUP_2_VOTER_BYTES == GROUP_2_CLOCK_AT, "as it was");
_Static_assert(GROUP_2_VOTERS <= RAFT_MEMBERS_MAX, "what was written fits");
_Static_assert(DONE_BATCHES_AT + DONE_BATCHES * DONE_BATCH_BYTES == LAYOUT_DONE_BYTES, "a new limit is a new version");
_Static_assert(LAYOUT_GROUP_KEY_BYTES + META_STATE_KEY_BYTES_MAX == KV_KEY_BYTES_MAX,
               "keys of STATE rows fill the key");

static void store_signed(uint8_t *to, int64_t value)
{
    store_le64(to, (uint64_t)value);
}

static int64_t load_signed(const uint8_t *from)
{
    return (int64_t)load_le64(from);
}

/* ---- keys ---- */

void layout_type_key(struct layout_key *ret_key, enum layout_type type)
{
    ret_key->bytes[0] = (uint8_t)type;
    ret_key->size = 1;
}

void layout_group_key(struct layout_key *ret_key, enum layout_type type, uint64_t group)
{
    ret_key->bytes[0] = (uint8_t)type;
    store_be64(ret_key->bytes + 1, group);
    ret_key->size = LAYOUT_GROUP_KEY_BYTES;
}

void layout_number_key(struct layout_key *ret_key, enum layout_type type, uint64_t group, uint64_t number)
{
    layout_group_key(ret_key, type, group);
    store_be64(ret_key->bytes + LAYOUT_GROUP_KEY_BYTES, number);
    ret_key->size = LAYOUT_NUMBER_KEY_BYTES;
}

enum err layout_state_key(struct layout_key *ret_key, uint64_t group, const void *key, uint32_t key_size)
{
    if (key_size > META_STATE_KEY_BYTES_MAX) {
        return ERR_TOO_LARGE;
    }
    layout_group_key(ret_key, LAYOUT_STATE, group);
    if (key_size > 0) {
        memcpy(ret_key->bytes + LAYOUT_GROUP_KEY_BYTES, key, key_size);
    }
    ret_key->size = LAYOUT_GROUP_KEY_BYTES + key_size;
    return OK;
}

struct kv_bytes layout_bytes(const struct layout_key *key)
{
    return (struct kv_bytes){key->bytes, key->size};
}

enum err layout_parse_group_key(struct kv_bytes key, uint64_t *ret_group)
{
    if (key.size != LAYOUT_GROUP_KEY_BYTES) {
        return ERR_FORMAT;
    }
    *ret_group = load_be64((const uint8_t *)key.data + 1);
    return OK;
}

enum err layout_parse_number_key(struct kv_bytes key, uint64_t *ret_number)
{
    if (key.size != LAYOUT_NUMBER_KEY_BYTES) {
        return ERR_FORMAT;
    }
    *ret_number = load_be64((const uint8_t *)key.data + LAYOUT_GROUP_KEY_BYTES);
    return OK;
}

/* Size and version first: only then are the other places what the table above says. */
static enum err layout__check(struct kv_bytes value, uint16_t version, size_t size_min, size_t size_max)
{
    if (value.size < sizeof version) {
        return ERR_FORMAT;
    }
    if (load_le16(value.data) != version) {
        return ERR_VERSION;
    }
    return value.size >= size_min && value.size <= size_max ? OK : ERR_FORMAT;
}

/* ---- values ---- */

void layout_encode_identity(uint8_t bytes[LAYOUT_IDENTITY_BYTES], const struct meta_identity *identity)
{
    memset(bytes, 0, LAYOUT_IDENTITY_BYTES);
    store_le16(bytes, IDENTITY_VERSION);
    memcpy(bytes + 8, identity->cluster_id, sizeof identity->cluster_id);
    store_le64(bytes + 24, identity->broker);
    memcpy(bytes + 32, identity->disk_uuid, sizeof identity->disk_uuid);
    store_le64(bytes + 48, identity->boot);
}

enum err layout_decode_identity(struct kv_bytes value, struct meta_identity *ret_identity)
{
    enum err error = layout__check(value, IDENTITY_VERSION, LAYOUT_IDENTITY_BYTES, LAYOUT_IDENTITY_BYTES);
    if (error != OK) {
        return error;
    }
    const uint8_t *bytes = value.data;
    memcpy(ret_identity->cluster_id, bytes + 8, sizeof ret_identity->cluster_id);
    ret_identity->broker = load_le64(bytes + 24);
    memcpy(ret_identity->disk_uuid, bytes + 32, sizeof ret_identity->disk_uuid);
    ret_identity->boot = load_le64(bytes + 48);
    return OK;
}

static bool layout__group_is_sane(const struct meta_group *group)
{
    bool sane = group->members_count <= RAFT_MEMBERS_MAX && group->config_index <= group->applied_index &&
                group->log_start >= 0 && group->next_offset >= group->log_start;
    for (uint32_t i = 0; sane && i < group->members_count; i++) {
        sane = group->members[i].now <= MEMBER_VOTES && group->members[i].next <= MEMBER_VOTES;
    }
    return sane;
}

size_t layout_encode_group(uint8_t bytes[LAYOUT_GROUP_BYTES + RAFT_MEMBERS_MAX * LAYOUT_MEMBER_BYTES],
                           const struct meta_group *group, uint64_t rows_sum)
{
    ASSERT(layout__group_is_sane(group));
    memset(bytes, 0, LAYOUT_GROUP_BYTES);
    store_le16(bytes, GROUP_VERSION);
    bytes[2] = group->kind;
    bytes[3] = group->damaged ? (group->healing ? GROUP_HEALING : GROUP_DAMAGED) : 0;
    store_le32(bytes + 4, group->members_count);
    store_le64(bytes + 8, group->replica);
    store_le64(bytes + 16, group->term);
    store_le64(bytes + 24, group->vote);
    store_le64(bytes + 32, group->applied_index);
    store_le64(bytes + 40, group->applied_term);
    store_signed(bytes + 48, group->next_offset);
    store_signed(bytes + 56, group->log_start);
    store_signed(bytes + 64, group->log_clock_ms);
    store_le64(bytes + 72, group->segment_bytes);
    store_signed(bytes + 80, group->segment_ms);
    store_signed(bytes + 88, group->retention_bytes);
    store_signed(bytes + 96, group->retention_ms);
    store_le64(bytes + 104, group->snapshot_lsn);
    store_le64(bytes + 112, group->repaired_lsn);
    store_le32(bytes + 120, group->csm_count);
    store_signed(bytes + GROUP_CLOCK_AT, group->idle_clock_ms);
    store_le64(bytes + GROUP_CLOCK_AT + 8, group->damaged_lsn);
    store_le64(bytes + GROUP_CLOCK_AT + 16, group->accepted_lsn);
    store_le64(bytes + GROUP_CLOCK_AT + 24, rows_sum);
    store_le64(bytes + GROUP_CONFIG_AT, group->config_index);
    uint8_t *at = bytes + LAYOUT_GROUP_BYTES;
    for (uint32_t i = 0; i < group->members_count; i++, at += LAYOUT_MEMBER_BYTES) {
        store_le64(at, group->members[i].replica);
        store_le64(at + 8, group->members[i].broker);
        at[16] = group->members[i].now;
        at[17] = group->members[i].next;
    }
    return (size_t)(at - bytes);
}

/* The voters that a group was born with; they stood in any order. */
static void layout__load_voters(const uint8_t *at, struct meta_group *group)
{
    for (uint32_t i = 0; i < group->members_count; i++, at += GROUP_2_VOTER_BYTES) {
        struct meta_member voter = {
            .replica = load_le64(at), .broker = load_le64(at + 8), .now = MEMBER_VOTES, .next = MEMBER_VOTES};
        uint32_t to = i;
        for (; to > 0 && group->members[to - 1].replica > voter.replica; to--) {
            group->members[to] = group->members[to - 1];
        }
        group->members[to] = voter;
    }
}

static void layout__load_members(const uint8_t *at, struct meta_group *group)
{
    for (uint32_t i = 0; i < group->members_count; i++, at += LAYOUT_MEMBER_BYTES) {
        group->members[i] =
            (struct meta_member){.replica = load_le64(at), .broker = load_le64(at + 8), .now = at[16], .next = at[17]};
    }
}

static enum err layout__check_group(struct kv_bytes value, bool *ret_is_old)
{
    bool is_old = value.size >= 2 && load_le16(value.data) == GROUP_2_VERSION;
    enum err error = is_old ? layout__check(value, GROUP_2_VERSION, GROUP_2_BYTES, GROUP_2_BYTES)
                            : layout__check(value, GROUP_VERSION, LAYOUT_GROUP_BYTES,
                                            LAYOUT_GROUP_BYTES + (size_t)RAFT_MEMBERS_MAX * LAYOUT_MEMBER_BYTES);
    if (error != OK) {
        return error;
    }
    uint32_t count = load_le32((const uint8_t *)value.data + 4);
    bool fits = is_old ? count <= GROUP_2_VOTERS
                       : count <= RAFT_MEMBERS_MAX && value.size == LAYOUT_GROUP_BYTES + count * LAYOUT_MEMBER_BYTES;
    *ret_is_old = is_old;
    return fits ? OK : ERR_FORMAT;
}

enum err layout_decode_group(uint64_t group, struct kv_bytes value, struct meta_group *ret_group,
                             uint64_t *ret_rows_sum)
{
    bool is_old;
    enum err error = layout__check_group(value, &is_old);
    if (error != OK) {
        return error;
    }
    const uint8_t *bytes = value.data;
    const uint8_t *clock = bytes + (is_old ? GROUP_2_CLOCK_AT : GROUP_CLOCK_AT);
    struct meta_group found = {
        .group = group,
        .kind = bytes[2],
        .damaged = bytes[3] >= GROUP_DAMAGED,
        .healing = bytes[3] == GROUP_HEALING,
        .members_count = load_le32(bytes + 4),
        .replica = load_le64(bytes + 8),
        .term = load_le64(bytes + 16),
        .vote = load_le64(bytes + 24),
        .applied_index = load_le64(bytes + 32),
        .applied_term = load_le64(bytes + 40),
        .next_offset = load_signed(bytes + 48),
        .log_start = load_signed(bytes + 56),
        .log_clock_ms = load_signed(bytes + 64),
        .segment_bytes = load_le64(bytes + 72),
        .segment_ms = load_signed(bytes + 80),
        .retention_bytes = load_signed(bytes + 88),
        .retention_ms = load_signed(bytes + 96),
        .snapshot_lsn = load_le64(bytes + 104),
        .repaired_lsn = load_le64(bytes + 112),
        .csm_count = load_le32(bytes + 120),
        .idle_clock_ms = load_signed(clock),
        .damaged_lsn = load_le64(clock + 8),
        .accepted_lsn = load_le64(clock + 16),
    };
    if (is_old) {
        layout__load_voters(bytes + GROUP_CLOCK_AT, &found);
    } else {
        found.config_index = load_le64(bytes + GROUP_CONFIG_AT);
        layout__load_members(bytes + LAYOUT_GROUP_BYTES, &found);
    }
    if (bytes[3] > GROUP_HEALING || !layout__group_is_sane(&found)) {
        return ERR_FORMAT;
    }
    *ret_group = found;
    *ret_rows_sum = load_le64(clock + 24);
    return OK;
}

size_t layout_encode_segment(uint8_t bytes[LAYOUT_SEGMENT_BYTES + META_TAIL_BYTES_MAX],
                             const struct meta_segment *segment)
{
    ASSERT(segment->tail_size <= META_TAIL_BYTES_MAX);
    ASSERT(segment->base_offset >= 0 && segment->end_offset >= segment->base_offset);
    memset(bytes, 0, LAYOUT_SEGMENT_BYTES);
    store_le16(bytes, SEGMENT_VERSION);
    store_le32(bytes + 4, segment->tail_size);
    store_signed(bytes + 8, segment->end_offset);
    store_le64(bytes + 16, segment->size_bytes);
    store_le64(bytes + 24, segment->generation);
    store_le32(bytes + 32, segment->chain);
    store_signed(bytes + 40, segment->max_timestamp);
    store_signed(bytes + 48, segment->created_clock_ms);
    store_signed(bytes + 56, segment->newest_ms);
    if (segment->tail_size > 0) {
        memcpy(bytes + LAYOUT_SEGMENT_BYTES, segment->tail, segment->tail_size);
    }
    return LAYOUT_SEGMENT_BYTES + segment->tail_size;
}

enum err layout_decode_segment(uint64_t base_offset, struct kv_bytes value, struct meta_segment *ret_segment)
{
    enum err error =
        layout__check(value, SEGMENT_VERSION, LAYOUT_SEGMENT_BYTES, LAYOUT_SEGMENT_BYTES + META_TAIL_BYTES_MAX);
    if (error != OK) {
        return error;
    }
    const uint8_t *bytes = value.data;
    struct meta_segment found = {
        .base_offset = (int64_t)base_offset,
        .tail_size = load_le32(bytes + 4),
        .end_offset = load_signed(bytes + 8),
        .size_bytes = load_le64(bytes + 16),
        .generation = load_le64(bytes + 24),
        .chain = load_le32(bytes + 32),
        .max_timestamp = load_signed(bytes + 40),
        .created_clock_ms = load_signed(bytes + 48),
        .newest_ms = load_signed(bytes + 56),
        .tail = bytes + LAYOUT_SEGMENT_BYTES,
    };
    if (value.size - LAYOUT_SEGMENT_BYTES != found.tail_size || found.base_offset < 0 ||
        found.end_offset < found.base_offset) {
        return ERR_FORMAT;
    }
    *ret_segment = found;
    return OK;
}

void layout_encode_epoch(uint8_t bytes[LAYOUT_EPOCH_BYTES], const struct meta_epoch *epoch)
{
    ASSERT(epoch->first_offset >= 0);
    memset(bytes, 0, LAYOUT_EPOCH_BYTES);
    store_le16(bytes, EPOCH_VERSION);
    store_signed(bytes + 8, epoch->first_offset);
}

enum err layout_decode_epoch(uint64_t term, struct kv_bytes value, struct meta_epoch *ret_epoch)
{
    enum err error = layout__check(value, EPOCH_VERSION, LAYOUT_EPOCH_BYTES, LAYOUT_EPOCH_BYTES);
    if (error != OK) {
        return error;
    }
    int64_t first_offset = load_signed((const uint8_t *)value.data + 8);
    if (first_offset < 0) {
        return ERR_FORMAT;
    }
    *ret_epoch = (struct meta_epoch){.term = term, .first_offset = first_offset};
    return OK;
}

void layout_encode_done(uint8_t bytes[LAYOUT_DONE_BYTES], const struct done_row *row)
{
    ASSERT(row->producer_id >= 0 && row->epoch >= 0 && row->count <= DONE_BATCHES);
    memset(bytes, 0, LAYOUT_DONE_BYTES);
    store_le16(bytes, DONE_VERSION);
    store_le16(bytes + 2, (uint16_t)row->epoch);
    bytes[4] = row->count;
    store_signed(bytes + 8, row->last_idle_ms);
    for (uint8_t i = 0; i < row->count; i++) {
        uint8_t *at = bytes + DONE_BATCHES_AT + i * DONE_BATCH_BYTES;
        store_le32(at, (uint32_t)row->batches[i].first_sequence);
        store_le32(at + 4, (uint32_t)row->batches[i].last_sequence);
        store_signed(at + 8, row->batches[i].offset);
    }
}

enum err layout_decode_done(uint64_t producer_id, struct kv_bytes value, struct done_row *ret_row)
{
    enum err error = layout__check(value, DONE_VERSION, LAYOUT_DONE_BYTES, LAYOUT_DONE_BYTES);
    if (error != OK) {
        return error;
    }
    const uint8_t *bytes = value.data;
    struct done_row found = {
        .producer_id = (int64_t)producer_id,
        .epoch = (int16_t)load_le16(bytes + 2),
        .count = bytes[4],
        .last_idle_ms = load_signed(bytes + 8),
    };
    if (found.producer_id < 0 || found.epoch < 0 || found.count > DONE_BATCHES) {
        return ERR_FORMAT;
    }
    for (uint8_t i = 0; i < found.count; i++) {
        const uint8_t *at = bytes + DONE_BATCHES_AT + i * DONE_BATCH_BYTES;
        struct done_batch *batch = &found.batches[i];
        batch->first_sequence = (int32_t)load_le32(at);
        batch->last_sequence = (int32_t)load_le32(at + 4);
        batch->offset = load_signed(at + 8);
        if (batch->first_sequence < 0 || batch->last_sequence < 0 || batch->offset < 0) {
            return ERR_FORMAT;
        }
    }
    *ret_row = found;
    return OK;
}
