/* See assign_kit.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "assign_kit.h"

#define STEP_US 20000u

struct trio t;

/* The memory of jobs under way goes with a process that dies: not to be looked for as a leak. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

int kit_tear_down(void **state)
{
    trio_close(&t);
    return 0;
}

void kit_seeds(uint64_t default_count, uint64_t *ret_from, uint64_t *ret_count)
{
    const char *first = getenv("ASSIGN_FIRST"), *seeds = getenv("ASSIGN_SEEDS");
    *ret_from = first != NULL ? strtoull(first, NULL, 10) : 1;
    *ret_count = seeds != NULL ? strtoull(seeds, NULL, 10) : default_count;
}

void kit_next_seed(uint64_t seed, uint64_t from)
{
    if (seed != from) {
        trio_close(&t);
    }
    if (getenv("ASSIGN_SEEDS") != NULL) {
        fprintf(stderr, "seed %lu\n", seed);
    }
}

/* --- looking --- */

struct partition *kit_replica_at(uint64_t id, uint64_t group)
{
    struct broker *b = t.broker[id].broker;
    return b != NULL && t.broker[id].ready ? groups_find(b, group) : NULL;
}

bool kit_wait_for(bool (*is_so)(const void *context), const void *context, uint64_t limit_us)
{
    for (uint64_t end_us = t.world.now_us + limit_us; !is_so(context); trio_run(&t, STEP_US)) {
        if (t.world.now_us >= end_us) {
            return false;
        }
    }
    return true;
}

bool kit_is_live(const void *name)
{
    const struct registry_topic *topic = sim_registry_topic(t.registry, name);
    return topic != NULL && topic->state == TOPIC_LIVE;
}

bool kit_is_gone(const void *name)
{
    return sim_registry_topic(t.registry, name) == NULL;
}

/* The configuration in force at the leader is the wish, and nobody else holds a replica of the group. */
bool kit_is_as_wished(const void *context)
{
    uint64_t group = *(const uint64_t *)context;
    const struct registry_partition *wish = sim_registry_partition(t.registry, group);
    uint64_t leader = trio_leader(&t, group, 0);
    struct members now;
    if (wish == NULL || leader == 0 || kit_replica_at(leader, group) == NULL) {
        return false;
    }
    const struct partition *p = kit_replica_at(leader, group);
    if (roster_newest(&p->roster, &now) > p->applied_index || now.count != wish->replicas_count) {
        return false;
    }
    for (uint32_t r = 0; r < wish->replicas_count; r++) {
        const struct member *member = members_find(&now, wish->replicas[r].replica);
        if (member == NULL || member->now != RAFT_VOTER || member->next != RAFT_VOTER ||
            member->broker != wish->replicas[r].broker || wish->replicas[r].state != REPLICA_BORN) {
            return false;
        }
    }
    for (uint64_t id = 1; id <= t.brokers; id++) {
        const struct registry_replica *own = registry_replica_on(wish, id);
        p = kit_replica_at(id, group);
        if (t.broker[id].broker != NULL && (p != NULL) != (own != NULL)) {
            return false;
        }
        if (p != NULL && p->replica != own->replica) {
            return false;
        }
    }
    return true;
}

/* For people who look at a seed that failed. */
void kit_describe(uint64_t group)
{
    const struct registry_partition *wish = sim_registry_partition(t.registry, group);
    for (uint32_t r = 0; wish != NULL && r < wish->replicas_count; r++) {
        fprintf(stderr, "wished: replica %lu on broker %lu, state %d\n", wish->replicas[r].replica,
                wish->replicas[r].broker, (int)wish->replicas[r].state);
    }
    for (uint64_t id = 1; id <= t.brokers; id++) {
        const struct partition *p = kit_replica_at(id, group);
        struct members now;
        if (p == NULL) {
            continue;
        }
        uint64_t index = roster_newest(&p->roster, &now);
        fprintf(stderr,
                "broker %lu: replica %lu, state %d, role %d, term %lu, leader %lu, applied %lu, last %lu; at %lu:", id,
                p->replica, (int)p->state, p->raft != NULL ? (int)raft_role(p->raft) : -1,
                p->raft != NULL ? raft_term(p->raft) : 0, p->raft != NULL ? raft_leader(p->raft) : 0, p->applied_index,
                window_last(&p->window), index);
        for (uint32_t i = 0; i < now.count; i++) {
            struct raft_peer_state state = {.match = 0};
            (void)(p->raft != NULL && raft_peer_state(p->raft, now.member[i].replica, &state));
            fprintf(stderr, " %lu@%lu %d->%d (match %lu%s%s)", now.member[i].replica, now.member[i].broker,
                    (int)now.member[i].now, (int)now.member[i].next, state.match, state.active ? "" : ", silent",
                    state.in_snapshot ? ", in snapshot" : "");
        }
        fprintf(stderr, "\n");
    }
}

bool kit_nobody_has(const void *context)
{
    uint64_t group = *(const uint64_t *)context;
    for (uint64_t id = 1; id <= t.brokers; id++) {
        if (kit_replica_at(id, group) != NULL ||
            (t.broker[id].broker != NULL && groups_is_dying(t.broker[id].broker, group))) {
            return false;
        }
    }
    return true;
}

bool kit_is_forgotten(const void *context)
{
    return !sim_registry_is_marked(t.registry, *(const uint64_t *)context);
}

/* --- doing --- */

/* Topic `u`, placed on the brokers with the lowest ids; returns the group of its first partition. */
uint64_t kit_ask_for_topic(uint32_t partitions, uint32_t replicas)
{
    struct registry_topic wish = {.name = "u",
                                  .kind = TOPIC_DATA,
                                  .partitions_count = partitions,
                                  .config = {.segment_bytes = SEGMENT_BYTES_MIN,
                                             .segment_ms = -1,
                                             .retention_bytes = -1,
                                             .retention_ms = -1,
                                             .max_batch_bytes = SEGMENT_BYTES_MIN,
                                             .replicas = replicas}};
    uint64_t group = sim_registry_create_topic(t.registry, &wish);
    assert_true(group != 0);
    return group;
}

uint64_t kit_make_topic(uint32_t partitions, uint32_t replicas)
{
    uint64_t group = kit_ask_for_topic(partitions, replicas);
    assert_true(kit_wait_for(kit_is_live, "u", 10 * SECOND_US));
    return group;
}

void kit_produce(uint64_t group, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_true(trio_produce(&t, group, 20 * SECOND_US) >= 0);
    }
}

void kit_cut(uint64_t one, uint64_t other, bool is_cut)
{
    sim_cables_cut(t.cables, one, other, is_cut);
    sim_cables_cut(t.cables, other, one, is_cut);
}

void kit_isolate(uint64_t id, bool is_cut)
{
    for (uint64_t other = 1; other <= t.brokers; other++) {
        if (other != id) {
            kit_cut(id, other, is_cut);
        }
    }
}

/* Others dial it again within some seconds. */
void kit_join(uint64_t id)
{
    kit_isolate(id, false);
    trio_run(&t, 8 * SECOND_US);
}

void kit_move(uint64_t group, uint64_t from, uint64_t to)
{
    assert_true(sim_registry_move(t.registry, group, from, to));
}
