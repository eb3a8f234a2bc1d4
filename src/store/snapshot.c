/* What a snapshot needs of the store: see snapshot.h. Segments are judged here by the same walk that scrubs and readers
 * use, on files that may not be any log's yet. */
#include "store/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "store/impl.h"

#define TAIL_TRIES 4

struct held {
    struct segment *segment; /* pinned */
    struct segment_row row;  /* at that moment; as far as it is in the file */
};

struct store_hold {
    struct segment_log *log; /* held */
    struct held *segments;   /* owned; rising by base */
    uint32_t count;
};

/* --- holding (loop) --- */

static void hold__add(struct store_hold *hold, struct segment *segment)
{
    segment->pins++;
    hold->segments[hold->count++] = (struct held){.segment = segment,
                                                  .row = {.base_offset = segment->base_offset,
                                                          .end_offset = segment->end_offset,
                                                          .size_bytes = segment->written_bytes,
                                                          .generation = segment->generation,
                                                          .chain = segment->chain,
                                                          .max_timestamp = segment->max_timestamp,
                                                          .created_clock_ms = segment->created_clock_ms,
                                                          .newest_ms = segment->newest_ms}};
}

struct store_hold *store_hold_new(struct segment_log *log)
{
    struct store_hold *hold = mem_zeroed(1, sizeof *hold);
    struct segment *segment;
    uint32_t count = log->segments_count;
    ASSERT(!log->is_dead);
    TAILQ_FOREACH(segment, &log->dropped, link)
    {
        count++;
    }
    hold->log = log;
    hold->segments = mem_zeroed(count + 1, sizeof hold->segments[0]);
    TAILQ_FOREACH(segment, &log->dropped, link)
    {
        if (!segment->is_free) {
            hold__add(hold, segment);
        }
    }
    for (uint32_t i = 0; i < log->segments_count; i++) {
        hold__add(hold, log->segments[i]);
    }
    log->holds++;
    return hold;
}

void store_hold_keep(struct store_hold *hold, const struct segment_row *rows, uint32_t rows_count)
{
    uint32_t kept = 0;
    uint32_t at = 0;
    for (uint32_t i = 0; i < hold->count; i++) {
        const struct held held = hold->segments[i];
        while (at < rows_count && rows[at].base_offset < held.row.base_offset) {
            at++;
        }
        if (at < rows_count && rows[at].base_offset == held.row.base_offset) {
            hold->segments[kept++] = held;
        } else {
            segment__unpin(held.segment);
        }
    }
    hold->count = kept;
}

uint64_t store_hold_bytes(const struct store_hold *hold)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < hold->count; i++) {
        const struct segment *segment = hold->segments[i].segment;
        bytes += segment->is_free || segment->dropped_at > 0 ? segment->size_bytes : 0;
    }
    return bytes;
}

void store_hold_free(struct store_hold *hold)
{
    if (hold == NULL) {
        return;
    }
    for (uint32_t i = 0; i < hold->count; i++) {
        segment__unpin(hold->segments[i].segment);
    }
    segment_log__release_hold(hold->log);
    free(hold->segments);
    free(hold);
}

static struct held *hold__find(const struct store_hold *hold, int64_t base_offset)
{
    uint32_t low = 0;
    uint32_t high = hold->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (hold->segments[middle].row.base_offset < base_offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool is_there = low < hold->count && hold->segments[low].row.base_offset == base_offset;
    return is_there ? &hold->segments[low] : NULL;
}

bool store_hold_find(const struct store_hold *hold, int64_t base_offset, struct segment_row *ret_row)
{
    const struct held *held = hold__find(hold, base_offset);
    if (held != NULL) {
        *ret_row = held->row;
    }
    return held != NULL;
}

uint64_t store_new_generation(struct store *store)
{
    return store->generation_next++;
}

/* --- sending (lane) --- */

static enum err hold__open(const struct store_hold *hold, int64_t base_offset, struct segment **ret_segment)
{
    const struct held *held = hold__find(hold, base_offset);
    if (hold->log->lane.is_deleted) {
        return ERR_CANCELLED;
    }
    if (held == NULL) {
        return ERR_OUT_OF_RANGE;
    }
    enum err error = files__open(&hold->log->store->files, held->segment);
    if (error == OK) {
        *ret_segment = held->segment;
    }
    return error == ERR_NO_FILE || error == ERR_IO ? ERR_CORRUPT : error;
}

static enum err as_damage(enum err error)
{
    return error == ERR_CLOSED || error == ERR_IO ? ERR_CORRUPT : error;
}

/* Moves sent->until to a boundary at or behind `end`. Batches that end at or before `position` are only stepped over.
 */
static enum err sent__reach(struct store_sent *sent, struct files *files, struct segment *segment, uint64_t limit,
                            uint64_t position, uint64_t end)
{
    struct walk walk;
    struct batch_header header;
    uint64_t at;
    walk__begin(&walk, files, segment, sent->until, limit);
    walk.expected_offset = sent->until_offset;
    while (sent->until < end) {
        enum err error = walk__next(&walk, &header, &at);
        bool is_needed = error == OK && walk.position > position;
        if (is_needed) {
            error = walk__check_crc(&walk, at, &header);
        }
        if (error != OK) {
            return as_damage(error);
        }
        sent->from = is_needed ? sent->from : walk.position;
        sent->until = walk.position;
        sent->until_offset = walk.expected_offset;
    }
    return OK;
}

enum err store_hold_read(struct store_hold *hold, struct store_sent *sent, int64_t base_offset, uint64_t limit,
                         uint64_t position, uint32_t size, uint8_t *data)
{
    struct files *files = &hold->log->store->files;
    struct segment *segment;
    size_t got = 0;
    enum err error = hold__open(hold, base_offset, &segment);
    if (error != OK) {
        return error;
    }
    if (position >= limit || size > limit - position) {
        return ERR_OUT_OF_RANGE;
    }
    if (sent->until == 0 || sent->base_offset != base_offset || position < sent->from) {
        *sent = (struct store_sent){.base_offset = base_offset, .until_offset = base_offset};
    }
    error = sent__reach(sent, files, segment, limit, position, position + size);
    if (error == OK) {
        error = files->disk->ops->read(files->disk, segment->file.handle, data, size, position, &got);
    }
    if (error == OK && got != size) {
        error = ERR_CORRUPT;
    }
    return as_damage(error);
}

/* --- receiving (lane) --- */

static enum err stage__write(struct disk *disk, const char *path, uint64_t position, const void *data, uint32_t size)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    struct disk_file *file;
    enum err error = OK;
    if (position == 0) { /* never what an earlier one of this name may have become */
        error = disk->ops->unlink(disk, path);
        error = error == ERR_NO_FILE ? OK : error;
    }
    if (error == OK) {
        error =
            disk->ops->open(disk, path, position == 0 ? DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE : DISK_WRITE, &file);
    }
    if (error != OK) {
        return error;
    }
    error = disk->ops->write(disk, file, &part, 1, position);
    disk->ops->close(disk, file);
    return error;
}

enum err store_stage_write(struct store *store, const char *path, uint64_t position, const void *data, uint32_t size)
{
    enum err error = stage__write(store->files.disk, path, position, data, size);
    if (error == ERR_STORAGE_FULL && files__give_up_spares(&store->files)) {
        error = stage__write(store->files.disk, path, position, data, size);
    }
    return error;
}

enum err store_stage_adopt(struct store_hold *hold, int64_t base_offset, const char *path, uint64_t position,
                           uint32_t size)
{
    struct store *store = hold->log->store;
    struct files *files = &store->files;
    struct segment *segment;
    size_t got = 0;
    ASSERT(size <= STORE_STAGING_BYTES);
    enum err error = hold__open(hold, base_offset, &segment);
    if (error == OK) {
        error = files->disk->ops->read(files->disk, segment->file.handle, files->staging, size, position, &got);
    }
    if (error == OK && got != size) {
        error = ERR_CORRUPT;
    }
    return error == OK ? store_stage_write(store, path, position, files->staging, size) : as_damage(error);
}

/* --- judging (lane) --- */

static enum err check__walk(struct store_check *check, struct files *files, struct segment *segment,
                            const struct segment_row *row)
{
    struct walk walk;
    struct batch_header header;
    uint64_t position;
    enum err error = OK;
    if (!check->is_begun) {
        *check = (struct store_check){.is_begun = true, .offset = row->base_offset};
    }
    uint64_t until = check->position + STORE_CHECK_BYTES;
    walk__begin(&walk, files, segment, check->position, row->size_bytes);
    walk.expected_offset = check->offset;
    while (walk.position < until && (error = walk__next(&walk, &header, &position)) == OK) {
        const uint8_t *bytes = files->window + (position - walk.window_position);
        check->chain = crc32c(check->chain, bytes, BATCH_HEADER_BYTES);
        error = walk__check_crc(&walk, position, &header);
        if (error != OK) {
            return error;
        }
    }
    check->position = walk.position;
    check->offset = walk.expected_offset;
    if (error == OK) {
        return ERR_AGAIN;
    }
    bool is_it = error == ERR_CLOSED && check->chain == row->chain && check->offset == row->end_offset;
    return is_it ? OK : error == ERR_CLOSED || error == ERR_IO ? ERR_CORRUPT : error;
}

enum err store_check_staged(struct store *store, const char *path, const struct segment_row *row,
                            struct store_check *check)
{
    struct disk *disk = store->files.disk;
    struct segment staged = {.base_offset = row->base_offset};
    enum err error = disk->ops->open(disk, path, DISK_WRITE, &staged.file.handle);
    if (error != OK) {
        return error == ERR_NO_FILE ? ERR_CORRUPT : error;
    }
    error = check__walk(check, &store->files, &staged, row);
    if (error == OK) {
        error = disk->ops->truncate(disk, staged.file.handle, row->size_bytes);
    }
    if (error == OK) {
        error = disk->ops->sync(disk, staged.file.handle);
    }
    disk->ops->close(disk, staged.file.handle);
    return error;
}

enum err store_check_held(struct store_hold *hold, const struct segment_row *row, struct store_check *check)
{
    struct files *files = &hold->log->store->files;
    struct segment *segment;
    enum err error = hold__open(hold, row->base_offset, &segment);
    if (error == OK) {
        error = check__walk(check, files, segment, row);
    }
    if (error == OK && (hold->log->lane.sync_error != OK || files->sync_error != OK)) {
        return ERR_IO;
    }
    if (error == OK) {
        error = files->disk->ops->sync(files->disk, segment->file.handle);
        hold->log->lane.sync_error = error; /* whoever asked again would be told that all is well */
        files->sync_error = error != OK ? error : files->sync_error;
    }
    return error;
}

/* --- mending (lane) --- */

static enum err mend__copy(struct files *files, struct disk_file *from, struct disk_file *to, uint64_t size_bytes)
{
    enum err error = OK;
    for (uint64_t at = 0; error == OK && at < size_bytes;) {
        size_t got = 0;
        size_t wanted = size_bytes - at < STORE_STAGING_BYTES ? (size_t)(size_bytes - at) : STORE_STAGING_BYTES;
        error = files->disk->ops->read(files->disk, from, files->staging, wanted, at, &got);
        if (error == OK && got != wanted) {
            error = ERR_CORRUPT;
        }
        if (error == OK) {
            struct iovec part = {.iov_base = files->staging, .iov_len = wanted};
            error = files->disk->ops->write(files->disk, to, &part, 1, at);
        }
        at += wanted;
    }
    return error;
}

/* What is known of the file's bytes is to be found out anew. */
static void mend__forget(struct segment *segment, uint64_t size_bytes)
{
    struct segment_file *file = &segment->file;
    file->is_foreign = file->is_lost = false;
    file->lost_tail = 0;
    file->exists = true;
    file->length_bytes = file->length_bytes > size_bytes ? file->length_bytes : size_bytes;
    file->doubt.is_open = file->doubt.bytes > 0;
    file->doubt.position = 0;
    file->doubt.offset = segment->base_offset;
    file->doubt.chain = 0;
}

enum err store_mend(struct store_hold *hold, const struct segment_row *row, const char *path)
{
    struct files *files = &hold->log->store->files;
    struct disk *disk = files->disk;
    const struct held *held = hold__find(hold, row->base_offset);
    struct disk_file *from, *to;
    char own[STORE_PATH_BYTES];
    if (hold->log->lane.is_deleted) {
        return ERR_CANCELLED;
    }
    if (hold->log->lane.sync_error != OK || files->sync_error != OK) {
        return ERR_IO;
    }
    if (held == NULL || (held->row.size_bytes == row->size_bytes && held->row.chain != row->chain)) {
        return ERR_CORRUPT;
    }
    uint64_t size_bytes = held->row.size_bytes < row->size_bytes ? held->row.size_bytes : row->size_bytes;
    files__path(files, held->segment, ".log", own);
    enum err error = disk->ops->open(disk, path, DISK_READ, &from);
    if (error != OK) {
        return as_damage(error);
    }
    error = disk->ops->open(disk, own, DISK_WRITE | DISK_CREATE, &to);
    if (error == OK) {
        error = mend__copy(files, from, to, size_bytes);
        if (error == OK) { /* one that fails is final, as in store_check_held */
            error = hold->log->lane.sync_error = disk->ops->sync(disk, to);
        }
        disk->ops->close(disk, to);
    }
    disk->ops->close(disk, from);
    if (error == OK) {
        files__log_dir(files, hold->log->group, own);
        error = disk->ops->sync_dir(disk, own);
    }
    if (error == OK) {
        mend__forget(held->segment, size_bytes);
    }
    return error;
}

void store_mended(struct store_hold *hold, const struct segment_row *row)
{
    const struct held *held = hold__find(hold, row->base_offset);
    struct damage *damage = &held->segment->damage;
    int64_t end_offset = held->row.end_offset < row->end_offset ? held->row.end_offset : row->end_offset;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < damage->count; i++) {
        if (damage->ranges[i].end_offset > end_offset) {
            damage->ranges[kept++] = damage->ranges[i];
        }
    }
    damage->count = kept;
}

/* --- into place (lane) --- */

static enum err place__move(struct files *files, uint64_t group, const struct store_place *place)
{
    static const char *const suffixes[] = {".index", ".timeindex"};
    char path[STORE_PATH_BYTES];
    struct disk_file *file;
    struct disk *disk = files->disk;
    snprintf(path, sizeof path, "%s/%" PRIu64 "/%020" PRId64 ".log", files->dir, group, place->base_offset);
    enum err error = disk->ops->open(disk, place->path, DISK_READ, &file);
    if (error == ERR_NO_FILE) {
        return OK; /* moved before: it was judged, so it was there */
    }
    if (error != OK) {
        return error;
    }
    disk->ops->close(disk, file);
    for (uint32_t i = 0; i < 2; i++) { /* of the file that is here; first, since a repetition finds nothing to move */
        char index[STORE_PATH_BYTES];
        snprintf(index, sizeof index, "%s/%" PRIu64 "/%020" PRId64 "%s", files->dir, group, place->base_offset,
                 suffixes[i]);
        error = disk->ops->unlink(disk, index);
        if (error != OK && error != ERR_NO_FILE) {
            return error;
        }
    }
    return disk->ops->rename(disk, place->path, path);
}

/* A finished segment ends where its file does; it may have been the active one until now. */
static enum err place__trim(struct files *files, uint64_t group, const struct store_place *place)
{
    char path[STORE_PATH_BYTES];
    struct disk_file *file;
    uint64_t length_bytes;
    struct disk *disk = files->disk;
    snprintf(path, sizeof path, "%s/%" PRIu64 "/%020" PRId64 ".log", files->dir, group, place->base_offset);
    enum err error = disk->ops->open(disk, path, DISK_WRITE, &file);
    if (error != OK) {
        return error;
    }
    error = disk->ops->size(disk, file, &length_bytes);
    if (error == OK && length_bytes > place->size_bytes) {
        error = disk->ops->truncate(disk, file, place->size_bytes);
    }
    disk->ops->close(disk, file);
    return error;
}

enum err store_place_files(struct store *store, uint64_t group, const char *staging_dir,
                           const struct store_place *places, uint32_t count)
{
    char path[STORE_PATH_BYTES];
    struct files *files = &store->files;
    struct disk *disk = files->disk;
    files__log_dir(files, group, path);
    enum err error = disk->ops->make_dir(disk, path);
    for (uint32_t i = 0; error == OK && i < count; i++) {
        if (places[i].is_staged) {
            error = place__move(files, group, &places[i]);
        } else if (!places[i].is_active) {
            error = place__trim(files, group, &places[i]);
        }
    }
    if (error != OK) {
        return error;
    }
    const char *const dirs[] = {staging_dir, path, files->dir};
    for (uint32_t i = 0; error == OK && i < sizeof dirs / sizeof dirs[0]; i++) {
        error = disk->ops->sync_dir(disk, dirs[i]);
    }
    files->sync_error = error != OK ? error : files->sync_error;
    return error;
}

enum err store_place_tail(struct store *store, uint64_t group, const struct store_place *active,
                          uint8_t tail[STORE_BLOCK_BYTES], uint32_t *ret_size)
{
    char path[STORE_PATH_BYTES];
    struct disk_file *file;
    struct disk *disk = store->files.disk;
    uint32_t size = (uint32_t)(active->size_bytes % STORE_BLOCK_BYTES);
    uint64_t position = active->size_bytes - size;
    bool is_sure = false;
    snprintf(path, sizeof path, "%s/%" PRIu64 "/%020" PRId64 ".log", store->files.dir, group, active->base_offset);
    enum err error = disk->ops->open(disk, path, DISK_READ, &file);
    if (error != OK) {
        return error;
    }
    /* A disk that errs, or brings other bytes each time, has no say in what a start writes back: then nothing is. */
    for (int i = 0; i < TAIL_TRIES && !is_sure; i++) {
        is_sure = files__read_twice(&store->files, file, tail, size, position) == OK;
    }
    disk->ops->close(disk, file);
    *ret_size = is_sure ? size : 0;
    return OK;
}

void store_place_sweep(struct store *store, uint64_t group, const struct store_place *places, uint32_t count)
{
    struct segment_bases bases = {.offsets = mem_zeroed(count + 1, sizeof bases.offsets[0]), .count = count};
    for (uint32_t i = 0; i < count; i++) {
        bases.offsets[i] = places[i].base_offset;
    }
    enum err error = sweep__others(&store->files, group, &bases);
    if (error != OK) { /* the log's first new file tries again, or the next start */
        trace_warn(store->trace, "segments_not_swept", "group=%" PRIu64 " error=%s", group, err_name(error));
    }
    free(bases.offsets);
}
