/* struct raft and what its files ask of one another. Inside src/raft only.
 *
 *   raft.c         life, events, updates, changes of role
 *   election.c     timers of followers, candidacy, votes
 *   replication.c  appends and acknowledgements, the commit rule
 *   progress.c     the leader's view of one follower
 *   trail.c        index -> term;   sizes.c  index -> bytes, roughly;   writes.c  what is on its way to the WAL
 *
 * Only state changes in a step; messages of a leader or candidate are made from the state when they are taken, so that
 * none is ever sent by a role that is over. A follower's answer is the one message that is kept. */
#ifndef FLOTILLA_RAFT_IMPL_H
#define FLOTILLA_RAFT_IMPL_H

#include "base/rng.h"
#include "raft/progress.h"
#include "raft/raft.h"
#include "raft/sizes.h"
#include "raft/trail.h"
#include "raft/writes.h"

/* The answer to the one message received since the last take. */
struct raft_answer {
    bool pending;
    enum raft_message_type type;
    uint64_t to;
    uint64_t term;
    bool reject;
    uint64_t index, index_term, hint;
};

struct raft {
    uint64_t self;
    uint32_t voters_count;
    uint64_t voters[RAFT_VOTERS_MAX];
    bool self_votes; /* self is among the voters */
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

    struct trail trail;
    struct sizes sizes;
    struct writes writes;

    uint64_t now_ms;
    uint64_t election_deadline_ms;
    uint64_t heartbeat_deadline_ms; /* of a leader */
    bool heard;                     /* from a leader or a candidate we voted for, since the last tick */

    uint32_t votes;         /* candidate: bit i = voters[i] granted; its own counts separately, when durable */
    bool vote_requests_due; /* candidate: not sent yet */

    uint32_t peers_count;
    struct progress peers[RAFT_VOTERS_MAX]; /* leader: the other voters */

    bool received; /* a message, since the last take */
    struct raft_answer answer;

    /* what the last update said */
    enum raft_role told_role;
    uint64_t told_leader;
    uint64_t told_term;
    uint64_t told_commit;
};

/* raft.c */
void raft__set_term(struct raft *r, uint64_t term); /* a higher one: forgets the vote, becomes follower of nobody */
void raft__become_follower(struct raft *r, uint64_t leader);
void raft__answer(struct raft *r, const struct raft_answer *answer); /* fills in term, marks it pending */
uint32_t raft__majority(const struct raft *r);
void raft__fill_header(const struct raft *r, struct raft_message *m, enum raft_message_type type, uint64_t to);

/* election.c */
void election__arm(struct raft *r);
void election__tick(struct raft *r);
uint64_t election__next_tick_ms(const struct raft *r);
void election__persisted(struct raft *r);
void election__recv_request(struct raft *r, const struct raft_message *m);
void election__recv_reply(struct raft *r, const struct raft_message *m);
void election__take(struct raft *r, struct raft_update *update);

/* replication.c */
void replication__lead(struct raft *r);
void replication__tick(struct raft *r);
void replication__submit(struct raft *r, uint64_t count, uint64_t bytes);
void replication__persisted(struct raft *r);
void replication__unreachable(struct raft *r, uint64_t peer);
void replication__recv_append(struct raft *r, const struct raft_message *m);
void replication__recv_reply(struct raft *r, const struct raft_message *m);
void replication__take(struct raft *r, struct raft_update *update);

#endif
