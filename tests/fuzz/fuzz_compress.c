/* Compressed records from hostile producers. Opening takes no more memory than its cap and the codecs' own, reads
 * nothing beyond the blob, gives the same answer with a used decompressor as with a new one, and needs exactly as much
 * room as the records have bytes. What was compressed here opens to the same bytes; with bits flipped it opens or is
 * refused.
 *
 * Input: byte 0: bits 0-2 the codec, bit 3 the rest is not a blob but a recipe of records to compress: {count, byte}
 * pairs; bits 4-7 as many flips, {place (2 bytes), change}, in front of it. Byte 1: the cap, 2^(n % 20) bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "wire/compress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *memory);

#define BLOB_BYTES_MAX    4096u
#define CONTENT_BYTES_MAX (64u << 10)
#define OWN_BYTES_MAX     (9u << 20) /* of the codecs: compress.h */

/* --- memory --- */

static int64_t held_bytes, peak_bytes;

static void on_malloc(const volatile void *memory, size_t size)
{
    held_bytes += (int64_t)size;
    peak_bytes = held_bytes > peak_bytes ? held_bytes : peak_bytes;
}

static void on_free(const volatile void *memory)
{
    held_bytes -= memory != NULL ? (int64_t)__sanitizer_get_allocated_size(memory) : 0;
}

/* --- opening --- */

struct opened {
    enum err error;
    const uint8_t *records;
    uint32_t size;
};

static struct opened open_blob(struct decompressor *decompressor, const uint8_t *batch, uint32_t cap)
{
    struct batch_header header;
    struct opened opened = {0};
    ASSERT(batch_parse(batch, BATCH_HEADER_BYTES, &header) == OK);
    int64_t before = held_bytes - decompressor->capacity;
    peak_bytes = held_bytes;
    opened.error = records_decompress(decompressor, batch, &header, cap, &opened.records, &opened.size);
    ASSERT(opened.error == OK || opened.error == ERR_TOO_LARGE || opened.error == ERR_CORRUPT_BATCH ||
           opened.error == ERR_UNSUPPORTED);
    ASSERT(opened.error != OK || opened.size <= cap);
    /* A buffer that grows stands twice in memory for a moment. */
    uint64_t largest = decompressor->capacity > cap ? decompressor->capacity : cap;
    ASSERT(peak_bytes - before <= (int64_t)(2 * largest + OWN_BYTES_MAX));
    return opened;
}

/* The batch stands in memory of exactly its size. */
static void check_blob(const uint8_t *batch, uint32_t cap)
{
    static struct decompressor used; /* from input to input */
    struct decompressor fresh = {0};
    struct opened first = open_blob(&fresh, batch, cap);
    struct opened second = open_blob(&used, batch, cap);
    ASSERT(fresh.capacity <= cap);
    ASSERT(first.error == second.error && first.size == second.size);
    ASSERT(first.size == 0 || memcmp(first.records, second.records, first.size) == 0);
    if (first.error == OK && first.records == fresh.data && first.size > 0) {
        uint32_t size = first.size;
        ASSERT(open_blob(&used, batch, size).error == OK);
        ASSERT(size == 1 || open_blob(&used, batch, size - 1).error == ERR_TOO_LARGE);
    } else if (first.error == ERR_TOO_LARGE) {
        struct opened larger = open_blob(&used, batch, cap * 4);
        ASSERT(larger.error != OK || larger.size > cap);
    }
    decompressor_deinit(&fresh);
    if (used.capacity > CONTENT_BYTES_MAX)
        decompressor_deinit(&used);
}

static uint8_t *make_batch(const uint8_t *records, uint32_t size, unsigned codec)
{
    struct batch_header header = {.size_bytes = BATCH_HEADER_BYTES + size,
                                  .attributes = (uint16_t)codec,
                                  .producer_id = -1,
                                  .base_sequence = -1,
                                  .records_count = 1};
    uint8_t *batch = malloc(header.size_bytes);
    ASSERT(batch != NULL);
    batch_write_header(batch, &header);
    if (size > 0)
        memcpy(batch + BATCH_HEADER_BYTES, records, size);
    return batch;
}

/* --- compressing --- */

static uint32_t cook(const uint8_t *recipe, size_t size, uint8_t *content)
{
    uint32_t used = 0;
    for (size_t i = 0; i + 1 < size; i += 2) {
        uint32_t count = recipe[i] < 128 ? recipe[i] : (recipe[i] - 127u) * 64;
        count = count < CONTENT_BYTES_MAX - used ? count : CONTENT_BYTES_MAX - used;
        for (uint32_t j = 0; j < count; j++)
            content[used++] = (uint8_t)(recipe[i + 1] + (recipe[i] % 2 == 0 ? 0 : j * 7));
    }
    return used;
}

static void check_recipe(unsigned codec, unsigned flips, const uint8_t *data, size_t size, uint32_t cap)
{
    static struct compressor compressor;
    static struct decompressor decompressor;
    static uint8_t content[CONTENT_BYTES_MAX];
    const uint8_t *changes = data;
    flips = 3 * flips <= size ? flips : 0;
    uint32_t content_size = cook(data + 3 * flips, size - 3 * flips, content);
    uint8_t *batch = make_batch(content, content_size, CODEC_NONE);
    uint32_t bound = batch_compress_bound((enum batch_codec)codec, BATCH_HEADER_BYTES + content_size);
    uint8_t *small = malloc(bound), *exact;
    uint32_t small_size = 0;
    enum err error = batch_compress(&compressor, (enum batch_codec)codec, batch, BATCH_HEADER_BYTES + content_size,
                                    small, bound, &small_size);
    ASSERT(error == OK || error == ERR_TOO_LARGE || (error == ERR_UNSUPPORTED && (codec == CODEC_NONE || codec > 4)));
    if (error == OK) {
        ASSERT(small_size < BATCH_HEADER_BYTES + content_size);
        struct opened opened = open_blob(&decompressor, small, CONTENT_BYTES_MAX);
        ASSERT(opened.error == OK && opened.size == content_size);
        ASSERT(memcmp(opened.records, content, content_size) == 0);
        exact = make_batch(small + BATCH_HEADER_BYTES, small_size - BATCH_HEADER_BYTES, codec);
        for (unsigned i = 0; i < flips; i++) {
            uint32_t place = (changes[3 * i] * 256u + changes[3 * i + 1]) % (small_size - BATCH_HEADER_BYTES);
            exact[BATCH_HEADER_BYTES + place] ^= changes[3 * i + 2];
        }
        check_blob(exact, cap);
        free(exact);
    }
    free(small);
    free(batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool watched;
    if (!watched) {
        __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
        watched = true;
    }
    if (size < 2 || size > BLOB_BYTES_MAX)
        return 0;
    uint32_t cap = (uint32_t)1 << data[1] % 20;
    unsigned codec = data[0] & 7;
    if ((data[0] & 8) != 0) {
        check_recipe(codec, data[0] >> 4, data + 2, size - 2, cap);
        return 0;
    }
    uint8_t *batch = make_batch(data + 2, (uint32_t)size - 2, codec);
    check_blob(batch, cap);
    free(batch);
    return 0;
}
