/* What one replica may be seen to do: see raft_watch.h. */
#include "raft_watch.h"

#include <stddef.h>

#define LIMIT_MS (2 * GROUP_ELECTION_MS + 3 * GROUP_HEARTBEAT_MS)

static bool leads(const struct replica *n)
{
    return raft_role(n->raft) == RAFT_LEADER && n->led_term == raft_term(n->raft);
}

/* The newest configuration in the owner's log. */
static const struct raft_config *config_of(const struct group *g, const struct replica *n)
{
    uint64_t index = 0;
    return oracle_config(&g->oracle, shadow_config(&n->log, n->log.last, &index));
}

/* ---- messages ---- */

void watch_message(struct group *g, struct replica *n, const struct raft_message *m)
{
    const struct shadow_entry *last = shadow_at(&n->log, n->log.last);
    n->before = (struct replica_before){.leads = raft_role(n->raft) == RAFT_LEADER,
                                        .slept = raft_is_quiet(n->raft),
                                        .voted = raft_vote(n->raft) == m->from && raft_term(n->raft) == m->term,
                                        .term = raft_term(n->raft),
                                        .last = n->log.last,
                                        .last_term = last != NULL ? last->term : 0};
    (void)g;
}

void watch_delivered(struct group *g, struct replica *n, const struct raft_message *m)
{
    bool from_leader = m->type == RAFT_APPEND || m->type == RAFT_BEAT;
    if (from_leader && raft_leader(n->raft) == m->from && raft_term(n->raft) == m->term) {
        n->heard_from = m->from;
        n->heard_term = m->term;
        n->heard_ms = group_now(g, n);
    }
    bool answer = m->type == RAFT_APPEND_REPLY || m->type == RAFT_BEAT_REPLY;
    if (answer && !m->damaged && leads(n) && m->term == raft_term(n->raft)) {
        n->heard_peer_ms[m->from - 1] = group_now(g, n);
    }
}

static void check_grant(struct group *g, struct replica *n, const struct raft_message *request)
{
    const struct replica_before *before = &n->before;
    bool behind = request->index_term < before->last_term ||
                  (request->index_term == before->last_term && request->index < before->last);
    oracle_expect(&g->oracle, !behind, n->id, "votes for a log that lacks entries");
    if (request->force || (before->voted && !request->pre)) { /* asked again, it says so again */
        return;
    }
    oracle_expect(&g->oracle, !before->slept, n->id, "votes in its sleep");
    oracle_expect(&g->oracle, !before->leads, n->id, "a leader votes for another one");
    bool leased = !g->by_hand && n->heard_from != 0 && n->heard_from != request->from &&
                  n->heard_term == before->term && group_now(g, n) - n->heard_ms < GROUP_ELECTION_MS;
    oracle_expect(&g->oracle, !leased, n->id, "votes although it has just heard from its leader");
}

/* ---- updates ---- */

void watch_step(struct group *g, struct replica *n)
{
    uint64_t commit = raft_commit_index(n->raft);
    /* It may have led until this very step. Nobody else can have committed anything in this term. */
    if (n->led_term == raft_term(n->raft) && n->led_term != 0 && commit > n->seen_commit) {
        oracle_leader_committed(&g->oracle, n->id, raft_term(n->raft), &n->log, commit);
        g->marks.commits += commit - n->seen_commit;
        n->seen_commit = commit;
    }
}

static void become_leader(struct group *g, struct replica *n, uint64_t term)
{
    g->marks.elections++;
    g->marks.old_term_tails += n->log.last > g->oracle.committed.last;
    g->marks.transfers_done += g->oracle.urged_term[n->id - 1] == term - 1 && term > 1;
    oracle_elected(&g->oracle, n->id, term, &n->log);
    n->led_last = n->log.last;
    n->led_hash = shadow_hash(&n->log, n->log.last);
    n->excuse_ms = group_now(g, n);
    n->transfer_ms = 0;
    n->read_round = n->read_index = 0;
    n->reads_count = 0;
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        n->matches[i] = 0;
    }
}

static void check_config_told(struct group *g, struct replica *n, const struct raft_update *u)
{
    uint64_t index = 0;
    uint32_t number = oracle_number_config(&g->oracle, raft_config(n->raft, &index));
    oracle_expect(&g->oracle, u->config_changed || number == n->told_config, n->id, "hides a change of configuration");
    if (number != n->told_config) {
        n->excuse_ms = group_now(g, n); /* other majorities from now on */
    }
    n->told_config = number;
}

static void check_reads(struct group *g, struct replica *n, const struct raft_update *u)
{
    if (u->role != RAFT_LEADER || n->led_term != u->term || u->read_round == 0) {
        return;
    }
    oracle_expect(&g->oracle, u->read_round >= n->read_round, n->id, "read rounds fall");
    oracle_expect(&g->oracle, u->read_index <= u->commit, n->id, "reads what is not committed");
    n->read_round = u->read_round;
    n->read_index = u->read_index;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n->reads_count; i++) {
        const struct replica_read read = n->reads[i];
        if (read.round > u->read_round) {
            n->reads[kept++] = read;
            continue;
        }
        g->marks.reads_confirmed++;
        oracle_expect(&g->oracle, u->read_index >= read.committed, n->id, "a read older than its question");
    }
    n->reads_count = kept;
}

static void check_sends(struct group *g, struct replica *n, const struct raft_update *u, const struct packet *packet)
{
    for (uint32_t i = 0; i < u->send_now_count; i++) {
        const struct raft_message *m = &u->send_now[i];
        n->sent_ms[m->to - 1] = group_now(g, n);
        if (m->type == RAFT_TIMEOUT_NOW) {
            oracle_expect(&g->oracle, !raft_accepts(n->raft), n->id, "accepts while it gives its leadership away");
        }
    }
    for (uint32_t i = 0; i < u->send_after_sync_count; i++) {
        const struct raft_message *m = &u->send_after_sync[i];
        if (m->type == RAFT_VOTE_REQUEST) {
            oracle_asks(&g->oracle, m, &n->log, n->seen_commit);
        } else if (m->type == RAFT_VOTE_REPLY && !m->reject) {
            bool asked = packet != NULL && packet->message.type == RAFT_VOTE_REQUEST;
            oracle_expect(&g->oracle, asked && packet->message.from == m->to, n->id, "votes for who did not ask");
            check_grant(g, n, &packet->message);
        }
    }
}

void watch_update(struct group *g, struct replica *n, const struct raft_update *u, const struct packet *packet,
                  bool elected)
{
    if (elected) {
        become_leader(g, n, u->term);
    }
    if (u->commit > n->seen_commit) {
        oracle_learned(&g->oracle, n->id, &n->log, n->seen_commit, u->commit);
        g->marks.commits += u->commit - n->seen_commit;
        n->seen_commit = u->commit;
    }
    bool asks = u->role == RAFT_PRE_CANDIDATE;
    oracle_expect(&g->oracle, !asks || u->term == n->seen_term, n->id, "raises its term to ask around");
    check_config_told(g, n, u);
    check_sends(g, n, u, packet);
    check_reads(g, n, u);
    bool joint_committed = raft_role(n->raft) == RAFT_LEADER && raft_config_is_joint(config_of(g, n));
    oracle_expect(&g->oracle, !u->leave_due || joint_committed, n->id, "wants to leave what is not joint");
    oracle_expect(&g->oracle, !u->repaired || n->disk.damaged, n->id, "repairs what is whole");
}

/* ---- after a step ---- */

/* What the leader believes of its members is true. */
static void check_matches(struct group *g, struct replica *n)
{
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        struct raft_peer_state state;
        const struct shadow_disk *disk = g->oracle.disks[i];
        if (disk == NULL || i + 1 == n->id || !raft_peer_state(n->raft, i + 1, &state)) {
            continue;
        }
        if (state.damaged || disk->term > n->led_term || g->oracle.forgot_term[i] > n->led_term) {
            n->matches[i] = 0; /* it counts for nothing, or belongs to a later leader */
            continue;
        }
        uint64_t hash = shadow_hash(&n->log, state.match);
        bool holds = shadow_hash(&disk->log, state.match) == hash ||
                     (disk->damaged && shadow_hash(&disk->lost, state.match) == hash);
        oracle_expect(&g->oracle, holds, n->id, "believes of a member what its disk does not hold");
        oracle_expect(&g->oracle, state.next > state.match, n->id, "next is not above match");
        oracle_expect(&g->oracle, state.match >= n->matches[i], n->id, "match falls");
        n->matches[i] = state.match;
    }
}

/* Who sleeps must not be needed by anybody. */
static void check_sleep(struct group *g, struct replica *n)
{
    g->marks.sleeps++;
    if (raft_role(n->raft) != RAFT_LEADER) {
        return;
    }
    const struct raft_config *config = config_of(g, n);
    uint64_t last = raft_last_index(n->raft);
    oracle_expect(&g->oracle, raft_commit_index(n->raft) == last, n->id, "sleeps on what is not committed");
    for (uint32_t i = 0; i < config->count; i++) {
        const struct replica *member = &g->replicas[config->members[i].replica - 1];
        bool holds = shadow_hash(&member->disk.log, last) == shadow_hash(&n->log, last);
        oracle_expect(&g->oracle, holds || member->disk.damaged, n->id, "sleeps while a member lacks entries");
    }
}

void watch_rest(struct group *g, struct replica *n)
{
    const struct raft *r = n->raft;
    struct oracle *o = &g->oracle;
    oracle_expect(o, raft_last_index(r) == n->log.last, n->id, "core and owner differ on the log's end");
    oracle_expect(o, raft_term(r) >= n->seen_term, n->id, "its term falls");
    oracle_expect(o, raft_commit_index(r) == n->seen_commit, n->id, "its commit index falls or grows unseen");
    oracle_expect(o, !raft_is_damaged(r) || n->disk.damaged, n->id, "takes itself for damaged");
    oracle_expect(o, raft_is_damaged(r) || !n->disk.damaged, n->id, "has forgotten that it is damaged");
    n->seen_term = raft_term(r);
    uint64_t durable = raft_durable_index(r);
    oracle_expect(o, shadow_hash(&n->disk.log, durable) == shadow_hash(&n->log, durable), n->id,
                  "believes durable what its disk does not hold");
    uint64_t index = 0;
    uint64_t logged_index = 0;
    const struct raft_config *config = raft_config(r, &index);
    bool newest = oracle_config_equal(config, config_of(g, n));
    shadow_config(&n->log, n->log.last, &logged_index);
    oracle_expect(o, newest && index == logged_index, n->id, "its configuration is not the newest of its log");
    if (leads(n)) {
        oracle_expect(o, shadow_hash(&n->log, n->led_last) == n->led_hash, n->id, "a leader changed its log");
        n->led_last = n->log.last;
        n->led_hash = shadow_hash(&n->log, n->log.last);
        check_matches(g, n);
    }
    bool quiet = raft_is_quiet(r);
    if (quiet && !n->slept) {
        check_sleep(g, n);
    }
    if (quiet || n->slept) {
        n->excuse_ms = group_now(g, n);
        n->heard_from = 0; /* who is woken has waited long enough */
    }
    n->slept = quiet;
}

/* A leader that hears no majorities is none for long (check-quorum), and talks to everybody meanwhile. */
static void check_leader_is_heard(struct group *g, struct replica *n)
{
    const struct raft_config *config = config_of(g, n);
    uint64_t now_ms = group_now(g, n);
    uint64_t heard = (uint64_t)1 << (n->id - 1);
    for (uint32_t i = 0; i < config->count; i++) {
        uint64_t at = config->members[i].replica - 1;
        if (now_ms - n->heard_peer_ms[at] <= LIMIT_MS) {
            heard |= (uint64_t)1 << at;
        }
        bool silent = at + 1 != n->id && now_ms - n->excuse_ms > 3 * GROUP_HEARTBEAT_MS &&
                      now_ms - n->sent_ms[at] > 3 * GROUP_HEARTBEAT_MS;
        oracle_expect(&g->oracle, !silent, n->id, "a leader is silent towards a member");
    }
    bool excused = now_ms - n->excuse_ms <= LIMIT_MS;
    oracle_expect(&g->oracle, excused || oracle_is_quorum(config, heard), n->id, "leads without hearing majorities");
}

void watch_tick(struct group *g, struct replica *n)
{
    if (g->by_hand || !leads(n) || raft_is_quiet(n->raft)) {
        return;
    }
    check_leader_is_heard(g, n);
    uint64_t since_ms = n->transfer_ms > n->excuse_ms ? n->transfer_ms : n->excuse_ms;
    if (n->transfer_ms != 0 && group_now(g, n) - since_ms > GROUP_ELECTION_MS + 3 * GROUP_HEARTBEAT_MS) {
        oracle_expect(&g->oracle, raft_accepts(n->raft), n->id, "gives its leadership away for ever");
        n->transfer_ms = 0;
    }
}

void watch_read(struct group *g, struct replica *n, uint64_t round)
{
    g->marks.reads++;
    if (n->reads_count < REPLICA_READS_MAX) {
        n->reads[n->reads_count++] = (struct replica_read){.round = round, .committed = g->oracle.committed.last};
    }
}
