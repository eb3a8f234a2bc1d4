/* Raft as a pure state machine: an event goes in (raft_step), what must be done comes out (raft_take).
 *
 * No I/O, no clock, no randomness but a seed, no payload: the core keeps index -> term only (the trail) and never sees
 * a record. One struct raft per group; the owner drives thousands of them and merges their updates: one WAL batch, one
 * frame per peer. Rules follow Ongaro's dissertation (figure 3.1 and chapters named at the code). raft_step cannot
 * fail: bad use is a bug (ASSERT), a bad message from a peer is ignored or answered.
 *
 * The owner's loop:     raft_step(r, &event) ...; while (raft_take(r, &update)) { carry out }
 * Carrying out means: hand update.write to the WAL; send `send_now` at once; send `send_after_sync` when
 * update.write.id (and with it every earlier write) is durable; report durability as PERSISTED(write id); apply entries
 * up to `commit`, report APPLIED; start the snapshot transfers that `snapshots` names, report SNAPSHOT_DONE.
 *
 * Durability of the own log counts towards commit only from PERSISTED on; write ids rise by one, and a truncation
 * clamps what writes in flight may still claim, so that an (index, term) written, cut off and written again under one
 * stalled sync is never counted early (etcd's append ABA).
 *
 * Elections: nobody raises a term before a majority has said that it would vote (pre-vote, section 9.6), and nobody who
 * heard from a leader within election_ms votes for another one (section 6.2.3 and 4.2.3): a replica that was cut off,
 * or was removed, disturbs nobody. A leader that does not hear from a majority within election_ms steps down
 * (check-quorum, section 6.2).
 *
 * Membership: configurations are entries, effective when appended, undone when truncated (section 4.1). Sets of voters
 * change by joint consensus (section 4.3): the owner appends a joint configuration (RAFT_CHANGE), and, once `leave_due`
 * says that it is committed, the one that ends it. Who leaves is sent the entry that removes it before it is dropped.
 * A log holds RAFT_CONFIGS_MAX - 1 configurations at most: a leader makes no more (RAFT_CHANGE_CROWDED), and a follower
 * takes no more (but commits what it has) until its owner has compacted the log, which should happen long before.
 *
 * Damage: a replica that lost some of its log or hard state takes entries and tells so in every answer. It counts for
 * no vote, commit, read or check-quorum until a leader has heard of the damage, has committed an entry of its own term
 * that was proposed after that, by majorities without it, and the replica holds that entry on its disk. Its lost vote
 * of that term is taken to have gone to that leader. Why that suffices is at the top of heal.c.
 *
 * Threads: none; the owner's. Memory: one block by raft_new and what grows with need: the trail by run (a change of
 * term) up to RAFT_TRAIL_RUNS_MAX, the history of configurations by configuration, a leader's view of the others by
 * member, and two lists of 32 at most, for writes in flight and sizes, that double four times in a life. Else nothing
 * is allocated, neither per entry nor per step or take. */
#ifndef FLOTILLA_RAFT_RAFT_H
#define FLOTILLA_RAFT_RAFT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

struct raft;

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };

/* A run of `count` consecutive entries of one term. */
struct raft_run {
    uint64_t term;
    uint64_t count;
};

/* ---- membership ---- */

enum raft_membership { RAFT_ABSENT, RAFT_LEARNER, RAFT_VOTER };

/* What a replica is in the configuration that holds, and in the one that follows. Equal but in a joint configuration;
 * never ABSENT in both. */
struct raft_member {
    uint64_t replica;  /* id, > 0 */
    uint8_t now, next; /* enum raft_membership */
};

/* Joint if `now` and `next` differ for any member: then elections and commits need a majority of the voters of `now`
 * and one of the voters of `next`. */
struct raft_config {
    uint32_t count;
    struct raft_member members[RAFT_MEMBERS_MAX]; /* rising by replica id */
};

/* An entry that is a configuration. */
struct raft_config_entry {
    uint64_t index;
    struct raft_config config;
};

/* The plain configuration of these voters. */
void raft_config_of_voters(const uint64_t *voters, uint32_t count, struct raft_config *ret_config);

bool raft_config_is_joint(const struct raft_config *config);

/* The joint configuration on the way from `now` (plain) to `next` (plain). If the voters are the same (only learners
 * come, go or stay), that is `next` itself. False: more than RAFT_MEMBERS_MAX of them together. */
bool raft_config_join(const struct raft_config *now, const struct raft_config *next, struct raft_config *ret_config);

/* Where a joint configuration ends: everybody is what `next` says. */
void raft_config_leave(const struct raft_config *joint, struct raft_config *ret_config);

/* Sane: sizes, order, at least one voter in each half, at most RAFT_VOTERS_MAX of them. For what comes from outside. */
bool raft_config_is_sane(const struct raft_config *config);

/* ---- birth ---- */

struct raft_options {
    uint64_t self; /* replica id, > 0; need not be a member (then it never campaigns) */
    /* The configurations that matter, rising by index: the one of the base (its index <= base_index; 0 for the one
     * that the group was born with) and those in the log behind it; at least one, at most RAFT_CONFIGS_MAX. Borrowed
     * for the call. */
    const struct raft_config_entry *configs;
    uint32_t configs_count;
    uint32_t heartbeat_ms;
    uint32_t election_ms; /* timeout drawn from [election_ms, 1.5 x election_ms] */
    uint64_t seed;        /* another one at each start: the number of a damage comes from it too */
    bool damaged;         /* some of what follows may be less than what was once durable */

    /* State from the disk; all 0 for a group that was just born. */
    uint64_t term;
    uint64_t vote;       /* replica id voted for in `term`, 0 = none */
    uint64_t base_index; /* last entry not in the log any more (checkpointed and released), 0 = none */
    uint64_t base_term;
    uint64_t applied_index;      /* >= base_index: known to be committed and applied */
    const struct raft_run *runs; /* the log: terms of base_index + 1, ...; borrowed for the call */
    uint32_t runs_count;
    uint64_t now_ms;
};

/* ---- messages ---- */

enum raft_message_type {
    RAFT_VOTE_REQUEST = 1,
    RAFT_VOTE_REPLY = 2,
    RAFT_APPEND = 3,
    RAFT_APPEND_REPLY = 4,
    RAFT_BEAT = 5, /* heartbeat: small, many groups' share a frame */
    RAFT_BEAT_REPLY = 6,
    RAFT_TIMEOUT_NOW = 7, /* leadership transfer: campaign at once */
};

/* What travels between replicas. The owner adds the payload of the entries [index + 1, index + count] to an APPEND it
 * sends. The core knows sizes only roughly: an APPEND whose payload does not fit a frame may be split by the owner into
 * consecutive ones (the configuration goes with the last), or cut short and without it (the follower's answer to the
 * next one repairs that). Only the first runs_count runs are meaningful, and `config` only with has_config. */
struct raft_message {
    enum raft_message_type type;
    uint64_t from, to;   /* replica ids */
    uint64_t term;       /* the sender's; of a pre-vote request the term that it would campaign in, and of a reply that
                            grants one the same */
    uint64_t index;      /* VOTE_REQUEST: last index; APPEND: previous index; APPEND_REPLY: last index known to match
                            (and durable), or, rejected, the previous index that was refused; BEAT, quiet: last index */
    uint64_t index_term; /* VOTE_REQUEST: last term; APPEND: previous term; APPEND_REPLY, rejected: term of the
                            conflict, 0 if the log is short; BEAT, quiet: last term */
    uint64_t hint;       /* APPEND_REPLY, rejected: first index of the conflicting term, or last index + 1 if the log is
                            short */
    uint64_t commit;     /* APPEND, BEAT: the receiver may commit up to here; APPEND_REPLY, BEAT_REPLY: what it has */
    uint64_t round;      /* BEAT: of reads; BEAT_REPLY: the one answered */
    uint64_t heal;       /* APPEND, BEAT to a damaged replica: index from which on it is whole again; 0: not yet */
    uint64_t damage;     /* replies of a damaged replica: a number that tells this damage from others; APPEND, BEAT:
                            the one that heal is about */
    uint64_t bytes;      /* APPEND: payload bytes of the entries; the core sends 0, the owner that knows sets it */
    bool reject;         /* VOTE_REPLY: not granted; APPEND_REPLY: refused */
    bool pre;            /* VOTE_REQUEST, VOTE_REPLY: a pre-vote */
    bool force;          /* VOTE_REQUEST: the leader itself asked for it: no wait for its silence */
    bool quiet;          /* BEAT: let us sleep; BEAT_REPLY: I do */
    bool damaged, full;  /* replies: of the sender */
    uint32_t runs_count; /* APPEND: terms of the entries */
    struct raft_run runs[RAFT_RUNS_MAX];
    uint64_t count;  /* APPEND: entries = sum of the runs */
    bool has_config; /* APPEND: the last of the entries is this configuration, no other one is any */
    struct raft_config config;
};

/* ---- events ---- */

enum raft_event_type {
    RAFT_TICK,          /* now_ms */
    RAFT_RECV,          /* message; for an APPEND the owner keeps the payload of accepted entries: see update.write */
    RAFT_SUBMIT,        /* count, bytes: the leader appends entries last + 1 ...; a bug unless raft_accepts */
    RAFT_CHANGE,        /* config: the leader appends it as entry last + 1; a bug unless raft_may_change says OK, or it
                           is what raft_config_leave makes of the present one and leave_due was said */
    RAFT_PERSISTED,     /* write_id: this and all earlier writes are durable */
    RAFT_APPLIED,       /* index */
    RAFT_COMPACTED,     /* index: entries <= index left the log (index <= applied, index <= durable) */
    RAFT_UNREACHABLE,   /* peer: a message to it was lost for sure, or the link to it broke. A leader probes it again; a
                           follower of that peer waits no longer than its timer for it, and may vote for others */
    RAFT_SNAPSHOT_DONE, /* snapshot: the transfer to `peer` has ended; ok: it holds everything up to `index` */
    RAFT_INSTALLED,     /* installed: a snapshot has replaced what was here, and is durable. Between the decision
                           (raft_wants_snapshot; its configuration and term are sane) and this event the owner steps
                           nothing but TICK and PERSISTED. What makes it durable also raises the stored term to the
                           snapshot's, and comes after every truncation that was on its way to the log */
    RAFT_TRANSFER,      /* peer: give the leadership to it; a bug unless raft_may_transfer. Over after an election
                           timeout, successful or not */
    RAFT_READ,          /* asks whether we still lead: see raft_read_round; nothing unless we do */
    RAFT_SLEEP,         /* leader: nothing to do for this group, all its links are well: go quiet if everybody agrees */
    RAFT_WAKE,          /* a link was lost or renewed, or someone is not as quiet as we thought */
    RAFT_DAMAGED,       /* some of the log or the hard state is found lost. What the core believes durable must still
                           be, or be written again: if entries are gone, make a new core of what is left */
    RAFT_REPAIRED,      /* update.repaired was said, and that is durable; nothing after a further RAFT_DAMAGED */
    RAFT_FULL,          /* full: our disk takes no more of what clients produce, or does so again */
};

struct raft_event {
    enum raft_event_type type;
    union {
        uint64_t now_ms;
        const struct raft_message *message; /* borrowed for the call */
        struct {
            uint64_t count;
            uint64_t bytes;
        } submit;
        struct {
            const struct raft_config *config; /* borrowed for the call */
            uint64_t bytes;
        } change;
        uint64_t write_id;
        uint64_t index;
        uint64_t peer;
        struct {
            uint64_t peer;
            uint64_t index;
            bool ok;
        } snapshot;
        struct {
            uint64_t index, term;
            uint64_t config_index;
            const struct raft_config *config; /* the one at `index`; borrowed for the call */
        } installed;
        bool full;
    };
};

/* ---- updates ---- */

/* One write for the WAL; its parts are to be written in this order. Entry i is of term raft_term_of(i): its payload is
 * that of the APPEND just received if that holds i with this term, else what the owner submitted as i; equal index and
 * term mean equal payload. What the owner holds from truncate_from or first on is obsolete otherwise. */
struct raft_write {
    uint64_t id;     /* 0: nothing to write; else one more than the last */
    bool hard_state; /* term and vote changed */
    uint64_t term, vote;
    uint64_t truncate_from; /* 0: none; else entries >= it are cut off first */
    uint64_t first, last;   /* entries to write, first > last: none */
};

#define RAFT_SENDS_NOW_MAX   (3 * RAFT_MEMBERS_MAX + 2) /* two appends and a beat each, TIMEOUT_NOW, an answer */
#define RAFT_SENDS_AFTER_MAX (RAFT_MEMBERS_MAX + 1)     /* vote requests, and the answer to the last message */

struct raft_update {
    struct raft_write write;
    uint64_t commit;   /* commit index now, from options.applied_index on; may be ahead of the own durable index: others
                          are a majority already */
    bool role_changed; /* role, leader or term differ from the last update */
    enum raft_role role;
    uint64_t leader; /* replica id of the leader as far as known, 0 = unknown */
    uint64_t term;
    bool config_changed; /* raft_config differs from the last update: appended, truncated or installed */
    bool leave_due;      /* leader: the joint configuration is committed, RAFT_CHANGE to what ends it is to be
                            submitted as soon as raft_accepts; said again until that is done */
    bool noop_due;       /* leader: a damaged replica waits for an entry proposed from now on; any will do, a TIMEOUT
                            entry if there is no other; said again until there is one */
    bool repaired;       /* this replica is whole again as soon as that is durable: then RAFT_REPAIRED. Said again */
    uint64_t read_round, read_index; /* rounds up to read_round are confirmed: what waits for them may be served when
                                        read_index is applied. 0: none yet in this term */
    uint32_t snapshots_count;
    uint64_t snapshots[RAFT_MEMBERS_MAX]; /* replicas that need entries which have left the log: start a transfer */
    uint32_t send_now_count;
    struct raft_message send_now[RAFT_SENDS_NOW_MAX]; /* may leave before the write is durable: appends, beats, and
                                                        answers to beats that have nothing to wait for */
    uint32_t send_after_sync_count;
    struct raft_message send_after_sync[RAFT_SENDS_AFTER_MAX]; /* votes, grants, acks: only after write.id and all
                                                                  before it (write.id 0: after the last id handed out
                                                                  before) */
};

struct raft *raft_new(const struct raft_options *options);
void raft_free(struct raft *r);

void raft_step(struct raft *r, const struct raft_event *event);

/* Moves what accumulated since the last take into *ret_update; false: nothing. Steps may pile up before a take as
 * long as at most one of them is a RECV. On becoming leader the owner must SUBMIT its LEADER entry first (the first
 * append to each follower waits for it). Of the message arrays only the first `count` elements are written. */
bool raft_take(struct raft *r, struct raft_update *ret_update);

/* Monotonic time at which the next TICK has something to do, UINT64_MAX for never; may lie in the past. The core knows
 * the time from TICKs only: whoever heard from its leader asks for one within heartbeat_ms, so that its election timer
 * counts from there. */
uint64_t raft_next_tick_ms(const struct raft *r);

/* ---- questions ---- */

enum raft_role raft_role(const struct raft *r);
uint64_t raft_term(const struct raft *r);
uint64_t raft_vote(const struct raft *r);
uint64_t raft_leader(const struct raft *r);
uint64_t raft_last_index(const struct raft *r);
uint64_t raft_commit_index(const struct raft *r);
uint64_t raft_durable_index(const struct raft *r); /* last index of the own log that is known to be on disk */
/* Term of the entry at index; 0 if it is not in the log; base_index still has its term. */
uint64_t raft_term_of(const struct raft *r, uint64_t index);

/* The configuration in force, and the index of its entry. Valid until the next step. */
const struct raft_config *raft_config(const struct raft *r, uint64_t *ret_index);

/* A leader that takes new entries: not one that is giving its leadership away. */
bool raft_accepts(const struct raft *r);

/* A leader with a majority of voters (of both halves) that are not full. */
bool raft_has_room(const struct raft *r);

/* The number to wait for after RAFT_READ: when update.read_round has reached it and read_index is applied, what is
 * read is no older than the moment of asking (ReadIndex, section 6.4). Reads whose leader changes (role_changed) before
 * that are to be asked anew: numbers begin anew with each leadership. */
uint64_t raft_read_round(const struct raft *r);

enum raft_change_verdict {
    RAFT_CHANGE_OK,
    RAFT_CHANGE_NOT_LEADER,
    RAFT_CHANGE_PENDING,   /* one is joint or not committed yet, or the leadership is being given away */
    RAFT_CHANGE_NOT_READY, /* no entry of the own term is committed yet (Ongaro's bug report of 2015) */
    RAFT_CHANGE_BEHIND,    /* a learner that is to vote lacks too much of the log, or is damaged */
    RAFT_CHANGE_CROWDED,   /* too many members, or too many configurations in a log that was not compacted since */
    RAFT_CHANGE_SENSELESS, /* not sane, or not what raft_config_join makes of the present one */
};

/* Whether `config` may be appended now. */
enum raft_change_verdict raft_may_change(const struct raft *r, const struct raft_config *config);

/* `to` is another voter of both halves, neither damaged nor full, and not far behind. */
bool raft_may_transfer(const struct raft *r, uint64_t to);

/* A snapshot up to index is worth being installed: it holds more than is committed here. */
bool raft_wants_snapshot(const struct raft *r, uint64_t index);

bool raft_is_damaged(const struct raft *r);
bool raft_is_quiet(const struct raft *r);          /* no timer runs, nothing is sent, until something happens */
bool raft_is_falling_asleep(const struct raft *r); /* a leader: not all members have agreed yet */

/* What a leader knows of a member, for pages and commands. False: it does not lead, or there is no such member. */
struct raft_peer_state {
    uint64_t match, next;
    bool probing, in_snapshot, active, damaged, full, leaving;
    bool quiet; /* asked to sleep it has agreed, and nothing has woken us since */
};
bool raft_peer_state(const struct raft *r, uint64_t replica, struct raft_peer_state *ret_state);

/* Verifies the invariants that one replica can see (figure 3.2 and the bookkeeping); aborts on a violation. Tests call
 * it after every step; raft_step itself checks a cheap subset. */
void raft_check(const struct raft *r);

#endif
