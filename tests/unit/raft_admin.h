/* What owners and operators ask of a Raft group under faults, by chance: members come and go, leaderships are given
 * away, reads are asked, disks fill up, groups go to sleep and are woken by the pings between their brokers. */
#ifndef FLOTILLA_TESTS_UNIT_RAFT_ADMIN_H
#define FLOTILLA_TESTS_UNIT_RAFT_ADMIN_H

#include "raft_cluster.h"

struct admin {
    uint32_t strikes[ORACLE_REPLICAS_MAX]; /* pings that did not fit, one after the other */
};

/* One millisecond of a replica that runs. */
void admin_act(struct admin *a, struct group *g, const struct cluster_options *o, struct replica *n);

/* Pings carry who sleeps under whom: wakes those for whom that does not fit, or who hear nothing. links_down[i], bit j:
 * replica i + 1 hears nothing from j + 1. */
void admin_ping(struct admin *a, struct group *g, const uint32_t *links_down);

/* In every configuration that is in force anywhere, majorities of both halves are among these replicas. */
bool admin_majorities_are_whole(const struct group *g, uint64_t mask);

#endif
