/* Giving the leadership away, from both sides. */
#include "raft_bench.h"

static struct bench *leader_of_three(void)
{
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 3);
    return b;
}

static void transfer(struct bench *b, uint64_t to)
{
    assert_true(raft_may_transfer(b->raft, to));
    step(b, (struct raft_event){.type = RAFT_TRANSFER, .peer = to});
}

static void one_that_has_everything_is_told_at_once(void **state)
{
    (void)state;
    struct bench *b = leader_of_three();
    transfer(b, 3);
    assert_int_equal(b->now_count, 1);
    assert_non_null(sent_to(b, RAFT_TIMEOUT_NOW, 3));
    assert_false(raft_accepts(b->raft));
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    tick(b, HEARTBEAT_MS);
    assert_int_equal(sent_count(b, RAFT_TIMEOUT_NOW), 0); /* once */
    receive(b, (struct raft_message){
                   .type = RAFT_VOTE_REQUEST, .from = 3, .term = 2, .index = 1, .index_term = 1, .force = true});
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    assert_int_equal(raft_vote(b->raft), 3);
}

static void nothing_new_is_taken_and_the_other_is_brought_up_to_date_first(void **state)
{
    (void)state;
    struct bench *b = leader_of_three();
    submit(b, 5, 50);
    transfer(b, 3);
    assert_int_equal(sent_count(b, RAFT_TIMEOUT_NOW), 0);
    assert_false(raft_accepts(b->raft));
    struct raft_config same;
    voters_up_to(3, &same);
    assert_int_equal(raft_may_change(b->raft, &same), RAFT_CHANGE_PENDING);
    assert_false(raft_may_transfer(b->raft, 2));
    ack(b, 3, 5);
    assert_int_equal(sent_count(b, RAFT_TIMEOUT_NOW), 0);
    ack(b, 2, 6);
    assert_int_equal(sent_count(b, RAFT_TIMEOUT_NOW), 0);
    ack(b, 3, 6);
    assert_non_null(sent_to(b, RAFT_TIMEOUT_NOW, 3));
}

static void without_success_it_is_over_after_an_election_timeout(void **state)
{
    (void)state;
    struct bench *b = leader_of_three();
    transfer(b, 3);
    uint64_t begun_ms = b->now_ms;
    while (!raft_accepts(b->raft)) {
        assert_in_range(b->now_ms - begun_ms, 0, ELECTION_MS + 2 * HEARTBEAT_MS);
        tick(b, HEARTBEAT_MS);
        answer_beat(b, 2, 1, 0);
    }
    assert_true(b->now_ms - begun_ms >= ELECTION_MS);
    submit(b, 1, 10);
    transfer(b, 2);
    ack(b, 2, 2);
    assert_non_null(sent_to(b, RAFT_TIMEOUT_NOW, 2));
}

static void only_a_sound_voter_that_is_near_may_lead(void **state)
{
    (void)state;
    struct raft_config config;
    voters_up_to(3, &config);
    config.members[config.count++] = (struct raft_member){4, RAFT_LEARNER, RAFT_LEARNER};
    struct bench *b = bench_new_in(&config, &(struct raft_options){0});
    assert_false(raft_may_transfer(b->raft, 2)); /* not a leader */
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 4);
    assert_true(raft_may_transfer(b->raft, 2));
    assert_false(raft_may_transfer(b->raft, 1));
    assert_false(raft_may_transfer(b->raft, 4)); /* a learner */
    assert_false(raft_may_transfer(b->raft, 5));
    receive(b, (struct raft_message){.type = RAFT_BEAT_REPLY, .from = 2, .term = 1, .full = true});
    assert_false(raft_may_transfer(b->raft, 2));
    receive(b, (struct raft_message){.type = RAFT_BEAT_REPLY, .from = 2, .term = 1});
    assert_true(raft_may_transfer(b->raft, 2));
    receive(b, (struct raft_message){.type = RAFT_BEAT_REPLY, .from = 3, .term = 1, .damaged = true});
    assert_false(raft_may_transfer(b->raft, 3));
    submit(b, RAFT_LAG_ENTRIES_MAX, 1000);
    assert_true(raft_may_transfer(b->raft, 2));
    submit(b, 1, 10);
    assert_false(raft_may_transfer(b->raft, 2));
}

static void who_waits_for_a_snapshot_is_not_near(void **state)
{
    (void)state;
    struct raft_peer_state peer;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 2);
    apply_all(b);
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 1});
    step(b, (struct raft_event){.type = RAFT_UNREACHABLE, .peer = 3});
    assert_true(raft_peer_state(b->raft, 3, &peer) && peer.in_snapshot);
    assert_false(raft_may_transfer(b->raft, 3));
    assert_true(raft_may_transfer(b->raft, 2));
}

/* ---- who is to lead ---- */

static void told_follower_campaigns_at_once_by_force(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    append(b, 2, 3, 0, 0, 1, 3, 0);
    receive(b, (struct raft_message){.type = RAFT_TIMEOUT_NOW, .from = 3, .term = 3}); /* not our leader */
    receive(b, (struct raft_message){.type = RAFT_TIMEOUT_NOW, .from = 2, .term = 2}); /* not its term */
    receive(b, (struct raft_message){.type = RAFT_TIMEOUT_NOW, .from = 2, .term = 4});
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    receive(b, (struct raft_message){.type = RAFT_TIMEOUT_NOW, .from = 2, .term = 3});
    assert_int_equal(raft_role(b->raft), RAFT_CANDIDATE);
    assert_int_equal(raft_term(b->raft), 4);
    assert_int_equal(b->after_count, 2);
    assert_true(b->after[0].force);
    assert_false(b->after[0].pre);
    persist(b, b->write_id);
    tick(b, 2 * ELECTION_MS); /* no force but for this once */
    campaign(b);
    assert_false(b->after[0].force);
}

static void damaged_follower_and_learner_do_not(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){.damaged = true});
    append(b, 2, 3, 0, 0, 1, 3, 0);
    receive(b, (struct raft_message){.type = RAFT_TIMEOUT_NOW, .from = 2, .term = 3});
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    bench_free(NULL);
    struct raft_config config = {2, {{1, RAFT_LEARNER, RAFT_LEARNER}, {2, RAFT_VOTER, RAFT_VOTER}}};
    b = bench_new_in(&config, &(struct raft_options){0});
    append(b, 2, 3, 0, 0, 1, 3, 0);
    receive(b, (struct raft_message){.type = RAFT_TIMEOUT_NOW, .from = 2, .term = 3});
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAFT_TEST(one_that_has_everything_is_told_at_once),
        RAFT_TEST(nothing_new_is_taken_and_the_other_is_brought_up_to_date_first),
        RAFT_TEST(without_success_it_is_over_after_an_election_timeout),
        RAFT_TEST(only_a_sound_voter_that_is_near_may_lead),
        RAFT_TEST(who_waits_for_a_snapshot_is_not_near),
        RAFT_TEST(told_follower_campaigns_at_once_by_force),
        RAFT_TEST(damaged_follower_and_learner_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
