/* The registry of a broker without ZooKeeper: topics as rows of the checkpoint store, behind port/registry.h.
 *
 * Rows: 'R' 't' first_group partitions name crc -> TopicRecord (proto/stored.proto); 'R' 'n' -> next free id;
 * 'R' 'd' group -> deleted mark; 'R' 'l' group -> {broker, term}. Numbers in keys are big-endian, u64 but for
 * partitions and the crc32c over the key before it, which are u32.
 *
 * Writes run as jobs on DISK_LANE_STORE, one transaction each, and are durable when the callback comes. Leadership
 * notices are coalesced: at most one write job is under way, the newest term of each group wins. A notice that failed
 * (the disk is full) is tried again with the next notice or after the next write that succeeds; a notice about a
 * deleted group is dropped. Deleting a topic whose name belongs to a younger one by now leaves that one's row alone.
 *
 * Rows that cannot be read: a topic is visited as TOPIC_UNREADABLE, with its name and its groups, if at least its key
 * is whole, else nothing is visited (ERR_FORMAT); a deleted mark is passed over; without the next free id no id is
 * given out; a leader is a hint, which the next one replaces.
 *
 * Errors: those of port/kv, ERR_FORMAT and ERR_VERSION for rows that cannot be read. On port/kv and port/disk only, so
 * the simulator runs this very code. */
#ifndef FLOTILLA_BROKER_REGISTRY_EMBEDDED_H
#define FLOTILLA_BROKER_REGISTRY_EMBEDDED_H

#include <stdbool.h>

#include "base/trace.h"
#include "port/disk.h"
#include "port/kv.h"
#include "port/registry.h"

/* All three borrowed until free; trace may be NULL. */
struct registry *registry_embedded_new(struct kv *kv, struct disk *disk, const struct trace *trace);
/* A write ended in ERR_IO: after that the checkpoint store must not be used any more. on_failed is called in place of
 * the operation's own callback, which never comes. */
void registry_embedded_on_failed(struct registry *registry, void (*on_failed)(void *context), void *context);
bool registry_embedded_is_busy(const struct registry *registry); /* a job or a callback is outstanding */
void registry_embedded_free(struct registry *registry); /* must not be busy, unless the jobs died with a crash */

#endif
