/* The ledger is shown logs and what a broker says of them: a good story, and for each checker one that must trip it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sim_ledger.h"

#define GROUP 11u

struct story {
    struct sim_world world;
    struct ledger *ledger;
    uint64_t index; /* of the last entry */
    uint32_t id;    /* of the last message */
};

static void story_begin(struct story *s)
{
    *s = (struct story){0};
    world_init(&s->world, 1);
    s->ledger = ledger_new(&s->world);
    ledger_watch(s->ledger, GROUP, "a-0");
    ledger_born(s->ledger, GROUP, &(struct ledger_policy){2000, 10000});
}

static void story_end(struct story *s, const char *check)
{
    if (check == NULL) {
        assert_false(s->world.failed);
    } else {
        assert_true(s->world.failed);
        assert_string_equal(s->world.failed_check, check);
    }
    ledger_free(s->ledger);
    world_done(&s->world);
}

static void entry(struct story *s, struct ledger_entry e)
{
    e.group = GROUP;
    e.index = ++s->index;
    e.term = e.term == 0 ? 1 : e.term;
    ledger_durable(s->ledger, &e);
}

/* One record of producer 7; returns its message id. */
static uint32_t data(struct story *s, int16_t epoch, int32_t sequence)
{
    entry(s, (struct ledger_entry){.kind = LEDGER_DATA,
                                   .producer_id = 7,
                                   .epoch = epoch,
                                   .sequence = sequence,
                                   .records_count = 1,
                                   .first = ++s->id,
                                   .size_bytes = 500,
                                   .max_timestamp = -1});
    return s->id;
}

static void clock_at(struct story *s, int64_t clock_ms, int64_t elapsed_ms, int64_t expire_ms)
{
    entry(s, (struct ledger_entry){
                 .kind = LEDGER_CLOCK, .clock_ms = clock_ms, .elapsed_ms = elapsed_ms, .expire_ms = expire_ms});
}

static void start_at(struct story *s, int64_t offset)
{
    entry(s, (struct ledger_entry){.kind = LEDGER_START, .log_start = offset});
}

static void judge(struct story *s, struct ledger_picture picture)
{
    picture.group = GROUP;
    ledger_judge_picture(s->ledger, &picture);
}

static void test_good_log_passes(void **state)
{
    struct story s;
    story_begin(&s);
    clock_at(&s, 1000, 0, 0);
    for (int32_t i = 0; i < 7; i++) {
        uint32_t id = data(&s, 0, i);
        assert_true(ledger_has(s.ledger, GROUP, id));
        ledger_acked(s.ledger, GROUP, id, i);
    }
    data(&s, 0, 3); /* a repeat takes no offset */
    data(&s, 0, 9); /* nor does a gap */
    data(&s, 1, 0);
    assert_int_equal(ledger_end(s.ledger, GROUP), 8);
    ledger_served(s.ledger, GROUP, 8, 0);
    struct ledger_row row = {.producer_id = 7, .epoch = 1, .count = 1, .batches = {{0, 0, 7}}};
    judge(&s, (struct ledger_picture){
                  .applied_index = s.index, .next_offset = 8, .log_clock_ms = 1000, .rows = &row, .rows_count = 1});
    struct ledger_row found;
    assert_true(ledger_find_row(s.ledger, GROUP, 7, &found));
    assert_int_equal(found.epoch, 1);
    assert_false(ledger_find_row(s.ledger, GROUP, 8, &found));
    story_end(&s, NULL);
}

static void test_the_window_holds_five_and_sequences_wrap(void **state)
{
    struct story s;
    story_begin(&s);
    for (int32_t i = 0; i < 6; i++) {
        data(&s, 0, i);
    }
    struct ledger_row row;
    assert_true(ledger_find_row(s.ledger, GROUP, 7, &row));
    assert_int_equal(row.count, LEDGER_BATCHES);
    assert_int_equal(row.batches[0].offset, 1);
    entry(&s,
          (struct ledger_entry){
              .kind = LEDGER_DATA, .producer_id = 8, .records_count = INT32_MAX, .size_bytes = 1, .max_timestamp = -1});
    entry(&s, (struct ledger_entry){.kind = LEDGER_DATA,
                                    .producer_id = 8,
                                    .sequence = INT32_MAX,
                                    .records_count = 2,
                                    .size_bytes = 1,
                                    .max_timestamp = -1});
    assert_true(ledger_find_row(s.ledger, GROUP, 8, &row));
    assert_int_equal(row.batches[1].last_sequence, 0);
    story_end(&s, NULL);
}

static void test_r9_acknowledged_behind_a_hole(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    s.index++;
    uint32_t id = data(&s, 0, 1);
    assert_false(ledger_has(s.ledger, GROUP, id));
    ledger_acked(s.ledger, GROUP, id, 1);
    story_end(&s, "R9");
}

static void test_r9_checkpoint_ahead_of_the_log(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    judge(&s, (struct ledger_picture){.applied_index = 2, .next_offset = 2});
    story_end(&s, "R9");
}

static void test_w2_an_entry_changes(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    s.index--;
    entry(&s, (struct ledger_entry){.kind = LEDGER_DATA, .term = 2, .first = 1});
    story_end(&s, "W2");
}

static void test_b5_offset_is_not_the_logs(void **state)
{
    struct story s;
    story_begin(&s);
    ledger_acked(s.ledger, GROUP, data(&s, 0, 0), 4);
    story_end(&s, "B5");
}

static void test_b8_served_above_the_durable_log(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    ledger_served(s.ledger, GROUP, 2, 0);
    story_end(&s, "B8");
}

static void reading(struct story *s, bool birth, uint64_t from, uint64_t term, int64_t picture)
{
    ledger_read_begin(s->ledger);
    if (birth) {
        ledger_found_birth(s->ledger, GROUP);
    }
    for (uint64_t i = from; i <= s->index; i++) {
        ledger_found_entry(s->ledger, GROUP, i);
    }
    ledger_found_term(s->ledger, GROUP, term);
    if (picture >= 0) {
        ledger_found_picture(s->ledger, GROUP, (uint64_t)picture);
    }
    ledger_read_end(s->ledger);
}

static void test_w4_all_is_kept(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    data(&s, 0, 1);
    reading(&s, true, 1, 1, -1);
    reading(&s, false, 2, 1, 1);
    ledger_unwatch(s.ledger, GROUP);
    reading(&s, false, 3, 0, -1); /* a deleted group may go */
    story_end(&s, NULL);
}

static void test_w4_entry_released_too_early(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    data(&s, 0, 1);
    data(&s, 0, 2);
    reading(&s, false, 3, 1, 1);
    story_end(&s, "W4");
}

static void test_w4_term_forgotten(void **state)
{
    struct story s;
    story_begin(&s);
    entry(&s, (struct ledger_entry){.kind = LEDGER_OTHER, .term = 3});
    reading(&s, true, 1, 2, -1);
    story_end(&s, "W4");
}

static void test_w4_birth_forgotten(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    reading(&s, false, 1, 1, -1);
    story_end(&s, "W4");
}

static void test_b11_row_differs(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    struct ledger_row row = {.producer_id = 7, .epoch = 0, .count = 1, .batches = {{0, 0, 1}}};
    judge(&s, (struct ledger_picture){.applied_index = 1, .next_offset = 1, .rows = &row, .rows_count = 1});
    story_end(&s, "B11");
}

static void test_b11_row_is_missing(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    judge(&s, (struct ledger_picture){.applied_index = 1, .next_offset = 1});
    story_end(&s, "B11");
}

static void test_b11_producer_expires_by_the_idle_clock(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    clock_at(&s, 50, 99, 100);
    struct ledger_row row;
    assert_true(ledger_find_row(s.ledger, GROUP, 7, &row));
    clock_at(&s, 51, 1, 100);
    assert_false(ledger_find_row(s.ledger, GROUP, 7, &row));
    row = (struct ledger_row){.producer_id = 7, .count = 1};
    judge(&s, (struct ledger_picture){.applied_index = 3,
                                      .next_offset = 1,
                                      .log_clock_ms = 51,
                                      .idle_clock_ms = 100,
                                      .rows = &row,
                                      .rows_count = 1}); /* still there */
    story_end(&s, "B11");
}

static void test_b11_clock_differs(void **state)
{
    struct story s;
    story_begin(&s);
    clock_at(&s, 50, 0, 0);
    judge(&s, (struct ledger_picture){.applied_index = 1, .log_clock_ms = 49});
    story_end(&s, "B11");
}

static void test_b13_by_size(void **state)
{
    struct story s;
    story_begin(&s);
    for (int32_t i = 0; i < 8; i++) {
        data(&s, 0, i);
    }
    start_at(&s, 3); /* leaves 2500 of 2000 */
    start_at(&s, 4); /* leaves 2000 */
    assert_int_equal(ledger_bytes(s.ledger, GROUP), 2000);
    story_end(&s, NULL);
}

static void test_b13_too_much_by_size(void **state)
{
    struct story s;
    story_begin(&s);
    for (int32_t i = 0; i < 8; i++) {
        data(&s, 0, i);
    }
    start_at(&s, 5);
    story_end(&s, "B13");
}

static void test_b13_by_time(void **state)
{
    struct story s;
    story_begin(&s);
    clock_at(&s, 100, 0, 0);
    data(&s, 0, 0);
    clock_at(&s, 10101, 0, 0);
    start_at(&s, 1);
    story_end(&s, NULL);
}

static void test_b13_too_young(void **state)
{
    struct story s;
    story_begin(&s);
    clock_at(&s, 100, 0, 0);
    data(&s, 0, 0);
    clock_at(&s, 10100, 0, 0);
    start_at(&s, 1);
    story_end(&s, "B13");
}

static void test_b13_what_is_not_applied(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    start_at(&s, 2);
    story_end(&s, "B13");
}

static void test_b13_served_start_that_no_entry_moved(void **state)
{
    struct story s;
    story_begin(&s);
    data(&s, 0, 0);
    ledger_served(s.ledger, GROUP, 1, 1);
    story_end(&s, "B13");
}

static void test_b13_log_clock_follows_a_jump(void **state)
{
    struct story s;
    story_begin(&s);
    s.world.log_clock_max_ms = 1300;
    clock_at(&s, 1300, 0, 0);
    assert_false(s.world.failed);
    clock_at(&s, 1301, 0, 0);
    story_end(&s, "B13");
}

static void test_b3_idle_clock_runs_fast(void **state)
{
    struct story s;
    story_begin(&s);
    clock_at(&s, 1, 0, 100000);
    s.world.now_us += 100000000;
    clock_at(&s, 2, 100000, 100000);
    assert_false(s.world.failed);
    clock_at(&s, 3, 100000, 100000);
    story_end(&s, "B3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_log_passes),
        cmocka_unit_test(test_the_window_holds_five_and_sequences_wrap),
        cmocka_unit_test(test_r9_acknowledged_behind_a_hole),
        cmocka_unit_test(test_r9_checkpoint_ahead_of_the_log),
        cmocka_unit_test(test_w2_an_entry_changes),
        cmocka_unit_test(test_b5_offset_is_not_the_logs),
        cmocka_unit_test(test_b8_served_above_the_durable_log),
        cmocka_unit_test(test_w4_all_is_kept),
        cmocka_unit_test(test_w4_entry_released_too_early),
        cmocka_unit_test(test_w4_term_forgotten),
        cmocka_unit_test(test_w4_birth_forgotten),
        cmocka_unit_test(test_b11_row_differs),
        cmocka_unit_test(test_b11_row_is_missing),
        cmocka_unit_test(test_b11_producer_expires_by_the_idle_clock),
        cmocka_unit_test(test_b11_clock_differs),
        cmocka_unit_test(test_b13_by_size),
        cmocka_unit_test(test_b13_too_much_by_size),
        cmocka_unit_test(test_b13_by_time),
        cmocka_unit_test(test_b13_too_young),
        cmocka_unit_test(test_b13_what_is_not_applied),
        cmocka_unit_test(test_b13_served_start_that_no_entry_moved),
        cmocka_unit_test(test_b13_log_clock_follows_a_jump),
        cmocka_unit_test(test_b3_idle_clock_runs_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
