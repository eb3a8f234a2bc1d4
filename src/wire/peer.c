/* Rows of Raft messages in and out of frames. What is checked here is form; what a row means is judged by the group it
 * is for. */
#include "wire/peer.h"

#include "base/assert.h"
#include "base/crc32c.h"

_Static_assert(sizeof(((RaftRow *)0)->run_terms) == RAFT_RUNS_MAX * sizeof(uint64_t), "peer.options, limits.h");
_Static_assert(sizeof(((RaftRow *)0)->entry_sizes) == RAFT_APPEND_ENTRIES_MAX * sizeof(uint32_t),
               "peer.options and limits.h disagree");
_Static_assert(sizeof(((RaftRow *)0)->entry_types.bytes) == RAFT_APPEND_ENTRIES_MAX,
               "peer.options and limits.h disagree");

/* --- writing --- */

void peer_builder_begin(struct peer_builder *b, uint8_t *head, uint32_t capacity)
{
    ASSERT(capacity >= FRAME_HEADER_BYTES + CODEC_ROW_BYTES_MAX && capacity <= PEER_HEAD_BYTES);
    b->head = head;
    b->capacity = capacity;
    b->size = FRAME_HEADER_BYTES;
    b->rows = b->payload_bytes = b->parts_count = 0;
}

static bool builder_has_room(const struct peer_builder *b, const struct slice *parts, uint32_t parts_count)
{
    uint64_t bytes = b->payload_bytes;
    for (uint32_t i = 0; i < parts_count; i++) {
        bytes += parts[i].size;
    }
    return bytes <= FRAME_PAYLOAD_BYTES_MAX && parts_count <= SEND_PARTS_MAX - b->parts_count;
}

bool peer_builder_add(struct peer_builder *b, RaftRow *row, const struct slice *parts, uint32_t parts_count)
{
    ASSERT(parts_count <= RAFT_APPEND_ENTRIES_MAX && row->entry_types.size == parts_count);
    if (!builder_has_room(b, parts, parts_count)) {
        ASSERT(b->rows > 0);
        return false;
    }
    uint32_t crc = 0;
    for (uint32_t i = 0; i < parts_count; i++) {
        row->entry_sizes[i] = parts[i].size;
        crc = crc32c(crc, parts[i].data, parts[i].size);
    }
    row->entry_sizes_count = (pb_size_t)parts_count;
    row->payload_crc = crc;
    if (codec_append_row(b->head, b->capacity, ROW_RAFT, row, &b->size) != OK) {
        ASSERT(b->rows > 0);
        return false;
    }
    for (uint32_t i = 0; i < parts_count; i++) {
        if (parts[i].size > 0) {
            b->parts[b->parts_count++] = parts[i];
            b->payload_bytes += parts[i].size;
        }
    }
    b->rows++;
    return true;
}

void peer_builder_finish(struct peer_builder *b)
{
    ASSERT(b->rows > 0);
    frame_write_header(b->head, FRAME_RAFT, 0, b->head + FRAME_HEADER_BYTES, b->size - FRAME_HEADER_BYTES,
                       b->payload_bytes);
}

/* --- reading --- */

void peer_reader_begin(struct peer_reader *reader, const struct frame *frame)
{
    *reader = (struct peer_reader){
        .rows = {frame->proto, frame->proto_size}, .payload = frame->payload, .payload_left = frame->payload_size};
}

bool peer_reader_is_done(const struct peer_reader *reader)
{
    return reader->rows.size == 0;
}

static bool runs_cover_entries(const RaftRow *row)
{
    uint64_t entries = 0;
    if (row->run_terms_count != row->run_counts_count || row->entry_types.size != row->entry_sizes_count) {
        return false;
    }
    for (pb_size_t i = 0; i < row->run_counts_count; i++) {
        entries += row->run_counts[i];
    }
    return entries == row->entry_sizes_count;
}

enum err peer_reader_next(struct peer_reader *reader, RaftRow *ret_row, const uint8_t **ret_payload)
{
    struct codec_cursor rows = reader->rows;
    enum err error = codec_next_row(&rows, ROW_RAFT, ret_row);
    if (error != OK) {
        return error;
    }
    uint64_t bytes = 0;
    for (pb_size_t i = 0; i < ret_row->entry_sizes_count; i++) {
        bytes += ret_row->entry_sizes[i];
    }
    bool is_last = rows.size == 0;
    if (!runs_cover_entries(ret_row) || bytes > reader->payload_left || (is_last && bytes < reader->payload_left)) {
        return ERR_BAD_FRAME;
    }
    if (crc32c(0, reader->payload, bytes) != ret_row->payload_crc) {
        return ERR_CORRUPT;
    }
    *ret_payload = reader->payload;
    reader->rows = rows;
    reader->payload += bytes;
    reader->payload_left -= (uint32_t)bytes;
    return OK;
}
