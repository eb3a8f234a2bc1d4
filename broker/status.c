/* Reads the broker's insides into plain structs; nothing here changes anything. */
#include "broker/status.h"

#include <string.h>

#include "broker/impl.h"
#include "broker/memory.h"
#include "broker/quiet.h"
#include "broker/scrub.h"
#include "store/scrub.h"

static void status__storage(const struct broker *b, struct status_broker *out)
{
    struct wal_stats wal;
    struct store_stats store;
    wal_stats(b->wal, &wal);
    store_stats(b->store, &store);
    out->wal_used_bytes = wal_used_bytes(b->wal);
    out->wal_budget_bytes = b->config->wal_budget_bytes;
    out->wal_pending_bytes = wal_pending_bytes(b->wal);
    out->wal_written_bytes = wal.written_bytes;
    out->wal_batches = wal.batches;
    out->wal_rolls = wal.rolls;
    out->wal_spare_files = wal.spare_files;
    out->segment_queue_bytes = store_queued_bytes(b->store);
    out->segment_written_bytes = store.written_bytes;
    out->segment_read_bytes = store.read_bytes;
    out->segment_rolls = store.rolls;
    out->segment_tail_hits = store.tail_hits;
    out->segment_disk_reads = store.disk_reads;
    out->tail_bytes = store_tail_bytes(b->store);
}

static void status__groups(const struct broker *b, struct status_broker *out)
{
    for (const struct partition *p = b->groups; p != NULL; p = p->hh.next) {
        out->groups++;
        out->leaders += partition_leads(p);
        out->damaged += partition_told_state(p) == PARTITION_DAMAGED;
        out->scrub_damaged_ranges += p->log != NULL ? segment_log_damaged_ranges(p->log) : 0;
        if (p->raft != NULL) {
            out->leaderless += p->state == PARTITION_LIVE && raft_leader(p->raft) == 0;
            out->apply_lag_entries += raft_commit_index(p->raft) - p->applied_index;
        }
    }
}

void status_read(const struct broker *b, struct status_broker *ret_status)
{
    struct status_broker out = {
        .id = b->identity.broker,
        .boot = b->identity.boot,
        .rack = b->config->rack,
        .host = b->advertised[0].host,
        .port = b->advertised[0].port,
        .counters = &b->counters,
        .connections = b->sessions_count,
        .topics = catalog_count(b->catalog),
        .receive_chunk_bytes = receive_bytes(&b->receive),
        .send_bytes = b->send_bytes,
        .memory_bytes = memory_bytes(b),
        .inflight_bytes = b->inflight_bytes,
        .memory_budget_bytes = b->config->memory_bytes,
        .clock_ahead_ms = (uint64_t)b->log_clock.ahead_ms,
        .scrub_finished_seconds = (uint64_t)(scrub_finished_ms(b->scrub) / 1000),
    };
    out.ready = broker_is_ready(b, &out.reason);
    memcpy(out.cluster_id, b->identity.cluster_id, sizeof out.cluster_id);
    memcpy(out.disk_uuid, b->identity.disk_uuid, sizeof out.disk_uuid);
    status__storage(b, &out);
    status__groups(b, &out);
    out.quiet = quiet_count(b);
    *ret_status = out;
}

/* --- topics and partitions --- */

static const char *status__state(const struct partition *p)
{
    switch (partition_told_state(p)) {
    case PARTITION_BIRTH:
        return "creating";
    case PARTITION_PARTLY:
        return "damaged";
    case PARTITION_LIVE:
        return "live";
    case PARTITION_DAMAGED:
        return "corrupt";
    case PARTITION_DEAD:
        return "deleted";
    }
    return "unknown";
}

static const char *status__role(const struct raft *raft)
{
    switch (raft_role(raft)) {
    case RAFT_LEADER:
        return "leader";
    case RAFT_PRE_CANDIDATE:
    case RAFT_CANDIDATE:
        return "candidate";
    case RAFT_FOLLOWER:
        return "follower";
    }
    return "unknown";
}

static void status__damage(const struct partition *p, struct status_partition *out)
{
    struct offset_range ranges[DAMAGED_RANGES_TOLD_MAX];
    out->damaged_ranges = p->log != NULL ? segment_log_damage(p->log, ranges, DAMAGED_RANGES_TOLD_MAX) : 0;
    for (uint32_t i = 0; i < out->damaged_ranges && i < DAMAGED_RANGES_TOLD_MAX; i++) {
        out->damaged[i].from_offset = ranges[i].from_offset;
        out->damaged[i].end_offset = ranges[i].end_offset;
    }
}

/* Why it is not here. */
static const char *status__absence(const struct topic *topic, uint32_t number)
{
    struct registry_partition wish;
    if (topic->row.state == TOPIC_CREATING) {
        return "creating";
    }
    catalog_wish(topic, number, &wish);
    const struct registry_replica *own = registry_replica_on(&wish, topic_broker(topic)->identity.broker);
    return own == NULL ? "elsewhere" : own->state == REPLICA_NEW ? "creating" : "lost";
}

static void status__partition(const struct topic *topic, uint32_t number, struct status_partition *out)
{
    const struct partition *p = topic->partitions[number];
    *out = (struct status_partition){.topic = topic->row.name,
                                     .number = number,
                                     .group = registry_group(&topic->row, number),
                                     .state = status__absence(topic, number),
                                     .role = "none"};
    if (p == NULL) {
        return;
    }
    out->replica = p->replica;
    out->state = status__state(p);
    out->applied_index = p->applied_index;
    out->log_start = partition_log_start(p);
    out->high_watermark = partition_high_watermark(p);
    out->stored_bytes = p->log != NULL ? segment_log_bytes(p->log) : 0;
    status__damage(p, out);
    out->voters_count = roster_voters(&p->roster, out->voters);
    if (p->raft == NULL) {
        return;
    }
    out->role = status__role(p->raft);
    out->term = raft_term(p->raft);
    out->commit_index = raft_commit_index(p->raft);
    out->leader = partition_leader(p);
    out->in_sync_count = partition_in_sync(p, out->in_sync);
}

static uint64_t status__stored_bytes(const struct topic *topic)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; topic->partitions != NULL && i < topic->row.partitions_count; i++) {
        const struct partition *p = topic->partitions[i];
        bytes += p != NULL && p->log != NULL ? segment_log_bytes(p->log) : 0;
    }
    return bytes;
}

void status_visit(const struct broker *b, const struct status_visitor *visitor)
{
    for (const struct topic *topic = catalog_first(b->catalog); topic != NULL; topic = topic->hh.next) {
        const struct status_topic out = {.row = &topic->row,
                                         .internal = catalog_name_internal(topic->row.name),
                                         .produced_records = topic->produced_records,
                                         .produced_bytes = topic->produced_bytes,
                                         .fetched_bytes = topic->fetched_bytes,
                                         .stored_bytes = status__stored_bytes(topic)};
        if (visitor->topic != NULL) {
            visitor->topic(visitor->context, &out);
        }
        for (uint32_t i = 0; topic->partitions != NULL && visitor->partition != NULL && i < topic->row.partitions_count;
             i++) {
            struct status_partition partition;
            status__partition(topic, i, &partition);
            visitor->partition(visitor->context, &partition);
        }
    }
}
