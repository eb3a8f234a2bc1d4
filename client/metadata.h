/* What the client knows of the cluster: where brokers listen, which group a partition is and who leads it. A hint that
 * is asked for again when a broker contradicts it. */
#ifndef FLOTILLA_CLIENT_METADATA_H
#define FLOTILLA_CLIENT_METADATA_H

#include <sys/queue.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/map.h"
#include "wire/codec.h"

struct flo_client;
struct metadata_topic;

struct metadata_broker {
    UT_hash_handle hh;
    uint64_t id;
    char address[ADDRESS_BYTES_MAX + 16];
};

struct metadata_partition {
    uint64_t group;
    uint64_t leader; /* broker id; 0: none known */
    uint64_t term;
    bool is_corrupt; /* damaged where it is, so nobody leads it */
};

struct metadata_wait {
    TAILQ_ENTRY(metadata_wait) link;
    struct metadata_topic *topic; /* NULL: not waiting */
    uint64_t round;
    /* OK: the topic's partitions are as just answered. ERR_UNKNOWN_TOPIC, ERR_REFUSED, ERR_TIMEOUT ... otherwise. */
    void (*on_done)(struct metadata_wait *wait, enum err error);
};

struct metadata_topic {
    UT_hash_handle hh;
    struct flo_client *client;
    struct metadata_partition *partitions; /* owned; never fewer than before */
    uint32_t partitions_count;             /* 0: never answered */
    uint32_t max_batch_bytes;
    struct call *call; /* owned; NULL: none under way */
    uint64_t round;    /* of answers; rises with each */
    TAILQ_HEAD(, metadata_wait) waits;
    char name[TOPIC_NAME_BYTES_MAX + 1];
};

struct metadata {
    struct metadata_broker *brokers;
    struct metadata_topic *topics;
};

void metadata_deinit(struct metadata *metadata);

/* The topic's entry, made when missing; lives as long as the client. NULL: not a possible name. */
struct metadata_topic *metadata_topic(struct flo_client *client, const char *name);

/* Asks for fresh metadata; wait->on_done comes later, never within this call. Requests for one topic are joined. */
void metadata_refresh(struct metadata_topic *topic, struct metadata_wait *wait);
void metadata_forget(struct metadata_wait *wait); /* no on_done; one that is not waiting is allowed */

/* A NOT_LEADER reply named the leader: believed until something contradicts it. False: no hint, or nothing new. */
bool metadata_hint_leader(struct metadata_topic *topic, uint32_t partition, uint64_t leader);

const char *metadata_broker_address(const struct metadata *metadata, uint64_t broker); /* NULL: unknown */

/* Takes over the broker rows of any MetadataReply; cursor stands behind them then. */
enum err metadata_read_brokers(struct metadata *metadata, struct codec_cursor *cursor, uint32_t brokers_count);

#endif
