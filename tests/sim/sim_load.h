/* The workload: an administrator that makes and deletes topics, producers, consumers and an auditor, each with
 * connections of its own, one to each broker, all speaking frames through the product's codec.
 *
 * Producers behave as the client library must: sequences per partition, up to five batches in flight, after any doubt
 * the same batches again in the same order. The auditor reads every partition from its start after each restart and at
 * the end. The load feeds the checkers: what is sent when it is sent, what is answered when the answer leaves the
 * broker, what is read when it arrives.
 *
 * With several brokers a client asks who it believes leads the group: who answered last, whom a NOT_LEADER named, whom
 * Metadata of any broker names; else anybody. Who says no, is lost or stays silent is left for another one, with the
 * same batches; what was sent to it may still arrive. */
#ifndef FLOTILLA_SIM_LOAD_H
#define FLOTILLA_SIM_LOAD_H

#include "sim_check.h"
#include "sim_link.h"
#include "sim_options.h"
#include "sim_room.h"
#include "sim_shadow.h"

#define LOAD_BROKERS_MAX 8u

struct load;

/* Who knows, instead of the shadow, the disks of several brokers; told as the reply leaves. NULL calls are left out. */
struct load_truth {
    void *context;
    /* Before any answer about the group is judged: whoever feeds the check's ledger does so up to now. */
    void (*catch_up)(void *context, uint64_t group);
    /* W1: a producer with acks=all is told that its batch is stored. */
    void (*acked)(void *context, uint64_t group, const uint8_t *batch, size_t size);
    /* Around a question about the end of a log: what the first call returned is given to the second. */
    int64_t (*read_begin)(void *context, uint64_t group);
    void (*read_end)(void *context, uint64_t group, int64_t begun, int64_t high_watermark);
    /* `broker` says that it leads the group in `term`, and what it serves of it. */
    void (*served)(void *context, uint64_t broker, uint64_t group, uint64_t term, int64_t log_start,
                   int64_t high_watermark);
};

/* A topic as the load wants it; 0: no such limit. */
struct load_wish {
    const char *name;
    uint32_t partitions;
    uint64_t retention_bytes;
    int64_t retention_ms, segment_ms;
};

/* The hand of the controller: writes the registry. The brokers hear of it, and the load of them, by Metadata. false:
 * not now. Other topics are made and deleted by asking some broker, who asks the controller. */
struct load_controller {
    void *context;
    bool (*create)(void *context, const struct load_wish *wish); /* one that is there already: true */
    bool (*remove)(void *context, const char *name);             /* one that is gone: true */
    bool (*has)(void *context, const char *name);                /* what only the registry knows for sure */
};

/* What the load works with; borrowed until load_free. */
struct load_parts {
    struct sim_world *world;
    /* Sizes of load and segments, expiry, seed; of the faults those that are its own: disconnect, zombie-frames,
     * takeover, topic-churn, retention, vandal, liar, crowd; load_us is how long it lasts. */
    const struct sim_options *options;
    struct sim_net *const *nets; /* of broker i + 1 */
    uint32_t brokers_count;
    struct check *check;
    struct shadow *shadow; /* NULL: `truth`, or nobody */
    struct room *room;     /* NULL: not judged */
    const struct load_truth *truth;
    const struct load_controller *controller; /* NULL: brokers are asked to make and delete topics */
};
struct load *load_new(const struct load_parts *parts);
void load_free(struct load *load);

/* Broker 1 .. answers from now on; clients connect again and again. */
void load_broker_up(struct load *load, uint64_t broker, uint64_t life);
void load_broker_down(struct load *load, uint64_t broker);

/* Somebody else made this topic: to be used as soon as a broker says that it is live. */
void load_expect(struct load *load, const struct load_wish *wish);

/* One of the load's own faults, now if it can be: FAULT_DISCONNECT, FAULT_ZOMBIE, FAULT_FENCE. */
void load_urge(struct load *load, enum sim_fault fault);

/* No new records, topics, faults; what is under way is finished. */
void load_quiet(struct load *load);
bool load_is_quiet(const struct load *load, const char **ret_waits_for);
/* One record to every partition. After load_is_quiet. */
void load_prove(struct load *load);
bool load_is_proven(struct load *load, const char **ret_waits_for);

/* For sim_net_options: a reply leaves the broker. context: load_reply_context. */
void *load_reply_context(struct load *load, uint64_t broker);
void load_on_reply(void *context, const struct sim_conn *conn, const uint8_t *frame, size_t head_size);

/* Reads every partition from its start; every acknowledged message must be there (B1). load_has_audited says when it is
 * done. */
void load_audit(struct load *load);

/* For sim_atlas: a batch that is about to rot is read while it is good. */
void load_witness(void *context, uint64_t group, const uint8_t *batch, size_t size);

/* From now on a partition may be CORRUPT: then nothing of it is served. What is served must be as ever. */
void load_rotten(struct load *load);

/* The group is damaged, as it has to be: nothing is written to it or judged of it any more. */
void load_write_off(struct load *load, uint64_t group);
/* CORRUPT is an honest answer of the group, to be asked again. */
bool load_is_corrupt_for_now(const struct load *load, uint64_t group);
uint64_t load_draw_group(const struct load *load, struct rng *rng); /* one that clients use; 0: none just now */

uint32_t load_groups(const struct load *load);  /* partitions that exist for the clients */
bool load_has_audited(const struct load *load); /* since the last load_broker_up */

#endif
