/* A child runs a few seeds one after the other and writes each result into a pipe. When it dies, the seed it was at has
 * failed and another child goes on behind it. Results are told in order of seeds whatever the number of children, so
 * output does not depend on the machine. */
#include "sim_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

#define SEEDS_PER_CHILD          32u
#define CPU_SECONDS_PER_SEED_MAX 60 /* a broker that spins for ever in one event */

static bool read_result(int fd, struct sim_result *ret_result)
{
    uint8_t *at = (uint8_t *)ret_result;
    size_t got = 0;
    while (got < sizeof *ret_result) {
        ssize_t n = read(fd, at + got, sizeof *ret_result - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

static void write_result(int fd, const struct sim_result *result)
{
    if (write(fd, result, sizeof *result) != (ssize_t)sizeof *result) { /* below PIPE_BUF: whole or not at all */
        _exit(1);
    }
}

static void hush(void)
{
    int null = open("/dev/null", O_WRONLY);
    if (null >= 0) {
        dup2(null, STDERR_FILENO);
    }
}

static void died(int status, struct sim_result *ret_result)
{
    *ret_result = (struct sim_result){.failed = true};
    int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    const char *check = signal == SIGABRT ? "abort" : signal == SIGPROF ? "spin" : "crash";
    snprintf(ret_result->check, sizeof ret_result->check, "%s", check);
    snprintf(ret_result->text, sizeof ret_result->text, "the process died: %s",
             signal != 0 ? strsignal(signal) : "it exited");
}

/* The last line that a dying child wrote to stderr says which assertion it was. */
static pid_t spawn(void (*body)(void *context, int fd), void *context, bool loud, int *ret_fd)
{
    int fds[2];
    fflush(stdout);
    int error = pipe(fds);
    ASSERT(error == 0);
    pid_t child = fork();
    ASSERT(child >= 0);
    if (child == 0) {
        close(fds[0]);
        if (!loud) {
            hush();
        }
        body(context, fds[1]);
        _exit(0);
    }
    close(fds[1]);
    *ret_fd = fds[0];
    return child;
}

static void limit_cpu(void)
{
    const struct itimerval limit = {.it_value = {.tv_sec = CPU_SECONDS_PER_SEED_MAX}};
    setitimer(ITIMER_PROF, &limit, NULL);
}

struct call {
    void (*run)(void *context, struct sim_result *ret_result);
    void *context;
};

static void call_body(void *context, int fd)
{
    const struct call *call = context;
    struct sim_result result;
    limit_cpu();
    call->run(call->context, &result);
    write_result(fd, &result);
}

void child_call(void (*run)(void *context, struct sim_result *ret_result), void *context, bool loud,
                struct sim_result *ret_result)
{
    struct call call = {run, context};
    struct sim_result result;
    int fd, status = 0;
    pid_t child = spawn(call_body, &call, loud, &fd);
    bool whole = read_result(fd, &result);
    close(fd);
    waitpid(child, &status, 0);
    if (!whole) {
        died(status, &result);
    }
    *ret_result = result;
}

static void run_options(void *context, struct sim_result *ret_result)
{
    sim_run(context, false, ret_result);
}

void child_run(const struct sim_options *options, bool loud, struct sim_result *ret_result)
{
    struct sim_options copy = *options;
    child_call(run_options, &copy, loud, ret_result);
}

/* --- batches --- */

struct worker {
    pid_t child; /* 0: none */
    int fd;
    uint64_t next, end; /* seeds still to come from this child */
};

struct batch_body {
    const struct child_batch *batch;
    uint64_t first, end;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool is_twice(const struct child_batch *batch, uint64_t seed)
{
    return seed * 2654435761u % 100 < batch->twice_percent;
}

static void run_seed(uint64_t seed, struct sim_result *ret_result)
{
    struct sim_options options;
    sim_options_draw(&options, seed);
    sim_run(&options, false, ret_result);
}

static void batch_body(void *context, int fd)
{
    const struct batch_body *body = context;
    void (*run)(uint64_t, struct sim_result *) = body->batch->run != NULL ? body->batch->run : run_seed;
    for (uint64_t seed = body->first; seed < body->end; seed++) {
        struct sim_result result, again;
        limit_cpu();
        run(seed, &result);
        if (!result.failed && is_twice(body->batch, seed)) {
            run(seed, &again);
            if (again.hash != result.hash) {
                result.failed = true;
                strcpy(result.check, "hash");
                snprintf(result.text, sizeof result.text, "two runs differ: %016llx, %016llx",
                         (unsigned long long)result.hash, (unsigned long long)again.hash);
            }
        }
        write_result(fd, &result);
    }
}

static void worker_start(const struct child_batch *batch, struct worker *worker, uint64_t first, uint64_t end)
{
    struct batch_body body = {batch, first, end};
    worker->next = first;
    worker->end = end;
    worker->child = spawn(batch_body, &body, false, &worker->fd);
}

static void worker_end(struct worker *worker, int *ret_status)
{
    close(worker->fd);
    waitpid(worker->child, ret_status, 0);
    worker->child = 0;
}

static bool may_begin(const struct child_batch *batch)
{
    return batch->deadline_s == 0 || now_s() < batch->deadline_s;
}

/* Children work on consecutive ranges; the results of the oldest range are told first. */
void child_run_batch(const struct child_batch *batch)
{
    enum { JOBS_MAX = 64 };
    struct worker workers[JOBS_MAX] = {{0}};
    uint32_t jobs = batch->jobs < 1 ? 1 : batch->jobs > JOBS_MAX ? JOBS_MAX : batch->jobs;
    uint64_t per_child = batch->seeds_per_child > 0 ? batch->seeds_per_child : SEEDS_PER_CHILD;
    uint64_t begin = batch->first, end = batch->first + batch->seeds;
    uint32_t oldest = 0;
    bool stop = false;
    for (;;) {
        for (uint32_t i = 0; i < jobs; i++) {
            struct worker *worker = &workers[(oldest + i) % jobs];
            if (worker->child == 0 && begin < end && !stop && may_begin(batch)) {
                uint64_t until = end - begin < per_child ? end : begin + per_child;
                worker_start(batch, worker, begin, until);
                begin = until;
            }
        }
        struct worker *worker = &workers[oldest];
        if (worker->child == 0)
            return;
        while (worker->next < worker->end && !stop) {
            struct sim_result result;
            int status = 0;
            if (!read_result(worker->fd, &result)) {
                worker_end(worker, &status);
                died(status, &result);
                worker_start(batch, worker, worker->next + 1, worker->end); /* nothing to do if that was the last */
                worker->next--;
            }
            uint64_t seed = worker->next++;
            batch->on_result(batch->context, seed, &result);
            stop = stop || (result.failed && batch->stop_at_failure);
        }
        if (stop) {
            kill(worker->child, SIGKILL);
        }
        int status;
        worker_end(worker, &status);
        oldest = (oldest + 1) % jobs;
    }
}
