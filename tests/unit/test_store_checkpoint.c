/* Checkpoints: what the manifest says is on the disk, files are reused only when no durable manifest names them, and a
 * crash at any call loses nothing that was durable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "store_bench.h"

static const struct tree_cut lose_all = {0}; /* nothing un-synced survives */

static struct store_stats stats_of(const struct bench *b)
{
    struct store_stats stats;
    store_stats(b->store, &stats);
    return stats;
}

static void rows_say_what_was_appended(void **state)
{
    struct bench *b = bench_new(40, 0);
    (void)state;
    for (int i = 0; i < 50; i++) {
        bench_append_at(b, 0, 3, 3000 + (uint32_t)i, 1000 + i * 7 % 50, 100 + i);
    }
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->checkpoint_error, OK);
    const struct bench_log *l = &b->logs[0];
    const struct bench_batch *batch = l->batches;
    uint64_t generation = 0;
    for (uint32_t i = 0; i < l->rows_count; i++) {
        const struct segment_row *row = &l->rows[i];
        uint32_t chain = 0;
        uint64_t size = 0;
        int64_t max_timestamp = 0;
        assert_int_equal(row->base_offset, batch->base_offset);
        assert_int_equal(row->created_clock_ms, batch->clock_ms);
        for (; batch < l->batches + l->count && batch->end_offset <= row->end_offset; batch++) {
            struct batch_header header;
            struct slice bytes = bench_batch_bytes(l->group, batch, &header);
            uint8_t stored[BATCH_HEADER_BYTES];
            memcpy(stored, bytes.data, sizeof stored);
            batch_prefix(stored, batch->base_offset, batch->size_bytes, (int32_t)(batch->base_offset % 1000));
            chain = crc32c(chain, stored, sizeof stored);
            size += batch->size_bytes;
            max_timestamp = batch->timestamp > max_timestamp ? batch->timestamp : max_timestamp;
            slice_unref(&bytes);
        }
        assert_int_equal(row->size_bytes, size);
        assert_int_equal(row->chain, chain);
        assert_int_equal(row->max_timestamp, max_timestamp);
        assert_true(row->generation > generation);
        generation = row->generation;
        assert_int_equal(row->tail_size, i + 1 == l->rows_count ? size % 4096 : 0);
    }
    assert_ptr_equal(batch, l->batches + l->count);
    assert_int_equal(l->durable_start, 40);
    assert_int_equal(l->durable_next, segment_log_next(l->log));
    bench_free(b);
}

static void a_checkpoint_survives_a_power_cut(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    for (int round = 0; round < 12; round++) {
        bench_fill(b, 0, 50000, 1500);
        bench_fill(b, 1, 500, 300);
        bench_checkpoint(b, 0, true);
        bench_checkpoint(b, 1, true);
        bench_fill(b, 0, 100000, 1500); /* written, not synced */
        bench_write(b);
        bench_crash(b, &lose_all);
        assert_int_equal(bench_reopen(b), OK);
        assert_int_equal(segment_log_next(b->logs[0].log), b->logs[0].durable_next);
        bench_read_all(b, 0); /* all that the checkpoint names */
        bench_read_all(b, 1);
        bench_replay(b);
        bench_write(b);
        bench_read_all(b, 0);
    }
    bench_free(b);
}

static struct disk_expected expected[8];
static uint32_t expected_count;

static void note_expected(struct disk *disk, struct disk_expected *files, uint32_t count)
{
    (void)disk;
    assert_true(count <= 8);
    memcpy(expected, files, count * sizeof *files);
    expected_count = count;
    free(files);
}

/* What the disk is told to look at ahead is what opening will ask for: the file, and its last block. */
static void expected_files_are_those_that_are_opened(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 3 * BENCH_SEGMENT_BYTES, 3000);
    bench_checkpoint(b, 0, true);
    const struct bench_log *l = &b->logs[0];
    assert_false(store_looks_ahead(b->store));
    struct disk_ops ops = *b->disk.port.ops;
    const struct disk_ops *before = b->disk.port.ops;
    ops.expect = note_expected;
    b->disk.port.ops = &ops;
    assert_true(store_looks_ahead(b->store));
    assert_true(l->rows_count >= 3 && l->rows_count < 8 && l->rows[l->rows_count - 1].tail_size > 0);
    for (uint32_t i = 0; i < l->rows_count; i++) {
        const struct segment_row *row = &l->rows[i];
        store_expect(b->store, l->group, row->base_offset, row->size_bytes, row->tail_size);
    }
    store_look_ahead(b->store);
    assert_int_equal(expected_count, l->rows_count);
    for (uint32_t i = 0; i < l->rows_count; i++) {
        const struct segment_row *row = &l->rows[i];
        bench_path(b, 0, row->base_offset, ".log", path);
        assert_string_equal(expected[i].path, path);
        assert_int_equal(expected[i].offset + expected[i].size, row->size_bytes);
        assert_int_equal(expected[i].size, i + 1 < l->rows_count ? 0 : row->tail_size);
    }
    b->disk.port.ops = before;
    bench_free(b);
}

/* A later write of the last block of the checkpoint was torn by the power cut. */
static void the_tail_block_is_restored(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    uint8_t junk[4096];
    (void)state;
    memset(junk, 0xee, sizeof junk);
    for (int i = 0; i < 20; i++) {
        bench_append(b, 0, 1, 1000 + (uint32_t)i * 97);
        bench_checkpoint(b, 0, true);
        bench_crash(b, NULL);
        const struct segment_row *row = &b->logs[0].rows[0];
        bench_path(b, 0, 0, ".log", path);
        store_disk_put(&b->disk, path, row->size_bytes - row->tail_size, junk, sizeof junk);
        uint64_t syncs = b->disk.syncs;
        assert_int_equal(bench_reopen(b), OK);
        assert_true(row->tail_size == 0 || b->disk.syncs == syncs + 1);
        bench_read_all(b, 0);
        bench_crash(b, &lose_all); /* and durably so */
        assert_int_equal(bench_reopen(b), OK);
        assert_true(row->tail_size == 0 || b->disk.syncs == syncs + 1); /* nothing to restore this time */
        bench_read_all(b, 0);
    }
    bench_free(b);
}

/* A small active segment stands in its row as a whole: a file that is gone is made anew from it. */
static void a_lost_file_comes_back_from_its_row(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_append(b, 0, 2, 1000);
    bench_checkpoint(b, 0, true);
    const struct segment_row *row = &b->logs[0].rows[0];
    assert_int_equal(row->tail_size, row->size_bytes);
    bench_path(b, 0, 0, ".log", path);
    bench_crash(b, NULL);
    assert_int_equal(b->disk.port.ops->unlink(&b->disk.port, path), OK);
    assert_int_equal(bench_reopen(b), OK);
    bench_read_all(b, 0);
    bench_append(b, 0, 1, 500);
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->checkpoint_error, OK);
    bench_restart(b, &lose_all);
    bench_read_all(b, 0);
    bench_free(b);
}

/* Else the next start would write what the read made up over the good bytes. */
static void a_tail_that_reads_wrong_is_not_believed(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    bench_append(b, 0, 1, 1000);
    bench_checkpoint(b, 0, true);
    bench_append(b, 0, 1, 1000);
    b->disk.misreads = 1;
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->disk.misreads, 0);
    assert_int_equal(b->checkpoint_error, ERR_AGAIN);
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->checkpoint_error, OK);
    bench_restart(b, NULL);
    bench_read_all(b, 0);
    bench_append(b, 0, 1, 500); /* on top of a tail that came with its row */
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->checkpoint_error, OK);
    bench_restart(b, NULL);
    bench_read_all(b, 0);
    bench_free(b);
}

/* A checkpoint had to go without the tail: what the next one reads of that block nobody can judge by what was appended.
 */
static void a_tail_that_nobody_knows_is_read_twice(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    bench_append(b, 0, 1, 1000);
    bench_checkpoint(b, 0, true);
    bench_crash(b, NULL);
    b->logs[0].rows[0].tail_size = 0;
    assert_int_equal(bench_reopen(b), OK);
    bench_append(b, 0, 1, 500);
    b->disk.misreads = 1;
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->checkpoint_error, ERR_AGAIN);
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->checkpoint_error, OK);
    bench_restart(b, NULL);
    bench_read_all(b, 0);
    bench_free(b);
}

/* --- when a file is free --- */

static void files_are_free_only_after_a_durable_checkpoint(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 5 * 60000, 6000);
    bench_checkpoint(b, 0, true);
    bench_path(b, 0, 0, ".log", path);
    struct store_checkpoint *early = store_checkpoint_new(b->logs[0].log);
    segment_log_set_start(b->logs[0].log, b->logs[0].batches[25].base_offset);
    bench_let(b);
    assert_int_equal(store_checkpoint_sync(early), OK);
    store_checkpoint_done(early, true); /* durable, but taken before: its rows name the file */
    bench_let(b);
    assert_true(store_disk_has(&b->disk, path));
    bench_checkpoint(b, 0, false); /* not durable */
    assert_true(store_disk_has(&b->disk, path));
    assert_int_equal(store_disk_count(&b->disk, "parts/spare"), 0);
    bench_crash(b, NULL); /* the durable manifest still names it, and so it reads */
    assert_int_equal(bench_reopen(b), OK);
    assert_int_equal(segment_log_start(b->logs[0].log), 0);
    bench_read_all(b, 0);
    segment_log_set_start(b->logs[0].log, b->logs[0].batches[25].base_offset);
    bench_checkpoint(b, 0, true);
    assert_false(store_disk_has(&b->disk, path));
    bench_path(b, 0, 0, ".index", path);
    assert_false(store_disk_has(&b->disk, path));
    assert_int_equal(store_disk_count(&b->disk, "parts/spare"), 2);
    bench_free(b);
}

static enum err pinned_error;

static void pinned_read_done(struct segment_read *read, enum err error)
{
    (void)read;
    pinned_error = error;
}

static void a_read_holds_its_file(void **state)
{
    struct bench *b = bench_new(0, 0);
    static struct segment_read read;
    char path[128];
    (void)state;
    b->segment_bytes = 8 << 20;
    bench_restart(b, NULL);
    bench_append(b, 0, 1, 5 << 20); /* larger than a buffer: read in two jobs */
    bench_append(b, 0, 1, 5 << 20);
    bench_checkpoint(b, 0, true);
    bench_path(b, 0, 0, ".log", path);
    read = (struct segment_read){.offset = 0, .bytes_max = 100, .done = pinned_read_done};
    assert_int_equal(segment_log_read(b->logs[0].log, &read), ERR_AGAIN);
    segment_log_set_start(b->logs[0].log, 1);
    struct store_checkpoint *checkpoint = store_checkpoint_new(b->logs[0].log);
    assert_int_equal(store_checkpoint_sync(checkpoint), OK);
    store_checkpoint_done(checkpoint, true);
    assert_true(store_disk_has(&b->disk, path));
    pinned_error = ERR_INTERNAL;
    bench_let(b);
    assert_int_equal(pinned_error, OK);
    assert_int_equal(read.bytes, 5 << 20);
    bench_check_parts(b, &b->logs[0], &read);
    segment_read_release(&read);
    assert_false(store_disk_has(&b->disk, path));
    bench_free(b);
}

static void spares_are_reused_and_bounded(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    for (int i = 0; i < 10; i++) {
        bench_fill(b, i % 2, 200000, 6000);
        bench_checkpoint(b, i % 2, true);
        segment_log_set_start(b->logs[i % 2].log, segment_log_start_for_bytes(b->logs[i % 2].log, 60000));
        bench_checkpoint(b, i % 2, true);
        assert_true(store_disk_count(&b->disk, "parts/spare") <= 4);
        bench_read_all(b, i % 2);
    }
    assert_true(stats_of(b).recycled > 15);
    assert_true(stats_of(b).created < 12);
    int spares = store_disk_count(&b->disk, "parts/spare");
    assert_true(spares > 0);
    bench_checkpoint(b, 0, true); /* the last renames become durable with the next checkpoint */
    bench_restart(b, &lose_all);
    assert_int_equal(store_disk_count(&b->disk, "parts/spare"), spares);
    bench_fill(b, 2, 60000, 6000);
    bench_write(b);
    assert_int_equal(stats_of(b).recycled, 1); /* the spares are known again, and generations go on rising */
    bench_checkpoint(b, 2, true);
    for (int i = 0; i < 2; i++) {
        for (uint32_t j = 0; j < b->logs[i].rows_count; j++) {
            assert_true(b->logs[2].rows[0].generation > b->logs[i].rows[j].generation);
        }
    }
    bench_free(b);
}

static void a_spare_of_another_size_is_left_alone(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    bench_fill(b, 0, 300000, 6000);
    bench_checkpoint(b, 0, true);
    segment_log_set_start(b->logs[0].log, segment_log_next(b->logs[0].log));
    bench_checkpoint(b, 0, true);
    int spares = store_disk_count(&b->disk, "parts/spare");
    segment_log_configure(b->logs[1].log, 1 << 20, -1);
    bench_fill(b, 1, 60000, 6000);
    bench_write(b);
    assert_int_equal(store_disk_count(&b->disk, "parts/spare"), spares);
    assert_int_equal(stats_of(b).recycled, 0);
    bench_free(b);
}

/* --- sweep --- */

static void sweep_removes_what_no_manifest_names(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 130000, 6000);
    bench_fill(b, 1, 130000, 6000);
    bench_checkpoint(b, 0, true);
    bench_fill(b, 0, 130000, 6000); /* rolled after the checkpoint: the manifest does not know these */
    bench_write(b);
    bench_path(b, 0, b->logs[0].batches[30].base_offset, ".log", path);
    assert_true(store_disk_has(&b->disk, path));
    bench_crash(b, NULL);
    for (int i = 0; i < 6; i++) {
        char spare[64];
        snprintf(spare, sizeof spare, "parts/spare/%020d", 1000 + i);
        store_disk_put(&b->disk, spare, 0, "old", 3);
    }
    store_disk_put(&b->disk, "parts/spare/rubbish", 0, "x", 1);
    store_disk_put(&b->disk, "parts/7/rubbish", 0, "x", 1);
    store_disk_put(&b->disk, "parts/notours", 0, "x", 1);
    assert_int_equal(b->disk.port.ops->make_dir(&b->disk.port, "parts/4711"), OK);
    store_disk_put(&b->disk, "parts/4711/00000000000000000000.log", 0, "x", 1);
    store_disk_put(&b->disk, "parts/7/00000000000099999999.log", 0, "an old life", 11);
    assert_int_equal(bench_reopen(b), OK);
    assert_int_equal(store_disk_count(&b->disk, "parts/4711"), -1);
    assert_int_equal(store_disk_count(&b->disk, "parts/spare"), 4);
    assert_true(store_disk_has(&b->disk, "parts/notours"));
    bench_read_all(b, 0);
    assert_true(store_disk_has(&b->disk, path)); /* looked through when the next file is made, not before */
    assert_true(store_disk_has(&b->disk, "parts/7/rubbish"));
    bench_replay(b);
    bench_write(b);
    assert_false(store_disk_has(&b->disk, "parts/7/rubbish"));
    assert_false(store_disk_has(&b->disk, "parts/7/00000000000099999999.log"));
    assert_true(store_disk_has(&b->disk, path));
    bench_read_all(b, 0);
    bench_read_all(b, 1);
    bench_free(b);
}

/* --- syncs --- */

static void only_dirty_files_are_synced(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    bench_fill(b, 0, 300000, 6000);
    bench_checkpoint(b, 0, true);
    uint64_t syncs = b->disk.syncs;
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->disk.syncs, syncs);
    bench_append(b, 0, 1, 1000);
    bench_append(b, 1, 1, 1000);
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->disk.syncs, syncs + 1);
    bench_checkpoint(b, 1, true);
    assert_int_equal(b->disk.syncs, syncs + 2);
    assert_true(b->disk.sync_alls <= 1); /* closed ones among the many of the first */
    bench_free(b);
}

static void many_checkpoints_end_in_one_sync(void **state)
{
    enum { LOGS = 200 };
    struct bench *b = bench_new(0, 0);
    static struct segment_log *logs[LOGS];
    static struct store_checkpoint *checkpoints[LOGS];
    struct bench_batch batch = {.end_offset = 1, .size_bytes = 500};
    struct batch_header header;
    (void)state;
    for (uint64_t i = 0; i < LOGS; i++) {
        struct segment_log_options options = {
            .store = b->store, .group = 1000 + i, .segment_bytes = BENCH_SEGMENT_BYTES, .segment_ms = -1};
        assert_int_equal(segment_log_open(&options, &logs[i]), OK);
        struct slice bytes = bench_batch_bytes(1000 + i, &batch, &header);
        segment_log_append(logs[i], bytes, &header, 0, 1, 0);
        slice_unref(&bytes);
    }
    for (int i = 0; i < LOGS; i++) {
        checkpoints[i] = store_checkpoint_new(logs[i]);
    }
    store_disk_pump(&b->disk);
    for (int i = 0; i < LOGS; i++) {
        assert_int_equal(store_checkpoint_sync(checkpoints[i]), OK);
        assert_int_equal(checkpoints[i]->rows_count, 1);
        assert_int_equal(checkpoints[i]->rows[0].tail_size, 500);
    }
    assert_true(b->disk.syncs + b->disk.sync_alls <= STORE_SYNC_FILES_MAX + 1);
    for (int i = 0; i < LOGS; i++) {
        store_checkpoint_done(checkpoints[i], true);
        segment_log_close(logs[i]);
    }
    bench_free(b);
}

static void a_failed_sync_is_final(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    bench_fill(b, 0, 20000, 1000);
    b->disk.fails_syncs = true;
    bench_checkpoint(b, 0, true);
    assert_int_equal(b->checkpoint_error, ERR_IO);
    b->disk.fails_syncs = false;
    uint64_t syncs = b->disk.syncs + b->disk.sync_alls;
    bench_checkpoint(b, 0, true); /* the kernel would say OK now, and the bytes would be gone */
    assert_int_equal(b->checkpoint_error, ERR_IO);
    assert_int_equal(b->disk.syncs + b->disk.sync_alls, syncs);
    bench_fill(b, 1, 20000, 1000); /* the others go on */
    bench_checkpoint(b, 1, true);
    assert_int_equal(b->checkpoint_error, OK);
    bench_free(b);
}

static void rows_that_do_not_join_are_refused(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    bench_fill(b, 0, 200000, 6000);
    bench_checkpoint(b, 0, true);
    bench_crash(b, NULL);
    struct bench_log *l = &b->logs[0];
    int64_t end_offset = l->rows[1].end_offset;
    l->rows[1].end_offset--;
    assert_int_equal(bench_reopen(b), ERR_FORMAT);
    store_close(b->store);
    l->rows[1].end_offset = end_offset;
    l->durable_next++;
    assert_int_equal(bench_reopen(b), ERR_FORMAT);
    store_close(b->store);
    l->durable_next--;
    assert_int_equal(bench_reopen(b), OK);
    bench_free(b);
}

/* --- a crash at any call --- */

static void workload(struct bench *b, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        int log = i % 3;
        bench_fill(b, log, 40000, 4000);
        store_flush(b->store);
        if (i % 4 == 3) {
            segment_log_set_start(b->logs[log].log, segment_log_start_for_bytes(b->logs[log].log, 60000));
        }
        if (i % 5 == 4) {
            bench_write(b);
        }
        if (i % 2 == 1) {
            bench_checkpoint(b, log, true);
        }
        if (i % 7 == 6) {
            bench_read(b, log, segment_log_start(b->logs[log].log), 10000);
        }
    }
}

static void crash_runs(const struct tree_cut *cut)
{
    for (uint64_t k = 1;; k += 1 + k / 40) {
        struct bench *b = bench_new(0, 0);
        rng_seed(&b->disk.rng, k);
        b->disk.calls = 0;
        b->disk.crash_at = k;
        for (int i = 0; i < 60 && b->disk.calls < k; i++) {
            int log = i % 3;
            bench_fill(b, log, 40000, 4000);
            store_flush(b->store);
            if (i % 4 == 3) {
                segment_log_set_start(b->logs[log].log, segment_log_start_for_bytes(b->logs[log].log, 60000));
            }
            if (i % 5 == 4) {
                store_force(b->store);
                store_flush(b->store);
                store_disk_run(&b->disk);
            }
            if (i % 2 == 1) {
                bench_checkpoint(b, log, true);
            }
        }
        bool was_hit = b->disk.calls >= k;
        bench_restart(b, cut);
        for (int i = 0; i < 3; i++) {
            bench_read_all(b, i);
        }
        bench_write(b);
        workload(b, 12);
        bench_write(b);
        for (int i = 0; i < 3; i++) {
            bench_read_all(b, i);
        }
        bench_free(b);
        if (!was_hit) {
            assert_true(k > 200);
            break;
        }
    }
}

static void process_death_at_any_call(void **state)
{
    (void)state;
    crash_runs(NULL);
}

static void power_cut_at_any_call(void **state)
{
    struct tree_cut torn = {.keep = 0.5, .garbage = 0.1, .names_prefix = 0.5, .name_keep = 0.5, .size_keep = 0.5};
    (void)state;
    crash_runs(&torn);
    crash_runs(&lose_all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_say_what_was_appended),
        cmocka_unit_test(a_checkpoint_survives_a_power_cut),
        cmocka_unit_test(the_tail_block_is_restored),
        cmocka_unit_test(a_lost_file_comes_back_from_its_row),
        cmocka_unit_test(a_tail_that_reads_wrong_is_not_believed),
        cmocka_unit_test(a_tail_that_nobody_knows_is_read_twice),
        cmocka_unit_test(expected_files_are_those_that_are_opened),
        cmocka_unit_test(files_are_free_only_after_a_durable_checkpoint),
        cmocka_unit_test(a_read_holds_its_file),
        cmocka_unit_test(spares_are_reused_and_bounded),
        cmocka_unit_test(a_spare_of_another_size_is_left_alone),
        cmocka_unit_test(sweep_removes_what_no_manifest_names),
        cmocka_unit_test(only_dirty_files_are_synced),
        cmocka_unit_test(many_checkpoints_end_in_one_sync),
        cmocka_unit_test(a_failed_sync_is_final),
        cmocka_unit_test(rows_that_do_not_join_are_refused),
        cmocka_unit_test(process_death_at_any_call),
        cmocka_unit_test(power_cut_at_any_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
