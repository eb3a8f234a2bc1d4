/* The workload's clients. All of them share one connection; replies may come at any later operation.
 *
 * A stream is one producer's batches in one partition. Its batches are sent in order, a few at a time; when a reply
 * says anything but OK, or the broker was killed, all that are not acknowledged are sent again, the same bytes. */
#include "workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/batch.h"
#include "host.h"
#include "oracle.h"
#include "tape.h"
#include "wire/builder.h"

#define WALL_MS      1700000000000 /* any day */
#define TOPICS_MAX_  256
#define BASE_TOPICS  3
#define CHURN_MAX    3
#define PRODUCERS    6
#define STREAMS_MAX  64
#define FLIGHT_MAX   5
#define BATCHES_MAX_ 4096
#define BATCH_ROOM   (64u << 10)

struct batch {
    uint8_t *data;
    uint32_t size;
};

struct stream {
    uint32_t producer; /* PRODUCERS: no producer id, acks leader */
    uint32_t topic;
    uint64_t group;
    int32_t sequence;
    uint32_t open[FLIGHT_MAX]; /* batches not acknowledged, in order */
    uint32_t open_count;
    uint32_t flying; /* of them, requests under way */
    bool again;      /* all of open must be sent again */
};

struct topic {
    char name[32];
    uint32_t partitions;
    uint64_t groups[ORACLE_PARTITIONS_MAX];
    bool live;
};

struct producer {
    char name[32];
    int64_t id;
    int32_t epoch;
};

struct flight { /* a produce request under way */
    uint64_t request;
    uint32_t stream, batch;
};

struct workload {
    struct host *host;
    struct host_options options;
    struct config config;
    struct rng rng;
    struct topic topics[TOPICS_MAX_];
    uint32_t topics_count;
    struct producer producers[PRODUCERS];
    struct stream streams[STREAMS_MAX];
    uint32_t streams_count;
    struct flight flights[HOST_REPLIES_MAX];
    uint32_t flights_count;
    struct batch batches[BATCHES_MAX_];
    uint32_t batches_count;
    struct workload_counts counts;
    char *why;
    bool failed;
    int64_t wall_ms;
};

static void fail(struct workload *w, const char *what, uint32_t status)
{
    if (!w->failed) {
        w->failed = true;
        const char *failure = w->host != NULL ? host_failure(w->host) : NULL;
        snprintf(w->why, 256, "operation %u: %s: %s%s%s", w->counts.operations, what, err_name((enum err)status),
                 failure != NULL ? ", broker: " : "", failure != NULL ? failure : "");
    }
}

static void mark(struct workload *w, struct mark *mark, const void *tail, uint32_t tail_size)
{
    int64_t now_ms = w->host != NULL ? host_wall_ms(w->host) : w->wall_ms;
    mark->wall_ms = mark->kind == MARK_TIME ? now_ms + mark->wall_ms : now_ms;
    tape_mark(mark, sizeof *mark, tail, tail_size);
}

/* Nothing is marked for so long, but time may delete. */
static void mark_quiet(struct workload *w, uint64_t for_us)
{
    struct mark quiet = {.kind = MARK_TIME, .wall_ms = (int64_t)(for_us / 1000) + 1};
    mark(w, &quiet, NULL, 0);
}

/* --- produce --- */

static void send_batch(struct workload *w, uint32_t stream, uint32_t batch)
{
    struct stream *s = &w->streams[stream];
    ProduceRequest request = {.group = s->group, .acks = s->producer == PRODUCERS ? 1 : -1, .timeout_ms = 30000};
    ASSERT(w->flights_count < HOST_REPLIES_MAX);
    uint64_t id = host_send(w->host, FRAME_PRODUCE, &request, w->batches[batch].data, w->batches[batch].size);
    w->flights[w->flights_count++] = (struct flight){id, stream, batch};
    s->flying++;
}

static void stream_drop(struct stream *s, uint32_t batch)
{
    for (uint32_t i = 0; i < s->open_count; i++) {
        if (s->open[i] == batch) {
            memmove(&s->open[i], &s->open[i + 1], (s->open_count - i - 1) * sizeof s->open[0]);
            s->open_count--;
            return;
        }
    }
}

static void on_produced(struct workload *w, const struct host_reply *reply)
{
    const ProduceReply *message = &reply->message.as_ProduceReply;
    for (uint32_t i = 0; i < w->flights_count; i++) {
        struct flight flight = w->flights[i];
        if (flight.request != reply->request_id)
            continue;
        w->flights[i] = w->flights[--w->flights_count];
        struct stream *s = &w->streams[flight.stream];
        s->flying--;
        if (message->status == OK) {
            struct mark acked = {.kind = MARK_BATCH_ACKED, .batch = flight.batch, .offset = message->base_offset};
            mark(w, &acked, NULL, 0);
            w->counts.acked++;
            stream_drop(s, flight.batch);
        } else if (s->producer == PRODUCERS || !w->topics[s->topic].live) {
            stream_drop(s, flight.batch); /* not sent again: perhaps it is there, perhaps not */
        } else {
            s->again = true;
        }
        return;
    }
}

static void take_replies(struct workload *w)
{
    const struct host_reply *reply;
    while ((reply = host_take(w->host)) != NULL) {
        if (reply->type == FRAME_PRODUCE_REPLY) {
            on_produced(w, reply);
        }
    }
    for (uint32_t i = 0; i < w->streams_count; i++) {
        struct stream *s = &w->streams[i];
        if (s->again && s->flying == 0) {
            s->again = false;
            for (uint32_t n = 0; n < s->open_count; n++) {
                send_batch(w, i, s->open[n]);
            }
        }
    }
}

/* While there is something to do: a step without would jump to the next deadline, seconds ahead. */
static void steps(struct workload *w, uint32_t count)
{
    for (uint32_t i = 0; i < count && (w->flights_count > 0 || host_is_busy(w->host)) && host_step(w->host); i++) {
        take_replies(w);
    }
    if (host_failure(w->host) != NULL) {
        fail(w, "the broker ended", ERR_IO);
    }
}

/* Until every produce request is answered and acknowledged. */
static void settle(struct workload *w)
{
    for (uint32_t i = 0; w->flights_count > 0 && !w->failed; i++) {
        steps(w, 1);
        if (i > 100000) {
            fail(w, "a produce request is never answered", ERR_TIMEOUT);
        }
    }
}

/* A reply that is waited for. Others that come meanwhile are taken first. */
static const struct host_reply *call(struct workload *w, enum frame_type type, const void *message)
{
    settle(w);
    const struct host_reply *reply = w->failed ? NULL : host_call(w->host, type, message, NULL, 0);
    if (reply == NULL) {
        fail(w, "a request is never answered", type);
    }
    return reply;
}

/* Values name the batch and are filled with dice, so that no two batches are alike. */
static uint32_t build_batch(struct workload *w, const struct stream *s, int32_t *ret_count)
{
    static const char sizes[][2] = {{1, 4}, {4, 24}, {40, 100}};
    uint64_t dice = rng_below(&w->rng, 100);
    const char *size = sizes[dice < 70 ? 0 : dice < 95 ? 1 : 2];
    struct batch *batch = &w->batches[w->batches_count];
    struct batch_builder builder;
    uint8_t value[512];
    batch->data = malloc(BATCH_ROOM);
    ASSERT(batch->data != NULL && w->batches_count < BATCHES_MAX_);
    batch_builder_begin(&builder, batch->data, BATCH_ROOM);
    uint64_t records = rng_between(&w->rng, (uint64_t)size[0], (uint64_t)size[1]);
    for (uint64_t i = 0; i < records; i++) {
        uint64_t length = rng_between(&w->rng, 60, sizeof value);
        for (uint64_t at = 0; at < length; at++) {
            value[at] = (uint8_t)rng_next(&w->rng);
        }
        snprintf((char *)value, 32, "batch %u record %u", w->batches_count, (unsigned)i);
        const struct record record = {.value = {value, (uint32_t)length}, .timestamp = host_wall_ms(w->host)};
        enum err error = batch_builder_append(&builder, &record);
        ASSERT(error == OK);
    }
    *ret_count = builder.records_count;
    batch->size = batch_builder_finish(&builder);
    if (s->producer != PRODUCERS) {
        const struct producer *p = &w->producers[s->producer];
        batch_set_producer(batch->data, p->id, (int16_t)p->epoch, s->sequence);
    }
    batch_seal(batch->data, batch->size);
    return w->batches_count++;
}

static void produce(struct workload *w)
{
    uint32_t which = (uint32_t)rng_below(&w->rng, w->streams_count);
    struct stream *s = &w->streams[which];
    if (s->open_count == FLIGHT_MAX || s->again || w->flights_count > HOST_REPLIES_MAX - 8) {
        settle(w);
    }
    if (w->failed || !w->topics[s->topic].live)
        return;
    int32_t count;
    bool has_producer = s->producer != PRODUCERS;
    uint32_t batch = build_batch(w, s, &count);
    struct mark sent = {.kind = MARK_BATCH_SENT,
                        .batch = batch,
                        .groups = {s->group},
                        .producer = has_producer ? w->producers[s->producer].id : -1,
                        .epoch = has_producer ? w->producers[s->producer].epoch : -1,
                        .sequence = has_producer ? s->sequence : -1,
                        .count = count,
                        .is_acks_all = has_producer};
    mark(w, &sent, w->batches[batch].data, w->batches[batch].size);
    s->sequence += count;
    s->open[s->open_count++] = batch;
    w->counts.batches++;
    send_batch(w, which, batch);
}

/* --- producers --- */

static void init_producer(struct workload *w, uint32_t number)
{
    struct producer *p = &w->producers[number];
    InitProducerRequest request = {.timeout_ms = 10000};
    struct mark asked = {.kind = MARK_INIT_SENT};
    snprintf(request.name, sizeof request.name, "%s", p->name);
    uint32_t status = OK;
    memcpy(asked.name, p->name, sizeof asked.name);
    for (uint32_t tries = 0; tries < 200 && !w->failed; tries++) {
        settle(w);
        if (p->name[0] != '\0') {
            mark(w, &asked, NULL, 0);
        }
        const struct host_reply *reply = call(w, FRAME_INIT_PRODUCER, &request);
        if (reply == NULL)
            return;
        const InitProducerReply *answer = &reply->message.as_InitProducerReply;
        status = answer->status;
        if (status == OK) {
            struct mark done = {
                .kind = MARK_INIT_DONE, .producer = answer->producer_id, .epoch = answer->producer_epoch};
            memcpy(done.name, p->name, sizeof done.name);
            p->id = answer->producer_id;
            p->epoch = answer->producer_epoch;
            if (p->name[0] != '\0') {
                mark(w, &done, NULL, 0);
            }
            for (uint32_t i = 0; i < w->streams_count; i++) {
                w->streams[i].sequence = w->streams[i].producer == number ? 0 : w->streams[i].sequence;
            }
            return;
        }
        host_idle(w->host, 20000);
    }
    fail(w, "no producer id", status);
}

/* --- topics --- */

static bool find_groups(struct workload *w, struct topic *topic)
{
    MetadataRequest request = {0};
    strcpy(request.topic, topic->name);
    const struct host_reply *reply = call(w, FRAME_METADATA, &request);
    if (reply == NULL)
        return false;
    struct codec_cursor cursor = {reply->payload, reply->payload_size};
    BrokerRow broker;
    TopicRow row;
    enum err error = codec_next_row(&cursor, ROW_BROKER, &broker);
    error = error == OK ? codec_next_row(&cursor, ROW_TOPIC, &row) : error;
    for (uint32_t p = 0; error == OK && p < topic->partitions; p++) {
        PartitionRow partition;
        error = codec_next_row(&cursor, ROW_PARTITION, &partition);
        topic->groups[p] = partition.group;
    }
    if (error != OK) {
        fail(w, "a topic that was made has no groups", error);
    }
    return error == OK;
}

static void add_streams(struct workload *w, uint32_t topic)
{
    for (uint32_t p = 0; p < w->topics[topic].partitions; p++) {
        for (uint32_t n = 0; n < 2 && w->streams_count < STREAMS_MAX; n++) {
            w->streams[w->streams_count++] =
                (struct stream){.producer = (uint32_t)(n == 0 ? rng_below(&w->rng, PRODUCERS) : PRODUCERS),
                                .topic = topic,
                                .group = w->topics[topic].groups[p]};
        }
        if (topic >= BASE_TOPICS || w->streams_count >= STREAMS_MAX)
            continue;
        struct stream *first = &w->streams[w->streams_count - 2];
        w->streams[w->streams_count++] =
            (struct stream){.producer = (first->producer + 1) % PRODUCERS, .topic = topic, .group = first->group};
    }
}

static void create_topic(struct workload *w, const char *name, uint32_t partitions, const TopicConfig *config)
{
    uint32_t number = w->topics_count++;
    struct topic *topic = &w->topics[number];
    ASSERT(number < TOPICS_MAX_ && partitions <= ORACLE_PARTITIONS_MAX);
    *topic = (struct topic){.partitions = partitions};
    strcpy(topic->name, name);
    CreateTopicRequest request = {.partitions = partitions, .timeout_ms = 20000, .has_config = true, .config = *config};
    strcpy(request.name, name);
    struct mark asked = {.kind = MARK_TOPIC_SENT,
                         .topic = number,
                         .partitions = partitions,
                         .retention_bytes = config->has_retention_bytes ? config->retention_bytes : -1,
                         .retention_ms = config->has_retention_ms ? config->retention_ms : -1};
    strcpy(asked.name, name);
    settle(w);
    mark(w, &asked, NULL, 0);
    const struct host_reply *reply = call(w, FRAME_CREATE_TOPIC, &request);
    if (reply == NULL || reply->message.as_CreateTopicReply.status != OK) {
        fail(w, "a topic is not made", reply != NULL ? reply->message.as_CreateTopicReply.status : ERR_TIMEOUT);
        return;
    }
    if (find_groups(w, topic)) {
        struct mark live = {.kind = MARK_TOPIC_LIVE, .topic = number};
        memcpy(live.groups, topic->groups, sizeof live.groups);
        mark(w, &live, NULL, 0);
        topic->live = true;
        w->counts.topics_made++;
        add_streams(w, number);
    }
}

static void delete_topic(struct workload *w, uint32_t number)
{
    struct topic *topic = &w->topics[number];
    DeleteTopicRequest request = {.timeout_ms = 20000};
    struct mark going = {.kind = MARK_TOPIC_GOING, .topic = number};
    struct mark gone = {.kind = MARK_TOPIC_GONE, .topic = number};
    strcpy(request.name, topic->name);
    settle(w);
    mark(w, &going, NULL, 0);
    topic->live = false;
    const struct host_reply *reply = call(w, FRAME_DELETE_TOPIC, &request);
    if (reply == NULL || reply->message.as_DeleteTopicReply.status != OK) {
        fail(w, "a topic is not deleted", reply != NULL ? reply->message.as_DeleteTopicReply.status : ERR_TIMEOUT);
        return;
    }
    mark(w, &gone, NULL, 0);
    w->counts.topics_deleted++;
    for (uint32_t i = 0; i < w->streams_count;) {
        if (w->streams[i].topic == number) {
            w->streams[i] = w->streams[--w->streams_count]; /* nothing of it is under way */
        } else {
            i++;
        }
    }
}

static void churn(struct workload *w, bool create)
{
    uint32_t live[CHURN_MAX], live_count = 0;
    for (uint32_t i = BASE_TOPICS; i < w->topics_count; i++) {
        if (w->topics[i].live) {
            live[live_count++] = i;
        }
    }
    if (!create && live_count > 0) {
        delete_topic(w, live[rng_below(&w->rng, live_count)]);
    } else if (create && live_count < CHURN_MAX) {
        for (uint32_t n = 0; n < CHURN_MAX; n++) { /* the first name of three that is free: names come again */
            char name[32];
            bool taken = false;
            snprintf(name, sizeof name, "churn%u", n);
            for (uint32_t i = 0; i < live_count; i++) {
                taken = taken || strcmp(w->topics[live[i]].name, name) == 0;
            }
            if (!taken) {
                create_topic(w, name, (uint32_t)rng_between(&w->rng, 1, 2),
                             &(TopicConfig){.has_retention_bytes = false});
                return;
            }
        }
    }
}

static void make_base_topics(struct workload *w)
{
    create_topic(w, "keep", 2, &(TopicConfig){.has_retention_bytes = false});
    create_topic(w, "size", 2, &(TopicConfig){.has_retention_bytes = true, .retention_bytes = 96 << 10});
    create_topic(
        w, "time", 1,
        &(TopicConfig){.has_retention_ms = true, .retention_ms = 8000, .has_segment_ms = true, .segment_ms = 1500});
}

/* --- reading --- */

static uint64_t any_group(struct workload *w)
{
    return w->streams[rng_below(&w->rng, w->streams_count)].group;
}

static void seen(struct workload *w, uint64_t group, int64_t high_watermark, int64_t log_start)
{
    struct mark told = {.kind = MARK_SEEN, .groups = {group}, .offset = high_watermark, .log_start = log_start};
    mark(w, &told, NULL, 0);
}

static void list_offsets(struct workload *w)
{
    uint64_t group = any_group(w);
    int64_t ago_ms = (int64_t)rng_below(&w->rng, 10000);
    ListOffsetsRequest request = {.group = group,
                                  .timestamp = rng_chance(&w->rng, 0.3) ? -2 : host_wall_ms(w->host) - ago_ms};
    const struct host_reply *reply = call(w, FRAME_LIST_OFFSETS, &request);
    if (reply != NULL && reply->message.as_ListOffsetsReply.status == OK) {
        const ListOffsetsReply *answer = &reply->message.as_ListOffsetsReply;
        seen(w, group, answer->high_watermark, answer->log_start);
    }
}

static void fetch(struct workload *w)
{
    FetchRequest request = {.group = any_group(w), .offset = 0, .bytes_max = 32768};
    for (int tries = 0; tries < 2; tries++) {
        const struct host_reply *reply = call(w, FRAME_FETCH, &request);
        if (reply == NULL)
            return;
        const FetchReply *answer = &reply->message.as_FetchReply;
        if (answer->status == OK || answer->status == ERR_OUT_OF_RANGE) {
            seen(w, request.group, answer->high_watermark, answer->log_start);
        }
        if (answer->status != ERR_OUT_OF_RANGE)
            return;
        request.offset = answer->log_start;
    }
}

/* --- lives --- */

static void start(struct workload *w)
{
    int code = 0;
    w->options.wall_ms = w->wall_ms;
    w->options.seed = rng_next(&w->rng);
    mark_quiet(w, 3000000); /* a host's clock begins a second on */
    enum err error = host_open(&w->options, &w->host, &code);
    if (error != OK) {
        w->host = NULL;
        fail(w, "the broker does not start", error);
        return;
    }
    w->flights_count = 0;
    for (uint32_t i = 0; i < w->streams_count; i++) {
        struct stream *s = &w->streams[i];
        s->flying = 0;
        s->again = s->producer != PRODUCERS && s->open_count > 0;
        s->open_count = s->producer != PRODUCERS ? s->open_count : 0;
    }
}

/* Partitions answer NOT_READY until they have elected; what is sent again meanwhile is sent once more. */
static void end(struct workload *w, bool clean)
{
    if (clean) {
        settle(w);
        mark_quiet(w, 12000000); /* more than a broker takes to stop */
        if (!w->failed && !host_stop(w->host)) {
            fail(w, "the broker does not stop", ERR_TIMEOUT);
        }
    }
    w->counts.stops += clean;
    w->counts.kills += !clean;
    w->wall_ms = host_wall_ms(w->host) + (int64_t)rng_below(&w->rng, 1000);
    host_close(w->host);
    w->host = NULL;
}

static void operate(struct workload *w)
{
    uint64_t dice = rng_below(&w->rng, 1000);
    if (dice < 780) {
        produce(w);
    } else if (dice < 830) {
        fetch(w);
    } else if (dice < 840) {
        list_offsets(w);
    } else if (dice < 880) {
        churn(w, dice < 860);
    } else if (dice < 900) {
        init_producer(w, (uint32_t)rng_below(&w->rng, PRODUCERS));
    } else if (dice < 984) {
        uint64_t until = rng_below(&w->rng, dice < 960 ? 50000 : 1500000);
        settle(w);
        mark_quiet(w, until);
        host_idle(w->host, until);
    } else {
        end(w, dice >= 993);
        if (!w->failed) {
            start(w);
        }
    }
    if (w->failed)
        return;
    if (rng_chance(&w->rng, 0.3)) {
        settle(w);
    } else {
        steps(w, (uint32_t)rng_below(&w->rng, 6));
    }
}

bool workload_run(const char *dir, uint64_t seed, uint32_t operations, struct workload_counts *ret_counts,
                  char why[256])
{
    static const struct trace quiet = {.level = TRACE_ERROR, .sink = trace_to_stderr};
    static const char *const names[PRODUCERS] = {"Leader", "TIMEOUT", "ann", "bob", "", ""};
    struct workload *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    w->why = why;
    w->wall_ms = WALL_MS;
    host_config(&w->config);
    w->options = (struct host_options){.dir = dir, .config = &w->config, .trace = &quiet};
    rng_seed(&w->rng, seed);
    start(w);
    for (uint32_t i = 0; i < PRODUCERS && !w->failed; i++) {
        strcpy(w->producers[i].name, names[i]);
        init_producer(w, i);
    }
    if (!w->failed) {
        make_base_topics(w);
    }
    while (w->counts.operations < operations && !w->failed) {
        operate(w);
        w->counts.operations++;
    }
    if (!w->failed) {
        settle(w);
    }
    if (w->host != NULL) {
        host_close(w->host);
    }
    for (uint32_t i = 0; i < w->batches_count; i++) {
        free(w->batches[i].data);
    }
    *ret_counts = w->counts;
    bool good = !w->failed;
    free(w);
    return good;
}
