/* The time that log entries carry: what this machine believes, as long as it can be believed.
 *
 * Deleting by age cannot be undone, so a wall clock that runs away must not delete: a clock that is further ahead than
 * the monotonic clock since the start explains is not followed. Time then goes on with the monotonic clock, an alarm
 * stands (metric flotilla_clock_ahead_milliseconds, one log line), and it ends when the wall clock is back or an
 * operator says that the new time is right (SIGHUP). A clock that was wrong at the start cannot be told from a right
 * one. A clock that goes back is harmless: a group's log clock never does. */
#ifndef FLOTILLA_BROKER_LOG_CLOCK_H
#define FLOTILLA_BROKER_LOG_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/trace.h"
#include "port/clock.h"

struct log_clock {
    struct clock *clock;
    const struct trace *trace;
    int64_t wall_ms; /* at the start, or when it was last accepted */
    uint64_t monotonic_us;
    int64_t ahead_ms; /* by so much the wall clock is not believed; 0: it is */
};

void log_clock_init(struct log_clock *log_clock, struct clock *clock, const struct trace *trace);
int64_t log_clock_now_ms(struct log_clock *log_clock);
void log_clock_accept(struct log_clock *log_clock); /* the wall clock is right as it is now */

#endif
