/* Internals of src/store, shared by its files only.
 *
 * Two threads meet here. The loop thread owns everything but what stands under "lane": positions, sizes, the batches in
 * memory, the decision when a file is free. The store lane owns file handles, the spare files and what is on the disk
 * already. They hand each other jobs; a job borrows segments and batches, and nothing it borrows is freed before its
 * `done`.
 *
 *   store.c        the broker's: queue of batches, write jobs, timer
 *   tail.c         batches in memory, and who may still have them
 *   segment_log.c  one partition: append, roll, retention, delete
 *   start.c        opening from a manifest, sweeping
 *   read.c         reads from memory and from disk
 *   find_time.c    from a timestamp to an offset
 *   checkpoint.c   the three steps of a checkpoint
 *   snapshot.c     segments on their way to another broker, and here from one
 *   scrub.c        the walk that reads everything again
 *   writer.c       lane: what a write job does
 *   files.c        lane: open files, spares; create, recycle, remove
 *   walk.c         lane: from batch header to batch header
 *   doubt.c        lane: are these the batches that were written here?
 *   index.c        the sparse index in memory
 *   index_file.c   lane: Kafka's index files */
#ifndef FLOTILLA_STORE_IMPL_H
#define FLOTILLA_STORE_IMPL_H

#include <sys/queue.h>

#include "base/map.h"
#include "store/store.h"

#define STORE_PATH_BYTES 256
#define SEGMENT_HINTS    4

/* --- batches in memory (tail.c) --- */

/* One applied batch while it is in memory. `head` is the refcounted owner of the prefix: a fetch holds head and body,
 * each by its own reference; when the last reference to head goes, the item gives up the body and returns to its pool.
 */
struct store_item {
    struct buf head; /* first; data = prefix */
    uint8_t prefix[BATCH_PREFIX_BYTES];
    struct slice body;       /* the whole batch as it came; bytes 16.. are served */
    struct segment_log *log; /* borrowed */
    struct segment *segment; /* borrowed; NULL once written */
    struct segment *seals;   /* borrowed; first batch of a segment: the finished one before it, else NULL */
    int64_t base_offset, end_offset;
    int64_t max_timestamp;
    uint64_t position;            /* in the segment */
    enum err error;               /* lane's verdict, read in done */
    TAILQ_ENTRY(store_item) link; /* of a write job's chain, then of the tail */
};
TAILQ_HEAD(store_items, store_item);

struct item_pool;
struct item_pool *item_pool__new(void);
void item_pool__free(struct item_pool *pool); /* items still out keep it alive */
struct store_item *item_pool__take(struct item_pool *pool);

/* The batches of one log in memory: always the newest ones, without a gap. [0, written) are on disk as well, [written,
 * submitted) are with write jobs, the rest waits. */
struct tail_ring {
    struct store_item **items; /* capacity: power of two, or 0 */
    uint32_t capacity, head, count;
    uint32_t written, submitted;
};
struct store_item *ring__at(const struct tail_ring *ring, uint32_t i);
void ring__push(struct tail_ring *ring, struct store_item *item);
/* Where the batch with this offset stands; offset must be within. */
uint32_t ring__find(const struct tail_ring *ring, int64_t offset);
void tail__push(struct segment_log *log, struct store_item *item);
void tail__evict(struct store *store);        /* oldest written ones until the tail fits */
void tail__drop_log(struct segment_log *log); /* all of them, written or not */
void tail__read(struct segment_log *log, struct segment_read *read);

/* --- sparse index (index.c): loop thread, or lane for one it built itself --- */

struct index_entry { /* Kafka: of the batch at `position`, its last offset */
    uint32_t relative_last;
    uint32_t position;
};
struct time_entry { /* Kafka: the largest timestamp so far, and the last offset of the batch that has it */
    int64_t timestamp;
    uint32_t relative_last;
};
struct segment_index {
    struct index_entry *entries;
    struct time_entry *times;
    uint32_t entries_count, entries_capacity;
    uint32_t times_count, times_capacity;
    uint32_t bytes_since; /* last entry */
    int64_t max_timestamp;
    uint32_t max_relative;
    bool max_is_listed;
    bool has_hole;          /* behind it no times are listed: the hole may hold newer ones */
    uint64_t covered_from;  /* position; batches before it are not in here (written in an earlier life) */
    int64_t covered_offset; /* base offset of the batch at covered_from */
};
void index__init(struct segment_index *index, int64_t base_offset);
void index__clear(struct segment_index *index);
void index__add(struct segment_index *index, uint32_t relative_last, uint64_t position, uint32_t size_bytes,
                int64_t max_timestamp);
void index__finish(struct segment_index *index); /* the last time entry, at the roll */
/* Nothing is known of what stands from here on, up to the batch that is added next: it gets an entry. */
void index__hole(struct segment_index *index, uint64_t position, uint32_t relative_from);
/* A batch boundary at or before the batch with `offset`, the nearest that is known. False: only the disk knows.
 * *ret_above: the next boundary known, UINT64_MAX if none; its batch may be the one itself. */
bool index__find(const struct segment_index *index, int64_t base_offset, int64_t offset, uint64_t *ret_position,
                 uint64_t *ret_above);
/* The last offset of a batch up to which no timestamp reaches timestamp_ms. False: none known. */
bool index__find_time(const struct segment_index *index, int64_t base_offset, int64_t timestamp_ms,
                      int64_t *ret_offset);
/* Puts `older`, which covers [0, covered_from), in front; takes its memory. */
void index__prepend(struct segment_index *index, struct segment_index *older);

/* --- a segment --- */

struct segment_hint { /* a batch boundary that a read ended at: the next read of that consumer begins there */
    int64_t offset;
    uint64_t position;
};

struct damaged_range {
    int64_t from_offset, end_offset;
    bool is_unread; /* reading it failed; else its bytes are bad */
};
struct damage {                   /* what a scrub found, scrub.c */
    struct damaged_range *ranges; /* owned */
    uint32_t count, capacity;
};
void damage__free(struct damage *damage);
bool damage__holds(const struct damage *damage, int64_t offset);

struct doubt { /* lane; doubt.c */
    bool is_open;
    bool was_unread;          /* a look was broken off by a read that failed; a second one is damage, not bad luck */
    uint64_t bytes, position; /* of an earlier process; judged up to here */
    int64_t offset;
    uint32_t chain, chain_wanted;
};

struct segment_file {         /* lane */
    struct disk_file *handle; /* NULL: not open */
    bool exists;              /* under its own name */
    bool is_recycled;         /* old bytes behind the end */
    uint64_t lost_tail;       /* end of a last block that checkpoints could not read back; 0: none */
    bool is_lost; /* was missing at start: no recycled file, whose old batches might pass for the lost ones */
    struct doubt doubt;
    bool is_foreign; /* whole batches, but not those that were written here */
    bool is_in_dirty;
    uint64_t length_bytes;
    uint64_t dirty_epoch; /* un-synced writes unless files.epoch moved on */
    TAILQ_ENTRY(segment) open_link;
    TAILQ_ENTRY(segment) dirty_link;
};

struct segment {
    struct segment_log *log; /* borrowed */
    int64_t base_offset, end_offset;
    uint64_t size_bytes;    /* of all appended batches */
    uint64_t written_bytes; /* known to be in the file */
    uint64_t generation;
    uint64_t capacity_bytes; /* segment_bytes at its birth */
    uint32_t chain;
    uint32_t tail_crc;  /* of the last, partial block as it was appended */
    bool is_tail_known; /* false: opened without a tail, and no block was finished since */
    int64_t max_timestamp;
    int64_t created_clock_ms; /* log clock at the first batch */
    int64_t newest_ms;        /* see segment_log_start_for_time */
    bool is_sealed;           /* trimmed and indexed on disk, memory index given up */
    struct segment_index index;
    struct segment_hint hints[SEGMENT_HINTS];
    uint32_t hint_next;
    struct damage damage;
    uint32_t pins;             /* reads and checkpoints that need the file */
    bool is_free;              /* no durable manifest names it: goes with the last pin */
    uint64_t dropped_at;       /* log->drops when it left the manifest */
    TAILQ_ENTRY(segment) link; /* of log->dropped, then of a retire job */
    struct segment_file file;
};
TAILQ_HEAD(segment_list, segment);

struct segment_bases { /* ascending */
    int64_t *offsets;  /* owned */
    uint32_t count;
};

struct log_lane { /* lane */
    bool dir_is_made;
    bool is_sweep_due;          /* its directory is of an earlier life and was not looked through yet */
    struct segment_bases bases; /* of the manifest at start, until then */
    bool names_are_dirty;
    bool is_deleted;
    int64_t written_offset; /* everything below is in the files */
    enum err error;         /* why the last write failed */
    enum err sync_error;    /* final: a failed sync may not be asked again: the pages are called clean */
    struct segment_list dirty;
};

struct segment_log {
    struct store *store; /* borrowed */
    uint64_t group;
    void *owner;
    uint64_t segment_bytes;
    int64_t segment_ms;
    int64_t start_offset, next_offset;
    uint64_t bytes;
    struct segment **segments; /* owned; ascending, the manifest */
    uint32_t segments_count, segments_capacity;
    struct segment *active;      /* the last of them, or NULL: the next batch begins one */
    struct segment_list dropped; /* out of the manifest, file not free yet; owned */
    uint64_t drops;              /* how many ever were */
    struct tail_ring ring;
    uint32_t inflight;      /* items with write jobs */
    bool is_failed;         /* one of those failed: wait for the others, then write again */
    bool is_queued;         /* in store->queued */
    bool is_stalled;        /* in store->stalled */
    bool is_full;           /* its last write found no room; counted in store->full_count */
    enum err error;         /* why its last write failed; OK: it did not */
    uint32_t failures;      /* tries in a row */
    uint64_t stalled_bytes; /* unwritten when it stalled; counted in store->stalled_bytes */
    bool is_dead;           /* deleted */
    bool is_gone;           /* and its files are */
    uint32_t holds;         /* jobs and checkpoints that still point here */
    TAILQ_ENTRY(segment_log) queue_link;
    UT_hash_handle hh;
    struct log_lane lane;
};
TAILQ_HEAD(segment_logs, segment_log);

struct segment *segment__new(struct segment_log *log, int64_t base_offset, uint64_t generation);
void segment__free(struct segment *segment);
void segment__unpin(struct segment *segment);
void segment__add_hint(struct segment *segment, int64_t offset, uint64_t position);
bool segment__find_start(const struct segment *segment, int64_t offset, uint64_t *ret_position, uint64_t *ret_above,
                         bool *ret_exact);
struct segment *segment_log__find(const struct segment_log *log, int64_t offset);
void segment_log__add_segment(struct segment_log *log, struct segment *segment);
void segment_log__release_hold(struct segment_log *log);
void segment_log__free(struct segment_log *log);
void segment_log__retire(struct segment_log *log, struct segment_list *free_segments);

/* --- lane: leftovers (sweep.c) --- */

struct files;

void sweep__remember(struct log_lane *lane, const struct segment_row *rows, uint32_t rows_count); /* at start */
/* Before the first file of this life is made: removes what the manifest did not name at start, once. */
enum err sweep__log(struct files *files, uint64_t group, struct log_lane *lane);
/* Removes all but these; OK if there is no such directory. */
enum err sweep__others(struct files *files, uint64_t group, const struct segment_bases *bases);
enum err sweep__remove_dir(struct files *files, uint64_t group); /* with all that is in it */
void sweep__forget(struct log_lane *lane);

/* --- lane: files --- */

struct spare {
    uint64_t generation; /* its name */
    uint64_t length_bytes;
};

struct files_counters {
    uint64_t recycled, created, removed;
};

struct files {
    struct disk *disk;
    const struct trace *trace;
    const char *dir; /* owned by the store */
    uint32_t open_max, open_count;
    TAILQ_HEAD(, segment) open; /* least recently used first */
    struct spare *spares;
    uint32_t spares_count, spares_max;
    bool is_full; /* the disk is: freed files are removed, not kept as spares */
    bool root_is_dirty, spare_dir_is_dirty;
    uint64_t epoch;      /* moves with every sync_all: what was dirty before is clean */
    enum err sync_error; /* of sync_all; final */
    struct files_counters counters;
    uint8_t *window; /* of walk.c */
    struct iovec parts[STORE_WRITE_PARTS_MAX];
    uint8_t *staging; /* owned; STORE_STAGING_BYTES and a block, block aligned */
};

enum err files__init(struct files *files, const struct store_options *options, const char *dir);
void files__deinit(struct files *files);
void files__path(const struct files *files, const struct segment *segment, const char *suffix,
                 char path[STORE_PATH_BYTES]);
void files__log_dir(const struct files *files, uint64_t group, char path[STORE_PATH_BYTES]);
void files__spare_dir(const struct files *files, char path[STORE_PATH_BYTES]);
void files__spare_path(const struct files *files, uint64_t generation, char path[STORE_PATH_BYTES]);
enum err files__open(struct files *files, struct segment *segment); /* ERR_NO_FILE: not there */
/* Opens the file; makes or recycles one if there is none. */
enum err files__create(struct files *files, struct segment *segment);
void files__close(struct files *files, struct segment *segment);
void files__mark_dirty(struct files *files, struct segment *segment);
enum err files__trim(struct files *files, struct segment *segment, uint64_t size_bytes); /* if it is longer */
void files__retire(struct files *files, struct segment *segment); /* a spare, or nothing; indexes go */
void files__remove(struct files *files, struct segment *segment);
bool files__give_up_spares(struct files *files); /* for their room; true if there were any */
void files__add_spare(struct files *files, uint64_t generation, uint64_t length_bytes);
/* At most a block, of which nobody knows what it must be. ERR_CORRUPT: two reads do not bring the same. */
enum err files__read_twice(struct files *files, struct disk_file *file, uint8_t *data, uint32_t size,
                           uint64_t position);
enum err files__write_whole(struct files *files, const char *path, const void *data, size_t size);

/* --- lane: from batch header to batch header --- */

#define WALK_WINDOW_BYTES (64u << 10)

struct walk {
    struct files *files;
    struct segment *segment;
    uint64_t position, limit;
    int64_t expected_offset; /* -1: whatever stands there */
    uint64_t window_position;
    size_t window_bytes;
    uint64_t last_position; /* of the batch that was found last; UINT64_MAX: none, or none whole */
    struct batch_header last;
};
struct walk_hole { /* where no batch can be found */
    uint64_t position;
    int64_t from_offset; /* -1: unknown */
};
/* The file must be open, and stay so. Headers are checked for layout and for joining the one before. */
void walk__begin(struct walk *walk, struct files *files, struct segment *segment, uint64_t position, uint64_t limit);
/* ERR_CLOSED: the limit. ERR_CORRUPT: what stands there is no next batch. The walk is then behind the batch / where it
 * was. */
enum err walk__next(struct walk *walk, struct batch_header *ret_header, uint64_t *ret_position);
/* After ERR_CORRUPT or ERR_IO of walk__next: goes on at the next whole batch, and says where the hole begins: the batch
 * in front of it belongs to it, too, if its bytes are bad. end_offset: behind the last batch before the limit, which is
 * a boundary; -1: unknown. ERR_CLOSED: no batch is left. ERR_CORRUPT: too much looked like one; other errors as they
 * come. */
enum err walk__seek(struct walk *walk, int64_t end_offset, struct walk_hole *ret_hole);
/* Reads the batch: ERR_CORRUPT if its bytes are bad or the file ends in it; other errors as they come. */
enum err walk__check_crc(struct walk *walk, uint64_t position, const struct batch_header *header);
bool walk__header_is_sane(const struct segment *segment, const struct batch_header *header, uint64_t room_bytes);

/* --- lane: doubt about what an earlier process wrote --- */

void doubt__raise(struct segment *segment); /* loop, at start */
/* Judges a piece; true: over, and file.is_foreign says how. The file must be open. */
bool doubt__settle(struct files *files, struct segment *segment);

/* --- lane: index files --- */

enum err index_file__write(struct files *files, const struct segment *segment, const struct segment_index *index);
/* A batch boundary at or before `offset`: by the .index file, checked against the batch it points to, or ERR_NO_FILE /
 * ERR_FORMAT. *ret_above: the next boundary behind `offset`, UINT64_MAX if none is known. */
enum err index_file__find(struct files *files, struct segment *segment, uint64_t size_bytes, int64_t offset,
                          uint64_t *ret_position, uint64_t *ret_above);
/* The same for the .timeindex: the last offset of a batch up to which no timestamp reaches timestamp_ms. */
enum err index_file__find_time(struct files *files, struct segment *segment, int64_t timestamp_ms,
                               struct time_entry *ret_entry);
/* Builds the index of bytes [0, limit), which hold the batches before end_offset, from the headers; where one is rotten
 * it goes on at the next whole batch. Other errors than OK: as far as it got, or the last batch, though whole, says
 * that it ends elsewhere: offsets behind it must not be looked for by that. */
enum err index_file__scan(struct files *files, struct segment *segment, uint64_t limit, int64_t end_offset,
                          struct segment_index *index);
/* Trims a finished segment and writes its index files, from memory if the index is whole. Failing is no fault: both are
 * made up for later. */
void index_file__seal(struct files *files, struct segment *segment);

/* --- the broker's --- */

struct store_job {
    struct disk_job job; /* first */
    struct store *store;
    void (*run)(struct store_job *job);  /* lane */
    void (*done)(struct store_job *job); /* loop; frees it */
    void (*drop)(struct store_job *job); /* loop; its done never comes (crash): frees it without touching logs */
    struct files_counters counters;      /* as of its end */
    TAILQ_ENTRY(store_job) link;
};

struct store {
    struct disk *disk;
    struct clock *clock;
    const struct trace *trace;
    struct store_options options;
    char *dir;                /* owned */
    struct segment_log *logs; /* by group; living ones */
    TAILQ_HEAD(, store_job) jobs;
    uint32_t jobs_count, write_jobs_count;
    struct segment_logs queued, stalled, dead;
    uint32_t full_count;
    uint64_t unsubmitted_bytes, queued_bytes, tail_bytes, stalled_bytes;
    uint64_t queue_since_us, retry_us;
    bool is_forced;
    struct store_items tail; /* written ones, oldest first */
    struct item_pool *items;
    struct buf_pool *read_bufs;
    uint64_t *kept; /* owned; groups whose files the sweep leaves alone */
    uint32_t kept_count, kept_capacity;
    struct disk_expected *expected; /* owned; start.c, until the disk takes them */
    uint32_t expected_count, expected_capacity;
    uint64_t generation_next;
    uint32_t checkpoints_count; /* under way */
    struct store_stats stats;   /* loop's part */
    struct files_counters counters;
    struct files files; /* lane */
};

void store__submit(struct store *store, struct store_job *job);
void store__enqueue(struct segment_log *log); /* it has something to write */
void store__note_full(struct segment_log *log, bool is_full);
void store__unstall(struct segment_log *log); /* out of store->stalled */
void store__submit_writes(struct store *store, bool all);
void writer__run(struct files *files, struct store_items *chain); /* lane */

#endif
