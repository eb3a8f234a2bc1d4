/* A Raft group under faults: see raft_cluster.h. What must hold is in raft_oracle.c and raft_watch.c; what the owners
 * ask for besides entries (members, transfers, sleep) is in raft_admin.c. */
#include "raft_cluster.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "raft_admin.h"

#define SHIPMENTS_MAX 64u

/* A snapshot on its way. */
struct shipment {
    uint64_t from, to, index; /* from 0: the place is free */
    enum { SHIPMENT_TRAVELS, SHIPMENT_INSTALLS, SHIPMENT_REPORTS } state;
    bool ok;
    uint64_t due_ms;
};

/* What the world around a replica does to it. */
struct place {
    bool syncing, stalled;
    uint64_t sync_id; /* the sync covers the writes up to here */
    uint64_t sync_done_ms;
    uint64_t paused_until_ms;
    uint32_t unreachable; /* bit i: tell the core that replica i + 1 is */
};

struct cluster {
    struct cluster_options options;
    struct group group;
    struct place places[ORACLE_REPLICAS_MAX];
    bool cut[ORACLE_REPLICAS_MAX][ORACLE_REPLICAS_MAX];
    bool appends_cut[ORACLE_REPLICAS_MAX][ORACLE_REPLICAS_MAX];
    struct packets network;
    struct shipment shipments[SHIPMENTS_MAX];
    struct admin admin;
};

static bool awake(const struct cluster *c, const struct replica *n)
{
    return n->raft != NULL && c->places[n->id - 1].paused_until_ms <= c->group.now_ms;
}

/* ---- network ---- */

static void schedule(struct cluster *c, struct packet *p)
{
    const struct cluster_options *o = &c->options;
    bool late = rng_chance(&c->group.rng, o->late);
    p->due_ms = c->group.now_ms + 1 + rng_below(&c->group.rng, (late ? o->late_ms : o->delay_ms) + 1);
    TAILQ_INSERT_TAIL(&c->network, p, link);
}

/* Takes over the packet. */
static void transmit(void *context, struct packet *p)
{
    struct cluster *c = context;
    struct rng *rng = &c->group.rng;
    const struct raft_message *m = &p->message;
    bool cut = c->cut[m->from - 1][m->to - 1];
    bool leads = m->type == RAFT_APPEND || m->type == RAFT_BEAT;
    cut = cut || (leads && c->appends_cut[m->from - 1][m->to - 1]);
    if (cut || rng_chance(rng, c->options.loss)) {
        c->places[m->from - 1].unreachable |= rng_chance(rng, 0.3) ? 1u << (m->to - 1) : 0;
        free(p);
        return;
    }
    if (m->count > 1 && rng_chance(rng, c->options.split)) {
        uint64_t head = rng_between(rng, 1, m->count - 1);
        c->group.marks.splits++;
        schedule(c, packet_cut(p, 0, head));
        if (rng_chance(rng, 0.7)) { /* else it is cut short */
            schedule(c, packet_cut(p, head, m->count - head));
        }
        free(p);
        return;
    }
    if (rng_chance(rng, c->options.duplicate)) {
        schedule(c, packet_copy(p));
    }
    schedule(c, p);
}

static void deliver(struct cluster *c)
{
    struct packet *p = TAILQ_FIRST(&c->network);
    struct packet *last = TAILQ_LAST(&c->network, packets); /* what is sent meanwhile is due later */
    while (p != NULL) {
        struct packet *next = p == last ? NULL : TAILQ_NEXT(p, link);
        struct replica *n = &c->group.replicas[p->message.to - 1];
        bool stopped = n->raft != NULL && !awake(c, n); /* its socket buffer keeps the message */
        if (p->due_ms <= c->group.now_ms && !stopped) {
            TAILQ_REMOVE(&c->network, p, link);
            group_deliver(&c->group, n, p);
            free(p);
        }
        p = next;
    }
}

/* ---- disks ---- */

static void sync_done(struct cluster *c, struct replica *n)
{
    c->places[n->id - 1].syncing = false;
    group_persist(&c->group, n, c->places[n->id - 1].sync_id);
}

static void sync_start(struct cluster *c, struct replica *n)
{
    struct place *place = &c->places[n->id - 1];
    struct rng *rng = &c->group.rng;
    if (place->syncing || (STAILQ_EMPTY(&n->writes) && !n->repair_due)) {
        return;
    }
    const struct cluster_options *o = &c->options;
    place->syncing = true;
    place->sync_id = n->last_write_id;
    if (!STAILQ_EMPTY(&n->writes) && rng_chance(rng, 0.3)) { /* a batch need not hold all there is */
        place->sync_id = rng_between(rng, STAILQ_FIRST(&n->writes)->write.id, place->sync_id);
    }
    uint64_t longest_ms = rng_chance(rng, o->stall) ? o->stall_ms : o->sync_ms;
    place->sync_done_ms = c->group.now_ms + rng_below(rng, longest_ms + 1);
}

static void compact(struct cluster *c, struct replica *n)
{
    uint64_t durable = raft_durable_index(n->raft);
    uint64_t limit = n->applied < durable ? n->applied : durable;
    if (limit > n->checkpoint) {
        n->checkpoint = limit;
    }
    if (limit > n->base && rng_chance(&c->group.rng, 0.7)) {
        uint64_t base = rng_between(&c->group.rng, n->base + 1, limit);
        group_compact(&c->group, n, base);
        n->checkpoint = limit;
    }
}

/* ---- snapshots ---- */

static void send_snapshot(void *context, struct replica *n, uint64_t to)
{
    struct cluster *c = context;
    for (uint32_t i = 0; i < SHIPMENTS_MAX; i++) {
        struct shipment *s = &c->shipments[i];
        if (s->from == 0) {
            uint64_t due_ms = c->group.now_ms + 1 + rng_below(&c->group.rng, 2 * c->options.delay_ms + 50);
            *s = (struct shipment){.from = n->id, .to = to, .index = n->checkpoint, .due_ms = due_ms};
            return;
        }
    }
    oracle_expect(&c->group.oracle, false, n->id, "one transfer after the other to the same replica");
}

static void report(struct cluster *c, struct shipment *s, bool ok)
{
    s->state = SHIPMENT_REPORTS;
    s->ok = ok;
    c->group.marks.snapshot_failures += !ok;
    bool late = rng_chance(&c->group.rng, c->options.snapshot_late);
    s->due_ms = c->group.now_ms + rng_below(&c->group.rng, (late ? c->options.late_ms : c->options.delay_ms) + 1);
}

static void arrive(struct cluster *c, struct shipment *s)
{
    struct group *g = &c->group;
    struct replica *n = group_replica(g, s->to);
    bool lost = n->raft == NULL || c->cut[s->from - 1][s->to - 1] || rng_chance(&g->rng, c->options.snapshot_fails);
    if (lost) {
        report(c, s, false);
    } else if (!n->piled && group_install_begin(g, n, &g->oracle.committed, s->index)) {
        s->state = SHIPMENT_INSTALLS;
        s->due_ms = g->now_ms + rng_below(&g->rng, 20);
    } else {
        report(c, s, shadow_hash(&n->disk.log, s->index) == shadow_hash(&g->oracle.committed, s->index));
    }
}

static void ship(struct cluster *c)
{
    struct group *g = &c->group;
    for (uint32_t i = 0; i < SHIPMENTS_MAX; i++) {
        struct shipment *s = &c->shipments[i];
        if (s->from == 0 || s->due_ms > g->now_ms) {
            continue;
        }
        struct replica *sender = group_replica(g, s->from);
        struct replica *receiver = group_replica(g, s->to);
        if (s->state == SHIPMENT_TRAVELS) {
            arrive(c, s);
        } else if (s->state == SHIPMENT_INSTALLS) {
            bool whole = receiver->installing && receiver->picture_index == s->index && awake(c, receiver);
            if (whole) {
                group_install_end(g, receiver);
            }
            receiver->installing = false;
            report(c, s, whole);
        } else if (awake(c, sender)) {
            uint64_t to = s->to;
            s->from = 0;
            struct raft_event event = {.type = RAFT_SNAPSHOT_DONE,
                                       .snapshot = {.peer = to, .index = s->index, .ok = s->ok}};
            group_step(g, sender, event, NULL);
        }
    }
}

/* ---- faults ---- */

/* Its data may be lost and yet everybody else can go on: in each configuration that is in force anywhere, majorities of
 * both halves are whole without it. */
static bool may_be_damaged(const struct cluster *c, const struct replica *n)
{
    uint64_t whole = 0;
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        const struct replica *other = &c->group.replicas[i];
        whole |= other->exists && !other->disk.damaged && other != n ? (uint64_t)1 << i : 0;
    }
    const struct packet *p;
    TAILQ_FOREACH(p, &c->network, link)
    { /* a late one may bring a configuration that nobody else has any more */
        if (p->message.has_config && !oracle_is_quorum(&p->message.config, whole)) {
            return false;
        }
    }
    return admin_majorities_are_whole(&c->group, whole);
}

void cluster_crash(struct cluster *c, uint64_t replica)
{
    struct group *g = &c->group;
    struct replica *n = group_replica(g, replica);
    if (n->raft == NULL) {
        return;
    }
    uint32_t landing = 0;
    while (rng_chance(&g->rng, 0.5)) {
        landing++;
    }
    group_crash(g, n, landing);
    c->places[replica - 1] = (struct place){.syncing = false};
    for (uint32_t i = 0; i < SHIPMENTS_MAX; i++) {
        struct shipment *s = &c->shipments[i];
        s->from = s->from == replica ? 0 : s->from;
    }
    if (rng_chance(&g->rng, c->options.damage) && may_be_damaged(c, n)) {
        uint64_t last = rng_between(&g->rng, n->checkpoint, n->disk.log.last);
        const struct shadow_entry *entry = shadow_at(&n->disk.log, last);
        uint64_t term = rng_between(&g->rng, entry != NULL ? entry->term : 0, n->disk.term);
        group_lose(g, n, last, term, 0);
    }
}

void cluster_restart(struct cluster *c, uint64_t replica)
{
    struct replica *n = group_replica(&c->group, replica);
    if (n->raft == NULL) {
        c->places[replica - 1] = (struct place){.syncing = false};
        group_start(&c->group, n);
    }
}

void cluster_cut(struct cluster *c, uint64_t from, uint64_t to, bool cut)
{
    c->cut[from - 1][to - 1] = cut;
}

void cluster_cut_appends(struct cluster *c, uint64_t from, uint64_t to, bool cut)
{
    c->appends_cut[from - 1][to - 1] = cut;
}

void cluster_stall(struct cluster *c, uint64_t replica, bool stalled)
{
    c->places[replica - 1].stalled = stalled;
}

/* Splits the group in two, in one direction or both: by chance, one from the others, or the leader with nobody or one.
 * */
static void partition(struct cluster *c)
{
    struct rng *rng = &c->group.rng;
    uint64_t side = rng_below(rng, 1u << ORACLE_REPLICAS_MAX);
    uint64_t one = (uint64_t)1 << rng_below(rng, c->options.nodes);
    uint64_t leader = group_leader(&c->group);
    if (leader != 0 && rng_chance(rng, 0.5)) {
        side = (uint64_t)1 << (leader - 1) | (rng_chance(rng, 0.5) ? one : 0);
    } else if (rng_chance(rng, 0.5)) {
        side = one;
    }
    bool forth = true;
    bool back = true;
    if (c->options.one_way && rng_chance(rng, 0.5)) {
        forth = rng_chance(rng, 0.5);
        back = !forth;
    }
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        for (uint32_t j = 0; j < ORACLE_REPLICAS_MAX; j++) {
            bool i_in = side >> i & 1;
            bool j_in = side >> j & 1;
            c->cut[i][j] = (i_in && !j_in && forth) || (!i_in && j_in && back);
        }
    }
}

static void faults(struct cluster *c)
{
    const struct cluster_options *o = &c->options;
    struct rng *rng = &c->group.rng;
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        struct replica *n = &c->group.replicas[i];
        if (!n->exists) {
            continue;
        }
        if (n->raft != NULL && rng_chance(rng, o->crash)) {
            cluster_crash(c, n->id);
        } else if (n->raft == NULL && rng_chance(rng, o->restart)) {
            cluster_restart(c, n->id);
        }
        if (n->raft != NULL && rng_chance(rng, o->pause)) {
            uint64_t until_ms = c->group.now_ms + rng_below(rng, 4 * CLUSTER_ELECTION_MS);
            c->places[i].paused_until_ms = until_ms;
            n->excuse_ms = (uint64_t)((int64_t)until_ms + n->clock_skew_ms);
        }
        if (n->raft != NULL && !n->disk.damaged && rng_chance(rng, o->doubt) && may_be_damaged(c, n)) {
            group_doubt(&c->group, n);
        }
    }
    if (rng_chance(rng, o->partition)) {
        partition(c);
    } else if (rng_chance(rng, o->heal)) {
        memset(c->cut, 0, sizeof c->cut);
    }
}

/* A beat of a leader that is over would make others wait for it. */
static void lose_what_is_late(struct cluster *c)
{
    struct packet *p = TAILQ_FIRST(&c->network);
    while (p != NULL) {
        struct packet *next = TAILQ_NEXT(p, link);
        if (p->due_ms > c->group.now_ms) {
            TAILQ_REMOVE(&c->network, p, link);
            free(p);
        }
        p = next;
    }
}

void cluster_heal(struct cluster *c)
{
    lose_what_is_late(c);
    struct cluster_options calm = {.seed = c->options.seed,
                                   .nodes = c->options.nodes,
                                   .delay_ms = 3,
                                   .sync_ms = 2,
                                   .submit = 0.1,
                                   .compact = c->options.compact};
    c->options = calm;
    memset(c->cut, 0, sizeof c->cut);
    memset(c->appends_cut, 0, sizeof c->appends_cut);
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        struct replica *n = &c->group.replicas[i];
        if (!n->exists) {
            continue;
        }
        cluster_restart(c, n->id);
        c->places[i].paused_until_ms = 0;
        n->excuse_ms = group_now(&c->group, n);
        c->places[i].stalled = false;
        c->places[i].sync_done_ms = c->group.now_ms;
        n->full = n->installing = false; /* a snapshot that is half there is given up */
        group_step(&c->group, n, (struct raft_event){.type = RAFT_FULL, .full = false}, NULL);
        group_step(&c->group, n, (struct raft_event){.type = RAFT_WAKE}, NULL);
    }
}

/* ---- time ---- */

static void run_core(struct cluster *c, struct replica *n)
{
    struct group *g = &c->group;
    struct place *place = &c->places[n->id - 1];
    if (raft_next_tick_ms(n->raft) <= group_now(g, n) || rng_chance(&g->rng, 0.02)) {
        group_tick(g, n);
    }
    if (n->installing) {
        return;
    }
    for (uint32_t i = 0; place->unreachable != 0 && i < ORACLE_REPLICAS_MAX; i++) {
        if (place->unreachable >> i & 1) {
            group_unreachable(g, n, i + 1);
        }
    }
    place->unreachable = 0;
    if (n->applied < n->seen_commit && rng_chance(&g->rng, 0.5)) {
        group_apply(g, n, rng_between(&g->rng, n->applied + 1, n->seen_commit));
    }
    if (rng_chance(&g->rng, c->options.submit)) {
        cluster_submit(c, n->id, 1 + rng_below(&g->rng, 4));
    }
    admin_act(&c->admin, g, &c->options, n);
    if (rng_chance(&g->rng, c->options.compact)) {
        compact(c, n);
    }
}

static void run_node(struct cluster *c, struct replica *n)
{
    struct place *place = &c->places[n->id - 1];
    if (place->syncing && !place->stalled && place->sync_done_ms <= c->group.now_ms) {
        sync_done(c, n);
    }
    run_core(c, n);
    sync_start(c, n);
}

void cluster_run(struct cluster *c, uint64_t ms)
{
    for (uint64_t end_ms = c->group.now_ms + ms; c->group.now_ms < end_ms; c->group.now_ms++) {
        faults(c);
        ship(c);
        deliver(c);
        uint32_t links_down[ORACLE_REPLICAS_MAX] = {0};
        for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
            struct replica *n = &c->group.replicas[i];
            for (uint32_t j = 0; j < ORACLE_REPLICAS_MAX; j++) {
                bool down = c->cut[j][i] || !awake(c, &c->group.replicas[j]);
                links_down[i] |= down ? 1u << j : 0;
            }
            if (awake(c, n)) {
                run_node(c, n);
            }
        }
        admin_ping(&c->admin, &c->group, links_down);
    }
}

uint64_t cluster_run_until_led(struct cluster *c, uint64_t limit_ms)
{
    uint64_t start_ms = c->group.now_ms;
    bool led = false;
    while (!led && c->group.now_ms < start_ms + limit_ms) {
        cluster_run(c, 1);
        uint64_t leader = group_leader(&c->group);
        uint64_t followers = 0;
        for (uint32_t i = 0; leader != 0 && i < ORACLE_REPLICAS_MAX; i++) {
            const struct raft *r = c->group.replicas[i].raft;
            followers |= r != NULL && raft_leader(r) == leader ? (uint64_t)1 << i : 0;
        }
        uint64_t index = 0;
        led = leader != 0 && oracle_is_quorum(raft_config(cluster_raft(c, leader), &index), followers);
    }
    oracle_expect(&c->group.oracle, led, 0, "no leader after the faults have ended");
    return c->group.now_ms - start_ms;
}

static bool all_have(struct cluster *c, uint64_t goal)
{
    uint64_t leader = group_leader(&c->group);
    if (leader == 0) {
        return false;
    }
    uint64_t index = 0;
    const struct raft_config *config = raft_config(cluster_raft(c, leader), &index);
    bool have = !raft_config_is_joint(config) && index <= raft_commit_index(cluster_raft(c, leader));
    for (uint32_t i = 0; i < config->count; i++) {
        const struct replica *n = group_replica(&c->group, config->members[i].replica);
        have = have && n->raft != NULL && n->applied >= goal && !n->disk.damaged;
    }
    return have;
}

void cluster_run_until_committed(struct cluster *c, uint64_t entries, uint64_t limit_ms)
{
    uint64_t goal = c->group.oracle.committed.last + entries;
    uint64_t end_ms = c->group.now_ms + limit_ms;
    bool reached = false;
    while (!reached && c->group.now_ms < end_ms) {
        cluster_run(c, 1);
        reached = all_have(c, goal);
    }
    oracle_expect(&c->group.oracle, reached, 0, "no progress after the faults have ended");
}

/* ---- life ---- */

struct cluster *cluster_new(const struct cluster_options *options)
{
    ASSERT(options->nodes >= 1 && options->nodes <= RAFT_VOTERS_MAX);
    struct cluster *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->options = *options;
    TAILQ_INIT(&c->network);
    uint64_t voters[RAFT_VOTERS_MAX];
    for (uint32_t i = 0; i < options->nodes; i++) {
        voters[i] = i + 1;
    }
    struct raft_config birth;
    raft_config_of_voters(voters, options->nodes, &birth);
    group_init(&c->group, options->seed, &birth);
    c->group.pile = 0.2;
    c->group.context = c;
    c->group.transmit = transmit;
    c->group.send_snapshot = send_snapshot;
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        c->group.replicas[i].clock_skew_ms = (int64_t)rng_below(&c->group.rng, 100000);
    }
    for (uint32_t i = 0; i < options->nodes; i++) {
        cluster_restart(c, i + 1);
    }
    return c;
}

void cluster_free(struct cluster *c)
{
    if (c == NULL) {
        return;
    }
    group_done(&c->group);
    struct packet *p;
    while ((p = TAILQ_FIRST(&c->network)) != NULL) {
        TAILQ_REMOVE(&c->network, p, link);
        free(p);
    }
    free(c);
}

bool cluster_submit(struct cluster *c, uint64_t replica, uint64_t count)
{
    struct rng *rng = &c->group.rng;
    uint64_t bytes = count * rng_below(rng, rng_chance(rng, 0.01) ? 8u << 20 : 2000);
    return group_submit(&c->group, group_replica(&c->group, replica), count, bytes);
}

const struct raft *cluster_raft(const struct cluster *c, uint64_t replica)
{
    return c->group.replicas[replica - 1].raft;
}

uint64_t cluster_leader(const struct cluster *c)
{
    return group_leader(&c->group);
}

struct group *cluster_group(struct cluster *c)
{
    return &c->group;
}

const struct group_marks *cluster_marks(const struct cluster *c)
{
    return &c->group.marks;
}

uint64_t cluster_hash(const struct cluster *c)
{
    return c->group.hash;
}
