/* The clock that log entries carry, held against one that jumps; and the order in which deadlines stand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/order.h"
#include "base/rng.h"
#include "broker/log_clock.h"

#define DAY_MS ((int64_t)24 * 60 * 60 * 1000)

struct hands {
    struct clock clock;
    uint64_t monotonic_us;
    int64_t wall_ms;
};

static uint64_t hands_now_us(struct clock *clock)
{
    return ((struct hands *)clock)->monotonic_us;
}

static int64_t hands_wall_ms(struct clock *clock)
{
    return ((struct hands *)clock)->wall_ms;
}

static const struct clock_ops hands_ops = {.now_us = hands_now_us, .wall_ms = hands_wall_ms};

static void pass(struct hands *hands, int64_t ms)
{
    hands->monotonic_us += (uint64_t)ms * 1000;
    hands->wall_ms += ms;
}

static void start(struct hands *hands, struct log_clock *log_clock)
{
    *hands = (struct hands){.clock.ops = &hands_ops, .monotonic_us = 77000000, .wall_ms = 1700000000000};
    log_clock_init(log_clock, &hands->clock, NULL);
}

static void a_day_ahead_is_not_followed(void **state)
{
    struct hands hands;
    struct log_clock log_clock;
    (void)state;
    start(&hands, &log_clock);
    pass(&hands, 5000);
    int64_t before_ms = log_clock_now_ms(&log_clock);
    assert_int_equal(before_ms, hands.wall_ms);
    hands.wall_ms += DAY_MS;
    assert_int_equal(log_clock_now_ms(&log_clock), before_ms);
    assert_int_equal(log_clock.ahead_ms, DAY_MS);
    pass(&hands, 60000); /* time goes on */
    assert_int_equal(log_clock_now_ms(&log_clock), before_ms + 60000);
    hands.wall_ms -= DAY_MS;
    assert_int_equal(log_clock_now_ms(&log_clock), hands.wall_ms);
    assert_int_equal(log_clock.ahead_ms, 0);
}

static void an_operator_accepts(void **state)
{
    struct hands hands;
    struct log_clock log_clock;
    (void)state;
    start(&hands, &log_clock);
    hands.wall_ms += DAY_MS;
    assert_true(log_clock_now_ms(&log_clock) < hands.wall_ms);
    log_clock_accept(&log_clock);
    assert_int_equal(log_clock.ahead_ms, 0);
    assert_int_equal(log_clock_now_ms(&log_clock), hands.wall_ms);
    hands.wall_ms += LOG_CLOCK_AHEAD_MS_MAX + 1; /* and from there it is watched again */
    assert_true(log_clock_now_ms(&log_clock) < hands.wall_ms);
}

static void small_steps_and_drift_are_followed(void **state)
{
    struct hands hands;
    struct log_clock log_clock;
    (void)state;
    start(&hands, &log_clock);
    hands.wall_ms += LOG_CLOCK_AHEAD_MS_MAX;
    assert_int_equal(log_clock_now_ms(&log_clock), hands.wall_ms);
    for (int day = 0; day < 1000; day++) {
        pass(&hands, DAY_MS);
        hands.wall_ms += DAY_MS / 2000; /* 500 ppm fast */
        assert_int_equal(log_clock_now_ms(&log_clock), hands.wall_ms);
    }
}

static void a_clock_that_goes_back_is_followed(void **state)
{
    struct hands hands;
    struct log_clock log_clock;
    (void)state;
    start(&hands, &log_clock);
    hands.wall_ms -= 1000 * DAY_MS; /* the group's log clock takes the larger one */
    assert_int_equal(log_clock_now_ms(&log_clock), hands.wall_ms);
}

static void order_against_a_plain_search(void **state)
{
    enum { ITEMS = 64 };
    struct order order;
    struct order_item items[ITEMS] = {0};
    struct rng rng;
    (void)state;
    rng_seed(&rng, 5);
    order_init(&order);
    for (size_t i = 0; i < ITEMS; i++) {
        items[i].id = i;
    }
    for (int step = 0; step < 20000; step++) {
        struct order_item *item = &items[rng_below(&rng, ITEMS)];
        if (rng_chance(&rng, 0.3)) {
            order_remove(&order, item);
        } else {
            order_put(&order, item, rng_below(&rng, 20));
        }
        uint32_t expected = 0, found = 0;
        for (size_t i = 0; i < ITEMS; i++) {
            expected += items[i].is_in;
        }
        const struct order_item *last = NULL;
        for (struct order_item *at = order_first(&order); at != NULL; at = order_next(at)) {
            assert_true(last == NULL || last->key < at->key || (last->key == at->key && last->id < at->id));
            last = at;
            found++;
        }
        assert_int_equal(found, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_day_ahead_is_not_followed),        cmocka_unit_test(an_operator_accepts),
        cmocka_unit_test(small_steps_and_drift_are_followed), cmocka_unit_test(a_clock_that_goes_back_is_followed),
        cmocka_unit_test(order_against_a_plain_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
