/* The log with blocks that belong elsewhere: misdirected writes, writes that never arrived, files of an earlier time.
 * Every one of them is whole by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wal_bench.h"

static const uint64_t g4[] = {4}, g56[] = {5, 6};

static uint8_t *bytes_at(struct bench *b, uint64_t lsn)
{
    struct bench_place place = bench_find(b, lsn);
    return wal_disk_find(&b->d, place.path)->data + place.offset;
}

/* A write that went to another place of the same file: whole, of this life, and not what belongs there. */
static void test_misdirected_batch_is_damage(void **state)
{
    static const uint64_t expected[4][2] = {{1, 2}, {2, 3}, {4}, {5, 6}};
    for (unsigned from = 0; from < 4; from++) {
        for (unsigned to = 0; to < 3; to++) {
            struct bench *b = bench_opened();
            uint64_t lsns[4];
            bench_commit_four(b, 1000, lsns); /* one block each */
            if (from == to) {
                bench_free(b);
                continue;
            }
            memcpy(bytes_at(b, lsns[to]), bytes_at(b, lsns[from]), WAL_BLOCK_BYTES);
            bench_reopen(b);
            assert_int_equal(b->damaged_count, 1);
            bench_assert_damage(b, 0, lsns[to], expected[to], to == 2 ? 1 : 2);
            assert_int_equal(b->seen_count, to == 2 ? 6 : 5);
            for (unsigned i = 0; i < b->seen_count; i++) { /* each once, in its place */
                assert_int_equal(b->seen[i].lsn, lsns[b->seen[i].index - 1]);
                assert_int_not_equal(b->seen[i].index, to + 1);
            }
            bench_free(b);
        }
    }
}

/* One block of a batch is that of another batch, at any distance. */
static void test_misdirected_block_inside_a_batch_is_damage(void **state)
{
    static const uint64_t expected[] = {2, 3};
    for (unsigned block = 0; block < 5; block++) {
        for (unsigned from = 0; from < 4; from++) {
            struct bench *b = bench_opened();
            uint64_t lsns[4];
            bench_commit_four(b, 9000, lsns); /* five blocks each, three for the third */
            uint64_t source =
                lsns[from] + (from == 2 ? block % 3 : (from == 1 ? block + 1 : block) % 5) * WAL_BLOCK_BYTES;
            memcpy(bytes_at(b, lsns[1] + block * WAL_BLOCK_BYTES), bytes_at(b, source), WAL_BLOCK_BYTES);
            bench_reopen(b);
            assert_int_equal(b->damaged_count, 1);
            bench_assert_damage(b, 0, lsns[1], expected, 2);
            assert_int_equal(b->seen_count, 5);
            assert_false(bench_saw(b, 3, 2));
            bench_free(b);
        }
    }
}

/* A write that never arrived: the place still shows the batch of the file's earlier life, of equal size. */
static void test_stale_batch_of_an_earlier_life_is_damage(void **state)
{
    static const uint64_t expected[] = {5, 6};
    for (int every = 0; every < 2; every++) {
        struct bench *b = bench_opened();
        struct wal_stats stats;
        struct bench_place place = bench_find(b, bench_fill_three_files(b));
        struct wal_disk_node *node = wal_disk_find(&b->d, place.path);
        uint8_t *old = malloc(node->size);
        uint64_t size = node->size;
        memcpy(old, node->data, size);
        wal_release(b->wal, wal_next_lsn(b->wal));
        uint64_t lsn = 0, found_lsn = 0;
        uint64_t index = 1000;
        do { /* on and on, until the same file was filled again and the next one begun */
            lsn = bench_commit(b, g56, 2, index++, 3000);
            wal_release(b->wal, lsn);
            bench_settle(b);
            struct bench_place now = bench_find(b, lsn);
            found_lsn = strcmp(now.path, place.path) == 0 && now.offset > 20000 ? lsn : found_lsn;
            wal_stats(b->wal, &stats);
        } while (found_lsn == 0);
        bench_commit(b, g4, 1, 7, 100);
        bench_commit(b, g4, 1, 8, 100);
        place = bench_find(b, found_lsn);
        uint64_t stale = every ? 2 * WAL_BLOCK_BYTES : WAL_BLOCK_BYTES;
        assert_true(place.offset + stale <= size);
        memcpy(node->data + place.offset, old + place.offset, stale);
        bench_reopen(b);
        assert_int_equal(b->damaged_count, 1);
        bench_assert_damage(b, 0, found_lsn, expected, 2);
        assert_true(bench_saw(b, 4, 7) && bench_saw(b, 4, 8));
        assert_false(bench_saw(b, 5, index - 1));
        free(old);
        bench_free(b);
    }
}

/* A whole file is back from an earlier time: what it held since is missing, and that is noticed. */
static void test_stale_file_is_damage(void **state)
{
    struct bench *b = bench_opened();
    struct bench_place place = bench_find(b, bench_fill_three_files(b));
    struct wal_disk_node *node = wal_disk_find(&b->d, place.path);
    uint8_t *old = malloc(node->size);
    memcpy(old, node->data, node->size);
    wal_release(b->wal, wal_next_lsn(b->wal));
    bench_settle(b);
    uint64_t index = 1000, base_lsn = 0;
    uint64_t lsn;
    do { /* its next life, and two files behind it */
        lsn = bench_commit(b, g56, 2, index++, 5000);
        struct bench_place now = bench_find(b, lsn);
        base_lsn = base_lsn == 0 && strcmp(now.path, place.path) == 0 ? lsn : base_lsn;
    } while (base_lsn == 0 || lsn < base_lsn + 2 * BENCH_FILE_BYTES);
    memcpy(node->data, old, node->size);
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 1);
    assert_int_equal(b->damaged[0].count, 0); /* who knows whose it was */
    assert_true(b->damaged[0].lsn >= base_lsn);
    assert_true(bench_saw(b, 5, index - 1));
    for (unsigned i = 1; i < b->seen_count; i++) {
        assert_true(b->seen[i].lsn >= b->seen[i - 1].lsn);
    }
    free(old);
    bench_free(b);
}

/* Names say nothing, headers all. */
static void test_files_that_changed_places_are_read_in_order(void **state)
{
    struct bench *b = bench_opened();
    uint64_t lsn = bench_fill_three_files(b);
    struct wal_disk_node *first = wal_disk_find(&b->d, bench_find(b, lsn).path);
    struct wal_disk_node *second = wal_disk_find(&b->d, bench_find(b, wal_oldest_end_lsn(b->wal)).path);
    uint64_t next_lsn = wal_next_lsn(b->wal);
    assert_true(first != second && first->size == second->size);
    for (uint64_t at = 0; at < first->size; at++) {
        uint8_t byte = first->data[at];
        first->data[at] = second->data[at];
        second->data[at] = byte;
    }
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 0);
    for (unsigned i = 0; i < b->seen_count; i++) {
        assert_int_equal(b->seen[i].index, i / 2 + 1);
    }
    assert_true(wal_next_lsn(b->wal) >= next_lsn);
    bench_free(b);
}

static void test_rot_in_the_middle_of_a_file_spares_all_later_files(void **state)
{
    static const uint64_t expected[] = {5, 6};
    struct bench *b = bench_opened();
    uint64_t last_lsn = bench_fill_three_files(b);
    struct bench_place place = bench_find(b, WAL__FIRST_LSN);
    uint64_t span = last_lsn - WAL__FIRST_LSN;
    uint64_t lsn = 0;
    bench_reopen(b);
    unsigned records = b->seen_count;
    for (unsigned i = 0; i < records; i++) { /* a batch about half way through the first file */
        lsn = b->seen[i].lsn <= WAL__FIRST_LSN + span / 2 ? b->seen[i].lsn : lsn;
    }
    assert_string_equal(bench_find(b, lsn).path, place.path);
    for (int header = 0; header < 2; header++) {
        bench_rot(b, lsn, header ? 0 : 2000, 8);
        bench_reopen(b);
        assert_int_equal(b->damaged_count, 1);
        bench_assert_damage(b, 0, lsn, expected, 2);
        assert_int_equal(b->seen_count, records - 2);
    }
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_misdirected_batch_is_damage),
        cmocka_unit_test(test_misdirected_block_inside_a_batch_is_damage),
        cmocka_unit_test(test_stale_batch_of_an_earlier_life_is_damage),
        cmocka_unit_test(test_stale_file_is_damage),
        cmocka_unit_test(test_files_that_changed_places_are_read_in_order),
        cmocka_unit_test(test_rot_in_the_middle_of_a_file_spares_all_later_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
