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

/* As broker/members.h has it; the numbers are raft's: 0 absent, 1 learner, 2 voter. */
struct meta_member {
    uint64_t replica, broker;
    uint8_t now, next;
};

struct meta_group {
    uint64_t group, replica;
    uint64_t term, vote; /* hard state at the time of the picture */
    uint64_t applied_index, applied_term;
    int64_t next_offset, log_start;
    int64_t log_clock_ms;
    int64_t idle_clock_ms; /* sum of what leaders counted, from which producers expire */
    uint64_t config_index; /* of the configuration in force at applied_index; 0: birth */
    uint32_t members_count;
    struct meta_member members[RAFT_MEMBERS_MAX]; /* rising by replica */
    uint8_t kind;                                 /* enum registry_topic_kind */
    uint64_t segment_bytes;                       /* what rolls and retention depend on, as of CONFIG_TOPIC entries */
    int64_t segment_ms, retention_bytes, retention_ms;
    uint64_t snapshot_lsn; /* 0, or the lsn below which ENTRY records of this group are dead */
    uint64_t repaired_lsn; /* batches below it are not needed, or given up: their damage is not judged */
    uint64_t accepted_lsn; /* 0, or ENTRY and TRUNCATE records in [accepted_lsn, repaired_lsn) are dead: a repair */
    bool damaged;
    bool healing; /* damaged, but all that its log holds from snapshot_lsn on is whole: a core may open over it */
    uint64_t damaged_lsn; /* damaged: where its log breaks off in the WAL; UINT64_MAX: the damage lies elsewhere */
    uint32_t csm_count;   /* for inspection only: batches in flight when the picture was taken */
};

/* A manifest row; the same fields as store's segment_row, which this layer does not know. */
struct meta_segment {
    int64_t base_offset, end_offset;
    uint64_t size_bytes, generation;
    uint32_t chain;
    int64_t max_timestamp, created_clock_ms, newest_ms;
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
 * offset) replace all earlier ones of the group; epochs, done rows and state rows are added or overwritten, or removed
 * where the picture says so. All pointers borrowed. */
struct meta_picture {
    struct meta_group group;
    const struct meta_segment *segments;
    uint32_t segments_count;
    const struct meta_epoch *epochs; /* new ones */
    uint32_t epochs_count;
    const uint64_t *epochs_removed; /* terms that own no offset any more */
    uint32_t epochs_removed_count;
    const struct done_row *done; /* dirty ones */
    uint32_t done_count;
    const int64_t *done_removed; /* expired producers */
    uint32_t done_removed_count;
    const struct meta_state_row *state;
    uint32_t state_count;
};

/* Begins and ends no transaction: after an error the caller aborts it. ERR_TOO_LARGE: a state row's key or value. */
enum err meta_put_picture(struct kv *kv, struct kv_txn *txn, const struct meta_picture *picture);
/* The group row alone, new or changed: as said at start or by a repair. */
enum err meta_put_group(struct kv *kv, struct kv_txn *txn, const struct meta_group *group);
/* Moves the log start of a stored picture up to the segment that begins at first_base, without waiting for a newer
 * picture: the manifest rows of older segments go, so that their files may. The last row stays whatever first_base
 * says, since what is replayed behind the picture goes on in its segment; *ret_last_base says where that one begins, -1
 * if there is no picture or no row. The LOG_START entry that allowed it is committed and behind the picture in the log,
 * so replay ends with the same log start. */
enum err meta_shed_segments(struct kv *kv, struct kv_txn *txn, uint64_t group, int64_t first_base,
                            int64_t *ret_last_base);
enum err meta_get_group(struct kv *kv, struct kv_txn *txn, uint64_t group, struct meta_group *ret_group); /* NO_FILE */
/* Removes every row of the group. An installed snapshot is this and a whole picture in one transaction. */
enum err meta_delete_group(struct kv *kv, struct kv_txn *txn, uint64_t group);

/* A row whose bytes are no row of ours: its CRC does not fit, or what it says is impossible. */
struct meta_bad_row {
    uint64_t group;  /* 0: not even that can be said */
    uint8_t type;    /* the key's first byte; 0: all rows are whole, but they are not those of the picture */
    uint64_t number; /* base offset, term or producer id; 0 for others */
};

/* Loads all groups, in order of group id: for each one `group`, then its segments, epochs, done rows, state rows.
 * Pointers valid during the call. A visitor's error ends the load and is returned.
 *
 * `bad` comes where the row would have come; a group whose own row is bad has none of the other calls. The group row
 * holds a sum over the others: `bad` with type 0 comes behind the last row if rows are missing or of an earlier time.
 * Without `bad` the first one ends the load with ERR_FORMAT. A whole row of a version this build does not know is no
 * damage, and always ends it: ERR_VERSION. So does a store that cannot be walked: ERR_FORMAT. */
struct meta_visitor {
    void *context;
    enum err (*group)(void *context, const struct meta_group *group);
    enum err (*segment)(void *context, uint64_t group, const struct meta_segment *segment);
    enum err (*epoch)(void *context, uint64_t group, const struct meta_epoch *epoch);
    enum err (*done)(void *context, uint64_t group, const struct done_row *row);
    enum err (*state)(void *context, uint64_t group, const struct meta_state_row *row);
    enum err (*bad)(void *context, const struct meta_bad_row *row);
};
enum err meta_load(struct kv *kv, const struct meta_visitor *visitor);
/* The segments of all groups alone, in the same order, whole rows only: a first look before meta_load, that judges
 * nothing. */
enum err meta_visit_segments(struct kv *kv, void *context,
                             enum err (*visit)(void *context, uint64_t group, const struct meta_segment *segment));
/* Takes away the rows that meta_load calls bad, the group's own excepted, and makes the sum that of what is left. */
enum err meta_drop_bad_rows(struct kv *kv, struct kv_txn *txn, uint64_t group);

#endif
