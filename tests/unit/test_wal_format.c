/* The bytes of the log: what is written is read back, and nothing else is believed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/endian.h"
#include "wal/batch.h"
#include "wal/format.h"

static const struct wal__file_header file_header = {
    .version = WAL__VERSION, .base_lsn = 40960, .start_lsn = 8192, .salt = 0x1122334455667788, .boot = 9};

static void test_file_header_round_trip(void **state)
{
    uint8_t block[WAL_BLOCK_BYTES];
    struct wal__file_header header;
    wal__file_header_encode(&file_header, block);
    assert_memory_equal(block, "FOLTLWAL", 8); /* fixed for ever, like the places of version and crc */
    assert_int_equal(load_le32(block + 8), 1);
    assert_int_equal(wal__file_header_decode(block, &header), OK);
    assert_int_equal(header.base_lsn, file_header.base_lsn);
    assert_int_equal(header.start_lsn, file_header.start_lsn);
    assert_int_equal(header.salt, file_header.salt);
    assert_int_equal(header.boot, file_header.boot);
}

static void test_file_header_refuses_every_flipped_bit(void **state)
{
    uint8_t block[WAL_BLOCK_BYTES];
    struct wal__file_header header;
    wal__file_header_encode(&file_header, block);
    for (unsigned bit = 0; bit < WAL__SECTOR_BYTES * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(wal__file_header_decode(block, &header), ERR_FORMAT);
        block[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_file_header_classes(void **state)
{
    uint8_t block[WAL_BLOCK_BYTES] = {0};
    struct wal__file_header header = file_header;
    assert_int_equal(wal__file_header_decode(block, &header), ERR_NO_FILE);
    header.version = 2;
    wal__file_header_encode(&header, block);
    assert_int_equal(wal__file_header_decode(block, &header), ERR_VERSION);
    header = file_header;
    header.base_lsn += 1; /* well formed, and impossible */
    wal__file_header_encode(&header, block);
    assert_int_equal(wal__file_header_decode(block, &header), ERR_FORMAT);
}

static void test_batch_header_refuses_every_flipped_bit(void **state)
{
    uint8_t bytes[WAL__BATCH_HEADER_BYTES], again[WAL__BATCH_HEADER_BYTES];
    struct wal__batch_header header = {.salt = 5,
                                       .lsn = 8192,
                                       .length = 100,
                                       .body_crc = 77,
                                       .records_count = 1,
                                       .previous_lsn = 4096,
                                       .previous_length = 4000,
                                       .previous_crc = 99,
                                       .start_lsn = 4096};
    struct wal__batch_header read = {0};
    wal__batch_header_encode(&header, bytes);
    assert_true(wal__batch_header_decode(bytes, 5, 8192, &read));
    wal__batch_header_encode(&read, again);
    assert_memory_equal(again, bytes, sizeof bytes);
    assert_int_equal(read.crc, header.crc);
    assert_false(wal__batch_header_decode(bytes, 6, 8192, &read));  /* another life */
    assert_false(wal__batch_header_decode(bytes, 5, 12288, &read)); /* another place */
    for (unsigned bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(wal__batch_header_decode(bytes, 5, 8192, &read));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_batch_header_bounds_lengths(void **state)
{
    uint8_t bytes[WAL__BATCH_HEADER_BYTES];
    struct wal__batch_header header = {.salt = 5, .lsn = 8192}, read;
    static const struct {
        uint32_t length;
        bool valid;
    } cases[] = {{0, false},
                 {WAL__BATCH_HEADER_BYTES - 1, false},
                 {WAL__BATCH_HEADER_BYTES, true},
                 {WAL_BATCH_BYTES_MAX, true},
                 {WAL_BATCH_BYTES_MAX + 1, false},
                 {UINT32_MAX, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        header.length = cases[i].length;
        wal__batch_header_encode(&header, bytes);
        assert_int_equal(wal__batch_header_decode(bytes, 5, 8192, &read), cases[i].valid);
    }
}

static void test_record_round_trip_and_bounds(void **state)
{
    uint8_t body[WAL__RECORD_BYTES + 10];
    struct wal_record record = {.type = WAL_HARD_STATE,
                                .entry_type = 3,
                                .group = 0x0102030405060708,
                                .replica = 2,
                                .index = 3,
                                .term = 4,
                                .payload = {.size = 10}};
    struct wal_record read;
    wal__record_encode(&record, body);
    memset(body + WAL__RECORD_BYTES, 'p', 10);
    assert_int_equal(wal__record_decode(body, sizeof body, 0, &read), sizeof body);
    assert_int_equal(read.type, WAL_HARD_STATE);
    assert_int_equal(read.entry_type, 3);
    assert_int_equal(read.group, 0x0102030405060708);
    assert_int_equal(read.replica, 2);
    assert_int_equal(read.index, 3);
    assert_int_equal(read.term, 4);
    assert_int_equal(read.payload.size, 10);
    assert_ptr_equal(read.payload.data, body + WAL__RECORD_BYTES);
    for (size_t size = 0; size < sizeof body; size++) {
        assert_int_equal(wal__record_decode(body, size, 0, &read), 0);
    }
    store_le32(body + 4, UINT32_MAX); /* at + size would wrap */
    assert_int_equal(wal__record_decode(body, sizeof body, 0, &read), 0);
    store_le32(body + 4, 10);
    body[0] = WAL_REPAIRED + 1;
    assert_int_equal(wal__record_decode(body, sizeof body, 0, &read), 0);
    body[0] = 0;
    assert_int_equal(wal__record_decode(body, sizeof body, 0, &read), 0);
}

static size_t parts_bytes(const struct wal__batch *batch)
{
    size_t bytes = 0;
    for (int i = 0; i < batch->parts_count; i++) {
        bytes += batch->parts[i].iov_len;
    }
    return bytes;
}

/* Payload is not copied, neighbours without payload share a part, the whole is filled up to blocks. */
static void test_batch_gathers_by_reference(void **state)
{
    struct wal__batch *batch = wal__batch_new();
    struct wal__voucher none = {0};
    struct buf *payload = buf_new(5000);
    memset(payload->data, 1, 5000);
    struct wal_record entry = {
        .type = WAL_ENTRY, .group = 1, .payload = {.buf = payload, .data = payload->data, .size = 5000}};
    struct wal_record vote = {.type = WAL_HARD_STATE, .group = 2};
    wal__batch_open(batch, 4096, false, 0);
    wal__batch_add(batch, &vote);
    wal__batch_add(batch, &vote);
    wal__batch_add(batch, &entry);
    assert_int_equal(payload->refs, 2);
    assert_int_equal(batch->groups_count, 2);
    wal__batch_seal(batch, &file_header, &none);
    assert_int_equal(batch->parts_count, 4);
    assert_int_equal(batch->parts[1].iov_len, 3 * WAL__RECORD_BYTES);
    assert_ptr_equal(batch->parts[2].iov_base, payload->data);
    assert_int_equal(parts_bytes(batch), 2 * WAL_BLOCK_BYTES);
    wal__batch_drop(batch);
    assert_int_equal(payload->refs, 1);
    buf_unref(payload);
    wal__batch_free(batch);
}

static void test_batch_lists_groups_sorted_once(void **state)
{
    struct wal__batch *batch = wal__batch_new();
    uint64_t groups[] = {9, 3, 9, 3, 7};
    struct wal__voucher voucher = {.lsn = 4096, .length = 64, .groups = groups, .groups_count = 5};
    wal__batch_open(batch, 8192, true, 5);
    wal__batch_seal(batch, &file_header, &voucher);
    const uint8_t *list = batch->prefix + WAL__BATCH_HEADER_BYTES + WAL__RECORD_BYTES;
    assert_int_equal(load_le32(list), 3);
    assert_int_equal(load_le64(list + 8), 3);
    assert_int_equal(load_le64(list + 16), 7);
    assert_int_equal(load_le64(list + 24), 9);
    wal__batch_free(batch);
}

static void test_batch_knows_when_it_is_full(void **state)
{
    struct wal__batch *batch = wal__batch_new();
    wal__batch_open(batch, 4096, false, 0);
    uint32_t room = WAL_BATCH_BYTES_MAX - WAL__BATCH_HEADER_BYTES - WAL__RECORD_BYTES;
    assert_true(wal__batch_fits(batch, room, UINT64_MAX));
    assert_false(wal__batch_fits(batch, room + 1, UINT64_MAX));
    assert_false(wal__batch_fits(batch, UINT32_MAX, UINT64_MAX));
    wal__batch_free(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_header_round_trip),
        cmocka_unit_test(test_file_header_refuses_every_flipped_bit),
        cmocka_unit_test(test_file_header_classes),
        cmocka_unit_test(test_batch_header_refuses_every_flipped_bit),
        cmocka_unit_test(test_batch_header_bounds_lengths),
        cmocka_unit_test(test_record_round_trip_and_bounds),
        cmocka_unit_test(test_batch_gathers_by_reference),
        cmocka_unit_test(test_batch_lists_groups_sorted_once),
        cmocka_unit_test(test_batch_knows_when_it_is_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
