/* What a peer's message must be like to be looked at. A peer may run other software or have been led astray: what no
 * sound peer sends is dropped here, not asserted. */
#include "raft/impl.h"

#include <stddef.h>

/* No log reaches this: it keeps sums of an index and a count from a peer's message away from overflow. */
#define INDEX_MAX ((uint64_t)1 << 62)

/* Entries of an append: as many as the runs say, terms that never fall and never exceed the sender's. */
static bool runs_are_sane(const struct raft_message *m)
{
    if (m->count > RAFT_APPEND_ENTRIES_MAX || m->runs_count > RAFT_RUNS_MAX) {
        return false;
    }
    uint64_t count = 0;
    uint64_t term = m->index_term;
    for (uint32_t i = 0; i < m->runs_count; i++) {
        if (m->runs[i].term == 0 || m->runs[i].term < term || m->runs[i].count == 0 || m->runs[i].count > m->count) {
            return false;
        }
        term = m->runs[i].term;
        count += m->runs[i].count;
    }
    return term <= m->term && count == m->count;
}

static bool config_is_sane(const struct raft_message *m)
{
    return !m->has_config || (m->count > 0 && raft_config_is_sane(&m->config));
}

/* An index and its term, as one of the sender's entries. */
static bool entry_is_sane(const struct raft_message *m)
{
    return (m->index == 0) == (m->index_term == 0) && m->index_term <= m->term;
}

/* Only those that we ask may answer. */
static bool is_known(const struct raft *r, uint64_t replica)
{
    if (config__place(raft__config(r), replica) != PLACE_NONE) {
        return true;
    }
    for (uint32_t i = 0; i < r->peers_count; i++) { /* who leaves is no member any more */
        if (r->peers[i].peer == replica) {
            return true;
        }
    }
    return false;
}

bool message__is_sane(const struct raft *r, const struct raft_message *m)
{
    if (m->to != r->self || m->from == r->self || m->from == 0) {
        return false;
    }
    if (m->term == 0 || m->term >= RAFT_TERM_MAX || m->index >= INDEX_MAX) {
        return false;
    }
    switch (m->type) {
    case RAFT_VOTE_REQUEST:
        return entry_is_sane(m);
    case RAFT_APPEND:
        return entry_is_sane(m) && runs_are_sane(m) && config_is_sane(m);
    case RAFT_BEAT:
        return !m->quiet || entry_is_sane(m);
    case RAFT_TIMEOUT_NOW:
        return true;
    case RAFT_VOTE_REPLY:
    case RAFT_APPEND_REPLY:
    case RAFT_BEAT_REPLY:
        return is_known(r, m->from);
    }
    return false;
}
