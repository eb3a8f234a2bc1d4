/* The broker's side of the store: the queue of applied batches, the jobs that write it, time, and memory.
 *
 * One write job at a time gathers what many logs queued meanwhile, as group commit does for the WAL. A checkpoint that
 * needs its batches written submits one more behind it: the lane is first in, first out, so the checkpoint's own job
 * finds the bytes written. */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/point.h"
#include "store/impl.h"

struct write_job {
    struct store_job job;     /* first */
    struct store_items chain; /* borrowed; by log, in order */
};

struct trim {
    struct segment *segment; /* borrowed, pinned */
    uint64_t size_bytes;
};

struct trim_job {
    struct store_job job; /* first */
    uint32_t count;
    struct trim trims[];
};

enum err store_open(const struct store_options *options, struct store **ret_store)
{
    struct store *store = mem_zeroed(1, sizeof *store);
    ASSERT(options->disk != NULL && options->clock != NULL && options->dir != NULL);
    store->disk = options->disk;
    store->clock = options->clock;
    store->trace = options->trace;
    store->options = *options;
    store->dir = mem_text(options->dir);
    store->options.dir = store->dir;
    store->generation_next = 1;
    store->retry_us = UINT64_MAX;
    TAILQ_INIT(&store->jobs);
    TAILQ_INIT(&store->queued);
    TAILQ_INIT(&store->stalled);
    TAILQ_INIT(&store->dead);
    TAILQ_INIT(&store->tail);
    enum err error = files__init(&store->files, options, store->dir);
    if (error != OK) {
        free(store->dir);
        free(store);
        return error;
    }
    store->items = item_pool__new();
    store->read_bufs = buf_pool_new(STORE_READ_BYTES, STORE_READ_BUFS_KEPT);
    *ret_store = store;
    return OK;
}

void store_close(struct store *store)
{
    ASSERT(store->logs == NULL);
    while (!TAILQ_EMPTY(&store->jobs)) { /* only after a crash: no job runs any more, and no done comes */
        struct store_job *job = TAILQ_FIRST(&store->jobs);
        TAILQ_REMOVE(&store->jobs, job, link);
        job->drop(job);
    }
    while (!TAILQ_EMPTY(&store->dead)) {
        struct segment_log *log = TAILQ_FIRST(&store->dead);
        TAILQ_REMOVE(&store->dead, log, queue_link);
        segment_log__free(log);
    }
    files__deinit(&store->files);
    free(store->kept);
    free(store->expected);
    item_pool__free(store->items);
    buf_pool_free(store->read_bufs);
    free(store->dir);
    free(store);
}

/* --- jobs --- */

static void store__job_run(struct disk_job *disk_job)
{
    struct store_job *job = (struct store_job *)disk_job;
    job->run(job);
    job->counters = job->store->files.counters;
}

static void store__job_done(struct disk_job *disk_job)
{
    struct store_job *job = (struct store_job *)disk_job;
    struct store *store = job->store;
    ASSERT(store->jobs_count > 0);
    store->jobs_count--;
    store->counters = job->counters;
    TAILQ_REMOVE(&store->jobs, job, link);
    job->done(job);
}

void store__submit(struct store *store, struct store_job *job)
{
    job->job = (struct disk_job){.run = store__job_run, .done = store__job_done};
    job->store = store;
    store->jobs_count++;
    TAILQ_INSERT_TAIL(&store->jobs, job, link);
    store->disk->ops->submit(store->disk, DISK_LANE_STORE, &job->job);
}

bool store_is_busy(const struct store *store)
{
    return store->jobs_count > 0;
}

bool store_sync_failed(const struct store *store)
{
    return store->files.sync_error != OK;
}

bool store_disk_full(const struct store *store)
{
    return store->full_count > 0;
}

/* --- write jobs --- */

static void write_job__run(struct store_job *base)
{
    struct write_job *job = (struct write_job *)base;
    point(base->store->trace, POINT_SEGMENT_WRITE);
    writer__run(&base->store->files, &job->chain);
    point(base->store->trace, POINT_SEGMENT_WRITTEN);
}

void store__note_full(struct segment_log *log, bool is_full)
{
    if (log->is_full != is_full) {
        log->is_full = is_full;
        log->store->full_count += is_full ? 1 : -1;
    }
}

void store__unstall(struct segment_log *log)
{
    struct store *store = log->store;
    TAILQ_REMOVE(&store->stalled, log, queue_link);
    log->is_stalled = false;
    store->stalled_bytes -= log->stalled_bytes;
    log->stalled_bytes = 0;
}

static void store__stall(struct segment_log *log)
{
    struct store *store = log->store;
    log->is_failed = false;
    log->ring.submitted = log->ring.written;
    for (uint32_t i = log->ring.written; i < log->ring.count; i++) {
        struct store_item *item = ring__at(&log->ring, i);
        item->error = OK;
        log->stalled_bytes += item->body.size;
    }
    if (log->is_dead) {
        log->stalled_bytes = 0;
        return;
    }
    store->stalled_bytes += log->stalled_bytes;
    ASSERT(!log->is_stalled && !log->is_queued);
    log->is_stalled = true;
    TAILQ_INSERT_TAIL(&store->stalled, log, queue_link);
    if (store->retry_us == UINT64_MAX) {
        store->retry_us = clock_now_us(store->clock) + STORE_RETRY_US;
    }
}

static void write_job__item_written(struct store *store, struct store_item *item)
{
    struct segment_log *log = item->log;
    ASSERT(!log->is_failed && ring__at(&log->ring, log->ring.written) == item);
    log->ring.written++;
    log->error = OK;
    log->failures = 0;
    store__note_full(log, false);
    item->segment->written_bytes = item->position + item->body.size;
    if (item->seals != NULL) { /* its index is in a file now, or will be rebuilt from the bytes */
        item->seals->is_sealed = true;
        index__clear(&item->seals->index);
    }
    item->segment = NULL;
    item->seals = NULL;
    store->queued_bytes -= item->body.size;
    store->stats.written_bytes += item->body.size;
    TAILQ_INSERT_TAIL(&store->tail, item, link);
}

static void write_job__item_failed(struct store *store, struct store_item *item)
{
    struct segment_log *log = item->log;
    store->unsubmitted_bytes += item->body.size; /* to be written again */
    if (log->is_failed) {
        return;
    }
    log->is_failed = true;
    if (log->is_queued) {
        TAILQ_REMOVE(&store->queued, log, queue_link);
        log->is_queued = false;
    }
    if (!log->is_dead) {
        log->error = item->error;
        log->failures++;
        store__note_full(log, item->error == ERR_STORAGE_FULL);
        store->options.on_error(store->options.context, log, item->error);
    }
}

static void write_job__item_done(struct store *store, struct store_item *item)
{
    struct segment_log *log = item->log;
    ASSERT(log->inflight > 0);
    log->inflight--;
    if (item->error == OK) {
        write_job__item_written(store, item);
    } else {
        write_job__item_failed(store, item);
    }
    if (log->is_failed && log->inflight == 0) {
        store__stall(log);
    }
}

static void write_job__done(struct store_job *base)
{
    struct write_job *job = (struct write_job *)base;
    struct store *store = base->store;
    ASSERT(store->write_jobs_count > 0);
    store->write_jobs_count--;
    while (!TAILQ_EMPTY(&job->chain)) {
        struct store_item *item = TAILQ_FIRST(&job->chain);
        TAILQ_REMOVE(&job->chain, item, link);
        write_job__item_done(store, item);
    }
    free(job);
    tail__evict(store);
    store_flush(store); /* what gathered meanwhile */
    store->options.on_written(store->options.context);
}

static void write_job__drop(struct store_job *base)
{
    free(base); /* the batches are their logs' */
}

void store__enqueue(struct segment_log *log)
{
    struct store *store = log->store;
    if (log->is_queued || log->is_stalled || log->is_failed) {
        return;
    }
    if (TAILQ_EMPTY(&store->queued)) {
        store->queue_since_us = clock_now_us(store->clock);
    }
    log->is_queued = true;
    TAILQ_INSERT_TAIL(&store->queued, log, queue_link);
}

/* All waiting batches of one log, up to what the job still takes. */
static uint64_t store__gather_log(struct segment_log *log, struct store_items *chain, uint64_t bytes_max)
{
    struct tail_ring *ring = &log->ring;
    uint64_t bytes = 0;
    while (ring->submitted < ring->count && bytes < bytes_max) {
        struct store_item *item = ring__at(ring, ring->submitted);
        ring->submitted++;
        log->inflight++;
        bytes += item->body.size;
        TAILQ_INSERT_TAIL(chain, item, link);
    }
    return bytes;
}

void store__submit_writes(struct store *store, bool all)
{
    uint64_t bytes_max = all ? UINT64_MAX : STORE_JOB_BYTES_MAX;
    uint64_t bytes = 0;
    if (TAILQ_EMPTY(&store->queued)) {
        return;
    }
    struct write_job *job = mem_zeroed(1, sizeof *job);
    TAILQ_INIT(&job->chain);
    job->job.run = write_job__run;
    job->job.done = write_job__done;
    job->job.drop = write_job__drop;
    while (!TAILQ_EMPTY(&store->queued) && bytes < bytes_max) {
        struct segment_log *log = TAILQ_FIRST(&store->queued);
        bytes += store__gather_log(log, &job->chain, bytes_max - bytes);
        if (log->ring.submitted == log->ring.count) {
            TAILQ_REMOVE(&store->queued, log, queue_link);
            log->is_queued = false;
        }
    }
    store->unsubmitted_bytes -= bytes;
    store->queue_since_us = clock_now_us(store->clock);
    store->is_forced = store->is_forced && !TAILQ_EMPTY(&store->queued);
    store->write_jobs_count++;
    store__submit(store, &job->job);
}

void store_flush(struct store *store)
{
    if (store->write_jobs_count > 0 || TAILQ_EMPTY(&store->queued)) {
        return;
    }
    if (store->is_forced || store->unsubmitted_bytes >= STORE_JOB_BYTES_MIN ||
        clock_now_us(store->clock) >= store->queue_since_us + STORE_QUEUE_AGE_US) {
        store__submit_writes(store, false);
    }
}

void store_force(struct store *store)
{
    store->is_forced = !TAILQ_EMPTY(&store->queued);
}

uint64_t store_deadline_us(const struct store *store)
{
    uint64_t deadline_us = store->retry_us;
    if (store->write_jobs_count == 0 && !TAILQ_EMPTY(&store->queued) &&
        store->queue_since_us + STORE_QUEUE_AGE_US < deadline_us) {
        deadline_us = store->queue_since_us + STORE_QUEUE_AGE_US;
    }
    return deadline_us;
}

void store_tick(struct store *store, uint64_t now_us)
{
    if (now_us >= store->retry_us) {
        store->retry_us = UINT64_MAX;
        while (!TAILQ_EMPTY(&store->stalled)) {
            struct segment_log *log = TAILQ_FIRST(&store->stalled);
            store__unstall(log);
            store__enqueue(log);
        }
        store_force(store);
    }
    store_flush(store);
}

enum err segment_log_error(const struct segment_log *log, uint32_t *ret_failures)
{
    *ret_failures = log->failures;
    return log->error;
}

/* --- a full disk --- */

struct full_job {
    struct store_job job; /* first */
    bool is_full;
};

static void full_job__run(struct store_job *base)
{
    struct full_job *job = (struct full_job *)base;
    struct files *files = &base->store->files;
    files->is_full = job->is_full;
    if (job->is_full) {
        files__give_up_spares(files);
    }
}

static void full_job__done(struct store_job *base)
{
    free(base);
}

void store_set_full(struct store *store, bool is_full)
{
    struct full_job *job = mem_zeroed(1, sizeof *job);
    job->job.run = full_job__run;
    job->job.done = job->job.drop = full_job__done;
    job->is_full = is_full;
    store__submit(store, &job->job);
}

/* --- clean stop --- */

static void trim_job__run(struct store_job *base)
{
    struct trim_job *job = (struct trim_job *)base;
    for (uint32_t i = 0; i < job->count; i++) {
        struct segment *segment = job->trims[i].segment;
        enum err error = files__trim(&base->store->files, segment, job->trims[i].size_bytes);
        if (error != OK) { /* only Kafka's tools would have liked it */
            trace_debug(base->store->trace, "segment_not_trimmed", "group=%llu error=%s",
                        (unsigned long long)segment->log->group, err_name(error));
        }
    }
}

static void trim_job__drop(struct store_job *base)
{
    free(base);
}

static void trim_job__done(struct store_job *base)
{
    struct trim_job *job = (struct trim_job *)base;
    for (uint32_t i = 0; i < job->count; i++) {
        segment__unpin(job->trims[i].segment);
    }
    free(job);
}

void store_trim(struct store *store)
{
    struct segment_log *log, *next;
    uint32_t count = HASH_COUNT(store->logs);
    struct trim_job *job = mem_zeroed(1, sizeof *job + count * sizeof job->trims[0]);
    HASH_ITER(hh, store->logs, log, next)
    {
        struct segment *active = log->active;
        if (active != NULL && active->written_bytes == active->size_bytes) {
            active->pins++;
            job->trims[job->count++] = (struct trim){.segment = active, .size_bytes = active->size_bytes};
        }
    }
    job->job.run = trim_job__run;
    job->job.done = trim_job__done;
    job->job.drop = trim_job__drop;
    store__submit(store, &job->job);
}

/* --- figures --- */

uint64_t store_queued_bytes(const struct store *store)
{
    return store->queued_bytes;
}

uint64_t store_read_bytes(const struct store *store)
{
    return buf_pool_bytes(store->read_bufs);
}

void store_limit_tail(struct store *store, uint64_t bytes_max)
{
    store->options.tail_bytes_max = bytes_max;
    tail__evict(store);
}

uint64_t store_stalled_bytes(const struct store *store)
{
    return store->stalled_bytes;
}

uint64_t store_tail_bytes(const struct store *store)
{
    return store->tail_bytes;
}

void store_stats(const struct store *store, struct store_stats *ret_stats)
{
    *ret_stats = store->stats;
    ret_stats->recycled = store->counters.recycled;
    ret_stats->created = store->counters.created;
    ret_stats->removed = store->counters.removed;
}
