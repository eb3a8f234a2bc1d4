/* The sparse index of one segment in memory. The rules are those of Kafka's LogSegment.append, so that the files
 * written from it at the roll are what Kafka's own tools expect: an entry once more than 4 KiB came since the last one,
 * keyed by the last offset of the batch, and a time entry beside it when the largest timestamp so far has grown.
 *
 * After a restart the active segment's index begins where appending goes on; what lies before is scanned when a read
 * needs it. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "store/impl.h"

#define ENTRIES_MIN 64

void index__init(struct segment_index *index, int64_t base_offset)
{
    *index = (struct segment_index){.max_timestamp = INT64_MIN, .max_is_listed = true, .covered_offset = base_offset};
}

void index__clear(struct segment_index *index)
{
    free(index->entries);
    free(index->times);
    index->entries = NULL;
    index->times = NULL;
    index->entries_count = index->entries_capacity = 0;
    index->times_count = index->times_capacity = 0;
}

static void *grown(void *array, uint32_t count, uint32_t *capacity, size_t item_bytes)
{
    if (count < *capacity) {
        return array;
    }
    *capacity = *capacity > 0 ? 2 * *capacity : ENTRIES_MIN;
    array = mem_grow(array, *capacity * item_bytes);
    return array;
}

static void index__list_time(struct segment_index *index)
{
    if (index->max_is_listed || index->has_hole) {
        return;
    }
    index->times = grown(index->times, index->times_count, &index->times_capacity, sizeof index->times[0]);
    index->times[index->times_count++] =
        (struct time_entry){.timestamp = index->max_timestamp, .relative_last = index->max_relative};
    index->max_is_listed = true;
}

void index__add(struct segment_index *index, uint32_t relative_last, uint64_t position, uint32_t size_bytes,
                int64_t max_timestamp)
{
    ASSERT(position <= INT32_MAX && relative_last <= INT32_MAX);
    if (max_timestamp > index->max_timestamp) {
        index->max_timestamp = max_timestamp;
        index->max_relative = relative_last;
        index->max_is_listed = false;
    }
    if (index->bytes_since > SEGMENT_INDEX_INTERVAL_BYTES) {
        index->entries =
            grown(index->entries, index->entries_count, &index->entries_capacity, sizeof index->entries[0]);
        index->entries[index->entries_count++] =
            (struct index_entry){.relative_last = relative_last, .position = (uint32_t)position};
        index__list_time(index);
        index->bytes_since = 0;
    }
    index->bytes_since += size_bytes;
}

void index__finish(struct segment_index *index)
{
    index__list_time(index);
}

void index__hole(struct segment_index *index, uint64_t position, uint32_t relative_from)
{
    while (index->entries_count > 0 && index->entries[index->entries_count - 1].position >= position) {
        index->entries_count--;
    }
    while (index->times_count > 0 && index->times[index->times_count - 1].relative_last >= relative_from) {
        index->times_count--;
    }
    index->has_hole = true;
    index->bytes_since = SEGMENT_INDEX_INTERVAL_BYTES + 1;
}

bool index__find(const struct segment_index *index, int64_t base_offset, int64_t offset, uint64_t *ret_position,
                 uint64_t *ret_above)
{
    uint32_t low = 0;
    uint32_t high = index->entries_count;
    while (low < high) { /* entries before low are below offset, entries from high on are not */
        uint32_t middle = low + (high - low) / 2;
        if (base_offset + index->entries[middle].relative_last < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_above = low < index->entries_count ? index->entries[low].position : UINT64_MAX;
    if (low > 0) {
        *ret_position = index->entries[low - 1].position;
        return true;
    }
    if (offset >= index->covered_offset) {
        *ret_position = index->covered_from;
        return true;
    }
    return false;
}

bool index__find_time(const struct segment_index *index, int64_t base_offset, int64_t timestamp_ms, int64_t *ret_offset)
{
    uint32_t low = 0;
    uint32_t high = index->times_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (index->times[middle].timestamp < timestamp_ms) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return false;
    }
    *ret_offset = base_offset + index->times[low - 1].relative_last;
    return true;
}

void index__prepend(struct segment_index *index, struct segment_index *older)
{
    index__finish(older);
    uint32_t entries_count = older->entries_count + index->entries_count;
    uint32_t times_count = older->times_count + index->times_count;
    older->entries = mem_grow(older->entries, (entries_count + 1) * sizeof older->entries[0]);
    older->times = mem_grow(older->times, (times_count + 1) * sizeof older->times[0]);
    if (index->entries_count > 0) {
        memcpy(older->entries + older->entries_count, index->entries, index->entries_count * sizeof index->entries[0]);
    }
    if (index->times_count > 0) {
        memcpy(older->times + older->times_count, index->times, index->times_count * sizeof index->times[0]);
    }
    index__clear(index);
    index->entries = older->entries;
    index->entries_count = entries_count;
    index->entries_capacity = entries_count + 1;
    index->times = older->times;
    index->times_count = times_count;
    index->times_capacity = times_count + 1;
    index->covered_from = 0;
    index->covered_offset = INT64_MIN;
    older->entries = NULL;
    older->times = NULL;
    index__clear(older);
}
