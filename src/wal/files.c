/* The directory of the log: names, classes and order of its files. Chores (securing, zero-filling, removal) are in
 * chore.c. */
#include "wal/files.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/point.h"
#include "wal/chore.h"

#define SLOT_DIGITS       8
#define SLOT_MAX          99999999u
#define SUFFIX            ".wal"
#define SCAN_WINDOW_BYTES (32u << 10)
#define SHORT_BYTES_MIN   (16u << 10)

void wal__files_name(uint32_t slot, char name[WAL__NAME_BYTES_MAX])
{
    ASSERT(slot <= SLOT_MAX);
    snprintf(name, WAL__NAME_BYTES_MAX, "%08u" SUFFIX, slot % (SLOT_MAX + 1));
}

void wal__files_path(const struct wal__files *files, uint32_t slot, char path[WAL__PATH_BYTES_MAX])
{
    char name[WAL__NAME_BYTES_MAX];
    wal__files_name(slot, name);
    int length = snprintf(path, WAL__PATH_BYTES_MAX, "%s/%s", files->dir, name);
    ASSERT(length > 0 && length < WAL__PATH_BYTES_MAX);
}

static struct wal__file *wal__file_new(uint32_t slot)
{
    struct wal__file *file = mem_zeroed(1, sizeof *file);
    file->slot = slot;
    return file;
}

static bool wal__parse_slot(const char *name, uint32_t *ret_slot)
{
    uint32_t slot = 0;
    for (int i = 0; i < SLOT_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return false;
        }
        slot = slot * 10 + (uint32_t)(name[i] - '0');
    }
    if (strcmp(name + SLOT_DIGITS, SUFFIX) != 0) {
        return false;
    }
    *ret_slot = slot;
    return true;
}

/* Names come first into `partial`, in order; wal__files_scan sorts them out. */
static void wal__visit_name(void *context, const char *name)
{
    struct wal__files *files = context;
    uint32_t slot;
    if (!wal__parse_slot(name, &slot)) {
        trace_warn(files->trace, "wal_foreign_file", "name=%s", name);
        return;
    }
    struct wal__file *file = wal__file_new(slot);
    TAILQ_INSERT_TAIL(&files->partial, file, link);
    if (slot >= files->slot_next) {
        files->slot_next = slot + 1;
    }
}

/* The header is gone. The first batch knows all of it but the boot number. If it is gone too, the file can no longer
 * be read: but a batch further on is a trace of what it held. Payload might pose as one here; the worst it does is to
 * raise that alarm. */
static enum err wal__rebuild_header(struct wal__files *files, struct wal__file *file, struct disk_file *handle,
                                    struct buf *window)
{
    struct wal__batch_header batch;
    for (uint64_t offset = WAL_BLOCK_BYTES; offset + WAL_BLOCK_BYTES <= file->size_bytes;) {
        size_t got = 0;
        enum err error = files->disk->ops->read(files->disk, handle, window->data, window->size, offset, &got);
        if (error != OK) {
            return error;
        }
        for (size_t at = 0; at + WAL_BLOCK_BYTES <= got; at += WAL_BLOCK_BYTES) {
            if (!wal__batch_header_decode_any(window->data + at, &batch)) {
                continue;
            }
            if (offset + at == WAL_BLOCK_BYTES) {
                file->header = (struct wal__file_header){
                    .version = WAL__VERSION, .base_lsn = batch.lsn, .start_lsn = batch.start_lsn, .salt = batch.salt};
                return OK;
            }
            if (batch.lsn > files->lost_lsn) {
                files->lost_lsn = batch.lsn;
                files->lost = file;
            }
        }
        if (got < window->size) {
            break;
        }
        offset += got;
    }
    return ERR_NO_FILE;
}

/* OK: used; ERR_NO_FILE: nothing in it; else as the disk says. A header of zeros counts as lost too if something
 * stands behind it: it is synced before anything else is written. */
static enum err wal__read_header(struct wal__files *files, struct wal__file *file, struct disk_file *handle,
                                 struct buf *window)
{
    size_t got = 0;
    uint8_t *blocks = window->data;
    memset(blocks, 0, 2 * WAL_BLOCK_BYTES);
    enum err error = files->disk->ops->size(files->disk, handle, &file->size_bytes);
    if (error == OK) {
        error = files->disk->ops->read(files->disk, handle, blocks, 2 * WAL_BLOCK_BYTES, 0, &got);
    }
    if (error != OK) {
        return error;
    }
    error = wal__file_header_decode(blocks, &file->header);
    if (error == ERR_FORMAT || (error == ERR_NO_FILE && !wal__block_is_zero(blocks + WAL_BLOCK_BYTES))) {
        error = wal__rebuild_header(files, file, handle, window);
        trace_warn(files->trace, "wal_header_lost", "slot=%" PRIu32 " rebuilt=%d", file->slot, error == OK);
    }
    return error;
}

static enum err wal__look_into(struct wal__files *files, struct wal__file *file)
{
    char path[WAL__PATH_BYTES_MAX];
    struct disk_file *handle;
    struct buf *window = buf_new(SCAN_WINDOW_BYTES);
    wal__files_path(files, file->slot, path);
    enum err error = files->disk->ops->open(files->disk, path, DISK_READ, &handle);
    if (error == OK) {
        error = wal__read_header(files, file, handle, window);
        files->disk->ops->close(files->disk, handle);
    }
    if (error != OK && error != ERR_NO_FILE) {
        trace_error(files->trace, "wal_file_unreadable", "file=%s error=%s", path, err_name(error));
    }
    buf_unref(window);
    return error;
}

static bool wal__file_before(const struct wal__file *a, const struct wal__file *b)
{
    if (a->header.base_lsn != b->header.base_lsn) {
        return a->header.base_lsn < b->header.base_lsn;
    }
    return a->header.boot != b->header.boot ? a->header.boot < b->header.boot : a->slot < b->slot;
}

static void wal__insert_live(struct wal__files *files, struct wal__file *file)
{
    files->live_bytes += file->size_bytes;
    struct wal__file *after = TAILQ_LAST(&files->live, wal__file_list);
    while (after != NULL && wal__file_before(file, after)) {
        after = TAILQ_PREV(after, wal__file_list, link);
    }
    if (after == NULL) {
        TAILQ_INSERT_HEAD(&files->live, file, link);
    } else {
        TAILQ_INSERT_AFTER(&files->live, after, file, link);
    }
    if (file->header.start_lsn > files->start_lsn) {
        files->start_lsn = file->header.start_lsn;
    }
}

void wal__files_remove_live(struct wal__files *files, struct wal__file *file)
{
    TAILQ_REMOVE(&files->live, file, link);
    files->live_bytes -= file->size_bytes;
}

void wal__files_resize_live(struct wal__files *files, struct wal__file *file, uint64_t size_bytes)
{
    files->live_bytes += size_bytes - file->size_bytes;
    file->size_bytes = size_bytes;
}

static void wal__drop_released(struct wal__files *files)
{
    struct wal__file *file;
    while ((file = TAILQ_FIRST(&files->live)) != NULL && file->header.base_lsn < files->start_lsn) {
        wal__files_remove_live(files, file);
        wal__files_add_spare(files, file);
    }
    TAILQ_FOREACH(file, &files->live, link)
    {
        struct wal__file *next = TAILQ_NEXT(file, link);
        file->end_lsn = next != NULL ? next->header.base_lsn : file->header.base_lsn;
    }
}

enum err wal__files_scan(struct wal__files *files, struct disk *disk, const char *dir, const struct trace *trace,
                         uint64_t file_bytes, uint64_t budget_bytes)
{
    *files = (struct wal__files){.disk = disk, .trace = trace, .file_bytes = file_bytes, .budget_bytes = budget_bytes};
    files->start_lsn = WAL__FIRST_LSN;
    files->dir = mem_text(dir);
    ASSERT(file_bytes % WAL_BLOCK_BYTES == 0 && file_bytes >= 2 * WAL_BLOCK_BYTES);
    uint64_t reserve_bytes = WAL_RESERVE_BYTES < budget_bytes / 8 ? WAL_RESERVE_BYTES : budget_bytes / 8;
    files->reserve_count = reserve_bytes > file_bytes ? (uint32_t)(reserve_bytes / file_bytes) : 1;
    files->spares_min = files->reserve_count + 1;
    TAILQ_INIT(&files->live);
    TAILQ_INIT(&files->ready);
    TAILQ_INIT(&files->partial);
    enum err error = disk->ops->list(disk, dir, wal__visit_name, files);
    if (error != OK) {
        return error == ERR_NO_FILE ? OK : error;
    }
    struct wal__file_list names = TAILQ_HEAD_INITIALIZER(names);
    struct wal__file *file;
    TAILQ_CONCAT(&names, &files->partial, link);
    while ((file = TAILQ_FIRST(&names)) != NULL) {
        TAILQ_REMOVE(&names, file, link);
        enum err found = error == OK ? wal__look_into(files, file) : ERR_NO_FILE;
        if (found == OK) {
            wal__insert_live(files, file);
            continue;
        }
        error = found == ERR_NO_FILE ? error : found;
        wal__files_add_spare(files, file);
    }
    wal__drop_released(files);
    return error;
}

static void wal__free_list(struct wal__file_list *list)
{
    struct wal__file *file;
    while ((file = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, file, link);
        free(file);
    }
}

void wal__files_free(struct wal__files *files)
{
    wal__chore_orphan(files);
    wal__free_list(&files->live);
    wal__free_list(&files->ready);
    wal__free_list(&files->partial);
    free(files->dir);
}

/* Partial ones that are secured stand in front of the others. */
void wal__files_add_spare(struct wal__files *files, struct wal__file *file)
{
    files->spare_bytes += file->size_bytes;
    if (file->size_bytes >= files->file_bytes) {
        TAILQ_INSERT_TAIL(&files->ready, file, link);
        files->ready_count++;
    } else if (file->reserved) {
        TAILQ_INSERT_HEAD(&files->partial, file, link);
        files->partial_secured_count++;
    } else {
        TAILQ_INSERT_TAIL(&files->partial, file, link);
    }
}

void wal__files_drop_spare(struct wal__files *files, struct wal__file *file)
{
    bool ready = file->size_bytes >= files->file_bytes;
    files->spare_bytes -= file->size_bytes;
    TAILQ_REMOVE(ready ? &files->ready : &files->partial, file, link);
    files->ready_count -= ready;
    files->partial_secured_count -= !ready && file->reserved;
}

/* ---- the start on a full disk ---- */

/* A live one. */
static enum err wal__file_cut(struct wal__files *files, struct wal__file *file, uint64_t size_bytes)
{
    char path[WAL__PATH_BYTES_MAX];
    struct disk_file *handle;
    wal__files_path(files, file->slot, path);
    enum err error = files->disk->ops->open(files->disk, path, DISK_WRITE, &handle);
    if (error != OK) {
        return error;
    }
    error = files->disk->ops->truncate(files->disk, handle, size_bytes);
    files->disk->ops->close(files->disk, handle);
    if (error == OK) {
        trace_info(files->trace, "wal_trimmed", "slot=%" PRIu32 " from=%" PRIu64 " to=%" PRIu64, file->slot,
                   file->size_bytes, size_bytes);
        wal__files_resize_live(files, file, size_bytes);
    }
    return error;
}

/* What stands behind the end of a file is of no use to anybody: it was cut off, or never written in this life. */
bool wal__files_trim(struct wal__files *files, const struct wal__file *current)
{
    struct wal__file *file;
    bool trimmed = false;
    TAILQ_FOREACH(file, &files->live, link)
    {
        uint64_t used_bytes = WAL_BLOCK_BYTES + file->end_lsn - file->header.base_lsn;
        if (file == current || file->trimmed) {
            continue;
        }
        file->trimmed = true;
        trimmed |= wal__file_cut(files, file, used_bytes < file->size_bytes ? used_bytes : file->size_bytes) == OK;
    }
    return trimmed;
}

static enum err wal__secure_one(struct wal__files *files, struct wal__file *file)
{
    char path[WAL__PATH_BYTES_MAX];
    struct disk_file *handle;
    wal__files_path(files, file->slot, path);
    enum err error = files->disk->ops->open(files->disk, path, DISK_WRITE | DISK_CREATE, &handle);
    if (error != OK) {
        return error;
    }
    error = files->disk->ops->reserve(files->disk, handle, files->file_bytes);
    file->reserved = error == OK;
    /* No whole file: what there is, for the next start, before somebody else takes it. */
    for (uint64_t part = files->file_bytes / 2; error == ERR_STORAGE_FULL && part >= SHORT_BYTES_MIN; part /= 2) {
        if (files->disk->ops->reserve(files->disk, handle, part) == OK) {
            break;
        }
    }
    files->disk->ops->close(files->disk, handle);
    return error;
}

static enum err wal__secure_or_trim(struct wal__files *files, struct wal__file *file, const struct wal__file *current)
{
    enum err error = wal__secure_one(files, file);
    return error == ERR_STORAGE_FULL && wal__files_trim(files, current) ? wal__secure_one(files, file) : error;
}

/* The file written to comes first: a spare helps it only when something stands in it. */
enum err wal__files_secure(struct wal__files *files, struct wal__file *current)
{
    enum err error = OK;
    if (wal__file_secured_bytes(files, current) < files->file_bytes) {
        error = wal__secure_or_trim(files, current, current);
    }
    while (error == OK && wal__files_secured(files) < files->spares_min) {
        struct wal__file *file = TAILQ_LAST(&files->partial, wal__file_list);
        if (file != NULL && !file->reserved) {
            wal__files_drop_spare(files, file);
        } else {
            file = wal__files_new(files);
        }
        error = wal__secure_or_trim(files, file, current);
        wal__files_add_spare(files, file);
    }
    if (error == ERR_STORAGE_FULL) {
        files->disk_full = true;
        files->chore_error = error;
        files->retry_us = UINT64_MAX;
        trace_warn(files->trace, "wal_spares_short", "secured=%" PRIu32 " wanted=%" PRIu32 " error=%s",
                   wal__files_secured(files), files->spares_min, err_name(error));
        return OK;
    }
    return error;
}

uint64_t wal__file_secured_bytes(const struct wal__files *files, const struct wal__file *file)
{
    return file->reserved && file->size_bytes < files->file_bytes ? files->file_bytes : file->size_bytes;
}

struct wal__file *wal__files_new(struct wal__files *files)
{
    return wal__file_new(files->slot_next++);
}

struct wal__file *wal__files_take(struct wal__files *files)
{
    struct wal__file *file = TAILQ_FIRST(&files->ready);
    if (file == NULL) {
        file = TAILQ_FIRST(&files->partial);
    }
    if (file == NULL) {
        return wal__files_new(files);
    }
    wal__files_drop_spare(files, file);
    return file;
}

void wal__files_enlist(struct wal__files *files, struct wal__file *file, const struct wal__file_header *header)
{
    struct wal__file *last = TAILQ_LAST(&files->live, wal__file_list);
    if (last != NULL) {
        ASSERT(header->base_lsn >= last->header.base_lsn);
        last->end_lsn = header->base_lsn;
    }
    file->header = *header;
    file->end_lsn = header->base_lsn;
    TAILQ_INSERT_TAIL(&files->live, file, link);
    files->live_bytes += file->size_bytes;
}

void wal__files_release(struct wal__files *files, uint64_t lsn)
{
    struct wal__file *file;
    while ((file = TAILQ_FIRST(&files->live)) != TAILQ_LAST(&files->live, wal__file_list) && file->end_lsn <= lsn) {
        wal__files_remove_live(files, file);
        file->reserved = file->reserved && !file->trimmed;
        file->trimmed = false;
        wal__files_add_spare(files, file);
        files->retry_us = 0; /* it may be what a chore had no room for */
        trace_debug(files->trace, "wal_released", "slot=%" PRIu32 " end_lsn=%" PRIu64, file->slot, file->end_lsn);
        point(files->trace, POINT_WAL_RELEASED);
    }
    if (file != NULL && lsn >= file->header.base_lsn && file->header.base_lsn > files->start_lsn) {
        files->start_lsn = file->header.base_lsn;
    }
}

uint64_t wal__files_used_bytes(const struct wal__files *files)
{
    return files->live_bytes;
}
