/* The log on a full disk: the reserve, writes that wait for room, and starts without any. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wal/files.h"
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

/* A start on a full disk takes a file of which it has a few blocks, and then there is room for so and so many bytes
 * more: whatever the log says it has room for, it has. */
static void test_no_room_is_promised_that_is_not_secured(void **state)
{
    unsigned promises = 0;
    for (uint64_t more_bytes = 0; more_bytes <= 4 * BENCH_FILE_BYTES; more_bytes += WAL_BLOCK_BYTES) {
        struct bench *b = open_bench();
        uint64_t index = 1;
        bench_settle(b);
        fill_disk(b);
        for (int starts = 0; starts < 6; starts++) {
            while (wal_has_room(b->wal, 0, 4096)) {
                bench_commit(b, one, 1, index++, 4000);
                bench_settle(b);
            }
            bench_commit(b, one, 1, index++, 100); /* what must go on */
            bench_reopen(b);
        }
        b->d.room_bytes += more_bytes;
        bench_append(b, 1, index++, 100);
        pass_time(b, 3000000);
        bool was_stalled = wal_is_stalled(b->wal);
        while (wal_has_room(b->wal, 0, 30000)) {
            bench_append(b, 1, index++, 30000);
            bench_settle(b);
            assert_false(wal_is_stalled(b->wal));
            promises++;
        }
        assert_true(!was_stalled || more_bytes == 0);
        check_all(b, index - 1);
        bench_free(b);
    }
    assert_true(promises > 20);
}

static bool file_is_secured(const struct bench *b)
{
    const struct wal__files *files = wal__files_of(b->wal);
    return wal__file_secured_bytes(files, TAILQ_LAST(&files->live, wal__file_list)) >= BENCH_FILE_BYTES;
}

/* The file that a start took has but a few blocks. */
static void test_a_file_without_room_is_left_for_a_spare(void **state)
{
    struct bench *b = open_bench();
    struct wal_stats stats;
    uint64_t index = 1;
    bench_settle(b);
    fill_disk(b);
    while (file_is_secured(b)) {
        bench_append(b, 1, index++, 4000);
        bench_settle(b);
        bench_reopen(b);
    }
    assert_false(wal_has_room(b->wal, 0, 1));
    b->d.room_bytes += WAL_BLOCK_BYTES;
    bench_append(b, 1, index++, 100);
    pass_time(b, 2000000);
    b->d.room_bytes += BENCH_FILE_BYTES;
    pass_time(b, 2000000);
    fill_disk(b);
    assert_int_equal(wal_pending_bytes(b->wal), 0);
    assert_int_equal(wal_lacks(b->wal), ERR_STORAGE_FULL); /* the one spare that there is now is the reserve */
    assert_false(wal_has_room(b->wal, 0, 40000));
    bench_append(b, 1, index++, 45000);
    bench_settle(b);
    assert_false(wal_is_stalled(b->wal));
    wal_stats(b->wal, &stats);
    assert_int_equal(stats.rolls, 1);
    assert_int_equal(b->failed_calls, 0);
    bench_close(b);
    wal_disk_power_cut(&b->d, WAL_DISK_TEAR);
    assert_int_equal(bench_open(b), OK);
    check_all(b, index - 1);
    bench_free(b);
}

/* Not only room: without descriptors the batch waits, and the owner is told. */
static void test_the_owner_is_told_what_the_log_lacks(void **state)
{
    struct bench *b = open_bench();
    uint64_t index = 1;
    assert_int_equal(wal_lacks(b->wal), OK);
    fill_disk(b);
    while (!wal_is_stalled(b->wal)) { /* a careless owner */
        bench_append(b, 1, index++, 30000);
        bench_settle(b);
    }
    assert_int_equal(wal_lacks(b->wal), ERR_STORAGE_FULL);
    assert_false(wal_has_room(b->wal, 0, 1));
    b->d.room_bytes += 10 * BENCH_FILE_BYTES;
    pass_time(b, 3000000);
    assert_int_equal(wal_lacks(b->wal), OK);
    assert_true(wal_has_room(b->wal, 0, 1));
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
        cmocka_unit_test(test_no_room_is_promised_that_is_not_secured),
        cmocka_unit_test(test_a_file_without_room_is_left_for_a_spare),
        cmocka_unit_test(test_the_owner_is_told_what_the_log_lacks),
        cmocka_unit_test(test_large_budgets_have_a_large_reserve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
