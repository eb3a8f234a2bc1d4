/* Quiet groups: nothing to do, so no timers and no messages, until something happens.
 *
 * The leader asks everybody in a round of quiet beats. A replica agrees if all it has is committed and applied, and is
 * all there is; it stops its timer with its yes. Once everybody has said yes, the leader stops too. Who is quiet
 * relies on its owner: a lost link wakes it. A single no, and any other message, wakes whoever gets it; and a leader
 * that wakes wakes all. A request for a vote wakes and is refused once: the leader, if it lives, is to have its say
 * first. */
#include "raft/impl.h"

static bool everything_is_applied(const struct raft *r)
{
    uint64_t last_index = r->trail.last_index;
    return r->commit_index == last_index && r->applied_index == last_index && r->writes.durable_index == last_index &&
           writes__hard_state_durable(&r->writes);
}

static bool peer_has_everything(const struct raft *r, const struct progress *p)
{
    return p->state == PROGRESS_REPLICATE && p->match == r->trail.last_index && !p->damaged && !p->leaving;
}

static bool may_sleep(const struct raft *r)
{
    bool idle = r->role == RAFT_LEADER && r->transfer_to == 0 && r->round_confirmed == r->round_asked;
    bool settled = trail__last_term(&r->trail) == r->term && !raft_config_is_joint(raft__config(r));
    if (!idle || !settled || !everything_is_applied(r)) {
        return false;
    }
    for (uint32_t i = 0; i < r->peers_count; i++) {
        if (!peer_has_everything(r, &r->peers[i])) {
            return false;
        }
    }
    return true;
}

static void look(struct raft *r)
{
    bool all = true;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        all = all && r->peers[i].quiet;
    }
    for (uint32_t i = 0; i < r->peers_count && all; i++) {
        r->peers[i].active = true; /* they agreed at different times, a look at the quorum may lie in between */
    }
    if (all) {
        r->falling_asleep = false;
        r->quiet = true;
    }
}

void quiet__sleep(struct raft *r)
{
    if (r->quiet || r->falling_asleep || !may_sleep(r)) {
        return;
    }
    for (uint32_t i = 0; i < r->peers_count; i++) {
        r->peers[i].quiet = false;
    }
    r->falling_asleep = true;
    reads__ask(r); /* a round of its own: answers to earlier beats mean nothing here */
    r->quiet_round = r->round_asked;
    look(r);
}

/* Who has not agreed may have everything and not know it: one who campaigned in between believes only what this leader
 * has shown to him since. */
static void show_the_end(struct raft *r)
{
    for (uint32_t i = 0; i < r->peers_count; i++) {
        struct progress *p = &r->peers[i];
        p->ask = p->ask || (!p->quiet && p->state == PROGRESS_REPLICATE);
    }
}

void quiet__wake(struct raft *r)
{
    if (r->falling_asleep) {
        show_the_end(r);
    }
    r->quiet = r->falling_asleep = false;
    if (r->role == RAFT_LEADER) {
        beat__all(r);
        r->heartbeat_deadline_ms = r->now_ms; /* all were active when they agreed, so the quorum has its time too */
    } else {
        r->heard = true; /* its timer did not run: it starts at the next tick, for nobody's lease */
    }
}

/* A beat or an answer of the falling asleep itself. */
static bool is_of_sleep(const struct raft *r, const struct raft_message *m)
{
    if (m->term != r->term) {
        return false;
    }
    if (m->type == RAFT_BEAT) {
        return m->quiet && r->role != RAFT_LEADER;
    }
    bool answer = m->type == RAFT_BEAT_REPLY && r->role == RAFT_LEADER && !m->damaged;
    return answer && (m->quiet || m->round < r->quiet_round);
}

bool quiet__is_disturbed_by(const struct raft *r, const struct raft_event *event)
{
    switch (event->type) {
    case RAFT_TICK:
    case RAFT_PERSISTED:
    case RAFT_APPLIED:
    case RAFT_COMPACTED:
    case RAFT_SNAPSHOT_DONE:
    case RAFT_SLEEP:
    case RAFT_FULL:
    case RAFT_REPAIRED:
        return false;
    case RAFT_RECV:
        return !is_of_sleep(r, event->message);
    default:
        return true;
    }
}

bool quiet__agrees(const struct raft *r, const struct raft_message *m)
{
    return m->index == r->trail.last_index && m->index_term == trail__last_term(&r->trail) &&
           r->matched_index == r->trail.last_index && everything_is_applied(r) && !r->damaged;
}

void quiet__answered(struct raft *r, struct progress *p, const struct raft_message *m)
{
    if (r->falling_asleep && m->quiet && m->round >= r->quiet_round) {
        p->quiet = true;
        look(r);
    }
}
