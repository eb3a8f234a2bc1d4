/* Requests to a hosted broker, each asked until it is answered well. */
#include "script.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/err.h"
#include "wire/builder.h"

#define WALL_MS     1700000000000 /* any day */
#define RETRIES     60
#define RETRY_US    50000u
#define FETCH_BYTES 40000u

/* --- the record --- */

static void mark(struct script *s, struct mark mark, const void *tail, uint32_t tail_size)
{
    struct script_record *record = s->record;
    mark.wall_ms = s->host != NULL ? host_wall_ms(s->host) : s->wall_ms;
    ASSERT(record->marks_size + sizeof mark + sizeof tail_size + tail_size <= SCRIPT_MARKS_BYTES);
    uint8_t *at = record->marks + record->marks_size;
    memcpy(at, &mark, sizeof mark);
    memcpy(at + sizeof mark, &tail_size, sizeof tail_size);
    if (tail_size > 0) {
        memcpy(at + sizeof mark + sizeof tail_size, tail, tail_size);
    }
    record->marks_size += (uint32_t)(sizeof mark + sizeof tail_size) + tail_size;
}

void script_tell(const struct script_record *record, struct oracle *oracle)
{
    oracle->wall_ms = WALL_MS;
    for (uint32_t at = 0; at < record->marks_size;) {
        struct mark mark;
        uint32_t tail_size;
        memcpy(&mark, record->marks + at, sizeof mark);
        memcpy(&tail_size, record->marks + at + sizeof mark, sizeof tail_size);
        at += (uint32_t)(sizeof mark + sizeof tail_size);
        oracle_add(oracle, &mark, record->marks + at, tail_size);
        at += tail_size;
    }
}

_Noreturn static void stuck(struct script *s, const char *what, uint32_t status)
{
    snprintf(s->record->why, sizeof s->record->why, "%s: %s", what, err_name((enum err)status));
    _exit(SCRIPT_CODE_STUCK);
}

/* --- lives --- */

static void no_world(unsigned world)
{
    (void)world; /* not preloaded */
}

static void init(struct script *s, struct script_record *record, const char *dir)
{
    memset(s, 0, sizeof *s);
    s->record = record;
    s->ann.name = "ann";
    s->bob.name = "bob";
    host_config(&s->config);
    s->options = (struct host_options){.dir = dir, .config = &s->config, .seed = 1};
    *(void **)&s->world = dlsym(RTLD_DEFAULT, "faults_world");
    s->world = s->world != NULL ? s->world : no_world;
}

void script_begin(struct script *s, struct script_record *record, const char *dir)
{
    init(s, record, dir);
    record->marks_size = 0;
    record->why[0] = '\0';
    s->wall_ms = WALL_MS;
}

void script_start(struct script *s)
{
    int code = 0;
    s->options.wall_ms = s->wall_ms;
    if (host_open(&s->options, &s->host, &code) != OK) {
        _exit(code);
    }
}

void script_end(struct script *s, bool clean)
{
    if (clean && !host_stop(s->host)) {
        if (host_failure(s->host) != NULL) {
            _exit(host_exit_code(s->host));
        }
        stuck(s, "the broker does not stop", ERR_TIMEOUT);
    }
    s->wall_ms = host_wall_ms(s->host) + 1000;
    host_close(s->host);
    s->host = NULL;
}

void script_idle(struct script *s, uint64_t for_us)
{
    host_idle(s->host, for_us);
    if (host_failure(s->host) != NULL) {
        _exit(host_exit_code(s->host));
    }
}

/* --- requests --- */

/* A request and its reply. A broker that has ended takes the script with it, as its process would be gone. */
static const struct host_reply *call(struct script *s, enum frame_type type, const void *message, const void *payload,
                                     uint32_t size)
{
    const struct host_reply *reply = host_call(s->host, type, message, payload, size);
    if (reply == NULL && host_is_cut(s->host)) {
        reply = host_call(s->host, type, message, payload, size); /* a clear answer too: it is asked again */
    }
    if (reply == NULL && host_failure(s->host) != NULL) {
        _exit(host_exit_code(s->host));
    }
    if (reply == NULL) {
        stuck(s, "a request is never answered", ERR_TIMEOUT);
    }
    return reply;
}

/* What a failing segment keeps from its clients, a start brings back: once. */
static void give_time(struct script *s, uint32_t status)
{
    if (status != ERR_CORRUPT || s->is_restarted) {
        script_idle(s, RETRY_US);
        return;
    }
    s->is_restarted = true;
    script_end(s, false);
    script_start(s);
}

static uint32_t status_of(const struct host_reply *reply)
{
    uint32_t status;
    memcpy(&status, &reply->message, sizeof status); /* the first field of every reply */
    return status;
}

/* Asks again until it is done. Returns the reply that said OK. */
static const struct host_reply *insist(struct script *s, const char *what, enum frame_type type, const void *message,
                                       uint32_t also_good)
{
    uint32_t status = OK;
    for (int i = 0; i < RETRIES; i++) {
        const struct host_reply *reply = call(s, type, message, NULL, 0);
        status = status_of(reply);
        if (status == OK || status == also_good)
            return reply;
        give_time(s, status);
    }
    stuck(s, what, status);
}

void script_init_producer(struct script *s, struct script_producer *producer)
{
    InitProducerRequest request = {.timeout_ms = 10000};
    struct mark sent = {.kind = MARK_INIT_SENT};
    snprintf(request.name, sizeof request.name, "%s", producer->name);
    snprintf(sent.name, sizeof sent.name, "%s", producer->name);
    for (int i = 0; i < RETRIES; i++) {
        mark(s, sent, NULL, 0);
        const InitProducerReply *reply = &call(s, FRAME_INIT_PRODUCER, &request, NULL, 0)->message.as_InitProducerReply;
        if (reply->status == OK) {
            producer->id = reply->producer_id;
            producer->epoch = reply->producer_epoch;
            memset(producer->sequences, 0, sizeof producer->sequences);
            sent.kind = MARK_INIT_DONE;
            sent.producer = producer->id;
            sent.epoch = producer->epoch;
            mark(s, sent, NULL, 0);
            return;
        }
        script_idle(s, RETRY_US);
    }
    stuck(s, "no producer id", ERR_TIMEOUT);
}

/* --- topics --- */

static uint64_t find_group(struct script *s, const char *name)
{
    MetadataRequest request = {0};
    snprintf(request.topic, sizeof request.topic, "%s", name);
    const struct host_reply *reply = insist(s, "no metadata", FRAME_METADATA, &request, OK);
    struct codec_cursor cursor = {reply->payload, reply->payload_size};
    BrokerRow broker;
    TopicRow topic;
    PartitionRow partition;
    if (codec_next_row(&cursor, ROW_BROKER, &broker) != OK || codec_next_row(&cursor, ROW_TOPIC, &topic) != OK ||
        codec_next_row(&cursor, ROW_PARTITION, &partition) != OK) {
        stuck(s, "metadata without the topic", ERR_UNKNOWN_TOPIC);
    }
    return partition.group;
}

uint32_t script_create_topic(struct script *s, const char *name, const TopicConfig *config)
{
    CreateTopicRequest request = {.partitions = 1, .timeout_ms = 20000, .has_config = true, .config = *config};
    struct mark sent = {.kind = MARK_TOPIC_SENT,
                        .topic = s->topics,
                        .partitions = 1,
                        .retention_bytes = config->has_retention_bytes ? config->retention_bytes : -1,
                        .retention_ms = -1};
    ASSERT(s->topics < SCRIPT_TOPICS_MAX);
    snprintf(request.name, sizeof request.name, "%s", name);
    snprintf(sent.name, sizeof sent.name, "%s", name);
    mark(s, sent, NULL, 0);
    insist(s, "a topic is not made", FRAME_CREATE_TOPIC, &request, ERR_TOPIC_EXISTS);
    uint32_t topic = s->topics++;
    s->names[topic] = name;
    s->groups[topic] = find_group(s, name);
    mark(s, (struct mark){.kind = MARK_TOPIC_LIVE, .topic = topic, .groups = {s->groups[topic]}}, NULL, 0);
    return topic;
}

void script_going(struct script *s, uint32_t topic)
{
    mark(s, (struct mark){.kind = MARK_TOPIC_GOING, .topic = topic}, NULL, 0);
}

void script_delete_topic(struct script *s, uint32_t topic)
{
    DeleteTopicRequest request = {.timeout_ms = 20000};
    snprintf(request.name, sizeof request.name, "%s", s->names[topic]);
    script_going(s, topic);
    insist(s, "a topic is not deleted", FRAME_DELETE_TOPIC, &request, ERR_UNKNOWN_TOPIC);
    mark(s, (struct mark){.kind = MARK_TOPIC_GONE, .topic = topic}, NULL, 0);
}

void script_settle(struct script *s, struct script_record *record, const char *dir)
{
    struct oracle oracle = {0};
    init(s, record, dir);
    script_tell(record, &oracle);
    s->wall_ms = oracle.wall_ms + 1000;
    script_start(s);
    for (uint32_t i = 0; i < oracle.topics_count; i++) {
        s->names[i] = oracle.topics[i].mark.name;
        if (oracle.topics[i].status == TOPIC_LEAVING) {
            script_delete_topic(s, i);
        }
    }
    script_idle(s, RETRY_US * 20); /* their rows and files go behind the answer */
    script_end(s, false);
}

/* --- records --- */

static void build(struct script *s, struct script_producer *producer, uint32_t topic, uint32_t records, uint32_t bytes)
{
    static uint8_t value[SCRIPT_BATCH_BYTES];
    struct script_offer *offer = &s->offer;
    struct batch_builder builder;
    batch_builder_begin(&builder, offer->data, sizeof offer->data);
    for (uint32_t i = 0; i < records; i++) {
        memset(value, (int)('a' + (s->batches + i) % 26), bytes);
        snprintf((char *)value, bytes, "batch %u record %u", s->batches, i);
        const struct record record = {.value = {value, bytes}, .timestamp = host_wall_ms(s->host)};
        enum err error = batch_builder_append(&builder, &record);
        ASSERT(error == OK);
    }
    offer->is_open = true;
    offer->producer = producer;
    offer->topic = topic;
    offer->records = records;
    offer->size = batch_builder_finish(&builder);
    batch_set_producer(offer->data, producer->id, (int16_t)producer->epoch, producer->sequences[topic]);
    batch_seal(offer->data, offer->size);
    struct mark sent = {.kind = MARK_BATCH_SENT,
                        .batch = s->batches,
                        .groups = {s->groups[topic]},
                        .producer = producer->expires ? -1 : producer->id,
                        .epoch = producer->epoch,
                        .sequence = producer->sequences[topic],
                        .count = (int32_t)records,
                        .is_acks_all = 1};
    mark(s, sent, offer->data, offer->size);
}

static uint32_t send_offer(struct script *s)
{
    struct script_offer *offer = &s->offer;
    const ProduceRequest request = {.group = s->groups[offer->topic], .acks = -1, .timeout_ms = 30000};
    const ProduceReply *reply = &call(s, FRAME_PRODUCE, &request, offer->data, offer->size)->message.as_ProduceReply;
    if (reply->status == OK) {
        mark(s, (struct mark){.kind = MARK_BATCH_ACKED, .batch = s->batches++, .offset = reply->base_offset}, NULL, 0);
        offer->producer->sequences[offer->topic] += (int32_t)offer->records;
        offer->is_open = false;
    }
    return reply->status;
}

bool script_offer(struct script *s, struct script_producer *producer, uint32_t topic, uint32_t records)
{
    if (!s->offer.is_open) {
        build(s, producer, topic, records, SCRIPT_RECORD_BYTES);
    }
    return send_offer(s) == OK;
}

static void insist_offer(struct script *s)
{
    uint32_t status = OK;
    for (int i = 0; i < RETRIES; i++) {
        status = send_offer(s);
        if (status == OK)
            return;
        give_time(s, status);
    }
    stuck(s, "a batch is never acknowledged", status);
}

void script_produce(struct script *s, uint32_t topic, uint32_t records)
{
    if (s->offer.is_open) {
        insist_offer(s);
    }
    build(s, &s->ann, topic, records, SCRIPT_RECORD_BYTES);
    insist_offer(s);
}

void script_produce_large(struct script *s, struct script_producer *producer, uint32_t topic, uint32_t bytes)
{
    build(s, producer, topic, 1, bytes);
    insist_offer(s);
}

void script_read(struct script *s, uint32_t topic)
{
    FetchRequest request = {.group = s->groups[topic], .bytes_max = FETCH_BYTES};
    for (int64_t end_offset = 1; request.offset < end_offset;) {
        const struct host_reply *reply = insist(s, "a log cannot be read", FRAME_FETCH, &request, ERR_OUT_OF_RANGE);
        const FetchReply *message = &reply->message.as_FetchReply;
        end_offset = message->high_watermark;
        int64_t before = request.offset;
        if (message->status != OK) {
            request.offset = message->log_start;
        }
        const uint8_t *at = reply->payload;
        struct batch_header header;
        while (message->status == OK && at < reply->payload + reply->payload_size &&
               batch_parse(at, reply->payload_size, &header) == OK) {
            request.offset = header.base_offset + header.records_count;
            at += header.size_bytes;
        }
        if (request.offset == before && before < end_offset) {
            stuck(s, "a fetch does not get on", ERR_TIMEOUT);
        }
    }
}

void script_peek(struct script *s, uint32_t topic, int64_t offset)
{
    const FetchRequest request = {.group = s->groups[topic], .offset = offset, .bytes_max = 1};
    call(s, FRAME_FETCH, &request, NULL, 0);
}

void script_find_time(struct script *s, uint32_t topic, int64_t ago_ms)
{
    const ListOffsetsRequest request = {.group = s->groups[topic], .timestamp = host_wall_ms(s->host) - ago_ms};
    insist(s, "a time is not found", FRAME_LIST_OFFSETS, &request, OK);
}
