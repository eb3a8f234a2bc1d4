/* Replication: a leader's appends and its commit rule, a follower's answers (dissertation section 3.5 and figure 3.1,
 * AppendEntries; section 10.2.1 for sending while the own disk is still busy).
 *
 * The commit index travels with the next append or heartbeat, no message is sent for it alone: clients are answered by
 * the leader. */
#include "raft/impl.h"

#include <stddef.h>

#include "base/assert.h"

/* ---- leader ---- */

/* Figure 3.1, "Rules for servers": only an entry of the leader's own term commits by being counted, older ones with it
 * (figure 3.7, often called figure 8). The own log counts only as far as it is durable. */
static void advance_commit(struct raft *r)
{
    uint64_t matches[RAFT_VOTERS_MAX];
    uint32_t count = 0;
    matches[count++] = r->writes.durable_index;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        uint32_t at = count++;
        for (; at > 0 && matches[at - 1] < r->peers[i].match; at--) {
            matches[at] = matches[at - 1];
        }
        matches[at] = r->peers[i].match;
    }
    ASSERT(count == r->voters_count);
    uint64_t index = matches[raft__majority(r) - 1]; /* sorted downwards: a majority has it */
    if (index > r->commit_index && trail__term(&r->trail, index) == r->term) {
        r->commit_index = index;
    }
}

void replication__lead(struct raft *r)
{
    r->role = RAFT_LEADER;
    r->leader = r->self;
    r->heartbeat_deadline_ms = r->now_ms + r->heartbeat_ms;
    r->peers_count = 0;
    for (uint32_t i = 0; i < r->voters_count; i++) {
        if (r->voters[i] != r->self) {
            progress__init(&r->peers[r->peers_count++], r->voters[i], r->trail.last_index);
        }
    }
}

void replication__tick(struct raft *r)
{
    if (r->peers_count == 0 || r->now_ms < r->heartbeat_deadline_ms) {
        return;
    }
    r->heartbeat_deadline_ms = r->now_ms + r->heartbeat_ms;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        progress__beat(&r->peers[i]);
    }
}

void replication__submit(struct raft *r, uint64_t count, uint64_t bytes)
{
    ASSERT(r->role == RAFT_LEADER && count > 0);
    trail__append(&r->trail, r->term, count);
    sizes__append(&r->sizes, r->trail.last_index, bytes);
}

void replication__persisted(struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        advance_commit(r);
    }
}

static struct progress *find_peer(struct raft *r, uint64_t peer)
{
    for (uint32_t i = 0; i < r->peers_count; i++) {
        if (r->peers[i].peer == peer) {
            return &r->peers[i];
        }
    }
    return NULL;
}

void replication__unreachable(struct raft *r, uint64_t peer)
{
    struct progress *p = r->role == RAFT_LEADER ? find_peer(r, peer) : NULL;
    if (p != NULL) {
        progress__lost(p);
    }
}

void replication__recv_reply(struct raft *r, const struct raft_message *m)
{
    if (m->term > r->term) {
        raft__set_term(r, m->term);
        return;
    }
    if (m->term < r->term || r->role != RAFT_LEADER) {
        return;
    }
    struct progress *p = find_peer(r, m->from);
    if (p == NULL || m->index > r->trail.last_index) {
        return;
    }
    if (m->reject) {
        progress__refused(p, &r->trail, m->index, m->index_term, m->hint);
    } else if (progress__accepted(p, m->index)) {
        advance_commit(r);
    }
}

static void fill_append(struct raft *r, struct progress *p, uint64_t count, struct raft_message *m)
{
    raft__fill_header(r, m, RAFT_APPEND, p->peer);
    m->index = p->next - 1;
    m->index_term = trail__term(&r->trail, m->index);
    m->commit = r->commit_index;
    m->count = trail__copy(&r->trail, p->next, count, m->runs, &m->runs_count);
    progress__sent(p, m->count);
}

/* Two appends for each follower at most; the owner takes again until nothing is left. */
void replication__take(struct raft *r, struct raft_update *update)
{
    if (r->role != RAFT_LEADER) {
        return;
    }
    /* Before the owner has submitted the LEADER entry there is nothing to say but heartbeats: the first append carries
     * it. */
    bool announced = trail__last_term(&r->trail) == r->term;
    for (uint32_t i = 0; i < r->peers_count; i++) {
        struct progress *p = &r->peers[i];
        if (!announced && !p->heartbeat_due) {
            continue;
        }
        uint64_t count = 0;
        for (int n = 0; n < 2 && progress__plan(p, &r->trail, &r->sizes, &count); n++) {
            fill_append(r, p, count, &update->send_now[update->send_now_count++]);
        }
    }
}

/* ---- follower ---- */

/* First entry of the message that this log lacks or holds with another term; m->index + m->count + 1 if it has them
 * all. Entries below `from` are not looked at. */
static uint64_t first_difference(const struct raft *r, const struct raft_message *m, uint64_t from)
{
    uint64_t index = m->index + 1; /* of the run's first entry */
    for (uint32_t i = 0; i < m->runs_count; i++) {
        uint64_t end = index + m->runs[i].count - 1;
        uint64_t at = from > index ? from : index;
        while (at <= end) {
            if (at > r->trail.last_index || trail__term(&r->trail, at) != m->runs[i].term) {
                return at;
            }
            at = at == r->trail.base_index ? at + 1 : trail__run_last(&r->trail, at) + 1;
        }
        index = end + 1;
    }
    return index;
}

/* Appends the message's entries from `from` on. */
static void append_from(struct raft *r, const struct raft_message *m, uint64_t from)
{
    uint64_t end = m->index; /* of the run */
    for (uint32_t i = 0; i < m->runs_count; i++) {
        end += m->runs[i].count;
        if (end > r->trail.last_index) {
            trail__append(&r->trail, m->runs[i].term, end - r->trail.last_index);
        }
    }
    uint64_t added = end + 1 - from;
    uint64_t bytes = m->bytes > 0 ? m->bytes / m->count * added : (uint64_t)SIZES_GUESS_BYTES * added;
    sizes__append(&r->sizes, end, bytes);
}

/* Takes over what is new in a message whose previous entry matches, or lies below commit. False: the message
 * contradicts what is committed here or does not fit, and is ignored. */
static bool merge_entries(struct raft *r, const struct raft_message *m)
{
    uint64_t end = m->index + m->count;
    if (m->count == 0 || end <= r->commit_index) {
        return true;
    }
    /* What is committed is in every later leader's log (section 3.6.3): entries below commit need no look, the one at
     * commit is compared as a matter of caution. */
    uint64_t different = first_difference(r, m, r->commit_index);
    if (different > end) {
        return true; /* nothing new: an old message, maybe; what we hold beyond it stays */
    }
    if (different <= r->commit_index || !trail__has_room(&r->trail, m->runs_count)) {
        return false;
    }
    if (different <= r->trail.last_index) {
        trail__truncate(&r->trail, different);
        sizes__truncate(&r->sizes, different - 1);
        writes__truncate(&r->writes, different);
    }
    append_from(r, m, different);
    return true;
}

/* The previous entry does not match: says where the conflict is, so that the leader skips a whole term of ours at a
 * time. */
static void refuse_append(struct raft *r, const struct raft_message *m)
{
    struct raft_answer answer = {.type = RAFT_APPEND_REPLY, .to = m->from, .reject = true, .index = m->index};
    if (m->index > r->trail.last_index) {
        answer.hint = r->trail.last_index + 1;
    } else if (m->index == r->commit_index) {
        return; /* it contradicts what is committed: not possible among sound peers, never believed */
    } else {
        uint64_t first = trail__run_first(&r->trail, m->index);
        answer.index_term = trail__term(&r->trail, m->index);
        answer.hint = first > r->commit_index ? first : r->commit_index + 1;
    }
    raft__answer(r, &answer);
}

void replication__recv_append(struct raft *r, const struct raft_message *m)
{
    if (m->term < r->term) { /* its sender is deposed: our term tells it so */
        struct raft_answer answer = {.type = RAFT_APPEND_REPLY, .to = m->from, .reject = true, .index = m->index};
        raft__answer(r, &answer);
        return;
    }
    if (m->term > r->term) {
        raft__set_term(r, m->term);
    }
    if (r->role == RAFT_LEADER || (r->leader != 0 && r->leader != m->from)) {
        return; /* a second leader of this term: not possible among sound peers, never believed */
    }
    raft__become_follower(r, m->from);
    r->heard = true;

    bool known = m->index < r->commit_index;
    if (!known && (m->index > r->trail.last_index || trail__term(&r->trail, m->index) != m->index_term)) {
        refuse_append(r, m);
        return;
    }
    if (!merge_entries(r, m)) {
        return;
    }
    uint64_t matched = m->index + m->count;
    if (matched < r->commit_index) {
        matched = r->commit_index;
    }
    uint64_t commit = m->commit < matched ? m->commit : matched;
    if (commit > r->commit_index) {
        r->commit_index = commit;
    }
    raft__answer(r, &(struct raft_answer){.type = RAFT_APPEND_REPLY, .to = m->from, .index = matched});
}
