/* The sending side: a picture is made of the group's last checkpoint, offered, and read as the receiver asks for it. A
 * transfer that ends by itself is told to the core; the picture stays a while for those that follow. */
#include "broker/snapshot_impl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mark.h"
#include "base/mem.h"
#include "base/point.h"
#include "broker/router.h"

/* --- pictures --- */

static void picture__free(struct picture *picture)
{
    struct snapshots *s = picture->s;
    ASSERT(picture->users == 0);
    TAILQ_REMOVE(&s->pictures, picture, link);
    s->pictures_count--;
    store_hold_free(picture->hold);
    snapshots__unlink(s, &picture->path, 1);
    free(picture->segments);
    free(picture);
}

static void picture__leave(struct picture *picture)
{
    ASSERT(picture->users > 0);
    picture->users--;
    picture->idle_us = snapshots__now_us(picture->s);
    if (picture->users == 0 && (picture->partition == NULL || !picture->is_ready || picture->is_ended)) {
        picture__free(picture);
    }
}

/* The log goes on where the picture ends. */
static bool picture__is_reached(const struct picture *picture)
{
    const struct partition *p = picture->partition;
    return picture->rows.group.applied_index + 1 >= p->window.first_index;
}

/* Whoever asked for it can use it. */
static bool picture__serves(const struct picture *picture, const struct send *send)
{
    return picture__is_reached(picture) && picture->rows.group.next_offset >= send->end_offset;
}

static bool picture__is_old(const struct picture *picture, uint64_t now_us)
{
    return now_us >= picture->made_us + picture->s->limits.age_us;
}

struct picture_job {
    struct snapshot_job job; /* first */
    struct picture *picture; /* used */
    enum err error;
};

static void picture__add_segment(void *context, const struct meta_segment *segment)
{
    struct picture *picture = context;
    if (picture->segments_count == picture->segments_capacity) {
        picture->segments_capacity = picture->segments_capacity == 0 ? 4 : picture->segments_capacity * 2;
        picture->segments = mem_grow(picture->segments, picture->segments_capacity * sizeof *picture->segments);
    }
    picture->segments[picture->segments_count++] =
        (struct segment_row){.base_offset = segment->base_offset, .size_bytes = segment->size_bytes};
}

static void picture_job__run(struct snapshot_job *base)
{
    struct picture_job *job = (struct picture_job *)base;
    struct picture *picture = job->picture;
    struct broker *b = base->s->broker;
    job->error = meta_export(b->kv, b->disk, picture->path, picture->group, SNAPSHOT_ROWS_BYTES_MAX,
                             picture__add_segment, picture, &picture->rows);
    point(b->trace, POINT_SNAPSHOT_MADE);
}

static void picture_job__drop(struct snapshot_job *base)
{
    ((struct picture_job *)base)->picture->users--;
    free(base);
}

static void send__pause(struct send *send);

/* A row that rotted is in memory, too: a whole new picture mends it. */
static void picture__failed(struct picture *picture, enum err error)
{
    struct partition *p = picture->partition;
    struct send *send, *next;
    mark(picture->s->broker->trace, MARK_SNAPSHOT_NOT_MADE);
    trace_warn(picture->s->broker->trace, "snapshot_not_made", "group=%lu error=%s", picture->group, err_name(error));
    if (error == ERR_FORMAT && p != NULL) {
        p->rows_doubted = true;
        checkpoint_want(p);
    }
    TAILQ_FOREACH_SAFE(send, &picture->s->active, link, next)
    {
        if (send->picture == picture) {
            send__pause(send);
        }
    }
}

static void picture_job__done(struct snapshot_job *base)
{
    struct picture_job *job = (struct picture_job *)base;
    struct picture *picture = job->picture;
    struct segment_row row;
    enum err error = job->error;
    free(job);
    for (uint32_t i = 0; error == OK && i < picture->segments_count; i++) {
        bool is_held = picture->hold != NULL && store_hold_find(picture->hold, picture->segments[i].base_offset, &row);
        error = is_held ? OK : ERR_CANCELLED; /* the group changed its log meanwhile: a snapshot was installed here */
    }
    if (error != OK) {
        picture__failed(picture, error);
    } else {
        picture->is_ready = true;
        if (picture->hold != NULL) {
            store_hold_keep(picture->hold, picture->segments, picture->segments_count);
        }
        trace_info(picture->s->broker->trace, "snapshot_made", "group=%lu index=%lu rows_bytes=%lu segments=%u",
                   picture->group, picture->rows.group.applied_index, picture->rows.size_bytes,
                   picture->segments_count);
    }
    picture__leave(picture);
}

static struct picture *picture__make(struct snapshots *s, struct partition *p)
{
    struct picture *picture = mem_zeroed(1, sizeof *picture);
    struct picture_job *job = mem_zeroed(1, sizeof *job);
    picture->s = s;
    picture->partition = p;
    picture->group = p->group;
    picture->users = 1;
    picture->made_us = snapshots__now_us(s);
    picture->hold = p->log != NULL ? store_hold_new(p->log) : NULL;
    snprintf(picture->path, sizeof picture->path, SNAPSHOT_DIR "/out-%" PRIu64 "-%016" PRIx64, p->group, s->next_id++);
    TAILQ_INSERT_TAIL(&s->pictures, picture, link);
    s->pictures_count++;
    job->job.run = picture_job__run;
    job->job.done = picture_job__done;
    job->job.drop = picture_job__drop;
    job->picture = picture;
    snapshots__submit(s, &job->job);
    return picture;
}

/* One that may be offered now, or is being made. */
static struct picture *picture__find(struct snapshots *s, const struct send *send)
{
    const struct partition *p = send->partition;
    struct picture *picture;
    TAILQ_FOREACH(picture, &s->pictures, link)
    {
        if (picture->partition != p || picture->is_ended) { /* of no partition: its last user is still to go */
            continue;
        }
        if (!picture->is_ready || (picture__serves(picture, send) && !picture__is_old(picture, snapshots__now_us(s)))) {
            return picture;
        }
    }
    return NULL;
}

/* Some of it has rotted. If the group has dropped records since, that may be all there was: a newer picture lacks them.
 */
static void picture__doubt(struct picture *picture)
{
    struct partition *p = picture->partition;
    if (p != NULL && p->log != NULL && picture->rows.group.log_start < segment_log_start(p->log)) {
        picture->is_ended = true;
        checkpoint_want(p);
    }
}

static bool picture__has_room(struct snapshots *s)
{
    struct picture *picture;
    if (s->pictures_count < SNAPSHOT_PICTURES_MAX) {
        return true;
    }
    TAILQ_FOREACH(picture, &s->pictures, link) /* the oldest one that nobody uses gives way */
    {
        if (picture->users == 0) {
            picture__free(picture);
            return true;
        }
    }
    return false;
}

/* --- transfers: waiting, and their end --- */

static struct send_peer *send__peer(struct snapshots *s, uint64_t broker)
{
    for (uint32_t i = 0; i < s->peers_count; i++) {
        if (s->peers[i].broker == broker) {
            return &s->peers[i];
        }
    }
    if (s->peers_count == PEERS_MAX) {
        return NULL;
    }
    struct send_peer *peer = &s->peers[s->peers_count++];
    *peer = (struct send_peer){.broker = broker};
    TAILQ_INIT(&peer->waiting);
    return peer;
}

static void send__tell(struct partition *p, uint64_t replica, uint64_t index, bool ok)
{
    if (p->raft != NULL && p->state == PARTITION_LIVE && !p->installing) {
        raft_step(p->raft, &(struct raft_event){.type = RAFT_SNAPSHOT_DONE,
                                                .snapshot = {.peer = replica, .index = index, .ok = ok}});
        partition_mark_dirty(p);
    }
}

static void send__leave_list(struct send *send)
{
    struct send_peer *peer = send__peer(send->s, send->broker);
    if (send->state == SEND_WAITING) {
        TAILQ_REMOVE(&peer->waiting, send, link);
        return;
    }
    TAILQ_REMOVE(&send->s->active, send, link);
    send->s->active_count--;
    peer->active--;
}

static void send__free_if_over(struct send *send)
{
    if (send->is_over && send->jobs == 0) {
        if (send->picture != NULL) {
            picture__leave(send->picture);
        }
        free(send);
    }
}

static void send__drop(struct send *send)
{
    struct snapshots *s = send->s;
    send__leave_list(send);
    HASH_DEL(s->sends, send);
    s->sends_count--;
    send->partition->sends_count--;
    send->is_over = true;
    send__free_if_over(send);
}

static void send__end(struct send *send, bool ok)
{
    struct partition *p = send->partition;
    uint64_t replica = send->key.replica;
    uint64_t index = send->picture != NULL ? send->picture->rows.group.applied_index : 0;
    bool mends = send->mends;
    trace_debug(send->s->broker->trace, "snapshot_send_ended", "group=%lu replica=%lu index=%lu ok=%d", p->group,
                replica, index, ok);
    send->s->broker->counters.snapshots_sent_total += ok;
    send__drop(send);
    send__tell(p, replica, index, ok && !mends); /* a core that wants more than mending asks again */
}

static struct send *send__find(struct snapshots *s, uint64_t group, uint64_t replica)
{
    struct send *send;
    struct send wanted = {.key = {.group = group, .replica = replica}};
    HASH_FIND(hh, s->sends, &wanted.key, sizeof wanted.key, send);
    return send;
}

/* NULL: nobody knows where that replica is, or too many wait. */
static struct send *send__add(struct snapshots *s, struct partition *p, uint64_t replica)
{
    uint64_t broker = router_broker_of(p, replica);
    struct send_peer *peer = broker != 0 ? send__peer(s, broker) : NULL;
    if (peer == NULL || s->sends_count == SNAPSHOT_SENDS_MAX) {
        return NULL;
    }
    struct send *send = mem_zeroed(1, sizeof *send);
    send->key.group = p->group;
    send->key.replica = replica;
    send->s = s;
    send->partition = p;
    send->broker = broker;
    HASH_ADD(hh, s->sends, key, sizeof send->key, send);
    s->sends_count++;
    p->sends_count++;
    TAILQ_INSERT_TAIL(&peer->waiting, send, link);
    snapshots__wake(s);
    return send;
}

/* It begins again in a while, with the same picture if that is still good. What is under way for it is nobody's then.
 */
static void send__pause(struct send *send)
{
    struct snapshots *s = send->s;
    struct partition *p = send->partition;
    uint64_t replica = send->key.replica;
    bool mends = send->mends;
    send__drop(send);
    struct send *again = mends ? NULL : send__add(s, p, replica); /* who wants to be mended asks again */
    if (again == NULL) {
        send__tell(p, replica, 0, false);
    } else {
        again->not_before_us = snapshots__now_us(s) + s->limits.retry_us;
    }
}

void snapshot_want(struct partition *p, uint64_t replica)
{
    struct snapshots *s = p->broker->snapshots;
    if (s != NULL && send__find(s, p->group, replica) != NULL) {
        return; /* it is on its way, and tells the core when it has ended */
    }
    if (s == NULL || send__add(s, p, replica) == NULL) {
        send__tell(p, replica, 0, false);
    }
}

void send__on_ask(struct snapshots *s, uint64_t broker, const PeerSnapshot *message)
{
    struct raft_peer_state peer;
    struct partition *p = groups_find(s->broker, message->group);
    bool is_ours = p != NULL && p->replica == message->to && p->state == PARTITION_LIVE && !p->installing &&
                   p->log != NULL && router_broker_of(p, message->from) == broker;
    if (!is_ours || raft_role(p->raft) != RAFT_LEADER || !raft_peer_state(p->raft, message->from, &peer) ||
        peer.in_snapshot || send__find(s, p->group, message->from) != NULL) {
        return;
    }
    struct send *send = send__add(s, p, message->from);
    if (send != NULL) {
        int64_t end = partition_high_watermark(p);
        send->mends = true;
        send->end_offset = message->base_offset < end ? message->base_offset : end;
    }
}

uint64_t snapshot_floor(const struct partition *p, uint64_t replica)
{
    struct snapshots *s = p->broker->snapshots;
    const struct send *send = s != NULL && s->sends != NULL ? send__find(s, p->group, replica) : NULL;
    bool has_picture = send != NULL && send->picture != NULL && send->picture->is_ready;
    return has_picture ? send->picture->rows.group.applied_index : p->checkpoint_index;
}

bool snapshot_is_sent(const struct partition *p)
{
    return p->sends_count > 0;
}

/* --- transfers: their way to the offer --- */

static void send__fill(const struct send *send, enum peer_snapshot_kind kind, PeerSnapshot *message)
{
    *message = (PeerSnapshot){.kind = kind,
                              .transfer = send->transfer,
                              .group = send->key.group,
                              .from = send->partition->replica,
                              .to = send->key.replica};
}

static void send__give_up(struct send *send, enum err why)
{
    PeerSnapshot message;
    send__fill(send, PEER_SNAPSHOT_END, &message);
    message.status = (uint32_t)why;
    if (send->state >= SEND_OFFERED) {
        (void)peers_send_snapshot(send->s->broker->peers, send->broker, &message, (struct slice){0});
    }
    send__pause(send);
}

static void send__offer(struct send *send)
{
    struct snapshots *s = send->s;
    const struct picture *picture = send->picture;
    PeerSnapshot message;
    send->transfer = s->next_id++;
    send__fill(send, PEER_SNAPSHOT_OFFER, &message);
    message.term = raft_term(send->partition->raft);
    message.index = picture->rows.group.applied_index;
    message.index_term = picture->rows.group.applied_term;
    message.rows_bytes = picture->rows.size_bytes;
    message.rows_crc = picture->rows.crc;
    message.base_offset = picture->rows.group.log_start;
    send->state = SEND_OFFERED;
    send->since_us = snapshots__now_us(s);
    point(s->broker->trace, POINT_SNAPSHOT_OFFER);
    if (!peers_send_snapshot(s->broker->peers, send->broker, &message, (struct slice){0})) {
        send__end(send, false);
    }
}

static void send__find_picture(struct send *send)
{
    struct snapshots *s = send->s;
    struct partition *p = send->partition;
    bool is_reached = p->has_picture && p->checkpoint_index > 0 && p->checkpoint_index + 1 >= p->window.first_index;
    bool serves = is_reached && p->checkpoint_end >= send->end_offset;
    struct picture *picture = picture__find(s, send);
    if (picture == NULL && serves && picture__has_room(s)) {
        picture = picture__make(s, p);
    }
    if (picture == NULL) {
        if (!serves) {
            checkpoint_want(p);
        }
        return;
    }
    picture->users++;
    send->picture = picture;
    send->state = SEND_MAKING;
}

/* The core still waits for it. */
static bool send__is_wanted(const struct send *send)
{
    struct raft_peer_state peer;
    const struct partition *p = send->partition;
    return p->state == PARTITION_LIVE && !p->installing && raft_role(p->raft) == RAFT_LEADER &&
           raft_peer_state(p->raft, send->key.replica, &peer) && (peer.in_snapshot || send->mends);
}

static void send__step(struct send *send)
{
    if (!send__is_wanted(send)) {
        send__drop(send);
        return;
    }
    if (send->state == SEND_CHECKPOINT) {
        send__find_picture(send);
    }
    if (send->state == SEND_MAKING && send->picture->is_ready && !picture__serves(send->picture, send)) {
        picture__leave(send->picture); /* entries went while it was made, or it was made for somebody else */
        send->picture = NULL;
        send->state = SEND_CHECKPOINT;
        send__find_picture(send);
    }
    if (send->state == SEND_MAKING && send->picture->is_ready) {
        send__offer(send);
    }
}

static void send__start(struct send_peer *peer, uint64_t now_us)
{
    struct send *send;
    while (peer->active < SNAPSHOT_PER_PEER_MAX && (send = TAILQ_FIRST(&peer->waiting)) != NULL &&
           send->not_before_us <= now_us) {
        struct snapshots *s = send->s;
        send__leave_list(send);
        send->state = SEND_CHECKPOINT;
        send->since_us = now_us;
        TAILQ_INSERT_TAIL(&s->active, send, link);
        s->active_count++;
        peer->active++;
        if (send__is_wanted(send) && !peers_snapshot_is_up(s->broker->peers, send->broker)) {
            send__end(send, false); /* before anything is made for it */
        }
    }
}

void send__turn(struct snapshots *s)
{
    struct send *send, *next;
    uint64_t now_us = snapshots__now_us(s);
    for (uint32_t i = 0; i < s->peers_count; i++) {
        send__start(&s->peers[i], now_us);
    }
    TAILQ_FOREACH_SAFE(send, &s->active, link, next)
    {
        send__step(send);
    }
}

/* --- transfers: what the receiver asks for --- */

struct chunk_job {
    struct snapshot_job job; /* first */
    struct send *send;
    PeerSnapshot message;
    uint64_t limit; /* bytes of the segment in the picture */
    struct buf *buf;
    enum err error;
};

static enum err chunk_job__read_rows(const struct chunk_job *job)
{
    struct disk *disk = job->job.s->broker->disk;
    struct disk_file *file;
    size_t got = 0;
    enum err error = disk->ops->open(disk, job->send->picture->path, DISK_READ, &file);
    if (error != OK) {
        return error;
    }
    error = disk->ops->read(disk, file, job->buf->data, job->buf->size, job->message.position, &got);
    disk->ops->close(disk, file);
    return error == OK && got != job->buf->size ? ERR_CORRUPT : error;
}

static void chunk_job__run(struct snapshot_job *base)
{
    struct chunk_job *job = (struct chunk_job *)base;
    struct send *send = job->send;
    job->error = job->message.part == PEER_SNAPSHOT_ROWS
                     ? chunk_job__read_rows(job)
                     : store_hold_read(send->picture->hold, &send->sent, job->message.base_offset, job->limit,
                                       job->message.position, job->buf->size, job->buf->data);
}

static void chunk_job__drop(struct snapshot_job *base)
{
    struct chunk_job *job = (struct chunk_job *)base;
    buf_unref(job->buf);
    job->send->jobs--;
    send__free_if_over(job->send);
    free(job);
}

static void chunk_job__done(struct snapshot_job *base)
{
    struct chunk_job *job = (struct chunk_job *)base;
    struct send *send = job->send;
    struct broker *b = base->s->broker;
    struct slice payload = {.buf = job->buf, .data = job->buf->data, .size = job->buf->size};
    if (!send->is_over && job->error != OK) {
        mark(b->trace, MARK_SNAPSHOT_NOT_READ);
        trace_warn(b->trace, "snapshot_not_read", "group=%lu base=%ld position=%lu error=%s", send->key.group,
                   (long)job->message.base_offset, job->message.position, err_name(job->error));
        if (job->error == ERR_CORRUPT) {
            picture__doubt(send->picture);
        }
        send__give_up(send, job->error);
    } else if (!send->is_over) {
        job->message.kind = PEER_SNAPSHOT_CHUNK;
        b->counters.snapshot_sent_bytes_total += payload.size;
        if (!peers_send_snapshot(b->peers, send->broker, &job->message, payload)) {
            send__end(send, false);
        }
    }
    chunk_job__drop(base);
}

/* Where the picture's part ends; 0: it has none such. */
static uint64_t send__part_bytes(const struct send *send, const PeerSnapshot *message)
{
    const struct picture *picture = send->picture;
    if (message->part == PEER_SNAPSHOT_ROWS) {
        return picture->rows.size_bytes;
    }
    for (uint32_t i = 0; i < picture->segments_count; i++) {
        if (picture->segments[i].base_offset == message->base_offset) {
            return picture->segments[i].size_bytes;
        }
    }
    return 0;
}

static void send__on_want(struct send *send, const PeerSnapshot *message)
{
    uint64_t limit = send__part_bytes(send, message);
    if (message->position >= limit || message->size_bytes > limit - message->position ||
        send->jobs >= SNAPSHOT_WANTS_MAX) {
        send__give_up(send, ERR_OUT_OF_RANGE); /* no receiver of ours asks for that */
        return;
    }
    struct buf *buf = buf_new(message->size_bytes);
    if (buf == NULL) {
        send__give_up(send, ERR_BUSY);
        return;
    }
    struct chunk_job *job = mem_zeroed(1, sizeof *job);
    job->job.run = chunk_job__run;
    job->job.done = chunk_job__done;
    job->job.drop = chunk_job__drop;
    job->send = send;
    job->message = *message;
    job->limit = limit;
    job->buf = buf;
    send->state = SEND_GOING;
    send->jobs++;
    snapshots__submit(send->s, &job->job);
}

void send__on_message(struct snapshots *s, uint64_t broker, const PeerSnapshot *message)
{
    struct send *send = send__find(s, message->group, message->to);
    if (send == NULL || send->state < SEND_OFFERED || send->transfer != message->transfer || send->broker != broker ||
        send->partition->replica != message->from) {
        return; /* of a transfer that has ended */
    }
    send->since_us = snapshots__now_us(s);
    switch (message->kind) {
    case PEER_SNAPSHOT_WANT:
        send__on_want(send, message);
        break;
    case PEER_SNAPSHOT_END:
        send__pause(send);
        break;
    default:
        send__end(send, true);
    }
}

/* --- others' ends, time --- */

void send__lane_down(struct snapshots *s, uint64_t broker)
{
    struct send *send, *next;
    TAILQ_FOREACH_SAFE(send, &s->active, link, next)
    {
        if (send->broker == broker && send->state >= SEND_OFFERED) {
            send__end(send, false);
        }
    }
}

void send__forget(struct snapshots *s, struct partition *p)
{
    struct send *send, *next;
    struct picture *picture, *next_picture;
    HASH_ITER(hh, s->sends, send, next)
    {
        if (send->partition == p) {
            send__drop(send);
        }
    }
    TAILQ_FOREACH_SAFE(picture, &s->pictures, link, next_picture)
    {
        if (picture->partition != p) {
            continue;
        }
        picture->partition = NULL;
        if (picture->users == 0) {
            picture__free(picture);
        }
    }
}

void send__tick(struct snapshots *s, uint64_t now_us)
{
    struct send *send, *next;
    TAILQ_FOREACH_SAFE(send, &s->active, link, next)
    {
        if (now_us >= send->since_us + s->limits.silence_us) {
            send__give_up(send, ERR_TIMEOUT);
        }
    }
}

static void picture__end(struct picture *picture, enum err why)
{
    struct snapshots *s = picture->s;
    struct send *send, *next;
    picture->users++; /* it stays until all have left */
    picture->is_ended = true;
    TAILQ_FOREACH_SAFE(send, &s->active, link, next)
    {
        if (send->picture == picture) {
            send__give_up(send, why);
        }
    }
    picture__leave(picture);
}

uint64_t send__held_bytes(const struct snapshots *s)
{
    uint64_t bytes = 0;
    const struct picture *picture;
    TAILQ_FOREACH(picture, &s->pictures, link)
    {
        bytes += picture->hold != NULL ? store_hold_bytes(picture->hold) : 0;
    }
    return bytes;
}

/* The oldest ones first: they hold most. */
static void send__free_room(struct snapshots *s)
{
    struct picture *picture, *next;
    bool is_full = broker__disk_full(s->broker);
    TAILQ_FOREACH_SAFE(picture, &s->pictures, link, next)
    {
        uint64_t bytes = picture->is_ready && picture->hold != NULL ? store_hold_bytes(picture->hold) : 0;
        if (bytes > 0 && (is_full || send__held_bytes(s) > s->limits.held_bytes)) {
            picture__end(picture, ERR_STORAGE_FULL);
        }
    }
}

void send__sweep(struct snapshots *s, uint64_t now_us)
{
    struct picture *picture, *next;
    TAILQ_FOREACH_SAFE(picture, &s->pictures, link, next)
    {
        bool is_needless = picture->users == 0 && (now_us >= picture->idle_us + s->limits.idle_us ||
                                                   picture->partition == NULL || !picture__is_reached(picture));
        if (is_needless) {
            picture__free(picture);
        } else if (picture->is_ready && picture__is_old(picture, now_us)) {
            picture__end(picture, ERR_TIMEOUT);
        }
    }
    send__free_room(s);
}

void send__free_all(struct snapshots *s)
{
    struct send *send, *next;
    struct picture *picture;
    HASH_ITER(hh, s->sends, send, next)
    {
        send__drop(send);
    }
    while ((picture = TAILQ_FIRST(&s->pictures)) != NULL) {
        picture->users = 0;
        picture__free(picture);
    }
}
