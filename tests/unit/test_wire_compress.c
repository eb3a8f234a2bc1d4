/* Compressed batches of every codec: back and forth at many sizes, lz4 frames of other writers (linked blocks,
 * checksums, sizes that lie), every cut and every flipped bit without harm, blobs twice in a row, sizes that lie, and
 * bombs that get the cap and no byte more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>
#include <zstd.h>

#include "base/endian.h"
#include "wire/builder.h"
#include "wire/compress.h"

static const enum batch_codec all_codecs[] = {CODEC_GZIP, CODEC_SNAPPY, CODEC_LZ4, CODEC_ZSTD};
#define CODECS (sizeof all_codecs / sizeof all_codecs[0])

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

/* Compresses a batch, checks the small one, opens it, compares. */
static void check_comes_back(struct compressor *compressor, struct decompressor *decompressor, enum batch_codec codec,
                             const uint8_t *batch, uint32_t size, int32_t count)
{
    uint32_t bound = batch_compress_bound(codec, size);
    uint8_t *small = malloc(bound);
    uint32_t small_size, records_size;
    assert_int_equal(batch_compress(compressor, codec, batch, size, small, bound, &small_size), OK);
    assert_true(small_size < size);
    batch_seal(small, small_size);

    struct batch_header header;
    assert_int_equal(batch_validate(small, small_size, BATCH_BYTES_MAX, &header), OK);
    assert_int_equal(batch_codec(&header), codec);
    assert_int_equal(header.records_count, count);
    assert_int_equal(header.max_timestamp, count - 1);
    assert_true(header.producer_id == 77 && header.producer_epoch == 1 && header.base_sequence == 5);
    const uint8_t *records;
    assert_int_equal(records_decompress(decompressor, small, &header, RECORDS_BYTES_MAX, &records, &records_size), OK);
    assert_int_equal(records_size, size - BATCH_HEADER_BYTES);
    assert_memory_equal(records, batch + BATCH_HEADER_BYTES, records_size);
    struct record_reader reader;
    struct record_view record;
    record_reader_begin(&reader, &header, records, records_size);
    for (int32_t i = 0; i < count; i++)
        assert_int_equal(record_reader_next(&reader, &record), OK);
    assert_int_equal(record_reader_next(&reader, &record), ERR_CLOSED);
    free(small);
}

static void batches_come_back(void **state)
{
    static const struct {
        int32_t count;
        uint32_t value_size, noise;
    } cases[] = {{20, 100, 0},    {1, 65521, 0},     {1, 70000, 16}, {1000, 1024, 64},
                 {3, 65536, 128}, {1, 15u << 20, 0}, {100000, 10, 0}};
    struct compressor compressor = {0};
    struct decompressor decompressor = {0};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        uint32_t size;
        uint8_t *batch = make_batch(cases[c].count, cases[c].value_size, cases[c].noise, &size);
        batch_set_producer(batch, 77, 1, 5);
        for (size_t i = 0; i < CODECS; i++)
            check_comes_back(&compressor, &decompressor, all_codecs[i], batch, size, cases[c].count);
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
    for (size_t i = 0; i < CODECS; i++) {
        enum batch_codec codec = all_codecs[i];
        uint32_t bound = batch_compress_bound(codec, size);
        uint8_t *small = malloc(bound); /* of exactly that size: a sanitizer sees what writes behind it */
        assert_int_equal(batch_compress(&compressor, codec, batch, size, small, bound, &small_size), ERR_TOO_LARGE);
        assert_int_equal(batch_compress(&compressor, codec, batch, size, small, bound - 1, &small_size), ERR_TOO_LARGE);
        free(small);
    }
    static const enum batch_codec others[] = {CODEC_NONE, (enum batch_codec)5, (enum batch_codec)7};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        uint8_t small[8192];
        assert_int_equal(batch_compress(&compressor, others[i], batch, size, small, sizeof small, &small_size),
                         ERR_UNSUPPORTED);
    }
    assert_int_equal(small_size, 77);
    compressor_deinit(&compressor);
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
    for (uint16_t codec = 5; codec <= 7; codec++) {
        header.attributes = codec;
        assert_int_equal(records_decompress(&decompressor, batch, &header, size, &records, &records_size),
                         ERR_UNSUPPORTED);
    }
    for (size_t i = 0; i < CODECS; i++) { /* uncompressed records under a codec's number */
        header.attributes = (uint16_t)all_codecs[i];
        assert_int_equal(records_decompress(&decompressor, batch, &header, size, &records, &records_size),
                         ERR_CORRUPT_BATCH);
    }
    decompressor_deinit(&decompressor);
    free(batch);
}

/* Other writers link blocks, add checksums and sizes, use large blocks. */
static void lz4_frames_of_other_writers_open(void **state)
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

static enum err open_blob(struct decompressor *decompressor, enum batch_codec codec, const uint8_t *blob,
                          uint32_t blob_size, uint32_t bytes_max)
{
    struct batch_header header;
    uint8_t *batch = wrap_blob(codec, blob, blob_size, &header);
    const uint8_t *records = NULL;
    uint32_t records_size = 77;
    enum err error = records_decompress(decompressor, batch, &header, bytes_max, &records, &records_size);
    assert_true(error == OK || (records == NULL && records_size == 77));
    free(batch);
    return error;
}

static void check_cuts_and_flips(enum batch_codec codec, const uint8_t *blob, uint32_t blob_size)
{
    struct decompressor decompressor = {0};
    for (uint32_t cut = 0; cut < blob_size; cut++) {
        enum err error = open_blob(&decompressor, codec, blob, cut, 1 << 20);
        assert_int_equal(error, ERR_CORRUPT_BATCH);
    }
    uint8_t *bad = malloc(2 * blob_size);
    memcpy(bad, blob, blob_size);
    for (uint32_t bit = 0; bit < 8 * blob_size; bit++) {
        bad[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        enum err error = open_blob(&decompressor, codec, bad, blob_size, 1 << 20);
        assert_true(error == OK || error == ERR_CORRUPT_BATCH || error == ERR_TOO_LARGE);
        bad[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (int byte = 0; byte < 256; byte++) {
        bad[blob_size] = (uint8_t)byte;
        assert_int_equal(open_blob(&decompressor, codec, bad, blob_size + 1, 1 << 20), ERR_CORRUPT_BATCH);
    }
    memcpy(bad + blob_size, blob, blob_size);
    assert_int_equal(open_blob(&decompressor, codec, bad, 2 * blob_size, 1 << 20), ERR_CORRUPT_BATCH);
    /* and after all that a good one still opens */
    assert_int_equal(open_blob(&decompressor, codec, blob, blob_size, 1 << 20), OK);
    free(bad);
    decompressor_deinit(&decompressor);
}

static void cut_flipped_followed_and_doubled_blobs(void **state)
{
    struct compressor compressor = {0};
    uint32_t size, small_size;
    uint8_t *batch = make_batch(30, 50, 8, &size);
    uint8_t small[8192];
    for (size_t i = 0; i < CODECS; i++) {
        assert_true(batch_compress_bound(all_codecs[i], size) <= sizeof small);
        assert_int_equal(batch_compress(&compressor, all_codecs[i], batch, size, small, sizeof small, &small_size), OK);
        const uint8_t *blob = small + BATCH_HEADER_BYTES;
        uint32_t blob_size = small_size - BATCH_HEADER_BYTES;
        if (all_codecs[i] != CODEC_SNAPPY) {
            check_cuts_and_flips(all_codecs[i], blob, blob_size);
            continue;
        }
        /* Java's framing may end behind its header, and behind any block: that has to be a batch without records. */
        check_cuts_and_flips(CODEC_SNAPPY, blob + 20, blob_size - 20);
        struct decompressor decompressor = {0};
        for (uint32_t cut = 0; cut < blob_size; cut++)
            assert_int_equal(open_blob(&decompressor, CODEC_SNAPPY, blob, cut, 1 << 20),
                             cut == 16 ? OK : ERR_CORRUPT_BATCH);
        uint8_t twice[2 * sizeof small];
        memcpy(twice, blob, blob_size);
        memcpy(twice + blob_size, blob, blob_size);
        assert_int_equal(open_blob(&decompressor, CODEC_SNAPPY, twice, 2 * blob_size, 1 << 20), ERR_CORRUPT_BATCH);
        assert_int_equal(open_blob(&decompressor, CODEC_SNAPPY, twice, blob_size + 1, 1 << 20), ERR_CORRUPT_BATCH);
        decompressor_deinit(&decompressor);
    }
    free(batch);
    compressor_deinit(&compressor);
}

/* What stands in a blob about its own size decides nothing. */
static void declared_sizes_are_not_believed(void **state)
{
    struct decompressor decompressor = {0};
    uint8_t blob[256] = {0};
    static const uint8_t text[100];

    /* gzip: the last four bytes are the size of the content */
    z_stream stream = {0};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (uint8_t *)(uintptr_t)text, stream.avail_in = sizeof text;
    stream.next_out = blob, stream.avail_out = sizeof blob;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    uint32_t gzip_size = (uint32_t)stream.total_out;
    deflateEnd(&stream);
    assert_int_equal(open_blob(&decompressor, CODEC_GZIP, blob, gzip_size, 1 << 20), OK);
    store_le32(blob + gzip_size - 4, 60u << 20);
    assert_int_equal(open_blob(&decompressor, CODEC_GZIP, blob, gzip_size, 1 << 20), ERR_CORRUPT_BATCH);

    /* snappy: the block declares 4 GiB - 1, raw and in Java's framing; then a block that is longer than the rest */
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0, 'x'};
    static const uint8_t framed[] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y',  0,    0,    0,    0,    1, 0,  0,
                                     0,    1,   0,   0,   0,   7,   0xff, 0xff, 0xff, 0xff, 0x0f, 0, 'x'};
    assert_int_equal(open_blob(&decompressor, CODEC_SNAPPY, huge, sizeof huge, RECORDS_BYTES_MAX), ERR_CORRUPT_BATCH);
    assert_int_equal(open_blob(&decompressor, CODEC_SNAPPY, framed, sizeof framed, RECORDS_BYTES_MAX),
                     ERR_CORRUPT_BATCH);
    assert_int_equal(open_blob(&decompressor, CODEC_SNAPPY, framed, sizeof framed - 1, RECORDS_BYTES_MAX),
                     ERR_CORRUPT_BATCH);

    /* zstd: a window and a content of 2^40 bytes; then a frame to be skipped, and one of the format of 2014 */
    static const uint8_t window[] = {0x28, 0xb5, 0x2f, 0xfd, 0xc0, 0xf0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0};
    static const uint8_t skipped[] = {0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'};
    static const uint8_t legacy[] = {0x22, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0, 0};
    assert_int_equal(open_blob(&decompressor, CODEC_ZSTD, window, sizeof window, RECORDS_BYTES_MAX), ERR_CORRUPT_BATCH);
    assert_int_equal(open_blob(&decompressor, CODEC_ZSTD, skipped, sizeof skipped, 1 << 20), ERR_CORRUPT_BATCH);
    assert_int_equal(open_blob(&decompressor, CODEC_ZSTD, legacy, sizeof legacy, 1 << 20), ERR_CORRUPT_BATCH);

    assert_true(decompressor.capacity <= 64 << 10);
    decompressor_deinit(&decompressor);
}

enum { BOMB = 64 << 20, CAP = 1 << 20 };

/* Caller frees. */
static uint8_t *make_bomb(enum batch_codec codec, bool lies, const uint8_t *zeros, uint32_t *ret_size)
{
    LZ4F_preferences_t preferences = {.frameInfo = {.blockSizeID = LZ4F_max4MB, .contentSize = lies ? BOMB : 0}};
    z_stream stream = {.next_in = (uint8_t *)(uintptr_t)zeros, .avail_in = BOMB};
    size_t size = snappy_max_compressed_length(BOMB); /* the largest of the bounds */
    uint8_t *out = malloc(size);
    switch (codec) {
    case CODEC_GZIP:
        assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        stream.next_out = out, stream.avail_out = (uInt)size;
        assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
        size = stream.total_out;
        deflateEnd(&stream);
        break;
    case CODEC_SNAPPY:
        assert_int_equal(snappy_compress((const char *)zeros, BOMB, (char *)out, &size), SNAPPY_OK);
        break;
    case CODEC_LZ4:
        size = LZ4F_compressFrame(out, size, zeros, BOMB, &preferences);
        break;
    default:
        size = ZSTD_compress(out, size, zeros, BOMB, 19);
        break;
    }
    assert_true(size < BOMB / 20);
    *ret_size = (uint32_t)size;
    return out;
}

static void bombs_get_the_cap_and_no_more(void **state)
{
    uint8_t *zeros = calloc(1, BOMB);
    for (size_t i = 0; i < CODECS + 1; i++) {
        enum batch_codec codec = i < CODECS ? all_codecs[i] : CODEC_LZ4; /* lz4 twice: with a true content size, too */
        uint32_t blob_size;
        uint8_t *blob = make_bomb(codec, i == CODECS, zeros, &blob_size);
        struct decompressor decompressor = {0};
        assert_int_equal(open_blob(&decompressor, codec, blob, blob_size, CAP), ERR_TOO_LARGE);
        assert_int_equal(open_blob(&decompressor, codec, blob, blob_size, CAP - 1), ERR_TOO_LARGE);
        assert_int_equal(open_blob(&decompressor, codec, blob, blob_size, 1), ERR_TOO_LARGE);
        assert_true(decompressor.capacity <= CAP);
        assert_int_equal(open_blob(&decompressor, codec, blob, blob_size, BOMB - 1), ERR_TOO_LARGE);
        assert_true(decompressor.capacity <= BOMB - 1);
        assert_int_equal(open_blob(&decompressor, codec, blob, blob_size, BOMB), OK);
        assert_memory_equal(decompressor.data, zeros, BOMB);
        /* a buffer grown by an earlier call does not raise a later call's cap */
        assert_int_equal(open_blob(&decompressor, codec, blob, blob_size, CAP), ERR_TOO_LARGE);
        decompressor_deinit(&decompressor);
        free(blob);
    }
    free(zeros);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_come_back),
        cmocka_unit_test(what_does_not_shrink_is_left_alone),
        cmocka_unit_test(uncompressed_batches_are_read_in_place),
        cmocka_unit_test(lz4_frames_of_other_writers_open),
        cmocka_unit_test(cut_flipped_followed_and_doubled_blobs),
        cmocka_unit_test(declared_sizes_are_not_believed),
        cmocka_unit_test(bombs_get_the_cap_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
