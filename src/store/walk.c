/* Lane: from batch header to batch header of a segment file, through a window that serves many small batches with one
 * read. Only headers are judged on the way (layout, dense offsets, room); the CRC of a batch is checked when it is
 * served, or when somebody asks.
 *
 * One rotten header must not hide what is good behind it. If its length is right, it leads to a whole batch with an
 * offset that can stand there. If not, that one is looked for byte by byte, and must lead on to the end: what merely
 * looks like a batch may be the payload of the one that is lost. So a second rotten length hides what lies between. */
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "store/impl.h"

#define LENGTH_AT         8u
#define MAGIC_AT          16u
#define MAGIC             2
#define CRC_FROM_BYTES    21u
#define SEEK_TRIES_MAX    64u /* bytes that looked like a batch and were none */
#define SEEK_FAILED_READS 16u /* a disk that reads nothing at all takes its time for each */

void walk__begin(struct walk *walk, struct files *files, struct segment *segment, uint64_t position, uint64_t limit)
{
    ASSERT(segment->file.handle != NULL);
    ASSERT(position <= limit);
    *walk = (struct walk){
        .files = files,
        .segment = segment,
        .position = position,
        .limit = limit,
        .expected_offset = position == 0 ? segment->base_offset : -1,
        .last_position = UINT64_MAX,
    };
}

bool walk__header_is_sane(const struct segment *segment, const struct batch_header *header, uint64_t room_bytes)
{
    return header->base_offset >= segment->base_offset && header->last_offset_delta >= 0 &&
           header->base_offset - segment->base_offset + header->last_offset_delta <= INT32_MAX &&
           header->leader_epoch >= 0 && header->size_bytes <= BATCH_BYTES_MAX && header->size_bytes <= room_bytes;
}

static enum err walk__fill(struct walk *walk, uint64_t bytes_max)
{
    struct disk *disk = walk->files->disk;
    uint64_t window_end = walk->window_position + walk->window_bytes;
    if (walk->position >= walk->window_position && walk->position + BATCH_HEADER_BYTES <= window_end) {
        return OK;
    }
    uint64_t size = walk->limit - walk->position;
    size_t got;
    enum err error = disk->ops->read(disk, walk->segment->file.handle, walk->files->window,
                                     size < bytes_max ? size : bytes_max, walk->position, &got);
    if (error != OK) {
        return error;
    }
    walk->window_position = walk->position;
    walk->window_bytes = got;
    return OK;
}

enum err walk__next(struct walk *walk, struct batch_header *ret_header, uint64_t *ret_position)
{
    struct batch_header header;
    if (walk->position == walk->limit) {
        return ERR_CLOSED;
    }
    enum err error = walk__fill(walk, WALK_WINDOW_BYTES);
    if (error != OK) {
        return error;
    }
    uint64_t skip = walk->position - walk->window_position;
    if (batch_parse(walk->files->window + skip, walk->window_bytes - skip, &header) != OK ||
        !walk__header_is_sane(walk->segment, &header, walk->limit - walk->position) ||
        (walk->expected_offset >= 0 && header.base_offset != walk->expected_offset)) {
        return ERR_CORRUPT;
    }
    *ret_header = header;
    *ret_position = walk->last_position = walk->position;
    walk->last = header;
    walk->position += header.size_bytes;
    walk->expected_offset = header.base_offset + header.last_offset_delta + 1;
    return OK;
}

enum err walk__check_crc(struct walk *walk, uint64_t position, const struct batch_header *header)
{
    struct files *files = walk->files;
    uint32_t crc = 0;
    if (position >= walk->window_position &&
        position + header->size_bytes <= walk->window_position + walk->window_bytes) {
        const uint8_t *data = files->window + (position - walk->window_position);
        crc = crc32c(0, data + CRC_FROM_BYTES, header->size_bytes - CRC_FROM_BYTES);
        return crc == header->crc ? OK : ERR_CORRUPT;
    }
    for (uint64_t at = CRC_FROM_BYTES; at < header->size_bytes;) {
        uint64_t left = header->size_bytes - at;
        size_t size = left < STORE_STAGING_BYTES ? (size_t)left : STORE_STAGING_BYTES;
        size_t got = 0;
        enum err error =
            files->disk->ops->read(files->disk, walk->segment->file.handle, files->staging, size, position + at, &got);
        if (error != OK || got != size) {
            return error != OK ? error : ERR_CORRUPT;
        }
        crc = crc32c(crc, files->staging, size);
        at += size;
    }
    return crc == header->crc ? OK : ERR_CORRUPT;
}

/* --- behind damage --- */

static const uint8_t *walk__header(struct walk *walk, enum err *ret_error)
{
    *ret_error = walk__fill(walk, WALK_WINDOW_BYTES);
    uint64_t skip = walk->position - walk->window_position;
    if (*ret_error == OK && walk->window_bytes - skip < BATCH_HEADER_BYTES) {
        *ret_error = ERR_CLOSED; /* the limit, or the file is shorter */
    }
    return *ret_error == OK ? walk->files->window + skip : NULL;
}

/* Whether the bytes at walk->position are a whole batch that may stand behind a lost one. */
static bool walk__is_batch(struct walk *walk, const uint8_t *data, int64_t end_offset)
{
    struct batch_header header;
    int64_t base_offset = (int64_t)load_be64(data);
    if (base_offset <= walk->expected_offset || (end_offset >= 0 && base_offset >= end_offset) ||
        batch_parse(data, BATCH_HEADER_BYTES, &header) != OK ||
        !walk__header_is_sane(walk->segment, &header, walk->limit - walk->position) ||
        (end_offset >= 0 && base_offset + header.last_offset_delta >= end_offset)) {
        return false;
    }
    return walk__check_crc(walk, walk->position, &header) == OK;
}

/* Over a bad batch by its length, which is believed if a whole batch follows, or nothing. */
static bool walk__jump(struct walk *walk, int64_t end_offset)
{
    uint64_t position = walk->position;
    enum err error;
    const uint8_t *data = walk__header(walk, &error);
    uint64_t size = data != NULL ? (uint64_t)load_be32(data + LENGTH_AT) + LENGTH_AT + sizeof(uint32_t) : 0;
    if (size < BATCH_HEADER_BYTES || size > walk->limit - position) {
        return false;
    }
    walk->position += size;
    if (walk->position == walk->limit) {
        walk->expected_offset = end_offset;
        return true;
    }
    data = walk__header(walk, &error);
    if (data == NULL || !walk__is_batch(walk, data, end_offset)) {
        walk->position = position;
        return false;
    }
    walk->expected_offset = (int64_t)load_be64(data);
    return true;
}

/* What was found byte by byte may be the payload of the lost batch, which a producer chose: only a run of batches up to
 * the limit is the log. */
static bool walk__is_anchored(const struct walk *walk, int64_t end_offset)
{
    struct walk probe = *walk;
    struct batch_header header;
    uint64_t position;
    enum err error;
    probe.expected_offset = -1;
    probe.window_bytes = 0;
    do {
        error = walk__next(&probe, &header, &position);
    } while (error == OK || (error != ERR_CLOSED && walk__jump(&probe, end_offset)));
    return error == ERR_CLOSED && (end_offset < 0 || probe.expected_offset == end_offset);
}

/* A block that cannot be read is passed over, whatever begins in it. */
static enum err walk__pass_block(struct walk *walk)
{
    uint64_t block_end = walk->position - walk->position % STORE_BLOCK_BYTES + STORE_BLOCK_BYTES;
    enum err error = walk__fill(walk, block_end - walk->position + BATCH_HEADER_BYTES);
    if (error == ERR_IO) {
        walk->window_bytes = 0;
        walk->position = block_end;
        return ERR_AGAIN;
    }
    return error == OK ? ERR_AGAIN : error;
}

/* To the next byte of the window, at or behind data, where a batch may begin: most bytes need no closer look. NULL: the
 * window is through. */
static const uint8_t *walk__skip(struct walk *walk, const uint8_t *data)
{
    uint64_t window_end = walk->window_position + walk->window_bytes;
    uint64_t end = window_end < walk->limit ? window_end : walk->limit;
    uint64_t places = end - walk->position - BATCH_HEADER_BYTES + 1;
    const uint8_t *magic = memchr(data + MAGIC_AT, MAGIC, places);
    walk->position += magic != NULL ? (uint64_t)(magic - MAGIC_AT - data) : places;
    return magic != NULL ? magic - MAGIC_AT : NULL;
}

static enum err walk__search(struct walk *walk, int64_t end_offset)
{
    uint32_t tries = 0, failed_reads = 0;
    while (walk->position + BATCH_HEADER_BYTES <= walk->limit && tries < SEEK_TRIES_MAX) {
        enum err error;
        const uint8_t *data = walk__header(walk, &error);
        if (error == ERR_CLOSED) {
            break;
        }
        if (error == ERR_IO && ++failed_reads < SEEK_FAILED_READS) {
            error = walk__pass_block(walk);
        }
        if (error == ERR_AGAIN) {
            continue;
        }
        if (error != OK) {
            return error;
        }
        data = walk__skip(walk, data);
        if (data == NULL) {
            continue;
        }
        int64_t base_offset = (int64_t)load_be64(data);
        if (walk__is_batch(walk, data, end_offset)) {
            tries++;
            bool is_anchored = walk__is_anchored(walk, end_offset);
            walk->window_bytes = 0; /* it was shared */
            if (is_anchored) {
                walk->expected_offset = base_offset;
                return OK;
            }
        }
        walk->position++;
    }
    if (tries == SEEK_TRIES_MAX) {
        return ERR_CORRUPT;
    }
    walk->position = walk->limit;
    walk->expected_offset = end_offset;
    return ERR_CLOSED;
}

enum err walk__seek(struct walk *walk, int64_t end_offset, struct walk_hole *ret_hole)
{
    if (walk->last_position != UINT64_MAX && walk__check_crc(walk, walk->last_position, &walk->last) != OK) {
        walk->position = walk->last_position; /* it lied about where it ends */
        walk->expected_offset = walk->last.base_offset;
    }
    walk->last_position = UINT64_MAX;
    *ret_hole = (struct walk_hole){.position = walk->position, .from_offset = walk->expected_offset};
    if (walk->position < walk->limit && walk__jump(walk, end_offset)) {
        return walk->position < walk->limit ? OK : ERR_CLOSED;
    }
    walk->position++;
    return walk__search(walk, end_offset);
}
