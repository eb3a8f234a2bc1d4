/* The stage on which golden scenarios play: a group of replicas (unit/raft_group.h) whose messages, disks and clocks
 * move only when a script says so, and which tells everything that happens as lines of text.
 *
 * The network is a queue of messages that were sent and not delivered, in the order of sending. Time is one clock, but
 * a replica hears of it only when it is ticked. */
#ifndef FLOTILLA_TESTS_GOLDEN_STAGE_H
#define FLOTILLA_TESTS_GOLDEN_STAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "../unit/raft_group.h"

#define STAGE_POCKETS_MAX 8u

struct stage {
    struct group group;
    struct packets network;
    bool cut[ORACLE_REPLICAS_MAX][ORACLE_REPLICAS_MAX];
    bool stalled[ORACLE_REPLICAS_MAX];
    struct packet *pockets[STAGE_POCKETS_MAX]; /* messages kept to be delivered again */
    bool hushed;
    FILE *out;
};

void stage_open(struct stage *s, const struct raft_config *birth, FILE *out);
void stage_close(struct stage *s);

/* A line of the trace. */
void stage_say(struct stage *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Delivers the oldest message from one to the other, 0 standing for anybody; false: there is none. */
bool stage_deliver(struct stage *s, uint64_t from, uint64_t to);
struct packet *stage_find(struct stage *s, uint64_t from, uint64_t to);
void stage_drop(struct stage *s, uint64_t from, uint64_t to);
void stage_persist(struct stage *s, struct replica *n);

/* Everybody whose bit is set (bit i: replica i + 1) applies what is committed, syncs unless stalled, and is given its
 * messages, until nothing moves any more. */
void stage_settle(struct stage *s, uint64_t mask);

/* Text of a configuration, in a buffer of the size given. */
void stage_print_config(const struct raft_config *config, char *text, size_t size);

#endif
