/* Records: a batch made by another implementation reads and validates; what the builder makes comes back in every form
 * (null, empty, headers, deltas of every width, one record, many, full memory); and every rule of batch_validate
 * refuses what breaks it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/endian.h"
#include "wire/builder.h"
#include "wire/records.h"
#include "wire/varint.h"

#define TEXT(string)                                                                                                   \
    {                                                                                                                  \
        (const uint8_t *)(string), sizeof(string) - 1                                                                  \
    }

static void assert_blob(struct blob got, const char *want)
{
    if (want == NULL) {
        assert_null(got.data);
        assert_int_equal(got.size, 0);
        return;
    }
    assert_non_null(got.data);
    assert_int_equal(got.size, strlen(want));
    assert_memory_equal(got.data, want, got.size);
}

/* Made by kafka-python 2.0.2: producer 2^32 + 2, epoch 7, sequence 2^31 - 1; records
 * (1700000000000, "k1", "value", h1 = "x", h2 = null, "" = ""), (+300, null, ""), (-1, "", null), (+2^33, 64 x k, 70 x
 * v). */
static const uint8_t foreign[249] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xed, 0x00, 0x00, 0x00, 0x00, 0x02, 0x4e,
    0x18, 0x05, 0xea, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00, 0x00,
    0x00, 0x01, 0x8d, 0xcf, 0xe5, 0x68, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x07, 0x7f,
    0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x04, 0x30, 0x00, 0x00, 0x00, 0x04, 0x6b, 0x31, 0x0a, 0x76, 0x61, 0x6c,
    0x75, 0x65, 0x06, 0x04, 0x68, 0x31, 0x02, 0x78, 0x04, 0x68, 0x32, 0x01, 0x00, 0x00, 0x0e, 0x00, 0xd8, 0x04,
    0x02, 0x01, 0x00, 0x00, 0x0c, 0x00, 0x01, 0x04, 0x00, 0x01, 0x00, 0xa4, 0x02, 0x00, 0x80, 0x80, 0x80, 0x80,
    0x40, 0x06, 0x80, 0x01, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b,
    0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b,
    0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b,
    0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x6b, 0x8c, 0x01, 0x76, 0x76,
    0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76,
    0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76,
    0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76,
    0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x76, 0x00};

static void read_begin(struct record_reader *reader, const uint8_t *batch, uint32_t size)
{
    struct batch_header header;
    assert_int_equal(batch_parse(batch, size, &header), OK);
    record_reader_begin(reader, &header, batch + BATCH_HEADER_BYTES, size - BATCH_HEADER_BYTES);
}

static void reads_a_foreign_batch(void **state)
{
    struct batch_header header;
    assert_int_equal(batch_validate(foreign, sizeof foreign, BATCH_BYTES_DEFAULT, &header), OK);
    assert_int_equal(header.producer_id, 4294967298);
    assert_int_equal(header.base_sequence, INT32_MAX);

    struct record_reader reader;
    struct record_view record;
    read_begin(&reader, foreign, sizeof foreign);
    assert_int_equal(record_reader_next(&reader, &record), OK);
    assert_int_equal(record.offset, 0);
    assert_int_equal(record.timestamp, 1700000000000);
    assert_blob(record.key, "k1");
    assert_blob(record.value, "value");
    assert_int_equal(record.headers_count, 3);
    static const char *const want[3][2] = {{"h1", "x"}, {"h2", NULL}, {"", ""}};
    struct record_header got;
    for (int i = 0; i < 3; i++) {
        assert_true(record_next_header(&record, &got));
        assert_blob(got.key, want[i][0]);
        assert_blob(got.value, want[i][1]);
    }
    assert_false(record_next_header(&record, &got));

    assert_int_equal(record_reader_next(&reader, &record), OK);
    assert_int_equal(record.offset, 1);
    assert_int_equal(record.timestamp, 1700000000300);
    assert_blob(record.key, NULL);
    assert_blob(record.value, "");
    assert_false(record_next_header(&record, &got));
    assert_int_equal(record_reader_next(&reader, &record), OK);
    assert_int_equal(record.timestamp, 1699999999999);
    assert_blob(record.key, "");
    assert_blob(record.value, NULL);
    assert_int_equal(record_reader_next(&reader, &record), OK);
    assert_int_equal(record.timestamp, 1700000000000 + ((int64_t)1 << 33));
    assert_int_equal(record.key.size, 64);
    assert_int_equal(record.value.size, 70);
    assert_int_equal(record_reader_next(&reader, &record), ERR_CLOSED);
    assert_int_equal(record_reader_next(&reader, &record), ERR_CLOSED);
}

static void builds_the_foreign_batch(void **state)
{
    static const struct record_header headers[] = {
        {TEXT("h1"), TEXT("x")}, {TEXT("h2"), {NULL, 0}}, {TEXT(""), TEXT("")}};
    uint8_t ks[64], vs[70];
    memset(ks, 'k', sizeof ks);
    memset(vs, 'v', sizeof vs);
    const struct record records[] = {
        {TEXT("k1"), TEXT("value"), 1700000000000, headers, 3},
        {{NULL, 0}, TEXT(""), 1700000000300, NULL, 0},
        {TEXT(""), {NULL, 0}, 1699999999999, NULL, 0},
        {{ks, sizeof ks}, {vs, sizeof vs}, 1700000000000 + ((int64_t)1 << 33), NULL, 0},
    };
    uint8_t memory[sizeof foreign];
    struct batch_builder builder;
    batch_builder_begin(&builder, memory, sizeof memory);
    for (int i = 0; i < 4; i++)
        assert_int_equal(batch_builder_append(&builder, &records[i]), OK);
    assert_int_equal(batch_builder_finish(&builder), sizeof foreign);
    batch_set_producer(memory, 4294967298, 7, INT32_MAX);
    batch_seal(memory, sizeof memory);
    store_be32(memory + 12, 0); /* that client writes leader epoch 0 */
    assert_memory_equal(memory, foreign, sizeof foreign);
}

/* --- varints --- */

static void varints_of_every_width(void **state)
{
    static const int64_t edges[] = {0,
                                    1,
                                    63,
                                    64,
                                    127,
                                    128,
                                    8191,
                                    8192,
                                    32767,
                                    32768,
                                    INT32_MAX,
                                    (int64_t)1 << 31,
                                    (int64_t)1 << 32,
                                    (int64_t)1 << 62,
                                    INT64_MAX};
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        for (int negative = 0; negative < 2; negative++) {
            int64_t value = negative ? -edges[i] - 1 : edges[i];
            uint8_t bytes[VARINT64_BYTES_MAX];
            const uint8_t *end = varint_write(bytes, value);
            assert_int_equal(end - bytes, varint_size(value));
            int64_t back = 0;
            for (const uint8_t *cut = bytes; cut < end; cut++) {
                const uint8_t *at = bytes;
                assert_false(varint_read64(&at, cut, &back));
                assert_ptr_equal(at, bytes);
            }
            const uint8_t *at = bytes;
            assert_true(varint_read64(&at, end, &back));
            assert_ptr_equal(at, end);
            assert_true(back == value);
            int32_t back32;
            at = bytes;
            bool narrow = value >= INT32_MIN && value <= INT32_MAX;
            assert_int_equal(varint_read32(&at, end, &back32), narrow);
            if (narrow)
                assert_int_equal(back32, value);
        }
    }
}

static void varints_that_are_too_long(void **state)
{
    static const uint8_t endless[11] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    static const uint8_t most64[10] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    static const uint8_t over64[10] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02};
    static const uint8_t most32[5] = {0xff, 0xff, 0xff, 0xff, 0x0f};
    static const uint8_t over32[5] = {0xff, 0xff, 0xff, 0xff, 0x1f};
    static const uint8_t padded[5] = {0x82, 0x80, 0x80, 0x80, 0x00};
    int64_t value64;
    int32_t value32;
    const uint8_t *at = endless;
    assert_false(varint_read64(&at, endless + 11, &value64));
    assert_false(varint_read32(&at, endless + 11, &value32));
    at = most64;
    assert_true(varint_read64(&at, most64 + 10, &value64));
    assert_true(value64 == INT64_MIN);
    at = over64;
    assert_false(varint_read64(&at, over64 + 10, &value64));
    at = most32;
    assert_true(varint_read32(&at, most32 + 5, &value32));
    assert_true(value32 == INT32_MIN);
    at = over32;
    assert_false(varint_read32(&at, over32 + 5, &value32));
    at = padded;
    assert_true(varint_read32(&at, padded + 5, &value32));
    assert_int_equal(value32, 1);
}

/* --- builder --- */

static uint32_t build(uint8_t *memory, uint32_t capacity, int32_t count, uint32_t value_size, int64_t timestamp_step)
{
    static uint8_t value[70000];
    struct batch_builder builder;
    batch_builder_begin(&builder, memory, capacity);
    for (int32_t i = 0; i < count; i++) {
        struct record record = {.value = {value, value_size}, .timestamp = 1000 + i * timestamp_step};
        assert_int_equal(batch_builder_append(&builder, &record), OK);
    }
    uint32_t size = batch_builder_finish(&builder);
    batch_seal(memory, size);
    return size;
}

static void batches_of_many_sizes_come_back(void **state)
{
    static const struct {
        int32_t count;
        uint32_t value_size;
        int64_t timestamp_step;
    } cases[] = {
        {1, 0, 0},
        {1, 63, 1},
        {1, 64, 1},
        {64, 127, 1},
        {65, 128, -1},
        {127, 8191, 1},
        {128, 8192, 1},
        {300, 32767, 7},
        {2, 65536, INT32_MAX},
        {3, 10, (int64_t)1 << 31},
        {3, 10, (int64_t)1 << 32},
        {32769, 5, 1},
        {1000000, 0, 1},
        {1, 70000, INT64_MIN / 2},
    };
    uint8_t *memory = malloc(BATCH_BYTES_MAX);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        uint32_t size = build(memory, BATCH_BYTES_MAX, cases[c].count, cases[c].value_size, cases[c].timestamp_step);
        struct batch_header header;
        assert_int_equal(batch_validate(memory, size, BATCH_BYTES_MAX, &header), OK);
        assert_int_equal(header.records_count, cases[c].count);
        int64_t last = 1000 + (cases[c].count - 1) * cases[c].timestamp_step;
        assert_true(header.max_timestamp == (last > 1000 ? last : 1000));
        header.base_offset = INT32_MAX;
        struct record_reader reader;
        struct record_view record;
        record_reader_begin(&reader, &header, memory + BATCH_HEADER_BYTES, size - BATCH_HEADER_BYTES);
        for (int32_t i = 0; i < cases[c].count; i++) {
            assert_int_equal(record_reader_next(&reader, &record), OK);
            assert_true(record.offset == (int64_t)INT32_MAX + i);
            assert_true(record.timestamp == 1000 + i * cases[c].timestamp_step);
            assert_int_equal(record.value.size, cases[c].value_size);
            assert_null(record.key.data);
        }
        assert_int_equal(record_reader_next(&reader, &record), ERR_CLOSED);
    }
    free(memory);
}

static void timestamps_at_both_ends_of_time(void **state)
{
    static const int64_t stamps[] = {INT64_MAX, INT64_MIN, 0, -1, INT64_MAX};
    uint8_t memory[512];
    struct batch_builder builder;
    batch_builder_begin(&builder, memory, sizeof memory);
    for (int i = 0; i < 5; i++)
        assert_int_equal(batch_builder_append(&builder, &(struct record){.timestamp = stamps[i]}), OK);
    uint32_t size = batch_builder_finish(&builder);
    struct record_reader reader;
    struct record_view record;
    read_begin(&reader, memory, size);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(record_reader_next(&reader, &record), OK);
        assert_true(record.timestamp == stamps[i]);
    }
}

/* At every capacity: what fits, fits to the last byte; what does not leaves the batch as it was. */
static void memory_is_used_to_the_last_byte(void **state)
{
    static const struct record_header headers[] = {{TEXT("trace"), TEXT("0123456789")}};
    const struct record first = {TEXT("key"), TEXT("value"), 5, headers, 1};
    const struct record second = {TEXT("key"), TEXT("a longer value"), 6, headers, 1};
    uint8_t whole[256];
    struct batch_builder builder;
    batch_builder_begin(&builder, whole, sizeof whole);
    assert_int_equal(batch_builder_append(&builder, &first), OK);
    uint32_t one = builder.size_bytes;
    assert_int_equal(batch_builder_append(&builder, &second), OK);
    uint32_t two = batch_builder_finish(&builder);
    batch_seal(whole, two);
    for (uint32_t capacity = BATCH_HEADER_BYTES + RECORD_BYTES_MIN; capacity <= two; capacity++) {
        uint8_t *memory = malloc(capacity); /* so that a sanitizer sees one byte too many */
        batch_builder_begin(&builder, memory, capacity);
        enum err want = capacity < one ? ERR_TOO_LARGE : OK;
        assert_int_equal(batch_builder_append(&builder, &first), want);
        if (want == OK) {
            uint32_t second_alone = BATCH_HEADER_BYTES + two - one;
            want = capacity < second_alone ? ERR_TOO_LARGE : capacity < two ? ERR_AGAIN : OK;
            assert_int_equal(batch_builder_append(&builder, &second), want);
            uint32_t size = batch_builder_finish(&builder);
            batch_seal(memory, size);
            assert_int_equal(size, want == OK ? two : one);
            struct batch_header header;
            assert_int_equal(batch_validate(memory, size, capacity, &header), OK);
            if (want == OK)
                assert_memory_equal(memory, whole, two);
        }
        free(memory);
    }
}

static void builder_refuses_what_no_batch_can_hold(void **state)
{
    uint8_t memory[512];
    struct batch_builder builder;
    batch_builder_begin(&builder, memory, sizeof memory);
    static const struct record_header no_key[] = {{{NULL, 0}, TEXT("x")}};
    struct record record = {.headers = no_key, .headers_count = 1};
    assert_int_equal(batch_builder_append(&builder, &record), ERR_INVALID);
    record = (struct record){.value = {memory, UINT32_MAX}, .key = {memory, UINT32_MAX}};
    assert_int_equal(batch_builder_append(&builder, &record), ERR_TOO_LARGE);
    assert_int_equal(builder.records_count, 0);
    assert_int_equal(builder.size_bytes, BATCH_HEADER_BYTES);
}

/* --- batch_validate --- */

static enum err validate(const uint8_t *batch, uint32_t size)
{
    struct batch_header header;
    uint8_t *exact = malloc(size + 1);
    memcpy(exact + 1, batch, size);
    enum err error = batch_validate(exact + 1, size, BATCH_BYTES_DEFAULT, &header);
    free(exact);
    return error;
}

/* One change to a header field of the foreign batch, sealed again. */
static enum err with_field(uint32_t at, uint32_t width, uint64_t value)
{
    uint8_t batch[sizeof foreign];
    memcpy(batch, foreign, sizeof batch);
    for (uint32_t i = 0; i < width; i++)
        batch[at + i] = (uint8_t)(value >> 8 * (width - 1 - i));
    batch_seal(batch, sizeof batch);
    return validate(batch, sizeof batch);
}

static void header_rules(void **state)
{
    static const struct {
        uint32_t at, width;
        uint64_t value;
        enum err want;
    } cases[] = {
        {23, 4, 3, OK},
        {0, 8, UINT64_MAX, OK},  /* base offset: normalised later */
        {12, 4, UINT32_MAX, OK}, /* leader epoch: normalised later */
        {8, 4, 237 - 1, ERR_CORRUPT_BATCH},
        {8, 4, 237 + 1, ERR_CORRUPT_BATCH},
        {16, 1, 1, ERR_CORRUPT_BATCH}, /* magic */
        {23, 4, 2, ERR_CORRUPT_BATCH}, /* lastOffsetDelta */
        {23, 4, 4, ERR_CORRUPT_BATCH},
        {57, 4, 3, ERR_CORRUPT_BATCH}, /* recordsCount */
        {57, 4, 0, ERR_CORRUPT_BATCH},
        {57, 4, UINT32_MAX, ERR_CORRUPT_BATCH},
        {21, 2, 0x0001, OK}, /* gzip, snappy, lz4, zstd: not opened */
        {21, 2, 0x0002, OK},
        {21, 2, 0x0003, OK},
        {21, 2, 0x0004, OK},
        {21, 2, 0x0005, ERR_UNSUPPORTED},
        {21, 2, 0x0007, ERR_UNSUPPORTED},
        {21, 2, 0x0008, ERR_INVALID},     /* LogAppendTime */
        {21, 2, 0x0010, ERR_UNSUPPORTED}, /* transactional */
        {21, 2, 0x0020, ERR_INVALID},     /* control */
        {21, 2, 0x0030, ERR_INVALID},
        {21, 2, 0x0040, ERR_INVALID}, /* delete horizon */
        {21, 2, 0x8000, ERR_INVALID},
        {43, 8, UINT64_MAX, OK}, /* no producer: epoch and sequence do not count */
        {43, 8, UINT64_MAX - 1, ERR_INVALID},
        {43, 8, 0, OK},
        {51, 2, UINT16_MAX, ERR_INVALID},
        {53, 4, UINT32_MAX, ERR_INVALID},
        {53, 4, 0, OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(with_field(cases[i].at, cases[i].width, cases[i].value), cases[i].want);
}

static void compressed_batches_cannot_claim_endless_offsets(void **state)
{
    uint8_t batch[sizeof foreign];
    memcpy(batch, foreign, sizeof batch);
    store_be16(batch + 21, CODEC_ZSTD);
    static const struct {
        uint32_t count;
        enum err want;
    } cases[] = {{1, OK},
                 {BATCH_RECORDS_MAX, OK},
                 {BATCH_RECORDS_MAX + 1, ERR_CORRUPT_BATCH},
                 {INT32_MAX, ERR_CORRUPT_BATCH},
                 {0x80000000, ERR_CORRUPT_BATCH},
                 {0, ERR_CORRUPT_BATCH}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        store_be32(batch + 57, cases[i].count);
        store_be32(batch + 23, cases[i].count - 1);
        batch_seal(batch, sizeof batch);
        assert_int_equal(validate(batch, sizeof batch), cases[i].want);
    }
}

static void sizes_are_judged_first(void **state)
{
    struct batch_header header;
    assert_int_equal(batch_validate(foreign, sizeof foreign, sizeof foreign, &header), OK);
    assert_int_equal(batch_validate(foreign, sizeof foreign, sizeof foreign - 1, &header), ERR_TOO_LARGE);
    assert_int_equal(batch_validate(foreign, (uint64_t)1 << 32, UINT32_MAX, &header), ERR_TOO_LARGE);
    for (uint32_t cut = 0; cut < sizeof foreign; cut++)
        assert_int_equal(validate(foreign, cut), ERR_CORRUPT_BATCH);
    uint8_t two[2 * sizeof foreign];
    memcpy(two, foreign, sizeof foreign);
    memcpy(two + sizeof foreign, foreign, sizeof foreign);
    assert_int_equal(validate(two, sizeof two), ERR_CORRUPT_BATCH);
}

static void every_flipped_bit_under_the_crc_is_found(void **state)
{
    uint8_t batch[sizeof foreign];
    memcpy(batch, foreign, sizeof batch);
    for (uint32_t bit = 8 * 17; bit < 8 * sizeof batch; bit++) {
        batch[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(validate(batch, sizeof batch), ERR_CORRUPT_BATCH);
        batch[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

/* A sealed batch whose records section is given byte by byte. */
static enum err with_records(int32_t count, const char *records, uint32_t records_size)
{
    uint8_t batch[256];
    memcpy(batch + BATCH_HEADER_BYTES, records, records_size);
    uint32_t size = BATCH_HEADER_BYTES + records_size;
    batch_write_header(batch, &(struct batch_header){.size_bytes = size,
                                                     .last_offset_delta = count - 1,
                                                     .records_count = count,
                                                     .producer_id = -1,
                                                     .base_sequence = -1,
                                                     .producer_epoch = -1});
    batch_seal(batch, size);
    enum err error = validate(batch, size);

    /* The reader agrees, but for offset deltas with holes. */
    struct record_reader reader;
    struct record_view record;
    read_begin(&reader, batch, size);
    int32_t read = 0;
    enum err step;
    while ((step = record_reader_next(&reader, &record)) == OK)
        read++;
    if (error == OK) {
        assert_int_equal(step, ERR_CLOSED);
        assert_int_equal(read, count);
    } else {
        assert_int_equal(step, ERR_CORRUPT_BATCH);
        assert_int_equal(record_reader_next(&reader, &record), ERR_CORRUPT_BATCH);
    }
    return error;
}

#define RECORDS(count, bytes) with_records(count, bytes, sizeof(bytes) - 1)

static void record_rules(void **state)
{
    /* length, attributes, timestamp delta, offset delta, key length, value length, header count; all zig-zag */
    assert_int_equal(RECORDS(1, "\x0c\0\0\0\x01\x01\0"), OK);
    assert_int_equal(RECORDS(1, "\x0c\x7f\0\0\x01\x01\0"), OK); /* attributes are ignored */
    assert_int_equal(RECORDS(2, "\x0c\0\0\0\x01\x01\0\x0c\0\0\x02\x01\x01\0"), OK);
    assert_int_equal(RECORDS(1, "\x14\0\0\0\x02k\x02v\x02\x02h\x01"), ERR_CORRUPT_BATCH); /* length 10 for 11 bytes */
    assert_int_equal(RECORDS(1, "\x16\0\0\0\x02k\x02v\x02\x02h\x01"), OK);
    assert_int_equal(RECORDS(1, "\x16\0\0\0\x02k\x02v\x02\x01h\x01"), ERR_CORRUPT_BATCH); /* null header key */
    assert_int_equal(RECORDS(1, "\x16\0\0\0\x02k\x02v\x01\x02h\x01"), ERR_CORRUPT_BATCH); /* -1 headers */
    assert_int_equal(RECORDS(1, "\x16\0\0\0\x02k\x02v\x04\x02h\x01"), ERR_CORRUPT_BATCH); /* a header too many */
    assert_int_equal(RECORDS(1, "\x1e\0\0\0\x02k\x02v\xfe\xff\xff\xff\x0f\x02h\x01"),
                     ERR_CORRUPT_BATCH);                                                           /* 2^31-1 headers */
    assert_int_equal(RECORDS(1, "\x0c\0\0\x02\x01\x01\0"), ERR_CORRUPT_BATCH);                     /* starts at 1 */
    assert_int_equal(RECORDS(1, "\x0c\0\0\x01\x01\x01\0"), ERR_CORRUPT_BATCH);                     /* offset delta -1 */
    assert_int_equal(RECORDS(2, "\x0c\0\0\0\x01\x01\0\x0c\0\0\0\x01\x01\0"), ERR_CORRUPT_BATCH);   /* 0, 0 */
    assert_int_equal(RECORDS(2, "\x0c\0\0\0\x01\x01\0\x0c\0\0\x04\x01\x01\0"), ERR_CORRUPT_BATCH); /* 0, 2 */
    assert_int_equal(RECORDS(2, "\x0c\0\0\0\x01\x01\0"), ERR_CORRUPT_BATCH);   /* one record missing */
    assert_int_equal(RECORDS(1, "\x0c\0\0\0\x01\x01\0\0"), ERR_CORRUPT_BATCH); /* a byte too many */
    assert_int_equal(RECORDS(1, "\x0e\0\0\0\x01\x01\0\0"), ERR_CORRUPT_BATCH); /* a byte too many inside */
    assert_int_equal(RECORDS(1, "\x0e\0\0\0\x01\x01\0"), ERR_CORRUPT_BATCH);   /* length beyond the end */
    assert_int_equal(RECORDS(1, "\x0c\0\0\0\x03\x01\0"), ERR_CORRUPT_BATCH);   /* key length -2 */
    assert_int_equal(RECORDS(1, "\x0c\0\0\0\x01\x03\0"), ERR_CORRUPT_BATCH);   /* value length -2 */
    assert_int_equal(RECORDS(1, "\x0c\0\0\0\x06\x01\0"), ERR_CORRUPT_BATCH);   /* key longer than the record */
    assert_int_equal(RECORDS(1, "\x14\0\0\0\xfe\xff\xff\xff\x0f\x01\0"), ERR_CORRUPT_BATCH); /* key of 2^31-1 */
    assert_int_equal(RECORDS(1, "\0"), ERR_CORRUPT_BATCH);                                   /* length 0 */
    assert_int_equal(RECORDS(1, "\x01"), ERR_CORRUPT_BATCH);                                 /* length -1 */
    assert_int_equal(RECORDS(1, "\xff\xff\xff\xff\x0f"), ERR_CORRUPT_BATCH);                 /* length -2^31 */
    assert_int_equal(RECORDS(1, ""), ERR_CORRUPT_BATCH);
    assert_int_equal(RECORDS(1, "\x0c\0\0\0\x01\x01"), ERR_CORRUPT_BATCH);     /* header count beyond the end */
    assert_int_equal(RECORDS(1, "\x0c\0\0\0\x01\x01\x01"), ERR_CORRUPT_BATCH); /* -1 headers and nothing else */
    assert_int_equal(RECORDS(1, "\x14\0\0\0\x02k\x02v\x02\x01\x01"), ERR_CORRUPT_BATCH); /* null = null header */
    assert_int_equal(RECORDS(1, "\x14\0\0\0\x02k\x02v\x02\0\x01"), OK);                  /* "" = null header */
    /* a timestamp delta of 2^63 - 1 on top of a base: wraps, is not refused */
    assert_int_equal(RECORDS(1, "\x1e\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\0\x01\x01\0"), OK);
}

/* --- reader --- */

static void reader_takes_compacted_batches(void **state)
{
    static const char records[] = "\x0c\0\0\x02\x01\x01\0\x0c\0\0\x08\x01\x01\0"; /* offset deltas 1 and 4 */
    struct batch_header header = {.base_offset = 100, .last_offset_delta = 5, .records_count = 2};
    struct record_reader reader;
    struct record_view record;
    record_reader_begin(&reader, &header, (const uint8_t *)records, sizeof records - 1);
    assert_int_equal(record_reader_next(&reader, &record), OK);
    assert_int_equal(record.offset, 101);
    assert_int_equal(record_reader_next(&reader, &record), OK);
    assert_int_equal(record.offset, 104);
    assert_int_equal(record_reader_next(&reader, &record), ERR_CLOSED);

    header.last_offset_delta = 3; /* now delta 4 points into the next batch */
    record_reader_begin(&reader, &header, (const uint8_t *)records, sizeof records - 1);
    assert_int_equal(record_reader_next(&reader, &record), OK);
    assert_int_equal(record_reader_next(&reader, &record), ERR_CORRUPT_BATCH);

    header.records_count = 0; /* emptied */
    record_reader_begin(&reader, &header, (const uint8_t *)records, 0);
    assert_int_equal(record_reader_next(&reader, &record), ERR_CLOSED);
    header.records_count = -1;
    record_reader_begin(&reader, &header, (const uint8_t *)records, sizeof records - 1);
    assert_int_equal(record_reader_next(&reader, &record), ERR_CORRUPT_BATCH);
}

static void reader_takes_the_brokers_timestamp(void **state)
{
    static const char records[] = "\x0c\0\x0a\0\x01\x01\0";
    struct batch_header header = {.base_timestamp = 1000, .max_timestamp = 7777, .records_count = 1};
    struct record_reader reader;
    struct record_view record;
    record_reader_begin(&reader, &header, (const uint8_t *)records, sizeof records - 1);
    assert_int_equal(record_reader_next(&reader, &record), OK);
    assert_int_equal(record.timestamp, 1005);
    header.attributes = 0x08;
    record_reader_begin(&reader, &header, (const uint8_t *)records, sizeof records - 1);
    assert_int_equal(record_reader_next(&reader, &record), OK);
    assert_int_equal(record.timestamp, 7777);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_foreign_batch),
        cmocka_unit_test(builds_the_foreign_batch),
        cmocka_unit_test(varints_of_every_width),
        cmocka_unit_test(varints_that_are_too_long),
        cmocka_unit_test(batches_of_many_sizes_come_back),
        cmocka_unit_test(timestamps_at_both_ends_of_time),
        cmocka_unit_test(memory_is_used_to_the_last_byte),
        cmocka_unit_test(builder_refuses_what_no_batch_can_hold),
        cmocka_unit_test(header_rules),
        cmocka_unit_test(compressed_batches_cannot_claim_endless_offsets),
        cmocka_unit_test(sizes_are_judged_first),
        cmocka_unit_test(every_flipped_bit_under_the_crc_is_found),
        cmocka_unit_test(record_rules),
        cmocka_unit_test(reader_takes_compacted_batches),
        cmocka_unit_test(reader_takes_the_brokers_timestamp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
