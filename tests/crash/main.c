/* crash: what does the broker find after a power cut, whenever it comes?
 *
 * For a newcomer, the whole of it. A program that writes to a disk does not know what is on it: the kernel writes back
 * what it likes when it likes, until a sync returns. So a power cut leaves one of very many disks, and the broker must
 * keep its promises on each of them. Faults of this kind hide from tests that kill processes (the page cache survives a
 * kill), and from the simulator (which has a disk of its own). Here the real file calls of src/os and the real LMDB are
 * tried, on states that are made, not waited for:
 *
 *   1. workload.c runs a broker through a thousand operations, with recorder.c preloaded. The recorder writes a tape of
 *      all calls that change files; the workload adds marks: "asked for", "was promised".
 *   2. disk_model.c plays the tape. At each of its points it knows what is durable and what is pending.
 *   3. explore.c chooses states of each point: which pending changes are on the disk, which are torn. It makes each as
 *      a real directory and opens it in a child.
 *   4. verify.c starts the broker there (host.c) and holds what it serves against oracle.c, which has the promises.
 *
 * repairs.c does the same with `flotilla repair` on damaged directories.
 *
 * Everything follows from the seed: a failure is printed with the options that show it again.
 *
 * Exit codes: 0 no state failed, 1 some did, 2 usage, 3 the workload itself failed, or hardly anything was damaged. */
#include <argp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/plant.h"
#include "explore.h"
#include "repairs.h"
#include "sweep.h"
#include "tape.h"
#include "workload.h"

#define WORKERS_MAX 16

#ifdef FLOTILLA_PLANTS
unsigned plant_active;
#endif

struct arguments {
    uint64_t seeds, first, operations, states, workers, nested_every, nested_states, plant, failures_max;
    const char *dir, *fates;
    int64_t point;
    bool keep, board;
    const char *sites, *script;
    uint64_t sweep, variant;
    int64_t call;
    uint64_t repairs;
};

struct run {
    struct workload_counts workload;
    struct explore_counts counts[WORKERS_MAX];
    char why[256];
    bool recorded;
};

enum option_key {
    OPTION_FIRST = 256,
    OPTION_NESTED_STATES,
    OPTION_PLANT,
    OPTION_PLANTS,
    OPTION_POINT,
    OPTION_FATES,
    OPTION_KEEP,
    OPTION_SWEEP,
    OPTION_SITES,
    OPTION_SCRIPT,
    OPTION_CALL,
    OPTION_VARIANT,
    OPTION_REPAIRS
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct arguments *a = state->input;
    uint64_t number = text != NULL ? strtoull(text, NULL, 10) : 0;
    switch (key) {
    case 's':
        a->seeds = number;
        return 0;
    case OPTION_FIRST:
        a->first = number;
        return 0;
    case 'o':
        a->operations = number;
        return 0;
    case 'n':
        a->states = number;
        return 0;
    case 'j':
        a->workers = number >= 1 && number <= WORKERS_MAX ? number : 1;
        return 0;
    case 'r':
        a->nested_every = number;
        return 0;
    case OPTION_NESTED_STATES:
        a->nested_states = number;
        return 0;
    case 'f':
        a->failures_max = number;
        return 0;
    case 'd':
        a->dir = text;
        return 0;
    case OPTION_PLANT:
        a->plant = number;
        return 0;
    case OPTION_PLANTS:
        a->board = true;
        return 0;
    case OPTION_POINT:
        a->point = (int64_t)number;
        return 0;
    case OPTION_FATES:
        a->fates = text;
        return 0;
    case OPTION_KEEP:
        a->keep = true;
        return 0;
    case OPTION_SWEEP:
        a->sweep = number > 0 ? number : 1;
        return 0;
    case OPTION_SITES:
        a->sites = text;
        return 0;
    case OPTION_SCRIPT:
        a->script = text;
        return 0;
    case OPTION_CALL:
        a->call = (int64_t)number;
        return 0;
    case OPTION_VARIANT:
        a->variant = number;
        return 0;
    case OPTION_REPAIRS:
        a->repairs = number;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {"seeds", 's', "N", 0, "tapes to record (default 1)", 0},
    {"first", OPTION_FIRST, "SEED", 0, "first seed (default 1)", 0},
    {"operations", 'o', "N", 0, "operations of each (default 1000)", 0},
    {"states", 'n', "N", 0, "states to try of each, about (default 2000)", 0},
    {"jobs", 'j', "N", 0, "processes (default 1)", 0},
    {"recrash", 'r', "N", 0, "crash the recovery of one state in N too (default 100, 0: none)", 0},
    {"recrash-states", OPTION_NESTED_STATES, "N", 0, "states of each such recovery (default 10)", 0},
    {"failures", 'f', "N", 0, "stop after so many failures (default 10)", 0},
    {"dir", 'd', "DIR", 0, "where states are made (default /dev/shm)", 0},
    {"plant", OPTION_PLANT, "N", 0, "with this planted bug: must fail (needs a build with plants)", 0},
    {"plants", OPTION_PLANTS, 0, 0, "each bug that a crash can show, which must be caught (needs a build with plants)",
     0},
    {"point", OPTION_POINT, "N", 0, "this point of the tape only", 0},
    {"fates", OPTION_FATES, "TEXT", 0, "with --point: this state only, as a failure names it", 0},
    {"keep", OPTION_KEEP, 0, 0, "leave failed states where they are", 0},
    {"sweep", OPTION_SWEEP, "N", 0, "instead: let every N-th call that can fail do so, see sweep.c", 0},
    {"sites", OPTION_SITES, "FILE", 0, "with --sweep: write what was called to FILE.0, FILE.1 ...", 0},
    {"script", OPTION_SCRIPT, "NAME", 0, "with --sweep: this script only, see plot.c", 0},
    {"call", OPTION_CALL, "N", 0, "with --sweep: this call only", 0},
    {"repairs", OPTION_REPAIRS, "N", 0, "instead: repairs of N damaged directories, see repairs.h", 0},
    {"variant", OPTION_VARIANT, "N", 0, "with --call: in this way", 0},
    {0},
};

/* Everything below `work` belongs to one seed and goes with it. */
static void record(const struct arguments *a, uint64_t seed, const char *work, struct run *run)
{
    char data[4200], tape[4200];
    snprintf(data, sizeof data, "%s/data", work);
    snprintf(tape, sizeof tape, "%s/tape", work);
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(600);
        bool good = mkdir(data, 0750) == 0 && tape_begin(data, tape);
        good = good && workload_run(data, seed, (uint32_t)a->operations, &run->workload, run->why);
        tape_end();
        _exit(good ? 0 : 1);
    }
    run->recorded = waitpid(child, &status, 0) == child && status == 0;
    if (WIFSIGNALED(status)) {
        snprintf(run->why, sizeof run->why, "ended by signal %d", WTERMSIG(status));
    }
    explore_remove(data);
}

static bool judge(void *context, struct oracle *oracle, const char *dir, uint64_t seed, char why[VERIFY_WHY_BYTES])
{
    (void)context;
    return verify_dir(oracle, dir, seed, why);
}

static bool recover(void *context, const struct oracle *oracle, const char *dir, const char *tape, uint64_t seed,
                    char why[VERIFY_WHY_BYTES])
{
    (void)context;
    return verify_record(oracle, dir, tape, seed, why);
}

static void explore(const struct arguments *a, uint64_t seed, const char *work, uint32_t worker, struct run *run)
{
    char path[4200], dir[4200], label[64];
    struct tape tape;
    struct oracle oracle = {0};
    struct model *model = model_new();
    snprintf(path, sizeof path, "%s/tape", work);
    snprintf(dir, sizeof dir, "%s/states.%u", work, worker);
    snprintf(label, sizeof label, "--first %llu", (unsigned long long)seed);
    bool good = tape_read(path, &tape) && mkdir(dir, 0750) == 0;
    ASSERT(good);
    static const struct explore_subject subject = {.judge = judge, .recover = recover};
    const struct explore_options o = {.subject = &subject,
                                      .seed = seed,
                                      .states = a->states,
                                      .workers = (uint32_t)a->workers,
                                      .worker = worker,
                                      .nested_every = (uint32_t)a->nested_every,
                                      .nested_states = (uint32_t)a->nested_states,
                                      .failures_max = (uint32_t)a->failures_max,
                                      .dir = dir,
                                      .keep = a->keep,
                                      .only_point = a->point,
                                      .only_fates = a->fates,
                                      .label = label};
    explore_tape(&o, &tape, model, &oracle, &run->counts[worker]);
    model_free(model);
    oracle_free(&oracle);
    tape_free(&tape);
}

static void summary(uint64_t seed, const struct arguments *a, const struct run *run, double seconds,
                    struct explore_counts *total)
{
    struct explore_counts sum = {0};
    for (uint32_t i = 0; i < a->workers; i++) {
        const struct explore_counts *c = &run->counts[i];
        sum.events = c->events;
        sum.points = c->points > sum.points ? c->points : sum.points;
        sum.combinations += c->combinations;
        sum.states += c->states;
        sum.whole_points += c->whole_points;
        sum.nested_tapes += c->nested_tapes;
        sum.nested_states += c->nested_states;
        sum.failures += c->failures;
    }
    const struct workload_counts *w = &run->workload;
    printf("seed=%llu operations=%u batches=%u acked=%u made=%u deleted=%u kills=%u stops=%u events=%llu points=%llu "
           "combinations=%.3g states=%llu whole_points=%llu recrashed=%llu recrash_states=%llu "
           "failures=%llu seconds=%.0f\n",
           (unsigned long long)seed, w->operations, w->batches, w->acked, w->topics_made, w->topics_deleted, w->kills,
           w->stops, (unsigned long long)sum.events, (unsigned long long)sum.points, sum.combinations,
           (unsigned long long)sum.states, (unsigned long long)sum.whole_points, (unsigned long long)sum.nested_tapes,
           (unsigned long long)sum.nested_states, (unsigned long long)sum.failures, seconds);
    fflush(stdout);
    total->points += sum.points;
    total->combinations += sum.combinations;
    total->states += sum.states;
    total->nested_states += sum.nested_states;
    total->failures += sum.failures;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* false: the workload failed. */
static bool run_seed(const struct arguments *a, uint64_t seed, const char *work, struct explore_counts *total)
{
    double start_s = now_s();
    pid_t workers[WORKERS_MAX];
    struct run *run = mmap(NULL, sizeof *run, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(run != MAP_FAILED);
    record(a, seed, work, run);
    if (!run->recorded) {
        printf("FAILED --first %llu: the workload: %s\n", (unsigned long long)seed, run->why);
        return false;
    }
    fflush(stdout);
    for (uint32_t i = 0; i < a->workers; i++) {
        workers[i] = fork();
        if (workers[i] == 0) {
            explore(a, seed, work, i, run);
            fflush(stdout);
            _exit(0);
        }
    }
    bool good = true;
    for (uint32_t i = 0; i < a->workers; i++) {
        int status = 0;
        good = waitpid(workers[i], &status, 0) == workers[i] && status == 0 && good;
    }
    summary(seed, a, run, now_s() - start_s, total);
    if (!good) {
        printf("FAILED --first %llu: a worker ended early\n", (unsigned long long)seed);
        total->failures++;
    }
    munmap(run, sizeof *run);
    return true;
}

/* All seeds; the exit code. */
static int run_all(const struct arguments *a)
{
    struct explore_counts total = {0};
    bool good = true;
    for (uint64_t i = 0; i < a->seeds && good && total.failures < a->failures_max; i++) {
        char work[4096];
        snprintf(work, sizeof work, "%s/flotilla-crash.XXXXXX", a->dir);
        if (mkdtemp(work) == NULL) {
            fprintf(stderr, "crash: cannot make a directory in %s\n", a->dir);
            return 2;
        }
        good = run_seed(a, a->first + i, work, &total);
        if (!a->keep || total.failures == 0) {
            explore_remove(work);
        } else {
            printf("kept %s\n", work);
        }
    }
    printf("crash: points=%llu combinations=%.3g states=%llu recrash_states=%llu failures=%llu\n",
           (unsigned long long)total.points, total.combinations, (unsigned long long)total.states,
           (unsigned long long)total.nested_states, (unsigned long long)total.failures);
    return !good ? 3 : total.failures > 0 ? 1 : 0;
}

/* The test's own test: bugs of which a crash must show the damage, in a state or already in a kill of the workload. */
static int run_board(struct arguments *a)
{
#ifdef FLOTILLA_PLANTS
    static const struct {
        unsigned number;
        const char *name;
    } plants[] = {
        {15, "segment-is-not-synced-before-its-manifest"},
        {28, "rename-without-directory-sync"},
        {30, "applied-index-outside-the-transaction"},
        {34, "wal-file-released-before-the-slowest-group"},
    };
    int missed = 0;
    a->failures_max = 1;
    for (size_t i = 0; i < sizeof plants / sizeof plants[0]; i++) {
        plant_active = plants[i].number;
        int code = run_all(a);
        printf("plant %u %s %s\n", plants[i].number, plants[i].name, code == 0 ? "missed" : "caught");
        missed += code == 0;
    }
    return missed > 0 ? 1 : 0;
#else
    (void)a;
    fprintf(stderr, "crash: this build has no planted bugs\n");
    return 2;
#endif
}

static int run_sweep(const struct arguments *a)
{
    char work[4096];
    snprintf(work, sizeof work, "%s/flotilla-crash.XXXXXX", a->dir);
    if (mkdtemp(work) == NULL) {
        fprintf(stderr, "crash: cannot make a directory in %s\n", a->dir);
        return 2;
    }
    const struct sweep_options o = {.dir = work,
                                    .sites = a->sites,
                                    .script = a->script,
                                    .every = a->sweep,
                                    .workers = a->workers,
                                    .failures_max = a->failures_max,
                                    .only = a->call,
                                    .only_variant = (uint32_t)a->variant};
    int code = sweep_run(&o);
    explore_remove(work);
    return code;
}

static int run_repairs(const struct arguments *a)
{
    char work[4096];
    snprintf(work, sizeof work, "%s/flotilla-crash.XXXXXX", a->dir);
    if (mkdtemp(work) == NULL) {
        fprintf(stderr, "crash: cannot make a directory in %s\n", a->dir);
        return 2;
    }
    const struct repairs_options o = {.dir = work,
                                      .first = a->first,
                                      .repairs = a->repairs,
                                      .states = a->states,
                                      .workers = a->workers,
                                      .nested_every = a->nested_every,
                                      .nested_states = a->nested_states,
                                      .failures_max = a->failures_max,
                                      .keep = a->keep,
                                      .only_point = a->point,
                                      .only_fates = a->fates};
    int code = repairs_run(&o);
    if (!a->keep || code == 0) {
        explore_remove(work);
    }
    return code;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        options, parse, 0, "crash - power cuts at every point of a recorded run, each opened and checked", 0, 0, 0};
    struct arguments a = {.seeds = 1,
                          .first = 1,
                          .operations = 1000,
                          .states = 2000,
                          .workers = 1,
                          .nested_every = 100,
                          .nested_states = 10,
                          .failures_max = 10,
                          .dir = "/dev/shm",
                          .point = -1,
                          .call = -1};
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (a.sweep > 0) {
        tape_preload(argv, "libcrash_faults.so", "faults_use");
        return run_sweep(&a);
    }
    tape_preload(argv, "libcrash_recorder.so", "recorder_begin");
    if (a.board)
        return run_board(&a);
#ifdef FLOTILLA_PLANTS
    plant_active = (unsigned)a.plant;
#else
    if (a.plant != 0) {
        fprintf(stderr, "crash: this build has no planted bugs\n");
        return 2;
    }
#endif
    return a.repairs > 0 ? run_repairs(&a) : run_all(&a);
}
