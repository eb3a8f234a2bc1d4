/* The workload: an administrator that makes and deletes topics, producers, consumers and an auditor, each with a
 * connection of its own, all speaking frames through the product's codec.
 *
 * Producers behave as the client library must: sequences per partition, up to five batches in flight, after any doubt
 * the same batches again in the same order. The auditor reads every partition from its start after each restart and at
 * the end. The load feeds the checkers: what is sent when it is sent, what is answered when the answer leaves the
 * broker, what is read when it arrives. */
#ifndef FLOTILLA_SIM_LOAD_H
#define FLOTILLA_SIM_LOAD_H

#include "sim_check.h"
#include "sim_link.h"
#include "sim_options.h"
#include "sim_room.h"
#include "sim_shadow.h"

struct load;

/* What the load works with; borrowed until load_free. */
struct load_parts {
    struct sim_world *world;
    const struct sim_options *options;
    struct sim_net *net;
    struct check *check;
    struct shadow *shadow;
    struct room *room;
};
struct load *load_new(const struct load_parts *parts);
void load_free(struct load *load);

void load_broker_up(struct load *load, uint64_t life); /* it answers from now on; clients connect again and again */
void load_broker_down(struct load *load);

/* No new records, topics, faults; what is under way is finished. */
void load_quiet(struct load *load);
bool load_is_quiet(const struct load *load, const char **ret_waits_for);
/* One record to every partition. After load_is_quiet. */
void load_prove(struct load *load);
bool load_is_proven(struct load *load, const char **ret_waits_for);

/* For sim_net_options: a reply leaves the broker. */
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
