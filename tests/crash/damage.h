/* Damage at rest, by dice: what a data directory may look like before somebody calls `flotilla repair`. */
#ifndef FLOTILLA_CRASH_DAMAGE_H
#define FLOTILLA_CRASH_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

#define DAMAGE_TEXT_BYTES 160

/* Damages the directory of a broker that is not running so that it hits the group: its segments (bytes, a block, the
 * length, the file), its rows in the checkpoint store, or a batch of the WAL that holds an entry of it and that a later
 * one vouches for. false: the dice chose something that this group has not, and nothing was touched. */
bool damage_group(const char *dir, uint64_t group, struct rng *rng, char ret_text[DAMAGE_TEXT_BYTES]);

/* A row in the checkpoint store says what the group is: without it there is nothing to repair. */
bool damage_is_possible(const char *dir, uint64_t group);

#endif
