/* lz4 batches: back and forth at many sizes, frames of other writers (linked blocks, checksums, sizes that lie), every
 * cut and every flipped bit without harm, and bombs that get the cap and no byte more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lz4frame.h>

#include "wire/builder.h"
#include "wire/compress.h"

/* Caller frees. A finished batch of `count` records; `noise` of 256 bytes are random, the rest repeats. */
static uint8_t *make_batch(int32_t count, uint32_t value_size, uint32_t noise, uint32_t *ret_size)
{
    uint32_t capacity = BATCH_HEADER_BYTES + (uint32_t)count * (value_size + 32);
    uint8_t *memory = malloc(capacity);
    uint8_t *value = malloc(value_size + 1);
    uint64_t seed = 88172645463325252;
    struct batch_builder builder;
    batch_builder_begin(&builder, memory, capacity);
    for (int32_t i = 0; i < count; i++) {
        for (uint32_t at = 0; at < value_size; at++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            value[at] = at % 256 < noise ? (uint8_t)seed : (uint8_t)at;
        }
        struct record record = {.value = {value, value_size}, .timestamp = i};
        assert_int_equal(batch_builder_append(&builder, &record), OK);
    }
    free(value);
    *ret_size = batch_builder_finish(&builder);
    return memory;
}

/* A batch around a ready-made blob, caller frees. */
static uint8_t *wrap_blob(enum batch_codec codec, const uint8_t *blob, uint32_t blob_size,
                          struct batch_header *ret_header)
{
    uint8_t *batch = malloc(BATCH_HEADER_BYTES + blob_size);
    memcpy(batch + BATCH_HEADER_BYTES, blob, blob_size);
    struct batch_header header = {
        .size_bytes = BATCH_HEADER_BYTES + blob_size, .attributes = (uint16_t)codec, .records_count = 1};
    batch_write_header(batch, &header);
    assert_int_equal(batch_parse(batch, header.size_bytes, ret_header), OK);
    return batch;
}

static void batches_come_back(void **state)
{
    static const struct {
        int32_t count;
        uint32_t value_size, noise;
    } cases[] = {{20, 100, 0}, {1, 70000, 16}, {1000, 1024, 64}, {3, 65536, 128}, {1, 15u << 20, 0}, {100000, 10, 0}};
    struct compressor compressor = {0};
    struct decompressor decompressor = {0};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        uint32_t size, small_size, records_size;
        uint8_t *batch = make_batch(cases[c].count, cases[c].value_size, cases[c].noise, &size);
        uint32_t bound = batch_compress_bound(CODEC_LZ4, size);
        uint8_t *small = malloc(bound);
        batch_set_producer(batch, 77, 1, 5);
        assert_int_equal(batch_compress(&compressor, CODEC_LZ4, batch, size, small, bound, &small_size), OK);
        assert_true(small_size < size);
        batch_seal(small, small_size);

        struct batch_header header;
        assert_int_equal(batch_validate(small, small_size, BATCH_BYTES_MAX, &header), OK);
        assert_int_equal(batch_codec(&header), CODEC_LZ4);
        assert_int_equal(header.records_count, cases[c].count);
        assert_int_equal(header.max_timestamp, cases[c].count - 1);
        assert_true(header.producer_id == 77 && header.producer_epoch == 1 && header.base_sequence == 5);
        const uint8_t *records;
        assert_int_equal(records_decompress(&decompressor, small, &header, RECORDS_BYTES_MAX, &records, &records_size),
                         OK);
        assert_int_equal(records_size, size - BATCH_HEADER_BYTES);
        assert_memory_equal(records, batch + BATCH_HEADER_BYTES, records_size);
        struct record_reader reader;
        struct record_view record;
        record_reader_begin(&reader, &header, records, records_size);
        for (int32_t i = 0; i < cases[c].count; i++)
            assert_int_equal(record_reader_next(&reader, &record), OK);
        assert_int_equal(record_reader_next(&reader, &record), ERR_CLOSED);
        free(small);
        free(batch);
    }
    compressor_deinit(&compressor);
    compressor_deinit(&compressor);
    decompressor_deinit(&decompressor);
    decompressor_deinit(&decompressor);
}

static void what_does_not_shrink_is_left_alone(void **state)
{
    struct compressor compressor = {0};
    uint32_t size, small_size = 77;
    uint8_t *batch = make_batch(4, 1000, 256, &size);
    uint32_t bound = batch_compress_bound(CODEC_LZ4, size);
    uint8_t *small = malloc(bound);
    assert_int_equal(batch_compress(&compressor, CODEC_LZ4, batch, size, small, bound, &small_size), ERR_TOO_LARGE);
    assert_int_equal(batch_compress(&compressor, CODEC_LZ4, batch, size, small, bound - 1, &small_size), ERR_TOO_LARGE);
    assert_int_equal(batch_compress(&compressor, CODEC_GZIP, batch, size, small, bound, &small_size), ERR_UNSUPPORTED);
    assert_int_equal(batch_compress(&compressor, CODEC_NONE, batch, size, small, bound, &small_size), ERR_UNSUPPORTED);
    assert_int_equal(small_size, 77);
    compressor_deinit(&compressor);
    free(small);
    free(batch);
}

static void uncompressed_batches_are_read_in_place(void **state)
{
    struct decompressor decompressor = {0};
    uint32_t size, records_size;
    uint8_t *batch = make_batch(4, 100, 0, &size);
    struct batch_header header;
    const uint8_t *records;
    assert_int_equal(batch_parse(batch, size, &header), OK);
    assert_int_equal(records_decompress(&decompressor, batch, &header, size, &records, &records_size), OK);
    assert_ptr_equal(records, batch + BATCH_HEADER_BYTES);
    assert_int_equal(records_size, size - BATCH_HEADER_BYTES);
    assert_int_equal(records_decompress(&decompressor, batch, &header, records_size - 1, &records, &records_size),
                     ERR_TOO_LARGE);
    assert_null(decompressor.data);
    static const enum batch_codec others[] = {CODEC_GZIP, CODEC_SNAPPY, CODEC_ZSTD, (enum batch_codec)5,
                                              (enum batch_codec)7};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        header.attributes = (uint16_t)others[i];
        assert_int_equal(records_decompress(&decompressor, batch, &header, size, &records, &records_size),
                         ERR_UNSUPPORTED);
    }
    free(batch);
}

/* Other writers link blocks, add checksums and sizes, use large blocks. */
static void frames_of_other_writers_open(void **state)
{
    static uint8_t text[300000];
    static uint8_t frame[400000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)((i * i) >> 9);
    struct decompressor decompressor = {0};
    for (int variant = 0; variant < 16; variant++) {
        LZ4F_preferences_t preferences = {
            .frameInfo =
                {
                    .blockSizeID = (variant & 1) != 0 ? LZ4F_max4MB : LZ4F_max64KB,
                    .blockMode = (variant & 2) != 0 ? LZ4F_blockLinked : LZ4F_blockIndependent,
                    .contentChecksumFlag = (variant & 4) != 0 ? LZ4F_contentChecksumEnabled : LZ4F_noContentChecksum,
                    .contentSize = (variant & 8) != 0 ? sizeof text : 0,
                },
        };
        size_t frame_size = LZ4F_compressFrame(frame, sizeof frame, text, sizeof text, &preferences);
        assert_false(LZ4F_isError(frame_size));
        struct batch_header header;
        uint8_t *batch = wrap_blob(CODEC_LZ4, frame, (uint32_t)frame_size, &header);
        const uint8_t *records;
        uint32_t records_size;
        assert_int_equal(records_decompress(&decompressor, batch, &header, sizeof text, &records, &records_size), OK);
        assert_int_equal(records_size, sizeof text);
        assert_memory_equal(records, text, sizeof text);
        free(batch);
    }
    decompressor_deinit(&decompressor);
}

static void cut_flipped_and_followed_frames(void **state)
{
    struct compressor compressor = {0};
    struct decompressor decompressor = {0};
    uint32_t size, small_size, records_size;
    uint8_t *batch = make_batch(30, 50, 8, &size);
    uint8_t small[8192];
    assert_true(batch_compress_bound(CODEC_LZ4, size) <= sizeof small);
    assert_int_equal(batch_compress(&compressor, CODEC_LZ4, batch, size, small, sizeof small, &small_size), OK);
    const uint8_t *blob = small + BATCH_HEADER_BYTES;
    uint32_t blob_size = small_size - BATCH_HEADER_BYTES;
    const uint8_t *records;
    struct batch_header header;
    for (uint32_t cut = 0; cut < blob_size; cut++) {
        uint8_t *bad = wrap_blob(CODEC_LZ4, blob, cut, &header);
        assert_int_equal(records_decompress(&decompressor, bad, &header, 1 << 20, &records, &records_size),
                         ERR_CORRUPT_BATCH);
        free(bad);
    }
    for (uint32_t bit = 0; bit < 8 * blob_size; bit++) {
        uint8_t *bad = wrap_blob(CODEC_LZ4, blob, blob_size, &header);
        bad[BATCH_HEADER_BYTES + bit / 8] ^= (uint8_t)(1u << (bit % 8));
        enum err error = records_decompress(&decompressor, bad, &header, 1 << 20, &records, &records_size);
        assert_true(error == OK || error == ERR_CORRUPT_BATCH || error == ERR_TOO_LARGE);
        free(bad);
    }
    small[small_size] = 0; /* one byte behind the frame */
    uint8_t *bad = wrap_blob(CODEC_LZ4, blob, blob_size + 1, &header);
    assert_int_equal(records_decompress(&decompressor, bad, &header, 1 << 20, &records, &records_size),
                     ERR_CORRUPT_BATCH);
    free(bad);
    /* and after all that a good one still opens */
    bad = wrap_blob(CODEC_LZ4, blob, blob_size, &header);
    assert_int_equal(records_decompress(&decompressor, bad, &header, 1 << 20, &records, &records_size), OK);
    assert_memory_equal(records, batch + BATCH_HEADER_BYTES, records_size);
    free(bad);
    free(batch);
    compressor_deinit(&compressor);
    decompressor_deinit(&decompressor);
}

static void bombs_get_the_cap_and_no_more(void **state)
{
    enum { BOMB = 64 << 20, CAP = 1 << 20 };
    uint8_t *zeros = calloc(1, BOMB);
    for (int lies = 0; lies < 2; lies++) {
        LZ4F_preferences_t preferences = {.frameInfo = {.blockSizeID = LZ4F_max4MB, .contentSize = lies ? BOMB : 0}};
        size_t bound = LZ4F_compressFrameBound(BOMB, &preferences);
        uint8_t *out = malloc(bound);
        size_t frame_size = LZ4F_compressFrame(out, bound, zeros, BOMB, &preferences);
        assert_true(!LZ4F_isError(frame_size) && frame_size < BOMB / 200);
        struct batch_header header;
        uint8_t *batch = wrap_blob(CODEC_LZ4, out, (uint32_t)frame_size, &header);
        const uint8_t *records = NULL;
        uint32_t records_size = 77;
        struct decompressor decompressor = {0};
        assert_int_equal(records_decompress(&decompressor, batch, &header, CAP, &records, &records_size),
                         ERR_TOO_LARGE);
        assert_int_equal(records_decompress(&decompressor, batch, &header, CAP - 1, &records, &records_size),
                         ERR_TOO_LARGE);
        assert_int_equal(records_decompress(&decompressor, batch, &header, 1, &records, &records_size), ERR_TOO_LARGE);
        assert_true(decompressor.capacity <= CAP);
        assert_null(records);
        assert_int_equal(records_size, 77);
        assert_int_equal(records_decompress(&decompressor, batch, &header, BOMB - 1, &records, &records_size),
                         ERR_TOO_LARGE);
        assert_int_equal(records_decompress(&decompressor, batch, &header, BOMB, &records, &records_size), OK);
        assert_int_equal(records_size, BOMB);
        /* a buffer grown by an earlier call does not raise a later call's cap */
        assert_int_equal(records_decompress(&decompressor, batch, &header, CAP, &records, &records_size),
                         ERR_TOO_LARGE);
        decompressor_deinit(&decompressor);
        free(batch);
        free(out);
    }
    free(zeros);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_come_back),
        cmocka_unit_test(what_does_not_shrink_is_left_alone),
        cmocka_unit_test(uncompressed_batches_are_read_in_place),
        cmocka_unit_test(frames_of_other_writers_open),
        cmocka_unit_test(cut_flipped_and_followed_frames),
        cmocka_unit_test(bombs_get_the_cap_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
