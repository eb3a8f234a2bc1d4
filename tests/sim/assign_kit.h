/* For tests of what the registry wishes: a trio, what is to be seen of its groups, and the controller's hand. Each test
 * opens `t` itself; kit_tear_down closes it. Whatever is waited for may fail the test. */
#ifndef FLOTILLA_SIM_ASSIGN_KIT_H
#define FLOTILLA_SIM_ASSIGN_KIT_H

#include "broker/impl.h"
#include "sim_trio.h"

#define SECOND_US 1000000u

extern struct trio t;

int kit_tear_down(void **state);

/* ASSIGN_FIRST and ASSIGN_SEEDS of the environment; then each seed is said before it begins. */
void kit_seeds(uint64_t default_count, uint64_t *ret_from, uint64_t *ret_count);
void kit_next_seed(uint64_t seed, uint64_t from); /* closes the trio of the one before */

/* --- looking --- */

/* NULL: there is none, or the broker is not ready. */
struct partition *kit_replica_at(uint64_t id, uint64_t group);
/* False: it did not become so. */
bool kit_wait_for(bool (*is_so)(const void *context), const void *context, uint64_t limit_us);

/* For kit_wait_for. Contexts: a topic's name; */
bool kit_is_live(const void *name);
bool kit_is_gone(const void *name);
/* a group id (uint64_t). The configuration in force at the leader is the wish, and no broker that is up has a replica
 * that is not wished. */
bool kit_is_as_wished(const void *context);
bool kit_nobody_has(const void *context);
bool kit_is_forgotten(const void *context);

void kit_describe(uint64_t group); /* on stderr: for people who look at a seed that failed */

/* --- doing --- */

/* Topic `u`, placed on the brokers with the lowest ids; returns the group of its first partition. */
uint64_t kit_ask_for_topic(uint32_t partitions, uint32_t replicas);
uint64_t kit_make_topic(uint32_t partitions, uint32_t replicas); /* and waits until it is live */
void kit_produce(uint64_t group, uint32_t count);
void kit_cut(uint64_t one, uint64_t other, bool is_cut); /* both ways */
void kit_isolate(uint64_t id, bool is_cut);
void kit_join(uint64_t id); /* no cable of it is cut; others dial it again within some seconds, which pass here */
void kit_move(uint64_t group, uint64_t from, uint64_t to); /* sim_registry_move */

#endif
