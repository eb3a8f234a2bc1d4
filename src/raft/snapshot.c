/* Snapshots: who needs one, and what changes when one was installed here. Their transfer is the owner's. */
#include "raft/impl.h"

#include <stddef.h>

#include "base/assert.h"

/* ---- leader ---- */

void snapshot__done(struct raft *r, uint64_t peer, uint64_t index, bool ok)
{
    struct progress *p = raft__peer(r, peer);
    if (p != NULL) {
        ASSERT(!ok || index <= r->commit_index);
        progress__snapshot_done(p, index, ok);
    }
}

/* Who leaves is not worth a transfer. */
void snapshot__take(struct raft *r, struct raft_update *update)
{
    for (uint32_t i = 0; i < r->peers_count; i++) {
        struct progress *p = &r->peers[i];
        if (p->snapshot_due && !p->leaving) {
            p->snapshot_due = false;
            update->snapshots[update->snapshots_count++] = p->peer;
        }
    }
}

/* ---- where it is installed ---- */

/* What is here behind the snapshot goes on from it: the log held its last entry. */
static void keep_tail(struct raft *r, uint64_t index)
{
    writes__installed(&r->writes, index);
    trail__compact(&r->trail, index);
}

static void replace_log(struct raft *r, uint64_t index, uint64_t term)
{
    trail__done(&r->trail);
    trail__init(&r->trail, index, term);
    sizes__done(&r->sizes);
    sizes__init(&r->sizes, index);
    writes__replaced(&r->writes, index);
    configs__truncate(&r->configs, index + 1);
    r->matched_index = 0;
}

/* Neither term nor commit nor applied index ever falls by it. That its last entry is committed makes everything in
 * front of it equal to the leader's log. */
void snapshot__installed(struct raft *r, const struct raft_event *event)
{
    uint64_t index = event->installed.index;
    uint64_t term = event->installed.term;
    ASSERT(index > r->applied_index && event->installed.config_index <= index && term > 0);
    ASSERT(raft_config_is_sane(event->installed.config));
    bool holds = trail__term(&r->trail, index) == term;
    if (term > r->term) {
        raft__set_term(r, term);
    } else if (r->role != RAFT_FOLLOWER) {
        raft__become_follower(r, 0);
    }
    if (holds) {
        keep_tail(r, index);
    } else {
        replace_log(r, index, term);
    }
    configs__install(&r->configs, index, event->installed.config_index, event->installed.config);
    r->applied_index = index;
    if (index > r->commit_index) {
        r->commit_index = index;
    }
    if (r->leader != 0 && index > r->matched_index) {
        r->matched_index = index;
    }
    raft__config_changed(r);
    heal__look(r);
}
