/* One partition of a producer: batches leave in order, up to five are in flight, and their order at the broker is
 * their order here.
 *
 * When something goes wrong the lane stops sending, waits for the replies still under way, then sends again, oldest
 * first, what is not stored: same bytes, same sequences, so that the broker can tell a duplicate by Kafka's rules.
 * Sequences change only where that is safe:
 *   - A batch that was refused for good leaves a gap. Those behind it were refused too (out of order) and are
 *     renumbered.
 *   - A batch given up with its outcome unknown poisons the numbering. Those sent behind it are given up with it, and
 *     the lane goes on under a new producer id (anonymous) or not at all (named: a new epoch would fence whoever holds
 *     the name now).
 *   - Another group id means that the topic was made anew: nothing of ours is there, numbering starts at 0. */
#include "client/producer.h"

#include <string.h>

#include "base/assert.h"

/* A try that a live connection does not answer is asked about again: the leader may have changed behind a hanging
 * broker. */
#define TRY_TIMEOUT_MS 10000u

static void lane__settle(struct lane *lane);

static struct batch *batch_of(struct request *request)
{
    return (struct batch *)((char *)request - offsetof(struct batch, request));
}

static bool batch_was_sent(const struct batch *batch)
{
    return batch->state == BATCH_SENT || batch->state == BATCH_RETRY;
}

/* The oldest batch whose fate is open. */
static struct batch *lane__first_open_fate(struct lane *lane)
{
    struct batch *batch;
    TAILQ_FOREACH(batch, &lane->batches, in_lane)
    {
        if (batch->state != BATCH_DONE)
            return batch;
    }
    return NULL;
}

static void batch__decide(struct batch *batch, enum err error, int64_t base_offset)
{
    ASSERT(batch->state != BATCH_DONE && batch->state != BATCH_OPEN);
    if (batch->state == BATCH_SENT) {
        request_cancel(&batch->request);
        batch->lane->in_flight--;
    }
    batch->state = BATCH_DONE;
    batch->error = error;
    batch->base_offset = base_offset;
}

/* ---- closing and sending ---- */

static void lane__compress(struct lane *lane, struct batch *batch)
{
    struct flo_producer *producer = lane->producer;
    enum batch_codec codec = (enum batch_codec)producer->options.codec;
    uint32_t bound = batch_compress_bound(codec, batch->size_bytes);
    if (producer->compressed == NULL || producer->compressed->size < bound) {
        buf_unref(producer->compressed);
        producer->compressed = buf_new(bound);
    }
    uint32_t size_bytes;
    /* No memory, or no gain: it goes as it is. */
    if (producer->compressed == NULL ||
        batch_compress(&producer->compressor, codec, batch->buf->data, batch->size_bytes, producer->compressed->data,
                       producer->compressed->size, &size_bytes) != OK)
        return;
    memcpy(batch->buf->data, producer->compressed->data, size_bytes);
    batch->size_bytes = size_bytes;
}

void lane__close_batch(struct lane *lane)
{
    struct batch *batch = lane->open;
    struct flo_producer *producer = lane->producer;
    ASSERT(batch != NULL && batch->state == BATCH_OPEN);
    lane->open = NULL;
    lane->open_due = false;
    if (lane->lingering) {
        lane->lingering = false;
        TAILQ_REMOVE(&producer->lingering, lane, linger_link);
    }
    batch->size_bytes = batch_builder_finish(&batch->builder);
    if (producer->options.codec != FLO_CODEC_NONE)
        lane__compress(lane, batch);
    batch->state = BATCH_READY;
    TAILQ_INSERT_TAIL(&lane->batches, batch, in_lane);
    if (!producer->idempotent)
        batch_seal(batch->buf->data, batch->size_bytes);
}

static void lane__number(struct lane *lane, struct batch *batch)
{
    struct flo_producer *producer = lane->producer;
    if (!producer->idempotent || batch->has_sequence)
        return;
    batch->has_sequence = true;
    batch->base_sequence = lane->next_sequence;
    lane->next_sequence = sequence_add(lane->next_sequence, batch->builder.records_count);
    batch_set_producer(batch->buf->data, producer->producer_id, producer->producer_epoch, batch->base_sequence);
    batch_seal(batch->buf->data, batch->size_bytes);
}

static void on_produced(struct request *request, enum err error, const struct frame *frame, struct buf *bytes);

static void lane__send(struct lane *lane, struct batch *batch, struct connection *connection)
{
    struct flo_producer *producer = lane->producer;
    uint64_t now_ms = client__now_ms(producer->client);
    uint64_t deadline_ms = batch->opened_ms + producer->options.timeout_ms;
    uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 1;
    lane__number(lane, batch);
    ProduceRequest message = {
        .group = lane->group,
        .acks = producer->options.acks,
        .timeout_ms = (uint32_t)left_ms,
        .term = producer->topic->partitions[lane->partition].term,
    };
    batch->request.on_done = on_produced;
    batch->request.deadline_ms = now_ms + (left_ms < TRY_TIMEOUT_MS ? left_ms : TRY_TIMEOUT_MS);
    batch->state = BATCH_SENT;
    lane->in_flight++;
    struct slice payload = {.buf = batch->buf, .data = batch->buf->data, .size = batch->size_bytes};
    connection_send(connection, &batch->request, FRAME_PRODUCE, &message, payload,
                    producer->options.acks != FLO_ACKS_NONE);
}

static void lane__stall(struct lane *lane, enum err error, bool needs_metadata)
{
    lane->recovering = true;
    lane->needs_metadata |= needs_metadata;
    lane->last_error = error;
}

/* May the lane number batches? Takes over the producer's newest identity when nothing numbered under the old one is
 * left. */
static bool lane__has_identity(struct lane *lane)
{
    struct flo_producer *producer = lane->producer;
    struct batch *batch = lane__first_open_fate(lane);
    if (!producer->idempotent)
        return true;
    if (lane->identity < producer->identity && (batch == NULL || !batch->has_sequence)) {
        lane->identity = producer->identity;
        lane->confirmed = lane->next_sequence = 0;
    }
    return lane->identity >= lane->identity_min && lane->identity > 0;
}

static struct batch *lane__next_to_send(struct lane *lane)
{
    struct batch *batch;
    TAILQ_FOREACH(batch, &lane->batches, in_lane)
    {
        if (batch->state == BATCH_READY || batch->state == BATCH_RETRY)
            return batch;
    }
    return NULL;
}

/* The leader's connection and the partition's group; NULL: not known. */
static struct connection *lane__find_leader(struct lane *lane)
{
    struct flo_producer *producer = lane->producer;
    const struct metadata_partition *partition = &producer->topic->partitions[lane->partition];
    if (partition->group == 0)
        return NULL;
    if (lane->group != partition->group) {
        if (lane->in_flight > 0)
            return NULL;
        lane->group = partition->group;
        lane->confirmed = lane->next_sequence = 0;
        struct batch *batch;
        TAILQ_FOREACH(batch, &lane->batches, in_lane)
        batch->has_sequence = batch->outcome_unknown = false;
    }
    return client__connection_to_broker(producer->client, partition->leader);
}

void lane__pump(struct lane *lane)
{
    struct flo_producer *producer = lane->producer;
    uint32_t open_limit = producer->options.linger_ms == 0 ? LANE_INFLIGHT_NO_LINGER : LANE_INFLIGHT_MAX;
    while (!lane->recovering && lane->in_flight < LANE_INFLIGHT_MAX && producer->failed == OK) {
        struct batch *batch = lane__next_to_send(lane);
        if (batch == NULL) {
            if (lane->open == NULL || !lane->open_due || lane->in_flight >= open_limit)
                return;
            lane__close_batch(lane);
            continue;
        }
        if (!lane__has_identity(lane))
            return; /* the new one pumps all lanes when it comes */
        struct connection *connection = lane__find_leader(lane);
        if (connection == NULL) {
            bool is_corrupt = producer->topic->partitions[lane->partition].is_corrupt;
            lane__stall(lane, is_corrupt ? ERR_CORRUPT : ERR_NOT_LEADER, true);
            lane__settle(lane);
            return;
        }
        lane__send(lane, batch, connection);
    }
}

/* ---- what went wrong ---- */

/* Nothing of this try was stored. */
static bool is_refusal(enum err error)
{
    switch (error) {
    case ERR_INTERNAL:
    case ERR_TIMEOUT:
    case ERR_UNKNOWN_OUTCOME:
    case ERR_CORRUPT:
    case ERR_CLOSED:
    case ERR_BAD_FRAME:
        return false;
    default:
        return true;
    }
}

static bool wants_metadata(enum err error)
{
    return error != ERR_NOT_READY && error != ERR_BUSY && error != ERR_STORAGE_FULL;
}

/* Gives up everything sent from this batch on: what is stored of it is unknown, so its numbers are spent. */
static void lane__give_up(struct lane *lane, struct batch *from, enum err error)
{
    struct flo_producer *producer = lane->producer;
    ASSERT(producer->idempotent);
    for (struct batch *batch = from; batch != NULL; batch = TAILQ_NEXT(batch, in_lane)) {
        if (batch_was_sent(batch))
            batch__decide(batch, error, -1);
    }
    lane->identity_min = lane->identity + 1;
    if (producer->options.name != NULL)
        producer->failed = error; /* made good on by producer__fail, when this lane has settled */
    else if (producer->identity < lane->identity_min)
        producer__renew_identity(producer);
}

/* All replies are in: gives numbers that follow what is stored to those that were refused. */
static void lane__renumber(struct lane *lane)
{
    int32_t expected = lane->confirmed;
    bool spent = lane->identity < lane->identity_min; /* everything not stored moves to the next identity */
    bool moved = false;
    for (struct batch *batch = TAILQ_FIRST(&lane->batches); batch != NULL; batch = TAILQ_NEXT(batch, in_lane)) {
        if (!batch->has_sequence || (batch->state == BATCH_DONE && batch->error != OK))
            continue;
        if (!moved && !spent && batch->base_sequence == expected) {
            expected = sequence_add(expected, batch->builder.records_count);
            continue;
        }
        if (batch->state == BATCH_DONE)
            continue;
        if (batch->outcome_unknown) {
            lane__give_up(lane, batch, ERR_UNKNOWN_OUTCOME);
            return;
        }
        moved = true;
        batch->has_sequence = false;
    }
    lane->next_sequence = expected;
}

/* Everything before the batch is stored, and its number follows. Otherwise a refusal for its number is the fault of one
 * before it. */
static bool lane__is_next_to_store(struct lane *lane, const struct batch *batch)
{
    int32_t expected = lane->confirmed;
    struct batch *each;
    TAILQ_FOREACH(each, &lane->batches, in_lane)
    {
        if (each == batch)
            return batch->base_sequence == expected;
        if (each->state != BATCH_DONE)
            return false;
        if (each->error == OK && each->has_sequence)
            expected = sequence_add(each->base_sequence, each->builder.records_count);
    }
    UNREACHABLE();
}

/* A refusal that says the broker's memory of this producer is not ours. */
static void lane__judge_numbering(struct lane *lane, struct batch *batch, enum err error)
{
    struct flo_producer *producer = lane->producer;
    if (!lane__is_next_to_store(lane, batch))
        return;
    if (error != ERR_UNKNOWN_PRODUCER || batch->outcome_unknown || producer->options.name != NULL) {
        lane__give_up(lane, batch, error);
        return;
    }
    /* Forgotten after long idleness, and nothing of ours can have been stored since: the same records under a new id
     * are no duplicates. Those of which this is not sure are sorted out when all replies are in (lane__renumber). */
    lane->identity_min = lane->identity + 1;
    if (producer->identity < lane->identity_min)
        producer__renew_identity(producer);
}

static void lane__judge(struct lane *lane, struct batch *batch, enum err error)
{
    struct flo_producer *producer = lane->producer;
    batch->error = error;
    if (!is_refusal(error))
        batch->outcome_unknown = true;
    if (error == ERR_FENCED) {
        producer->failed = error;
    } else if (client__is_retriable(error)) {
        lane__stall(lane, error, wants_metadata(error));
    } else if (error == ERR_OUT_OF_ORDER || error == ERR_UNKNOWN_PRODUCER || error == ERR_STALE) {
        lane__stall(lane, error, false);
        lane__judge_numbering(lane, batch, error);
    } else {
        batch__decide(batch, error, -1);
        lane__stall(lane, error, false);
    }
}

static void on_produced(struct request *request, enum err error, const struct frame *frame, struct buf *bytes)
{
    struct batch *batch = batch_of(request);
    struct lane *lane = batch->lane;
    ProduceReply reply = {.base_offset = -1};
    ASSERT(batch->state == BATCH_SENT);
    if (error == OK && frame != NULL) {
        error = frame->type == FRAME_PRODUCE_REPLY ? codec_decode(frame->type, frame->proto, frame->proto_size, &reply)
                                                   : ERR_BAD_FRAME;
        if (error == OK)
            error = (enum err)reply.status;
    }
    lane->in_flight--;
    batch->state = BATCH_RETRY;
    if (error == OK) {
        lane->backoff_ms = 0;
        batch__decide(batch, OK, lane->producer->options.acks == FLO_ACKS_ALL ? reply.base_offset : -1);
    } else if (error != ERR_CANCELLED) {
        lane__judge(lane, batch, error);
        /* A hint only changes where the retry goes first: metadata is asked for all the same when that fails as well.
         */
        if (error == ERR_NOT_LEADER && metadata_hint_leader(lane->producer->topic, lane->partition, reply.leader))
            lane->needs_metadata = false;
    }
    lane__settle(lane);
}

/* ---- recovery ---- */

static void lane__resume(struct lane *lane)
{
    lane->recovering = false;
    lane->needs_metadata = false;
    lane__pump(lane);
}

static void on_lane_metadata(struct metadata_wait *wait, enum err error)
{
    struct lane *lane = (struct lane *)((char *)wait - offsetof(struct lane, metadata_wait));
    if (error == OK) {
        lane__resume(lane);
        return;
    }
    lane->last_error = error;
    client__set_alarm(lane->producer->client, &lane->retry,
                      client__now_ms(lane->producer->client) + client__backoff(&lane->backoff_ms));
}

static void on_lane_retry(struct alarm *alarm)
{
    struct lane *lane = (struct lane *)((char *)alarm - offsetof(struct lane, retry));
    if (lane->needs_metadata)
        metadata_refresh(lane->producer->topic, &lane->metadata_wait);
    else
        lane__resume(lane);
}

/* After every change: hands out what is decided, fails or recovers or goes on. May call the user; the producer may be
 * closing then. */
static void lane__settle(struct lane *lane)
{
    struct flo_producer *producer = lane->producer;
    struct batch *batch;
    if (lane->recovering && lane->in_flight == 0 && producer->idempotent && producer->failed == OK) {
        /* Before delivery takes the decided ones away: their numbers say what is stored. */
        lane__renumber(lane);
    }
    while (!producer->closing && (batch = TAILQ_FIRST(&lane->batches)) != NULL && batch->state == BATCH_DONE) {
        TAILQ_REMOVE(&lane->batches, batch, in_lane);
        if (batch->error == OK && batch->has_sequence)
            lane->confirmed = sequence_add(batch->base_sequence, batch->builder.records_count);
        producer__deliver(producer, batch);
    }
    if (producer->closing)
        return;
    if (producer->failed != OK) {
        producer__fail(producer, producer->failed);
        return;
    }
    bool waiting = lane->retry.at_ms != 0 || lane->metadata_wait.topic != NULL;
    if (lane->recovering && lane->in_flight == 0 && !waiting)
        client__set_alarm(producer->client, &lane->retry,
                          client__now_ms(producer->client) + client__backoff(&lane->backoff_ms));
    else
        lane__pump(lane);
}

/* ---- for the producer ---- */

void lane__expire(struct lane *lane, struct batch *batch)
{
    bool unknown = batch->state == BATCH_SENT || batch->outcome_unknown;
    if (!batch_was_sent(batch)) {
        enum err why = lane->last_error != OK && lane->recovering ? lane->last_error : ERR_TIMEOUT;
        batch__decide(batch, why, -1);
    } else if (unknown && lane->producer->idempotent) {
        lane__give_up(lane, batch, ERR_TIMEOUT);
    } else if (unknown) {
        batch__decide(batch, ERR_TIMEOUT, -1);
    } else {
        batch__decide(batch, batch->error, -1);
        lane__stall(lane, batch->error, lane->needs_metadata);
    }
    lane__settle(lane);
}

void lane__fail_all(struct lane *lane, enum err error)
{
    struct flo_producer *producer = lane->producer;
    struct batch *batch;
    if (lane->open != NULL)
        lane__close_batch(lane);
    while (!producer->closing && (batch = TAILQ_FIRST(&lane->batches)) != NULL) {
        if (batch->state != BATCH_DONE)
            batch__decide(batch, error, -1);
        TAILQ_REMOVE(&lane->batches, batch, in_lane);
        producer__deliver(producer, batch);
    }
}

void lane__init(struct lane *lane, struct flo_producer *producer, uint32_t partition)
{
    *lane = (struct lane){.producer = producer, .partition = partition};
    TAILQ_INIT(&lane->batches);
    lane->retry.on_alarm = on_lane_retry;
    lane->metadata_wait.on_done = on_lane_metadata;
}

void lane__deinit(struct lane *lane)
{
    struct batch *batch;
    TAILQ_FOREACH(batch, &lane->batches, in_lane)
    request_cancel(&batch->request);
    client__set_alarm(lane->producer->client, &lane->retry, 0);
    metadata_forget(&lane->metadata_wait);
}
