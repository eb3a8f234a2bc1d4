/* Changes of the group by its leader: what may come next, what a joint configuration needs, how somebody leaves. */
#include "raft_bench.h"

static struct raft_config voters(const char *ids)
{
    struct raft_config config;
    uint64_t list[RAFT_VOTERS_MAX];
    uint32_t count = 0;
    for (; ids[count] != 0; count++) {
        list[count] = (uint64_t)(ids[count] - '0');
    }
    raft_config_of_voters(list, count, &config);
    return config;
}

static struct raft_config with_learner(struct raft_config config, uint64_t id)
{
    config.members[config.count++] = (struct raft_member){id, RAFT_LEARNER, RAFT_LEARNER};
    return config;
}

static struct raft_config joint_of(const struct raft_config *now, const struct raft_config *next)
{
    struct raft_config joint;
    assert_true(raft_config_join(now, next, &joint));
    return joint;
}

static void change(struct bench *b, const struct raft_config *config)
{
    assert_int_equal(raft_may_change(b->raft, config), RAFT_CHANGE_OK);
    step(b, (struct raft_event){.type = RAFT_CHANGE, .change = {.config = config, .bytes = 100}});
}

static void leave(struct bench *b)
{
    struct raft_config left;
    assert_true(b->leave_due);
    raft_config_leave(raft_config(b->raft, &(uint64_t){0}), &left);
    step(b, (struct raft_event){.type = RAFT_CHANGE, .change = {.config = &left, .bytes = 100}});
}

/* The leader of term 1 of voters 1 .. n, with its LEADER entry committed. */
static struct bench *leader_of(uint32_t n)
{
    struct bench *b = bench_new(n, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, n);
    return b;
}

static struct raft_peer_state peer(const struct bench *b, uint64_t id)
{
    struct raft_peer_state state;
    assert_true(raft_peer_state(b->raft, id, &state));
    return state;
}

static bool is_peer(const struct bench *b, uint64_t id)
{
    struct raft_peer_state state;
    return raft_peer_state(b->raft, id, &state);
}

/* ---- what may come next ---- */

/* Ongaro's bug report of 2015. */
static void nothing_changes_before_an_own_entry_is_committed(void **state)
{
    (void)state;
    struct raft_config next = with_learner(voters("123"), 4);
    struct bench *b = bench_new(3, &(struct raft_options){0});
    assert_int_equal(raft_may_change(b->raft, &next), RAFT_CHANGE_NOT_LEADER);
    lead(b);
    submit(b, 1, 10);
    assert_int_equal(raft_may_change(b->raft, &next), RAFT_CHANGE_NOT_READY);
    commit_on(b, 2);
    assert_int_equal(raft_may_change(b->raft, &next), RAFT_CHANGE_OK);
}

static void one_change_at_a_time(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    struct raft_config one = with_learner(voters("123"), 4);
    struct raft_config two = with_learner(one, 5);
    change(b, &one);
    assert_true(b->config_changed);
    assert_int_equal(b->write.last, 2);
    assert_true(is_peer(b, 4));
    assert_int_equal(raft_may_change(b->raft, &two), RAFT_CHANGE_PENDING);
    commit_on(b, 2);
    assert_int_equal(raft_may_change(b->raft, &two), RAFT_CHANGE_OK);
}

static void only_what_joins_the_present_may_come(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    struct raft_config present = voters("123");
    struct raft_config fewer = voters("12");
    assert_int_equal(raft_may_change(b->raft, &fewer), RAFT_CHANGE_SENSELESS); /* one voter less, and not joint */
    struct raft_config joint = joint_of(&present, &fewer);
    assert_int_equal(raft_may_change(b->raft, &joint), RAFT_CHANGE_OK);
    struct raft_config others = voters("145");
    joint = joint_of(&others, &fewer); /* on the way from somewhere else */
    assert_int_equal(raft_may_change(b->raft, &joint), RAFT_CHANGE_SENSELESS);
    struct raft_config nobody = {0};
    assert_int_equal(raft_may_change(b->raft, &nobody), RAFT_CHANGE_SENSELESS);
}

static void log_full_of_configurations_takes_no_more(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    struct raft_config with = with_learner(voters("123"), 4);
    struct raft_config without = voters("123");
    for (uint32_t i = 1; i < RAFT_CONFIGS_MAX; i++) {
        change(b, i % 2 == 1 ? &with : &without);
        commit_on(b, 3);
    }
    assert_int_equal(raft_may_change(b->raft, &without), RAFT_CHANGE_CROWDED);
    apply_all(b);
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 3});
    assert_int_equal(raft_may_change(b->raft, &without), RAFT_CHANGE_OK);
}

static void too_many_members_are_refused(void **state)
{
    (void)state;
    struct raft_config before = voters("1234567");
    for (uint64_t i = 0; i < RAFT_MEMBERS_MAX - 7; i++) {
        before = with_learner(before, 11 + i);
    }
    struct bench *b = bench_new_in(&before, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 7);
    struct raft_config others = voters("1289");
    assert_int_equal(raft_may_change(b->raft, &others), RAFT_CHANGE_CROWDED);
}

static void joint_configuration_needs_room_for_its_end(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    struct raft_config with = with_learner(voters("123"), 4);
    struct raft_config without = voters("123");
    for (uint32_t i = 2; i < RAFT_CONFIGS_MAX; i++) {
        change(b, i % 2 == 0 ? &with : &without);
        commit_on(b, 3);
    }
    struct raft_config present = *raft_config(b->raft, &(uint64_t){0});
    struct raft_config fewer = voters("12");
    struct raft_config joint = joint_of(&present, &fewer);
    assert_int_equal(raft_may_change(b->raft, &joint), RAFT_CHANGE_CROWDED);
    assert_int_equal(raft_may_change(b->raft, &without), RAFT_CHANGE_OK);
}

static void learner_votes_only_when_it_is_nearly_as_far(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    struct raft_config present = with_learner(voters("123"), 4);
    struct raft_config next = voters("1234");
    struct raft_config plain = voters("123");
    struct raft_config direct = joint_of(&plain, &next);
    assert_int_equal(raft_may_change(b->raft, &direct), RAFT_CHANGE_BEHIND); /* nobody knows it yet */
    change(b, &present);
    submit(b, RAFT_LAG_ENTRIES_MAX, 1000);
    commit_on(b, 3);
    struct raft_config joint = joint_of(&present, &next);
    ack(b, 4, 1);
    assert_int_equal(raft_may_change(b->raft, &joint), RAFT_CHANGE_BEHIND);
    receive(b, (struct raft_message){.type = RAFT_APPEND_REPLY, .from = 4, .term = 1, .index = 2, .damaged = true});
    assert_int_equal(raft_may_change(b->raft, &joint), RAFT_CHANGE_BEHIND); /* far enough, but damaged */
    bench_free(NULL);

    b = leader_of(3);
    change(b, &present);
    submit(b, RAFT_LAG_ENTRIES_MAX, 1000);
    commit_on(b, 3);
    ack(b, 4, 2);
    assert_int_equal(raft_may_change(b->raft, &joint), RAFT_CHANGE_OK);
}

/* However short the log is: who was not heard of may be nowhere, and whoever waits for a snapshot has nothing yet. With
 * their votes needed, nothing would commit until they come. */
static void learner_that_has_nothing_gets_no_vote(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    struct raft_config present = with_learner(voters("123"), 4), next = voters("1234");
    struct raft_config joint = joint_of(&present, &next);
    apply_all(b);
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 1});
    change(b, &present);
    commit_on(b, 3);
    assert_int_equal(raft_may_change(b->raft, &joint), RAFT_CHANGE_BEHIND);
    refuse(b, 4, 2, 0, 1); /* its log is empty, and entry 1 has left ours */
    assert_true(peer(b, 4).in_snapshot);
    assert_int_equal(raft_may_change(b->raft, &joint), RAFT_CHANGE_BEHIND);
    step(b, (struct raft_event){.type = RAFT_SNAPSHOT_DONE, .snapshot = {.peer = 4, .index = 1, .ok = true}});
    ack(b, 4, 2);
    assert_int_equal(raft_may_change(b->raft, &joint), RAFT_CHANGE_OK);
}

/* ---- learners ---- */

static void learner_counts_for_nothing(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    struct raft_config next = with_learner(voters("123"), 4);
    change(b, &next);
    commit_on(b, 2);
    submit(b, 1, 10);
    persist(b, b->write_id);
    ack(b, 4, 3);
    assert_int_equal(b->commit, 2);                           /* us and the learner */
    for (int i = 0; raft_role(b->raft) == RAFT_LEADER; i++) { /* nor for the quorum */
        assert_in_range(i, 0, 3 * ELECTION_MS / HEARTBEAT_MS);
        tick(b, HEARTBEAT_MS);
        answer_beat(b, 4, 0, 0);
    }
    while (raft_role(b->raft) != RAFT_PRE_CANDIDATE) {
        tick(b, ELECTION_MS);
    }
    assert_int_equal(b->after_count, 2); /* nor is it asked for votes */
    pre_grant(b, 4, 2);
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
}

/* ---- joint ---- */

static void joint_configuration_commits_by_both_majorities_and_is_left_then(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    struct raft_config one = with_learner(with_learner(voters("123"), 4), 5);
    change(b, &one);
    commit_on(b, 3);
    ack(b, 4, 2);
    ack(b, 5, 2);
    struct raft_config next = voters("145");
    struct raft_config joint = joint_of(&one, &next);
    change(b, &joint);
    assert_false(b->leave_due);
    persist(b, b->write_id);
    ack(b, 4, 3);
    ack(b, 5, 3);
    assert_int_equal(b->commit, 2); /* all of the next half, one of the present one */
    assert_false(b->leave_due);
    ack(b, 2, 3);
    assert_int_equal(b->commit, 3);
    assert_true(b->leave_due);
    submit(b, 1, 10); /* said again until it is done */
    assert_true(b->leave_due);
    leave(b);
    assert_false(b->leave_due);
    assert_int_equal(raft_config(b->raft, &(uint64_t){0})->count, 3);
    persist(b, b->write_id);
    ack(b, 4, 5);
    assert_int_equal(b->commit, 5); /* by the new voters alone */
}

static void new_leader_leaves_the_joint_configuration_it_found(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 5}};
    struct raft_config now = voters("123");
    struct raft_config next = voters("124");
    struct raft_config_entry configs[2] = {{.index = 0, .config = now}, {.index = 4, .config = joint_of(&now, &next)}};
    struct raft_options options = {
        .term = 1, .runs = runs, .runs_count = 1, .configs = configs, .configs_count = 2, .applied_index = 4};
    struct bench *b = bench_new(3, &options);
    lead(b);
    submit(b, 1, 10);
    persist(b, b->write_id);
    ack(b, 2, 5);
    assert_false(b->leave_due);
    ack(b, 2, 6);
    assert_int_equal(b->commit, 6);
    assert_true(b->leave_due);
    leave(b);
}

/* The message that holds a configuration ends with it. */
static void append_ends_with_its_configuration(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    struct raft_config one = with_learner(voters("123"), 4);
    submit(b, 3, 30);
    change(b, &one); /* entry 5 */
    submit(b, 3, 30);
    commit_on(b, 2);
    refuse(b, 4, 5, 0, 1);
    const struct raft_message *m = sent_to(b, RAFT_APPEND, 4);
    assert_int_equal(m->index, 0);
    assert_int_equal(m->count, 5);
    assert_true(m->has_config);
    assert_int_equal(m->config.count, 4);
    ack(b, 4, 5);
    m = sent_to(b, RAFT_APPEND, 4);
    assert_int_equal(m->index, 5);
    assert_int_equal(m->count, 3);
    assert_false(m->has_config);
}

/* ---- who leaves ---- */

/* 1, 2 and 3, of which 3 leaves: entry 2 is joint, entry 3 without it. */
static struct bench *leader_without_3(void)
{
    struct bench *b = leader_of(3);
    struct raft_config now = voters("123");
    struct raft_config next = voters("12");
    struct raft_config joint = joint_of(&now, &next);
    change(b, &joint);
    persist(b, b->write_id);
    ack(b, 2, 2);
    leave(b);
    persist(b, b->write_id);
    return b;
}

static void leaver_is_told_before_it_is_dropped(void **state)
{
    (void)state;
    struct bench *b = leader_without_3();
    assert_true(peer(b, 3).leaving);
    ack(b, 3, 3);
    assert_int_equal(b->commit, 2); /* it does not count any more */
    assert_true(is_peer(b, 3));
    ack(b, 2, 3);
    assert_int_equal(b->commit, 3);
    assert_true(is_peer(b, 3)); /* it holds the entry, but does not know that it is committed */
    tick(b, HEARTBEAT_MS);
    assert_int_equal(sent_to(b, RAFT_BEAT, 3)->commit, 3);
    answer_beat(b, 3, 2, 0); /* to an earlier one */
    assert_true(is_peer(b, 3));
    answer_beat(b, 3, 3, 0);
    assert_false(is_peer(b, 3));
    answer_beat(b, 3, 3, 0); /* nobody knows it any more */
    tick(b, HEARTBEAT_MS);
    assert_null(sent_to(b, RAFT_BEAT, 3));
}

static void leaver_may_say_that_it_knows_with_an_append(void **state)
{
    (void)state;
    struct bench *b = leader_without_3();
    ack(b, 2, 3);
    receive(b, (struct raft_message){.type = RAFT_APPEND_REPLY, .from = 3, .term = 1, .index = 3, .commit = 3});
    assert_false(is_peer(b, 3));
}

static void leaver_gets_no_snapshot(void **state)
{
    (void)state;
    struct bench *b = leader_without_3();
    ack(b, 2, 3);
    apply_all(b);
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 3});
    step(b, (struct raft_event){.type = RAFT_UNREACHABLE, .peer = 3});
    assert_true(peer(b, 3).in_snapshot);
    assert_int_equal(b->snapshots_count, 0);
    tick(b, HEARTBEAT_MS);
    assert_int_equal(b->snapshots_count, 0);
}

static void new_members_take_the_places_of_leavers(void **state)
{
    (void)state;
    struct raft_config seven = voters("1234567");
    struct raft_config before = seven;
    struct raft_config after = seven;
    for (uint64_t i = 0; i < RAFT_MEMBERS_MAX - 7; i++) {
        before = with_learner(before, 11 + i);
        after = with_learner(after, 21 + i);
    }
    struct bench *b = bench_new_in(&before, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 7);
    change(b, &seven);
    commit_on(b, 7);
    assert_true(peer(b, 11).leaving && peer(b, 17).leaving);
    change(b, &after); /* 13 others: room for one leaver more */
    for (uint64_t i = 0; i < 7; i++) {
        assert_false(peer(b, 21 + i).leaving);
        assert_int_equal(is_peer(b, 11 + i), i == 6);
    }
}

/* Nobody answers any more, and nobody has to. */
static void leaver_of_the_last_voter_is_dropped_by_time_alone(void **state)
{
    (void)state;
    struct bench *b = leader_of(2);
    struct raft_config now = voters("12");
    struct raft_config next = voters("1");
    struct raft_config joint = joint_of(&now, &next);
    change(b, &joint);
    commit_on(b, 2);
    leave(b);
    persist(b, b->write_id);
    assert_int_equal(b->commit, 3);
    for (uint32_t i = 0; is_peer(b, 2); i++) {
        assert_in_range(i, 0, 2 * RAFT_LEAVER_TIMEOUTS * ELECTION_MS / HEARTBEAT_MS);
        tick(b, HEARTBEAT_MS);
    }
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    assert_int_equal(raft_next_tick_ms(b->raft), UINT64_MAX);
}

static void leaver_that_is_silent_is_dropped_in_the_end(void **state)
{
    (void)state;
    struct bench *b = leader_without_3();
    ack(b, 2, 3);
    uint32_t beats = 0;
    for (; is_peer(b, 3); beats++) {
        assert_in_range(beats, 0, 2 * RAFT_LEAVER_TIMEOUTS * ELECTION_MS / HEARTBEAT_MS);
        tick(b, HEARTBEAT_MS);
        answer_beat(b, 2, 3, 0);
    }
    assert_in_range(beats, RAFT_LEAVER_TIMEOUTS * ELECTION_MS / HEARTBEAT_MS - 1, UINT32_MAX);
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
}

static void removed_leader_commits_without_itself_and_hands_over(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    struct raft_config now = voters("123");
    struct raft_config next = voters("23");
    struct raft_config joint = joint_of(&now, &next);
    change(b, &joint);
    persist(b, b->write_id);
    ack(b, 2, 2);
    assert_int_equal(b->commit, 1); /* of the next half that is one of two */
    ack(b, 3, 2);
    assert_int_equal(b->commit, 2);
    leave(b);
    persist(b, b->write_id);
    ack(b, 3, 3);
    assert_int_equal(b->commit, 2);
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    submit(b, 1, 10); /* it goes on until then */
    ack(b, 3, 4);
    assert_int_equal(b->commit, 2);
    ack(b, 2, 3);
    assert_int_equal(b->commit, 3);
    assert_int_equal(sent_count(b, RAFT_TIMEOUT_NOW), 1);
    assert_non_null(sent_to(b, RAFT_TIMEOUT_NOW, 3)); /* it has most */
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    assert_int_equal(raft_leader(b->raft), 0);
    tick(b, 1);
    assert_int_equal(raft_next_tick_ms(b->raft), UINT64_MAX); /* no member: no campaign */
}

static void leaver_that_comes_back_counts_again(void **state)
{
    (void)state;
    struct bench *b = leader_without_3();
    ack(b, 2, 3);
    struct raft_config back = with_learner(voters("12"), 3);
    change(b, &back);
    assert_false(peer(b, 3).leaving);
    ack(b, 3, 4);
    answer_beat(b, 3, 4, 0);
    assert_true(is_peer(b, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAFT_TEST(nothing_changes_before_an_own_entry_is_committed),
        RAFT_TEST(one_change_at_a_time),
        RAFT_TEST(only_what_joins_the_present_may_come),
        RAFT_TEST(log_full_of_configurations_takes_no_more),
        RAFT_TEST(too_many_members_are_refused),
        RAFT_TEST(joint_configuration_needs_room_for_its_end),
        RAFT_TEST(learner_votes_only_when_it_is_nearly_as_far),
        RAFT_TEST(learner_that_has_nothing_gets_no_vote),
        RAFT_TEST(learner_counts_for_nothing),
        RAFT_TEST(joint_configuration_commits_by_both_majorities_and_is_left_then),
        RAFT_TEST(new_leader_leaves_the_joint_configuration_it_found),
        RAFT_TEST(append_ends_with_its_configuration),
        RAFT_TEST(leaver_is_told_before_it_is_dropped),
        RAFT_TEST(leaver_may_say_that_it_knows_with_an_append),
        RAFT_TEST(leaver_gets_no_snapshot),
        RAFT_TEST(leaver_of_the_last_voter_is_dropped_by_time_alone),
        RAFT_TEST(new_members_take_the_places_of_leavers),
        RAFT_TEST(leaver_that_is_silent_is_dropped_in_the_end),
        RAFT_TEST(removed_leader_commits_without_itself_and_hands_over),
        RAFT_TEST(leaver_that_comes_back_counts_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
