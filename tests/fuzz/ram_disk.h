/* The smallest disk that stands behind port/disk.h: files are arrays, everything is durable, nothing fails but a full
 * array. Made for thousands of starts a second: its memory stays from one input to the next, and ram_disk_reset only
 * forgets the names. Jobs run when ram_disk_pump says so. One thread. */
#ifndef FLOTILLA_TESTS_RAM_DISK_H
#define FLOTILLA_TESTS_RAM_DISK_H

#include "port/clock.h"
#include "port/disk.h"

#define RAM_DISK_FILES_MAX      64
#define RAM_DISK_FILE_BYTES_MAX (4u << 20) /* ERR_STORAGE_FULL beyond */
#define RAM_DISK_PATH_BYTES     96

struct disk_file { /* of this twin: the handle is the file itself */
    char path[RAM_DISK_PATH_BYTES];
    bool named;      /* false: unlinked, or a slot that is free */
    unsigned opened; /* handles */
    uint8_t *data;   /* kept from input to input */
    size_t size, capacity;
};

struct ram_disk {
    struct disk disk; /* first */
    struct clock clock;
    uint64_t now_us;
    uint64_t random; /* the clock's dice: a plain counter, hashed */
    struct disk_file files[RAM_DISK_FILES_MAX];
    struct disk_job *first[DISK_LANES], **last[DISK_LANES];
    unsigned handles; /* open now */
};

/* Empty, at the time 1 s; `d` is zeroed memory or was used before. */
void ram_disk_reset(struct ram_disk *d);
/* A file with these bytes; an earlier one of this name is replaced. data NULL: the caller fills ->data. */
struct disk_file *ram_disk_put(struct ram_disk *d, const char *path, const void *data, size_t size);
struct disk_file *ram_disk_find(struct ram_disk *d, const char *path); /* NULL: none */
/* Runs submitted jobs, and those they submit; returns how many ran. At most `jobs_max`, so that a loop without end is
 * seen. */
unsigned ram_disk_pump(struct ram_disk *d, unsigned jobs_max);

#endif
