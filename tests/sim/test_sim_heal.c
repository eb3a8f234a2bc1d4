/* Replicas that lost some of what they had, and come back by what the others have; and what may not happen meanwhile:
 * that anybody counts them, or that anything acknowledged is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/endian.h"
#include "base/rng.h"
#include "broker/impl.h"
#include "sim_tree.h"
#include "sim_trio.h"
#include "store/scrub.h"
#include "wal/wal.h"

#define BATCHES_MAX 4096u
#define DAY_US      86400000000u

static struct trio t;
static uint64_t healed_total; /* by processes that are gone */
static uint64_t mended_total; /* of all seeds */

/* The memory of jobs under way goes with a process that dies: not to be looked for as a leak. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static int tear_down(void **state)
{
    (void)state;
    trio_close(&t);
    return 0;
}

/* --- brokers --- */

static struct partition *partition_of(uint64_t id)
{
    return t.broker[id].broker != NULL ? groups_find(t.broker[id].broker, trio_group(0)) : NULL;
}

static void down(uint64_t id, bool power_cut)
{
    if (t.broker[id].broker != NULL) {
        healed_total += t.broker[id].broker->counters.groups_healed_total;
        trio_crash(&t, id, power_cut);
    }
}

static void up(uint64_t id)
{
    if (t.broker[id].broker == NULL) {
        trio_start(&t, id);
    }
}

static uint64_t healed(void)
{
    uint64_t total = healed_total;
    for (uint64_t id = 1; id <= t.brokers; id++) {
        total += t.broker[id].broker != NULL ? t.broker[id].broker->counters.groups_healed_total : 0;
    }
    return total;
}

static void open(uint64_t seed, uint32_t entries)
{
    healed_total = 0;
    trio_open(&t, seed, 3, 1);
    for (uint64_t id = 1; id <= 3; id++) {
        t.broker[id].config.snapshot_entries = entries;
    }
}

static void produce(uint32_t records)
{
    for (uint32_t i = 0; i < records; i++) {
        assert_true(trio_produce(&t, trio_group(0), 30000000) >= 0);
    }
}

static void cut(uint64_t one, uint64_t other, bool is_cut)
{
    sim_cables_cut(t.cables, one, other, is_cut);
    sim_cables_cut(t.cables, other, one, is_cut);
}

static bool is_corrupt(uint64_t id)
{
    const struct partition *p = partition_of(id);
    return p != NULL && p->topic != NULL && partition_status(p) == ERR_CORRUPT;
}

/* A voter like the others, and nobody else is one: who lost all is replaced step by step. */
static bool is_whole(uint64_t id)
{
    const struct partition *p = partition_of(id);
    struct members members;
    if (p == NULL || p->raft == NULL || p->healing || p->state != PARTITION_LIVE) {
        return false;
    }
    (void)roster_newest(&p->roster, &members);
    const struct member *self = members_find(&members, p->replica);
    return self != NULL && self->now == RAFT_VOTER && members.count == 3 && !members_are_joint(&members);
}

static bool becomes_whole(uint64_t id, uint64_t limit_us)
{
    for (uint64_t end_us = t.world.now_us + limit_us; t.world.now_us < end_us; trio_run(&t, 50000)) {
        if (is_whole(id)) {
            return true;
        }
    }
    return false;
}

static uint64_t leader(void)
{
    return trio_leader(&t, trio_group(0), 30000000);
}

/* A member that does not lead. */
static uint64_t follower(uint64_t not_this)
{
    uint64_t id = 1, leads = leader();
    while (id == leads || id == not_this) {
        id++;
    }
    return id;
}

static void check_all(void)
{
    trio_run(&t, 5000000); /* segments are written */
    trio_check(&t, trio_group(0));
    const struct partition *first = partition_of(leader());
    for (uint64_t id = 1; id <= 3; id++) {
        assert_true(is_whole(id));
        assert_int_equal(segment_log_damaged_ranges(partition_of(id)->log), 0);
        assert_int_equal(partition_high_watermark(partition_of(id)), partition_high_watermark(first));
        assert_int_equal(done_hash(partition_of(id)->done), done_hash(first->done));
    }
}

/* --- rot, while it is down --- */

struct place {
    char path[64];
    uint64_t base_lsn, lsn;
    uint32_t length;
    bool has_group;
};

struct survey {
    struct place file;
    struct place batches[BATCHES_MAX];
    uint32_t count;
};

static void on_file(void *context, const char *name, uint64_t base_lsn, uint64_t salt, uint64_t boot, uint32_t version)
{
    struct survey *survey = context;
    const char *last = strrchr(name, '/');
    (void)salt, (void)boot, (void)version;
    snprintf(survey->file.path, sizeof survey->file.path, "wal/%s", last != NULL ? last + 1 : name);
    survey->file.base_lsn = base_lsn;
}

static void on_batch(void *context, uint64_t lsn, uint32_t length, const char *verdict)
{
    struct survey *survey = context;
    if (strcmp(verdict, "ok") == 0) {
        assert_true(survey->count < BATCHES_MAX);
        struct place *place = &survey->batches[survey->count++];
        *place = survey->file;
        place->lsn = lsn;
        place->length = length;
    }
}

static void on_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct survey *survey = context;
    for (uint32_t i = survey->count; i > 0; i--) {
        if (survey->batches[i - 1].lsn == lsn) {
            survey->batches[i - 1].has_group |= record->group == trio_group(0);
            return;
        }
    }
}

/* One bit of the batch that is `back` before the last one that somebody vouches for and that holds records of the
 * group. False: there are not so many. */
static bool rot_wal(uint64_t id, uint32_t back, uint64_t chance)
{
    static struct survey survey;
    struct inode *inode;
    const struct wal_inspector inspector = {
        .context = &survey, .file = on_file, .batch = on_batch, .record = on_record};
    survey.count = 0;
    enum err error = wal_inspect(sim_disk_shadow(t.broker[id].disk), "wal", &inspector);
    assert_int_equal(error, OK);
    for (uint32_t i = survey.count > 0 ? survey.count - 1 : 0; i > 0; i--) {
        const struct place *place = &survey.batches[i - 1];
        bool is_vouched = place[1].base_lsn == place->base_lsn;
        if (!place->has_group || !is_vouched || back-- > 0) {
            continue;
        }
        error = tree_find(sim_disk_tree(t.broker[id].disk), TREE_NOW, place->path, &inode);
        assert_int_equal(error, OK);
        judge_doubts(t.judge, id);
        inode_flip_bit(inode, WAL_BLOCK_BYTES + place->lsn - place->base_lsn + chance % place->length,
                       (unsigned)(chance >> 32) % 8);
        judge_crashed(t.judge, id);
        return true;
    }
    return false;
}

/* One bit of the first row of this type that the group has. */
static bool rot_row(uint64_t id, char type, uint64_t chance)
{
    struct kv *kv = t.broker[id].kv;
    struct kv_bytes key, value;
    struct kv_txn *txn;
    uint8_t from[9] = {(uint8_t)type}, copy[KV_KEY_BYTES_MAX];
    store_be64(from + 1, trio_group(0));
    enum err error = kv->ops->begin(kv, false, &txn);
    assert_int_equal(error, OK);
    error = kv->ops->seek(kv, txn, (struct kv_bytes){from, sizeof from}, &key, &value);
    bool is_there = error == OK && memcmp(key.data, from, sizeof from) == 0;
    size_t bit = is_there ? chance % (8 * value.size) : 0;
    struct kv_bytes row = {copy, is_there ? key.size : 0};
    if (is_there) {
        memcpy(copy, key.data, key.size);
    }
    kv->ops->abort(kv, txn);
    if (!is_there) {
        return false;
    }
    judge_doubts(t.judge, id);
    is_there = sim_kv_flip_bit(kv, row, bit);
    judge_crashed(t.judge, id);
    return is_there;
}

/* --- one by one --- */

static void a_rotten_batch_is_got_back_from_the_others(void **state)
{
    (void)state;
    for (int power_cut = 0; power_cut <= 1; power_cut++) {
        if (power_cut > 0) {
            trio_close(&t);
        }
        open(1, 1000);
        produce(30);
        trio_run(&t, 1000000);
        uint64_t id = follower(0);
        down(id, power_cut);
        assert_true(rot_wal(id, 5, 12345));
        up(id);
        trio_run(&t, 10000);
        assert_true(is_corrupt(id));
        assert_true(becomes_whole(id, 10000000)); /* nobody produces: the leader knows what it is to do */
        assert_int_equal(healed(), 1);
        produce(10);
        check_all();
    }
}

static void a_leader_too(void **state)
{
    (void)state;
    open(2, 1000);
    produce(30);
    uint64_t id = leader();
    down(id, true);
    assert_true(rot_wal(id, 3, 777));
    up(id);
    produce(5);
    assert_true(becomes_whole(id, 10000000));
    produce(5);
    check_all();
}

static void what_healed_stays_whole(void **state)
{
    (void)state;
    open(3, 1000);
    produce(30);
    uint64_t id = follower(0);
    down(id, false);
    assert_true(rot_wal(id, 10, 99));
    up(id);
    assert_true(becomes_whole(id, 10000000));
    for (int i = 0; i < 4; i++) {
        down(id, i % 2 == 0);
        up(id);
        trio_run(&t, 20000);
        assert_false(is_corrupt(id));
        produce(5);
    }
    trio_run(&t, 3000000);
    assert_int_equal(healed(), 1);
    check_all();
}

static void a_damaged_replica_that_dies_again_while_it_heals(void **state)
{
    (void)state;
    struct rng rng;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        if (seed > 1) {
            trio_close(&t);
        }
        rng_seed(&rng, seed);
        open(seed, seed % 2 == 0 ? 10 : 1000);
        produce(30);
        uint64_t id = follower(0);
        down(id, rng_below(&rng, 2) == 0);
        assert_true(rot_wal(id, (uint32_t)rng_below(&rng, 10), rng_next(&rng)));
        for (int i = 0; i < 6; i++) {
            up(id);
            trio_run(&t, rng_between(&rng, 1, rng_below(&rng, 2) == 0 ? 3000 : 400000));
            down(id, rng_below(&rng, 2) == 0);
            produce((uint32_t)rng_below(&rng, 3));
        }
        up(id);
        assert_true(becomes_whole(id, 20000000));
        produce(5);
        check_all();
    }
}

static void rows_are_got_back_from_the_others(void **state)
{
    static const char types[] = "MED";
    (void)state;
    for (int i = 0; i < 6; i++) {
        if (i > 0) {
            trio_close(&t);
        }
        open(40 + (uint64_t)i, 10);
        produce(60);
        trio_run(&t, 2000000);
        uint64_t id = follower(0);
        if (i >= 3) { /* what it lacks has left the others' logs */
            for (uint64_t other = 1; other <= 3; other++) {
                down(other, false);
                up(other);
                assert_true(leader() != 0);
            }
            produce(3);
            id = follower(0);
        }
        down(id, false);
        if (!rot_row(id, types[i % 3], 4321)) {
            assert_int_equal(types[i % 3], 'D'); /* the producers here have no id */
            up(id);
            continue;
        }
        up(id);
        trio_run(&t, 10000);
        assert_true(is_corrupt(id));
        assert_true(becomes_whole(id, 20000000));
        down(id, true);
        up(id);
        trio_run(&t, 1000000);
        assert_true(is_whole(id));
        produce(10);
        check_all();
    }
}

/* Of whom not even the replica id is known nothing is taken for anything: another replica takes its place. */
static void who_lost_its_row_is_replaced(void **state)
{
    (void)state;
    open(5, 10);
    produce(30);
    trio_run(&t, 2000000);
    uint64_t id = follower(0), replica = partition_of(id)->replica;
    down(id, false);
    assert_true(rot_row(id, 'G', 200));
    up(id);
    for (int i = 0; i < 600 && (partition_of(id) == NULL || partition_of(id)->replica <= replica || !is_whole(id));
         i++) {
        assert_true(partition_of(id) == NULL || partition_of(id)->replica != replica);
        trio_run(&t, 100000);
    }
    produce(10);
    trio_run(&t, 5000000);
    assert_true(partition_of(id)->replica > replica && healed() == 0);
    check_all();
}

/* --- records --- */

static uint64_t mended(uint64_t id)
{
    return t.broker[id].broker->counters.segments_mended_total;
}

static bool has_damage(uint64_t id)
{
    return segment_log_damaged_ranges(partition_of(id)->log) > 0;
}

static bool has_file(uint64_t id)
{
    char path[64];
    struct inode *inode;
    snprintf(path, sizeof path, "parts/%lu/%020d.log", trio_group(0), 0);
    return tree_find(sim_disk_tree(t.broker[id].disk), TREE_NOW, path, &inode) == OK &&
           inode_size(inode, TREE_NOW) >= 100;
}

/* The right size, and wrong bytes here and there; or no file at all. */
static void rot_segment(uint64_t id, int64_t base_offset, bool is_gone, uint64_t chance)
{
    char path[64];
    struct inode *inode;
    struct disk *disk = sim_disk_port(t.broker[id].disk);
    snprintf(path, sizeof path, "parts/%lu/%020ld.log", trio_group(0), (long)base_offset);
    judge_doubts(t.judge, id);
    if (is_gone) {
        enum err error = disk->ops->unlink(disk, path);
        assert_int_equal(error, OK);
    } else {
        enum err error = tree_find(sim_disk_tree(t.broker[id].disk), TREE_NOW, path, &inode);
        assert_int_equal(error, OK);
        uint64_t size = inode_size(inode, TREE_NOW), limit = size < 4096 ? size : 4096;
        for (uint64_t i = 0; i < 5; i++) { /* the last block is written anew at a start */
            inode_flip_bit(inode, (chance + i * 1000) % limit, (unsigned)i);
        }
    }
    judge_crashed(t.judge, id);
}

static void a_segment_of_wrong_bytes(uint32_t records, bool is_gone, bool leads)
{
    open(50 + records + is_gone, 50);
    produce(records);
    trio_run(&t, 3000000);
    uint64_t id = leads ? leader() : follower(0);
    checkpoint_want(partition_of(id));
    trio_run(&t, 3000000);
    for (uint64_t other = 1; other <= 3; other++) {
        t.broker[other].config.scrub_period_ms = 2000;
    }
    down(id, false);
    rot_segment(id, 0, is_gone, 333);
    up(id);
    bool was_damaged = false;
    for (int i = 0; i < 2000 && mended(id) == 0; i++) {
        trio_run(&t, 20000);
        was_damaged |= t.broker[id].broker != NULL && t.broker[id].broker->counters.scrub_damaged_total > 0;
        assert_false(is_corrupt(id)); /* the log is whole: it votes, and answers for the rest */
    }
    assert_true(was_damaged && mended(id) > 0);
    trio_run(&t, 10000000);
    assert_false(has_damage(id));
    assert_int_equal(mended(id), 1);
    down(id, true);
    up(id);
    produce(10);
    trio_run(&t, 10000000);
    assert_false(has_damage(id));
    check_all();
}

static void a_follower_whose_segment_has_the_right_size_and_wrong_bytes(void **state)
{
    (void)state;
    a_segment_of_wrong_bytes(1500, false, false);
    assert_true(segment_log_bytes(partition_of(1)->log) > SEGMENT_BYTES_MIN);
}

static void the_segment_that_is_being_written_too(void **state)
{
    (void)state;
    a_segment_of_wrong_bytes(200, false, false);
}

static void a_segment_that_is_gone(void **state)
{
    (void)state;
    a_segment_of_wrong_bytes(901, true, false);
}

static void a_leader_gives_way_and_is_mended(void **state)
{
    (void)state;
    a_segment_of_wrong_bytes(1000, false, true);
}

static void deaths_while_it_is_mended(void **state)
{
    (void)state;
    struct rng rng;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        rng_seed(&rng, seed);
        if (seed > 1) {
            trio_close(&t);
        }
        a_segment_of_wrong_bytes(250, seed % 4 == 0, false);
        uint64_t id = rng_between(&rng, 1, 3);
        down(id, false);
        rot_segment(id, 0, false, rng_next(&rng));
        for (int i = 0; i < 8; i++) {
            up(id);
            trio_run(&t, rng_between(&rng, 1, 8000000));
            down(id, rng_below(&rng, 4) != 0);
        }
        up(id);
        trio_run(&t, 20000000);
        check_all();
    }
}

/* --- what must not happen --- */

static void two_of_three_stay_corrupt(void **state)
{
    (void)state;
    open(6, 1000);
    produce(30);
    trio_run(&t, 1000000);
    uint64_t one = follower(0), other = follower(one), whole = leader();
    for (uint64_t id = 1; id <= 3; id++) {
        down(id, true);
    }
    assert_true(rot_wal(one, 4, 55));
    assert_true(rot_wal(other, 4, 55));
    for (int i = 0; i < 3; i++) {
        for (uint64_t id = 1; id <= 3; id++) {
            up(id);
        }
        trio_run(&t, 20000000);
        assert_true(is_corrupt(one) && is_corrupt(other) && !is_corrupt(whole));
        assert_int_equal(trio_leader(&t, trio_group(0), 0), 0);
        assert_int_equal(trio_produce(&t, trio_group(0), 1000000), -1);
        for (uint64_t id = 1; id <= 3; id++) {
            down(id, i % 2 == 0);
        }
    }
    assert_int_equal(healed(), 0);
    for (uint64_t id = 1; id <= 3; id++) {
        up(id);
    }
    trio_run(&t, 1000000);
    /* What is acknowledged is at the whole one still. */
    assert_true(window_last(&partition_of(whole)->window) >= 30);
}

/* Whatever rots at any number of them at once: the judge looks for what is lost, and nobody leads, or is healed,
 * without a majority that is whole. */
static void no_majority_is_made_of_damaged_ones(void **state)
{
    (void)state;
    struct rng rng;
    uint32_t stuck = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        if (seed > 1) {
            trio_close(&t);
        }
        rng_seed(&rng, seed);
        open(seed, rng_below(&rng, 2) == 0 ? 1000 : 15);
        produce((uint32_t)rng_between(&rng, 10, 40));
        trio_run(&t, rng_between(&rng, 1, 1000000));
        for (uint64_t id = 1; id <= 3; id++) {
            down(id, rng_below(&rng, 2) == 0);
        }
        uint64_t spared = rng_between(&rng, 0, 3); /* 0: nobody is */
        for (uint64_t id = 1; id <= 3; id++) {
            if (id != spared) {
                (void)rot_wal(id, (uint32_t)rng_below(&rng, 8), rng_next(&rng));
            }
            up(id);
        }
        trio_run(&t, 20000);
        uint32_t corrupt = (uint32_t)is_corrupt(1) + is_corrupt(2) + is_corrupt(3);
        for (int i = 0; i < 20; i++) {
            trio_run(&t, 500000);
            assert_true(corrupt < 2 || (trio_leader(&t, trio_group(0), 0) == 0 && healed() == 0));
        }
        assert_true(corrupt >= 2 || trio_produce(&t, trio_group(0), 20000000) >= 0);
        stuck += corrupt >= 2;
    }
    assert_true(stuck >= 20);
}

/* Who has the acknowledged records besides the damaged one is down: nobody may lead until it is back. */
static void the_last_whole_copy_is_waited_for(void **state)
{
    (void)state;
    open(7, 1000);
    produce(10);
    trio_run(&t, 1000000);
    uint64_t first = leader(), behind = follower(0), other = follower(behind);
    cut(first, behind, true);
    cut(other, behind, true);
    produce(2); /* entries that only two have */
    trio_run(&t, 500000);
    down(other, true);
    assert_true(rot_wal(other, 0, 31));
    down(first, false);
    cut(first, behind, false);
    cut(other, behind, false);
    up(other);
    trio_run(&t, 60000000);
    assert_int_equal(trio_leader(&t, trio_group(0), 0), 0);
    assert_true(is_corrupt(other));
    up(first);
    assert_true(becomes_whole(other, 20000000));
    produce(5);
    check_all();
}

/* Entries that are on disks and not committed: after a day, and starts, they are what they were. */
static void entries_that_wait_for_a_day(void **state)
{
    (void)state;
    for (int rots = 0; rots <= 1; rots++) {
        if (rots > 0) {
            trio_close(&t);
        }
        open(8, 1000);
        produce(10);
        trio_run(&t, 1000000);
        uint64_t first = leader(), one = follower(0), other = follower(one);
        cut(first, one, true);
        cut(first, other, true);
        assert_int_equal(trio_produce(&t, trio_group(0), 300000), -1);
        assert_int_equal(trio_produce(&t, trio_group(0), 300000), -1);
        uint64_t last = window_last(&partition_of(first)->window);
        assert_true(last > partition_of(first)->applied_index);
        down(one, false);
        down(other, false);
        trio_run(&t, DAY_US / 24);
        down(first, true);
        bool is_rotten = rots > 0 && rot_wal(first, 0, 5);
        assert_int_equal(is_rotten, rots > 0);
        up(first);
        cut(first, one, false);
        cut(first, other, false);
        trio_run(&t, DAY_US / 24);
        if (!is_rotten) {
            assert_true(window_last(&partition_of(first)->window) >= last);
        }
        up(one);
        up(other);
        assert_true(becomes_whole(first, 20000000));
        produce(5);
        check_all();
    }
}

/* A leader that the others left behind still talks to a replica that lost what it had acknowledged to it. */
static void a_stale_leader_and_a_lost_tail(void **state)
{
    (void)state;
    open(9, 1000);
    produce(20);
    trio_run(&t, 1000000);
    uint64_t stale = leader(), id = follower(0), third = follower(id);
    down(id, true);
    assert_true(rot_wal(id, 2, 8));
    up(id); /* its leader does not know yet that it was away */
    cut(stale, third, true);
    assert_int_equal(trio_produce(&t, trio_group(0), 500000),
                     -1); /* two are there, and one of them counts for nothing */
    trio_run(&t, 5000000);
    assert_int_equal(trio_leader(&t, trio_group(0), 0), 0);
    assert_true(is_corrupt(id));
    cut(id, third, true);
    cut(stale, third, false);
    assert_true(leader() != 0);
    produce(3);
    cut(id, third, false);
    assert_true(becomes_whole(id, 20000000));
    check_all();
}

/* --- any --- */

static bool rot_something(uint64_t id, struct rng *rng)
{
    uint64_t which = rng_below(rng, 6), chance = rng_next(rng);
    if (which == 0) {
        return rot_row(id, "MEM"[chance % 3], chance);
    }
    if (which == 1 && has_file(id)) {
        rot_segment(id, 0, chance % 8 == 0, chance / 8);
        return true;
    }
    return rot_wal(id, (uint32_t)(chance % 12), chance / 16);
}

static void rot_of_one(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    open(seed, rng_below(&rng, 3) == 0 ? 1000 : (uint32_t)rng_between(&rng, 5, 40));
    for (uint64_t id = 1; id <= 3; id++) {
        t.broker[id].config.scrub_period_ms = 2000;
    }
    for (int round = 0; round < 4; round++) {
        produce((uint32_t)rng_between(&rng, 1, 25));
        trio_run(&t, rng_between(&rng, 1, 500000));
        uint64_t id = rng_between(&rng, 1, 3);
        down(id, rng_below(&rng, 2) == 0);
        produce((uint32_t)rng_below(&rng, 3));
        bool is_rotten = rot_something(id, &rng);
        uint64_t again = rng_below(&rng, 3);
        for (uint64_t i = 0; i < again && is_rotten; i++) {
            up(id);
            trio_run(&t, rng_between(&rng, 1, 300000));
            down(id, rng_below(&rng, 2) == 0);
        }
        uint64_t other = rng_between(&rng, 1, 3);
        up(id);
        if (other != id && rng_below(&rng, 2) == 0) { /* the others may die while it heals */
            trio_run(&t, rng_between(&rng, 1, 300000));
            down(other, rng_below(&rng, 2) == 0);
            trio_run(&t, rng_between(&rng, 1, 3000000));
            up(other);
        }
        assert_true(becomes_whole(id, 30000000));
        assert_true(becomes_whole(other, 30000000));
    }
    produce(3);
    trio_run(&t, 5000000); /* rounds of the scrub, and what follows from them */
    for (int i = 0; i < 100 && (has_damage(1) || has_damage(2) || has_damage(3)); i++) {
        trio_run(&t, 1000000);
    }
    check_all();
}

static void nothing_is_lost_whatever_rots_at_one(void **state)
{
    (void)state;
    const char *first = getenv("HEAL_FIRST"), *seeds = getenv("HEAL_SEEDS");
    uint64_t from = first != NULL ? strtoull(first, NULL, 10) : 1;
    uint64_t count = seeds != NULL ? strtoull(seeds, NULL, 10) : 300;
    uint64_t total = 0;
    for (uint64_t seed = from; seed < from + count; seed++) {
        if (seed != from) {
            trio_close(&t);
        }
        if (seeds != NULL) {
            print_message("seed %lu\n", (unsigned long)seed);
        }
        rot_of_one(seed);
        total += healed();
        mended_total += mended(1) + mended(2) + mended(3);
    }
    print_message("%lu replicas healed, %lu segments mended or more\n", (unsigned long)total,
                  (unsigned long)mended_total);
    assert_true(total >= count && mended_total > 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_rotten_batch_is_got_back_from_the_others),
        TEST(a_leader_too),
        TEST(what_healed_stays_whole),
        TEST(a_damaged_replica_that_dies_again_while_it_heals),
        TEST(rows_are_got_back_from_the_others),
        TEST(who_lost_its_row_is_replaced),
        TEST(a_follower_whose_segment_has_the_right_size_and_wrong_bytes),
        TEST(the_segment_that_is_being_written_too),
        TEST(a_segment_that_is_gone),
        TEST(a_leader_gives_way_and_is_mended),
        TEST(deaths_while_it_is_mended),
        TEST(two_of_three_stay_corrupt),
        TEST(no_majority_is_made_of_damaged_ones),
        TEST(the_last_whole_copy_is_waited_for),
        TEST(entries_that_wait_for_a_day),
        TEST(a_stale_leader_and_a_lost_tail),
        TEST(nothing_is_lost_whatever_rots_at_one),
    };
    if (getenv("HEAL_ONLY") != NULL) { /* for people who look at one test */
        cmocka_set_test_filter(getenv("HEAL_ONLY"));
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
