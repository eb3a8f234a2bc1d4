/* Power cuts during `flotilla repair --accept-loss`, at every call of it.
 *
 * A broker runs a short workload and is killed; its directory is damaged (damage.c); some are started once more, so
 * that the damage is marked. The real command repairs it with the recorder preloaded, and explore.c makes the states of
 * that tape. In each of them
 *   - a start serves of the repaired partition either what it did before the repair, or CORRUPT for all of it (the
 *     mark), or what it does after the repair; other partitions serve what they always did
 *   - a second repair, whether a broker was started in between or not, ends well, and leaves the records, and the
 * files, of a repair that was never broken off; and the partition takes new ones. Of the repair itself: every batch
 * that was served before it is served behind it, at its offset, and nothing is CORRUPT any more. */
#ifndef FLOTILLA_CRASH_REPAIRS_H
#define FLOTILLA_CRASH_REPAIRS_H

#include <stdbool.h>
#include <stdint.h>

struct repairs_options {
    const char *dir;         /* for everything; must exist */
    uint64_t first, repairs; /* seeds: one damaged directory each */
    uint64_t states;         /* of each, about */
    uint64_t workers;
    uint64_t nested_every, nested_states; /* as explore.h says: the second repair is broken off too */
    uint64_t failures_max;
    bool keep;
    int64_t only_point;
    const char *only_fates;
};

/* 0: no state failed; 1: some did; 3: too few directories could be damaged. */
int repairs_run(const struct repairs_options *options);

#endif
