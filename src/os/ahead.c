/* Ahead of a start: threads that open files and read from them before the loop thread does.
 *
 * A start opens thousands of files and reads a block of each. On a cold disk each of those calls waits for the device,
 * which could answer many at once: 10,000 segments took 2.3 s one by one and take 0.5 s by 16 threads. What comes back
 * is thrown away, since it is in the page cache then, and nothing depends on it: an error is met again by whoever asks
 * in earnest. The threads end by themselves. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/disk_internal.h"

#define AHEAD_THREADS    16
#define AHEAD_FILES_MIN  64u /* fewer are opened sooner than threads are made */
#define AHEAD_READ_BYTES ((size_t)4096)

struct os_disk__ahead {
    struct os_disk *disk;
    struct disk_expected *files; /* owned */
    uint32_t count;
    uint32_t next;    /* disk->mutex: the first that nobody took yet */
    uint32_t holders; /* disk->mutex: threads, and who makes them; the last one frees */
};

static void ahead_look(const struct os_disk *disk, const struct disk_expected *expected)
{
    char bytes[AHEAD_READ_BYTES];
    int fd = openat(disk->root_fd, expected->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    if (expected->size > 0) {
        size_t size = expected->size < sizeof bytes ? expected->size : sizeof bytes;
        ssize_t ignored = pread(fd, bytes, size, (off_t)expected->offset);
        (void)ignored;
    }
    close(fd);
}

static void ahead_release(struct os_disk__ahead *ahead)
{
    struct os_disk *disk = ahead->disk;
    pthread_mutex_lock(&disk->mutex);
    bool is_last = --ahead->holders == 0;
    if (is_last) {
        free(ahead->files);
        free(ahead);
        disk->aheads_count--;
        pthread_cond_broadcast(&disk->ahead_ended); /* from here on the disk may be gone */
    }
    pthread_mutex_unlock(&disk->mutex);
}

static void *ahead_run(void *argument)
{
    struct os_disk__ahead *ahead = argument;
    struct os_disk *disk = ahead->disk;
    for (;;) {
        pthread_mutex_lock(&disk->mutex);
        uint32_t at = disk->closing_ahead || ahead->next == ahead->count ? ahead->count : ahead->next++;
        pthread_mutex_unlock(&disk->mutex);
        if (at == ahead->count) {
            break;
        }
        ahead_look(disk, &ahead->files[at]);
    }
    ahead_release(ahead);
    return NULL;
}

/* As many threads as there may be; without any the caller is as slow as it would be without us. */
static void ahead_start(struct os_disk__ahead *ahead)
{
    struct os_disk *disk = ahead->disk;
    sigset_t all, before;
    pthread_attr_t detached;
    int number = pthread_attr_init(&detached);
    if (number != 0) {
        return;
    }
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < AHEAD_THREADS && number == 0; i++) {
        pthread_t thread;
        pthread_mutex_lock(&disk->mutex);
        ahead->holders++;
        pthread_mutex_unlock(&disk->mutex);
        number = pthread_create(&thread, &detached, ahead_run, ahead);
        if (number != 0) {
            ahead_release(ahead);
        } else {
            pthread_setname_np(thread, "flo-ahead");
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
}

void os_disk__expect(struct disk *port, struct disk_expected *files, uint32_t count)
{
    struct os_disk *disk = (struct os_disk *)port;
    if (count < AHEAD_FILES_MIN) {
        free(files);
        return;
    }
    struct os_disk__ahead *ahead = mem_zeroed(1, sizeof *ahead);
    *ahead = (struct os_disk__ahead){.disk = disk, .files = files, .count = count, .holders = 1};
    pthread_mutex_lock(&disk->mutex);
    disk->aheads_count++;
    pthread_mutex_unlock(&disk->mutex);
    ahead_start(ahead);
    ahead_release(ahead);
}

void os_disk__end_ahead(struct os_disk *disk)
{
    pthread_mutex_lock(&disk->mutex);
    disk->closing_ahead = true;
    while (disk->aheads_count > 0) {
        pthread_cond_wait(&disk->ahead_ended, &disk->mutex);
    }
    pthread_mutex_unlock(&disk->mutex);
}
