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
    for (int i = 0; i < MARKS; i++) {
        coverage->marks[i] += result->marks[i];
        coverage->marked_seeds[i] += result->marks[i] > 0;
    }
    for (int i = 0; i < FAULT_CLASSES_ALL; i++) {
        coverage->drawn[i] += options->faults[i];
        coverage->struck[i] += options->faults[i] && result->tally.faults[i] > 0;
        coverage->faults[i] += result->tally.faults[i];
    }
    for (int i = 0; i < JUDGES_ALL; i++) {
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

/* Where a broker makes topics by itself, because it is alone: brokers of a fleet ask the controller. */
static bool is_point_of_one(int which)
{
    return which == POINT_TOPIC_RESERVED || which == POINT_TOPIC_PUT;
}

static void print_points(const struct coverage *coverage, int points, uint32_t *io_missing)
{
    printf("%-22s %10s %8s %8s\n", "fault point", "visits", "crashes", "delays");
    for (int i = 0; i < points; i++) {
        const char *name = sim_point_name((enum point)i);
        printf("%-22s %10" PRIu64 " %8" PRIu64 " %8" PRIu64 "\n", name, coverage->visits[i], coverage->crashes[i],
               coverage->delays[i]);
        if (points == POINTS_OF_ONE || !is_point_of_one(i)) {
            *io_missing += is_missing("point", name, coverage->visits[i]);
        }
    }
}

static void print_faults(const struct coverage *coverage, int classes, bool drawn_only, uint32_t *io_missing)
{
    printf("%-22s %10s %8s %8s\n", "fault class", "times", "struck", "drawn");
    for (int i = 0; i < classes; i++) {
        const char *name = sim_fault_name((enum sim_fault)i);
        if (drawn_only && coverage->drawn[i] == 0)
            continue;
        printf("%-22s %10" PRIu64 " %8" PRIu64 " %8" PRIu64 "\n", name, coverage->faults[i], coverage->struck[i],
               coverage->drawn[i]);
        *io_missing += is_missing("class", name, coverage->struck[i]);
    }
}

static void print_marks(const struct coverage *coverage, uint32_t *io_missing)
{
    static const char *const names[] = {
#define MARK_TEXT(name, text) text,
        MARK_TABLE(MARK_TEXT)
#undef MARK_TEXT
    };
    printf("%-22s %10s %8s\n", "mark", "times", "seeds");
    for (int i = 0; i < MARKS; i++) {
        printf("%-22s %10" PRIu64 " %8" PRIu64 "\n", names[i], coverage->marks[i], coverage->marked_seeds[i]);
        *io_missing += is_missing("mark", names[i], coverage->marks[i]);
    }
}

/* Held by checkers that read one broker's disk, or follow its rot: what several owe is R20, W2 and B12. */
static bool is_judge_of_one(int which)
{
    return which == JUDGE_W7 || which == JUDGE_W8 || which == JUDGE_S3 || which == JUDGE_S7 || which == JUDGE_S10;
}

static void print_judges(const struct coverage *coverage, int judges, uint32_t *io_missing)
{
    printf("%-22s %10s %8s\n", "checker", "judged", "seeds");
    for (int i = 0; i < judges; i++) {
        const char *name = sim_judge_name((enum sim_judge)i);
        printf("%-22s %10" PRIu64 " %8" PRIu64 "\n", name, coverage->judged[i], coverage->judged_seeds[i]);
        if (judges == JUDGES || !is_judge_of_one(i)) {
            *io_missing += is_missing("checker", name, coverage->judged[i]);
        }
    }
}

uint32_t coverage_print(const struct coverage *coverage)
{
    uint32_t missing = 0;
    print_points(coverage, POINTS_OF_ONE, &missing);
    print_faults(coverage, FAULT_CLASSES, false, &missing);
    print_judges(coverage, JUDGES, &missing);
    return missing;
}

uint32_t coverage_print_fleet(const struct coverage *coverage)
{
    uint32_t missing = 0;
    print_points(coverage, POINTS, &missing);
    print_faults(coverage, FAULT_CLASSES_ALL, true, &missing);
    print_judges(coverage, JUDGES_ALL, &missing);
    print_marks(coverage, &missing);
    return missing;
}
