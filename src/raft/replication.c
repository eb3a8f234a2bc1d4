/* A leader's appends and its commit rule (dissertation section 3.5 and figure 3.1, AppendEntries; section 10.2.1 for
 * sending while the own disk is still busy). The follower's side is in follower.c.
 *
 * The commit index travels with the next append or beat, no message is sent for it alone: clients are answered by the
 * leader. */
#include "raft/impl.h"

#include <stddef.h>

#include "base/assert.h"
#include "base/plant.h"

/* Figure 3.1, "Rules for servers": only an entry of the leader's own term commits by being counted, older ones with it
 * (figure 3.7, often called figure 8). The own log counts only as far as it is durable, and only if we are a voter; a
 * damaged replica counts for nothing. */
void replication__advance_commit(struct raft *r)
{
    uint64_t held[RAFT_MEMBERS_MAX] = {0};
    if (r->self_place != PLACE_NONE) {
        held[r->self_place] = r->writes.durable_index;
    }
    for (uint32_t i = 0; i < r->peers_count; i++) {
        const struct progress *p = &r->peers[i];
        if (p->place != PLACE_NONE && !p->damaged) {
            held[p->place] = p->match;
        }
    }
    uint64_t index = config__reached(raft__config(r), held);
    if (index > r->commit_index && (PLANT(23) || trail__term(&r->trail, index) == r->term)) {
        r->commit_index = index;
        heal__committed(r);
    }
}

void replication__lead(struct raft *r)
{
    ASSERT(r->role == RAFT_CANDIDATE && !r->damaged);
    r->role = RAFT_LEADER;
    r->leader = r->self;
    r->heartbeat_deadline_ms = r->now_ms + r->heartbeat_ms;
    r->quorum_deadline_ms = DEADLINE_UNSET;
    r->peers_count = 0;
    change__set_peers(r);
}

void replication__submit(struct raft *r, uint64_t count, uint64_t bytes)
{
    ASSERT(raft_accepts(r) && count > 0);
    trail__append(&r->trail, r->term, count);
    sizes__append(&r->sizes, r->trail.last_index, bytes);
}

void replication__recv_reply(struct raft *r, const struct raft_message *m)
{
    if (m->term > r->term) {
        raft__set_term(r, m->term);
        return;
    }
    struct progress *p = m->term == r->term ? raft__peer(r, m->from) : NULL;
    if (p == NULL || m->index > r->trail.last_index) {
        return;
    }
    p->active = true;
    p->commit = m->commit > p->commit ? m->commit : p->commit;
    heal__heard(r, p, m);
    if (m->reject) {
        progress__refused(p, &r->trail, m->index, m->index_term, m->hint);
    } else if (progress__accepted(p, &r->trail, m->index)) {
        replication__advance_commit(r);
    }
    if (PLANT(16)) {
        p->match = m->commit;
    }
    change__drop_leavers(r);
}

/* A configuration is always the last entry of its append, so that the message can carry it. */
static uint64_t cut_behind_config(const struct raft *r, uint64_t first, uint64_t count,
                                  const struct raft_config_entry **ret_config)
{
    const struct raft_config_entry *config = configs__first_from(&r->configs, first);
    if (config == NULL || config->index >= first + count) {
        *ret_config = NULL;
        return count;
    }
    *ret_config = config;
    return config->index - first + 1;
}

static void fill_append(struct raft *r, struct progress *p, uint64_t count, struct raft_message *m)
{
    const struct raft_config_entry *config = NULL;
    uint64_t wanted = cut_behind_config(r, p->next, count, &config);
    m->index = p->next - 1;
    m->index_term = trail__term(&r->trail, m->index);
    m->commit = r->commit_index;
    m->heal = p->damaged ? p->heal : 0;
    m->damage = p->damaged ? p->damage : 0;
    m->count = trail__copy(&r->trail, p->next, wanted, m->runs, &m->runs_count);
    m->has_config = config != NULL && m->index + m->count == config->index;
    if (m->has_config) {
        m->config = config->config;
    }
    progress__sent(p, m->count);
}

/* Two appends and a beat for each peer at most; the owner takes again until nothing is left. */
void replication__take(struct raft *r, struct raft_update *update)
{
    /* Before the owner has submitted the LEADER entry there is nothing to say but beats: the first append carries it.
     */
    bool announced = trail__last_term(&r->trail) == r->term;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        struct progress *p = &r->peers[i];
        uint64_t count = 0;
        for (int n = 0; n < 2 && announced && progress__plan(p, &r->trail, &r->sizes, &count); n++) {
            fill_append(r, p, count, update__send_now(r, update, RAFT_APPEND, p->peer));
        }
        beat__take(r, p, update);
    }
}
