/* One machine of the fleet: the lives and deaths of its broker. All that may end a life (an I/O call that is never
 * answered, a fault point, memory that is gone, an honest exit) only closes the gate of its world; the process is
 * buried behind the event, by fleet_run.c. */
#include "fleet_atlas.h"

#include <string.h>

#include "base/assert.h"
#include "broker/impl.h"
#include "broker/status.h"
#include "judge.h"
#include "sim_memory.h"

#define RECOVERY_CALLS_MAX 200u
#define ALLOCATIONS_MAX    20000u
#define MEMORY_LEAST       ((uint64_t)64 << 20)
#define NO_BUDGET          ((uint64_t)1 << 60)
#define ECHO_CHANCE        0.3
#define ECHO_US_MAX        10000000u
#define STOP_LATE_US       8000000u /* a stop that takes longer may have met its deadline, by its own clock */

/* --- what the broker says --- */

static void on_ready(void *context)
{
    struct fleet_broker *b = context;
    if (b->world.crashed)
        return;
    uint32_t inside = world_step_out(&b->world);
    world_log(&b->world, "ready, life %llu", (unsigned long long)b->life);
    b->is_ready = b->was_ever_ready = true;
    if (b->fleet->load_class->up != NULL) {
        b->fleet->load_class->up(b->fleet->load, b->id);
    }
    world_step_in(&b->world, inside);
}

static void on_fatal(void *context, enum broker_exit code, const char *why)
{
    struct fleet_broker *b = context;
    if (b->world.crashed)
        return;
    bool has_reason = sim_disk_broke(b->disk) || (b->fleet->short_of_memory == b->id && sim_memory_failed());
    if (!has_reason || code != BROKER_EXIT_STORAGE) {
        world_fail(&b->world, "fatal", "broker %llu gives up with code %d: %s", (unsigned long long)b->id, (int)code,
                   why);
    }
    b->must_die = true;
}

static void on_stopped(void *context)
{
    struct fleet_broker *b = context;
    if (!b->world.crashed) {
        b->has_stopped = b->must_die = true;
    }
}

static void on_trace(void *context, enum trace_level level, const char *line)
{
    struct fleet_broker *b = context;
    world_log(&b->world, "        broker: %s", line);
    if (level == TRACE_ERROR && !b->world.crashed) {
        uint32_t inside = world_step_out(&b->world);
        fleet_atlas_line(b->fleet->atlas, b, line);
        world_step_in(&b->world, inside);
    }
}

static void on_point(void *context, unsigned which)
{
    sim_points_visit(&((struct fleet_broker *)context)->points, (enum point)which);
}

static void on_mark(void *context, unsigned which)
{
    ((struct fleet_broker *)context)->marks[which]++;
}

static bool on_kv_point(void *context, const char *point)
{
    struct fleet_broker *b = context;
    const struct fleet_load_class *class = b->fleet->load_class;
    bool dies = !world_io(&b->world, strncmp(point, "kv.commit", 9) == 0 ? SIM_IO_KV_COMMIT : SIM_IO_KV);
    if (!dies && class->committed != NULL && strcmp(point, "kv.commit.after") == 0) {
        uint32_t inside = world_step_out(&b->world);
        class->committed(b->fleet->load, b->id);
        world_step_in(&b->world, inside);
    }
    return dies;
}

static enum err on_kv_error(void *context, const char *point)
{
    return sim_disk_kv_error(((struct fleet_broker *)context)->disk, point);
}

static void on_synced(void *context, const char *path, const uint8_t *data, uint64_t offset, uint64_t size)
{
    struct fleet_broker *b = context;
    const struct fleet_load_class *class = b->fleet->load_class;
    uint32_t inside = world_step_out(&b->world);
    judge_synced(b->fleet->judge, b->id, path, data, offset, size);
    if (class->synced != NULL) {
        class->synced(b->fleet->load, b->id, path, data, offset, size);
    }
    world_step_in(&b->world, inside);
}

static void on_written(void *context, const char *path, struct inode *inode, uint64_t offset, uint64_t size)
{
    struct fleet_broker *b = context;
    uint32_t inside = world_step_out(&b->world);
    fleet_damage_written(b, path, inode, offset, size);
    world_step_in(&b->world, inside);
}

static void on_timer(void *context)
{
    struct fleet_broker *b = context;
    if (b->broker != NULL && !b->world.crashed) {
        world_enter(&b->world);
        broker_timer(b->broker);
        world_leave(&b->world);
    }
}

static void on_accept(void *context, struct link *link)
{
    struct fleet_broker *b = context;
    ASSERT(b->broker != NULL);
    broker_accept(b->broker, link);
}

static void on_accept_peer(void *context, struct link *link)
{
    broker_accept_peer(((struct fleet_broker *)context)->broker, link);
}

static void on_reply(void *context, const struct sim_conn *conn, const uint8_t *frame, size_t head_size)
{
    struct fleet_broker *b = context;
    if (b->fleet->load_class->reply != NULL) {
        b->fleet->load_class->reply(b->fleet->load, b->id, conn, frame, head_size);
    }
}

/* --- the machine --- */

static struct kv *new_kv(struct fleet_broker *b)
{
    return sim_kv_new(&(struct sim_kv_options){.fault = on_kv_point, .error = on_kv_error, .context = b});
}

void fleet_broker_open(struct fleet *fleet, uint64_t id)
{
    struct fleet_broker *b = &fleet->broker[id];
    const struct sim_options *o = &fleet->options->one;
    b->fleet = fleet;
    b->id = id;
    b->crashes_left = o->crashes;
    world_init_part(&b->world, &fleet->world, o->seed * 0x9e3779b97f4a7c15u + id);
    b->kv = new_kv(b);
    const struct sim_disk_options disk = {.job_us_max = o->job_us_max,
                                          .stall_us_max = 8000000,
                                          .cut = o->cut,
                                          .on_synced = on_synced,
                                          .told_dir = "wal", /* nobody here asks for anything else */
                                          .on_written = on_written,
                                          .context = b};
    b->disk = sim_disk_new(&b->world, &disk);
    sim_clock_init(&b->clock, &b->world, on_timer, b);
    if (o->faults[FAULT_SHAPE]) {
        sim_clock_draw_shape(&b->clock);
    }
    b->net_options = (struct sim_net_options){.delay_us_max = o->delay_us_max,
                                              .split = o->faults[FAULT_SPLIT],
                                              .slow_reader = o->faults[FAULT_SLOW_READER],
                                              .context = b,
                                              .accept = on_accept,
                                              .reply_context = b,
                                              .on_reply = on_reply};
    b->net = sim_net_new(&b->world, &b->net_options);
    sim_points_init(&b->points, &b->world, b->disk);
    b->points.kinds = POINTS;
    fleet_options_config(fleet->options, id, &b->config);
    b->trace = (struct trace){.level = fleet->world.verbose ? TRACE_DEBUG : TRACE_ERROR,
                              .sink = on_trace,
                              .context = b,
                              .point = on_point,
                              .mark = on_mark};
    sim_cables_set_world(fleet->cables, id, &b->world);
    sim_registry_place(fleet->registry, id, &b->world);
    judge_machine(fleet->judge, id, b->disk, b->kv);
    watch_init(&b->watch, &b->world);
}

void fleet_broker_close(struct fleet_broker *b)
{
    b->world.crashed = true;
    sim_net_kill(b->net);
    sim_cables_kill(b->fleet->cables, b->id);
    sim_registry_kill(b->fleet->registry, b->id);
    if (b->broker != NULL && !b->exited) {
        broker_free(b->broker);
    }
    sim_net_free(b->net);
    sim_disk_free(b->disk);
    sim_kv_free(b->kv);
    world_done(&b->world);
}

/* --- lives --- */

void fleet_broker_plan(struct fleet_broker *b)
{
    struct rng *rng = &b->world.crash;
    const struct sim_options *o = &b->fleet->options->one;
    world_plan_crash(&b->world, SIM_IO_ANY, 0);
    if (b->fleet->phase != FLEET_SAFETY)
        return;
    if (o->faults[FAULT_SYNC_ERROR] && rng_chance(rng, 0.3)) {
        sim_disk_plan_sync_error(b->disk, sim_log_between(rng, 1, o->crash_calls_max));
    }
    if (b->crashes_left == 0)
        return;
    if (o->faults[FAULT_MEMORY] && b->fleet->short_of_memory == 0 &&
        (b->world.tally.faults[FAULT_MEMORY] == 0 || rng_chance(&b->world.memory, 0.5))) {
        b->fleet->short_of_memory = b->id;
        sim_memory_begin(&b->world);
        sim_memory_plan(sim_log_between(&b->world.memory, 1, ALLOCATIONS_MAX),
                        sim_log_between(&b->world.memory, 1, 20));
    }
    if (o->faults[FAULT_POINT_CRASH] &&
        (b->world.tally.faults[FAULT_POINT_CRASH] == 0 || rng_chance(&b->world.points, 0.5))) {
        sim_points_plan_crash(&b->points);
    }
    if (!o->faults[FAULT_DEATH] && !o->faults[FAULT_POWER])
        return;
    bool in_recovery = b->life > 1 && rng_chance(rng, 0.3);
    uint64_t within = in_recovery ? RECOVERY_CALLS_MAX : o->crash_calls_max;
    if (rng_chance(rng, 0.6)) {
        world_plan_crash(&b->world, SIM_IO_ANY, rng_between(rng, 1, within));
    } else { /* the rare kinds drown among writes */
        enum sim_io kind = (enum sim_io)rng_below(rng, SIM_IO_KINDS);
        world_plan_crash(&b->world, kind, sim_log_between(rng, 1, within / 8 + 1));
    }
}

static void meet_peers(struct fleet_broker *b)
{
    struct fleet *fleet = b->fleet;
    sim_cables_listen(fleet->cables, b->id, on_accept_peer, b);
    for (uint64_t other = 1; other <= fleet->brokers; other++) {
        if (other != b->id) {
            enum err error = broker_know_peer(b->broker, other, sim_cables_address(fleet->cables, other));
            ASSERT(error == OK);
        }
    }
}

void fleet_broker_start(struct fleet_broker *b)
{
    static const uint8_t cluster_id[UUID_BYTES] = {1, 2, 3};
    struct fleet *fleet = b->fleet;
    struct sim_world *world = &b->world;
    ASSERT(b->broker == NULL);
    b->life++;
    sim_clock_new_life(&b->clock);
    fleet_broker_plan(b);
    sim_registry_place(fleet->registry, b->id, &b->world); /* what it is told happens there */
    const struct broker_options options = {.config = &b->config,
                                           .disk = sim_disk_port(b->disk),
                                           .clock = &b->clock.port,
                                           .kv = b->kv,
                                           .trace = &b->trace,
                                           .dialer = sim_cables_dialer(fleet->cables, b->id),
                                           .registry = sim_registry_port(fleet->registry, b->id),
                                           .cluster_id = cluster_id,
                                           .context = b,
                                           .on_ready = on_ready,
                                           .on_fatal = on_fatal,
                                           .on_stopped = on_stopped};
    world_log(world, "start, life %llu", (unsigned long long)b->life);
    world_enter(world);
    enum err error = broker_new(&options, &b->broker);
    if (error == OK) {
        meet_peers(b);
    }
    world_leave(world);
    world_judged(&fleet->world, JUDGE_S11);
    if (error == OK) {
        judge_started(fleet->judge, b->id, b->broker);
        return;
    }
    b->broker = NULL;
    if (world->crashed)
        return; /* the run's loop buries it */
    b->must_die = true;
    bool has_reason = sim_disk_erred(b->disk) || (fleet->short_of_memory == b->id && sim_memory_failed());
    bool is_full = error == ERR_STORAGE_FULL && b->is_full;
    if (!has_reason && !is_full) {
        world_fail(world, "S11", "broker %llu, life %llu does not start: %s", (unsigned long long)b->id,
                   (unsigned long long)b->life, err_name(error));
    }
}

static void start(void *context, uint64_t life)
{
    struct fleet_broker *b = context;
    if (b->broker == NULL && b->life == life) {
        fleet_damage_before_start(b);
        fleet_broker_start(b);
    }
}

void fleet_broker_start_in(struct fleet_broker *b, uint64_t in_us)
{
    world_at(&b->world, b->world.now_us + in_us, start, b, b->life);
}

void fleet_broker_bury(struct fleet_broker *b, bool power_cut, uint64_t in_us)
{
    struct fleet *fleet = b->fleet;
    struct sim_world *world = &b->world;
    world_log(world, "%s, life %llu", power_cut ? "power cut" : "process death", (unsigned long long)b->life);
    if (b->exited) {
        judge_exited(fleet->judge, b->id);
    } else {
        judge_dies(fleet->judge, b->id);
    }
    world->crashed = true; /* nothing of the dead may do I/O */
    if (fleet->load_class->down != NULL) {
        fleet->load_class->down(fleet->load, b->id);
    }
    sim_clock_disarm(&b->clock);
    sim_net_kill(b->net);
    if (fleet->phase == FLEET_SAFETY && fleet->options->one.faults[FAULT_REPLAY] &&
        rng_chance(&world->link, ECHO_CHANCE)) {
        sim_cables_echo(fleet->cables, b->id, sim_log_between(&world->link, 1000, ECHO_US_MAX));
    }
    sim_cables_kill(fleet->cables, b->id);
    sim_registry_kill(fleet->registry, b->id);
    if (b->broker != NULL && !b->exited) {
        broker_free(b->broker);
    }
    b->broker = NULL;
    sim_net_forget(b->net);
    if (fleet->short_of_memory == b->id) {
        sim_memory_new_life();
        fleet->short_of_memory = 0;
    }
    world_cancel(world, b->turn);
    b->turn = NULL;
    if (power_cut) {
        sim_disk_power_cut(b->disk);
        sim_clock_reboot(&b->clock);
    } else {
        sim_disk_process_death(b->disk);
    }
    sim_kv_crash(b->kv, !power_cut);
    sim_kv_restart(b->kv);
    world->crashed = false;
    world->held_until_us = 0;
    b->is_ready = b->must_die = b->exited = b->is_stopping = b->has_stopped = false;
    watch_new_life(&b->watch);
    judge_crashed(fleet->judge, b->id);
    if (in_us != UINT64_MAX) {
        fleet_broker_start_in(b, in_us);
    }
}

void fleet_broker_wipe(struct fleet_broker *b)
{
    ASSERT(b->broker == NULL);
    world_log(&b->world, "an empty disk");
    sim_disk_wipe(b->disk);
    sim_kv_free(b->kv);
    b->kv = new_kv(b);
    judge_wiped(b->fleet->judge, b->id, b->disk, b->kv);
}

void fleet_broker_stop(struct fleet_broker *b)
{
    world_log(&b->world, "is asked to stop");
    b->is_stopping = true;
    b->stop_us = b->world.now_us;
    world_enter(&b->world);
    broker_stop(b->broker);
    world_leave(&b->world);
}

/* Sometimes the machine loses power as well: what a stop has saved is durable. */
void fleet_broker_end_stop(struct fleet_broker *b, uint64_t in_us)
{
    world_log(&b->world, "stopped, life %llu", (unsigned long long)b->life);
    if (b->world.now_us - b->stop_us < STOP_LATE_US && sim_net_links(b->net) != 0) { /* else it ends what is open */
        world_fail(&b->world, "leak", "broker %llu: %zu connections are open after on_stopped",
                   (unsigned long long)b->id, sim_net_links(b->net));
    }
    fleet_broker_bury(b, rng_chance(&b->world.crash, 0.5), in_us);
}

/* What a follower is sent it takes: while no checkpoint of its can be made, nothing bounds its log but its disk. */
static uint64_t wal_budget(const struct fleet_broker *b, const struct status_broker *status)
{
    const bool *faults = b->fleet->options->one.faults;
    bool is_bound = b->fleet->brokers == 1 || (!faults[FAULT_KV] && !faults[FAULT_FULL]);
    return is_bound ? status->wal_budget_bytes : NO_BUDGET;
}

/* A crowd fills what it can get; with less than may be configured its frames alone are more. */
static uint64_t memory_budget(const struct fleet_broker *b, const struct status_broker *status)
{
    bool is_less = b->fleet->options->one.faults[FAULT_CROWD] && status->memory_budget_bytes < MEMORY_LEAST;
    return is_less ? MEMORY_LEAST : status->memory_budget_bytes;
}

void fleet_broker_look(struct fleet_broker *b)
{
    struct status_broker status;
    status_read(b->broker, &status);
    const struct watch_facts facts = {.memory_bytes = status.memory_bytes,
                                      .memory_budget_bytes = memory_budget(b, &status),
                                      .inflight_bytes = status.inflight_bytes,
                                      .inflight_budget_bytes = b->config.inflight_bytes,
                                      .wal_used_bytes = status.wal_used_bytes,
                                      .wal_budget_bytes = wal_budget(b, &status),
                                      .peers = b->fleet->brokers - 1,
                                      .wal_file_bytes = b->config.wal_file_bytes,
                                      .starts = b->life,
                                      .sync_failed = sim_disk_sync_failed(b->disk)};
    watch_look(&b->watch, &facts);
}

void fleet_broker_hold(struct fleet_broker *b, uint64_t for_us)
{
    world_log(&b->world, "held for %llu us", (unsigned long long)for_us);
    world_hold(&b->world, for_us);
    b->watch.sync_failed_us += b->watch.sync_failed_us != 0 ? for_us : 0; /* it cannot act on it meanwhile */
}

/* A pause ends by itself: what fell due in it comes at its end, and must not be overtaken. */
void fleet_broker_heal(struct fleet_broker *b)
{
    world_plan_crash(&b->world, SIM_IO_ANY, 0);
    sim_disk_plan_sync_error(b->disk, 0);
    sim_disk_calm(b->disk);
    sim_points_calm(&b->points);
    if (b->fleet->short_of_memory == b->id) {
        sim_memory_calm();
    }
    sim_disk_set_room(b->disk, UINT64_MAX);
    sim_kv_set_full(b->kv, false);
    b->is_full = false;
    b->net_options.slow_reader = false;
    sim_net_set(b->net, &b->net_options);
}

bool fleet_broker_is_up(const struct fleet_broker *b)
{
    return b->broker != NULL && b->is_ready && !b->world.crashed && !b->must_die;
}

bool fleet_broker_withholds(const struct fleet_broker *b)
{
    const struct partition *p = b->broker != NULL ? b->broker->groups : NULL;
    while (p != NULL && !p->is_withheld) {
        p = p->hh.next;
    }
    return p != NULL;
}
