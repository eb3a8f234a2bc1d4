/* Twin of port/disk: a sim_tree behind the port, lanes that take simulated time, crashes at any call.
 *
 * Lanes. A submitted job runs at a drawn later time, whole and at one moment; its `done` comes at a drawn time after
 * that. Per lane both keep the order of submission; the next job may run before the `done` of the last one came. Crash.
 * When the I/O gate of the world closes (sim.h) every call fails with ERR_IO and no `done` is delivered any more; the
 * call that dies may have written any part. Then the owner frees the broker, tells the disk which death it was, and may
 * start anew. Sync errors. One planned fdatasync fails; sim_disk_broke tells that a storage failure of the broker is to
 * be expected. */
#ifndef FLOTILLA_SIM_DISK_H
#define FLOTILLA_SIM_DISK_H

#include "port/disk.h"
#include "sim.h"
#include "sim_media.h"
#include "sim_tree.h"

struct sim_disk;

struct sim_disk_options {
    uint64_t job_us_max; /* of a job: until it runs, and from there until done */
    double stall;        /* chance that a job takes seconds */
    uint64_t stall_us_max;
    struct tree_cut cut; /* what a power cut leaves */
    /* Byte ranges of a file that became durable; data = the bytes of the whole file as they stand. path NULL: anything
     * may have. May be NULL. */
    void (*on_synced)(void *context, const char *path, const uint8_t *data, uint64_t offset, uint64_t size);
    /* Not NULL: a sync of everything is told only if there are news (see below). */
    const char *told_dir;
    /* A write has come through: whoever wants may make other bytes of it. May be NULL. */
    void (*on_written)(void *context, const char *path, struct inode *inode, uint64_t offset, uint64_t size);
    void *context;
};

struct sim_disk *sim_disk_new(struct sim_world *world, const struct sim_disk_options *options);
void sim_disk_free(struct sim_disk *disk);
struct disk *sim_disk_port(struct sim_disk *disk);
void sim_disk_set_context(struct sim_disk *disk, void *context); /* of on_synced */
bool sim_disk_delay(struct sim_disk *disk, uint64_t delay_us);   /* of the job that runs now; false: none does */
void sim_disk_set_stall(struct sim_disk *disk, double chance);
/* Gray: until this is called again each job takes up to so long besides; 0: no longer. */
void sim_disk_set_slow(struct sim_disk *disk, uint64_t job_us_max);
void sim_disk_stand_still(struct sim_disk *disk,
                          uint64_t until_us); /* no job that is submitted from now on runs before */
/* No stalls from now on, and none of what makes jobs slow; returns when the last one ends. */
uint64_t sim_disk_calm(struct sim_disk *disk);

/* What would survive a power cut now if nothing un-synced did: a read-only port/disk that counts no calls and never
 * fails. */
struct disk *sim_disk_shadow(struct sim_disk *disk);
/* Since the last time that this was asked, or a sync of everything was told, told_dir has changed otherwise than by
 * syncs of its files, which are told: a name in it went, a sync of everything or a power cut took something along.
 * Always if there is no told_dir. */
bool sim_disk_take_news(struct sim_disk *disk);
uint64_t sim_disk_syncs(const struct sim_disk *disk); /* successful ones: the shadow changes only with them */

void sim_disk_plan_sync_error(struct sim_disk *disk, uint64_t countdown); /* the countdown-th sync fails; 0: none */
/* What a running disk may do wrong from now on; none at first, and none after sim_disk_calm. */
void sim_disk_set_faults(struct sim_disk *disk, const bool faults[FAULT_CLASSES]);
void sim_disk_urge(struct sim_disk *disk, enum sim_fault fault); /* of those: the next call that can suffer it does */
void sim_disk_raise_faults(struct sim_disk *disk);               /* sim_media_raise */
/* For the checkpoint store, which is on the same disk: sim_kv's `error`. */
enum err sim_disk_kv_error(struct sim_disk *disk, const char *point);
bool sim_disk_sync_failed(const struct sim_disk *disk); /* in this life */
bool sim_disk_broke(const struct sim_disk *disk);       /* in this life something failed that may end the process */
bool sim_disk_erred(const struct sim_disk *disk);       /* or at least its start */

/* After a crash, when the broker is freed: forgets jobs and open files. Un-synced bytes and names stay (death) or meet
 * their fate (power). */
void sim_disk_process_death(struct sim_disk *disk);
void sim_disk_power_cut(struct sim_disk *disk);
/* Besides, the machine has a new, empty one. Its limits and its faults are those of the old one. */
void sim_disk_wipe(struct sim_disk *disk);

/* From now on files may grow by so many bytes, together; UINT64_MAX: without limit. Beyond it: ERR_STORAGE_FULL. */
void sim_disk_set_room(struct sim_disk *disk, uint64_t room_bytes);
bool sim_disk_is_limited(const struct sim_disk *disk);

/* Rot: some bytes of one file are no longer what was written, in memory and on the disk. Says where, for the story. */
void sim_disk_rot(struct sim_disk *disk);

uint64_t sim_disk_bytes(const struct sim_disk *disk);
size_t sim_disk_open_files(const struct sim_disk *disk);
bool sim_disk_is_idle(const struct sim_disk *disk); /* no job submitted, run or undelivered */
struct tree *sim_disk_tree(struct sim_disk *disk);

#endif
