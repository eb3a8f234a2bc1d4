/* S3 is shown what a broker on a full disk may answer, and for each part of the promise an answer that breaks it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sim_room.h"

#define SECOND_US ((uint64_t)1000 * 1000)

struct story {
    struct sim_world world;
    struct room room;
};

static void story_begin(struct story *s)
{
    world_init(&s->world, 1);
    room_init(&s->room, &s->world, false);
}

static void story_end(struct story *s, bool is_bad)
{
    assert_int_equal(s->world.failed, is_bad);
    if (is_bad) {
        assert_string_equal(s->world.failed_check, "S3");
    }
    world_done(&s->world);
}

static void call_misses(struct story *s)
{
    s->world.no_room_us = s->world.now_us;
}

static void refuse(struct story *s, enum room_use use)
{
    room_answer(&s->room, use, true, s->world.now_us, 0);
}

static void test_refusals_on_a_full_disk_pass(void **state)
{
    struct story s;
    story_begin(&s);
    room_limit(&s.room, false);
    for (int i = 0; i < 60; i++) { /* tried again every second, in vain */
        s.world.now_us += SECOND_US;
        call_misses(&s);
        refuse(&s, ROOM_WRITE);
        room_answer(&s.room, ROOM_READ, false, s.world.now_us - SECOND_US, 0);
    }
    room_lift(&s.room);
    s.world.now_us += SECOND_US;
    refuse(&s, ROOM_WRITE); /* it has not heard yet */
    assert_int_equal(s.world.tally.judged[JUDGE_S3], 121);
    story_end(&s, false);
}

static void test_a_full_store_needs_no_call(void **state)
{
    struct story s;
    story_begin(&s);
    room_limit(&s.room, true);
    s.world.now_us += 100 * SECOND_US;
    refuse(&s, ROOM_WRITE);
    room_lift(&s.room);
    s.world.now_us += SECOND_US;
    refuse(&s, ROOM_WRITE);
    story_end(&s, false);
}

static void test_s3_refused_and_never_full(void **state)
{
    struct story s;
    story_begin(&s);
    refuse(&s, ROOM_WRITE);
    story_end(&s, true);
}

static void test_s3_goes_on_although_there_is_room(void **state)
{
    struct story s;
    story_begin(&s);
    room_limit(&s.room, false);
    call_misses(&s);
    refuse(&s, ROOM_WRITE);
    room_lift(&s.room);
    s.world.now_us += 10 * SECOND_US;
    refuse(&s, ROOM_WRITE);
    story_end(&s, true);
}

static void test_s3_a_life_before_is_no_excuse(void **state)
{
    struct story s;
    story_begin(&s);
    call_misses(&s);
    room_new_life(&s.room);
    refuse(&s, ROOM_WRITE);
    story_end(&s, true);
}

static void test_s3_read_is_refused(void **state)
{
    struct story s;
    story_begin(&s);
    room_limit(&s.room, false);
    call_misses(&s);
    refuse(&s, ROOM_READ);
    story_end(&s, true);
}

static void test_s3_read_waits(void **state)
{
    struct story s;
    story_begin(&s);
    room_limit(&s.room, false);
    uint64_t asked_us = s.world.now_us;
    s.world.now_us += 7 * SECOND_US;
    room_answer(&s.room, ROOM_READ, false, asked_us, 3 * SECOND_US); /* it was to wait for three of them */
    assert_false(s.world.failed);
    room_answer(&s.room, ROOM_READ, false, asked_us, 0);
    story_end(&s, true);
}

static void test_s3_read_is_never_answered(void **state)
{
    struct story s;
    story_begin(&s);
    uint64_t asked_us = s.world.now_us;
    s.world.now_us += 40 * SECOND_US;
    room_no_answer(&s.room, asked_us); /* with room it is somebody else's business */
    room_limit(&s.room, false);
    asked_us = s.world.now_us;
    s.world.now_us += 40 * SECOND_US;
    assert_false(s.world.failed);
    room_no_answer(&s.room, asked_us);
    story_end(&s, true);
}

static void test_s3_process_ends(void **state)
{
    struct story s;
    story_begin(&s);
    room_limit(&s.room, false);
    call_misses(&s);
    room_exit(&s.room, true);
    assert_false(s.world.failed);
    room_exit(&s.room, false);
    story_end(&s, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_on_a_full_disk_pass),
        cmocka_unit_test(test_a_full_store_needs_no_call),
        cmocka_unit_test(test_s3_refused_and_never_full),
        cmocka_unit_test(test_s3_goes_on_although_there_is_room),
        cmocka_unit_test(test_s3_a_life_before_is_no_excuse),
        cmocka_unit_test(test_s3_read_is_refused),
        cmocka_unit_test(test_s3_read_waits),
        cmocka_unit_test(test_s3_read_is_never_answered),
        cmocka_unit_test(test_s3_process_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
