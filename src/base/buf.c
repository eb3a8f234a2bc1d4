/* Refcounted bytes and pools of them. Memory of a buf starts on a cache line; its header stands apart from the bytes,
 * so that a chunk of 1 MiB is exactly 256 pages. */
#include "base/buf.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define BOOKKEEPING_BYTES_MAX (64u << 10)
#define PAGE_ALIGN_FROM_BYTES 4096u

static struct buf *buf__allocate(uint32_t size)
{
    struct buf *b = malloc(sizeof *b);
    void *data = NULL;
    size_t alignment = size >= PAGE_ALIGN_FROM_BYTES ? PAGE_ALIGN_FROM_BYTES : 64;
    if (b == NULL || posix_memalign(&data, alignment, size > 0 ? size : 1) != 0) {
        if (size < BOOKKEEPING_BYTES_MAX) {
            mem_exhausted();
        }
        free(b);
        return NULL;
    }
    *b = (struct buf){.refs = 1, .size = size, .data = data};
    return b;
}

static void buf__free(struct buf *b)
{
    free(b->data);
    free(b);
}

struct buf *buf_new(uint32_t size)
{
    struct buf *b = buf__allocate(size);
    if (b != NULL) {
        b->release = buf__free;
    }
    return b;
}

struct buf *buf_ref(struct buf *b)
{
    ASSERT(b->refs > 0 && b->refs < UINT32_MAX);
    b->refs++;
    return b;
}

void buf_unref(struct buf *b)
{
    if (b == NULL) {
        return;
    }
    ASSERT(b->refs > 0);
    if (--b->refs == 0) {
        b->release(b);
    }
}

struct slice slice_of(struct buf *b, uint32_t offset, uint32_t size)
{
    ASSERT(offset <= b->size && size <= b->size - offset);
    buf_ref(b);
    return (struct slice){.buf = b, .data = b->data + offset, .size = size};
}

struct slice slice_ref(struct slice s)
{
    if (s.buf != NULL) {
        buf_ref(s.buf);
    }
    return s;
}

void slice_unref(struct slice *s)
{
    buf_unref(s->buf);
    *s = (struct slice){0};
}

struct buf_meter {
    uint64_t bytes;
    bool closed;
};

struct buf_meter *buf_meter_new(void)
{
    return mem_zeroed(1, sizeof(struct buf_meter));
}

static void buf_meter__release(struct buf *b)
{
    struct buf_meter *meter = b->owner;
    ASSERT(meter->bytes >= b->size);
    meter->bytes -= b->size;
    if (meter->closed && meter->bytes == 0) {
        free(meter);
    }
    buf__free(b);
}

struct buf *buf_new_metered(struct buf_meter *meter, uint32_t size)
{
    ASSERT(size > 0 && !meter->closed);
    struct buf *b = buf__allocate(size);
    if (b != NULL) {
        b->release = buf_meter__release;
        b->owner = meter;
        meter->bytes += size;
    }
    return b;
}

uint64_t buf_meter_bytes(const struct buf_meter *meter)
{
    return meter->bytes;
}

void buf_meter_free(struct buf_meter *meter)
{
    if (meter == NULL) {
        return;
    }
    meter->closed = true;
    if (meter->bytes == 0) {
        free(meter);
    }
}

struct buf_pool {
    uint32_t buf_size;
    uint32_t keep_max;
    uint32_t kept_count;
    uint32_t out_count;
    bool closed;
    struct buf *kept[]; /* owned */
};

struct buf_pool *buf_pool_new(uint32_t buf_size, uint32_t keep_max)
{
    struct buf_pool *pool = mem_zeroed(1, sizeof *pool + keep_max * sizeof pool->kept[0]);
    pool->buf_size = buf_size;
    pool->keep_max = keep_max;
    return pool;
}

static void buf_pool__maybe_free(struct buf_pool *pool)
{
    if (pool->closed && pool->out_count == 0) {
        free(pool);
    }
}

static void buf_pool__return(struct buf *b)
{
    struct buf_pool *pool = b->owner;
    ASSERT(pool->out_count > 0);
    pool->out_count--;
    if (!pool->closed && pool->kept_count < pool->keep_max) {
        pool->kept[pool->kept_count++] = b;
        return;
    }
    buf__free(b);
    buf_pool__maybe_free(pool);
}

struct buf *buf_pool_take(struct buf_pool *pool)
{
    struct buf *b;
    ASSERT(!pool->closed);
    if (pool->kept_count > 0) {
        b = pool->kept[--pool->kept_count];
        b->refs = 1;
    } else {
        b = buf__allocate(pool->buf_size);
        if (b == NULL) {
            return NULL;
        }
        b->release = buf_pool__return;
        b->owner = pool;
    }
    pool->out_count++;
    return b;
}

uint64_t buf_pool_bytes(const struct buf_pool *pool)
{
    return ((uint64_t)pool->kept_count + pool->out_count) * pool->buf_size;
}

void buf_pool_free(struct buf_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    while (pool->kept_count > 0) {
        buf__free(pool->kept[--pool->kept_count]);
    }
    pool->closed = true;
    buf_pool__maybe_free(pool);
}
