/* The real command runs in a process of its own, since it ends its process when it does not like something. */
#include "repairs.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "damage.h"
#include "explore.h"
#include "tape.h"
#include "view.h"
#include "workload.h"

#define WORK_BYTES    4200
#define PATH_BYTES    4400
#define WORKERS_MAX   16
#define OPERATIONS    300
#define DAMAGES_MAX   3
#define TRIES_MAX     20
#define DEADLINE_S    60
#define LISTING_BYTES 8192

/* One damaged directory and its repair. */
struct repairs {
    const struct repairs_options *options;
    uint64_t seed;
    char work[WORK_BYTES];
    struct rng rng;
    struct oracle oracle;
    uint64_t group;
    char partition[64];
    bool is_marked; /* a broker has seen the damage */
    char damage[DAMAGES_MAX * DAMAGE_TEXT_BYTES];
    struct view before, after;
    char files[LISTING_BYTES]; /* of the partition, after the repair */
    char why[VERIFY_WHY_BYTES];
};

struct tally { /* of one worker */
    struct explore_counts counts;
    uint64_t repairs, whole; /* broken off everywhere; those whose damage harmed nothing */
};

static bool failed(char why[VERIFY_WHY_BYTES], const char *what)
{
    snprintf(why, VERIFY_WHY_BYTES, "%s", what);
    return false;
}

static bool differs(char why[VERIFY_WHY_BYTES], const char *what, const struct view_log *log,
                    const struct view_log *wanted)
{
    char found[VIEW_TEXT_BYTES], right[VIEW_TEXT_BYTES];
    view_print(log, found);
    view_print(wanted, right);
    snprintf(why, VERIFY_WHY_BYTES, "%s: %s, not %s", what, found, right);
    return false;
}

/* --- the command --- */

_Noreturn static void command_exec(const struct repairs *r, const char *dir, const char *tape)
{
    char command[PATH_BYTES], self[3072];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    ASSERT(length > 0);
    self[length] = '\0';
    snprintf(command, sizeof command, "%.*s/../../flotilla", (int)(strrchr(self, '/') - self), self);
    if (tape != NULL && (setenv(TAPE_ROOT_VARIABLE, dir, 1) != 0 || setenv(TAPE_FILE_VARIABLE, tape, 1) != 0)) {
        abort();
    }
    int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    alarm(DEADLINE_S);
    dup2(nothing, 1);
    execl(command, command, "repair", "-q", dir, "--partition", r->partition, "--accept-loss", NULL);
    perror(command);
    _exit(127);
}

/* Repairs; the tape may be NULL. */
static bool repair(const struct repairs *r, const char *dir, const char *tape, char why[VERIFY_WHY_BYTES])
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        command_exec(r, dir, tape);
    }
    if (child > 0 && waitpid(child, &status, 0) == child && status == 0)
        return true;
    snprintf(why, VERIFY_WHY_BYTES, "the repair of %s ends by %s %d", r->partition,
             WIFSIGNALED(status) ? "signal" : "exit code",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return false;
}

/* --- directories --- */

/* A copy in `to`, which is made anew. */
static void copy(const char *from, const char *to)
{
    struct model *model = model_new();
    explore_remove(to);
    bool good = model_scan(model, from) && mkdir(to, 0750) == 0 && model_build(model, NULL, to);
    ASSERT(good);
    model_free(model);
}

/* The names of the partition's files. */
static void list_files(const struct repairs *r, const char *dir, char text[LISTING_BYTES])
{
    char path[PATH_BYTES];
    struct dirent **entries;
    size_t length = 0;
    snprintf(path, sizeof path, "%s/parts/%llu", dir, (unsigned long long)r->group);
    int count = scandir(path, &entries, NULL, alphasort);
    text[0] = '\0';
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.' && length < LISTING_BYTES) {
            length += (size_t)snprintf(text + length, LISTING_BYTES - length, "%s ", entries[i]->d_name);
        }
        free(entries[i]);
    }
    if (count >= 0) {
        free(entries);
    }
}

/* --- states --- */

/* The partitions that nobody repairs serve what they did. */
static bool others_are_same(const struct repairs *r, const struct view *view, char why[VERIFY_WHY_BYTES])
{
    for (uint32_t i = 0; i < r->before.logs_count; i++) {
        const struct view_log *old = &r->before.logs[i], *log = view_log(view, old->group);
        if (old->group != r->group && (log == NULL || !view_same(log, old)))
            return differs(why, "a partition that is not repaired changes", log, old);
    }
    return true;
}

static bool judge_start(const struct repairs *r, const char *dir, uint64_t seed, bool is_done,
                        char why[VERIFY_WHY_BYTES])
{
    struct view view;
    bool good = view_read(&r->oracle, dir, seed, 0, &view, why) && others_are_same(r, &view, why);
    if (good) {
        const struct view_log *log = view_log(&view, r->group);
        bool is_new = log != NULL && view_same(log, view_log(&r->after, r->group));
        bool is_old = log != NULL && (log->is_corrupt || view_same(log, view_log(&r->before, r->group)));
        if (!is_new && (is_done || !is_old)) {
            good = differs(why,
                           is_done ? "a finished repair is not durable"
                                   : "the partition is neither what it was, nor CORRUPT, nor repaired",
                           log, view_log(&r->after, r->group));
        }
    }
    view_free(&view);
    return good;
}

static bool judge_repair(const struct repairs *r, const char *dir, uint64_t seed, bool is_first,
                         char why[VERIFY_WHY_BYTES])
{
    char files[LISTING_BYTES];
    struct view view = {0};
    if (!repair(r, dir, NULL, why))
        return false;
    list_files(r, dir, files);
    if (is_first && strcmp(files, r->files) != 0) {
        snprintf(why, VERIFY_WHY_BYTES, "the repair leaves other files: %.150s, not %.150s", files, r->files);
        return false;
    }
    bool good = view_read(&r->oracle, dir, seed, r->group, &view, why) && others_are_same(r, &view, why);
    if (good) {
        const struct view_log *log = view_log(&view, r->group);
        const struct view_log *after = view_log(&r->after, r->group);
        good = log != NULL && view_same_records(log, after);
        good = good || differs(why,
                               is_first ? "a second repair leaves other records"
                                        : "a second repair, after a start, leaves other records",
                               log, after);
    }
    view_free(&view);
    return good;
}

static bool judge(void *context, struct oracle *oracle, const char *dir, uint64_t seed, char why[VERIFY_WHY_BYTES])
{
    const struct repairs *r = context;
    char other[PATH_BYTES];
    (void)oracle;
    snprintf(other, sizeof other, "%s.copy", dir);
    copy(dir, other);
    bool good = judge_start(r, dir, seed, false, why) && judge_repair(r, dir, seed, false, why) &&
                judge_repair(r, other, seed, true, why);
    explore_remove(other);
    return good;
}

static bool recover(void *context, const struct oracle *oracle, const char *dir, const char *tape, uint64_t seed,
                    char why[VERIFY_WHY_BYTES])
{
    (void)oracle, (void)seed;
    return repair(context, dir, tape, why);
}

/* --- before --- */

/* A directory as a killed broker leaves it, and what it had promised. */
static bool make_data(struct repairs *r, const char *data, const char *path)
{
    struct workload_counts counts;
    struct tape tape;
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(DEADLINE_S);
        bool good = mkdir(data, 0750) == 0 && tape_begin(data, path) &&
                    workload_run(data, r->seed, OPERATIONS, &counts, r->why);
        tape_end();
        _exit(good ? 0 : 1);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0 || !tape_read(path, &tape))
        return failed(r->why, "the workload fails");
    for (uint32_t i = 0; i < tape.count; i++) {
        if (tape.items[i].event->kind == TAPE_MARK) {
            explore_mark(&tape.items[i], &r->oracle);
        }
    }
    tape_free(&tape);
    return true;
}

/* Any partition that keeps everything and has been checkpointed. */
static bool choose_partition(struct repairs *r, const char *data)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < r->oracle.topics_count; i++) {
        const struct oracle_topic *topic = &r->oracle.topics[i];
        bool is_kept = topic->mark.retention_bytes < 0 && topic->mark.retention_ms < 0;
        for (uint32_t p = 0; topic->status == TOPIC_THERE && is_kept && p < topic->mark.partitions; p++) {
            if (damage_is_possible(data, topic->mark.groups[p]) && rng_below(&r->rng, ++seen) == 0) {
                r->group = topic->mark.groups[p];
                snprintf(r->partition, sizeof r->partition, "%s/%u", topic->mark.name, p);
            }
        }
    }
    return seen > 0;
}

/* One to three times, then perhaps a start that marks it. */
static bool damage(struct repairs *r, const char *data)
{
    uint64_t wanted = rng_between(&r->rng, 1, DAMAGES_MAX), done = 0;
    for (int tries = 0; tries < TRIES_MAX && done < wanted; tries++) {
        char text[DAMAGE_TEXT_BYTES];
        if (damage_group(data, r->group, &r->rng, text)) {
            size_t length = strlen(r->damage);
            snprintf(r->damage + length, sizeof r->damage - length, "%s%s", done++ > 0 ? ", " : "", text);
        }
    }
    struct view view = {0};
    r->is_marked = rng_chance(&r->rng, 0.3);
    bool good = done > 0 && (!r->is_marked || view_read(&r->oracle, data, r->seed, 0, &view, r->why));
    view_free(&view);
    return good;
}

static bool is_needed(const struct tape *tape)
{
    for (uint32_t i = 0; i < tape->count; i++) {
        if (tape->items[i].event->kind == TAPE_SYNC_ALL) /* how it begins to write */
            return true;
    }
    return false;
}

/* What is served before and after, and the tape. */
static bool repair_once(struct repairs *r, const char *data, const char *path, struct tape *ret_tape)
{
    char dir[PATH_BYTES];
    snprintf(dir, sizeof dir, "%s/once", r->work);
    copy(data, dir);
    bool good = view_read(&r->oracle, dir, r->seed, 0, &r->before, r->why);
    copy(data, dir);
    good = good && repair(r, dir, path, r->why);
    list_files(r, dir, r->files);
    good = good && view_read(&r->oracle, dir, r->seed, 0, &r->after, r->why) && others_are_same(r, &r->after, r->why) &&
           judge_start(r, dir, r->seed, true, r->why); /* what came from the WAL is read from the segments now */
    explore_remove(dir);
    if (!good)
        return false;
    const struct view_log *before = view_log(&r->before, r->group), *after = view_log(&r->after, r->group);
    if (before == NULL || after == NULL || !view_same_records(after, after))
        return differs(r->why, "the repair leaves CORRUPT offsets", after, before);
    if (!view_holds(after, before))
        return differs(r->why, "the repair loses what was served before it", after, before);
    return tape_read(path, ret_tape) || failed(r->why, "no tape");
}

/* --- one repair --- */

static void report(const struct repairs *r)
{
    printf("FAILED --repairs 1 --first %llu, %s%s, %s: %s\n", (unsigned long long)r->seed, r->partition,
           r->is_marked ? ", marked" : "", r->damage, r->why);
    fflush(stdout);
}

/* The model is at the end of the tape: what is not synced by now is lost, and the repair is not. */
static bool is_durable(struct repairs *r, const struct model *model)
{
    char dir[PATH_BYTES];
    snprintf(dir, sizeof dir, "%s/end", r->work);
    struct fate *lost = calloc(model_pending(model) + 1, sizeof *lost);
    ASSERT(lost != NULL);
    bool good = mkdir(dir, 0750) == 0 && model_build(model, lost, dir);
    ASSERT(good);
    free(lost);
    good = judge_start(r, dir, r->seed, true, r->why);
    explore_remove(dir);
    return good;
}

static void explore(struct repairs *r, const char *data, const struct tape *tape, struct explore_counts *counts)
{
    const struct repairs_options *o = r->options;
    const struct explore_subject subject = {.context = r, .judge = judge, .recover = recover};
    struct model *model = model_new();
    char label[160 + sizeof r->damage];
    snprintf(label, sizeof label, "--repairs 1 --first %llu, %s%s, %s,", (unsigned long long)r->seed, r->partition,
             r->is_marked ? ", marked" : "", r->damage);
    const struct explore_options options = {.subject = &subject,
                                            .seed = r->seed,
                                            .states = o->states,
                                            .workers = 1,
                                            .nested_every = (uint32_t)o->nested_every,
                                            .nested_states = (uint32_t)o->nested_states,
                                            .failures_max = (uint32_t)o->failures_max,
                                            .dir = r->work,
                                            .keep = o->keep,
                                            .only_point = o->only_point,
                                            .only_fates = o->only_fates,
                                            .label = label};
    bool good = model_scan(model, data);
    ASSERT(good);
    explore_tape(&options, tape, model, &r->oracle, counts);
    if (o->only_point < 0 && counts->failures == 0 && !is_durable(r, model)) {
        report(r);
        counts->failures++;
    }
    model_free(model);
}

static void run_one(const struct repairs_options *o, uint64_t seed, struct tally *tally)
{
    struct repairs *r = calloc(1, sizeof *r);
    struct tape tape;
    struct explore_counts counts = {0};
    char data[PATH_BYTES], path[PATH_BYTES];
    ASSERT(r != NULL);
    r->options = o;
    r->seed = seed;
    rng_seed(&r->rng, seed);
    snprintf(r->work, sizeof r->work, "%s/repair.%llu", o->dir, (unsigned long long)seed);
    snprintf(data, sizeof data, "%s/data", r->work);
    snprintf(path, sizeof path, "%s/tape", r->work);
    bool good = mkdir(r->work, 0750) == 0;
    ASSERT(good);
    if (!make_data(r, data, path)) {
        good = false;
    } else if (!choose_partition(r, data) || !damage(r, data)) {
        good = r->why[0] == '\0'; /* nothing that the dice chose is there */
    } else if (!repair_once(r, data, path, &tape)) {
        good = false;
    } else {
        bool needed = is_needed(&tape);
        tally->repairs += needed;
        tally->whole += !needed;
        if (needed) {
            explore(r, data, &tape, &counts);
        }
        tape_free(&tape);
    }
    if (!good) {
        report(r);
        counts.failures++;
    }
    explore_add(&tally->counts, &counts);
    if (!o->keep || counts.failures == 0) {
        explore_remove(r->work);
    }
    view_free(&r->before);
    view_free(&r->after);
    oracle_free(&r->oracle);
    free(r);
}

/* --- all of them --- */

static int summary(const struct repairs_options *o, const struct tally *tallies)
{
    struct tally sum = {0};
    for (uint64_t i = 0; i < o->workers; i++) {
        explore_add(&sum.counts, &tallies[i].counts);
        sum.repairs += tallies[i].repairs;
        sum.whole += tallies[i].whole;
    }
    const struct explore_counts *c = &sum.counts;
    printf(
        "repairs: repairs=%llu whole=%llu points=%llu combinations=%.3g states=%llu whole_points=%llu recrashed=%llu "
        "recrash_states=%llu failures=%llu\n",
        (unsigned long long)sum.repairs, (unsigned long long)sum.whole, (unsigned long long)c->points, c->combinations,
        (unsigned long long)c->states, (unsigned long long)c->whole_points, (unsigned long long)c->nested_tapes,
        (unsigned long long)c->nested_states, (unsigned long long)c->failures);
    return c->failures > 0 ? 1 : sum.repairs * 2 < o->repairs ? 3 : 0;
}

int repairs_run(const struct repairs_options *o)
{
    pid_t workers[WORKERS_MAX];
    struct tally *tallies =
        mmap(NULL, WORKERS_MAX * sizeof *tallies, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(tallies != MAP_FAILED && o->workers <= WORKERS_MAX);
    fflush(stdout);
    for (uint64_t w = 0; w < o->workers; w++) {
        workers[w] = fork();
        if (workers[w] == 0) {
            for (uint64_t i = w; i < o->repairs && tallies[w].counts.failures < o->failures_max; i += o->workers) {
                run_one(o, o->first + i, &tallies[w]);
            }
            fflush(stdout);
            _exit(0);
        }
    }
    for (uint64_t w = 0; w < o->workers; w++) {
        int status = 0;
        if (waitpid(workers[w], &status, 0) != workers[w] || status != 0) {
            printf("FAILED --repairs: a worker ended early\n");
            tallies[w].counts.failures++;
        }
    }
    int code = summary(o, tallies);
    munmap(tallies, WORKERS_MAX * sizeof *tallies);
    return code;
}
