/* The invariants that one replica can see. */
#include "raft/impl.h"

#include "base/assert.h"

void check__step(const struct raft *r)
{
    ASSERT(r->applied_index <= r->commit_index && r->commit_index <= r->trail.last_index);
    ASSERT(r->writes.durable_index <= r->writes.handed_index && r->writes.handed_index <= r->trail.last_index);
    ASSERT(r->commit_index >= r->told_commit && r->term >= r->told_term);
    ASSERT(configs__newest(&r->configs)->index <= r->trail.last_index);
    ASSERT((r->role == RAFT_LEADER) == (r->leader == r->self));
    ASSERT(!r->damaged || r->role == RAFT_FOLLOWER);
}

static void check_role(const struct raft *r)
{
    ASSERT(r->role == RAFT_FOLLOWER || r->role == RAFT_PRE_CANDIDATE || r->vote == r->self);
    ASSERT((r->role != RAFT_PRE_CANDIDATE && r->role != RAFT_CANDIDATE) || r->leader == 0);
    ASSERT(r->role != RAFT_FOLLOWER || (r->votes == 0 && !r->vote_requests_due && !r->forced));
    ASSERT(r->role == RAFT_LEADER || (r->peers_count == 0 && r->transfer_to == 0 && r->round_asked == 0));
    ASSERT(r->matched_index <= r->trail.last_index);
    ASSERT(!r->healed || r->damaged);
    ASSERT(!r->falling_asleep || r->role == RAFT_LEADER);
    if (r->quiet) {
        ASSERT(r->leader != 0 && r->commit_index == r->trail.last_index);
        ASSERT(r->applied_index == r->trail.last_index && !r->damaged && !r->falling_asleep);
    }
}

/* Every other member is a peer, in its place; the others leave. */
static void check_peers(const struct raft *r)
{
    const struct raft_config *config = raft__config(r);
    uint32_t members = config__bit(r->self_place);
    for (uint32_t i = 0; i < r->peers_count; i++) {
        const struct progress *p = &r->peers[i];
        progress__check(p, &r->trail);
        ASSERT(p->peer != r->self && p->place == config__place(config, p->peer));
        ASSERT(p->leaving == (p->place == PLACE_NONE));
        ASSERT((members & config__bit(p->place)) == 0);
        members |= config__bit(p->place);
        ASSERT(!r->quiet || (p->quiet && p->match == r->trail.last_index));
        ASSERT(p->round <= r->round_sent);
    }
    ASSERT(members == (1u << config->count) - 1);
}

/* What this leader has committed itself (its own term's entries), a majority of the committed configuration holds;
 * except for what a replica has lost since. */
static void check_committed(const struct raft *r)
{
    uint32_t holders = r->writes.durable_index >= r->commit_index ? config__bit(r->self_place) : 0;
    bool damaged = false;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        holders |= r->peers[i].match >= r->commit_index ? config__bit(r->peers[i].place) : 0;
        damaged = damaged || r->peers[i].damaged;
    }
    bool own = raft__own_term_committed(r) && configs__newest(&r->configs)->index <= r->commit_index;
    ASSERT(!own || damaged || config__majority_of(raft__config(r), holders));
}

void raft_check(const struct raft *r)
{
    check__step(r);
    trail__check(&r->trail);
    writes__check(&r->writes, r->trail.last_index);
    configs__check(&r->configs, r->trail.base_index, r->trail.last_index);
    ASSERT(r->self_place == config__place(raft__config(r), r->self));
    ASSERT(r->term < RAFT_TERM_MAX && trail__last_term(&r->trail) <= r->term);
    ASSERT(r->trail.base_index <= r->applied_index && r->trail.base_index <= r->writes.durable_index);
    /* One append may replace entries and commit the new ones: what was committed before it stays. */
    ASSERT(r->writes.truncate_from == 0 || r->writes.truncate_from > r->told_commit);
    check_role(r);
    if (r->role == RAFT_LEADER) {
        ASSERT(writes__hard_state_durable(&r->writes));
        ASSERT(r->round_confirmed <= r->round_asked && r->round_sent <= r->round_asked);
        check_peers(r);
        check_committed(r);
    }
}
