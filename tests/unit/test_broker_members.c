/* Who is in a group: what raft makes of it and what stands here agree, nothing hostile is taken for a configuration,
 * and the history of a log is bounded, undone and shortened like the log's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "broker/roster.h"

static struct members voters(uint64_t first, uint32_t count)
{
    struct members m = {0};
    for (uint32_t i = 0; i < count; i++) {
        assert_true(members_set(&m, first + i, 10 * (first + i), RAFT_VOTER));
    }
    return m;
}

/* --- one configuration --- */

static void a_birth_gives_voters_in_order(void **state)
{
    const struct entry_birth birth = {.voters_count = 3, .voters = {9, 4, 7}, .voter_brokers = {3, 1, 2}};
    struct members m;
    members_of_birth(&birth, &m);
    assert_int_equal(m.count, 3);
    assert_int_equal(m.member[0].replica, 4);
    assert_int_equal(m.member[0].broker, 1);
    assert_int_equal(m.member[2].replica, 9);
    assert_int_equal(m.member[2].now, RAFT_VOTER);
    assert_true(members_are_sane(&m) && !members_are_joint(&m));
}

static void joining_and_leaving_is_what_raft_does(void **state)
{
    struct members now = voters(1, 3), next = now, joint, left;
    assert_true(members_set(&next, 2, 0, RAFT_ABSENT));
    assert_true(members_set(&next, 8, 80, RAFT_VOTER));
    assert_true(members_join(&now, &next, &joint));
    assert_true(members_are_joint(&joint) && members_are_sane(&joint));
    assert_int_equal(joint.count, 4);
    assert_int_equal(members_find(&joint, 2)->broker, 20);
    assert_int_equal(members_find(&joint, 2)->next, RAFT_ABSENT);
    assert_int_equal(members_find(&joint, 8)->broker, 80);
    assert_int_equal(members_find(&joint, 8)->now, RAFT_ABSENT);
    members_leave(&joint, &left);
    assert_true(members_equal(&left, &next));

    struct members learns = now; /* no voter changes: no joint step */
    assert_true(members_set(&learns, 9, 90, RAFT_LEARNER));
    assert_true(members_join(&now, &learns, &joint));
    assert_true(members_equal(&joint, &learns));
    assert_null(members_find(&now, 9));
}

static void there_is_room_for_so_many(void **state)
{
    struct members full = {0}, joint, others;
    for (uint64_t i = 1; i <= RAFT_MEMBERS_MAX; i++) {
        assert_true(members_set(&full, i, i, i <= 3 ? RAFT_VOTER : RAFT_LEARNER));
    }
    assert_true(members_are_sane(&full));
    assert_false(members_set(&full, 99, 99, RAFT_LEARNER));
    assert_true(members_set(&full, 5, 5, RAFT_VOTER)); /* one that is in may become something else */
    others = voters(100, 3);
    assert_false(members_join(&full, &others, &joint));
}

static void what_is_encoded_is_decoded(void **state)
{
    struct members now = voters(1, 7), next = voters(50, 7), joint, back;
    assert_true(members_join(&now, &next, &joint));
    struct slice payload = members_encode(&joint);
    assert_int_equal(members_decode(payload, &back), OK);
    assert_true(members_equal(&joint, &back));
    for (uint32_t size = 0; size < payload.size; size++) {
        struct slice cut = payload;
        cut.size = size;
        assert_int_not_equal(members_decode(cut, &back), OK);
    }
    payload.buf->data[0]++;
    assert_int_equal(members_decode(payload, &back), ERR_VERSION);
    slice_unref(&payload);
}

/* Bytes of a sound one are changed: what is still taken for a configuration is one. */
static void nothing_hostile_gets_through(void **state)
{
    struct rng rng;
    struct members joint, back;
    const struct members now = voters(1, 3), next = voters(3, 3);
    uint32_t refused = 0;
    rng_seed(&rng, 5);
    assert_true(members_join(&now, &next, &joint));
    for (int round = 0; round < 20000; round++) {
        struct slice payload = members_encode(&joint);
        for (uint64_t n = rng_between(&rng, 1, 4); n > 0; n--) {
            payload.buf->data[1 + rng_below(&rng, payload.size - 1)] = (uint8_t)rng_below(&rng, 5);
        }
        if (members_decode(payload, &back) == OK) {
            struct raft_config config;
            members_to_raft(&back, &config);
            assert_true(raft_config_is_sane(&config));
            for (uint32_t i = 0; i < back.count; i++) {
                assert_int_not_equal(back.member[i].broker, 0);
            }
        } else {
            refused++;
        }
        slice_unref(&payload);
    }
    assert_true(refused > 1000);
}

static void a_row_keeps_it(void **state)
{
    struct members now = voters(1, 3), next = voters(3, 2), joint, back;
    struct meta_group row = {0};
    assert_true(members_join(&now, &next, &joint));
    members_to_row(&joint, &row);
    members_of_row(&row, &back);
    assert_true(members_equal(&joint, &back));
}

/* --- the history --- */

static void history(struct roster *roster, uint32_t count)
{
    struct members m = voters(1, 3);
    roster_init(roster, 0, &m);
    for (uint32_t i = 1; i < count; i++) { /* entries 10, 20, ...; one voter more, the first one less */
        m = voters(1 + i, 3);
        assert_true(roster_has_room(roster, 10 * i, 1));
        roster_push(roster, 10 * i, &m);
    }
}

static void the_newest_is_in_force_until_it_is_cut_off(void **state)
{
    struct roster roster;
    struct members m;
    history(&roster, 4);
    assert_int_equal(roster_newest(&roster, &m), 30);
    assert_int_equal(m.member[0].replica, 4);
    assert_int_equal(roster_at(&roster, 29, &m), 20);
    assert_int_equal(roster_at(&roster, 9, &m), 0);
    assert_int_equal(roster_first_behind(&roster, 9), 10);
    assert_int_equal(roster_first_behind(&roster, 10), 20);
    assert_true(roster_first_behind(&roster, 30) == UINT64_MAX);
    roster_truncate(&roster, 31);
    assert_int_equal(roster_newest(&roster, &m), 30);
    roster_truncate(&roster, 15);
    assert_int_equal(roster_newest(&roster, &m), 10);
    assert_int_equal(m.member[0].replica, 2);
    assert_true(roster_is_member(&roster, 1) && !roster_is_member(&roster, 5));
    roster_free(&roster);
}

static void raft_gets_the_base_and_what_is_behind(void **state)
{
    struct roster roster;
    struct raft_config_entry configs[RAFT_CONFIGS_MAX];
    history(&roster, 4);
    assert_int_equal(roster_to_raft(&roster, 0, configs), 4);
    assert_int_equal(configs[0].index, 0);
    assert_int_equal(configs[3].index, 30);
    assert_int_equal(configs[3].config.members[0].replica, 4);
    assert_int_equal(roster_to_raft(&roster, 25, configs), 2);
    assert_int_equal(configs[0].index, 20);
    assert_int_equal(roster_to_raft(&roster, 99, configs), 1);
    assert_int_equal(configs[0].index, 30);
    roster_free(&roster);
}

static void there_are_never_too_many(void **state)
{
    struct roster roster;
    struct members m;
    history(&roster, RAFT_CONFIGS_MAX);
    assert_false(roster_has_room(&roster, 1000, 1));
    assert_true(roster_has_room(&roster, 60, 1)); /* where the log would be cut off first */
    assert_true(roster_has_room(&roster, 60, 2));
    assert_false(roster_has_room(&roster, 60, 3));
    roster_compact(&roster, 25);
    assert_true(roster_has_room(&roster, 1000, 2));
    assert_false(roster_has_room(&roster, 1000, 3));
    assert_int_equal(roster_at(&roster, 25, &m), 20);
    roster_compact(&roster, 1000);
    assert_int_equal(roster.count, 1);
    assert_int_equal(roster_newest(&roster, &m), 70);
    roster_free(&roster);
}

static void who_left_and_who_is_new_can_be_reached(void **state)
{
    struct roster roster;
    history(&roster, 3); /* 1-3, 2-4, 3-5 */
    assert_int_equal(roster_broker_of(&roster, 1), 10);
    roster_compact(&roster, 20);
    assert_false(roster_is_member(&roster, 1));
    assert_int_equal(roster_broker_of(&roster, 1), 10); /* it is to get its removal */
    assert_int_equal(roster_broker_of(&roster, 77), 0);
    roster_meet(&roster, 77, 7);
    roster_meet(&roster, 77, 8); /* nobody moves */
    assert_int_equal(roster_broker_of(&roster, 77), 7);
    for (uint64_t i = 0; i < ROSTER_OTHERS_MAX - 1; i++) {
        roster_meet(&roster, 100 + i, 1);
    }
    assert_int_equal(roster_broker_of(&roster, 1), 0); /* the first ones are forgotten */
    assert_int_equal(roster_broker_of(&roster, 77), 7);
    roster_free(&roster);
}

static void everybody_comes_once(void **state)
{
    struct roster roster;
    struct roster_other one;
    uint64_t seen[128] = {0};
    uint32_t place = 0;
    history(&roster, 4);
    roster_compact(&roster, 10);
    roster_meet(&roster, 77, 7);
    roster_meet(&roster, 4, 40); /* a member by now */
    while (roster_each(&roster, &place, &one)) {
        assert_int_equal(seen[one.replica], 0);
        assert_int_equal(one.broker, roster_broker_of(&roster, one.replica));
        seen[one.replica]++;
    }
    for (uint64_t replica = 1; replica <= 6; replica++) {
        assert_int_equal(seen[replica], 1);
    }
    assert_int_equal(seen[77], 1);
    roster_free(&roster);
}

static void a_snapshot_takes_the_place_of_what_was(void **state)
{
    struct roster roster;
    struct members m = voters(50, 3), found;
    history(&roster, 4);
    roster_install(&roster, 25, 22, &m, true); /* the log goes on behind it */
    assert_int_equal(roster.count, 2);
    assert_int_equal(roster_at(&roster, 25, &found), 22);
    assert_true(members_equal(&m, &found));
    assert_int_equal(roster_newest(&roster, &found), 30);
    roster_install(&roster, 29, 28, &m, false);
    assert_int_equal(roster.count, 1);
    assert_int_equal(roster_newest(&roster, &found), 28);
    assert_int_equal(roster_broker_of(&roster, 6), 60);
    roster_free(&roster);
}

static void alone_is_who_has_nobody_else(void **state)
{
    struct roster roster;
    struct members m = voters(3, 1);
    uint64_t brokers[RAFT_VOTERS_MAX];
    roster_init(&roster, 0, &m);
    assert_true(roster_is_alone(&roster, 3));
    assert_false(roster_is_alone(&roster, 4)); /* a learner who is not in yet */
    assert_true(members_set(&m, 4, 40, RAFT_LEARNER));
    roster_push(&roster, 5, &m);
    assert_false(roster_is_alone(&roster, 3));
    assert_int_equal(roster_voters(&roster, brokers), 1);
    assert_int_equal(brokers[0], 30);
    roster_free(&roster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_birth_gives_voters_in_order),
        cmocka_unit_test(joining_and_leaving_is_what_raft_does),
        cmocka_unit_test(there_is_room_for_so_many),
        cmocka_unit_test(what_is_encoded_is_decoded),
        cmocka_unit_test(nothing_hostile_gets_through),
        cmocka_unit_test(a_row_keeps_it),
        cmocka_unit_test(the_newest_is_in_force_until_it_is_cut_off),
        cmocka_unit_test(raft_gets_the_base_and_what_is_behind),
        cmocka_unit_test(there_are_never_too_many),
        cmocka_unit_test(who_left_and_who_is_new_can_be_reached),
        cmocka_unit_test(everybody_comes_once),
        cmocka_unit_test(a_snapshot_takes_the_place_of_what_was),
        cmocka_unit_test(alone_is_who_has_nobody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
