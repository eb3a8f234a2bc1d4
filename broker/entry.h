/* What stands in a partition's Raft log: the types, and the payloads of the small ones. The type is a field of the
 * entry, so a producer may be called Leader or TIMEOUT. One DATA entry is exactly one RecordBatch; only DATA (and later
 * MARKER) takes offsets. Payloads are fixed, versioned, little-endian; numbers are stored, never reused. */
#ifndef FLOTILLA_BROKER_ENTRY_H
#define FLOTILLA_BROKER_ENTRY_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"

enum entry_type {
    ENTRY_LEADER = 1,       /* first of a term: who leads, and the log clock */
    ENTRY_TIMEOUT = 2,      /* the periodic no-op: carries the log clock */
    ENTRY_DATA = 3,         /* one RecordBatch v2 */
    ENTRY_LOG_START = 4,    /* log start moves to this offset */
    ENTRY_CONFIG_TOPIC = 5, /* what rolls and retention depend on */
    ENTRY_CONFIG = 6,       /* Raft configuration (with joint consensus) */
    ENTRY_OPS = 7,          /* operation of a STATE group */
    ENTRY_MARKER = 8,       /* reserved: transactions */
};

const char *entry_type_name(uint8_t type); /* "LEADER", ...; "UNKNOWN" */

struct entry_leader {
    uint64_t broker;
    int64_t clock_ms;
};

struct entry_timeout {
    int64_t clock_ms;   /* the log clock moves up to it */
    int64_t elapsed_ms; /* on the leader's monotonic clock, since its last TIMEOUT or LEADER entry */
    int64_t expire_ms;  /* producers idle for longer are forgotten; 0: none. The leader's configuration, not each
                           replica's */
};

/* Also the tail of a birth record. */
struct entry_config {
    uint64_t segment_bytes;
    int64_t segment_ms, retention_bytes, retention_ms;
    uint32_t max_batch_bytes;
};

/* WAL_GROUP_NEW: everything a replica must know to start empty. */
struct entry_birth {
    uint8_t kind; /* enum registry_topic_kind */
    uint32_t partition;
    uint32_t voters_count;
    uint64_t voters[RAFT_VOTERS_MAX];
    uint64_t voter_brokers[RAFT_VOTERS_MAX];
    struct entry_config config;
};

/* Each gives a slice with its own buf, one reference, the caller's. */
struct slice entry_encode_leader(const struct entry_leader *entry);
struct slice entry_encode_timeout(const struct entry_timeout *entry);
struct slice entry_encode_log_start(int64_t offset);
struct slice entry_encode_config(const struct entry_config *entry);
struct slice entry_encode_birth(const struct entry_birth *entry);
struct slice entry_encode_bytes(const void *data, uint32_t size); /* a copy: OPS payloads */

/* ERR_FORMAT: wrong size or version. */
enum err entry_decode_leader(struct slice payload, struct entry_leader *ret_entry);
enum err entry_decode_timeout(struct slice payload, struct entry_timeout *ret_entry);
enum err entry_decode_log_start(struct slice payload, int64_t *ret_offset);
enum err entry_decode_config(struct slice payload, struct entry_config *ret_entry);
enum err entry_decode_birth(struct slice payload, struct entry_birth *ret_entry);

#endif
