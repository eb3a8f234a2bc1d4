/* The controller in the registry's twin: where replicas go, when a topic is live, what a deletion leaves behind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim_registry_impl.h"

#define TICK_US 1000000u

static void changed(struct topic_row *topic)
{
    topic->version++;
}

/* --- the controller --- */

static void bury(struct sim_registry *registry, uint64_t group, uint64_t holders)
{
    struct leader *leader;
    if (registry->marks_count == registry->marks_capacity) {
        registry->marks_capacity = registry->marks_capacity == 0 ? 16 : registry->marks_capacity * 2;
        registry->marks = sim_resized(registry->marks, registry->marks_capacity * sizeof *registry->marks);
    }
    if (registry->watcher.ended != NULL) {
        registry->watcher.ended(registry->watcher.context, group);
    }
    registry->marks[registry->marks_count++] = (struct death_mark){.group = group, .holders = holders};
    HASH_FIND(hh, registry->leaders, &group, sizeof group, leader);
    if (leader != NULL) {
        HASH_DEL(registry->leaders, leader);
        free(leader);
    }
}

void controller__end_topic(struct sim_registry *registry, struct topic_row *topic, enum err error)
{
    for (uint32_t p = 0; p < topic->row.partitions_count; p++) {
        bury(registry, topic->partitions[p].group, topic->placed[p].holders);
    }
    topic->gone = true;
    changed(topic);
    registry__answer_asked(registry, topic, error);
    registry__tell_everybody(registry);
}

struct topic_row *controller__topic_of(const struct sim_registry *registry, uint64_t group, uint32_t *ret_partition)
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
static bool found_anew(struct sim_registry *registry, struct topic_row *topic, uint32_t p)
{
    struct registry_partition *partition = &topic->partitions[p];
    const struct registry_partition before = *partition;
    bury(registry, before.group, topic->placed[p].holders);
    *partition = (struct registry_partition){.group = registry->next_id++};
    topic->placed[p] = (struct placed){.holders = 0};
    for (uint32_t r = 0; r < before.replicas_count; r++) { /* who was in time stays */
        const struct registry_replica *one = &before.replicas[r];
        if (one->state == REPLICA_BORN && registry->views[one->broker].loaded) {
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
            if (!found_anew(registry, topic, p)) {
                controller__end_topic(registry, topic, ERR_NOT_ENOUGH_BROKERS);
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
    registry__tell_everybody(registry);
}

/* Something is to be born. */
void controller__watch_births(struct sim_registry *registry)
{
    if (!registry->ticking) {
        registry->ticking = true;
        world_at(registry->world, registry->world->now_us + TICK_US, on_tick, registry, 0);
    }
    registry__tell_everybody(registry);
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
    struct topic_row *topic = sim_zeroed(1, sizeof *topic);
    topic->row = *wish;
    topic->row.state = TOPIC_CREATING;
    topic->row.first_group = registry->next_id;
    topic->row.first_replica = registry->next_id + wish->partitions_count;
    topic->partitions = sim_zeroed(wish->partitions_count, sizeof *topic->partitions);
    topic->placed = sim_zeroed(wish->partitions_count, sizeof *topic->placed);
    topic->row.partitions = topic->partitions;
    topic->version = 1;
    snprintf((char *)topic->row.id, sizeof topic->row.id, "%lu", topic->row.first_group);
    for (uint32_t p = 0; p < wish->partitions_count; p++) {
        topic->partitions[p].group = registry->next_id++;
    }
    if (registry->topics_count == registry->topics_capacity) {
        registry->topics_capacity = registry->topics_capacity == 0 ? 8 : registry->topics_capacity * 2;
        registry->topics = sim_resized(registry->topics, registry->topics_capacity * sizeof registry->topics[0]);
    }
    registry->topics[registry->topics_count++] = topic;
    return topic;
}

enum err controller__create(struct sim_registry *registry, const struct registry_topic *wish,
                            struct topic_row **ret_topic)
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
    controller__watch_births(registry);
    *ret_topic = topic;
    return OK;
}

/* --- reports --- */

/* A wished replica of the broker that sent the report, on the disk that it has now or (lost) had once. */
static struct registry_replica *reported(struct sim_registry *registry, uint64_t broker, uint64_t group,
                                         uint64_t replica, struct topic_row **ret_topic, uint32_t *ret_p)
{
    *ret_topic = controller__topic_of(registry, group, ret_p);
    for (uint32_t r = 0; *ret_topic != NULL && r < (*ret_topic)->partitions[*ret_p].replicas_count; r++) {
        struct registry_replica *one = &(*ret_topic)->partitions[*ret_p].replicas[r];
        if (one->replica == replica && one->broker == broker) {
            return one;
        }
    }
    return NULL;
}

void controller__on_born(struct sim_registry *registry, uint64_t broker, uint64_t group, uint64_t replica)
{
    const struct registry_self *self = &registry->views[broker].self;
    struct topic_row *topic;
    uint32_t p;
    struct registry_replica *one = reported(registry, broker, group, replica, &topic, &p);
    if (one == NULL || one->state != REPLICA_NEW ||
        memcmp(one->disk_uuid, self->disk_uuid, sizeof self->disk_uuid) != 0) {
        return;
    }
    one->state = REPLICA_BORN;
    changed(topic);
    if (topic->row.state == TOPIC_CREATING && is_all_born(topic)) {
        topic->row.state = TOPIC_LIVE;
        registry__answer_asked(registry, topic, OK);
    }
    registry__tell_everybody(registry);
}

void controller__on_lost(struct sim_registry *registry, uint64_t broker, uint64_t group, uint64_t replica)
{
    struct topic_row *topic;
    uint32_t p;
    const struct registry_replica *one = reported(registry, broker, group, replica, &topic, &p);
    if (one == NULL) {
        return;
    }
    if (topic->row.state == TOPIC_CREATING) {
        changed(topic);
        if (!found_anew(registry, topic, p)) {
            controller__end_topic(registry, topic, ERR_NOT_ENOUGH_BROKERS);
        }
        controller__watch_births(registry);
    } else if (topic->partitions[p].replicas_count > 1) { /* the only one: gone until somebody accepts that */
        unplace(topic, p, (uint32_t)(one - topic->partitions[p].replicas));
        place(registry, topic, p, broker);
        changed(topic);
        controller__watch_births(registry);
    }
}

/* --- the controller's hand --- */

uint64_t sim_registry_add(struct sim_registry *registry, const struct registry_topic *wish, uint32_t brokers)
{
    uint32_t replicas = wish->config.replicas;
    ASSERT(replicas <= brokers && topic_by_name(registry, wish->name) == NULL);
    struct topic_row *topic = topic_new(registry, wish);
    for (uint32_t i = 0; i < wish->partitions_count * replicas; i++) {
        place(registry, topic, i / replicas, 1 + (i / replicas + i % replicas) % brokers);
    }
    controller__watch_births(registry);
    return topic->row.first_group;
}

uint64_t sim_registry_add_topic(struct sim_registry *registry, const char *name, uint32_t partitions, uint32_t replicas,
                                uint32_t brokers)
{
    struct registry_topic wish = {.kind = name[0] == '_' ? TOPIC_STATE : TOPIC_DATA,
                                  .partitions_count = partitions,
                                  .config = {.segment_bytes = SEGMENT_BYTES_MIN,
                                             .segment_ms = -1,
                                             .retention_bytes = -1,
                                             .retention_ms = -1,
                                             .max_batch_bytes = SEGMENT_BYTES_MIN,
                                             .replicas = replicas}};
    snprintf(wish.name, sizeof wish.name, "%s", name);
    return sim_registry_add(registry, &wish, brokers);
}

uint64_t sim_registry_create_topic(struct sim_registry *registry, const struct registry_topic *wish)
{
    struct topic_row *topic;
    return controller__create(registry, wish, &topic) == OK ? topic->row.first_group : 0;
}

bool sim_registry_delete_topic(struct sim_registry *registry, const char *name)
{
    struct topic_row *topic = topic_by_name(registry, name);
    if (topic != NULL) {
        controller__end_topic(registry, topic, ERR_UNKNOWN_TOPIC);
    }
    return topic != NULL;
}

bool sim_registry_move(struct sim_registry *registry, uint64_t group, uint64_t from, uint64_t to)
{
    uint32_t p;
    struct topic_row *topic = controller__topic_of(registry, group, &p);
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
    controller__watch_births(registry);
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
    const struct topic_row *topic = controller__topic_of(registry, group, &p);
    return topic != NULL ? &topic->partitions[p] : NULL;
}

const struct registry_partition *sim_registry_next(const struct sim_registry *registry, uint64_t *io_place)
{
    uint32_t i = (uint32_t)(*io_place >> 32), p = (uint32_t)*io_place;
    for (; i < registry->topics_count; i++, p = 0) {
        const struct topic_row *topic = registry->topics[i];
        if (!topic->gone && topic->row.state == TOPIC_LIVE && p < topic->row.partitions_count) {
            *io_place = (uint64_t)i << 32 | (p + 1);
            return &topic->partitions[p];
        }
    }
    return NULL;
}

bool sim_registry_is_creating(const struct sim_registry *registry)
{
    bool is_creating = false;
    for (uint32_t i = 0; i < registry->topics_count; i++) {
        const struct topic_row *topic = registry->topics[i];
        is_creating = is_creating || (!topic->gone && topic->row.state != TOPIC_LIVE);
    }
    return is_creating;
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
