/* Start: opening a log from its manifest, and sweeping away what no manifest names. Blocking calls on the loop thread,
 * while no job of the store runs.
 *
 * After kill -9 the page cache holds more than the manifest says, after a power cut the disk may hold less of what was
 * not synced. Both are the same to us: only [0, row.size) counts, and replay appends the very same bytes behind it
 * again. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "store/impl.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static struct segment *segment_of_row(struct segment_log *log, const struct segment_row *row)
{
    struct segment *segment = segment__new(log, row->base_offset, row->generation);
    segment->end_offset = row->end_offset;
    segment->size_bytes = segment->written_bytes = row->size_bytes;
    segment->chain = row->chain;
    segment->tail_crc = crc32c(0, row->tail, row->tail_size);
    segment->is_tail_known = row->tail_size == row->size_bytes % STORE_BLOCK_BYTES;
    segment->max_timestamp = row->max_timestamp;
    segment->created_clock_ms = row->created_clock_ms;
    segment->newest_clock_ms = row->newest_clock_ms;
    segment->index.max_timestamp = row->max_timestamp; /* listed: only a newer one makes an entry */
    segment->index.covered_from = row->size_bytes;
    segment->index.covered_offset = row->end_offset;
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
    if (row->tail_size == 0) {
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
    return error == OK ? disk->ops->size(disk, segment->file.handle, &segment->file.length_bytes) : error;
}

static enum err open_active(struct files *files, struct segment *segment, const struct segment_row *row)
{
    enum err error = files__open(files, segment);
    segment->file.is_lost = error == ERR_NO_FILE;
    if (error == OK && segment->file.length_bytes >= row->size_bytes - row->tail_size) {
        error = restore_tail(files, segment, row);
    } else if (error == OK || error == ERR_NO_FILE) { /* its readers are told; appending goes on behind the hole */
        trace_error(files->trace, "segment_damaged", "group=%llu base=%lld error=%s",
                    (unsigned long long)segment->log->group, (long long)segment->base_offset,
                    err_name(error == OK ? ERR_CORRUPT : error));
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
    if (options->log_start < 0 || !rows_join(options)) {
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
    enum err error = OK;
    for (uint32_t i = 0; i < options->rows_count && error == OK; i++) {
        struct segment *segment = segment_of_row(log, &options->rows[i]);
        segment_log__add_segment(log, segment);
        log->bytes += segment->size_bytes;
        if (i + 1 < options->rows_count) {
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

/* --- sweeping --- */

struct names {
    char **list; /* owned */
    uint32_t count, capacity;
};

static void names__add(void *context, const char *name)
{
    struct names *names = context;
    if (names->count == names->capacity) {
        names->capacity = names->capacity > 0 ? 2 * names->capacity : 64;
        names->list = mem_grow(names->list, names->capacity * sizeof(char *));
    }
    names->list[names->count] = mem_text(name);
    names->count++;
}

/* A directory must not change while it is listed: names first, then what is done about them. */
static enum err names__read(struct disk *disk, const char *path, struct names *names)
{
    *names = (struct names){0};
    return disk->ops->list(disk, path, names__add, names);
}

static void names__free(struct names *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        free(names->list[i]);
    }
    free(names->list);
}

static bool is_number(const char *name, uint64_t *ret_number)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)name[i])) {
            return false;
        }
    }
    if (length == 0 || length > 20) {
        return false;
    }
    *ret_number = strtoull(name, NULL, 10);
    return true;
}

#define BASE_DIGITS 20u

static const struct segment *segment_at(const struct segment_log *log, uint64_t base_offset)
{
    uint32_t low = 0;
    uint32_t high = log->segments_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uint64_t)log->segments[middle]->base_offset < base_offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found = low < log->segments_count && (uint64_t)log->segments[low]->base_offset == base_offset;
    return found ? log->segments[low] : NULL;
}

/* A manifest names the .log of every row, and so the indexes of the finished ones. */
static bool is_named(const struct segment_log *log, const char *name)
{
    char digits[BASE_DIGITS + 1] = {0};
    uint64_t base_offset;
    if (log == NULL || strlen(name) <= BASE_DIGITS) {
        return false;
    }
    memcpy(digits, name, BASE_DIGITS);
    const struct segment *segment = is_number(digits, &base_offset) ? segment_at(log, base_offset) : NULL;
    const char *suffix = name + BASE_DIGITS;
    return segment != NULL &&
           (strcmp(suffix, ".log") == 0 ||
            (segment->is_sealed && (strcmp(suffix, ".index") == 0 || strcmp(suffix, ".timeindex") == 0)));
}

/* Unlinked, not kept as a spare: after a power cut the same file may stand among the spares as well, and one file must
 * not be two. */
static enum err sweep_log_dir(struct store *store, uint64_t group, const struct segment_log *log)
{
    char dir[STORE_PATH_BYTES];
    char path[2 * STORE_PATH_BYTES];
    struct names names;
    files__log_dir(&store->files, group, dir);
    enum err error = names__read(store->disk, dir, &names);
    for (uint32_t i = 0; i < names.count && error == OK; i++) {
        if (is_named(log, names.list[i])) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", dir, names.list[i]);
        error = store->disk->ops->unlink(store->disk, path);
        store->files.counters.removed++;
        trace_debug(store->trace, "segment_swept", "path=%s", path);
    }
    names__free(&names);
    if (error == OK && log == NULL) {
        error = store->disk->ops->remove_dir(store->disk, dir);
    }
    return error;
}

static enum err sweep_spare(struct store *store, const char *name)
{
    char dir[STORE_PATH_BYTES];
    char path[2 * STORE_PATH_BYTES];
    struct disk *disk = store->disk;
    struct disk_file *handle;
    uint64_t length_bytes = 0;
    uint64_t generation;
    files__spare_dir(&store->files, dir);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!is_number(name, &generation) || store->files.spares_count == store->files.spares_max) {
        return disk->ops->unlink(disk, path);
    }
    enum err error = disk->ops->open(disk, path, DISK_READ, &handle);
    if (error != OK) {
        return error;
    }
    error = disk->ops->size(disk, handle, &length_bytes);
    disk->ops->close(disk, handle);
    if (error != OK) {
        return error;
    }
    files__add_spare(&store->files, generation, length_bytes);
    if (generation >= store->generation_next) {
        store->generation_next = generation + 1;
    }
    return OK;
}

static enum err sweep_spares(struct store *store)
{
    char dir[STORE_PATH_BYTES];
    struct names names;
    files__spare_dir(&store->files, dir);
    enum err error = names__read(store->disk, dir, &names);
    for (uint32_t i = 0; i < names.count && error == OK; i++) {
        error = sweep_spare(store, names.list[i]);
    }
    names__free(&names);
    return error;
}

void store_keep(struct store *store, uint64_t group)
{
    if (store->kept_count == store->kept_capacity) {
        store->kept_capacity = store->kept_capacity > 0 ? 2 * store->kept_capacity : 16;
        store->kept = mem_grow(store->kept, store->kept_capacity * sizeof store->kept[0]);
    }
    store->kept[store->kept_count++] = group;
}

static bool is_kept(const struct store *store, uint64_t group)
{
    for (uint32_t i = 0; i < store->kept_count; i++) {
        if (store->kept[i] == group) {
            return true;
        }
    }
    return false;
}

enum err store_sweep(struct store *store)
{
    struct names names;
    enum err error = names__read(store->disk, store->dir, &names);
    for (uint32_t i = 0; i < names.count && error == OK; i++) {
        uint64_t group;
        struct segment_log *log = NULL;
        if (!is_number(names.list[i], &group)) { /* the spares; anything else is not ours to remove */
            continue;
        }
        HASH_FIND(hh, store->logs, &group, sizeof group, log);
        if (log != NULL || !is_kept(store, group)) {
            error = sweep_log_dir(store, group, log);
        }
    }
    names__free(&names);
    if (error == OK) {
        error = sweep_spares(store);
    }
    if (store->files.counters.removed > 0) {
        trace_info(store->trace, "segments_swept", "files=%llu", (unsigned long long)store->files.counters.removed);
    }
    store->counters = store->files.counters;
    return error;
}

/* --- the directory of a group without a log --- */

struct remove_job {
    struct store_job job; /* first */
    uint64_t group;
    void (*done)(void *context);
    void *context;
};

static void remove_job__run(struct store_job *base)
{
    struct remove_job *job = (struct remove_job *)base;
    enum err error = sweep_log_dir(base->store, job->group, NULL);
    if (error != OK && error != ERR_NO_FILE) { /* the next start sweeps it away */
        trace_warn(base->store->trace, "directory_not_removed", "group=%llu error=%s", (unsigned long long)job->group,
                   err_name(error));
    }
}

static void remove_job__done(struct store_job *base)
{
    struct remove_job *job = (struct remove_job *)base;
    job->done(job->context);
    free(job);
}

static void remove_job__drop(struct store_job *base)
{
    free(base);
}

void store_remove_dir(struct store *store, uint64_t group, void (*done)(void *context), void *context)
{
    struct remove_job *job = mem_zeroed(1, sizeof *job);
    job->job.run = remove_job__run;
    job->job.done = remove_job__done;
    job->job.drop = remove_job__drop;
    job->group = group;
    job->done = done;
    job->context = context;
    store__submit(store, &job->job);
}
