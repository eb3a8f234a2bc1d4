/* What all groups share: finding them, the ring of writes on their way to the disk, what they need of the WAL, and the
 * end of dead ones. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/forget.h"
#include "broker/heal.h"
#include "broker/impl.h"
#include "broker/router.h"

#define PERSISTS_CAPACITY_MIN 1024u
#define DEAD_WRITE_ID         (UINT64_MAX - 1) /* of groups_persist_add: a GROUP_DEAD record */
#define DYING_RETRY_US        1000000u

struct partition *groups_find(struct broker *b, uint64_t group)
{
    struct partition *p;
    HASH_FIND(hh, b->groups, &group, sizeof group, p);
    return p;
}

enum err groups_missing(const struct broker *b, uint64_t group)
{
    for (const struct topic *topic = catalog_first(b->catalog); topic != NULL; topic = topic->hh.next) {
        bool is_stable = topic->row.state == TOPIC_LIVE || topic->row.state == TOPIC_UNREADABLE;
        uint32_t number;
        if (is_stable && catalog_has(topic, group, &number)) {
            return catalog_missing(topic, number);
        }
    }
    return ERR_UNKNOWN_PARTITION;
}

static void groups__grow(struct broker *b)
{
    uint32_t capacity = b->persists_capacity == 0 ? PERSISTS_CAPACITY_MIN : b->persists_capacity * 2;
    struct persist_item *ring = mem_zeroed(capacity, sizeof *ring);
    for (uint32_t i = 0; i < b->persists_count; i++) {
        ring[i] = b->persists[(b->persists_head + i) & (b->persists_capacity - 1)];
    }
    free(b->persists);
    b->persists = ring;
    b->persists_capacity = capacity;
    b->persists_head = 0;
}

void groups_persist_add(struct broker *b, struct partition *p, uint64_t write_id, uint64_t lsn)
{
    if (PLANT(14)) {
        partition_persisted(p, write_id);
        return;
    }
    if (b->persists_count == b->persists_capacity) {
        groups__grow(b);
    }
    uint32_t at = (b->persists_head + b->persists_count) & (b->persists_capacity - 1);
    b->persists[at] = (struct persist_item){.partition = p, .write_id = write_id, .lsn = lsn};
    b->persists_count++;
    p->writes_inflight++;
}

static void groups__remove_data(struct partition *p);

void groups_on_persisted(void *context, uint64_t lsn_end)
{
    struct broker *b = context;
    struct wal_stats stats;
    wal_stats(b->wal, &stats);
    counters_observe(&b->counters.wal_sync_seconds, stats.last_sync_us);
    router_on_persisted(b, lsn_end);
    while (b->persists_count > 0 && b->persists[b->persists_head].lsn < lsn_end) {
        struct persist_item item = b->persists[b->persists_head];
        struct partition *p = item.partition;
        b->persists_head = (b->persists_head + 1) & (b->persists_capacity - 1);
        b->persists_count--;
        p->writes_inflight--;
        if (item.write_id == DEAD_WRITE_ID) {
            groups__remove_data(p);
        } else if (p->state == PARTITION_DEAD) {
            groups_reap(p);
        } else if (item.write_id == 0) {
            catalog_partition_born(b->catalog, p);
        } else if (item.write_id == HEAL_WRITE_ID) {
            heal_on_persisted(p);
        } else if (item.write_id == ANEW_WRITE_ID) {
            checkpoint_want(p);
        } else {
            partition_persisted(p, item.write_id);
        }
    }
}

/* --- the end of a group: files first, then rows, then memory --- */

/* A group of which something is still there: another replica of it may not begin here yet. Its rows alone would make a
 * start take it for alive, as it was at its last checkpoint, with votes and entries that it has given since forgotten:
 * until they are gone the log must say that it is dead. */
struct dying {
    uint64_t group, replica;
    uint64_t lsn; /* of the last record that says so; rising along the list */
    bool waits;   /* its rows did not go: again in a moment */
    TAILQ_ENTRY(dying) link;
};

static struct dying *groups__dying(const struct broker *b, uint64_t group)
{
    struct dying *dying;
    TAILQ_FOREACH(dying, &b->dying, link)
    {
        if (dying->group == group) {
            return dying;
        }
    }
    return NULL;
}

static void groups__forget_dying(struct broker *b, uint64_t group)
{
    struct dying *dying = groups__dying(b, group);
    TAILQ_REMOVE(&b->dying, dying, link);
    free(dying);
}

struct removal {
    struct disk_job job; /* first */
    struct broker *broker;
    uint64_t group;
    struct partition *partition; /* kept alive by jobs_inflight; NULL: freed, this is not the first try */
    enum err error;
};

static void removal__run(struct disk_job *job)
{
    struct removal *removal = (struct removal *)job;
    struct kv *kv = removal->broker->kv;
    struct kv_txn *txn;
    point(removal->broker->trace, POINT_GROUP_REMOVE);
    removal->error = kv->ops->begin(kv, true, &txn);
    if (removal->error != OK) {
        return;
    }
    removal->error = meta_delete_group(kv, txn, removal->group);
    if (removal->error != OK) {
        kv->ops->abort(kv, txn);
        return;
    }
    removal->error = kv->ops->commit(kv, txn);
}

static void removal__done(struct disk_job *job)
{
    struct removal *removal = (struct removal *)job;
    struct broker *b = removal->broker;
    struct partition *p = removal->partition;
    if (removal->error == ERR_IO) {
        broker__fail(b, BROKER_EXIT_STORAGE, "checkpoint store failed");
    } else if (removal->error != OK) { /* no room: again in a moment */
        if (p != NULL) {
            trace_warn(b->trace, "remove_failed", "group=%lu error=%s", removal->group, err_name(removal->error));
            groups__dying(b, removal->group)->waits = true;
            b->dying_waiting++;
        }
        b->dying_due_us = clock_now_us(b->clock) + DYING_RETRY_US;
    } else {
        trace_info(b->trace, "group_removed", "group=%lu", removal->group);
        b->dying_waiting -= groups__dying(b, removal->group)->waits;
        groups__forget_dying(b, removal->group);
        forget_add(b, removal->group);
    }
    free(removal);
    if (p == NULL) {
        b->removing_again = false;
        return;
    }
    p->jobs_inflight--;
    groups_reap(p);
}

static void groups__submit_removal(struct broker *b, uint64_t group, struct partition *p)
{
    struct removal *removal = mem_zeroed(1, sizeof *removal);
    removal->job.run = removal__run;
    removal->job.done = removal__done;
    removal->broker = b;
    removal->group = group;
    removal->partition = p;
    b->disk->ops->submit(b->disk, DISK_LANE_STORE, &removal->job);
}

static void groups__remove_rows(void *context)
{
    struct partition *p = context;
    groups__submit_removal(p->broker, p->group, p);
}

void groups_turn(struct broker *b)
{
    struct dying *dying;
    if (b->dying_waiting == 0 || b->removing_again || b->stopping || clock_now_us(b->clock) < b->dying_due_us) {
        return;
    }
    TAILQ_FOREACH(dying, &b->dying, link)
    {
        if (dying->waits) { /* one at a time: what does not go for one does not go for the others */
            b->removing_again = true;
            groups__submit_removal(b, dying->group, NULL);
            return;
        }
    }
}

uint64_t groups_deadline_us(const struct broker *b)
{
    return b->dying_waiting > 0 && !b->removing_again && !b->stopping ? b->dying_due_us : UINT64_MAX;
}

bool groups_is_dying(const struct broker *b, uint64_t group)
{
    return groups__dying(b, group) != NULL;
}

uint64_t groups_pinned_lsn(const struct broker *b)
{
    const struct dying *dying = TAILQ_FIRST(&b->dying);
    uint64_t dead_lsn = dying != NULL ? dying->lsn : UINT64_MAX;
    /* What is left of a damaged group's log is kept for a repair while there is room; then the others go first. */
    bool crowded = wal_wants_release(b->wal);
    for (struct order_item *item = order_first(&b->live); item != NULL; item = order_next(item)) {
        const struct partition *p = item->owner;
        if (!crowded || !p->damage_saved) {
            return item->key < dead_lsn ? item->key : dead_lsn;
        }
    }
    return dead_lsn;
}

void groups_free(struct broker *b)
{
    struct dying *dying;
    for (uint32_t i = 0; i < b->persists_count; i++) { /* the log did not say in time that they are dead */
        struct persist_item item = b->persists[(b->persists_head + i) & (b->persists_capacity - 1)];
        if (item.write_id == DEAD_WRITE_ID) {
            partition_free(item.partition);
        }
    }
    while ((dying = TAILQ_FIRST(&b->dying)) != NULL) {
        TAILQ_REMOVE(&b->dying, dying, link);
        free(dying);
    }
}

static uint64_t groups__log_death(struct broker *b, struct dying *dying)
{
    struct wal_record record = {.type = WAL_GROUP_DEAD, .group = dying->group, .replica = dying->replica};
    dying->lsn = wal_append(b->wal, &record);
    TAILQ_INSERT_TAIL(&b->dying, dying, link);
    return dying->lsn;
}

/* Not before the log says for good that it is dead: a start must not find a replica of which only a part is left. */
void groups_remove_data(struct partition *p)
{
    struct dying *dying = mem_zeroed(1, sizeof *dying);
    dying->group = p->group;
    dying->replica = p->replica;
    groups_persist_add(p->broker, p, DEAD_WRITE_ID, groups__log_death(p->broker, dying));
}

void groups_log_deaths_anew(struct broker *b, uint64_t lsn)
{
    struct dying *dying;
    uint64_t next_lsn = wal_next_lsn(b->wal); /* what is appended here is not appended again */
    while ((dying = TAILQ_FIRST(&b->dying)) != NULL && dying->lsn < lsn && dying->lsn < next_lsn) {
        TAILQ_REMOVE(&b->dying, dying, link);
        groups__log_death(b, dying);
    }
}

static void groups__remove_data(struct partition *p)
{
    if (p->log == NULL && p->kind != TOPIC_STATE) { /* unborn, or its rows are damaged and name no files */
        store_remove_dir(p->broker->store, p->group, groups__remove_rows, p);
        return;
    }
    if (p->log == NULL) {
        groups__remove_rows(p);
        return;
    }
    struct segment_log *log = p->log;
    p->log = NULL;
    segment_log_delete(log, groups__remove_rows, p);
}

void groups_reap(struct partition *p)
{
    if (p->state != PARTITION_DEAD || p->writes_inflight > 0 || p->jobs_inflight > 0) {
        return;
    }
    p->broker->dead_count--;
    partition_free(p);
}
