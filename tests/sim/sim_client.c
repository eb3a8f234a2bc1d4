/* A client's connection: frames out, frames in, time-outs, connecting again. */
#include "sim_client.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define CONNECT_AGAIN_US_MAX 200000u

static void client_lost(struct client *client)
{
    client->conn = NULL;
    client->requests_open = 0; /* those of the old connection stay marked open and are known by its id */
    if (client->class->lost != NULL) {
        client->class->lost(client);
    }
    client_connect(client);
}

static void on_closed(void *owner)
{
    client_lost(owner);
}

/* One frame of the broker. */
static void client_frame(struct client *client, const struct frame *frame)
{
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
    if (!request->is_open || request->conn_id != sim_conn_id(client->conn)) {
        world_fail(load->world, "port", "a second reply to request %llu", (unsigned long long)frame->request_id);
        return;
    }
    if (codec_decode(frame->type, frame->proto, frame->proto_size, &message) != OK) {
        world_fail(load->world, "port", "a reply of type %d that does not decode", (int)frame->type);
        return;
    }
    request->is_open = false;
    client->requests_open--;
    client->oldest_us = load->world->now_us;
    client->class->reply(client, request, &message, frame->payload, frame->payload_size);
}

static size_t on_bytes(void *owner, const uint8_t *data, size_t size)
{
    struct client *client = owner;
    const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
    struct frame frame;
    uint64_t needed;
    enum err error = frame_parse(data, size, &limits, &frame, &needed);
    if (error == ERR_AGAIN)
        return 0;
    if (error != OK) {
        world_fail(client->load->world, "port", "bytes from the broker that are no frame: %s", err_name(error));
        return size;
    }
    client_frame(client, &frame);
    return frame.size_bytes;
}

static const struct sim_conn_handler conn_handler = {.on_bytes = on_bytes, .on_closed = on_closed};

static void on_connect(void *context, uint64_t argument)
{
    struct client *client = context;
    client->connect = NULL;
    if (client->conn != NULL || client->is_idle)
        return;
    if (!client->load->broker_up) {
        client_connect(client);
        return;
    }
    client->conn = sim_conn_open(client->load->net, &conn_handler, client);
    if (client->class->connected != NULL) {
        client->class->connected(client);
    }
    client_wake(client, 1);
}

void client_connect(struct client *client)
{
    struct sim_world *world = client->load->world;
    if (client->conn == NULL && client->connect == NULL && !client->is_idle) {
        uint64_t at_us = world->now_us + 1 + rng_below(&world->load, CONNECT_AGAIN_US_MAX);
        client->connect = world_at(world, at_us, on_connect, client, 0);
    }
}

void client_drop(struct client *client, bool late)
{
    if (client->conn == NULL)
        return;
    struct sim_world *world = client->load->world;
    if (late) {
        sim_conn_abandon(client->conn, sim_log_between(&world->load, 1000, 5000000));
    } else {
        sim_conn_close(client->conn);
    }
    client_lost(client);
}

bool client_goes_home(struct client *client)
{
    if (!client->load->quiet)
        return false;
    client->is_idle = true;
    client_drop(client, false);
    return true;
}

static void on_wake(void *context, uint64_t argument)
{
    struct client *client = context;
    client->wake = NULL;
    if (client->requests_open > 0 && client->load->world->now_us > client->oldest_us + client->timeout_us) {
        world_log(client->load->world, "%s gives up waiting", client->class->name);
        if (client->class->only_reads && client->conn != NULL) {
            room_no_answer(client->load->room, client->oldest_us);
        }
        client_drop(client, client->load->options->faults[FAULT_ZOMBIE] && !client->load->quiet);
    }
    client->class->wake(client);
}

void client_wake(struct client *client, uint64_t in_us)
{
    struct sim_world *world = client->load->world;
    world_cancel(world, client->wake);
    client->wake = world_at(world, world->now_us + in_us, on_wake, client, 0);
}

struct request *client_request(struct client *client, enum frame_type type)
{
    struct load *load = client->load;
    if (load->requests_count == load->requests_capacity) {
        load->requests_capacity = load->requests_capacity == 0 ? 1024 : load->requests_capacity * 2;
        load->requests = realloc(load->requests, load->requests_capacity * sizeof *load->requests);
        ASSERT(load->requests != NULL);
    }
    struct request *request = calloc(1, sizeof *request);
    ASSERT(request != NULL && client->conn != NULL);
    *request = (struct request){
        .type = type, .client = client, .conn_id = sim_conn_id(client->conn), .sent_us = load->world->now_us};
    load->requests[load->requests_count++] = request; /* its id is its place + 1 */
    return request;
}

static void send_frame(struct client *client, const struct request *request, const void *message,
                       const uint8_t *payload, uint32_t payload_size)
{
    struct load *load = client->load;
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    uint32_t size;
    uint64_t id = load->requests_count;
    ASSERT(load->requests[id - 1] == request);
    enum err error = codec_encode_frame(head, sizeof head, request->type, id, message, payload_size, &size);
    ASSERT(error == OK);
    sim_conn_send(client->conn, head, size);
    if (payload_size > 0) {
        sim_conn_send(client->conn, payload, payload_size);
    }
}

void client_send(struct client *client, struct request *request, const void *message, const uint8_t *payload,
                 uint32_t payload_size)
{
    if (client->requests_open++ == 0) {
        client->oldest_us = request->sent_us;
    }
    request->is_open = true;
    send_frame(client, request, message, payload, payload_size);
}

void client_send_no_reply(struct client *client, struct request *request, const void *message, const uint8_t *payload,
                          uint32_t payload_size)
{
    send_frame(client, request, message, payload, payload_size);
}

void client_init(struct client *client, struct load *load, const struct client_class *class)
{
    *client =
        (struct client){.load = load, .class = class, .timeout_us = rng_between(&load->world->load, 5000000, 40000000)};
    TAILQ_INSERT_TAIL(&load->clients, client, link);
}

void client_done(struct client *client)
{
    world_cancel(client->load->world, client->wake);
    world_cancel(client->load->world, client->connect);
    TAILQ_REMOVE(&client->load->clients, client, link);
}
