/* What the broker says of itself, held against its bounds while it lives, and what its storage says of errors.
 *
 *   B15 memory that clients can make it hold stays within the budget
 *   W4  the WAL stays within its budget, and shrinks to its floor when nothing is needed any more
 *   S1  a failed sync ends the process soon, and nothing is retried */
#ifndef FLOTILLA_SIM_WATCH_H
#define FLOTILLA_SIM_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "sim.h"

/* A moment of a life; see broker/status.h. */
struct watch_facts {
    uint64_t memory_bytes, memory_budget_bytes;
    uint64_t inflight_bytes, inflight_budget_bytes;
    uint64_t wal_used_bytes, wal_budget_bytes, wal_file_bytes;
    uint32_t peers;   /* other brokers: their frames are read into chunks of their own, too */
    uint64_t starts;  /* of the run so far: each may have opened a file that holds little */
    bool is_at_rest;  /* everything was served and checkpointed that wants to be: the WAL is at its floor */
    bool sync_failed; /* in this life */
};

struct watch {
    struct sim_world *world;
    uint64_t sync_failed_us;      /* 0: no sync failed in this life */
    uint64_t memory_max, wal_max; /* seen, for the story */
};

void watch_init(struct watch *watch, struct sim_world *world);
void watch_new_life(struct watch *watch);
void watch_look(struct watch *watch, const struct watch_facts *facts);

#endif
