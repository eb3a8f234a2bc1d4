/* The store lane's files: a bounded cache of open ones, spare files, and the making, trimming and freeing of segments.
 *
 * A new segment takes a spare by rename if there is one of about its size: its blocks are allocated and written
 * already, and overwriting them sustains several times the rate of a growing file (400-600 MB/s against 80-170, three
 * brokers on one disk). A spare's name is the generation of its last use.
 *
 * Everything here runs inside jobs of the store lane, or on the loop thread while no job can be (start, close). */
#include "base/assert.h"
#include "base/point.h"
#include "store/impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_DIR "spare"

enum err files__init(struct files *files, const struct store_options *options, const char *dir)
{
    char spare_dir[STORE_PATH_BYTES];
    *files = (struct files){
        .disk = options->disk,
        .trace = options->trace,
        .dir = dir,
        .open_max = options->open_files_max > 0 ? options->open_files_max : STORE_OPEN_FILES_DEFAULT,
        .spares_max = options->spare_files_max,
    };
    TAILQ_INIT(&files->open);
    files__spare_dir(files, spare_dir);
    enum err error = options->disk->ops->make_dir(options->disk, spare_dir);
    if (error == OK) {
        error = options->disk->ops->sync_dir(options->disk, dir);
    }
    if (error == OK) {
        error = options->disk->ops->sync_dir(options->disk, "."); /* the name of dir; deeper ones are the owner's */
    }
    if (error != OK) {
        return error;
    }
    files->staging = mem_aligned(STORE_BLOCK_BYTES, STORE_STAGING_BYTES + STORE_BLOCK_BYTES);
    files->window = mem_grow(NULL, WALK_WINDOW_BYTES);
    files->spares = mem_zeroed(files->spares_max + 1, sizeof files->spares[0]);
    return OK;
}

void files__deinit(struct files *files)
{
    while (!TAILQ_EMPTY(&files->open)) {
        files__close(files, TAILQ_FIRST(&files->open));
    }
    free(files->window);
    free(files->staging);
    free(files->spares);
}

void files__path(const struct files *files, const struct segment *segment, const char *suffix,
                 char path[STORE_PATH_BYTES])
{
    int length = snprintf(path, STORE_PATH_BYTES, "%s/%" PRIu64 "/%020" PRId64 "%s", files->dir, segment->log->group,
                          segment->base_offset, suffix);
    ASSERT(length > 0 && length < STORE_PATH_BYTES);
}

void files__log_dir(const struct files *files, uint64_t group, char path[STORE_PATH_BYTES])
{
    int length = snprintf(path, STORE_PATH_BYTES, "%s/%" PRIu64, files->dir, group);
    ASSERT(length > 0 && length < STORE_PATH_BYTES);
}

void files__spare_dir(const struct files *files, char path[STORE_PATH_BYTES])
{
    int length = snprintf(path, STORE_PATH_BYTES, "%s/" SPARE_DIR, files->dir);
    ASSERT(length > 0 && length < STORE_PATH_BYTES);
}

void files__spare_path(const struct files *files, uint64_t generation, char path[STORE_PATH_BYTES])
{
    int length = snprintf(path, STORE_PATH_BYTES, "%s/" SPARE_DIR "/%020" PRIu64, files->dir, generation);
    ASSERT(length > 0 && length < STORE_PATH_BYTES);
}

/* --- open files --- */

void files__close(struct files *files, struct segment *segment)
{
    struct segment_file *file = &segment->file;
    if (file->handle == NULL) {
        return;
    }
    files->disk->ops->close(files->disk, file->handle);
    file->handle = NULL;
    TAILQ_REMOVE(&files->open, segment, file.open_link);
    ASSERT(files->open_count > 0);
    files->open_count--;
}

/* Closing is not syncing: a file that is closed dirty is synced by the next sync_all, whose error the kernel keeps for
 * the whole file system, while an error that met a closed file could be forgotten with its inode. */
static void files__make_room(struct files *files, uint32_t open_max)
{
    while (files->open_count > open_max) {
        files__close(files, TAILQ_FIRST(&files->open));
    }
}

static enum err files__open_flags(struct files *files, struct segment *segment, unsigned flags)
{
    char path[STORE_PATH_BYTES];
    struct disk_file *handle;
    uint64_t length_bytes;
    files__path(files, segment, ".log", path);
    files__make_room(files, files->open_max - 1);
    enum err error = files->disk->ops->open(files->disk, path, flags, &handle);
    if (error == ERR_TOO_MANY_FILES && files->open_count > 0) {
        files__make_room(files, files->open_count / 2); /* others need descriptors too: give half of ours back */
        error = files->disk->ops->open(files->disk, path, flags, &handle);
    }
    if (error != OK) {
        return error;
    }
    error = files->disk->ops->size(files->disk, handle, &length_bytes);
    if (error != OK) {
        files->disk->ops->close(files->disk, handle);
        return error;
    }
    segment->file.handle = handle;
    segment->file.length_bytes = length_bytes;
    segment->file.exists = true;
    TAILQ_INSERT_TAIL(&files->open, segment, file.open_link);
    files->open_count++;
    return OK;
}

enum err files__open(struct files *files, struct segment *segment)
{
    if (segment->file.handle != NULL) {
        TAILQ_REMOVE(&files->open, segment, file.open_link);
        TAILQ_INSERT_TAIL(&files->open, segment, file.open_link);
        return OK;
    }
    return files__open_flags(files, segment, DISK_WRITE | DISK_DIRECT);
}

void files__mark_dirty(struct files *files, struct segment *segment)
{
    segment->file.dirty_epoch = files->epoch;
    if (!segment->file.is_in_dirty) {
        segment->file.is_in_dirty = true;
        TAILQ_INSERT_TAIL(&segment->log->lane.dirty, segment, file.dirty_link);
    }
}

/* --- making and freeing --- */

/* A finished segment is trimmed to its end, so a spare is a little shorter than what it was made for. Much longer or
 * shorter ones belong to logs with another segment size. */
static bool spare_fits(uint64_t length_bytes, uint64_t capacity_bytes)
{
    return length_bytes >= capacity_bytes - capacity_bytes / 4 && length_bytes <= capacity_bytes + capacity_bytes / 4;
}

void files__add_spare(struct files *files, uint64_t generation, uint64_t length_bytes)
{
    ASSERT(files->spares_count < files->spares_max);
    files->spares[files->spares_count++] = (struct spare){.generation = generation, .length_bytes = length_bytes};
}

static enum err files__take_spare(struct files *files, struct segment *segment)
{
    char from[STORE_PATH_BYTES];
    char to[STORE_PATH_BYTES];
    for (uint32_t i = 0; i < files->spares_count; i++) {
        /* A segment whose first write had to be tried again may be older than a spare that came free meanwhile. */
        if (!spare_fits(files->spares[i].length_bytes, segment->capacity_bytes) ||
            files->spares[i].generation > segment->generation) {
            continue;
        }
        files__spare_path(files, files->spares[i].generation, from);
        files__path(files, segment, ".log", to);
        for (uint32_t j = i + 1; j < files->spares_count; j++) { /* oldest first: the rest keep their order */
            files->spares[j - 1] = files->spares[j];
        }
        files->spares_count--;
        enum err error = files->disk->ops->rename(files->disk, from, to);
        if (error != OK) {
            trace_warn(files->trace, "spare_lost", "path=%s error=%s", from, err_name(error));
            return error;
        }
        files->spare_dir_is_dirty = true;
        files->counters.recycled++;
        point(files->trace, POINT_SEGMENT_REUSE);
        return OK;
    }
    return ERR_NO_FILE;
}

/* A reused file grows again from nothing where that is faster: see wants_staging in port/disk.h. If it cannot be
 * emptied it is overwritten in place. */
static void files__empty(struct files *files, struct segment *segment)
{
    if (segment->file.length_bytes > 0 && !files->disk->ops->wants_staging(files->disk) &&
        files->disk->ops->truncate(files->disk, segment->file.handle, 0) == OK) {
        segment->file.length_bytes = 0;
    }
}

enum err files__create(struct files *files, struct segment *segment)
{
    char path[STORE_PATH_BYTES];
    struct log_lane *lane = &segment->log->lane;
    if (segment->file.exists) {
        enum err error = files__open(files, segment);
        if (error != ERR_NO_FILE) {
            return error;
        }
    }
    if (!lane->dir_is_made) {
        files__log_dir(files, segment->log->group, path);
        enum err error = files->disk->ops->make_dir(files->disk, path);
        if (error != OK) {
            return error;
        }
        error = sweep__log(files, segment->log->group, lane);
        if (error != OK) {
            return error;
        }
        lane->dir_is_made = true;
        files->root_is_dirty = true; /* even if it was there: its name may never have been synced */
    }
    bool is_spare = !segment->file.is_lost && files__take_spare(files, segment) == OK;
    enum err error = files__open_flags(files, segment, DISK_WRITE | DISK_CREATE | DISK_DIRECT);
    if (error != OK) {
        return error;
    }
    lane->names_are_dirty = true;
    files__empty(files, segment);
    segment->file.is_recycled = segment->file.length_bytes > 0;
    files->counters.created += !is_spare;
    files__mark_dirty(files, segment);
    return OK;
}

enum err files__trim(struct files *files, struct segment *segment, uint64_t size_bytes)
{
    enum err error = files__open(files, segment);
    if (error != OK || segment->file.length_bytes <= size_bytes) {
        return error;
    }
    error = files->disk->ops->truncate(files->disk, segment->file.handle, size_bytes);
    if (error == OK) {
        segment->file.length_bytes = size_bytes;
        segment->file.is_recycled = false;
        files__mark_dirty(files, segment);
    }
    return error;
}

static void files__forget(struct files *files, struct segment *segment)
{
    files__close(files, segment);
    if (segment->file.is_in_dirty) {
        segment->file.is_in_dirty = false;
        TAILQ_REMOVE(&segment->log->lane.dirty, segment, file.dirty_link);
    }
    segment->file.exists = false;
}

static void files__unlink(struct files *files, const struct segment *segment, const char *suffix)
{
    char path[STORE_PATH_BYTES];
    files__path(files, segment, suffix, path);
    enum err error = files->disk->ops->unlink(files->disk, path);
    if (error != OK && error != ERR_NO_FILE) { /* the next start sweeps it away */
        trace_warn(files->trace, "segment_not_removed", "path=%s error=%s", path, err_name(error));
    }
}

void files__remove(struct files *files, struct segment *segment)
{
    files__forget(files, segment);
    point(files->trace, POINT_SEGMENT_REMOVE);
    files__unlink(files, segment, ".log");
    files__unlink(files, segment, ".index");
    files__unlink(files, segment, ".timeindex");
    files->counters.removed++;
}

bool files__give_up_spares(struct files *files)
{
    char path[STORE_PATH_BYTES];
    bool had_any = files->spares_count > 0;
    while (files->spares_count > 0) {
        files__spare_path(files, files->spares[--files->spares_count].generation, path);
        enum err error = files->disk->ops->unlink(files->disk, path);
        if (error != OK && error != ERR_NO_FILE) { /* the next start finds it again */
            trace_warn(files->trace, "spare_not_removed", "path=%s error=%s", path, err_name(error));
        }
    }
    files->spare_dir_is_dirty |= had_any;
    return had_any;
}

void files__retire(struct files *files, struct segment *segment)
{
    char from[STORE_PATH_BYTES];
    char to[STORE_PATH_BYTES];
    bool exists = files__open(files, segment) == OK;
    uint64_t length_bytes = segment->file.length_bytes;
    if (!exists || files->is_full || files->spares_count == files->spares_max ||
        !spare_fits(length_bytes, segment->capacity_bytes)) {
        files__remove(files, segment);
        return;
    }
    files__path(files, segment, ".log", from);
    files__spare_path(files, segment->generation, to);
    files__forget(files, segment);
    point(files->trace, POINT_SEGMENT_RECYCLE);
    if (files->disk->ops->rename(files->disk, from, to) != OK) {
        files__remove(files, segment);
        return;
    }
    files->spare_dir_is_dirty = true;
    files__add_spare(files, segment->generation, length_bytes);
    files__unlink(files, segment, ".index");
    files__unlink(files, segment, ".timeindex");
}

/* Small files that nothing depends on (indexes): not synced. */
enum err files__read_twice(struct files *files, struct disk_file *file, uint8_t *data, uint32_t size, uint64_t position)
{
    uint8_t again[STORE_BLOCK_BYTES];
    size_t got = 0, got_again = 0;
    ASSERT(size <= sizeof again);
    enum err error = files->disk->ops->read(files->disk, file, data, size, position, &got);
    if (error == OK) {
        error = files->disk->ops->read(files->disk, file, again, size, position, &got_again);
    }
    bool is_same = error == OK && got == size && got_again == size && memcmp(data, again, size) == 0;
    return error == OK && !is_same ? ERR_CORRUPT : error;
}

enum err files__write_whole(struct files *files, const char *path, const void *data, size_t size)
{
    struct disk_file *handle;
    struct disk *disk = files->disk;
    enum err error = disk->ops->open(disk, path, DISK_WRITE | DISK_CREATE, &handle);
    if (error != OK) {
        return error;
    }
    error = disk->ops->truncate(disk, handle, size);
    if (error == OK && size > 0) {
        struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
        error = disk->ops->write(disk, handle, &part, 1, 0);
    }
    disk->ops->close(disk, handle);
    return error;
}
