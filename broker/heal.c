/* Damaged replicas that come back. See heal.h. */
#include "broker/heal.h"

#include <stdlib.h>

#include "base/mem.h"
#include "broker/age.h"
#include "broker/assign.h"
#include "broker/impl.h"
#include "broker/state.h"
#include "store/scrub.h"

#define HEAL_RETRY_US   1000000u
#define HEAL_ASK_US     5000000u
#define HEAL_GROUPS_MAX 256u

struct heal_item {
    struct partition *partition; /* kept alive by jobs_inflight */
    uint64_t group, term, vote, lsn;
};

struct heal_job {
    struct disk_job job; /* first */
    struct broker *broker;
    enum err error;
    uint32_t count;
    struct heal_item items[HEAL_GROUPS_MAX];
};

bool heal_is_possible(const struct partition *p)
{
    struct roster_other other;
    struct members first;
    (void)roster_at(&p->roster, p->checkpoint_index, &first); /* of the row; later ones were judged as they were read */
    if (p->replica == 0 || !members_are_sane(&first)) {
        return false;
    }
    for (uint32_t place = 0; roster_each(&p->roster, &place, &other);) {
        if (other.replica != p->replica) {
            return true;
        }
    }
    return false;
}

/* --- at start --- */

void heal_make_blank(struct partition *p)
{
    struct members members;
    (void)roster_newest(&p->roster, &members);
    roster_free(&p->roster);
    roster_init(&p->roster, 0, &members); /* it neither votes nor counts by them; it hears from them */
    p->is_blank = true;
    p->rows_doubted = true;
    p->applied_index = p->applied_term = p->checkpoint_index = 0;
    p->checkpoint_end = 0;
    p->window.first_index = 1;
    p->log_clock_ms = p->idle_clock_ms = 0;
    p->epochs_count = p->epochs_saved = 0;
    done_table_free(p->done);
    p->done = done_table_new();
    state_free(p->table);
    p->table = p->kind == TOPIC_STATE ? state_new(p->group) : NULL;
}

/* What stood in the log before it is of no use, and stays only while there is room. */
static void heal__begin_blank(struct partition *p)
{
    p->snapshot_lsn = p->repaired_lsn = wal_next_lsn(p->broker->wal);
    p->accepted_lsn = 0;
    p->damage_saved = true;
}

/* What is in front of the damage again at the head. The old records stay until the row says that the new ones count. */
static void heal__begin_anew(struct partition *p)
{
    uint64_t live_lsn = p->live_lsn;
    p->was_healing = p->repair_unsaved = false;
    p->heal_lsn = wal_next_lsn(p->broker->wal);
    partition__reappend(p);
    partition__set_live_lsn(p, live_lsn < p->heal_lsn ? live_lsn : p->heal_lsn);
    p->damage_saved = true;
    p->heal_due = true;
    p->broker->heals_waiting = true;
}

bool heal_begin(struct partition *p)
{
    if (!heal_is_possible(p) || (p->kind == TOPIC_DATA && p->log == NULL)) {
        return false;
    }
    bool goes_on = p->was_healing && p->damage_saved && !p->is_blank;
    trace_info(p->broker->trace, "group_heals", "group=%lu replica=%lu last_index=%lu blank=%d goes_on=%d", p->group,
               p->replica, window_last(&p->window), p->is_blank, goes_on);
    if (p->is_blank) {
        heal__begin_blank(p);
    } else if (goes_on) {
        p->damage_saved = false; /* what it has in the log is needed like anybody's */
    } else {
        heal__begin_anew(p);
        return true;
    }
    p->healing = true;
    p->state = PARTITION_BIRTH;
    return true;
}

/* --- the row: from here on its log is whole again --- */

static enum err heal__put(struct kv *kv, struct kv_txn *txn, const struct heal_item *item)
{
    struct meta_group row;
    enum err error = meta_get_group(kv, txn, item->group, &row);
    if (error != OK) {
        return error;
    }
    row.damaged = row.healing = true;
    row.damaged_lsn = UINT64_MAX;
    row.snapshot_lsn = item->lsn;
    row.repaired_lsn = item->lsn;
    row.accepted_lsn = 0;
    row.term = item->term;
    row.vote = item->vote;
    return meta_put_group(kv, txn, &row);
}

static void heal__run(struct disk_job *base)
{
    struct heal_job *job = (struct heal_job *)base;
    struct kv *kv = job->broker->kv;
    struct kv_txn *txn;
    job->error = kv->ops->begin(kv, true, &txn);
    if (job->error != OK) {
        return;
    }
    for (uint32_t i = 0; i < job->count && job->error == OK; i++) {
        job->error = heal__put(kv, txn, &job->items[i]);
    }
    if (job->error != OK) {
        kv->ops->abort(kv, txn);
        return;
    }
    job->error = kv->ops->commit(kv, txn);
}

/* Its core may open as soon as somebody asks for that. */
static void heal__open(struct partition *p)
{
    p->heal_due = false;
    p->healing = true;
    p->damage_saved = false;
    p->has_picture = true;
    p->snapshot_lsn = p->repaired_lsn = p->heal_lsn;
    p->accepted_lsn = 0;
    partition__set_live_lsn(p, p->heal_lsn);
    p->state = PARTITION_BIRTH;
    assign_born(p);
}

static void heal__done(struct disk_job *base)
{
    struct heal_job *job = (struct heal_job *)base;
    struct broker *b = job->broker;
    b->heal = NULL;
    for (uint32_t i = 0; i < job->count; i++) {
        struct partition *p = job->items[i].partition;
        p->jobs_inflight--;
        if (p->state == PARTITION_DEAD) {
            groups_reap(p);
        } else if (job->error == OK) {
            heal__open(p);
        }
    }
    if (job->error == ERR_IO) {
        broker__fail(b, BROKER_EXIT_STORAGE, "checkpoint store failed");
    } else if (job->error != OK) { /* no room: again in a moment */
        b->heal_due_us = clock_now_us(b->clock) + HEAL_RETRY_US;
    } else {
        checkpoint_release(b);
    }
    free(job);
}

void heal_turn(struct broker *b)
{
    if (!b->heals_waiting || b->heal != NULL || b->stopping || clock_now_us(b->clock) < b->heal_due_us) {
        return;
    }
    uint64_t durable_lsn = wal_durable_lsn(b->wal);
    b->heal_due_us = 0;
    struct heal_job *job = mem_zeroed(1, sizeof *job);
    b->heals_waiting = false;
    for (struct partition *p = b->groups; p != NULL; p = p->hh.next) {
        b->heals_waiting |= p->heal_due;
        if (p->heal_due && p->logged_lsn < durable_lsn && job->count < HEAL_GROUPS_MAX) {
            job->items[job->count++] = (struct heal_item){
                .partition = p, .group = p->group, .term = p->term_saved, .vote = p->vote_saved, .lsn = p->heal_lsn};
            p->jobs_inflight++;
        }
    }
    if (job->count == 0) {
        free(job);
        return;
    }
    job->job.run = heal__run;
    job->job.done = heal__done;
    job->broker = b;
    b->heal = job;
    b->disk->ops->submit(b->disk, DISK_LANE_STORE, &job->job);
}

static uint64_t heal__ask_deadline_us(const struct broker *b)
{
    return b->has_found_damage && !b->stopping ? b->heal_ask_us : UINT64_MAX;
}

uint64_t heal_deadline_us(const struct broker *b)
{
    bool waits = b->heals_waiting && b->heal == NULL && !b->stopping && b->heal_due_us != 0;
    uint64_t ask_us = heal__ask_deadline_us(b);
    return waits && b->heal_due_us < ask_us ? b->heal_due_us : ask_us;
}

/* --- while it heals, and its leader --- */

void heal_note(struct partition *p, const struct raft_update *update)
{
    p->noop_due = update->noop_due;
    p->repair_due = update->repaired;
}

/* A blank one has nothing to fall back to before its first picture. */
static void heal__repair(struct partition *p)
{
    if (p->is_blank) {
        checkpoint_want(p);
        return;
    }
    struct wal_record record = {
        .type = WAL_REPAIRED, .group = p->group, .replica = p->replica, .index = p->repaired_lsn};
    p->repair_due = false;
    p->repair_logged = true;
    groups_persist_add(p->broker, p, HEAL_WRITE_ID, partition__log(p, &record));
}

void heal_partition_turn(struct partition *p)
{
    if (p->state != PARTITION_LIVE) {
        return;
    }
    if (p->repair_due && p->healing && !p->repair_logged && !p->installing) {
        heal__repair(p);
    }
    if (p->noop_due && partition_may_propose(p) == OK) {
        p->noop_due = false;
        age_propose(p);
    }
}

void heal_on_persisted(struct partition *p)
{
    struct broker *b = p->broker;
    p->repair_logged = false;
    if (p->state != PARTITION_LIVE || p->installing) {
        return; /* update.repaired comes again */
    }
    raft_step(p->raft, &(struct raft_event){.type = RAFT_REPAIRED});
    if (raft_is_damaged(p->raft)) {
        return;
    }
    p->healing = p->was_healing = false;
    p->repair_unsaved = true;
    b->counters.groups_healed_total++;
    trace_info(b->trace, "group_healed", "group=%lu replica=%lu index=%lu", p->group, p->replica, p->applied_index);
    checkpoint_want(p);
    partition_mark_dirty(p);
}

void heal_on_picture(struct partition *p, bool healing)
{
    if (p->is_blank) {
        p->is_blank = false;
        p->damage_saved = false;
        partition_mark_dirty(p);
    }
    p->repair_unsaved = p->repair_unsaved && healing;
}

/* --- records --- */

void heal_timer(struct broker *b, uint64_t now_us)
{
    if (now_us < heal__ask_deadline_us(b)) {
        return;
    }
    b->heal_ask_us = now_us + HEAL_ASK_US;
    for (struct partition *p = b->groups; p != NULL; p = p->hh.next) {
        bool may_ask = p->state == PARTITION_LIVE && !p->installing && p->log != NULL;
        if (may_ask && raft_role(p->raft) != RAFT_LEADER && raft_leader(p->raft) != 0 &&
            segment_log_damaged_ranges(p->log) > 0) {
            snapshot_ask(p);
        }
    }
}
