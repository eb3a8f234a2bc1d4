/* The leader's view of one peer: probe, replicate, snapshot, and the window of what may be in flight. */
#include "raft/progress.h"

#include "base/assert.h"
#include "base/plant.h"

/* What a first probe may carry: enough for a LEADER entry and a little more, not a window's worth for a peer that is
 * down. */
#define PROBE_BYTES_MAX ((uint64_t)64 << 10)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void progress__init(struct progress *p, uint64_t peer, uint32_t place, uint64_t last_index)
{
    *p = (struct progress){.peer = peer, .place = place, .state = PROGRESS_PROBE, .next = last_index + 1};
}

bool progress__accepted(struct progress *p, const struct trail *trail, uint64_t index)
{
    bool grew = index > p->match;
    if (grew) {
        p->match = index;
    }
    p->answered = true;
    if (p->state == PROGRESS_PROBE && index < p->next && index < p->probed) {
        if (p->barren == p->next) {
            return grew; /* it has no room for these entries: the next beat tries again, or we would spin */
        }
        p->barren = p->next;
    }
    bool too_old = p->match < trail->base_index; /* an old answer, or not enough: what follows has left our log */
    if (p->state != PROGRESS_REPLICATE && !too_old) {
        p->state = PROGRESS_REPLICATE;
        p->waiting = p->snapshot_due = p->snapshot_retry = false;
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

static void enter_snapshot(struct progress *p)
{
    p->state = PROGRESS_SNAPSHOT;
    p->waiting = p->ask = p->snapshot_retry = false;
    p->snapshot_due = true;
}

void progress__refused(struct progress *p, const struct trail *trail, uint64_t refused, uint64_t conflict_term,
                       uint64_t hint)
{
    bool lost = p->damaged && refused <= p->match; /* what it acknowledged before the damage */
    if (p->state == PROGRESS_SNAPSHOT || (refused <= p->match && !lost) || refused >= p->next) {
        return; /* about a message that newer answers have overtaken */
    }
    if (p->state == PROGRESS_PROBE && refused != p->next - 1) {
        return;
    }
    if (lost) {
        p->match = 0;
    }
    uint64_t next = retry_next(trail, refused, conflict_term, hint);
    if (next <= p->match) {
        next = p->match + 1;
    }
    p->waiting = p->ask = false;
    p->state = PROGRESS_PROBE;
    p->next = min_u64(next, p->next); /* in front of the log's base, perhaps: progress__plan finds that */
}

void progress__lost(struct progress *p)
{
    if (p->state == PROGRESS_REPLICATE) {
        p->state = PROGRESS_PROBE;
        p->next = p->match + 1;
    }
    p->ask = false;
    p->waiting = p->state == PROGRESS_PROBE; /* the link is bad now: the next answer to a beat tries again */
}

void progress__beat(struct progress *p)
{
    p->beat_due = true;
    p->snapshot_due = p->snapshot_due || p->snapshot_retry;
    p->snapshot_retry = false;
}

void progress__beat_answered(struct progress *p, bool behind)
{
    p->waiting = false;
    if (p->state == PROGRESS_REPLICATE) {
        bool in_flight = p->next - 1 > p->match;
        p->ask = p->ask || (in_flight ? !p->answered : behind);
    }
}

void progress__damaged(struct progress *p, uint64_t damage, uint64_t last_index)
{
    p->damaged = true;
    p->damage = damage;
    p->heal_after = last_index;
    p->heal = 0;
    p->match = 0;
    if (p->state != PROGRESS_SNAPSHOT) {
        p->state = PROGRESS_PROBE;
        p->waiting = p->ask = false;
        p->next = last_index + 1;
    }
}

void progress__snapshot_done(struct progress *p, uint64_t index, bool ok)
{
    if (p->state != PROGRESS_SNAPSHOT) {
        return;
    }
    if (!ok) {
        p->snapshot_retry = !p->snapshot_due;
        return;
    }
    p->state = PROGRESS_PROBE;
    p->snapshot_due = p->snapshot_retry = false;
    p->next = (index > p->match ? index : p->match) + 1;
}

static uint64_t probe_count(const struct progress *p, const struct trail *trail, const struct sizes *sizes)
{
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
    if (p->state != PROGRESS_SNAPSHOT && p->next <= trail->base_index) { /* the log was compacted past it */
        if (PLANT(20)) {
            p->state = PROGRESS_PROBE;
            p->next = trail->base_index + 1;
            p->waiting = true;
        } else {
            enter_snapshot(p);
        }
    }
    uint64_t count = 0;
    bool due = false;
    switch (p->state) {
    case PROGRESS_SNAPSHOT:
        break;
    case PROGRESS_PROBE:
        due = !p->waiting;
        count = due ? probe_count(p, trail, sizes) : 0;
        break;
    case PROGRESS_REPLICATE:
        count = window_count(p, trail, sizes);
        due = p->ask || count > 0;
        break;
    }
    if (due) {
        *ret_count = count;
    }
    return due;
}

void progress__sent(struct progress *p, uint64_t count)
{
    p->ask = false;
    if (p->state == PROGRESS_PROBE) {
        p->waiting = true; /* next stays: the answer is about next - 1 */
        p->probed = p->next - 1 + count;
    } else {
        p->next += count;
    }
}

void progress__check(const struct progress *p, const struct trail *trail)
{
    ASSERT(p->match < p->next);
    ASSERT(p->next <= trail->last_index + 1);
    ASSERT(p->state == PROGRESS_PROBE || !p->waiting);
    ASSERT(p->state == PROGRESS_REPLICATE || !p->ask);
    ASSERT(p->state == PROGRESS_SNAPSHOT || (!p->snapshot_due && !p->snapshot_retry));
    ASSERT(p->state != PROGRESS_REPLICATE || p->next - 1 - p->match <= RAFT_INFLIGHT_ENTRIES_MAX);
    ASSERT(p->damaged || p->heal == 0);
    ASSERT(p->heal == 0 || p->heal > p->heal_after);
}
