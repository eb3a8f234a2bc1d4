/* Client connections: where bytes land, how frames are cut out of them, when reading pauses. */
#include "broker/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/text.h"
#include "broker/impl.h"

#define READ_SPACE_MIN       4096u       /* less room than this in a chunk: take the next */
#define SEND_QUEUE_BYTES_MAX (16u << 20) /* a reader that does not read gets no more replies built */

void session_free(struct session *s)
{
    struct broker *b = s->broker;
    ASSERT(s->refs == 0);
    buf_unref(s->chunk);
    if (s->waits_for_room) {
        TAILQ_REMOVE(&b->paused, s, paused_link);
    }
    TAILQ_REMOVE(&b->sessions, s, all_link);
    b->sessions_count--;
    free(s);
}

static void session__unref(struct session *s)
{
    ASSERT(s->refs > 0);
    if (--s->refs == 0) {
        session_free(s);
    }
}

void session_hold(struct session *s, uint64_t bytes)
{
    s->refs++;
    s->requests++;
    s->inflight_bytes += bytes;
}

void session_release(struct session *s, uint64_t bytes)
{
    ASSERT(s->requests > 0 && s->inflight_bytes >= bytes);
    s->requests--;
    s->inflight_bytes -= bytes;
    session__unref(s);
}

static bool session__has_room(const struct session *s)
{
    return s->inflight_bytes < CONNECTION_INFLIGHT_BYTES_MAX && broker__has_room(s->broker) &&
           s->link->ops->queued_bytes(s->link) < SEND_QUEUE_BYTES_MAX;
}

static void session__pause(struct session *s)
{
    if (!s->waits_for_room && s->link != NULL) {
        s->waits_for_room = true;
        s->broker->counters.reads_paused_total++;
        TAILQ_INSERT_TAIL(&s->broker->paused, s, paused_link);
        s->link->ops->pause(s->link);
    }
}

/* A chunk with room for at least `needed` bytes from the first unparsed one; the received part of a straddling frame
 * moves. */
static bool session__make_space(struct session *s, uint64_t needed)
{
    uint32_t held = s->end - s->start;
    if (s->chunk != NULL && s->start + needed <= s->chunk->size && s->chunk->size - s->end >= 1) {
        return true;
    }
    struct buf *chunk = needed <= RECEIVE_CHUNK_BYTES ? buf_pool_take(s->broker->chunks) : buf_new((uint32_t)needed);
    if (chunk == NULL) {
        return false;
    }
    if (held > 0) {
        memcpy(chunk->data, s->chunk->data + s->start, held);
    }
    buf_unref(s->chunk);
    s->chunk = chunk;
    s->start = 0;
    s->end = held;
    return true;
}

static void session__on_alloc(struct link *link, uint8_t **ret_data, size_t *ret_size)
{
    static uint8_t nothing[1];
    struct session *s = link->owner;
    uint64_t needed = (uint64_t)(s->end - s->start) + READ_SPACE_MIN;
    if (s->chunk != NULL && s->chunk->size - s->end >= READ_SPACE_MIN) {
        needed = 0;
    }
    if ((needed > 0 || s->chunk == NULL) && !session__make_space(s, needed)) {
        *ret_data = nothing; /* no memory: one byte keeps the contract, session__on_read closes */
        *ret_size = sizeof nothing;
        s->closing = true;
        return;
    }
    *ret_data = s->chunk->data + s->end;
    *ret_size = s->chunk->size - s->end;
}

static void session__bad_frame(struct session *s, enum err error)
{
    struct broker *b = s->broker;
    const uint8_t *data = s->chunk->data + s->start;
    ErrorReply reply = {.status = error};
    text_copy(reply.message, sizeof reply.message, err_text(error));
    b->counters.connections_closed_bad_frame_total++;
    trace_debug(b->trace, "bad_frame", "remote=%s error=%s", s->link->remote, err_name(error));
    session_reply(s, FRAME_ERROR, frame_refused_request_id(data, s->end - s->start), &reply, NULL, 0);
    session_close(s);
}

/* Handles every whole frame that is there. */
static void session__parse(struct session *s)
{
    const struct frame_limits limits = {.proto_bytes_max = FRAME_PROTO_BYTES_MAX, .payload_bytes_max = BATCH_BYTES_MAX};
    while (s->link != NULL && !s->closing) {
        struct frame frame;
        uint64_t needed = 0;
        if (!session__has_room(s)) {
            session__pause(s);
            return;
        }
        if (s->chunk == NULL || s->end == s->start) {
            return;
        }
        enum err error = frame_parse(s->chunk->data + s->start, s->end - s->start, &limits, &frame, &needed);
        if (error == ERR_AGAIN) {
            if (!session__make_space(s, needed)) {
                session_close(s);
            }
            return;
        }
        if (error != OK) {
            session__bad_frame(s, error);
            return;
        }
        api_handle(s, &frame);
        s->start += frame.size_bytes;
    }
}

/* An idle connection gives its chunk back, unless batches in it are still referenced: then it goes on filling it. */
static void session__tidy(struct session *s)
{
    if (s->chunk == NULL || s->start != s->end) {
        return;
    }
    if (s->chunk->refs == 1) {
        buf_unref(s->chunk);
        s->chunk = NULL;
        s->start = s->end = 0;
    }
}

static void session__on_read(struct link *link, size_t size)
{
    struct session *s = link->owner;
    if (s->closing) {
        session_close(s);
        return;
    }
    if (size == 0) {
        return;
    }
    s->end += (uint32_t)size;
    s->refs++; /* parsing may end the session */
    session__parse(s);
    if (s->link != NULL) {
        session__tidy(s);
    }
    session__unref(s);
}

static void session__on_drain(struct link *link)
{
    struct session *s = link->owner;
    if (s->waits_for_room) {
        session_resume(s);
    }
}

static void session__on_closed(struct link *link, enum err reason)
{
    struct session *s = link->owner;
    trace_debug(s->broker->trace, "disconnected", "remote=%s reason=%s", link->remote, err_name(reason));
    s->link = NULL;
    session__unref(s);
}

static const struct link_handler session__handler = {
    .on_alloc = session__on_alloc,
    .on_read = session__on_read,
    .on_drain = session__on_drain,
    .on_closed = session__on_closed,
};

void session_open(struct broker *broker, struct link *link)
{
    struct session *s = mem_zeroed(1, sizeof *s);
    s->broker = broker;
    s->link = link;
    s->refs = 1;
    link->handler = &session__handler;
    link->owner = s;
    TAILQ_INSERT_TAIL(&broker->sessions, s, all_link);
    broker->sessions_count++;
    if (broker->sessions_count > broker->config->connections || broker->stopping) {
        broker->counters.connections_refused_total++;
        session_close(s);
        return;
    }
    broker->counters.connections_accepted_total++;
    trace_debug(broker->trace, "connected", "remote=%s listener=%s", link->remote, link->listener);
}

void session_reply(struct session *s, enum frame_type type, uint64_t request_id, const void *message,
                   const struct slice *parts, uint32_t parts_count)
{
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    uint32_t head_size = 0, payload = 0;
    if (s->link == NULL) {
        return;
    }
    for (uint32_t i = 0; i < parts_count; i++) {
        payload += parts[i].size;
    }
    enum err error = codec_encode_frame(head, sizeof head, type, request_id, message, payload, &head_size);
    ASSERT(error == OK);
    s->link->ops->send(s->link, head, head_size, parts, parts_count);
}

void session_resume(struct session *s)
{
    if (s->waits_for_room) {
        if (s->link != NULL && !session__has_room(s)) {
            return;
        }
        s->waits_for_room = false;
        TAILQ_REMOVE(&s->broker->paused, s, paused_link);
    }
    if (s->link == NULL || s->closing) {
        return;
    }
    s->refs++;
    session__parse(s);
    if (s->link != NULL && !s->waits_for_room && !s->closing) {
        session__tidy(s);
        s->link->ops->resume(s->link);
    }
    session__unref(s);
}

void session_close(struct session *s)
{
    s->closing = true;
    if (s->link != NULL) {
        s->link->ops->close(s->link);
    }
}

void session_close_all(struct broker *broker)
{
    struct session *s;
    TAILQ_FOREACH(s, &broker->sessions, all_link)
    {
        session_close(s);
    }
}
