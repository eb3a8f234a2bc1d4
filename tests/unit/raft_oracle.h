/* What must hold for a whole Raft group, whatever happens: the oracle watches every step of a simulated cluster and
 * ends the test, naming the seed, when an invariant breaks. It sees logs, disks and messages, never the cores' insides.
 *
 *   at most one leader in a term, over the whole run (also of replicas that are down now)
 *   a leader only appends to its log
 *   one (index, term) is one entry with one history, on every log (log matching)
 *   what was committed once is in every later leader's log (leader completeness), and is what everybody commits
 *   (state machine safety); when it is committed first, a majority's disks hold it
 *   a leader counts only entries of its own term
 *   nobody grants two votes in a term, across restarts; a message leaves only when its sender's disk holds its term,
 *   its vote and the entries it acknowledges */
#ifndef FLOTILLA_TESTS_UNIT_RAFT_ORACLE_H
#define FLOTILLA_TESTS_UNIT_RAFT_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/raft.h"

#define ORACLE_NODES_MAX RAFT_VOTERS_MAX
#define ORACLE_TERMS_MAX 4096u
#define ORACLE_SLOTS (1u << 15) /* distinct (index, term) of one run, at most half full */

struct shadow_entry {
    uint64_t term;
    uint64_t value; /* stands for the payload */
    uint64_t hash;  /* of this entry and everything before it */
};

/* A log with payload, as an owner or a disk has it; entries 1 .. last. Nothing is ever compacted here. */
struct shadow_log {
    uint64_t last;
    uint64_t capacity;
    struct shadow_entry *entries;
};

void shadow_append(struct shadow_log *log, uint64_t term, uint64_t value);
void shadow_truncate(struct shadow_log *log, uint64_t last);
void shadow_copy(struct shadow_log *to, const struct shadow_log *from);
void shadow_free(struct shadow_log *log);
const struct shadow_entry *shadow_at(const struct shadow_log *log, uint64_t index); /* NULL: none; index > 0 */
uint64_t shadow_hash(const struct shadow_log *log, uint64_t index); /* 0 for index 0 and beyond the end */

/* What a replica has on its disk. */
struct shadow_disk {
    uint64_t term, vote;
    struct shadow_log log;
};

struct oracle_slot {
    uint64_t index, term, hash;
};

struct oracle {
    uint64_t seed;
    const uint64_t *now_ms;
    uint32_t nodes;
    const struct shadow_disk *disks[ORACLE_NODES_MAX]; /* of replica i + 1 */
    uint64_t leader_of[ORACLE_TERMS_MAX];
    uint64_t vote_of[ORACLE_NODES_MAX][ORACLE_TERMS_MAX];
    struct shadow_log committed;   /* the ghost log */
    struct shadow_log commit_term; /* value: the term in which it was committed */
    uint32_t slots_used;
    struct oracle_slot slots[ORACLE_SLOTS];
};

void oracle_init(struct oracle *o, uint64_t seed, uint32_t nodes, const uint64_t *now_ms);
void oracle_done(struct oracle *o);

/* Ends the test unless condition holds. */
void oracle_expect(const struct oracle *o, bool condition, uint64_t replica, const char *what);

/* An owner's log got the entry at its end. */
void oracle_appended(struct oracle *o, uint64_t replica, const struct shadow_log *log);

/* A replica became leader of a term with this log. */
void oracle_elected(struct oracle *o, uint64_t replica, uint64_t term, const struct shadow_log *log);

/* A replica, in its current term, committed the entry at index of its log. */
void oracle_committed(struct oracle *o, uint64_t replica, uint64_t term, const struct shadow_log *log, uint64_t index);

/* A message leaves; leader_log is the log of the replica that leads m->term now, NULL if none does. */
void oracle_sent(struct oracle *o, const struct raft_message *m, const struct shadow_log *leader_log);

#endif
