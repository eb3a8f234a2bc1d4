/* Files by a table of names: what a fuzz target needs of a disk, and no more. */
#include "ram_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define PIECE_BYTES (16u << 10) /* memory of a file grows by this, or doubles */

static struct ram_disk *of(struct disk *disk)
{
    return (struct ram_disk *)disk;
}

struct disk_file *ram_disk_find(struct ram_disk *d, const char *path)
{
    for (unsigned i = 0; i < RAM_DISK_FILES_MAX; i++) {
        if (d->files[i].named && strcmp(d->files[i].path, path) == 0) {
            return &d->files[i];
        }
    }
    return NULL;
}

static struct disk_file *make(struct ram_disk *d, const char *path)
{
    for (unsigned i = 0; i < RAM_DISK_FILES_MAX; i++) {
        struct disk_file *file = &d->files[i];
        if (!file->named && file->opened == 0) {
            ASSERT(strlen(path) < sizeof file->path);
            strcpy(file->path, path);
            file->named = true;
            file->size = 0;
            return file;
        }
    }
    return NULL;
}

static enum err reserve(struct disk_file *file, size_t size)
{
    if (size > RAM_DISK_FILE_BYTES_MAX) {
        return ERR_STORAGE_FULL;
    }
    if (size > file->capacity) {
        size_t capacity = file->capacity == 0 ? PIECE_BYTES : file->capacity;
        while (capacity < size) {
            capacity *= 2;
        }
        file->data = realloc(file->data, capacity);
        ASSERT(file->data != NULL);
        file->capacity = capacity;
    }
    return OK;
}

static void grow(struct disk_file *file, size_t size)
{
    if (size > file->size) {
        memset(file->data + file->size, 0, size - file->size);
        file->size = size;
    }
}

static enum err ram_open(struct disk *disk, const char *path, unsigned flags, struct disk_file **ret_file)
{
    struct disk_file *file = ram_disk_find(of(disk), path);
    if (file == NULL && (flags & DISK_CREATE) == 0) {
        return ERR_NO_FILE;
    }
    if (file != NULL && (flags & DISK_EXCLUSIVE) != 0) {
        return ERR_EXISTS;
    }
    if (file == NULL) {
        file = make(of(disk), path);
    }
    if (file == NULL) {
        return ERR_STORAGE_FULL;
    }
    file->opened++;
    of(disk)->handles++;
    *ret_file = file;
    return OK;
}

static void ram_close(struct disk *disk, struct disk_file *file)
{
    ASSERT(file->opened > 0);
    file->opened--;
    of(disk)->handles--;
}

static enum err ram_size(struct disk *disk, struct disk_file *file, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = file->size;
    return OK;
}

static enum err ram_read(struct disk *disk, struct disk_file *file, void *data, size_t size, uint64_t offset,
                         size_t *ret_read)
{
    size_t left = offset < file->size ? file->size - (size_t)offset : 0;
    *ret_read = size < left ? size : left;
    if (*ret_read > 0) {
        memcpy(data, file->data + offset, *ret_read);
    }
    return OK;
}

static enum err ram_write(struct disk *disk, struct disk_file *file, const struct iovec *parts, int parts_count,
                          uint64_t offset)
{
    size_t size = 0;
    for (int i = 0; i < parts_count; i++) {
        size += parts[i].iov_len;
    }
    if (offset > RAM_DISK_FILE_BYTES_MAX || reserve(file, (size_t)offset + size) != OK) {
        return ERR_STORAGE_FULL;
    }
    grow(file, (size_t)offset);
    for (int i = 0; i < parts_count; i++) {
        if (parts[i].iov_len > 0) {
            memcpy(file->data + offset, parts[i].iov_base, parts[i].iov_len);
        }
        offset += parts[i].iov_len;
    }
    file->size = offset > file->size ? (size_t)offset : file->size;
    return OK;
}

static bool ram_wants_staging(struct disk *disk)
{
    return false;
}

static enum err ram_sync(struct disk *disk, struct disk_file *file)
{
    return OK;
}

static enum err ram_writeback(struct disk *disk, struct disk_file *file, uint64_t offset, uint64_t size)
{
    return OK;
}

static enum err ram_truncate(struct disk *disk, struct disk_file *file, uint64_t size)
{
    if (reserve(file, size) != OK) {
        return ERR_STORAGE_FULL;
    }
    grow(file, (size_t)size);
    file->size = (size_t)size;
    return OK;
}

static enum err ram_reserve(struct disk *disk, struct disk_file *file, uint64_t size)
{
    return OK;
}

static enum err ram_sync_all(struct disk *disk)
{
    return OK;
}

static enum err ram_dir(struct disk *disk, const char *path)
{
    return OK;
}

static enum err ram_unlink(struct disk *disk, const char *path)
{
    struct disk_file *file = ram_disk_find(of(disk), path);
    if (file == NULL) {
        return ERR_NO_FILE;
    }
    file->named = false;
    return OK;
}

static enum err ram_rename(struct disk *disk, const char *from, const char *to)
{
    struct disk_file *file = ram_disk_find(of(disk), from);
    if (file == NULL) {
        return ERR_NO_FILE;
    }
    ram_unlink(disk, to);
    ASSERT(strlen(to) < sizeof file->path);
    strcpy(file->path, to);
    return OK;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(left, right);
}

/* Directories are what stands before a '/' in some file's name. */
static enum err ram_list(struct disk *disk, const char *path, void (*visit)(void *context, const char *name),
                         void *context)
{
    struct ram_disk *d = of(disk);
    char names[RAM_DISK_FILES_MAX][RAM_DISK_PATH_BYTES];
    size_t path_size = strlen(path), count = 0;
    for (unsigned i = 0; i < RAM_DISK_FILES_MAX; i++) {
        const char *rest = d->files[i].path + path_size;
        if (!d->files[i].named || strncmp(d->files[i].path, path, path_size) != 0 || *rest++ != '/') {
            continue;
        }
        snprintf(names[count++], sizeof names[0], "%.*s", (int)strcspn(rest, "/"), rest);
    }
    qsort(names, count, sizeof names[0], compare_names);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0) {
            visit(context, names[i]);
        }
    }
    return OK;
}

static void ram_submit(struct disk *disk, enum disk_lane lane, struct disk_job *job)
{
    struct ram_disk *d = of(disk);
    job->next = NULL;
    *d->last[lane] = job;
    d->last[lane] = &job->next;
}

static const struct disk_ops disk_ops = {
    .open = ram_open,
    .close = ram_close,
    .size = ram_size,
    .read = ram_read,
    .write = ram_write,
    .wants_staging = ram_wants_staging,
    .sync = ram_sync,
    .writeback = ram_writeback,
    .truncate = ram_truncate,
    .reserve = ram_reserve,
    .sync_all = ram_sync_all,
    .make_dir = ram_dir,
    .remove_dir = ram_dir,
    .rename = ram_rename,
    .unlink = ram_unlink,
    .sync_dir = ram_dir,
    .list = ram_list,
    .submit = ram_submit,
};

/* --- clock --- */

static struct ram_disk *of_clock(struct clock *clock)
{
    return (struct ram_disk *)((char *)clock - offsetof(struct ram_disk, clock));
}

static uint64_t ram_now_us(struct clock *clock)
{
    return of_clock(clock)->now_us;
}

static int64_t ram_wall_ms(struct clock *clock)
{
    return 1700000000000 + (int64_t)(of_clock(clock)->now_us / 1000);
}

static void ram_random(struct clock *clock, void *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)data)[i] = (uint8_t)(++of_clock(clock)->random * 0x9e3779b97f4a7c15u >> 56);
    }
}

static void ram_arm(struct clock *clock, uint64_t deadline_us)
{
}

static const struct clock_ops clock_ops = {
    .now_us = ram_now_us, .wall_ms = ram_wall_ms, .random = ram_random, .arm = ram_arm};

/* --- the target's own hands --- */

void ram_disk_reset(struct ram_disk *d)
{
    ASSERT(d->handles == 0);
    d->disk.ops = &disk_ops;
    d->clock.ops = &clock_ops;
    d->now_us = 1000000;
    d->random = 0;
    for (unsigned i = 0; i < RAM_DISK_FILES_MAX; i++) {
        d->files[i].named = false;
    }
    for (unsigned lane = 0; lane < DISK_LANES; lane++) {
        d->first[lane] = NULL;
        d->last[lane] = &d->first[lane];
    }
}

struct disk_file *ram_disk_put(struct ram_disk *d, const char *path, const void *data, size_t size)
{
    struct disk_file *file = ram_disk_find(d, path);
    file = file != NULL ? file : make(d, path);
    ASSERT(file != NULL && reserve(file, size) == OK);
    if (data != NULL && size > 0) {
        memcpy(file->data, data, size);
    }
    file->size = size;
    return file;
}

unsigned ram_disk_pump(struct ram_disk *d, unsigned jobs_max)
{
    unsigned count = 0;
    for (bool worked = true; worked;) {
        worked = false;
        for (unsigned lane = 0; lane < DISK_LANES; lane++) {
            struct disk_job *job = d->first[lane];
            if (job == NULL) {
                continue;
            }
            d->first[lane] = job->next;
            if (d->first[lane] == NULL) {
                d->last[lane] = &d->first[lane];
            }
            ASSERT(count++ < jobs_max);
            job->run(job);
            job->done(job);
            worked = true;
        }
    }
    return count;
}
