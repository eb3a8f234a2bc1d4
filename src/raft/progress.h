/* What a leader knows of one peer, and how fast it may send to it.
 *
 *   PROBE      what matches is not known (new leadership, a refusal, a lost message): one append at a time, the next
 *              one after an answer, be it to a beat
 *   REPLICATE  the peer keeps up: entries are sent without waiting, up to RAFT_INFLIGHT_* beyond what it acknowledged
 *   SNAPSHOT   it needs entries that have left the log: no appends until a snapshot brought it further
 *
 * Beats go on in every state. In one term match only grows, unless the peer says that it is damaged; next is always
 * above it. Owner: struct raft. */
#ifndef FLOTILLA_RAFT_PROGRESS_H
#define FLOTILLA_RAFT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/sizes.h"
#include "raft/trail.h"

enum progress_state { PROGRESS_PROBE, PROGRESS_REPLICATE, PROGRESS_SNAPSHOT };

struct progress {
    uint64_t peer;  /* replica id */
    uint32_t place; /* in the configuration in force; PLACE_NONE: it leaves */
    enum progress_state state;
    uint64_t match;  /* the peer's durable log is ours up to here; damaged: as far as it has said and not lost */
    uint64_t next;   /* the next entry to send */
    uint64_t commit; /* what it knows to be committed */
    uint64_t round;  /* of reads: the newest one it has answered */
    uint64_t probed; /* PROBE: the last probe went up to here */
    uint64_t barren; /* a probe from here on was accepted, its entries were not; 0: none */
    bool waiting;    /* PROBE: an append is out and not answered */
    bool ask;        /* REPLICATE: an append is due, with or without entries */
    bool answered;   /* an append was acknowledged since the last beat */
    bool beat_due;
    bool active; /* it was heard since the last look at the quorum */
    bool full, quiet;

    bool snapshot_due;   /* SNAPSHOT: not asked for yet */
    bool snapshot_retry; /* SNAPSHOT: failed, to be asked for again after the next heartbeat */

    bool damaged;
    uint64_t damage;     /* the number of its damage */
    uint64_t heal_after; /* damaged: our last index when we heard of it */
    uint64_t heal;       /* damaged: whole again with this entry; 0: none is committed yet */

    bool leaving;
    uint64_t leave_index; /* of the configuration without it */
    uint64_t leave_deadline_ms;
};

/* A new peer of a leader whose log ends at last_index. */
void progress__init(struct progress *p, uint64_t peer, uint32_t place, uint64_t last_index);

/* The peer's log matches ours up to index. True when match grew. */
bool progress__accepted(struct progress *p, const struct trail *trail, uint64_t index);

/* The peer refused an append after `refused`, because its log holds conflict_term there, from `hint` on
 * (conflict_term 0: its log ends before, at hint - 1). Stale refusals change nothing. */
void progress__refused(struct progress *p, const struct trail *trail, uint64_t refused, uint64_t conflict_term,
                       uint64_t hint);

/* A message to the peer is lost for sure. */
void progress__lost(struct progress *p);

/* The heartbeat timer fired. */
void progress__beat(struct progress *p);

/* A beat was answered, and more could be committed there if `behind`. What was not answered meanwhile may be lost. */
void progress__beat_answered(struct progress *p, bool behind);

/* The peer has said that it lost something. */
void progress__damaged(struct progress *p, uint64_t damage, uint64_t last_index);

/* A snapshot transfer has ended; it brought everything up to index, or failed. */
void progress__snapshot_done(struct progress *p, uint64_t index, bool ok);

/* Decides on the next append: false = none now; else *ret_count entries from p->next (0: an empty one). Entries
 * that are compacted already cannot be sent: then p needs a snapshot. */
bool progress__plan(struct progress *p, const struct trail *trail, const struct sizes *sizes, uint64_t *ret_count);

/* The planned append with `count` entries has left. */
void progress__sent(struct progress *p, uint64_t count);

void progress__check(const struct progress *p, const struct trail *trail);

#endif
