/* Choosing and counting at fault points. Crashes are planned for a few points at once, since most lives never come by
 * any single one of them: the first that is reached as often as drawn ends the life. */
#include "sim_point.h"

#include <string.h>

#include "base/assert.h"

#define POINTS_PER_LIFE_MAX 6
#define FIRST_VISITS_MAX    8u
#define VISITS_MAX          200u /* common points are visited thousands of times in a life, rare ones once */
#define DELAYED_ONE_IN      4
#define DELAY_US_LEAST      100u
#define DELAY_US_MOST       2000000u

const char *sim_point_name(enum point which)
{
    static const char *const names[] = {
#define SIM_POINT_NAME(name, text) text,
        POINT_TABLE(SIM_POINT_NAME) POINT_CLUSTER_TABLE(SIM_POINT_NAME)
#undef SIM_POINT_NAME
    };
    ASSERT((unsigned)which < POINTS);
    return names[which];
}

void sim_points_init(struct sim_points *points, struct sim_world *world, struct sim_disk *disk)
{
    *points = (struct sim_points){.world = world, .disk = disk, .kinds = POINTS_OF_ONE};
}

void sim_points_plan_delays(struct sim_points *points)
{
    struct rng *rng = &points->world->points;
    points->delay_us_max = sim_log_between(rng, DELAY_US_LEAST, DELAY_US_MOST);
    for (int i = 0; i < (int)points->kinds; i++) {
        bool is_delayed = rng_below(rng, DELAYED_ONE_IN) == 0;
        double chance = 1.0 / (double)sim_log_between(rng, 2, 2000);
        points->delay_chance[i] = is_delayed ? chance : 0;
    }
}

void sim_points_plan_crash(struct sim_points *points)
{
    struct rng *rng = &points->world->points;
    memset(points->crash_in, 0, sizeof points->crash_in);
    bool only_one = rng_chance(rng, 0.5); /* so that rare ones get their turn before a common one ends the life */
    uint64_t count = only_one ? 1 : rng_between(rng, 2, POINTS_PER_LIFE_MAX);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t which = rng_below(rng, points->kinds);
        points->crash_in[which] = (uint32_t)sim_log_between(rng, 1, only_one ? FIRST_VISITS_MAX : VISITS_MAX);
    }
    points->crash_in[POINT_WAL_REAPPENDED] = 1; /* so few lives come by it that none may be left out */
}

void sim_points_plan_soon(struct sim_points *points)
{
    struct rng *rng = &points->world->points;
    uint64_t first = rng_below(rng, points->kinds);
    for (uint64_t i = 0; i < points->kinds; i++) {
        uint64_t which = (first + i) % points->kinds;
        if (points->counts.visits[which] > 0) {
            points->crash_in[which] = (uint32_t)sim_log_between(rng, 1, FIRST_VISITS_MAX);
            return;
        }
    }
}

void sim_points_calm(struct sim_points *points)
{
    memset(points->crash_in, 0, sizeof points->crash_in);
    memset(points->delay_chance, 0, sizeof points->delay_chance);
}

void sim_points_visit(struct sim_points *points, enum point which)
{
    struct sim_world *world = points->world;
    if (world->crashed)
        return;
    points->counts.visits[which]++;
    if (points->crash_in[which] > 0 && --points->crash_in[which] == 0) {
        world_log(world, "crash at point %s", sim_point_name(which));
        points->counts.crashes[which]++;
        world_fault(world, FAULT_POINT_CRASH);
        world->crashed = true;
        return;
    }
    if (points->delay_chance[which] > 0 && rng_chance(&world->points, points->delay_chance[which])) {
        uint64_t delay_us = sim_log_between(&world->points, DELAY_US_LEAST, points->delay_us_max);
        points->counts.delays[which]++;
        world_fault(world, FAULT_POINT_DELAY);
        if (!sim_disk_delay(points->disk, delay_us)) {
            world_hold(world, delay_us);
        }
    }
}
