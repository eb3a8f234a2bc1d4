/* Brokers' peer layers in one test: links are queues in memory, time stands still until it is moved. Bytes arrive in
 * pieces of a size that the test sets. */
#ifndef FLOTILLA_TESTS_UNIT_PEERS_NET_H
#define FLOTILLA_TESTS_UNIT_PEERS_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/peers.h"

#define NET_NODES_MAX     4u
#define NET_WATCH_PING_US 200000u
#define NET_SILENT_US     800000u

struct net;

/* A broker, and what its peer layer told it. */
struct node {
    struct net *net;
    struct peers *peers;
    struct dialer dialer;
    uint64_t broker;
    struct peers_identity identity;
    enum err joins[NET_NODES_MAX + 1]; /* may_join, by broker id */
    uint32_t ups[NET_NODES_MAX + 1], downs[NET_NODES_MAX + 1];
    uint64_t boots[NET_NODES_MAX + 1]; /* as last told */
    uint32_t removals, differs, silences[NET_NODES_MAX + 1];
    uint64_t asked_us;        /* of the last pong */
    struct peers_quiet quiet; /* what it tells, and what it agrees with */
    uint32_t rows_count;
    RaftRow rows[64];
    struct slice payloads[64];     /* kept */
    PeerSnapshot snapshot;         /* the last one */
    struct slice snapshot_payload; /* kept */
    uint32_t snapshots_count, snapshot_downs[NET_NODES_MAX + 1];
};

struct net *net_new(void);
void net_free(struct net *net);

/* Starts broker `id` (1 ..); again: a new life, boot + 1; its old links stay until the others notice. */
struct node *net_start(struct net *net, uint64_t id);
void net_know(struct net *net, uint64_t id, uint64_t other); /* `id` learns of `other` */

/* Moves everything that is under way, with the turns this takes. */
void net_run(struct net *net);
/* Time passes in steps of 10 ms, each with its turns. */
void net_pass(struct net *net, uint64_t ms);
void net_stand_still(struct net *net, uint64_t ms); /* at once: all processes were paused */

void net_set_piece(struct net *net, uint32_t bytes);  /* the largest piece that arrives at once */
void net_set_memory(struct net *net, uint64_t bytes); /* to receive into, of who starts from now on */
void net_cut(struct net *net, bool cut);              /* what is sent vanishes; nobody is told */
void net_stop_taking(struct net *net, bool stopped);  /* what is sent stays queued at the sender */
void net_refuse(struct net *net, bool refuse);        /* dials fail */
/* Breaks the link of this lane between two brokers: both ends are told. */
void net_break(struct net *net, uint64_t one, uint64_t other, enum peer_lane lane);
uint32_t net_links(const struct net *net); /* open ones */
uint32_t net_dials(const struct net *net); /* so far */

/* A stranger connects to broker `id`; what is put in arrives there, what comes back is counted. */
struct stranger;
struct stranger *net_stranger(struct net *net, uint64_t id);
void stranger_say(struct stranger *s, const void *data, uint32_t size);
bool stranger_is_thrown_out(const struct stranger *s);
/* The last frame it was sent; false: none. */
bool stranger_heard(const struct stranger *s, struct frame *ret_frame);

#endif
