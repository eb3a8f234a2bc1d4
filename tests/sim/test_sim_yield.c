/* Leaders that serve badly: with a full disk, or with records that rotted. Others lead instead of them if they can, and
 * nobody promises what a majority has no room for. And what a follower whose records rotted gets of a leader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "sim_trio.h"
#include "base/assert.h"
#include "broker/impl.h"
#include "broker/snapshot.h"
#include "store/scrub.h"

static struct trio t;

/* The memory of jobs under way goes with a process that dies: not to be looked for as a leak. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static int tear_down(void **state)
{
    trio_close(&t);
    return 0;
}

static uint64_t yields(uint64_t id)
{
    return t.broker[id].broker->counters.leaderships_yielded_total;
}

static void produce_some(int count)
{
    for (int i = 0; i < count; i++) {
        assert_true(trio_produce(&t, trio_group(0), 20000000) >= 0);
    }
}

/* From now on its files grow no more; true when the broker has noticed. Only what is written finds out. */
static bool fill(uint64_t id)
{
    sim_disk_set_room(t.broker[id].disk, 0);
    for (int i = 0; i < 100 && !t.broker[id].broker->disk_is_full; i++) {
        (void)trio_produce(&t, trio_group(0), 1000000);
    }
    return t.broker[id].broker->disk_is_full;
}

static void who_has_no_room_lets_others_lead(void **state)
{
    trio_open(&t, 1, 3, 1);
    produce_some(5);
    uint64_t full = trio_leader(&t, trio_group(0), 10000000);
    assert_true(fill(full));
    trio_run(&t, 5000000);
    uint64_t next = trio_leader(&t, trio_group(0), 10000000);
    assert_true(next != 0 && next != full);
    assert_int_equal(yields(full), 1);
    uint64_t told = 0; /* full or not: clients are to ask who leads */
    assert_int_equal(trio_ask_to_produce(&t, full, trio_group(0), 1000000, &told), ERR_NOT_LEADER);
    assert_int_equal(told, next);
    assert_true(t.broker[full].broker->disk_is_full);
    produce_some(20); /* two of three have room */
    struct partition *p = groups_find(t.broker[next].broker, trio_group(0));
    struct partition *other = groups_find(t.broker[full].broker, trio_group(0));
    assert_int_equal(partition_transfer(p, other->replica), ERR_BUSY); /* nobody gives it back to him */
    sim_disk_set_room(t.broker[full].disk, UINT64_MAX);
    trio_run(&t, 10000000);
    assert_false(t.broker[full].broker->disk_is_full);
    assert_int_equal(partition_transfer(p, other->replica), OK);
    produce_some(5);
    trio_check(&t, trio_group(0));
}

static void without_room_on_a_majority_nothing_is_promised(void **state)
{
    trio_open(&t, 2, 3, 1);
    produce_some(5);
    uint64_t leader = trio_leader(&t, trio_group(0), 10000000);
    uint64_t one = leader % 3 + 1, other = one % 3 + 1;
    assert_true(fill(one) && fill(other));
    trio_run(&t, 3000000);
    leader = trio_leader(&t, trio_group(0), 10000000);
    struct partition *p = groups_find(t.broker[leader].broker, trio_group(0));
    assert_false(raft_has_room(p->raft));
    uint64_t last = raft_last_index(p->raft);
    uint32_t acknowledged = t.acknowledged;
    assert_int_equal(trio_produce(&t, trio_group(0), 3000000), -1);
    assert_int_equal(t.acknowledged, acknowledged);
    assert_true(raft_last_index(p->raft) <= last + 4); /* the clock goes on, no record was proposed */
    sim_disk_set_room(t.broker[one].disk, UINT64_MAX);
    produce_some(10); /* it recovers by itself */
    sim_disk_set_room(t.broker[other].disk, UINT64_MAX);
    trio_run(&t, 10000000);
    trio_check(&t, trio_group(0));
}

/* Bytes of the group's first file rot while the broker is down; it scrubs soon. */
static void rot_while_down(uint64_t id)
{
    char path[64];
    struct disk_file *file;
    uint8_t rot[] = "not what was written";
    t.broker[id].config.scrub_period_ms = 2000;
    trio_crash(&t, id, false);
    struct disk *disk = sim_disk_port(t.broker[id].disk);
    snprintf(path, sizeof path, "parts/%lu/%020u.log", trio_group(0), 0u);
    enum err error = disk->ops->open(disk, path, DISK_WRITE, &file);
    ASSERT(error == OK);
    error = disk->ops->write(disk, file, &(struct iovec){rot, sizeof rot}, 1, 100);
    ASSERT(error == OK);
    disk->ops->close(disk, file);
    trio_start(&t, id);
    trio_run(&t, 1000000);
}

/* Then nothing of the group is written again at a start, which is when files rot here. */
static void produce_and_picture(void)
{
    produce_some(150); /* the last block is written anew at a start */
    for (uint64_t id = 1; id <= 3; id++) {
        checkpoint_want(groups_find(t.broker[id].broker, trio_group(0)));
    }
    trio_run(&t, 3000000);
}

static void give_leadership_to(uint64_t id)
{
    uint64_t leader = trio_leader(&t, trio_group(0), 20000000);
    struct partition *p = groups_find(t.broker[leader].broker, trio_group(0));
    if (leader != id) {
        assert_int_equal(partition_transfer(p, groups_find(t.broker[id].broker, trio_group(0))->replica), OK);
    }
}

static void rot_in_its_records_makes_a_leader_give_way(void **state)
{
    trio_open(&t, 3, 3, 1);
    produce_and_picture();
    uint64_t id = trio_leader(&t, trio_group(0), 10000000);
    rot_while_down(id);
    give_leadership_to(id);
    for (int i = 0; i < 100 && yields(id) == 0; i++) {
        trio_run(&t, 500000);
    }
    assert_true(segment_log_damaged_ranges(groups_find(t.broker[id].broker, trio_group(0))->log) > 0);
    assert_int_equal(yields(id), 1);
    trio_run(&t, 3000000);
    uint64_t leader = trio_leader(&t, trio_group(0), 10000000);
    assert_true(leader != 0 && leader != id);
    produce_some(5);
}

/* Two have lost the same records. Neither can mend the other: the third must come to lead, whichever it is. */
static void two_with_rot_do_not_give_it_to_each_other(void **state)
{
    for (uint64_t sound = 1; sound <= 3; sound++) {
        trio_open(&t, 20 + sound, 3, 1);
        produce_and_picture();
        for (uint64_t id = 1; id <= 3; id++) {
            if (id != sound) {
                rot_while_down(id);
            }
        }
        give_leadership_to(sound % 3 + 1);
        const struct partition *p[4] = {0};
        bool is_whole = false;
        for (int i = 0; i < 90 && !is_whole; i++) { /* two who yield, each at most twice a minute */
            trio_run(&t, 1000000);
            is_whole = i > 5;
            for (uint64_t id = 1; id <= 3; id++) {
                p[id] = groups_find(t.broker[id].broker, trio_group(0));
                is_whole = is_whole && segment_log_damaged_ranges(p[id]->log) == 0;
            }
        }
        assert_true(is_whole);
        assert_true(yields(1) + yields(2) + yields(3) >= 1);
        produce_some(5);
        if (sound < 3) {
            trio_close(&t);
        }
    }
}

/* No picture reaches the damage, and nobody writes any more; the log reaches back to the last one, for who is away. */
static void damage_behind_the_last_picture_is_mended(void **state)
{
    char path[64];
    struct inode *inode;
    trio_open(&t, 60, 3, 1);
    for (uint64_t id = 1; id <= 3; id++) {
        t.broker[id].config.snapshot_entries = 1000;
        t.broker[id].config.scrub_period_ms = 2000;
    }
    produce_some(20);
    trio_run(&t, 3000000);
    uint64_t id = trio_leader(&t, trio_group(0), 10000000) % 3 + 1, away = id % 3 + 1;
    away = away == trio_leader(&t, trio_group(0), 0) ? away % 3 + 1 : away;
    trio_crash(&t, away, false);
    trio_crash(&t, id, false); /* the scrub begins with a life */
    trio_start(&t, id);
    produce_some(5);
    const struct partition *p = groups_find(t.broker[id].broker, trio_group(0));
    struct partition *leader = groups_find(t.broker[trio_leader(&t, trio_group(0), 10000000)].broker, trio_group(0));
    checkpoint_want(leader);
    trio_run(&t, 2000000);
    produce_some(20);
    trio_run(&t, 3000000);
    assert_true(leader != p && leader->checkpoint_index < leader->applied_index);
    snprintf(path, sizeof path, "parts/%lu/%020d.log", trio_group(0), 0);
    enum err error = tree_find(sim_disk_tree(t.broker[id].disk), TREE_NOW, path, &inode);
    assert_int_equal(error, OK);
    judge_doubts(t.judge, id);
    inode_flip_bit(inode, segment_log_bytes(p->log) - 10, 3);
    for (int i = 0; i < 1500 && t.broker[id].broker->counters.segments_mended_total == 0; i++) {
        trio_run(&t, 20000);
    }
    assert_int_equal(t.broker[id].broker->counters.segments_mended_total, 1);
    trio_start(&t, away);
    produce_some(5);
    trio_check(&t, trio_group(0));
}

/* Who was sending what is right leads no longer: the next one is asked, and not only when the first is given up. */
static void another_leader_goes_on_with_the_mending(void **state)
{
    char path[64];
    struct inode *inode;
    struct snapshots_state sent = {0};
    trio_open(&t, 61, 3, 1);
    uint64_t leads = trio_leader(&t, trio_group(0), 10000000), id = leads % 3 + 1, next = id % 3 + 1;
    t.broker[id].config.scrub_period_ms = 2000;
    trio_crash(&t, id, false); /* the scrub begins with a life */
    trio_start(&t, id);
    produce_some(50);
    trio_run(&t, 3000000);
    leads = trio_leader(&t, trio_group(0), 10000000);
    assert_true(leads != id);
    next = 6 - leads - id;
    const struct partition *p = groups_find(t.broker[id].broker, trio_group(0));
    snprintf(path, sizeof path, "parts/%lu/%020d.log", trio_group(0), 0);
    enum err error = tree_find(sim_disk_tree(t.broker[id].disk), TREE_NOW, path, &inode);
    assert_int_equal(error, OK);
    judge_doubts(t.judge, id);
    inode_flip_bit(inode, segment_log_bytes(p->log) - 10, 3);
    for (int i = 0; i < 200000 && sent.receiving == 0; i++) {
        trio_run(&t, 50);
        snapshot_state(t.broker[id].broker, &sent);
    }
    assert_true(sent.receiving > 0 && t.broker[id].broker->counters.segments_mended_total == 0);
    sim_disk_stand_still(t.broker[id].disk, t.world.now_us + 500000); /* it comes to its next question too late */
    error = partition_transfer(groups_find(t.broker[leads].broker, trio_group(0)),
                               groups_find(t.broker[next].broker, trio_group(0))->replica);
    assert_int_equal(error, OK);
    for (int i = 0; i < 300 && t.broker[id].broker->counters.segments_mended_total == 0; i++) {
        trio_run(&t, 100000);
    }
    assert_int_equal(t.broker[id].broker->counters.segments_mended_total, 1);
    produce_some(5);
    trio_check(&t, trio_group(0));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(who_has_no_room_lets_others_lead),           TEST(without_room_on_a_majority_nothing_is_promised),
        TEST(rot_in_its_records_makes_a_leader_give_way), TEST(two_with_rot_do_not_give_it_to_each_other),
        TEST(damage_behind_the_last_picture_is_mended),   TEST(another_leader_goes_on_with_the_mending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
