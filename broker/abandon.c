/* Giving up a group for the sake of the others. What a group has in the WAL and nowhere else pins it: files behind are
 * not released, until the WAL is over its budget and everybody is told BUSY. Usually a checkpoint or writing it again
 * at the head lets go. It cannot be let go when the group's segment does not take what it is given for half a minute of
 * errors, when its log holds what cannot be applied, or when it was withheld and its entries are too many to be written
 * again and again. Once such a group stands in the way, it is damaged: marked so in the checkpoint store, and what it
 * has in the WAL counts as lost from there on. Its files stay, a repair makes of them what can be had. */
#include <stdlib.h>

#include "base/mem.h"
#include "broker/impl.h"

#define ABANDON_RETRY_US 1000000u

struct abandon_job {
    struct disk_job job; /* first */
    struct broker *broker;
    struct partition *partition; /* kept alive by jobs_inflight */
    struct meta_group mark;
    enum err error;
};

static bool abandon__is_stuck(const struct partition *p)
{
    uint32_t failures = 0;
    if (p->state == PARTITION_DAMAGED) {
        return !p->is_withheld || p->window.bytes > checkpoint_reappend_max(p->broker);
    }
    return p->state == PARTITION_LIVE && p->log != NULL && segment_log_error(p->log, &failures) == ERR_IO &&
           failures >= STORE_FAILURES_FINAL;
}

/* The one that pins the oldest file, if it can do nothing about it. */
static struct partition *abandon__find(struct broker *b)
{
    for (struct order_item *item = order_first(&b->live); item != NULL; item = order_next(item)) {
        struct partition *p = item->owner;
        if (!p->damage_saved) {
            return abandon__is_stuck(p) ? p : NULL;
        }
    }
    return NULL;
}

static void abandon__run(struct disk_job *base)
{
    struct abandon_job *job = (struct abandon_job *)base;
    struct kv *kv = job->broker->kv;
    struct kv_txn *txn;
    job->error = kv->ops->begin(kv, true, &txn);
    if (job->error != OK) {
        return;
    }
    job->error = recovery_put_mark(kv, txn, &job->mark);
    if (job->error != OK) {
        kv->ops->abort(kv, txn);
        return;
    }
    job->error = kv->ops->commit(kv, txn);
}

static void abandon__done(struct disk_job *base)
{
    struct abandon_job *job = (struct abandon_job *)base;
    struct broker *b = job->broker;
    struct partition *p = job->partition;
    enum err error = job->error;
    b->abandoning = false;
    p->jobs_inflight--;
    free(job);
    if (p->state == PARTITION_DEAD) {
        groups_reap(p);
    } else if (error == ERR_IO) {
        broker__fail(b, BROKER_EXIT_STORAGE, "checkpoint store failed");
    } else if (error != OK) { /* no room: again in a moment */
        b->abandon_due_us = clock_now_us(b->clock) + ABANDON_RETRY_US;
    } else {
        struct wal_record record = {
            .type = WAL_DAMAGED, .group = p->group, .replica = p->replica, .index = p->damaged_lsn};
        p->damage_saved = true;
        p->has_picture = true;
        wal_append(b->wal, &record); /* for readers of the log; pins nothing */
        checkpoint_release(b);
    }
}

void abandon_turn(struct broker *b)
{
    uint64_t budget = b->config->wal_budget_bytes;
    if (b->abandoning || wal_used_bytes(b->wal) <= budget - budget / WAL_ABANDON_PARTS ||
        clock_now_us(b->clock) < b->abandon_due_us) {
        return;
    }
    struct partition *p = abandon__find(b);
    if (p == NULL) {
        return;
    }
    trace_error(b->trace, "group_given_up", "group=%lu lsn=%lu why=\"it pins the write-ahead log\"", p->group,
                p->live_lsn);
    partition_give_up(p);
    struct abandon_job *job = mem_zeroed(1, sizeof *job);
    job->job.run = abandon__run;
    job->job.done = abandon__done;
    job->broker = b;
    job->partition = p;
    recovery_describe_mark(p, &job->mark);
    p->jobs_inflight++;
    b->abandoning = true;
    b->disk->ops->submit(b->disk, DISK_LANE_STORE, &job->job);
}
