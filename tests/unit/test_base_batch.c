/* The RecordBatch v2 header: a batch written down byte by byte is read back, lies about the size are refused, the CRC
 * covers exactly bytes 21 to the end, and the prefix and the sequence arithmetic hold at their edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/batch.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/limits.h"

/* A batch of one record, every field with a value of its own: offset 7, epoch 3, codec lz4 with the LogAppendTime bit.
 */
static const uint8_t golden[] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, /* baseOffset */
    0x00, 0x00, 0x00, 0x35,                         /* batchLength: 65 - 12 */
    0x00, 0x00, 0x00, 0x03,                         /* leader epoch */
    0x02,                                           /* magic */
    0x00, 0x00, 0x00, 0x00,                         /* crc, sealed by the tests */
    0x00, 0x0b,                                     /* attributes */
    0x00, 0x00, 0x00, 0x04,                         /* lastOffsetDelta */
    0x00, 0x00, 0x01, 0x90, 0x00, 0x00, 0x00, 0x01, /* baseTimestamp */
    0x00, 0x00, 0x01, 0x90, 0x00, 0x00, 0x00, 0x09, /* maxTimestamp */
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02, /* producerId: 2^32 + 2 */
    0x7f, 0xff,                                     /* producerEpoch */
    0x7f, 0xff, 0xff, 0xfe,                         /* baseSequence */
    0x00, 0x00, 0x00, 0x05,                         /* recordsCount */
    0xaa, 0xbb, 0xcc, 0xdd,                         /* "records" */
};

static void reads_every_field(void **state)
{
    struct batch_header header;
    assert_int_equal(batch_parse(golden, sizeof golden, &header), OK);
    assert_int_equal(header.base_offset, 7);
    assert_int_equal(header.size_bytes, sizeof golden);
    assert_int_equal(header.leader_epoch, 3);
    assert_int_equal(header.crc, 0);
    assert_int_equal(header.attributes, 0x0b);
    assert_int_equal(batch_codec(&header), CODEC_LZ4);
    assert_int_equal(header.last_offset_delta, 4);
    assert_int_equal(header.base_timestamp, 0x19000000001);
    assert_int_equal(header.max_timestamp, 0x19000000009);
    assert_int_equal(header.producer_id, 0x100000002);
    assert_int_equal(header.producer_epoch, INT16_MAX);
    assert_int_equal(header.base_sequence, INT32_MAX - 1);
    assert_int_equal(header.records_count, 5);
}

static void reads_negative_fields(void **state)
{
    uint8_t batch[sizeof golden];
    memcpy(batch, golden, sizeof batch);
    memset(batch + 0, 0xff, 8);
    memset(batch + 12, 0xff, 4);
    memset(batch + 27, 0xff, 34);
    struct batch_header header;
    assert_int_equal(batch_parse(batch, sizeof batch, &header), OK);
    assert_true(header.base_offset == -1 && header.leader_epoch == -1);
    assert_true(header.base_timestamp == -1 && header.max_timestamp == -1);
    assert_true(header.producer_id == -1 && header.producer_epoch == -1 && header.base_sequence == -1);
    assert_int_equal(header.records_count, -1);
}

static void writes_what_it_reads(void **state)
{
    struct batch_header header;
    uint8_t batch[sizeof golden];
    assert_int_equal(batch_parse(golden, sizeof golden, &header), OK);
    memset(batch, 0x5a, sizeof batch);
    batch_write_header(batch, &header);
    assert_memory_equal(batch, golden, BATCH_HEADER_BYTES);
    assert_int_equal(batch[BATCH_HEADER_BYTES], 0x5a);

    batch_set_producer(batch, INT64_MAX, -1, INT32_MAX);
    assert_memory_equal(batch, golden, 43);
    assert_memory_equal(batch + 57, golden + 57, 4);
    assert_int_equal(batch_parse(batch, sizeof batch, &header), OK);
    assert_true(header.producer_id == INT64_MAX && header.producer_epoch == -1 && header.base_sequence == INT32_MAX);
}

static void asks_for_more_on_every_prefix(void **state)
{
    struct batch_header header;
    for (uint64_t available = 0; available < BATCH_HEADER_BYTES; available++)
        assert_int_equal(batch_parse(golden, available, &header), ERR_AGAIN);
    for (uint64_t available = BATCH_HEADER_BYTES; available <= sizeof golden; available++)
        assert_int_equal(batch_parse(golden, available, &header), OK);
}

static void refuses_lying_sizes_and_other_magics(void **state)
{
    static const struct {
        uint32_t length;
        enum err want;
    } cases[] = {
        {0, ERR_CORRUPT_BATCH},
        {48, ERR_CORRUPT_BATCH},
        {49, OK}, /* an emptied batch: header only */
        {BATCH_BYTES_MAX - 12, OK},
        {BATCH_BYTES_MAX - 11, ERR_CORRUPT_BATCH},
        {0x7fffffff, ERR_CORRUPT_BATCH},
        {0x80000000, ERR_CORRUPT_BATCH},
        {0xfffffff4, ERR_CORRUPT_BATCH}, /* + 12 wraps to 0 in 32 bits */
        {0xffffffff, ERR_CORRUPT_BATCH},
    };
    uint8_t batch[sizeof golden];
    struct batch_header header;
    memcpy(batch, golden, sizeof batch);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        store_be32(batch + 8, cases[i].length);
        memset(&header, 0x5a, sizeof header);
        assert_int_equal(batch_parse(batch, sizeof batch, &header), cases[i].want);
        if (cases[i].want != OK)
            assert_int_equal(header.records_count, 0x5a5a5a5a); /* outputs stay untouched */
    }
    memcpy(batch, golden, sizeof batch);
    for (int magic = 0; magic < 256; magic++) {
        batch[16] = (uint8_t)magic;
        assert_int_equal(batch_parse(batch, sizeof batch, &header), magic == 2 ? OK : ERR_CORRUPT_BATCH);
    }
}

static void crc_covers_bytes_21_to_the_end(void **state)
{
    uint8_t batch[sizeof golden];
    memcpy(batch, golden, sizeof batch);
    batch_seal(batch, sizeof batch);
    assert_int_equal(load_be32(batch + 17), crc32c(0, batch + 21, sizeof batch - 21));
    assert_true(batch_crc_ok(batch, sizeof batch));
    for (uint32_t bit = 0; bit < 8 * sizeof batch; bit++) {
        batch[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        bool outside = bit / 8 < 17;
        assert_int_equal(batch_crc_ok(batch, sizeof batch), outside);
        batch[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

static void normalise_and_prefix_leave_the_rest_alone(void **state)
{
    uint8_t batch[sizeof golden];
    memcpy(batch, golden, sizeof batch);
    batch_seal(batch, sizeof batch);
    uint8_t sealed[sizeof golden];
    memcpy(sealed, batch, sizeof batch);

    batch_normalise(batch);
    static const uint8_t normal[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x35, 0xff, 0xff, 0xff, 0xff};
    assert_memory_equal(batch, normal, 16);
    assert_memory_equal(batch + 16, sealed + 16, sizeof batch - 16);
    assert_true(batch_crc_ok(batch, sizeof batch));

    static const int64_t offsets[] = {0,        127, 128, 32767, 32768, INT32_MAX, (int64_t)1 << 31, (int64_t)1 << 32,
                                      INT64_MAX};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        uint8_t prefix[BATCH_PREFIX_BYTES];
        batch_prefix(prefix, offsets[i], sizeof batch, INT32_MAX);
        memcpy(batch, prefix, sizeof prefix);
        struct batch_header header;
        assert_int_equal(batch_parse(batch, sizeof batch, &header), OK);
        assert_true(header.base_offset == offsets[i]);
        assert_int_equal(header.size_bytes, sizeof batch);
        assert_int_equal(header.leader_epoch, INT32_MAX);
        assert_true(batch_crc_ok(batch, sizeof batch));
    }
}

static void sequences_wrap_as_in_kafka(void **state)
{
    assert_int_equal(sequence_add(0, 0), 0);
    assert_int_equal(sequence_add(0, 1), 1);
    assert_int_equal(sequence_add(127, 1), 128);
    assert_int_equal(sequence_add(32767, 1), 32768);
    assert_int_equal(sequence_add(INT32_MAX - 1, 1), INT32_MAX);
    assert_int_equal(sequence_add(INT32_MAX, 0), INT32_MAX);
    assert_int_equal(sequence_add(INT32_MAX, 1), 0);
    assert_int_equal(sequence_add(INT32_MAX - 2, 5), 2);
    assert_int_equal(sequence_add(INT32_MAX, INT32_MAX), INT32_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_field),
        cmocka_unit_test(reads_negative_fields),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(asks_for_more_on_every_prefix),
        cmocka_unit_test(refuses_lying_sizes_and_other_magics),
        cmocka_unit_test(crc_covers_bytes_21_to_the_end),
        cmocka_unit_test(normalise_and_prefix_leave_the_rest_alone),
        cmocka_unit_test(sequences_wrap_as_in_kafka),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
