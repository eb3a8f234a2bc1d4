/* The vandal: noise, beginnings of frames, frames with a flipped bit in the head, length lies. Whatever it sends, the
 * broker answers with an error frame, or waits for more, or closes; nobody else notices. */
#include "sim_client.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define NOISE_BYTES_MAX 3000u

static void send_noise(struct client *client, struct sim_conn *conn)
{
    struct rng *rng = &client->load->world->load;
    uint8_t noise[NOISE_BYTES_MAX];
    size_t size = 1 + rng_below(rng, sizeof noise);
    for (size_t i = 0; i < size; i++) {
        noise[i] = (uint8_t)rng_next(rng);
    }
    sim_conn_send(conn, noise, size);
}

/* A Metadata frame, cut short, or with one bit of header or protobuf flipped: its CRC must find it. */
static void send_broken_frame(struct client *client, struct sim_conn *conn)
{
    struct rng *rng = &client->load->world->load;
    uint8_t frame[CODEC_HEAD_BYTES_MAX];
    uint32_t size;
    const MetadataRequest message = {.topic = "t"};
    enum err error = codec_encode_frame(frame, sizeof frame, FRAME_METADATA, rng_next(rng), &message, 0, &size);
    ASSERT(error == OK);
    if (rng_chance(rng, 0.3)) {
        size = (uint32_t)rng_below(rng, size) + 1; /* the rest never comes, or is another frame's beginning */
    } else {
        frame[rng_below(rng, size)] ^= (uint8_t)(1u << rng_below(rng, 8));
    }
    sim_conn_send(conn, frame, size);
}

static void on_wake(struct client *client)
{
    struct load *load = client->load;
    struct rng *rng = &load->world->load;
    if (client_goes_home(client))
        return;
    const struct client_conn *to = client_any(client);
    if (to == NULL) {
        client_connect(client);
    } else if (rng_chance(rng, 0.5)) {
        send_broken_frame(client, to->conn);
    } else {
        send_noise(client, to->conn);
    }
    world_fault(load->world, FAULT_VANDAL);
    client_wake(client, sim_log_between(rng, 1000, load->options->load_us / 4));
}

static const struct client_class vandal_class = {.name = "vandal", .wake = on_wake};

struct client *vandal_new(struct load *load)
{
    struct client *client = calloc(1, sizeof *client);
    ASSERT(client != NULL);
    client_init(client, load, &vandal_class);
    client->is_vandal = true;
    client_wake(client, 1);
    return client;
}
