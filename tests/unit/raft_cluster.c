/* A Raft group in memory: replicas with their owners, disks and network. See raft_cluster.h; what must hold is in
 * raft_oracle.c. */
#include "raft_cluster.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/assert.h"
#include "base/rng.h"
#include "raft_oracle.h"

/* A message with its entries' payload. */
struct packet {
    TAILQ_ENTRY(packet) link;
    uint64_t due_ms;    /* in the network */
    uint64_t needs_id;  /* in a replica's hands: leaves when this write is durable */
    struct raft_message message;
    uint64_t values[RAFT_APPEND_ENTRIES_MAX];
};
TAILQ_HEAD(packets, packet);

/* A write the disk has not confirmed. */
struct pending_write {
    STAILQ_ENTRY(pending_write) link;
    struct raft_write write;
    uint64_t *terms;
    uint64_t *values;
};

struct node {
    uint64_t id;
    struct raft *raft;       /* NULL: down */
    struct shadow_disk disk; /* survives */
    uint64_t checkpoint;     /* durable: applied up to here */
    uint64_t base;           /* durable: the log below is gone */
    int64_t clock_skew_ms;

    struct shadow_log log; /* the owner's, in memory */
    uint64_t applied;
    uint64_t last_write_id, persisted_id;
    STAILQ_HEAD(, pending_write) writes;
    struct packets held;
    bool syncing;
    bool stalled;
    uint64_t sync_id; /* the sync covers the writes up to here */
    uint64_t sync_done_ms;
    uint64_t paused_until_ms;
    uint32_t unreachable; /* bit i: tell the core that replica i + 1 is */

    uint64_t led_term, led_last, led_hash; /* append-only check */
    uint64_t seen_term, seen_commit;       /* monotonic */
};

struct cluster {
    struct cluster_options options;
    struct rng rng;
    uint64_t now_ms;
    uint64_t seq; /* payloads: 1, 2, ... */
    uint64_t hash;
    struct node nodes[ORACLE_NODES_MAX];
    bool cut[ORACLE_NODES_MAX][ORACLE_NODES_MAX];
    bool appends_cut[ORACLE_NODES_MAX][ORACLE_NODES_MAX];
    struct packets network;
    struct raft_update update;
    struct cluster_marks marks;
    struct oracle oracle;
};

static void note(struct cluster *c, uint64_t a, uint64_t b)
{
    c->hash = (c->hash ^ a) * 0x100000001b3u;
    c->hash = (c->hash ^ b ^ (c->hash >> 31)) * 0x9e3779b97f4a7c15u;
}

/* ---- network ---- */

static struct packet *packet_new(struct cluster *c, const struct node *n, const struct raft_message *m)
{
    struct packet *p = malloc(sizeof *p);
    ASSERT(p != NULL);
    p->message = *m;
    for (uint64_t i = 0; i < m->count; i++) {
        const struct shadow_entry *entry = shadow_at(&n->log, m->index + 1 + i);
        oracle_expect(&c->oracle, entry != NULL, n->id, "sends what its owner does not have");
        p->values[i] = entry->value;
    }
    return p;
}

static struct packet *packet_copy(const struct packet *p)
{
    struct packet *copy = malloc(sizeof *copy);
    ASSERT(copy != NULL);
    memcpy(copy, p, sizeof *p);
    return copy;
}

static void schedule(struct cluster *c, struct packet *p)
{
    const struct cluster_options *o = &c->options;
    bool late = rng_chance(&c->rng, o->late);
    p->due_ms = c->now_ms + 1 + rng_below(&c->rng, (late ? o->late_ms : o->delay_ms) + 1);
    TAILQ_INSERT_TAIL(&c->network, p, link);
}

static const struct shadow_log *leader_log(const struct cluster *c, uint64_t term)
{
    for (uint32_t i = 0; i < c->options.nodes; i++) {
        const struct node *n = &c->nodes[i];
        if (n->raft != NULL && raft_role(n->raft) == RAFT_LEADER && raft_term(n->raft) == term) {
            return &n->log;
        }
    }
    return NULL;
}

/* Takes over the packet. */
static void transmit(struct cluster *c, struct packet *p)
{
    const struct raft_message *m = &p->message;
    oracle_sent(&c->oracle, m, leader_log(c, m->term));
    note(c, m->from * 8 + m->to, m->type + m->term * 8 + m->index * 1024);
    struct node *from = &c->nodes[m->from - 1];
    bool cut = c->cut[m->from - 1][m->to - 1];
    cut = cut || (m->type == RAFT_APPEND && c->appends_cut[m->from - 1][m->to - 1]);
    if (cut || rng_chance(&c->rng, c->options.loss)) {
        from->unreachable |= rng_chance(&c->rng, 0.3) ? 1u << (m->to - 1) : 0;
        free(p);
        return;
    }
    if (rng_chance(&c->rng, c->options.duplicate)) {
        schedule(c, packet_copy(p));
    }
    schedule(c, p);
}

/* ---- disks ---- */

static void write_free(struct pending_write *w)
{
    free(w->terms);
    free(w->values);
    free(w);
}

static void write_queue(struct cluster *c, struct node *n, const struct raft_write *write)
{
    oracle_expect(&c->oracle, write->id == n->last_write_id + 1, n->id, "write ids do not rise by one");
    n->last_write_id = write->id;
    struct pending_write *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    w->write = *write;
    uint64_t count = write->first <= write->last ? write->last - write->first + 1 : 0;
    w->terms = malloc((count + 1) * sizeof *w->terms);
    w->values = malloc((count + 1) * sizeof *w->values);
    ASSERT(w->terms != NULL && w->values != NULL);
    for (uint64_t i = 0; i < count; i++) {
        w->terms[i] = shadow_at(&n->log, write->first + i)->term;
        w->values[i] = shadow_at(&n->log, write->first + i)->value;
    }
    STAILQ_INSERT_TAIL(&n->writes, w, link);
}

/* The oldest write reaches the disk. */
static void write_land(struct cluster *c, struct node *n)
{
    struct pending_write *w = STAILQ_FIRST(&n->writes);
    STAILQ_REMOVE_HEAD(&n->writes, link);
    const struct raft_write *write = &w->write;
    if (write->hard_state) {
        oracle_expect(&c->oracle, write->term >= n->disk.term, n->id, "the term on disk falls");
        bool revoted = write->term == n->disk.term && n->disk.vote != 0 && write->vote != n->disk.vote;
        oracle_expect(&c->oracle, !revoted, n->id, "the vote on disk changes within a term");
        n->disk.term = write->term;
        n->disk.vote = write->vote;
    }
    if (write->truncate_from != 0) {
        shadow_truncate(&n->disk.log, write->truncate_from - 1);
    }
    for (uint64_t i = write->first; i <= write->last; i++) {
        oracle_expect(&c->oracle, i == n->disk.log.last + 1, n->id, "writes leave a gap or overwrite");
        oracle_expect(&c->oracle, w->terms[i - write->first] <= n->disk.term, n->id, "an entry before its term");
        shadow_append(&n->disk.log, w->terms[i - write->first], w->values[i - write->first]);
    }
    write_free(w);
}

/* ---- owners ---- */

static void node_step(struct cluster *c, struct node *n, struct raft_event event, const struct packet *packet);

/* Where the payload of the write's entries comes from: the received append if it holds the entry of that index and
 * term, else what the owner submitted itself. */
static void keep_entries(struct cluster *c, struct node *n, const struct raft_write *write, const struct packet *packet)
{
    for (uint64_t i = write->first; i <= write->last; i++) {
        uint64_t term = raft_term_of(n->raft, i);
        uint64_t value = 0;
        const struct shadow_entry *own = shadow_at(&n->log, i);
        if (own != NULL && own->term == term) {
            value = own->value;
        } else {
            oracle_expect(&c->oracle, packet != NULL && i > packet->message.index, n->id, "writes what nobody gave it");
            oracle_expect(&c->oracle, i <= packet->message.index + packet->message.count, n->id, "writes too much");
            value = packet->values[i - packet->message.index - 1];
        }
        if (own == NULL || own->term != term) {
            shadow_truncate(&n->log, i - 1);
            shadow_append(&n->log, term, value);
            oracle_appended(&c->oracle, n->id, &n->log);
        }
    }
}

static void apply(struct cluster *c, struct node *n, uint64_t commit)
{
    if (commit > n->seen_commit && raft_role(n->raft) == RAFT_LEADER) { /* what it heard as a follower was taken then */
        bool own = raft_term_of(n->raft, commit) == raft_term(n->raft);
        oracle_expect(&c->oracle, own, n->id, "a leader commits an older term's entry by counting");
    }
    for (uint64_t i = n->seen_commit + 1; i <= commit; i++) {
        oracle_committed(&c->oracle, n->id, raft_term(n->raft), &n->log, i);
        c->marks.commits++;
    }
    n->seen_commit = commit;
}

static void become_leader(struct cluster *c, struct node *n, uint64_t term)
{
    c->marks.elections++;
    c->marks.old_term_tails += n->log.last > c->oracle.committed.last;
    oracle_elected(&c->oracle, n->id, term, &n->log);
    n->led_term = term;
    n->led_last = n->log.last;
    n->led_hash = shadow_hash(&n->log, n->log.last);
}

static void submit(struct cluster *c, struct node *n, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        shadow_append(&n->log, raft_term(n->raft), ++c->seq);
        oracle_appended(&c->oracle, n->id, &n->log);
    }
    uint64_t bytes = count * rng_below(&c->rng, rng_chance(&c->rng, 0.01) ? 8u << 20 : 2000);
    node_step(c, n, (struct raft_event){.type = RAFT_SUBMIT, .submit = {.count = count, .bytes = bytes}}, NULL);
}

/* Carries out everything the core asks for. */
static void take(struct cluster *c, struct node *n, const struct packet *packet)
{
    struct raft_update *u = &c->update;
    while (raft_take(n->raft, u)) {
        raft_check(n->raft);
        bool elected = u->role_changed && u->role == RAFT_LEADER;
        if (u->write.id != 0) {
            bool on_its_way = !STAILQ_EMPTY(&n->writes);
            c->marks.truncations += u->write.truncate_from != 0;
            c->marks.truncations_in_flight += u->write.truncate_from != 0 && on_its_way;
            keep_entries(c, n, &u->write, packet);
            write_queue(c, n, &u->write);
            note(c, u->write.id, u->write.last);
        }
        if (elected) {
            become_leader(c, n, u->term);
        }
        apply(c, n, u->commit);
        for (uint32_t i = 0; i < u->send_now_count; i++) {
            transmit(c, packet_new(c, n, &u->send_now[i]));
        }
        for (uint32_t i = 0; i < u->send_after_sync_count; i++) {
            c->marks.refusals += u->send_after_sync[i].type == RAFT_APPEND_REPLY && u->send_after_sync[i].reject;
            struct packet *p = packet_new(c, n, &u->send_after_sync[i]);
            p->needs_id = n->last_write_id;
            TAILQ_INSERT_TAIL(&n->held, p, link);
        }
        if (elected) {
            submit(c, n, 1); /* the LEADER entry */
        }
    }
}

/* What holds for one replica after every step, seen from outside. */
static void check_node(struct cluster *c, struct node *n)
{
    const struct raft *r = n->raft;
    raft_check(r);
    oracle_expect(&c->oracle, raft_term(r) >= n->seen_term, n->id, "its term falls");
    oracle_expect(&c->oracle, raft_commit_index(r) >= n->seen_commit, n->id, "its commit index falls");
    n->seen_term = raft_term(r);
    uint64_t durable = raft_durable_index(r);
    oracle_expect(&c->oracle, shadow_hash(&n->disk.log, durable) == shadow_hash(&n->log, durable), n->id,
                  "believes durable what its disk does not hold");
    if (raft_role(r) == RAFT_LEADER && n->led_term == raft_term(r)) {
        oracle_expect(&c->oracle, shadow_hash(&n->log, n->led_last) == n->led_hash, n->id, "a leader changed its log");
        n->led_last = n->log.last;
        n->led_hash = shadow_hash(&n->log, n->log.last);
    }
}

/* One event; packet is the message's, for its payload. Steps other than RECV may pile up before the take. */
static void node_step(struct cluster *c, struct node *n, struct raft_event event, const struct packet *packet)
{
    raft_step(n->raft, &event);
    if (event.type != RAFT_RECV && rng_chance(&c->rng, 0.2)) {
        raft_check(n->raft);
        return;
    }
    take(c, n, packet);
    oracle_expect(&c->oracle, raft_last_index(n->raft) == n->log.last, n->id, "core and owner differ on the log's end");
    check_node(c, n);
}

static void release_held(struct cluster *c, struct node *n)
{
    struct packet *p;
    while ((p = TAILQ_FIRST(&n->held)) != NULL && p->needs_id <= n->persisted_id) {
        TAILQ_REMOVE(&n->held, p, link);
        transmit(c, p);
    }
}

static void sync_done(struct cluster *c, struct node *n)
{
    n->syncing = false;
    while (!STAILQ_EMPTY(&n->writes) && STAILQ_FIRST(&n->writes)->write.id <= n->sync_id) {
        write_land(c, n);
    }
    n->persisted_id = n->sync_id;
    struct raft_event event = {.type = RAFT_PERSISTED, .write_id = n->sync_id};
    if (rng_chance(&c->rng, 0.5)) {
        node_step(c, n, event, NULL);
        release_held(c, n);
    } else {
        release_held(c, n);
        node_step(c, n, event, NULL);
    }
}

static void sync_start(struct cluster *c, struct node *n)
{
    if (n->syncing || STAILQ_EMPTY(&n->writes)) {
        return;
    }
    const struct cluster_options *o = &c->options;
    n->syncing = true;
    n->sync_id = n->last_write_id;
    if (rng_chance(&c->rng, 0.3)) { /* a batch need not hold all there is */
        n->sync_id = rng_between(&c->rng, STAILQ_FIRST(&n->writes)->write.id, n->sync_id);
    }
    uint64_t longest_ms = rng_chance(&c->rng, o->stall) ? o->stall_ms : o->sync_ms;
    n->sync_done_ms = c->now_ms + rng_below(&c->rng, longest_ms + 1);
}

/* Checkpoints, and compacts as far as nobody needs the entries any more: there are no snapshots here. */
static void compact(struct cluster *c, struct node *n)
{
    uint64_t everywhere = UINT64_MAX;
    for (uint32_t i = 0; i < c->options.nodes; i++) {
        everywhere = c->nodes[i].checkpoint < everywhere ? c->nodes[i].checkpoint : everywhere;
    }
    uint64_t durable = raft_durable_index(n->raft);
    n->checkpoint = n->applied < durable ? n->applied : durable;
    if (everywhere > n->base && everywhere <= n->checkpoint) {
        n->base = rng_between(&c->rng, n->base + 1, everywhere);
        c->marks.compactions++;
        node_step(c, n, (struct raft_event){.type = RAFT_COMPACTED, .index = n->base}, NULL);
    }
}

/* ---- faults ---- */

void cluster_crash(struct cluster *c, uint64_t replica)
{
    struct node *n = &c->nodes[replica - 1];
    if (n->raft == NULL) {
        return;
    }
    c->marks.crashes++;
    while (!STAILQ_EMPTY(&n->writes) && rng_chance(&c->rng, 0.5)) { /* some un-synced writes make it all the same */
        write_land(c, n);
    }
    struct pending_write *w;
    while ((w = STAILQ_FIRST(&n->writes)) != NULL) {
        STAILQ_REMOVE_HEAD(&n->writes, link);
        write_free(w);
        c->marks.writes_lost++;
    }
    struct packet *p;
    while ((p = TAILQ_FIRST(&n->held)) != NULL) {
        TAILQ_REMOVE(&n->held, p, link);
        free(p);
    }
    raft_free(n->raft);
    n->raft = NULL;
    note(c, 77, replica);
}

static int64_t node_now(const struct cluster *c, const struct node *n)
{
    return (int64_t)c->now_ms + n->clock_skew_ms;
}

void cluster_restart(struct cluster *c, uint64_t replica)
{
    struct node *n = &c->nodes[replica - 1];
    if (n->raft != NULL) {
        return;
    }
    struct raft_options o = {.self = n->id, .voters_count = c->options.nodes};
    for (uint32_t i = 0; i < o.voters_count; i++) {
        o.voters[i] = i + 1;
    }
    o.heartbeat_ms = CLUSTER_HEARTBEAT_MS;
    o.election_ms = CLUSTER_ELECTION_MS;
    o.seed = rng_next(&c->rng);
    o.term = n->disk.term;
    o.vote = n->disk.vote;
    o.base_index = n->base;
    o.base_term = n->base > 0 ? shadow_at(&n->disk.log, n->base)->term : 0;
    o.applied_index = n->checkpoint;
    o.now_ms = (uint64_t)node_now(c, n);
    struct raft_run *runs = malloc((n->disk.log.last + 1) * sizeof *runs);
    ASSERT(runs != NULL);
    for (uint64_t i = n->base + 1; i <= n->disk.log.last; i++) {
        runs[o.runs_count++] = (struct raft_run){.term = shadow_at(&n->disk.log, i)->term, .count = 1};
    }
    o.runs = runs;
    n->raft = raft_new(&o);
    free(runs);
    shadow_copy(&n->log, &n->disk.log);
    n->applied = n->seen_commit = n->checkpoint;
    n->seen_term = n->disk.term;
    n->last_write_id = n->persisted_id = 0;
    n->syncing = n->stalled = false;
    n->unreachable = 0;
    n->paused_until_ms = 0;
    n->led_term = 0;
    check_node(c, n);
    note(c, 78, replica);
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
    c->nodes[replica - 1].stalled = stalled;
}

/* Splits the group in two, in one direction or both: by chance, one from the others, or the leader with nobody or one.
 * */
static void partition(struct cluster *c)
{
    uint64_t side = rng_below(&c->rng, 1u << c->options.nodes);
    uint64_t one = (uint64_t)1 << rng_below(&c->rng, c->options.nodes);
    uint64_t leader = cluster_leader(c);
    if (leader != 0 && rng_chance(&c->rng, 0.5)) {
        side = (uint64_t)1 << (leader - 1) | (rng_chance(&c->rng, 0.5) ? one : 0);
    } else if (rng_chance(&c->rng, 0.5)) {
        side = one;
    }
    bool forth = true;
    bool back = true;
    if (c->options.one_way && rng_chance(&c->rng, 0.5)) {
        forth = rng_chance(&c->rng, 0.5);
        back = !forth;
    }
    for (uint32_t i = 0; i < c->options.nodes; i++) {
        for (uint32_t j = 0; j < c->options.nodes; j++) {
            bool i_in = side >> i & 1;
            bool j_in = side >> j & 1;
            c->cut[i][j] = (i_in && !j_in && forth) || (!i_in && j_in && back);
        }
    }
}

static void faults(struct cluster *c)
{
    const struct cluster_options *o = &c->options;
    for (uint32_t i = 0; i < o->nodes; i++) {
        struct node *n = &c->nodes[i];
        if (n->raft != NULL && rng_chance(&c->rng, o->crash)) {
            cluster_crash(c, n->id);
        } else if (n->raft == NULL && rng_chance(&c->rng, o->restart)) {
            cluster_restart(c, n->id);
        }
        if (n->raft != NULL && rng_chance(&c->rng, o->pause)) {
            n->paused_until_ms = c->now_ms + rng_below(&c->rng, 4 * CLUSTER_ELECTION_MS);
        }
    }
    if (rng_chance(&c->rng, o->partition)) {
        partition(c);
    } else if (rng_chance(&c->rng, o->heal)) {
        memset(c->cut, 0, sizeof c->cut);
    }
}

void cluster_heal(struct cluster *c)
{
    struct cluster_options calm = {
        .seed = c->options.seed, .nodes = c->options.nodes, .delay_ms = 3, .sync_ms = 2, .submit = 0.1};
    c->options = calm;
    memset(c->cut, 0, sizeof c->cut);
    memset(c->appends_cut, 0, sizeof c->appends_cut);
    for (uint32_t i = 0; i < calm.nodes; i++) {
        struct node *n = &c->nodes[i];
        cluster_restart(c, n->id);
        n->paused_until_ms = 0;
        n->stalled = false;
        n->sync_done_ms = c->now_ms;
    }
}

/* ---- time ---- */

static bool awake(const struct cluster *c, const struct node *n)
{
    return n->raft != NULL && n->paused_until_ms <= c->now_ms;
}

static void deliver(struct cluster *c)
{
    struct packet *p = TAILQ_FIRST(&c->network);
    struct packet *last = TAILQ_LAST(&c->network, packets); /* what is sent meanwhile is due later */
    while (p != NULL) {
        struct packet *next = p == last ? NULL : TAILQ_NEXT(p, link);
        struct node *n = &c->nodes[p->message.to - 1];
        bool stopped = n->raft != NULL && !awake(c, n); /* its socket buffer keeps the message */
        if (p->due_ms <= c->now_ms && !stopped) {
            TAILQ_REMOVE(&c->network, p, link);
            if (n->raft != NULL) {
                c->marks.delivered++;
                note(c, p->message.from, p->message.to);
                node_step(c, n, (struct raft_event){.type = RAFT_RECV, .message = &p->message}, p);
            }
            free(p);
        }
        p = next;
    }
}

static void run_node(struct cluster *c, struct node *n)
{
    if (n->syncing && !n->stalled && n->sync_done_ms <= c->now_ms) {
        sync_done(c, n);
    }
    uint64_t now_ms = (uint64_t)node_now(c, n);
    if (raft_next_tick_ms(n->raft) <= now_ms || rng_chance(&c->rng, 0.02)) {
        node_step(c, n, (struct raft_event){.type = RAFT_TICK, .now_ms = now_ms}, NULL);
    }
    for (uint32_t i = 0; n->unreachable != 0 && i < c->options.nodes; i++) {
        if (n->unreachable >> i & 1) {
            node_step(c, n, (struct raft_event){.type = RAFT_UNREACHABLE, .peer = i + 1}, NULL);
        }
    }
    n->unreachable = 0;
    /* A piled-up step may have ended a leadership the owner has not heard of yet, so it asks the core. */
    if (rng_chance(&c->rng, c->options.submit)) {
        cluster_submit(c, n->id, 1 + rng_below(&c->rng, 4));
    }
    if (n->applied < n->seen_commit && rng_chance(&c->rng, 0.5)) {
        n->applied = rng_between(&c->rng, n->applied + 1, n->seen_commit);
        node_step(c, n, (struct raft_event){.type = RAFT_APPLIED, .index = n->applied}, NULL);
    }
    if (rng_chance(&c->rng, c->options.compact)) {
        compact(c, n);
    }
    release_held(c, n);
    sync_start(c, n);
}

void cluster_run(struct cluster *c, uint64_t ms)
{
    for (uint64_t end_ms = c->now_ms + ms; c->now_ms < end_ms; c->now_ms++) {
        faults(c);
        deliver(c);
        for (uint32_t i = 0; i < c->options.nodes; i++) {
            if (awake(c, &c->nodes[i])) {
                run_node(c, &c->nodes[i]);
            }
        }
    }
}

void cluster_run_until_committed(struct cluster *c, uint64_t entries, uint64_t limit_ms)
{
    uint64_t goal = c->oracle.committed.last + entries;
    uint64_t end_ms = c->now_ms + limit_ms;
    bool reached = false;
    while (!reached && c->now_ms < end_ms) {
        cluster_run(c, 1);
        reached = true;
        for (uint32_t i = 0; i < c->options.nodes; i++) {
            reached = reached && c->nodes[i].raft != NULL && c->nodes[i].seen_commit >= goal;
        }
    }
    oracle_expect(&c->oracle, reached, 0, "no progress after the faults have ended");
}

/* ---- life ---- */

struct cluster_options cluster_options_draw(uint64_t seed, uint32_t nodes)
{
    struct rng rng;
    rng_seed(&rng, seed ^ 0x636c7573746572u);
    struct cluster_options o = {.seed = seed, .nodes = nodes};
    bool rough = rng_chance(&rng, 0.8); /* else a quiet network: faults of other classes stand alone */
    o.loss = rough && rng_chance(&rng, 0.5) ? 0.3 * (double)rng_below(&rng, 100) / 100 : 0;
    o.duplicate = rough && rng_chance(&rng, 0.5) ? 0.5 * (double)rng_below(&rng, 100) / 100 : 0;
    o.late = rough && rng_chance(&rng, 0.5) ? 0.1 : 0;
    o.delay_ms = rng_between(&rng, 1, rough ? 25 : 3);
    o.late_ms = rng_between(&rng, 100, 2000);
    o.crash = rng_chance(&rng, 0.6) ? 0.003 : 0;
    o.restart = 0.01;
    o.pause = rng_chance(&rng, 0.3) ? 0.002 : 0;
    o.partition = rng_chance(&rng, 0.6) ? 0.003 * (double)rng_between(&rng, 1, 5) : 0;
    o.heal = 0.003 * (double)rng_between(&rng, 1, 5);
    o.one_way = rng_chance(&rng, 0.5);
    o.sync_ms = rng_between(&rng, 1, 10);
    o.stall = rng_chance(&rng, 0.5) ? 0.02 * (double)rng_between(&rng, 1, 10) : 0;
    o.stall_ms = rng_between(&rng, 50, 3000);
    o.submit = rng_chance(&rng, 0.5) ? 0.2 : 0.02;
    o.compact = rng_chance(&rng, 0.5) ? 0.02 : 0;
    return o;
}

struct cluster *cluster_new(const struct cluster_options *options)
{
    ASSERT(options->nodes >= 1 && options->nodes <= ORACLE_NODES_MAX);
    struct cluster *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    c->options = *options;
    rng_seed(&c->rng, options->seed);
    TAILQ_INIT(&c->network);
    oracle_init(&c->oracle, options->seed, options->nodes, &c->now_ms);
    for (uint32_t i = 0; i < options->nodes; i++) {
        struct node *n = &c->nodes[i];
        n->id = i + 1;
        n->clock_skew_ms = (int64_t)rng_below(&c->rng, 100000);
        STAILQ_INIT(&n->writes);
        TAILQ_INIT(&n->held);
        c->oracle.disks[i] = &n->disk;
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
    for (uint32_t i = 0; i < c->options.nodes; i++) {
        cluster_crash(c, i + 1);
        shadow_free(&c->nodes[i].log);
        shadow_free(&c->nodes[i].disk.log);
    }
    struct packet *p;
    while ((p = TAILQ_FIRST(&c->network)) != NULL) {
        TAILQ_REMOVE(&c->network, p, link);
        free(p);
    }
    oracle_done(&c->oracle);
    free(c);
}

bool cluster_submit(struct cluster *c, uint64_t replica, uint64_t count)
{
    struct node *n = &c->nodes[replica - 1];
    if (n->raft == NULL || raft_role(n->raft) != RAFT_LEADER || n->led_term != raft_term(n->raft)) {
        return false;
    }
    submit(c, n, count);
    return true;
}

const struct raft *cluster_raft(const struct cluster *c, uint64_t replica)
{
    return c->nodes[replica - 1].raft;
}

uint64_t cluster_leader(const struct cluster *c)
{
    uint64_t leader = 0;
    uint64_t term = 0;
    for (uint32_t i = 0; i < c->options.nodes; i++) {
        const struct raft *r = c->nodes[i].raft;
        if (r != NULL && raft_role(r) == RAFT_LEADER && raft_term(r) > term) {
            leader = c->nodes[i].id;
            term = raft_term(r);
        }
    }
    return leader;
}

const struct cluster_marks *cluster_marks(const struct cluster *c)
{
    return &c->marks;
}

uint64_t cluster_hash(const struct cluster *c)
{
    return c->hash;
}
