/* A store on a store_disk with a few logs, a model of every batch that was appended, and the checkpoint that is
 * durable. Reads are compared with the model byte for byte; a restart opens from the durable checkpoint and replays the
 * rest, as the WAL would. */
#ifndef FLOTILLA_TESTS_STORE_BENCH_H
#define FLOTILLA_TESTS_STORE_BENCH_H

#include "store/store.h"
#include "store_disk.h"

#define BENCH_LOGS          3
#define BENCH_SEGMENT_BYTES 65536u

struct bench_batch {
    int64_t base_offset, end_offset;
    uint32_t size_bytes;
    int64_t timestamp;
    int64_t clock_ms;
};

struct bench_log {
    struct segment_log *log;
    uint64_t group;
    int64_t first_offset;
    struct bench_batch *batches; /* all that were ever appended */
    uint32_t count, capacity;
    struct segment_row *rows; /* of the durable checkpoint */
    uint32_t rows_count;
    int64_t durable_start, durable_next;
    uint8_t tail[4096];
    enum err error; /* last on_error */
};

struct bench {
    struct store_disk disk;
    struct store_options options;
    struct store *store;
    struct bench_log logs[BENCH_LOGS];
    uint64_t segment_bytes;
    int64_t segment_ms;
    int written_calls;
    enum err checkpoint_error; /* of the last bench_checkpoint */
    struct segment_read read;  /* the last one */
    enum err read_error;
    bool read_is_done;
};

/* 8 open files, 4 spares. With a tail cache of 0 bytes every written batch is read from the disk. */
struct bench *bench_new(int64_t first_offset, uint64_t tail_bytes_max);
void bench_free(struct bench *b);

/* A batch with this header's sizes, its bytes a function of group and base offset; normalised. The caller drops it. */
struct slice bench_batch_bytes(uint64_t group, const struct bench_batch *batch, struct batch_header *ret_header);

void bench_append(struct bench *b, int log, uint32_t records, uint32_t size_bytes);
void bench_append_at(struct bench *b, int log, uint32_t records, uint32_t size_bytes, int64_t timestamp,
                     int64_t clock_ms);
void bench_fill(struct bench *b, int log, uint64_t bytes, uint32_t batch_bytes); /* batches of 1 to 4 records */
void bench_write(struct bench *b);                                               /* everything queued is written */
void bench_let(struct bench *b); /* jobs run to their end, time stands still */

/* Reads at offset; the parts are compared with the model. Returns the read's outcome; b->read.bytes tells how much. */
enum err bench_read(struct bench *b, int log, int64_t offset, uint32_t bytes_max);
/* Reads [start, next) to the end and asserts that all of it is served. Returns how many reads it took. */
int bench_read_all(struct bench *b, int log);
void bench_check_parts(const struct bench *b, const struct bench_log *l, const struct segment_read *read);
const struct bench_batch *bench_at(const struct bench *b, int log, int64_t offset);

/* A checkpoint of one log; becomes the durable one if its sync is OK and `commits`. */
void bench_checkpoint(struct bench *b, int log, bool commits);

/* Ends the store where it stands: jobs under way never end. cut NULL: only the process died. */
void bench_crash(struct bench *b, const struct tree_cut *cut);
enum err bench_reopen(struct bench *b); /* from the durable checkpoints, with sweep; nothing is replayed */
void bench_replay(struct bench *b);     /* the batches above the checkpoint once more */
void bench_restart(struct bench *b, const struct tree_cut *cut); /* all three */

void bench_path(const struct bench *b, int log, int64_t base_offset, const char *suffix, char path[128]);

#endif
