/* struct raft and what its files ask of one another. Inside src/raft only.
 *
 *   raft.c         life, events, changes of role
 *   message.c      what a peer's message must be like to be looked at
 *   update.c       what is to be done: raft_take
 *   question.c     raft.h's questions;   check.c  the invariants of one replica
 *   election.c     timers of followers, pre-votes, votes, the lease of a leader
 *   replication.c  the leader's appends, acknowledgements, the commit rule
 *   follower.c     the follower's side of appends and beats
 *   beat.c         heartbeats, their answers, check-quorum: the leader's clock
 *   change.c       configurations on the leader: what may be changed, who is a peer, who leaves
 *   transfer.c     giving the leadership away;   reads.c  rounds of reads
 *   snapshot.c     peers that need one, and one that was installed here
 *   heal.c         damaged replicas and their way back, full ones;   quiet.c  groups that sleep
 *   progress.c     the leader's view of one peer
 *   config.c       configurations;   trail.c  index -> term;   sizes.c  index -> bytes, roughly
 *   writes.c       what is on its way to the WAL
 *
 * Only state changes in a step; messages of a leader or candidate are made from the state when they are taken, so that
 * none is ever sent by a role that is over. A follower's answer is the one message that is kept. */
#ifndef FLOTILLA_RAFT_IMPL_H
#define FLOTILLA_RAFT_IMPL_H

#include "base/rng.h"
#include "raft/config.h"
#include "raft/progress.h"
#include "raft/raft.h"
#include "raft/sizes.h"
#include "raft/trail.h"
#include "raft/writes.h"

/* A deadline that is set at the next tick: the clock of the core may be far behind between two of them. */
#define DEADLINE_UNSET UINT64_MAX

/* The answer to the one message received since the last take. */
struct raft_answer {
    bool pending;
    enum raft_message_type type;
    uint64_t to;
    uint64_t term; /* 0: ours */
    bool reject, pre, quiet;
    uint64_t index, index_term, hint, round;
};

struct raft {
    uint64_t self;
    uint32_t heartbeat_ms;
    uint32_t election_ms;
    struct rng rng;

    /* hard state (figure 3.1, "persistent state"); durable once writes says so */
    uint64_t term;
    uint64_t vote;

    enum raft_role role;
    uint64_t leader;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t matched_index; /* the leader's log is ours up to here, as its appends have shown; 0 with a new leader */

    struct configs configs;
    uint32_t self_place; /* in the configuration in force; PLACE_NONE: no member */
    struct trail trail;
    struct sizes sizes;
    struct writes writes;

    uint64_t now_ms;
    uint64_t election_deadline_ms;
    uint64_t lease_end_ms; /* no vote for others before it, while there is a leader */
    bool heard;            /* from a leader or a candidate we voted for, since the last tick */
    bool heard_leader;     /* the former */

    /* (pre-)candidate */
    uint32_t votes;         /* places that granted; its own counts separately, when durable */
    bool vote_requests_due; /* not sent yet */
    bool forced;            /* the leader asked for it */

    /* leader */
    uint64_t heartbeat_deadline_ms;
    uint64_t quorum_deadline_ms;          /* of hearing from a majority */
    uint32_t peers_count, peers_capacity; /* RAFT_MEMBERS_MAX at most */
    struct progress *peers;               /* owned; the other members, and who leaves */
    uint64_t transfer_to;                 /* 0: nobody */
    uint64_t transfer_deadline_ms;
    bool transfer_told;       /* TIMEOUT_NOW has left */
    uint64_t round_asked;     /* of reads: the newest one that somebody waits for, */
    uint64_t round_sent;      /* that beats have carried, */
    uint64_t round_confirmed; /* that a majority has answered */

    bool falling_asleep; /* leader: everybody was asked in quiet_round */
    uint64_t quiet_round;
    bool quiet;

    bool damaged;
    uint64_t damage;     /* its number */
    uint64_t heal_index; /* said by the leader: whole with this entry on the disk; 0: not yet */
    bool healed;         /* whole as soon as the hard state is durable */
    bool full;

    bool received; /* a message, since the last take */
    struct raft_answer answer;

    /* what the last update said */
    enum raft_role told_role;
    uint64_t told_leader;
    uint64_t told_term;
    uint64_t told_commit;
    uint32_t told_config;
    uint64_t told_round;
    bool told_leave_due, told_noop_due, told_repaired;
};

/* raft.c */
void raft__set_term(struct raft *r, uint64_t term); /* a higher one: forgets the vote, becomes follower of nobody */
void raft__become_follower(struct raft *r, uint64_t leader);
void raft__config_changed(struct raft *r); /* the configuration in force is another one */
const struct raft_config *raft__config(const struct raft *r);
struct progress *raft__peer(struct raft *r, uint64_t replica); /* NULL: not a leader, or none of its peers */
bool raft__own_term_committed(const struct raft *r);

/* message.c */
bool message__is_sane(const struct raft *r, const struct raft_message *m);

/* update.c */
void update__answer(struct raft *r, const struct raft_answer *answer);
void update__fill_header(const struct raft *r, struct raft_message *m, enum raft_message_type type, uint64_t to);
struct raft_message *update__send_now(const struct raft *r, struct raft_update *update, enum raft_message_type type,
                                      uint64_t to);

/* election.c */
void election__arm(struct raft *r);
void election__tick(struct raft *r);
uint64_t election__next_tick_ms(const struct raft *r);
void election__persisted(struct raft *r);
void election__recv_request(struct raft *r, const struct raft_message *m, bool was_quiet);
void election__recv_reply(struct raft *r, const struct raft_message *m);
void election__recv_timeout_now(struct raft *r, const struct raft_message *m);
void election__leader_unreachable(struct raft *r);
void election__take(struct raft *r, struct raft_update *update);

/* replication.c */
void replication__lead(struct raft *r);
void replication__submit(struct raft *r, uint64_t count, uint64_t bytes);
void replication__advance_commit(struct raft *r);
void replication__recv_reply(struct raft *r, const struct raft_message *m);
void replication__take(struct raft *r, struct raft_update *update);

/* follower.c */
void follower__recv_append(struct raft *r, const struct raft_message *m);
void follower__recv_beat(struct raft *r, const struct raft_message *m);

/* beat.c */
void beat__tick(struct raft *r);
void beat__all(struct raft *r); /* one to everybody, now */
void beat__recv_reply(struct raft *r, const struct raft_message *m);
void beat__take(struct raft *r, struct progress *p, struct raft_update *update);

/* change.c */
bool change__leave_is_due(const struct raft *r);
void change__append(struct raft *r, const struct raft_config *config, uint64_t bytes);
void change__set_peers(struct raft *r);
void change__drop_leavers(struct raft *r);
bool change__is_over_for_us(const struct raft *r); /* a leader that the committed configuration has no vote for */

/* transfer.c */
void transfer__begin(struct raft *r, uint64_t to);
void transfer__tick(struct raft *r);
void transfer__take(struct raft *r, struct raft_update *update);

/* reads.c */
void reads__ask(struct raft *r);
void reads__confirm(struct raft *r);

/* snapshot.c */
void snapshot__done(struct raft *r, uint64_t peer, uint64_t index, bool ok);
void snapshot__installed(struct raft *r, const struct raft_event *event);
void snapshot__take(struct raft *r, struct raft_update *update);

/* heal.c: leader */
void heal__heard(struct raft *r, struct progress *p, const struct raft_message *m);
void heal__committed(struct raft *r);
bool heal__noop_is_due(const struct raft *r);
/* heal.c: the damaged replica */
void heal__damaged(struct raft *r);
void heal__hear(struct raft *r, const struct raft_message *m);
void heal__look(struct raft *r);
bool heal__is_repaired(const struct raft *r);
void heal__repaired(struct raft *r);

/* quiet.c */
void quiet__sleep(struct raft *r);
void quiet__wake(struct raft *r);
bool quiet__is_disturbed_by(const struct raft *r, const struct raft_event *event);
bool quiet__agrees(const struct raft *r, const struct raft_message *m);
void quiet__answered(struct raft *r, struct progress *p, const struct raft_message *m);

/* check.c */
void check__step(const struct raft *r);

#endif
