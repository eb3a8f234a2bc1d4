/* Raft messages to rows and back. The two structs say the same: the core does not know protobuf, wire/ does not know
 * Raft. What comes from another broker is checked for what this file does with it; the core checks the rest. */
#include "broker/router.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mark.h"
#include "base/plant.h"
#include "base/point.h"
#include "base/mem.h"
#include "broker/assign.h"
#include "broker/impl.h"
#include "broker/quiet.h"

#define WAITING_CAPACITY_MIN 256u

/* A message that waits for the log; those have no entries. */
struct waiting {
    struct partition *partition; /* NULL: it is gone */
    uint64_t lsn;
    uint64_t to, term, index, index_term, hint, commit, round, damage;
    uint8_t type, flags;
};

struct router {
    struct broker *broker;
    struct waiting *ring; /* owned; lsn never falls from front to back */
    uint32_t capacity, head, count;
    uint64_t durable_lsn; /* everything below it is on the disk */
};

struct router *router_new(struct broker *b)
{
    struct router *router = mem_zeroed(1, sizeof *router);
    router->broker = b;
    return router;
}

void router_free(struct router *router)
{
    if (router != NULL) {
        free(router->ring);
        free(router);
    }
}

uint64_t router_broker_of(const struct partition *p, uint64_t replica)
{
    return roster_broker_of(&p->roster, replica);
}

/* --- out --- */

static enum peer_lane lane_of(enum raft_message_type type)
{
    return type == RAFT_APPEND || type == RAFT_APPEND_REPLY ? PEER_LANE_APPEND : PEER_LANE_CONTROL;
}

static uint8_t flags_of(const struct raft_message *m)
{
    return (uint8_t)((m->reject ? PEER_FLAG_REJECT : 0) | (m->pre ? PEER_FLAG_PRE : 0) |
                     (m->force ? PEER_FLAG_FORCE : 0) | (m->quiet ? PEER_FLAG_QUIET : 0) |
                     (m->damaged ? PEER_FLAG_DAMAGED : 0) | (m->full ? PEER_FLAG_FULL : 0));
}

static void send_row(struct partition *p, RaftRow *row, const struct slice *parts, uint32_t parts_count)
{
    struct broker *b = p->broker;
    uint64_t broker = router_broker_of(p, row->to);
    row->group = p->group;
    row->from = p->replica;
    if (PLANT(3)) {
        row->term = (uint8_t)row->term;
        row->index = (uint8_t)row->index;
    }
    if (!peers_send(b->peers, broker, lane_of((enum raft_message_type)row->type), row, parts, parts_count)) {
        mark(b->trace, MARK_ROW_UNSENT);
        if (!p->installing) {
            raft_step(p->raft, &(struct raft_event){.type = RAFT_UNREACHABLE, .peer = row->to});
        }
        partition_mark_dirty(p);
    }
}

void router_send(struct partition *p, const struct raft_message *m)
{
    struct slice parts[RAFT_APPEND_ENTRIES_MAX];
    RaftRow row = {.type = m->type,
                   .to = m->to,
                   .term = m->term,
                   .index = m->index,
                   .index_term = m->index_term,
                   .hint = m->hint,
                   .commit = m->commit,
                   .round = m->round,
                   .heal = m->heal,
                   .damage = m->damage,
                   .flags = flags_of(m)};
    uint32_t count = m->type == RAFT_APPEND ? (uint32_t)m->count : 0;
    ASSERT(count <= RAFT_APPEND_ENTRIES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const struct window_entry *entry = window_at(&p->window, m->index + 1 + i);
        parts[i] = entry->payload;
        row.entry_types.bytes[i] = entry->type;
    }
    row.entry_types.size = (pb_size_t)count;
    row.run_terms_count = row.run_counts_count = (pb_size_t)(count > 0 ? m->runs_count : 0);
    for (uint32_t i = 0; i < row.run_terms_count; i++) {
        row.run_terms[i] = m->runs[i].term;
        row.run_counts[i] = (uint32_t)m->runs[i].count;
    }
    send_row(p, &row, parts, count);
}

static void router_grow(struct router *router)
{
    uint32_t capacity = router->capacity == 0 ? WAITING_CAPACITY_MIN : router->capacity * 2;
    struct waiting *ring = mem_zeroed(capacity, sizeof *ring);
    for (uint32_t i = 0; i < router->count; i++) {
        ring[i] = router->ring[(router->head + i) & (router->capacity - 1)];
    }
    free(router->ring);
    router->ring = ring;
    router->capacity = capacity;
    router->head = 0;
}

void router_send_after(struct partition *p, const struct raft_message *m, uint64_t lsn)
{
    struct router *router = p->broker->router;
    ASSERT(m->type != RAFT_APPEND);
    if (lsn < router->durable_lsn || lsn == 0 || PLANT(74)) { /* 0: nothing was written since the start */
        router_send(p, m);
        return;
    }
    if (router->count == ROUTER_WAITING_MAX) { /* the log does not get on: what is not said is asked again */
        p->broker->counters.raft_rows_dropped_total++;
        return;
    }
    if (router->count == router->capacity) {
        router_grow(router);
    }
    /* Behind what waits for a later record it waits a little longer than it must. */
    const struct waiting *last = &router->ring[(router->head + router->count - 1) & (router->capacity - 1)];
    uint64_t latest = router->count > 0 && last->lsn > lsn ? last->lsn : lsn;
    if (latest > lsn) {
        mark(p->broker->trace, MARK_WAITS_LONGER);
    }
    router->ring[(router->head + router->count++) & (router->capacity - 1)] =
        (struct waiting){.partition = p,
                         .lsn = latest,
                         .to = m->to,
                         .term = m->term,
                         .index = m->index,
                         .index_term = m->index_term,
                         .hint = m->hint,
                         .commit = m->commit,
                         .round = m->round,
                         .damage = m->damage,
                         .type = (uint8_t)m->type,
                         .flags = flags_of(m)};
    point(p->broker->trace, POINT_ANSWER_WAITS);
}

void router_on_persisted(struct broker *b, uint64_t lsn_end)
{
    struct router *router = b->router;
    router->durable_lsn = lsn_end;
    if (router->count > 0 && router->ring[router->head].lsn < lsn_end) {
        point(b->trace, POINT_ANSWERS_LEAVE);
    }
    while (router->count > 0 && router->ring[router->head].lsn < lsn_end) {
        struct waiting w = router->ring[router->head];
        router->head = (router->head + 1) & (router->capacity - 1);
        router->count--;
        if (w.partition == NULL || w.partition->raft == NULL) {
            mark(b->trace, MARK_WAITER_GONE);
            continue;
        }
        RaftRow row = {.type = w.type,
                       .to = w.to,
                       .term = w.term,
                       .index = w.index,
                       .index_term = w.index_term,
                       .hint = w.hint,
                       .commit = w.commit,
                       .round = w.round,
                       .damage = w.damage,
                       .flags = w.flags};
        send_row(w.partition, &row, NULL, 0);
    }
}

void router_forget(struct partition *p)
{
    struct router *router = p->broker->router;
    for (uint32_t i = 0; i < router->count; i++) {
        struct waiting *w = &router->ring[(router->head + i) & (router->capacity - 1)];
        w->partition = w->partition == p ? NULL : w->partition;
    }
}

/* --- in --- */

static void message_of_row(const RaftRow *row, struct raft_message *m)
{
    *m = (struct raft_message){.type = (enum raft_message_type)row->type,
                               .from = row->from,
                               .to = row->to,
                               .term = row->term,
                               .index = row->index,
                               .index_term = row->index_term,
                               .hint = row->hint,
                               .commit = row->commit,
                               .round = row->round,
                               .heal = row->heal,
                               .damage = row->damage,
                               .reject = row->flags & PEER_FLAG_REJECT,
                               .pre = row->flags & PEER_FLAG_PRE,
                               .force = row->flags & PEER_FLAG_FORCE,
                               .quiet = row->flags & PEER_FLAG_QUIET,
                               .damaged = row->flags & PEER_FLAG_DAMAGED,
                               .full = row->flags & PEER_FLAG_FULL,
                               .runs_count = row->run_terms_count,
                               .count = row->entry_sizes_count};
    for (uint32_t i = 0; i < m->runs_count; i++) {
        m->runs[i] = (struct raft_run){.term = row->run_terms[i], .count = row->run_counts[i]};
    }
}

static void refuse(struct broker *b, uint64_t broker, const RaftRow *row, enum peer_refusal why)
{
    RaftRow reply = {.type = why, .group = row->group, .from = row->to, .to = row->from, .term = row->term};
    b->counters.raft_rows_refused_total++;
    if (row->type < PEER_NO_GROUP) { /* a refusal is not answered: it would never end */
        (void)peers_send(b->peers, broker, PEER_LANE_CONTROL, &reply, NULL, 0);
    }
}

/* A configuration is the last entry of its row, or a peer is mad: then nothing of the row is taken. If the log here
 * cannot hold another one until a checkpoint was taken, the row is looked at as if it ended before it. */
static bool take_config(struct partition *p, const RaftRow *row, const struct slice *payloads, struct raft_message *m)
{
    struct members members;
    pb_size_t count = row->entry_sizes_count;
    for (pb_size_t i = 0; i < count; i++) {
        m->has_config |= row->entry_types.bytes[i] == ENTRY_CONFIG;
        if (row->entry_types.bytes[i] == ENTRY_CONFIG && i + 1 < count) {
            return false;
        }
    }
    if (!m->has_config) {
        return true;
    }
    if (members_decode(payloads[count - 1], &members) != OK) {
        return false;
    }
    members_to_raft(&members, &m->config);
    if (!roster_has_room(&p->roster, m->index + m->count, 1)) {
        mark(p->broker->trace, MARK_ROW_CONFIG_LATER);
        checkpoint_want(p);
        m->has_config = false;
        m->count--;
        m->bytes -= row->entry_sizes[count - 1];
        if (--m->runs[m->runs_count - 1].count == 0) {
            m->runs_count--;
        }
    }
    return true;
}

static void deliver(struct partition *p, const RaftRow *row, const uint8_t *payload)
{
    struct slice payloads[RAFT_APPEND_ENTRIES_MAX];
    struct raft_message m;
    message_of_row(row, &m);
    for (pb_size_t i = 0; i < row->entry_sizes_count; i++) {
        payloads[i] =
            row->entry_sizes[i] > 0 ? peers_keep(p->broker->peers, payload, row->entry_sizes[i]) : (struct slice){0};
        payload += row->entry_sizes[i];
        m.bytes += row->entry_sizes[i];
    }
    const struct router_entries entries = {.first = row->index + 1,
                                           .count = row->entry_sizes_count,
                                           .types = row->entry_types.bytes,
                                           .payloads = payloads};
    if (row->entry_sizes_count > 0) {
        point(p->broker->trace, POINT_ROW_TAKEN);
    }
    if (take_config(p, row, payloads, &m)) {
        partition_receive(p, &m, &entries);
    } else {
        p->broker->counters.raft_rows_refused_total++;
        trace_error(p->broker->trace, "bad_config", "group=%lu from=%lu index=%lu", p->group, row->from, row->index);
    }
    for (pb_size_t i = 0; i < row->entry_sizes_count; i++) {
        slice_unref(&payloads[i]);
    }
}

/* The row comes from where that replica lives, and from a member, or from one who may be a member by a configuration
 * that has not come here yet. */
static bool may_speak(struct partition *p, const RaftRow *row, uint64_t broker)
{
    uint64_t home = router_broker_of(p, row->from);
    if (row->from == 0 || (home != 0 && home != broker) || (home == 0 && row->type >= PEER_NO_GROUP)) {
        return false;
    }
    if (!roster_is_member(&p->roster, row->from) && row->type < PEER_NO_GROUP && !assign_lets_speak(p, broker, row)) {
        return false;
    }
    if (home == 0) {
        mark(p->broker->trace, MARK_ROW_NEW_MEMBER);
        roster_meet(&p->roster, row->from, broker);
    }
    return true;
}

/* The peer has no such replica. Only the registry may end one here; until then it is a member that does not answer. */
static void on_refusal(struct partition *p, const RaftRow *row)
{
    p->broker->counters.raft_refusals_total++;
    mark(p->broker->trace, MARK_ROW_REFUSED);
    raft_step(p->raft, &(struct raft_event){.type = RAFT_UNREACHABLE, .peer = row->from});
    partition_mark_dirty(p);
}

void router_on_row(void *context, uint64_t broker, const RaftRow *row, const uint8_t *payload)
{
    struct broker *b = context;
    struct partition *p = groups_find(b, row->group);
    if (row->type == PEER_AM_I_MEMBER || row->type == PEER_REMOVED) {
        assign_on_row(b, broker, row);
    } else if (p == NULL || p->state == PARTITION_DEAD) {
        mark(b->trace, MARK_ROW_NO_GROUP);
        if (PLANT(17)) {
            b->pulse.due_us = clock_now_us(b->clock) + 10000000;
        }
        refuse(b, broker, row, PEER_NO_GROUP);
    } else if (p->replica != row->to) {
        mark(b->trace, MARK_ROW_OTHER_REPLICA);
        refuse(b, broker, row, PEER_OTHER_REPLICA);
    } else if (p->raft == NULL) {
        mark(b->trace, MARK_ROW_NOT_BORN);
        refuse(b, broker, row, PEER_NOT_BORN);
    } else if (!may_speak(p, row, broker)) {
        mark(b->trace, MARK_ROW_STRANGER);
        b->counters.raft_rows_refused_total++; /* it speaks for a replica that is not its own, or for a stranger */
    } else if (row->type >= PEER_NO_GROUP) {
        on_refusal(p, row);
    } else {
        deliver(p, row, payload);
    }
}

/* --- links come and go --- */

/* Who sleeps is not told, but woken a little later if it sleeps by a word from there. */
static void tell_members(struct broker *b, uint64_t broker, enum raft_event_type type)
{
    for (struct partition *p = b->groups; p != NULL; p = p->hh.next) {
        struct roster_other other;
        if (p->is_quiet) {
            if (quiet_has(p, broker)) {
                quiet_wake_later(p, QUIET_LINK);
            }
            continue;
        }
        for (uint32_t place = 0; p->raft != NULL && !p->installing && roster_each(&p->roster, &place, &other);) {
            if (other.broker == broker && other.replica != p->replica) {
                raft_step(p->raft, &(struct raft_event){.type = type, .peer = other.replica});
                partition_mark_dirty(p);
            }
        }
    }
}

void router_on_up(void *context, uint64_t broker, const uint8_t disk_uuid[UUID_BYTES], uint64_t boot)
{
    tell_members(context, broker, RAFT_WAKE);
}

void router_on_down(void *context, uint64_t broker)
{
    tell_members(context, broker, RAFT_UNREACHABLE);
}
