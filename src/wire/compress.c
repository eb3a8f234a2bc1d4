/* Compressed batches: what is the same for all codecs. The header in front, the choice of the method, and the output
 * of opening, written for hostile input: it grows by doubling from what the compressed size makes likely, never beyond
 * the caller's cap, and a declared content size is not believed. */
#include "wire/compress.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "wire/compress_impl.h"

#define EXPANSION_GUESS  4u
#define OUTPUT_BYTES_MIN (64u << 10)
#define CODEC_BITS       7u

static const struct compress_method *method_of(enum batch_codec codec)
{
    switch (codec) {
    case CODEC_GZIP:
        return &compress__gzip;
    case CODEC_SNAPPY:
        return &compress__snappy;
    case CODEC_LZ4:
        return &compress__lz4;
    case CODEC_ZSTD:
        return &compress__zstd;
    case CODEC_NONE:
        break;
    }
    return NULL;
}

/* ---- compressing ---- */

void compressor_deinit(struct compressor *compressor)
{
    compress__gzip_deinit(compressor, NULL);
    compress__lz4_deinit(compressor, NULL);
    compress__zstd_deinit(compressor, NULL);
    *compressor = (struct compressor){0};
}

uint32_t batch_compress_bound(enum batch_codec codec, uint32_t size_bytes)
{
    ASSERT(size_bytes >= BATCH_HEADER_BYTES && size_bytes <= BATCH_BYTES_MAX);
    const struct compress_method *method = method_of(codec);
    if (method == NULL)
        return size_bytes;
    return BATCH_HEADER_BYTES + (uint32_t)method->bound(size_bytes - BATCH_HEADER_BYTES);
}

enum err batch_compress(struct compressor *compressor, enum batch_codec codec, const uint8_t *batch,
                        uint32_t size_bytes, uint8_t *out, uint32_t capacity, uint32_t *ret_size)
{
    struct batch_header header;
    enum err error = batch_parse(batch, size_bytes, &header);
    ASSERT(error == OK && header.size_bytes == size_bytes && batch_codec(&header) == CODEC_NONE);
    const struct compress_method *method = method_of(codec);
    if (method == NULL)
        return ERR_UNSUPPORTED;
    if (capacity < batch_compress_bound(codec, size_bytes))
        return ERR_TOO_LARGE;
    uint32_t records_bytes;
    error = method->compress(compressor, batch + BATCH_HEADER_BYTES, size_bytes - BATCH_HEADER_BYTES,
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

/* ---- opening ---- */

void decompressor_deinit(struct decompressor *decompressor)
{
    compress__gzip_deinit(NULL, decompressor);
    compress__lz4_deinit(NULL, decompressor);
    compress__zstd_deinit(NULL, decompressor);
    free(decompressor->data);
    *decompressor = (struct decompressor){0};
}

bool compress__grow(struct decompressor *decompressor, uint64_t wanted_bytes, uint32_t bytes_max)
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

bool compress__begin(struct decompressor *decompressor, uint32_t from_bytes, uint32_t bytes_max)
{
    uint64_t likely_bytes = (uint64_t)from_bytes * EXPANSION_GUESS;
    return compress__grow(decompressor, likely_bytes < OUTPUT_BYTES_MIN ? OUTPUT_BYTES_MIN : likely_bytes, bytes_max);
}

uint32_t compress__room(const struct decompressor *decompressor, uint32_t bytes_max)
{
    return decompressor->capacity < bytes_max ? decompressor->capacity : bytes_max;
}

enum err compress__run(struct decompressor *decompressor, void *context, compress__step *step, const uint8_t *from,
                       uint32_t from_bytes, uint32_t bytes_max, uint32_t *ret_size)
{
    if (!compress__begin(decompressor, from_bytes, bytes_max))
        return ERR_NO_MEMORY;
    uint32_t produced = 0;
    uint32_t consumed = 0;
    for (bool ended = false;;) {
        uint32_t room = compress__room(decompressor, bytes_max);
        uint32_t out_bytes = room - produced;
        uint32_t in_bytes = from_bytes - consumed;
        enum err error = step(context, from + consumed, &in_bytes, decompressor->data + produced, &out_bytes, &ended);
        if (error != OK)
            return error;
        produced += out_bytes;
        consumed += in_bytes;
        if (ended)
            break;
        if (out_bytes > 0 || in_bytes > 0)
            continue;
        if (produced < room)
            return ERR_CORRUPT_BATCH; /* wants input that is not there */
        if (room == bytes_max)
            return ERR_TOO_LARGE;
        if (!compress__grow(decompressor, 2 * (uint64_t)room, bytes_max))
            return ERR_NO_MEMORY;
    }
    if (consumed != from_bytes)
        return ERR_CORRUPT_BATCH;
    *ret_size = produced;
    return OK;
}

enum err records_decompress(struct decompressor *decompressor, const uint8_t *batch, const struct batch_header *header,
                            uint32_t bytes_max, const uint8_t **ret_records, uint32_t *ret_size)
{
    ASSERT(bytes_max > 0);
    const uint8_t *blob = batch + BATCH_HEADER_BYTES;
    uint32_t blob_bytes = header->size_bytes - BATCH_HEADER_BYTES;
    enum batch_codec codec = batch_codec(header);
    if (codec == CODEC_NONE) {
        if (blob_bytes > bytes_max)
            return ERR_TOO_LARGE;
        *ret_records = blob;
        *ret_size = blob_bytes;
        return OK;
    }
    const struct compress_method *method = method_of(codec);
    if (method == NULL)
        return ERR_UNSUPPORTED;
    enum err error = method->open(decompressor, blob, blob_bytes, bytes_max, ret_size);
    if (error == OK)
        *ret_records = decompressor->data;
    return error;
}
