/* Frames: what is written is read back from every prefix and every split alike; lies about sizes are refused as soon as
 * the bytes that lie are there; every bit of header and protobuf counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "wire/frame.h"

static const struct frame_limits limits = {.proto_bytes_max = 512, .payload_bytes_max = 4096};

#define PROTO        "proto bytes"
#define PAYLOAD      "payload"
#define PROTO_SIZE   (sizeof PROTO - 1)
#define PAYLOAD_SIZE (sizeof PAYLOAD - 1)
#define FRAME_SIZE   (FRAME_HEADER_BYTES + PROTO_SIZE + PAYLOAD_SIZE)

static void make_frame(uint8_t frame[FRAME_SIZE], uint64_t request_id)
{
    memcpy(frame + FRAME_HEADER_BYTES, PROTO PAYLOAD, PROTO_SIZE + PAYLOAD_SIZE);
    frame_write_header(frame, FRAME_PRODUCE, request_id, frame + FRAME_HEADER_BYTES, PROTO_SIZE, PAYLOAD_SIZE);
}

/* A header alone with the given sizes and a correct CRC over it and an empty protobuf. */
static void make_sizes(uint8_t header[FRAME_HEADER_BYTES], uint32_t length, uint32_t proto_size)
{
    frame_write_header(header, FRAME_PRODUCE, 1, header, 0, 0);
    store_le32(header, length);
    store_le32(header + 16, proto_size);
    store_le32(header + 20, crc32c(0, header, 20));
}

static enum err parse(const uint8_t *data, uint64_t available, uint64_t *ret_needed)
{
    struct frame frame;
    uint64_t needed = 0;
    enum err error = frame_parse(data, available, &limits, &frame, &needed);
    *ret_needed = needed;
    return error;
}

static void writes_the_bytes_of_the_format(void **state)
{
    uint8_t frame[FRAME_SIZE];
    make_frame(frame, 0x1122334455667788);
    static const uint8_t want[20] = {
        20 + PROTO_SIZE + PAYLOAD_SIZE,
        0,
        0,
        0, /* length */
        0x46,
        0x4c,
        1,
        9, /* magic, version, type */
        0x88,
        0x77,
        0x66,
        0x55,
        0x44,
        0x33,
        0x22,
        0x11, /* request id */
        PROTO_SIZE,
        0,
        0,
        0, /* proto size */
    };
    assert_memory_equal(frame, want, sizeof want);
    uint8_t covered[20 + PROTO_SIZE];
    memcpy(covered, frame, 20);
    memcpy(covered + 20, PROTO, PROTO_SIZE);
    assert_int_equal(load_le32(frame + 20), crc32c(0, covered, sizeof covered));
}

static void reads_back_what_was_written(void **state)
{
    static const uint64_t ids[] = {0, 127, 32767, (uint64_t)1 << 31, (uint64_t)1 << 32, UINT64_MAX};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        uint8_t data[FRAME_SIZE + 3];
        make_frame(data, ids[i]);
        struct frame frame;
        uint64_t needed = 77;
        assert_int_equal(frame_parse(data, sizeof data, &limits, &frame, &needed), OK);
        assert_int_equal(frame.type, FRAME_PRODUCE);
        assert_true(frame.request_id == ids[i]);
        assert_ptr_equal(frame.proto, data + FRAME_HEADER_BYTES);
        assert_int_equal(frame.proto_size, PROTO_SIZE);
        assert_ptr_equal(frame.payload, data + FRAME_HEADER_BYTES + PROTO_SIZE);
        assert_int_equal(frame.payload_size, PAYLOAD_SIZE);
        assert_int_equal(frame.size_bytes, FRAME_SIZE);
        assert_int_equal(needed, 77);
    }
}

static void every_prefix_of_a_good_frame_asks_for_more(void **state)
{
    uint8_t data[FRAME_SIZE];
    make_frame(data, 5);
    for (uint64_t available = 0; available < FRAME_SIZE; available++) {
        struct frame frame = {.request_id = 42};
        uint64_t needed = 0;
        assert_int_equal(frame_parse(data, available, &limits, &frame, &needed), ERR_AGAIN);
        assert_int_equal(frame.request_id, 42);
        assert_int_equal(needed, available < FRAME_HEADER_BYTES ? FRAME_HEADER_BYTES : FRAME_SIZE);
    }
}

static void empty_and_full_frames_pass(void **state)
{
    static uint8_t data[FRAME_HEADER_BYTES + 512 + 4096];
    static const uint32_t sizes[][2] = {{0, 0}, {512, 0}, {0, 4096}, {512, 4096}, {1, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        frame_write_header(data, FRAME_FETCH_REPLY, 1, data + FRAME_HEADER_BYTES, sizes[i][0], sizes[i][1]);
        struct frame frame;
        uint64_t needed;
        assert_int_equal(frame_parse(data, sizeof data, &limits, &frame, &needed), OK);
        assert_int_equal(frame.proto_size, sizes[i][0]);
        assert_int_equal(frame.payload_size, sizes[i][1]);
    }
}

static void lying_sizes_are_refused_with_the_header(void **state)
{
    static const struct {
        uint32_t length;
        uint32_t proto_size;
        enum err want;
        uint32_t known_at; /* bytes after which the verdict stands */
    } cases[] = {
        {0, 0, ERR_BAD_FRAME, 7},
        {19, 0, ERR_BAD_FRAME, 7},
        {20 + 512 + 4096 + 1, 512, ERR_TOO_LARGE, 7},
        {INT32_MAX, 0, ERR_TOO_LARGE, 7},
        {0x80000000, 0, ERR_TOO_LARGE, 7},
        {0xfffffffc, 0, ERR_TOO_LARGE, 7}, /* + 4 wraps to 0 in 32 bits */
        {0xffffffff, 0xffffffff, ERR_TOO_LARGE, 7},
        {20, 1, ERR_BAD_FRAME, 20},
        {30, 11, ERR_BAD_FRAME, 20},
        {30, 0xffffffff, ERR_BAD_FRAME, 20},
        {20 + 513, 513, ERR_TOO_LARGE, 20},
        {20 + 4097, 0, ERR_TOO_LARGE, 20},
        {20 + 4097 + 1, 1, ERR_TOO_LARGE, 20},
        {20 + 4096, 0, ERR_AGAIN, 24},
        {20 + 4097, 1, ERR_AGAIN, 24},
        {20, 0, OK, 24},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t header[FRAME_HEADER_BYTES];
        make_sizes(header, cases[i].length, cases[i].proto_size);
        uint64_t needed;
        for (uint32_t available = 0; available <= sizeof header; available++) {
            enum err want = available < cases[i].known_at ? ERR_AGAIN : cases[i].want;
            assert_int_equal(parse(header, available, &needed), want);
        }
        if (cases[i].want == ERR_AGAIN)
            assert_int_equal(needed, cases[i].length + 4);
    }
}

static void strangers_are_told_apart(void **state)
{
    uint64_t needed;
    uint8_t data[FRAME_SIZE];
    static const char http[] = "GET / HTTP/1.1\r\nHost: broker\r\n\r\n";
    for (uint64_t available = 0; available < sizeof http; available++)
        assert_int_equal(parse((const uint8_t *)http, available, &needed), available < 6 ? ERR_AGAIN : ERR_BAD_FRAME);

    for (int version = 0; version < 256; version++) {
        make_frame(data, 5);
        data[6] = (uint8_t)version;
        if (version == FRAME_VERSION)
            continue;
        assert_int_equal(parse(data, sizeof data, &needed), ERR_UNSUPPORTED);
        assert_int_equal(parse(data, 7, &needed), ERR_UNSUPPORTED);
        assert_int_equal(parse(data, 6, &needed), ERR_AGAIN);
    }
}

static void every_bit_of_header_and_proto_counts(void **state)
{
    uint8_t data[FRAME_SIZE];
    uint64_t needed;
    make_frame(data, 5);
    for (uint32_t bit = 0; bit < 8 * FRAME_SIZE; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        enum err error = parse(data, sizeof data, &needed);
        if (bit / 8 >= FRAME_HEADER_BYTES + PROTO_SIZE)
            assert_int_equal(error, OK); /* the payload has its own CRC */
        else
            assert_int_not_equal(error, OK);
        data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

static void a_wrong_crc_is_refused_before_the_payload(void **state)
{
    uint8_t data[FRAME_SIZE];
    uint64_t needed;
    make_frame(data, 5);
    data[FRAME_HEADER_BYTES] ^= 1;
    assert_int_equal(parse(data, FRAME_HEADER_BYTES + PROTO_SIZE - 1, &needed), ERR_AGAIN);
    assert_int_equal(parse(data, FRAME_HEADER_BYTES + PROTO_SIZE, &needed), ERR_BAD_FRAME);
    assert_int_equal(parse(data, FRAME_SIZE, &needed), ERR_BAD_FRAME);
}

static void refused_frames_name_their_request(void **state)
{
    uint8_t data[FRAME_SIZE];
    make_frame(data, 0xabcdef0123456789);
    assert_true(frame_refused_request_id(data, 15) == 0);
    assert_true(frame_refused_request_id(data, 16) == 0xabcdef0123456789);
    data[4] = 'G';
    assert_true(frame_refused_request_id(data, 16) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_bytes_of_the_format),
        cmocka_unit_test(reads_back_what_was_written),
        cmocka_unit_test(every_prefix_of_a_good_frame_asks_for_more),
        cmocka_unit_test(empty_and_full_frames_pass),
        cmocka_unit_test(lying_sizes_are_refused_with_the_header),
        cmocka_unit_test(strangers_are_told_apart),
        cmocka_unit_test(every_bit_of_header_and_proto_counts),
        cmocka_unit_test(a_wrong_crc_is_refused_before_the_payload),
        cmocka_unit_test(refused_frames_name_their_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
