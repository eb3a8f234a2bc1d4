/* What flotilla.h offers for topics: create, delete, describe. Each is one call; describe turns rows into arrays for
 * the callback. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "client/client.h"

_Static_assert(FLO_REPLICAS_MAX == RAFT_VOTERS_MAX, "flotilla.h must have room for all voters");
_Static_assert(sizeof(((PartitionRow *)0)->replicas) == FLO_REPLICAS_MAX * sizeof(uint64_t),
               "rows and flotilla.h must agree");

#define KIND_STATE 2u /* TopicRow.kind: operations, not records */

struct topic_call {
    struct call call;
    flo_topic_cb on_done;
    void *context;
};

/* Memory of one described cluster, handed out for the callback. Topics may come in several replies. */
struct described {
    struct flo_cluster_info info;
    BrokerRow *broker_rows;
    TopicRow *topic_rows;
    struct flo_broker_info *brokers;
    struct flo_topic_info *topics;
    struct flo_partition_info **partitions; /* per topic */
};

struct describe_call {
    struct call call;
    struct flo_client *client;
    MetadataRequest request;
    struct described described;
    flo_describe_cb on_done;
    void *context;
};

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    ASSERT(memory != NULL);
    return memory;
}

static void on_topic_done(struct call *call, enum err error, const union codec_message *reply,
                          const struct frame *frame)
{
    struct topic_call *topic_call = call->context;
    const char *detail = "";
    if (reply != NULL)
        detail =
            call->type == FRAME_CREATE_TOPIC ? reply->as_CreateTopicReply.message : reply->as_DeleteTopicReply.message;
    topic_call->on_done(topic_call->context, (enum flo_error)error, detail);
    free(topic_call);
}

static struct topic_call *topic_call_new(enum frame_type type, flo_topic_cb on_done, void *context)
{
    struct topic_call *topic_call = allocate(1, sizeof *topic_call);
    topic_call->on_done = on_done;
    topic_call->context = context;
    topic_call->call.type = type;
    topic_call->call.context = topic_call;
    topic_call->call.on_done = on_topic_done;
    return topic_call;
}

static TopicConfig config_to_proto(const struct flo_topic_config *config)
{
    return (TopicConfig){
        .has_segment_bytes = config->has_segment_bytes,
        .segment_bytes = config->segment_bytes,
        .has_segment_ms = config->has_segment_ms,
        .segment_ms = config->segment_ms,
        .has_retention_bytes = config->has_retention_bytes,
        .retention_bytes = config->retention_bytes,
        .has_retention_ms = config->has_retention_ms,
        .retention_ms = config->retention_ms,
        .has_max_batch_bytes = config->has_max_batch_bytes,
        .max_batch_bytes = config->max_batch_bytes,
    };
}

static struct flo_topic_config config_from_proto(const TopicConfig *config)
{
    return (struct flo_topic_config){
        .has_segment_bytes = config->has_segment_bytes,
        .has_segment_ms = config->has_segment_ms,
        .has_retention_bytes = config->has_retention_bytes,
        .has_retention_ms = config->has_retention_ms,
        .has_max_batch_bytes = config->has_max_batch_bytes,
        .segment_bytes = config->segment_bytes,
        .segment_ms = config->segment_ms,
        .retention_bytes = config->retention_bytes,
        .retention_ms = config->retention_ms,
        .max_batch_bytes = config->max_batch_bytes,
        .replicas = config->replicas,
    };
}

/* The broker's deadline is the caller's; the call waits a little longer, so that the broker's own answer is heard. */
#define ANSWER_MARGIN_MS 500u

enum flo_error flo_topic_create(struct flo_client *client, const struct flo_topic_spec *spec, flo_topic_cb on_done,
                                void *context)
{
    size_t size = spec->name == NULL ? 0 : strlen(spec->name);
    if (size == 0 || size > TOPIC_NAME_BYTES_MAX)
        return FLO_INVALID_TOPIC;
    uint32_t timeout_ms = spec->timeout_ms != 0 ? spec->timeout_ms : client->timeout_ms;
    struct topic_call *topic_call = topic_call_new(FRAME_CREATE_TOPIC, on_done, context);
    CreateTopicRequest *request = &topic_call->call.message.as_CreateTopicRequest;
    *request = (CreateTopicRequest){
        .partitions = spec->partitions,
        .replicas = spec->replicas,
        .has_config = true,
        .config = config_to_proto(&spec->config),
        .timeout_ms = timeout_ms,
    };
    memcpy(request->name, spec->name, size + 1);
    topic_call->call.deadline_ms = client__now_ms(client) + timeout_ms + ANSWER_MARGIN_MS;
    call_start(client, &topic_call->call);
    return FLO_OK;
}

enum flo_error flo_topic_delete(struct flo_client *client, const char *name, flo_topic_cb on_done, void *context)
{
    size_t size = name == NULL ? 0 : strlen(name);
    if (size == 0 || size > TOPIC_NAME_BYTES_MAX)
        return FLO_INVALID_TOPIC;
    struct topic_call *topic_call = topic_call_new(FRAME_DELETE_TOPIC, on_done, context);
    DeleteTopicRequest *request = &topic_call->call.message.as_DeleteTopicRequest;
    *request = (DeleteTopicRequest){.timeout_ms = client->timeout_ms};
    memcpy(request->name, name, size + 1);
    topic_call->call.deadline_ms = client__now_ms(client) + client->timeout_ms + ANSWER_MARGIN_MS;
    call_start(client, &topic_call->call);
    return FLO_OK;
}

/* ---- describe ---- */

static void described_deinit(struct described *described)
{
    for (uint32_t i = 0; i < described->info.topics_count; i++)
        free(described->partitions[i]);
    free(described->partitions);
    free(described->topics);
    free(described->brokers);
    free(described->topic_rows);
    free(described->broker_rows);
}

static struct flo_partition_info partition_from_proto(const PartitionRow *row)
{
    struct flo_partition_info info = {
        .partition = row->partition,
        .group = row->group,
        .leader = row->leader,
        .term = row->term,
        .replicas_count = row->replicas_count,
        .in_sync_count = row->in_sync_count,
        .error = (enum flo_error)row->status,
        .log_start = row->log_start,
        .high_watermark = row->high_watermark,
        .state = row->state,
    };
    memcpy(info.replicas, row->replicas, sizeof info.replicas);
    memcpy(info.in_sync, row->in_sync, sizeof info.in_sync);
    _Static_assert(sizeof info.damaged == sizeof row->damaged, "two numbers each");
    uint32_t told = row->damaged_count / 2;
    for (uint32_t i = 0; i < told; i++)
        info.damaged[i] = (struct flo_offset_range){row->damaged[2 * i], row->damaged[2 * i + 1]};
    info.damaged_ranges = row->damaged_ranges > told ? row->damaged_ranges : told;
    return info;
}

static enum err described__read_topic(struct described *described, uint32_t at, struct codec_cursor *cursor)
{
    TopicRow *row = &described->topic_rows[at];
    enum err error = codec_next_row(cursor, ROW_TOPIC, row);
    if (error != OK)
        return error;
    if (row->partition_count > PARTITIONS_PER_TOPIC_MAX)
        return ERR_BAD_FRAME;
    struct flo_partition_info *partitions = allocate(row->partition_count, sizeof *partitions);
    described->partitions[at] = partitions;
    for (uint32_t i = 0; i < row->partition_count; i++) {
        PartitionRow partition;
        error = codec_next_row(cursor, ROW_PARTITION, &partition);
        if (error != OK)
            return error;
        partitions[i] = partition_from_proto(&partition);
    }
    struct flo_topic_info *topic = &described->topics[at];
    *topic = (struct flo_topic_info){
        .error = (enum flo_error)row->status,
        .name = row->name,
        .internal = row->kind == KIND_STATE,
        .state = row->state,
        .config = config_from_proto(&row->config),
        .partitions_count = row->partition_count,
        .partitions = partitions,
    };
    memcpy(topic->id, row->id, sizeof topic->id);
    return OK;
}

static void *grow(void *memory, size_t count, size_t size)
{
    memory = realloc(memory, (count > 0 ? count : 1) * size);
    ASSERT(memory != NULL);
    return memory;
}

static enum err described__read_brokers(struct described *described, uint32_t count, struct codec_cursor *cursor)
{
    free(described->broker_rows);
    free(described->brokers);
    described->broker_rows = allocate(count, sizeof *described->broker_rows);
    described->brokers = allocate(count, sizeof *described->brokers);
    described->info.brokers_count = count;
    described->info.brokers = described->brokers;
    for (uint32_t i = 0; i < count; i++) {
        BrokerRow *row = &described->broker_rows[i];
        enum err error = codec_next_row(cursor, ROW_BROKER, row);
        if (error != OK)
            return error;
        described->brokers[i] =
            (struct flo_broker_info){.id = row->id, .host = row->host, .port = row->port, .rack = row->rack};
    }
    return OK;
}

/* One reply: its topics stand behind those of the replies before. */
static enum err described__read(struct described *described, const MetadataReply *reply, const struct frame *frame)
{
    uint32_t before = described->info.topics_count, count = before + reply->topic_count;
    /* No row is empty: counts beyond the bytes are lies. */
    if (reply->broker_count > frame->payload_size || reply->topic_count > frame->payload_size || count < before ||
        count > TOPICS_MAX + 1000)
        return ERR_BAD_FRAME;
    struct codec_cursor cursor = {frame->payload, frame->payload_size};
    memcpy(described->info.cluster_id, reply->cluster_id, sizeof described->info.cluster_id);
    enum err error = described__read_brokers(described, reply->broker_count, &cursor);
    if (error != OK)
        return error;
    described->topic_rows = grow(described->topic_rows, count, sizeof *described->topic_rows);
    described->topics = grow(described->topics, count, sizeof *described->topics);
    described->partitions = grow(described->partitions, count, sizeof *described->partitions);
    described->info.topics = described->topics;
    for (uint32_t i = before; i < count && error == OK; i++) {
        described->partitions[i] = NULL;
        described->info.topics_count = i + 1;
        error = described__read_topic(described, i, &cursor);
    }
    for (uint32_t i = 0; i < count && error == OK; i++)
        described->topics[i].name = described->topic_rows[i].name; /* they moved */
    return error;
}

static void describe_ask(struct describe_call *describe_call);

static void on_described(struct call *call, enum err error, const union codec_message *reply, const struct frame *frame)
{
    struct describe_call *describe_call = call->context;
    struct described *described = &describe_call->described;
    uint64_t after = describe_call->request.after;
    if (error == OK)
        error = described__read(described, &reply->as_MetadataReply, frame);
    if (error == OK && reply->as_MetadataReply.next != 0) {
        describe_call->request.after = reply->as_MetadataReply.next;
        error = reply->as_MetadataReply.next <= after ? ERR_BAD_FRAME
                : describe_call->client->closing      ? ERR_CLOSED
                                                      : OK;
        if (error == OK) {
            describe_ask(describe_call);
            return;
        }
    }
    bool one = describe_call->request.topic[0] != '\0';
    if (error == OK && one && described->info.topics_count == 0)
        error = ERR_UNKNOWN_TOPIC;
    if (error == OK && one && described->topics[0].error != FLO_OK)
        error = (enum err)described->topics[0].error;
    describe_call->on_done(describe_call->context, (enum flo_error)error, error == OK ? &described->info : NULL);
    described_deinit(described);
    free(describe_call);
}

static void describe_ask(struct describe_call *describe_call)
{
    describe_call->call = (struct call){.type = FRAME_METADATA,
                                        .repeatable = true,
                                        .context = describe_call,
                                        .on_done = on_described,
                                        .message.as_MetadataRequest = describe_call->request};
    call_start(describe_call->client, &describe_call->call);
}

enum flo_error flo_describe(struct flo_client *client, const char *topic, bool offsets, flo_describe_cb on_done,
                            void *context)
{
    size_t size = topic == NULL ? 0 : strlen(topic);
    if (topic != NULL && (size == 0 || size > TOPIC_NAME_BYTES_MAX))
        return FLO_INVALID_TOPIC;
    struct describe_call *describe_call = allocate(1, sizeof *describe_call);
    describe_call->client = client;
    describe_call->on_done = on_done;
    describe_call->context = context;
    describe_call->request = (MetadataRequest){.describe = offsets};
    if (topic != NULL)
        memcpy(describe_call->request.topic, topic, size + 1);
    describe_ask(describe_call);
    return FLO_OK;
}
