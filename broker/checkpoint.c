/* Checkpoints: the durable picture of many groups in one transaction, and the release of WAL files that it allows.
 *
 * A picture is captured on the loop thread at applied index i; the job then runs on the store lane behind the segment
 * writes queued before it: sync segments, ONE transaction for all groups, so that applied index, done table and segment
 * ends can never disagree (etcd 3.5 lost data by saving them apart). Only when it is durable do WAL records below it
 * lose their purpose. A full disk is retried with the same picture. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/impl.h"
#include "broker/state.h"

#define CHECKPOINT_GROUPS_MAX 256
#define CHECKPOINT_RETRY_US   1000000u

struct checkpoint_item {
    struct partition *partition;       /* kept alive by jobs_inflight */
    struct store_checkpoint *segments; /* NULL for STATE groups */
    struct meta_picture picture;
    bool is_whole;             /* the picture has all rows, and replaces all that stand there */
    struct meta_epoch *epochs; /* owned copies */
    struct done_row *done;
    int64_t *done_removed;
    struct meta_state_row *state;
    uint64_t live_lsn; /* of what the picture does not hold */
};

struct checkpoint_job {
    struct disk_job job; /* first */
    struct broker *broker;
    enum err error;
    uint64_t retry_us; /* 0: under way */
    bool disk_full;    /* the last try found no room */
    uint32_t count;
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
        .voters_count = p->voters_count,
        .kind = (uint8_t)p->kind,
        .segment_bytes = p->config.segment_bytes,
        .segment_ms = p->config.segment_ms,
        .retention_bytes = p->config.retention_bytes,
        .retention_ms = p->config.retention_ms,
        .snapshot_lsn = p->snapshot_lsn,
        .repaired_lsn = p->repaired_lsn,
        .accepted_lsn = p->accepted_lsn,
        .csm_count = (uint32_t)submitted_count(p->submitted),
    };
    for (uint32_t i = 0; i < p->voters_count; i++) {
        group->voters[i] = p->voters[i];
        group->voter_brokers[i] = p->voter_brokers[i];
    }
}

/* Rot in the log that was found while all it holds is in memory: with this picture a start needs nothing below it. */
static void checkpoint__forgive(struct partition *p)
{
    uint64_t doubted_lsn = p->broker->doubted_lsn;
    bool is_needless = p->window.count == 0 || window_at(&p->window, p->window.first_index)->lsn >= doubted_lsn;
    if (p->state == PARTITION_LIVE && p->accepted_lsn == 0 && is_needless && p->repaired_lsn < doubted_lsn) {
        p->repaired_lsn = doubted_lsn;
    }
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
    if (p->rows_doubted) {
        p->rows_doubted = false;
        item->is_whole = true;
        p->epochs_saved = 0;
        done_mark_all_dirty(p->done);
        if (p->table != NULL) {
            state_mark_all_dirty(p->table);
        }
    }
    picture->epochs_count = p->epochs_count - p->epochs_saved;
    item->epochs = mem_zeroed(picture->epochs_count + 1, sizeof *item->epochs);
    for (uint32_t i = 0; i < picture->epochs_count; i++) {
        item->epochs[i] = p->epochs[p->epochs_saved + i];
    }
    p->epochs_saved = p->epochs_count;
    done_take_dirty(p->done, checkpoint__copy_done, &done);
    item->done = done.rows;
    picture->done_count = PLANT(46) ? 0 : done.count;
    item->done_removed = done_take_removed(p->done, &picture->done_removed_count);
    if (p->table != NULL) {
        picture->state_count = state_take_dirty(p->table, &item->state);
    }
    picture->epochs = item->epochs;
    picture->done = item->done;
    picture->done_removed = item->done_removed;
    picture->state = item->state;
    item->live_lsn = p->window.count > 0 ? window_at(&p->window, p->window.first_index)->lsn : UINT64_MAX;
    p->live_lsn_since = UINT64_MAX;
    p->bytes_since_checkpoint = 0;
    p->entries_since_checkpoint = 0;
    p->checkpointing = true;
    p->jobs_inflight++;
}

static void checkpoint__free_item(struct checkpoint_item *item)
{
    free(item->epochs);
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
        const struct segment_row *row = &item->segments->rows[i];
        segments[i] = (struct meta_segment){.base_offset = row->base_offset,
                                            .end_offset = row->end_offset,
                                            .size_bytes = row->size_bytes,
                                            .generation = row->generation,
                                            .chain = row->chain,
                                            .max_timestamp = row->max_timestamp,
                                            .created_clock_ms = row->created_clock_ms,
                                            .newest_clock_ms = row->newest_clock_ms,
                                            .tail_size = row->tail_size,
                                            .tail = row->tail};
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

static void checkpoint__run(struct disk_job *base)
{
    struct checkpoint_job *job = (struct checkpoint_job *)base;
    struct kv *kv = job->broker->kv;
    struct kv_txn *txn;
    job->error = OK;
    for (uint32_t i = 0; i < job->count && job->error == OK; i++) {
        if (job->items[i].segments != NULL) {
            job->error = store_checkpoint_sync(job->items[i].segments);
        }
    }
    if (job->error != OK) {
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
        job->error = checkpoint__put(kv, txn, &job->items[i]);
        if (job->error != OK) {
            kv->ops->abort(kv, txn);
            return;
        }
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
    b->counters.checkpoints_total++;
    partition__set_live_lsn(p, item->live_lsn < p->live_lsn_since ? item->live_lsn : p->live_lsn_since);
    p->checkpoint_index = item->picture.group.applied_index;
    p->has_picture = true;
    struct wal_record record = {.type = WAL_CHECKPOINT,
                                .group = p->group,
                                .replica = p->replica,
                                .index = item->picture.group.applied_index,
                                .term = item->picture.group.applied_term};
    wal_append(b->wal, &record); /* for readers of the log; pins nothing */
    if (p->raft != NULL) {
        raft_step(p->raft, &(struct raft_event){.type = RAFT_COMPACTED, .index = p->checkpoint_index});
        partition_mark_dirty(p);
    }
}

static void checkpoint__done(struct disk_job *base)
{
    struct checkpoint_job *job = (struct checkpoint_job *)base;
    struct broker *b = job->broker;
    if (job->error == ERR_STORAGE_FULL || job->error == ERR_NO_MEMORY || job->error == ERR_TOO_MANY_FILES ||
        job->error == ERR_AGAIN) {
        trace_warn(b->trace, "checkpoint_delayed", "error=%s", err_name(job->error));
        job->disk_full = job->error == ERR_STORAGE_FULL;
        job->retry_us = clock_now_us(b->clock) + CHECKPOINT_RETRY_US;
        return;
    }
    if (job->error != OK) {
        broker__fail(b, job->error == ERR_FORMAT ? BROKER_EXIT_UNREADABLE : BROKER_EXIT_STORAGE, "checkpoint failed");
        return;
    }
    b->checkpoint = NULL;
    b->counters.checkpoint_transactions_total++;
    for (uint32_t i = 0; i < job->count; i++) {
        checkpoint__settle(&job->items[i]);
    }
    free(job);
    point(b->trace, POINT_CHECKPOINT_SETTLED);
    checkpoint_release(b);
}

/* --- when --- */

static bool checkpoint__possible(const struct partition *p)
{
    return p->state != PARTITION_DEAD && p->state != PARTITION_DAMAGED && (p->kind == TOPIC_STATE || p->log != NULL);
}

void checkpoint_want(struct partition *p)
{
    if (!p->checkpoint_wanted && checkpoint__possible(p)) {
        p->checkpoint_wanted = true;
        TAILQ_INSERT_TAIL(&p->broker->checkpoint_queue, p, checkpoint_link);
    }
}

static void checkpoint__start(struct broker *b)
{
    struct checkpoint_job *job = mem_zeroed(1, sizeof *job);
    job->job.run = checkpoint__run;
    job->job.done = checkpoint__done;
    job->broker = b;
    while (job->count < CHECKPOINT_GROUPS_MAX && !TAILQ_EMPTY(&b->checkpoint_queue)) {
        struct partition *p = TAILQ_FIRST(&b->checkpoint_queue);
        TAILQ_REMOVE(&b->checkpoint_queue, p, checkpoint_link);
        p->checkpoint_wanted = false;
        if (checkpoint__possible(p)) {
            checkpoint__capture(p, &job->items[job->count++]);
        }
    }
    b->checkpoint = job;
    point(b->trace, POINT_CHECKPOINT_CAPTURED);
    store_flush(b->store); /* what is queued goes ahead of the job on the lane */
    b->disk->ops->submit(b->disk, DISK_LANE_STORE, &job->job);
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

/* What pins the files is checkpointed; what a checkpoint cannot take (unapplied entries of a group that has just been
 * checkpointed) is written again at the head. */
void checkpoint_clear_below(struct broker *b, uint64_t lsn)
{
    struct order_item *item, *next;
    for (item = order_first(&b->live); item != NULL && item->key < lsn; item = next) {
        struct partition *p = item->owner;
        next = order_next(item); /* a re-append moves this one to the end */
        if (!checkpoint__possible(p) || p->damage_saved) {
            continue;
        }
        if (p->state == PARTITION_LIVE && p->voters_count == 1 && !p->leader_ready) {
            continue; /* after a start: in a moment it leads, all it has is applied, and a checkpoint takes it */
        }
        if (p->has_picture && p->entries_since_checkpoint == 0 && p->checkpoint_index == p->applied_index &&
            p->window.count > 0) {
            partition__reappend(p);
        } else {
            checkpoint_want(p);
        }
    }
}

void checkpoint_turn(struct broker *b)
{
    struct checkpoint_job *job = b->checkpoint;
    if (job != NULL) {
        if (job->retry_us != 0 && clock_now_us(b->clock) >= job->retry_us) {
            job->retry_us = 0;
            b->disk->ops->submit(b->disk, DISK_LANE_STORE, &job->job);
        }
        return;
    }
    if (b->ready && wal_wants_release(b->wal)) { /* ready: the groups that topics name have started */
        checkpoint_release(b); /* what pinned the oldest file may have been deleted, not checkpointed */
        checkpoint_clear_below(b, wal_oldest_end_lsn(b->wal));
    }
    if (!TAILQ_EMPTY(&b->checkpoint_queue)) {
        checkpoint__start(b);
    }
}

uint64_t checkpoint_deadline_us(const struct broker *b)
{
    return b->checkpoint != NULL && b->checkpoint->retry_us != 0 ? b->checkpoint->retry_us : UINT64_MAX;
}

bool checkpoint_is_busy(const struct broker *b)
{
    return b->checkpoint != NULL || !TAILQ_EMPTY(&b->checkpoint_queue);
}

bool checkpoint_disk_full(const struct broker *b)
{
    return b->checkpoint != NULL && b->checkpoint->disk_full;
}

void checkpoint_free(struct broker *b)
{
    struct checkpoint_job *job = b->checkpoint;
    if (job == NULL) {
        return;
    }
    for (uint32_t i = 0; i < job->count; i++) {
        if (job->items[i].segments != NULL) {
            store_checkpoint_done(job->items[i].segments, false);
        }
        checkpoint__free_item(&job->items[i]);
    }
    free(job);
    b->checkpoint = NULL;
}
