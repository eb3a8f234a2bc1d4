/* `sim fleet`: seeds of several brokers, as `sim` runs those of one.
 *
 *   sim fleet [SEEDS [FIRST]] [--jobs J]    seeds FIRST, FIRST + 1 ...
 *      --twice PERCENT                      so many of them twice, hash against hash; 100 by default
 *      --coverage                           also what they came by, and why seeds are void
 *      --corpus FILE                        first the seeds of that file: a line each
 *      --no-shrink, --commit ID             as for one broker
 *   sim fleet --matrix                      short runs of every combination of troubles (fleet_matrix.c);
 *      --seed N                             the N-th of them, with a story
 *   sim fleet --seed S [--verbose]          one seed; with a story
 *
 *   --only FAULT,...|none  --brokers N  --groups N  --long-log    change what the seeds mean; the last: nobody ever
 *                                                                 needs a snapshot
 *   --plant N                                                     with planted bug N (sim_plants only)
 *
 * Exit 1 when a seed failed. A void seed (fleet.h) is no failure and no proof; the last line counts both. */
#include "fleet_main.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/assert.h"
#include "fleet.h"
#include "sim_board.h"
#include "sim_child.h"
#include "sim_coverage.h"

struct arguments {
    uint64_t seeds, first, jobs, twice_percent, brokers, groups, plant;
    bool one_seed, verbose, coverage, no_shrink, long_log, matrix;
    const char *only, *commit, *corpus;
};

struct totals {
    const struct arguments *arguments;
    uint64_t seeds, failed, is_void, faults, acked, lives, events, unrecoverable;
    double simulated_s;
    uint64_t hash; /* of all seeds; of one: its own */
    struct coverage coverage;
};

/* --- one run --- */

static void draw(struct fleet_options *options, const struct arguments *a, uint64_t seed)
{
    fleet_options_draw(options, seed);
    if (a->brokers > 0) {
        options->brokers = (uint32_t)a->brokers;
        options->replicas = options->replicas < options->brokers ? options->replicas : options->brokers;
    }
    if (a->groups > 0) {
        options->groups = (uint32_t)a->groups;
        options->topics = options->topics < options->groups ? options->topics : options->groups;
    }
    options->has_long_log |= a->long_log;
    fleet_options_keep_logs(options);
    for (int i = 0; i < FAULT_CLASSES_ALL && a->only != NULL; i++) {
        const char *name = sim_fault_name((enum sim_fault)i);
        const char *at = strstr(a->only, name);
        size_t size = strlen(name);
        bool named = at != NULL && (at == a->only || at[-1] == ',') && (at[size] == ',' || at[size] == '\0');
        options->one.faults[i] = options->one.faults[i] && named;
    }
}

static void run_options(void *context, struct sim_result *ret_result)
{
    fleet_run(context, false, ret_result);
}

static const struct arguments *drawn_with; /* for run_seed, which knows its seed only */

static void run_seed(uint64_t seed, struct sim_result *ret_result)
{
    struct fleet_options options;
    draw(&options, drawn_with, seed);
    fleet_run(&options, false, ret_result);
}

/* --- failures --- */

static bool fails_alike(const struct fleet_options *options, const struct sim_result *wanted)
{
    struct fleet_options copy = *options;
    struct sim_result result;
    child_call(run_options, &copy, false, &result);
    return result.failed && strcmp(result.check, wanted->check) == 0;
}

/* Drops fault classes one by one, then machines, groups and load, while the same checker still fails. */
static void shrink(struct fleet_options *options, const struct sim_result *wanted)
{
    for (int i = 0; i < FAULT_CLASSES_ALL; i++) {
        struct fleet_options smaller = *options;
        smaller.one.faults[i] = false;
        if (options->one.faults[i] && fails_alike(&smaller, wanted)) {
            *options = smaller;
        }
    }
    uint32_t *const counts[] = {&options->groups, &options->topics, &options->brokers, &options->one.producers,
                                &options->one.crashes};
    const uint32_t least[] = {1, 1, options->replicas, 1, 0};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        while (*counts[i] > least[i]) {
            uint32_t kept = *counts[i];
            *counts[i] = kept / 2 > least[i] ? kept / 2 : least[i];
            bool is_valid = options->topics <= options->groups;
            if (!is_valid || !fails_alike(options, wanted)) {
                *counts[i] = kept;
                break;
            }
        }
    }
}

static void report(const struct totals *totals, const struct fleet_options *options, const struct sim_result *result)
{
    const char *commit = totals->arguments->commit;
    printf("FAILED fleet seed=%llu commit=%s check=%s %s\n", (unsigned long long)options->one.seed,
           commit == NULL ? "unknown" : commit, result->check, result->text);
    printf("  options: ");
    fleet_options_print(options, stdout);
    fflush(stdout);
    if (totals->arguments->no_shrink)
        return;
    struct fleet_options small = *options;
    shrink(&small, result);
    printf("  shrunk:  ");
    fleet_options_print(&small, stdout);
    fflush(stdout);
}

/* --- many seeds --- */

static void count(struct totals *totals, const struct sim_result *result)
{
    totals->seeds++;
    totals->failed += result->failed;
    totals->is_void += result->is_void;
    totals->faults += result->faults;
    totals->acked += result->acked;
    totals->lives += result->lives;
    totals->events += result->events;
    totals->unrecoverable += result->unrecoverable;
    totals->simulated_s += (double)result->simulated_us / 1e6;
    totals->hash = totals->hash * 0x9e3779b97f4a7c15u ^ result->hash;
}

static void on_result(void *context, uint64_t seed, const struct sim_result *result)
{
    struct totals *totals = context;
    struct fleet_options options;
    draw(&options, totals->arguments, seed);
    count(totals, result);
    coverage_add(&totals->coverage, &options.one, result);
    if (result->failed) {
        report(totals, &options, result);
    } else if (result->is_void && totals->arguments->coverage) {
        printf("void seed=%llu: %s\n", (unsigned long long)seed, result->text);
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
    double cpu_s = cpu_seconds();
    printf("fleet seeds=%llu failed=%llu void=%llu sim_hours=%.1f cpu_hours=%.3f speed=%.0f lives=%llu acked=%llu "
           "events=%llu faults=%llu unrecoverable=%llu hash=%016llx\n",
           (unsigned long long)totals->seeds, (unsigned long long)totals->failed, (unsigned long long)totals->is_void,
           totals->simulated_s / 3600, cpu_s / 3600, totals->simulated_s / cpu_s, (unsigned long long)totals->lives,
           (unsigned long long)totals->acked, (unsigned long long)totals->events, (unsigned long long)totals->faults,
           (unsigned long long)totals->unrecoverable, (unsigned long long)totals->hash);
}

static void run_batch(struct totals *totals, uint64_t first, uint64_t seeds)
{
    const struct arguments *a = totals->arguments;
    const struct child_batch batch = {.first = first,
                                      .seeds = seeds,
                                      .jobs = (uint32_t)a->jobs,
                                      .twice_percent = (uint32_t)a->twice_percent,
                                      .run = run_seed,
                                      .context = totals,
                                      .on_result = on_result};
    child_run_batch(&batch);
}

/* Lines of a seed each; what stands behind it, and lines that begin with #, are for people. */
static void run_corpus(struct totals *totals, const char *path)
{
    char line[512];
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fprintf(stderr, "sim fleet: cannot read %s\n", path);
        exit(2);
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] >= '0' && line[0] <= '9') {
            run_batch(totals, strtoull(line, NULL, 10), 1);
        }
    }
    fclose(file);
}

static int run_many(const struct arguments *arguments)
{
    static struct totals totals;
    totals.arguments = arguments;
    if (arguments->corpus != NULL) {
        run_corpus(&totals, arguments->corpus);
    }
    run_batch(&totals, arguments->first, arguments->seeds);
    if (arguments->coverage) {
        coverage_print_fleet(&totals.coverage);
    }
    summary(&totals);
    return totals.failed > 0 ? 1 : 0;
}

static int run_one(const struct arguments *arguments)
{
    static struct totals totals;
    struct fleet_options options;
    struct sim_result result;
    totals.arguments = arguments;
    draw(&options, arguments, arguments->first);
    fleet_options_print(&options, stdout);
    fflush(stdout);
    if (arguments->verbose) {
        fleet_run(&options, true, &result); /* in this process: a debugger may watch */
    } else {
        child_call(run_options, &options, true, &result);
    }
    if (result.failed || result.is_void) {
        printf("%s check=%s %s\n", result.failed ? "FAILED" : "void", result.check, result.text);
    }
    count(&totals, &result);
    summary(&totals);
    return result.failed ? 1 : 0;
}

/* --- command line --- */

static void usage(void)
{
    fprintf(stderr, "usage: sim fleet [SEEDS [FIRST]] [--jobs J] [--twice PERCENT] [--coverage] [--no-shrink]\n"
                    "           [--commit ID] [--corpus FILE] [--brokers N] [--groups N] [--long-log]\n"
                    "       sim fleet --matrix [--seed N]\n"
                    "       sim fleet --seed S [--verbose] [--only FAULT,...] [--brokers N] [--groups N] [--long-log]\n"
                    "       any of them: [--plant N]\n");
    exit(2);
}

static uint64_t number_of(const char *text)
{
    char *end = NULL;
    uint64_t number = text != NULL && text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
    if (end == NULL || *end != '\0') {
        usage();
    }
    return number;
}

static bool parse_flag(struct arguments *a, const char *name)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"--verbose", &a->verbose},
                 {"--coverage", &a->coverage},
                 {"--no-shrink", &a->no_shrink},
                 {"--long-log", &a->long_log},
                 {"--matrix", &a->matrix}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(name, flags[i].name) == 0) {
            *flags[i].flag = true;
            return true;
        }
    }
    return false;
}

static void parse_value(struct arguments *a, const char *name, const char *value)
{
    const struct {
        const char *name;
        uint64_t *number;
        const char **text;
    } values[] = {
        {"--jobs", &a->jobs, NULL},     {"--twice", &a->twice_percent, NULL}, {"--seed", &a->first, NULL},
        {"--first", &a->first, NULL},   {"--seeds", &a->seeds, NULL},         {"--brokers", &a->brokers, NULL},
        {"--groups", &a->groups, NULL}, {"--only", NULL, &a->only},           {"--plant", &a->plant, NULL},
        {"--commit", NULL, &a->commit}, {"--corpus", NULL, &a->corpus}};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        if (strcmp(name, values[i].name) == 0 && value != NULL) {
            if (values[i].number != NULL) {
                *values[i].number = number_of(value);
            } else {
                *values[i].text = value;
            }
            a->one_seed = a->one_seed || strcmp(name, "--seed") == 0;
            return;
        }
    }
    usage();
}

int fleet_main(int argc, char **argv)
{
    static struct arguments a = {.seeds = 500, .first = 1, .jobs = 1, .twice_percent = 100};
    int places = 0;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-' && places < 2) {
            *(places++ == 0 ? &a.seeds : &a.first) = number_of(argv[i]);
        } else if (!parse_flag(&a, argv[i])) {
            parse_value(&a, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
            i++;
        }
    }
    if (a.brokers > FLEET_BROKERS_MAX || a.groups > FLEET_GROUPS_MAX) {
        usage();
    }
    if (a.plant != 0 && !board_plant((uint32_t)a.plant)) {
        fprintf(stderr, "sim fleet: no bugs can be planted in this executable, use sim_plants\n");
        return 2;
    }
    drawn_with = &a;
    if (a.matrix) {
        return a.one_seed ? fleet_matrix_one((uint32_t)a.first) : fleet_matrix();
    }
    return a.one_seed ? run_one(&a) : run_many(&a);
}
