/* Reading the checkpoint store again: a walk over all its rows, of every type, that holds each value against its CRC;
 * a bounded number of rows at a time. */
#ifndef FLOTILLA_META_SCRUB_H
#define FLOTILLA_META_SCRUB_H

#include <stdbool.h>

#include "meta/meta.h"

#define META_SCRUB_ROWS_MAX  256u /* and META_SCRUB_BYTES_MAX, in one step */
#define META_SCRUB_BYTES_MAX (256u << 10)

struct meta_scrub_step {
    /* in and out: where the walk stands; size 0: before the first row */
    uint8_t from[KV_KEY_BYTES_MAX];
    size_t from_size;
    /* out */
    bool is_over; /* behind the last row */
    uint32_t rows, bytes;
    uint32_t bad_count;
    /* Type and group; number is 0. Of the registry's rows the number is the key's second byte, the kind of row, and the
     * group the number that follows it, 0 if there is none. */
    struct meta_bad_row bad[META_SCRUB_ROWS_MAX];
};

/* One step, in a read transaction of its own; on the thread that kv calls are made on. ERR_FORMAT: the store cannot be
 * walked further; ERR_IO, ERR_NO_MEMORY. After an error the walk stands where it stood. */
enum err meta_scrub_step(struct kv *kv, struct meta_scrub_step *step);

#endif
