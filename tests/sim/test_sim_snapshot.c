/* A follower that was away too long: the others' logs no longer hold what it lacks, and it gets the picture of one of
 * them. Whoever dies or loses power on the way, at whatever step, it ends with the same bytes and no hole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/point.h"
#include "base/rng.h"
#include "snapshot_kit.h"

/* The memory of jobs under way goes with a process that dies: not to be looked for as a leak. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static int tear_down(void **state)
{
    (void)state;
    trio_close(&kit_trio);
    return 0;
}

/* --- one by one --- */

static void a_follower_that_was_away_too_long(void **state)
{
    (void)state;
    kit_prepare(1, 30, 200);
    kit_up(3);
    assert_true(kit_has_caught_up(3, 20000000));
    assert_int_equal(kit_installed_by(3), 1);
    kit_produce(20);
    kit_check();
}

static void an_empty_follower(void **state)
{
    (void)state;
    kit_prepare(2, 0, 100);
    kit_up(3);
    assert_true(kit_has_caught_up(3, 20000000));
    assert_int_equal(kit_installed_by(3), 1);
    kit_check();
}

/* Several segments, of which it has the first: that is not sent again. */
static void only_what_is_lacking_is_sent(void **state)
{
    (void)state;
    kit_prepare(3, 900, 1600);
    kit_up(3);
    assert_true(kit_has_caught_up(3, 60000000));
    assert_int_equal(kit_installed_by(3), 1);
    const struct partition *p = kit_partition(3);
    uint64_t received = kit_trio.broker[3].broker->counters.snapshot_received_bytes_total;
    assert_true(segment_log_bytes(p->log) > 2 * SEGMENT_BYTES_MIN);
    uint64_t rows = 200 * done_count(p->done); /* at most */
    assert_true(received < segment_log_bytes(p->log) - SEGMENT_BYTES_MIN + SEGMENT_BYTES_MIN / 4 + rows);
    kit_check();
}

static void it_survives_a_start_right_afterwards(void **state)
{
    (void)state;
    for (int power_cut = 0; power_cut <= 1; power_cut++) {
        if (power_cut > 0) {
            trio_close(&kit_trio);
        }
        kit_prepare(4, 30, 200);
        kit_up(3);
        while (kit_installed_by(3) == 0) {
            trio_run(&kit_trio, 1000);
        }
        kit_down(3, power_cut);
        kit_up(3);
        assert_true(kit_has_caught_up(3, 20000000));
        assert_int_equal(kit_installed_by(3), 0); /* it had it */
        kit_check();
    }
}

/* --- what a log holds behind the picture --- */

/* A leader that was cut off has proposed much that nobody else has: more entries than the picture has, of an older
 * term. None of them is ever to come back. */
static void the_tail_of_a_deposed_leader_stays_dead(void **state)
{
    (void)state;
    for (int power_cut = 0; power_cut <= 1; power_cut++) {
        if (power_cut > 0) {
            trio_close(&kit_trio);
        }
        kit_open(30, 20);
        kit_produce(30);
        for (int n = 0; n < 50 && trio_leader(&kit_trio, trio_group(0), 10000000) != 3; n++) {
            uint64_t leader = trio_leader(&kit_trio, trio_group(0), 0);
            partition_transfer(kit_partition(leader), kit_partition(3)->replica);
            trio_run(&kit_trio, 500000);
        }
        assert_int_equal(trio_leader(&kit_trio, trio_group(0), 0), 3);
        kit_cut_off(3, true);
        for (int i = 0; i < 120; i++) {
            uint8_t bytes[512];
            uint32_t size = trio_batch(bytes, sizeof bytes, 4000);
            partition_propose(kit_partition(3), ENTRY_DATA, entry_encode_bytes(bytes, size), NULL);
            trio_run(&kit_trio, 1000);
        }
        trio_run(&kit_trio, 5000000); /* the others have another leader */
        kit_produce(20);
        for (uint64_t id = 1; id <= 2; id++) {
            kit_down(id, false);
            kit_up(id);
            kit_cut_off(3, true);
            assert_true(trio_leader(&kit_trio, trio_group(0), 30000000) != 0);
        }
        kit_produce(3);
        uint64_t last = raft_last_index(kit_partition(3)->raft);
        kit_cut_off(3, false);
        for (int n = 0; n < 30000 && kit_installed_by(3) == 0; n++) {
            trio_run(&kit_trio, 1000);
        }
        assert_int_equal(kit_installed_by(3), 1);
        assert_true(kit_partition(3)->applied_index < last);
        kit_down(3, power_cut);
        kit_up(3);
        assert_true(kit_has_caught_up(3, 30000000));
        assert_int_equal(kit_partition(3)->state, PARTITION_LIVE);
        kit_produce(10);
        kit_check();
    }
}

static void lead(uint64_t id)
{
    for (int n = 0; n < 50 && trio_leader(&kit_trio, trio_group(0), 10000000) != id; n++) {
        uint64_t leader = trio_leader(&kit_trio, trio_group(0), 0);
        partition_transfer(kit_partition(leader), kit_partition(id)->replica);
        trio_run(&kit_trio, 500000);
    }
    assert_int_equal(trio_leader(&kit_trio, trio_group(0), 0), id);
}

/* Broker 1 leads, and has forgotten what 3 lacks when that starts; broker 2 has not. */
static void prepare_with_a_log_that_reaches_back(uint64_t seed)
{
    kit_open(seed, 20);
    kit_produce(30);
    trio_run(&kit_trio, 3000000);
    kit_down(3, false);
    kit_produce(100);
    kit_down(1, false);
    kit_up(1);
    lead(1);
}

static void on_placed(void *context, unsigned which)
{
    (void)context;
    if (which == POINT_SNAPSHOT_PLACED) {
        sim_kv_set_full(kit_trio.broker[3].kv, true);
    }
}

/* While an install waits for room that was there a moment ago, somebody else leads, who still has what the group lacks:
 * it does not get on by two ways at once. */
static void a_group_stands_still_while_it_is_installed(void **state)
{
    (void)state;
    prepare_with_a_log_that_reaches_back(31);
    kit_trio.trace.point = on_placed;
    kit_up(3);
    for (int n = 0; n < 300 && kit_state(3).installing == 0; n++) {
        trio_run(&kit_trio, 50000);
    }
    trio_run(&kit_trio, 1000000);
    assert_int_equal(kit_state(3).installing, 1);
    uint64_t applied = kit_partition(3)->applied_index;
    lead(2);
    kit_produce(20);
    trio_run(&kit_trio, 3000000);
    assert_int_equal(kit_partition(3)->applied_index, applied);
    assert_int_equal(kit_partition(3)->state, PARTITION_LIVE);
    kit_trio.trace.point = NULL;
    sim_kv_set_full(kit_trio.broker[3].kv, false);
    assert_true(kit_has_caught_up(3, 30000000));
    kit_check();
}

/* There never was room for it: then the group goes on by the log of whoever has one. */
static void a_group_without_room_takes_entries(void **state)
{
    (void)state;
    prepare_with_a_log_that_reaches_back(32);
    kit_up(3);
    sim_kv_set_full(kit_trio.broker[3].kv, true);
    trio_run(&kit_trio, 5000000);
    assert_int_equal(kit_state(3).receiving, 1);
    lead(2);
    assert_true(kit_has_caught_up(3, 30000000));
    assert_int_equal(kit_installed_by(3), 0);
    assert_int_equal(kit_state(3).receiving, 0); /* nobody needs it any more */
    assert_int_equal(kit_files(3), 0);
    kit_produce(10);
    sim_kv_set_full(kit_trio.broker[3].kv, false);
    trio_run(&kit_trio, 3000000);
    kit_check();
}

/* The voters change, and the first half of it is what the others have checkpointed: so is what 3 gets, whatever comes
 * behind it. */
static void half_a_change_comes_with_a_snapshot(void **state)
{
    (void)state;
    struct members members;
    kit_prepare(33, 30, 200);
    uint64_t leader = trio_leader(&kit_trio, trio_group(0), 0);
    struct partition *p = kit_partition(leader);
    roster_newest(&p->roster, &members);
    uint64_t third = members.member[0].broker == 3   ? members.member[0].replica
                     : members.member[1].broker == 3 ? members.member[1].replica
                                                     : members.member[2].replica;
    members_set(&members, third, 3, RAFT_LEARNER);
    world_enter(&kit_trio.world);
    enum err error = partition_change(p, &members);
    world_leave(&kit_trio.world);
    assert_int_equal(error, OK);
    uint64_t joint = window_last(&p->window);
    for (int n = 0; n < 100000 && p->checkpoint_index < joint; n++) {
        trio_run(&kit_trio, 50);
    }
    assert_int_equal(p->checkpoint_index, joint);
    p->checkpoint_delayed = true; /* no newer picture */
    kit_up(3);
    for (int n = 0; n < 100000 && kit_installed_by(3) == 0; n++) {
        trio_run(&kit_trio, 100);
    }
    assert_int_equal(kit_installed_by(3), 1);
    for (int life = 0; life < 2; life++) {
        assert_int_equal(roster_at(&kit_partition(3)->roster, joint, &members), joint);
        assert_true(members_are_joint(&members));
        if (life == 0) {
            kit_down(3, true);
            kit_up(3);
        }
    }
    p->checkpoint_delayed = false;
    assert_true(kit_has_caught_up(3, 60000000));
    trio_run(&kit_trio, 10000000); /* a learner, or a voter again: as the registry wishes */
    roster_newest(&kit_partition(3)->roster, &members);
    assert_true(!members_are_joint(&members) && members_find(&members, third) != NULL);
    kit_produce(10);
    kit_check();
}

/* --- links --- */

static void a_broken_link_is_gone_on_from(void **state)
{
    (void)state;
    kit_prepare(5, 30, 600);
    kit_up(3);
    for (int i = 0; i < 5; i++) {
        uint64_t got = kit_trio.broker[3].broker->counters.snapshot_received_bytes_total;
        for (int n = 0; n < 200000 && kit_trio.broker[3].broker->counters.snapshot_received_bytes_total < got + 4000;
             n++) {
            trio_run(&kit_trio, 200);
        }
        sim_cables_break(kit_trio.cables, 3, 1);
        sim_cables_break(kit_trio.cables, 3, 2);
    }
    assert_true(kit_has_caught_up(3, 30000000));
    const struct counters *counters = &kit_trio.broker[3].broker->counters;
    assert_int_equal(counters->snapshots_installed_total, 1);
    assert_true(counters->snapshots_resumed_total >= 3);
    /* Hardly anything came twice. */
    assert_true(counters->snapshot_received_bytes_total < segment_log_bytes(kit_partition(3)->log) + 40000);
    kit_check();
}

/* --- deaths within the steps --- */

static unsigned kill_at;     /* a point */
static struct rng *mischief; /* NULL: links and processes are left alone while a picture travels */

static void doom(uint64_t id)
{
    kit_trio.doomed = id;
    kit_count(id);
    kit_kills++;
}

/* Somewhere on the way a link breaks, or a process of either side ends. */
static void on_alarm(void *context, uint64_t argument)
{
    (void)context, (void)argument;
    for (uint64_t id = 1; id <= 3 && mischief != NULL && kit_trio.doomed == 0; id++) {
        struct snapshots_state state;
        uint64_t other = rng_between(mischief, 1, 3);
        if (kit_trio.broker[id].broker == NULL) {
            continue;
        }
        snapshot_state(kit_trio.broker[id].broker, &state);
        if (state.receiving == 0) {
            continue;
        }
        if (rng_below(mischief, 8) == 0 && kit_trio.broker[other].broker != NULL) {
            doom(other);
        } else if (other != id) {
            sim_cables_break(kit_trio.cables, id, other);
        }
    }
}

static void on_point(void *context, unsigned which)
{
    (void)context;
    if (which == POINT_SNAPSHOT_MADE && mischief != NULL) {
        for (uint64_t n = rng_below(mischief, 8); n > 0; n--) {
            world_at(&kit_trio.world, kit_trio.world.now_us + rng_between(mischief, 1, 100000), on_alarm, NULL, 0);
        }
    }
    if (which != kill_at || kit_trio.world.crashed || kit_trio.doomed != 0) {
        return;
    }
    for (uint64_t id = 1; id <= 3; id++) {
        struct snapshots_state state;
        if (kit_trio.broker[id].broker == NULL) {
            continue;
        }
        snapshot_state(kit_trio.broker[id].broker, &state);
        if (which == POINT_SNAPSHOT_MADE ? state.pictures > 0 : state.installing > 0) {
            doom(id);
            kit_trio.world.crashed = true;
            kill_at = POINTS;
            return;
        }
    }
}

static void a_death_at_every_step(void **state)
{
    (void)state;
    static const enum point steps[] = {POINT_SNAPSHOT_MADE, POINT_SNAPSHOT_PLACED, POINT_SNAPSHOT_COMMIT,
                                       POINT_SNAPSHOT_COMMITTED};
    for (uint32_t i = 0; i < 8; i++) {
        if (i > 0) {
            trio_close(&kit_trio);
        }
        kit_prepare(10 + i, 300, 700);
        kit_trio.trace.point = on_point;
        kit_trio.doomed_by_power = i % 2 == 1;
        kill_at = steps[i / 2];
        kit_up(3);
        for (int n = 0; n < 300 && kill_at != POINTS; n++) {
            trio_run(&kit_trio, 100000);
        }
        assert_int_equal(kill_at, POINTS);
        for (uint64_t id = 1; id <= 3; id++) {
            kit_up(id);
        }
        assert_true(kit_has_caught_up(3, 60000000));
        kit_produce(10);
        kit_check();
    }
}

/* While the picture becomes durable the log has much on its way to the disk, and a power cut takes that away. What the
 * next lives append there is worth as much as ever. */
static void a_log_that_is_cut_behind_a_snapshot(void **state)
{
    (void)state;
    static const uint8_t bytes[30000];
    for (uint64_t seed = 40; seed < 52; seed++) {
        if (seed > 40) {
            trio_close(&kit_trio);
        }
        kit_prepare(seed, 30, 100);
        kit_trio.trace.point = on_point;
        kit_trio.doomed_by_power = true;
        kill_at = POINT_SNAPSHOT_COMMITTED;
        kit_up(3);
        for (int n = 0; n < 100000 && kill_at != POINTS; n++) {
            struct wal_record record = {.type = WAL_CHECKPOINT, .group = 999, .replica = 999};
            record.payload = (struct slice){.data = bytes, .size = sizeof bytes};
            if (wal_pending_bytes(kit_trio.broker[3].broker->wal) < 200000) {
                wal_append(kit_trio.broker[3].broker->wal, &record);
            }
            trio_run(&kit_trio, 200);
        }
        assert_int_equal(kill_at, POINTS);
        kit_up(3);
        assert_true(kit_has_caught_up(3, 30000000));
        kit_produce(10);
        kit_down(1 + seed % 2, false); /* now the third one's word counts */
        assert_true(trio_leader(&kit_trio, trio_group(0), 30000000) != 0);
        kit_produce(5);
        kit_down(3, true);
        kit_up(3);
        kit_up(1 + seed % 2);
        kit_produce(5);
        assert_true(kit_has_caught_up(3, 30000000));
        kit_check();
    }
}

/* --- any trouble --- */

static void trouble_step(struct rng *rng)
{
    uint64_t id = rng_between(rng, 1, 3), other = rng_between(rng, 1, 3);
    switch (rng_below(rng, 10)) {
    case 0:
    case 1:
    case 2:
        kit_down(id, rng_below(rng, 2) == 0);
        break;
    case 3:
    case 4:
    case 5:
        kit_up(id);
        break;
    case 6:
        sim_cables_cut(kit_trio.cables, id, other, id != other);
        break;
    case 7:
        sim_cables_cut(kit_trio.cables, id, other, false);
        break;
    case 8:
        sim_cables_break(kit_trio.cables, id, other);
        break;
    default:
        kill_at = POINT_SNAPSHOT_MADE + (unsigned)rng_below(rng, 4);
        kit_trio.doomed_by_power = rng_below(rng, 2) == 0;
        break;
    }
    for (uint64_t n = rng_below(rng, 25); n > 0; n--) {
        trio_produce(&kit_trio, trio_group(0), rng_between(rng, 1, 500000));
    }
    trio_run(&kit_trio, rng_between(rng, 1, 1500000));
}

static void trouble(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    kit_open(seed, (uint32_t)rng_between(&rng, 5, 40));
    kit_limits.chunk_bytes = (uint32_t)rng_between(&rng, 50, 1500);
    kit_limit_all();
    kit_trio.trace.point = on_point;
    kill_at = POINTS;
    mischief = &rng;
    for (int i = 0; i < 60; i++) {
        trouble_step(&rng);
    }
    kill_at = POINTS;
    mischief = NULL;
    for (uint64_t id = 1; id <= 3; id++) {
        kit_up(id);
        kit_cut_off(id, false);
    }
    assert_true(trio_produce(&kit_trio, trio_group(0), 60000000) >= 0);
    trio_run(&kit_trio, 15000000);
    for (uint64_t id = 1; id <= 3; id++) {
        assert_true(kit_has_caught_up(id, 60000000));
    }
    kit_check();
    for (uint64_t id = 1; id <= 3; id++) {
        kit_count(id);
    }
}

static void no_trouble_leaves_a_hole(void **state)
{
    (void)state;
    const char *first = getenv("TRIO_FIRST"), *seeds = getenv("TRIO_SEEDS");
    uint64_t from = first != NULL ? strtoull(first, NULL, 10) : 1;
    uint64_t seeds_count = seeds != NULL ? strtoull(seeds, NULL, 10) : 40;
    uint64_t installed = 0, resumed = 0;
    kit_kills = 0;
    for (uint64_t seed = from; seed < from + seeds_count; seed++) {
        if (seed != from) {
            trio_close(&kit_trio);
        }
        trouble(seed);
        installed += kit_installed;
        resumed += kit_resumed;
        if (seeds != NULL) {
            print_message("seed %lu: %u of %u acknowledged, %lu snapshots, %.0f s\n", (unsigned long)seed,
                          kit_trio.acknowledged, kit_trio.sent, (unsigned long)kit_installed,
                          (double)kit_trio.world.now_us / 1e6);
        }
    }
    print_message("%lu seeds: %lu snapshots installed, %lu transfers resumed, %lu deaths within their steps\n",
                  (unsigned long)seeds_count, (unsigned long)installed, (unsigned long)resumed,
                  (unsigned long)kit_kills);
    assert_true(installed >= seeds_count / 2); /* or it proves nothing */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_follower_that_was_away_too_long),
        TEST(an_empty_follower),
        TEST(only_what_is_lacking_is_sent),
        TEST(it_survives_a_start_right_afterwards),
        TEST(the_tail_of_a_deposed_leader_stays_dead),
        TEST(a_group_stands_still_while_it_is_installed),
        TEST(a_group_without_room_takes_entries),
        TEST(half_a_change_comes_with_a_snapshot),
        TEST(a_broken_link_is_gone_on_from),
        TEST(a_death_at_every_step),
        TEST(a_log_that_is_cut_behind_a_snapshot),
        TEST(no_trouble_leaves_a_hole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
