/* Quiet groups: who falls asleep when, and what wakes whom. */
#include "raft_bench.h"

/* The leader of term 1 of three, with nothing to do. */
static struct bench *idle_leader(void)
{
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 3);
    apply_all(b);
    tick(b, 1);
    return b;
}

static void go_to_sleep(struct bench *b)
{
    step(b, (struct raft_event){.type = RAFT_SLEEP});
}

static void agree(struct bench *b, uint64_t from, uint64_t round)
{
    receive(b, (struct raft_message){.type = RAFT_BEAT_REPLY,
                                     .from = from,
                                     .term = raft_term(b->raft),
                                     .commit = raft_commit_index(b->raft),
                                     .round = round,
                                     .quiet = true});
}

static struct bench *quiet_leader(void)
{
    struct bench *b = idle_leader();
    go_to_sleep(b);
    agree(b, 2, raft_read_round(b->raft));
    agree(b, 3, raft_read_round(b->raft));
    assert_true(raft_is_quiet(b->raft));
    return b;
}

/* A follower of 2 in term 1 that has applied the one entry there is. */
static struct bench *idle_follower(void)
{
    struct bench *b = bench_new(3, &(struct raft_options){0});
    append(b, 2, 1, 0, 0, 1, 1, 1);
    persist(b, b->write_id);
    apply_all(b);
    tick(b, 1);
    return b;
}

static void quiet_beat(struct bench *b, uint64_t term, uint64_t index, uint64_t index_term, uint64_t round)
{
    receive(b, (struct raft_message){.type = RAFT_BEAT,
                                     .from = 2,
                                     .term = term,
                                     .commit = index,
                                     .index = index,
                                     .index_term = index_term,
                                     .round = round,
                                     .quiet = true});
}

static struct bench *quiet_follower(void)
{
    struct bench *b = idle_follower();
    quiet_beat(b, 1, 1, 1, 4);
    assert_true(raft_is_quiet(b->raft));
    return b;
}

/* ---- the leader ---- */

static void leader_sleeps_when_everybody_agreed_in_this_round(void **state)
{
    (void)state;
    struct bench *b = idle_leader();
    step(b, (struct raft_event){.type = RAFT_READ});
    answer_beat(b, 2, 1, 1);
    go_to_sleep(b);
    assert_int_equal(b->now_count, 2);
    const struct raft_message *m = sent_to(b, RAFT_BEAT, 2);
    assert_true(m->quiet);
    assert_int_equal(m->index, 1);
    assert_int_equal(m->index_term, 1);
    assert_int_equal(m->commit, 1);
    assert_int_equal(m->round, 2);
    agree(b, 2, 2);
    assert_false(raft_is_quiet(b->raft));
    agree(b, 3, 1); /* to an earlier question */
    agree(b, 2, 2);
    answer_beat(b, 3, 1, 1); /* to a beat before */
    assert_false(raft_is_quiet(b->raft));
    tick(b, HEARTBEAT_MS); /* asked again */
    assert_true(sent_to(b, RAFT_BEAT, 3)->quiet);
    agree(b, 3, 2);
    assert_true(raft_is_quiet(b->raft));
    assert_int_equal(raft_next_tick_ms(b->raft), UINT64_MAX);
    for (int i = 0; i < 10; i++) {
        tick(b, ELECTION_MS);
        assert_int_equal(b->now_count, 0);
        assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    }
}

static bool has_agreed(struct bench *b, uint64_t replica)
{
    struct raft_peer_state state;
    assert_true(raft_peer_state(b->raft, replica, &state));
    return state.quiet;
}

/* For an owner who keeps account of who sleeps. */
static void leader_says_who_has_agreed(void **state)
{
    (void)state;
    struct bench *b = idle_leader();
    assert_false(raft_is_falling_asleep(b->raft) || has_agreed(b, 2));
    go_to_sleep(b);
    assert_true(raft_is_falling_asleep(b->raft));
    assert_false(has_agreed(b, 2) || has_agreed(b, 3));
    agree(b, 2, raft_read_round(b->raft));
    assert_true(has_agreed(b, 2) && !has_agreed(b, 3));
    agree(b, 3, raft_read_round(b->raft));
    assert_true(has_agreed(b, 2) && has_agreed(b, 3));
    assert_false(raft_is_falling_asleep(b->raft));
    step(b, (struct raft_event){.type = RAFT_WAKE});
    assert_false(has_agreed(b, 2) || has_agreed(b, 3));
    go_to_sleep(b);
    assert_false(has_agreed(b, 2)); /* that was the last time */
}

static void leader_with_something_to_do_does_not_begin(void **state)
{
    (void)state;
    struct bench *b = idle_leader();
    submit(b, 1, 10);
    go_to_sleep(b);
    assert_int_equal(sent_count(b, RAFT_BEAT), 0);
    commit_on(b, 2); /* 3 lacks it, and it is not applied */
    go_to_sleep(b);
    assert_int_equal(sent_count(b, RAFT_BEAT), 0);
    apply_all(b);
    go_to_sleep(b);
    assert_int_equal(sent_count(b, RAFT_BEAT), 0);
    ack(b, 3, 2);
    step(b, (struct raft_event){.type = RAFT_READ});
    go_to_sleep(b);
    assert_false(sent_count(b, RAFT_BEAT) > 0);
    answer_beat(b, 2, 2, 1);
    step(b, (struct raft_event){.type = RAFT_TRANSFER, .peer = 2});
    go_to_sleep(b);
    assert_int_equal(sent_count(b, RAFT_BEAT), 0);
    while (!raft_accepts(b->raft)) {
        tick(b, HEARTBEAT_MS);
        answer_beat(b, 2, 2, 1);
    }
    go_to_sleep(b);
    assert_int_equal(sent_count(b, RAFT_BEAT), 2);
}

static void joint_configuration_is_to_be_left_first(void **state)
{
    (void)state;
    struct raft_config now, next, joint;
    voters_up_to(3, &now);
    voters_up_to(4, &next);
    assert_true(raft_config_join(&now, &next, &joint));
    struct bench *b = bench_new_in(&joint, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 4);
    apply_all(b);
    go_to_sleep(b);
    assert_int_equal(b->now_count, 0);
}

static void one_that_disagrees_keeps_everybody_awake(void **state)
{
    (void)state;
    struct bench *b = idle_leader();
    go_to_sleep(b);
    agree(b, 2, 1);
    answer_beat(b, 3, 1, 1); /* no */
    assert_false(raft_is_quiet(b->raft));
    assert_non_null(sent_to(b, RAFT_BEAT, 2));
    assert_false(sent_to(b, RAFT_BEAT, 2)->quiet); /* who agreed is woken */
    agree(b, 3, 1);
    assert_false(raft_is_quiet(b->raft));
}

/* It may not know that it has everything: it is shown, and asked once more. */
static void one_that_disagrees_is_shown_the_end_of_the_log(void **state)
{
    (void)state;
    struct bench *b = idle_leader();
    go_to_sleep(b);
    agree(b, 2, 1);
    answer_beat(b, 3, 1, 1); /* no */
    assert_null(sent_to(b, RAFT_APPEND, 2));
    const struct raft_message *m = sent_to(b, RAFT_APPEND, 3);
    assert_non_null(m);
    assert_int_equal(m->index, 1);
    assert_int_equal(m->count, 0);
    bench_free(NULL);

    b = idle_follower();
    tick(b, 2 * ELECTION_MS); /* it asks around, and hears from its leader again */
    quiet_beat(b, 1, 1, 1, 4);
    assert_false(raft_is_quiet(b->raft));
    append(b, 2, 1, 1, 1, 0, 0, 1);
    quiet_beat(b, 1, 1, 1, 5);
    assert_true(raft_is_quiet(b->raft));
}

static void late_word_of_damage_ends_it(void **state)
{
    (void)state;
    struct bench *b = idle_leader();
    go_to_sleep(b);
    agree(b, 2, 1);
    receive(b, (struct raft_message){.type = RAFT_BEAT_REPLY, .from = 3, .term = 1, .damaged = true, .damage = 5});
    agree(b, 3, 1);
    assert_false(raft_is_quiet(b->raft));
}

static void learner_is_asked_too(void **state)
{
    (void)state;
    struct raft_config config;
    voters_up_to(3, &config);
    config.members[config.count++] = (struct raft_member){4, RAFT_LEARNER, RAFT_LEARNER};
    struct bench *b = bench_new_in(&config, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 4);
    apply_all(b);
    go_to_sleep(b);
    agree(b, 2, 1);
    agree(b, 3, 1);
    assert_false(raft_is_quiet(b->raft));
    agree(b, 4, 1);
    assert_true(raft_is_quiet(b->raft));
}

static void whatever_there_is_to_do_wakes_a_leader_and_its_followers(void **state)
{
    (void)state;
    struct raft_config same;
    voters_up_to(3, &same);
    const struct raft_message request = {
        .type = RAFT_VOTE_REQUEST, .from = 2, .to = 1, .term = 2, .pre = true, .index = 1, .index_term = 1};
    const struct raft_event events[] = {
        {.type = RAFT_SUBMIT, .submit = {.count = 1, .bytes = 1}},
        {.type = RAFT_CHANGE, .change = {.config = &same, .bytes = 1}},
        {.type = RAFT_TRANSFER, .peer = 2},
        {.type = RAFT_READ},
        {.type = RAFT_WAKE},
        {.type = RAFT_UNREACHABLE, .peer = 3},
        {.type = RAFT_RECV, .message = &request},
    };
    for (uint32_t i = 0; i < sizeof events / sizeof *events; i++) {
        struct bench *b = quiet_leader();
        b->now_ms += 10 * ELECTION_MS;
        step(b, events[i]);
        assert_false(raft_is_quiet(b->raft));
        assert_int_equal(sent_count(b, RAFT_BEAT), 2);
        assert_false(sent_to(b, RAFT_BEAT, 2)->quiet);
        assert_true(raft_next_tick_ms(b->raft) <= b->now_ms);
        tick(b, 1); /* nobody was to be heard while all were quiet: that is no reason to step down */
        assert_int_equal(raft_role(b->raft), RAFT_LEADER);
        bench_free(NULL);
    }
}

/* They need not agree all within one election timeout; that they did counts for the quorum when it wakes. */
static void leader_that_wakes_has_its_quorum(void **state)
{
    (void)state;
    struct bench *b = bench_new(5, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 5);
    apply_all(b);
    tick(b, 1);
    go_to_sleep(b);
    uint64_t round = raft_read_round(b->raft);
    agree(b, 2, round);
    agree(b, 3, round);
    agree(b, 4, round);
    tick(b, ELECTION_MS);
    tick(b, ELECTION_MS / 2);
    agree(b, 5, round);
    assert_true(raft_is_quiet(b->raft));
    tick(b, 10 * ELECTION_MS);
    step(b, (struct raft_event){.type = RAFT_WAKE});
    tick(b, 1);
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    tick(b, ELECTION_MS); /* and has to hear from it from then on */
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
}

static void agreement_does_not_wake(void **state)
{
    (void)state;
    struct bench *b = quiet_leader();
    agree(b, 2, 1); /* repeated */
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 1});
    assert_true(raft_is_quiet(b->raft));
    assert_int_equal(b->now_count, 0);
}

static void single_voter_is_quiet_by_itself(void **state)
{
    (void)state;
    struct bench *b = bench_new(1, &(struct raft_options){0});
    tick(b, 1);
    persist(b, b->write_id);
    go_to_sleep(b);
    assert_false(raft_is_quiet(b->raft)); /* its LEADER entry is to come */
    submit(b, 1, 10);
    persist(b, b->write_id);
    go_to_sleep(b);
    assert_false(raft_is_quiet(b->raft));
    apply_all(b);
    go_to_sleep(b);
    assert_true(raft_is_quiet(b->raft));
    submit(b, 1, 10);
    assert_false(raft_is_quiet(b->raft));
}

/* ---- the follower ---- */

static void follower_agrees_if_it_has_all_and_all_is_applied(void **state)
{
    (void)state;
    struct bench *b = idle_follower();
    quiet_beat(b, 1, 1, 1, 4);
    assert_true(raft_is_quiet(b->raft));
    assert_true(b->now[0].quiet);
    assert_int_equal(b->now[0].round, 4);
    assert_int_equal(raft_next_tick_ms(b->raft), UINT64_MAX);
    tick(b, 100 * ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    quiet_beat(b, 1, 1, 1, 4); /* repeated */
    assert_true(raft_is_quiet(b->raft) && b->now[0].quiet);
}

static void expect_no(struct bench *b)
{
    assert_false(raft_is_quiet(b->raft));
    const struct raft_message *m = b->now_count > 0 ? &b->now[0] : &b->after[0];
    assert_int_equal(m->type, RAFT_BEAT_REPLY);
    assert_false(m->quiet);
    assert_true(raft_next_tick_ms(b->raft) <= b->now_ms + HEARTBEAT_MS);
}

static void follower_that_differs_does_not_agree(void **state)
{
    (void)state;
    struct bench *b = idle_follower();
    quiet_beat(b, 1, 2, 1, 1); /* lacks an entry */
    expect_no(b);
    append(b, 2, 1, 1, 1, 1, 1, 1);
    quiet_beat(b, 1, 1, 1, 1); /* has one more */
    expect_no(b);
    quiet_beat(b, 1, 2, 1, 1); /* not durable, not applied */
    expect_no(b);
    persist(b, b->write_id);
    quiet_beat(b, 1, 2, 1, 1); /* not applied */
    expect_no(b);
    apply_all(b);
    quiet_beat(b, 2, 2, 1, 1); /* of a new leadership that has shown nothing */
    expect_no(b);
    persist(b, b->write_id);
    quiet_beat(b, 2, 2, 1, 1);
    expect_no(b);
    append(b, 2, 2, 2, 1, 0, 0, 2);
    quiet_beat(b, 2, 2, 1, 1);
    assert_true(raft_is_quiet(b->raft));
    bench_free(NULL);

    b = idle_follower();
    step(b, (struct raft_event){.type = RAFT_DAMAGED});
    quiet_beat(b, 1, 1, 1, 1);
    assert_false(raft_is_quiet(b->raft));
}

static void ask_for_a_vote(struct bench *b, bool pre, bool force)
{
    receive(
        b,
        (struct raft_message){
            .type = RAFT_VOTE_REQUEST, .from = 3, .term = 2, .index = 1, .index_term = 1, .pre = pre, .force = force});
}

/* The leader may only be quiet: it is asked as well, and has its say first. */
static void request_for_a_vote_wakes_and_is_refused_once(void **state)
{
    (void)state;
    struct bench *b = quiet_follower();
    ask_for_a_vote(b, true, false);
    assert_false(raft_is_quiet(b->raft));
    assert_true(b->after[0].reject);
    assert_true(raft_next_tick_ms(b->raft) <= b->now_ms + HEARTBEAT_MS);
    ask_for_a_vote(b, true, false);
    assert_false(b->after[0].reject);
    bench_free(NULL);

    b = quiet_follower();
    ask_for_a_vote(b, false, false);
    assert_false(raft_is_quiet(b->raft));
    assert_int_equal(raft_term(b->raft), 1);
    assert_int_equal(raft_vote(b->raft), 0);
    ask_for_a_vote(b, false, false);
    assert_int_equal(raft_vote(b->raft), 3);
    bench_free(NULL);

    b = quiet_follower();
    ask_for_a_vote(b, false, true);
    assert_int_equal(raft_vote(b->raft), 3);
}

static void other_messages_and_the_owner_wake_a_follower(void **state)
{
    (void)state;
    struct bench *b = quiet_follower();
    beat(b, 2, 1, 1);
    assert_false(raft_is_quiet(b->raft));
    bench_free(NULL);
    b = quiet_follower();
    append(b, 2, 1, 1, 1, 1, 1, 1);
    assert_false(raft_is_quiet(b->raft));
    bench_free(NULL);
    b = quiet_follower();
    quiet_beat(b, 1, 2, 1, 5); /* there is more than we have */
    expect_no(b);
    bench_free(NULL);

    const struct raft_event events[] = {
        {.type = RAFT_WAKE}, {.type = RAFT_DAMAGED}, {.type = RAFT_UNREACHABLE, .peer = 2}};
    for (int i = 0; i < 3; i++) {
        b = quiet_follower();
        step(b, events[i]);
        assert_false(raft_is_quiet(b->raft));
        bench_free(NULL);
    }
    b = quiet_follower();
    step(b, (struct raft_event){.type = RAFT_WAKE});
    tick(b, 5 * ELECTION_MS); /* its timer starts here */
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    tick(b, 2 * ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAFT_TEST(leader_sleeps_when_everybody_agreed_in_this_round),
        RAFT_TEST(leader_says_who_has_agreed),
        RAFT_TEST(leader_with_something_to_do_does_not_begin),
        RAFT_TEST(joint_configuration_is_to_be_left_first),
        RAFT_TEST(one_that_disagrees_keeps_everybody_awake),
        RAFT_TEST(one_that_disagrees_is_shown_the_end_of_the_log),
        RAFT_TEST(late_word_of_damage_ends_it),
        RAFT_TEST(learner_is_asked_too),
        RAFT_TEST(whatever_there_is_to_do_wakes_a_leader_and_its_followers),
        RAFT_TEST(leader_that_wakes_has_its_quorum),
        RAFT_TEST(agreement_does_not_wake),
        RAFT_TEST(single_voter_is_quiet_by_itself),
        RAFT_TEST(follower_agrees_if_it_has_all_and_all_is_applied),
        RAFT_TEST(follower_that_differs_does_not_agree),
        RAFT_TEST(request_for_a_vote_wakes_and_is_refused_once),
        RAFT_TEST(other_messages_and_the_owner_wake_a_follower),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
