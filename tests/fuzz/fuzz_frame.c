/* Frames from a hostile stream: however the stream is split, the same frames come out and the same verdict ends it, and
 * nothing is read beyond the bytes received.
 *
 * Input: byte 0 options (bit 0: put right CRCs in, which a fuzzer cannot guess; bit 1: small limits), byte 1 the number
 * of pieces, then their sizes, then the stream. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PIECES_MAX 32u

/* All that a receiver learns: how many frames, a digest of them, and how it ended. */
struct outcome {
    uint64_t frames;
    uint32_t digest;
    uint64_t position; /* behind the last good frame */
    enum err verdict;
    uint64_t needed;
};

static uint32_t digest_frame(uint32_t digest, const struct frame *frame)
{
    uint8_t fields[20];
    store_le32(fields, frame->type);
    store_le64(fields + 4, frame->request_id);
    store_le32(fields + 12, frame->proto_size);
    store_le32(fields + 16, frame->payload_size);
    digest = crc32c(digest, fields, sizeof fields);
    digest = crc32c(digest, frame->proto, frame->proto_size);
    return crc32c(digest, frame->payload, frame->payload_size);
}

/* Takes every whole frame of stream[outcome->position, received), as a receiver does after a read. */
static void receive(struct outcome *outcome, const uint8_t *stream, uint64_t received,
                    const struct frame_limits *limits)
{
    if (outcome->verdict != ERR_AGAIN)
        return;
    uint64_t available = received - outcome->position;
    uint8_t *exact = malloc(available + 1); /* the sanitizer sees one byte too many */
    memcpy(exact + 1, stream + outcome->position, available);
    const uint8_t *at = exact + 1;
    struct frame frame;
    while ((outcome->verdict = frame_parse(at, available, limits, &frame, &outcome->needed)) == OK) {
        ASSERT(frame.size_bytes <= available);
        ASSERT(frame.proto + frame.proto_size == frame.payload &&
               frame.payload + frame.payload_size == at + frame.size_bytes);
        ASSERT(frame.proto_size <= limits->proto_bytes_max && frame.payload_size <= limits->payload_bytes_max);
        outcome->digest = digest_frame(outcome->digest, &frame);
        outcome->frames++;
        outcome->position += frame.size_bytes;
        at += frame.size_bytes;
        available -= frame.size_bytes;
    }
    if (outcome->verdict == ERR_AGAIN) {
        ASSERT(outcome->needed > available);
        ASSERT(outcome->needed <= (uint64_t)FRAME_HEADER_BYTES + limits->proto_bytes_max + limits->payload_bytes_max);
    } else {
        outcome->needed = 0;
        frame_refused_request_id(at, available);
    }
    free(exact);
}

static void repair_crcs(uint8_t *stream, uint64_t size)
{
    for (uint64_t at = 0; size - at >= FRAME_HEADER_BYTES;) {
        uint64_t frame_bytes = (uint64_t)load_le32(stream + at) + 4;
        uint32_t proto_size = load_le32(stream + at + 16);
        if (proto_size <= size - at - FRAME_HEADER_BYTES)
            store_le32(stream + at + 20,
                       crc32c(crc32c(0, stream + at, 20), stream + at + FRAME_HEADER_BYTES, proto_size));
        if (frame_bytes > size - at)
            return;
        at += frame_bytes;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size < 2u + data[1] % PIECES_MAX)
        return 0;
    uint32_t pieces_count = data[1] % PIECES_MAX;
    const uint8_t *pieces = data + 2;
    size_t stream_size = size - 2 - pieces_count;
    uint8_t *stream = malloc(stream_size + 1);
    memcpy(stream, pieces + pieces_count, stream_size);
    if ((data[0] & 1) != 0)
        repair_crcs(stream, stream_size);
    bool small = (data[0] & 2) != 0;
    struct frame_limits limits = {small ? 16 : FRAME_PROTO_BYTES_MAX, small ? 64 : FRAME_PAYLOAD_BYTES_MAX};

    struct outcome whole = {.verdict = ERR_AGAIN};
    receive(&whole, stream, stream_size, &limits);
    struct outcome split = {.verdict = ERR_AGAIN};
    size_t received = 0;
    for (uint32_t i = 0; i < pieces_count && received + pieces[i] <= stream_size; i++) {
        received += pieces[i];
        receive(&split, stream, received, &limits);
    }
    receive(&split, stream, stream_size, &limits);
    ASSERT(split.frames == whole.frames && split.digest == whole.digest && split.position == whole.position);
    ASSERT(split.verdict == whole.verdict && split.needed == whole.needed);
    free(stream);
    return 0;
}
