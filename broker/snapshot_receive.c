/* The receiving side: rows, then segment after segment, each found here, or fetched and judged; then it is whole, and
 * the install begins. What a broken link interrupts waits for an equal offer. */
#include "broker/snapshot_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/mark.h"
#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/router.h"
#include "store/scrub.h"

/* --- names and words --- */

void receipt__rows_path(const struct receipt *r, char path[SNAPSHOT_PATH_BYTES])
{
    snprintf(path, SNAPSHOT_PATH_BYTES, SNAPSHOT_DIR "/in-%" PRIu64 ".rows", r->group);
}

void receipt__piece_path(const struct receipt *r, const struct piece *piece, char path[SNAPSHOT_PATH_BYTES])
{
    snprintf(path, SNAPSHOT_PATH_BYTES, SNAPSHOT_DIR "/in-%" PRIu64 "-%020" PRId64 ".log", r->group,
             piece->row.base_offset);
}

static bool receipt__send(struct receipt *r, PeerSnapshot *message)
{
    message->transfer = r->transfer;
    message->group = r->group;
    message->from = r->from;
    message->to = r->partition->replica;
    return r->broker != 0 && peers_send_snapshot(r->s->broker->peers, r->broker, message, (struct slice){0});
}

void receipt__say(struct receipt *r, enum peer_snapshot_kind kind, enum err status)
{
    PeerSnapshot message = {.kind = kind, .status = (uint32_t)status};
    (void)receipt__send(r, &message);
}

/* --- the end --- */

static void receipt__unlink_files(struct receipt *r)
{
    char(*paths)[SNAPSHOT_PATH_BYTES] = mem_zeroed(r->pieces_count + 1, sizeof *paths);
    uint32_t count = 0;
    receipt__rows_path(r, paths[count++]);
    for (uint32_t i = 0; i < r->pieces_count; i++) {
        if (r->pieces[i].staged_bytes > 0) {
            receipt__piece_path(r, &r->pieces[i], paths[count++]);
        }
    }
    snapshots__unlink(r->s, paths, count);
    free(paths);
}

static void receipt__free_if_over(struct receipt *r)
{
    if (r->is_over && r->jobs == 0) {
        store_hold_free(r->own);
        snapshot_rows_free(r->rows);
        install__free(r->install);
        free(r->pieces);
        free(r);
    }
}

void receipt__job_ended(struct receipt *r)
{
    ASSERT(r->jobs > 0);
    r->jobs--;
    receipt__free_if_over(r);
}

/* The leader's log begins behind segments that are still here: they can go before the picture says so, and the next try
 * finds their room. The last one stays, so that appends go on where every replica's do. */
static void receipt__make_room(const struct receipt *r)
{
    struct partition *p = r->partition;
    if (r->mends || p->state != PARTITION_LIVE || p->installing || p->log == NULL) {
        return;
    }
    int64_t base = segment_log_base_below(p->log, r->log_start);
    if (base > segment_log_start(p->log)) {
        mark(p->broker->trace, MARK_SNAPSHOT_MAKES_ROOM);
        trace_info(p->broker->trace, "snapshot_makes_room", "group=%lu log_start=%ld", p->group, (long)base);
        segment_log_set_start(p->log, base);
        p->is_ahead = true;
    }
    if (p->is_ahead) { /* the first one lets the files go, the next one makes sure of their names */
        checkpoint_want(p);
    }
}

void receipt__end(struct receipt *r, enum err why)
{
    if (why == ERR_STORAGE_FULL) {
        receipt__make_room(r);
    }
    if (why != OK) {
        mark(r->s->broker->trace, MARK_SNAPSHOT_REFUSED);
        trace_warn(r->s->broker->trace, "snapshot_refused", "group=%lu index=%lu error=%s", r->group, r->index,
                   err_name(why));
        receipt__say(r, PEER_SNAPSHOT_END, why);
    }
    receipt__unlink_files(r); /* behind the jobs that write them */
    HASH_DEL(r->s->receipts, r);
    r->is_over = true;
    receipt__free_if_over(r);
}

/* --- jobs --- */

enum piece_work { WORK_LOAD, WORK_WRITE, WORK_CHECK_OWN, WORK_ADOPT, WORK_CHECK, WORK_MEND };

struct receipt_job {
    struct snapshot_job job; /* first */
    struct receipt *receipt;
    enum piece_work work;
    enum registry_topic_kind kind;
    char path[SNAPSHOT_PATH_BYTES];
    struct segment_row row;
    uint64_t position;
    uint32_t size_bytes;
    struct slice payload;       /* to be written */
    struct snapshot_rows *rows; /* loaded */
    enum err error;
};

static void receipt_job__run(struct snapshot_job *base)
{
    struct receipt_job *job = (struct receipt_job *)base;
    struct receipt *r = job->receipt;
    struct broker *b = base->s->broker;
    switch (job->work) {
    case WORK_LOAD:
        job->error = snapshot_load(b->disk, job->path, r, job->kind, &job->rows);
        break;
    case WORK_WRITE:
        job->error = store_stage_write(b->store, job->path, job->position, job->payload.data, job->payload.size);
        break;
    case WORK_CHECK_OWN:
        job->error = store_check_held(r->own, &job->row, &r->check);
        break;
    case WORK_ADOPT:
        job->error = store_stage_adopt(r->own, job->row.base_offset, job->path, job->position, job->size_bytes);
        break;
    case WORK_CHECK:
        job->error = store_check_staged(b->store, job->path, &job->row, &r->check);
        break;
    case WORK_MEND:
        job->error = store_mend(r->own, &job->row, job->path);
        break;
    }
}

static void receipt_job__drop(struct snapshot_job *base)
{
    struct receipt_job *job = (struct receipt_job *)base;
    slice_unref(&job->payload);
    snapshot_rows_free(job->rows);
    receipt__job_ended(job->receipt);
    free(job);
}

static void receipt__loaded(struct receipt *r, struct receipt_job *job);
static void receipt__work_done(struct receipt *r, const struct receipt_job *job);
static void receipt__go_on(struct receipt *r);

static void receipt_job__done(struct snapshot_job *base)
{
    struct receipt_job *job = (struct receipt_job *)base;
    struct receipt *r = job->receipt; /* this job still counts: it stays until the drop below */
    struct broker *b = base->s->broker;
    if (store_sync_failed(b->store)) {
        broker__fail(b, BROKER_EXIT_STORAGE, "a segment cannot be synced");
    }
    if (!r->is_over) {
        r->heard_us = snapshots__now_us(r->s);
        if (job->work == WORK_LOAD) {
            receipt__loaded(r, job);
        } else {
            receipt__work_done(r, job);
        }
    }
    if (!r->is_over) {
        receipt__go_on(r);
    }
    receipt_job__drop(base);
}

/* piece NULL: the rows. */
static void receipt__submit(struct receipt *r, enum piece_work work, const struct piece *piece, uint64_t position,
                            uint32_t size_bytes, struct slice payload)
{
    struct receipt_job *job = mem_zeroed(1, sizeof *job);
    job->job.run = receipt_job__run;
    job->job.done = receipt_job__done;
    job->job.drop = receipt_job__drop;
    job->receipt = r;
    job->work = work;
    job->kind = r->partition->kind;
    job->position = position;
    job->size_bytes = size_bytes;
    job->payload = payload;
    if (piece != NULL) {
        job->row = piece->row;
        receipt__piece_path(r, piece, job->path);
    } else {
        receipt__rows_path(r, job->path);
    }
    r->jobs++;
    snapshots__submit(r->s, &job->job);
}

/* --- what is coming --- */

static struct piece *receipt__piece(const struct receipt *r)
{
    return r->state == RECEIPT_SEGMENTS && r->at < r->pieces_count ? &r->pieces[r->at] : NULL;
}

/* Bytes of the part that is coming; 0: none is. */
static uint64_t receipt__part_bytes(const struct receipt *r)
{
    const struct piece *piece = receipt__piece(r);
    if (r->state == RECEIPT_ROWS) {
        return r->rows_bytes;
    }
    return piece != NULL && piece->state == PIECE_COMING ? piece->row.size_bytes : 0;
}

static uint32_t receipt__chunk_bytes(const struct receipt *r, uint64_t total, uint64_t position)
{
    uint64_t left = total - position;
    return left < r->s->limits.chunk_bytes ? (uint32_t)left : r->s->limits.chunk_bytes;
}

/* Chunks on their way here and to the disk are never more than SNAPSHOT_WANTS_MAX. */
static void receipt__ask(struct receipt *r)
{
    const struct piece *piece = receipt__piece(r);
    uint64_t total = receipt__part_bytes(r);
    while (r->broker != 0 && r->asked_bytes < total && r->wants + r->writes < SNAPSHOT_WANTS_MAX) {
        PeerSnapshot message = {.kind = PEER_SNAPSHOT_WANT,
                                .part = piece != NULL ? PEER_SNAPSHOT_SEGMENT : PEER_SNAPSHOT_ROWS,
                                .base_offset = piece != NULL ? piece->row.base_offset : 0,
                                .position = r->asked_bytes,
                                .size_bytes = receipt__chunk_bytes(r, total, r->asked_bytes)};
        if (!receipt__send(r, &message)) {
            return; /* the sender, or its link, has ended: an offer follows */
        }
        r->asked_bytes += message.size_bytes;
        r->wants++;
    }
}

static void receipt__begin_part(struct receipt *r, uint64_t from_bytes)
{
    r->asked_bytes = r->got_bytes = from_bytes;
    r->wants = 0;
}

static void receipt__on_chunk(struct receipt *r, const PeerSnapshot *message, const uint8_t *payload,
                              uint32_t payload_size)
{
    struct broker *b = r->s->broker;
    const struct piece *piece = receipt__piece(r);
    uint64_t total = receipt__part_bytes(r);
    bool is_of_part = piece != NULL
                          ? message->part == PEER_SNAPSHOT_SEGMENT && message->base_offset == piece->row.base_offset
                          : message->part == PEER_SNAPSHOT_ROWS;
    if (total == 0 || !is_of_part || r->wants == 0 || message->position != r->got_bytes ||
        payload_size != receipt__chunk_bytes(r, total, r->got_bytes)) {
        b->counters.snapshot_chunks_ignored_total++;
        mark(b->trace, MARK_SNAPSHOT_CHUNK_IGNORED);
        return;
    }
    if (piece == NULL) {
        r->got_crc = crc32c(r->got_crc, payload, payload_size);
    }
    b->counters.snapshot_received_bytes_total += payload_size;
    point(b->trace, POINT_SNAPSHOT_CHUNK);
    r->heard_us = snapshots__now_us(r->s);
    r->wants--;
    r->writes++;
    r->got_bytes += payload_size;
    receipt__submit(r, WORK_WRITE, piece, message->position, 0, peers_keep(b->peers, payload, payload_size));
    receipt__ask(r);
}

/* --- from rows to pieces --- */

/* What is staged of an earlier picture is as good as what comes of this one, once it is judged. */
static void receipt__take_over(struct receipt *r, struct piece *piece, struct piece *old, uint32_t old_count)
{
    for (uint32_t i = 0; i < old_count; i++) {
        struct piece *o = &old[i];
        /* Who was found to stand in its place needs no stage: what is there is the rest of an attempt, of any length.
         */
        if (o->row.base_offset != piece->row.base_offset || o->staged_bytes == 0 ||
            o->staged_bytes > piece->row.size_bytes || o->is_own) {
            continue;
        }
        bool is_same = o->row.size_bytes == piece->row.size_bytes && o->row.chain == piece->row.chain &&
                       o->row.end_offset == piece->row.end_offset;
        piece->staged_bytes = o->staged_bytes;
        piece->is_mixed = true;
        piece->state = is_same && o->state == PIECE_THERE ? PIECE_THERE : PIECE_UNKNOWN;
        o->staged_bytes = 0; /* no longer its */
    }
}

static void receipt__unlink_pieces(struct receipt *r, const struct piece *pieces, uint32_t count)
{
    char path[1][SNAPSHOT_PATH_BYTES];
    for (uint32_t i = 0; i < count; i++) {
        if (pieces[i].staged_bytes > 0) {
            receipt__piece_path(r, &pieces[i], path[0]);
            snapshots__unlink(r->s, path, 1);
        }
    }
}

static void receipt__loaded(struct receipt *r, struct receipt_job *job)
{
    struct piece *old = r->pieces;
    uint32_t old_count = r->pieces_count;
    if (job->error != OK) {
        receipt__end(r, job->error);
        return;
    }
    r->rows = job->rows;
    job->rows = NULL;
    r->pieces_count = r->rows->segments_count;
    r->pieces = mem_zeroed(r->pieces_count + 1, sizeof *r->pieces);
    for (uint32_t i = 0; i < r->pieces_count; i++) {
        r->pieces[i].row = r->rows->segments[i];
        receipt__take_over(r, &r->pieces[i], old, old_count);
    }
    receipt__unlink_pieces(r, old, old_count);
    free(old);
    if (r->partition->log != NULL) {
        r->own = store_hold_new(r->partition->log);
        store_hold_keep(r->own, r->rows->segments, r->rows->segments_count);
    }
    r->at = 0;
    r->state = RECEIPT_SEGMENTS;
}

/* --- piece after piece --- */

/* Damaged here, and of use: else it is left as it is. */
static void piece__look_mending(struct receipt *r, struct piece *piece)
{
    struct segment_row own;
    bool is_damaged = r->own != NULL && store_hold_find(r->own, piece->row.base_offset, &own) &&
                      segment_log_is_damaged(r->partition->log, piece->row.base_offset, piece->row.end_offset);
    piece->state = is_damaged ? PIECE_COMING : PIECE_THERE;
    if (is_damaged) {
        receipt__begin_part(r, piece->staged_bytes);
    }
}

static void piece__look(struct receipt *r, struct piece *piece)
{
    struct segment_row own;
    if (r->mends) {
        piece__look_mending(r, piece);
        return;
    }
    bool has_own = r->own != NULL && !piece->is_own_bad && store_hold_find(r->own, piece->row.base_offset, &own) &&
                   own.size_bytes > 0;
    memset(&r->check, 0, sizeof r->check);
    if (has_own && own.size_bytes == piece->row.size_bytes && own.end_offset == piece->row.end_offset &&
        own.chain == piece->row.chain) {
        piece->state = PIECE_JUDGED_HERE;
        receipt__submit(r, WORK_CHECK_OWN, piece, 0, 0, (struct slice){0});
    } else if (has_own && piece->staged_bytes < own.size_bytes && own.size_bytes < piece->row.size_bytes) {
        piece->state = PIECE_ADOPTING;
        piece->is_mixed = true;
        receipt__submit(r, WORK_ADOPT, piece, piece->staged_bytes,
                        receipt__chunk_bytes(r, own.size_bytes, piece->staged_bytes), (struct slice){0});
    } else {
        piece->state = PIECE_COMING;
        receipt__begin_part(r, piece->staged_bytes);
    }
}

/* Of what is there nothing is of use: all of it is to come. */
static void piece__start_over(struct piece *piece)
{
    piece->is_own_bad = true;
    piece->is_mixed = false;
    piece->staged_bytes = 0;
    piece->state = PIECE_UNKNOWN;
}

static void receipt__judged(struct receipt *r, struct piece *piece, const struct receipt_job *job)
{
    if (job->error == ERR_AGAIN) {
        receipt__submit(r, job->work, piece, 0, 0, (struct slice){0});
    } else if (job->error == OK && r->mends) {
        piece->state = PIECE_MENDED;
        receipt__submit(r, WORK_MEND, piece, 0, 0, (struct slice){0});
    } else if (job->error == OK) {
        piece->is_own = job->work == WORK_CHECK_OWN;
        if (piece->is_own) {
            mark(r->s->broker->trace, MARK_SNAPSHOT_SEGMENT_OWN);
        }
        piece->state = PIECE_THERE;
    } else if (job->error == ERR_CORRUPT && (piece->is_mixed || job->work == WORK_CHECK_OWN)) {
        mark(r->s->broker->trace, MARK_SNAPSHOT_SEGMENT_ANEW);
        trace_info(r->s->broker->trace, "snapshot_segment_refused", "group=%lu base=%ld own=%d", r->group,
                   (long)piece->row.base_offset, job->work == WORK_CHECK_OWN);
        piece__start_over(piece);
    } else {
        receipt__end(r, job->error);
    }
}

static void receipt__adopted(struct receipt *r, struct piece *piece, const struct receipt_job *job)
{
    if (job->error == OK) {
        piece->staged_bytes = job->position + job->size_bytes;
        piece->state = PIECE_UNKNOWN; /* more of it, or the rest comes */
    } else if (job->error == ERR_CORRUPT) {
        piece__start_over(piece);
    } else {
        receipt__end(r, job->error);
    }
}

static void receipt__mended(struct receipt *r, struct piece *piece, const struct receipt_job *job)
{
    struct broker *b = r->s->broker;
    if (job->error != OK) {
        receipt__end(r, job->error);
        return;
    }
    store_mended(r->own, &piece->row);
    piece->state = PIECE_THERE;
    b->counters.segments_mended_total++;
    trace_info(b->trace, "segment_mended", "group=%lu base=%ld end=%ld", r->group, (long)piece->row.base_offset,
               (long)piece->row.end_offset);
}

static void receipt__written(struct receipt *r, const struct receipt_job *job)
{
    struct piece *piece = receipt__piece(r);
    r->writes--;
    if (job->error != OK) {
        receipt__end(r, job->error);
    } else if (piece != NULL && piece->state == PIECE_COMING) {
        piece->staged_bytes = job->position + job->payload.size;
    }
}

static void receipt__work_done(struct receipt *r, const struct receipt_job *job)
{
    struct piece *piece = receipt__piece(r);
    switch (job->work) {
    case WORK_WRITE:
        receipt__written(r, job);
        break;
    case WORK_ADOPT:
        receipt__adopted(r, piece, job);
        break;
    case WORK_MEND:
        receipt__mended(r, piece, job);
        break;
    default:
        receipt__judged(r, piece, job);
    }
}

static void receipt__go_on_rows(struct receipt *r)
{
    if (r->got_bytes < r->rows_bytes) {
        receipt__ask(r);
    } else if (r->writes == 0 && r->got_crc != r->rows_crc) {
        receipt__end(r, ERR_CORRUPT);
    } else if (r->writes == 0) {
        r->state = RECEIPT_LOADING;
        receipt__submit(r, WORK_LOAD, NULL, 0, 0, (struct slice){0});
    }
}

/* Until something is waited for. */
static void receipt__go_on(struct receipt *r)
{
    struct piece *piece;
    if (r->state == RECEIPT_ROWS) {
        receipt__go_on_rows(r);
    }
    while ((piece = receipt__piece(r)) != NULL) {
        if (piece->state == PIECE_UNKNOWN) {
            piece__look(r, piece);
        }
        if (piece->state == PIECE_COMING && r->got_bytes == piece->row.size_bytes && r->writes == 0) {
            piece->state = PIECE_JUDGED;
            memset(&r->check, 0, sizeof r->check);
            receipt__submit(r, WORK_CHECK, piece, 0, 0, (struct slice){0});
        }
        if (piece->state != PIECE_THERE) {
            receipt__ask(r);
            return;
        }
        r->at++;
    }
    if (r->state == RECEIPT_SEGMENTS) {
        r->state = RECEIPT_WHOLE; /* receipt__turn looks after it */
    }
}

/* --- offers --- */

static void refuse(struct snapshots *s, uint64_t broker, const PeerSnapshot *offer, enum peer_snapshot_kind kind,
                   enum err status)
{
    PeerSnapshot message = {.kind = kind,
                            .transfer = offer->transfer,
                            .group = offer->group,
                            .from = offer->from,
                            .to = offer->to};
    PeerSnapshot *reply = PLANT(18) ? NULL : &message;
    reply->status = (uint32_t)status;
    (void)peers_send_snapshot(s->broker->peers, broker, &message, (struct slice){0});
}

static bool receipt__is_of(const struct receipt *r, const PeerSnapshot *offer)
{
    return r->index == offer->index && r->index_term == offer->index_term && r->rows_bytes == offer->rows_bytes &&
           r->rows_crc == offer->rows_crc;
}

/* Those who wait for nobody any more give way. */
static bool receipt__has_room(struct snapshots *s)
{
    struct receipt *r, *next;
    if (HASH_COUNT(s->receipts) < SNAPSHOT_RECEIPTS_MAX) {
        return true;
    }
    HASH_ITER(hh, s->receipts, r, next)
    {
        if (r->broker == 0 && r->jobs == 0 && r->state < RECEIPT_WHOLE) {
            receipt__end(r, OK);
            return true;
        }
    }
    return false;
}

static struct receipt *receipt__new(struct snapshots *s, struct partition *p)
{
    struct receipt *r = mem_zeroed(1, sizeof *r);
    r->s = s;
    r->group = p->group;
    r->partition = p;
    HASH_ADD(hh, s->receipts, group, sizeof r->group, r);
    snapshots__wake(s);
    return r;
}

/* The picture is another one. Segments that are staged stay: receipt__take_over. */
static void receipt__start(struct receipt *r, const PeerSnapshot *offer)
{
    store_hold_free(r->own);
    snapshot_rows_free(r->rows);
    r->own = NULL;
    r->rows = NULL;
    r->state = RECEIPT_ROWS;
    r->has_room = false;
    r->index = offer->index;
    r->index_term = offer->index_term;
    r->rows_bytes = offer->rows_bytes;
    r->rows_crc = offer->rows_crc;
    r->log_start = offer->base_offset;
    r->got_crc = 0;
    receipt__begin_part(r, 0);
}

/* OK: *ret_partition is who should have it. */
static enum err judge_offer(struct snapshots *s, uint64_t broker, const PeerSnapshot *offer,
                            struct partition **ret_partition)
{
    struct partition *p = groups_find(s->broker, offer->group);
    if (p == NULL || p->replica != offer->to || p->raft == NULL || router_broker_of(p, offer->from) != broker) {
        return ERR_UNKNOWN_PARTITION;
    }
    if (p->state != PARTITION_LIVE || s->broker->stopping) {
        return ERR_NOT_READY;
    }
    if (offer->term < raft_term(p->raft)) {
        return ERR_NOT_LEADER;
    }
    *ret_partition = p;
    return OK;
}

static void receipt__on_offer(struct snapshots *s, uint64_t broker, const PeerSnapshot *offer)
{
    struct partition *p = NULL;
    struct receipt *r;
    enum err error = judge_offer(s, broker, offer, &p);
    if (error != OK) {
        refuse(s, broker, offer, PEER_SNAPSHOT_END, error);
        return;
    }
    bool mends = !raft_wants_snapshot(p->raft, offer->index);
    if (mends && (p->log == NULL || segment_log_damaged_ranges(p->log) == 0)) {
        mark(s->broker->trace, MARK_SNAPSHOT_NOT_NEEDED);
        refuse(s, broker, offer, PEER_SNAPSHOT_HAVE_IT, OK);
        return;
    }
    HASH_FIND(hh, s->receipts, &offer->group, sizeof offer->group, r);
    bool is_same = r != NULL && receipt__is_of(r, offer) && r->mends == mends;
    bool is_taken = r == NULL ? !receipt__has_room(s) : !is_same && (r->jobs > 0 || r->state >= RECEIPT_WHOLE);
    if (is_taken) {
        mark(s->broker->trace, MARK_SNAPSHOT_BUSY);
        refuse(s, broker, offer, PEER_SNAPSHOT_END, ERR_BUSY);
        return;
    }
    if (r == NULL) {
        r = receipt__new(s, p);
    }
    r->mends = mends;
    r->broker = broker;
    r->transfer = offer->transfer;
    r->from = offer->from;
    r->heard_us = snapshots__now_us(s);
    trace_debug(s->broker->trace, "snapshot_offered", "group=%lu index=%lu broker=%lu resumes=%d", r->group,
                offer->index, broker, is_same);
    if (!is_same) {
        receipt__start(r, offer);
    } else {
        receipt__begin_part(r, r->got_bytes); /* what was asked of the last transfer comes no more */
        s->broker->counters.snapshots_resumed_total++;
        mark(s->broker->trace, MARK_SNAPSHOT_RESUMED);
    }
    receipt__go_on(r);
}

void receipt__on_message(struct snapshots *s, uint64_t broker, const PeerSnapshot *message, const uint8_t *payload,
                         uint32_t payload_size)
{
    struct receipt *r;
    if (message->kind == PEER_SNAPSHOT_OFFER) {
        receipt__on_offer(s, broker, message);
        return;
    }
    HASH_FIND(hh, s->receipts, &message->group, sizeof message->group, r);
    if (r == NULL || r->broker != broker || r->transfer != message->transfer || r->from != message->from ||
        r->partition->replica != message->to) {
        s->broker->counters.snapshot_chunks_ignored_total += message->kind == PEER_SNAPSHOT_CHUNK;
        mark(s->broker->trace, MARK_SNAPSHOT_STALE);
        return;
    }
    if (message->kind == PEER_SNAPSHOT_CHUNK) {
        receipt__on_chunk(r, message, payload, payload_size);
    } else {
        r->broker = 0; /* another offer may follow */
    }
}

/* --- others' ends, time --- */

void receipt__lane_down(struct snapshots *s, uint64_t broker)
{
    for (struct receipt *r = s->receipts; r != NULL; r = r->hh.next) {
        r->broker = r->broker == broker ? 0 : r->broker;
    }
}

void receipt__forget(struct snapshots *s, const struct partition *p)
{
    struct receipt *r;
    HASH_FIND(hh, s->receipts, &p->group, sizeof p->group, r);
    if (r != NULL && r->partition == p) {
        receipt__end(r, OK);
    }
}

void receipt__turn(struct snapshots *s)
{
    struct receipt *r, *next;
    HASH_ITER(hh, s->receipts, r, next)
    {
        struct partition *p = r->partition;
        if (r->state == RECEIPT_INSTALLING) {
            install__turn(r);
        } else if (r->mends && p->state == PARTITION_LIVE) {
            if (r->state == RECEIPT_WHOLE) {
                receipt__say(r, PEER_SNAPSHOT_DONE, OK);
                receipt__end(r, OK);
            }
        } else if (p->state != PARTITION_LIVE || !raft_wants_snapshot(p->raft, r->index)) {
            mark(s->broker->trace, MARK_SNAPSHOT_OVERTAKEN);
            p->installing = false;
            receipt__say(r, PEER_SNAPSHOT_HAVE_IT, OK);
            receipt__end(r, OK);
        } else if (r->state == RECEIPT_WHOLE) {
            install__turn(r);
        }
    }
}

void receipt__sweep(struct snapshots *s, uint64_t now_us)
{
    struct receipt *r, *next;
    HASH_ITER(hh, s->receipts, r, next)
    {
        if (r->state < RECEIPT_WHOLE && r->jobs == 0 && now_us >= r->heard_us + s->limits.idle_us) {
            receipt__end(r, OK);
        }
    }
}

void receipt__free_all(struct snapshots *s)
{
    struct receipt *r, *next;
    HASH_ITER(hh, s->receipts, r, next)
    {
        receipt__end(r, OK);
    }
}

void snapshot_ask(struct partition *p)
{
    struct broker *b = p->broker;
    struct receipt *r;
    HASH_FIND(hh, b->snapshots->receipts, &p->group, sizeof p->group, r);
    PeerSnapshot message = {.kind = PEER_SNAPSHOT_ASK,
                            .group = p->group,
                            .from = p->replica,
                            .to = raft_leader(p->raft),
                            .base_offset = segment_log_damage_end(p->log)};
    uint64_t broker = router_broker_of(p, message.to);
    bool is_answered =
        r != NULL && r->broker != 0 && (!r->mends || r->from == message.to); /* who led may say nothing */
    if (broker != 0 && !is_answered) {
        (void)peers_send_snapshot(b->peers, broker, &message, (struct slice){0});
    }
}
