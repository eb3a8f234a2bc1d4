/* Metadata: asked for per topic, remembered until it is contradicted. Replies replace what was known of brokers and of
 * that topic. */
#include "client/metadata.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "client/client.h"

/* ---- brokers ---- */

static void metadata__put_broker(struct metadata *metadata, const BrokerRow *row)
{
    struct metadata_broker *broker;
    HASH_FIND(hh, metadata->brokers, &row->id, sizeof row->id, broker);
    if (broker == NULL) {
        broker = calloc(1, sizeof *broker);
        ASSERT(broker != NULL);
        broker->id = row->id;
        HASH_ADD(hh, metadata->brokers, id, sizeof broker->id, broker);
    }
    const char *form = strchr(row->host, ':') != NULL ? "[%s]:%u" : "%s:%u";
    snprintf(broker->address, sizeof broker->address, form, row->host, (unsigned)row->port);
}

enum err metadata_read_brokers(struct metadata *metadata, struct codec_cursor *cursor, uint32_t brokers_count)
{
    for (uint32_t i = 0; i < brokers_count; i++) {
        BrokerRow row;
        enum err error = codec_next_row(cursor, ROW_BROKER, &row);
        if (error != OK)
            return error;
        if (row.id != 0 && row.host[0] != '\0' && row.port > 0 && row.port <= UINT16_MAX)
            metadata__put_broker(metadata, &row);
    }
    return OK;
}

const char *metadata_broker_address(const struct metadata *metadata, uint64_t broker)
{
    struct metadata_broker *found;
    HASH_FIND(hh, metadata->brokers, &broker, sizeof broker, found);
    return found == NULL ? NULL : found->address;
}

/* ---- topics ---- */

static void metadata_topic__take_partition(struct metadata_topic *topic, const PartitionRow *row)
{
    if (row->partition >= topic->partitions_count)
        return;
    struct metadata_partition *partition = &topic->partitions[row->partition];
    /* A broker that was away may tell of an older leader than one we have heard of. */
    if (row->group == partition->group && row->term < partition->term && row->term != 0)
        return;
    *partition = (struct metadata_partition){
        .group = row->group, .leader = row->leader, .term = row->term, .is_corrupt = row->status == ERR_CORRUPT};
}

static void metadata_topic__resize(struct metadata_topic *topic, uint32_t partitions_count)
{
    if (partitions_count <= topic->partitions_count)
        return;
    topic->partitions = realloc(topic->partitions, partitions_count * sizeof topic->partitions[0]);
    ASSERT(topic->partitions != NULL);
    memset(topic->partitions + topic->partitions_count, 0,
           (partitions_count - topic->partitions_count) * sizeof topic->partitions[0]);
    topic->partitions_count = partitions_count;
}

static enum err metadata_topic__read(struct metadata_topic *topic, const MetadataReply *reply,
                                     const struct frame *frame)
{
    struct codec_cursor cursor = {frame->payload, frame->payload_size};
    enum err error = metadata_read_brokers(&topic->client->metadata, &cursor, reply->broker_count);
    if (error != OK)
        return error;
    TopicRow row;
    if (reply->topic_count == 0)
        return ERR_UNKNOWN_TOPIC;
    error = codec_next_row(&cursor, ROW_TOPIC, &row);
    if (error != OK)
        return error;
    if (row.status != OK)
        return (enum err)row.status;
    if (strcmp(row.name, topic->name) != 0 || row.partition_count == 0 ||
        row.partition_count > PARTITIONS_PER_TOPIC_MAX)
        return ERR_BAD_FRAME;
    metadata_topic__resize(topic, row.partition_count);
    if (row.has_config && row.config.has_max_batch_bytes)
        topic->max_batch_bytes = row.config.max_batch_bytes;
    for (uint32_t i = 0; i < row.partition_count; i++) {
        PartitionRow partition;
        error = codec_next_row(&cursor, ROW_PARTITION, &partition);
        if (error != OK)
            return error;
        metadata_topic__take_partition(topic, &partition);
    }
    return OK;
}

static void on_topic_answered(struct call *call, enum err error, const union codec_message *reply,
                              const struct frame *frame)
{
    struct metadata_topic *topic = call->context;
    topic->call = NULL;
    free(call);
    if (error == OK)
        error = metadata_topic__read(topic, &reply->as_MetadataReply, frame);
    /* Those who wait again from their callback start a new call and stand behind the others, in a later round. */
    uint64_t round = topic->round++;
    struct metadata_wait *wait;
    while ((wait = TAILQ_FIRST(&topic->waits)) != NULL && wait->round <= round) {
        metadata_forget(wait);
        wait->on_done(wait, error);
    }
}

struct metadata_topic *metadata_topic(struct flo_client *client, const char *name)
{
    struct metadata_topic *topic;
    size_t size = strlen(name);
    if (size == 0 || size > TOPIC_NAME_BYTES_MAX)
        return NULL;
    HASH_FIND_STR(client->metadata.topics, name, topic);
    if (topic != NULL)
        return topic;
    topic = calloc(1, sizeof *topic);
    ASSERT(topic != NULL);
    memcpy(topic->name, name, size + 1);
    topic->client = client;
    topic->max_batch_bytes = BATCH_BYTES_DEFAULT;
    TAILQ_INIT(&topic->waits);
    HASH_ADD_STR(client->metadata.topics, name, topic);
    return topic;
}

void metadata_refresh(struct metadata_topic *topic, struct metadata_wait *wait)
{
    ASSERT(wait->topic == NULL);
    wait->topic = topic;
    wait->round = topic->round;
    TAILQ_INSERT_TAIL(&topic->waits, wait, link);
    if (topic->call != NULL)
        return;
    struct call *call = calloc(1, sizeof *call);
    ASSERT(call != NULL);
    call->type = FRAME_METADATA;
    call->repeatable = true;
    call->context = topic;
    call->on_done = on_topic_answered;
    call->message.as_MetadataRequest = (MetadataRequest){0};
    memcpy(call->message.as_MetadataRequest.topic, topic->name, strlen(topic->name) + 1);
    topic->call = call;
    call_start(topic->client, call);
}

void metadata_forget(struct metadata_wait *wait)
{
    if (wait->topic == NULL)
        return;
    TAILQ_REMOVE(&wait->topic->waits, wait, link);
    wait->topic = NULL;
}

bool metadata_hint_leader(struct metadata_topic *topic, uint32_t partition, uint64_t leader)
{
    ASSERT(partition < topic->partitions_count);
    struct metadata_partition *known = &topic->partitions[partition];
    if (leader == 0 || known->leader == leader || metadata_broker_address(&topic->client->metadata, leader) == NULL)
        return false;
    known->leader = leader;
    return true;
}

void metadata_deinit(struct metadata *metadata)
{
    struct metadata_topic *topic, *next_topic;
    HASH_ITER(hh, metadata->topics, topic, next_topic)
    {
        HASH_DELETE(hh, metadata->topics, topic);
        ASSERT(topic->call == NULL);
        free(topic->partitions);
        free(topic);
    }
    struct metadata_broker *broker, *next_broker;
    HASH_ITER(hh, metadata->brokers, broker, next_broker)
    {
        HASH_DELETE(hh, metadata->brokers, broker);
        free(broker);
    }
}
