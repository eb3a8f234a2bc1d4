/* A request for a producer id becomes one entry in a partition of `__producers`: by the hash of the name, or for
 * anonymous producers any partition in turn. The answer comes from apply, so it is durable and the same on every
 * replica; or at the deadline, when the log does not get on. Then the entry may still be applied, and nobody waits for
 * it any more. */
#include "broker/producers.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "broker/impl.h"
#include "broker/state.h"
#include "wire/partitioner.h"

#define TIMEOUT_DEFAULT_MS 30000u

struct init_request {
    struct waiter waiter; /* first */
    TAILQ_ENTRY(init_request) link;
    struct broker *broker;
    const struct partition *partition; /* that gives out the id; NULL: none yet, or it is not here */
    struct session *session;           /* NULL: answered; freed when its topic or its entry is decided */
    uint64_t request_id, deadline_us;
    char name[PRODUCER_NAME_BYTES_MAX + 1];
};

static void init__reply(struct init_request *r, const struct outcome *outcome)
{
    InitProducerReply reply = {.status = outcome->error,
                               .producer_id = outcome->error == OK ? outcome->producer_id : -1,
                               .producer_epoch = outcome->error == OK ? outcome->producer_epoch : -1,
                               .leader = r->partition != NULL ? partition_leader(r->partition) : 0};
    session_reply(r->session, FRAME_INIT_PRODUCER_REPLY, r->request_id, &reply, NULL, 0);
    session_release(r->session, 0);
    r->session = NULL;
    TAILQ_REMOVE(&r->broker->inits, r, link);
}

static void init__answer(struct init_request *r, const struct outcome *outcome)
{
    if (r->session != NULL) {
        init__reply(r, outcome);
    } else {
        r->broker->inits_late--;
    }
    free(r);
}

static void init__fail(struct init_request *r, enum err error)
{
    struct outcome outcome = {.error = error};
    init__answer(r, &outcome);
}

static void init__complete(struct waiter *waiter, const struct outcome *outcome)
{
    init__answer((struct init_request *)waiter, outcome);
}

/* The next one that can give out an id here, if there is one. */
static uint32_t init__any(struct broker *b, const struct topic *topic)
{
    uint32_t count = topic->row.partitions_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct partition *p = topic->partitions[b->producers_next++ % count];
        if (p != NULL && partition_status(p) == OK) {
            return p->number;
        }
    }
    return b->producers_next++ % count;
}

static void init__propose(struct init_request *r, struct topic *topic)
{
    struct broker *b = r->broker;
    size_t size = strlen(r->name);
    uint32_t count = topic->row.partitions_count;
    uint32_t number = size > 0 ? partitioner_choose(r->name, (uint32_t)size, count) : init__any(b, topic);
    struct partition *p = topic->partitions[number];
    r->partition = p;
    enum err status = p != NULL ? partition_may_propose(p) : catalog_missing(topic, number);
    if (status != OK) {
        init__fail(r, status);
        return;
    }
    r->waiter.complete = init__complete;
    partition_propose(p, ENTRY_OPS, state_encode_init(r->name), &r->waiter);
}

static void init__topic_created(void *context, enum err error, const char *message)
{
    struct init_request *r = context;
    struct broker *b = r->broker;
    struct topic *topic = catalog_find(b->catalog, PRODUCERS_TOPIC);
    if (r->session == NULL) { /* who asked was told already */
        init__fail(r, error);
    } else if (topic == NULL || topic->row.state != TOPIC_LIVE) {
        init__fail(r, error == OK || error == ERR_TOPIC_EXISTS ? ERR_NOT_READY : error);
    } else {
        init__propose(r, topic);
    }
}

static void init__create_topic(struct init_request *r)
{
    struct broker *b = r->broker;
    struct registry_topic wish = {.kind = TOPIC_STATE,
                                  .partitions_count = STATE_TOPIC_PARTITIONS,
                                  .config = {.segment_bytes = b->config->segment_bytes,
                                             .segment_ms = -1,
                                             .retention_bytes = -1,
                                             .retention_ms = -1,
                                             .max_batch_bytes = b->config->max_batch_bytes,
                                             .replicas = b->config->replicas}};
    memcpy(wish.name, PRODUCERS_TOPIC, sizeof PRODUCERS_TOPIC);
    catalog_create(b->catalog, &wish, init__topic_created, r);
}

void producers_init_request(struct session *s, const struct frame *frame)
{
    struct broker *b = s->broker;
    InitProducerRequest request;
    struct init_request *r = mem_zeroed(1, sizeof *r);
    r->broker = b;
    r->session = s;
    r->request_id = frame->request_id;
    TAILQ_INSERT_TAIL(&b->inits, r, link);
    session_hold(s, 0);
    enum err error = codec_decode(FRAME_INIT_PRODUCER, frame->proto, frame->proto_size, &request);
    if (error == OK) {
        uint32_t timeout_ms = request.timeout_ms != 0 ? request.timeout_ms : TIMEOUT_DEFAULT_MS;
        r->deadline_us = clock_now_us(b->clock) + (uint64_t)timeout_ms * 1000;
        error = b->stopping ? ERR_SHUTTING_DOWN : broker__refusal(b);
    }
    if (error == OK && (!session_may_wait(s) || b->inits_late >= INITS_LATE_MAX)) {
        error = ERR_BUSY;
    }
    if (error != OK) {
        init__fail(r, error);
        return;
    }
    memcpy(r->name, request.name, sizeof r->name);
    struct topic *topic = catalog_find(b->catalog, PRODUCERS_TOPIC);
    if (topic == NULL || (topic->row.state == TOPIC_CREATING && topic->task == NULL)) {
        init__create_topic(r);
    } else {
        init__propose(r, topic);
    }
}

void producers_sweep(struct broker *b, uint64_t now_us)
{
    static const struct outcome late = {.error = ERR_TIMEOUT};
    struct init_request *r, *next;
    TAILQ_FOREACH_SAFE(r, &b->inits, link, next)
    {
        if (now_us >= r->deadline_us) {
            b->inits_late++;
            init__reply(r, &late);
        }
    }
}
