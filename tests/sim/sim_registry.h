/* Twin of port/registry for several brokers: one truth that all of them see, and that a test writes as a controller
 * would. Every callback comes a little later, as the port says. */
#ifndef FLOTILLA_SIM_REGISTRY_H
#define FLOTILLA_SIM_REGISTRY_H

#include "port/registry.h"
#include "sim.h"

#define SIM_REGISTRY_BROKERS_MAX 8u

struct sim_registry;

struct sim_registry *sim_registry_new(struct sim_world *world);
void sim_registry_free(struct sim_registry *registry);

/* A topic with replicas on brokers 1 .. brokers, state CREATING; the broker that starts next finds it. replicas are
 * placed round robin. Returns the first group id. */
uint64_t sim_registry_add_topic(struct sim_registry *registry, const char *name, uint32_t partitions, uint32_t replicas,
                                uint32_t brokers);
/* As broker `id` sees it; anew for each of its lives. */
struct registry *sim_registry_port(struct sim_registry *registry, uint64_t id);
/* Its process is gone: what it asked for is not answered. */
void sim_registry_kill(struct sim_registry *registry, uint64_t id);
/* Who was published as leader of a group; 0: nobody. */
uint64_t sim_registry_leader(const struct sim_registry *registry, uint64_t group, uint64_t *ret_term);

#endif
