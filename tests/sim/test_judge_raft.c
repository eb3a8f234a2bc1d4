/* The rules that replicas are seen to keep or to break: a good story, and for each rule one that must trip it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "judge_story.h"

static void a_good_story_passes(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_hard_state(3, 1, 0);
    story_stores(3, 1, 1);
    story_replicate(1, 3, 2, 1);
    story_commits(2, 1);
    story_stores(1, 3, 1);
    story_elect(3, 2, 2);
    story_is_good();
    for (enum sim_judge j = 0; j < JUDGES_ALL; j++) {
        bool is_meant = j == JUDGE_R1 || j == JUDGE_R3 || j == JUDGE_R4 || j == JUDGE_R5 || j == JUDGE_R6 ||
                        j == JUDGE_R7 || j == JUDGE_R8 || j == JUDGE_R9 || j == JUDGE_R12 || j == JUDGE_R18 ||
                        j == JUDGE_W1;
        assert_true(!is_meant || story.world.tally.judged[j] > 0);
    }
}

static void r1_two_leaders_of_one_term(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story.fakes[3].sight.term = 1;
    story.fakes[3].sight.role = RAFT_LEADER;
    story_hard_state(3, 1, 13);
    story_saw(3);
    story_trips("R1");
}

static void r1_a_row_of_who_does_not_lead(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_hard_state(3, 1, 0);
    story_row(RAFT_BEAT, 3, 2, 1, (struct judge_row){0});
    story_trips("R1");
}

static void r2_a_leader_shrinks_its_log(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story_stores(1, 2, 1);
    story_saw(1);
    story.fakes[1].sight.last = 1;
    story_saw(1);
    story_trips("R2");
}

static void r2_a_leader_changes_its_log(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_elect(2, 3, 2);
    story_stores(2, 2, 2);
    story_saw(2);
    story.fakes[2].terms[2] = 1;
    story_stores(2, 3, 2);
    story.fakes[2].sight.last = 2;
    story_saw(2);
    story_trips("R2");
}

static void r4_a_leader_lacks_what_is_committed(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_elect(3, 2, 2);
    story_trips("R4");
}

static void r4_what_is_committed_stands_on_something_else(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_hard_state(3, 2, 13);
    story_stores(3, 1, 2); /* two histories, as a broken vote would make them */
    story_wish(3, 2, 2);
    story.fakes[3].sight.term = 2;
    story.fakes[3].sight.role = RAFT_CANDIDATE;
    story_saw(3);
    story_stores(3, 2, 2);
    judge__replica(judge__group(story.judge, STORY_GROUP), 12)->is_lost = false;
    story_hard_state(2, 2, 13);
    story_record(2, WAL_ENTRY, 2, 2, "2 of 2"); /* behind the committed one */
    story_trips("R3");
}

static void r6_commit_falls(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_replicate(1, 2, 2, 1);
    story_commits(1, 1);
    story_trips("R6");
}

static void r6_a_durable_term_falls(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    judge_dies(story.judge, 1);
    story.fakes[1].sight.term = 0;
    story.fakes[1].sight.role = RAFT_FOLLOWER;
    story_saw(1);
    story_trips("R6");
}

static void r6_next_is_not_above_match(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story.fakes[1].peers[2].next = 1;
    story_saw(1);
    story_trips("R6");
}

static void r5_a_follower_commits_what_no_leader_has(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story_stores(2, 1, 1);
    story_commits(2, 1);
    story_trips("R5");
}

/* Elected, and removed by what it commits, all between two looks. */
static void r5_a_leader_for_a_moment_commits(void **context)
{
    (void)context;
    story_wish(1, 2, 1);
    story_campaigns(1, 1);
    story_vote(1, 2, 1);
    story_stores(1, 1, 1);
    story_row(RAFT_APPEND, 1, 2, 1, (struct judge_row){.count = 1});
    story_stores(2, 1, 1);
    story_row(RAFT_APPEND_REPLY, 2, 1, 1, (struct judge_row){.index = 1});
    story.fakes[1].sight.role = RAFT_FOLLOWER;
    story_commits(1, 1);
    story_is_good();
    story_stores(2, 2, 1);
    story_stores(3, 1, 1);
    story_stores(3, 2, 1);
    story_commits(2, 2); /* who never led */
    story_trips("R5");
}

static void r5_a_follower_commits_another_entry(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_stores(3, 1, 0 + 1);
    story_elect(2, 3, 2);
    story_stores(2, 1, 2);
    story_stores(1, 1, 1);
    story_hard_state(3, 2, 12);
    story_record(3, WAL_TRUNCATE, 1, 2, "");
    story_stores(3, 1, 2);
    story_ack(3, 2, 2, 1);
    story_commits(2, 1);
    story.fakes[1].sight.role = RAFT_FOLLOWER;
    story_commits(1, 1);
    story_trips("R5");
}

/* Entry 1 comes from the leader; 3 stores it. */
static void show_the_first_entry_to_3(void)
{
    story_passes(20000);
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_row(RAFT_APPEND, 1, 3, 1, (struct judge_row){.index = 0, .count = 1, .commit = 1});
    story.fakes[3].sight.term = 1;
    story_hard_state(3, 1, 0);
    story_stores(3, 1, 1);
    story_saw(3);
}

static void r5_a_follower_commits_what_nobody_showed_it(void **context)
{
    (void)context;
    show_the_first_entry_to_3();
    story_commits(3, 1);
    story_replicate(1, 2, 2, 1);
    story_stores(3, 2, 1);
    story_saw(3);
    story_is_good();
    story_commits(3, 2); /* it has the right one, and cannot know */
    story_trips("R5");
}

static void r5_a_follower_commits_what_it_saw_in_an_earlier_life(void **context)
{
    (void)context;
    show_the_first_entry_to_3();
    judge_dies(story.judge, 3);
    story_saw(3);
    story_is_good();
    story_commits(3, 1);
    story_trips("R5");
}

static void r5_frames_may_come_again_in_the_next_life(void **context)
{
    (void)context;
    judge_replays(story.judge);
    show_the_first_entry_to_3();
    judge_dies(story.judge, 3);
    story_saw(3);
    story_commits(3, 1);
    story_is_good();
}

static void r5_a_snapshot_commits_too(void **context)
{
    (void)context;
    show_the_first_entry_to_3();
    story_replicate(1, 2, 2, 1);
    story.fakes[3].sight.installs++;
    story.fakes[3].terms[2] = 1;
    story.fakes[3].base = story.fakes[3].sight.last = 2;
    story_commits(3, 2);
    story_is_good();
}

static void r5_other_bytes_are_applied(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story.fakes[1].crc = 77;
    story_replicate(1, 2, 1, 1);
    story_trips("R5");
}

static void r5_a_row_says_that_more_is_committed(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story_row(RAFT_BEAT, 1, 2, 1, (struct judge_row){.commit = 1});
    story_trips("R5");
}

static void r7_an_older_entry_is_counted(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story_stores(2, 1, 1);
    story_elect(2, 3, 2);
    story_stores(3, 1, 1);
    story_commits(2, 1);
    story_trips("R7");
}

static void r18_learners_are_not_counted(void **context)
{
    (void)context;
    story.config.members[2].now = story.config.members[2].next = RAFT_LEARNER;
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story_stores(3, 1, 1);
    story_commits(1, 1);
    story_trips("W1");
    assert_true(story.world.tally.judged[JUDGE_R18] > 0);
}

static void r18_both_halves_are_counted(void **context)
{
    (void)context;
    story.config.members[0].next = story.config.members[1].next = RAFT_ABSENT;
    story_wish(1, 3, 1);
    story_elect(1, 2, 1);
    story_trips("R18");
}

static void r12_a_term_is_raised_by_itself(void **context)
{
    (void)context;
    story_campaigns(1, 1);
    story_trips("R12");
}

static void r12_a_forced_vote_that_nobody_asked_for(void **context)
{
    (void)context;
    story_wish(1, 2, 1);
    story.fakes[1].sight.term = 1;
    story.fakes[1].sight.role = RAFT_CANDIDATE;
    story_saw(1);
    story_hard_state(1, 1, 11);
    story_row(RAFT_VOTE_REQUEST, 1, 2, 1, (struct judge_row){.flags = PEER_FLAG_FORCE});
    story_trips("R12");
}

static void r13_a_leader_that_hears_nobody(void **context)
{
    (void)context;
    judge_delivered(story.judge, 2, 1, NULL, 0);
    story_elect(1, 2, 1);
    for (int i = 0; i < 30; i++) {
        story_passes(100);
        story_row(RAFT_BEAT, 1, 2, 1, (struct judge_row){0});
        story_row(RAFT_BEAT, 1, 3, 1, (struct judge_row){0});
        story_saw(1);
        if (i == 15) {
            story_is_good(); /* it has until two election timeouts are over */
        }
    }
    story_trips("R13");
}

/* Who has been silent for long is needed from this turn on, and has an election timeout like anybody. */
static void r13_a_configuration_that_needs_who_is_silent(void **context)
{
    (void)context;
    struct raft_config plain, joint;
    raft_config_of_voters((const uint64_t[]){11, 13}, 2, &plain);
    assert_true(raft_config_join(&story.config, &plain, &joint));
    judge_delivered(story.judge, 2, 1, NULL, 0);
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    for (int i = 0; i < 45; i++) {
        story_passes(100);
        judge_delivered(story.judge, 2, 1, NULL, 0);
        story_row(RAFT_BEAT, 1, 2, 1, (struct judge_row){0});
        story_row(RAFT_BEAT, 1, 3, 1, (struct judge_row){0});
        if (i == 20) {
            story_stores(1, 2, 1);
            story.fakes[1].sight.config = &joint;
            story.fakes[1].sight.config_index = 2;
        }
        story_saw(1);
        if (i == 30) {
            story_is_good();
        }
    }
    story_trips("R13");
}

/* Its own removal is committed: it asks somebody to campaign and is gone before that leaves. */
static void r12_a_leader_asked_for_it_and_is_gone(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story.fakes[1].is_up = false;
    story_row(RAFT_TIMEOUT_NOW, 1, 2, 1, (struct judge_row){0});
    story.fakes[2].sight.term = 2;
    story.fakes[2].sight.role = RAFT_CANDIDATE;
    story_saw(2);
    story_is_good();
}

/* Nobody says anything for the group, brokers speak all the same, or do not. */
static void r13_a_leader_that_sleeps(void **context)
{
    (void)context;
    judge_delivered(story.judge, 2, 1, NULL, 0);
    story_elect(1, 2, 1);
    story.fakes[1].sight.is_quiet = true;
    for (int i = 0; i < 60; i++) {
        story_passes(100);
        judge_delivered(story.judge, 2, 1, NULL, 0);
        story_saw(1);
    }
    story_is_good();
    for (int i = 0; i < 40; i++) {
        story_passes(100);
        story_saw(1);
        if (i == 15) {
            story_is_good();
        }
    }
    story_trips("R13");
}

static void r14_takes_entries_while_it_gives_way(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_row(RAFT_TIMEOUT_NOW, 1, 2, 1, (struct judge_row){0});
    story_trips("R14");
}

static void r14_gives_way_to_who_lacks_entries(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story.fakes[1].sight.accepts = false;
    story_row(RAFT_TIMEOUT_NOW, 1, 3, 1, (struct judge_row){0});
    story_trips("R14");
}

/* Of a group that is deleted: not everybody has heard so. */
static void leadership_may_be_given_to_who_has_ended(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_record(2, WAL_GROUP_DEAD, 0, 0, "");
    story.fakes[1].sight.accepts = false;
    story_row(RAFT_TIMEOUT_NOW, 1, 2, 1, (struct judge_row){0});
    story_is_good();
}

static void r14_gives_way_for_ever(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story.fakes[1].sight.accepts = false;
    for (int i = 0; i < 30; i++) {
        story_saw(1);
        if (i == 22) {
            story_is_good(); /* ticks may come late */
        }
        if (i == 23) {
            story_trips("R14");
        }
        story_passes(50);
        story_row(RAFT_BEAT, 1, 2, 1, (struct judge_row){0});
        story_row(RAFT_BEAT, 1, 3, 1, (struct judge_row){0});
    }
    story_trips("R14");
}

static void r15_a_read_that_majorities_have_not_confirmed(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_row(RAFT_BEAT_REPLY, 2, 1, 1, (struct judge_row){.round = 1});
    story.fakes[1].sight.round = 1;
    story_saw(1);
    story_is_good();
    story.fakes[1].sight.round = 2;
    story_saw(1);
    story_trips("R15");
}

/* An answer to a leader that is over leaves in another frame, behind that to the present one. */
static void r15_an_earlier_answer_leaves_later(void **context)
{
    (void)context;
    story_elect(1, 3, 1);
    story_replicate(1, 3, 1, 1);
    story_stores(2, 1, 1);
    story_elect(2, 3, 2);
    story_replicate(2, 3, 2, 2);
    story_row(RAFT_BEAT_REPLY, 3, 2, 2, (struct judge_row){.round = 3});
    story_row(RAFT_BEAT_REPLY, 3, 1, 1, (struct judge_row){.round = 0});
    story.fakes[2].sight.round = 3;
    story_saw(2);
    story_is_good();
    story.fakes[2].sight.round = 4;
    story_saw(2);
    story_trips("R15");
}

/* Confirmed by those who were asked; the joint configuration that follows in the same turn would want more. */
static void r15_a_change_of_members_behind_the_answers(void **context)
{
    struct raft_config plain, joint;
    (void)context;
    raft_config_of_voters((const uint64_t[]){11, 13}, 2, &plain);
    assert_true(raft_config_join(&story.config, &plain, &joint));
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    story_row(RAFT_BEAT_REPLY, 2, 1, 1, (struct judge_row){.round = 1});
    story_stores(1, 2, 1);
    story.fakes[1].sight.config = &joint;
    story.fakes[1].sight.config_index = 2;
    story.fakes[1].sight.round = 1;
    story_saw(1);
    story_is_good();
    story_row(RAFT_BEAT_REPLY, 2, 1, 1, (struct judge_row){.round = 2});
    story.fakes[1].sight.round = 2;
    story_saw(1);
    story_trips("R15");
}

static void r15_a_read_before_an_own_commit(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_row(RAFT_BEAT_REPLY, 2, 1, 1, (struct judge_row){.round = 1});
    story.fakes[1].sight.round = 1;
    story_saw(1);
    story_trips("R15");
}

static void r15_an_end_that_is_older_than_the_question(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story.fakes[1].sight.end = 8;
    story_replicate(1, 2, 1, 1);
    int64_t begun = judge_read_begin(story.judge, STORY_GROUP);
    judge_read_end(story.judge, STORY_GROUP, begun, 8);
    story_is_good();
    judge_read_end(story.judge, STORY_GROUP, begun, 7);
    story_trips("R15");
}

static void changes(const struct raft_config *next)
{
    uint64_t index = story.fakes[1].sight.last + 1;
    story_stores(1, index, 1);
    story.fakes[1].sight.config = next;
    story.fakes[1].sight.config_index = index;
    story_saw(1);
}

static void r17_voters_change_through_a_joint_one(void **context)
{
    struct raft_config plain, joint;
    (void)context;
    raft_config_of_voters((const uint64_t[]){11, 12}, 2, &plain);
    assert_true(raft_config_join(&story.config, &plain, &joint));
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    changes(&joint);
    story_stores(2, 2, 1);
    story_ack(2, 1, 1, 2);
    story_commits(1, 2);
    raft_config_leave(&joint, &plain);
    changes(&plain);
    story_is_good();
    assert_int_equal(story.world.tally.judged[JUDGE_R17], 2);
}

static void r17_voters_change_at_once(void **context)
{
    struct raft_config plain;
    (void)context;
    raft_config_of_voters((const uint64_t[]){11, 12}, 2, &plain);
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    changes(&plain);
    story_trips("R17");
}

static void r17_two_changes_under_way(void **context)
{
    struct raft_config plain, joint;
    (void)context;
    raft_config_of_voters((const uint64_t[]){11, 12}, 2, &plain);
    assert_true(raft_config_join(&story.config, &plain, &joint));
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    changes(&joint);
    raft_config_leave(&joint, &plain);
    changes(&plain);
    story_trips("R17");
}

static void r17_a_change_before_an_own_commit(void **context)
{
    struct raft_config plain, joint;
    (void)context;
    raft_config_of_voters((const uint64_t[]){11, 12}, 2, &plain);
    assert_true(raft_config_join(&story.config, &plain, &joint));
    story_elect(1, 2, 1);
    changes(&joint);
    story_trips("R17");
}

static void r21_one_member_hears_nothing(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    for (int i = 0; i < 20; i++) {
        story_row(RAFT_BEAT, 1, 2, 1, (struct judge_row){0});
        story_passes(100);
        story_saw(1);
    }
    story_trips("R21");
}

/* --- who keeps books of his own --- */

static struct {
    uint32_t durable, committed;
    uint64_t index[8], term[8];
} books;

static void on_durable(void *context, const struct wal_record *record)
{
    (void)context, (void)record;
    books.durable++;
}

static void on_committed(void *context, uint64_t group, uint64_t index, uint64_t term)
{
    (void)context;
    assert_int_equal(group, STORY_GROUP);
    books.index[books.committed] = index;
    books.term[books.committed++] = term;
}

static void a_watcher_hears_of_each_entry_once_and_of_commits_in_order(void **context)
{
    static const uint64_t terms[] = {1, 1, 2};
    (void)context;
    memset(&books, 0, sizeof books);
    judge_watch(story.judge, &(struct judge_watcher){.durable = on_durable, .committed = on_committed});
    story_elect(1, 2, 1);
    story_stores(1, 1, 1);
    story_stores(1, 2, 1);
    story_stores(2, 1, 1);
    story_stores(2, 2, 1);
    story_stores(1, 3, 1); /* nobody else ever has it */
    assert_int_equal(books.durable, 3);
    story_ack(2, 1, 1, 2);
    assert_int_equal(books.committed, 0);
    story_commits(1, 2);
    story_elect(2, 3, 2);
    story_hard_state(3, 2, 12);
    story_stores(3, 1, 1);
    story_stores(3, 2, 1);
    story_replicate(2, 3, 3, 2);
    story_is_good();
    assert_int_equal(books.durable, 4);
    assert_int_equal(books.committed, 3);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(books.index[i], i + 1);
        assert_int_equal(books.term[i], terms[i]);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)
    const struct CMUnitTest tests[] = {
        TEST(a_good_story_passes),
        TEST(r1_two_leaders_of_one_term),
        TEST(r1_a_row_of_who_does_not_lead),
        TEST(r2_a_leader_shrinks_its_log),
        TEST(r2_a_leader_changes_its_log),
        TEST(r4_a_leader_lacks_what_is_committed),
        TEST(r4_what_is_committed_stands_on_something_else),
        TEST(r6_commit_falls),
        TEST(r6_a_durable_term_falls),
        TEST(r6_next_is_not_above_match),
        TEST(r5_a_follower_commits_what_no_leader_has),
        TEST(r5_a_leader_for_a_moment_commits),
        TEST(r5_a_follower_commits_another_entry),
        TEST(r5_a_follower_commits_what_nobody_showed_it),
        TEST(r5_a_follower_commits_what_it_saw_in_an_earlier_life),
        TEST(r5_frames_may_come_again_in_the_next_life),
        TEST(r5_a_snapshot_commits_too),
        TEST(r5_other_bytes_are_applied),
        TEST(r5_a_row_says_that_more_is_committed),
        TEST(r7_an_older_entry_is_counted),
        TEST(r18_learners_are_not_counted),
        TEST(r18_both_halves_are_counted),
        TEST(r12_a_term_is_raised_by_itself),
        TEST(r12_a_forced_vote_that_nobody_asked_for),
        TEST(r12_a_leader_asked_for_it_and_is_gone),
        TEST(r13_a_leader_that_hears_nobody),
        TEST(r13_a_configuration_that_needs_who_is_silent),
        TEST(r13_a_leader_that_sleeps),
        TEST(r14_takes_entries_while_it_gives_way),
        TEST(r14_gives_way_to_who_lacks_entries),
        TEST(leadership_may_be_given_to_who_has_ended),
        TEST(r14_gives_way_for_ever),
        TEST(r15_a_read_that_majorities_have_not_confirmed),
        TEST(r15_an_earlier_answer_leaves_later),
        TEST(r15_a_change_of_members_behind_the_answers),
        TEST(r15_a_read_before_an_own_commit),
        TEST(r15_an_end_that_is_older_than_the_question),
        TEST(r17_voters_change_through_a_joint_one),
        TEST(r17_voters_change_at_once),
        TEST(r17_two_changes_under_way),
        TEST(r17_a_change_before_an_own_commit),
        TEST(r21_one_member_hears_nothing),
        TEST(a_watcher_hears_of_each_entry_once_and_of_commits_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
