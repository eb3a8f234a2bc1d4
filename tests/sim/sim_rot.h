/* Rot with a known address: one bit of one WAL batch, or of one segment file, changes while the broker is down. Who may
 * be damaged by it is known before the broker starts: the groups that the batch holds records of (its successor names
 * them), the group of the file; nobody, if the batch is the last and nothing vouches for it. Or bits change under a
 * broker that runs, which has to notice (sim_decay.h). */
#ifndef FLOTILLA_SIM_ROT_H
#define FLOTILLA_SIM_ROT_H

#include <stdbool.h>

#include "port/disk.h"
#include "port/kv.h"
#include "sim.h"
#include "sim_check.h"
#include "sim_decay.h"
#include "sim_disk.h"

/* shadow: the durable bytes, read-only (sim_disk_shadow). The broker is down. Tells the check who may be damaged.
 * false: nothing was found to rot. */
bool sim_rot_wal(struct sim_world *world, struct disk *disk, struct disk *shadow, struct check *check);
bool sim_rot_segment(struct sim_world *world, struct disk *disk, struct check *check);
/* A bit of some row of the checkpoint store. */
bool sim_rot_checkpoint(struct sim_world *world, struct kv *kv);

/* --- while the broker runs: what decays is told to the decay --- */

/* One bit of a batch of the log that another one vouches for, in a file that the broker still needs. It rests: nothing
 * is being written. */
void sim_rot_running_wal(struct sim_world *world, struct sim_disk *disk, struct decay *decay);
/* One bit of a whole row: of the first ones of that type, of this very group, or of the first at or behind it. Types:
 * those of which memory knows better, GMEDS of a group, B, and R of a topic. rounds: as in struct decay_item. */
void sim_rot_running_row(struct sim_world *world, struct kv *kv, char type, uint64_t group, bool is_exact,
                         uint32_t rounds, struct decay *decay);
/* In a copy of the checkpoint store: what decayed is as it was. For those who judge what the broker wrote. */
void sim_rot_undo(const struct decay *decay, struct kv *copy);

#endif
