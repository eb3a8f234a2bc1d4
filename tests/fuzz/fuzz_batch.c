/* Batches from hostile producers and damaged disks. Whatever batch_validate accepts reads to its end with exactly
 * recordsCount records, and can be rebuilt, compressed and opened again without loss; whatever it refuses does no harm
 * to a reader either; and opening never takes more than the cap.
 *
 * Input: byte 0 options (bit 0: put the right magic, size and CRC in, which a fuzzer cannot guess), then the batch. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/endian.h"
#include "wire/builder.h"
#include "wire/compress.h"
#include "wire/records.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CAP_BYTES   (1u << 20)
#define HEADERS_MAX 256u

/* Reads every byte that a blob claims, for the sanitizer. */
static uint32_t touch(struct blob blob)
{
    uint32_t sum = blob.size;
    for (uint32_t i = 0; i < blob.size; i++)
        sum += blob.data[i];
    return sum;
}

/* Reads all records; returns how many before *ret_end said why no more came. builder, if not NULL, gets them as well.
 */
static int32_t read_all(const struct batch_header *header, const uint8_t *records, uint32_t size,
                        struct batch_builder *builder, enum err *ret_end)
{
    struct record_reader reader;
    struct record_view view;
    int32_t count = 0;
    record_reader_begin(&reader, header, records, size);
    while ((*ret_end = record_reader_next(&reader, &view)) == OK) {
        static struct record_header headers[HEADERS_MAX];
        uint32_t headers_count = 0;
        uint32_t sum = touch(view.key) + touch(view.value);
        struct record_header got;
        while (record_next_header(&view, &got)) {
            sum += touch(got.key) + touch(got.value);
            if (headers_count < HEADERS_MAX)
                headers[headers_count++] = got;
        }
        __asm__ volatile("" : : "r"(sum)); /* keeps the reads */
        struct record record = {view.key, view.value, view.timestamp, headers, headers_count};
        if (builder != NULL)
            ASSERT(batch_builder_append(builder, &record) == OK);
        count++;
    }
    ASSERT(record_reader_next(&reader, &view) == *ret_end);
    return count;
}

/* The records of an accepted batch, written anew, are accepted, compress and come back byte for byte. */
static void rebuild(const uint8_t *batch, const struct batch_header *header)
{
    enum err end;
    struct batch_header again;
    /* Timestamps are written against the first one now, so a delta may need ten bytes where it needed one. */
    uint32_t capacity = header->size_bytes + 10 * (uint32_t)header->records_count;
    uint8_t *memory = malloc(capacity);
    struct batch_builder builder;
    batch_builder_begin(&builder, memory, capacity);
    read_all(header, batch + BATCH_HEADER_BYTES, header->size_bytes - BATCH_HEADER_BYTES, &builder, &end);
    uint32_t size = batch_builder_finish(&builder);
    batch_seal(memory, size);
    ASSERT(batch_validate(memory, size, BATCH_BYTES_MAX, &again) == OK && again.records_count == header->records_count);

    static struct compressor compressor;
    static struct decompressor decompressor;
    uint32_t bound = batch_compress_bound(CODEC_LZ4, size);
    uint8_t *small = malloc(bound);
    uint32_t small_size, opened_size;
    if (batch_compress(&compressor, CODEC_LZ4, memory, size, small, bound, &small_size) == OK) {
        const uint8_t *opened;
        batch_seal(small, small_size);
        ASSERT(batch_validate(small, small_size, BATCH_BYTES_MAX, &again) == OK);
        ASSERT(records_decompress(&decompressor, small, &again, RECORDS_BYTES_MAX, &opened, &opened_size) == OK);
        ASSERT(opened_size == size - BATCH_HEADER_BYTES &&
               memcmp(opened, memory + BATCH_HEADER_BYTES, opened_size) == 0);
    }
    free(small);
    free(memory);
}

/* A consumer opens a batch that no broker has looked into. */
static void open_unseen(const uint8_t *batch, const struct batch_header *header)
{
    struct decompressor decompressor = {0};
    const uint8_t *records;
    uint32_t size;
    enum err end;
    if (records_decompress(&decompressor, batch, header, CAP_BYTES, &records, &size) == OK) {
        ASSERT(size <= CAP_BYTES);
        int32_t count = read_all(header, records, size, NULL, &end);
        ASSERT(end == ERR_CLOSED ? count == header->records_count : end == ERR_CORRUPT_BATCH);
    }
    ASSERT(decompressor.capacity <= CAP_BYTES);
    decompressor_deinit(&decompressor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    bool repair = (data[0] & 1) != 0;
    uint32_t batch_size = (uint32_t)size - 1;
    uint8_t *batch = malloc(batch_size + 1);
    uint8_t *exact = batch + 1; /* the sanitizer sees one byte too many */
    memcpy(exact, data + 1, batch_size);
    if (repair && batch_size >= BATCH_HEADER_BYTES) {
        exact[16] = 2;
        store_be32(exact + 8, batch_size - BATCH_LENGTH_OVERHEAD);
        batch_seal(exact, batch_size);
    }
    struct batch_header header;
    if (batch_parse(exact, batch_size, &header) == OK && header.size_bytes <= batch_size)
        open_unseen(exact, &header);
    if (batch_validate(exact, batch_size, BATCH_BYTES_MAX, &header) == OK) {
        ASSERT(header.size_bytes == batch_size && batch_crc_ok(exact, batch_size));
        ASSERT(header.records_count == header.last_offset_delta + 1);
        if (batch_codec(&header) == CODEC_NONE) {
            enum err end;
            int32_t count = read_all(&header, exact + BATCH_HEADER_BYTES, batch_size - BATCH_HEADER_BYTES, NULL, &end);
            ASSERT(end == ERR_CLOSED && count == header.records_count);
            rebuild(exact, &header);
        }
    }
    free(batch);
    return 0;
}
