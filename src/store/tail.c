/* Batches in memory: the pool of items, the ring of each log, and the broker-wide tail that decides who goes first.
 *
 * An applied batch needs a 16-byte prefix that differs from the bytes it came with. Prefix, bookkeeping and the
 * reference to the bytes are one pooled object, so that a batch costs no allocation in the steady state. The prefix is
 * handed out by reference like the bytes: a reply that is still being sent keeps both after the batch was evicted. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "store/impl.h"

#define SLAB_ITEMS     64
#define RING_ITEMS_MIN 16

struct item_slab {
    struct item_slab *next;
    struct store_item items[SLAB_ITEMS];
};

struct item_pool {
    struct item_slab *slabs; /* owned */
    struct store_items free;
    uint64_t out_count;
    bool is_closed;
};

struct item_pool *item_pool__new(void)
{
    struct item_pool *pool = mem_zeroed(1, sizeof *pool);
    TAILQ_INIT(&pool->free);
    return pool;
}

static void item_pool__maybe_free(struct item_pool *pool)
{
    if (!pool->is_closed || pool->out_count > 0) {
        return;
    }
    while (pool->slabs != NULL) {
        struct item_slab *slab = pool->slabs;
        pool->slabs = slab->next;
        free(slab);
    }
    free(pool);
}

void item_pool__free(struct item_pool *pool)
{
    pool->is_closed = true;
    item_pool__maybe_free(pool);
}

static void item__release(struct buf *head)
{
    struct store_item *item = (struct store_item *)head;
    struct item_pool *pool = head->owner;
    ASSERT(pool->out_count > 0);
    slice_unref(&item->body);
    TAILQ_INSERT_HEAD(&pool->free, item, link);
    pool->out_count--;
    item_pool__maybe_free(pool);
}

static void item_pool__grow(struct item_pool *pool)
{
    struct item_slab *slab = mem_zeroed(1, sizeof *slab);
    slab->next = pool->slabs;
    pool->slabs = slab;
    for (uint32_t i = 0; i < SLAB_ITEMS; i++) {
        TAILQ_INSERT_TAIL(&pool->free, &slab->items[i], link);
    }
}

struct store_item *item_pool__take(struct item_pool *pool)
{
    if (TAILQ_EMPTY(&pool->free)) {
        item_pool__grow(pool);
    }
    struct store_item *item = TAILQ_FIRST(&pool->free);
    TAILQ_REMOVE(&pool->free, item, link);
    pool->out_count++;
    item->head = (struct buf){
        .refs = 1, .size = BATCH_PREFIX_BYTES, .data = item->prefix, .release = item__release, .owner = pool};
    item->seals = NULL;
    item->error = OK;
    return item;
}

/* --- one log --- */

struct store_item *ring__at(const struct tail_ring *ring, uint32_t i)
{
    ASSERT(i < ring->count);
    return ring->items[(ring->head + i) & (ring->capacity - 1)];
}

void ring__push(struct tail_ring *ring, struct store_item *item)
{
    if (ring->count == ring->capacity) {
        uint32_t capacity = ring->capacity > 0 ? 2 * ring->capacity : RING_ITEMS_MIN;
        struct store_item **items = mem_zeroed(capacity, sizeof(struct store_item *));
        for (uint32_t i = 0; i < ring->count; i++) {
            items[i] = ring__at(ring, i);
        }
        free(ring->items);
        ring->items = items;
        ring->capacity = capacity;
        ring->head = 0;
    }
    ring->items[(ring->head + ring->count) & (ring->capacity - 1)] = item;
    ring->count++;
}

static struct store_item *ring__pop(struct tail_ring *ring)
{
    struct store_item *item = ring__at(ring, 0);
    ASSERT(ring->written > 0);
    ring->head = (ring->head + 1) & (ring->capacity - 1);
    ring->count--;
    ring->written--;
    ring->submitted--;
    return item;
}

uint32_t ring__find(const struct tail_ring *ring, int64_t offset)
{
    uint32_t low = 0;
    uint32_t high = ring->count;
    ASSERT(ring->count > 0 && offset >= ring__at(ring, 0)->base_offset);
    while (high - low > 1) { /* items[low].base <= offset < items[high].base */
        uint32_t middle = low + (high - low) / 2;
        if (ring__at(ring, middle)->base_offset <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    ASSERT(offset < ring__at(ring, low)->end_offset);
    return low;
}

static uint64_t item__bytes(const struct store_item *item)
{
    return item->body.size + sizeof *item;
}

void tail__push(struct segment_log *log, struct store_item *item)
{
    ring__push(&log->ring, item);
    log->store->tail_bytes += item__bytes(item);
}

void tail__evict(struct store *store)
{
    while (store->tail_bytes > store->options.tail_bytes_max && !TAILQ_EMPTY(&store->tail)) {
        struct store_item *item = TAILQ_FIRST(&store->tail);
        struct segment_log *log = item->log;
        TAILQ_REMOVE(&store->tail, item, link);
        struct store_item *oldest = ring__pop(&log->ring);
        ASSERT(oldest == item); /* writes of one log end in order, so the broker's order is the log's */
        store->tail_bytes -= item__bytes(item);
        buf_unref(&item->head);
    }
}

void tail__drop_log(struct segment_log *log)
{
    struct store *store = log->store;
    struct tail_ring *ring = &log->ring;
    for (uint32_t i = 0; i < ring->count; i++) {
        struct store_item *item = ring__at(ring, i);
        if (i < ring->written) {
            TAILQ_REMOVE(&store->tail, item, link);
        } else {
            store->queued_bytes -= item->body.size;
        }
        if (i >= ring->submitted) {
            store->unsubmitted_bytes -= item->body.size;
        }
        store->tail_bytes -= item__bytes(item);
        buf_unref(&item->head);
    }
    free(ring->items);
    *ring = (struct tail_ring){0};
}

void tail__read(struct segment_log *log, struct segment_read *read)
{
    const struct tail_ring *ring = &log->ring;
    for (uint32_t i = ring__find(ring, read->offset); i < ring->count; i++) {
        struct store_item *item = ring__at(ring, i);
        uint32_t size = item->body.size;
        if (read->parts_count + 2 > SEGMENT_READ_PARTS_MAX ||
            (read->bytes > 0 && (uint64_t)read->bytes + size > read->bytes_max)) {
            break;
        }
        read->parts[read->parts_count++] = slice_of(&item->head, 0, BATCH_PREFIX_BYTES);
        struct slice body = slice_ref(item->body);
        body.data += BATCH_PREFIX_BYTES;
        body.size -= BATCH_PREFIX_BYTES;
        read->parts[read->parts_count++] = body;
        read->bytes += size;
    }
}
