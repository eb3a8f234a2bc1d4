/* Puts the clients together and gives the load its own faults: broken connections, producers that start a second time.
 */
#include "sim_client.h"
#include "sim_decay.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define FETCH_WAIT_US_MAX 3000000u /* no reader is more patient */

static void on_fault_tick(void *context, uint64_t argument)
{
    struct load *load = context;
    struct rng *rng = &load->world->load;
    if (!load->quiet && load->options->faults[FAULT_DISCONNECT]) {
        uint64_t skip = rng_below(rng, load->producers_count + load->options->consumers + 2);
        struct client *client;
        TAILQ_FOREACH(client, &load->clients, link)
        {
            if (skip-- == 0)
                break;
        }
        const struct client_conn *conn = client != NULL ? client_any(client) : NULL;
        if (conn != NULL) {
            sim_conn_break(conn->conn);
        }
    }
    if (!load->quiet && load->options->faults[FAULT_FENCE] && load->producers_count > 0 && rng_chance(rng, 0.5)) {
        producer_take_over(load->producers[rng_below(rng, load->producers_count)]);
    }
    uint64_t in_us = sim_log_between(rng, load->options->load_us / 200, load->options->load_us / 5);
    world_at(load->world, load->world->now_us + in_us, on_fault_tick, load, 0);
}

struct load *load_new(const struct load_parts *parts)
{
    const struct sim_options *options = parts->options;
    struct load *load = calloc(1, sizeof *load);
    ASSERT(load != NULL);
    load->world = parts->world;
    load->options = options;
    load->brokers_count = parts->brokers_count;
    load->check = parts->check;
    load->shadow = parts->shadow;
    load->room = parts->room;
    load->truth = parts->truth;
    load->controller = parts->controller;
    ASSERT(parts->brokers_count <= LOAD_BROKERS_MAX);
    for (uint32_t i = 0; i < parts->brokers_count; i++) {
        load->brokers[i] = (struct load_broker){.load = load, .id = i + 1, .net = parts->nets[i]};
    }
    load->reigns = reigns_new(load->world);
    TAILQ_INIT(&load->clients);
    ASSERT(options->producers <= sizeof load->producers / sizeof load->producers[0]);
    for (uint32_t i = 0; i < options->producers; i++) {
        load->producers[load->producers_count++] = producer_new(load, i);
    }
    for (uint32_t i = 0; i < options->consumers; i++) {
        consumer_new(load, i);
    }
    load->auditor = auditor_new(load);
    load->admin = admin_new(load);
    load->prover = prover_new(load);
    load->vandal = options->faults[FAULT_VANDAL] ? vandal_new(load) : NULL;
    load->liar = options->faults[FAULT_LIAR] ? liar_new(load) : NULL;
    load->greedy = options->faults[FAULT_CROWD] ? greedy_new(load) : NULL;
    load->crowd = options->faults[FAULT_CROWD] ? crowd_new(load) : NULL;
    world_at(load->world, load->world->now_us + options->load_us / 10, on_fault_tick, load, 0);
    return load;
}

void load_free(struct load *load)
{
    const struct client_class *producers = load->prover->class;
    while (!TAILQ_EMPTY(&load->clients)) {
        struct client *client = TAILQ_FIRST(&load->clients);
        if (client->class == producers) {
            producer_free(client);
        } else {
            reader_free(client); /* the administrator too: a client and nothing else to free */
        }
    }
    for (uint32_t i = 0; i < load->requests_count; i++) {
        free(load->requests[i]);
    }
    free(load->requests);
    for (uint32_t i = 0; i < EXHIBITS_MAX; i++) {
        free(load->exhibits[i].bytes);
    }
    crowd_free(load->crowd);
    reigns_free(load->reigns);
    free(load);
}

bool load_has_many(const struct load *load)
{
    return load->shadow == NULL;
}

void load_broker_up(struct load *load, uint64_t broker, uint64_t life)
{
    load->brokers[broker - 1].is_up = true;
    load->brokers[broker - 1].life = life;
    if (!load_has_many(load) || !auditor_is_reading(load->auditor)) {
        auditor_begin(load->auditor, false);
    }
}

void load_broker_down(struct load *load, uint64_t broker)
{
    load->brokers[broker - 1].is_up = false;
    load->audited = load->audited && load_has_many(load);
}

void load_expect(struct load *load, const struct load_wish *wish)
{
    admin_expect(load->admin, wish);
}

void *load_reply_context(struct load *load, uint64_t broker)
{
    return &load->brokers[broker - 1];
}

void load_urge(struct load *load, enum sim_fault fault)
{
    uint64_t which = rng_below(&load->world->load, load->producers_count);
    struct client *client = load->producers[which];
    struct client_conn *conn = client_any(client);
    uint32_t before = load->world->tally.faults[FAULT_FENCE];
    if (fault == FAULT_FENCE) {
        for (uint64_t i = 0; i < load->producers_count && load->world->tally.faults[FAULT_FENCE] == before; i++) {
            producer_take_over(load->producers[(which + i) % load->producers_count]);
        }
    } else if (fault == FAULT_ZOMBIE) {
        client_drop(client, true);
    } else if (conn != NULL) {
        sim_conn_break(conn->conn);
    }
}

void load_quiet(struct load *load)
{
    load->quiet = true;
    load->quiet_us = load->world->now_us;
    crowd_send_home(load->crowd);
    if (load_has_many(load)) {
        admin_go_quiet(load->admin);
        auditor_begin(load->auditor, false);
    }
}

bool load_is_quiet(const struct load *load, const char **ret_waits_for)
{
    if (!admin_is_quiet(load->admin)) {
        *ret_waits_for = "a topic is never made or deleted";
        return false;
    }
    if (!load->audited) {
        *ret_waits_for = "the log is never read to its end";
        return false;
    }
    for (uint32_t i = 0; i < load->producers_count; i++) {
        if (!producer_is_quiet(load->producers[i], ret_waits_for))
            return false;
    }
    return true;
}

void load_prove(struct load *load)
{
    load->proving = true;
    for (uint32_t t = 0; t < load->topics_count; t++) {
        for (uint32_t p = 0; p < load->topics[t].partitions; p++) {
            if (!check_group_is_deleted(load->check, load->topics[t].groups[p])) {
                producer_attach(load->prover, load->topics[t].groups[p]);
            }
        }
    }
}

bool load_is_proven(struct load *load, const char **ret_waits_for)
{
    if (!prover_is_done(load->prover, ret_waits_for))
        return false;
    load->proving = false; /* the greedy one ends too */
    return load->greedy == NULL || producer_is_quiet(load->greedy, ret_waits_for);
}

void load_write_off(struct load *load, uint64_t group)
{
    if (check_group_is_deleted(load->check, group))
        return;
    for (uint32_t t = 0; t < load->topics_count; t++) {
        for (uint32_t p = 0; load->topics[t].live && p < load->topics[t].partitions; p++) {
            if (load->topics[t].groups[p] == group) {
                check_group_deleted(load->check, group);
                producer_detach(load, group);
            }
        }
    }
}

bool load_is_corrupt_for_now(const struct load *load, uint64_t group)
{
    const struct sim_world *world = load->world;
    return world->now_us < world->corrupt_until_us ||
           (world->decay != NULL && group != 0 && decay_has_withheld(world->decay, group));
}

uint64_t load_draw_group(const struct load *load, struct rng *rng)
{
    const struct load_topic *topic = load->topics_count > 0 ? &load->topics[rng_below(rng, load->topics_count)] : NULL;
    if (topic == NULL || !topic->live || topic->deleting)
        return 0;
    uint64_t group = topic->groups[rng_below(rng, topic->partitions)];
    return check_group_is_deleted(load->check, group) ? 0 : group;
}

void load_audit(struct load *load)
{
    auditor_begin(load->auditor, true);
}

void load_rotten(struct load *load)
{
    load->rotten = true;
    if (load->shadow != NULL) {
        shadow_rotten(load->shadow, true);
    }
}

bool load_has_audited(const struct load *load)
{
    return load->audited;
}

uint32_t load_groups(const struct load *load)
{
    uint32_t count = 0;
    for (uint32_t t = 0; t < load->topics_count; t++) {
        count += load->topics[t].live ? load->topics[t].partitions : 0;
    }
    return count;
}

struct load_topic *load_find_topic(struct load *load, const char *name)
{
    for (uint32_t t = 0; t < load->topics_count; t++) {
        if (strcmp(load->topics[t].name, name) == 0)
            return &load->topics[t];
    }
    return NULL;
}

void load_exhibit_put(struct load *load, const struct exhibit *exhibit)
{
    struct exhibit *place = &load->exhibits[load->exhibits_next++ % EXHIBITS_MAX];
    if (load->liar == NULL)
        return;
    free(place->bytes);
    *place = *exhibit;
    place->bytes = malloc(exhibit->size);
    ASSERT(place->bytes != NULL);
    memcpy(place->bytes, exhibit->bytes, exhibit->size);
}

const struct exhibit *load_exhibit(struct load *load)
{
    const struct exhibit *exhibit = &load->exhibits[rng_below(&load->world->load, EXHIBITS_MAX)];
    uint64_t expiry_us = (uint64_t)load->options->producer_expiry_ms * 1000;
    bool is_old = load->world->now_us - exhibit->sent_us > expiry_us / 2;
    return exhibit->bytes == NULL || is_old ? NULL : exhibit;
}

bool load_status_is_retriable(uint32_t status)
{
    switch ((enum err)status) {
    case ERR_NOT_LEADER:
    case ERR_NOT_READY:
    case ERR_BUSY:
    case ERR_TIMEOUT:
    case ERR_UNKNOWN_OUTCOME:
    case ERR_STORAGE_FULL:
    case ERR_SHUTTING_DOWN:
        return true;
    default:
        return false;
    }
}

bool load_may_go_elsewhere(const struct load *load, uint32_t status)
{
    return load_status_is_retriable(status) ||
           (load_has_many(load) &&
            (status == ERR_CORRUPT || status == ERR_UNKNOWN_PARTITION || status == ERR_UNKNOWN_TOPIC));
}

/* S3. A deletion is neither read nor write: it makes room, but what says so takes some. */
static void judge_room(struct load *load, const struct request *request, const union codec_message *message)
{
    uint32_t status;
    if (load->room == NULL)
        return;
    enum room_use use = ROOM_READ;
    uint64_t wait_us = 0;
    if (request->type == FRAME_PRODUCE) {
        use = ROOM_WRITE;
        status = message->as_ProduceReply.status;
    } else if (request->type == FRAME_INIT_PRODUCER) {
        use = ROOM_WRITE;
        status = message->as_InitProducerReply.status;
    } else if (request->type == FRAME_CREATE_TOPIC) {
        use = ROOM_WRITE;
        status = message->as_CreateTopicReply.status;
    } else if (request->type == FRAME_FETCH) {
        status = message->as_FetchReply.status;
        wait_us = FETCH_WAIT_US_MAX;
    } else if (request->type == FRAME_LIST_OFFSETS) {
        status = message->as_ListOffsetsReply.status;
    } else if (request->type == FRAME_METADATA) {
        status = message->as_MetadataReply.status;
    } else {
        return;
    }
    room_answer(load->room, use, status == ERR_STORAGE_FULL, request->sent_us, wait_us);
}

void load_on_reply(void *context, const struct sim_conn *conn, const uint8_t *frame, size_t head_size)
{
    const struct load_broker *broker = context;
    struct load *load = broker->load;
    const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
    struct frame parsed = {0};
    uint64_t needed;
    union codec_message message;
    /* Only the head is there: the payload is on its way, which is no error for what stands before it. */
    enum err error = frame_parse(frame, head_size, &limits, &parsed, &needed);
    if (error == ERR_AGAIN) {
        parsed.type = frame[7];
        memcpy(&parsed.request_id, frame + 8, sizeof parsed.request_id);
        parsed.proto = frame + FRAME_HEADER_BYTES;
        parsed.proto_size = (uint32_t)(head_size - FRAME_HEADER_BYTES);
    } else if (error != OK) {
        world_fail(load->world, "port", "the broker sends what is no frame");
        return;
    }
    if (crowd_has(load->crowd, conn))
        return;
    if (client_owns(load->vandal, conn)) {
        if (parsed.type != FRAME_ERROR && parsed.type != FRAME_METADATA_REPLY) {
            world_fail(load->world, "port", "the broker answers noise with a frame of type %d", (int)parsed.type);
        }
        return;
    }
    if (parsed.type == FRAME_ERROR && parsed.request_id == 0) {
        return; /* not about a request: a connection that was too slow is being closed */
    }
    if (parsed.request_id == 0 || parsed.request_id > load->requests_count) {
        world_fail(load->world, "port", "the broker answers request %llu, which nobody sent (type %d)",
                   (unsigned long long)parsed.request_id, (int)parsed.type);
        return;
    }
    const struct request *request = load->requests[parsed.request_id - 1];
    if (request->broker != broker->id || request->conn_id != sim_conn_id(conn) ||
        codec_decode(parsed.type, parsed.proto, parsed.proto_size, &message) != OK) {
        world_fail(load->world, "port", "a reply on the wrong connection, or one that does not decode");
        return;
    }
    judge_room(load, request, &message);
    if (load->truth != NULL && load->truth->catch_up != NULL && request->group != 0) {
        load->truth->catch_up(load->truth->context, request->group);
    }
    if (parsed.type == FRAME_PRODUCE_REPLY) {
        producer_judge_reply(load, request, &message.as_ProduceReply);
    } else if (parsed.type == FRAME_FETCH_REPLY) {
        reader_judge_fetch(load, request, &message.as_FetchReply);
    } else if (parsed.type == FRAME_LIST_OFFSETS_REPLY) {
        reader_judge_list(load, request, &message.as_ListOffsetsReply);
    } else if (parsed.type == FRAME_INIT_PRODUCER_REPLY) {
        producer_judge_init(load, request, &message.as_InitProducerReply);
    }
}
