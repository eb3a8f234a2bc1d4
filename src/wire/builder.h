/* Makes a RecordBatch v2 in the caller's memory: the producer's hot path. Records go straight to their place; the
 * header, the producer's fields and the CRC come later, each once:
 *
 *     batch_builder_begin    memory
 *     batch_builder_append   ... until ERR_AGAIN, or linger is over
 *     batch_builder_finish   header; no producer yet
 *     batch_compress         (wire/compress.h) optional, into other memory
 *     batch_set_producer     (base/batch.h) optional, when the batch is sent: id, epoch, sequence
 *     batch_seal             (base/batch.h) CRC; from here on the bytes are immutable
 *
 * Takes no memory. One thread per builder. */
#ifndef FLOTILLA_WIRE_BUILDER_H
#define FLOTILLA_WIRE_BUILDER_H

#include <stdint.h>

#include "base/err.h"
#include "wire/records.h"

/* A record to append; everything is borrowed for the call and copied. */
struct record {
    struct blob key;
    struct blob value;
    int64_t timestamp; /* ms since 1970 */
    const struct record_header *headers;
    uint32_t headers_count;
};

struct batch_builder {
    uint8_t *memory; /* borrowed until finish */
    uint32_t capacity;
    uint32_t size_bytes; /* so far, the header's room included */
    int32_t records_count;
    int64_t base_timestamp;
    int64_t max_timestamp;
};

/* Starts a batch in memory[0, capacity). capacity is at least BATCH_HEADER_BYTES + RECORD_BYTES_MIN; what is above
 * BATCH_BYTES_MAX or above the topic's max_batch_bytes must not be offered. */
void batch_builder_begin(struct batch_builder *builder, uint8_t *memory, uint32_t capacity);

/* Appends a record. ERR_AGAIN: it does not fit behind the others: finish this batch and begin another. ERR_TOO_LARGE:
 * it does not fit an empty batch of this capacity either. ERR_INVALID: a header has a null key. In all three the batch
 * is as before. */
enum err batch_builder_append(struct batch_builder *builder, const struct record *record);

/* Writes the header of a batch of at least one record and returns its size: complete but for producer (none: -1) and
 * CRC. */
uint32_t batch_builder_finish(struct batch_builder *builder);

#endif
