/* Sums, and the three tables. */
#include "sim_coverage.h"

#include <inttypes.h>
#include <stdio.h>

void coverage_add(struct coverage *coverage, const struct sim_options *options, const struct sim_result *result)
{
    for (int i = 0; i < POINTS; i++) {
        coverage->visits[i] += result->points.visits[i];
        coverage->crashes[i] += result->points.crashes[i];
        coverage->delays[i] += result->points.delays[i];
    }
    for (int i = 0; i < FAULT_CLASSES; i++) {
        coverage->drawn[i] += options->faults[i];
        coverage->struck[i] += options->faults[i] && result->tally.faults[i] > 0;
        coverage->faults[i] += result->tally.faults[i];
    }
    for (int i = 0; i < JUDGES; i++) {
        coverage->judged[i] += result->tally.judged[i];
        coverage->judged_seeds[i] += result->tally.judged[i] > 0;
    }
}

static uint32_t is_missing(const char *what, const char *name, uint64_t count)
{
    if (count == 0) {
        printf("FAILED %s %s: never seen\n", what, name);
    }
    return count == 0;
}

uint32_t coverage_print(const struct coverage *coverage)
{
    uint32_t missing = 0;
    printf("%-22s %10s %8s %8s\n", "fault point", "visits", "crashes", "delays");
    for (int i = 0; i < POINTS; i++) {
        const char *name = sim_point_name((enum point)i);
        printf("%-22s %10" PRIu64 " %8" PRIu64 " %8" PRIu64 "\n", name, coverage->visits[i], coverage->crashes[i],
               coverage->delays[i]);
        missing += is_missing("point", name, coverage->visits[i]);
    }
    printf("%-22s %10s %8s %8s\n", "fault class", "times", "struck", "drawn");
    for (int i = 0; i < FAULT_CLASSES; i++) {
        const char *name = sim_fault_name((enum sim_fault)i);
        printf("%-22s %10" PRIu64 " %8" PRIu64 " %8" PRIu64 "\n", name, coverage->faults[i], coverage->struck[i],
               coverage->drawn[i]);
        missing += is_missing("class", name, coverage->struck[i]);
    }
    printf("%-22s %10s %8s\n", "checker", "judged", "seeds");
    for (int i = 0; i < JUDGES; i++) {
        const char *name = sim_judge_name((enum sim_judge)i);
        printf("%-22s %10" PRIu64 " %8" PRIu64 "\n", name, coverage->judged[i], coverage->judged_seeds[i]);
        missing += is_missing("checker", name, coverage->judged[i]);
    }
    return missing;
}
