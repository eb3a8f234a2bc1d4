/* Files, lanes and the lock of the real disk, in a fresh directory. pwritev, fdatasync and pread are interposed: this
 * program's definitions come before the C library's, and follow the plan below. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/limits.h"
#include "os/disk.h"
#include "os/loop.h"

struct fault_plan {
    int error_every;    /* every n-th pwritev fails with `error`; 0: none */
    int error;
    size_t bytes_max;   /* no pwritev takes more; 0: no limit */
    int sync_error;
    int calls;
    size_t largest;
};

static struct fault_plan plan;

__attribute__((visibility("default"))) ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++) {
        bytes += parts[i].iov_len;
    }
    plan.largest = bytes > plan.largest ? bytes : plan.largest;
    plan.calls++;
    if (plan.error_every != 0 && plan.calls % plan.error_every == 0) {
        errno = plan.error;
        return -1;
    }
    if (plan.bytes_max != 0 && bytes > plan.bytes_max) {
        size_t size = parts[0].iov_len < plan.bytes_max ? parts[0].iov_len : plan.bytes_max;
        return syscall(SYS_pwrite64, fd, parts[0].iov_base, size, offset);
    }
    return syscall(SYS_pwritev, fd, parts, count, (unsigned long)offset, (unsigned long)0);
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    if (plan.sync_error != 0) {
        errno = plan.sync_error;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* Who reads which file at which place: files are told by their sizes. */
#define GLANCES_MAX 256

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t came;
    bool on;
    int count, by_loop;
    pthread_t loop_thread;
    uint64_t offset[GLANCES_MAX], size[GLANCES_MAX];
    int reads[GLANCES_MAX];
} glances = {.mutex = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};

__attribute__((visibility("default"))) ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    struct stat status;
    ssize_t got = syscall(SYS_pread64, fd, data, size, offset);
    pthread_mutex_lock(&glances.mutex);
    if (glances.on && fstat(fd, &status) == 0 && status.st_size < GLANCES_MAX) {
        glances.offset[status.st_size] = (uint64_t)offset;
        glances.size[status.st_size] = size;
        glances.reads[status.st_size]++;
        glances.by_loop += pthread_equal(pthread_self(), glances.loop_thread) != 0;
        glances.count++;
        pthread_cond_signal(&glances.came);
    }
    pthread_mutex_unlock(&glances.mutex);
    return got;
}

struct fixture {
    char root[64];
    struct os_loop *loop;
    struct os_disk *os;
    struct disk *disk;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    plan = (struct fault_plan){0};
    strcpy(f->root, "test_os_disk.XXXXXX");
    assert_non_null(mkdtemp(f->root));
    assert_int_equal(os_loop_open(NULL, NULL, &f->loop), OK);
    assert_int_equal(os_disk_open(f->root, f->loop, &f->os), OK);
    f->disk = os_disk_port(f->os);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    os_disk_close(f->os);
    os_loop_close(f->loop);
    nftw(f->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static struct disk_file *must_open(struct fixture *f, const char *path, unsigned flags)
{
    struct disk_file *file = NULL;
    assert_int_equal(f->disk->ops->open(f->disk, path, flags, &file), OK);
    return file;
}

static void fill(uint8_t *data, size_t size, uint32_t seed)
{
    for (size_t i = 0; i < size; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (uint8_t)(seed >> 24);
    }
}

/* Writes `size` bytes in parts of changing sizes and reads them back. */
static void write_and_compare(struct fixture *f, unsigned flags, size_t size, size_t part_max, uint64_t offset)
{
    uint8_t *data = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    uint8_t *back = malloc(size);
    struct iovec *parts = calloc(size / (part_max / 2) + 2, sizeof *parts);
    int count = 0;
    size_t got = 0;
    fill(data, size, (uint32_t)size);
    for (size_t at = 0; at < size;) {
        size_t part = flags & DISK_DIRECT ? part_max : part_max / 2 + (at * 7 + 1) % (part_max / 2);
        part = part > size - at ? size - at : part;
        parts[count++] = (struct iovec){data + at, part};
        at += part;
    }
    struct disk_file *file = must_open(f, "data", flags | DISK_WRITE | DISK_CREATE);
    assert_int_equal(f->disk->ops->write(f->disk, file, parts, count, offset), OK);
    assert_int_equal(f->disk->ops->sync(f->disk, file), OK);
    assert_int_equal(f->disk->ops->read(f->disk, file, back, size, offset, &got), OK);
    assert_int_equal(got, size);
    assert_memory_equal(back, data, size);
    uint64_t file_size = 0;
    assert_int_equal(f->disk->ops->size(f->disk, file, &file_size), OK);
    assert_int_equal(file_size, offset + size);
    f->disk->ops->close(f->disk, file);
    assert_int_equal(f->disk->ops->unlink(f->disk, "data"), OK);
    free(parts);
    free(back);
    free(data);
}

static void test_write_in_many_parts(void **state)
{
    write_and_compare(*state, 0, 100, 8, 0);
    write_and_compare(*state, 0, 300001, 64, 17);                  /* more than IOV_MAX parts */
    write_and_compare(*state, 0, (3u << 20) + 5, 1u << 20, 4096);  /* parts above the limit of one call */
    assert_true(plan.largest <= WAL_WRITE_BYTES_MAX);
}

static void test_write_direct(void **state)
{
    write_and_compare(*state, DISK_DIRECT, 4096, 4096, 0);
    write_and_compare(*state, DISK_DIRECT, 3u << 20, 12288, 8192);
    plan = (struct fault_plan){.error_every = 2, .error = EINVAL}; /* a file system that says no late */
    write_and_compare(*state, DISK_DIRECT, 40960, 4096, 0);
}

static void test_write_is_cut_short(void **state)
{
    plan = (struct fault_plan){.error_every = 3, .error = EINTR, .bytes_max = 1000};
    write_and_compare(*state, 0, 50000, 900, 5);
    assert_true(plan.calls > 50);
}

static void test_write_fails(void **state)
{
    struct fixture *f = *state;
    struct iovec part = {(void *)(uintptr_t)"x", 1};
    struct disk_file *file = must_open(f, "data", DISK_WRITE | DISK_CREATE);
    plan = (struct fault_plan){.error_every = 1, .error = ENOSPC};
    assert_int_equal(f->disk->ops->write(f->disk, file, &part, 1, 0), ERR_STORAGE_FULL);
    plan.error = EDQUOT;
    assert_int_equal(f->disk->ops->write(f->disk, file, &part, 1, 0), ERR_STORAGE_FULL);
    plan.error = EIO;
    assert_int_equal(f->disk->ops->write(f->disk, file, &part, 1, 0), ERR_IO);
    f->disk->ops->close(f->disk, file);
}

/* A full disk found out by a sync has lost pages: it must not look like something that passes. */
static void test_every_failed_sync_is_final(void **state)
{
    static const int numbers[] = {EIO, ENOSPC, EDQUOT, EINTR, ENOMEM};
    struct fixture *f = *state;
    struct disk_file *file = must_open(f, "data", DISK_WRITE | DISK_CREATE);
    for (int i = 0; i < 5; i++) {
        plan.sync_error = numbers[i];
        assert_int_equal(f->disk->ops->sync(f->disk, file), ERR_IO);
    }
    f->disk->ops->close(f->disk, file);
}

static void test_read_at_the_end(void **state)
{
    struct fixture *f = *state;
    struct iovec part = {(void *)(uintptr_t)"hello", 5};
    char back[16];
    size_t got = 99;
    struct disk_file *file = must_open(f, "data", DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE);
    assert_int_equal(f->disk->ops->write(f->disk, file, &part, 1, 0), OK);
    assert_int_equal(f->disk->ops->read(f->disk, file, back, sizeof back, 2, &got), OK);
    assert_int_equal(got, 3);
    assert_memory_equal(back, "llo", 3);
    assert_int_equal(f->disk->ops->read(f->disk, file, back, sizeof back, 5, &got), OK);
    assert_int_equal(got, 0);
    assert_int_equal(f->disk->ops->writeback(f->disk, file, 0, 5), OK);
    assert_int_equal(f->disk->ops->truncate(f->disk, file, 100), OK);
    assert_int_equal(f->disk->ops->read(f->disk, file, back, sizeof back, 90, &got), OK);
    assert_int_equal(got, 10);
    assert_int_equal(f->disk->ops->sync_all(f->disk), OK);
    f->disk->ops->close(f->disk, file);
}

static void collect(void *context, const char *name)
{
    strcat(context, name);
    strcat(context, " ");
}

static void test_names(void **state)
{
    struct fixture *f = *state;
    const struct disk_ops *ops = f->disk->ops;
    char names[256] = "";
    struct disk_file *file = NULL;
    assert_int_equal(ops->make_dir(f->disk, "a/b/c"), OK);
    assert_int_equal(ops->make_dir(f->disk, "a/b/c"), OK);
    assert_int_equal(ops->list(f->disk, "a/nothing", collect, names), ERR_NO_FILE);
    static const char *const made[] = {"a/b/zeta", "a/b/B", "a/b/00000000000000000010.log", "a/b/9"};
    for (int i = 0; i < 4; i++) {
        ops->close(f->disk, must_open(f, made[i], DISK_WRITE | DISK_CREATE));
    }
    assert_int_equal(ops->open(f->disk, made[0], DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &file), ERR_EXISTS);
    assert_int_equal(ops->open(f->disk, "a/b/none", DISK_READ, &file), ERR_NO_FILE);
    assert_null(file);
    assert_int_equal(ops->rename(f->disk, "a/b/9", "a/b/B"), OK);
    assert_int_equal(ops->sync_dir(f->disk, "a/b"), OK);
    assert_int_equal(ops->sync_dir(f->disk, ""), OK);
    assert_int_equal(ops->list(f->disk, "a/b", collect, names), OK);
    assert_string_equal(names, "00000000000000000010.log B c zeta ");
    assert_int_equal(ops->remove_dir(f->disk, "a/b"), ERR_EXISTS);
    assert_int_equal(ops->unlink(f->disk, "a/b/9"), ERR_NO_FILE);
    assert_int_equal(ops->remove_dir(f->disk, "a/b/c"), OK);
    assert_int_equal(ops->remove_dir(f->disk, "a/b/c"), OK);
    names[0] = '\0';
    assert_int_equal(ops->list(f->disk, "", collect, names), OK);
    assert_string_equal(names, "a ");
}

static void test_no_descriptors_left(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, low;
    struct disk_file *file = NULL;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    enum err error = f->disk->ops->open(f->disk, "data", DISK_WRITE | DISK_CREATE, &file);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(error, ERR_TOO_MANY_FILES);
}

static void test_lock(void **state)
{
    struct fixture *f = *state;
    struct os_disk *second = NULL;
    assert_int_equal(os_disk_lock(f->os), OK);
    assert_int_equal(os_disk_open(f->root, NULL, &second), OK);
    assert_int_equal(os_disk_lock(second), ERR_LOCKED);
    os_disk_close(second);
    assert_int_equal(os_disk_open("no/such/parent", NULL, &second), ERR_NO_FILE);
}

/* ---- lanes ---- */

#define JOBS 2000

struct lanes {
    struct fixture *f;
    pthread_t loop_thread;
    int ran[DISK_LANES];  /* each lane's thread only */
    int done[DISK_LANES]; /* loop thread only */
    int resubmits;
};

struct job {
    struct disk_job job;
    struct lanes *lanes;
    enum disk_lane lane;
    int number;
};

static void job_run(struct disk_job *base)
{
    struct job *job = (struct job *)base;
    assert_false(pthread_equal(pthread_self(), job->lanes->loop_thread));
    assert_int_equal(job->lanes->ran[job->lane]++, job->number);
}

static void job_done(struct disk_job *base)
{
    struct job *job = (struct job *)base;
    struct lanes *lanes = job->lanes;
    assert_true(pthread_equal(pthread_self(), lanes->loop_thread));
    assert_int_equal(lanes->done[job->lane]++, job->number);
    if (lanes->resubmits > 0) {
        lanes->resubmits--;
        job->number += JOBS;
        lanes->f->disk->ops->submit(lanes->f->disk, job->lane, base);
    }
    if (lanes->done[0] + lanes->done[1] == 2 * JOBS) {
        os_loop_stop(lanes->f->loop);
    }
}

static void test_lanes_keep_order(void **state)
{
    struct fixture *f = *state;
    struct lanes lanes = {.f = f, .loop_thread = pthread_self()};
    struct job *jobs = calloc(2 * JOBS, sizeof *jobs);
    for (int i = 0; i < 2 * JOBS; i++) {
        enum disk_lane lane = i % 2 == 0 ? DISK_LANE_WAL : DISK_LANE_STORE;
        jobs[i] = (struct job){{job_run, job_done, NULL}, &lanes, lane, i / 2};
        f->disk->ops->submit(f->disk, lane, &jobs[i].job);
        if (i % 100 == 99) {
            os_loop_wake(f->loop);
            os_loop_run_once(f->loop);
        }
    }
    if (lanes.done[0] + lanes.done[1] < 2 * JOBS) {
        os_loop_run(f->loop);
    }
    assert_int_equal(lanes.done[DISK_LANE_WAL], JOBS);
    assert_int_equal(lanes.done[DISK_LANE_STORE], JOBS);
    free(jobs);
}

struct gate {
    struct disk_job blocked;
    struct disk_job opener;
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    bool open;
    bool blocked_done;
    bool opener_done;
    struct os_loop *loop;
};

static void gate_wait(struct disk_job *job)
{
    struct gate *gate = (struct gate *)((char *)job - offsetof(struct gate, blocked));
    pthread_mutex_lock(&gate->mutex);
    while (!gate->open) {
        pthread_cond_wait(&gate->opened, &gate->mutex);
    }
    pthread_mutex_unlock(&gate->mutex);
}

static void gate_open(struct disk_job *job)
{
    struct gate *gate = (struct gate *)((char *)job - offsetof(struct gate, opener));
    pthread_mutex_lock(&gate->mutex);
    gate->open = true;
    pthread_cond_signal(&gate->opened);
    pthread_mutex_unlock(&gate->mutex);
}

static void gate_blocked_done(struct disk_job *job)
{
    struct gate *gate = (struct gate *)((char *)job - offsetof(struct gate, blocked));
    gate->blocked_done = true;
    os_loop_stop(gate->loop);
}

static void gate_opener_done(struct disk_job *job)
{
    struct gate *gate = (struct gate *)((char *)job - offsetof(struct gate, opener));
    gate->opener_done = true;
}

/* A checkpoint that takes seconds must not delay a commit: the WAL job frees the store job that came first. */
static void test_lanes_do_not_wait_for_each_other(void **state)
{
    struct fixture *f = *state;
    struct gate gate = {.blocked = {gate_wait, gate_blocked_done, NULL},
                        .opener = {gate_open, gate_opener_done, NULL},
                        .mutex = PTHREAD_MUTEX_INITIALIZER,
                        .opened = PTHREAD_COND_INITIALIZER,
                        .loop = f->loop};
    f->disk->ops->submit(f->disk, DISK_LANE_STORE, &gate.blocked);
    f->disk->ops->submit(f->disk, DISK_LANE_WAL, &gate.opener);
    os_loop_run(f->loop);
    while (!gate.opener_done) {
        os_loop_run_once(f->loop);
    }
    assert_true(gate.blocked_done);
}

static void test_close_drains(void **state)
{
    struct fixture *f = *state;
    struct lanes lanes = {.f = f, .loop_thread = pthread_self(), .resubmits = JOBS};
    struct job *jobs = calloc(JOBS, sizeof *jobs);
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (struct job){{job_run, job_done, NULL}, &lanes, DISK_LANE_WAL, i};
        f->disk->ops->submit(f->disk, DISK_LANE_WAL, &jobs[i].job);
    }
    os_disk_close(f->os); /* also what the done calls submit */
    f->os = NULL;
    assert_int_equal(lanes.done[DISK_LANE_WAL], 2 * JOBS);
    free(jobs);
}

/* Files of 1, 2, ... bytes, and names without one between them; of every third file nothing is to be read. */
static struct disk_expected *expected_files(struct fixture *f, uint32_t *ret_count)
{
    const uint8_t bytes[GLANCES_MAX] = {0};
    struct disk_expected *files = calloc(GLANCES_MAX, sizeof *files);
    for (uint32_t i = 1; i < GLANCES_MAX; i++) {
        struct iovec part = {(void *)(uintptr_t)bytes, i};
        snprintf(files[i].path, sizeof files[i].path, "file-%u", i);
        files[i].offset = i / 2;
        files[i].size = i % 3 == 0 ? 0 : i - i / 2;
        if (i % 5 != 0) {
            struct disk_file *file = must_open(f, files[i].path, DISK_WRITE | DISK_CREATE);
            assert_int_equal(f->disk->ops->write(f->disk, file, &part, 1, 0), OK);
            f->disk->ops->close(f->disk, file);
        }
    }
    snprintf(files[0].path, sizeof files[0].path, "no/such/directory");
    *ret_count = GLANCES_MAX;
    return files;
}

static bool is_read(uint32_t i)
{
    return i > 0 && i % 3 != 0 && i % 5 != 0;
}

static void test_expected_files_are_read_ahead(void **state)
{
    struct fixture *f = *state;
    uint32_t count;
    int wanted = 0;
    struct disk_expected *files = expected_files(f, &count);
    for (uint32_t i = 0; i < GLANCES_MAX; i++) {
        wanted += is_read(i);
    }
    pthread_mutex_lock(&glances.mutex);
    glances.on = true;
    glances.loop_thread = pthread_self();
    pthread_mutex_unlock(&glances.mutex);
    f->disk->ops->expect(f->disk, files, count);
    pthread_mutex_lock(&glances.mutex);
    while (glances.count < wanted) {
        pthread_cond_wait(&glances.came, &glances.mutex);
    }
    pthread_mutex_unlock(&glances.mutex);
    os_disk_close(f->os); /* waits for the threads */
    f->os = NULL;
    glances.on = false;
    assert_int_equal(glances.count, wanted);
    assert_int_equal(glances.by_loop, 0);
    for (uint32_t i = 0; i < GLANCES_MAX; i++) {
        assert_int_equal(glances.reads[i], is_read(i));
        assert_true(!is_read(i) || (glances.offset[i] == i / 2 && glances.size[i] == i - i / 2));
    }
}

static void test_close_ends_what_is_read_ahead(void **state)
{
    struct fixture *f = *state;
    uint32_t count;
    struct disk_expected *files = expected_files(f, &count);
    f->disk->ops->expect(f->disk, files, count);
    f->disk->ops->expect(f->disk, NULL, 0);
    os_disk_close(f->os);
    f->os = NULL;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_write_in_many_parts),
        TEST(test_write_direct),
        TEST(test_write_is_cut_short),
        TEST(test_write_fails),
        TEST(test_every_failed_sync_is_final),
        TEST(test_read_at_the_end),
        TEST(test_names),
        TEST(test_no_descriptors_left),
        TEST(test_lock),
        TEST(test_lanes_keep_order),
        TEST(test_lanes_do_not_wait_for_each_other),
        TEST(test_close_drains),
        TEST(test_expected_files_are_read_ahead),
        TEST(test_close_ends_what_is_read_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
