/* The log of a group as it must be: every entry that was ever durable anywhere, with the history it stands on, and
 * which of them are committed. An entry is known from the disks, not from what anybody says: what a leader commits
 * must already be there. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "broker/entry.h"
#include "judge_impl.h"

void ghost__free(struct judge_group *group)
{
    struct acked_batch *batch, *next;
    for (uint64_t i = 0; i < group->items_capacity; i++) {
        struct ghost_entry *entry = group->items[i].first.other;
        while (entry != NULL) {
            struct ghost_entry *other = entry->other;
            free(entry);
            entry = other;
        }
    }
    free(group->items);
    HASH_ITER(hh, group->batches, batch, next)
    {
        HASH_DEL(group->batches, batch);
        free(batch);
    }
}

const struct ghost_entry *ghost__at(const struct judge_group *group, uint64_t index, uint64_t term)
{
    if (index >= group->items_capacity || term == 0) {
        return NULL;
    }
    const struct ghost_entry *entry = &group->items[index].first;
    while (entry != NULL && entry->term != term) {
        entry = entry->other;
    }
    return entry;
}

uint64_t ghost__committed_term(const struct judge_group *group, uint64_t index)
{
    return index < group->items_capacity ? group->items[index].committed_term : 0;
}

/* --- what is durable --- */

static struct ghost_entry *ghost_new(struct judge_group *group, uint64_t index)
{
    group->items = sim_grow(group->items, &group->items_capacity, index + 1, sizeof *group->items);
    struct ghost_entry *entry = &group->items[index].first;
    if (entry->term == 0) {
        return entry;
    }
    struct ghost_entry *other = calloc(1, sizeof *other);
    ASSERT(other != NULL);
    other->other = entry->other;
    entry->other = other;
    return other;
}

static uint64_t mixed(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

void ghost__durable(struct judge *judge, struct judge_group *group, uint64_t replica, const struct wal_record *record,
                    uint64_t prev_term)
{
    uint64_t index = record->index;
    uint32_t crc = crc32c(0, record->payload.data, record->payload.size);
    const struct ghost_entry *before = ghost__at(group, index - 1, prev_term);
    const struct ghost_entry *known = ghost__at(group, index, record->term);
    if (index > 1 && before == NULL) {
        judge__fail(judge, JUDGE_R3, group, replica, "entry %llu of term %llu stands behind one that nobody has",
                    (unsigned long long)index, (unsigned long long)record->term);
        return;
    }
    uint64_t hash = mixed(mixed(mixed(before != NULL ? before->hash : 1, record->term), record->entry_type), crc) | 1;
    if (known == NULL) {
        struct ghost_entry *entry = ghost_new(group, index);
        struct batch_header header;
        entry->term = record->term;
        entry->prev_term = prev_term;
        entry->hash = hash;
        entry->crc = crc;
        entry->type = record->entry_type;
        if (entry->type == ENTRY_DATA && batch_parse(record->payload.data, record->payload.size, &header) == OK) {
            entry->batch_crc = header.crc;
        }
        if (judge->watcher.durable != NULL) {
            judge->watcher.durable(judge->watcher.context, record);
        }
        return;
    }
    judge__count(judge, JUDGE_R3);
    if (known->hash != hash) {
        judge__fail(judge, JUDGE_R3, group, replica, "entry %llu of term %llu is another one, or has another history",
                    (unsigned long long)index, (unsigned long long)record->term);
    }
}

/* --- what is committed --- */

struct counting {
    struct judge *judge;
    struct judge_group *group;
    uint64_t index, term;
    uint64_t leader_term;
};

static bool is_held_by(void *context, uint64_t replica)
{
    const struct counting *c = context;
    const struct judge_replica *r = judge__replica(c->group, replica);
    /* Who was deleted meanwhile had it: deleting is no loss. */
    if (r == NULL || r->image.is_dead) {
        return r != NULL;
    }
    if (!disk__is_sound(r)) { /* lost since, but the leader was told before */
        return r->ack_term == c->leader_term && r->ack_index >= c->index;
    }
    return disk__holds(c->judge, c->group, r, c->index, c->term);
}

/* The configuration may have changed behind the commit, in the same turn. */
static bool is_held_by_quorum(struct judge *judge, struct judge_group *group, const struct judge_sight *sight)
{
    const struct judge_replica *r = judge__replica(group, sight->replica);
    uint64_t term = sight->term_of(sight->context, sight->commit); /* the leader's own */
    struct counting counting = {judge, group, sight->commit, term, term};
    judge__count(judge, JUDGE_W1);
    for (uint32_t i = 0; i < sight->config->count; i++) {
        const struct raft_member *m = &sight->config->members[i];
        if (m->now != RAFT_VOTER || m->next != RAFT_VOTER) {
            judge__count(judge, JUDGE_R18);
            break;
        }
    }
    return judge__is_quorum(sight->config, is_held_by, &counting) ||
           (r != NULL && r->was_seen && judge__is_quorum(&r->config, is_held_by, &counting));
}

static void remember_batch(struct judge_group *group, uint64_t index, uint32_t crc)
{
    struct acked_batch *batch;
    HASH_FIND(hh, group->batches, &crc, sizeof crc, batch);
    if (batch == NULL) {
        batch = calloc(1, sizeof *batch);
        ASSERT(batch != NULL);
        batch->crc = crc;
        batch->index = index;
        HASH_ADD(hh, group->batches, crc, sizeof batch->crc, batch);
    }
}

/* From the newest one back, along the history that it stands on. */
static void commit_history(struct judge *judge, struct judge_group *group, const struct judge_sight *sight,
                           uint64_t term, uint64_t leader_term)
{
    for (uint64_t index = sight->commit; index > group->committed; index--) {
        const struct ghost_entry *entry = ghost__at(group, index, term);
        if (entry == NULL) {
            judge__fail(judge, JUDGE_R3, group, sight->replica, "entry %llu of term %llu, committed, was never durable",
                        (unsigned long long)index, (unsigned long long)term);
            return;
        }
        struct ghost_item *item = &group->items[index];
        item->committed_term = term;
        item->committed_in = leader_term;
        if (entry->batch_crc != 0) {
            remember_batch(group, index, entry->batch_crc);
        }
        term = entry->prev_term;
    }
    judge__count(judge, JUDGE_R4);
    if (group->committed > 0 && term != ghost__committed_term(group, group->committed)) {
        judge__fail(judge, JUDGE_R4, group, sight->replica,
                    "what is committed up to %llu stands on term %llu at %llu, where term %llu is committed",
                    (unsigned long long)sight->commit, (unsigned long long)term, (unsigned long long)group->committed,
                    (unsigned long long)ghost__committed_term(group, group->committed));
    }
    uint64_t first = group->committed + 1;
    group->committed = sight->commit;
    for (uint64_t index = first; judge->watcher.committed != NULL && index <= sight->commit; index++) {
        judge->watcher.committed(judge->watcher.context, group->id, index, ghost__committed_term(group, index));
    }
}

/* In which it leads, did when it was last seen, or has since, as its rows have said; 0: none. */
static uint64_t leader_term_of(struct judge_group *group, const struct judge_replica *r,
                               const struct judge_sight *sight)
{
    if (sight->role == RAFT_LEADER || r == NULL) {
        return sight->role == RAFT_LEADER ? sight->term : 0;
    }
    uint64_t since = r->term < sight->term ? r->term : sight->term;
    for (uint64_t t = sight->term; t >= since && t > 0 && r->led_term == 0; t--) {
        if (judge__term(group, t)->leader == r->id) {
            return t;
        }
    }
    return r->led_term;
}

static void leader_commits(struct judge *judge, struct judge_group *group, const struct judge_sight *sight)
{
    const struct judge_replica *r = judge__replica(group, sight->replica);
    uint64_t leader_term = leader_term_of(group, r, sight);
    uint64_t term = sight->term_of(sight->context, sight->commit);
    judge__count(judge, JUDGE_R7);
    if (leader_term == 0) {
        judge__fail(judge, JUDGE_R5, group, sight->replica, "it takes %llu for committed, leaders only %llu",
                    (unsigned long long)sight->commit, (unsigned long long)group->committed);
    } else if (term != leader_term) {
        judge__fail(judge, JUDGE_R7, group, sight->replica, "the leader of term %llu commits entry %llu of term %llu",
                    (unsigned long long)leader_term, (unsigned long long)sight->commit, (unsigned long long)term);
    } else if (!is_held_by_quorum(judge, group, sight)) {
        judge__fail(judge, JUDGE_W1, group, sight->replica,
                    "entry %llu of term %llu is committed, and not durable at majorities of voters",
                    (unsigned long long)sight->commit, (unsigned long long)term);
    } else {
        commit_history(judge, group, sight, term, leader_term);
    }
}

void ghost__commits(struct judge *judge, struct judge_group *group, const struct judge_sight *sight)
{
    if (sight->commit > group->committed) {
        leader_commits(judge, group, sight);
        return;
    }
    uint64_t term = sight->term_of(sight->context, sight->commit);
    judge__count(judge, JUDGE_R5);
    if (sight->commit > 0 && term != 0 && term != ghost__committed_term(group, sight->commit)) {
        judge__fail(judge, JUDGE_R5, group, sight->replica,
                    "it takes entry %llu of term %llu for committed, the one of term %llu is",
                    (unsigned long long)sight->commit, (unsigned long long)term,
                    (unsigned long long)ghost__committed_term(group, sight->commit));
    }
}

/* --- elections --- */

static bool has_voted(void *context, uint64_t replica)
{
    const struct counting *c = context;
    const struct judge_replica *r = judge__replica(c->group, replica);
    const struct judge_term *t = judge__term(c->group, c->term);
    return r != NULL && (t->votes[c->index] >> r->place & 1);
}

void ghost__elected(struct judge *judge, struct judge_group *group, const struct judge_sight *sight)
{
    struct judge_replica *r = judge__replica(group, sight->replica);
    struct judge_term *t = judge__term(group, sight->term);
    uint64_t last = group->committed; /* in earlier terms: a leader may be late, and deposed already */
    while (last > 0 && group->items[last].committed_in >= sight->term) {
        last--;
    }
    uint64_t term = sight->term_of(sight->context, last);
    judge__count(judge, JUDGE_R4);
    if (last > 0 && (sight->last < last || (term != 0 && term != ghost__committed_term(group, last)))) {
        judge__fail(judge, JUDGE_R4, group, sight->replica,
                    "it leads in term %llu without entry %llu of term %llu, which is committed",
                    (unsigned long long)sight->term, (unsigned long long)last,
                    (unsigned long long)ghost__committed_term(group, last));
    }
    judge__count(judge, JUDGE_R8);
    if (disk__term(judge, r) < sight->term || (disk__term(judge, r) == sight->term && disk__vote(judge, r) != r->id)) {
        judge__fail(judge, JUDGE_R8, group, sight->replica, "it leads in term %llu, its disk has term %llu, vote %llu",
                    (unsigned long long)sight->term, (unsigned long long)disk__term(judge, r),
                    (unsigned long long)disk__vote(judge, r));
    }
    t->votes[r->place] |= (uint64_t)1 << r->place;
    struct counting counting = {judge, group, r->place, sight->term, sight->term};
    judge__count(judge, JUDGE_R18);
    if (!judge__is_quorum(sight->config, has_voted, &counting)) {
        judge__fail(judge, JUDGE_R18, group, sight->replica, "it leads in term %llu without the votes of majorities",
                    (unsigned long long)sight->term);
    }
}
