/* Frames of the snapshot lane: what is written is read back, and nothing beyond a limit or with wrong bytes passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "wire/peer_snapshot.h"

static uint8_t bytes[CODEC_HEAD_BYTES_MAX + SNAPSHOT_CHUNK_BYTES_MAX + 1];
static const uint8_t payload_bytes[SNAPSHOT_CHUNK_BYTES_MAX + 1] = "abcdef";

static struct slice payload_of(uint32_t size)
{
    return (struct slice){.data = payload_bytes, .size = size};
}

/* The frame as a receiver has it, in one piece; nothing of the message is checked when it is written this way. */
static struct frame frame_of(const PeerSnapshot *message, struct slice payload)
{
    static const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
    struct frame frame;
    uint64_t needed;
    uint32_t size;
    assert_int_equal(codec_encode_frame(bytes, CODEC_HEAD_BYTES_MAX, FRAME_SNAPSHOT, 0, message, payload.size, &size),
                     OK);
    if (payload.size > 0) {
        memcpy(bytes + size, payload.data, payload.size);
    }
    assert_int_equal(frame_parse(bytes, size + payload.size, &limits, &frame, &needed), OK);
    return frame;
}

static enum err read_back(const PeerSnapshot *message, uint32_t payload_size, PeerSnapshot *ret_message)
{
    struct frame frame = frame_of(message, payload_of(payload_size));
    return peer_snapshot_read(&frame, ret_message);
}

static PeerSnapshot chunk(uint32_t size)
{
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    PeerSnapshot message = {.kind = PEER_SNAPSHOT_CHUNK,
                            .transfer = UINT64_MAX,
                            .group = 7,
                            .from = 1,
                            .to = 2,
                            .part = PEER_SNAPSHOT_SEGMENT,
                            .base_offset = INT64_MAX,
                            .position = SEGMENT_BYTES_MAX - 1};
    peer_snapshot_write(&message, payload_of(size), head);
    return message;
}

/* The same fields, whatever stands between them. */
static void assert_same(const PeerSnapshot *one, const PeerSnapshot *other)
{
    uint8_t first[CODEC_HEAD_BYTES_MAX], second[CODEC_HEAD_BYTES_MAX];
    uint32_t first_size, second_size;
    assert_int_equal(codec_encode_frame(first, sizeof first, FRAME_SNAPSHOT, 0, one, 0, &first_size), OK);
    assert_int_equal(codec_encode_frame(second, sizeof second, FRAME_SNAPSHOT, 0, other, 0, &second_size), OK);
    assert_int_equal(first_size, second_size);
    assert_memory_equal(first, second, first_size);
}

static void frames_come_back(void **state)
{
    (void)state;
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    PeerSnapshot read;
    PeerSnapshot offer = {.kind = PEER_SNAPSHOT_OFFER,
                          .transfer = 3,
                          .group = 4,
                          .from = 5,
                          .to = 6,
                          .term = RAFT_TERM_MAX,
                          .index = UINT64_MAX,
                          .index_term = RAFT_TERM_MAX,
                          .rows_bytes = SNAPSHOT_ROWS_BYTES_MAX,
                          .rows_crc = UINT32_MAX};
    assert_true(peer_snapshot_write(&offer, (struct slice){0}, head) <= sizeof head);
    assert_int_equal(read_back(&offer, 0, &read), OK);
    assert_same(&read, &offer);
    PeerSnapshot message = chunk(SNAPSHOT_CHUNK_BYTES_MAX);
    assert_int_equal(read_back(&message, SNAPSHOT_CHUNK_BYTES_MAX, &read), OK);
    assert_same(&read, &message);
    for (uint32_t kind = PEER_SNAPSHOT_HAVE_IT; kind <= PEER_SNAPSHOT_END; kind++) {
        PeerSnapshot other = {.kind = kind, .group = 1, .size_bytes = 1, .status = ERR_BUSY};
        if (kind != PEER_SNAPSHOT_CHUNK) {
            assert_int_equal(read_back(&other, 0, &read), OK);
            assert_int_equal(read.status, ERR_BUSY);
        }
    }
}

static void refused(PeerSnapshot message, uint32_t payload_size)
{
    PeerSnapshot read = {.kind = 99};
    assert_int_equal(read_back(&message, payload_size, &read), ERR_BAD_FRAME);
    assert_int_equal(read.kind, 99); /* untouched */
}

static void what_no_sender_makes_is_refused(void **state)
{
    (void)state;
    const PeerSnapshot offer = {
        .kind = PEER_SNAPSHOT_OFFER, .group = 1, .term = 2, .index = 1, .index_term = 1, .rows_bytes = 1};
    PeerSnapshot message = offer, read;
    assert_int_equal(read_back(&offer, 0, &read), OK);
    refused(offer, 1);
#define WITH(base, field, value) (message = (base), message.field = (value), refused(message, 0))
    WITH(offer, kind, 0);
    WITH(offer, kind, PEER_SNAPSHOT_KINDS);
    WITH(offer, group, 0);
    WITH(offer, index, 0);
    WITH(offer, index_term, 0);
    WITH(offer, index_term, 3); /* of the future */
    WITH(offer, index_term, RAFT_TERM_MAX + 1);
    WITH(offer, rows_bytes, 0);
    WITH(offer, rows_bytes, SNAPSHOT_ROWS_BYTES_MAX + 1);
    WITH(offer, part, 2);
    WITH(offer, base_offset, -1);
    const PeerSnapshot want = {.kind = PEER_SNAPSHOT_WANT, .group = 1, .size_bytes = SNAPSHOT_CHUNK_BYTES_MAX};
    assert_int_equal(read_back(&want, 0, &read), OK);
    WITH(want, size_bytes, 0);
    WITH(want, size_bytes, SNAPSHOT_CHUNK_BYTES_MAX + 1);
    WITH(want, position, UINT64_MAX);
    WITH(want, position, SNAPSHOT_ROWS_BYTES_MAX);
    message = want;
    message.part = PEER_SNAPSHOT_SEGMENT;
    WITH(message, position, SEGMENT_BYTES_MAX);
#undef WITH
}

static void chunks_are_of_their_size_and_bytes(void **state)
{
    (void)state;
    PeerSnapshot read;
    PeerSnapshot message = chunk(6);
    assert_int_equal(read_back(&message, 6, &read), OK);
    assert_int_equal(read_back(&message, 5, &read), ERR_CORRUPT);
    refused(message, 0);
    refused(message, SNAPSHOT_CHUNK_BYTES_MAX + 1);
    message.payload_crc ^= 1;
    assert_int_equal(read_back(&message, 6, &read), ERR_CORRUPT);
    message = chunk(6);
    message.position = SEGMENT_BYTES_MAX;
    refused(message, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back),
        cmocka_unit_test(what_no_sender_makes_is_refused),
        cmocka_unit_test(chunks_are_of_their_size_and_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
