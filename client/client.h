/* Inside the library: the client's connections, its metadata, and calls (small requests that any broker answers).
 * Users see flotilla.h only. Errors here are enum err; they leave the library as enum flo_error, whose numbers are the
 * same. */
#ifndef FLOTILLA_CLIENT_CLIENT_H
#define FLOTILLA_CLIENT_CLIENT_H

#include <sys/queue.h>

#include "base/rng.h"
#include "client/connection.h"
#include "client/flotilla.h"
#include "client/metadata.h"

#define BOOTSTRAP_MAX   32u
#define CONNECTIONS_MAX 1024u /* addresses that one client ever talks to */

struct call;

/* Something of a producer or consumer that wants to know the end of a loop turn: gathered batches go out then. */
struct turn {
    TAILQ_ENTRY(turn) link;
    bool queued;
    void (*on_turn)(struct turn *turn);
};

/* Something that is due at a time. */
struct alarm {
    TAILQ_ENTRY(alarm) link;
    uint64_t at_ms; /* loop time; 0: off */
    bool is_due;
    void (*on_alarm)(struct alarm *alarm);
};

struct dialled {
    UT_hash_handle hh;
    struct connection *connection; /* owned */
    char address[];
};

struct flo_client {
    uv_loop_t *loop;
    uint32_t timeout_ms;
    uint32_t connect_timeout_ms;
    char *client_id;
    char *bootstrap[BOOTSTRAP_MAX]; /* owned */
    uint32_t bootstrap_count;
    uint32_t bootstrap_next;
    struct connection_owner owner;
    struct dialled *dialled; /* by address */
    uint32_t dialled_count;
    struct connection *favourite; /* last one that stood: asked for what anyone can answer */
    bool contacted;
    uint64_t first_try_ms; /* 0: no try yet */
    struct metadata metadata;
    struct rng rng;
    uv_prepare_t turn_end;
    uv_timer_t timer;     /* stands at the earliest alarm */
    uint64_t timer_at_ms; /* 0: not running */
    struct alarm sweep;
    TAILQ_HEAD(, turn) turns;
    TAILQ_HEAD(, alarm) alarms;
    TAILQ_HEAD(, alarm) due; /* going off right now */
    struct connection
        *dirty[2 * CONNECTIONS_MAX]; /* one may be lost, and be written to again, while the others are flushed */
    uint32_t dirty_count;
    TAILQ_HEAD(, call) calls;
    uint32_t users_count; /* producers and consumers */
    bool closing;
    uint32_t closes_left;
    void (*on_closed)(void *context);
    void *on_closed_context;
};

uint64_t client__now_ms(const struct flo_client *client); /* loop time */
int64_t client__wall_ms(void);                            /* UNIX time */

/* The connection to an address or a broker; made when missing. NULL: the broker is not in the metadata,
 * or there are too many addresses. */
struct connection *client__connection_to(struct flo_client *client, const char *address);
struct connection *client__connection_to_broker(struct flo_client *client, uint64_t broker);

/* Asks for turn->on_turn before the loop next blocks. client__forget_turn also takes one that is not queued. */
void client__at_turn_end(struct flo_client *client, struct turn *turn);
void client__forget_turn(struct flo_client *client, struct turn *turn);

/* Sets, moves or (at_ms 0) stops an alarm; it goes off once. */
void client__set_alarm(struct flo_client *client, struct alarm *alarm, uint64_t at_ms);

/* True for statuses that another try may cure, after a delay and with fresh metadata. */
bool client__is_retriable(enum err error);

/* Next delay of a retry: 10 ms doubling to 500. *io_backoff_ms starts at 0. */
uint32_t client__backoff(uint32_t *io_backoff_ms);

/* A small request that any broker answers (or the one that the reply's leader hint names). Retried until its deadline
 * on refused connections and retriable statuses; after a connection was lost only if `repeatable`. */
struct call {
    struct request request;
    TAILQ_ENTRY(call) link;
    struct flo_client *client;
    enum frame_type type;
    union codec_message message;
    uint64_t deadline_ms;
    uint64_t broker; /* hint; 0: anyone */
    struct alarm retry;
    uint32_t backoff_ms;
    enum err last_error;
    bool repeatable;
    bool sent;
    void *context;
    /* OK: reply is the decoded message, frame its frame. Statuses in the reply that cannot be cured come as error with
     * reply set. The call is the callee's again. */
    void (*on_done)(struct call *call, enum err error, const union codec_message *reply, const struct frame *frame);
};

/* call: zeroed, with type, message, deadline_ms (0: the client's), repeatable, on_done and context set; stays in place
 * until on_done. */
void call_start(struct flo_client *client, struct call *call);
void call_cancel(struct call *call); /* no on_done; a call that is not started is allowed */

#endif
