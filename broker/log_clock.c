/* A wall clock held against the monotonic one. */
#include "broker/log_clock.h"

#include <inttypes.h>

#include "base/limits.h"
#include "base/plant.h"

void log_clock_accept(struct log_clock *log_clock)
{
    log_clock->wall_ms = clock_wall_ms(log_clock->clock);
    log_clock->monotonic_us = clock_now_us(log_clock->clock);
    if (log_clock->ahead_ms != 0) {
        trace_info(log_clock->trace, "clock_accepted", "wall_ms=%" PRId64, log_clock->wall_ms);
        log_clock->ahead_ms = 0;
    }
}

void log_clock_init(struct log_clock *log_clock, struct clock *clock, const struct trace *trace)
{
    *log_clock = (struct log_clock){.clock = clock, .trace = trace};
    log_clock_accept(log_clock);
}

int64_t log_clock_now_ms(struct log_clock *log_clock)
{
    int64_t wall_ms = clock_wall_ms(log_clock->clock);
    int64_t elapsed_ms = (int64_t)((clock_now_us(log_clock->clock) - log_clock->monotonic_us) / 1000);
    int64_t expected_ms = log_clock->wall_ms + elapsed_ms;
    int64_t slack_ms = LOG_CLOCK_AHEAD_MS_MAX + elapsed_ms / LOG_CLOCK_DRIFT_PARTS;
    int64_t ahead_ms = wall_ms - expected_ms;
    if (ahead_ms <= slack_ms || PLANT(61)) {
        if (log_clock->ahead_ms != 0) {
            log_clock->ahead_ms = 0;
            trace_info(log_clock->trace, "clock_back", "wall_ms=%" PRId64, wall_ms);
        }
        return wall_ms;
    }
    if (log_clock->ahead_ms == 0) {
        trace_error(log_clock->trace, "clock_ahead",
                    "ahead_ms=%" PRId64 " meaning=\"not followed: nothing is deleted by it; SIGHUP if it is right\"",
                    ahead_ms);
    }
    log_clock->ahead_ms = ahead_ms;
    return expected_ms;
}
