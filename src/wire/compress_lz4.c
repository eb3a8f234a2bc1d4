/* lz4: one frame of the LZ4 frame format, through liblz4's streaming calls. */
#include <lz4frame.h>

#include "wire/compress_impl.h"

/* Kafka's Java client reads version 1 frames with independent blocks only. autoFlush: compress from the source, without
 * LZ4's staging copy. */
static const LZ4F_preferences_t preferences = {
    .frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent},
    .autoFlush = 1,
};

static size_t lz4_bound(uint32_t from_bytes)
{
    return LZ4F_HEADER_SIZE_MAX + LZ4F_compressBound(from_bytes, &preferences);
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
    size_t size_bytes = LZ4F_compressBegin(lz4, to, capacity, &preferences);
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

static enum err lz4_step(void *context, const uint8_t *from, uint32_t *from_bytes, uint8_t *to, uint32_t *to_bytes,
                         bool *ret_ended)
{
    size_t in_bytes = *from_bytes;
    size_t out_bytes = *to_bytes;
    size_t hint = LZ4F_decompress(context, to, &out_bytes, from, &in_bytes, NULL);
    if (LZ4F_isError(hint))
        return ERR_CORRUPT_BATCH;
    *from_bytes = (uint32_t)in_bytes;
    *to_bytes = (uint32_t)out_bytes;
    *ret_ended = hint == 0;
    return OK;
}

static enum err lz4_open(struct decompressor *decompressor, const uint8_t *from, uint32_t from_bytes,
                         uint32_t bytes_max, uint32_t *ret_size)
{
    if (decompressor->lz4 == NULL) {
        LZ4F_dctx *made;
        if (LZ4F_isError(LZ4F_createDecompressionContext(&made, LZ4F_VERSION)))
            return ERR_NO_MEMORY;
        decompressor->lz4 = made;
    }
    enum err error = compress__run(decompressor, decompressor->lz4, lz4_step, from, from_bytes, bytes_max, ret_size);
    if (error != OK)
        LZ4F_resetDecompressionContext(decompressor->lz4); /* it stopped inside a frame */
    return error;
}

void compress__lz4_deinit(struct compressor *compressor, struct decompressor *decompressor)
{
    if (compressor != NULL)
        LZ4F_freeCompressionContext(compressor->lz4);
    if (decompressor != NULL)
        LZ4F_freeDecompressionContext(decompressor->lz4);
}

const struct compress_method compress__lz4 = {lz4_bound, lz4_compress, lz4_open};
