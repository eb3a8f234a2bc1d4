/* Produce requests: from the decoded frame to the reply. A request object references its batch where it landed in the
 * session's chunk; objects are recycled.
 *
 * How long an answer takes. What is proposed is answered when it is applied, or at its own deadline (TIMEOUT: it may
 * still be stored), which is looked at four times a second: once it is in the log nobody may call it failed. So it is
 * proposed only when the log has room for it that is secured. While the disk is full or the log is stalled, what
 * arrives is refused in the same turn (STORAGE_FULL; BUSY if it is not room that is missing), and what came before,
 * and was not proposed yet, a quarter of a second later at the latest. */
#ifndef FLOTILLA_BROKER_PRODUCE_H
#define FLOTILLA_BROKER_PRODUCE_H

#include "broker/impl.h"

enum { ACKS_ALL = -1, ACKS_NONE = 0, ACKS_LEADER = 1 };

struct produce {
    struct waiter waiter; /* first: complete() casts back */
    STAILQ_ENTRY(produce) pending_link;
    TAILQ_ENTRY(produce) deadline_link;
    struct session *session; /* held */
    uint64_t request_id;
    struct partition *partition; /* NULL once answered ahead of the entry (deadline) */
    int32_t acks;
    struct slice batch; /* reference until proposed */
    uint32_t batch_bytes;
    struct batch_header header;
    uint64_t received_us, deadline_us;
    bool answered;
    bool pending;      /* in partition->pending */
    bool is_confirmed; /* what speaks against its sequence is no mistake */
    struct confirm confirm;
};

/* Takes a Produce frame: validates the batch, queues it on its partition. Every request is answered exactly once (acks
 * none: never). */
void produce_request(struct session *s, const struct frame *frame);

void produce_judge_pending(struct partition *p);  /* leader: propose, or answer; not ready: left waiting */
void produce_refuse_pending(struct partition *p); /* answers all with the partition's status */
/* Each turn: partitions whose requests wait for room in the log are served while there is some, in turn. */
void produce_serve_waiting(struct broker *b);
void produce_sweep(struct broker *b, uint64_t now_us); /* deadlines, and who waits in vain */
void produce_free_all(struct broker *b);

#endif
