/* Elections: when to campaign, whom to vote for, when a candidate has won (dissertation section 3.4 and figure 3.1,
 * RequestVote; timeouts drawn anew each time, section 3.4).
 *
 * A campaign begins with a pre-vote (section 9.6): no term rises before a majority has said that it would vote. The
 * lease (sections 4.2.3 and 6.2.3): who leads, or heard from the leader within election_ms, votes for nobody else,
 * unless the leader itself asks for it (TIMEOUT_NOW, section 3.10).
 *
 * Vote requests and grants leave only after the sync of the term and vote they speak of, and a candidate's own vote
 * counts only when it is durable: so nobody votes twice in a term, whatever power cuts come in between (section 3.8).
 * */
#include "raft/impl.h"

#include "base/assert.h"
#include "base/plant.h"

void election__arm(struct raft *r)
{
    r->heard = r->heard_leader = false;
    r->election_deadline_ms = r->now_ms + rng_between(&r->rng, r->election_ms, r->election_ms + r->election_ms / 2);
}

/* Who is to lose its vote by a configuration that may not be committed yet still campaigns: it may be the only one
 * that can win, since the others' logs lack that entry (section 4.2.2, figure 4.6). */
static bool is_voter(const struct raft *r)
{
    const struct raft_config_entry *newest = configs__newest(&r->configs);
    if (config__votes_anywhere(&newest->config, r->self_place)) {
        return true;
    }
    if (newest->index <= r->commit_index || r->configs.count < 2) {
        return false;
    }
    const struct raft_config *before = &r->configs.entries[r->configs.count - 2].config;
    return config__votes_anywhere(before, config__place(before, r->self));
}

static bool timer_runs(const struct raft *r)
{
    return is_voter(r) && !r->damaged;
}

static bool may_campaign(const struct raft *r)
{
    /* Terms travel to clients as 32-bit leader epochs, and a leader needs room for its own run in the trail. */
    return timer_runs(r) && r->term + 1 < RAFT_TERM_MAX && trail__has_room(&r->trail, 1);
}

static bool lease_holds(const struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        return true;
    }
    return r->leader != 0 && (r->heard_leader || r->now_ms < r->lease_end_ms);
}

void election__leader_unreachable(struct raft *r)
{
    r->heard_leader = false;
    r->lease_end_ms = 0;
}

/* With the own vote. */
static bool is_elected(const struct raft *r)
{
    return config__majority_of(raft__config(r), r->votes | config__bit(r->self_place));
}

static void campaign(struct raft *r, bool forced)
{
    raft__set_term(r, r->term + 1);
    r->role = RAFT_CANDIDATE;
    r->vote = r->self;
    r->vote_requests_due = true;
    r->forced = forced;
    election__arm(r);
}

static void pre_campaign(struct raft *r)
{
    raft__become_follower(r, 0);
    r->role = RAFT_PRE_CANDIDATE;
    if (is_elected(r) || PLANT(79)) { /* nobody else to ask */
        campaign(r, false);
        return;
    }
    r->vote_requests_due = true;
    election__arm(r);
}

void election__tick(struct raft *r)
{
    ASSERT(r->role != RAFT_LEADER);
    if (r->heard) { /* counted from this tick: the core has no clock of its own */
        if (r->heard_leader) {
            r->lease_end_ms = r->now_ms + r->election_ms;
        }
        election__arm(r);
        return;
    }
    if (!timer_runs(r) || r->now_ms < r->election_deadline_ms) {
        return;
    }
    bool own_vote_stalls = r->role == RAFT_CANDIDATE && !writes__hard_state_durable(&r->writes);
    if (may_campaign(r) && !own_vote_stalls) {
        pre_campaign(r);
    } else {
        election__arm(r);
    }
}

uint64_t election__next_tick_ms(const struct raft *r)
{
    uint64_t next_ms = timer_runs(r) ? r->election_deadline_ms : UINT64_MAX;
    if (r->heard && r->now_ms + r->heartbeat_ms < next_ms) {
        next_ms = r->now_ms + r->heartbeat_ms;
    }
    if (r->lease_end_ms > r->now_ms && r->lease_end_ms < next_ms) {
        next_ms = r->lease_end_ms; /* asked for a vote after it, we must know that it is over */
    }
    return next_ms;
}

static void lead_if_elected(struct raft *r)
{
    if (r->role == RAFT_CANDIDATE && writes__hard_state_durable(&r->writes) && is_elected(r)) {
        replication__lead(r);
    }
}

void election__persisted(struct raft *r)
{
    lead_if_elected(r);
}

/* ---- votes ---- */

/* Figure 3.1: the candidate's log must be at least as up to date as ours (section 3.6.1). Entries of ours that are not
 * durable yet count too: that refuses more, never less. */
static bool log_is_current(const struct raft *r, uint64_t last_index, uint64_t last_term)
{
    uint64_t own_term = trail__last_term(&r->trail);
    return last_term > own_term || (last_term == own_term && last_index >= r->trail.last_index);
}

/* Whether we would vote: nothing changes by it. A refusal tells our term, so that who was left behind catches up. */
static void answer_pre_vote(struct raft *r, const struct raft_message *m, bool waits)
{
    bool is_new = m->term > r->term || (m->term == r->term && r->vote == 0 && r->leader == 0);
    bool grant = is_new && !waits && !r->damaged && log_is_current(r, m->index, m->index_term);
    grant = grant && (!PLANT(32) || is_voter(r));
    update__answer(
        r,
        &(struct raft_answer){
            .type = RAFT_VOTE_REPLY, .to = m->from, .term = grant ? m->term : r->term, .pre = true, .reject = !grant});
}

void election__recv_request(struct raft *r, const struct raft_message *m, bool was_quiet)
{
    bool waits = (was_quiet || lease_holds(r)) && !m->force;
    if (m->pre) {
        answer_pre_vote(r, m, waits);
        return;
    }
    if (m->term > r->term) {
        if (waits) {
            return; /* who asks was cut off or removed: its term is not to disturb the group */
        }
        raft__set_term(r, m->term);
    }
    bool vote_is_free = !r->damaged && (r->vote == m->from || (r->vote == 0 && !waits));
    bool grant = m->term == r->term && vote_is_free && log_is_current(r, m->index, m->index_term);
    grant = grant && (!PLANT(32) || is_voter(r));
    if (grant) {
        if (r->vote == 0) {
            r->vote = m->from;
            writes__hard_state(&r->writes);
        }
        raft__become_follower(r, r->leader); /* of a pre-candidate: the other one was faster */
        r->heard = true;
    }
    update__answer(r, &(struct raft_answer){.type = RAFT_VOTE_REPLY, .to = m->from, .reject = !grant});
}

static void count_vote(struct raft *r, uint64_t from)
{
    r->votes |= config__bit(config__place(raft__config(r), from));
}

void election__recv_reply(struct raft *r, const struct raft_message *m)
{
    if (m->pre && !m->reject) {
        if (r->role == RAFT_PRE_CANDIDATE && m->term == r->term + 1) {
            count_vote(r, m->from);
            if (is_elected(r)) {
                campaign(r, false);
            }
        }
        return;
    }
    if (m->term > r->term) {
        raft__set_term(r, m->term);
        return;
    }
    if ((m->term < r->term && !PLANT(22)) || m->reject || r->role != RAFT_CANDIDATE) {
        return;
    }
    count_vote(r, m->from);
    lead_if_elected(r);
}

void election__recv_timeout_now(struct raft *r, const struct raft_message *m)
{
    if (r->role == RAFT_FOLLOWER && m->term == r->term && m->from == r->leader && may_campaign(r)) {
        campaign(r, true);
    }
}

void election__take(struct raft *r, struct raft_update *update)
{
    if (!r->vote_requests_due) {
        return;
    }
    ASSERT(r->role == RAFT_PRE_CANDIDATE || (r->role == RAFT_CANDIDATE && r->vote == r->self));
    r->vote_requests_due = false;
    const struct raft_config *config = raft__config(r);
    for (uint32_t i = 0; i < config->count; i++) {
        if (i == r->self_place || !config__votes_anywhere(config, i)) {
            continue;
        }
        struct raft_message *m = &update->send_after_sync[update->send_after_sync_count++];
        update__fill_header(r, m, RAFT_VOTE_REQUEST, config->members[i].replica);
        m->index = r->trail.last_index;
        m->index_term = trail__last_term(&r->trail);
        m->pre = r->role == RAFT_PRE_CANDIDATE;
        m->term = m->pre ? r->term + 1 : r->term;
        m->force = r->forced;
    }
}
