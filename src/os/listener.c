/* Accepting, on a poll handle of our own instead of uv_listen: libuv's answer to "no descriptors left" is to accept
 * and drop everybody, or, when its spare descriptor is gone too, to spin; and it offers no way to stop accepting
 * for a while. */
#include "os/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/map.h"
#include "os/address.h"
#include "os/fault.h"
#include "os/link_internal.h"

#define BACKLOG 4096 /* the kernel cuts it at net.core.somaxconn */

/* Whoever has connections here, by address. */
struct guest {
    UT_hash_handle hh;
    struct os_listener *listener;
    uint8_t address[8]; /* 64 bits of an IPv6 address; an IPv4 one in its last four bytes */
    uint32_t count;
};

struct os_listener {
    struct os_loop *loop;
    const char *name;
    uint32_t connections_max;
    uint32_t connections_count;
    void (*on_accept)(void *context, struct link *link);
    void *context;
    uint32_t per_address_max;
    const void *refusal; /* NULL: those in excess wait in the backlog */
    size_t refusal_size;
    void (*on_refuse)(void *context, enum os_refusal why);
    struct guest *guests; /* uthash, by address */
    int fd;
    uv_poll_t poll;
    uv_timer_t pause;
    bool accepting; /* poll is active */
    bool pausing;   /* pause is active */
    bool closed;
    uint32_t handles_open;
    char address[ADDRESS_BYTES_MAX + 1];
};

static void listener_update(struct os_listener *listener);

static void listener_maybe_free(struct os_listener *listener)
{
    if (listener->closed && listener->handles_open == 0 && listener->connections_count == 0) {
        free(listener);
    }
}

static void guest_key(const struct sockaddr_storage *address, uint8_t key[8])
{
    memset(key, 0, 8);
    if (address->ss_family == AF_INET) {
        memcpy(key + 4, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(v6)) {
            memcpy(key + 4, v6->s6_addr + 12, 4);
        } else {
            memcpy(key, v6->s6_addr, 8);
        }
    }
}

static struct guest *guest_find(struct os_listener *listener, const struct sockaddr_storage *address)
{
    struct guest *guest;
    uint8_t key[8];
    guest_key(address, key);
    HASH_FIND(hh, listener->guests, key, sizeof key, guest);
    if (guest == NULL) {
        guest = mem_zeroed(1, sizeof *guest);
        guest->listener = listener;
        memcpy(guest->address, key, sizeof key);
        HASH_ADD(hh, listener->guests, address, sizeof guest->address, guest);
    }
    return guest;
}

static void guest_settle(struct guest *guest)
{
    if (guest->count == 0) {
        HASH_DELETE(hh, guest->listener->guests, guest);
        free(guest);
    }
}

static void listener_on_link_gone(void *context)
{
    struct guest *guest = context;
    struct os_listener *listener = guest->listener;
    ASSERT(listener->connections_count > 0 && guest->count > 0);
    guest->count--;
    guest_settle(guest);
    listener->connections_count--;
    listener_update(listener);
    listener_maybe_free(listener);
}

static void listener_on_pause_over(uv_timer_t *timer)
{
    struct os_listener *listener = timer->data;
    listener->pausing = false;
    listener_update(listener);
}

/* Whatever is wrong will be wrong at the next try too: waiting is what keeps it from taking a whole core. */
static void listener_pause(struct os_listener *listener, int number)
{
    trace_warn(listener->loop->trace, "accept_paused", "listener=%s reason=%s connections=%u", listener->name,
               strerrorname_np(number), listener->connections_count);
    listener->pausing = true;
    int failed = uv_timer_start(&listener->pause, listener_on_pause_over, LISTENER_PAUSE_MS, 0);
    ASSERT(failed == 0);
    listener_update(listener);
}

/* No link, no line in the log: a flood must cost as little as it can. */
static bool listener_refuses(struct os_listener *listener, const struct guest *guest, int fd)
{
    bool full = listener->connections_count >= listener->connections_max;
    if (listener->refusal == NULL || (!full && guest->count < listener->per_address_max)) {
        return false;
    }
    (void)!send(fd, listener->refusal, listener->refusal_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
    listener->on_refuse(listener->context, full ? OS_REFUSED_FULL : OS_REFUSED_ADDRESS);
    return true;
}

static void listener_make_link(struct os_listener *listener, struct guest *guest, int fd,
                               const struct sockaddr_storage *address)
{
    struct os_link *link = os_link__new(listener->loop);
    if (link == NULL) {
        close(fd);
        listener_pause(listener, ENOMEM);
        return;
    }
    link->link.listener = listener->name;
    link->on_gone = listener_on_link_gone;
    link->on_gone_context = guest;
    guest->count++;
    listener->connections_count++;
    int status = uv_tcp_open(&link->tcp, fd);
    if (status < 0) {
        close(fd);
        os_link__fail(link, os__err_of_uv(status)); /* no handler yet: nobody is told */
        return;
    }
    os_address__print((const struct sockaddr *)address, link->link.remote, sizeof link->link.remote);
    os_link__opened(link);
    listener->on_accept(listener->context, &link->link);
    ASSERT(link->link.handler != NULL || link->owner_closed);
    os_link__start(link);
}

/* The connection died in the backlog, or the network broke: accept(2) reports it here, and the next one may be well. */
static bool accept_error_passes(int number)
{
    return number == EINTR || number == ECONNABORTED || number == EPROTO || number == EPERM || number == ENETDOWN ||
           number == ENOPROTOOPT || number == EHOSTDOWN || number == ENONET || number == EHOSTUNREACH ||
           number == EOPNOTSUPP || number == ENETUNREACH;
}

static void listener_on_readable(uv_poll_t *poll, int status, int events)
{
    struct os_listener *listener = poll->data;
    for (int i = 0; i < LISTENER_ACCEPTS_PER_TURN_MAX && listener->accepting; i++) {
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof address;
        int fd = accept4(listener->fd, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            struct guest *guest = guest_find(listener, &address);
            if (!listener_refuses(listener, guest, fd)) {
                listener_make_link(listener, guest, fd, &address);
            }
            guest_settle(guest);
            listener_update(listener);
        } else if (errno == EAGAIN) {
            return;
        } else if (!accept_error_passes(errno)) {
            listener_pause(listener, errno);
        }
    }
}

static void listener_update(struct os_listener *listener)
{
    bool room = listener->refusal != NULL || listener->connections_count < listener->connections_max;
    bool wanted = !listener->closed && !listener->pausing && room;
    if (wanted == listener->accepting) {
        return;
    }
    listener->accepting = wanted;
    int failed =
        wanted ? uv_poll_start(&listener->poll, UV_READABLE, listener_on_readable) : uv_poll_stop(&listener->poll);
    ASSERT(failed == 0);
}

/* A listening socket on one address; -1 with errno. */
static int socket_listen(const struct addrinfo *address)
{
    int on = 1;
    int off = 0;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    os_link__set_options(fd);
    if (address->ai_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off); /* "::" serves IPv4 too */
    }
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) {
        return fd;
    }
    int number = errno;
    close(fd);
    errno = number;
    return -1;
}

/* The first address of the host that can be listened on. For "every address": IPv6, which brings IPv4 along, else
 * IPv4. */
static enum err address_listen(const struct os_address *address, int *ret_fd)
{
    bool every = address->host[0] == '\0' || strcmp(address->host, "*") == 0;
    const int families[] = {every ? AF_INET6 : AF_UNSPEC, AF_INET};
    enum err error = ERR_ADDRESS;
    for (int i = 0; i < 1 + every; i++) {
        struct addrinfo hints = os_address__hints(true);
        struct addrinfo *list;
        hints.ai_family = families[i];
        if (getaddrinfo(every ? NULL : address->host, address->port, &hints, &list) != 0) {
            continue;
        }
        int fd = -1;
        for (const struct addrinfo *one = list; one != NULL && fd < 0; one = one->ai_next) {
            fd = socket_listen(one);
            error = fd < 0 ? os__err_of_errno(errno) : OK;
        }
        freeaddrinfo(list);
        if (fd >= 0) {
            *ret_fd = fd;
            return OK;
        }
    }
    return error == ERR_IO ? ERR_ADDRESS : error; /* EACCES and the like */
}

static enum err listener_open_handles(struct os_listener *listener)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    if (getsockname(listener->fd, (struct sockaddr *)&name, &size) != 0) {
        return os__err_of_errno(errno);
    }
    int status = uv_poll_init(listener->loop->uv, &listener->poll, listener->fd);
    if (status < 0) {
        return os__err_of_uv(status);
    }
    int failed = uv_timer_init(listener->loop->uv, &listener->pause);
    ASSERT(failed == 0); /* it only links the handle into the loop */
    os_address__print((struct sockaddr *)&name, listener->address, sizeof listener->address);
    listener->poll.data = listener->pause.data = listener;
    listener->handles_open = 2;
    return OK;
}

enum err os_listen(struct os_loop *loop, const char *address, const char *name, uint32_t connections_max,
                   void (*on_accept)(void *context, struct link *link), void *context,
                   struct os_listener **ret_listener)
{
    struct os_address parsed;
    int fd = -1;
    enum err error = os_address__parse(address, &parsed);
    if (error == OK) {
        error = address_listen(&parsed, &fd);
    }
    if (error != OK) {
        trace_error(loop->trace, "listen_failed", "listener=%s address=%s error=%s", name, address, err_name(error));
        return error;
    }
    struct os_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        close(fd);
        return ERR_NO_MEMORY;
    }
    *listener = (struct os_listener){.loop = loop,
                                     .name = name,
                                     .connections_max = connections_max,
                                     .on_accept = on_accept,
                                     .context = context,
                                     .fd = fd};
    error = listener_open_handles(listener);
    if (error != OK) {
        trace_error(loop->trace, "listen_failed", "listener=%s address=%s error=%s", name, address, err_name(error));
        close(fd);
        free(listener);
        return error;
    }
    listener_update(listener);
    loop->listeners_count++;
    *ret_listener = listener;
    return OK;
}

void os_listener_refuse(struct os_listener *listener, uint32_t per_address_max, const void *text, size_t size,
                        void (*on_refuse)(void *context, enum os_refusal why))
{
    ASSERT(size > 0 && per_address_max > 0);
    listener->per_address_max = per_address_max;
    listener->refusal = text;
    listener->refusal_size = size;
    listener->on_refuse = on_refuse;
}

const char *os_listener_address(const struct os_listener *listener)
{
    return listener->address;
}

uint32_t os_listener_connections(const struct os_listener *listener)
{
    return listener->connections_count;
}

static void listener_on_handle_closed(uv_handle_t *handle)
{
    struct os_listener *listener = handle->data;
    listener->handles_open--;
    listener_maybe_free(listener);
}

void os_listener_close(struct os_listener *listener)
{
    if (listener == NULL) {
        return;
    }
    ASSERT(!listener->closed);
    listener->closed = true;
    listener_update(listener);
    listener->loop->listeners_count--;
    uv_close((uv_handle_t *)&listener->poll, listener_on_handle_closed);
    uv_close((uv_handle_t *)&listener->pause, listener_on_handle_closed);
    close(listener->fd); /* libuv forgets a poll handle's descriptor in uv_close */
}
