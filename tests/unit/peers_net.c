/* See peers_net.h. A link is one end of a pair; each end has the bytes that are on their way to it. */
#include "peers_net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/assert.h"
#include "base/mem.h"

#define ADDRESS_FORMAT "broker-%lu"

struct end {
    struct link link;
    struct net *net;
    struct end *other; /* NULL: gone */
    uint8_t *bytes;    /* on their way to this end */
    uint64_t size;
    uint64_t held_bytes; /* sent by this end and not taken */
    void (*on_connected)(struct link *link);
    bool is_closing, is_paused;
    uint64_t from, to;         /* broker ids; 0: a stranger */
    struct stranger *stranger; /* whose end it is */
    TAILQ_ENTRY(end) all;
};

struct stranger {
    struct end *end; /* NULL: thrown out */
    uint8_t *bytes;
    uint64_t size;
    struct stranger *next;
};

TAILQ_HEAD(ends, end);

struct net {
    struct clock clock;
    uint64_t now_us;
    uint32_t chance;
    struct ends ends;
    struct node nodes[NET_NODES_MAX + 1];
    struct peers *dead[16]; /* of earlier lives */
    uint32_t dead_count;
    struct stranger *strangers;
    uint32_t piece, dials;
    uint64_t receive_bytes; /* 0: plenty */
    bool is_cut, is_stopped, refuses;
};

/* --- the ports --- */

static struct net *net_of(struct clock *clock)
{
    return (struct net *)(void *)clock;
}

static uint64_t clock__now(struct clock *clock)
{
    return net_of(clock)->now_us;
}

static int64_t clock__wall(struct clock *clock)
{
    return (int64_t)(net_of(clock)->now_us / 1000);
}

static void clock__random(struct clock *clock, void *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        net_of(clock)->chance = net_of(clock)->chance * 1103515245u + 12345u;
        ((uint8_t *)data)[i] = (uint8_t)(net_of(clock)->chance >> 16);
    }
}

static void clock__arm(struct clock *clock, uint64_t deadline_us)
{
    (void)clock, (void)deadline_us;
}

static const struct clock_ops clock_ops = {clock__now, clock__wall, clock__random, clock__arm};

static void end__put(struct end *end, const void *data, size_t size)
{
    end->bytes = mem_grow(end->bytes, end->size + size);
    memcpy(end->bytes + end->size, data, size);
    end->size += size;
}

static void link__send(struct link *link, const void *head, size_t head_size, const struct slice *parts, size_t count)
{
    struct end *end = (struct end *)link;
    struct net *net = end->net;
    if (end->is_closing || end->other == NULL || net->is_cut) {
        return;
    }
    if (net->is_stopped) {
        end->held_bytes += head_size;
        for (size_t i = 0; i < count; i++) {
            end->held_bytes += parts[i].size;
        }
        return;
    }
    end__put(end->other, head, head_size);
    for (size_t i = 0; i < count; i++) {
        end__put(end->other, parts[i].data, parts[i].size);
    }
}

static size_t link__queued(const struct link *link)
{
    return ((const struct end *)link)->held_bytes;
}

static void link__pause(struct link *link)
{
    ((struct end *)link)->is_paused = true;
}

static void link__resume(struct link *link)
{
    ((struct end *)link)->is_paused = false;
}

static void link__close(struct link *link)
{
    ((struct end *)link)->is_closing = true;
}

static const struct link_ops link_ops = {link__send, link__queued, link__pause, link__resume, link__close};

static struct end *end__new(struct net *net, uint64_t from, uint64_t to)
{
    struct end *end = mem_zeroed(1, sizeof *end);
    end->net = net;
    end->link.ops = &link_ops;
    end->from = from;
    end->to = to;
    snprintf(end->link.remote, sizeof end->link.remote, ADDRESS_FORMAT, to);
    TAILQ_INSERT_TAIL(&net->ends, end, all);
    return end;
}

static void ends__pair(struct end *one, struct end *other)
{
    one->other = other;
    other->other = one;
}

static void end__gone(struct end *end, enum err reason)
{
    TAILQ_REMOVE(&end->net->ends, end, all);
    if (end->other != NULL) {
        end->other->other = NULL;
    }
    if (end->stranger != NULL) {
        end->stranger->end = NULL;
    } else if (end->link.handler != NULL) {
        end->link.handler->on_closed(&end->link, reason);
    }
    free(end->bytes);
    free(end);
}

static enum err dialer__dial(struct dialer *dialer, const char *address, const struct link_handler *handler,
                             void *owner, void (*on_connected)(struct link *link), struct link **ret_link)
{
    struct node *node = (struct node *)((uint8_t *)dialer - offsetof(struct node, dialer));
    uint64_t to = 0;
    node->net->dials++;
    if (sscanf(address, ADDRESS_FORMAT, &to) != 1 || node->net->refuses) {
        return ERR_ADDRESS;
    }
    struct end *end = end__new(node->net, node->broker, to);
    end->link.handler = handler;
    end->link.owner = owner;
    end->on_connected = on_connected;
    *ret_link = &end->link;
    return OK;
}

static const struct dialer_ops dialer_ops = {dialer__dial};

/* --- what a node hears --- */

static enum err node__may_join(void *context, uint64_t broker, const uint8_t disk_uuid[UUID_BYTES])
{
    (void)disk_uuid;
    return ((struct node *)context)->joins[broker];
}

static void node__on_up(void *context, uint64_t broker, const uint8_t disk_uuid[UUID_BYTES], uint64_t boot)
{
    (void)disk_uuid;
    ((struct node *)context)->ups[broker]++;
    ((struct node *)context)->boots[broker] = boot;
}

static void node__on_down(void *context, uint64_t broker)
{
    ((struct node *)context)->downs[broker]++;
}

static void node__on_removed(void *context, uint64_t by_broker)
{
    (void)by_broker;
    ((struct node *)context)->removals++;
}

static void node__on_row(void *context, uint64_t broker, const RaftRow *row, const uint8_t *payload)
{
    struct node *node = context;
    uint32_t bytes = 0;
    (void)broker;
    for (pb_size_t i = 0; i < row->entry_sizes_count; i++) {
        bytes += row->entry_sizes[i];
    }
    uint32_t at = node->rows_count++ % 64;
    node->rows[at] = *row;
    slice_unref(&node->payloads[at]);
    node->payloads[at] = bytes > 0 ? peers_keep(node->peers, payload, bytes) : (struct slice){0};
}

static void node__on_snapshot(void *context, uint64_t broker, const PeerSnapshot *message, const uint8_t *payload,
                              uint32_t payload_size)
{
    struct node *node = context;
    (void)broker;
    node->snapshot = *message;
    node->snapshots_count++;
    slice_unref(&node->snapshot_payload);
    node->snapshot_payload = payload_size > 0 ? peers_keep(node->peers, payload, payload_size) : (struct slice){0};
}

static void node__on_snapshot_down(void *context, uint64_t broker)
{
    ((struct node *)context)->snapshot_downs[broker]++;
}

static void node__quiet_told(void *context, uint64_t broker, struct peers_quiet *ret_quiet)
{
    (void)broker;
    *ret_quiet = ((struct node *)context)->quiet;
}

static bool node__quiet_agrees(void *context, uint64_t broker, const struct peers_quiet *quiet)
{
    const struct node *node = context;
    (void)broker;
    return node->quiet.count == quiet->count && node->quiet.digest == quiet->digest;
}

static void node__on_quiet_answer(void *context, uint64_t broker, uint64_t asked_us, bool agrees)
{
    struct node *node = context;
    (void)broker;
    node->differs += !agrees;
    node->asked_us = asked_us;
}

static void node__on_silent(void *context, uint64_t broker)
{
    ((struct node *)context)->silences[broker]++;
}

static const struct peers_handler handler = {.may_join = node__may_join,
                                             .on_up = node__on_up,
                                             .on_down = node__on_down,
                                             .on_removed = node__on_removed,
                                             .on_row = node__on_row,
                                             .on_snapshot = node__on_snapshot,
                                             .on_snapshot_down = node__on_snapshot_down,
                                             .quiet_told = node__quiet_told,
                                             .quiet_agrees = node__quiet_agrees,
                                             .on_quiet_answer = node__on_quiet_answer,
                                             .on_silent = node__on_silent};

/* --- life --- */

struct net *net_new(void)
{
    struct net *net = mem_zeroed(1, sizeof *net);
    net->clock.ops = &clock_ops;
    net->now_us = 1000000;
    net->piece = UINT32_MAX;
    TAILQ_INIT(&net->ends);
    return net;
}

void net_free(struct net *net)
{
    for (uint32_t i = 1; i <= NET_NODES_MAX; i++) {
        if (net->nodes[i].peers != NULL) {
            peers_close(net->nodes[i].peers);
        }
    }
    net_run(net);
    for (uint32_t i = 1; i <= NET_NODES_MAX; i++) {
        for (uint32_t n = 0; n < 64; n++) {
            slice_unref(&net->nodes[i].payloads[n]);
            slice_unref(&net->nodes[i].snapshot_payload);
        }
        ASSERT(net->nodes[i].peers == NULL || peers_are_closed(net->nodes[i].peers));
        peers_free(net->nodes[i].peers);
    }
    while (net->dead_count > 0) {
        peers_free(net->dead[--net->dead_count]);
    }
    while (!TAILQ_EMPTY(&net->ends)) { /* of strangers, and of lives that are over */
        end__gone(TAILQ_FIRST(&net->ends), OK);
    }
    while (net->strangers != NULL) {
        struct stranger *s = net->strangers;
        net->strangers = s->next;
        free(s->bytes);
        free(s);
    }
    free(net);
}

struct node *net_start(struct net *net, uint64_t id)
{
    struct node *node = &net->nodes[id];
    if (node->peers != NULL) {
        struct end *end;
        TAILQ_FOREACH(end, &net->ends, all) /* its process is gone: nobody speaks or hears there any more */
        {
            if (end->from == id && end->stranger == NULL) {
                end->link.handler = NULL;
            }
        }
        net->dead[net->dead_count++] = node->peers;
    } else {
        node->net = net;
        node->broker = node->identity.broker = id;
        node->dialer.ops = &dialer_ops;
        memset(node->identity.disk_uuid, (int)id, UUID_BYTES);
    }
    node->identity.boot++;
    const struct peers_options options = {.handler = &handler,
                                          .context = node,
                                          .clock = &net->clock,
                                          .dialer = &node->dialer,
                                          .trace = NULL,
                                          .identity = node->identity,
                                          .watch_ping_us = NET_WATCH_PING_US,
                                          .silent_us = NET_SILENT_US,
                                          .receive_bytes_max = net->receive_bytes > 0 ? net->receive_bytes : 64u << 20};
    node->peers = peers_new(&options);
    return node;
}

void net_know(struct net *net, uint64_t id, uint64_t other)
{
    char address[32];
    snprintf(address, sizeof address, ADDRESS_FORMAT, other);
    enum err error = peers_set(net->nodes[id].peers, other, address);
    ASSERT(error == OK);
}

/* --- movement --- */

static void stranger__take(struct end *end)
{
    struct stranger *s = end->stranger;
    s->bytes = mem_grow(s->bytes, s->size + end->size);
    memcpy(s->bytes + s->size, end->bytes, end->size);
    s->size += end->size;
    end->size = 0;
}

/* True: something happened. */
static bool end__move(struct end *end)
{
    struct net *net = end->net;
    bool is_new = end->on_connected != NULL && end->other == NULL;
    if (end->is_closing) {
        end__gone(end, OK);
        return true;
    }
    if (is_new && net->nodes[end->to].peers != NULL && !net->is_cut) {
        struct end *other = end__new(net, end->to, end->from);
        void (*on_connected)(struct link *) = end->on_connected;
        end->on_connected = NULL;
        ends__pair(end, other);
        peers_accept(net->nodes[end->to].peers, &other->link);
        on_connected(&end->link);
        return true;
    }
    if (!is_new && end->other == NULL && end->size == 0 && !net->is_cut && end->link.handler != NULL) {
        end__gone(end, ERR_CLOSED);
        return true;
    }
    if (end->size == 0 || end->is_paused || (end->link.handler == NULL && end->stranger == NULL)) {
        return false;
    }
    if (end->stranger != NULL) {
        stranger__take(end);
        return true;
    }
    uint8_t *data;
    size_t room;
    end->link.handler->on_alloc(&end->link, &data, &room);
    size_t size = room < end->size ? room : (size_t)end->size;
    size = size < net->piece ? size : net->piece;
    memcpy(data, end->bytes, size);
    memmove(end->bytes, end->bytes + size, end->size - size);
    end->size -= size;
    TAILQ_REMOVE(&end->net->ends, end, all); /* the others' turn */
    TAILQ_INSERT_TAIL(&end->net->ends, end, all);
    end->link.handler->on_read(&end->link, size);
    return true;
}

/* One end moves: it may take others along. */
static bool net__turn(struct net *net)
{
    for (uint32_t i = 1; i <= NET_NODES_MAX; i++) {
        if (net->nodes[i].peers != NULL) {
            peers_flush(net->nodes[i].peers);
        }
    }
    for (struct end *end = TAILQ_FIRST(&net->ends), *next; end != NULL; end = next) {
        next = TAILQ_NEXT(end, all);
        if (end__move(end)) {
            return true;
        }
    }
    return false;
}

void net_run(struct net *net)
{
    while (net__turn(net)) {
    }
}

void net_pass(struct net *net, uint64_t ms)
{
    for (uint64_t end_us = net->now_us + ms * 1000; net->now_us < end_us;) {
        net->now_us += 10000;
        for (uint32_t i = 1; i <= NET_NODES_MAX; i++) {
            struct peers *peers = net->nodes[i].peers;
            if (peers != NULL && peers_deadline_us(peers) <= net->now_us) {
                peers_timer(peers, net->now_us);
                ASSERT(peers_deadline_us(peers) > net->now_us); /* else the loop would spin */
            }
        }
        net_run(net);
    }
}

void net_stand_still(struct net *net, uint64_t ms)
{
    net->now_us += ms * 1000;
}

void net_set_piece(struct net *net, uint32_t bytes)
{
    net->piece = bytes;
}

void net_set_memory(struct net *net, uint64_t bytes)
{
    net->receive_bytes = bytes;
}

void net_cut(struct net *net, bool cut)
{
    net->is_cut = cut;
}

void net_stop_taking(struct net *net, bool stopped)
{
    struct end *end;
    net->is_stopped = stopped;
    TAILQ_FOREACH(end, &net->ends, all)
    {
        end->held_bytes = 0;
    }
}

void net_refuse(struct net *net, bool refuse)
{
    net->refuses = refuse;
}

void net_break(struct net *net, uint64_t one, uint64_t other, enum peer_lane lane)
{
    struct end *end;
    uint32_t skip = (uint32_t)lane - 1; /* they are dialled in order of their lanes */
    TAILQ_FOREACH(end, &net->ends, all)
    {
        if (end->from == one && end->to == other && end->other != NULL && skip-- == 0) {
            struct end *far = end->other;
            far->other = end->other = NULL;
            end__gone(end, ERR_IO);
            end__gone(far, ERR_IO);
            return;
        }
    }
    ASSERT(false);
}

uint32_t net_links(const struct net *net)
{
    const struct end *end;
    uint32_t count = 0;
    TAILQ_FOREACH(end, &net->ends, all)
    {
        count += end->other != NULL && !end->is_closing;
    }
    return count / 2;
}

uint32_t net_dials(const struct net *net)
{
    return net->dials;
}

/* --- strangers --- */

struct stranger *net_stranger(struct net *net, uint64_t id)
{
    struct stranger *s = mem_zeroed(1, sizeof *s);
    struct end *ours = end__new(net, 0, id), *theirs = end__new(net, id, 0);
    ours->stranger = s;
    s->end = ours;
    s->next = net->strangers;
    net->strangers = s;
    ends__pair(ours, theirs);
    peers_accept(net->nodes[id].peers, &theirs->link);
    return s;
}

void stranger_say(struct stranger *s, const void *data, uint32_t size)
{
    struct net *net = s->end->net;
    end__put(s->end->other, data, size);
    net_run(net);
}

bool stranger_is_thrown_out(const struct stranger *s)
{
    return s->end == NULL || s->end->other == NULL;
}

bool stranger_heard(const struct stranger *s, struct frame *ret_frame)
{
    static const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
    uint64_t at = 0, needed;
    bool found = false;
    while (at < s->size && frame_parse(s->bytes + at, s->size - at, &limits, ret_frame, &needed) == OK) {
        at += ret_frame->size_bytes;
        found = true;
    }
    return found;
}
