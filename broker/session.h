/* One client connection: bytes in, frames to the api table, replies out.
 *
 * Bytes land in a chunk of refcounted memory (1 MiB, pooled); a produced batch stays where it landed and is referenced
 * from there. Only a frame that straddles the end of a chunk is moved, its received part, to the next chunk. An idle
 * connection holds no chunk. A session outlives its link until its last request is answered. Loop thread. */
#ifndef FLOTILLA_BROKER_SESSION_H
#define FLOTILLA_BROKER_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "port/link.h"
#include "wire/codec.h"

struct broker;

struct session {
    struct broker *broker;
    struct link *link; /* NULL: closed */
    struct buf *chunk; /* owned reference; NULL: none */
    uint32_t start;    /* first byte not parsed */
    uint32_t end;      /* after the last byte received */
    uint32_t refs;     /* 1 for the link, 1 per request under way */
    uint64_t inflight_bytes;
    uint32_t requests; /* under way */
    bool paused;
    bool closing;
    bool waits_for_room; /* in broker->paused */
    TAILQ_ENTRY(session) all_link;
    TAILQ_ENTRY(session) paused_link;
};

TAILQ_HEAD(session_list, session);

void session_open(struct broker *broker, struct link *link);
void session_hold(struct session *s, uint64_t bytes);    /* a request starts: keeps the session, counts its bytes */
void session_release(struct session *s, uint64_t bytes); /* ... ends */
/* Encodes and sends; nothing happens when the link is gone. parts: the link takes its own references. */
void session_reply(struct session *s, enum frame_type type, uint64_t request_id, const void *message,
                   const struct slice *parts, uint32_t parts_count);
void session_resume(struct session *s); /* room again: parse what waits, read on */
void session_close(struct session *s);
void session_close_all(struct broker *broker);
void session_free(struct session *s); /* without a link and without references */

/* api.c: handles one whole frame; `s` may be closed by it. The payload stands in s->chunk. */
void api_handle(struct session *s, const struct frame *frame);

/* produce.c */
struct produce;
TAILQ_HEAD(produce_deadlines, produce);

#endif
