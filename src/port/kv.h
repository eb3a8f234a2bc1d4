/* Port: the checkpoint store, an ordered map with transactions.
 *
 * One write transaction at a time, serialised by the implementation, begun and committed on one thread (the store lane,
 * or the loop thread at start). A read transaction sees the state at its begin and never blocks a writer. kv_commit
 * returns OK only when the transaction is on the disk; a failed commit changed nothing, and the store must not be used
 * after ERR_IO from commit. Keys: 1 to KV_KEY_BYTES_MAX bytes, in byte order. Values end in a CRC that the layer above
 * adds (meta/row.h). Errors: ERR_IO, ERR_STORAGE_FULL, ERR_FORMAT, ERR_NO_FILE (get only), ERR_NO_MEMORY. Real twin:
 * os/lmdb.c. Simulated twin: tests/sim/sim_kv.c. */
#ifndef FLOTILLA_PORT_KV_H
#define FLOTILLA_PORT_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct kv_txn;

struct kv_bytes {
    const void *data;
    size_t size;
};

struct kv {
    const struct kv_ops *ops;
};

struct kv_ops {
    enum err (*begin)(struct kv *kv, bool write, struct kv_txn **ret_txn);
    enum err (*commit)(struct kv *kv, struct kv_txn *txn); /* ends it, whatever it returns; write transactions only */
    void (*abort)(struct kv *kv, struct kv_txn *txn);      /* ends a read or a write transaction */
    enum err (*put)(struct kv *kv, struct kv_txn *txn, struct kv_bytes key, struct kv_bytes value);
    enum err (*del)(struct kv *kv, struct kv_txn *txn, struct kv_bytes key); /* OK if missing */
    /* Value valid until the transaction ends or writes. */
    enum err (*get)(struct kv *kv, struct kv_txn *txn, struct kv_bytes key, struct kv_bytes *ret_value);
    /* The first row with a key >= `from`, into *ret_key and *ret_value (valid as above); ERR_NO_FILE when there is
     * none. */
    enum err (*seek)(struct kv *kv, struct kv_txn *txn, struct kv_bytes from, struct kv_bytes *ret_key,
                     struct kv_bytes *ret_value);
    enum err (*sync)(struct kv *kv); /* everything committed is on the disk, even what an earlier process wrote */
    /* The room set aside for transactions that free space on a full disk was drawn upon and could not be filled up
     * again: what only adds rows should be refused. Ends by itself, with the next write transaction that finds room. */
    bool (*is_short)(struct kv *kv);
};

#endif
