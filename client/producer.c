/* The producer: where a record goes, the memory of batches, linger and deadlines, opening, flush and close.
 *
 * flo_producer_send is the hot path: it copies the record into its partition's open batch and does nothing else;
 * closing batches, sending and all callbacks come at the end of the loop turn. */
#include "client/producer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "wire/partitioner.h"
#include "wire/varint.h"

#define LINGER_DEFAULT_MS          5u
#define BATCH_BYTES_DEFAULT_CLIENT (128u << 10)
#define BATCH_BYTES_MIN            512u
#define MEMORY_DEFAULT_BYTES       ((uint64_t)32 << 20)
#define HEADERS_ON_STACK           16u
#define HEADERS_MAX                10000u
#define BUFS_KEPT                  4096u

/* ---- memory ---- */

static struct batch *producer__take_batch(struct flo_producer *producer, uint32_t capacity)
{
    /* One batch always fits, however small the bound. */
    if (producer->memory_used > 0 && producer->memory_used + capacity > producer->options.memory_bytes)
        return NULL;
    struct buf *buf = capacity == producer->options.batch_bytes ? buf_pool_take(producer->bufs) : buf_new(capacity);
    if (buf == NULL)
        return NULL;
    struct batch *batch = TAILQ_FIRST(&producer->spare);
    if (batch != NULL) {
        TAILQ_REMOVE(&producer->spare, batch, by_age);
    } else {
        batch = calloc(1, sizeof *batch);
        ASSERT(batch != NULL);
    }
    uint64_t *tags = batch->tags;
    uint32_t tags_capacity = batch->tags_capacity;
    *batch = (struct batch){
        .buf = buf, .tags = tags, .tags_capacity = tags_capacity, .state = BATCH_OPEN, .base_offset = -1};
    producer->memory_used += buf->size;
    batch->serial = ++producer->next_serial;
    batch->opened_ms = client__now_ms(producer->client);
    batch_builder_begin(&batch->builder, buf->data, capacity);
    TAILQ_INSERT_TAIL(&producer->ages, batch, by_age);
    return batch;
}

static void producer__give_back(struct flo_producer *producer, struct batch *batch)
{
    TAILQ_REMOVE(&producer->ages, batch, by_age);
    ASSERT(producer->memory_used >= batch->buf->size && !request_is_pending(&batch->request));
    producer->memory_used -= batch->buf->size;
    buf_unref(batch->buf);
    batch->buf = NULL;
    TAILQ_INSERT_HEAD(&producer->spare, batch, by_age);
    if (producer->was_full)
        client__at_turn_end(producer->client, &producer->turn);
}

static void batch__tag(struct batch *batch, uint64_t tag)
{
    uint32_t at = (uint32_t)batch->builder.records_count - 1;
    if (at >= batch->tags_capacity) {
        batch->tags_capacity = batch->tags_capacity == 0 ? 256 : batch->tags_capacity * 2;
        batch->tags = realloc(batch->tags, batch->tags_capacity * sizeof batch->tags[0]);
        ASSERT(batch->tags != NULL);
    }
    batch->tags[at] = tag;
}

void producer__deliver(struct flo_producer *producer, struct batch *batch)
{
    struct flo_delivery delivery = {
        .partition = batch->lane->partition,
        .error = (enum flo_error)batch->error,
        .base_offset = batch->error == OK ? batch->base_offset : -1,
        .records_count = (uint32_t)batch->builder.records_count,
        .bytes = batch->bytes,
        .tags = producer->options.tags ? batch->tags : NULL,
    };
    /* First out of the way, so that the callback finds room for what it sends; its tags stay until the next batch is
     * opened. */
    uint64_t *tags = batch->tags;
    uint32_t tags_capacity = batch->tags_capacity;
    batch->tags = NULL;
    batch->tags_capacity = 0;
    producer__give_back(producer, batch);
    if (producer->flush_serial != 0)
        client__at_turn_end(producer->client, &producer->turn);
    if (producer->options.on_delivered != NULL)
        producer->options.on_delivered(producer->options.context, &delivery);
    if (batch->tags == NULL) {
        batch->tags = tags;
        batch->tags_capacity = tags_capacity;
    } else {
        free(tags);
    }
}

/* ---- time ---- */

static void producer__set_alarm(struct flo_producer *producer)
{
    uint64_t at_ms = 0;
    struct lane *lingering = TAILQ_FIRST(&producer->lingering);
    struct batch *oldest = TAILQ_FIRST(&producer->ages);
    if (oldest != NULL)
        at_ms = oldest->opened_ms + producer->options.timeout_ms;
    if (lingering != NULL && lingering->open->opened_ms + producer->options.linger_ms < at_ms)
        at_ms = lingering->open->opened_ms + producer->options.linger_ms;
    client__set_alarm(producer->client, &producer->alarm, at_ms);
}

static void on_producer_alarm(struct alarm *alarm)
{
    struct flo_producer *producer = (struct flo_producer *)((char *)alarm - offsetof(struct flo_producer, alarm));
    uint64_t now_ms = client__now_ms(producer->client);
    struct lane *lane;
    while ((lane = TAILQ_FIRST(&producer->lingering)) != NULL &&
           lane->open->opened_ms + producer->options.linger_ms <= now_ms) {
        lane->lingering = false;
        TAILQ_REMOVE(&producer->lingering, lane, linger_link);
        lane->open_due = true;
        producer__mark_due(producer, lane);
    }
    struct batch *batch;
    while (!producer->closing && (batch = TAILQ_FIRST(&producer->ages)) != NULL &&
           batch->opened_ms + producer->options.timeout_ms <= now_ms) {
        lane = batch->lane;
        if (batch->state == BATCH_OPEN)
            lane__close_batch(lane);
        ASSERT(batch->state != BATCH_DONE); /* older ones of its lane have expired before */
        lane__expire(lane, batch);
    }
    if (!producer->closing)
        producer__set_alarm(producer);
}

void producer__mark_due(struct flo_producer *producer, struct lane *lane)
{
    if (lane->due)
        return;
    lane->due = true;
    TAILQ_INSERT_TAIL(&producer->due, lane, due_link);
    client__at_turn_end(producer->client, &producer->turn);
}

/* ---- the end of a turn ---- */

static void producer__free(struct flo_producer *producer)
{
    struct batch *batch;
    for (uint32_t i = 0; i < producer->lanes_count; i++)
        lane__deinit(&producer->lanes[i]);
    while ((batch = TAILQ_FIRST(&producer->ages)) != NULL)
        producer__give_back(producer, batch);
    while ((batch = TAILQ_FIRST(&producer->spare)) != NULL) {
        TAILQ_REMOVE(&producer->spare, batch, by_age);
        free(batch->tags);
        free(batch);
    }
    client__forget_turn(producer->client, &producer->turn);
    client__set_alarm(producer->client, &producer->alarm, 0);
    buf_pool_free(producer->bufs);
    buf_unref(producer->compressed);
    compressor_deinit(&producer->compressor);
    free(producer->lanes);
    free((char *)(uintptr_t)producer->options.topic);
    free((char *)(uintptr_t)producer->options.name);
    producer->client->users_count--;
    void (*on_closed)(void *) = producer->on_closed;
    void *context = producer->on_closed_context;
    free(producer);
    if (on_closed != NULL)
        on_closed(context);
}

static void producer__maybe_flushed(struct flo_producer *producer)
{
    struct batch *oldest = TAILQ_FIRST(&producer->ages);
    if (producer->flush_serial == 0 || (oldest != NULL && oldest->serial <= producer->flush_serial))
        return;
    producer->flush_serial = 0;
    producer->on_flushed(producer->on_flushed_context);
}

static void on_producer_turn(struct turn *turn)
{
    struct flo_producer *producer = (struct flo_producer *)((char *)turn - offsetof(struct flo_producer, turn));
    struct lane *lane;
    if (producer->closing) {
        producer__free(producer);
        return;
    }
    bool has_room = producer->memory_used + producer->options.batch_bytes <= producer->options.memory_bytes;
    if (producer->was_full && (has_room || producer->memory_used == 0)) {
        producer->was_full = false;
        if (producer->options.on_writable != NULL)
            producer->options.on_writable(producer->options.context);
    }
    /* What on_writable sent goes out in this very turn. */
    while (!producer->closing && (lane = TAILQ_FIRST(&producer->due)) != NULL) {
        lane->due = false;
        TAILQ_REMOVE(&producer->due, lane, due_link);
        lane__pump(lane);
    }
    if (!producer->closing)
        producer__maybe_flushed(producer);
    if (!producer->closing)
        producer__set_alarm(producer);
}

/* ---- opening and identity ---- */

static void producer__end_opening(struct flo_producer *producer, enum err error)
{
    if (error != OK)
        producer->failed = error;
    else
        producer->open = true;
    if (producer->options.on_open != NULL)
        producer->options.on_open(producer->options.context, (enum flo_error)error);
    if (error == OK && !producer->closing) {
        producer->was_full = true;
        client__at_turn_end(producer->client, &producer->turn);
    }
}

static void on_identity(struct call *call, enum err error, const union codec_message *reply, const struct frame *frame)
{
    struct flo_producer *producer = call->context;
    if (error == OK && reply->as_InitProducerReply.producer_id < 0)
        error = ERR_BAD_FRAME;
    if (error == OK) {
        producer->producer_id = reply->as_InitProducerReply.producer_id;
        producer->producer_epoch = (int16_t)reply->as_InitProducerReply.producer_epoch;
        producer->identity++;
    }
    if (!producer->open) {
        producer__end_opening(producer, error);
    } else if (error != OK) {
        producer__fail(producer, error);
    } else {
        for (uint32_t i = 0; i < producer->lanes_count; i++)
            producer__mark_due(producer, &producer->lanes[i]);
    }
}

void producer__renew_identity(struct flo_producer *producer)
{
    ASSERT(producer->idempotent);
    if (producer->init.client != NULL)
        return;
    producer->init =
        (struct call){.type = FRAME_INIT_PRODUCER, .repeatable = true, .context = producer, .on_done = on_identity};
    InitProducerRequest *request = &producer->init.message.as_InitProducerRequest;
    *request = (InitProducerRequest){.timeout_ms = producer->options.timeout_ms};
    if (producer->options.name != NULL)
        strcpy(request->name, producer->options.name); /* its length was checked at open */
    call_start(producer->client, &producer->init);
}

void producer__fail(struct flo_producer *producer, enum err error)
{
    producer->failed = error;
    for (uint32_t i = 0; i < producer->lanes_count && !producer->closing; i++)
        lane__fail_all(&producer->lanes[i], error);
}

static void on_producer_metadata(struct metadata_wait *wait, enum err error)
{
    struct flo_producer *producer =
        (struct flo_producer *)((char *)wait - offsetof(struct flo_producer, metadata_wait));
    if (error != OK) {
        producer__end_opening(producer, error);
        return;
    }
    if (producer->options.batch_bytes > producer->topic->max_batch_bytes)
        producer->options.batch_bytes = producer->topic->max_batch_bytes;
    producer->bufs = buf_pool_new(producer->options.batch_bytes, BUFS_KEPT);
    producer->lanes_count = producer->topic->partitions_count;
    producer->lanes = calloc(producer->lanes_count, sizeof producer->lanes[0]);
    ASSERT(producer->lanes != NULL);
    for (uint32_t i = 0; i < producer->lanes_count; i++)
        lane__init(&producer->lanes[i], producer, i);
    producer->sticky = (uint32_t)rng_below(&producer->client->rng, producer->lanes_count);
    if (producer->idempotent)
        producer__renew_identity(producer);
    else
        producer__end_opening(producer, OK);
}

/* ---- sending ---- */

static uint64_t record_size_max(const struct record *record)
{
    uint64_t size_bytes = BATCH_HEADER_BYTES + 8 * VARINT64_BYTES_MAX + (uint64_t)record->key.size + record->value.size;
    for (uint32_t i = 0; i < record->headers_count; i++)
        size_bytes += (uint64_t)record->headers[i].key.size + record->headers[i].value.size + 2 * VARINT32_BYTES_MAX;
    return size_bytes;
}

static enum flo_error producer__full(struct flo_producer *producer)
{
    producer->was_full = true;
    /* Open batches hold memory too: with many partitions all of it may be lingering. */
    for (struct lane *lane = TAILQ_FIRST(&producer->lingering); lane != NULL; lane = TAILQ_NEXT(lane, linger_link)) {
        lane->open_due = true;
        producer__mark_due(producer, lane);
    }
    return FLO_FULL;
}

static enum flo_error producer__open_batch(struct flo_producer *producer, struct lane *lane, uint32_t capacity)
{
    struct batch *batch = producer__take_batch(producer, capacity);
    if (batch == NULL)
        return producer->memory_used > 0 ? producer__full(producer) : FLO_NO_MEMORY;
    batch->lane = lane;
    lane->open = batch;
    if (producer->options.linger_ms > 0 && producer->flush_serial == 0) {
        lane->lingering = true;
        TAILQ_INSERT_TAIL(&producer->lingering, lane, linger_link);
        client__at_turn_end(producer->client, &producer->turn); /* for the alarm */
    } else {
        lane->open_due = true;
        producer__mark_due(producer, lane);
    }
    return FLO_OK;
}

static void producer__close_batch(struct flo_producer *producer, struct lane *lane)
{
    lane__close_batch(lane);
    producer__mark_due(producer, lane);
}

/* The next partition for records without a key: the following one that is not in trouble. */
static void producer__move_on(struct flo_producer *producer)
{
    for (uint32_t i = 1; i <= producer->lanes_count; i++) {
        uint32_t next = (producer->sticky + i) % producer->lanes_count;
        if (!producer->lanes[next].recovering || i == producer->lanes_count) {
            producer->sticky = i == producer->lanes_count ? (producer->sticky + 1) % producer->lanes_count : next;
            return;
        }
    }
}

static struct lane *producer__choose_lane(struct flo_producer *producer, const struct flo_record *record)
{
    if (record->partition >= 0)
        return (uint32_t)record->partition < producer->lanes_count ? &producer->lanes[record->partition] : NULL;
    if (record->key != NULL)
        return &producer->lanes[partitioner_choose(record->key, (uint32_t)record->key_size, producer->lanes_count)];
    if (producer->lanes[producer->sticky].open == NULL)
        producer__move_on(producer);
    return &producer->lanes[producer->sticky];
}

/* A record that fits no batch of the usual size gets one of its own. */
static enum flo_error producer__append_large(struct flo_producer *producer, struct lane *lane,
                                             const struct record *record)
{
    uint64_t capacity = record_size_max(record);
    if (capacity > producer->topic->max_batch_bytes)
        capacity = producer->topic->max_batch_bytes; /* the estimate is generous: the builder has the last word */
    if (lane->open != NULL && lane->open->builder.records_count > 0)
        producer__close_batch(producer, lane);
    if (lane->open == NULL || lane->open->buf->size < capacity) {
        ASSERT(lane->open == NULL);
        enum flo_error error = producer__open_batch(producer, lane, (uint32_t)capacity);
        if (error != FLO_OK)
            return error;
    }
    return (enum flo_error)batch_builder_append(&lane->open->builder, record);
}

/* An open batch without records must not stay: it could not be closed. */
static void producer__drop_empty(struct flo_producer *producer, struct lane *lane)
{
    struct batch *batch = lane->open;
    if (batch == NULL || batch->builder.records_count > 0)
        return;
    lane->open = NULL;
    lane->open_due = false;
    if (lane->lingering) {
        lane->lingering = false;
        TAILQ_REMOVE(&producer->lingering, lane, linger_link);
    }
    producer__give_back(producer, batch);
}

/* FLO_AGAIN: the open batch was full and has been closed; choose and try again. */
static enum flo_error producer__append(struct flo_producer *producer, struct lane *lane, const struct record *record)
{
    enum flo_error error = FLO_OK;
    if (lane->open == NULL)
        error = producer__open_batch(producer, lane, producer->options.batch_bytes);
    if (error != FLO_OK)
        return error;
    error = (enum flo_error)batch_builder_append(&lane->open->builder, record);
    if (__builtin_expect(error == FLO_OK, 1))
        return FLO_OK;
    if (error == FLO_AGAIN) {
        producer__close_batch(producer, lane);
        return FLO_AGAIN;
    }
    if (error == FLO_TOO_LARGE && record_size_max(record) <= (uint64_t)producer->topic->max_batch_bytes + 128) {
        producer__drop_empty(producer, lane);
        error = producer__append_large(producer, lane, record);
    }
    if (error != FLO_OK)
        producer__drop_empty(producer, lane);
    return error;
}

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now); /* 5 ns; a tick of a few ms is fine for a record's timestamp */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline struct blob blob_of(const void *data, size_t size)
{
    return (struct blob){data, data == NULL ? 0 : (uint32_t)size};
}

/* Sizes that no batch holds are stopped before they are cut to 32 bits. */
static bool sizes_ok(const struct flo_record *record)
{
    if ((record->key != NULL && record->key_size > BATCH_BYTES_MAX) ||
        (record->value != NULL && record->value_size > BATCH_BYTES_MAX) || record->headers_count > HEADERS_MAX)
        return false;
    for (size_t i = 0; i < record->headers_count; i++) {
        if (record->headers[i].key_size > BATCH_BYTES_MAX || record->headers[i].value_size > BATCH_BYTES_MAX)
            return false;
    }
    return true;
}

static enum flo_error producer__send(struct flo_producer *producer, const struct flo_record *record,
                                     const struct record_header *headers)
{
    struct record to_append = {
        .key = blob_of(record->key, record->key_size),
        .value = blob_of(record->value, record->value_size),
        .timestamp = record->timestamp_ms == FLO_NOW ? wall_ms() : record->timestamp_ms,
        .headers = headers,
        .headers_count = (uint32_t)record->headers_count,
    };
    struct lane *lane;
    enum flo_error error;
    do {
        lane = producer__choose_lane(producer, record);
        error = lane != NULL ? producer__append(producer, lane, &to_append) : FLO_UNKNOWN_PARTITION;
    } while (__builtin_expect(error == FLO_AGAIN, 0));
    if (error != FLO_OK)
        return error;
    struct batch *batch = lane->open;
    batch->bytes += (uint64_t)to_append.key.size + to_append.value.size;
    for (uint32_t i = 0; i < to_append.headers_count; i++)
        batch->bytes += (uint64_t)headers[i].key.size + headers[i].value.size;
    if (producer->options.tags)
        batch__tag(batch, record->tag);
    return FLO_OK;
}

enum flo_error flo_producer_send(struct flo_producer *producer, const struct flo_record *record)
{
    ASSERT(!producer->closing);
    if (producer->failed != OK)
        return (enum flo_error)producer->failed;
    if (!producer->open) {
        producer->was_full = true;
        return FLO_FULL;
    }
    if (!sizes_ok(record))
        return FLO_TOO_LARGE;
    if (record->headers_count == 0)
        return producer__send(producer, record, NULL);
    struct record_header on_stack[HEADERS_ON_STACK];
    struct record_header *headers = on_stack;
    if (record->headers_count > HEADERS_ON_STACK) {
        headers = malloc(record->headers_count * sizeof headers[0]);
        ASSERT(headers != NULL);
    }
    for (size_t i = 0; i < record->headers_count; i++) {
        const struct flo_header *header = &record->headers[i];
        headers[i].key = blob_of(header->key, header->key_size);
        headers[i].value = blob_of(header->value, header->value_size);
    }
    enum flo_error error = producer__send(producer, record, headers);
    if (headers != on_stack)
        free(headers);
    return error;
}

/* ---- other public functions ---- */

void flo_producer_options_init(struct flo_producer_options *options)
{
    *options = (struct flo_producer_options){
        .acks = FLO_ACKS_ALL,
        .codec = FLO_CODEC_NONE,
        .linger_ms = LINGER_DEFAULT_MS,
        .batch_bytes = BATCH_BYTES_DEFAULT_CLIENT,
        .memory_bytes = MEMORY_DEFAULT_BYTES,
    };
}

enum flo_error flo_producer_open(struct flo_client *client, const struct flo_producer_options *options,
                                 struct flo_producer **ret_producer)
{
    bool acks_ok = options->acks == FLO_ACKS_ALL || options->acks == FLO_ACKS_LEADER || options->acks == FLO_ACKS_NONE;
    bool codec_ok = (unsigned)options->codec <= FLO_CODEC_ZSTD;
    if (options->topic == NULL || !acks_ok || !codec_ok || options->batch_bytes < BATCH_BYTES_MIN ||
        options->batch_bytes > BATCH_BYTES_MAX)
        return FLO_INVALID;
    if (options->name != NULL && (options->name[0] == '\0' || strlen(options->name) > PRODUCER_NAME_BYTES_MAX))
        return FLO_INVALID;
    struct metadata_topic *topic = metadata_topic(client, options->topic);
    if (topic == NULL)
        return FLO_INVALID_TOPIC;
    struct flo_producer *producer = calloc(1, sizeof *producer);
    if (producer == NULL)
        return FLO_NO_MEMORY;
    producer->client = client;
    producer->options = *options;
    producer->options.topic = strdup(options->topic);
    producer->options.name = options->name != NULL ? strdup(options->name) : NULL;
    if (producer->options.timeout_ms == 0)
        producer->options.timeout_ms = client->timeout_ms;
    producer->topic = topic;
    producer->producer_id = -1;
    producer->idempotent = options->acks == FLO_ACKS_ALL;
    TAILQ_INIT(&producer->due);
    TAILQ_INIT(&producer->lingering);
    TAILQ_INIT(&producer->ages);
    TAILQ_INIT(&producer->spare);
    producer->turn.on_turn = on_producer_turn;
    producer->alarm.on_alarm = on_producer_alarm;
    producer->metadata_wait.on_done = on_producer_metadata;
    client->users_count++;
    metadata_refresh(topic, &producer->metadata_wait);
    *ret_producer = producer;
    return FLO_OK;
}

enum flo_error flo_producer_flush(struct flo_producer *producer, void (*on_flushed)(void *context), void *context)
{
    ASSERT(!producer->closing);
    if (producer->flush_serial != 0)
        return FLO_BUSY;
    producer->flush_serial = producer->next_serial > 0 ? producer->next_serial : 1;
    producer->on_flushed = on_flushed;
    producer->on_flushed_context = context;
    struct batch *batch;
    TAILQ_FOREACH(batch, &producer->ages, by_age)
    {
        if (batch->state == BATCH_OPEN) {
            batch->lane->open_due = true;
            producer__mark_due(producer, batch->lane);
        }
    }
    client__at_turn_end(producer->client, &producer->turn);
    return FLO_OK;
}

uint32_t flo_producer_partitions(const struct flo_producer *producer)
{
    return producer->open ? producer->lanes_count : 0;
}

int64_t flo_producer_id(const struct flo_producer *producer)
{
    return producer->producer_id;
}

void flo_producer_close(struct flo_producer *producer, void (*on_closed)(void *context), void *context)
{
    ASSERT(!producer->closing);
    producer->closing = true;
    producer->on_closed = on_closed;
    producer->on_closed_context = context;
    metadata_forget(&producer->metadata_wait);
    call_cancel(&producer->init);
    for (uint32_t i = 0; i < producer->lanes_count; i++)
        lane__deinit(&producer->lanes[i]);
    client__set_alarm(producer->client, &producer->alarm, 0);
    client__at_turn_end(producer->client, &producer->turn);
}
