/* `sim`: runs seeds, holds a sample of them against themselves, shrinks what fails, and sums up.
 *
 *   sim [SEEDS [FIRST]] [--jobs J] [--twice PERCENT]            seeds FIRST, FIRST + 1 ...; PERCENT of them twice, hash
 *                                                               against hash; --seeds N and --first F say the same
 *   sim ... --no-shrink                                         failures are reported, and not made smaller
 *   sim ... --coverage                                          also what the seeds came by: fault points, fault
 *                                                               classes, checkers; one that stands at 0 fails the run
 *   sim --seed S [--verbose] [--only FAULT,...|none]            one seed; with a story
 *   sim --plants [--whole] [--budget SECONDS] [--plant N]       the planted-bug board, or one of it (sim_plants only);
 *                                                               whole: 2,000 seeds for each if need be
 *   sim --plant N ...                                           any of the above with planted bug N (sim_plants only)
 *   sim fleet ...                                               several brokers: fleet_main.c
 *
 * Seeds run in child processes, so that an assertion of the broker is a failed seed like any other and not the end of
 * the run. Exit 1 when a seed failed. */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/plant.h"
#include "sim_board.h"
#include "sim_child.h"
#include "fleet_main.h"
#include "sim_coverage.h"
#include "sim_options.h"

struct totals {
    const char *commit; /* printed with failures; NULL: not known */
    uint64_t seeds, failed, faults, acked, lives;
    double simulated_s;
    uint64_t last_hash;
    struct coverage coverage;
    bool no_shrink;
};

struct arguments {
    uint64_t seeds, first, jobs, twice_percent, plant, budget_s;
    bool one_seed, verbose, plants, whole, coverage, no_shrink;
    const char *only;   /* fault classes; NULL: as drawn */
    const char *commit; /* of the tree this was built from, for the report */
};

/* --- failures --- */

static bool fails_alike(const struct sim_options *options, const struct sim_result *wanted)
{
    struct sim_result result;
    child_run(options, false, &result);
    return result.failed && strcmp(result.check, wanted->check) == 0;
}

/* Drops fault classes and load one by one while the same checker still fails. */
static void shrink(struct sim_options *options, const struct sim_result *wanted)
{
    for (int i = 0; i < FAULT_CLASSES; i++) {
        struct sim_options smaller = *options;
        smaller.faults[i] = false;
        if (options->faults[i] && fails_alike(&smaller, wanted)) {
            *options = smaller;
        }
    }
    uint32_t *const counts[] = {&options->consumers, &options->producers,   &options->topics,
                                &options->crashes,   &options->records_max, &options->partitions_max};
    const uint32_t least[] = {0, 1, 1, 0, 20, 1};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        while (*counts[i] > least[i]) {
            uint32_t kept = *counts[i];
            *counts[i] = kept / 2 > least[i] ? kept / 2 : least[i];
            if (!fails_alike(options, wanted)) {
                *counts[i] = kept;
                break;
            }
        }
    }
}

static void report(const struct totals *totals, const struct sim_options *options, const struct sim_result *result)
{
    printf("FAILED seed=%llu commit=%s check=%s %s\n", (unsigned long long)options->seed,
           totals->commit == NULL ? "unknown" : totals->commit, result->check, result->text);
    printf("  options: ");
    sim_options_print(options, stdout);
    if (totals->no_shrink)
        return;
    struct sim_options small = *options;
    shrink(&small, result);
    printf("  shrunk:  ");
    sim_options_print(&small, stdout);
    fflush(stdout);
}

/* --- many seeds --- */

static void count(struct totals *totals, const struct sim_result *result)
{
    totals->seeds++;
    totals->failed += result->failed;
    totals->faults += result->faults;
    totals->acked += result->acked;
    totals->lives += result->lives;
    totals->simulated_s += (double)result->simulated_us / 1e6;
    totals->last_hash = result->hash;
}

static void on_result(void *context, uint64_t seed, const struct sim_result *result)
{
    struct totals *totals = context;
    struct sim_options options;
    sim_options_draw(&options, seed);
    count(totals, result);
    coverage_add(&totals->coverage, &options, result);
    if (result->failed) {
        report(totals, &options, result);
    }
}

static double cpu_seconds(void)
{
    double seconds = 0;
    const int whose[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
    for (int i = 0; i < 2; i++) {
        struct rusage usage;
        getrusage(whose[i], &usage);
        seconds += (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec);
        seconds += (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    }
    return seconds;
}

static void summary(const struct totals *totals)
{
    printf("seeds=%llu failed=%llu sim_hours=%.1f cpu_hours=%.3f faults=%llu hash=%016llx\n",
           (unsigned long long)totals->seeds, (unsigned long long)totals->failed, totals->simulated_s / 3600,
           cpu_seconds() / 3600, (unsigned long long)totals->faults, (unsigned long long)totals->last_hash);
}

static int run_many(const struct arguments *arguments)
{
    struct totals totals = {.commit = arguments->commit, .no_shrink = arguments->no_shrink};
    const struct child_batch batch = {.first = arguments->first,
                                      .seeds = arguments->seeds,
                                      .jobs = (uint32_t)arguments->jobs,
                                      .twice_percent = (uint32_t)arguments->twice_percent,
                                      .context = &totals,
                                      .on_result = on_result};
    child_run_batch(&batch);
    uint32_t missing = arguments->coverage ? coverage_print(&totals.coverage) : 0;
    printf("lives=%llu acked=%llu\n", (unsigned long long)totals.lives, (unsigned long long)totals.acked);
    summary(&totals);
    return totals.failed > 0 || missing > 0 ? 1 : 0;
}

/* --- one seed --- */

static void keep_only(struct sim_options *options, const char *only)
{
    for (int i = 0; i < FAULT_CLASSES; i++) {
        const char *name = sim_fault_name((enum sim_fault)i);
        const char *at = strstr(only, name);
        size_t size = strlen(name);
        bool named = at != NULL && (at == only || at[-1] == ',') && (at[size] == ',' || at[size] == '\0');
        options->faults[i] = options->faults[i] && named;
    }
}

static int run_one(const struct arguments *arguments)
{
    struct sim_options options;
    sim_options_draw(&options, arguments->first);
    if (arguments->only != NULL) {
        keep_only(&options, arguments->only);
    }
    sim_options_print(&options, stdout);
    fflush(stdout);
    struct sim_result result;
    if (arguments->verbose) {
        sim_run(&options, true, &result); /* in this process: a debugger may watch */
    } else {
        child_run(&options, true, &result);
    }
    if (result.failed) {
        printf("FAILED check=%s %s\n", result.check, result.text);
    }
    printf("lives=%llu acked=%llu records=%llu events=%llu io_calls=%llu\n", (unsigned long long)result.lives,
           (unsigned long long)result.acked, (unsigned long long)result.records, (unsigned long long)result.events,
           (unsigned long long)result.io_calls);
    struct totals totals = {0};
    count(&totals, &result);
    summary(&totals);
    return result.failed ? 1 : 0;
}

/* --- command line --- */

static void usage(void)
{
    fprintf(stderr, "usage: sim [SEEDS [FIRST]] [--jobs J] [--twice PERCENT] [--coverage] [--no-shrink]\n           "
                    "[--commit ID] [--plant N]\n"
                    "       sim --seed S [--verbose] [--only FAULT,...] [--plant N]\n"
                    "       sim --plants [--whole] [--budget SECONDS] [--plant N] [--jobs J]\n");
    exit(2);
}

static uint64_t number_of(const char *text)
{
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9') {
        usage();
    }
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (*end != '\0' || errno != 0) {
        usage();
    }
    return number;
}

static void parse(int argc, char **argv, struct arguments *ret_arguments)
{
    int places = 0;
    struct arguments a = {.seeds = 2000, .first = 1, .jobs = 1, .twice_percent = 5, .budget_s = 600};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--verbose") == 0) {
            a.verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--plants") == 0) {
            a.plants = true;
            continue;
        }
        if (strcmp(argv[i], "--whole") == 0) {
            a.whole = true;
            continue;
        }
        if (strcmp(argv[i], "--no-shrink") == 0) {
            a.no_shrink = true;
            continue;
        }
        if (strcmp(argv[i], "--coverage") == 0) {
            a.coverage = true;
            continue;
        }
        if (argv[i][0] != '-' && places < 2) {
            *(places++ == 0 ? &a.seeds : &a.first) = number_of(argv[i]);
            continue;
        }
        if (strcmp(argv[i], "--only") == 0 && value != NULL) {
            a.only = value;
        } else if (strcmp(argv[i], "--commit") == 0 && value != NULL) {
            a.commit = value;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            a.seeds = number_of(value);
        } else if (strcmp(argv[i], "--first") == 0) {
            a.first = number_of(value);
        } else if (strcmp(argv[i], "--seed") == 0) {
            a.first = number_of(value);
            a.one_seed = true;
        } else if (strcmp(argv[i], "--jobs") == 0) {
            a.jobs = number_of(value);
        } else if (strcmp(argv[i], "--twice") == 0) {
            a.twice_percent = number_of(value);
        } else if (strcmp(argv[i], "--plant") == 0) {
            a.plant = number_of(value);
        } else if (strcmp(argv[i], "--budget") == 0) {
            a.budget_s = number_of(value);
        } else {
            usage();
        }
        i++;
    }
    *ret_arguments = a;
}

/* What a seed gives back, files of megabytes among it, the next one takes again: neither is left to the kernel, which
 * would bring zeros page by page. */
static void keep_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    keep_memory();
    if (argc > 1 && strcmp(argv[1], "fleet") == 0)
        return fleet_main(argc - 1, argv + 1);
    parse(argc, argv, &arguments);
    if ((arguments.plant != 0 || arguments.plants) && !board_plant((uint32_t)arguments.plant)) {
        fprintf(stderr, "sim: no bugs can be planted in this executable, use sim_plants\n");
        return 2;
    }
    if (arguments.plants) {
        const struct board_options board = {.jobs = (uint32_t)arguments.jobs,
                                            .budget_s = arguments.budget_s,
                                            .only = (uint32_t)arguments.plant,
                                            .is_whole = arguments.whole};
        return board_run(&board);
    }
    return arguments.one_seed ? run_one(&arguments) : run_many(&arguments);
}
