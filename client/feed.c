/* One partition of a consumer: finds the start, then fetches. Trouble (no leader, lost connection, busy broker) is
 * retried with fresh metadata for as long as the user keeps the consumer; after timeout_ms without success the user is
 * told, once per such time. */
#include "client/consumer.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define OFFSET_LATEST    (-1)
#define OFFSET_EARLIEST  (-2)
#define ANSWER_MARGIN_MS 10000u

static void on_fetched(struct request *request, enum err error, const struct frame *frame, struct buf *bytes);
static void on_listed(struct request *request, enum err error, const struct frame *frame, struct buf *bytes);

static struct feed *feed_of(struct request *request)
{
    return (struct feed *)((char *)request - offsetof(struct feed, request));
}

/* ---- trouble ---- */

static void feed__trouble(struct feed *feed, enum err error)
{
    struct flo_consumer *consumer = feed->consumer;
    uint64_t now_ms = client__now_ms(consumer->client);
    if (!client__is_retriable(error) && error != ERR_UNKNOWN_TOPIC) {
        feed__end(feed, error);
        return;
    }
    feed->needs_metadata |= error != ERR_NOT_READY && error != ERR_BUSY;
    if (feed->trouble_since_ms == 0)
        feed->trouble_since_ms = now_ms;
    if (now_ms - feed->trouble_since_ms >= consumer->options.timeout_ms) {
        feed->trouble_since_ms = now_ms;
        feed->error = error;
        feed->error_due = true;
        consumer__mark_ready(consumer, feed);
    }
    client__set_alarm(consumer->client, &feed->retry, now_ms + client__backoff(&feed->backoff_ms));
}

static void feed__resume(struct feed *feed)
{
    if (feed->state == FEED_STARTING)
        feed__start(feed);
    else
        feed__go_on(feed);
}

static void on_feed_metadata(struct metadata_wait *wait, enum err error)
{
    struct feed *feed = (struct feed *)((char *)wait - offsetof(struct feed, metadata_wait));
    if (error != OK) {
        feed__trouble(feed, error);
        return;
    }
    feed->needs_metadata = false;
    feed__resume(feed);
}

static void on_feed_retry(struct alarm *alarm)
{
    struct feed *feed = (struct feed *)((char *)alarm - offsetof(struct feed, retry));
    if (feed->needs_metadata)
        metadata_refresh(feed->consumer->topic, &feed->metadata_wait);
    else
        feed__resume(feed);
}

/* NULL: there is trouble, and it is being seen to. */
static struct connection *feed__find_leader(struct feed *feed)
{
    struct flo_consumer *consumer = feed->consumer;
    const struct metadata_partition *partition = &consumer->topic->partitions[feed->partition];
    struct connection *connection = NULL;
    if (feed->group != 0 && partition->group != 0 && feed->group != partition->group) {
        feed__end(feed, ERR_UNKNOWN_PARTITION); /* the topic was made anew: offsets mean something else now */
        return NULL;
    }
    if (partition->group != 0)
        connection = client__connection_to_broker(consumer->client, partition->leader);
    if (connection == NULL) {
        feed__trouble(feed, partition->is_corrupt ? ERR_CORRUPT : ERR_NOT_LEADER);
        return NULL;
    }
    feed->group = partition->group;
    return connection;
}

static void feed__well(struct feed *feed)
{
    feed->backoff_ms = 0;
    feed->trouble_since_ms = 0;
}

/* The next fetch may wait at the broker; the user is told once. */
static void feed__at_end(struct feed *feed, int64_t high_watermark)
{
    feed->may_wait = true;
    feed->end_offset = high_watermark;
    if (feed->at_end)
        return;
    feed->at_end = feed->end_due = true;
    consumer__mark_ready(feed->consumer, feed);
}

/* ---- start ---- */

static void feed__begin_at(struct feed *feed, int64_t offset, int64_t high_watermark)
{
    feed->state = FEED_READING;
    feed->fetch_offset = feed->give_offset = offset;
    if (high_watermark >= 0 && offset >= high_watermark)
        feed__at_end(feed, high_watermark);
    feed__go_on(feed);
}

void feed__start(struct feed *feed)
{
    struct flo_consumer *consumer = feed->consumer;
    const struct flo_consumer_options *options = &consumer->options;
    if (options->start == FLO_START_OFFSET) {
        feed__begin_at(feed, options->start_value, -1);
        return;
    }
    struct connection *connection = feed__find_leader(feed);
    if (connection == NULL)
        return;
    ListOffsetsRequest message = {.group = feed->group, .timestamp = OFFSET_LATEST};
    if (options->start == FLO_START_EARLIEST)
        message.timestamp = OFFSET_EARLIEST;
    else if (options->start == FLO_START_TIME)
        message.timestamp = options->start_value;
    feed->request.on_done = on_listed;
    feed->request.deadline_ms = client__now_ms(consumer->client) + ANSWER_MARGIN_MS;
    connection_send(connection, &feed->request, FRAME_LIST_OFFSETS, &message, (struct slice){0}, true);
}

static void on_listed(struct request *request, enum err error, const struct frame *frame, struct buf *bytes)
{
    struct feed *feed = feed_of(request);
    const struct flo_consumer_options *options = &feed->consumer->options;
    ListOffsetsReply reply = {0};
    if (error == OK)
        error = frame->type == FRAME_LIST_OFFSETS_REPLY
                    ? codec_decode(frame->type, frame->proto, frame->proto_size, &reply)
                    : ERR_BAD_FRAME;
    if (error == OK)
        error = (enum err)reply.status;
    if (error == ERR_NOT_LEADER)
        metadata_hint_leader(feed->consumer->topic, feed->partition, reply.leader);
    if (error != OK) {
        feed__trouble(feed, error);
        return;
    }
    feed__well(feed);
    int64_t offset = reply.offset;
    if (options->start == FLO_START_TIME && offset < 0)
        offset = reply.high_watermark; /* nothing that late */
    if (options->start == FLO_START_TAIL) {
        offset = reply.offset - options->start_value;
        if (offset < reply.log_start)
            offset = reply.log_start;
    }
    feed__begin_at(feed, offset, reply.high_watermark);
}

/* ---- fetching ---- */

static bool feed__is_busy(const struct feed *feed)
{
    return request_is_pending(&feed->request) || feed->retry.at_ms != 0 || feed->metadata_wait.topic != NULL;
}

void feed__go_on(struct feed *feed)
{
    struct flo_consumer *consumer = feed->consumer;
    if (feed->state != FEED_READING || feed__is_busy(feed) || feed->starved || consumer->closing)
        return;
    if (!consumer__has_room(consumer)) {
        feed->starved = true;
        TAILQ_INSERT_TAIL(&consumer->starved, feed, starved_link);
        return;
    }
    struct connection *connection = feed__find_leader(feed);
    if (connection == NULL)
        return;
    uint32_t wait_ms = feed->may_wait ? consumer->options.wait_ms : 0;
    FetchRequest message = {
        .group = feed->group,
        .offset = feed->fetch_offset,
        .bytes_max = consumer->fetch_bytes,
        .bytes_min = 1,
        .wait_ms = wait_ms,
    };
    feed->request.on_done = on_fetched;
    feed->request.deadline_ms = client__now_ms(consumer->client) + wait_ms + ANSWER_MARGIN_MS;
    connection_send(connection, &feed->request, FRAME_FETCH, &message, (struct slice){0}, true);
}

/* The offset behind the last batch of a reply; false: not whole batches that lead on from fetch_offset. */
static bool feed__find_next_offset(const struct feed *feed, const uint8_t *data, uint32_t size,
                                   int64_t *ret_next_offset)
{
    int64_t next_offset = feed->fetch_offset;
    for (uint32_t at = 0; at < size;) {
        struct batch_header header;
        if (batch_parse(data + at, size - at, &header) != OK || header.size_bytes > size - at ||
            header.last_offset_delta < 0 || header.base_offset < 0 || header.base_offset > INT64_MAX - INT32_MAX - 1)
            return false;
        int64_t end_offset = header.base_offset + header.last_offset_delta + 1;
        if (end_offset <= next_offset)
            return false;
        next_offset = end_offset;
        at += header.size_bytes;
    }
    *ret_next_offset = next_offset;
    return true;
}

/* Below the log's start: those records are gone, reading goes on behind them. Above the end: said by a leader who
 * knows. */
static void feed__out_of_range(struct feed *feed, const FetchReply *reply)
{
    if (feed->fetch_offset >= reply->log_start) {
        feed__end(feed, ERR_OUT_OF_RANGE);
        return;
    }
    if (!feed->skip_due)
        feed->skip_from = feed->fetch_offset;
    feed->skip_due = true;
    feed->fetch_offset = reply->log_start;
    consumer__mark_ready(feed->consumer, feed);
    feed__go_on(feed);
}

static void feed__take(struct feed *feed, const FetchReply *reply, const struct frame *frame, struct buf *bytes)
{
    struct flo_consumer *consumer = feed->consumer;
    int64_t next_offset;
    if (!feed__find_next_offset(feed, frame->payload, frame->payload_size, &next_offset)) {
        feed__end(feed, ERR_CORRUPT_BATCH);
        return;
    }
    feed->may_wait = frame->payload_size == 0;
    feed->fetch_offset = next_offset;
    if (frame->payload_size > 0) {
        struct chunk *chunk = malloc(sizeof *chunk);
        ASSERT(chunk != NULL);
        *chunk = (struct chunk){
            .bytes = slice_of(bytes, (uint32_t)(frame->payload - bytes->data), frame->payload_size),
            .high_watermark = reply->high_watermark,
        };
        STAILQ_INSERT_TAIL(&feed->chunks, chunk, link);
        consumer->held_bytes += frame->payload_size;
        feed->at_end = feed->end_due = false; /* an END not given yet is overtaken */
        consumer__mark_ready(consumer, feed);
    }
    if (next_offset >= reply->high_watermark)
        feed__at_end(feed, reply->high_watermark);
    feed__go_on(feed);
}

static void on_fetched(struct request *request, enum err error, const struct frame *frame, struct buf *bytes)
{
    struct feed *feed = feed_of(request);
    FetchReply reply = {0};
    if (error == OK)
        error = frame->type == FRAME_FETCH_REPLY ? codec_decode(frame->type, frame->proto, frame->proto_size, &reply)
                                                 : ERR_BAD_FRAME;
    if (error == OK)
        error = (enum err)reply.status;
    if (error == ERR_NOT_LEADER)
        metadata_hint_leader(feed->consumer->topic, feed->partition, reply.leader);
    if (error == ERR_OUT_OF_RANGE) {
        feed__well(feed);
        feed__out_of_range(feed, &reply);
    } else if (error != OK) {
        feed__trouble(feed, error);
    } else {
        feed__well(feed);
        feed__take(feed, &reply, frame, bytes);
    }
}

/* ---- for the consumer ---- */

void feed__drop_chunk(struct feed *feed)
{
    struct chunk *chunk = STAILQ_FIRST(&feed->chunks);
    STAILQ_REMOVE_HEAD(&feed->chunks, link);
    slice_unref(&chunk->bytes);
    free(chunk);
}

void feed__end(struct feed *feed, enum err error)
{
    feed->state = FEED_ENDED;
    feed->error = error;
    feed->error_due = true;
    feed->end_due = false;
    request_cancel(&feed->request);
    client__set_alarm(feed->consumer->client, &feed->retry, 0);
    metadata_forget(&feed->metadata_wait);
    consumer__mark_ready(feed->consumer, feed);
}

bool feed__has_something(const struct feed *feed)
{
    return !STAILQ_EMPTY(&feed->chunks) || feed->end_due || feed->error_due || feed->skip_due;
}

void feed__init(struct feed *feed, struct flo_consumer *consumer, uint32_t partition)
{
    *feed = (struct feed){.consumer = consumer, .partition = partition};
    STAILQ_INIT(&feed->chunks);
    feed->retry.on_alarm = on_feed_retry;
    feed->metadata_wait.on_done = on_feed_metadata;
}

void feed__deinit(struct feed *feed)
{
    request_cancel(&feed->request);
    client__set_alarm(feed->consumer->client, &feed->retry, 0);
    metadata_forget(&feed->metadata_wait);
    while (!STAILQ_EMPTY(&feed->chunks))
        feed__drop_chunk(feed);
}
