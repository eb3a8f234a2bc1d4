/* One link to another broker. Its life: connected, greeting, up, closing; in each of them only the frames that belong
 * there are taken. Whatever else a peer sends ends the link: between brokers there is nothing to be polite about. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mark.h"
#include "base/point.h"
#include "base/mem.h"
#include "broker/peers_impl.h"

static const struct frame_limits lane_limits = {.proto_bytes_max = FRAME_PROTO_BYTES_MAX,
                                                .payload_bytes_max = FRAME_PAYLOAD_BYTES_MAX};

/* --- life --- */

struct lane *lane__new(struct peers *peers, struct peer *peer, enum peer_lane number)
{
    struct lane *lane = mem_zeroed(1, sizeof *lane);
    lane->peers = peers;
    lane->peer = peer;
    lane->number = number;
    lane->state = LANE_CONNECTING;
    lane->since_us = clock_now_us(peers->options.clock);
    inbox_init(&lane->inbox, &peers->receive);
    TAILQ_INSERT_TAIL(&peers->lanes, lane, all_link);
    return lane;
}

static void lane__drop_rows(struct lane *lane)
{
    for (uint32_t i = 0; i < lane->builder.parts_count; i++) {
        slice_unref(&lane->builder.parts[i]);
    }
    lane->builder.rows = lane->builder.parts_count = lane->builder.payload_bytes = 0;
}

void lane__free(struct lane *lane)
{
    TAILQ_REMOVE(&lane->peers->lanes, lane, all_link);
    lane__drop_rows(lane);
    inbox_clear(&lane->inbox);
    free(lane->head);
    free(lane);
}

void lane__close(struct lane *lane, const char *why)
{
    if (lane->state == LANE_CLOSING) {
        return;
    }
    trace_info(lane->peers->options.trace, "peer_link_closed", "broker=%lu lane=%d remote=%s why=\"%s\"",
               lane->peer != NULL ? lane->peer->broker : 0, (int)lane->number, lane->link->remote, why);
    lane->state = LANE_CLOSING;
    lane__drop_rows(lane);
    lane->link->ops->close(lane->link);
    peers__lane_gone(lane);
}

static void lane__say(struct lane *lane, enum frame_type type, const void *message)
{
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    uint32_t size;
    enum err error = codec_encode_frame(head, sizeof head, type, 0, message, 0, &size);
    ASSERT(error == OK);
    lane->link->ops->send(lane->link, head, size, NULL, 0);
}

/* --- greeting --- */

void lane__connected(struct link *link)
{
    struct lane *lane = link->owner;
    const struct peers_identity *us = &lane->peers->options.identity;
    PeerHello hello = {.version = FRAME_VERSION,
                       .broker = us->broker,
                       .boot = us->boot,
                       .lane = (uint32_t)lane->number,
                       .expected = lane->peer != NULL ? lane->peer->broker : 0};
    memcpy(hello.cluster_id, us->cluster_id, sizeof hello.cluster_id);
    memcpy(hello.disk_uuid, us->disk_uuid, sizeof hello.disk_uuid);
    lane->state = LANE_GREETING;
    lane__say(lane, FRAME_PEER_HELLO, &hello);
}

static void lane__on_hello(struct lane *lane, const PeerHello *hello)
{
    struct peers *peers = lane->peers;
    const struct peers_identity *us = &peers->options.identity;
    struct peer *peer = NULL;
    enum err error = peers__judge_hello(peers, hello, &peer);
    PeerHelloReply reply = {
        .status = (uint32_t)error, .version = FRAME_VERSION, .broker = us->broker, .boot = us->boot};
    memcpy(reply.disk_uuid, us->disk_uuid, sizeof reply.disk_uuid);
    lane__say(lane, FRAME_PEER_HELLO_REPLY, &reply);
    if (error != OK) {
        mark(peers->options.trace, MARK_PEER_REFUSED);
        trace_warn(peers->options.trace, "peer_refused", "broker=%lu remote=%s error=%s", hello->broker,
                   lane->link->remote, err_name(error));
        lane__close(lane, err_text(error));
        return;
    }
    lane->peer = peer;
    lane->number = (enum peer_lane)hello->lane;
    peers__lane_up(lane, hello->disk_uuid, hello->boot);
}

static void lane__on_hello_reply(struct lane *lane, const PeerHelloReply *reply)
{
    struct peer *peer = lane->peer;
    if (reply->status == OK && reply->version == FRAME_VERSION && reply->broker == peer->broker) {
        peers__lane_up(lane, reply->disk_uuid, reply->boot);
        return;
    }
    enum err error = reply->status != OK ? (enum err)reply->status : ERR_UNKNOWN_BROKER;
    peer->stats.refusals++;
    mark(lane->peers->options.trace, MARK_PEER_OTHER_ANSWERS);
    lane__close(lane, err_text(error));
    if (error == ERR_REMOVED_BROKER && !peer->is_final) {
        struct peers *peers = peer->peers;
        peer->is_final = true;
        peers->options.handler->on_removed(peers->options.context, peer->broker);
    }
}

/* --- frames --- */

static void lane__on_rows(struct lane *lane, const struct frame *frame)
{
    struct peers *peers = lane->peers;
    struct peer_reader reader;
    peers->reading = lane;
    for (peer_reader_begin(&reader, frame); lane->state == LANE_UP && !peer_reader_is_done(&reader);) {
        RaftRow row;
        const uint8_t *payload;
        enum err error = peer_reader_next(&reader, &row, &payload);
        if (error != OK) {
            mark(peers->options.trace, MARK_PEER_BAD_ROW);
            lane__close(lane, err_text(error));
            break;
        }
        lane->peer->stats.received_rows++;
        peers->options.handler->on_row(peers->options.context, lane->peer->broker, &row, payload);
    }
    peers->reading = NULL;
}

static void lane__on_snapshot(struct lane *lane, const struct frame *frame)
{
    struct peers *peers = lane->peers;
    PeerSnapshot message;
    enum err error = peer_snapshot_read(frame, &message);
    if (error != OK) {
        lane__close(lane, err_text(error));
        return;
    }
    peers->reading = lane;
    peers->options.handler->on_snapshot(peers->options.context, lane->peer->broker, &message, frame->payload,
                                        frame->payload_size);
    peers->reading = NULL;
}

static void lane__on_ping(struct lane *lane, const PeerPing *ping)
{
    struct peers *peers = lane->peers;
    const struct peers_quiet quiet = {ping->quiet_count, ping->quiet_digest, ping->quiet_wakes};
    PeerPong pong = {.sent_us = ping->sent_us, .wall_ms = clock_wall_ms(peers->options.clock)};
    if (lane->number == PEER_LANE_CONTROL) {
        lane__flush(lane); /* in the order in which it happened */
        pong.quiet_differs = !peers->options.handler->quiet_agrees(peers->options.context, lane->peer->broker, &quiet);
    }
    lane__say(lane, FRAME_PEER_PONG, &pong);
}

static void lane__on_pong(struct lane *lane, const PeerPong *pong)
{
    struct peers *peers = lane->peers;
    struct peers_state *stats = &lane->peer->stats;
    uint64_t now_us = clock_now_us(peers->options.clock);
    if (lane->number != PEER_LANE_CONTROL) {
        return;
    }
    stats->rtt_us = now_us > pong->sent_us ? now_us - pong->sent_us : 0;
    stats->wall_ahead_ms = clock_wall_ms(peers->options.clock) - pong->wall_ms;
    peers->options.handler->on_quiet_answer(peers->options.context, lane->peer->broker, pong->sent_us,
                                            !pong->quiet_differs);
}

static bool lane__expects(const struct lane *lane, enum frame_type type)
{
    if (lane->state == LANE_GREETING) {
        return type == (lane->is_dialled ? FRAME_PEER_HELLO_REPLY : FRAME_PEER_HELLO);
    }
    bool is_for_groups = type == (lane->number == PEER_LANE_SNAPSHOT ? FRAME_SNAPSHOT : FRAME_RAFT);
    return lane->state == LANE_UP && (is_for_groups || type == FRAME_PEER_PING || type == FRAME_PEER_PONG);
}

static void lane__handle(struct lane *lane, const struct frame *frame)
{
    union codec_message message;
    if (!lane__expects(lane, frame->type)) {
        lane__close(lane, "a frame that does not belong here");
        return;
    }
    if (frame->type == FRAME_RAFT) {
        lane__on_rows(lane, frame);
        return;
    }
    if (frame->type == FRAME_SNAPSHOT) {
        lane__on_snapshot(lane, frame);
        return;
    }
    enum err error = codec_decode(frame->type, frame->proto, frame->proto_size, &message);
    if (error != OK || frame->payload_size > 0) {
        lane__close(lane, err_text(ERR_BAD_FRAME));
    } else if (frame->type == FRAME_PEER_HELLO) {
        lane__on_hello(lane, &message.as_PeerHello);
    } else if (frame->type == FRAME_PEER_HELLO_REPLY) {
        lane__on_hello_reply(lane, &message.as_PeerHelloReply);
    } else if (frame->type == FRAME_PEER_PING) {
        lane__on_ping(lane, &message.as_PeerPing);
    } else {
        lane__on_pong(lane, &message.as_PeerPong);
    }
}

/* The whole frames that are there, then what is left finds its place. */
static void lane__work(struct lane *lane)
{
    uint64_t needed = 0;
    enum err error = OK;
    lane->is_reading = true;
    while (lane->state != LANE_CLOSING && inbox_size(&lane->inbox) > 0) {
        struct frame frame;
        error = frame_parse(inbox_data(&lane->inbox), inbox_size(&lane->inbox), &lane_limits, &frame, &needed);
        if (error != OK) {
            break;
        }
        lane__handle(lane, &frame);
        inbox_consume(&lane->inbox, frame.size_bytes);
        needed = 0;
    }
    lane->is_reading = false;
    if (lane->state != LANE_CLOSING && error != OK && error != ERR_AGAIN) {
        mark(lane->peers->options.trace, MARK_PEER_BAD_FRAME);
        lane__close(lane, err_text(error));
    }
    if (lane->state == LANE_CLOSING) {
        inbox_clear(&lane->inbox);
        return;
    }
    error = inbox_settle(&lane->inbox, needed);
    if (error == ERR_BUSY) {
        lane->waits = true;
        lane->link->ops->pause(lane->link);
    } else if (error != OK) {
        lane__close(lane, err_text(error));
    }
}

void lane__resume(struct lane *lane)
{
    lane->waits = false;
    if (lane->state == LANE_CLOSING) {
        return;
    }
    if (inbox_open(&lane->inbox) != OK) {
        lane__close(lane, err_text(ERR_NO_MEMORY));
        return;
    }
    lane__work(lane);
    if (!lane->waits && lane->state != LANE_CLOSING) {
        lane->link->ops->resume(lane->link);
    }
}

/* --- the link's calls --- */

static void lane__on_alloc(struct link *link, uint8_t **ret_data, size_t *ret_size)
{
    static uint8_t nothing[1];
    struct lane *lane = link->owner;
    if (inbox_space(&lane->inbox, UINT32_MAX, ret_data, ret_size) != OK) {
        *ret_data = nothing;
        *ret_size = sizeof nothing;
        lane__close(lane, err_text(ERR_NO_MEMORY));
    }
}

static void lane__on_read(struct link *link, size_t size)
{
    struct lane *lane = link->owner;
    if (lane->state == LANE_CLOSING || size == 0) {
        return;
    }
    lane->heard_us = clock_now_us(lane->peers->options.clock);
    lane->silence_told = false;
    if (lane->peer != NULL) {
        lane->peer->stats.heard_us = lane->heard_us;
    }
    inbox_filled(&lane->inbox, (uint32_t)size);
    lane__work(lane);
}

static void lane__on_drain(struct link *link)
{
    (void)link; /* queues are looked at when something is to be sent */
}

static void lane__on_closed(struct link *link, enum err reason)
{
    struct lane *lane = link->owner;
    if (lane->state != LANE_CLOSING) {
        trace_info(lane->peers->options.trace, "peer_link_closed", "broker=%lu lane=%d remote=%s why=\"%s\"",
                   lane->peer != NULL ? lane->peer->broker : 0, (int)lane->number, link->remote, err_text(reason));
        lane->state = LANE_CLOSING;
        peers__lane_gone(lane);
    }
    lane__free(lane);
}

const struct link_handler lane__handler = {
    .on_alloc = lane__on_alloc,
    .on_read = lane__on_read,
    .on_drain = lane__on_drain,
    .on_closed = lane__on_closed,
};

/* --- sending --- */

void lane__flush(struct lane *lane)
{
    struct peer_builder *b = &lane->builder;
    if (b->rows == 0) {
        return;
    }
    peer_builder_finish(b);
    point(lane->peers->options.trace, POINT_ROWS_LEAVE);
    lane->link->ops->send(lane->link, b->head, b->size, b->parts, b->parts_count);
    lane->peer->stats.sent_rows += b->rows;
    lane->peer->stats.sent_frames++;
    lane__drop_rows(lane);
}

bool lane__send(struct lane *lane, RaftRow *row, const struct slice *parts, uint32_t parts_count)
{
    struct peer_builder *b = &lane->builder;
    if (lane->link->ops->queued_bytes(lane->link) + b->payload_bytes >= PEER_QUEUE_BYTES_MAX) {
        return false;
    }
    if (lane->head == NULL) {
        lane->head = mem_zeroed(1, PEER_HEAD_BYTES);
    }
    uint32_t before = b->parts_count;
    if (b->rows == 0) {
        peer_builder_begin(b, lane->head, PEER_HEAD_BYTES);
        before = 0;
    }
    if (!peer_builder_add(b, row, parts, parts_count)) {
        lane__flush(lane);
        peer_builder_begin(b, lane->head, PEER_HEAD_BYTES);
        before = 0;
        bool added = peer_builder_add(b, row, parts, parts_count);
        ASSERT(added);
    }
    for (uint32_t i = before; i < b->parts_count; i++) {
        b->parts[i] = slice_ref(b->parts[i]);
    }
    return true;
}

void lane__ping(struct lane *lane, uint64_t now_us)
{
    struct peers *peers = lane->peers;
    PeerPing ping = {.sent_us = now_us, .wall_ms = clock_wall_ms(peers->options.clock)};
    if (lane->number == PEER_LANE_CONTROL) {
        struct peers_quiet quiet = {0};
        peers->options.handler->quiet_told(peers->options.context, lane->peer->broker, &quiet);
        ping.quiet_count = quiet.count;
        ping.quiet_digest = quiet.digest;
        ping.quiet_wakes = quiet.wakes;
        lane__flush(lane); /* what it says is the outcome of rows that go before it */
    }
    lane->pinged_us = now_us;
    lane__say(lane, FRAME_PEER_PING, &ping);
}
