/* A tape: what a process did to the files below one directory, in order, with the bytes it wrote, and between that the
 * marks of what it had promised by then. Written by recorder.c (preloaded), read by tape.c.
 *
 * On disk a tape is a row of struct tape_event, each followed by its payload, in the byte order of the machine. */
#ifndef FLOTILLA_CRASH_TAPE_H
#define FLOTILLA_CRASH_TAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tape_kind {
    TAPE_KNOWN = 1, /* a file that was there before: path */
    TAPE_CREATE,    /* path */
    TAPE_WRITE,     /* bytes at offset; is_synced: it was durable when the call returned (O_DSYNC, O_SYNC, RWF_DSYNC) */
    TAPE_TRUNCATE,  /* to offset */
    TAPE_SYNC,      /* fsync or fdatasync of a file */
    TAPE_SYNC_DIR,  /* path */
    TAPE_SYNC_ALL,  /* syncfs */
    TAPE_MAKE_DIR,  /* path */
    TAPE_REMOVE_DIR,
    TAPE_UNLINK,
    TAPE_RENAME, /* old path, NUL, new path */
    TAPE_HINT,   /* sync_file_range, msync: promises nothing */
    TAPE_MARK,   /* a struct mark (oracle.h) and what belongs to it */
};

/* Paths are relative to the recorded directory, "" is itself; they end in a NUL that is counted in `size`. */
struct tape_event {
    uint32_t kind;
    uint32_t file; /* of KNOWN, CREATE, WRITE, TRUNCATE, SYNC: numbered from 1, never used again */
    uint64_t offset;
    uint32_t size; /* of the payload */
    uint32_t is_synced;
};

struct tape_item {
    const struct tape_event *event; /* aligned; in the tape's memory */
    const uint8_t *payload;
};

struct tape {
    void *memory;
    size_t size;
    struct tape_item *items;
    uint32_t count;
};

/* Reads a whole tape; a last event that is cut off is dropped. false: it cannot be read. */
bool tape_read(const char *path, struct tape *ret_tape);
void tape_free(struct tape *tape);

/* The recorder's functions. It is preloaded or it is not there: without it they do nothing, and tape_is_there is
 * false. */
bool tape_is_there(void);
/* Records what happens below `root` (absolute) from now on. */
bool tape_begin(const char *root, const char *path);
void tape_mark(const void *head, uint32_t head_size, const void *tail, uint32_t tail_size);
void tape_end(void);

/* Set for a program to be executed, with the recorder preloaded, they do what tape_begin does before its main. */
#define TAPE_ROOT_VARIABLE "FLOTILLA_TAPE_ROOT"
#define TAPE_FILE_VARIABLE "FLOTILLA_TAPE_FILE"

/* Starts this program again with a library that lies beside it (libcrash_recorder.so, libcrash_faults.so) preloaded,
 * unless it is there: `symbol` is one of its functions. */
void tape_preload(char **argv, const char *library, const char *symbol);

#endif
