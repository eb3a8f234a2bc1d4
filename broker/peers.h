/* Links with the other brokers: who is there, and the frames of Raft rows that go to and fro.
 *
 * Two brokers have three links, one for each lane, all dialled by the one with the lower id; so no two ever cross. The
 * first frame on each is HELLO: cluster, protocol, ids, disk and boot. A wrong cluster, a broker nobody knows, and one
 * that was removed are three different refusals; the last one is final. A peer is *up* while its control and its
 * append lane both are; what breaks one of them ends the other, so that whoever hears on_down may take it that anything
 * sent since on_up is lost. The snapshot lane comes and goes by itself.
 *
 * Rows of one turn are gathered per lane, and leave as one frame (more only if they do not fit) in peers_flush. Queues
 * are bounded: what does not fit, or finds its peer down, is not sent, and peers_send says so at once: the sender of a
 * Raft message lives with loss, if he knows of it.
 *
 * Half-open links are found by pings on every lane. Received payload stays where it landed, kept by reference; memory
 * for it is an account of its own, that no client can use up. A lane that finds none for its frame is not read until
 * some comes free: those that have nothing to say give back theirs. If none does for PEER_SILENCE_US the link ends, one
 * at a time: two may have what the other one needs.
 *
 * Loop thread only. Works on port/link and port/clock, knows nothing of groups. */
#ifndef FLOTILLA_BROKER_PEERS_H
#define FLOTILLA_BROKER_PEERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/trace.h"
#include "port/clock.h"
#include "port/link.h"
#include "port/registry.h"
#include "wire/peer.h"
#include "wire/peer_snapshot.h"

struct peers;

/* Who speaks: ours is the same for the process's life. */
struct peers_identity {
    uint8_t cluster_id[UUID_BYTES];
    uint64_t broker;
    uint8_t disk_uuid[UUID_BYTES];
    uint64_t boot; /* grows with each start of that disk */
};

/* What two brokers think of groups that sleep: those that the sender leads and the receiver follows. */
struct peers_quiet {
    uint32_t count;
    uint64_t digest;
    bool wakes; /* the receiver is to wake all of them */
};

struct peers_handler {
    /* A broker says HELLO: OK, ERR_UNKNOWN_BROKER or ERR_REMOVED_BROKER. */
    enum err (*may_join)(void *context, uint64_t broker, const uint8_t disk_uuid[UUID_BYTES]);
    void (*on_up)(void *context, uint64_t broker, const uint8_t disk_uuid[UUID_BYTES], uint64_t boot);
    void (*on_down)(void *context, uint64_t broker); /* once after each on_up */
    /* The peer refused us for good: we were removed. */
    void (*on_removed)(void *context, uint64_t by_broker);
    /* A row, checked as wire/peer.h says; borrowed for the call. Payload is kept with peers_keep. */
    void (*on_row)(void *context, uint64_t broker, const RaftRow *row, const uint8_t *payload);
    /* A frame of the snapshot lane, checked as wire/peer_snapshot.h says; payload as of on_row. */
    void (*on_snapshot)(void *context, uint64_t broker, const PeerSnapshot *message, const uint8_t *payload,
                        uint32_t payload_size);
    /* The snapshot lane ended: what was sent on it may be lost. */
    void (*on_snapshot_down)(void *context, uint64_t broker);
    /* For a ping to this broker: what sleeps under us there. */
    void (*quiet_told)(void *context, uint64_t broker, struct peers_quiet *ret_quiet);
    /* A ping: is that what sleeps under it here? Whatever rows it sent before have been handled. */
    bool (*quiet_agrees)(void *context, uint64_t broker, const struct peers_quiet *quiet);
    /* Its answer to the ping of asked_us (monotonic). Whatever rows it sent before have been handled. */
    void (*on_quiet_answer)(void *context, uint64_t broker, uint64_t asked_us, bool agrees);
    /* A peer that is watched was not heard for silent_us; once for each silence. The link is still there. */
    void (*on_silent)(void *context, uint64_t broker);
};

struct peers_options {
    const struct peers_handler *handler;
    void *context;
    struct clock *clock;
    struct dialer *dialer;
    const struct trace *trace;
    struct peers_identity identity;
    uint64_t receive_bytes_max; /* memory for frames that are not whole yet */
    uint64_t watch_ping_us;     /* between two pings to a peer that is watched */
    uint64_t silent_us;         /* PEER_SILENCE_US at most */
};

struct peers *peers_new(const struct peers_options *options);
/* After all its links have seen on_closed, or died with the process of the simulator. */
void peers_free(struct peers *peers);
/* Closes every link; nothing is dialled any more. on_down comes for those that were up. */
void peers_close(struct peers *peers);
bool peers_are_closed(const struct peers *peers); /* no link is left */

/* The broker exists, at "host:port". Asked again with another address: dialled there from now on. PEERS_MAX of them:
 * ERR_BUSY. */
enum err peers_set(struct peers *peers, uint64_t broker, const char *address);
/* It does not exist any more. */
void peers_forget(struct peers *peers, uint64_t broker);

/* A connection on the peer listener. */
void peers_accept(struct peers *peers, struct link *link);

/* Sends a row and its entries' payloads, at the end of this turn. Sets what peer_builder_add sets. False: the peer is
 * down, or its queue is full; the row is gone. */
bool peers_send(struct peers *peers, uint64_t broker, enum peer_lane lane, RaftRow *row, const struct slice *parts,
                uint32_t parts_count);
void peers_flush(struct peers *peers);

/* On the snapshot lane, at once, with the bytes of a CHUNK. False: there is no such lane now, or its queue is full. */
bool peers_send_snapshot(struct peers *peers, uint64_t broker, PeerSnapshot *message, struct slice payload);

/* Within on_row and on_snapshot: a reference to (part of) its payload. */
struct slice peers_keep(struct peers *peers, const uint8_t *data, uint32_t size);

bool peers_snapshot_is_up(const struct peers *peers, uint64_t broker); /* its snapshot lane is */
bool peers_is_up(const struct peers *peers, uint64_t broker);
/* It is up, and something came on its control lane within silent_us. */
bool peers_is_heard(const struct peers *peers, uint64_t broker);
/* It is pinged every watch_ping_us, and its silence is told. */
void peers_watch(struct peers *peers, uint64_t broker, bool watched);
uint64_t peers_bytes(const struct peers *peers); /* memory that received frames take, kept ones included */

/* Of broker_timer. */
void peers_timer(struct peers *peers, uint64_t now_us);
uint64_t peers_deadline_us(const struct peers *peers);

/* For pages, metrics, and `flotilla broker list`. */
struct peers_state {
    uint64_t broker;
    const char *address; /* borrowed */
    bool up;
    uint64_t boot;         /* 0: never seen */
    uint64_t heard_us;     /* monotonic; 0: never */
    uint64_t rtt_us;       /* of the last pong; 0: none yet */
    int64_t wall_ahead_ms; /* of our wall clock, give or take half a round trip */
    uint64_t queued_bytes;
    uint64_t sent_rows, sent_frames, received_rows, dropped_rows, dials, refusals;
};
/* The i-th known peer, rising by broker id. False: there are not so many. */
bool peers_state(const struct peers *peers, uint32_t i, struct peers_state *ret_state);

#endif
