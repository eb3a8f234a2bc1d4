/* Each checker is shown a good history, which it must accept, and a made-up bad one, which it must name. A checker that
 * never trips is worth nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "sim_check.h"
#include "sim_ledger.h"
#include "sim_watch.h"

struct story {
    struct sim_world world;
    struct check *check;
};

#define GROUP_A 11u
#define GROUP_B 12u

static void story_begin(struct story *s)
{
    world_init(&s->world, 1);
    s->check = check_new(&s->world);
    check_group_born(s->check, GROUP_A, "a-0");
    check_group_born(s->check, GROUP_B, "b-0");
    check_group_expires(s->check, GROUP_A);
}

/* The story ends with exactly this failure; NULL: none. */
static void story_end(struct story *s, const char *check)
{
    if (check == NULL) {
        assert_false(s->world.failed);
    } else {
        assert_true(s->world.failed);
        assert_string_equal(s->world.failed_check, check);
    }
    check_free(s->check);
    world_done(&s->world);
}

/* Producer 7, epoch 0: a record with this sequence. */
static uint32_t send(struct story *s, uint64_t group, int32_t sequence)
{
    uint32_t id = check_sent(s->check, &(struct check_record){group, 7, 0, sequence, CHECK_ACKS_ALL});
    check_set_crc(s->check, id, 1000 + id);
    return id;
}

static struct check_seen as_sent(uint32_t id, int32_t sequence)
{
    return (struct check_seen){id, 1000 + id, 7, 0, sequence};
}

static void read_at(struct story *s, uint64_t group, int64_t offset, uint32_t id, int32_t sequence)
{
    struct check_seen seen = as_sent(id, sequence);
    check_read(s->check, group, offset, &seen);
}

static void test_good_history_passes(void **state)
{
    struct story s;
    story_begin(&s);
    for (int32_t i = 0; i < 5; i++) {
        uint32_t id = send(&s, GROUP_A, i);
        check_acked(s.check, id, 1, i, true);
        check_resent(s.check, id, 1);
        check_acked(s.check, id, 1, i, true); /* a repeat */
    }
    check_recovered(s.check, GROUP_A, 5);
    for (int32_t i = 0; i < 5; i++) {
        check_batch(s.check, GROUP_A, i, i, 1, i == 0);
        read_at(&s, GROUP_A, i, (uint32_t)i + 1, i);
        read_at(&s, GROUP_A, i, (uint32_t)i + 1, i);
    }
    check_high_watermark(s.check, GROUP_A, 3);
    check_high_watermark(s.check, GROUP_A, 5);
    check_term(s.check, GROUP_A, 1, 1, true);
    check_term(s.check, GROUP_A, 1, 1, true);
    check_term(s.check, GROUP_A, 2, 2, true);
    check_producer(s.check, "p", 7, 0);
    check_producer(s.check, "p", 7, 1);
    check_producer(s.check, "", 8, 0);
    check_complete(s.check, GROUP_A, 0, 5);
    check_complete(s.check, GROUP_B, 0, 0);
    story_end(&s, NULL);
}

static void test_w1_ack_before_durable(void **state)
{
    struct story s;
    story_begin(&s);
    check_acked(s.check, send(&s, GROUP_A, 0), 1, 0, false);
    story_end(&s, "W1");
}

static void test_w2_lost_suffix_after_restart(void **state)
{
    struct story s;
    story_begin(&s);
    check_acked(s.check, send(&s, GROUP_A, 0), 1, 0, true);
    check_acked(s.check, send(&s, GROUP_A, 1), 1, 1, true);
    check_recovered(s.check, GROUP_A, 1);
    story_end(&s, "W2");
}

static void test_w2_record_of_another_group(void **state)
{
    struct story s;
    story_begin(&s);
    read_at(&s, GROUP_B, 0, send(&s, GROUP_A, 0), 0);
    story_end(&s, "W2");
}

static void test_w2_record_nobody_sent(void **state)
{
    struct story s;
    story_begin(&s);
    read_at(&s, GROUP_A, 0, 99, 0);
    story_end(&s, "W2");
}

static void test_w2_wal_entry_of_another_group(void **state)
{
    struct story s;
    story_begin(&s);
    check_entry(s.check, GROUP_B, 2, 1, send(&s, GROUP_A, 0), 1);
    story_end(&s, "W2");
}

static void test_w2_one_index_and_term_two_entries(void **state)
{
    struct story s;
    story_begin(&s);
    check_entry(s.check, GROUP_A, 2, 1, send(&s, GROUP_A, 0), 1);
    check_entry(s.check, GROUP_A, 2, 1, send(&s, GROUP_A, 1), 1);
    story_end(&s, "W2");
}

static void test_r8_term_not_durable(void **state)
{
    struct story s;
    story_begin(&s);
    check_term(s.check, GROUP_A, 3, 1, false);
    story_end(&s, "R8");
}

static void test_r8_two_lives_in_one_term(void **state)
{
    struct story s;
    story_begin(&s);
    check_term(s.check, GROUP_A, 3, 1, true);
    check_term(s.check, GROUP_A, 3, 2, true);
    story_end(&s, "R8");
}

static void test_b1_acknowledged_message_missing(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t id = send(&s, GROUP_A, 0);
    check_acked(s.check, id, 1, 0, true);
    check_acked(s.check, send(&s, GROUP_A, 1), 1, 1, true);
    read_at(&s, GROUP_A, 0, id, 0);
    check_complete(s.check, GROUP_A, 0, 2);
    story_end(&s, "B1");
}

static void test_b1_log_shorter_than_acknowledged(void **state)
{
    struct story s;
    story_begin(&s);
    check_acked(s.check, send(&s, GROUP_A, 0), 1, 0, true);
    check_complete(s.check, GROUP_A, 0, 0);
    story_end(&s, "B1");
}

static void test_b1_acks_leader_without_offset(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t id = check_sent(s.check, &(struct check_record){GROUP_A, -1, -1, -1, CHECK_ACKS_LEADER});
    check_acked(s.check, id, 1, -1, true);
    check_complete(s.check, GROUP_A, 0, 0);
    story_end(&s, "B1");
}

static void test_b1_retention_is_no_loss(void **state)
{
    struct story s;
    story_begin(&s);
    check_acked(s.check, send(&s, GROUP_A, 0), 1, 0, true);
    uint32_t id = send(&s, GROUP_A, 1);
    check_acked(s.check, id, 1, 1, true);
    check_log_start(s.check, GROUP_A, 1);
    read_at(&s, GROUP_A, 1, id, 1);
    check_complete(s.check, GROUP_A, 1, 2);
    story_end(&s, NULL);
}

static void test_b2_refused_message_is_read(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t id = send(&s, GROUP_A, 0);
    check_refused(s.check, id, 1, ERR_BUSY);
    read_at(&s, GROUP_A, 0, id, 0);
    story_end(&s, "B2");
}

static void test_b2_both_attempts_refused(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t id = send(&s, GROUP_A, 0);
    check_resent(s.check, id, 1);
    check_refused(s.check, id, 1, ERR_NOT_READY);
    check_refused(s.check, id, 1, ERR_STORAGE_FULL);
    read_at(&s, GROUP_A, 0, id, 0);
    story_end(&s, "B2");
}

static void test_b2_read_before_it_is_refused(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t id = send(&s, GROUP_A, 0);
    read_at(&s, GROUP_A, 0, id, 0);
    check_refused(s.check, id, 1, ERR_STALE);
    story_end(&s, "B2");
}

static void test_b2_unknown_outcome_is_not_final(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t id = send(&s, GROUP_A, 0);
    check_refused(s.check, id, 1, ERR_TIMEOUT);
    read_at(&s, GROUP_A, 0, id, 0);
    story_end(&s, NULL);
}

/* Producer 7, epoch 0: seven batches of one record, acknowledged, in the ledger too. Returns the first id. */
static uint32_t seven(struct story *s)
{
    for (int32_t i = 0; i < 7; i++) {
        uint32_t id = send(s, GROUP_A, i);
        ledger_durable(check_ledger(s->check), &(struct ledger_entry){.group = GROUP_A,
                                                                      .index = (uint64_t)i + 1,
                                                                      .term = 1,
                                                                      .kind = LEDGER_DATA,
                                                                      .producer_id = 7,
                                                                      .sequence = i,
                                                                      .records_count = 1,
                                                                      .first = id});
        check_acked(s->check, id, 1, i, true);
    }
    return 1;
}

static void test_b5_honest_refusals_of_repeats(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t first = seven(&s);
    check_refused(s.check, first + 1, 1, ERR_STALE); /* two before the window of five */
    check_refused(s.check, first + 6, 1, ERR_BUSY);
    story_end(&s, NULL);
}

static void test_b5_repeat_in_the_window_called_stale(void **state)
{
    struct story s;
    story_begin(&s);
    check_refused(s.check, seven(&s) + 2, 1, ERR_STALE);
    story_end(&s, "B5");
}

static void test_b5_old_repeat_called_a_gap(void **state)
{
    struct story s;
    story_begin(&s);
    check_refused(s.check, seven(&s), 1, ERR_OUT_OF_ORDER);
    story_end(&s, "B5");
}

static void test_b5_repeat_of_a_known_producer_called_unknown(void **state)
{
    struct story s;
    story_begin(&s);
    check_refused(s.check, seven(&s), 1, ERR_UNKNOWN_PRODUCER);
    story_end(&s, "B5");
}

static void test_b5_repeat_fenced_by_nobody(void **state)
{
    struct story s;
    story_begin(&s);
    check_refused(s.check, seven(&s), 1, ERR_FENCED);
    story_end(&s, "B5");
}

static void test_b2_unheard_first_attempt_is_no_failure(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t id = send(&s, GROUP_A, 0);
    check_resent(s.check, id, 1);
    check_refused(s.check, id, 1, ERR_STALE);
    read_at(&s, GROUP_A, 0, id, 0);
    story_end(&s, NULL);
}

static void test_b3_message_at_two_offsets(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t id = send(&s, GROUP_A, 0);
    read_at(&s, GROUP_A, 0, id, 0);
    read_at(&s, GROUP_A, 1, id, 0);
    story_end(&s, "B3");
}

static void test_b4_gap_is_accepted(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t first = send(&s, GROUP_A, 0);
    send(&s, GROUP_A, 1);
    uint32_t third = send(&s, GROUP_A, 2);
    read_at(&s, GROUP_A, 0, first, 0);
    read_at(&s, GROUP_A, 1, third, 2);
    story_end(&s, "B4");
}

static void test_b4_begins_above_zero(void **state)
{
    struct story s;
    story_begin(&s);
    read_at(&s, GROUP_A, 0, send(&s, GROUP_A, 4), 4);
    story_end(&s, "B4");
}

static void test_b4_order_is_swapped(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t ids[3] = {send(&s, GROUP_A, 0), send(&s, GROUP_A, 1), send(&s, GROUP_A, 2)};
    read_at(&s, GROUP_A, 2, ids[1], 1); /* read in any order: judged in order of offsets */
    read_at(&s, GROUP_A, 0, ids[0], 0);
    assert_false(s.world.failed);
    read_at(&s, GROUP_A, 1, ids[2], 2);
    story_end(&s, "B4");
}

static void test_b5_repeat_gets_another_offset(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t id = send(&s, GROUP_A, 0);
    check_acked(s.check, id, 1, 0, true);
    check_acked(s.check, id, 1, 5, true);
    story_end(&s, "B5");
}

static void test_b6_old_epoch_after_new(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t old = send(&s, GROUP_A, 0);
    uint32_t new = check_sent(s.check, &(struct check_record){GROUP_A, 7, 1, 0, CHECK_ACKS_ALL});
    check_set_crc(s.check, new, 1);
    check_read(s.check, GROUP_A, 0, &(struct check_seen){new, 1, 7, 1, 0});
    read_at(&s, GROUP_A, 1, old, 0);
    story_end(&s, "B6");
}

static void test_b6_epoch_is_given_twice(void **state)
{
    struct story s;
    story_begin(&s);
    check_producer(s.check, "p", 7, 1);
    check_producer(s.check, "p", 7, 1);
    story_end(&s, "B6");
}

static void test_b6_answers_of_several_brokers(void **state)
{
    struct story s;
    story_begin(&s);
    int32_t floor = check_epoch(s.check, "p");
    check_producer_since(s.check, "p", 7, 1, floor);
    check_producer_since(s.check, "p", 7, 0, floor); /* overtaken */
    assert_int_equal(check_epoch(s.check, "p"), 1);
    assert_false(s.world.failed);
    check_producer_since(s.check, "p", 7, 1, floor);
    story_end(&s, "B6");
    story_begin(&s);
    check_producer_since(s.check, "p", 7, 4, -1);
    check_producer_since(s.check, "p", 7, 3, check_epoch(s.check, "p"));
    story_end(&s, "B6");
}

static void test_b6_id_is_given_to_two(void **state)
{
    struct story s;
    story_begin(&s);
    check_producer(s.check, "", 7, 0);
    check_producer(s.check, "", 7, 0);
    story_end(&s, "B6");
}

static void test_b6_name_changes_its_id(void **state)
{
    struct story s;
    story_begin(&s);
    check_producer(s.check, "p", 7, 0);
    check_producer(s.check, "p", 8, 0);
    story_end(&s, "B6");
}

static void test_b7_offset_changes_its_message(void **state)
{
    struct story s;
    story_begin(&s);
    uint32_t first = send(&s, GROUP_A, 0), second = send(&s, GROUP_A, 1);
    read_at(&s, GROUP_A, 0, first, 0);
    check_acked(s.check, second, 1, 0, true);
    story_end(&s, "B7");
}

static void test_b7_bytes_change(void **state)
{
    struct story s;
    story_begin(&s);
    struct check_seen seen = as_sent(send(&s, GROUP_A, 0), 0);
    seen.value_crc++;
    check_read(s.check, GROUP_A, 0, &seen);
    story_end(&s, "B7");
}

static void test_b7_hole_between_batches(void **state)
{
    struct story s;
    story_begin(&s);
    check_batch(s.check, GROUP_A, 3, 2, 4, true);
    check_batch(s.check, GROUP_A, 6, 7, 1, false);
    story_end(&s, "B7");
}

static void test_b7_unreadable_below_high_watermark(void **state)
{
    struct story s;
    story_begin(&s);
    read_at(&s, GROUP_A, 0, send(&s, GROUP_A, 0), 0);
    check_complete(s.check, GROUP_A, 0, 2);
    story_end(&s, "B7");
}

static void test_b8_high_watermark_goes_back(void **state)
{
    struct story s;
    story_begin(&s);
    check_high_watermark(s.check, GROUP_A, 5);
    check_high_watermark(s.check, GROUP_A, 4);
    story_end(&s, "B8");
}

static void test_b8_log_start_goes_back(void **state)
{
    struct story s;
    story_begin(&s);
    check_log_start(s.check, GROUP_A, 5);
    check_log_start(s.check, GROUP_A, 4);
    story_end(&s, "B8");
}

static void test_b13_log_start_moves_without_retention(void **state)
{
    struct story s;
    story_begin(&s);
    check_log_start(s.check, GROUP_B, 1);
    story_end(&s, "B13");
}

static void test_w6_group_id_is_reused(void **state)
{
    struct story s;
    story_begin(&s);
    check_group_deleted(s.check, GROUP_A);
    check_group_born(s.check, GROUP_A, "c-0");
    story_end(&s, "W6");
}

/* --- S7: three records applied at indexes 2, 3, 4 and offsets 0, 1, 2 --- */

static void applied_story(struct story *s)
{
    story_begin(s);
    for (int32_t i = 0; i < 3; i++) {
        uint32_t id = send(s, GROUP_A, i);
        check_acked(s->check, id, 1, i, true);
        check_entry(s->check, GROUP_A, (uint64_t)i + 2, 1, id, 1);
    }
}

static const struct check_image_segment good_segment = {0, 2, NULL};
static const struct check_image_done good_done = {7, 0, 1, 1};
static const struct check_image good_image = {.group = GROUP_A,
                                              .applied_index = 3,
                                              .next_offset = 2,
                                              .segments = &good_segment,
                                              .segments_count = 1,
                                              .done = &good_done,
                                              .done_count = 1};

static void test_s7_good_image_passes(void **state)
{
    struct story s;
    applied_story(&s);
    check_image(s.check, &good_image);
    story_end(&s, NULL);
}

static void test_s7_repeat_that_apply_refused_passes(void **state)
{
    struct story s;
    applied_story(&s);
    check_entry(s.check, GROUP_A, 5, 1, 1, 1); /* message 1 once more */
    check_image(s.check, &good_image);
    story_end(&s, NULL);
}

static void image_trips(struct check_image image)
{
    struct story s;
    applied_story(&s);
    check_image(s.check, &image);
    story_end(&s, "S7");
}

static void test_s7_applied_index_runs_ahead(void **state)
{
    struct check_image image = good_image;
    image.applied_index = 4;
    image_trips(image);
}

static void test_s7_applied_index_lags(void **state)
{
    struct check_image image = good_image;
    image.applied_index = 2;
    image_trips(image);
}

static void test_s7_done_table_lags_or_is_missing(void **state)
{
    struct check_image image = good_image;
    image.done_count = 0;
    image_trips(image);
    struct check_image_done old = {7, 0, 0, 0};
    image.done = &old;
    image.done_count = 1;
    image_trips(image);
}

static void test_s7_done_table_runs_ahead(void **state)
{
    struct check_image image = good_image;
    struct check_image_done ahead = {7, 0, 2, 2};
    image.done = &ahead;
    image_trips(image);
}

static void test_s7_segment_bytes_are_not_durable(void **state)
{
    struct check_image image = good_image;
    struct check_image_segment segment = {0, 2, "no file"};
    image.segments = &segment;
    image_trips(image);
}

static void test_s7_manifest_ends_elsewhere_or_has_a_hole(void **state)
{
    struct check_image image = good_image;
    struct check_image_segment segments[2] = {{0, 1, NULL}, {1, 3, NULL}};
    image.segments = segments;
    image.segments_count = 2;
    image_trips(image);
    segments[1] = (struct check_image_segment){2, 2, NULL};
    image_trips(image);
    image.segments_count = 0;
    image_trips(image);
}

/* --- W7, S11 --- */

static void test_w7_rot_elsewhere(void **state)
{
    struct story s;
    story_begin(&s);
    check_corrupt(s.check, GROUP_B); /* no address: all may be */
    check_rot_has_address(s.check);
    check_may_be_damaged(s.check, GROUP_A);
    check_corrupt(s.check, GROUP_A);
    assert_false(s.world.failed);
    check_corrupt(s.check, GROUP_B);
    story_end(&s, "W7");
}

static void test_s11_same_state_after_restarts(void **state)
{
    struct story s;
    story_begin(&s);
    const struct check_image_done done = {7, 0, 4, 4};
    struct check_image image = {.group = GROUP_B, .next_offset = 5, .done = &done, .done_count = 1};
    check_resting(s.check, &image);
    image.applied_index = 9; /* each start adds a LEADER entry */
    check_resting(s.check, &image);
    story_end(&s, NULL);
}

static void test_s11_log_end_or_done_table_differ(void **state)
{
    for (int what = 0; what < 3; what++) {
        struct story s;
        story_begin(&s);
        struct check_image_done done = {7, 0, 4, 4};
        struct check_image image = {.group = GROUP_B, .next_offset = 5, .done = &done, .done_count = 1};
        check_resting(s.check, &image);
        done.last_sequence += what == 0;
        image.next_offset -= what == 1;
        image.log_start += what == 2;
        check_resting(s.check, &image);
        story_end(&s, "S11");
    }
}

/* --- the watch --- */

static const struct watch_facts good_facts = {.memory_bytes = 10,
                                              .memory_budget_bytes = 1 << 20,
                                              .inflight_bytes = 10,
                                              .inflight_budget_bytes = 1 << 20,
                                              .wal_used_bytes = 3 << 20,
                                              .wal_budget_bytes = 4 << 20,
                                              .wal_file_bytes = 1 << 20};

/* These facts, and `seconds` later the same again. */
static void watch_trips(struct watch_facts facts, uint64_t seconds, const char *check)
{
    struct story s;
    struct watch watch;
    story_begin(&s);
    watch_init(&watch, &s.world);
    watch_new_life(&watch);
    watch_look(&watch, &facts);
    s.world.now_us += seconds * 1000000;
    watch_look(&watch, &facts);
    story_end(&s, check);
}

static void test_watch_good_facts_pass(void **state)
{
    struct watch_facts facts = good_facts;
    watch_trips(facts, 1000, NULL);
    facts.is_at_rest = true;
    watch_trips(facts, 0, NULL);
    facts.sync_failed = true;
    watch_trips(facts, 29, NULL);
}

static void test_b15_memory_above_its_budget(void **state)
{
    struct watch_facts facts = good_facts;
    facts.memory_bytes = 30 << 20;
    watch_trips(facts, 0, "B15");
    facts = good_facts;
    facts.inflight_bytes = 3 << 20;
    watch_trips(facts, 0, "B15");
}

static void test_w4_wal_above_its_budget_or_pinned(void **state)
{
    struct watch_facts facts = good_facts;
    facts.wal_used_bytes = 9 << 20;
    watch_trips(facts, 0, "W4");
    facts.wal_used_bytes = 5 << 20;
    watch_trips(facts, 0, NULL);
    facts.is_at_rest = true;
    watch_trips(facts, 0, "W4");
}

static void test_s1_failed_sync_and_alive(void **state)
{
    struct watch_facts facts = good_facts;
    facts.sync_failed = true;
    watch_trips(facts, 31, "S1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_history_passes),
        cmocka_unit_test(test_w1_ack_before_durable),
        cmocka_unit_test(test_w2_lost_suffix_after_restart),
        cmocka_unit_test(test_w2_record_of_another_group),
        cmocka_unit_test(test_w2_record_nobody_sent),
        cmocka_unit_test(test_w2_wal_entry_of_another_group),
        cmocka_unit_test(test_w2_one_index_and_term_two_entries),
        cmocka_unit_test(test_r8_term_not_durable),
        cmocka_unit_test(test_r8_two_lives_in_one_term),
        cmocka_unit_test(test_b1_acknowledged_message_missing),
        cmocka_unit_test(test_b1_log_shorter_than_acknowledged),
        cmocka_unit_test(test_b1_acks_leader_without_offset),
        cmocka_unit_test(test_b1_retention_is_no_loss),
        cmocka_unit_test(test_w7_rot_elsewhere),
        cmocka_unit_test(test_s11_same_state_after_restarts),
        cmocka_unit_test(test_s11_log_end_or_done_table_differ),
        cmocka_unit_test(test_watch_good_facts_pass),
        cmocka_unit_test(test_b15_memory_above_its_budget),
        cmocka_unit_test(test_w4_wal_above_its_budget_or_pinned),
        cmocka_unit_test(test_s1_failed_sync_and_alive),
        cmocka_unit_test(test_b2_both_attempts_refused),
        cmocka_unit_test(test_b2_read_before_it_is_refused),
        cmocka_unit_test(test_b2_unknown_outcome_is_not_final),
        cmocka_unit_test(test_b5_honest_refusals_of_repeats),
        cmocka_unit_test(test_b5_repeat_in_the_window_called_stale),
        cmocka_unit_test(test_b5_old_repeat_called_a_gap),
        cmocka_unit_test(test_b5_repeat_of_a_known_producer_called_unknown),
        cmocka_unit_test(test_b5_repeat_fenced_by_nobody),
        cmocka_unit_test(test_b2_refused_message_is_read),
        cmocka_unit_test(test_b2_unheard_first_attempt_is_no_failure),
        cmocka_unit_test(test_b3_message_at_two_offsets),
        cmocka_unit_test(test_b4_gap_is_accepted),
        cmocka_unit_test(test_b4_begins_above_zero),
        cmocka_unit_test(test_b4_order_is_swapped),
        cmocka_unit_test(test_b5_repeat_gets_another_offset),
        cmocka_unit_test(test_b6_old_epoch_after_new),
        cmocka_unit_test(test_b6_epoch_is_given_twice),
        cmocka_unit_test(test_b6_answers_of_several_brokers),
        cmocka_unit_test(test_b6_id_is_given_to_two),
        cmocka_unit_test(test_b6_name_changes_its_id),
        cmocka_unit_test(test_b7_offset_changes_its_message),
        cmocka_unit_test(test_b7_bytes_change),
        cmocka_unit_test(test_b7_hole_between_batches),
        cmocka_unit_test(test_b7_unreadable_below_high_watermark),
        cmocka_unit_test(test_b8_high_watermark_goes_back),
        cmocka_unit_test(test_b8_log_start_goes_back),
        cmocka_unit_test(test_b13_log_start_moves_without_retention),
        cmocka_unit_test(test_w6_group_id_is_reused),
        cmocka_unit_test(test_s7_good_image_passes),
        cmocka_unit_test(test_s7_repeat_that_apply_refused_passes),
        cmocka_unit_test(test_s7_applied_index_runs_ahead),
        cmocka_unit_test(test_s7_applied_index_lags),
        cmocka_unit_test(test_s7_done_table_lags_or_is_missing),
        cmocka_unit_test(test_s7_done_table_runs_ahead),
        cmocka_unit_test(test_s7_segment_bytes_are_not_durable),
        cmocka_unit_test(test_s7_manifest_ends_elsewhere_or_has_a_hole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
