/* Owners and disks of a Raft group in memory: see raft_group.h. What must hold is in raft_oracle.c, and what one
 * replica can be be seen to do wrong in raft_watch.c. */
#include "raft_group.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_watch.h"

void group_note(struct group *g, uint64_t a, uint64_t b)
{
    g->hash = (g->hash ^ a) * 0x100000001b3u;
    g->hash = (g->hash ^ b ^ (g->hash >> 31)) * 0x9e3779b97f4a7c15u;
}

uint64_t group_now(const struct group *g, const struct replica *n)
{
    return (uint64_t)((int64_t)g->now_ms + n->clock_skew_ms);
}

struct replica *group_replica(struct group *g, uint64_t id)
{
    ASSERT(id >= 1 && id <= ORACLE_REPLICAS_MAX);
    return &g->replicas[id - 1];
}

uint64_t group_leader(const struct group *g)
{
    uint64_t leader = 0;
    uint64_t term = 0;
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        const struct raft *r = g->replicas[i].raft;
        if (r != NULL && raft_role(r) == RAFT_LEADER && raft_term(r) > term) {
            leader = g->replicas[i].id;
            term = raft_term(r);
        }
    }
    return leader;
}

/* ---- packets ---- */

static struct packet *packet_new(struct group *g, const struct replica *n, const struct raft_message *m)
{
    struct packet *p = malloc(sizeof *p + m->count * sizeof p->payloads[0]);
    ASSERT(p != NULL);
    p->message = *m;
    for (uint64_t i = 0; i < m->count; i++) {
        uint64_t index = m->index + 1 + i;
        const struct shadow_entry *entry = shadow_at(&n->log, index);
        oracle_expect(&g->oracle, entry != NULL, n->id, "sends what its owner does not have");
        bool is_config = shadow_is_config(&n->log, index);
        p->payloads[i] = (struct payload){.value = entry->value, .config = is_config ? entry->config : 0};
        bool said = m->has_config && i == m->count - 1;
        oracle_expect(&g->oracle, said == is_config, n->id, "a configuration travels unnamed, or a wrong name");
        if (said) {
            bool same = oracle_config_equal(&m->config, oracle_config(&g->oracle, entry->config));
            oracle_expect(&g->oracle, same, n->id, "sends another configuration than the entry is");
        }
    }
    return p;
}

struct packet *packet_cut(const struct packet *p, uint64_t skip, uint64_t count)
{
    struct packet *copy = malloc(sizeof *copy + count * sizeof copy->payloads[0]);
    ASSERT(copy != NULL && skip + count <= p->message.count);
    memcpy(copy, p, sizeof *copy);
    memcpy(copy->payloads, p->payloads + skip, count * sizeof copy->payloads[0]);
    struct raft_message *m = &copy->message;
    if (skip == 0 && count == p->message.count) {
        return copy;
    }
    m->has_config = m->has_config && skip + count == p->message.count;
    m->runs_count = 0;
    m->index += skip;
    m->count = count;
    uint64_t at = 0; /* entries of the old runs gone through */
    for (uint32_t i = 0; i < p->message.runs_count; i++) {
        const struct raft_run *run = &p->message.runs[i];
        uint64_t from = at > skip ? at : skip;
        uint64_t to = at + run->count < skip + count ? at + run->count : skip + count;
        if (at < skip) {
            m->index_term = run->term; /* of the last run that begins before what is kept */
        }
        if (from < to) {
            m->runs[m->runs_count++] = (struct raft_run){.term = run->term, .count = to - from};
        }
        at += run->count;
    }
    return copy;
}

struct packet *packet_copy(const struct packet *p)
{
    return packet_cut(p, 0, p->message.count);
}

static const struct shadow_log *leader_log(const struct group *g, uint64_t term)
{
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        const struct replica *n = &g->replicas[i];
        if (n->raft != NULL && raft_role(n->raft) == RAFT_LEADER && raft_term(n->raft) == term) {
            return &n->log;
        }
    }
    return NULL;
}

/* Takes over the packet. */
static void send_packet(struct group *g, struct packet *p)
{
    const struct raft_message *m = &p->message;
    oracle_sent(&g->oracle, m, leader_log(g, m->term));
    group_note(g, m->from * 16 + m->to, m->type + m->term * 8 + m->index * 1024);
    g->transmit(g->context, p);
}

/* ---- disks ---- */

static void write_free(struct pending_write *w)
{
    free(w->entries);
    free(w);
}

static void write_queue(struct group *g, struct replica *n, const struct raft_write *write)
{
    oracle_expect(&g->oracle, write->id == n->last_write_id + 1, n->id, "write ids do not rise by one");
    n->last_write_id = write->id;
    struct pending_write *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    w->write = *write;
    uint64_t count = write->first <= write->last ? write->last - write->first + 1 : 0;
    w->entries = malloc((count + 1) * sizeof *w->entries);
    ASSERT(w->entries != NULL);
    for (uint64_t i = 0; i < count; i++) {
        w->entries[i] = *shadow_at(&n->log, write->first + i);
    }
    STAILQ_INSERT_TAIL(&n->writes, w, link);
}

static void land_entries(struct group *g, struct replica *n, const struct pending_write *w)
{
    const struct raft_write *write = &w->write;
    if (write->truncate_from != 0) {
        shadow_truncate(&n->disk.log, write->truncate_from > n->base ? write->truncate_from - 1 : n->base);
    }
    for (uint64_t i = write->first; i <= write->last; i++) {
        const struct shadow_entry *e = &w->entries[i - write->first];
        if (i <= n->base) {
            continue; /* a snapshot came in between */
        }
        oracle_expect(&g->oracle, i == n->disk.log.last + 1, n->id, "writes leave a gap or overwrite");
        oracle_expect(&g->oracle, e->term <= n->disk.term, n->id, "an entry before its term");
        shadow_append(&n->disk.log, e->term, e->value, e->config_index == i ? e->config : 0);
    }
}

/* The oldest write reaches the disk. */
static void write_land(struct group *g, struct replica *n)
{
    struct pending_write *w = STAILQ_FIRST(&n->writes);
    STAILQ_REMOVE_HEAD(&n->writes, link);
    const struct raft_write *write = &w->write;
    if (write->hard_state && !(w->outdated && write->term < n->disk.term)) {
        oracle_expect(&g->oracle, write->term >= n->disk.term, n->id, "the term on disk falls");
        bool revoted = write->term == n->disk.term && n->disk.vote != 0 && write->vote != n->disk.vote;
        oracle_expect(&g->oracle, !revoted, n->id, "the vote on disk changes within a term");
        n->disk.term = write->term;
        n->disk.vote = write->vote;
    }
    if (!w->dead) {
        land_entries(g, n, w);
    }
    write_free(w);
}

static void release_held(struct group *g, struct replica *n)
{
    struct packet *p;
    while ((p = TAILQ_FIRST(&n->held)) != NULL && p->needs_id <= n->persisted_id) {
        TAILQ_REMOVE(&n->held, p, link);
        send_packet(g, p);
    }
}

void group_persist(struct group *g, struct replica *n, uint64_t id)
{
    while (!STAILQ_EMPTY(&n->writes) && STAILQ_FIRST(&n->writes)->write.id <= id) {
        write_land(g, n);
    }
    if (id > n->persisted_id) {
        n->persisted_id = id;
        bool answers_first = g->pile > 0 && rng_chance(&g->rng, 0.5);
        if (answers_first) {
            release_held(g, n);
        }
        group_step(g, n, (struct raft_event){.type = RAFT_PERSISTED, .write_id = id}, NULL);
    }
    release_held(g, n);
    if (n->repair_due && n->repair_id <= n->persisted_id && n->disk.damaged && !n->installing) {
        n->repair_due = n->disk.damaged = false;
        oracle_repaired(&g->oracle, n->id);
        g->marks.repairs++;
        group_step(g, n, (struct raft_event){.type = RAFT_REPAIRED}, NULL);
    }
}

/* ---- owners ---- */

/* Where the payload of the write's entries comes from: the received append if it holds the entry of that index and
 * term, else what the owner submitted itself. */
static void keep_entries(struct group *g, struct replica *n, const struct raft_write *write,
                         const struct packet *packet)
{
    for (uint64_t i = write->first; i <= write->last; i++) {
        uint64_t term = raft_term_of(n->raft, i);
        const struct shadow_entry *own = shadow_at(&n->log, i);
        if (own != NULL && own->term == term) {
            continue;
        }
        oracle_expect(&g->oracle, packet != NULL && i > packet->message.index, n->id, "writes what nobody gave it");
        oracle_expect(&g->oracle, i <= packet->message.index + packet->message.count, n->id, "writes too much");
        const struct payload *payload = &packet->payloads[i - packet->message.index - 1];
        uint64_t config_index = 0;
        shadow_config(&n->log, n->log.last, &config_index);
        g->marks.rollbacks += config_index >= i;
        shadow_truncate(&n->log, i - 1);
        shadow_append(&n->log, term, payload->value, payload->config);
        oracle_appended(&g->oracle, n->id, &n->log);
    }
}

static void append_own(struct group *g, struct replica *n, uint32_t config)
{
    shadow_append(&n->log, raft_term(n->raft), ++g->seq, config);
    oracle_appended(&g->oracle, n->id, &n->log);
}

bool group_submit(struct group *g, struct replica *n, uint64_t count, uint64_t bytes)
{
    if (n->raft == NULL || n->installing || !raft_accepts(n->raft) || n->led_term != raft_term(n->raft)) {
        return false;
    }
    for (uint64_t i = 0; i < count; i++) {
        append_own(g, n, 0);
    }
    struct raft_event event = {.type = RAFT_SUBMIT, .submit = {.count = count, .bytes = bytes}};
    group_step(g, n, event, NULL);
    return true;
}

bool group_noop(struct group *g, struct replica *n)
{
    if (!n->noop_due) {
        return false;
    }
    n->noop_due = false;
    return group_submit(g, n, 1, 10);
}

static void append_config(struct group *g, struct replica *n, const struct raft_config *config)
{
    oracle_changes(&g->oracle, n->id, raft_term(n->raft), &n->log, raft_commit_index(n->raft), config);
    append_own(g, n, oracle_number_config(&g->oracle, config));
    struct raft_event event = {.type = RAFT_CHANGE, .change = {.config = config, .bytes = 100}};
    g->marks.changes++;
    group_step(g, n, event, NULL);
}

enum raft_change_verdict group_change(struct group *g, struct replica *n, const struct raft_config *next)
{
    uint64_t index = 0;
    struct raft_config joint;
    if (n->led_term != raft_term(n->raft)) {
        return RAFT_CHANGE_NOT_LEADER;
    }
    if (raft_config_is_joint(raft_config(n->raft, &index))) {
        return raft_may_change(n->raft, next);
    }
    if (!raft_config_is_sane(next) || !raft_config_join(raft_config(n->raft, &index), next, &joint)) {
        return RAFT_CHANGE_SENSELESS;
    }
    enum raft_change_verdict verdict = raft_may_change(n->raft, &joint);
    if (verdict == RAFT_CHANGE_OK) {
        g->marks.joints += raft_config_is_joint(&joint);
        append_config(g, n, &joint);
    }
    return verdict;
}

bool group_leave_joint(struct group *g, struct replica *n)
{
    uint64_t index = 0;
    bool leads = n->raft != NULL && raft_accepts(n->raft) && n->led_term == raft_term(n->raft);
    if (!n->leave_due || !leads || !raft_config_is_joint(raft_config(n->raft, &index))) {
        return false;
    }
    n->leave_due = false;
    struct raft_config next;
    raft_config_leave(raft_config(n->raft, &index), &next);
    append_config(g, n, &next);
    return true;
}

bool group_transfer(struct group *g, struct replica *n, uint64_t to)
{
    if (n->led_term != raft_term(n->raft) || !raft_may_transfer(n->raft, to)) {
        return false;
    }
    g->marks.transfers++;
    n->transfer_ms = group_now(g, n);
    group_step(g, n, (struct raft_event){.type = RAFT_TRANSFER, .peer = to}, NULL);
    return true;
}

void group_apply(struct group *g, struct replica *n, uint64_t index)
{
    n->applied = index;
    group_step(g, n, (struct raft_event){.type = RAFT_APPLIED, .index = index}, NULL);
}

void group_compact(struct group *g, struct replica *n, uint64_t index)
{
    n->checkpoint = index;
    n->base = index;
    g->marks.compactions++;
    group_step(g, n, (struct raft_event){.type = RAFT_COMPACTED, .index = index}, NULL);
}

static void hold(struct group *g, struct replica *n, const struct raft_message *m)
{
    g->marks.refusals += m->type == RAFT_APPEND_REPLY && m->reject;
    struct packet *p = packet_new(g, n, m);
    p->needs_id = n->last_write_id;
    TAILQ_INSERT_TAIL(&n->held, p, link);
}

static void carry_out(struct group *g, struct replica *n, const struct raft_update *u, const struct packet *packet)
{
    bool elected = u->role_changed && u->role == RAFT_LEADER && n->led_term != u->term;
    if (u->write.id != 0) {
        bool on_its_way = !STAILQ_EMPTY(&n->writes);
        g->marks.truncations += u->write.truncate_from != 0;
        g->marks.truncations_in_flight += u->write.truncate_from != 0 && on_its_way;
        keep_entries(g, n, &u->write, packet);
        write_queue(g, n, &u->write);
        group_note(g, u->write.id, u->write.last);
    }
    watch_update(g, n, u, packet, elected);
    for (uint32_t i = 0; i < u->send_now_count; i++) {
        send_packet(g, packet_new(g, n, &u->send_now[i]));
    }
    for (uint32_t i = 0; i < u->send_after_sync_count; i++) {
        hold(g, n, &u->send_after_sync[i]);
    }
    for (uint32_t i = 0; i < u->snapshots_count; i++) {
        g->marks.snapshots++;
        g->send_snapshot(g->context, n, u->snapshots[i]);
    }
    n->leave_due = u->leave_due;
    n->noop_due = u->noop_due;
    if (u->repaired && !n->repair_due) {
        n->repair_due = true;
        n->repair_id = n->last_write_id;
    }
    if (elected) {
        n->led_term = u->term;
        append_own(g, n, 0); /* the LEADER entry */
        struct raft_event event = {.type = RAFT_SUBMIT, .submit = {.count = 1, .bytes = 50}};
        raft_step(n->raft, &event);
        watch_step(g, n);
    }
}

/* may_sleep: nothing is to be sent. */
static void take(struct group *g, struct replica *n, const struct packet *packet, bool may_sleep)
{
    for (int takes = 0; raft_take(n->raft, &g->update); takes++) {
        raft_check(n->raft);
        oracle_expect(&g->oracle, takes < 100, n->id, "its updates never end");
        if (g->watch != NULL) {
            g->watch(g->context, n, &g->update);
        }
        bool silent = g->update.send_now_count + g->update.send_after_sync_count == 0;
        oracle_expect(&g->oracle, silent || !may_sleep, n->id, "talks in its sleep");
        carry_out(g, n, &g->update, packet);
    }
    release_held(g, n); /* what waits for no write */
    watch_rest(g, n);
}

void group_step(struct group *g, struct replica *n, struct raft_event event, const struct packet *packet)
{
    bool was_quiet = raft_is_quiet(n->raft);
    raft_step(n->raft, &event);
    raft_check(n->raft);
    watch_step(g, n);
    if (event.type != RAFT_RECV && event.type != RAFT_INSTALLED && rng_chance(&g->rng, g->pile)) {
        n->piled = true;
        return;
    }
    bool may_sleep = event.type == RAFT_TICK && was_quiet && raft_is_quiet(n->raft) && !n->piled;
    n->piled = false;
    take(g, n, packet, may_sleep);
}

bool group_read(struct group *g, struct replica *n)
{
    if (n->raft == NULL || n->installing || !raft_accepts(n->raft) || n->led_term != raft_term(n->raft)) {
        return false;
    }
    struct raft_event event = {.type = RAFT_READ};
    raft_step(n->raft, &event);
    watch_read(g, n, raft_read_round(n->raft));
    n->piled = false;
    take(g, n, NULL, false);
    return true;
}

void group_unreachable(struct group *g, struct replica *n, uint64_t peer)
{
    if (n->heard_from == peer) {
        n->heard_from = 0;
    }
    n->transfer_ms = 0; /* it may end early */
    group_step(g, n, (struct raft_event){.type = RAFT_UNREACHABLE, .peer = peer}, NULL);
}

void group_deliver(struct group *g, struct replica *n, const struct packet *packet)
{
    if (n->raft == NULL || n->installing) {
        return;
    }
    const struct raft_message *m = &packet->message;
    g->marks.delivered++;
    group_note(g, m->from, m->to);
    watch_message(g, n, m);
    group_step(g, n, (struct raft_event){.type = RAFT_RECV, .message = m}, packet);
    watch_delivered(g, n, m);
}

void group_tick(struct group *g, struct replica *n)
{
    group_step(g, n, (struct raft_event){.type = RAFT_TICK, .now_ms = group_now(g, n)}, NULL);
    if (!n->piled) {
        watch_tick(g, n);
    }
}

/* ---- snapshots ---- */

bool group_install_begin(struct group *g, struct replica *n, const struct shadow_log *from, uint64_t index)
{
    if (n->raft == NULL || n->installing) {
        return false;
    }
    bool wanted = raft_wants_snapshot(n->raft, index);
    bool useful = index > raft_commit_index(n->raft) && raft_role(n->raft) != RAFT_LEADER;
    oracle_expect(&g->oracle, wanted == useful, n->id, "wants an old snapshot or refuses a new one");
    if (!wanted) {
        return false;
    }
    n->installing = true;
    n->picture_index = index;
    shadow_copy(&n->picture, from, index);
    return true;
}

void group_install_end(struct group *g, struct replica *n)
{
    uint64_t index = n->picture_index;
    struct pending_write *w;
    STAILQ_FOREACH(w, &n->writes, link)
    {
        if (w->write.truncate_from != 0) { /* what it cuts off must not come to stand behind the snapshot */
            group_persist(g, n, n->last_write_id);
            break;
        }
    }
    n->installing = false;
    bool joins = shadow_hash(&n->log, index) == shadow_hash(&n->picture, index);
    if (shadow_hash(&n->disk.log, index) != shadow_hash(&n->picture, index)) {
        shadow_copy(&n->disk.log, &n->picture, index);
    }
    uint64_t term = shadow_at(&n->picture, index)->term;
    if (term > n->disk.term) { /* the transaction that installs it is of its term, or a later one */
        n->disk.term = term;
        n->disk.vote = 0;
    }
    STAILQ_FOREACH(w, &n->writes, link)
    {
        w->outdated = true;
        w->dead = w->dead || !joins;
    }
    if (!joins) {
        shadow_copy(&n->log, &n->picture, index);
        shadow_copy(&n->disk.log, &n->picture, index);
    }
    n->checkpoint = n->base = n->applied = index;
    g->marks.installs++;
    uint64_t config_index = 0;
    uint32_t config = shadow_config(&n->picture, index, &config_index);
    struct raft_event event = {
        .type = RAFT_INSTALLED,
        .installed = {
            .index = index, .term = term, .config_index = config_index, .config = oracle_config(&g->oracle, config)}};
    group_step(g, n, event, NULL);
}

/* ---- life ---- */

static void drop_held(struct replica *n)
{
    struct packet *p;
    while ((p = TAILQ_FIRST(&n->held)) != NULL) {
        TAILQ_REMOVE(&n->held, p, link);
        free(p);
    }
}

void group_crash(struct group *g, struct replica *n, uint32_t landing)
{
    if (n->raft == NULL) {
        return;
    }
    g->marks.crashes++;
    for (; landing > 0 && !STAILQ_EMPTY(&n->writes); landing--) { /* some un-synced writes make it all the same */
        write_land(g, n);
    }
    struct pending_write *w;
    while ((w = STAILQ_FIRST(&n->writes)) != NULL) {
        STAILQ_REMOVE_HEAD(&n->writes, link);
        write_free(w);
        g->marks.writes_lost++;
    }
    drop_held(n);
    raft_free(n->raft);
    n->raft = NULL;
    n->installing = false;
    group_note(g, 77, n->id);
}

static void forget(struct group *g, struct replica *n)
{
    if (!n->disk.damaged) {
        shadow_copy(&n->disk.lost, &n->disk.log, n->disk.log.last);
        n->disk.lost_committed = g->oracle.committed.last;
    }
    n->disk.damaged = true;
    n->repair_due = false;
    oracle_damaged(&g->oracle, n->id, n->disk.term);
    g->marks.damages++;
}

void group_lose(struct group *g, struct replica *n, uint64_t last, uint64_t term, uint64_t vote)
{
    ASSERT(n->raft == NULL && last >= n->checkpoint && last <= n->disk.log.last);
    forget(g, n);
    shadow_truncate(&n->disk.log, last);
    n->disk.term = term;
    n->disk.vote = vote;
    group_note(g, 79, n->id);
}

void group_doubt(struct group *g, struct replica *n)
{
    forget(g, n);
    drop_held(n); /* it answers nobody before the mark is durable; here, at once */
    group_step(g, n, (struct raft_event){.type = RAFT_DAMAGED}, NULL);
}

static void read_log(struct group *g, struct replica *n, struct raft_options *o, struct raft_run *runs,
                     struct raft_config_entry *configs)
{
    uint32_t number = shadow_config(&n->disk.log, n->base, &configs[0].index);
    configs[0].config = *oracle_config(&g->oracle, number);
    o->configs_count = 1;
    for (uint64_t i = n->base + 1; i <= n->disk.log.last; i++) {
        runs[o->runs_count++] = (struct raft_run){.term = shadow_at(&n->disk.log, i)->term, .count = 1};
        if (shadow_is_config(&n->disk.log, i)) {
            oracle_expect(&g->oracle, o->configs_count < RAFT_CONFIGS_MAX, n->id, "too many configurations in its log");
            number = shadow_config(&n->disk.log, i, &configs[o->configs_count].index);
            configs[o->configs_count++].config = *oracle_config(&g->oracle, number);
        }
    }
    o->runs = runs;
    o->configs = configs;
}

void group_start(struct group *g, struct replica *n)
{
    ASSERT(n->raft == NULL);
    n->exists = true;
    g->oracle.disks[n->id - 1] = &n->disk;
    struct raft_config_entry configs[RAFT_CONFIGS_MAX];
    struct raft_run *runs = malloc((n->disk.log.last + 1) * sizeof *runs);
    ASSERT(runs != NULL);
    struct raft_options o = {.self = n->id,
                             .heartbeat_ms = GROUP_HEARTBEAT_MS,
                             .election_ms = GROUP_ELECTION_MS,
                             .seed = rng_next(&g->rng),
                             .damaged = n->disk.damaged,
                             .term = n->disk.term,
                             .vote = n->disk.vote,
                             .base_index = n->base,
                             .base_term = n->base > 0 ? shadow_at(&n->disk.log, n->base)->term : 0,
                             .applied_index = n->checkpoint,
                             .now_ms = group_now(g, n)};
    read_log(g, n, &o, runs, configs);
    n->raft = raft_new(&o);
    free(runs);
    shadow_copy(&n->log, &n->disk.log, n->disk.log.last);
    n->applied = n->seen_commit = n->checkpoint;
    n->seen_term = n->disk.term;
    n->last_write_id = n->persisted_id = 0;
    n->leave_due = n->noop_due = n->repair_due = n->full = false;
    n->led_term = n->heard_from = 0;
    n->slept = n->piled = false;
    uint64_t config_index = 0;
    n->told_config = shadow_config(&n->log, n->log.last, &config_index);
    watch_rest(g, n);
    group_note(g, 78, n->id);
}

void group_init(struct group *g, uint64_t seed, const struct raft_config *birth)
{
    memset(g, 0, sizeof *g);
    rng_seed(&g->rng, seed);
    oracle_init(&g->oracle, seed, birth, &g->now_ms);
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        struct replica *n = &g->replicas[i];
        n->id = i + 1;
        STAILQ_INIT(&n->writes);
        TAILQ_INIT(&n->held);
    }
}

void group_done(struct group *g)
{
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        struct replica *n = &g->replicas[i];
        group_crash(g, n, 0);
        shadow_free(&n->log);
        shadow_free(&n->disk.log);
        shadow_free(&n->disk.lost);
        shadow_free(&n->picture);
    }
    oracle_done(&g->oracle);
}
