/* struct os_disk as disk.c (life and lanes) and file.c (file calls) see it. */
#ifndef FLOTILLA_OS_DISK_INTERNAL_H
#define FLOTILLA_OS_DISK_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "os/disk.h"
#include "os/loop_internal.h"

#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80 /* since Linux 6.14 */
#endif

struct os_disk__queue {
    struct disk_job *first;
    struct disk_job **last_next; /* where the next one is linked in */
};

struct os_disk__lane {
    struct os_disk *disk;
    pthread_t thread;
    pthread_cond_t work;
    struct os_disk__queue submitted;
    struct os_disk__queue finished;
    bool sleeping;
};

struct os_disk {
    struct disk disk; /* first: the port points here */
    struct disk_ops ops;
    int root_fd;
    int lock_fd; /* -1: not locked */
    bool drops_cache; /* the kernel can drop written pages from its cache by itself (RWF_DONTCACHE) */
    const struct trace *trace;
    struct os_loop *loop; /* NULL: no lanes */
    uv_async_t finished_async;
    uint64_t inflight_count; /* loop thread: submitted, not yet done */
    bool delivering;         /* loop thread: inside a done */

    pthread_mutex_t mutex; /* guards everything below and the queues of the lanes */
    pthread_cond_t finished;
    bool closing; /* the closer waits on `finished` */
    bool stop;
    struct os_disk__lane lanes[DISK_LANES];
    pthread_cond_t ahead_ended;
    uint32_t aheads_count; /* ahead.c: calls of expect whose threads are at work */
    bool closing_ahead;
};

extern const struct disk_ops os_disk__file_ops; /* all but submit */

void os_disk__expect(struct disk *port, struct disk_expected *files, uint32_t count); /* ahead.c */
void os_disk__end_ahead(struct os_disk *disk); /* waits for its threads, which look at no further file */

#endif
