/* The life of a replica's core: options in, events in, and the changes of role. The rules themselves are in the files
 * that impl.h lists; what comes out is made in update.c. */
#include "raft/impl.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

/* ---- life ---- */

static void check_options(const struct raft_options *o)
{
    ASSERT(o->self > 0);
    ASSERT(o->heartbeat_ms > 0 && o->election_ms > o->heartbeat_ms);
    ASSERT(o->term < RAFT_TERM_MAX && (o->vote == 0 || o->term > 0));
    ASSERT((o->base_index == 0) == (o->base_term == 0));
    ASSERT(o->applied_index >= o->base_index);
    ASSERT(o->configs_count >= 1 && o->configs_count <= RAFT_CONFIGS_MAX);
}

static void init_log(struct raft *r, const struct raft_options *options)
{
    trail__init(&r->trail, options->base_index, options->base_term);
    for (uint32_t i = 0; i < options->runs_count; i++) {
        trail__append(&r->trail, options->runs[i].term, options->runs[i].count);
    }
    sizes__init(&r->sizes, r->trail.last_index);
    writes__init(&r->writes, r->trail.last_index);
    configs__init(&r->configs, options->configs, options->configs_count);
    configs__check(&r->configs, r->trail.base_index, r->trail.last_index);
}

static void init_hard_state(struct raft *r, const struct raft_options *options)
{
    r->term = r->told_term = options->term;
    r->vote = options->vote;
    uint64_t last_term = trail__last_term(&r->trail);
    if (options->damaged && last_term > r->term) { /* the hard state is what was lost */
        r->term = last_term;
        r->vote = 0;
        writes__hard_state(&r->writes);
    }
    ASSERT(last_term <= r->term); /* the hard state is written before entries of its term */
}

struct raft *raft_new(const struct raft_options *options)
{
    check_options(options);
    struct raft *r = mem_zeroed(1, sizeof *r);
    r->self = options->self;
    r->heartbeat_ms = options->heartbeat_ms;
    r->election_ms = options->election_ms;
    rng_seed(&r->rng, options->seed);
    r->role = r->told_role = RAFT_FOLLOWER;
    r->now_ms = options->now_ms;
    init_log(r, options);
    init_hard_state(r, options);
    ASSERT(options->applied_index <= r->trail.last_index);
    r->applied_index = r->commit_index = r->told_commit = options->applied_index;
    r->self_place = config__place(raft__config(r), r->self);

    election__arm(r);
    if (config__majority_of(raft__config(r), config__bit(r->self_place))) {
        r->election_deadline_ms = r->now_ms; /* nobody else to wait for */
    }
    if (options->damaged) {
        heal__damaged(r);
    }
    return r;
}

void raft_free(struct raft *r)
{
    if (r != NULL) {
        trail__done(&r->trail);
        sizes__done(&r->sizes);
        writes__done(&r->writes);
        configs__done(&r->configs);
        free(r->peers);
        free(r);
    }
}

/* ---- roles ---- */

const struct raft_config *raft__config(const struct raft *r)
{
    return &configs__newest(&r->configs)->config;
}

void raft__become_follower(struct raft *r, uint64_t leader)
{
    if (r->role == RAFT_LEADER) {
        r->heard = true; /* the election timer did not run while leading: it starts at the next tick */
    }
    if (r->role != RAFT_FOLLOWER || leader != r->leader) {
        r->matched_index = 0;
        r->heard_leader = false;
        r->lease_end_ms = 0;
    }
    r->role = RAFT_FOLLOWER;
    r->leader = leader;
    r->votes = 0;
    r->vote_requests_due = r->forced = false;
    r->peers_count = 0;
    r->transfer_to = 0;
    r->falling_asleep = r->quiet = false;
    r->round_asked = r->round_sent = r->round_confirmed = 0;
}

void raft__set_term(struct raft *r, uint64_t term)
{
    ASSERT(term > r->term && term < RAFT_TERM_MAX);
    r->term = term;
    r->vote = 0;
    r->heal_index = 0; /* it was of a leader that is over */
    writes__hard_state(&r->writes);
    raft__become_follower(r, 0);
}

void raft__config_changed(struct raft *r)
{
    r->self_place = config__place(raft__config(r), r->self);
    if (r->role == RAFT_LEADER) {
        change__set_peers(r);
    }
}

struct progress *raft__peer(struct raft *r, uint64_t replica)
{
    for (uint32_t i = 0; i < r->peers_count; i++) {
        if (r->peers[i].peer == replica) {
            return &r->peers[i];
        }
    }
    return NULL;
}

bool raft__own_term_committed(const struct raft *r)
{
    return r->commit_index > 0 && trail__term(&r->trail, r->commit_index) == r->term;
}

/* ---- events ---- */

static void recv(struct raft *r, const struct raft_message *m, bool was_quiet)
{
    ASSERT(!r->received); /* one message between two takes: its answer goes with the write it causes */
    r->received = true;
    switch (m->type) {
    case RAFT_VOTE_REQUEST:
        election__recv_request(r, m, was_quiet);
        break;
    case RAFT_VOTE_REPLY:
        election__recv_reply(r, m);
        break;
    case RAFT_APPEND:
        follower__recv_append(r, m);
        break;
    case RAFT_APPEND_REPLY:
        replication__recv_reply(r, m);
        break;
    case RAFT_BEAT:
        follower__recv_beat(r, m);
        break;
    case RAFT_BEAT_REPLY:
        beat__recv_reply(r, m);
        break;
    case RAFT_TIMEOUT_NOW:
        election__recv_timeout_now(r, m);
        break;
    }
}

static void tick(struct raft *r, uint64_t now_ms)
{
    if (now_ms > r->now_ms) {
        r->now_ms = now_ms;
    }
    if (r->quiet) {
        return;
    }
    if (r->role == RAFT_LEADER) {
        beat__tick(r);
    } else {
        election__tick(r);
    }
}

static void persisted(struct raft *r, uint64_t write_id)
{
    writes__persisted(&r->writes, write_id);
    election__persisted(r);
    heal__look(r);
    if (r->role == RAFT_LEADER) {
        replication__advance_commit(r);
    }
}

static void compacted(struct raft *r, uint64_t index)
{
    ASSERT(index <= r->applied_index && index <= r->writes.durable_index);
    if (index > r->trail.base_index) {
        trail__compact(&r->trail, index);
        configs__compact(&r->configs, index);
    }
}

static void unreachable(struct raft *r, uint64_t peer)
{
    struct progress *p = raft__peer(r, peer);
    if (p != NULL) {
        progress__lost(p);
    } else if (peer == r->leader) {
        election__leader_unreachable(r);
    }
}

/* What has to do with one replica's own log and disk. False: not such an event. */
static bool step_log(struct raft *r, const struct raft_event *event)
{
    switch (event->type) {
    case RAFT_SUBMIT:
        replication__submit(r, event->submit.count, event->submit.bytes);
        return true;
    case RAFT_CHANGE:
        change__append(r, event->change.config, event->change.bytes);
        return true;
    case RAFT_PERSISTED:
        persisted(r, event->write_id);
        return true;
    case RAFT_APPLIED:
        ASSERT(event->index >= r->applied_index && event->index <= r->commit_index);
        r->applied_index = event->index;
        return true;
    case RAFT_COMPACTED:
        compacted(r, event->index);
        return true;
    case RAFT_INSTALLED:
        snapshot__installed(r, event);
        return true;
    case RAFT_DAMAGED:
        heal__damaged(r);
        return true;
    case RAFT_REPAIRED:
        heal__repaired(r);
        return true;
    case RAFT_FULL:
        r->full = event->full;
        return true;
    default:
        return false;
    }
}

static void step_group(struct raft *r, const struct raft_event *event, bool was_quiet)
{
    switch (event->type) {
    case RAFT_TICK:
        tick(r, event->now_ms);
        break;
    case RAFT_RECV:
        recv(r, event->message, was_quiet);
        break;
    case RAFT_UNREACHABLE:
        unreachable(r, event->peer);
        break;
    case RAFT_SNAPSHOT_DONE:
        snapshot__done(r, event->snapshot.peer, event->snapshot.index, event->snapshot.ok);
        break;
    case RAFT_TRANSFER:
        transfer__begin(r, event->peer);
        break;
    case RAFT_READ:
        reads__ask(r);
        break;
    case RAFT_SLEEP:
        quiet__sleep(r);
        break;
    case RAFT_WAKE: /* done by then */
        break;
    default:
        UNREACHABLE();
    }
}

void raft_step(struct raft *r, const struct raft_event *event)
{
    if (event->type == RAFT_RECV && !message__is_sane(r, event->message)) {
        return;
    }
    bool was_quiet = r->quiet;
    if ((r->quiet || r->falling_asleep) && quiet__is_disturbed_by(r, event)) {
        quiet__wake(r);
    }
    if (!step_log(r, event)) {
        step_group(r, event, was_quiet);
    }
    check__step(r);
}
