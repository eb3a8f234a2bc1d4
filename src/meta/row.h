/* Values that end in crc32c(key, value): how every row of the checkpoint store is put and got. Used by meta.c and by
 * the embedded registry. Threads: those of the transaction handed in. */
#ifndef FLOTILLA_META_ROW_H
#define FLOTILLA_META_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "port/kv.h"

#define ROW_VALUE_BYTES_MAX (1u << 20)

/* value.size <= ROW_VALUE_BYTES_MAX, else ERR_TOO_LARGE. */
enum err row_put(struct kv *kv, struct kv_txn *txn, struct kv_bytes key, struct kv_bytes value);
/* ERR_NO_FILE: no such row; ERR_FORMAT: the CRC does not fit. ret_value excludes the CRC and is valid as kv_ops.get
 * says. */
enum err row_get(struct kv *kv, struct kv_txn *txn, struct kv_bytes key, struct kv_bytes *ret_value);
/* Whether the CRC at the end of a stored value fits. */
bool row_is_whole(struct kv_bytes key, struct kv_bytes stored);
/* Calls visit for every row whose key starts with prefix, in key order; a visitor's error ends the scan and is
 * returned, and so does ERR_FORMAT at the first row whose CRC does not fit. The visitor must not write; it may read and
 * scan in the same transaction. */
enum err row_scan(struct kv *kv, struct kv_txn *txn, struct kv_bytes prefix,
                  enum err (*visit)(void *context, struct kv_bytes key, struct kv_bytes value), void *context);
/* The same, but goes on behind rows whose CRC does not fit: bad gets their keys; its error ends the scan. */
enum err row_scan_all(struct kv *kv, struct kv_txn *txn, struct kv_bytes prefix,
                      enum err (*visit)(void *context, struct kv_bytes key, struct kv_bytes value),
                      enum err (*bad)(void *context, struct kv_bytes key), void *context);
/* What tells one state of a row from every other one: the CRC that a row has, and the one that stands in the store,
 * whether its row is readable or not (ERR_NO_FILE: no such row). */
uint32_t row_crc(struct kv_bytes key, struct kv_bytes value);
enum err row_get_crc(struct kv *kv, struct kv_txn *txn, struct kv_bytes key, uint32_t *ret_crc);
/* A row's part of the sum over many rows: its CRC, spread so that no two changes cancel out. */
uint64_t row_spread(uint32_t crc);
/* Deletes every row whose key starts with prefix, readable or not. */
enum err row_delete_prefix(struct kv *kv, struct kv_txn *txn, struct kv_bytes prefix);

bool row_key_has_prefix(struct kv_bytes key, struct kv_bytes prefix);
/* Makes of a key the smallest one above it; false: there is none. */
bool row_key_next(uint8_t key[KV_KEY_BYTES_MAX], size_t *io_size);

#endif
