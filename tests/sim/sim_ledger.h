/* The ledger: every log entry that ever became durable, and a state machine of its own that replays them. What the
 * broker's tables, offsets and log starts must be is a pure function of that log; this is the function, written a
 * second time and shorter.
 *
 *   R9  nothing counts as persisted before the write that holds it, and all before it, is synced
 *   W2  a durable entry is never another one later
 *   W4  what a checkpoint does not hold is in the WAL: entries, the term, the birth
 *   B3  a producer is not forgotten early: the idle clock of the log is slow at worst
 *   B5  an offset is what the log says
 *   B8  nothing is served above the durable log
 *   B11 the done table is a pure function of the applied log
 *   B13 log start moves by LOG_START entries only, and those by policy: by size, or by time on the log clock, which
 *       follows the wall clock only as far as it may
 *
 * Fed by sim_shadow; every group, also those that no client knows yet. Nothing here calls the broker. */
#ifndef FLOTILLA_SIM_LEDGER_H
#define FLOTILLA_SIM_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "sim.h"

#define LEDGER_BATCHES 5u /* what the done table remembers of a producer */

struct ledger;

enum ledger_kind { LEDGER_OTHER, LEDGER_CLOCK, LEDGER_DATA, LEDGER_START };

struct ledger_entry {
    uint64_t group, index, term;
    enum ledger_kind kind;
    /* CLOCK: LEADER and TIMEOUT entries */
    int64_t clock_ms, elapsed_ms, expire_ms;
    /* START */
    int64_t log_start;
    /* DATA */
    int64_t producer_id;
    int16_t epoch;
    int32_t sequence, records_count;
    uint32_t first; /* id of its first message, 0: none of ours */
    uint32_t size_bytes;
    int64_t max_timestamp;
};

/* -1: none */
struct ledger_policy {
    int64_t retention_bytes, retention_ms;
};

struct ledger_batch {
    int32_t first_sequence, last_sequence;
    int64_t offset; /* of its first record */
};
struct ledger_row {
    int64_t producer_id;
    int16_t epoch;
    uint8_t count;
    struct ledger_batch batches[LEDGER_BATCHES]; /* oldest first */
    int64_t last_idle_ms;
};

/* A group's durable checkpoint, as far as the log decides it. */
struct ledger_picture {
    uint64_t group, applied_index;
    int64_t next_offset, log_start, log_clock_ms, idle_clock_ms;
    const struct ledger_row *rows; /* ascending by producer id */
    uint32_t rows_count;
};

struct ledger *ledger_new(struct sim_world *world);
void ledger_free(struct ledger *ledger);

/* Clients know the group, and it is not being deleted: from now on (until then) it is judged. */
void ledger_watch(struct ledger *ledger, uint64_t group, const char *name);
void ledger_unwatch(struct ledger *ledger, uint64_t group);
bool ledger_is_watched(const struct ledger *ledger, uint64_t group);

/* --- what became durable --- */
void ledger_born(struct ledger *ledger, uint64_t group, const struct ledger_policy *policy);
void ledger_durable(struct ledger *ledger, const struct ledger_entry *entry); /* also again */

/* --- a full reading of what is durable now: begin, what was found, W4 --- */
void ledger_read_begin(struct ledger *ledger);
void ledger_found_birth(struct ledger *ledger, uint64_t group);
void ledger_found_entry(struct ledger *ledger, uint64_t group, uint64_t index);
void ledger_found_term(struct ledger *ledger, uint64_t group, uint64_t term); /* WAL or checkpoint */
void ledger_found_picture(struct ledger *ledger, uint64_t group, uint64_t applied_index);
void ledger_read_end(struct ledger *ledger);

/* --- what the broker says --- */
void ledger_judge_picture(struct ledger *ledger, const struct ledger_picture *picture);               /* B11 R9 */
void ledger_acked(struct ledger *ledger, uint64_t group, uint32_t first, int64_t offset);             /* R9 B5 */
void ledger_served(struct ledger *ledger, uint64_t group, int64_t high_watermark, int64_t log_start); /* B8 B13 */

/* --- questions --- */
bool ledger_has(const struct ledger *ledger, uint64_t group, uint32_t first); /* its entry, and all before it */
int64_t ledger_end(const struct ledger *ledger, uint64_t group);   /* offset behind the durable log; 0: unknown group */
int64_t ledger_start(const struct ledger *ledger, uint64_t group); /* where the durable log moved log start */
int64_t ledger_bytes(const struct ledger *ledger, uint64_t group); /* of batches from log start on */
/* The producer's row as of the whole durable log; false: none. */
bool ledger_find_row(const struct ledger *ledger, uint64_t group, int64_t producer_id, struct ledger_row *ret_row);

#endif
