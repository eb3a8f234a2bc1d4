/* Hostile connections against a whole broker on simulated time. However a few clients mix what is valid, what is not
 * and when it comes, the broker goes on: it answers every valid request exactly once and in its own type, sends nothing
 * but frames, serves an honest client afterwards, keeps what it acknowledged byte for byte, holds no memory for those
 * who left, and stops in order. Each input has a broker of its own, so what is found is found again.
 *
 * Input: byte 0: bit 0 the broker may die, and leaks are not looked for, bit 1 memory is short, so that connections may
 * be ended for it; then instructions of {bits 0-2 what, bits 3-4 which client} and their arguments, a byte each unless
 * said otherwise; what is missing at the end is 0.
 *   0 raw bytes     n, n bytes
 *   1 any frame     type, request id, n, n bytes of protobuf, m, m bytes of payload; the CRC is put right
 *   2 produce       flags (see send_produce), producer, epoch, sequence, records, value size
 *   3 fetch         group, offset, wait (x 512 ms), bytes_max
 *   4 other request which, two arguments
 *   5 pause         2^(n % 24) us
 *   6 leave         close, abandon or break; the next instruction of this client connects again; from 250 on the broker
 *                   itself dies, and with odd numbers so does the machine
 *   7 network       n: this client's bytes arrive in pieces of n (0: whole); bits of the second byte: split, slow */
#include <sanitizer/lsan_interface.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/endian.h"
#include "broker/status.h"
#include "mini_broker.h"
#include "wire/builder.h"
#include "wire/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CLIENTS            4
#define CONNECTIONS_MAX    24
#define INSTRUCTIONS_MAX   48
#define BATCH_CAPACITY     (16u << 10)
#define ANSWER_US_MAX      70000000u /* fetches wait up to 60 s */
#define LATE_US_MAX        2000000u  /* what clients who left have sent has come, and is done */
#define MEMORY_BYTES       (64u << 20)
#define MEMORY_SHORT_BYTES (512u << 10)
#define DIES_FROM          250
#define PROBE_ID           1000000u

struct message {
    enum frame_type type;
    uint64_t id;
    union codec_message body;
    const uint8_t *payload; /* borrowed: of the connection's bytes */
    uint32_t payload_size;
};

/* One connection, all that ever went over it. */
struct wire {
    struct sim_conn *conn; /* NULL: one of both sides left */
    bool left;             /* the client did */
    uint8_t *sent, *received;
    size_t sent_size, received_size;
};

struct script {
    struct mini_broker m;
    const uint8_t *data;
    size_t size;
    struct wire wires[CONNECTIONS_MAX];
    unsigned wires_count;
    struct wire *of_client[CLIENTS];
    uint8_t piece[CLIENTS];
    uint64_t next_id;
    uint64_t group; /* of the topic "t" that every input starts with */
    bool may_die;
    bool deleted; /* somebody asked to delete a topic: what was acknowledged may be gone */
};

static uint8_t take(struct script *s)
{
    if (s->size == 0)
        return 0;
    s->size--;
    return *s->data++;
}

static const uint8_t *take_bytes(struct script *s, size_t *io_size)
{
    const uint8_t *bytes = s->data;
    *io_size = *io_size < s->size ? *io_size : s->size;
    if (*io_size > 0)
        s->data += *io_size;
    s->size -= *io_size;
    return bytes;
}

/* --- the wire --- */

static uint8_t *append(uint8_t *bytes, size_t size, const void *more, size_t more_size)
{
    bytes = realloc(bytes, size + more_size + 1);
    ASSERT(bytes != NULL);
    memcpy(bytes + size, more, more_size);
    return bytes;
}

static size_t on_bytes(void *owner, const uint8_t *data, size_t size)
{
    struct wire *wire = owner;
    wire->received = append(wire->received, wire->received_size, data, size);
    wire->received_size += size;
    return size;
}

static void on_closed(void *owner)
{
    ((struct wire *)owner)->conn = NULL;
}

static const struct sim_conn_handler handler = {.on_bytes = on_bytes, .on_closed = on_closed};

static struct wire *connect_new(struct script *s)
{
    ASSERT(s->wires_count < CONNECTIONS_MAX);
    struct wire *wire = &s->wires[s->wires_count++];
    wire->sent = append(NULL, 0, "", 0);
    wire->received = append(NULL, 0, "", 0);
    wire->conn = sim_conn_open(s->m.net, &handler, wire);
    return wire;
}

static void send_bytes(struct script *s, struct wire *wire, const void *data, size_t size, size_t piece)
{
    const uint8_t *from = data;
    wire->sent = append(wire->sent, wire->sent_size, data, size);
    wire->sent_size += size;
    piece = piece == 0 || size / piece > 64 ? size : piece;
    for (size_t at = 0; at < size && wire->conn != NULL; at += piece) {
        sim_conn_send(wire->conn, from + at, size - at < piece ? size - at : piece);
        if (piece < size)
            mini_broker_run(&s->m, 150);
    }
}

static void send_frame(struct script *s, struct wire *wire, enum frame_type type, const void *message,
                       const uint8_t *payload, uint32_t payload_size, size_t piece)
{
    uint8_t bytes[CODEC_HEAD_BYTES_MAX + BATCH_CAPACITY];
    uint32_t size;
    ASSERT(codec_encode_frame(bytes, sizeof bytes, type, s->next_id++, message, payload_size, &size) == OK);
    if (payload_size > 0)
        memcpy(bytes + size, payload, payload_size);
    send_bytes(s, wire, bytes, size + payload_size, piece);
}

/* The next whole message of a direction; false: no more, *ret_end says why. */
static bool next_message(const uint8_t *bytes, size_t size, size_t *io_at, struct message *ret, enum err *ret_end)
{
    const struct frame_limits limits = {REQUEST_PROTO_BYTES_MAX, BATCH_BYTES_MAX}; /* no fetch here brings more */
    struct frame frame;
    uint64_t needed;
    *ret_end = frame_parse(bytes + *io_at, size - *io_at, &limits, &frame, &needed);
    if (*ret_end != OK)
        return false;
    *io_at += frame.size_bytes;
    *ret = (struct message){
        .type = frame.type, .id = frame.request_id, .payload = frame.payload, .payload_size = frame.payload_size};
    *ret_end = codec_decode(frame.type, frame.proto, frame.proto_size, &ret->body);
    return true;
}

/* --- the instructions --- */

/* A topic of ten thousand partitions is a legal wish, and no use here: it only takes time. */
static void soften(const uint8_t **io_proto, size_t *io_size, uint8_t type, uint8_t room[CODEC_HEAD_BYTES_MAX])
{
    CreateTopicRequest request;
    uint32_t size;
    if (type != FRAME_CREATE_TOPIC || codec_decode(FRAME_CREATE_TOPIC, *io_proto, (uint32_t)*io_size, &request) != OK)
        return;
    if (request.partitions > 4 && request.partitions <= PARTITIONS_PER_TOPIC_MAX) {
        request.partitions %= 4;
        ASSERT(codec_encode_frame(room, CODEC_HEAD_BYTES_MAX, FRAME_CREATE_TOPIC, 0, &request, 0, &size) == OK);
        *io_proto = room + FRAME_HEADER_BYTES;
        *io_size = size - FRAME_HEADER_BYTES;
    }
}

static void send_any_frame(struct script *s, struct wire *wire, size_t piece)
{
    uint8_t bytes[FRAME_HEADER_BYTES + CODEC_HEAD_BYTES_MAX + 256], room[CODEC_HEAD_BYTES_MAX];
    uint8_t type = take(s);
    uint64_t id = take(s);
    size_t proto_size = take(s);
    const uint8_t *proto = take_bytes(s, &proto_size);
    size_t payload_size = take(s);
    const uint8_t *payload = take_bytes(s, &payload_size);
    soften(&proto, &proto_size, type, room);
    s->deleted = s->deleted || type == FRAME_DELETE_TOPIC;
    frame_write_header(bytes, (enum frame_type)type, id, proto, (uint32_t)proto_size, (uint32_t)payload_size);
    if (proto_size > 0)
        memcpy(bytes + FRAME_HEADER_BYTES, proto, proto_size);
    if (payload_size > 0)
        memcpy(bytes + FRAME_HEADER_BYTES + proto_size, payload, payload_size);
    send_bytes(s, wire, bytes, FRAME_HEADER_BYTES + proto_size + payload_size, piece);
}

static uint64_t choose_group(const struct script *s, unsigned choice)
{
    return choice % 4 == 3 ? 0 : s->group + choice % 4;
}

static uint32_t build_batch(uint8_t *batch, unsigned records, unsigned value_size, uint8_t fill)
{
    static uint8_t value[2048];
    struct batch_builder builder;
    memset(value, fill, value_size);
    batch_builder_begin(&builder, batch, BATCH_CAPACITY);
    for (unsigned i = 0; i < records; i++) {
        struct record record = {.value = {value, value_size}, .timestamp = 1700000000000 + fill};
        if (batch_builder_append(&builder, &record) != OK)
            break;
    }
    return batch_builder_finish(&builder);
}

/* Flags: bits 0-1 acks (none, leader, all, a bad one), bit 2 with a producer, bit 3 a wrong CRC, bits 4-5 the group,
 * bit 6 large values, bit 7 one byte flipped before the CRC is made. */
static void send_produce(struct script *s, struct wire *wire, size_t piece)
{
    static const int32_t acks[] = {0, 1, -1, 7};
    static uint8_t batch[BATCH_CAPACITY];
    uint8_t flags = take(s), producer = take(s), epoch = take(s), sequence = take(s), records = take(s);
    unsigned value_size = take(s) & ((flags & 0x40) != 0 ? 255u : 15u);
    ProduceRequest request = {.group = choose_group(s, flags >> 4), .acks = acks[flags & 3], .timeout_ms = 1u + epoch};
    uint32_t size =
        build_batch(batch, 1u + records % 8, value_size * ((flags & 0x40) != 0 ? 8 : 1), (uint8_t)s->next_id);
    if ((flags & 4) != 0)
        batch_set_producer(batch, producer % 4, epoch % 4, sequence == 255 ? INT32_MAX - 2 : sequence);
    if ((flags & 0x80) != 0)
        batch[(sequence * 256u + producer) % size] ^= (uint8_t)(1 + epoch % 255);
    batch_seal(batch, size);
    if ((flags & 8) != 0)
        batch[17] ^= 1;
    send_frame(s, wire, FRAME_PRODUCE, &request, batch, size, piece);
}

static void send_fetch(struct script *s, struct wire *wire, size_t piece)
{
    FetchRequest request = {.group = choose_group(s, take(s)), .offset = (int8_t)take(s)};
    request.wait_ms = take(s) * 512u;
    request.bytes_min = request.wait_ms > 0;
    request.bytes_max = take(s) * 16u;
    send_frame(s, wire, FRAME_FETCH, &request, NULL, 0, piece);
}

static void send_other(struct script *s, struct wire *wire, size_t piece)
{
    static const char *const names[] = {"t", "a", "ab", "bc", "b", "", ".", "__producers"};
    union codec_message message = {0};
    uint8_t which = take(s), one = take(s), two = take(s);
    const char *name = names[one % 8];
    switch (which % 6) {
    case 0:
        message.as_HelloRequest = (HelloRequest){.version = one, .client_id = "fuzz"};
        send_frame(s, wire, FRAME_HELLO, &message, NULL, 0, piece);
        return;
    case 1:
        message.as_MetadataRequest.describe = (two & 1) != 0;
        strcpy(message.as_MetadataRequest.topic, name);
        send_frame(s, wire, FRAME_METADATA, &message, NULL, 0, piece);
        return;
    case 2:
        message.as_ListOffsetsRequest =
            (ListOffsetsRequest){.group = choose_group(s, one), .timestamp = two < 4 ? two - 3 : 1700000000000 + two};
        send_frame(s, wire, FRAME_LIST_OFFSETS, &message, NULL, 0, piece);
        return;
    case 3:
        message.as_CreateTopicRequest = (CreateTopicRequest){.partitions = two % 4, .replicas = two / 4 % 4};
        message.as_CreateTopicRequest.has_config = (two & 0x80) != 0;
        message.as_CreateTopicRequest.config.has_retention_bytes = true;
        message.as_CreateTopicRequest.config.retention_bytes = two;
        strcpy(message.as_CreateTopicRequest.name, name);
        send_frame(s, wire, FRAME_CREATE_TOPIC, &message, NULL, 0, piece);
        return;
    case 4:
        s->deleted = true;
        strcpy(message.as_DeleteTopicRequest.name, name);
        send_frame(s, wire, FRAME_DELETE_TOPIC, &message, NULL, 0, piece);
        return;
    default:
        strcpy(message.as_InitProducerRequest.name, name);
        send_frame(s, wire, FRAME_INIT_PRODUCER, &message, NULL, 0, piece);
    }
}

static void leave(struct script *s, unsigned client, uint8_t how)
{
    struct wire *wire = s->of_client[client];
    if (wire == NULL)
        return;
    s->of_client[client] = NULL;
    wire->left = true;
    if (wire->conn == NULL)
        return;
    if (how % 3 == 2) {
        sim_conn_break(wire->conn); /* on_closed follows */
        return;
    }
    if (how % 3 == 0)
        sim_conn_close(wire->conn);
    else
        sim_conn_abandon(wire->conn, how * 1000u);
    wire->conn = NULL;
}

/* What was asked may never be answered now; what was acknowledged must be there. */
static void restart(struct script *s, bool power_cut)
{
    for (unsigned i = 0; i < s->wires_count; i++)
        s->wires[i].left = true;
    mini_broker_restart(&s->m, power_cut);
    mini_broker_run(&s->m, 1000); /* the clients hear of it */
    for (unsigned i = 0; i < CLIENTS; i++)
        s->of_client[i] = NULL;
}

static void set_network(struct script *s, unsigned client)
{
    s->piece[client] = take(s);
    uint8_t flags = take(s);
    s->m.net_options.split = (flags & 1) != 0;
    s->m.net_options.slow_reader = (flags & 2) != 0;
    sim_net_set(s->m.net, &s->m.net_options);
}

static void run_instruction(struct script *s)
{
    uint8_t code = take(s);
    unsigned client = code >> 3 & 3;
    size_t piece = s->piece[client];
    size_t raw_size;
    if ((code & 7) <= 4 && (s->of_client[client] == NULL || s->of_client[client]->conn == NULL)) {
        if (s->wires_count > CONNECTIONS_MAX - 3) /* the last ones are the honest client's */
            return;
        s->of_client[client] = connect_new(s);
    }
    struct wire *wire = s->of_client[client];
    switch (code & 7) {
    case 0:
        raw_size = take(s);
        const uint8_t *raw = take_bytes(s, &raw_size);
        send_bytes(s, wire, raw, raw_size, piece);
        return;
    case 1:
        send_any_frame(s, wire, piece);
        return;
    case 2:
        send_produce(s, wire, piece);
        return;
    case 3:
        send_fetch(s, wire, piece);
        return;
    case 4:
        send_other(s, wire, piece);
        return;
    case 5:
        mini_broker_run(&s->m, (uint64_t)1 << take(s) % 24);
        return;
    case 6: {
        uint8_t how = take(s);
        if (how >= DIES_FROM && s->may_die)
            restart(s, how % 2 == 1);
        else
            leave(s, client, how);
        return;
    }
    default:
        set_network(s, client);
    }
}

/* --- what must hold --- */

static bool find_reply(const struct wire *wire, size_t *io_at, enum frame_type type, uint64_t id, struct message *ret)
{
    enum err end;
    while (next_message(wire->received, wire->received_size, io_at, ret, &end)) {
        ASSERT(end == OK); /* the broker sends nothing that does not decode */
        if (ret->type == type && ret->id == id)
            return true;
    }
    ASSERT(end == ERR_AGAIN); /* and nothing that is no frame */
    return false;
}

static unsigned count_replies(const struct wire *wire, enum frame_type type, uint64_t id)
{
    struct message reply;
    unsigned count = 0;
    for (size_t at = 0; find_reply(wire, &at, type, id, &reply);)
        count++;
    return count;
}

static bool is_request(enum frame_type type)
{
    return type % 2 == 1 && type <= FRAME_INIT_PRODUCER;
}

/* Requests of this type and id; *ret_refused: one of all those sent, or what follows them, ends the connection: an
 * unknown type, what is no frame, or, after a while, a frame that is not completed. */
static unsigned count_requests(const struct wire *wire, enum frame_type type, uint64_t id, bool *ret_refused)
{
    struct message message = {0};
    enum err end;
    unsigned count = 0;
    size_t at = 0;
    *ret_refused = false;
    while (next_message(wire->sent, wire->sent_size, &at, &message, &end)) {
        if (!is_request(message.type)) {
            *ret_refused = true;
            return count;
        }
        bool silent = message.type == FRAME_PRODUCE && end == OK && message.body.as_ProduceRequest.acks == 0;
        count += message.type == type && message.id == id && !silent;
    }
    *ret_refused = end != ERR_AGAIN || at < wire->sent_size;
    return count;
}

/* The client has left, took too long over a frame, or was in the way: its requests need no answer any more. */
static bool is_excused(const struct wire *wire)
{
    struct message reply;
    size_t at = 0;
    if (wire->left || wire->conn != NULL || !find_reply(wire, &at, FRAME_ERROR, 0, &reply))
        return wire->left;
    return reply.body.as_ErrorReply.status == ERR_TIMEOUT || reply.body.as_ErrorReply.status == ERR_BUSY;
}

static bool is_answered(const struct wire *wire)
{
    struct message message;
    enum err end;
    bool refused;
    for (size_t at = 0; next_message(wire->sent, wire->sent_size, &at, &message, &end);) {
        if (!is_request(message.type))
            break;
        unsigned requests = count_requests(wire, message.type, message.id, &refused);
        unsigned replies = count_replies(wire, (enum frame_type)(message.type + 1), message.id);
        ASSERT(replies <= requests);
        if (replies < requests && !refused)
            return false;
    }
    count_requests(wire, FRAME_ERROR, 0, &refused);
    return !refused || wire->conn == NULL;
}

static void check_replies(const struct wire *wire)
{
    struct message reply;
    enum err end;
    bool refused;
    bool excused = is_excused(wire);
    unsigned errors = 0;
    count_requests(wire, FRAME_ERROR, 0, &refused);
    for (size_t at = 0; next_message(wire->received, wire->received_size, &at, &reply, &end);) {
        bool ignored;
        if (reply.type == FRAME_ERROR)
            errors++;
        else
            ASSERT(reply.type % 2 == 0 && count_requests(wire, (enum frame_type)(reply.type - 1), reply.id, &ignored));
    }
    ASSERT(errors <= 1 && (excused || (errors == 1) == refused));
    ASSERT(excused || (wire->conn == NULL) == refused);
}

static void wait_for_answers(struct script *s)
{
    for (unsigned i = 0; i < s->wires_count; i++) {
        struct wire *wire = &s->wires[i];
        uint64_t until_us = s->m.world.now_us + ANSWER_US_MAX;
        while (!is_excused(wire) && !is_answered(wire)) {
            ASSERT(s->m.world.now_us < until_us);
            mini_broker_run(&s->m, 1000000);
        }
    }
}

/* --- the honest client --- */

/* Sends a request and returns its reply. */
static void ask(struct script *s, struct wire *wire, enum frame_type type, const void *message, const uint8_t *payload,
                uint32_t payload_size, struct message *ret_reply)
{
    uint64_t id = s->next_id;
    uint64_t until_us = s->m.world.now_us + ANSWER_US_MAX;
    send_frame(s, wire, type, message, payload, payload_size, 0);
    for (;;) {
        size_t at = 0;
        if (find_reply(wire, &at, (enum frame_type)(type + 1), id, ret_reply))
            return;
        ASSERT(s->m.world.now_us < until_us && wire->conn != NULL);
        mini_broker_run(&s->m, 500);
    }
}

static void fetch_back(struct script *s, struct wire *probe, uint64_t group, int64_t offset, const uint8_t *batch,
                       uint32_t batch_size)
{
    struct message reply;
    FetchRequest request = {.group = group, .offset = offset, .bytes_max = 1};
    ask(s, probe, FRAME_FETCH, &request, NULL, 0, &reply);
    enum err status = (enum err)reply.body.as_FetchReply.status;
    if (status != OK) { /* other topics come and go, and have a retention */
        ASSERT(group != s->group || s->deleted);
        return;
    }
    ASSERT(reply.payload_size > BATCH_PREFIX_BYTES && (int64_t)load_be64(reply.payload) == offset);
    ASSERT(reply.payload_size == batch_size && batch_crc_ok(reply.payload, batch_size));
    ASSERT(memcmp(reply.payload + BATCH_PREFIX_BYTES, batch + BATCH_PREFIX_BYTES, batch_size - BATCH_PREFIX_BYTES) ==
           0);
}

/* Each acknowledged batch without a producer stands where the reply said. Those with one may be the repetition of
 * another with the same sequence. */
static void check_acknowledged(struct script *s, const struct wire *wire, struct wire *probe)
{
    struct message request, reply;
    enum err end;
    bool refused;
    for (size_t at = 0; next_message(wire->sent, wire->sent_size, &at, &request, &end);) {
        const ProduceRequest *produce = &request.body.as_ProduceRequest;
        size_t from = 0;
        struct batch_header header;
        if (request.type != FRAME_PRODUCE || end != OK || produce->acks != -1 ||
            !find_reply(wire, &from, FRAME_PRODUCE_REPLY, request.id, &reply))
            continue;
        if (reply.body.as_ProduceReply.status != OK || count_requests(wire, FRAME_PRODUCE, request.id, &refused) != 1)
            continue;
        ASSERT(batch_parse(request.payload, request.payload_size, &header) == OK);
        if (header.producer_id < 0)
            fetch_back(s, probe, produce->group, reply.body.as_ProduceReply.base_offset, request.payload,
                       request.payload_size);
    }
}

/* Makes the topic "t", or finds it; returns its group. */
static uint64_t probe_topic(struct script *s, struct wire *wire)
{
    struct message reply;
    TopicRow topic;
    BrokerRow broker;
    PartitionRow partition;
    CreateTopicRequest create = {.name = "t", .partitions = 1};
    MetadataRequest metadata = {.topic = "t"};
    ask(s, wire, FRAME_CREATE_TOPIC, &create, NULL, 0, &reply);
    enum err status = (enum err)reply.body.as_CreateTopicReply.status;
    ASSERT(status == OK || status == ERR_TOPIC_EXISTS);
    ask(s, wire, FRAME_METADATA, &metadata, NULL, 0, &reply);
    ASSERT(reply.body.as_MetadataReply.status == OK && reply.body.as_MetadataReply.topic_count == 1);
    struct codec_cursor cursor = {reply.payload, reply.payload_size};
    ASSERT(codec_next_row(&cursor, ROW_BROKER, &broker) == OK);
    ASSERT(codec_next_row(&cursor, ROW_TOPIC, &topic) == OK && topic.partition_count > 0);
    ASSERT(codec_next_row(&cursor, ROW_PARTITION, &partition) == OK);
    return partition.group;
}

static void probe_honestly(struct script *s, struct wire *probe)
{
    struct message reply;
    uint8_t batch[1024];
    ProduceRequest produce = {.group = probe_topic(s, probe), .acks = -1};
    uint32_t size = build_batch(batch, 3, 40, 'p');
    ASSERT(s->deleted || produce.group == s->group);
    batch_seal(batch, size);
    ask(s, probe, FRAME_PRODUCE, &produce, batch, size, &reply);
    ASSERT(reply.body.as_ProduceReply.status == OK);
    fetch_back(s, probe, produce.group, reply.body.as_ProduceReply.base_offset, batch, size);
}

static void check_idle(struct script *s)
{
    struct status_broker status;
    mini_broker_run(&s->m, 3000000);
    status_read(s->m.broker, &status);
    ASSERT(status.ready && status.connections == 0 && status.damaged == 0 && status.leaderless == 0);
    ASSERT(status.inflight_bytes == 0 && status.segment_queue_bytes == 0 && status.wal_pending_bytes == 0);
    ASSERT(status.apply_lag_entries == 0 && sim_net_links(s->m.net) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct script s;
    s = (struct script){.data = data, .size = size, .next_id = PROBE_ID};
    uint8_t options = take(&s);
    s.may_die = (options & 1) != 0;
    if (s.may_die)
        __lsan_disable();
    mini_broker_open(&s.m, 1, (options & 2) != 0 ? MEMORY_SHORT_BYTES : MEMORY_BYTES);
    s.group = probe_topic(&s, connect_new(&s));
    for (unsigned i = 0; i < INSTRUCTIONS_MAX && s.size > 0; i++)
        run_instruction(&s);
    s.m.net_options.slow_reader = false;
    sim_net_set(s.m.net, &s.m.net_options);
    mini_broker_run(&s.m, LATE_US_MAX);
    wait_for_answers(&s);
    struct wire *probe = connect_new(&s);
    probe_honestly(&s, probe);
    for (unsigned i = 0; i < s.wires_count; i++) {
        if (&s.wires[i] != probe)
            check_acknowledged(&s, &s.wires[i], probe);
        check_replies(&s.wires[i]);
    }
    for (unsigned i = 0; i < s.wires_count; i++) {
        if (s.wires[i].conn != NULL)
            sim_conn_close(s.wires[i].conn);
    }
    check_idle(&s);
    mini_broker_close(&s.m);
    for (unsigned i = 0; i < s.wires_count; i++) {
        free(s.wires[i].sent);
        free(s.wires[i].received);
    }
    if (s.may_die)
        __lsan_enable();
    return 0;
}
