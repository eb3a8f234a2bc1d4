/* Outgoing links: name, then address after address, until one answers. A uv_tcp_t serves one attempt only; before
 * the next it is closed and made anew. The name service runs on libuv's thread pool and cannot always be called
 * off, so what it writes to outlives the link if it must. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/limits.h"
#include "os/address.h"
#include "os/fault.h"
#include "os/link_internal.h"

struct connecting {
    struct os_link *link; /* NULL: gone while its name was looked up */
    void (*on_connected)(struct link *link);
    struct os_address address;
    uv_getaddrinfo_t resolve;
    uv_connect_t request;
    bool resolving;
    bool free_with_uv;           /* who made `addresses` */
    struct addrinfo *addresses; /* owned */
    struct addrinfo *next;      /* of addresses, not tried yet */
    enum err last_error;
};

static void connecting_free(struct connecting *c)
{
    if (c->addresses != NULL) {
        if (c->free_with_uv) {
            uv_freeaddrinfo(c->addresses);
        } else {
            freeaddrinfo(c->addresses);
        }
    }
    free(c);
}

/* The link was freed before it connected. */
static void connecting_on_link_gone(void *context)
{
    struct connecting *c = context;
    c->link = NULL;
    if (!c->resolving) {
        connecting_free(c);
    }
}

static void connecting_try(struct connecting *c);

static void connecting_on_attempt_closed(uv_handle_t *handle)
{
    struct os_link *link = handle->data;
    if (link->state == OS_LINK_CLOSED) {
        os_link__on_handle_closed(handle);
        return;
    }
    int failed = uv_tcp_init(link->loop->uv, &link->tcp);
    ASSERT(failed == 0);
    connecting_try(link->on_gone_context);
}

static void connecting_attempt_failed(struct connecting *c, enum err error)
{
    c->last_error = error;
    if (c->next == NULL) {
        os_link__fail(c->link, c->last_error);
        return;
    }
    uv_timer_stop(&c->link->deadline);
    uv_close((uv_handle_t *)&c->link->tcp, connecting_on_attempt_closed);
}

static void connecting_on_timeout(struct os_link *link)
{
    connecting_attempt_failed(link->on_gone_context, ERR_TIMEOUT);
}

static void connecting_on_connect(uv_connect_t *request, int status)
{
    if (status == UV_ECANCELED) {
        return; /* closed by us: a timeout, or link_close */
    }
    struct connecting *c = request->data;
    struct os_link *link = c->link;
    if (status < 0) {
        trace_debug(link->loop->trace, "connect_failed", "remote=%s reason=%s", link->link.remote, uv_err_name(status));
        connecting_attempt_failed(c, os__err_of_uv(status));
        return;
    }
    void (*on_connected)(struct link *) = c->on_connected;
    uv_os_fd_t fd;
    link->on_gone = NULL;
    connecting_free(c);
    if (uv_fileno((uv_handle_t *)&link->tcp, &fd) == 0) {
        os_link__set_options(fd);
    }
    os_link__opened(link);
    if (on_connected != NULL) {
        on_connected(&link->link);
    }
    os_link__start(link);
}

static void connecting_try(struct connecting *c)
{
    const struct addrinfo *address = c->next;
    c->next = address->ai_next;
    os_address__print(address->ai_addr, c->link->link.remote, sizeof c->link->link.remote);
    c->request.data = c;
    int status = uv_tcp_connect(&c->request, &c->link->tcp, address->ai_addr, connecting_on_connect);
    if (status < 0) {
        connecting_attempt_failed(c, os__err_of_uv(status));
        return;
    }
    os_link__set_deadline(c->link, LINK_CONNECT_MS, connecting_on_timeout);
}

static void connecting_on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
    struct connecting *c = request->data;
    c->resolving = false;
    c->addresses = c->next = addresses;
    c->free_with_uv = true;
    if (c->link == NULL) {
        connecting_free(c);
    } else if (c->link->state == OS_LINK_CLOSED) {
        return; /* closed meanwhile, on its way to connecting_on_link_gone */
    } else if (status < 0 || addresses == NULL) {
        trace_debug(c->link->loop->trace, "resolve_failed", "host=%s reason=%s", c->address.host, uv_err_name(status));
        os_link__fail(c->link, ERR_ADDRESS);
    } else {
        connecting_try(c);
    }
}

/* A numeric address needs no thread; everything else is looked up on libuv's pool. */
static void connecting_start(struct connecting *c)
{
    struct addrinfo hints = os_address__hints(false);
    hints.ai_flags |= AI_NUMERICHOST;
    if (getaddrinfo(c->address.host, c->address.port, &hints, &c->addresses) == 0) {
        c->next = c->addresses;
        connecting_try(c);
        return;
    }
    c->addresses = NULL;
    hints.ai_flags &= ~AI_NUMERICHOST;
    c->resolve.data = c;
    int status = uv_getaddrinfo(c->link->loop->uv, &c->resolve, connecting_on_resolved, c->address.host,
                                c->address.port, &hints);
    c->resolving = status == 0;
    if (status < 0) {
        os_link__fail(c->link, ERR_ADDRESS);
    }
}

enum err os_connect(struct os_loop *loop, const char *address, const struct link_handler *handler, void *owner,
                    void (*on_connected)(struct link *link), struct link **ret_link)
{
    struct connecting *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err error = os_address__parse(address, &c->address);
    if (error == OK && (c->address.host[0] == '\0' || c->address.host[0] == '*')) {
        error = ERR_ADDRESS; /* "every address" is nobody to talk to */
    }
    struct os_link *link = error == OK ? os_link__new(loop) : NULL;
    if (link == NULL) {
        free(c);
        return error == OK ? ERR_NO_MEMORY : error;
    }
    c->link = link;
    c->on_connected = on_connected;
    link->on_gone = connecting_on_link_gone;
    link->on_gone_context = c;
    link->link.handler = handler;
    link->link.owner = owner;
    link->link.listener = "";
    connecting_start(c);
    *ret_link = &link->link;
    return OK;
}
