/* Inside `flotilla repair`: what was found, what can be kept and what is given up.
 *
 *   repair.c           the command: finds the partition, says what it would do, does it
 *   repair_topic.c     the registry's row of the topic
 *   repair_wal.c       which entries of the WAL join the checkpoint
 *   repair_segments.c  which offsets of the segments can be read; files without the bad batches
 *
 * Nothing is written before the whole plan is made. */
#ifndef FLOTILLA_CLIENT_REPAIR_PLAN_H
#define FLOTILLA_CLIENT_REPAIR_PLAN_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "client/cli.h"
#include "client/inspect_lines.h"
#include "client/inspect_scan.h"
#include "meta/meta.h"
#include "port/disk.h"
#include "port/kv.h"

#define REPAIR_PATH_BYTES 128

/* The part of the log that stands in the WAL: entries above the checkpoint. */
struct repair_wal {
    uint64_t start_lsn, end_lsn;
    bool damaged;
    uint64_t damaged_lsn;           /* nothing from here on is kept; UINT64_MAX: all that joins is */
    uint64_t kept_first, kept_last; /* indexes; first > last: none */
    uint64_t kept_records;
    uint64_t dropped_entries, dropped_records; /* readable, but behind the damage */
    uint64_t unreadable_batches;               /* that held records of this group, or of all */
    uint64_t term_max;
    uint64_t told_index; /* the checkpoint store once held this much */
};

struct repair_segment {
    int64_t base_offset, end_offset;
    struct meta_segment row; /* as it stands (has_row), then as it is to be */
    uint8_t tail[META_TAIL_BYTES_MAX];
    bool has_row;
    bool rewrite;    /* the file gets empty batches in place of what is lost */
    bool changed;    /* the row */
    bool is_foreign; /* whole batches, but not this segment's */
    bool is_empty;   /* holds an empty batch: of an earlier repair */
    struct scan_result found;
};

struct repair_topic {
    bool is_found, is_bad; /* bad: only its key is readable */
    uint64_t first_group;
    uint32_t partitions;
    uint8_t key[KV_KEY_BYTES_MAX]; /* of a bad one */
    size_t key_size;
};

struct repair {
    struct cli *cli;
    const char *dir;
    char topic[TOPIC_NAME_BYTES_MAX + 1];
    uint32_t partition;
    bool accept;

    struct disk *disk;
    struct kv *kv;
    struct repair_topic topic_row;
    bool has_group; /* its own row is readable and says what it is */
    struct meta_group group;
    uint64_t generation_next;

    struct repair_segment *segments; /* owned; ascending */
    uint32_t segments_count, segments_capacity;
    struct meta_epoch *epochs; /* owned; ascending, with what the batches say */
    uint32_t epochs_count, epochs_capacity;
    uint32_t epochs_stored_count;
    struct meta_bad_row *bads; /* owned */
    uint32_t bads_count, bads_capacity;

    struct repair_wal wal;
    int64_t lost_offsets; /* of the segments */
    bool needed, loses;
};

/* Prints one finding; the caller adds fields and ends the line. */
struct line repair_line(const struct repair *repair, const char *name);

/* From the topic's name to the group; ends the command if there is none. */
enum err repair_find_topic(struct repair *repair);
void repair_plan_topic(struct repair *repair); /* says what is lost with a bad row */
/* Writes a bad row anew. */
enum err repair_put_topic(struct repair *repair, struct kv_txn *txn);

/* Fills repair->wal, and prints it. */
enum err repair_plan_wal(struct repair *repair);

/* Fills repair->segments and what the batches say about terms; prints what is lost. */
enum err repair_plan_segments(struct repair *repair);

/* New files in place of the damaged ones, each whole and durable before it takes the name. */
enum err repair_write_segments(struct repair *repair);

#endif
