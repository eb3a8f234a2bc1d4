/* Frames of Raft rows from a hostile broker: whatever stands in them, the reader stays inside the frame, what it gives
 * out is consistent, and what was read can be written and read again.
 *
 * Input: byte 0 options (bit 0: put right CRCs in, which a fuzzer cannot guess), bytes 1-2 size of the rows, then rows,
 * then payload. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "wire/peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same rows, each with the CRC of the bytes that it says are its own. Returns their size. */
static uint32_t repair_crcs(const struct frame *frame, uint8_t *out, uint32_t capacity)
{
    struct codec_cursor rows = {frame->proto, frame->proto_size};
    uint32_t out_size = 0;
    uint64_t at = 0;
    RaftRow row = {0};
    while (rows.size > 0 && codec_next_row(&rows, ROW_RAFT, &row) == OK) {
        uint64_t bytes = 0;
        for (pb_size_t i = 0; i < row.entry_sizes_count; i++) {
            bytes += row.entry_sizes[i];
        }
        if (bytes > frame->payload_size - at) {
            break;
        }
        row.payload_crc = crc32c(0, frame->payload + at, bytes);
        at += bytes;
        if (codec_append_row(out, capacity, ROW_RAFT, &row, &out_size) != OK) {
            break;
        }
    }
    return out_size;
}

static uint64_t check_row(const RaftRow *row, const uint8_t *payload)
{
    static uint8_t head[FRAME_HEADER_BYTES + CODEC_ROW_BYTES_MAX];
    struct slice parts[RAFT_APPEND_ENTRIES_MAX];
    struct peer_builder b;
    RaftRow copy = *row;
    uint64_t bytes = 0;
    uint64_t entries = 0;
    ASSERT(row->entry_types.size == row->entry_sizes_count && row->run_terms_count == row->run_counts_count);
    for (pb_size_t i = 0; i < row->run_counts_count; i++) {
        entries += row->run_counts[i];
    }
    ASSERT(entries == row->entry_sizes_count);
    for (pb_size_t i = 0; i < row->entry_sizes_count; i++) {
        parts[i] = (struct slice){.data = (uint8_t *)(uintptr_t)payload + bytes, .size = row->entry_sizes[i]};
        bytes += row->entry_sizes[i];
    }
    peer_builder_begin(&b, head, sizeof head);
    ASSERT(peer_builder_add(&b, &copy, parts, (uint32_t)row->entry_sizes_count));
    ASSERT(copy.payload_crc == row->payload_crc && b.payload_bytes == bytes);
    peer_builder_finish(&b);
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t repaired[FRAME_PROTO_BYTES_MAX];
    if (size < 3 || load_le16(data + 1) > size - 3) {
        return 0;
    }
    uint32_t rows_size = load_le16(data + 1);
    size_t payload_size = size - 3 - rows_size;
    uint8_t *payload = malloc(payload_size + 1); /* exact, so that the sanitizer sees one byte too many */
    memcpy(payload + 1, data + 3 + rows_size, payload_size);
    struct frame frame = {.type = FRAME_RAFT,
                          .proto = data + 3,
                          .proto_size = rows_size,
                          .payload = payload + 1,
                          .payload_size = (uint32_t)payload_size};
    if ((data[0] & 1) != 0) {
        frame.proto_size = repair_crcs(&frame, repaired, sizeof repaired);
        frame.proto = repaired;
    }
    struct peer_reader reader;
    RaftRow row;
    const uint8_t *at;
    uint64_t bytes = 0;
    enum err error = OK;
    peer_reader_begin(&reader, &frame);
    while (!peer_reader_is_done(&reader) && (error = peer_reader_next(&reader, &row, &at)) == OK) {
        ASSERT(at == frame.payload + bytes);
        bytes += check_row(&row, at);
        ASSERT(bytes <= frame.payload_size);
    }
    ASSERT(error != OK || frame.proto_size == 0 || bytes == frame.payload_size);
    free(payload);
    return 0;
}
