/* Create and delete. One task per topic at a time; each step is a callback of the registry or of a partition.
 *
 * A broker that is alone does it all itself: ids, the row, the births, LIVE, the first leaders. In a cluster the
 * controller is asked, and what becomes of the topic comes by the registry's visitor (catalog_load.c). */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/point.h"
#include "broker/assign.h"
#include "broker/catalog_impl.h"
#include "broker/impl.h"

struct topic_task *task__new(struct topic *topic, catalog_done done, void *context)
{
    struct topic_task *task = mem_zeroed(1, sizeof *task);
    ASSERT(topic->task == NULL);
    task->topic = topic;
    task->done = done;
    task->context = context;
    topic->task = task;
    topic->catalog->tasks_count++;
    return task;
}

static struct broker *task__broker(const struct topic_task *task)
{
    return topic_broker(task->topic);
}

static void task__end(struct topic_task *task, enum err error, const char *message)
{
    catalog_done done = task->done;
    void *context = task->context;
    task->topic->task = NULL;
    task->topic->catalog->tasks_count--;
    free(task);
    if (done != NULL) {
        done(context, error, message);
    }
}

/* --- create, alone --- */

static void create__failed(struct topic_task *task, enum err error)
{
    struct topic *topic = task->topic;
    trace_warn(task__broker(task)->trace, "topic_create_failed", "topic=%s error=%s", topic->row.name, err_name(error));
    task__end(task, error, err_text(error));
    catalog__forget(topic);
}

static void create__live(void *context, enum err error)
{
    struct topic_task *task = context;
    struct topic *topic = task->topic;
    if (error != OK) {
        /* The births are durable: the next start finds state=creating and goes on from there. */
        task__end(task, error, err_text(error));
        return;
    }
    topic->row.state = TOPIC_LIVE;
    trace_info(task__broker(task)->trace, "topic_created", "topic=%s partitions=%u first_group=%lu", topic->row.name,
               topic->row.partitions_count, topic->row.first_group);
    task->unready = topic->row.partitions_count;
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        if (topic->partitions[i] != NULL) {
            partition_start(topic->partitions[i]);
        }
    }
}

static void create__set_live(struct topic_task *task)
{
    struct broker *b = task__broker(task);
    struct registry_topic row = task->topic->row;
    row.state = TOPIC_LIVE;
    b->registry->ops->put_topic(b->registry, &row, create__live, task);
}

void task__make_births(struct topic_task *task)
{
    struct topic *topic = task->topic;
    task->unborn = 0;
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        task->unborn += topic->partitions[i] == NULL;
    }
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        if (topic->partitions[i] == NULL) {
            assign_birth(topic, i, topic->row.first_replica + i);
        }
    }
    if (task->unborn == 0) {
        create__set_live(task);
    }
}

static void create__put(void *context, enum err error)
{
    struct topic_task *task = context;
    if (error != OK) {
        create__failed(task, error);
    } else {
        point(task__broker(task)->trace, POINT_TOPIC_PUT);
        task__make_births(task);
    }
}

static void create__reserved(void *context, enum err error)
{
    struct topic_task *task = context;
    struct broker *b = task__broker(task);
    if (error != OK) {
        create__failed(task, error);
        return;
    }
    point(b->trace, POINT_TOPIC_RESERVED);
    task->topic->row.first_group = task->first_id;
    task->topic->row.first_replica = task->first_id + task->topic->row.partitions_count;
    b->registry->ops->put_topic(b->registry, &task->topic->row, create__put, task);
}

void catalog_partition_born(struct catalog *catalog, struct partition *p)
{
    struct topic_task *task = p->topic != NULL ? p->topic->task : NULL;
    point(catalog->broker->trace, POINT_GROUP_BORN);
    enum err error = partition_open_log(p, NULL, 0, 0, 0);
    if (error != OK) {
        broker__fail(catalog->broker, BROKER_EXIT_STORAGE, "cannot open a new partition");
        return;
    }
    p->is_unborn = false;
    catalog->broker->counters.replicas_born_total++;
    if (task == NULL || task->unborn == 0) {
        assign_born(p);
    } else if (--task->unborn == 0) {
        create__set_live(task);
    }
}

void catalog_partition_ready(struct catalog *catalog, struct partition *p)
{
    struct topic_task *task = p->topic != NULL ? p->topic->task : NULL;
    (void)catalog;
    assign_lead(p);
    if (task != NULL && task->unready > 0 && --task->unready == 0) {
        task__end(task, OK, "");
    }
}

/* --- create --- */

static enum err create__check_config(const struct registry_topic *wish, const char **ret_message)
{
    const struct registry_topic_config *c = &wish->config;
    if (wish->partitions_count < 1 || wish->partitions_count > PARTITIONS_PER_TOPIC_MAX) {
        *ret_message = "partitions must be 1 to 10000";
        return ERR_INVALID_CONFIG;
    }
    if (c->segment_bytes < SEGMENT_BYTES_MIN || c->segment_bytes > SEGMENT_BYTES_MAX) {
        *ret_message = "segment_bytes must be 64 KiB to 2 GiB";
        return ERR_INVALID_CONFIG;
    }
    if (c->max_batch_bytes < BATCH_HEADER_BYTES || c->max_batch_bytes > BATCH_BYTES_MAX ||
        c->max_batch_bytes > c->segment_bytes) {
        *ret_message = "max_batch_bytes must be at most 16 MiB and at most segment_bytes";
        return ERR_INVALID_CONFIG;
    }
    if (c->retention_bytes < -1 || c->retention_ms < -1 || c->segment_ms < -1) {
        *ret_message = "retention_bytes, retention_ms and segment_ms must be -1 (no limit) or more";
        return ERR_INVALID_CONFIG;
    }
    return OK;
}

static enum err create__check(struct catalog *catalog, const struct registry_topic *wish, const char **ret_message)
{
    struct broker *b = catalog->broker;
    bool is_alone = b->registry->ops->create_topic == NULL;
    *ret_message = NULL;
    if (!catalog_name_ok(wish->name)) {
        *ret_message = "a topic name is 1 to 249 of a-z A-Z 0-9 . _ - and not '.' or '..'";
        return ERR_INVALID_TOPIC;
    }
    if (catalog__find(catalog, wish->name) != NULL) {
        return ERR_TOPIC_EXISTS;
    }
    enum err error = create__check_config(wish, ret_message);
    if (error != OK) {
        return error;
    }
    if (wish->config.replicas > (is_alone ? 1 : RAFT_VOTERS_MAX)) {
        return ERR_NOT_ENOUGH_BROKERS;
    }
    if (catalog_count(catalog) >= TOPICS_MAX ||
        (is_alone && HASH_COUNT(b->groups) + wish->partitions_count > GROUPS_MAX)) {
        return ERR_BUSY;
    }
    return is_alone ? broker__refusal(b) : OK;
}

/* Somebody waits for the controller. */
struct asked {
    catalog_done done;
    void *context;
    struct catalog *catalog;
    bool is_made; /* the topic is live, this broker is about to hear of it */
};

/* Whoever is told that a topic is there finds it, here at least. */
static void asked__done(void *context, enum err error)
{
    struct asked asked = *(struct asked *)context;
    if (error == OK && !asked.is_made) {
        struct registry *registry = asked.catalog->broker->registry;
        ((struct asked *)context)->is_made = true;
        registry->ops->refresh(registry, asked__done, context);
        return;
    }
    error = asked.is_made ? OK : error;
    free(context);
    asked.catalog->tasks_count--;
    asked.done(asked.context, error, error == OK ? "" : err_text(error));
}

static void create__ask(struct catalog *catalog, const struct registry_topic *wish, catalog_done done, void *context)
{
    struct registry *registry = catalog->broker->registry;
    struct asked *asked = mem_zeroed(1, sizeof *asked);
    *asked = (struct asked){.done = done, .context = context, .catalog = catalog};
    catalog->tasks_count++;
    registry->ops->create_topic(registry, wish, asked__done, asked);
}

void catalog_create(struct catalog *catalog, const struct registry_topic *wish, catalog_done done, void *context)
{
    struct broker *b = catalog->broker;
    const char *message;
    bool is_alone = b->registry->ops->create_topic == NULL;
    struct topic *half = catalog_find(catalog, wish->name);
    if (is_alone && half != NULL && half->row.state == TOPIC_CREATING && half->task == NULL &&
        half->row.partitions_count == wish->partitions_count) {
        /* An earlier creation stopped before its last step, on a full disk: this one goes on from there. */
        task__make_births(task__new(half, done, context));
        return;
    }
    enum err error = create__check(catalog, wish, &message);
    if (error != OK) {
        done(context, error, message != NULL ? message : err_text(error));
        return;
    }
    if (!is_alone) {
        create__ask(catalog, wish, done, context);
        return;
    }
    struct registry_topic row = *wish;
    row.state = TOPIC_CREATING;
    row.config.replicas = 1;
    clock_random(b->clock, row.id, sizeof row.id);
    struct topic *topic = catalog__add(catalog, &row);
    struct topic_task *task = task__new(topic, done, context);
    uint64_t ids = (uint64_t)row.partitions_count * (1 + row.config.replicas);
    b->registry->ops->reserve_ids(b->registry, ids, &task->first_id, create__reserved, task);
}

/* --- delete --- */

static void delete__done(void *context, enum err error)
{
    struct topic_task *task = context;
    struct topic *topic = task->topic;
    if (error != OK && !task->is_gone) {
        topic->row.state = task->state_before;
        task__end(task, error, err_text(error));
        return;
    }
    trace_info(task__broker(task)->trace, "topic_deleted", "topic=%s", topic->row.name);
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        struct partition *p = topic->partitions[i];
        if (p != NULL) {
            p->topic = NULL;
            topic->partitions[i] = NULL;
            partition_kill(p, ERR_UNKNOWN_PARTITION);
        }
    }
    task__end(task, OK, "");
    catalog__forget(topic);
}

void catalog_delete(struct catalog *catalog, const char *name, catalog_done done, void *context)
{
    struct broker *b = catalog->broker;
    struct topic *topic = catalog__find(catalog, name);
    if (topic == NULL) {
        done(context, ERR_UNKNOWN_TOPIC, err_text(ERR_UNKNOWN_TOPIC));
        return;
    }
    if (topic->task != NULL) {
        /* Unknown it is only when its deletion is durable: until then it may come back. */
        done(context, ERR_BUSY, "the topic is still being created or deleted");
        return;
    }
    struct topic_task *task = task__new(topic, done, context);
    task->state_before = topic->row.state;
    topic->row.state = TOPIC_DELETING;
    b->registry->ops->delete_topic(b->registry, &topic->row, delete__done, task);
}
