/* Rounds of reads: what a leader may answer without writing anything. */
#include "raft_bench.h"

static struct bench *leader_of_three(void)
{
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 3);
    return b;
}

static uint64_t ask(struct bench *b)
{
    step(b, (struct raft_event){.type = RAFT_READ});
    return raft_read_round(b->raft);
}

static void round_is_confirmed_by_a_majority_that_answers_it(void **state)
{
    (void)state;
    struct bench *b = leader_of_three();
    uint64_t round = ask(b);
    assert_int_equal(round, 1);
    assert_int_equal(b->now_count, 2); /* at once, not at the next heartbeat */
    assert_int_equal(sent_to(b, RAFT_BEAT, 2)->round, 1);
    assert_int_equal(sent_to(b, RAFT_BEAT, 3)->round, 1);
    assert_int_equal(b->read_round, 0);
    answer_beat(b, 2, 1, 0); /* of an earlier beat */
    ack(b, 3, 1);            /* an append says nothing of it */
    assert_int_equal(b->read_round, 0);
    answer_beat(b, 2, 1, 9); /* a round that never was */
    assert_int_equal(b->read_round, 0);
    answer_beat(b, 2, 1, 1);
    assert_int_equal(b->read_round, 1);
    assert_int_equal(b->read_index, 1);
}

/* etcd's #20418: the answer to one question must not serve a later one. */
static void who_asks_later_waits_for_a_later_round(void **state)
{
    (void)state;
    struct bench *b = leader_of_three();
    assert_int_equal(ask(b), 1);
    uint64_t later = ask(b);
    assert_int_equal(later, 2);
    assert_int_equal(sent_to(b, RAFT_BEAT, 2)->round, 2);
    answer_beat(b, 2, 1, 1);
    assert_int_equal(b->read_round, 1);
    submit(b, 1, 10);
    commit_on(b, 2);
    answer_beat(b, 3, 1, 2);
    assert_int_equal(b->read_round, 2);
    assert_int_equal(b->read_index, 2);
}

static void questions_before_the_beats_leave_share_a_round(void **state)
{
    (void)state;
    struct bench *b = leader_of_three();
    struct raft_event event = {.type = RAFT_READ};
    raft_step(b->raft, &event);
    raft_step(b->raft, &event);
    assert_int_equal(ask(b), 1);
    assert_int_equal(b->now_count, 2);
    assert_int_equal(ask(b), 2);
}

static void lost_round_is_asked_again_by_the_heartbeat(void **state)
{
    (void)state;
    struct bench *b = leader_of_three();
    ask(b);
    tick(b, HEARTBEAT_MS);
    assert_int_equal(sent_to(b, RAFT_BEAT, 3)->round, 1);
    answer_beat(b, 3, 1, 1);
    assert_int_equal(b->read_round, 1);
}

/* Ongaro section 6.4, step 1: before that the leader does not know what is committed. */
static void nothing_is_confirmed_before_an_own_entry_is_committed(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 5}};
    struct bench *b =
        bench_new(3, &(struct raft_options){.term = 1, .runs = runs, .runs_count = 1, .applied_index = 5});
    lead(b);
    submit(b, 1, 10);
    assert_int_equal(ask(b), 1);
    answer_beat(b, 2, 5, 1);
    answer_beat(b, 3, 5, 1);
    assert_int_equal(b->read_round, 0);
    commit_on(b, 2);
    assert_int_equal(b->read_round, 1);
    assert_int_equal(b->read_index, 6);
}

static void rounds_begin_anew_with_each_leadership(void **state)
{
    (void)state;
    struct bench *b = leader_of_three();
    ask(b);
    ask(b);
    answer_beat(b, 2, 1, 2);
    assert_int_equal(b->read_round, 2);
    beat(b, 3, 2, 1);
    assert_int_equal(b->read_round, 0);
    ask(b); /* a follower asks nobody */
    assert_int_equal(b->now_count, 0);
    tick(b, 1);
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 2);
    assert_int_equal(ask(b), 1);
    receive(b, (struct raft_message){.type = RAFT_BEAT_REPLY, .from = 2, .term = 1, .round = 1});
    assert_int_equal(b->read_round, 0); /* an answer to the earlier leadership */
    answer_beat(b, 3, 1, 1);
    assert_int_equal(b->read_round, 1);
}

static void damaged_and_learning_replicas_confirm_nothing(void **state)
{
    (void)state;
    struct raft_config config;
    voters_up_to(3, &config);
    config.members[config.count++] = (struct raft_member){4, RAFT_LEARNER, RAFT_LEARNER};
    struct bench *b = bench_new_in(&config, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 4);
    ask(b);
    answer_beat(b, 4, 1, 1);
    receive(b, (struct raft_message){.type = RAFT_BEAT_REPLY, .from = 2, .term = 1, .round = 1, .damaged = true});
    assert_int_equal(b->read_round, 0);
    answer_beat(b, 3, 1, 1);
    assert_int_equal(b->read_round, 1);
}

static void joint_configuration_needs_both_majorities(void **state)
{
    (void)state;
    struct raft_config now, next, joint;
    raft_config_of_voters((uint64_t[]){1, 2, 3}, 3, &now);
    raft_config_of_voters((uint64_t[]){1, 4, 5}, 3, &next);
    assert_true(raft_config_join(&now, &next, &joint));
    struct bench *b = bench_new_in(&joint, &(struct raft_options){0});
    tick(b, 2 * ELECTION_MS);
    pre_grant(b, 2, 1);
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
    pre_grant(b, 4, 1);
    persist(b, b->write_id);
    grant(b, 4, 1);
    grant(b, 5, 1);
    assert_int_equal(raft_role(b->raft), RAFT_CANDIDATE);
    grant(b, 3, 1);
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    submit(b, 1, 10);
    commit_on(b, 5);
    ask(b);
    answer_beat(b, 2, 1, 1);
    answer_beat(b, 3, 1, 1);
    assert_int_equal(b->read_round, 0);
    answer_beat(b, 5, 1, 1);
    assert_int_equal(b->read_round, 1);
    for (int i = 0; i < 30 && raft_role(b->raft) == RAFT_LEADER; i++) { /* check-quorum does too */
        tick(b, HEARTBEAT_MS);
        answer_beat(b, 4, 1, 0);
        answer_beat(b, 5, 1, 0);
    }
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
}

static void single_voter_confirms_itself(void **state)
{
    (void)state;
    struct bench *b = bench_new(1, &(struct raft_options){0});
    tick(b, 1);
    persist(b, b->write_id);
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    submit(b, 1, 10);
    persist(b, b->write_id);
    for (uint64_t round = 1; round < 4; round++) {
        assert_int_equal(ask(b), round);
        assert_int_equal(b->read_round, round);
        assert_int_equal(b->read_index, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAFT_TEST(round_is_confirmed_by_a_majority_that_answers_it),
        RAFT_TEST(who_asks_later_waits_for_a_later_round),
        RAFT_TEST(questions_before_the_beats_leave_share_a_round),
        RAFT_TEST(lost_round_is_asked_again_by_the_heartbeat),
        RAFT_TEST(nothing_is_confirmed_before_an_own_entry_is_committed),
        RAFT_TEST(rounds_begin_anew_with_each_leadership),
        RAFT_TEST(damaged_and_learning_replicas_confirm_nothing),
        RAFT_TEST(joint_configuration_needs_both_majorities),
        RAFT_TEST(single_voter_confirms_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
