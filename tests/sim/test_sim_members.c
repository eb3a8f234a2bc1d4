/* Groups whose members change while brokers die: who is wished for becomes a member by the steps that a leader takes,
 * who is not goes, and what was acknowledged stays, whoever holds it by then.
 *
 * The group belongs to no topic, so that nobody but this test says who should be in it: births, wishes, and the end of
 * replicas that were removed are made by hand here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim_trio.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/rng.h"
#include "broker/impl.h"
#include "broker/router.h"

#define GROUP         900u
#define STEP_US       20000u
#define REPLICA_FIRST 1001u

static struct trio t;
static struct members wish;
static uint64_t next_replica;

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

static struct broker *broker_at(uint64_t id)
{
    return t.broker[id].broker != NULL && t.broker[id].ready ? t.broker[id].broker : NULL;
}

static struct partition *replica_at(uint64_t id)
{
    struct broker *b = broker_at(id);
    return b != NULL ? groups_find(b, GROUP) : NULL;
}

/* --- births and ends --- */

/* The group is born here, empty; `founders` are its voters as far as this replica will know. */
static void birth(uint64_t id, uint64_t replica, const struct members *founders)
{
    struct broker *b = broker_at(id);
    struct entry_birth row = {.kind = TOPIC_DATA,
                              .config = {.segment_bytes = SEGMENT_BYTES_MIN,
                                         .segment_ms = -1,
                                         .retention_bytes = -1,
                                         .retention_ms = -1,
                                         .max_batch_bytes = SEGMENT_BYTES_MIN}};
    for (uint32_t i = 0; i < founders->count; i++) {
        row.voters[row.voters_count] = founders->member[i].replica;
        row.voter_brokers[row.voters_count++] = founders->member[i].broker;
    }
    world_enter(&t.world);
    struct partition *p = partition_new(b, GROUP, replica, &row);
    struct wal_record record = {
        .type = WAL_GROUP_NEW, .group = GROUP, .replica = replica, .payload = entry_encode_birth(&row)};
    uint64_t lsn = partition__log(p, &record);
    slice_unref(&record.payload);
    world_leave(&t.world);
    while (wal_durable_lsn(b->wal) <= lsn) {
        trio_run(&t, 1000);
    }
    world_enter(&t.world);
    enum err error = partition_open_log(p, NULL, 0, 0, 0);
    ASSERT(error == OK);
    partition_start(p);
    world_leave(&t.world);
}

/* What the catalog does for groups that it knows: those found at a start begin to work. */
static void tend(void)
{
    for (uint64_t id = 1; id <= t.brokers; id++) {
        struct partition *p = replica_at(id);
        if (p != NULL && p->raft == NULL && p->state == PARTITION_BIRTH) {
            world_enter(&t.world);
            partition_start(p);
            world_leave(&t.world);
        }
    }
}

static void run(uint64_t for_us)
{
    for (uint64_t end_us = t.world.now_us + for_us; t.world.now_us < end_us;) {
        tend();
        trio_run(&t, end_us - t.world.now_us < STEP_US ? end_us - t.world.now_us : STEP_US);
    }
    tend();
}

static uint64_t leader_within(uint64_t limit_us)
{
    for (uint64_t end_us = t.world.now_us + limit_us;; run(STEP_US)) {
        uint64_t id = trio_leader(&t, GROUP, 0);
        if (id != 0 || t.world.now_us >= end_us) {
            return id;
        }
    }
}

/* --- the group --- */

static void found(uint64_t seed, uint32_t brokers, uint32_t replicas)
{
    trio_open(&t, seed, brokers, 1);
    next_replica = REPLICA_FIRST;
    wish = (struct members){0};
    for (uint64_t id = 1; id <= replicas; id++) {
        members_set(&wish, next_replica++, id, RAFT_VOTER);
    }
    for (uint32_t i = 0; i < replicas; i++) {
        birth(wish.member[i].broker, wish.member[i].replica, &wish);
    }
    assert_true(leader_within(20000000) != 0);
}

/* --- the walk to what is wished --- */

static const struct member *wished_at(uint64_t id)
{
    for (uint32_t i = 0; i < wish.count; i++) {
        if (wish.member[i].broker == id) {
            return &wish.member[i];
        }
    }
    return NULL;
}

/* True: this leader's configuration in force is plain, committed, and holds nobody of that replica id. */
static bool says_removed(struct partition *leader, uint64_t replica)
{
    struct members now;
    uint64_t index = roster_newest(&leader->roster, &now);
    return index > 0 && index <= leader->applied_index && !members_are_joint(&now) &&
           members_find(&now, replica) == NULL;
}

/* Replicas that were removed end, and new ones are born where they are wished for. */
static void births_and_ends(struct partition *leader)
{
    for (uint64_t id = 1; id <= t.brokers; id++) {
        struct broker *b = broker_at(id);
        struct partition *p = replica_at(id);
        const struct member *wished = wished_at(id);
        if (b == NULL) {
            continue;
        }
        bool is_wished = p != NULL && wished != NULL && wished->replica == p->replica;
        if (p != NULL && !is_wished && (p->is_removed || says_removed(leader, p->replica))) {
            world_enter(&t.world);
            partition_kill(p, ERR_UNKNOWN_PARTITION);
            world_leave(&t.world);
        } else if (p == NULL && wished != NULL && b->dead_count == 0) {
            struct members now;
            struct members founders = {0};
            roster_newest(&leader->roster, &now);
            for (uint32_t i = 0; i < now.count; i++) {
                if (now.member[i].now == RAFT_VOTER && now.member[i].replica != wished->replica) {
                    members_set(&founders, now.member[i].replica, now.member[i].broker, RAFT_VOTER);
                }
            }
            birth(id, wished->replica, &founders);
            return; /* time went on: the leader may be another */
        }
    }
}

/* A broker has one replica of a group at a time: where one that votes still lives, no other one can be born. So it is
 * that one who is wished for. */
static void wish_for_who_is_there(const struct members *now)
{
    for (uint32_t i = 0; i < now->count; i++) {
        const struct member *m = &now->member[i], *wished = wished_at(m->broker);
        if (m->now == RAFT_VOTER && m->next == RAFT_VOTER && wished != NULL && wished->replica != m->replica) {
            members_set(&wish, wished->replica, 0, RAFT_ABSENT);
            members_set(&wish, m->replica, m->broker, RAFT_VOTER);
        }
    }
}

/* One step of the leader; true: everything is as wished. */
static bool walk(void)
{
    struct members now, next;
    uint64_t id = trio_leader(&t, GROUP, 0);
    struct partition *p = id != 0 ? replica_at(id) : NULL;
    if (p == NULL) {
        return false;
    }
    uint64_t index = roster_newest(&p->roster, &now);
    if (members_are_joint(&now)) {
        return false;
    }
    wish_for_who_is_there(&now);
    next = now;
    for (uint32_t i = 0; i < now.count; i++) { /* who only learns, and is wished no more, makes room */
        if (now.member[i].now == RAFT_LEARNER && members_find(&wish, now.member[i].replica) == NULL) {
            members_set(&next, now.member[i].replica, 0, RAFT_ABSENT);
        }
    }
    for (uint32_t i = 0; i < wish.count; i++) {
        if (members_find(&now, wish.member[i].replica) == NULL) {
            bool fits = members_set(&next, wish.member[i].replica, wish.member[i].broker, RAFT_LEARNER);
            ASSERT(fits);
        }
    }
    world_enter(&t.world);
    enum err error = partition_change(p, members_equal(&now, &next) ? &wish : &next);
    world_leave(&t.world);
    ASSERT(error == OK || error == ERR_BUSY || error == ERR_AGAIN || error == ERR_NOT_READY || error == ERR_NOT_LEADER);
    bool is_done = members_equal(&now, &wish) && index <= p->applied_index;
    births_and_ends(p);
    return is_done;
}

static bool walk_for(uint64_t limit_us)
{
    for (uint64_t end_us = t.world.now_us + limit_us; t.world.now_us < end_us; run(100000)) {
        if (walk()) {
            return true;
        }
    }
    return false;
}

/* Exactly these brokers, by a bit each: who is in stays, others come under a new replica id. */
static void wish_for(uint32_t brokers)
{
    struct members next = {0};
    for (uint64_t id = 1; id <= t.brokers; id++) {
        if ((brokers >> id & 1) != 0) {
            const struct member *known = wished_at(id);
            members_set(&next, known != NULL ? known->replica : next_replica++, id, RAFT_VOTER);
        }
    }
    wish = next;
}

/* --- the client: within the leader's process --- */

struct promise {
    struct waiter waiter; /* first */
    uint32_t number;
};

static void on_complete(struct waiter *waiter, const struct outcome *outcome)
{
    struct promise *promise = (struct promise *)waiter;
    if (outcome->error == OK) {
        t.offsets[promise->number] = outcome->offset;
        t.acknowledged++;
    }
    free(promise);
}

/* Proposes a record, once; what becomes of it shows later. False: there is no leader. */
static bool produce(void)
{
    uint8_t batch[512];
    uint64_t id = trio_leader(&t, GROUP, 0);
    struct partition *p = id != 0 ? replica_at(id) : NULL;
    if (p == NULL || !raft_accepts(p->raft)) {
        return false;
    }
    uint32_t number = t.sent++;
    ASSERT(number < TRIO_VALUES_MAX);
    t.offsets[number] = -1;
    uint32_t size = trio_batch(batch, sizeof batch, number);
    struct promise *promise = mem_zeroed(1, sizeof *promise);
    promise->waiter.complete = on_complete;
    promise->number = number;
    world_enter(&t.world);
    partition_propose(p, ENTRY_DATA, entry_encode_bytes(batch, size), &promise->waiter);
    world_leave(&t.world);
    return true;
}

/* Records until one of them is acknowledged. */
static bool produce_within(uint64_t limit_us)
{
    uint32_t before = t.acknowledged;
    for (uint64_t end_us = t.world.now_us + limit_us; t.world.now_us < end_us;) {
        bool asked = produce();
        run(asked ? 200000 : STEP_US);
        if (t.acknowledged > before) {
            return true;
        }
    }
    return false;
}

static void check(void)
{
    assert_true(leader_within(30000000) != 0);
    run(10000000); /* who voted all along may still need a snapshot */
    trio_check(&t, GROUP);
}

/* --- by hand --- */

static void a_replica_moves_to_another_broker(void **state)
{
    struct members now;
    found(1, 4, 3);
    for (int i = 0; i < 20; i++) {
        assert_true(produce_within(5000000));
    }
    wish_for(1u << 2 | 1u << 3 | 1u << 4);
    assert_true(walk_for(20000000));
    for (int i = 0; i < 20; i++) {
        assert_true(produce_within(5000000));
    }
    run(5000000);
    (void)walk();
    assert_null(replica_at(1)); /* it was told so, and ended */
    (void)roster_newest(&replica_at(4)->roster, &now);
    assert_true(members_equal(&now, &wish));
    check();
}

static void the_group_outlives_everybody_who_founded_it(void **state)
{
    found(2, 5, 3);
    for (uint32_t brokers = 1u << 1 | 1u << 2 | 1u << 3, i = 0; i < 10; i++) {
        brokers = brokers << 1;
        brokers = (brokers & 1u << 6) != 0 ? (brokers & ~(1u << 6)) | 1u << 1 : brokers;
        assert_true(produce_within(10000000));
        wish_for(brokers);
        assert_true(walk_for(30000000));
        assert_true(produce_within(10000000));
    }
    check();
}

static void one_becomes_three_and_three_become_one(void **state)
{
    found(3, 3, 1);
    assert_true(produce_within(5000000));
    run(20000000); /* alone it was never told the time */
    wish_for(1u << 1 | 1u << 2 | 1u << 3);
    assert_true(walk_for(20000000));
    assert_true(produce_within(5000000));
    trio_crash(&t, 1, true);
    assert_true(produce_within(20000000));
    trio_start(&t, 1);
    wish_for(1u << 3);
    assert_true(walk_for(30000000));
    assert_true(produce_within(10000000));
    trio_crash(&t, 1, false);
    trio_crash(&t, 2, false);
    assert_true(produce_within(10000000));
    check();
}

/* It slept through a change of all other members: whom it hears from now it has never heard of. */
static void who_was_away_follows_strangers(void **state)
{
    found(4, 5, 3);
    assert_true(produce_within(5000000));
    trio_crash(&t, 3, false);
    wish_for(1u << 3 | 1u << 4 | 1u << 5);
    assert_true(walk_for(30000000));
    assert_true(produce_within(10000000));
    trio_crash(&t, 1, false);
    trio_crash(&t, 2, false);
    uint64_t leader = leader_within(10000000);
    assert_true(leader > 3);
    trio_crash(&t, leader, false); /* the other one needs the vote of one that knows neither */
    trio_start(&t, 3);
    assert_true(produce_within(30000000));
    trio_start(&t, leader);
    run(5000000);
    check();
}

/* A start finds the configuration that was in force, and the joint one is ended by whoever leads then. */
static void power_fails_in_the_middle_of_a_change(void **state)
{
    found(5, 4, 3);
    for (int round = 0; round < 40; round++) {
        assert_true(produce_within(20000000));
        wish_for(round % 2 == 0 ? 1u << 2 | 1u << 3 | 1u << 4 : 1u << 1 | 1u << 2 | 1u << 3);
        for (uint64_t end_us = t.world.now_us + (uint64_t)round * 15000; t.world.now_us < end_us; run(5000)) {
            (void)walk();
        }
        for (uint64_t id = 1; id <= 4; id++) {
            trio_crash(&t, id, true);
        }
        for (uint64_t id = 1; id <= 4; id++) {
            trio_start(&t, id);
        }
        assert_true(walk_for(60000000));
    }
    check();
}

static void leadership_is_given_to_whom_one_likes(void **state)
{
    found(6, 3, 3);
    for (uint32_t i = 0; i < 6; i++) {
        const struct member *to = &wish.member[i % 3];
        uint64_t id = leader_within(10000000);
        assert_true(produce_within(5000000));
        world_enter(&t.world);
        enum err error = partition_transfer(replica_at(id), to->replica);
        world_leave(&t.world);
        assert_int_equal(error, id == to->broker ? ERR_BUSY : OK);
        run(1000000);
        assert_int_equal(leader_within(0), to->broker);
    }
    check();
}

static void what_makes_no_sense_is_refused(void **state)
{
    found(7, 4, 3);
    assert_true(produce_within(5000000));
    uint64_t id = leader_within(0);
    struct partition *p = replica_at(id), *follower = replica_at(id % 3 + 1);
    struct members next = {0};
    assert_int_equal(partition_change(p, &next), ERR_INVALID);
    next = wish;
    next.member[0].next = RAFT_LEARNER;
    assert_int_equal(partition_change(p, &next), ERR_INVALID);
    assert_int_equal(partition_change(p, &wish), OK); /* it is that already */
    next = wish;
    members_set(&next, 5000, 4, RAFT_VOTER); /* a voter that was no learner, and has nothing */
    assert_int_equal(partition_change(p, &next), ERR_AGAIN);
    members_set(&next, 5000, 4, RAFT_LEARNER);
    assert_int_equal(partition_change(follower, &next), ERR_NOT_LEADER);
    assert_int_equal(partition_transfer(follower, wish.member[0].replica), ERR_NOT_LEADER);
    assert_int_equal(partition_transfer(p, 5000), ERR_BUSY);
    world_enter(&t.world);
    assert_int_equal(partition_change(p, &next), OK);
    assert_int_equal(partition_change(p, &wish), ERR_BUSY); /* not committed yet */
    world_leave(&t.world);
    assert_true(produce_within(5000000)); /* that learner is nowhere, which troubles nobody */
    check();
}

/* The replica learns by this one's wish and is nowhere: what matters is the entry. */
static enum err change_by(struct partition *p, uint64_t replica, enum raft_membership membership)
{
    struct members next;
    (void)roster_newest(&p->roster, &next);
    members_set(&next, replica, 4, membership);
    world_enter(&t.world);
    enum err error = partition_change(p, &next);
    world_leave(&t.world);
    return error;
}

static void a_change_that_nobody_heard_of_is_undone(void **state)
{
    found(8, 4, 3);
    assert_true(produce_within(5000000));
    uint64_t old = leader_within(0);
    struct partition *p = replica_at(old);
    for (uint64_t id = 1; id <= 4; id++) {
        sim_cables_cut(t.cables, old, id, old != id);
        sim_cables_cut(t.cables, id, old, old != id);
    }
    assert_int_equal(change_by(p, 5000, RAFT_LEARNER), OK);
    run(5000000);
    assert_true(roster_is_in_force(&p->roster, 5000)); /* nobody told it anything yet */
    assert_true(produce_within(10000000));
    for (uint64_t id = 1; id <= 4; id++) {
        sim_cables_cut(t.cables, old, id, false);
        sim_cables_cut(t.cables, id, old, false);
    }
    run(5000000);
    assert_false(roster_is_member(&p->roster, 5000));
    assert_int_equal(p->roster.newest->index, 0);
    check();
}

/* No checkpoint can be taken: the log takes so many configurations, and everything else. */
static void there_are_never_more_configurations_than_a_start_can_bear(void **state)
{
    uint32_t changes = 0;
    found(9, 3, 3);
    assert_true(produce_within(5000000));
    for (uint64_t id = 1; id <= 3; id++) {
        sim_kv_set_full(t.broker[id].kv, true);
    }
    for (int i = 0; i < 100; i++) {
        uint64_t id = leader_within(10000000);
        changes += change_by(replica_at(id), 5000, changes % 2 == 0 ? RAFT_LEARNER : RAFT_ABSENT) == OK;
        run(100000);
    }
    assert_int_equal(changes, RAFT_CONFIGS_MAX - 1);
    assert_true(produce_within(5000000));
    for (uint64_t id = 1; id <= 3; id++) { /* a start finds them all */
        trio_crash(&t, id, true);
        sim_kv_set_full(t.broker[id].kv, false);
        trio_start(&t, id);
    }
    assert_true(leader_within(20000000) != 0);
    assert_true(produce_within(5000000));
    run(5000000);
    assert_int_equal(change_by(replica_at(leader_within(5000000)), 5000, RAFT_ABSENT), OK);
    assert_true(produce_within(5000000));
    check();
}

/* A follower that can take no more goes on with what stands in front of the next one, and with everything once it can
 * take a checkpoint. */
static void who_has_no_room_for_another_one_takes_what_is_before_it(void **state)
{
    found(10, 3, 3);
    assert_true(produce_within(5000000));
    uint64_t id = leader_within(0), full = id % 3 + 1;
    sim_kv_set_full(t.broker[full].kv, true);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(change_by(replica_at(id), 5000, i % 2 == 0 ? RAFT_LEARNER : RAFT_ABSENT), OK);
        assert_true(produce_within(5000000));
        run(500000);
    }
    const struct partition *leader = replica_at(id), *p = replica_at(full);
    assert_int_equal(p->roster.count, RAFT_CONFIGS_MAX);
    assert_true(p->applied_index < leader->applied_index);
    assert_true(p->applied_index > p->roster.newest->index); /* the record behind it came through */
    sim_kv_set_full(t.broker[full].kv, false);
    run(10000000);
    assert_int_equal(replica_at(full)->applied_index, replica_at(leader_within(0))->applied_index);
    check();
}

/* As from the leader, with such entries; true: the log took them. */
static bool takes(struct partition *p, uint64_t from, const uint8_t types[2])
{
    uint64_t last = raft_last_index(p->raft);
    RaftRow row = {.type = RAFT_APPEND,
                   .group = GROUP,
                   .from = from,
                   .to = p->replica,
                   .term = raft_term(p->raft),
                   .index = last,
                   .index_term = raft_term_of(p->raft, last),
                   .run_terms = {raft_term(p->raft)},
                   .run_terms_count = 1,
                   .run_counts = {2},
                   .run_counts_count = 1,
                   .entry_sizes_count = 2,
                   .entry_types = {.size = 2, .bytes = {types[0], types[1]}}};
    world_enter(&t.world);
    router_on_row(p->broker, roster_broker_of(&p->roster, from), &row, NULL);
    world_leave(&t.world);
    return raft_last_index(p->raft) != last;
}

static void rows_with_impossible_configurations_are_refused(void **state)
{
    static const uint8_t last[] = {ENTRY_TIMEOUT, ENTRY_CONFIG}, first[] = {ENTRY_CONFIG, ENTRY_TIMEOUT};
    found(11, 3, 3);
    assert_true(produce_within(5000000));
    uint64_t id = leader_within(0);
    struct partition *p = replica_at(id % 3 + 1);
    uint64_t from = replica_at(id)->replica, refused = p->broker->counters.raft_rows_refused_total;
    assert_false(takes(p, from, last));
    assert_false(takes(p, from, first));
    assert_int_equal(p->broker->counters.raft_rows_refused_total, refused + 2);
    assert_int_equal(p->roster.count, 1);
    assert_true(produce_within(5000000));
    check();
}

/* --- whatever happens --- */

/* Its disk and checkpoint store take no more, or do again. */
static void set_full(uint64_t id, bool full)
{
    sim_kv_set_full(t.broker[id].kv, full);
    sim_disk_set_room(t.broker[id].disk, full ? 0 : UINT64_MAX);
}

static void any_trouble(struct rng *rng, bool down[TRIO_BROKERS_MAX + 1], bool is_narrow)
{
    uint64_t id = rng_between(rng, 1, t.brokers), other = rng_between(rng, 1, t.brokers);
    switch (rng_below(rng, is_narrow ? 14 : 12)) {
    case 12:
    case 13:
        if (!down[id]) {
            set_full(id, rng_below(rng, 2) == 0);
        }
        break;
    case 0:
    case 1:
        if (!down[id]) {
            trio_crash(&t, id, rng_below(rng, 2) == 0);
            down[id] = true;
        }
        break;
    case 2:
    case 3:
    case 4:
        if (down[id]) {
            set_full(id, false);
            trio_start(&t, id);
            down[id] = false;
        }
        break;
    case 5:
        sim_cables_cut(t.cables, id, other, id != other);
        break;
    case 6:
        sim_cables_cut(t.cables, id, other, false);
        break;
    case 7:
        sim_cables_break(t.cables, id, other);
        break;
    case 8: {
        uint32_t brokers = (uint32_t)rng_between(rng, 1, (1u << t.brokers) - 1) << 1;
        wish_for(brokers);
        break;
    }
    case 9: {
        uint64_t leader = trio_leader(&t, GROUP, 0);
        if (leader != 0 && replica_at(leader) != NULL) {
            world_enter(&t.world);
            (void)partition_transfer(replica_at(leader), wish.member[rng_below(rng, wish.count)].replica);
            world_leave(&t.world);
        }
        break;
    }
    default:
        run(rng_between(rng, 1, 2000000));
        break;
    }
}

static void all_is_well_again(const bool down[TRIO_BROKERS_MAX + 1])
{
    for (uint64_t id = 1; id <= t.brokers; id++) {
        for (uint64_t other = 1; other <= t.brokers; other++) {
            sim_cables_cut(t.cables, id, other, false);
        }
        set_full(id, false);
        if (down[id]) {
            trio_start(&t, id);
        }
    }
    assert_true(leader_within(60000000) != 0);
    assert_true(walk_for(120000000));
    assert_true(produce_within(30000000));
    run(5000000);
}

static void trouble(uint64_t seed)
{
    struct rng rng;
    bool down[TRIO_BROKERS_MAX + 1] = {false};
    rng_seed(&rng, seed);
    found(seed, 4 + (uint32_t)rng_below(&rng, 2), 1 + 2 * (uint32_t)rng_below(&rng, 2));
    bool is_narrow = rng_below(&rng, 3) == 0;
    for (int i = 0; i < 80; i++) {
        any_trouble(&rng, down, is_narrow);
        for (uint64_t n = rng_below(&rng, 4); n > 0; n--) {
            (void)walk();
            for (uint64_t m = rng_below(&rng, 25); m > 0 && t.sent < TRIO_VALUES_MAX - 500; m--) {
                (void)produce();
            }
            run(rng_between(&rng, 1, 300000));
        }
    }
    all_is_well_again(down);
    check();
}

static void nothing_is_lost_while_members_change(void **state)
{
    const char *first = getenv("TRIO_FIRST"), *seeds = getenv("TRIO_SEEDS");
    uint64_t from = first != NULL ? strtoull(first, NULL, 10) : 1;
    uint64_t count = seeds != NULL ? strtoull(seeds, NULL, 10) : 40;
    for (uint64_t seed = from; seed < from + count; seed++) {
        if (seed != from) {
            trio_close(&t);
        }
        if (seeds != NULL) {
            print_message("seed %lu\n", (unsigned long)seed);
        }
        trouble(seed);
        if (seeds != NULL) {
            uint64_t id = trio_leader(&t, GROUP, 0);
            const struct partition *p = replica_at(id);
            print_message("  %u of %u acknowledged, term %lu, %lu replicas, configuration at %lu of %lu, %.0f s\n",
                          t.acknowledged, t.sent, (unsigned long)raft_term(p->raft),
                          (unsigned long)(next_replica - REPLICA_FIRST), (unsigned long)p->roster.newest->index,
                          (unsigned long)p->applied_index, (double)t.world.now_us / 1e6);
        }
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_replica_moves_to_another_broker),
        TEST(the_group_outlives_everybody_who_founded_it),
        TEST(one_becomes_three_and_three_become_one),
        TEST(who_was_away_follows_strangers),
        TEST(power_fails_in_the_middle_of_a_change),
        TEST(leadership_is_given_to_whom_one_likes),
        TEST(what_makes_no_sense_is_refused),
        TEST(nothing_is_lost_while_members_change),
        TEST(a_change_that_nobody_heard_of_is_undone),
        TEST(there_are_never_more_configurations_than_a_start_can_bear),
        TEST(who_has_no_room_for_another_one_takes_what_is_before_it),
        TEST(rows_with_impossible_configurations_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
