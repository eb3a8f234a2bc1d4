/* From a timestamp to an offset: the first batch whose largest timestamp is not older. Segments know their largest
 * timestamp, so at most the segments that may hold the answer are walked from where their time index says nothing newer
 * came before.
 *
 * An offset is an answer like any other: every batch on the way to it is read and held against its CRC, since one whose
 * timestamp rotted might be the answer, and what an earlier process wrote is judged as a whole first (doubt.c). A piece
 * at a time, so that others get their turn on the lane. */
#include "base/assert.h"
#include "base/mem.h"
#include "store/impl.h"

#include <stdlib.h>

#define PIECE_BYTES (16u << 20)

struct find_job {
    struct store_job job;    /* first */
    struct segment_log *log; /* held */
    struct segment *segment; /* pinned; NULL: nothing to look at, only the answer is due */
    void (*done)(void *context, enum err error, int64_t offset);
    void *context;
    int64_t timestamp_ms;
    int64_t from_offset;   /* log start: batches wholly below it are no answer */
    int64_t memory_offset; /* the answer among the batches in memory, -1: none there */
    uint64_t limit;
    uint64_t position;       /* boundary to walk from */
    int64_t expected_offset; /* of the batch there; -1: whatever stands there */
    bool use_index_file;     /* to move it forward first */
    /* out */
    enum err error;
    bool is_unfinished; /* one more piece of the segment is to be looked at */
    int64_t offset;     /* -1: none in this segment's file */
};

/* --- lane --- */

/* Moves the start forward by the index files. What they say is checked against the batch they name. */
static void find_job__skip(struct find_job *job, struct files *files)
{
    struct segment *segment = job->segment;
    struct time_entry entry;
    struct walk walk;
    struct batch_header header;
    uint64_t position, above;
    if (index_file__find_time(files, segment, job->timestamp_ms, &entry) != OK) {
        return;
    }
    int64_t last_offset = segment->base_offset + entry.relative_last;
    if (index_file__find(files, segment, job->limit, last_offset, &position, &above) != OK) {
        return;
    }
    walk__begin(&walk, files, segment, position, job->limit);
    while (walk__next(&walk, &header, &position) == OK && header.base_offset <= last_offset) {
        if (header.base_offset + header.last_offset_delta == last_offset && header.max_timestamp == entry.timestamp &&
            walk__check_crc(&walk, position, &header) == OK) {
            job->position = position;
            job->expected_offset = header.base_offset;
            return;
        }
    }
}

/* ERR_CLOSED: not in this segment's file. */
static enum err find_job__walk(struct find_job *job, struct files *files)
{
    struct walk walk;
    struct batch_header header;
    uint64_t position;
    uint64_t until = job->position + PIECE_BYTES;
    enum err error = OK;
    walk__begin(&walk, files, job->segment, job->position, job->limit);
    if (job->position > 0) {
        walk.expected_offset = job->expected_offset;
    }
    while (walk.position < until && (error = walk__next(&walk, &header, &position)) == OK) {
        if (header.base_offset + header.last_offset_delta < job->from_offset) {
            continue;
        }
        error = walk__check_crc(&walk, position, &header);
        if (error == OK && header.max_timestamp >= job->timestamp_ms) {
            job->offset = header.base_offset;
        }
        if (error != OK || job->offset >= 0) {
            return error;
        }
    }
    job->position = walk.position;
    job->expected_offset = walk.expected_offset;
    job->is_unfinished = error == OK;
    return error;
}

static void find_job__run(struct store_job *base)
{
    struct find_job *job = (struct find_job *)base;
    struct files *files = &base->store->files;
    job->offset = -1;
    job->is_unfinished = false;
    if (job->segment == NULL || job->limit == 0) {
        return;
    }
    job->error = files__open(files, job->segment);
    if (job->error != OK) {
        return;
    }
    job->is_unfinished = !doubt__settle(files, job->segment);
    if (job->is_unfinished) {
        return;
    }
    if (job->segment->file.is_foreign) {
        job->error = ERR_CORRUPT;
        return;
    }
    if (job->use_index_file) {
        job->use_index_file = false;
        find_job__skip(job, files);
    }
    job->error = find_job__walk(job, files);
    if (job->error == ERR_CLOSED) {
        job->error = OK;
    }
}

/* --- loop --- */

static void find_job__drop(struct store_job *base)
{
    free(base);
}

static int64_t find__in_memory(const struct segment_log *log, const struct segment *segment, int64_t timestamp_ms)
{
    for (uint32_t i = 0; i < log->ring.count; i++) {
        const struct store_item *item = ring__at(&log->ring, i);
        if (item->base_offset >= segment->end_offset) {
            break;
        }
        if (item->base_offset >= segment->base_offset && item->end_offset > log->start_offset &&
            item->max_timestamp >= timestamp_ms) {
            return item->base_offset;
        }
    }
    return -1;
}

/* Takes the first segment that begins at or after `base_offset` and has a batch new enough. */
static void find__submit(struct find_job *job, int64_t base_offset)
{
    struct segment_log *log = job->log;
    job->segment = NULL;
    job->error = OK;
    for (uint32_t i = 0; i < log->segments_count && job->segment == NULL; i++) {
        if (log->segments[i]->base_offset >= base_offset && log->segments[i]->max_timestamp >= job->timestamp_ms) {
            job->segment = log->segments[i];
        }
    }
    if (job->segment != NULL) {
        struct segment *segment = job->segment;
        int64_t last_offset;
        uint64_t above;
        segment->pins++;
        job->limit = segment->written_bytes;
        job->from_offset = log->start_offset;
        job->memory_offset = find__in_memory(log, segment, job->timestamp_ms);
        job->use_index_file = segment->is_sealed;
        job->position = 0;
        job->expected_offset = -1;
        if (!segment->is_sealed &&
            index__find_time(&segment->index, segment->base_offset, job->timestamp_ms, &last_offset) &&
            !index__find(&segment->index, segment->base_offset, last_offset, &job->position, &above)) {
            job->position = 0;
        }
        if (job->position > job->limit) {
            job->position = job->limit; /* what it points to is still in memory only */
        }
    }
    store__submit(log->store, &job->job);
}

static void find_job__done(struct store_job *base)
{
    struct find_job *job = (struct find_job *)base;
    struct segment_log *log = job->log;
    int64_t offset = job->offset >= 0 ? job->offset : job->memory_offset;
    enum err error = job->error;
    if (job->is_unfinished && !log->is_dead) {
        store__submit(base->store, base);
        return;
    }
    if (job->segment != NULL) {
        int64_t end_offset = job->segment->end_offset;
        segment__unpin(job->segment);
        if (!log->is_dead && error == OK && offset < 0) { /* its newest batch lies below log start */
            find__submit(job, end_offset);
            return;
        }
    } else {
        offset = log->next_offset;
    }
    if (log->is_dead) {
        error = ERR_CANCELLED;
    } else if (error == ERR_NO_MEMORY || error == ERR_TOO_MANY_FILES) {
        error = ERR_BUSY;
    } else if (error != OK) {
        error = ERR_CORRUPT;
    }
    job->done(job->context, error, offset > log->start_offset ? offset : log->start_offset);
    free(job);
    segment_log__release_hold(log);
}

void segment_log_find_time(struct segment_log *log, int64_t timestamp_ms,
                           void (*done)(void *context, enum err error, int64_t offset), void *context)
{
    struct find_job *job = mem_zeroed(1, sizeof *job);
    ASSERT(!log->is_dead);
    job->job.run = find_job__run;
    job->job.done = find_job__done;
    job->job.drop = find_job__drop;
    job->log = log;
    job->done = done;
    job->context = context;
    job->timestamp_ms = timestamp_ms;
    log->holds++;
    find__submit(job, INT64_MIN);
}
