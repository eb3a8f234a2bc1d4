/* The broker's one write-ahead log, shared by all its groups: group commit, recycled files, evidence against torn and
 * rotten tails.
 *
 * Stream and files. The log is one stream of bytes; an lsn is a position in it and always a multiple of 4 KiB. It is
 * cut into files wal/<slot>.wal that are reused in place (overwriting written blocks syncs 1.6 x to 4 x faster than
 * growing a file, measured). Each use of a file begins with one 4 KiB header block {magic, version, crc, base lsn,
 * start lsn, random 64-bit salt, boot}, synced before anything else goes into the file; byte p of the stream stands
 * at file offset 4096 + p - base lsn. The header block is not part of the stream. A file ends where the next one
 * begins. A file of an earlier boot is never appended to.
 *
 * Batches. The unit of writing is a batch: all records of all groups gathered while the previous sync ran. It begins
 * on a 4 KiB boundary, its last block is padded, no block is written twice in one life of a file. Header {magic,
 * salt, lsn, length, header crc, body crc} and, about the previous batch, whose sync had returned before this one was
 * submitted, a *voucher* {lsn, length, crc}; the groups of that batch stand in the body's first record. All CRCs are
 * seeded by the file's salt, so that records of an earlier life never pass. After WAL_VOUCH_IDLE_US of idleness an
 * empty batch vouches for the last one.
 *
 * Recovery reads all files in lsn order. At a bad batch it scans on in 4 KiB strides for later headers of the right
 * salt and lsn. A vouched bad batch is rot: exactly the groups named by the voucher are reported damaged (all groups,
 * if the list is unreadable), the rest is replayed. A bad batch nobody vouches for is a torn tail: cut, it was never
 * acknowledged. "Cut" ends that file, never the replay. Before anything read counts as persisted, wal_open syncs
 * every file it read and their directory: after kill -9 the page cache holds what the disk may not.
 *
 * Threads: all calls on the loop thread; writes and syncs run as jobs on DISK_LANE_WAL, zero-filling of new files in
 * pieces on DISK_LANE_STORE. Errors: a failed sync is final, and so is a write that failed for the disk's sake;
 * on_failed says so and nothing is ever persisted again. A write that finds no room in a file that is not secured (see
 * below) goes to a spare that is. If there is none, or it finds no descriptor or no memory, it *stalls* the log:
 * nothing becomes durable, and the same batch is written again, to the same place, once a second. What was appended
 * may still become durable, so the owner can only wait for it; it takes nothing new while wal_is_stalled.
 *
 * Full disk. Spare files are *secured*: their blocks are set aside, at the start before wal_open returns, later ahead
 * of the writer. The last of them (64 MiB or an eighth of the budget, at least one file) are a reserve: the owner lets
 * what clients want to store into the log only while wal_has_room says yes, and so what must go on (terms,
 * LEADER, TIMEOUT, LOG_START) finds place when the disk has none. Each start takes a file; on a full disk it gives back
 * what older ones hold behind their ends, so a start costs a few blocks, not a file. */
#ifndef FLOTILLA_WAL_WAL_H
#define FLOTILLA_WAL_WAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/trace.h"
#include "port/clock.h"
#include "port/disk.h"

enum wal_record_type {
    WAL_ENTRY = 1,      /* one Raft entry. Never truncates; (index, term) seen again is the same entry */
    WAL_HARD_STATE = 2, /* term = current term, index = replica id voted for (0: none) */
    WAL_TRUNCATE = 3,   /* entries >= index are cut off */
    WAL_CHECKPOINT = 4, /* index, term: the checkpoint store durably holds everything applied up to here */
    WAL_GROUP_NEW = 5,  /* birth; payload: configuration (owner's format) */
    WAL_GROUP_DEAD = 6, /* the group's data may go */
    WAL_DAMAGED = 7,    /* index = lsn of the bad batch */
    WAL_REPAIRED = 8,   /* index = lsn below which batches are not judged again for this group */
};

struct wal_record {
    enum wal_record_type type;
    uint8_t entry_type; /* WAL_ENTRY: the owner's */
    uint64_t group;
    uint64_t replica;
    uint64_t index;
    uint64_t term;
    struct slice payload; /* may be empty */
};

struct wal;

struct wal_options {
    struct disk *disk;
    struct clock *clock;
    const struct trace *trace;
    const char *dir; /* "wal" */
    uint64_t file_bytes;
    uint64_t budget_bytes;
    uint64_t boot; /* of this start, for the file headers */
    void *context;
    void (*on_persisted)(void *context, uint64_t lsn_end); /* every record with lsn < lsn_end is durable */
    void (*on_failed)(void *context, enum err error);
};

/* What recovery found, in lsn order; it is on the disk when the call comes. Slices in records are valid during the
 * call; take a reference to keep them (they hold the bytes of their batch in memory). damaged() for a batch comes
 * before the records behind it. The same rot is reported at every start until its file is released. */
struct wal_visitor {
    void *context;
    void (*record)(void *context, const struct wal_record *record, uint64_t lsn);
    /* Rot: groups[0, count) (sorted, unique) lost the records they had at lsn; count 0 = every group may have, at lsn
     * or in a bad range that ends there. So a WAL_REPAIRED above lsn covers it. */
    void (*damaged)(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count);
};

/* Recovers, then opens a file for this boot (blocking, loop thread). All options are copied, the trace and the ports
 * are borrowed until wal_close. ERR_IO (also any read error: a range that cannot be read is no verdict),
 * ERR_STORAGE_FULL, ERR_NO_MEMORY, ERR_VERSION (a file of an unknown format version). A missing directory is an empty
 * log; the first lsn of a log is 4096, 0 is never one. After a failure the visitor may have been called, and
 * everything it was told is to be thrown away. */
enum err wal_open(const struct wal_options *options, const struct wal_visitor *visitor, struct wal **ret_wal);

/* Puts a record into the gathering batch and takes a reference to its payload (a payload without a buf is copied).
 * Returns the record's lsn (that of its batch). Never refuses: the owner stops taking new work while
 * wal_pending_bytes is above its own bound. The largest payload is FRAME_PAYLOAD_BYTES_MAX. After a failure the
 * record is dropped. */
uint64_t wal_append(struct wal *wal, const struct wal_record *record);

/* Called at the end of every loop turn: submits the gathering batch if no batch is on its way (while one syncs, the
 * next gathers), and sees to the spare files. */
void wal_flush(struct wal *wal);

/* The one timer: empty voucher batch after idleness, another try after a spare file could not be made. UINT64_MAX =
 * none, a moment in the past = at once. */
uint64_t wal_deadline_us(const struct wal *wal);
void wal_tick(struct wal *wal, uint64_t now_us);

uint64_t wal_next_lsn(const struct wal *wal);      /* no record appended from now on gets a lower one */
uint64_t wal_durable_lsn(const struct wal *wal);   /* everything below is durable */
uint64_t wal_pending_bytes(const struct wal *wal); /* gathered or on their way, not yet durable */

/* Release. The owner promises that no record below lsn is needed any more (each group's hard state and unapplied
 * entries were appended again above, or checkpointed): files that end at or below it become spares. What was appended
 * before this call need not be durable yet: the release waits for it. lsn is at most wal_next_lsn. */
void wal_release(struct wal *wal, uint64_t lsn);
uint64_t wal_forgotten_lsn(const struct wal *wal);  /* no start will see a record below it again; 0: none may be gone */
uint64_t wal_used_bytes(const struct wal *wal);     /* of files with unreleased records and the one written to */
uint64_t wal_oldest_end_lsn(const struct wal *wal); /* releasing up to it frees the oldest file; UINT64_MAX: one file */
bool wal_wants_release(const struct wal *wal); /* used more than half the budget: checkpoint what pins the oldest */
/* No room for a spare, or for the batch on its way: refuse produce, release. Ends by itself. */
bool wal_disk_full(const struct wal *wal);
/* Whether `bytes` more may be appended, behind `promised_bytes` that are about to be, without touching the reserve
 * whatever happens to the disk. No for a moment after a roll, until the next spare is secured: ask again each turn. A
 * record that is larger than a file gets no such promise. */
bool wal_has_room(const struct wal *wal, uint64_t promised_bytes, uint64_t bytes);
bool wal_is_stalled(const struct wal *wal); /* the batch on its way is tried again each second, see above */
/* What the batch on its way, or else a spare that is needed, did not get and waits for: ERR_STORAGE_FULL,
 * ERR_TOO_MANY_FILES, ERR_NO_MEMORY, or what the disk said. OK: nothing, or it is being tried. Whoever waits for
 * wal_has_room then waits for another try, a second away at most, that may fail as well. */
enum err wal_lacks(const struct wal *wal);

struct wal_stats {
    uint64_t batches, records, written_bytes, syncs_us_total, rolls, recycled_files, spare_files;
    uint64_t last_sync_us; /* of the newest batch, write and sync together */
};
void wal_stats(const struct wal *wal, struct wal_stats *ret_stats);

/* No batch may be on its way (pump until wal_pending_bytes is 0; after a failure or a stall none is); closes files,
 * frees. Gathered records are dropped. A zero-filling job under way ends by itself; the directory is not to be opened
 * again in this process before the lanes are idle. */
void wal_close(struct wal *wal);

/* Offline reading for `flotilla inspect wal`, `flotilla repair` and tests: the same reader as recovery, writing
 * nothing. Any function may be NULL. */
struct wal_inspector {
    void *context;
    bool is_memory; /* what is read stands in memory: exactly what is needed is read, and nothing ahead */
    void (*file)(void *context, const char *name, uint64_t base_lsn, uint64_t salt, uint64_t boot, uint32_t version);
    void (*batch)(void *context, uint64_t lsn, uint32_t length, const char *verdict); /* "ok", "torn", "damaged" */
    void (*record)(void *context, const struct wal_record *record, uint64_t lsn);
    void (*damaged)(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count); /* as in wal_visitor */
    /* Last: the log begins at start_lsn; what the next boot appends gets lsns from end_lsn on. */
    void (*end)(void *context, uint64_t start_lsn, uint64_t end_lsn);
};
enum err wal_inspect(struct disk *disk, const char *dir, const struct wal_inspector *inspector);

#endif
