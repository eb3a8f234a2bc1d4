/* Reads: from memory at once, else by a job of the store lane that checks every byte it hands out.
 *
 * A disk read never looks behind the known size of the segment: a recycled file holds old batches there, whole and with
 * good CRCs. Where memory begins the read ends; the next one is served from memory.
 *
 * Each batch must have a good CRC and begin at the offset that follows the one before. Good batches in front of bad
 * bytes are served; the read that begins at the bad ones gets ERR_CORRUPT, and one behind them is served again. */
#include "base/assert.h"
#include "base/mem.h"
#include "store/impl.h"

#include <stdlib.h>

struct read_job {
    struct store_job job;      /* first */
    struct segment_read *read; /* the caller's */
    struct segment_log *log;   /* held */
    struct segment *segment;   /* pinned */
    struct buf *buf;           /* owned; bytes are read into it */
    int64_t offset;
    uint32_t bytes_max;
    uint64_t limit;    /* bytes of the segment that are in the file */
    uint64_t position; /* in and out: where the batch with offset begins, or a boundary before it */
    uint64_t above;    /* another boundary, whose batch may hold offset; UINT64_MAX: none known */
    bool is_located;   /* position is a boundary at or before offset */
    bool is_exact;     /* and the batch there begins with offset */
    bool use_index_file;
    uint64_t unindexed_bytes; /* the active segment's part that its memory index does not know */
    int64_t unindexed_end;    /* offset behind it */
    /* out */
    enum err error;
    bool is_doubtful;    /* one more piece of the segment is to be judged first */
    uint32_t bytes;      /* whole good batches */
    uint32_t need_bytes; /* ERR_AGAIN: a batch larger than buf */
    int64_t end_offset;
    bool is_scanned;
    struct segment_index scanned; /* of [0, unindexed_bytes), for the active segment */
};

/* --- lane --- */

/* A boundary at or before offset, from the disk. */
static enum err read_job__locate(struct read_job *job, struct files *files)
{
    struct segment *segment = job->segment;
    if (job->is_located) {
        return OK;
    }
    if (job->use_index_file &&
        index_file__find(files, segment, job->limit, job->offset, &job->position, &job->above) == OK) {
        return OK;
    }
    uint64_t scan_bytes = job->use_index_file ? job->limit : job->unindexed_bytes;
    int64_t scan_end = job->use_index_file ? segment->end_offset : job->unindexed_end;
    enum err error = index_file__scan(files, segment, scan_bytes, scan_end, &job->scanned);
    bool found = index__find(&job->scanned, segment->base_offset, job->offset, &job->position, &job->above);
    ASSERT(found); /* a scan covers from 0 */
    if (error == OK && job->use_index_file && job->scanned.entries_count > 0) {
        error = index_file__write(files, segment, &job->scanned);
        trace_info(files->trace, "segment_index_rebuilt", "group=%llu base=%lld error=%s",
                   (unsigned long long)segment->log->group, (long long)segment->base_offset, err_name(error));
    } else {
        job->is_scanned = error == OK && !job->use_index_file;
    }
    return OK; /* damage behind offset does not matter, and before it is found by the walk */
}

static bool is_damage(enum err error)
{
    return error == ERR_CORRUPT || error == ERR_IO;
}

/* From a boundary to the batch that holds offset and begins before the limit, another boundary. Past damage: a header
 * that says it holds offset is believed for its CRC only, and behind bad ones the next batch is looked for. */
static enum err read_job__walk(struct read_job *job, struct files *files, uint64_t from, uint64_t limit, bool past)
{
    struct walk walk;
    struct walk_hole hole;
    struct batch_header header;
    uint64_t position;
    bool reaches = false;
    walk__begin(&walk, files, job->segment, from, limit);
    while (!reaches) {
        enum err error = walk__next(&walk, &header, &position);
        reaches = error == OK && header.base_offset + header.last_offset_delta >= job->offset;
        if (reaches && past) {
            error = walk__check_crc(&walk, position, &header);
        }
        if (is_damage(error) && past) {
            error = walk__seek(&walk, -1, &hole);
            reaches = false;
        }
        if (error != OK) {
            return error == ERR_CLOSED ? ERR_CORRUPT : error;
        }
    }
    if (header.base_offset > job->offset) {
        return ERR_CORRUPT;
    }
    job->position = position;
    return OK;
}

/* Reads at job->position until buf holds one whole batch and what else bytes_max allows. */
static enum err read_job__fill(struct read_job *job, struct files *files, size_t *ret_got)
{
    struct disk *disk = files->disk;
    struct batch_header header;
    uint64_t room = job->limit - job->position;
    uint64_t want = job->bytes_max < WALK_WINDOW_BYTES ? WALK_WINDOW_BYTES : job->bytes_max;
    for (;;) {
        want = want < job->buf->size ? want : job->buf->size;
        want = want < room ? want : room;
        enum err error = disk->ops->read(disk, job->segment->file.handle, job->buf->data, want, job->position, ret_got);
        if (error != OK) {
            return error;
        }
        if (batch_parse(job->buf->data, *ret_got, &header) != OK ||
            !walk__header_is_sane(job->segment, &header, room)) {
            return ERR_CORRUPT;
        }
        if (header.size_bytes <= *ret_got) {
            return OK;
        }
        if (*ret_got < want) {
            return ERR_CORRUPT; /* the file is shorter than the manifest says */
        }
        if (header.size_bytes > job->buf->size) {
            job->need_bytes = header.size_bytes;
            return ERR_AGAIN;
        }
        want = header.size_bytes;
    }
}

/* Counts the good whole batches at the front of buf. */
static enum err read_job__check(struct read_job *job, size_t got)
{
    const uint8_t *data = job->buf->data;
    int64_t expected_offset = -1;
    while (job->bytes < got) {
        struct batch_header header;
        if (batch_parse(data + job->bytes, got - job->bytes, &header) != OK || header.size_bytes > got - job->bytes ||
            (job->bytes > 0 && job->bytes + header.size_bytes > job->bytes_max)) {
            break; /* cut off by the end of what was read, or bad: the read that begins here will tell */
        }
        int64_t last_offset = header.base_offset + header.last_offset_delta;
        bool joins = expected_offset < 0 ? header.base_offset <= job->offset && job->offset <= last_offset &&
                                               (!job->is_exact || header.base_offset == job->offset)
                                         : header.base_offset == expected_offset;
        if (!joins || !walk__header_is_sane(job->segment, &header, got - job->bytes) ||
            !batch_crc_ok(data + job->bytes, header.size_bytes)) {
            break;
        }
        job->bytes += header.size_bytes;
        expected_offset = last_offset + 1;
    }
    job->end_offset = expected_offset;
    return job->bytes > 0 ? OK : ERR_CORRUPT;
}

static enum err read_job__try(struct read_job *job, struct files *files, uint64_t from, uint64_t limit, bool past)
{
    size_t got = 0;
    enum err error = job->is_exact ? OK : read_job__walk(job, files, from, limit, past);
    if (error == OK) {
        error = read_job__fill(job, files, &got);
    }
    return error == OK ? read_job__check(job, got) : error;
}

/* A batch may be good and yet not be reached, if one between the boundary and it is bad: then from the next boundary,
 * and for a batch in front of that, past the damage. */
static enum err read_job__serve(struct read_job *job, struct files *files)
{
    uint64_t from = job->position;
    uint64_t above = job->above < job->limit ? job->above : job->limit;
    enum err error = read_job__try(job, files, from, job->limit, false);
    if (is_damage(error) && !job->is_exact && above < job->limit) {
        error = read_job__try(job, files, above, job->limit, false);
    }
    if (is_damage(error) && !job->is_exact && from < above) {
        error = read_job__try(job, files, from, above, true);
    }
    return error;
}

static void read_job__run(struct store_job *base)
{
    struct read_job *job = (struct read_job *)base;
    struct files *files = &base->store->files;
    job->error = files__open(files, job->segment);
    job->is_doubtful = job->error == OK && !doubt__settle(files, job->segment);
    if (job->is_doubtful) {
        return;
    }
    if (job->error == OK && job->segment->file.is_foreign) {
        job->error = ERR_CORRUPT;
    }
    if (job->error == OK) {
        job->error = read_job__locate(job, files);
    }
    if (job->error == OK) {
        job->error = read_job__serve(job, files);
    }
    if (job->error != OK && job->error != ERR_AGAIN) {
        trace_error(files->trace, "segment_read_failed", "group=%llu base=%lld offset=%lld position=%llu error=%s",
                    (unsigned long long)job->log->group, (long long)job->segment->base_offset, (long long)job->offset,
                    (unsigned long long)job->position, err_name(job->error));
    }
}

/* --- loop --- */

static enum err read_job__status(enum err error)
{
    switch (error) {
    case OK:
        return OK;
    case ERR_NO_MEMORY:
    case ERR_TOO_MANY_FILES:
        return ERR_BUSY;
    default: /* bad bytes, a missing file, a failing disk: this range is not served from here */
        return ERR_CORRUPT;
    }
}

static void read_job__drop(struct store_job *base)
{
    struct read_job *job = (struct read_job *)base;
    buf_unref(job->buf);
    index__clear(&job->scanned);
    free(job);
}

static void read_job__install_index(struct read_job *job)
{
    struct segment *segment = job->segment;
    if (job->is_scanned && job->log->active == segment && segment->index.covered_from == job->unindexed_bytes) {
        index__prepend(&segment->index, &job->scanned);
    }
}

static void read_job__finish(struct read_job *job, enum err error)
{
    struct segment_read *read = job->read;
    struct segment_log *log = job->log;
    if (error == OK) {
        read->parts[0] = slice_of(job->buf, 0, job->bytes);
        read->parts_count = 1;
        read->bytes = job->bytes;
        segment__add_hint(job->segment, job->end_offset, job->position + job->bytes);
        log->store->stats.read_bytes += job->bytes;
    }
    segment__unpin(job->segment);
    read_job__drop(&job->job);
    read->done(read, error);
    segment_log__release_hold(log);
}

static void read_job__done(struct store_job *base)
{
    struct read_job *job = (struct read_job *)base;
    read_job__install_index(job);
    if (job->log->is_dead) {
        read_job__finish(job, ERR_CANCELLED);
        return;
    }
    if (job->is_doubtful) {
        store__submit(base->store, &job->job);
        return;
    }
    if (job->error != ERR_AGAIN) {
        read_job__finish(job, read_job__status(job->error));
        return;
    }
    struct buf *larger = buf_new(job->need_bytes);
    if (larger == NULL) {
        read_job__finish(job, ERR_BUSY);
        return;
    }
    buf_unref(job->buf);
    job->buf = larger;
    job->is_located = true;
    job->above = UINT64_MAX;
    job->is_scanned = false;
    job->bytes = 0;
    index__clear(&job->scanned);
    store__submit(base->store, &job->job);
}

static enum err segment_log__read_disk(struct segment_log *log, struct segment_read *read)
{
    struct store *store = log->store;
    struct segment *segment = segment_log__find(log, read->offset);
    if (damage__holds(&segment->damage, read->offset)) {
        return ERR_CORRUPT;
    }
    struct buf *buf = buf_pool_take(store->read_bufs);
    if (buf == NULL) {
        return ERR_BUSY;
    }
    struct read_job *job = mem_zeroed(1, sizeof *job);
    job->job.run = read_job__run;
    job->job.done = read_job__done;
    job->job.drop = read_job__drop;
    job->read = read;
    job->log = log;
    job->segment = segment;
    job->buf = buf;
    job->offset = read->offset;
    job->bytes_max = read->bytes_max;
    job->limit = segment->written_bytes;
    job->is_located = segment__find_start(segment, read->offset, &job->position, &job->above, &job->is_exact);
    job->use_index_file = segment->is_sealed;
    job->unindexed_bytes = segment->index.covered_from;
    job->unindexed_end = segment->index.covered_offset;
    segment->pins++;
    log->holds++;
    store->stats.disk_reads++;
    store__submit(store, &job->job);
    return ERR_AGAIN;
}

enum err segment_log_read(struct segment_log *log, struct segment_read *read)
{
    ASSERT(!log->is_dead);
    if (read->offset < log->start_offset || read->offset > log->next_offset) {
        return ERR_OUT_OF_RANGE;
    }
    read->parts_count = 0;
    read->bytes = 0;
    if (read->offset == log->next_offset) {
        return OK;
    }
    if (log->ring.count > 0 && read->offset >= ring__at(&log->ring, 0)->base_offset) {
        tail__read(log, read);
        log->store->stats.tail_hits++;
        return OK;
    }
    return segment_log__read_disk(log, read);
}

void segment_read_release(struct segment_read *read)
{
    for (uint32_t i = 0; i < read->parts_count; i++) {
        slice_unref(&read->parts[i]);
    }
    read->parts_count = 0;
    read->bytes = 0;
}
