/* From batch to batch, and behind damage to the next batch that can be believed.
 *
 * A batch counts when its CRC fits and it begins at the offset that follows. Behind a bad batch whose header makes
 * sense the next one is looked for where the header says; else at every byte, where a batch must be whole, of an offset
 * that may come, and followed by another one or the end, so that no payload passes for a batch by chance. */
#include "client/inspect_scan.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "base/limits.h"

#define WINDOW_BYTES (BATCH_BYTES_MAX + (1u << 20))
#define AT_MAGIC     16u
#define MAGIC        2u

struct scan {
    const struct scan_options *options;
    struct scan_result result;
    struct disk_file *file;
    uint64_t limit; /* of the bytes that count */
    uint8_t *window;
    uint64_t window_position;
    size_t window_bytes;
};

/* The tail over what was read; in front of it there may be a hole, as a start leaves it in a file that is too short. */
static void scan_lay_tail(struct scan *scan, size_t size)
{
    const struct scan_options *options = scan->options;
    uint64_t begin = options->bytes_max - options->tail_size;
    uint64_t end = scan->window_position + size;
    if (options->tail_size == 0 || end <= begin)
        return;
    uint64_t from = scan->window_position > begin ? scan->window_position : begin;
    if (scan->window_position + scan->window_bytes < from)
        memset(scan->window + scan->window_bytes, 0, (size_t)(from - scan->window_position) - scan->window_bytes);
    memcpy(scan->window + (from - scan->window_position), options->tail + (from - begin), (size_t)(end - from));
    scan->window_bytes = size;
}

/* The bytes at position, *ret_bytes of them: at least `want` unless the limit comes first. */
static enum err scan_fetch(struct scan *scan, uint64_t position, size_t want, const uint8_t **ret_data,
                           size_t *ret_bytes)
{
    uint64_t room = scan->limit - position;
    want = want < room ? want : (size_t)room;
    if (position < scan->window_position || position + want > scan->window_position + scan->window_bytes) {
        size_t got = 0;
        size_t size = room < WINDOW_BYTES ? (size_t)room : WINDOW_BYTES;
        struct disk *disk = scan->options->disk;
        enum err error =
            scan->file != NULL ? disk->ops->read(disk, scan->file, scan->window, size, position, &got) : OK;
        if (error != OK)
            return error;
        scan->window_position = position;
        scan->window_bytes = got;
        scan_lay_tail(scan, size);
    }
    *ret_data = scan->window + (position - scan->window_position);
    *ret_bytes = scan->window_bytes - (size_t)(position - scan->window_position);
    return OK;
}

static bool scan_fits(const struct scan *scan, const struct batch_header *header, uint64_t position)
{
    return header->last_offset_delta >= 0 && header->leader_epoch >= 0 &&
           header->size_bytes <= scan->limit - position &&
           header->base_offset <= scan->options->end_offset - header->last_offset_delta - 1;
}

/* OK: a header that makes sense stands here; its batch may be bad. */
static enum err scan_header(struct scan *scan, uint64_t position, struct batch_header *ret_header)
{
    const uint8_t *data;
    size_t bytes = 0;
    if (position >= scan->limit)
        return ERR_NO_FILE;
    enum err error = scan_fetch(scan, position, BATCH_HEADER_BYTES, &data, &bytes);
    if (error != OK)
        return error;
    return batch_parse(data, bytes, ret_header) == OK && scan_fits(scan, ret_header, position) ? OK : ERR_NO_FILE;
}

static enum err scan_crc(struct scan *scan, uint64_t position, const struct batch_header *header, bool *ret_good)
{
    const uint8_t *data;
    size_t bytes = 0;
    enum err error = scan_fetch(scan, position, header->size_bytes, &data, &bytes);
    if (error == OK)
        *ret_good = bytes >= header->size_bytes && batch_crc_ok(data, header->size_bytes);
    return error;
}

/* Behind a batch: the end, or the header of the batch with the offset that follows. */
static enum err scan_goes_on(struct scan *scan, uint64_t position, int64_t offset, bool *ret_good)
{
    struct batch_header header;
    if (offset == scan->options->end_offset || position == scan->limit) {
        *ret_good = true;
        return OK;
    }
    enum err error = scan_header(scan, position, &header);
    *ret_good = error == OK && header.base_offset == offset;
    return error == ERR_NO_FILE ? OK : error;
}

/* Is there a batch to go on with? */
static enum err scan_try(struct scan *scan, uint64_t position, int64_t offset_min, struct batch_header *ret_header,
                         bool *ret_good)
{
    enum err error = scan_header(scan, position, ret_header);
    *ret_good = false;
    if (error != OK || ret_header->base_offset < offset_min)
        return error == ERR_NO_FILE ? OK : error;
    error = scan_crc(scan, position, ret_header, ret_good);
    if (error == OK && *ret_good)
        error = scan_goes_on(scan, position + ret_header->size_bytes,
                             ret_header->base_offset + ret_header->last_offset_delta + 1, ret_good);
    return error;
}

/* The first batch behind the bad bytes at position; *ret_position = limit if there is none. */
static enum err scan_resume(struct scan *scan, uint64_t position, int64_t offset, const struct batch_header *bad,
                            uint64_t *ret_position, int64_t *ret_offset)
{
    struct batch_header header;
    bool good = false;
    if (bad != NULL) {
        *ret_position = position + bad->size_bytes;
        *ret_offset = bad->base_offset + bad->last_offset_delta + 1;
        enum err error = scan_goes_on(scan, *ret_position, *ret_offset, &good);
        if (error != OK || good)
            return error;
    }
    for (uint64_t at = position + 1; at + BATCH_HEADER_BYTES <= scan->limit; at++) {
        const uint8_t *data;
        size_t bytes = 0;
        enum err error = scan_fetch(scan, at, BATCH_HEADER_BYTES, &data, &bytes);
        if (error != OK || bytes < BATCH_HEADER_BYTES)
            return error != OK ? error : ERR_IO;
        if (data[AT_MAGIC] != MAGIC)
            continue;
        error = scan_try(scan, at, offset + 1, &header, &good);
        if (error != OK)
            return error;
        if (good) {
            *ret_position = at;
            *ret_offset = header.base_offset;
            return OK;
        }
    }
    *ret_position = scan->limit;
    *ret_offset = scan->options->end_offset;
    return OK;
}

static void scan_lose(struct scan *scan, const struct scan_loss *loss)
{
    scan->result.losses++;
    scan->result.lost_offsets += loss->end_offset - loss->first_offset;
    scan->options->loss(scan->options->context, loss);
}

static void scan_take(struct scan *scan, uint64_t position, const struct batch_header *header, const uint8_t *data)
{
    scan->result.batches++;
    scan->result.records += (uint64_t)header->records_count;
    scan->result.chain = crc32c(scan->result.chain, data, BATCH_HEADER_BYTES);
    if (header->max_timestamp > scan->result.max_timestamp)
        scan->result.max_timestamp = header->max_timestamp;
    scan->result.size_bytes = position + header->size_bytes;
    scan->options->batch(scan->options->context, position, header, data);
}

/* One batch, or one loss. */
static enum err scan_step(struct scan *scan, uint64_t *io_position, int64_t *io_offset)
{
    struct batch_header header;
    const uint8_t *data;
    size_t bytes = 0;
    bool good = false;
    const char *why = "no batch";
    enum err error = scan_header(scan, *io_position, &header);
    bool makes_sense = error == OK && header.base_offset == *io_offset;
    if (makes_sense) {
        why = "wrong crc";
        error = scan_crc(scan, *io_position, &header, &good);
    } else if (error == OK) {
        why = "wrong offset";
    }
    if (error != OK && error != ERR_NO_FILE)
        return error;
    if (good) {
        error = scan_fetch(scan, *io_position, header.size_bytes, &data, &bytes);
        if (error != OK)
            return error;
        scan_take(scan, *io_position, &header, data);
        *io_position += header.size_bytes;
        *io_offset += header.last_offset_delta + 1;
        return OK;
    }
    if (!makes_sense && scan->options->end_offset == INT64_MAX)
        return ERR_NO_FILE; /* nobody knows that there must be more */
    struct scan_loss loss = {
        .position = *io_position, .first_offset = *io_offset, .header = makes_sense ? &header : NULL, .why = why};
    error = scan_resume(scan, *io_position, *io_offset, loss.header, io_position, io_offset);
    if (error == OK) {
        loss.bytes = *io_position - loss.position;
        loss.end_offset = *io_offset;
        scan_lose(scan, &loss);
    }
    return error;
}

static enum err scan_run(struct scan *scan)
{
    uint64_t position = 0;
    int64_t offset = scan->options->base_offset;
    enum err error = OK;
    while (error == OK && position < scan->limit && offset < scan->options->end_offset)
        error = scan_step(scan, &position, &offset);
    if (error != OK && error != ERR_NO_FILE)
        return error;
    if (scan->options->end_offset != INT64_MAX && offset < scan->options->end_offset) {
        scan_lose(scan, &(struct scan_loss){.position = position,
                                            .first_offset = offset,
                                            .end_offset = scan->options->end_offset,
                                            .why = "file ends"});
        offset = scan->options->end_offset;
    }
    scan->result.end_offset = offset;
    return OK;
}

enum err scan_segment(const struct scan_options *options, struct scan_result *ret_result)
{
    struct scan scan = {.options = options, .result = {.max_timestamp = INT64_MIN}};
    struct disk *disk = options->disk;
    enum err error = disk->ops->open(disk, options->path, DISK_READ, &scan.file);
    if (error != OK && error != ERR_NO_FILE)
        return error;
    if (error == OK)
        error = disk->ops->size(disk, scan.file, &scan.limit);
    scan.result.is_missing = error == ERR_NO_FILE;
    if (error == OK || error == ERR_NO_FILE) {
        bool has_tail = options->tail_size > 0 && (error == OK || options->tail_size == options->bytes_max);
        scan.limit = scan.limit < options->bytes_max && !has_tail ? scan.limit : options->bytes_max;
        scan.window = malloc(WINDOW_BYTES);
        error = scan.window != NULL ? scan_run(&scan) : ERR_NO_MEMORY;
        free(scan.window);
    }
    if (scan.file != NULL)
        disk->ops->close(disk, scan.file);
    if (error == OK)
        *ret_result = scan.result;
    return error;
}
