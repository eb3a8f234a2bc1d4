/* Compressed records. Compression is the client's on both ends: producers compress, consumers open, brokers carry the
 * batch unopened. In a batch with a codec everything behind the 61-byte header is one compressed blob, in the formats
 * of Kafka's clients (the Java client, librdkafka):
 * - gzip: one gzip member.
 * - snappy: written in snappy-java's framing (16 bytes of header, then blocks with their length in front, 64 KiB of
 *   records each); read in that or as one raw block, which is what librdkafka writes.
 * - lz4: one frame of the LZ4 *frame* format; written with independent blocks, which is all that the Java client reads.
 * - zstd: one frame; written with the size of its content.
 *
 * Any of these twice in a row, or followed by other bytes, is refused, although some readers take it: no client writes
 * that, and readers differ in what they make of it. */
#ifndef FLOTILLA_WIRE_COMPRESS_H
#define FLOTILLA_WIRE_COMPRESS_H

#include <stdint.h>

#include "base/batch.h"
#include "base/err.h"

/* What compressing needs from one call to the next; all zero to begin with. One thread at a time. */
struct compressor {
    void *gzip; /* each owned, made at first use: below 300 KiB, snappy has none */
    void *lz4;
    void *zstd; /* below 2.5 MiB */
};

void compressor_deinit(struct compressor *compressor); /* zeroed again; may be called twice */

/* Room at `out` that batch_compress needs for a batch of this size. */
uint32_t batch_compress_bound(enum batch_codec codec, uint32_t size_bytes);

/* Compresses the records of a finished, not yet sealed, uncompressed batch into out; the result is to be sealed like
 * the original. out does not overlap batch. ERR_TOO_LARGE: it would not become smaller, or `capacity` is below
 * batch_compress_bound: send the original. ERR_UNSUPPORTED: no such codec, or none. ERR_NO_MEMORY. */
enum err batch_compress(struct compressor *compressor, enum batch_codec codec, const uint8_t *batch,
                        uint32_t size_bytes, uint8_t *out, uint32_t capacity, uint32_t *ret_size);

/* What opening needs from one call to the next; all zero to begin with. The buffer grows to what the batches need and
 * is kept. */
struct decompressor {
    void *gzip; /* each owned, made at first use; snappy has none */
    void *lz4;
    void *zstd;
    uint8_t *data;     /* owned: the records last opened */
    uint32_t capacity; /* of data */
};

void decompressor_deinit(struct decompressor *decompressor); /* zeroed again; may be called twice */

/* The records of the whole batch at `batch` (header: what batch_parse says of it; the CRC is the caller's to check),
 * uncompressed. *ret_records goes into the batch itself (codec none) or into the decompressor, until its next use.
 * - ERR_TOO_LARGE: more than bytes_max. Never more than that is taken, whatever the batch claims, apart from the
 *   codecs' own memory (below 9 MiB, which is LZ4's blocks).
 * - ERR_CORRUPT_BATCH: not a valid blob of its codec, cut off, or followed by other bytes.
 * - ERR_UNSUPPORTED: another codec.
 * - ERR_NO_MEMORY. */
enum err records_decompress(struct decompressor *decompressor, const uint8_t *batch, const struct batch_header *header,
                            uint32_t bytes_max, const uint8_t **ret_records, uint32_t *ret_size);

#endif
