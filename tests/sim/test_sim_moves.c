/* How replicas move among several brokers, and what becomes of those that missed what became of their group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "assign_kit.h"
#include "base/point.h"
#include "base/rng.h"
#include "meta/layout.h"

static uint64_t counter_of_refused(uint64_t id)
{
    return t.broker[id].broker->counters.raft_rows_refused_total;
}

static uint64_t term_at(uint64_t id, uint64_t group)
{
    return raft_term(kit_replica_at(id, group)->raft);
}

/* --- moves --- */

static void a_replica_moves(void **state)
{
    trio_open(&t, 11, 5, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 20);
    uint64_t follower = trio_leader(&t, group, 0) % 3 + 1;
    kit_move(group, follower, 4);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    uint64_t leader = trio_leader(&t, group, 10 * SECOND_US);
    kit_move(group, leader, 5);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    assert_true(trio_leader(&t, group, 10 * SECOND_US) != leader);
    kit_produce(group, 20);
    trio_check(&t, group);
}

static void one_replica_becomes_three_and_moves_home_again(void **state)
{
    trio_open(&t, 12, 4, 1);
    uint64_t group = kit_make_topic(1, 1);
    kit_produce(group, 20);
    uint64_t home = sim_registry_partition(t.registry, group)->replicas[0].broker;
    uint64_t next = home % 4 + 1, third = next % 4 + 1;
    kit_move(group, 0, next);
    kit_move(group, 0, third);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    kit_produce(group, 20);
    kit_move(group, home, 0);
    kit_move(group, next, 0);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    kit_produce(group, 20);
    trio_check(&t, group);
    kit_move(group, third, home); /* where one replica of the group died before */
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    trio_crash(&t, home, true);
    trio_start(&t, home);
    kit_produce(group, 20);
    trio_check(&t, group);
}

static void count_damage(void *context, enum trace_level level, const char *line)
{
    (void)level;
    *(int *)context += strncmp(line, "group_damaged ", 14) == 0;
}

/* Its log, from its birth on, holds more configurations than a start can bear; the pictures in which the older ones
 * stood went with it. */
static void what_stood_in_the_log_of_who_has_ended_is_not_judged(void **state)
{
    int damaged = 0;
    trio_open(&t, 18, 4, 1);
    t.trace = (struct trace){.level = TRACE_ERROR, .sink = count_damage, .context = &damaged};
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 5);
    uint64_t ends = trio_leader(&t, group, 0) % 3 + 1, at = ends % 3 + 1, free = 4;
    for (int i = 0; i < 6; i++) {
        kit_move(group, at, free);
        assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
        checkpoint_want(kit_replica_at(ends, group));
        trio_run(&t, 2 * SECOND_US);
        uint64_t was = at;
        at = free;
        free = was;
    }
    kit_move(group, ends, free);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    trio_run(&t, 5 * SECOND_US);
    trio_crash(&t, ends, true);
    trio_start(&t, ends);
    trio_run(&t, 2 * SECOND_US);
    assert_int_equal(damaged, 0);
    assert_int_equal(t.broker[ends].broker->counters.apply_gap_total, 0);
    kit_produce(group, 5);
    trio_check(&t, group);
}

/* What its predecessors did by a later wish stands in its log: whom they removed it must not take in again. */
static void a_new_leader_reads_the_wish_anew(void **state)
{
    trio_open(&t, 16, 4, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 5);
    uint64_t leader = trio_leader(&t, group, 10 * SECOND_US), deaf = leader % 3 + 1, other = 6 - leader - deaf;
    uint64_t removed = kit_replica_at(other, group)->replica;
    sim_registry_deafen(t.registry, deaf, true);
    kit_move(group, other, 4);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    world_enter(&t.world);
    enum err error = partition_transfer(kit_replica_at(leader, group), kit_replica_at(deaf, group)->replica);
    world_leave(&t.world);
    assert_int_equal(error, OK);
    trio_run(&t, 5 * SECOND_US);
    assert_int_equal(trio_leader(&t, group, 0), deaf);
    assert_false(roster_is_in_force(&kit_replica_at(deaf, group)->roster, removed));
    assert_true(kit_is_as_wished(&group));
}

/* A joint configuration whose new half does not answer would stop the group. */
static void nobody_goes_while_who_stays_is_silent(void **state)
{
    trio_open(&t, 17, 3, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 5);
    uint64_t leader = trio_leader(&t, group, 10 * SECOND_US), silent = leader % 3 + 1, other = 6 - leader - silent;
    trio_crash(&t, silent, false);
    trio_run(&t, 3 * SECOND_US);
    kit_move(group, other, 0);
    trio_run(&t, 3 * SECOND_US);
    kit_produce(group, 10);
    trio_start(&t, silent);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* --- replicas that missed what became of the group --- */

/* Topic `u` on brokers 1 to 3, the last of which is cut off from the beginning. Returns it; the others are the leader
 * and the third. */
static uint64_t with_one_cut_off(uint64_t seed, uint64_t *ret_group, uint64_t *ret_leader, uint64_t *ret_third)
{
    trio_open(&t, seed, 5, 1);
    kit_isolate(3, true);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 10);
    *ret_group = group;
    *ret_leader = trio_leader(&t, group, 10 * SECOND_US);
    *ret_third = 3 - *ret_leader;
    return 3;
}

/* a: who is removed still answers. The core does not mind, and he goes when he knows. */
static void who_is_removed_goes_by_its_own_log(void **state)
{
    uint64_t group, leader, third;
    uint64_t away = with_one_cut_off(21, &group, &leader, &third);
    kit_move(group, third, 4);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    assert_null(kit_replica_at(third, group));
    kit_join(away);
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* b: cut off, and removed meanwhile. It asks for votes when it is back, disturbs nobody, and is told. */
static void who_was_removed_while_away_is_told(void **state)
{
    uint64_t group, leader, third;
    uint64_t away = with_one_cut_off(22, &group, &leader, &third);
    sim_registry_deafen(t.registry, away, true); /* nor does the registry reach it */
    kit_move(group, away, 4);
    trio_run(&t, 10 * SECOND_US);
    leader = trio_leader(&t, group, 10 * SECOND_US);
    uint64_t term = term_at(leader, group), refused = counter_of_refused(leader);
    kit_join(away);
    kit_produce(group, 20);
    trio_run(&t, 20 * SECOND_US);
    assert_true(counter_of_refused(leader) > refused); /* it did ask */
    assert_non_null(kit_replica_at(away, group));      /* and lives, since the registry wishes it as far as it knows */
    assert_int_equal(term_at(leader, group), term);    /* nobody minded */
    assert_int_equal(trio_leader(&t, group, 0), leader);
    sim_registry_deafen(t.registry, away, false);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 10 * SECOND_US));
    trio_check(&t, group);
}

/* c: cut off with one that was removed: they do not make a group of their own, and who is gone stays gone. */
static void who_is_gone_gives_no_votes(void **state)
{
    uint64_t group, leader, third;
    uint64_t away = with_one_cut_off(23, &group, &leader, &third);
    kit_move(group, third, 4);
    trio_run(&t, 10 * SECOND_US);
    assert_null(kit_replica_at(third, group));
    kit_cut(away, third, false);
    uint64_t refused = counter_of_refused(third);
    trio_run(&t, 10 * SECOND_US);
    assert_true(counter_of_refused(third) > refused);
    assert_null(kit_replica_at(third, group));
    assert_true(raft_role(kit_replica_at(away, group)->raft) != RAFT_LEADER);
    kit_join(away);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* d: cut off with one that was removed, and removed itself: who is gone knows nothing, the members tell it later. */
static void who_is_gone_tells_nothing(void **state)
{
    uint64_t group, leader, third;
    uint64_t away = with_one_cut_off(24, &group, &leader, &third);
    kit_move(group, third, 4);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US) || kit_replica_at(third, group) == NULL);
    kit_move(group, away, 5);
    trio_run(&t, 10 * SECOND_US);
    kit_cut(away, third, false);
    trio_run(&t, 10 * SECOND_US);
    assert_non_null(kit_replica_at(away, group));
    assert_null(kit_replica_at(third, group));
    kit_join(away);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 10 * SECOND_US));
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* e: cut off while everybody else was replaced. Those it asks are gone; the new leader finds it. */
static void strangers_take_back_who_was_away(void **state)
{
    uint64_t group, leader, third;
    uint64_t away = with_one_cut_off(25, &group, &leader, &third);
    uint64_t replica = kit_replica_at(away, group)->replica;
    kit_move(group, third, 4);
    trio_run(&t, 10 * SECOND_US);
    kit_move(group, leader, 5);
    trio_run(&t, 20 * SECOND_US);
    assert_null(kit_replica_at(leader, group));
    assert_null(kit_replica_at(third, group));
    kit_join(away);
    kit_produce(group, 10);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    assert_int_equal(kit_replica_at(away, group)->replica, replica);
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* f: the same, and removed as well: nobody that it knows is left. */
static void who_knows_nobody_any_more_asks_everybody(void **state)
{
    uint64_t group, leader, third;
    uint64_t away = with_one_cut_off(26, &group, &leader, &third);
    kit_move(group, third, 4);
    trio_run(&t, 10 * SECOND_US);
    kit_move(group, leader, 5);
    trio_run(&t, 20 * SECOND_US);
    kit_move(group, away, 0);
    trio_run(&t, 10 * SECOND_US);
    assert_null(kit_replica_at(leader, group));
    assert_null(kit_replica_at(third, group));
    assert_non_null(kit_replica_at(away, group));
    kit_join(away);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 10 * SECOND_US));
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* It was down while it was removed, and starts with a log that says that it is a member. */
static void who_was_removed_while_down_goes(void **state)
{
    uint64_t group, leader, third;
    uint64_t away = with_one_cut_off(27, &group, &leader, &third);
    trio_crash(&t, away, true);
    kit_isolate(away, false);
    kit_move(group, away, 4);
    trio_run(&t, 10 * SECOND_US);
    trio_start(&t, away);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 10 * SECOND_US));
    trio_crash(&t, away, true); /* and does not come back */
    trio_start(&t, away);
    trio_run(&t, 5 * SECOND_US);
    assert_null(kit_replica_at(away, group));
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* A learner that the leader never took in is wished no more: it was in no configuration, and goes all the same. */
static void a_learner_that_nobody_took_in_goes(void **state)
{
    trio_open(&t, 28, 4, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_isolate(4, true);
    kit_move(group, 0, 4);
    trio_run(&t, 2 * SECOND_US);
    assert_non_null(kit_replica_at(4, group));
    kit_move(group, 4, 0);
    trio_run(&t, 5 * SECOND_US);
    assert_non_null(kit_replica_at(4, group)); /* nobody has said that it is no member */
    kit_join(4);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 20 * SECOND_US));
    assert_null(kit_replica_at(4, group));
}

/* --- where there is no room --- */

static const struct kv_ops *roomy_ops;

static enum err begin_without_room(struct kv *kv, bool write, struct kv_txn **ret_txn)
{
    return write ? ERR_STORAGE_FULL : roomy_ops->begin(kv, write, ret_txn);
}

/* The rows of a dead replica that cannot be deleted are deleted later, in the same life, and another may come. */
static void who_was_removed_goes_when_there_is_room(void **state)
{
    trio_open(&t, 30, 3, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 300); /* a checkpoint was taken */
    uint64_t follower = trio_leader(&t, group, 0) % 3 + 1;
    struct kv *kv = t.broker[follower].kv;
    struct kv_ops cramped_ops = *kv->ops;
    roomy_ops = kv->ops;
    cramped_ops.begin = begin_without_room;
    kv->ops = &cramped_ops;
    kit_move(group, follower, 0);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    trio_run(&t, 3 * SECOND_US);
    assert_null(kit_replica_at(follower, group));
    assert_true(groups_is_dying(t.broker[follower].broker, group));
    kv->ops = roomy_ops;
    trio_run(&t, 2 * SECOND_US);
    assert_false(groups_is_dying(t.broker[follower].broker, group));
    kit_move(group, 0, follower);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    assert_non_null(kit_replica_at(follower, group));
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* --- what is left of the dead --- */

static bool is_removing;

static void on_point(void *context, unsigned which)
{
    (void)context;
    is_removing = is_removing || which == POINT_GROUP_REMOVE;
}

static enum err begin_without_removals(struct kv *kv, bool write, struct kv_txn **ret_txn)
{
    bool is_refused = write && is_removing;
    is_removing = is_removing && !write;
    return is_refused ? ERR_STORAGE_FULL : roomy_ops->begin(kv, write, ret_txn);
}

/* A follower of topic `u` was removed, and its rows do not go, though all else finds room. Returns its broker. */
static uint64_t with_rows_that_stay(uint64_t seed, uint64_t *ret_group)
{
    static struct kv_ops ops;
    trio_open(&t, seed, 3, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 300); /* a checkpoint was taken */
    uint64_t id = trio_leader(&t, group, 0) % 3 + 1;
    struct kv *kv = t.broker[id].kv;
    is_removing = false;
    roomy_ops = kv->ops;
    ops = *kv->ops;
    ops.begin = begin_without_removals;
    kv->ops = &ops;
    t.trace.point = on_point;
    kit_move(group, id, 0);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    trio_run(&t, 3 * SECOND_US);
    assert_null(kit_replica_at(id, group));
    assert_true(groups_is_dying(t.broker[id].broker, group));
    *ret_group = group;
    return id;
}

/* What removes the rows of the one before would remove those of the next. */
static void another_one_waits_until_the_rows_are_gone(void **state)
{
    uint64_t group, id = with_rows_that_stay(31, &group);
    kit_move(group, 0, id);
    trio_run(&t, 5 * SECOND_US);
    assert_null(kit_replica_at(id, group));
    t.broker[id].kv->ops = roomy_ops;
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    kit_produce(group, 10);
    trio_crash(&t, id, true);
    trio_start(&t, id);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 30 * SECOND_US));
    trio_check(&t, group);
}

/* The file of the log that says that it is dead goes before its rows do: it does not come back as it was long ago. */
static void who_is_dead_stays_dead_while_rows_are_left(void **state)
{
    uint64_t group, id = with_rows_that_stay(32, &group);
    uint64_t dead_lsn = wal_durable_lsn(t.broker[id].broker->wal); /* or below */
    for (int i = 0; i < 12 && wal_forgotten_lsn(t.broker[id].broker->wal) < dead_lsn; i++) {
        kit_produce(trio_group(0), 200);
    }
    assert_true(wal_forgotten_lsn(t.broker[id].broker->wal) >= dead_lsn); /* nor does it hold the log up */
    kit_isolate(id, true);                                                /* and nobody tells it */
    for (int life = 0; life < 2; life++) {
        trio_crash(&t, id, true);
        trio_start(&t, id);
        for (int i = 0; i < 100; i++) {
            trio_run(&t, 50000);
            assert_null(kit_replica_at(id, group));
        }
        assert_true(groups_is_dying(t.broker[id].broker, group));
    }
    t.broker[id].kv->ops = roomy_ops;
    trio_run(&t, 2 * SECOND_US);
    assert_false(groups_is_dying(t.broker[id].broker, group));
    kit_produce(group, 10);
}

/* --- what is lost, and comes back as a snapshot --- */

static void rot_group_row(uint64_t id, uint64_t group)
{
    struct kv *kv = t.broker[id].kv;
    struct layout_key key;
    struct kv_txn *txn;
    layout_group_key(&key, LAYOUT_GROUP, group);
    enum err error = kv->ops->begin(kv, true, &txn);
    error = error == OK ? kv->ops->put(kv, txn, layout_bytes(&key), (struct kv_bytes){"rot", 3}) : error;
    error = error == OK ? kv->ops->commit(kv, txn) : error;
    assert_int_equal(error, OK);
    judge_doubts(t.judge, id);
}

/* Not even its id can be read any more: another one takes its place when a member has said that it is none. The log
 * still has the birth of the one that was there, and that is not to be the next start's. */
static void a_replica_of_which_nothing_is_known_is_replaced(void **state)
{
    trio_open(&t, 15, 3, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 300); /* a checkpoint was taken */
    uint64_t before = kit_replica_at(2, group)->replica;
    trio_crash(&t, 2, false);
    rot_group_row(2, group);
    kit_isolate(2, true); /* nobody tells it for a while that it is none */
    trio_start(&t, 2);
    trio_run(&t, SECOND_US);
    assert_int_equal(kit_replica_at(2, group)->replica, 0);
    kit_isolate(2, false);
    for (int i = 0; kit_replica_at(2, group) != NULL && kit_replica_at(2, group)->replica == 0; i++) {
        assert_true(i < 100000);
        trio_run(&t, 100);
    }
    /* The first one that was to take its place waited until the place was free. */
    assert_int_equal(t.broker[2].broker->counters.replicas_lost_total, 1);
    kit_isolate(2, true);
    trio_run(&t, SECOND_US); /* rows and files go */
    trio_crash(&t, 2, false);
    trio_start(&t, 2);
    trio_run(&t, SECOND_US);
    assert_true(kit_replica_at(2, group) == NULL || kit_replica_at(2, group)->replica != before);
    kit_join(2);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 60 * SECOND_US));
    assert_int_equal(t.broker[2].broker->counters.replicas_lost_total, 0);
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* The log still has what the lost one wrote, from its birth on, and the others still count it as a voter. */
static void who_has_lost_its_name_does_not_come_back_by_its_log(void **state)
{
    trio_open(&t, 19, 3, 1);
    uint64_t group = kit_make_topic(1, 3);
    kit_produce(group, 300); /* a checkpoint was taken */
    uint64_t before = kit_replica_at(2, group)->replica;
    trio_crash(&t, 2, false);
    rot_group_row(2, group);
    trio_start(&t, 2);
    const struct partition *p = NULL; /* the one that follows it, which has no picture yet */
    for (int i = 0; i < 100000 && (p == NULL || p->replica == 0 || p->is_unborn); i++) {
        trio_run(&t, 100);
        p = kit_replica_at(2, group);
    }
    assert_true(p != NULL && p->replica > before && !p->has_picture);
    uint64_t next = p->replica;
    trio_crash(&t, 2, true);
    trio_start(&t, 2);
    trio_run(&t, 1000);
    assert_int_equal(kit_replica_at(2, group)->replica, next);
    assert_true(kit_wait_for(kit_is_as_wished, &group, 60 * SECOND_US));
    kit_produce(group, 10);
    trio_check(&t, group);
}

/* --- any moves in any trouble --- */

struct trouble {
    struct rng rng;
    uint64_t group;
    bool down[TRIO_BROKERS_MAX + 1];
    bool has_wiped; /* and the group is not whole again */
    uint64_t wiped;
    uint32_t moves, wipes, topics;
};

static void stir_topics(struct trouble *trouble)
{
    struct registry_topic wish = *sim_registry_topic(t.registry, "t");
    snprintf(wish.name, sizeof wish.name, "v");
    wish.config.replicas = (uint32_t)rng_between(&trouble->rng, 1, 3);
    if (!sim_registry_delete_topic(t.registry, "v")) {
        trouble->topics += sim_registry_create_topic(t.registry, &wish) != 0;
    }
}

static void stir_wish(struct trouble *trouble)
{
    bool has_moved = false;
    for (int tries = 0; tries < 10 && !has_moved; tries++) {
        uint64_t from = rng_below(&trouble->rng, t.brokers + 1), to = rng_below(&trouble->rng, t.brokers + 1);
        /* Fewer than three, be it for a while, and a disk that is lost: that may be all. */
        bool is_safe = !trouble->has_wiped || (to != 0 && kit_replica_at(to, trouble->group) == NULL);
        has_moved = from != to && is_safe && sim_registry_move(t.registry, trouble->group, from, to);
    }
    trouble->moves += has_moved;
}

/* One of three at most, and nothing else may be missing: what it alone held of a majority is gone then. */
static void stir_disk(struct trouble *trouble, uint64_t id)
{
    if (trouble->has_wiped && !trouble->down[trouble->wiped] && kit_is_as_wished(&trouble->group)) {
        trouble->has_wiped = false;
    }
    if (trouble->down[id] && !trouble->has_wiped && kit_is_as_wished(&trouble->group) && t.worn < TRIO_WIPES_MAX &&
        sim_registry_partition(t.registry, trouble->group)->replicas_count >= 3) {
        trio_wipe(&t, id, rng_below(&trouble->rng, 2) == 0);
        trouble->has_wiped = true;
        trouble->wiped = id;
        trouble->wipes++;
    }
}

static void stir(struct trouble *trouble)
{
    struct rng *rng = &trouble->rng;
    uint64_t id = rng_between(rng, 1, t.brokers), other = rng_between(rng, 1, t.brokers);
    switch (rng_below(rng, 12)) {
    case 0:
    case 1:
        if (!trouble->down[id]) {
            trio_crash(&t, id, rng_below(rng, 2) == 0);
            trouble->down[id] = true;
        }
        stir_disk(trouble, id);
        break;
    case 2:
    case 3:
    case 4:
        if (trouble->down[id]) {
            trio_start(&t, id);
            trouble->down[id] = false;
        }
        break;
    case 5:
        sim_cables_cut(t.cables, id, other, id != other);
        break;
    case 6:
        kit_isolate(id, false);
        break;
    case 7:
        sim_registry_hold(t.registry, rng_below(rng, 3) == 0);
        break;
    case 8:
        sim_registry_deafen(t.registry, id, rng_below(rng, 2) == 0);
        break;
    case 9:
        stir_topics(trouble);
        break;
    default:
        stir_wish(trouble);
        break;
    }
}

static void moves_in_trouble(uint64_t seed, struct trouble *trouble)
{
    *trouble = (struct trouble){.has_wiped = false};
    rng_seed(&trouble->rng, seed);
    trio_open(&t, seed, (uint32_t)rng_between(&trouble->rng, 3, 5), 1);
    trouble->group = kit_make_topic(1, 3);
    sim_registry_delay(t.registry, seed, 100, rng_between(&trouble->rng, 100, 2 * SECOND_US));
    sim_registry_lose(t.registry, rng_below(&trouble->rng, 2) * 0.5);
    for (int i = 0; i < 60; i++) {
        stir(trouble);
        trio_run(&t, rng_between(&trouble->rng, 1, rng_below(&trouble->rng, 3) == 0 ? 5 * SECOND_US : 100000));
        for (uint64_t n = rng_below(&trouble->rng, 4); n > 0; n--) {
            trio_produce(&t, trouble->group, rng_between(&trouble->rng, 1, 500000));
        }
    }
    sim_registry_hold(t.registry, false);
    sim_registry_lose(t.registry, 0);
    for (uint64_t id = 1; id <= t.brokers; id++) {
        kit_isolate(id, false);
        if (trouble->down[id]) {
            trio_start(&t, id);
        }
        sim_registry_deafen(t.registry, id, false);
    }
    trio_run(&t, 10 * SECOND_US);
    if (!kit_wait_for(kit_is_as_wished, &trouble->group, 60 * SECOND_US)) {
        kit_describe(trouble->group);
        fail();
    }
    kit_produce(trouble->group, 3);
    trio_run(&t, 10 * SECOND_US);
    trio_check(&t, trouble->group);
    assert_true(sim_registry_is_settled(t.registry));
}

static void moves_survive_any_trouble(void **state)
{
    uint64_t from, count;
    kit_seeds(30, &from, &count);
    struct trouble sum = {.moves = 0}, trouble;
    for (uint64_t seed = from; seed < from + count; seed++) {
        kit_next_seed(seed, from);
        moves_in_trouble(seed, &trouble);
        sum.moves += trouble.moves;
        sum.wipes += trouble.wipes;
        sum.topics += trouble.topics;
    }
    print_message("%u moves, %u disks wiped, %u other topics\n", sum.moves, sum.wipes, sum.topics);
    assert_true(count < 20 || (sum.moves > count && sum.wipes > 0 && sum.topics > count));
}

int main(void)
{
    if (getenv("ASSIGN_TEST") != NULL) { /* for people who look at one test */
        cmocka_set_test_filter(getenv("ASSIGN_TEST"));
    }
#define TEST(name) cmocka_unit_test_teardown(name, kit_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_replica_moves),
        TEST(one_replica_becomes_three_and_moves_home_again),
        TEST(what_stood_in_the_log_of_who_has_ended_is_not_judged),
        TEST(a_new_leader_reads_the_wish_anew),
        TEST(nobody_goes_while_who_stays_is_silent),
        TEST(who_is_removed_goes_by_its_own_log),
        TEST(who_was_removed_while_away_is_told),
        TEST(who_is_gone_gives_no_votes),
        TEST(who_is_gone_tells_nothing),
        TEST(strangers_take_back_who_was_away),
        TEST(who_knows_nobody_any_more_asks_everybody),
        TEST(who_was_removed_while_down_goes),
        TEST(a_learner_that_nobody_took_in_goes),
        TEST(who_was_removed_goes_when_there_is_room),
        TEST(another_one_waits_until_the_rows_are_gone),
        TEST(who_is_dead_stays_dead_while_rows_are_left),
        TEST(a_replica_of_which_nothing_is_known_is_replaced),
        TEST(who_has_lost_its_name_does_not_come_back_by_its_log),
        TEST(moves_survive_any_trouble),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
