/* Which states are tried, and how.
 *
 * At each point of the tape there is what is durable, and a list of changes that are pending. The states of a point:
 * all pending changes lost or all kept, and from either of the two up to three of them turned over; one of those turned
 * may be torn instead, at any sector, its head or its tail on the disk. So a state with all kept at every point is
 * every prefix of the tape. If there are more than the point's share of the budget, those two are tried and dice choose
 * the others, half of them among the youngest changes. States that were tried before with the same promises are
 * skipped: two points between which nothing was promised have most of theirs in common.
 *
 * Each state is built in a directory of its own and opened in a child process, so that an assertion, a signal or a hang
 * is a failure of this state and of nothing else. */
#include "explore.h"

#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/rng.h"

#define TURNED_MAX   3
#define DEADLINE_S   60
#define OUTPUT_BYTES 600
#define YOUNG        8u

/* Turned over from a base, at most one of them torn. */
struct choice {
    bool base_kept;
    uint32_t turned[TURNED_MAX];
    uint32_t turned_count;
    struct fate torn; /* of turned[0], if its kind is HEAD or TAIL */
};

struct shared { /* with the child */
    char why[VERIFY_WHY_BYTES];
    uint64_t nested_states, nested_failures;
};

struct explore {
    const struct explore_options *options;
    struct model *model;
    struct oracle *oracle;
    struct explore_counts *counts;
    struct rng rng;
    struct fate *fates;
    uint32_t fates_room;
    uint64_t *seen; /* hashes, open addressing; 0: free */
    uint64_t seen_room, seen_count;
    struct shared *shared;
    int output; /* stderr of the children */
    uint64_t point;
};

/* --- states seen --- */

static bool seen_add(struct explore *e, uint64_t hash)
{
    hash += hash == 0;
    if (e->seen_count * 2 >= e->seen_room) {
        uint64_t old_room = e->seen_room, *old = e->seen;
        e->seen_room = old_room == 0 ? 1024 : old_room * 2;
        e->seen = calloc(e->seen_room, sizeof *e->seen);
        ASSERT(e->seen != NULL);
        e->seen_count = 0;
        for (uint64_t i = 0; i < old_room; i++) {
            if (old[i] != 0) {
                seen_add(e, old[i]);
            }
        }
        free(old);
    }
    uint64_t at = hash % e->seen_room;
    while (e->seen[at] != 0 && e->seen[at] != hash) {
        at = (at + 1) % e->seen_room;
    }
    if (e->seen[at] == hash)
        return false;
    e->seen[at] = hash;
    e->seen_count++;
    return true;
}

/* --- choices --- */

static void choice_apply(struct explore *e, const struct choice *choice)
{
    uint32_t count = model_pending(e->model);
    for (uint32_t i = 0; i < count; i++) {
        e->fates[i] = (struct fate){.kind = choice->base_kept ? FATE_KEPT : FATE_LOST};
    }
    for (uint32_t i = 0; i < choice->turned_count; i++) {
        e->fates[choice->turned[i]].kind = choice->base_kept ? FATE_LOST : FATE_KEPT;
    }
    if (choice->turned_count > 0 && choice->torn.kind >= FATE_HEAD) {
        e->fates[choice->turned[0]] = choice->torn;
    }
}

static void choice_print(const struct choice *choice, char *text, size_t size)
{
    int at = snprintf(text, size, "%s", choice->base_kept ? "kept" : "lost");
    for (uint32_t i = 0; i < choice->turned_count; i++) {
        at += snprintf(text + at, size - (size_t)at, "+%u", choice->turned[i]);
        if (i == 0 && choice->torn.kind >= FATE_HEAD) {
            at += snprintf(text + at, size - (size_t)at, "%c%u", choice->torn.kind == FATE_HEAD ? 'h' : 't',
                           choice->torn.cut);
        }
    }
}

static struct choice choice_parse(const char *text)
{
    struct choice choice = {.base_kept = strncmp(text, "kept", 4) == 0};
    while ((text = strchr(text, '+')) != NULL && choice.turned_count < TURNED_MAX) {
        char *rest;
        choice.turned[choice.turned_count++] = (uint32_t)strtoul(++text, &rest, 10);
        if (*rest == 'h' || *rest == 't') {
            choice.torn.kind = *rest == 'h' ? FATE_HEAD : FATE_TAIL;
            choice.torn.cut = (uint32_t)strtoul(rest + 1, NULL, 10);
        }
    }
    return choice;
}

/* The n-th sector boundary inside a write. */
static uint32_t cut_at(const struct change *change, uint32_t number)
{
    uint32_t first = MODEL_SECTOR_BYTES - (uint32_t)(change->offset % MODEL_SECTOR_BYTES);
    return first + number * MODEL_SECTOR_BYTES;
}

/* All choices of a point, with n changes and t places to tear. */
static double combinations(const struct model *model)
{
    double n = model_pending(model), cuts = 0;
    for (uint32_t i = 0; i < model_pending(model); i++) {
        cuts += model_cuts(model_change(model, i));
    }
    double rest = n - 1;
    double subsets = 1 + n + n * (n - 1) / 2 + n * (n - 1) * (n - 2) / 6;
    double torn = n > 0 ? cuts * 2 * (1 + rest + rest * (rest - 1) / 2) : 0;
    return n == 0 ? 1 : 2 * (subsets + torn);
}

/* --- one state --- */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status, (void)type, (void)where;
    return remove(path);
}

void explore_remove(const char *dir)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Crashes the recovery of the state in dir as well: records it, and tries states of that tape. */
static void crash_again(struct explore *e, const char *dir)
{
    char path[4400], inner[4400];
    struct explore_counts counts = {0};
    struct tape tape;
    snprintf(path, sizeof path, "%s.tape", dir);
    snprintf(inner, sizeof inner, "%s.in", dir);
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        alarm(DEADLINE_S);
        const struct explore_subject *subject = e->options->subject;
        bool good = subject->recover(subject->context, e->oracle, dir, path, e->options->seed, e->shared->why);
        _exit(good ? 0 : 1);
    }
    if (waitpid(child, &status, 0) != child || status != 0 || !tape_read(path, &tape)) {
        if (e->shared->why[0] == '\0') {
            snprintf(e->shared->why, sizeof e->shared->why, "S11: what is recorded ends with status %d", status);
        }
        _exit(1);
    }
    explore_remove(dir);
    struct model *model = model_new();
    if (mkdir(dir, 0750) != 0 || mkdir(inner, 0750) != 0 || !model_build(e->model, e->fates, dir) ||
        !model_scan(model, dir)) {
        snprintf(e->shared->why, sizeof e->shared->why, "the state cannot be built twice");
        _exit(1);
    }
    struct explore_options options = *e->options;
    char label[200];
    snprintf(label, sizeof label, "%s in the recovery of point %llu", e->options->label, (unsigned long long)e->point);
    options.states = e->options->nested_states;
    options.workers = 1;
    options.worker = options.nested_every = 0;
    options.only_point = -1;
    options.dir = inner;
    options.label = label;
    explore_tape(&options, &tape, model, e->oracle, &counts);
    e->shared->nested_states = counts.states;
    e->shared->nested_failures = counts.failures;
    explore_remove(inner);
    unlink(path);
    tape_free(&tape);
    model_free(model);
}

_Noreturn static void child_run(struct explore *e, const char *dir, bool again)
{
    const struct explore_subject *subject = e->options->subject;
    alarm(DEADLINE_S);
    dup2(e->output, 2);
    if (mkdir(dir, 0750) != 0 || !model_build(e->model, e->fates, dir)) {
        snprintf(e->shared->why, sizeof e->shared->why, "the state cannot be built");
        _exit(1);
    }
    if (again) {
        alarm(DEADLINE_S * 10);
        crash_again(e, dir);
    }
    bool good = subject->judge(subject->context, e->oracle, dir, e->options->seed ^ e->point, e->shared->why);
    if (good || !e->options->keep) {
        explore_remove(dir);
    }
    _exit(good ? 0 : 1);
}

static void report(struct explore *e, const struct choice *choice, int status)
{
    char text[100], output[OUTPUT_BYTES + 1] = "";
    choice_print(choice, text, sizeof text);
    ssize_t got = pread(e->output, output, OUTPUT_BYTES, 0);
    output[got > 0 ? got : 0] = '\0';
    for (char *at = output; *at != '\0'; at++) {
        *at = *at == '\n' ? ' ' : *at;
    }
    printf("FAILED %s --point %llu --fates %s: %s%s%s%s", e->options->label, (unsigned long long)e->point, text,
           e->shared->why, WIFSIGNALED(status) ? "S11: ended by signal " : "",
           WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "", output[0] != '\0' ? " | " : "");
    printf("%s\n", output);
    fflush(stdout);
}

static void try_state(struct explore *e, const struct choice *choice)
{
    char dir[4300];
    choice_apply(e, choice);
    uint64_t hash = model_hash(e->model, e->fates) + e->oracle->promises * 0x9e3779b97f4a7c15;
    if (!seen_add(e, hash))
        return;
    uint64_t number = e->counts->states++;
    const struct explore_options *o = e->options;
    bool again = o->nested_every > 0 && number % o->nested_every == o->nested_every - 1;
    e->counts->nested_tapes += again;
    memset(e->shared, 0, sizeof *e->shared);
    if (ftruncate(e->output, 0) != 0 || lseek(e->output, 0, SEEK_SET) != 0) {
        abort();
    }
    snprintf(dir, sizeof dir, "%s/state.%llu", o->dir, (unsigned long long)e->counts->failures);
    fflush(stdout);
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        child_run(e, dir, again);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        abort();
    }
    e->counts->nested_states += e->shared->nested_states;
    e->counts->failures += e->shared->nested_failures;
    if (status != 0) {
        report(e, choice, status);
        e->counts->failures++;
        if (!o->keep) {
            explore_remove(dir);
        }
    }
}

void explore_add(struct explore_counts *sum, const struct explore_counts *counts)
{
    sum->events += counts->events;
    sum->points += counts->points;
    sum->combinations += counts->combinations;
    sum->states += counts->states;
    sum->whole_points += counts->whole_points;
    sum->nested_tapes += counts->nested_tapes;
    sum->nested_states += counts->nested_states;
    sum->failures += counts->failures;
}

/* --- one point --- */

static bool is_over(const struct explore *e)
{
    return e->counts->failures >= e->options->failures_max;
}

/* Tries the choice, and with its first change torn everywhere. */
static void try_torn(struct explore *e, struct choice *choice)
{
    choice->torn.kind = FATE_LOST;
    try_state(e, choice);
    for (uint32_t which = 0; which < choice->turned_count; which++) {
        struct choice torn = *choice;
        torn.turned[0] = choice->turned[which];
        torn.turned[which] = choice->turned[0];
        const struct change *change = model_change(e->model, torn.turned[0]);
        for (uint32_t cut = 0; cut < model_cuts(change) && !is_over(e); cut++) {
            torn.torn = (struct fate){FATE_HEAD, cut_at(change, cut)};
            try_state(e, &torn);
            torn.torn.kind = FATE_TAIL;
            try_state(e, &torn);
        }
    }
}

static void try_all(struct explore *e)
{
    uint32_t n = model_pending(e->model);
    for (int base = 0; base < 2; base++) {
        struct choice choice = {.base_kept = base == 1};
        try_state(e, &choice);
        for (uint32_t a = 0; a < n; a++) {
            choice = (struct choice){.base_kept = base == 1, .turned = {a}, .turned_count = 1};
            try_torn(e, &choice);
            for (uint32_t b = a + 1; b < n; b++) {
                choice = (struct choice){.base_kept = base == 1, .turned = {a, b}, .turned_count = 2};
                try_torn(e, &choice);
                for (uint32_t c = b + 1; c < n && !is_over(e); c++) {
                    choice = (struct choice){.base_kept = base == 1, .turned = {a, b, c}, .turned_count = 3};
                    try_torn(e, &choice);
                }
            }
        }
    }
}

static struct choice choice_random(struct explore *e)
{
    uint32_t n = model_pending(e->model);
    uint32_t from = n > YOUNG && rng_chance(&e->rng, 0.5) ? n - YOUNG : 0;
    struct choice choice = {.base_kept = rng_chance(&e->rng, 0.5)};
    uint32_t wanted = (uint32_t)rng_between(&e->rng, 1, TURNED_MAX);
    wanted = wanted < n - from ? wanted : n - from;
    while (choice.turned_count < wanted) {
        uint32_t pick = from + (uint32_t)rng_below(&e->rng, n - from);
        bool taken = false;
        for (uint32_t i = 0; i < choice.turned_count; i++) {
            taken = taken || choice.turned[i] == pick;
        }
        if (!taken) {
            choice.turned[choice.turned_count++] = pick;
        }
    }
    const struct change *first = model_change(e->model, choice.turned[0]);
    if (model_cuts(first) > 0 && rng_chance(&e->rng, 0.4)) {
        choice.torn.kind = rng_chance(&e->rng, 0.6) ? FATE_HEAD : FATE_TAIL;
        choice.torn.cut = cut_at(first, (uint32_t)rng_below(&e->rng, model_cuts(first)));
    }
    return choice;
}

static void try_point(struct explore *e, uint64_t share)
{
    uint32_t n = model_pending(e->model);
    double total = combinations(e->model);
    e->counts->combinations += total;
    if (n >= e->fates_room) {
        e->fates_room = n + 64;
        e->fates = realloc(e->fates, e->fates_room * sizeof *e->fates);
        ASSERT(e->fates != NULL);
    }
    if (e->options->only_fates != NULL) {
        struct choice choice = choice_parse(e->options->only_fates);
        try_state(e, &choice);
        return;
    }
    if (total <= (double)share) {
        e->counts->whole_points++;
        try_all(e);
        return;
    }
    uint64_t until = e->counts->states + share;
    struct choice none = {.base_kept = false}, all = {.base_kept = true};
    try_state(e, &none);
    try_state(e, &all);
    for (uint64_t i = 0; i < share * 3 && e->counts->states < until && !is_over(e); i++) {
        struct choice choice = choice_random(e);
        try_state(e, &choice);
    }
}

/* --- the tape --- */

static uint64_t points_of(const struct tape *tape)
{
    uint64_t points = 0;
    for (uint32_t i = 0; i < tape->count; i++) {
        uint32_t kind = tape->items[i].event->kind;
        points += kind != TAPE_MARK && kind != TAPE_HINT && kind != TAPE_KNOWN;
    }
    return points;
}

void explore_mark(const struct tape_item *item, struct oracle *oracle)
{
    struct mark mark;
    memcpy(&mark, item->payload, sizeof mark);
    oracle_add(oracle, &mark, item->payload + sizeof mark, item->event->size - (uint32_t)sizeof mark);
}

/* Marks that follow an event belong to its point: the broker has promised them with nothing more on the disk. */
static uint32_t play_marks(struct explore *e, const struct tape *tape, uint32_t at)
{
    for (; at < tape->count && tape->items[at].event->kind == TAPE_MARK; at++) {
        explore_mark(&tape->items[at], e->oracle);
    }
    return at;
}

void explore_tape(const struct explore_options *options, const struct tape *tape, struct model *model,
                  struct oracle *oracle, struct explore_counts *counts)
{
    struct explore explore = {.options = options, .model = model, .oracle = oracle, .counts = counts};
    struct explore *e = &explore;
    uint64_t points = points_of(tape);
    e->shared = mmap(NULL, sizeof *e->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    e->output = memfd_create("output", MFD_CLOEXEC);
    ASSERT(e->shared != MAP_FAILED && e->output >= 0);
    counts->events = tape->count;
    for (uint32_t at = play_marks(e, tape, 0); at < tape->count && !is_over(e);) {
        bool changed = model_play(model, &tape->items[at], at + 1);
        at = play_marks(e, tape, at + 1);
        if (!changed)
            continue;
        e->point++;
        counts->points++;
        if (options->only_point >= 0 ? e->point != (uint64_t)options->only_point
                                     : e->point % options->workers != options->worker)
            continue;
        uint64_t budget = options->states / options->workers;
        uint64_t points_left = (points - e->point) / options->workers + 1;
        uint64_t states_left = budget > counts->states ? budget - counts->states : 0;
        rng_seed(&e->rng, options->seed * 1000003 + e->point);
        uint64_t share = (states_left + points_left - 1) / points_left;
        if (share > 0) {
            try_point(e, share);
        }
    }
    munmap(e->shared, sizeof *e->shared);
    close(e->output);
    free(e->seen);
    free(e->fates);
}
