/* S10 is shown what decays and what a broker says of it: good stories, and for each part of the promise one that breaks
 * it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sim_decay.h"

#define SECOND_US ((uint64_t)1000 * 1000)
#define PERIOD_S  60

struct story {
    struct sim_world world;
    struct decay *decay;
};

static bool is_gone; /* what all items of a story say of themselves */

static bool is_there(const struct decay_item *item)
{
    return !is_gone;
}

static void story_begin(struct story *s)
{
    is_gone = false;
    world_init(&s->world, 1);
    s->decay = decay_new(&s->world, PERIOD_S * SECOND_US);
    decay_start(s->decay);
    decay_ready(s->decay);
    decay_calm(s->decay);
}

static void story_end(struct story *s, const char *check)
{
    assert_int_equal(s->world.failed, check != NULL);
    if (check != NULL) {
        assert_string_equal(s->world.failed_check, check);
    }
    decay_free(s->decay);
    world_done(&s->world);
}

static void pass(struct story *s, uint64_t seconds)
{
    s->world.now_us += seconds * SECOND_US;
    decay_look(s->decay);
}

static void segment_decays(struct story *s)
{
    decay_begins(s->decay,
                 &(struct decay_item){
                     .kind = DECAY_SEGMENT, .group = 33, .from = 10, .end = 20, .rounds = 1, .is_there = is_there});
}

static void row_decays(struct story *s)
{
    decay_begins(s->decay,
                 &(struct decay_item){.kind = DECAY_ROW, .group = 33, .type = 'M', .rounds = 1, .is_there = is_there});
}

static void log_decays(struct story *s)
{
    decay_begins(s->decay,
                 &(struct decay_item){.kind = DECAY_WAL, .from = 4096, .end = 5000, .rounds = 1, .is_there = is_there});
}

static void test_what_is_found_in_time_passes(void **state)
{
    struct story s;
    story_begin(&s);
    segment_decays(&s);
    row_decays(&s);
    log_decays(&s);
    assert_false(decay_is_settled(s.decay));
    pass(&s, PERIOD_S);
    decay_line(s.decay, "scrub_segment_damaged topic=t partition=0 group=33 from_offset=12 end_offset=13");
    decay_line(s.decay, "scrub_row_damaged type=M group=33 mended=1");
    decay_line(s.decay, "scrub_wal_damaged from_lsn=4096 end_lsn=8192");
    is_gone = true; /* the row is written again; the others are over too */
    pass(&s, 2 * PERIOD_S);
    assert_true(decay_is_settled(s.decay));
    assert_int_equal(s.world.tally.judged[JUDGE_S10], 3);
    story_end(&s, NULL);
}

static void test_a_read_finds_it_too(void **state)
{
    struct story s;
    story_begin(&s);
    segment_decays(&s);
    decay_refused(s.decay, 33, 15);
    pass(&s, 3 * PERIOD_S);
    assert_true(decay_is_settled(s.decay));
    story_end(&s, NULL);
}

static void test_what_is_deleted_need_not_be_found(void **state)
{
    struct story s;
    story_begin(&s);
    segment_decays(&s);
    is_gone = true;
    pass(&s, 3 * PERIOD_S);
    assert_true(decay_is_settled(s.decay));
    story_end(&s, NULL);
}

static void test_each_life_has_a_period_of_its_own(void **state)
{
    struct story s;
    story_begin(&s);
    log_decays(&s);
    pass(&s, PERIOD_S);
    decay_down(s.decay);
    pass(&s, 10 * PERIOD_S); /* nobody is there to look */
    decay_start(s.decay);
    decay_ready(s.decay);
    pass(&s, PERIOD_S);
    story_end(&s, NULL);
}

static void test_s10_segment_is_never_found(void **state)
{
    struct story s;
    story_begin(&s);
    segment_decays(&s);
    decay_refused(s.decay, 33, 20); /* behind it */
    decay_refused(s.decay, 34, 15); /* somebody else */
    pass(&s, 2 * PERIOD_S);
    story_end(&s, "S10");
}

static void test_s10_row_is_never_found(void **state)
{
    struct story s;
    story_begin(&s);
    row_decays(&s);
    pass(&s, 2 * PERIOD_S);
    story_end(&s, "S10");
}

static void test_s10_log_is_never_found(void **state)
{
    struct story s;
    story_begin(&s);
    log_decays(&s);
    pass(&s, 2 * PERIOD_S);
    story_end(&s, "S10");
}

static void test_s10_row_is_found_and_stays_bad(void **state)
{
    struct story s;
    story_begin(&s);
    row_decays(&s);
    pass(&s, 1);
    decay_line(s.decay, "scrub_row_damaged type=M group=33 mended=1");
    pass(&s, PERIOD_S);
    story_end(&s, "S10");
}

static void test_s10_false_alarms(void **state)
{
    static const char *const lines[] = {
        "scrub_segment_damaged topic=t partition=0 group=33 from_offset=12 end_offset=13",
        "scrub_row_damaged type=M group=33 mended=1",
        "row_damaged group=33 type=M number=0",
        "scrub_wal_damaged from_lsn=4096 end_lsn=8192",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct story s;
        story_begin(&s);
        decay_line(s.decay, lines[i]);
        story_end(&s, "S10");
    }
}

static void test_bad_reads_excuse_an_alarm(void **state)
{
    struct story s;
    story_begin(&s);
    s.world.corrupt_until_us = s.world.now_us + SECOND_US;
    decay_line(s.decay, "scrub_segment_damaged topic=t partition=0 group=33 from_offset=12 end_offset=13");
    segment_decays(&s); /* said already */
    pass(&s, 3 * PERIOD_S);
    story_end(&s, NULL);
}

static void test_s10_group_with_a_bad_row_is_served(void **state)
{
    struct story s;
    story_begin(&s);
    row_decays(&s);
    decay_served(s.decay, 33); /* what is in memory is right */
    decay_down(s.decay);
    decay_start(s.decay);
    decay_ready(s.decay);
    assert_true(decay_has_lost(s.decay, 33));
    assert_false(decay_has_lost(s.decay, 34));
    decay_served(s.decay, 34);
    assert_false(s.world.failed);
    decay_served(s.decay, 33);
    story_end(&s, "S10");
}

static void test_a_row_that_was_mended_costs_nobody_anything(void **state)
{
    struct story s;
    story_begin(&s);
    row_decays(&s);
    decay_line(s.decay, "scrub_row_damaged type=M group=33 mended=1");
    is_gone = true;
    decay_down(s.decay);
    decay_start(s.decay);
    decay_ready(s.decay);
    decay_served(s.decay, 33);
    story_end(&s, NULL);
}

static void test_w7_groups_are_withheld_after_errors(void **state)
{
    struct story s;
    story_begin(&s);
    world_fault(&s.world, FAULT_READ_ERROR);
    decay_line(s.decay, "group_withheld group=33 error=ERR_IO why=\"its segment cannot be opened\"");
    decay_line(s.decay, "group_given_up group=34 lsn=4096 why=\"it pins the write-ahead log\"");
    assert_true(decay_has_withheld(s.decay, 33));
    assert_int_equal(decay_take_given_up(s.decay), 34);
    assert_int_equal(decay_take_given_up(s.decay), 0);
    decay_down(s.decay);
    assert_false(decay_has_withheld(s.decay, 0));
    assert_true(decay_has_withheld(s.decay, 33)); /* answers on their way */
    pass(&s, 2);
    assert_false(decay_has_withheld(s.decay, 33));
    assert_true(decay_has_lost(s.decay, 34));
    story_end(&s, NULL);
}

static bool is_35(void *context, uint64_t group)
{
    return group == 35;
}

/* Whose mark did not become durable before a death may be served again; the others may not. */
static void who_was_given_up(struct story *s, uint64_t group, const char *check)
{
    story_begin(s);
    world_fault(&s->world, FAULT_READ_ERROR);
    decay_line(s->decay, "group_given_up group=34 lsn=4096 why=\"it pins the write-ahead log\"");
    assert_int_equal(decay_take_given_up(s->decay), 34);
    decay_line(s->decay, "group_given_up group=35 lsn=8192 why=\"it pins the write-ahead log\"");
    decay_down(s->decay);
    decay_keep_marked(s->decay, is_35, NULL);
    assert_int_equal(decay_take_given_up(s->decay), 35); /* not taken before */
    assert_int_equal(decay_take_given_up(s->decay), 0);
    decay_served(s->decay, group);
    story_end(s, check);
}

static void test_a_mark_that_was_not_durable(void **state)
{
    struct story s;
    who_was_given_up(&s, 34, NULL);
}

static void test_s10_group_with_a_mark_is_served(void **state)
{
    struct story s;
    who_was_given_up(&s, 35, "S10");
}

static void test_w7_group_is_withheld_for_nothing(void **state)
{
    struct story s;
    story_begin(&s);
    decay_line(s.decay, "group_withheld group=33 error=ERR_IO why=\"its segment cannot be opened\"");
    story_end(&s, "W7");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_found_in_time_passes),
        cmocka_unit_test(test_a_read_finds_it_too),
        cmocka_unit_test(test_what_is_deleted_need_not_be_found),
        cmocka_unit_test(test_each_life_has_a_period_of_its_own),
        cmocka_unit_test(test_s10_segment_is_never_found),
        cmocka_unit_test(test_s10_row_is_never_found),
        cmocka_unit_test(test_s10_log_is_never_found),
        cmocka_unit_test(test_s10_row_is_found_and_stays_bad),
        cmocka_unit_test(test_s10_false_alarms),
        cmocka_unit_test(test_bad_reads_excuse_an_alarm),
        cmocka_unit_test(test_s10_group_with_a_bad_row_is_served),
        cmocka_unit_test(test_a_row_that_was_mended_costs_nobody_anything),
        cmocka_unit_test(test_w7_groups_are_withheld_after_errors),
        cmocka_unit_test(test_a_mark_that_was_not_durable),
        cmocka_unit_test(test_s10_group_with_a_mark_is_served),
        cmocka_unit_test(test_w7_group_is_withheld_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
