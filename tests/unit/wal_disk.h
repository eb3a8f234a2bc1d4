/* A small disk in memory for tests of the log: keeps apart what was written and what was synced, dies at any call,
 * and shows its bytes. (The simulator has a larger one, with time; this one runs jobs when the test says so.) */
#ifndef FLOTILLA_TESTS_WAL_DISK_H
#define FLOTILLA_TESTS_WAL_DISK_H

#include "base/rng.h"
#include "port/clock.h"
#include "port/disk.h"

#define WAL_DISK_FILES_MAX    64
#define WAL_DISK_SECTOR_BYTES 512u

struct wal_disk_node {
    uint8_t *data; /* what a read sees */
    uint64_t size, capacity;
    uint8_t *synced; /* what is surely on the disk */
    uint64_t synced_size;
    uint64_t reserved; /* blocks set aside from the beginning on */
    uint8_t *dirty;    /* per sector: written since the last sync */
    int refs;          /* names and handles */
};

struct wal_disk_name {
    char path[64];
    struct wal_disk_node *now;    /* NULL: no such file */
    struct wal_disk_node *synced; /* what the directory on the disk says */
};

/* What happens at a power cut to each un-synced sector, name and growth. TEAR draws for each: lost, kept or garbage. */
enum wal_disk_cut { WAL_DISK_LOSE, WAL_DISK_KEEP, WAL_DISK_TEAR };

struct wal_disk {
    struct disk disk; /* the port */
    struct clock clock;
    uint64_t now_us;
    struct rng rng;
    struct wal_disk_name names[WAL_DISK_FILES_MAX];
    bool dir_exists, dir_synced;
    struct disk_job *first[DISK_LANES]; /* submitted, in order */
    unsigned jobs_count[DISK_LANES];

    uint64_t calls;    /* so far; each may fail */
    uint64_t crash_at; /* this call and all behind it do nothing and return ERR_IO; 0: never */
    bool crashed;
    int fail_syncs_in;   /* 1: the next sync fails, and what it should have written is lost; 0: none */
    uint64_t room_bytes; /* files may take together; ERR_STORAGE_FULL above */
    uint64_t syncs, unlinks, writes;
    int open_handles;
};

void wal_disk_init(struct wal_disk *d, uint64_t seed);
void wal_disk_done(struct wal_disk *d);

/* Runs one job of the lane; false if there is none. */
bool wal_disk_step(struct wal_disk *d, enum disk_lane lane);
void wal_disk_pump(struct wal_disk *d); /* until no lane has a job */

void wal_disk_power_cut(struct wal_disk *d, enum wal_disk_cut cut);
void wal_disk_revive(struct wal_disk *d); /* calls work again */

uint64_t wal_disk_bytes(const struct wal_disk *d); /* of all files, with what is set aside for them */
struct wal_disk_node *wal_disk_find(struct wal_disk *d, const char *path); /* NULL: none */
struct wal_disk_node *wal_disk_put(struct wal_disk *d, const char *path, const void *data, uint64_t size); /* synced */
void wal_disk_flip(struct wal_disk *d, const char *path, uint64_t offset, uint64_t size); /* rot: in both pictures */
void wal_disk_copy(struct wal_disk *to, const struct wal_disk *from); /* files only; `to` is initialised and empty */

#endif
