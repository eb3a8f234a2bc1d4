/* The judge reads real logs and real stores: what a sync makes durable, what a crash leaves, and what is stored of a
 * group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/entry.h"
#include "judge_impl.h"
#include "meta/layout.h"
#include "sim_clock.h"
#include "sim_inode.h"
#include "wal/format.h"

#define GROUP 5u

static struct {
    struct sim_world world;
    struct judge *judge;
    struct sim_clock clock;
    struct sim_disk *disk;
    struct kv *kv;
    struct wal *wal;
} s;

/* The memory of jobs under way goes with a process that dies: not to be looked for as a leak. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static void on_synced(void *context, const char *path, const uint8_t *data, uint64_t offset, uint64_t size)
{
    (void)context;
    judge_synced(s.judge, 1, path, data, offset, size);
}

static void on_persisted(void *context, uint64_t lsn_end)
{
    (void)context;
    (void)lsn_end;
}

static void on_failed(void *context, enum err error)
{
    (void)context;
    fail_msg("the log failed: %s", err_name(error));
}

static void on_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    (void)context;
    (void)record;
    (void)lsn;
}

static void on_damaged(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count)
{
    (void)context;
    (void)lsn;
    (void)groups;
    (void)count;
}

static void on_timer(void *context)
{
    (void)context;
}

static void open_log(void)
{
    static const struct trace quiet = {.level = TRACE_ERROR};
    const struct wal_options options = {.disk = sim_disk_port(s.disk),
                                        .clock = &s.clock.port,
                                        .trace = &quiet,
                                        .dir = "wal",
                                        .file_bytes = 64u << 10,
                                        .budget_bytes = 1u << 20,
                                        .boot = 1,
                                        .on_persisted = on_persisted,
                                        .on_failed = on_failed};
    const struct wal_visitor visitor = {.record = on_record, .damaged = on_damaged};
    assert_int_equal(wal_open(&options, &visitor, &s.wal), OK);
}

static int set_up(void **context)
{
    (void)context;
    memset(&s, 0, sizeof s);
    world_init(&s.world, 7);
    s.judge = judge_new(&s.world);
    const struct sim_disk_options options = {.job_us_max = 100, .on_synced = on_synced};
    s.disk = sim_disk_new(&s.world, &options);
    s.kv = sim_kv_new(&(struct sim_kv_options){0});
    sim_clock_init(&s.clock, &s.world, on_timer, NULL);
    judge_machine(s.judge, 1, s.disk, s.kv);
    open_log();
    return 0;
}

static int tear_down(void **context)
{
    (void)context;
    wal_close(s.wal);
    judge_free(s.judge);
    sim_disk_free(s.disk);
    sim_kv_free(s.kv);
    world_done(&s.world);
    return 0;
}

static void append(enum wal_record_type type, uint64_t index, uint64_t term)
{
    const struct wal_record record = {.type = type,
                                      .entry_type = ENTRY_TIMEOUT,
                                      .group = GROUP,
                                      .replica = 11,
                                      .index = index,
                                      .term = term,
                                      .payload = {.data = (const uint8_t *)"payload", .size = 7}};
    wal_append(s.wal, &record);
}

static void flush(void)
{
    while (wal_pending_bytes(s.wal) > 0) {
        wal_flush(s.wal);
        assert_true(world_step(&s.world));
    }
}

static struct judge_replica *replica(void)
{
    return judge__replica_on(judge__group(s.judge, GROUP), 11, 1);
}

/* The process dies, with the power or without, and another one reads what it left. */
static void crash(bool power_cut)
{
    s.world.crashed = true;
    wal_close(s.wal);
    if (power_cut) {
        sim_disk_power_cut(s.disk);
    } else {
        sim_disk_process_death(s.disk);
    }
    s.world.crashed = false;
    judge_crashed(s.judge, 1);
    open_log();
}

static void trips(const char *check)
{
    assert_true(s.world.failed);
    assert_string_equal(s.world.failed_check, check);
}

static void only_what_is_synced_counts(void **context)
{
    (void)context;
    append(WAL_HARD_STATE, 12, 3);
    append(WAL_ENTRY, 1, 3);
    wal_flush(s.wal);
    assert_int_equal(disk__term(s.judge, replica()), 0);
    assert_false(disk__reaches(s.judge, replica(), 1));
    flush();
    assert_int_equal(disk__term(s.judge, replica()), 3);
    assert_int_equal(disk__vote(s.judge, replica()), 12);
    assert_true(disk__reaches(s.judge, replica(), 1));
    assert_false(disk__reaches(s.judge, replica(), 2));
    assert_true(disk__holds(s.judge, judge__group(s.judge, GROUP), replica(), 1, 3));
    assert_false(disk__holds(s.judge, judge__group(s.judge, GROUP), replica(), 1, 2));
    assert_false(s.world.failed);
}

static void what_was_durable_is_found_after_crashes(void **context)
{
    (void)context;
    append(WAL_HARD_STATE, 12, 3);
    append(WAL_ENTRY, 1, 3);
    flush();
    append(WAL_ENTRY, 2, 3);
    crash(true);
    assert_true(disk__reaches(s.judge, replica(), 1));
    assert_false(disk__reaches(s.judge, replica(), 2));
    append(WAL_ENTRY, 2, 3);
    append(WAL_TRUNCATE, 2, 4);
    append(WAL_ENTRY, 2, 4);
    append(WAL_ENTRY, 3, 4);
    flush();
    crash(false);
    assert_int_equal(disk__vote(s.judge, replica()), 12);
    assert_true(disk__holds(s.judge, judge__group(s.judge, GROUP), replica(), 2, 4));
    assert_true(disk__reaches(s.judge, replica(), 3));
    assert_false(s.world.failed);
    assert_true(s.world.tally.judged[JUDGE_W2] > 0);
}

static void log_files(void *context, const char *name)
{
    char path[64];
    (void)context;
    snprintf(path, sizeof path, "wal/%s", name);
    assert_int_equal(tree_unlink(sim_disk_tree(s.disk), path), OK);
}

/* Of those that are in use: the others have no batch. */
static void first_file(void *context, const char *name)
{
    struct inode *inode;
    struct wal__file_header header;
    char path[64];
    snprintf(path, sizeof path, "wal/%s", name);
    assert_int_equal(tree_find(sim_disk_tree(s.disk), TREE_NOW, path, &inode), OK);
    if (wal__file_header_decode(inode_bytes(inode), &header) == OK) {
        *(struct inode **)context = inode;
    }
}

static void w2_a_file_of_the_log_is_gone(void **context)
{
    struct tree *tree = sim_disk_tree(s.disk);
    (void)context;
    append(WAL_HARD_STATE, 12, 3);
    append(WAL_ENTRY, 1, 3);
    flush();
    assert_int_equal(tree_list(tree, TREE_NOW, "wal", log_files, NULL), OK);
    assert_int_equal(tree_sync_dir(tree, "wal"), OK);
    crash(true);
    trips("W2");
}

/* On purpose: then the replica has lost something, and is to know it. */
static void r20_a_damaged_disk_is_no_broken_promise(void **context)
{
    struct tree *tree = sim_disk_tree(s.disk);
    (void)context;
    append(WAL_HARD_STATE, 12, 3);
    append(WAL_ENTRY, 1, 3);
    flush();
    judge_doubts(s.judge, 1);
    assert_int_equal(tree_list(tree, TREE_NOW, "wal", log_files, NULL), OK);
    assert_int_equal(tree_sync_dir(tree, "wal"), OK);
    crash(true);
    assert_false(s.world.failed);
    assert_true(replica()->is_lost);
    append(WAL_GROUP_NEW, 0, 0);
    flush();
    trips("R20");
}

/* The record that names the replica rots, what it wrote behind it stands: no start knows of it any more, so it is lost,
 * and the rest goes with the log some day. */
static void lose_birth(void)
{
    struct inode *inode;
    append(WAL_GROUP_NEW, 0, 0);
    flush();
    append(WAL_HARD_STATE, 12, 3);
    append(WAL_ENTRY, 1, 3);
    flush();
    append(WAL_ENTRY, 2, 3);
    flush();
    assert_int_equal(tree_list(sim_disk_tree(s.disk), TREE_NOW, "wal", first_file, &inode), OK);
    inode_flip_bit(inode, WAL_BLOCK_BYTES + 80, 1);
    crash(false);
}

static void r20_a_replica_whose_birth_rots_is_lost(void **context)
{
    (void)context;
    judge_doubts(s.judge, 1);
    lose_birth();
    assert_false(s.world.failed);
    assert_true(disk__reaches(s.judge, replica(), 2));
    assert_true(replica()->is_lost);
}

/* It is marked, and heals; then its row rots too. */
static void r20_a_marked_replica_whose_row_rots_is_lost(void **context)
{
    struct kv_txn *txn;
    struct layout_key key;
    const struct meta_group mark = {.group = GROUP, .replica = 11, .kind = 1, .damaged = true, .damaged_lsn = 1};
    (void)context;
    append(WAL_HARD_STATE, 12, 3);
    flush();
    assert_int_equal(s.kv->ops->begin(s.kv, true, &txn), OK);
    assert_int_equal(meta_put_group(s.kv, txn, &mark), OK);
    assert_int_equal(s.kv->ops->commit(s.kv, txn), OK);
    disk__fresh(s.judge, &s.judge->machines[1]);
    assert_true(replica()->image.is_given_up);
    judge_doubts(s.judge, 1);
    layout_group_key(&key, LAYOUT_GROUP, GROUP);
    assert_int_equal(s.kv->ops->begin(s.kv, true, &txn), OK);
    assert_int_equal(s.kv->ops->put(s.kv, txn, layout_bytes(&key), (struct kv_bytes){"rot", 3}), OK);
    assert_int_equal(s.kv->ops->commit(s.kv, txn), OK);
    crash(false);
    assert_false(s.world.failed);
    assert_true(replica()->is_lost);
}

static void w2_a_birth_is_gone(void **context)
{
    (void)context;
    append(WAL_GROUP_NEW, 0, 0);
    flush();
    assert_int_equal(tree_list(sim_disk_tree(s.disk), TREE_NOW, "wal", log_files, NULL), OK);
    assert_int_equal(tree_sync_dir(sim_disk_tree(s.disk), "wal"), OK);
    crash(true);
    trips("W2");
}

/* --- the checkpoint store --- */

static void store(uint64_t applied, const struct meta_segment *segments, uint32_t count, int64_t next_offset)
{
    struct kv_txn *txn;
    const struct meta_picture picture = {.group = {.group = GROUP,
                                                   .replica = 11,
                                                   .kind = 1,
                                                   .applied_index = applied,
                                                   .applied_term = applied > 0 ? 3 : 0,
                                                   .next_offset = next_offset,
                                                   .segment_bytes = 1 << 20},
                                         .segments = segments,
                                         .segments_count = count};
    assert_int_equal(s.kv->ops->begin(s.kv, true, &txn), OK);
    assert_int_equal(meta_put_picture(s.kv, txn, &picture), OK);
    assert_int_equal(s.kv->ops->commit(s.kv, txn), OK);
    disk__fresh(s.judge, &s.judge->machines[1]);
}

static void b12_a_hole_between_segments(void **context)
{
    const struct meta_segment whole[] = {{.base_offset = 0, .end_offset = 5, .size_bytes = 500},
                                         {.base_offset = 5, .end_offset = 9, .size_bytes = 400}};
    const struct meta_segment holed[] = {whole[0], {.base_offset = 6, .end_offset = 9, .size_bytes = 300}};
    (void)context;
    replica();
    store(0, whole, 2, 9);
    state__read(s.judge, &s.judge->machines[1], false);
    assert_false(s.world.failed);
    assert_true(s.world.tally.judged[JUDGE_B12] > 0);
    store(0, holed, 2, 9);
    state__read(s.judge, &s.judge->machines[1], false);
    trips("B12");
}

static void b12_a_hole_at_the_end(void **context)
{
    const struct meta_segment rows[] = {{.base_offset = 0, .end_offset = 5, .size_bytes = 500}};
    (void)context;
    replica();
    store(0, rows, 1, 9);
    state__read(s.judge, &s.judge->machines[1], false);
    trips("B12");
}

static void b12_the_same_offsets_are_other_bytes(void **context)
{
    struct meta_segment row = {.base_offset = 0, .end_offset = 5, .size_bytes = 500, .chain = 1};
    (void)context;
    replica();
    store(0, &row, 1, 5);
    state__read(s.judge, &s.judge->machines[1], false);
    assert_false(s.world.failed);
    row.chain = 2;
    store(0, &row, 1, 5);
    state__read(s.judge, &s.judge->machines[1], false);
    trips("B12");
}

static void b12_a_segment_without_a_file(void **context)
{
    const struct meta_segment row = {.base_offset = 0, .end_offset = 5, .size_bytes = 500};
    (void)context;
    replica();
    store(0, &row, 1, 5);
    state__read(s.judge, &s.judge->machines[1], true);
    trips("B12");
}

static void r5_a_picture_of_what_is_not_committed(void **context)
{
    (void)context;
    append(WAL_ENTRY, 1, 3);
    flush();
    store(1, NULL, 0, 0);
    trips("R5");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(only_what_is_synced_counts),
        TEST(what_was_durable_is_found_after_crashes),
        TEST(w2_a_file_of_the_log_is_gone),
        TEST(r20_a_damaged_disk_is_no_broken_promise),
        TEST(r20_a_replica_whose_birth_rots_is_lost),
        TEST(r20_a_marked_replica_whose_row_rots_is_lost),
        TEST(w2_a_birth_is_gone),
        TEST(b12_a_hole_between_segments),
        TEST(b12_a_hole_at_the_end),
        TEST(b12_the_same_offsets_are_other_bytes),
        TEST(b12_a_segment_without_a_file),
        TEST(r5_a_picture_of_what_is_not_committed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
