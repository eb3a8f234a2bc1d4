/* Port: the cluster's registry: topics, where their replicas are to be, who leads. It is a hint about data, never the
 * truth: no topic missing here deletes a byte, only a deleted/<group> mark does. What it says of replicas is the wish;
 * the Raft configuration is the fact, and the leader of each group walks from the one to the other.
 *
 * A replica goes through it once: NEW (placed on the disk of a broker), then BORN (durable there, as reported). No
 * configuration names a NEW one, and a BORN one is never born again: if it is missing it is lost, and another one, with
 * another id, takes its place. The first replicas of a group are born while their topic is CREATING, and are its
 * voters: when all are BORN the topic becomes LIVE, and only then do they start. Whoever comes later is born while it
 * is LIVE, empty and without a vote, and gets one from the leader.
 *
 * Who writes all this is the controller: of a broker that is alone, itself (create_topic is NULL; it calls put_topic);
 * of a cluster, one of the brokers, which is asked by create_topic and delete_topic.
 *
 * All calls are asynchronous and made on the loop thread; each callback comes exactly once, on the loop thread, in a
 * later turn. Real twins: broker/registry_embedded.c (on port/kv, so that the simulator runs the very same code); later
 * zk/. */
#ifndef FLOTILLA_PORT_REGISTRY_H
#define FLOTILLA_PORT_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
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

enum registry_replica_state {
    REPLICA_NEW = 1,
    REPLICA_BORN = 2,
};

struct registry_replica {
    uint64_t replica; /* id */
    uint64_t broker;
    uint8_t disk_uuid[UUID_BYTES]; /* the disk of that broker for which it is meant: on another one it is lost */
    enum registry_replica_state state;
};

struct registry_founder {
    uint64_t replica, broker;
};

struct registry_partition {
    uint64_t group;          /* changes as long as the topic is CREATING: when a replica has to be placed anew */
    uint32_t replicas_count; /* 1 to RAFT_VOTERS_MAX, all on different brokers */
    struct registry_replica replicas[RAFT_VOTERS_MAX];
    /* The voters that the group is born with: its replicas while the topic is CREATING, and the same ever after. */
    uint32_t founders_count;
    struct registry_founder founders[RAFT_VOTERS_MAX];
};

/* One topic as the registry holds it. Group ids and replica ids are never reused, nor are they those of anything else.
 */
struct registry_topic {
    uint8_t id[UUID_BYTES];
    char name[TOPIC_NAME_BYTES_MAX + 1];
    enum registry_topic_state state;
    enum registry_topic_kind kind;
    uint32_t partitions_count;
    uint64_t first_group; /* rises with each topic that is made; see registry_group for the groups themselves */
    uint64_t first_replica;
    struct registry_topic_config config;
    /* partitions_count of them, borrowed for the call that brings or takes the row. NULL (the broker is alone): group
     * first_group + p and one replica, first_replica + p, here. */
    const struct registry_partition *partitions;
};

static inline uint64_t registry_group(const struct registry_topic *topic, uint32_t partition)
{
    return topic->partitions != NULL ? topic->partitions[partition].group : topic->first_group + partition;
}

/* The replica that is to be on a broker; NULL: none. */
static inline const struct registry_replica *registry_replica_on(const struct registry_partition *partition,
                                                                 uint64_t broker)
{
    const struct registry_replica *found = NULL;
    for (uint32_t r = 0; r < partition->replicas_count; r++) {
        found = partition->replicas[r].broker == broker ? &partition->replicas[r] : found;
    }
    return found;
}

/* Who asks. */
struct registry_self {
    uint64_t broker;
    uint8_t disk_uuid[UUID_BYTES];
    uint64_t boot; /* grows with each start of that disk */
};

typedef void (*registry_done)(void *context, enum err error);

struct registry_visitor {
    void (*topic)(void *context, const struct registry_topic *topic); /* it is there, or has changed */
    void (*gone)(void *context, const uint8_t id[UUID_BYTES]);        /* it is not there any more */
    void (*deleted)(void *context, uint64_t group); /* a group that was deleted, whatever a disk still holds of it */
};

struct registry {
    const struct registry_ops *ops;
};

struct registry_ops {
    /* Once, at start: visits every topic, then every deleted mark, then done. What is visited is no older than anything
     * that any life of this broker was told before. From then on the visitor (copied) hears
     * of every change that others make: a topic as it is now (what it was in between may be left out), marks before the
     * `gone` of their topic, that before another topic of its name. Nothing that is told is older than what was told
     * before. */
    void (*load)(struct registry *registry, const struct registry_self *self, const struct registry_visitor *visitor,
                 registry_done done, void *context);

    /* What is told before done comes is no older than this call. ERR_TIMED_OUT and the like: ask again. NULL where
     * create_topic is. */
    void (*refresh)(struct registry *registry, registry_done done, void *context);

    /* Asks the controller for a topic: name, kind, partitions_count and config of `wish` count; replicas 0 leaves it
     * their number. OK: it is LIVE; ERR_TOPIC_EXISTS, ERR_NOT_ENOUGH_BROKERS (nothing is left of it). NULL: we are the
     * controller ourselves, see reserve_ids and put_topic. */
    void (*create_topic)(struct registry *registry, const struct registry_topic *wish, registry_done done,
                         void *context);
    /* Removes the topic, unreadable or not, and writes deleted/<group> for each of its groups, in one transaction. */
    void (*delete_topic)(struct registry *registry, const struct registry_topic *topic, registry_done done,
                         void *context);
    /* This broker holds nothing any more of these groups, and never will. When that is so of all brokers that were ever
     * given a replica, the marks go, and what else the registry has of them. `groups` is copied. */
    void (*forget_deleted)(struct registry *registry, const uint64_t *groups, uint32_t count, registry_done done,
                           void *context);

    /* Reserves `count` ids (for groups and replicas alike) that no one ever had; *ret_first is valid at done(OK). */
    void (*reserve_ids)(struct registry *registry, uint64_t count, uint64_t *ret_first, registry_done done,
                        void *context);
    void (*put_topic)(struct registry *registry, const struct registry_topic *topic, registry_done done, void *context);

    /* This replica is durable here; the row says NEW. May get lost: to be repeated until the row says BORN, or does not
     * name it any more. NULL where create_topic is. */
    void (*report_born)(struct registry *registry, uint64_t group, uint64_t replica);
    /* The row names this replica of ours, BORN or meant for an earlier disk, and it is not here. Repeated likewise. */
    void (*report_lost)(struct registry *registry, uint64_t group, uint64_t replica);

    /* Compare-and-set on the term: a lower term of the same group is ignored. Coalesced; no callback, retried inside.
     */
    void (*publish_leader)(struct registry *registry, uint64_t group, uint64_t broker, uint64_t term);
};

#endif
