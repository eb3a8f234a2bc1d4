/* Groups that sleep, on whole brokers: when they do, what it costs, and everything that wakes them. The judge looks on:
 * a leader that sleeps is a leader like any other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "broker/impl.h"
#include "broker/quiet.h"
#include "raft/impl.h"
#include "sim_trio.h"

#define GROUPS       6u
#define MANY         60u
#define SECOND_US    UINT64_C(1000000)
#define ELECTION_US  UINT64_C(800000)
#define HEARTBEAT_US UINT64_C(100000)
/* Silence, a moment of the election timeout that follows, a timer drawn, ticks and votes. */
#define ELECTED_US   (ELECTION_US + ELECTION_US + 3 * ELECTION_US / 2 + 3 * HEARTBEAT_US)
#define GIVEN_UP_US  (3 * ELECTION_US + 3 * HEARTBEAT_US)

static struct trio t;

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

static void sleep_soon(struct config *config)
{
    config->quiet_ms = 300;
}

static struct partition *replica(uint64_t id, uint32_t g)
{
    return t.broker[id].broker != NULL ? groups_find(t.broker[id].broker, trio_group(g)) : NULL;
}

static bool sleeps(uint64_t id, uint32_t g)
{
    const struct partition *p = replica(id, g);
    return p != NULL && p->raft != NULL && raft_is_quiet(p->raft);
}

static uint64_t leader_of(uint32_t g)
{
    return trio_leader(&t, trio_group(g), 20 * SECOND_US);
}

/* Replicas of the first groups that sleep, on brokers that live. */
static uint32_t asleep(uint32_t groups)
{
    uint32_t count = 0;
    for (uint64_t id = 1; id <= t.brokers; id++) {
        for (uint32_t g = 0; g < groups; g++) {
            count += sleeps(id, g);
        }
    }
    return count;
}

static void wait_until_all_sleep(uint32_t groups)
{
    for (uint64_t end_us = t.world.now_us + 30 * SECOND_US; asleep(groups) < t.brokers * groups;) {
        assert_true(t.world.now_us < end_us);
        trio_run(&t, 20000);
    }
    for (uint64_t id = 1; id <= t.brokers; id++) {
        assert_int_equal(quiet_count(t.broker[id].broker), groups);
    }
}

/* Group g is led by broker 1 + g mod brokers, and everybody sleeps. */
static void open_asleep(uint64_t seed, uint32_t brokers, uint32_t groups)
{
    trio_open_with(&t, seed, brokers, groups, sleep_soon);
    for (uint32_t g = 0; g < groups; g++) {
        uint64_t wish = 1 + g % brokers;
        for (uint64_t leader = leader_of(g); leader != wish; leader = leader_of(g)) {
            partition_transfer(replica(leader, g), replica(wish, g)->replica);
            trio_run(&t, HEARTBEAT_US);
        }
    }
    wait_until_all_sleep(groups);
}

static void cut_off(uint64_t id, bool cut)
{
    for (uint64_t other = 1; other <= t.brokers; other++) {
        if (other != id) {
            sim_cables_cut(t.cables, id, other, cut);
            sim_cables_cut(t.cables, other, id, cut);
        }
    }
}

struct cost {
    uint64_t rows, frames, entries, elections, slept;
};

static struct cost cost_so_far(void)
{
    struct cost cost = {0};
    for (uint64_t id = 1; id <= t.brokers; id++) {
        const struct broker *b = t.broker[id].broker;
        struct peers_state peer;
        for (uint32_t i = 0; b != NULL && peers_state(b->peers, i, &peer); i++) {
            cost.rows += peer.sent_rows;
            cost.frames += peer.sent_frames;
        }
        for (const struct partition *p = b != NULL ? b->groups : NULL; p != NULL; p = p->hh.next) {
            cost.entries += p->raft != NULL ? raft_last_index(p->raft) : 0;
        }
        cost.elections += b != NULL ? b->counters.elections_total : 0;
        cost.slept += b != NULL ? b->counters.groups_slept_total : 0;
    }
    return cost;
}

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* --- asleep --- */

static void who_has_nothing_to_do_sleeps_and_costs_nothing(void **state)
{
    (void)state;
    open_asleep(1, 3, GROUPS);
    assert_true(trio_produce(&t, trio_group(0), SECOND_US) >= 0);
    wait_until_all_sleep(GROUPS);
    struct cost before = cost_so_far();
    trio_run(&t, 600 * SECOND_US);
    struct cost after = cost_so_far();
    assert_int_equal(after.rows, before.rows);
    assert_int_equal(after.frames, before.frames);
    assert_int_equal(after.entries, before.entries);
    assert_int_equal(after.slept, before.slept);
    for (uint64_t id = 1; id <= 3; id++) {
        assert_int_equal(t.broker[id].broker->pulse.wheel.count, 0);
    }
    assert_int_equal(t.marks[MARK_DIGEST_DIFFERS], 0);
}

static void off_means_never(void **state)
{
    (void)state;
    trio_open(&t, 2, 3, 2);
    trio_run(&t, 60 * SECOND_US);
    assert_int_equal(asleep(2), 0);
}

static void heartbeats_of_all_groups_share_a_frame(void **state)
{
    (void)state;
    trio_open(&t, 17, 3, MANY);
    trio_run(&t, 10 * SECOND_US);
    struct cost before = cost_so_far();
    trio_run(&t, 10 * SECOND_US);
    struct cost after = cost_so_far();
    uint64_t intervals = 10 * SECOND_US / HEARTBEAT_US, pairs = 6;
    assert_true(after.rows - before.rows >= 2 * MANY * 2 * (intervals - 1)); /* to two followers, and back */
    assert_true(after.frames - before.frames <= 2 * pairs * (intervals + 1));
}

static void nobody_sleeps_while_a_member_is_away(void **state)
{
    (void)state;
    open_asleep(3, 3, GROUPS);
    trio_crash(&t, 2, false);
    trio_run(&t, 30 * SECOND_US);
    assert_int_equal(asleep(GROUPS), 0);
    for (uint32_t g = 0; g < GROUPS; g++) {
        assert_true(leader_of(g) != 0);
    }
    trio_start(&t, 2);
    wait_until_all_sleep(GROUPS);
}

/* --- work --- */

static void work_wakes_at_once(void **state)
{
    (void)state;
    open_asleep(4, 3, GROUPS);
    uint64_t begun_us = t.world.now_us;
    assert_true(trio_produce(&t, trio_group(1), SECOND_US) >= 0);
    assert_true(t.world.now_us - begun_us < HEARTBEAT_US / 10); /* it waited for no tick */
    assert_int_equal(asleep(GROUPS), 3 * (GROUPS - 1));
    assert_true(t.marks[MARK_WOKEN_BY_WORK] > 0 && t.marks[MARK_WOKEN_BY_LEADER] > 0);
    wait_until_all_sleep(GROUPS);

    int64_t offset = -1;
    begun_us = t.world.now_us;
    assert_int_equal(trio_latest(&t, leader_of(1), trio_group(1), SECOND_US, &offset), OK);
    assert_int_equal(offset, 1);
    assert_true(t.world.now_us - begun_us < HEARTBEAT_US / 10);
    assert_int_equal(asleep(GROUPS), 3 * (GROUPS - 1));
    wait_until_all_sleep(GROUPS);

    struct partition *p = replica(leader_of(2), 2);
    uint64_t to = 1 + leader_of(2) % 3;
    assert_int_equal(partition_transfer(p, replica(to, 2)->replica), OK);
    trio_run(&t, 3 * HEARTBEAT_US); /* events give turns, and while all sleep there are few */
    assert_int_equal(leader_of(2), to);
    wait_until_all_sleep(GROUPS);
    trio_check(&t, trio_group(1));
}

/* What time asks for is no matter of ticks. */
static void a_deadline_wakes(void **state)
{
    (void)state;
    open_asleep(5, 3, GROUPS);
    struct partition *p = replica(leader_of(3), 3);
    uint64_t last = raft_last_index(p->raft), proposed = p->broker->counters.timeout_entries_proposed_total;
    p->traffic = true; /* as if a batch had just been applied */
    order_put(&p->broker->deadlines, &p->deadline, clock_now_us(p->broker->clock) + 10 * SECOND_US);
    trio_run(&t, 9 * SECOND_US);
    assert_int_equal(raft_last_index(p->raft), last);
    trio_run(&t, 2 * SECOND_US);
    assert_int_equal(p->broker->counters.timeout_entries_proposed_total, proposed + 1);
    assert_int_equal(raft_last_index(p->raft), last + 1);
    wait_until_all_sleep(GROUPS);
}

static void a_change_of_members_wakes(void **state)
{
    (void)state;
    open_asleep(6, 4, GROUPS);
    uint64_t leader = leader_of(0), gone = 1 + leader % 4, other = 1 + gone % 4;
    for (int round = 0; round < 2; round++) {
        bool moved = round == 0 ? sim_registry_move(t.registry, trio_group(0), gone, 0)
                                : sim_registry_move(t.registry, trio_group(0), other, gone);
        assert_true(moved);
        trio_run(&t, 20 * SECOND_US);
        assert_null(replica(round == 0 ? gone : other, 0));
        uint32_t sleeping = 0;
        for (uint64_t id = 1; id <= 4; id++) {
            sleeping += sleeps(id, 0);
        }
        assert_int_equal(sleeping, 3);
    }
    assert_true(trio_produce(&t, trio_group(0), SECOND_US) >= 0);
}

/* --- links and lives --- */

static void a_link_that_breaks_wakes_whom_it_joins(void **state)
{
    (void)state;
    open_asleep(7, 3, GROUPS);
    struct cost before = cost_so_far();
    sim_cables_break(t.cables, 1, 2);
    for (uint64_t end_us = t.world.now_us + 2 * SECOND_US; t.world.now_us < end_us; trio_run(&t, 10000)) {
        for (uint32_t g = 2; g < GROUPS; g += 3) { /* led by 3 */
            assert_true(sleeps(1, g) && sleeps(2, g) && sleeps(3, g));
        }
    }
    assert_true(t.marks[MARK_WOKEN_BY_LINK] > 0);
    wait_until_all_sleep(GROUPS);
    for (uint32_t g = 0; g < GROUPS; g++) {
        assert_int_equal(leader_of(g), 1 + g % 3);
    }
    assert_int_equal(cost_so_far().elections, before.elections);
}

/* Not all at once, and at the same moment on both sides. */
static void whom_a_link_wakes_is_spread_over_time(void **state)
{
    (void)state;
    open_asleep(18, 3, MANY);
    sim_cables_break(t.cables, 1, 2);
    uint32_t before = asleep(MANY), most = 0;
    for (uint64_t end_us = t.world.now_us + ELECTION_US; t.world.now_us < end_us;) {
        trio_run(&t, HEARTBEAT_US / 2);
        uint32_t now = asleep(MANY);
        most = before > now && before - now > most ? before - now : most;
        before = now;
    }
    assert_true(most >= 3 && most < 3 * MANY / 3);
}

static void a_leader_that_dies_is_followed_by_another(void **state)
{
    (void)state;
    for (int silent = 0; silent < 2; silent++) {
        if (silent == 1) {
            trio_close(&t);
        }
        open_asleep(8, 3, GROUPS);
        if (silent == 1) {
            cut_off(1, true); /* nobody is told */
            trio_run(&t, ELECTED_US);
            assert_true(t.marks[MARK_WOKEN_BY_SILENCE] > 0);
        } else {
            trio_crash(&t, 1, false);
            trio_run(&t, ELECTED_US - ELECTION_US);
        }
        for (uint32_t g = 0; g < GROUPS; g++) {
            bool is_led = false;
            for (uint64_t id = 2; id <= 3; id++) {
                is_led = is_led || partition_leads(replica(id, g));
            }
            assert_true(is_led);
        }
    }
    cut_off(1, false);
    wait_until_all_sleep(GROUPS);
}

static void a_sleeping_leader_without_a_majority_gives_up(void **state)
{
    (void)state;
    open_asleep(9, 3, GROUPS);
    cut_off(1, true);
    trio_run(&t, GIVEN_UP_US);
    for (uint32_t g = 0; g < GROUPS; g++) {
        assert_int_not_equal(raft_role(replica(1, g)->raft), RAFT_LEADER);
        assert_false(sleeps(1, g));
    }
}

static void a_new_life_wakes(void **state)
{
    (void)state;
    open_asleep(10, 3, GROUPS);
    for (int round = 0; round < 3; round++) {
        uint64_t id = 1 + (uint64_t)round;
        uint32_t woken = t.marks[MARK_WOKEN_BY_LINK];
        trio_crash(&t, id, round == 1);
        trio_start(&t, id);
        wait_until_all_sleep(GROUPS);
        assert_true(t.marks[MARK_WOKEN_BY_LINK] > woken);
    }
    for (uint32_t g = 0; g < GROUPS; g++) {
        assert_true(trio_produce(&t, trio_group(g), 5 * SECOND_US) >= 0);
    }
}

/* --- what two brokers do not agree on --- */

static void digests_tell_groups_apart(void **state)
{
    struct peers_quiet one, other, none = {0};
    (void)state;
    open_asleep(19, 3, GROUPS);
    quiet_told(t.broker[1].broker, 2, &one);
    quiet_told(t.broker[2].broker, 1, &other);
    assert_int_equal(one.count, GROUPS / 3);
    assert_int_equal(other.count, GROUPS / 3);
    assert_true(one.digest != other.digest);
    assert_true(quiet_agrees(t.broker[2].broker, 1, &one) && quiet_agrees(t.broker[1].broker, 2, &other));
    assert_false(quiet_agrees(t.broker[2].broker, 1, &other) || quiet_agrees(t.broker[2].broker, 1, &none));
}

/* One who woke by himself campaigns in time, and is told that there is a leader. */
static void a_request_for_votes_wakes(void **state)
{
    (void)state;
    open_asleep(11, 3, GROUPS);
    uint64_t leader = leader_of(0), follower = 1 + leader % 3, term = raft_term(replica(leader, 0)->raft);
    raft_step(replica(follower, 0)->raft, &(struct raft_event){.type = RAFT_WAKE});
    partition_mark_dirty(replica(follower, 0));
    trio_run(&t, 3 * SECOND_US);
    assert_true(t.marks[MARK_WOKEN_BY_VOTE] > 0);
    assert_int_equal(t.marks[MARK_WOKEN_BY_DIGEST], 0);
    wait_until_all_sleep(GROUPS);
    assert_int_equal(leader_of(0), leader);
    assert_int_equal(raft_term(replica(leader, 0)->raft), term);
}

/* Its leader believes that it sleeps, and it will never say otherwise. */
static void who_lost_its_sleep_is_found_by_the_digest(void **state)
{
    (void)state;
    open_asleep(12, 3, GROUPS);
    uint64_t leader = leader_of(0), follower = 1 + leader % 3;
    struct partition *p = replica(follower, 0);
    p->raft->quiet = false;
    p->raft->election_deadline_ms = UINT64_MAX;
    quiet_note(p);
    trio_run(&t, 20000);
    for (uint64_t end_us = t.world.now_us + 4 * SECOND_US; !raft_is_quiet(p->raft); trio_run(&t, 20000)) {
        assert_true(t.world.now_us < end_us);
    }
    assert_true(t.marks[MARK_WOKEN_BY_DIGEST] > 0);
    for (uint32_t g = 0; g < GROUPS; g++) { /* nobody else is bothered but those two brokers' groups */
        assert_true(leader_of(g) == leader || (sleeps(1, g) && sleeps(2, g) && sleeps(3, g)));
    }
    wait_until_all_sleep(GROUPS);
}

/* All sleep under somebody who leads no more and sleeps as well: no timer anywhere would ever end that. */
static void a_group_that_sleeps_without_a_leader_is_found_by_the_digest(void **state)
{
    (void)state;
    open_asleep(13, 3, GROUPS);
    uint64_t old = leader_of(0), other = 1 + old % 3;
    struct partition *p = replica(old, 0);
    t.judge_rests = true; /* no broker does such a thing */
    raft__become_follower(p->raft, replica(other, 0)->replica);
    p->raft->heard = false;
    p->raft->quiet = true;
    partition_mark_dirty(p);
    trio_run(&t, HEARTBEAT_US);
    assert_int_equal(asleep(GROUPS), 3 * GROUPS);
    assert_int_equal(trio_leader(&t, trio_group(0), 0), 0);
    trio_run(&t, 8 * SECOND_US);
    assert_true(t.marks[MARK_WOKEN_BY_DIGEST] > 0);
    assert_true(trio_produce(&t, trio_group(0), SECOND_US) >= 0);
    wait_until_all_sleep(GROUPS);
}

/* --- pauses --- */

static uint32_t campaigning(void)
{
    uint32_t count = 0;
    for (uint64_t id = 1; id <= t.brokers; id++) {
        for (const struct partition *p = t.broker[id].broker->groups; p != NULL; p = p->hh.next) {
            count += raft_role(p->raft) == RAFT_PRE_CANDIDATE || raft_role(p->raft) == RAFT_CANDIDATE;
        }
    }
    return count;
}

/* A few may ask around before a broken link is back, hardly any wins, and soon all have leaders. */
static void check_no_storm(const struct cost *before, uint32_t groups)
{
    uint32_t led = 0;
    for (uint64_t end_us = t.world.now_us + 3 * ELECTION_US; t.world.now_us < end_us; trio_run(&t, 10000)) {
        assert_true(campaigning() <= groups / 3);
    }
    for (uint32_t g = 0; g < groups; g++) {
        led += trio_leader(&t, trio_group(g), 0) != 0;
    }
    assert_int_equal(led, groups);
    assert_true(cost_so_far().elections - before->elections <= groups / 20);
}

static void a_pause_of_one_makes_nobody_campaign(void **state)
{
    (void)state;
    for (int quiet = 0; quiet < 2; quiet++) {
        if (quiet == 1) {
            trio_close(&t);
            open_asleep(14, 3, MANY);
        } else {
            trio_open(&t, 14, 3, MANY);
            trio_run(&t, 10 * SECOND_US);
        }
        trio_hold(&t, 1);
        trio_run(&t, 30 * SECOND_US);
        struct cost before = cost_so_far(); /* what the others elected meanwhile */
        trio_release(&t, 1);
        check_no_storm(&before, MANY);
        assert_true(t.marks[MARK_PAUSE_LEFT_OUT] > 0 || quiet == 1); /* who sleeps has no tick that is late */
    }
}

static void a_pause_of_all_makes_nobody_campaign(void **state)
{
    (void)state;
    for (int quiet = 0; quiet < 2; quiet++) {
        if (quiet == 1) {
            trio_close(&t);
            open_asleep(15, 3, MANY);
        } else {
            trio_open(&t, 15, 3, MANY);
            trio_run(&t, 10 * SECOND_US);
        }
        struct cost before = cost_so_far();
        world_hold(&t.world, 30 * SECOND_US);
        check_no_storm(&before, MANY);
    }
}

/* Who asks for the time behind a pause, before the first tick, is told the same time as that one. */
static void time_never_goes_back_behind_a_pause(void **state)
{
    struct members members;
    (void)state;
    trio_open(&t, 20, 3, 1);
    trio_run(&t, 5 * SECOND_US);
    uint64_t leader = leader_of(0);
    struct partition *p = replica(leader, 0);
    world_hold(&t.world, 3 * SECOND_US);
    roster_newest(&p->roster, &members);
    assert_int_equal(partition_change(p, &members), OK); /* a look at what there is, with the time told to the core */
    trio_run(&t, HEARTBEAT_US);
    struct cost before = cost_so_far();
    trio_run(&t, SECOND_US);
    assert_true(cost_so_far().rows - before.rows >= 2 * 2 * (SECOND_US / HEARTBEAT_US - 1));
    assert_int_equal(leader_of(0), leader);
}

/* --- thousands --- */

static void roomy(struct config *config)
{
    config->quiet_ms = 1000;
    config->wal_file_bytes = 8 << 20;
    config->wal_budget_bytes = 256 << 20;
    config->snapshot_bytes = 16 << 20;
    config->snapshot_entries = 100000;
}

static uint32_t led(uint32_t groups)
{
    uint32_t count = 0;
    for (uint64_t id = 1; id <= t.brokers; id++) {
        for (const struct partition *p = t.broker[id].broker->groups; p != NULL; p = p->hh.next) {
            count += partition_leads(p);
        }
    }
    return count;
}

/* QUIET_GROUPS of them; 10,000 are the number to be held. */
static void thousands_have_leaders_soon_and_then_cost_nothing(void **state)
{
    (void)state;
    const char *wish = getenv("QUIET_GROUPS");
    uint32_t groups = wish != NULL ? (uint32_t)strtoul(wish, NULL, 10) : 1000;
    double cpu_0 = cpu_s();
    trio_open_with(&t, 16, 3, groups, roomy);
    while (led(groups) < groups) {
        trio_run(&t, SECOND_US / 10);
        assert_true(t.world.now_us < 120 * SECOND_US);
    }
    double cpu_1 = cpu_s();
    for (uint64_t id = 1; id <= 3; id++) {
        trio_crash(&t, id, true);
    }
    uint64_t begun_us = t.world.now_us;
    for (uint64_t id = 1; id <= 3; id++) {
        trio_start(&t, id);
    }
    while (led(groups) < groups) {
        trio_run(&t, SECOND_US / 20);
        assert_true(t.world.now_us - begun_us < 10 * SECOND_US);
    }
    uint64_t led_us = t.world.now_us;
    double cpu_2 = cpu_s();
    struct cost started = cost_so_far();
    while (asleep(groups) < 3 * groups) {
        trio_run(&t, SECOND_US / 10);
        assert_true(t.world.now_us - led_us < 60 * SECOND_US);
    }
    double cpu_3 = cpu_s();
    uint64_t asleep_us = t.world.now_us;
    struct cost before = cost_so_far();
    t.judge_rests = true;
    trio_run(&t, 3600 * SECOND_US);
    t.judge_rests = false;
    struct cost after = cost_so_far();
    print_message(
        "%u groups x 3 brokers: born in %.1f CPU s; a cold start: all led after %.2f simulated s (%.1f CPU s), "
        "%lu campaigns; all asleep %.2f s later (%.1f CPU s); an idle hour (%.1f CPU s): %lu entries, %lu "
        "rows, %lu frames of groups\n",
        groups, cpu_1 - cpu_0, (double)(led_us - begun_us) / 1e6, cpu_2 - cpu_1, (unsigned long)started.elections,
        (double)(asleep_us - led_us) / 1e6, cpu_3 - cpu_2, cpu_s() - cpu_3,
        (unsigned long)(after.entries - before.entries), (unsigned long)(after.rows - before.rows),
        (unsigned long)(after.frames - before.frames));
    assert_int_equal(after.rows, before.rows);
    assert_int_equal(after.frames, before.frames);
    assert_int_equal(after.entries, before.entries);
    assert_int_equal(asleep(groups), 3 * groups);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(who_has_nothing_to_do_sleeps_and_costs_nothing),
        TEST(off_means_never),
        TEST(heartbeats_of_all_groups_share_a_frame),
        TEST(nobody_sleeps_while_a_member_is_away),
        TEST(work_wakes_at_once),
        TEST(a_deadline_wakes),
        TEST(a_change_of_members_wakes),
        TEST(a_link_that_breaks_wakes_whom_it_joins),
        TEST(whom_a_link_wakes_is_spread_over_time),
        TEST(a_leader_that_dies_is_followed_by_another),
        TEST(a_sleeping_leader_without_a_majority_gives_up),
        TEST(a_new_life_wakes),
        TEST(digests_tell_groups_apart),
        TEST(a_request_for_votes_wakes),
        TEST(who_lost_its_sleep_is_found_by_the_digest),
        TEST(a_group_that_sleeps_without_a_leader_is_found_by_the_digest),
        TEST(a_pause_of_one_makes_nobody_campaign),
        TEST(a_pause_of_all_makes_nobody_campaign),
        TEST(time_never_goes_back_behind_a_pause),
        TEST(thousands_have_leaders_soon_and_then_cost_nothing),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
