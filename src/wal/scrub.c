/* The walk over the log's files, see scrub.h. What a piece leaves half judged waits in the cursor; loop thread and lane
 * take turns with it. */
#include "wal/scrub.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/plant.h"
#include "wal/files.h"

#define FOUND_MAX 16u

struct lsn_range {
    uint64_t from_lsn, end_lsn;
};

struct wal_scrub {
    struct disk_job job; /* first */
    struct wal_scrub_options options;
    bool is_busy;
    bool is_inside;    /* the walk stands in this file: */
    uint64_t base_lsn; /* or before the first one from here on */
    uint64_t salt;
    char path[WAL__PATH_BYTES_MAX];
    bool is_suspect;     /* the first look found something: */
    bool is_second_look; /* and this is the second one */
    struct lsn_range suspect;

    /* lane */
    uint64_t limit;  /* offset in the file; everything before it is durable */
    uint64_t offset; /* everything before it is judged */
    bool in_body;    /* of this batch: */
    struct wal__batch_header batch;
    uint32_t crc; /* so far */
    bool is_seeking;
    uint64_t bad_lsn;
    uint8_t *data; /* owned; block aligned */

    /* of this piece */
    enum err error;
    uint32_t bytes;
    uint32_t found_count;
    struct lsn_range found[FOUND_MAX];
};

/* --- lane --- */

static uint64_t scrub__lsn(const struct wal_scrub *scrub, uint64_t offset)
{
    return scrub->base_lsn + offset - WAL_BLOCK_BYTES;
}

static void scrub__damaged(struct wal_scrub *scrub, uint64_t from_lsn, uint64_t end_lsn)
{
    if (scrub->found_count < FOUND_MAX) { /* more in one piece: the same file, and that is what counts */
        scrub->found[scrub->found_count++] = (struct lsn_range){from_lsn, end_lsn};
    }
}

static void scrub__end_seeking(struct wal_scrub *scrub, uint64_t end_lsn)
{
    if (scrub->is_seeking) {
        scrub__damaged(scrub, scrub->bad_lsn, end_lsn);
        scrub->is_seeking = false;
    }
}

static void scrub__judge_file_header(struct wal_scrub *scrub, const uint8_t *block)
{
    struct wal__file_header header;
    if (wal__file_header_decode(block, &header) != OK || header.base_lsn != scrub->base_lsn ||
        header.salt != scrub->salt) {
        scrub__damaged(scrub, scrub->base_lsn, scrub->base_lsn + WAL_BLOCK_BYTES);
    }
    scrub->offset = WAL_BLOCK_BYTES;
}

static void scrub__judge_batch_header(struct wal_scrub *scrub, const uint8_t *bytes)
{
    uint64_t lsn = scrub__lsn(scrub, scrub->offset);
    struct wal__batch_header header;
    if (!wal__batch_header_decode(bytes, scrub->salt, lsn, &header) ||
        wal__span(header.length) > scrub->limit - scrub->offset) {
        if (!scrub->is_seeking) {
            scrub->is_seeking = true;
            scrub->bad_lsn = lsn;
        }
        scrub->offset += WAL_BLOCK_BYTES;
        return;
    }
    scrub__end_seeking(scrub, lsn);
    scrub->in_body = true;
    scrub->batch = header;
    scrub->crc = wal__seed(scrub->salt);
    scrub->offset += WAL__BATCH_HEADER_BYTES;
}

/* Judges data, the bytes of the file from `begin` to `end`. */
static void scrub__judge(struct wal_scrub *scrub, const uint8_t *data, uint64_t begin, uint64_t end)
{
    while (scrub->offset < end) {
        const uint8_t *bytes = data + (scrub->offset - begin);
        if (scrub->offset == 0) {
            scrub__judge_file_header(scrub, bytes);
        } else if (!scrub->in_body) {
            scrub__judge_batch_header(scrub, bytes);
        } else {
            uint64_t batch_begin = WAL_BLOCK_BYTES + scrub->batch.lsn - scrub->base_lsn;
            uint64_t batch_end = batch_begin + scrub->batch.length;
            uint64_t upto = batch_end < end ? batch_end : end;
            if (upto > scrub->offset) {
                scrub->crc = crc32c(scrub->crc, bytes, upto - scrub->offset);
                scrub->offset = upto;
            }
            if (upto < batch_end) {
                return;
            }
            scrub->in_body = false;
            scrub->offset = batch_begin + wal__span(scrub->batch.length);
            if (scrub->crc != scrub->batch.body_crc) {
                scrub__damaged(scrub, scrub->batch.lsn, scrub__lsn(scrub, scrub->offset));
            }
        }
    }
}

/* Unreadable, or not there: as far as the piece goes. */
static void scrub__lost(struct wal_scrub *scrub, uint64_t begin, uint64_t end)
{
    uint64_t lsn = scrub->in_body ? scrub->batch.lsn : scrub__lsn(scrub, begin > 0 ? begin : WAL_BLOCK_BYTES);
    scrub->in_body = false;
    if (!scrub->is_seeking) {
        scrub->is_seeking = true;
        scrub->bad_lsn = lsn;
    }
    scrub->offset = end;
}

static void scrub__run(struct disk_job *job)
{
    struct wal_scrub *scrub = (struct wal_scrub *)job;
    struct disk *disk = scrub->options.disk;
    struct disk_file *handle;
    size_t got = 0;
    uint64_t begin = scrub->offset / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
    uint64_t end = begin + WAL_SCRUB_BYTES < scrub->limit ? begin + WAL_SCRUB_BYTES : scrub->limit;
    enum err error = disk->ops->open(disk, scrub->path, DISK_UNCACHED, &handle);
    if (error == OK) {
        error = disk->ops->read(disk, handle, scrub->data, WAL_SCRUB_BYTES, begin, &got);
        disk->ops->close(disk, handle);
    }
    scrub->bytes = (uint32_t)got;
    if (error == OK && begin + got >= end) {
        scrub__judge(scrub, scrub->data, begin, end);
    } else if (error == OK || error == ERR_NO_FILE || error == ERR_IO) {
        scrub__lost(scrub, begin, end);
    } else {
        scrub->error = ERR_BUSY;
        return;
    }
    if (scrub->offset >= scrub->limit) {
        scrub__end_seeking(scrub, scrub__lsn(scrub, scrub->limit));
    }
}

/* --- loop --- */

static const struct wal__file *scrub__next_file(const struct wal_scrub *scrub)
{
    const struct wal__file *file;
    TAILQ_FOREACH(file, &wal__files_of(scrub->options.wal)->live, link)
    {
        if (file->header.base_lsn >= scrub->base_lsn) {
            return file;
        }
    }
    return NULL;
}

/* The first look remembers from where to where, the second one tells what it finds there. */
static void scrub__take_finding(struct wal_scrub *scrub, const struct lsn_range *found)
{
    struct lsn_range *suspect = &scrub->suspect;
    if (!scrub->is_second_look) {
        suspect->from_lsn = scrub->is_suspect ? suspect->from_lsn : found->from_lsn;
        suspect->end_lsn = found->end_lsn;
        scrub->is_suspect = true;
    } else if (!PLANT(68) && found->from_lsn < suspect->end_lsn && suspect->from_lsn < found->end_lsn) {
        scrub->options.on_damage(scrub->options.context, found->from_lsn, found->end_lsn);
    }
}

static void scrub__done(struct disk_job *job)
{
    struct wal_scrub *scrub = (struct wal_scrub *)job;
    const struct wal__file *file = scrub__next_file(scrub);
    /* Released meanwhile: it may have been written over. */
    bool is_there = file != NULL && file->header.base_lsn == scrub->base_lsn && file->header.salt == scrub->salt;
    for (uint32_t i = 0; is_there && i < scrub->found_count; i++) {
        scrub__take_finding(scrub, &scrub->found[i]);
    }
    if (!is_there || scrub->offset >= scrub->limit) {
        scrub->is_inside = false;
        scrub->is_second_look = is_there && scrub->is_suspect && !scrub->is_second_look;
        scrub->is_suspect = scrub->is_second_look;
        scrub->base_lsn += !scrub->is_second_look;
    }
    scrub->is_busy = false;
    scrub->options.on_piece(scrub->options.context, scrub->error, scrub->bytes);
}

static void scrub__enter(struct wal_scrub *scrub, const struct wal__file *file, uint64_t end_lsn)
{
    const struct wal__files *files = wal__files_of(scrub->options.wal);
    wal__files_path(files, file->slot, scrub->path);
    scrub->is_inside = true;
    scrub->is_second_look = scrub->is_second_look && scrub->base_lsn == file->header.base_lsn;
    scrub->is_suspect = scrub->is_second_look;
    scrub->base_lsn = file->header.base_lsn;
    scrub->salt = file->header.salt;
    scrub->limit = WAL_BLOCK_BYTES + end_lsn - file->header.base_lsn;
    scrub->offset = 0;
    scrub->in_body = scrub->is_seeking = false;
}

enum err wal_scrub_piece(struct wal_scrub *scrub)
{
    struct wal *wal = scrub->options.wal;
    ASSERT(!scrub->is_busy);
    const struct wal__file *file = scrub__next_file(scrub);
    bool is_last = file != NULL && TAILQ_NEXT(file, link) == NULL;
    uint64_t end_lsn = file == NULL ? 0 : is_last ? wal_durable_lsn(wal) : file->end_lsn;
    if (file == NULL || (is_last && end_lsn <= file->header.base_lsn)) { /* or nothing in it yet */
        scrub->is_inside = false;
        scrub->base_lsn = 0;
        return ERR_CLOSED;
    }
    if (!scrub->is_inside || file->header.base_lsn != scrub->base_lsn || file->header.salt != scrub->salt) {
        scrub__enter(scrub, file, end_lsn);
    }
    scrub->error = OK;
    scrub->bytes = scrub->found_count = 0;
    scrub->is_busy = true;
    scrub->job = (struct disk_job){.run = scrub__run, .done = scrub__done};
    scrub->options.disk->ops->submit(scrub->options.disk, DISK_LANE_STORE, &scrub->job);
    return OK;
}

struct wal_scrub *wal_scrub_new(const struct wal_scrub_options *options)
{
    struct wal_scrub *scrub = mem_zeroed(1, sizeof *scrub);
    scrub->options = *options;
    scrub->data = mem_aligned(WAL_BLOCK_BYTES, WAL_SCRUB_BYTES);
    return scrub;
}

void wal_scrub_free(struct wal_scrub *scrub)
{
    free(scrub->data);
    free(scrub);
}
