/* The follower's side of appends and beats (dissertation section 3.5 and figure 3.1, AppendEntries): what is taken over
 * from a leader, what is refused, and what is committed by its word. */
#include "raft/impl.h"

#include "base/plant.h"

/* True when the message is of a leader that we follow from now on. A deposed one is told our term. */
static bool follow(struct raft *r, const struct raft_message *m, enum raft_message_type reply)
{
    if (m->term < r->term) {
        update__answer(r, &(struct raft_answer){.type = reply, .to = m->from, .reject = true, .index = m->index});
        return false;
    }
    if (m->term > r->term) {
        raft__set_term(r, m->term);
    }
    if (r->role == RAFT_LEADER || (r->leader != 0 && r->leader != m->from)) {
        return false; /* a second leader of this term: not possible among sound peers, never believed */
    }
    raft__become_follower(r, m->from);
    r->heard = r->heard_leader = true;
    return true;
}

static void commit_up_to(struct raft *r, uint64_t index)
{
    if (index > r->commit_index) {
        r->commit_index = index;
    }
}

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

static void truncate(struct raft *r, uint64_t from)
{
    trail__truncate(&r->trail, from);
    sizes__truncate(&r->sizes, from - 1);
    writes__truncate(&r->writes, from);
    configs__truncate(&r->configs, from);
    if (r->matched_index >= from) {
        r->matched_index = from - 1;
    }
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
    if (m->has_config) {
        configs__push(&r->configs, end, &m->config);
    }
}

static void take_over(struct raft *r, const struct raft_message *m, uint64_t from)
{
    uint32_t version = r->configs.version;
    if (from <= r->trail.last_index) {
        truncate(r, from);
    }
    append_from(r, m, from);
    if (r->configs.version != version) {
        raft__config_changed(r);
    }
}

/* Takes over what is new in a message whose previous entry matches, or lies below commit. *ret_matched: the log is the
 * leader's up to here; that is the previous entry if there is no room for the others, which the owner makes by
 * compacting what the message commits. False: the message contradicts what is committed here, and is ignored. */
static bool merge_entries(struct raft *r, const struct raft_message *m, uint64_t *ret_matched)
{
    uint64_t end = m->index + m->count;
    *ret_matched = end;
    if (PLANT(19) && m->index == 0 && m->count > 0 && r->trail.base_index == 0) {
        take_over(r, m, 1);
        return true;
    }
    if (m->count == 0 || end <= r->commit_index) {
        return true;
    }
    /* What is committed is in every later leader's log (section 3.6.3): entries below commit need no look, the one at
     * commit is compared as a matter of caution. */
    uint64_t different = first_difference(r, m, r->commit_index);
    if (different > end) {
        return true; /* nothing new: an old message, maybe; what we hold beyond it stays */
    }
    if (different <= r->commit_index) {
        return false;
    }
    if (!trail__has_room(&r->trail, m->runs_count) ||
        (m->has_config && !configs__has_room(&r->configs, different, 1))) {
        *ret_matched = m->index;
        return true;
    }
    take_over(r, m, different);
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
    update__answer(r, &answer);
}

void follower__recv_append(struct raft *r, const struct raft_message *m)
{
    if (!follow(r, m, RAFT_APPEND_REPLY)) {
        return;
    }
    bool known = m->index < r->commit_index;
    if (!known && (m->index > r->trail.last_index || trail__term(&r->trail, m->index) != m->index_term)) {
        refuse_append(r, m);
        return;
    }
    uint64_t matched = 0;
    if (!merge_entries(r, m, &matched)) {
        return;
    }
    if (matched < r->commit_index) {
        matched = r->commit_index;
    }
    if (matched > r->matched_index) {
        r->matched_index = matched;
    }
    uint64_t sure = PLANT(73) ? r->trail.last_index : matched;
    commit_up_to(r, m->commit < sure ? m->commit : sure);
    heal__hear(r, m);
    update__answer(r, &(struct raft_answer){.type = RAFT_APPEND_REPLY, .to = m->from, .index = matched});
}

/* A beat knows nothing of our log, so it commits only what this leader's appends have shown to be its own: what the
 * leader believes to match may be lost here (heal.c). */
void follower__recv_beat(struct raft *r, const struct raft_message *m)
{
    if (!follow(r, m, RAFT_BEAT_REPLY)) {
        return;
    }
    commit_up_to(r, m->commit < r->matched_index ? m->commit : r->matched_index);
    heal__hear(r, m);
    r->quiet = m->quiet && quiet__agrees(r, m);
    if (r->quiet) { /* our clock stands still: nothing counts from here */
        r->heard = r->heard_leader = false;
        r->lease_end_ms = 0;
    }
    update__answer(r,
                   &(struct raft_answer){.type = RAFT_BEAT_REPLY, .to = m->from, .round = m->round, .quiet = r->quiet});
}
