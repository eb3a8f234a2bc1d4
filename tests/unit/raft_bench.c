/* The bench for one Raft core: see raft_bench.h. */
#include "raft_bench.h"

struct bench bench;

struct bench *bench_new(const struct raft_options *changes)
{
    struct bench *b = &bench;
    memset(b, 0, sizeof *b);
    struct raft_options options = *changes;
    options.self = 1;
    options.heartbeat_ms = HEARTBEAT_MS;
    options.election_ms = ELECTION_MS;
    options.seed = 7;
    for (uint32_t i = 0; i < options.voters_count; i++) {
        options.voters[i] = i + 1;
    }
    b->raft = raft_new(&options);
    return b;
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
    b->now_count = b->after_count = b->writes = 0;
    b->role_changed = false;
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
    receive(b, (struct raft_message){
                   .type = RAFT_APPEND_REPLY, .from = from, .term = raft_term(b->raft), .index = index});
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

void lead(struct bench *b)
{
    tick(b, 2 * ELECTION_MS);
    assert_int_equal(raft_role(b->raft), RAFT_CANDIDATE);
    persist(b, b->write_id);
    grant(b, 2, raft_term(b->raft));
    if (raft_role(b->raft) != RAFT_LEADER) {
        grant(b, 3, raft_term(b->raft));
    }
    assert_int_equal(raft_role(b->raft), RAFT_LEADER);
}
