/* The atlas of damage: which stored batches rotted while the broker ran.
 *
 * With one replica, what rots in a segment is gone; what the broker owes is that it never serves it as if it were good,
 * and that everything else is served. A batch whose length rotted hides its neighbours up to the next entry of the
 * index, or to the end of the segment where no index file could be written. So from the wound to that end CORRUPT is an
 * honest answer; the batches there are read by the checkers first, while they are good, and nothing later has to prove
 * them. */
#ifndef FLOTILLA_SIM_ATLAS_H
#define FLOTILLA_SIM_ATLAS_H

#include "sim.h"
#include "sim_decay.h"
#include "sim_disk.h"

#define ATLAS_WOUNDS_MAX 32

struct sim_wound {
    uint64_t group;
    int64_t base_offset; /* of the segment */
    int64_t first, end;  /* offsets for which CORRUPT is honest */
};

struct sim_atlas {
    struct sim_world *world;
    struct sim_disk *disk;
    struct ledger *ledger;
    struct decay *decay; /* is told of each wound */
    struct sim_wound wounds[ATLAS_WOUNDS_MAX];
    uint32_t count;
    /* A whole good batch that is about to be damaged, or that may no longer be found because of it. */
    void (*witness)(void *context, uint64_t group, const uint8_t *batch, size_t size);
    void *context;
};

/* Damages a sector of some finished segment, of bytes that hold batches; nothing if there is none or the atlas is full.
 * In a segment that is still written one bad header hides, after a start, all batches behind it: nothing but the
 * headers themselves leads to them then. */
void sim_atlas_wound(struct sim_atlas *atlas, uint32_t rounds); /* rounds: as in struct decay_item */

/* Behind the wound that holds the offset; -1: CORRUPT is no honest answer there. */
int64_t sim_atlas_behind(const struct sim_atlas *atlas, uint64_t group, int64_t offset);
bool sim_atlas_knows(const struct sim_atlas *atlas, uint64_t group);                    /* any wound of it */
bool sim_atlas_has(const struct sim_atlas *atlas, uint64_t group, int64_t base_offset); /* of that segment */

#endif
