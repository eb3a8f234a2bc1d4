/* Receive memory. The shared chunk is written from shared_used on; what a callback leaves there unhandled moves out at
 * its end, what was kept moves shared_used forward, and everything else is written over by the next read. */
#include "broker/inbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"

#define READ_SPACE_MIN   4096u       /* less room in an own chunk: take the next */
#define SHARED_SPACE_MIN (64u << 10) /* the same for the shared one, which many read into */
#define CHUNKS_KEPT_MAX  256u

/* --- the broker's --- */

void receive_init(struct receive *receive, uint64_t budget_bytes)
{
    uint64_t kept = budget_bytes / RECEIVE_CHUNK_BYTES;
    *receive = (struct receive){
        .chunks = buf_pool_new(RECEIVE_CHUNK_BYTES, kept < CHUNKS_KEPT_MAX ? (uint32_t)kept : CHUNKS_KEPT_MAX),
        .budget_bytes = budget_bytes,
        .large = buf_meter_new(),
    };
}

void receive_deinit(struct receive *receive)
{
    ASSERT(receive->held_bytes == 0 && receive->owners == 0);
    buf_unref(receive->shared);
    buf_pool_free(receive->chunks);
    buf_meter_free(receive->large);
    *receive = (struct receive){0};
}

bool receive_has_room(const struct receive *receive)
{
    return receive->owners == 0 || receive->held_bytes + RECEIVE_CHUNK_BYTES <= receive->budget_bytes;
}

uint64_t receive_bytes(const struct receive *receive)
{
    return buf_pool_bytes(receive->chunks) + buf_meter_bytes(receive->large) + receive->held_bytes;
}

/* The shared chunk with room for `size` bytes and a useful read behind them. */
static struct buf *receive__shared(struct receive *receive, uint32_t size)
{
    struct buf *shared = receive->shared;
    if (shared != NULL && shared->refs == 1) {
        receive->shared_used = 0;
    }
    if (shared == NULL || shared->size - receive->shared_used < size + SHARED_SPACE_MIN) {
        struct buf *fresh = size + SHARED_SPACE_MIN <= RECEIVE_CHUNK_BYTES
                                ? buf_pool_take(receive->chunks)
                                : buf_new_metered(receive->large, size + SHARED_SPACE_MIN);
        if (fresh == NULL) {
            return NULL;
        }
        buf_unref(shared);
        receive->shared = fresh;
        receive->shared_used = 0;
    }
    return receive->shared;
}

/* --- a connection's --- */

void inbox_init(struct inbox *inbox, struct receive *receive)
{
    *inbox = (struct inbox){.receive = receive};
}

static void inbox__unpark(struct inbox *inbox)
{
    inbox->receive->held_bytes -= inbox->parked_bytes;
    free(inbox->parked);
    inbox->parked = NULL;
    inbox->parked_bytes = 0;
}

/* However a connection leaves the shared chunk, also in the middle of its bytes: what was kept is never read over. */
static void inbox__drop_chunk(struct inbox *inbox)
{
    struct receive *receive = inbox->receive;
    if (inbox->chunk != NULL && !inbox->is_shared) {
        receive->held_bytes -= inbox->chunk->size;
        receive->owners--;
    } else if (inbox->chunk != NULL && inbox->chunk == receive->shared && inbox->kept > receive->shared_used) {
        receive->shared_used = inbox->kept;
    }
    buf_unref(inbox->chunk);
    inbox->chunk = NULL;
    inbox->is_shared = false;
    inbox->start = inbox->end = inbox->kept = 0;
}

void inbox_clear(struct inbox *inbox)
{
    inbox__unpark(inbox);
    inbox__drop_chunk(inbox);
}

const uint8_t *inbox_data(const struct inbox *inbox)
{
    return inbox->chunk != NULL ? inbox->chunk->data + inbox->start : NULL;
}

uint32_t inbox_size(const struct inbox *inbox)
{
    return inbox->end - inbox->start;
}

uint32_t inbox_held(const struct inbox *inbox)
{
    return inbox_size(inbox) + inbox->parked_bytes;
}

uint64_t inbox_memory_bytes(const struct inbox *inbox)
{
    return inbox->parked_bytes + (inbox->chunk != NULL && !inbox->is_shared ? inbox->chunk->size : 0);
}

void inbox_consume(struct inbox *inbox, uint32_t size)
{
    ASSERT(size <= inbox_size(inbox));
    inbox->start += size;
}

struct slice inbox_keep(struct inbox *inbox, const uint8_t *data, uint32_t size)
{
    uint32_t at = (uint32_t)(data - inbox->chunk->data);
    ASSERT(at >= inbox->start && at <= inbox->end && size <= inbox->end - at);
    if (at + size > inbox->kept) {
        inbox->kept = at + size;
    }
    return slice_of(inbox->chunk, at, size);
}

/* Parked bytes, and those that will follow, stand in the shared chunk from now on. */
static void inbox__adopt_shared(struct inbox *inbox, uint32_t size)
{
    struct receive *receive = inbox->receive;
    ASSERT(inbox->chunk == NULL);
    inbox->chunk = buf_ref(receive->shared);
    inbox->is_shared = true;
    inbox->start = inbox->kept = receive->shared_used;
    inbox->end = inbox->start + inbox->parked_bytes + size;
    inbox__unpark(inbox);
}

enum err inbox_space(struct inbox *inbox, uint32_t size_max, uint8_t **ret_data, size_t *ret_size)
{
    if (inbox->chunk != NULL && inbox_size(inbox) == 0 && inbox->chunk->size - inbox->end < READ_SPACE_MIN) {
        inbox__drop_chunk(inbox);
    }
    uint8_t *data;
    size_t size;
    if (inbox->chunk != NULL) {
        data = inbox->chunk->data + inbox->end;
        size = inbox->chunk->size - inbox->end;
    } else {
        struct buf *shared = receive__shared(inbox->receive, inbox->parked_bytes);
        if (shared == NULL) {
            return ERR_NO_MEMORY;
        }
        uint32_t at = inbox->receive->shared_used;
        if (inbox->parked_bytes > 0) {
            memcpy(shared->data + at, inbox->parked, inbox->parked_bytes);
        }
        data = shared->data + at + inbox->parked_bytes;
        size = shared->size - at - inbox->parked_bytes;
    }
    ASSERT(size > 0);
    *ret_data = data;
    *ret_size = size < size_max ? size : size_max;
    return OK;
}

void inbox_filled(struct inbox *inbox, uint32_t size)
{
    if (inbox->chunk == NULL) {
        inbox__adopt_shared(inbox, size);
    } else {
        ASSERT(size <= inbox->chunk->size - inbox->end);
        inbox->end += size;
    }
}

enum err inbox_open(struct inbox *inbox)
{
    uint8_t *data;
    size_t size;
    if (inbox->parked_bytes == 0) {
        return OK;
    }
    enum err error = inbox_space(inbox, UINT32_MAX, &data, &size);
    if (error == OK) {
        inbox__adopt_shared(inbox, 0);
    }
    return error;
}

/* --- the end of a callback --- */

static enum err inbox__park(struct inbox *inbox)
{
    uint32_t left = inbox_size(inbox);
    ASSERT(inbox->parked == NULL && left > 0);
    uint8_t *parked = malloc(left);
    if (parked == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(parked, inbox_data(inbox), left);
    inbox__drop_chunk(inbox);
    inbox->parked = parked;
    inbox->parked_bytes = left;
    inbox->receive->held_bytes += left;
    return OK;
}

/* What a frame is given at a time: a chunk, then twice what came, so that its length alone brings nobody memory. */
static uint32_t inbox__wanted(const struct inbox *inbox, uint64_t needed)
{
    uint64_t wanted = 2 * (uint64_t)inbox_size(inbox);
    wanted = wanted < RECEIVE_CHUNK_BYTES ? RECEIVE_CHUNK_BYTES : wanted;
    return (uint32_t)(wanted < needed ? wanted : needed);
}

/* The bytes left move to the front of another chunk. */
static enum err inbox__move(struct inbox *inbox, uint32_t wanted)
{
    struct receive *receive = inbox->receive;
    uint32_t left = inbox_size(inbox);
    uint32_t capacity = wanted > left ? wanted : left;
    capacity = capacity > RECEIVE_CHUNK_BYTES ? capacity : RECEIVE_CHUNK_BYTES;
    bool owns = !inbox->is_shared;
    uint64_t others = receive->held_bytes - inbox_memory_bytes(inbox);
    if (receive->owners > owns && others + capacity > receive->budget_bytes) {
        return ERR_BUSY;
    }
    struct buf *chunk =
        capacity > RECEIVE_CHUNK_BYTES ? buf_new_metered(receive->large, capacity) : buf_pool_take(receive->chunks);
    if (chunk == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(chunk->data, inbox_data(inbox), left);
    inbox__drop_chunk(inbox);
    receive->held_bytes += chunk->size;
    receive->owners++;
    inbox->chunk = chunk;
    inbox->end = left;
    return OK;
}

/* A chunk that others still keep bytes of is of no more use to its connection; what is free of it is, to everybody. */
static void inbox__give_back(struct inbox *inbox)
{
    struct receive *receive = inbox->receive;
    struct buf *chunk = inbox->chunk;
    uint32_t used = inbox->end;
    if (chunk->refs > 1 && receive->shared != NULL && chunk->size == RECEIVE_CHUNK_BYTES &&
        receive->shared_used > used) {
        buf_unref(receive->shared);
        receive->shared = buf_ref(chunk);
        receive->shared_used = used;
    }
    inbox__drop_chunk(inbox);
}

static enum err inbox__settle_shared(struct inbox *inbox, uint64_t needed)
{
    struct receive *receive = inbox->receive;
    ASSERT(inbox->chunk == receive->shared);
    uint32_t left = inbox_size(inbox);
    if (left == 0) {
        inbox__drop_chunk(inbox);
        return OK;
    }
    enum err error = left > INBOX_PARKED_BYTES_MAX ? inbox__move(inbox, inbox__wanted(inbox, needed)) : ERR_AGAIN;
    if (error == OK) {
        return OK;
    }
    enum err parked = inbox__park(inbox);
    return parked != OK ? parked : error == ERR_AGAIN ? OK : ERR_BUSY;
}

enum err inbox_settle(struct inbox *inbox, uint64_t needed)
{
    if (inbox->chunk == NULL) {
        return OK;
    }
    if (inbox->is_shared) {
        return inbox__settle_shared(inbox, needed);
    }
    uint32_t left = inbox_size(inbox);
    if (left == 0) {
        /* While somebody keeps bytes of it the connection goes on filling it: it sends in bulk. */
        if (inbox->chunk->refs == 1) {
            inbox__drop_chunk(inbox);
        }
        return OK;
    }
    if (left <= INBOX_PARKED_BYTES_MAX && inbox->chunk->refs == 1) {
        return inbox__park(inbox);
    }
    /* Only at its end is a larger one asked for: those who hold memory must not wait for more while they have room. */
    uint32_t wanted = inbox__wanted(inbox, needed);
    bool straddles = inbox->start > 0 && wanted > inbox->chunk->size - inbox->start;
    if (straddles || inbox->end == inbox->chunk->size) {
        return inbox__move(inbox, wanted);
    }
    return OK;
}

void inbox_rest(struct inbox *inbox)
{
    ASSERT(!inbox->is_shared);
    if (inbox->chunk == NULL) {
        return;
    }
    if (inbox_size(inbox) == 0) {
        inbox__give_back(inbox);
    } else if (inbox_size(inbox) <= inbox->chunk->size / 2) {
        (void)inbox__park(inbox); /* without memory for it all stays as it is */
    }
}
