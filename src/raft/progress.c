/* The leader's view of one follower: probe / replicate, and the window of what may be in flight. */
#include "raft/progress.h"

#include "base/assert.h"

/* What a first probe may carry: enough for a LEADER entry and a little more, not a window's worth for a peer that is
 * down. */
#define PROBE_BYTES_MAX ((uint64_t)64 << 10)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void progress__init(struct progress *p, uint64_t peer, uint64_t last_index)
{
    *p = (struct progress){.peer = peer, .state = PROGRESS_PROBE, .next = last_index + 1};
}

bool progress__accepted(struct progress *p, uint64_t index)
{
    bool grew = index > p->match;
    if (grew) {
        p->match = index;
    }
    if (p->state == PROGRESS_PROBE) {
        p->state = PROGRESS_REPLICATE;
        p->waiting = false;
        p->next = p->match + 1;
    } else if (p->next <= p->match) {
        p->next = p->match + 1;
    }
    return grew;
}

/* Where to try next. Everything of ours in (j, refused) has a higher term than the follower has there, so j is the last
 * index that can match; if our entry at j is not of the conflict's term, none of the follower's entries of that term is
 * ours (dissertation, end of section 3.5: one probe per conflicting term). */
static uint64_t retry_next(const struct trail *trail, uint64_t refused, uint64_t conflict_term, uint64_t hint)
{
    uint64_t next = min_u64(refused, trail->last_index);
    if (conflict_term == 0) {
        return min_u64(next, hint);
    }
    if (next <= trail->base_index) {
        return next;
    }
    uint64_t j = trail__last_not_above(trail, conflict_term, next - 1);
    next = min_u64(next, j + 1);
    return trail__term(trail, j) == conflict_term ? next : min_u64(next, hint);
}

void progress__refused(struct progress *p, const struct trail *trail, uint64_t refused, uint64_t conflict_term,
                       uint64_t hint)
{
    if (refused <= p->match || refused >= p->next) {
        return; /* about a message that newer answers have overtaken */
    }
    if (p->state == PROGRESS_PROBE && refused != p->next - 1) {
        return;
    }
    uint64_t next = retry_next(trail, refused, conflict_term, hint);
    if (next <= p->match) {
        next = p->match + 1;
    }
    if (next <= trail->base_index) {
        next = trail->base_index + 1;
    }
    /* A probe that cannot go lower waits for the heartbeat: asking again at once would spin at the speed of the link.
     * */
    p->waiting = p->state == PROGRESS_PROBE && next >= p->next;
    p->state = PROGRESS_PROBE;
    p->next = min_u64(next, p->next);
}

void progress__lost(struct progress *p)
{
    if (p->state == PROGRESS_REPLICATE) {
        p->state = PROGRESS_PROBE;
        p->next = p->match + 1;
    }
    p->waiting = true; /* the link is bad now: the heartbeat tries again */
}

void progress__beat(struct progress *p)
{
    p->heartbeat_due = true;
}

static uint64_t probe_count(const struct progress *p, const struct trail *trail, const struct sizes *sizes)
{
    if (p->waiting) {
        return 0; /* a heartbeat repeats the question only */
    }
    uint64_t count = min_u64(trail->last_index + 1 - p->next, RAFT_APPEND_ENTRIES_MAX);
    return sizes__fit(sizes, p->next - 1, count, PROBE_BYTES_MAX);
}

static uint64_t window_count(const struct progress *p, const struct trail *trail, const struct sizes *sizes)
{
    uint64_t entries = p->next - 1 - p->match; /* in flight */
    uint64_t count = min_u64(trail->last_index + 1 - p->next, RAFT_APPEND_ENTRIES_MAX);
    if (count == 0 || entries >= RAFT_INFLIGHT_ENTRIES_MAX) {
        return 0;
    }
    count = min_u64(count, RAFT_INFLIGHT_ENTRIES_MAX - entries);
    uint64_t bytes = sizes__between(sizes, p->match, p->next - 1);
    if (bytes >= RAFT_INFLIGHT_BYTES_MAX) {
        return 0;
    }
    uint64_t room = RAFT_INFLIGHT_BYTES_MAX - bytes;
    uint64_t fits = sizes__fit(sizes, p->next - 1, count, min_u64(room, RAFT_APPEND_BYTES_MAX));
    if (fits == 0 && (entries == 0 || sizes__between(sizes, p->next - 1, p->next) <= room)) {
        fits = 1; /* larger than a message should be: it travels alone */
    }
    return fits;
}

bool progress__plan(struct progress *p, const struct trail *trail, const struct sizes *sizes, uint64_t *ret_count)
{
    if (p->next <= trail->base_index) { /* the log was compacted past it */
        p->state = PROGRESS_PROBE;
        p->next = trail->base_index + 1;
        p->waiting = false;
    }
    uint64_t count = 0;
    bool due = p->heartbeat_due;
    if (p->state == PROGRESS_PROBE) {
        due = due || !p->waiting;
        count = due ? probe_count(p, trail, sizes) : 0;
    } else {
        count = window_count(p, trail, sizes);
        due = due || count > 0;
    }
    if (due) {
        *ret_count = count;
    }
    return due;
}

void progress__sent(struct progress *p, uint64_t count)
{
    p->heartbeat_due = false;
    if (p->state == PROGRESS_PROBE) {
        p->waiting = true; /* next stays: the answer is about next - 1 */
    } else {
        p->next += count;
    }
}

void progress__check(const struct progress *p, const struct trail *trail)
{
    ASSERT(p->match < p->next);
    ASSERT(p->next <= trail->last_index + 1);
    ASSERT(p->state == PROGRESS_REPLICATE || p->state == PROGRESS_PROBE);
    if (p->state == PROGRESS_REPLICATE) {
        ASSERT(!p->waiting);
        ASSERT(p->next - 1 - p->match <= RAFT_INFLIGHT_ENTRIES_MAX);
    }
}
