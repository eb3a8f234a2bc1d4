/* One partition's segments. Positions, bases and rolls are settled here, on the loop thread, the moment a batch is
 * appended, as a pure function of sizes and of the log clock; the lane only puts bytes where it is told. So every
 * replica cuts its log at the same offsets. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/plant.h"
#include "base/mem.h"
#include "base/point.h"
#include "base/crc32c.h"
#include "store/impl.h"

#define SEGMENTS_MIN 4

/* --- segments --- */

struct segment *segment__new(struct segment_log *log, int64_t base_offset, uint64_t generation)
{
    struct segment *segment = mem_zeroed(1, sizeof *segment);
    segment->log = log;
    segment->base_offset = segment->end_offset = base_offset;
    segment->generation = generation;
    segment->capacity_bytes = log->segment_bytes;
    segment->max_timestamp = segment->newest_ms = INT64_MIN;
    segment->is_tail_known = true;
    index__init(&segment->index, base_offset);
    return segment;
}

void segment__free(struct segment *segment)
{
    index__clear(&segment->index);
    damage__free(&segment->damage);
    free(segment);
}

void segment__add_hint(struct segment *segment, int64_t offset, uint64_t position)
{
    segment->hints[segment->hint_next] = (struct segment_hint){.offset = offset, .position = position};
    segment->hint_next = (segment->hint_next + 1) % SEGMENT_HINTS;
}

/* Where a read for offset may begin, see index__find. *ret_exact: the batch there begins with just this offset. */
bool segment__find_start(const struct segment *segment, int64_t offset, uint64_t *ret_position, uint64_t *ret_above,
                         bool *ret_exact)
{
    *ret_above = UINT64_MAX;
    for (uint32_t i = 0; i < SEGMENT_HINTS; i++) {
        if (segment->hints[i].offset == offset && segment->hints[i].position > 0) {
            *ret_position = segment->hints[i].position;
            *ret_exact = true;
            return true;
        }
    }
    *ret_exact = false;
    if (offset == segment->base_offset) {
        *ret_position = 0;
        return true;
    }
    return !segment->is_sealed && index__find(&segment->index, segment->base_offset, offset, ret_position, ret_above);
}

void segment_log__add_segment(struct segment_log *log, struct segment *segment)
{
    if (log->segments_count == log->segments_capacity) {
        log->segments_capacity = log->segments_capacity > 0 ? 2 * log->segments_capacity : SEGMENTS_MIN;
        log->segments = mem_grow(log->segments, log->segments_capacity * sizeof(struct segment *));
    }
    log->segments[log->segments_count++] = segment;
    log->active = segment;
}

struct segment *segment_log__find(const struct segment_log *log, int64_t offset)
{
    uint32_t low = 0;
    uint32_t high = log->segments_count;
    ASSERT(high > 0 && offset >= log->segments[0]->base_offset);
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (log->segments[middle]->base_offset <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    ASSERT(offset < log->segments[low]->end_offset);
    return log->segments[low];
}

/* --- append --- */

static bool segment_log__must_roll(const struct segment_log *log, uint32_t size_bytes, int64_t last_offset,
                                   int64_t log_clock_ms)
{
    const struct segment *active = log->active;
    return active->size_bytes + size_bytes > log->segment_bytes ||
           (log->segment_ms >= 0 && log_clock_ms - active->created_clock_ms > log->segment_ms) ||
           last_offset - active->base_offset > INT32_MAX; /* Kafka's indexes hold 32-bit offsets */
}

static struct segment *segment_log__roll(struct segment_log *log, int64_t log_clock_ms)
{
    struct store *store = log->store;
    struct segment *segment = segment__new(log, log->next_offset, store->generation_next++);
    segment->created_clock_ms = log_clock_ms;
    if (log->active != NULL) {
        index__finish(&log->active->index);
    }
    segment_log__add_segment(log, segment);
    store->stats.rolls++;
    point(store->trace, POINT_SEGMENT_ROLL);
    return segment;
}

/* What the partial block at the end of the file must hold: checkpoints read it back, and believe no disk. */
static void segment__note_tail(struct segment *segment, const uint8_t *prefix, struct slice bytes)
{
    uint64_t end = segment->size_bytes + bytes.size;
    uint64_t block = end - end % STORE_BLOCK_BYTES;
    uint32_t from = 0; /* of the batch, where its part of that block begins */
    if (block >= segment->size_bytes) {
        from = (uint32_t)(block - segment->size_bytes);
        segment->tail_crc = 0;
        segment->is_tail_known = true;
    }
    if (from < BATCH_PREFIX_BYTES) {
        segment->tail_crc = crc32c(segment->tail_crc, prefix + from, BATCH_PREFIX_BYTES - from);
        from = BATCH_PREFIX_BYTES;
    }
    segment->tail_crc = crc32c(segment->tail_crc, bytes.data + from, bytes.size - from);
}

/* What a batch says of its age, as far as the log clock lets it. */
static int64_t written_at(const struct batch_header *header, int64_t log_clock_ms)
{
    bool by_clock = header->max_timestamp < 0 || header->max_timestamp > log_clock_ms;
    return by_clock ? log_clock_ms : header->max_timestamp;
}

void segment_log_append(struct segment_log *log, struct slice bytes, const struct batch_header *header,
                        int64_t base_offset, int32_t leader_epoch, int64_t log_clock_ms)
{
    struct store *store = log->store;
    int64_t last_offset = base_offset + header->last_offset_delta;
    struct segment *segment = log->active;
    struct segment *finished = NULL;
    ASSERT(!log->is_dead);
    ASSERT(base_offset == log->next_offset && header->last_offset_delta >= 0);
    ASSERT(bytes.size == header->size_bytes);
    if (segment == NULL || segment_log__must_roll(log, bytes.size, last_offset, log_clock_ms)) {
        finished = segment;
        segment = segment_log__roll(log, log_clock_ms);
    }
    struct store_item *item = item_pool__take(store->items);
    batch_prefix(item->prefix, base_offset, bytes.size, leader_epoch);
    item->body = slice_ref(bytes);
    item->log = log;
    item->segment = PLANT(47) && finished != NULL ? finished : segment;
    item->seals = finished;
    item->base_offset = base_offset;
    item->end_offset = last_offset + 1;
    item->max_timestamp = header->max_timestamp;
    item->position = segment->size_bytes;

    index__add(&segment->index, (uint32_t)(last_offset - segment->base_offset), segment->size_bytes, bytes.size,
               header->max_timestamp);
    segment->chain = crc32c(crc32c(segment->chain, item->prefix, BATCH_PREFIX_BYTES), bytes.data + BATCH_PREFIX_BYTES,
                            BATCH_HEADER_BYTES - BATCH_PREFIX_BYTES);
    segment__note_tail(segment, item->prefix, bytes);
    segment->size_bytes += bytes.size;
    segment->end_offset = last_offset + 1;
    int64_t written_ms = written_at(header, log_clock_ms);
    if (written_ms > segment->newest_ms) {
        segment->newest_ms = written_ms;
    }
    if (header->max_timestamp > segment->max_timestamp) {
        segment->max_timestamp = header->max_timestamp;
    }
    log->next_offset = last_offset + 1;
    log->bytes += bytes.size;
    store->queued_bytes += bytes.size;
    store->unsubmitted_bytes += bytes.size;
    tail__push(log, item);
    store__enqueue(log);
    tail__evict(store);
}

/* --- log start --- */

int64_t segment_log_start(const struct segment_log *log)
{
    return log->start_offset;
}

int64_t segment_log_next(const struct segment_log *log)
{
    return log->next_offset;
}

uint64_t segment_log_bytes(const struct segment_log *log)
{
    return log->bytes;
}

void *segment_log_owner(const struct segment_log *log)
{
    return log->owner;
}

void segment_log_configure(struct segment_log *log, uint64_t segment_bytes, int64_t segment_ms)
{
    ASSERT(segment_bytes >= SEGMENT_BYTES_MIN && segment_bytes <= SEGMENT_BYTES_MAX);
    log->segment_bytes = segment_bytes;
    log->segment_ms = segment_ms;
}

int64_t segment_log_start_for_bytes(const struct segment_log *log, uint64_t retention_bytes)
{
    int64_t start_offset = log->start_offset;
    uint64_t left_bytes = log->bytes;
    for (uint32_t i = 0; i + 1 < log->segments_count; i++) {
        left_bytes -= log->segments[i]->size_bytes;
        if (left_bytes < retention_bytes) {
            break;
        }
        start_offset = log->segments[i]->end_offset;
    }
    return start_offset;
}

int64_t segment_log_base_below(const struct segment_log *log, int64_t offset)
{
    int64_t base = log->start_offset;
    for (uint32_t i = 0; i < log->segments_count && log->segments[i]->base_offset <= offset; i++) {
        base = log->segments[i]->base_offset > base ? log->segments[i]->base_offset : base;
    }
    return base;
}

int64_t segment_log_oldest_ms(const struct segment_log *log)
{
    return log->segments_count > 0 ? log->segments[0]->newest_ms : INT64_MAX;
}

int64_t segment_log_start_for_time(const struct segment_log *log, int64_t before_ms)
{
    int64_t start_offset = log->start_offset;
    for (uint32_t i = 0; i < log->segments_count && log->segments[i]->newest_ms < before_ms; i++) {
        start_offset = log->segments[i]->end_offset;
    }
    return start_offset;
}

void segment_log_set_start(struct segment_log *log, int64_t offset)
{
    uint32_t gone = 0;
    ASSERT(offset >= log->start_offset && offset <= log->next_offset);
    log->start_offset = offset;
    while (gone < log->segments_count && log->segments[gone]->end_offset <= offset) {
        struct segment *segment = log->segments[gone++];
        segment->dropped_at = ++log->drops;
        log->bytes -= segment->size_bytes;
        TAILQ_INSERT_TAIL(&log->dropped, segment, link);
    }
    log->segments_count -= gone;
    for (uint32_t i = 0; i < log->segments_count && gone > 0; i++) {
        log->segments[i] = log->segments[i + gone];
    }
    if (log->segments_count == 0) {
        log->active = NULL;
    }
}

/* --- freeing --- */

struct retire_job {
    struct store_job job;         /* first */
    struct segment_list segments; /* owned */
};

static void retire_job__run(struct store_job *base)
{
    struct retire_job *job = (struct retire_job *)base;
    struct segment *segment;
    TAILQ_FOREACH(segment, &job->segments, link)
    {
        files__retire(&base->store->files, segment);
    }
}

static void retire_job__drop(struct store_job *base)
{
    struct retire_job *job = (struct retire_job *)base;
    while (!TAILQ_EMPTY(&job->segments)) {
        struct segment *segment = TAILQ_FIRST(&job->segments);
        TAILQ_REMOVE(&job->segments, segment, link);
        files__close(&base->store->files, segment);
        segment__free(segment);
    }
    free(job);
}

void segment_log__retire(struct segment_log *log, struct segment_list *free_segments)
{
    if (TAILQ_EMPTY(free_segments)) {
        return;
    }
    struct retire_job *job = mem_zeroed(1, sizeof *job);
    TAILQ_INIT(&job->segments);
    TAILQ_CONCAT(&job->segments, free_segments, link);
    job->job.run = retire_job__run;
    job->job.done = retire_job__drop; /* the files are closed by now, what is left is memory */
    job->job.drop = retire_job__drop;
    store__submit(log->store, &job->job);
}

void segment__unpin(struct segment *segment)
{
    struct segment_log *log = segment->log;
    ASSERT(segment->pins > 0);
    if (--segment->pins == 0 && segment->is_free && !log->is_dead) {
        struct segment_list list = TAILQ_HEAD_INITIALIZER(list);
        TAILQ_REMOVE(&log->dropped, segment, link);
        TAILQ_INSERT_TAIL(&list, segment, link);
        segment_log__retire(log, &list);
    }
}

/* --- the end of a log --- */

static void segment_log__forget_segment(struct segment_log *log, struct segment *segment)
{
    files__close(&log->store->files, segment); /* no job of this log runs: the lane cannot be at it */
    segment__free(segment);
}

void segment_log__free(struct segment_log *log)
{
    tail__drop_log(log);
    for (uint32_t i = 0; i < log->segments_count; i++) {
        segment_log__forget_segment(log, log->segments[i]);
    }
    while (!TAILQ_EMPTY(&log->dropped)) {
        struct segment *segment = TAILQ_FIRST(&log->dropped);
        TAILQ_REMOVE(&log->dropped, segment, link);
        segment_log__forget_segment(log, segment);
    }
    sweep__forget(&log->lane);
    free(log->segments);
    free(log);
}

static void segment_log__leave_lists(struct segment_log *log)
{
    struct store *store = log->store;
    if (log->is_queued) {
        TAILQ_REMOVE(&store->queued, log, queue_link);
    }
    if (log->is_stalled) {
        store__unstall(log);
    }
    log->is_queued = false;
    store__note_full(log, false);
    HASH_DEL(store->logs, log);
}

void segment_log_close(struct segment_log *log)
{
    segment_log__leave_lists(log);
    segment_log__free(log);
}

void segment_log__release_hold(struct segment_log *log)
{
    ASSERT(log->holds > 0);
    if (--log->holds == 0 && log->is_gone) {
        TAILQ_REMOVE(&log->store->dead, log, queue_link);
        segment_log__free(log);
    }
}

struct delete_job {
    struct store_job job;    /* first */
    struct segment_log *log; /* held */
    bool keeps_files;
    void (*done)(void *context); /* NULL: nobody waits */
    void *context;
};

static void delete_job__close(struct files *files, struct segment_log *log)
{
    struct segment *segment;
    for (uint32_t i = 0; i < log->segments_count; i++) {
        files__close(files, log->segments[i]);
    }
    TAILQ_FOREACH(segment, &log->dropped, link)
    {
        files__close(files, segment);
    }
}

static void delete_job__run(struct store_job *base)
{
    struct delete_job *job = (struct delete_job *)base;
    struct segment_log *log = job->log;
    struct files *files = &base->store->files;
    struct segment *segment;
    log->lane.is_deleted = true;
    if (job->keeps_files) {
        delete_job__close(files, log);
        return;
    }
    for (uint32_t i = 0; i < log->segments_count; i++) {
        files__remove(files, log->segments[i]);
    }
    TAILQ_FOREACH(segment, &log->dropped, link)
    {
        files__remove(files, segment);
    }
    enum err error = sweep__remove_dir(files, log->group);
    if (error != OK) { /* the next start sweeps it away */
        trace_warn(files->trace, "directory_not_removed", "group=%llu error=%s", (unsigned long long)log->group,
                   err_name(error));
    }
}

static void delete_job__done(struct store_job *base)
{
    struct delete_job *job = (struct delete_job *)base;
    job->log->is_gone = true;
    segment_log__release_hold(job->log);
    if (job->done != NULL) {
        job->done(job->context);
    }
    free(job);
}

static void delete_job__drop(struct store_job *base)
{
    free(base);
}

static void segment_log__end(struct segment_log *log, bool keeps_files, void (*done)(void *context), void *context)
{
    struct delete_job *job = mem_zeroed(1, sizeof *job);
    ASSERT(!log->is_dead);
    segment_log__leave_lists(log);
    log->is_dead = true;
    log->holds++;
    TAILQ_INSERT_TAIL(&log->store->dead, log, queue_link);
    job->job.run = delete_job__run;
    job->job.done = delete_job__done;
    job->job.drop = delete_job__drop;
    job->log = log;
    job->keeps_files = keeps_files;
    job->done = done;
    job->context = context;
    store__submit(log->store, &job->job);
}

void segment_log_delete(struct segment_log *log, void (*done)(void *context), void *context)
{
    segment_log__end(log, false, done, context);
}

void segment_log_abandon(struct segment_log *log)
{
    segment_log__end(log, true, NULL, NULL);
}
