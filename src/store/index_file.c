/* Kafka's .index and .timeindex files of a finished segment: written when it is sealed, searched on the disk, rebuilt
 * when they are missing or wrong. Nothing depends on them: each answer is checked against the batch it points to.
 *
 *   .index      {i32 relative last offset, i32 position}        big-endian, rising
 *   .timeindex  {i64 timestamp, i32 relative last offset} */
#include <stdlib.h>

#include "base/mem.h"
#include "base/point.h"
#include "base/endian.h"
#include "store/impl.h"

#define INDEX_ENTRY_BYTES 8u
#define TIME_ENTRY_BYTES  12u

enum err index_file__write(struct files *files, const struct segment *segment, const struct segment_index *index)
{
    char path[STORE_PATH_BYTES];
    size_t size = (size_t)index->entries_count * INDEX_ENTRY_BYTES;
    size_t times_size = (size_t)index->times_count * TIME_ENTRY_BYTES;
    uint8_t *data = mem_zeroed(1, (size > times_size ? size : times_size) + 1);
    for (uint32_t i = 0; i < index->entries_count; i++) {
        store_be32(data + i * INDEX_ENTRY_BYTES, index->entries[i].relative_last);
        store_be32(data + i * INDEX_ENTRY_BYTES + 4, index->entries[i].position);
    }
    files__path(files, segment, ".index", path);
    enum err error = files__write_whole(files, path, data, size);
    for (uint32_t i = 0; i < index->times_count; i++) {
        store_be64(data + i * TIME_ENTRY_BYTES, (uint64_t)index->times[i].timestamp);
        store_be32(data + i * TIME_ENTRY_BYTES + 8, index->times[i].relative_last);
    }
    if (error == OK) {
        files__path(files, segment, ".timeindex", path);
        error = files__write_whole(files, path, data, times_size);
    }
    free(data);
    return error;
}

/* --- searching --- */

/* The two entries around a key. */
struct neighbours {
    uint64_t count; /* entries in the file */
    bool has_before, has_after;
    uint8_t before[TIME_ENTRY_BYTES], after[TIME_ENTRY_BYTES];
};

/* Halves the file between entries for which `is_before` holds, which come first, and the others. ERR_FORMAT: odd size.
 */
static enum err search(struct files *files, const struct segment *segment, const char *suffix, size_t entry_bytes,
                       bool (*is_before)(const uint8_t *entry, int64_t key), int64_t key, struct neighbours *found)
{
    char path[STORE_PATH_BYTES];
    struct disk *disk = files->disk;
    struct disk_file *handle;
    uint64_t size;
    *found = (struct neighbours){0};
    files__path(files, segment, suffix, path);
    enum err error = disk->ops->open(disk, path, DISK_READ, &handle);
    if (error != OK) {
        return error;
    }
    error = disk->ops->size(disk, handle, &size);
    if (error == OK && size % entry_bytes != 0) {
        error = ERR_FORMAT;
    }
    found->count = error == OK ? size / entry_bytes : 0;
    uint64_t low = 0;
    uint64_t high = found->count;
    while (error == OK && low < high) {
        uint8_t probe[TIME_ENTRY_BYTES];
        size_t got = 0;
        uint64_t middle = low + (high - low) / 2;
        error = disk->ops->read(disk, handle, probe, entry_bytes, middle * entry_bytes, &got);
        if (error == OK && got != entry_bytes) {
            error = ERR_FORMAT;
        } else if (error == OK && is_before(probe, key)) {
            memcpy(found->before, probe, entry_bytes);
            found->has_before = true;
            low = middle + 1;
        } else if (error == OK) {
            memcpy(found->after, probe, entry_bytes);
            found->has_after = true;
            high = middle;
        }
    }
    disk->ops->close(disk, handle);
    return error;
}

static bool is_below(const uint8_t *entry, int64_t relative)
{
    return (int64_t)load_be32(entry) < relative;
}

static bool is_older(const uint8_t *entry, int64_t timestamp_ms)
{
    return (int64_t)load_be64(entry) < timestamp_ms;
}

/* What an entry says holds: at its position stands the header of a batch that ends with its offset. */
static bool entry_is_true(struct files *files, struct segment *segment, uint64_t size_bytes, const uint8_t *entry,
                          struct batch_header *ret_header)
{
    struct walk walk;
    uint64_t position = load_be32(entry + 4);
    if (position >= size_bytes) {
        return false;
    }
    walk__begin(&walk, files, segment, position, size_bytes);
    return walk__next(&walk, ret_header, &position) == OK &&
           ret_header->base_offset + ret_header->last_offset_delta == segment->base_offset + (int64_t)load_be32(entry);
}

enum err index_file__find(struct files *files, struct segment *segment, uint64_t size_bytes, int64_t offset,
                          uint64_t *ret_position, uint64_t *ret_above)
{
    struct neighbours found;
    struct batch_header header;
    enum err error =
        search(files, segment, ".index", INDEX_ENTRY_BYTES, is_below, offset - segment->base_offset, &found);
    if (error == OK && found.count == 0) { /* nothing to index in a small segment, or a file that a crash left empty */
        error = ERR_NO_FILE;
    }
    if (error != OK) {
        return error;
    }
    /* The entry above first: its batch may hold the offset itself, whatever damage lies before it. */
    bool has_above = found.has_after && entry_is_true(files, segment, size_bytes, found.after, &header);
    *ret_above = UINT64_MAX;
    if (has_above && header.base_offset <= offset) {
        *ret_position = load_be32(found.after + 4);
        return OK;
    }
    if (has_above) {
        *ret_above = load_be32(found.after + 4);
    }
    if (!found.has_before) {
        *ret_position = 0;
        return OK;
    }
    if (!entry_is_true(files, segment, size_bytes, found.before, &header)) {
        return ERR_FORMAT;
    }
    *ret_position = load_be32(found.before + 4);
    return OK;
}

enum err index_file__find_time(struct files *files, struct segment *segment, int64_t timestamp_ms,
                               struct time_entry *ret_entry)
{
    struct neighbours found;
    enum err error = search(files, segment, ".timeindex", TIME_ENTRY_BYTES, is_older, timestamp_ms, &found);
    if (error != OK || !found.has_before) {
        return error != OK ? error : ERR_NO_FILE;
    }
    *ret_entry = (struct time_entry){.timestamp = (int64_t)load_be64(found.before),
                                     .relative_last = load_be32(found.before + 8)};
    return OK;
}

/* --- building --- */

enum err index_file__scan(struct files *files, struct segment *segment, uint64_t limit, int64_t end_offset,
                          struct segment_index *index)
{
    struct walk walk;
    struct walk_hole hole;
    struct batch_header header;
    uint64_t position;
    enum err error = OK;
    index__init(index, segment->base_offset);
    walk__begin(&walk, files, segment, 0, limit);
    while (error == OK) {
        error = walk__next(&walk, &header, &position);
        if (error == OK) {
            int64_t relative_last = header.base_offset + header.last_offset_delta - segment->base_offset;
            index__add(index, (uint32_t)relative_last, position, header.size_bytes, header.max_timestamp);
        } else if (error == ERR_CORRUPT || error == ERR_IO || walk.expected_offset != end_offset) {
            error = walk__seek(&walk, end_offset, &hole);
            index__hole(index, hole.position, (uint32_t)(hole.from_offset - segment->base_offset));
            if (hole.position == limit) {
                error = ERR_CORRUPT; /* all is whole, and yet it is not what it should be */
            }
        }
    }
    index__finish(index);
    return error == ERR_CLOSED ? OK : error;
}

void index_file__seal(struct files *files, struct segment *segment)
{
    struct segment_index scanned;
    const struct segment_index *index = &segment->index;
    bool is_whole = segment->index.covered_from == 0;
    index__init(&scanned, segment->base_offset);
    enum err error = files__trim(files, segment, segment->size_bytes);
    if (error == OK && !is_whole) {
        error = index_file__scan(files, segment, segment->size_bytes, segment->end_offset, &scanned);
        index = &scanned;
    }
    if (error == OK) {
        point(files->trace, POINT_SEGMENT_SEAL);
        error = index_file__write(files, segment, index);
    }
    index__clear(&scanned);
    if (error != OK) {
        trace_warn(files->trace, "segment_not_sealed", "group=%llu base=%lld error=%s",
                   (unsigned long long)segment->log->group, (long long)segment->base_offset, err_name(error));
    }
}
