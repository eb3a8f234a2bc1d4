/* Readers: consumers, which follow some partitions with long polls of any size, and the auditor, which after each
 * restart and at the end reads every partition from its start. All bytes are checked: batch CRC, layout, each record
 * against what was sent. */
#include "sim_client.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "sim_atlas.h"
#include "sim_decay.h"
#include "wire/records.h"

#define FOLLOWED_MAX 16
#define RETRY_US_MAX 200000u

struct position {
    uint64_t group;
    int64_t offset;
};

struct reader {
    struct client client; /* first */
    bool is_auditor;
    bool is_final;     /* auditor: this pass ends with check_complete */
    bool has_finished; /* auditor: nothing left to read */
    struct position positions[TOPICS_MAX_SIM * PARTITIONS_MAX_SIM];
    uint32_t positions_count, current;
    uint32_t polls;
};

static struct reader *reader_of(struct client *client)
{
    return (struct reader *)client;
}

static struct position *position_at(struct reader *reader)
{
    return reader->positions_count == 0 ? NULL : &reader->positions[reader->current % reader->positions_count];
}

static void fetch(struct reader *reader)
{
    struct client *client = &reader->client;
    struct load *load = client->load;
    struct rng *rng = &load->world->load;
    struct position *position = position_at(reader);
    if (!client_is_connected(client) || client_requests_open(client) > 0 || position == NULL || reader->has_finished)
        return;
    bool patient = !reader->is_auditor && !load->quiet && rng_chance(rng, 0.5);
    bool hurries = reader->is_auditor && load->quiet && load_has_many(load); /* the whole log, within a phase */
    struct request *request = client_request(client_route(client, position->group), FRAME_FETCH);
    request->group = position->group;
    request->offset = position->offset;
    const FetchRequest message = {
        .group = position->group,
        .offset = position->offset,
        .bytes_max = (uint32_t)sim_log_between(rng, hurries ? 1 << 16 : 1, reader->is_auditor ? 1 << 20 : 200000),
        .bytes_min = patient ? 1 : 0,
        .wait_ms = patient ? (uint32_t)rng_below(rng, 3000) : 0};
    client_send(client, request, &message, NULL, 0);
}

static void list_offsets(struct reader *reader)
{
    struct load *load = reader->client.load;
    struct position *position = position_at(reader);
    struct request *request = client_request(client_route(&reader->client, position->group), FRAME_LIST_OFFSETS);
    request->group = position->group;
    request->floor = reigns_promised(load->reigns, position->group);
    if (load->truth != NULL && load->truth->read_begin != NULL) {
        request->begun = load->truth->read_begin(load->truth->context, request->group);
    }
    uint64_t draw = rng_below(&load->world->load, 3);
    request->offset = draw == 0   ? -1
                      : draw == 1 ? -2
                                  : (int64_t)rng_below(&load->world->load, load->world->now_us / 1000);
    const ListOffsetsRequest message = {.group = position->group, .timestamp = request->offset};
    client_send(&reader->client, request, &message, NULL, 0);
}

/* --- what a fetch brought --- */

static void take_value(struct load *load, uint64_t group, const struct batch_header *header, int32_t number,
                       const uint8_t *value, uint32_t size)
{
    const struct check_seen seen = {.id = shadow_value_id(value, size),
                                    .value_crc = crc32c(0, value, size),
                                    .producer_id = header->producer_id,
                                    .epoch = header->producer_epoch,
                                    .sequence =
                                        header->base_sequence < 0 ? -1 : sequence_add(header->base_sequence, number)};
    check_read(load->check, group, header->base_offset + number, &seen);
}

/* What calls itself compressed holds values of one size side by side. */
static bool take_disguised(struct load *load, uint64_t group, const struct batch_header *header, const uint8_t *data)
{
    uint32_t bytes = header->size_bytes - BATCH_HEADER_BYTES, size = bytes / (uint32_t)header->records_count;
    for (int32_t i = 0; i < header->records_count; i++) {
        take_value(load, group, header, i, data + BATCH_HEADER_BYTES + (uint32_t)i * size, size);
    }
    return bytes % (uint32_t)header->records_count == 0;
}

/* Reads the records of one batch; returns false when they do not read. */
static bool take_records(struct load *load, uint64_t group, const struct batch_header *header, const uint8_t *data)
{
    struct record_reader reader;
    struct record_view record;
    enum err error;
    if (batch_codec(header) != CODEC_NONE)
        return take_disguised(load, group, header, data);
    record_reader_begin(&reader, header, data + BATCH_HEADER_BYTES, header->size_bytes - BATCH_HEADER_BYTES);
    for (int32_t i = 0; (error = record_reader_next(&reader, &record)) == OK; i++) {
        take_value(load, group, header, i, record.value.data, record.value.size);
    }
    return error == ERR_CLOSED;
}

void load_witness(void *context, uint64_t group, const uint8_t *batch, size_t size)
{
    struct load *load = context;
    struct batch_header header;
    bool is_known = false;
    for (uint32_t t = 0; t < load->topics_count; t++) {
        for (uint32_t p = 0; load->topics[t].live && p < load->topics[t].partitions; p++) {
            is_known = is_known || load->topics[t].groups[p] == group;
        }
    }
    if (is_known && batch_parse(batch, size, &header) == OK) {
        take_records(load, group, &header, batch);
    }
}

static void take_batches(struct reader *reader, const struct request *request, const FetchReply *reply,
                         const uint8_t *data, uint32_t size)
{
    struct load *load = reader->client.load;
    struct position *position = position_at(reader);
    int64_t expected = request->offset;
    uint32_t at = 0;
    while (at < size && !load->world->failed) {
        struct batch_header header;
        if (batch_parse(data + at, size - at, &header) != OK || header.size_bytes > size - at ||
            !batch_crc_ok(data + at, header.size_bytes)) {
            world_fail(load->world, "B7", "group %llu at %lld: a fetched batch is damaged",
                       (unsigned long long)request->group, (long long)expected);
            return;
        }
        check_batch(load->check, request->group, expected, header.base_offset, header.last_offset_delta + 1, at == 0);
        if (header.leader_epoch < 0 || (uint64_t)header.leader_epoch > reply->term) {
            world_fail(load->world, "B7", "group %llu at %lld: leader epoch %d in term %llu",
                       (unsigned long long)request->group, (long long)header.base_offset, header.leader_epoch,
                       (unsigned long long)reply->term);
        }
        if (!take_records(load, request->group, &header, data + at)) {
            world_fail(load->world, "B7", "group %llu at %lld: records do not read", (unsigned long long)request->group,
                       (long long)header.base_offset);
            return;
        }
        expected = header.base_offset + header.last_offset_delta + 1;
        at += header.size_bytes;
    }
    if (expected > reply->high_watermark && size > 0) {
        world_fail(load->world, "B8", "group %llu: read up to %lld above the high watermark %lld",
                   (unsigned long long)request->group, (long long)expected, (long long)reply->high_watermark);
    }
    if (position->group == request->group) {
        position->offset = expected;
    }
}

/* The auditor goes on to the next partition, and after the last one it is done. */
static void auditor_next(struct reader *reader, const FetchReply *reply)
{
    struct load *load = reader->client.load;
    struct position *position = position_at(reader);
    if (reader->is_final && reply != NULL) {
        check_complete(load->check, position->group, reply->log_start, reply->high_watermark);
    }
    reader->current++;
    if (reader->current == reader->positions_count) {
        reader->has_finished = true;
        load->audited = true;
    }
}

static void on_fetch_reply(struct reader *reader, const struct request *request, const FetchReply *reply,
                           const uint8_t *payload, uint32_t payload_size)
{
    struct load *load = reader->client.load;
    struct position *position = position_at(reader);
    if (position == NULL || position->group != request->group || position->offset != request->offset)
        return; /* the topic went away meanwhile */
    if (check_group_is_deleted(load->check, request->group)) {
        if (reader->is_auditor) {
            auditor_next(reader, NULL);
        }
        return;
    }
    world_judged(load->world, JUDGE_B9);
    world_log(load->world, "    %s reads group %llu at %lld from broker %llu: %s, log %lld..%lld, %u bytes",
              reader->client.class->name, (unsigned long long)request->group, (long long)request->offset,
              (unsigned long long)request->broker, err_name((enum err)reply->status), (long long)reply->log_start,
              (long long)reply->high_watermark, payload_size);
    int64_t behind = sim_atlas_behind(load->world->atlas, request->group, request->offset);
    if (reply->status == ERR_CORRUPT && behind > request->offset) {
        position->offset = behind;
    } else if (reply->status == ERR_CORRUPT && load_is_corrupt_for_now(load, request->group)) {
        world_log(load->world, "group %llu at %lld: CORRUPT for now", (unsigned long long)request->group,
                  (long long)request->offset);
    } else if (reply->status == ERR_CORRUPT && load->rotten) {
        check_corrupt(load->check, request->group);
        if (reader->is_auditor) {
            auditor_next(reader, NULL);
        }
    } else if (reply->status == ERR_OUT_OF_RANGE && position->offset < reply->log_start) {
        position->offset = reply->log_start;
    } else if (reply->status == OK) {
        take_batches(reader, request, reply, payload, payload_size);
        if (payload_size == 0 && position->offset < reply->high_watermark) {
            world_fail(load->world, "B9", "group %llu at %lld: nothing to read below the high watermark %lld",
                       (unsigned long long)request->group, (long long)position->offset,
                       (long long)reply->high_watermark);
        }
        if (reader->is_auditor && position->offset >= reply->high_watermark) {
            auditor_next(reader, reply);
        }
    } else if (!load_may_go_elsewhere(load, reply->status)) {
        world_fail(load->world, "B9", "fetch of group %llu at %lld is refused: %s (log %lld..%lld)",
                   (unsigned long long)request->group, (long long)request->offset, err_name((enum err)reply->status),
                   (long long)reply->log_start, (long long)reply->high_watermark);
    }
}

static void on_list_reply(struct reader *reader, const struct request *request, const ListOffsetsReply *reply)
{
    struct load *load = reader->client.load;
    if (reply->status != OK) {
        bool rot = reply->status == ERR_CORRUPT && (load->rotten || load_is_corrupt_for_now(load, request->group) ||
                                                    sim_atlas_knows(load->world->atlas, request->group));
        if (!rot && !load_may_go_elsewhere(load, reply->status) &&
            !check_group_is_deleted(load->check, request->group)) {
            world_fail(load->world, "B9", "ListOffsets of group %llu is refused: %s",
                       (unsigned long long)request->group, err_name((enum err)reply->status));
        }
    } else if (reply->offset < reply->log_start || reply->offset > reply->high_watermark) {
        world_fail(load->world, "B9", "ListOffsets(%lld) of group %llu says %lld, the log is %lld..%lld",
                   (long long)request->offset, (unsigned long long)request->group, (long long)reply->offset,
                   (long long)reply->log_start, (long long)reply->high_watermark);
    }
}

static void on_reply(struct client *client, struct request *request, const union codec_message *message,
                     const uint8_t *payload, uint32_t payload_size)
{
    struct reader *reader = reader_of(client);
    if (request->type == FRAME_LIST_OFFSETS) {
        on_list_reply(reader, request, &message->as_ListOffsetsReply);
    } else {
        on_fetch_reply(reader, request, &message->as_FetchReply, payload, payload_size);
    }
    if (!reader->is_auditor) {
        reader->current++;
    }
    bool go_on = reader->is_auditor && message->as_FetchReply.status == OK;
    client_wake(client, go_on ? 1 : rng_below(&client->load->world->load, RETRY_US_MAX));
}

/* --- life --- */

/* Consumers take up partitions that they do not follow yet. */
static void follow(struct reader *reader)
{
    struct load *load = reader->client.load;
    for (uint32_t t = 0; t < load->topics_count; t++) {
        const struct load_topic *topic = &load->topics[t];
        for (uint32_t p = 0; topic->live && !topic->deleting && p < topic->partitions; p++) {
            bool known = reader->positions_count >= FOLLOWED_MAX;
            for (uint32_t i = 0; i < reader->positions_count; i++) {
                known = known || reader->positions[i].group == topic->groups[p];
            }
            if (!known) {
                reader->positions[reader->positions_count++] = (struct position){topic->groups[p], 0};
            }
        }
    }
}

static void forget_deleted(struct reader *reader)
{
    for (uint32_t i = 0; i < reader->positions_count;) {
        if (check_group_is_deleted(reader->client.load->check, reader->positions[i].group)) {
            reader->positions[i] = reader->positions[--reader->positions_count];
        } else {
            i++;
        }
    }
}

static void on_wake(struct client *client)
{
    struct reader *reader = reader_of(client);
    struct rng *rng = &client->load->world->load;
    if (!reader->is_auditor && client_requests_open(client) == 0) {
        forget_deleted(reader);
        if (rng_chance(rng, 0.1)) {
            follow(reader);
        }
    }
    if (!client_is_connected(client)) {
        client_connect(client);
    } else if (!reader->is_auditor && client_requests_open(client) == 0 && position_at(reader) != NULL &&
               rng_chance(rng, 0.1)) {
        list_offsets(reader);
    } else {
        fetch(reader);
    }
    client_wake(client, 1000 + rng_below(rng, reader->is_auditor ? 100000 : 1000000));
}

static const struct client_class consumer_class = {
    .name = "consumer", .only_reads = true, .reply = on_reply, .wake = on_wake};
static const struct client_class auditor_class = {
    .name = "auditor", .only_reads = true, .reply = on_reply, .wake = on_wake};

static struct reader *reader_make(struct load *load, const struct client_class *class)
{
    struct reader *reader = calloc(1, sizeof *reader);
    ASSERT(reader != NULL);
    client_init(&reader->client, load, class);
    return reader;
}

struct client *consumer_new(struct load *load, uint32_t number)
{
    struct reader *reader = reader_make(load, &consumer_class);
    reader->current = number;
    client_wake(&reader->client, 1);
    return &reader->client;
}

struct client *auditor_new(struct load *load)
{
    struct reader *reader = reader_make(load, &auditor_class);
    reader->is_auditor = true;
    reader->has_finished = true;
    reader->client.is_idle = true;
    return &reader->client;
}

void auditor_begin(struct client *client, bool is_final)
{
    struct reader *reader = reader_of(client);
    struct load *load = client->load;
    client_drop(client, false);
    reader->positions_count = reader->current = 0;
    for (uint32_t t = 0; t < load->topics_count; t++) {
        const struct load_topic *topic = &load->topics[t];
        for (uint32_t p = 0; topic->live && !topic->deleting && p < topic->partitions; p++) {
            reader->positions[reader->positions_count++] = (struct position){topic->groups[p], 0};
        }
    }
    reader->is_final = is_final;
    reader->has_finished = reader->positions_count == 0;
    load->audited = reader->has_finished;
    client->is_idle = false;
    client_connect(client);
}

bool auditor_is_reading(const struct client *client)
{
    return !((const struct reader *)client)->has_finished;
}

void reader_free(struct client *client)
{
    client_done(client);
    free(reader_of(client));
}

/* --- as replies leave the broker --- */

/* One of several brokers serves as leader. */
static void judge_leader(struct load *load, const struct request *request, const FetchReply *reply)
{
    const struct load_truth *truth = load->truth;
    if (check_group_is_deleted(load->check, request->group))
        return;
    const struct reign_word word = {.group = request->group,
                                    .term = reply->term,
                                    .broker = request->broker,
                                    .life = load->brokers[request->broker - 1].life,
                                    .log_start = reply->log_start,
                                    .high_watermark = reply->high_watermark};
    reigns_heard(load->reigns, &word);
    check_log_start(load->check, request->group, reigns_log_start(load->reigns, request->group));
    if (truth != NULL && truth->served != NULL) {
        truth->served(truth->context, request->broker, request->group, reply->term, reply->log_start,
                      reply->high_watermark);
    }
}

void reader_judge_list(struct load *load, const struct request *request, const ListOffsetsReply *reply)
{
    if (!load_has_many(load) || reply->status != OK || request->offset != -1 ||
        check_group_is_deleted(load->check, request->group))
        return;
    reigns_listed(load->reigns, request->group, request->broker, request->floor, reply->offset);
    if (load->truth != NULL && load->truth->read_end != NULL) {
        load->truth->read_end(load->truth->context, request->group, request->begun, reply->offset);
    }
}

void reader_judge_fetch(struct load *load, const struct request *request, const FetchReply *reply)
{
    if (reply->status == ERR_CORRUPT && load->world->decay != NULL) {
        decay_refused(load->world->decay, request->group, request->offset);
    }
    if (reply->status != OK)
        return;
    if (load_has_many(load)) {
        judge_leader(load, request, reply);
        return;
    }
    if (load->world->decay != NULL) {
        decay_served(load->world->decay, request->group);
    }
    check_term(load->check, request->group, reply->term, load->brokers[0].life,
               shadow_term(load->shadow, request->group, reply->term) >= reply->term);
    check_high_watermark(load->check, request->group, reply->high_watermark);
    check_log_start(load->check, request->group, reply->log_start);
    if (!load->rotten) {
        shadow_served(load->shadow, request->group, reply->high_watermark, reply->log_start);
    }
    check_recovered(load->check, request->group, reply->high_watermark);
}
