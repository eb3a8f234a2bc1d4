/* Simulated time for the broker: the armed deadline becomes an event of the world, a little late as a real loop's timer
 * would be. */
#include "sim_clock.h"

#include <string.h>

#include "base/limits.h"

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

static int64_t shape_error_ms(const struct sim_clock *clock)
{
    uint64_t now_us = clock->world->now_us;
    switch (clock->shape) {
    case SHAPE_OFFSET:
        return clock->amount;
    case SHAPE_DRIFT:
        return clock->amount * (int64_t)now_us / 1000000 / 1000;
    case SHAPE_WAVE: { /* of straight lines: up to amount, down to -amount, back */
        int64_t quarter = (int64_t)(clock->period_us / 4), at = (int64_t)(now_us % clock->period_us);
        int64_t height = at < quarter ? at : at < 3 * quarter ? 2 * quarter - at : at - 4 * quarter;
        return clock->amount * height / quarter;
    }
    case SHAPE_STAIRS:
        return -((int64_t)(now_us / 1000) % clock->amount);
    case SHAPE_TRUE:
        break;
    }
    return 0;
}

static int64_t wall_ms(const struct sim_clock *clock)
{
    return SIM_WALL_START_MS + (int64_t)(clock->world->now_us / 1000) + clock->wall_skew_ms + clock->leap_ms +
           shape_error_ms(clock);
}

/* Called for each look: the broker may follow the wall clock up to here and no further. */
static void note_look(struct sim_clock *clock)
{
    int64_t elapsed_ms = (int64_t)((clock->world->now_us - clock->life_us) / 1000) + 1;
    int64_t slack_ms = LOG_CLOCK_AHEAD_MS_MAX + elapsed_ms / LOG_CLOCK_DRIFT_PARTS;
    int64_t latest_ms = clock->life_wall_ms + elapsed_ms + slack_ms;
    if (latest_ms > clock->world->log_clock_max_ms) {
        clock->world->log_clock_max_ms = latest_ms;
    }
}

static int64_t sim_wall_ms(struct clock *port)
{
    struct sim_clock *clock = clock_of(port);
    note_look(clock);
    return wall_ms(clock);
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

void sim_clock_draw_shape(struct sim_clock *clock)
{
    struct rng *rng = &clock->world->clock;
    int64_t sign = rng_chance(rng, 0.5) ? 1 : -1;
    clock->world->tally.faults[FAULT_SHAPE]++;
    clock->shape = (enum sim_clock_shape)rng_between(rng, SHAPE_OFFSET, SHAPE_STAIRS);
    clock->period_us = sim_log_between(rng, 1000000, 100000000);
    if (clock->shape == SHAPE_OFFSET) {
        clock->amount = sign * (int64_t)sim_log_between(rng, 1, 86400000);
    } else if (clock->shape == SHAPE_DRIFT) {
        clock->amount = sign * (int64_t)rng_between(rng, 1, 500);
    } else {
        clock->amount = (int64_t)sim_log_between(rng, 10, 60000);
    }
}

void sim_clock_draw_leap(struct sim_clock *clock)
{
    static const int64_t day_ms = 86400000;
    const int64_t leaps_ms[] = {0, 0, day_ms, -day_ms, 365 * day_ms, -365 * day_ms};
    clock->leap_ms = leaps_ms[rng_below(&clock->world->clock, sizeof leaps_ms / sizeof leaps_ms[0])];
}

void sim_clock_new_life(struct sim_clock *clock)
{
    clock->life_us = clock->world->now_us;
    clock->life_wall_ms = wall_ms(clock);
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
