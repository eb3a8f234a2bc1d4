/* Three brokers, of which the third was away too long: for the tests of snapshots. */
#ifndef FLOTILLA_SIM_SNAPSHOT_KIT_H
#define FLOTILLA_SIM_SNAPSHOT_KIT_H

#include "broker/impl.h"
#include "sim_trio.h"

extern struct trio kit_trio;                                                  /* trio_close it */
extern struct snapshots_limits kit_limits;                                    /* of brokers that start from now on */
extern uint64_t kit_sent, kit_installed, kit_resumed, kit_ignored, kit_kills; /* of processes that were counted */

/* One topic of one partition; applied entries leave memory with every `entries`-th checkpoint and each death. */
void kit_open(uint64_t seed, uint32_t entries);
/* The same, with so many records; then broker 3 goes, and the others forget what else it lacks. */
void kit_prepare(uint64_t seed, uint32_t before, uint32_t after);
void kit_down(uint64_t id, bool power_cut); /* if it is up */
void kit_up(uint64_t id);                   /* if it is down */
void kit_count(uint64_t id);                /* adds its counters to those above */
void kit_limit_all(void);                   /* kit_limits for those that are up */
void kit_cut_off(uint64_t id, bool cut);
/* Each is acknowledged; some are of producers with an id. */
void kit_produce(uint32_t records);
/* All but this one die and come back: their logs begin with their last checkpoints then. */
void kit_forget_entries(uint64_t except);

struct partition *kit_partition(uint64_t id);
bool kit_has_caught_up(uint64_t id, uint64_t limit_us);
struct snapshots_state kit_state(uint64_t id);
uint64_t kit_installed_by(uint64_t id); /* in its present life */
uint32_t kit_files(uint64_t id);        /* of snapshots, on its disk */
/* trio_check, and equal offsets, log starts and done tables everywhere. */
void kit_check(void);

#endif
