/* Removing what no manifest names: files of an earlier life that replay will write anew, segments that retention
 * dropped just before a crash, directories of groups that are gone.
 *
 * At start only the directories themselves are listed. A group's own directory is looked through when its next file is
 * made, or when it is deleted: with ten thousand partitions and a cold cache, looking into each and unlinking took up
 * to half a minute, and most of them are written to again later or never. Nothing reads such a file before that:
 * readers know only what the manifest names. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "store/impl.h"

#define BASE_DIGITS 20u

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

/* The .log and the indexes of a base offset that the manifest had at start. */
static bool is_named(const struct segment_bases *bases, const char *name)
{
    char digits[BASE_DIGITS + 1] = {0};
    uint64_t base_offset;
    if (strlen(name) <= BASE_DIGITS) {
        return false;
    }
    memcpy(digits, name, BASE_DIGITS);
    if (!is_number(digits, &base_offset)) {
        return false;
    }
    uint32_t low = 0;
    uint32_t high = bases->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uint64_t)bases->offsets[middle] < base_offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const char *suffix = name + BASE_DIGITS;
    return low < bases->count && (uint64_t)bases->offsets[low] == base_offset &&
           (strcmp(suffix, ".log") == 0 || strcmp(suffix, ".index") == 0 || strcmp(suffix, ".timeindex") == 0);
}

/* Unlinked, not kept as a spare: after a power cut the same file may stand among the spares as well, and one file must
 * not be two. */
enum err sweep__others(struct files *files, uint64_t group, const struct segment_bases *bases)
{
    char dir[STORE_PATH_BYTES];
    char path[2 * STORE_PATH_BYTES];
    struct names names;
    files__log_dir(files, group, dir);
    enum err error = names__read(files->disk, dir, &names);
    for (uint32_t i = 0; i < names.count && error == OK; i++) {
        if (is_named(bases, names.list[i])) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", dir, names.list[i]);
        error = files->disk->ops->unlink(files->disk, path);
        files->counters.removed++;
        trace_debug(files->trace, "segment_swept", "path=%s", path);
    }
    names__free(&names);
    return error == ERR_NO_FILE ? OK : error;
}

enum err sweep__log(struct files *files, uint64_t group, struct log_lane *lane)
{
    if (!lane->is_sweep_due) {
        return OK;
    }
    enum err error = sweep__others(files, group, &lane->bases);
    if (error == OK) {
        lane->is_sweep_due = false;
        sweep__forget(lane);
    }
    return error;
}

void sweep__forget(struct log_lane *lane)
{
    free(lane->bases.offsets);
    lane->bases = (struct segment_bases){0};
}

void sweep__remember(struct log_lane *lane, const struct segment_row *rows, uint32_t rows_count)
{
    if (rows_count == 0) {
        return;
    }
    lane->bases.offsets = mem_zeroed(rows_count, sizeof lane->bases.offsets[0]);
    lane->bases.count = rows_count;
    for (uint32_t i = 0; i < rows_count; i++) {
        lane->bases.offsets[i] = rows[i].base_offset;
    }
}

enum err sweep__remove_dir(struct files *files, uint64_t group)
{
    char dir[STORE_PATH_BYTES];
    enum err error = sweep__others(files, group, &(struct segment_bases){0});
    files__log_dir(files, group, dir);
    return error == OK ? files->disk->ops->remove_dir(files->disk, dir) : error;
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
        if (is_kept(store, group)) {
            continue;
        }
        if (log != NULL) {
            log->lane.is_sweep_due = true;
        } else {
            error = sweep__remove_dir(&store->files, group);
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
    enum err error = sweep__remove_dir(&base->store->files, job->group);
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
