/* Topics by name, and what the registry's row of each one means here. */
#include "broker/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/catalog_impl.h"
#include "broker/impl.h"

struct catalog *catalog_new(struct broker *broker)
{
    struct catalog *catalog = mem_zeroed(1, sizeof *catalog);
    catalog->broker = broker;
    return catalog;
}

void catalog__forget(struct topic *topic)
{
    HASH_DEL(topic->catalog->topics, topic);
    for (uint32_t i = 0; topic->partitions != NULL && i < topic->row.partitions_count; i++) {
        if (topic->partitions[i] != NULL) {
            topic->partitions[i]->topic = NULL;
        }
    }
    free(topic->partitions);
    free(topic->wish);
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
        catalog__forget(topic);
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

struct topic *catalog__find(struct catalog *catalog, const char *name)
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

struct broker *topic_broker(const struct topic *topic)
{
    return topic->catalog->broker;
}

void topic__set_row(struct topic *topic, const struct registry_topic *row)
{
    struct registry_partition *wish = NULL;
    if (row->partitions != NULL) {
        wish = mem_zeroed(row->partitions_count, sizeof *wish);
        memcpy(wish, row->partitions, row->partitions_count * sizeof *wish);
    }
    free(topic->wish);
    topic->wish = wish;
    topic->row = *row;
    topic->row.partitions = wish;
}

struct topic *catalog__add(struct catalog *catalog, const struct registry_topic *row)
{
    struct topic *topic = mem_zeroed(1, sizeof *topic);
    topic->catalog = catalog;
    topic__set_row(topic, row);
    topic->partitions = mem_zeroed(row->partitions_count, sizeof *topic->partitions);
    HASH_ADD_KEYPTR(hh, catalog->topics, topic->row.name, strlen(topic->row.name), topic);
    return topic;
}

void catalog_wish(const struct topic *topic, uint32_t number, struct registry_partition *ret_wish)
{
    const struct registry_topic *row = &topic->row;
    const struct meta_identity *self = &topic_broker(topic)->identity;
    if (row->partitions != NULL) {
        *ret_wish = row->partitions[number];
        return;
    }
    uint64_t replica = row->first_replica + number;
    *ret_wish =
        (struct registry_partition){.group = row->first_group + number,
                                    .replicas_count = 1,
                                    .replicas[0] = {.replica = replica,
                                                    .broker = self->broker,
                                                    .state = row->state == TOPIC_CREATING ? REPLICA_NEW : REPLICA_BORN},
                                    .founders_count = 1,
                                    .founders[0] = {.replica = replica, .broker = self->broker}};
    memcpy(ret_wish->replicas[0].disk_uuid, self->disk_uuid, sizeof self->disk_uuid);
}

bool catalog_has(const struct topic *topic, uint64_t group, uint32_t *ret_number)
{
    const struct registry_topic *row = &topic->row;
    if (row->partitions == NULL) {
        *ret_number = (uint32_t)(group - row->first_group);
        return group >= row->first_group && group - row->first_group < row->partitions_count;
    }
    for (uint32_t i = 0; i < row->partitions_count; i++) {
        if (row->partitions[i].group == group) {
            *ret_number = i;
            return true;
        }
    }
    return false;
}

enum err catalog_missing(const struct topic *topic, uint32_t number)
{
    struct registry_partition wish;
    if (topic->row.state == TOPIC_CREATING) {
        return ERR_NOT_READY;
    }
    if (topic->row.partitions == NULL) {
        return ERR_CORRUPT; /* its birth rotted away with everything else of it */
    }
    catalog_wish(topic, number, &wish);
    const struct registry_replica *own = registry_replica_on(&wish, topic_broker(topic)->identity.broker);
    if (own != NULL && wish.replicas_count == 1 && own->state == REPLICA_BORN) {
        return ERR_CORRUPT; /* there is no other one */
    }
    return ERR_NOT_LEADER;
}

/* --- a row that rotted --- */

static void mend__done(void *context, enum err error)
{
    struct catalog *catalog = context;
    catalog->tasks_count--; /* what failed is found again by the next round */
}

bool catalog_mend(struct catalog *catalog, uint64_t first_group)
{
    struct broker *b = catalog->broker;
    for (struct topic *topic = catalog->topics; topic != NULL; topic = topic->hh.next) {
        if (topic->row.first_group == first_group && topic->row.state == TOPIC_LIVE && topic->task == NULL &&
            topic->row.partitions == NULL) {
            catalog->tasks_count++;
            b->registry->ops->put_topic(b->registry, &topic->row, mend__done, catalog);
            return true;
        }
    }
    return false;
}
