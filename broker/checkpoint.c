/* Checkpoints: the durable picture of many groups in one transaction, and the release of WAL files that it allows.
 *
 * A picture is captured on the loop thread at applied index i; the job then runs on the store lane behind the segment
 * writes queued before it: sync segments, ONE transaction for all groups, so that applied index, done table and segment
 * ends can never disagree (etcd 3.5 lost data by saving them apart). Only when it is durable do WAL records below it
 * lose their purpose.
 *
 * A picture whose batches could not be written (no room, no descriptors, an error of that one file) is *delayed*: it is
 * tried again every second, as it is, and the others go on without it. The segments that its log dropped meanwhile need
 * not wait: a transaction of their own takes them out of the stored manifest. That is how retention makes room on a
 * disk that is too full for a checkpoint. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/heal.h"
#include "broker/impl.h"
#include "broker/manifest.h"
#include "broker/state.h"

#define CHECKPOINT_GROUPS_MAX 256
#define CHECKPOINT_RETRY_US   1000000u

struct checkpoint_item {
    struct partition *partition;       /* kept alive by jobs_inflight */
    struct store_checkpoint *segments; /* NULL for STATE groups */
    struct meta_picture picture;
    bool is_whole;             /* the picture has all rows, and replaces all that stand there */
    struct meta_epoch *epochs; /* owned copies */
    uint64_t *epochs_removed;  /* owned */
    struct done_row *done;
    int64_t *done_removed;
    struct meta_state_row *state;
    uint64_t live_lsn; /* of what the picture does not hold */
    enum err error;    /* why it is delayed */
    bool is_rotten;    /* lane: the group's row cannot be read, so that no segment goes without a whole new picture */
    bool sheds;        /* dropped segments may go without it: */
    struct segment_shed shed;
    int64_t kept_base; /* lane: of the stored manifest's last row */
};

struct checkpoint_job {
    struct disk_job job; /* first */
    struct broker *broker;
    enum err error;
    TAILQ_ENTRY(checkpoint_job) link; /* of the delayed ones */
    uint64_t retry_us;                /* delayed: not before */
    uint32_t count;                   /* 0: asks the checkpoint store whether it has room again */
    struct checkpoint_item items[CHECKPOINT_GROUPS_MAX];
};

/* --- capture (loop thread) --- */

struct done_copy {
    struct done_row *rows;
    uint32_t count, capacity;
};

static void checkpoint__copy_done(void *context, const struct done_row *row)
{
    struct done_copy *copy = context;
    if (copy->count == copy->capacity) {
        copy->capacity = copy->capacity == 0 ? 16 : copy->capacity * 2;
        copy->rows = mem_grow(copy->rows, copy->capacity * sizeof *copy->rows);
    }
    copy->rows[copy->count++] = *row;
}

static void checkpoint__capture_group(const struct partition *p, struct meta_group *group)
{
    *group = (struct meta_group){
        .group = p->group,
        .replica = p->replica,
        .term = p->term_saved,
        .vote = p->vote_saved,
        .applied_index = p->applied_index,
        .applied_term = p->applied_term,
        .next_offset = partition_high_watermark(p),
        .log_start = partition_log_start(p),
        .log_clock_ms = p->log_clock_ms,
        .idle_clock_ms = p->idle_clock_ms,
        .kind = (uint8_t)p->kind,
        .segment_bytes = p->config.segment_bytes,
        .segment_ms = p->config.segment_ms,
        .retention_bytes = p->config.retention_bytes,
        .retention_ms = p->config.retention_ms,
        .snapshot_lsn = p->snapshot_lsn,
        .repaired_lsn = p->repaired_lsn,
        .accepted_lsn = p->accepted_lsn,
        .damaged = p->healing,
        .healing = p->healing,
        .damaged_lsn = p->healing ? UINT64_MAX : 0,
        .csm_count = (uint32_t)submitted_count(p->submitted),
    };
    struct members members;
    group->config_index = roster_at(&p->roster, p->applied_index, &members);
    members_to_row(&members, group);
}

/* With this picture a start needs nothing of the group in batches before the one of its oldest unapplied entry: what
 * rots there, or has, is no damage. A released file still holds such batches until it is written over. No further than
 * what is durable: lsns behind it may come again after a crash. */
static void checkpoint__forgive(struct partition *p)
{
    uint64_t unapplied_lsn = partition__unapplied_lsn(p), durable_lsn = wal_durable_lsn(p->broker->wal);
    uint64_t needed_lsn = unapplied_lsn < durable_lsn ? unapplied_lsn : durable_lsn;
    bool is_moving = p->anew_lsn >= durable_lsn; /* a crash would still need the older records */
    if (p->state == PARTITION_LIVE && p->accepted_lsn == 0 && p->repaired_lsn < needed_lsn && !is_moving) {
        p->repaired_lsn = needed_lsn;
    }
}

/* Terms that own nothing from the first segment on are nobody's business any more: those before it, and those in which
 * a leader was elected and nothing was stored. So there are no more of them than terms that the records are of. */
static void checkpoint__capture_epochs(struct partition *p, struct checkpoint_item *item)
{
    struct meta_picture *picture = &item->picture;
    const struct store_checkpoint *segments = item->segments;
    int64_t first_base = segments == NULL           ? 0
                         : segments->rows_count > 0 ? segments->rows[0].base_offset
                                                    : segments->next_offset;
    uint32_t kept = 0, kept_saved = 0;
    item->epochs_removed = mem_zeroed(p->epochs_saved + 1, sizeof item->epochs_removed[0]);
    for (uint32_t i = 0; i < p->epochs_count; i++) {
        const struct meta_epoch epoch = p->epochs[i];
        int64_t begin = epoch.first_offset > first_base ? epoch.first_offset : first_base;
        if (i + 1 == p->epochs_count || p->epochs[i + 1].first_offset > begin) {
            kept_saved += i < p->epochs_saved;
            p->epochs[kept++] = epoch;
        } else if (i < p->epochs_saved) {
            item->epochs_removed[picture->epochs_removed_count++] = epoch.term;
        }
    }
    picture->epochs_count = kept - kept_saved;
    item->epochs = mem_zeroed(picture->epochs_count + 1, sizeof item->epochs[0]);
    for (uint32_t i = 0; i < picture->epochs_count; i++) {
        item->epochs[i] = p->epochs[kept_saved + i];
    }
    p->epochs_count = p->epochs_saved = kept;
    picture->epochs = item->epochs;
    picture->epochs_removed = item->epochs_removed;
}

static void checkpoint__capture(struct partition *p, struct checkpoint_item *item)
{
    struct meta_picture *picture = &item->picture;
    struct done_copy done = {0};
    *item = (struct checkpoint_item){.partition = p};
    checkpoint__forgive(p);
    recovery_settle(p);
    checkpoint__capture_group(p, &picture->group);
    if (p->log != NULL) {
        item->segments = store_checkpoint_new(p->log);
    }
    bool is_doubted = p->rows_doubted && !PLANT(69);
    p->rows_doubted = false;
    if (is_doubted) {
        item->is_whole = true;
        p->epochs_saved = 0;
        done_mark_all_dirty(p->done);
        if (p->table != NULL) {
            state_mark_all_dirty(p->table);
        }
    }
    checkpoint__capture_epochs(p, item);
    done_take_dirty(p->done, checkpoint__copy_done, &done);
    item->done = done.rows;
    picture->done_count = PLANT(46) ? 0 : done.count;
    item->done_removed = done_take_removed(p->done, &picture->done_removed_count);
    if (p->table != NULL) {
        picture->state_count = state_take_dirty(p->table, &item->state);
    }
    picture->done = item->done;
    picture->done_removed = item->done_removed;
    picture->state = item->state;
    item->live_lsn = partition__unapplied_lsn(p);
    p->live_lsn_since = UINT64_MAX;
    p->bytes_since_checkpoint = 0;
    p->entries_since_checkpoint = 0;
    p->checkpointing = true;
    p->jobs_inflight++;
    item->sheds = p->log != NULL && segment_log_sheds(p->log, &item->shed);
}

static void checkpoint__free_item(struct checkpoint_item *item)
{
    free(item->epochs);
    free(item->epochs_removed);
    free(item->done);
    free(item->done_removed);
    free(item->state);
}

/* --- run (store lane) --- */

static enum err checkpoint__put(struct kv *kv, struct kv_txn *txn, struct checkpoint_item *item)
{
    uint32_t count = item->segments != NULL ? item->segments->rows_count : 0;
    struct meta_segment *segments = mem_zeroed(count + 1, sizeof *segments);
    for (uint32_t i = 0; i < count; i++) {
        segments[i] = manifest_to_meta(&item->segments->rows[i]);
    }
    item->picture.segments = segments;
    item->picture.segments_count = count;
    if (PLANT(30)) {
        item->picture.group.applied_index = item->partition->applied_index;
    }
    enum err error = item->is_whole ? meta_delete_group(kv, txn, item->picture.group.group) : OK;
    if (error == OK) {
        error = meta_put_picture(kv, txn, &item->picture);
    }
    item->picture.segments = NULL;
    free(segments);
    return error;
}

static bool checkpoint__may_pass(enum err error)
{
    return error == ERR_STORAGE_FULL || error == ERR_NO_MEMORY || error == ERR_TOO_MANY_FILES || error == ERR_AGAIN;
}

/* Syncs the segments of each group. *ret_any: some groups' pictures are ready, or segments are to go. */
static enum err checkpoint__sync(struct checkpoint_job *job, bool *ret_any)
{
    bool any = job->count == 0;
    for (uint32_t i = 0; i < job->count; i++) {
        struct checkpoint_item *item = &job->items[i];
        item->error = item->segments != NULL ? store_checkpoint_sync(item->segments) : OK;
        if (item->error != OK && !checkpoint__may_pass(item->error)) {
            return item->error;
        }
        any |= item->error == OK || item->sheds;
    }
    *ret_any = any;
    return OK;
}

static enum err checkpoint__put_or_shed(struct kv *kv, struct kv_txn *txn, struct checkpoint_item *item)
{
    if (item->error == OK) {
        return checkpoint__put(kv, txn, item);
    }
    struct meta_group row;
    uint64_t group = item->picture.group.group;
    item->is_rotten = item->sheds && meta_get_group(kv, txn, group, &row) == ERR_FORMAT;
    item->sheds &= !item->is_rotten;
    return item->sheds ? meta_shed_segments(kv, txn, group, item->shed.first_base, &item->kept_base) : OK;
}

static void checkpoint__run(struct disk_job *base)
{
    struct checkpoint_job *job = (struct checkpoint_job *)base;
    struct kv *kv = job->broker->kv;
    struct kv_txn *txn;
    bool any = false;
    job->error = checkpoint__sync(job, &any);
    if (job->error != OK || !any) {
        return;
    }
    point(job->broker->trace, POINT_CHECKPOINT_SYNCED);
    job->error = kv->ops->begin(kv, true, &txn);
    if (job->error != OK) {
        return;
    }
    for (uint32_t i = 0; i < job->count; i++) {
        if (PLANT(51) && i > 0) {
            job->items[i].picture.group.group = job->items[i - 1].partition->group;
        }
        job->error = checkpoint__put_or_shed(kv, txn, &job->items[i]);
        if (job->error != OK) {
            kv->ops->abort(kv, txn);
            return;
        }
    }
    if (job->count == 0) {
        kv->ops->abort(kv, txn);
        return;
    }
    point(job->broker->trace, POINT_CHECKPOINT_COMMIT);
    job->error = kv->ops->commit(kv, txn);
    point(job->broker->trace, POINT_CHECKPOINT_COMMITTED);
}

/* --- done (loop thread) --- */

static void checkpoint__settle(struct checkpoint_item *item)
{
    struct partition *p = item->partition;
    struct broker *b = p->broker;
    if (item->segments != NULL) {
        store_checkpoint_done(item->segments, true);
    }
    checkpoint__free_item(item);
    p->jobs_inflight--;
    p->checkpointing = false;
    if (p->state == PARTITION_DEAD) {
        groups_reap(p);
        return;
    }
    if (p->checkpoint_delayed) { /* much may have been applied since */
        p->checkpoint_delayed = false;
        checkpoint_want(p);
    }
    b->counters.checkpoints_total++;
    partition__set_live_lsn(p, item->live_lsn < p->live_lsn_since ? item->live_lsn : p->live_lsn_since);
    p->checkpoint_index = item->picture.group.applied_index;
    p->checkpoint_end = item->picture.group.next_offset;
    p->has_picture = true;
    heal_on_picture(p, item->picture.group.healing);
    struct wal_record record = {.type = WAL_CHECKPOINT,
                                .group = p->group,
                                .replica = p->replica,
                                .index = item->picture.group.applied_index,
                                .term = item->picture.group.applied_term};
    wal_append(b->wal, &record); /* for readers of the log; pins nothing */
    if (p->raft != NULL) {
        partition__trim(p);
        partition_mark_dirty(p);
    }
}

/* --- delayed ones (loop thread) --- */

static struct checkpoint_job *checkpoint__job_new(struct broker *b);

static void checkpoint__delay(struct broker *b, struct checkpoint_item *item, enum err error)
{
    struct checkpoint_job *job = TAILQ_LAST(&b->checkpoints_delayed, checkpoint_jobs);
    if (b->delayed_count++ == 0) {
        trace_warn(b->trace, "checkpoint_delayed", "group=%lu error=%s", item->partition->group, err_name(error));
    }
    if (job == NULL || job->count == CHECKPOINT_GROUPS_MAX) {
        job = checkpoint__job_new(b);
        job->retry_us = clock_now_us(b->clock) + CHECKPOINT_RETRY_US;
        TAILQ_INSERT_TAIL(&b->checkpoints_delayed, job, link);
    }
    item->error = error;
    item->partition->checkpoint_delayed = true;
    b->delayed_full_count += error == ERR_STORAGE_FULL;
    job->items[job->count++] = *item;
}

static void checkpoint__drop(struct checkpoint_item *item)
{
    struct partition *p = item->partition;
    if (item->segments != NULL) {
        store_checkpoint_done(item->segments, false);
    }
    checkpoint__free_item(item);
    p->jobs_inflight--;
    p->checkpointing = p->checkpoint_delayed = false;
    groups_reap(p);
}

/* The oldest delayed pictures are tried again. Nobody wants those of a group that died, was found damaged, or is about
 * to get a newer one from another broker. */
static void checkpoint__retry(struct broker *b, struct checkpoint_job *job)
{
    uint32_t count = job->count;
    TAILQ_REMOVE(&b->checkpoints_delayed, job, link);
    job->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct checkpoint_item *item = &job->items[i];
        struct partition *p = item->partition;
        if (p->state == PARTITION_DEAD || p->state == PARTITION_DAMAGED || p->installing) {
            b->delayed_count--;
            b->delayed_full_count -= item->error == ERR_STORAGE_FULL;
            checkpoint__drop(item);
            continue;
        }
        if (item->segments != NULL) {
            store_checkpoint_refresh(item->segments);
            item->picture.group.log_start = item->segments->log_start;
            item->sheds = segment_log_sheds(p->log, &item->shed);
        }
        job->items[job->count++] = *item;
    }
    if (job->count == 0) {
        free(job);
        return;
    }
    b->retried_count = job->count; /* until its end they count as delayed, so that nobody takes a try for room */
    for (uint32_t i = 0; i < job->count; i++) {
        b->retried_full_count += job->items[i].error == ERR_STORAGE_FULL;
    }
    b->checkpoint = job;
    b->disk->ops->submit(b->disk, DISK_LANE_STORE, &job->job);
}

/* What the job leaves behind: pictures that are durable, and those that wait. */
static void checkpoint__take_items(struct broker *b, struct checkpoint_job *job)
{
    enum err error = job->error;
    for (uint32_t i = 0; i < job->count; i++) {
        struct checkpoint_item *item = &job->items[i];
        struct partition *p = item->partition;
        if (error == OK && item->error == OK) {
            checkpoint__settle(item);
            continue;
        }
        if (error == OK && item->sheds && p->state != PARTITION_DEAD && p->log != NULL) {
            segment_log_shed(p->log, &item->shed, item->kept_base);
        }
        p->rows_doubted |= item->is_rotten;
        checkpoint__delay(b, item, error != OK ? error : item->error);
    }
}

static void checkpoint__done(struct disk_job *base)
{
    struct checkpoint_job *job = (struct checkpoint_job *)base;
    struct broker *b = job->broker;
    if (job->error != OK && !checkpoint__may_pass(job->error)) {
        broker__fail(b, job->error == ERR_FORMAT ? BROKER_EXIT_UNREADABLE : BROKER_EXIT_STORAGE, "checkpoint failed");
        return;
    }
    b->checkpoint = NULL;
    b->counters.checkpoint_transactions_total += job->error == OK && job->count > 0;
    uint32_t retried_full = b->retried_full_count, retried = b->retried_count;
    b->retried_count = b->retried_full_count = 0;
    checkpoint__take_items(b, job);
    b->delayed_count -= retried;
    b->delayed_full_count -= retried_full;
    if (retried > 0 && b->delayed_count == 0) {
        trace_info(b->trace, "checkpoint_goes_on", "groups=%u", retried);
    }
    free(job);
    point(b->trace, POINT_CHECKPOINT_SETTLED);
    checkpoint_release(b);
}

/* --- when --- */

static bool checkpoint__possible(const struct partition *p)
{
    return p->state != PARTITION_DEAD && p->state != PARTITION_DAMAGED && !p->checkpoint_delayed && !p->installing &&
           (p->kind == TOPIC_STATE || p->log != NULL) && (!p->is_blank || p->applied_index > 0);
}

void checkpoint_want(struct partition *p)
{
    if (!p->checkpoint_wanted && checkpoint__possible(p)) {
        p->checkpoint_wanted = true;
        TAILQ_INSERT_TAIL(&p->broker->checkpoint_queue, p, checkpoint_link);
    }
}

static struct checkpoint_job *checkpoint__job_new(struct broker *b)
{
    struct checkpoint_job *job = mem_grow(NULL, sizeof *job);
    memset(job, 0, offsetof(struct checkpoint_job, items)); /* of the items, most are never used */
    job->job.run = checkpoint__run;
    job->job.done = checkpoint__done;
    job->broker = b;
    return job;
}

static void checkpoint__submit(struct broker *b, struct checkpoint_job *job)
{
    b->checkpoint = job;
    point(b->trace, POINT_CHECKPOINT_CAPTURED);
    store_flush(b->store); /* what is queued goes ahead of the job on the lane */
    b->disk->ops->submit(b->disk, DISK_LANE_STORE, &job->job);
}

static void checkpoint__start(struct broker *b)
{
    struct checkpoint_job *job = checkpoint__job_new(b);
    while (job->count < CHECKPOINT_GROUPS_MAX && !TAILQ_EMPTY(&b->checkpoint_queue)) {
        struct partition *p = TAILQ_FIRST(&b->checkpoint_queue);
        TAILQ_REMOVE(&b->checkpoint_queue, p, checkpoint_link);
        p->checkpoint_wanted = false;
        if (checkpoint__possible(p)) {
            checkpoint__capture(p, &job->items[job->count++]);
        }
    }
    if (job->count == 0) {
        free(job);
        return;
    }
    checkpoint__submit(b, job);
}

void checkpoint_release(struct broker *b)
{
    uint64_t pinned = PLANT(34) ? UINT64_MAX : groups_pinned_lsn(b);
    uint64_t durable = wal_durable_lsn(b->wal);
    if (pinned > durable) {
        pinned = durable;
    }
    if (pinned >= wal_oldest_end_lsn(b->wal)) {
        wal_release(b->wal, pinned);
    }
}

uint64_t checkpoint_reappend_max(const struct broker *b)
{
    return b->config->wal_budget_bytes / WAL_ABANDON_PARTS;
}

/* What pins the files is checkpointed; what a checkpoint cannot take (unapplied entries of a group that has just been
 * checkpointed) is written again at the head. */
void checkpoint_clear_below(struct broker *b, uint64_t lsn)
{
    struct order_item *item, *next;
    for (item = order_first(&b->live); item != NULL && item->key < lsn; item = next) {
        struct partition *p = item->owner;
        next = order_next(item); /* a re-append moves this one to the end */
        if (p->is_withheld && p->window.bytes <= checkpoint_reappend_max(b)) {
            partition__reappend(p);
            continue;
        }
        if (!checkpoint__possible(p) || p->damage_saved) {
            continue;
        }
        if (p->state == PARTITION_LIVE && roster_is_alone(&p->roster, p->replica) && !p->leader_ready) {
            continue; /* after a start: in a moment it leads, all it has is applied, and a checkpoint takes it */
        }
        if (p->has_picture && p->entries_since_checkpoint == 0 && p->checkpoint_index == p->applied_index &&
            window_last(&p->window) > p->applied_index) {
            partition__reappend(p);
        } else {
            checkpoint_want(p);
        }
    }
}

/* Nothing else may write to a store that is short, and only a write finds out that there is room again. */
static bool checkpoint__probe_is_due(struct broker *b)
{
    uint64_t now_us = clock_now_us(b->clock);
    if (!b->kv->ops->is_short(b->kv) || now_us < b->probe_us) {
        return false;
    }
    b->probe_us = now_us + CHECKPOINT_RETRY_US;
    return true;
}

void checkpoint_turn(struct broker *b)
{
    struct checkpoint_job *delayed = TAILQ_FIRST(&b->checkpoints_delayed);
    if (b->checkpoint != NULL) {
        return;
    }
    if (delayed != NULL && clock_now_us(b->clock) >= delayed->retry_us) {
        checkpoint__retry(b, delayed);
    } else if (checkpoint__probe_is_due(b)) {
        checkpoint__submit(b, checkpoint__job_new(b));
    }
    if (b->checkpoint != NULL) {
        return;
    }
    if (b->ready && wal_wants_release(b->wal)) { /* ready: the groups that topics name have started */
        checkpoint_release(b); /* what pinned the oldest file may have been deleted, not checkpointed */
        if (wal_oldest_end_lsn(b->wal) != UINT64_MAX) {
            groups_log_deaths_anew(b, wal_oldest_end_lsn(b->wal));
        }
        checkpoint_clear_below(b, wal_oldest_end_lsn(b->wal));
        abandon_turn(b);
    }
    if (!TAILQ_EMPTY(&b->checkpoint_queue)) {
        checkpoint__start(b);
    }
}

uint64_t checkpoint_deadline_us(const struct broker *b)
{
    const struct checkpoint_job *delayed = TAILQ_FIRST(&b->checkpoints_delayed);
    uint64_t due_us = b->kv->ops->is_short(b->kv) ? b->probe_us : UINT64_MAX;
    if (b->checkpoint != NULL) {
        return UINT64_MAX;
    }
    return delayed != NULL && delayed->retry_us < due_us ? delayed->retry_us : due_us;
}

bool checkpoint_is_busy(const struct broker *b)
{
    const struct checkpoint_job *delayed = TAILQ_FIRST(&b->checkpoints_delayed);
    return b->checkpoint != NULL || !TAILQ_EMPTY(&b->checkpoint_queue) ||
           (delayed != NULL && clock_now_us(b->clock) >= delayed->retry_us);
}

void checkpoint_hurry(struct broker *b)
{
    struct checkpoint_job *job;
    TAILQ_FOREACH(job, &b->checkpoints_delayed, link)
    {
        job->retry_us = 0;
    }
}

bool checkpoint_is_delayed(const struct broker *b)
{
    return b->delayed_count > 0;
}

bool checkpoint_disk_full(const struct broker *b)
{
    return b->delayed_full_count > 0 || b->kv->ops->is_short(b->kv);
}

static void checkpoint__free_job(struct checkpoint_job *job)
{
    for (uint32_t i = 0; i < job->count; i++) {
        if (job->items[i].segments != NULL) {
            store_checkpoint_done(job->items[i].segments, false);
        }
        checkpoint__free_item(&job->items[i]);
    }
    free(job);
}

void checkpoint_free(struct broker *b)
{
    struct checkpoint_job *job;
    if (b->checkpoint != NULL) {
        checkpoint__free_job(b->checkpoint);
        b->checkpoint = NULL;
    }
    while ((job = TAILQ_FIRST(&b->checkpoints_delayed)) != NULL) {
        TAILQ_REMOVE(&b->checkpoints_delayed, job, link);
        checkpoint__free_job(job);
    }
}
