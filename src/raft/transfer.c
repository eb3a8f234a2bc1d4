/* Giving the leadership away (dissertation section 3.10): nothing new is taken, the other one is brought up to date and
 * told to campaign at once. If nothing came of it within an election timeout, the leader goes on.
 *
 * A leader that is no voter of the committed configuration any more (section 4.2.2) does the same for good. */
#include "raft/impl.h"

#include <stddef.h>

#include "base/assert.h"
#include "base/plant.h"

bool raft_may_transfer(const struct raft *r, uint64_t to)
{
    const struct raft_config *config = raft__config(r);
    struct raft_peer_state state;
    if (!raft_accepts(r) || !raft_peer_state(r, to, &state)) {
        return false;
    }
    return config__votes_everywhere(config, config__place(config, to)) && !state.damaged && !state.full &&
           !state.in_snapshot && r->trail.last_index - state.match <= RAFT_LAG_ENTRIES_MAX;
}

void transfer__begin(struct raft *r, uint64_t to)
{
    ASSERT(raft_may_transfer(r, to));
    r->transfer_to = to;
    r->transfer_told = false;
    r->transfer_deadline_ms = DEADLINE_UNSET;
}

void transfer__tick(struct raft *r)
{
    if (r->transfer_to == 0) {
        return;
    }
    if (r->transfer_deadline_ms == DEADLINE_UNSET) {
        r->transfer_deadline_ms = r->now_ms + r->election_ms;
    }
    if (r->now_ms >= r->transfer_deadline_ms) {
        r->transfer_to = 0;
    }
}

/* The voter that has most of the log; NULL: none. */
static const struct progress *most_advanced(const struct raft *r)
{
    const struct progress *best = NULL;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        const struct progress *p = &r->peers[i];
        bool votes = config__votes_everywhere(raft__config(r), p->place) && !p->damaged;
        if (votes && (best == NULL || p->match > best->match)) {
            best = p;
        }
    }
    return best;
}

void transfer__take(struct raft *r, struct raft_update *update)
{
    const struct progress *p = NULL;
    bool over = change__is_over_for_us(r);
    if (over) {
        p = most_advanced(r);
    } else if (r->transfer_to != 0 && !r->transfer_told) {
        p = raft__peer(r, r->transfer_to);
        p = p != NULL && (p->match == r->trail.last_index || PLANT(81)) ? p : NULL;
    }
    if (p != NULL) {
        update__send_now(r, update, RAFT_TIMEOUT_NOW, p->peer);
        r->transfer_told = true;
    }
    if (over) {
        raft__become_follower(r, 0);
    }
}
