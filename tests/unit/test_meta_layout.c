/* Rows that earlier builds wrote: they are read for as long as one may be found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/endian.h"
#include "meta/layout.h"

/* A group's row as it was when only voters of the birth stood in it. */
static void test_the_row_of_version_2(void **state)
{
    uint8_t value[272] = {2, 0, [4] = 3};
    struct meta_group group;
    uint64_t sum;
    store_le64(value + 8, 21);
    store_le64(value + 32, 900);
    store_le64(value + 104, 77);
    for (uint64_t i = 0; i < 3; i++) { /* in any order */
        store_le64(value + 128 + i * 16, 23 - i);
        store_le64(value + 136 + i * 16, 3 - i);
    }
    store_le64(value + 240, 1234);
    store_le64(value + 248, 5);
    store_le64(value + 256, 6);
    store_le64(value + 264, 7);
    assert_int_equal(layout_decode_group(9, (struct kv_bytes){value, sizeof value}, &group, &sum), OK);
    assert_int_equal(group.group, 9);
    assert_int_equal(group.replica, 21);
    assert_int_equal(group.applied_index, 900);
    assert_int_equal(group.snapshot_lsn, 77);
    assert_int_equal(group.idle_clock_ms, 1234);
    assert_int_equal(group.damaged_lsn, 5);
    assert_int_equal(group.accepted_lsn, 6);
    assert_int_equal(sum, 7);
    assert_int_equal(group.config_index, 0);
    assert_int_equal(group.members_count, 3);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(group.members[i].replica, 21 + i);
        assert_int_equal(group.members[i].broker, 1 + i);
        assert_int_equal(group.members[i].now, 2);
        assert_int_equal(group.members[i].next, 2);
    }
    value[4] = 8;
    assert_int_equal(layout_decode_group(9, (struct kv_bytes){value, sizeof value}, &group, &sum), ERR_FORMAT);
    assert_int_equal(layout_decode_group(9, (struct kv_bytes){value, sizeof value - 1}, &group, &sum), ERR_FORMAT);
}

/* Damaged, healing or neither; of no other number is anything known. */
static void test_damage_in_a_row(void **state)
{
    uint8_t value[LAYOUT_GROUP_BYTES + RAFT_MEMBERS_MAX * LAYOUT_MEMBER_BYTES];
    uint64_t sum;
    for (int i = 0; i < 3; i++) {
        const struct meta_group group = {
            .group = 9, .replica = 21, .damaged = i > 0, .healing = i > 1, .damaged_lsn = 8192};
        struct meta_group read;
        size_t size = layout_encode_group(value, &group, 7);
        assert_int_equal(layout_decode_group(9, (struct kv_bytes){value, size}, &read, &sum), OK);
        assert_int_equal(read.damaged, i > 0);
        assert_int_equal(read.healing, i > 1);
        assert_int_equal(read.damaged_lsn, 8192);
        value[3] = 3;
        assert_int_equal(layout_decode_group(9, (struct kv_bytes){value, size}, &read, &sum), ERR_FORMAT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_row_of_version_2),
                                       cmocka_unit_test(test_damage_in_a_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
