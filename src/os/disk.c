/* The data directory's life, its lock, and the lanes. One mutex serves both lanes: it is held for a few
 * instructions, some ten thousand times a second at most, and a single one makes "all finished jobs" one look. */
#include "os/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "os/disk_internal.h"
#include "os/fault.h"

#define LOCK_FILE "lock"

static void queue_clear(struct os_disk__queue *queue)
{
    queue->first = NULL;
    queue->last_next = &queue->first;
}

static void queue_push(struct os_disk__queue *queue, struct disk_job *job)
{
    job->next = NULL;
    *queue->last_next = job;
    queue->last_next = &job->next;
}

static struct disk_job *queue_pop(struct os_disk__queue *queue)
{
    struct disk_job *job = queue->first;
    queue->first = job->next;
    if (queue->first == NULL) {
        queue->last_next = &queue->first;
    }
    return job;
}

static void *lane_run(void *argument)
{
    struct os_disk__lane *lane = argument;
    struct os_disk *disk = lane->disk;
    pthread_mutex_lock(&disk->mutex);
    for (;;) {
        while (lane->submitted.first == NULL && !disk->stop) {
            lane->sleeping = true;
            pthread_cond_wait(&lane->work, &disk->mutex);
            lane->sleeping = false;
        }
        if (lane->submitted.first == NULL) {
            break;
        }
        struct disk_job *job = queue_pop(&lane->submitted);
        pthread_mutex_unlock(&disk->mutex);
        job->run(job);
        pthread_mutex_lock(&disk->mutex);
        bool first = lane->finished.first == NULL; /* else a wake-up is already on its way */
        queue_push(&lane->finished, job);
        if (disk->closing) {
            pthread_cond_signal(&disk->finished);
        }
        pthread_mutex_unlock(&disk->mutex);
        if (first) {
            uv_async_send(&disk->finished_async);
        }
        pthread_mutex_lock(&disk->mutex);
    }
    pthread_mutex_unlock(&disk->mutex);
    return NULL;
}

/* Makes the done calls of one lane. The list is taken whole, under one lock. */
static void lane_deliver(struct os_disk__lane *lane)
{
    struct os_disk *disk = lane->disk;
    pthread_mutex_lock(&disk->mutex);
    struct disk_job *job = lane->finished.first;
    queue_clear(&lane->finished);
    pthread_mutex_unlock(&disk->mutex);
    while (job != NULL) {
        struct disk_job *next = job->next; /* done may free or submit the job again */
        ASSERT(disk->inflight_count > 0);
        disk->inflight_count--;
        job->done(job);
        job = next;
    }
}

static void disk_deliver(struct os_disk *disk)
{
    ASSERT(!disk->delivering);
    disk->delivering = true;
    for (int i = 0; i < DISK_LANES; i++) {
        lane_deliver(&disk->lanes[i]);
    }
    disk->delivering = false;
}

static void disk_on_finished(uv_async_t *async)
{
    disk_deliver(async->data);
}

static void disk_submit(struct disk *port, enum disk_lane number, struct disk_job *job)
{
    struct os_disk *disk = (struct os_disk *)port;
    ASSERT(disk->loop != NULL && number >= 0 && number < DISK_LANES && job->run != NULL && job->done != NULL);
    struct os_disk__lane *lane = &disk->lanes[number];
    disk->inflight_count++;
    pthread_mutex_lock(&disk->mutex);
    queue_push(&lane->submitted, job);
    bool wake = lane->sleeping;
    lane->sleeping = false; /* one wake is enough, however many jobs follow before it runs */
    pthread_mutex_unlock(&disk->mutex);
    if (wake) {
        pthread_cond_signal(&lane->work);
    }
}

static void lanes_stop(struct os_disk *disk, int lanes_count)
{
    pthread_mutex_lock(&disk->mutex);
    disk->stop = true;
    for (int i = 0; i < lanes_count; i++) {
        pthread_cond_signal(&disk->lanes[i].work);
    }
    pthread_mutex_unlock(&disk->mutex);
    for (int i = 0; i < lanes_count; i++) {
        pthread_join(disk->lanes[i].thread, NULL);
    }
}

/* The lanes get no signals: those are the loop's, and a signal would cut file calls short. */
static enum err lanes_start(struct os_disk *disk)
{
    static const char *const names[DISK_LANES] = {"flo-wal", "flo-store"};
    sigset_t all, before;
    int number = 0;
    int started = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < DISK_LANES && number == 0) {
        struct os_disk__lane *lane = &disk->lanes[started];
        number = pthread_create(&lane->thread, NULL, lane_run, lane);
        if (number == 0) {
            pthread_setname_np(lane->thread, names[started++]);
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (number != 0) {
        trace_error(disk->trace, "lane_start_failed", "reason=%s", strerrorname_np(number));
        lanes_stop(disk, started);
        return ERR_NO_MEMORY; /* EAGAIN: a limit on threads or memory */
    }
    return OK;
}

/* Makes the last component if it is missing, durably. */
static enum err root_make(const char *root, const struct trace *trace)
{
    if (mkdir(root, 0750) != 0) {
        if (errno == EEXIST) {
            return OK;
        }
        trace_error(trace, "data_directory_make_failed", "path=%s reason=%s", root, strerrorname_np(errno));
        return os__err_of_errno(errno);
    }
    char *copy = mem_text(root);
    int parent_fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = parent_fd >= 0 && fsync(parent_fd) == 0;
    if (parent_fd >= 0) {
        close(parent_fd);
    }
    free(copy);
    return synced ? OK : ERR_IO;
}

/* Asked of a nameless file in the data directory: it depends on kernel and file system. */
static bool disk_can_drop_cache(const struct os_disk *disk)
{
    char byte = 0;
    struct iovec part = {&byte, 1};
    int fd = openat(disk->root_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        return false;
    }
    ssize_t wrote = pwritev2(fd, &part, 1, 0, RWF_DONTCACHE);
    close(fd);
    return wrote == 1;
}

/* Everything but the memory, which libuv still looks at until it has let go of the async handle. */
static void disk_deinit(struct os_disk *disk)
{
    for (int i = 0; i < DISK_LANES; i++) {
        pthread_cond_destroy(&disk->lanes[i].work);
    }
    pthread_cond_destroy(&disk->finished);
    pthread_cond_destroy(&disk->ahead_ended);
    pthread_mutex_destroy(&disk->mutex);
    if (disk->lock_fd >= 0) {
        close(disk->lock_fd);
    }
    if (disk->root_fd >= 0) {
        close(disk->root_fd);
    }
}

static void disk_on_async_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void disk_init(struct os_disk *disk, struct os_loop *loop)
{
    disk->root_fd = disk->lock_fd = -1;
    disk->loop = loop;
    disk->trace = loop != NULL ? loop->trace : NULL;
    disk->ops = os_disk__file_ops;
    disk->ops.submit = disk_submit;
    disk->disk.ops = &disk->ops;
    pthread_mutex_init(&disk->mutex, NULL);
    pthread_cond_init(&disk->finished, NULL);
    pthread_cond_init(&disk->ahead_ended, NULL);
    for (int i = 0; i < DISK_LANES; i++) {
        disk->lanes[i].disk = disk;
        queue_clear(&disk->lanes[i].submitted);
        queue_clear(&disk->lanes[i].finished);
        pthread_cond_init(&disk->lanes[i].work, NULL);
    }
}

/* The lanes start last, when nothing else can fail. */
static enum err lanes_open(struct os_disk *disk)
{
    int status = uv_async_init(disk->loop->uv, &disk->finished_async, disk_on_finished);
    if (status < 0) {
        trace_error(disk->trace, "lane_start_failed", "reason=%s", uv_err_name(status));
        disk_deinit(disk);
        free(disk);
        return os__err_of_uv(status);
    }
    disk->finished_async.data = disk;
    enum err error = lanes_start(disk);
    if (error != OK) {
        disk_deinit(disk);
        uv_close((uv_handle_t *)&disk->finished_async, disk_on_async_closed);
        return error;
    }
    disk->loop->disks_count++;
    return OK;
}

enum err os_disk_open(const char *root, struct os_loop *loop, struct os_disk **ret_disk)
{
    const struct trace *trace = loop != NULL ? loop->trace : NULL;
    enum err error = root_make(root, trace);
    if (error != OK) {
        return error;
    }
    struct os_disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL) {
        return ERR_NO_MEMORY;
    }
    disk_init(disk, loop);
    disk->root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (disk->root_fd < 0) {
        error = os__err_of_errno(errno);
        trace_error(trace, "data_directory_open_failed", "path=%s reason=%s", root, strerrorname_np(errno));
        disk_deinit(disk);
        free(disk);
        return error;
    }
    disk->drops_cache = disk_can_drop_cache(disk);
    if (loop != NULL) {
        error = lanes_open(disk); /* on failure it has freed everything */
        if (error != OK) {
            return error;
        }
    }
    *ret_disk = disk;
    return OK;
}

enum err os_disk_lock(struct os_disk *disk)
{
    ASSERT(disk->lock_fd < 0);
    int fd = openat(disk->root_fd, LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0) {
        enum err error = errno == EWOULDBLOCK ? ERR_LOCKED : os__err_of_errno(errno);
        trace_error(disk->trace, "data_directory_lock_failed", "reason=%s", strerrorname_np(errno));
        if (fd >= 0) {
            close(fd);
        }
        return error;
    }
    disk->lock_fd = fd;
    return OK;
}

struct disk *os_disk_port(struct os_disk *disk)
{
    return &disk->disk;
}

static bool lanes_have_finished(const struct os_disk *disk)
{
    for (int i = 0; i < DISK_LANES; i++) {
        if (disk->lanes[i].finished.first != NULL) {
            return true;
        }
    }
    return false;
}

/* Plays the loop's part until nothing is in flight. */
static void lanes_drain(struct os_disk *disk)
{
    pthread_mutex_lock(&disk->mutex);
    disk->closing = true;
    while (disk->inflight_count > 0) {
        while (!lanes_have_finished(disk)) {
            pthread_cond_wait(&disk->finished, &disk->mutex);
        }
        pthread_mutex_unlock(&disk->mutex);
        disk_deliver(disk);
        pthread_mutex_lock(&disk->mutex);
    }
    pthread_mutex_unlock(&disk->mutex);
}

void os_disk_close(struct os_disk *disk)
{
    if (disk == NULL) {
        return;
    }
    ASSERT(!disk->delivering);
    os_disk__end_ahead(disk);
    if (disk->loop == NULL) {
        disk_deinit(disk);
        free(disk);
        return;
    }
    lanes_drain(disk);
    lanes_stop(disk, DISK_LANES);
    disk->loop->disks_count--;
    disk_deinit(disk);
    uv_close((uv_handle_t *)&disk->finished_async, disk_on_async_closed);
}
