/* The Raft core as a leader, one replica at a time: the commit rule, probe and pipeline, windows, compaction. */
#include "raft_bench.h"

/* Dissertation figure 3.7 (figure 8 of the paper), from S1's side: the entry of term 2 on a majority is not committed
 * by being counted in term 4; an entry of term 4 on a majority commits both. */
static void older_terms_commit_only_with_an_entry_of_the_own_term(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 1}, {.term = 2, .count = 1}};
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 5, .term = 3, .runs = runs, .runs_count = 2});
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
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 3});
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
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 3, .term = 1, .runs = runs, .runs_count = 1});
    lead(b);
    submit(b, 1, 10);
    persist(b, b->write_id);
    receive(b, (struct raft_message){.type = RAFT_APPEND_REPLY, .from = 2, .term = 1, .index = 10});
    assert_int_equal(raft_commit_index(b->raft), 0);
    assert_int_equal(b->now_count, 0);
    ack(b, 2, 10);
    assert_int_equal(raft_commit_index(b->raft), 10);
}

static void leader_pipelines_after_the_first_answer(void **state)
{
    (void)state;
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 3});
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

static void heartbeats_go_to_everyone_and_carry_commit(void **state)
{
    (void)state;
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 3});
    lead(b);
    submit(b, 1, 10);
    persist(b, b->write_id);
    ack(b, 2, 1);
    assert_int_equal(b->commit, 1);
    assert_int_equal(raft_next_tick_ms(b->raft), b->now_ms + HEARTBEAT_MS);
    for (int i = 0; i < 5; i++) { /* 3 never answers, 2 does: both are told */
        tick(b, HEARTBEAT_MS);
        assert_int_equal(b->now_count, 2);
        assert_int_equal(b->now[0].to, 2);
        assert_int_equal(b->now[0].index, 1);
        assert_int_equal(b->now[0].count, 0);
        assert_int_equal(b->now[0].commit, 1);
        assert_int_equal(b->now[1].to, 3);
        step(b, (struct raft_event){.type = RAFT_UNREACHABLE, .peer = 3});
        assert_int_equal(b->now_count, 0); /* no spinning on a dead link */
    }
}

static void probe_skips_whole_terms_by_hints(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 100}, {.term = 4, .count = 50}, {.term = 6, .count = 50}};
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 3, .term = 6, .runs = runs, .runs_count = 3});
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
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 3});
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
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 3});
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
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 3});
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
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 3, .term = 2, .applied_index = 7, .runs = runs,
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

static void follower_below_the_base_is_probed_without_end(void **state)
{
    (void)state;
    struct bench *b = bench_new(&(struct raft_options){
        .voters_count = 3, .term = 2, .applied_index = 50, .base_index = 50, .base_term = 2});
    lead(b);
    submit(b, 1, 10);
    assert_int_equal(b->now[0].index, 50);
    assert_int_equal(b->now[0].index_term, 2);
    for (int i = 0; i < 20; i++) {
        refuse(b, 2, 50, 0, 1); /* an empty follower: needs a snapshot */
        assert_int_equal(b->now_count, 0);
        tick(b, HEARTBEAT_MS);
        assert_int_equal(b->now_count, 2);
        assert_int_equal(b->now[0].index, 50);
    }
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
}

static void leader_compacts_past_a_slow_follower(void **state)
{
    (void)state;
    struct bench *b = bench_new(&(struct raft_options){.voters_count = 3});
    lead(b);
    submit(b, 1, 10);
    ack(b, 2, 1);
    ack(b, 3, 1);
    submit(b, 9, 90);
    persist(b, b->write_id);
    ack(b, 2, 10);
    assert_int_equal(b->commit, 10);
    step(b, (struct raft_event){.type = RAFT_APPLIED, .index = 10});
    step(b, (struct raft_event){.type = RAFT_UNREACHABLE, .peer = 3});
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 10});
    tick(b, HEARTBEAT_MS);
    assert_int_equal(b->now_count, 2);
    assert_int_equal(b->now[1].to, 3);
    assert_int_equal(b->now[1].index, 10);
    ack(b, 3, 10); /* it had them all: only the answers were lost */
    submit(b, 1, 10);
    assert_int_equal(entries_sent(b, 3), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAFT_TEST(older_terms_commit_only_with_an_entry_of_the_own_term),
        RAFT_TEST(own_log_counts_when_durable_and_a_majority_of_others_suffices),
        RAFT_TEST(answers_to_an_earlier_leadership_do_not_count),
        RAFT_TEST(leader_pipelines_after_the_first_answer),
        RAFT_TEST(heartbeats_go_to_everyone_and_carry_commit),
        RAFT_TEST(probe_skips_whole_terms_by_hints),
        RAFT_TEST(refused_pipeline_falls_back_to_probe),
        RAFT_TEST(window_bounds_bytes_and_entries_in_flight),
        RAFT_TEST(entry_above_the_message_limit_travels_alone),
        RAFT_TEST(compaction_drops_terms_but_not_the_bases),
        RAFT_TEST(follower_below_the_base_is_probed_without_end),
        RAFT_TEST(leader_compacts_past_a_slow_follower),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
