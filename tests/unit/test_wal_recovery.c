/* What a start finds: everything durable after a crash at any call, torn tails cut, rot told from tears and laid at
 * the right door. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "wal/batch.h"
#include "wal_bench.h"

static const uint64_t g12[] = {1, 2}, g4[] = {4};

static void test_missing_directory_is_an_empty_log(void **state)
{
    struct bench *b = bench_opened();
    assert_int_equal(b->seen_count, 0);
    assert_int_equal(wal_next_lsn(b->wal), WAL__FIRST_LSN);
    bench_close(b);
    wal_disk_power_cut(&b->d, WAL_DISK_LOSE);
    assert_int_equal(bench_files(b), 1); /* directory, name and header are on the disk */
    bench_free(b);
}

static void test_every_field_comes_back(void **state)
{
    struct bench *b = bench_opened();
    static const enum wal_record_type types[] = {WAL_ENTRY,     WAL_HARD_STATE, WAL_TRUNCATE, WAL_CHECKPOINT,
                                                 WAL_GROUP_NEW, WAL_GROUP_DEAD, WAL_DAMAGED,  WAL_REPAIRED};
    for (unsigned i = 0; i < 8; i++) {
        struct wal_record record = {.type = types[i],
                                    .entry_type = 9,
                                    .group = 1u + i,
                                    .replica = UINT64_MAX - i,
                                    .index = i * 7,
                                    .term = i * 5};
        wal_append(b->wal, &record);
    }
    uint64_t lsn = bench_append(b, 77, 88, 12345);
    bench_settle(b);
    bench_reopen(b);
    assert_int_equal(b->seen_count, 9);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(b->seen[i].type, types[i]);
        assert_int_equal(b->seen[i].entry_type, 9);
        assert_int_equal(b->seen[i].group, 1 + i);
        assert_int_equal(b->seen[i].replica, UINT64_MAX - i);
        assert_int_equal(b->seen[i].index, i * 7);
        assert_int_equal(b->seen[i].term, i * 5);
        assert_int_equal(b->seen[i].payload_size, 0);
        assert_int_equal(b->seen[i].lsn, lsn);
    }
    assert_int_equal(b->seen[8].payload_crc, bench_payload_crc(77, 88, 12345));
    assert_int_equal(wal_next_lsn(b->wal), lsn + wal__span(WAL__BATCH_HEADER_BYTES + 9 * WAL__RECORD_BYTES + 12345));
    bench_free(b);
}

static void test_many_boots_make_one_log(void **state)
{
    struct bench *b = bench_opened();
    for (uint64_t boot = 0; boot < 6; boot++) {
        assert_int_equal(b->seen_count, 2 * boot);
        bench_commit(b, g12, 2, boot + 1, 100);
        bench_reopen(b);
    }
    for (uint64_t i = 0; i < 12; i++) {
        assert_int_equal(b->seen[i].index, i / 2 + 1);
    }
    assert_int_equal(b->damaged_count, 0);
    bench_free(b);
}

static void test_idle_starts_do_not_use_up_files(void **state)
{
    struct bench *b = bench_opened();
    bench_commit(b, g12, 2, 1, 100);
    bench_reopen(b);
    uint64_t salts[5];
    for (int i = 0; i < 5; i++) {
        struct wal__file_header header;
        bench_settle(b);
        bench_reopen(b);
        assert_int_equal(bench_files(b), 4);
        struct bench_place place = bench_find(b, wal_next_lsn(b->wal));
        assert_int_equal(wal__file_header_decode(wal_disk_find(&b->d, place.path)->data, &header), OK);
        assert_int_equal(header.boot, b->boot);
        salts[i] = header.salt;
        assert_true(i == 0 || salts[i] != salts[i - 1]);
    }
    assert_int_equal(b->seen_count, 2);
    bench_free(b);
}

static void test_torn_tail_at_every_sector(void **state)
{
    for (uint64_t sector = 0; sector < 24; sector++) {
        for (int kind = 0; kind < 3; kind++) {
            struct bench *b = bench_opened();
            uint64_t lsns[4];
            bench_commit_four(b, 5000, lsns);
            struct bench_place place = bench_find(b, lsns[3]);
            struct wal_disk_node *node = wal_disk_find(&b->d, place.path);
            uint8_t *batch = node->data + place.offset;
            uint64_t size = node->size - place.offset;
            uint64_t torn = sector * WAL_DISK_SECTOR_BYTES;
            bool harmless = torn >= WAL__BATCH_HEADER_BYTES + 2 * (WAL__RECORD_BYTES + 5000u) + WAL__RECORD_BYTES + 16;
            assert_int_equal(size, 24 * WAL_DISK_SECTOR_BYTES);
            if (kind == 0) { /* all from here on never arrived */
                memset(batch + torn, 0, size - torn);
            } else if (kind == 1) { /* this sector alone did not */
                memset(batch + torn, 0, WAL_DISK_SECTOR_BYTES);
            } else { /* this sector alone did */
                memset(batch, 0, torn);
                memset(batch + torn + WAL_DISK_SECTOR_BYTES, 0, size - torn - WAL_DISK_SECTOR_BYTES);
                harmless = false;
            }
            bench_reopen(b);
            assert_int_equal(b->damaged_count, 0);
            assert_int_equal(b->seen_count, harmless ? 7 : 5);
            assert_int_equal(wal_next_lsn(b->wal), harmless ? lsns[3] + size : lsns[3]);
            /* Cut for good: the place belongs to the next batch. */
            assert_int_equal(bench_commit(b, g12, 2, 9, 100), harmless ? lsns[3] + size : lsns[3]);
            bench_reopen(b);
            assert_int_equal(b->damaged_count, 0);
            assert_int_equal(b->seen_count, harmless ? 9 : 7);
            assert_true(bench_saw(b, 2, 9));
            bench_free(b);
        }
    }
}

static void test_rot_in_a_vouched_batch_names_its_groups(void **state)
{
    static const uint64_t expected[] = {2, 3};
    uint64_t header_and_records = WAL__BATCH_HEADER_BYTES + WAL__RECORD_BYTES + 24 + 2 * (WAL__RECORD_BYTES + 3000u);
    for (uint64_t offset = 0; offset < header_and_records; offset += 61) {
        struct bench *b = bench_opened();
        uint64_t lsns[4];
        bench_commit_four(b, 3000, lsns);
        bench_rot(b, lsns[1], offset, 1);
        for (int start = 0; start < 2; start++) { /* and at every later start again */
            bench_reopen(b);
            assert_int_equal(b->damaged_count, 1);
            bench_assert_damage(b, 0, lsns[1], expected, 2);
            assert_int_equal(b->damaged[0].records_before, 2);
            assert_int_equal(b->seen_count, 5); /* all others are replayed */
            assert_false(bench_saw(b, 3, 2));
            assert_true(bench_saw(b, 1, 1) && bench_saw(b, 4, 3) && bench_saw(b, 5, 4) && bench_saw(b, 6, 4));
        }
        bench_free(b);
    }
}

static void test_rot_with_an_unreadable_list_blames_all(void **state)
{
    static const uint64_t third[] = {4};
    struct bench *b = bench_opened();
    uint64_t lsns[4];
    bench_commit_four(b, 3000, lsns);
    bench_rot(b, lsns[1], 100, 1);
    bench_rot(b, lsns[2], 3000, 1); /* its header still says what it was */
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 2);
    bench_assert_damage(b, 0, lsns[2] - WAL_BLOCK_BYTES, NULL, 0);
    bench_assert_damage(b, 1, lsns[2], third, 1);
    assert_int_equal(b->seen_count, 4);
    bench_rot(b, lsns[2], 0, 1); /* now it does not */
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 1);
    bench_assert_damage(b, 0, lsns[3] - WAL_BLOCK_BYTES, NULL, 0); /* both in one range, which ends here */
    assert_int_equal(b->seen_count, 4);
    bench_free(b);
}

/* The torn batch behind the rot was submitted, which proves what stood before it; and that proof must outlive the cut.
 */
static void test_rot_before_a_torn_batch_stays_known(void **state)
{
    for (unsigned batches = 2; batches <= 4; batches++) {
        struct bench *b = bench_opened();
        uint64_t lsns[4];
        for (unsigned i = 0; i < batches; i++) {
            lsns[i] = bench_commit(b, g12, 2, i + 1, 3000);
        }
        bench_rot(b, lsns[batches - 2], 100, 1);
        bench_rot(b, lsns[batches - 1], 3000, 1);
        for (int start = 0; start < 3; start++) {
            bench_reopen(b);
            assert_int_equal(b->damaged_count, 1);
            bench_assert_damage(b, 0, lsns[batches - 1] - WAL_BLOCK_BYTES, NULL, 0);
            assert_int_equal(b->seen_count, 2 * (batches - 2) + (start == 2 ? 2 : 0));
            assert_true(wal_next_lsn(b->wal) >= lsns[batches - 1]);
            if (start == 1) {
                assert_int_equal(bench_commit(b, g12, 2, 9, 100), lsns[batches - 1]);
            }
        }
        bench_free(b);
    }
}

static void test_lost_length_is_found_again_by_strides(void **state)
{
    static const uint64_t expected[] = {2, 3};
    struct bench *b = bench_opened();
    uint64_t lsns[4];
    bench_commit_four(b, 9000, lsns);
    bench_rot(b, lsns[1], 24, 4);
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 1);
    bench_assert_damage(b, 0, lsns[1], expected, 2);
    assert_int_equal(b->seen_count, 5);
    bench_free(b);
}

/* A whole batch where its voucher remembers another one. No write of ours ends like this, a disk that mixes up blocks
 * may. */
static void test_batch_in_the_place_of_another_is_damage(void **state)
{
    static const uint64_t expected[] = {2, 3};
    struct bench *b = bench_opened();
    uint64_t lsns[4];
    bench_commit_four(b, 3000, lsns);
    struct bench_place place = bench_find(b, lsns[2]);
    uint8_t *bytes = wal_disk_find(&b->d, place.path)->data + place.offset;
    struct wal__batch_header header;
    assert_true(wal__batch_header_decode_any(bytes, &header));
    header.previous_crc ^= 1;
    wal__batch_header_encode(&header, bytes);
    bench_reopen(b);
    assert_true(b->damaged_count >= 1);
    bench_assert_damage(b, 0, lsns[1], expected, 2);
    bench_free(b);
}

/* The only residual risk that is left is the batch for which nobody could vouch yet; five idle milliseconds end it. */
static void test_idle_voucher_tells_rot_from_a_torn_tail(void **state)
{
    static const uint64_t expected[] = {5, 6};
    struct bench *b = bench_opened();
    uint64_t lsns[4];
    bench_commit_four(b, 100, lsns);
    b->d.now_us = wal_deadline_us(b->wal);
    wal_tick(b->wal, b->d.now_us);
    bench_settle(b);
    uint64_t end_lsn = wal_durable_lsn(b->wal);
    bench_rot(b, lsns[3], 100, 1);
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 1);
    bench_assert_damage(b, 0, lsns[3], expected, 2);
    assert_int_equal(wal_next_lsn(b->wal), end_lsn);
    bench_rot(b, end_lsn - WAL_BLOCK_BYTES, 0, 1); /* the empty batch: nobody lost a record, but who can tell */
    bench_reopen(b);
    bench_assert_damage(b, 0, end_lsn - WAL_BLOCK_BYTES, NULL, 0);
    bench_free(b);
}

static void test_rotten_empty_batch_harms_nobody(void **state)
{
    struct bench *b = bench_opened();
    bench_commit(b, g12, 2, 1, 100);
    b->d.now_us = wal_deadline_us(b->wal);
    wal_tick(b->wal, b->d.now_us);
    bench_settle(b);
    uint64_t lsn = wal_durable_lsn(b->wal) - WAL_BLOCK_BYTES;
    bench_commit(b, g12, 2, 2, 100);
    bench_rot(b, lsn, 0, 64);
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 0);
    assert_int_equal(b->seen_count, 4);
    bench_free(b);
}

static void test_later_boot_proves_the_end_of_an_earlier_one(void **state)
{
    struct bench *b = bench_opened();
    uint64_t lsns[4];
    bench_commit_four(b, 100, lsns);
    bench_reopen(b); /* its file is still empty, but its header is the proof */
    bench_rot(b, lsns[3], 70, 1);
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 1);
    bench_assert_damage(b, 0, lsns[3], NULL, 0); /* the first batch of a boot vouches for none */
    bench_commit(b, g12, 2, 9, 100);
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 1);
    bench_assert_damage(b, 0, lsns[3], NULL, 0);
    assert_int_equal(b->damaged[0].records_before, 5);
    assert_int_equal(b->seen_count, 7);
    bench_free(b);
}

static void test_voucher_reaches_across_a_roll(void **state)
{
    static const uint64_t expected[] = {5, 6};
    struct bench *b = bench_opened();
    uint64_t lsn = bench_fill_three_files(b);
    bench_rot(b, lsn, 5000, 1);
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 1);
    bench_assert_damage(b, 0, lsn, expected, 2);
    bench_free(b);
}

static void test_lost_files_are_noticed(void **state)
{
    for (unsigned lost = 0; lost < 2; lost++) {
        struct bench *b = bench_opened();
        uint64_t lsn = bench_fill_three_files(b);
        uint64_t second_lsn = wal_oldest_end_lsn(b->wal);
        struct bench_place place = bench_find(b, wal_next_lsn(b->wal) - 1);
        uint64_t third_lsn = wal_next_lsn(b->wal) - 1 + WAL_BLOCK_BYTES - place.offset;
        place = bench_find(b, lost == 0 ? lsn : second_lsn);
        bench_close(b);
        assert_int_equal(b->d.disk.ops->unlink(&b->d.disk, place.path), OK);
        for (int start = 0; start < 2; start++) {
            assert_int_equal(bench_open(b), OK);
            assert_int_equal(b->damaged_count, 1);
            bench_assert_damage(b, 0, (lost == 0 ? second_lsn : third_lsn) - WAL_BLOCK_BYTES, NULL, 0);
            assert_true(b->seen_count > 0);
            bench_close(b);
        }
        bench_free(b);
    }
}

static void test_shortened_file_is_noticed(void **state)
{
    static const uint64_t expected[] = {5, 6};
    struct bench *b = bench_opened();
    uint64_t lsn = bench_fill_three_files(b);
    struct bench_place place = bench_find(b, lsn);
    wal_disk_find(&b->d, place.path)->size = place.offset;
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 1);
    bench_assert_damage(b, 0, lsn, expected, 2);
    bench_free(b);
}

/* Nothing stands behind its end that could vouch for what is gone; but it was longer. */
static void test_shortened_newest_file_is_noticed(void **state)
{
    for (unsigned cut = 0; cut < 4; cut++) {
        struct bench *b = bench_opened();
        bench_settle(b); /* spares at hand */
        bench_fill_three_files(b);
        bench_reopen(b);
        uint64_t lsns[4];
        bench_commit_four(b, 3000, lsns);
        bench_reopen(b);
        unsigned records = b->seen_count;
        bench_commit_four(b, 3000, lsns);
        struct bench_place place = bench_find(b, lsns[cut]);
        struct wal_disk_node *node = wal_disk_find(&b->d, place.path);
        assert_true(node->size >= BENCH_FILE_BYTES); /* a spare that was made ahead */
        node->size = node->synced_size = place.offset + (cut == 3 ? 100 : 0);
        for (int start = 0; start < 3; start++) {
            bench_reopen(b);
            assert_int_equal(b->damaged_count, 1);
            assert_int_equal(b->damaged[0].count, 0);
            assert_true(b->damaged[0].lsn >= lsns[cut]);
            assert_int_equal(b->seen_count, records + (cut < 3 ? 2 * cut : 5) + (start == 2 ? 2 : 0));
            if (start == 1) {
                assert_true(bench_commit(b, g12, 2, 9, 100) > b->damaged[0].lsn);
            }
        }
        bench_free(b);
    }
}

static void test_lost_header_is_rebuilt_from_the_first_batch(void **state)
{
    for (int zeroed = 0; zeroed < 2; zeroed++) {
        struct bench *b = bench_opened();
        uint64_t lsns[4];
        bench_commit_four(b, 3000, lsns);
        struct bench_place place = bench_find(b, lsns[0]);
        struct wal_disk_node *node = wal_disk_find(&b->d, place.path);
        memset(node->data, zeroed ? 0 : 0x77, WAL_BLOCK_BYTES);
        bench_reopen(b);
        assert_int_equal(b->damaged_count, 0);
        assert_int_equal(b->seen_count, 7);
        bench_commit(b, g12, 2, 9, 100);
        bench_reopen(b);
        assert_int_equal(b->seen_count, 9);
        bench_free(b);
    }
}

static void test_lost_beginning_of_the_newest_file_blames_all_for_good(void **state)
{
    struct bench *b = bench_opened();
    uint64_t lsns[4], later[4];
    bench_commit_four(b, 3000, lsns);
    bench_reopen(b);
    bench_commit_four(b, 3000, later);
    struct bench_place place = bench_find(b, later[0]);
    struct wal_disk_node *node = wal_disk_find(&b->d, place.path);
    memset(node->data, 0x77, 2 * WAL_BLOCK_BYTES);
    for (int start = 0; start < 3; start++) {
        bench_reopen(b);
        assert_int_equal(b->damaged_count, 1);
        bench_assert_damage(b, 0, later[0], NULL, 0);
        assert_int_equal(b->seen_count, start < 2 ? 7 : 9);
        if (start == 1) {
            bench_commit(b, g12, 2, 9, 100);
        }
    }
    wal_release(b->wal, wal_next_lsn(b->wal)); /* until the file before the gap is released */
    bench_commit(b, g12, 2, 10, 20000);
    bench_commit(b, g12, 2, 11, 20000); /* rolls: the new header says so */
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 0);
    bench_free(b);
}

/* A log that held its first file only: the gap stands before the next one. */
static void test_lost_beginning_of_the_only_file(void **state)
{
    struct bench *b = bench_opened();
    uint64_t lsns[4];
    bench_commit_four(b, 3000, lsns);
    struct bench_place place = bench_find(b, lsns[0]);
    memset(wal_disk_find(&b->d, place.path)->data, 0x77, 2 * WAL_BLOCK_BYTES);
    for (int start = 0; start < 2; start++) {
        bench_reopen(b);
        assert_int_equal(b->damaged_count, 1);
        bench_assert_damage(b, 0, WAL__FIRST_LSN, NULL, 0);
    }
    bench_free(b);
}

static void test_records_of_an_earlier_life_stay_dead(void **state)
{
    struct bench *b = bench_opened();
    bench_settle(b);
    bench_fill_three_files(b);
    wal_release(b->wal, wal_next_lsn(b->wal));
    bench_settle(b);
    struct wal_stats stats;
    uint64_t index = 1000, lsn = 0;
    do { /* into the first recycled file, whose rest is full of old batches */
        lsn = bench_commit(b, g4, 1, index++, 5000);
        wal_stats(b->wal, &stats);
    } while (stats.recycled_files == 0);
    bench_reopen(b);
    assert_int_equal(b->damaged_count, 0);
    for (unsigned i = 1; i < b->seen_count; i++) {
        assert_true(b->seen[i].lsn >= b->seen[i - 1].lsn);
    }
    assert_int_equal(b->seen[b->seen_count - 1].index, index - 1);
    assert_int_equal(wal_next_lsn(b->wal), lsn + 2 * WAL_BLOCK_BYTES);
    bench_rot(b, lsn, 0, 64); /* alone in its file, behind it only another life: no voucher, and no blame */
    bench_free(b);
}

/* A payload that holds whole batches of ours, at every offset a scan could look at. The salt is what it cannot know. */
static void test_payload_that_poses_as_the_log_is_not_believed(void **state)
{
    struct bench *b = bench_opened();
    bench_commit(b, g12, 2, 1, 100);
    struct bench_place place = bench_find(b, WAL__FIRST_LSN);
    uint64_t lsn = wal_next_lsn(b->wal);
    uint32_t size = 4 * WAL_BLOCK_BYTES;
    struct buf *payload = buf_new(size);
    uint32_t at = WAL__BATCH_HEADER_BYTES + 2 * WAL__RECORD_BYTES + 24; /* of the payload, in its batch */
    memset(payload->data, 0, size);
    for (uint32_t block = 1; block < 4; block++) {
        struct wal__file_header life = {.salt = 0x6665656c, .start_lsn = WAL__FIRST_LSN};
        struct wal__batch *forged = wal__batch_new();
        struct wal__voucher none = {0};
        struct wal_record record = {.type = WAL_HARD_STATE, .group = 666, .term = 666};
        wal__batch_open(forged, lsn + block * WAL_BLOCK_BYTES, false, 0);
        wal__batch_add(forged, &record);
        wal__batch_seal(forged, &life, &none);
        memcpy(payload->data + block * WAL_BLOCK_BYTES - at, forged->prefix, WAL__BATCH_HEADER_BYTES);
        memcpy(payload->data + block * WAL_BLOCK_BYTES - at + WAL__BATCH_HEADER_BYTES, forged->heads,
               WAL__RECORD_BYTES);
        wal__batch_free(forged);
    }
    struct wal_record record = {.type = WAL_ENTRY, .group = 9, .index = 1, .payload = slice_of(payload, 0, size)};
    assert_int_equal(wal_append(b->wal, &record), lsn);
    bench_settle(b);
    slice_unref(&record.payload);
    buf_unref(payload);
    bench_commit(b, g4, 1, 2, 100);
    static const uint64_t nine[] = {9};
    bench_rot(b, lsn, 0, 1); /* the scan walks over it */
    bench_reopen(b);
    bench_assert_damage(b, 0, lsn, nine, 1);
    assert_false(bench_saw(b, 666, 0));
    assert_int_equal(b->seen_count, 3);
    memset(wal_disk_find(&b->d, place.path)->data, 0, 512); /* and without a file header */
    bench_reopen(b);
    assert_false(bench_saw(b, 666, 0));
    assert_int_equal(b->seen_count, 3);
    bench_free(b);
}

static void test_unknown_version_refuses_to_start(void **state)
{
    struct bench *b = bench_opened();
    uint8_t block[WAL_BLOCK_BYTES];
    struct wal__file_header header = {.version = 2, .base_lsn = 4096, .start_lsn = 4096, .salt = 1, .boot = 1};
    bench_close(b);
    wal__file_header_encode(&header, block);
    wal_disk_put(&b->d, "wal/00000077.wal", block, sizeof block);
    assert_int_equal(bench_open(b), ERR_VERSION);
    bench_free(b);
}

static void test_foreign_and_empty_files_are_left_alone(void **state)
{
    struct bench *b = bench_opened();
    bench_commit(b, g12, 2, 1, 100);
    bench_close(b);
    wal_disk_put(&b->d, "wal/notes.txt", "hello", 5);
    wal_disk_put(&b->d, "wal/00000050.wal", "", 0);
    assert_int_equal(bench_open(b), OK);
    assert_int_equal(b->seen_count, 2);
    assert_int_equal(wal_disk_find(&b->d, "wal/notes.txt")->size, 5);
    bench_free(b);
}

/* A start whose k-th call fails says so, leaks nothing and leaves a log that the next start reads in full. */
static void test_start_survives_any_failing_call(void **state)
{
    bool opened = false;
    for (uint64_t call = 1; !opened; call++) {
        struct bench *b = bench_opened();
        uint64_t lsns[4];
        bench_commit_four(b, 3000, lsns);
        bench_close(b);
        b->d.crash_at = b->d.calls + call;
        enum err error = bench_open(b);
        opened = error == OK;
        assert_true(opened || error == ERR_IO);
        bench_close(b);
        wal_disk_revive(&b->d);
        assert_int_equal(bench_open(b), OK);
        assert_int_equal(b->seen_count, 7);
        assert_int_equal(b->damaged_count, 0);
        bench_free(b);
    }
}

struct inspected {
    unsigned files, records, ok, torn, damaged;
};

static void inspect_file(void *context, const char *name, uint64_t base_lsn, uint64_t salt, uint64_t boot,
                         uint32_t version)
{
    ((struct inspected *)context)->files++;
    assert_int_equal(strlen(name), 12);
    assert_int_equal(version, 1);
    assert_true(boot > 0 && salt != 0 && base_lsn >= WAL__FIRST_LSN);
}

static void inspect_batch(void *context, uint64_t lsn, uint32_t length, const char *verdict)
{
    struct inspected *seen = context;
    seen->ok += strcmp(verdict, "ok") == 0;
    seen->torn += strcmp(verdict, "torn") == 0;
    seen->damaged += strcmp(verdict, "damaged") == 0;
}

static void inspect_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    ((struct inspected *)context)->records++;
}

static void test_inspection_writes_nothing_and_sees_all(void **state)
{
    struct bench *b = bench_opened();
    struct inspected seen = {0};
    struct wal_inspector inspector = {
        .context = &seen, .file = inspect_file, .batch = inspect_batch, .record = inspect_record};
    uint64_t lsns[4];
    bench_commit_four(b, 3000, lsns);
    bench_rot(b, lsns[1], 100, 1);
    bench_rot(b, lsns[3], 100, 1);
    bench_close(b);
    uint64_t writes = b->d.writes, syncs = b->d.syncs;
    assert_int_equal(wal_inspect(&b->d.disk, "wal", &inspector), OK);
    assert_int_equal(b->d.writes, writes);
    assert_int_equal(b->d.syncs, syncs);
    assert_int_equal(seen.files, 1);
    assert_int_equal(seen.records, 3);
    assert_int_equal(seen.ok, 2);
    assert_int_equal(seen.damaged, 1);
    assert_int_equal(seen.torn, 1);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_directory_is_an_empty_log),
        cmocka_unit_test(test_every_field_comes_back),
        cmocka_unit_test(test_many_boots_make_one_log),
        cmocka_unit_test(test_idle_starts_do_not_use_up_files),
        cmocka_unit_test(test_torn_tail_at_every_sector),
        cmocka_unit_test(test_rot_in_a_vouched_batch_names_its_groups),
        cmocka_unit_test(test_rot_with_an_unreadable_list_blames_all),
        cmocka_unit_test(test_rot_before_a_torn_batch_stays_known),
        cmocka_unit_test(test_lost_length_is_found_again_by_strides),
        cmocka_unit_test(test_batch_in_the_place_of_another_is_damage),
        cmocka_unit_test(test_idle_voucher_tells_rot_from_a_torn_tail),
        cmocka_unit_test(test_rotten_empty_batch_harms_nobody),
        cmocka_unit_test(test_later_boot_proves_the_end_of_an_earlier_one),
        cmocka_unit_test(test_voucher_reaches_across_a_roll),
        cmocka_unit_test(test_lost_files_are_noticed),
        cmocka_unit_test(test_shortened_file_is_noticed),
        cmocka_unit_test(test_shortened_newest_file_is_noticed),
        cmocka_unit_test(test_lost_header_is_rebuilt_from_the_first_batch),
        cmocka_unit_test(test_lost_beginning_of_the_newest_file_blames_all_for_good),
        cmocka_unit_test(test_lost_beginning_of_the_only_file),
        cmocka_unit_test(test_records_of_an_earlier_life_stay_dead),
        cmocka_unit_test(test_payload_that_poses_as_the_log_is_not_believed),
        cmocka_unit_test(test_unknown_version_refuses_to_start),
        cmocka_unit_test(test_foreign_and_empty_files_are_left_alone),
        cmocka_unit_test(test_start_survives_any_failing_call),
        cmocka_unit_test(test_inspection_writes_nothing_and_sees_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
