/* The trail: what the core knows of the log, index -> term, as runs of equal terms. No payload.
 *
 * A healthy log has one run per leader it saw, so it stays tiny; RAFT_TRAIL_RUNS_MAX bounds it whatever happens. The
 * entry at base_index is the last one that left the log: its term is still known, which is what an append at the log's
 * very start is checked against. Owner: struct raft. */
#ifndef FLOTILLA_RAFT_TRAIL_H
#define FLOTILLA_RAFT_TRAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/raft.h"

struct trail_run {
    uint64_t first; /* index of the run's first entry; it ends where the next one begins */
    uint64_t term;  /* rises strictly from run to run */
};

struct trail {
    uint64_t base_index;
    uint64_t base_term;
    uint64_t last_index; /* base_index when the log is empty */
    uint32_t runs_count;
    uint32_t runs_capacity;
    struct trail_run *runs;
};

void trail__init(struct trail *t, uint64_t base_index, uint64_t base_term);
void trail__done(struct trail *t);

/* True when `count` more runs fit. Asked before an append that comes from outside, which is refused otherwise. */
bool trail__has_room(const struct trail *t, uint32_t count);

/* `count` > 0 more entries of `term`, which is not below the last one's. Bounded: see trail__has_room. */
void trail__append(struct trail *t, uint64_t term, uint64_t count);

/* Cuts off the entries >= from; base_index < from <= last_index. */
void trail__truncate(struct trail *t, uint64_t from);

/* Forgets the entries <= index; base_index <= index <= last_index. */
void trail__compact(struct trail *t, uint64_t index);

/* Term of an entry; base_term for base_index; 0 for what is not known. */
uint64_t trail__term(const struct trail *t, uint64_t index);
uint64_t trail__last_term(const struct trail *t);

/* First and last index that hold the same term as the entry at index, which is in the log. */
uint64_t trail__run_first(const struct trail *t, uint64_t index);
uint64_t trail__run_last(const struct trail *t, uint64_t index);

/* The largest index <= limit whose term is not above `term`; base_index if the log holds none. base_index <= limit <=
 * last_index. */
uint64_t trail__last_not_above(const struct trail *t, uint64_t term, uint64_t limit);

/* Writes the terms of at most `count` entries from `first` (in the log) into runs[RAFT_RUNS_MAX]; returns how many
 * entries those runs cover: fewer than count only when the terms change too often. */
uint64_t trail__copy(const struct trail *t, uint64_t first, uint64_t count, struct raft_run *runs,
                     uint32_t *ret_runs_count);

/* Asserts the order of the runs. */
void trail__check(const struct trail *t);

#endif
