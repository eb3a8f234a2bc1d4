/* A Raft group (raft_group.h) under one clock and under faults: a network that loses, repeats, delays, reorders and
 * splits, disks that stall, lose what was not synced, and rot; members that come and go, snapshots, transfers of
 * leadership, reads, sleep. Everything follows from the seed. */
#ifndef FLOTILLA_TESTS_UNIT_RAFT_CLUSTER_H
#define FLOTILLA_TESTS_UNIT_RAFT_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>

#include "raft_group.h"

#define CLUSTER_HEARTBEAT_MS GROUP_HEARTBEAT_MS
#define CLUSTER_ELECTION_MS  GROUP_ELECTION_MS

/* Chances are per millisecond (and replica, where one acts), or per message or crash where it says so. */
struct cluster_options {
    uint64_t seed;
    uint32_t nodes;         /* that the group is born with; more may join */
    double loss, duplicate; /* per message */
    double late;            /* per message: delayed by up to late_ms instead */
    double split;           /* per append of several entries: travels in two pieces */
    uint64_t delay_ms, late_ms;
    double crash, restart, pause, partition, heal;
    bool one_way; /* partitions may cut one direction only */
    double stall; /* per sync: takes up to stall_ms instead of sync_ms */
    uint64_t sync_ms, stall_ms;
    double damage; /* per crash: some of log and hard state is lost */
    double doubt;  /* a disk is found rotten while it runs */
    double submit, compact, change, transfer, read, sleep, fill;
    double snapshot_fails; /* per transfer */
    double snapshot_late;  /* per transfer: its end is reported up to late_ms later */
};

struct cluster;

/* A swarm: every class of fault is on or off, and its rate is drawn, by the seed. */
struct cluster_options cluster_options_draw(uint64_t seed, uint32_t nodes);

struct cluster *cluster_new(const struct cluster_options *options);
void cluster_free(struct cluster *c);

/* Lets time pass with faults as the options say. */
void cluster_run(struct cluster *c, uint64_t ms);

/* Ends all faults, starts who is down; also who was removed, and may not know it. */
void cluster_heal(struct cluster *c);

/* Runs until majorities follow a leader; ends the test if limit_ms do not suffice. Returns what it took, ms. */
uint64_t cluster_run_until_led(struct cluster *c, uint64_t limit_ms);

/* Runs until every member of the newest configuration is whole and has committed `entries` more than was committed
 * before, and nothing is joint any more; ends the test if limit_ms do not suffice. */
void cluster_run_until_committed(struct cluster *c, uint64_t entries, uint64_t limit_ms);

/* By hand: replica ids are 1 .. nodes. */
void cluster_crash(struct cluster *c, uint64_t replica);
void cluster_restart(struct cluster *c, uint64_t replica);
void cluster_cut(struct cluster *c, uint64_t from, uint64_t to, bool cut);
void cluster_cut_appends(struct cluster *c, uint64_t from, uint64_t to, bool cut); /* beats too; votes still pass */
void cluster_stall(struct cluster *c, uint64_t replica, bool stalled);             /* its syncs do not return */
bool cluster_submit(struct cluster *c, uint64_t replica, uint64_t count);          /* false: it does not lead */
const struct raft *cluster_raft(const struct cluster *c, uint64_t replica);        /* NULL: down */
uint64_t cluster_leader(const struct cluster *c);                                  /* of the highest term, 0 = none */
struct group *cluster_group(struct cluster *c);

const struct group_marks *cluster_marks(const struct cluster *c);

/* A hash of everything that happened: equal for equal options. */
uint64_t cluster_hash(const struct cluster *c);

#endif
