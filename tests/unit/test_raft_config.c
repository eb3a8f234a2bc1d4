/* Configurations: how one follows another, majorities of both halves, and their history in a log. */
#include "raft/config.h"
#include "raft_bench.h"

static struct raft_config of(uint32_t count, const struct raft_member *members)
{
    struct raft_config config = {.count = count};
    memcpy(config.members, members, count * sizeof *members);
    return config;
}

static void voters_stand_in_order(void **state)
{
    (void)state;
    struct raft_config config;
    raft_config_of_voters((uint64_t[]){9, 2, 5}, 3, &config);
    assert_int_equal(config.count, 3);
    assert_int_equal(config.members[0].replica, 2);
    assert_int_equal(config.members[1].replica, 5);
    assert_int_equal(config.members[2].replica, 9);
    assert_false(raft_config_is_joint(&config));
    assert_true(raft_config_is_sane(&config));
}

static void sets_of_voters_change_through_a_joint_configuration(void **state)
{
    (void)state;
    struct raft_config now, next, joint, left;
    raft_config_of_voters((uint64_t[]){1, 2, 3}, 3, &now);
    raft_config_of_voters((uint64_t[]){3, 4}, 2, &next);
    assert_true(raft_config_join(&now, &next, &joint));
    const struct raft_member expected[] = {{1, RAFT_VOTER, RAFT_ABSENT},
                                           {2, RAFT_VOTER, RAFT_ABSENT},
                                           {3, RAFT_VOTER, RAFT_VOTER},
                                           {4, RAFT_ABSENT, RAFT_VOTER}};
    struct raft_config wanted = of(4, expected);
    assert_true(config__equal(&joint, &wanted));
    assert_true(raft_config_is_joint(&joint));
    assert_true(raft_config_is_sane(&joint));
    raft_config_leave(&joint, &left);
    assert_true(config__equal(&left, &next));
}

static void learners_come_and_go_without_one(void **state)
{
    (void)state;
    struct raft_config now, joint;
    raft_config_of_voters((uint64_t[]){1, 2, 3}, 3, &now);
    struct raft_config next = now;
    next.members[next.count++] = (struct raft_member){7, RAFT_LEARNER, RAFT_LEARNER};
    assert_true(raft_config_join(&now, &next, &joint));
    assert_true(config__equal(&joint, &next));
    assert_true(raft_config_join(&next, &now, &joint));
    assert_true(config__equal(&joint, &now));
    next.members[3].now = next.members[3].next = RAFT_VOTER; /* a voter more: that needs one */
    assert_true(raft_config_join(&now, &next, &joint));
    assert_true(raft_config_is_joint(&joint));
    assert_int_equal(joint.members[3].now, RAFT_ABSENT);
    next.members[0].now = next.members[0].next = RAFT_LEARNER; /* and a voter less too */
    assert_true(raft_config_join(&now, &next, &joint));
    assert_int_equal(joint.members[0].now, RAFT_VOTER);
    assert_int_equal(joint.members[0].next, RAFT_LEARNER);
}

static void too_many_members_join_nothing(void **state)
{
    (void)state;
    struct raft_config now, next, joint;
    raft_config_of_voters((uint64_t[]){1, 2, 3, 4, 5, 6, 7}, 7, &now);
    raft_config_of_voters((uint64_t[]){11, 12, 13, 14, 15, 16, 17}, 7, &next);
    assert_true(raft_config_join(&now, &next, &joint));
    assert_int_equal(joint.count, RAFT_MEMBERS_MAX);
    now.members[now.count++] = (struct raft_member){8, RAFT_LEARNER, RAFT_LEARNER};
    assert_false(raft_config_join(&now, &next, &joint));
}

static void insane_configurations_are_told(void **state)
{
    (void)state;
    const struct raft_config insane[] = {
        {0},
        {RAFT_MEMBERS_MAX + 1, {{1, RAFT_VOTER, RAFT_VOTER}}},
        {1, {{0, RAFT_VOTER, RAFT_VOTER}}},
        {1, {{1, RAFT_LEARNER, RAFT_LEARNER}}},
        {1, {{1, RAFT_VOTER, RAFT_ABSENT}}},
        {2, {{1, RAFT_VOTER, RAFT_VOTER}, {1, RAFT_VOTER, RAFT_VOTER}}},
        {2, {{2, RAFT_VOTER, RAFT_VOTER}, {1, RAFT_VOTER, RAFT_VOTER}}},
        {2, {{1, RAFT_VOTER, RAFT_VOTER}, {2, RAFT_ABSENT, RAFT_ABSENT}}},
        {2, {{1, RAFT_VOTER, RAFT_VOTER}, {2, 3, RAFT_VOTER}}},
    };
    for (uint32_t i = 0; i < sizeof insane / sizeof *insane; i++) {
        assert_false(raft_config_is_sane(&insane[i]));
    }
    struct raft_config crowd = {.count = RAFT_VOTERS_MAX + 1};
    for (uint32_t i = 0; i < crowd.count; i++) {
        crowd.members[i] = (struct raft_member){i + 1, RAFT_VOTER, RAFT_VOTER};
    }
    assert_false(raft_config_is_sane(&crowd));
}

static void both_halves_need_a_majority(void **state)
{
    (void)state;
    const struct raft_member members[] = {{1, RAFT_VOTER, RAFT_ABSENT},  {2, RAFT_VOTER, RAFT_ABSENT},
                                          {3, RAFT_VOTER, RAFT_VOTER},   {4, RAFT_ABSENT, RAFT_VOTER},
                                          {5, RAFT_LEARNER, RAFT_VOTER}, {6, RAFT_LEARNER, RAFT_LEARNER},
                                          {7, RAFT_VOTER, RAFT_LEARNER}};
    struct raft_config joint = of(7, members); /* now: 1 2 3 7, next: 3 4 5 */
    const struct {
        uint32_t mask;
        bool majority;
    } cases[] = {{0x7f, true}, {0x0f, true},  {0x07, false}, {0x1c, false}, {0x0d, false},
                 {0x4d, true}, {0x4b, false}, {0x68, false}, {0, false}};
    for (uint32_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(config__majority_of(&joint, cases[i].mask), cases[i].majority);
    }
    /* now: 10 20 5 40 -> 10; next: 5 7 9 -> 7 */
    const uint64_t values[] = {10, 20, 5, 7, 9, 99, 40};
    assert_int_equal(config__reached(&joint, values), 7);
    const uint64_t others[] = {1, 2, 50, 50, 50, 99, 3};
    assert_int_equal(config__reached(&joint, others), 2); /* of 50 3 2 1, three have 2 */
}

/* ---- in a log ---- */

/* An append with a configuration at its end. */
static void append_config(struct bench *b, uint64_t term, uint64_t index, uint64_t index_term, uint64_t count,
                          const struct raft_config *config)
{
    receive(b, (struct raft_message){.type = RAFT_APPEND,
                                     .from = 2,
                                     .term = term,
                                     .index = index,
                                     .index_term = index_term,
                                     .count = count,
                                     .runs_count = 1,
                                     .runs = {{term, count}},
                                     .has_config = true,
                                     .config = *config});
}

static uint64_t config_index(const struct bench *b)
{
    uint64_t index = 0;
    raft_config(b->raft, &index);
    return index;
}

static void configuration_takes_effect_when_appended_and_is_undone_when_cut(void **state)
{
    (void)state;
    struct raft_config now, next, joint;
    voters_up_to(3, &now);
    voters_up_to(5, &next);
    assert_true(raft_config_join(&now, &next, &joint));
    struct bench *b = bench_new(3, &(struct raft_options){0});
    append_config(b, 1, 0, 0, 4, &joint);
    assert_true(b->config_changed);
    assert_int_equal(config_index(b), 4);
    assert_true(raft_config_is_joint(raft_config(b->raft, &(uint64_t){0})));
    append_config(b, 1, 0, 0, 4, &joint); /* repeated */
    assert_false(b->config_changed);
    append_config(b, 1, 4, 1, 2, &next);
    assert_int_equal(config_index(b), 6);
    append(b, 3, 2, 5, 1, 1, 2, 0); /* 6 is another entry with the next leader */
    assert_true(b->config_changed);
    assert_int_equal(config_index(b), 4);
    append(b, 3, 3, 0, 0, 1, 3, 0);
    assert_int_equal(config_index(b), 0);
    assert_int_equal(raft_config(b->raft, &(uint64_t){0})->count, 3);
    tick(b, 1);
    campaign(b); /* by the old one: two of three */
    assert_int_equal(b->after_count, 2);
}

static void follower_takes_no_more_configurations_than_it_can_undo(void **state)
{
    (void)state;
    struct raft_config config;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    for (uint64_t i = 1; i < RAFT_CONFIGS_MAX; i++) {
        voters_up_to(3 + i % 2, &config);
        append_config(b, 1, i - 1, i > 1, 1, &config);
        expect_answer(b, RAFT_APPEND_REPLY, false, i);
    }
    append_config(b, 1, RAFT_CONFIGS_MAX - 1, 1, 1, &config); /* no room: not taken, not acknowledged */
    expect_answer(b, RAFT_APPEND_REPLY, false, RAFT_CONFIGS_MAX - 1);
    assert_int_equal(raft_last_index(b->raft), RAFT_CONFIGS_MAX - 1);
    append_config(b, 2, RAFT_CONFIGS_MAX - 2, 1, 1, &config); /* in the place of the last one there is */
    expect_answer(b, RAFT_APPEND_REPLY, false, RAFT_CONFIGS_MAX - 1);
    persist(b, b->write_id);
    struct raft_message m = {.type = RAFT_APPEND,
                             .from = 2,
                             .term = 2,
                             .index = RAFT_CONFIGS_MAX - 1,
                             .index_term = 2,
                             .commit = 3,
                             .count = 1,
                             .runs_count = 1,
                             .runs = {{2, 1}},
                             .has_config = true,
                             .config = config};
    receive(b, m); /* none again, but what it commits makes some */
    assert_int_equal(raft_commit_index(b->raft), 3);
    apply_all(b);
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 3});
    append_config(b, 2, RAFT_CONFIGS_MAX - 1, 2, 1, &config);
    expect_answer(b, RAFT_APPEND_REPLY, false, RAFT_CONFIGS_MAX);
}

static void configurations_are_there_again_after_a_restart(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 2, .count = 9}};
    struct raft_config_entry configs[2] = {{.index = 3}, {.index = 18}};
    voters_up_to(1, &configs[0].config);
    voters_up_to(5, &configs[1].config);
    struct bench *b = bench_new(1, &(struct raft_options){.term = 2,
                                                          .base_index = 10,
                                                          .base_term = 1,
                                                          .applied_index = 10,
                                                          .runs = runs,
                                                          .runs_count = 1,
                                                          .configs = configs,
                                                          .configs_count = 2});
    assert_int_equal(config_index(b), 18);
    campaign(b);
    assert_int_equal(b->after_count, 4);
    append(b, 2, 4, 17, 2, 1, 4, 0);
    assert_int_equal(config_index(b), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAFT_TEST(voters_stand_in_order),
        RAFT_TEST(sets_of_voters_change_through_a_joint_configuration),
        RAFT_TEST(learners_come_and_go_without_one),
        RAFT_TEST(too_many_members_join_nothing),
        RAFT_TEST(insane_configurations_are_told),
        RAFT_TEST(both_halves_need_a_majority),
        RAFT_TEST(configuration_takes_effect_when_appended_and_is_undone_when_cut),
        RAFT_TEST(follower_takes_no_more_configurations_than_it_can_undo),
        RAFT_TEST(configurations_are_there_again_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
