/* The judge: what several brokers promise together, held against everything that can be seen of them: each row of a
 * frame as it leaves a process, each broker after each of its turns, each byte as it becomes durable. It knows no
 * schedule and no client; it keeps a log of its own of what was committed (the *ghost*), and of every machine what a
 * power cut now would leave (its *image*).
 *
 *   id   what must hold                                                                          fed by
 *   R1   at most one leader per group and term, over the whole run                               turn, frame_out
 *   R2   a leader only appends: its log neither shrinks nor changes                              turn
 *   R3   one (index, term) is one entry with one history, on every disk                          synced
 *   R4   what was committed is in every later leader's log                                       turn
 *   R5   everybody applies the committed bytes, one index at a time, none twice; a follower
 *        commits only what a leader's appends have reached in its present life                   turn, frame_out
 *   R6   terms, commit, applied, match never fall; next is above match                           turn
 *   R7   a leader counts entries of its own term only                                            turn
 *   R8   no row leaves before term and vote are durable; nobody votes twice in a term            frame_out
 *   R9   what is acknowledged, and what a leader believes of a member, is durable there          frame_out, turn
 *   R10  nothing is cut off only to be stored again as it was; no entry is overwritten           synced
 *   R11  nothing committed is cut off                                                            synced
 *   R12  a term is raised only after majorities would vote for it; no leader votes for others    frame_out, turn
 *   R13  who hears no majority leads no longer than two election timeouts                        turn, delivered
 *   R14  leadership is given to who has the whole log, nothing is proposed meanwhile, not long   frame_out, turn
 *   R15  a read is confirmed by majorities that answered after it was asked, in a term of which
 *        an entry is committed; what is told of the end of a log is not older than the question  frame_out, turn, read
 *   R17  configurations follow one another by joint consensus, one at a time                     turn
 *   R18  votes and commits are counted over the voters of both halves, and nobody else; who is
 *        asked for its vote, whatever it takes itself for, refuses with a reason only           delivered, frame_out,
 * turn R19  a snapshot brings committed state, and takes nothing back                               turn, synced R20
 * who lost anything neither votes nor acknowledges, and counts for nothing                frame_out, turn R21  a leader
 * talks to every member, whatever happens to the others                          turn, frame_out W1   what is
 * committed, and so what is acknowledged to clients, is durable at majorities     turn, acked W2   what was durable is
 * found again after every crash, and joins                            crashed, final Z1   who is published as a leader
 * leads, or led, in that term                                 published B11  equal applied index, equal state: done
 * table, clocks, offsets                           turn B12  a stored picture has segments without a hole; the same
 * offsets are the same bytes       synced, final
 *
 * (R16: there are no leases.) A broken promise is a world_fail with the id; every fact that was held against one is a
 * world_judged, so that a checker that never had anything to judge stands at 0.
 *
 * The owner's duties, in the order in which they come up:
 *
 *   judge_new                    once
 *   judge_machine                for each broker id, before its first start
 *   judge_started                behind broker_new
 *   judge_turn                   behind each broker_turn; one that did nothing may be left out
 *   judge_frame_out              whole frames, when they are given to a link between brokers
 *   judge_delivered              when bytes from another broker are given to a broker
 *   judge_synced                 sim_disk's on_synced
 *   judge_dies                   the process is about to end, its struct broker is still there: a last look
 *   judge_crashed                disk and checkpoint store have met their fate; before the next start
 *   judge_wiped                  instead of it, when the machine got a new, empty disk and store
 *   judge_doubts                 its log or rows are being damaged on purpose: from now on it may lack some
 *   judge_doubts_segments        the same of its segments
 *   judge_trusts                 all that was damaged there has been made good, or is needed no more
 *   judge_replays                before the first frame, if any may come again
 *   judge_acked, judge_read_*    of clients
 *   judge_published              when a broker says who leads a group
 *   judge_final                  at the end, brokers up or down
 *
 * Everything is for one thread. All it costs is O(1) per row and record, and O(groups of the broker) per turn. Memory
 * grows with the log: some 100 bytes per entry and replica. */
#ifndef FLOTILLA_SIM_JUDGE_H
#define FLOTILLA_SIM_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/broker.h"
#include "port/kv.h"
#include "sim.h"
#include "sim_disk.h"
#include "sim_kv.h"

#define JUDGE_BROKERS_MAX 8u

struct judge;
struct wal_record;

/* The world gets the failures and the tally. */
struct judge *judge_new(struct sim_world *world);
void judge_free(struct judge *judge);

/* Somebody who keeps books of his own (fleet_ledger.c). NULL calls are left out. */
struct judge_watcher {
    void *context;
    void (*durable)(void *context, const struct wal_record *record); /* an entry or a birth, anywhere; births again */
    void (*committed)(void *context, uint64_t group, uint64_t index, uint64_t term); /* each entry once, in order */
};
void judge_watch(struct judge *judge, const struct judge_watcher *watcher); /* copied; before the first start */

/* Disk and store are borrowed, until judge_wiped names others or the judge is freed. */
void judge_machine(struct judge *judge, uint64_t id, struct sim_disk *disk, struct kv *kv);

void judge_started(struct judge *judge, uint64_t id, struct broker *broker); /* borrowed until judge_dies */
void judge_dies(struct judge *judge, uint64_t id);                           /* NULL broker or none: nothing */
void judge_exited(struct judge *judge, uint64_t id); /* instead: it ended in the middle of something, nobody may look */
void judge_crashed(struct judge *judge, uint64_t id);
void judge_wiped(struct judge *judge, uint64_t id, struct sim_disk *disk, struct kv *kv);
void judge_doubts(struct judge *judge, uint64_t id);
void judge_doubts_segments(struct judge *judge, uint64_t id);
void judge_trusts(struct judge *judge, uint64_t id);
/* What this disk holds of the replica is all that it ever had; false also of who was never heard of. */
bool judge_is_sound(const struct judge *judge, uint64_t group, uint64_t replica);
/* Frames may be delivered again, also to later lives: what was sent once counts for all of them. */
void judge_replays(struct judge *judge);
/* Somebody deletes the group: from now on its replicas may be gone, whole or in part. */
void judge_deleted(struct judge *judge, uint64_t group);

void judge_turn(struct judge *judge, uint64_t id);

/* `size` bytes of whole frames on a link from one broker to another; also the greeting and pings. */
void judge_frame_out(struct judge *judge, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size);
/* The bytes as the broker is about to read them, from the beginning of a frame; NULL: nobody knows where they stand. */
void judge_delivered(struct judge *judge, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size);

/* As sim_disk calls it; path NULL: anything may have become durable. */
void judge_synced(struct judge *judge, uint64_t id, const char *path, const uint8_t *data, uint64_t offset,
                  uint64_t size);

/* A client was told OK for this batch (as it sent it). */
void judge_acked(struct judge *judge, uint64_t group, const uint8_t *batch, size_t size);
/* An answer is about to be judged: what the group's replicas have committed by now counts, behind no turn though. */
void judge_catch_up(struct judge *judge, uint64_t group);
/* Around a question about the end of a log that only a leader may answer, after a round of its followers: begin's
 * answer is what the reply has to reach. */
int64_t judge_read_begin(struct judge *judge, uint64_t group);
void judge_read_end(struct judge *judge, uint64_t group, int64_t begun, int64_t high_watermark);

/* The registry is told that `broker` leads the group in `term`. */
void judge_published(struct judge *judge, uint64_t group, uint64_t broker, uint64_t term);

/* Reads every durable store and segment anew (W2, B12). */
void judge_final(struct judge *judge);

#endif
