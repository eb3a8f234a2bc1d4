/* The state machine of a STATE group: typed operations on rows, kept in memory and carried by checkpoints (the
 * checkpoint is its compaction). So far there is one kind: `__producers`, which gives out producer ids and epochs.
 *
 * `__producers`: row name -> {id, epoch}; a counter row. A fresh id is (group id << 40) | counter: group ids are never
 * reused, so ids are unique for ever. Initialising a named producer again keeps its id and raises its epoch, which
 * fences the earlier holder; after epoch 32767 the name gets a fresh id. Deterministic: a pure function of the applied
 * operations. */
#ifndef FLOTILLA_BROKER_STATE_H
#define FLOTILLA_BROKER_STATE_H

#include "base/buf.h"
#include "broker/partition.h"

struct state_table *state_new(uint64_t group);
void state_free(struct state_table *table);

struct slice state_encode_init(const char *producer_name); /* an OPS payload, caller's reference */

/* Applies one OPS entry; ERR_FORMAT if it cannot be read (then nothing changed). */
enum err state_apply(struct state_table *table, struct slice payload, struct outcome *outcome);

/* Loading from a checkpoint. */
enum err state_put_row(struct state_table *table, const struct meta_state_row *row);

/* The rows changed since the last call, copied into one array for a checkpoint; *ret_rows is owned by the caller (one
 * free, also of the bytes). */
uint32_t state_take_dirty(struct state_table *table, struct meta_state_row **ret_rows);
void state_mark_all_dirty(struct state_table *table); /* all rows are to be written anew */
size_t state_count(const struct state_table *table);

#endif
