/* The life of one run. The world steps from event to event; after each one the broker gets its turn, at once or a
 * little later so that several events share a turn, as they do on a real loop. */
#include "sim_run.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "broker/impl.h"
#include "broker/status.h"
#include "sim_atlas.h"
#include "sim_clock.h"
#include "sim_decay.h"
#include "sim_disk.h"
#include "sim_kv.h"
#include "sim_link.h"
#include "sim_load.h"
#include "sim_memory.h"
#include "sim_point.h"
#include "sim_rot.h"
#include "sim_watch.h"

#define QUIET_US_MAX       120000000u
#define PROOF_US_MAX       30000000u
#define AUDIT_US_MAX       120000000u
#define STOP_US_MAX        15000000u
#define SETTLE_US          20000000u  /* no write any more: every batch is vouched for */
#define SCRUB_US_MAX       150000000u /* behind two periods of the scrub */
#define STOP_LATE_US       8900000u
#define RECOVERY_CALLS_MAX 200u
#define EVENTS_MAX         5000000u
#define ALLOCATIONS_MAX    20000u

enum phase {
    PHASE_LOAD,
    PHASE_QUIET,
    PHASE_PROOF,
    PHASE_AUDIT,
    PHASE_SCRUB,
    PHASE_STOP,
    PHASE_SECOND_AUDIT,
    PHASE_THIRD_AUDIT,
    PHASE_LAST_STOP,
    PHASE_SETTLE,
    PHASE_ROT,
    PHASE_END
};

struct run {
    struct sim_world world;
    const struct sim_options *options;
    struct sim_disk_options disk_options;
    struct sim_disk *disk;
    struct kv *kv;
    struct sim_clock clock;
    struct sim_points points;
    struct sim_atlas atlas;
    struct sim_net_options net_options;
    struct sim_net *net;
    struct check *check;
    struct shadow *shadow;
    struct load *load;
    struct watch watch;
    struct room room;
    uint64_t turns;
    struct config config;
    struct trace trace;
    struct broker *broker; /* NULL: down */
    uint64_t life;
    uint32_t crashes_left;
    bool was_full;   /* in this life the disk was full for a while */
    bool rotten;     /* bytes on the disk were changed: what it holds is judged by what is served only */
    bool rotten_kv;  /* to refuse the start is the honest answer */
    bool dies_early; /* in this life a crash is planned for the first calls */
    bool was_ready;  /* in this life */
    bool was_ever_ready;
    bool must_die; /* the broker said fatal: its process ends */
    bool stopping, stopped;
    bool exited; /* it called _exit in the middle of something: what it left cannot be freed by broker_free */
    uint64_t stop_asked_us;
    struct sim_event *turn;
    enum phase phase;
    uint64_t phase_until_us;
    uint64_t calm_us; /* the faults ended */
};

static const char *const phase_names[] = {"load",         "quiet",       "proof",     "audit",  "scrub", "stop",
                                          "second audit", "third audit", "last stop", "settle", "rot",   "end"};

/* --- what the broker says --- */

static void on_ready(void *context)
{
    struct run *run = context;
    uint32_t inside = world_step_out(&run->world);
    if (!run->world.crashed) {
        world_log(&run->world, "ready, life %llu", (unsigned long long)run->life);
        run->was_ready = run->was_ever_ready = true;
        decay_ready(run->world.decay);
        load_broker_up(run->load, 1, run->life);
        if (run->phase > PHASE_AUDIT) {
            load_audit(run->load);
        }
    }
    world_step_in(&run->world, inside);
}

static void on_fatal(void *context, enum broker_exit code, const char *why)
{
    struct run *run = context;
    if (run->world.crashed)
        return;
    bool has_reason = sim_disk_broke(run->disk) || sim_memory_failed();
    room_exit(&run->room, has_reason);
    if (run->rotten_kv && code == BROKER_EXIT_UNREADABLE) {
        run->phase = PHASE_END;
    } else if (!has_reason || code != BROKER_EXIT_STORAGE) {
        world_fail(&run->world, "fatal", "the broker gives up with code %d: %s", (int)code, why);
    }
    run->must_die = true;
}

static void on_stopped(void *context)
{
    ((struct run *)context)->stopped = true;
}

static void on_trace(void *context, enum trace_level level, const char *line)
{
    struct run *run = context;
    world_log(&run->world, "        broker: %s", line);
    if (level == TRACE_ERROR && !run->rotten && !run->world.crashed) {
        decay_line(run->world.decay, line);
    }
}

static void on_point(void *context, unsigned which)
{
    struct run *run = context;
    sim_points_visit(&run->points, (enum point)which);
}

static bool on_kv_point(void *context, const char *point)
{
    struct run *run = context;
    bool is_commit = strncmp(point, "kv.commit", 9) == 0;
    if (is_commit) {
        world_log(&run->world, "    %s", point);
    }
    bool dies = !world_io(&run->world, is_commit ? SIM_IO_KV_COMMIT : SIM_IO_KV);
    if (!dies && strcmp(point, "kv.commit.after") == 0 && !run->rotten && rng_chance(&run->world.crash, 0.25)) {
        uint32_t inside = world_step_out(&run->world);
        shadow_check(run->shadow, rng_chance(&run->world.crash, 0.2));
        world_step_in(&run->world, inside);
    }
    return dies;
}

static enum err on_kv_error(void *context, const char *point)
{
    struct run *run = context;
    return sim_disk_kv_error(run->disk, point);
}

/* --- lives --- */

static void plan_crash(struct run *run)
{
    struct rng *rng = &run->world.crash;
    const struct sim_options *o = run->options;
    world_plan_crash(&run->world, SIM_IO_ANY, 0);
    run->dies_early = run->was_ready = false;
    if (run->phase != PHASE_LOAD)
        return;
    if (o->faults[FAULT_SYNC_ERROR] && rng_chance(rng, 0.3)) {
        sim_disk_plan_sync_error(run->disk, sim_log_between(rng, 1, o->crash_calls_max));
    }
    if (run->crashes_left > 0 && o->faults[FAULT_MEMORY] && rng_chance(&run->world.memory, 0.5)) {
        sim_memory_plan(sim_log_between(&run->world.memory, 1, ALLOCATIONS_MAX),
                        sim_log_between(&run->world.memory, 1, 20));
    }
    if (run->crashes_left > 0 && o->faults[FAULT_POINT_CRASH] && rng_chance(&run->world.points, 0.5)) {
        sim_points_plan_crash(&run->points);
    }
    if (run->crashes_left == 0 || !(o->faults[FAULT_DEATH] || o->faults[FAULT_POWER]))
        return;
    bool in_recovery = run->life > 1 && o->faults[FAULT_RECOVERY] && rng_chance(rng, 0.5);
    run->dies_early = in_recovery;
    uint64_t within = in_recovery ? RECOVERY_CALLS_MAX : o->crash_calls_max;
    if (rng_chance(rng, 0.6)) {
        world_plan_crash(&run->world, SIM_IO_ANY, rng_between(rng, 1, within));
    } else { /* the rare kinds drown among writes */
        enum sim_io kind = (enum sim_io)rng_below(rng, SIM_IO_KINDS);
        world_plan_crash(&run->world, kind, sim_log_between(rng, 1, within / 8 + 1));
    }
}

static void start(void *context, uint64_t argument);

static void plan_start(struct run *run, uint64_t in_us)
{
    world_at(&run->world, run->world.now_us + in_us, start, run, 0);
}

/* The process is gone, however it went. */
static void bury(struct run *run, bool power_cut)
{
    struct sim_world *world = &run->world;
    world_log(world, "%s, life %llu", power_cut ? "power cut" : "process death", (unsigned long long)run->life);
    world->crashed = true; /* nothing of the dead may do I/O */
    load_broker_down(run->load, 1);
    decay_down(run->world.decay);
    sim_clock_disarm(&run->clock);
    sim_net_kill(run->net);
    if (run->broker != NULL && !run->exited) {
        broker_free(run->broker);
    }
    run->broker = NULL;
    sim_net_forget(run->net);
    sim_memory_new_life();
    world_cancel(world, run->turn);
    run->turn = NULL;
    if (!world->failed && !run->rotten) {
        shadow_check(run->shadow, true);
    }
    if (power_cut) {
        sim_disk_power_cut(run->disk);
        sim_clock_reboot(&run->clock);
    } else {
        sim_disk_process_death(run->disk);
    }
    sim_kv_crash(run->kv, !power_cut);
    sim_kv_restart(run->kv);
    shadow_new_life(run->shadow);
    watch_new_life(&run->watch);
    room_new_life(&run->room);
    world->crashed = false;
    run->must_die = run->stopping = run->stopped = run->exited = false;
    run->was_full = sim_disk_is_limited(run->disk);
    plan_start(run, sim_log_between(&world->crash, 1000, 3000000));
}

static void crash(struct run *run)
{
    const struct sim_options *o = run->options;
    bool power = o->faults[FAULT_POWER] && (!o->faults[FAULT_DEATH] || rng_chance(&run->world.crash, 0.5));
    world_fault(&run->world, power ? FAULT_POWER : FAULT_DEATH);
    run->world.tally.faults[FAULT_RECOVERY] += run->dies_early && !run->was_ready;
    run->crashes_left -= run->crashes_left > 0 ? 1 : 0;
    bury(run, power);
}

/* Groups that began with a row that decayed are damaged from that start on, and those that were given up. */
static void write_off(struct run *run)
{
    uint32_t count;
    uint64_t given_up;
    while ((given_up = decay_take_given_up(run->world.decay)) != 0) {
        load_write_off(run->load, given_up);
    }
    const struct decay_item *items = decay_items(run->world.decay, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (items[i].is_lost) {
            load_write_off(run->load, items[i].group);
        }
    }
}

static void start(void *context, uint64_t argument)
{
    struct run *run = context;
    struct sim_world *world = &run->world;
    run->life++;
    sim_clock_new_life(&run->clock);
    decay_start(run->world.decay);
    write_off(run);
    plan_crash(run);
    const struct broker_options options = {.config = &run->config,
                                           .disk = sim_disk_port(run->disk),
                                           .clock = &run->clock.port,
                                           .kv = run->kv,
                                           .trace = &run->trace,
                                           .context = run,
                                           .on_ready = on_ready,
                                           .on_fatal = on_fatal,
                                           .on_stopped = on_stopped};
    world_log(world, "start, life %llu", (unsigned long long)run->life);
    world_enter(world);
    enum err error = broker_new(&options, &run->broker);
    world_leave(world);
    world_judged(world, JUDGE_S11);
    if (error == OK)
        return;
    run->broker = NULL;
    if (world->crashed)
        return; /* the run's loop buries it */
    run->must_die = true;
    if (run->rotten_kv && error == ERR_FORMAT) {
        run->phase = PHASE_END;
        return;
    }
    /* Nothing was set aside yet before the first start came to its end. */
    bool is_full = error == ERR_STORAGE_FULL && run->was_full && (run->room.is_store_full || !run->was_ever_ready);
    if (!is_full && !sim_disk_erred(run->disk) && !sim_memory_failed()) {
        world_fail(world, "S11", "life %llu does not start: %s", (unsigned long long)run->life, err_name(error));
    }
}

static void ask_to_stop(struct run *run)
{
    run->stopping = true;
    run->stop_asked_us = run->world.now_us;
    broker_stop(run->broker); /* allocates nothing */
}

/* --- the loop's part --- */

static void turn(struct run *run)
{
    world_enter(&run->world);
    broker_turn(run->broker);
    world_leave(&run->world);
}

static void take_turn(void *context, uint64_t argument)
{
    struct run *run = context;
    run->turn = NULL;
    if (run->broker != NULL && !run->world.crashed) {
        turn(run);
    }
}

static void on_timer(void *context)
{
    struct run *run = context;
    if (run->broker != NULL && !run->world.crashed) {
        world_enter(&run->world);
        broker_timer(run->broker);
        world_leave(&run->world);
    }
}

static void on_accept(void *context, struct link *link)
{
    struct run *run = context;
    ASSERT(run->broker != NULL);
    broker_accept(run->broker, link);
}

#define LOOK_EVERY_TURNS 16u
/* What failed by a fault is tried again every second; only then is the broker at rest. */
#define REST_US          ((uint64_t)4 * 1000 * 1000)

static void look(struct run *run, bool is_at_rest)
{
    struct status_broker status;
    status_read(run->broker, &status);
    const struct watch_facts facts = {.memory_bytes = status.memory_bytes,
                                      .memory_budget_bytes = status.memory_budget_bytes,
                                      .inflight_bytes = status.inflight_bytes,
                                      .inflight_budget_bytes = run->config.inflight_bytes,
                                      .wal_used_bytes = status.wal_used_bytes,
                                      .wal_budget_bytes = status.wal_budget_bytes,
                                      .wal_file_bytes = run->config.wal_file_bytes,
                                      .starts = run->life,
                                      .is_at_rest = is_at_rest,
                                      .sync_failed = sim_disk_sync_failed(run->disk)};
    run->world.wal_files = status.wal_used_bytes / run->config.wal_file_bytes;
    watch_look(&run->watch, &facts);
}

static void after_event(struct run *run)
{
    if (run->broker != NULL && !run->world.crashed && run->turns++ % LOOK_EVERY_TURNS == 0) {
        look(run, false);
    }
    if (run->broker == NULL || run->world.crashed || run->turn != NULL)
        return;
    if (rng_chance(&run->world.link, 0.7)) {
        turn(run);
    } else {
        run->turn = world_at(&run->world, run->world.now_us + rng_below(&run->world.link, 200), take_turn, run, 0);
    }
}

/* --- faults by time --- */

static void make_room(struct run *run)
{
    sim_disk_set_room(run->disk, UINT64_MAX);
    sim_kv_set_full(run->kv, false);
    room_lift(&run->room);
}

static void on_room(void *context, uint64_t argument)
{
    make_room(context);
}

static void fill_up(struct run *run)
{
    struct rng *rng = &run->world.crash;
    world_fault(&run->world, FAULT_FULL);
    run->was_full = true;
    sim_disk_set_room(run->disk, sim_log_between(rng, 1, 2 << 20));
    bool is_store_full = rng_chance(rng, 0.5);
    sim_kv_set_full(run->kv, is_store_full);
    room_limit(&run->room, is_store_full);
    world_at(&run->world, run->world.now_us + sim_log_between(rng, 100000, 20000000), on_room, run, 0);
}

static void decay_a_row(struct run *run)
{
    static const char types[] = "GMED";
    char type = types[rng_below(&run->world.media, sizeof types - 1)];
    uint64_t group = load_draw_group(run->load, &run->world.media);
    if (group != 0) {
        sim_rot_running_row(&run->world, run->kv, type, group, true, 2, run->world.decay);
    }
}

static void on_fault_tick(void *context, uint64_t argument)
{
    struct run *run = context;
    struct sim_world *world = &run->world;
    const struct sim_options *o = run->options;
    if (run->phase != PHASE_LOAD)
        return;
    if (o->faults[FAULT_WALL]) {
        run->clock.wall_skew_ms = (int64_t)rng_between(&world->crash, 0, 7200000) - 3600000;
        world_fault(world, FAULT_WALL);
    }
    if (o->faults[FAULT_RUST] && !world->crashed && rng_chance(&world->media, 0.5)) {
        sim_atlas_wound(&run->atlas, 2);
    }
    if (o->faults[FAULT_RUST] && !world->crashed && rng_chance(&world->media, 0.15)) {
        decay_a_row(run);
    }
    if (o->faults[FAULT_LEAP] && rng_chance(&world->clock, 0.5)) {
        sim_clock_draw_leap(&run->clock);
        world_fault(world, FAULT_LEAP);
    }
    if (o->faults[FAULT_FULL] && !sim_disk_is_limited(run->disk) && rng_chance(&world->crash, 0.3)) {
        fill_up(run);
    }
    bool may_crash = o->faults[FAULT_DEATH] || o->faults[FAULT_POWER];
    if (run->broker != NULL && !world->crashed && run->crashes_left > 0) {
        if (o->faults[FAULT_STOP] && !run->stopping && rng_chance(&world->crash, 0.4)) {
            world_fault(world, FAULT_STOP);
            ask_to_stop(run);
        } else if (may_crash && rng_chance(&world->crash, 0.4)) { /* not at a call: between events */
            world->crashed = true;
        }
    }
    uint64_t in_us = rng_between(&world->crash, o->load_us / 40, o->load_us / 4);
    world_at(world, world->now_us + in_us, on_fault_tick, run, 0);
}

/* --- phases --- */

static void enter(struct run *run, enum phase phase, uint64_t within_us)
{
    world_judged(&run->world, JUDGE_L1);
    world_log(&run->world, "phase: %s", phase_names[phase]);
    run->phase = phase;
    run->phase_until_us = run->world.now_us + within_us;
}

static void end_of_load(struct run *run)
{
    enter(run, PHASE_QUIET, QUIET_US_MAX);
    decay_calm(run->world.decay);
    world_plan_crash(&run->world, SIM_IO_ANY, 0);
    sim_disk_plan_sync_error(run->disk, 0);
    run->calm_us = sim_disk_calm(run->disk);
    sim_points_calm(&run->points);
    sim_memory_calm();
    make_room(run);
    run->net_options.slow_reader = false;
    sim_net_set(run->net, &run->net_options);
    load_quiet(run->load);
    if (decay_has_withheld(run->world.decay, 0)) { /* somebody starts it anew: what failed works now */
        run->must_die = true;
    }
}

/* A clean stop came to its end: the process exits; then, sometimes, the machine loses power as well. */
static void finish_stop(struct run *run)
{
    world_log(&run->world, "stopped, life %llu", (unsigned long long)run->life);
    /* At its deadline a stop ends whatever is still open. */
    bool is_late = run->world.now_us - run->stop_asked_us >= STOP_LATE_US;
    if (!is_late && sim_net_links(run->net) != 0) {
        world_fail(&run->world, "leak", "%zu connections are open after on_stopped", sim_net_links(run->net));
    }
    load_broker_down(run->load, 1);
    sim_clock_disarm(&run->clock);
    broker_free(run->broker);
    run->broker = NULL;
    if (run->phase == PHASE_STOP || run->phase == PHASE_LAST_STOP) {
        shadow_resting(run->shadow);
    }
    if (sim_disk_open_files(run->disk) != 0) {
        world_fail(&run->world, "leak", "%zu files are open after broker_free", sim_disk_open_files(run->disk));
    }
    bury(run, rng_chance(&run->world.crash, 0.5));
}

/* The broker rests, and something decays: a batch of the log, a row, a segment. */
static void decay_at_rest(struct run *run)
{
    static const char types[] = "BGMEDSR";
    struct rng *rng = &run->world.media;
    uint64_t draw = rng_below(rng, 3);
    if (draw == 0) {
        sim_rot_running_wal(&run->world, run->disk, run->world.decay);
        shadow_rotten(run->shadow, true);
    } else if (draw == 1) {
        char type = types[rng_below(rng, sizeof types - 1)];
        sim_rot_running_row(&run->world, run->kv, type, rng_below(rng, 50), false, 1, run->world.decay);
    } else {
        sim_atlas_wound(&run->atlas, 1);
    }
}

/* The broker stops and starts once more; or it rests until every batch is vouched for, dies, and finds rotten bytes. */
static void after_scrub(struct run *run)
{
    shadow_rotten(run->shadow, false); /* by now nobody needs what is bad */
    if (run->options->faults[FAULT_ROT]) {
        enter(run, PHASE_SETTLE, SETTLE_US);
    } else {
        ask_to_stop(run);
        enter(run, PHASE_STOP, STOP_US_MAX);
    }
}

/* After the audit the scrub has to find what decayed. */
static void after_audit(struct run *run)
{
    uint64_t period_us = (uint64_t)run->options->scrub_period_ms * 1000;
    look(run, !decay_has_lost(run->world.decay, 0)); /* what is left of a lost group's log stays while there is room */
    if (run->options->scrub_period_ms > 0 && run->options->faults[FAULT_RUST]) {
        decay_at_rest(run);
        enter(run, PHASE_SCRUB, 2 * period_us + SCRUB_US_MAX);
    } else {
        after_scrub(run);
    }
}

static void rot(struct run *run)
{
    bury(run, false);
    run->rotten = true;
    struct disk *disk = sim_disk_port(run->disk);
    uint64_t draw = rng_below(&run->world.crash, 10);
    if (draw < 2) {
        run->rotten_kv = sim_rot_checkpoint(&run->world, run->kv);
    } else if (draw < 5 && sim_rot_wal(&run->world, disk, sim_disk_shadow(run->disk), run->check)) {
        world_fault(&run->world, FAULT_ROT);
    } else if (draw < 7 && sim_rot_segment(&run->world, disk, run->check)) {
        world_fault(&run->world, FAULT_ROT);
    } else {
        sim_disk_rot(run->disk);
    }
    load_rotten(run->load);
    enter(run, PHASE_ROT, AUDIT_US_MAX);
}

/* What the phase waits for; NULL: it is over and the next one was entered. */
static const char *phase_waits_for(struct run *run)
{
    const char *waits_for = "the log is never read to its end";
    bool up = run->broker != NULL && !run->stopping;
    bool audited = up && load_has_audited(run->load);
    switch (run->phase) {
    case PHASE_QUIET:
        if (!up || !load_is_quiet(run->load, &waits_for))
            return waits_for;
        load_prove(run->load);
        enter(run, PHASE_PROOF, PROOF_US_MAX);
        return NULL;
    case PHASE_PROOF:
        if (!load_is_proven(run->load, &waits_for))
            return waits_for;
        load_audit(run->load);
        enter(run, PHASE_AUDIT, AUDIT_US_MAX);
        return NULL;
    case PHASE_AUDIT:
        if (audited && checkpoint_is_delayed(run->broker)) /* a last block that is bad is tried for some seconds */
            run->calm_us = run->world.now_us;
        if (!audited || run->world.now_us < run->calm_us + REST_US)
            return waits_for;
        after_audit(run);
        return NULL;
    case PHASE_SCRUB:
        if (!decay_is_settled(run->world.decay))
            return "what decayed is not found";
        after_scrub(run);
        return NULL;
    case PHASE_STOP:
        if (up || run->broker != NULL)
            return "a clean stop does not end";
        enter(run, PHASE_SECOND_AUDIT, AUDIT_US_MAX);
        return NULL;
    case PHASE_SECOND_AUDIT: /* and once more from wherever it is now: S11 */
        if (!audited)
            return waits_for;
        bury(run, rng_chance(&run->world.crash, 0.5));
        enter(run, PHASE_THIRD_AUDIT, AUDIT_US_MAX);
        return NULL;
    case PHASE_THIRD_AUDIT:
        if (!audited)
            return waits_for;
        ask_to_stop(run);
        enter(run, PHASE_LAST_STOP, STOP_US_MAX);
        return NULL;
    case PHASE_LAST_STOP:
        if (up || run->broker != NULL)
            return "a clean stop does not end";
        enter(run, PHASE_END, 0);
        return NULL;
    case PHASE_ROT:
        if (!audited)
            return waits_for;
        enter(run, PHASE_END, 0);
        return NULL;
    case PHASE_LOAD:
    case PHASE_SETTLE:
    case PHASE_END:
        break;
    }
    return NULL;
}

static void check_phase(struct run *run)
{
    struct sim_world *world = &run->world;
    if (!run->rotten) {
        decay_look(world->decay);
        write_off(run);
    }
    bool is_over = world->now_us >= run->phase_until_us;
    if (run->phase == PHASE_LOAD && is_over) {
        end_of_load(run);
    } else if (run->phase == PHASE_SETTLE && is_over) {
        rot(run);
    } else {
        const char *waits_for = phase_waits_for(run);
        if (waits_for != NULL && world->now_us > run->phase_until_us) {
            world_fail(world, "L1", "phase %s: %s", phase_names[run->phase], waits_for);
        }
    }
}

/* --- all of it --- */

static void run_open(struct run *run, const struct sim_options *o, bool verbose)
{
    memset(run, 0, sizeof *run);
    world_init(&run->world, o->seed);
    sim_memory_begin(&run->world);
    run->world.verbose = verbose;
    run->options = o;
    run->crashes_left = o->crashes;
    run->kv = sim_kv_new(&(struct sim_kv_options){.fault = on_kv_point, .error = on_kv_error, .context = run});
    run->check = check_new(&run->world);
    run->world.decay = decay_new(&run->world, o->scrub_period_ms > 0 ? (uint64_t)o->scrub_period_ms * 1000 : 0);
    if (sim_options_expire(o)) {
        check_producers_expire(run->check);
    }
    run->disk_options = (struct sim_disk_options){.job_us_max = o->job_us_max,
                                                  .stall = o->faults[FAULT_STALL] ? 0.002 : 0,
                                                  .stall_us_max = 8000000,
                                                  .cut = o->cut,
                                                  .on_synced = shadow_on_synced};
    run->disk = sim_disk_new(&run->world, &run->disk_options);
    sim_disk_set_faults(run->disk, o->faults);
    watch_init(&run->watch, &run->world);
    run->shadow = shadow_new(&run->world, run->disk, run->kv, run->check);
    sim_disk_set_context(run->disk, run->shadow);
    sim_clock_init(&run->clock, &run->world, on_timer, run);
    if (o->faults[FAULT_SHAPE]) {
        sim_clock_draw_shape(&run->clock);
    }
    run->net_options = (struct sim_net_options){.delay_us_max = o->delay_us_max,
                                                .split = o->faults[FAULT_SPLIT],
                                                .slow_reader = o->faults[FAULT_SLOW_READER],
                                                .context = run,
                                                .accept = on_accept};
    run->net = sim_net_new(&run->world, &run->net_options);
    room_init(&run->room, &run->world,
              o->faults[FAULT_STALL] || o->faults[FAULT_POINT_DELAY] || o->faults[FAULT_LATENCY]);
    const struct load_parts parts = {.world = &run->world,
                                     .options = o,
                                     .nets = &run->net,
                                     .brokers_count = 1,
                                     .check = run->check,
                                     .shadow = run->shadow,
                                     .room = &run->room};
    run->load = load_new(&parts);
    run->atlas = (struct sim_atlas){.world = &run->world,
                                    .disk = run->disk,
                                    .ledger = check_ledger(run->check),
                                    .decay = run->world.decay,
                                    .witness = load_witness,
                                    .context = run->load};
    run->world.atlas = &run->atlas;
    run->net_options.reply_context = load_reply_context(run->load, 1);
    run->net_options.on_reply = load_on_reply;
    sim_net_set(run->net, &run->net_options);
    sim_options_config(o, &run->config);
    run->trace = (struct trace){.level = TRACE_DEBUG, .sink = on_trace, .context = run, .point = on_point};
    sim_points_init(&run->points, &run->world, run->disk);
    if (o->faults[FAULT_POINT_DELAY]) {
        sim_points_plan_delays(&run->points);
    }
    if (!verbose) {
        run->trace.level = TRACE_ERROR;
    }
}

static void run_close(struct run *run)
{
    run->world.crashed = true;
    sim_net_kill(run->net);
    if (run->broker != NULL) {
        broker_free(run->broker);
    }
    load_free(run->load);
    sim_net_free(run->net);
    shadow_free(run->shadow);
    sim_disk_free(run->disk);
    sim_kv_free(run->kv);
    check_free(run->check);
    decay_free(run->world.decay);
    world_done(&run->world);
}

/* The next event and what the broker makes of it; false: there is none. An exit of the broker jumps back to here. */
static bool step(struct run *run)
{
    jmp_buf home;
    if (setjmp(home) != 0) {
        sim_memory_home(NULL);
        world_log(&run->world, "the broker exits for want of memory");
        run->exited = run->world.crashed = true;
        return true;
    }
    sim_memory_home(&home);
    bool more = world_step(&run->world);
    after_event(run);
    sim_memory_home(NULL);
    return more;
}

static void live(struct run *run)
{
    struct sim_world *world = &run->world;
    while (!world->failed && run->phase != PHASE_END && step(run)) {
        if (world->failed)
            break;
        if (world->crashed) {
            crash(run);
        } else if (run->must_die) {
            bury(run, false);
        } else if (run->stopped) {
            finish_stop(run);
        }
        check_phase(run);
        if (world->events_count > EVENTS_MAX) {
            world_fail(world, "L1", "no end after %u events, phase %s", EVENTS_MAX, phase_names[run->phase]);
        }
    }
}

void sim_run(const struct sim_options *options, bool verbose, struct sim_result *ret_result)
{
    struct run run;
    run_open(&run, options, verbose);
    enter(&run, PHASE_LOAD, options->load_us);
    plan_start(&run, 0);
    world_at(&run.world, run.world.now_us + options->load_us / 20, on_fault_tick, &run, 0);
    live(&run);
    *ret_result = (struct sim_result){.failed = run.world.failed,
                                      .hash = run.world.hash,
                                      .simulated_us = run.world.now_us,
                                      .faults = run.world.faults_count,
                                      .tally = run.world.tally,
                                      .events = run.world.events_count,
                                      .io_calls = run.world.io_calls,
                                      .lives = run.life,
                                      .acked = check_acked_count(run.check),
                                      .records = check_messages(run.check),
                                      .points = run.points.counts};
    memcpy(ret_result->check, run.world.failed_check, sizeof ret_result->check);
    memcpy(ret_result->text, run.world.failed_text, sizeof ret_result->text);
    run_close(&run);
}
