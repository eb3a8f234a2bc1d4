/* Trouble of the registry, for which a fleet must be able to wait: it is away for a while, tells late and what is true
 * no more, loses what it is told, does not say what it did. Groups that have leaders go on; what was wished meanwhile
 * comes true afterwards (sim_herald.h). */
#include "base/assert.h"
#include "broker/impl.h"
#include "fleet.h"
#include "judge.h"
#include "sim_herald.h"

#define AWAY_US_LEAST   200000u
#define AWAY_US_MAX     15000000u
#define LATE_US_LEAST   100000u
#define LATE_US_MAX     5000000u
#define SHARE_MAX       0.05 /* of operations */
#define STALE_CHANCE    0.5
#define ONE_DEAF_CHANCE 0.3

void fleet_registry_draw(struct fleet_options *o)
{
    struct rng rng;
    bool *faults = o->one.faults;
    rng_seed(&rng, o->one.seed ^ 0x7e6157e4u);
    for (int i = FAULT_AWAY; i <= FAULT_DOUBT; i++) {
        faults[i] = rng_chance(&rng, 0.4);
    }
    o->registry = (struct sim_registry_trouble){.late_us_max = sim_log_between(&rng, LATE_US_LEAST, LATE_US_MAX),
                                                .stale = STALE_CHANCE,
                                                .lost = SHARE_MAX * (double)rng_below(&rng, 1001) / 1000,
                                                .twice = SHARE_MAX * (double)rng_below(&rng, 1001) / 1000,
                                                .doubt = SHARE_MAX * (double)rng_below(&rng, 1001) / 1000};
    if (o->brokers < 2 || o->replicas < 2) {
        faults[FAULT_NOTICE] = faults[FAULT_REPORT] = faults[FAULT_DOUBT] = false; /* hardly anything is said */
    }
    if (o->is_simple && (o->brokers == o->replicas || !faults[FAULT_MOVE])) {
        faults[FAULT_REPORT] = false; /* hardly anybody is born */
    }
    faults[FAULT_TOPICS] |= !o->is_simple && (faults[FAULT_REPORT] || faults[FAULT_DOUBT]);
}

void fleet_registry_begin(struct fleet *fleet)
{
    const struct fleet_options *o = fleet->options;
    sim_registry_begin(fleet->registry, &o->registry, o->one.faults, o->one.seed);
}

bool fleet_registry_has(enum sim_fault fault)
{
    return fault == FAULT_AWAY || fault == FAULT_REPORT || fault == FAULT_DOUBT;
}

/* --- away --- */

static void on_back(void *context, uint64_t id)
{
    struct fleet *fleet = context;
    if (fleet->phase != FLEET_SAFETY) {
        return; /* it is back already */
    }
    world_log(&fleet->world, "the registry is back, for broker %llu (0: all)", (unsigned long long)id);
    if (id == 0) {
        sim_registry_hold(fleet->registry, false);
    } else {
        sim_registry_deafen(fleet->registry, id, false);
    }
}

static bool strike_away(struct fleet *fleet)
{
    struct rng *rng = &fleet->world.crash;
    uint64_t left_us = fleet->phase_until_us > fleet->world.now_us ? fleet->phase_until_us - fleet->world.now_us : 0;
    uint64_t for_us = sim_log_between(rng, AWAY_US_LEAST, AWAY_US_MAX);
    uint64_t id = rng_chance(rng, ONE_DEAF_CHANCE) ? rng_between(rng, 1, fleet->brokers) : 0;
    if (sim_registry_is_away(fleet->registry)) {
        return false;
    }
    for_us = for_us < left_us ? for_us : left_us;
    world_fault(&fleet->world, FAULT_AWAY);
    world_log(&fleet->world, "the registry is away for %llu us, for broker %llu (0: all)", (unsigned long long)for_us,
              (unsigned long long)id);
    if (id == 0) {
        sim_registry_hold(fleet->registry, true);
    } else {
        sim_registry_deafen(fleet->registry, id, true);
    }
    world_at(&fleet->world, fleet->world.now_us + for_us, on_back, fleet, id);
    return true;
}

bool fleet_registry_strike(struct fleet *fleet, enum sim_fault fault)
{
    if (fault == FAULT_AWAY) {
        return strike_away(fleet);
    }
    ASSERT(fleet_registry_has(fault));
    sim_registry_strike(fleet->registry, fault);
    if (fault == FAULT_REPORT && fleet->options->one.faults[FAULT_MOVE] && !fleet_has_struck(fleet, fault)) {
        (void)fleet_moves_strike(fleet); /* so that there is something to report */
    }
    return true;
}

/* --- what is judged --- */

static void on_ended(void *context, uint64_t group)
{
    judge_deleted(((struct fleet *)context)->judge, group);
}

static void on_published(void *context, uint64_t group, uint64_t broker, uint64_t term)
{
    judge_published(((struct fleet *)context)->judge, group, broker, term);
}

static void on_taken(void *context, uint64_t by, uint64_t group, uint64_t leader, uint64_t term)
{
    struct fleet *fleet = context;
    struct herald_word word = {.group = group, .by = by, .leader = leader, .term = term};
    word.said_leader = sim_registry_leader(fleet->registry, group, &word.said_term);
    heralds_published(fleet->heralds, &word);
}

void fleet_registry_open(struct fleet *fleet)
{
    fleet->registry = sim_registry_new(&fleet->world);
    fleet->heralds = heralds_new(&fleet->world);
    const struct sim_registry_watcher watcher = {fleet, on_ended, on_published, on_taken};
    sim_registry_watch(fleet->registry, &watcher);
}

/* Whole, with a LEADER entry of its own among what is applied. */
static bool leads(const struct partition *p)
{
    return p->state == PARTITION_LIVE && !p->healing && p->raft != NULL && raft_role(p->raft) == RAFT_LEADER &&
           p->applied_term == raft_term(p->raft);
}

void fleet_registry_look(struct fleet *fleet)
{
    if (!sim_registry_is_away(fleet->registry)) {
        return;
    }
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        const struct fleet_broker *b = &fleet->broker[id];
        const struct partition *p = fleet_broker_is_up(b) ? b->broker->groups : NULL;
        for (; p != NULL; p = p->hh.next) {
            const struct herald_sight sight = {p->group, id, leads(p), partition_status(p) == OK};
            heralds_saw(fleet->heralds, &sight);
        }
    }
}

/* Z7. Who is lost may believe whatever it likes. */
bool fleet_registry_is_true(struct fleet *fleet, const char **ret_waits_for)
{
    for (uint32_t g = 0; g < fleet->groups; g++) {
        uint64_t leader = 0, term = 0;
        for (uint64_t id = 1; id <= fleet->brokers; id++) {
            const struct fleet_broker *b = &fleet->broker[id];
            const struct partition *p =
                fleet_core_has(fleet, id) && fleet_broker_is_up(b) ? groups_find(b->broker, fleet->group[g]) : NULL;
            if (p != NULL && partition_leads(p) && raft_term(p->raft) > term) {
                leader = id;
                term = raft_term(p->raft);
            }
        }
        if (!heralds_is_true(fleet->heralds, fleet->group[g], leader, term)) {
            snprintf(fleet->waits_for, sizeof fleet->waits_for,
                     "group %llu: the registry does not say that broker %llu leads in term %llu",
                     (unsigned long long)fleet->group[g], (unsigned long long)leader, (unsigned long long)term);
            *ret_waits_for = fleet->waits_for;
            return false;
        }
    }
    return true;
}
