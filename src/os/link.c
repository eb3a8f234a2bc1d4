/* The life of a connection, its reads and its writes. Writes go straight to the kernel (uv_try_write, up to 1024
 * pieces a call) at the end of the turn. Only when the kernel is full is uv_write used, and only for the next few
 * pieces, as the way to learn when there is room again: given all pieces it would malloc a copy of their list. */
#include "os/link.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "base/limits.h"
#include "os/address.h"
#include "os/fault.h"
#include "os/link_internal.h"

static struct os_link *link_of(struct link *port)
{
    return (struct os_link *)port; /* its first member */
}

static void link_mark_dirty(struct os_link *link)
{
    if (!link->dirty) {
        link->dirty = true;
        TAILQ_INSERT_TAIL(&link->loop->dirty, link, dirty_entry);
        link->loop->dirty_count++;
    }
}

static void link_clear_dirty(struct os_link *link)
{
    if (link->dirty) {
        link->dirty = false;
        TAILQ_REMOVE(&link->loop->dirty, link, dirty_entry);
        link->loop->dirty_count--;
    }
}

static bool link_calls_owner(const struct os_link *link)
{
    return link->link.handler != NULL && !link->owner_closed &&
           (link->state == OS_LINK_OPEN || link->state == OS_LINK_FLUSHING);
}

/* ---- end of life ---- */

void os_link__on_handle_closed(uv_handle_t *handle)
{
    struct os_link *link = handle->data;
    ASSERT(link->state == OS_LINK_CLOSED && link->handles_open > 0);
    if (--link->handles_open > 0) {
        return;
    }
    os_link_queue__clear(&link->queue);
    link->loop->links_count--;
    if (link->link.handler != NULL) {
        link->link.handler->on_closed(&link->link, link->reason);
    }
    if (link->on_gone != NULL) {
        link->on_gone(link->on_gone_context);
    }
    free(link);
}

void os_link__fail(struct os_link *link, enum err reason)
{
    if (link->state == OS_LINK_CLOSED) {
        return;
    }
    link->state = OS_LINK_CLOSED;
    link->reason = link->owner_closed ? OK : reason;
    link_clear_dirty(link);
    uv_close((uv_handle_t *)&link->deadline, os_link__on_handle_closed);
    if (!uv_is_closing((uv_handle_t *)&link->tcp)) { /* else: between two connection attempts */
        uv_close((uv_handle_t *)&link->tcp, os_link__on_handle_closed);
    }
}

static void link_on_deadline(uv_timer_t *timer)
{
    struct os_link *link = timer->data;
    link->on_deadline(link);
}

void os_link__set_deadline(struct os_link *link, uint64_t timeout_ms, void (*on_deadline)(struct os_link *link))
{
    link->on_deadline = on_deadline;
    int failed = uv_timer_start(&link->deadline, link_on_deadline, timeout_ms, 0);
    ASSERT(failed == 0);
}

static void link_closing_took_too_long(struct os_link *link)
{
    os_link__fail(link, link->reason);
}

/* ---- reading ---- */

/* libuv reads a ready socket up to 32 times. A few fast senders could thus make one turn last 30 ms and more, in
 * which no heartbeat leaves; so each link gets a share of the turn, and the rest is still there in the next. */
static uint32_t link_read_left(struct os_link *link)
{
    struct os_loop *loop = link->loop;
    if (link->read_turn != loop->read_turn) {
        link->read_turn = loop->read_turn;
        link->read_left_bytes = loop->read_share_bytes;
        loop->read_links++;
    }
    return link->read_left_bytes;
}

static void loop_share_reading(struct os_loop *loop)
{
    uint32_t share = LINK_READ_BYTES_PER_TURN / (loop->read_links > 0 ? loop->read_links : 1);
    share = share > LINK_READ_BYTES_MAX ? LINK_READ_BYTES_MAX : share;
    loop->read_share_bytes = share < LINK_READ_BYTES_MIN ? LINK_READ_BYTES_MIN : share;
    loop->read_links = 0;
    loop->read_turn++;
}

static void link_on_alloc(uv_handle_t *handle, size_t suggested_size, uv_buf_t *buf)
{
    struct os_link *link = handle->data;
    uint8_t *data = link->loop->discard;
    size_t size = OS_LINK_DISCARD_BYTES;
    if (link_read_left(link) == 0) {
        *buf = (uv_buf_t){.base = NULL, .len = 0}; /* libuv then reports UV_ENOBUFS and leaves the socket alone */
        return;
    }
    if (link->state == OS_LINK_OPEN) {
        size = 0;
        link->link.handler->on_alloc(&link->link, &data, &size);
    }
    /* Cut at the share, not at what is left of it: the last read may overshoot, but a chunk is filled in one piece. */
    uint32_t share = link->loop->read_share_bytes;
    *buf = (uv_buf_t){.base = (char *)data, .len = size < share ? size : share};
}

static void link_update_reading(struct os_link *link);

static void link_on_end_of_input(struct os_link *link)
{
    link->end_of_input = true;
    if (link->state != OS_LINK_OPEN) {
        os_link__fail(link, link->reason);
        return;
    }
    link->state = OS_LINK_FLUSHING;
    link->reason = ERR_CLOSED;
    link_update_reading(link);
    os_link__set_deadline(link, LINK_CLOSE_MS, link_closing_took_too_long);
    link_mark_dirty(link); /* the answers of this very turn are still to come */
}

static void link_on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    struct os_link *link = stream->data;
    if (size >= 0) {
        uint32_t left = link->read_left_bytes;
        link->read_left_bytes = (size_t)size < left ? left - (uint32_t)size : 0;
        if (link->state == OS_LINK_OPEN) {
            link->link.handler->on_read(&link->link, (size_t)size);
        }
    } else if (size == UV_EOF) {
        link_on_end_of_input(link);
    } else if (size != UV_ENOBUFS || link->read_left_bytes > 0) {
        enum err reason = size == UV_ENOBUFS ? ERR_NO_MEMORY : os__err_of_uv((int)size);
        trace_debug(link->loop->trace, "link_read_failed", "remote=%s reason=%s", link->link.remote,
                    uv_err_name((int)size));
        os_link__fail(link, reason);
    }
}

static void link_update_reading(struct os_link *link)
{
    bool wanted = (link->state == OS_LINK_OPEN && !link->paused) || link->state == OS_LINK_LINGERING;
    if (wanted == link->reading) {
        return;
    }
    link->reading = wanted;
    if (!wanted) {
        uv_read_stop((uv_stream_t *)&link->tcp);
        return;
    }
    int status = uv_read_start((uv_stream_t *)&link->tcp, link_on_alloc, link_on_read);
    if (status < 0) {
        os_link__fail(link, os__err_of_uv(status));
    }
}

/* ---- writing ---- */

static int link_gather(const struct os_link *link, uv_buf_t *bufs, uint32_t pieces_max, size_t *ret_bytes)
{
    uint32_t count = link->queue.count < pieces_max ? link->queue.count : pieces_max;
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct slice *piece = os_link_queue__at(&link->queue, i);
        bufs[i] = (uv_buf_t){.base = (char *)(uintptr_t)piece->data, .len = piece->size};
        bytes += piece->size;
    }
    *ret_bytes = bytes;
    return (int)count;
}

static void link_on_written(uv_write_t *write, int status)
{
    struct os_link *link = write->data;
    link->writing = false;
    if (link->state == OS_LINK_CLOSED) {
        return; /* status is UV_ECANCELED */
    }
    if (status < 0) {
        os_link__fail(link, os__err_of_uv(status));
        return;
    }
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < link->writing_count; i++) {
        bytes += os_link_queue__at(&link->queue, i)->size;
    }
    link->writing_count = 0;
    os_link_queue__consume(&link->queue, bytes);
    link_mark_dirty(link); /* there is room again: the rest goes at the end of this turn */
    if (link_calls_owner(link)) {
        link->link.handler->on_drain(&link->link);
    }
}

static void link_wait_for_room(struct os_link *link)
{
    uv_buf_t bufs[OS_LINK_WAIT_PIECES];
    size_t bytes;
    int count = link_gather(link, bufs, OS_LINK_WAIT_PIECES, &bytes);
    int status = uv_write(&link->write, (uv_stream_t *)&link->tcp, bufs, (unsigned)count, link_on_written);
    if (status < 0) {
        os_link__fail(link, os__err_of_uv(status));
        return;
    }
    link->writing = true;
    link->writing_count = (uint32_t)count;
}

/* Writes until the queue is empty or the kernel full; returns the bytes taken. */
static uint64_t link_write(struct os_link *link)
{
    uv_buf_t bufs[SEND_PARTS_MAX];
    uint64_t total = 0;
    while (link->queue.count > 0 && !link->writing) {
        size_t bytes;
        int count = link_gather(link, bufs, SEND_PARTS_MAX, &bytes);
        int wrote = uv_try_write((uv_stream_t *)&link->tcp, bufs, (unsigned)count);
        if (wrote < 0 && wrote != UV_EAGAIN) {
            os_link__fail(link, os__err_of_uv(wrote));
            return total;
        }
        if (wrote > 0) {
            os_link_queue__consume(&link->queue, (uint64_t)wrote);
            total += (uint64_t)wrote;
        }
        if (wrote < 0 || (size_t)wrote < bytes) {
            link_wait_for_room(link);
            break;
        }
    }
    return total;
}

/* The queue of a closing link is empty: say so to the other side, and wait for it to close unless it has. */
static void link_linger(struct os_link *link)
{
    uv_os_fd_t fd;
    if (link->end_of_input || uv_fileno((uv_handle_t *)&link->tcp, &fd) != 0 || shutdown(fd, SHUT_WR) != 0) {
        os_link__fail(link, link->reason);
        return;
    }
    link->state = OS_LINK_LINGERING;
    link_update_reading(link);
}

static void link_flush(struct os_link *link)
{
    if (link->state != OS_LINK_OPEN && link->state != OS_LINK_FLUSHING) {
        return;
    }
    if (link_write(link) > 0 && link_calls_owner(link)) {
        link->link.handler->on_drain(&link->link);
    }
    if (link->state == OS_LINK_FLUSHING && link->queue.count == 0) {
        ASSERT(!link->writing);
        link_linger(link);
    }
}

/* Of os_loop, at the end of each turn. What becomes dirty meanwhile waits for the next turn, so that an owner who
 * always has more to send cannot keep the loop from reading. */
static void link_end_turn(struct os_loop *loop)
{
    for (uint32_t left = loop->dirty_count; left > 0 && loop->dirty_count > 0; left--) {
        struct os_link *link = TAILQ_FIRST(&loop->dirty);
        link_clear_dirty(link);
        link_flush(link);
    }
    if (loop->dirty_count > 0) {
        os_loop_wake(loop);
    }
    loop_share_reading(loop);
}

/* ---- the port ---- */

static void link_send(struct link *port, const void *head, size_t head_size, const struct slice *parts,
                      size_t parts_count)
{
    struct os_link *link = link_of(port);
    ASSERT(parts_count <= SEND_PARTS_MAX);
    if (link->owner_closed || link->state == OS_LINK_CLOSED) {
        return;
    }
    if (!os_link_queue__copy(&link->queue, link->loop->heads, link->writing_count, head, head_size)) {
        os_link__fail(link, ERR_NO_MEMORY); /* half a message would be worse */
        return;
    }
    for (size_t i = 0; i < parts_count; i++) {
        os_link_queue__add(&link->queue, parts[i]);
    }
    link_mark_dirty(link);
}

static size_t link_queued_bytes(const struct link *port)
{
    return ((const struct os_link *)port)->queue.bytes;
}

static void link_pause(struct link *port)
{
    link_of(port)->paused = true;
    link_update_reading(link_of(port));
}

static void link_resume(struct link *port)
{
    link_of(port)->paused = false;
    link_update_reading(link_of(port));
}

static void link_close(struct link *port)
{
    struct os_link *link = link_of(port);
    if (link->owner_closed) {
        return;
    }
    link->owner_closed = true;
    link->reason = OK;
    switch (link->state) {
    case OS_LINK_CONNECTING:
        os_link__fail(link, OK);
        break;
    case OS_LINK_OPEN:
        link->state = OS_LINK_FLUSHING;
        link_update_reading(link);
        os_link__set_deadline(link, LINK_CLOSE_MS, link_closing_took_too_long);
        link_mark_dirty(link);
        break;
    case OS_LINK_FLUSHING: /* ending anyway */
    case OS_LINK_LINGERING:
    case OS_LINK_CLOSED:
        break;
    }
}

static const struct link_ops link_ops = {
    .send = link_send,
    .queued_bytes = link_queued_bytes,
    .pause = link_pause,
    .resume = link_resume,
    .close = link_close,
};

/* ---- for listener.c and connect.c ---- */

static bool loop_prepare_for_links(struct os_loop *loop)
{
    if (loop->end_turn == NULL) {
        loop->discard = malloc(OS_LINK_DISCARD_BYTES);
        if (loop->discard == NULL) {
            return false;
        }
        loop->heads = buf_pool_new(LINK_HEAD_BLOCK_BYTES, LINK_HEAD_BLOCKS_KEPT);
        loop_share_reading(loop);
        loop->end_turn = link_end_turn;
    }
    return true;
}

struct os_link *os_link__new(struct os_loop *loop)
{
    struct os_link *link = loop_prepare_for_links(loop) ? calloc(1, sizeof *link) : NULL;
    if (link == NULL) {
        return NULL;
    }
    link->link.ops = &link_ops;
    link->loop = loop;
    link->state = OS_LINK_CONNECTING;
    int failed = uv_tcp_init(loop->uv, &link->tcp) | uv_timer_init(loop->uv, &link->deadline);
    ASSERT(failed == 0); /* no descriptor is made here */
    link->tcp.data = link->deadline.data = link->write.data = link;
    link->handles_open = 2;
    loop->links_count++;
    return link;
}

/* A host that vanished says nothing: silence and missing confirmations end the connection. Hints, all of them: a link
 * without is slower to end, not wrong. */
void os_link__set_options(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, LINK_KEEPALIVE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, LINK_KEEPALIVE_INTERVAL_S},
        {IPPROTO_TCP, TCP_KEEPCNT, LINK_KEEPALIVE_PROBES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, LINK_UNHEARD_MS},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
    }
}

void os_link__opened(struct os_link *link)
{
    ASSERT(link->state == OS_LINK_CONNECTING);
    link->state = OS_LINK_OPEN;
    uv_timer_stop(&link->deadline);
}

void os_link__start(struct os_link *link)
{
    if (link->state == OS_LINK_OPEN) {
        ASSERT(link->link.handler != NULL);
        link_update_reading(link);
        if (link->queue.count > 0) {
            link_mark_dirty(link);
        }
    }
}
