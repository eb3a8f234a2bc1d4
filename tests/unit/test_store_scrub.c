/* The scrub of segments: every kind of damage is found with the range it has, nothing else is, whatever goes on
 * meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "store/scrub.h"
#include "store_bench.h"

struct walk_result {
    struct bench *b;
    struct store_scrub *scrub;
    uint32_t damages;
    int64_t from_offset, end_offset; /* of the last one */
    uint64_t group;
    uint64_t bytes, pieces;
    bool wrong_epochs;
};

/* The bench gives each batch the epoch base offset % 1000. */
static int32_t epoch_at(void *context, const struct segment_log *log, int64_t offset, int64_t *ret_end_offset)
{
    const struct walk_result *w = context;
    int i = 0;
    while (w->b->logs[i].log != log) {
        i++;
    }
    const struct bench_batch *batch = bench_at(w->b, i, offset);
    *ret_end_offset = batch->end_offset;
    return w->wrong_epochs ? 1000 : (int32_t)(batch->base_offset % 1000);
}

static void on_damage(void *context, const struct segment_log *log, int64_t from_offset, int64_t end_offset)
{
    struct walk_result *w = context;
    w->damages++;
    w->from_offset = from_offset;
    w->end_offset = end_offset;
    w->group = 0;
    for (int i = 0; i < BENCH_LOGS; i++) {
        w->group = w->b->logs[i].log == log ? w->b->logs[i].group : w->group;
    }
}

static void on_piece(void *context, enum err error, uint32_t bytes)
{
    struct walk_result *w = context;
    assert_int_equal(error, OK);
    w->bytes += bytes;
    w->pieces++;
}

static struct walk_result *begin(struct bench *b)
{
    struct walk_result *w = calloc(1, sizeof *w);
    w->b = b;
    struct store_scrub_options options = {
        .store = b->store, .context = w, .epoch_at = epoch_at, .on_damage = on_damage, .on_piece = on_piece};
    w->scrub = store_scrub_new(&options);
    return w;
}

static void end(struct walk_result *w)
{
    store_scrub_free(w->scrub);
    free(w);
}

/* One whole walk; how many damages were new. */
static uint32_t walk(struct walk_result *w)
{
    w->damages = 0;
    w->bytes = w->pieces = 0;
    while (store_scrub_piece(w->scrub) == OK) {
        assert_true(store_scrub_is_busy(w->scrub));
        store_disk_pump(&w->b->disk);
        assert_false(store_scrub_is_busy(w->scrub));
        assert_true(w->pieces < 100000);
    }
    return w->damages;
}

static void flip(struct bench *b, const char *path, uint64_t position, uint8_t mask)
{
    uint8_t byte;
    store_disk_get(&b->disk, path, position, &byte, 1);
    byte ^= mask;
    store_disk_put(&b->disk, path, position, &byte, 1);
}

static void whole_logs_are_clean(void **state)
{
    struct bench *b = bench_new(1000, 0);
    struct walk_result *w = begin(b);
    (void)state;
    assert_int_equal(walk(w), 0);
    assert_int_equal(w->pieces, 0);
    for (int i = 0; i < BENCH_LOGS; i++) {
        bench_fill(b, i, 200000, 700 + 300 * (uint32_t)i);
    }
    assert_int_equal(walk(w), 0);
    assert_int_equal(w->pieces, 0); /* nothing is written yet */
    bench_write(b);
    assert_int_equal(walk(w), 0);
    assert_true(w->bytes >= 600000);
    for (int i = 0; i < BENCH_LOGS; i++) {
        bench_checkpoint(b, i, true);
    }
    bench_fill(b, 1, 30000, 999);
    end(w);
    bench_restart(b, NULL);
    w = begin(b);
    assert_int_equal(walk(w), 0); /* the replayed part waits in memory */
    bench_write(b);
    assert_int_equal(walk(w), 0);
    assert_int_equal(segment_log_damaged_ranges(b->logs[1].log), 0);
    end(w);
    bench_free(b);
}

static void batches_may_be_larger_than_a_piece(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    b->segment_bytes = 8 << 20;
    bench_restart(b, NULL);
    struct walk_result *w = begin(b);
    bench_append(b, 0, 5, 3 * STORE_SCRUB_BYTES + 17);
    bench_append(b, 0, 1, STORE_SCRUB_BYTES - 30); /* its header straddles two pieces */
    bench_append(b, 0, 2, 2 * STORE_SCRUB_BYTES);
    bench_append(b, 0, 1, 61);
    bench_write(b);
    assert_int_equal(walk(w), 0);
    assert_true(w->pieces >= 6);
    bench_path(b, 0, 0, ".log", path);
    flip(b, path, 3 * STORE_SCRUB_BYTES, 1);
    assert_int_equal(walk(w), 1);
    assert_true(w->from_offset == 0 && w->end_offset == 5);
    flip(b, path, 5 * STORE_SCRUB_BYTES + 100, 1);
    assert_int_equal(walk(w), 1); /* the first one is known */
    assert_true(w->from_offset == 6 && w->end_offset == 8);
    assert_int_equal(segment_log_damaged_ranges(b->logs[0].log), 2);
    end(w);
    bench_free(b);
}

/* Every bit of every header byte and many of the bodies: exactly the range of that batch, and healed when it is. */
static void a_flipped_bit_anywhere_is_found(void **state)
{
    struct bench *b = bench_new(1000, 0);
    char path[128];
    (void)state;
    for (int i = 0; i < 12; i++) {
        bench_append(b, 1, 1 + (uint32_t)i % 4, 61 + 97 * (uint32_t)i);
    }
    bench_write(b);
    struct walk_result *w = begin(b);
    bench_path(b, 1, 1000, ".log", path);
    uint64_t position = 0;
    for (uint32_t i = 0; i < b->logs[1].count; i++) {
        const struct bench_batch *batch = &b->logs[1].batches[i];
        for (uint32_t at = 0; at < batch->size_bytes; at += at < 61 ? 1 : 23) {
            for (int bit = 0; bit < 8; bit++) {
                flip(b, path, position + at, (uint8_t)(1u << bit));
                assert_int_equal(walk(w), 1);
                assert_int_equal(w->group, b->logs[1].group);
                assert_int_equal(w->from_offset, batch->base_offset);
                assert_int_equal(w->end_offset, batch->end_offset);
                assert_int_equal(segment_log_damaged_ranges(b->logs[1].log), 1);
                flip(b, path, position + at, (uint8_t)(1u << bit));
                assert_int_equal(walk(w), 0);
                assert_int_equal(segment_log_damaged_ranges(b->logs[1].log), 0);
            }
        }
        position += batch->size_bytes;
    }
    end(w);
    bench_free(b);
}

static void marked_ranges_answer_without_the_disk(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    struct store_stats before, after;
    (void)state;
    for (int i = 0; i < 40; i++) {
        bench_append(b, 0, 2, 1000);
    }
    bench_write(b);
    struct walk_result *w = begin(b);
    bench_path(b, 0, 0, ".log", path);
    flip(b, path, 5500, 4); /* of the batch 10, 11 */
    assert_int_equal(walk(w), 1);
    store_stats(b->store, &before);
    assert_int_equal(bench_read(b, 0, 10, 100), ERR_CORRUPT);
    assert_int_equal(bench_read(b, 0, 11, 100), ERR_CORRUPT);
    store_stats(b->store, &after);
    assert_int_equal(before.disk_reads, after.disk_reads);
    assert_int_equal(bench_read(b, 0, 8, 100000), OK);
    assert_int_equal(b->read.bytes, 1000); /* up to the bad one */
    assert_int_equal(bench_read(b, 0, 12, 100000), OK);
    assert_int_equal(b->read.bytes, 34000);
    flip(b, path, 5500, 4);
    assert_int_equal(walk(w), 0);
    bench_read_all(b, 0);
    end(w);
    bench_free(b);
}

static void lost_and_cut_files(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 200000, 1000);
    bench_write(b);
    struct walk_result *w = begin(b);
    int64_t second = 0;
    uint64_t position = 0;
    for (uint32_t i = 0; position + b->logs[0].batches[i].size_bytes <= BENCH_SEGMENT_BYTES; i++) {
        position += b->logs[0].batches[i].size_bytes;
        second = b->logs[0].batches[i].end_offset;
    }
    bench_path(b, 0, 0, ".log", path);
    uint8_t *bytes = malloc(position);
    store_disk_get(&b->disk, path, 0, bytes, position);
    store_disk_remove(&b->disk, path);
    assert_int_equal(walk(w), 1);
    assert_true(w->from_offset == 0 && w->end_offset == second);
    assert_int_equal(bench_read(b, 0, 0, 100), ERR_CORRUPT);
    assert_int_equal(bench_read(b, 0, second, 100), OK);
    store_disk_put(&b->disk, path, 0, bytes, 10500); /* ten batches and a half */
    walk(w);
    assert_int_equal(segment_log_damaged_ranges(b->logs[0].log), 1);
    assert_int_equal(bench_read(b, 0, 0, 100), OK);
    assert_int_equal(bench_read(b, 0, b->logs[0].batches[10].base_offset, 100), ERR_CORRUPT);
    store_disk_put(&b->disk, path, 0, bytes, position);
    assert_int_equal(walk(w), 0);
    assert_int_equal(segment_log_damaged_ranges(b->logs[0].log), 0);
    free(bytes);
    end(w);
    bench_free(b);
}

/* A good batch with the right offset in the place of the one that was written, and one of a wrong term. */
static void good_batches_that_do_not_belong(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    uint8_t batch[1000];
    (void)state;
    for (int i = 0; i < 40; i++) {
        bench_append(b, 0, 2, 1000);
    }
    bench_write(b);
    struct walk_result *w = begin(b);
    bench_path(b, 0, 0, ".log", path);
    store_disk_get(&b->disk, path, 3000, batch, sizeof batch);
    batch[500] ^= 1;
    batch_seal(batch, sizeof batch);
    store_disk_put(&b->disk, path, 3000, batch, sizeof batch);
    assert_int_equal(bench_read(b, 0, 0, 1000), OK);
    assert_int_equal(walk(w), 1);
    assert_true(w->from_offset == 0 && w->end_offset == 80);
    assert_int_equal(bench_read(b, 0, 0, 1000), ERR_CORRUPT); /* any of them may be the one */
    batch[500] ^= 1;
    batch_seal(batch, sizeof batch);
    store_disk_put(&b->disk, path, 3000, batch, sizeof batch);
    assert_int_equal(walk(w), 0);
    w->wrong_epochs = true;
    assert_int_equal(walk(w), 40);
    end(w);
    bench_free(b);
}

/* Bytes that look like batches behind a bad one: the walk ends, and marks no range that is good. */
static void bait_behind_a_bad_batch(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    uint8_t header[BATCH_HEADER_BYTES], bait[20000];
    (void)state;
    bench_append(b, 0, 2, 20061);
    for (int i = 0; i < 20; i++) {
        bench_append(b, 0, 2, 1000);
    }
    bench_write(b);
    struct walk_result *w = begin(b);
    bench_path(b, 0, 0, ".log", path);
    store_disk_get(&b->disk, path, 20061, header, sizeof header);
    store_be64(header, 4);
    for (uint32_t at = 0; at + sizeof header <= sizeof bait; at += sizeof header) {
        memcpy(bait + at, header, sizeof header);
    }
    store_disk_put(&b->disk, path, 61, bait, sizeof bait);
    assert_int_equal(walk(w), 1);
    assert_int_equal(w->from_offset, 0);
    assert_true(w->end_offset <= 2);
    assert_int_equal(bench_read(b, 0, 0, 1000), ERR_CORRUPT);
    end(w);
    bench_free(b);
}

static void retention_takes_the_mark_away(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 300000, 1000);
    bench_write(b);
    struct walk_result *w = begin(b);
    bench_path(b, 0, 0, ".log", path);
    flip(b, path, 7777, 1);
    assert_int_equal(walk(w), 1);
    assert_int_equal(segment_log_damaged_ranges(b->logs[0].log), 1);
    segment_log_set_start(b->logs[0].log, w->end_offset); /* in the middle of the segment */
    assert_int_equal(segment_log_damaged_ranges(b->logs[0].log), 0);
    segment_log_set_start(b->logs[0].log, segment_log_start_for_bytes(b->logs[0].log, 100000));
    assert_int_equal(walk(w), 0);
    bench_checkpoint(b, 0, true);
    assert_int_equal(walk(w), 0);
    bench_read_all(b, 0);
    end(w);
    bench_free(b);
}

static void delete_done(void *context)
{
    *(bool *)context = true;
}

/* Pieces between and beside writes, rolls, checkpoints, retention with recycled files, and the end of a log. */
static void no_false_alarm_under_load(void **state)
{
    (void)state;
    for (int round = 0; round < 30; round++) {
        struct bench *b = bench_new(0, round % 2 == 0 ? 0 : 100000);
        struct walk_result *w = begin(b);
        struct rng *rng = &b->disk.rng;
        rng_seed(rng, (uint64_t)round + 1);
        bool is_deleted = false;
        for (int step = 0; step < 400; step++) {
            int log = (int)rng_below(rng, is_deleted ? BENCH_LOGS - 1 : BENCH_LOGS);
            struct segment_log *l = b->logs[log].log;
            if (!store_scrub_is_busy(w->scrub)) {
                store_scrub_piece(w->scrub);
            }
            switch (rng_below(rng, 8)) {
            case 0:
                bench_checkpoint(b, log, true);
                break;
            case 1:
                segment_log_set_start(l, segment_log_start_for_bytes(l, rng_below(rng, 200000)));
                break;
            case 2:
                store_force(b->store);
                store_flush(b->store);
                break;
            case 3:
            case 4:
                store_disk_run(&b->disk);
                break;
            case 5:
                store_disk_finish(&b->disk);
                break;
            default:
                bench_fill(b, log, 1 + rng_below(rng, 40000), 61 + (uint32_t)rng_below(rng, 5000));
            }
            if (step == 300) {
                segment_log_delete(b->logs[BENCH_LOGS - 1].log, delete_done, &is_deleted);
                b->logs[BENCH_LOGS - 1].log = NULL;
                store_disk_pump(&b->disk);
                assert_true(is_deleted);
            }
        }
        bench_write(b);
        assert_int_equal(w->damages, 0);
        assert_int_equal(walk(w), 0);
        end(w);
        bench_free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_logs_are_clean),
        cmocka_unit_test(batches_may_be_larger_than_a_piece),
        cmocka_unit_test(a_flipped_bit_anywhere_is_found),
        cmocka_unit_test(marked_ranges_answer_without_the_disk),
        cmocka_unit_test(lost_and_cut_files),
        cmocka_unit_test(good_batches_that_do_not_belong),
        cmocka_unit_test(bait_behind_a_bad_batch),
        cmocka_unit_test(retention_takes_the_mark_away),
        cmocka_unit_test(no_false_alarm_under_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
