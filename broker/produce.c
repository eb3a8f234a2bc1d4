/* Produce: check, queue, judge, propose, answer. */
#include "broker/produce.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/age.h"
#include "wire/records.h"

#define TIMEOUT_DEFAULT_MS 30000u

static struct produce *produce__take(struct broker *b)
{
    struct produce *r = STAILQ_FIRST(&b->produce_free);
    if (r != NULL) {
        STAILQ_REMOVE_HEAD(&b->produce_free, pending_link);
    } else {
        r = mem_zeroed(1, sizeof *r);
    }
    *r = (struct produce){0};
    TAILQ_INSERT_TAIL(&b->produces, r, deadline_link);
    return r;
}

static void produce__answer(struct produce *r, const struct outcome *outcome)
{
    struct session *s = r->session;
    struct broker *b = s->broker;
    if (r->answered) {
        return;
    }
    r->answered = true;
    counters_observe(&b->counters.produce_seconds, clock_now_us(b->clock) - r->received_us);
    if (outcome->error == OK) {
        b->counters.produce_batches_total++;
        b->counters.produce_records_total += (uint64_t)r->header.records_count;
        b->counters.produce_bytes_total += r->batch_bytes;
        if (r->partition != NULL && r->partition->topic != NULL) {
            r->partition->topic->produced_records += (uint64_t)r->header.records_count;
            r->partition->topic->produced_bytes += r->batch_bytes;
        }
    } else {
        b->counters.produce_failed_total++;
    }
    if (r->acks != ACKS_NONE) {
        ProduceReply reply = {.status = outcome->error,
                              .base_offset = r->acks == ACKS_ALL ? outcome->offset : -1,
                              .duplicate = outcome->duplicate};
        if (r->partition != NULL) {
            reply.log_start = partition_log_start(r->partition);
            reply.leader = partition_leader(r->partition);
        }
        point(b->trace, POINT_REPLY);
        session_reply(s, FRAME_PRODUCE_REPLY, r->request_id, &reply, NULL, 0);
    }
}

static void produce__finish(struct produce *r)
{
    struct session *s = r->session;
    struct broker *b = s->broker;
    slice_unref(&r->batch);
    TAILQ_REMOVE(&b->produces, r, deadline_link);
    b->inflight_bytes -= r->batch_bytes;
    uint32_t bytes = r->batch_bytes;
    STAILQ_INSERT_HEAD(&b->produce_free, r, pending_link);
    session_release(s, bytes);
}

static void produce__complete(struct waiter *waiter, const struct outcome *outcome)
{
    struct produce *r = (struct produce *)waiter;
    produce__answer(r, outcome);
    produce__finish(r);
}

static void produce__fail(struct produce *r, enum err error)
{
    struct outcome outcome = {.error = error, .offset = -1};
    produce__complete(&r->waiter, &outcome);
}

/* What a partition's segment cannot take is in the log and in memory, and tried again. One try may fail; while it keeps
 * failing, no more is taken, so that neither memory nor the log fill up with this partition's records; after half a
 * minute it is the file that is broken. */
static enum err produce__check_log(const struct partition *p)
{
    uint32_t failures = 0;
    enum err error = p->log != NULL ? segment_log_error(p->log, &failures) : OK;
    if (failures < STORE_FAILURES_MAX) {
        return OK;
    }
    return error == ERR_IO && failures >= STORE_FAILURES_FINAL ? ERR_CORRUPT : ERR_BUSY;
}

/* What this broker cannot take just now; OK: nothing. That is for a leader to say: whoever is told so stays with it, so
 * one that does not lead says that instead. */
static enum err produce__check_room(const struct broker *b, const struct partition *p)
{
    enum err error = broker__refusal(b);
    if (error == OK && broker__wal_full(b) && !checkpoint_is_busy(b)) {
        error = ERR_BUSY;
    }
    error = error == OK ? produce__check_log(p) : error;
    enum err status = error == OK || roster_is_alone(&p->roster, p->replica) ? OK : partition_status(p);
    return status == OK ? error : status;
}

static enum err produce__check(struct broker *b, const ProduceRequest *request, const struct frame *frame,
                               struct batch_header *ret_header, struct partition **ret_partition)
{
    struct partition *p = groups_find(b, request->group);
    if (p == NULL) {
        return groups_missing(b, request->group);
    }
    if (partition_status(p) == ERR_CORRUPT) {
        return ERR_CORRUPT; /* of which even the kind may be lost */
    }
    if (p->kind != TOPIC_DATA || request->acks < ACKS_ALL || request->acks > ACKS_LEADER) {
        return ERR_INVALID;
    }
    if (b->stopping) {
        return ERR_SHUTTING_DOWN;
    }
    *ret_partition = p; /* an answer that it does not lead names who does */
    enum err error = produce__check_room(b, p);
    if (error != OK) {
        return error;
    }
    /* The log must have room for others beside it: its current file, however large, is never released. */
    uint64_t share = b->config->wal_budget_bytes / WAL_BATCH_PARTS;
    uint32_t bytes_max = share < p->config.max_batch_bytes ? (uint32_t)share : p->config.max_batch_bytes;
    error = batch_validate(frame->payload, frame->payload_size, bytes_max, ret_header);
    if (error != OK) {
        return error;
    }
    /* leader and none may be lost on fail-over, so their sequences must never enter the done table */
    if (request->acks != ACKS_ALL && ret_header->producer_id >= 0) {
        return ERR_INVALID;
    }
    return OK;
}

void produce_request(struct session *s, const struct frame *frame)
{
    struct broker *b = s->broker;
    ProduceRequest request;
    struct partition *p = NULL;
    struct batch_header header = {0};
    enum err error = codec_decode(FRAME_PRODUCE, frame->proto, frame->proto_size, &request);
    if (error == OK) {
        b->counters.produce_requests_total++;
        error = produce__check(b, &request, frame, &header, &p);
    }
    struct produce *r = produce__take(b);
    r->waiter.complete = produce__complete;
    r->session = s;
    r->request_id = frame->request_id;
    r->acks = error == ERR_BAD_FRAME ? ACKS_ALL : request.acks;
    r->header = header;
    r->partition = p;
    r->batch_bytes = frame->payload_size;
    r->received_us = clock_now_us(b->clock);
    uint32_t timeout_ms = request.timeout_ms != 0 ? request.timeout_ms : TIMEOUT_DEFAULT_MS;
    r->deadline_us = r->received_us + (uint64_t)timeout_ms * 1000;
    b->inflight_bytes += r->batch_bytes;
    session_hold(s, r->batch_bytes);
    if (error != OK) {
        produce__fail(r, error);
        return;
    }
    r->batch = session_keep(s, frame->payload, frame->payload_size);
    batch_normalise((uint8_t *)(uintptr_t)r->batch.data);
    r->pending = true;
    STAILQ_INSERT_TAIL(&p->pending, r, pending_link);
    partition_mark_dirty(p);
}

static void produce__count_verdict(struct counters *counters, enum done_verdict verdict)
{
    switch (verdict) {
    case DONE_GO:
        break;
    case DONE_KNOWN:
        counters->dedup_known_total++;
        break;
    case DONE_IN_FLIGHT:
        counters->dedup_joined_total++;
        break;
    case DONE_FENCED:
        counters->dedup_fenced_total++;
        break;
    case DONE_OUT_OF_ORDER:
        counters->dedup_out_of_order_total++;
        break;
    case DONE_STALE:
        counters->dedup_stale_total++;
        break;
    case DONE_UNKNOWN:
        counters->dedup_unknown_total++;
        break;
    }
}

static struct done_candidate produce__candidate(const struct produce *r)
{
    return (struct done_candidate){.producer_id = r->header.producer_id,
                                   .epoch = r->header.producer_epoch,
                                   .first_sequence = r->header.base_sequence,
                                   .records_count = r->header.records_count};
}

static void produce__propose(struct partition *p, struct produce *r)
{
    struct slice batch = r->batch;
    r->batch = (struct slice){0};
    uint64_t index = partition_propose(p, ENTRY_DATA, batch, &r->waiter);
    if (r->header.producer_id >= 0) {
        struct done_candidate candidate = produce__candidate(r);
        if (!PLANT(42)) {
            submitted_add(p->submitted, &candidate, index, raft_term(p->raft));
        }
    }
}

/* Judged again: with all that was committed when it came. */
static void produce__confirmed(struct confirm *confirm, enum err error)
{
    struct produce *r = (struct produce *)((char *)confirm - offsetof(struct produce, confirm));
    struct partition *p = r->partition;
    if (error != OK) {
        produce__fail(r, error);
        return;
    }
    r->is_confirmed = true;
    r->pending = true;
    STAILQ_INSERT_TAIL(&p->pending, r, pending_link);
    partition_mark_dirty(p);
}

/* Whether the verdict may only mean that others have elected a new leader, which took batches that this one lacks. */
static bool produce__is_doubtful(const struct partition *p, const struct produce *r, enum done_verdict verdict)
{
    bool says_lacking = verdict == DONE_OUT_OF_ORDER || verdict == DONE_UNKNOWN;
    return says_lacking && !r->is_confirmed && confirm_is_needed(p);
}

static void produce__judge(struct partition *p, struct produce *r)
{
    if (r->header.producer_id < 0) {
        produce__propose(p, r);
        return;
    }
    struct done_candidate candidate = produce__candidate(r);
    struct done_judgement judgement = done_judge(p->done, p->submitted, &candidate);
    if (produce__is_doubtful(p, r, judgement.verdict)) {
        r->confirm.done = produce__confirmed;
        confirm_ask(p, &r->confirm);
        return;
    }
    produce__count_verdict(&p->broker->counters, judgement.verdict);
    switch (judgement.verdict) {
    case DONE_GO:
        if (!done_has_room(p->done, r->header.producer_id)) {
            produce__fail(r, ERR_BUSY);
            return;
        }
        produce__propose(p, r);
        return;
    case DONE_IN_FLIGHT: {
        struct window_entry *entry = window_at(&p->window, PLANT(8) ? window_last(&p->window) : judgement.index);
        r->waiter.next = entry->waiters;
        entry->waiters = &r->waiter;
        slice_unref(&r->batch);
        return;
    }
    case DONE_KNOWN: {
        struct outcome outcome = {.error = OK, .offset = judgement.offset, .duplicate = true};
        produce__complete(&r->waiter, &outcome);
        return;
    }
    default:
        produce__fail(r, done_verdict_status(judgement.verdict));
    }
}

/* Why nobody is to wait for room in the log; OK: it comes by itself. */
static enum err produce__refusal(const struct broker *b)
{
    enum err refusal = broker__refusal(b);
    return refusal == OK && wal_lacks(b->wal) != OK ? ERR_BUSY : refusal;
}

/* The log's room that a full disk cannot take away, less its reserve, is what producers may use. If there is none, the
 * next spare file is on its way, and partitions wait for it in the order in which they came; or it cannot be had, and
 * they are refused. */
static enum err produce__room(struct partition *p, const struct produce *r, uint64_t *promised_bytes)
{
    struct broker *b = p->broker;
    if (!raft_has_room(p->raft)) {
        return ERR_STORAGE_FULL; /* here, or on so many others that nothing would commit */
    }
    uint64_t bytes = r->batch_bytes + WAL_BLOCK_BYTES;
    bool others_wait = !TAILQ_EMPTY(&b->room_queue) && b->room_turn != p;
    bool fits = wal_has_room(b->wal, *promised_bytes, bytes);
    enum err refusal = fits && !wal_is_stalled(b->wal) ? OK : produce__refusal(b);
    if (refusal != OK) {
        return refusal;
    }
    if (others_wait || !fits) {
        return ERR_AGAIN;
    }
    *promised_bytes += bytes;
    return OK;
}

static void produce__wait_for_room(struct partition *p)
{
    if (!p->waits_for_room) {
        p->waits_for_room = true;
        TAILQ_INSERT_TAIL(&p->broker->room_queue, p, room_link);
    }
}

void produce_serve_waiting(struct broker *b)
{
    struct partition *p;
    while ((p = TAILQ_FIRST(&b->room_queue)) != NULL) {
        const struct produce *r = STAILQ_FIRST(&p->pending);
        if (r != NULL && produce__refusal(b) == OK && !wal_has_room(b->wal, 0, r->batch_bytes + WAL_BLOCK_BYTES)) {
            return;
        }
        TAILQ_REMOVE(&b->room_queue, p, room_link);
        p->waits_for_room = false;
        b->room_turn = p;
        partition_turn(p); /* what it still has to wait for, it waits for behind the others */
        b->room_turn = NULL;
    }
}

void produce_judge_pending(struct partition *p)
{
    uint64_t promised_bytes = 0;
    enum err status = partition_may_propose(p);
    if (status == ERR_NOT_READY) {
        return; /* bounded by the in-flight limits; the sweep answers when it may take too long */
    }
    if (status == OK && !STAILQ_EMPTY(&p->pending)) {
        age_freshen(p);
    }
    while (!STAILQ_EMPTY(&p->pending)) {
        struct produce *r = STAILQ_FIRST(&p->pending);
        enum err verdict = status == OK ? produce__room(p, r, &promised_bytes) : status;
        if (verdict == ERR_AGAIN) {
            produce__wait_for_room(p);
            return;
        }
        STAILQ_REMOVE_HEAD(&p->pending, pending_link);
        r->pending = false;
        if (verdict != OK) {
            produce__fail(r, verdict);
        } else {
            produce__judge(p, r);
        }
    }
}

void produce_refuse_pending(struct partition *p)
{
    enum err status = partition_status(p);
    if (status == OK || status == ERR_NOT_READY) {
        status = p->broker->stopping ? ERR_SHUTTING_DOWN : status;
        if (!p->broker->stopping) {
            return;
        }
    }
    while (!STAILQ_EMPTY(&p->pending)) {
        struct produce *r = STAILQ_FIRST(&p->pending);
        STAILQ_REMOVE_HEAD(&p->pending, pending_link);
        r->pending = false;
        produce__fail(r, status);
    }
}

/* The deadline of one that was proposed: the done table answers if it can, else the outcome is unknown. The object
 * stays until its entry is through. */
static void produce__expire(struct produce *r)
{
    struct partition *p = r->partition;
    struct outcome outcome = {.error = PLANT(58) ? ERR_BUSY : ERR_TIMEOUT, .offset = -1};
    if (r->pending) {
        STAILQ_REMOVE(&p->pending, r, produce, pending_link);
        r->pending = false;
        outcome.error = ERR_NOT_READY; /* never proposed: certain not to be stored */
        produce__complete(&r->waiter, &outcome);
        return;
    }
    if (r->header.producer_id >= 0) {
        struct done_candidate candidate = produce__candidate(r);
        struct done_judgement judgement = done_judge(p->done, NULL, &candidate);
        if (judgement.verdict == DONE_KNOWN) {
            outcome = (struct outcome){.error = OK, .offset = judgement.offset, .duplicate = true};
        }
    }
    produce__answer(r, &outcome);
}

/* Its partition has no leader, and while the log is stalled it gets none: it was never proposed. */
static void produce__refuse_unready(struct produce *r)
{
    STAILQ_REMOVE(&r->partition->pending, r, produce, pending_link);
    r->pending = false;
    produce__fail(r, broker__refusal(r->session->broker));
}

void produce_sweep(struct broker *b, uint64_t now_us)
{
    struct produce *r, *next;
    for (r = TAILQ_FIRST(&b->produces); r != NULL; r = next) {
        next = TAILQ_NEXT(r, deadline_link);
        if (now_us >= r->deadline_us && !r->answered) {
            produce__expire(r);
        } else if (r->pending && wal_is_stalled(b->wal)) {
            produce__refuse_unready(r);
        }
    }
}

void produce_free_all(struct broker *b)
{
    while (!TAILQ_EMPTY(&b->produces)) { /* not judged yet when the storage failed: nobody hears of them any more */
        struct produce *r = TAILQ_FIRST(&b->produces);
        TAILQ_REMOVE(&b->produces, r, deadline_link);
        slice_unref(&r->batch);
        free(r);
    }
    while (!STAILQ_EMPTY(&b->produce_free)) {
        struct produce *r = STAILQ_FIRST(&b->produce_free);
        STAILQ_REMOVE_HEAD(&b->produce_free, pending_link);
        free(r);
    }
}
