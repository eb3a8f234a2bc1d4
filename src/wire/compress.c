/* Codecs of a batch: one switch per direction, then one function per codec and direction.
 *
 * Opening is written for hostile input: the output buffer grows by doubling from what the compressed size makes likely,
 * never beyond the caller's cap, and a declared content size is not believed. */
#include "wire/compress.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lz4frame.h>

#include "base/assert.h"
#include "base/limits.h"

#define EXPANSION_GUESS  4u
#define OUTPUT_BYTES_MIN (64u << 10)
#define CODEC_BITS       7u

/* Kafka's Java client reads version 1 frames with independent blocks only. autoFlush: compress from the source, without
 * LZ4's staging copy. */
static const LZ4F_preferences_t lz4_preferences = {
    .frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent},
    .autoFlush = 1,
};

void compressor_deinit(struct compressor *compressor)
{
    LZ4F_freeCompressionContext(compressor->lz4);
    *compressor = (struct compressor){0};
}

uint32_t batch_compress_bound(enum batch_codec codec, uint32_t size_bytes)
{
    ASSERT(size_bytes >= BATCH_HEADER_BYTES && size_bytes <= BATCH_BYTES_MAX);
    if (codec != CODEC_LZ4)
        return size_bytes;
    size_t frame_bytes = LZ4F_HEADER_SIZE_MAX + LZ4F_compressBound(size_bytes - BATCH_HEADER_BYTES, &lz4_preferences);
    return BATCH_HEADER_BYTES + (uint32_t)frame_bytes;
}

static enum err lz4_compress(struct compressor *compressor, const uint8_t *from, uint32_t from_bytes, uint8_t *to,
                             uint32_t capacity, uint32_t *ret_size)
{
    if (compressor->lz4 == NULL) {
        LZ4F_cctx *made;
        if (LZ4F_isError(LZ4F_createCompressionContext(&made, LZ4F_VERSION)))
            return ERR_NO_MEMORY;
        compressor->lz4 = made;
    }
    LZ4F_cctx *lz4 = compressor->lz4;
    /* There is room for the bound, so that the one thing left to fail is LZ4's own memory. */
    size_t size_bytes = LZ4F_compressBegin(lz4, to, capacity, &lz4_preferences);
    if (LZ4F_isError(size_bytes))
        return ERR_NO_MEMORY;
    size_t step = LZ4F_compressUpdate(lz4, to + size_bytes, capacity - size_bytes, from, from_bytes, NULL);
    if (LZ4F_isError(step))
        return ERR_NO_MEMORY;
    size_bytes += step;
    step = LZ4F_compressEnd(lz4, to + size_bytes, capacity - size_bytes, NULL);
    if (LZ4F_isError(step))
        return ERR_NO_MEMORY;
    *ret_size = (uint32_t)(size_bytes + step);
    return OK;
}

enum err batch_compress(struct compressor *compressor, enum batch_codec codec, const uint8_t *batch,
                        uint32_t size_bytes, uint8_t *out, uint32_t capacity, uint32_t *ret_size)
{
    struct batch_header header;
    enum err error = batch_parse(batch, size_bytes, &header);
    ASSERT(error == OK && header.size_bytes == size_bytes && batch_codec(&header) == CODEC_NONE);
    if (codec != CODEC_LZ4)
        return ERR_UNSUPPORTED;
    if (capacity < batch_compress_bound(codec, size_bytes))
        return ERR_TOO_LARGE;
    uint32_t records_bytes;
    error = lz4_compress(compressor, batch + BATCH_HEADER_BYTES, size_bytes - BATCH_HEADER_BYTES,
                         out + BATCH_HEADER_BYTES, capacity - BATCH_HEADER_BYTES, &records_bytes);
    if (error != OK)
        return error;
    if (records_bytes >= size_bytes - BATCH_HEADER_BYTES)
        return ERR_TOO_LARGE;
    header.size_bytes = BATCH_HEADER_BYTES + records_bytes;
    header.attributes = (uint16_t)((header.attributes & ~CODEC_BITS) | codec);
    batch_write_header(out, &header);
    *ret_size = header.size_bytes;
    return OK;
}

void decompressor_deinit(struct decompressor *decompressor)
{
    LZ4F_freeDecompressionContext(decompressor->lz4);
    free(decompressor->data);
    *decompressor = (struct decompressor){0};
}

/* Grows the output to at least wanted, at most bytes_max; what it holds is kept. */
static bool output_grow(struct decompressor *decompressor, uint64_t wanted_bytes, uint32_t bytes_max)
{
    uint32_t capacity = wanted_bytes < bytes_max ? (uint32_t)wanted_bytes : bytes_max;
    if (capacity <= decompressor->capacity)
        return true;
    uint8_t *data = realloc(decompressor->data, capacity);
    if (data == NULL)
        return false;
    decompressor->data = data;
    decompressor->capacity = capacity;
    return true;
}

/* Runs the frame at `from` to its end into decompressor->data. */
static enum err lz4_run(struct decompressor *decompressor, const uint8_t *from, uint32_t from_bytes, uint32_t bytes_max,
                        uint32_t *ret_size)
{
    uint32_t produced = 0;
    uint32_t consumed = 0;
    for (;;) {
        /* The buffer may be larger than this call's cap, from an earlier call. */
        uint32_t room = decompressor->capacity < bytes_max ? decompressor->capacity : bytes_max;
        size_t out_bytes = room - produced;
        size_t in_bytes = from_bytes - consumed;
        size_t hint = LZ4F_decompress(decompressor->lz4, decompressor->data + produced, &out_bytes, from + consumed,
                                      &in_bytes, NULL);
        if (LZ4F_isError(hint))
            return ERR_CORRUPT_BATCH;
        produced += (uint32_t)out_bytes;
        consumed += (uint32_t)in_bytes;
        if (hint == 0)
            break;
        if (out_bytes > 0 || in_bytes > 0)
            continue;
        if (produced < room)
            return ERR_CORRUPT_BATCH; /* wants input that is not there */
        if (room == bytes_max)
            return ERR_TOO_LARGE;
        if (!output_grow(decompressor, 2 * (uint64_t)room, bytes_max))
            return ERR_NO_MEMORY;
    }
    if (consumed != from_bytes)
        return ERR_CORRUPT_BATCH;
    *ret_size = produced;
    return OK;
}

static enum err lz4_decompress(struct decompressor *decompressor, const uint8_t *from, uint32_t from_bytes,
                               uint32_t bytes_max, uint32_t *ret_size)
{
    if (decompressor->lz4 == NULL) {
        LZ4F_dctx *made;
        if (LZ4F_isError(LZ4F_createDecompressionContext(&made, LZ4F_VERSION)))
            return ERR_NO_MEMORY;
        decompressor->lz4 = made;
    }
    uint64_t likely_bytes = (uint64_t)from_bytes * EXPANSION_GUESS;
    if (!output_grow(decompressor, likely_bytes < OUTPUT_BYTES_MIN ? OUTPUT_BYTES_MIN : likely_bytes, bytes_max))
        return ERR_NO_MEMORY;
    enum err error = lz4_run(decompressor, from, from_bytes, bytes_max, ret_size);
    if (error != OK)
        LZ4F_resetDecompressionContext(decompressor->lz4); /* it stopped inside a frame */
    return error;
}

enum err records_decompress(struct decompressor *decompressor, const uint8_t *batch, const struct batch_header *header,
                            uint32_t bytes_max, const uint8_t **ret_records, uint32_t *ret_size)
{
    ASSERT(bytes_max > 0);
    const uint8_t *blob = batch + BATCH_HEADER_BYTES;
    uint32_t blob_bytes = header->size_bytes - BATCH_HEADER_BYTES;
    enum err error;
    switch (batch_codec(header)) {
    case CODEC_NONE:
        if (blob_bytes > bytes_max)
            return ERR_TOO_LARGE;
        *ret_records = blob;
        *ret_size = blob_bytes;
        return OK;
    case CODEC_LZ4:
        error = lz4_decompress(decompressor, blob, blob_bytes, bytes_max, ret_size);
        if (error == OK)
            *ret_records = decompressor->data;
        return error;
    case CODEC_GZIP:
    case CODEC_SNAPPY:
    case CODEC_ZSTD:
        break;
    }
    return ERR_UNSUPPORTED;
}
