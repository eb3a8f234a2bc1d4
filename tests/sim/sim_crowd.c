/* The crowd: connections in numbers. Some say nothing, some send a frame one byte in a while and never end it, some ask
 * for everything and take no reply. They come in floods and leave in floods; honest clients must go on, and the
 * broker's memory must stay within its bounds. */
#include "sim_client.h"

#include <stdlib.h>

#include "base/assert.h"

#define GUESTS_MAX   48u
#define FETCHES_DEAF 12u

enum guest_kind { GUEST_SILENT, GUEST_SLOW, GUEST_DEAF, GUEST_KINDS };

struct guest {
    struct crowd *crowd;
    struct sim_conn *conn; /* NULL: not there */
    enum guest_kind kind;
    uint32_t sent; /* SLOW: bytes of its frame */
};

struct crowd {
    struct load *load;
    struct guest guests[GUESTS_MAX];
    struct sim_event *wake;
};

static size_t on_bytes(void *owner, const uint8_t *data, size_t size)
{
    return size; /* thrown away */
}

static void on_closed(void *owner)
{
    ((struct guest *)owner)->conn = NULL;
}

static const struct sim_conn_handler guest_handler = {.on_bytes = on_bytes, .on_closed = on_closed};

/* A whole fetch of everything, for the deaf; its beginning, for the slow. */
static uint32_t fetch_frame(struct load *load, uint8_t frame[CODEC_HEAD_BYTES_MAX])
{
    struct rng *rng = &load->world->load;
    const struct load_topic *topic = load->topics_count > 0 ? &load->topics[rng_below(rng, load->topics_count)] : NULL;
    const FetchRequest message = {.group = topic != NULL && topic->live ? topic->groups[0] : 1,
                                  .bytes_max = FETCH_BYTES_MAX};
    uint32_t size;
    enum err error = codec_encode_frame(frame, CODEC_HEAD_BYTES_MAX, FRAME_FETCH, 1, &message, 0, &size);
    ASSERT(error == OK);
    return size;
}

static void come(struct crowd *crowd, struct guest *guest, const struct load_broker *broker)
{
    struct load *load = crowd->load;
    uint8_t frame[CODEC_HEAD_BYTES_MAX];
    guest->kind = (enum guest_kind)rng_below(&load->world->load, GUEST_KINDS);
    guest->conn = sim_conn_open(broker->net, &guest_handler, guest);
    guest->sent = 0;
    if (guest->kind == GUEST_DEAF) {
        sim_conn_deafen(guest->conn);
        for (uint32_t i = 0; i < FETCHES_DEAF; i++) {
            uint32_t size = fetch_frame(load, frame);
            sim_conn_send(guest->conn, frame, size);
        }
    }
}

static void dribble(struct crowd *crowd, struct guest *guest)
{
    uint8_t frame[CODEC_HEAD_BYTES_MAX];
    uint32_t size = fetch_frame(crowd->load, frame);
    if (guest->sent + 1 < size) {
        sim_conn_send(guest->conn, frame + guest->sent++, 1);
    }
}

static void leave(struct guest *guest)
{
    if (guest->conn != NULL) {
        sim_conn_break(guest->conn); /* on_closed follows */
    }
}

static void on_wake(void *context, uint64_t argument)
{
    struct crowd *crowd = context;
    struct load *load = crowd->load;
    struct rng *rng = &load->world->load;
    const struct load_broker *broker =
        &load->brokers[load_has_many(load) ? rng_below(rng, load->brokers_count) : 0]; /* whom it floods */
    bool flood = !load->quiet && broker->is_up && rng_chance(rng, 0.2);
    bool flight = load->quiet || rng_chance(rng, 0.15);
    for (uint32_t i = 0; i < GUESTS_MAX; i++) {
        struct guest *guest = &crowd->guests[i];
        if (guest->conn == NULL && flood) {
            come(crowd, guest, broker);
            world_fault(load->world, FAULT_CROWD);
        } else if (guest->conn != NULL && flight) {
            leave(guest);
        } else if (guest->conn != NULL && guest->kind == GUEST_SLOW) {
            dribble(crowd, guest);
        }
    }
    crowd->wake = world_at(load->world, load->world->now_us + sim_log_between(rng, 10000, load->options->load_us / 10),
                           on_wake, crowd, 0);
}

bool crowd_has(const struct crowd *crowd, const struct sim_conn *conn)
{
    for (uint32_t i = 0; crowd != NULL && i < GUESTS_MAX; i++) {
        if (sim_conn_is_of(conn, &crowd->guests[i]))
            return true;
    }
    return false;
}

void crowd_send_home(struct crowd *crowd)
{
    for (uint32_t i = 0; crowd != NULL && i < GUESTS_MAX; i++) {
        leave(&crowd->guests[i]);
    }
}

struct crowd *crowd_new(struct load *load)
{
    struct crowd *crowd = calloc(1, sizeof *crowd);
    ASSERT(crowd != NULL);
    crowd->load = load;
    for (uint32_t i = 0; i < GUESTS_MAX; i++) {
        crowd->guests[i].crowd = crowd;
    }
    crowd->wake = world_at(load->world, load->world->now_us + 1, on_wake, crowd, 0);
    return crowd;
}

void crowd_free(struct crowd *crowd)
{
    if (crowd != NULL) {
        world_cancel(crowd->load->world, crowd->wake);
        free(crowd);
    }
}
