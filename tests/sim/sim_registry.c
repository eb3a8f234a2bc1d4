/* See sim_registry.h. A *view* is what one broker sees in one life. Whatever changes raises a topic's version or adds a
 * mark; each view remembers what it was told, and is brought up to date by one event a little later. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim_registry_impl.h"

#define LATER_US 500u
#define LATE_US  50000u /* this is a fault */
#define TICK_US  1000000u

static struct view *view_of(struct registry *port)
{
    return (struct view *)port;
}

/* --- brokers that are told what changed --- */

static uint64_t later_us(struct sim_registry *registry)
{
    uint64_t delay_us = registry->delay_min_us;
    if (registry->faults[FAULT_NOTICE]) {
        delay_us = sim_log_between(&registry->rng, LATER_US, registry->trouble.late_us_max);
        registry->world->tally.faults[FAULT_NOTICE] += delay_us >= LATE_US;
    } else if (registry->delay_max_us > registry->delay_min_us) {
        delay_us = rng_between(&registry->rng, registry->delay_min_us, registry->delay_max_us);
    }
    return registry->world->now_us + delay_us;
}

/* Now, or by chance? */
static bool draws(struct sim_registry *registry, enum sim_fault fault, double chance)
{
    bool is_drawn = registry->faults[fault] && rng_chance(&registry->rng, chance);
    is_drawn = is_drawn || registry->is_due[fault];
    registry->is_due[fault] = false;
    registry->world->tally.faults[fault] += is_drawn;
    return is_drawn;
}

/* --- pictures --- */

static void make_room(struct view *view)
{
    const struct sim_registry *registry = view->registry;
    if (view->told_capacity < registry->topics_count) {
        view->told = sim_resized(view->told, registry->topics_capacity * sizeof *view->told);
        memset(view->told + view->told_capacity, 0,
               (registry->topics_capacity - view->told_capacity) * sizeof *view->told);
        view->told_capacity = registry->topics_capacity;
    }
}

static struct picture *picture_new(struct view *view)
{
    struct sim_registry *registry = view->registry;
    struct picture *picture = sim_zeroed(1, sizeof *picture);
    picture->sights = sim_zeroed(registry->topics_count + 1, sizeof *picture->sights);
    picture->marks_count = registry->marks_count;
    make_room(view);
    for (uint32_t i = 0; i < registry->topics_count; i++) {
        const struct topic_row *topic = registry->topics[i];
        if (view->told[i] == topic->version) {
            continue;
        }
        struct sight *sight = &picture->sights[picture->count++];
        size_t size = topic->row.partitions_count * sizeof *sight->partitions;
        *sight = (struct sight){.number = i, .version = topic->version, .gone = topic->gone, .row = topic->row};
        sight->row.partitions = sight->partitions = sim_zeroed(1, size + 1);
        memcpy(sight->partitions, topic->partitions, size);
    }
    return picture;
}

static void picture_free(struct picture *picture)
{
    for (uint32_t i = 0; picture != NULL && i < picture->count; i++) {
        free(picture->sights[i].partitions);
    }
    if (picture != NULL) {
        free(picture->sights);
    }
    free(picture);
}

/* What sets out now brings what there is now; NULL: what there will be. */
static struct picture *maybe_stale(struct view *view)
{
    struct sim_registry *registry = view->registry;
    bool is_stale = registry->faults[FAULT_NOTICE] && rng_chance(&registry->rng, registry->trouble.stale);
    return is_stale ? picture_new(view) : NULL;
}

static void tell_marks(struct view *view, uint64_t life, uint32_t marks_count)
{
    struct sim_registry *registry = view->registry;
    while (view->life == life && view->marks_told < marks_count) {
        const struct death_mark *mark = &registry->marks[view->marks_told++];
        if (mark->holders != 0) {
            view->visitor.deleted(view->context, mark->group);
        }
    }
}

static void tell_topic(struct view *view, const struct sight *sight)
{
    uint64_t told = view->told[sight->number];
    if (told >= sight->version) {
        return; /* something newer was faster */
    }
    view->told[sight->number] = sight->version;
    if (sight->gone && told != 0) {
        view->visitor.gone(view->context, sight->row.id);
    } else if (!sight->gone) {
        view->visitor.topic(view->context, &sight->row);
    }
}

/* At the start topics come before marks, later marks before the end of their topics. Takes over the picture. */
static void tell_all(struct view *view, struct picture *picture, bool is_first)
{
    uint64_t life = view->life;
    picture = picture != NULL ? picture : picture_new(view);
    make_room(view);
    if (!is_first) {
        tell_marks(view, life, picture->marks_count);
    }
    for (uint32_t i = 0; view->life == life && i < picture->count; i++) {
        tell_topic(view, &picture->sights[i]);
    }
    tell_marks(view, life, picture->marks_count);
    picture_free(picture);
}

static void on_tell(void *context, uint64_t life)
{
    struct view *view = context;
    if (view->life != life) {
        return;
    }
    struct picture *notice = view->notice;
    bool was_stale = notice != NULL;
    view->telling = false;
    view->notice = NULL;
    if (view->registry->held || view->deaf) {
        picture_free(notice);
        return;
    }
    world_enter(view->world);
    tell_all(view, notice, false);
    world_leave(view->world);
    if (was_stale) {
        registry__tell_everybody(view->registry); /* there may be more by now */
    }
}

static bool is_up_to_date(const struct view *view)
{
    const struct sim_registry *registry = view->registry;
    bool is = view->marks_told == registry->marks_count && view->told_capacity >= registry->topics_count;
    for (uint32_t i = 0; is && i < registry->topics_count; i++) {
        is = view->told[i] == registry->topics[i]->version;
    }
    return is;
}

void registry__tell_everybody(struct sim_registry *registry)
{
    for (uint64_t id = 1; id <= SIM_REGISTRY_BROKERS_MAX; id++) {
        struct view *view = &registry->views[id];
        if (view->loaded && !view->telling && !registry->held && !view->deaf && !is_up_to_date(view)) {
            view->telling = true;
            view->notice = maybe_stale(view);
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
    ERRAND_FORGET,
    ERRAND_PUBLISH
};

struct later {
    struct sim_registry *registry;
    struct asked asked;
    enum errand errand;
    enum err error;
    uint64_t group, replica, leader, term;
    bool is_doubtful, is_done; /* its outcome will be unknown, and it happens nevertheless */
    struct picture *picture;   /* LOAD, REFRESH: what is told; owned; NULL: what there is then */
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
    if (what->errand == ERRAND_LOAD || what->errand == ERRAND_REFRESH) {
        later->picture = maybe_stale(view);
    }
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
    tell_all(view, later->picture, true);
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
    if (!later->is_doubtful || later->is_done) {
        tell_all(view, later->picture, false);
    } else {
        picture_free(later->picture);
    }
    if (view->life == later->asked.life) {
        later->asked.done(later->asked.context, later->is_doubtful ? ERR_UNKNOWN_OUTCOME : OK);
    }
    world_leave(view->world);
}

static void on_publish(const struct later *later)
{
    struct sim_registry *registry = later->registry;
    uint64_t group = later->group;
    struct leader *leader;
    uint32_t p;
    if (controller__topic_of(registry, group, &p) == NULL) {
        return;
    }
    HASH_FIND(hh, registry->leaders, &group, sizeof group, leader);
    if (leader == NULL) {
        leader = sim_zeroed(1, sizeof *leader);
        leader->group = group;
        HASH_ADD(hh, registry->leaders, group, sizeof leader->group, leader);
    }
    if (later->term > leader->term) {
        leader->term = later->term;
        leader->broker = later->leader;
    }
    if (registry->watcher.taken != NULL) {
        registry->watcher.taken(registry->watcher.context, later->asked.broker, group, later->leader, later->term);
    }
}

/* Whoever asks will not know whether it happened. */
static void draw_doubt(struct later *later)
{
    struct sim_registry *registry = later->registry;
    enum errand errand = later->errand;
    bool can_be =
        errand == ERRAND_REFRESH || errand == ERRAND_CREATE || errand == ERRAND_DELETE || errand == ERRAND_FORGET;
    if (can_be && draws(registry, FAULT_DOUBT, registry->trouble.doubt)) {
        later->is_doubtful = true;
        later->is_done = rng_chance(&registry->rng, 0.5);
    }
    if (later->is_doubtful && errand != ERRAND_REFRESH) {
        answer(registry, &later->asked, ERR_UNKNOWN_OUTCOME);
        later->asked.done = NULL;
    }
}

static void run_errand(struct later *later)
{
    struct sim_registry *registry = later->registry;
    struct view *view = &registry->views[later->asked.broker];
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
    case ERRAND_PUBLISH:
        on_publish(later);
        break;
    }
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
        draw_doubt(later);
        if (!later->is_doubtful || later->is_done || later->errand == ERRAND_REFRESH) {
            run_errand(later);
        }
    } else {
        picture_free(later->picture);
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
    if (registry->held || (registry->lost_part > 0 && rng_chance(&registry->rng, registry->lost_part))) {
        return;
    }
    if (!draws(registry, FAULT_REPORT, registry->trouble.lost)) {
        send_later(registry, &later);
    }
    if (registry->faults[FAULT_REPORT] && rng_chance(&registry->rng, registry->trouble.twice)) {
        registry->world->tally.faults[FAULT_REPORT]++;
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
    const struct sim_registry_watcher *watcher = &view->registry->watcher;
    struct later later = errand_of(port, ERRAND_PUBLISH, NULL, NULL);
    if (watcher->published != NULL) {
        uint32_t inside = world_step_out(view->world);
        watcher->published(watcher->context, group, broker, term);
        world_step_in(view->world, inside);
    }
    later.group = group;
    later.leader = broker;
    later.term = term;
    send_later(view_of(port)->registry, &later);
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
        picture_free(registry->views[id].notice);
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
    picture_free(view->notice);
    view->notice = NULL;
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

bool sim_registry_is_away(const struct sim_registry *registry)
{
    return registry->held;
}

void sim_registry_begin(struct sim_registry *registry, const struct sim_registry_trouble *trouble, const bool *faults,
                        uint64_t seed)
{
    rng_seed(&registry->rng, seed);
    registry->trouble = *trouble;
    memcpy(registry->faults, faults, sizeof registry->faults);
}

void sim_registry_strike(struct sim_registry *registry, enum sim_fault fault)
{
    registry->is_due[fault] = true;
}

void sim_registry_calm(struct sim_registry *registry)
{
    memset(registry->faults, 0, sizeof registry->faults);
    memset(registry->is_due, 0, sizeof registry->is_due);
    registry->lost_part = 0;
    for (uint64_t id = 1; id <= SIM_REGISTRY_BROKERS_MAX; id++) {
        registry->views[id].deaf = false;
    }
    sim_registry_hold(registry, false);
}
