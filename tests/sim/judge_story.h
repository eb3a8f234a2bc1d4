/* Three replicas that are made up, for the tests of the judge: what they show after a turn, what their disks get and
 * what leaves them. Replica 10 + n is on broker n. Told in order, a story without a wrong word trips nothing. */
#ifndef FLOTILLA_SIM_JUDGE_STORY_H
#define FLOTILLA_SIM_JUDGE_STORY_H

#include "judge_impl.h"

#define STORY_GROUP   1u
#define STORY_LOG_MAX 64u

/* A replica as its broker has it. */
struct fake {
    struct judge_sight sight;
    uint64_t terms[STORY_LOG_MAX];
    uint64_t base; /* entries up to it are not in its log any more */
    struct raft_peer_state peers[4];
    uint32_t crc; /* of what it would apply; 0: it does not say */
    uint64_t state;
    uint64_t lsn;
    bool is_up;
};

struct story {
    struct sim_world world;
    struct judge *judge;
    struct raft_config config; /* of all three; a test may change it */
    struct fake fakes[4];      /* from 1 on */
};
extern struct story story;

/* cmocka's set-up and tear-down. */
int story_begin(void **context);
int story_end(void **context);

/* How it has to end. */
void story_trips(const char *check);
void story_is_good(void);

void story_saw(uint64_t n); /* a turn of broker n is over */
void story_saw_all(void);
void story_passes(uint64_t ms);

/* A record is durable on disk n. */
void story_record(uint64_t n, enum wal_record_type type, uint64_t index, uint64_t term, const char *text);
void story_hard_state(uint64_t n, uint64_t term, uint64_t vote);
void story_has(uint64_t n, uint64_t index, uint64_t term);    /* an entry is the last of its log, in memory */
void story_stores(uint64_t n, uint64_t index, uint64_t term); /* and is durable; its payload follows from both */

/* A row leaves broker `from`; of `r` what is not said here. */
void story_row(enum raft_message_type type, uint64_t from, uint64_t to, uint64_t term, struct judge_row r);
void story_ack(uint64_t from, uint64_t to, uint64_t term, uint64_t index); /* and the leader takes it */
void story_commits(uint64_t n, uint64_t index);                            /* and applies */

/* An election, step by step: a pre-vote, the new term and its vote, a vote of another one, leadership. */
void story_wish(uint64_t n, uint64_t by, uint64_t term);
void story_campaigns(uint64_t n, uint64_t term);
void story_vote(uint64_t n, uint64_t by, uint64_t term);
void story_leads(uint64_t n);
void story_elect(uint64_t n, uint64_t by, uint64_t term); /* all of it */

/* The leader's next entry is stored by itself and by another one, who says so, and committed. */
void story_replicate(uint64_t leader, uint64_t by, uint64_t index, uint64_t term);

#endif
