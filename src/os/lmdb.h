/* The real twin of port/kv.h on LMDB: one environment, one unnamed database, one process.
 *
 * Opening reads the file's own structure first (os/lmdb_check.h): LMDB trusts every page number it finds and would
 * crash on garbage; here garbage is ERR_FORMAT. A new store is built aside and renamed into place, so a directory
 * that exists always holds a whole store, and a store that lost its data file is ERR_FORMAT, never a fresh empty
 * one.
 *
 * What the port leaves open:
 * - A full map: the write gets ERR_STORAGE_FULL; abort the transaction. The next kv begin that finds no transaction
 *   open doubles the map, so a retry succeeds. KV_MAP_BYTES is chosen so that this is the exception. Where that
 *   much address space is refused (ulimit -v), open takes the largest half, quarter ... that is granted.
 * - A full disk: blocks are set aside for all pages of the file and KV_RESERVE_BYTES behind the last one, at open and
 *   again before every write transaction, so that a transaction which frees space fits when nothing else does. When
 *   hardly any of that is left and no more can be had, begin(write) is ERR_STORAGE_FULL; should a transaction need
 *   more than there is, its commit is; nothing changed, the store stays usable. (Without effect on a file system
 *   that cannot set blocks aside or never overwrites them.)
 * - No free reader slot, no memory: ERR_NO_MEMORY, nothing changed. A map grown by another process: taken over.
 * - A commit or sync that fails in any other way poisons the store: every later call is ERR_IO, until a new process
 *   reads back what the disk really holds (LMDB itself would carry on after a failed sync).
 * - After a failed put or del the transaction can only be aborted; its commit returns that first error. Threads:
 *   transactions may begin on any thread; a write transaction stays on its thread, and begin(write) on a second
 *   thread waits for the first to end. */
#ifndef FLOTILLA_OS_LMDB_H
#define FLOTILLA_OS_LMDB_H

#include "base/err.h"
#include "base/trace.h"
#include "port/kv.h"

struct os_lmdb;

/* The store in directory <root>/<dir>, made if that directory is missing; `root` must exist. map_bytes: 0 for
 * KV_MAP_BYTES. trace (may be NULL) is borrowed until close. ERR_FORMAT: there, but not a store we can trust. */
enum err os_lmdb_open(const char *root, const char *dir, uint64_t map_bytes, const struct trace *trace,
                      struct os_lmdb **ret_lmdb);

/* The port; valid until close. */
struct kv *os_lmdb_port(struct os_lmdb *lmdb);

/* All transactions must have ended. NULL is allowed. */
void os_lmdb_close(struct os_lmdb *lmdb);

#endif
