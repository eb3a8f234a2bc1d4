/* Fetch and ListOffsets. */
#include "broker/fetch.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/endian.h"
#include "base/plant.h"
#include "broker/memory.h"

#define FETCH_BYTES_DEFAULT (1u << 20)
#define FETCH_WAIT_MS_MAX   60000u
#define FETCH_CHARGE_BYTES  (256u << 10) /* as much work as a small request */
#define FETCHES_KEPT_MAX    4096u
#define READS_KEPT_MAX      64u

static struct fetch *fetch__take(struct broker *b)
{
    struct fetch *f = TAILQ_FIRST(&b->fetch_free);
    if (f != NULL) {
        TAILQ_REMOVE(&b->fetch_free, f, partition_link);
        b->fetch_free_count--;
    } else {
        f = mem_zeroed(1, sizeof *f);
    }
    *f = (struct fetch){0};
    return f;
}

static void fetch__give(struct broker *b, struct fetch *f)
{
    if (b->fetch_free_count >= FETCHES_KEPT_MAX) {
        free(f);
        return;
    }
    b->fetch_free_count++;
    TAILQ_INSERT_HEAD(&b->fetch_free, f, partition_link);
}

static void fetch__take_read(struct fetch *f)
{
    struct broker *b = f->session->broker;
    struct fetch_read *read = TAILQ_FIRST(&b->read_free);
    if (read != NULL) {
        TAILQ_REMOVE(&b->read_free, read, free_link);
        b->read_free_count--;
    } else {
        read = mem_zeroed(1, sizeof *read);
    }
    read->fetch = f;
    read->read.parts_count = 0; /* the parts array is large: only its count is reset */
    read->read.bytes = 0;
    f->read = read;
}

static void fetch__give_read(struct fetch *f)
{
    struct broker *b = f->session->broker;
    struct fetch_read *read = f->read;
    f->read = NULL;
    if (read == NULL) {
        return;
    }
    segment_read_release(&read->read);
    if (b->read_free_count >= READS_KEPT_MAX) {
        free(read);
        return;
    }
    b->read_free_count++;
    TAILQ_INSERT_HEAD(&b->read_free, read, free_link);
}

static void fetch__answer(struct fetch *f, enum err error)
{
    struct session *s = f->session;
    struct broker *b = s->broker;
    struct partition *p = f->partition;
    FetchReply reply = {.status = error};
    const struct segment_read *read = f->read != NULL ? &f->read->read : NULL;
    uint32_t bytes = read != NULL ? read->bytes : 0;
    if (p != NULL) {
        reply.high_watermark = partition_high_watermark(p) + (PLANT(54) ? p->window.count : 0);
        reply.last_stable_offset = reply.high_watermark;
        reply.log_start = partition_log_start(p);
        reply.term = p->raft != NULL ? raft_term(p->raft) : 0;
        reply.leader = partition_leader(p);
        if (p->topic != NULL) {
            p->topic->fetched_bytes += bytes;
        }
    }
    b->counters.fetch_bytes_total += bytes;
    counters_observe(&b->counters.fetch_seconds, clock_now_us(b->clock) - f->received_us);
    session_charge(s, bytes / FETCH_CHARGE_BYTES);
    for (uint32_t i = 0; PLANT(40) && read != NULL && i < read->parts_count; i++) {
        buf_unref(f->read->read.parts[i].buf);
        f->read->read.parts[i].buf = NULL;
    }
    session_reply(s, FRAME_FETCH_REPLY, f->request_id, &reply, read != NULL ? read->parts : NULL,
                  read != NULL ? read->parts_count : 0);
    fetch__give_read(f);
    fetch__give(b, f);
    session_release(s, 0);
}

static void fetch__unwait(struct fetch *f)
{
    ASSERT(f->waiting);
    f->waiting = false;
    TAILQ_REMOVE(&f->partition->fetches, f, partition_link);
    TAILQ_REMOVE(&f->session->broker->fetch_waiting, f, waiting_link);
}

static void fetch__wait(struct fetch *f)
{
    struct broker *b = f->session->broker;
    f->waiting = true;
    b->counters.fetch_waits_total++;
    TAILQ_INSERT_TAIL(&f->partition->fetches, f, partition_link);
    TAILQ_INSERT_TAIL(&b->fetch_waiting, f, waiting_link);
    if (f->deadline_us < b->fetch_due_us) {
        b->fetch_due_us = f->deadline_us;
    }
}

/* What was read is enough to answer, or there is no time left to wait for more. A read that ends during a stop must not
 * wait again: those who waited were sent away, and nobody comes a second time. */
static void fetch__settle(struct fetch *f)
{
    struct broker *b = f->session->broker;
    if (f->read->read.bytes >= f->bytes_min || clock_now_us(b->clock) >= f->deadline_us || f->session->link == NULL ||
        b->stop_step != STOP_ANSWER) {
        fetch__answer(f, OK);
        return;
    }
    fetch__give_read(f);
    if (!session_may_wait(f->session)) {
        fetch__answer(f, ERR_BUSY);
        return;
    }
    fetch__wait(f);
}

/* The leader epoch of a batch lies outside its CRC: what came from the disk, in one part, is held against the terms of
 * the log. Cuts the read in front of the first batch that does not fit; false: nothing is left. */
static bool fetch__cut_at_bad_epoch(const struct partition *p, struct segment_read *read)
{
    struct slice *part = &read->parts[0];
    uint32_t good = 0;
    ASSERT(read->parts_count == 1);
    while (good < part->size) {
        const uint8_t *batch = part->data + good;
        int64_t base_offset = (int64_t)load_be64(batch);
        int64_t term_end;
        if ((int32_t)load_be32(batch + 12) != partition_epoch_at(p, base_offset, &term_end)) {
            trace_error(p->broker->trace, "bad_leader_epoch", "group=%lu offset=%lld", p->group,
                        (long long)base_offset);
            break;
        }
        good += load_be32(batch + 8) + (uint32_t)BATCH_LENGTH_OVERHEAD;
    }
    part->size = good;
    read->bytes = good;
    return good > 0;
}

static void fetch__read_done(struct segment_read *read, enum err error)
{
    struct fetch *f = ((struct fetch_read *)read)->fetch;
    struct partition *p = f->partition;
    p->jobs_inflight--;
    if (p->state == PARTITION_DEAD) {
        segment_read_release(read);
        fetch__answer(f, ERR_UNKNOWN_PARTITION);
        groups_reap(p);
        return;
    }
    if (error == OK &&
        partition_status(p) != OK) { /* its reign ended meanwhile: another one's term is not ours to tell */
        segment_read_release(read);
        error = partition_status(p);
    }
    if (error == OK && f->offset < partition_log_start(p)) { /* retention came in between, terms may be forgotten */
        segment_read_release(read);
        error = ERR_OUT_OF_RANGE;
    }
    if (error == ERR_CANCELLED || (error == OK && !fetch__cut_at_bad_epoch(p, read))) { /* given up meanwhile; or bad */
        segment_read_release(read);
        error = ERR_CORRUPT;
    }
    if (error != OK) {
        fetch__answer(f, PLANT(55) && error == ERR_CORRUPT ? OK : error);
        return;
    }
    fetch__settle(f);
}

static void fetch__serve(struct fetch *f);

static void fetch__confirmed(struct confirm *confirm, enum err error)
{
    struct fetch *f = (struct fetch *)((char *)confirm - offsetof(struct fetch, confirm));
    f->is_confirmed = true;
    if (error == OK) {
        fetch__serve(f);
    } else {
        fetch__answer(f, error);
    }
}

static void fetch__serve(struct fetch *f)
{
    struct partition *p = f->partition;
    enum err error = partition_status(p);
    if (PLANT(38) && error == ERR_NOT_READY && p->raft != NULL && raft_role(p->raft) == RAFT_LEADER) {
        error = OK;
    }
    uint32_t bytes_max = memory_fetch_max(f->session->broker);
    if (error == OK && bytes_max == 0) {
        error = ERR_BUSY;
    }
    if (error == OK) {
        fetch__take_read(f);
        struct segment_read *read = &f->read->read;
        read->offset = f->offset;
        read->bytes_max = f->bytes_max < bytes_max ? f->bytes_max : bytes_max;
        read->done = fetch__read_done;
        error = segment_log_read(p->log, read);
    }
    if (error == ERR_AGAIN) {
        p->jobs_inflight++;
        return;
    }
    bool is_above = error == ERR_OUT_OF_RANGE && f->offset > partition_high_watermark(p);
    if (is_above && !f->is_confirmed && confirm_is_needed(p)) {
        fetch__give_read(f);
        f->confirm.done = fetch__confirmed;
        confirm_ask(p, &f->confirm);
        return;
    }
    if (error != OK) {
        fetch__answer(f, error);
        return;
    }
    fetch__settle(f);
}

void fetch_request(struct session *s, const struct frame *frame)
{
    struct broker *b = s->broker;
    FetchRequest request;
    enum err error = codec_decode(FRAME_FETCH, frame->proto, frame->proto_size, &request);
    struct fetch *f = fetch__take(b);
    session_hold(s, 0);
    b->counters.fetch_requests_total++;
    f->session = s;
    f->partition = NULL;
    f->request_id = frame->request_id;
    f->received_us = clock_now_us(b->clock);
    if (error == OK) {
        f->partition = groups_find(b, request.group);
        error = f->partition == NULL                ? groups_missing(b, request.group)
                : f->partition->kind == TOPIC_STATE ? ERR_INVALID
                : !session_may_wait(s)              ? ERR_BUSY
                : PLANT(67) && broker__disk_full(b) ? ERR_STORAGE_FULL
                                                    : OK;
    }
    if (error != OK) {
        fetch__answer(f, error);
        return;
    }
    uint32_t wait_ms = request.wait_ms < FETCH_WAIT_MS_MAX ? request.wait_ms : FETCH_WAIT_MS_MAX;
    uint32_t bytes_max = request.bytes_max == 0 ? FETCH_BYTES_DEFAULT : request.bytes_max;
    f->bytes_min = request.bytes_min;
    f->deadline_us = f->received_us + (uint64_t)wait_ms * 1000;
    f->offset = request.offset;
    f->bytes_max = bytes_max < FETCH_BYTES_MAX ? bytes_max : FETCH_BYTES_MAX;
    fetch__serve(f);
}

void fetch_wake(struct partition *p)
{
    struct fetch_list ready;
    TAILQ_INIT(&ready);
    TAILQ_CONCAT(&ready, &p->fetches, partition_link);
    while (!TAILQ_EMPTY(&ready)) {
        struct fetch *f = TAILQ_FIRST(&ready);
        TAILQ_REMOVE(&ready, f, partition_link);
        TAILQ_REMOVE(&f->session->broker->fetch_waiting, f, waiting_link);
        f->waiting = false;
        fetch__serve(f);
    }
}

void fetch_fail_all(struct partition *p, enum err error)
{
    while (!TAILQ_EMPTY(&p->fetches)) {
        struct fetch *f = TAILQ_FIRST(&p->fetches);
        fetch__unwait(f);
        fetch__answer(f, error);
    }
}

void fetch_sweep(struct broker *b, uint64_t now_us)
{
    struct fetch *f, *next;
    if (now_us < b->fetch_due_us) {
        return;
    }
    b->fetch_due_us = UINT64_MAX;
    for (f = TAILQ_FIRST(&b->fetch_waiting); f != NULL; f = next) {
        next = TAILQ_NEXT(f, waiting_link);
        if (now_us >= f->deadline_us || f->session->link == NULL) {
            fetch__unwait(f);
            fetch__serve(f); /* answers: its time is over */
        } else if (f->deadline_us < b->fetch_due_us) {
            b->fetch_due_us = f->deadline_us;
        }
    }
}

void fetch_free_all(struct broker *b)
{
    while (!TAILQ_EMPTY(&b->fetch_free)) {
        struct fetch *f = TAILQ_FIRST(&b->fetch_free);
        TAILQ_REMOVE(&b->fetch_free, f, partition_link);
        free(f);
    }
    while (!TAILQ_EMPTY(&b->read_free)) {
        struct fetch_read *read = TAILQ_FIRST(&b->read_free);
        TAILQ_REMOVE(&b->read_free, read, free_link);
        free(read);
    }
}

/* --- ListOffsets --- */

struct list_offsets {
    struct confirm confirm; /* latest */
    struct session *session;
    struct partition *partition;
    uint64_t request_id;
    int64_t timestamp;
};

static void list_offsets__answer(struct session *s, uint64_t request_id, const struct partition *p, enum err error,
                                 int64_t offset, int64_t timestamp)
{
    ListOffsetsReply reply = {.status = error, .offset = offset, .timestamp = timestamp};
    if (p != NULL && p->state != PARTITION_DEAD) {
        reply.leader = partition_leader(p);
    }
    if (error == OK && p->state != PARTITION_DEAD) {
        reply.high_watermark = partition_high_watermark(p);
        reply.log_start = partition_log_start(p);
    }
    session_reply(s, FRAME_LIST_OFFSETS_REPLY, request_id, &reply, NULL, 0);
}

static void list_offsets__found(void *context, enum err error, int64_t offset)
{
    struct list_offsets *request = context;
    struct partition *p = request->partition;
    error = error == ERR_CANCELLED && p->state == PARTITION_DAMAGED ? ERR_CORRUPT : error; /* given up meanwhile */
    error = error == OK && p->state != PARTITION_DEAD ? partition_status(p) : error;       /* or deposed */
    list_offsets__answer(request->session, request->request_id, p, error, offset, request->timestamp);
    session_release(request->session, 0);
    p->jobs_inflight--;
    groups_reap(p);
    free(request);
}

static void list_offsets__confirmed(struct confirm *confirm, enum err error)
{
    struct list_offsets *request = (struct list_offsets *)((char *)confirm - offsetof(struct list_offsets, confirm));
    struct partition *p = request->partition;
    list_offsets__answer(request->session, request->request_id, p, error,
                         error == OK ? partition_high_watermark(p) : -1, request->timestamp);
    session_release(request->session, 0);
    free(request);
}

/* No older than the moment of asking. */
static void list_offsets__latest(struct session *s, struct partition *p, uint64_t request_id)
{
    struct list_offsets *waiting = mem_zeroed(1, sizeof *waiting);
    *waiting = (struct list_offsets){.session = s,
                                     .partition = p,
                                     .request_id = request_id,
                                     .timestamp = -1,
                                     .confirm.done = list_offsets__confirmed};
    session_hold(s, 0);
    confirm_ask(p, &waiting->confirm);
}

void list_offsets_request(struct session *s, const struct frame *frame)
{
    ListOffsetsRequest request = {0};
    struct partition *p = NULL;
    enum err error = codec_decode(FRAME_LIST_OFFSETS, frame->proto, frame->proto_size, &request);
    if (error == OK) {
        p = groups_find(s->broker, request.group);
        error = p == NULL                ? groups_missing(s->broker, request.group)
                : p->kind == TOPIC_STATE ? ERR_INVALID
                                         : partition_status(p);
    }
    if (error == OK && request.timestamp < -2) {
        error = ERR_INVALID;
    }
    bool waits = error == OK && (request.timestamp >= 0 || (request.timestamp == -1 && confirm_is_needed(p)));
    if (waits && !session_may_wait(s)) {
        error = ERR_BUSY;
    }
    if (waits && error == OK && request.timestamp == -1) {
        list_offsets__latest(s, p, frame->request_id);
        return;
    }
    if (error != OK || request.timestamp < 0) {
        int64_t offset = error != OK               ? -1
                         : request.timestamp == -2 ? partition_log_start(p)
                                                   : partition_high_watermark(p);
        list_offsets__answer(s, frame->request_id, p, error, offset, request.timestamp);
        return;
    }
    struct list_offsets *waiting = mem_zeroed(1, sizeof *waiting);
    *waiting = (struct list_offsets){
        .session = s, .partition = p, .request_id = frame->request_id, .timestamp = request.timestamp};
    session_hold(s, 0);
    p->jobs_inflight++;
    segment_log_find_time(p->log, request.timestamp, list_offsets__found, waiting);
}
