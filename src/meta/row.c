/* Rows with a CRC: crc32c over key and value stands behind the value, little-endian, so that neither rot nor a value
 * under another row's key is ever taken for data. */
#include "meta/row.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/limits.h"

#define ROW_CRC_BYTES   4u
/* Values up to here are put from the stack: all but the largest rows of STATE groups. */
#define ROW_STACK_BYTES 8192u

uint32_t row_crc(struct kv_bytes key, struct kv_bytes value)
{
    return crc32c(crc32c(0, key.data, key.size), value.data, value.size);
}

enum err row_put(struct kv *kv, struct kv_txn *txn, struct kv_bytes key, struct kv_bytes value)
{
    uint8_t small[ROW_STACK_BYTES];
    uint8_t *bytes = small;
    ASSERT(key.size > 0 && key.size <= KV_KEY_BYTES_MAX);
    if (value.size > ROW_VALUE_BYTES_MAX) {
        return ERR_TOO_LARGE;
    }
    size_t size = value.size + ROW_CRC_BYTES;
    if (size > sizeof small) {
        bytes = malloc(size);
        if (bytes == NULL) {
            return ERR_NO_MEMORY;
        }
    }
    if (value.size > 0) {
        memcpy(bytes, value.data, value.size);
    }
    store_le32(bytes + value.size, row_crc(key, value));
    enum err error = kv->ops->put(kv, txn, key, (struct kv_bytes){bytes, size});
    if (bytes != small) {
        free(bytes);
    }
    return error;
}

/* Checks and strips the CRC. */
static enum err row__open(struct kv_bytes key, struct kv_bytes stored, struct kv_bytes *ret_value)
{
    if (stored.size < ROW_CRC_BYTES) {
        return ERR_FORMAT;
    }
    struct kv_bytes value = {stored.data, stored.size - ROW_CRC_BYTES};
    if (load_le32((const uint8_t *)stored.data + value.size) != row_crc(key, value)) {
        return ERR_FORMAT;
    }
    *ret_value = value;
    return OK;
}

bool row_is_whole(struct kv_bytes key, struct kv_bytes stored)
{
    struct kv_bytes value;
    return row__open(key, stored, &value) == OK;
}

enum err row_get(struct kv *kv, struct kv_txn *txn, struct kv_bytes key, struct kv_bytes *ret_value)
{
    struct kv_bytes stored;
    enum err error = kv->ops->get(kv, txn, key, &stored);
    return error != OK ? error : row__open(key, stored, ret_value);
}

uint64_t row_spread(uint32_t crc)
{
    uint64_t x = (crc + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

enum err row_get_crc(struct kv *kv, struct kv_txn *txn, struct kv_bytes key, uint32_t *ret_crc)
{
    struct kv_bytes stored;
    enum err error = kv->ops->get(kv, txn, key, &stored);
    if (error == OK) {
        *ret_crc =
            stored.size < ROW_CRC_BYTES ? 0 : load_le32((const uint8_t *)stored.data + stored.size - ROW_CRC_BYTES);
    }
    return error;
}

bool row_key_has_prefix(struct kv_bytes key, struct kv_bytes prefix)
{
    return key.size >= prefix.size && memcmp(key.data, prefix.data, prefix.size) == 0;
}

bool row_key_next(uint8_t key[KV_KEY_BYTES_MAX], size_t *io_size)
{
    if (*io_size < KV_KEY_BYTES_MAX) {
        key[(*io_size)++] = 0;
        return true;
    }
    /* No room for a longer key: the next one is shorter, with a byte raised. */
    while (*io_size > 0 && key[*io_size - 1] == UINT8_MAX) {
        (*io_size)--;
    }
    if (*io_size == 0) {
        return false;
    }
    key[*io_size - 1]++;
    return true;
}

enum err row_scan(struct kv *kv, struct kv_txn *txn, struct kv_bytes prefix,
                  enum err (*visit)(void *context, struct kv_bytes key, struct kv_bytes value), void *context)
{
    return row_scan_all(kv, txn, prefix, visit, NULL, context);
}

enum err row_scan_all(struct kv *kv, struct kv_txn *txn, struct kv_bytes prefix,
                      enum err (*visit)(void *context, struct kv_bytes key, struct kv_bytes value),
                      enum err (*bad)(void *context, struct kv_bytes key), void *context)
{
    uint8_t from[KV_KEY_BYTES_MAX];
    size_t from_size = prefix.size;
    ASSERT(prefix.size > 0 && prefix.size <= sizeof from);
    memcpy(from, prefix.data, prefix.size);
    do {
        struct kv_bytes key, stored, value;
        enum err error = kv->ops->seek(kv, txn, (struct kv_bytes){from, from_size}, &key, &stored);
        if (error == ERR_NO_FILE || (error == OK && !row_key_has_prefix(key, prefix))) {
            return OK;
        }
        if (error != OK) {
            return error;
        }
        error = row__open(key, stored, &value);
        if (error == OK) {
            error = visit(context, key, value);
        } else if (bad != NULL) {
            error = bad(context, key);
        }
        if (error != OK) {
            return error;
        }
        ASSERT(key.size <= sizeof from);
        memcpy(from, key.data, key.size);
        from_size = key.size;
    } while (row_key_next(from, &from_size));
    return OK;
}

enum err row_delete_prefix(struct kv *kv, struct kv_txn *txn, struct kv_bytes prefix)
{
    ASSERT(prefix.size > 0);
    for (;;) {
        struct kv_bytes key, stored;
        uint8_t copy[KV_KEY_BYTES_MAX];
        enum err error = kv->ops->seek(kv, txn, prefix, &key, &stored);
        if (error == ERR_NO_FILE || (error == OK && !row_key_has_prefix(key, prefix))) {
            return OK;
        }
        if (error != OK) {
            return error;
        }
        ASSERT(key.size <= sizeof copy);
        memcpy(copy, key.data, key.size); /* the store's own bytes may move under its delete */
        error = kv->ops->del(kv, txn, (struct kv_bytes){copy, key.size});
        if (error != OK) {
            return error;
        }
    }
}
