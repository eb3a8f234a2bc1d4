/* Prometheus text out of the tables of counters.h and out of a status. */
#include "broker/metrics.h"

#include <inttypes.h>

#include "base/assert.h"

static void metrics__header(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP flotilla_%s %s\n# TYPE flotilla_%s %s\n", name, help, name, type);
}

static void metrics__value(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    metrics__header(out, name, type, help);
    fprintf(out, "flotilla_%s %" PRIu64 "\n", name, value);
}

/* Buckets are cumulative in the text, single in memory. */
static void metrics__histogram(FILE *out, const char *name, const char *help, const struct counter_histogram *h)
{
    uint64_t below = 0;
    metrics__header(out, name, "histogram", help);
    for (unsigned i = 0; i < COUNTER_BUCKETS; i++) {
        below += h->buckets[i];
        fprintf(out, "flotilla_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, (double)counters_bucket_us[i] / 1e6, below);
    }
    fprintf(out, "flotilla_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, h->count);
    fprintf(out, "flotilla_%s_sum %.6f\n", name, (double)h->sum_us / 1e6);
    fprintf(out, "flotilla_%s_count %" PRIu64 "\n", name, h->count);
}

/* field of struct status_broker, name, type, help */
#define STATUS_TABLE(X)                                                                                                \
    X(ready, "ready", "gauge", "1 when it serves clients")                                                             \
    X(boot, "boot", "gauge", "number of this start of the broker")                                                     \
    X(connections, "connections", "gauge", "open client connections")                                                  \
    X(topics, "topics", "gauge", "topics, internal ones included")                                                     \
    X(groups, "groups", "gauge", "partition replicas on this broker")                                                  \
    X(leaders, "leaders", "gauge", "partitions this broker leads and serves")                                          \
    X(damaged, "damaged", "gauge", "partition replicas that are damaged and not served")                               \
    X(leaderless, "leaderless", "gauge", "live partition replicas that know no leader")                                \
    X(quiet, "quiet", "gauge", "partition replicas that sleep: nothing to do, no messages of their own")               \
    X(apply_lag_entries, "apply_lag_entries", "gauge", "log entries committed and not yet applied")                    \
    X(receive_chunk_bytes, "memory_receive_bytes", "gauge", "memory that connections read into")                       \
    X(inflight_bytes, "memory_inflight_bytes", "gauge", "produce requests not yet answered")                           \
    X(tail_bytes, "memory_tail_bytes", "gauge", "newest batches kept in memory for consumers")                         \
    X(send_bytes, "memory_send_bytes", "gauge", "replies that clients have not taken")                                 \
    X(memory_bytes, "memory_bytes", "gauge", "what clients make the broker hold, the parts counted once")              \
    X(memory_budget_bytes, "memory_budget_bytes", "gauge", "[limits] memory_bytes")                                    \
    X(clock_ahead_ms, "clock_ahead_milliseconds", "gauge", "wall clock ahead of what is believed; 0: it is believed")  \
    X(wal_used_bytes, "wal_used_bytes", "gauge", "write-ahead log that is still needed")                               \
    X(wal_budget_bytes, "wal_budget_bytes", "gauge", "[wal] budget_bytes")                                             \
    X(wal_pending_bytes, "wal_pending_bytes", "gauge", "gathered or on their way to the disk, not yet durable")        \
    X(wal_spare_files, "wal_spare_files", "gauge", "files ready to be written over")                                   \
    X(wal_written_bytes, "wal_written_bytes_total", "counter", "bytes written to the write-ahead log, padding too")    \
    X(wal_batches, "wal_batches_total", "counter", "group commits: one write and one sync each")                       \
    X(wal_rolls, "wal_rolls_total", "counter", "times the write-ahead log went on to its next file")                   \
    X(segment_queue_bytes, "segment_queue_bytes", "gauge", "applied and not yet written to a segment file")            \
    X(segment_written_bytes, "segment_written_bytes_total", "counter", "bytes written to segment files")               \
    X(segment_read_bytes, "segment_read_bytes_total", "counter", "bytes read from segment files for consumers")        \
    X(segment_rolls, "segment_rolls_total", "counter", "segments finished")                                            \
    X(segment_tail_hits, "segment_tail_hits_total", "counter", "reads served from memory")                             \
    X(segment_disk_reads, "segment_disk_reads_total", "counter", "reads that went to the disk")                        \
    X(scrub_damaged_ranges, "scrub_damaged_ranges", "gauge", "damaged ranges of segments that are not served")         \
    X(scrub_finished_seconds, "scrub_last_round_timestamp_seconds", "gauge", "end of the scrub's last round; 0: none")

void metrics_write(FILE *out, const struct status_broker *status)
{
    const struct counters *c = status->counters;
    metrics__header(out, "info", "gauge", "version and id of the broker");
    fprintf(out, "flotilla_info{version=\"%s\",broker=\"%" PRIu64 "\"} 1\n", FLOTILLA_VERSION, status->id);
#define STATUS_LINE(field, name, type, help) metrics__value(out, name, type, help, status->field);
    STATUS_TABLE(STATUS_LINE)
#undef STATUS_LINE
#define COUNTER_LINE(name, help) metrics__value(out, #name, "counter", help, c->name);
    COUNTER_TABLE(COUNTER_LINE)
#undef COUNTER_LINE
#define HISTOGRAM_LINES(name, help) metrics__histogram(out, #name, help, &c->name);
    HISTOGRAM_TABLE(HISTOGRAM_LINES)
#undef HISTOGRAM_LINES
}

/* --- with a topic label --- */

static const struct {
    const char *name, *type, *help;
} metrics_topic[METRICS_TOPIC_COUNT] = {
    {"topic_produced_records_total", "counter", "records acknowledged, by topic"},
    {"topic_produced_bytes_total", "counter", "bytes of acknowledged batches, by topic"},
    {"topic_fetched_bytes_total", "counter", "bytes of batches served, by topic"},
    {"topic_stored_bytes", "gauge", "bytes of segments on this broker, by topic"},
};

void metrics_write_topic_header(FILE *out, unsigned metric)
{
    ASSERT(metric < METRICS_TOPIC_COUNT);
    metrics__header(out, metrics_topic[metric].name, metrics_topic[metric].type, metrics_topic[metric].help);
}

void metrics_write_topic(FILE *out, unsigned metric, const struct status_topic *topic)
{
    const uint64_t values[METRICS_TOPIC_COUNT] = {topic->produced_records, topic->produced_bytes, topic->fetched_bytes,
                                                  topic->stored_bytes};
    ASSERT(metric < METRICS_TOPIC_COUNT);
    fprintf(out, "flotilla_%s{topic=\"%s\"} %" PRIu64 "\n", metrics_topic[metric].name, topic->row->name,
            values[metric]);
}
