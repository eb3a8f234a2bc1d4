/* Who the other brokers are, and whether they are there: dialling with back-off, up when control and append lane are,
 * down when one of them ends, and the clock that finds links on which nobody speaks any more. */
#include "broker/peers.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mark.h"
#include "base/point.h"
#include "base/mem.h"
#include "base/text.h"
#include "broker/peers_impl.h"

/* --- table --- */

static uint32_t peers__position(const struct peers *peers, uint64_t broker)
{
    uint32_t i = 0;
    while (i < peers->count && peers->table[i]->broker < broker) {
        i++;
    }
    return i;
}

struct peer *peers__find(const struct peers *peers, uint64_t broker)
{
    uint32_t i = peers__position(peers, broker);
    return i < peers->count && peers->table[i]->broker == broker ? peers->table[i] : NULL;
}

struct berth *peers__berth(struct peer *peer, enum peer_lane number)
{
    ASSERT(number >= PEER_LANE_CONTROL && number <= PEER_LANE_SNAPSHOT);
    return &peer->berths[number - PEER_LANE_CONTROL];
}

struct peers *peers_new(const struct peers_options *options)
{
    struct peers *peers = mem_zeroed(1, sizeof *peers);
    peers->options = *options;
    receive_init(&peers->receive, options->receive_bytes_max);
    TAILQ_INIT(&peers->lanes);
    return peers;
}

void peers_free(struct peers *peers)
{
    struct lane *lane;
    if (peers == NULL) {
        return;
    }
    while ((lane = TAILQ_FIRST(&peers->lanes)) != NULL) {
        lane__free(lane);
    }
    for (uint32_t i = 0; i < peers->count; i++) {
        free(peers->table[i]);
    }
    receive_deinit(&peers->receive);
    free(peers);
}

static bool peers__we_dial(const struct peer *peer)
{
    return peer->peers->options.identity.broker < peer->broker;
}

static void peer__close_lanes(struct peer *peer, const char *why)
{
    for (uint32_t i = 0; i < PEER_LANES; i++) {
        if (peer->berths[i].lane != NULL) {
            lane__close(peer->berths[i].lane, why);
        }
    }
}

enum err peers_set(struct peers *peers, uint64_t broker, const char *address)
{
    ASSERT(broker != peers->options.identity.broker);
    struct peer *peer = peers__find(peers, broker);
    if (peer == NULL && peers->count == PEERS_MAX) {
        return ERR_BUSY;
    }
    if (peer == NULL) {
        uint32_t at = peers__position(peers, broker);
        peer = mem_zeroed(1, sizeof *peer);
        peer->peers = peers;
        peer->broker = broker;
        memmove(&peers->table[at + 1], &peers->table[at], (peers->count - at) * sizeof peers->table[0]);
        peers->table[at] = peer;
        peers->count++;
    } else if (strcmp(peer->address, address) == 0) {
        return OK;
    } else if (peers__we_dial(peer)) {
        peer__close_lanes(peer, "it moved to another address");
    }
    text_copy(peer->address, sizeof peer->address, address);
    peer->is_final = false;
    for (uint32_t i = 0; i < PEER_LANES; i++) {
        peer->berths[i].retry_us = peer->berths[i].backoff_us = 0;
    }
    return OK;
}

void peers_forget(struct peers *peers, uint64_t broker)
{
    struct peer *peer = peers__find(peers, broker);
    if (peer == NULL) {
        return;
    }
    peer__close_lanes(peer, "the broker is gone for good");
    uint32_t at = peers__position(peers, broker);
    peers->count--;
    memmove(&peers->table[at], &peers->table[at + 1], (peers->count - at) * sizeof peers->table[0]);
    free(peer);
}

void peers_close(struct peers *peers)
{
    struct lane *lane;
    peers->is_closing = true;
    TAILQ_FOREACH(lane, &peers->lanes, all_link)
    {
        lane__close(lane, "this broker stops");
    }
}

bool peers_are_closed(const struct peers *peers)
{
    return TAILQ_EMPTY(&peers->lanes);
}

/* --- up and down --- */

static bool peer__has_both(struct peer *peer)
{
    const struct lane *control = peers__berth(peer, PEER_LANE_CONTROL)->lane;
    const struct lane *append = peers__berth(peer, PEER_LANE_APPEND)->lane;
    return control != NULL && append != NULL && control->state == LANE_UP && append->state == LANE_UP;
}

enum err peers__judge_hello(struct peers *peers, const PeerHello *hello, struct peer **ret_peer)
{
    const struct peers_identity *us = &peers->options.identity;
    if (hello->version != FRAME_VERSION || hello->lane < PEER_LANE_CONTROL || hello->lane > PEER_LANE_SNAPSHOT) {
        return ERR_UNSUPPORTED;
    }
    if (memcmp(hello->cluster_id, us->cluster_id, sizeof us->cluster_id) != 0) {
        return ERR_OTHER_CLUSTER;
    }
    if (hello->expected != us->broker || hello->broker >= us->broker) {
        return ERR_UNKNOWN_BROKER; /* it means another one, or it is us who dial */
    }
    enum err error = peers->options.handler->may_join(peers->options.context, hello->broker, hello->disk_uuid);
    struct peer *peer = error == OK ? peers__find(peers, hello->broker) : NULL;
    if (error == OK && peer == NULL) {
        error = ERR_UNKNOWN_BROKER;
    }
    if (error == OK) {
        *ret_peer = peer;
    }
    return error;
}

/* What is left of its last life is dead, whether we noticed or not. Links that are being greeted speak for themselves.
 */
static void peer__end_life(struct peer *peer, const struct lane *but)
{
    for (uint32_t i = 0; i < PEER_LANES; i++) {
        struct lane *lane = peer->berths[i].lane;
        if (lane != NULL && lane != but && lane->state == LANE_UP) {
            mark(peer->peers->options.trace, MARK_PEER_NEW_LIFE);
            lane__close(lane, "the broker was started again");
        }
    }
}

void peers__lane_up(struct lane *lane, const uint8_t disk_uuid[UUID_BYTES], uint64_t boot)
{
    struct peer *peer = lane->peer;
    struct peers *peers = peer->peers;
    struct berth *berth = peers__berth(peer, lane->number);
    bool is_same_disk = memcmp(peer->disk_uuid, disk_uuid, UUID_BYTES) == 0;
    if (is_same_disk && boot < peer->boot) {
        mark(peers->options.trace, MARK_PEER_EARLIER_LIFE);
        lane__close(lane, "it is of an earlier life");
        return;
    }
    if (!is_same_disk || boot > peer->boot) {
        peer__end_life(peer, lane);
        peer->boot = boot;
        memcpy(peer->disk_uuid, disk_uuid, UUID_BYTES);
    }
    if (berth->lane != NULL && berth->lane != lane) {
        mark(peers->options.trace, MARK_PEER_REPLACED);
        lane__close(berth->lane, "a newer link takes its place");
    }
    lane->state = LANE_UP;
    lane->heard_us = lane->pinged_us = clock_now_us(peers->options.clock);
    berth->lane = lane;
    berth->backoff_us = 0;
    trace_info(peers->options.trace, "peer_link_up", "broker=%lu lane=%d boot=%lu remote=%s", peer->broker,
               (int)lane->number, boot, lane->link->remote);
    if (!peer->is_up && peer__has_both(peer)) {
        peer->is_up = true;
        point(peers->options.trace, POINT_PEER_UP);
        peers->options.handler->on_up(peers->options.context, peer->broker, peer->disk_uuid, peer->boot);
    }
}

static void berth__wait(struct peers *peers, struct berth *berth)
{
    uint32_t chance;
    clock_random(peers->options.clock, &chance, sizeof chance);
    berth->backoff_us = berth->backoff_us == 0 ? PEER_RETRY_US_MIN : berth->backoff_us * 2;
    berth->backoff_us = berth->backoff_us > PEER_RETRY_US_MAX ? PEER_RETRY_US_MAX : berth->backoff_us;
    berth->retry_us = clock_now_us(peers->options.clock) + berth->backoff_us - chance % (berth->backoff_us / 3);
}

void peers__lane_gone(struct lane *lane)
{
    struct peer *peer = lane->peer;
    struct berth *berth = peer != NULL ? peers__berth(peer, lane->number) : NULL;
    lane->peer = NULL;
    if (berth == NULL || berth->lane != lane) {
        return; /* nobody's, or replaced */
    }
    struct peers *peers = peer->peers;
    berth->lane = NULL;
    berth__wait(peers, berth);
    if (lane->number == PEER_LANE_SNAPSHOT) {
        peers->options.handler->on_snapshot_down(peers->options.context, peer->broker);
        return;
    }
    if (!peer->is_up) {
        return;
    }
    struct lane *twin =
        peers__berth(peer, lane->number == PEER_LANE_APPEND ? PEER_LANE_CONTROL : PEER_LANE_APPEND)->lane;
    peer->is_up = false;
    point(peers->options.trace, POINT_PEER_DOWN);
    if (twin != NULL) {
        mark(peers->options.trace, MARK_PEER_TWIN_CLOSED);
        lane__close(twin, "the other link to that broker ended");
    }
    peers->options.handler->on_down(peers->options.context, peer->broker);
}

/* --- dialling, accepting --- */

static void peer__dial(struct peer *peer, enum peer_lane number)
{
    struct peers *peers = peer->peers;
    struct berth *berth = peers__berth(peer, number);
    struct lane *lane = lane__new(peers, peer, number);
    lane->is_dialled = true;
    peer->stats.dials++;
    enum err error = peers->options.dialer->ops->dial(peers->options.dialer, peer->address, &lane__handler, lane,
                                                      lane__connected, &lane->link);
    if (error != OK) {
        trace_warn(peers->options.trace, "peer_dial_failed", "broker=%lu address=%s error=%s", peer->broker,
                   peer->address, err_name(error));
        lane__free(lane);
        berth__wait(peers, berth);
        return;
    }
    berth->lane = lane;
}

void peers_accept(struct peers *peers, struct link *link)
{
    struct lane *lane = lane__new(peers, NULL, PEER_LANE_CONTROL);
    lane->link = link;
    lane->state = LANE_GREETING;
    link->handler = &lane__handler;
    link->owner = lane;
    if (peers->is_closing) {
        lane__close(lane, "this broker stops");
    }
}

/* --- time --- */

static bool lane__is_watched(const struct lane *lane)
{
    return lane->number == PEER_LANE_CONTROL && lane->peer->is_watched;
}

static uint64_t lane__ping_us(const struct lane *lane)
{
    return lane->pinged_us + (lane__is_watched(lane) ? lane->peers->options.watch_ping_us : PEER_PING_US);
}

/* Since when it is silent: what others sent while this process stood still is read after its timers. */
static uint64_t lane__since_us(const struct lane *lane)
{
    const struct peers *peers = lane->peers;
    uint64_t since_us = lane->heard_us > peers->resumed_us ? lane->heard_us : peers->resumed_us;
    return lane->waits && peers->starved_us > since_us ? peers->starved_us : since_us;
}

/* When a silence is to be told. */
static uint64_t lane__silent_us(const struct lane *lane)
{
    bool is_told = lane__is_watched(lane) && !lane->silence_told;
    return is_told ? lane__since_us(lane) + lane->peers->options.silent_us : UINT64_MAX;
}

static void lane__look(struct lane *lane, uint64_t now_us)
{
    bool greets = lane->state == LANE_CONNECTING || lane->state == LANE_GREETING;
    if (greets && now_us >= lane->since_us + PEER_HELLO_US) {
        mark(lane->peers->options.trace, MARK_PEER_NO_GREETING);
        lane__close(lane, "no greeting in time");
    } else if (lane->state == LANE_UP && now_us >= lane__since_us(lane) + PEER_SILENCE_US) {
        mark(lane->peers->options.trace, MARK_PEER_SILENT);
        lane->peers->starved_us = lane->waits ? now_us : lane->peers->starved_us;
        lane__close(lane, lane->waits ? "no memory for its frame came free" : "nothing was heard for too long");
    } else if (lane->state == LANE_UP && now_us >= lane__ping_us(lane)) {
        lane__ping(lane, now_us);
    }
    if (lane->state == LANE_UP && now_us >= lane__silent_us(lane)) {
        lane->silence_told = true;
        lane->peers->options.handler->on_silent(lane->peers->options.context, lane->peer->broker);
    }
}

static void peers__note_pause(struct peers *peers, uint64_t now_us)
{
    if (now_us > peers->planned_us && now_us - peers->planned_us > peers->options.silent_us / 2) {
        peers->resumed_us = now_us;
    }
}

void peers_timer(struct peers *peers, uint64_t now_us)
{
    struct lane *lane;
    peers__note_pause(peers, now_us);
    TAILQ_FOREACH(lane, &peers->lanes, all_link) /* closing frees in a later turn */
    {
        lane__look(lane, now_us);
    }
    for (uint32_t i = 0; i < peers->count && !peers->is_closing; i++) {
        struct peer *peer = peers->table[i];
        for (uint32_t n = 0; n < PEER_LANES && peers__we_dial(peer) && !peer->is_final; n++) {
            if (peer->berths[n].lane == NULL && now_us >= peer->berths[n].retry_us) {
                peer__dial(peer, PEER_LANE_CONTROL + n);
            }
        }
    }
    peers->planned_us = peers_deadline_us(peers);
}

static void earlier(uint64_t *io_deadline_us, uint64_t at_us)
{
    *io_deadline_us = at_us < *io_deadline_us ? at_us : *io_deadline_us;
}

uint64_t peers_deadline_us(const struct peers *peers)
{
    uint64_t deadline_us = UINT64_MAX;
    const struct lane *lane;
    TAILQ_FOREACH(lane, &peers->lanes, all_link)
    {
        if (lane->state == LANE_UP) {
            earlier(&deadline_us, lane__ping_us(lane));
            earlier(&deadline_us, lane__silent_us(lane));
            earlier(&deadline_us, lane__since_us(lane) + PEER_SILENCE_US);
        } else if (lane->state != LANE_CLOSING) {
            earlier(&deadline_us, lane->since_us + PEER_HELLO_US);
        }
    }
    for (uint32_t i = 0; i < peers->count && !peers->is_closing; i++) {
        const struct peer *peer = peers->table[i];
        for (uint32_t n = 0; n < PEER_LANES && peers__we_dial(peer) && !peer->is_final; n++) {
            if (peer->berths[n].lane == NULL) {
                earlier(&deadline_us, peer->berths[n].retry_us);
            }
        }
    }
    return deadline_us;
}

/* --- rows --- */

bool peers_send(struct peers *peers, uint64_t broker, enum peer_lane number, RaftRow *row, const struct slice *parts,
                uint32_t parts_count)
{
    struct peer *peer = peers__find(peers, broker);
    struct lane *lane = peer != NULL ? peers__berth(peer, number)->lane : NULL;
    bool is_there = lane != NULL && lane->state == LANE_UP && (peer->is_up || number == PEER_LANE_SNAPSHOT);
    if (is_there && lane__send(lane, row, parts, parts_count)) {
        return true;
    }
    if (peer != NULL) {
        peer->stats.dropped_rows++;
    }
    return false;
}

bool peers_send_snapshot(struct peers *peers, uint64_t broker, PeerSnapshot *message, struct slice payload)
{
    struct peer *peer = peers__find(peers, broker);
    struct lane *lane = peer != NULL ? peers__berth(peer, PEER_LANE_SNAPSHOT)->lane : NULL;
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    if (lane == NULL || lane->state != LANE_UP ||
        lane->link->ops->queued_bytes(lane->link) + payload.size > PEER_QUEUE_BYTES_MAX) {
        return false;
    }
    uint32_t size = peer_snapshot_write(message, payload, head);
    lane->link->ops->send(lane->link, head, size, &payload, payload.size > 0 ? 1 : 0);
    peer->stats.sent_frames++;
    return true;
}

/* Lanes that have handled all that came keep what they receive into as long as somebody keeps bytes of it, to fill it
 * further. That may be for ever, and pings are enough to seem busy: nobody is to wait for that. */
static bool peers__has_room(struct peers *peers)
{
    struct lane *lane;
    TAILQ_FOREACH(lane, &peers->lanes, all_link)
    {
        if (receive_has_room(&peers->receive)) {
            return true;
        }
        if (inbox_held(&lane->inbox) == 0) {
            inbox_rest(&lane->inbox);
        }
    }
    return receive_has_room(&peers->receive);
}

void peers_flush(struct peers *peers)
{
    struct lane *lane;
    TAILQ_FOREACH(lane, &peers->lanes, all_link)
    {
        if (lane->waits && peers__has_room(peers)) {
            lane__resume(lane);
        }
        lane__flush(lane);
    }
}

struct slice peers_keep(struct peers *peers, const uint8_t *data, uint32_t size)
{
    ASSERT(peers->reading != NULL);
    return inbox_keep(&peers->reading->inbox, data, size);
}

/* --- questions --- */

uint64_t peers_bytes(const struct peers *peers)
{
    return receive_bytes(&peers->receive);
}

bool peers_snapshot_is_up(const struct peers *peers, uint64_t broker)
{
    struct peer *peer = peers__find(peers, broker);
    const struct lane *lane = peer != NULL ? peers__berth(peer, PEER_LANE_SNAPSHOT)->lane : NULL;
    return lane != NULL && lane->state == LANE_UP;
}

bool peers_is_up(const struct peers *peers, uint64_t broker)
{
    const struct peer *peer = peers__find(peers, broker);
    return peer != NULL && peer->is_up;
}

bool peers_is_heard(const struct peers *peers, uint64_t broker)
{
    struct peer *peer = peers__find(peers, broker);
    const struct lane *lane = peer != NULL && peer->is_up ? peers__berth(peer, PEER_LANE_CONTROL)->lane : NULL;
    return lane != NULL && clock_now_us(peers->options.clock) < lane->heard_us + peers->options.silent_us;
}

void peers_watch(struct peers *peers, uint64_t broker, bool watched)
{
    struct peer *peer = peers__find(peers, broker);
    if (peer != NULL) {
        peer->is_watched = watched;
    }
}

bool peers_state(const struct peers *peers, uint32_t i, struct peers_state *ret_state)
{
    if (i >= peers->count) {
        return false;
    }
    const struct peer *peer = peers->table[i];
    *ret_state = peer->stats;
    ret_state->broker = peer->broker;
    ret_state->address = peer->address;
    ret_state->up = peer->is_up;
    ret_state->boot = peer->boot;
    ret_state->queued_bytes = 0;
    for (uint32_t n = 0; n < PEER_LANES; n++) {
        const struct lane *lane = peer->berths[n].lane;
        ret_state->queued_bytes += lane != NULL ? lane->link->ops->queued_bytes(lane->link) : 0;
    }
    return true;
}
