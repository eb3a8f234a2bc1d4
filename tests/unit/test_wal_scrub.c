/* The scrub of the log: every flipped bit of what is durable is found, in every file, and nothing else is, whatever
 * goes on meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wal/scrub.h"
#include "wal_bench.h"

struct walk {
    struct bench *b;
    struct wal_scrub *scrub;
    unsigned damages, pieces;
    uint64_t from_lsn, end_lsn; /* of the last one */
    uint64_t bytes;
};

static void on_damage(void *context, uint64_t from_lsn, uint64_t end_lsn)
{
    struct walk *w = context;
    assert_true(from_lsn < end_lsn);
    w->damages++;
    w->from_lsn = from_lsn;
    w->end_lsn = end_lsn;
}

static void on_piece(void *context, enum err error, uint32_t bytes)
{
    struct walk *w = context;
    assert_int_equal(error, OK);
    w->pieces++;
    w->bytes += bytes;
}

static struct walk *begin(struct bench *b)
{
    struct walk *w = calloc(1, sizeof *w);
    w->b = b;
    w->scrub = wal_scrub_new(&(struct wal_scrub_options){
        .wal = b->wal, .disk = &b->d.disk, .context = w, .on_damage = on_damage, .on_piece = on_piece});
    return w;
}

static void end(struct walk *w)
{
    wal_scrub_free(w->scrub);
    free(w);
}

static unsigned walk_all(struct walk *w)
{
    w->damages = w->pieces = 0;
    w->bytes = 0;
    while (wal_scrub_piece(w->scrub) == OK) {
        unsigned before = w->pieces;
        while (w->pieces == before) {
            assert_true(wal_disk_step(&w->b->d, DISK_LANE_STORE));
        }
    }
    return w->damages;
}

static void what_is_durable_is_clean(void **state)
{
    struct bench *b = bench_opened();
    (void)state;
    struct walk *w = begin(b);
    assert_int_equal(walk_all(w), 0);
    assert_int_equal(w->pieces, 0); /* nothing in it yet */
    bench_fill_three_files(b);
    bench_append(b, 5, 1000, 300); /* gathered, not durable */
    assert_int_equal(walk_all(w), 0);
    assert_true(w->bytes > 2 * BENCH_FILE_BYTES);
    bench_settle(b);
    assert_int_equal(walk_all(w), 0);
    end(w);
    bench_reopen(b);
    w = begin(b);
    assert_int_equal(walk_all(w), 0);
    end(w);
    bench_free(b);
}

/* All bytes of the file at path that count, and some that fill up: found, with a range that holds it; or not. */
static void flip_file(struct walk *w, const char *path, uint64_t used_bytes)
{
    struct wal_disk_node *node = wal_disk_find(&w->b->d, path);
    struct wal__file_header file;
    assert_int_equal(wal__file_header_decode(node->data, &file), OK);
    for (uint64_t at = 0; at < WAL_BLOCK_BYTES; at += at < 512 ? 3 : 700) {
        wal_disk_flip(&w->b->d, path, at, 1);
        assert_int_equal(walk_all(w), at < 512 ? 1 : 0);
        assert_true(at >= 512 || w->from_lsn == file.base_lsn);
        wal_disk_flip(&w->b->d, path, at, 1);
    }
    for (uint64_t begin_offset = WAL_BLOCK_BYTES; begin_offset < used_bytes;) {
        struct wal__batch_header header;
        uint64_t lsn = file.base_lsn + begin_offset - WAL_BLOCK_BYTES;
        assert_true(wal__batch_header_decode(node->data + begin_offset, file.salt, lsn, &header));
        uint32_t span = wal__span(header.length);
        for (uint32_t at = 0; at < span; at += at < 64 ? 5 : 331) {
            wal_disk_flip(&w->b->d, path, begin_offset + at, 1);
            assert_int_equal(walk_all(w), at < header.length ? 1 : 0);
            if (at < header.length) {
                assert_int_equal(w->from_lsn, lsn);
                assert_int_equal(w->end_lsn, lsn + span);
            }
            wal_disk_flip(&w->b->d, path, begin_offset + at, 1);
        }
        begin_offset += span;
    }
    assert_int_equal(walk_all(w), 0);
}

static void a_flipped_byte_anywhere_is_found(void **state)
{
    struct bench *b = bench_opened();
    uint64_t lsns[4];
    (void)state;
    bench_commit_four(b, 3000, lsns);
    uint64_t durable_lsn = wal_durable_lsn(b->wal);
    struct walk *w = begin(b);
    struct bench_place place = bench_find(b, lsns[0]);
    flip_file(w, place.path, place.offset + durable_lsn - lsns[0]);
    end(w);
    bench_free(b);
}

static void every_file_is_read(void **state)
{
    struct bench *b = bench_opened();
    (void)state;
    uint64_t first_end = bench_fill_three_files(b);
    struct walk *w = begin(b);
    bench_rot(b, first_end, 70, 1);
    assert_int_equal(walk_all(w), 1);
    assert_int_equal(w->from_lsn, first_end);
    assert_int_equal(walk_all(w), 1); /* again, until it is released */
    wal_release(b->wal, wal_next_lsn(b->wal));
    bench_settle(b);
    assert_int_equal(walk_all(w), 0);
    end(w);
    bench_free(b);
}

/* Files are released and written over between and beside the pieces. */
static void no_false_alarm_while_files_are_recycled(void **state)
{
    struct bench *b = bench_opened();
    struct walk *w = begin(b);
    const uint64_t groups[] = {5, 6};
    bool is_busy = false;
    unsigned before = 0;
    (void)state;
    for (uint64_t i = 1; i < 600; i++) {
        if (is_busy && w->pieces > before) {
            is_busy = false;
        }
        if (!is_busy) {
            before = w->pieces;
            is_busy = wal_scrub_piece(w->scrub) == OK;
        }
        if (i % 3 == 0) {
            wal_disk_step(&b->d, DISK_LANE_STORE);
        }
        bench_commit(b, groups, 2, i, 500 + (uint32_t)(i * 37 % 5000));
        if (i % 7 == 0) {
            wal_release(b->wal, wal_durable_lsn(b->wal));
        }
    }
    bench_settle(b);
    assert_int_equal(w->damages, 0);
    assert_int_equal(walk_all(w), 0);
    end(w);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_durable_is_clean),
        cmocka_unit_test(a_flipped_byte_anywhere_is_found),
        cmocka_unit_test(every_file_is_read),
        cmocka_unit_test(no_false_alarm_while_files_are_recycled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
