/* Snapshots by hand, for groups of a trio whose members need entries that have left the leader's log: its last
 * checkpoint and segments are put on the other one's disk while that process is dead. */
#ifndef FLOTILLA_SIM_CARRY_H
#define FLOTILLA_SIM_CARRY_H

#include "sim_trio.h"

/* Whoever needs one gets one, from whoever leads in the highest term; processes die and start for it, and whoever finds
 * the group's replica at a start must start it. */
void sim_carry(struct trio *t, uint64_t group);

#endif
