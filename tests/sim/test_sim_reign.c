/* What leaders say, by hand: each broken promise must trip, and what only looks like one must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "sim_reign.h"

#define GROUP 7u

static struct sim_world world;
static struct reigns *reigns;

static int set_up(void **state)
{
    (void)state;
    world_init(&world, 1);
    reigns = reigns_new(&world);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    reigns_free(reigns);
    world_done(&world);
    return 0;
}

static void say(uint64_t term, uint64_t broker, uint64_t life, int64_t log_start, int64_t high_watermark)
{
    reigns_heard(reigns, &(struct reign_word){.group = GROUP,
                                              .term = term,
                                              .broker = broker,
                                              .life = life,
                                              .log_start = log_start,
                                              .high_watermark = high_watermark});
}

static void assert_failed(const char *check)
{
    assert_true(world.failed);
    assert_string_equal(world.failed_check, check);
}

static void leaders_follow_one_another(void **state)
{
    (void)state;
    say(2, 1, 1, 0, 10);
    say(2, 1, 1, 0, 12);
    say(5, 3, 1, 4, 12);
    say(5, 3, 1, 4, 20);
    say(6, 1, 2, 4, 20);
    assert_false(world.failed);
    assert_int_equal(reigns_promised(reigns, GROUP), 20);
    assert_int_equal(reigns_log_start(reigns, GROUP), 4);
    assert_int_equal(reigns_promised(reigns, GROUP + 1), 0);
}

static void an_old_leader_may_lag_behind_its_successor(void **state)
{
    (void)state;
    say(2, 1, 1, 0, 10);
    say(3, 2, 1, 0, 15);
    say(3, 2, 1, 0, 30);
    say(2, 1, 1, 0, 15);
    assert_false(world.failed);
    assert_int_equal(reigns_promised(reigns, GROUP), 30);
}

static void test_r1_two_brokers_in_one_term(void **state)
{
    (void)state;
    say(2, 1, 1, 0, 10);
    say(2, 3, 1, 0, 10);
    assert_failed("R1");
}

static void test_r1_two_lives_in_one_term(void **state)
{
    (void)state;
    say(2, 1, 1, 0, 10);
    say(2, 1, 2, 0, 10);
    assert_failed("R1");
}

static void test_b8_a_leader_goes_back(void **state)
{
    (void)state;
    say(2, 1, 1, 0, 10);
    say(2, 1, 1, 0, 9);
    assert_failed("B8");
}

static void test_b8_a_later_term_begins_lower(void **state)
{
    (void)state;
    say(2, 1, 1, 0, 10);
    say(3, 2, 1, 0, 9);
    assert_failed("B8");
}

static void test_b8_an_old_leader_commits_what_its_successor_lacks(void **state)
{
    (void)state;
    say(2, 1, 1, 0, 10);
    say(4, 3, 1, 0, 12);
    say(4, 3, 1, 0, 40);
    say(2, 1, 1, 0, 13);
    assert_failed("B8");
}

static void test_b8_a_term_in_between_is_held_against_both(void **state)
{
    (void)state;
    say(2, 1, 1, 0, 10);
    say(6, 3, 1, 0, 12);
    say(4, 2, 1, 0, 13);
    assert_failed("B8");
}

static void test_b8_log_start_goes_back(void **state)
{
    (void)state;
    say(2, 1, 1, 5, 10);
    say(3, 2, 1, 4, 10);
    assert_failed("B8");
}

static void test_b9_latest_is_older_than_the_question(void **state)
{
    (void)state;
    say(3, 2, 1, 0, 15);
    reigns_listed(reigns, GROUP, 2, 15, 15);
    assert_false(world.failed);
    reigns_listed(reigns, GROUP, 1, 15, 14);
    assert_failed("B9");
}

static void latest_is_a_promise_too(void **state)
{
    (void)state;
    reigns_listed(reigns, GROUP, 2, 0, 21);
    assert_int_equal(reigns_promised(reigns, GROUP), 21);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(leaders_follow_one_another),
        TEST(an_old_leader_may_lag_behind_its_successor),
        TEST(test_r1_two_brokers_in_one_term),
        TEST(test_r1_two_lives_in_one_term),
        TEST(test_b8_a_leader_goes_back),
        TEST(test_b8_a_later_term_begins_lower),
        TEST(test_b8_an_old_leader_commits_what_its_successor_lacks),
        TEST(test_b8_a_term_in_between_is_held_against_both),
        TEST(test_b8_log_start_goes_back),
        TEST(test_b9_latest_is_older_than_the_question),
        TEST(latest_is_a_promise_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
