/* The Raft core as a leader, one replica at a time: the commit rule, probe and pipeline, windows, compaction. */
#include "raft_bench.h"

/* Dissertation figure 3.7 (figure 8 of the paper), from S1's side: the entry of term 2 on a majority is not committed
 * by being counted in term 4; an entry of term 4 on a majority commits both. */
static void older_terms_commit_only_with_an_entry_of_the_own_term(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 1}, {.term = 2, .count = 1}};
    struct bench *b = bench_new(5, &(struct raft_options){.term = 3, .runs = runs, .runs_count = 2});
    lead(b);
    assert_int_equal(raft_term(b->raft), 4);
    submit(b, 1, 10);
    ack(b, 2, 2);
    ack(b, 3, 2);
    assert_int_equal(raft_commit_index(b->raft), 0);
    persist(b, b->write_id); /* its own 3 is durable: still one of five */
    assert_int_equal(raft_commit_index(b->raft), 0);
    ack(b, 3, 3);
    assert_int_equal(raft_commit_index(b->raft), 0);
    ack(b, 2, 3);
    assert_int_equal(raft_commit_index(b->raft), 3);
}

static void own_log_counts_when_durable_and_a_majority_of_others_suffices(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    ack(b, 2, 1);
    assert_int_equal(raft_commit_index(b->raft), 0); /* own write not durable: one of three */
    ack(b, 3, 1);
    assert_int_equal(raft_commit_index(b->raft), 1); /* both others: enough without us */
    submit(b, 1, 10);
    persist(b, b->write_id);
    assert_int_equal(raft_commit_index(b->raft), 1);
    ack(b, 2, 2);
    assert_int_equal(raft_commit_index(b->raft), 2);
}

static void answers_to_an_earlier_leadership_do_not_count(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 9}};
    struct bench *b = bench_new(3, &(struct raft_options){.term = 1, .runs = runs, .runs_count = 1});
    lead(b);
    submit(b, 1, 10);
    persist(b, b->write_id);
    receive(b, (struct raft_message){.type = RAFT_APPEND_REPLY, .from = 2, .term = 1, .index = 10});
    assert_int_equal(raft_commit_index(b->raft), 0);
    assert_int_equal(b->now_count, 0);
    ack(b, 2, 10);
    assert_int_equal(raft_commit_index(b->raft), 10);
}

static void late_acknowledgements_take_nothing_back(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    struct raft_peer_state peer;
    lead(b);
    submit(b, 9, 90);
    ack(b, 2, 9);
    ack(b, 2, 3);
    assert_true(raft_peer_state(b->raft, 2, &peer));
    assert_int_equal(peer.match, 9);
    assert_int_equal(peer.next, 10);
    persist(b, b->write_id);
    assert_int_equal(raft_commit_index(b->raft), 9);
}

static void leader_pipelines_after_the_first_answer(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    assert_int_equal(b->now_count, 2); /* one probe each, with the LEADER entry */
    submit(b, 1, 10);
    assert_int_equal(b->now_count, 0);
    ack(b, 2, 1);
    assert_int_equal(b->now_count, 1);
    assert_int_equal(b->now[0].to, 2);
    assert_int_equal(b->now[0].index, 1);
    assert_int_equal(b->now[0].count, 1);
    submit(b, 1, 10); /* no waiting for 2 now */
    assert_int_equal(b->now_count, 1);
    assert_int_equal(b->now[0].index, 2);
    ack(b, 2, 1); /* repeated and reordered answers change nothing */
    assert_int_equal(b->now_count, 0);
}

static void beats_go_to_everyone_and_commit_what_is_known_to_match(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    persist(b, b->write_id);
    ack(b, 2, 1);
    assert_int_equal(b->commit, 1);
    assert_int_equal(raft_next_tick_ms(b->raft), b->now_ms + HEARTBEAT_MS);
    for (int i = 0; i < 5; i++) { /* 3 never answers, 2 does: both are told */
        tick(b, HEARTBEAT_MS);
        assert_int_equal(b->now_count, 2);
        assert_int_equal(sent_to(b, RAFT_BEAT, 2)->commit, 1);
        assert_int_equal(sent_to(b, RAFT_BEAT, 3)->commit, 0); /* it may hold another entry 1 */
        step(b, (struct raft_event){.type = RAFT_UNREACHABLE, .peer = 3});
        assert_int_equal(b->now_count, 0); /* no spinning on a dead link */
        answer_beat(b, 2, 1, 0);
        assert_int_equal(b->now_count, 0);
    }
}

static void answered_beat_tries_a_probe_again(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    tick(b, HEARTBEAT_MS);
    assert_int_equal(entries_sent(b, 3), 0); /* one probe is out */
    answer_beat(b, 3, 0, 0);
    assert_int_equal(entries_sent(b, 3), 1);
    assert_int_equal(sent_to(b, RAFT_APPEND, 3)->index, 0);
    assert_int_equal(entries_sent(b, 2), 0);
}

/* Nobody says so when an append is lost in the pipeline: an answered beat with no answer to an append since the one
 * before makes the leader ask. */
static void lost_append_is_found_by_a_beat(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    ack(b, 2, 1);
    submit(b, 1, 10); /* lost */
    assert_int_equal(entries_sent(b, 2), 1);
    tick(b, HEARTBEAT_MS);
    answer_beat(b, 2, 0, 0);
    assert_int_equal(b->now_count, 1);
    assert_int_equal(b->now[0].type, RAFT_APPEND);
    assert_int_equal(b->now[0].index, 2);
    assert_int_equal(b->now[0].count, 0);
    refuse(b, 2, 2, 0, 2);
    assert_int_equal(b->now[0].index, 1);
    assert_int_equal(entries_sent(b, 2), 1);
    ack(b, 2, 2);
    tick(b, HEARTBEAT_MS);
    submit(b, 1, 10);
    ack(b, 2, 3); /* an answer since the beat: nothing to ask */
    submit(b, 1, 10);
    answer_beat(b, 2, 0, 0);
    assert_int_equal(b->now_count, 0);
}

/* A follower that started anew commits by no beat before an append has shown it whose log it holds: it gets one. */
static void follower_that_cannot_commit_is_sent_an_append(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, 3);
    tick(b, HEARTBEAT_MS);
    answer_beat(b, 3, 1, 0);
    assert_int_equal(b->now_count, 0);
    answer_beat(b, 2, 0, 0);
    assert_int_equal(b->now_count, 1);
    assert_int_equal(b->now[0].type, RAFT_APPEND);
    assert_int_equal(b->now[0].index, 1);
    assert_int_equal(b->now[0].commit, 1);
}

static void leader_without_a_majority_steps_down(void **state)
{
    (void)state;
    struct bench *b = bench_new(5, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    for (int i = 0; i < 40; i++) { /* two of four answer, one each time by an append */
        tick(b, HEARTBEAT_MS);
        answer_beat(b, 4, 0, 0);
        ack(b, 5, 1);
        assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    }
    for (int i = 0; raft_role(b->raft) == RAFT_LEADER; i++) { /* one of four */
        assert_in_range(i, 0, 2 * ELECTION_MS / HEARTBEAT_MS);
        tick(b, HEARTBEAT_MS);
        answer_beat(b, 4, 0, 0);
    }
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    assert_int_equal(raft_term(b->raft), 1); /* in the same term: nobody is disturbed */
    assert_int_equal(raft_leader(b->raft), 0);
    assert_false(raft_accepts(b->raft));
}

/* The clock of the core stood still while its vote was on its way to the disk. */
static void new_leader_has_its_time_to_hear_from_others(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    campaign(b);
    grant(b, 2, 1);
    persist(b, b->write_id);
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    tick(b, 5 * ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
    tick(b, ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
}

static void probe_skips_whole_terms_by_hints(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 100}, {.term = 4, .count = 50}, {.term = 6, .count = 50}};
    struct bench *b = bench_new(3, &(struct raft_options){.term = 6, .runs = runs, .runs_count = 3});
    lead(b);
    submit(b, 1, 10);
    assert_int_equal(b->now[0].index, 200);
    refuse(b, 2, 200, 5, 120); /* it has term 5 from 120 on: we have none of it */
    assert_int_equal(b->now_count, 1);
    assert_int_equal(b->now[0].index, 119);
    refuse(b, 2, 200, 5, 120); /* repeated */
    assert_int_equal(b->now_count, 0);
    refuse(b, 2, 119, 3, 90); /* term 3 there: our last entry not above it is 100, of term 1 */
    assert_int_equal(b->now[0].index, 89);
    ack(b, 2, 89);
    assert_int_equal(b->now[0].index, 89);
    assert_int_equal(b->now[0].runs_count, 3);
    assert_int_equal(entries_sent(b, 2), 112); /* 90 .. 201 */
    refuse(b, 3, 200, 4, 60); /* it has term 4 there too, as we do up to 150 */
    assert_int_equal(b->now[0].index, 150);
    refuse(b, 3, 150, 0, 42); /* a short log, after all */
    assert_int_equal(b->now[0].index, 41);
}

static void refused_pipeline_falls_back_to_probe(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    ack(b, 2, 1);
    for (int i = 0; i < 4; i++) {
        submit(b, 1, 10); /* 2 .. 5, of which 3 gets lost */
    }
    refuse(b, 2, 3, 0, 3);
    assert_int_equal(b->now_count, 1);
    assert_int_equal(b->now[0].index, 2);
    refuse(b, 2, 4, 0, 3);
    assert_int_equal(b->now_count, 0);
    ack(b, 2, 2);
    assert_int_equal(b->now_count, 1);
    assert_int_equal(b->now[0].index, 2);
    assert_int_equal(b->now[0].count, 3);
    refuse(b, 2, 1, 0, 1); /* below what it has acknowledged: stale */
    assert_int_equal(b->now_count, 0);
    submit(b, 1, 10);
    assert_int_equal(b->now[0].index, 5);
}

static void window_bounds_bytes_and_entries_in_flight(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    ack(b, 2, 1);
    uint64_t sent = 0;
    for (int i = 0; i < 64; i++) {
        submit(b, 1, 1u << 20);
        sent += entries_sent(b, 2);
    }
    assert_int_equal(sent, RAFT_INFLIGHT_BYTES_MAX >> 20);
    ack(b, 2, 1 + 8);
    assert_int_equal(entries_sent(b, 2), 8);
    assert_true(b->now[0].count <= RAFT_APPEND_BYTES_MAX >> 20);
    for (int i = 0; i < 40; i++) {
        ack(b, 2, 65 < 9 + 8 * (uint64_t)i ? 65 : 9 + 8 * (uint64_t)i);
    }
    sent = 0;
    for (int i = 0; i < 100; i++) {
        submit(b, 200, 200);
        sent += entries_sent(b, 2);
    }
    assert_int_equal(sent, RAFT_INFLIGHT_ENTRIES_MAX);
}

static void entry_above_the_message_limit_travels_alone(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    ack(b, 2, 1);
    submit(b, 1, RAFT_APPEND_BYTES_MAX * 3);
    submit(b, 1, 10);
    submit(b, 1, RAFT_APPEND_BYTES_MAX * 3);
    assert_int_equal(b->now_count, 0); /* 24 MiB would not fit the window */
    ack(b, 2, 2);
    assert_int_equal(b->now_count, 1);
    assert_int_equal(b->now[0].index, 3);
    assert_int_equal(b->now[0].count, 1);
}

/* ---- compaction ---- */

static void compaction_drops_terms_but_not_the_bases(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 5}, {.term = 2, .count = 5}};
    struct bench *b = bench_new(3, &(struct raft_options){.term = 2, .applied_index = 7, .runs = runs,
                                                       .runs_count = 2});
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 5});
    assert_int_equal(raft_term_of(b->raft, 4), 0);
    assert_int_equal(raft_term_of(b->raft, 5), 1);
    assert_int_equal(raft_term_of(b->raft, 6), 2);
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 7});
    assert_int_equal(raft_term_of(b->raft, 7), 2);
    assert_int_equal(raft_last_index(b->raft), 10);
    append(b, 2, 3, 0, 0, 9, 2, 0); /* starts long below the base, ends below the log's end: nothing new */
    expect_answer(b, RAFT_APPEND_REPLY, false, 9);
    assert_int_equal(raft_last_index(b->raft), 10);
    append(b, 2, 3, 0, 0, 5, 1, 0); /* all of it compacted: known to match up to commit */
    expect_answer(b, RAFT_APPEND_REPLY, false, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAFT_TEST(older_terms_commit_only_with_an_entry_of_the_own_term),
        RAFT_TEST(own_log_counts_when_durable_and_a_majority_of_others_suffices),
        RAFT_TEST(answers_to_an_earlier_leadership_do_not_count),
        RAFT_TEST(late_acknowledgements_take_nothing_back),
        RAFT_TEST(leader_pipelines_after_the_first_answer),
        RAFT_TEST(beats_go_to_everyone_and_commit_what_is_known_to_match),
        RAFT_TEST(answered_beat_tries_a_probe_again),
        RAFT_TEST(lost_append_is_found_by_a_beat),
        RAFT_TEST(follower_that_cannot_commit_is_sent_an_append),
        RAFT_TEST(leader_without_a_majority_steps_down),
        RAFT_TEST(new_leader_has_its_time_to_hear_from_others),
        RAFT_TEST(probe_skips_whole_terms_by_hints),
        RAFT_TEST(refused_pipeline_falls_back_to_probe),
        RAFT_TEST(window_bounds_bytes_and_entries_in_flight),
        RAFT_TEST(entry_above_the_message_limit_travels_alone),
        RAFT_TEST(compaction_drops_terms_but_not_the_bases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
