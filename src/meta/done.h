/* Dedup: the done table (CDM) and the submitted table (CSM) of one group, and the one function that judges a batch.
 *
 * CDM: per producer id the epoch and the last DONE_BATCHES *applied* batches {first, last sequence, offset}. Changed
 * only by apply, so it is a pure function of the applied log, equal on all replicas at equal applied index, and part of
 * the checkpoint.
 *
 * CSM: batches *proposed* by this leader and still in flight, {producer, epoch, first, last, index, term}. Empty after
 * an own LEADER entry was applied: exact.
 *
 * Rules: Kafka's sequence rules (KIP-98, KIP-185) for every producer, named or not. Sequences count records and
 * wrap from 2^31-1 to 0. Batches without producer id (-1) are never judged.
 *
 * Memory: tables own their rows; no I/O; loop thread. */
#ifndef FLOTILLA_META_DONE_H
#define FLOTILLA_META_DONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

struct done_batch {
    int32_t first_sequence;
    int32_t last_sequence;
    int64_t offset; /* of the batch's first record */
};

/* One row of the CDM, in the form in which it is stored and inspected. batches[0] is the oldest. */
struct done_row {
    int64_t producer_id;
    int16_t epoch;
    uint8_t count;
    struct done_batch batches[DONE_BATCHES];
    int64_t last_idle_ms; /* the group's idle clock at the newest batch: expiry counts from here */
};

struct done_table;      /* CDM */
struct submitted_table; /* CSM */

struct done_candidate {
    int64_t producer_id;
    int16_t epoch;
    int32_t first_sequence;
    int32_t records_count;
};

enum done_verdict {
    DONE_GO,           /* next in order */
    DONE_KNOWN,        /* exact match with one of the last five: answered with its offset */
    DONE_IN_FLIGHT,    /* exact match in the CSM: join that waiter (ret index, term) */
    DONE_FENCED,       /* epoch older than the known one */
    DONE_OUT_OF_ORDER, /* a gap, or a new epoch that does not start at 0 */
    DONE_STALE,        /* older than the window, or overlapping it without matching */
    DONE_UNKNOWN,      /* no row and sequence is not 0 */
};

struct done_judgement {
    enum done_verdict verdict;
    int64_t offset;       /* DONE_KNOWN */
    uint64_t index, term; /* DONE_IN_FLIGHT */
};

struct done_table *done_table_new(void);
void done_table_free(struct done_table *table);
struct submitted_table *submitted_table_new(void);
void submitted_table_free(struct submitted_table *table);

/* submitted NULL: as apply judges. Changes nothing. Total: a candidate that no valid batch makes (negative id, epoch or
 * sequence, no records) is OUT_OF_ORDER, so that a bad batch in a log is refused by every replica and kills none. */
struct done_judgement done_judge(const struct done_table *done, const struct submitted_table *submitted,
                                 const struct done_candidate *candidate);
enum err done_verdict_status(enum done_verdict verdict); /* OK for GO, KNOWN, IN_FLIGHT */

/* Apply of a batch judged DONE_GO over the CDM alone, anything else is a bug. Marks the row dirty. */
void done_apply(struct done_table *done, const struct done_candidate *candidate, int64_t offset, int64_t idle_ms);
/* Asked before proposing: false = refuse with ERR_BUSY, a new producer would exceed PRODUCERS_PER_GROUP_MAX. Apply
 * never asks: new producers in flight at the same time may pass the limit by their number. */
bool done_has_room(const struct done_table *done, int64_t producer_id);

/* Proposed / left the log (applied, or cut off). Removal of what is not there is fine. Within one leadership indexes
 * grow; the table is cleared when it ends. */
void submitted_add(struct submitted_table *submitted, const struct done_candidate *candidate, uint64_t index,
                   uint64_t term);
void submitted_remove(struct submitted_table *submitted, int64_t producer_id, uint64_t index, uint64_t term);
void submitted_clear(struct submitted_table *submitted);
size_t submitted_count(const struct submitted_table *submitted);

/* Expiry: forgets every producer whose newest batch is at or before idle_ms on the group's idle clock, oldest first.
 * Their ids are kept for the next checkpoint until done_take_removed. Only apply calls it. Returns how many. */
size_t done_expire(struct done_table *done, int64_t idle_ms);
int64_t done_oldest_ms(struct done_table *done); /* idle clock of the producer that is idle longest; INT64_MAX: none */
/* The producers forgotten since the last call, in no order; the array is the caller's to free. NULL: none. */
int64_t *done_take_removed(struct done_table *done, uint32_t *ret_count);

/* Checkpoint and inspection. Rows are visited in order of producer id; a visitor must not change the table.
 * done_take_dirty visits rows changed since the last take and marks them clean; a checkpoint that failed gives them
 * back with done_mark_dirty. */
void done_put_row(struct done_table *done, const struct done_row *row); /* loading; not dirty */
void done_mark_dirty(struct done_table *done, int64_t producer_id);     /* no such row: nothing */
void done_mark_all_dirty(struct done_table *done);                      /* all rows are to be written anew */
/* NULL: none; valid until the next change. */
const struct done_row *done_get_row(const struct done_table *done, int64_t producer_id);
void done_visit(const struct done_table *done, void (*visit)(void *context, const struct done_row *row), void *context);
void done_take_dirty(struct done_table *done, void (*visit)(void *context, const struct done_row *row), void *context);
size_t done_count(const struct done_table *done);
uint32_t done_hash(const struct done_table *done); /* equal on replicas at equal applied index (B11) */

#endif
