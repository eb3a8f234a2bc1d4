/* The loop: one uv_loop_t, the real twin of port/clock.h, and the rhythm of the broker.
 *
 * One turn = callbacks of sockets and finished disk jobs, then `timer` if its moment has come, then `turn`, then
 * every link with queued output is written, then the loop sleeps in the kernel until something happens. All of it
 * on the thread that calls os_loop_run. A loop with nothing to do sleeps for ever: there is no periodic timer.
 *
 * libuv's timers have milliseconds: an armed deadline is rounded up, never down, so clock_now_us() >= deadline in
 * `timer`. clock_now_us() is read once a turn (at the first question after the sleep, and again before `timer`). */
#ifndef FLOTILLA_OS_LOOP_H
#define FLOTILLA_OS_LOOP_H

#include "base/err.h"
#include "base/trace.h"
#include "port/clock.h"

struct os_loop;
struct uv_loop_s;

struct os_loop_handler {
    void (*turn)(void *context);                      /* at the end of each turn; may be NULL */
    void (*timer)(void *context);                     /* the deadline of clock_arm has come; NULL if nobody arms */
    void (*signal)(void *context, int signal_number); /* SIGTERM, SIGINT or SIGHUP; see os_loop_watch_signals */
};

/* `uv`: the caller's libuv loop, which must outlive this one; NULL: a loop of our own. `trace` (may be NULL) is
 * borrowed until close, and used by everything that is opened on this loop. Ignores SIGPIPE in the whole process:
 * libuv writes to sockets without MSG_NOSIGNAL. ERR_TOO_MANY_FILES, ERR_NO_MEMORY, ERR_IO. */
enum err os_loop_open(struct uv_loop_s *uv, const struct trace *trace, struct os_loop **ret_loop);

/* Who is called; both are borrowed until close or the next call. Until set, nobody is. */
void os_loop_set_handler(struct os_loop *loop, const struct os_loop_handler *handler, void *context);

/* SIGTERM, SIGINT and SIGHUP come to `signal` instead of killing the process. */
enum err os_loop_watch_signals(struct os_loop *loop);

/* The port; valid until close. */
struct clock *os_loop_clock(struct os_loop *loop);

/* The libuv loop, for those who may include uv.h. */
struct uv_loop_s *os_loop_uv(struct os_loop *loop);

/* Another turn will follow without sleeping. For a turn that made work for itself. Loop thread only. */
void os_loop_wake(struct os_loop *loop);

/* Turns until os_loop_stop is called, which may be at any time on the loop thread; the turn at hand is finished. */
void os_loop_run(struct os_loop *loop);
void os_loop_stop(struct os_loop *loop);

/* One turn: handles what is ready, sleeping for it at most until the next event. For tests and tools. */
void os_loop_run_once(struct os_loop *loop);

/* Ends it; NULL is allowed. Links must have seen on_closed, and listeners and disks must have been closed, before.
 * A loop of our own is run until libuv let go of everything, then freed. With the caller's loop the memory goes
 * when the caller runs that loop once more. */
void os_loop_close(struct os_loop *loop);

#endif
