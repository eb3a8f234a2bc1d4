/* Port: files, and the lanes on which blocking file work runs.
 *
 * File calls block. They are made at start (recovery, on the loop thread) and afterwards only inside jobs. A job runs
 * on a lane: `run` on the lane's thread, then `done` on the loop thread. A lane runs its jobs one after the other in
 * the order of submission, and their `done` calls come in that order; between lanes there is no order.
 * Paths are relative to the data directory, with '/', without "..".
 *
 * Durability, the rules both twins keep: a write is durable after sync of that file; a file's
 * name (create, rename, unlink) after sync_dir of its directory. What was not synced may be lost, kept or torn per
 * 512 B.
 * Errors: ERR_IO, ERR_STORAGE_FULL (ENOSPC, EDQUOT), ERR_NO_FILE, ERR_EXISTS, ERR_TOO_MANY_FILES, ERR_NO_MEMORY,
 * ERR_READ_ONLY. A failed sync is final: the pages may be clean already, so nobody may retry it. Real twin: os/disk.c.
 * Simulated twin: tests/sim/sim_disk.c. */
#ifndef FLOTILLA_PORT_DISK_H
#define FLOTILLA_PORT_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

struct disk_file;

enum disk_lane { DISK_LANE_WAL, DISK_LANE_STORE, DISK_LANES };

enum disk_open_flags {
    DISK_READ = 0,           /* must exist */
    DISK_WRITE = 1 << 0,     /* read and write */
    DISK_CREATE = 1 << 1,    /* with DISK_WRITE: made if missing */
    DISK_EXCLUSIVE = 1 << 2, /* with DISK_CREATE: ERR_EXISTS if there */
    /* Long writes (DISK_DIRECT_BYTES_MIN and more) leave nothing in the page cache, if kernel and file system allow: of
     * any alignment where wants_staging says false; else only those whose offset, sizes and memory are multiples of
     * 4 KiB. All others, and all reads, go through it as usual. The two are coherent. */
    DISK_DIRECT = 1 << 3,
    /* Only to read: reads whose offset, size and memory are multiples of 4 KiB see what the device holds, not what the
     * page cache does, if the file system allows; and no read leaves anything in the page cache that was not there. */
    DISK_UNCACHED = 1 << 4,
    /* A hint: it will be read from front to back. Reading ahead twice as far makes a cold log 1.5 x as fast to read. */
    DISK_SEQUENTIAL = 1 << 5,
};

/* Embedded in the owner's structure; the owner keeps it alive until done. */
struct disk_job {
    void (*run)(struct disk_job *job);  /* lane thread: file and kv calls, owner's own memory; no other broker state */
    void (*done)(struct disk_job *job); /* loop thread */
    struct disk_job *next;              /* of the lane */
};

struct disk {
    const struct disk_ops *ops;
};

#define DISK_EXPECTED_PATH_BYTES 64

/* A file that is about to be opened, and bytes of it that are about to be read; size 0: none. */
struct disk_expected {
    char path[DISK_EXPECTED_PATH_BYTES];
    uint64_t offset;
    uint32_t size;
};

struct disk_ops {
    enum err (*open)(struct disk *disk, const char *path, unsigned flags, struct disk_file **ret_file);
    void (*close)(struct disk *disk, struct disk_file *file); /* loses nothing that was synced */
    enum err (*size)(struct disk *disk, struct disk_file *file, uint64_t *ret_size_bytes);
    /* Reads up to size bytes; fewer only at the end of the file. */
    enum err (*read)(struct disk *disk, struct disk_file *file, void *data, size_t size, uint64_t offset,
                     size_t *ret_read);
    /* Writes all of it or fails (short writes and EINTR are dealt with inside). On failure any part may be written. */
    enum err (*write)(struct disk *disk, struct disk_file *file, const struct iovec *parts, int parts_count,
                      uint64_t offset);
    /* Of DISK_DIRECT files. True: long runs are worth gathering in aligned memory, and files worth reusing in place.
     * False: gathered as they lie, and a file that grows is written faster than one that is overwritten. */
    bool (*wants_staging)(struct disk *disk);
    enum err (*sync)(struct disk *disk, struct disk_file *file); /* fdatasync */
    enum err (*writeback)(struct disk *disk, struct disk_file *file, uint64_t offset,
                          uint64_t size); /* start only; a hint */
    enum err (*truncate)(struct disk *disk, struct disk_file *file, uint64_t size);
    /* Sets blocks aside for the first size bytes, so that writes there find room however full the disk becomes; the
     * length stays. ERR_STORAGE_FULL: there is no room, and what was set aside for this file is given back. OK without
     * effect where the file system cannot promise it. */
    enum err (*reserve)(struct disk *disk, struct disk_file *file, uint64_t size);
    enum err (*sync_all)(struct disk *disk);                     /* syncfs of the data directory's file system */
    enum err (*make_dir)(struct disk *disk, const char *path);   /* and its parents; OK if there */
    enum err (*remove_dir)(struct disk *disk, const char *path); /* must be empty; OK if missing */
    enum err (*rename)(struct disk *disk, const char *from, const char *to); /* replaces `to` */
    enum err (*unlink)(struct disk *disk, const char *path);
    enum err (*sync_dir)(struct disk *disk, const char *path);
    /* Calls visit for every name in the directory but . and .., in byte order of the names; ERR_NO_FILE if missing. */
    enum err (*list)(struct disk *disk, const char *path, void (*visit)(void *context, const char *name),
                     void *context);
    /* At start; a hint: the caller is going to open these files, one after the other in this order. Threads of the
     * disk's own look at them before it does, many at a time, so that thousands of them are not waited for one by one
     * where the page cache is cold. Takes over `files`, which free() gives back. NULL: no use here, do not ask. */
    void (*expect)(struct disk *disk, struct disk_expected *files, uint32_t count);
    void (*submit)(struct disk *disk, enum disk_lane lane, struct disk_job *job); /* loop thread */
};

#endif
