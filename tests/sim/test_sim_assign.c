/* How groups are born and die among several brokers: what the registry wishes for comes about, whoever dies meanwhile,
 * and nobody who lost anything comes back as if he had not. Moves: test_sim_moves.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "assign_kit.h"
#include "base/rng.h"

/* --- births --- */

static void a_topic_lives_when_all_its_replicas_are_born(void **state)
{
    trio_open(&t, 1, 3, 1);
    uint64_t group = kit_ask_for_topic(4, 3);
    sim_registry_lose(t.registry, 1.0); /* no report arrives */
    trio_run(&t, 3 * SECOND_US);
    for (uint64_t id = 1; id <= 3; id++) {
        for (uint32_t n = 0; n < 4; n++) {
            const struct partition *p = kit_replica_at(id, group + n);
            assert_true(p != NULL && !p->is_unborn && p->raft == NULL);
            assert_int_equal(partition_status(p), ERR_NOT_READY);
        }
    }
    assert_false(kit_is_live("u"));
    sim_registry_lose(t.registry, 0.5);
    assert_true(kit_wait_for(kit_is_live, "u", 10 * SECOND_US));
    kit_produce(group, 10);
    trio_check(&t, group);
}

static void a_birth_that_a_crash_interrupts_goes_on(void **state)
{
    trio_open(&t, 2, 3, 1);
    uint64_t group = kit_ask_for_topic(2, 3);
    trio_run(&t, 600); /* told, and written perhaps */
    for (uint64_t id = 1; id <= 3; id++) {
        trio_crash(&t, id, true);
        trio_run(&t, 100000);
        trio_start(&t, id);
    }
    assert_true(kit_wait_for(kit_is_live, "u", 10 * SECOND_US));
    kit_produce(group, 10);
    trio_check(&t, group);
    assert_int_equal(sim_registry_births_moved(t.registry), 0);
}

/* The controller waits ten seconds for a birth, not for ever. */
static void who_does_not_report_is_replaced(void **state)
{
    trio_open(&t, 3, 4, 1);
    uint64_t before = kit_ask_for_topic(1, 3);
    trio_crash(&t, 2, true);
    trio_run(&t, 5 * SECOND_US);
    assert_false(kit_is_live("u"));
    assert_true(kit_wait_for(kit_is_live, "u", 10 * SECOND_US));
    const struct registry_topic *topic = sim_registry_topic(t.registry, "u");
    uint64_t group = topic->partitions[0].group;
    assert_true(group != before && sim_registry_is_marked(t.registry, before));
    assert_null(registry_replica_on(&topic->partitions[0], 2));
    kit_produce(group, 10);
    trio_check(&t, group);
    trio_start(&t, 2); /* it may have been born there in time, and not have said so */
    trio_run(&t, 2 * SECOND_US);
    assert_true(kit_nobody_has(&before));
    assert_null(kit_replica_at(2, group));
}

static void too_few_brokers_make_no_topic(void **state)
{
    trio_open(&t, 4, 3, 1);
    uint64_t group = kit_ask_for_topic(2, 3);
    trio_crash(&t, 2, false);
    assert_true(kit_wait_for(kit_is_gone, "u", 15 * SECOND_US));
    trio_run(&t, SECOND_US);
    assert_true(kit_nobody_has(&group));
    trio_start(&t, 2);
    trio_run(&t, 2 * SECOND_US);
    assert_true(kit_nobody_has(&group));
    uint64_t other = kit_make_topic(2, 3); /* the name is free again */
    kit_produce(other, 5);
    trio_check(&t, other);
}

/* --- what clients ask for --- */

struct told {
    bool is_here;
    enum err error;
};

static void on_told(void *context, enum err error, const char *message)
{
    *(struct told *)context = (struct told){true, error};
}

static bool is_told(const void *context)
{
    return ((const struct told *)context)->is_here;
}

static enum err ask_broker(uint64_t id, const struct registry_topic *wish)
{
    struct told told = {.is_here = false};
    struct catalog *catalog = t.broker[id].broker->catalog;
    world_enter(&t.world);
    if (wish->partitions_count != 0) {
        catalog_create(catalog, wish, on_told, &told);
    } else {
        catalog_delete(catalog, wish->name, on_told, &told);
    }
    world_leave(&t.world);
    assert_true(kit_wait_for(is_told, &told, 20 * SECOND_US));
    return told.error;
}

static void any_broker_makes_and_deletes_topics(void **state)
{
    trio_open(&t, 14, 3, 1);
    struct registry_topic wish = *sim_registry_topic(t.registry, "t"), name = {.name = "v"};
    assert_int_equal(ask_broker(2, &wish), ERR_TOPIC_EXISTS);
    snprintf(wish.name, sizeof wish.name, "v");
    wish.config.replicas = 4;
    assert_int_equal(ask_broker(2, &wish), ERR_NOT_ENOUGH_BROKERS);
    wish.config.replicas = 0; /* as many as it takes */
    assert_int_equal(ask_broker(2, &wish), OK);
    const struct registry_topic *row = sim_registry_topic(t.registry, "v");
    assert_true(row->state == TOPIC_LIVE && row->config.replicas == 3);
    assert_int_equal(catalog_find(t.broker[2].broker->catalog, "v")->row.state, TOPIC_LIVE);
    uint64_t group = row->partitions[0].group;
    kit_produce(group, 5);
    trio_check(&t, group);
    assert_int_equal(ask_broker(1, &name), OK);
    assert_true(kit_wait_for(kit_nobody_has, &group, 5 * SECOND_US));
    trio_run(&t, SECOND_US);
    assert_int_equal(ask_broker(3, &name), ERR_UNKNOWN_TOPIC);
    trio_crash(&t, 2, false);
    assert_int_equal(ask_broker(3, &wish), OK); /* on one of two */
    assert_int_equal(sim_registry_topic(t.registry, "v")->config.replicas, 1);
}

/* --- deletion --- */

static void a_deleted_topic_is_deleted_on_brokers_that_were_away(void **state)
{
    trio_open(&t, 5, 3, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 10);
    trio_crash(&t, 3, true);
    kit_produce(group, 10);
    assert_true(sim_registry_delete_topic(t.registry, "u"));
    trio_run(&t, 30 * SECOND_US);
    assert_null(kit_replica_at(1, group));
    assert_null(kit_replica_at(2, group));
    assert_true(sim_registry_is_marked(t.registry, group)); /* broker 3 has not heard of it */
    trio_start(&t, 3);
    trio_run(&t, 2 * SECOND_US);
    assert_true(kit_nobody_has(&group));
    trio_crash(&t, 3, false); /* it stays deleted */
    trio_start(&t, 3);
    trio_run(&t, 2 * SECOND_US);
    assert_true(kit_nobody_has(&group));
}

static void a_name_that_is_free_again_is_another_topic(void **state)
{
    trio_open(&t, 6, 3, 1);
    uint64_t before = kit_make_topic(1, 3);
    trio_crash(&t, 1, false);
    assert_true(sim_registry_delete_topic(t.registry, "u"));
    trio_start(&t, 1);
    trio_run(&t, SECOND_US);
    uint64_t group = kit_make_topic(1, 3);
    assert_true(group != before && kit_nobody_has(&before));
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* A mark stays as long as any broker that ever had a replica could still hold something of it. */
static void marks_go_when_nobody_can_need_them(void **state)
{
    trio_open(&t, 7, 3, 1);
    uint64_t group = kit_make_topic(1, 3);
    trio_crash(&t, 3, false);
    assert_true(sim_registry_delete_topic(t.registry, "u"));
    kit_produce(trio_group(0), 800);
    assert_true(sim_registry_is_marked(t.registry, group));
    trio_start(&t, 3);
    trio_run(&t, 6 * SECOND_US); /* until it is dialled again */
    for (int i = 0; i < 3 && !kit_is_forgotten(&group); i++) {
        kit_produce(trio_group(0), 400);
    }
    assert_true(kit_wait_for(kit_is_forgotten, &group, 10 * SECOND_US));
    assert_true(kit_nobody_has(&group));
}

/* --- what is lost --- */

/* A new disk is welcome, and owns nothing: what was there comes back under another id. */
static void a_wiped_disk_owns_nothing(void **state)
{
    trio_open(&t, 8, 3, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 10);
    uint64_t before = kit_replica_at(2, group)->replica;
    trio_crash(&t, 2, true);
    trio_wipe(&t, 2, false);
    kit_produce(group, 10);
    trio_start(&t, 2);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 60 * SECOND_US));
    assert_true(kit_replica_at(2, group)->replica != before);
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* The directory was emptied, but says whose it is: what was born there once is not born again. */
static void an_empty_directory_never_votes(void **state)
{
    trio_open(&t, 9, 3, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 10);
    uint64_t before = kit_replica_at(2, group)->replica;
    sim_registry_lose(t.registry, 1.0); /* nobody gives it another replica */
    trio_crash(&t, 2, true);
    trio_wipe(&t, 2, true);
    trio_start(&t, 2);
    trio_run(&t, 5 * SECOND_US);
    assert_null(kit_replica_at(2, group));
    trio_crash(&t, 1, true); /* the other one is no majority, and gets no vote from an empty disk */
    trio_run(&t, 20 * SECOND_US);
    assert_int_equal(trio_leader(&t, group, 0), 0);
    trio_start(&t, 1);
    sim_registry_lose(t.registry, 0);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 60 * SECOND_US));
    assert_true(kit_replica_at(2, group)->replica != before);
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* The only replica: nobody else can bring it back, and nothing is made in its place. */
static void the_only_replica_stays_lost(void **state)
{
    trio_open(&t, 10, 3, 1);
    uint64_t group = kit_make_topic(1, 1);
    kit_produce(group, 5);
    uint64_t id = trio_leader(&t, group, SECOND_US);
    trio_crash(&t, id, true);
    trio_wipe(&t, id, false);
    trio_start(&t, id);
    trio_run(&t, 30 * SECOND_US);
    assert_null(kit_replica_at(id, group));
    assert_int_equal(groups_missing(t.broker[id].broker, group), ERR_CORRUPT);
    assert_int_equal(groups_missing(t.broker[id % 3 + 1].broker, group), ERR_NOT_LEADER);
}

/* --- any trouble --- */

/* Whatever happens to brokers and to the controller, every topic becomes live or is given up. */
static void births_in_trouble(uint64_t seed)
{
    struct rng rng;
    bool down[TRIO_BROKERS_MAX + 1] = {false};
    rng_seed(&rng, seed);
    trio_open(&t, seed, (uint32_t)rng_between(&rng, 3, 5), 1);
    sim_registry_delay(t.registry, seed, 100, rng_between(&rng, 100, 3 * SECOND_US));
    sim_registry_lose(t.registry, rng_below(&rng, 2) * 0.5);
    uint64_t group = kit_ask_for_topic((uint32_t)rng_between(&rng, 1, 4), 3);
    for (int i = 0; i < 20; i++) {
        uint64_t id = rng_between(&rng, 1, t.brokers);
        if (down[id]) {
            trio_start(&t, id);
        } else if (rng_below(&rng, 2) == 0) {
            trio_crash(&t, id, rng_below(&rng, 2) == 0);
        } else {
            sim_registry_hold(t.registry, rng_below(&rng, 4) == 0);
            id = 0;
        }
        down[id] = id != 0 && t.broker[id].broker == NULL;
        trio_run(&t, rng_between(&rng, 1, rng_below(&rng, 4) == 0 ? 4 * SECOND_US : 20000));
    }
    sim_registry_hold(t.registry, false);
    sim_registry_lose(t.registry, 0);
    for (uint64_t id = 1; id <= t.brokers; id++) {
        if (down[id]) {
            trio_start(&t, id);
        }
    }
    trio_run(&t, 40 * SECOND_US);
    const struct registry_topic *topic = sim_registry_topic(t.registry, "u");
    assert_true(sim_registry_is_settled(t.registry));
    if (topic == NULL) {
        assert_true(kit_nobody_has(&group));
        return;
    }
    for (uint32_t n = 0; n < topic->partitions_count; n++) {
        uint64_t now = topic->partitions[n].group;
        assert_true(kit_wait_for(kit_is_as_wished, &now, 20 * SECOND_US));
    }
    group = topic->partitions[0].group;
    kit_produce(group, 3);
    trio_check(&t, group);
}

static void births_survive_any_trouble(void **state)
{
    uint64_t from, count, moved = 0, lived = 0;
    kit_seeds(30, &from, &count);
    for (uint64_t seed = from; seed < from + count; seed++) {
        kit_next_seed(seed, from);
        births_in_trouble(seed);
        moved += sim_registry_births_moved(t.registry);
        lived += sim_registry_topic(t.registry, "u") != NULL;
    }
    print_message("%lu topics of %lu lived, %lu births were moved\n", (unsigned long)lived, (unsigned long)count,
                  (unsigned long)moved);
    assert_true(lived > count / 2 && (count < 20 || moved > 0));
}

int main(void)
{
    if (getenv("ASSIGN_TEST") != NULL) { /* for people who look at one test */
        cmocka_set_test_filter(getenv("ASSIGN_TEST"));
    }
#define TEST(name) cmocka_unit_test_teardown(name, kit_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_topic_lives_when_all_its_replicas_are_born),
        TEST(a_birth_that_a_crash_interrupts_goes_on),
        TEST(who_does_not_report_is_replaced),
        TEST(too_few_brokers_make_no_topic),
        TEST(any_broker_makes_and_deletes_topics),
        TEST(a_deleted_topic_is_deleted_on_brokers_that_were_away),
        TEST(a_name_that_is_free_again_is_another_topic),
        TEST(marks_go_when_nobody_can_need_them),
        TEST(a_wiped_disk_owns_nothing),
        TEST(an_empty_directory_never_votes),
        TEST(the_only_replica_stays_lost),
        TEST(births_survive_any_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
