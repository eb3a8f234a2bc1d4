/* Twin of port/clock: simulated time. Monotonic time starts near zero at every boot of the machine (a power cut resets
 * it, a process death does not); wall time is the world's, bent into a shape, plus a skew that may jump.
 *
 * A wall clock that runs ahead of the monotonic one while the broker runs must not be followed, since time deletes. So
 * each look at it moves world.log_clock_max_ms: the latest time that a log entry may carry by what was seen so far, had
 * the broker believed all it may believe. What a start finds is believed: nothing tells a wrong clock from a right one.
 */
#ifndef FLOTILLA_SIM_CLOCK_H
#define FLOTILLA_SIM_CLOCK_H

#include "port/clock.h"
#include "sim.h"

/* What the wall clock shows of `amount` ms: always off by it, drifting by parts per million, swinging around the truth,
 * standing still for that long and then catching up. */
enum sim_clock_shape { SHAPE_TRUE, SHAPE_OFFSET, SHAPE_DRIFT, SHAPE_WAVE, SHAPE_STAIRS };

#define SIM_WALL_START_MS 1700000000000 /* an undisturbed wall clock when the simulated time is 0 */

struct sim_clock {
    struct clock port;
    struct sim_world *world;
    uint64_t boot_us;     /* world time at which monotonic time was zero */
    int64_t wall_skew_ms; /* may be set at any time */
    int64_t leap_ms;      /* added to it; so too */
    enum sim_clock_shape shape;
    int64_t amount;
    uint64_t period_us;   /* of a wave */
    int64_t life_wall_ms; /* as it was when this life began */
    uint64_t life_us;     /* world time of that */
    void (*on_timer)(void *context);
    void *context;
    struct sim_event *armed;
    uint64_t deadline_us; /* of `armed` */
};

void sim_clock_init(struct sim_clock *clock, struct sim_world *world, void (*on_timer)(void *context), void *context);
void sim_clock_draw_shape(struct sim_clock *clock);
void sim_clock_draw_leap(struct sim_clock *clock); /* to another day or year, or back to what it should be */
void sim_clock_new_life(struct sim_clock *clock);  /* a broker is about to start and believes what it sees */
void sim_clock_reboot(struct sim_clock *clock);    /* monotonic time starts anew; disarms */
void sim_clock_disarm(struct sim_clock *clock);

#endif
