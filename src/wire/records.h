/* The records inside a RecordBatch v2 (Kafka's magic 2): reading them, and the broker's verdict on a batch that a
 * producer sent. The batch header is base/batch.h; making batches is wire/builder.h; compressed records are opened by
 * wire/compress.h.
 *
 * A record: length, attributes (1 byte, unused), timestamp delta, offset delta, key length and key, value length and
 * value, header count, then per header key length and key, value length and value. All numbers are zig-zag varints
 * (wire/varint.h); a length of -1 is null, which differs from empty.
 *
 * Pure: no memory is taken, nothing is copied: what is read points into the caller's bytes. Any thread. */
#ifndef FLOTILLA_WIRE_RECORDS_H
#define FLOTILLA_WIRE_RECORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/batch.h"
#include "base/err.h"
#include "base/limits.h"

#define RECORD_BYTES_MIN 7u /* of a record without key, value and headers */

/* No batch can hold more: a compressed batch must not claim offsets that no consumer will ever find records for. */
#define BATCH_RECORDS_MAX (RECORDS_BYTES_MAX / RECORD_BYTES_MIN)

struct blob {
    const uint8_t *data; /* NULL: null. Empty is size 0 with data not NULL */
    uint32_t size;
};

struct record_header {
    struct blob key; /* never null */
    struct blob value;
};

/* A record as read. Pointers go into the records' bytes and live as long as those. */
struct record_view {
    int64_t offset;
    int64_t timestamp; /* ms; the batch's when the broker stamped it (LogAppendTime) */
    struct blob key;
    struct blob value;
    uint32_t headers_count; /* not yet taken by record_next_header */
    struct blob headers;    /* the bytes of those */
};

struct record_reader {
    const uint8_t *position;
    const uint8_t *end;
    int64_t base_offset;
    int64_t base_timestamp;
    int64_t fixed_timestamp; /* max timestamp of a LogAppendTime batch */
    bool timestamp_is_fixed;
    int32_t last_offset_delta;
    int32_t previous_delta;
    int32_t records_left;
};

/* Reads the records of a batch with this header; records[0, size_bytes) are uncompressed: the batch's own bytes 61.. or
 * what records_decompress gave. */
void record_reader_begin(struct record_reader *reader, const struct batch_header *header, const uint8_t *records,
                         uint32_t size_bytes);

/* The next record. ERR_CLOSED: all recordsCount records were read and no byte is left over. ERR_CORRUPT_BATCH:
 * malformed; the same again at every further call. Offset deltas must rise strictly and stay within lastOffsetDelta: in
 * compacted batches they have holes. */
enum err record_reader_next(struct record_reader *reader, struct record_view *ret_record);

/* The next header of a record; false: there is none. Their layout was checked with the record. */
bool record_next_header(struct record_view *record, struct record_header *ret_header);

/* The broker's judgement of data[0, size_bytes), the whole payload of a produce request: exactly one batch, by Kafka's
 * rules. bytes_max is the topic's max_batch_bytes. Nothing is changed: batch_normalise is the caller's.
 * - ERR_TOO_LARGE: above bytes_max (or BATCH_BYTES_MAX).
 * - ERR_CORRUPT_BATCH: sizes, magic or CRC are wrong; recordsCount is not lastOffsetDelta + 1, or below 1, or above
 *   BATCH_RECORDS_MAX; an uncompressed batch does not hold exactly recordsCount records with offset deltas 0, 1, 2 ...
 * - ERR_UNSUPPORTED: transactional (not yet), or a codec number above zstd.
 * - ERR_INVALID: a control batch, LogAppendTime or delete horizon (brokers write those), an unknown attribute bit, or a
 *   producer id without epoch or sequence.
 *
 * Compressed records are not opened: that is the consumer's, with a cap. What is accepted uncompressed reads cleanly to
 * the end with record_reader_next. */
enum err batch_validate(const uint8_t *data, uint64_t size_bytes, uint32_t bytes_max, struct batch_header *ret_header);

#endif
