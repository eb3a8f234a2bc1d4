/* What the broker counts. One table for everything that exists so far: broker code adds, metrics.c prints it in
 * Prometheus' text form as flotilla_<name>. Loop thread only; no globals: a struct counters hangs off each broker. */
#ifndef FLOTILLA_BROKER_COUNTERS_H
#define FLOTILLA_BROKER_COUNTERS_H

#include <stdint.h>

#include "base/err.h"

/* name (with _total), help */
#define COUNTER_TABLE(X)                                                                                               \
    X(produce_requests_total, "produce requests received")                                                             \
    X(produce_batches_total, "batches acknowledged")                                                                   \
    X(produce_records_total, "records acknowledged")                                                                   \
    X(produce_bytes_total, "bytes of acknowledged batches")                                                            \
    X(produce_failed_total, "produce requests answered with an error")                                                 \
    X(fetch_requests_total, "fetch requests received")                                                                 \
    X(fetch_bytes_total, "bytes of batches served")                                                                    \
    X(fetch_waits_total, "fetches that had to wait at the end of the log")                                             \
    X(dedup_known_total, "repeated batches answered with their first offset")                                          \
    X(dedup_joined_total, "repeated batches that joined one in flight")                                                \
    X(dedup_stale_total, "batches older than the window")                                                              \
    X(dedup_out_of_order_total, "batches that would leave a gap")                                                      \
    X(dedup_fenced_total, "batches of an older producer epoch")                                                        \
    X(dedup_unknown_total, "batches of an unknown producer")                                                           \
    X(apply_entries_total, "log entries applied")                                                                      \
    X(apply_refused_total, "data entries that apply refused by the done table")                                        \
    X(apply_replay_total, "log entries skipped because the checkpoint holds them")                                     \
    X(apply_gap_total, "gaps in the log found by replay; each one is damage")                                          \
    X(timeout_entries_proposed_total, "TIMEOUT entries proposed")                                                      \
    X(timeout_entries_applied_total, "TIMEOUT entries applied")                                                        \
    X(producers_expired_total, "producers forgotten after [raft] producer_expiry_ms without a batch")                  \
    X(log_start_moves_total, "LOG_START entries applied that moved the log start")                                     \
    X(elections_total, "elections started here")                                                                       \
    X(leaders_elected_total, "elections won here")                                                                     \
    X(checkpoints_total, "checkpoints of groups made durable")                                                         \
    X(checkpoint_transactions_total, "transactions of the checkpoint store")                                           \
    X(connections_accepted_total, "client connections accepted")                                                       \
    X(connections_refused_total, "client connections refused: too many, of one address or in all")                     \
    X(connections_refused_address_total, "those of them that were too many of one address")                            \
    X(connections_closed_bad_frame_total, "client connections closed after a malformed frame")                         \
    X(connections_closed_slow_frame_total, "client connections closed: a frame was not completed in time")             \
    X(connections_closed_slow_reader_total, "client connections closed: replies were not taken")                       \
    X(connections_closed_memory_total, "client connections closed: slow while memory was short")                       \
    X(reads_paused_total, "times that reading a connection was paused for lack of room")                               \
    X(groups_reappended_total, "groups whose live records were re-appended to release a WAL file")                     \
    X(raft_rows_refused_total, "messages of other brokers' replicas to replicas that are not here")                    \
    X(raft_rows_dropped_total, "votes and acknowledgements dropped because too many wait for the log")                 \
    X(replicas_born_total, "replicas that were made here")                                                             \
    X(replicas_removed_total, "replicas that ended here because they are no members any more")                         \
    X(replicas_lost_total, "times that a replica which should be here was found missing")                              \
    X(leaderships_yielded_total, "leaderships given away: the disk is full, or ranges of records are damaged")         \
    X(segments_mended_total, "segments in which damaged records were written anew, from a leader")                     \
    X(groups_healed_total, "damaged replicas that are whole again")                                                    \
    X(groups_slept_total, "times that a replica here fell asleep with its group")                                      \
    X(groups_woken_total, "times that one woke")                                                                       \
    X(configs_proposed_total, "configurations that leaders here put into their logs")                                  \
    X(configs_applied_total, "entries applied that say who is in a group")                                             \
    X(raft_refusals_total, "messages of replicas here that other brokers refused")                                     \
    X(snapshots_sent_total, "snapshots that a replica on another broker has got from here")                            \
    X(snapshots_installed_total, "snapshots of other brokers that took the place of what a replica here had")          \
    X(snapshots_resumed_total, "transfers of snapshots to here that went on where a link broke")                       \
    X(snapshot_sent_bytes_total, "bytes of snapshots sent")                                                            \
    X(snapshot_received_bytes_total, "bytes of snapshots received")                                                    \
    X(snapshot_chunks_ignored_total, "pieces of snapshots that nobody had asked for")                                  \
    X(scrub_bytes_total, "bytes at rest read again and judged by the scrub")                                           \
    X(scrub_rounds_total, "times that the scrub read everything at rest")                                              \
    X(scrub_damaged_total, "damaged ranges of segments, rows and parts of the log that the scrub found")

/* Log-linear: bucket i counts values up to counters_bucket_us[i]. */
#define COUNTER_BUCKETS 16
struct counter_histogram {
    uint64_t buckets[COUNTER_BUCKETS + 1]; /* the last one: above all bounds */
    uint64_t count;
    uint64_t sum_us;
};

#define HISTOGRAM_TABLE(X)                                                                                             \
    X(wal_sync_seconds, "write and sync of one WAL batch")                                                             \
    X(produce_seconds, "produce request received to answered")                                                         \
    X(fetch_seconds, "fetch request received to answered, waits included")

struct counters {
#define COUNTER_FIELD(name, help) uint64_t name;
    COUNTER_TABLE(COUNTER_FIELD)
#undef COUNTER_FIELD
#define HISTOGRAM_FIELD(name, help) struct counter_histogram name;
    HISTOGRAM_TABLE(HISTOGRAM_FIELD)
#undef HISTOGRAM_FIELD
};

/* Upper bounds of the buckets in microseconds, rising. */
extern const uint64_t counters_bucket_us[COUNTER_BUCKETS];

void counters_observe(struct counter_histogram *histogram, uint64_t value_us);

#endif
