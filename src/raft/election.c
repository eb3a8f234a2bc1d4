/* Elections: when to campaign, whom to vote for, when a candidate has won (dissertation section 3.4 and figure 3.1,
 * RequestVote; timeouts drawn anew each time, section 3.4).
 *
 * Vote requests and grants leave only after the sync of the term and vote they speak of, and a candidate's own vote
 * counts only when it is durable: so nobody votes twice in a term, whatever power cuts come in between (section 3.8).
 * */
#include "raft/impl.h"

#include "base/assert.h"

void election__arm(struct raft *r)
{
    r->heard = false;
    r->election_deadline_ms = r->now_ms + rng_between(&r->rng, r->election_ms, r->election_ms + r->election_ms / 2);
}

static bool may_campaign(const struct raft *r)
{
    /* Terms travel to clients as 32-bit leader epochs, and a leader needs room for its own run in the trail. */
    return r->self_votes && r->term + 1 < RAFT_TERM_MAX && trail__has_room(&r->trail, 1);
}

static void campaign(struct raft *r)
{
    raft__set_term(r, r->term + 1);
    r->role = RAFT_CANDIDATE;
    r->vote = r->self;
    r->votes = 0;
    r->vote_requests_due = r->voters_count > 1;
    election__arm(r);
}

void election__tick(struct raft *r)
{
    ASSERT(r->role != RAFT_LEADER);
    if (r->heard) {
        election__arm(r); /* counted from this tick: the core has no clock of its own */
        return;
    }
    if (!r->self_votes || r->now_ms < r->election_deadline_ms) {
        return;
    }
    bool own_vote_stalls = r->role == RAFT_CANDIDATE && !writes__hard_state_durable(&r->writes);
    if (may_campaign(r) && !own_vote_stalls) {
        campaign(r);
    } else {
        election__arm(r);
    }
}

uint64_t election__next_tick_ms(const struct raft *r)
{
    if (!r->self_votes) {
        return UINT64_MAX;
    }
    uint64_t rearm_ms = r->now_ms + r->heartbeat_ms;
    return r->heard && rearm_ms < r->election_deadline_ms ? rearm_ms : r->election_deadline_ms;
}

static void lead_if_elected(struct raft *r)
{
    if (r->role != RAFT_CANDIDATE || !writes__hard_state_durable(&r->writes)) {
        return;
    }
    uint32_t votes = (uint32_t)__builtin_popcount(r->votes) + 1;
    if (votes >= raft__majority(r)) {
        replication__lead(r);
    }
}

void election__persisted(struct raft *r)
{
    lead_if_elected(r);
}

/* Figure 3.1: the candidate's log must be at least as up to date as ours (section 3.6.1). Entries of ours that are not
 * durable yet count too: that refuses more, never less. */
static bool log_is_current(const struct raft *r, uint64_t last_index, uint64_t last_term)
{
    uint64_t own_term = trail__last_term(&r->trail);
    return last_term > own_term || (last_term == own_term && last_index >= r->trail.last_index);
}

void election__recv_request(struct raft *r, const struct raft_message *m)
{
    if (m->term > r->term) {
        raft__set_term(r, m->term);
    }
    bool vote_is_free = r->vote == 0 || r->vote == m->from;
    bool grant = m->term == r->term && vote_is_free && log_is_current(r, m->index, m->index_term);
    if (grant) {
        ASSERT(r->role == RAFT_FOLLOWER);
        if (r->vote == 0) {
            r->vote = m->from;
            writes__hard_state(&r->writes);
        }
        r->heard = true;
    }
    raft__answer(r, &(struct raft_answer){.type = RAFT_VOTE_REPLY, .to = m->from, .reject = !grant});
}

void election__recv_reply(struct raft *r, const struct raft_message *m)
{
    if (m->term > r->term) {
        raft__set_term(r, m->term);
        return;
    }
    if (m->term < r->term || r->role != RAFT_CANDIDATE || m->reject) {
        return;
    }
    for (uint32_t i = 0; i < r->voters_count; i++) {
        if (r->voters[i] == m->from) {
            r->votes |= 1u << i;
        }
    }
    lead_if_elected(r);
}

void election__take(struct raft *r, struct raft_update *update)
{
    if (!r->vote_requests_due) {
        return;
    }
    ASSERT(r->role == RAFT_CANDIDATE && r->vote == r->self);
    r->vote_requests_due = false;
    for (uint32_t i = 0; i < r->voters_count; i++) {
        if (r->voters[i] == r->self) {
            continue;
        }
        struct raft_message *m = &update->send_after_sync[update->send_after_sync_count++];
        raft__fill_header(r, m, RAFT_VOTE_REQUEST, r->voters[i]);
        m->index = r->trail.last_index;
        m->index_term = trail__last_term(&r->trail);
    }
}
