/* What a batch of seeds came by: the fault points, the fault classes that were drawn and struck, the checkers that had
 * something to judge. Seeds that all pass say nothing of what none of them tried. */
#ifndef FLOTILLA_SIM_COVERAGE_H
#define FLOTILLA_SIM_COVERAGE_H

#include <stdint.h>

#include "sim_options.h"
#include "sim_run.h"

struct coverage {
    uint64_t visits[POINTS], crashes[POINTS], delays[POINTS];
    uint64_t marks[MARKS], marked_seeds[MARKS];
    uint64_t drawn[FAULT_CLASSES_ALL];  /* seeds that have the class */
    uint64_t struck[FAULT_CLASSES_ALL]; /* those of them in which it happened */
    uint64_t faults[FAULT_CLASSES_ALL]; /* how often, in all of them */
    uint64_t judged[JUDGES_ALL];        /* facts held against each promise */
    uint64_t judged_seeds[JUDGES_ALL];  /* in so many seeds */
};

void coverage_add(struct coverage *coverage, const struct sim_options *options, const struct sim_result *result);
/* Three tables on stdout; returns how many points, classes and checkers stand at 0. */
uint32_t coverage_print(const struct coverage *coverage);
/* The same of fleets: the classes that their seeds drew, all checkers, and the coverage marks (base/mark.h). */
uint32_t coverage_print_fleet(const struct coverage *coverage);

#endif
