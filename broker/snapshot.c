/* The registry of snapshots: the lists of what is sent and received, time, and the sweep. See snapshot.h. */
#include "broker/snapshot_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

/* --- at start: what an earlier life left --- */

struct leftovers {
    char (*paths)[SNAPSHOT_PATH_BYTES];
    uint32_t count, capacity;
};

static void leftovers__add(void *context, const char *name)
{
    struct leftovers *found = context;
    if (found->count == found->capacity) {
        found->capacity = found->capacity == 0 ? 16 : found->capacity * 2;
        found->paths = mem_grow(found->paths, found->capacity * sizeof *found->paths);
    }
    int length = snprintf(found->paths[found->count], SNAPSHOT_PATH_BYTES, SNAPSHOT_DIR "/%s", name);
    found->count += length > 0 && length < SNAPSHOT_PATH_BYTES;
}

static enum err remove_leftovers(struct broker *b)
{
    struct leftovers found = {0};
    enum err error = b->disk->ops->list(b->disk, SNAPSHOT_DIR, leftovers__add, &found);
    for (uint32_t i = 0; error == OK && i < found.count; i++) {
        error = b->disk->ops->unlink(b->disk, found.paths[i]);
    }
    if (found.count > 0) {
        trace_info(b->trace, "snapshot_leftovers", "files=%u", found.count);
    }
    free(found.paths);
    if (error == ERR_NO_FILE) {
        error = b->disk->ops->make_dir(b->disk, SNAPSHOT_DIR);
    }
    return error;
}

enum err snapshots_new(struct broker *b, struct snapshots **ret_snapshots)
{
    enum err error = remove_leftovers(b);
    if (error != OK) {
        return error;
    }
    struct snapshots *s = mem_zeroed(1, sizeof *s);
    s->broker = b;
    s->limits = (struct snapshots_limits){.held_bytes = SNAPSHOT_HELD_BYTES_MAX,
                                          .age_us = SNAPSHOT_AGE_US_MAX,
                                          .sweep_us = SNAPSHOT_SWEEP_US,
                                          .idle_us = SNAPSHOT_IDLE_US,
                                          .silence_us = SNAPSHOT_SILENCE_US,
                                          .retry_us = SNAPSHOT_RETRY_US,
                                          .chunk_bytes = SNAPSHOT_CHUNK_BYTES_MAX};
    s->tick_us = s->sweep_us = UINT64_MAX;
    s->next_id = broker__random_id(b); /* nobody takes a word about a transfer of an earlier life for this one's */
    TAILQ_INIT(&s->active);
    TAILQ_INIT(&s->pictures);
    TAILQ_INIT(&s->jobs);
    *ret_snapshots = s;
    return OK;
}

void snapshots_free(struct snapshots *s)
{
    struct snapshot_job *job;
    if (s == NULL) {
        return;
    }
    s->is_closing = true;
    while ((job = TAILQ_FIRST(&s->jobs)) != NULL) {
        TAILQ_REMOVE(&s->jobs, job, link);
        job->drop(job);
    }
    send__free_all(s);
    receipt__free_all(s);
    free(s);
}

/* --- jobs --- */

static void snapshots__run(struct disk_job *base)
{
    struct snapshot_job *job = (struct snapshot_job *)base;
    job->run(job);
}

static void snapshots__done(struct disk_job *base)
{
    struct snapshot_job *job = (struct snapshot_job *)base;
    TAILQ_REMOVE(&job->s->jobs, job, link);
    job->done(job);
}

void snapshots__submit(struct snapshots *s, struct snapshot_job *job)
{
    job->job = (struct disk_job){.run = snapshots__run, .done = snapshots__done};
    job->s = s;
    TAILQ_INSERT_TAIL(&s->jobs, job, link);
    s->broker->disk->ops->submit(s->broker->disk, DISK_LANE_STORE, &job->job);
}

bool snapshot_is_busy(const struct broker *b)
{
    return b->snapshots != NULL && !TAILQ_EMPTY(&b->snapshots->jobs);
}

struct unlink_job {
    struct snapshot_job job; /* first */
    uint32_t count;
    char paths[][SNAPSHOT_PATH_BYTES];
};

static void unlink_job__run(struct snapshot_job *base)
{
    struct unlink_job *job = (struct unlink_job *)base;
    struct broker *b = base->s->broker;
    for (uint32_t i = 0; i < job->count; i++) {
        enum err error = b->disk->ops->unlink(b->disk, job->paths[i]);
        if (error != OK && error != ERR_NO_FILE) { /* the next start finds it */
            trace_warn(b->trace, "snapshot_not_removed", "path=%s error=%s", job->paths[i], err_name(error));
        }
    }
}

static void unlink_job__end(struct snapshot_job *base)
{
    free(base);
}

void snapshots__unlink(struct snapshots *s, char (*paths)[SNAPSHOT_PATH_BYTES], uint32_t paths_count)
{
    if (paths_count == 0 || s->is_closing) {
        return;
    }
    struct unlink_job *job = mem_zeroed(1, sizeof *job + paths_count * sizeof job->paths[0]);
    job->job.run = unlink_job__run;
    job->job.done = job->job.drop = unlink_job__end;
    job->count = paths_count;
    memcpy(job->paths, paths, paths_count * sizeof job->paths[0]);
    snapshots__submit(s, &job->job);
}

/* --- messages --- */

void snapshot_on_message(void *context, uint64_t broker, const PeerSnapshot *message, const uint8_t *payload,
                         uint32_t payload_size)
{
    struct snapshots *s = ((struct broker *)context)->snapshots;
    if (s == NULL || s->broker->failed) {
        return;
    }
    switch (message->kind) {
    case PEER_SNAPSHOT_HAVE_IT:
    case PEER_SNAPSHOT_WANT:
    case PEER_SNAPSHOT_DONE:
        send__on_message(s, broker, message);
        break;
    case PEER_SNAPSHOT_ASK:
        send__on_ask(s, broker, message);
        break;
    case PEER_SNAPSHOT_END: /* either side says it; one of the two knows the transfer */
        send__on_message(s, broker, message);
        receipt__on_message(s, broker, message, payload, payload_size);
        break;
    default:
        receipt__on_message(s, broker, message, payload, payload_size);
    }
}

void snapshot_on_lane_down(void *context, uint64_t broker)
{
    struct snapshots *s = ((struct broker *)context)->snapshots;
    if (s != NULL) {
        send__lane_down(s, broker);
        receipt__lane_down(s, broker);
    }
}

void snapshot_forget(struct partition *p)
{
    struct snapshots *s = p->broker->snapshots;
    if (s != NULL) {
        send__forget(s, p);
        receipt__forget(s, p);
    }
}

/* --- time --- */

uint64_t snapshots__now_us(const struct snapshots *s)
{
    return clock_now_us(s->broker->clock);
}

void snapshots__wake(struct snapshots *s)
{
    if (s->tick_us == UINT64_MAX) {
        s->tick_us = snapshots__now_us(s) + s->limits.retry_us;
        s->sweep_us = snapshots__now_us(s) + s->limits.sweep_us;
    }
}

void snapshot_turn(struct broker *b)
{
    struct snapshots *s = b->snapshots;
    if (s->tick_us != UINT64_MAX && b->stop_step == STOP_ANSWER) {
        send__turn(s);
        receipt__turn(s);
    }
}

void snapshot_timer(struct broker *b, uint64_t now_us)
{
    struct snapshots *s = b->snapshots;
    if (now_us < s->tick_us) {
        return;
    }
    send__tick(s, now_us);
    if (now_us >= s->sweep_us) {
        s->sweep_us = now_us + s->limits.sweep_us;
        send__sweep(s, now_us);
        receipt__sweep(s, now_us);
    }
    bool is_idle = s->sends == NULL && TAILQ_EMPTY(&s->pictures) && s->receipts == NULL;
    s->tick_us = is_idle ? UINT64_MAX : now_us + s->limits.retry_us;
}

uint64_t snapshot_deadline_us(const struct broker *b)
{
    return b->snapshots->tick_us;
}

/* --- for pages and tests --- */

void snapshot_state(const struct broker *b, struct snapshots_state *ret_state)
{
    const struct snapshots *s = b->snapshots;
    *ret_state = (struct snapshots_state){.waiting = s->sends_count - s->active_count,
                                          .sending = s->active_count,
                                          .pictures = s->pictures_count,
                                          .held_bytes = send__held_bytes(s)};
    for (const struct receipt *r = s->receipts; r != NULL; r = r->hh.next) {
        ret_state->receiving++;
        ret_state->installing += r->state == RECEIPT_INSTALLING;
    }
}

void snapshot_limit(struct broker *b, const struct snapshots_limits *limits)
{
    b->snapshots->limits = *limits;
    if (b->snapshots->tick_us != UINT64_MAX) {
        b->snapshots->tick_us = b->snapshots->sweep_us = 0;
    }
}
