/* The life of one replica and the driving of its Raft core: proposals in, updates carried out. What committed entries
 * do: apply.c. */
#include "broker/partition.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mark.h"
#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/age.h"
#include "broker/fetch.h"
#include "broker/heal.h"
#include "broker/impl.h"
#include "broker/memory.h"
#include "broker/produce.h"
#include "broker/quiet.h"
#include "broker/router.h"
#include "broker/snapshot.h"
#include "broker/state.h"
#include "store/scrub.h"

struct partition *partition_new(struct broker *broker, uint64_t group, uint64_t replica,
                                const struct entry_birth *birth)
{
    struct partition *p = mem_zeroed(1, sizeof *p);
    p->broker = broker;
    p->group = group;
    p->replica = replica;
    p->number = birth->partition;
    p->kind = birth->kind;
    p->state = PARTITION_BIRTH;
    p->config = birth->config;
    struct members members;
    members_of_birth(birth, &members);
    roster_init(&p->roster, 0, &members);
    p->window.first_index = 1;
    p->live_lsn = UINT64_MAX;
    p->live_lsn_since = UINT64_MAX;
    p->live = (struct order_item){.id = group, .owner = p};
    p->deadline = (struct order_item){.id = group, .owner = p};
    p->pulse.owner = p;
    p->done = done_table_new();
    p->submitted = submitted_table_new();
    if (p->kind == TOPIC_STATE) {
        p->table = state_new(group);
    }
    STAILQ_INIT(&p->pending);
    TAILQ_INIT(&p->fetches);
    STAILQ_INIT(&p->confirms);
    HASH_ADD(hh, broker->groups, group, sizeof p->group, p);
    return p;
}

static uint32_t partition__runs(struct partition *p, struct raft_run **ret_runs)
{
    struct raft_run *runs = mem_zeroed(p->window.count + 1, sizeof *runs);
    uint32_t count = 0;
    for (uint32_t i = 0; i < p->window.count; i++) {
        uint64_t term = window_at(&p->window, p->window.first_index + i)->term;
        if (count == 0 || runs[count - 1].term != term) {
            runs[count++] = (struct raft_run){.term = term};
        }
        runs[count - 1].count++;
    }
    *ret_runs = runs;
    return count;
}

void partition_start(struct partition *p)
{
    struct broker *b = p->broker;
    ASSERT(p->raft == NULL && p->state != PARTITION_DEAD);
    if (p->state == PARTITION_DAMAGED) {
        return;
    }
    struct raft_run *runs;
    uint32_t runs_count = partition__runs(p, &runs);
    uint64_t now_ms = pulse_now_ms(b);
    struct raft_config_entry configs[RAFT_CONFIGS_MAX];
    struct raft_options options = {
        .self = p->replica,
        .configs = configs,
        .configs_count = roster_to_raft(&p->roster, p->applied_index, configs),
        .heartbeat_ms = b->config->heartbeat_ms,
        .election_ms = b->config->election_ms,
        .seed = broker__random_id(b),
        .damaged = p->healing,
        .term = p->term_saved,
        .vote = p->vote_saved,
        .base_index = p->applied_index,
        .base_term = p->applied_term,
        .applied_index = p->applied_index,
        .runs_count = runs_count,
        .runs = runs,
        .now_ms = now_ms,
    };
    p->raft = raft_new(&options);
    free(runs);
    p->state = PARTITION_LIVE;
    partition__members_changed(p);
    partition_tick(p, now_ms);
}

void partition_mark_dirty(struct partition *p)
{
    if (!p->dirty && p->state != PARTITION_DEAD) {
        p->dirty = true;
        TAILQ_INSERT_TAIL(&p->broker->dirty, p, dirty_link);
    }
}

enum partition_state partition_told_state(const struct partition *p)
{
    bool is_partly = p->state == PARTITION_LIVE && p->log != NULL && segment_log_damaged_ranges(p->log) > 0;
    return partition_status(p) == ERR_CORRUPT ? PARTITION_DAMAGED : is_partly ? PARTITION_PARTLY : p->state;
}

int32_t partition_epoch_at(const struct partition *p, int64_t offset, int64_t *ret_end_offset)
{
    uint32_t low = 0, high = p->epochs_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (p->epochs[middle].first_offset <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_end_offset = low < p->epochs_count ? p->epochs[low].first_offset : INT64_MAX;
    return low > 0 ? (int32_t)p->epochs[low - 1].term : 0;
}

bool partition_leads(const struct partition *p)
{
    return partition_status(p) == OK;
}

uint64_t partition_leader(const struct partition *p)
{
    return p->raft != NULL ? roster_broker_of(&p->roster, raft_leader(p->raft)) : 0;
}

static bool partition__is_in_sync(const struct partition *p, uint64_t replica)
{
    struct raft_peer_state peer;
    if (replica == p->replica) {
        return true;
    }
    return raft_peer_state(p->raft, replica, &peer) && !peer.probing && !peer.in_snapshot && !peer.damaged &&
           raft_last_index(p->raft) - peer.match <= RAFT_LAG_ENTRIES_MAX;
}

uint32_t partition_in_sync(const struct partition *p, uint64_t ret_brokers[RAFT_VOTERS_MAX])
{
    struct members now;
    uint32_t count = 0;
    if (p->raft == NULL || raft_role(p->raft) != RAFT_LEADER) {
        return 0;
    }
    roster_newest(&p->roster, &now);
    for (uint32_t i = 0; i < now.count && count < RAFT_VOTERS_MAX; i++) {
        if (now.member[i].next == RAFT_VOTER && partition__is_in_sync(p, now.member[i].replica)) {
            ret_brokers[count++] = now.member[i].broker;
        }
    }
    return count;
}

enum err partition_status(const struct partition *p)
{
    if (p->healing && p->state != PARTITION_DEAD) {
        return ERR_CORRUPT;
    }
    switch (p->state) {
    case PARTITION_BIRTH:
        return p->topic != NULL && p->topic->row.state == TOPIC_UNREADABLE ? ERR_CORRUPT : ERR_NOT_READY;
    case PARTITION_DAMAGED:
        return ERR_CORRUPT;
    case PARTITION_DEAD:
        return ERR_UNKNOWN_PARTITION;
    case PARTITION_LIVE:
    case PARTITION_PARTLY:
        break;
    }
    if (raft_role(p->raft) != RAFT_LEADER) {
        return raft_leader(p->raft) == 0 ? ERR_NOT_READY : ERR_NOT_LEADER;
    }
    return p->leader_ready ? OK : ERR_NOT_READY;
}

enum err partition_may_propose(const struct partition *p)
{
    enum err status = partition_status(p);
    return status == OK && !raft_accepts(p->raft) ? ERR_NOT_READY : status;
}

int64_t partition_high_watermark(const struct partition *p)
{
    return p->log != NULL ? segment_log_next(p->log) : 0;
}

int64_t partition_log_start(const struct partition *p)
{
    return p->log != NULL ? segment_log_start(p->log) : 0;
}

uint64_t partition_propose(struct partition *p, enum entry_type type, struct slice payload, struct waiter *waiter)
{
    ASSERT(p->state == PARTITION_LIVE && raft_role(p->raft) == RAFT_LEADER);
    struct window_entry entry = {
        .term = raft_term(p->raft), .type = (uint8_t)type, .payload = payload, .waiters = waiter};
    window_push(&p->window, &entry);
    raft_step(p->raft, &(struct raft_event){.type = RAFT_SUBMIT, .submit = {.count = 1, .bytes = payload.size}});
    ASSERT(raft_last_index(p->raft) == window_last(&p->window));
    partition_mark_dirty(p);
    point(p->broker->trace, POINT_PROPOSED);
    return window_last(&p->window);
}

void partition__set_live_lsn(struct partition *p, uint64_t lsn)
{
    p->live_lsn = lsn;
    if (lsn == UINT64_MAX) {
        order_remove(&p->broker->live, &p->live);
    } else {
        order_put(&p->broker->live, &p->live, lsn);
    }
}

/* A record of this group was given to the WAL at lsn. */
static void partition__note_lsn(struct partition *p, uint64_t lsn)
{
    if (p->live_lsn == UINT64_MAX) {
        partition__set_live_lsn(p, lsn);
    }
    if (p->live_lsn_since == UINT64_MAX) {
        p->live_lsn_since = lsn;
    }
}

uint64_t partition__log(struct partition *p, const struct wal_record *record)
{
    uint64_t lsn = wal_append(p->broker->wal, record);
    partition__note_lsn(p, lsn);
    p->logged_lsn = lsn;
    return lsn;
}

static struct wal_record partition__record(const struct partition *p, enum wal_record_type type, uint64_t index,
                                           uint64_t term)
{
    return (struct wal_record){.type = type, .group = p->group, .replica = p->replica, .index = index, .term = term};
}

static void partition__log_entries(struct partition *p, uint64_t first, uint64_t last)
{
    for (uint64_t index = first; index <= last; index++) {
        struct window_entry *entry = window_at(&p->window, index);
        struct wal_record record = partition__record(p, WAL_ENTRY, index, entry->term);
        record.entry_type = entry->type;
        record.payload = entry->payload;
        entry->lsn = partition__log(p, &record);
    }
}

static enum err partition__open_log(struct partition *p, const struct segment_row *rows, uint32_t rows_count,
                                    int64_t log_start, int64_t next_offset, bool is_placed)
{
    if (p->kind != TOPIC_DATA) {
        return OK;
    }
    struct segment_log_options options = {.store = p->broker->store,
                                          .group = p->group,
                                          .segment_bytes = p->config.segment_bytes,
                                          .segment_ms = age_segment_ms(&p->config),
                                          .log_start = log_start,
                                          .next_offset = next_offset,
                                          .rows = rows,
                                          .rows_count = rows_count,
                                          .owner = p,
                                          .is_placed = is_placed};
    return segment_log_open(&options, &p->log);
}

enum err partition_open_log(struct partition *p, const struct segment_row *rows, uint32_t rows_count, int64_t log_start,
                            int64_t next_offset)
{
    return partition__open_log(p, rows, rows_count, log_start, next_offset, false);
}

enum err partition_open_placed_log(struct partition *p, const struct segment_row *rows, uint32_t rows_count,
                                   int64_t log_start, int64_t next_offset)
{
    return partition__open_log(p, rows, rows_count, log_start, next_offset, true);
}

void partition__reappend(struct partition *p)
{
    struct wal_record record = partition__record(p, WAL_HARD_STATE, p->vote_saved, p->term_saved);
    partition__set_live_lsn(p, UINT64_MAX);
    p->broker->counters.groups_reappended_total++;
    partition__log(p, &record);
    if (window_last(&p->window) > p->applied_index) {
        partition__log_entries(p, p->applied_index + 1, window_last(&p->window));
    }
    if (p->repair_unsaved) {
        struct wal_record repaired = partition__record(p, WAL_REPAIRED, p->repaired_lsn, 0);
        partition__log(p, &repaired);
    }
    p->anew_lsn = p->logged_lsn;
    groups_persist_add(p->broker, p, ANEW_WRITE_ID, p->anew_lsn);
    point(p->broker->trace, POINT_WAL_REAPPENDED);
}

uint64_t partition__unapplied_lsn(struct partition *p)
{
    return window_last(&p->window) > p->applied_index ? window_at(&p->window, p->applied_index + 1)->lsn : UINT64_MAX;
}

/* --- entries that stay for others --- */

/* Up to where every other member has the log; a follower knows nothing of the others. */
static uint64_t partition__slowest(const struct partition *p)
{
    if (raft_role(p->raft) != RAFT_LEADER) {
        return roster_is_alone(&p->roster, p->replica) ? UINT64_MAX : 0;
    }
    uint64_t index = UINT64_MAX;
    struct roster_other other;
    for (uint32_t place = 0; roster_each(&p->roster, &place, &other);) { /* who leaves gets his removal too */
        struct raft_peer_state peer;
        if (!raft_peer_state(p->raft, other.replica, &peer)) {
            continue;
        }
        uint64_t floor = peer.in_snapshot ? snapshot_floor(p, other.replica) : 0;
        uint64_t needed = peer.match > floor ? peer.match : floor;
        index = needed < index ? needed : index;
    }
    return index;
}

/* Up to here entries go although a follower may lack them: the log holds so many configurations that there is no room
 * for a whole change. */
static uint64_t partition__crowded(const struct partition *p)
{
    return p->roster.count > ROSTER_EASY_MAX ? p->checkpoint_index : 0;
}

void partition__trim(struct partition *p)
{
    struct broker *b = p->broker;
    uint64_t durable = raft_durable_index(p->raft);
    uint64_t limit = p->applied_index < durable ? p->applied_index : durable;
    uint64_t slowest = partition__slowest(p), crowded = partition__crowded(p);
    uint64_t kept_max = snapshot_is_sent(p) ? SNAPSHOT_KEPT_BYTES_MAX : WINDOW_KEPT_BYTES_MAX;
    uint64_t before = p->window.first_index;
    if (crowded > slowest) {
        mark(b->trace, MARK_WINDOW_CROWDED);
        slowest = crowded;
    }
    bool is_short = b->kept_bytes > memory_kept_max(b);
    while (p->window.first_index <= limit &&
           (p->window.first_index <= slowest || p->kept_bytes > kept_max || is_short)) {
        uint64_t bytes = window_at(&p->window, p->window.first_index)->payload.size;
        if (p->window.first_index > slowest) {
            mark(b->trace, is_short ? MARK_WINDOW_SHORT : MARK_WINDOW_LONG);
        }
        p->kept_bytes -= bytes;
        b->kept_bytes -= bytes;
        window_pop_front(&p->window);
        is_short = b->kept_bytes > memory_kept_max(b);
    }
    if (p->window.first_index <= limit) {
        mark(b->trace, MARK_WINDOW_KEPT);
    }
    if (p->window.first_index != before) {
        raft_step(p->raft, &(struct raft_event){.type = RAFT_COMPACTED, .index = p->window.first_index - 1});
    }
    roster_compact(&p->roster,
                   p->checkpoint_index < p->window.first_index ? p->checkpoint_index : p->window.first_index - 1);
}

/* A follower's entries come with the message; a leader's stand in the window since they were proposed. */
static void partition__take_incoming(struct partition *p, uint64_t last)
{
    const struct router_entries *in = p->incoming;
    while (window_last(&p->window) < last) {
        uint64_t index = window_last(&p->window) + 1;
        ASSERT(in != NULL && index >= in->first && index - in->first < in->count);
        struct window_entry entry = {.term = raft_term_of(p->raft, index),
                                     .type = in->types[index - in->first],
                                     .payload = slice_ref(in->payloads[index - in->first])};
        window_push(&p->window, &entry);
        if (entry.type == ENTRY_CONFIG) {
            partition__take_config(p, index, entry.payload);
        }
    }
}

static void partition__write(struct partition *p, const struct raft_write *write)
{
    if (write->id == 0) {
        return;
    }
    uint64_t lsn = wal_next_lsn(p->broker->wal);
    if (write->hard_state && !PLANT(1)) {
        struct wal_record record = partition__record(p, WAL_HARD_STATE, write->vote, write->term);
        p->term_saved = write->term;
        p->vote_saved = write->vote;
        point(p->broker->trace, POINT_HARD_STATE);
        lsn = partition__log(p, &record);
    }
    if (write->truncate_from != 0) {
        struct wal_record record = partition__record(p, WAL_TRUNCATE, write->truncate_from, write->term);
        struct outcome cut = {.error = ERR_UNKNOWN_OUTCOME, .offset = -1};
        mark(p->broker->trace, MARK_TRUNCATED);
        point(p->broker->trace, POINT_TRUNCATE);
        if (roster_first_behind(&p->roster, write->truncate_from - 1) != UINT64_MAX) {
            mark(p->broker->trace, MARK_TRUNCATED_CONFIG);
        }
        window_truncate(&p->window, write->truncate_from, &cut);
        roster_truncate(&p->roster, write->truncate_from);
        partition__members_changed(p);
        lsn = PLANT(86) ? lsn : partition__log(p, &record);
        point(p->broker->trace, POINT_TRUNCATED);
    }
    if (write->first <= write->last) {
        partition__take_incoming(p, write->last);
        partition__log_entries(p, write->first, write->last);
        lsn = window_at(&p->window, write->last)->lsn;
    }
    p->last_lsn = lsn;
    groups_persist_add(p->broker, p, write->id, lsn);
}

/* Everybody who waits for an entry of this leader learns that it leads no more; the entries may still commit. */
static void partition__fail_waiters(struct partition *p, enum err error)
{
    struct outcome outcome = {.error = error, .offset = -1};
    for (uint32_t i = 0; i < p->window.count; i++) {
        struct window_entry *entry = window_at(&p->window, p->window.first_index + i);
        struct waiter *waiter = entry->waiters;
        entry->waiters = NULL;
        if (waiter != NULL) {
            mark(p->broker->trace, MARK_WAITERS_FAILED);
        }
        while (waiter != NULL) {
            struct waiter *next = waiter->next;
            waiter->complete(waiter, &outcome);
            waiter = next;
        }
    }
}

static void partition__role_changed(struct partition *p, const struct raft_update *update)
{
    struct broker *b = p->broker;
    if (p->leader_ready) {
        mark(b->trace, MARK_STEPPED_DOWN);
    }
    p->leader_ready = false;
    p->log_start_in_flight = false;
    if (!PLANT(9)) {
        submitted_clear(p->submitted);
    }
    confirm_fail_all(p, partition_status(p));
    trace_debug(b->trace, "role", "group=%lu role=%d term=%lu", p->group, (int)update->role, update->term);
    if (update->role == RAFT_CANDIDATE) {
        b->counters.elections_total++;
    }
    if (update->role != RAFT_LEADER) {
        partition__fail_waiters(p, ERR_UNKNOWN_OUTCOME);
        return;
    }
    b->counters.leaders_elected_total++;
    struct entry_leader leader = {.broker = b->identity.broker, .clock_ms = age_lead(p)};
    partition_propose(p, ENTRY_LEADER, entry_encode_leader(&leader), NULL);
}

static void partition__carry_out(struct partition *p, const struct raft_update *update)
{
    partition__write(p, &update->write);
    for (uint32_t i = 0; i < update->send_now_count; i++) {
        router_send(p, &update->send_now[i]);
    }
    for (uint32_t i = 0; i < update->send_after_sync_count; i++) {
        router_send_after(p, &update->send_after_sync[i], p->last_lsn);
    }
    for (uint32_t i = 0; i < update->snapshots_count; i++) {
        snapshot_want(p, update->snapshots[i]);
    }
    if (update->role_changed) {
        partition__role_changed(p, update);
    }
    if (update->commit > p->applied_index) {
        point(p->broker->trace, POINT_COMMIT);
        partition__apply(p, update->commit);
    }
    p->leave_due = update->leave_due;
    heal_note(p, update);
    confirm_told(p, update);
}

void partition_receive(struct partition *p, const struct raft_message *m, const struct router_entries *entries)
{
    struct raft_update update;
    if (p->installing) {
        return; /* it is said again */
    }
    while (p->state == PARTITION_LIVE && raft_take(p->raft, &update)) { /* one message between two takes */
        partition__carry_out(p, &update);
    }
    if (p->state != PARTITION_LIVE) {
        return;
    }
    bool was_quiet = raft_is_quiet(p->raft);
    raft_step(p->raft, &(struct raft_event){.type = RAFT_RECV, .message = m});
    if (was_quiet && !raft_is_quiet(p->raft)) {
        quiet_woken(p, m->type == RAFT_VOTE_REQUEST ? QUIET_VOTE : QUIET_LEADER);
    }
    p->incoming = entries;
    while (p->state == PARTITION_LIVE && raft_take(p->raft, &update)) {
        partition__carry_out(p, &update);
    }
    p->incoming = NULL;
    if (p->state == PARTITION_LIVE) {
        quiet_note(p);
    }
    partition_mark_dirty(p); /* produce requests may be judged now */
}

void partition_tick(struct partition *p, uint64_t now_ms)
{
    raft_step(p->raft, &(struct raft_event){.type = RAFT_TICK, .now_ms = now_ms});
    partition_mark_dirty(p);
}

void partition_turn(struct partition *p)
{
    struct raft_update update;
    if (p->state != PARTITION_LIVE) {
        produce_refuse_pending(p);
        return;
    }
    partition__end_joint(p);
    heal_partition_turn(p);
    produce_judge_pending(p);
    while (p->state == PARTITION_LIVE && raft_take(p->raft, &update)) {
        partition__carry_out(p, &update);
        partition__end_joint(p);
        heal_partition_turn(p);
        produce_judge_pending(p); /* the group may just have become ready */
    }
    if (p->state == PARTITION_LIVE) {
        quiet_note(p);
    }
}

void partition_persisted(struct partition *p, uint64_t write_id)
{
    if (p->state != PARTITION_LIVE) {
        return;
    }
    raft_step(p->raft, &(struct raft_event){.type = RAFT_PERSISTED, .write_id = write_id});
    partition_mark_dirty(p);
}

/* It replicates no more. */
static void partition__leave_others(struct partition *p)
{
    struct broker *b = p->broker;
    quiet_forget(p);
    router_forget(p);
    snapshot_forget(p);
    b->kept_bytes -= p->kept_bytes;
    p->kept_bytes = 0;
}

static void partition__leave_lists(struct partition *p)
{
    struct broker *b = p->broker;
    if (p->dirty) {
        TAILQ_REMOVE(&b->dirty, p, dirty_link);
        p->dirty = false;
    }
    partition__leave_others(p);
    age_forget(p);
    order_remove(&b->live, &p->live);
    if (p->waits_for_room) {
        TAILQ_REMOVE(&b->room_queue, p, room_link);
        p->waits_for_room = false;
    }
    if (p->checkpoint_wanted) {
        TAILQ_REMOVE(&b->checkpoint_queue, p, checkpoint_link);
        p->checkpoint_wanted = false;
    }
}

static void partition__answer_all(struct partition *p, enum err error)
{
    partition__fail_waiters(p, error);
    produce_refuse_pending(p);
    fetch_fail_all(p, error);
    confirm_fail_all(p, error);
}

void partition_give_up(struct partition *p)
{
    static const struct outcome nobody_waits = {.error = ERR_CORRUPT};
    ASSERT(p->state == PARTITION_LIVE || p->state == PARTITION_DAMAGED);
    mark(p->broker->trace, MARK_GAVE_UP);
    p->state = PARTITION_DAMAGED;
    p->is_withheld = p->healing = p->heal_due = false;
    p->leader_ready = false;
    p->damaged_lsn = p->live_lsn;
    partition__leave_others(p);
    age_forget(p);
    partition__answer_all(p, ERR_CORRUPT);
    submitted_clear(p->submitted);
    window_truncate(&p->window, p->window.first_index, &nobody_waits);
    raft_free(p->raft);
    p->raft = NULL;
    if (p->log != NULL) {
        segment_log_abandon(p->log);
        p->log = NULL;
    }
}

void partition_kill(struct partition *p, enum err error)
{
    struct broker *b = p->broker;
    ASSERT(p->state != PARTITION_DEAD);
    mark(b->trace, MARK_KILLED);
    p->state = PARTITION_DEAD;
    HASH_DEL(b->groups, p);
    partition__leave_lists(p);
    partition__answer_all(p, error);
    point(b->trace, POINT_GROUP_DEAD);
    b->dead_count++;
    p->jobs_inflight++; /* held by the removal of files and rows */
    groups_remove_data(p);
}

void partition_free(struct partition *p)
{
    if (p->state != PARTITION_DEAD) {
        HASH_DEL(p->broker->groups, p);
        partition__leave_lists(p);
        partition__answer_all(p, ERR_SHUTTING_DOWN);
    }
    if (p->log != NULL) {
        segment_log_close(p->log);
    }
    window_free(&p->window);
    raft_free(p->raft);
    done_table_free(p->done);
    submitted_table_free(p->submitted);
    state_free(p->table);
    roster_free(&p->roster);
    free(p->epochs);
    free(p);
}
