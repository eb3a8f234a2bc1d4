/* Runs seeds in child processes: a broken assertion or a wild pointer of the product ends one child, and is the result
 * of one seed. */
#ifndef FLOTILLA_SIM_CHILD_H
#define FLOTILLA_SIM_CHILD_H

#include "sim_run.h"

/* One run. loud: the child's stderr is shown. A child that dies gives check "crash" or "abort". */
void child_run(const struct sim_options *options, bool loud, struct sim_result *ret_result);
/* The same of any kind of run: run(context, ret_result) in a child. */
void child_call(void (*run)(void *context, struct sim_result *ret_result), void *context, bool loud,
                struct sim_result *ret_result);

struct child_batch {
    uint64_t first, seeds;
    uint32_t jobs;            /* children at a time */
    uint32_t seeds_per_child; /* 0: 32 */
    uint32_t twice_percent;   /* of the seeds are run twice; unequal hashes are a failure ("hash") */
    bool stop_at_failure;     /* the seeds behind a failed one may be left out */
    double deadline_s;        /* 0: none; else CLOCK_MONOTONIC: no seed begins later */
    /* A run by its seed; NULL: of one broker, with the options of that seed. */
    void (*run)(uint64_t seed, struct sim_result *ret_result);
    void *context;
    void (*on_result)(void *context, uint64_t seed, const struct sim_result *result); /* in order of seeds */
};
void child_run_batch(const struct child_batch *batch);

#endif
