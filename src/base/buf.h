/* Refcounted bytes: the only shared memory of the broker.
 *
 * A `struct buf` is a block of memory with a reference count; a `struct slice` is a window into one. Payload is read
 * from a socket into a buf once; the WAL write, the segment write, tail fetches (and later peers' frames) hold slices
 * of it. Threads: counts change on the loop thread only. A lane thread may read the bytes while the loop thread holds a
 * reference for it (from submit until done). Bytes are immutable as soon as a second holder exists. */
#ifndef FLOTILLA_BASE_BUF_H
#define FLOTILLA_BASE_BUF_H

#include <stdint.h>

struct buf {
    uint32_t refs;
    uint32_t size; /* capacity of data, bytes */
    uint8_t *data;
    void (*release)(struct buf *b); /* called when the last reference goes; owns the memory then */
    void *owner;                    /* of whoever set release */
};

struct slice {
    struct buf *buf; /* NULL: borrowed or static memory, nothing to release */
    const uint8_t *data;
    uint32_t size;
};

/* A new buf with one reference and `size` bytes of uninitialised memory, 64-byte aligned. Without memory
 * for a size below 64 KiB (bookkeeping) the process ends as base/mem.h says; from there on NULL. */
struct buf *buf_new(uint32_t size);
struct buf *buf_ref(struct buf *b);
void buf_unref(struct buf *b); /* NULL is allowed */

/* slice of b's bytes [offset, offset + size), taking a reference. */
struct slice slice_of(struct buf *b, uint32_t offset, uint32_t size);
struct slice slice_ref(struct slice s); /* another reference to the same bytes; returns s */
void slice_unref(struct slice *s);      /* drops it and clears *s */

/* Counts the bytes of bufs of any size until their last reference goes. */
struct buf_meter;
struct buf_meter *buf_meter_new(void);
struct buf *buf_new_metered(struct buf_meter *meter, uint32_t size); /* as buf_new */
uint64_t buf_meter_bytes(const struct buf_meter *meter);
void buf_meter_free(struct buf_meter *meter); /* NULL is allowed; bufs still out keep it alive */

/* A LIFO of equal bufs, so that hot memory is reused: touching fresh pages costs 1.3 us each here (3.2 GB/s), more than
 * everything else a broker does with a byte. A buf goes back to its pool by its last buf_unref. */
struct buf_pool;
struct buf_pool *buf_pool_new(uint32_t buf_size, uint32_t keep_max); /* keeps at most keep_max free bufs */
struct buf *buf_pool_take(struct buf_pool *pool);                    /* one reference; NULL: no memory */
uint64_t buf_pool_bytes(const struct buf_pool *pool);                /* handed out and kept, bytes */
void buf_pool_free(struct buf_pool *pool); /* bufs still out keep the pool alive until the last one returns */

#endif
