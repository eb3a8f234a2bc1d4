/* Lane side of a write job: a chain of batches, grouped by log and in order within each, becomes few large writes.
 *
 * Each write gathers {prefix, bytes 16..} of many batches and ends on a multiple of 512 KiB of the file where it can:
 * single buffered writes above that run 8 times slower (measured), and writeback is started once for each such
 * piece, never for a page that is still being filled. In a recycled file the last block of a run is filled up with
 * zeros: a whole page is overwritten without being read first, and what stands directly behind the end is no batch.
 *
 * A long run leaves nothing in the page cache: writing fresh pages of it throttles a busy broker to a third of what
 * the disk takes (0.4 against 1.0-1.6 GB/s, measured over a minute). Where the kernel drops written pages by itself the
 * gather write stays as it is. Elsewhere the bytes are gathered in one aligned staging buffer, the only copy of payload
 * that a broker makes, and leave in pieces of 1 MiB; the partial blocks at both ends go through the cache, so that
 * the next run finds them there.
 *
 * A log's batches reach the disk as a prefix: when one fails, all later ones of that log fail too, until the loop sends
 * them again. */
#include "base/assert.h"
#include "store/impl.h"

#include <string.h>

struct writer {
    struct files *files;
    struct segment *segment;  /* being written; NULL: none */
    struct store_item *first; /* of it, the first whose bytes are not all written */
    uint64_t position;        /* of what is gathered */
    uint32_t bytes;           /* gathered */
    int parts_count;
    bool is_direct; /* bytes are in files->staging, from position % 4096 on; else in files->parts */
};

static const uint8_t zeros[STORE_BLOCK_BYTES];

static enum err writer__write(struct writer *w, const struct iovec *parts, int parts_count, uint64_t position)
{
    struct disk *disk = w->files->disk;
    enum err error = disk->ops->write(disk, w->segment->file.handle, parts, parts_count, position);
    if (error == ERR_STORAGE_FULL && files__give_up_spares(w->files)) {
        error = disk->ops->write(disk, w->segment->file.handle, parts, parts_count, position);
    }
    return error;
}

/* What is staged, in up to three writes: to the first block boundary, whole blocks, the rest. */
static enum err writer__write_staged(struct writer *w)
{
    uint64_t at = w->position;
    uint64_t end = w->position + w->bytes;
    uint8_t *data = w->files->staging + at % STORE_BLOCK_BYTES;
    while (at < end) {
        uint64_t blocks_end = end - end % STORE_BLOCK_BYTES;
        uint64_t stop = at % STORE_BLOCK_BYTES != 0 ? at + (-at & (STORE_BLOCK_BYTES - 1))
                        : at < blocks_end           ? blocks_end
                                                    : end;
        struct iovec part = {.iov_base = data, .iov_len = (stop < end ? stop : end) - at};
        enum err error = writer__write(w, &part, 1, at);
        if (error != OK) {
            return error;
        }
        at += part.iov_len;
        data += part.iov_len;
    }
    return OK;
}

static enum err writer__flush(struct writer *w)
{
    struct disk *disk = w->files->disk;
    struct segment_file *file = &w->segment->file;
    if (w->bytes == 0) {
        return OK;
    }
    enum err error =
        w->is_direct ? writer__write_staged(w) : writer__write(w, w->files->parts, w->parts_count, w->position);
    if (error != OK) {
        return error;
    }
    files__mark_dirty(w->files, w->segment);
    w->position += w->bytes;
    w->bytes = 0;
    w->parts_count = 0;
    if (w->position > file->length_bytes) {
        file->length_bytes = w->position;
    }
    if (!w->is_direct && w->position % STORE_WRITE_BYTES_MAX == 0) { /* a hint: its error comes again from the sync */
        disk->ops->writeback(disk, file->handle, w->position - STORE_WRITE_BYTES_MAX, STORE_WRITE_BYTES_MAX);
    }
    return OK;
}

static enum err writer__add(struct writer *w, const uint8_t *data, uint32_t size)
{
    while (size > 0) {
        uint64_t at = w->position + w->bytes;
        uint32_t piece = w->is_direct ? STORE_STAGING_BYTES : STORE_WRITE_BYTES_MAX;
        uint32_t room = (uint32_t)(piece - at % piece);
        uint32_t part = size < room ? size : room;
        if (w->is_direct) {
            memcpy(w->files->staging + w->position % STORE_BLOCK_BYTES + w->bytes, data, part);
        } else {
            w->files->parts[w->parts_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = part};
        }
        w->bytes += part;
        data += part;
        size -= part;
        if (part == room || w->parts_count == STORE_WRITE_PARTS_MAX) {
            enum err error = writer__flush(w);
            if (error != OK) {
                return error;
            }
        }
    }
    return OK;
}

/* Everything before `position` of the file is written: those batches are. */
static void writer__mark(struct writer *w, uint64_t position)
{
    while (w->first != NULL && w->first->segment == w->segment &&
           w->first->position + w->first->body.size <= position) {
        w->first->error = OK;
        w->segment->log->lane.written_offset = w->first->end_offset;
        w->first = TAILQ_NEXT(w->first, link);
    }
}

/* Ends the run of the present segment. Returns the error of its last write; position is then where that write began. */
static enum err writer__end(struct writer *w)
{
    struct segment *segment = w->segment;
    if (segment == NULL) {
        return OK;
    }
    uint64_t end = w->position + w->bytes;
    uint32_t padding = (uint32_t)(-end & (STORE_BLOCK_BYTES - 1));
    if (segment->file.is_recycled && w->bytes > 0 && padding > 0) {
        enum err error = writer__add(w, zeros, padding);
        if (error != OK) {
            return error;
        }
    }
    return writer__flush(w);
}

/* Whether the run that begins with this batch is worth going round the page cache. */
static bool writer__is_long(const struct store_item *item)
{
    const struct segment *segment = item->segment;
    uint64_t bytes = 0;
    for (; item != NULL && item->segment == segment && bytes < STORE_DIRECT_BYTES_MIN; item = TAILQ_NEXT(item, link)) {
        bytes += item->body.size;
    }
    return bytes >= STORE_DIRECT_BYTES_MIN;
}

static enum err writer__begin(struct writer *w, struct store_item *item)
{
    struct segment_log *log = item->segment->log;
    if (item->base_offset > log->lane.written_offset) { /* one before it failed */
        return log->lane.error != OK ? log->lane.error : ERR_IO;
    }
    if (item->seals != NULL) {
        index_file__seal(w->files, item->seals);
    }
    enum err error = files__create(w->files, item->segment);
    if (error == ERR_STORAGE_FULL && files__give_up_spares(w->files)) {
        error = files__create(w->files, item->segment);
    }
    if (error != OK) {
        return error;
    }
    w->segment = item->segment;
    w->first = item;
    w->position = item->position;
    w->is_direct = w->files->disk->ops->wants_staging(w->files->disk) && writer__is_long(item);
    return OK;
}

/* The batches from the first unwritten one up to `last` (NULL: to the end of the chain's part of this log) stay
 * unwritten. */
static void writer__fail(struct writer *w, struct segment_log *log, struct store_item *from,
                         const struct store_item *behind, enum err error)
{
    if (log->lane.error != error && error != ERR_STORAGE_FULL) { /* a full disk is the broker's to report, once */
        trace_error(w->files->trace, "segment_write_failed", "group=%llu offset=%lld error=%s",
                    (unsigned long long)log->group, (long long)from->base_offset, err_name(error));
    }
    log->lane.error = error;
    for (struct store_item *item = from; item != behind; item = TAILQ_NEXT(item, link)) {
        item->error = error;
    }
    w->segment = NULL;
    w->first = NULL;
    w->bytes = 0;
    w->parts_count = 0;
}

/* Ends the present run, before `next` (NULL: the end). */
static void writer__finish(struct writer *w, struct store_item *next)
{
    if (w->segment == NULL) {
        return;
    }
    struct segment_log *log = w->segment->log;
    enum err error = writer__end(w);
    writer__mark(w, w->position);
    if (error != OK) {
        writer__fail(w, log, w->first, next, error);
        return;
    }
    ASSERT(w->first == next);
    log->lane.error = OK;
    w->segment = NULL;
}

void writer__run(struct files *files, struct store_items *chain)
{
    struct writer w = {.files = files};
    struct store_item *item;
    TAILQ_FOREACH(item, chain, link)
    {
        struct segment_log *log = item->segment->log;
        enum err error = OK;
        if (item->segment != w.segment) {
            writer__finish(&w, item);
            error = writer__begin(&w, item);
            if (error != OK) {
                writer__fail(&w, log, item, TAILQ_NEXT(item, link), error);
                continue;
            }
        }
        ASSERT(item->position == w.position + w.bytes);
        error = writer__add(&w, item->prefix, BATCH_PREFIX_BYTES);
        if (error == OK) {
            error = writer__add(&w, item->body.data + BATCH_PREFIX_BYTES, item->body.size - BATCH_PREFIX_BYTES);
        }
        writer__mark(&w, w.position);
        if (error != OK) {
            writer__fail(&w, log, w.first, TAILQ_NEXT(item, link), error);
        }
    }
    writer__finish(&w, NULL);
}
