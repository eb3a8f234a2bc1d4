/* One client connection: bytes in, frames to the api table, replies out.
 *
 * Bytes land in an inbox (inbox.h); a produced batch stays where it landed and is referenced from there. A session
 * outlives its link until its last request is answered. What it may make the broker do in one turn is bounded, so that
 * one read full of requests holds up nobody: the rest waits for the next turns. How long it is waited for, see
 * patience.h. Loop thread. */
#ifndef FLOTILLA_BROKER_SESSION_H
#define FLOTILLA_BROKER_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "broker/inbox.h"
#include "port/link.h"
#include "wire/codec.h"

struct broker;

/* Why a session is not read; each but the second is a list of the broker's, in order of arrival. */
enum session_wait {
    SESSION_READS,
    SESSION_WAITS_FOR_ITSELF, /* too much of its own is in flight or not taken */
    SESSION_WAITS_FOR_ROOM,   /* the broker has too much in flight */
    SESSION_WAITS_FOR_MEMORY, /* to receive the rest of a frame */
    SESSION_WAITS_FOR_TURN,   /* it had its share of this turn */
    SESSION_WAITS
};

struct session {
    struct broker *broker;
    struct link *link; /* NULL: closed */
    struct inbox inbox;
    uint32_t refs; /* 1 for the link, 1 per request under way, 1 while it is worked on */
    uint64_t inflight_bytes;
    uint32_t requests; /* under way */
    bool closing;
    bool handling; /* a frame: the inbox must stay */
    enum session_wait wait;
    uint64_t turn; /* broker's turn that turn_requests is about */
    uint32_t turn_requests;

    /* patience.h */
    bool watched;
    uint64_t received_bytes; /* since it was opened */
    uint64_t frame_begun_us; /* the frame at hand; 0: none */
    uint64_t frame_begun_at; /* received_bytes before it */
    uint64_t swept_received; /* received_bytes at the last sweep */
    uint64_t send_bytes;     /* queued at the last look */
    uint64_t taken_bytes;    /* of what was sent, since it was opened */
    uint64_t swept_taken;    /* taken_bytes at the last sweep */
    uint64_t send_since_us;  /* when it last had taken REPLY_BYTES_MIN; 0: nothing waits */
    uint64_t send_since_taken;

    TAILQ_ENTRY(session) all_link;
    TAILQ_ENTRY(session) wait_link;
    TAILQ_ENTRY(session) watch_link;
};

TAILQ_HEAD(session_list, session);

void session_open(struct broker *broker, struct link *link);
void session_hold(struct session *s, uint64_t bytes);    /* a request starts: keeps the session, counts its bytes */
void session_release(struct session *s, uint64_t bytes); /* ... ends */
/* May one more request wait here for something? Otherwise it is to be answered BUSY. */
bool session_may_wait(const struct session *s);
/* Bytes of the frame being handled that are to outlive it. */
struct slice session_keep(struct session *s, const uint8_t *data, uint32_t size);
/* The request at hand was as much work as so many small ones. */
void session_charge(struct session *s, uint32_t requests);
/* Encodes and sends; nothing happens when the link is gone. parts: the link takes its own references. */
void session_reply(struct session *s, enum frame_type type, uint64_t request_id, const void *message,
                   const struct slice *parts, uint32_t parts_count);
/* Says why in an error frame, then closes. */
void session_refuse(struct session *s, enum err error, uint64_t request_id, const char *message);
void session_close(struct session *s);
void session_close_all(struct broker *broker);
void session_free(struct session *s); /* without a link and without references */

/* Of broker_turn: those who wait and may go on, go on. */
void session_resume_all(struct broker *broker);

/* api.c: handles one whole frame; `s` may be closed by it. */
void api_handle(struct session *s, const struct frame *frame);

/* produce.c */
struct produce;
TAILQ_HEAD(produce_deadlines, produce);

#endif
