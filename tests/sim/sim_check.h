/* The checkers: the promises of the broker, held against a history of what was sent, answered, read and found on the
 * disk.
 *
 * Ids are those of the project's invariant list:
 *   W1  an answer "ok" leaves only when the records would survive a power cut at that very moment
 *   W2  a restart recovers the acknowledged state or a later one, nothing of another group, nothing nobody sent
 *   R8  a term is durable before its leader acts in it, and no two lives act in one term
 *   B1  no acknowledged message is lost
 *   B2  what was refused is never seen: every answer but "ok", "deadline passed" and "outcome unknown" is final for the
 *       attempt it answers
 *   B3  a message is at one offset, whatever was retried
 *   B4  per producer and partition: order, no gap
 *   B5  a repeat is answered with the first offset; one that is older than the window, of an older epoch or of a
 *       forgotten producer each with its own status
 *   B6  a producer's epochs rise, ids are its own, and an older epoch never writes after a newer one
 *   B7  offsets are dense; the same offset holds the same bytes for ever
 *   B8  high watermark and log start never go back
 *   B13 log start moves only where retention was asked for
 *   B14 what is no batch is not stored
 *   W8  a greedy partition keeps no idle one waiting
 *   W3, W7 rot damages those it hit and nobody else
 *   S11 a restart at any point leads to the same state
 *   W6  a group id is never given out twice
 *   S7  applied index, done table, segment end and manifest in the checkpoint store belong to one moment
 *
 * The history is the ghost: every message that was ever sent, every offset that was ever read. Nothing here calls the
 * broker; feeding it by hand is how its own tests show that each checker trips (test_sim_check.c). Failures go to
 * world_fail. */
#ifndef FLOTILLA_SIM_CHECK_H
#define FLOTILLA_SIM_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "sim.h"

struct check;
struct ledger;

enum check_acks { CHECK_ACKS_ALL, CHECK_ACKS_LEADER, CHECK_ACKS_NONE };

struct check *check_new(struct sim_world *world);
void check_free(struct check *check);
struct ledger *check_ledger(const struct check *check); /* the durable log (sim_ledger.h); the check's own */

/* --- what clients did --- */

void check_group_born(struct check *check, uint64_t group, const char *name); /* W6 */
void check_group_expires(struct check *check, uint64_t group); /* it has retention: log start may move (else B13) */
void check_group_deleted(struct check *check, uint64_t group); /* asked for: from now on it may be gone */
bool check_group_is_deleted(const struct check *check, uint64_t group);

/* A record that is about to be sent for the first time; returns its id, which the record carries in its value. sequence
 * -1: no producer id. */
struct check_record {
    uint64_t group;
    int64_t producer_id;
    int16_t epoch;
    int32_t sequence;
    enum check_acks acks;
};
uint32_t check_sent(struct check *check, const struct check_record *record);
void check_set_crc(struct check *check, uint32_t id, uint32_t value_crc); /* of the value's bytes, which hold the id */
void check_resent(struct check *check, uint32_t first, uint32_t count);

/* --- what the broker answered, at the moment the answer leaves --- */

/* durable: the shadow holds all of the records [first, first + count). offset -1: the answer names none. */
void check_acked(struct check *check, uint32_t first, uint32_t count, int64_t offset, bool durable); /* W1 B3 B5 B7 */
/* Any other answer to one attempt (enum err, base/err.h): B2 and B5. */
void check_refused(struct check *check, uint32_t first, uint32_t count, uint32_t status);
void check_producers_expire(struct check *check); /* the done table forgets some while the run lasts */
void check_term(struct check *check, uint64_t group, uint64_t term, uint64_t life, bool durable); /* R8 */
void check_high_watermark(struct check *check, uint64_t group, int64_t offset);                   /* B8 */
void check_log_start(struct check *check, uint64_t group, int64_t offset);                        /* B8 */
void check_producer(struct check *check, const char *name, int64_t producer_id,
                    int32_t epoch); /* B6; name "": anonymous */
/* The same with several brokers, whose answers may overtake each other: it was asked for when `floor` was the newest
 * epoch that anybody had been given (check_epoch). */
void check_producer_since(struct check *check, const char *name, int64_t producer_id, int32_t epoch, int32_t floor);
int32_t check_epoch(const struct check *check, const char *name); /* -1: none yet, or anonymous */

/* Rot (W3, W7): from now on only these groups may answer CORRUPT; without any call of the second kind, all may. */
void check_rot_has_address(struct check *check);
void check_may_be_damaged(struct check *check, uint64_t group);
void check_corrupt(struct check *check, uint64_t group); /* it did answer so */

/* --- what was read --- */

struct check_seen {
    uint32_t id; /* 0: the value is none that was ever sent */
    uint32_t value_crc;
    int64_t producer_id;
    int16_t epoch;
    int32_t sequence;
};
/* A batch as fetched: expected = the offset at which the reader stood. B7: the first batch contains it, later ones
 * start at it. */
void check_batch(struct check *check, uint64_t group, int64_t expected, int64_t base, int32_t count, bool is_first);
void check_read(struct check *check, uint64_t group, int64_t offset,
                const struct check_seen *seen); /* W2 B2 B3 B4 B7 */
/* A restarted broker serves the group up to high_watermark (W2), and everything below was read (final: B1). */
void check_recovered(struct check *check, uint64_t group, int64_t high_watermark);
void check_complete(struct check *check, uint64_t group, int64_t log_start, int64_t high_watermark);

/* --- what stands on the disk --- */

/* A log entry of the durable WAL: its data entry holds the records [first, first + count); count 0 for other types. */
void check_entry(struct check *check, uint64_t group, uint64_t index, uint64_t term, uint32_t first,
                 uint32_t count); /* W2 */

struct check_image_segment {
    int64_t base_offset, end_offset;
    const char
        *fault; /* NULL: the durable bytes that its row calls valid are there and hold batches from base to end */
};
struct check_image_done {
    int64_t producer_id;
    int16_t epoch;
    int32_t last_sequence;
    int64_t last_offset; /* of the first record of the last batch */
};
/* A group's durable checkpoint. */
struct check_image {
    uint64_t group;
    uint64_t applied_index;
    int64_t next_offset, log_start;
    const struct check_image_segment *segments;
    uint32_t segments_count;
    const struct check_image_done *done; /* ascending by producer id */
    uint32_t done_count;
};
void check_image(struct check *check, const struct check_image *image); /* S7 */

/* S11: the state that stands in the durable checkpoint after an end in order. The first one is kept, later ones are
 * held against it: nothing was written in between. */
void check_resting(struct check *check, const struct check_image *image);

/* --- questions --- */
bool check_is_acked(const struct check *check, uint32_t id);
int64_t check_offset_of(const struct check *check, uint32_t id); /* -1: not known */
uint32_t check_messages(const struct check *check);              /* ids are 1 .. this */
uint32_t check_acked_count(const struct check *check);
int64_t check_scanned_to(const struct check *check, uint64_t group);

#endif
