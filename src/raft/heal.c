/* Damaged replicas and their way back; full ones.
 *
 * A damaged replica may have forgotten a vote it gave or an entry it acknowledged: counting it could elect two leaders
 * of one term, or lose what was committed. It is whole again when neither can matter any more: a leader that knows of
 * the damage has committed an entry of its own term, proposed after it knew, by majorities without this replica; and
 * the replica holds that entry, with all before it, on its disk. Whatever it had acknowledged is then in the leader's
 * log on such a majority, or was never committed. Votes that it forgot: those of earlier terms are over; the one of
 * this term is taken to have gone to this leader; and whoever got one in a later term needs somebody of that majority
 * too, who refuses, since the candidate has not got that entry (it left this term before the entry was proposed).
 *
 * Each damage has a number, so that the word about an earlier one is not taken for one about this. */
#include "raft/impl.h"

#include <stddef.h>

/* ---- the leader's side ---- */

/* An acknowledgement from before the damage may come late and raise match: nobody counts that, a refusal takes it back,
 * and once the replica is whole it is true again, since heal lies above all that was ever sent before. */

void heal__heard(struct raft *r, struct progress *p, const struct raft_message *m)
{
    p->full = m->full;
    if (m->damaged) {
        if (!p->damaged || p->damage != m->damage) {
            progress__damaged(p, m->damage, r->trail.last_index);
        }
    } else if (p->damaged && p->heal != 0 && m->commit >= p->heal) { /* else it was sent before the damage */
        p->damaged = false;
        p->heal = 0;
        replication__advance_commit(r);
    }
}

void heal__committed(struct raft *r)
{
    for (uint32_t i = 0; i < r->peers_count; i++) {
        struct progress *p = &r->peers[i];
        if (p->damaged && p->heal == 0 && r->commit_index > p->heal_after) {
            p->heal = r->commit_index;
            p->beat_due = true;
        }
    }
}

bool heal__noop_is_due(const struct raft *r)
{
    for (uint32_t i = 0; i < r->peers_count; i++) {
        const struct progress *p = &r->peers[i];
        if (p->damaged && !p->leaving && p->heal == 0 && p->heal_after == r->trail.last_index) {
            return raft_accepts(r);
        }
    }
    return false;
}

/* ---- the damaged replica's side ---- */

void heal__damaged(struct raft *r)
{
    r->damaged = true;
    r->damage = rng_next(&r->rng) | 1;
    r->heal_index = 0;
    r->healed = false;
    if (r->role != RAFT_FOLLOWER) {
        raft__become_follower(r, 0);
    }
}

void heal__hear(struct raft *r, const struct raft_message *m)
{
    if (r->damaged && m->heal != 0 && m->damage == r->damage) {
        r->heal_index = m->heal;
    }
    heal__look(r);
}

void heal__look(struct raft *r)
{
    if (!r->damaged || r->healed || r->heal_index == 0) {
        return;
    }
    if (r->matched_index < r->heal_index || r->writes.durable_index < r->heal_index) {
        return;
    }
    r->healed = true;
    if (r->vote == 0) {
        r->vote = r->leader;
        writes__hard_state(&r->writes);
    }
}

bool heal__is_repaired(const struct raft *r)
{
    return r->healed && writes__hard_state_durable(&r->writes);
}

void heal__repaired(struct raft *r)
{
    if (!r->healed) {
        return; /* damaged anew meanwhile */
    }
    r->damaged = r->healed = false;
    r->damage = r->heal_index = 0;
    r->heard = true; /* the election timer did not run: it starts at the next tick */
}
