/* The trail: index -> term as a sorted array of runs. Nearly every question is about the newest run or the one before,
 * so look-ups try those first and fall back to binary search. */
#include "raft/trail.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define TRAIL_CAPACITY_FIRST 4u

void trail__init(struct trail *t, uint64_t base_index, uint64_t base_term)
{
    *t = (struct trail){.base_index = base_index, .base_term = base_term, .last_index = base_index};
    t->runs_capacity = TRAIL_CAPACITY_FIRST;
    t->runs = mem_zeroed(t->runs_capacity, sizeof *t->runs);
}

void trail__done(struct trail *t)
{
    free(t->runs);
    t->runs = NULL;
}

bool trail__has_room(const struct trail *t, uint32_t count)
{
    return t->runs_count + count <= RAFT_TRAIL_RUNS_MAX;
}

static void push_run(struct trail *t, uint64_t first, uint64_t term)
{
    ASSERT(trail__has_room(t, 1));
    if (t->runs_count == t->runs_capacity) {
        t->runs_capacity *= 2;
        t->runs = mem_grow(t->runs, t->runs_capacity * sizeof *t->runs);
    }
    t->runs[t->runs_count++] = (struct trail_run){.first = first, .term = term};
}

void trail__append(struct trail *t, uint64_t term, uint64_t count)
{
    uint64_t last_term = trail__last_term(t);
    ASSERT(count > 0 && term > 0 && term >= last_term);
    if (t->runs_count == 0 || term > last_term) {
        push_run(t, t->last_index + 1, term);
    }
    t->last_index += count;
}

void trail__truncate(struct trail *t, uint64_t from)
{
    ASSERT(from > t->base_index && from <= t->last_index);
    while (t->runs_count > 0 && t->runs[t->runs_count - 1].first >= from) {
        t->runs_count--;
    }
    t->last_index = from - 1;
}

/* Position of the run that holds an index of the log. */
static uint32_t find_run(const struct trail *t, uint64_t index)
{
    ASSERT(index > t->base_index && index <= t->last_index);
    uint32_t high = t->runs_count; /* runs[high].first > index, or the end */
    for (int tries = 0; tries < 2 && high > 0; tries++) {
        if (t->runs[high - 1].first <= index) {
            return high - 1;
        }
        high--;
    }
    uint32_t low = 0; /* runs[low].first <= index */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (t->runs[middle].first <= index) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static uint64_t run_end(const struct trail *t, uint32_t at)
{
    return at + 1 < t->runs_count ? t->runs[at + 1].first - 1 : t->last_index;
}

void trail__compact(struct trail *t, uint64_t index)
{
    ASSERT(index >= t->base_index && index <= t->last_index);
    if (index == t->base_index) {
        return;
    }
    uint32_t at = find_run(t, index);
    t->base_term = t->runs[at].term;
    t->base_index = index;
    uint32_t dropped = run_end(t, at) == index ? at + 1 : at;
    t->runs_count -= dropped;
    memmove(t->runs, t->runs + dropped, t->runs_count * sizeof *t->runs);
    if (t->runs_count > 0) {
        t->runs[0].first = index + 1;
    }
}

uint64_t trail__term(const struct trail *t, uint64_t index)
{
    if (index > t->last_index || index < t->base_index) {
        return 0;
    }
    return index == t->base_index ? t->base_term : t->runs[find_run(t, index)].term;
}

uint64_t trail__last_term(const struct trail *t)
{
    return t->runs_count > 0 ? t->runs[t->runs_count - 1].term : t->base_term;
}

uint64_t trail__run_first(const struct trail *t, uint64_t index)
{
    return t->runs[find_run(t, index)].first;
}

uint64_t trail__run_last(const struct trail *t, uint64_t index)
{
    return run_end(t, find_run(t, index));
}

uint64_t trail__last_not_above(const struct trail *t, uint64_t term, uint64_t limit)
{
    ASSERT(limit >= t->base_index && limit <= t->last_index);
    if (limit == t->base_index) {
        return limit;
    }
    uint32_t at = find_run(t, limit);
    if (t->runs[at].term <= term) {
        return limit;
    }
    while (at > 0) {
        at--;
        if (t->runs[at].term <= term) {
            return run_end(t, at);
        }
    }
    return t->base_index;
}

uint64_t trail__copy(const struct trail *t, uint64_t first, uint64_t count, struct raft_run *runs,
                     uint32_t *ret_runs_count)
{
    uint32_t filled = 0;
    uint64_t copied = 0;
    if (count > 0) {
        for (uint32_t at = find_run(t, first); filled < RAFT_RUNS_MAX && copied < count; at++) {
            uint64_t in_run = run_end(t, at) - (first + copied) + 1;
            uint64_t taken = in_run < count - copied ? in_run : count - copied;
            runs[filled++] = (struct raft_run){.term = t->runs[at].term, .count = taken};
            copied += taken;
        }
    }
    *ret_runs_count = filled;
    return copied;
}

void trail__check(const struct trail *t)
{
    ASSERT(t->last_index >= t->base_index);
    ASSERT((t->runs_count == 0) == (t->last_index == t->base_index));
    ASSERT(t->runs_count <= RAFT_TRAIL_RUNS_MAX && t->runs_count <= t->runs_capacity);
    ASSERT((t->base_index == 0) == (t->base_term == 0));
    for (uint32_t i = 0; i < t->runs_count; i++) {
        if (i == 0) {
            ASSERT(t->runs[i].first == t->base_index + 1 && t->runs[i].term >= t->base_term && t->runs[i].term > 0);
        } else {
            ASSERT(t->runs[i].first > t->runs[i - 1].first && t->runs[i].term > t->runs[i - 1].term);
        }
        ASSERT(t->runs[i].first <= t->last_index);
    }
}
