/* The RecordBatch v2 header (Kafka's magic 2, 61 bytes, big-endian): what may be read or checked of a batch without
 * touching its records. Records themselves: wire/records.h.
 *
 * Bytes 0-7 (base offset) and 12-15 (leader epoch) are outside the CRC. A batch that has not been applied yet carries
 * 0 and -1 there (batch_normalise); served and stored batches carry the real ones, through a 16-byte prefix that
 * replaces bytes 0-15 (batch_prefix), so that bytes 16.. stay the producer's for ever. */
#ifndef FLOTILLA_BASE_BATCH_H
#define FLOTILLA_BASE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define BATCH_PREFIX_BYTES 16u
#define BATCH_LENGTH_OVERHEAD 12u /* total size = batchLength + 12 */

enum batch_codec { CODEC_NONE = 0, CODEC_GZIP = 1, CODEC_SNAPPY = 2, CODEC_LZ4 = 3, CODEC_ZSTD = 4 };

struct batch_header {
    int64_t base_offset;
    uint32_t size_bytes; /* of the whole batch, header included */
    int32_t leader_epoch;
    uint32_t crc;
    uint16_t attributes;
    int32_t last_offset_delta;
    int64_t base_timestamp;
    int64_t max_timestamp;
    int64_t producer_id; /* -1: none */
    int16_t producer_epoch;
    int32_t base_sequence; /* -1: none */
    int32_t records_count;
};

/* Reads the header at data. Only layout is judged: ERR_AGAIN with fewer than 61 bytes; ERR_CORRUPT_BATCH when magic is
 * not 2 or the size is below 61 or above BATCH_BYTES_MAX. The batch need not be there whole. */
enum err batch_parse(const uint8_t *data, uint64_t available, struct batch_header *ret_header);

/* True when the CRC over bytes [21, size) is the stored one. data holds the whole batch. */
bool batch_crc_ok(const uint8_t *data, uint32_t size_bytes);

/* Writes all 61 bytes of the header as the fields say, crc included (a batch is sealed afterwards). */
void batch_write_header(uint8_t *data, const struct batch_header *header);

/* Sets producer id, epoch and base sequence of a finished batch; the CRC covers them, so sealing comes after. */
void batch_set_producer(uint8_t *data, int64_t producer_id, int16_t producer_epoch, int32_t base_sequence);

/* Writes the CRC of a finished batch (client side). */
void batch_seal(uint8_t *data, uint32_t size_bytes);

/* Sets bytes 0-7 to 0 and 12-15 to -1; only while the caller is the sole holder of the bytes. */
void batch_normalise(uint8_t *data);

/* The 16 bytes that stand before bytes 16.. of an applied batch: offset, batchLength, leader epoch. */
void batch_prefix(uint8_t prefix[BATCH_PREFIX_BYTES], int64_t base_offset, uint32_t size_bytes, int32_t leader_epoch);

enum batch_codec batch_codec(const struct batch_header *header);

/* Kafka's sequence arithmetic: sequences count records and wrap from 2^31-1 to 0. */
int32_t sequence_add(int32_t sequence, int32_t count);

#endif
