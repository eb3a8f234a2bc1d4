/* From the old picture to the new one: see snapshot.h. Until the transaction of the job is durable a start finds the
 * old one, from then on the new one; what is in memory follows when the job is through. */
#include "broker/snapshot_impl.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mark.h"
#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/fetch.h"
#include "broker/heal.h"
#include "broker/manifest.h"
#include "broker/state.h"

struct install_job {
    struct snapshot_job job; /* first */
    struct receipt *receipt;
    bool is_held; /* the log holds the picture's last entry, and goes on behind it */
    struct meta_group group;
    struct store_place *places; /* owned; one for each of rows->segments */
    uint8_t tail[STORE_BLOCK_BYTES];
    uint32_t tail_size;
    bool is_placed; /* the files are; what failed before may be done again, and is its group's own trouble */
    enum err error;
};

void install__free(struct install_job *job)
{
    if (job != NULL) {
        free(job->places);
        free(job);
    }
}

/* --- lane --- */

/* Begins a transaction in which the picture takes the place of the group's rows. */
static enum err install__put_rows(const struct receipt *r, const struct meta_group *group, const uint8_t *tail,
                                  uint32_t tail_size, struct kv_txn **ret_txn)
{
    struct broker *b = r->s->broker;
    struct kv *kv = b->kv;
    char path[SNAPSHOT_PATH_BYTES];
    uint32_t count = r->rows->segments_count;
    enum err error = kv->ops->begin(kv, true, ret_txn);
    if (error != OK) {
        return error;
    }
    if (kv->ops->is_short(kv) && r->rows_bytes > KV_RESERVE_STEP_BYTES) { /* a commit that finds no room is fatal */
        kv->ops->abort(kv, *ret_txn);
        return ERR_STORAGE_FULL;
    }
    struct meta_segment *segments = mem_zeroed(count + 1, sizeof *segments);
    for (uint32_t i = 0; i < count; i++) {
        segments[i] = manifest_to_meta(&r->rows->segments[i]);
        segments[i].tail_size = i + 1 == count ? tail_size : 0;
        segments[i].tail = tail;
    }
    receipt__rows_path(r, path);
    error = meta_install(kv, *ret_txn, b->disk, path, group, segments, count);
    if (error != OK) {
        kv->ops->abort(kv, *ret_txn);
    }
    free(segments);
    return error;
}

static enum err install__put(struct install_job *job)
{
    struct broker *b = job->receipt->s->broker;
    struct kv_txn *txn;
    enum err error = install__put_rows(job->receipt, &job->group, job->tail, job->tail_size, &txn);
    if (error != OK) {
        return error;
    }
    point(b->trace, POINT_SNAPSHOT_COMMIT);
    error = b->kv->ops->commit(b->kv, txn);
    point(b->trace, POINT_SNAPSHOT_COMMITTED);
    return error;
}

static void install_job__run(struct snapshot_job *base)
{
    struct install_job *job = (struct install_job *)base;
    struct receipt *r = job->receipt;
    struct broker *b = base->s->broker;
    uint32_t count = r->rows->segments_count;
    job->error = OK;
    if (r->rows->table == NULL) {
        job->error = store_place_files(b->store, r->group, SNAPSHOT_DIR, job->places, count);
    }
    if (job->error == OK && count > 0) {
        job->error = store_place_tail(b->store, r->group, &job->places[count - 1], job->tail, &job->tail_size);
    }
    point(b->trace, POINT_SNAPSHOT_PLACED);
    job->is_placed = job->error == OK;
    if (job->error == OK) {
        job->error = install__put(job);
    }
    if (job->error == OK && r->rows->table == NULL) {
        store_place_sweep(b->store, r->group, job->places, count);
    }
}

/* --- the rehearsal: is there room for the rows? --- */

struct rehearsal {
    struct snapshot_job job; /* first */
    struct receipt *receipt;
    enum err error;
};

static void rehearsal__run(struct snapshot_job *base)
{
    struct rehearsal *rehearsal = (struct rehearsal *)base;
    const struct receipt *r = rehearsal->receipt;
    struct kv *kv = base->s->broker->kv;
    struct kv_txn *txn;
    rehearsal->error = install__put_rows(r, &r->rows->group, NULL, 0, &txn);
    if (rehearsal->error == OK) {
        kv->ops->abort(kv, txn);
    }
}

static void rehearsal__drop(struct snapshot_job *base)
{
    receipt__job_ended(((struct rehearsal *)base)->receipt);
    free(base);
}

static bool install__may_pass(enum err error)
{
    return error == ERR_STORAGE_FULL || error == ERR_NO_MEMORY || error == ERR_TOO_MANY_FILES;
}

static void rehearsal__done(struct snapshot_job *base)
{
    const struct rehearsal *rehearsal = (struct rehearsal *)base;
    struct receipt *r = rehearsal->receipt;
    if (!r->is_over && rehearsal->error == OK) {
        r->has_room = true;
    } else if (!r->is_over && install__may_pass(rehearsal->error)) {
        mark(base->s->broker->trace, MARK_SNAPSHOT_INSTALL_WAITS);
        r->retry_us = snapshots__now_us(r->s) + r->s->limits.retry_us;
    } else if (!r->is_over) {
        receipt__end(r, rehearsal->error);
    }
    rehearsal__drop(base);
}

/* The group lives on meanwhile. */
static void install__rehearse(struct receipt *r)
{
    if (r->jobs > 0 || snapshots__now_us(r->s) < r->retry_us) {
        return;
    }
    struct rehearsal *rehearsal = mem_zeroed(1, sizeof *rehearsal);
    rehearsal->job.run = rehearsal__run;
    rehearsal->job.done = rehearsal__done;
    rehearsal->job.drop = rehearsal__drop;
    rehearsal->receipt = r;
    r->jobs++;
    snapshots__submit(r->s, &rehearsal->job);
}

/* --- before (loop) --- */

static void install__fill_group(const struct receipt *r, struct install_job *job)
{
    const struct partition *p = r->partition;
    struct meta_group *group = &job->group;
    *group = r->rows->group;
    group->replica = p->replica;
    group->term = p->term_saved;
    group->vote = p->vote_saved;
    if (r->index_term > group->term || PLANT(21)) { /* nobody was voted for in it here */
        group->term = r->index_term;
        group->vote = 0;
    }
    group->snapshot_lsn = p->snapshot_lsn;
    group->repaired_lsn = p->repaired_lsn;
    group->accepted_lsn = p->accepted_lsn;
    if (!job->is_held) { /* of what the log has of this group nothing is needed; what is appended from now on stands
                            behind what is durable, whatever a power cut takes from the log's end */
        group->snapshot_lsn = wal_durable_lsn(p->broker->wal);
        group->accepted_lsn = 0;
        group->repaired_lsn = group->repaired_lsn > group->snapshot_lsn ? group->repaired_lsn : group->snapshot_lsn;
    }
    group->damaged = group->healing = p->healing;
    group->damaged_lsn = p->healing ? UINT64_MAX : 0;
    group->csm_count = 0;
}

static void install__fill_places(struct receipt *r, struct install_job *job)
{
    struct snapshot_rows *rows = r->rows;
    struct segment_row own;
    job->places = mem_zeroed(rows->segments_count + 1, sizeof *job->places);
    for (uint32_t i = 0; i < rows->segments_count; i++) {
        const struct piece *piece = &r->pieces[i];
        struct store_place *place = &job->places[i];
        place->base_offset = piece->row.base_offset;
        place->size_bytes = piece->row.size_bytes;
        place->is_active = i + 1 == rows->segments_count;
        place->is_staged = !piece->is_own;
        if (piece->is_own && store_hold_find(r->own, piece->row.base_offset, &own)) {
            rows->segments[i].generation = own.generation;
        } else {
            rows->segments[i].generation = store_new_generation(r->s->broker->store);
            receipt__piece_path(r, piece, place->path);
        }
    }
}

static void install__submit(struct receipt *r, struct install_job *job)
{
    r->install = NULL;
    r->jobs++;
    snapshots__submit(r->s, &job->job);
}

static void install_job__done(struct snapshot_job *base);
static void install_job__drop(struct snapshot_job *base);

static void install__begin(struct receipt *r)
{
    struct partition *p = r->partition;
    struct install_job *job = mem_zeroed(1, sizeof *job);
    job->job.run = install_job__run;
    job->job.done = install_job__done;
    job->job.drop = install_job__drop;
    job->receipt = r;
    job->is_held = raft_term_of(p->raft, r->index) == r->index_term;
    install__fill_group(r, job);
    install__fill_places(r, job);
    send__forget(r->s, p);
    fetch_fail_all(p, ERR_NOT_LEADER);
    if (p->log != NULL) {
        segment_log_abandon(p->log);
        p->log = NULL;
    }
    store_hold_free(r->own);
    r->own = NULL;
    p->live_lsn_since = UINT64_MAX;
    r->state = RECEIPT_INSTALLING;
    trace_info(p->broker->trace, "snapshot_installing", "group=%lu index=%lu segments=%u held=%d", r->group, r->index,
               r->pieces_count, job->is_held);
    install__submit(r, job);
}

/* Nothing of the group is on its way to the log or to the checkpoint store, and all that is committed is applied. The
 * log wakes the broker when something became durable. */
static bool install__stands_still(const struct partition *p)
{
    return p->writes_inflight == 0 && !p->checkpointing && !p->checkpoint_delayed && !p->dirty &&
           p->logged_lsn < wal_durable_lsn(p->broker->wal) && raft_commit_index(p->raft) == p->applied_index;
}

void install__turn(struct receipt *r)
{
    struct partition *p = r->partition;
    if (r->state == RECEIPT_INSTALLING) {
        if (r->install != NULL && snapshots__now_us(r->s) >= r->retry_us) {
            install__submit(r, r->install);
        }
        return;
    }
    if (!r->has_room) {
        install__rehearse(r);
        return;
    }
    p->installing = true;
    if (p->checkpoint_delayed) {
        checkpoint_hurry(p->broker); /* nobody wants that picture any more */
    }
    if (install__stands_still(p)) {
        install__begin(r);
    }
}

/* --- after (loop) --- */

static void install__cut_window(struct partition *p, const struct receipt *r, bool is_held)
{
    static const struct outcome nobody_waits = {.error = ERR_UNKNOWN_OUTCOME, .offset = -1};
    p->broker->kept_bytes -= p->kept_bytes; /* all that is applied goes */
    p->kept_bytes = 0;
    if (!is_held) {
        window_truncate(&p->window, p->window.first_index, &nobody_waits);
        p->window.first_index = r->index + 1;
    }
    while (p->window.first_index <= r->index) {
        window_pop_front(&p->window);
    }
}

static void install__open_log(struct partition *p, const struct snapshot_rows *rows, struct install_job *job)
{
    if (p->kind != TOPIC_DATA) {
        return;
    }
    if (rows->segments_count > 0) {
        struct segment_row *active = &rows->segments[rows->segments_count - 1];
        active->tail = job->tail;
        active->tail_size = job->tail_size;
    }
    enum err error = partition_open_placed_log(p, rows->segments, rows->segments_count, rows->group.log_start,
                                               rows->group.next_offset);
    ASSERT(error == OK); /* rows that do not join were refused when they came */
}

static void install__take_state(struct partition *p, struct snapshot_rows *rows)
{
    const struct meta_group *group = &rows->group;
    p->applied_index = group->applied_index;
    p->applied_term = group->applied_term;
    p->is_ahead = false;
    p->log_clock_ms = group->log_clock_ms;
    p->idle_clock_ms = group->idle_clock_ms;
    p->config.segment_bytes = group->segment_bytes;
    p->config.segment_ms = group->segment_ms;
    p->config.retention_bytes = group->retention_bytes;
    p->config.retention_ms = group->retention_ms;
    submitted_clear(p->submitted);
    done_table_free(p->done);
    p->done = rows->done;
    rows->done = NULL;
    state_free(p->table);
    p->table = rows->table;
    rows->table = NULL;
    free(p->epochs);
    p->epochs = rows->epochs;
    p->epochs_count = p->epochs_saved = rows->epochs_count;
    p->epochs_capacity = rows->epochs_capacity;
    rows->epochs = NULL;
}

/* Of the checkpoint store: what is durable now. */
static void install__take_picture(struct partition *p, const struct install_job *job)
{
    const struct meta_group *group = &job->group;
    if (group->term > p->term_saved) {
        p->term_saved = group->term;
        p->vote_saved = group->vote;
    }
    p->snapshot_lsn = group->snapshot_lsn;
    p->repaired_lsn = group->repaired_lsn;
    p->accepted_lsn = group->accepted_lsn;
    p->checkpoint_index = group->applied_index;
    p->checkpoint_end = group->next_offset;
    p->has_picture = true;
    p->rows_doubted = false;
    heal_on_picture(p, group->healing);
    p->bytes_since_checkpoint = p->entries_since_checkpoint = 0;
    uint64_t unapplied_lsn = partition__unapplied_lsn(p);
    partition__set_live_lsn(p, unapplied_lsn < p->live_lsn_since ? unapplied_lsn : p->live_lsn_since);
    struct wal_record record = {.type = WAL_CHECKPOINT,
                                .group = p->group,
                                .replica = p->replica,
                                .index = group->applied_index,
                                .term = group->applied_term};
    wal_append(p->broker->wal, &record); /* for readers of the log; pins nothing */
}

static void install__tell_core(struct partition *p, const struct receipt *r, bool is_held)
{
    struct raft_config config;
    const struct snapshot_rows *rows = r->rows;
    members_to_raft(&rows->members, &config);
    roster_install(&p->roster, r->index, rows->group.config_index, &rows->members, is_held);
    raft_step(p->raft, &(struct raft_event){.type = RAFT_INSTALLED,
                                            .installed = {.index = r->index,
                                                          .term = r->index_term,
                                                          .config_index = rows->group.config_index,
                                                          .config = &config}});
}

static void install__finish(struct receipt *r, struct install_job *job)
{
    struct partition *p = r->partition;
    struct broker *b = p->broker;
    install__cut_window(p, r, job->is_held);
    install__take_state(p, r->rows);
    install__open_log(p, r->rows, job);
    install__take_picture(p, job);
    install__tell_core(p, r, job->is_held);
    p->installing = false;
    partition__members_changed(p);
    p->installs++;
    p->clock_moved = true;
    partition_mark_dirty(p);
    b->counters.snapshots_installed_total++;
    mark(b->trace, MARK_SNAPSHOT_INSTALLED);
    point(b->trace, POINT_SNAPSHOT_INSTALLED);
    trace_info(b->trace, "snapshot_installed", "group=%lu index=%lu next_offset=%ld", p->group, r->index,
               (long)partition_high_watermark(p));
    receipt__say(r, PEER_SNAPSHOT_DONE, OK);
    receipt__end(r, OK);
}

static void install_job__drop(struct snapshot_job *base)
{
    struct install_job *job = (struct install_job *)base;
    struct receipt *r = job->receipt;
    install__free(job);
    receipt__job_ended(r);
}

static void install_job__done(struct snapshot_job *base)
{
    struct install_job *job = (struct install_job *)base;
    struct receipt *r = job->receipt;
    struct broker *b = base->s->broker;
    enum err error = job->error;
    bool may_pass = install__may_pass(error) || (error == ERR_IO && !job->is_placed && !store_sync_failed(b->store));
    if (error == OK && !r->is_over) {
        install__finish(r, job);
    } else if (may_pass && !r->is_over) {
        mark(b->trace, MARK_SNAPSHOT_INSTALL_WAITS);
        r->install = job;
        r->retry_us = snapshots__now_us(r->s) + r->s->limits.retry_us;
        r->jobs--;
        return;
    } else if (error != OK && !may_pass) {
        trace_error(b->trace, "snapshot_not_installed", "group=%lu error=%s", r->group, err_name(error));
        broker__fail(b, BROKER_EXIT_STORAGE, "installing a snapshot failed");
    }
    install_job__drop(base);
}
