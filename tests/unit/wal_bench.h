/* A log on a small disk (wal_disk.h) and what it reported: the stage of the log's tests. */
#ifndef FLOTILLA_TESTS_WAL_BENCH_H
#define FLOTILLA_TESTS_WAL_BENCH_H

#include "wal/format.h"
#include "wal/wal.h"
#include "wal_disk.h"

#define BENCH_SEEN_MAX    4096
#define BENCH_DAMAGED_MAX 16
#define BENCH_FILE_BYTES  (64u << 10)

struct seen_record {
    enum wal_record_type type;
    uint8_t entry_type;
    uint64_t group, replica, index, term, lsn;
    uint32_t payload_size;
    uint32_t payload_crc;
};

struct seen_damage {
    uint64_t lsn;
    uint32_t count; /* 0: all */
    uint64_t groups[8];
    unsigned records_before; /* records seen when it was reported */
};

struct bench {
    struct wal_disk d;
    struct wal *wal; /* NULL: closed */
    uint64_t boot;
    uint64_t budget_bytes;
    uint64_t persisted_lsn; /* of this boot */
    unsigned persisted_calls, failed_calls;
    enum err failed_error;
    struct seen_record seen[BENCH_SEEN_MAX]; /* by the last open */
    unsigned seen_count;
    struct seen_damage damaged[BENCH_DAMAGED_MAX];
    unsigned damaged_count;
};

struct bench *bench_new(uint64_t seed);
void bench_free(struct bench *b); /* closes, if open; the disk must be pumped */

enum err bench_open(struct bench *b); /* a new boot */
void bench_close(struct bench *b);    /* as a clean stop or kill -9 does: the page cache stays */
void bench_reopen(struct bench *b);   /* both; must succeed */

/* An entry of `size` bytes that depend on group and index, in a buf of its own. Returns its lsn. */
uint64_t bench_append(struct bench *b, uint64_t group, uint64_t index, uint32_t size);
uint32_t bench_payload_crc(uint64_t group, uint64_t index, uint32_t size);

/* One batch with one entry for each of the groups, durable. Returns its lsn. */
uint64_t bench_commit(struct bench *b, const uint64_t *groups, unsigned count, uint64_t index, uint32_t size);

/* Everything durable and the lanes idle. */
void bench_settle(struct bench *b);

bool bench_saw(const struct bench *b, uint64_t group, uint64_t index);
unsigned bench_files(struct bench *b);

/* Where byte `lsn` of the stream stands: the file's path and the offset in it. */
struct bench_place {
    char path[64];
    uint64_t offset;
};
struct bench_place bench_find(struct bench *b, uint64_t lsn);

struct bench *bench_opened(void); /* new, and open */

/* Four batches: {1,2} {3,2} {4} {5,6}, index 1 to 4, each record of `size` bytes. */
void bench_commit_four(struct bench *b, uint32_t size, uint64_t lsns[4]);

/* Enough batches of groups {5,6} for two rolls; the lsn of the last one of the first file. */
uint64_t bench_fill_three_files(struct bench *b);

/* Flips the bytes [offset, offset + size) of the batch at lsn. */
void bench_rot(struct bench *b, uint64_t lsn, uint64_t offset, uint64_t size);
void bench_assert_damage(const struct bench *b, unsigned at, uint64_t lsn, const uint64_t *groups, uint32_t count);

#endif
