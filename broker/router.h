/* Between the groups and the other brokers: Raft messages out, Raft rows in.
 *
 * Out: a message becomes a row of the frame that leaves at the end of this turn, its entries referenced from the
 * group's window. What may only leave when a write is durable (votes, acknowledgements) waits here, in lsn order, until
 * the log says so. What cannot be sent is told to the core at once (RAFT_UNREACHABLE).
 *
 * In: a row is for one replica of one group. If that replica is here, its core gets the message and what it wants is
 * carried out at once, while the entries are at hand; else the sender is told why not. Rows come before what clients
 * asked for in the same turn, since that is judged at its end. */
#ifndef FLOTILLA_BROKER_ROUTER_H
#define FLOTILLA_BROKER_ROUTER_H

#include <stdint.h>

#include "broker/peers.h"
#include "raft/raft.h"

struct broker;
struct partition;
struct router;

/* Entries that came with the message being stepped: [first, first + count). Payloads are references of whoever called;
 * who wants one takes his own. */
struct router_entries {
    uint64_t first;
    uint32_t count;
    const uint8_t *types;
    const struct slice *payloads;
};

struct router *router_new(struct broker *b);
void router_free(struct router *router); /* NULL is allowed */

/* The members of a group live on other brokers: which one? 0: not a member. */
uint64_t router_broker_of(const struct partition *p, uint64_t replica);

/* Sends a message of this group; RAFT_APPEND takes its entries from the window. */
void router_send(struct partition *p, const struct raft_message *m);
/* The same when everything before `lsn`, and the record there, is durable. Not for RAFT_APPEND. Beyond
 * ROUTER_WAITING_MAX of them it is dropped: votes and acknowledgements are asked for again. */
void router_send_after(struct partition *p, const struct raft_message *m, uint64_t lsn);
void router_on_persisted(struct broker *b, uint64_t lsn_end);
/* The partition is gone: nothing of it is sent any more. */
void router_forget(struct partition *p);

/* Of peers_handler. */
void router_on_row(void *context, uint64_t broker, const RaftRow *row, const uint8_t *payload);
void router_on_up(void *context, uint64_t broker, const uint8_t disk_uuid[UUID_BYTES], uint64_t boot);
void router_on_down(void *context, uint64_t broker);

#endif
