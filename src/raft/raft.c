/* The life of a replica's core: options in, events in, updates out, and the changes of role. The rules themselves are
 * in election.c and replication.c. */
#include "raft/impl.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

/* No log reaches this: it keeps sums of an index and a count from a peer's message away from overflow. */
#define INDEX_MAX ((uint64_t)1 << 62)

/* ---- life ---- */

static void check_options(const struct raft_options *o)
{
    ASSERT(o->self > 0);
    ASSERT(o->voters_count >= 1 && o->voters_count <= RAFT_VOTERS_MAX);
    for (uint32_t i = 0; i < o->voters_count; i++) {
        ASSERT(o->voters[i] > 0);
        for (uint32_t j = 0; j < i; j++) {
            ASSERT(o->voters[i] != o->voters[j]);
        }
    }
    ASSERT(o->heartbeat_ms > 0 && o->election_ms > o->heartbeat_ms);
    ASSERT(o->term < RAFT_TERM_MAX && (o->vote == 0 || o->term > 0));
    ASSERT((o->base_index == 0) == (o->base_term == 0));
    ASSERT(o->applied_index >= o->base_index);
}

struct raft *raft_new(const struct raft_options *options)
{
    check_options(options);
    struct raft *r = mem_zeroed(1, sizeof *r);
    r->self = options->self;
    r->voters_count = options->voters_count;
    for (uint32_t i = 0; i < options->voters_count; i++) {
        r->voters[i] = options->voters[i];
        r->self_votes = r->self_votes || options->voters[i] == options->self;
    }
    r->heartbeat_ms = options->heartbeat_ms;
    r->election_ms = options->election_ms;
    rng_seed(&r->rng, options->seed);
    r->term = r->told_term = options->term;
    r->vote = options->vote;
    r->role = r->told_role = RAFT_FOLLOWER;

    trail__init(&r->trail, options->base_index, options->base_term);
    for (uint32_t i = 0; i < options->runs_count; i++) {
        trail__append(&r->trail, options->runs[i].term, options->runs[i].count);
    }
    ASSERT(trail__last_term(&r->trail) <= r->term); /* the hard state is written before entries of its term */
    ASSERT(options->applied_index <= r->trail.last_index);
    r->applied_index = r->commit_index = r->told_commit = options->applied_index;
    sizes__init(&r->sizes, r->trail.last_index);
    writes__init(&r->writes, r->trail.last_index);

    r->now_ms = options->now_ms;
    election__arm(r);
    if (r->self_votes && r->voters_count == 1) {
        r->election_deadline_ms = r->now_ms; /* nobody else to wait for */
    }
    return r;
}

void raft_free(struct raft *r)
{
    if (r != NULL) {
        trail__done(&r->trail);
        free(r);
    }
}

/* ---- roles ---- */

uint32_t raft__majority(const struct raft *r)
{
    return r->voters_count / 2 + 1;
}

void raft__become_follower(struct raft *r, uint64_t leader)
{
    if (r->role == RAFT_LEADER) {
        r->heard = true; /* the election timer did not run while leading: it starts at the next tick */
    }
    r->role = RAFT_FOLLOWER;
    r->leader = leader;
    r->votes = 0;
    r->vote_requests_due = false;
    r->peers_count = 0;
}

void raft__set_term(struct raft *r, uint64_t term)
{
    ASSERT(term > r->term && term < RAFT_TERM_MAX);
    r->term = term;
    r->vote = 0;
    writes__hard_state(&r->writes);
    raft__become_follower(r, 0);
}

/* ---- events ---- */

static bool is_voter(const struct raft *r, uint64_t replica)
{
    for (uint32_t i = 0; i < r->voters_count; i++) {
        if (r->voters[i] == replica) {
            return true;
        }
    }
    return false;
}

/* Entries of an append: as many as the runs say, terms that never fall and never exceed the sender's. */
static bool runs_are_sane(const struct raft_message *m)
{
    if (m->count > RAFT_APPEND_ENTRIES_MAX || m->runs_count > RAFT_RUNS_MAX) {
        return false;
    }
    uint64_t count = 0;
    uint64_t term = m->index_term;
    for (uint32_t i = 0; i < m->runs_count; i++) {
        if (m->runs[i].term == 0 || m->runs[i].term < term || m->runs[i].count == 0 || m->runs[i].count > m->count) {
            return false;
        }
        term = m->runs[i].term;
        count += m->runs[i].count;
    }
    return term <= m->term && count == m->count;
}

/* A peer may run other software or have been led astray: what no sound peer sends is dropped here, not asserted. */
static bool message_is_sane(const struct raft *r, const struct raft_message *m)
{
    if (m->to != r->self || m->from == r->self || !is_voter(r, m->from)) {
        return false;
    }
    if (m->term == 0 || m->term >= RAFT_TERM_MAX || m->index >= INDEX_MAX) {
        return false;
    }
    if (m->type == RAFT_APPEND || m->type == RAFT_VOTE_REQUEST) {
        if ((m->index == 0) != (m->index_term == 0) || m->index_term > m->term) {
            return false;
        }
    }
    return m->type != RAFT_APPEND || runs_are_sane(m);
}

static void recv(struct raft *r, const struct raft_message *m)
{
    ASSERT(!r->received); /* one message between two takes: its answer goes with the write it causes */
    if (!message_is_sane(r, m)) {
        return;
    }
    r->received = true;
    switch (m->type) {
    case RAFT_VOTE_REQUEST:
        election__recv_request(r, m);
        break;
    case RAFT_VOTE_REPLY:
        election__recv_reply(r, m);
        break;
    case RAFT_APPEND:
        replication__recv_append(r, m);
        break;
    case RAFT_APPEND_REPLY:
        replication__recv_reply(r, m);
        break;
    }
}

static void tick(struct raft *r, uint64_t now_ms)
{
    if (now_ms > r->now_ms) {
        r->now_ms = now_ms;
    }
    if (r->role == RAFT_LEADER) {
        replication__tick(r);
    } else {
        election__tick(r);
    }
}

static void persisted(struct raft *r, uint64_t write_id)
{
    writes__persisted(&r->writes, write_id);
    election__persisted(r);
    replication__persisted(r);
}

static void compacted(struct raft *r, uint64_t index)
{
    ASSERT(index <= r->applied_index && index <= r->writes.durable_index);
    if (index > r->trail.base_index) {
        trail__compact(&r->trail, index);
    }
}

void raft_step(struct raft *r, const struct raft_event *event)
{
    switch (event->type) {
    case RAFT_TICK:
        tick(r, event->now_ms);
        break;
    case RAFT_RECV:
        recv(r, event->message);
        break;
    case RAFT_SUBMIT:
        replication__submit(r, event->submit.count, event->submit.bytes);
        break;
    case RAFT_PERSISTED:
        persisted(r, event->write_id);
        break;
    case RAFT_APPLIED:
        ASSERT(event->index >= r->applied_index && event->index <= r->commit_index);
        r->applied_index = event->index;
        break;
    case RAFT_COMPACTED:
        compacted(r, event->index);
        break;
    case RAFT_UNREACHABLE:
        replication__unreachable(r, event->peer);
        break;
    }
    ASSERT(r->applied_index <= r->commit_index && r->commit_index <= r->trail.last_index);
    ASSERT(r->writes.durable_index <= r->writes.handed_index && r->writes.handed_index <= r->trail.last_index);
    ASSERT(r->commit_index >= r->told_commit && r->term >= r->told_term);
}

/* ---- updates ---- */

void raft__answer(struct raft *r, const struct raft_answer *answer)
{
    ASSERT(!r->answer.pending);
    r->answer = *answer;
    r->answer.pending = true;
    r->answer.term = r->term;
}

void raft__fill_header(const struct raft *r, struct raft_message *m, enum raft_message_type type, uint64_t to)
{
    m->type = type;
    m->from = r->self;
    m->to = to;
    m->term = r->term;
    m->index = 0;
    m->index_term = 0;
    m->hint = 0;
    m->commit = 0;
    m->bytes = 0;
    m->reject = false;
    m->runs_count = 0;
    m->count = 0;
}

static void take_answer(struct raft *r, struct raft_update *update)
{
    if (!r->answer.pending) {
        return;
    }
    struct raft_message *m = &update->send_after_sync[update->send_after_sync_count++];
    raft__fill_header(r, m, r->answer.type, r->answer.to);
    m->term = r->answer.term;
    m->index = r->answer.index;
    m->index_term = r->answer.index_term;
    m->hint = r->answer.hint;
    m->reject = r->answer.reject;
    r->answer.pending = false;
}

bool raft_take(struct raft *r, struct raft_update *ret_update)
{
    struct raft_update *update = ret_update;
    bool told = r->role == r->told_role && r->leader == r->told_leader && r->term == r->told_term;
    bool committed = r->commit_index != r->told_commit;
    r->received = false;

    /* Field by field: the arrays are large, and only their first `count` messages mean anything. */
    update->send_now_count = 0;
    update->send_after_sync_count = 0;
    writes__take(&r->writes, r->term, r->vote, r->trail.last_index, &update->write);
    election__take(r, update);
    take_answer(r, update);
    replication__take(r, update);
    update->commit = r->told_commit = r->commit_index;
    update->role_changed = !told;
    update->role = r->told_role = r->role;
    update->leader = r->told_leader = r->leader;
    update->term = r->told_term = r->term;
    bool sends = update->send_now_count > 0 || update->send_after_sync_count > 0;
    return !told || committed || sends || update->write.id != 0;
}

/* ---- questions ---- */

uint64_t raft_next_tick_ms(const struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        return r->peers_count > 0 ? r->heartbeat_deadline_ms : UINT64_MAX;
    }
    return election__next_tick_ms(r);
}

enum raft_role raft_role(const struct raft *r)
{
    return r->role;
}

uint64_t raft_term(const struct raft *r)
{
    return r->term;
}

uint64_t raft_vote(const struct raft *r)
{
    return r->vote;
}

uint64_t raft_leader(const struct raft *r)
{
    return r->leader;
}

uint64_t raft_last_index(const struct raft *r)
{
    return r->trail.last_index;
}

uint64_t raft_commit_index(const struct raft *r)
{
    return r->commit_index;
}

uint64_t raft_durable_index(const struct raft *r)
{
    return r->writes.durable_index;
}

uint64_t raft_term_of(const struct raft *r, uint64_t index)
{
    return trail__term(&r->trail, index);
}

void raft_check(const struct raft *r)
{
    trail__check(&r->trail);
    writes__check(&r->writes, r->trail.last_index);
    ASSERT(r->term < RAFT_TERM_MAX && trail__last_term(&r->trail) <= r->term);
    ASSERT(r->trail.base_index <= r->applied_index && r->applied_index <= r->commit_index);
    ASSERT(r->commit_index <= r->trail.last_index && r->trail.base_index <= r->writes.durable_index);
    /* One append may replace entries and commit the new ones: what was committed before it stays. */
    ASSERT(r->writes.truncate_from == 0 || r->writes.truncate_from > r->told_commit);
    ASSERT((r->role == RAFT_LEADER) == (r->leader == r->self));
    ASSERT(r->role == RAFT_FOLLOWER || r->vote == r->self);
    ASSERT(r->role == RAFT_CANDIDATE || (r->votes == 0 && !r->vote_requests_due) || r->role == RAFT_LEADER);
    ASSERT(r->role == RAFT_LEADER || r->peers_count == 0);
    if (r->role != RAFT_LEADER) {
        return;
    }
    ASSERT(writes__hard_state_durable(&r->writes) && r->peers_count == r->voters_count - 1);
    uint32_t committed_on = r->writes.durable_index >= r->commit_index;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        progress__check(&r->peers[i], &r->trail);
        committed_on += r->peers[i].match >= r->commit_index;
    }
    /* What this leader has committed itself (its own term's entries), a majority holds. */
    ASSERT(trail__term(&r->trail, r->commit_index) != r->term || committed_on >= raft__majority(r));
}
