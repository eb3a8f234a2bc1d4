/* Configurations on the leader: which change may come next, who is a peer by it, and how somebody leaves.
 *
 * Sets of voters change by joint consensus (dissertation section 4.3). One change at a time, and none before an entry
 * of the own term is committed (Ongaro's bug report of 2015). Who is no member any more stays a peer until it holds the
 * entry that removes it and knows that it is committed; else it would campaign for ever, not knowing why nobody
 * answers. */
#include "raft/impl.h"

#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/plant.h"

/* ---- what may be changed ---- */

/* True when a voter of `config` is none yet, and not known to be nearly as far as we are. Who has answered no append
 * yet, or waits for a snapshot, is far off however short the log is. */
static bool newcomer_is_behind(const struct raft *r, const struct raft_config *config)
{
    const struct raft_config *present = raft__config(r);
    for (uint32_t i = 0; i < config->count; i++) {
        uint64_t replica = config->members[i].replica;
        bool votes_already = config__votes_anywhere(present, config__place(present, replica));
        if (config->members[i].next != RAFT_VOTER || votes_already || replica == r->self) {
            continue;
        }
        struct raft_peer_state state;
        if (!raft_peer_state(r, replica, &state) || state.leaving || state.damaged || state.match == 0 ||
            state.in_snapshot || r->trail.last_index - state.match > RAFT_LAG_ENTRIES_MAX) {
            return true;
        }
    }
    return false;
}

enum raft_change_verdict raft_may_change(const struct raft *r, const struct raft_config *config)
{
    if (r->role != RAFT_LEADER) {
        return RAFT_CHANGE_NOT_LEADER;
    }
    const struct raft_config_entry *present = configs__newest(&r->configs);
    if (raft_config_is_joint(&present->config) || present->index > r->commit_index || r->transfer_to != 0) {
        return RAFT_CHANGE_PENDING;
    }
    if (!raft__own_term_committed(r) && !PLANT(31)) {
        return RAFT_CHANGE_NOT_READY;
    }
    if (!raft_config_is_sane(config)) {
        return RAFT_CHANGE_SENSELESS;
    }
    struct raft_config goal;
    struct raft_config step;
    raft_config_leave(config, &goal);
    if (!raft_config_join(&present->config, &goal, &step)) {
        return RAFT_CHANGE_CROWDED;
    }
    if (!config__equal(&step, config)) {
        return RAFT_CHANGE_SENSELESS;
    }
    uint32_t entries = raft_config_is_joint(config) ? 2 : 1; /* its end needs room too */
    if (!configs__has_room(&r->configs, r->trail.last_index + 1, entries)) {
        return RAFT_CHANGE_CROWDED;
    }
    return newcomer_is_behind(r, config) ? RAFT_CHANGE_BEHIND : RAFT_CHANGE_OK;
}

bool change__leave_is_due(const struct raft *r)
{
    const struct raft_config_entry *present = configs__newest(&r->configs);
    return raft_accepts(r) && raft_config_is_joint(&present->config) && present->index <= r->commit_index &&
           raft__own_term_committed(r) && configs__has_room(&r->configs, r->trail.last_index + 1, 1);
}

void change__append(struct raft *r, const struct raft_config *config, uint64_t bytes)
{
    if (change__leave_is_due(r)) {
        struct raft_config left;
        raft_config_leave(raft__config(r), &left);
        ASSERT(config__equal(config, &left));
    } else {
        ASSERT(raft_may_change(r, config) == RAFT_CHANGE_OK);
    }
    trail__append(&r->trail, r->term, 1);
    sizes__append(&r->sizes, r->trail.last_index, bytes);
    configs__push(&r->configs, r->trail.last_index, config);
    raft__config_changed(r);
}

/* ---- peers ---- */

static void drop_peer(struct raft *r, uint32_t at)
{
    r->peers_count--;
    memmove(&r->peers[at], &r->peers[at + 1], (r->peers_count - at) * sizeof *r->peers);
}

/* A new member matters more than a word to one that leaves. */
static void make_room(struct raft *r)
{
    for (uint32_t i = 0; i < r->peers_count && r->peers_count == RAFT_MEMBERS_MAX; i++) {
        if (r->peers[i].leaving) {
            drop_peer(r, i);
        }
    }
    ASSERT(r->peers_count < RAFT_MEMBERS_MAX);
    if (r->peers_count == r->peers_capacity) { /* most groups never need it: they have no other member, or never lead */
        r->peers_capacity++;
        r->peers = mem_grow(r->peers, r->peers_capacity * sizeof *r->peers);
    }
}

void change__set_peers(struct raft *r)
{
    const struct raft_config_entry *present = configs__newest(&r->configs);
    for (uint32_t i = 0; i < r->peers_count; i++) {
        struct progress *p = &r->peers[i];
        p->place = config__place(&present->config, p->peer);
        if (p->place != PLACE_NONE) {
            p->leaving = false;
        } else if (!p->leaving) {
            p->leaving = true;
            p->leave_index = present->index;
            p->leave_deadline_ms = r->now_ms + (uint64_t)RAFT_LEAVER_TIMEOUTS * r->election_ms;
        }
    }
    for (uint32_t i = 0; i < present->config.count; i++) {
        uint64_t replica = present->config.members[i].replica;
        if (replica != r->self && raft__peer(r, replica) == NULL) {
            make_room(r);
            progress__init(&r->peers[r->peers_count++], replica, i, r->trail.last_index);
        }
    }
}

void change__drop_leavers(struct raft *r)
{
    for (uint32_t i = r->peers_count; i > 0; i--) {
        const struct progress *p = &r->peers[i - 1];
        bool knows = p->commit >= p->leave_index; /* then it holds the entry too */
        if (p->leaving && (knows || r->now_ms >= p->leave_deadline_ms)) {
            drop_peer(r, i - 1);
        }
    }
}

bool change__is_over_for_us(const struct raft *r)
{
    const struct raft_config_entry *present = configs__newest(&r->configs);
    return r->role == RAFT_LEADER && present->index <= r->commit_index &&
           !config__votes_anywhere(&present->config, r->self_place);
}
