/* What owners and operators ask of a Raft group, by chance: see raft_admin.h. And the swarm's draw. */
#include "raft_admin.h"

#include <stddef.h>

#define PING_EVERY_MS GROUP_HEARTBEAT_MS
#define STRIKES_MAX   3u

bool admin_majorities_are_whole(const struct group *g, uint64_t mask)
{
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        const struct replica *n = &g->replicas[i];
        if (!n->exists) {
            continue;
        }
        /* What a replica that is down had in memory may be on its way to the others. */
        uint64_t index = 0;
        const struct raft_config *newest = oracle_config(&g->oracle, shadow_config(&n->log, n->log.last, &index));
        const struct raft_config *stored =
            oracle_config(&g->oracle, shadow_config(&n->disk.log, n->disk.log.last, &index));
        if (!oracle_is_quorum(newest, mask) || !oracle_is_quorum(stored, mask)) {
            return false;
        }
    }
    return true;
}

/* ---- members ---- */

static void add_member(struct raft_config *config, uint64_t replica, uint8_t kind)
{
    uint32_t at = config->count++;
    for (; at > 0 && config->members[at - 1].replica > replica; at--) {
        config->members[at] = config->members[at - 1];
    }
    config->members[at] = (struct raft_member){.replica = replica, .now = kind, .next = kind};
}

static void remove_member(struct raft_config *config, uint32_t at)
{
    config->count--;
    for (; at < config->count; at++) {
        config->members[at] = config->members[at + 1];
    }
}

/* Who joins gets an id that nobody ever had. */
static void join(struct group *g, struct raft_config *config)
{
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX && config->count < RAFT_MEMBERS_MAX; i++) {
        struct replica *n = &g->replicas[i];
        if (!n->exists) {
            group_start(g, n);
            add_member(config, n->id, rng_chance(&g->rng, 0.8) ? RAFT_LEARNER : RAFT_VOTER);
            return;
        }
    }
}

static void mutate(struct group *g, struct raft_config *config)
{
    uint32_t at = (uint32_t)rng_below(&g->rng, config->count);
    struct raft_member *m = &config->members[at];
    switch (rng_below(&g->rng, 5)) {
    case 0:
        join(g, config);
        break;
    case 1:
    case 2:
        m->now = m->next = RAFT_VOTER;
        break;
    case 3:
        m->now = m->next = RAFT_LEARNER;
        break;
    case 4:
        if (config->count > 1) {
            remove_member(config, at);
        }
        break;
    }
}

static void change(struct group *g, struct replica *n)
{
    uint64_t index = 0;
    const struct raft_config *now = raft_config(n->raft, &index);
    if (raft_role(n->raft) != RAFT_LEADER || raft_config_is_joint(now)) {
        return;
    }
    struct raft_config next = *now;
    for (uint64_t i = rng_between(&g->rng, 1, 3); i > 0; i--) {
        mutate(g, &next);
    }
    uint64_t whole = 0;
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        whole |= g->replicas[i].exists && !g->replicas[i].disk.damaged ? (uint64_t)1 << i : 0;
    }
    if (!raft_config_is_sane(&next) || !oracle_is_quorum(&next, whole)) {
        return; /* an operator does not leave a group to its damaged replicas */
    }
    bool promotes = false;
    for (uint32_t i = 0; i < next.count; i++) {
        promotes = promotes || (next.members[i].next == RAFT_VOTER && !oracle_is_voter(now, next.members[i].replica));
    }
    if (group_change(g, n, &next) == RAFT_CHANGE_OK) {
        g->marks.promotions += promotes;
    }
}

/* ---- acts ---- */

void admin_act(struct admin *a, struct group *g, const struct cluster_options *o, struct replica *n)
{
    struct rng *rng = &g->rng;
    (void)a;
    if (n->leave_due && rng_chance(rng, 0.1)) {
        group_leave_joint(g, n);
    }
    if (n->noop_due && rng_chance(rng, 0.2)) {
        group_noop(g, n);
    }
    if (rng_chance(rng, o->change)) {
        change(g, n);
    }
    if (rng_chance(rng, o->transfer)) {
        group_transfer(g, n, rng_between(rng, 1, ORACLE_REPLICAS_MAX));
    }
    if (rng_chance(rng, o->read)) {
        group_read(g, n);
    }
    if (rng_chance(rng, o->fill)) {
        n->full = !n->full;
        g->marks.fulls += n->full;
        group_step(g, n, (struct raft_event){.type = RAFT_FULL, .full = n->full}, NULL);
    }
    bool leads = raft_role(n->raft) == RAFT_LEADER && n->led_term == raft_term(n->raft);
    if (leads && !raft_is_quiet(n->raft) && rng_chance(rng, o->sleep)) {
        group_step(g, n, (struct raft_event){.type = RAFT_SLEEP}, NULL);
    }
}

/* ---- pings ---- */

static bool sleeps_under(const struct replica *n, uint64_t leader, uint64_t term)
{
    return n->raft != NULL && raft_is_quiet(n->raft) && raft_leader(n->raft) == leader && raft_term(n->raft) == term;
}

static bool ping_fits(const struct group *g, const struct replica *n, uint32_t down)
{
    const struct raft *r = n->raft;
    if (raft_role(r) != RAFT_LEADER) {
        uint64_t leader = raft_leader(r);
        return leader != 0 && !(down >> (leader - 1) & 1) &&
               sleeps_under(&g->replicas[leader - 1], leader, raft_term(r));
    }
    uint64_t index = 0;
    const struct raft_config *config = raft_config(r, &index);
    for (uint32_t i = 0; i < config->count; i++) {
        uint64_t member = config->members[i].replica;
        bool fits = !(down >> (member - 1) & 1) && sleeps_under(&g->replicas[member - 1], n->id, raft_term(r));
        if (member != n->id && !fits) {
            return false;
        }
    }
    return true;
}

void admin_ping(struct admin *a, struct group *g, const uint32_t *links_down)
{
    if (g->now_ms % PING_EVERY_MS != 0) {
        return;
    }
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        struct replica *n = &g->replicas[i];
        bool sleeps = n->raft != NULL && !n->installing && raft_is_quiet(n->raft) && !(links_down[i] >> i & 1);
        a->strikes[i] = sleeps && !ping_fits(g, n, links_down[i]) ? a->strikes[i] + 1 : 0;
        if (a->strikes[i] >= STRIKES_MAX) {
            a->strikes[i] = 0;
            g->marks.wakes++;
            group_step(g, n, (struct raft_event){.type = RAFT_WAKE}, NULL);
        }
    }
}

/* ---- the swarm ---- */

static double sometimes(struct rng *rng, double chance, double rate)
{
    return rng_chance(rng, chance) ? rate * (double)rng_between(rng, 1, 10) / 5 : 0;
}

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
    o.split = rng_chance(&rng, 0.3) ? 0.2 : 0;
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
    o.compact = rng_chance(&rng, 0.6) ? 0.02 : 0;
    o.change = sometimes(&rng, 0.6, 0.01);
    o.transfer = sometimes(&rng, 0.4, 0.02);
    o.read = sometimes(&rng, 0.5, 0.05);
    o.sleep = sometimes(&rng, 0.3, 0.02);
    o.fill = sometimes(&rng, 0.2, 0.002);
    o.damage = rng_chance(&rng, 0.5) ? 0.5 : 0;
    o.doubt = sometimes(&rng, 0.2, 0.0005);
    o.snapshot_fails = sometimes(&rng, 0.5, 0.2);
    o.snapshot_late = sometimes(&rng, 0.5, 0.2);
    if (o.sleep > 0) {
        o.submit = 0.02;
    }
    return o;
}
