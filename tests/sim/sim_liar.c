/* The liar: whole frames with contents that no honest client sends. It repeats what honest producers sent, over
 * connections of its own and much later; it claims sequences that leave gaps, overlap, repeat with other bytes or stand
 * at the end of the circle, epochs that are over or never were; batches that are empty, damaged, too large or of no
 * known codec; fetches at absurd offsets; requests to groups that are gone or never were. What it says of itself may be
 * stored or refused; what honest clients were promised holds meanwhile, and a refusal is final for it too. */
#include "sim_client.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "wire/builder.h"

#define STORM_MAX       16u
#define LIE_BYTES_MAX   4096u
#define VALUE_BYTES_LIE 40u
#define NOBODYS_ID      ((int64_t)1 << 62) /* the broker gives out no such producer id */

struct liar {
    struct client client; /* first */
    int64_t id;           /* producer id of its own, -1: none yet */
    int16_t epoch;
    int32_t next_sequence; /* if all it said was believed */
    uint64_t group;        /* 0: none chosen */
};

static struct liar *liar_of(struct client *client)
{
    return (struct liar *)client;
}

static uint64_t any_group(struct load *load)
{
    struct rng *rng = &load->world->load;
    const struct load_topic *topic = load->topics_count > 0 ? &load->topics[rng_below(rng, load->topics_count)] : NULL;
    if (topic == NULL || !topic->live || topic->deleting)
        return 0;
    return topic->groups[rng_below(rng, topic->partitions)];
}

static struct request *produce_request(struct liar *liar, uint64_t group, uint32_t first, uint32_t count)
{
    struct request *request = client_request(client_any(&liar->client), FRAME_PRODUCE);
    request->group = group;
    request->first = first;
    request->count = count;
    request->acks = CHECK_ACKS_ALL;
    return request;
}

/* --- what others said --- */

static void storm(struct liar *liar)
{
    struct load *load = liar->client.load;
    struct rng *rng = &load->world->load;
    const struct exhibit *exhibit = load_exhibit(load);
    if (exhibit == NULL || check_group_is_deleted(load->check, exhibit->group))
        return;
    uint64_t copies = sim_log_between(rng, 1, STORM_MAX);
    for (uint64_t i = 0; i < copies; i++) {
        struct request *request = produce_request(liar, exhibit->group, exhibit->first, exhibit->count);
        const ProduceRequest message = {.group = exhibit->group, .acks = -1, .timeout_ms = 5000};
        check_resent(load->check, exhibit->first, exhibit->count);
        client_send(&liar->client, request, &message, exhibit->bytes, exhibit->size);
    }
}

/* --- what it says itself --- */

struct lie {
    int64_t producer_id;
    int16_t epoch;
    int32_t sequence;
    int32_t count;
};

static uint32_t lie_build(struct load *load, uint64_t group, const struct lie *lie, uint8_t *bytes, uint32_t *ret_first)
{
    struct batch_builder builder;
    batch_builder_begin(&builder, bytes, LIE_BYTES_MAX);
    for (int32_t i = 0; i < lie->count; i++) {
        uint8_t value[VALUE_BYTES_LIE];
        const struct check_record sent = {.group = group,
                                          .producer_id = lie->producer_id,
                                          .epoch = lie->epoch,
                                          .sequence = lie->sequence < 0 ? -1 : sequence_add(lie->sequence, i),
                                          .acks = CHECK_ACKS_ALL};
        uint32_t id = check_sent(load->check, &sent);
        shadow_value_write(value, sizeof value, id, load->options->seed);
        check_set_crc(load->check, id, crc32c(0, value, sizeof value));
        enum err error = batch_builder_append(&builder, &(struct record){.value = {value, sizeof value}});
        ASSERT(error == OK);
        *ret_first = i == 0 ? id : *ret_first;
    }
    uint32_t size = batch_builder_finish(&builder);
    batch_set_producer(bytes, lie->producer_id, lie->epoch, lie->sequence);
    batch_seal(bytes, size);
    return size;
}

static void lie_send(struct liar *liar, const struct lie *lie, bool is_next)
{
    uint8_t bytes[LIE_BYTES_MAX];
    uint32_t first = 0;
    uint32_t size = lie_build(liar->client.load, liar->group, lie, bytes, &first);
    struct request *request = produce_request(liar, liar->group, first, (uint32_t)lie->count);
    request->is_lie = true;
    request->is_next = is_next;
    const ProduceRequest message = {.group = liar->group, .acks = -1, .timeout_ms = 5000};
    client_send(&liar->client, request, &message, bytes, size);
}

static void tell_lie(struct liar *liar)
{
    struct rng *rng = &liar->client.load->world->load;
    int32_t count = (int32_t)rng_between(rng, 1, 4);
    struct lie lie = {liar->id, liar->epoch, liar->next_sequence, count};
    switch (rng_below(rng, 9)) {
    case 0: /* the truth: lies need something to contradict */
    case 1:
    case 2:
        lie_send(liar, &lie, true);
        return;
    case 3: /* a gap */
        lie.sequence = sequence_add(lie.sequence, (int32_t)sim_log_between(rng, 1, 1 << 20));
        break;
    case 4: /* other bytes for what was said, or an overlap with it */
        lie.sequence = lie.sequence > count ? lie.sequence - (int32_t)rng_between(rng, 1, (uint64_t)count) : 0;
        break;
    case 5: /* over the end of the circle */
        lie.sequence = INT32_MAX - (int32_t)rng_below(rng, 3);
        break;
    case 6: /* an epoch that is over */
        lie.epoch = (int16_t)(lie.epoch > 0 ? lie.epoch - 1 : 0);
        lie.sequence = rng_chance(rng, 0.5) ? 0 : lie.sequence;
        break;
    case 7: /* an epoch that nobody gave out */
        lie.epoch = (int16_t)(lie.epoch < INT16_MAX ? lie.epoch + 1 : lie.epoch);
        lie.sequence = (int32_t)rng_below(rng, 2);
        if (lie.sequence == 0) { /* believed: it goes on with it */
            liar->epoch = lie.epoch;
            liar->next_sequence = 0;
            lie_send(liar, &lie, true);
            return;
        }
        break;
    default: /* a producer that nobody is */
        lie.producer_id = NOBODYS_ID + (int64_t)rng_below(rng, 1000);
        lie.sequence = (int32_t)rng_between(rng, 1, 100);
        break;
    }
    lie_send(liar, &lie, false);
}

/* --- batches that are none --- */

static void spoil(struct rng *rng, uint8_t *bytes, uint32_t *io_size)
{
    bool seal = true;
    switch (rng_below(rng, 6)) {
    case 0: /* no records, as many as claimed, or too many */
        store_be32(bytes + 57, rng_chance(rng, 0.5) ? 0 : (uint32_t)rng_next(rng));
        break;
    case 1: /* codecs 5 to 7, or an attribute that brokers write */
        bytes[22] = (uint8_t)(rng_chance(rng, 0.5) ? 5 + rng_below(rng, 3) : 8u << rng_below(rng, 4));
        break;
    case 2: /* a bit, not sealed */
        bytes[rng_between(rng, 16, *io_size - 1)] ^= (uint8_t)(1u << rng_below(rng, 8));
        seal = false;
        break;
    case 3: /* a length that is not */
        store_be32(bytes + 8, (uint32_t)rng_next(rng));
        seal = false;
        break;
    case 4: /* cut short */
        *io_size = (uint32_t)rng_below(rng, *io_size);
        seal = false;
        break;
    default: /* a producer id without epoch and sequence */
        batch_set_producer(bytes, 5, -1, -1);
        break;
    }
    if (seal) {
        batch_seal(bytes, *io_size);
    }
}

static void send_spoilt(struct liar *liar)
{
    struct load *load = liar->client.load;
    struct rng *rng = &load->world->load;
    uint8_t bytes[LIE_BYTES_MAX];
    uint32_t first;
    const struct lie lie = {-1, -1, -1, 2};
    uint32_t size = lie_build(load, liar->group, &lie, bytes, &first);
    ProduceRequest message = {.group = liar->group, .acks = 1, .timeout_ms = 5000};
    if (rng_chance(rng, 0.2)) {
        message.acks = 7;
    } else if (liar->id >= 0 && rng_chance(rng, 0.2)) { /* what has sequences is for acks=all */
        batch_set_producer(bytes, liar->id, liar->epoch, liar->next_sequence);
        batch_seal(bytes, size);
    } else {
        spoil(rng, bytes, &size);
    }
    struct request *request = produce_request(liar, liar->group, first, 2);
    request->is_lie = true;
    request->is_bad = true;
    client_send(&liar->client, request, &message, bytes, size);
}

static void send_huge(struct liar *liar)
{
    uint32_t size = BATCH_BYTES_DEFAULT + 1; /* of no topic here: none allows more than the default */
    uint8_t *bytes = calloc(1, size);
    ASSERT(bytes != NULL);
    struct request *request = produce_request(liar, liar->group, 0, 0);
    request->is_lie = request->is_bad = true;
    const ProduceRequest message = {.group = liar->group, .acks = -1};
    client_send(&liar->client, request, &message, bytes, size);
    free(bytes);
}

/* --- requests that make no sense --- */

static uint64_t odd_group(struct liar *liar)
{
    struct rng *rng = &liar->client.load->world->load;
    uint64_t draw = rng_below(rng, 4);
    return draw == 0   ? rng_below(rng, 20) /* the broker's own among them */
           : draw == 1 ? rng_next(rng)
           : draw == 2 ? 20 + rng_below(rng, 60)
                       : liar->group;
}

static void fetch_oddly(struct liar *liar)
{
    struct load *load = liar->client.load;
    struct rng *rng = &load->world->load;
    static const int64_t offsets[] = {-1, INT64_MIN, INT64_MAX, (int64_t)1 << 40, 0, 3};
    struct request *request = client_request(client_any(&liar->client), FRAME_FETCH);
    request->group = odd_group(liar);
    request->offset = offsets[rng_below(rng, sizeof offsets / sizeof offsets[0])];
    const FetchRequest message = {.group = request->group,
                                  .offset = request->offset,
                                  .bytes_max = rng_chance(rng, 0.5) ? 0 : UINT32_MAX,
                                  .bytes_min = rng_chance(rng, 0.5) ? 0 : UINT32_MAX,
                                  .wait_ms = (uint32_t)(rng_chance(rng, 0.7) ? rng_below(rng, 1000) : 3000)};
    client_send(&liar->client, request, &message, NULL, 0);
}

static void list_oddly(struct liar *liar)
{
    struct rng *rng = &liar->client.load->world->load;
    struct request *request = client_request(client_any(&liar->client), FRAME_LIST_OFFSETS);
    request->group = odd_group(liar);
    const ListOffsetsRequest message = {.group = request->group, .timestamp = (int64_t)rng_next(rng)};
    client_send(&liar->client, request, &message, NULL, 0);
}

/* --- life --- */

static void send_init(struct liar *liar)
{
    struct request *request = client_request(client_any(&liar->client), FRAME_INIT_PRODUCER);
    InitProducerRequest message = {.timeout_ms = 10000};
    strcpy(message.name, "liar");
    strcpy(request->name, "liar");
    request->floor = check_epoch(liar->client.load->check, "liar");
    client_send(&liar->client, request, &message, NULL, 0);
}

static void act(struct liar *liar)
{
    struct rng *rng = &liar->client.load->world->load;
    uint64_t draw = rng_below(rng, 10);
    if (liar->group == 0 || check_group_is_deleted(liar->client.load->check, liar->group)) {
        liar->group = any_group(liar->client.load);
        liar->next_sequence = 0;
        liar->id = -1; /* what it has said elsewhere is not its past here */
    }
    if (draw < 4) {
        storm(liar);
    } else if (draw == 4) {
        fetch_oddly(liar);
    } else if (draw == 5) {
        list_oddly(liar);
    } else if (liar->group == 0) {
        return;
    } else if (draw == 6) {
        send_spoilt(liar);
    } else if (draw == 7 && rng_chance(rng, 0.1)) {
        send_huge(liar);
    } else if (liar->id < 0) {
        send_init(liar);
    } else {
        tell_lie(liar);
    }
}

static void on_wake(struct client *client)
{
    struct load *load = client->load;
    struct rng *rng = &load->world->load;
    if (client_goes_home(client))
        return;
    if (!client_is_connected(client)) {
        client_connect(client);
    } else if (rng_chance(rng, 0.05)) {
        client_drop(client, load->options->faults[FAULT_ZOMBIE]);
    } else {
        act(liar_of(client));
        world_fault(load->world, FAULT_LIAR);
    }
    client_wake(client, sim_log_between(rng, 1000, load->options->load_us / 20));
}

static void on_reply(struct client *client, struct request *request, const union codec_message *message,
                     const uint8_t *payload, uint32_t payload_size)
{
    struct liar *liar = liar_of(client);
    if (request->type == FRAME_INIT_PRODUCER && message->as_InitProducerReply.status == OK) {
        liar->id = message->as_InitProducerReply.producer_id;
        liar->epoch = (int16_t)message->as_InitProducerReply.producer_epoch;
        liar->next_sequence = 0;
    } else if (request->type == FRAME_PRODUCE && request->is_lie && request->is_next && request->group == liar->group) {
        uint32_t status = message->as_ProduceReply.status;
        if (status == OK) {
            liar->next_sequence = sequence_add(liar->next_sequence, (int32_t)request->count);
        } else if (!load_status_is_retriable(status)) {
            liar->id = -1; /* it lost its own thread */
        }
    }
}

static const struct client_class liar_class = {.name = "liar", .reply = on_reply, .wake = on_wake};

struct client *liar_new(struct load *load)
{
    struct liar *liar = calloc(1, sizeof *liar);
    ASSERT(liar != NULL);
    client_init(&liar->client, load, &liar_class);
    liar->id = -1;
    client_wake(&liar->client, 1);
    return &liar->client;
}
