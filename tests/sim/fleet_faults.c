/* Trouble that comes by time and not at a call: machines that stand still, die together, lose power all at once; clocks
 * that are set; disks that are full for a while; the net's (fleet_net.c). Every class that the seed has strikes
 * once early on; afterwards they come as they are drawn. What begins here ends with the safety phase at the latest. */
#include "fleet.h"

#define STALL_CHANCE   0.002
#define DOWN_US_MAX    5000000u
#define PAUSE_US_MAX   30000000u
#define FULL_US_MAX    15000000u
#define ANY_CHANCE     0.3
#define FIRST_US       70000000u /* by then, every class has had its turn */
#define QUICK_US_LEAST 700000u
#define FULL_BYTES     ((uint64_t)2 << 20)

static struct rng *rng_of(struct fleet *fleet)
{
    return &fleet->world.crash;
}

static struct fleet_broker *any_broker(struct fleet *fleet)
{
    return &fleet->broker[rng_between(rng_of(fleet), 1, fleet->brokers)];
}

/* So long, and not longer than the phase. */
static uint64_t draw_us(struct fleet *fleet, uint64_t least_us, uint64_t most_us)
{
    uint64_t left_us = fleet->phase_until_us > fleet->world.now_us ? fleet->phase_until_us - fleet->world.now_us : 0;
    uint64_t for_us = sim_log_between(rng_of(fleet), least_us, most_us);
    return for_us < left_us ? for_us : left_us;
}

/* --- processes --- */

static bool kill(struct fleet_broker *b, bool power_cut)
{
    if (b->broker == NULL) {
        return false;
    }
    fleet_broker_bury(b, power_cut, sim_log_between(&b->world.crash, 1000, DOWN_US_MAX));
    return true;
}

static bool strike_one(struct fleet *fleet, enum sim_fault fault)
{
    struct fleet_broker *b = any_broker(fleet);
    bool struck = kill(b, fault == FAULT_POWER);
    if (struck) {
        world_fault(&b->world, fault);
    }
    return struck;
}

static bool strike_stop(struct fleet *fleet)
{
    struct fleet_broker *b = any_broker(fleet);
    if (!fleet_broker_is_up(b) || b->is_stopping) {
        return false;
    }
    world_fault(&b->world, FAULT_STOP);
    fleet_broker_stop(b);
    return true;
}

static bool strike_minority(struct fleet *fleet)
{
    struct rng *rng = rng_of(fleet);
    uint32_t spare = (fleet->options->replicas - 1) / 2, struck = 0;
    uint64_t first = rng_below(rng, fleet->brokers);
    bool power_cut = rng_chance(rng, 0.5);
    for (uint32_t i = 0; i < spare; i++) {
        struck += kill(&fleet->broker[1 + (first + i) % fleet->brokers], power_cut);
    }
    fleet->world.tally.faults[FAULT_MINORITY] += struck > 0;
    return struck > 0;
}

static bool strike_all(struct fleet *fleet)
{
    uint32_t struck = 0;
    for (uint32_t id = 1; id <= fleet->brokers; id++) {
        struck += kill(&fleet->broker[id], true);
    }
    fleet->world.tally.faults[FAULT_BLACKOUT] += struck > 0;
    return struck > 0;
}

static bool strike_pause(struct fleet *fleet)
{
    struct fleet_broker *b = any_broker(fleet);
    if (!fleet_broker_is_up(b)) {
        return false;
    }
    world_fault(&b->world, FAULT_PAUSE);
    fleet_broker_hold(b, draw_us(fleet, 10000, PAUSE_US_MAX));
    return true;
}

/* --- clocks and room --- */

static bool strike_clock(struct fleet *fleet, enum sim_fault fault)
{
    struct fleet_broker *b = any_broker(fleet);
    world_fault(&b->world, fault);
    if (fault == FAULT_WALL) {
        b->clock.wall_skew_ms = (int64_t)rng_between(rng_of(fleet), 0, 7200000) - 3600000;
    } else {
        sim_clock_draw_leap(&b->clock);
    }
    return true;
}

static void on_room(void *context, uint64_t argument)
{
    struct fleet_broker *b = context;
    (void)argument;
    sim_disk_set_room(b->disk, UINT64_MAX);
    sim_kv_set_full(b->kv, false);
    b->is_full = false;
}

static void fill_up(struct fleet_broker *b, struct rng *rng)
{
    world_fault(&b->world, FAULT_FULL);
    b->is_full = true;
    sim_disk_set_room(b->disk, sim_log_between(rng, 1, FULL_BYTES));
    sim_kv_set_full(b->kv, rng_chance(rng, 0.5));
}

/* One disk; or some, or all, that have filled up together. */
static bool strike_full(struct fleet *fleet)
{
    struct rng *rng = &fleet->damage;
    struct fleet_broker *b = any_broker(fleet);
    if (b->is_full) {
        return false;
    }
    fill_up(b, rng_of(fleet));
    uint64_t for_us = draw_us(fleet, 100000, FULL_US_MAX);
    world_at(&fleet->world, fleet->world.now_us + for_us, on_room, b, 0);
    double others = rng_chance(rng, 0.6) ? 0 : rng_chance(rng, 0.5) ? 0.5 : 1;
    for (uint32_t id = 1; id <= fleet->brokers && others > 0; id++) {
        struct fleet_broker *other = &fleet->broker[id];
        if (!other->is_full && rng_chance(rng, others)) {
            fill_up(other, rng);
            uint64_t in_us = for_us / 2 + rng_below(rng, for_us / 2 + 1);
            world_at(&fleet->world, fleet->world.now_us + in_us, on_room, other, 0);
        }
    }
    return true;
}

/* --- when --- */

static bool has_time(enum sim_fault fault)
{
    switch (fault) {
    case FAULT_DEATH:
    case FAULT_POWER:
    case FAULT_WALL:
    case FAULT_LEAP:
    case FAULT_FULL:
    case FAULT_STOP:
        return true;
    case FAULT_PAUSE:
    case FAULT_MINORITY:
    case FAULT_BLACKOUT:
    case FAULT_MOVE:
        return true;
    default:
        return fleet_net_has(fault) || fleet_registry_has(fault);
    }
}

static bool strike(struct fleet *fleet, enum sim_fault fault)
{
    switch (fault) {
    case FAULT_DEATH:
    case FAULT_POWER:
        return strike_one(fleet, fault);
    case FAULT_WALL:
    case FAULT_LEAP:
        return strike_clock(fleet, fault);
    case FAULT_FULL:
        return strike_full(fleet);
    case FAULT_STOP:
        return strike_stop(fleet);
    case FAULT_PAUSE:
        return strike_pause(fleet);
    case FAULT_MINORITY:
        return strike_minority(fleet);
    case FAULT_BLACKOUT:
        return strike_all(fleet);
    case FAULT_MOVE:
        return fleet_moves_strike(fleet);
    default:
        return fleet_registry_has(fault) ? fleet_registry_strike(fleet, fault) : fleet_net_strike(fleet, fault);
    }
}

/* Mostly one that did not strike yet; but some of them may have to wait for an occasion. */
static void strike_any(struct fleet *fleet, const enum sim_fault *drawn, uint32_t count)
{
    uint64_t at = rng_below(rng_of(fleet), count);
    bool is_any = rng_chance(rng_of(fleet), ANY_CHANCE);
    for (uint32_t i = 0; !is_any && i < count && fleet_has_struck(fleet, drawn[at]); i++) {
        at = (at + 1) % count;
    }
    if (has_time(drawn[at])) {
        (void)strike(fleet, drawn[at]);
    } else {
        fleet_urge(fleet, drawn[at]);
    }
}

/* Until all have struck they follow one another quickly enough for that. */
static void on_tick(void *context, uint64_t argument)
{
    struct fleet *fleet = context;
    struct rng *rng = rng_of(fleet);
    enum sim_fault drawn[FAULT_CLASSES_ALL];
    uint32_t count = 0, missing = 0;
    (void)argument;
    if (fleet->phase != FLEET_SAFETY) {
        return;
    }
    for (int i = 0; i < FAULT_CLASSES_ALL; i++) {
        enum sim_fault fault = (enum sim_fault)i;
        bool is_missing = !fleet_has_struck(fleet, fault);
        if (fleet->options->one.faults[i] && (has_time(fault) || (is_missing && fleet_urge_can(fault)))) {
            drawn[count++] = fault;
            missing += is_missing;
        }
    }
    if (count > 0) {
        strike_any(fleet, drawn, count);
    }
    uint64_t mean_us = fleet->options->fault_us, so_far_us = fleet->world.now_us - fleet->safety_us;
    if (missing > 0 && so_far_us < FIRST_US) {
        uint64_t quick_us = (FIRST_US - so_far_us) / missing;
        quick_us = quick_us > QUICK_US_LEAST ? quick_us : QUICK_US_LEAST;
        mean_us = mean_us < quick_us ? mean_us : quick_us;
    }
    world_at(&fleet->world, fleet->world.now_us + rng_between(rng, mean_us / 4, mean_us * 7 / 4), on_tick, fleet, 0);
}

void fleet_faults_begin(struct fleet *fleet)
{
    const bool *faults = fleet->options->one.faults;
    for (uint32_t id = 1; id <= fleet->brokers; id++) {
        struct fleet_broker *b = &fleet->broker[id];
        sim_disk_set_faults(b->disk, faults);
        sim_disk_raise_faults(b->disk);
        sim_disk_set_stall(b->disk, faults[FAULT_STALL] ? STALL_CHANCE : 0);
        if (faults[FAULT_POINT_DELAY]) {
            sim_points_plan_delays(&b->points);
        }
        fleet_broker_plan(b);
    }
    if (fleet->wire != NULL) {
        sim_wire_begin(fleet->wire);
    }
    fleet_registry_begin(fleet);
    world_at(&fleet->world, fleet->world.now_us + fleet->options->fault_us, on_tick, fleet, 0);
    fleet_damage_begin(fleet);
}
