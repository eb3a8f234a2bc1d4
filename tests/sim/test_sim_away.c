/* Brokers and a registry that is not well: away for minutes, late, telling what was true before, not saying what it
 * did. Who leads goes on leading; what was wished comes true when it is well again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "assign_kit.h"
#include "base/rng.h"

#define SEEDS_COUNT 20u

/* --- away --- */

static bool is_named(const void *context)
{
    uint64_t group = *(const uint64_t *)context, term, leader = trio_leader(&t, group, 0);
    const struct partition *p = leader != 0 ? kit_replica_at(leader, group) : NULL;
    return p != NULL && sim_registry_leader(t.registry, group, &term) == leader && term == raft_term(p->raft);
}

static void leaders_serve_while_the_registry_is_away(void **state)
{
    trio_open(&t, 1, 3, 1);
    uint64_t group = trio_group(0), leader = trio_leader(&t, group, 10 * SECOND_US);
    uint64_t term = raft_term(kit_replica_at(leader, group)->raft);
    assert_true(kit_wait_for(is_named, &group, 10 * SECOND_US));
    sim_registry_hold(t.registry, true);
    for (int minute = 0; minute < 10; minute++) {
        kit_produce(group, 5);
        trio_run(&t, 60 * SECOND_US);
        assert_int_equal(trio_leader(&t, group, 0), leader);
        assert_int_equal(raft_term(kit_replica_at(leader, group)->raft), term);
    }
    sim_registry_hold(t.registry, false);
    kit_produce(group, 5);
    trio_check(&t, group);
}

static void leaders_are_elected_while_it_is_away_and_named_afterwards(void **state)
{
    uint64_t term;
    trio_open(&t, 2, 3, 1);
    uint64_t group = trio_group(0), first = trio_leader(&t, group, 10 * SECOND_US);
    assert_true(kit_wait_for(is_named, &group, 10 * SECOND_US));
    sim_registry_hold(t.registry, true);
    trio_crash(&t, first, false);
    kit_produce(group, 5);
    uint64_t second = trio_leader(&t, group, 10 * SECOND_US);
    assert_true(second != 0 && second != first);
    trio_run(&t, 30 * SECOND_US);
    assert_int_equal(sim_registry_leader(t.registry, group, &term), first); /* nobody could tell it */
    sim_registry_hold(t.registry, false);
    assert_true(kit_wait_for(is_named, &group, 10 * SECOND_US));
    trio_start(&t, first);
    kit_produce(group, 5);
    trio_run(&t, 5 * SECOND_US);
    trio_check(&t, group);
}

/* --- what it tells --- */

struct listener {
    uint64_t newest; /* replica id that a row named */
    bool is_done;
    enum err error;
    uint32_t rows, gone;
};

/* Each change of the wish brings a replica with a higher id than any before. */
static void on_topic(void *context, const struct registry_topic *row)
{
    struct listener *listener = context;
    uint64_t newest = 0;
    for (uint32_t r = 0; r < row->partitions[0].replicas_count; r++) {
        uint64_t replica = row->partitions[0].replicas[r].replica;
        newest = replica > newest ? replica : newest;
    }
    assert_true(newest >= listener->newest); /* never older than what was told before */
    listener->newest = newest;
    listener->rows++;
}

static void on_gone(void *context, const uint8_t id[UUID_BYTES])
{
    (void)id;
    ((struct listener *)context)->gone++;
}

static void on_deleted(void *context, uint64_t group)
{
    (void)context, (void)group;
}

static void on_done(void *context, enum err error)
{
    struct listener *listener = context;
    listener->is_done = true;
    listener->error = error;
}

static void until(struct sim_world *world, const bool *is_over)
{
    while (!*is_over) {
        assert_true(world_step(world));
    }
}

static uint64_t newest_of(struct sim_registry *registry, uint64_t group)
{
    const struct registry_partition *wish = sim_registry_partition(registry, group);
    return wish->replicas[wish->replicas_count - 1].replica;
}

/* Broker 1 listens; a second one is there so that replicas have somewhere to go. */
static void what_is_told_late_is_never_older_than_what_was_told(void **state)
{
    static const struct registry_visitor visitor = {on_topic, on_gone, on_deleted};
    static const struct sim_registry_trouble trouble = {.late_us_max = 2 * SECOND_US, .stale = 0.5};
    const bool faults[FAULT_CLASSES_ALL] = {[FAULT_NOTICE] = true};
    for (uint64_t seed = 1; seed <= SEEDS_COUNT; seed++) {
        struct sim_world world;
        struct listener listeners[3] = {0};
        struct rng rng;
        rng_seed(&rng, seed);
        world_init(&world, seed);
        struct sim_registry *registry = sim_registry_new(&world);
        struct registry *ports[3];
        for (uint64_t id = 1; id <= 2; id++) {
            const struct registry_self self = {.broker = id, .disk_uuid = {(uint8_t)id}, .boot = 1};
            ports[id] = sim_registry_port(registry, id);
            ports[id]->ops->load(ports[id], &self, &visitor, on_done, &listeners[id]);
            until(&world, &listeners[id].is_done);
        }
        const struct registry_topic wish = {
            .name = "u", .kind = TOPIC_DATA, .partitions_count = 1, .config.replicas = 1};
        uint64_t group = sim_registry_create_topic(registry, &wish), at = 0;
        while (at == 0) {
            const struct registry_replica *one = &sim_registry_partition(registry, group)->replicas[0];
            ports[one->broker]->ops->report_born(ports[one->broker], group, one->replica);
            at = sim_registry_topic(registry, "u")->state == TOPIC_LIVE ? one->broker : 0;
            assert_true(world_step(&world));
        }
        sim_registry_begin(registry, &trouble, faults, seed);
        for (int i = 0; i < 60; i++) {
            if (sim_registry_move(registry, group, at, 3 - at)) {
                at = 3 - at;
            }
            if (rng_chance(&rng, 0.5)) {
                uint64_t asked = newest_of(registry, group);
                listeners[1].is_done = false;
                ports[1]->ops->refresh(ports[1], on_done, &listeners[1]);
                until(&world, &listeners[1].is_done);
                assert_true(listeners[1].newest >= asked); /* no older than the question */
            } else {
                world_step(&world);
            }
        }
        assert_true(world.tally.faults[FAULT_NOTICE] > 0);
        sim_registry_calm(registry);
        uint64_t end_us = world.now_us + 5 * SECOND_US; /* the controller changes its mind every ten */
        while (listeners[1].newest != newest_of(registry, group)) {
            assert_true(world_step(&world) && world.now_us < end_us);
        }
        sim_registry_free(registry);
        world_done(&world);
    }
}

static void an_unknown_outcome_may_be_either(void **state)
{
    static const struct sim_registry_trouble trouble = {.doubt = 1};
    const bool faults[FAULT_CLASSES_ALL] = {[FAULT_DOUBT] = true};
    uint32_t made = 0;
    for (uint64_t seed = 1; seed <= SEEDS_COUNT; seed++) {
        static const struct registry_visitor visitor = {on_topic, on_gone, on_deleted};
        const struct registry_self self = {.broker = 1, .disk_uuid = {1}, .boot = 1};
        struct sim_world world;
        struct listener listener = {0};
        world_init(&world, seed);
        struct sim_registry *registry = sim_registry_new(&world);
        struct registry *port = sim_registry_port(registry, 1);
        port->ops->load(port, &self, &visitor, on_done, &listener);
        until(&world, &listener.is_done);
        sim_registry_begin(registry, &trouble, faults, seed);
        listener.is_done = false;
        const struct registry_topic wish = {
            .name = "u", .kind = TOPIC_DATA, .partitions_count = 1, .config.replicas = 1};
        port->ops->create_topic(port, &wish, on_done, &listener);
        until(&world, &listener.is_done);
        assert_int_equal(listener.error, ERR_UNKNOWN_OUTCOME);
        made += sim_registry_topic(registry, "u") != NULL;
        sim_registry_free(registry);
        world_done(&world);
    }
    assert_true(made > 0 && made < SEEDS_COUNT);
}

/* --- all of it, while replicas move and brokers die --- */

static void trouble_of(uint64_t seed)
{
    bool faults[FAULT_CLASSES_ALL] = {[FAULT_NOTICE] = true, [FAULT_REPORT] = true, [FAULT_DOUBT] = true};
    struct rng rng;
    rng_seed(&rng, seed);
    trio_open(&t, seed, 4, 1);
    const struct sim_registry_trouble trouble = {
        .late_us_max = rng_between(&rng, 1000, 4 * SECOND_US), .stale = 0.5, .lost = 0.3, .twice = 0.3, .doubt = 0.3};
    uint64_t group = kit_make_topic(1, 3);
    sim_registry_begin(t.registry, &trouble, faults, seed);
    for (int i = 0; i < 12; i++) {
        const struct registry_partition *wish = sim_registry_partition(t.registry, group);
        uint64_t from = wish->replicas[rng_below(&rng, wish->replicas_count)].broker, to = rng_between(&rng, 1, 4);
        uint64_t id = rng_between(&rng, 1, 4);
        (void)sim_registry_move(t.registry, group, from, to);
        sim_registry_hold(t.registry, rng_chance(&rng, 0.3));
        if (rng_chance(&rng, 0.3)) {
            trio_crash(&t, id, rng_chance(&rng, 0.5));
            trio_start(&t, id);
        }
        (void)trio_produce(&t, group, rng_between(&rng, 1, 3 * SECOND_US));
        trio_run(&t, rng_between(&rng, 1, 6 * SECOND_US));
    }
    sim_registry_calm(t.registry);
    trio_run(&t, 40 * SECOND_US);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    assert_true(kit_wait_for(is_named, &group, 10 * SECOND_US));
    kit_produce(group, 3);
    trio_check(&t, group);
}

static void what_was_wished_comes_true(void **state)
{
    uint64_t from, count;
    kit_seeds(SEEDS_COUNT, &from, &count);
    for (uint64_t seed = from; seed < from + count; seed++) {
        kit_next_seed(seed, from);
        trouble_of(seed);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, kit_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(leaders_serve_while_the_registry_is_away),
        TEST(leaders_are_elected_while_it_is_away_and_named_afterwards),
        cmocka_unit_test(what_is_told_late_is_never_older_than_what_was_told),
        cmocka_unit_test(an_unknown_outcome_may_be_either),
        TEST(what_was_wished_comes_true),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
