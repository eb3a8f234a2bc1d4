/* What a seed means: the sizes, rates and fault classes of a run. Drawn from the seed, printed with every failure;
 * shrinking changes them and keeps the seed. */
#ifndef FLOTILLA_SIM_OPTIONS_H
#define FLOTILLA_SIM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "broker/config.h"
#include "sim.h"
#include "sim_tree.h"

struct sim_options {
    uint64_t seed;
    bool faults[FAULT_CLASSES_ALL]; /* one broker: the first FAULT_CLASSES of them */

    /* load */
    uint32_t topics;
    uint32_t partitions_max; /* of a topic */
    uint32_t producers;
    uint32_t consumers;
    uint32_t records_max; /* of the whole run */
    uint32_t batch_records_max;
    uint32_t value_bytes_max;
    uint32_t window;       /* batches in flight per producer and partition, 1 .. 5 */
    uint64_t load_us;      /* simulated time of load */
    uint64_t think_us_max; /* between two batches of a producer */

    /* broker */
    uint64_t wal_file_bytes, wal_budget_bytes;
    uint64_t segment_bytes;
    uint64_t retention_bytes; /* with FAULT_RETENTION, for some topics */
    uint64_t snapshot_bytes, snapshot_entries;
    uint32_t timeout_entry_ms;
    int64_t producer_expiry_ms;
    uint32_t connections;
    uint32_t open_files;
    int64_t scrub_period_ms; /* -1: never */
    uint64_t memory_bytes;
    uint64_t inflight_bytes;

    /* faults */
    uint32_t crashes;
    uint64_t crash_calls_max; /* the crash comes within so many I/O calls of a life */
    uint64_t job_us_max, delay_us_max;
    struct tree_cut cut;
};

void sim_options_draw(struct sim_options *options, uint64_t seed);
bool sim_options_expire(const struct sim_options *options);           /* producers are forgotten within a run */
void sim_options_print(const struct sim_options *options, FILE *out); /* one line */
void sim_options_config(const struct sim_options *options, struct config *ret_config);

#endif
