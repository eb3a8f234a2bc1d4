/* Rot with a known address: one bit of one WAL batch, or of one segment file, changes while the broker is down. Who may
 * be damaged by it is known before the broker starts: the groups that the batch holds records of (its successor names
 * them), the group of the file; nobody, if the batch is the last and nothing vouches for it. */
#ifndef FLOTILLA_SIM_ROT_H
#define FLOTILLA_SIM_ROT_H

#include <stdbool.h>

#include "port/disk.h"
#include "sim.h"
#include "sim_check.h"

/* shadow: the durable bytes, read-only (sim_disk_shadow). The broker is down. Tells the check who may be damaged.
 * false: nothing was found to rot. */
bool sim_rot_wal(struct sim_world *world, struct disk *disk, struct disk *shadow, struct check *check);
bool sim_rot_segment(struct sim_world *world, struct disk *disk, struct check *check);

#endif
