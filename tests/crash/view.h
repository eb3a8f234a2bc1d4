/* What a data directory serves of the logs that keep everything: for directories that may be damaged, and that are
 * compared with one another. */
#ifndef FLOTILLA_CRASH_VIEW_H
#define FLOTILLA_CRASH_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "oracle.h"
#include "verify.h"

enum view_kind {
    VIEW_RECORDS, /* a batch */
    VIEW_EMPTY,   /* a batch without records: a repair's, for offsets that are lost */
    VIEW_CORRUPT, /* offsets that are answered CORRUPT */
};

struct view_piece {
    enum view_kind kind;
    int64_t base_offset, end_offset;
    uint32_t crc; /* of RECORDS */
};

struct view_log {
    uint64_t group;
    bool is_corrupt; /* all of it; then nothing else is known */
    int64_t log_start, high_watermark;
    struct view_piece *pieces; /* owned */
    uint32_t pieces_count;
};

struct view {
    struct view_log *logs; /* owned */
    uint32_t logs_count;
};

/* Starts the broker in dir, reads every group of the oracle's topics that are there and have no retention, and gives
 * the broker up as by kill -9. `probe`, if not 0, is a group that must take a batch at the end. false: `why`. */
bool view_read(const struct oracle *oracle, const char *dir, uint64_t seed, uint64_t probe, struct view *ret_view,
               char why[VERIFY_WHY_BYTES]);
void view_free(struct view *view);

const struct view_log *view_log(const struct view *view, uint64_t group); /* NULL: it is not there */
bool view_same(const struct view_log *a, const struct view_log *b);
/* The same records at the same offsets, wherever empty batches stand, and nothing CORRUPT. */
bool view_same_records(const struct view_log *a, const struct view_log *b);
/* Every batch of `old` is in `log` as well. */
bool view_holds(const struct view_log *log, const struct view_log *old);

/* For a failure: the bounds, then the end of every run of batches (+), empty ones (-) and CORRUPT offsets (!). NULL is
 * allowed. */
#define VIEW_TEXT_BYTES 120
void view_print(const struct view_log *log, char text[VIEW_TEXT_BYTES]);

#endif
