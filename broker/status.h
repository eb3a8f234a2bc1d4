/* What the broker looks like from outside at this moment, as plain structs: metrics.c and pages.c make text and JSON of
 * them, and neither sees the broker's insides. Loop thread; strings and rows are borrowed until the next turn. */
#ifndef FLOTILLA_BROKER_STATUS_H
#define FLOTILLA_BROKER_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "broker/counters.h"
#include "port/registry.h"

struct broker;

struct status_broker {
    bool ready;
    const char *reason; /* "ready", or what it is busy with */
    uint64_t id;
    uint64_t boot;
    uint8_t cluster_id[UUID_BYTES], disk_uuid[UUID_BYTES];
    const char *rack;
    const char *host; /* as Metadata tells clients of the first listener; "" before it listens */
    uint16_t port;
    const struct counters *counters;

    uint32_t connections;
    uint32_t topics;  /* internal ones included */
    uint32_t groups;  /* partition replicas here */
    uint32_t leaders; /* groups this broker leads, own LEADER entry applied */
    uint32_t damaged;
    uint32_t quiet;             /* replicas here that sleep: quiet.h */
    uint32_t leaderless;        /* live groups here that know no leader */
    uint64_t apply_lag_entries; /* committed and not applied, all groups together */

    /* memory, bytes */
    uint64_t receive_chunk_bytes; /* what sockets read into, batches in flight included */
    uint64_t inflight_bytes;      /* produce requests not yet answered */
    uint64_t tail_bytes;          /* segments' tail cache, queue included */
    uint64_t send_bytes;          /* replies that clients have not taken */
    uint64_t memory_bytes;        /* the account of memory.h; the parts above overlap */
    uint64_t memory_budget_bytes;

    uint64_t clock_ahead_ms; /* the wall clock jumped ahead by so much and is not followed; 0: it is */

    uint64_t wal_used_bytes, wal_budget_bytes, wal_pending_bytes, wal_written_bytes, wal_batches, wal_rolls,
        wal_spare_files;
    uint64_t segment_queue_bytes, segment_written_bytes, segment_read_bytes, segment_rolls, segment_tail_hits,
        segment_disk_reads;

    uint64_t scrub_damaged_ranges;   /* of segments, known now */
    uint64_t scrub_finished_seconds; /* since 1970, when the last round of the scrub ended; 0: none yet */
};

struct status_topic {
    const struct registry_topic *row;
    bool internal;
    uint64_t produced_records, produced_bytes, fetched_bytes; /* since the start */
    uint64_t stored_bytes;                                    /* of all its segments here */
};

struct status_partition {
    const char *topic;
    uint32_t number;
    uint64_t group, replica;
    const char *state; /* "creating", "live", "damaged" (ranges of it), "corrupt" (all of it), "deleted", "lost" */
    const char *role;  /* "leader", "follower", "candidate", or "none" */
    uint64_t leader;   /* broker id; 0: unknown */
    uint64_t term, commit_index, applied_index;
    int64_t log_start, high_watermark;
    uint64_t stored_bytes;
    uint32_t damaged_ranges; /* of offsets that are not served, found by the scrub */
    struct {
        int64_t from_offset, end_offset;
    } damaged[DAMAGED_RANGES_TOLD_MAX]; /* as many of them */
    uint32_t voters_count;
    uint64_t voters[RAFT_VOTERS_MAX]; /* broker ids */
    uint32_t in_sync_count;
    uint64_t in_sync[RAFT_VOTERS_MAX]; /* partition_in_sync: only a leader knows */
};

void status_read(const struct broker *broker, struct status_broker *ret_status);

/* Every topic, in the order in which the broker learned of them, its partitions behind it. Either callback may be NULL.
 */
struct status_visitor {
    void *context;
    void (*topic)(void *context, const struct status_topic *topic);
    void (*partition)(void *context, const struct status_partition *partition);
};
void status_visit(const struct broker *broker, const struct status_visitor *visitor);

#endif
