/* The rules about what is durable when it is said, counted or lost: for each a story that must trip it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/batch.h"
#include "judge_story.h"

static void an_uncommitted_tail_is_cut_off(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_stores(1, 2, 1);
    story_stores(3, 1, 1);
    story_elect(3, 2, 2);
    story_replicate(3, 2, 2, 2);
    story.fakes[1].sight.role = RAFT_FOLLOWER;
    story.fakes[1].sight.term = 2;
    story_hard_state(1, 2, 0);
    story_record(1, WAL_TRUNCATE, 2, 2, "");
    story_stores(1, 2, 2);
    story_commits(1, 2);
    story_is_good();
    assert_true(story.world.tally.judged[JUDGE_R11] > 0 && story.world.tally.judged[JUDGE_R10] > 0);
}

static void a_term_that_was_not_synced_may_go(void **context)
{
    (void)context;
    story_wish(1, 2, 1);
    story.fakes[1].sight.term = 1;
    story.fakes[1].sight.role = RAFT_CANDIDATE;
    story_saw(1);
    judge_dies(story.judge, 1);
    story.fakes[1].sight.term = 0;
    story.fakes[1].sight.role = RAFT_FOLLOWER;
    story_saw(1);
    story_is_good();
}

static void r3_one_entry_is_two(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story_record(2, WAL_ENTRY, 1, 1, "something else");
    story_trips("R3");
}

static void r3_one_entry_has_two_histories(void **context)
{
    (void)context;
    story_stores(1, 1, 1);
    story_stores(1, 2, 2);
    story_stores(2, 1, 2);
    story_stores(2, 2, 2);
    story_trips("R3");
}

static void w1_a_minority_is_counted(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story_has(2, 1, 1); /* in memory only */
    story_commits(1, 1);
    story_trips("W1");
}

static void acked_at(uint64_t index)
{
    uint8_t batch[BATCH_HEADER_BYTES] = {0};
    struct batch_header header = {.size_bytes = sizeof batch, .producer_id = -1, .base_sequence = -1};
    struct judge_group *group = judge__group(story.judge, STORY_GROUP);
    batch_write_header(batch, &header);
    if (group->batches == NULL) {
        struct acked_batch *one = calloc(1, sizeof *one);
        assert_non_null(one);
        HASH_ADD(hh, group->batches, crc, sizeof one->crc, one);
    }
    group->batches->index = index;
    judge_acked(story.judge, STORY_GROUP, batch, sizeof batch);
}

/* A repeated batch is acknowledged once more while a change of members is tried: who is to vote by it need not have
 * what is committed already. */
static void w1_a_joint_configuration_that_is_tried(void **context)
{
    struct raft_config plain, joint;
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    raft_config_of_voters((const uint64_t[]){11, 13}, 2, &plain);
    assert_true(raft_config_join(&story.config, &plain, &joint));
    story_stores(1, 2, 1);
    story.fakes[1].sight.config = &joint;
    story.fakes[1].sight.config_index = 2;
    story_saw(1);
    acked_at(1);
    story_is_good();
    judge__group(story.judge, STORY_GROUP)->items[2].committed_term = 1; /* at one of three */
    story.fakes[1].sight.applied = 2;
    acked_at(2);
    story_trips("W1");
}

/* A repeated batch is acknowledged once more when one of those who had it has lost it, and is marked. */
static void w1_who_had_it_is_damaged(void **context)
{
    struct meta_group row = {.group = STORY_GROUP, .replica = 12, .term = 1, .snapshot_lsn = 1u << 20};
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    row.damaged = row.healing = true;
    disk__picture(story.judge, &story.judge->machines[2], &row);
    story_saw(1);
    acked_at(1);
    story_is_good();
    judge__replica(judge__group(story.judge, STORY_GROUP), 12)->image.is_given_up = false;
    acked_at(1);
    story_trips("W1");
}

static void w1_nobody_has_committed_what_is_acknowledged(void **context)
{
    uint8_t batch[BATCH_HEADER_BYTES] = {0};
    struct batch_header header = {.size_bytes = sizeof batch, .producer_id = -1, .base_sequence = -1};
    (void)context;
    batch_write_header(batch, &header);
    judge_acked(story.judge, STORY_GROUP, batch, sizeof batch);
    story_trips("W1");
}

/* Entry 1, which leader 1 and replica 12 have stored and committed, is a batch that a client is told of only now. */
static void acknowledge_late(void)
{
    uint8_t batch[BATCH_HEADER_BYTES] = {0};
    struct batch_header header = {.size_bytes = sizeof batch, .producer_id = -1, .base_sequence = -1};
    struct judge_group *group = judge__group(story.judge, STORY_GROUP);
    struct acked_batch *known = calloc(1, sizeof *known);
    assert_non_null(known);
    batch_write_header(batch, &header);
    assert_int_equal(batch_parse(batch, sizeof batch, &header), OK);
    *known = (struct acked_batch){.crc = header.crc, .index = 1};
    HASH_ADD(hh, group->batches, crc, sizeof known->crc, known);
    judge_acked(story.judge, STORY_GROUP, batch, sizeof batch);
}

static void w1_what_is_acknowledged_is_not_at_majorities(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    judge__replica(judge__group(story.judge, STORY_GROUP), 12)->image.last = 0;
    acknowledge_late();
    story_trips("W1");
}

/* Those who are only about to vote need not have it. */
static void w1_what_is_acknowledged_is_older_than_the_configuration(void **context)
{
    (void)context;
    const struct raft_config now = story.config;
    struct raft_config next;
    raft_config_of_voters((const uint64_t[]){11, 13}, 2, &next);
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_stores(1, 2, 1);
    story.fakes[1].sight.config_index = 2;
    assert_true(raft_config_join(&now, &next, &story.config));
    story_saw(1);
    acknowledge_late();
    story_is_good();
}

static void r8_a_vote_leaves_before_it_is_durable(void **context)
{
    (void)context;
    story_wish(1, 2, 1);
    story_campaigns(1, 1);
    story_row(RAFT_VOTE_REPLY, 2, 1, 1, (struct judge_row){0});
    story_trips("R8");
}

static void r8_a_candidate_asks_before_its_vote_is_durable(void **context)
{
    (void)context;
    story_wish(1, 2, 1);
    story.fakes[1].sight.term = 1;
    story.fakes[1].sight.role = RAFT_CANDIDATE;
    story_saw(1);
    story_row(RAFT_VOTE_REQUEST, 1, 2, 1, (struct judge_row){0});
    story_trips("R8");
}

static void r8_two_votes_on_one_disk(void **context)
{
    (void)context;
    story_hard_state(2, 1, 11);
    story_hard_state(2, 1, 13);
    story_trips("R8");
}

static void r8_two_votes_over_a_loss(void **context)
{
    (void)context;
    story_wish(1, 2, 1);
    story_campaigns(1, 1);
    story_vote(1, 2, 1);
    disk__forget(
        &judge__replica(judge__group(story.judge, STORY_GROUP), 12)->image); /* its disk brings an older state */
    story_hard_state(2, 1, 13);
    story_row(RAFT_VOTE_REPLY, 2, 3, 1, (struct judge_row){0});
    story_trips("R8");
}

static void r8_a_row_leaves_before_its_term_is_durable(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_row(RAFT_BEAT_REPLY, 3, 1, 1, (struct judge_row){0});
    story_trips("R8");
}

static void r9_an_acknowledgement_leaves_too_early(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story_has(2, 1, 1);
    story_ack(2, 1, 1, 1);
    story_trips("R9");
}

static void r9_another_entry_is_acknowledged(void **context)
{
    (void)context;
    story_stores(3, 1, 1);
    story_elect(1, 2, 2);
    story_stores(1, 1, 2);
    story_hard_state(3, 2, 0);
    story_ack(3, 1, 2, 1);
    story_trips("R9");
}

static void r9_a_leader_believes_too_much(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story.fakes[1].peers[2] = (struct raft_peer_state){.match = 1, .next = 2};
    story_saw(1);
    story_trips("R9");
}

/* A snapshot that takes the place of its log is on the disk, and its core, which hears only of time, knows nothing of
 * it yet. */
static void r9_a_core_that_is_not_told_of_its_snapshot_yet(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_has(3, 1, 1);
    story.fakes[3].sight.durable = 1;
    story.fakes[3].sight.is_installing = true;
    story_saw(3);
    story_is_good();
    story.fakes[3].sight.is_installing = false;
    story_saw(3);
    story_trips("R9");
}

static void r9_what_is_released_does_not_count(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story_stores(2, 1, 1);
    story_hard_state(2, 1, 11);
    story.judge->machines[2].released_lsn = story.fakes[2].lsn;
    story_ack(2, 1, 1, 1);
    story_trips("R9");
}

static void r10_an_entry_is_written_over_another(void **context)
{
    (void)context;
    story_stores(1, 1, 1);
    story_stores(1, 1, 2);
    story_trips("R10");
}

static void r10_an_entry_is_cut_off_to_be_stored_again(void **context)
{
    (void)context;
    story_stores(1, 1, 1);
    story_stores(1, 2, 1);
    story_record(1, WAL_TRUNCATE, 2, 1, "");
    story_stores(1, 2, 1);
    story_trips("R10");
}

static void r11_what_is_committed_is_cut_off(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_record(2, WAL_TRUNCATE, 1, 2, "");
    story_trips("R11");
}

static void w2_an_entry_joins_nothing(void **context)
{
    (void)context;
    story_stores(1, 1, 1);
    story_stores(2, 1, 1);
    story_stores(1, 2, 1);
    story_stores(1, 3, 1);
    story_stores(2, 3, 1);
    story_trips("W2");
}

static void w2_a_start_forgets_a_vote(void **context)
{
    (void)context;
    story_hard_state(1, 3, 12);
    judge_dies(story.judge, 1);
    story.fakes[1].sight.is_fresh = true;
    story.fakes[1].sight.term = 3;
    judge__group(story.judge, STORY_GROUP)->top_term = 3;
    story_saw(1);
    story_trips("W2");
}

static void w2_a_start_forgets_an_entry(void **context)
{
    (void)context;
    story_stores(1, 1, 1);
    story_stores(1, 2, 1);
    judge_dies(story.judge, 1);
    story.fakes[1].sight.is_fresh = true;
    story.fakes[1].sight.last = 1;
    story_saw(1);
    story_trips("W2");
}

static void r19_a_snapshot_takes_something_back(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    const struct meta_group picture = {
        .group = STORY_GROUP, .replica = 13, .applied_index = 1, .applied_term = 2, .snapshot_lsn = 5};
    const struct meta_group old = {.group = STORY_GROUP, .replica = 13, .snapshot_lsn = 1};
    disk__picture(story.judge, &story.judge->machines[3], &old);
    story_is_good();
    disk__picture(story.judge, &story.judge->machines[3], &picture);
    story_trips("R19");
}

static void r20_who_was_wiped_votes(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    judge_wiped(story.judge, 2, NULL, NULL);
    story_hard_state(2, 2, 13);
    story_row(RAFT_VOTE_REPLY, 2, 3, 2, (struct judge_row){0});
    story_trips("R20");
}

static void r20_who_was_wiped_takes_itself_for_whole(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    judge_wiped(story.judge, 2, NULL, NULL);
    story.fakes[2].sight.term = 0;
    story_saw(2);
    story_trips("R20");
}

/* Its log may go: the picture that heals it has its term. */
static void who_is_damaged_refuses_in_a_term_that_its_disk_lacks(void **context)
{
    (void)context;
    const struct meta_group mark = {.group = STORY_GROUP, .replica = 12, .damaged = true, .damaged_lsn = 1};
    disk__picture(story.judge, &story.judge->machines[2], &mark);
    story_row(RAFT_VOTE_REPLY, 2, 3, 2, (struct judge_row){.flags = PEER_FLAG_REJECT});
    story_row(RAFT_BEAT_REPLY, 2, 3, 2, (struct judge_row){.flags = PEER_FLAG_DAMAGED});
    story_is_good();
    story_row(RAFT_BEAT_REPLY, 2, 3, 2, (struct judge_row){0});
    story_trips("R8");
}

static void r8_a_refusal_leaves_before_its_term_is_durable(void **context)
{
    (void)context;
    story_row(RAFT_VOTE_REPLY, 2, 3, 2, (struct judge_row){.flags = PEER_FLAG_REJECT});
    story_trips("R8");
}

/* It has everything again, and says so in the turn in which it knows, before it is looked at. */
static void r20_who_has_healed_speaks(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_stores(3, 1, 1);
    judge_wiped(story.judge, 3, NULL, NULL);
    story.fakes[3].sight.is_damaged = true;
    story_saw(3);
    story_hard_state(3, 1, 11);
    story_stores(3, 1, 1);
    story.fakes[3].sight.durable = 1;
    story.fakes[3].sight.is_damaged = false;
    story_row(RAFT_APPEND_REPLY, 3, 1, 1, (struct judge_row){.index = 1});
    story_saw(3);
    story_is_good();
}

/* What it has stored since then may be durable before its core hears so. */
static void r9_who_has_healed_stores_more(void **context)
{
    const struct meta_group row = {
        .group = STORY_GROUP, .replica = 13, .term = 1, .damaged = true, .healing = true, .snapshot_lsn = 4096};
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_replicate(1, 2, 2, 1);
    disk__picture(story.judge, &story.judge->machines[3], &row);
    story.fakes[3].sight.is_damaged = true;
    story_saw(3);
    story_hard_state(3, 1, 11);
    story_stores(3, 1, 1);
    story_stores(3, 2, 1);
    story.fakes[3].sight.durable = 1;
    story.fakes[3].sight.is_damaged = false;
    story_saw(3);
    story.fakes[3].sight.durable = 2;
    story_saw(3);
    story_is_good();
}

static void r20_who_has_not_healed_speaks(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_stores(3, 1, 1);
    judge_wiped(story.judge, 3, NULL, NULL);
    story.fakes[3].sight.is_damaged = true;
    story_saw(3);
    story_hard_state(3, 1, 11);
    story.fakes[3].sight.is_damaged = false;
    story_row(RAFT_APPEND_REPLY, 3, 1, 1, (struct judge_row){0});
    story_trips("R20");
}

/* What a proof that nobody can help may count on. */
static void who_has_all_that_it_ever_had_is_sound(void **context)
{
    (void)context;
    const struct meta_group mark = {.group = STORY_GROUP, .replica = 13, .damaged = true, .damaged_lsn = 1};
    assert_false(judge_is_sound(story.judge, STORY_GROUP, 12)); /* nobody has heard of it */
    assert_false(judge_is_sound(story.judge, STORY_GROUP + 1, 12));
    story_record(2, WAL_GROUP_NEW, 0, 0, "");
    story_record(3, WAL_GROUP_NEW, 0, 0, "");
    story_elect(1, 2, 1);
    assert_true(judge_is_sound(story.judge, STORY_GROUP, 12) && judge_is_sound(story.judge, STORY_GROUP, 13));
    disk__picture(story.judge, &story.judge->machines[3], &mark);
    assert_false(judge_is_sound(story.judge, STORY_GROUP, 13));
    judge_wiped(story.judge, 2, NULL, NULL);
    assert_false(judge_is_sound(story.judge, STORY_GROUP, 12));
    story_is_good();
}

static void who_has_ended_is_not_sound(void **context)
{
    (void)context;
    story_record(2, WAL_GROUP_NEW, 0, 0, "");
    assert_true(judge_is_sound(story.judge, STORY_GROUP, 12));
    story_record(2, WAL_GROUP_DEAD, 0, 0, "");
    assert_false(judge_is_sound(story.judge, STORY_GROUP, 12));
    story_is_good();
}

static void r20_somebody_speaks_for_another(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    struct judge_row r = {.type = RAFT_BEAT, .group = STORY_GROUP, .from = 11, .to = 12, .term = 1};
    send__row(story.judge, &story.judge->machines[3], &r);
    story_trips("R20");
}

static void b11_equal_logs_make_unequal_states(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_commits(2, 1);
    story_is_good();
    story_replicate(1, 2, 2, 1);
    story.fakes[2].state = 2;
    story_commits(2, 2);
    story_trips("B11");
}

/* While a snapshot is installed its log is closed: where that begins and ends nobody can say. */
static void b11_a_state_that_is_not_known_just_now(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story.fakes[2].state = 0;
    story_commits(2, 1);
    story_replicate(1, 2, 2, 1);
    story_commits(2, 2);
    story_commits(1, 2);
    story_is_good();
    story_replicate(1, 2, 3, 1);
    story_commits(1, 3);
    story.fakes[2].state = 2;
    story_commits(2, 3);
    story_trips("B11");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)
    const struct CMUnitTest tests[] = {
        TEST(an_uncommitted_tail_is_cut_off),
        TEST(a_term_that_was_not_synced_may_go),
        TEST(r3_one_entry_is_two),
        TEST(r3_one_entry_has_two_histories),
        TEST(w1_a_minority_is_counted),
        TEST(w1_a_joint_configuration_that_is_tried),
        TEST(w1_who_had_it_is_damaged),
        TEST(w1_nobody_has_committed_what_is_acknowledged),
        TEST(w1_what_is_acknowledged_is_not_at_majorities),
        TEST(w1_what_is_acknowledged_is_older_than_the_configuration),
        TEST(r8_a_vote_leaves_before_it_is_durable),
        TEST(r8_a_candidate_asks_before_its_vote_is_durable),
        TEST(r8_two_votes_on_one_disk),
        TEST(r8_two_votes_over_a_loss),
        TEST(r8_a_row_leaves_before_its_term_is_durable),
        TEST(r9_an_acknowledgement_leaves_too_early),
        TEST(r9_another_entry_is_acknowledged),
        TEST(r9_a_leader_believes_too_much),
        TEST(r9_a_core_that_is_not_told_of_its_snapshot_yet),
        TEST(r9_what_is_released_does_not_count),
        TEST(r10_an_entry_is_written_over_another),
        TEST(r10_an_entry_is_cut_off_to_be_stored_again),
        TEST(r11_what_is_committed_is_cut_off),
        TEST(w2_an_entry_joins_nothing),
        TEST(w2_a_start_forgets_a_vote),
        TEST(w2_a_start_forgets_an_entry),
        TEST(r19_a_snapshot_takes_something_back),
        TEST(r20_who_was_wiped_votes),
        TEST(r20_who_was_wiped_takes_itself_for_whole),
        TEST(who_is_damaged_refuses_in_a_term_that_its_disk_lacks),
        TEST(r8_a_refusal_leaves_before_its_term_is_durable),
        TEST(r20_who_has_healed_speaks),
        TEST(r9_who_has_healed_stores_more),
        TEST(r20_who_has_not_healed_speaks),
        TEST(who_has_all_that_it_ever_had_is_sound),
        TEST(who_has_ended_is_not_sound),
        TEST(r20_somebody_speaks_for_another),
        TEST(b11_equal_logs_make_unequal_states),
        TEST(b11_a_state_that_is_not_known_just_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
