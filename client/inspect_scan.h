/* Reads a segment file offline, batch by batch, and judges every one: for `inspect segment` and for `repair`. Writes
 * nothing. */
#ifndef FLOTILLA_CLIENT_INSPECT_SCAN_H
#define FLOTILLA_CLIENT_INSPECT_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/batch.h"
#include "base/err.h"
#include "port/disk.h"

/* Offsets [first_offset, end_offset) cannot be read; `bytes` at `position` stand in their place, maybe none. */
struct scan_loss {
    uint64_t position, bytes;
    int64_t first_offset, end_offset;
    const struct batch_header *header; /* of a batch whose header still makes sense; else NULL */
    const char *why;
};

struct scan_options {
    struct disk *disk;
    const char *path;
    int64_t base_offset; /* of the first batch */
    int64_t end_offset;  /* what must be there; INT64_MAX: as far as batches follow one another */
    uint64_t bytes_max;  /* what counts of the file; UINT64_MAX: all of it, up to end_offset */
    const uint8_t *tail; /* the last of these bytes, whatever the file says: the next start writes them back */
    uint32_t tail_size;
    void *context;
    /* Whole and in its place. data: header.size_bytes bytes, valid during the call. */
    void (*batch)(void *context, uint64_t position, const struct batch_header *header, const uint8_t *data);
    void (*loss)(void *context, const struct scan_loss *loss);
};

struct scan_result {
    uint64_t size_bytes; /* up to the end of the last batch */
    int64_t end_offset;
    uint64_t batches, records, losses;
    int64_t lost_offsets;
    uint32_t chain; /* over the headers of the whole batches, as in the manifest */
    int64_t max_timestamp;
    bool is_missing; /* there is no file; what was found is the tail */
};

/* A missing file is an empty one: one loss, if something must be there that the tail has not. ERR_IO: cannot be read;
 * ERR_NO_MEMORY. */
enum err scan_segment(const struct scan_options *options, struct scan_result *ret_result);

#endif
