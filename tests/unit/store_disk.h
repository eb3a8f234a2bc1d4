/* port/disk and port/clock for tests of the store: a tree of the simulator, jobs that run when the test says so, and
 * faults at a call the test chooses. */
#ifndef FLOTILLA_TESTS_STORE_DISK_H
#define FLOTILLA_TESTS_STORE_DISK_H

#include "../sim/sim_tree.h"
#include "base/rng.h"
#include "port/clock.h"
#include "port/disk.h"

struct store_disk {
    struct disk port; /* first */
    struct clock clock;
    uint64_t now_us;
    struct tree *tree;
    struct rng rng;
    struct disk_job *first; /* submitted, in order; all lanes are one here */
    struct disk_job *ran;   /* run, done not called */
    uint64_t calls;         /* that change something; each may be the last one */
    uint64_t crash_at;      /* this call and all behind it fail with ERR_IO and do nothing; 0: never */
    uint64_t fail_write_at; /* the n-th write from now fails with fail_error; 0: none */
    enum err fail_error;
    uint64_t misreads;                 /* so many reads to come bring a flipped bit */
    uint64_t fail_read_at, fail_reads; /* the n-th read from now fails with ERR_IO, and so many in all; 0: none */
    bool is_full;                      /* every write fails with ERR_STORAGE_FULL */
    bool fails_syncs;
    bool drops_cache; /* long runs need no staging */
    uint64_t writes, syncs, sync_alls, writebacks, opens;
    uint64_t write_bytes_max; /* largest single write */
    int open_handles, open_handles_max;
};

void store_disk_init(struct store_disk *disk, uint64_t seed);
void store_disk_done(struct store_disk *disk);
bool store_disk_run(struct store_disk *disk);    /* runs one job, without its done; false: none */
bool store_disk_finish(struct store_disk *disk); /* calls the done of one that ran; false: none */
void store_disk_pump(struct store_disk *disk);   /* until nothing is left */
void store_disk_crash(struct store_disk *disk);  /* jobs under way never end; calls work again */
void store_disk_power_cut(struct store_disk *disk, const struct tree_cut *cut);

bool store_disk_has(struct store_disk *disk, const char *path);
uint64_t store_disk_size(struct store_disk *disk, const char *path);
void store_disk_get(struct store_disk *disk, const char *path, uint64_t offset, void *data, size_t size);
/* Rot, or a file from somewhere: the bytes are durable at once. Makes the file if it is not there. */
void store_disk_put(struct store_disk *disk, const char *path, uint64_t offset, const void *data, size_t size);
void store_disk_remove(struct store_disk *disk, const char *path);
int store_disk_count(struct store_disk *disk, const char *dir); /* names in it; -1: no such directory */

#endif
