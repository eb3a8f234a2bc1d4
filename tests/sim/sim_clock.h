/* Twin of port/clock: simulated time. Monotonic time starts near zero at every boot of the machine (a power cut resets
 * it, a process death does not); wall time is the world's plus a skew that may jump. */
#ifndef FLOTILLA_SIM_CLOCK_H
#define FLOTILLA_SIM_CLOCK_H

#include "port/clock.h"
#include "sim.h"

struct sim_clock {
    struct clock port;
    struct sim_world *world;
    uint64_t boot_us; /* world time at which monotonic time was zero */
    int64_t wall_skew_ms;
    void (*on_timer)(void *context);
    void *context;
    struct sim_event *armed;
    uint64_t deadline_us; /* of `armed` */
};

void sim_clock_init(struct sim_clock *clock, struct sim_world *world, void (*on_timer)(void *context), void *context);
void sim_clock_reboot(struct sim_clock *clock); /* monotonic time starts anew; disarms */
void sim_clock_disarm(struct sim_clock *clock);

#endif
