/* Port: the cluster's registry: topics, their assignment, who leads. It is a hint about data, never the truth: no
 * topic missing here deletes a byte, only a deleted/<group> mark does.
 *
 * All calls are asynchronous and made on the loop thread; each callback comes exactly once, on the loop thread, in a
 * later turn. Real twins: broker/registry_embedded.c (on port/kv, so that the simulator runs the very same code); later
 * zk/. */
#ifndef FLOTILLA_PORT_REGISTRY_H
#define FLOTILLA_PORT_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

#define UUID_BYTES 16

enum registry_topic_state {
    TOPIC_CREATING = 1,
    TOPIC_LIVE = 2,
    TOPIC_DELETING = 3,
    TOPIC_UNREADABLE = 4, /* never stored: what the registry has of it rotted, only name and groups are known */
};
enum registry_topic_kind { TOPIC_DATA = 1, TOPIC_STATE = 2 };

struct registry_topic_config {
    uint64_t segment_bytes;
    int64_t segment_ms;      /* -1: never */
    int64_t retention_bytes; /* per partition; -1: no limit */
    int64_t retention_ms;    /* -1: no limit */
    uint32_t max_batch_bytes;
    uint32_t replicas;
};

/* One topic as the registry holds it. Partition p is the Raft group first_group + p. */
struct registry_topic {
    uint8_t id[UUID_BYTES];
    char name[TOPIC_NAME_BYTES_MAX + 1];
    enum registry_topic_state state;
    enum registry_topic_kind kind;
    uint32_t partitions_count;
    uint64_t first_group;   /* group ids and replica ids are never reused */
    uint64_t first_replica; /* replica ids: first_replica + p * replicas + r */
    struct registry_topic_config config;
    /* Broker ids, in the order of the replica ids: partitions_count * config.replicas of them. NULL: one replica each,
     * on this broker. Borrowed for the call that brings or takes the row. */
    const uint64_t *brokers;
};

typedef void (*registry_done)(void *context, enum err error);

struct registry_visitor {
    void (*topic)(void *context, const struct registry_topic *topic);
    void (*deleted)(void *context, uint64_t group); /* a group that was deleted, whatever a disk still holds of it */
};

struct registry {
    const struct registry_ops *ops;
};

struct registry_ops {
    /* Once, at start: visits every topic, then every deleted mark, then done. */
    void (*load)(struct registry *registry, const struct registry_visitor *visitor, registry_done done, void *context);
    /* Reserves `count` ids (for groups and replicas alike) that no one ever had; *ret_first is valid at done(OK). */
    void (*reserve_ids)(struct registry *registry, uint64_t count, uint64_t *ret_first, registry_done done,
                        void *context);
    /* With other brokers, state LIVE says "my replicas are born"; done comes when all of them are. */
    void (*put_topic)(struct registry *registry, const struct registry_topic *topic, registry_done done, void *context);
    /* Removes the topic, unreadable or not, and writes deleted/<group> for each of its groups, in one transaction. */
    void (*delete_topic)(struct registry *registry, const struct registry_topic *topic, registry_done done,
                         void *context);
    /* Takes the marks of deleted groups away, and what else it has of them: nothing is left that could bring them back.
     * `groups` is copied. */
    void (*forget_deleted)(struct registry *registry, const uint64_t *groups, uint32_t count, registry_done done,
                           void *context);
    /* Compare-and-set on the term: a lower term of the same group is ignored. Coalesced; no callback, retried inside.
     */
    void (*publish_leader)(struct registry *registry, uint64_t group, uint64_t broker, uint64_t term);
};

#endif
