/* One TCP connection: resolving, connecting, gathering writes, receiving frames.
 *
 * Writes: a `struct write` collects the heads of up to WRITE_FRAMES_MAX frames and slices of their payloads; requests
 * own none of it, so a request may end (by its reply, even) before libuv is done with the bytes.
 *
 * Receiving: small frames are cut out of 64 KiB chunks. A frame that does not fit the rest of its chunk gets a buffer
 * of its own, and the reads are limited to that frame's end, so that at most one chunk's worth of a large fetch reply
 * is ever copied. */
#include "client/connection.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/limits.h"

#define WRITE_FRAMES_MAX  64u
#define WRITE_HEADS_BYTES (16u << 10)
#define BACKOFF_FIRST_MS  10u
#define BACKOFF_MAX_MS    500u
#define KEEPALIVE_SECONDS 30u
#define SILENCE_MS        10000u
#define SWEEP_COUNT       64u

struct write {
    uv_write_t uv;
    struct connection *connection;
    TAILQ_ENTRY(write) link;
    uint64_t unanswered[WRITE_FRAMES_MAX]; /* ids of requests that end when this is written */
    uint32_t unanswered_count;
    uint32_t frames_count;
    uint32_t parts_count;
    uint32_t heads_size;
    uv_buf_t parts[2 * WRITE_FRAMES_MAX];
    struct slice payloads[WRITE_FRAMES_MAX];
    uint8_t heads[WRITE_HEADS_BYTES];
};

TAILQ_HEAD(write_list, write);

struct connection {
    struct connection_owner *owner;
    char *address;
    char host[ADDRESS_BYTES_MAX + 1];
    uint16_t port;
    enum connection_state state;
    uint64_t life; /* rises with every loss: requests of an older life end with it */
    uint32_t backoff_ms;
    uint32_t handles_count; /* libuv handles and requests that may still call back */
    bool dirty;
    uv_tcp_t *tcp;            /* owned until uv_close; one per life */
    uv_timer_t timer;         /* connect deadline or backoff */
    struct write_list queued; /* not given to libuv yet */
    struct write *spare;
    struct request_list pending;
    struct request *by_id;
    struct request hello;
    struct buf *receive_buf;
    uint32_t receive_start; /* first byte not parsed */
    uint32_t receive_end;
    uint32_t receive_limit; /* reads stop here */
};

static void connection__lose(struct connection *connection, enum err error);
static void connection__start(struct connection *connection);

/* ---- writes ---- */

static struct write *write_new(struct connection *connection)
{
    struct write *write = connection->spare;
    connection->spare = NULL;
    if (write == NULL) {
        write = malloc(sizeof *write);
        ASSERT(write != NULL);
    }
    write->connection = connection;
    write->uv.data = write;
    write->frames_count = write->parts_count = write->heads_size = write->unanswered_count = 0;
    return write;
}

static void write_free(struct connection *connection, struct write *write)
{
    for (uint32_t i = 0; i < write->frames_count; i++)
        slice_unref(&write->payloads[i]);
    if (connection->spare == NULL && connection->state != CONNECTION_CLOSING)
        connection->spare = write;
    else
        free(write);
}

static void request__end(struct request *request, enum err error, const struct frame *reply, struct buf *bytes)
{
    request->id = 0;
    request->connection = NULL;
    request->on_done(request, error, reply, bytes);
}

static void request__forget(struct connection *connection, struct request *request)
{
    TAILQ_REMOVE(&connection->pending, request, link);
    HASH_DELETE(hh, connection->by_id, request);
}

/* The requests of a write that await no reply end here, unless they were cancelled or ended with their connection. */
static void write__end_unanswered(struct connection *connection, const struct write *write, enum err error)
{
    for (uint32_t i = 0; i < write->unanswered_count; i++) {
        struct request *request;
        HASH_FIND(hh, connection->by_id, &write->unanswered[i], sizeof write->unanswered[i], request);
        if (request != NULL) {
            request__forget(connection, request);
            request__end(request, error, NULL, NULL);
        }
    }
}

static void connection__maybe_closed(struct connection *connection)
{
    if (connection->state == CONNECTION_CLOSING && connection->handles_count == 0)
        connection->owner->on_closed(connection->owner->context, connection);
}

static void on_written(uv_write_t *uv, int status)
{
    struct write *write = uv->data;
    struct connection *connection = write->connection;
    connection->handles_count--;
    write__end_unanswered(connection, write, status == 0 ? OK : ERR_CLOSED);
    write_free(connection, write);
    connection__maybe_closed(connection);
}

static void connection__submit(struct connection *connection)
{
    struct write *write;
    while ((write = TAILQ_FIRST(&connection->queued)) != NULL && connection->state == CONNECTION_OPEN) {
        TAILQ_REMOVE(&connection->queued, write, link);
        connection->handles_count++;
        int status = uv_write(&write->uv, (uv_stream_t *)connection->tcp, write->parts, write->parts_count, on_written);
        if (status != 0) {
            connection->handles_count--;
            TAILQ_INSERT_HEAD(&connection->queued, write, link);
            connection__lose(connection, ERR_CLOSED);
        }
    }
}

/* Gives the request an id and a place among the pending ones. */
static uint64_t connection__adopt(struct connection *connection, struct request *request)
{
    ASSERT(request->id == 0 && request->on_done != NULL);
    request->id = ++connection->owner->next_request_id;
    request->connection = connection;
    request->life = connection->life;
    HASH_ADD(hh, connection->by_id, id, sizeof request->id, request);
    TAILQ_INSERT_TAIL(&connection->pending, request, link);
    return request->id;
}

/* Appends a frame: head encoded in place, payload by reference. */
static void write__add(struct write *write, uint64_t id, enum frame_type type, const void *message,
                       struct slice payload)
{
    uint8_t *head = write->heads + write->heads_size;
    uint32_t head_size = 0;
    enum err error = codec_encode_frame(head, CODEC_HEAD_BYTES_MAX, type, id, message, payload.size, &head_size);
    ASSERT(error == OK);
    write->heads_size += head_size;
    write->parts[write->parts_count++] = uv_buf_init((char *)head, head_size);
    if (payload.size > 0)
        write->parts[write->parts_count++] = uv_buf_init((char *)(uintptr_t)payload.data, payload.size);
    write->payloads[write->frames_count++] = slice_ref(payload);
}

/* The write that gathers, with room for a frame. */
static struct write *connection__gathering(struct connection *connection)
{
    struct write *write = TAILQ_LAST(&connection->queued, write_list);
    if (write == NULL || write->frames_count == WRITE_FRAMES_MAX ||
        write->heads_size + CODEC_HEAD_BYTES_MAX > WRITE_HEADS_BYTES) {
        write = write_new(connection);
        TAILQ_INSERT_TAIL(&connection->queued, write, link);
    }
    return write;
}

/* ---- life ---- */

static void on_handle_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    connection->handles_count--;
    if (handle != (uv_handle_t *)&connection->timer)
        free(handle);
    connection__maybe_closed(connection);
}

static void connection__close_tcp(struct connection *connection)
{
    if (connection->tcp != NULL)
        uv_close((uv_handle_t *)connection->tcp, on_handle_closed);
    connection->tcp = NULL;
    buf_unref(connection->receive_buf);
    connection->receive_buf = NULL;
    connection->receive_start = connection->receive_end = 0;
}

static void on_backoff_over(uv_timer_t *timer)
{
    struct connection *connection = timer->data;
    ASSERT(connection->state == CONNECTION_WAITING);
    connection->state = CONNECTION_IDLE;
    if (!TAILQ_EMPTY(&connection->queued))
        connection__start(connection);
}

/* Drops what was gathered and ends every request of the life that is over. Callbacks may send again: their requests
 * belong to the next life and stand behind the old ones. */
static void connection__end_requests(struct connection *connection, enum err error)
{
    struct write *write;
    while ((write = TAILQ_FIRST(&connection->queued)) != NULL) {
        TAILQ_REMOVE(&connection->queued, write, link);
        write_free(connection, write);
    }
    uint64_t life = connection->life++;
    struct request *request;
    while ((request = TAILQ_FIRST(&connection->pending)) != NULL && request->life <= life) {
        request__forget(connection, request);
        request__end(request, error, NULL, NULL);
    }
}

static void connection__lose(struct connection *connection, enum err error)
{
    if (connection->state == CONNECTION_CLOSING || connection->state == CONNECTION_WAITING)
        return;
    connection__close_tcp(connection);
    connection->state = CONNECTION_WAITING;
    uv_timer_start(&connection->timer, on_backoff_over, connection->backoff_ms, 0);
    connection->backoff_ms = connection->backoff_ms * 2 < BACKOFF_MAX_MS ? connection->backoff_ms * 2 : BACKOFF_MAX_MS;
    connection__end_requests(connection, error);
}

static void on_connect_deadline(uv_timer_t *timer)
{
    connection__lose(timer->data, ERR_REFUSED);
}

static void on_hello(struct request *request, enum err error, const struct frame *reply, struct buf *bytes)
{
    struct connection *connection = (struct connection *)((char *)request - offsetof(struct connection, hello));
    HelloReply hello;
    if (error != OK)
        return;
    if (reply->type != FRAME_HELLO_REPLY || codec_decode(reply->type, reply->proto, reply->proto_size, &hello) != OK ||
        hello.status != OK)
        connection__lose(connection, ERR_CLOSED);
    else
        connection->backoff_ms = BACKOFF_FIRST_MS;
}

/* ---- receiving ---- */

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct connection *connection = handle->data;
    if (connection->receive_buf == NULL) {
        connection->receive_buf = buf_pool_take(connection->owner->small_bufs);
        connection->receive_start = connection->receive_end = 0;
        connection->receive_limit = RECEIVE_SMALL_BYTES;
    }
    *ret_buf = uv_buf_init(NULL, 0); /* libuv answers UV_ENOBUFS */
    if (connection->receive_buf != NULL)
        *ret_buf = uv_buf_init((char *)connection->receive_buf->data + connection->receive_end,
                               connection->receive_limit - connection->receive_end);
}

/* The frame at receive_start needs `needed` bytes: makes room for it, and lets reads stop at its end if it is a large
 * one. False: no memory. */
static bool connection__make_room(struct connection *connection, uint64_t needed)
{
    uint32_t have = connection->receive_end - connection->receive_start;
    if (connection->receive_start + needed <= connection->receive_limit)
        return true;
    if (needed <= RECEIVE_SMALL_BYTES && connection->receive_buf->refs == 1) {
        ASSERT(connection->receive_limit == RECEIVE_SMALL_BYTES);
        memmove(connection->receive_buf->data, connection->receive_buf->data + connection->receive_start, have);
        connection->receive_start = 0;
        connection->receive_end = have;
        return true;
    }
    struct buf *buf;
    if (needed <= RECEIVE_SMALL_BYTES)
        buf = buf_pool_take(connection->owner->small_bufs);
    else if (needed <= RECEIVE_LARGE_BYTES)
        buf = buf_pool_take(connection->owner->large_bufs);
    else
        buf = buf_new((uint32_t)needed);
    if (buf == NULL)
        return false;
    memcpy(buf->data, connection->receive_buf->data + connection->receive_start, have);
    buf_unref(connection->receive_buf);
    connection->receive_buf = buf;
    connection->receive_start = 0;
    connection->receive_end = have;
    connection->receive_limit = needed <= RECEIVE_SMALL_BYTES ? RECEIVE_SMALL_BYTES : (uint32_t)needed;
    return true;
}

static void connection__dispatch(struct connection *connection, const struct frame *frame, struct buf *bytes)
{
    struct request *request;
    HASH_FIND(hh, connection->by_id, &frame->request_id, sizeof frame->request_id, request);
    if (request == NULL)
        return; /* cancelled, or timed out */
    request__forget(connection, request);
    enum err error = OK;
    if (frame->type == FRAME_ERROR) {
        ErrorReply reply;
        error = codec_decode(frame->type, frame->proto, frame->proto_size, &reply);
        if (error == OK)
            error = reply.status != OK ? (enum err)reply.status : ERR_BAD_FRAME;
    }
    request__end(request, error, error == OK ? frame : NULL, bytes);
}

/* All whole frames that are there. A callback may lose or close this connection: then receive_buf is gone. */
static enum err connection__parse(struct connection *connection)
{
    static const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
    uint64_t life = connection->life;
    while (connection->receive_start < connection->receive_end) {
        struct frame frame;
        uint64_t needed;
        enum err error = frame_parse(connection->receive_buf->data + connection->receive_start,
                                     connection->receive_end - connection->receive_start, &limits, &frame, &needed);
        if (error == ERR_AGAIN)
            return connection__make_room(connection, needed) ? OK : ERR_NO_MEMORY;
        if (error != OK)
            return error;
        connection->receive_start += frame.size_bytes;
        struct buf *bytes = buf_ref(connection->receive_buf);
        connection__dispatch(connection, &frame, bytes);
        buf_unref(bytes);
        if (connection->state != CONNECTION_OPEN || connection->life != life)
            return OK;
    }
    /* All parsed. The chunk is used from its start again if nobody kept it, and left to its holders if it is nearly
     * full. */
    if (connection->receive_limit != RECEIVE_SMALL_BYTES || connection->receive_buf->size != RECEIVE_SMALL_BYTES ||
        (connection->receive_buf->refs > 1 && connection->receive_end > RECEIVE_SMALL_BYTES / 2)) {
        buf_unref(connection->receive_buf);
        connection->receive_buf = NULL;
    } else if (connection->receive_buf->refs == 1) {
        connection->receive_start = connection->receive_end = 0;
    }
    return OK;
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *unused)
{
    struct connection *connection = stream->data;
    if (connection->tcp != (uv_tcp_t *)stream)
        return;
    if (size < 0) {
        connection__lose(connection, ERR_CLOSED);
        return;
    }
    connection->receive_end += (uint32_t)size;
    if (size > 0 && connection__parse(connection) != OK)
        connection__lose(connection, ERR_CLOSED);
}

/* ---- connecting ---- */

/* A peer that vanished without a word (power, network) is noticed by unanswered bytes, not only by keepalives on an
 * idle wire. */
static void connection__limit_silence(struct connection *connection)
{
    int fd;
    unsigned int silence_ms = SILENCE_MS;
    if (uv_fileno((uv_handle_t *)connection->tcp, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof silence_ms);
}

/* HELLO goes in front of what was gathered while there was no connection. */
static void connection__say_hello(struct connection *connection)
{
    HelloRequest hello = {.version = FRAME_VERSION};
    if (connection->owner->client_id != NULL)
        snprintf(hello.client_id, sizeof hello.client_id, "%s", connection->owner->client_id);
    struct write *write = write_new(connection);
    write__add(write, connection__adopt(connection, &connection->hello), FRAME_HELLO, &hello, (struct slice){0});
    TAILQ_INSERT_HEAD(&connection->queued, write, link);
}

static void on_connected(uv_connect_t *connecting, int status)
{
    struct connection *connection = connecting->data;
    connection->handles_count--;
    bool stale = connection->state != CONNECTION_CONNECTING || connection->tcp != (uv_tcp_t *)connecting->handle;
    free(connecting);
    if (stale) {
        connection__maybe_closed(connection);
        return;
    }
    if (status != 0 || uv_read_start((uv_stream_t *)connection->tcp, on_allocate, on_read) != 0) {
        connection__lose(connection, ERR_REFUSED);
        return;
    }
    uv_timer_stop(&connection->timer);
    uv_tcp_nodelay(connection->tcp, 1);
    uv_tcp_keepalive(connection->tcp, 1, KEEPALIVE_SECONDS);
    connection__limit_silence(connection);
    connection->state = CONNECTION_OPEN;
    connection__say_hello(connection);
    connection->owner->on_contact(connection->owner->context, connection);
    if (connection->state == CONNECTION_OPEN)
        connection__submit(connection);
}

static void connection__connect(struct connection *connection, const struct sockaddr *address)
{
    connection->tcp = malloc(sizeof *connection->tcp);
    uv_connect_t *connecting = malloc(sizeof *connecting);
    ASSERT(connection->tcp != NULL && connecting != NULL);
    int status = uv_tcp_init(connection->owner->loop, connection->tcp);
    ASSERT(status == 0);
    connection->tcp->data = connection;
    connecting->data = connection;
    connection->handles_count++;
    status = uv_tcp_connect(connecting, connection->tcp, address, on_connected);
    if (status != 0) {
        free(connecting);
        connection__lose(connection, ERR_REFUSED);
        return;
    }
    connection->handles_count++;
}

static void on_resolved(uv_getaddrinfo_t *resolver, int status, struct addrinfo *found)
{
    struct connection *connection = resolver->data;
    connection->handles_count--;
    if (connection->state == CONNECTION_CONNECTING && connection->tcp == NULL) {
        if (status == 0)
            connection__connect(connection, found->ai_addr);
        else
            connection__lose(connection, ERR_REFUSED);
    }
    uv_freeaddrinfo(found);
    free(resolver);
    connection__maybe_closed(connection);
}

static void connection__resolve(struct connection *connection)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    if (uv_ip4_addr(connection->host, connection->port, &v4) == 0) {
        connection__connect(connection, (const struct sockaddr *)&v4);
        return;
    }
    if (uv_ip6_addr(connection->host, connection->port, &v6) == 0) {
        connection__connect(connection, (const struct sockaddr *)&v6);
        return;
    }
    char port[8];
    snprintf(port, sizeof port, "%u", connection->port);
    uv_getaddrinfo_t *resolver = malloc(sizeof *resolver);
    ASSERT(resolver != NULL);
    resolver->data = connection;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    if (uv_getaddrinfo(connection->owner->loop, resolver, on_resolved, connection->host, port, &hints) != 0) {
        free(resolver);
        connection__lose(connection, ERR_REFUSED);
        return;
    }
    connection->handles_count++;
}

static void connection__start(struct connection *connection)
{
    ASSERT(connection->state == CONNECTION_IDLE && connection->tcp == NULL);
    connection->state = CONNECTION_CONNECTING;
    uv_timer_start(&connection->timer, on_connect_deadline, connection->owner->connect_timeout_ms, 0);
    connection__resolve(connection);
}

/* ---- public ---- */

enum err connection_parse_address(const char *address, char host[ADDRESS_BYTES_MAX + 1], uint16_t *ret_port)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address || colon[1] < '0' || colon[1] > '9')
        return ERR_ADDRESS;
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    const char *start = address;
    size_t size = (size_t)(colon - address);
    if (address[0] == '[' && colon[-1] == ']' && size > 2) {
        start++;
        size -= 2;
    } else if (memchr(address, ':', size) != NULL) {
        return ERR_ADDRESS; /* an IPv6 address needs its brackets */
    }
    if (*end != '\0' || port == 0 || port > UINT16_MAX || size > ADDRESS_BYTES_MAX)
        return ERR_ADDRESS;
    memcpy(host, start, size);
    host[size] = '\0';
    *ret_port = (uint16_t)port;
    return OK;
}

struct connection *connection_new(struct connection_owner *owner, const char *address)
{
    struct connection *connection = calloc(1, sizeof *connection);
    ASSERT(connection != NULL);
    connection->owner = owner;
    connection->address = strdup(address);
    ASSERT(connection->address != NULL);
    enum err error = connection_parse_address(address, connection->host, &connection->port);
    ASSERT(error == OK);
    connection->backoff_ms = BACKOFF_FIRST_MS;
    connection->life = 1;
    connection->hello.on_done = on_hello;
    TAILQ_INIT(&connection->queued);
    TAILQ_INIT(&connection->pending);
    int status = uv_timer_init(owner->loop, &connection->timer);
    ASSERT(status == 0);
    connection->timer.data = connection;
    connection->handles_count = 1;
    return connection;
}

void connection_free(struct connection *connection)
{
    ASSERT(connection->handles_count == 0 && connection->by_id == NULL);
    free(connection->spare);
    free(connection->address);
    free(connection);
}

const char *connection_address(const struct connection *connection)
{
    return connection->address;
}

enum connection_state connection_state(const struct connection *connection)
{
    return connection->state;
}

void connection_send(struct connection *connection, struct request *request, enum frame_type type, const void *message,
                     struct slice payload, bool reply_awaited)
{
    ASSERT(connection->state != CONNECTION_CLOSING);
    if (connection->state == CONNECTION_IDLE)
        connection__start(connection);
    struct write *write = connection__gathering(connection);
    write__add(write, connection__adopt(connection, request), type, message, payload);
    if (!reply_awaited)
        write->unanswered[write->unanswered_count++] = request->id;
    if (!connection->dirty) {
        connection->dirty = true;
        connection->owner->on_dirty(connection->owner->context, connection);
    }
}

void request_cancel(struct request *request)
{
    if (request->id == 0)
        return;
    request__forget(request->connection, request);
    request->id = 0;
    request->connection = NULL;
}

void connection_flush(struct connection *connection)
{
    connection->dirty = false;
    connection__submit(connection);
}

bool connection_sweep(struct connection *connection, uint64_t now_ms)
{
    uint64_t newest_id = connection->owner->next_request_id;
    uint64_t late[SWEEP_COUNT];
    uint32_t late_count;
    do {
        /* Ids, not pointers: a callback may cancel any request, or send again. */
        late_count = 0;
        struct request *request;
        TAILQ_FOREACH(request, &connection->pending, link)
        {
            if (request->deadline_ms != 0 && request->deadline_ms <= now_ms && request->id <= newest_id &&
                late_count < SWEEP_COUNT)
                late[late_count++] = request->id;
        }
        for (uint32_t i = 0; i < late_count; i++) {
            HASH_FIND(hh, connection->by_id, &late[i], sizeof late[i], request);
            if (request != NULL) {
                request__forget(connection, request);
                request__end(request, ERR_TIMEOUT, NULL, NULL);
            }
        }
    } while (late_count == SWEEP_COUNT);
    return !TAILQ_EMPTY(&connection->pending);
}

void connection_close(struct connection *connection)
{
    ASSERT(connection->state != CONNECTION_CLOSING);
    connection__close_tcp(connection);
    connection->state = CONNECTION_CLOSING;
    connection__end_requests(connection, ERR_CANCELLED);
    uv_close((uv_handle_t *)&connection->timer, on_handle_closed);
}
