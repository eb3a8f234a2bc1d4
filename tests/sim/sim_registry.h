/* Twin of port/registry for several brokers: one truth that all of them see, and the controller that writes it.
 *
 * As a controller it does what the real one does: places the replicas of new topics, makes a topic LIVE when all of
 * them are reported as born, places those that are not reported for SIM_REGISTRY_BIRTH_US on other brokers (an unborn
 * group gets its deleted mark, and the partition a new one), gives up topics for which too few brokers live, replaces
 * what is reported as lost, takes marks away when nobody holds anything any more. Moves, raises and deletions are
 * written by whoever calls the functions below.
 *
 * A broker lives for it from its load until sim_registry_kill. What it reports and is told takes time
 * (sim_registry_delay), reports may get lost (sim_registry_lose), and during an outage (sim_registry_hold) nothing gets
 * through in either direction. Each broker hears of changes in their order; what was overtaken is left out. What it
 * hears may be as old as the notice, or the question, that brings it (sim_registry_begin), never older than what it was
 * told before. */
#ifndef FLOTILLA_SIM_REGISTRY_H
#define FLOTILLA_SIM_REGISTRY_H

#include "port/registry.h"
#include "sim.h"

#define SIM_REGISTRY_BROKERS_MAX 8u
#define SIM_REGISTRY_BIRTH_US    10000000u

struct sim_registry;

struct sim_registry *sim_registry_new(struct sim_world *world);
void sim_registry_free(struct sim_registry *registry);

/* --- brokers --- */

/* As broker `id` sees it; anew for each of its lives. */
struct registry *sim_registry_port(struct sim_registry *registry, uint64_t id);
/* What the broker is told happens in this world (a part of the registry's); without it, in the registry's. */
void sim_registry_place(struct sim_registry *registry, uint64_t id, struct sim_world *world);
/* Its process is gone: what it asked for is not answered, nothing is placed on it. */
void sim_registry_kill(struct sim_registry *registry, uint64_t id);

/* --- faults; drawn from a generator of its own --- */

void sim_registry_delay(struct sim_registry *registry, uint64_t seed, uint64_t us_min, uint64_t us_max);
void sim_registry_lose(struct sim_registry *registry, double part); /* of reports */
void sim_registry_hold(struct sim_registry *registry, bool held);
/* This broker, once it has loaded, hears of nothing more until that ends. */
void sim_registry_deafen(struct sim_registry *registry, uint64_t id, bool deaf);

/* The classes of a seed, from their first one to the last (sim_tally.h); chances are of each operation or report. */
struct sim_registry_trouble {
    uint64_t late_us_max; /* FAULT_NOTICE: notices and answers take up to this, each order of magnitude alike; */
    double stale;         /* and what they bring is as it was when they set out */
    double lost, twice;   /* FAULT_REPORT */
    double doubt;         /* FAULT_DOUBT: ERR_UNKNOWN_OUTCOME, whether it was done or not */
};
/* faults: as in struct sim_options. */
void sim_registry_begin(struct sim_registry *registry, const struct sim_registry_trouble *trouble, const bool *faults,
                        uint64_t seed);
/* The next operation that can suffer it does: FAULT_REPORT, FAULT_DOUBT. */
void sim_registry_strike(struct sim_registry *registry, enum sim_fault fault);
void sim_registry_calm(struct sim_registry *registry); /* nothing of all this any more, and no outage */
bool sim_registry_is_away(const struct sim_registry *registry);

/* Somebody who sees what comes of it; NULL calls are left out. */
struct sim_registry_watcher {
    void *context;
    void (*ended)(void *context, uint64_t group); /* it is about to get its deleted mark */
    /* Every word about a leader as it leaves its broker, also of one that changes nothing; outside of the product. */
    void (*published)(void *context, uint64_t group, uint64_t broker, uint64_t term);
    /* It has come: `by` says that `leader` leads; what the registry has afterwards: sim_registry_leader. */
    void (*taken)(void *context, uint64_t by, uint64_t group, uint64_t leader, uint64_t term);
};
void sim_registry_watch(struct sim_registry *registry, const struct sim_registry_watcher *watcher); /* copied */

/* --- the controller's hand --- */

/* A topic with replicas on brokers 1 .. brokers, state CREATING; whether they live or not. replicas are placed round
 * robin. Returns the first group id. */
uint64_t sim_registry_add_topic(struct sim_registry *registry, const char *name, uint32_t partitions, uint32_t replicas,
                                uint32_t brokers);
/* The same with partitions_count and config of a wish (name, kind, partitions_count, config). */
uint64_t sim_registry_add(struct sim_registry *registry, const struct registry_topic *wish, uint32_t brokers);
/* The same with kind and config of a wish (name, kind, partitions_count, config), on the brokers that live; 0: too few
 * of them, or there is such a topic. */
uint64_t sim_registry_create_topic(struct sim_registry *registry, const struct registry_topic *wish);
bool sim_registry_delete_topic(struct sim_registry *registry, const char *name);
/* The partition's replica on `from` goes, a new one on `to` is wished in its place; `from` 0: it is one more; `to` 0:
 * one less. The same broker twice: as if it was lost. False: there is none on from, one on to, `to` does not live, or
 * the topic is not LIVE. */
bool sim_registry_move(struct sim_registry *registry, uint64_t group, uint64_t from, uint64_t to);

/* --- questions --- */

/* NULL: there is none (any more). Valid until the next event or call. */
const struct registry_topic *sim_registry_topic(const struct sim_registry *registry, const char *name);
const struct registry_partition *sim_registry_partition(const struct sim_registry *registry, uint64_t group);
/* All partitions of topics that are LIVE, one after the other, from *io_place 0 on; NULL: that was the last one. */
const struct registry_partition *sim_registry_next(const struct sim_registry *registry, uint64_t *io_place);
bool sim_registry_is_creating(const struct sim_registry *registry);               /* some topic is not LIVE yet */
bool sim_registry_is_marked(const struct sim_registry *registry, uint64_t group); /* it has a deleted mark */
/* Every wished replica of every topic is BORN, and every topic LIVE. */
bool sim_registry_is_settled(const struct sim_registry *registry);
/* Who was published as leader of a group; 0: nobody. */
uint64_t sim_registry_leader(const struct sim_registry *registry, uint64_t group, uint64_t *ret_term);
uint64_t sim_registry_births_moved(const struct sim_registry *registry); /* by the rule of SIM_REGISTRY_BIRTH_US */

#endif
