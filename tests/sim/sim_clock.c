/* Simulated time for the broker: the armed deadline becomes an event of the world, a little late as a real loop's timer
 * would be. */
#include "sim_clock.h"

#include <string.h>

#define WALL_START_MS     1700000000000
#define TIMER_LATE_US_MAX 1200 /* a loop's timers have millisecond granularity */

static struct sim_clock *clock_of(struct clock *port)
{
    return (struct sim_clock *)port;
}

static uint64_t sim_now_us(struct clock *port)
{
    struct sim_clock *clock = clock_of(port);
    return clock->world->now_us - clock->boot_us;
}

static int64_t sim_wall_ms(struct clock *port)
{
    struct sim_clock *clock = clock_of(port);
    return WALL_START_MS + (int64_t)(clock->world->now_us / 1000) + clock->wall_skew_ms;
}

static void sim_random(struct clock *port, void *data, size_t size)
{
    struct sim_clock *clock = clock_of(port);
    uint8_t *out = data;
    while (size > 0) {
        uint64_t word = rng_next(&clock->world->disk);
        size_t part = size < sizeof word ? size : sizeof word;
        memcpy(out, &word, part);
        out += part;
        size -= part;
    }
}

static void on_deadline(void *context, uint64_t argument)
{
    struct sim_clock *clock = context;
    clock->armed = NULL;
    clock->on_timer(clock->context);
}

static void sim_arm(struct clock *port, uint64_t deadline_us)
{
    struct sim_clock *clock = clock_of(port);
    if (clock->armed != NULL && clock->deadline_us == deadline_us)
        return; /* the broker arms at the end of every turn */
    sim_clock_disarm(clock);
    if (deadline_us == UINT64_MAX)
        return;
    clock->deadline_us = deadline_us;
    uint64_t late_us = rng_below(&clock->world->link, TIMER_LATE_US_MAX);
    clock->armed = world_at(clock->world, clock->boot_us + deadline_us + late_us, on_deadline, clock, 0);
}

static const struct clock_ops clock_ops = {
    .now_us = sim_now_us, .wall_ms = sim_wall_ms, .random = sim_random, .arm = sim_arm};

void sim_clock_init(struct sim_clock *clock, struct sim_world *world, void (*on_timer)(void *context), void *context)
{
    *clock = (struct sim_clock){
        .port = {&clock_ops}, .world = world, .boot_us = world->now_us, .on_timer = on_timer, .context = context};
}

void sim_clock_disarm(struct sim_clock *clock)
{
    world_cancel(clock->world, clock->armed);
    clock->armed = NULL;
}

void sim_clock_reboot(struct sim_clock *clock)
{
    sim_clock_disarm(clock);
    clock->boot_us = clock->world->now_us > 500000 ? clock->world->now_us - 500000 : 0;
}
