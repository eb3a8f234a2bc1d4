/* One partition's records on disk: segments of RecordBatches as they are served, fed only by apply and never waited for
 * by it.
 *
 * A `struct store` is the broker's; a `struct segment_log` is one partition's. Files: parts/<group id>/<base offset, 20
 * digits>.log .index .timeindex (Kafka's layouts: index {i32 relative offset, i32 position}, timeindex {i64 timestamp,
 * i32 relative offset}, big-endian; a finished segment reads with Kafka's own dump tool). Indexes are rebuilt, never
 * trusted. The manifest (rows in the checkpoint), not the file length, says what is valid: files are recycled in place
 * and hold old bytes behind their end (recycling sustains 400-600 MB/s where growing files fall to 80-170, measured). A
 * file is made at the first append; an idle partition holds none open.
 *
 * Life of a batch: segment_log_append queues a reference to its bytes and returns. A write job on DISK_LANE_STORE
 * gathers {16-byte prefix, bytes 16..} of many batches into large writes, starts writeback per 512 KiB, and never
 * syncs; syncing belongs to checkpoints. Until it is written the batch is served from memory; afterwards it may stay in
 * the tail cache until memory is needed (oldest first, broker-wide).
 *
 * What apply depends on is in the log: rolls are a pure function of sizes and of the log clock given with the batch,
 * log start moves only by segment_log_set_start (a LOG_START entry). So positions, bases and rolls are known on the
 * loop thread the moment a batch is appended.
 *
 * Freeing: a segment leaves the manifest at once, its file becomes free (recycled as a spare or unlinked) only when a
 * checkpoint without it is durable (store_checkpoint_done) and no read holds it.
 *
 * Reads check everything that is served: batch CRC, base offset = the one that follows, a leader epoch (which term owns
 * which offset is the owner's to compare). Bad bytes or an error in a segment make that range ERR_CORRUPT here, nothing
 * else.
 *
 * Threads: all calls on the loop thread unless said otherwise; file handles live on the store lane. */
#ifndef FLOTILLA_STORE_STORE_H
#define FLOTILLA_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/batch.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "base/trace.h"
#include "port/clock.h"
#include "port/disk.h"

struct store;
struct segment_log;

struct store_options {
    struct disk *disk;
    struct clock *clock;
    const struct trace *trace;
    const char *dir;          /* "parts" */
    uint32_t open_files_max;  /* bounded cache of the store lane */
    uint64_t tail_bytes_max;  /* tail cache of the whole broker; queued batches count too but are never evicted */
    uint32_t spare_files_max; /* expired segments kept for reuse; a log takes only one of about its own segment_bytes */
    void *context;
    void (*on_written)(void *context); /* queue got shorter */
    /* A write failed: ERR_STORAGE_FULL, ERR_IO, ERR_TOO_MANY_FILES, ERR_NO_MEMORY. Nothing is lost: the batches stay
     * queued, are served from memory and written again after STORE_RETRY_US or at the log's next checkpoint; until then
     * its checkpoints fail. */
    void (*on_error)(void *context, struct segment_log *log, enum err error);
};

enum err store_open(const struct store_options *options, struct store **ret_store);
/* Before the logs are opened, so that a cold disk is not waited for file by file: a segment of size_bytes is going to
 * be opened, whose row has so many bytes of tail (0: a finished one); called in the order in which the logs will be.
 * store_look_ahead hands what was said to the disk. A hint: files that are missing do not matter, nor what is not said.
 * False: the disk has no use for it. */
bool store_looks_ahead(const struct store *store);
void store_expect(struct store *store, uint64_t group, int64_t base_offset, uint64_t size_bytes, uint32_t tail_size);
void store_look_ahead(struct store *store);
/* Once at start, blocking, after every group of the checkpoint store was opened and before the first append: removes
 * directories of groups that are gone, learns the spare files. Files that no manifest names go when their partition
 * makes its next file: sweep.c. */
enum err store_sweep(struct store *store);
/* Before it: this group is damaged, all its files stay. */
void store_keep(struct store *store, uint64_t group);
/* Deletes the directory of a group that has no log here, on the store lane, then calls done. */
void store_remove_dir(struct store *store, uint64_t group, void (*done)(void *context), void *context);
void store_close(struct store *store); /* all logs closed, no job under way; slices still out stay valid */
/* Clean stop, after the last checkpoints: a job trims the active segments to their ends, so that Kafka's tools read
 * them too. Over when store_is_busy says no. */
void store_trim(struct store *store);

uint64_t store_queued_bytes(const struct store *store); /* applied, not yet written */
uint64_t store_tail_bytes(const struct store *store);   /* memory held for tail reads, queue included */
uint64_t store_read_bytes(const struct store *store);   /* memory that disk reads were served from, spares included */
/* Another tail_bytes_max: when memory is short elsewhere the tail gives way. */
void store_limit_tail(struct store *store, uint64_t bytes_max);
bool store_is_busy(const struct store *store); /* a job is under way */
/* Batches of a log wait because the disk was full when they were last tried: refuse produce. Ends by itself. */
bool store_disk_full(const struct store *store);
/* During the start: a sync of a segment failed, and what was written may be lost although it can be read. */
bool store_sync_failed(const struct store *store);
/* The owner's verdict: while the disk is full, spare files are given up and freed segments become no new ones. */
void store_set_full(struct store *store, bool is_full);
/* Of the queued ones, those that wait for another try: nothing to hold others up for, their log is to be refused. */
uint64_t store_stalled_bytes(const struct store *store);
/* End of a loop turn: submits a write job if none is under way and STORE_JOB_BYTES_MIN are queued, or the oldest
 * batch waits for STORE_QUEUE_AGE_US (so that small traffic is merged), or force was asked for. */
void store_flush(struct store *store);
void store_force(struct store *store); /* the next flush writes everything queued, whatever its size */
/* The one timer: age of the queue, retry after a failed write. UINT64_MAX = none. Ask again after every turn. */
uint64_t store_deadline_us(const struct store *store);
void store_tick(struct store *store, uint64_t now_us);

struct store_stats {
    uint64_t written_bytes, read_bytes, tail_hits, disk_reads, rolls, recycled, created, removed;
};
void store_stats(const struct store *store, struct store_stats *ret_stats);

/* --- one partition --- */

/* One manifest row, as stored in a checkpoint. */
struct segment_row {
    int64_t base_offset;
    int64_t end_offset;  /* after the last record */
    uint64_t size_bytes; /* valid bytes of the file */
    uint64_t generation; /* of the file's use: rises with each reuse */
    uint32_t chain;      /* running crc32c over the 61-byte headers of its batches, as stored (with prefix) */
    int64_t max_timestamp;
    int64_t created_clock_ms; /* log clock at its first batch, for rolls by time */
    int64_t newest_ms;        /* when its newest record counts as written, for retention by time */
    uint32_t tail_size;       /* bytes of the last, partial 4 KiB block, active segment only; below 4096 */
    const uint8_t *tail;      /* borrowed when opening; in a checkpoint valid until store_checkpoint_done */
};

struct segment_log_options {
    struct store *store;
    uint64_t group;
    uint64_t segment_bytes; /* roll before a batch that would exceed it */
    int64_t segment_ms;     /* roll when log clock - created exceeds it; -1 never */
    int64_t log_start;
    int64_t next_offset;            /* must equal the end of the last row, or log_start without rows */
    const struct segment_row *rows; /* of the checkpoint, ascending, borrowed; last = active */
    uint32_t rows_count;
    void *owner;
    bool is_placed; /* the files are what the rows say (store/snapshot.h): none is touched, and it may come at any time
                     */
};

/* Opens from a manifest: blocking, at start; without rows it touches no file and may come at any time. For an active
 * segment it writes row.tail back and syncs, unless the very bytes stand there already (a torn overwrite of that block
 * must not reach records of the checkpoint). Missing or short files give a log whose range is ERR_CORRUPT to readers.
 * ERR_FORMAT: the rows do not join; ERR_IO, ERR_STORAGE_FULL: the tail could not be made durable. */
enum err segment_log_open(const struct segment_log_options *options, struct segment_log **ret_log);
/* No job of the store may be under way. What is queued is dropped: the WAL has it. */
void segment_log_close(struct segment_log *log);
void *segment_log_owner(const struct segment_log *log);
/* A CONFIG_TOPIC entry was applied: from the next batch on. */
void segment_log_configure(struct segment_log *log, uint64_t segment_bytes, int64_t segment_ms);
/* Deletes the partition's files and directory on the store lane, then calls done; the log is gone at once for everybody
 * else. */
void segment_log_delete(struct segment_log *log, void (*done)(void *context), void *context);

/* The log is given up: what is queued is dropped, the files stay as they are; gone at once for everybody, reads under
 * way end with ERR_CANCELLED. No checkpoint of it may be on the lane; those that wait end with store_checkpoint_done.
 */
void segment_log_abandon(struct segment_log *log);

/* Appends an applied batch. `bytes` = the whole normalised batch; a reference is taken. base_offset must be the log's
 * next offset. */
void segment_log_append(struct segment_log *log, struct slice bytes, const struct batch_header *header,
                        int64_t base_offset, int32_t leader_epoch, int64_t log_clock_ms);

int64_t segment_log_start(const struct segment_log *log);
int64_t segment_log_next(const struct segment_log *log);   /* high watermark: everything appended is applied */
uint64_t segment_log_bytes(const struct segment_log *log); /* of all segments */
/* The offset to which log start may move by size: a segment goes if those behind it, the active one among them, hold
 * `retention_bytes` or more, as in Kafka. So never less is left than is to be kept, and at most a segment more; how
 * much of the oldest one lies below log start does not matter. = segment_log_start when nothing goes. */
int64_t segment_log_start_for_bytes(const struct segment_log *log, uint64_t retention_bytes);
/* Where the last segment begins that does so at or below the offset: what is in front of it may go, and appends go on
 * as if nothing had. At least segment_log_start. */
int64_t segment_log_base_below(const struct segment_log *log, int64_t offset);
/* The same for time: segments, the active one too, whose newest record was written before before_ms. When that was: its
 * timestamp, as in Kafka, but at most the log clock at its append, so that a producer whose clock runs ahead keeps
 * nothing for ever; the log clock for records without a timestamp. */
int64_t segment_log_start_for_time(const struct segment_log *log, int64_t before_ms);
int64_t
segment_log_oldest_ms(const struct segment_log *log); /* when the oldest segment's newest record was; or INT64_MAX */
/* Why the last write of the log failed, and how often in a row; OK, 0: it did not. */
enum err segment_log_error(const struct segment_log *log, uint32_t *ret_failures);
void segment_log_set_start(struct segment_log *log, int64_t offset); /* never back; drops segments wholly below it */

#define SEGMENT_READ_PARTS_MAX 512

struct segment_read {
    /* in */
    int64_t offset;
    uint32_t bytes_max;
    void (*done)(struct segment_read *read, enum err error); /* loop thread, a later turn */
    void *context;
    /* out: whole batches, the first contains `offset`; at least one even above bytes_max. Owned by the caller:
     * slice_unref each. */
    struct slice parts[SEGMENT_READ_PARTS_MAX];
    uint32_t parts_count;
    uint32_t bytes;
};

/* OK: served from memory, parts are filled in, done is not called. ERR_AGAIN: a job reads the disk, done follows.
 * ERR_OUT_OF_RANGE: below log start or above next. At next offset: OK with no parts. Offsets may be below log start
 * inside the first batch only. done: OK; ERR_CORRUPT (bad bytes or a failed read: only this range); ERR_BUSY (no memory
 * or file handles, try again); ERR_CANCELLED (the log was deleted meanwhile). One disk read brings at most
 * STORE_READ_BYTES, or one batch if that is larger. ERR_CORRUPT at once: a scrub marked the range (store/scrub.h). */
enum err segment_log_read(struct segment_log *log, struct segment_read *read);
void segment_read_release(struct segment_read *read); /* drops the parts */

/* The base offset of the first batch whose max timestamp >= timestamp_ms, or next offset: jobs answer through
 * done(context, error, offset). ERR_CORRUPT: a batch that is bad may be the one; ERR_BUSY, ERR_CANCELLED as for reads.
 */
void segment_log_find_time(struct segment_log *log, int64_t timestamp_ms,
                           void (*done)(void *context, enum err error, int64_t offset), void *context);

/* --- checkpoints: three steps ---
 * 1. store_checkpoint_new(log) on the loop thread at applied index i: captures the manifest rows (all batches <= i are
 *    appended), submits the write of what is queued and pins the files.
 * 2. store_checkpoint_sync on the store lane, in a job submitted after step 1 (the lane is FIFO, so the writes are
 * done): syncs every file that is dirty, and directories with new names, fills in row.tail from what was written. A
 * deleted log is OK. ERR_STORAGE_FULL, ERR_TOO_MANY_FILES, ERR_NO_MEMORY: queued batches could not be written; the same
 *    checkpoint may be synced again later, after the store's own retry. ERR_AGAIN: so too, a write failed or the tail
 *    did not read as it was written. ERR_IO: a sync failed; it is final, and every later checkpoint says the same.
 * 3. store_checkpoint_done on the loop thread when the rows are durable in the checkpoint store (ok) or not (!ok); once
 *    for every checkpoint, also when the log was deleted meanwhile, and before segment_log_close. */
struct store_checkpoint {
    struct segment_log *log;
    int64_t log_start;
    int64_t next_offset;
    struct segment_row *rows; /* owned by the checkpoint */
    uint32_t rows_count;
    void *state;
};
struct store_checkpoint *store_checkpoint_new(struct segment_log *log);
enum err store_checkpoint_sync(struct store_checkpoint *checkpoint); /* lane thread */
/* Loop thread, before a checkpoint that failed is synced again: leaves out the rows that log start has passed since.
 * The last one stays, and log_start is where the first one begins. */
void store_checkpoint_refresh(struct store_checkpoint *checkpoint);
void store_checkpoint_done(struct store_checkpoint *checkpoint, bool ok); /* frees it */

/* --- freeing without a checkpoint ---
 * While the disk is full, batches wait to be written, and no picture of the log can be taken that would let dropped
 * segments go. They go by themselves: ask what may (loop thread), take the rows below first_base, except the last
 * row, out of the stored manifest (lane), then say so (loop thread). */
struct segment_shed {
    int64_t first_base; /* where the oldest segment of the log begins */
    uint64_t drops;
};
bool segment_log_sheds(const struct segment_log *log, struct segment_shed *ret_shed); /* false: nothing to free */
/* kept_base: of the stored row that stayed, -1: none. Its segment stays, and those that a waiting batch needs. */
void segment_log_shed(struct segment_log *log, const struct segment_shed *shed, int64_t kept_base);

#endif
