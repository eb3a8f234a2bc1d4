/* The mock broker: frames in, the log and the dedup rule in memory, frames out. */
#include "client_mock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/compress.h"

/* ---- sending ---- */

struct mock_write {
    uv_write_t uv;
    uint8_t *data;
};

static void mock__on_written(uv_write_t *uv, int status)
{
    struct mock_write *write = (struct mock_write *)uv;
    free(write->data);
    free(write);
}

static void mock_reply(struct mock_connection *connection, enum frame_type type, uint64_t id, const void *message,
                       const uint8_t *payload, uint32_t payload_size)
{
    struct mock_write *write = calloc(1, sizeof *write);
    uint32_t head_size = 0;
    if (!connection->open) {
        free(write);
        return;
    }
    write->data = malloc(CODEC_HEAD_BYTES_MAX + payload_size);
    assert_int_equal(codec_encode_frame(write->data, CODEC_HEAD_BYTES_MAX, type, id, message, payload_size, &head_size),
                     OK);
    if (payload_size > 0)
        memcpy(write->data + head_size, payload, payload_size);
    uv_buf_t buf = uv_buf_init((char *)write->data, head_size + payload_size);
    uv_write(&write->uv, (uv_stream_t *)&connection->tcp, &buf, 1, mock__on_written);
}

static void mock__on_connection_closed(uv_handle_t *handle)
{
    struct mock_connection *connection = handle->data;
    free(connection->data);
    connection->data = NULL; /* the struct stays until mock_deinit: replies may still point at it */
}

static void mock_drop(struct mock_connection *connection)
{
    if (!connection->open)
        return;
    connection->open = false;
    uv_close((uv_handle_t *)&connection->tcp, mock__on_connection_closed);
}

void mock_drop_all(struct mock *mock)
{
    for (uint32_t i = 0; i < mock->connections_count; i++)
        mock_drop(mock->connections[i]);
}

/* ---- the log ---- */

static struct mock_producer *mock__find_producer(struct mock_partition *partition, int64_t id)
{
    for (uint32_t i = 0; i < partition->producers_count; i++) {
        if (partition->producers[i].id == id)
            return &partition->producers[i];
    }
    return NULL;
}

/* The broker's dedup rule. OK: store; ERR_EXISTS: known, *ret_offset is its offset. */
static enum err mock__judge(struct mock_partition *partition, const struct batch_header *header, int64_t *ret_offset)
{
    if (header->producer_id < 0)
        return OK;
    struct mock_producer *producer = mock__find_producer(partition, header->producer_id);
    int32_t last = sequence_add(header->base_sequence, header->records_count - 1);
    if (producer == NULL)
        return header->base_sequence == 0 ? OK : ERR_UNKNOWN_PRODUCER;
    if (header->producer_epoch < producer->epoch)
        return ERR_FENCED;
    if (header->producer_epoch > producer->epoch)
        return header->base_sequence == 0 ? OK : ERR_OUT_OF_ORDER;
    for (uint32_t i = 0; i < producer->done_count; i++) {
        if (producer->done[i].first == header->base_sequence && producer->done[i].last == last) {
            *ret_offset = producer->done[i].offset;
            return ERR_EXISTS;
        }
    }
    if (header->base_sequence == producer->next)
        return OK;
    return header->base_sequence > producer->next ? ERR_OUT_OF_ORDER : ERR_STALE;
}

static void mock__remember(struct mock_partition *partition, const struct batch_header *header, int64_t offset)
{
    if (header->producer_id < 0)
        return;
    struct mock_producer *producer = mock__find_producer(partition, header->producer_id);
    if (producer == NULL) {
        assert_true(partition->producers_count < MOCK_PRODUCERS_MAX);
        producer = &partition->producers[partition->producers_count++];
    }
    if (producer->id != header->producer_id || producer->epoch != header->producer_epoch)
        *producer = (struct mock_producer){.id = header->producer_id, .epoch = header->producer_epoch};
    memmove(&producer->done[1], &producer->done[0], (DONE_BATCHES - 1) * sizeof producer->done[0]);
    producer->done[0] = (struct mock_done){header->base_sequence,
                                           sequence_add(header->base_sequence, header->records_count - 1), offset};
    producer->done_count += producer->done_count < DONE_BATCHES;
    producer->next = sequence_add(header->base_sequence, header->records_count);
}

int64_t mock_store(struct mock_partition *partition, const uint8_t *data, uint32_t size)
{
    struct mock_batch *batch = &partition->batches[partition->batches_count++];
    assert_true(partition->batches_count <= MOCK_BATCHES_MAX);
    batch->data = malloc(size);
    memcpy(batch->data, data, size);
    batch->size = size;
    batch->base_offset = partition->next_offset;
    batch_prefix(batch->data, batch->base_offset, size, 1);
    assert_int_equal(batch_parse(batch->data, size, &batch->header), OK);
    partition->next_offset += batch->header.last_offset_delta + 1;
    return batch->base_offset;
}

/* Calls visit for every record of a partition, in order. */
void mock_each_record(struct mock_partition *partition, void (*visit)(void *context, const struct record_view *record),
                      void *context)
{
    struct decompressor decompressor = {0};
    for (uint32_t i = 0; i < partition->batches_count; i++) {
        struct mock_batch *batch = &partition->batches[i];
        const uint8_t *records;
        uint32_t size;
        struct record_reader reader;
        struct record_view record;
        assert_int_equal(records_decompress(&decompressor, batch->data, &batch->header, 64u << 20, &records, &size),
                         OK);
        record_reader_begin(&reader, &batch->header, records, size);
        enum err error;
        while ((error = record_reader_next(&reader, &record)) == OK)
            visit(context, &record);
        assert_int_equal(error, ERR_CLOSED);
    }
    decompressor_deinit(&decompressor);
}

/* ---- requests ---- */

static struct mock_partition *mock__partition(struct mock *mock, uint64_t group, uint32_t *ret_number)
{
    for (uint32_t i = 0; i < mock->partitions_count; i++) {
        if (mock->partitions[i].group == group) {
            *ret_number = i;
            return &mock->partitions[i];
        }
    }
    return NULL;
}

static void mock__metadata(struct mock_connection *connection, const struct frame *frame,
                           const MetadataRequest *request)
{
    struct mock *mock = connection->mock;
    static uint8_t rows[64 << 10];
    uint32_t size = 0;
    int verdict = mock->on_metadata != NULL ? mock->on_metadata(mock) : MOCK_STORE;
    mock->metadatas++;
    if (verdict < 0) {
        mock_drop(connection);
        return;
    }
    MetadataReply reply = {.status = (uint32_t)verdict, .broker_count = 1, .topic_count = 1};
    BrokerRow broker = {.id = 1, .host = "127.0.0.1", .port = (uint32_t)mock->port};
    assert_int_equal(codec_append_row(rows, sizeof rows, ROW_BROKER, &broker, &size), OK);
    bool known = mock->topic_exists && (request->topic[0] == '\0' || strcmp(request->topic, "t") == 0);
    TopicRow topic = {.name = "t", .partition_count = mock->partitions_count, .has_config = true};
    topic.config.has_max_batch_bytes = true;
    topic.config.max_batch_bytes = mock->max_batch_bytes;
    if (!known)
        topic = (TopicRow){.status = ERR_UNKNOWN_TOPIC};
    assert_int_equal(codec_append_row(rows, sizeof rows, ROW_TOPIC, &topic, &size), OK);
    for (uint32_t i = 0; known && i < mock->partitions_count; i++) {
        PartitionRow row = {.partition = i, .group = mock->partitions[i].group, .leader = 1, .term = 1};
        assert_int_equal(codec_append_row(rows, sizeof rows, ROW_PARTITION, &row, &size), OK);
    }
    mock_reply(connection, FRAME_METADATA_REPLY, frame->request_id, &reply, rows, size);
}

static void mock__produce(struct mock_connection *connection, const struct frame *frame, const ProduceRequest *request)
{
    struct mock *mock = connection->mock;
    uint32_t number = 0;
    struct mock_partition *partition = mock__partition(mock, request->group, &number);
    struct batch_header header;
    ProduceReply reply = {.base_offset = -1};
    mock->produces++;
    assert_int_equal(batch_validate(frame->payload, frame->payload_size, mock->max_batch_bytes, &header), OK);
    int verdict = MOCK_STORE;
    if (partition == NULL)
        verdict = ERR_UNKNOWN_PARTITION;
    else if (mock->on_produce != NULL)
        verdict = mock->on_produce(mock, number, &header);
    if (verdict == MOCK_DROP_BEFORE)
        mock_drop(connection);
    if (verdict == MOCK_DROP_BEFORE || verdict == MOCK_SILENT)
        return;
    reply.status = verdict > 0 ? (uint32_t)verdict : OK;
    if (verdict <= 0) {
        enum err error = mock__judge(partition, &header, &reply.base_offset);
        if (error == OK) {
            reply.base_offset = mock_store(partition, frame->payload, frame->payload_size);
            mock__remember(partition, &header, reply.base_offset);
            mock_wake_readers(mock);
        }
        reply.duplicate = error == ERR_EXISTS;
        reply.status = error == ERR_EXISTS ? OK : error;
    }
    if (verdict == MOCK_DROP_AFTER)
        mock_drop(connection);
    else if (verdict == MOCK_HOLD)
        mock->held[mock->held_count++] = (struct mock_held){connection, frame->request_id, reply};
    else if (verdict != MOCK_SILENT_AFTER && request->acks != 0)
        mock_reply(connection, FRAME_PRODUCE_REPLY, frame->request_id, &reply, NULL, 0);
}

void mock_release(struct mock *mock)
{
    uint32_t count = mock->held_count;
    mock->held_count = 0;
    for (uint32_t i = 0; i < count; i++)
        mock_reply(mock->held[i].connection, FRAME_PRODUCE_REPLY, mock->held[i].request_id, &mock->held[i].reply, NULL,
                   0);
}

/* False: at the end, nothing to give yet. */
static bool mock__give(struct mock_connection *connection, uint64_t id, const FetchRequest *request, bool may_wait)
{
    struct mock *mock = connection->mock;
    uint32_t number = 0;
    struct mock_partition *partition = mock__partition(mock, request->group, &number);
    FetchReply reply = {.status = ERR_UNKNOWN_PARTITION};
    uint8_t *payload = malloc(FETCH_BYTES_MAX);
    uint32_t size = 0;
    if (partition != NULL) {
        reply = (FetchReply){.high_watermark = partition->next_offset, .log_start = partition->log_start};
        if (request->offset < partition->log_start || request->offset > partition->next_offset)
            reply.status = ERR_OUT_OF_RANGE;
        for (uint32_t i = 0; i < partition->batches_count && reply.status == OK; i++) {
            struct mock_batch *batch = &partition->batches[i];
            if (batch->base_offset + batch->header.last_offset_delta < request->offset)
                continue;
            if (size > 0 && size + batch->size > request->bytes_max)
                break;
            memcpy(payload + size, batch->data, batch->size);
            size += batch->size;
        }
    }
    bool give = size > 0 || reply.status != OK || !may_wait;
    if (give)
        mock_reply(connection, FRAME_FETCH_REPLY, id, &reply, payload, size);
    free(payload);
    return give;
}

void mock_wake_readers(struct mock *mock)
{
    for (uint32_t i = 0; i < mock->waiting_count;) {
        struct mock_waiting *waiting = &mock->waiting[i];
        if (mock__give(waiting->connection, waiting->request_id, &waiting->request, true))
            *waiting = mock->waiting[--mock->waiting_count];
        else
            i++;
    }
}

static void mock__fetch(struct mock_connection *connection, const struct frame *frame, const FetchRequest *request)
{
    struct mock *mock = connection->mock;
    uint32_t number = 0;
    mock->fetches++;
    mock__partition(mock, request->group, &number);
    int verdict = mock->on_fetch != NULL ? mock->on_fetch(mock, number, request) : MOCK_STORE;
    if (verdict == MOCK_DROP_BEFORE) {
        mock_drop(connection);
    } else if (verdict > 0) {
        FetchReply reply = {.status = (uint32_t)verdict};
        mock_reply(connection, FRAME_FETCH_REPLY, frame->request_id, &reply, NULL, 0);
    } else if (!mock__give(connection, frame->request_id, request, request->wait_ms > 0)) {
        assert_true(mock->waiting_count < 64);
        mock->waiting[mock->waiting_count++] = (struct mock_waiting){connection, frame->request_id, *request};
    }
}

static void mock__list_offsets(struct mock_connection *connection, const struct frame *frame,
                               const ListOffsetsRequest *request)
{
    uint32_t number = 0;
    struct mock_partition *partition = mock__partition(connection->mock, request->group, &number);
    ListOffsetsReply reply = {.status = ERR_UNKNOWN_PARTITION};
    if (partition != NULL) {
        reply = (ListOffsetsReply){
            .high_watermark = partition->next_offset, .log_start = partition->log_start, .offset = -1};
        if (request->timestamp == -2)
            reply.offset = partition->log_start;
        if (request->timestamp == -1)
            reply.offset = partition->next_offset;
        for (uint32_t i = 0; i < partition->batches_count && request->timestamp >= 0 && reply.offset < 0; i++) {
            if (partition->batches[i].header.max_timestamp >= request->timestamp)
                reply.offset = partition->batches[i].base_offset;
        }
    }
    mock_reply(connection, FRAME_LIST_OFFSETS_REPLY, frame->request_id, &reply, NULL, 0);
}

static void mock__init_producer(struct mock_connection *connection, const struct frame *frame,
                                const InitProducerRequest *request)
{
    struct mock *mock = connection->mock;
    int verdict = mock->on_init != NULL ? mock->on_init(mock) : MOCK_STORE;
    mock->inits++;
    if (verdict < 0) {
        mock_drop(connection);
        return;
    }
    InitProducerReply reply = {.status = (uint32_t)verdict, .producer_id = 7};
    if (request->name[0] == '\0')
        reply.producer_id = mock->next_producer_id++;
    else
        reply.producer_epoch = mock->next_epoch++;
    mock_reply(connection, FRAME_INIT_PRODUCER_REPLY, frame->request_id, &reply, NULL, 0);
}

static void mock__request(struct mock_connection *connection, const struct frame *frame)
{
    union codec_message message;
    assert_int_equal(codec_decode(frame->type, frame->proto, frame->proto_size, &message), OK);
    switch (frame->type) {
    case FRAME_HELLO: {
        HelloReply reply = {.version = 1, .broker = 1};
        connection->mock->hellos++;
        mock_reply(connection, FRAME_HELLO_REPLY, frame->request_id, &reply, NULL, 0);
        break;
    }
    case FRAME_METADATA:
        mock__metadata(connection, frame, &message.as_MetadataRequest);
        break;
    case FRAME_PRODUCE:
        mock__produce(connection, frame, &message.as_ProduceRequest);
        break;
    case FRAME_FETCH:
        mock__fetch(connection, frame, &message.as_FetchRequest);
        break;
    case FRAME_LIST_OFFSETS:
        mock__list_offsets(connection, frame, &message.as_ListOffsetsRequest);
        break;
    case FRAME_INIT_PRODUCER:
        mock__init_producer(connection, frame, &message.as_InitProducerRequest);
        break;
    default:
        fail_msg("frame type %d", (int)frame->type);
    }
}

/* ---- connections ---- */

static void mock__on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct mock_connection *connection = handle->data;
    *ret_buf = uv_buf_init((char *)connection->data + connection->size, MOCK_RECEIVE_BYTES - connection->size);
}

static void mock__on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buf)
{
    static const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
    struct mock_connection *connection = stream->data;
    if (size < 0) {
        mock_drop(connection);
        return;
    }
    connection->size += (uint32_t)size;
    uint32_t at = 0;
    while (connection->open) {
        struct frame frame;
        uint64_t needed;
        enum err error = frame_parse(connection->data + at, connection->size - at, &limits, &frame, &needed);
        if (error == ERR_AGAIN)
            break;
        assert_int_equal(error, OK);
        at += frame.size_bytes;
        mock__request(connection, &frame);
    }
    memmove(connection->data, connection->data + at, connection->size - at);
    connection->size -= at;
}

static void mock__on_client(uv_stream_t *listener, int status)
{
    struct mock *mock = listener->data;
    struct mock_connection *connection = calloc(1, sizeof *connection);
    assert_true(mock->connections_count < MOCK_CONNECTIONS_MAX);
    mock->connections[mock->connections_count++] = connection;
    connection->mock = mock;
    connection->data = malloc(MOCK_RECEIVE_BYTES);
    uv_tcp_init(mock->loop, &connection->tcp);
    connection->tcp.data = connection;
    connection->open = true;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&connection->tcp), 0);
    uv_tcp_nodelay(&connection->tcp, 1);
    uv_read_start((uv_stream_t *)&connection->tcp, mock__on_allocate, mock__on_read);
}

/* On a free port the first time, on the same one after mock_stop. */
void mock_listen(struct mock *mock)
{
    struct sockaddr_in address;
    int size = sizeof address;
    uv_ip4_addr("127.0.0.1", mock->port, &address);
    uv_tcp_init(mock->loop, &mock->listener);
    mock->listener.data = mock;
    assert_int_equal(uv_tcp_bind(&mock->listener, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&mock->listener, 16, mock__on_client), 0);
    uv_tcp_getsockname(&mock->listener, (struct sockaddr *)&address, &size);
    mock->port = ntohs(address.sin_port);
    snprintf(mock->address, sizeof mock->address, "127.0.0.1:%d", mock->port);
    mock->listening = true;
}

/* As kill -9 does: connections and listener are gone, the log stays. */
void mock_stop(struct mock *mock)
{
    if (mock->listening)
        uv_close((uv_handle_t *)&mock->listener, NULL);
    mock->listening = false;
    mock->waiting_count = mock->held_count = 0;
    mock_drop_all(mock);
}

struct mock *mock_new(uv_loop_t *loop, uint32_t partitions_count)
{
    struct mock *mock = calloc(1, sizeof *mock);
    mock->loop = loop;
    mock->partitions_count = partitions_count;
    mock->topic_exists = true;
    mock->next_producer_id = 1000;
    mock->max_batch_bytes = BATCH_BYTES_DEFAULT;
    for (uint32_t i = 0; i < partitions_count; i++)
        mock->partitions[i].group = MOCK_GROUP_FIRST + i;
    mock_listen(mock);
    return mock;
}

/* After mock_stop and a last turn of the loop. */
void mock_free(struct mock *mock)
{
    for (uint32_t i = 0; i < mock->connections_count; i++)
        free(mock->connections[i]);
    for (uint32_t p = 0; p < MOCK_PARTITIONS_MAX; p++) {
        for (uint32_t i = 0; i < mock->partitions[p].batches_count; i++)
            free(mock->partitions[p].batches[i].data);
    }
    free(mock);
}
