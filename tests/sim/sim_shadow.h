/* What a power cut now would leave, as the next start would read it: the product's offline WAL reader and checkpoint
 * loader on the durable images of disk and checkpoint store.
 *
 * The quick answer to "is this record durable" is the ledger's, fed with every WAL batch as it is synced; a sample,
 * and every "no", is judged by reading everything. */
#ifndef FLOTILLA_SIM_SHADOW_H
#define FLOTILLA_SIM_SHADOW_H

#include "port/kv.h"
#include "sim_check.h"
#include "sim_disk.h"

struct shadow;

struct shadow *shadow_new(struct sim_world *world, struct sim_disk *disk, struct kv *kv, struct check *check);
void shadow_free(struct shadow *shadow);

void shadow_on_synced(void *context, const char *path, const uint8_t *data, uint64_t offset,
                      uint64_t size);        /* sim_disk's hook */
void shadow_new_life(struct shadow *shadow); /* after a crash: what is not synced may be gone */

/* What stands in the log on the disk is no longer what was written: it is not read, until it has been mended. */
void shadow_rotten(struct shadow *shadow, bool is_rotten);

/* The records [first, first + count) of the group, at `offset` (-1: not known). */
bool shadow_holds(struct shadow *shadow, uint64_t group, uint32_t first, uint32_t count, int64_t offset);
/* A reply says that the group's log is [log_start, high_watermark): B8 and B13 against the durable log. */
void shadow_served(struct shadow *shadow, uint64_t group, int64_t high_watermark, int64_t log_start);
uint64_t shadow_term(struct shadow *shadow, uint64_t group,
                     uint64_t wanted); /* highest durable term; stops looking at `wanted` */
/* S7 and W2 on everything durable; with_segments: reads the segment files too. */
void shadow_check(struct shadow *shadow, bool with_segments);

/* The broker ended in order: S11 on every durable checkpoint. */
void shadow_resting(struct shadow *shadow);

/* What the ledger needs of a log entry; returns how many of the messages 1 .. id_max it holds, from ret_entry->first
 * on. */
struct wal_record;
struct ledger_entry;
uint32_t shadow_read_entry(struct sim_world *world, const struct wal_record *record, uint32_t id_max,
                           struct ledger_entry *ret_entry);

/* A value that carries an id: `size` bytes at data, at least SHADOW_VALUE_BYTES_MIN. */
#define SHADOW_VALUE_BYTES_MIN 20u
void shadow_value_write(uint8_t *data, uint32_t size, uint32_t id, uint64_t salt);
uint32_t shadow_value_id(const uint8_t *data, uint32_t size); /* 0: none of ours, or damaged */

#endif
