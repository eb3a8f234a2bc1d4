/* The bench for one Raft core: see raft_bench.h. */
#include "raft_bench.h"

struct bench bench;

struct bench *bench_new_in(const struct raft_config *config, const struct raft_options *changes)
{
    struct bench *b = &bench;
    memset(b, 0, sizeof *b);
    struct raft_config_entry base = {.index = 0, .config = *config};
    struct raft_options options = *changes;
    options.self = 1;
    options.heartbeat_ms = HEARTBEAT_MS;
    options.election_ms = ELECTION_MS;
    options.seed = 7;
    if (options.configs_count == 0) {
        options.configs = &base;
        options.configs_count = 1;
    }
    b->raft = raft_new(&options);
    return b;
}

struct bench *bench_new(uint32_t voters, const struct raft_options *changes)
{
    struct raft_config config;
    voters_up_to(voters, &config);
    return bench_new_in(&config, changes);
}

void voters_up_to(uint64_t last, struct raft_config *ret_config)
{
    uint64_t ids[RAFT_VOTERS_MAX];
    for (uint64_t id = 1; id <= last; id++) {
        ids[id - 1] = id;
    }
    raft_config_of_voters(ids, (uint32_t)last, ret_config);
}

int bench_free(void **state)
{
    (void)state;
    raft_free(bench.raft);
    bench.raft = NULL;
    return 0;
}

void drain(struct bench *b)
{
    b->now_count = b->after_count = b->writes = b->snapshots_count = 0;
    b->role_changed = b->config_changed = false;
    b->write = (struct raft_write){0};
    raft_check(b->raft);
    while (raft_take(b->raft, &b->update)) {
        const struct raft_update *u = &b->update;
        if (u->write.id != 0) {
            assert_int_equal(u->write.id, b->write_id + 1);
            b->write_id = u->write.id;
            b->write = u->write;
            b->writes++;
        }
        b->commit = u->commit;
        b->read_round = u->read_round;
        b->read_index = u->read_index;
        b->leave_due = u->leave_due;
        b->noop_due = u->noop_due;
        b->repaired = u->repaired;
        b->config_changed = b->config_changed || u->config_changed;
        for (uint32_t i = 0; i < u->snapshots_count; i++) {
            assert_in_range(b->snapshots_count, 0, RAFT_MEMBERS_MAX - 1);
            b->snapshots[b->snapshots_count++] = u->snapshots[i];
        }
        b->role_changed = b->role_changed || u->role_changed;
        for (uint32_t i = 0; i < u->send_now_count; i++) {
            assert_in_range(b->now_count, 0, SENT_MAX - 1);
            b->now[b->now_count++] = u->send_now[i];
        }
        for (uint32_t i = 0; i < u->send_after_sync_count; i++) {
            b->after[b->after_count++] = u->send_after_sync[i];
        }
        raft_check(b->raft);
    }
}

void step(struct bench *b, struct raft_event event)
{
    raft_step(b->raft, &event);
    drain(b);
}

void tick(struct bench *b, uint64_t ms)
{
    b->now_ms += ms;
    step(b, (struct raft_event){.type = RAFT_TICK, .now_ms = b->now_ms});
}

void persist(struct bench *b, uint64_t id)
{
    step(b, (struct raft_event){.type = RAFT_PERSISTED, .write_id = id});
}

void submit(struct bench *b, uint64_t count, uint64_t bytes)
{
    step(b, (struct raft_event){.type = RAFT_SUBMIT, .submit = {.count = count, .bytes = bytes}});
}

void receive(struct bench *b, struct raft_message m)
{
    m.to = m.to == 0 ? 1 : m.to;
    step(b, (struct raft_event){.type = RAFT_RECV, .message = &m});
}

void append(struct bench *b, uint64_t from, uint64_t term, uint64_t index, uint64_t index_term, uint64_t count,
            uint64_t entry_term, uint64_t commit)
{
    struct raft_message m = {
        .type = RAFT_APPEND, .from = from, .term = term, .index = index, .index_term = index_term, .commit = commit};
    if (count > 0) {
        m.runs_count = 1;
        m.runs[0] = (struct raft_run){.term = entry_term, .count = count};
        m.count = count;
    }
    receive(b, m);
}

void ack(struct bench *b, uint64_t from, uint64_t index)
{
    receive(b,
            (struct raft_message){.type = RAFT_APPEND_REPLY, .from = from, .term = raft_term(b->raft), .index = index});
}

void refuse(struct bench *b, uint64_t from, uint64_t index, uint64_t conflict_term, uint64_t hint)
{
    receive(b, (struct raft_message){.type = RAFT_APPEND_REPLY,
                                     .from = from,
                                     .term = raft_term(b->raft),
                                     .reject = true,
                                     .index = index,
                                     .index_term = conflict_term,
                                     .hint = hint});
}

void grant(struct bench *b, uint64_t from, uint64_t term)
{
    receive(b, (struct raft_message){.type = RAFT_VOTE_REPLY, .from = from, .term = term});
}

void pre_grant(struct bench *b, uint64_t from, uint64_t term)
{
    receive(b, (struct raft_message){.type = RAFT_VOTE_REPLY, .from = from, .term = term, .pre = true});
}

void beat(struct bench *b, uint64_t from, uint64_t term, uint64_t commit)
{
    receive(b, (struct raft_message){.type = RAFT_BEAT, .from = from, .term = term, .commit = commit});
}

void answer_beat(struct bench *b, uint64_t from, uint64_t commit, uint64_t round)
{
    receive(b,
            (struct raft_message){
                .type = RAFT_BEAT_REPLY, .from = from, .term = raft_term(b->raft), .commit = commit, .round = round});
}

const struct raft_message *sent_to(const struct bench *b, enum raft_message_type type, uint64_t to)
{
    for (uint32_t i = 0; i < b->now_count; i++) {
        if (b->now[i].type == type && b->now[i].to == to) {
            return &b->now[i];
        }
    }
    return NULL;
}

uint32_t sent_count(const struct bench *b, enum raft_message_type type)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < b->now_count; i++) {
        count += b->now[i].type == type;
    }
    return count;
}

uint64_t entries_sent(const struct bench *b, uint64_t to)
{
    uint64_t entries = 0;
    for (uint32_t i = 0; i < b->now_count; i++) {
        entries += b->now[i].to == to ? b->now[i].count : 0;
        assert_true(b->now[i].count <= RAFT_APPEND_ENTRIES_MAX);
    }
    return entries;
}

void expect_answer(const struct bench *b, enum raft_message_type type, bool reject, uint64_t index)
{
    assert_int_equal(b->now_count, 0);
    assert_int_equal(b->after_count, 1);
    assert_int_equal(b->after[0].type, type);
    assert_int_equal(b->after[0].reject, reject);
    assert_int_equal(b->after[0].term, raft_term(b->raft));
    if (type == RAFT_APPEND_REPLY) {
        assert_int_equal(b->after[0].index, index);
    }
}

void campaign(struct bench *b)
{
    while (raft_role(b->raft) != RAFT_PRE_CANDIDATE) {
        tick(b, 2 * ELECTION_MS);
    }
    for (uint64_t from = 2; raft_role(b->raft) == RAFT_PRE_CANDIDATE; from++) {
        assert_in_range(from, 2, 9);
        pre_grant(b, from, raft_term(b->raft) + 1);
    }
    assert_int_equal(raft_role(b->raft), RAFT_CANDIDATE);
}

void lead(struct bench *b)
{
    campaign(b);
    persist(b, b->write_id);
    for (uint64_t from = 2; raft_role(b->raft) == RAFT_CANDIDATE; from++) {
        assert_in_range(from, 2, 9);
        grant(b, from, raft_term(b->raft));
    }
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
}

void commit_on(struct bench *b, uint64_t peers)
{
    persist(b, b->write_id);
    for (uint64_t id = 2; id <= peers; id++) {
        ack(b, id, raft_last_index(b->raft));
    }
    assert_int_equal(raft_commit_index(b->raft), raft_last_index(b->raft));
}

void apply_all(struct bench *b)
{
    step(b, (struct raft_event){.type = RAFT_APPLIED, .index = raft_commit_index(b->raft)});
}
