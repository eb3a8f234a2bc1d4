/* Death at every disk call of a run, and then at every call of the start after it: nothing acknowledged is lost, what
 * comes back is the log as it was up to some moment at or behind the last acknowledgement, and no crash is ever taken
 * for rot.
 *
 * A run is a drawn sequence of appends, flushes, pieces of lane work, ticks and releases, on files so small that they
 * roll and come round several times. It is done once without a crash, to count its calls, and then again for each of
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wal_bench.h"

#define APPENDED_MAX 512
#define STEPS        120

struct appended {
    uint64_t group, index, lsn;
    uint32_t size;
};

struct run {
    struct bench *b;
    struct rng rng;
    struct appended log[APPENDED_MAX]; /* what was appended and may come back */
    unsigned count;
    uint64_t next_index;
    uint64_t released_lsn; /* records below may be gone */
    struct {
        uint64_t lsn, marker; /* ... once the record of index `marker`, appended before the release, is back */
    } releases[APPENDED_MAX];
    unsigned releases_count;
    uint64_t acked_lsn; /* records below must be there, unless released */
};

static void run_append(struct run *r, uint32_t size)
{
    struct appended *a = &r->log[r->count++];
    a->group = rng_below(&r->rng, 3);
    a->index = r->next_index++;
    a->size = size;
    a->lsn = bench_append(r->b, a->group, a->index, a->size);
}

/* As an owner does: what is still needed is written again, and everything before it released in the same breath. */
static void run_release(struct run *r)
{
    uint64_t lsn = wal_next_lsn(r->b->wal);
    run_append(r, 100);
    r->releases[r->releases_count].lsn = lsn;
    r->releases[r->releases_count++].marker = r->log[r->count - 1].index;
    wal_release(r->b->wal, lsn);
}

static void run_step(struct run *r)
{
    static const uint32_t sizes[] = {0, 100, 3000, 5000, 21000};
    struct bench *b = r->b;
    switch (rng_below(&r->rng, 10)) {
    case 0:
    case 1:
    case 2:
    case 3:
        run_append(r, sizes[rng_below(&r->rng, 5)]);
        break;
    case 4:
    case 5:
        wal_flush(b->wal);
        break;
    case 6:
    case 7:
        wal_disk_step(&b->d, DISK_LANE_WAL);
        break;
    case 8:
        wal_disk_step(&b->d, DISK_LANE_STORE);
        break;
    default:
        if (rng_chance(&r->rng, 0.5)) {
            b->d.now_us += WAL_VOUCH_IDLE_US;
            wal_tick(b->wal, b->d.now_us);
        } else {
            run_release(r);
        }
    }
    if (b->persisted_lsn > r->acked_lsn) {
        r->acked_lsn = b->persisted_lsn;
    }
}

/* The log that came back against the one that went in; from then on it is the one that went in. */
static void run_check(struct run *r)
{
    struct bench *b = r->b;
    unsigned at = 0;
    assert_int_equal(b->damaged_count, 0);
    for (unsigned i = 0; i < r->releases_count && b->seen_count > 0; i++) {
        if (r->releases[i].marker <= b->seen[b->seen_count - 1].index && r->releases[i].lsn > r->released_lsn) {
            r->released_lsn = r->releases[i].lsn;
        }
    }
    r->releases_count = 0;
    while (at < r->count && r->log[at].lsn < r->released_lsn &&
           (b->seen_count == 0 || r->log[at].index != b->seen[0].index)) {
        at++;
    }
    for (unsigned i = 0; i < b->seen_count; i++, at++) {
        assert_true(at < r->count);
        assert_int_equal(b->seen[i].index, r->log[at].index);
        assert_int_equal(b->seen[i].group, r->log[at].group);
        assert_int_equal(b->seen[i].lsn, r->log[at].lsn);
        assert_int_equal(b->seen[i].payload_size, r->log[at].size);
        assert_int_equal(b->seen[i].payload_crc,
                         bench_payload_crc(r->log[at].group, r->log[at].index, r->log[at].size));
    }
    if (at < r->count) {
        assert_true(r->log[at].lsn >= r->acked_lsn);
        assert_true(wal_next_lsn(b->wal) <= r->log[at].lsn);
    }
    assert_true(wal_next_lsn(b->wal) >= r->acked_lsn);
    r->count = at;
    r->acked_lsn = wal_next_lsn(b->wal); /* what a start has shown must stay */
}

/* A run up to its crash, the crash_at-th call (0: never, the run ends by a kill). */
static void run_until(struct run *r, uint64_t seed, uint64_t crash_at, unsigned boots)
{
    *r = (struct run){
        .b = bench_new(seed), .next_index = 1, .released_lsn = WAL__FIRST_LSN, .acked_lsn = WAL__FIRST_LSN};
    rng_seed(&r->rng, seed);
    r->b->budget_bytes = 4 * BENCH_FILE_BYTES;
    r->b->d.crash_at = crash_at;
    for (unsigned boot = 0; boot < boots && !r->b->d.crashed; boot++) {
        if (bench_open(r->b) != OK) {
            break;
        }
        run_check(r);
        for (unsigned step = 0; step < STEPS && !r->b->d.crashed; step++) {
            run_step(r);
        }
        if (!r->b->d.crashed) {
            bench_settle(r->b); /* pending job or no, a kill could come here too; the crash calls see to that */
            r->acked_lsn = r->b->persisted_lsn > r->acked_lsn ? r->b->persisted_lsn : r->acked_lsn;
        }
        if (boot + 1 < boots || r->b->d.crashed) {
            wal_disk_pump(&r->b->d);
            bench_close(r->b);
        }
    }
}

static void die(struct run *r, enum wal_disk_cut cut, bool power)
{
    r->b->d.crashed = true;
    wal_disk_pump(&r->b->d); /* jobs under way fail, so that their memory is given back */
    bench_close(r->b);
    if (power) {
        wal_disk_power_cut(&r->b->d, cut);
    }
    wal_disk_revive(&r->b->d);
}

/* After all that the log must still be good for work. */
static void work_on(struct run *r)
{
    for (unsigned step = 0; step < 20; step++) {
        run_step(r);
    }
    bench_settle(r->b);
    r->acked_lsn = r->b->persisted_lsn > r->acked_lsn ? r->b->persisted_lsn : r->acked_lsn;
    die(r, WAL_DISK_LOSE, true);
    assert_int_equal(bench_open(r->b), OK);
    run_check(r);
}

static uint64_t calls_of_a_run(uint64_t seed)
{
    struct run *r = malloc(sizeof *r);
    run_until(r, seed, 0, 2);
    uint64_t calls = r->b->d.calls;
    bench_free(r->b);
    free(r);
    return calls;
}

static void crash_everywhere(uint64_t seed, enum wal_disk_cut cut, bool power)
{
    uint64_t calls = calls_of_a_run(seed);
    struct run *r = malloc(sizeof *r);
    assert_true(calls > 100);
    for (uint64_t at = 1; at <= calls; at++) {
        run_until(r, seed, at, 2);
        die(r, cut, power);
        assert_int_equal(bench_open(r->b), OK);
        run_check(r);
        work_on(r);
        bench_free(r->b);
    }
    free(r);
}

static void test_power_cut_that_loses_all(void **state)
{
    crash_everywhere(1, WAL_DISK_LOSE, true);
    crash_everywhere(2, WAL_DISK_LOSE, true);
}

static void test_power_cut_that_keeps_all(void **state)
{
    crash_everywhere(3, WAL_DISK_KEEP, true);
}

static void test_power_cut_that_tears(void **state)
{
    for (uint64_t seed = 10; seed < 18; seed++) {
        crash_everywhere(seed, WAL_DISK_TEAR, true);
    }
}

static void test_process_death(void **state)
{
    crash_everywhere(4, WAL_DISK_KEEP, false);
    crash_everywhere(5, WAL_DISK_KEEP, false);
}

/* Every 7th call of a run, then every call of the start, and of the start after that one. After a death the page
 * cache shows bytes that a power cut during the start takes away again. */
static void crash_in_recovery(uint64_t seed, bool power_first)
{
    uint64_t calls = calls_of_a_run(seed);
    struct run *r = malloc(sizeof *r);
    for (uint64_t at = 1 + seed % 7; at <= calls; at += 7) {
        bool opened = false;
        for (uint64_t start_call = 1; !opened; start_call++) {
            run_until(r, seed, at, 2);
            die(r, WAL_DISK_TEAR, power_first);
            r->b->d.crash_at = r->b->d.calls + start_call;
            opened = bench_open(r->b) == OK;
            if (opened) {
                run_check(r);
            }
            die(r, WAL_DISK_TEAR, true);
            r->b->d.crash_at = r->b->d.calls + 1 + start_call / 2;
            if (bench_open(r->b) == OK) {
                run_check(r);
            }
            die(r, WAL_DISK_TEAR, true);
            assert_int_equal(bench_open(r->b), OK);
            run_check(r);
            bench_free(r->b);
        }
    }
    free(r);
}

static void test_crash_in_the_start_after_a_power_cut(void **state)
{
    crash_in_recovery(21, true);
}

static void test_crash_in_the_start_after_a_death(void **state)
{
    crash_in_recovery(22, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_cut_that_loses_all),
        cmocka_unit_test(test_power_cut_that_keeps_all),
        cmocka_unit_test(test_power_cut_that_tears),
        cmocka_unit_test(test_process_death),
        cmocka_unit_test(test_crash_in_the_start_after_a_power_cut),
        cmocka_unit_test(test_crash_in_the_start_after_a_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
