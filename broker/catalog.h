/* The topics as this broker sees them, and the tasks that change them: create, delete, and the first use of
 * `__producers`.
 *
 * A task walks through registry writes and births without blocking anybody: names are reserved at once, the answer
 * comes when every partition has a leader that applied its own LEADER entry (in a cluster: when all replicas are born).
 * Topic `a`, partition group 17 and directory 17: names are never concatenated, files are named by number. */
#ifndef FLOTILLA_BROKER_CATALOG_H
#define FLOTILLA_BROKER_CATALOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/map.h"
#include "port/registry.h"

struct broker;
struct catalog;
struct partition;

#define PRODUCERS_TOPIC        "__producers"
#define STATE_TOPIC_PARTITIONS 16

struct topic {
    UT_hash_handle hh;       /* by name */
    struct catalog *catalog; /* borrowed */
    struct registry_topic row;
    struct partition **partitions;                            /* row.partitions_count; NULL: not here */
    struct registry_partition *wish;                          /* owned; row.partitions */
    bool is_settled, is_lost_said;                            /* assign.h */
    struct topic_task *task;                                  /* create or delete under way */
    uint64_t produced_records, produced_bytes, fetched_bytes; /* since the start, for metrics */
};

typedef void (*catalog_done)(void *context, enum err error, const char *message);

struct catalog *catalog_new(struct broker *broker);
void catalog_free(struct catalog *catalog);

/* Reads the registry, joins its topics with the recovered groups, finishes what a crash interrupted; then done. From
 * then on it follows the registry. */
void catalog_load(struct catalog *catalog, registry_done done, void *context);

struct topic *catalog_find(struct catalog *catalog, const char *name); /* NULL: none, or going */
struct topic *catalog_first(struct catalog *catalog);                  /* iterate by topic->hh.next */
uint32_t catalog_count(const struct catalog *catalog);
struct broker *topic_broker(const struct topic *topic);

/* What the registry says of a partition; also for a topic that only this broker has. */
void catalog_wish(const struct topic *topic, uint32_t number, struct registry_partition *ret_wish);
/* Is this group one of the topic's partitions? */
bool catalog_has(const struct topic *topic, uint64_t group, uint32_t *ret_number);
/* Why a partition that is not here cannot be served here: NOT_READY, NOT_LEADER, CORRUPT. */
enum err catalog_missing(const struct topic *topic, uint32_t number);

/* name is checked here: ERR_INVALID_TOPIC, ERR_TOPIC_EXISTS, ERR_INVALID_CONFIG, ERR_NOT_ENOUGH_BROKERS come through
 * done, in this turn or a later one, exactly once. */
void catalog_create(struct catalog *catalog, const struct registry_topic *wish, catalog_done done, void *context);
void catalog_delete(struct catalog *catalog, const char *name, catalog_done done, void *context);

bool catalog_name_ok(const char *name);
bool catalog_name_internal(const char *name); /* begins with "__": not for clients to create or delete */

/* Called by a partition: its birth is durable; it leads and is ready; it is gone. */
void catalog_partition_born(struct catalog *catalog, struct partition *p);
void catalog_partition_ready(struct catalog *catalog, struct partition *p);

/* The registry's row of the topic with this first group rotted while the broker ran: writes it again. False: there is
 * no such topic, or it is changing anyway, or was unreadable already at the start. */
bool catalog_mend(struct catalog *catalog, uint64_t first_group);

bool catalog_is_busy(const struct catalog *catalog);

#endif
