/* A client's connections: frames out, frames in, time-outs, connecting again; and with several brokers, whom to ask. */
#include "sim_client.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"

#define CONNECT_AGAIN_US_MAX 200000u
#define TIMEOUT_US_MAX       4000000u /* with several brokers: another one may lead by then */
#define TIMEOUT_QUIET_US     2000000u /* with several brokers: who is silent is left soon, another one answers */

/* Whom a client believes to lead a group. */
struct route {
    uint64_t group; /* 0: `__producers` */
    uint64_t broker;
    UT_hash_handle hh;
};

/* --- whom to ask --- */

bool client_is_connected(const struct client *client)
{
    bool connected = false;
    for (uint32_t i = 0; i < client->load->brokers_count; i++) {
        connected = connected || client->conns[i].conn != NULL;
    }
    return connected;
}

uint32_t client_requests_open(const struct client *client)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < client->load->brokers_count; i++) {
        open += client->conns[i].requests_open;
    }
    return open;
}

struct client_conn *client_conn_to(struct client *client, uint64_t broker)
{
    if (broker < 1 || broker > client->load->brokers_count || client->conns[broker - 1].conn == NULL)
        return NULL;
    return &client->conns[broker - 1];
}

struct client_conn *client_any(struct client *client)
{
    uint32_t count = client->load->brokers_count;
    uint64_t first = count > 1 ? rng_below(&client->load->world->load, count) : 0;
    for (uint64_t i = 0; i < count; i++) {
        struct client_conn *to = client_conn_to(client, 1 + (first + i) % count);
        if (to != NULL)
            return to;
    }
    return NULL;
}

static struct route *route_find(const struct client *client, uint64_t group)
{
    struct route *route;
    HASH_FIND(hh, client->routes, &group, sizeof group, route);
    return route;
}

static void route_set(struct client *client, uint64_t group, uint64_t broker)
{
    struct route *route = route_find(client, group);
    if (route == NULL) {
        route = calloc(1, sizeof *route);
        ASSERT(route != NULL);
        route->group = group;
        HASH_ADD(hh, client->routes, group, sizeof route->group, route);
    }
    route->broker = broker;
}

/* What it knows of this broker was wrong. */
static void route_doubt(struct client *client, uint64_t group, uint64_t broker)
{
    struct route *route = route_find(client, group);
    if (route != NULL && route->broker == broker) {
        route->broker = 0;
    }
}

static void routes_doubt(struct client *client, uint64_t broker)
{
    for (struct route *route = client->routes; route != NULL; route = route->hh.next) {
        route->broker = route->broker == broker ? 0 : route->broker;
    }
}

static void ask_who_leads(struct client *client)
{
    const struct request *last = client->asking;
    struct client_conn *to = last != NULL ? client_conn_to(client, last->broker) : NULL;
    if (to != NULL && last->is_open && last->conn_id == sim_conn_id(to->conn))
        return; /* it is asking */
    to = client_any(client);
    if (to == NULL)
        return;
    client->asking = client_request(to, FRAME_METADATA);
    client->asking->is_routing = true;
    const MetadataRequest message = {.describe = false};
    client_send(client, client->asking, &message, NULL, 0);
}

struct client_conn *client_route(struct client *client, uint64_t group)
{
    struct load *load = client->load;
    if (!load_has_many(load))
        return client_conn_to(client, 1);
    const struct route *route = route_find(client, group);
    struct client_conn *to = route != NULL ? client_conn_to(client, route->broker) : NULL;
    if (to == NULL && rng_chance(&load->world->load, 0.3)) {
        ask_who_leads(client);
    }
    bool strays = !load->quiet && rng_chance(&load->world->load, 0.01);
    return to == NULL || strays ? client_any(client) : to;
}

static void learn_leaders(struct client *client, const MetadataReply *reply, const uint8_t *payload, uint32_t size)
{
    struct codec_cursor cursor = {payload, size};
    bool good = reply->status == OK;
    for (uint32_t i = 0; i < reply->broker_count && good; i++) {
        BrokerRow row;
        good = codec_next_row(&cursor, ROW_BROKER, &row) == OK;
    }
    for (uint32_t i = 0; i < reply->topic_count && good; i++) {
        TopicRow topic;
        good = codec_next_row(&cursor, ROW_TOPIC, &topic) == OK;
        for (uint32_t p = 0; good && p < topic.partition_count; p++) {
            PartitionRow row;
            good = codec_next_row(&cursor, ROW_PARTITION, &row) == OK;
            if (good && row.leader != 0) {
                route_set(client, topic.kind == 1 ? row.group : 0, row.leader);
            }
        }
    }
}

/* What any reply says of who leads. */
static void learn(struct client *client, const struct request *request, const union codec_message *message)
{
    uint32_t status;
    uint64_t leader;
    switch (request->type) {
    case FRAME_PRODUCE:
        status = message->as_ProduceReply.status;
        leader = message->as_ProduceReply.leader;
        break;
    case FRAME_FETCH:
        status = message->as_FetchReply.status;
        leader = message->as_FetchReply.leader;
        break;
    case FRAME_LIST_OFFSETS:
        status = message->as_ListOffsetsReply.status;
        leader = message->as_ListOffsetsReply.leader;
        break;
    case FRAME_INIT_PRODUCER:
        status = message->as_InitProducerReply.status;
        leader = message->as_InitProducerReply.leader;
        break;
    default:
        return;
    }
    if (status == OK) {
        route_set(client, request->group, request->broker);
    } else if (status == ERR_BUSY || status == ERR_TIMEOUT || status == ERR_STORAGE_FULL) {
        return; /* it leads, and cannot just now */
    } else if (leader != 0 && leader != request->broker) {
        route_set(client, request->group, leader);
    } else {
        route_doubt(client, request->group, request->broker);
    }
}

/* --- connections --- */

static void connect_to(struct client_conn *to);

static void conn_lost(struct client_conn *from)
{
    struct client *client = from->client;
    from->conn = NULL;
    from->requests_open = 0; /* those of the old connection stay marked open and are known by its id */
    routes_doubt(client, from->broker);
    if (client->class->lost != NULL) {
        client->class->lost(client, from->broker);
    }
    connect_to(from);
}

static void on_closed(void *owner)
{
    conn_lost(owner);
}

/* One frame of the broker. */
static void client_frame(struct client_conn *from, const struct frame *frame)
{
    struct client *client = from->client;
    struct load *load = client->load;
    if (client->is_vandal || (frame->type == FRAME_ERROR && frame->request_id == 0))
        return; /* the latter: too slow, while memory is short or for too long; the connection closes */
    union codec_message message;
    struct request *request = frame->request_id > 0 && frame->request_id <= load->requests_count
                                  ? load->requests[frame->request_id - 1]
                                  : NULL;
    if (request == NULL || request->client != client || (enum frame_type)(request->type + 1) != frame->type) {
        world_fail(load->world, "port", "a reply of type %d, id %llu that %s did not ask for", (int)frame->type,
                   (unsigned long long)frame->request_id, client->class->name);
        return;
    }
    if (!request->is_open || request->broker != from->broker || request->conn_id != sim_conn_id(from->conn)) {
        world_fail(load->world, "port", "a second reply to request %llu", (unsigned long long)frame->request_id);
        return;
    }
    if (codec_decode(frame->type, frame->proto, frame->proto_size, &message) != OK) {
        world_fail(load->world, "port", "a reply of type %d that does not decode", (int)frame->type);
        return;
    }
    request->is_open = false;
    if (request->is_routing) {
        learn_leaders(client, &message.as_MetadataReply, frame->payload, frame->payload_size);
        return;
    }
    from->requests_open--;
    from->oldest_us = load->world->now_us;
    if (load_has_many(load)) {
        learn(client, request, &message);
    }
    client->class->reply(client, request, &message, frame->payload, frame->payload_size);
}

static size_t on_bytes(void *owner, const uint8_t *data, size_t size)
{
    struct client_conn *from = owner;
    const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
    struct frame frame;
    uint64_t needed;
    enum err error = frame_parse(data, size, &limits, &frame, &needed);
    if (error == ERR_AGAIN)
        return 0;
    if (error != OK) {
        world_fail(from->client->load->world, "port", "bytes from the broker that are no frame: %s", err_name(error));
        return size;
    }
    client_frame(from, &frame);
    return frame.size_bytes;
}

static const struct sim_conn_handler conn_handler = {.on_bytes = on_bytes, .on_closed = on_closed};

static void on_connect(void *context, uint64_t argument)
{
    struct client_conn *to = context;
    struct client *client = to->client;
    const struct load_broker *broker = &client->load->brokers[to->broker - 1];
    to->connect = NULL;
    if (to->conn != NULL || client->is_idle)
        return;
    if (!broker->is_up) {
        connect_to(to);
        return;
    }
    to->conn = sim_conn_open(broker->net, &conn_handler, to);
    if (client->class->connected != NULL) {
        client->class->connected(client);
    }
    client_wake(client, 1);
}

static void connect_to(struct client_conn *to)
{
    struct sim_world *world = to->client->load->world;
    if (to->conn == NULL && to->connect == NULL && !to->client->is_idle) {
        uint64_t at_us = world->now_us + 1 + rng_below(&world->load, CONNECT_AGAIN_US_MAX);
        to->connect = world_at(world, at_us, on_connect, to, 0);
    }
}

void client_connect(struct client *client)
{
    for (uint32_t i = 0; i < client->load->brokers_count; i++) {
        connect_to(&client->conns[i]);
    }
}

static void conn_drop(struct client_conn *from, bool late)
{
    if (from->conn == NULL)
        return;
    struct sim_world *world = from->client->load->world;
    if (late) {
        sim_conn_abandon(from->conn, sim_log_between(&world->load, 1000, 5000000));
    } else {
        sim_conn_close(from->conn);
    }
    conn_lost(from);
}

void client_drop(struct client *client, bool late)
{
    for (uint32_t i = 0; i < client->load->brokers_count; i++) {
        conn_drop(&client->conns[i], late);
    }
}

bool client_goes_home(struct client *client)
{
    if (!client->load->quiet)
        return false;
    client->is_idle = true;
    client_drop(client, false);
    return true;
}

bool client_owns(const struct client *client, const struct sim_conn *conn)
{
    bool owns = false;
    for (uint32_t i = 0; client != NULL && i < client->load->brokers_count; i++) {
        owns = owns || sim_conn_is_of(conn, &client->conns[i]);
    }
    return owns;
}

static void give_up_waiting(struct client_conn *from)
{
    struct client *client = from->client;
    struct load *load = client->load;
    bool hurries = load->quiet && load_has_many(load) && client->timeout_us > TIMEOUT_QUIET_US;
    uint64_t timeout_us = hurries ? TIMEOUT_QUIET_US : client->timeout_us;
    if (from->requests_open > 0 && load->world->now_us > from->oldest_us + timeout_us) {
        world_log(load->world, "%s gives up waiting for broker %llu", client->class->name,
                  (unsigned long long)from->broker);
        if (client->class->only_reads && from->conn != NULL && load->room != NULL) {
            room_no_answer(load->room, from->oldest_us);
        }
        conn_drop(from, load->options->faults[FAULT_ZOMBIE] && !load->quiet);
    }
}

static void on_wake(void *context, uint64_t argument)
{
    struct client *client = context;
    client->wake = NULL;
    for (uint32_t i = 0; i < client->load->brokers_count; i++) {
        give_up_waiting(&client->conns[i]);
    }
    client->class->wake(client);
}

void client_wake(struct client *client, uint64_t in_us)
{
    struct sim_world *world = client->load->world;
    world_cancel(world, client->wake);
    client->wake = world_at(world, world->now_us + in_us, on_wake, client, 0);
}

/* --- requests --- */

struct request *client_request(struct client_conn *to, enum frame_type type)
{
    struct load *load = to->client->load;
    if (load->requests_count == load->requests_capacity) {
        load->requests_capacity = load->requests_capacity == 0 ? 1024 : load->requests_capacity * 2;
        load->requests = realloc(load->requests, load->requests_capacity * sizeof *load->requests);
        ASSERT(load->requests != NULL);
    }
    struct request *request = calloc(1, sizeof *request);
    ASSERT(request != NULL && to->conn != NULL);
    *request = (struct request){.type = type,
                                .client = to->client,
                                .broker = to->broker,
                                .conn_id = sim_conn_id(to->conn),
                                .sent_us = load->world->now_us};
    load->requests[load->requests_count++] = request; /* its id is its place + 1 */
    return request;
}

static void send_frame(struct client *client, const struct request *request, const void *message,
                       const uint8_t *payload, uint32_t payload_size)
{
    struct load *load = client->load;
    struct sim_conn *conn = client->conns[request->broker - 1].conn;
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    uint32_t size;
    uint64_t id = load->requests_count;
    ASSERT(load->requests[id - 1] == request);
    enum err error = codec_encode_frame(head, sizeof head, request->type, id, message, payload_size, &size);
    ASSERT(error == OK);
    sim_conn_send(conn, head, size);
    if (payload_size > 0) {
        sim_conn_send(conn, payload, payload_size);
    }
}

void client_send(struct client *client, struct request *request, const void *message, const uint8_t *payload,
                 uint32_t payload_size)
{
    struct client_conn *to = &client->conns[request->broker - 1];
    if (!request->is_routing && to->requests_open++ == 0) {
        to->oldest_us = request->sent_us;
    }
    request->is_open = true;
    send_frame(client, request, message, payload, payload_size);
}

void client_send_no_reply(struct client *client, struct request *request, const void *message, const uint8_t *payload,
                          uint32_t payload_size)
{
    send_frame(client, request, message, payload, payload_size);
}

/* --- clients --- */

void client_init(struct client *client, struct load *load, const struct client_class *class)
{
    uint64_t timeout_us = load_has_many(load) ? sim_log_between(&load->world->load, 300000, TIMEOUT_US_MAX)
                                              : rng_between(&load->world->load, 5000000, 40000000);
    *client = (struct client){.load = load, .class = class, .timeout_us = timeout_us};
    for (uint32_t i = 0; i < load->brokers_count; i++) {
        client->conns[i] = (struct client_conn){.client = client, .broker = i + 1};
    }
    TAILQ_INSERT_TAIL(&load->clients, client, link);
}

void client_done(struct client *client)
{
    struct route *route, *next;
    world_cancel(client->load->world, client->wake);
    for (uint32_t i = 0; i < client->load->brokers_count; i++) {
        world_cancel(client->load->world, client->conns[i].connect);
    }
    HASH_ITER(hh, client->routes, route, next)
    {
        HASH_DEL(client->routes, route);
        free(route);
    }
    TAILQ_REMOVE(&client->load->clients, client, link);
}
