/* The log's front: gathers records into batches, keeps exactly one batch on its way, says what is durable, rolls and
 * releases files.
 *
 * One batch at a time is a rule, not a limit of ours: a batch may vouch for the one before it only because that one's
 * sync had returned before this one was submitted, and it makes the last batch the only one that a crash can tear. A
 * batch's lsn is fixed when it opens, and does not depend on the file it will land in: that is chosen when it is
 * submitted. */
#include "wal/wal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "wal/batch.h"
#include "wal/files.h"
#include "wal/recover.h"

STAILQ_HEAD(wal__batch_queue, wal__batch);

#define WAL_RETRY_US     1000000u
#define BATCHES_KEPT_MAX 3 /* one gathering, one on its way, one to spare: their grown arrays are worth keeping */

/* Asked for, and waiting until what was appended before is durable. */
struct wal__release {
    uint64_t lsn; /* 0: none */
    uint64_t barrier_lsn;
};

struct wal__write {
    struct disk_job job;
    struct wal *wal;
    struct wal__batch *batch;
    struct wal__file *file;
    bool roll;     /* the file is new to us: path and header count */
    bool sync_dir; /* and so may its name be to the disk */
    bool reserve;  /* and its blocks */
    bool reserved; /* lane: they were set aside */
    char path[WAL__PATH_BYTES_MAX];
    struct wal__file_header header; /* of the file written to */
    uint64_t submitted_us;
    uint64_t retry_us; /* not 0: it found no room, no descriptor or no memory, and is tried again then */
    enum err error;
};

struct wal {
    struct wal_options options; /* options.dir is files.dir */
    struct wal__files files;
    struct wal__file *current;
    struct disk_file *handle; /* of current; the lane thread's while a batch is on its way */

    struct wal__batch *gathering;   /* NULL: nothing gathered */
    struct wal__batch_queue closed; /* full ones, waiting for their turn */
    struct wal__batch_queue free;
    uint32_t free_count;
    struct wal__write write; /* write.batch NULL: none on its way */

    struct wal__voucher voucher;  /* for the last durable batch of this boot */
    bool closed_any;              /* in this boot: from then on every batch vouches */
    uint32_t closed_groups_count; /* of the batch closed last */

    uint64_t next_lsn; /* where the gathering batch begins, or would */
    uint64_t durable_lsn;
    uint64_t vouch_us;               /* UINT64_MAX: nothing to vouch for */
    struct wal__release releases[2]; /* the one waiting, and all later ones together */
    bool failed;
    enum err stalled_by; /* what the write on its way said when it was last tried; OK: it is not waiting */
    struct wal_stats stats;
};

/* ---- start ---- */

static enum err wal__sync_found(struct wal__files *files)
{
    struct disk *disk = files->disk;
    struct wal__file *file;
    enum err error = OK;
    TAILQ_FOREACH(file, &files->live, link)
    {
        char path[WAL__PATH_BYTES_MAX];
        struct disk_file *handle;
        wal__files_path(files, file->slot, path);
        error = disk->ops->open(disk, path, DISK_WRITE, &handle);
        if (error != OK) {
            return error;
        }
        error = PLANT(56) ? OK : disk->ops->sync(disk, handle);
        disk->ops->close(disk, handle);
        if (error != OK) {
            return error;
        }
    }
    return disk->ops->sync_dir(disk, files->dir);
}

/* After kill -9 the page cache shows what the disk may not have: nothing read counts before it is synced. With no
 * record there is nothing to sync, but the directory's own name may be new. */
static enum err wal__settle(struct wal__files *files)
{
    struct disk *disk = files->disk;
    if (!TAILQ_EMPTY(&files->live)) {
        return wal__sync_found(files);
    }
    enum err error = disk->ops->make_dir(disk, files->dir);
    return error == OK ? disk->ops->sync_all(disk) : error;
}

static enum err wal__write_header(struct disk *disk, struct disk_file *handle, const struct wal__file_header *header)
{
    uint8_t block[WAL_BLOCK_BYTES];
    struct iovec part = {.iov_base = block, .iov_len = sizeof block};
    wal__file_header_encode(header, block);
    enum err error = disk->ops->write(disk, handle, &part, 1, 0);
    return error == OK ? disk->ops->sync(disk, handle) : error;
}

/* Makes the write start a new life of a file at base_lsn. Its end is the proof, for ever, that all before base_lsn
 * was durable. */
static void wal__prepare_roll(struct wal *wal, struct wal__file *file, uint64_t base_lsn)
{
    struct wal__write *write = &wal->write;
    write->file = file;
    write->roll = true;
    write->sync_dir = file->size_bytes < wal->files.file_bytes; /* a ready one's name is on the disk */
    write->reserve = write->sync_dir && !file->reserved;
    write->reserved = false;
    wal__files_path(&wal->files, file->slot, write->path);
    write->header = (struct wal__file_header){.version = WAL__VERSION,
                                              .base_lsn = base_lsn,
                                              .start_lsn = wal->files.start_lsn,
                                              .boot = wal->options.boot,
                                              .file_bytes = write->sync_dir ? 0 : file->size_bytes};
    clock_random(wal->options.clock, &write->header.salt, sizeof write->header.salt);
}

/* Any thread that owns the handle. */
static enum err wal__run_roll(struct wal *wal)
{
    struct wal__write *write = &wal->write;
    struct disk *disk = wal->options.disk;
    if (wal->handle != NULL) {
        disk->ops->close(disk, wal->handle);
        wal->handle = NULL;
    }
    point(wal->options.trace, POINT_WAL_ROLL);
    enum err error = disk->ops->open(disk, write->path, DISK_WRITE | DISK_CREATE, &wal->handle);
    if (error == OK && write->reserve) { /* in vain: there may be room for this batch */
        write->reserved = disk->ops->reserve(disk, wal->handle, wal->options.file_bytes) == OK;
    }
    if (error == OK) {
        error = wal__write_header(disk, wal->handle, &write->header);
    }
    if (error == OK && write->sync_dir) {
        error = disk->ops->sync_dir(disk, wal->options.dir);
    }
    point(wal->options.trace, POINT_WAL_ROLLED);
    return error;
}

static void wal__finish_roll(struct wal *wal)
{
    struct wal__file *file = wal->write.file;
    bool recycled = file->header.base_lsn != 0;
    if (file->size_bytes < WAL_BLOCK_BYTES) {
        file->size_bytes = WAL_BLOCK_BYTES;
    }
    file->reserved |= wal->write.reserved;
    wal__files_enlist(&wal->files, file, &wal->write.header);
    wal->current = file;
    wal->write.roll = false;
    wal->stats.recycled_files += recycled;
    trace_debug(wal->options.trace, "wal_roll", "slot=%" PRIu32 " base_lsn=%" PRIu64 " recycled=%d", file->slot,
                wal->write.header.base_lsn, recycled);
}

/* A file of an earlier boot is never appended to: its blocks behind the cut may hold half a batch. */
static enum err wal__open_file(struct wal *wal, const struct wal__recovered *recovered)
{
    struct wal__file *file = TAILQ_LAST(&wal->files.live, wal__file_list);
    if (file != NULL) {
        file->end_lsn = recovered->end_lsn;
    }
    if (recovered->use_lost_file) {
        file = wal->files.lost;
        wal__files_drop_spare(&wal->files, file);
    } else if (file != NULL && recovered->last_file_empty) {
        wal__files_remove_live(&wal->files, file);
    } else {
        file = wal__files_take(&wal->files);
    }
    wal__prepare_roll(wal, file, recovered->end_lsn);
    enum err error = wal__run_roll(wal);
    if (error == ERR_STORAGE_FULL && wal__files_trim(&wal->files, NULL)) {
        error = wal__run_roll(wal);
    }
    if (error != OK) {
        free(file);
        wal->write.roll = false;
        return error;
    }
    wal__finish_roll(wal);
    wal->next_lsn = wal->durable_lsn = recovered->end_lsn;
    return wal__files_secure(&wal->files, wal->current);
}

enum err wal_open(const struct wal_options *options, const struct wal_visitor *visitor, struct wal **ret_wal)
{
    struct wal__sink sink = {.context = visitor->context, .record = visitor->record, .damaged = visitor->damaged};
    struct wal__recovered recovered;
    struct wal *wal = mem_zeroed(1, sizeof *wal);
    wal->options = *options;
    wal->vouch_us = UINT64_MAX;
    STAILQ_INIT(&wal->closed);
    STAILQ_INIT(&wal->free);
    enum err error = wal__files_scan(&wal->files, options->disk, options->dir, options->trace, options->file_bytes,
                                     options->budget_bytes);
    wal->options.dir = wal->files.dir;
    if (error == OK) {
        error = wal__settle(&wal->files);
    }
    if (error == OK) {
        error = wal__recover(&wal->files, &sink, &recovered);
    }
    if (error == OK) {
        error = wal__open_file(wal, &recovered);
    }
    if (error != OK) {
        trace_error(options->trace, "wal_open_failed", "dir=%s error=%s", options->dir, err_name(error));
        wal_close(wal);
        return error;
    }
    trace_info(options->trace, "wal_open",
               "start_lsn=%" PRIu64 " end_lsn=%" PRIu64 " records=%" PRIu64 " damaged=%" PRIu64 " spares=%" PRIu32,
               wal->files.start_lsn, recovered.end_lsn, recovered.records_count, recovered.damaged_count,
               wal->files.ready_count);
    *ret_wal = wal;
    return OK;
}

/* ---- batches ---- */

static void wal__open_batch(struct wal *wal)
{
    struct wal__batch *batch = STAILQ_FIRST(&wal->free);
    if (batch != NULL) {
        STAILQ_REMOVE_HEAD(&wal->free, link);
        wal->free_count--;
    } else {
        batch = wal__batch_new();
    }
    wal__batch_open(batch, wal->next_lsn, wal->closed_any, wal->closed_groups_count);
    wal->gathering = batch;
}

static void wal__close_batch(struct wal *wal)
{
    struct wal__batch *batch = wal->gathering;
    wal->gathering = NULL;
    wal->next_lsn = batch->lsn + wal__span(batch->length);
    wal->closed_any = true;
    wal->closed_groups_count = batch->groups_count;
    STAILQ_INSERT_TAIL(&wal->closed, batch, link);
}

static void wal__retire_batch(struct wal *wal, struct wal__batch *batch)
{
    wal__batch_drop(batch);
    if (wal->free_count == BATCHES_KEPT_MAX) {
        wal__batch_free(batch);
        return;
    }
    STAILQ_INSERT_HEAD(&wal->free, batch, link);
    wal->free_count++;
}

uint64_t wal_append(struct wal *wal, const struct wal_record *record)
{
    ASSERT(record->type >= WAL_ENTRY && record->type <= WAL_REPAIRED);
    ASSERT(record->payload.size <= FRAME_PAYLOAD_BYTES_MAX);
    if (wal->failed) {
        return wal->next_lsn;
    }
    if (wal->gathering != NULL && !wal__batch_fits(wal->gathering, record->payload.size, wal->files.file_bytes)) {
        wal__close_batch(wal);
    }
    if (wal->gathering == NULL) {
        wal__open_batch(wal);
    }
    wal__batch_add(wal->gathering, record);
    wal->stats.records++;
    return wal->gathering->lsn;
}

/* ---- the way to the disk ---- */

static void wal__write_run(struct disk_job *job)
{
    struct wal__write *write = (struct wal__write *)job; /* first member */
    struct wal *wal = write->wal;
    struct disk *disk = wal->options.disk;
    struct wal__batch *batch = write->batch;
    enum err error = write->roll ? wal__run_roll(wal) : OK;
    if (error == OK) {
        uint64_t offset = WAL_BLOCK_BYTES + batch->lsn - write->header.base_lsn;
        wal__batch_seal(batch, &write->header, &wal->voucher);
        point(wal->options.trace, POINT_WAL_WRITE);
        error = PLANT(2) ? OK : disk->ops->write(disk, wal->handle, batch->parts, batch->parts_count, offset);
    }
    if (error == OK) {
        point(wal->options.trace, POINT_WAL_WRITTEN);
        error = disk->ops->sync(disk, wal->handle);
        error = PLANT(27) && error != OK ? disk->ops->sync(disk, wal->handle) : error;
    }
    point(wal->options.trace, POINT_WAL_SYNCED);
    write->error = error;
}

static void wal__write_done(struct disk_job *job);

static bool wal__fits_current(const struct wal *wal, const struct wal__batch *batch)
{
    const struct wal__file *file = wal->current;
    uint64_t size_bytes = file->size_bytes > wal->files.file_bytes ? file->size_bytes : wal->files.file_bytes;
    uint64_t used_bytes = batch->lsn - file->header.base_lsn;
    /* A batch larger than a whole file makes it longer. */
    return used_bytes == 0 || used_bytes + wal__span(batch->length) <= size_bytes - WAL_BLOCK_BYTES;
}

/* Sends the next batch off if there is one; none may be on its way. */
static bool wal__submit(struct wal *wal)
{
    struct wal__write *write = &wal->write;
    ASSERT(write->batch == NULL && !wal->failed);
    if (STAILQ_EMPTY(&wal->closed)) {
        if (wal->gathering == NULL) {
            return false;
        }
        wal__close_batch(wal);
    }
    struct wal__batch *batch = STAILQ_FIRST(&wal->closed);
    STAILQ_REMOVE_HEAD(&wal->closed, link);
    ASSERT(batch->lsn == wal->durable_lsn);
    if (!wal__fits_current(wal, batch)) {
        wal__prepare_roll(wal, wal__files_take(&wal->files), batch->lsn);
        wal->stats.rolls++;
    }
    write->wal = wal;
    write->batch = batch;
    write->job.run = wal__write_run;
    write->job.done = wal__write_done;
    write->submitted_us = clock_now_us(wal->options.clock);
    write->retry_us = 0;
    wal->vouch_us = UINT64_MAX;
    point(wal->options.trace, POINT_WAL_SUBMIT);
    wal->options.disk->ops->submit(wal->options.disk, DISK_LANE_WAL, &write->job);
    point(wal->options.trace, POINT_WAL_SUBMITTED);
    return true;
}

/* What was found out before any sync, and may pass: nothing is lost, and the same bytes go to the same place again. */
static bool wal__may_pass(enum err error)
{
    return error == ERR_STORAGE_FULL || error == ERR_TOO_MANY_FILES || error == ERR_NO_MEMORY;
}

static void wal__stall(struct wal *wal, uint64_t now_us)
{
    if (wal->stalled_by == OK) {
        trace_error(wal->options.trace, "wal_stalled", "durable_lsn=%" PRIu64 " error=%s", wal->durable_lsn,
                    err_name(wal->write.error));
    }
    wal->stalled_by = wal->write.error;
    wal->write.retry_us = now_us + WAL_RETRY_US;
}

static void wal__try_again(struct wal *wal)
{
    wal->write.retry_us = 0;
    wal->options.disk->ops->submit(wal->options.disk, DISK_LANE_WAL, &wal->write.job);
}

/* A file whose blocks were not set aside is left for a spare whose blocks were: what the batch has in the old one then
 * stands behind its end. Not if it is the file's first batch: two files would begin at one lsn. */
static bool wal__leave_file(struct wal *wal)
{
    struct wal__write *write = &wal->write;
    if (write->error != ERR_STORAGE_FULL || write->roll || write->batch->lsn == wal->current->header.base_lsn ||
        wal->files.ready_count + wal->files.partial_secured_count == 0) {
        return false;
    }
    wal__prepare_roll(wal, wal__files_take(&wal->files), write->batch->lsn);
    wal->stats.rolls++;
    wal__try_again(wal);
    return true;
}

static void wal__fail(struct wal *wal, enum err error)
{
    wal->failed = true;
    trace_error(wal->options.trace, "wal_failed", "durable_lsn=%" PRIu64 " error=%s", wal->durable_lsn,
                err_name(error));
    if (wal->write.roll) {
        free(wal->write.file); /* taken, and never enlisted */
        wal->write.roll = false;
    }
    wal->options.on_failed(wal->options.context, error);
}

/* The batch is durable: the next one will vouch for it. The arrays of group ids change places, so none is copied. */
static void wal__take_voucher(struct wal *wal, struct wal__batch *batch)
{
    struct wal__voucher *voucher = &wal->voucher;
    uint64_t *groups = voucher->groups;
    uint32_t groups_capacity = voucher->groups_capacity;
    *voucher = (struct wal__voucher){.lsn = batch->lsn,
                                     .length = batch->length,
                                     .crc = batch->crc,
                                     .groups = batch->groups,
                                     .groups_count = batch->groups_count,
                                     .groups_capacity = batch->groups_capacity};
    batch->groups = groups;
    batch->groups_capacity = groups_capacity;
    batch->groups_count = 0;
}

static void wal__count_batch(struct wal *wal, const struct wal__batch *batch, uint64_t now_us)
{
    uint64_t span = wal__span(batch->length);
    uint64_t file_bytes = WAL_BLOCK_BYTES + batch->lsn - wal->current->header.base_lsn + span;
    if (file_bytes > wal->current->size_bytes) {
        wal__files_resize_live(&wal->files, wal->current, file_bytes);
    }
    wal->files.durable_start_lsn = wal->write.header.start_lsn;
    wal->stats.batches++;
    wal->stats.written_bytes += span;
    wal->stats.last_sync_us = now_us - wal->write.submitted_us;
    wal->stats.syncs_us_total += wal->stats.last_sync_us;
}

static void wal__apply_releases(struct wal *wal)
{
    while (wal->releases[0].lsn != 0 && wal->releases[0].barrier_lsn <= wal->durable_lsn) {
        wal__files_release(&wal->files, wal->releases[0].lsn);
        wal->releases[0] = wal->releases[1];
        wal->releases[1] = (struct wal__release){0};
    }
}

static void wal__write_done(struct disk_job *job)
{
    struct wal__write *write = (struct wal__write *)job;
    struct wal *wal = write->wal;
    struct wal__batch *batch = write->batch;
    bool has_records = batch->records_count > 0;
    uint64_t now_us = clock_now_us(wal->options.clock);
    if (wal__may_pass(write->error)) {
        if (!wal__leave_file(wal)) {
            wal__stall(wal, now_us);
        }
        return;
    }
    write->batch = NULL;
    if (write->error != OK) {
        wal__retire_batch(wal, batch);
        wal__fail(wal, write->error);
        return;
    }
    if (wal->stalled_by != OK) {
        wal->stalled_by = OK;
        trace_info(wal->options.trace, "wal_goes_on", "lsn=%" PRIu64, batch->lsn);
    }
    if (write->roll) {
        wal__finish_roll(wal);
    }
    wal__count_batch(wal, batch, now_us);
    wal->durable_lsn = batch->lsn + wal__span(batch->length);
    wal__take_voucher(wal, batch);
    wal__retire_batch(wal, batch);
    wal__apply_releases(wal);
    uint64_t durable_lsn = wal->durable_lsn;
    if (!wal__submit(wal) && has_records) {
        wal->vouch_us = now_us + WAL_VOUCH_IDLE_US;
    }
    if (has_records) {
        point(wal->options.trace, POINT_WAL_PERSISTED);
        wal->options.on_persisted(wal->options.context, durable_lsn);
    }
}

void wal_flush(struct wal *wal)
{
    if (wal->failed) {
        return;
    }
    if (wal->write.batch == NULL) {
        wal__submit(wal);
    }
    wal__files_tend(&wal->files, clock_now_us(wal->options.clock));
}

uint64_t wal_deadline_us(const struct wal *wal)
{
    uint64_t due_us = wal__files_deadline_us(&wal->files);
    if (wal->failed) {
        return UINT64_MAX;
    }
    due_us = wal->write.retry_us != 0 && wal->write.retry_us < due_us ? wal->write.retry_us : due_us;
    return wal->vouch_us < due_us ? wal->vouch_us : due_us;
}

void wal_tick(struct wal *wal, uint64_t now_us)
{
    if (wal->failed) {
        return;
    }
    if (wal->write.retry_us != 0 && now_us >= wal->write.retry_us) {
        wal__try_again(wal);
    }
    if (now_us >= wal->vouch_us && wal->gathering == NULL) {
        ASSERT(wal->write.batch == NULL);
        wal__open_batch(wal);
        wal__submit(wal);
    }
    wal__files_tend(&wal->files, now_us);
}

/* ---- state and release ---- */

uint64_t wal_next_lsn(const struct wal *wal)
{
    return wal->next_lsn;
}

const struct wal__files *wal__files_of(const struct wal *wal)
{
    return &wal->files;
}

uint64_t wal_durable_lsn(const struct wal *wal)
{
    return wal->durable_lsn;
}

uint64_t wal_pending_bytes(const struct wal *wal)
{
    return wal->next_lsn - wal->durable_lsn + (wal->gathering != NULL ? wal->gathering->length : 0);
}

/* What the owner wrote again at the head may still be gathering, or on its way into the very file that this frees. */
void wal_release(struct wal *wal, uint64_t lsn)
{
    ASSERT(lsn <= wal->next_lsn);
    uint64_t barrier_lsn = wal->next_lsn + (wal->gathering != NULL);
    struct wal__release *release = &wal->releases[wal->releases[0].lsn != 0];
    if (lsn > release->lsn) {
        release->lsn = lsn;
    }
    release->barrier_lsn = barrier_lsn;
    wal__apply_releases(wal);
}

uint64_t wal_used_bytes(const struct wal *wal)
{
    return wal__files_used_bytes(&wal->files);
}

uint64_t wal_oldest_end_lsn(const struct wal *wal)
{
    const struct wal__file *oldest = TAILQ_FIRST(&wal->files.live);
    return oldest != wal->current ? oldest->end_lsn : UINT64_MAX;
}

uint64_t wal_forgotten_lsn(const struct wal *wal)
{
    return wal->files.durable_start_lsn;
}

bool wal_wants_release(const struct wal *wal)
{
    return wal__files_used_bytes(&wal->files) > wal->files.budget_bytes / 2;
}

bool wal_disk_full(const struct wal *wal)
{
    return (wal->files.disk_full && wal__files_secured(&wal->files) < wal->files.spares_min) ||
           wal->stalled_by == ERR_STORAGE_FULL;
}

bool wal_is_stalled(const struct wal *wal)
{
    return wal->stalled_by != OK;
}

enum err wal_lacks(const struct wal *wal)
{
    if (wal->stalled_by != OK) {
        return wal->stalled_by;
    }
    bool waits = wal->files.retry_us != 0 && wal__files_secured(&wal->files) < wal->files.spares_min;
    return waits ? wal->files.chore_error : OK;
}

/* In what is secured of the file that is written to. *ret_stays: the next batch goes there whatever happens. Of a start
 * on a full disk it may have next to nothing, and only a file that something stands in can be left for a spare. */
static uint64_t wal__current_room_bytes(const struct wal *wal, bool *ret_stays)
{
    const struct wal__file *file = wal->write.roll ? wal->write.file : wal->current;
    uint64_t secured_bytes = wal__file_secured_bytes(&wal->files, file);
    uint64_t used_bytes = WAL_BLOCK_BYTES + (wal->write.roll ? 0 : wal->durable_lsn - wal->current->header.base_lsn);
    *ret_stays = used_bytes == WAL_BLOCK_BYTES && secured_bytes < wal->files.file_bytes;
    return used_bytes < secured_bytes ? secured_bytes - used_bytes : 0;
}

bool wal_has_room(const struct wal *wal, uint64_t promised_bytes, uint64_t bytes)
{
    const struct wal__files *files = &wal->files;
    uint64_t before_bytes = wal_pending_bytes(wal) + promised_bytes;
    uint32_t secured = wal__files_secured(files);
    bool stays;
    uint64_t room_bytes = wal__current_room_bytes(wal, &stays);
    if (secured < files->reserve_count) {
        return false; /* the file written to is part of the reserve by now */
    }
    if (!stays && before_bytes == 0 && secured > files->reserve_count) {
        return true; /* a file to itself, if it must be */
    }
    if (!stays) { /* half of a spare counts: a batch that does not fit leaves the rest of its file unused */
        room_bytes += (secured - files->reserve_count) * (files->file_bytes - WAL_BLOCK_BYTES) / 2;
    }
    return before_bytes + WAL_BLOCK_BYTES + bytes <= room_bytes;
}

void wal_stats(const struct wal *wal, struct wal_stats *ret_stats)
{
    *ret_stats = wal->stats;
    ret_stats->spare_files = wal->files.ready_count;
}

static void wal__free_queue(struct wal__batch_queue *queue)
{
    struct wal__batch *batch;
    while ((batch = STAILQ_FIRST(queue)) != NULL) {
        STAILQ_REMOVE_HEAD(queue, link);
        wal__batch_free(batch);
    }
}

void wal_close(struct wal *wal)
{
    if (wal == NULL) {
        return;
    }
    wal__batch_free(wal->write.batch); /* stalled, or after a crash: no job runs any more, and no done comes */
    if (wal->write.roll) {
        free(wal->write.file); /* taken, and never enlisted */
    }
    if (wal->handle != NULL) {
        wal->options.disk->ops->close(wal->options.disk, wal->handle);
    }
    wal__batch_free(wal->gathering);
    wal__free_queue(&wal->closed);
    wal__free_queue(&wal->free);
    free(wal->voucher.groups);
    wal__files_free(&wal->files);
    free(wal);
}
