/* A connection: one TCP address, frames over it, requests matched with replies by id. It connects when something is to
 * be sent and again after a loss, 10 ms to 500 ms apart; it never sends a request twice: whoever made the request
 * decides that.
 *
 * Writes gather until connection_flush (the client calls it once per loop turn) and go out as one uv_write of many
 * frames; payload is handed over by reference. Replies point into the receive buffer, which a receiver may keep by
 * taking a reference. */
#ifndef FLOTILLA_CLIENT_CONNECTION_H
#define FLOTILLA_CLIENT_CONNECTION_H

#include <sys/queue.h>

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include "wire/codec.h"
#include "wire/frame.h"

struct connection;
struct request;

/* How a request ended. OK: reply is there (NULL if none was awaited: the bytes are written), bytes is the buf it lies
 * in, both borrowed for the call. ERR_REFUSED: never sent. ERR_CLOSED: the connection broke, outcome unknown.
 * ERR_TIMEOUT: no reply until the request's deadline. ERR_CANCELLED: the connection is being closed for good. Anything
 * else: the broker's FRAME_ERROR. */
typedef void (*request_cb)(struct request *request, enum err error, const struct frame *reply, struct buf *bytes);

/* Embedded in what waits for the answer; may be used again once it has ended. All zero but on_done to begin with. */
struct request {
    request_cb on_done;
    uint64_t deadline_ms; /* loop time; 0: none */

    uint64_t id; /* 0: idle. From here on the connection's */
    struct connection *connection;
    uint64_t life;
    TAILQ_ENTRY(request) link;
    UT_hash_handle hh;
};

TAILQ_HEAD(request_list, request);

enum connection_state {
    CONNECTION_IDLE,
    CONNECTION_WAITING,
    CONNECTION_CONNECTING,
    CONNECTION_OPEN,
    CONNECTION_CLOSING
};

struct connection_owner {
    uv_loop_t *loop;
    struct buf_pool *small_bufs; /* RECEIVE_SMALL_BYTES each */
    struct buf_pool *large_bufs; /* RECEIVE_LARGE_BYTES each */
    uint64_t next_request_id;
    uint64_t connect_timeout_ms;
    const char *client_id; /* may be NULL */
    void *context;
    void (*on_dirty)(void *context, struct connection *connection);   /* connection_flush is due this turn */
    void (*on_contact)(void *context, struct connection *connection); /* a connection stands */
    void (*on_closed)(void *context, struct connection *connection);  /* after connection_close: free is allowed */
};

#define RECEIVE_SMALL_BYTES (64u << 10)
#define RECEIVE_LARGE_BYTES ((1u << 20) + (64u << 10))

/* address is "host:port" or "[v6]:port"; already checked with connection_parse_address. */
struct connection *connection_new(struct connection_owner *owner, const char *address);
void connection_free(struct connection *connection); /* after on_closed */

const char *connection_address(const struct connection *connection);
enum connection_state connection_state(const struct connection *connection);

/* Encodes the message now; payload is referenced until it is written. The request ends through on_done, never within
 * this call. */
void connection_send(struct connection *connection, struct request *request, enum frame_type type, const void *message,
                     struct slice payload, bool reply_awaited);

/* Ends a request without on_done; a late reply is dropped. Idle requests are allowed. */
void request_cancel(struct request *request);

static inline bool request_is_pending(const struct request *request)
{
    return request->id != 0;
}

void connection_flush(struct connection *connection);

/* Ends requests whose deadline is over; the client calls it now and then. True if requests are left. */
bool connection_sweep(struct connection *connection, uint64_t now_ms);

/* All requests end with ERR_CANCELLED; then owner.on_closed. */
void connection_close(struct connection *connection);

/* Splits "host:port" (or "[v6]:port"). ERR_ADDRESS: it is none. */
enum err connection_parse_address(const char *address, char host[ADDRESS_BYTES_MAX + 1], uint16_t *ret_port);

#endif
