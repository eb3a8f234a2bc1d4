/* HTTP for the admin pages: http_parser reads requests, os/listener and os/link carry the bytes, one timer keeps the
 * deadline. */
#include "broker/admin.h"

#include <http_parser.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/buf.h"
#include "os/listener.h"
#include "port/clock.h"
#include "port/link.h"

#define PATH_BYTES_MAX 1024
#define TYPE_ERROR     "text/plain; charset=utf-8"

struct admin_connection {
    struct admin *admin;
    struct link *link;
    struct http_parser parser;
    uint32_t received_bytes;
    uint64_t due_us;
    bool answered;
    char path[PATH_BYTES_MAX + 1];
    size_t path_size; /* more than PATH_BYTES_MAX: too long */
    uint8_t input[4096];
    TAILQ_ENTRY(admin_connection) all_link; /* by due time: the deadline is one constant */
};

struct admin {
    struct os_loop *loop;
    struct admin_source source;
    struct os_listener *listener;
    uint32_t deadline_ms;
    uv_timer_t timer;
    bool closing;
    bool timer_closed;
    TAILQ_HEAD(, admin_connection) connections;
};

static void admin__arm(struct admin *admin);

static void admin__maybe_free(struct admin *admin)
{
    if (admin->closing && admin->timer_closed && TAILQ_EMPTY(&admin->connections)) {
        free(admin);
    }
}

/* --- answers --- */

static const char *admin__reason(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 414:
        return "URI Too Long";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    default:
        return "Internal Server Error";
    }
}

/* Sends the answer and closes behind it. `body` may be NULL (size 0). */
static void admin__answer(struct admin_connection *c, unsigned status, const char *type, const char *body, size_t size)
{
    char head[512];
    struct slice part = {0};
    int head_size = snprintf(head, sizeof head,
                             "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%sConnection: close\r\n\r\n",
                             status, admin__reason(status), type, size, status == 405 ? "Allow: GET, HEAD\r\n" : "");
    bool with_body = size > 0 && c->parser.method != HTTP_HEAD;
    if (with_body) {
        struct buf *buf = buf_new((uint32_t)size);
        if (buf == NULL) {
            c->link->ops->close(c->link);
            return;
        }
        memcpy(buf->data, body, size);
        part = slice_of(buf, 0, (uint32_t)size);
        buf_unref(buf);
    }
    c->answered = true;
    c->link->ops->send(c->link, head, (size_t)head_size, &part, with_body ? 1 : 0);
    slice_unref(&part);
    c->link->ops->close(c->link);
}

static void admin__refuse(struct admin_connection *c, unsigned status)
{
    char body[64];
    int size = snprintf(body, sizeof body, "%s\n", admin__reason(status));
    admin__answer(c, status, TYPE_ERROR, body, (size_t)size);
}

static void admin__serve(struct admin_connection *c)
{
    char *body = NULL;
    size_t size = 0;
    const char *type = TYPE_ERROR;
    if (c->parser.method != HTTP_GET && c->parser.method != HTTP_HEAD) {
        admin__refuse(c, 405);
        return;
    }
    if (c->path_size > PATH_BYTES_MAX) {
        admin__refuse(c, 414);
        return;
    }
    c->path[strcspn(c->path, "?#")] = '\0';
    FILE *out = open_memstream(&body, &size);
    if (out == NULL) {
        mem_exhausted();
    }
    unsigned status = c->admin->source.page(c->admin->source.context, c->path, out, &type);
    fclose(out);
    admin__answer(c, status, type, body, size);
    free(body);
}

/* --- requests --- */

static int admin__on_url(struct http_parser *parser, const char *at, size_t size)
{
    struct admin_connection *c = parser->data;
    if (c->path_size + size <= PATH_BYTES_MAX) {
        memcpy(c->path + c->path_size, at, size);
        c->path[c->path_size + size] = '\0';
    }
    c->path_size += size;
    return 0;
}

/* A body, if there is one, is not read: no page wants it. */
static int admin__on_headers_complete(struct http_parser *parser)
{
    struct admin_connection *c = parser->data;
    if (!c->answered) {
        admin__serve(c);
    }
    return 0;
}

static const struct http_parser_settings admin__parser_settings = {.on_url = admin__on_url,
                                                                   .on_headers_complete = admin__on_headers_complete};

static void admin__on_alloc(struct link *link, uint8_t **ret_data, size_t *ret_size)
{
    struct admin_connection *c = link->owner;
    *ret_data = c->input;
    *ret_size = sizeof c->input;
}

static void admin__on_read(struct link *link, size_t size)
{
    struct admin_connection *c = link->owner;
    if (c->answered || size == 0) {
        return;
    }
    c->received_bytes += (uint32_t)size;
    size_t parsed = http_parser_execute(&c->parser, &admin__parser_settings, (const char *)c->input, size);
    if (c->answered) {
        return;
    }
    if (parsed != size || c->parser.upgrade) {
        admin__refuse(c, 400);
    } else if (c->received_bytes > ADMIN_REQUEST_BYTES_MAX) {
        admin__refuse(c, 431);
    }
}

static void admin__on_drain(struct link *link)
{
    (void)link; /* one answer, queued whole */
}

static void admin__on_closed(struct link *link, enum err reason)
{
    struct admin_connection *c = link->owner;
    struct admin *admin = c->admin;
    (void)reason;
    TAILQ_REMOVE(&admin->connections, c, all_link);
    free(c);
    admin__arm(admin);
    admin__maybe_free(admin);
}

static const struct link_handler admin__handler = {
    .on_alloc = admin__on_alloc, .on_read = admin__on_read, .on_drain = admin__on_drain, .on_closed = admin__on_closed};

static void admin__on_accept(void *context, struct link *link)
{
    struct admin *admin = context;
    struct admin_connection *c = mem_zeroed(1, sizeof *c);
    c->admin = admin;
    c->link = link;
    c->due_us = uv_hrtime() / 1000 + (uint64_t)admin->deadline_ms * 1000;
    http_parser_init(&c->parser, HTTP_REQUEST);
    c->parser.data = c;
    link->handler = &admin__handler;
    link->owner = c;
    TAILQ_INSERT_TAIL(&admin->connections, c, all_link);
    admin__arm(admin);
}

/* --- deadlines --- */

static void admin__on_timer(uv_timer_t *timer)
{
    struct admin *admin = timer->data;
    uint64_t now_us = uv_hrtime() / 1000;
    struct admin_connection *c;
    while ((c = TAILQ_FIRST(&admin->connections)) != NULL && c->due_us <= now_us) {
        /* Closing may take the link a second; until then the connection waits at the end of the line. */
        TAILQ_REMOVE(&admin->connections, c, all_link);
        c->due_us = UINT64_MAX;
        TAILQ_INSERT_TAIL(&admin->connections, c, all_link);
        if (c->answered) {
            c->link->ops->close(c->link);
        } else {
            admin__refuse(c, 408);
        }
    }
    admin__arm(admin);
}

static void admin__arm(struct admin *admin)
{
    const struct admin_connection *first = TAILQ_FIRST(&admin->connections);
    if (admin->closing) {
        return;
    }
    if (first == NULL || first->due_us == UINT64_MAX) {
        uv_timer_stop(&admin->timer);
        return;
    }
    uint64_t now_us = uv_hrtime() / 1000;
    uint64_t wait_ms = first->due_us > now_us ? (first->due_us - now_us + 999) / 1000 : 0;
    int failed = uv_timer_start(&admin->timer, admin__on_timer, wait_ms, 0);
    ASSERT(failed == 0);
}

/* --- life --- */

enum err admin_open(struct os_loop *loop, const char *address, const struct admin_source *source, uint32_t deadline_ms,
                    struct admin **ret_admin)
{
    struct admin *admin = mem_zeroed(1, sizeof *admin);
    admin->loop = loop;
    admin->source = *source;
    admin->deadline_ms = deadline_ms;
    TAILQ_INIT(&admin->connections);
    enum err error =
        os_listen(loop, address, "admin", ADMIN_CONNECTIONS_MAX, admin__on_accept, admin, &admin->listener);
    if (error != OK) {
        free(admin);
        return error;
    }
    uv_timer_init(os_loop_uv(loop), &admin->timer);
    admin->timer.data = admin;
    *ret_admin = admin;
    return OK;
}

const char *admin_address(const struct admin *admin)
{
    return os_listener_address(admin->listener);
}

static void admin__on_timer_closed(uv_handle_t *handle)
{
    struct admin *admin = handle->data;
    admin->timer_closed = true;
    admin__maybe_free(admin);
}

void admin_close(struct admin *admin)
{
    struct admin_connection *c;
    if (admin == NULL) {
        return;
    }
    admin->closing = true;
    os_listener_close(admin->listener);
    TAILQ_FOREACH(c, &admin->connections, all_link)
    {
        c->link->ops->close(c->link);
    }
    uv_close((uv_handle_t *)&admin->timer, admin__on_timer_closed);
}
