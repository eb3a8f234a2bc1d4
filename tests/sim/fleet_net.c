/* Trouble of the net that comes by time: who reaches whom (partitions of several shapes, both ways or one way), links
 * that break, addresses at which somebody else answers; and what single frames suffer, where a rate alone may never
 * draw it (sim_wire.h). */
#include "base/assert.h"
#include "fleet.h"

#define CUT_US_LEAST    50000u
#define CUT_US_MAX      15000000u
#define FLAP_US_LEAST   20000u
#define FLAP_US_MAX     3000000u
#define IDENTITY_US_MAX 10000000u
#define BRIDGE_BROKERS  3u /* the fewest that make one */
#define PAIR            16u

static struct rng *rng_of(struct fleet *fleet)
{
    return &fleet->world.crash;
}

/* So long, and not longer than the phase. */
static uint64_t draw_us(struct fleet *fleet, uint64_t least_us, uint64_t most_us)
{
    uint64_t left_us = fleet->phase_until_us > fleet->world.now_us ? fleet->phase_until_us - fleet->world.now_us : 0;
    uint64_t for_us = sim_log_between(rng_of(fleet), least_us, most_us);
    return for_us < left_us ? for_us : left_us;
}

/* --- cuts --- */

static void on_mended(void *context, uint64_t pair)
{
    struct fleet *fleet = context;
    if (fleet->phase == FLEET_SAFETY) {
        sim_cables_cut(fleet->cables, pair / PAIR, pair % PAIR, false);
    }
}

static void on_cut(void *context, uint64_t pair)
{
    struct fleet *fleet = context;
    if (fleet->phase == FLEET_SAFETY) {
        sim_cables_cut(fleet->cables, pair / PAIR, pair % PAIR, true);
    }
}

static void cut(struct fleet *fleet, uint64_t from, uint64_t to, uint64_t for_us)
{
    sim_cables_cut(fleet->cables, from, to, true);
    world_at(&fleet->world, fleet->world.now_us + for_us, on_mended, fleet, from * PAIR + to);
}

/* --- shapes --- */

enum shape { SHAPE_ALONE, SHAPE_SIZE, SHAPE_PAIRS, SHAPE_BROKERS, SHAPES };

struct partition_plan {
    enum shape shape;
    uint64_t alone, side; /* a bit for each broker of one side */
    bool outwards;
};

/* A side of a uniform size, at least one broker and not all. */
static uint64_t draw_side(struct rng *rng, uint32_t brokers)
{
    uint64_t side = 0, size = brokers > 1 ? rng_between(rng, 1, brokers - 1) : 0;
    while ((uint64_t)__builtin_popcountll(side) < size) {
        side |= (uint64_t)1 << rng_between(rng, 1, brokers);
    }
    return side;
}

static bool crosses(struct rng *rng, const struct partition_plan *plan, uint64_t from, uint64_t to)
{
    bool is_in = plan->side >> from & 1, leads_in = plan->side >> to & 1;
    switch (plan->shape) {
    case SHAPE_ALONE:
        return (plan->outwards ? from : to) == plan->alone;
    case SHAPE_SIZE:
    case SHAPE_BROKERS:
        return is_in && !leads_in;
    case SHAPE_PAIRS:
    case SHAPES:
        break;
    }
    return rng_chance(rng, 0.2);
}

/* Some cables, one way or both ways: those of one broker, of a side of uniform size, of brokers drawn one by one, or
 * any pairs. */
static bool strike_cut(struct fleet *fleet, enum sim_fault fault)
{
    struct rng *rng = rng_of(fleet);
    uint64_t for_us = draw_us(fleet, CUT_US_LEAST, CUT_US_MAX);
    struct partition_plan plan = {.shape = (enum shape)rng_below(rng, SHAPES),
                                  .alone = rng_between(rng, 1, fleet->brokers),
                                  .outwards = rng_chance(rng, 0.5)};
    uint32_t struck = 0;
    plan.side = plan.shape == SHAPE_BROKERS ? rng_next(rng) : draw_side(rng, fleet->brokers);
    for (uint64_t from = 1; from <= fleet->brokers; from++) {
        for (uint64_t to = 1; to <= fleet->brokers; to++) {
            if (from == to || !crosses(rng, &plan, from, to))
                continue;
            cut(fleet, from, to, for_us);
            if (fault == FAULT_CUT) {
                cut(fleet, to, from, for_us);
            }
            struck++;
        }
    }
    fleet->world.tally.faults[fault] += struck > 0;
    return struck > 0;
}

/* How far it is from one to the other, around the circle of brokers, always forwards. */
static uint32_t distance(const struct fleet *fleet, uint64_t from, uint64_t to)
{
    return (uint32_t)((to + fleet->brokers - from) % fleet->brokers);
}

/* A bridge: two halves that only one broker reaches. A ring: everybody reaches so many neighbours that it has a
 * majority with them, and no two of them the same one; three brokers reach one neighbour each, one way. */
static bool strike_shape(struct fleet *fleet, enum sim_fault fault)
{
    struct rng *rng = rng_of(fleet);
    uint32_t n = fleet->brokers;
    uint64_t for_us = draw_us(fleet, CUT_US_LEAST, CUT_US_MAX), first = rng_between(rng, 1, n);
    if (n < BRIDGE_BROKERS) {
        return false;
    }
    for (uint64_t from = 1; from <= n; from++) {
        for (uint64_t to = 1; to <= n; to++) {
            uint32_t forwards = distance(fleet, from, to), backwards = distance(fleet, to, from);
            uint32_t near = forwards < backwards ? forwards : backwards;
            uint32_t a = distance(fleet, first, from), b = distance(fleet, first, to); /* `first` is the bridge */
            bool is_bridged = a == 0 || b == 0 || (a <= n / 2) == (b <= n / 2);
            bool is_in_ring = n == BRIDGE_BROKERS ? forwards <= 1 : near <= (n + 2) / 4;
            if (from != to && !(fault == FAULT_BRIDGE ? is_bridged : is_in_ring)) {
                cut(fleet, from, to, for_us);
            }
        }
    }
    world_fault(&fleet->world, fault);
    return true;
}

/* One broker's cables, or one of them, are cut and mended until the time is over. */
static bool strike_flap(struct fleet *fleet)
{
    struct rng *rng = rng_of(fleet);
    uint64_t until_us = fleet->world.now_us + draw_us(fleet, CUT_US_LEAST, CUT_US_MAX);
    uint64_t period_us = sim_log_between(rng, FLAP_US_LEAST, FLAP_US_MAX), one = rng_between(rng, 1, fleet->brokers);
    uint64_t only = rng_chance(rng, 0.5) ? rng_between(rng, 1, fleet->brokers) : 0;
    bool outwards = rng_chance(rng, 0.7), inwards = !outwards || rng_chance(rng, 0.7);
    uint32_t struck = 0;
    for (uint64_t other = 1; other <= fleet->brokers; other++) {
        uint64_t at_us = fleet->world.now_us;
        if (other == one || (only != 0 && other != only))
            continue;
        for (; at_us + period_us <= until_us; at_us += period_us) {
            for (int way = 0; way < 2; way++) {
                uint64_t pair = way == 0 ? one * PAIR + other : other * PAIR + one;
                if (way == 0 ? outwards : inwards) {
                    world_at(&fleet->world, at_us, on_cut, fleet, pair);
                    world_at(&fleet->world, at_us + period_us / 2, on_mended, fleet, pair);
                    struck++;
                }
            }
        }
    }
    fleet->world.tally.faults[FAULT_FLAP] += struck > 0;
    return struck > 0;
}

/* --- links --- */

static bool strike_break(struct fleet *fleet)
{
    struct rng *rng = rng_of(fleet);
    uint64_t one = rng_between(rng, 1, fleet->brokers), other = rng_between(rng, 1, fleet->brokers);
    if (one == other || sim_cables_count(fleet->cables, one) == 0) {
        return false;
    }
    sim_cables_break(fleet->cables, one, other);
    world_fault(&fleet->world, FAULT_BREAK);
    return true;
}

static void on_own_address(void *context, uint64_t id)
{
    sim_cables_swap(((struct fleet *)context)->cables, id, id);
}

/* Counted as soon as somebody was misled: sim_cables_misled. */
static void on_misled(void *context, uint64_t before)
{
    struct fleet *fleet = context;
    fleet->world.tally.faults[FAULT_IDENTITY] += sim_cables_misled(fleet->cables) > before;
}

/* One broker's process ends, and another broker is at its address for a while; it comes back, but is not found. */
static bool strike_identity(struct fleet *fleet)
{
    struct rng *rng = rng_of(fleet);
    uint64_t id = rng_between(rng, 2, fleet->brokers), other = rng_between(rng, 2, fleet->brokers);
    uint64_t for_us = draw_us(fleet, CUT_US_MAX / 3, IDENTITY_US_MAX);
    struct fleet_broker *b = &fleet->broker[id];
    if (other == id || b->broker == NULL || !fleet_broker_is_up(&fleet->broker[other])) {
        return false; /* the one with the lowest id is dialled by nobody */
    }
    uint64_t before = sim_cables_misled(fleet->cables);
    sim_cables_swap(fleet->cables, id, other);
    fleet_broker_bury(b, false, sim_log_between(&b->world.crash, 1000, 1000000));
    world_at(&fleet->world, fleet->world.now_us + for_us, on_own_address, fleet, id);
    world_at(&fleet->world, fleet->world.now_us + for_us, on_misled, fleet, before);
    return true;
}

bool fleet_net_has(enum sim_fault fault)
{
    switch (fault) {
    case FAULT_CUT:
    case FAULT_ONE_WAY:
    case FAULT_BRIDGE:
    case FAULT_RING:
    case FAULT_FLAP:
    case FAULT_BREAK:
    case FAULT_IDENTITY:
    case FAULT_REPLAY:
    case FAULT_CLOG:
    case FAULT_FLIP:
    case FAULT_SEVER:
    case FAULT_ASTRAY:
        return true;
    default:
        return false;
    }
}

bool fleet_net_strike(struct fleet *fleet, enum sim_fault fault)
{
    switch (fault) {
    case FAULT_CUT:
    case FAULT_ONE_WAY:
        return strike_cut(fleet, fault);
    case FAULT_BRIDGE:
    case FAULT_RING:
        return strike_shape(fleet, fault);
    case FAULT_FLAP:
        return strike_flap(fleet);
    case FAULT_BREAK:
        return strike_break(fleet);
    case FAULT_IDENTITY:
        return strike_identity(fleet);
    default:
        ASSERT(fleet_net_has(fault));
        sim_wire_strike(fleet->wire, fault);
        return true;
    }
}

/* --- which seeds have what --- */

void fleet_net_draw(struct fleet_options *o)
{
    struct rng rng;
    bool *faults = o->one.faults;
    rng_seed(&rng, o->one.seed ^ 0x0cab1eu);
    sim_wire_draw(&o->wire, &rng);
    for (int i = FAULT_MOVE; i <= FAULT_ASTRAY; i++) {
        faults[i] = rng_chance(&rng, 0.3); /* each of them alone is as bad as most of the others together */
    }
    faults[FAULT_LATE] |= faults[FAULT_QUEUE]; /* a queue is never full where everything arrives at once */
    if (o->brokers < 2) {
        for (int i = FAULT_CUT; i <= FAULT_ASTRAY; i++) {
            faults[i] = false; /* there is nobody to be cut off from */
        }
    }
    if (o->brokers < BRIDGE_BROKERS) {
        faults[FAULT_BRIDGE] = faults[FAULT_RING] = faults[FAULT_IDENTITY] = false;
    }
    if (o->replicas < 2) {
        for (int i = FAULT_LOSS; i <= FAULT_ASTRAY; i++) {
            faults[i] = false; /* hardly a frame leaves */
        }
    }
    if (o->groups < 2) {
        faults[FAULT_ASTRAY] = false;
    }
}

bool fleet_net_has_wire(const struct fleet_options *o)
{
    bool has = false;
    for (int i = FAULT_LOSS; i <= FAULT_ASTRAY; i++) {
        has = has || o->one.faults[i];
    }
    return has;
}

void fleet_net_heal(struct fleet *fleet, uint64_t one, uint64_t other)
{
    sim_cables_cut(fleet->cables, one, other, false);
    sim_cables_swap(fleet->cables, one, one);
    if (fleet->wire != NULL) {
        sim_wire_heal(fleet->wire, one, other);
    }
}
