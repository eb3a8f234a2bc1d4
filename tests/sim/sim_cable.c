/* See sim_cable.h. An end holds what is on its way to it: bytes, or with a wire packets of a time each. */
#include "sim_cable.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/assert.h"

struct end;
TAILQ_HEAD(ends, end);

/* With a wire: what will arrive at an end, and when. */
struct packet {
    struct sim_wire_arrival arrival;
    TAILQ_ENTRY(packet) of_end;
};

struct end {
    struct link link;
    struct sim_cables *cables;
    struct end *other; /* NULL: not connected, or gone */
    uint64_t owner, to;
    uint8_t *bytes; /* on their way to this end; with a wire: arrived, to be read */
    uint64_t size, capacity;
    TAILQ_HEAD(, packet) packets;
    uint32_t packets_count;
    uint64_t packets_bytes, last_at_us;
    struct sim_event *event; /* valid while is_scheduled */
    uint64_t event_us;
    bool is_severed; /* the last that arrived was its last */
    void (*on_connected)(struct link *link);
    bool is_new;       /* its broker has not accepted it yet */
    bool is_amid;      /* its broker stopped reading in the middle of something */
    bool is_dialled;   /* it was not accepted */
    uint8_t *greeting; /* what it sent first; owned */
    uint64_t greeting_size;
    bool is_closing, is_paused, is_scheduled, is_dead, is_over;
    enum err reason;
    TAILQ_ENTRY(end) all;
};

struct port_of_broker {
    struct dialer dialer; /* first: found by it */
    struct sim_cables *cables;
    struct sim_world *world;
    uint64_t id;
    char address[32];
    void (*accept)(void *context, struct link *link);
    void *context;
    uint64_t deaths;
};

/* A connection that reaches its broker when whoever dialled it is no more. */
struct echo {
    struct sim_cables *cables;
    uint64_t from, to, deaths; /* as many of `to` as there were */
    uint8_t *bytes;            /* owned */
    uint64_t size;
};

struct sim_cables {
    struct sim_world *world;
    uint64_t delay_us_max;
    struct ends ends;
    struct port_of_broker brokers[CABLE_BROKERS_MAX + 1];
    bool cut[CABLE_BROKERS_MAX + 1][CABLE_BROKERS_MAX + 1];
    uint64_t answers[CABLE_BROKERS_MAX + 1]; /* who does, at each address */
    uint32_t misled;
    struct sim_cable_watcher watcher;
    struct sim_wire *wire; /* NULL: bytes go as they come */
    sim_wire_sender wire_send;
};

static void end_schedule(struct end *end, uint64_t at_us);

static uint64_t cables_delay(struct sim_cables *cables)
{
    return 1 + rng_below(&cables->world->link, cables->delay_us_max);
}

/* --- one end --- */

static struct sim_world *world_of(const struct end *end)
{
    return end->cables->brokers[end->owner].world;
}

static void packet_drop(struct end *end, struct packet *packet)
{
    TAILQ_REMOVE(&end->packets, packet, of_end);
    end->packets_count--;
    end->packets_bytes -= packet->arrival.size;
    free(packet->arrival.bytes);
    free(packet);
}

static void packets_drop(struct end *end)
{
    while (!TAILQ_EMPTY(&end->packets)) {
        packet_drop(end, TAILQ_FIRST(&end->packets));
    }
}

static void end_drop(struct end *end)
{
    packets_drop(end);
    TAILQ_REMOVE(&end->cables->ends, end, all);
    free(end->bytes);
    free(end->greeting);
    free(end);
}

/* Its owner hears of the end exactly once. */
static void end_finish(struct end *end, enum err reason)
{
    struct end *other = end->other;
    if (other != NULL) {
        other->other = NULL;
        end_schedule(other, end->cables->world->now_us + cables_delay(end->cables));
    }
    if (!end->is_dead && end->link.handler != NULL) {
        world_enter(world_of(end));
        end->link.handler->on_closed(&end->link, reason);
        world_leave(world_of(end));
    }
    end_drop(end);
}

static void end_append(struct end *to, const void *bytes, uint64_t size)
{
    if (to->size + size > to->capacity) {
        to->capacity = 2 * (to->size + size);
        to->bytes = sim_resized(to->bytes, to->capacity);
    }
    memcpy(to->bytes + to->size, bytes, size);
    to->size += size;
}

static void end_break(struct end *end)
{
    end->is_closing = end->is_over = true;
    end->reason = ERR_IO;
    end->size = 0;
    packets_drop(end);
    end_schedule(end, end->cables->world->now_us + 1);
}

/* What has arrived by now; behind a packet that ends the connection there is nothing. */
static void end_arrive(struct end *end)
{
    struct packet *packet;
    uint64_t now_us = end->cables->world->now_us;
    while ((packet = TAILQ_FIRST(&end->packets)) != NULL && packet->arrival.at_us <= now_us && !end->is_severed) {
        end->is_severed = packet->arrival.ends;
        end_append(end, packet->arrival.bytes, packet->arrival.size);
        packet_drop(end, packet);
    }
}

static void end_read(struct end *end)
{
    const struct sim_cable_watcher *watcher = &end->cables->watcher;
    if (end->size > 0 && !end->is_paused && !end->is_closing && watcher->delivered != NULL) {
        watcher->delivered(watcher->context, end->to, end->owner, end->is_amid ? NULL : end->bytes,
                           end->is_amid ? 0 : end->size);
    }
    while (end->size > 0 && !end->is_paused && !end->is_closing) {
        uint8_t *data;
        size_t room;
        world_enter(world_of(end));
        end->link.handler->on_alloc(&end->link, &data, &room);
        size_t size = room < end->size ? room : (size_t)end->size;
        memcpy(data, end->bytes, size);
        memmove(end->bytes, end->bytes + size, end->size - size);
        end->size -= size;
        end->link.handler->on_read(&end->link, size);
        world_leave(world_of(end));
    }
    end->is_amid = end->size > 0;
}

static struct end *end_new(struct sim_cables *cables, uint64_t owner, uint64_t to);

static void end_connect(struct end *end)
{
    struct sim_cables *cables = end->cables;
    struct port_of_broker *target = &cables->brokers[cables->answers[end->to]];
    cables->misled += target->id != end->to && target->accept != NULL;
    end->to = target->id;
    if (target->id == end->owner || target->accept == NULL || cables->cut[end->owner][end->to] ||
        cables->cut[end->to][end->owner]) {
        end_finish(end, ERR_REFUSED);
        return;
    }
    struct end *other = end_new(cables, end->to, end->owner);
    end->other = other;
    other->other = end;
    other->is_new = true;
    end_schedule(other, cables->world->now_us);
    void (*on_connected)(struct link *) = end->on_connected;
    end->on_connected = NULL;
    world_enter(world_of(end));
    on_connected(&end->link);
    world_leave(world_of(end));
}

static void end_accept(struct end *end)
{
    struct port_of_broker *port = &end->cables->brokers[end->owner];
    end->is_new = false;
    world_enter(world_of(end));
    port->accept(port->context, &end->link);
    world_leave(world_of(end));
}

static void end_step(void *context, uint64_t argument)
{
    struct end *end = context;
    struct sim_cables *cables = end->cables;
    (void)argument;
    end->is_scheduled = false;
    world_mix(cables->world, end->owner * 16 + end->to, end->size);
    if (end->is_closing || end->is_dead) {
        end_finish(end, end->is_over ? end->reason : OK);
        return;
    }
    if (end->on_connected != NULL) {
        end_connect(end);
        return;
    }
    if (end->is_new) {
        end_accept(end);
    }
    if (cables->cut[end->to][end->owner])
        return; /* it waits on the wire */
    end_arrive(end);
    end_read(end);
    if (end->is_closing) {
        return; /* its event is under way */
    }
    if (end->is_severed && end->size == 0) {
        if (end->other != NULL && !end->other->is_closing) {
            end_break(end->other);
        }
        end_break(end);
    } else if (!TAILQ_EMPTY(&end->packets)) {
        end_schedule(end, TAILQ_FIRST(&end->packets)->arrival.at_us);
    } else if (end->other == NULL && end->size == 0) {
        end_finish(end, ERR_CLOSED);
    }
}

/* One event at a time; with a wire the earliest that was asked for. */
static void end_schedule(struct end *end, uint64_t at_us)
{
    if (end->is_scheduled && (end->cables->wire == NULL || at_us >= end->event_us)) {
        return;
    }
    if (end->is_scheduled) {
        world_cancel(world_of(end), end->event);
    }
    end->is_scheduled = true;
    end->event_us = at_us;
    end->event = world_at(world_of(end), at_us, end_step, end, 0);
}

/* --- the port --- */

static void tell_sent(const struct end *end, const uint8_t *bytes, size_t size)
{
    const struct sim_cable_watcher *watcher = &end->cables->watcher;
    if (watcher->sent != NULL) {
        uint32_t inside = world_step_out(world_of(end));
        watcher->sent(watcher->context, end->owner, end->to, bytes, size);
        world_step_in(world_of(end), inside);
    }
}

/* What the wire makes of the frame that stands at the end of `sent`. */
static void send_frame(struct end *end, struct end *other, const uint8_t *frame, uint64_t size)
{
    struct sim_cables *cables = end->cables;
    struct sim_wire_arrival arrivals[WIRE_ARRIVALS_MAX];
    uint32_t count = cables->wire_send(cables->wire, end->owner, end->to, other->packets_count, frame, size, arrivals);
    for (uint32_t i = 0; i < count; i++) {
        struct packet *packet = sim_zeroed(1, sizeof *packet);
        packet->arrival = arrivals[i];
        if (packet->arrival.at_us < other->last_at_us) {
            packet->arrival.at_us = other->last_at_us; /* nothing overtakes */
        }
        other->last_at_us = packet->arrival.at_us;
        TAILQ_INSERT_TAIL(&other->packets, packet, of_end);
        other->packets_count++;
        other->packets_bytes += packet->arrival.size;
        end_schedule(other, packet->arrival.at_us);
    }
}

static void link_send(struct link *link, const void *head, size_t head_size, const struct slice *parts, size_t count)
{
    struct end *end = (struct end *)link, *other = end->other;
    struct end nobody = {0}; /* on its way out, or to nobody: the other side is gone, its farewell still under way */
    if (end->is_closing || world_of(end)->crashed) { /* nothing of the dead leaves */
        return;
    }
    struct end *to = other != NULL && end->cables->wire == NULL ? other : &nobody;
    uint64_t before = to->size;
    end_append(to, head, head_size);
    for (size_t i = 0; i < count; i++) {
        end_append(to, parts[i].data, parts[i].size);
    }
    if (end->is_dialled && end->greeting == NULL) {
        end->greeting_size = to->size - before;
        end->greeting = sim_zeroed(1, end->greeting_size);
        memcpy(end->greeting, to->bytes + before, end->greeting_size);
    }
    tell_sent(end, to->bytes + before, to->size - before);
    if (other != NULL && to == &nobody) {
        send_frame(end, other, nobody.bytes, nobody.size);
    } else if (other != NULL) {
        end_schedule(other, end->cables->world->now_us + cables_delay(end->cables));
    }
    free(nobody.bytes);
}

static size_t link_queued(const struct link *link)
{
    const struct end *end = (const struct end *)link;
    return end->other != NULL ? (size_t)(end->other->size + end->other->packets_bytes) : 0;
}

static void link_pause(struct link *link)
{
    ((struct end *)link)->is_paused = true;
}

static void link_resume(struct link *link)
{
    struct end *end = (struct end *)link;
    end->is_paused = false;
    end_schedule(end, end->cables->world->now_us + 1);
}

static void link_close(struct link *link)
{
    struct end *end = (struct end *)link;
    end->is_closing = true;
    end_schedule(end, end->cables->world->now_us + 1);
}

static const struct link_ops link_ops = {link_send, link_queued, link_pause, link_resume, link_close};

static struct end *end_new(struct sim_cables *cables, uint64_t owner, uint64_t to)
{
    struct end *end = calloc(1, sizeof *end); /* never the product's allocators: those fail on purpose */
    ASSERT(end != NULL);
    end->cables = cables;
    end->owner = owner;
    end->to = to;
    TAILQ_INIT(&end->packets);
    end->link.ops = &link_ops;
    snprintf(end->link.remote, sizeof end->link.remote, "%s", cables->brokers[to].address);
    TAILQ_INSERT_TAIL(&cables->ends, end, all);
    return end;
}

static enum err dialer_dial(struct dialer *dialer, const char *address, const struct link_handler *handler, void *owner,
                            void (*on_connected)(struct link *link), struct link **ret_link)
{
    struct port_of_broker *from = (struct port_of_broker *)dialer;
    struct sim_cables *cables = from->cables;
    for (uint64_t id = 1; id <= CABLE_BROKERS_MAX; id++) {
        if (strcmp(cables->brokers[id].address, address) != 0) {
            continue;
        }
        struct end *end = end_new(cables, from->id, id);
        end->link.handler = handler;
        end->link.owner = owner;
        end->is_dialled = true;
        end->on_connected = on_connected;
        end_schedule(end, cables->world->now_us + cables_delay(cables));
        *ret_link = &end->link;
        return OK;
    }
    return ERR_ADDRESS;
}

static const struct dialer_ops dialer_ops = {dialer_dial};

/* --- all of them --- */

struct sim_cables *sim_cables_new(struct sim_world *world, uint64_t delay_us_max)
{
    struct sim_cables *cables = calloc(1, sizeof *cables);
    ASSERT(cables != NULL);
    cables->world = world;
    cables->delay_us_max = delay_us_max;
    TAILQ_INIT(&cables->ends);
    for (uint64_t id = 1; id <= CABLE_BROKERS_MAX; id++) {
        cables->brokers[id].dialer.ops = &dialer_ops;
        cables->brokers[id].cables = cables;
        cables->brokers[id].world = world;
        cables->brokers[id].id = id;
        cables->answers[id] = id;
        snprintf(cables->brokers[id].address, sizeof cables->brokers[id].address, "broker-%lu:9641", id);
    }
    return cables;
}

void sim_cables_free(struct sim_cables *cables)
{
    while (!TAILQ_EMPTY(&cables->ends)) {
        end_drop(TAILQ_FIRST(&cables->ends)); /* the world, and with it their events, is over */
    }
    free(cables);
}

void sim_cables_set_world(struct sim_cables *cables, uint64_t id, struct sim_world *world)
{
    cables->brokers[id].world = world;
}

void sim_cables_set_wire(struct sim_cables *cables, struct sim_wire *wire, sim_wire_sender send)
{
    cables->wire = wire;
    cables->wire_send = send;
}

void sim_cables_watch(struct sim_cables *cables, const struct sim_cable_watcher *watcher)
{
    cables->watcher = *watcher;
}

const char *sim_cables_address(struct sim_cables *cables, uint64_t id)
{
    return cables->brokers[id].address;
}

void sim_cables_listen(struct sim_cables *cables, uint64_t id, void (*accept)(void *context, struct link *link),
                       void *context)
{
    cables->brokers[id].accept = accept;
    cables->brokers[id].context = context;
}

struct dialer *sim_cables_dialer(struct sim_cables *cables, uint64_t id)
{
    return &cables->brokers[id].dialer;
}

void sim_cables_kill(struct sim_cables *cables, uint64_t id)
{
    struct end *end;
    cables->brokers[id].accept = NULL;
    cables->brokers[id].deaths++;
    TAILQ_FOREACH(end, &cables->ends, all)
    {
        if (end->owner == id) {
            end->is_dead = true;
            end_schedule(end, cables->world->now_us + 1);
        }
    }
}

static void on_echo(void *context, uint64_t argument)
{
    struct echo *echo = context;
    struct port_of_broker *target = &echo->cables->brokers[echo->to];
    (void)argument;
    if (target->accept != NULL && target->deaths == echo->deaths && !echo->cables->cut[echo->from][echo->to]) {
        struct end *end = end_new(echo->cables, echo->to, echo->from);
        end->is_new = true;
        end_append(end, echo->bytes, echo->size);
        end_schedule(end, echo->cables->world->now_us);
    }
    free(echo->bytes);
    free(echo);
}

void sim_cables_echo(struct sim_cables *cables, uint64_t id, uint64_t in_us)
{
    const struct end *end;
    TAILQ_FOREACH(end, &cables->ends, all)
    {
        if (end->owner == id && end->greeting != NULL) {
            break;
        }
    }
    if (end == NULL) {
        return;
    }
    struct echo *echo = sim_zeroed(1, sizeof *echo);
    *echo = (struct echo){.cables = cables,
                          .from = id,
                          .to = end->to,
                          .deaths = cables->brokers[end->to].deaths,
                          .bytes = sim_zeroed(1, end->greeting_size),
                          .size = end->greeting_size};
    memcpy(echo->bytes, end->greeting, echo->size);
    world_at(cables->brokers[echo->to].world, cables->world->now_us + in_us, on_echo, echo, 0);
}

void sim_cables_cut(struct sim_cables *cables, uint64_t from, uint64_t to, bool cut)
{
    struct end *end;
    cables->cut[from][to] = cut;
    TAILQ_FOREACH(end, &cables->ends, all)
    {
        if (!cut && end->owner == to && end->to == from) {
            end_schedule(end, cables->world->now_us + cables_delay(cables));
        }
    }
}

void sim_cables_break(struct sim_cables *cables, uint64_t one, uint64_t other)
{
    struct end *end;
    TAILQ_FOREACH(end, &cables->ends, all)
    {
        bool between = (end->owner == one && end->to == other) || (end->owner == other && end->to == one);
        if (between && !end->is_closing) {
            end_break(end);
        }
    }
}

void sim_cables_swap(struct sim_cables *cables, uint64_t id, uint64_t answers)
{
    cables->answers[id] = answers;
}

uint32_t sim_cables_misled(const struct sim_cables *cables)
{
    return cables->misled;
}

size_t sim_cables_count(const struct sim_cables *cables, uint64_t id)
{
    const struct end *end;
    size_t count = 0;
    TAILQ_FOREACH(end, &cables->ends, all)
    {
        count += end->owner == id && !end->is_dead;
    }
    return count;
}
