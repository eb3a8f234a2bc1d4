/* What compress.c and its codecs share: a codec is a method, and the output of opening is a buffer that grows only as
 * far as bytes really came out. */
#ifndef FLOTILLA_WIRE_COMPRESS_IMPL_H
#define FLOTILLA_WIRE_COMPRESS_IMPL_H

#include <stdbool.h>

#include "wire/compress.h"

/* One codec. Blobs are what stands behind the batch header. */
struct compress_method {
    /* Room that compress needs for from_bytes. */
    size_t (*bound)(uint32_t from_bytes);

    /* ERR_TOO_LARGE: it does not fit, which with capacity >= bound means that it does not get smaller. ERR_NO_MEMORY.
     */
    enum err (*compress)(struct compressor *compressor, const uint8_t *from, uint32_t from_bytes, uint8_t *to,
                         uint32_t capacity, uint32_t *ret_size);

    /* Into decompressor->data, at most bytes_max. Errors: those of records_decompress. */
    enum err (*open)(struct decompressor *decompressor, const uint8_t *from, uint32_t from_bytes, uint32_t bytes_max,
                     uint32_t *ret_size);
};

extern const struct compress_method compress__gzip;
extern const struct compress_method compress__snappy;
extern const struct compress_method compress__lz4;
extern const struct compress_method compress__zstd;

void compress__gzip_deinit(struct compressor *compressor, struct decompressor *decompressor); /* either may be NULL */
void compress__lz4_deinit(struct compressor *compressor, struct decompressor *decompressor);
void compress__zstd_deinit(struct compressor *compressor, struct decompressor *decompressor);

/* Grows the output to wanted_bytes, never beyond bytes_max; what it holds is kept. False: no memory. */
bool compress__grow(struct decompressor *decompressor, uint64_t wanted_bytes, uint32_t bytes_max);

/* The same for a first guess: what from_bytes usually become. */
bool compress__begin(struct decompressor *decompressor, uint32_t from_bytes, uint32_t bytes_max);

/* The usable part of the buffer, which may be larger than this call's cap, from an earlier call. */
uint32_t compress__room(const struct decompressor *decompressor, uint32_t bytes_max);

/* One step of a streaming codec: takes some of [from, *bytes), gives some to [to, *bytes), sets both to how much.
 * *ret_ended: the blob is complete. ERR_CORRUPT_BATCH, ERR_NO_MEMORY. */
typedef enum err compress__step(void *context, const uint8_t *from, uint32_t *from_bytes, uint8_t *to,
                                uint32_t *to_bytes, bool *ret_ended);

/* Runs the blob at `from`, all of it, through the steps into decompressor->data. */
enum err compress__run(struct decompressor *decompressor, void *context, compress__step *step, const uint8_t *from,
                       uint32_t from_bytes, uint32_t bytes_max, uint32_t *ret_size);

#endif
