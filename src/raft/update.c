/* What is to be done: the state of the core turned into one update for its owner. */
#include "raft/impl.h"

#include "base/assert.h"

void update__answer(struct raft *r, const struct raft_answer *answer)
{
    ASSERT(!r->answer.pending);
    r->answer = *answer;
    r->answer.pending = true;
    r->answer.term = answer->term == 0 ? r->term : answer->term;
}

/* Field by field: the arrays are large, and mean nothing unless their counts say so. */
void update__fill_header(const struct raft *r, struct raft_message *m, enum raft_message_type type, uint64_t to)
{
    m->type = type;
    m->from = r->self;
    m->to = to;
    m->term = r->term;
    m->index = 0;
    m->index_term = 0;
    m->hint = 0;
    m->commit = 0;
    m->round = 0;
    m->heal = 0;
    m->damage = 0;
    m->bytes = 0;
    m->reject = false;
    m->pre = false;
    m->force = false;
    m->quiet = false;
    m->damaged = false;
    m->full = false;
    m->runs_count = 0;
    m->count = 0;
    m->has_config = false;
}

struct raft_message *update__send_now(const struct raft *r, struct raft_update *update, enum raft_message_type type,
                                      uint64_t to)
{
    ASSERT(update->send_now_count < RAFT_SENDS_NOW_MAX);
    struct raft_message *m = &update->send_now[update->send_now_count++];
    update__fill_header(r, m, type, to);
    return m;
}

/* Answers to beats claim nothing that is not durable but the term: they need not wait for entries. */
static void take_answer(struct raft *r, struct raft_update *update)
{
    struct raft_answer *answer = &r->answer;
    if (!answer->pending) {
        return;
    }
    answer->pending = false;
    bool now = answer->type == RAFT_BEAT_REPLY && update->write.id == 0 && writes__hard_state_durable(&r->writes);
    struct raft_message *m =
        now ? &update->send_now[update->send_now_count++] : &update->send_after_sync[update->send_after_sync_count++];
    update__fill_header(r, m, answer->type, answer->to);
    m->term = answer->term;
    m->index = answer->index;
    m->index_term = answer->index_term;
    m->hint = answer->hint;
    m->round = answer->round;
    m->reject = answer->reject;
    m->pre = answer->pre;
    m->quiet = answer->quiet;
    m->commit = answer->type == RAFT_VOTE_REPLY ? 0 : r->commit_index;
    m->damaged = r->damaged;
    m->damage = r->damaged ? r->damage : 0;
    m->full = r->full;
}

/* What the owner is told besides messages and writes. True when any of it is new. */
static bool take_news(struct raft *r, struct raft_update *update)
{
    bool role_changed = r->role != r->told_role || r->leader != r->told_leader || r->term != r->told_term;
    bool config_changed = r->configs.version != r->told_config;
    bool committed = r->commit_index != r->told_commit;
    uint64_t round = r->round_confirmed > 0 && raft__own_term_committed(r) ? r->round_confirmed : 0;
    bool confirmed = round != r->told_round;

    update->commit = r->told_commit = r->commit_index;
    update->role_changed = role_changed;
    update->role = r->told_role = r->role;
    update->leader = r->told_leader = r->leader;
    update->term = r->told_term = r->term;
    update->config_changed = config_changed;
    r->told_config = r->configs.version;
    update->read_round = r->told_round = round;
    update->read_index = round > 0 ? r->commit_index : 0;

    update->leave_due = change__leave_is_due(r);
    update->noop_due = heal__noop_is_due(r);
    update->repaired = heal__is_repaired(r);
    bool due = (update->leave_due && !r->told_leave_due) || (update->noop_due && !r->told_noop_due) ||
               (update->repaired && !r->told_repaired);
    r->told_leave_due = update->leave_due;
    r->told_noop_due = update->noop_due;
    r->told_repaired = update->repaired;
    return role_changed || config_changed || committed || confirmed || due;
}

bool raft_take(struct raft *r, struct raft_update *ret_update)
{
    struct raft_update *update = ret_update;
    r->received = false;
    update->send_now_count = 0;
    update->send_after_sync_count = 0;
    update->snapshots_count = 0;
    writes__take(&r->writes, r->term, r->vote, r->trail.last_index, &update->write);
    election__take(r, update);
    take_answer(r, update);
    if (r->role == RAFT_LEADER) {
        replication__take(r, update);
        snapshot__take(r, update);
        transfer__take(r, update);
    }
    bool news = take_news(r, update);
    bool sends = update->send_now_count > 0 || update->send_after_sync_count > 0;
    return news || sends || update->snapshots_count > 0 || update->write.id != 0;
}
