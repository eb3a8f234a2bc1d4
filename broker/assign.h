/* What the registry's wish for the replicas of a group means on this broker: births, reports, the walk of each leader
 * from the Raft configuration that is to the one that is wished for, and the end of replicas that are wished no more.
 *
 * A replica that the registry names NEW is born here: GROUP_NEW durable, then reported until the row says BORN. While
 * the topic is CREATING these are the group's founders, and start when it is LIVE; later ones are in no configuration,
 * start at once, and wait to be found. One that the row names BORN, or for an earlier disk of ours, and that is not
 * here is *lost*: it is never made again, and the controller is told.
 *
 * A leader changes the members of its group one step at a time: who is wished, BORN, and no member becomes a learner;
 * when all that are wished are BORN and caught up, exactly they become voters, and everybody else goes. A leader that
 * is to go gives its leadership to one that stays, if it can. It follows no wish that was read before it led: what its
 * predecessors did by a later one stands in its log, and whom they removed must not be taken in again.
 *
 * A replica ends itself only if the registry wishes it no more, and besides one of these is so: its own log holds the
 * committed configuration without it; a member of the group says so (PEER_REMOVED), and the log here holds no later
 * configuration with it. Who suspects his end asks all brokers (PEER_AM_I_MEMBER). A deleted mark ends a group at once
 * (catalog_load.c).
 *
 * What is not settled is looked at again every ASSIGN_INTERVAL_US, topic by topic; a broker where everything is as
 * wished does nothing. Loop thread. */
#ifndef FLOTILLA_BROKER_ASSIGN_H
#define FLOTILLA_BROKER_ASSIGN_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/catalog.h"
#include "wire/peer.h"

struct partition;

/* Makes a replica of this partition: GROUP_NEW goes to the log, catalog_partition_born comes when it is durable. */
void assign_birth(struct topic *topic, uint32_t number, uint64_t replica);
/* Of a topic of a cluster: its birth is durable. */
void assign_born(struct partition *p);

/* The row of a topic of a cluster is new or has changed. */
void assign_topic(struct topic *topic);
/* It leads now. */
void assign_lead(struct partition *p);

/* A message from a replica that is in no configuration here: is it to reach the core all the same? Else it is refused,
 * and told so if it can be known that it was removed. */
bool assign_lets_speak(struct partition *p, uint64_t broker, const RaftRow *row);
/* PEER_AM_I_MEMBER and PEER_REMOVED, for whatever group. */
void assign_on_row(struct broker *b, uint64_t broker, const RaftRow *row);

void assign_timer(struct broker *b, uint64_t now_us);
uint64_t assign_deadline_us(const struct broker *b);

#endif
