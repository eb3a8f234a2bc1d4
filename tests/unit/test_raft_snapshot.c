/* Snapshots and the Raft core: which follower needs one, how it goes on afterwards, what an installed one changes. */
#include "raft_bench.h"

/* ---- leader ---- */

/* A leader of term 3 whose log begins at 51, with its LEADER entry, that 3 has refused: it lacks what is gone. */
static struct bench *leader_of_an_empty_follower(void)
{
    struct bench *b =
        bench_new(3, &(struct raft_options){.term = 2, .applied_index = 50, .base_index = 50, .base_term = 2});
    lead(b);
    submit(b, 1, 10);
    assert_int_equal(sent_to(b, RAFT_APPEND, 3)->index, 50);
    refuse(b, 3, 50, 0, 1);
    return b;
}

static void snapshot_done(struct bench *b, uint64_t peer, uint64_t index, bool ok)
{
    step(b, (struct raft_event){.type = RAFT_SNAPSHOT_DONE, .snapshot = {.peer = peer, .index = index, .ok = ok}});
}

static struct raft_peer_state peer(const struct bench *b, uint64_t id)
{
    struct raft_peer_state state;
    assert_true(raft_peer_state(b->raft, id, &state));
    return state;
}

static void follower_below_the_base_is_named_once_and_gets_beats_only(void **state)
{
    (void)state;
    struct bench *b = leader_of_an_empty_follower();
    assert_int_equal(b->snapshots_count, 1);
    assert_int_equal(b->snapshots[0], 3);
    assert_true(peer(b, 3).in_snapshot);
    for (int i = 0; i < 20; i++) {
        tick(b, HEARTBEAT_MS);
        assert_int_equal(b->now_count, 2);
        assert_int_equal(sent_count(b, RAFT_BEAT), 2);
        assert_int_equal(b->snapshots_count, 0);
        answer_beat(b, 2, 0, 0);
        answer_beat(b, 3, 0, 0);
        assert_null(sent_to(b, RAFT_APPEND, 3));
        assert_int_equal(b->snapshots_count, 0);
        submit(b, 1, 10);
        assert_null(sent_to(b, RAFT_APPEND, 3));
    }
    refuse(b, 3, 50, 0, 1); /* repeated */
    assert_int_equal(b->snapshots_count, 0);
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
}

static void probe_goes_on_behind_the_snapshot(void **state)
{
    (void)state;
    struct bench *b = leader_of_an_empty_follower();
    snapshot_done(b, 3, 50, true);
    assert_int_equal(b->now_count, 1);
    assert_int_equal(b->now[0].index, 50);
    assert_int_equal(b->now[0].index_term, 2);
    assert_int_equal(b->now[0].count, 1);
    assert_int_equal(peer(b, 3).match, 0); /* it has said nothing yet */
    ack(b, 3, 51);
    assert_false(peer(b, 3).probing);
    snapshot_done(b, 3, 50, false); /* late word of an earlier transfer */
    assert_false(peer(b, 3).in_snapshot);
}

static void failed_snapshot_is_asked_for_after_the_next_heartbeat(void **state)
{
    (void)state;
    struct bench *b = leader_of_an_empty_follower();
    snapshot_done(b, 3, 0, false);
    assert_int_equal(b->snapshots_count, 0);
    answer_beat(b, 3, 0, 0);
    assert_int_equal(b->snapshots_count, 0);
    tick(b, HEARTBEAT_MS);
    assert_int_equal(b->snapshots_count, 1);
    assert_int_equal(b->snapshots[0], 3);
    tick(b, HEARTBEAT_MS);
    assert_int_equal(b->snapshots_count, 0);
}

/* The log went on being compacted while the snapshot was on its way. */
static void snapshot_below_the_base_is_followed_by_another(void **state)
{
    (void)state;
    struct bench *b = leader_of_an_empty_follower();
    submit(b, 9, 90);
    persist(b, b->write_id);
    ack(b, 2, 60);
    step(b, (struct raft_event){.type = RAFT_APPLIED, .index = 60});
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 60});
    snapshot_done(b, 3, 50, true);
    assert_int_equal(b->snapshots_count, 1);
    assert_true(peer(b, 3).in_snapshot);
    assert_null(sent_to(b, RAFT_APPEND, 3));
    snapshot_done(b, 3, 60, true);
    assert_int_equal(sent_to(b, RAFT_APPEND, 3)->index, 60);
}

static void refusals_from_before_ask_for_no_other_snapshot(void **state)
{
    (void)state;
    struct bench *b =
        bench_new(3, &(struct raft_options){.term = 2, .applied_index = 50, .base_index = 50, .base_term = 2});
    lead(b);
    submit(b, 1, 10);
    refuse(b, 3, 50, 0, 31);
    assert_int_equal(b->snapshots_count, 1);
    refuse(b, 3, 20, 0, 5);
    assert_int_equal(b->snapshots_count, 0);
    assert_true(peer(b, 3).in_snapshot);
}

/* etcd's "snapshot succeeds by an append reply": the follower has it from elsewhere. */
static void leader_compacts_past_a_follower_that_had_it_all(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
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
    step(b, (struct raft_event){.type = RAFT_COMPACTED, .index = 9});
    assert_int_equal(b->snapshots_count, 1);
    ack(b, 3, 8); /* short of the base: not enough */
    assert_true(peer(b, 3).in_snapshot);
    assert_int_equal(b->snapshots_count, 0); /* it is on its way already */
    snapshot_done(b, 3, 5, true);            /* older than what it has by now: another one */
    assert_int_equal(b->snapshots_count, 1);
    ack(b, 3, 9); /* only the answers were lost */
    assert_false(peer(b, 3).in_snapshot);
    assert_int_equal(entries_sent(b, 3), 1);
    ack(b, 3, 10);
    submit(b, 1, 10);
    assert_int_equal(entries_sent(b, 3), 1);
}

/* ---- where it is installed ---- */

static void install(struct bench *b, uint64_t index, uint64_t term, uint64_t config_index,
                    const struct raft_config *config)
{
    step(b, (struct raft_event){
                .type = RAFT_INSTALLED,
                .installed = {.index = index, .term = term, .config_index = config_index, .config = config}});
}

static void snapshot_replaces_a_log_that_does_not_hold_its_end(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 9}};
    struct bench *b =
        bench_new(3, &(struct raft_options){.term = 1, .applied_index = 4, .runs = runs, .runs_count = 1});
    append(b, 2, 2, 9, 1, 30, 2, 0); /* on its way to the disk: up to 39 of term 2 */
    uint64_t stalled = b->write_id;
    assert_true(raft_wants_snapshot(b->raft, 5));
    assert_false(raft_wants_snapshot(b->raft, 4));
    struct raft_config config;
    voters_up_to(4, &config);
    install(b, 20, 5, 12, &config);
    assert_int_equal(raft_last_index(b->raft), 20);
    assert_int_equal(raft_term_of(b->raft, 20), 5);
    assert_int_equal(raft_durable_index(b->raft), 20);
    assert_int_equal(b->commit, 20);
    assert_int_equal(raft_term(b->raft), 5); /* the snapshot's: higher than what was known here */
    assert_true(b->write.hard_state);
    assert_int_equal(b->write.term, 5);
    uint64_t index = 0;
    assert_int_equal(raft_config(b->raft, &index)->count, 4);
    assert_int_equal(index, 12);
    assert_true(b->config_changed);
    append(b, 3, 5, 20, 5, 3, 5, 0); /* 21 .. 23 anew, while the old write of 21 .. 39 is still out */
    expect_answer(b, RAFT_APPEND_REPLY, false, 23);
    persist(b, stalled);
    assert_int_equal(raft_durable_index(b->raft), 20);
    persist(b, b->write_id);
    assert_int_equal(raft_durable_index(b->raft), 23);
}

static void snapshot_keeps_what_is_behind_it_in_a_log_that_holds_its_end(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 9}, {.term = 2, .count = 9}};
    struct raft_config_entry configs[2] = {{.index = 0}, {.index = 15}};
    voters_up_to(3, &configs[0].config);
    voters_up_to(4, &configs[1].config);
    struct bench *b =
        bench_new(3, &(struct raft_options){
                         .term = 3, .vote = 2, .runs = runs, .runs_count = 2, .configs = configs, .configs_count = 2});
    install(b, 12, 2, 0, &configs[0].config);
    assert_int_equal(raft_last_index(b->raft), 18);
    assert_int_equal(raft_durable_index(b->raft), 18);
    assert_int_equal(raft_term_of(b->raft, 12), 2);
    assert_int_equal(raft_term_of(b->raft, 11), 0);
    assert_int_equal(b->commit, 12);
    assert_int_equal(raft_term(b->raft), 3);
    assert_int_equal(raft_vote(b->raft), 2); /* terms and votes stay what they are */
    assert_int_equal(b->writes, 0);
    uint64_t index = 0;
    raft_config(b->raft, &index);
    assert_int_equal(index, 15); /* its entry is still in the log */
    append(b, 2, 3, 14, 2, 1, 3, 0);
    raft_config(b->raft, &index);
    assert_int_equal(index, 0);
}

/* By the same leader: what it had shown before, and a configuration in that, are gone with the log. */
static void nothing_of_a_replaced_log_is_remembered(void **state)
{
    (void)state;
    struct raft_config config, other;
    voters_up_to(3, &config);
    voters_up_to(4, &other);
    struct bench *b = bench_new(3, &(struct raft_options){0});
    receive(b, (struct raft_message){.type = RAFT_APPEND,
                                     .from = 2,
                                     .term = 2,
                                     .count = 30,
                                     .runs_count = 1,
                                     .runs = {{1, 30}},
                                     .has_config = true,
                                     .config = other});
    install(b, 20, 2, 3, &config);
    assert_int_equal(raft_last_index(b->raft), 20);
    uint64_t index = 0;
    assert_int_equal(raft_config(b->raft, &index)->count, 3);
    assert_int_equal(index, 3);
    beat(b, 2, 2, 30);
    assert_int_equal(raft_commit_index(b->raft), 20);
    append(b, 2, 2, 20, 2, 1, 2, 30);
    expect_answer(b, RAFT_APPEND_REPLY, false, 21);
    assert_int_equal(raft_commit_index(b->raft), 21);
}

/* It was asked for before the entries came after all. */
static void snapshot_below_commit_takes_nothing_back(void **state)
{
    (void)state;
    struct raft_config config;
    voters_up_to(3, &config);
    struct bench *b = bench_new(3, &(struct raft_options){0});
    append(b, 2, 2, 0, 0, 9, 2, 8);
    install(b, 5, 2, 0, &config);
    assert_int_equal(raft_commit_index(b->raft), 8);
    assert_int_equal(raft_last_index(b->raft), 9);
    assert_int_equal(raft_term_of(b->raft, 4), 0);
}

/* A snapshot comes between an append and its write. */
static void entries_not_written_yet_are_written_behind_the_snapshot(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 1, .count = 9}};
    struct bench *b =
        bench_new(3, &(struct raft_options){.term = 3, .applied_index = 2, .runs = runs, .runs_count = 1});
    struct raft_message m = {.type = RAFT_APPEND,
                             .from = 2,
                             .to = 1,
                             .term = 3,
                             .index = 4,
                             .index_term = 1,
                             .count = 3,
                             .runs_count = 1,
                             .runs = {{2, 3}}};
    struct raft_event event = {.type = RAFT_RECV, .message = &m};
    raft_step(b->raft, &event); /* 5 .. 7 of another term, nothing handed out yet */
    struct raft_config config;
    voters_up_to(3, &config);
    install(b, 6, 2, 0, &config);
    assert_int_equal(raft_durable_index(b->raft), 6);
    assert_int_equal(b->write.truncate_from, 7); /* the disk holds 7 .. 9 of the old ones */
    assert_int_equal(b->write.first, 7);
    assert_int_equal(b->write.last, 7);
    persist(b, b->write_id);
    assert_int_equal(raft_durable_index(b->raft), 7);
}

static void joint_configuration_survives_a_snapshot(void **state)
{
    (void)state;
    struct raft_config now, next, joint;
    voters_up_to(3, &now);
    voters_up_to(5, &next);
    assert_true(raft_config_join(&now, &next, &joint));
    struct bench *b = bench_new(3, &(struct raft_options){0});
    append(b, 2, 2, 0, 0, 1, 2, 0);
    install(b, 40, 2, 30, &joint);
    uint64_t index = 0;
    assert_true(raft_config_is_joint(raft_config(b->raft, &index)));
    persist(b, b->write_id);
    tick(b, 1);
    campaign(b); /* of the five: 2 and 3 are a majority of now, with itself of next */
    persist(b, b->write_id);
    grant(b, 4, raft_term(b->raft));
    grant(b, 5, raft_term(b->raft));
    assert_int_equal(raft_role(b->raft), RAFT_CANDIDATE); /* three of next, one of now */
    grant(b, 2, raft_term(b->raft));
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
}

/* Between the decision and the end of the installation the own campaign may have begun. */
static void candidate_that_installs_follows_again(void **state)
{
    (void)state;
    struct raft_config config;
    voters_up_to(3, &config);
    struct bench *b = bench_new(3, &(struct raft_options){.term = 7});
    campaign(b);
    install(b, 20, 7, 0, &config);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    assert_int_equal(raft_term(b->raft), 8);
    persist(b, b->write_id);
    grant(b, 2, 8);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    lead(b);
    assert_false(raft_wants_snapshot(b->raft, 1000)); /* never a leader */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAFT_TEST(follower_below_the_base_is_named_once_and_gets_beats_only),
        RAFT_TEST(probe_goes_on_behind_the_snapshot),
        RAFT_TEST(failed_snapshot_is_asked_for_after_the_next_heartbeat),
        RAFT_TEST(snapshot_below_the_base_is_followed_by_another),
        RAFT_TEST(refusals_from_before_ask_for_no_other_snapshot),
        RAFT_TEST(leader_compacts_past_a_follower_that_had_it_all),
        RAFT_TEST(snapshot_replaces_a_log_that_does_not_hold_its_end),
        RAFT_TEST(snapshot_keeps_what_is_behind_it_in_a_log_that_holds_its_end),
        RAFT_TEST(nothing_of_a_replaced_log_is_remembered),
        RAFT_TEST(snapshot_below_commit_takes_nothing_back),
        RAFT_TEST(entries_not_written_yet_are_written_behind_the_snapshot),
        RAFT_TEST(joint_configuration_survives_a_snapshot),
        RAFT_TEST(candidate_that_installs_follows_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
