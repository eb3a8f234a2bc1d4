/* One run of the fleet. The world steps from event to event; behind each one every broker that got something to do has
 * its turn, at once or a little later, so that several events share a turn as they do on a real loop. A broker to which
 * nothing happened is not looked at. */
#include "fleet_atlas.h"

#include <setjmp.h>
#include <string.h>

#include "base/assert.h"
#include "broker/impl.h"
#include "judge.h"
#include "sim_herald.h"
#include "sim_memory.h"

#define BIRTH_US_MAX    60000000u
#define QUIET_US_MAX    90000000u /* everything is read in it, too */
#define AUDIT_US_MAX    90000000u
#define CONVERGE_US_MAX 60000000u
#define REPAIR_US       10000000u /* to start, to catch up */
#define ELECTIONS_MAX   20u
#define EVENTS_MAX      20000000u
#define LATER_CHANCE    0.3
#define LOOK_US         10000u /* between two looks whether a phase is over */
#define LATER_US_MAX    200u

#define LOOK_EVERY_TURNS 32u

static const char *const phase_names[] = {"birth", "safety", "quiet", "proof", "audit", "converge", "end"};

/* --- turns and deaths --- */

static void turn(struct fleet_broker *b)
{
    world_enter(&b->world);
    broker_turn(b->broker);
    world_leave(&b->world);
}

static void take_turn(void *context, uint64_t argument)
{
    struct fleet_broker *b = context;
    (void)argument;
    b->turn = NULL;
    if (b->broker != NULL && !b->world.crashed) {
        turn(b);
    }
}

static void crash(struct fleet_broker *b)
{
    const bool *faults = b->fleet->options->one.faults;
    bool power = faults[FAULT_POWER] && (!faults[FAULT_DEATH] || rng_chance(&b->world.crash, 0.5));
    world_fault(&b->world, power ? FAULT_POWER : FAULT_DEATH);
    b->crashes_left -= b->crashes_left > 0 ? 1 : 0;
    fleet_broker_bury(b, power, b->is_lost ? UINT64_MAX : sim_log_between(&b->world.crash, 1000, 5000000));
}

static void after_event(struct fleet *fleet)
{
    for (uint32_t id = 1; id <= fleet->brokers; id++) {
        struct fleet_broker *b = &fleet->broker[id];
        bool was_touched = b->world.was_touched || fleet->world.was_touched;
        if (was_touched && b->broker != NULL && !b->world.crashed && !b->must_die && b->turn == NULL) {
            if (rng_chance(&b->world.link, LATER_CHANCE)) {
                b->turn =
                    world_at(&b->world, b->world.now_us + rng_below(&b->world.link, LATER_US_MAX), take_turn, b, 0);
            } else {
                turn(b);
            }
        }
        if (was_touched && b->broker != NULL && !b->world.crashed && !b->must_die) {
            judge_turn(fleet->judge, id);
            if (b->turns++ % LOOK_EVERY_TURNS == 0) {
                fleet_broker_look(b);
            }
        }
        b->world.was_touched = false;
        if (b->world.crashed) {
            crash(b);
        } else if (b->has_stopped) {
            fleet_broker_end_stop(b, b->is_lost ? UINT64_MAX : sim_log_between(&b->world.crash, 1000, 3000000));
        } else if (b->must_die) {
            fleet_broker_bury(b, false, b->is_lost ? UINT64_MAX : sim_log_between(&b->world.crash, 1000, 3000000));
        }
    }
    fleet->world.was_touched = false;
}

/* The next event and what the brokers make of it; false: there is none. An exit of a broker jumps back to here. */
static bool step(struct fleet *fleet)
{
    jmp_buf home;
    if (setjmp(home) != 0) {
        sim_memory_home(NULL);
        struct fleet_broker *b = &fleet->broker[fleet->short_of_memory];
        world_log(&b->world, "the broker exits for want of memory");
        b->exited = b->world.crashed = true;
        after_event(fleet);
        return true;
    }
    sim_memory_home(&home);
    bool more = world_step(&fleet->world);
    after_event(fleet);
    sim_memory_home(NULL);
    return more;
}

/* --- what the fleet is asked --- */

bool fleet_replica_on(const struct fleet *fleet, uint32_t number, uint64_t id)
{
    const struct registry_partition *wish = sim_registry_partition(fleet->registry, fleet->group[number]);
    return wish != NULL && registry_replica_on(wish, id) != NULL;
}

uint64_t fleet_leader(struct fleet *fleet, uint64_t group)
{
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        struct fleet_broker *b = &fleet->broker[id];
        struct partition *p = fleet_broker_is_up(b) ? groups_find(b->broker, group) : NULL;
        if (p != NULL && partition_leads(p)) {
            return id;
        }
    }
    return 0;
}

/* --- phases --- */

static void enter(struct fleet *fleet, enum fleet_phase phase, uint64_t within_us)
{
    world_judged(&fleet->world, JUDGE_L1);
    world_log(&fleet->world, "phase: %s", phase_names[phase]);
    fleet->phase = phase;
    fleet->phase_within_us = within_us;
    fleet->phase_until_us = fleet->world.now_us + within_us;
}

static bool is_born(struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->groups; i++) {
        if (fleet_leader(fleet, fleet->group[i]) == 0) {
            return false;
        }
    }
    return true;
}

static uint64_t proof_us(const struct fleet *fleet)
{
    return (uint64_t)fleet->options->election_ms * 1000 * ELECTIONS_MAX + REPAIR_US;
}

/* What the scrub has to find first takes as long as its rounds, and two askings for what is right. */
static uint64_t mend_us(const struct fleet *fleet)
{
    int64_t period_ms = fleet->options->one.scrub_period_ms;
    return fleet_atlas_has_any(fleet->atlas) && period_ms > 0 ? 3000 * (uint64_t)period_ms + REPAIR_US : 0;
}

static void begin_safety(struct fleet *fleet)
{
    enter(fleet, FLEET_SAFETY, fleet->options->one.load_us);
    fleet->safety_us = fleet->world.now_us;
    fleet->load_class->begin(fleet->load);
    fleet_faults_begin(fleet);
}

static void end_safety(struct fleet *fleet)
{
    fleet->acked = fleet->load_class->acked(fleet->load);
    fleet->faults_end_us = fleet->world.now_us;
    enter(fleet, FLEET_QUIET, QUIET_US_MAX + mend_us(fleet));
    fleet_core_draw(fleet);
    fleet->load_class->quiet(fleet->load);
}

/* What a leader believes of the others. */
static void tell_peers(const struct fleet_broker *b, const struct partition *p)
{
    struct members now;
    struct raft_peer_state peer;
    (void)roster_newest(&p->roster, &now);
    for (uint32_t i = 0; i < now.count; i++) {
        if (raft_peer_state(p->raft, now.member[i].replica, &peer)) {
            world_log(
                &b->world, "    replica %llu: match %llu next %llu probing %d snapshot %d active %d damaged %d full %d",
                (unsigned long long)now.member[i].replica, (unsigned long long)peer.match,
                (unsigned long long)peer.next, peer.probing, peer.in_snapshot, peer.active, peer.damaged, peer.full);
        }
    }
}

/* For people who read the story of a failure. */
static void tell_groups(struct fleet *fleet)
{
    for (uint32_t g = 0; g < fleet->groups && fleet->world.verbose; g++) {
        for (uint32_t id = 1; id <= fleet->brokers; id++) {
            struct fleet_broker *b = &fleet->broker[id];
            struct partition *p = b->broker != NULL ? groups_find(b->broker, fleet->group[g]) : NULL;
            if (p == NULL || p->raft == NULL) {
                world_log(&b->world, "group %llu: %s", (unsigned long long)fleet->group[g],
                          b->broker == NULL ? "down"
                          : p == NULL       ? "no replica"
                                            : "no core");
                continue;
            }
            world_log(
                &b->world,
                "group %llu: replica %llu role %d term %llu leader %llu last %llu commit %llu applied %llu window "
                "%llu+%u lost %d",
                (unsigned long long)p->group, (unsigned long long)p->replica, (int)raft_role(p->raft),
                (unsigned long long)raft_term(p->raft), (unsigned long long)raft_leader(p->raft),
                (unsigned long long)raft_last_index(p->raft), (unsigned long long)raft_commit_index(p->raft),
                (unsigned long long)p->applied_index, (unsigned long long)p->window.first_index, p->window.count,
                b->is_lost);
            tell_peers(b, p);
        }
    }
}

/* What the phase waits for; NULL: it is over and the next one was entered. */
static const char *phase_waits_for(struct fleet *fleet)
{
    const char *waits_for = "somebody";
    const struct fleet_load_class *load = fleet->load_class;
    switch (fleet->phase) {
    case FLEET_BIRTH:
        if (!is_born(fleet))
            return "a group has no leader";
        begin_safety(fleet);
        return NULL;
    case FLEET_QUIET:
        if (!load->is_quiet(fleet->load, &waits_for))
            return waits_for;
        load->prove(fleet->load);
        enter(fleet, FLEET_PROOF, proof_us(fleet));
        return NULL;
    case FLEET_PROOF:
        if (!load->is_proven(fleet->load, &waits_for))
            return waits_for;
        world_judged(&fleet->world, JUDGE_L2);
        load->audit(fleet->load);
        enter(fleet, FLEET_AUDIT, AUDIT_US_MAX + mend_us(fleet));
        return NULL;
    case FLEET_AUDIT:
        if (!load->is_audited(fleet->load, &waits_for))
            return waits_for;
        enter(fleet, FLEET_CONVERGE, CONVERGE_US_MAX + mend_us(fleet));
        return NULL;
    case FLEET_CONVERGE:
        if (!fleet_core_is_equal(fleet, &waits_for) || !fleet_registry_is_true(fleet, &waits_for))
            return waits_for;
        world_judged(&fleet->world, JUDGE_L2);
        enter(fleet, FLEET_END, 0);
        return NULL;
    case FLEET_SAFETY:
    case FLEET_END:
        break;
    }
    return NULL;
}

static void check_phase(struct fleet *fleet)
{
    struct sim_world *world = &fleet->world;
    if (fleet->phase == FLEET_SAFETY && world->now_us >= fleet->phase_until_us) {
        end_safety(fleet);
        return;
    }
    if (world->now_us < fleet->next_look_us)
        return;
    fleet->next_look_us = world->now_us + LOOK_US;
    fleet_registry_look(fleet);
    if (fleet->phase == FLEET_SAFETY)
        return;
    const char *waits_for = phase_waits_for(fleet);
    if (waits_for == NULL || world->now_us <= fleet->phase_until_us) {
        return;
    }
    if (fleet->phase != FLEET_BIRTH && fleet_core_write_off(fleet) > 0) { /* the others get their time without it */
        fleet->phase_until_us = world->now_us + fleet->phase_within_us;
    } else {
        tell_groups(fleet);
        world_fail(world, "L1", "phase %s: %s; %u replicas need a snapshot", phase_names[fleet->phase], waits_for,
                   fleet_core_lags(fleet));
    }
}

/* --- all of it --- */

static void on_sent(void *context, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size)
{
    judge_frame_out(((struct fleet *)context)->judge, from, to, bytes, size);
}

static void on_delivered(void *context, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size)
{
    judge_delivered(((struct fleet *)context)->judge, from, to, bytes, size);
}

static void add_topics(struct fleet *fleet)
{
    const struct fleet_options *o = fleet->options;
    for (uint32_t t = 0; t < o->topics; t++) {
        struct registry_topic wish;
        fleet_options_topic(o, t, &wish);
        uint64_t first = sim_registry_add(fleet->registry, &wish, o->brokers);
        for (uint32_t p = 0; p < wish.partitions_count; p++) {
            fleet->group[fleet->groups++] = first + p;
        }
    }
}

static void fleet_open(struct fleet *fleet, const struct fleet_options *o, bool verbose)
{
    memset(fleet, 0, sizeof *fleet);
    ASSERT(o->brokers >= 1 && o->brokers <= FLEET_BROKERS_MAX && o->groups <= FLEET_GROUPS_MAX);
    world_init(&fleet->world, o->one.seed);
    fleet->world.verbose = verbose;
    sim_memory_begin(&fleet->world);
    fleet->options = o;
    fleet->atlas = fleet_atlas_new(fleet);
    rng_seed(&fleet->damage, o->one.seed ^ 0xda3a6e5eedu);
    fleet->brokers = o->brokers;
    fleet->cables = sim_cables_new(&fleet->world, o->cable_us_max);
    if (fleet_net_has_wire(o)) {
        fleet->wire = sim_wire_new(&fleet->world, &o->wire, o->one.faults);
        sim_cables_set_wire(fleet->cables, fleet->wire, sim_wire_send);
    }
    fleet_registry_open(fleet);
    fleet->judge = judge_new(&fleet->world);
    if (fleet->wire != NULL && (o->one.faults[FAULT_REPLAY] || o->one.faults[FAULT_ASTRAY])) {
        judge_replays(fleet->judge);
    }
    const struct sim_cable_watcher watcher = {fleet, on_sent, on_delivered};
    sim_cables_watch(fleet->cables, &watcher);
    add_topics(fleet);
    fleet->load_class = o->is_simple ? &fleet_simple : &fleet_clients;
    for (uint32_t id = 1; id <= fleet->brokers; id++) {
        fleet_broker_open(fleet, id);
        fleet_broker_start_in(&fleet->broker[id], 0);
    }
    fleet->load = fleet->load_class->new (fleet);
    enter(fleet, FLEET_BIRTH, BIRTH_US_MAX);
}

static void fleet_close(struct fleet *fleet)
{
    for (uint32_t id = 1; id <= fleet->brokers; id++) {
        fleet_broker_close(&fleet->broker[id]);
    }
    fleet->load_class->free(fleet->load);
    judge_free(fleet->judge);
    fleet_atlas_free(fleet->atlas);
    world_done(&fleet->world);
    sim_cables_free(fleet->cables);
    if (fleet->wire != NULL) {
        sim_wire_free(fleet->wire);
    }
    sim_registry_free(fleet->registry);
    heralds_free(fleet->heralds);
    sim_memory_begin(NULL);
}

/* What makes a seed count for nothing, into the text; false: it counts. */
static bool is_void(const struct fleet *fleet, const struct sim_tally *tally, char *text, size_t size)
{
    const struct fleet_options *o = fleet->options;
    uint64_t seconds = (fleet->faults_end_us - fleet->safety_us) / 1000000;
    for (int i = 0; i < FAULT_CLASSES_ALL; i++) {
        if (o->one.faults[i] && tally->faults[i] == 0) {
            snprintf(text, size, "%s never struck", sim_fault_name((enum sim_fault)i));
            return true;
        }
    }
    snprintf(text, size, "%llu records acknowledged in %llu s", (unsigned long long)fleet->acked,
             (unsigned long long)seconds);
    return fleet->acked < seconds * FLEET_ACKED_PER_S_MIN;
}

static void sum_up(struct fleet *fleet, struct sim_result *result)
{
    *result = (struct sim_result){.failed = fleet->world.failed,
                                  .hash = fleet->world.hash,
                                  .simulated_us = fleet->world.now_us,
                                  .faults = fleet->world.faults_count,
                                  .tally = fleet->world.tally,
                                  .events = fleet->world.events_count,
                                  .unrecoverable = fleet->unrecoverable,
                                  .acked = fleet->load_class->acked(fleet->load)};
    for (uint32_t id = 1; id <= fleet->brokers; id++) {
        const struct fleet_broker *b = &fleet->broker[id];
        result->io_calls += b->world.io_calls;
        result->lives += b->life;
        for (int i = 0; i < FAULT_CLASSES_ALL; i++) {
            result->tally.faults[i] += b->world.tally.faults[i];
        }
        for (int i = 0; i < JUDGES_ALL; i++) {
            result->tally.judged[i] += b->world.tally.judged[i];
        }
        for (int i = 0; i < MARKS; i++) {
            result->marks[i] += b->marks[i];
        }
        for (int i = 0; i < POINTS; i++) {
            result->points.visits[i] += b->points.counts.visits[i];
            result->points.crashes[i] += b->points.counts.crashes[i];
            result->points.delays[i] += b->points.counts.delays[i];
        }
    }
    memcpy(result->check, fleet->world.failed_check, sizeof result->check);
    memcpy(result->text, fleet->world.failed_text, sizeof result->text);
    result->is_void = !result->failed && is_void(fleet, &result->tally, result->text, sizeof result->text);
}

void fleet_run(const struct fleet_options *options, bool verbose, struct sim_result *ret_result)
{
    static struct fleet fleet;
    struct sim_world *world = &fleet.world;
    fleet_open(&fleet, options, verbose);
    while (!world->failed && fleet.phase != FLEET_END && step(&fleet)) {
        if (!world->failed) {
            check_phase(&fleet);
        }
        if (world->events_count > EVENTS_MAX) {
            world_fail(world, "L1", "no end after %u events, phase %s", EVENTS_MAX, phase_names[fleet.phase]);
        }
    }
    if (!world->failed) {
        judge_final(fleet.judge);
    }
    sum_up(&fleet, ret_result);
    fleet_close(&fleet);
}
