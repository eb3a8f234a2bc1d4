/* See sim_registry.h. A *view* is what one broker sees in one life. Whatever changes raises a topic's version or adds a
 * mark; each view remembers what it was told, and is brought up to date by one event a little later. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim_registry_impl.h"

#define LATER_US 500u
#define TICK_US  1000000u

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
        const struct death_mark *mark = &registry->marks[view->marks_told++];
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
        view->told = sim_resized(view->told, registry->topics_capacity * sizeof *view->told);
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
    if (!view->registry->held && !view->deaf) {
        world_enter(view->world);
        tell_all(view, false);
        world_leave(view->world);
    }
}

void registry__tell_everybody(struct sim_registry *registry)
{
    for (uint64_t id = 1; id <= SIM_REGISTRY_BROKERS_MAX; id++) {
        struct view *view = &registry->views[id];
        if (view->loaded && !view->telling && !registry->held && !view->deaf) {
            view->telling = true;
            world_at(view->world, later_us(registry), on_tell, view, view->life);
        }
    }
}

/* --- answers --- */

enum errand {
    ERRAND_ANSWER,
    ERRAND_LOAD,
    ERRAND_REFRESH,
    ERRAND_BORN,
    ERRAND_LOST,
    ERRAND_CREATE,
    ERRAND_DELETE,
    ERRAND_FORGET
};

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
    struct later *later = sim_zeroed(1, sizeof *later);
    struct view *view = &registry->views[what->asked.broker];
    *later = *what;
    later->registry = registry;
    bool is_there = what->errand == ERRAND_ANSWER || what->errand == ERRAND_LOAD || what->errand == ERRAND_REFRESH;
    world_at(is_there ? view->world : registry->world, later_us(registry), on_later, later, 0);
}

static void answer(struct sim_registry *registry, const struct asked *asked, enum err error)
{
    if (asked->done != NULL) {
        send_later(registry, &(struct later){.errand = ERRAND_ANSWER, .asked = *asked, .error = error});
    }
}

void registry__answer_asked(struct sim_registry *registry, struct topic_row *topic, enum err error)
{
    while (topic->asked != NULL) {
        struct asked *asked = topic->asked;
        topic->asked = asked->next;
        answer(registry, asked, error);
        free(asked);
    }
}

/* --- errands of the brokers --- */

static void on_create(const struct later *later)
{
    struct topic_row *topic;
    enum err error = controller__create(later->registry, &later->topic, &topic);
    if (error != OK) {
        answer(later->registry, &later->asked, error);
        return;
    }
    struct asked *asked = sim_zeroed(1, sizeof *asked);
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
            controller__end_topic(registry, topic, ERR_UNKNOWN_TOPIC);
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
                    topic->version++;
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

/* A read, not a notice: also who is deaf is answered. */
static void on_refresh(const struct later *later)
{
    struct view *view = &later->registry->views[later->asked.broker];
    world_enter(view->world);
    tell_all(view, false);
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
        case ERRAND_REFRESH:
            on_refresh(later);
            break;
        case ERRAND_BORN:
            controller__on_born(registry, view->id, later->group, later->replica);
            break;
        case ERRAND_LOST:
            controller__on_lost(registry, view->id, later->group, later->replica);
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

static void registry__refresh(struct registry *port, registry_done done, void *context)
{
    struct later later = errand_of(port, ERRAND_REFRESH, done, context);
    send_later(view_of(port)->registry, &later);
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
    later.groups = sim_zeroed(count + 1, sizeof *groups);
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
    struct view *view = view_of(port);
    struct sim_registry *registry = view->registry;
    const struct sim_registry_watcher *watcher = &registry->watcher;
    struct leader *leader;
    uint32_t p;
    if (watcher->published != NULL) {
        uint32_t inside = world_step_out(view->world);
        watcher->published(watcher->context, group, broker, term);
        world_step_in(view->world, inside);
    }
    if (controller__topic_of(registry, group, &p) == NULL) {
        return;
    }
    HASH_FIND(hh, registry->leaders, &group, sizeof group, leader);
    if (leader == NULL) {
        leader = sim_zeroed(1, sizeof *leader);
        leader->group = group;
        HASH_ADD(hh, registry->leaders, group, sizeof leader->group, leader);
    }
    if (term > leader->term) {
        leader->term = term;
        leader->broker = broker;
    }
}

static const struct registry_ops ops = {.load = registry__load,
                                        .refresh = registry__refresh,
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
    struct sim_registry *registry = sim_zeroed(1, sizeof *registry);
    registry->world = world;
    registry->next_id = 1;
    registry->delay_min_us = registry->delay_max_us = LATER_US;
    rng_seed(&registry->rng, 1);
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

void sim_registry_watch(struct sim_registry *registry, const struct sim_registry_watcher *watcher)
{
    registry->watcher = *watcher;
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
    view->loaded = view->telling = view->deaf = false;
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

void sim_registry_deafen(struct sim_registry *registry, uint64_t id, bool deaf)
{
    registry->views[id].deaf = deaf;
    registry__tell_everybody(registry);
}

void sim_registry_hold(struct sim_registry *registry, bool held)
{
    registry->held = held;
    if (!held) {
        controller__watch_births(registry);
    }
}
