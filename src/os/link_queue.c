/* The ring of pieces behind a link. Its memory is given back only when it had grown past RING_KEEP and is empty: a
 * burst is paid for once, ten thousand idle links stay small. */
#include "os/link_queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/limits.h"

#define RING_MIN  16u
#define RING_KEEP 4096u

static struct slice *queue_slot(const struct os_link_queue *queue, uint32_t i)
{
    return &queue->ring[(queue->first + i) & (queue->room - 1)];
}

static void queue_grow(struct os_link_queue *queue)
{
    uint32_t room = queue->room == 0 ? RING_MIN : queue->room * 2;
    ASSERT(room > queue->room);
    struct slice *ring = mem_zeroed(room, sizeof ring[0]);
    for (uint32_t i = 0; i < queue->count; i++) {
        ring[i] = *queue_slot(queue, i);
    }
    free(queue->ring);
    queue->ring = ring;
    queue->room = room;
    queue->first = 0;
}

/* Takes over the reference in `slice`. */
static void queue_push(struct os_link_queue *queue, struct slice slice)
{
    if (queue->count == queue->room) {
        queue_grow(queue);
    }
    *queue_slot(queue, queue->count++) = slice;
    queue->bytes += slice.size;
}

static void queue_drop_block(struct os_link_queue *queue)
{
    buf_unref(queue->block);
    queue->block = NULL;
    queue->block_used = 0;
}

/* A head that shares no block: larger than one. */
static bool queue_copy_alone(struct os_link_queue *queue, const void *data, uint32_t size)
{
    struct buf *alone = buf_new(size);
    if (alone == NULL) {
        return false;
    }
    memcpy(alone->data, data, size);
    queue_push(queue, (struct slice){.buf = alone, .data = alone->data, .size = size});
    return true;
}

bool os_link_queue__copy(struct os_link_queue *queue, struct buf_pool *blocks, uint32_t frozen, const void *data,
                         size_t size)
{
    if (size == 0) {
        return true;
    }
    ASSERT(size <= UINT32_MAX);
    if (size > LINK_HEAD_BLOCK_BYTES) {
        return queue_copy_alone(queue, data, (uint32_t)size);
    }
    if (queue->block != NULL && size > queue->block->size - queue->block_used) {
        queue_drop_block(queue);
    }
    if (queue->block == NULL) {
        queue->block = buf_pool_take(blocks);
        if (queue->block == NULL) {
            return false;
        }
    }
    uint32_t start = queue->block_used;
    memcpy(queue->block->data + start, data, size);
    queue->block_used += (uint32_t)size;
    struct slice *last = queue->count > frozen ? queue_slot(queue, queue->count - 1) : NULL;
    if (last != NULL && last->buf == queue->block && last->data + last->size == queue->block->data + start) {
        last->size += (uint32_t)size;
        queue->bytes += size;
        return true;
    }
    queue_push(queue, slice_of(queue->block, start, (uint32_t)size));
    return true;
}

void os_link_queue__add(struct os_link_queue *queue, struct slice slice)
{
    if (slice.size > 0) {
        queue_push(queue, slice_ref(slice));
    }
}

const struct slice *os_link_queue__at(const struct os_link_queue *queue, uint32_t i)
{
    ASSERT(i < queue->count);
    return queue_slot(queue, i);
}

void os_link_queue__consume(struct os_link_queue *queue, uint64_t size)
{
    ASSERT(size <= queue->bytes);
    queue->bytes -= size;
    while (size > 0) {
        struct slice *piece = queue_slot(queue, 0);
        if (size < piece->size) {
            piece->data += size;
            piece->size -= (uint32_t)size;
            return;
        }
        size -= piece->size;
        slice_unref(piece);
        queue->first = (queue->first + 1) & (queue->room - 1);
        queue->count--;
    }
    if (queue->count == 0) {
        queue_drop_block(queue);
        if (queue->room > RING_KEEP) {
            free(queue->ring);
            queue->ring = NULL;
            queue->room = queue->first = 0;
        }
    }
}

void os_link_queue__clear(struct os_link_queue *queue)
{
    os_link_queue__consume(queue, queue->bytes);
    queue_drop_block(queue);
    free(queue->ring);
    *queue = (struct os_link_queue){0};
}
