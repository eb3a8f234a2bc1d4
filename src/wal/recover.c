/* Reads the log and tells a torn tail from rot.
 *
 * What is known without trusting the bad bytes: a batch is submitted only after the sync of the batch before it has
 * returned, a file header is written only after the sync of everything before its base lsn (at a roll: the last
 * batch; at a start: everything recovery has read). So a bad range with a later valid batch header, or a later file,
 * behind it was durable once: rot. With nothing behind it, it was the batch in flight, never acknowledged: torn, cut
 * (CTRL, Alagappan et al. 2018, needs the same kind of evidence). The valid batch that follows names the groups of
 * the one before it; only if it names exactly the bad range are others spared.
 *
 * A bad range therefore stays open, in `bad_lsn`, until a valid header or the end of the log decides about it. */
#include "wal/recover.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/plant.h"

#define WINDOW_BYTES_MAX (256u << 10)
#define DIRECT_BYTES_MIN (64u << 10) /* more than that is missing: read it to where it is wanted, without the copy */

struct reader {
    const struct wal__files *files;
    const struct wal__sink *sink;
    struct wal__recovered result;

    const struct wal__file *file;
    struct disk_file *handle;
    uint64_t limit_lsn; /* of this file: the base of the next one, or as far as its bytes go */

    struct buf *window; /* a piece of the file, read ahead */
    uint64_t window_offset;
    size_t window_size;

    bool bad; /* a bad range begins at bad_lsn and is not judged yet */
    uint64_t bad_lsn;
    uint32_t bad_length; /* 0: unknown */
    bool bad_hinted;     /* it begins like a batch */

    struct wal__batch_header previous; /* the last whole batch; lsn 0: none */
};

/* Copies [offset, offset + size) of the file; what lies behind its end reads as zeros. */
static enum err reader_fetch(struct reader *r, uint64_t offset, uint8_t *data, size_t size)
{
    struct disk *disk = r->files->disk;
    while (size > 0) {
        if (offset >= r->window_offset && offset < r->window_offset + r->window_size) {
            size_t at = (size_t)(offset - r->window_offset);
            size_t part = r->window_size - at < size ? r->window_size - at : size;
            memcpy(data, r->window->data + at, part);
            data += part;
            offset += part;
            size -= part;
            continue;
        }
        if (offset >= r->file->size_bytes) {
            memset(data, 0, size);
            return OK;
        }
        bool is_direct = size >= DIRECT_BYTES_MIN || r->sink->is_memory;
        size_t got = 0;
        enum err error = is_direct ? disk->ops->read(disk, r->handle, data, size, offset, &got)
                                   : disk->ops->read(disk, r->handle, r->window->data, r->window->size, offset, &got);
        if (error != OK) {
            return error;
        }
        if (got == 0) {
            return ERR_IO; /* shorter than it was a moment ago */
        }
        if (is_direct) {
            data += got;
            offset += got;
            size -= got;
            continue;
        }
        r->window_offset = offset;
        r->window_size = got;
    }
    return OK;
}

static uint64_t reader_offset(const struct reader *r, uint64_t lsn)
{
    return WAL_BLOCK_BYTES + lsn - r->file->header.base_lsn;
}

static void reader_open_bad(struct reader *r, uint64_t lsn, uint32_t length, bool hinted)
{
    if (!r->bad) {
        r->bad = true;
        r->bad_lsn = lsn;
        r->bad_length = length;
        r->bad_hinted = hinted;
    }
}

/* The first valid batch header at or behind lsn; *ret_header.lsn = 0 if there is none. */
static enum err reader_find(struct reader *r, uint64_t lsn, struct wal__batch_header *ret_header)
{
    ret_header->lsn = 0;
    for (; lsn < r->limit_lsn; lsn += WAL_BLOCK_BYTES) {
        uint8_t bytes[WAL__BATCH_HEADER_BYTES];
        enum err error = reader_fetch(r, reader_offset(r, lsn), bytes, sizeof bytes);
        if (error != OK) {
            return error;
        }
        if (wal__batch_header_decode(bytes, r->file->header.salt, lsn, ret_header) &&
            wal__span(ret_header->length) <= r->limit_lsn - lsn) {
            return OK;
        }
        ret_header->lsn = 0;
        reader_open_bad(r, lsn, 0, wal__batch_header_hinted(bytes, r->file->header.salt));
    }
    return OK;
}

/* Whole: the CRC fits and so does every record. *ret_list: the group list, data NULL if the batch vouches for none. */
static bool reader_check_body(const struct wal__batch_header *header, const uint8_t *batch, struct slice *ret_list)
{
    size_t at = WAL__BATCH_HEADER_BYTES;
    uint32_t records_count = 0;
    *ret_list = (struct slice){0};
    if (crc32c(wal__seed(header->salt), batch + at, header->length - at) != header->body_crc) {
        return false;
    }
    while (at < header->length) {
        struct wal_record record;
        bool first = at == WAL__BATCH_HEADER_BYTES;
        at = wal__record_decode(batch, header->length, at, &record);
        if (at == 0) {
            return false;
        }
        if ((unsigned)record.type != WAL__RECORD_GROUPS) {
            records_count++;
        } else if (first && record.payload.size >= WAL__LIST_BYTES &&
                   load_le32(record.payload.data) <= (record.payload.size - WAL__LIST_BYTES) / 8) {
            *ret_list = record.payload;
        } else {
            return false;
        }
    }
    return records_count == header->records_count && (ret_list->data != NULL) == (header->previous_lsn != 0);
}

static void reader_report(struct reader *r, uint64_t lsn, const uint64_t *groups, uint32_t count)
{
    r->result.damaged_count++;
    trace_error(r->files->trace, "wal_damaged", "lsn=%" PRIu64 " groups=%" PRIu32 "%s", lsn, count,
                count == 0 ? " all=1" : "");
    if (r->sink->damaged != NULL) {
        r->sink->damaged(r->sink->context, lsn, groups, count);
    }
}

/* Of a range nobody has named, the last block counts: it may hold new rot behind an old, repaired one. */
static void reader_report_all(struct reader *r, uint64_t end_lsn)
{
    reader_report(r, end_lsn - WAL_BLOCK_BYTES, NULL, 0);
}

static enum err reader_report_list(struct reader *r, uint64_t lsn, struct slice list)
{
    uint32_t count = load_le32(list.data);
    if (count == 0) {
        return OK; /* it held nothing but a voucher */
    }
    uint64_t *groups = malloc(count * sizeof groups[0]);
    if (groups == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < count; i++) {
        groups[i] = load_le64(list.data + WAL__LIST_BYTES + 8 * (size_t)i);
    }
    reader_report(r, lsn, groups, count);
    free(groups);
    return OK;
}

static void reader_verdict(struct reader *r, uint64_t lsn, uint32_t length, const char *verdict)
{
    if (r->sink->batch != NULL) {
        r->sink->batch(r->sink->context, lsn, length, verdict);
    }
}

/* A valid header follows: what lies open before it is rot. list.data is NULL if the batch vouches for none or is bad
 * itself. */
static enum err reader_judge(struct reader *r, const struct wal__batch_header *header, struct slice list)
{
    uint64_t named_end = header->previous_lsn + wal__span(header->previous_length);
    bool named = header->previous_lsn != 0 && named_end == header->lsn;
    if (!r->bad) {
        /* A whole batch in the place of another one: its bytes came from elsewhere. */
        bool swapped = named && list.data != NULL && r->previous.lsn == header->previous_lsn &&
                       r->previous.crc != header->previous_crc;
        if (!swapped) {
            return OK;
        }
        reader_open_bad(r, header->previous_lsn, header->previous_length, true);
    }
    r->bad = false;
    if (PLANT(49)) {
        return OK;
    }
    reader_verdict(r, r->bad_lsn, r->bad_length, "damaged");
    if (named && header->previous_lsn == r->bad_lsn && list.data != NULL) {
        return reader_report_list(r, r->bad_lsn, list);
    }
    reader_report_all(r, header->lsn);
    return OK;
}

static void reader_deliver(struct reader *r, const struct wal__batch_header *header, struct buf *batch)
{
    size_t at = WAL__BATCH_HEADER_BYTES;
    reader_verdict(r, header->lsn, header->length, "ok");
    r->result.records_count += header->records_count;
    while (at < header->length && r->sink->record != NULL) {
        struct wal_record record;
        at = wal__record_decode(batch->data, header->length, at, &record);
        ASSERT(at != 0);
        if ((unsigned)record.type != WAL__RECORD_GROUPS) {
            record.payload.buf = record.payload.size > 0 ? batch : NULL;
            r->sink->record(r->sink->context, &record, header->lsn);
        }
    }
}

static enum err reader_take_batch(struct reader *r, const struct wal__batch_header *header)
{
    struct slice list;
    /* One buf each: who keeps a record pins no more than its batch. */
    struct buf *batch = buf_new(header->length);
    if (batch == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err error = reader_fetch(r, reader_offset(r, header->lsn), batch->data, header->length);
    if (error == OK) {
        bool whole = reader_check_body(header, batch->data, &list);
        error = reader_judge(r, header, whole ? list : (struct slice){0});
        /* Even if this batch is torn: that it was submitted proves that all before it was durable. */
        r->result.end_lsn = header->lsn;
        if (error == OK && whole) {
            reader_deliver(r, header, batch);
            r->previous = *header;
            r->result.end_lsn += wal__span(header->length);
        } else if (error == OK) {
            reader_open_bad(r, header->lsn, header->length, true);
        }
    }
    buf_unref(batch);
    return error;
}

static enum err reader_walk_file(struct reader *r)
{
    uint64_t lsn = r->file->header.base_lsn;
    while (lsn < r->limit_lsn) {
        struct wal__batch_header header;
        enum err error = reader_find(r, lsn, &header);
        if (error == OK && header.lsn != 0) {
            error = reader_take_batch(r, &header);
        }
        if (error != OK) {
            return error;
        }
        if (header.lsn == 0) {
            break;
        }
        lsn = header.lsn + wal__span(header.length);
    }
    if (lsn < r->file->end_lsn) {
        reader_open_bad(r, lsn, 0, false); /* it is shorter than it was */
    }
    return OK;
}

static enum err reader_read_file(struct reader *r, const struct wal__file *file)
{
    char path[WAL__PATH_BYTES_MAX];
    struct disk *disk = r->files->disk;
    bool last = TAILQ_NEXT(file, link) == NULL;
    r->file = file;
    r->window_size = 0;
    uint64_t blocks = file->size_bytes / WAL_BLOCK_BYTES;
    r->limit_lsn = file->header.base_lsn + (blocks > 0 ? (blocks - 1) * WAL_BLOCK_BYTES : 0);
    if (last) {
        r->result.end_lsn = file->header.base_lsn;
    } else if (file->end_lsn < r->limit_lsn) {
        r->limit_lsn = file->end_lsn;
    }
    wal__files_path(r->files, file->slot, path);
    enum err error = disk->ops->open(disk, path, DISK_READ | DISK_SEQUENTIAL, &r->handle);
    if (error == OK) {
        if (r->sink->file != NULL) {
            r->sink->file(r->sink->context, file);
        }
        error = reader_walk_file(r);
        disk->ops->close(disk, r->handle);
    }
    return error;
}

/* The log is over: what is still open is a torn tail if it lies in the newest file, and rot if a newer file stands
 * behind it. If the newest file is shorter than it was, its end is gone, and with it all evidence: the gap of one block
 * that the next file leaves tells every later start the same. */
static void reader_finish(struct reader *r)
{
    const struct wal__file *last = TAILQ_LAST(&r->files->live, wal__file_list);
    r->result.last_file_empty = r->result.end_lsn == last->header.base_lsn;
    if (last->size_bytes < last->header.file_bytes) {
        r->result.last_file_empty = false;
        r->result.end_lsn += WAL_BLOCK_BYTES;
        reader_verdict(r, r->result.end_lsn - WAL_BLOCK_BYTES, 0, "damaged");
        reader_report_all(r, r->result.end_lsn);
        return;
    }
    if (r->bad && r->bad_lsn < last->header.base_lsn) {
        reader_verdict(r, r->bad_lsn, r->bad_length, "damaged");
        reader_report_all(r, last->header.base_lsn);
    } else if (r->bad && r->bad_hinted) {
        reader_verdict(r, r->bad_lsn, r->bad_length, "torn");
        trace_info(r->files->trace, "wal_torn_tail", "lsn=%" PRIu64, r->bad_lsn);
    }
}

/* As large as the largest file needs, and no larger than is good for reading. */
static uint32_t window_bytes(const struct wal__files *files)
{
    uint64_t bytes = WAL_BLOCK_BYTES;
    const struct wal__file *file;
    TAILQ_FOREACH(file, &files->live, link)
    {
        bytes = file->size_bytes > bytes ? file->size_bytes : bytes;
    }
    return bytes < WINDOW_BYTES_MAX ? (uint32_t)bytes : WINDOW_BYTES_MAX;
}

enum err wal__recover(const struct wal__files *files, const struct wal__sink *sink,
                      struct wal__recovered *ret_recovered)
{
    struct reader r = {.files = files, .sink = sink};
    enum err error = OK;
    const struct wal__file *file = TAILQ_FIRST(&files->live);
    r.result.end_lsn = files->start_lsn;
    if (file != NULL) {
        r.window = buf_new(window_bytes(files));
        error = r.window != NULL ? OK : ERR_NO_MEMORY;
        if (file->header.base_lsn > files->start_lsn) {
            reader_open_bad(&r, files->start_lsn, 0, false); /* the oldest file is gone */
        }
        for (; file != NULL && error == OK && !(PLANT(25) && r.bad); file = TAILQ_NEXT(file, link)) {
            error = reader_read_file(&r, file);
        }
        if (error == OK) {
            reader_finish(&r);
        }
        buf_unref(r.window);
    }
    if (error == OK && files->lost_lsn >= r.result.end_lsn) {
        /* The newest file was in use and its beginning is gone. Its next life leaves a gap of one block at end_lsn,
         * which tells every later start the same. */
        r.result.end_lsn += WAL_BLOCK_BYTES;
        reader_report_all(&r, r.result.end_lsn);
        r.result.use_lost_file = true;
    }
    if (error == OK) {
        *ret_recovered = r.result;
    }
    return error;
}
