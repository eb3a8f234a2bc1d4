/* The checker of what the registry says of leaders: each rule lets the truth pass and trips over one wrong word. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim_herald.h"

#define GROUP 7u

static struct sim_world world;
static struct heralds *heralds;

static int set_up(void **state)
{
    (void)state;
    world_init(&world, 1);
    heralds = heralds_new(&world);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    heralds_free(heralds);
    world_done(&world);
    return 0;
}

static void is_good(void)
{
    if (world.failed) {
        fail_msg("%s: %s", world.failed_check, world.failed_text);
    }
}

static void trips(const char *check)
{
    assert_true(world.failed);
    assert_string_equal(world.failed_check, check);
}

/* Broker `leader` publishes itself, and the registry takes the newest term. */
static void publish(uint64_t leader, uint64_t term, uint64_t said_leader, uint64_t said_term)
{
    const struct herald_word word = {.group = GROUP,
                                     .by = leader,
                                     .leader = leader,
                                     .term = term,
                                     .said_leader = said_leader,
                                     .said_term = said_term};
    heralds_published(heralds, &word);
}

static void leaders_follow_one_another(void **state)
{
    (void)state;
    publish(1, 2, 1, 2);
    publish(2, 5, 2, 5);
    publish(3, 4, 2, 5); /* late: it is not taken */
    publish(2, 5, 2, 5); /* again */
    is_good();
    assert_int_equal(world.tally.judged[JUDGE_Z1], 4);
}

static void a_term_has_one_leader(void **state)
{
    (void)state;
    publish(1, 2, 1, 2);
    publish(2, 2, 1, 2);
    trips("Z1");
}

static void nobody_publishes_another_one(void **state)
{
    (void)state;
    heralds_published(heralds, &(struct herald_word){GROUP, 1, 2, 3, 2, 3});
    trips("Z1");
}

static void the_registry_does_not_go_back(void **state)
{
    (void)state;
    publish(1, 5, 1, 5);
    publish(2, 4, 2, 4);
    trips("Z1");
}

static void the_registry_takes_what_is_newer(void **state)
{
    (void)state;
    publish(1, 2, 1, 2);
    publish(2, 3, 1, 2);
    trips("Z1");
}

static void the_registry_says_what_was_published(void **state)
{
    (void)state;
    publish(1, 2, 3, 2);
    trips("Z1");
}

static void a_leader_serves_without_a_registry(void **state)
{
    (void)state;
    heralds_saw(heralds, &(struct herald_sight){GROUP, 1, false, false});
    assert_int_equal(world.tally.judged[JUDGE_Z3], 0);
    heralds_saw(heralds, &(struct herald_sight){GROUP, 2, true, true});
    is_good();
    assert_int_equal(world.tally.judged[JUDGE_Z3], 1);
    heralds_saw(heralds, &(struct herald_sight){GROUP, 2, true, false});
    trips("Z3");
}

static void in_the_end_it_names_the_leader(void **state)
{
    (void)state;
    publish(1, 2, 1, 2);
    assert_false(heralds_is_true(heralds, GROUP, 2, 3));
    assert_false(heralds_is_true(heralds, GROUP, 1, 3));
    assert_int_equal(world.tally.judged[JUDGE_Z7], 0);
    assert_true(heralds_is_true(heralds, GROUP, 0, 0));
    publish(2, 3, 2, 3);
    assert_true(heralds_is_true(heralds, GROUP, 2, 3));
    assert_int_equal(world.tally.judged[JUDGE_Z7], 1);
    is_good();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(leaders_follow_one_another),         TEST(a_term_has_one_leader),
        TEST(nobody_publishes_another_one),       TEST(the_registry_does_not_go_back),
        TEST(the_registry_takes_what_is_newer),   TEST(the_registry_says_what_was_published),
        TEST(a_leader_serves_without_a_registry), TEST(in_the_end_it_names_the_leader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
