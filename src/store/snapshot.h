/* Segments on their way to another broker, and here from one: what a snapshot needs of the store.
 *
 * Sending. A hold pins the files of a log, so that neither retention nor a recycled file changes what a picture names;
 * pieces are read through it, and every batch that a piece touches is checked on the way.
 *
 * Receiving. Segments come into files of the caller's, with names that no manifest knows (staged). Whole ones, and
 * those that stand here already, are judged by the row of the picture: batches whole and dense, offsets and size right,
 * the chain over all headers the one of the row; then they are synced. When all are there the log is abandoned
 * (segment_log_abandon), store_place_files moves the staged ones to their places, the caller makes the manifest
 * durable, and segment_log_open with is_placed opens it. A file that is replaced had the same bytes up to its end,
 * since equal offsets are equal bytes in all replicas and rolls are a function of the log: the manifest from before
 * stays right.
 *
 * Threads: "lane" functions in jobs of the caller on the store lane, the others on the loop thread. A hold is used by
 * one job at a time, and not freed before its end. */
#ifndef FLOTILLA_STORE_SNAPSHOT_H
#define FLOTILLA_STORE_SNAPSHOT_H

#include "store/store.h"

/* --- holding --- */

struct store_hold;

/* Everything that the durable manifest of the log may name; a job submitted from now on finds no other one. */
struct store_hold *store_hold_new(struct segment_log *log);
/* Lets go all but those with these bases, rising. */
void store_hold_keep(struct store_hold *hold, const struct segment_row *rows, uint32_t rows_count);
/* Bytes that would be free but for this hold. */
uint64_t store_hold_bytes(const struct store_hold *hold);
void store_hold_free(struct store_hold *hold); /* before the store is closed; NULL is allowed */
/* A held segment as the log knew it when it was held; tail_size is 0. False: there is none of this base. */
bool store_hold_find(const struct store_hold *hold, int64_t base_offset, struct segment_row *ret_row);

/* --- sending (lane) --- */

struct store_sent { /* what of a segment is known to be good; zero: nothing */
    int64_t base_offset;
    uint64_t from, until; /* batch boundaries, all good between them */
    int64_t until_offset;
};

/* Bytes [position, position + size) of a held segment, of which the picture has `limit` bytes. ERR_CORRUPT: a batch
 * that they belong to is bad, or cannot be read; ERR_OUT_OF_RANGE: behind the limit, or no such segment; ERR_CANCELLED:
 * the log is gone; ERR_TOO_MANY_FILES, ERR_NO_MEMORY. */
enum err store_hold_read(struct store_hold *hold, struct store_sent *sent, int64_t base_offset, uint64_t limit,
                         uint64_t position, uint32_t size, uint8_t *data);

/* --- receiving (lane) --- */

/* Bytes of a staged file; position 0 makes it anew. */
enum err store_stage_write(struct store *store, const char *path, uint64_t position, const void *data, uint32_t size);
/* The same, from the segment that is held here. */
enum err store_stage_adopt(struct store_hold *hold, int64_t base_offset, const char *path, uint64_t position,
                           uint32_t size);

struct store_check { /* zero: begins */
    bool is_begun;
    uint64_t position;
    int64_t offset;
    uint32_t chain;
};

/* One piece of the judgement, STORE_CHECK_BYTES or a batch: ERR_AGAIN: ask again; OK: it is the one of the row, and
 * durable (but for its name); ERR_CORRUPT: it is not. Other errors say nothing about it; of a sync they are final. */
enum err store_check_staged(struct store *store, const char *path, const struct segment_row *row,
                            struct store_check *check);
enum err store_check_held(struct store_hold *hold, const struct segment_row *row, struct store_check *check);

/* Writes a whole staged segment, which is the one of the row, over the held one of the same base, up to where either
 * ends: right bytes stay, wrong ones become right, at whichever call it is broken off. Then they are durable.
 * ERR_CORRUPT: it is not the one that was written here. */
enum err store_mend(struct store_hold *hold, const struct segment_row *row, const char *path);
/* Loop thread, afterwards: what a scrub found in front of the row's end counts no more. */
void store_mended(struct store_hold *hold, const struct segment_row *row);

struct store_place {
    int64_t base_offset;
    uint64_t size_bytes;
    bool is_staged; /* else it stands in its place */
    bool is_active; /* the last one */
    char path[128]; /* staged: from where */
};

/* Moves them, rising by base, into the directory of a group that has no log; then all names are durable. May be
 * repeated after an error: what is in its place stays there. */
enum err store_place_files(struct store *store, uint64_t group, const char *staging_dir,
                           const struct store_place *places, uint32_t count);
/* The bytes of the last, partial block of the active segment, in its place, for the manifest; returns how many. What a
 * start writes back must be what stands there, whatever the sender's row says. */
enum err store_place_tail(struct store *store, uint64_t group, const struct store_place *active,
                          uint8_t tail[STORE_BLOCK_BYTES], uint32_t *ret_size);
/* When no manifest names any other: removes the rest of that directory. What cannot be removed goes later. */
void store_place_sweep(struct store *store, uint64_t group, const struct store_place *places, uint32_t count);
/* For a row whose file came from elsewhere. Loop thread. */
uint64_t store_new_generation(struct store *store);

#endif
