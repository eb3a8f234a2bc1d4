/* See sim_registry.h. A *view* is what one broker sees in one life. Whatever changes raises a topic's version or adds a
 * mark; each view remembers what it was told, and is brought up to date by one event a little later. */
#include "sim_registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"

#define LATER_US 500u
#define TICK_US  1000000u

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

struct mark {
    uint64_t group, holders; /* no holders: it was taken away */
};

struct leader {
    uint64_t group, broker, term;
    UT_hash_handle hh;
};

struct view {
    struct registry port; /* first: found by it */
    struct sim_registry *registry;
    struct sim_world *world;
    uint64_t id, life;
    bool alive, loaded;
    struct registry_self self;
    struct registry_visitor visitor;
    void *context;
    uint64_t *told; /* owned: versions, by topic; 0: never */
    uint32_t told_capacity, marks_told;
    bool telling; /* an event is on its way */
};

struct sim_registry {
    struct sim_world *world;
    struct topic_row **topics; /* owned, all that ever were */
    uint32_t topics_count, topics_capacity;
    struct mark *marks; /* owned */
    uint32_t marks_count, marks_capacity;
    struct leader *leaders; /* owned, by group */
    uint64_t next_id;
    struct view views[SIM_REGISTRY_BROKERS_MAX + 1];
    bool ticking, held;
    struct rng rng;
    uint64_t delay_min_us, delay_max_us;
    double lost_part;
    uint64_t births_moved;
};

static struct view *view_of(struct registry *port)
{
    return (struct view *)port;
}

/* --- brokers that are told what changed --- */

static uint64_t later_us(struct sim_registry *registry)
{
    uint64_t delay_us = registry->delay_min_us;
    if (registry->delay_max_us > registry->delay_min_us) {
        delay_us = rng_between(&registry->rng, registry->delay_min_us, registry->delay_max_us);
    }
    return registry->world->now_us + delay_us;
}

static void tell_marks(struct view *view, uint64_t life)
{
    struct sim_registry *registry = view->registry;
    while (view->life == life && view->marks_told < registry->marks_count) {
        const struct mark *mark = &registry->marks[view->marks_told++];
        if (mark->holders != 0) {
            view->visitor.deleted(view->context, mark->group);
        }
    }
}

static void tell_topic(struct view *view, uint32_t i)
{
    const struct topic_row *topic = view->registry->topics[i];
    uint64_t told = view->told[i];
    view->told[i] = topic->version;
    if (topic->gone && told != 0) {
        view->visitor.gone(view->context, topic->row.id);
    } else if (!topic->gone && told != topic->version) {
        view->visitor.topic(view->context, &topic->row);
    }
}

/* At the start topics come before marks, later marks before the end of their topics. */
static void tell_all(struct view *view, bool is_first)
{
    struct sim_registry *registry = view->registry;
    uint64_t life = view->life;
    if (view->told_capacity < registry->topics_count) {
        view->told = mem_grow(view->told, registry->topics_capacity * sizeof *view->told);
        memset(view->told + view->told_capacity, 0,
               (registry->topics_capacity - view->told_capacity) * sizeof *view->told);
        view->told_capacity = registry->topics_capacity;
    }
    if (!is_first) {
        tell_marks(view, life);
    }
    for (uint32_t i = 0; view->life == life && i < registry->topics_count; i++) {
        if (view->told[i] != registry->topics[i]->version) {
            tell_topic(view, i);
        }
    }
    tell_marks(view, life);
}

static void on_tell(void *context, uint64_t life)
{
    struct view *view = context;
    if (view->life != life) {
        return;
    }
    view->telling = false;
    if (!view->registry->held) {
        world_enter(view->world);
        tell_all(view, false);
        world_leave(view->world);
    }
}

static void tell_everybody(struct sim_registry *registry)
{
    for (uint64_t id = 1; id <= SIM_REGISTRY_BROKERS_MAX; id++) {
        struct view *view = &registry->views[id];
        if (view->loaded && !view->telling && !registry->held) {
            view->telling = true;
            world_at(view->world, later_us(registry), on_tell, view, view->life);
        }
    }
}

static void changed(struct topic_row *topic)
{
    topic->version++;
}

/* --- answers --- */

enum errand { ERRAND_ANSWER, ERRAND_LOAD, ERRAND_BORN, ERRAND_LOST, ERRAND_CREATE, ERRAND_DELETE, ERRAND_FORGET };

struct later {
    struct sim_registry *registry;
    struct asked asked;
    enum errand errand;
    enum err error;
    uint64_t group, replica;
    struct registry_topic topic;
    uint64_t *groups; /* owned */
    uint32_t groups_count;
};

static void on_later(void *context, uint64_t argument);

static void send_later(struct sim_registry *registry, const struct later *what)
{
    struct later *later = mem_zeroed(1, sizeof *later);
    struct view *view = &registry->views[what->asked.broker];
    *later = *what;
    later->registry = registry;
    world_at(what->errand == ERRAND_ANSWER || what->errand == ERRAND_LOAD ? view->world : registry->world,
             later_us(registry), on_later, later, 0);
}

static void answer(struct sim_registry *registry, const struct asked *asked, enum err error)
{
    if (asked->done != NULL) {
        send_later(registry, &(struct later){.errand = ERRAND_ANSWER, .asked = *asked, .error = error});
    }
}

static void answer_asked(struct sim_registry *registry, struct topic_row *topic, enum err error)
{
    while (topic->asked != NULL) {
        struct asked *asked = topic->asked;
        topic->asked = asked->next;
        answer(registry, asked, error);
        free(asked);
    }
}

/* --- the controller --- */

static void bury(struct sim_registry *registry, uint64_t group, uint64_t holders)
{
    struct leader *leader;
    if (registry->marks_count == registry->marks_capacity) {
        registry->marks_capacity = registry->marks_capacity == 0 ? 16 : registry->marks_capacity * 2;
        registry->marks = mem_grow(registry->marks, registry->marks_capacity * sizeof *registry->marks);
    }
    registry->marks[registry->marks_count++] = (struct mark){.group = group, .holders = holders};
    HASH_FIND(hh, registry->leaders, &group, sizeof group, leader);
    if (leader != NULL) {
        HASH_DEL(registry->leaders, leader);
        free(leader);
    }
}

static void end_topic(struct sim_registry *registry, struct topic_row *topic, enum err error)
{
    for (uint32_t p = 0; p < topic->row.partitions_count; p++) {
        bury(registry, topic->partitions[p].group, topic->placed[p].holders);
    }
    topic->gone = true;
    changed(topic);
    answer_asked(registry, topic, error);
    tell_everybody(registry);
}

static struct topic_row *topic_of(const struct sim_registry *registry, uint64_t group, uint32_t *ret_partition)
{
    for (uint32_t i = 0; i < registry->topics_count; i++) {
        for (uint32_t p = 0; !registry->topics[i]->gone && p < registry->topics[i]->row.partitions_count; p++) {
            if (registry->topics[i]->partitions[p].group == group) {
                *ret_partition = p;
                return registry->topics[i];
            }
        }
    }
    return NULL;
}

/* One more replica on this broker; a founder while the topic is being made. */
static void place(struct sim_registry *registry, struct topic_row *topic, uint32_t p, uint64_t broker)
{
    struct registry_partition *partition = &topic->partitions[p];
    uint32_t r = partition->replicas_count++;
    struct registry_replica *replica = &partition->replicas[r];
    ASSERT(r < RAFT_VOTERS_MAX);
    *replica = (struct registry_replica){.replica = registry->next_id++, .broker = broker, .state = REPLICA_NEW};
    memcpy(replica->disk_uuid, registry->views[broker].self.disk_uuid, sizeof replica->disk_uuid);
    topic->placed[p].since_us[r] = registry->world->now_us;
    topic->placed[p].holders |= 1ull << broker;
    if (topic->row.state == TOPIC_CREATING) {
        partition->founders[partition->founders_count++] =
            (struct registry_founder){.replica = replica->replica, .broker = broker};
    }
}

static void unplace(struct topic_row *topic, uint32_t p, uint32_t r)
{
    struct registry_partition *partition = &topic->partitions[p];
    partition->replicas_count--;
    for (uint32_t i = r; i < partition->replicas_count; i++) {
        partition->replicas[i] = partition->replicas[i + 1];
        topic->placed[p].since_us[i] = topic->placed[p].since_us[i + 1];
    }
}

static uint32_t count_on(const struct sim_registry *registry, uint64_t broker)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < registry->topics_count; i++) {
        const struct topic_row *topic = registry->topics[i];
        for (uint32_t p = 0; !topic->gone && p < topic->row.partitions_count; p++) {
            count += registry_replica_on(&topic->partitions[p], broker) != NULL;
        }
    }
    return count;
}

/* The live broker with the fewest replicas that has none of this partition; 0: none. */
static uint64_t choose(const struct sim_registry *registry, const struct registry_partition *partition)
{
    uint64_t best = 0;
    uint32_t best_count = 0;
    for (uint64_t id = 1; id <= SIM_REGISTRY_BROKERS_MAX; id++) {
        if (!registry->views[id].loaded || registry_replica_on(partition, id) != NULL) {
            continue;
        }
        uint32_t count = count_on(registry, id);
        if (best == 0 || count < best_count) {
            best = id;
            best_count = count;
        }
    }
    return best;
}

static bool is_late(const struct sim_registry *registry, const struct topic_row *topic, uint32_t p, uint32_t r)
{
    return topic->partitions[p].replicas[r].state == REPLICA_NEW &&
           registry->world->now_us >= topic->placed[p].since_us[r] + SIM_REGISTRY_BIRTH_US;
}

/* An unborn group with a replica that does not come: another group in its place. False: too few brokers live. */
static bool found_anew(struct sim_registry *registry, struct topic_row *topic, uint32_t p, uint64_t without)
{
    struct registry_partition *partition = &topic->partitions[p];
    const struct registry_partition before = *partition;
    bury(registry, before.group, topic->placed[p].holders);
    *partition = (struct registry_partition){.group = registry->next_id++};
    topic->placed[p] = (struct placed){.holders = 0};
    for (uint32_t r = 0; r < before.replicas_count; r++) { /* who was in time stays */
        const struct registry_replica *one = &before.replicas[r];
        if (one->broker != without && one->state == REPLICA_BORN && registry->views[one->broker].loaded) {
            place(registry, topic, p, one->broker);
        }
    }
    while (partition->replicas_count < before.replicas_count) {
        uint64_t broker = choose(registry, partition);
        if (broker == 0) {
            return false;
        }
        place(registry, topic, p, broker);
    }
    registry->births_moved++;
    return true;
}

static void check_births(struct sim_registry *registry, struct topic_row *topic)
{
    for (uint32_t p = 0; p < topic->row.partitions_count; p++) {
        uint32_t r = 0;
        while (r < topic->partitions[p].replicas_count && !is_late(registry, topic, p, r)) {
            r++;
        }
        if (r == topic->partitions[p].replicas_count) {
            continue;
        }
        changed(topic);
        if (topic->row.state == TOPIC_CREATING) {
            if (!found_anew(registry, topic, p, 0)) {
                end_topic(registry, topic, ERR_NOT_ENOUGH_BROKERS);
                return;
            }
            continue;
        }
        topic->placed[p].since_us[r] = registry->world->now_us;
        uint64_t broker = choose(registry, &topic->partitions[p]);
        if (broker != 0) {
            unplace(topic, p, r);
            place(registry, topic, p, broker);
            registry->births_moved++;
        }
    }
}

static bool is_all_born(const struct topic_row *topic)
{
    for (uint32_t p = 0; p < topic->row.partitions_count; p++) {
        for (uint32_t r = 0; r < topic->partitions[p].replicas_count; r++) {
            if (topic->partitions[p].replicas[r].state != REPLICA_BORN) {
                return false;
            }
        }
    }
    return true;
}

bool sim_registry_is_settled(const struct sim_registry *registry)
{
    for (uint32_t i = 0; i < registry->topics_count; i++) {
        const struct topic_row *topic = registry->topics[i];
        if (!topic->gone && (topic->row.state != TOPIC_LIVE || !is_all_born(topic))) {
            return false;
        }
    }
    return true;
}

static void on_tick(void *context, uint64_t argument)
{
    struct sim_registry *registry = context;
    (void)argument;
    registry->ticking = false;
    for (uint32_t i = 0; !registry->held && i < registry->topics_count; i++) {
        if (!registry->topics[i]->gone && !is_all_born(registry->topics[i])) {
            check_births(registry, registry->topics[i]);
        }
    }
    if (!sim_registry_is_settled(registry)) {
        registry->ticking = true;
        world_at(registry->world, registry->world->now_us + TICK_US, on_tick, registry, 0);
    }
    tell_everybody(registry);
}

/* Something is to be born. */
static void watch_births(struct sim_registry *registry)
{
    if (!registry->ticking) {
        registry->ticking = true;
        world_at(registry->world, registry->world->now_us + TICK_US, on_tick, registry, 0);
    }
    tell_everybody(registry);
}

static struct topic_row *topic_by_name(const struct sim_registry *registry, const char *name)
{
    for (uint32_t i = 0; i < registry->topics_count; i++) {
        if (!registry->topics[i]->gone && strcmp(registry->topics[i]->row.name, name) == 0) {
            return registry->topics[i];
        }
    }
    return NULL;
}

static struct topic_row *topic_new(struct sim_registry *registry, const struct registry_topic *wish)
{
    struct topic_row *topic = mem_zeroed(1, sizeof *topic);
    topic->row = *wish;
    topic->row.state = TOPIC_CREATING;
    topic->row.first_group = registry->next_id;
    topic->row.first_replica = registry->next_id + wish->partitions_count;
    topic->partitions = mem_zeroed(wish->partitions_count, sizeof *topic->partitions);
    topic->placed = mem_zeroed(wish->partitions_count, sizeof *topic->placed);
    topic->row.partitions = topic->partitions;
    topic->version = 1;
    snprintf((char *)topic->row.id, sizeof topic->row.id, "%lu", topic->row.first_group);
    for (uint32_t p = 0; p < wish->partitions_count; p++) {
        topic->partitions[p].group = registry->next_id++;
    }
    if (registry->topics_count == registry->topics_capacity) {
        registry->topics_capacity = registry->topics_capacity == 0 ? 8 : registry->topics_capacity * 2;
        registry->topics = mem_grow(registry->topics, registry->topics_capacity * sizeof registry->topics[0]);
    }
    registry->topics[registry->topics_count++] = topic;
    return topic;
}

static enum err create(struct sim_registry *registry, const struct registry_topic *wish, struct topic_row **ret_topic)
{
    uint32_t alive = 0;
    if (topic_by_name(registry, wish->name) != NULL) {
        return ERR_TOPIC_EXISTS;
    }
    for (uint64_t id = 1; id <= SIM_REGISTRY_BROKERS_MAX; id++) {
        alive += registry->views[id].loaded;
    }
    uint32_t replicas = wish->config.replicas != 0 ? wish->config.replicas : alive >= 3 ? 3 : 1;
    if (replicas > alive) {
        return ERR_NOT_ENOUGH_BROKERS;
    }
    struct topic_row *topic = topic_new(registry, wish);
    topic->row.config.replicas = replicas;
    for (uint32_t p = 0; p < wish->partitions_count; p++) {
        while (topic->partitions[p].replicas_count < replicas) {
            place(registry, topic, p, choose(registry, &topic->partitions[p]));
        }
    }
    watch_births(registry);
    *ret_topic = topic;
    return OK;
}

/* --- errands of the brokers --- */

/* A wished replica of the broker that sent the report, on the disk that it has now or (lost) had once. */
static struct registry_replica *reported(const struct later *later, struct topic_row **ret_topic, uint32_t *ret_p,
                                         uint32_t *ret_r)
{
    *ret_topic = topic_of(later->registry, later->group, ret_p);
    for (uint32_t r = 0; *ret_topic != NULL && r < (*ret_topic)->partitions[*ret_p].replicas_count; r++) {
        struct registry_replica *replica = &(*ret_topic)->partitions[*ret_p].replicas[r];
        if (replica->replica == later->replica && replica->broker == later->asked.broker) {
            *ret_r = r;
            return replica;
        }
    }
    return NULL;
}

static void on_born(const struct later *later)
{
    struct sim_registry *registry = later->registry;
    const struct registry_self *self = &registry->views[later->asked.broker].self;
    struct topic_row *topic;
    uint32_t p, r;
    struct registry_replica *replica = reported(later, &topic, &p, &r);
    if (replica == NULL || replica->state != REPLICA_NEW ||
        memcmp(replica->disk_uuid, self->disk_uuid, sizeof self->disk_uuid) != 0) {
        return;
    }
    replica->state = REPLICA_BORN;
    changed(topic);
    if (topic->row.state == TOPIC_CREATING && is_all_born(topic)) {
        topic->row.state = TOPIC_LIVE;
        answer_asked(registry, topic, OK);
    }
    tell_everybody(registry);
}

static void on_lost(const struct later *later)
{
    struct sim_registry *registry = later->registry;
    struct topic_row *topic;
    uint32_t p, r;
    if (reported(later, &topic, &p, &r) == NULL) {
        return;
    }
    if (topic->row.state == TOPIC_CREATING) {
        changed(topic);
        if (!found_anew(registry, topic, p, 0)) {
            end_topic(registry, topic, ERR_NOT_ENOUGH_BROKERS);
        }
        watch_births(registry);
    } else if (topic->partitions[p].replicas_count > 1) { /* the only one: gone until somebody accepts that */
        unplace(topic, p, r);
        place(registry, topic, p, later->asked.broker);
        changed(topic);
        watch_births(registry);
    }
}

static void on_create(const struct later *later)
{
    struct topic_row *topic;
    enum err error = create(later->registry, &later->topic, &topic);
    if (error != OK) {
        answer(later->registry, &later->asked, error);
        return;
    }
    struct asked *asked = mem_zeroed(1, sizeof *asked);
    *asked = later->asked;
    asked->next = topic->asked;
    topic->asked = asked;
}

static void on_delete(const struct later *later)
{
    struct sim_registry *registry = later->registry;
    for (uint32_t i = 0; i < registry->topics_count; i++) {
        struct topic_row *topic = registry->topics[i];
        if (!topic->gone && memcmp(topic->row.id, later->topic.id, sizeof topic->row.id) == 0) {
            end_topic(registry, topic, ERR_UNKNOWN_TOPIC);
            answer(registry, &later->asked, OK);
            return;
        }
    }
    answer(registry, &later->asked, ERR_UNKNOWN_TOPIC);
}

static void on_forget(const struct later *later)
{
    struct sim_registry *registry = later->registry;
    for (uint32_t g = 0; g < later->groups_count; g++) {
        for (uint32_t i = 0; i < registry->marks_count; i++) {
            if (registry->marks[i].group == later->groups[g]) {
                registry->marks[i].holders &= ~(1ull << later->asked.broker);
            }
        }
    }
    answer(registry, &later->asked, OK);
}

static void on_load(const struct later *later)
{
    struct sim_registry *registry = later->registry;
    struct view *view = &registry->views[later->asked.broker];
    static const uint8_t unknown[UUID_BYTES];
    view->loaded = true;
    for (uint32_t i = 0; i < registry->topics_count; i++) { /* placed on it before it ever lived */
        struct topic_row *topic = registry->topics[i];
        for (uint32_t p = 0; p < topic->row.partitions_count; p++) {
            for (uint32_t r = 0; r < topic->partitions[p].replicas_count; r++) {
                struct registry_replica *one = &topic->partitions[p].replicas[r];
                if (one->broker == view->id && memcmp(one->disk_uuid, unknown, sizeof unknown) == 0) {
                    memcpy(one->disk_uuid, view->self.disk_uuid, sizeof one->disk_uuid);
                    changed(topic);
                }
            }
        }
    }
    world_enter(view->world);
    tell_all(view, true);
    if (view->life == later->asked.life) {
        later->asked.done(later->asked.context, OK);
    }
    world_leave(view->world);
}

static void on_later(void *context, uint64_t argument)
{
    struct later *later = context;
    struct sim_registry *registry = later->registry;
    struct view *view = &registry->views[later->asked.broker];
    (void)argument;
    if (registry->held) { /* what is on its way waits; a report is repeated anyway */
        world_at(view->world, registry->world->now_us + TICK_US, on_later, later, 0);
        return;
    }
    if (view->life == later->asked.life) {
        switch (later->errand) {
        case ERRAND_ANSWER:
            world_enter(view->world);
            later->asked.done(later->asked.context, later->error);
            world_leave(view->world);
            break;
        case ERRAND_LOAD:
            on_load(later);
            break;
        case ERRAND_BORN:
            on_born(later);
            break;
        case ERRAND_LOST:
            on_lost(later);
            break;
        case ERRAND_CREATE:
            on_create(later);
            break;
        case ERRAND_DELETE:
            on_delete(later);
            break;
        case ERRAND_FORGET:
            on_forget(later);
            break;
        }
    }
    free(later->groups);
    free(later);
}

/* --- the port --- */

static struct later errand_of(struct registry *port, enum errand errand, registry_done done, void *context)
{
    struct view *view = view_of(port);
    return (struct later){.errand = errand,
                          .asked = {.broker = view->id, .life = view->life, .done = done, .context = context}};
}

static void registry__load(struct registry *port, const struct registry_self *self,
                           const struct registry_visitor *visitor, registry_done done, void *context)
{
    struct view *view = view_of(port);
    struct later later = errand_of(port, ERRAND_LOAD, done, context);
    ASSERT(self->broker == view->id);
    view->self = *self;
    view->visitor = *visitor;
    view->context = context;
    send_later(view->registry, &later);
}

static void registry__create(struct registry *port, const struct registry_topic *wish, registry_done done,
                             void *context)
{
    struct later later = errand_of(port, ERRAND_CREATE, done, context);
    later.topic = *wish;
    later.topic.partitions = NULL;
    send_later(view_of(port)->registry, &later);
}

static void registry__delete(struct registry *port, const struct registry_topic *row, registry_done done, void *context)
{
    struct later later = errand_of(port, ERRAND_DELETE, done, context);
    later.topic = *row;
    send_later(view_of(port)->registry, &later);
}

static void registry__forget(struct registry *port, const uint64_t *groups, uint32_t count, registry_done done,
                             void *context)
{
    struct later later = errand_of(port, ERRAND_FORGET, done, context);
    later.groups = mem_zeroed(count + 1, sizeof *groups);
    later.groups_count = count;
    memcpy(later.groups, groups, count * sizeof *groups);
    send_later(view_of(port)->registry, &later);
}

static void registry__reserve(struct registry *port, uint64_t count, uint64_t *ret_first, registry_done done,
                              void *context)
{
    struct sim_registry *registry = view_of(port)->registry;
    struct later later = errand_of(port, ERRAND_ANSWER, done, context);
    *ret_first = registry->next_id;
    registry->next_id += count;
    send_later(registry, &later);
}

static void registry__put(struct registry *port, const struct registry_topic *row, registry_done done, void *context)
{
    (void)port, (void)row, (void)done, (void)context;
    UNREACHABLE(); /* no broker is the controller */
}

static void report(struct registry *port, enum errand errand, uint64_t group, uint64_t replica)
{
    struct sim_registry *registry = view_of(port)->registry;
    struct later later = errand_of(port, errand, NULL, NULL);
    later.group = group;
    later.replica = replica;
    if (!registry->held && (registry->lost_part == 0 || !rng_chance(&registry->rng, registry->lost_part))) {
        send_later(registry, &later);
    }
}

static void registry__born(struct registry *port, uint64_t group, uint64_t replica)
{
    report(port, ERRAND_BORN, group, replica);
}

static void registry__lost(struct registry *port, uint64_t group, uint64_t replica)
{
    report(port, ERRAND_LOST, group, replica);
}

static void registry__publish(struct registry *port, uint64_t group, uint64_t broker, uint64_t term)
{
    struct sim_registry *registry = view_of(port)->registry;
    struct leader *leader;
    uint32_t p;
    if (topic_of(registry, group, &p) == NULL) {
        return;
    }
    HASH_FIND(hh, registry->leaders, &group, sizeof group, leader);
    if (leader == NULL) {
        leader = mem_zeroed(1, sizeof *leader);
        leader->group = group;
        HASH_ADD(hh, registry->leaders, group, sizeof leader->group, leader);
    }
    if (term > leader->term) {
        leader->term = term;
        leader->broker = broker;
    }
}

static const struct registry_ops ops = {.load = registry__load,
                                        .create_topic = registry__create,
                                        .delete_topic = registry__delete,
                                        .forget_deleted = registry__forget,
                                        .reserve_ids = registry__reserve,
                                        .put_topic = registry__put,
                                        .report_born = registry__born,
                                        .report_lost = registry__lost,
                                        .publish_leader = registry__publish};

/* --- life --- */

struct sim_registry *sim_registry_new(struct sim_world *world)
{
    struct sim_registry *registry = mem_zeroed(1, sizeof *registry);
    registry->world = world;
    registry->next_id = 1;
    registry->delay_min_us = registry->delay_max_us = LATER_US;
    for (uint64_t id = 1; id <= SIM_REGISTRY_BROKERS_MAX; id++) {
        registry->views[id] = (struct view){.registry = registry, .world = world, .id = id};
    }
    return registry;
}

void sim_registry_free(struct sim_registry *registry)
{
    struct leader *leader, *next;
    for (uint32_t i = 0; i < registry->topics_count; i++) {
        struct topic_row *topic = registry->topics[i];
        while (topic->asked != NULL) {
            struct asked *asked = topic->asked;
            topic->asked = asked->next;
            free(asked);
        }
        free(topic->partitions);
        free(topic->placed);
        free(topic);
    }
    for (uint64_t id = 1; id <= SIM_REGISTRY_BROKERS_MAX; id++) {
        free(registry->views[id].told);
    }
    HASH_ITER(hh, registry->leaders, leader, next)
    {
        HASH_DEL(registry->leaders, leader);
        free(leader);
    }
    free(registry->topics);
    free(registry->marks);
    free(registry);
}

struct registry *sim_registry_port(struct sim_registry *registry, uint64_t id)
{
    struct view *view = &registry->views[id];
    sim_registry_kill(registry, id);
    view->port.ops = &ops;
    return &view->port;
}

void sim_registry_place(struct sim_registry *registry, uint64_t id, struct sim_world *world)
{
    registry->views[id].world = world;
}

void sim_registry_kill(struct sim_registry *registry, uint64_t id)
{
    struct view *view = &registry->views[id];
    view->life++;
    view->loaded = view->telling = false;
    view->marks_told = 0;
    free(view->told);
    view->told = NULL;
    view->told_capacity = 0;
}

void sim_registry_delay(struct sim_registry *registry, uint64_t seed, uint64_t us_min, uint64_t us_max)
{
    rng_seed(&registry->rng, seed);
    registry->delay_min_us = us_min;
    registry->delay_max_us = us_max;
}

void sim_registry_lose(struct sim_registry *registry, double part)
{
    registry->lost_part = part;
}

void sim_registry_hold(struct sim_registry *registry, bool held)
{
    registry->held = held;
    if (!held) {
        watch_births(registry);
    }
}

/* --- the controller's hand --- */

uint64_t sim_registry_add_topic(struct sim_registry *registry, const char *name, uint32_t partitions, uint32_t replicas,
                                uint32_t brokers)
{
    struct registry_topic wish = {.kind = TOPIC_DATA,
                                  .partitions_count = partitions,
                                  .config = {.segment_bytes = SEGMENT_BYTES_MIN,
                                             .segment_ms = -1,
                                             .retention_bytes = -1,
                                             .retention_ms = -1,
                                             .max_batch_bytes = SEGMENT_BYTES_MIN,
                                             .replicas = replicas}};
    ASSERT(replicas <= brokers && topic_by_name(registry, name) == NULL);
    snprintf(wish.name, sizeof wish.name, "%s", name);
    struct topic_row *topic = topic_new(registry, &wish);
    for (uint32_t i = 0; i < partitions * replicas; i++) {
        place(registry, topic, i / replicas, 1 + (i / replicas + i % replicas) % brokers);
    }
    watch_births(registry);
    return topic->row.first_group;
}

uint64_t sim_registry_create_topic(struct sim_registry *registry, const struct registry_topic *wish)
{
    struct topic_row *topic;
    return create(registry, wish, &topic) == OK ? topic->row.first_group : 0;
}

bool sim_registry_delete_topic(struct sim_registry *registry, const char *name)
{
    struct topic_row *topic = topic_by_name(registry, name);
    if (topic != NULL) {
        end_topic(registry, topic, ERR_UNKNOWN_TOPIC);
    }
    return topic != NULL;
}

bool sim_registry_move(struct sim_registry *registry, uint64_t group, uint64_t from, uint64_t to)
{
    uint32_t p;
    struct topic_row *topic = topic_of(registry, group, &p);
    if (topic == NULL || topic->row.state != TOPIC_LIVE) {
        return false;
    }
    struct registry_partition *partition = &topic->partitions[p];
    const struct registry_replica *old = registry_replica_on(partition, from);
    bool is_taken = from != to && registry_replica_on(partition, to) != NULL;
    if ((from != 0 && old == NULL) || is_taken || (to != 0 && !registry->views[to].loaded) ||
        (from == 0 && partition->replicas_count == RAFT_VOTERS_MAX) || (to == 0 && partition->replicas_count == 1)) {
        return false;
    }
    if (from != 0) {
        unplace(topic, p, (uint32_t)(old - partition->replicas));
    }
    if (to != 0) {
        place(registry, topic, p, to);
    }
    changed(topic);
    watch_births(registry);
    return true;
}

/* --- questions --- */

const struct registry_topic *sim_registry_topic(const struct sim_registry *registry, const char *name)
{
    const struct topic_row *topic = topic_by_name(registry, name);
    return topic != NULL ? &topic->row : NULL;
}

const struct registry_partition *sim_registry_partition(const struct sim_registry *registry, uint64_t group)
{
    uint32_t p;
    const struct topic_row *topic = topic_of(registry, group, &p);
    return topic != NULL ? &topic->partitions[p] : NULL;
}

bool sim_registry_is_marked(const struct sim_registry *registry, uint64_t group)
{
    bool is_marked = false;
    for (uint32_t i = 0; i < registry->marks_count; i++) {
        is_marked = is_marked || (registry->marks[i].group == group && registry->marks[i].holders != 0);
    }
    return is_marked;
}

uint64_t sim_registry_leader(const struct sim_registry *registry, uint64_t group, uint64_t *ret_term)
{
    struct leader *leader;
    HASH_FIND(hh, registry->leaders, &group, sizeof group, leader);
    *ret_term = leader != NULL ? leader->term : 0;
    return leader != NULL ? leader->broker : 0;
}

uint64_t sim_registry_births_moved(const struct sim_registry *registry)
{
    return registry->births_moved;
}
