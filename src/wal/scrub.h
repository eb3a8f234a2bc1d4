/* Reading the log again: a walk over all files that hold records, up to what is durable, in small pieces that the owner
 * asks for one by one. File headers, batch headers and the CRC of every body are judged; the bytes come from the disk,
 * not from the page cache, where the port can do that.
 *
 * A file in which something is bad is read a second time before that counts: a read may have gone wrong, not the bytes.
 * What is found bad says nothing about the broker that runs: all it needs is in memory. It is the next start that
 * would miss these records, so the owner makes them needless (a checkpoint, or written again at the head), and the
 * file is released.
 *
 * Threads: loop thread; the pieces are jobs of DISK_LANE_STORE, one at a time. A file that is released while it is read
 * is left alone. */
#ifndef FLOTILLA_WAL_SCRUB_H
#define FLOTILLA_WAL_SCRUB_H

#include "wal/wal.h"

struct wal_scrub;

struct wal_scrub_options {
    struct wal *wal; /* borrowed until wal_scrub_free; not touched by that */
    struct disk *disk;
    void *context;
    void (*on_damage)(void *context, uint64_t from_lsn, uint64_t end_lsn);
    /* A piece is over, a later turn than wal_scrub_piece. OK, or ERR_BUSY: no memory or file handles, the next piece
     * tries again. `bytes`: how many were read. */
    void (*on_piece)(void *context, enum err error, uint32_t bytes);
};

struct wal_scrub *wal_scrub_new(const struct wal_scrub_options *options);
void wal_scrub_free(struct wal_scrub *scrub); /* no piece under way, or none that will ever end */

/* Reads the next WAL_SCRUB_BYTES at most. OK: on_piece follows. ERR_CLOSED: the walk is through; the next call begins a
 * new one. No piece may be under way. */
enum err wal_scrub_piece(struct wal_scrub *scrub);

#endif
