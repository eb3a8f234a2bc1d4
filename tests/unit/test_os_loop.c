/* The loop: clock, timer, turns, wake-ups, signals. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <uv.h>

#include "os/loop.h"

struct fixture {
    struct os_loop *loop;
    struct clock *clock;
    int turns;
    int timers;
    int signals;
    int last_signal;
    int stop_after_turns; /* 0: never */
    int stop_after_timers;
    int wakes_left;
    uint64_t deadline_us;
    uint64_t rearm_us; /* 0: not */
};

static void on_turn(void *context)
{
    struct fixture *f = context;
    f->turns++;
    if (f->wakes_left > 0) {
        f->wakes_left--;
        os_loop_wake(f->loop);
    }
    if (f->turns == f->stop_after_turns) {
        os_loop_stop(f->loop);
    }
}

static void on_timer(void *context)
{
    struct fixture *f = context;
    f->timers++;
    assert_true(clock_now_us(f->clock) >= f->deadline_us);
    if (f->rearm_us != 0) {
        clock_arm(f->clock, f->rearm_us);
    }
    if (f->timers == f->stop_after_timers) {
        os_loop_stop(f->loop);
    }
}

static void on_signal(void *context, int signal_number)
{
    struct fixture *f = context;
    f->last_signal = signal_number;
    if (++f->signals == 3) {
        os_loop_stop(f->loop);
    }
}

static const struct os_loop_handler handler = {.turn = on_turn, .timer = on_timer, .signal = on_signal};

static void open_fixture(struct fixture *f, uv_loop_t *uv)
{
    memset(f, 0, sizeof *f);
    assert_int_equal(os_loop_open(uv, NULL, &f->loop), OK);
    f->clock = os_loop_clock(f->loop);
    os_loop_set_handler(f->loop, &handler, f);
}

static void test_clock(void **state)
{
    struct fixture f;
    uint8_t a[40] = {0};
    uint8_t b[40] = {0};
    open_fixture(&f, NULL);
    uint64_t first = clock_now_us(f.clock);
    assert_true(first > 0);
    assert_true(clock_now_us(f.clock) == first); /* constant within a turn */
    f.wakes_left = 1;
    os_loop_run_once(f.loop);
    assert_true(clock_now_us(f.clock) >= first);
    int64_t wall_ms = clock_wall_ms(f.clock);
    assert_true(wall_ms / 1000 - (int64_t)time(NULL) <= 1 && (int64_t)time(NULL) - wall_ms / 1000 <= 5);
    clock_random(f.clock, a, sizeof a);
    clock_random(f.clock, b, sizeof b);
    assert_memory_not_equal(a, b, sizeof a);
    os_loop_close(f.loop);
}

static void test_timer_comes_once_and_not_early(void **state)
{
    struct fixture f;
    open_fixture(&f, NULL);
    for (int i = 0; i < 5; i++) {
        f.timers = 0;
        f.stop_after_timers = 1;
        f.deadline_us = clock_now_us(f.clock) + 1 + 777 * (uint64_t)i;
        clock_arm(f.clock, f.deadline_us);
        os_loop_run(f.loop);
        assert_int_equal(f.timers, 1);
        for (int turns = 0; turns < 3; turns++) {
            os_loop_wake(f.loop);
            os_loop_run_once(f.loop);
        }
        assert_int_equal(f.timers, 1); /* one call per request */
    }
    os_loop_close(f.loop);
}

static void test_arm_replaces_and_cancels(void **state)
{
    struct fixture f;
    open_fixture(&f, NULL);
    uint64_t now_us = clock_now_us(f.clock);
    clock_arm(f.clock, now_us + 3600 * 1000000ull);
    os_loop_wake(f.loop);
    os_loop_run_once(f.loop);
    f.deadline_us = now_us + 2000;
    clock_arm(f.clock, f.deadline_us); /* an hour becomes two milliseconds, or this test times out */
    f.stop_after_timers = 1;
    os_loop_run(f.loop);
    assert_int_equal(f.timers, 1);

    clock_arm(f.clock, clock_now_us(f.clock));
    clock_arm(f.clock, UINT64_MAX);
    f.stop_after_turns = f.turns + 3;
    f.wakes_left = 3;
    os_loop_run(f.loop);
    assert_int_equal(f.timers, 1);
    os_loop_close(f.loop);
}

/* A timer armed again and again for the past must leave room for everything else. */
static void test_past_deadline_does_not_starve_the_loop(void **state)
{
    struct fixture f;
    open_fixture(&f, NULL);
    f.rearm_us = 1;
    clock_arm(f.clock, 1);
    f.stop_after_turns = 10;
    os_loop_run(f.loop);
    assert_int_equal(f.turns, 10);
    assert_in_range(f.timers, 8, 10);
    os_loop_close(f.loop);
}

static void test_wake_gives_another_turn(void **state)
{
    struct fixture f;
    open_fixture(&f, NULL);
    f.wakes_left = 100;
    f.stop_after_turns = 101;
    os_loop_run(f.loop); /* without the wakes it would sleep for ever */
    assert_int_equal(f.turns, 101);
    os_loop_close(f.loop);
}

static void test_idle_loop_sleeps(void **state)
{
    struct fixture f;
    open_fixture(&f, NULL);
    f.stop_after_timers = 1;
    f.deadline_us = clock_now_us(f.clock) + 50000;
    clock_arm(f.clock, f.deadline_us);
    os_loop_run(f.loop);
    assert_in_range(f.turns, 1, 4); /* the first, the timer's, and no ticking in between */
    os_loop_close(f.loop);
}

static void test_signals(void **state)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    struct fixture f;
    open_fixture(&f, NULL);
    assert_int_equal(os_loop_watch_signals(f.loop), OK);
    for (int i = 0; i < 3; i++) {
        raise(numbers[i]);
    }
    os_loop_run(f.loop);
    assert_int_equal(f.signals, 3);
    assert_int_equal(f.last_signal, SIGHUP);
    os_loop_close(f.loop);
}

static void test_loop_of_the_caller(void **state)
{
    struct fixture f;
    uv_loop_t uv;
    assert_int_equal(uv_loop_init(&uv), 0);
    open_fixture(&f, &uv);
    assert_ptr_equal(os_loop_uv(f.loop), &uv);
    f.stop_after_turns = 2;
    f.wakes_left = 2;
    os_loop_run(f.loop);
    os_loop_close(f.loop);
    assert_int_equal(uv_run(&uv, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&uv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_timer_comes_once_and_not_early),
        cmocka_unit_test(test_arm_replaces_and_cancels),
        cmocka_unit_test(test_past_deadline_does_not_starve_the_loop),
        cmocka_unit_test(test_wake_gives_another_turn),
        cmocka_unit_test(test_idle_loop_sleeps),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_loop_of_the_caller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
