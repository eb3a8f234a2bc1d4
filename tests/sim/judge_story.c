/* See judge_story.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "broker/entry.h"
#include "judge_story.h"

struct story story;

/* --- what a replica shows --- */

static uint64_t term_of(const void *context, uint64_t index)
{
    const struct fake *f = context;
    return index >= f->base && index <= f->sight.last ? f->terms[index] : 0;
}

static bool payload(const void *context, uint64_t index, uint32_t *ret_crc)
{
    const struct fake *f = context;
    (void)index;
    *ret_crc = f->crc;
    return f->crc != 0;
}

static bool peer(const void *context, uint64_t replica, struct raft_peer_state *ret_state)
{
    const struct fake *f = context;
    *ret_state = f->peers[replica - 10];
    return f->sight.role == RAFT_LEADER;
}

static uint64_t state(const void *context)
{
    return ((const struct fake *)context)->state;
}

static bool look_at_fake(const struct judge_replica *r, struct judge_sight *ret_sight)
{
    const struct fake *f = &story.fakes[r->broker];
    *ret_sight = f->sight;
    return f->is_up;
}

void story_saw(uint64_t n)
{
    struct judge_group *group = judge__group(story.judge, STORY_GROUP);
    if (!story.world.failed) {
        story.fakes[n].sight.last_term = story.fakes[n].terms[story.fakes[n].sight.last];
        raft__saw(story.judge, group, judge__replica_on(group, 10 + n, n), &story.fakes[n].sight);
    }
}

void story_saw_all(void)
{
    for (uint64_t n = 1; n <= 3; n++) {
        story_saw(n);
    }
}

/* --- what its disk gets, and what leaves it --- */

void story_record(uint64_t n, enum wal_record_type type, uint64_t index, uint64_t term, const char *text)
{
    const struct wal_record r = {.type = type,
                                 .entry_type = ENTRY_TIMEOUT,
                                 .group = STORY_GROUP,
                                 .replica = 10 + n,
                                 .index = index,
                                 .term = term,
                                 .payload = {.data = (const uint8_t *)text, .size = (uint32_t)strlen(text)}};
    struct judge_machine *machine = &story.judge->machines[n];
    story.fakes[n].lsn += 4096;
    disk__record(story.judge, machine, &r, story.fakes[n].lsn);
    machine->top_lsn = story.fakes[n].lsn;
}

void story_hard_state(uint64_t n, uint64_t term, uint64_t vote)
{
    story_record(n, WAL_HARD_STATE, vote, term, "");
}

void story_has(uint64_t n, uint64_t index, uint64_t term)
{
    story.fakes[n].terms[index] = term;
    story.fakes[n].sight.last = index;
}

/* In its log and on its disk; the text follows from index and term. */
void story_stores(uint64_t n, uint64_t index, uint64_t term)
{
    char text[32];
    snprintf(text, sizeof text, "%d of %d", (int)index, (int)term);
    story_has(n, index, term);
    story_record(n, WAL_ENTRY, index, term, text);
}

void story_row(enum raft_message_type type, uint64_t from, uint64_t to, uint64_t term, struct judge_row r)
{
    r.type = type;
    r.group = STORY_GROUP;
    r.from = 10 + from;
    r.to = 10 + to;
    r.term = term;
    if (!story.world.failed) {
        send__row(story.judge, &story.judge->machines[from], &r);
    }
}

void story_ack(uint64_t from, uint64_t to, uint64_t term, uint64_t index)
{
    story_row(RAFT_APPEND_REPLY, from, to, term, (struct judge_row){.index = index});
    story.fakes[to].peers[from].match = index;
    story.fakes[to].peers[from].next = index + 1;
}

void story_commits(uint64_t n, uint64_t index)
{
    story.fakes[n].sight.commit = story.fakes[n].sight.applied = index;
    story.fakes[n].sight.has_own_commit = story.fakes[n].terms[index] == story.fakes[n].sight.term;
    story_saw(n);
}

void story_passes(uint64_t ms)
{
    story.world.now_us += ms * 1000;
}

/* --- the story --- */

void story_wish(uint64_t n, uint64_t by, uint64_t term)
{
    story_row(RAFT_VOTE_REPLY, by, n, term, (struct judge_row){.flags = PEER_FLAG_PRE});
}

void story_vote(uint64_t n, uint64_t by, uint64_t term)
{
    story.fakes[by].sight.term = term;
    story_hard_state(by, term, 10 + n);
    story_row(RAFT_VOTE_REPLY, by, n, term, (struct judge_row){0});
    story_saw(by);
}

void story_campaigns(uint64_t n, uint64_t term)
{
    story.fakes[n].sight.term = term;
    story.fakes[n].sight.role = RAFT_CANDIDATE;
    story_saw(n);
    story_hard_state(n, term, 10 + n);
    story_row(RAFT_VOTE_REQUEST, n, 1 + n % 3, term, (struct judge_row){0});
}

void story_leads(uint64_t n)
{
    story.fakes[n].sight.role = RAFT_LEADER;
    story.fakes[n].sight.has_own_commit = false;
    for (uint64_t other = 1; other <= 3; other++) {
        story.fakes[n].peers[other] = (struct raft_peer_state){.next = story.fakes[n].sight.last + 1};
        if (other != n && story.fakes[other].sight.role == RAFT_LEADER) {
            story.fakes[other].sight.role = RAFT_FOLLOWER;
        }
    }
    story_saw(n);
}

void story_elect(uint64_t n, uint64_t by, uint64_t term)
{
    story_wish(n, by, term);
    story_campaigns(n, term);
    story_vote(n, by, term);
    story_leads(n);
}

/* The leader's next entry is stored by itself and by these, who say so, and committed. */
void story_replicate(uint64_t leader, uint64_t by, uint64_t index, uint64_t term)
{
    story_stores(leader, index, term);
    story_stores(by, index, term);
    story_ack(by, leader, term, index);
    story_commits(leader, index);
}

int story_begin(void **context)
{
    (void)context;
    memset(&story, 0, sizeof story);
    world_init(&story.world, 1);
    story.judge = judge_new(&story.world);
    story.judge->look = look_at_fake;
    raft_config_of_voters((const uint64_t[]){11, 12, 13}, 3, &story.config);
    for (uint64_t n = 1; n <= 3; n++) {
        struct fake *f = &story.fakes[n];
        judge_machine(story.judge, n, NULL, NULL);
        f->is_up = true;
        f->sight = (struct judge_sight){.group = STORY_GROUP,
                                        .replica = 10 + n,
                                        .broker = n,
                                        .config = &story.config,
                                        .accepts = true,
                                        .is_said = true,
                                        .heartbeat_ms = 100,
                                        .election_ms = 800,
                                        .context = f,
                                        .term_of = term_of,
                                        .payload = payload,
                                        .peer = peer,
                                        .state = state};
        f->state = 1;
    }
    story_saw_all();
    return 0;
}

int story_end(void **context)
{
    (void)context;
    judge_free(story.judge);
    world_done(&story.world);
    return 0;
}

void story_trips(const char *check)
{
    assert_true(story.world.failed);
    assert_string_equal(story.world.failed_check, check);
}

void story_is_good(void)
{
    if (story.world.failed) {
        fail_msg("%s: %s", story.world.failed_check, story.world.failed_text);
    }
}
