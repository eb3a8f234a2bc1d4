/* What a leader knows of one follower, and how fast it may send to it.
 *
 *   PROBE      what matches is not known (new leadership, a refusal, a lost message): one message at a time, the next
 *   one after an
 *              answer or at the next heartbeat
 *   REPLICATE  the follower keeps up: entries are sent without waiting, up to RAFT_INFLIGHT_* beyond what it has
 *   acknowledged
 *
 * A third state, for followers that need a snapshot, belongs here when there are snapshots: today such a follower stays
 * in PROBE. In one term match only grows, and next is always above it. Owner: struct raft. */
#ifndef FLOTILLA_RAFT_PROGRESS_H
#define FLOTILLA_RAFT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/sizes.h"
#include "raft/trail.h"

enum progress_state { PROGRESS_PROBE, PROGRESS_REPLICATE };

struct progress {
    uint64_t peer; /* replica id */
    enum progress_state state;
    uint64_t match;     /* the follower's durable log is ours up to here */
    uint64_t next;      /* the next entry to send */
    bool waiting;       /* PROBE: a message is out and not answered */
    bool heartbeat_due; /* something must be sent, with or without entries */
};

/* A new leader whose log ends at last_index. */
void progress__init(struct progress *p, uint64_t peer, uint64_t last_index);

/* The follower's log matches ours up to index. True when match grew. */
bool progress__accepted(struct progress *p, uint64_t index);

/* The follower refused an append after `refused`, because its log holds conflict_term there, from `hint` on
 * (conflict_term 0: its log ends before, at hint - 1). Stale refusals change nothing. */
void progress__refused(struct progress *p, const struct trail *trail, uint64_t refused, uint64_t conflict_term,
                       uint64_t hint);

/* A message to the follower is lost for sure. */
void progress__lost(struct progress *p);

/* The heartbeat timer fired. */
void progress__beat(struct progress *p);

/* Decides on the next message: false = none now; else *ret_count entries from p->next (0: an empty append). Entries
 * that are compacted already cannot be sent: then p is moved to probe at the log's base. */
bool progress__plan(struct progress *p, const struct trail *trail, const struct sizes *sizes, uint64_t *ret_count);

/* The planned message with `count` entries has left. */
void progress__sent(struct progress *p, uint64_t count);

void progress__check(const struct progress *p, const struct trail *trail);

#endif
