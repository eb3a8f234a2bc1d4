/* One partition's log: appending, rolling, log start, deleting, and what a failing disk does to the queue. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store_bench.h"

#define TAIL (1u << 20)

static struct store_stats stats_of(const struct bench *b)
{
    struct store_stats stats;
    store_stats(b->store, &stats);
    return stats;
}

static void reads_back_from_memory_and_disk(void **state)
{
    uint64_t tails[] = {TAIL, 0};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct bench *b = bench_new(0, tails[i]);
        bench_fill(b, 0, 300000, 1500);
        bench_fill(b, 1, 100000, 700);
        bench_read_all(b, 0); /* queued: nothing is written yet */
        assert_int_equal(store_queued_bytes(b->store), b->logs[0].count * 1500 + b->logs[1].count * 700);
        bench_write(b);
        assert_int_equal(store_queued_bytes(b->store), 0);
        bench_read_all(b, 0);
        bench_read_all(b, 1);
        assert_true((stats_of(b).disk_reads > 0) == (tails[i] == 0));
        assert_true(store_tail_bytes(b->store) <= tails[i] || tails[i] > 0);
        assert_int_equal(stats_of(b).written_bytes, b->logs[0].count * 1500 + b->logs[1].count * 700);
        bench_free(b);
    }
}

static void tail_is_bounded_and_oldest_goes_first(void **state)
{
    struct bench *b = bench_new(0, 200000);
    (void)state;
    for (int i = 0; i < 40; i++) {
        bench_fill(b, i % 2, 10000, 10000);
        bench_write(b);
        assert_true(store_tail_bytes(b->store) <= 200000);
    }
    assert_true(store_tail_bytes(b->store) > 100000);
    uint64_t disk_reads = stats_of(b).disk_reads;
    assert_int_equal(bench_read(b, 0, b->logs[0].batches[19].base_offset, 1), OK);
    assert_int_equal(stats_of(b).disk_reads, disk_reads);
    assert_int_equal(bench_read(b, 0, b->logs[0].batches[0].base_offset, 1), OK);
    assert_int_equal(stats_of(b).disk_reads, disk_reads + 1);
    bench_fill(b, 0, 400000, 10000); /* what is queued is never evicted, even above the limit */
    assert_true(store_tail_bytes(b->store) >= 400000);
    bench_read_all(b, 0);
    bench_free(b);
}

/* --- when is written --- */

static void small_traffic_is_merged_by_age(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    assert_true(store_deadline_us(b->store) == UINT64_MAX);
    for (int i = 0; i < 10; i++) {
        bench_append(b, i % 3, 1, 500);
        store_flush(b->store);
        assert_false(store_is_busy(b->store));
        b->disk.now_us += 1000;
    }
    uint64_t deadline_us = store_deadline_us(b->store);
    assert_int_equal(deadline_us, 1000000 + STORE_QUEUE_AGE_US);
    b->disk.now_us = deadline_us - 1;
    store_tick(b->store, b->disk.now_us);
    assert_false(store_is_busy(b->store));
    b->disk.now_us = deadline_us;
    store_tick(b->store, b->disk.now_us);
    assert_true(store_is_busy(b->store));
    store_disk_pump(&b->disk);
    assert_int_equal(store_queued_bytes(b->store), 0);
    assert_int_equal(b->disk.writes, 3); /* one per log */
    assert_int_equal(b->written_calls, 1);
    assert_true(store_deadline_us(b->store) == UINT64_MAX);
    bench_free(b);
}

static void enough_bytes_are_written_at_once(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    bench_fill(b, 0, STORE_JOB_BYTES_MIN - 30000, 30000);
    store_flush(b->store);
    assert_false(store_is_busy(b->store));
    bench_append(b, 1, 1, 60000);
    store_flush(b->store);
    assert_true(store_is_busy(b->store));
    bench_fill(b, 0, STORE_JOB_BYTES_MIN, 30000);
    store_flush(b->store); /* one write job at a time: this gathers */
    uint64_t queued_bytes = store_queued_bytes(b->store);
    assert_true(store_disk_run(&b->disk));
    assert_false(store_disk_run(&b->disk));
    assert_true(store_disk_finish(&b->disk));
    assert_true(store_queued_bytes(b->store) < queued_bytes);
    assert_true(store_is_busy(b->store)); /* and goes as soon as the first is through */
    store_disk_pump(&b->disk);
    assert_int_equal(store_queued_bytes(b->store), 0);
    bench_read_all(b, 0);
    bench_free(b);
}

static void writes_are_large_but_not_too_large(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    b->segment_bytes = 16 << 20;
    bench_restart(b, NULL);
    bench_fill(b, 0, 4 << 20, 100);
    uint64_t writes = b->disk.writes;
    bench_write(b);
    /* {prefix, body}: 512 batches fill the 1024 parts of one write */
    assert_true(b->disk.writes - writes <= b->logs[0].count / 512 + 10);
    bench_fill(b, 1, 4 << 20, 300000);
    bench_append(b, 1, 1, 3 << 20);
    writes = b->disk.writes;
    uint64_t writebacks = b->disk.writebacks;
    bench_write(b);
    assert_int_equal(b->disk.write_bytes_max, STORE_STAGING_BYTES);
    assert_true(b->disk.writes - writes <= 12);
    assert_int_equal(b->disk.writebacks, writebacks); /* a long run goes round the page cache */
    b->disk.drops_cache = true;
    b->disk.write_bytes_max = 0;
    bench_fill(b, 2, 4 << 20, 300000);
    bench_write(b);
    assert_int_equal(b->disk.write_bytes_max, STORE_WRITE_BYTES_MAX); /* gathered as it lies */
    bench_read_all(b, 2);
    bench_read_all(b, 1);
    bench_free(b);
}

/* --- rolls --- */

static void rolls_by_size(void **state)
{
    struct bench *b = bench_new(100, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 10 * BENCH_SEGMENT_BYTES, 5000); /* 13 batches of 5000 fit 65536 */
    bench_write(b);
    for (uint32_t i = 0; i < b->logs[0].count; i++) {
        bench_path(b, 0, b->logs[0].batches[i].base_offset, ".log", path);
        assert_true(store_disk_has(&b->disk, path) == (i % 13 == 0));
        if (i % 13 == 0 && i + 13 < b->logs[0].count) {
            assert_int_equal(store_disk_size(&b->disk, path), 65000);
            bench_path(b, 0, b->logs[0].batches[i].base_offset, ".index", path);
            assert_true(store_disk_has(&b->disk, path));
            bench_path(b, 0, b->logs[0].batches[i].base_offset, ".timeindex", path);
            assert_true(store_disk_has(&b->disk, path));
        }
    }
    assert_int_equal(stats_of(b).rolls, b->logs[0].count / 13 + (b->logs[0].count % 13 != 0));
    bench_append(b, 0, 1, 2 * BENCH_SEGMENT_BYTES); /* larger than a segment: one of its own */
    bench_append(b, 0, 1, 100);
    bench_write(b);
    bench_path(b, 0, segment_log_next(b->logs[0].log) - 2, ".log", path);
    assert_int_equal(store_disk_size(&b->disk, path), 2 * BENCH_SEGMENT_BYTES);
    bench_read_all(b, 0);
    bench_free(b);
}

static void rolls_by_log_clock(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    b->segment_ms = 1000;
    bench_restart(b, NULL);
    bench_append_at(b, 0, 1, 200, 0, 5000);
    bench_append_at(b, 0, 1, 200, 0, 6000); /* not above: stays */
    bench_append_at(b, 0, 1, 200, 0, 6001);
    bench_append_at(b, 0, 1, 200, 0, 5500); /* a log clock never goes back; if it did, nothing would roll */
    bench_write(b);
    int64_t bases[] = {0, 2};
    for (int i = 0; i < 4; i++) {
        bench_path(b, 0, i, ".log", path);
        assert_true(store_disk_has(&b->disk, path) == (i == bases[0] || i == bases[1]));
    }
    bench_checkpoint(b, 0, true);
    bench_restart(b, NULL); /* the age of the active segment survives */
    bench_append_at(b, 0, 1, 200, 0, 7001);
    bench_append_at(b, 0, 1, 200, 0, 7002);
    bench_write(b);
    bench_path(b, 0, 4, ".log", path);
    assert_false(store_disk_has(&b->disk, path));
    bench_path(b, 0, 5, ".log", path);
    assert_true(store_disk_has(&b->disk, path));
    bench_free(b);
}

static void offsets_beyond_32_bits(void **state)
{
    int64_t firsts[] = {((int64_t)1 << 31) - 3, ((int64_t)1 << 32) - 3, (int64_t)1 << 50};
    char path[128];
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct bench *b = bench_new(firsts[i], 0);
        bench_fill(b, 0, 200000, 3000);
        bench_append(b, 0, 1u << 30, 100); /* few bytes may hold many offsets */
        bench_append(b, 0, 1u << 30, 100);
        bench_append(b, 0, 1u << 30, 100);
        bench_fill(b, 0, 20000, 3000);
        bench_write(b);
        /* No segment spans more than 31 bits of offsets: Kafka's index could not hold them. */
        int64_t base_offset = b->logs[0].batches[b->logs[0].count - 9].base_offset;
        bench_path(b, 0, base_offset, ".log", path);
        assert_true(store_disk_has(&b->disk, path));
        bench_read_all(b, 0);
        assert_int_equal(bench_read(b, 0, base_offset + 12345678, 100), OK);
        bench_checkpoint(b, 0, true);
        bench_restart(b, NULL);
        bench_read_all(b, 0);
        bench_free(b);
    }
}

/* --- log start --- */

/* Age counts from the record's timestamp, but never from one that the log clock had not reached, or that is none. */
static void age_of_strange_timestamps(void **state)
{
    static const struct {
        int64_t timestamp, clock_ms, newest_ms;
    } cases[] = {{500, 1000, 500}, {1000, 1000, 1000}, {INT64_MAX, 1000, 1000}, {-1, 1000, 1000}, {0, 1000, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench *b = bench_new(0, 0);
        struct segment_log *log = b->logs[0].log;
        assert_true(segment_log_oldest_ms(log) == INT64_MAX);
        bench_append_at(b, 0, 1, 6000, cases[i].timestamp, cases[i].clock_ms);
        assert_int_equal(segment_log_oldest_ms(log), cases[i].newest_ms);
        assert_int_equal(segment_log_start_for_time(log, cases[i].newest_ms), 0);
        assert_int_equal(segment_log_start_for_time(log, cases[i].newest_ms + 1), 1);
        bench_free(b);
    }
    struct bench *b = bench_new(0, 0); /* a segment is as young as its youngest batch, whichever that is */
    bench_append_at(b, 0, 1, 6000, -1, 1000);
    bench_append_at(b, 0, 1, 6000, 0, 1000);
    assert_int_equal(segment_log_oldest_ms(b->logs[0].log), 1000);
    bench_free(b);
}

static void log_start_by_size_and_time(void **state)
{
    struct bench *b = bench_new(0, 0);
    struct segment_log *log = b->logs[0].log;
    (void)state;
    assert_int_equal(segment_log_start_for_bytes(log, 0), 0);
    assert_int_equal(segment_log_start_for_time(log, INT64_MAX), 0);
    for (int i = 0; i < 50; i++) { /* 10 batches of 6000 per segment: 5 segments, the last is active */
        bench_append_at(b, 0, 1, 6000, 100 * i, 100 * i);
    }
    assert_int_equal(segment_log_oldest_ms(log), 900);
    assert_int_equal(segment_log_bytes(log), 300000);
    assert_int_equal(segment_log_start_for_bytes(log, UINT64_MAX), 0);
    assert_int_equal(segment_log_start_for_bytes(log, 240001), 0);
    assert_int_equal(segment_log_start_for_bytes(log, 240000), 10); /* as many are left, the active one's too */
    assert_int_equal(segment_log_start_for_bytes(log, 180001), 10);
    assert_int_equal(segment_log_start_for_bytes(log, 180000), 20);
    assert_int_equal(segment_log_start_for_bytes(log, 0), 40); /* never the active one */
    assert_int_equal(segment_log_start_for_time(log, 900), 0);
    assert_int_equal(segment_log_start_for_time(log, 901), 10);
    assert_int_equal(segment_log_start_for_time(log, 3000), 30);
    assert_int_equal(segment_log_start_for_time(log, 10000), 50); /* all is old */
    segment_log_set_start(log, 25);                               /* inside a segment: two go */
    assert_int_equal(segment_log_start(log), 25);
    assert_int_equal(segment_log_bytes(log), 180000);
    assert_int_equal(segment_log_start_for_bytes(log, 120001), 25); /* what is below log start counts for nothing */
    assert_int_equal(segment_log_start_for_bytes(log, 120000), 30);
    assert_int_equal(segment_log_start_for_bytes(log, 60000), 40);
    assert_int_equal(segment_log_start_for_time(log, 901), 25);
    bench_write(b);
    assert_int_equal(bench_read(b, 0, 24, 100), ERR_OUT_OF_RANGE);
    assert_int_equal(bench_read(b, 0, 25, 100), OK);
    assert_int_equal(bench_read(b, 0, 50, 100), OK);
    assert_int_equal(b->read.bytes, 0);
    assert_int_equal(bench_read(b, 0, 51, 100), ERR_OUT_OF_RANGE);
    bench_read_all(b, 0);
    bench_free(b);
}

static void log_start_at_the_end_empties_the_log(void **state)
{
    struct bench *b = bench_new(0, 0);
    struct segment_log *log = b->logs[0].log;
    (void)state;
    bench_fill(b, 0, 100000, 6000);
    segment_log_set_start(log, segment_log_next(log)); /* partly not written yet */
    assert_int_equal(segment_log_bytes(log), 0);
    assert_int_equal(bench_read(b, 0, segment_log_next(log), 100), OK);
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->logs[0].rows_count, 0);
    assert_int_equal(store_disk_count(&b->disk, "parts/7"), 0);
    bench_restart(b, NULL);
    log = b->logs[0].log;
    assert_int_equal(segment_log_start(log), segment_log_next(log));
    bench_fill(b, 0, 100000, 6000);
    bench_write(b);
    bench_read_all(b, 0);
    bench_free(b);
}

/* --- delete --- */

static void count_call(void *context)
{
    ++*(int *)context;
}

static void delete_removes_files_and_directory(void **state)
{
    struct bench *b = bench_new(0, 0);
    int calls = 0;
    (void)state;
    bench_fill(b, 0, 200000, 6000);
    bench_fill(b, 1, 200000, 6000);
    bench_write(b);
    segment_log_set_start(b->logs[0].log, 30); /* dropped ones go too */
    bench_fill(b, 0, 50000, 6000);             /* and what is queued */
    store_force(b->store);
    store_flush(b->store);
    bench_fill(b, 0, 50000, 6000);
    struct store_checkpoint *checkpoint = store_checkpoint_new(b->logs[1].log);
    segment_log_delete(b->logs[0].log, count_call, &calls);
    segment_log_delete(b->logs[1].log, count_call, &calls);
    b->logs[0].log = b->logs[1].log = NULL;
    assert_int_equal(calls, 0);
    store_disk_pump(&b->disk);
    assert_int_equal(calls, 2);
    assert_int_equal(store_checkpoint_sync(checkpoint), OK);
    store_checkpoint_done(checkpoint, true); /* came late: the log is gone */
    assert_int_equal(store_disk_count(&b->disk, "parts/7"), -1);
    assert_int_equal(store_disk_count(&b->disk, "parts/8"), -1);
    assert_int_equal(store_queued_bytes(b->store), 0);
    assert_int_equal(store_tail_bytes(b->store), 0);
    assert_false(store_is_busy(b->store));
    bench_fill(b, 2, 50000, 6000);
    bench_write(b);
    bench_read_all(b, 2);
    bench_free(b);
}

static void read_done(struct segment_read *read, enum err error)
{
    *(enum err *)read->context = error;
}

static void time_found(void *context, enum err error, int64_t offset)
{
    (void)offset;
    *(enum err *)context = error;
}

static void delete_cancels_reads(void **state)
{
    struct bench *b = bench_new(0, 0);
    static struct segment_read read;
    enum err error = OK;
    enum err time_error = OK;
    int calls = 0;
    (void)state;
    bench_fill(b, 0, 200000, 6000);
    bench_write(b);
    read = (struct segment_read){.offset = 0, .bytes_max = 1000, .done = read_done, .context = &error};
    assert_int_equal(segment_log_read(b->logs[0].log, &read), ERR_AGAIN);
    segment_log_find_time(b->logs[0].log, 500, time_found, &time_error);
    segment_log_delete(b->logs[0].log, count_call, &calls);
    b->logs[0].log = NULL;
    store_disk_pump(&b->disk);
    assert_int_equal(error, ERR_CANCELLED);
    assert_int_equal(time_error, ERR_CANCELLED);
    assert_int_equal(read.parts_count, 0);
    assert_int_equal(calls, 1);
    bench_free(b);
}

/* What it had is dropped, whether it was on its way or waited; its files stay as they are, open is none of them. */
static void abandoned_logs_leave_their_files(void **state)
{
    struct bench *b = bench_new(0, 0);
    struct segment_read read = {.offset = 3, .bytes_max = 100, .done = read_done};
    enum err error = OK;
    char path[128];
    (void)state;
    bench_fill(b, 0, 150000, 6000);
    bench_write(b);
    bench_path(b, 0, 0, ".log", path);
    int files_count = store_disk_count(&b->disk, "parts/7");
    uint64_t size = store_disk_size(&b->disk, path);
    struct store_checkpoint *checkpoint = store_checkpoint_new(b->logs[0].log);
    b->disk.is_full = true;
    bench_fill(b, 0, 30000, 6000);
    bench_write(b);
    read.context = &error;
    assert_int_equal(segment_log_read(b->logs[0].log, &read), ERR_AGAIN);
    assert_true(store_queued_bytes(b->store) > 0);
    segment_log_abandon(b->logs[0].log);
    b->logs[0].log = NULL;
    store_disk_pump(&b->disk);
    assert_int_equal(error, ERR_CANCELLED);
    store_checkpoint_done(checkpoint, false);
    assert_int_equal(store_queued_bytes(b->store), 0);
    assert_int_equal(store_tail_bytes(b->store), 0);
    assert_false(store_disk_full(b->store));
    assert_int_equal(store_disk_count(&b->disk, "parts/7"), files_count);
    assert_int_equal(store_disk_size(&b->disk, path), size);
    assert_int_equal(b->disk.open_handles, 0);
    b->disk.is_full = false;
    bench_fill(b, 1, 50000, 6000);
    bench_write(b);
    bench_read_all(b, 1);
    bench_free(b);
}

/* --- a failing disk --- */

static void full_disk_keeps_the_queue_and_recovers(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    bench_fill(b, 0, 20000, 1000);
    bench_write(b);
    b->disk.is_full = true;
    bench_fill(b, 0, 200000, 1000);
    bench_fill(b, 1, 20000, 1000);
    bench_write(b);
    assert_int_equal(b->logs[0].error, ERR_STORAGE_FULL);
    assert_int_equal(b->logs[1].error, ERR_STORAGE_FULL);
    assert_int_equal(b->logs[2].error, OK);
    assert_int_equal(store_queued_bytes(b->store), 220000);
    assert_false(store_is_busy(b->store)); /* no busy loop: it waits for the retry time */
    bench_read_all(b, 0);
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->checkpoint_error, ERR_STORAGE_FULL);
    assert_int_equal(b->logs[0].durable_next, 0);
    bench_fill(b, 0, 20000, 1000);
    b->disk.is_full = false;
    uint64_t deadline_us = store_deadline_us(b->store);
    assert_true(deadline_us > b->disk.now_us && deadline_us <= b->disk.now_us + STORE_RETRY_US);
    b->disk.now_us = deadline_us;
    store_tick(b->store, b->disk.now_us);
    store_disk_pump(&b->disk);
    assert_int_equal(store_queued_bytes(b->store), 0);
    bench_read_all(b, 0);
    bench_read_all(b, 1);
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->checkpoint_error, OK);
    bench_free(b);
}

/* Every write of a run fails once: nothing is lost, nothing is out of order. */
static void any_failed_write_is_made_up_for(void **state)
{
    (void)state;
    for (uint64_t k = 1;; k++) {
        struct bench *b = bench_new(0, 0);
        b->disk.fail_write_at = k;
        b->disk.fail_error = ERR_IO;
        for (int i = 0; i < 6; i++) {
            bench_fill(b, 0, 50000, 3000);
            bench_fill(b, 1, 10000, 300);
            store_force(b->store);
            store_flush(b->store);
            bench_fill(b, 0, 20000, 3000);
            bench_checkpoint(b, 0, true); /* a second write job behind the first */
            store_disk_pump(&b->disk);
        }
        bool was_hit = b->disk.fail_write_at == 0;
        for (int i = 0; i < 3; i++) {
            b->disk.now_us += STORE_RETRY_US;
            store_tick(b->store, b->disk.now_us);
            store_disk_pump(&b->disk);
        }
        assert_int_equal(store_queued_bytes(b->store), 0);
        bench_read_all(b, 0);
        bench_read_all(b, 1);
        bench_checkpoint(b, 0, true);
        assert_int_equal(b->checkpoint_error, OK);
        bench_restart(b, NULL);
        bench_read_all(b, 0);
        bench_free(b);
        if (!was_hit) {
            assert_true(k > 20);
            break;
        }
    }
}

static void few_files_are_open(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    bench_fill(b, 0, 20 * BENCH_SEGMENT_BYTES, 6000);
    bench_fill(b, 1, 20 * BENCH_SEGMENT_BYTES, 6000);
    bench_write(b);
    bench_read_all(b, 0);
    bench_read_all(b, 1);
    assert_true(b->disk.open_handles <= 8);
    assert_true(b->disk.open_handles_max <= 8 + 1); /* an index file beside them */
    bench_free(b);
}

static void configured_anew(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    bench_fill(b, 0, 60000, 6000);
    segment_log_configure(b->logs[0].log, 1 << 20, -1);
    bench_fill(b, 0, 900000, 6000);
    bench_write(b);
    assert_int_equal(stats_of(b).rolls, 1);
    bench_read_all(b, 0);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_back_from_memory_and_disk),
        cmocka_unit_test(tail_is_bounded_and_oldest_goes_first),
        cmocka_unit_test(small_traffic_is_merged_by_age),
        cmocka_unit_test(enough_bytes_are_written_at_once),
        cmocka_unit_test(writes_are_large_but_not_too_large),
        cmocka_unit_test(rolls_by_size),
        cmocka_unit_test(rolls_by_log_clock),
        cmocka_unit_test(offsets_beyond_32_bits),
        cmocka_unit_test(log_start_by_size_and_time),
        cmocka_unit_test(age_of_strange_timestamps),
        cmocka_unit_test(log_start_at_the_end_empties_the_log),
        cmocka_unit_test(delete_removes_files_and_directory),
        cmocka_unit_test(delete_cancels_reads),
        cmocka_unit_test(abandoned_logs_leave_their_files),
        cmocka_unit_test(full_disk_keeps_the_queue_and_recovers),
        cmocka_unit_test(any_failed_write_is_made_up_for),
        cmocka_unit_test(few_files_are_open),
        cmocka_unit_test(configured_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
