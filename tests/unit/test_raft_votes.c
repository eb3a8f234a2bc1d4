/* Who is voted for, and when, in the Raft core: pre-votes, the lease of a living leader, learners and strangers. */
#include "raft_bench.h"

static void ask(struct bench *b, uint64_t from, uint64_t term, bool pre, bool force)
{
    receive(b, (struct raft_message){.type = RAFT_VOTE_REQUEST,
                                     .from = from,
                                     .term = term,
                                     .pre = pre,
                                     .force = force,
                                     .index = raft_last_index(b->raft),
                                     .index_term = raft_term_of(b->raft, raft_last_index(b->raft))});
}

/* A follower of 2 in term 3, whose timer has been armed by a tick. */
static struct bench *follower_of_2(void)
{
    struct bench *b = bench_new(3, &(struct raft_options){0});
    append(b, 2, 3, 0, 0, 1, 3, 0);
    persist(b, b->write_id);
    tick(b, 1);
    return b;
}

static void expect_pre_vote(const struct bench *b, bool granted, uint64_t term)
{
    assert_int_equal(b->after_count, 1);
    assert_int_equal(b->after[0].type, RAFT_VOTE_REPLY);
    assert_true(b->after[0].pre);
    assert_int_equal(b->after[0].reject, !granted);
    assert_int_equal(b->after[0].term, term);
    assert_int_equal(b->writes, 0); /* nothing changes by it */
}

/* ---- the one who asks ---- */

static void terms_rise_only_after_a_majority_would_vote(void **state)
{
    (void)state;
    struct bench *b = bench_new(5, &(struct raft_options){.term = 4});
    tick(b, 2 * ELECTION_MS);
    for (int i = 0; i < 20; i++) { /* cut off for long: the term stays */
        assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
        assert_int_equal(raft_term(b->raft), 4);
        assert_int_equal(raft_vote(b->raft), 0);
        assert_int_equal(b->writes, 0);
        assert_int_equal(b->after_count, 4);
        assert_true(b->after[0].pre);
        assert_int_equal(b->after[0].term, 5);
        tick(b, 2 * ELECTION_MS);
    }
    pre_grant(b, 2, 5);
    pre_grant(b, 2, 5); /* repeated */
    pre_grant(b, 3, 4); /* of an earlier attempt */
    receive(b, (struct raft_message){.type = RAFT_VOTE_REPLY, .from = 5, .term = 4, .pre = true, .reject = true});
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
    pre_grant(b, 3, 5);
    assert_int_equal(raft_role(b->raft), RAFT_CANDIDATE);
    assert_int_equal(raft_term(b->raft), 5);
    persist(b, b->write_id);
    pre_grant(b, 2, 5); /* late pre-votes elect nobody */
    pre_grant(b, 3, 5);
    pre_grant(b, 4, 5);
    assert_int_equal(raft_role(b->raft), RAFT_CANDIDATE);
    assert_int_equal(raft_term(b->raft), 5);
}

static void candidate_without_success_asks_for_pre_votes_again(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    campaign(b);
    persist(b, b->write_id);
    tick(b, 2 * ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
    assert_int_equal(raft_term(b->raft), 1);
    assert_int_equal(b->after[0].term, 2);
    grant(b, 2, 1); /* too late */
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
}

static void refused_pre_vote_brings_a_higher_term(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){.term = 2});
    tick(b, 2 * ELECTION_MS);
    receive(b, (struct raft_message){.type = RAFT_VOTE_REPLY, .from = 2, .term = 9, .pre = true, .reject = true});
    assert_int_equal(raft_term(b->raft), 9);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
}

static void leader_of_the_same_term_ends_a_pre_candidacy(void **state)
{
    (void)state;
    struct bench *b = follower_of_2();
    tick(b, 2 * ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
    assert_int_equal(raft_leader(b->raft), 0);
    beat(b, 2, 3, 0);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    assert_int_equal(raft_leader(b->raft), 2);
    pre_grant(b, 3, 4);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
}

/* ---- the one who is asked ---- */

static void pre_vote_changes_nothing_and_tells_a_stale_candidate_the_term(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 5}};
    struct bench *b = bench_new(3, &(struct raft_options){.term = 3, .runs = runs, .runs_count = 1});
    ask(b, 2, 4, true, false);
    expect_pre_vote(b, true, 4);
    ask(b, 3, 4, true, false); /* as often as one likes */
    expect_pre_vote(b, true, 4);
    ask(b, 3, 3, true, false); /* our own term, no vote given and no leader seen */
    expect_pre_vote(b, true, 3);
    ask(b, 3, 2, true, false);
    expect_pre_vote(b, false, 3);
    receive(b, (struct raft_message){
                   .type = RAFT_VOTE_REQUEST, .from = 2, .term = 4, .pre = true, .index = 4, .index_term = 1});
    expect_pre_vote(b, false, 3); /* a shorter log */
    assert_int_equal(raft_term(b->raft), 3);
    assert_int_equal(raft_vote(b->raft), 0);
    tick(b, 3 * ELECTION_MS / 2); /* and it restarts no timer */
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
    ask(b, 3, 4, true, false);
    expect_pre_vote(b, true, 4);
}

static void pre_vote_of_the_own_term_needs_a_free_vote(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){.term = 3, .vote = 2});
    ask(b, 3, 3, true, false);
    expect_pre_vote(b, false, 3);
    ask(b, 3, 4, true, false);
    expect_pre_vote(b, true, 4);
}

static void who_heard_the_leader_disturbs_nobody(void **state)
{
    (void)state;
    struct bench *b = follower_of_2();
    tick(b, ELECTION_MS - 1);
    ask(b, 3, 4, true, false);
    expect_pre_vote(b, false, 3);
    ask(b, 3, 9, false, false); /* ignored: no answer, no term */
    assert_int_equal(b->after_count, 0);
    assert_int_equal(raft_term(b->raft), 3);
    assert_int_equal(raft_next_tick_ms(b->raft), b->now_ms + 1); /* so that it knows when that is over */
    tick(b, 1);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    ask(b, 3, 4, true, false);
    expect_pre_vote(b, true, 4);
    ask(b, 3, 9, false, false);
    assert_false(b->after[0].reject);
    assert_int_equal(raft_vote(b->raft), 3);
}

static void free_vote_is_not_given_against_a_living_leader(void **state)
{
    (void)state;
    struct bench *b = follower_of_2();
    assert_int_equal(raft_vote(b->raft), 0);
    ask(b, 3, 3, false, false); /* the same term: nothing to ignore, but a vote to refuse */
    expect_answer(b, RAFT_VOTE_REPLY, true, 0);
    assert_int_equal(raft_vote(b->raft), 0);
}

static void pre_candidate_that_votes_for_another_waits_for_it(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){.term = 3});
    tick(b, 2 * ELECTION_MS);
    ask(b, 2, 3, false, false);
    assert_false(b->after[0].reject);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    pre_grant(b, 3, 4); /* an answer to its own question, too late */
    assert_int_equal(raft_term(b->raft), 3);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
}

static void vote_between_the_leaders_word_and_the_next_tick_is_refused(void **state)
{
    (void)state;
    struct bench *b = follower_of_2();
    tick(b, ELECTION_MS);
    beat(b, 2, 3, 0);
    ask(b, 3, 4, true, false);
    expect_pre_vote(b, false, 3);
}

static void leader_asks_for_it_itself(void **state)
{
    (void)state;
    struct bench *b = follower_of_2();
    ask(b, 3, 4, false, true);
    assert_int_equal(b->after_count, 1);
    assert_false(b->after[0].reject);
    assert_int_equal(raft_vote(b->raft), 3);
    assert_int_equal(raft_term(b->raft), 4);
}

static void lost_link_to_the_leader_ends_its_lease_but_not_the_timer(void **state)
{
    (void)state;
    struct bench *b = follower_of_2();
    uint64_t next_ms = raft_next_tick_ms(b->raft);
    step(b, (struct raft_event){.type = RAFT_UNREACHABLE, .peer = 3});
    ask(b, 3, 4, true, false);
    expect_pre_vote(b, false, 3);
    step(b, (struct raft_event){.type = RAFT_UNREACHABLE, .peer = 2});
    ask(b, 3, 4, true, false);
    expect_pre_vote(b, true, 4);
    assert_true(raft_next_tick_ms(b->raft) >= next_ms);
    tick(b, ELECTION_MS - 1);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    beat(b, 2, 3, 0); /* back again */
    ask(b, 3, 4, true, false);
    expect_pre_vote(b, false, 3);
}

static void leader_votes_for_nobody(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    ask(b, 2, 2, true, false);
    expect_pre_vote(b, false, 1);
    ask(b, 2, 2, false, false);
    assert_int_equal(b->after_count, 0);
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    ask(b, 2, 2, false, true);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    assert_int_equal(raft_vote(b->raft), 2);
}

/* etcd's campaign_learner_must_vote: it was made a voter, and does not know it yet. */
static void learners_and_strangers_answer_and_never_campaign(void **state)
{
    (void)state;
    struct raft_config configs[2] = {
        {2, {{1, RAFT_LEARNER, RAFT_LEARNER}, {2, RAFT_VOTER, RAFT_VOTER}}},
        {2, {{2, RAFT_VOTER, RAFT_VOTER}, {3, RAFT_VOTER, RAFT_VOTER}}},
    };
    for (int i = 0; i < 2; i++) {
        struct bench *b = bench_new_in(&configs[i], &(struct raft_options){.term = 1});
        tick(b, 100 * ELECTION_MS);
        assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
        ask(b, 7, 2, true, false); /* of somebody it does not know either */
        expect_pre_vote(b, true, 2);
        ask(b, 7, 2, false, false);
        assert_false(b->after[0].reject);
        assert_int_equal(raft_vote(b->raft), 7);
        append(b, 8, 3, 0, 0, 2, 3, 0);
        expect_answer(b, RAFT_APPEND_REPLY, false, 2);
        tick(b, 1);
        ask(b, 7, 4, true, false); /* a leader is a leader to them too */
        expect_pre_vote(b, false, 3);
        assert_int_equal(raft_next_tick_ms(b->raft), b->now_ms + ELECTION_MS);
        tick(b, ELECTION_MS);
        ask(b, 7, 4, true, false);
        expect_pre_vote(b, true, 4);
        bench_free(NULL);
    }
}

/* Who loses its vote by a configuration that may be nobody else's yet may be the only one that can win. */
static void voter_that_may_have_been_removed_campaigns_until_it_knows(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 2}};
    struct raft_config_entry configs[2] = {{.index = 0}, {.index = 2}};
    voters_up_to(3, &configs[0].config);
    raft_config_of_voters((uint64_t[]){2, 3}, 2, &configs[1].config);
    struct raft_options options = {
        .term = 1, .runs = runs, .runs_count = 1, .configs = configs, .configs_count = 2, .applied_index = 1};
    struct bench *b = bench_new(3, &options);
    tick(b, 2 * ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
    pre_grant(b, 2, 2); /* its own vote does not count */
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
    pre_grant(b, 3, 2);
    assert_int_equal(raft_role(b->raft), RAFT_CANDIDATE);
    bench_free(NULL);
    options.applied_index = 2;
    b = bench_new(3, &options);
    tick(b, 2 * ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
}

static void deposed_leader_learns_the_term_by_its_beat(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){.term = 5});
    beat(b, 2, 4, 0);
    const struct raft_message *reply = sent_to(b, RAFT_BEAT_REPLY, 2);
    assert_non_null(reply);
    assert_int_equal(reply->term, 5);
    assert_true(reply->reject);
    assert_int_equal(raft_leader(b->raft), 0);
    bench_free(NULL);

    b = bench_new(3, &(struct raft_options){0});
    lead(b);
    receive(b, (struct raft_message){.type = RAFT_BEAT_REPLY, .from = 3, .term = 5, .reject = true});
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    assert_int_equal(raft_term(b->raft), 5);
}

/* The answer to a beat speaks of the term: it waits for that, but not for entries. */
static void answer_to_a_beat_waits_for_the_term_only(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    beat(b, 2, 3, 0);
    assert_int_equal(b->now_count, 0);
    assert_int_equal(b->after_count, 1);
    beat(b, 2, 3, 0);
    assert_int_equal(b->after_count, 1); /* still not durable */
    persist(b, b->write_id);
    append(b, 2, 3, 0, 0, 5, 3, 0); /* on its way */
    beat(b, 2, 3, 5);
    assert_int_equal(b->after_count, 0);
    assert_int_equal(b->now_count, 1);
    assert_int_equal(b->now[0].commit, 5);
    assert_int_equal(b->commit, 5);
}

static void beat_commits_only_what_this_leader_has_shown(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 9}};
    struct bench *b = bench_new(3, &(struct raft_options){.term = 1, .runs = runs, .runs_count = 1});
    beat(b, 2, 2, 9); /* it remembers us as we were before we lost 9, and got another one */
    assert_int_equal(raft_commit_index(b->raft), 0);
    append(b, 2, 2, 6, 1, 0, 0, 0);
    beat(b, 2, 2, 9);
    assert_int_equal(raft_commit_index(b->raft), 6);
    append(b, 3, 3, 4, 1, 0, 0, 0);
    beat(b, 3, 3, 9); /* another leader, another log */
    assert_int_equal(raft_commit_index(b->raft), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAFT_TEST(terms_rise_only_after_a_majority_would_vote),
        RAFT_TEST(candidate_without_success_asks_for_pre_votes_again),
        RAFT_TEST(refused_pre_vote_brings_a_higher_term),
        RAFT_TEST(leader_of_the_same_term_ends_a_pre_candidacy),
        RAFT_TEST(pre_vote_changes_nothing_and_tells_a_stale_candidate_the_term),
        RAFT_TEST(pre_vote_of_the_own_term_needs_a_free_vote),
        RAFT_TEST(who_heard_the_leader_disturbs_nobody),
        RAFT_TEST(free_vote_is_not_given_against_a_living_leader),
        RAFT_TEST(pre_candidate_that_votes_for_another_waits_for_it),
        RAFT_TEST(vote_between_the_leaders_word_and_the_next_tick_is_refused),
        RAFT_TEST(leader_asks_for_it_itself),
        RAFT_TEST(lost_link_to_the_leader_ends_its_lease_but_not_the_timer),
        RAFT_TEST(leader_votes_for_nobody),
        RAFT_TEST(learners_and_strangers_answer_and_never_campaign),
        RAFT_TEST(voter_that_may_have_been_removed_campaigns_until_it_knows),
        RAFT_TEST(deposed_leader_learns_the_term_by_its_beat),
        RAFT_TEST(answer_to_a_beat_waits_for_the_term_only),
        RAFT_TEST(beat_commits_only_what_this_leader_has_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
