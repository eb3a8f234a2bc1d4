/* What must hold for a whole Raft group, whatever happens: the oracle watches every step of a group in memory and ends
 * the test, naming the seed, when an invariant breaks. It sees logs, disks, configurations and messages, never the
 * cores' insides.
 *
 *   at most one leader in a term, over the whole run (also of replicas that are down now); it has the votes of a
 *   majority of the voters (of both halves of a joint configuration), none of them damaged, itself included
 *   a leader only appends to its log
 *   one (index, term) is one entry with one history, on every log (log matching)
 *   what was committed once is in every later leader's log (leader completeness), and is what everybody commits
 *   (state machine safety); when it is committed first, majorities of voters' undamaged disks hold it
 *   a leader counts only entries of its own term
 *   nobody grants two votes in a term, across restarts; a message leaves only when its sender's disk holds its term,
 *   its vote and the entries it acknowledges
 *   nobody asks for votes before majorities have said that they would vote, unless the leader itself asked it to
 *   configurations follow one another as joint consensus wants it, one uncommitted at a time, the first one of a
 *   leader after an entry of its term
 *   a read is no older than what anybody had committed when it was asked for
 *   a replica that lost something is whole again only with everything on its disk that was committed before */
#ifndef FLOTILLA_TESTS_UNIT_RAFT_ORACLE_H
#define FLOTILLA_TESTS_UNIT_RAFT_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/raft.h"

#define ORACLE_REPLICAS_MAX RAFT_MEMBERS_MAX /* over a run; ids are 1 .. */
#define ORACLE_TERMS_MAX    4096u
#define ORACLE_CONFIGS_MAX  512u
#define ORACLE_SLOTS        (1u << 15) /* distinct (index, term) of one run, at most half full */

struct shadow_entry {
    uint64_t term;
    uint64_t value;        /* stands for the payload */
    uint64_t hash;         /* of this entry and everything before it */
    uint64_t config_index; /* of the newest configuration up to here, 0: the one of the birth */
    uint32_t config;       /* that configuration's number in the oracle */
};

/* A log with payload, as an owner or a disk has it; entries 1 .. last. Nothing is ever compacted here. */
struct shadow_log {
    uint64_t last;
    uint64_t capacity;
    struct shadow_entry *entries;
};

/* config: its number in the oracle if the entry is one, else 0. */
void shadow_append(struct shadow_log *log, uint64_t term, uint64_t value, uint32_t config);
void shadow_truncate(struct shadow_log *log, uint64_t last);
void shadow_copy(struct shadow_log *to, const struct shadow_log *from, uint64_t last);
void shadow_free(struct shadow_log *log);
const struct shadow_entry *shadow_at(const struct shadow_log *log, uint64_t index); /* NULL: none; index > 0 */
uint64_t shadow_hash(const struct shadow_log *log, uint64_t index); /* 0 for index 0 and beyond the end */
uint32_t shadow_config(const struct shadow_log *log, uint64_t index, uint64_t *ret_index); /* in force after index */
bool shadow_is_config(const struct shadow_log *log, uint64_t index);

/* What a replica has on its disk. */
struct shadow_disk {
    uint64_t term, vote;
    struct shadow_log log;
    bool damaged;            /* the replica is not whole: what it has counts for nothing */
    struct shadow_log lost;  /* damaged: the log before that, which others may have counted */
    uint64_t lost_committed; /* damaged: what was committed before that */
};

struct oracle_slot {
    uint64_t index, term, hash;
};

struct oracle {
    uint64_t seed;
    const uint64_t *now_ms;
    const struct shadow_disk *disks[ORACLE_REPLICAS_MAX]; /* of replica i + 1; NULL: there never was one */
    uint8_t leader_of[ORACLE_TERMS_MAX];
    uint16_t votes[ORACLE_TERMS_MAX][ORACLE_REPLICAS_MAX]; /* for candidate j + 1: bit i: replica i + 1 granted */
    uint64_t forgot_term[ORACLE_REPLICAS_MAX];             /* votes up to this term may be lost by damage */
    uint64_t pre_term[ORACLE_REPLICAS_MAX];                /* of the latest pre-vote granted to candidate i + 1 */
    uint16_t pre_votes[ORACLE_REPLICAS_MAX];               /* and by whom */
    uint64_t urged_term[ORACLE_REPLICAS_MAX];              /* in this term its leader told replica i + 1 to campaign */
    uint32_t configs_count;
    struct raft_config configs[ORACLE_CONFIGS_MAX]; /* number n is at n - 1; 1 is the one of the birth */
    struct shadow_log committed;                    /* the ghost log */
    struct shadow_log commit_term;                  /* value: the term in which it was committed */
    uint32_t slots_used;
    struct oracle_slot slots[ORACLE_SLOTS];
};

void oracle_init(struct oracle *o, uint64_t seed, const struct raft_config *birth, const uint64_t *now_ms);
void oracle_done(struct oracle *o);

/* Ends the test unless condition holds. */
void oracle_expect(const struct oracle *o, bool condition, uint64_t replica, const char *what);

/* A number for a configuration; equal ones share it. */
uint32_t oracle_number_config(struct oracle *o, const struct raft_config *config);
const struct raft_config *oracle_config(const struct oracle *o, uint32_t number);

/* The replicas of the mask (bit i: replica i + 1) are majorities of the voters in both halves. */
bool oracle_is_quorum(const struct raft_config *config, uint64_t mask);
bool oracle_is_voter(const struct raft_config *config, uint64_t replica); /* of either half */
bool oracle_is_member(const struct raft_config *config, uint64_t replica);
bool oracle_config_equal(const struct raft_config *a, const struct raft_config *b);

/* An owner's log got the entry at its end. */
void oracle_appended(struct oracle *o, uint64_t replica, const struct shadow_log *log);

/* A replica became leader of a term with this log. */
void oracle_elected(struct oracle *o, uint64_t replica, uint64_t term, const struct shadow_log *log);

/* A leader, of this log, has raised its commit index to `commit`. */
void oracle_leader_committed(struct oracle *o, uint64_t replica, uint64_t term, const struct shadow_log *log,
                             uint64_t commit);

/* A replica learned that the entries of its log up to `commit` are committed. */
void oracle_learned(struct oracle *o, uint64_t replica, const struct shadow_log *log, uint64_t from, uint64_t commit);

/* A leader appends this configuration behind `log`, of which `commit` is committed. */
void oracle_changes(struct oracle *o, uint64_t replica, uint64_t term, const struct shadow_log *log, uint64_t commit,
                    const struct raft_config *config);

/* An update asks for votes: before their write, with this log, known to be committed up to `commit`. */
void oracle_asks(struct oracle *o, const struct raft_message *m, const struct shadow_log *log, uint64_t commit);

/* A message leaves; leader_log is the log of the replica that leads m->term now, NULL if none does. */
void oracle_sent(struct oracle *o, const struct raft_message *m, const struct shadow_log *leader_log);

/* Some of what the disk holds is lost from now on; the disk's `lost` holds what was there. */
void oracle_damaged(struct oracle *o, uint64_t replica, uint64_t term);
void oracle_repaired(struct oracle *o, uint64_t replica);

#endif
