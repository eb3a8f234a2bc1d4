/* The workload: a thousand operations on one broker, decided by a seed, that make rolls, recycling, checkpoints,
 * retention, births and deaths of topics, named producers, kills and clean stops happen; and the marks of what was
 * asked and promised. */
#ifndef FLOTILLA_CRASH_WORKLOAD_H
#define FLOTILLA_CRASH_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

struct workload_counts {
    uint32_t operations;
    uint32_t batches, acked;
    uint32_t topics_made, topics_deleted;
    uint32_t kills, stops;
};

/* Runs in `dir` (made, must not exist) while a tape is recorded. false: `why` says what the broker did wrong. */
bool workload_run(const char *dir, uint64_t seed, uint32_t operations, struct workload_counts *ret_counts,
                  char why[256]);

#endif
