/* Whether a group of the core can ever work again: a claim that needs proof, from what disks hold and what was done to
 * them, and not from what the brokers say of themselves.
 *
 *   no majority    whoever still has a sound log of the group campaigns by the last configuration in it, and gets votes
 *                  from sound replicas of the core only. If no such log finds majorities of both halves of its own
 *                  configuration there, nobody is ever elected; and without a leader nothing of this changes.
 *   no whole copy  some committed record is damaged, or has never come, in every replica that the core has of the
 *                  group: whoever lacks it cannot get it, and who is to get it does not count meanwhile.
 *
 * Pure: facts in, verdict out. Who is to be counted as sound is said by the caller, who must not take a broker's word
 * for a damage that nobody did. */
#ifndef FLOTILLA_SIM_FLEET_PROOF_H
#define FLOTILLA_SIM_FLEET_PROOF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

#define PROOF_RANGES_MAX 64u

struct proof_voter {
    uint64_t replica;
    bool now, next; /* it votes in this half */
    bool counts;    /* it is in the core, and sound */
};

/* Of one sound replica in the core: the configuration that it would campaign by. */
struct proof_log {
    uint32_t count;
    struct proof_voter voters[RAFT_MEMBERS_MAX];
};

struct proof_range {
    int64_t first, end;
};

/* Of one replica in the core: which offsets are damaged there or have not come, in any order. */
struct proof_copy {
    uint32_t count;
    struct proof_range ranges[PROOF_RANGES_MAX];
};

struct proof_facts {
    bool has_leader;
    uint32_t logs_count, copies_count;
    struct proof_log logs[RAFT_MEMBERS_MAX];
    struct proof_copy copies[RAFT_MEMBERS_MAX]; /* of all replicas in the core */
    int64_t end;                                /* what is below it is committed, as some of them know */
};

/* Why it cannot come back; NULL: it has to. */
const char *proof_verdict(const struct proof_facts *facts);

#endif
