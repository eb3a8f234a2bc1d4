/* Lane: from batch header to batch header of a segment file, through a window that serves many small batches with one
 * read. Only headers are judged here (layout, dense offsets, room); the CRC of a batch is checked when it is served. */
#include "base/assert.h"
#include "store/impl.h"

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
    };
}

bool walk__header_is_sane(const struct segment *segment, const struct batch_header *header, uint64_t room_bytes)
{
    return header->base_offset >= segment->base_offset && header->last_offset_delta >= 0 &&
           header->base_offset - segment->base_offset + header->last_offset_delta <= INT32_MAX &&
           header->leader_epoch >= 0 && header->size_bytes <= room_bytes;
}

static enum err walk__fill(struct walk *walk)
{
    struct disk *disk = walk->files->disk;
    uint64_t window_end = walk->window_position + walk->window_bytes;
    if (walk->position >= walk->window_position && walk->position + BATCH_HEADER_BYTES <= window_end) {
        return OK;
    }
    uint64_t size = walk->limit - walk->position;
    size_t got;
    enum err error = disk->ops->read(disk, walk->segment->file.handle, walk->files->window,
                                     size < WALK_WINDOW_BYTES ? size : WALK_WINDOW_BYTES, walk->position, &got);
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
    enum err error = walk__fill(walk);
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
    *ret_position = walk->position;
    walk->position += header.size_bytes;
    walk->expected_offset = header.base_offset + header.last_offset_delta + 1;
    return OK;
}
