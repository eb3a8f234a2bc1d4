/* Inside peers*.c only.
 *
 *   peers.c        the table of brokers, dialling, up and down, time
 *   peers_lane.c   one link: greeting, frames in and out */
#ifndef FLOTILLA_BROKER_PEERS_IMPL_H
#define FLOTILLA_BROKER_PEERS_IMPL_H

#include <sys/queue.h>

#include "base/limits.h"
#include "broker/inbox.h"
#include "broker/peers.h"

enum lane_state {
    LANE_CONNECTING, /* dialled */
    LANE_GREETING,   /* connected; a HELLO or its answer is awaited */
    LANE_UP,
    LANE_CLOSING, /* on_closed will come */
};

struct lane {
    struct peers *peers;
    struct peer *peer; /* NULL: accepted and has not said HELLO, or replaced, or forgotten */
    enum peer_lane number;
    enum lane_state state;
    bool is_dialled;
    bool is_reading; /* within on_read */
    bool waits;      /* for memory to receive into */
    struct link *link;
    struct inbox inbox;
    uint64_t since_us; /* greeting: since when */
    uint64_t heard_us, pinged_us;
    bool silence_told;           /* since heard_us */
    uint8_t *head;               /* owned, PEER_HEAD_BYTES; NULL before the first row */
    struct peer_builder builder; /* rows of this turn; holds references to its parts */
    TAILQ_ENTRY(lane) all_link;
};

TAILQ_HEAD(lane_list, lane);

/* One lane's place in its peer, whether there is a link or not. */
struct berth {
    struct lane *lane; /* NULL: no link */
    uint64_t retry_us; /* we dial: not before */
    uint64_t backoff_us;
};

struct peer {
    struct peers *peers;
    uint64_t broker;
    char address[ADDRESS_BYTES_MAX + 1];
    bool is_up;
    bool is_watched;
    bool is_final; /* it says that we were removed: not dialled again */
    uint8_t disk_uuid[UUID_BYTES];
    uint64_t boot;
    struct berth berths[PEER_LANES];
    struct peers_state stats; /* counters, rtt, heard */
};

struct peers {
    struct peers_options options;
    struct receive receive;
    struct peer *table[PEERS_MAX]; /* rising by broker id */
    uint32_t count;
    struct lane_list lanes; /* all links, of whatever state */
    struct lane *reading;   /* whose row is being handled */
    uint64_t planned_us;    /* the next look at the time is due */
    uint64_t resumed_us;    /* this process stood still until then: nobody's silence began before */
    uint64_t starved_us;    /* a lane was closed for want of memory: what it had is for the others that wait */
    bool is_closing;
};

/* peers.c */
struct peer *peers__find(const struct peers *peers, uint64_t broker);
struct berth *peers__berth(struct peer *peer, enum peer_lane number);
void peers__lane_up(struct lane *lane, const uint8_t disk_uuid[UUID_BYTES], uint64_t boot);
void peers__lane_gone(struct lane *lane); /* it is closing: its peer learns it */
/* What to answer a HELLO; OK: *ret_peer is whose it is. */
enum err peers__judge_hello(struct peers *peers, const PeerHello *hello, struct peer **ret_peer);

/* peers_lane.c */
struct lane *lane__new(struct peers *peers, struct peer *peer, enum peer_lane number);
extern const struct link_handler lane__handler;
void lane__connected(struct link *link); /* of the dialler: says HELLO */
void lane__close(struct lane *lane, const char *why);
bool lane__send(struct lane *lane, RaftRow *row, const struct slice *parts, uint32_t parts_count);
void lane__flush(struct lane *lane);
void lane__resume(struct lane *lane); /* there is memory to receive into again */
void lane__ping(struct lane *lane, uint64_t now_us);
void lane__free(struct lane *lane);

#endif
