/* The log on a full disk: the reserve, writes that wait for room, and starts without any. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wal_bench.h"

static const uint64_t one[] = {1};

static struct bench *open_bench(void)
{
    struct bench *b = bench_new(1);
    assert_int_equal(bench_open(b), OK);
    return b;
}

/* From now on nobody else gives or takes anything. */
static void fill_disk(struct bench *b)
{
    b->d.room_bytes = wal_disk_bytes(&b->d);
}

static void pass_time(struct bench *b, uint64_t us)
{
    for (uint64_t end_us = b->d.now_us + us; b->d.now_us < end_us; b->d.now_us += 100000) {
        wal_tick(b->wal, b->d.now_us);
        bench_settle(b);
    }
}

static void check_all(struct bench *b, uint64_t count)
{
    b->d.room_bytes = UINT64_MAX / 2;
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 0);
    assert_int_equal(b->seen_count, count);
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(b->seen[i].index, i + 1);
    }
}

static void test_the_reserve_is_there_before_a_byte_was_written(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    fill_disk(b); /* opened, and not a single zero of a spare written */
    while (wal_has_room(b->wal, 0, 4096)) {
        bench_commit(b, one, 1, index++, 4000);
        bench_settle(b);
    }
    assert_true(index > 8);
    assert_true(wal_disk_full(b->wal));
    for (uint64_t end = index + 10; index < end;) { /* what must go on */
        bench_commit(b, one, 1, index++, 100);
    }
    assert_false(wal_is_stalled(b->wal));
    assert_int_equal(b->failed_calls, 0);
    check_all(b, index - 1);
    bench_free(b);
}

static void test_room_never_counts_the_reserve(void **state)
{
    struct bench *b = open_bench();
    fill_disk(b);
    uint64_t index = 1;
    assert_true(wal_has_room(b->wal, BENCH_FILE_BYTES, 10000));
    assert_false(wal_has_room(b->wal, BENCH_FILE_BYTES, 30000));
    bench_append(b, 1, index++, 20000);
    assert_false(wal_has_room(b->wal, BENCH_FILE_BYTES, 10000)); /* what is gathered counts at once */
    while (wal_has_room(b->wal, 0, 4096)) {
        bench_commit(b, one, 1, index++, 4000);
        bench_settle(b);
    }
    for (uint64_t end = index + 6; index < end;) { /* what must go on */
        bench_commit(b, one, 1, index++, 4000);
    }
    assert_false(wal_is_stalled(b->wal));
    bench_free(b);
}

static void test_a_write_without_room_waits_for_it(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    fill_disk(b);
    while (!wal_is_stalled(b->wal)) { /* a careless owner */
        bench_append(b, 1, index++, 30000);
        bench_settle(b);
    }
    assert_true(wal_disk_full(b->wal));
    bench_append(b, 1, index++, 100);
    uint64_t durable_lsn = wal_durable_lsn(b->wal);
    pass_time(b, 3000000);
    assert_true(wal_is_stalled(b->wal));
    assert_int_equal(wal_durable_lsn(b->wal), durable_lsn);
    b->d.room_bytes += 10 * BENCH_FILE_BYTES;
    pass_time(b, 3000000);
    assert_false(wal_is_stalled(b->wal));
    assert_false(wal_disk_full(b->wal));
    assert_int_equal(wal_pending_bytes(b->wal), 0);
    assert_int_equal(b->failed_calls, 0);
    check_all(b, index - 1);
    bench_free(b);
}

static void test_a_stalled_log_can_be_closed(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    fill_disk(b);
    while (!wal_is_stalled(b->wal)) {
        bench_append(b, 1, index++, 30000);
        bench_settle(b);
    }
    bench_append(b, 1, index, 30000);
    bench_close(b);
    bench_free(b);
}

/* Each start takes a file and writes a little; nobody releases anything. */
static void test_any_number_of_starts_on_a_full_disk(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    bench_settle(b);
    fill_disk(b);
    while (wal_has_room(b->wal, 0, 4096)) {
        bench_commit(b, one, 1, index++, 4000);
        bench_settle(b);
    }
    for (int i = 0; i < 4; i++) { /* of the 64 KiB of the reserve, each takes 12 */
        bench_reopen(b);
        assert_int_equal(b->seen_count, index - 1);
        assert_true(wal_disk_full(b->wal) || wal_has_room(b->wal, 0, 1));
        bench_commit(b, one, 1, index++, 100);
        bench_settle(b);
        assert_false(wal_is_stalled(b->wal));
    }
    bench_close(b);
    wal_disk_power_cut(&b->d, WAL_DISK_TEAR);
    assert_int_equal(bench_open(b), OK);
    check_all(b, index - 1);
    bench_free(b);
}

static void test_released_files_end_it_after_a_start(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    bench_settle(b);
    fill_disk(b);
    while (wal_has_room(b->wal, 0, 4096)) {
        bench_commit(b, one, 1, index++, 4000);
        bench_settle(b);
    }
    bench_reopen(b);
    wal_release(b->wal, wal_next_lsn(b->wal));
    pass_time(b, 3000000);
    assert_false(wal_disk_full(b->wal));
    assert_true(wal_has_room(b->wal, 20000, BENCH_FILE_BYTES / 2));
    bench_free(b);
}

static void test_large_budgets_have_a_large_reserve(void **state)
{
    struct bench *b = bench_new(1);
    b->budget_bytes = 40 * BENCH_FILE_BYTES; /* an eighth of it: five files, and one for the next roll */
    assert_int_equal(bench_open(b), OK);
    assert_int_equal(bench_files(b), 1 + 6);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_reserve_is_there_before_a_byte_was_written),
        cmocka_unit_test(test_room_never_counts_the_reserve),
        cmocka_unit_test(test_a_write_without_room_waits_for_it),
        cmocka_unit_test(test_a_stalled_log_can_be_closed),
        cmocka_unit_test(test_any_number_of_starts_on_a_full_disk),
        cmocka_unit_test(test_released_files_end_it_after_a_start),
        cmocka_unit_test(test_large_budgets_have_a_large_reserve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
