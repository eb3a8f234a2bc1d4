/* The log at work: what is durable when, group commit, rolls, recycling, release, room, failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "wal_bench.h"

static const uint64_t one[] = {1};

static struct bench *open_bench(void)
{
    struct bench *b = bench_new(1);
    assert_int_equal(bench_open(b), OK);
    return b;
}

static struct wal_stats stats_of(const struct bench *b)
{
    struct wal_stats stats;
    wal_stats(b->wal, &stats);
    return stats;
}

static void test_nothing_is_durable_before_its_sync(void **state)
{
    struct bench *b = open_bench();
    assert_int_equal(wal_next_lsn(b->wal), WAL__FIRST_LSN);
    uint64_t lsn = bench_append(b, 1, 1, 100);
    assert_int_equal(lsn, WAL__FIRST_LSN);
    assert_true(wal_pending_bytes(b->wal) >= 100);
    wal_disk_pump(&b->d);
    assert_int_equal(b->d.jobs_count[DISK_LANE_WAL], 0); /* append alone writes nothing */
    wal_flush(b->wal);
    assert_int_equal(b->persisted_calls, 0);
    assert_int_equal(wal_durable_lsn(b->wal), lsn);
    assert_true(wal_disk_step(&b->d, DISK_LANE_WAL));
    assert_int_equal(b->persisted_calls, 1);
    assert_int_equal(b->persisted_lsn, lsn + WAL_BLOCK_BYTES);
    assert_int_equal(wal_durable_lsn(b->wal), lsn + WAL_BLOCK_BYTES);
    assert_int_equal(wal_pending_bytes(b->wal), 0);
    bench_free(b);
}

static void test_while_one_batch_syncs_the_next_gathers(void **state)
{
    struct bench *b = open_bench();
    bench_append(b, 1, 1, 100);
    wal_flush(b->wal);
    uint64_t lsn = bench_append(b, 1, 2, 100);
    for (uint64_t group = 2; group < 50; group++) {
        assert_int_equal(bench_append(b, group, 1, 100), lsn);
        wal_flush(b->wal);
    }
    assert_int_equal(b->d.jobs_count[DISK_LANE_WAL], 1);
    assert_int_equal(wal_next_lsn(b->wal), lsn);
    assert_true(wal_disk_step(&b->d, DISK_LANE_WAL));
    assert_int_equal(b->persisted_lsn, lsn);
    assert_int_equal(b->d.jobs_count[DISK_LANE_WAL], 1); /* sent off right away */
    uint64_t syncs = b->d.syncs;
    assert_true(wal_disk_step(&b->d, DISK_LANE_WAL));
    assert_int_equal(b->d.syncs, syncs + 1); /* one for all groups */
    assert_int_equal(wal_pending_bytes(b->wal), 0);
    assert_int_equal(stats_of(b).batches, 2);
    assert_int_equal(stats_of(b).records, 50);
    bench_free(b);
}

static void test_payload_is_held_until_done_and_no_longer(void **state)
{
    struct bench *b = open_bench();
    struct buf *payload = buf_new(100);
    memset(payload->data, 5, 100);
    struct wal_record record = {.type = WAL_ENTRY, .group = 1, .index = 1, .payload = slice_of(payload, 0, 100)};
    wal_append(b->wal, &record);
    assert_int_equal(payload->refs, 3);
    wal_flush(b->wal);
    assert_int_equal(payload->refs, 3);
    wal_disk_step(&b->d, DISK_LANE_WAL);
    assert_int_equal(payload->refs, 2);
    wal_append(b->wal, &record);
    bench_close(b); /* drops what was only gathered */
    assert_int_equal(payload->refs, 2);
    slice_unref(&record.payload);
    buf_unref(payload);
    bench_free(b);
}

static void test_borrowed_payload_is_copied(void **state)
{
    struct bench *b = open_bench();
    uint8_t bytes[50];
    memset(bytes, 'x', sizeof bytes);
    struct wal_record record = {.type = WAL_GROUP_NEW, .group = 4, .payload = {.data = bytes, .size = sizeof bytes}};
    wal_append(b->wal, &record);
    memset(bytes, 'y', sizeof bytes);
    bench_settle(b);
    bench_reopen(b);
    assert_int_equal(b->seen_count, 1);
    memset(bytes, 'x', sizeof bytes);
    assert_int_equal(b->seen[0].payload_crc, crc32c(0, bytes, sizeof bytes));
    bench_free(b);
}

static void test_batches_are_bounded_and_keep_their_order(void **state)
{
    struct bench *b = open_bench();
    struct buf *payload = buf_new(12u << 20);
    memset(payload->data, 5, payload->size);
    struct wal_record record = {.type = WAL_ENTRY, .group = 1, .payload = slice_of(payload, 0, payload->size)};
    uint64_t lsns[7];
    for (unsigned i = 0; i < 7; i++) {
        record.index = i + 1;
        lsns[i] = wal_append(b->wal, &record);
    }
    for (unsigned i = 1; i < 7; i++) { /* each is larger than a file, and stands alone */
        assert_int_equal(lsns[i], lsns[i - 1] + (12u << 20) + WAL_BLOCK_BYTES);
    }
    assert_int_equal(payload->refs, 9);
    bench_settle(b);
    assert_int_equal(stats_of(b).batches, 7);
    assert_int_equal(payload->refs, 2);
    slice_unref(&record.payload);
    buf_unref(payload);
    bench_reopen(b);
    assert_int_equal(b->seen_count, 7);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(b->seen[i].index, i + 1);
        assert_int_equal(b->seen[i].lsn, lsns[i]);
    }
    assert_int_equal(b->damaged_count, 0);
    bench_free(b);
}

static void test_idleness_is_ended_by_one_empty_batch(void **state)
{
    struct bench *b = open_bench();
    bench_settle(b); /* the spares are made */
    assert_int_equal(wal_deadline_us(b->wal), UINT64_MAX);
    bench_commit(b, one, 1, 1, 100);
    bench_settle(b);
    uint64_t deadline_us = wal_deadline_us(b->wal);
    assert_int_equal(deadline_us, b->d.now_us + WAL_VOUCH_IDLE_US);
    wal_tick(b->wal, deadline_us - 1);
    assert_int_equal(b->d.jobs_count[DISK_LANE_WAL], 0);
    b->d.now_us = deadline_us;
    wal_tick(b->wal, deadline_us);
    assert_true(wal_pending_bytes(b->wal) > 0); /* a close must wait for it */
    assert_true(wal_disk_step(&b->d, DISK_LANE_WAL));
    assert_int_equal(stats_of(b).batches, 2);
    assert_int_equal(b->persisted_calls, 1); /* no record became durable by it */
    assert_int_equal(wal_deadline_us(b->wal), UINT64_MAX);
    bench_reopen(b);
    assert_int_equal(b->seen_count, 1);
    bench_free(b);
}

static void test_work_takes_the_place_of_the_empty_batch(void **state)
{
    struct bench *b = open_bench();
    bench_settle(b);
    bench_commit(b, one, 1, 1, 100);
    bench_append(b, 1, 2, 100);
    wal_tick(b->wal, wal_deadline_us(b->wal)); /* gathered, not flushed: nothing to do for the tick */
    assert_int_equal(b->d.jobs_count[DISK_LANE_WAL], 0);
    wal_flush(b->wal);
    assert_int_equal(wal_deadline_us(b->wal), UINT64_MAX);
    bench_settle(b);
    assert_int_equal(stats_of(b).batches, 2);
    bench_free(b);
}

static void test_two_spares_are_zero_filled_ahead(void **state)
{
    struct bench *b = open_bench();
    assert_int_equal(bench_files(b), 3); /* opening sets blocks aside and does not wait for the zeros */
    assert_int_equal(wal_disk_find(&b->d, "wal/00000001.wal")->reserved, BENCH_FILE_BYTES);
    assert_int_equal(stats_of(b).spare_files, 0);
    bench_settle(b);
    assert_int_equal(bench_files(b), 3);
    assert_int_equal(stats_of(b).spare_files, 2);
    assert_int_equal(wal_disk_find(&b->d, "wal/00000001.wal")->size, BENCH_FILE_BYTES);
    assert_int_equal(wal_disk_find(&b->d, "wal/00000001.wal")->synced_size, BENCH_FILE_BYTES);
    bench_close(b);
    wal_disk_power_cut(&b->d, WAL_DISK_LOSE);
    assert_int_equal(bench_files(b), 3); /* their names are on the disk too */
    assert_int_equal(bench_open(b), OK);
    assert_int_equal(stats_of(b).spare_files, 2); /* the empty file of the first boot is used again */
    assert_int_equal(bench_files(b), 3);
    bench_free(b);
}

/* Fills the current file until the log rolls once. */
static void roll_once(struct bench *b, uint64_t *index)
{
    uint64_t rolls = stats_of(b).rolls;
    while (stats_of(b).rolls == rolls) {
        bench_commit(b, one, 1, (*index)++, 8000);
    }
}

static void test_roll_takes_a_ready_spare(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    bench_settle(b);
    uint64_t used_bytes = wal_used_bytes(b->wal);
    assert_int_equal(wal_oldest_end_lsn(b->wal), UINT64_MAX);
    roll_once(b, &index);
    assert_int_equal(stats_of(b).spare_files, 1);
    assert_true(wal_used_bytes(b->wal) > used_bytes);
    assert_true(wal_oldest_end_lsn(b->wal) < wal_durable_lsn(b->wal));
    bench_settle(b);
    assert_int_equal(stats_of(b).spare_files, 2); /* another one was made */
    bench_reopen(b);
    assert_int_equal(b->seen_count, index - 1);
    bench_free(b);
}

static void test_roll_without_a_spare_does_not_wait(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    for (int i = 0; i < 5; i++) { /* the store lane never runs */
        roll_once(b, &index);
    }
    assert_int_equal(stats_of(b).spare_files, 0);
    assert_int_equal(stats_of(b).recycled_files, 0);
    bench_reopen(b);
    assert_int_equal(b->seen_count, index - 1);
    bench_free(b);
}

static void test_batch_larger_than_a_file_makes_it_longer(void **state)
{
    struct bench *b = open_bench();
    bench_commit(b, one, 1, 1, 100);
    bench_commit(b, one, 1, 2, 3 * BENCH_FILE_BYTES);
    bench_commit(b, one, 1, 3, 100);
    bench_reopen(b);
    assert_int_equal(b->seen_count, 3);
    assert_int_equal(b->seen[1].payload_crc, bench_payload_crc(1, 2, 3 * BENCH_FILE_BYTES));
    bench_commit(b, one, 1, 4, 3 * BENCH_FILE_BYTES); /* the first of its file */
    bench_reopen(b);
    assert_int_equal(b->seen_count, 4);
    assert_int_equal(b->damaged_count, 0);
    bench_free(b);
}

static void test_release_frees_whole_files_behind_the_oldest_record(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    bench_settle(b);
    roll_once(b, &index);
    roll_once(b, &index);
    bench_settle(b);
    uint64_t first_end = wal_oldest_end_lsn(b->wal);
    uint64_t used_bytes = wal_used_bytes(b->wal);
    wal_release(b->wal, first_end - 1);
    assert_int_equal(wal_used_bytes(b->wal), used_bytes);
    wal_release(b->wal, first_end);
    assert_true(wal_used_bytes(b->wal) < used_bytes);
    assert_true(wal_oldest_end_lsn(b->wal) > first_end);
    wal_release(b->wal, wal_next_lsn(b->wal)); /* all, but never the file written to */
    assert_int_equal(wal_oldest_end_lsn(b->wal), UINT64_MAX);
    assert_true(wal_used_bytes(b->wal) > 0);
    bench_free(b);
}

static void test_release_waits_for_what_was_appended_before(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    bench_settle(b);
    roll_once(b, &index);
    uint64_t end_lsn = wal_oldest_end_lsn(b->wal);
    bench_append(b, 1, index++, 100); /* again, because the release drops the original */
    wal_release(b->wal, end_lsn);
    assert_int_equal(wal_oldest_end_lsn(b->wal), end_lsn);
    wal_flush(b->wal);
    bench_append(b, 1, index++, 100); /* later work does not hold it up */
    wal_release(b->wal, end_lsn);
    assert_int_equal(wal_oldest_end_lsn(b->wal), end_lsn);
    wal_disk_step(&b->d, DISK_LANE_WAL);
    assert_int_equal(wal_oldest_end_lsn(b->wal), UINT64_MAX);
    bench_settle(b);
    bench_free(b);
}

static void test_released_files_are_recycled_and_their_records_gone(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    bench_settle(b);
    for (int i = 0; i < 20; i++) {
        roll_once(b, &index);
        bench_settle(b);
        wal_release(b->wal, wal_next_lsn(b->wal));
    }
    assert_in_range(bench_files(b), 3, 5);
    assert_true(stats_of(b).recycled_files >= 17);
    uint64_t released_lsn = wal_next_lsn(b->wal);
    bench_commit(b, one, 1, index, 100);
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 0);
    assert_int_equal(b->seen[b->seen_count - 1].index, index);
    assert_true(b->seen_count <= 16); /* the last two files: the newest header cannot know of a later release */
    assert_true(b->seen[0].lsn < released_lsn);
    bench_free(b);
}

static void test_budget_asks_for_release_and_removes_spares_beyond_it(void **state)
{
    struct bench *b = bench_new(1);
    uint64_t index = 1;
    b->budget_bytes = 6 * BENCH_FILE_BYTES;
    assert_int_equal(bench_open(b), OK);
    bench_settle(b);
    assert_false(wal_wants_release(b->wal));
    for (int i = 0; i < 9; i++) {
        roll_once(b, &index);
        bench_settle(b);
    }
    assert_true(wal_wants_release(b->wal));
    assert_int_equal(bench_files(b), 12);
    wal_release(b->wal, wal_next_lsn(b->wal));
    assert_false(wal_wants_release(b->wal));
    bench_settle(b);
    assert_int_equal(bench_files(b), 10); /* the never used ones; nothing on disk says yet that others may go */
    roll_once(b, &index);
    bench_settle(b);
    assert_int_equal(bench_files(b), 6);
    bench_close(b);
    wal_disk_power_cut(&b->d, WAL_DISK_TEAR); /* any of the removals may be undone */
    assert_int_equal(bench_open(b), OK);
    assert_int_equal(b->damaged_count, 0);
    assert_true(bench_saw(b, 1, index - 1));
    bench_free(b);
}

static void test_failed_sync_is_final(void **state)
{
    struct bench *b = open_bench();
    bench_settle(b);
    bench_commit(b, one, 1, 1, 100);
    uint64_t durable_lsn = wal_durable_lsn(b->wal);
    bench_append(b, 1, 2, 100);
    wal_flush(b->wal);
    bench_append(b, 1, 3, 100);
    b->d.fail_syncs_in = 1;
    wal_disk_step(&b->d, DISK_LANE_WAL);
    assert_int_equal(b->failed_calls, 1);
    assert_int_equal(b->failed_error, ERR_IO);
    bench_append(b, 1, 4, 100);
    wal_flush(b->wal);
    wal_tick(b->wal, b->d.now_us + 1000000);
    wal_disk_pump(&b->d);
    assert_int_equal(b->persisted_calls, 1);
    assert_int_equal(b->failed_calls, 1);
    assert_int_equal(wal_durable_lsn(b->wal), durable_lsn);
    assert_int_equal(wal_deadline_us(b->wal), UINT64_MAX);
    bench_close(b);
    wal_disk_power_cut(&b->d, WAL_DISK_LOSE);
    assert_int_equal(bench_open(b), OK);
    assert_int_equal(b->seen_count, 1);
    bench_free(b);
}

/* Whichever call of a roll fails, the failure is reported and nothing leaks (the sanitizer looks). */
static void test_any_failed_call_of_a_roll_is_final(void **state)
{
    for (uint64_t call = 1; call <= 5; call++) {
        struct bench *b = open_bench();
        uint64_t index = 1;
        while (wal_durable_lsn(b->wal) < BENCH_FILE_BYTES - 8192) {
            bench_commit(b, one, 1, index++, 4000);
        }
        bench_append(b, 1, index, 20000);
        wal_flush(b->wal);
        b->d.crash_at = b->d.calls + call;
        wal_disk_step(&b->d, DISK_LANE_WAL);
        assert_int_equal(b->failed_calls, 1);
        bench_free(b);
    }
}

static void test_full_disk_is_noticed_while_spares_are_left(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    b->d.room_bytes = 3 * BENCH_FILE_BYTES;
    bench_settle(b);
    assert_false(wal_disk_full(b->wal));
    roll_once(b, &index);
    bench_settle(b);
    assert_true(wal_disk_full(b->wal)); /* one spare is left for what must go on */
    assert_int_equal(b->failed_calls, 0);
    b->d.now_us = wal_deadline_us(b->wal);
    wal_tick(b->wal, b->d.now_us); /* the voucher */
    bench_settle(b);
    uint64_t deadline_us = wal_deadline_us(b->wal);
    assert_true(deadline_us > b->d.now_us && deadline_us != UINT64_MAX);
    b->d.room_bytes = 10 * BENCH_FILE_BYTES;
    bench_settle(b);
    assert_true(wal_disk_full(b->wal)); /* not tried again before its time */
    while (wal_disk_full(b->wal)) {
        b->d.now_us = wal_deadline_us(b->wal);
        assert_true(b->d.now_us <= deadline_us);
        wal_tick(b->wal, b->d.now_us);
        wal_disk_pump(&b->d);
    }
    bench_settle(b);
    assert_int_equal(stats_of(b).spare_files, 2);
    bench_free(b);
}

static void test_release_ends_a_full_disk(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    b->d.room_bytes = 3 * BENCH_FILE_BYTES;
    bench_settle(b);
    roll_once(b, &index);
    bench_settle(b);
    assert_true(wal_disk_full(b->wal));
    wal_release(b->wal, wal_next_lsn(b->wal));
    bench_settle(b);
    assert_false(wal_disk_full(b->wal));
    for (int i = 0; i < 10; i++) {
        roll_once(b, &index);
        wal_release(b->wal, wal_next_lsn(b->wal));
        bench_settle(b);
    }
    assert_int_equal(b->failed_calls, 0);
    bench_free(b);
}

static void test_close_while_a_spare_is_filled(void **state)
{
    struct bench *b = open_bench();
    wal_flush(b->wal);
    assert_int_equal(b->d.jobs_count[DISK_LANE_STORE], 1);
    wal_close(b->wal);
    b->wal = NULL;
    wal_disk_pump(&b->d);
    assert_int_equal(b->d.open_handles, 0);
    bench_free(b);
}

static void test_a_failed_spare_is_written_again_from_the_start(void **state)
{
    struct bench *b = open_bench();
    wal_flush(b->wal);
    b->d.fail_syncs_in = 1;
    while (wal_disk_step(&b->d, DISK_LANE_STORE)) {
    }
    assert_int_equal(b->failed_calls, 0);
    assert_int_equal(stats_of(b).spare_files, 0);
    assert_false(wal_disk_full(b->wal));
    wal_flush(b->wal); /* notes the time */
    uint64_t writes = b->d.writes;
    b->d.now_us = wal_deadline_us(b->wal);
    wal_tick(b->wal, b->d.now_us);
    wal_disk_pump(&b->d);
    assert_int_equal(b->d.writes, writes + 1);
    assert_int_equal(stats_of(b).spare_files, 1);
    bench_settle(b);
    assert_int_equal(stats_of(b).spare_files, 2);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_durable_before_its_sync),
        cmocka_unit_test(test_while_one_batch_syncs_the_next_gathers),
        cmocka_unit_test(test_payload_is_held_until_done_and_no_longer),
        cmocka_unit_test(test_borrowed_payload_is_copied),
        cmocka_unit_test(test_batches_are_bounded_and_keep_their_order),
        cmocka_unit_test(test_idleness_is_ended_by_one_empty_batch),
        cmocka_unit_test(test_work_takes_the_place_of_the_empty_batch),
        cmocka_unit_test(test_two_spares_are_zero_filled_ahead),
        cmocka_unit_test(test_roll_takes_a_ready_spare),
        cmocka_unit_test(test_roll_without_a_spare_does_not_wait),
        cmocka_unit_test(test_batch_larger_than_a_file_makes_it_longer),
        cmocka_unit_test(test_release_frees_whole_files_behind_the_oldest_record),
        cmocka_unit_test(test_release_waits_for_what_was_appended_before),
        cmocka_unit_test(test_released_files_are_recycled_and_their_records_gone),
        cmocka_unit_test(test_budget_asks_for_release_and_removes_spares_beyond_it),
        cmocka_unit_test(test_failed_sync_is_final),
        cmocka_unit_test(test_any_failed_call_of_a_roll_is_final),
        cmocka_unit_test(test_full_disk_is_noticed_while_spares_are_left),
        cmocka_unit_test(test_release_ends_a_full_disk),
        cmocka_unit_test(test_close_while_a_spare_is_filled),
        cmocka_unit_test(test_a_failed_spare_is_written_again_from_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
