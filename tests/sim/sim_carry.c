/* See sim_carry.h. */
#include "sim_carry.h"

#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "base/assert.h"
#include "broker/impl.h"
#include "meta/layout.h"
#include "meta/row.h"

struct carrying {
    struct disk *from, *to;
    uint64_t group;
};

static struct broker *broker_at(struct trio *t, uint64_t id)
{
    return t->broker[id].broker != NULL && t->broker[id].ready ? t->broker[id].broker : NULL;
}

static struct partition *replica_at(struct trio *t, uint64_t group, uint64_t id)
{
    struct broker *b = broker_at(t, id);
    return b != NULL ? groups_find(b, group) : NULL;
}

struct copying {
    struct kv *kv;
    struct kv_txn *txn;
};

static enum err copy_row(void *context, struct kv_bytes key, struct kv_bytes value)
{
    struct copying *to = context;
    return row_put(to->kv, to->txn, key, value);
}

/* The rows of the group as they stand in one store, put into another one as those of this replica. */
static void copy_rows(uint64_t group, struct kv *from, struct kv *to_kv, const struct meta_group *replica)
{
    static const enum layout_type types[] = {LAYOUT_SEGMENT, LAYOUT_EPOCH, LAYOUT_DONE};
    struct copying to = {.kv = to_kv};
    struct kv_txn *txn;
    struct meta_group row;
    enum err error = from->ops->begin(from, false, &txn);
    ASSERT(error == OK);
    error = to_kv->ops->begin(to_kv, true, &to.txn);
    ASSERT(error == OK);
    error = meta_delete_group(to_kv, to.txn, group);
    for (size_t i = 0; error == OK && i < sizeof types / sizeof types[0]; i++) {
        struct layout_key prefix;
        layout_group_key(&prefix, types[i], group);
        error = row_scan(from, txn, layout_bytes(&prefix), copy_row, &to);
    }
    ASSERT(error == OK);
    error = meta_get_group(from, txn, group, &row);
    ASSERT(error == OK);
    row.vote = replica->term >= row.term ? replica->vote : 0;
    row.term = replica->term >= row.term ? replica->term : row.term;
    row.replica = replica->replica;
    row.snapshot_lsn = replica->snapshot_lsn;
    row.repaired_lsn = 0;
    error = meta_put_group(to_kv, to.txn, &row);
    ASSERT(error == OK);
    from->ops->abort(from, txn);
    error = to_kv->ops->commit(to_kv, to.txn);
    ASSERT(error == OK);
}

static void copy_file(void *context, const char *name)
{
    static uint8_t bytes[8u << 20];
    const struct carrying *c = context;
    struct disk *from = c->from, *to = c->to;
    struct disk_file *file;
    char path[128];
    size_t size;
    if (strstr(name, ".log") == NULL) {
        return;
    }
    snprintf(path, sizeof path, "parts/%lu/%s", c->group, name);
    enum err error = from->ops->open(from, path, DISK_READ, &file);
    ASSERT(error == OK);
    error = from->ops->read(from, file, bytes, sizeof bytes, 0, &size);
    ASSERT(error == OK && size < sizeof bytes);
    from->ops->close(from, file);
    error = to->ops->open(to, path, DISK_WRITE | DISK_CREATE, &file);
    ASSERT(error == OK);
    error = to->ops->truncate(to, file, 0);
    ASSERT(error == OK);
    error = to->ops->write(to, file, &(struct iovec){bytes, size}, 1, 0);
    ASSERT(error == OK);
    error = to->ops->sync(to, file);
    ASSERT(error == OK);
    to->ops->close(to, file);
}

/* Waits until the log of this broker is at rest; false: it does not come to rest, or the broker died. */
static bool is_at_rest(struct trio *t, uint64_t id)
{
    for (int i = 0; i < 500; i++) {
        const struct broker *b = broker_at(t, id);
        if (b == NULL || wal_durable_lsn(b->wal) == wal_next_lsn(b->wal)) {
            return b != NULL;
        }
        trio_run(t, 1000);
    }
    return false;
}

static bool leads_in(struct trio *t, uint64_t group, uint64_t id, uint64_t term)
{
    const struct partition *p = replica_at(t, group, id);
    return p != NULL && p->raft != NULL && raft_role(p->raft) == RAFT_LEADER && raft_term(p->raft) == term;
}

/* The leader's last checkpoint goes to another broker, whose process dies meanwhile. */
static void carry(struct trio *t, uint64_t group, uint64_t from, uint64_t to)
{
    struct partition *leader = replica_at(t, group, from), *p = replica_at(t, group, to);
    uint64_t replica = p->replica, index = leader->applied_index;
    uint64_t term = raft_term(leader->raft);
    world_enter(&t->world);
    checkpoint_want(leader);
    world_leave(&t->world);
    for (int i = 0; i < 100 && leader->checkpoint_index < index; i++) {
        trio_run(t, 10000);
    }
    if (!is_at_rest(t, to) || !leads_in(t, group, from, term) || replica_at(t, group, to) != p ||
        p->state != PARTITION_LIVE || leader->checkpoint_index < index ||
        p->applied_index >= leader->checkpoint_index || window_last(&p->window) >= leader->checkpoint_index) {
        return;
    }
    index = leader->checkpoint_index;
    const struct meta_group row = {.replica = replica,
                                   .term = p->term_saved,
                                   .vote = p->vote_saved,
                                   .snapshot_lsn = wal_next_lsn(broker_at(t, to)->wal)};
    struct disk *disk = sim_disk_port(t->broker[from].disk), *other = sim_disk_port(t->broker[to].disk);
    struct carrying files = {.from = disk, .to = other, .group = group};
    char path[64];
    snprintf(path, sizeof path, "parts/%lu", group);
    trio_crash(t, to, false);
    enum err error = other->ops->make_dir(other, path);
    ASSERT(error == OK);
    error = disk->ops->list(disk, path, copy_file, &files);
    ASSERT(error == OK || error == ERR_NO_FILE);
    error = other->ops->sync_dir(other, path);
    ASSERT(error == OK);
    error = other->ops->sync_all(other);
    ASSERT(error == OK);
    copy_rows(group, t->broker[from].kv, t->broker[to].kv, &row);
    trio_start(t, to);
    for (int i = 0; i < 200 && broker_at(t, to) == NULL; i++) {
        trio_run(t, 10000);
    }
    if (leads_in(t, group, from, term)) {
        world_enter(&t->world);
        raft_step(replica_at(t, group, from)->raft,
                  &(struct raft_event){.type = RAFT_SNAPSHOT_DONE,
                                       .snapshot = {.peer = replica, .index = index, .ok = true}});
        partition_mark_dirty(replica_at(t, group, from));
        world_leave(&t->world);
    }
}

/* Whoever needs one gets a snapshot, from whoever leads in the highest term: he may need it to serve anybody. */
void sim_carry(struct trio *t, uint64_t group)
{
    struct members now;
    uint64_t leader = 0, term = 0;
    for (uint64_t id = 1; id <= t->brokers; id++) {
        const struct partition *p = replica_at(t, group, id);
        if (p != NULL && p->raft != NULL && leads_in(t, group, id, raft_term(p->raft)) && raft_term(p->raft) > term) {
            leader = id;
            term = raft_term(p->raft);
        }
    }
    if (leader == 0) {
        return;
    }
    (void)roster_newest(&replica_at(t, group, leader)->roster, &now);
    for (uint32_t i = 0; i < now.count; i++) {
        struct raft_peer_state state;
        const struct partition *p = replica_at(t, group, leader), *to = replica_at(t, group, now.member[i].broker);
        if (leads_in(t, group, leader, term) && to != NULL && to->replica == now.member[i].replica &&
            to->state == PARTITION_LIVE && !to->broker->disk_is_full && raft_peer_state(p->raft, to->replica, &state) &&
            state.in_snapshot) {
            carry(t, group, leader, now.member[i].broker);
        }
    }
}
