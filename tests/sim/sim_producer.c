/* Producers: id and epoch, per partition a stream of batches with sequences and a window in flight. After any doubt
 * about a batch the stream waits until nothing of it is under way, then sends what is not acknowledged again, in order,
 * perhaps to another broker. That is what the client library does, and what makes "exactly once" the brokers' duty. */
#include "sim_client.h"
#include "sim_clock.h"
#include "sim_decay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "sim_ledger.h"
#include "wire/builder.h"

#define STREAMS_MAX         64
#define WINDOW_MAX          16
#define WINDOW_GREEDY       16u
#define GREEDY_BATCHES_MAX  1500u
#define PROVER_WAITS_US_MAX 3000000u /* W8 */
#define STALLS_LAST_US      9000000u
#define RETRY_US_MAX        300000u
#define BATCH_BYTES_MAX_SIM (400u << 10)
#define VALUE_BYTES_MAX_SIM 60000u /* fits the smallest batch that a topic may be limited to */

struct batch {
    uint32_t first, count;
    int32_t sequence;
    uint8_t *bytes; /* owned, sealed */
    uint32_t size;
    bool is_under_way, is_acked;
    struct request *request; /* the latest */
    uint32_t attempts;
    uint64_t first_us; /* when it was first sent */
    bool is_swapped;   /* sent before the one that comes before it */
};

/* One partition as one producer writes to it. */
struct stream {
    uint64_t group;
    uint64_t broker; /* what is under way is on its way there */
    int32_t next_sequence;
    struct batch window[WINDOW_MAX]; /* [0] is the oldest not acknowledged */
    uint32_t count;
    bool is_held;       /* a batch failed: nothing is sent until none is under way */
    uint64_t resume_us; /* and not before this time */
    uint32_t proofs;    /* prover: records acknowledged */
};

struct producer {
    struct client client; /* first */
    char name[64];        /* empty: anonymous */
    bool shares_name;
    enum check_acks acks;
    int64_t id; /* -1: none yet */
    int16_t epoch;
    bool is_prover, is_greedy;
    struct request *init;  /* InitProducer, the last one; NULL: none yet */
    uint32_t window;       /* batches in flight per stream */
    uint32_t batches_sent; /* greedy */
    struct stream streams[STREAMS_MAX];
    uint32_t streams_count;
};

static struct producer *producer_of(struct client *client)
{
    return (struct producer *)client;
}

static bool needs_id(const struct producer *producer)
{
    return producer->acks == CHECK_ACKS_ALL && producer->id < 0;
}

/* --- batches --- */

static uint32_t value_size(struct load *load)
{
    struct rng *rng = &load->world->load;
    uint32_t max = load->options->value_bytes_max;
    if (rng_chance(rng, 0.01))
        return (uint32_t)sim_log_between(rng, max, max * 8 < VALUE_BYTES_MAX_SIM ? max * 8 : VALUE_BYTES_MAX_SIM);
    return (uint32_t)rng_between(rng, SHADOW_VALUE_BYTES_MIN,
                                 max > SHADOW_VALUE_BYTES_MIN ? max : SHADOW_VALUE_BYTES_MIN);
}

/* Says that the records are compressed, and puts values of one size side by side instead: no broker looks into what a
 * client compressed. Returns the size of the batch. */
static uint32_t batch_disguise(struct load *load, uint8_t *memory, uint32_t capacity, const struct batch *batch)
{
    struct batch_header header;
    enum err error = batch_parse(memory, capacity, &header);
    ASSERT(error == OK);
    uint32_t size = value_size(load);
    if ((uint64_t)size * batch->count > capacity - BATCH_HEADER_BYTES) {
        size = (capacity - BATCH_HEADER_BYTES) / batch->count;
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        uint8_t *value = memory + BATCH_HEADER_BYTES + i * size;
        shadow_value_write(value, size, batch->first + i, load->options->seed);
        check_set_crc(load->check, batch->first + i, crc32c(0, value, size));
    }
    header.size_bytes = BATCH_HEADER_BYTES + size * batch->count;
    header.attributes = (uint16_t)rng_between(&load->world->load, CODEC_GZIP, CODEC_ZSTD);
    batch_write_header(memory, &header);
    return header.size_bytes;
}

/* What an application's clock may say: now, or for every sixteenth record none, long ago or far ahead. */
static int64_t timestamp_of(const struct load *load, uint32_t id)
{
    static const int64_t odd[] = {-1, 0, INT64_C(9000000000000), INT64_MAX / 2};
    return id % 16 == 0 ? odd[id / 16 % 4] : SIM_WALL_START_MS + (int64_t)(load->world->now_us / 1000);
}

static void batch_fill(struct producer *producer, struct stream *stream, struct batch *batch, uint32_t count)
{
    struct load *load = producer->client.load;
    bool sequenced = producer->acks == CHECK_ACKS_ALL;
    uint32_t capacity = (uint32_t)(load->options->segment_bytes < BATCH_BYTES_MAX_SIM ? load->options->segment_bytes
                                                                                      : BATCH_BYTES_MAX_SIM);
    uint8_t *memory = malloc(capacity), *value = malloc(capacity);
    ASSERT(memory != NULL && value != NULL);
    struct batch_builder builder;
    batch_builder_begin(&builder, memory, capacity);
    *batch = (struct batch){.sequence = sequenced ? stream->next_sequence : -1};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = value_size(load);
        if (builder.size_bytes + size + 64 > capacity)
            break;
        const struct check_record sent = {.group = stream->group,
                                          .producer_id = sequenced ? producer->id : -1,
                                          .epoch = sequenced ? producer->epoch : -1,
                                          .sequence = sequenced ? sequence_add(stream->next_sequence, (int32_t)i) : -1,
                                          .acks = producer->acks};
        uint32_t id = check_sent(load->check, &sent);
        shadow_value_write(value, size, id, load->options->seed);
        check_set_crc(load->check, id, crc32c(0, value, size));
        const struct record record = {.value = {value, size}, .timestamp = timestamp_of(load, id)};
        enum err error = batch_builder_append(&builder, &record);
        ASSERT(error == OK);
        batch->first = batch->count++ == 0 ? id : batch->first;
    }
    batch->size = batch_builder_finish(&builder);
    if (rng_chance(&load->world->load, 0.05)) {
        batch->size = batch_disguise(load, memory, capacity, batch);
    }
    if (sequenced) {
        batch_set_producer(memory, producer->id, producer->epoch, batch->sequence);
        stream->next_sequence = sequence_add(stream->next_sequence, (int32_t)batch->count);
    }
    batch_seal(memory, batch->size);
    batch->bytes = realloc(memory, batch->size);
    free(value);
    load->records_sent += batch->count;
}

static void stream_pop(struct stream *stream)
{
    free(stream->window[0].bytes);
    stream->count--;
    memmove(&stream->window[0], &stream->window[1], stream->count * sizeof stream->window[0]);
}

static void stream_clear(struct stream *stream)
{
    while (stream->count > 0) {
        stream_pop(stream);
    }
    stream->next_sequence = 0;
    stream->is_held = false;
}

/* --- sending --- */

static void batch_send(struct producer *producer, struct client_conn *to, struct stream *stream, struct batch *batch)
{
    struct load *load = producer->client.load;
    static const int32_t acks_numbers[] = {[CHECK_ACKS_ALL] = -1, [CHECK_ACKS_LEADER] = 1, [CHECK_ACKS_NONE] = 0};
    struct request *request = client_request(to, FRAME_PRODUCE);
    stream->broker = to->broker;
    request->group = stream->group;
    request->first = batch->first;
    request->count = batch->count;
    request->acks = producer->acks;
    request->is_next = batch == &stream->window[0];
    const ProduceRequest message = {.group = stream->group,
                                    .acks = acks_numbers[producer->acks],
                                    .timeout_ms = (uint32_t)rng_between(&load->world->load, 500, 20000)};
    if (batch->attempts++ > 0) {
        check_resent(load->check, batch->first, batch->count);
    }
    batch->request = request;
    if (batch->attempts == 1) {
        batch->first_us = load->world->now_us;
    }
    if (producer->acks == CHECK_ACKS_ALL) {
        load_exhibit_put(load, &(struct exhibit){.group = stream->group,
                                                 .first = batch->first,
                                                 .count = batch->count,
                                                 .bytes = batch->bytes,
                                                 .size = batch->size,
                                                 .sent_us = batch->first_us});
    }
    if (producer->acks == CHECK_ACKS_NONE) {
        client_send_no_reply(&producer->client, request, &message, batch->bytes, batch->size);
        return;
    }
    batch->is_under_way = true;
    client_send(&producer->client, request, &message, batch->bytes, batch->size);
}

static bool stream_is_under_way(const struct stream *stream)
{
    bool under_way = false;
    for (uint32_t i = 0; i < stream->count; i++) {
        under_way = under_way || stream->window[i].is_under_way;
    }
    return under_way;
}

/* What follows goes where the batches before it went, while any of them is in doubt. NULL: nobody is there. */
static struct client_conn *stream_conn(struct producer *producer, const struct stream *stream)
{
    return stream->count > 0 && stream_is_under_way(stream) ? client_conn_to(&producer->client, stream->broker)
                                                            : client_route(&producer->client, stream->group);
}

static void start_over(struct producer *producer);

/* A batch in doubt for so long that its producer may have been forgotten: to repeat it could store it twice. */
static bool stream_is_too_old(const struct producer *producer, const struct stream *stream)
{
    const struct load *load = producer->client.load;
    uint64_t expiry_us = (uint64_t)load->options->producer_expiry_ms * 1000;
    return producer->acks == CHECK_ACKS_ALL && stream->count > 0 && stream->window[0].attempts > 0 &&
           load->world->now_us - stream->window[0].first_us > expiry_us / 2;
}

/* Sends again what failed, in order. */
static void stream_resume(struct producer *producer, struct stream *stream)
{
    struct load *load = producer->client.load;
    if (!client_is_connected(&producer->client) || stream_is_under_way(stream) ||
        load->world->now_us < stream->resume_us)
        return;
    if (stream_is_too_old(producer, stream)) {
        start_over(producer);
        return;
    }
    struct client_conn *to = client_route(&producer->client, stream->group);
    stream->is_held = false;
    for (uint32_t i = 0; i < stream->count; i++) {
        if (!stream->window[i].is_acked) {
            batch_send(producer, to, stream, &stream->window[i]);
        }
    }
}

static void stream_hold(struct producer *producer, struct stream *stream)
{
    struct sim_world *world = producer->client.load->world;
    stream->is_held = true;
    stream->resume_us = world->now_us + rng_below(&world->load, RETRY_US_MAX);
}

static void stream_send_new(struct producer *producer, struct stream *stream, uint32_t count)
{
    if (!client_is_connected(&producer->client) || needs_id(producer) || stream->is_held ||
        stream->count >= producer->window)
        return;
    struct client_conn *to = stream_conn(producer, stream);
    if (to == NULL)
        return;
    struct batch *batch = &stream->window[stream->count];
    batch_fill(producer, stream, batch, count);
    stream->count++;
    batch_send(producer, to, stream, batch);
    if (producer->acks == CHECK_ACKS_NONE) {
        stream_pop(stream);
    }
}

/* Sends two batches in the wrong order: the first to arrive leaves a gap and must be refused. */
static void stream_send_swapped(struct producer *producer, struct stream *stream)
{
    if (!client_is_connected(&producer->client) || needs_id(producer) || stream->is_held || stream->count > 0 ||
        producer->acks != CHECK_ACKS_ALL)
        return;
    struct client_conn *to = stream_conn(producer, stream);
    for (uint32_t i = 0; i < 2; i++) {
        batch_fill(producer, stream, &stream->window[stream->count++], 1);
    }
    stream->window[1].is_swapped = true;
    batch_send(producer, to, stream, &stream->window[1]);
    batch_send(producer, to, stream, &stream->window[0]);
}

/* Each one asked for fences those before it. */
static bool is_asking_for_id(struct producer *producer)
{
    struct client_conn *to = producer->init != NULL ? client_conn_to(&producer->client, producer->init->broker) : NULL;
    return to != NULL && producer->init->is_open && producer->init->conn_id == sim_conn_id(to->conn);
}

static void send_init(struct producer *producer)
{
    if (load_has_many(producer->client.load) && is_asking_for_id(producer))
        return;
    struct request *request = client_request(client_route(&producer->client, 0), FRAME_INIT_PRODUCER);
    producer->init = request;
    request->floor = check_epoch(producer->client.load->check, producer->name);
    InitProducerRequest message = {.timeout_ms = 10000};
    strcpy(message.name, producer->name);
    strcpy(request->name, producer->name);
    client_send(&producer->client, request, &message, NULL, 0);
}

/* --- replies --- */

static void start_over(struct producer *producer)
{
    producer->id = -1;
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        stream_clear(&producer->streams[i]);
    }
    if (client_is_connected(&producer->client) && producer->acks == CHECK_ACKS_ALL) {
        send_init(producer);
    }
}

static struct batch *batch_find(struct producer *producer, const struct request *request, struct stream **ret_stream)
{
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        for (uint32_t k = 0; k < producer->streams[i].count; k++) {
            if (producer->streams[i].window[k].request == request) {
                *ret_stream = &producer->streams[i];
                return &producer->streams[i].window[k];
            }
        }
    }
    return NULL;
}

/* Epochs of a name are 0, 1, 2 ...: a newer one than ours can exist only if it was asked for. */
static bool may_be_fenced(const struct producer *producer)
{
    const struct load *load = producer->client.load;
    int32_t asked = 0;
    for (uint32_t i = 0; i < load->requests_count && producer->name[0] != '\0'; i++) {
        const struct request *request = load->requests[i];
        asked += request->type == FRAME_INIT_PRODUCER && strcmp(request->name, producer->name) == 0;
    }
    return asked > producer->epoch + 1;
}

/* The broker may have forgotten this producer in this group, and then it has. */
static bool may_be_unknown(const struct producer *producer, uint64_t group)
{
    const struct load *load = producer->client.load;
    struct ledger_row row;
    return sim_options_expire(load->options) && !ledger_find_row(check_ledger(load->check), group, producer->id, &row);
}

/* Answers that no honest producer may get: its batch follows the ones before it, and is retried within the window. */
static void judge_refusal(struct producer *producer, const struct request *request, bool follows, uint32_t status)
{
    struct sim_world *world = producer->client.load->world;
    bool bad = status == ERR_STALE || (follows && status == ERR_OUT_OF_ORDER) ||
               (follows && status == ERR_UNKNOWN_PRODUCER && !may_be_unknown(producer, request->group)) ||
               (!load_status_is_retriable(status) && status != ERR_OUT_OF_ORDER && status != ERR_UNKNOWN_PRODUCER &&
                status != ERR_FENCED && status != ERR_UNKNOWN_PARTITION && status != ERR_UNKNOWN_TOPIC);
    if (status == ERR_FENCED && !may_be_fenced(producer)) {
        world_fail(world, "B6", "producer '%s' %lld epoch %d is fenced, but nobody took over", producer->name,
                   (long long)producer->id, producer->epoch);
    }
    bool many = load_has_many(producer->client.load);
    if (status == ERR_CORRUPT && (many || decay_has_withheld(world->decay, request->group)))
        return; /* another one has it whole; or it will not be judged before the next start */
    bool gone = !many && (status == ERR_UNKNOWN_PARTITION || status == ERR_UNKNOWN_TOPIC);
    if (bad || (gone && !check_group_is_deleted(producer->client.load->check, request->group))) {
        world_fail(world, "B4", "messages %u..%u of group %llu, the next of producer %lld, are refused: %s",
                   request->first, request->first + request->count - 1, (unsigned long long)request->group,
                   (long long)producer->id, err_name((enum err)status));
    }
}

/* W8. A job that stalled before the faults ended may still hold everybody up. */
static void judge_wait(struct load *load, const struct request *request, const struct batch *batch)
{
    world_judged(load->world, JUDGE_W8);
    uint64_t calm_us = load->quiet_us + STALLS_LAST_US;
    uint64_t since_us = batch->first_us > calm_us ? batch->first_us : calm_us;
    if (load->world->now_us > since_us + PROVER_WAITS_US_MAX) {
        world_fail(load->world, "W8", "an idle partition, group %llu, answers after %llu us beside a greedy one",
                   (unsigned long long)request->group, (unsigned long long)(load->world->now_us - batch->first_us));
    }
}

static void on_produce_reply(struct producer *producer, const struct request *request, uint32_t status)
{
    struct load *load = producer->client.load;
    struct stream *stream;
    struct batch *batch = batch_find(producer, request, &stream);
    if (batch == NULL)
        return; /* an earlier attempt, or of an earlier life of this producer */
    batch->is_under_way = false;
    if (status == OK) {
        batch->is_acked = true;
        if (producer->is_prover && !load_has_many(load)) {
            judge_wait(load, request, batch);
        }
        while (stream->count > 0 && stream->window[0].is_acked) {
            stream->proofs++;
            stream_pop(stream);
        }
    } else {
        /* All before it were sent before it, and none of them was refused: the broker knows them. */
        bool follows = request->is_next || (!stream->is_held && !batch->is_swapped);
        judge_refusal(producer, request, follows, status);
        if (status == ERR_FENCED || (status == ERR_UNKNOWN_PRODUCER && may_be_unknown(producer, request->group))) {
            start_over(producer);
            return;
        }
        if (check_group_is_deleted(load->check, request->group)) {
            stream_clear(stream);
            return;
        }
        if (producer->acks != CHECK_ACKS_ALL) {
            stream_clear(stream); /* nothing makes these safe to repeat */
            return;
        }
        stream_hold(producer, stream);
    }
    if (stream->is_held) {
        stream_resume(producer, stream);
    }
}

static void on_init_reply(struct producer *producer, const InitProducerReply *reply)
{
    if (reply->status == OK && producer->id < 0) {
        producer->id = reply->producer_id;
        producer->epoch = (int16_t)reply->producer_epoch;
    } else if (reply->status == ERR_CORRUPT &&
               (producer->client.load->rotten || load_has_many(producer->client.load))) {
        return;
    } else if (reply->status != OK && !load_status_is_retriable(reply->status)) {
        world_fail(producer->client.load->world, "B6", "InitProducer '%s' is refused: %s", producer->name,
                   err_name((enum err)reply->status));
    }
}

static void on_reply(struct client *client, struct request *request, const union codec_message *message,
                     const uint8_t *payload, uint32_t payload_size)
{
    struct producer *producer = producer_of(client);
    if (request->type == FRAME_PRODUCE) {
        on_produce_reply(producer, request, message->as_ProduceReply.status);
    } else {
        on_init_reply(producer, &message->as_InitProducerReply);
    }
}

static void on_connected(struct client *client)
{
    struct producer *producer = producer_of(client);
    if (needs_id(producer)) {
        send_init(producer);
    }
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        stream_resume(producer, &producer->streams[i]);
    }
}

static void on_lost(struct client *client, uint64_t broker)
{
    struct producer *producer = producer_of(client);
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        struct stream *stream = &producer->streams[i];
        if (load_has_many(client->load) && stream->broker != broker)
            continue;
        for (uint32_t k = 0; k < stream->count; k++) {
            stream->window[k].is_under_way = false;
        }
        if (producer->acks == CHECK_ACKS_ALL) {
            stream->is_held = true;
            stream->resume_us = 0;
        } else {
            stream_clear(stream);
        }
    }
}

/* --- new load --- */

static void prover_wake(struct producer *producer)
{
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        struct stream *stream = &producer->streams[i];
        if (stream->proofs == 0 && stream->count == 0 && producer->client.load->proving) {
            stream_send_new(producer, stream, 1);
        }
    }
}

/* A burst into one partition; and a steady stream while others prove that they are served beside it. */
static void greedy_wake(struct producer *producer)
{
    struct load *load = producer->client.load;
    if (load->quiet && !load->proving)
        return;
    while (producer->streams_count > 0 && producer->batches_sent < GREEDY_BATCHES_MAX &&
           producer->streams[0].count < producer->window && client_is_connected(&producer->client) &&
           !producer->streams[0].is_held) {
        stream_send_new(producer, &producer->streams[0], load->options->batch_records_max);
        producer->batches_sent++;
    }
}

static void producer_wake(struct producer *producer)
{
    struct load *load = producer->client.load;
    struct rng *rng = &load->world->load;
    if (load->quiet || producer->streams_count == 0 || load->records_sent >= load->options->records_max)
        return;
    uint64_t burst = rng_chance(rng, 0.3) ? 1 + rng_below(rng, 5) : 1;
    for (uint64_t i = 0; i < burst; i++) {
        struct stream *stream = &producer->streams[rng_below(rng, producer->streams_count)];
        if (rng_chance(rng, 0.03)) {
            stream_send_swapped(producer, stream);
        } else {
            stream_send_new(producer, stream, (uint32_t)rng_between(rng, 1, load->options->batch_records_max));
        }
    }
}

/* For an id, or with batches that are to be sent again. */
static bool is_waiting(const struct producer *producer)
{
    bool is = needs_id(producer);
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        is = is || producer->streams[i].is_held;
    }
    return is;
}

static void on_wake(struct client *client)
{
    struct producer *producer = producer_of(client);
    struct load *load = client->load;
    if (!client_is_connected(client)) {
        client_connect(client);
    } else if (needs_id(producer)) {
        if (client_requests_open(client) == 0) {
            send_init(producer);
        }
    } else {
        for (uint32_t i = 0; i < producer->streams_count; i++) {
            if (producer->streams[i].is_held) {
                stream_resume(producer, &producer->streams[i]);
            }
        }
        if (producer->is_prover) {
            prover_wake(producer);
        } else if (producer->is_greedy) {
            greedy_wake(producer);
        } else {
            producer_wake(producer);
        }
    }
    uint64_t pause_us = producer->is_prover || load->quiet ? 100000 : load->options->think_us_max;
    if (producer->is_greedy) {
        pause_us = load->proving ? 3000 : load->options->load_us / 20;
    } else if (load_has_many(load) && is_waiting(producer)) {
        pause_us = RETRY_US_MAX / 3; /* somebody may lead by now */
    }
    client_wake(client, 1 + rng_below(&load->world->load, pause_us));
}

static const struct client_class producer_class = {
    .name = "producer", .connected = on_connected, .lost = on_lost, .reply = on_reply, .wake = on_wake};

/* --- for the load --- */

static struct producer *producer_make(struct load *load)
{
    struct producer *producer = calloc(1, sizeof *producer);
    ASSERT(producer != NULL);
    client_init(&producer->client, load, &producer_class);
    producer->id = -1;
    producer->window = load->options->window;
    return producer;
}

struct client *producer_new(struct load *load, uint32_t number)
{
    struct producer *producer = producer_make(load);
    struct rng *rng = &load->world->load;
    if (rng_chance(rng, 0.5)) {
        bool shares = load->options->faults[FAULT_FENCE] && rng_chance(rng, 0.3);
        snprintf(producer->name, sizeof producer->name, "%s-%u", rng_chance(rng, 0.2) ? "TIMEOUT" : "producer",
                 shares ? 0 : number);
    }
    uint64_t draw = rng_below(rng, 10);
    producer->acks = draw < 8 ? CHECK_ACKS_ALL : draw == 8 ? CHECK_ACKS_LEADER : CHECK_ACKS_NONE;
    if (producer->acks != CHECK_ACKS_ALL) { /* nothing bounds what has no sequences */
        producer->window = (uint32_t)rng_between(rng, 1, WINDOW_MAX);
    }
    client_wake(&producer->client, 1);
    return &producer->client;
}

struct client *prover_new(struct load *load)
{
    struct producer *producer = producer_make(load);
    producer->is_prover = true;
    producer->acks = CHECK_ACKS_ALL;
    client_wake(&producer->client, 1);
    return &producer->client;
}

struct client *greedy_new(struct load *load)
{
    struct producer *producer = producer_make(load);
    producer->is_greedy = true;
    producer->acks = CHECK_ACKS_LEADER;
    producer->window = WINDOW_GREEDY;
    client_wake(&producer->client, 1);
    return &producer->client;
}

void producer_attach(struct client *client, uint64_t group)
{
    struct producer *producer = producer_of(client);
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        if (producer->streams[i].group == group)
            return;
    }
    if (producer->streams_count < STREAMS_MAX) {
        producer->streams[producer->streams_count++] = (struct stream){.group = group};
    }
}

bool producer_has_work(const struct client *client)
{
    return ((const struct producer *)client)->streams_count > 0;
}

static void detach(struct producer *producer, uint64_t group)
{
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        if (producer->streams[i].group == group) {
            stream_clear(&producer->streams[i]);
            producer->streams[i] = producer->streams[--producer->streams_count];
            return;
        }
    }
}

void producer_detach(struct load *load, uint64_t group)
{
    for (uint32_t i = 0; i < load->producers_count; i++) {
        detach(producer_of(load->producers[i]), group);
    }
    if (load->greedy != NULL) {
        detach(producer_of(load->greedy), group);
    }
    detach(producer_of(load->prover), group);
}

bool producer_is_quiet(const struct client *client, const char **ret_why)
{
    const struct producer *producer = (const struct producer *)client;
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        if (producer->streams[i].count > 0) {
            *ret_why = "a batch is never acknowledged";
            return false;
        }
    }
    return true;
}

bool prover_is_done(const struct client *prover, const char **ret_why)
{
    const struct producer *producer = (const struct producer *)prover;
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        if (producer->streams[i].proofs == 0) {
            *ret_why = "a partition accepts no write";
            return false;
        }
    }
    return true;
}

void producer_take_over(struct client *client)
{
    struct producer *producer = producer_of(client);
    if (producer->id < 0)
        return;
    world_fault(client->load->world, FAULT_FENCE);
    client_drop(client, client->load->options->faults[FAULT_ZOMBIE]);
    start_over(producer);
}

void producer_free(struct client *client)
{
    struct producer *producer = producer_of(client);
    for (uint32_t i = 0; i < producer->streams_count; i++) {
        stream_clear(&producer->streams[i]);
    }
    client_done(client);
    free(producer);
}

/* --- as replies leave the broker --- */

/* With several brokers: whoever knows their disks is asked about the batch, unless nobody has its bytes any more. */
static void judge_majority(struct load *load, const struct request *request, int64_t offset)
{
    struct stream *stream;
    const struct load_truth *truth = load->truth;
    const struct batch *batch =
        request->client->class == &producer_class ? batch_find(producer_of(request->client), request, &stream) : NULL;
    if (request->acks == CHECK_ACKS_LEADER)
        return; /* may be lost with its leader */
    if (batch != NULL && truth != NULL && truth->acked != NULL &&
        !check_group_is_deleted(load->check, request->group)) {
        truth->acked(truth->context, request->group, batch->bytes, batch->size);
    }
    check_acked(load->check, request->first, request->count, offset, true);
}

void producer_judge_reply(struct load *load, const struct request *request, const ProduceReply *reply)
{
    world_log(load->world, "    broker %llu: messages %u..%u of group %llu: %s %lld",
              (unsigned long long)request->broker, request->first, request->first + request->count - 1,
              (unsigned long long)request->group, err_name((enum err)reply->status), (long long)reply->base_offset);
    if (reply->status == OK && load->world->decay != NULL) {
        decay_served(load->world->decay, request->group);
    }
    if (request->is_bad) {
        world_judged(load->world, JUDGE_B14);
    }
    if (reply->status == OK && request->is_bad) {
        world_fail(load->world, "B14", "group %llu stored what is no batch", (unsigned long long)request->group);
    } else if (request->count == 0 || (reply->status == OK && request->is_lie)) {
        return;
    } else if (reply->status == OK) {
        int64_t offset = request->acks == CHECK_ACKS_ALL ? reply->base_offset : -1;
        if (request->acks == CHECK_ACKS_ALL && offset < 0) {
            world_fail(load->world, "B5", "an acknowledgement without offset");
        }
        if (load->shadow == NULL) {
            judge_majority(load, request, offset);
            return;
        }
        bool durable = shadow_holds(load->shadow, request->group, request->first, request->count, offset);
        check_acked(load->check, request->first, request->count, offset, durable);
    } else {
        check_refused(load->check, request->first, request->count, reply->status);
    }
}

void producer_judge_init(struct load *load, const struct request *request, const InitProducerReply *reply)
{
    if (reply->status == OK && load_has_many(load)) {
        check_producer_since(load->check, request->name, reply->producer_id, reply->producer_epoch,
                             (int32_t)request->floor);
    } else if (reply->status == OK) {
        check_producer(load->check, request->name, reply->producer_id, reply->producer_epoch);
    }
}
