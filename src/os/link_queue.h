/* A link's output: pieces of bytes in order, each holding a reference to its memory.
 *
 * Copied heads are packed into blocks of a pool that all links of a loop share; heads that follow each other become
 * one piece. The ring and the blocks are reused, so a link in its steady state allocates nothing. Loop thread only. */
#ifndef FLOTILLA_OS_LINK_QUEUE_H
#define FLOTILLA_OS_LINK_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct os_link_queue {
    struct slice *ring; /* owned; `room` pieces, a power of two */
    uint32_t room;
    uint32_t first;
    uint32_t count;
    uint64_t bytes;
    struct buf *block; /* owned reference; heads are copied to its end; NULL: none */
    uint32_t block_used;
};

/* Copies data behind everything queued. `frozen` = pieces at the front that may not grow. False: no memory, nothing
 * queued. */
bool os_link_queue__copy(struct os_link_queue *queue, struct buf_pool *blocks, uint32_t frozen, const void *data,
                         size_t size);

/* Takes a reference to the slice's bytes and queues them. */
void os_link_queue__add(struct os_link_queue *queue, struct slice slice);

/* Piece number i from the front, i < count. */
const struct slice *os_link_queue__at(const struct os_link_queue *queue, uint32_t i);

/* Drops the first `size` bytes, and with them the references to pieces that are gone. */
void os_link_queue__consume(struct os_link_queue *queue, uint64_t size);

/* Drops everything, memory too. */
void os_link_queue__clear(struct os_link_queue *queue);

#endif
