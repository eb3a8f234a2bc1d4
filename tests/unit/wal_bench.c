/* Opens, feeds and watches a log for the tests. */
#include "wal_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/crc32c.h"

static void on_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct bench *b = context;
    ASSERT(b->seen_count < BENCH_SEEN_MAX);
    ASSERT(record->payload.size == 0 || record->payload.buf->refs == 1);
    b->seen[b->seen_count++] =
        (struct seen_record){.type = record->type,
                             .entry_type = record->entry_type,
                             .group = record->group,
                             .replica = record->replica,
                             .index = record->index,
                             .term = record->term,
                             .lsn = lsn,
                             .payload_size = record->payload.size,
                             .payload_crc = crc32c(0, record->payload.data, record->payload.size)};
}

static void on_damaged(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count)
{
    struct bench *b = context;
    ASSERT(b->damaged_count < BENCH_DAMAGED_MAX && count <= 8);
    struct seen_damage *damage = &b->damaged[b->damaged_count++];
    *damage = (struct seen_damage){.lsn = lsn, .count = count, .records_before = b->seen_count};
    if (count > 0) {
        memcpy(damage->groups, groups, count * sizeof groups[0]);
    }
}

static void on_persisted(void *context, uint64_t lsn_end)
{
    struct bench *b = context;
    ASSERT(lsn_end > b->persisted_lsn && b->failed_calls == 0);
    b->persisted_lsn = lsn_end;
    b->persisted_calls++;
}

static void on_failed(void *context, enum err error)
{
    struct bench *b = context;
    b->failed_error = error;
    b->failed_calls++;
}

struct bench *bench_new(uint64_t seed)
{
    struct bench *b = calloc(1, sizeof *b);
    ASSERT(b != NULL);
    wal_disk_init(&b->d, seed);
    b->budget_bytes = 8 * BENCH_FILE_BYTES;
    return b;
}

void bench_free(struct bench *b)
{
    bench_close(b);
    ASSERT(b->d.open_handles == 0);
    wal_disk_done(&b->d);
    free(b);
}

enum err bench_open(struct bench *b)
{
    ASSERT(b->wal == NULL);
    struct wal_visitor visitor = {.context = b, .record = on_record, .damaged = on_damaged};
    struct wal_options options = {.disk = &b->d.disk,
                                  .clock = &b->d.clock,
                                  .dir = "wal",
                                  .file_bytes = BENCH_FILE_BYTES,
                                  .budget_bytes = b->budget_bytes,
                                  .boot = ++b->boot,
                                  .context = b,
                                  .on_persisted = on_persisted,
                                  .on_failed = on_failed};
    b->seen_count = b->damaged_count = 0;
    b->persisted_lsn = 0;
    b->persisted_calls = b->failed_calls = 0;
    return wal_open(&options, &visitor, &b->wal);
}

void bench_close(struct bench *b)
{
    wal_close(b->wal);
    b->wal = NULL;
    wal_disk_pump(&b->d); /* a chore that was under way */
}

void bench_reopen(struct bench *b)
{
    bench_close(b);
    enum err error = bench_open(b);
    ASSERT(error == OK);
}

static void fill_payload(uint64_t group, uint64_t index, uint8_t *data, uint32_t size)
{
    struct rng rng;
    rng_seed(&rng, group * 1000003 + index);
    for (uint32_t i = 0; i < size; i++) {
        data[i] = (uint8_t)rng_next(&rng);
    }
}

uint32_t bench_payload_crc(uint64_t group, uint64_t index, uint32_t size)
{
    uint8_t *data = malloc(size + 1);
    ASSERT(data != NULL);
    fill_payload(group, index, data, size);
    uint32_t crc = crc32c(0, data, size);
    free(data);
    return crc;
}

uint64_t bench_append(struct bench *b, uint64_t group, uint64_t index, uint32_t size)
{
    struct buf *payload = buf_new(size);
    fill_payload(group, index, payload->data, size);
    struct wal_record record = {.type = WAL_ENTRY,
                                .entry_type = 7,
                                .group = group,
                                .replica = group + 100,
                                .index = index,
                                .term = 3,
                                .payload = {.buf = payload, .data = payload->data, .size = size}};
    uint64_t lsn = wal_append(b->wal, &record);
    buf_unref(payload);
    return lsn;
}

void bench_settle(struct bench *b)
{
    do {
        wal_flush(b->wal);
        wal_disk_pump(&b->d);
        wal_flush(b->wal);
    } while (b->d.first[DISK_LANE_WAL] != NULL || b->d.first[DISK_LANE_STORE] != NULL);
}

uint64_t bench_commit(struct bench *b, const uint64_t *groups, unsigned count, uint64_t index, uint32_t size)
{
    uint64_t lsn = 0;
    for (unsigned i = 0; i < count; i++) {
        lsn = bench_append(b, groups[i], index, size);
    }
    wal_flush(b->wal);
    while (wal_disk_step(&b->d, DISK_LANE_WAL)) {
    }
    ASSERT(wal_durable_lsn(b->wal) > lsn);
    return lsn;
}

bool bench_saw(const struct bench *b, uint64_t group, uint64_t index)
{
    for (unsigned i = 0; i < b->seen_count; i++) {
        if (b->seen[i].group == group && b->seen[i].index == index) {
            return true;
        }
    }
    return false;
}

unsigned bench_files(struct bench *b)
{
    unsigned count = 0;
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        count += b->d.names[i].now != NULL;
    }
    return count;
}

struct bench_place bench_find(struct bench *b, uint64_t lsn)
{
    struct bench_place place = {.offset = 0};
    uint64_t best = 0;
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        struct wal_disk_name *name = &b->d.names[i];
        struct wal__file_header header;
        if (name->now == NULL || name->now->size < WAL_BLOCK_BYTES ||
            wal__file_header_decode(name->now->data, &header) != OK) {
            continue;
        }
        if (header.base_lsn <= lsn && header.base_lsn >= best) {
            best = header.base_lsn;
            strcpy(place.path, name->path);
            place.offset = WAL_BLOCK_BYTES + lsn - header.base_lsn;
        }
    }
    ASSERT(best != 0);
    return place;
}

static const uint64_t g12[] = {1, 2}, g23[] = {3, 2}, g4[] = {4}, g56[] = {5, 6};

struct bench *bench_opened(void)
{
    struct bench *b = bench_new(1);
    assert_int_equal(bench_open(b), OK);
    return b;
}

void bench_commit_four(struct bench *b, uint32_t size, uint64_t lsns[4])
{
    lsns[0] = bench_commit(b, g12, 2, 1, size);
    lsns[1] = bench_commit(b, g23, 2, 2, size);
    lsns[2] = bench_commit(b, g4, 1, 3, size);
    lsns[3] = bench_commit(b, g56, 2, 4, size);
}

void bench_rot(struct bench *b, uint64_t lsn, uint64_t offset, uint64_t size)
{
    struct bench_place place = bench_find(b, lsn);
    wal_disk_flip(&b->d, place.path, place.offset + offset, size);
}

void bench_assert_damage(const struct bench *b, unsigned at, uint64_t lsn, const uint64_t *groups, uint32_t count)
{
    assert_true(at < b->damaged_count);
    assert_int_equal(b->damaged[at].lsn, lsn);
    assert_int_equal(b->damaged[at].count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(b->damaged[at].groups[i], groups[i]);
    }
}

uint64_t bench_fill_three_files(struct bench *b)
{
    uint64_t last_lsn = 0;
    struct wal_stats stats;
    for (uint64_t index = 1;; index++) {
        uint64_t lsn = bench_commit(b, g56, 2, index, 5000);
        wal_stats(b->wal, &stats);
        if (stats.rolls == 0) {
            last_lsn = lsn;
        } else if (stats.rolls == 2) {
            return last_lsn;
        }
    }
}
