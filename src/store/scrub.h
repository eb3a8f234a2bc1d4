/* Reading everything again: a walk over all segments of a store that holds every batch against what the log knows of
 * it, in small pieces that the owner asks for one by one.
 *
 * Judged, up to what is in the files: layout, CRC and base offset of every batch; its leader epoch, by the owner; and
 * of a whole segment the chain, the running crc32c over all batch headers: a batch with a good CRC in the place of
 * another one changes it. The bytes come from the disk, not from the page cache, where the port can do that, and leave
 * nothing in it.
 *
 * A segment in which something is bad is read twice more before that counts: a read may have gone wrong, not the bytes.
 * What is bad every time is marked: reads of it that need the disk get ERR_CORRUPT at once, and
 * segment_log_damaged_ranges counts it (what could not be read at all is counted, but reads still try: an error may
 * pass), until the segment is deleted or a later walk finds it good. Behind a bad batch the walk looks for the next
 * good one byte by byte, so that no range is larger than it must be; should the bytes there imitate batches over and
 * over, it gives the segment up and says so in the trace.
 *
 * Threads: loop thread; the pieces are jobs of the store lane, one at a time, and may be interleaved with anything:
 * segments may be written, finished, dropped or deleted between them. */
#ifndef FLOTILLA_STORE_SCRUB_H
#define FLOTILLA_STORE_SCRUB_H

#include "store/store.h"

struct store_scrub;

struct store_scrub_options {
    struct store *store; /* borrowed until store_scrub_free; not touched by that */
    void *context;
    /* The leader epoch that the batch at offset carries, and where the first batch stands that may carry another. */
    int32_t (*epoch_at)(void *context, const struct segment_log *log, int64_t offset, int64_t *ret_end_offset);
    /* A range was found damaged that was not marked before. */
    void (*on_damage)(void *context, const struct segment_log *log, int64_t from_offset, int64_t end_offset);
    /* A piece is over, a later turn than store_scrub_piece. OK, or ERR_BUSY: no memory or file handles, the next piece
     * tries again. `bytes`: how many were read. */
    void (*on_piece)(void *context, enum err error, uint32_t bytes);
};

struct store_scrub *store_scrub_new(const struct store_scrub_options *options);
void store_scrub_free(struct store_scrub *scrub); /* no piece under way, or none that will ever end */

/* Reads the next STORE_SCRUB_BYTES at most. OK: on_piece follows. ERR_CLOSED: the walk is through; the next call begins
 * a new one. No piece may be under way. */
enum err store_scrub_piece(struct store_scrub *scrub);
bool store_scrub_is_busy(const struct store_scrub *scrub);
uint64_t store_scrub_pieces(const struct store *store); /* of a whole walk, about */

/* Ranges of a log that are marked and not below its log start: how many there are, and up to ranges_max of them, in
 * order of offset but for those of one segment. */
struct offset_range {
    int64_t from_offset, end_offset;
};
uint32_t segment_log_damage(const struct segment_log *log, struct offset_range *ret_ranges, uint32_t ranges_max);
uint32_t segment_log_damaged_ranges(const struct segment_log *log);
int64_t segment_log_damage_end(const struct segment_log *log); /* behind all of them; 0: there are none */
/* Any of them touches these offsets. */
bool segment_log_is_damaged(const struct segment_log *log, int64_t from_offset, int64_t end_offset);

#endif
