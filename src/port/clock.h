/* Port: time and chance. The broker reads no other clock and rolls no other dice.
 * Real twin: os/loop.c. Simulated twin: tests/sim/sim_clock.c. Loop thread only. */
#ifndef FLOTILLA_PORT_CLOCK_H
#define FLOTILLA_PORT_CLOCK_H

#include <stddef.h>
#include <stdint.h>

struct clock {
    const struct clock_ops *ops;
};

struct clock_ops {
    /* Monotonic microseconds since some fixed moment before the process started; constant within one loop turn is
     * allowed. */
    uint64_t (*now_us)(struct clock *clock);
    /* Milliseconds since 1970 as the machine believes; may jump. */
    int64_t (*wall_ms)(struct clock *clock);
    /* Random bytes that differ between lives: salts, ids. */
    void (*random)(struct clock *clock, void *data, size_t size);
    /* Ask for one call of the broker's timer at monotonic time `deadline_us` or soon after; replaces the earlier
     * request; UINT64_MAX = none. */
    void (*arm)(struct clock *clock, uint64_t deadline_us);
};

static inline uint64_t clock_now_us(struct clock *clock)
{
    return clock->ops->now_us(clock);
}
static inline int64_t clock_wall_ms(struct clock *clock)
{
    return clock->ops->wall_ms(clock);
}
static inline void clock_random(struct clock *clock, void *data, size_t size)
{
    clock->ops->random(clock, data, size);
}
static inline void clock_arm(struct clock *clock, uint64_t deadline_us)
{
    clock->ops->arm(clock, deadline_us);
}

#endif
