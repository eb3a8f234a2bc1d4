/* The broker: start, turn, timer, stop. What a turn does, in this order: judge and propose what arrived, drain every
 * dirty group (their records go into ONE WAL batch), start a checkpoint if one is due, hand the WAL batch and the
 * segment writes to their lanes, let paused connections read on, arm the one timer. */
#include "broker/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/age.h"
#include "broker/assign.h"
#include "broker/fetch.h"
#include "broker/forget.h"
#include "broker/heal.h"
#include "broker/impl.h"
#include "broker/memory.h"
#include "broker/patience.h"
#include "broker/produce.h"
#include "broker/producers.h"
#include "broker/quiet.h"
#include "broker/registry_embedded.h"
#include "broker/router.h"
#include "broker/scrub.h"
#include "broker/yield.h"

#define DISK_FULL_SAID_US  10000000u
#define SWEEP_INTERVAL_US  250000u
#define STOP_DEADLINE_US   9000000u
#define SPARE_SEGMENTS_MAX 64u

static void broker__loaded(void *context, enum err error)
{
    struct broker *b = context;
    if (error != OK) {
        broker__fail(
            b, error == ERR_FORMAT ? BROKER_EXIT_UNREADABLE : BROKER_EXIT_STORAGE,
            "the registry in the checkpoint store is unreadable: keep a copy of the data directory, then restore "
            "it from a backup, or start empty with another one");
        return;
    }
    b->ready = true;
    checkpoint_release(b); /* after a clean stop nothing pins the WAL */
    scrub_start(b->scrub);
    b->options.on_ready(b->options.context);
}

static void broker__on_registry_failed(void *context)
{
    broker__fail(context, BROKER_EXIT_STORAGE, "checkpoint store failed");
}

static void broker__on_written(void *context)
{
    (void)context; /* the turn that follows looks whether paused connections may read on */
}

static void broker__on_store_error(void *context, struct segment_log *log, enum err error)
{
    struct broker *b = context;
    (void)log; /* its batches wait, and the store says why */
    if (error == ERR_READ_ONLY) {
        broker__fail(b, BROKER_EXIT_STORAGE, "the file system of the data directory is read-only");
    }
}

static void broker__init_lists(struct broker *b)
{
    TAILQ_INIT(&b->dirty);
    TAILQ_INIT(&b->dying);
    b->assign_due_us = UINT64_MAX;
    b->pulse.due_us = UINT64_MAX;
    order_init(&b->deadlines);
    order_init(&b->live);
    TAILQ_INIT(&b->checkpoint_queue);
    TAILQ_INIT(&b->checkpoints_delayed);
    TAILQ_INIT(&b->room_queue);
    STAILQ_INIT(&b->graves);
    TAILQ_INIT(&b->sessions);
    TAILQ_INIT(&b->watched);
    for (int i = 0; i < SESSION_WAITS; i++) {
        TAILQ_INIT(&b->waits[i]);
    }
    STAILQ_INIT(&b->produce_free);
    TAILQ_INIT(&b->produces);
    TAILQ_INIT(&b->inits);
    TAILQ_INIT(&b->fetch_free);
    TAILQ_INIT(&b->read_free);
    TAILQ_INIT(&b->fetch_waiting);
    b->sweep_due_us = UINT64_MAX;
    b->fetch_due_us = UINT64_MAX;
    b->next_timer_us = UINT64_MAX;
}

static enum err broker__may_join(void *context, uint64_t broker, const uint8_t disk_uuid[UUID_BYTES])
{
    (void)context, (void)broker, (void)disk_uuid;
    return OK; /* whoever the registry names: peers.h looks that up */
}

static void broker__on_removed(void *context, uint64_t by_broker)
{
    struct broker *b = context;
    trace_error(b->trace, "removed", "told_by=%lu", by_broker);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void broker__open_peers(struct broker *b)
{
    static const struct peers_handler handler = {.may_join = broker__may_join,
                                                 .on_up = router_on_up,
                                                 .on_down = router_on_down,
                                                 .on_removed = broker__on_removed,
                                                 .on_row = router_on_row,
                                                 .on_snapshot = snapshot_on_message,
                                                 .on_snapshot_down = snapshot_on_lane_down,
                                                 .quiet_told = quiet_told,
                                                 .quiet_agrees = quiet_agrees,
                                                 .on_quiet_answer = quiet_on_answer,
                                                 .on_silent = quiet_on_silent};
    uint64_t election_us = (uint64_t)b->config->election_ms * 1000;
    struct peers_options options = {.handler = &handler,
                                    .context = b,
                                    .clock = b->clock,
                                    .dialer = b->options.dialer,
                                    .trace = b->trace,
                                    .identity = {.broker = b->identity.broker, .boot = b->identity.boot},
                                    .receive_bytes_max = memory_peers_max(b),
                                    .watch_ping_us = earlier(election_us / QUIET_PING_PARTS, PEER_PING_US),
                                    .silent_us = earlier(election_us, PEER_SILENCE_US)};
    memcpy(options.identity.cluster_id, b->identity.cluster_id, sizeof options.identity.cluster_id);
    memcpy(options.identity.disk_uuid, b->identity.disk_uuid, sizeof options.identity.disk_uuid);
    b->peers = peers_new(&options);
}

void broker_accept_peer(struct broker *b, struct link *link)
{
    peers_accept(b->peers, link);
}

enum err broker_new(const struct broker_options *options, struct broker **ret_broker)
{
    struct broker *b = mem_zeroed(1, sizeof *b);
    b->config = options->config;
    b->disk = options->disk;
    b->clock = options->clock;
    b->kv = options->kv;
    b->trace = options->trace;
    b->options = *options;
    broker__init_lists(b);
    log_clock_init(&b->log_clock, b->clock, b->trace);
    receive_init(&b->receive, memory_receive_max(b));
    b->replies = buf_meter_new();
    b->router = router_new(b);
    b->quiet = quiet_new(b);
    b->catalog = catalog_new(b);
    const struct store_options store = {.disk = b->disk,
                                        .clock = b->clock,
                                        .trace = b->trace,
                                        .dir = "parts",
                                        .open_files_max = b->config->open_files,
                                        .tail_bytes_max = memory_tail_max(b),
                                        .spare_files_max = SPARE_SEGMENTS_MAX,
                                        .context = b,
                                        .on_written = broker__on_written,
                                        .on_error = broker__on_store_error};
    enum err error = store_open(&store, &b->store);
    if (error == OK) {
        error = recovery_run(b);
    }
    if (error == OK) {
        error = snapshots_new(b, &b->snapshots);
    }
    if (error == OK) {
        pulse_init(b);
        broker__open_peers(b);
    }
    if (error != OK) {
        broker_free(b);
        return error;
    }
    b->scrub = scrub_new(b);
    b->registry = options->registry;
    if (b->registry == NULL) {
        b->registry = b->own_registry = registry_embedded_new(b->kv, b->disk, b->trace);
        registry_embedded_on_failed(b->own_registry, broker__on_registry_failed, b);
    }
    catalog_load(b->catalog, broker__loaded, b);
    *ret_broker = b;
    return OK;
}

void broker_free(struct broker *b)
{
    struct partition *p, *next;
    struct session *s, *next_session;
    checkpoint_free(b);
    snapshots_free(b->snapshots);
    b->snapshots = NULL;
    catalog_free(b->catalog); /* its topics point at partitions, and these at their topics */
    HASH_ITER(hh, b->groups, p, next)
    {
        partition_free(p);
    }
    TAILQ_FOREACH_SAFE(s, &b->sessions, all_link, next_session)
    {
        s->refs = 0; /* requests that died with a job */
        session_free(s);
    }
    produce_free_all(b);
    fetch_free_all(b);
    router_free(b->router);
    quiet_free(b->quiet);
    peers_free(b->peers);
    forget_free(b);
    groups_free(b);
    if (b->own_registry != NULL) {
        registry_embedded_free(b->own_registry);
    }
    if (b->store != NULL) {
        store_close(b->store);
    }
    if (b->wal != NULL) {
        wal_close(b->wal);
    }
    scrub_free(b->scrub);
    receive_deinit(&b->receive);
    buf_meter_free(b->replies);
    free(b->persists);
    free(b);
}

void broker__fail(struct broker *b, enum broker_exit code, const char *why)
{
    if (!b->failed) {
        b->failed = true;
        b->ready = false;
        trace_error(b->trace, "fatal", "code=%d why=\"%s\"", (int)code, why);
        b->options.on_fatal(b->options.context, code, why);
    }
}

/* What is written last on a full disk is the WAL: once segments or checkpoints find no room, it can only grow. So
 * produce is refused while the WAL's reserve is still there for what must go on: hard states, LEADER and TIMEOUT
 * entries, log starts, the end of a topic. */
bool broker__disk_full(const struct broker *b)
{
    return wal_disk_full(b->wal) || store_disk_full(b->store) || checkpoint_disk_full(b);
}

enum err broker__refusal(const struct broker *b)
{
    return broker__disk_full(b) ? ERR_STORAGE_FULL : wal_is_stalled(b->wal) ? ERR_BUSY : OK;
}

/* Over its budget the WAL waits for checkpoints. While one is under way readers pause for it; when none can help,
 * produce is answered BUSY, so that everybody else is served. */
bool broker__wal_full(const struct broker *b)
{
    return wal_used_bytes(b->wal) >= b->config->wal_budget_bytes;
}

/* On a full disk nothing piles up, since produce is refused; to read on is what lets others fetch and delete. */
bool broker__has_room(const struct broker *b)
{
    if (broker__disk_full(b)) {
        return true;
    }
    return (PLANT(64) || b->inflight_bytes < memory_inflight_max(b)) &&
           store_queued_bytes(b->store) - store_stalled_bytes(b->store) < memory_queue_max(b) &&
           !memory_full_of_requests(b) && (!broker__wal_full(b) || !checkpoint_is_busy(b));
}

uint64_t broker__random_id(struct broker *b)
{
    uint64_t id;
    clock_random(b->clock, &id, sizeof id);
    return id;
}

void broker_accept(struct broker *b, struct link *link)
{
    session_open(b, link);
}

void broker_count_refused(struct broker *b, bool for_address)
{
    b->counters.connections_refused_total++;
    b->counters.connections_refused_address_total += for_address;
}

uint32_t broker_connections_per_address(const struct config *config)
{
    return config->connections - config->connections / CONNECTIONS_FOR_OTHERS_PARTS;
}

uint32_t broker_write_refusal(uint8_t *out, uint32_t capacity)
{
    const ErrorReply reply = {.status = ERR_BUSY, .message = "too many connections"};
    uint32_t size;
    enum err error = codec_encode_frame(out, capacity, FRAME_ERROR, 0, &reply, 0, &size);
    ASSERT(error == OK);
    return size;
}

bool broker_is_ready(const struct broker *b, const char **ret_reason)
{
    *ret_reason = b->failed ? "storage failed" : b->stopping ? "stopping" : b->ready ? "ready" : "recovering";
    return b->ready && !b->stopping && !b->failed;
}

void broker_accept_clock(struct broker *b)
{
    age_accept_clock(b);
}

void broker_set_advertised(struct broker *b, uint32_t listener, const char *host, uint16_t port)
{
    ASSERT(listener < CLIENT_LISTENERS_MAX);
    snprintf(b->advertised[listener].host, sizeof b->advertised[listener].host, "%s", host);
    b->advertised[listener].port = port;
    b->advertised[listener].set = true;
}

const uint8_t *broker_cluster_id(const struct broker *b)
{
    return b->identity.cluster_id;
}

/* --- stop --- */

void broker_stop(struct broker *b)
{
    if (!b->stopping) {
        b->stopping = true;
        b->stop_due_us = clock_now_us(b->clock) + STOP_DEADLINE_US;
        trace_info(b->trace, "stopping", "connections=%u", b->sessions_count);
    }
}

/* Everything proposed is answered; now nobody waits, and every group's picture is made durable, so that the next start
 * replays nothing. */
static void broker__stop_answered(struct broker *b)
{
    for (struct partition *p = b->groups; p != NULL; p = p->hh.next) {
        fetch_fail_all(p, ERR_SHUTTING_DOWN);
        confirm_fail_all(p, ERR_SHUTTING_DOWN);
        if (p->live_lsn != UINT64_MAX) {
            checkpoint_want(p);
        }
    }
    peers_close(b->peers);
    checkpoint_hurry(b); /* once more; what fails again is in the WAL */
    session_close_all(b);
    b->stop_step = STOP_CHECKPOINT;
    point(b->trace, POINT_STOP_CHECKPOINT);
}

static bool broker__registry_busy(const struct broker *b)
{
    return b->own_registry != NULL && registry_embedded_is_busy(b->own_registry);
}

static bool broker__storage_idle(const struct broker *b)
{
    return !checkpoint_is_busy(b) && !snapshot_is_busy(b) && !scrub_is_busy(b->scrub) && !store_is_busy(b->store) &&
           (wal_pending_bytes(b->wal) == 0 || wal_is_stalled(b->wal)) && !broker__registry_busy(b) &&
           !catalog_is_busy(b->catalog) && !b->abandoning && !b->removing_again && b->heal == NULL &&
           b->dead_count == 0;
}

static void broker__stop_turn(struct broker *b)
{
    bool late = clock_now_us(b->clock) >= b->stop_due_us;
    bool answered = (TAILQ_EMPTY(&b->produces) && b->persists_count == 0) || wal_is_stalled(b->wal);
    if (b->stop_step == STOP_ANSWER && (answered || late)) {
        broker__stop_answered(b);
    }
    if (b->stop_step == STOP_CHECKPOINT && (broker__storage_idle(b) || late)) {
        store_trim(b->store);
        b->stop_step = STOP_TRIM;
        point(b->trace, POINT_STOP_TRIM);
    }
    bool alone = b->sessions_count == 0 && peers_are_closed(b->peers);
    if (b->stop_step == STOP_TRIM && ((broker__storage_idle(b) && alone) || late)) {
        b->stop_step = STOP_DONE;
        trace_info(b->trace, "stopped", "clean=%d saved=%d", !late && !wal_is_stalled(b->wal),
                   !checkpoint_is_delayed(b));
        b->options.on_stopped(b->options.context);
    }
}

/* --- a full disk --- */

/* Begin and end are each worth a line; a disk on the brink would write them for ever. */
static void broker__say_disk_full(struct broker *b)
{
    uint64_t now_us = clock_now_us(b->clock);
    if (b->disk_is_full && b->disk_full_said_us != 0 && now_us < b->disk_full_said_us + DISK_FULL_SAID_US) {
        return;
    }
    if (b->disk_is_full) {
        b->disk_full_said = true;
        b->disk_full_said_us = now_us;
        trace_warn(b->trace, "disk_full", "wal=%d segments=%d checkpoints=%d", wal_disk_full(b->wal),
                   store_disk_full(b->store), checkpoint_disk_full(b));
    } else if (b->disk_full_said) {
        b->disk_full_said = false;
        trace_info(b->trace, "disk_has_room", "full_ms=%lu", (now_us - b->disk_full_said_us) / 1000);
    }
}

/* The moment a disk becomes full everything that may go goes: spare segments, and what retention dropped already. */
static void broker__note_disk(struct broker *b)
{
    struct segment_shed shed;
    bool full = broker__disk_full(b);
    bool segments_full = store_disk_full(b->store);
    if (b->segments_are_full && !segments_full) {
        checkpoint_hurry(b); /* what pictures waited for has just been written */
    }
    b->segments_are_full = segments_full;
    if (full == b->disk_is_full) {
        return;
    }
    b->disk_is_full = full;
    broker__say_disk_full(b);
    yield_note_disk(b);
    store_set_full(b->store, full);
    for (struct partition *p = b->groups; full && p != NULL; p = p->hh.next) {
        if (p->log != NULL && segment_log_sheds(p->log, &shed)) {
            checkpoint_want(p);
        }
    }
}

/* --- turn and timer --- */

static void broker__arm(struct broker *b)
{
    uint64_t due = age_deadline_us(b);
    const uint64_t others[] = {wal_deadline_us(b->wal),   store_deadline_us(b->store),
                               checkpoint_deadline_us(b), scrub_deadline_us(b->scrub),
                               b->sweep_due_us,           b->fetch_due_us,
                               patience_deadline_us(b),   b->stopping ? b->stop_due_us : UINT64_MAX,
                               pulse_deadline_us(b),      yield_deadline_us(b),
                               assign_deadline_us(b),     peers_deadline_us(b->peers),
                               snapshot_deadline_us(b),   heal_deadline_us(b),
                               groups_deadline_us(b)};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        due = others[i] < due ? others[i] : due;
    }
    if (!TAILQ_EMPTY(&b->waits[SESSION_WAITS_FOR_TURN])) {
        due = clock_now_us(b->clock); /* the next turn follows at once */
    }
    if (due != b->next_timer_us) {
        b->next_timer_us = due;
        clock_arm(b->clock, due);
    }
}

static void broker__drain_dirty(struct broker *b)
{
    struct partition *p;
    while ((p = TAILQ_FIRST(&b->dirty)) != NULL) {
        TAILQ_REMOVE(&b->dirty, p, dirty_link);
        p->dirty = false;
        partition_turn(p);
    }
}

enum err broker_know_peer(struct broker *b, uint64_t id, const char *address)
{
    enum err error = peers_set(b->peers, id, address);
    broker__arm(b); /* it is dialled at once */
    return error;
}

void broker_turn(struct broker *b)
{
    if (b->failed || b->stop_step == STOP_DONE) {
        return;
    }
    broker__note_disk(b);
    produce_serve_waiting(b);
    broker__drain_dirty(b);
    session_resume_all(b);
    snapshot_turn(b);
    broker__drain_dirty(b);
    if (b->stopping) {
        broker__stop_turn(b); /* before checkpoint_turn: the checkpoints it asks for start in this turn, nothing else
                                 wakes an idle loop */
        if (b->stop_step == STOP_DONE) {
            return;
        }
    }
    checkpoint_turn(b);
    groups_turn(b);
    forget_turn(b);
    heal_turn(b);
    wal_flush(b->wal);
    store_flush(b->store);
    peers_flush(b->peers);
    memory_turn(b);
    if (b->sweep_due_us == UINT64_MAX && (!TAILQ_EMPTY(&b->produces) || !TAILQ_EMPTY(&b->inits))) {
        b->sweep_due_us = clock_now_us(b->clock) + SWEEP_INTERVAL_US;
    }
    broker__arm(b);
}

void broker_timer(struct broker *b)
{
    uint64_t now_us = clock_now_us(b->clock);
    if (b->failed) {
        return;
    }
    b->next_timer_us = UINT64_MAX;
    age_timer(b, now_us);
    wal_tick(b->wal, now_us);
    store_tick(b->store, now_us);
    fetch_sweep(b, now_us);
    scrub_tick(b->scrub, now_us);
    patience_sweep(b, now_us);
    peers_timer(b->peers, now_us);
    snapshot_timer(b, now_us);
    assign_timer(b, now_us);
    pulse_timer(b, now_us);
    yield_timer(b, now_us);
    heal_timer(b, now_us);
    if (now_us >= b->sweep_due_us) {
        b->sweep_due_us = UINT64_MAX;
        produce_sweep(b, now_us);
        producers_sweep(b, now_us);
    }
}
