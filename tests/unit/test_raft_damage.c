/* Damaged replicas and their way back; full ones. */
#include "raft_bench.h"

/* ---- the leader of one ---- */

/* Voters 1 .. n; everything up to entry 1 is committed. */
static struct bench *leader_of(uint32_t n)
{
    struct bench *b = bench_new(n, &(struct raft_options){0});
    lead(b);
    submit(b, 1, 10);
    commit_on(b, n);
    return b;
}

/* The answers of a damaged replica. */
static void damaged_beat(struct bench *b, uint64_t from, uint64_t damage)
{
    receive(b,
            (struct raft_message){
                .type = RAFT_BEAT_REPLY, .from = from, .term = raft_term(b->raft), .damaged = true, .damage = damage});
}

static void damaged_ack(struct bench *b, uint64_t from, uint64_t damage, uint64_t index)
{
    receive(b, (struct raft_message){.type = RAFT_APPEND_REPLY,
                                     .from = from,
                                     .term = raft_term(b->raft),
                                     .index = index,
                                     .damaged = true,
                                     .damage = damage});
}

static struct raft_peer_state peer(const struct bench *b, uint64_t id)
{
    struct raft_peer_state state;
    assert_true(raft_peer_state(b->raft, id, &state));
    return state;
}

static void damaged_replica_takes_entries_and_counts_for_none(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    damaged_beat(b, 2, 77);
    assert_true(peer(b, 2).damaged);
    assert_int_equal(peer(b, 2).match, 0); /* it may have lost what it acknowledged */
    refuse(b, 2, 1, 0, 1);
    submit(b, 1, 10);
    persist(b, b->write_id);
    damaged_ack(b, 2, 77, 2);
    assert_int_equal(peer(b, 2).match, 2);
    assert_int_equal(b->commit, 1);
    ack(b, 3, 2);
    assert_int_equal(b->commit, 2);
}

static void damaged_replica_keeps_no_leader_in_office(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    for (int i = 0; raft_role(b->raft) == RAFT_LEADER; i++) {
        assert_in_range(i, 0, 3 * ELECTION_MS / HEARTBEAT_MS);
        tick(b, HEARTBEAT_MS);
        damaged_beat(b, 2, 77);
    }
}

static void entry_proposed_after_the_news_heals(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    submit(b, 1, 10); /* 2: proposed before, and not committed */
    damaged_beat(b, 2, 77);
    assert_true(b->noop_due);
    persist(b, b->write_id);
    ack(b, 3, 2); /* committed without it, but too old */
    assert_int_equal(b->commit, 2);
    tick(b, HEARTBEAT_MS);
    assert_int_equal(sent_to(b, RAFT_BEAT, 2)->heal, 0);
    assert_true(b->noop_due);
    submit(b, 1, 10);
    assert_false(b->noop_due);
    damaged_ack(b, 2, 77, 3);
    persist(b, b->write_id);
    tick(b, HEARTBEAT_MS);
    assert_int_equal(sent_to(b, RAFT_BEAT, 2)->heal, 0);
    ack(b, 3, 3);
    assert_int_equal(b->commit, 3);
    assert_int_equal(sent_to(b, RAFT_BEAT, 2)->heal, 3); /* at once */
    assert_int_equal(sent_to(b, RAFT_BEAT, 2)->damage, 77);
    assert_null(sent_to(b, RAFT_BEAT, 3));
    submit(b, 1, 10);
    assert_int_equal(sent_to(b, RAFT_APPEND, 2)->heal, 3);
    assert_int_equal(sent_to(b, RAFT_APPEND, 3)->heal, 0);
    persist(b, b->write_id);
    damaged_ack(b, 2, 77, 4);
    assert_int_equal(b->commit, 3); /* not before it says that it is whole */
    answer_beat(b, 2, 3, 0);
    assert_false(peer(b, 2).damaged);
    assert_int_equal(b->commit, 4);
}

static void word_from_before_the_damage_does_not_end_it(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    submit(b, 1, 10);
    damaged_beat(b, 2, 77);
    ack(b, 2, 2); /* overtaken on its way */
    assert_true(peer(b, 2).damaged);
    persist(b, b->write_id);
    assert_int_equal(b->commit, 1);
    submit(b, 1, 10);
    assert_int_equal(sent_to(b, RAFT_APPEND, 2)->index, 2);
    refuse(b, 2, 2, 0, 1); /* it has lost that */
    assert_int_equal(sent_to(b, RAFT_APPEND, 2)->index, 0);
    assert_int_equal(peer(b, 2).match, 0);
    persist(b, b->write_id);
    ack(b, 3, 3);
    assert_int_equal(sent_to(b, RAFT_BEAT, 2)->heal, 3);
    answer_beat(b, 2, 1, 0); /* who is whole again knows that 3 is committed */
    assert_true(peer(b, 2).damaged);
}

/* Whole again and started anew, it knows little to be committed: its answers look like those from before. Appends go on
 * all the same, until one of them shows it. */
static void healed_replica_that_forgot_the_commit_index_is_found_out(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    submit(b, 99, 1 << 20);
    damaged_beat(b, 2, 77);
    submit(b, 1, 10);
    persist(b, b->write_id);
    ack(b, 3, 101);
    refuse(b, 2, 100, 0, 1);
    step(b, (struct raft_event){.type = RAFT_UNREACHABLE, .peer = 2}); /* the answers that it heals with are lost */
    answer_beat(b, 2, 0, 0);
    for (int i = 0; peer(b, 2).damaged; i++) {
        assert_in_range(i, 0, 101);
        const struct raft_message *m = sent_to(b, RAFT_APPEND, 2);
        assert_non_null(m);
        uint64_t matched = m->index + m->count;
        receive(b, (struct raft_message){.type = RAFT_APPEND_REPLY,
                                         .from = 2,
                                         .term = 1,
                                         .index = matched,
                                         .commit = matched < m->commit ? matched : m->commit});
    }
    assert_true(peer(b, 2).match > 100);
}

static void second_damage_needs_a_second_healing(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    damaged_beat(b, 2, 77);
    submit(b, 1, 10);
    persist(b, b->write_id);
    ack(b, 3, 2);
    assert_int_equal(sent_to(b, RAFT_BEAT, 2)->heal, 2);
    damaged_beat(b, 2, 78); /* it started again and found more */
    tick(b, HEARTBEAT_MS);
    assert_int_equal(sent_to(b, RAFT_BEAT, 2)->heal, 0);
    assert_true(b->noop_due);
}

static void two_damaged_of_three_heal_nobody(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    damaged_beat(b, 2, 77);
    damaged_beat(b, 3, 88);
    submit(b, 1, 10);
    persist(b, b->write_id);
    damaged_ack(b, 2, 77, 2);
    damaged_ack(b, 3, 88, 2);
    assert_int_equal(b->commit, 1);
    tick(b, HEARTBEAT_MS);
    assert_int_equal(sent_to(b, RAFT_BEAT, 2)->heal, 0);
    assert_int_equal(sent_to(b, RAFT_BEAT, 3)->heal, 0);
}

static void leader_that_finds_damage_steps_down(void **state)
{
    (void)state;
    struct bench *b = leader_of(3);
    step(b, (struct raft_event){.type = RAFT_DAMAGED});
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    assert_int_equal(raft_term(b->raft), 1);
    tick(b, 1);
    tick(b, 100 * ELECTION_MS); /* and never campaigns */
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
}

/* ---- the damaged one ---- */

static struct bench *damaged_follower(void)
{
    struct raft_run runs[] = {{.term = 1, .count = 5}};
    return bench_new(3, &(struct raft_options){.term = 1, .runs = runs, .runs_count = 1, .damaged = true});
}

/* The number it tells in its answers. */
static uint64_t damage_told(struct bench *b, uint64_t term)
{
    beat(b, 2, term, 0);
    const struct raft_message *m = b->now_count > 0 ? &b->now[0] : &b->after[0];
    assert_int_equal(m->type, RAFT_BEAT_REPLY);
    assert_true(m->damaged && m->damage != 0);
    return m->damage;
}

static void heal(struct bench *b, uint64_t term, uint64_t index, uint64_t damage)
{
    receive(b, (struct raft_message){.type = RAFT_BEAT, .from = 2, .term = term, .heal = index, .damage = damage});
}

static void damaged_replica_votes_for_nobody(void **state)
{
    (void)state;
    struct bench *b = damaged_follower();
    assert_true(raft_is_damaged(b->raft));
    for (int pre = 0; pre < 2; pre++) {
        receive(b, (struct raft_message){
                       .type = RAFT_VOTE_REQUEST, .from = 2, .term = 4, .index = 9, .index_term = 3, .pre = pre == 1});
        assert_true(b->after[0].reject && b->after[0].damaged);
    }
    assert_int_equal(raft_vote(b->raft), 0);
    assert_int_equal(raft_next_tick_ms(b->raft), UINT64_MAX);
    tick(b, 100 * ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
}

static void damaged_replica_is_whole_with_the_healing_entry_on_its_disk(void **state)
{
    (void)state;
    struct bench *b = damaged_follower();
    uint64_t damage = damage_told(b, 4);
    append(b, 2, 4, 5, 1, 3, 4, 0); /* 6 .. 8 */
    assert_true(b->after[0].damaged);
    uint64_t entries = b->write_id;
    heal(b, 4, 8, damage);
    assert_false(b->repaired);
    persist(b, entries - 1);
    assert_false(b->repaired);
    assert_int_equal(raft_vote(b->raft), 0);
    persist(b, entries);
    assert_int_equal(raft_vote(b->raft), 2); /* the lost vote is taken to have gone to this leader */
    assert_true(b->write.hard_state);
    assert_int_equal(b->write.vote, 2);
    assert_false(b->repaired); /* and that is to be durable first */
    persist(b, b->write_id);
    assert_true(b->repaired);
    beat(b, 2, 4, 0);
    assert_true(b->repaired); /* said again */
    assert_true(raft_is_damaged(b->raft));
    assert_true(b->now[0].damaged);
    tick(b, 1);
    step(b, (struct raft_event){.type = RAFT_REPAIRED});
    assert_false(raft_is_damaged(b->raft));
    tick(b, 5 * ELECTION_MS); /* its timer did not run: it starts here */
    assert_int_equal(raft_role(b->raft), RAFT_FOLLOWER);
    beat(b, 2, 4, 0);
    assert_false(b->repaired);
    assert_false(b->now[0].damaged);
    tick(b, 1);
    tick(b, 2 * ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_PRE_CANDIDATE);
}

static void known_vote_is_kept(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){.term = 4, .vote = 3, .damaged = true});
    uint64_t damage = damage_told(b, 4);
    append(b, 2, 4, 0, 0, 3, 4, 0);
    persist(b, b->write_id);
    heal(b, 4, 3, damage);
    assert_true(b->repaired);
    assert_int_equal(raft_vote(b->raft), 3);
}

static void entry_must_match_this_leaders_log(void **state)
{
    (void)state;
    struct bench *b = damaged_follower();
    uint64_t damage = damage_told(b, 4);
    persist(b, b->write_id);
    heal(b, 4, 5, damage); /* it has a 5 on its disk, but which? */
    assert_int_equal(raft_vote(b->raft), 0);
    append(b, 2, 4, 5, 1, 0, 0, 0);
    assert_int_equal(raft_vote(b->raft), 2);
}

static void word_about_another_damage_heals_nothing(void **state)
{
    (void)state;
    struct bench *b = damaged_follower();
    uint64_t damage = damage_told(b, 4);
    append(b, 2, 4, 5, 1, 3, 4, 0);
    persist(b, b->write_id);
    heal(b, 4, 8, damage + 2);
    assert_int_equal(raft_vote(b->raft), 0);
    step(b, (struct raft_event){.type = RAFT_DAMAGED}); /* anew */
    heal(b, 4, 8, damage);
    assert_int_equal(raft_vote(b->raft), 0);
    heal(b, 4, 8, damage_told(b, 4));
    assert_int_equal(raft_vote(b->raft), 2);
}

static void word_of_an_earlier_leader_heals_nothing(void **state)
{
    (void)state;
    struct bench *b = damaged_follower();
    uint64_t damage = damage_told(b, 4);
    heal(b, 4, 8, damage);
    append(b, 3, 5, 5, 1, 3, 5, 0); /* another leader, another entry 8 */
    persist(b, b->write_id);
    assert_int_equal(raft_vote(b->raft), 0);
    assert_false(b->repaired);
}

static void lost_term_is_that_of_the_log_at_least(void **state)
{
    (void)state;
    struct raft_run runs[] = {{.term = 6, .count = 5}};
    struct bench *b =
        bench_new(3, &(struct raft_options){.term = 2, .vote = 3, .runs = runs, .runs_count = 1, .damaged = true});
    drain(b);
    assert_int_equal(raft_term(b->raft), 6);
    assert_int_equal(raft_vote(b->raft), 0);
    assert_int_equal(b->write.term, 6);
}

/* ---- full ---- */

static void full_replicas_are_told_and_counted(void **state)
{
    (void)state;
    struct bench *b = bench_new(3, &(struct raft_options){0});
    step(b, (struct raft_event){.type = RAFT_FULL, .full = true});
    assert_false(raft_has_room(b->raft)); /* not a leader */
    beat(b, 2, 1, 0);
    assert_true(b->after[0].full);
    tick(b, 1);
    lead(b);
    submit(b, 1, 10);
    assert_true(raft_has_room(b->raft)); /* two of three have */
    receive(b, (struct raft_message){.type = RAFT_BEAT_REPLY, .from = 3, .term = raft_term(b->raft), .full = true});
    assert_false(raft_has_room(b->raft));
    assert_true(raft_accepts(b->raft)); /* what is not the clients' goes on */
    step(b, (struct raft_event){.type = RAFT_FULL, .full = false});
    assert_true(raft_has_room(b->raft));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RAFT_TEST(damaged_replica_takes_entries_and_counts_for_none),
        RAFT_TEST(damaged_replica_keeps_no_leader_in_office),
        RAFT_TEST(entry_proposed_after_the_news_heals),
        RAFT_TEST(word_from_before_the_damage_does_not_end_it),
        RAFT_TEST(healed_replica_that_forgot_the_commit_index_is_found_out),
        RAFT_TEST(second_damage_needs_a_second_healing),
        RAFT_TEST(two_damaged_of_three_heal_nobody),
        RAFT_TEST(leader_that_finds_damage_steps_down),
        RAFT_TEST(damaged_replica_votes_for_nobody),
        RAFT_TEST(damaged_replica_is_whole_with_the_healing_entry_on_its_disk),
        RAFT_TEST(known_vote_is_kept),
        RAFT_TEST(entry_must_match_this_leaders_log),
        RAFT_TEST(word_about_another_damage_heals_nothing),
        RAFT_TEST(word_of_an_earlier_leader_heals_nothing),
        RAFT_TEST(lost_term_is_that_of_the_log_at_least),
        RAFT_TEST(full_replicas_are_told_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
