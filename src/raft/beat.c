/* The leader's clock: heartbeats, their answers, and check-quorum (dissertation section 6.2): a leader that did not
 * hear from a majority for election_ms is none any more, its clients look for another one.
 *
 * A beat is small and says nothing of entries, so that those of many groups travel in one frame. Its answer un-pauses
 * a probe, shows that appends may have been lost, and confirms a round of reads. */
#include "raft/impl.h"

#include <stddef.h>

#include "base/plant.h"

static void check_quorum(struct raft *r)
{
    if (r->quorum_deadline_ms == DEADLINE_UNSET) {
        r->quorum_deadline_ms = r->now_ms + r->election_ms;
    }
    if (r->now_ms < r->quorum_deadline_ms) {
        return;
    }
    r->quorum_deadline_ms = r->now_ms + r->election_ms;
    uint32_t active = config__bit(r->self_place);
    for (uint32_t i = 0; i < r->peers_count; i++) {
        struct progress *p = &r->peers[i];
        active |= p->active && !p->damaged ? config__bit(p->place) : 0;
        p->active = false;
    }
    if (!config__majority_of(raft__config(r), active) && !PLANT(80)) {
        raft__become_follower(r, 0);
    }
}

void beat__all(struct raft *r)
{
    for (uint32_t i = 0; i < r->peers_count; i++) {
        r->peers[i].beat_due = true;
    }
}

void beat__tick(struct raft *r)
{
    if (r->peers_count == 0) {
        return;
    }
    transfer__tick(r);
    change__drop_leavers(r);
    check_quorum(r);
    if (r->role != RAFT_LEADER || r->now_ms < r->heartbeat_deadline_ms) {
        return;
    }
    r->heartbeat_deadline_ms = r->now_ms + r->heartbeat_ms;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        progress__beat(&r->peers[i]);
    }
}

void beat__recv_reply(struct raft *r, const struct raft_message *m)
{
    if (m->term > r->term) {
        raft__set_term(r, m->term);
        return;
    }
    struct progress *p = m->term == r->term && !m->reject ? raft__peer(r, m->from) : NULL;
    if (p == NULL) {
        return;
    }
    p->active = true;
    p->commit = m->commit > p->commit ? m->commit : p->commit;
    heal__heard(r, p, m);
    uint64_t could_commit = p->match < r->commit_index ? p->match : r->commit_index;
    progress__beat_answered(p, m->commit < could_commit);
    if (m->round > p->round && m->round <= r->round_sent) {
        p->round = m->round;
        reads__confirm(r);
    }
    quiet__answered(r, p, m);
    change__drop_leavers(r);
}

void beat__take(struct raft *r, struct progress *p, struct raft_update *update)
{
    bool new_round = r->round_asked > r->round_sent;
    if (p == &r->peers[r->peers_count - 1]) {
        r->round_sent = r->round_asked; /* with this one everybody is asked */
    }
    if (!p->beat_due && !new_round) {
        return;
    }
    p->beat_due = false;
    p->answered = false;
    struct raft_message *m = update__send_now(r, update, RAFT_BEAT, p->peer);
    m->commit = p->match < r->commit_index ? p->match : r->commit_index;
    m->round = r->round_asked;
    m->heal = p->damaged ? p->heal : 0;
    m->damage = p->damaged ? p->damage : 0;
    m->quiet = r->falling_asleep;
    if (m->quiet) {
        m->index = r->trail.last_index;
        m->index_term = trail__last_term(&r->trail);
    }
}
