/* What an owner may ask a core: raft.h's questions that are a look at its state. */
#include "raft/impl.h"

#include <stddef.h>

uint64_t raft_next_tick_ms(const struct raft *r)
{
    if (r->quiet) {
        return UINT64_MAX;
    }
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

const struct raft_config *raft_config(const struct raft *r, uint64_t *ret_index)
{
    const struct raft_config_entry *newest = configs__newest(&r->configs);
    *ret_index = newest->index;
    return &newest->config;
}

bool raft_accepts(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->transfer_to == 0;
}

bool raft_has_room(const struct raft *r)
{
    uint32_t roomy = r->full ? 0 : config__bit(r->self_place);
    for (uint32_t i = 0; i < r->peers_count; i++) {
        roomy |= r->peers[i].full ? 0 : config__bit(r->peers[i].place);
    }
    return r->role == RAFT_LEADER && config__majority_of(raft__config(r), roomy);
}

uint64_t raft_read_round(const struct raft *r)
{
    return r->round_asked;
}

bool raft_wants_snapshot(const struct raft *r, uint64_t index)
{
    return r->role != RAFT_LEADER && index > r->commit_index;
}

bool raft_is_damaged(const struct raft *r)
{
    return r->damaged;
}

bool raft_is_quiet(const struct raft *r)
{
    return r->quiet;
}

bool raft_is_falling_asleep(const struct raft *r)
{
    return r->falling_asleep;
}

bool raft_peer_state(const struct raft *r, uint64_t replica, struct raft_peer_state *ret_state)
{
    for (uint32_t i = 0; r->role == RAFT_LEADER && i < r->peers_count; i++) {
        const struct progress *p = &r->peers[i];
        if (p->peer == replica) {
            *ret_state = (struct raft_peer_state){.match = p->match,
                                                  .next = p->next,
                                                  .probing = p->state == PROGRESS_PROBE,
                                                  .in_snapshot = p->state == PROGRESS_SNAPSHOT,
                                                  .active = p->active,
                                                  .damaged = p->damaged,
                                                  .full = p->full,
                                                  .leaving = p->leaving,
                                                  .quiet = p->quiet && (r->quiet || r->falling_asleep)};
            return true;
        }
    }
    return false;
}
