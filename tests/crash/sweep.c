/* What does the broker do when the k-th call that can fail does fail?
 *
 * For a newcomer: most lost data in the field was lost in code that handles an error that hardly ever comes. So short
 * scripts take one broker through everything it has (plot.c), and are run again and again: the first time its first
 * fallible call fails, then its second, until a run passes untouched. (Of the scripts of bad weather, which are there
 * for places that a calm life does not reach, the first call of each chain of callers fails.) Calls that can fail in
 * several ways are tried in each. The broker may answer with an error and go on, or end with one of its exit codes (1
 * start, 3 storage or memory, 4 unreadable). It may not end by a signal, hang, or be unable to go on when the fault is
 * over. Then it is started without a fault, and must serve all that was acknowledged (verify.c).
 *
 * The run is one thread (host.c), so the k-th call is the same one in every run. Threads, sockets and the event loop
 * are swept by sweep.py, with real processes. */
#include "sweep.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "explore.h"
#include "faults.h"
#include "plot.h"
#include "script.h"
#include "verify.h"

#define DEADLINE_S   60
#define OUTPUT_BYTES 300

struct sweep {
    struct sweep_options options;
    const struct plot *plot;
    char dir[4200]; /* of this worker */
    struct script_record *record;
    struct fault_table *table;
    const struct fault_table *first_table; /* as the run without a fault left it */
    int output;                            /* stderr of the children */
    faults_use_function use;
    faults_name_function name;
    faults_has_variant_function has_variant;
    uint64_t calls, runs, ended, failures;
};

/* --- one run --- */

static int wait_for(pid_t child)
{
    int status = 0;
    pid_t ended = waitpid(child, &status, 0);
    ASSERT(ended == child);
    return status;
}

static void begin_child(const struct sweep *sweep)
{
    alarm(DEADLINE_S);
    dup2(sweep->output, 2);
}

static int run_script(const struct sweep *sweep, const char *dir, uint64_t fail_at, uint32_t variant)
{
    static struct script script;
    sweep->table->fail_at = fail_at;
    sweep->table->variant = variant;
    sweep->table->calls = 0;
    sweep->table->has_failed = 0;
    if (ftruncate(sweep->output, 0) != 0 || lseek(sweep->output, 0, SEEK_SET) != 0) {
        abort();
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        begin_child(sweep);
        sweep->use(sweep->table);
        script_begin(&script, sweep->record, dir);
        sweep->plot->run(&script);
        _exit(0);
    }
    return wait_for(child);
}

/* A start without faults; the state of the directory is judged by the promises of the script. */
static int run_verify(const struct sweep *sweep, const char *dir)
{
    static struct script script;
    pid_t child = fork();
    if (child == 0) {
        struct oracle oracle = {0};
        begin_child(sweep);
        if (sweep->plot->wounds) {
            script_settle(&script, sweep->record, dir);
        }
        script_tell(sweep->record, &oracle);
        _exit(verify_dir(&oracle, dir, 1, sweep->record->why) ? 0 : 1);
    }
    return wait_for(child);
}

static bool is_documented(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) <= 4;
}

static void report(struct sweep *sweep, uint64_t call, uint32_t variant, int status, const char *when)
{
    const struct fault_site *site = &sweep->table->sites[sweep->table->failed_site];
    char output[OUTPUT_BYTES + 1];
    ssize_t got = pread(sweep->output, output, OUTPUT_BYTES, 0);
    output[got > 0 ? got : 0] = '\0';
    output[strcspn(output, "\n")] = '\0';
    printf("FAILED --script %s --call %llu --variant %u: %s at", sweep->plot->name, (unsigned long long)call, variant,
           sweep->name(site->function));
    for (uint32_t i = 0; i < FAULT_FRAMES && site->frames[i] != 0; i++) {
        printf(" %s0x%llx",
               site->module == FAULT_MODULE_PROGRAM ? "" : "library:", (unsigned long long)site->frames[i]);
    }
    printf(": %s ended by %s %d: %s %s\n", when, WIFSIGNALED(status) ? "signal" : "exit code",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), sweep->record->why, output);
    fflush(stdout);
    sweep->failures++;
}

/* false: the call was never made, the run passed untouched. */
static bool try_call(struct sweep *sweep, uint64_t call, uint32_t variant)
{
    char dir[4300];
    snprintf(dir, sizeof dir, "%s/run", sweep->dir);
    if (mkdir(dir, 0750) != 0) {
        abort();
    }
    int status = run_script(sweep, dir, call, variant);
    sweep->runs++;
    if (!is_documented(status)) {
        report(sweep, call, variant, status, "the run");
    } else {
        sweep->ended += WEXITSTATUS(status) != 0;
        int second = run_verify(sweep, dir);
        if (second != 0) {
            report(sweep, call, variant, second, "the start after it");
        }
    }
    explore_remove(dir);
    return sweep->table->has_failed;
}

/* --- all runs --- */

static void write_sites(const struct sweep *sweep, uint64_t worker)
{
    char path[4300];
    snprintf(path, sizeof path, "%s.%s.%llu", sweep->options.sites, sweep->plot->name, (unsigned long long)worker);
    FILE *out = fopen(path, "w");
    ASSERT(out != NULL);
    for (uint32_t i = 0; i < sweep->table->sites_count; i++) {
        const struct fault_site *site = &sweep->table->sites[i];
        fprintf(out, "%s %u %u %u", sweep->name(site->function), site->module, site->is_failed, site->calls);
        for (uint32_t n = 0; n < FAULT_FRAMES && site->frames[n] != 0; n++) {
            fprintf(out, " 0x%llx", (unsigned long long)site->frames[n]);
        }
        fprintf(out, "\n");
    }
    fclose(out);
}

static void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(memory != MAP_FAILED);
    return memory;
}

/* How many calls before this one, in the run without a fault, were made from the same place. */
static uint32_t calls_before(const struct sweep *sweep, uint64_t call)
{
    const struct fault_table *table = sweep->first_table;
    uint32_t before = 0;
    for (uint64_t i = 0; i < call && call < table->calls && call < FAULT_CALLS_MAX; i++) {
        before += table->sites_of_calls[i] == table->sites_of_calls[call];
    }
    return before;
}

/* Every call of the run without a fault, and what comes after: a fault can make a run longer. */
static void sweep_worker(struct sweep *sweep, uint64_t worker)
{
    const struct sweep_options *o = &sweep->options;
    snprintf(sweep->dir, sizeof sweep->dir, "%s/%s.%llu", o->dir, sweep->plot->name, (unsigned long long)worker);
    if (mkdir(sweep->dir, 0750) != 0) {
        abort();
    }
    if (o->only >= 0) {
        try_call(sweep, (uint64_t)o->only, o->only_variant);
        return;
    }
    uint64_t untouched = 0;
    for (uint64_t call = worker * o->every; untouched < 3 && sweep->failures < o->failures_max;
         call += o->every * o->workers) {
        uint64_t touched = 0;
        if (sweep->plot->per_chain != 0 && calls_before(sweep, call) >= sweep->plot->per_chain)
            continue;
        for (uint32_t variant = 0; variant < FAULT_VARIANTS; variant++) {
            uint32_t function = variant == 0 ? 0 : sweep->table->functions[call];
            if (variant == 0 || sweep->has_variant(function, variant)) {
                touched += try_call(sweep, call, variant);
            }
        }
        untouched = touched > 0 ? 0 : untouched + 1;
    }
    if (o->sites != NULL) {
        write_sites(sweep, worker);
    }
}

/* One plot: a run without a fault, then all the others, shared out among workers. */
static bool sweep_plot(const struct sweep *sweep, struct sweep *sum)
{
    struct sweep first = *sweep;
    if (try_call(&first, FAULT_NONE, 0) || first.failures > 0) {
        printf("sweep: %s fails without a fault\n", first.plot->name);
        return false;
    }
    uint64_t calls = first.table->calls;
    uint64_t workers = first.options.only < 0 ? first.options.workers : 1;
    struct sweep *results = shared_memory(workers * sizeof *results);
    fflush(stdout);
    for (uint64_t i = 0; i < workers; i++) {
        if (fork() == 0) {
            results[i] = first;
            results[i].first_table = first.table;
            results[i].runs = results[i].ended = 0;
            results[i].output = memfd_create("output", MFD_CLOEXEC);
            results[i].record = shared_memory(sizeof *first.record);
            results[i].table = shared_memory(sizeof *first.table);
            memcpy(results[i].table, first.table, sizeof *first.table);
            sweep_worker(&results[i], i);
            fflush(stdout);
            _exit(0);
        }
    }
    struct sweep own = {0};
    for (uint64_t i = 0; i < workers; i++) {
        int status = 0;
        wait(&status);
        own.failures += status != 0;
    }
    for (uint64_t i = 0; i < workers; i++) {
        own.runs += results[i].runs;
        own.ended += results[i].ended;
        own.failures += results[i].failures;
    }
    printf("sweep %s: calls=%llu chains=%u runs=%llu ended_with_code=%llu failures=%llu\n", first.plot->name,
           (unsigned long long)calls, first.table->sites_count, (unsigned long long)own.runs,
           (unsigned long long)own.ended, (unsigned long long)own.failures);
    fflush(stdout);
    munmap(results, workers * sizeof *results);
    sum->calls += calls;
    sum->runs += own.runs;
    sum->ended += own.ended;
    sum->failures += own.failures;
    return true;
}

int sweep_run(const struct sweep_options *options)
{
    struct sweep sweep = {.options = *options, .record = shared_memory(sizeof *sweep.record)}, sum = {0};
    sweep.table = shared_memory(sizeof *sweep.table);
    snprintf(sweep.dir, sizeof sweep.dir, "%s", options->dir);
    *(void **)&sweep.use = dlsym(RTLD_DEFAULT, "faults_use");
    *(void **)&sweep.name = dlsym(RTLD_DEFAULT, "faults_name");
    *(void **)&sweep.has_variant = dlsym(RTLD_DEFAULT, "faults_has_variant");
    sweep.output = memfd_create("output", MFD_CLOEXEC);
    ASSERT(sweep.output >= 0 && sweep.use != NULL && sweep.name != NULL && sweep.has_variant != NULL);
    for (uint32_t i = 0; i < plots_count; i++) {
        sweep.plot = &plots[i];
        if (options->script != NULL && strcmp(options->script, sweep.plot->name) != 0)
            continue;
        memset(sweep.table, 0, sizeof *sweep.table);
        if (!sweep_plot(&sweep, &sum))
            return 3;
    }
    printf("sweep inside: calls=%llu runs=%llu ended_with_code=%llu failures=%llu\n", (unsigned long long)sum.calls,
           (unsigned long long)sum.runs, (unsigned long long)sum.ended, (unsigned long long)sum.failures);
    return sum.failures > 0 ? 1 : 0;
}
