/* Chores on spare files. A fill is many short jobs, so that a segment write in the same lane never waits for more
 * than one piece; the file counts as ready when its last block, its length and its name are on the disk. It stops
 * between two pieces when spares are to be secured first, and goes on later. A failed chore harms nobody: the next try
 * comes a second later. */
#include "wal/chore.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"

#define FILL_PIECE_BYTES (1u << 20) /* about 1 ms of the lane */
#define RETRY_US         1000000u

enum wal__chore_kind { CHORE_SECURE, CHORE_FILL, CHORE_REMOVE };

struct wal__chore {
    struct disk_job job;
    enum wal__chore_kind kind;
    struct wal__files *files; /* NULL: orphaned */
    struct wal__file *file;   /* owned while the chore runs */
    struct disk *disk;
    const struct trace *trace;
    struct disk_file *handle; /* lane thread; NULL before the first piece and after the last */
    char path[WAL__PATH_BYTES_MAX];
    char *dir; /* owned */
    uint64_t begin_bytes;
    uint64_t filled_bytes;
    uint64_t target_bytes;
    enum err error;
};

static const uint8_t zeros[64u << 10];

static enum err wal__chore_secure(struct wal__chore *chore)
{
    const struct disk_ops *ops = chore->disk->ops;
    enum err error = ops->open(chore->disk, chore->path, DISK_WRITE | DISK_CREATE, &chore->handle);
    return error == OK ? ops->reserve(chore->disk, chore->handle, chore->target_bytes) : error;
}

static enum err wal__chore_fill_piece(struct wal__chore *chore)
{
    const struct disk_ops *ops = chore->disk->ops;
    uint64_t left = chore->target_bytes - chore->filled_bytes;
    uint64_t piece = left < FILL_PIECE_BYTES ? left : FILL_PIECE_BYTES;
    struct iovec parts[FILL_PIECE_BYTES / sizeof zeros];
    int parts_count = 0;
    for (uint64_t at = 0; at < piece; at += sizeof zeros) {
        uint64_t size = piece - at < sizeof zeros ? piece - at : sizeof zeros;
        parts[parts_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)zeros, .iov_len = size};
    }
    enum err error = OK;
    if (chore->handle == NULL) {
        error = ops->open(chore->disk, chore->path, DISK_WRITE | DISK_CREATE, &chore->handle);
    }
    if (error == OK) {
        error = ops->write(chore->disk, chore->handle, parts, parts_count, chore->filled_bytes);
    }
    if (error == OK) {
        /* Started now, so that the sync at the end finds little to do: a mere hint, whatever it returns. */
        ops->writeback(chore->disk, chore->handle, chore->filled_bytes, piece);
        chore->filled_bytes += piece;
        if (chore->filled_bytes == chore->target_bytes) {
            error = ops->sync(chore->disk, chore->handle);
        }
    }
    return error;
}

static void wal__chore_close(struct wal__chore *chore)
{
    if (chore->handle != NULL) {
        chore->disk->ops->close(chore->disk, chore->handle);
        chore->handle = NULL;
    }
}

static void wal__chore_run(struct disk_job *job)
{
    struct wal__chore *chore = (struct wal__chore *)job; /* first member */
    if (chore->kind == CHORE_REMOVE) {
        chore->error = chore->disk->ops->unlink(chore->disk, chore->path);
        return;
    }
    if (chore->kind == CHORE_SECURE) {
        chore->error = wal__chore_secure(chore);
        wal__chore_close(chore);
        return;
    }
    chore->error = wal__chore_fill_piece(chore);
    if (chore->error != OK || chore->filled_bytes == chore->target_bytes) {
        wal__chore_close(chore);
        if (chore->error == OK) {
            point(chore->trace, POINT_WAL_SPARE);
            chore->error = chore->disk->ops->sync_dir(chore->disk, chore->dir);
        }
    }
}

static void wal__chore_free(struct wal__chore *chore)
{
    wal__chore_close(chore);
    free(chore->file);
    free(chore->dir);
    free(chore);
}

/* Each change of fortune is worth a line, each try is not. */
static void wal__note_chore(struct wal__files *files, const struct wal__chore *chore)
{
    files->disk_full = chore->error == ERR_STORAGE_FULL || (PLANT(66) && files->disk_full);
    if (chore->error != OK) {
        files->retry_us = UINT64_MAX; /* the next tend, which knows the time, turns it into a moment */
    }
    if (chore->error != files->chore_error && chore->error != OK) {
        trace_warn(files->trace, "wal_spare_failed", "file=%s error=%s", chore->path, err_name(chore->error));
    } else if (chore->error != files->chore_error) {
        trace_info(files->trace, "wal_spare_made", "file=%s", chore->path);
    }
    files->chore_error = chore->error;
}

/* Without room the next try goes on where this one stopped. After any other error, what was written may be gone
 * although the page cache shows it, so it is written again (a sync alone is never repeated). */
static void wal__chore_return_file(struct wal__files *files, struct wal__chore *chore)
{
    bool keep = chore->error == OK || chore->error == ERR_STORAGE_FULL;
    chore->file->size_bytes = keep ? chore->filled_bytes : chore->begin_bytes;
    chore->file->reserved = chore->file->reserved || (chore->kind == CHORE_SECURE && chore->error == OK);
    wal__files_add_spare(files, chore->file);
    chore->file = NULL;
}

static void wal__chore_done(struct disk_job *job)
{
    struct wal__chore *chore = (struct wal__chore *)job;
    struct wal__files *files = chore->files;
    bool over = chore->kind != CHORE_FILL || chore->error != OK || chore->filled_bytes == chore->target_bytes;
    if (!over && files != NULL && wal__files_secured(files) >= files->spares_min) {
        chore->disk->ops->submit(chore->disk, DISK_LANE_STORE, &chore->job);
        return;
    }
    if (files != NULL) {
        files->chore = NULL;
        wal__note_chore(files, chore);
        if (chore->kind != CHORE_REMOVE) {
            wal__chore_return_file(files, chore);
        }
    }
    wal__chore_free(chore);
}

void wal__chore_orphan(struct wal__files *files)
{
    if (files->chore != NULL) {
        files->chore->files = NULL;
        files->chore = NULL;
    }
}

static void wal__chore_start(struct wal__files *files, enum wal__chore_kind kind, struct wal__file *file)
{
    struct wal__chore *chore = mem_zeroed(1, sizeof *chore);
    *chore = (struct wal__chore){.job = {.run = wal__chore_run, .done = wal__chore_done},
                                 .kind = kind,
                                 .files = files,
                                 .file = file,
                                 .disk = files->disk,
                                 .trace = files->trace,
                                 .dir = mem_text(files->dir),
                                 .begin_bytes = file->size_bytes / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES,
                                 .target_bytes = files->file_bytes};
    chore->filled_bytes = chore->begin_bytes;
    wal__files_path(files, file->slot, chore->path);
    files->chore = chore;
    files->disk->ops->submit(files->disk, DISK_LANE_STORE, &chore->job);
}

/* A spare may go when the budget needs its room, enough others are ready, and a batch on the disk says that it is
 * released. Those that would have to be filled first go first. */
static struct wal__file *wal__find_excess(const struct wal__files *files)
{
    struct wal__file *file, *excess = NULL;
    if (files->live_bytes + files->spare_bytes <= files->budget_bytes) {
        return NULL;
    }
    TAILQ_FOREACH(file, &files->ready, link)
    {
        if (files->ready_count > files->spares_min && file->header.base_lsn < files->durable_start_lsn) {
            excess = file;
        }
    }
    TAILQ_FOREACH(file, &files->partial, link)
    {
        if (file->header.base_lsn < files->durable_start_lsn) {
            excess = file;
        }
    }
    return excess;
}

/* The short spare that lacks least, of the secured or of the other ones; NULL: none. */
static struct wal__file *wal__find_partial(const struct wal__files *files, bool secured)
{
    struct wal__file *file, *longest = NULL;
    TAILQ_FOREACH(file, &files->partial, link)
    {
        if (file->reserved == secured && (longest == NULL || file->size_bytes > longest->size_bytes)) {
            longest = file;
        }
    }
    return longest;
}

static void wal__start_with(struct wal__files *files, enum wal__chore_kind kind, struct wal__file *spare)
{
    if (spare != NULL) {
        wal__files_drop_spare(files, spare);
    }
    wal__chore_start(files, kind, spare != NULL ? spare : wal__files_new(files));
}

uint32_t wal__files_secured(const struct wal__files *files)
{
    bool filling = files->chore != NULL && files->chore->kind == CHORE_FILL && files->chore->file->reserved;
    return files->ready_count + files->partial_secured_count + filling;
}

void wal__files_tend(struct wal__files *files, uint64_t now_us)
{
    /* Released files may have become spares: when the next roll takes one, nobody knows the disk to be full. */
    if (wal__files_secured(files) >= files->spares_min && !PLANT(66)) {
        files->disk_full = false;
    }
    if (files->retry_us == UINT64_MAX) {
        files->retry_us = now_us + RETRY_US;
    }
    if (files->chore != NULL || now_us < files->retry_us) {
        return;
    }
    files->retry_us = 0;
    if (wal__files_secured(files) < files->spares_min) {
        wal__start_with(files, CHORE_SECURE, wal__find_partial(files, false));
        return;
    }
    if (files->ready_count < files->spares_min) {
        wal__start_with(files, CHORE_FILL, wal__find_partial(files, true));
        return;
    }
    struct wal__file *excess = wal__find_excess(files);
    if (excess != NULL) {
        wal__start_with(files, CHORE_REMOVE, excess);
    }
}

uint64_t wal__files_deadline_us(const struct wal__files *files)
{
    if (files->chore != NULL || files->ready_count >= files->spares_min) {
        return UINT64_MAX;
    }
    return files->retry_us == UINT64_MAX ? 0 : files->retry_us;
}
