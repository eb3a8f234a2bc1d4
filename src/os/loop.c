/* The rhythm of the broker on libuv. Everything hangs on one uv_prepare handle, because libuv runs those after
 * timers and after all socket callbacks of the last poll, and before it sleeps: the one place where "the end of the
 * turn" exists. The uv_timer's own callback only leaves a mark, so that `timer` is called from there too: a timer
 * that re-armed itself for a moment in the past inside uv__run_timers would keep libuv (1.44) in that function for
 * ever. */
#include "os/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/assert.h"
#include "base/mem.h"
#include "os/fault.h"
#include "os/loop_internal.h"

static const int watched_signals[OS_LOOP_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

static struct os_loop *os_loop__of_clock(struct clock *clock)
{
    return (struct os_loop *)clock; /* its first member */
}

static uint64_t os_loop__now_us(struct clock *clock)
{
    struct os_loop *loop = os_loop__of_clock(clock);
    if (loop->now_us == 0) {
        loop->now_us = uv_hrtime() / 1000;
    }
    return loop->now_us;
}

static int64_t os_loop__wall_ms(struct clock *clock)
{
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    ASSERT(failed == 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void os_loop__random(struct clock *clock, void *data, size_t size)
{
    uint8_t *at = data;
    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);
        ASSERT(got > 0 || errno == EINTR); /* the only fault a kernel since 3.17 may answer with */
        if (got > 0) {
            at += got;
            size -= (size_t)got;
        }
    }
}

/* Only remembers: the uv_timer is set once a turn, however often the broker changes its mind. */
static void os_loop__arm(struct clock *clock, uint64_t deadline_us)
{
    os_loop__of_clock(clock)->deadline_us = deadline_us;
}

static const struct clock_ops os_loop__clock_ops = {
    .now_us = os_loop__now_us,
    .wall_ms = os_loop__wall_ms,
    .random = os_loop__random,
    .arm = os_loop__arm,
};

static void os_loop__on_timer(uv_timer_t *timer)
{
    struct os_loop *loop = timer->data;
    loop->timer_due = true;
    loop->armed_us = UINT64_MAX;
}

static void os_loop__set_timer(struct os_loop *loop)
{
    if (loop->deadline_us == loop->armed_us) {
        return;
    }
    loop->armed_us = loop->deadline_us;
    if (loop->deadline_us == UINT64_MAX) {
        uv_timer_stop(&loop->timer);
        return;
    }
    /* uv_now and uv_hrtime count from the same moment; uv_now may lag but never leads. So the rounded-up
     * millisecond, counted from uv_now, cannot fire before the deadline. */
    uint64_t due_ms = loop->deadline_us / 1000 + (loop->deadline_us % 1000 != 0);
    uint64_t now_ms = uv_now(loop->uv);
    int failed = uv_timer_start(&loop->timer, os_loop__on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
    ASSERT(failed == 0);
}

static void os_loop__on_prepare(uv_prepare_t *prepare)
{
    struct os_loop *loop = prepare->data;
    const struct os_loop_handler *handler = loop->handler;
    if (loop->timer_due) {
        loop->timer_due = false;
        loop->deadline_us = UINT64_MAX; /* one call per request */
        loop->now_us = 0;
        if (handler != NULL && handler->timer != NULL) {
            handler->timer(loop->context);
        }
    }
    if (handler != NULL && handler->turn != NULL) {
        handler->turn(loop->context);
    }
    if (loop->end_turn != NULL) {
        loop->end_turn(loop);
    }
    os_loop__set_timer(loop);
    loop->now_us = 0;
}

static void os_loop__on_idle(uv_idle_t *idle)
{
    uv_idle_stop(idle);
}

static void os_loop__on_signal(uv_signal_t *signal, int signal_number)
{
    struct os_loop *loop = signal->data;
    if (loop->handler != NULL && loop->handler->signal != NULL) {
        loop->handler->signal(loop->context, signal_number);
    }
}

static void os_loop__free(struct os_loop *loop)
{
    buf_pool_free(loop->heads);
    free(loop->discard);
    free(loop);
}

static void os_loop__on_handle_closed(uv_handle_t *handle)
{
    struct os_loop *loop = handle->data;
    ASSERT(loop->handles_open > 0);
    if (--loop->handles_open == 0 && loop->uv != &loop->own_uv) {
        os_loop__free(loop);
    }
}

static void os_loop__close_handle(struct os_loop *loop, uv_handle_t *handle)
{
    ASSERT(handle->data == loop);
    uv_close(handle, os_loop__on_handle_closed);
}

static void os_loop__open_handles(struct os_loop *loop)
{
    /* These four only link the handle into the loop: libuv documents no failure and 1.44 has none. */
    int failed = uv_prepare_init(loop->uv, &loop->prepare) | uv_idle_init(loop->uv, &loop->idle) |
                 uv_timer_init(loop->uv, &loop->timer);
    loop->prepare.data = loop->idle.data = loop->timer.data = loop;
    loop->handles_open = 3;
    failed |= uv_prepare_start(&loop->prepare, os_loop__on_prepare);
    ASSERT(failed == 0);
}

enum err os_loop_open(struct uv_loop_s *uv, const struct trace *trace, struct os_loop **ret_loop)
{
    /* Where libuv has no memory for its table of descriptors it would abort; so the process ends in our way. */
    int failed = uv_replace_allocator(malloc, mem_grow, calloc, free);
    ASSERT(failed == 0);
    struct os_loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL) {
        return ERR_NO_MEMORY;
    }
    loop->clock.ops = &os_loop__clock_ops;
    loop->trace = trace;
    loop->deadline_us = loop->armed_us = UINT64_MAX;
    TAILQ_INIT(&loop->dirty);
    loop->uv = uv;
    if (uv == NULL) {
        int status = uv_loop_init(&loop->own_uv);
        if (status < 0) {
            trace_error(trace, "loop_open_failed", "reason=%s", uv_err_name(status));
            free(loop);
            return os__err_of_uv(status);
        }
        loop->uv = &loop->own_uv;
    }
    signal(SIGPIPE, SIG_IGN);
    os_loop__open_handles(loop);
    *ret_loop = loop;
    return OK;
}

void os_loop_set_handler(struct os_loop *loop, const struct os_loop_handler *handler, void *context)
{
    loop->handler = handler;
    loop->context = context;
}

enum err os_loop_watch_signals(struct os_loop *loop)
{
    ASSERT(!loop->signals_watched);
    loop->signals_watched = true;
    for (int i = 0; i < OS_LOOP_SIGNALS; i++) {
        int status = uv_signal_init(loop->uv, &loop->signals[i]);
        ASSERT(status == 0); /* the signal pipe was made by uv_loop_init */
        loop->signals[i].data = loop;
        loop->handles_open++;
    }
    for (int i = 0; i < OS_LOOP_SIGNALS; i++) {
        int status = uv_signal_start(&loop->signals[i], os_loop__on_signal, watched_signals[i]);
        if (status < 0) {
            trace_error(loop->trace, "signal_watch_failed", "signal=%d reason=%s", watched_signals[i],
                        uv_err_name(status));
            return os__err_of_uv(status);
        }
    }
    return OK;
}

struct clock *os_loop_clock(struct os_loop *loop)
{
    return &loop->clock;
}

struct uv_loop_s *os_loop_uv(struct os_loop *loop)
{
    return loop->uv;
}

void os_loop_wake(struct os_loop *loop)
{
    int failed = uv_idle_start(&loop->idle, os_loop__on_idle); /* no-op when active */
    ASSERT(failed == 0);
}

void os_loop_run(struct os_loop *loop)
{
    while (!loop->stopping) {
        uv_run(loop->uv, UV_RUN_DEFAULT);
    }
    loop->stopping = false;
}

void os_loop_run_once(struct os_loop *loop)
{
    uv_run(loop->uv, UV_RUN_ONCE);
}

void os_loop_stop(struct os_loop *loop)
{
    loop->stopping = true;
    uv_stop(loop->uv);
}

void os_loop_close(struct os_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    ASSERT(loop->links_count == 0 && loop->listeners_count == 0 && loop->disks_count == 0);
    os_loop__close_handle(loop, (uv_handle_t *)&loop->prepare);
    os_loop__close_handle(loop, (uv_handle_t *)&loop->idle);
    os_loop__close_handle(loop, (uv_handle_t *)&loop->timer);
    for (int i = 0; loop->signals_watched && i < OS_LOOP_SIGNALS; i++) {
        os_loop__close_handle(loop, (uv_handle_t *)&loop->signals[i]);
    }
    if (loop->uv == &loop->own_uv) {
        while (uv_loop_alive(loop->uv)) { /* more than once after a late os_loop_stop */
            uv_run(loop->uv, UV_RUN_DEFAULT);
        }
        int busy = uv_loop_close(loop->uv);
        ASSERT(busy == 0 && loop->handles_open == 0);
        os_loop__free(loop);
    }
}
