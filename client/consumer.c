/* The consumer: hands out batches and notices of its feeds in turns, verifies and opens batches when they are taken (so
 * that only what is read is paid for), and keeps the memory of everything fetched within bounds. */
#include "client/consumer.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"

#define FETCH_BYTES_DEFAULT    (1u << 20)
#define FETCH_BYTES_MIN        (16u << 10)
#define WAIT_DEFAULT_MS        1000u
#define PREFETCH_DEFAULT_BYTES ((uint64_t)16 << 20)
#define ATTRIBUTE_CONTROL      0x20u

/* What struct flo_fetched hides from the user. */
struct fetched_state {
    struct record_reader reader;
    struct buf *bytes;
    struct opener *opener; /* NULL: the batch was not compressed */
    uint32_t held_bytes;
    int64_t from_offset; /* records below it were not asked for */
};
_Static_assert(sizeof(struct fetched_state) <= sizeof(((struct flo_fetched *)0)->internal),
               "flo_fetched.internal is too small");

static struct fetched_state *state_of(struct flo_fetched *fetched)
{
    return (struct fetched_state *)(void *)fetched->internal;
}

/* ---- readiness and memory ---- */

void consumer__mark_ready(struct flo_consumer *consumer, struct feed *feed)
{
    if (!feed->ready) {
        feed->ready = true;
        TAILQ_INSERT_TAIL(&consumer->ready, feed, ready_link);
    }
    if (consumer->was_empty)
        client__at_turn_end(consumer->client, &consumer->turn);
}

bool consumer__has_room(const struct flo_consumer *consumer)
{
    return consumer->held_bytes < consumer->options.prefetch_bytes;
}

static void consumer__free(struct flo_consumer *consumer)
{
    for (uint32_t i = 0; i < consumer->feeds_count; i++)
        feed__deinit(&consumer->feeds[i]);
    struct opener *opener;
    while ((opener = SLIST_FIRST(&consumer->openers)) != NULL) {
        SLIST_REMOVE_HEAD(&consumer->openers, link);
        decompressor_deinit(&opener->decompressor);
        free(opener);
    }
    free(consumer->feeds);
    free((char *)(uintptr_t)consumer->options.topic);
    consumer->client->users_count--;
    void (*on_closed)(void *) = consumer->on_closed;
    void *context = consumer->on_closed_context;
    free(consumer);
    if (on_closed != NULL)
        on_closed(context);
}

static void on_consumer_turn(struct turn *turn)
{
    struct flo_consumer *consumer = (struct flo_consumer *)((char *)turn - offsetof(struct flo_consumer, turn));
    if (consumer->closing) {
        consumer__free(consumer);
        return;
    }
    struct feed *feed;
    while (consumer__has_room(consumer) && (feed = TAILQ_FIRST(&consumer->starved)) != NULL) {
        feed->starved = false;
        TAILQ_REMOVE(&consumer->starved, feed, starved_link);
        feed__go_on(feed);
    }
    if (consumer->was_empty && !TAILQ_EMPTY(&consumer->ready)) {
        consumer->was_empty = false;
        if (consumer->options.on_readable != NULL)
            consumer->options.on_readable(consumer->options.context);
    }
}

static void consumer__release_bytes(struct flo_consumer *consumer, uint32_t bytes)
{
    ASSERT(consumer->held_bytes >= bytes);
    consumer->held_bytes -= bytes;
    if (!TAILQ_EMPTY(&consumer->starved) && consumer__has_room(consumer))
        client__at_turn_end(consumer->client, &consumer->turn);
}

/* ---- opening ---- */

static void consumer__end_opening(struct flo_consumer *consumer, enum err error)
{
    consumer->failed = error;
    consumer->open = error == OK;
    consumer->was_empty = true;
    if (consumer->options.on_open != NULL)
        consumer->options.on_open(consumer->options.context, (enum flo_error)error);
    for (uint32_t i = 0; i < consumer->feeds_count && error == OK && !consumer->closing; i++)
        feed__start(&consumer->feeds[i]);
}

static void on_consumer_metadata(struct metadata_wait *wait, enum err error)
{
    struct flo_consumer *consumer =
        (struct flo_consumer *)((char *)wait - offsetof(struct flo_consumer, metadata_wait));
    int32_t only = consumer->options.partition;
    if (error == OK && only >= 0 && (uint32_t)only >= consumer->topic->partitions_count)
        error = ERR_UNKNOWN_PARTITION;
    if (error == OK) {
        consumer->feeds_count = only >= 0 ? 1 : consumer->topic->partitions_count;
        consumer->feeds = calloc(consumer->feeds_count, sizeof consumer->feeds[0]);
        ASSERT(consumer->feeds != NULL);
        for (uint32_t i = 0; i < consumer->feeds_count; i++)
            feed__init(&consumer->feeds[i], consumer, only >= 0 ? (uint32_t)only : i);
        uint64_t share = consumer->options.prefetch_bytes / consumer->feeds_count;
        consumer->fetch_bytes = share < consumer->options.fetch_bytes ? (uint32_t)share : consumer->options.fetch_bytes;
        if (consumer->fetch_bytes < FETCH_BYTES_MIN)
            consumer->fetch_bytes = FETCH_BYTES_MIN;
    }
    consumer__end_opening(consumer, error);
}

void flo_consumer_options_init(struct flo_consumer_options *options)
{
    *options = (struct flo_consumer_options){
        .partition = FLO_ANY_PARTITION,
        .start = FLO_START_EARLIEST,
        .fetch_bytes = FETCH_BYTES_DEFAULT,
        .wait_ms = WAIT_DEFAULT_MS,
        .prefetch_bytes = PREFETCH_DEFAULT_BYTES,
    };
}

enum flo_error flo_consumer_open(struct flo_client *client, const struct flo_consumer_options *options,
                                 struct flo_consumer **ret_consumer)
{
    bool start_ok = options->start <= FLO_START_TIME;
    bool value_ok =
        (options->start != FLO_START_OFFSET && options->start != FLO_START_TAIL) || options->start_value >= 0;
    if (options->topic == NULL || !start_ok || !value_ok || options->partition < FLO_ANY_PARTITION ||
        options->fetch_bytes < FETCH_BYTES_MIN || options->fetch_bytes > FETCH_BYTES_MAX ||
        options->prefetch_bytes == 0)
        return FLO_INVALID;
    struct metadata_topic *topic = metadata_topic(client, options->topic);
    if (topic == NULL)
        return FLO_INVALID_TOPIC;
    struct flo_consumer *consumer = calloc(1, sizeof *consumer);
    if (consumer == NULL)
        return FLO_NO_MEMORY;
    consumer->client = client;
    consumer->options = *options;
    consumer->options.topic = strdup(options->topic);
    if (consumer->options.timeout_ms == 0)
        consumer->options.timeout_ms = client->timeout_ms;
    consumer->topic = topic;
    TAILQ_INIT(&consumer->ready);
    TAILQ_INIT(&consumer->starved);
    SLIST_INIT(&consumer->openers);
    consumer->turn.on_turn = on_consumer_turn;
    consumer->metadata_wait.on_done = on_consumer_metadata;
    client->users_count++;
    metadata_refresh(topic, &consumer->metadata_wait);
    *ret_consumer = consumer;
    return FLO_OK;
}

/* ---- handing out ---- */

static struct opener *consumer__take_opener(struct flo_consumer *consumer)
{
    struct opener *opener = SLIST_FIRST(&consumer->openers);
    if (opener != NULL) {
        SLIST_REMOVE_HEAD(&consumer->openers, link);
        return opener;
    }
    opener = calloc(1, sizeof *opener);
    ASSERT(opener != NULL);
    return opener;
}

/* Verifies and opens the batch at `data`. On errors the state holds nothing. */
static enum err consumer__open_batch(struct flo_consumer *consumer, const uint8_t *data,
                                     const struct batch_header *header, struct fetched_state *state)
{
    if (!batch_crc_ok(data, header->size_bytes))
        return ERR_CORRUPT_BATCH;
    const uint8_t *records = data + BATCH_HEADER_BYTES;
    uint32_t size = header->size_bytes - BATCH_HEADER_BYTES;
    if (batch_codec(header) != CODEC_NONE) {
        state->opener = consumer__take_opener(consumer);
        enum err error =
            records_decompress(&state->opener->decompressor, data, header, RECORDS_BYTES_MAX, &records, &size);
        if (error != OK) {
            SLIST_INSERT_HEAD(&consumer->openers, state->opener, link);
            state->opener = NULL;
            return error;
        }
    }
    record_reader_begin(&state->reader, header, records, size);
    return OK;
}

/* Cuts the next batch out of the feed's first chunk. ERR_AGAIN: it holds nothing for the user; call again. */
static enum err feed__give_batch(struct feed *feed, struct flo_fetched *ret_fetched)
{
    struct flo_consumer *consumer = feed->consumer;
    struct chunk *chunk = STAILQ_FIRST(&feed->chunks);
    const uint8_t *data = chunk->bytes.data + chunk->taken;
    struct batch_header header;
    enum err error = batch_parse(data, chunk->bytes.size - chunk->taken, &header);
    ASSERT(error == OK && header.size_bytes <= chunk->bytes.size - chunk->taken); /* seen when the reply came */
    struct flo_fetched fetched = {
        .kind = FLO_FETCHED_RECORDS,
        .partition = feed->partition,
        .base_offset = header.base_offset,
        .next_offset = header.base_offset + header.last_offset_delta + 1,
        .high_watermark = chunk->high_watermark,
        .records_count = (uint32_t)header.records_count,
    };
    struct fetched_state *state = state_of(&fetched);
    bool hidden = (header.attributes & ATTRIBUTE_CONTROL) != 0 || header.records_count == 0;
    if (!hidden)
        error = consumer__open_batch(consumer, data, &header, state);
    if (error != OK)
        return error;
    state->from_offset = feed->give_offset;
    state->held_bytes = header.size_bytes;
    state->bytes = hidden ? NULL : buf_ref(chunk->bytes.buf);
    feed->give_offset = fetched.next_offset;
    chunk->taken += header.size_bytes;
    if (chunk->taken == chunk->bytes.size)
        feed__drop_chunk(feed);
    if (hidden) {
        consumer__release_bytes(consumer, header.size_bytes);
        return ERR_AGAIN;
    }
    *ret_fetched = fetched;
    return OK;
}

static void feed__drop_chunks(struct feed *feed)
{
    struct chunk *chunk;
    while ((chunk = STAILQ_FIRST(&feed->chunks)) != NULL) {
        consumer__release_bytes(feed->consumer, chunk->bytes.size - chunk->taken);
        feed__drop_chunk(feed);
    }
}

static void feed__give_notice(struct feed *feed, struct flo_fetched *ret_fetched)
{
    *ret_fetched = (struct flo_fetched){
        .partition = feed->partition,
        .base_offset = feed->give_offset,
        .next_offset = feed->give_offset,
        .high_watermark = feed->end_offset,
    };
    if (feed->skip_due) {
        feed->skip_due = false;
        ret_fetched->kind = FLO_FETCHED_SKIP;
        ret_fetched->base_offset = feed->skip_from;
        ret_fetched->next_offset = feed->give_offset = feed->fetch_offset;
    } else if (feed->error_due) {
        feed->error_due = false;
        ret_fetched->kind = FLO_FETCHED_ERROR;
        ret_fetched->error = (enum flo_error)feed->error;
    } else {
        ASSERT(feed->end_due);
        feed->end_due = false;
        ret_fetched->kind = FLO_FETCHED_END;
    }
}

/* Something of this feed; ERR_AGAIN: it had nothing for the user. */
static enum err feed__give(struct feed *feed, struct flo_fetched *ret_fetched)
{
    if (STAILQ_EMPTY(&feed->chunks)) {
        feed__give_notice(feed, ret_fetched);
        return OK;
    }
    enum err error = feed__give_batch(feed, ret_fetched);
    if (error == OK || error == ERR_AGAIN)
        return error;
    feed__drop_chunks(feed);
    feed__end(feed, error);
    return ERR_AGAIN;
}

enum flo_error flo_consumer_next(struct flo_consumer *consumer, struct flo_fetched *ret_fetched)
{
    ASSERT(!consumer->closing);
    struct feed *feed;
    if (consumer->failed != OK)
        return (enum flo_error)consumer->failed;
    while ((feed = TAILQ_FIRST(&consumer->ready)) != NULL) {
        if (!feed__has_something(feed)) {
            feed->ready = false;
            TAILQ_REMOVE(&consumer->ready, feed, ready_link);
            continue;
        }
        enum err error = feed__give(feed, ret_fetched);
        /* Turns go chunk by chunk: neighbouring batches are in the cache. */
        if (STAILQ_EMPTY(&feed->chunks) && TAILQ_NEXT(feed, ready_link) != NULL) {
            TAILQ_REMOVE(&consumer->ready, feed, ready_link);
            TAILQ_INSERT_TAIL(&consumer->ready, feed, ready_link);
        }
        if (error == OK)
            return FLO_OK;
    }
    consumer->was_empty = true;
    return FLO_AGAIN;
}

enum flo_error flo_fetched_next(struct flo_fetched *fetched, struct flo_message *ret_message)
{
    ASSERT(fetched->kind == FLO_FETCHED_RECORDS);
    struct fetched_state *state = state_of(fetched);
    struct record_view record;
    do {
        enum err error = record_reader_next(&state->reader, &record);
        if (error != OK)
            return error == ERR_CLOSED ? FLO_AGAIN : (enum flo_error)error;
    } while (record.offset < state->from_offset);
    *ret_message = (struct flo_message){
        .offset = record.offset,
        .timestamp_ms = record.timestamp,
        .key = record.key.data,
        .key_size = record.key.size,
        .value = record.value.data,
        .value_size = record.value.size,
        .headers_count = record.headers_count,
        .headers = record.headers.data,
        .headers_size = record.headers.size,
    };
    return FLO_OK;
}

bool flo_message_header(struct flo_message *message, struct flo_header *ret_header)
{
    struct record_view record = {
        .headers_count = message->headers_count,
        .headers = {message->headers, message->headers_size},
    };
    struct record_header header;
    if (!record_next_header(&record, &header))
        return false;
    message->headers_count = record.headers_count;
    message->headers = record.headers.data;
    message->headers_size = record.headers.size;
    *ret_header = (struct flo_header){
        .key = header.key.data,
        .key_size = header.key.size,
        .value = header.value.data,
        .value_size = header.value.size,
    };
    return true;
}

void flo_fetched_release(struct flo_consumer *consumer, struct flo_fetched *fetched)
{
    struct fetched_state *state = state_of(fetched);
    if (fetched->kind != FLO_FETCHED_RECORDS || state->bytes == NULL)
        return;
    if (state->opener != NULL)
        SLIST_INSERT_HEAD(&consumer->openers, state->opener, link);
    buf_unref(state->bytes);
    state->bytes = NULL;
    state->opener = NULL;
    consumer__release_bytes(consumer, state->held_bytes);
}

uint32_t flo_consumer_partitions(const struct flo_consumer *consumer)
{
    return consumer->open ? consumer->feeds_count : 0;
}

void flo_consumer_close(struct flo_consumer *consumer, void (*on_closed)(void *context), void *context)
{
    ASSERT(!consumer->closing);
    consumer->closing = true;
    consumer->on_closed = on_closed;
    consumer->on_closed_context = context;
    metadata_forget(&consumer->metadata_wait);
    for (uint32_t i = 0; i < consumer->feeds_count; i++)
        feed__deinit(&consumer->feeds[i]);
    client__at_turn_end(consumer->client, &consumer->turn);
}
