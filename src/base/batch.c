/* The RecordBatch v2 header: fixed offsets into big-endian bytes, its CRC and the prefix an applied batch gets.
 *
 * offset size field
 *      0    8 baseOffset            not in the CRC: replaced by the prefix at apply
 *      8    4 batchLength           bytes after this field
 *     12    4 partitionLeaderEpoch  not in the CRC: replaced by the prefix at apply
 *     16    1 magic                 2
 *     17    4 crc                   CRC-32C of bytes 21 to the end
 *     21    2 attributes            bits 0-2 codec, 3 timestamp type, 4 transactional, 5 control
 *     23    4 lastOffsetDelta
 *     27    8 baseTimestamp
 *     35    8 maxTimestamp
 *     43    8 producerId
 *     51    2 producerEpoch
 *     53    4 baseSequence
 *     57    4 recordsCount
 *     61      records */
#include "base/batch.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/limits.h"

#define AT_BASE_OFFSET       0
#define AT_LENGTH            8
#define AT_LEADER_EPOCH      12
#define AT_MAGIC             16
#define AT_CRC               17
#define AT_ATTRIBUTES        21
#define AT_LAST_OFFSET_DELTA 23
#define AT_BASE_TIMESTAMP    27
#define AT_MAX_TIMESTAMP     35
#define AT_PRODUCER_ID       43
#define AT_PRODUCER_EPOCH    51
#define AT_BASE_SEQUENCE     53
#define AT_RECORDS_COUNT     57

#define MAGIC      2
#define CODEC_MASK 7

enum err batch_parse(const uint8_t *data, uint64_t available, struct batch_header *ret_header)
{
    if (available < BATCH_HEADER_BYTES)
        return ERR_AGAIN;
    /* 64 bits: a lying length near 2^32 must not wrap to a small size. */
    uint64_t size_bytes = (uint64_t)load_be32(data + AT_LENGTH) + BATCH_LENGTH_OVERHEAD;
    if (data[AT_MAGIC] != MAGIC || size_bytes < BATCH_HEADER_BYTES || size_bytes > BATCH_BYTES_MAX)
        return ERR_CORRUPT_BATCH;
    *ret_header = (struct batch_header){
        .base_offset = (int64_t)load_be64(data + AT_BASE_OFFSET),
        .size_bytes = (uint32_t)size_bytes,
        .leader_epoch = (int32_t)load_be32(data + AT_LEADER_EPOCH),
        .crc = load_be32(data + AT_CRC),
        .attributes = load_be16(data + AT_ATTRIBUTES),
        .last_offset_delta = (int32_t)load_be32(data + AT_LAST_OFFSET_DELTA),
        .base_timestamp = (int64_t)load_be64(data + AT_BASE_TIMESTAMP),
        .max_timestamp = (int64_t)load_be64(data + AT_MAX_TIMESTAMP),
        .producer_id = (int64_t)load_be64(data + AT_PRODUCER_ID),
        .producer_epoch = (int16_t)load_be16(data + AT_PRODUCER_EPOCH),
        .base_sequence = (int32_t)load_be32(data + AT_BASE_SEQUENCE),
        .records_count = (int32_t)load_be32(data + AT_RECORDS_COUNT),
    };
    return OK;
}

bool batch_crc_ok(const uint8_t *data, uint32_t size_bytes)
{
    ASSERT(size_bytes >= BATCH_HEADER_BYTES);
    return crc32c(0, data + AT_ATTRIBUTES, size_bytes - AT_ATTRIBUTES) == load_be32(data + AT_CRC);
}

void batch_write_header(uint8_t *data, const struct batch_header *header)
{
    ASSERT(header->size_bytes >= BATCH_HEADER_BYTES && header->size_bytes <= BATCH_BYTES_MAX);
    store_be64(data + AT_BASE_OFFSET, (uint64_t)header->base_offset);
    store_be32(data + AT_LENGTH, header->size_bytes - BATCH_LENGTH_OVERHEAD);
    store_be32(data + AT_LEADER_EPOCH, (uint32_t)header->leader_epoch);
    data[AT_MAGIC] = MAGIC;
    store_be32(data + AT_CRC, header->crc);
    store_be16(data + AT_ATTRIBUTES, header->attributes);
    store_be32(data + AT_LAST_OFFSET_DELTA, (uint32_t)header->last_offset_delta);
    store_be64(data + AT_BASE_TIMESTAMP, (uint64_t)header->base_timestamp);
    store_be64(data + AT_MAX_TIMESTAMP, (uint64_t)header->max_timestamp);
    store_be32(data + AT_RECORDS_COUNT, (uint32_t)header->records_count);
    batch_set_producer(data, header->producer_id, header->producer_epoch, header->base_sequence);
}

void batch_set_producer(uint8_t *data, int64_t producer_id, int16_t producer_epoch, int32_t base_sequence)
{
    store_be64(data + AT_PRODUCER_ID, (uint64_t)producer_id);
    store_be16(data + AT_PRODUCER_EPOCH, (uint16_t)producer_epoch);
    store_be32(data + AT_BASE_SEQUENCE, (uint32_t)base_sequence);
}

void batch_seal(uint8_t *data, uint32_t size_bytes)
{
    ASSERT(size_bytes >= BATCH_HEADER_BYTES);
    store_be32(data + AT_CRC, crc32c(0, data + AT_ATTRIBUTES, size_bytes - AT_ATTRIBUTES));
}

void batch_normalise(uint8_t *data)
{
    store_be64(data + AT_BASE_OFFSET, 0);
    store_be32(data + AT_LEADER_EPOCH, UINT32_MAX);
}

void batch_prefix(uint8_t prefix[BATCH_PREFIX_BYTES], int64_t base_offset, uint32_t size_bytes, int32_t leader_epoch)
{
    ASSERT(base_offset >= 0);
    ASSERT(size_bytes >= BATCH_HEADER_BYTES && size_bytes <= BATCH_BYTES_MAX);
    store_be64(prefix + AT_BASE_OFFSET, (uint64_t)base_offset);
    store_be32(prefix + AT_LENGTH, size_bytes - BATCH_LENGTH_OVERHEAD);
    store_be32(prefix + AT_LEADER_EPOCH, (uint32_t)leader_epoch);
}

enum batch_codec batch_codec(const struct batch_header *header)
{
    return (enum batch_codec)(header->attributes & CODEC_MASK);
}

int32_t sequence_add(int32_t sequence, int32_t count)
{
    ASSERT(sequence >= 0 && count >= 0);
    return (int32_t)(((uint32_t)sequence + (uint32_t)count) & INT32_MAX);
}
