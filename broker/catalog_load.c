/* What the registry says: all of it at the start, and every change from then on. What a row means for the replicas here
 * is decided in assign.c; the topics of a broker that is alone change by its own tasks only. */
#include <string.h>

#include "broker/assign.h"
#include "broker/catalog_impl.h"
#include "broker/forget.h"
#include "broker/impl.h"

static struct topic *load__find(struct catalog *catalog, const char *name, const uint8_t id[UUID_BYTES])
{
    struct topic *topic = name != NULL ? catalog__find(catalog, name) : NULL;
    if (name != NULL && (topic == NULL || memcmp(topic->row.id, id, UUID_BYTES) == 0)) {
        return topic;
    }
    topic = catalog->topics; /* one before it of this name is still being deleted; or its name was not told */
    while (topic != NULL && memcmp(topic->row.id, id, UUID_BYTES) != 0) {
        topic = topic->hh.next;
    }
    return topic;
}

/* Joins the groups that are here with the partitions of their topic. */
static void load__link(struct topic *topic)
{
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        struct partition *p = topic->partitions[i];
        uint64_t group = registry_group(&topic->row, i);
        if (p != NULL && p->group != group) { /* unborn, and placed anew */
            p->topic = NULL;
            topic->partitions[i] = NULL;
        }
        p = groups_find(topic_broker(topic), group);
        if (p != NULL && p->topic == NULL) {
            topic->partitions[i] = p;
            topic->row.kind =
                topic->row.state == TOPIC_UNREADABLE && p->kind == TOPIC_STATE ? TOPIC_STATE : topic->row.kind;
            p->topic = topic;
            p->number = i;
            /* A check of requests: not in the log's picture. */
            p->config.max_batch_bytes = topic->row.config.max_batch_bytes;
        }
    }
}

static void load__change(struct topic *topic, const struct registry_topic *row)
{
    topic__set_row(topic, row);
    topic->is_lost_said = false;
    if (topic->task != NULL) { /* it is being deleted */
        topic->task->state_before = row->state;
        topic->row.state = TOPIC_DELETING;
    }
}

static void load__topic(void *context, const struct registry_topic *row)
{
    struct catalog *catalog = context;
    struct topic *topic = row->partitions != NULL ? load__find(catalog, row->name, row->id) : NULL;
    if (topic == NULL) {
        topic = catalog__add(catalog, row);
    } else {
        load__change(topic, row);
    }
    load__link(topic);
    if (row->partitions != NULL) {
        assign_topic(topic);
    }
}

static void load__gone(void *context, const uint8_t id[UUID_BYTES])
{
    struct topic *topic = load__find(context, NULL, id);
    if (topic == NULL) {
        return;
    }
    if (topic->task != NULL) {
        topic->task->is_gone = true; /* the answer to who deletes it comes later */
    } else {
        catalog__forget(topic);
    }
}

/* The mark is the only thing that deletes; a group that no topic names is kept, and not served. */
static void load__deleted(void *context, uint64_t group)
{
    struct catalog *catalog = context;
    struct broker *b = catalog->broker;
    struct partition *p = groups_find(b, group);
    if (p != NULL) {
        if (p->topic != NULL) {
            p->topic->partitions[p->number] = NULL;
            p->topic = NULL;
        }
        partition_kill(p, ERR_UNKNOWN_PARTITION);
    } else if (!groups_is_dying(b, group)) { /* it is not one whose end the log told: those are still going */
        forget_add(b, group);
    }
}

static void load__join(struct topic *topic)
{
    struct broker *b = topic_broker(topic);
    if (topic->row.state ==
        TOPIC_UNREADABLE) { /* its partitions are kept as they are, answer CORRUPT, can be deleted */
        trace_error(b->trace, "topic_unreadable", "topic=%s partitions=%u first_group=%lu", topic->row.name,
                    topic->row.partitions_count, topic->row.first_group);
        return;
    }
    if (topic->row.state == TOPIC_CREATING) {
        task__make_births(task__new(topic, NULL, NULL));
        return;
    }
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        if (topic->partitions[i] == NULL) {
            trace_error(b->trace, "partition_lost", "topic=%s partition=%u group=%lu", topic->row.name, i,
                        topic->row.first_group + i);
        } else {
            partition_start(topic->partitions[i]);
        }
    }
}

static void load__done(void *context, enum err error)
{
    struct catalog *catalog = context;
    for (struct topic *topic = catalog->topics; error == OK && topic != NULL; topic = topic->hh.next) {
        if (topic->row.partitions == NULL) {
            load__join(topic);
        }
    }
    catalog->load_done(catalog->load_context, error);
}

void catalog_load(struct catalog *catalog, registry_done done, void *context)
{
    struct broker *b = catalog->broker;
    static const struct registry_visitor visitor = {.topic = load__topic, .gone = load__gone, .deleted = load__deleted};
    struct registry_self self = {.broker = b->identity.broker, .boot = b->identity.boot};
    memcpy(self.disk_uuid, b->identity.disk_uuid, sizeof self.disk_uuid);
    catalog->load_done = done;
    catalog->load_context = context;
    b->registry->ops->load(b->registry, &self, &visitor, load__done, catalog);
}
