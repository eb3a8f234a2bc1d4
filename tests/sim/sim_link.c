/* Simulated connections. One struct holds both ends; it is freed when the broker's end has been told on_closed (or the
 * broker is dead) and the client let go of it. */
#include "sim_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/limits.h"

/* A growing queue of bytes. */
struct pipe {
    uint8_t *data;
    size_t start, end, capacity;
};

/* What the broker sent and the kernel has not taken. */
struct parcel {
    struct slice slice; /* reference */
    uint8_t *copied;    /* a head: owned; NULL for a slice */
    size_t size, taken;
    STAILQ_ENTRY(parcel) next;
};

struct sim_conn {
    struct link link; /* first: the broker's handle */
    struct sim_net *net;
    uint64_t id;
    /* client's end */
    struct sim_conn_handler handler;
    void *owner; /* NULL: the client let go */
    const void *opener;
    bool client_closed;
    bool is_deaf;   /* its kernel buffer is full for ever */
    bool is_broken; /* bytes that come now are lost, both ways */
    /* client to broker */
    struct pipe up;
    size_t up_arrived; /* bytes of `up` that may be delivered */
    bool up_ends;      /* after these bytes the broker is told on_closed */
    bool paused;
    bool up_planned;
    uint64_t up_us; /* when the last bytes arrive: order is kept */
    /* broker to client */
    STAILQ_HEAD(, parcel) parcels;
    size_t queued;
    bool flush_planned;
    struct pipe down;
    uint64_t down_us;
    size_t frame_left; /* bytes of the broker's current frame not sent yet */
    /* broker's end */
    bool broker_closing; /* link_close was called */
    bool broker_done;    /* on_closed was called, or the broker is dead */
    uint32_t events;     /* planned: keep the memory */
    TAILQ_ENTRY(sim_conn) of_net;
};

struct sim_net {
    struct sim_world *world;
    struct sim_net_options options;
    TAILQ_HEAD(, sim_conn) conns;
    uint64_t next_id;
};

static const struct link_ops link_ops;

/* --- pipes --- */

static void pipe_put(struct pipe *pipe, const void *data, size_t size)
{
    if (pipe->end + size > pipe->capacity) {
        if (pipe->end > pipe->start) {
            memmove(pipe->data, pipe->data + pipe->start, pipe->end - pipe->start);
        }
        pipe->end -= pipe->start;
        pipe->start = 0;
        while (pipe->end + size > pipe->capacity) {
            pipe->capacity = pipe->capacity == 0 ? 4096 : pipe->capacity * 2;
        }
        pipe->data = realloc(pipe->data, pipe->capacity);
        ASSERT(pipe->data != NULL);
    }
    memcpy(pipe->data + pipe->end, data, size);
    pipe->end += size;
}

static size_t pipe_size(const struct pipe *pipe)
{
    return pipe->end - pipe->start;
}

/* --- life of a connection --- */

static void parcels_drop(struct sim_conn *conn)
{
    while (!STAILQ_EMPTY(&conn->parcels)) {
        struct parcel *parcel = STAILQ_FIRST(&conn->parcels);
        STAILQ_REMOVE_HEAD(&conn->parcels, next);
        slice_unref(&parcel->slice);
        free(parcel->copied);
        free(parcel);
    }
    conn->queued = 0;
}

static void conn_free(struct sim_conn *conn)
{
    parcels_drop(conn);
    TAILQ_REMOVE(&conn->net->conns, conn, of_net);
    free(conn->up.data);
    free(conn->down.data);
    free(conn);
}

/* Nobody holds it any more? */
static void conn_settle(struct sim_conn *conn)
{
    if (conn->broker_done && conn->owner == NULL && conn->events == 0) {
        conn_free(conn);
    }
}

/* An event of conn is over; until here the memory was held. */
static void event_over(struct sim_conn *conn)
{
    conn->events--;
    conn_settle(conn);
}

static void plan(struct sim_conn *conn, uint64_t time_us, sim_action action)
{
    conn->events++;
    world_at(conn->net->world, time_us, action, conn, 0);
}

static uint64_t delay_us(struct sim_conn *conn)
{
    return conn->net->world->now_us + 1 + rng_below(&conn->net->world->link, conn->net->options.delay_us_max + 1);
}

static size_t piece(struct sim_conn *conn, size_t available)
{
    struct rng *rng = &conn->net->world->link;
    if (!conn->net->options.split || available <= 1 || rng_chance(rng, 0.3))
        return available;
    conn->net->world->tally.faults[FAULT_SPLIT]++;
    if (rng_chance(rng, 0.2))
        return 1 + rng_below(rng, available < 40 ? available : 40); /* inside a header */
    return 1 + rng_below(rng, available);
}

static void tell_client_closed(struct sim_conn *conn)
{
    if (conn->owner != NULL && !conn->client_closed) {
        void *owner = conn->owner;
        conn->client_closed = true;
        conn->owner = NULL;
        conn->handler.on_closed(owner);
    }
}

static void tell_broker_closed(struct sim_conn *conn, enum err reason)
{
    if (!conn->broker_done) {
        conn->broker_done = true;
        parcels_drop(conn);
        world_enter(conn->net->world);
        conn->link.handler->on_closed(&conn->link, reason);
        world_leave(conn->net->world);
    }
}

/* --- client to broker --- */

static void up_deliver(void *context, uint64_t argument);

static void up_plan(struct sim_conn *conn, uint64_t time_us)
{
    if (!conn->up_planned) {
        conn->up_planned = true;
        plan(conn, time_us, up_deliver);
    }
}

static void up_deliver(void *context, uint64_t argument)
{
    struct sim_conn *conn = context;
    struct sim_world *world = conn->net->world;
    conn->up_planned = false;
    if (conn->broker_done || conn->broker_closing || world->crashed) {
        event_over(conn);
        return;
    }
    while (!conn->paused && !conn->broker_closing && pipe_size(&conn->up) > 0) {
        uint8_t *into = NULL;
        size_t room = 0;
        world_enter(world);
        conn->link.handler->on_alloc(&conn->link, &into, &room);
        world_leave(world);
        ASSERT(room > 0);
        size_t size = rng_chance(&world->link, 0.01) ? 0 : piece(conn, pipe_size(&conn->up));
        if (size > room) {
            size = room;
        }
        memcpy(into, conn->up.data + conn->up.start, size);
        conn->up.start += size;
        world_enter(world);
        conn->link.handler->on_read(&conn->link, size);
        world_leave(world);
        if (conn->net->options.split && pipe_size(&conn->up) > 0 && rng_chance(&world->link, 0.5)) {
            up_plan(conn, delay_us(conn));
            event_over(conn);
            return;
        }
    }
    if (conn->up_ends && pipe_size(&conn->up) == 0 && !conn->broker_closing) {
        tell_broker_closed(conn, ERR_CLOSED);
    }
    event_over(conn);
}

void sim_conn_send(struct sim_conn *conn, const void *data, size_t size)
{
    ASSERT(!conn->client_closed);
    if (conn->broker_done || conn->is_broken)
        return;
    pipe_put(&conn->up, data, size);
    uint64_t at_us = delay_us(conn);
    conn->up_us = at_us > conn->up_us ? at_us : conn->up_us;
    up_plan(conn, conn->up_us);
}

/* --- broker to client --- */

static void down_deliver(void *context, uint64_t argument)
{
    struct sim_conn *conn = context;
    while (conn->owner != NULL && !conn->client_closed && pipe_size(&conn->down) > 0) {
        size_t used = conn->handler.on_bytes(conn->owner, conn->down.data + conn->down.start, pipe_size(&conn->down));
        conn->down.start += used;
        if (used == 0)
            break;
    }
    if (conn->broker_done && STAILQ_EMPTY(&conn->parcels)) {
        tell_client_closed(conn);
    }
    event_over(conn);
}

static void close_finish(void *context, uint64_t argument)
{
    struct sim_conn *conn = context;
    if (!conn->net->world->crashed) {
        tell_broker_closed(conn, OK);
    }
    plan(conn, conn->down_us > conn->net->world->now_us ? conn->down_us : conn->net->world->now_us, down_deliver);
    event_over(conn);
}

/* The kernel takes what is queued, or a part of it. */
static void flush(void *context, uint64_t argument)
{
    struct sim_conn *conn = context;
    struct sim_world *world = conn->net->world;
    conn->flush_planned = false;
    if (conn->broker_done || world->crashed) {
        event_over(conn);
        return;
    }
    if (conn->is_deaf) {
        if (conn->broker_closing) { /* the link gives up writing out */
            parcels_drop(conn);
            plan(conn, world->now_us + 1, close_finish);
        }
        event_over(conn);
        return;
    }
    size_t take = conn->net->options.slow_reader ? 1 + rng_below(&world->link, 20000) : conn->queued;
    world->tally.faults[FAULT_SLOW_READER] += take < conn->queued;
    while (take > 0 && !STAILQ_EMPTY(&conn->parcels)) {
        struct parcel *parcel = STAILQ_FIRST(&conn->parcels);
        size_t part = parcel->size - parcel->taken < take ? parcel->size - parcel->taken : take;
        const uint8_t *from = parcel->copied != NULL ? parcel->copied : parcel->slice.data;
        world_mix(world, conn->id, crc32c(0, from + parcel->taken, part));
        if (conn->owner != NULL && !conn->is_broken) {
            pipe_put(&conn->down, from + parcel->taken, part);
        }
        parcel->taken += part;
        conn->queued -= part;
        take -= part;
        if (parcel->taken == parcel->size) {
            STAILQ_REMOVE_HEAD(&conn->parcels, next);
            slice_unref(&parcel->slice);
            free(parcel->copied);
            free(parcel);
        }
    }
    uint64_t at_us = delay_us(conn);
    conn->down_us = at_us > conn->down_us ? at_us : conn->down_us;
    plan(conn, conn->down_us, down_deliver);
    if (conn->queued > 0) {
        conn->flush_planned = true;
        plan(conn, delay_us(conn), flush);
    } else if (conn->broker_closing) {
        plan(conn, world->now_us + 1, close_finish);
    }
    if (!conn->broker_closing) {
        world_enter(world);
        conn->link.handler->on_drain(&conn->link);
        world_leave(world);
    }
    event_over(conn);
}

static struct sim_conn *conn_of(struct link *link)
{
    return (struct sim_conn *)link;
}

static void parcel_put(struct sim_conn *conn, uint8_t *copied, struct slice slice, size_t size)
{
    struct parcel *parcel = malloc(sizeof *parcel);
    ASSERT(parcel != NULL);
    *parcel = (struct parcel){.slice = slice, .copied = copied, .size = size};
    STAILQ_INSERT_TAIL(&conn->parcels, parcel, next);
    conn->queued += size;
}

/* Finds where frames begin in what the broker sends: head carries header and protobuf, parts carry payload. */
static void watch_frames(struct sim_conn *conn, const uint8_t *head, size_t head_size, size_t parts_size)
{
    const struct sim_net_options *options = &conn->net->options;
    if (conn->frame_left == 0 && head_size >= FRAME_HEADER_BYTES) {
        conn->frame_left = 4 + (size_t)load_le32(head);
        if (options->on_reply != NULL) {
            uint32_t inside = world_step_out(conn->net->world);
            options->on_reply(options->reply_context, conn, head, head_size);
            world_step_in(conn->net->world, inside);
        }
    }
    if (head_size + parts_size > conn->frame_left) {
        world_fail(conn->net->world, "port", "the broker sent %zu bytes where its frame has %zu left",
                   head_size + parts_size, conn->frame_left);
        return;
    }
    conn->frame_left -= head_size + parts_size;
}

static void link_twin_send(struct link *link, const void *head, size_t head_size, const struct slice *parts,
                           size_t parts_count)
{
    struct sim_conn *conn = conn_of(link);
    if (conn->broker_done || conn->broker_closing || conn->net->world->crashed)
        return;
    size_t parts_size = 0;
    for (size_t i = 0; i < parts_count; i++) {
        parts_size += parts[i].size;
    }
    watch_frames(conn, head, head_size, parts_size);
    if (head_size > 0) {
        uint8_t *copy = malloc(head_size);
        ASSERT(copy != NULL);
        memcpy(copy, head, head_size);
        parcel_put(conn, copy, (struct slice){0}, head_size);
    }
    for (size_t i = 0; i < parts_count; i++) {
        if (parts[i].size > 0) {
            parcel_put(conn, NULL, slice_ref(parts[i]), parts[i].size);
        }
    }
    if (!conn->flush_planned && conn->queued > 0) {
        conn->flush_planned = true;
        plan(conn, delay_us(conn), flush);
    }
}

static size_t link_twin_queued_bytes(const struct link *link)
{
    return ((const struct sim_conn *)link)->queued;
}

static void link_twin_pause(struct link *link)
{
    conn_of(link)->paused = true;
}

static void link_twin_resume(struct link *link)
{
    struct sim_conn *conn = conn_of(link);
    conn->paused = false;
    if (!conn->broker_done && !conn->broker_closing && (pipe_size(&conn->up) > 0 || conn->up_ends)) {
        up_plan(conn, conn->net->world->now_us + 1);
    }
}

static void link_twin_close(struct link *link)
{
    struct sim_conn *conn = conn_of(link);
    if (conn->broker_closing || conn->broker_done)
        return;
    conn->broker_closing = true;
    if (conn->queued == 0) {
        plan(conn, conn->net->world->now_us + 1, close_finish);
    } else if (conn->is_deaf && !conn->flush_planned) {
        conn->flush_planned = true;
        plan(conn, conn->net->world->now_us + LINK_CLOSE_MS * 1000, flush);
    }
}

static const struct link_ops link_ops = {
    .send = link_twin_send,
    .queued_bytes = link_twin_queued_bytes,
    .pause = link_twin_pause,
    .resume = link_twin_resume,
    .close = link_twin_close,
};

/* --- the client's calls --- */

static void accept_now(void *context, uint64_t argument)
{
    struct sim_conn *conn = context;
    if (!conn->broker_done && !conn->net->world->crashed) {
        world_enter(conn->net->world);
        conn->net->options.accept(conn->net->options.context, &conn->link);
        world_leave(conn->net->world);
        ASSERT(conn->link.handler != NULL);
    }
    event_over(conn);
}

struct sim_conn *sim_conn_open(struct sim_net *net, const struct sim_conn_handler *handler, void *owner)
{
    struct sim_conn *conn = calloc(1, sizeof *conn);
    ASSERT(conn != NULL && owner != NULL);
    conn->net = net;
    conn->id = net->next_id++;
    conn->handler = *handler;
    conn->owner = owner;
    conn->opener = owner;
    conn->link.ops = &link_ops;
    conn->link.listener = "client";
    snprintf(conn->link.remote, sizeof conn->link.remote, "sim:%llu", (unsigned long long)conn->id);
    STAILQ_INIT(&conn->parcels);
    TAILQ_INSERT_TAIL(&net->conns, conn, of_net);
    conn->up_us = delay_us(conn);
    plan(conn, conn->up_us, accept_now);
    conn->up_us++; /* the first bytes arrive after the connection */
    return conn;
}

bool sim_conn_is_of(const struct sim_conn *conn, const void *owner)
{
    return owner != NULL && conn->opener == owner;
}

void sim_conn_deafen(struct sim_conn *conn)
{
    conn->is_deaf = true;
}

uint64_t sim_conn_id(const struct sim_conn *conn)
{
    return conn->id;
}

/* The client is gone; what it sent still arrives, by late_us later. */
static void client_leaves(struct sim_conn *conn, uint64_t late_us)
{
    conn->client_closed = true;
    conn->owner = NULL;
    conn->up_ends = true;
    conn->up_us += late_us;
    if (!conn->broker_done) {
        conn->up_planned = false; /* the planned delivery, if any, finds its bytes as well: order is kept */
        up_plan(conn, conn->up_us + 1);
    } else {
        conn_settle(conn);
    }
}

void sim_conn_close(struct sim_conn *conn)
{
    client_leaves(conn, 0);
}

void sim_conn_abandon(struct sim_conn *conn, uint64_t late_us)
{
    world_fault(conn->net->world, FAULT_ZOMBIE);
    client_leaves(conn, late_us);
}

static void break_now(void *context, uint64_t argument)
{
    struct sim_conn *conn = context;
    if (!conn->broker_done && !conn->net->world->crashed) {
        tell_broker_closed(conn, rng_chance(&conn->net->world->link, 0.5) ? ERR_CLOSED : ERR_IO);
    }
    tell_client_closed(conn);
    event_over(conn);
}

void sim_conn_break(struct sim_conn *conn)
{
    struct sim_world *world = conn->net->world;
    if (conn->is_broken)
        return;
    conn->is_broken = true;
    world_fault(world, FAULT_DISCONNECT);
    size_t cut = rng_below(&world->link, pipe_size(&conn->up) + 1);
    conn->up.end -= cut; /* lost from any byte on */
    cut = rng_below(&world->link, pipe_size(&conn->down) + 1);
    conn->down.end -= cut;
    plan(conn, conn->up_us > world->now_us ? conn->up_us : world->now_us, break_now);
}

/* --- the net --- */

struct sim_net *sim_net_new(struct sim_world *world, const struct sim_net_options *options)
{
    struct sim_net *net = calloc(1, sizeof *net);
    ASSERT(net != NULL);
    net->world = world;
    net->options = *options;
    net->next_id = 1;
    TAILQ_INIT(&net->conns);
    return net;
}

void sim_net_set(struct sim_net *net, const struct sim_net_options *options)
{
    net->options = *options;
}

void sim_net_kill(struct sim_net *net)
{
    struct sim_conn *conn;
    TAILQ_FOREACH(conn, &net->conns, of_net)
    {
        if (!conn->broker_done) {
            conn->broker_done = true;
            parcels_drop(conn);
            conn->link.handler = NULL; /* a call into the dead broker crashes here and not somewhere else */
            if (conn->owner != NULL) {
                plan(conn, delay_us(conn), down_deliver);
            }
        }
    }
}

void sim_net_forget(struct sim_net *net)
{
    for (struct sim_conn *conn = TAILQ_FIRST(&net->conns), *next; conn != NULL; conn = next) {
        next = TAILQ_NEXT(conn, of_net);
        conn_settle(conn);
    }
}

size_t sim_net_links(const struct sim_net *net)
{
    size_t count = 0;
    const struct sim_conn *conn;
    TAILQ_FOREACH(conn, &net->conns, of_net)
    {
        count += !conn->broker_done && conn->link.handler != NULL;
    }
    return count;
}

void sim_net_free(struct sim_net *net)
{
    while (!TAILQ_EMPTY(&net->conns)) {
        conn_free(TAILQ_FIRST(&net->conns));
    }
    free(net);
}
