/* Reading: boundaries, damage, what recycled files hold behind their end, indexes that lie or are missing, times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "store_bench.h"

#define TAIL (1u << 20)

static uint64_t position_of(const struct bench *b, int log, int64_t segment_base, int64_t offset)
{
    uint64_t position = 0;
    for (const struct bench_batch *batch = bench_at(b, log, segment_base); batch->end_offset <= offset; batch++) {
        position += batch->size_bytes;
    }
    return position;
}

/* --- boundaries --- */

static void any_offset_and_size(void **state)
{
    uint64_t tails[] = {TAIL, 60000, 0};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct bench *b = bench_new(1000, tails[i]);
        for (int j = 0; j < 150; j++) {
            bench_append(b, 0, 1 + (uint32_t)rng_below(&b->disk.rng, 7), 61 + (uint32_t)rng_below(&b->disk.rng, 4000));
        }
        bench_write(b);
        for (int64_t offset = 1000; offset < segment_log_next(b->logs[0].log); offset++) {
            uint32_t bytes_max = (uint32_t)rng_below(&b->disk.rng, 20000);
            const struct bench_batch *batch = bench_at(b, 0, offset);
            assert_int_equal(bench_read(b, 0, offset, bytes_max), OK);
            assert_true(b->read.bytes >= batch->size_bytes); /* the one that holds offset, whole */
            assert_true(b->read.bytes <= bytes_max || b->read.bytes == batch->size_bytes);
        }
        assert_int_equal(bench_read(b, 0, 999, 100), ERR_OUT_OF_RANGE);
        assert_int_equal(bench_read(b, 0, segment_log_next(b->logs[0].log) + 1, 100), ERR_OUT_OF_RANGE);
        bench_free(b);
    }
}

static void fills_what_may_be_read(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    b->segment_bytes = 4 << 20;
    bench_restart(b, NULL);
    bench_fill(b, 0, 3 << 20, 10000);
    bench_write(b);
    assert_int_equal(bench_read(b, 0, 0, 100000), OK);
    assert_int_equal(b->read.bytes, 100000);
    assert_int_equal(b->read.parts_count, 1); /* no copy, no pieces */
    assert_int_equal(bench_read(b, 0, 0, 99999), OK);
    assert_int_equal(b->read.bytes, 90000);
    assert_int_equal(bench_read(b, 0, 0, 16 << 20), OK); /* one job reads one buffer */
    assert_true(b->read.bytes <= STORE_READ_BYTES && b->read.bytes > STORE_READ_BYTES - 10000);
    bench_free(b);
}

static void batches_larger_than_a_buffer(void **state)
{
    struct bench *b = bench_new(0, 0);
    (void)state;
    b->segment_bytes = 64 << 20;
    bench_restart(b, NULL);
    for (int i = 0; i < 4; i++) {
        bench_append(b, 0, 3, 1000);
        bench_append(b, 0, 3, STORE_READ_BYTES + 1);
        bench_append(b, 0, 3, 700000);
        bench_append(b, 0, 3, BATCH_BYTES_MAX);
    }
    bench_write(b);
    for (int64_t offset = 0; offset < segment_log_next(b->logs[0].log); offset++) {
        assert_int_equal(bench_read(b, 0, offset, 5000), OK);
        assert_int_equal(b->read.bytes, bench_at(b, 0, offset)->size_bytes);
    }
    bench_free(b);
}

static void parts_outlive_the_tail_and_the_store(void **state)
{
    struct bench *b = bench_new(0, 30000);
    static struct segment_read read;
    (void)state;
    bench_fill(b, 0, 30000, 3000);
    read = (struct segment_read){.offset = 0, .bytes_max = 30000};
    assert_int_equal(segment_log_read(b->logs[0].log, &read), OK);
    assert_int_equal(read.parts_count, 20);
    bench_fill(b, 0, 300000, 3000);
    bench_write(b);
    uint64_t reads = b->disk.opens;
    assert_int_equal(bench_read(b, 0, 0, 1), OK); /* evicted: from the disk */
    (void)reads;
    bench_check_parts(b, &b->logs[0], &read);
    segment_read_release(&b->read);
    bench_crash(b, NULL);
    bench_check_parts(b, &b->logs[0], &read);
    segment_read_release(&read);
    assert_int_equal(read.parts_count, 0);
    bench_free(b);
}

static void many_small_batches_fill_the_parts(void **state)
{
    struct bench *b = bench_new(0, TAIL);
    (void)state;
    bench_fill(b, 0, 100 * 1000, 100);
    assert_int_equal(bench_read(b, 0, 0, 1 << 20), OK);
    assert_int_equal(b->read.parts_count, SEGMENT_READ_PARTS_MAX);
    bench_read_all(b, 0);
    bench_free(b);
}

/* --- damage --- */

static void a_bad_byte_spoils_its_batch_only(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 60000, 6000); /* one segment, an index entry per batch */
    bench_append(b, 0, 1, 20000);  /* rolls: the first is finished */
    bench_write(b);
    bench_path(b, 0, 0, ".log", path);
    const struct bench_batch *bad = &b->logs[0].batches[4];
    const struct bench_batch *next = bad + 1;
    uint64_t position = position_of(b, 0, 0, bad->base_offset);
    /* base offset, length, epoch, magic, crc, attributes, offset delta, timestamp, payload */
    uint32_t places[] = {0, 7, 8, 11, 12, 16, 17, 21, 23, 26, 35, 57, 61, 3000, 5999};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        uint8_t byte;
        store_disk_get(&b->disk, path, position + places[i], &byte, 1);
        uint8_t flipped = byte ^ 0x81;
        store_disk_put(&b->disk, path, position + places[i], &flipped, 1);
        assert_int_equal(bench_read(b, 0, 0, 60000), OK); /* the good ones before it */
        bool is_outside_crc = places[i] == 12;            /* the epoch is not covered: a negative one is refused */
        assert_true(b->read.bytes == position || is_outside_crc);
        assert_int_equal(bench_read(b, 0, bad->base_offset, 100), ERR_CORRUPT);
        assert_int_equal(bench_read(b, 0, bad->end_offset - 1, 100), ERR_CORRUPT);
        assert_int_equal(bench_read(b, 0, next->base_offset, 60000), OK); /* and those behind it */
        assert_int_equal(bench_read(b, 0, segment_log_next(b->logs[0].log) - 1, 60000), OK);
        store_disk_put(&b->disk, path, position + places[i], &byte, 1);
        assert_int_equal(bench_read(b, 0, bad->base_offset, 100), OK);
    }
    bench_free(b);
}

/* The same in the active segment, whose index is in memory. */
static void damage_in_the_active_segment(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 60000, 6000);
    bench_write(b);
    bench_path(b, 0, 0, ".log", path);
    store_disk_put(&b->disk, path, 4 * 6000 + 16, "x", 1);
    assert_int_equal(bench_read(b, 0, b->logs[0].batches[4].base_offset, 100), ERR_CORRUPT);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(bench_read(b, 0, b->logs[0].batches[i].base_offset, 100), i == 4 ? ERR_CORRUPT : OK);
    }
    bench_free(b);
}

/* A whole batch of another log, with a good CRC and an offset that is asked for, stands where it does not belong. */
static void a_misdirected_batch_is_not_served(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    uint8_t foreign[500];
    (void)state;
    for (int i = 0; i < 20; i++) {
        bench_append(b, 0, 1, sizeof foreign);
        bench_append(b, 1, 1, sizeof foreign);
    }
    bench_write(b);
    bench_path(b, 1, 0, ".log", path);
    store_disk_get(&b->disk, path, 6 * sizeof foreign, foreign, sizeof foreign);
    bench_path(b, 0, 0, ".log", path);
    store_disk_put(&b->disk, path, 3 * sizeof foreign, foreign, sizeof foreign);
    for (int64_t offset = 0; offset < 20; offset++) { /* what is served is compared byte for byte */
        enum err error = bench_read(b, 0, offset, 100);
        assert_int_equal(error, offset == 3 ? ERR_CORRUPT : OK);
    }
    bench_free(b);
}

/* Every batch but the ones from `first` on to `last` is served; nobody knows the segment's batches before. */
static void check_hole(struct bench *b, uint32_t first, uint32_t last)
{
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < b->logs[0].count; i++) {
            const struct bench_batch *batch = &b->logs[0].batches[b->logs[0].count - 1 - i];
            bool is_lost = batch >= &b->logs[0].batches[first] && batch <= &b->logs[0].batches[last];
            assert_int_equal(bench_read(b, 0, batch->base_offset, 100), is_lost ? ERR_CORRUPT : OK);
            assert_int_equal(bench_read(b, 0, batch->end_offset - 1, 100), is_lost ? ERR_CORRUPT : OK);
        }
    }
}

static void reopen_with(struct bench *b, const char *path, uint64_t position, const void *bytes, size_t size)
{
    bench_crash(b, NULL);
    store_disk_put(&b->disk, path, position, bytes, size);
    assert_int_equal(bench_reopen(b), OK);
}

/* After a restart the active segment's index is made from its headers: a rotten one hides its batch, no other. */
static void a_rotten_header_hides_its_batch_only(void **state)
{
    static const uint32_t places[] = {0, 7, 8, 9, 10, 11, 16, 17, 21, 23, 24, 26, 35, 42, 43, 57};
    static const uint32_t bads[] = {0, 7, 8, 44, 59};
    (void)state;
    for (size_t at = 0; at < sizeof bads / sizeof bads[0] * sizeof places / sizeof places[0]; at++) {
        struct bench *b = bench_new(0, 0);
        uint32_t bad = bads[at % 5];
        uint32_t place = places[at / 5];
        uint64_t position = bad * 300;
        char path[128];
        uint8_t bytes[300];
        for (int i = 0; i < 60; i++) { /* an index entry every 14 batches */
            bench_append_at(b, 0, 1 + i % 3, 300, 1000 + i, 0);
        }
        bench_checkpoint(b, 0, true);
        bench_path(b, 0, 0, ".log", path);
        store_disk_get(&b->disk, path, position, bytes, sizeof bytes);
        bytes[place] ^= 0x41;
        reopen_with(b, path, position, bytes, bad == 59 ? place + 1 : sizeof bytes);
        bool is_in_tail = position + place >= 60 * 300 / 4096 * 4096; /* the checkpoint has that block */
        check_hole(b, is_in_tail ? 60 : bad, is_in_tail ? 60 : bad);
        for (int i = 0; i < 30; i++) { /* and what comes behind it, in this life */
            bench_append_at(b, 0, 2, 300, 2000 + i, 0);
        }
        bench_write(b);
        check_hole(b, is_in_tail ? 90 : bad, is_in_tail ? 90 : bad);
        bench_free(b);
    }
}

/* Two of them; the first leads to the batch behind it by its length, the other one by nothing. */
static void two_rotten_headers(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    for (int i = 0; i < 60; i++) {
        bench_append(b, 0, 2, 500);
    }
    bench_checkpoint(b, 0, true);
    bench_path(b, 0, 0, ".log", path);
    reopen_with(b, path, 20 * 500 + 8, "\xff", 1);
    store_disk_put(&b->disk, path, 21 * 500 + 2, "\xff", 1);
    check_hole(b, 20, 21);
    store_disk_put(&b->disk, path, 10 * 500 + 16, "\xff", 1);
    bench_crash(b, NULL);
    assert_int_equal(bench_reopen(b), OK);
    for (uint32_t i = 0; i < 60; i++) {
        bool is_lost = i == 10 || i == 20 || i == 21;
        assert_int_equal(bench_read(b, 0, b->logs[0].batches[i].base_offset, 100), is_lost ? ERR_CORRUPT : OK);
    }
    bench_free(b);
}

/* The payload of a batch whose length rotted holds a whole batch with a good CRC and an offset that may come: it does
 * not lead on to the end. */
static void a_payload_that_imitates_a_batch_is_not_served(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    uint8_t foreign[400];
    (void)state;
    for (int i = 0; i < 20; i++) {
        bench_append(b, 0, 2, i == 7 ? 5000 : sizeof foreign);
        bench_append(b, 1, 2, sizeof foreign);
    }
    bench_checkpoint(b, 0, true);
    bench_write(b);
    bench_path(b, 1, 0, ".log", path);
    store_disk_get(&b->disk, path, 9 * sizeof foreign, foreign, sizeof foreign);
    bench_path(b, 0, 0, ".log", path);
    reopen_with(b, path, 7 * sizeof foreign + 8, "\xff", 1);
    store_disk_put(&b->disk, path, 7 * sizeof foreign + 1234, foreign, sizeof foreign);
    check_hole(b, 7, 7); /* what is served is compared byte for byte */
    bench_free(b);
}

/* The batch that holds the whole segment's end says less than the manifest. */
static void a_last_header_that_lies(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 40000, 6000);
    bench_append(b, 0, 9, 8192 - 42000 % 4096 + 4096); /* nothing of it is in the checkpoint's tail */
    bench_checkpoint(b, 0, true);
    bench_path(b, 0, 0, ".log", path);
    const struct bench_batch *last = &b->logs[0].batches[b->logs[0].count - 1];
    uint64_t position = position_of(b, 0, 0, last->base_offset);
    reopen_with(b, path, position + 26, "\3", 1);
    check_hole(b, b->logs[0].count - 1, b->logs[0].count - 1);
    bench_free(b);
}

static void a_short_or_missing_file_is_damage(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 200000, 6000);
    bench_write(b);
    bench_checkpoint(b, 0, true);
    bench_crash(b, NULL);
    bench_path(b, 0, b->logs[0].batches[10].base_offset, ".log", path);
    store_disk_remove(&b->disk, path);
    assert_int_equal(bench_reopen(b), OK);
    assert_int_equal(bench_read(b, 0, b->logs[0].batches[9].base_offset, 100), OK);
    assert_int_equal(bench_read(b, 0, b->logs[0].batches[10].base_offset, 100), ERR_CORRUPT);
    assert_int_equal(bench_read(b, 0, b->logs[0].batches[19].base_offset, 100), ERR_CORRUPT);
    assert_int_equal(bench_read(b, 0, b->logs[0].batches[20].base_offset, 100), OK);
    bench_append(b, 0, 1, 1000);
    bench_write(b);
    assert_int_equal(bench_read(b, 0, segment_log_next(b->logs[0].log) - 1, 100), OK);
    bench_free(b);
}

/* What the checkpoint holds of the last block is there again, at the first start as at every other one. */
static void the_tail_of_a_short_file_is_restored(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    uint8_t bytes[3000];
    (void)state;
    bench_fill(b, 0, 30000, 6000);
    while (segment_log_bytes(b->logs[0].log) % 4096 < 2500) {
        bench_append(b, 0, 2, 300);
    }
    bench_checkpoint(b, 0, true);
    bench_path(b, 0, 0, ".log", path);
    store_disk_get(&b->disk, path, 0, bytes, sizeof bytes);
    const struct bench_batch *last = &b->logs[0].batches[b->logs[0].count - 1];
    for (int life = 0; life < 3; life++) {
        bench_crash(b, NULL);
        if (life == 0) {
            store_disk_remove(&b->disk, path);
            store_disk_put(&b->disk, path, 0, bytes, sizeof bytes);
        }
        assert_int_equal(bench_reopen(b), OK);
        assert_int_equal(bench_read(b, 0, 0, 100), ERR_CORRUPT);
        assert_int_equal(bench_read(b, 0, last->base_offset, 100), OK);
    }
    bench_free(b);
}

/* The active file of the checkpoint is gone: a recycled one must not stand in for it, its old batches could pass for
 * the lost ones. */
static void a_missing_active_file_is_not_replaced_by_a_spare(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    bench_fill(b, 0, 4 * 60000, 6000);
    bench_write(b);
    bench_checkpoint(b, 0, true);
    segment_log_set_start(b->logs[0].log, b->logs[0].batches[20].base_offset);
    bench_checkpoint(b, 0, true);
    assert_int_equal(store_disk_count(&b->disk, "parts/spare"), 2);
    bench_crash(b, NULL);
    bench_path(b, 0, b->logs[0].batches[30].base_offset, ".log", path);
    store_disk_remove(&b->disk, path);
    assert_int_equal(bench_reopen(b), OK);
    bench_append(b, 0, 1, 1000);
    bench_write(b);
    assert_int_equal(store_disk_count(&b->disk, "parts/spare"), 2);
    assert_int_equal(bench_read(b, 0, b->logs[0].batches[30].base_offset, 100), ERR_CORRUPT);
    bench_free(b);
}

static void recycled_bytes_are_never_served(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    for (int i = 0; i < 8; i++) { /* log 1 always writes into what log 0 left: whole batches with good CRCs */
        bench_fill(b, 0, 61000, 6000);
        bench_checkpoint(b, 0, true);
        segment_log_set_start(b->logs[0].log, b->logs[0].batches[b->logs[0].count - 1].base_offset);
        bench_checkpoint(b, 0, true);
        assert_true(store_disk_count(&b->disk, "parts/spare") >= 1);
        bench_fill(b, 1, 61000, 6000);
        bench_write(b);
    }
    struct store_stats stats;
    store_stats(b->store, &stats);
    assert_true(stats.recycled > 5);
    /* The active file of log 1 is a recycled one: it is longer than the log, and what follows the end reads as a batch.
     */
    const struct bench_log *l = &b->logs[1];
    int64_t base_offset = l->batches[l->count - l->count % 10].base_offset;
    uint64_t end = position_of(b, 1, base_offset, l->batches[l->count - 1].end_offset - 1) + 6000;
    bench_path(b, 1, base_offset, ".log", path);
    assert_true(store_disk_size(&b->disk, path) > end + 10000);
    for (uint64_t at = end; at % 4096 != 0; at++) { /* a tool that does not know the end finds none right behind it */
        uint8_t byte;
        store_disk_get(&b->disk, path, at, &byte, 1);
        assert_int_equal(byte, 0);
    }
    bench_read_all(b, 1);
    assert_int_equal(bench_read(b, 1, base_offset, 1 << 20), OK);
    assert_int_equal(b->read.bytes, end);
    bench_checkpoint(b, 1, true);
    bench_restart(b, NULL);
    bench_read_all(b, 1);
    assert_int_equal(bench_read(b, 1, base_offset, 1 << 20), OK);
    assert_int_equal(b->read.bytes, end);
    store_trim(b->store); /* a clean stop leaves files that end where the log ends */
    bench_let(b);
    assert_int_equal(store_disk_size(&b->disk, path), end);
    bench_fill(b, 1, 120000, 6000);
    bench_write(b);
    bench_read_all(b, 1);
    bench_free(b);
}

/* --- indexes --- */

static void index_files_are_kafkas(void **state)
{
    struct bench *b = bench_new(500, 0);
    char path[128];
    (void)state;
    for (int i = 0; i < 100; i++) {
        int64_t timestamp = 1000 + (int64_t)rng_below(&b->disk.rng, 300);
        bench_append_at(b, 0, 1 + (uint32_t)rng_below(&b->disk.rng, 5), 1000, timestamp, 0); /* 65 fit */
    }
    bench_write(b);
    const struct bench_batch *batches = b->logs[0].batches;
    uint8_t index[20 * 8];
    uint8_t times[20 * 12];
    bench_path(b, 0, 500, ".index", path);
    uint64_t size = store_disk_size(&b->disk, path);
    assert_int_equal(size, 13 * 8 - 8); /* LogSegment.append: one more than 4096 bytes after the last, so each fifth */
    store_disk_get(&b->disk, path, 0, index, size);
    for (uint32_t i = 0; i < size / 8; i++) {
        const struct bench_batch *batch = &batches[5 * (i + 1)];
        assert_int_equal(load_be32(index + 8 * i), batch->end_offset - 1 - 500);
        assert_int_equal(load_be32(index + 8 * i + 4), 5000 * (i + 1));
    }
    bench_path(b, 0, 500, ".timeindex", path);
    size = store_disk_size(&b->disk, path);
    store_disk_get(&b->disk, path, 0, times, size);
    assert_int_equal(size % 12, 0);
    int64_t last = -1;
    int64_t largest = -1;
    for (int i = 0; i < 65; i++) {
        largest = batches[i].timestamp > largest ? batches[i].timestamp : largest;
    }
    for (uint32_t i = 0; i < size / 12; i++) {
        int64_t timestamp = (int64_t)load_be64(times + 12 * i);
        const struct bench_batch *batch = bench_at(b, 0, 500 + load_be32(times + 12 * i + 8));
        assert_true(timestamp > last);
        assert_int_equal(batch->timestamp, timestamp);
        assert_int_equal(batch->end_offset - 1 - 500, load_be32(times + 12 * i + 8));
        last = timestamp;
    }
    assert_int_equal(last, largest);
    bench_free(b);
}

static void read_everywhere(struct bench *b)
{
    for (int64_t offset = segment_log_next(b->logs[0].log) - 1; offset >= 0; offset -= 3) {
        assert_int_equal(bench_read(b, 0, offset, 100), OK);
    }
}

static void indexes_are_rebuilt_never_trusted(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    uint8_t good[128];
    (void)state;
    for (int i = 0; i < 100; i++) {
        bench_append_at(b, 0, 1 + (uint32_t)rng_below(&b->disk.rng, 5), 1000, 1000 + i, 0);
    }
    bench_write(b);
    bench_path(b, 0, 0, ".index", path);
    uint64_t size = store_disk_size(&b->disk, path);
    store_disk_get(&b->disk, path, 0, good, size);
    for (int round = 0; round < 40; round++) {
        if (round == 0) {
            store_disk_remove(&b->disk, path);
        } else if (round == 1) {
            store_disk_put(&b->disk, path, size, "x", 1); /* odd size */
        } else {
            uint8_t junk[128];
            memcpy(junk, good, size);
            for (uint64_t i = 0; i < size; i++) {
                if (rng_chance(&b->disk.rng, round % 2 == 0 ? 0.05 : 0.9)) {
                    junk[i] = (uint8_t)rng_next(&b->disk.rng);
                }
            }
            store_disk_put(&b->disk, path, 0, junk, size);
        }
        read_everywhere(b);
        if (round < 2) {
            uint8_t again[128];
            assert_int_equal(store_disk_size(&b->disk, path), size);
            store_disk_get(&b->disk, path, 0, again, size);
            assert_memory_equal(again, good, size);
        }
    }
    bench_free(b);
}

/* After a restart nobody knows where the batches of the active segment begin, until a read asks. */
static void the_active_segment_is_indexed_again(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    uint8_t index[200];
    (void)state;
    b->segment_bytes = 100000;
    bench_restart(b, NULL);
    for (int i = 0; i < 40; i++) {
        bench_append_at(b, 0, 2, 1000, 1000 + i, 0);
    }
    bench_checkpoint(b, 0, true);
    bench_restart(b, NULL);
    for (int i = 40; i < 60; i++) {
        bench_append_at(b, 0, 2, 1000, 1000 + i, 0);
    }
    bench_write(b);
    read_everywhere(b);
    bench_checkpoint(b, 0, true);
    bench_restart(b, NULL); /* now nobody reads before the roll: the seal scans */
    for (int i = 60; i < 110; i++) {
        bench_append_at(b, 0, 2, 1000, 1000 + i, 0);
    }
    bench_write(b);
    bench_path(b, 0, 0, ".index", path);
    uint64_t size = store_disk_size(&b->disk, path);
    assert_int_equal(size, 19 * 8);
    store_disk_get(&b->disk, path, 0, index, size);
    for (uint32_t i = 0; i < 19; i++) {
        assert_int_equal(load_be32(index + 8 * i + 4), 5000 * (i + 1));
        assert_int_equal(load_be32(index + 8 * i), 10 * (i + 1) + 1);
    }
    read_everywhere(b);
    bench_free(b);
}

/* --- times --- */

struct answer {
    enum err error;
    int64_t offset;
    int calls;
};

static void on_found(void *context, enum err error, int64_t offset)
{
    *(struct answer *)context =
        (struct answer){.error = error, .offset = offset, .calls = ((struct answer *)context)->calls + 1};
}

static struct answer find(struct bench *b, int log, int64_t timestamp)
{
    struct answer answer = {.error = ERR_INTERNAL};
    segment_log_find_time(b->logs[log].log, timestamp, on_found, &answer);
    assert_int_equal(answer.calls, 0);
    store_disk_pump(&b->disk);
    assert_int_equal(answer.calls, 1);
    return answer;
}

static void check_times(struct bench *b, int log)
{
    struct bench_log *l = &b->logs[log];
    int64_t start = segment_log_start(l->log);
    for (int64_t timestamp = 990; timestamp < 1700; timestamp += 7) {
        int64_t expected = segment_log_next(l->log);
        for (uint32_t i = 0; i < l->count; i++) {
            if (l->batches[i].end_offset > start && l->batches[i].timestamp >= timestamp) {
                expected = l->batches[i].base_offset > start ? l->batches[i].base_offset : start;
                break;
            }
        }
        struct answer answer = find(b, log, timestamp);
        assert_int_equal(answer.error, OK);
        assert_int_equal(answer.offset, expected);
    }
}

static void finds_times_in_memory_and_on_disk(void **state)
{
    uint64_t tails[] = {TAIL, 30000, 0};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct bench *b = bench_new(0, tails[i]);
        struct answer answer = find(b, 0, 5);
        assert_int_equal(answer.offset, 0);
        for (int j = 0; j < 200; j++) { /* roughly rising, as producers' clocks are */
            int64_t timestamp = 1000 + 3 * j + (int64_t)rng_below(&b->disk.rng, 60);
            bench_append_at(b, 0, 1 + (uint32_t)rng_below(&b->disk.rng, 5), 1200, timestamp, 0);
        }
        check_times(b, 0); /* nothing is written yet */
        bench_write(b);
        check_times(b, 0);
        bench_checkpoint(b, 0, true);
        bench_fill(b, 0, 5000, 1000);
        bench_restart(b, NULL);
        check_times(b, 0);
        bench_write(b);
        segment_log_set_start(b->logs[0].log, b->logs[0].batches[77].base_offset + 1 < b->logs[0].batches[77].end_offset
                                                  ? b->logs[0].batches[77].base_offset + 1
                                                  : b->logs[0].batches[77].base_offset);
        check_times(b, 0);
        bench_free(b);
    }
}

static void times_survive_bad_index_files(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    uint8_t junk[600];
    (void)state;
    for (int j = 0; j < 200; j++) {
        bench_append_at(b, 0, 1, 1200, 1000 + 3 * j, 0);
    }
    bench_write(b);
    bench_path(b, 0, 0, ".timeindex", path);
    uint64_t size = store_disk_size(&b->disk, path);
    for (int round = 0; round < 20; round++) {
        for (uint64_t i = 0; i < size; i++) {
            junk[i] = (uint8_t)rng_below(&b->disk.rng, 3);
        }
        store_disk_put(&b->disk, path, 0, junk, size);
        check_times(b, 0);
    }
    store_be64(junk, 1001); /* an entry that names a real batch and lies about the time */
    store_be32(junk + 8, 30);
    store_disk_remove(&b->disk, path);
    store_disk_put(&b->disk, path, 0, junk, 12);
    check_times(b, 0);
    store_disk_remove(&b->disk, path);
    check_times(b, 0);
    bench_path(b, 0, 0, ".log", path);
    store_disk_put(&b->disk, path, 1200 * 3 + 16, "\7", 1);
    assert_int_equal(find(b, 0, 1100).error, ERR_CORRUPT);
    assert_int_equal(find(b, 0, 1000).error, OK);
    bench_free(b);
}

/* A batch that is bad may have been the answer; one in front of where the search begins, or behind the answer, may be
 * as bad as it likes. */
static void a_time_is_not_taken_from_rotten_bytes(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    (void)state;
    for (int j = 0; j < 60; j++) {
        bench_append_at(b, 0, 1, 1200, 1000 + 10 * j, 0);
    }
    bench_write(b);
    bench_path(b, 0, 0, ".log", path);
    for (int life = 0; life < 3; life++) { /* by the index in memory; by the headers; by the index files */
        for (uint32_t place = 21; place < 1200; place += place < 61 ? 1 : 97) {
            uint8_t byte;
            store_disk_get(&b->disk, path, 20 * 1200 + place, &byte, 1);
            uint8_t flipped = byte ^ 0x10;
            store_disk_put(&b->disk, path, 20 * 1200 + place, &flipped, 1);
            assert_int_equal(find(b, 0, 1200).error, ERR_CORRUPT);
            assert_int_equal(find(b, 0, 1191).error, ERR_CORRUPT);
            assert_int_equal(find(b, 0, 1190).offset, 19);
            struct answer behind = find(b, 0, 1400);
            assert_true(behind.error == ERR_CORRUPT ||
                        behind.offset == 40); /* only an index knows that it is not there */
            assert_true(life == 1 || behind.error == OK);
            store_disk_put(&b->disk, path, 20 * 1200 + place, &byte, 1);
            assert_int_equal(find(b, 0, 1200).offset, 20);
        }
        if (life == 0) {
            bench_checkpoint(b, 0, true);
            bench_restart(b, NULL);
        } else if (life == 1) {
            bench_fill(b, 0, 20000, 1200); /* rolls */
            bench_write(b);
        }
    }
    bench_free(b);
}

/* Whole batches, but those of another log: the chain of the manifest says so before the first answer. */
static void a_time_is_not_taken_from_foreign_batches(void **state)
{
    struct bench *b = bench_new(0, 0);
    char path[128];
    uint8_t foreign[12000];
    (void)state;
    for (int j = 0; j < 10; j++) {
        bench_append_at(b, 0, 1, 1200, 1000 + 10 * j, 0);
        bench_append_at(b, 1, 1, 1200, 2000 + 10 * j, 0);
    }
    bench_checkpoint(b, 0, true);
    bench_checkpoint(b, 1, true);
    bench_path(b, 1, 0, ".log", path);
    store_disk_get(&b->disk, path, 0, foreign, sizeof foreign);
    bench_path(b, 0, 0, ".log", path);
    reopen_with(b, path, 0, foreign, 6 * 1200);
    assert_int_equal(find(b, 0, 1050).error, ERR_CORRUPT);
    bench_free(b);
}

/* A read that fails while the chain is judged, and no other, at each place: it must not pass for the damage that would
 * explain why no chain fits. Nor is a segment doubted for ever whose reads go wrong. */
static void doubt_outlasts_a_read_that_fails(void **state)
{
    (void)state;
    for (uint64_t place = 1; place <= 12; place++) {
        for (int is_foreign = 0; is_foreign < 2; is_foreign++) {
            struct bench *b = bench_new(0, 0);
            static uint8_t foreign[200000];
            char path[128];
            for (int log = 0; log < 2; log++) {
                segment_log_configure(b->logs[log].log, 1 << 20, -1);
                for (int i = 0; i < 5; i++) {
                    bench_append(b, log, 1, sizeof foreign / 5);
                }
                bench_checkpoint(b, log, true);
            }
            bench_path(b, is_foreign, 0, ".log", path);
            store_disk_get(&b->disk, path, 0, foreign, sizeof foreign);
            bench_path(b, 0, 0, ".log", path);
            reopen_with(b, path, 0, foreign, 4 * (sizeof foreign / 5)); /* the last block comes with the row */
            b->disk.fail_read_at = place;
            b->disk.fail_reads = 1;
            for (int round = 0; round < 4; round++) {
                enum err error = bench_read(b, 0, 1, 100); /* what is served is compared byte for byte */
                assert_true(error == (is_foreign ? ERR_CORRUPT : OK) || (error == ERR_CORRUPT && round == 0));
            }
            bench_free(b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_offset_and_size),
        cmocka_unit_test(fills_what_may_be_read),
        cmocka_unit_test(batches_larger_than_a_buffer),
        cmocka_unit_test(parts_outlive_the_tail_and_the_store),
        cmocka_unit_test(many_small_batches_fill_the_parts),
        cmocka_unit_test(a_bad_byte_spoils_its_batch_only),
        cmocka_unit_test(damage_in_the_active_segment),
        cmocka_unit_test(a_misdirected_batch_is_not_served),
        cmocka_unit_test(a_rotten_header_hides_its_batch_only),
        cmocka_unit_test(two_rotten_headers),
        cmocka_unit_test(a_payload_that_imitates_a_batch_is_not_served),
        cmocka_unit_test(a_last_header_that_lies),
        cmocka_unit_test(a_short_or_missing_file_is_damage),
        cmocka_unit_test(the_tail_of_a_short_file_is_restored),
        cmocka_unit_test(a_missing_active_file_is_not_replaced_by_a_spare),
        cmocka_unit_test(recycled_bytes_are_never_served),
        cmocka_unit_test(index_files_are_kafkas),
        cmocka_unit_test(indexes_are_rebuilt_never_trusted),
        cmocka_unit_test(the_active_segment_is_indexed_again),
        cmocka_unit_test(finds_times_in_memory_and_on_disk),
        cmocka_unit_test(times_survive_bad_index_files),
        cmocka_unit_test(a_time_is_not_taken_from_rotten_bytes),
        cmocka_unit_test(a_time_is_not_taken_from_foreign_batches),
        cmocka_unit_test(doubt_outlasts_a_read_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
