/* Calls: small requests that any broker answers. One request at a time is under way for each; where it goes is decided
 * anew at every try. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "client/client.h"

static void call__try(struct call *call);

static struct call *call_of_request(struct request *request)
{
    return (struct call *)((char *)request - offsetof(struct call, request));
}

static struct call *call_of_alarm(struct alarm *alarm)
{
    return (struct call *)((char *)alarm - offsetof(struct call, retry));
}

static void call__end(struct call *call, enum err error, const union codec_message *reply, const struct frame *frame)
{
    call_cancel(call);
    call->on_done(call, error, reply, frame);
}

static void call__retry(struct call *call, enum err error, uint32_t delay_ms)
{
    struct flo_client *client = call->client;
    uint64_t now_ms = client__now_ms(client);
    call->last_error = error;
    bool nobody_there = !client->contacted && now_ms >= client->first_try_ms + client->connect_timeout_ms;
    if (error == ERR_REFUSED && nobody_there) {
        call__end(call, ERR_REFUSED, NULL, NULL);
        return;
    }
    if (now_ms + delay_ms >= call->deadline_ms) {
        call__end(call, error, NULL, NULL);
        return;
    }
    client__set_alarm(client, &call->retry, now_ms + delay_ms);
}

/* Status and leader hint of any reply that a call can get. */
static enum err call__status(enum frame_type type, const union codec_message *reply, uint64_t *ret_leader)
{
    *ret_leader = 0;
    switch (type) {
    case FRAME_METADATA_REPLY:
        return (enum err)reply->as_MetadataReply.status;
    case FRAME_CREATE_TOPIC_REPLY:
        return (enum err)reply->as_CreateTopicReply.status;
    case FRAME_DELETE_TOPIC_REPLY:
        return (enum err)reply->as_DeleteTopicReply.status;
    case FRAME_INIT_PRODUCER_REPLY:
        *ret_leader = reply->as_InitProducerReply.leader;
        return (enum err)reply->as_InitProducerReply.status;
    default:
        return ERR_BAD_FRAME;
    }
}

static bool call__may_repeat(const struct call *call, enum err status)
{
    /* These say that nothing was done; after the others something may have been. */
    bool refused =
        status == ERR_NOT_READY || status == ERR_BUSY || status == ERR_NOT_LEADER || status == ERR_SHUTTING_DOWN;
    return refused || (call->repeatable && status != ERR_UNKNOWN_PARTITION && client__is_retriable(status));
}

static void on_call_done(struct request *request, enum err error, const struct frame *frame, struct buf *bytes)
{
    struct call *call = call_of_request(request);
    union codec_message reply;
    uint64_t leader = 0;
    if (error == ERR_CLOSED && !call->repeatable) {
        call__end(call, ERR_UNKNOWN_OUTCOME, NULL, NULL);
        return;
    }
    if (error == ERR_REFUSED || error == ERR_CLOSED) {
        /* The connection's own backoff spaces the tries; the first retry on another broker is at once. */
        call->broker = 0;
        call->client->favourite = NULL;
        call__retry(call, error, 1);
        return;
    }
    if (error != OK) {
        call__end(call, error, NULL, NULL);
        return;
    }
    error = codec_decode(frame->type, frame->proto, frame->proto_size, &reply);
    if (error == OK && frame->type != call->type + 1)
        error = ERR_BAD_FRAME;
    if (error != OK) {
        call__end(call, error, NULL, NULL);
        return;
    }
    error = call__status(frame->type, &reply, &leader);
    if (error != OK && call__may_repeat(call, error)) {
        call->broker = error == ERR_NOT_LEADER ? leader : 0;
        call__retry(call, error, client__backoff(&call->backoff_ms));
        return;
    }
    call__end(call, error, &reply, frame);
}

/* The broker hinted at; else one whose connection stands; else the next of the addresses given. */
static struct connection *call__choose(struct call *call)
{
    struct flo_client *client = call->client;
    struct connection *connection = NULL;
    if (call->broker != 0)
        connection = client__connection_to_broker(client, call->broker);
    if (connection == NULL && client->favourite != NULL && connection_state(client->favourite) == CONNECTION_OPEN)
        connection = client->favourite;
    struct dialled *dialled, *next;
    HASH_ITER(hh, client->dialled, dialled, next)
    {
        if (connection == NULL && connection_state(dialled->connection) == CONNECTION_OPEN)
            connection = dialled->connection;
    }
    /* Brokers of the metadata take their turns behind the bootstrap list: it may be all gone by now. */
    uint32_t choices = client->bootstrap_count + HASH_COUNT(client->metadata.brokers);
    uint32_t choice = client->bootstrap_next++ % choices;
    struct metadata_broker *broker = client->metadata.brokers;
    for (uint32_t i = client->bootstrap_count; i < choice; i++)
        broker = broker->hh.next;
    if (connection == NULL)
        connection = client__connection_to(client, choice < client->bootstrap_count ? client->bootstrap[choice]
                                                                                    : broker->address);
    return connection;
}

static void call__try(struct call *call)
{
    struct flo_client *client = call->client;
    struct connection *connection = call__choose(call);
    if (connection == NULL) {
        client__set_alarm(client, &call->retry, client__now_ms(client) + client__backoff(&call->backoff_ms));
        return;
    }
    call->request.deadline_ms = call->deadline_ms;
    if (client->first_try_ms == 0)
        client->first_try_ms = client__now_ms(client);
    connection_send(connection, &call->request, call->type, &call->message, (struct slice){0}, true);
}

static void on_retry(struct alarm *alarm)
{
    call__try(call_of_alarm(alarm));
}

void call_start(struct flo_client *client, struct call *call)
{
    ASSERT(!client->closing && call->client == NULL);
    call->client = client;
    call->request.on_done = on_call_done;
    call->retry.on_alarm = on_retry;
    if (call->deadline_ms == 0)
        call->deadline_ms = client__now_ms(client) + client->timeout_ms;
    TAILQ_INSERT_TAIL(&client->calls, call, link);
    call__try(call);
}

void call_cancel(struct call *call)
{
    if (call->client == NULL)
        return;
    request_cancel(&call->request);
    client__set_alarm(call->client, &call->retry, 0);
    TAILQ_REMOVE(&call->client->calls, call, link);
    call->client = NULL;
}
