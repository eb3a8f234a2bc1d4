/* struct os_loop as the files of os/ see it. */
#ifndef FLOTILLA_OS_LOOP_INTERNAL_H
#define FLOTILLA_OS_LOOP_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/buf.h"
#include "os/loop.h"

#define OS_LOOP_SIGNALS 3
#define OS_LINK_DISCARD_BYTES (64u << 10)

struct os_link;
TAILQ_HEAD(os_link_list, os_link);

struct os_loop {
    struct clock clock; /* first: the port points here */
    uv_loop_t *uv;      /* borrowed, or &own_uv */
    uv_loop_t own_uv;
    const struct trace *trace;
    const struct os_loop_handler *handler;
    void *context;

    uv_prepare_t prepare; /* runs after all callbacks of a turn and before the sleep */
    uv_idle_t idle;       /* active = do not sleep */
    uv_timer_t timer;
    uv_signal_t signals[OS_LOOP_SIGNALS];
    bool signals_watched;
    bool stopping;
    uint32_t handles_open; /* of the above; at 0 after close the memory goes */

    uint64_t now_us; /* 0: not read in this turn */
    uint64_t deadline_us;
    uint64_t armed_us; /* the deadline that `timer` runs for */
    bool timer_due;

    /* Of os/link.c: links with output to write at the end of the turn, and what they share. */
    struct os_link_list dirty;
    uint32_t dirty_count;
    void (*end_turn)(struct os_loop *loop); /* NULL until there was a link */
    struct buf_pool *heads;              /* owned; blocks for copied heads */
    uint8_t *discard;                    /* owned; where the bytes of closing links go, OS_LINK_DISCARD_BYTES */
    uint64_t read_turn;        /* number of the turn, for the budgets */
    uint32_t read_links;       /* links that read in this turn */
    uint32_t read_share_bytes; /* what each link may read in it */
    uint32_t links_count;
    uint32_t listeners_count;
    uint32_t disks_count;
};

#endif
