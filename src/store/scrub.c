/* The walk over all segments, see scrub.h. One piece is one read; what it leaves half judged (a batch may be larger
 * than a piece) waits in the cursor. Loop thread and lane take turns with it: while a piece runs it is the lane's. */
#include "store/scrub.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "store/impl.h"

#define RUNS_MAX       32u                     /* changes of epoch in one piece; the next piece goes on behind them */
#define FOUND_MAX      32u                     /* damaged ranges in one piece, the same */
#define TRIES_MAX      64u                     /* bytes behind a bad batch that looked like a batch and were none */
#define SMALL_BYTES    (2 * STORE_BLOCK_BYTES) /* after a failed read: to find the block that fails */
#define LOOKS          3u
#define CRC_FROM_BYTES 21u

struct epoch_run {
    int64_t from_offset, end_offset;
    int32_t epoch;
};

struct cursor {
    /* of the segment, as far as it was written when its walk began */
    uint64_t limit_bytes;
    int64_t limit_offset;
    bool knows_chain;
    uint32_t chain_wanted;

    uint64_t position; /* everything before it is judged */
    int64_t expected_offset;
    uint32_t chain;
    bool is_whole; /* nothing damaged so far */
    uint32_t read_bytes;

    bool in_body; /* of the batch that begins at batch_position */
    uint64_t batch_position;
    struct batch_header batch;
    uint32_t batch_chain; /* the chain behind it, if it is good */
    uint32_t crc;         /* so far */

    bool is_seeking; /* bad from bad_offset on */
    bool is_unread;  /* because it could not be read */
    int64_t bad_offset;
    uint32_t tries;

    /* of this piece */
    enum err error;
    uint32_t bytes;
    bool is_over;    /* so is the segment */
    bool is_swapped; /* every batch is good, and yet one is not the one that was written: nobody can say which */
    uint32_t runs_count, found_count;
    struct epoch_run runs[RUNS_MAX];
    struct damaged_range found[FOUND_MAX];
};

struct store_scrub {
    struct store_job job; /* first */
    struct store_scrub_options options;
    bool is_busy;
    struct segment *segment; /* of the piece under way; pinned */
    bool is_inside;          /* the walk stands in this segment: */
    uint64_t group;
    int64_t base_offset;
    struct damage found;    /* of this segment, so far */
    uint32_t looks;         /* at it, before this one, because of: */
    struct damage suspects; /* what all of them found */
    struct cursor cursor;
    uint8_t *data; /* owned; block aligned */
};

/* --- damaged ranges (loop) --- */

void damage__free(struct damage *damage)
{
    free(damage->ranges);
    *damage = (struct damage){0};
}

bool damage__holds(const struct damage *damage, int64_t offset)
{
    for (uint32_t i = 0; i < damage->count; i++) {
        const struct damaged_range *range = &damage->ranges[i];
        if (range->from_offset <= offset && offset < range->end_offset && !range->is_unread) {
            return true;
        }
    }
    return false;
}

static bool damage__knows(const struct damage *damage, const struct damaged_range *range)
{
    for (uint32_t i = 0; i < damage->count; i++) {
        if (damage->ranges[i].from_offset <= range->from_offset && range->end_offset <= damage->ranges[i].end_offset) {
            return true;
        }
    }
    return false;
}

static bool damage__touches(const struct damage *damage, const struct damaged_range *range)
{
    for (uint32_t i = 0; i < damage->count; i++) {
        if (damage->ranges[i].from_offset < range->end_offset && range->from_offset < damage->ranges[i].end_offset) {
            return true;
        }
    }
    return false;
}

static void damage__add(struct damage *damage, const struct damaged_range *range)
{
    if (damage__knows(damage, range)) {
        return;
    }
    if (damage->count == damage->capacity) {
        damage->capacity = damage->capacity > 0 ? 2 * damage->capacity : 4;
        damage->ranges = mem_grow(damage->ranges, damage->capacity * sizeof damage->ranges[0]);
    }
    damage->ranges[damage->count++] = *range;
}

uint32_t segment_log_damage(const struct segment_log *log, struct offset_range *ret_ranges, uint32_t ranges_max)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < log->segments_count; i++) {
        const struct damage *damage = &log->segments[i]->damage;
        for (uint32_t j = 0; j < damage->count; j++) {
            const struct damaged_range *range = &damage->ranges[j];
            int64_t from = range->from_offset > log->start_offset ? range->from_offset : log->start_offset;
            if (from < range->end_offset && count++ < ranges_max) {
                ret_ranges[count - 1] = (struct offset_range){from, range->end_offset};
            }
        }
    }
    return count;
}

uint32_t segment_log_damaged_ranges(const struct segment_log *log)
{
    return segment_log_damage(log, NULL, 0);
}

int64_t segment_log_damage_end(const struct segment_log *log)
{
    int64_t end = 0;
    for (uint32_t i = 0; i < log->segments_count; i++) {
        const struct damage *damage = &log->segments[i]->damage;
        for (uint32_t j = 0; j < damage->count; j++) {
            end = damage->ranges[j].end_offset > end ? damage->ranges[j].end_offset : end;
        }
    }
    return end > log->start_offset ? end : 0;
}

bool segment_log_is_damaged(const struct segment_log *log, int64_t from_offset, int64_t end_offset)
{
    const struct damaged_range range = {.from_offset = from_offset, .end_offset = end_offset};
    for (uint32_t i = 0; i < log->segments_count; i++) {
        if (damage__touches(&log->segments[i]->damage, &range)) {
            return true;
        }
    }
    return false;
}

/* --- judging (lane) --- */

static void cursor__damaged(struct cursor *at, int64_t from_offset, int64_t end_offset)
{
    ASSERT(at->found_count < FOUND_MAX && from_offset < end_offset);
    at->found[at->found_count++] = (struct damaged_range){from_offset, end_offset, at->is_unread};
    at->is_whole = false;
    at->is_unread = false;
}

/* The batch that should stand at `position` does not: look for the next one behind that byte. */
static void cursor__seek(struct cursor *at, uint64_t position)
{
    if (!at->is_seeking) {
        at->is_seeking = true;
        at->is_whole = false;
        at->bad_offset = at->expected_offset;
        at->tries = 0;
    }
    at->in_body = false;
    at->position = position + 1;
}

static void cursor__end(struct cursor *at)
{
    at->is_over = true;
    if (at->is_seeking && at->bad_offset == at->limit_offset) { /* more bytes than batches */
        at->is_swapped = true;
    } else if (at->is_seeking) {
        cursor__damaged(at, at->bad_offset, at->limit_offset);
    } else if (at->expected_offset < at->limit_offset) {
        cursor__damaged(at, at->expected_offset, at->limit_offset);
    } else {
        at->is_swapped = at->is_whole && at->knows_chain && at->chain != at->chain_wanted;
    }
}

/* All bytes of the batch were seen. */
static void cursor__judge(struct cursor *at)
{
    int64_t end_offset = at->batch.base_offset + at->batch.last_offset_delta + 1;
    at->in_body = false;
    if (at->crc != at->batch.crc) {
        if (at->is_seeking && ++at->tries == TRIES_MAX) {
            at->is_over = true;
            cursor__damaged(at, at->bad_offset, at->bad_offset + 1);
            return;
        }
        cursor__seek(at, at->batch_position);
        return;
    }
    if (at->is_seeking) {
        cursor__damaged(at, at->bad_offset, at->batch.base_offset);
        at->is_seeking = false;
    }
    at->expected_offset = end_offset;
    at->chain = at->batch_chain;
    struct epoch_run *run = at->runs_count > 0 ? &at->runs[at->runs_count - 1] : NULL;
    if (run != NULL && run->epoch == at->batch.leader_epoch && run->end_offset == at->batch.base_offset) {
        run->end_offset = end_offset;
        return;
    }
    at->runs[at->runs_count++] = (struct epoch_run){at->batch.base_offset, end_offset, at->batch.leader_epoch};
}

/* A header stands at `data`: the next batch, or while seeking one that may be. */
static bool cursor__take_header(struct cursor *at, const struct segment *segment, const uint8_t *data)
{
    struct batch_header header;
    uint64_t room = at->limit_bytes - at->position;
    int64_t base_offset = (int64_t)load_be64(data);
    bool joins = at->is_seeking ? base_offset > at->bad_offset && base_offset < at->limit_offset
                                : base_offset == at->expected_offset;
    if (!joins || batch_parse(data, BATCH_HEADER_BYTES, &header) != OK ||
        !walk__header_is_sane(segment, &header, room) ||
        header.base_offset + header.last_offset_delta >= at->limit_offset) {
        return false;
    }
    at->in_body = true;
    at->batch = header;
    at->batch_position = at->position;
    at->batch_chain = crc32c(at->chain, data, BATCH_HEADER_BYTES);
    at->crc = crc32c(0, data + CRC_FROM_BYTES, BATCH_HEADER_BYTES - CRC_FROM_BYTES);
    at->position += BATCH_HEADER_BYTES;
    return true;
}

/* Judges data, the bytes of the file from `begin` to `end`, as far as they go. */
static void cursor__judge_bytes(struct cursor *at, const struct segment *segment, const uint8_t *data, uint64_t begin,
                                uint64_t end)
{
    while (!at->is_over && at->runs_count < RUNS_MAX && at->found_count + 2 < FOUND_MAX) {
        if (at->in_body) {
            uint64_t batch_end = at->batch_position + at->batch.size_bytes;
            uint64_t upto = batch_end < end ? batch_end : end;
            if (batch_end > at->limit_bytes) { /* the file turned out shorter */
                cursor__seek(at, at->batch_position);
                return;
            }
            if (upto > at->position) {
                at->crc = crc32c(at->crc, data + (at->position - begin), upto - at->position);
                at->position = upto;
            }
            if (at->position < batch_end) {
                return;
            }
            cursor__judge(at);
            if (at->position < begin) {
                return; /* sought from a byte that an earlier piece held */
            }
        } else if (at->limit_bytes - at->position < BATCH_HEADER_BYTES) {
            if (at->position < at->limit_bytes) {
                cursor__seek(at, at->limit_bytes - 1);
            }
            cursor__end(at);
        } else if (at->position + BATCH_HEADER_BYTES > end) {
            return;
        } else if (!cursor__take_header(at, segment, data + (at->position - begin))) {
            cursor__seek(at, at->position);
        }
    }
}

static void cursor__read_failed(struct cursor *at, uint64_t begin, enum err error)
{
    if (error != ERR_IO) { /* no memory, no handles; what else there is says nothing about the bytes */
        at->error = ERR_BUSY;
    } else if (at->read_bytes > SMALL_BYTES) {
        at->read_bytes = SMALL_BYTES;
    } else { /* this block is gone; the batch in it, and what the next block does not join */
        at->is_unread = true;
        cursor__seek(at, begin + STORE_BLOCK_BYTES - 1);
        at->position = at->position < at->limit_bytes ? at->position : at->limit_bytes;
    }
}

static void scrub__run(struct store_job *base)
{
    struct store_scrub *scrub = (struct store_scrub *)base;
    struct cursor *at = &scrub->cursor;
    struct disk *disk = base->store->disk;
    struct disk_file *handle;
    char path[STORE_PATH_BYTES];
    size_t got = 0;
    uint64_t begin = at->position / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES;
    files__path(&base->store->files, scrub->segment, ".log", path);
    enum err error = disk->ops->open(disk, path, DISK_UNCACHED, &handle);
    if (error == ERR_NO_FILE || error == ERR_IO) {
        at->is_unread = error == ERR_IO;
        cursor__seek(at, at->limit_bytes - 1);
        cursor__end(at);
        return;
    }
    if (error == OK) {
        error = disk->ops->read(disk, handle, scrub->data, at->read_bytes, begin, &got);
        disk->ops->close(disk, handle);
    }
    if (error != OK) {
        cursor__read_failed(at, begin, error);
        return;
    }
    uint64_t end = begin + got < at->limit_bytes ? begin + got : at->limit_bytes;
    at->bytes = (uint32_t)got;
    if (end < at->limit_bytes && got < at->read_bytes) { /* shorter than the manifest says */
        at->limit_bytes = end > at->position ? end : at->position;
    }
    cursor__judge_bytes(at, scrub->segment, scrub->data, begin, end);
    at->read_bytes = STORE_SCRUB_BYTES;
}

/* --- the walk (loop) --- */

static struct segment *segment_log__segment_from(const struct segment_log *log, int64_t base_offset)
{
    for (uint32_t i = 0; i < log->segments_count; i++) {
        if (log->segments[i]->base_offset >= base_offset && log->segments[i]->written_bytes > 0) {
            return log->segments[i];
        }
    }
    return NULL;
}

/* The next segment with something in its file, in order of group and offset, from the given one on. */
static struct segment *store__segment_from(const struct store *store, uint64_t group, int64_t base_offset)
{
    struct segment *best = NULL;
    struct segment_log *log;
    HASH_FIND(hh, store->logs, &group, sizeof group, log);
    if (log != NULL) {
        best = segment_log__segment_from(log, base_offset);
    }
    if (best != NULL) {
        return best;
    }
    for (log = store->logs; log != NULL; log = log->hh.next) {
        if (log->group > group && (best == NULL || log->group < best->log->group)) {
            struct segment *first = segment_log__segment_from(log, INT64_MIN);
            best = first != NULL ? first : best;
        }
    }
    return best;
}

static void scrub__enter(struct store_scrub *scrub, struct segment *segment)
{
    const struct segment_log *log = segment->log;
    const struct store_item *waiting =
        log->ring.written < log->ring.count ? ring__at(&log->ring, log->ring.written) : NULL;
    bool is_written = waiting == NULL || waiting->segment != segment;
    scrub->is_inside = true;
    scrub->looks = scrub->group == log->group && scrub->base_offset == segment->base_offset ? scrub->looks : 0;
    scrub->group = log->group;
    scrub->base_offset = segment->base_offset;
    scrub->found.count = 0;
    scrub->cursor = (struct cursor){.limit_bytes = segment->written_bytes,
                                    .limit_offset = is_written ? segment->end_offset : waiting->base_offset,
                                    .knows_chain = segment->written_bytes == segment->size_bytes,
                                    .chain_wanted = segment->chain,
                                    .expected_offset = segment->base_offset,
                                    .is_whole = true,
                                    .read_bytes = STORE_SCRUB_BYTES};
}

static void scrub__judge_epochs(struct store_scrub *scrub, struct segment *segment, const struct epoch_run *run)
{
    int64_t end_offset;
    for (int64_t offset = run->from_offset; offset < run->end_offset; offset = end_offset) {
        int32_t epoch = scrub->options.epoch_at(scrub->options.context, segment->log, offset, &end_offset);
        ASSERT(end_offset > offset);
        end_offset = end_offset < run->end_offset ? end_offset : run->end_offset;
        if (epoch != run->epoch) {
            damage__add(&scrub->found, &(struct damaged_range){offset, end_offset, false});
        }
    }
}

static void scrub__take_findings(struct store_scrub *scrub, struct segment *segment)
{
    struct cursor *at = &scrub->cursor;
    for (uint32_t i = 0; i < at->runs_count; i++) {
        scrub__judge_epochs(scrub, segment, &at->runs[i]);
    }
    for (uint32_t i = 0; i < at->found_count; i++) {
        damage__add(&scrub->found, &at->found[i]);
    }
    if (at->is_swapped && scrub->found.count == 0) { /* a wrong epoch is damage enough, and has its place */
        damage__add(&scrub->found, &(struct damaged_range){segment->base_offset, at->limit_offset, false});
    }
}

/* The segment was read to its end. False: look again. */
static bool scrub__conclude(struct store_scrub *scrub, struct segment *segment)
{
    struct damage *found = &scrub->found;
    struct damage sure = {0};
    bool is_news = false;
    for (uint32_t i = 0; i < found->count; i++) {
        bool is_known = damage__knows(&segment->damage, &found->ranges[i]);
        if (is_known || scrub->looks == 0 || damage__touches(&scrub->suspects, &found->ranges[i])) {
            is_news = is_news || !is_known;
            damage__add(&sure, &found->ranges[i]);
        }
    }
    if (is_news && ++scrub->looks < LOOKS) {
        damage__free(&scrub->suspects);
        scrub->suspects = sure;
        return false;
    }
    scrub->looks = 0;
    if (scrub->cursor.tries == TRIES_MAX) {
        trace_warn(scrub->job.store->trace, "scrub_gave_up", "group=%llu base=%lld position=%llu",
                   (unsigned long long)scrub->group, (long long)scrub->base_offset,
                   (unsigned long long)scrub->cursor.position);
        for (uint32_t i = 0; i < segment->damage.count; i++) { /* this walk did not see all */
            damage__add(&sure, &segment->damage.ranges[i]);
        }
    }
    struct damage before = segment->damage;
    segment->damage = sure; /* what is good again is served again */
    for (uint32_t i = 0; i < sure.count; i++) {
        if (!damage__knows(&before, &sure.ranges[i])) {
            scrub->options.on_damage(scrub->options.context, segment->log, sure.ranges[i].from_offset,
                                     sure.ranges[i].end_offset);
        }
    }
    damage__free(&before);
    return true;
}

static void scrub__done(struct store_job *base)
{
    struct store_scrub *scrub = (struct store_scrub *)base;
    struct cursor *at = &scrub->cursor;
    struct segment *segment = scrub->segment;
    struct segment_log *log = segment->log;
    enum err error = at->error;
    /* dropped or deleted meanwhile: nobody asks for it any more, and the file may be gone */
    bool is_there = !log->is_dead && segment_log__segment_from(log, segment->base_offset) == segment;
    if (is_there) {
        scrub__take_findings(scrub, segment);
    }
    if (!is_there || at->is_over) {
        scrub->is_inside = false;
        scrub->base_offset += !is_there || scrub__conclude(scrub, segment);
    }
    scrub->is_busy = false;
    scrub->segment = NULL;
    segment__unpin(segment);
    segment_log__release_hold(log);
    scrub->options.on_piece(scrub->options.context, error, at->bytes);
}

static void scrub__drop(struct store_job *base)
{
    (void)base; /* its owner frees it */
}

enum err store_scrub_piece(struct store_scrub *scrub)
{
    struct store *store = scrub->options.store;
    struct cursor *at = &scrub->cursor;
    ASSERT(!scrub->is_busy);
    struct segment *segment = store__segment_from(store, scrub->group, scrub->base_offset);
    if (segment == NULL) {
        scrub->is_inside = false;
        scrub->group = 0;
        scrub->base_offset = INT64_MIN;
        return ERR_CLOSED;
    }
    if (!scrub->is_inside || segment->log->group != scrub->group || segment->base_offset != scrub->base_offset) {
        scrub__enter(scrub, segment);
    }
    at->error = OK;
    at->bytes = at->runs_count = at->found_count = 0;
    scrub->is_busy = true;
    scrub->segment = segment;
    scrub->job.run = scrub__run;
    scrub->job.done = scrub__done;
    scrub->job.drop = scrub__drop;
    segment->pins++;
    segment->log->holds++;
    store__submit(store, &scrub->job);
    return OK;
}

struct store_scrub *store_scrub_new(const struct store_scrub_options *options)
{
    struct store_scrub *scrub = mem_zeroed(1, sizeof *scrub);
    scrub->options = *options;
    scrub->base_offset = INT64_MIN;
    scrub->data = mem_aligned(STORE_BLOCK_BYTES, STORE_SCRUB_BYTES);
    return scrub;
}

void store_scrub_free(struct store_scrub *scrub)
{
    damage__free(&scrub->found);
    damage__free(&scrub->suspects);
    free(scrub->data);
    free(scrub);
}

bool store_scrub_is_busy(const struct store_scrub *scrub)
{
    return scrub->is_busy;
}

uint64_t store_scrub_pieces(const struct store *store)
{
    uint64_t pieces = 0;
    for (const struct segment_log *log = store->logs; log != NULL; log = log->hh.next) {
        pieces += log->segments_count + log->bytes / STORE_SCRUB_BYTES;
    }
    return pieces;
}
