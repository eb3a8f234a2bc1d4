/* A Raft group in memory: 1 .. 7 replicas, each with a disk that loses what was not synced, on a network that loses,
 * repeats, delays and reorders, under one clock. Everything follows from the seed. The oracle (raft_oracle.h) and
 * raft_check look at every step. */
#ifndef FLOTILLA_TESTS_UNIT_RAFT_CLUSTER_H
#define FLOTILLA_TESTS_UNIT_RAFT_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/raft.h"

#define CLUSTER_HEARTBEAT_MS 20
#define CLUSTER_ELECTION_MS 100

/* Chances are per millisecond, or per message where it says so. */
struct cluster_options {
    uint64_t seed;
    uint32_t nodes;
    double loss, duplicate; /* per message */
    double late;            /* per message: delayed by up to late_ms instead */
    uint64_t delay_ms, late_ms;
    double crash, restart, pause, partition, heal;
    bool one_way;                      /* partitions may cut one direction only */
    double stall;                      /* per sync: takes up to stall_ms instead of sync_ms */
    uint64_t sync_ms, stall_ms;
    double submit, compact;
};

/* How often the interesting things happened: a run without them proves nothing. */
struct cluster_marks {
    uint64_t elections, commits, crashes, writes_lost, truncations;
    uint64_t truncations_in_flight; /* with writes on their way */
    uint64_t refusals, old_term_tails; /* leaders elected with uncommitted entries of older terms */
    uint64_t delivered, compactions;
};

struct cluster;

/* A swarm: every class of fault is on or off, and its rate is drawn, by the seed. */
struct cluster_options cluster_options_draw(uint64_t seed, uint32_t nodes);

struct cluster *cluster_new(const struct cluster_options *options);
void cluster_free(struct cluster *c);

/* Lets time pass with faults as the options say. */
void cluster_run(struct cluster *c, uint64_t ms);

/* Ends all faults, starts who is down. */
void cluster_heal(struct cluster *c);

/* Runs until every replica has committed `entries` more than was committed before; ends the test if limit_ms do not
 * suffice. */
void cluster_run_until_committed(struct cluster *c, uint64_t entries, uint64_t limit_ms);

/* By hand: replica ids are 1 .. nodes. */
void cluster_crash(struct cluster *c, uint64_t replica);
void cluster_restart(struct cluster *c, uint64_t replica);
void cluster_cut(struct cluster *c, uint64_t from, uint64_t to, bool cut);
void cluster_cut_appends(struct cluster *c, uint64_t from, uint64_t to, bool cut); /* votes still pass */
void cluster_stall(struct cluster *c, uint64_t replica, bool stalled); /* its syncs do not return */
bool cluster_submit(struct cluster *c, uint64_t replica, uint64_t count); /* false: it does not lead */
const struct raft *cluster_raft(const struct cluster *c, uint64_t replica); /* NULL: down */
uint64_t cluster_leader(const struct cluster *c); /* of the highest term, 0 = none */

const struct cluster_marks *cluster_marks(const struct cluster *c);

/* A hash of everything that happened: equal for equal options. */
uint64_t cluster_hash(const struct cluster *c);

#endif
