/* Replicas that are moved, added and taken away under load, as a controller would: the registry's twin says where they
 * are to be, and the groups' leaders walk there by changes of their configurations. */
#include "broker/impl.h"
#include "fleet_atlas.h"

#define OVERLAP_CHANCE 0.2 /* a wish is changed before the one before it has come true */
#define TRIES_MAX      8u
#define MOVES_MAX      40u /* of a group: the judge keeps every replica that it ever had in mind */
#define BURST_CHANCE   0.4
#define AGAIN_CHANCE   0.85
#define AGAIN_US_LEAST 100000u
#define AGAIN_US_MAX   3000000u

static bool is_born(const struct registry_partition *wish)
{
    for (uint32_t r = 0; r < wish->replicas_count; r++) {
        if (wish->replicas[r].state != REPLICA_BORN) {
            return false;
        }
    }
    return true;
}

/* 0: all brokers have a replica. */
static uint64_t draw_free(struct fleet *fleet, struct rng *rng, const struct registry_partition *wish)
{
    uint64_t first = rng_below(rng, fleet->brokers);
    for (uint64_t i = 0; i < fleet->brokers; i++) {
        uint64_t id = 1 + (first + i) % fleet->brokers;
        if (registry_replica_on(wish, id) == NULL) {
            return id;
        }
    }
    return 0;
}

/* One change of this group's wish, of any kind that it allows now. */
static bool move_one(struct fleet *fleet, uint64_t number)
{
    struct rng *rng = &fleet->world.crash;
    uint64_t group = fleet->group[number];
    const struct registry_partition *wish = sim_registry_partition(fleet->registry, group);
    uint64_t what = rng_below(rng, 10);
    if (wish == NULL || fleet->moves[number] == MOVES_MAX || (!is_born(wish) && !rng_chance(rng, OVERLAP_CHANCE))) {
        return false;
    }
    uint64_t from = wish->replicas[rng_below(rng, wish->replicas_count)].broker;
    uint64_t to = draw_free(fleet, rng, wish);
    if (what < 1 && wish->replicas_count < fleet->brokers) { /* one more */
        from = 0;
    } else if (what < 2 && wish->replicas_count > fleet->options->replicas) { /* one less */
        to = 0;
    } else if (to == 0) {
        to = from; /* as if it was lost: a new one in its place */
    }
    if (!sim_registry_move(fleet->registry, group, from, to)) {
        return false;
    }
    world_log(&fleet->world, "group %llu: its replica on %llu is to be on %llu", (unsigned long long)group,
              (unsigned long long)from, (unsigned long long)to);
    world_fault(&fleet->world, FAULT_MOVE);
    fleet->moves[number]++;
    return true;
}

/* Somebody cannot make up his mind: the same group again, soon. */
static void on_again(void *context, uint64_t number)
{
    struct fleet *fleet = context;
    struct rng *rng = &fleet->world.crash;
    if (fleet->phase != FLEET_SAFETY) {
        return;
    }
    (void)move_one(fleet, number);
    if (rng_chance(rng, AGAIN_CHANCE)) {
        uint64_t in_us = sim_log_between(rng, AGAIN_US_LEAST, AGAIN_US_MAX);
        world_at(&fleet->world, fleet->world.now_us + in_us, on_again, fleet, number);
    }
}

bool fleet_moves_strike(struct fleet *fleet)
{
    struct rng *rng = &fleet->world.crash;
    for (uint32_t i = 0; i < TRIES_MAX; i++) {
        uint64_t number = rng_below(rng, fleet->groups);
        if (!move_one(fleet, number)) {
            continue;
        }
        if (rng_chance(rng, BURST_CHANCE)) {
            world_at(&fleet->world, fleet->world.now_us + AGAIN_US_LEAST, on_again, fleet, number);
        }
        return true;
    }
    return false;
}

/* The newest configuration that is known there is committed, and names exactly who is wished. */
static bool is_as_wished(const struct partition *p, const struct registry_partition *wish)
{
    struct members now;
    bool is_equal = roster_newest(&p->roster, &now) <= p->applied_index && now.count == wish->replicas_count;
    for (uint32_t r = 0; r < wish->replicas_count && is_equal; r++) {
        const struct member *member = members_find(&now, wish->replicas[r].replica);
        is_equal = member != NULL && member->now == RAFT_VOTER && member->next == RAFT_VOTER;
    }
    return is_equal;
}

/* The leader that nobody has followed yet, as far as can be seen. */
static const struct partition *newest_leader(struct fleet *fleet, uint64_t group)
{
    const struct partition *newest = NULL;
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        struct fleet_broker *b = &fleet->broker[id];
        const struct partition *p = fleet_broker_is_up(b) ? groups_find(b->broker, group) : NULL;
        bool leads = p != NULL && partition_leads(p);
        if (leads && (newest == NULL || raft_term(p->raft) > raft_term(newest->raft))) {
            newest = p;
        }
    }
    return newest;
}

bool fleet_moves_is_settled(struct fleet *fleet, const struct registry_partition *wish)
{
    const struct partition *p = is_born(wish) ? newest_leader(fleet, wish->group) : NULL;
    return p != NULL && is_as_wished(p, wish);
}

/* Replicas that were lost, and others in their places: who votes is what the leaders say. */
static bool losses_are_settled(struct fleet *fleet)
{
    const struct registry_partition *wish;
    uint64_t place = 0;
    while ((wish = sim_registry_next(fleet->registry, &place)) != NULL) {
        if (!fleet_moves_is_settled(fleet, wish)) {
            return false;
        }
    }
    return true;
}

bool fleet_moves_are_settled(struct fleet *fleet)
{
    if (fleet->world.tally.faults[FAULT_MOVE] == 0) {
        return !fleet_atlas_has_replaced(fleet->atlas) || losses_are_settled(fleet);
    }
    for (uint32_t g = 0; g < fleet->groups; g++) {
        const struct registry_partition *wish = sim_registry_partition(fleet->registry, fleet->group[g]);
        for (uint64_t id = 1; id <= fleet->brokers; id++) {
            struct fleet_broker *b = &fleet->broker[id];
            const struct partition *p = b->broker != NULL ? groups_find(b->broker, fleet->group[g]) : NULL;
            bool is_wished = wish != NULL && registry_replica_on(wish, id) != NULL;
            if ((p != NULL) != is_wished || (p != NULL && !is_as_wished(p, wish))) {
                return false;
            }
        }
    }
    return true;
}
