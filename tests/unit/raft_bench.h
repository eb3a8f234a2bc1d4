/* A bench for one Raft core: events go in by name, everything that comes out is kept for the test to look at.
 * Durability is played by hand: the test says which writes have reached the disk. raft_check runs around every take. */
#ifndef FLOTILLA_TESTS_UNIT_RAFT_BENCH_H
#define FLOTILLA_TESTS_UNIT_RAFT_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "raft/raft.h"

#define SENT_MAX     256
#define HEARTBEAT_MS 100
#define ELECTION_MS  1000

/* A core and everything that came out of it since the last drain. */
struct bench {
    struct raft *raft;
    uint64_t now_ms;
    uint64_t write_id; /* handed out last */
    struct raft_write write;
    uint32_t writes;
    uint64_t commit;
    bool role_changed, config_changed, leave_due, noop_due, repaired;
    uint64_t read_round, read_index;
    uint32_t snapshots_count;
    uint64_t snapshots[RAFT_MEMBERS_MAX];
    uint32_t now_count, after_count;
    struct raft_message now[SENT_MAX], after[SENT_MAX];
    struct raft_update update;
};

/* The bench of the running test. */
extern struct bench bench;

/* A fresh replica 1 of voters 1 .. voters, or in the configuration given; the other options as given. */
struct bench *bench_new(uint32_t voters, const struct raft_options *changes);
struct bench *bench_new_in(const struct raft_config *config, const struct raft_options *changes);

/* The configuration of voters 1 .. last. */
void voters_up_to(uint64_t last, struct raft_config *ret_config);

/* cmocka's teardown. */
int bench_free(void **state);

/* Takes all there is. */
void drain(struct bench *b);

/* One event, then drain. */
void step(struct bench *b, struct raft_event event);
void tick(struct bench *b, uint64_t ms);
void persist(struct bench *b, uint64_t id);
void submit(struct bench *b, uint64_t count, uint64_t bytes);
void receive(struct bench *b, struct raft_message m);

/* An append from `from` with one run of `count` entries of entry_term after (index, index_term). */
void append(struct bench *b, uint64_t from, uint64_t term, uint64_t index, uint64_t index_term, uint64_t count,
            uint64_t entry_term, uint64_t commit);

/* Answers to the replica's current term. */
void ack(struct bench *b, uint64_t from, uint64_t index);
void refuse(struct bench *b, uint64_t from, uint64_t index, uint64_t conflict_term, uint64_t hint);
void grant(struct bench *b, uint64_t from, uint64_t term);
void pre_grant(struct bench *b, uint64_t from, uint64_t term);
void answer_beat(struct bench *b, uint64_t from, uint64_t commit, uint64_t round);

void beat(struct bench *b, uint64_t from, uint64_t term, uint64_t commit);

/* The first such message of the last drain, NULL: none; and how many of a type there were. */
const struct raft_message *sent_to(const struct bench *b, enum raft_message_type type, uint64_t to);
uint32_t sent_count(const struct bench *b, enum raft_message_type type);

/* Entries that the last drain sent to a peer. */
uint64_t entries_sent(const struct bench *b, uint64_t to);

/* The last drain brought exactly this answer, to leave after the sync. */
void expect_answer(const struct bench *b, enum raft_message_type type, bool reject, uint64_t index);

/* Makes the bench's replica a candidate of the next term, by pre-votes of 2, 3, ... */
void campaign(struct bench *b);

/* Makes the bench's replica the leader of the next term, without its LEADER entry. */
void lead(struct bench *b);

/* Everything becomes durable, and is acknowledged by 2 .. peers; it must be committed by that. */
void commit_on(struct bench *b, uint64_t peers);

void apply_all(struct bench *b);

#define RAFT_TEST(name) cmocka_unit_test_teardown(name, bench_free)

#endif
