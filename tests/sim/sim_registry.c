/* See sim_registry.h. */
#include "sim_registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define TOPICS 8u
#define GROUPS 1024u
#define LATER_US 500u

struct topic_row {
  struct registry_topic row;
  uint64_t *brokers;
  bool born[SIM_REGISTRY_BROKERS_MAX + 1]; /* its replicas are, by broker */
};

/* Somebody who waits for an answer. */
struct asked {
  struct asked *next;
  uint64_t broker, life;
  const struct topic_row *topic; /* until all its replicas are born */
  const struct registry_visitor *visitor;
  registry_done done;
  void *context;
};

struct view {
  struct registry port; /* first: found by it */
  struct sim_registry *registry;
  uint64_t id, life;
};

struct sim_registry {
  struct sim_world *world;
  struct topic_row topics[TOPICS];
  uint32_t topics_count;
  uint64_t next_id;
  uint64_t leaders[GROUPS], terms[GROUPS];
  struct view views[SIM_REGISTRY_BROKERS_MAX + 1];
  struct asked *waiting; /* for births */
};

/* Never the product's allocators: those fail on purpose. */
static void *zeroed(size_t count, size_t size) {
  void *memory = calloc(count, size);
  ASSERT(memory != NULL);
  return memory;
}

static struct view *view_of(struct registry *port) {
  return (struct view *)port;
}

/* --- answers --- */

static bool is_alive(const struct sim_registry *registry,
                     const struct asked *asked) {
  return registry->views[asked->broker].life == asked->life;
}

struct later {
  struct sim_registry *registry;
  struct asked asked;
};

static void later_run(void *context, uint64_t argument) {
  struct later *later = context;
  struct sim_registry *registry = later->registry;
  (void)argument;
  if (is_alive(registry, &later->asked)) {
    world_enter(registry->world);
    for (uint32_t i = 0;
         later->asked.visitor != NULL && i < registry->topics_count; i++) {
      later->asked.visitor->topic(later->asked.context,
                                  &registry->topics[i].row);
    }
    later->asked.done(later->asked.context, OK);
    world_leave(registry->world);
  }
  free(later);
}

static void answer_later(struct sim_registry *registry,
                         const struct asked *asked) {
  struct later *later = zeroed(1, sizeof *later);
  later->registry = registry;
  later->asked = *asked;
  world_at(registry->world, registry->world->now_us + LATER_US, later_run,
           later, 0);
}

/* --- the port --- */

static void registry__load(struct registry *port,
                           const struct registry_visitor *visitor,
                           registry_done done, void *context) {
  struct view *view = view_of(port);
  answer_later(view->registry, &(struct asked){.broker = view->id,
                                               .life = view->life,
                                               .visitor = visitor,
                                               .done = done,
                                               .context = context});
}

static void registry__reserve(struct registry *port, uint64_t count,
                              uint64_t *ret_first, registry_done done,
                              void *context) {
  struct view *view = view_of(port);
  *ret_first = view->registry->next_id;
  view->registry->next_id += count;
  answer_later(view->registry, &(struct asked){.broker = view->id,
                                               .life = view->life,
                                               .done = done,
                                               .context = context});
}

static bool is_born(const struct topic_row *topic) {
  uint32_t count = topic->row.partitions_count * topic->row.config.replicas;
  bool born = true;
  for (uint32_t i = 0; i < count; i++) {
    born = born && topic->born[topic->brokers[i]];
  }
  return born;
}

static void registry__put(struct registry *port,
                          const struct registry_topic *row, registry_done done,
                          void *context) {
  struct view *view = view_of(port);
  struct sim_registry *registry = view->registry;
  struct topic_row *topic = registry->topics;
  while (topic->row.first_group != row->first_group) {
    topic++;
    ASSERT(topic < registry->topics + registry->topics_count);
  }
  topic->born[view->id] = true;
  struct asked *asked = zeroed(1, sizeof *asked);
  *asked = (struct asked){.next = registry->waiting,
                          .broker = view->id,
                          .life = view->life,
                          .topic = topic,
                          .done = done,
                          .context = context};
  registry->waiting = asked;
  if (!is_born(topic)) {
    return;
  }
  topic->row.state = TOPIC_LIVE;
  for (struct asked **at = &registry->waiting; *at != NULL;) {
    struct asked *one = *at;
    if (one->topic != topic) {
      at = &one->next;
      continue;
    }
    *at = one->next;
    answer_later(registry, one);
    free(one);
  }
}

static void registry__delete(struct registry *port,
                             const struct registry_topic *row,
                             registry_done done, void *context) {
  (void)port, (void)row, (void)done, (void)context;
  UNREACHABLE();
}

static void registry__publish(struct registry *port, uint64_t group,
                              uint64_t broker, uint64_t term) {
  struct sim_registry *registry = view_of(port)->registry;
  ASSERT(group < GROUPS);
  if (term > registry->terms[group]) {
    registry->terms[group] = term;
    registry->leaders[group] = broker;
  }
}

static void registry__forget(struct registry *port, const uint64_t *groups,
                             uint32_t count, registry_done done,
                             void *context) {
  struct view *view = view_of(port);
  (void)groups, (void)count;
  answer_later(view->registry, &(struct asked){.broker = view->id,
                                               .life = view->life,
                                               .done = done,
                                               .context = context});
}

static const struct registry_ops ops = {.load = registry__load,
                                        .reserve_ids = registry__reserve,
                                        .put_topic = registry__put,
                                        .delete_topic = registry__delete,
                                        .publish_leader = registry__publish,
                                        .forget_deleted = registry__forget};

/* --- the controller's hand --- */

struct sim_registry *sim_registry_new(struct sim_world *world) {
  struct sim_registry *registry = zeroed(1, sizeof *registry);
  registry->world = world;
  registry->next_id = 1;
  return registry;
}

void sim_registry_free(struct sim_registry *registry) {
  while (registry->waiting != NULL) {
    struct asked *asked = registry->waiting;
    registry->waiting = asked->next;
    free(asked);
  }
  for (uint32_t i = 0; i < registry->topics_count; i++) {
    free(registry->topics[i].brokers);
  }
  free(registry);
}

uint64_t sim_registry_add_topic(struct sim_registry *registry, const char *name,
                                uint32_t partitions, uint32_t replicas,
                                uint32_t brokers) {
  ASSERT(registry->topics_count < TOPICS && replicas <= brokers);
  struct topic_row *topic = &registry->topics[registry->topics_count++];
  uint32_t count = partitions * replicas;
  topic->brokers = zeroed(count, sizeof *topic->brokers);
  for (uint32_t i = 0; i < count; i++) {
    topic->brokers[i] = 1 + (i / replicas + i % replicas) % brokers;
  }
  topic->row =
      (struct registry_topic){.state = TOPIC_CREATING,
                              .kind = TOPIC_DATA,
                              .partitions_count = partitions,
                              .first_group = registry->next_id,
                              .first_replica = registry->next_id + partitions,
                              .config = {.segment_bytes = SEGMENT_BYTES_MIN,
                                         .segment_ms = -1,
                                         .retention_bytes = -1,
                                         .retention_ms = -1,
                                         .max_batch_bytes = SEGMENT_BYTES_MIN,
                                         .replicas = replicas},
                              .brokers = topic->brokers};
  snprintf(topic->row.name, sizeof topic->row.name, "%s", name);
  registry->next_id += partitions + count;
  return topic->row.first_group;
}

struct registry *sim_registry_port(struct sim_registry *registry, uint64_t id) {
  struct view *view = &registry->views[id];
  view->port.ops = &ops;
  view->registry = registry;
  view->id = id;
  view->life++;
  return &view->port;
}

void sim_registry_kill(struct sim_registry *registry, uint64_t id) {
  registry->views[id].life++;
}

uint64_t sim_registry_leader(const struct sim_registry *registry,
                             uint64_t group, uint64_t *ret_term) {
  *ret_term = registry->terms[group];
  return registry->leaders[group];
}
