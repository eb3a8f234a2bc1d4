/* What replicas answer when they are asked, and what the registry is told: votes, reads, leaders. For each rule a story
 * that must trip it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "judge_story.h"

/* A request for a vote of replica 11 comes to broker 2, in a delivery of its own. */
static void is_asked(uint64_t term, uint64_t index, uint64_t index_term, uint32_t flags)
{
    const struct judge_row row = {.type = RAFT_VOTE_REQUEST,
                                  .flags = flags,
                                  .group = STORY_GROUP,
                                  .from = 11,
                                  .to = 12,
                                  .term = term,
                                  .index = index,
                                  .index_term = index_term};
    story.judge->deliveries++;
    send__comes(story.judge, 2, &row);
}

static void refuses(uint64_t term, uint32_t flags)
{
    story_hard_state(2, term, 0);
    story_row(RAFT_VOTE_REPLY, 2, 1, term, (struct judge_row){.flags = PEER_FLAG_REJECT | flags});
}

static void r18_a_vote_is_refused_without_a_reason(void **context)
{
    (void)context;
    story_passes(10);
    is_asked(1, 0, 0, PEER_FLAG_PRE);
    refuses(0, PEER_FLAG_PRE);
    story_trips("R18");
}

static void r18_a_vote_is_refused_to_a_better_log(void **context)
{
    (void)context;
    story_passes(10);
    story.fakes[2].sight.term = 3;
    story_has(2, 5, 2);
    story.fakes[2].sight.last_term = 2;
    is_asked(4, 4, 3, 0);
    refuses(4, 0);
    story_trips("R18");
}

static void r18_a_vote_is_refused_with_a_reason(void **context)
{
    (void)context;
    struct judge_sight *s = &story.fakes[2].sight;
    const struct judge_sight before = *s;
    for (int reason = 0; reason < 8; reason++) {
        story_passes(10);
        *s = before;
        s->term = 1;
        s->last = reason == 0 ? 1 : 0; /* its log is longer, */
        s->vote = reason == 1 ? 13 : 0;
        s->leader = reason == 2 ? 13 : 0;
        s->is_quiet = reason == 3;
        s->is_damaged = reason == 4;
        is_asked(reason == 5 ? 0 : 1, 0, 0, 0); /* an old request, */
        if (reason >= 6) { /* or an earlier one had one, and its answer waits for the log, or for the end of the turn */
            s->leader = 13;
            is_asked(1, 0, 0, 0);
            s->leader = 0;
            s->is_said = reason == 7;
            story_passes(reason == 6 ? 10 : 0);
            is_asked(1, 0, 0, 0);
        }
        *s = before;
        s->term = 1;
        refuses(1, reason == 4 ? PEER_FLAG_DAMAGED : 0);
        story_is_good();
    }
}

static void r18_what_came_with_the_request_may_be_the_reason(void **context)
{
    (void)context;
    const struct judge_row beat = {.type = RAFT_BEAT, .group = STORY_GROUP, .from = 11, .to = 12, .term = 1};
    const struct judge_row request = {
        .type = RAFT_VOTE_REQUEST, .flags = PEER_FLAG_PRE, .group = STORY_GROUP, .from = 11, .to = 12, .term = 1};
    story_passes(10);
    story.judge->deliveries++;
    send__comes(story.judge, 2, &beat);
    send__comes(story.judge, 2, &request);
    refuses(1, PEER_FLAG_PRE);
    story_is_good();
}

static void r15_a_read_waits_for_a_round_of_its_own(void **context)
{
    (void)context;
    struct judge_sight *s = &story.fakes[1].sight;
    story_elect(1, 2, 1);
    story_replicate(1, 2, 1, 1);
    s->waits_for = 4;
    s->told_round = 3;
    story_saw(1);
    story_is_good();
    s->told_round = 4; /* and it was not answered by it */
    story_saw(1);
    story_trips("R15");
}

static void z1_a_leader_is_published(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    judge_published(story.judge, STORY_GROUP, 1, 1);
    story_elect(2, 3, 2);
    judge_published(story.judge, STORY_GROUP, 1, 1); /* late, and still true */
    judge_published(story.judge, STORY_GROUP, 2, 2);
    story.fakes[3].sight.term = 3;
    story.fakes[3].sight.role = RAFT_LEADER; /* in this very turn */
    judge_published(story.judge, STORY_GROUP, 3, 3);
    story_is_good();
}

static void z1_another_one_is_published(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    story_elect(2, 3, 2);
    judge_published(story.judge, STORY_GROUP, 1, 2); /* an old leader in a new term */
    story_trips("Z1");
}

static void z1_a_term_that_nobody_leads_is_published(void **context)
{
    (void)context;
    story_elect(1, 2, 1);
    judge_published(story.judge, STORY_GROUP, 1, 7);
    story_trips("Z1");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, story_begin, story_end)
    const struct CMUnitTest tests[] = {
        TEST(r18_a_vote_is_refused_without_a_reason),
        TEST(r18_a_vote_is_refused_to_a_better_log),
        TEST(r18_a_vote_is_refused_with_a_reason),
        TEST(r18_what_came_with_the_request_may_be_the_reason),
        TEST(r15_a_read_waits_for_a_round_of_its_own),
        TEST(z1_a_leader_is_published),
        TEST(z1_another_one_is_published),
        TEST(z1_a_term_that_nobody_leads_is_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
