/* What the checkpoint store holds, and its row formats: the durable picture of every group, the broker's identity, rows
 * of STATE groups. On port/kv. Every value ends in crc32c(key, value); a bad one is ERR_FORMAT.
 *
 * Keys are one type byte, then big-endian numbers, so that the rows of one group are one range:
 *   'B'                          identity {version, cluster id, broker id, disk uuid, boot number}
 *   'G' group                    the group row (struct meta_group), fixed layout, versioned
 *   'M' group base_offset        manifest row of a segment
 *   'E' group term               term -> first offset
 *   'D' group producer_id        done row (CDM), versioned, with room for transactions
 *   'S' group key bytes          row of a STATE group
 *   'R' ...                      the embedded registry's rows (broker/registry_embedded.h)
 *
 * Values: layout.c, each row type with its own version (ERR_VERSION: one that this build does not know).
 * One checkpoint of many groups is one transaction. Threads: loading on the loop thread at start, writing on the store
 * lane. */
#ifndef FLOTILLA_META_META_H
#define FLOTILLA_META_META_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "meta/done.h"
#include "port/kv.h"

#define META_TAIL_BYTES_MAX      4096u                   /* of an active segment's last, partial block */
#define META_STATE_KEY_BYTES_MAX (KV_KEY_BYTES_MAX - 9u) /* type and group stand before it */

struct meta_identity {
    uint8_t cluster_id[16];
    uint64_t broker;
    uint8_t disk_uuid[16];
    uint64_t boot; /* rises by one with every start */
};

/* ERR_NO_FILE: a new store. ERR_VERSION: a format this build does not know. */
enum err meta_load_identity(struct kv *kv, struct meta_identity *ret_identity);
enum err meta_save_identity(struct kv *kv, const struct meta_identity *identity);

struct meta_group {
    uint64_t group, replica;
    uint64_t term, vote; /* hard state at the time of the picture */
    uint64_t applied_index, applied_term;
    int64_t next_offset, log_start;
    int64_t log_clock_ms;
    uint32_t voters_count; /* Raft configuration */
    uint64_t voters[RAFT_VOTERS_MAX];
    uint64_t voter_brokers[RAFT_VOTERS_MAX];
    uint8_t kind;           /* enum registry_topic_kind */
    uint64_t segment_bytes; /* what rolls and retention depend on, as of CONFIG_TOPIC entries */
    int64_t segment_ms, retention_bytes, retention_ms;
    uint64_t snapshot_lsn; /* 0, or the lsn below which ENTRY records of this group are dead */
    uint64_t repaired_lsn;
    bool damaged;
    uint32_t csm_count; /* for inspection only: batches in flight when the picture was taken */
};

/* A manifest row; the same fields as store's segment_row, which this layer does not know. */
struct meta_segment {
    int64_t base_offset, end_offset;
    uint64_t size_bytes, generation;
    uint32_t chain;
    int64_t max_timestamp, created_clock_ms;
    uint32_t tail_size;
    const uint8_t *tail; /* borrowed */
};

struct meta_epoch {
    uint64_t term;
    int64_t first_offset;
};

struct meta_state_row { /* value_size 0 = delete */
    const void *key;
    uint32_t key_size;
    const void *value;
    uint32_t value_size;
};

/* Everything of one group that changed since its last checkpoint; written as a whole. Manifest rows (ascending by base
 * offset) replace all earlier ones of the group; epochs, done rows and state rows are added or overwritten. All
 * pointers borrowed. */
struct meta_picture {
    struct meta_group group;
    const struct meta_segment *segments;
    uint32_t segments_count;
    const struct meta_epoch *epochs; /* new ones */
    uint32_t epochs_count;
    const struct done_row *done; /* dirty ones */
    uint32_t done_count;
    const int64_t *done_removed; /* expired producers */
    uint32_t done_removed_count;
    const struct meta_state_row *state;
    uint32_t state_count;
};

/* Begins and ends no transaction: after an error the caller aborts it. ERR_TOO_LARGE: a state row's key or value. */
enum err meta_put_picture(struct kv *kv, struct kv_txn *txn, const struct meta_picture *picture);
/* Removes every row of the group. An installed snapshot is this and a whole picture in one transaction. */
enum err meta_delete_group(struct kv *kv, struct kv_txn *txn, uint64_t group);

/* Loads all groups, in order of group id: for each one `group`, then its segments, epochs, done rows, state rows.
 * Pointers valid during the call. A visitor's error ends the load and is returned. */
struct meta_visitor {
    void *context;
    enum err (*group)(void *context, const struct meta_group *group);
    enum err (*segment)(void *context, uint64_t group, const struct meta_segment *segment);
    enum err (*epoch)(void *context, uint64_t group, const struct meta_epoch *epoch);
    enum err (*done)(void *context, uint64_t group, const struct done_row *row);
    enum err (*state)(void *context, uint64_t group, const struct meta_state_row *row);
};
enum err meta_load(struct kv *kv, const struct meta_visitor *visitor);

#endif
