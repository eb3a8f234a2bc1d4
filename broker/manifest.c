/* The two structs say the same; here is the only place that knows both. */
#include "broker/manifest.h"

struct meta_segment manifest_to_meta(const struct segment_row *row)
{
    return (struct meta_segment){.base_offset = row->base_offset,
                                 .end_offset = row->end_offset,
                                 .size_bytes = row->size_bytes,
                                 .generation = row->generation,
                                 .chain = row->chain,
                                 .max_timestamp = row->max_timestamp,
                                 .created_clock_ms = row->created_clock_ms,
                                 .newest_ms = row->newest_ms,
                                 .tail_size = row->tail_size,
                                 .tail = row->tail};
}

struct segment_row manifest_from_meta(const struct meta_segment *segment)
{
    return (struct segment_row){.base_offset = segment->base_offset,
                                .end_offset = segment->end_offset,
                                .size_bytes = segment->size_bytes,
                                .generation = segment->generation,
                                .chain = segment->chain,
                                .max_timestamp = segment->max_timestamp,
                                .created_clock_ms = segment->created_clock_ms,
                                .newest_ms = segment->newest_ms,
                                .tail_size = segment->tail_size,
                                .tail = segment->tail};
}
