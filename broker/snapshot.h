/* Snapshots: how a replica that lacks more than the others' logs still hold gets the picture of one of them.
 *
 * The story. A leader's core asks for it (snapshot_want). The picture is the group's last checkpoint; if the log no
 * longer reaches back to it, a new one is taken first. A job copies its rows, as they stand in the checkpoint store,
 * out of one transaction into a file; the segments that the rows name are held, so that retention frees none of them.
 * Then:
 *
 *   sender                                            receiver
 *   OFFER  index, term, size and CRC of the rows  ->  nothing it lacks: HAVE_IT, and that is all
 *                                                 <-  WANT   rows from byte 0, or from where it was
 *   CHUNK  1 MiB at most, with its CRC            ->  writes it to a file
 *                                                 ... until the rows are whole, by the CRC over all of them
 *                                                     reads them: which segments are to be here, and which are?
 *                                                 <-  WANT   a segment that is not, from where its own ends
 *   CHUNK  every batch's CRC checked on the way   ->  ...
 *                                                     all there, each judged by its chain, and synced: installs them
 *                                                 <-  DONE
 *
 * The receiver asks, so it says where to go on, and no more than SNAPSHOT_WANTS_MAX chunks are ever under way. Either
 * side may END it. A picture is known by {group, index, term, size and CRC of its rows}: when a link broke, or the
 * sender started anew, an equal offer goes on where the last one stopped. With another picture the rows begin again,
 * but whole segments stay: a segment here counts if base, end, size and chain are those of the picture's manifest and,
 * read byte by byte, its batches are whole and make that chain. What the own disk says of itself is not believed.
 *
 * Installing. Everything arrives under names that no start looks at. When all is there the transaction is rehearsed: it
 * is put together and given up again, each second, until the checkpoint store has room for it. So long the group goes
 * on as a follower that lacks entries: it votes, and takes them if somebody still has them. Then it stands still: its
 * core is told of nothing but time and what became durable, until no record and no checkpoint of it is under way. Then
 * one job moves the files to their places, syncs the directories, and replaces all rows of the group in one
 * transaction. A crash before that leaves the old picture: the new files hold the same bytes at the same places, and
 * more. A crash after it leaves the new one. The group row keeps the own replica id and the higher term; its
 * snapshot_lsn is where the log stood, so that older entries are dead to a start, unless the log held the picture's
 * last entry. Then the core learns (RAFT_INSTALLED).
 *
 * Mending. A replica that has all entries, and ranges of segments that a scrub found damaged, asks its leader for an
 * offer by itself (ASK), and says up to which offset: a picture that ends before it is of no use, and a newer one is
 * taken. Then only those segments travel, of the picture; judged by the picture's chains they are written over what
 * stands here, and nothing is installed.
 *
 * Rot at the sender. It checks what it reads of a picture, and gives up a transfer that it cannot read. If the group
 * has dropped records since the picture, a newer one is taken, which may lack what rotted; else whoever leads next
 * sends.
 *
 * Who pins what. A picture pins its segments' files and lets the group's window grow to SNAPSHOT_KEPT_BYTES_MAX, for
 * what comes after it. Pictures are shared by transfers to several replicas, and stay for SNAPSHOT_IDLE_US after the
 * last one.
 *
 * What nobody needs any more goes, looked at once in SNAPSHOT_SWEEP_US:
 *   1. all files of an earlier life, at the start;
 *   2. whatever belongs to a group, or a replica, that is gone (at once);
 *   3. a picture that is not in use and that the log no longer reaches, and any that is older than SNAPSHOT_AGE_US_MAX;
 *      the oldest ones while those held cost more than SNAPSHOT_HELD_BYTES_MAX, and all while the disk is full;
 *   4. what was received of a picture that holds nothing new any more, or that nobody went on sending.
 *
 * Errors. A transfer that fails costs nothing but time: the core is told (RAFT_SNAPSHOT_DONE, not ok) and asks again. A
 * receiver without room for a piece of it first lets go of its own segments that the offer's log start has passed. A
 * chunk that was not asked for is ignored; rows or segments that are not what they should be are thrown away. An
 * install that finds no room after all is tried again each second, and the group stands still until then; one that the
 * disk fails ends the broker, as for checkpoints.
 *
 * Loop thread; what blocks are jobs of the store lane. Bounds: limits.h. */
#ifndef FLOTILLA_BROKER_SNAPSHOT_H
#define FLOTILLA_BROKER_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/peers.h"

struct broker;
struct partition;
struct snapshots;

/* Blocking, at start: removes the files of an earlier life. */
enum err snapshots_new(struct broker *b, struct snapshots **ret_snapshots);
/* Before the groups and the store; NULL is allowed. No job runs any more, or none that will ever end. */
void snapshots_free(struct snapshots *snapshots);

/* The core of this leader names a replica that needs one. RAFT_SNAPSHOT_DONE follows, in this call at the earliest. */
void snapshot_want(struct partition *p, uint64_t replica);
/* This follower has damaged segments: asks its leader for what they should be. Lost words are not repeated. */
void snapshot_ask(struct partition *p);
/* The partition ends here, or may not go on: nothing of it is sent or received any more. */
void snapshot_forget(struct partition *p);
/* Up to where entries need not be kept for a replica that gets a snapshot: the index of its picture, or of the last
 * checkpoint while there is none. */
uint64_t snapshot_floor(const struct partition *p, uint64_t replica);
bool snapshot_is_sent(const struct partition *p); /* to anybody, now or soon */

/* Of peers_handler. */
void snapshot_on_message(void *context, uint64_t broker, const PeerSnapshot *message, const uint8_t *payload,
                         uint32_t payload_size);
void snapshot_on_lane_down(void *context, uint64_t broker);

/* Of broker_turn and broker_timer. */
void snapshot_turn(struct broker *b);
void snapshot_timer(struct broker *b, uint64_t now_us);
uint64_t snapshot_deadline_us(const struct broker *b);
bool snapshot_is_busy(const struct broker *b); /* a job is on the lane */

/* For pages, metrics and tests. */
struct snapshots_state {
    uint32_t waiting, sending, pictures, receiving, installing;
    uint64_t held_bytes;
};
void snapshot_state(const struct broker *b, struct snapshots_state *ret_state);

/* Other limits than limits.h has: tests. */
struct snapshots_limits {
    uint64_t held_bytes, age_us, sweep_us, idle_us, silence_us, retry_us;
    uint32_t chunk_bytes; /* at most SNAPSHOT_CHUNK_BYTES_MAX */
};
void snapshot_limit(struct broker *b, const struct snapshots_limits *limits);

#endif
