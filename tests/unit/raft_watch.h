/* What one replica may be seen to do, checked by raft_group.c around every step: terms and commit indexes never fall,
 * a leader only appends, what counts as durable is on the disk, the configuration is the newest of the log, no vote
 * against a leader that was just heard, no leader without a majority it hears, reads, transfers, quiet. */
#ifndef FLOTILLA_TESTS_UNIT_RAFT_WATCH_H
#define FLOTILLA_TESTS_UNIT_RAFT_WATCH_H

#include "raft_group.h"

/* A message is about to be received, and has been. */
void watch_message(struct group *g, struct replica *n, const struct raft_message *m);
void watch_delivered(struct group *g, struct replica *n, const struct raft_message *m);

/* After each raft_step. */
void watch_step(struct group *g, struct replica *n);

/* With each update, when its entries are in the owner's log; packet: the message just received, if any. */
void watch_update(struct group *g, struct replica *n, const struct raft_update *u, const struct packet *packet,
                  bool elected);

/* When there are no more updates. */
void watch_rest(struct group *g, struct replica *n);

/* After a TICK. */
void watch_tick(struct group *g, struct replica *n);

/* A read was asked for: round is the number to wait for. */
void watch_read(struct group *g, struct replica *n, uint64_t round);

#endif
