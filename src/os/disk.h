/* The real twin of port/disk.h: files under one data directory, and two lane threads.
 *
 * Paths are resolved from a descriptor of the data directory, so it may be renamed under a running broker. File
 * calls may be made on any thread; one file belongs to one lane at a time. Each lane is one thread with a FIFO; a
 * submit is a mutex and, when the lane sleeps, one futex wake. A sleeping thread takes about 20 us to wake on the
 * measured machine; lanes do not spin, because on two cores the spinning would be stolen from the loop.
 *
 * Errors: as port/disk.h says. Every failed sync is ERR_IO, whatever errno says: a full disk found out by a sync
 * has lost pages just as a broken one has, and must not look like something that passes. */
#ifndef FLOTILLA_OS_DISK_H
#define FLOTILLA_OS_DISK_H

#include "base/err.h"
#include "os/loop.h"
#include "port/disk.h"

struct os_disk;

/* Opens the data directory, made (mode 0750) when only its last component is missing. `loop` gets the `done` calls
 * and is borrowed until close; NULL: no lanes, for tools that only make file calls. */
enum err os_disk_open(const char *root, struct os_loop *loop, struct os_disk **ret_disk);

/* Takes the directory for this process until close (or death) by flock on its file "lock"; ERR_LOCKED if another
 * has it. */
enum err os_disk_lock(struct os_disk *disk);

/* The port; valid until close. */
struct disk *os_disk_port(struct os_disk *disk);

/* Runs every job already submitted (and those that their `done` submits), makes the `done` calls, joins the lanes.
 * NULL is allowed. Files must have been closed. Loop thread, but not from within a `done`. */
void os_disk_close(struct os_disk *disk);

#endif
