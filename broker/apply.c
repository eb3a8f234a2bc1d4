/* What committed entries do: the only place that moves the applied index (by exactly one), assigns offsets and changes
 * the done table. A pure function of the log: nothing here asks a clock, the registry or a client. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/age.h"
#include "broker/fetch.h"
#include "broker/impl.h"
#include "broker/state.h"

static void apply__epoch(struct partition *p, uint64_t term)
{
    if (p->epochs_count > 0 && p->epochs[p->epochs_count - 1].term == term) {
        return;
    }
    if (p->epochs_count == p->epochs_capacity) {
        p->epochs_capacity = p->epochs_capacity == 0 ? 2 : p->epochs_capacity * 2;
        p->epochs = mem_grow(p->epochs, p->epochs_capacity * sizeof *p->epochs);
    }
    p->epochs[p->epochs_count++] = (struct meta_epoch){.term = term, .first_offset = partition_high_watermark(p)};
}

static void apply__clock(struct partition *p, int64_t clock_ms)
{
    if (clock_ms > p->log_clock_ms) {
        p->log_clock_ms = clock_ms;
    }
    p->clock_moved = true;
}

static enum err apply__leader(struct partition *p, const struct window_entry *entry)
{
    struct entry_leader leader;
    enum err error = entry_decode_leader(entry->payload, &leader);
    if (error != OK) {
        return error;
    }
    apply__clock(p, leader.clock_ms);
    apply__epoch(p, entry->term);
    if (PLANT(35)) {
        p->broker->registry->ops->publish_leader(p->broker->registry, p->group, leader.broker, raft_term(p->raft));
    }
    if (raft_role(p->raft) == RAFT_LEADER && raft_term(p->raft) == entry->term) {
        ASSERT(leader.broker == p->broker->identity.broker);
        p->leader_ready = true; /* CDM now holds everything in this log, and an empty CSM is exact */
        point(p->broker->trace, POINT_LEADER);
        p->broker->registry->ops->publish_leader(p->broker->registry, p->group, leader.broker, entry->term);
        catalog_partition_ready(p->broker->catalog, p);
        if (p->accepted_lsn != 0) {
            checkpoint_want(p); /* all that a repair kept is applied: the WAL is needed for it no longer */
        }
    }
    return OK;
}

static enum err apply__timeout(struct partition *p, const struct window_entry *entry)
{
    struct entry_timeout timeout;
    enum err error = entry_decode_timeout(entry->payload, &timeout);
    if (error != OK) {
        return error;
    }
    apply__clock(p, timeout.clock_ms);
    p->idle_clock_ms += timeout.elapsed_ms;
    if (timeout.expire_ms > 0) {
        p->broker->counters.producers_expired_total +=
            done_expire(p->done, p->idle_clock_ms - timeout.expire_ms / (PLANT(52) ? 2 : 1));
    }
    p->broker->counters.timeout_entries_applied_total++;
    return OK;
}

static void apply__append(struct partition *p, const struct window_entry *entry, const struct batch_header *header,
                          struct outcome *outcome)
{
    outcome->offset = segment_log_next(p->log);
    segment_log_append(p->log, entry->payload, header, outcome->offset, (int32_t)entry->term, p->log_clock_ms);
}

static enum err apply__data(struct partition *p, uint64_t index, const struct window_entry *entry,
                            struct outcome *outcome)
{
    struct batch_header header;
    enum err error = batch_parse(entry->payload.data, entry->payload.size, &header);
    if (error != OK || header.size_bytes != entry->payload.size || p->log == NULL) {
        return ERR_FORMAT;
    }
    if (header.producer_id < 0) {
        apply__append(p, entry, &header, outcome);
        return OK;
    }
    struct done_candidate candidate = {.producer_id = header.producer_id,
                                       .epoch = header.producer_epoch,
                                       .first_sequence = header.base_sequence,
                                       .records_count = header.records_count};
    submitted_remove(p->submitted, header.producer_id, index, entry->term);
    struct done_judgement judgement = done_judge(p->done, NULL, &candidate);
    if (judgement.verdict == DONE_GO) {
        apply__append(p, entry, &header, outcome);
        done_apply(p->done, &candidate, outcome->offset, p->idle_clock_ms);
        return OK;
    }
    p->broker->counters.apply_refused_total++;
    outcome->error = done_verdict_status(judgement.verdict);
    outcome->duplicate = judgement.verdict == DONE_KNOWN;
    outcome->offset = judgement.verdict == DONE_KNOWN ? judgement.offset : -1;
    return OK;
}

static enum err apply__log_start(struct partition *p, const struct window_entry *entry)
{
    int64_t offset;
    enum err error = entry_decode_log_start(entry->payload, &offset);
    if (error != OK || p->log == NULL || offset > segment_log_next(p->log)) {
        return ERR_FORMAT;
    }
    p->log_start_in_flight = false;
    p->is_ahead = p->is_ahead && offset < segment_log_start(p->log);
    if (offset > segment_log_start(p->log)) {
        segment_log_set_start(p->log, offset);
        if (PLANT(33)) {
            done_table_free(p->done);
            p->done = done_table_new();
        }
        p->broker->counters.log_start_moves_total++;
        if (broker__disk_full(p->broker)) {
            checkpoint_want(p); /* it frees what was dropped */
        }
    }
    return OK;
}

static enum err apply__config(struct partition *p, const struct window_entry *entry)
{
    enum err error = entry_decode_config(entry->payload, &p->config);
    if (error == OK && p->log != NULL) {
        segment_log_configure(p->log, p->config.segment_bytes, age_segment_ms(&p->config));
    }
    return error;
}

static enum err apply__entry(struct partition *p, uint64_t index, const struct window_entry *entry,
                             struct outcome *outcome)
{
    switch (entry->type) {
    case ENTRY_LEADER:
        return apply__leader(p, entry);
    case ENTRY_TIMEOUT:
        return apply__timeout(p, entry);
    case ENTRY_DATA:
        return apply__data(p, index, entry, outcome);
    case ENTRY_LOG_START:
        return apply__log_start(p, entry);
    case ENTRY_CONFIG_TOPIC:
        return apply__config(p, entry);
    case ENTRY_CONFIG:
        return partition__apply_config(p, index, entry->payload);
    case ENTRY_OPS:
        return p->table != NULL ? state_apply(p->table, entry->payload, outcome) : ERR_FORMAT;
    default:
        return ERR_FORMAT; /* an entry this build cannot apply must not be skipped */
    }
}

static void apply__answer(struct window_entry *entry, const struct outcome *outcome)
{
    struct waiter *waiter = entry->waiters;
    entry->waiters = NULL;
    while (waiter != NULL) {
        struct waiter *next = waiter->next;
        waiter->complete(waiter, outcome);
        waiter = next;
    }
}

/* A committed entry that cannot be applied: the group stops here; everything else serves. */
static void apply__damaged(struct partition *p, uint64_t index, const struct window_entry *entry)
{
    trace_error(p->broker->trace, "apply_failed", "group=%lu index=%lu term=%lu type=%s", p->group, index, entry->term,
                entry_type_name(entry->type));
    p->state = PARTITION_DAMAGED;
    partition_mark_dirty(p);
    fetch_fail_all(p, ERR_CORRUPT);
}

void partition__apply(struct partition *p, uint64_t commit_index)
{
    struct broker *b = p->broker;
    int64_t watermark = partition_high_watermark(p);
    if (PLANT(11) && raft_role(p->raft) == RAFT_LEADER && window_at(&p->window, commit_index)->type == ENTRY_LEADER) {
        p->applied_index = commit_index - 1;
    }
    while (p->applied_index < commit_index) {
        uint64_t index = p->applied_index + 1;
        struct window_entry *entry = window_at(&p->window, index);
        struct outcome outcome = {.error = OK, .offset = -1, .producer_id = -1};
        if (apply__entry(p, index, entry, &outcome) != OK) {
            apply__damaged(p, index, entry);
            return;
        }
        if (entry->type == ENTRY_DATA || entry->type == ENTRY_OPS) {
            age_traffic(p);
        }
        p->applied_index = index;
        p->applied_term = entry->term;
        p->bytes_since_checkpoint += entry->payload.size;
        p->entries_since_checkpoint++;
        b->counters.apply_entries_total++;
        apply__answer(entry, &outcome);
        p->kept_bytes += entry->payload.size;
        b->kept_bytes += entry->payload.size;
    }
    point(b->trace, POINT_APPLIED);
    raft_step(p->raft, &(struct raft_event){.type = RAFT_APPLIED, .index = p->applied_index});
    partition__trim(p);
    if (p->bytes_since_checkpoint >= b->config->snapshot_bytes ||
        p->entries_since_checkpoint >= b->config->snapshot_entries) {
        checkpoint_want(p);
    }
    if (partition_high_watermark(p) != watermark) {
        fetch_wake(p);
    }
    age_turn(p);
}
