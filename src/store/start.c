/* Start: opening a log from its manifest. Blocking calls on the loop thread, while no job of the store runs.
 *
 * After kill -9 the page cache holds more than the manifest says, after a power cut the disk may hold less of what was
 * not synced. Both are the same to us: only [0, row.size) counts, and replay appends the very same bytes behind it
 * again. */
#include "base/assert.h"
#include "base/plant.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "store/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* --- ahead --- */

bool store_looks_ahead(const struct store *store)
{
    return store->disk->ops->expect != NULL;
}

void store_expect(struct store *store, uint64_t group, int64_t base_offset, uint64_t size_bytes, uint32_t tail_size)
{
    if (store->expected_count == STORE_EXPECTED_MAX) {
        return;
    }
    if (store->expected_count == store->expected_capacity) {
        store->expected_capacity = store->expected_capacity == 0 ? 64 : 2 * store->expected_capacity;
        store->expected = mem_grow(store->expected, store->expected_capacity * sizeof *store->expected);
    }
    struct disk_expected *expected = &store->expected[store->expected_count];
    int length = snprintf(expected->path, sizeof expected->path, "%s/%" PRIu64 "/%020" PRId64 ".log", store->dir, group,
                          base_offset);
    if (length < 0 || (size_t)length >= sizeof expected->path || tail_size > size_bytes) {
        return;
    }
    expected->offset = size_bytes - tail_size;
    expected->size = tail_size;
    store->expected_count++;
}

void store_look_ahead(struct store *store)
{
    store->disk->ops->expect(store->disk, store->expected, store->expected_count);
    store->expected = NULL;
    store->expected_count = store->expected_capacity = 0;
}

/* --- opening --- */

static bool rows_join(const struct segment_log_options *options)
{
    int64_t next_offset = options->log_start;
    for (uint32_t i = 0; i < options->rows_count; i++) {
        const struct segment_row *row = &options->rows[i];
        bool first_holds_start = row->base_offset <= options->log_start && options->log_start < row->end_offset;
        if ((i == 0 ? !first_holds_start : row->base_offset != next_offset) || row->end_offset <= row->base_offset ||
            row->tail_size >= STORE_BLOCK_BYTES || row->tail_size > row->size_bytes) {
            return false;
        }
        next_offset = row->end_offset;
    }
    return next_offset == options->next_offset;
}

static struct segment *segment_of_row(struct segment_log *log, const struct segment_row *row, bool is_doubted)
{
    struct segment *segment = segment__new(log, row->base_offset, row->generation);
    segment->end_offset = row->end_offset;
    segment->size_bytes = segment->written_bytes = row->size_bytes;
    segment->chain = row->chain;
    segment->tail_crc = crc32c(0, row->tail, row->tail_size);
    segment->is_tail_known = row->tail_size == row->size_bytes % STORE_BLOCK_BYTES;
    segment->max_timestamp = row->max_timestamp;
    segment->created_clock_ms = row->created_clock_ms;
    segment->newest_ms = row->newest_ms;
    segment->index.max_timestamp = row->max_timestamp; /* listed: only a newer one makes an entry */
    segment->index.covered_from = row->size_bytes;
    segment->index.covered_offset = row->end_offset;
    if (is_doubted) {
        doubt__raise(segment);
    }
    if (row->generation >= log->store->generation_next) {
        log->store->generation_next = row->generation + 1;
    }
    return segment;
}

/* Finished segments: trimmed if the crash came before that. A missing or short file is found again by every read of it.
 */
static void check_finished(struct files *files, struct segment *segment)
{
    enum err error = files__trim(files, segment, segment->size_bytes);
    if (error == OK && segment->file.length_bytes < segment->size_bytes) {
        error = ERR_CORRUPT;
    }
    if (error != OK) {
        trace_error(files->trace, "segment_damaged", "group=%llu base=%lld error=%s",
                    (unsigned long long)segment->log->group, (long long)segment->base_offset, err_name(error));
    }
    segment->is_sealed = true;
    files__close(files, segment);
}

/* The last block of the checkpoint was overwritten since, with its own bytes and newer ones behind them. If the device
 * tore that write, the block may hold anything now. */
static enum err restore_tail(struct files *files, struct segment *segment, const struct segment_row *row)
{
    uint8_t found[STORE_BLOCK_BYTES];
    size_t got;
    struct disk *disk = files->disk;
    uint64_t position = row->size_bytes - row->tail_size;
    if (row->tail_size == 0 || PLANT(48)) {
        return OK;
    }
    enum err error = disk->ops->read(disk, segment->file.handle, found, row->tail_size, position, &got);
    if (error == OK && got == row->tail_size && memcmp(found, row->tail, got) == 0) {
        return OK; /* most starts: nothing to write, nothing to sync */
    }
    /* A block that cannot be read may well take a write. */
    struct iovec part = {.iov_base = (void *)(uintptr_t)row->tail, .iov_len = row->tail_size};
    error = disk->ops->write(disk, segment->file.handle, &part, 1, position);
    if (error != OK) {
        return error;
    }
    trace_info(files->trace, "segment_tail_restored", "group=%llu base=%lld bytes=%u",
               (unsigned long long)segment->log->group, (long long)segment->base_offset, row->tail_size);
    error = disk->ops->sync(disk, segment->file.handle);
    if (error != OK) {
        files->sync_error = error; /* not this partition's affair alone */
        return error;
    }
    return disk->ops->size(disk, segment->file.handle, &segment->file.length_bytes);
}

/* The file is gone. A small segment stands in its row as a whole, and is made anew; else its readers are told, and
 * appending goes on behind the hole. */
static enum err replace_lost(struct files *files, struct segment *segment, const struct segment_row *row)
{
    segment->file.is_lost = true;
    return row->tail_size == row->size_bytes ? files__create(files, segment) : ERR_NO_FILE;
}

static enum err open_active(struct files *files, struct segment *segment, const struct segment_row *row)
{
    enum err error = files__open(files, segment);
    bool is_gone = error == ERR_NO_FILE;
    uint64_t held_bytes = error == OK ? segment->file.length_bytes : 0;
    if ((error == OK || is_gone) && held_bytes < row->size_bytes - row->tail_size) {
        trace_error(files->trace, "segment_damaged", "group=%llu base=%lld error=%s",
                    (unsigned long long)segment->log->group, (long long)segment->base_offset,
                    err_name(is_gone ? ERR_NO_FILE : ERR_CORRUPT));
    }
    if (is_gone) {
        error = replace_lost(files, segment, row);
    }
    if (error == OK) { /* also behind a hole: a later start would find the file long enough, and do it */
        error = restore_tail(files, segment, row);
        /* Its last block may be right in the page cache alone, since an earlier life wrote over it: the next checkpoint
         * makes sure, before a later segment is the active one and nobody restores this one's tail. */
        files__mark_dirty(files, segment);
    } else if (is_gone) {
        error = OK;
    }
    segment->file.is_recycled = segment->file.length_bytes > row->size_bytes;
    files__close(files, segment);
    return error;
}

enum err segment_log_open(const struct segment_log_options *options, struct segment_log **ret_log)
{
    struct store *store = options->store;
    struct segment_log *other = NULL;
    HASH_FIND(hh, store->logs, &options->group, sizeof options->group, other);
    ASSERT(other == NULL);
    ASSERT(options->segment_bytes >= SEGMENT_BYTES_MIN && options->segment_bytes <= SEGMENT_BYTES_MAX);
    if (options->log_start < 0 || (!rows_join(options) && !PLANT(10))) {
        return ERR_FORMAT;
    }
    struct segment_log *log = mem_zeroed(1, sizeof *log);
    log->store = store;
    log->group = options->group;
    log->owner = options->owner;
    log->segment_bytes = options->segment_bytes;
    log->segment_ms = options->segment_ms;
    log->start_offset = options->log_start;
    log->next_offset = log->lane.written_offset = options->next_offset;
    TAILQ_INIT(&log->dropped);
    TAILQ_INIT(&log->lane.dirty);
    sweep__remember(&log->lane, options->rows, options->rows_count);
    log->lane.is_sweep_due = options->is_placed; /* what was here before */
    enum err error = OK;
    for (uint32_t i = 0; i < options->rows_count && error == OK; i++) {
        struct segment *segment = segment_of_row(log, &options->rows[i], !options->is_placed);
        segment_log__add_segment(log, segment);
        log->bytes += segment->size_bytes;
        if (options->is_placed) {
            segment->is_sealed = i + 1 < options->rows_count;
            segment->file.is_recycled = !segment->is_sealed; /* perhaps it was the active one here before */
            segment->file.exists = true;
        } else if (i + 1 < options->rows_count) {
            check_finished(&store->files, segment);
        } else {
            error = open_active(&store->files, segment, &options->rows[i]);
        }
    }
    if (error != OK) {
        segment_log__free(log);
        return error;
    }
    HASH_ADD(hh, store->logs, group, sizeof log->group, log);
    *ret_log = log;
    return OK;
}
