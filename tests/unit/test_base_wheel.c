/* The timer wheel: everybody is due at his tick, in the order in which he came, whatever the distance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "base/wheel.h"

#define ITEMS 200u

static struct wheel wheel;
static struct wheel_item items[ITEMS];
static struct wheel_list due;

static int set_up(void **state)
{
    (void)state;
    wheel_init(&wheel, 1000);
    TAILQ_INIT(&due);
    for (uint32_t i = 0; i < ITEMS; i++) {
        items[i] = (struct wheel_item){.owner = &items[i]};
    }
    return 0;
}

/* Turns to `now`; who is due next, ITEMS: nobody. */
static void turn(uint64_t now)
{
    wheel_turn(&wheel, now, &due);
}

static uint32_t next_due(void)
{
    struct wheel_item *item = TAILQ_FIRST(&due);
    if (item == NULL) {
        return ITEMS;
    }
    TAILQ_REMOVE(&due, item, link);
    assert_false(item->is_in);
    assert_ptr_equal(item->owner, item);
    return (uint32_t)(item - items);
}

static void everybody_comes_at_his_tick(void **state)
{
    (void)state;
    wheel_put(&wheel, &items[0], 1001);
    wheel_put(&wheel, &items[1], 1003);
    wheel_put(&wheel, &items[2], 1003);
    wheel_put(&wheel, &items[3], 1003 + WHEEL_SLOTS); /* a lap later, in the same slot */
    assert_int_equal(wheel.count, 4);
    turn(1001);
    assert_int_equal(next_due(), 0);
    assert_int_equal(next_due(), ITEMS);
    turn(1002);
    assert_int_equal(next_due(), ITEMS);
    turn(1003);
    assert_int_equal(next_due(), 1);
    assert_int_equal(next_due(), 2);
    assert_int_equal(next_due(), ITEMS);
    turn(1002 + WHEEL_SLOTS);
    assert_int_equal(next_due(), ITEMS);
    turn(1003 + WHEEL_SLOTS);
    assert_int_equal(next_due(), 3);
    assert_int_equal(wheel.count, 0);
}

static void who_is_late_comes_with_the_next(void **state)
{
    (void)state;
    wheel_put(&wheel, &items[0], 5);
    wheel_put(&wheel, &items[1], 1000);
    turn(1000);
    assert_int_equal(next_due(), ITEMS);
    turn(1001);
    assert_int_equal(next_due(), 0);
    assert_int_equal(next_due(), 1);
}

static void who_is_moved_or_taken_out_does_not_come_before(void **state)
{
    (void)state;
    wheel_put(&wheel, &items[0], 1001);
    wheel_put(&wheel, &items[0], 1004);
    wheel_put(&wheel, &items[1], 1001);
    wheel_remove(&wheel, &items[1]);
    wheel_remove(&wheel, &items[1]);
    assert_int_equal(wheel.count, 1);
    turn(1003);
    assert_int_equal(next_due(), ITEMS);
    turn(1004);
    assert_int_equal(next_due(), 0);
}

/* Jumps over many laps, empty wheels too. */
static void nobody_is_missed_however_far_it_jumps(void **state)
{
    struct rng rng;
    uint64_t now = 1000;
    (void)state;
    rng_seed(&rng, 1);
    for (int round = 0; round < 2000; round++) {
        uint32_t one = (uint32_t)rng_below(&rng, ITEMS);
        if (rng_chance(&rng, 0.2)) {
            wheel_remove(&wheel, &items[one]);
        } else {
            wheel_put(&wheel, &items[one], now + rng_below(&rng, 4 * WHEEL_SLOTS));
        }
        now += rng_chance(&rng, 0.05) ? rng_below(&rng, 3 * WHEEL_SLOTS) : rng_below(&rng, 2);
        uint32_t expected = 0, came = 0;
        for (uint32_t i = 0; i < ITEMS; i++) {
            expected += items[i].is_in && items[i].tick <= now;
        }
        turn(now);
        while (next_due() != ITEMS) {
            came++;
        }
        assert_int_equal(came, expected);
    }
    wheel_init(&wheel, now);
    turn(now + 1000000000);
    assert_int_equal(next_due(), ITEMS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(everybody_comes_at_his_tick, set_up),
        cmocka_unit_test_setup(who_is_late_comes_with_the_next, set_up),
        cmocka_unit_test_setup(who_is_moved_or_taken_out_does_not_come_before, set_up),
        cmocka_unit_test_setup(nobody_is_missed_however_far_it_jumps, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
