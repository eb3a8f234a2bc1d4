/* A group's rows out of one checkpoint store and into another: the same rows arrive, and nothing that was changed on
 * the way does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../fuzz/ram_disk.h"
#include "../sim/sim_kv.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "meta/layout.h"
#include "meta/picture.h"
#include "meta/row.h"

#define GROUP 7u
#define PATH  "rows"

static struct ram_disk disk;
static struct kv *kv;
static const uint8_t tail[3] = {1, 2, 3};

static int set_up(void **state)
{
    (void)state;
    ram_disk_reset(&disk);
    kv = sim_kv_new(&(struct sim_kv_options){0});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sim_kv_free(kv);
    return 0;
}

static struct meta_group group_of(uint64_t group)
{
    return (struct meta_group){.group = group,
                               .replica = 3,
                               .term = 5,
                               .applied_index = 40,
                               .applied_term = 4,
                               .next_offset = 20,
                               .log_start = 2,
                               .members_count = 1,
                               .members = {{.replica = 3, .broker = 1, .now = 2, .next = 2}},
                               .kind = 1};
}

static void put_picture(struct kv *to, uint64_t group, uint32_t producers)
{
    static const struct meta_segment segments[] = {
        {.base_offset = 0, .end_offset = 10, .size_bytes = 500, .generation = 1, .chain = 11, .tail = tail},
        {.base_offset = 10, .end_offset = 20, .size_bytes = 300, .chain = 12, .tail = tail, .tail_size = 3}};
    static const struct meta_epoch epochs[] = {{1, 0}, {4, 15}};
    const struct meta_state_row states[] = {{.key = "k", .key_size = 1, .value = "value", .value_size = 5}};
    struct done_row *done = calloc(producers + 1, sizeof *done);
    for (uint32_t i = 0; i < producers; i++) {
        done[i] = (struct done_row){.producer_id = i, .epoch = 1, .count = 1, .batches = {{0, 4, i}}};
    }
    const struct meta_picture picture = {.group = group_of(group),
                                         .segments = segments,
                                         .segments_count = 2,
                                         .epochs = epochs,
                                         .epochs_count = 2,
                                         .done = done,
                                         .done_count = producers,
                                         .state = states,
                                         .state_count = 1};
    struct kv_txn *txn;
    assert_int_equal(to->ops->begin(to, true, &txn), OK);
    assert_int_equal(meta_put_picture(to, txn, &picture), OK);
    assert_int_equal(to->ops->commit(to, txn), OK);
    free(done);
}

/* What came, in order, as a number. */
struct seen {
    uint32_t groups, segments, epochs, done, states, hash;
};

static enum err see(struct seen *seen, uint32_t *io_count, const void *data, size_t size)
{
    (*io_count)++;
    seen->hash = crc32c(seen->hash, data, size);
    return OK;
}

static enum err see_group(void *context, const struct meta_group *group)
{
    struct seen *seen = context;
    return see(seen, &seen->groups, &group->applied_index, sizeof group->applied_index);
}

static enum err see_segment(void *context, uint64_t group, const struct meta_segment *segment)
{
    struct seen *seen = context;
    assert_int_equal(group, GROUP);
    assert_int_equal(seen->groups, 1);
    return see(seen, &seen->segments, &segment->chain, sizeof segment->chain);
}

static enum err see_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    struct seen *seen = context;
    (void)group;
    return see(seen, &seen->epochs, epoch, sizeof *epoch);
}

static enum err see_done(void *context, uint64_t group, const struct done_row *row)
{
    struct seen *seen = context;
    (void)group;
    return see(seen, &seen->done, &row->batches[0].offset, sizeof row->batches[0].offset);
}

static enum err see_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    struct seen *seen = context;
    (void)group;
    return see(seen, &seen->states, row->value, row->value_size);
}

static struct meta_visitor visitor_of(struct seen *seen)
{
    return (struct meta_visitor){.context = seen,
                                 .group = see_group,
                                 .segment = see_segment,
                                 .epoch = see_epoch,
                                 .done = see_done,
                                 .state = see_state};
}

static void count_segment(void *context, const struct meta_segment *segment)
{
    *(int64_t *)context += segment->end_offset;
}

static enum err export(uint64_t group, uint64_t size_max, struct meta_export *ret_export) {
    int64_t ends = 0;
    enum err error = meta_export(kv, &disk.disk, PATH, group, size_max, count_segment, &ends, ret_export);
    if (error == OK){assert_int_equal(ends, 30);}
return error;
}

static void rows_arrive_as_they_were(void **state)
{
    (void)state;
    struct meta_export out;
    struct seen seen = {0}, after = {0};
    struct meta_visitor visitor = visitor_of(&seen);
    put_picture(kv, GROUP - 1, 3); /* neighbours */
    put_picture(kv, GROUP, 5000);
    put_picture(kv, GROUP + 1, 3);
    assert_int_equal(export(GROUP, UINT64_MAX, &out), OK);
    assert_int_equal(out.group.applied_index, 40);
    const struct disk_file *file = ram_disk_find(&disk, PATH);
    assert_int_equal(file->size, out.size_bytes);
    assert_int_equal(crc32c(0, file->data, file->size), out.crc);
    assert_int_equal(meta_import(&disk.disk, PATH, GROUP, &visitor), OK);
    assert_int_equal(seen.segments, 2);
    assert_int_equal(seen.epochs, 2);
    assert_int_equal(seen.done, 5000);
    assert_int_equal(seen.states, 1);

    /* Into a store that has something else of the group: all of it goes, nobody else's does. */
    struct kv *other = sim_kv_new(&(struct sim_kv_options){0});
    struct kv_txn *txn;
    put_picture(other, GROUP, 9000);
    put_picture(other, GROUP + 1, 3);
    struct meta_group row = group_of(GROUP);
    row.replica = 99;
    const struct meta_segment one = {.base_offset = 0, .end_offset = 20, .size_bytes = 800, .chain = 5, .tail = tail};
    assert_int_equal(other->ops->begin(other, true, &txn), OK);
    assert_int_equal(meta_install(other, txn, &disk.disk, PATH, &row, &one, 1), OK);
    assert_int_equal(other->ops->commit(other, txn), OK);
    assert_int_equal(other->ops->begin(other, true, &txn), OK);
    assert_int_equal(meta_delete_group(other, txn, GROUP + 1), OK);
    assert_int_equal(other->ops->commit(other, txn), OK);
    visitor = visitor_of(&after);
    assert_int_equal(meta_load(other, &visitor), OK); /* the sum over its rows is right, too */
    assert_int_equal(after.groups, 1);
    assert_int_equal(after.segments, 1);
    assert_int_equal(after.epochs, 2);
    assert_int_equal(after.done, 5000);
    assert_int_equal(after.states, 1);
    sim_kv_free(other);
}

static void an_install_that_ends_early_changes_nothing(void **state)
{
    (void)state;
    struct meta_export out;
    struct kv_txn *txn;
    const struct meta_group row = group_of(GROUP);
    put_picture(kv, GROUP, 50);
    assert_int_equal(export(GROUP, UINT64_MAX, &out), OK);
    uint32_t hash = sim_kv_hash(kv);
    assert_int_equal(kv->ops->begin(kv, true, &txn), OK);
    assert_int_equal(meta_install(kv, txn, &disk.disk, PATH, &row, NULL, 0), OK);
    kv->ops->abort(kv, txn);
    assert_int_equal(sim_kv_hash(kv), hash);
    sim_kv_set_full(kv, true);
    assert_int_equal(kv->ops->begin(kv, true, &txn), OK);
    assert_int_equal(meta_install(kv, txn, &disk.disk, PATH, &row, NULL, 0), ERR_STORAGE_FULL);
    kv->ops->abort(kv, txn);
    assert_int_equal(sim_kv_hash(kv), hash);
}

static void no_picture_is_made_of_bad_rows(void **state)
{
    (void)state;
    struct meta_export out;
    struct layout_key key;
    struct kv_txn *txn;
    assert_int_equal(export(GROUP, UINT64_MAX, &out), ERR_NO_FILE);
    put_picture(kv, GROUP, 10);
    assert_int_equal(export(GROUP, UINT64_MAX, &out), OK);
    assert_int_equal(export(GROUP, out.size_bytes, &out), OK);
    assert_int_equal(export(GROUP, out.size_bytes - 1, &out), ERR_TOO_LARGE);
    layout_number_key(&key, LAYOUT_DONE, GROUP, 4);
    assert_true(sim_kv_flip_bit(kv, layout_bytes(&key), 3));
    assert_int_equal(export(GROUP, UINT64_MAX, &out), ERR_FORMAT);
    /* Gone without a trace: only the sum tells. */
    assert_int_equal(kv->ops->begin(kv, true, &txn), OK);
    assert_int_equal(kv->ops->del(kv, txn, layout_bytes(&key)), OK);
    assert_int_equal(kv->ops->commit(kv, txn), OK);
    assert_int_equal(export(GROUP, UINT64_MAX, &out), ERR_FORMAT);
}

static void every_flipped_bit_and_every_cut_is_refused(void **state)
{
    (void)state;
    struct meta_export out;
    struct seen whole = {0};
    struct meta_visitor visitor = visitor_of(&whole);
    put_picture(kv, GROUP, 3);
    assert_int_equal(export(GROUP, UINT64_MAX, &out), OK);
    struct disk_file *file = ram_disk_find(&disk, PATH);
    assert_int_equal(meta_import(&disk.disk, PATH, GROUP, &visitor), OK);
    assert_int_equal(meta_import(&disk.disk, PATH, GROUP + 1, &visitor), ERR_FORMAT);
    for (size_t bit = 0; bit < 8 * out.size_bytes; bit++) {
        struct seen seen = {0};
        visitor = visitor_of(&seen);
        if (bit / 8 == 6 || bit / 8 == 7) {
            continue; /* reserved */
        }
        file->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum err error = meta_import(&disk.disk, PATH, GROUP, &visitor);
        assert_true(error == ERR_FORMAT || error == ERR_VERSION);
        file->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    /* At the end of a row the rest may be missing without a trace: size and CRC of the whole tell that. */
    uint32_t passed = 0;
    for (size_t size = 0; size < out.size_bytes; size++) {
        struct seen seen = {0};
        visitor = visitor_of(&seen);
        file->size = size;
        enum err error = meta_import(&disk.disk, PATH, GROUP, &visitor);
        assert_true(error == ERR_FORMAT || (error == OK && seen.groups == 1));
        passed += error == OK;
    }
    assert_int_equal(passed, 1 + 2 + 2 + 3); /* all ends of rows but the last one */
}

static void rows_out_of_order_are_refused(void **state)
{
    (void)state;
    struct meta_export out;
    struct seen seen = {0};
    struct meta_visitor visitor = visitor_of(&seen);
    put_picture(kv, GROUP, 3);
    assert_int_equal(export(GROUP, UINT64_MAX, &out), OK);
    struct disk_file *file = ram_disk_find(&disk, PATH);
    size_t at = 16, row;
    row = 6u + load_le16(file->data + at) + load_le32(file->data + at + 2);
    uint8_t *copy = malloc(file->size + row);
    memcpy(copy, file->data, at);
    memcpy(copy + at, file->data + at, row); /* the group row twice */
    memcpy(copy + at + row, file->data + at, file->size - at);
    ram_disk_put(&disk, PATH, copy, file->size + row);
    assert_int_equal(meta_import(&disk.disk, PATH, GROUP, &visitor), ERR_FORMAT);
    memmove(copy + at, copy + at + 2 * row, out.size_bytes - at - row); /* or not at all */
    ram_disk_put(&disk, PATH, copy, out.size_bytes - row);
    assert_int_equal(meta_import(&disk.disk, PATH, GROUP, &visitor), ERR_FORMAT);
    ram_disk_put(&disk, PATH, copy, at); /* nothing but the header */
    assert_int_equal(meta_import(&disk.disk, PATH, GROUP, &visitor), ERR_FORMAT);
    free(copy);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(rows_arrive_as_they_were),       TEST(an_install_that_ends_early_changes_nothing),
        TEST(no_picture_is_made_of_bad_rows), TEST(every_flipped_bit_and_every_cut_is_refused),
        TEST(rows_out_of_order_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
