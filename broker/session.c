/* Client connections: how frames are cut out of what arrived, when reading pauses, what one turn may hold. */
#include "broker/session.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/text.h"
#include "broker/impl.h"
#include "broker/memory.h"
#include "broker/patience.h"

#define READ_BYTES_SHORT      4096u /* one read when there is no room for what it brings */
#define MEMORY_TRIES_PER_TURN 16u

/* --- life --- */

static void session__unwait(struct session *s)
{
    if (s->wait > SESSION_WAITS_FOR_ITSELF) {
        TAILQ_REMOVE(&s->broker->waits[s->wait], s, wait_link);
    }
    s->wait = SESSION_READS;
}

static void session__wait(struct session *s, enum session_wait wait)
{
    session__unwait(s);
    s->wait = wait;
    if (wait > SESSION_WAITS_FOR_ITSELF) {
        TAILQ_INSERT_TAIL(&s->broker->waits[wait], s, wait_link);
    }
    if (wait != SESSION_WAITS_FOR_TURN) {
        s->broker->counters.reads_paused_total++;
    }
    if (s->link != NULL) {
        s->link->ops->pause(s->link);
    }
}

static void session__count_queued(struct session *s)
{
    uint64_t queued = s->link != NULL ? s->link->ops->queued_bytes(s->link) : 0;
    struct broker *b = s->broker;
    b->send_bytes = b->send_bytes - s->send_bytes + queued;
    s->send_bytes = queued;
}

void session_free(struct session *s)
{
    struct broker *b = s->broker;
    ASSERT(s->refs == 0);
    b->send_bytes -= s->send_bytes;
    session__unwait(s);
    patience_forget(s);
    inbox_clear(&s->inbox);
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
    s->broker->requests_count++;
}

void session_release(struct session *s, uint64_t bytes)
{
    ASSERT(s->requests > 0 && s->inflight_bytes >= bytes);
    s->requests--;
    s->inflight_bytes -= bytes;
    s->broker->requests_count--;
    if (s->wait == SESSION_WAITS_FOR_ITSELF) {
        session__wait(s, SESSION_WAITS_FOR_ROOM); /* looked at again at the end of this turn */
    }
    session__unref(s);
}

bool session_may_wait(const struct session *s)
{
    return s->requests <= PENDING_REQUESTS_PER_CONNECTION_MAX && memory_has_requests(s->broker);
}

struct slice session_keep(struct session *s, const uint8_t *data, uint32_t size)
{
    return inbox_keep(&s->inbox, data, size);
}

void session_charge(struct session *s, uint32_t requests)
{
    s->turn_requests += requests;
    s->broker->turn_requests += requests;
}

/* --- frames --- */

/* Reading more of this connection must wait for what? */
static enum session_wait session__must_wait(struct session *s)
{
    struct broker *b = s->broker;
    if (s->inflight_bytes >= CONNECTION_INFLIGHT_BYTES_MAX || s->send_bytes >= memory_send_share(b)) {
        return SESSION_WAITS_FOR_ITSELF;
    }
    if (!broker__has_room(b)) {
        return SESSION_WAITS_FOR_ROOM;
    }
    if (s->turn != b->turn) {
        s->turn = b->turn;
        s->turn_requests = 0;
    }
    bool had_its_share =
        s->turn_requests >= CONNECTION_REQUESTS_PER_TURN_MAX || b->turn_requests >= REQUESTS_PER_TURN_MAX;
    return had_its_share ? SESSION_WAITS_FOR_TURN : SESSION_READS;
}

static void session__handle(struct session *s, const struct frame *frame)
{
    session_charge(s, 1);
    s->handling = true;
    api_handle(s, frame);
    s->handling = false;
    if (!s->closing) {
        inbox_consume(&s->inbox, frame->size_bytes);
        s->frame_begun_us = 0;
    }
}

/* Handles the whole frames that are there, as many as the turn allows; *ret_needed: bytes of the one that is not whole,
 * or 0. */
static enum session_wait session__parse(struct session *s, uint64_t *ret_needed)
{
    const struct frame_limits limits = {.proto_bytes_max = REQUEST_PROTO_BYTES_MAX,
                                        .payload_bytes_max = BATCH_BYTES_MAX};
    *ret_needed = 0;
    while (s->link != NULL && !s->closing && inbox_size(&s->inbox) > 0) {
        struct frame frame;
        const uint8_t *data = inbox_data(&s->inbox);
        uint32_t size = inbox_size(&s->inbox);
        enum session_wait wait = session__must_wait(s);
        if (wait != SESSION_READS) {
            return wait;
        }
        enum err error = frame_parse(data, size, &limits, &frame, ret_needed);
        if (error == ERR_AGAIN) {
            return SESSION_READS;
        }
        if (error != OK) {
            s->broker->counters.connections_closed_bad_frame_total++;
            session_refuse(s, error, frame_refused_request_id(data, size), err_text(error));
            return SESSION_READS;
        }
        session__handle(s, &frame);
    }
    return SESSION_READS;
}

/* One go: frames, then what is left finds its place. The caller holds a reference. */
static void session__work(struct session *s)
{
    uint64_t needed;
    enum session_wait wait = session__parse(s, &needed);
    if (s->closing || s->link == NULL) {
        inbox_clear(&s->inbox);
        return;
    }
    enum err error = inbox_settle(&s->inbox, needed);
    if (error == ERR_NO_MEMORY) {
        session_close(s);
        return;
    }
    if (error == ERR_BUSY && wait == SESSION_READS) {
        wait = SESSION_WAITS_FOR_MEMORY;
    }
    patience_note_received(s);
    if (wait != SESSION_READS) {
        session__wait(s, wait);
    }
}

/* --- the link's calls --- */

static void session__on_alloc(struct link *link, uint8_t **ret_data, size_t *ret_size)
{
    static uint8_t nothing[1];
    struct session *s = link->owner;
    bool room = broker__has_room(s->broker) && receive_has_room(&s->broker->receive);
    if (inbox_space(&s->inbox, room ? UINT32_MAX : READ_BYTES_SHORT, ret_data, ret_size) != OK) {
        *ret_data = nothing; /* no memory: one byte keeps the contract, session__on_read closes */
        *ret_size = sizeof nothing;
        s->closing = true;
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
    inbox_filled(&s->inbox, (uint32_t)size);
    s->received_bytes += size;
    s->refs++; /* parsing may end the session */
    session__work(s);
    session__unref(s);
}

static void session__on_drain(struct link *link)
{
    struct session *s = link->owner;
    uint64_t before = s->send_bytes;
    session__count_queued(s);
    patience_note_taken(s, before - s->send_bytes);
    if (s->wait == SESSION_WAITS_FOR_ITSELF) {
        session__wait(s, SESSION_WAITS_FOR_ROOM);
    }
}

static void session__on_closed(struct link *link, enum err reason)
{
    struct session *s = link->owner;
    trace_debug(s->broker->trace, "disconnected", "remote=%s reason=%s", link->remote, err_name(reason));
    s->link = NULL;
    session__unwait(s);
    session__count_queued(s);
    if (!s->handling) {
        inbox_clear(&s->inbox);
    }
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
    inbox_init(&s->inbox, &broker->receive);
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

/* --- replies --- */

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
    session__count_queued(s);
    patience_note_sent(s);
}

void session_refuse(struct session *s, enum err error, uint64_t request_id, const char *message)
{
    ErrorReply reply = {.status = error};
    text_copy(reply.message, sizeof reply.message, message);
    if (s->link != NULL) {
        trace_debug(s->broker->trace, "refused", "remote=%s error=%s", s->link->remote, err_name(error));
    }
    session_reply(s, FRAME_ERROR, request_id, &reply, NULL, 0);
    session_close(s);
}

/* --- going on, and the end --- */

static void session__resume(struct session *s)
{
    session__unwait(s);
    if (s->link == NULL || s->closing) {
        return;
    }
    s->refs++;
    if (inbox_open(&s->inbox) != OK) {
        session_close(s);
    } else {
        session__work(s);
    }
    if (s->link != NULL && !s->closing && s->wait == SESSION_READS) {
        s->link->ops->resume(s->link);
    }
    session__unref(s);
}

/* Those that wait now, not those that join them again. */
static void session__resume_list(struct broker *b, enum session_wait wait, bool (*may)(const struct broker *b))
{
    struct session *s, *last = TAILQ_LAST(&b->waits[wait], session_list);
    while ((s = TAILQ_FIRST(&b->waits[wait])) != NULL && may(b)) {
        bool is_last = s == last;
        session__resume(s);
        if (is_last) {
            return;
        }
    }
}

/* The newest and the oldest take turns: a crowd that waits in front holds nobody up for long, and whoever waits longest
 * is not forgotten. Each try counts, since what one of them needs may not fit and the next one's may. */
static void session__resume_for_memory(struct broker *b)
{
    struct session_list *list = &b->waits[SESSION_WAITS_FOR_MEMORY];
    for (uint32_t tries = MEMORY_TRIES_PER_TURN; tries > 0 && !TAILQ_EMPTY(list) && receive_has_room(&b->receive);
         tries--) {
        session__resume(tries % 2 == 0 ? TAILQ_LAST(list, session_list) : TAILQ_FIRST(list));
    }
}

static bool session__turn_left(const struct broker *b)
{
    return b->turn_requests < REQUESTS_PER_TURN_MAX;
}

void session_resume_all(struct broker *b)
{
    /* A new share for those who had theirs: they come after whoever was ready in this turn, and before the next. */
    b->turn++;
    b->turn_requests = 0;
    session__resume_list(b, SESSION_WAITS_FOR_TURN, session__turn_left);
    session__resume_for_memory(b);
    session__resume_list(b, SESSION_WAITS_FOR_ROOM, broker__has_room);
    b->turn++;
    b->turn_requests = 0;
}

void session_close(struct session *s)
{
    s->closing = true;
    if (!s->handling) {
        session__unwait(s);
    }
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
