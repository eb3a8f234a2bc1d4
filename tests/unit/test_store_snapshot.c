/* Segments on their way to another broker and from one: what a hold keeps, what a reader checks, what is refused, and
 * that a log opens over files that came from elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "store/snapshot.h"
#include "store_bench.h"

#define STAGING "snapshots"

static struct bench *from, *to;

static int set_up(void **state)
{
    (void)state;
    from = bench_new(0, 0);
    to = bench_new(0, 0);
    struct disk *disk = &to->disk.port;
    return disk->ops->make_dir(disk, STAGING) == OK ? 0 : 1;
}

static int tear_down(void **state)
{
    (void)state;
    bench_free(from);
    bench_free(to);
    return 0;
}

static void staging_path(int64_t base_offset, char path[128])
{
    snprintf(path, 128, STAGING "/%020ld.log", (long)base_offset);
}

static void fill(struct bench *b, uint64_t bytes)
{
    bench_fill(b, 0, bytes, 3000);
    bench_write(b);
    bench_checkpoint(b, 0, true);
}

/* One segment over, in pieces of this size. */
static enum err copy(struct store_hold *hold, const struct segment_row *row, uint32_t piece)
{
    char path[128];
    uint8_t *data = malloc(piece);
    struct store_sent sent = {0};
    enum err error = OK;
    staging_path(row->base_offset, path);
    for (uint64_t at = 0; at < row->size_bytes && error == OK; at += piece) {
        uint32_t size = row->size_bytes - at < piece ? (uint32_t)(row->size_bytes - at) : piece;
        error = store_hold_read(hold, &sent, row->base_offset, row->size_bytes, at, size, data);
        if (error == OK) {
            error = store_stage_write(to->store, path, at, data, size);
        }
    }
    free(data);
    return error;
}

static enum err judge(const struct segment_row *row)
{
    char path[128];
    struct store_check check = {0};
    enum err error;
    staging_path(row->base_offset, path);
    while ((error = store_check_staged(to->store, path, row, &check)) == ERR_AGAIN) {
    }
    return error;
}

/* What was sent takes the place of what `to` had; its log opens over it. */
static void place(struct bench_log *l, const struct segment_row *rows, uint32_t count, bool own_first)
{
    struct store_place places[16] = {{0}};
    struct segment_row mine[16];
    uint8_t tail[STORE_BLOCK_BYTES];
    uint32_t tail_size = 0;
    assert_true(count > 0 && count <= 16);
    for (uint32_t i = 0; i < count; i++) {
        mine[i] = rows[i];
        mine[i].tail_size = 0;
        mine[i].generation = store_new_generation(to->store);
        places[i] = (struct store_place){.base_offset = rows[i].base_offset,
                                         .size_bytes = rows[i].size_bytes,
                                         .is_staged = i > 0 || !own_first,
                                         .is_active = i + 1 == count};
        staging_path(rows[i].base_offset, places[i].path);
    }
    segment_log_abandon(l->log);
    store_disk_pump(&to->disk);
    assert_int_equal(store_place_files(to->store, l->group, STAGING, places, count), OK);
    assert_int_equal(store_place_files(to->store, l->group, STAGING, places, count), OK); /* once more does no harm */
    assert_int_equal(store_place_tail(to->store, l->group, &places[count - 1], tail, &tail_size), OK);
    assert_int_equal(tail_size, rows[count - 1].size_bytes % STORE_BLOCK_BYTES);
    store_place_sweep(to->store, l->group, places, count);
    mine[count - 1].tail = tail;
    mine[count - 1].tail_size = tail_size;
    const struct segment_log_options options = {.store = to->store,
                                                .group = l->group,
                                                .segment_bytes = to->segment_bytes,
                                                .segment_ms = -1,
                                                .log_start = rows[0].base_offset,
                                                .next_offset = rows[count - 1].end_offset,
                                                .rows = mine,
                                                .rows_count = count,
                                                .owner = l,
                                                .is_placed = true};
    assert_int_equal(segment_log_open(&options, &l->log), OK);
}

/* The model of the receiver learns what the sender's knows. */
static void learn(struct bench_log *l, const struct bench_log *other)
{
    free(l->batches);
    l->batches = malloc(other->count * sizeof *l->batches);
    memcpy(l->batches, other->batches, other->count * sizeof *l->batches);
    l->count = l->capacity = other->count;
}

static void a_log_opens_over_what_was_sent(void **state)
{
    (void)state;
    struct bench_log *source = &from->logs[0], *l = &to->logs[0];
    fill(from, 4 * BENCH_SEGMENT_BYTES + 5000);
    bench_fill(to, 0, 2000, 3000); /* the same first batches */
    bench_write(to);
    struct store_hold *hold = store_hold_new(source->log);
    for (uint32_t i = 0; i < source->rows_count; i++) {
        assert_int_equal(copy(hold, &source->rows[i], 1000 + 7919 * i), OK);
        assert_int_equal(judge(&source->rows[i]), OK);
    }
    place(l, source->rows, source->rows_count, false);
    learn(l, source);
    bench_read_all(to, 0);
    bench_fill(to, 0, 3 * BENCH_SEGMENT_BYTES, 3000); /* and it goes on */
    bench_write(to);
    bench_read_all(to, 0);
    bench_checkpoint(to, 0, true);
    const struct tree_cut cut = {.keep = 0.5};
    bench_restart(to, &cut);
    bench_read_all(to, 0);
    store_hold_free(hold);
}

static void a_hold_outlives_retention(void **state)
{
    (void)state;
    struct bench_log *source = &from->logs[0];
    struct segment_row row;
    char path[128];
    fill(from, 4 * BENCH_SEGMENT_BYTES);
    struct segment_row first = source->rows[0];
    struct store_hold *hold = store_hold_new(source->log);
    store_hold_keep(hold, &first, 1);
    assert_true(store_hold_find(hold, first.base_offset, &row));
    assert_int_equal(row.chain, first.chain);
    assert_false(store_hold_find(hold, source->rows[1].base_offset, &row));
    assert_int_equal(store_hold_bytes(hold), 0);
    segment_log_set_start(source->log, source->rows[2].base_offset);
    bench_checkpoint(from, 0, true);
    store_disk_pump(&from->disk);
    assert_int_equal(store_hold_bytes(hold), first.size_bytes);
    bench_path(from, 0, first.base_offset, ".log", path);
    assert_true(store_disk_has(&from->disk, path));
    bench_fill(from, 0, 3 * BENCH_SEGMENT_BYTES, 3000); /* new files are no recycled ones of ours */
    bench_write(from);
    assert_int_equal(copy(hold, &first, 5000), OK);
    assert_int_equal(judge(&first), OK);
    store_hold_free(hold);
    store_disk_pump(&from->disk);
    assert_false(store_disk_has(&from->disk, path));
}

static void a_dead_log_is_not_read(void **state)
{
    (void)state;
    struct bench_log *source = &from->logs[0];
    uint8_t data[10];
    struct store_sent sent = {0};
    fill(from, 5000);
    struct store_hold *hold = store_hold_new(source->log);
    segment_log_delete(source->log, NULL, NULL);
    store_disk_pump(&from->disk);
    assert_int_equal(store_hold_read(hold, &sent, 0, 5000, 0, 10, data), ERR_CANCELLED);
    store_hold_free(hold);
    source->log = NULL;
}

static void a_reader_checks_what_it_sends(void **state)
{
    (void)state;
    struct bench_log *source = &from->logs[0];
    uint8_t data[3000], byte;
    char path[128];
    fill(from, 3 * BENCH_SEGMENT_BYTES);
    const struct segment_row row = source->rows[0];
    struct store_hold *hold = store_hold_new(source->log);
    bench_path(from, 0, 0, ".log", path);
    store_disk_get(&from->disk, path, 31000, &byte, 1);
    byte ^= 4;
    store_disk_put(&from->disk, path, 31000, &byte, 1);
    for (uint64_t at = 0; at + sizeof data <= row.size_bytes; at += 500) {
        struct store_sent sent = {0};
        enum err error = store_hold_read(hold, &sent, 0, row.size_bytes, at, sizeof data, data);
        bool is_on_it = at <= 31000 && at + sizeof data > 31000;
        bool is_far = at > 37000 || at + sizeof data < 27000;
        assert_true(error == OK || error == ERR_CORRUPT);
        assert_true(!is_on_it || error == ERR_CORRUPT);
        assert_true(!is_far || error == OK); /* only its own batch is lost */
    }
    struct store_sent sent = {0};
    assert_int_equal(store_hold_read(hold, &sent, 0, row.size_bytes, row.size_bytes, 1, data), ERR_OUT_OF_RANGE);
    assert_int_equal(store_hold_read(hold, &sent, 0, row.size_bytes, row.size_bytes - 1, 2, data), ERR_OUT_OF_RANGE);
    assert_int_equal(store_hold_read(hold, &sent, 1, row.size_bytes, 0, 1, data), ERR_OUT_OF_RANGE);
    store_hold_free(hold);
}

static void every_wrong_byte_is_refused(void **state)
{
    (void)state;
    struct bench_log *source = &from->logs[0];
    char path[128];
    fill(from, 9000);
    struct segment_row row = source->rows[0];
    struct store_hold *hold = store_hold_new(source->log);
    assert_int_equal(copy(hold, &row, 100000), OK);
    assert_int_equal(judge(&row), OK);
    staging_path(0, path);
    for (uint64_t at = 0; at < row.size_bytes; at += 7) {
        uint8_t byte;
        store_disk_get(&to->disk, path, at, &byte, 1);
        byte ^= 0x10;
        store_disk_put(&to->disk, path, at, &byte, 1);
        assert_int_equal(judge(&row), ERR_CORRUPT);
        byte ^= 0x10;
        store_disk_put(&to->disk, path, at, &byte, 1);
    }
    assert_int_equal(judge(&row), OK);
    struct segment_row other = row; /* good batches, but not those of this row */
    other.chain ^= 1;
    assert_int_equal(judge(&other), ERR_CORRUPT);
    other = row;
    other.end_offset++;
    assert_int_equal(judge(&other), ERR_CORRUPT);
    other = row;
    other.size_bytes += BATCH_HEADER_BYTES;
    assert_int_equal(judge(&other), ERR_CORRUPT);
    staging_path(99, path); /* there is no such file */
    other.base_offset = 99;
    assert_int_equal(judge(&other), ERR_CORRUPT);
    store_hold_free(hold);
}

/* The own segment has the right size, and its manifest the right chain, but the file has other bytes. */
static void what_is_here_is_not_believed(void **state)
{
    (void)state;
    struct bench_log *l = &to->logs[0];
    struct store_check check = {0};
    enum err error;
    uint8_t byte;
    char path[128];
    fill(to, 20000);
    const struct segment_row row = l->rows[0];
    struct store_hold *own = store_hold_new(l->log);
    while ((error = store_check_held(own, &row, &check)) == ERR_AGAIN) {
    }
    assert_int_equal(error, OK);
    bench_path(to, 0, 0, ".log", path);
    store_disk_get(&to->disk, path, 15000, &byte, 1);
    byte ^= 1;
    store_disk_put(&to->disk, path, 15000, &byte, 1);
    memset(&check, 0, sizeof check);
    while ((error = store_check_held(own, &row, &check)) == ERR_AGAIN) {
    }
    assert_int_equal(error, ERR_CORRUPT);
    store_hold_free(own);
}

/* The front of a segment from here, the rest from there: judged as one. */
static void a_segment_goes_on_where_the_own_one_ends(void **state)
{
    (void)state;
    struct bench_log *source = &from->logs[0], *l = &to->logs[0];
    char path[128];
    uint8_t data[100000];
    fill(from, 40000);
    const struct segment_row row = source->rows[0];
    bench_fill(to, 0, 15000, 3000);
    bench_write(to);
    struct segment_row own;
    struct store_hold *mine = store_hold_new(l->log), *hold = store_hold_new(source->log);
    assert_true(store_hold_find(mine, 0, &own));
    assert_true(own.size_bytes > 10000 && own.size_bytes < row.size_bytes);
    staging_path(0, path);
    assert_int_equal(store_stage_adopt(mine, 0, path, 0, 8000), OK);
    assert_int_equal(store_stage_adopt(mine, 0, path, 8000, (uint32_t)own.size_bytes - 8000), OK);
    struct store_sent sent = {0};
    uint32_t rest = (uint32_t)(row.size_bytes - own.size_bytes);
    assert_int_equal(store_hold_read(hold, &sent, 0, row.size_bytes, own.size_bytes, rest, data), OK);
    assert_int_equal(store_stage_write(to->store, path, own.size_bytes, data, rest), OK);
    assert_int_equal(judge(&row), OK);
    store_hold_free(mine);
    place(l, source->rows, 1, false);
    learn(l, source);
    bench_read_all(to, 0);
    store_hold_free(hold);
}

/* Moved into their places, and no manifest knows of it: the one from before is as good as ever. */
static void a_crash_before_the_manifest_leaves_the_old_picture(void **state)
{
    (void)state;
    struct bench_log *source = &from->logs[0], *l = &to->logs[0];
    for (int power_cut = 0; power_cut <= 1; power_cut++) {
        const struct tree_cut cut = {.keep = 0.5};
        fill(from, 3 * BENCH_SEGMENT_BYTES);
        if (power_cut == 0) {
            bench_fill(to, 0, 30000, 3000);
            bench_write(to);
            bench_checkpoint(to, 0, true);
        }
        struct store_place places[16] = {{0}};
        struct store_hold *hold = store_hold_new(source->log);
        for (uint32_t i = 0; i < source->rows_count; i++) {
            assert_int_equal(copy(hold, &source->rows[i], 4096), OK);
            assert_int_equal(judge(&source->rows[i]), OK);
            places[i] = (struct store_place){.base_offset = source->rows[i].base_offset,
                                             .size_bytes = source->rows[i].size_bytes,
                                             .is_staged = true,
                                             .is_active = i + 1 == source->rows_count};
            staging_path(places[i].base_offset, places[i].path);
        }
        segment_log_abandon(l->log);
        store_disk_pump(&to->disk);
        l->log = NULL;
        assert_int_equal(store_place_files(to->store, l->group, STAGING, places, source->rows_count), OK);
        bench_restart(to, power_cut > 0 ? &cut : NULL);
        bench_read_all(to, 0);
        store_hold_free(hold);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_log_opens_over_what_was_sent),
        TEST(a_hold_outlives_retention),
        TEST(a_dead_log_is_not_read),
        TEST(a_reader_checks_what_it_sends),
        TEST(every_wrong_byte_is_refused),
        TEST(what_is_here_is_not_believed),
        TEST(a_segment_goes_on_where_the_own_one_ends),
        TEST(a_crash_before_the_manifest_leaves_the_old_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
