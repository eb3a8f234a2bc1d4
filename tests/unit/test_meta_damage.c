/* The checkpoint store with rows that rotted, are missing or are of an earlier time: laid at the right group, and taken
 * away by a repair. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../sim/sim_kv.h"
#include "meta/layout.h"
#include "meta/meta.h"
#include "meta/row.h"

#define GROUPS   3u
#define ROWS_MAX 64u
#define BADS_MAX 16u

/* What a load said. */
struct seen {
    unsigned groups, rows[GROUPS + 1]; /* by group, its own row included */
    struct meta_bad_row bads[BADS_MAX];
    unsigned bads_count;
    struct meta_group last;
};

static enum err seen_group(void *context, const struct meta_group *group)
{
    struct seen *seen = context;
    seen->groups++;
    seen->rows[group->group]++;
    seen->last = *group;
    return OK;
}

static enum err seen_segment(void *context, uint64_t group, const struct meta_segment *segment)
{
    ((struct seen *)context)->rows[group]++;
    return OK;
}

static enum err seen_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    ((struct seen *)context)->rows[group]++;
    return OK;
}

static enum err seen_done(void *context, uint64_t group, const struct done_row *row)
{
    ((struct seen *)context)->rows[group]++;
    return OK;
}

static enum err seen_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    ((struct seen *)context)->rows[group]++;
    return OK;
}

static enum err seen_bad(void *context, const struct meta_bad_row *row)
{
    struct seen *seen = context;
    assert_true(seen->bads_count < BADS_MAX);
    seen->bads[seen->bads_count++] = *row;
    return OK;
}

static struct seen load(struct kv *kv)
{
    struct seen seen = {0};
    const struct meta_visitor visitor = {&seen, seen_group, seen_segment, seen_epoch, seen_done, seen_state, seen_bad};
    assert_int_equal(meta_load(kv, &visitor), OK);
    return seen;
}

static struct kv_txn *begin(struct kv *kv)
{
    struct kv_txn *txn;
    assert_int_equal(kv->ops->begin(kv, true, &txn), OK);
    return txn;
}

/* Group 2's rows: one segment that grows, one epoch, two producers, one state row. */
#define ROWS_PER_GROUP 6u

static void put_picture(struct kv *kv, uint64_t group, int64_t next_offset)
{
    struct meta_segment segment = {.end_offset = next_offset, .size_bytes = (uint64_t)next_offset * 100};
    struct meta_epoch epoch = {.term = 1};
    struct done_row done[] = {{.producer_id = 7, .count = 1, .batches = {{0, 4, 0}}},
                              {.producer_id = 1 << 20, .epoch = 1, .count = 1, .batches = {{0, 0, next_offset - 1}}}};
    struct meta_state_row row = {.key = "k", .key_size = 1, .value = &next_offset, .value_size = 8};
    struct meta_picture picture = {.group = {.group = group, .replica = 9, .next_offset = next_offset},
                                   .segments = &segment,
                                   .segments_count = 1,
                                   .epochs = &epoch,
                                   .epochs_count = 1,
                                   .done = done,
                                   .done_count = 2,
                                   .state = &row,
                                   .state_count = 1};
    struct kv_txn *txn = begin(kv);
    assert_int_equal(meta_put_picture(kv, txn, &picture), OK);
    assert_int_equal(kv->ops->commit(kv, txn), OK);
}

static struct kv *three_groups(void)
{
    struct kv *kv = sim_kv_new(NULL);
    for (uint64_t group = 1; group <= GROUPS; group++) {
        put_picture(kv, group, 10);
    }
    return kv;
}

static unsigned keys_of(struct kv *kv, uint64_t group, struct layout_key keys[ROWS_PER_GROUP])
{
    static const char types[] = "GMEDS";
    unsigned count = 0;
    struct kv_txn *txn;
    assert_int_equal(kv->ops->begin(kv, false, &txn), OK);
    for (const char *type = types; *type != '\0'; type++) {
        struct layout_key prefix, from;
        struct kv_bytes key, value;
        layout_group_key(&prefix, (enum layout_type) * type, group);
        from = prefix;
        while (kv->ops->seek(kv, txn, layout_bytes(&from), &key, &value) == OK &&
               row_key_has_prefix(key, layout_bytes(&prefix))) {
            assert_true(count < ROWS_PER_GROUP);
            memcpy(keys[count].bytes, key.data, key.size);
            keys[count].size = key.size;
            from = keys[count++];
            assert_true(row_key_next(from.bytes, &from.size));
        }
    }
    kv->ops->abort(kv, txn);
    return count;
}

static void assert_only_group_2(const struct seen *seen)
{
    assert_int_equal(seen->rows[1], ROWS_PER_GROUP);
    assert_int_equal(seen->rows[3], ROWS_PER_GROUP);
    assert_int_equal(seen->bads_count, 1);
    assert_int_equal(seen->bads[0].group, 2);
}

static void test_a_bad_row_is_laid_at_its_group(void **state)
{
    struct kv *kv = three_groups();
    struct layout_key keys[ROWS_PER_GROUP];
    static const uint64_t numbers[] = {0, 0, 1, 7, 1 << 20, 0};
    assert_int_equal(keys_of(kv, 2, keys), ROWS_PER_GROUP);
    assert_int_equal(load(kv).bads_count, 0);
    for (unsigned i = 0; i < ROWS_PER_GROUP; i++) {
        for (size_t bit = 0; sim_kv_flip_bit(kv, layout_bytes(&keys[i]), bit); bit++) {
            struct seen seen = load(kv);
            assert_only_group_2(&seen);
            assert_int_equal(seen.bads[0].type, keys[i].bytes[0]);
            assert_int_equal(seen.bads[0].number, numbers[i]);
            assert_int_equal(seen.rows[2], i == 0 ? 0 : ROWS_PER_GROUP - 1);
            assert_true(sim_kv_flip_bit(kv, layout_bytes(&keys[i]), bit));
        }
    }
    assert_int_equal(load(kv).bads_count, 0);
    sim_kv_free(kv);
}

/* A first look over the segments alone judges nothing. */
static void test_whole_segments_are_visited(void **state)
{
    struct kv *kv = three_groups();
    struct layout_key keys[ROWS_PER_GROUP];
    assert_int_equal(keys_of(kv, 2, keys), ROWS_PER_GROUP);
    for (unsigned i = 0; i < ROWS_PER_GROUP; i++) {
        struct seen seen = {0};
        bool is_segment = keys[i].bytes[0] == LAYOUT_SEGMENT;
        assert_true(sim_kv_flip_bit(kv, layout_bytes(&keys[i]), 9));
        assert_int_equal(meta_visit_segments(kv, &seen, seen_segment), OK);
        assert_int_equal(seen.rows[1], 1);
        assert_int_equal(seen.rows[2], is_segment ? 0 : 1);
        assert_int_equal(seen.rows[3], 1);
        assert_true(sim_kv_flip_bit(kv, layout_bytes(&keys[i]), 9));
    }
    sim_kv_free(kv);
}

/* Whatever rotted of a row, its CRC too: with the next picture the group is whole, and the sum over its rows fits. */
static void test_a_picture_mends_bad_rows(void **state)
{
    struct kv *kv = three_groups();
    struct layout_key keys[ROWS_PER_GROUP];
    assert_int_equal(keys_of(kv, 2, keys), ROWS_PER_GROUP);
    for (unsigned i = 0; i < ROWS_PER_GROUP; i++) {
        for (size_t bit = 0; sim_kv_flip_bit(kv, layout_bytes(&keys[i]), bit); bit++) {
            put_picture(kv, 2, 11);
            struct seen seen = load(kv);
            assert_int_equal(seen.bads_count, 0);
            assert_int_equal(seen.rows[2], ROWS_PER_GROUP);
        }
    }
    sim_kv_free(kv);
}

/* A row under another row's key is bad too: the CRC covers the key. */
static void test_a_row_in_another_place_is_bad(void **state)
{
    struct kv *kv = three_groups();
    struct layout_key keys[ROWS_PER_GROUP];
    struct kv_bytes stored;
    uint8_t copy[4096];
    keys_of(kv, 2, keys);
    struct kv_txn *txn = begin(kv);
    assert_int_equal(kv->ops->get(kv, txn, layout_bytes(&keys[3]), &stored), OK);
    memcpy(copy, stored.data, stored.size);
    struct kv_bytes value = {copy, stored.size};
    assert_int_equal(kv->ops->put(kv, txn, layout_bytes(&keys[4]), value), OK);
    assert_int_equal(kv->ops->commit(kv, txn), OK);
    struct seen seen = load(kv);
    assert_only_group_2(&seen);
    assert_int_equal(seen.bads[0].type, LAYOUT_DONE);
    assert_int_equal(seen.bads[0].number, 1 << 20);
    sim_kv_free(kv);
}

/* Terms that a picture takes away are no missing rows, nor are those that were never there. */
static void test_terms_are_taken_away(void **state)
{
    struct kv *kv = three_groups();
    const uint64_t removed[] = {1, 2, 77};
    const struct meta_epoch epochs[] = {{.term = 2, .first_offset = 3}, {.term = 5, .first_offset = 10}};
    struct meta_picture picture = {.group = {.group = 2, .replica = 9, .next_offset = 10}, .epochs = epochs};
    for (unsigned round = 0; round < 2; round++) {
        struct kv_txn *txn = begin(kv);
        picture.epochs_count = round == 0 ? 2 : 0;
        picture.epochs_removed = round == 0 ? NULL : removed;
        picture.epochs_removed_count = round == 0 ? 0 : 3;
        assert_int_equal(meta_put_picture(kv, txn, &picture), OK);
        assert_int_equal(kv->ops->commit(kv, txn), OK);
        struct seen seen = load(kv);
        assert_int_equal(seen.bads_count, 0);
        assert_int_equal(seen.rows[2], ROWS_PER_GROUP - 1 + (round == 0 ? 2 : 0)); /* its segment is gone */
    }
    sim_kv_free(kv);
}

static void test_a_missing_row_is_noticed(void **state)
{
    for (unsigned i = 1; i < ROWS_PER_GROUP; i++) {
        struct kv *kv = three_groups();
        struct layout_key keys[ROWS_PER_GROUP];
        keys_of(kv, 2, keys);
        struct kv_txn *txn = begin(kv);
        assert_int_equal(kv->ops->del(kv, txn, layout_bytes(&keys[i])), OK);
        assert_int_equal(kv->ops->commit(kv, txn), OK);
        struct seen seen = load(kv);
        assert_only_group_2(&seen);
        assert_int_equal(seen.bads[0].type, 0);
        sim_kv_free(kv);
    }
}

/* A page whose write never arrived shows rows as they were: each of them whole. */
static void test_a_row_of_an_earlier_time_is_noticed(void **state)
{
    unsigned noticed = 0;
    for (unsigned i = 0; i < ROWS_PER_GROUP; i++) {
        struct kv *kv = three_groups();
        struct layout_key keys[ROWS_PER_GROUP];
        struct kv_bytes stored;
        uint8_t old[4096];
        keys_of(kv, 2, keys);
        struct kv_txn *txn = begin(kv);
        assert_int_equal(kv->ops->get(kv, txn, layout_bytes(&keys[i]), &stored), OK);
        struct kv_bytes value = {old, stored.size};
        memcpy(old, stored.data, stored.size);
        kv->ops->abort(kv, txn);
        put_picture(kv, 2, 20);
        assert_int_equal(load(kv).bads_count, 0);
        txn = begin(kv);
        assert_int_equal(kv->ops->get(kv, txn, layout_bytes(&keys[i]), &stored), OK);
        bool same = stored.size == value.size && memcmp(stored.data, old, value.size) == 0;
        assert_int_equal(kv->ops->put(kv, txn, layout_bytes(&keys[i]), value), OK);
        assert_int_equal(kv->ops->commit(kv, txn), OK);
        struct seen seen = load(kv);
        assert_int_equal(seen.bads_count, same ? 0 : 1);
        noticed += !same;
        sim_kv_free(kv);
    }
    assert_int_equal(noticed, 4); /* group, segment, second producer and state row had changed */
}

static void test_a_repair_takes_the_bad_rows_away(void **state)
{
    for (unsigned i = 1; i < ROWS_PER_GROUP; i++) {
        struct kv *kv = three_groups();
        struct layout_key keys[ROWS_PER_GROUP];
        keys_of(kv, 2, keys);
        assert_true(sim_kv_flip_bit(kv, layout_bytes(&keys[i]), 3));
        assert_true(sim_kv_flip_bit(kv, layout_bytes(&keys[ROWS_PER_GROUP - 1]), 50));
        struct kv_txn *txn = begin(kv);
        assert_int_equal(meta_drop_bad_rows(kv, txn, 2), OK);
        assert_int_equal(kv->ops->commit(kv, txn), OK);
        struct seen seen = load(kv);
        assert_int_equal(seen.bads_count, 0);
        assert_int_equal(seen.rows[2], ROWS_PER_GROUP - (i == ROWS_PER_GROUP - 1 ? 1 : 2));
        put_picture(kv, 2, 30); /* and life goes on */
        assert_int_equal(load(kv).bads_count, 0);
        assert_int_equal(load(kv).rows[2], ROWS_PER_GROUP);
        sim_kv_free(kv);
    }
}

static void test_marks_of_damage_and_repair_come_back(void **state)
{
    struct kv *kv = three_groups();
    struct meta_group group = {.group = 3,
                               .replica = 9,
                               .next_offset = 10,
                               .damaged = true,
                               .damaged_lsn = 8192,
                               .repaired_lsn = 12288,
                               .accepted_lsn = 4096};
    struct kv_txn *txn = begin(kv);
    assert_int_equal(meta_put_group(kv, txn, &group), OK);
    assert_int_equal(kv->ops->commit(kv, txn), OK);
    struct seen seen = load(kv);
    assert_int_equal(seen.bads_count, 0);
    assert_true(seen.last.damaged);
    assert_int_equal(seen.last.damaged_lsn, 8192);
    assert_int_equal(seen.last.repaired_lsn, 12288);
    assert_int_equal(seen.last.accepted_lsn, 4096);
    sim_kv_free(kv);
}

/* A group row that cannot be read is replaced by one that only says so; the others of the group stay for whoever wants
 * to look at them. */
static void test_a_group_row_over_an_unreadable_one(void **state)
{
    struct kv *kv = three_groups();
    struct layout_key keys[ROWS_PER_GROUP];
    keys_of(kv, 2, keys);
    assert_true(sim_kv_flip_bit(kv, layout_bytes(&keys[0]), 100));
    assert_int_equal(load(kv).bads[0].type, LAYOUT_GROUP);
    struct meta_group group = {.group = 2, .damaged = true, .damaged_lsn = UINT64_MAX};
    struct kv_txn *txn = begin(kv);
    assert_int_equal(meta_put_group(kv, txn, &group), OK);
    assert_int_equal(kv->ops->commit(kv, txn), OK);
    struct seen seen = load(kv);
    assert_int_equal(seen.bads_count, 0);
    assert_int_equal(seen.rows[2], ROWS_PER_GROUP);
    sim_kv_free(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_bad_row_is_laid_at_its_group),
        cmocka_unit_test(test_whole_segments_are_visited),
        cmocka_unit_test(test_a_picture_mends_bad_rows),
        cmocka_unit_test(test_a_row_in_another_place_is_bad),
        cmocka_unit_test(test_terms_are_taken_away),
        cmocka_unit_test(test_a_missing_row_is_noticed),
        cmocka_unit_test(test_a_row_of_an_earlier_time_is_noticed),
        cmocka_unit_test(test_a_repair_takes_the_bad_rows_away),
        cmocka_unit_test(test_marks_of_damage_and_repair_come_back),
        cmocka_unit_test(test_a_group_row_over_an_unreadable_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
