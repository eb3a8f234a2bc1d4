/* The atlas allows what the others can make good and no more, knows when bytes are right again, and believes no broker
 * that speaks of damage nobody did. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fleet_atlas.h"
#include "judge.h"
#include "sim_registry_impl.h"

#define PATH "parts/1/00000000000000000000.log"

static struct fleet fleet;
static bool is_settled;

/* What the atlas asks others. */
bool fleet_moves_is_settled(struct fleet *asked, const struct registry_partition *wish)
{
    (void)asked, (void)wish;
    return is_settled;
}

bool fleet_broker_is_up(const struct fleet_broker *b)
{
    (void)b;
    return false;
}

static uint64_t add_topic(const char *name, uint32_t partitions, uint32_t replicas)
{
    uint64_t first = sim_registry_add_topic(fleet.registry, name, partitions, replicas, fleet.brokers);
    fleet.registry->topics[fleet.registry->topics_count - 1]->row.state = TOPIC_LIVE;
    return first;
}

static int set_up(void **state)
{
    (void)state;
    memset(&fleet, 0, sizeof fleet);
    world_init(&fleet.world, 1);
    is_settled = true;
    fleet.brokers = 5;
    fleet.registry = sim_registry_new(&fleet.world);
    fleet.judge = judge_new(&fleet.world);
    fleet.atlas = fleet_atlas_new(&fleet);
    for (uint64_t id = 1; id <= fleet.brokers; id++) {
        struct fleet_broker *b = &fleet.broker[id];
        b->fleet = &fleet;
        b->id = id;
        world_init_part(&b->world, &fleet.world, id);
        b->disk = sim_disk_new(&b->world, &(struct sim_disk_options){.job_us_max = 100});
        b->kv = sim_kv_new(&(struct sim_kv_options){0});
        judge_machine(fleet.judge, id, b->disk, b->kv);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= fleet.brokers; id++) {
        sim_disk_free(fleet.broker[id].disk);
        sim_kv_free(fleet.broker[id].kv);
        world_done(&fleet.broker[id].world);
    }
    fleet_atlas_free(fleet.atlas);
    judge_free(fleet.judge);
    sim_registry_free(fleet.registry);
    world_done(&fleet.world);
    return 0;
}

static void add(enum wound_kind kind, uint64_t broker, uint64_t group)
{
    fleet_atlas_add(fleet.atlas, &(struct wound){.kind = kind, .broker = broker, .group = group});
}

static bool allows(uint64_t broker, uint64_t group)
{
    return fleet_atlas_allows(fleet.atlas, broker, group);
}

/* --- what is allowed --- */

static void one_of_three_may_be_wounded(void **state)
{
    (void)state;
    uint64_t group = add_topic("t", 1, 3); /* on 1, 2, 3 */
    assert_true(allows(1, group) && allows(3, group));
    assert_false(allows(4, group)); /* it has none */
    add(WOUND_ROW, 1, group);
    assert_true(allows(1, group)); /* once more */
    assert_false(allows(2, group) || allows(3, group) || allows(2, 0));
    assert_true(fleet_atlas_is_open(fleet.atlas, 1, 0) && !fleet_atlas_is_open(fleet.atlas, 2, 0));
}

static void of_five_two_and_of_four_one(void **state)
{
    (void)state;
    uint64_t five = add_topic("five", 1, 5), four = add_topic("four", 1, 4);
    add(WOUND_ROW, 2, five);
    add(WOUND_ROW, 2, four);
    assert_true(allows(3, five));
    assert_false(allows(3, four));
    add(WOUND_ROW, 3, five);
    assert_false(allows(4, five));
}

static void groups_of_one_and_two_are_left_alone(void **state)
{
    (void)state;
    uint64_t one = add_topic("one", 1, 1), two = add_topic("two", 1, 2);
    assert_false(allows(1, one) || allows(1, two) || allows(1, 0));
}

static void a_machine_has_many_groups(void **state)
{
    (void)state;
    uint64_t first = add_topic("t", 2, 3); /* on 1, 2, 3 and on 2, 3, 4 */
    add(WOUND_SEGMENT, 4, first + 1);
    assert_true(allows(2, first));
    assert_false(allows(2, first + 1) || allows(2, 0));
    assert_true(allows(1, 0));
    add(WOUND_LOG, 1, 0);
    assert_false(allows(2, first));
}

static void nothing_while_members_change(void **state)
{
    (void)state;
    uint64_t group = add_topic("t", 1, 3);
    is_settled = false;
    assert_false(allows(1, group) || allows(1, 0));
    is_settled = true;
    (void)sim_registry_add_topic(fleet.registry, "new", 1, 3, 5); /* it is being made */
    assert_true(allows(1, group));
    assert_false(allows(1, 0));
}

static void an_empty_disk_has_no_other_wound(void **state)
{
    (void)state;
    uint64_t group = add_topic("t", 1, 3);
    add(WOUND_SEGMENT, 1, group);
    assert_false(fleet_atlas_explains(fleet.atlas, 1, group)); /* it keeps its vote */
    assert_false(fleet_atlas_has_replaced(fleet.atlas));
    assert_non_null(fleet_atlas_segment(fleet.atlas, 1, group, 0));
    add(WOUND_WIPE, 1, 0);
    assert_null(fleet_atlas_segment(fleet.atlas, 1, group, 0));
    assert_true(fleet_atlas_explains(fleet.atlas, 1, group) && fleet_atlas_has_replaced(fleet.atlas));
    assert_true(fleet_atlas_is_open(fleet.atlas, 1, group));
}

/* --- what is over --- */

static void a_sector_is_wrong_as_long_as_any_byte_of_it_is(void **state)
{
    (void)state;
    struct wound_bytes bytes = {.size = 3, .right = "abc", .wrong = "xbz"};
    assert_true(wound_bytes_are_there(&bytes, (const uint8_t *)"xbz", 3));
    assert_true(wound_bytes_are_there(&bytes, (const uint8_t *)"abz", 3));
    assert_false(wound_bytes_are_there(&bytes, (const uint8_t *)"abc", 3));
    assert_false(wound_bytes_are_there(&bytes, (const uint8_t *)"ab", 2));  /* cut off */
    assert_false(wound_bytes_are_there(&bytes, (const uint8_t *)"qqq", 3)); /* something else by now */
}

static struct disk_file *segment(struct disk *disk, const char *text)
{
    struct disk_file *file;
    struct iovec part = {(void *)text, strlen(text)};
    assert_int_equal(disk->ops->make_dir(disk, "parts/1"), OK);
    assert_int_equal(disk->ops->open(disk, PATH, DISK_WRITE | DISK_CREATE, &file), OK);
    assert_int_equal(disk->ops->write(disk, file, &part, 1, 0), OK);
    return file;
}

static void a_segment_that_is_written_again_or_gone_is_over(void **state)
{
    (void)state;
    for (int is_gone = 0; is_gone <= 1; is_gone++) {
        struct fleet_broker *b = &fleet.broker[1 + is_gone];
        struct disk *disk = sim_disk_port(b->disk);
        struct disk_file *file = segment(disk, "right");
        struct wound wound = {.kind = WOUND_SEGMENT, .broker = b->id, .group = 1};
        struct inode *inode;
        assert_int_equal(tree_find(sim_disk_tree(b->disk), TREE_NOW, PATH, &inode), OK);
        wound.bytes = (struct wound_bytes){.inode = inode, .path = PATH, .size = 5, .right = "right", .wrong = "wrong"};
        inode_write(sim_disk_tree(b->disk), inode, "wrong", 5, 0);
        fleet_atlas_add(fleet.atlas, &wound);
        fleet_atlas_look(fleet.atlas);
        assert_true(fleet_atlas_is_open(fleet.atlas, b->id, 1));
        assert_int_equal(disk->ops->sync(disk, file), OK); /* the wrong bytes are on the disk */
        assert_int_equal(disk->ops->sync_dir(disk, "parts/1"), OK);
        assert_int_equal(disk->ops->sync_dir(disk, "parts"), OK);
        assert_int_equal(disk->ops->sync_dir(disk, "."), OK);
        if (is_gone) {
            assert_int_equal(disk->ops->unlink(disk, PATH), OK);
        } else {
            struct iovec part = {(void *)"right", 5};
            assert_int_equal(disk->ops->write(disk, file, &part, 1, 0), OK);
        }
        fleet_atlas_look(fleet.atlas);
        assert_true(fleet_atlas_is_open(fleet.atlas, b->id, 1)); /* a power cut might bring them back */
        assert_int_equal(disk->ops->sync(disk, file), OK);
        assert_int_equal(disk->ops->sync_dir(disk, "parts/1"), OK);
        fleet_atlas_look(fleet.atlas);
        assert_false(fleet_atlas_is_open(fleet.atlas, b->id, 1));
        disk->ops->close(disk, file);
    }
}

/* --- what brokers say --- */

static void says(uint64_t broker, const char *line, const char *check)
{
    fleet_atlas_line(fleet.atlas, &fleet.broker[broker], line);
    assert_string_equal(fleet.world.failed_check, check);
    fleet.world.failed = false;
    memset(fleet.world.failed_check, 0, sizeof fleet.world.failed_check);
}

static void what_was_done_may_be_said(void **state)
{
    (void)state;
    add(WOUND_LOG, 1, 0);
    add(WOUND_ROW, 2, 7);
    add(WOUND_SEGMENT, 3, 7);
    says(1, "group_damaged group=7 lsn=1 why=\"x\"", "");
    says(1, "wal_damaged lsn=1 groups=1", "");
    says(1, "scrub_wal_damaged from_lsn=1 end_lsn=2", "");
    says(2, "group_damaged group=7 lsn=1 why=\"x\"", "");
    says(2, "row_damaged group=7 type=M number=1", "");
    says(2, "scrub_row_damaged type=M group=7 mended=1", "");
    says(3, "scrub_segment_damaged topic=t group=7 from_offset=1", "");
    says(3, "anything else group=7", "");
}

static void what_was_not_done_may_not(void **state)
{
    (void)state;
    add(WOUND_LOG, 1, 0);
    add(WOUND_ROW, 2, 7);
    add(WOUND_SEGMENT, 3, 7);
    says(2, "group_damaged group=8 lsn=1 why=\"x\"", "S10");
    says(3, "group_damaged group=7 lsn=1 why=\"x\"", "S10");
    says(2, "wal_damaged lsn=1 groups=1", "S10");
    says(2, "scrub_wal_damaged from_lsn=1 end_lsn=2", "S10");
    says(1, "row_damaged group=7 type=M number=1", "S10");
    says(3, "scrub_segment_damaged topic=t group=8 from_offset=1", "S10");
    says(4, "group_withheld group=7 error=x", "W7");
    says(4, "group_given_up group=7 lsn=1", "W7");
}

static void who_gave_up_a_group_has_a_wound(void **state)
{
    (void)state;
    uint64_t group = add_topic("t", 1, 3);
    char line[64];
    fleet.broker[2].world.tally.faults[FAULT_WRITE_ERROR] = 1;
    snprintf(line, sizeof line, "group_given_up group=%lu lsn=1", group);
    says(2, line, "");
    assert_true(fleet_atlas_explains(fleet.atlas, 2, group));
    assert_false(allows(1, group));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(one_of_three_may_be_wounded),
        TEST(of_five_two_and_of_four_one),
        TEST(groups_of_one_and_two_are_left_alone),
        TEST(a_machine_has_many_groups),
        TEST(nothing_while_members_change),
        TEST(an_empty_disk_has_no_other_wound),
        TEST(a_sector_is_wrong_as_long_as_any_byte_of_it_is),
        TEST(a_segment_that_is_written_again_or_gone_is_over),
        TEST(what_was_done_may_be_said),
        TEST(what_was_not_done_may_not),
        TEST(who_gave_up_a_group_has_a_wound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
