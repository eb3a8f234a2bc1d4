/* Topics and the tasks that change them. One task per topic at a time; each step is a callback of the registry or of a
 * partition. */
#include "broker/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/point.h"
#include "broker/forget.h"
#include "broker/impl.h"

struct topic_task {
    struct topic *topic;
    catalog_done done; /* NULL: nobody waits (resumed after a restart) */
    void *context;
    uint64_t first_id;
    uint32_t unborn;
    uint32_t unready;
    enum registry_topic_state state_before; /* delete */
};

struct catalog {
    struct broker *broker;
    struct topic *topics; /* uthash, by name; owned */
    uint32_t tasks_count;
    registry_done load_done;
    void *load_context;
};

struct catalog *catalog_new(struct broker *broker)
{
    struct catalog *catalog = mem_zeroed(1, sizeof *catalog);
    catalog->broker = broker;
    return catalog;
}

static void catalog__forget(struct catalog *catalog, struct topic *topic)
{
    HASH_DEL(catalog->topics, topic);
    for (uint32_t i = 0; topic->partitions != NULL && i < topic->row.partitions_count; i++) {
        if (topic->partitions[i] != NULL) {
            topic->partitions[i]->topic = NULL;
        }
    }
    free(topic->partitions);
    free(topic->brokers);
    free(topic->task);
    free(topic);
}

void catalog_free(struct catalog *catalog)
{
    struct topic *topic, *next;
    if (catalog == NULL) {
        return;
    }
    HASH_ITER(hh, catalog->topics, topic, next)
    {
        catalog__forget(catalog, topic);
    }
    free(catalog);
}

bool catalog_name_ok(const char *name)
{
    size_t size = strlen(name);
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    return size > 0 && size <= TOPIC_NAME_BYTES_MAX && strspn(name, allowed) == size && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

bool catalog_name_internal(const char *name)
{
    return strncmp(name, "__", 2) == 0;
}

static struct topic *catalog__find(struct catalog *catalog, const char *name)
{
    struct topic *topic;
    HASH_FIND(hh, catalog->topics, name, strlen(name), topic);
    return topic;
}

struct topic *catalog_find(struct catalog *catalog, const char *name)
{
    struct topic *topic = catalog__find(catalog, name);
    return topic == NULL || topic->row.state == TOPIC_DELETING ? NULL : topic;
}

struct topic *catalog_first(struct catalog *catalog)
{
    return catalog->topics;
}

uint32_t catalog_count(const struct catalog *catalog)
{
    return HASH_COUNT(catalog->topics);
}

bool catalog_is_busy(const struct catalog *catalog)
{
    return catalog->tasks_count > 0;
}

static struct topic *catalog__add(struct catalog *catalog, const struct registry_topic *row)
{
    struct topic *topic = mem_zeroed(1, sizeof *topic);
    topic->row = *row;
    topic->partitions = mem_zeroed(row->partitions_count, sizeof *topic->partitions);
    if (row->brokers != NULL) {
        uint32_t count = row->partitions_count * row->config.replicas;
        topic->brokers = mem_zeroed(count, sizeof *topic->brokers);
        memcpy(topic->brokers, row->brokers, count * sizeof *topic->brokers);
        topic->row.brokers = topic->brokers;
    }
    HASH_ADD_KEYPTR(hh, catalog->topics, topic->row.name, strlen(topic->row.name), topic);
    return topic;
}

static struct topic_task *catalog__task(struct catalog *catalog, struct topic *topic, catalog_done done, void *context)
{
    struct topic_task *task = mem_zeroed(1, sizeof *task);
    ASSERT(topic->task == NULL);
    task->topic = topic;
    task->done = done;
    task->context = context;
    topic->task = task;
    catalog->tasks_count++;
    return task;
}

static struct catalog *task__catalog(const struct topic_task *task)
{
    return task->topic->catalog;
}

static void task__end(struct topic_task *task, enum err error, const char *message)
{
    struct catalog *catalog = task__catalog(task);
    catalog_done done = task->done;
    void *context = task->context;
    task->topic->task = NULL;
    catalog->tasks_count--;
    free(task);
    if (done != NULL) {
        done(context, error, message);
    }
}

/* --- create --- */

static void create__failed(struct topic_task *task, enum err error)
{
    struct catalog *catalog = task__catalog(task);
    struct topic *topic = task->topic;
    trace_warn(catalog->broker->trace, "topic_create_failed", "topic=%s error=%s", topic->row.name, err_name(error));
    task__end(task, error, err_text(error));
    catalog__forget(catalog, topic);
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
    trace_info(task__catalog(task)->broker->trace, "topic_created", "topic=%s partitions=%u first_group=%lu",
               topic->row.name, topic->row.partitions_count, topic->row.first_group);
    task->unready = topic->row.partitions_count;
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        if (topic->partitions[i] != NULL) {
            partition_start(topic->partitions[i]);
        }
    }
    if (topic->brokers != NULL) {
        task__end(task, OK, ""); /* who leads is decided among brokers */
    }
}

static void create__set_live(struct topic_task *task)
{
    struct broker *b = task__catalog(task)->broker;
    struct registry_topic row = task->topic->row;
    row.state = TOPIC_LIVE;
    b->registry->ops->put_topic(b->registry, &row, create__live, task);
}

/* This broker's replica of a partition: its place among the partition's replicas, or -1. */
static int32_t topic__own_replica(const struct topic *topic, uint32_t number)
{
    const struct registry_topic *row = &topic->row;
    int32_t place = topic->brokers == NULL ? 0 : -1;
    for (uint32_t r = 0; topic->brokers != NULL && r < row->config.replicas; r++) {
        if (topic->brokers[number * row->config.replicas + r] == topic->catalog->broker->identity.broker) {
            place = (int32_t)r;
        }
    }
    return place;
}

static void create__birth(struct topic *topic, uint32_t number, uint32_t place)
{
    struct broker *b = topic->catalog->broker;
    const struct registry_topic *row = &topic->row;
    struct entry_birth birth = {.kind = (uint8_t)row->kind,
                                .partition = number,
                                .voters_count = row->config.replicas,
                                .config = {.segment_bytes = row->config.segment_bytes,
                                           .segment_ms = row->config.segment_ms,
                                           .retention_bytes = row->config.retention_bytes,
                                           .retention_ms = row->config.retention_ms,
                                           .max_batch_bytes = row->config.max_batch_bytes}};
    for (uint32_t r = 0; r < row->config.replicas; r++) {
        uint32_t at = number * row->config.replicas + r;
        birth.voters[r] = row->first_replica + at;
        birth.voter_brokers[r] = topic->brokers != NULL ? topic->brokers[at] : b->identity.broker;
    }
    uint64_t replica = birth.voters[place];
    struct partition *p = partition_new(b, row->first_group + number, replica, &birth);
    p->topic = topic;
    topic->partitions[number] = p;
    struct wal_record record = {
        .type = WAL_GROUP_NEW, .group = p->group, .replica = replica, .payload = entry_encode_birth(&birth)};
    uint64_t lsn = partition__log(p, &record);
    slice_unref(&record.payload);
    groups_persist_add(b, p, 0, lsn);
}

static void create__births(struct topic_task *task)
{
    struct topic *topic = task->topic;
    task->unborn = 0;
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        task->unborn += topic->partitions[i] == NULL && topic__own_replica(topic, i) >= 0;
    }
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        int32_t place = topic->partitions[i] == NULL ? topic__own_replica(topic, i) : -1;
        if (place >= 0) {
            create__birth(topic, i, (uint32_t)place);
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
        point(task__catalog(task)->broker->trace, POINT_TOPIC_PUT);
        create__births(task);
    }
}

static void create__reserved(void *context, enum err error)
{
    struct topic_task *task = context;
    struct broker *b = task__catalog(task)->broker;
    if (error != OK) {
        create__failed(task, error);
        return;
    }
    point(b->trace, POINT_TOPIC_RESERVED);
    task->topic->row.first_group = task->first_id;
    task->topic->row.first_replica = task->first_id + task->topic->row.partitions_count;
    b->registry->ops->put_topic(b->registry, &task->topic->row, create__put, task);
}

static enum err create__check(struct catalog *catalog, const struct registry_topic *wish, const char **ret_message)
{
    const struct registry_topic_config *c = &wish->config;
    struct broker *b = catalog->broker;
    *ret_message = NULL;
    if (!catalog_name_ok(wish->name)) {
        *ret_message = "a topic name is 1 to 249 of a-z A-Z 0-9 . _ - and not '.' or '..'";
        return ERR_INVALID_TOPIC;
    }
    if (catalog__find(catalog, wish->name) != NULL) {
        return ERR_TOPIC_EXISTS;
    }
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
    if (c->replicas > 1) {
        return ERR_NOT_ENOUGH_BROKERS;
    }
    if (catalog_count(catalog) >= TOPICS_MAX || HASH_COUNT(b->groups) + wish->partitions_count > GROUPS_MAX) {
        return ERR_BUSY;
    }
    return broker__refusal(b);
}

void catalog_create(struct catalog *catalog, const struct registry_topic *wish, catalog_done done, void *context)
{
    struct broker *b = catalog->broker;
    const char *message;
    struct topic *half = catalog_find(catalog, wish->name);
    if (half != NULL && half->row.state == TOPIC_CREATING && half->task == NULL &&
        half->row.partitions_count == wish->partitions_count) {
        /* An earlier creation stopped before its last step, on a full disk: this one goes on from there. */
        create__births(catalog__task(catalog, half, done, context));
        return;
    }
    enum err error = create__check(catalog, wish, &message);
    if (error != OK) {
        done(context, error, message != NULL ? message : err_text(error));
        return;
    }
    struct registry_topic row = *wish;
    row.state = TOPIC_CREATING;
    row.config.replicas = 1; /* automatic: 3 with three or more brokers, else 1 */
    clock_random(b->clock, row.id, sizeof row.id);
    struct topic *topic = catalog__add(catalog, &row);
    topic->catalog = catalog;
    struct topic_task *task = catalog__task(catalog, topic, done, context);
    uint64_t ids = (uint64_t)row.partitions_count * (1 + row.config.replicas);
    b->registry->ops->reserve_ids(b->registry, ids, &task->first_id, create__reserved, task);
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
    ASSERT(task != NULL && task->unborn > 0);
    if (--task->unborn == 0) {
        create__set_live(task);
    }
}

void catalog_partition_ready(struct catalog *catalog, struct partition *p)
{
    struct topic_task *task = p->topic != NULL ? p->topic->task : NULL;
    if (task == NULL || task->unready == 0) {
        return;
    }
    if (--task->unready == 0) {
        task__end(task, OK, "");
    }
}

/* --- delete --- */

static void delete__done(void *context, enum err error)
{
    struct topic_task *task = context;
    struct topic *topic = task->topic;
    struct catalog *catalog = task__catalog(task);
    if (error != OK) {
        topic->row.state = task->state_before;
        task__end(task, error, err_text(error));
        return;
    }
    trace_info(catalog->broker->trace, "topic_deleted", "topic=%s", topic->row.name);
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        struct partition *p = topic->partitions[i];
        if (p != NULL) {
            p->topic = NULL;
            topic->partitions[i] = NULL;
            partition_kill(p, ERR_UNKNOWN_PARTITION);
        }
    }
    task__end(task, OK, "");
    catalog__forget(catalog, topic);
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
    struct topic_task *task = catalog__task(catalog, topic, done, context);
    task->state_before = topic->row.state;
    topic->row.state = TOPIC_DELETING;
    b->registry->ops->delete_topic(b->registry, &topic->row, delete__done, task);
}

/* --- start --- */

static void load__topic(void *context, const struct registry_topic *row)
{
    struct catalog *catalog = context;
    struct topic *topic = catalog__add(catalog, row);
    topic->catalog = catalog;
    for (uint32_t i = 0; i < row->partitions_count; i++) {
        struct partition *p = groups_find(catalog->broker, row->first_group + i);
        if (p != NULL) {
            topic->partitions[i] = p;
            topic->row.kind = row->state == TOPIC_UNREADABLE && p->kind == TOPIC_STATE ? TOPIC_STATE : row->kind;
            p->topic = topic;
            p->number = i;
            p->config.max_batch_bytes = row->config.max_batch_bytes; /* a check of requests: not in the log's picture */
        }
    }
}

/* The mark is the only thing that deletes; a group that no topic names is kept, and not served. */
static void load__deleted(void *context, uint64_t group)
{
    struct catalog *catalog = context;
    struct partition *p = groups_find(catalog->broker, group);
    if (p != NULL) {
        partition_kill(p, ERR_UNKNOWN_PARTITION);
    } else if (catalog->broker->dead_count == 0) { /* it is not one whose end the log told: those are still going */
        forget_add(catalog->broker, group);
    }
}

static void load__join(struct catalog *catalog, struct topic *topic)
{
    struct broker *b = catalog->broker;
    if (topic->row.state ==
        TOPIC_UNREADABLE) { /* its partitions are kept as they are, answer CORRUPT, can be deleted */
        trace_error(b->trace, "topic_unreadable", "topic=%s partitions=%u first_group=%lu", topic->row.name,
                    topic->row.partitions_count, topic->row.first_group);
        return;
    }
    if (topic->row.state == TOPIC_CREATING) {
        create__births(catalog__task(catalog, topic, NULL, NULL));
        return;
    }
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        if (topic->partitions[i] == NULL && topic__own_replica(topic, i) < 0) {
            continue;
        }
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
    if (error == OK) {
        for (struct topic *topic = catalog->topics; topic != NULL; topic = topic->hh.next) {
            load__join(catalog, topic);
        }
    }
    catalog->load_done(catalog->load_context, error);
}

static void mend__done(void *context, enum err error)
{
    struct catalog *catalog = context;
    catalog->tasks_count--; /* what failed is found again by the next round */
}

bool catalog_mend(struct catalog *catalog, uint64_t first_group)
{
    struct broker *b = catalog->broker;
    for (struct topic *topic = catalog->topics; topic != NULL; topic = topic->hh.next) {
        if (topic->row.first_group == first_group && topic->row.state == TOPIC_LIVE && topic->task == NULL) {
            catalog->tasks_count++;
            b->registry->ops->put_topic(b->registry, &topic->row, mend__done, catalog);
            return true;
        }
    }
    return false;
}

void catalog_load(struct catalog *catalog, registry_done done, void *context)
{
    struct broker *b = catalog->broker;
    static const struct registry_visitor visitor = {.topic = load__topic, .deleted = load__deleted};
    catalog->load_done = done;
    catalog->load_context = context;
    b->registry->ops->load(b->registry, &visitor, load__done, catalog);
}
