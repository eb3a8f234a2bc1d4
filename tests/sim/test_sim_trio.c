/* Whole brokers that replicate to one another: what is acknowledged is on a majority, survives whoever dies, and is the
 * same bytes everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/rng.h"
#include "broker/impl.h"
#include "sim_trio.h"

static struct trio t;
static uint64_t judged[JUDGES_ALL]; /* of all seeds */

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

static void three_brokers_replicate(void **state)
{
    (void)state;
    trio_open(&t, 1, 3, 2);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(trio_produce(&t, trio_group(0), 5000000), i);
    }
    trio_check(&t, trio_group(0));
}

static void a_leader_that_dies_is_followed_by_another(void **state)
{
    (void)state;
    trio_open(&t, 2, 3, 1);
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 10; i++) {
            assert_true(trio_produce(&t, trio_group(0), 20000000) >= 0);
        }
        uint64_t leader = trio_leader(&t, trio_group(0), 10000000);
        trio_crash(&t, leader, round % 2 == 1);
        assert_true(trio_produce(&t, trio_group(0), 20000000) >= 0);
        trio_start(&t, leader);
    }
    trio_run(&t, 5000000);
    trio_check(&t, trio_group(0));
}

static void without_a_majority_nothing_is_acknowledged(void **state)
{
    (void)state;
    trio_open(&t, 3, 3, 1);
    assert_int_equal(trio_produce(&t, trio_group(0), 5000000), 0);
    trio_crash(&t, 1, false);
    trio_crash(&t, 2, true);
    assert_int_equal(trio_produce(&t, trio_group(0), 10000000), -1);
    trio_start(&t, 1);
    assert_true(trio_produce(&t, trio_group(0), 20000000) > 0);
    trio_start(&t, 2);
    trio_run(&t, 5000000);
    trio_check(&t, trio_group(0));
}

static void all_lose_power_at_once(void **state)
{
    (void)state;
    trio_open(&t, 4, 3, 1);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 20; i++) {
            assert_true(trio_produce(&t, trio_group(0), 20000000) >= 0);
        }
        for (uint64_t id = 1; id <= 3; id++) {
            trio_crash(&t, id, true);
        }
        for (uint64_t id = 1; id <= 3; id++) {
            trio_start(&t, id);
        }
    }
    trio_check(&t, trio_group(0));
}

static void a_leader_that_is_cut_off_gives_way(void **state)
{
    (void)state;
    trio_open(&t, 5, 3, 1);
    assert_int_equal(trio_produce(&t, trio_group(0), 5000000), 0);
    uint64_t old = trio_leader(&t, trio_group(0), 0);
    for (uint64_t id = 1; id <= 3; id++) {
        sim_cables_cut(t.cables, old, id, true);
        sim_cables_cut(t.cables, id, old, true);
    }
    trio_run(&t, 3000000);
    uint64_t leader = trio_leader(&t, trio_group(0), 10000000);
    assert_true(leader != 0 && leader != old); /* the old one stepped down */
    assert_true(trio_produce(&t, trio_group(0), 10000000) > 0);
    for (uint64_t id = 1; id <= 3; id++) {
        sim_cables_cut(t.cables, old, id, false);
        sim_cables_cut(t.cables, id, old, false);
    }
    trio_run(&t, 10000000);
    trio_check(&t, trio_group(0));
}

static void a_leader_without_followers_says_nothing_of_the_end(void **state)
{
    (void)state;
    int64_t offset = -1;
    trio_open(&t, 6, 3, 1);
    assert_int_equal(trio_produce(&t, trio_group(0), 5000000), 0);
    uint64_t old = trio_leader(&t, trio_group(0), 0);
    assert_int_equal(trio_latest(&t, old, trio_group(0), 1000000, &offset), OK);
    assert_int_equal(offset, 1);
    for (uint64_t id = 1; id <= 3; id++) {
        sim_cables_cut(t.cables, old, id, true);
        sim_cables_cut(t.cables, id, old, true);
    }
    assert_true(trio_leader(&t, trio_group(0), 0) == old); /* it cannot know yet */
    assert_int_not_equal(trio_latest(&t, old, trio_group(0), 5000000, &offset), OK);
}

/* Whatever happens to a minority, and now and then to all at once; faults overlap. */
static void trouble(uint64_t seed)
{
    struct rng rng;
    bool down[4] = {false};
    rng_seed(&rng, seed);
    trio_open(&t, seed, 3, 1);
    for (int i = 0; i < 40; i++) {
        uint64_t id = rng_between(&rng, 1, 3), other = rng_between(&rng, 1, 3);
        switch (rng_below(&rng, 8)) {
        case 0:
        case 1:
            if (!down[id]) {
                trio_crash(&t, id, rng_below(&rng, 2) == 0);
                down[id] = true;
            }
            break;
        case 2:
        case 3:
            if (down[id]) {
                trio_start(&t, id);
                down[id] = false;
            }
            break;
        case 4:
            sim_cables_cut(t.cables, id, other, id != other);
            break;
        case 5:
            sim_cables_cut(t.cables, id, other, false);
            break;
        case 6:
            sim_cables_break(t.cables, id, other);
            break;
        default:
            trio_run(&t, rng_between(&rng, 1, 3000000));
            break;
        }
        for (uint64_t n = rng_below(&rng, 6); n > 0; n--) {
            trio_produce(&t, trio_group(0), rng_between(&rng, 1, 500000));
        }
    }
    for (uint64_t id = 1; id <= 3; id++) {
        for (uint64_t other = 1; other <= 3; other++) {
            sim_cables_cut(t.cables, id, other, false);
        }
        if (down[id]) {
            trio_start(&t, id);
        }
    }
    assert_true(trio_produce(&t, trio_group(0), 30000000) >= 0);
    trio_run(&t, 10000000);
    trio_check(&t, trio_group(0));
}

static void count_judged(void)
{
    for (int i = 0; i < JUDGES_ALL; i++) {
        judged[i] += t.world.tally.judged[i];
    }
}

static void print_judged(void)
{
    for (int i = 0; i < JUDGES_ALL; i++) {
        if (judged[i] > 0) {
            print_message("%s %lu, ", sim_judge_name((enum sim_judge)i), (unsigned long)judged[i]);
        }
    }
    print_message("facts were judged\n");
}

static void nothing_is_lost_in_any_trouble(void **state)
{
    (void)state;
    const char *first = getenv("TRIO_FIRST"), *seeds = getenv("TRIO_SEEDS");
    uint64_t from = first != NULL ? strtoull(first, NULL, 10) : 1;
    uint64_t count = seeds != NULL ? strtoull(seeds, NULL, 10) : 100;
    for (uint64_t seed = from; seed < from + count; seed++) {
        if (seed != from) {
            trio_close(&t);
        }
        trouble(seed);
        count_judged();
        if (seeds != NULL) {
            uint64_t term;
            sim_registry_leader(t.registry, trio_group(0), &term);
            print_message("seed %lu: %u of %u acknowledged, term %lu, %.0f s\n", (unsigned long)seed, t.acknowledged,
                          t.sent, (unsigned long)term, (double)t.world.now_us / 1e6);
        }
    }
    print_judged();
}

/* The log does not get on, so nobody can say what becomes of the request; the next one finds out. */
static void who_asks_for_a_producer_id_is_answered_in_time(void **state)
{
    (void)state;
    trio_open(&t, 10, 1, 1);
    enum err error = ERR_NOT_READY; /* the topic behind it is made at first use */
    for (int i = 0; i < 50 && error == ERR_NOT_READY; i++) {
        error = trio_init_producer(&t, 1, 5000, 5000000);
        trio_run(&t, 100000);
    }
    assert_int_equal(error, OK);
    sim_disk_set_stall(t.broker[1].disk, 1.0);
    uint64_t before_us = t.world.now_us;
    assert_int_equal(trio_init_producer(&t, 1, 2000, 10000000), ERR_TIMEOUT);
    assert_in_range(t.world.now_us - before_us, 2000000, 3000000);
    uint64_t calm_us = sim_disk_calm(t.broker[1].disk);
    trio_run(&t, calm_us - t.world.now_us + 2000000);
    assert_int_equal(trio_init_producer(&t, 1, 5000, 5000000), OK);
    assert_true(trio_produce(&t, trio_group(0), 5000000) >= 0);
}

/* A replica without a leader lets old files of the log go by writing its entries again. What rots of the old ones from
 * then on is no damage, but not before a crash finds the new ones. */
static void entries_written_again_are_not_needed_where_they_were(void **state)
{
    (void)state;
    trio_open(&t, 9, 3, 1);
    for (int i = 0; i < 20; i++) {
        assert_true(trio_produce(&t, trio_group(0), 5000000) >= 0);
    }
    uint64_t id = trio_leader(&t, trio_group(0), 0);
    for (uint64_t other = 1; other <= 3; other++) {
        if (other != id) {
            trio_crash(&t, other, false);
        }
    }
    assert_true(trio_produce(&t, trio_group(0), 300000) < 0);
    trio_run(&t, 3000000);
    struct broker *b = t.broker[id].broker;
    struct partition *p = groups_find(b, trio_group(0));
    checkpoint_want(p);
    trio_run(&t, 2000000);
    assert_true(p->checkpoint_index == p->applied_index && window_last(&p->window) > p->applied_index);
    uint64_t old_lsn = partition__unapplied_lsn(p);
    assert_true(p->repaired_lsn <= old_lsn);
    world_enter(&t.world);
    checkpoint_clear_below(b, wal_next_lsn(b->wal));
    checkpoint_want(p);
    checkpoint_turn(b);
    world_leave(&t.world);
    assert_true(partition__unapplied_lsn(p) > old_lsn);
    assert_true(p->repaired_lsn <= old_lsn);
    trio_run(&t, 2000000);
    struct meta_group row;
    struct kv *kv = t.broker[id].kv;
    struct kv_txn *txn;
    assert_int_equal(kv->ops->begin(kv, false, &txn), OK);
    assert_int_equal(meta_get_group(kv, txn, p->group, &row), OK);
    kv->ops->abort(kv, txn);
    assert_true(row.repaired_lsn > old_lsn && row.repaired_lsn <= partition__unapplied_lsn(p));
    for (uint64_t other = 1; other <= 3; other++) {
        if (other != id) {
            trio_start(&t, other);
        }
    }
    assert_true(trio_produce(&t, trio_group(0), 20000000) >= 0);
    trio_check(&t, trio_group(0));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(three_brokers_replicate),
        TEST(a_leader_that_dies_is_followed_by_another),
        TEST(without_a_majority_nothing_is_acknowledged),
        TEST(all_lose_power_at_once),
        TEST(a_leader_that_is_cut_off_gives_way),
        TEST(a_leader_without_followers_says_nothing_of_the_end),
        TEST(who_asks_for_a_producer_id_is_answered_in_time),
        TEST(entries_written_again_are_not_needed_where_they_were),
        TEST(nothing_is_lost_in_any_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
