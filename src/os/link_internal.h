/* struct os_link as link.c and listener.c see it. */
#ifndef FLOTILLA_OS_LINK_INTERNAL_H
#define FLOTILLA_OS_LINK_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "os/link.h"
#include "os/link_queue.h"
#include "os/loop_internal.h"

#define OS_LINK_WAIT_PIECES 4 /* what a uv_write_t holds without a malloc of its own */

enum os_link_state {
    OS_LINK_CONNECTING, /* output is only queued */
    OS_LINK_OPEN,
    OS_LINK_FLUSHING,  /* ends when the queue is written */
    OS_LINK_LINGERING, /* our end of stream is sent, theirs is awaited */
    OS_LINK_CLOSED,    /* libuv is letting go of the handles */
};

struct os_link {
    struct link link; /* first: the port points here */
    struct os_loop *loop;
    enum os_link_state state;
    enum err reason;
    bool owner_closed; /* link_close was called: no more callbacks but on_closed, no more sends */
    bool paused;
    bool reading;      /* uv_read_start is in force */
    bool writing;      /* uv_write is under way with the first `writing_count` pieces */
    bool dirty;        /* in loop->dirty */
    bool end_of_input; /* theirs came */
    uint32_t writing_count;
    uint64_t read_turn; /* loop->read_turn that read_left_bytes is about */
    uint32_t read_left_bytes;
    uint32_t handles_open;
    struct os_link_queue queue;
    uv_tcp_t tcp;
    uv_timer_t deadline;
    uv_write_t write;
    void (*on_deadline)(struct os_link *link);
    void (*on_gone)(void *context); /* for whoever made the link, when it is freed; NULL: nobody */
    void *on_gone_context;
    TAILQ_ENTRY(os_link) dirty_entry;
};

/* A link without a connection, state CONNECTING, no handler. NULL: no memory. */
struct os_link *os_link__new(struct os_loop *loop);

/* What every connection wants of TCP. Of a listening socket the accepted ones inherit it, which saves six calls each.
 */
void os_link__set_options(int fd);

/* link->tcp is connected, link.remote named: state OPEN, but nothing is read before os_link__start. */
void os_link__opened(struct os_link *link);

/* Reads unless paused or closed meanwhile, and writes what was queued. */
void os_link__start(struct os_link *link);

/* Ends it at once: handles are closed, queued output is dropped, on_closed(reason) follows in a later turn (with OK
 * when the owner had closed it). Once closed, does nothing. */
void os_link__fail(struct os_link *link, enum err reason);

/* Calls on_deadline unless the deadline is set again, or the link gone, before. */
void os_link__set_deadline(struct os_link *link, uint64_t timeout_ms, void (*on_deadline)(struct os_link *link));

/* The callback for uv_close of link->tcp. */
void os_link__on_handle_closed(uv_handle_t *handle);

#endif
