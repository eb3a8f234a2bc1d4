/* Inside the registry's twin: sim_registry.c is what brokers see of it, sim_controller.c what is written into it. */
#ifndef FLOTILLA_SIM_REGISTRY_IMPL_H
#define FLOTILLA_SIM_REGISTRY_IMPL_H

#include "base/map.h"
#include "base/rng.h"
#include "sim_registry.h"

/* Somebody who waits for an answer. */
struct asked {
    struct asked *next;
    uint64_t broker, life;
    registry_done done;
    void *context;
};

struct placed {
    uint64_t holders;                   /* brokers that were ever given a replica of the group, as a mask */
    uint64_t since_us[RAFT_VOTERS_MAX]; /* when each replica was placed */
};

struct topic_row {
    struct registry_topic row;
    struct registry_partition *partitions; /* owned; row.partitions */
    struct placed *placed;                 /* owned; of each partition */
    uint64_t version;                      /* from 1 on */
    bool gone;
    struct asked *asked; /* for its creation */
};

struct death_mark {
    uint64_t group, holders; /* no holders: it was taken away */
};

struct leader {
    uint64_t group, broker, term;
    UT_hash_handle hh;
};

/* What a broker is told of a topic. */
struct sight {
    uint32_t number; /* of the topic */
    uint64_t version;
    bool gone;
    struct registry_topic row;
    struct registry_partition *partitions; /* owned; row.partitions */
};

/* All that one broker had not been told at some moment. */
struct picture {
    struct sight *sights; /* owned */
    uint32_t count, marks_count;
};

struct view {
    struct registry port; /* first: found by it */
    struct sim_registry *registry;
    struct sim_world *world;
    uint64_t id, life;
    bool loaded, deaf;
    struct registry_self self;
    struct registry_visitor visitor;
    void *context;
    uint64_t *told; /* owned: versions, by topic; 0: never */
    uint32_t told_capacity, marks_told;
    bool telling;           /* an event is on its way, */
    struct picture *notice; /* with this, or (NULL) with what there is when it comes; owned */
};

struct sim_registry {
    struct sim_world *world;
    struct topic_row **topics; /* owned, all that ever were */
    uint32_t topics_count, topics_capacity;
    struct death_mark *marks; /* owned */
    uint32_t marks_count, marks_capacity;
    struct leader *leaders; /* owned, by group */
    uint64_t next_id;
    struct view views[SIM_REGISTRY_BROKERS_MAX + 1];
    bool ticking, held;
    struct rng rng;
    uint64_t delay_min_us, delay_max_us;
    double lost_part;
    struct sim_registry_trouble trouble;
    bool faults[FAULT_CLASSES_ALL], is_due[FAULT_CLASSES_ALL];
    struct sim_registry_watcher watcher;
    uint64_t births_moved;
};

/* --- sim_registry.c --- */

/* Whoever lives hears of what has changed. */
void registry__tell_everybody(struct sim_registry *registry);
/* Those who wait for the topic's creation are answered. */
void registry__answer_asked(struct sim_registry *registry, struct topic_row *topic, enum err error);

/* --- sim_controller.c --- */

enum err controller__create(struct sim_registry *registry, const struct registry_topic *wish,
                            struct topic_row **ret_topic);
void controller__end_topic(struct sim_registry *registry, struct topic_row *topic, enum err error);
/* The topic that has this group now; NULL: none. */
struct topic_row *controller__topic_of(const struct sim_registry *registry, uint64_t group, uint32_t *ret_partition);
void controller__on_born(struct sim_registry *registry, uint64_t broker, uint64_t group, uint64_t replica);
void controller__on_lost(struct sim_registry *registry, uint64_t broker, uint64_t group, uint64_t replica);
void controller__watch_births(struct sim_registry *registry);

#endif
