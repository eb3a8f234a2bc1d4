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
 * up to `commit`, report APPLIED.
 *
 * Durability of the own log counts towards commit only from PERSISTED on; write ids rise by one, and a truncation
 * clamps what writes in flight may still claim, so that an (index, term) written, cut off and written again under one
 * stalled sync is never counted early (etcd's append ABA).
 *
 * Threads: none; the owner's. Memory: one block by raft_new and the trail, which grows by run (a change of term) up to
 * RAFT_TRAIL_RUNS_MAX; nothing is allocated per entry, per step or per take. */
#ifndef FLOTILLA_RAFT_RAFT_H
#define FLOTILLA_RAFT_RAFT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

struct raft;

enum raft_role { RAFT_FOLLOWER, RAFT_CANDIDATE, RAFT_LEADER };

/* A run of `count` consecutive entries of one term. */
struct raft_run {
    uint64_t term;
    uint64_t count;
};

struct raft_options {
    uint64_t self;                    /* replica id, > 0 */
    uint32_t voters_count;            /* 1 .. RAFT_VOTERS_MAX */
    uint64_t voters[RAFT_VOTERS_MAX]; /* replica ids; self need not be among them (then it never campaigns) */
    uint32_t heartbeat_ms;
    uint32_t election_ms; /* timeout drawn from [election_ms, 1.5 x election_ms] */
    uint64_t seed;

    /* State from the disk; all 0 for a group that was just born. */
    uint64_t term;
    uint64_t vote;            /* replica id voted for in `term`, 0 = none */
    uint64_t base_index;      /* last entry not in the log any more (checkpointed and released), 0 = none */
    uint64_t base_term;
    uint64_t applied_index;   /* >= base_index: known to be committed and applied */
    const struct raft_run *runs; /* the log: terms of base_index + 1, ...; borrowed for the call */
    uint32_t runs_count;
    uint64_t now_ms;
};

enum raft_message_type {
    RAFT_VOTE_REQUEST = 1,
    RAFT_VOTE_REPLY = 2,
    RAFT_APPEND = 3, /* with count 0: heartbeat */
    RAFT_APPEND_REPLY = 4,
};

/* What travels between replicas. The owner adds the payload of the entries [index + 1, index + count] to an APPEND it
 * sends. The core knows sizes only roughly: an APPEND whose payload does not fit a frame may be split by the owner into
 * consecutive ones, or cut short (the follower's answer to the next one repairs that). Only the first runs_count runs
 * are meaningful. */
struct raft_message {
    enum raft_message_type type;
    uint64_t from, to; /* replica ids */
    uint64_t term;
    uint64_t index;      /* VOTE_REQUEST: last index; APPEND: previous index; APPEND_REPLY: last index known to match
                            (and durable), or, rejected, the previous index that was refused */
    uint64_t index_term; /* VOTE_REQUEST: last term; APPEND: previous term; APPEND_REPLY, rejected: term of the
                            conflict, 0 if the log is short */
    uint64_t hint;       /* APPEND_REPLY, rejected: first index of the conflicting term, or last index + 1 if the log is
                            short */
    uint64_t commit;     /* APPEND */
    uint64_t bytes;      /* APPEND: payload bytes of the entries; the core sends 0, the owner that knows sets it */
    bool reject;         /* VOTE_REPLY: not granted; APPEND_REPLY: refused */
    uint32_t runs_count; /* APPEND: terms of the entries */
    struct raft_run runs[RAFT_RUNS_MAX];
    uint64_t count;      /* APPEND: entries = sum of the runs */
};

enum raft_event_type {
    RAFT_TICK,        /* now_ms */
    RAFT_RECV,        /* message; for an APPEND the owner keeps the payload of accepted entries: see update.write */
    RAFT_SUBMIT,      /* count, bytes: the leader appends entries last + 1 ...; a bug unless role is LEADER */
    RAFT_PERSISTED,   /* write_id: this and all earlier writes are durable */
    RAFT_APPLIED,     /* index */
    RAFT_COMPACTED,   /* index: entries <= index left the log (index <= applied, index <= durable) */
    RAFT_UNREACHABLE, /* peer: a message to it was lost for sure */
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
        uint64_t write_id;
        uint64_t index;
        uint64_t peer;
    };
};

/* One write for the WAL; its parts are to be written in this order. Entry i is of term raft_term_of(i): its payload is
 * that of the APPEND just received if that holds i with this term, else what the owner submitted as i; equal index and
 * term mean equal payload. What the owner holds from truncate_from or first on is obsolete otherwise. */
struct raft_write {
    uint64_t id;            /* 0: nothing to write; else one more than the last */
    bool hard_state;        /* term and vote changed */
    uint64_t term, vote;
    uint64_t truncate_from; /* 0: none; else entries >= it are cut off first */
    uint64_t first, last;   /* entries to write, first > last: none */
};

#define RAFT_SENDS_MAX (2 * RAFT_VOTERS_MAX)

struct raft_update {
    struct raft_write write;
    uint64_t commit; /* commit index now, from options.applied_index on; may be ahead of the own durable index: others
                        are a majority already */
    bool role_changed; /* role, leader or term differ from the last update */
    enum raft_role role;
    uint64_t leader; /* replica id of the leader as far as known, 0 = unknown */
    uint64_t term;
    uint32_t send_now_count;
    struct raft_message send_now[RAFT_SENDS_MAX]; /* appends: may leave before the write is durable */
    uint32_t send_after_sync_count;
    struct raft_message send_after_sync[RAFT_SENDS_MAX]; /* votes, grants, acks: only after write.id and all before it
                                                            (write.id 0: after the last id handed out before) */
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

enum raft_role raft_role(const struct raft *r);
uint64_t raft_term(const struct raft *r);
uint64_t raft_vote(const struct raft *r);
uint64_t raft_leader(const struct raft *r);
uint64_t raft_last_index(const struct raft *r);
uint64_t raft_commit_index(const struct raft *r);
uint64_t raft_durable_index(const struct raft *r); /* last index of the own log that is known to be on disk */
/* Term of the entry at index; 0 if it is not in the log; base_index still has its term. */
uint64_t raft_term_of(const struct raft *r, uint64_t index);

/* Verifies the invariants that one replica can see (figure 3.2 and the bookkeeping); aborts on a violation. Tests call
 * it after every step; raft_step itself checks a cheap subset. */
void raft_check(const struct raft *r);

#endif
