/* See sim_trio.h. */
#include "sim_trio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "broker/impl.h"
#include "broker/produce.h"
#include "sim_config.h"
#include "wire/builder.h"

#define STEP_US     20000u
#define START_US    30000000u
#define FIRST_GROUP 1u
#define FILE_BYTES  (8u << 20)

/* The answer to the one request under way. */
static struct {
    bool here;
    uint64_t request_id;
    enum frame_type type;
    union codec_message message;
    uint32_t payload_size;
    uint8_t payload[FILE_BYTES];
} reply;

/* --- brokers --- */

static void on_ready(void *context)
{
    ((struct trio_broker *)context)->ready = true;
}

static void on_fatal(void *context, enum broker_exit code, const char *why)
{
    fprintf(stderr, "broker %lu: %s\n", ((struct trio_broker *)context)->id, why);
    UNREACHABLE();
}

static void on_stopped(void *context)
{
    UNREACHABLE();
}

static void on_timer(void *context)
{
    struct trio_broker *b = context;
    b->missed_timer |= b->is_held;
    if (b->broker != NULL && !b->is_held) {
        broker_timer(b->broker);
    }
}

static void on_mark(void *context, unsigned which)
{
    ((struct trio *)context)->marks[which]++;
}

static void on_accept(void *context, struct link *link)
{
    broker_accept(((struct trio_broker *)context)->broker, link);
}

static void on_accept_peer(void *context, struct link *link)
{
    broker_accept_peer(((struct trio_broker *)context)->broker, link);
}

static void turn(struct trio *t)
{
    for (uint32_t id = 1; id <= t->brokers; id++) {
        if (t->broker[id].broker != NULL && !t->broker[id].is_held) {
            world_enter(&t->world);
            broker_turn(t->broker[id].broker);
            world_leave(&t->world);
            if (!t->judge_rests) {
                judge_turn(t->judge, id);
            }
        }
    }
}

static void look_at_verdict(const struct trio *t)
{
    if (t->world.failed) {
        fprintf(stderr, "seed %lu: %s: %s\n", t->seed, t->world.failed_check, t->world.failed_text);
        UNREACHABLE();
    }
}

static void step(struct trio *t)
{
    bool more = world_step(&t->world);
    ASSERT(more);
    if (t->doomed != 0) {
        uint64_t id = t->doomed;
        t->doomed = 0;
        trio_crash(t, id, t->doomed_by_power);
    }
    turn(t);
    look_at_verdict(t);
}

static void on_synced(void *context, const char *path, const uint8_t *data, uint64_t offset, uint64_t size)
{
    struct trio_broker *b = context;
    judge_synced(b->trio->judge, b->id, path, data, offset, size);
}

static void on_sent(void *context, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size)
{
    judge_frame_out(((struct trio *)context)->judge, from, to, bytes, size);
}

static void on_delivered(void *context, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size)
{
    judge_delivered(((struct trio *)context)->judge, from, to, bytes, size);
}

static void on_rest(void *context, uint64_t argument)
{
    (void)argument;
    *(bool *)context = true;
}

void trio_run(struct trio *t, uint64_t for_us)
{
    bool rested = false;
    world_at(&t->world, t->world.now_us + for_us, on_rest, &rested, 0);
    while (!rested) {
        step(t);
    }
}

void trio_start(struct trio *t, uint64_t id)
{
    static const uint8_t cluster_id[UUID_BYTES] = {1, 2, 3};
    struct trio_broker *b = &t->broker[id];
    const struct broker_options options = {.config = &b->config,
                                           .disk = sim_disk_port(b->disk),
                                           .clock = &b->clock.port,
                                           .kv = b->kv,
                                           .trace = &t->trace,
                                           .dialer = sim_cables_dialer(t->cables, id),
                                           .registry = sim_registry_port(t->registry, id),
                                           .cluster_id = cluster_id,
                                           .context = b,
                                           .on_ready = on_ready,
                                           .on_fatal = on_fatal,
                                           .on_stopped = on_stopped};
    b->ready = false;
    enum err error = broker_new(&options, &b->broker);
    ASSERT(error == OK);
    judge_started(t->judge, id, b->broker);
    sim_cables_listen(t->cables, id, on_accept_peer, b);
    for (uint64_t other = 1; other <= t->brokers; other++) {
        if (other != id) {
            error = broker_know_peer(b->broker, other, sim_cables_address(t->cables, other));
            ASSERT(error == OK);
        }
    }
    turn(t);
}

void trio_crash(struct trio *t, uint64_t id, bool power_cut)
{
    struct trio_broker *b = &t->broker[id];
    judge_dies(t->judge, id);
    t->world.crashed = true; /* the dead do no I/O */
    sim_clock_disarm(&b->clock);
    sim_net_kill(b->net);
    sim_cables_kill(t->cables, id);
    sim_registry_kill(t->registry, id);
    broker_free(b->broker);
    b->broker = NULL;
    b->conn = NULL;
    sim_net_forget(b->net);
    if (power_cut) {
        sim_disk_power_cut(b->disk);
        sim_clock_reboot(&b->clock);
    } else {
        sim_disk_process_death(b->disk);
    }
    sim_kv_crash(b->kv, !power_cut);
    sim_kv_restart(b->kv);
    t->world.crashed = false;
    judge_crashed(t->judge, id);
}

static void hold_what_comes(struct trio *t, uint64_t id, bool held)
{
    for (uint64_t other = 1; other <= t->brokers; other++) {
        if (other != id) {
            sim_cables_cut(t->cables, other, id, held);
        }
    }
}

void trio_hold(struct trio *t, uint64_t id)
{
    t->broker[id].is_held = true;
    t->broker[id].missed_timer = false;
    hold_what_comes(t, id, true);
}

void trio_release(struct trio *t, uint64_t id)
{
    struct trio_broker *b = &t->broker[id];
    b->is_held = false;
    hold_what_comes(t, id, false);
    if (b->missed_timer) {
        on_timer(b);
        turn(t);
    }
}

uint64_t trio_group(uint32_t partition)
{
    return FIRST_GROUP + partition;
}

static struct sim_disk *new_disk(struct trio_broker *b)
{
    const struct sim_disk_options options = {
        .job_us_max = 200, .stall_us_max = 400000000, .cut = {.keep = 0.5}, .on_synced = on_synced, .context = b};
    return sim_disk_new(&b->trio->world, &options);
}

void trio_wipe(struct trio *t, uint64_t id, bool keep_identity)
{
    struct trio_broker *b = &t->broker[id];
    struct meta_identity identity;
    ASSERT(b->broker == NULL && t->worn < TRIO_WIPES_MAX);
    t->worn_disks[t->worn] = b->disk;
    t->worn_kvs[t->worn++] = b->kv;
    enum err error = meta_load_identity(b->kv, &identity); /* none: it did not start since the last time */
    b->disk = new_disk(b);
    b->kv = sim_kv_new(&(struct sim_kv_options){0});
    if (keep_identity && error == OK) {
        error = meta_save_identity(b->kv, &identity);
        ASSERT(error == OK);
    }
    judge_wiped(t->judge, id, b->disk, b->kv);
}

static void wait_until_ready(struct trio *t)
{
    for (uint64_t end_us = t->world.now_us + START_US;;) {
        uint32_t ready = 0;
        for (uint32_t id = 1; id <= t->brokers; id++) {
            ready += t->broker[id].ready;
        }
        if (ready == t->brokers && trio_leader(t, FIRST_GROUP, 0) != 0) {
            return;
        }
        ASSERT(t->world.now_us < end_us);
        step(t);
    }
}

void trio_open(struct trio *t, uint64_t seed, uint32_t brokers, uint32_t partitions)
{
    trio_open_with(t, seed, brokers, partitions, NULL);
}

void trio_open_with(struct trio *t, uint64_t seed, uint32_t brokers, uint32_t partitions,
                    void (*configure)(struct config *config))
{
    memset(t, 0, sizeof *t);
    world_init(&t->world, seed);
    t->seed = seed;
    t->judge = judge_new(&t->world);
    t->brokers = brokers;
    t->trace = (struct trace){.level = TRACE_ERROR};
    if (getenv("TRIO_TRACE") != NULL) { /* for people who look at one test */
        t->trace = (struct trace){.level = TRACE_DEBUG, .sink = trace_to_stderr};
    }
    t->trace.context = t;
    t->trace.mark = on_mark;
    t->cables = sim_cables_new(&t->world, 300);
    const struct sim_cable_watcher watcher = {t, on_sent, on_delivered};
    sim_cables_watch(t->cables, &watcher);
    t->registry = sim_registry_new(&t->world);
    uint64_t first = sim_registry_add_topic(t->registry, "t", partitions, brokers, brokers);
    ASSERT(first == FIRST_GROUP);
    for (uint32_t id = 1; id <= brokers; id++) {
        struct trio_broker *b = &t->broker[id];
        const struct sim_net_options net = {.delay_us_max = 100, .context = b, .accept = on_accept};
        b->trio = t;
        b->id = id;
        b->kv = sim_kv_new(&(struct sim_kv_options){0});
        b->disk = new_disk(b);
        judge_machine(t->judge, id, b->disk, b->kv);
        sim_clock_init(&b->clock, &t->world, on_timer, b);
        b->net = sim_net_new(&t->world, &net);
        sim_config_small(&b->config, id);
        if (configure != NULL) {
            configure(&b->config);
        }
        trio_start(t, id);
    }
    wait_until_ready(t);
}

void trio_close(struct trio *t)
{
    judge_final(t->judge);
    look_at_verdict(t);
    for (uint32_t id = 1; id <= t->brokers; id++) {
        struct trio_broker *b = &t->broker[id];
        if (b->broker != NULL) {
            trio_crash(t, id, false);
        }
        sim_net_free(b->net);
        sim_disk_free(b->disk);
        sim_kv_free(b->kv);
    }
    while (t->worn > 0) {
        sim_disk_free(t->worn_disks[--t->worn]);
        sim_kv_free(t->worn_kvs[t->worn]);
    }
    judge_free(t->judge);
    world_done(&t->world);
    sim_cables_free(t->cables);
    sim_registry_free(t->registry);
}

static struct partition *partition_at(struct trio *t, uint64_t id, uint64_t group)
{
    return t->broker[id].broker != NULL ? groups_find(t->broker[id].broker, group) : NULL;
}

uint64_t trio_leader(struct trio *t, uint64_t group, uint64_t limit_us)
{
    for (uint64_t end_us = t->world.now_us + limit_us;; trio_run(t, STEP_US)) {
        for (uint32_t id = 1; id <= t->brokers; id++) {
            struct partition *p = partition_at(t, id, group);
            if (p != NULL && partition_leads(p)) {
                return id;
            }
        }
        if (t->world.now_us >= end_us) {
            return 0;
        }
    }
}

/* --- the client --- */

static size_t on_bytes(void *owner, const uint8_t *data, size_t size)
{
    static const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FILE_BYTES};
    struct frame frame;
    uint64_t needed;
    (void)owner;
    if (frame_parse(data, size, &limits, &frame, &needed) != OK) {
        return 0;
    }
    reply.here = true;
    reply.type = frame.type;
    reply.request_id = frame.request_id;
    enum err error = codec_decode(frame.type, frame.proto, frame.proto_size, &reply.message);
    ASSERT(error == OK && frame.payload_size <= sizeof reply.payload);
    reply.payload_size = frame.payload_size;
    memcpy(reply.payload, frame.payload, frame.payload_size);
    return frame.size_bytes;
}

static void on_closed(void *owner)
{
    ((struct trio_broker *)owner)->conn = NULL;
}

static const struct sim_conn_handler conn_handler = {on_bytes, on_closed};

/* Asks broker `id`; false: no answer in time. */
static bool ask(struct trio *t, uint64_t id, enum frame_type type, const void *message, const void *payload,
                uint32_t payload_size, uint64_t limit_us)
{
    static uint64_t request_id;
    struct trio_broker *b = &t->broker[id];
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    uint32_t head_size;
    if (b->conn == NULL) {
        b->conn = sim_conn_open(b->net, &conn_handler, b);
    }
    enum err error = codec_encode_frame(head, sizeof head, type, ++request_id, message, payload_size, &head_size);
    ASSERT(error == OK);
    reply.here = false;
    sim_conn_send(b->conn, head, head_size);
    if (payload_size > 0) {
        sim_conn_send(b->conn, payload, payload_size);
    }
    for (uint64_t end_us = t->world.now_us + limit_us; t->world.now_us < end_us && b->broker != NULL;) {
        if (reply.here && reply.request_id == request_id) {
            return true;
        }
        step(t);
    }
    return false;
}

const union codec_message *trio_ask(struct trio *t, uint64_t id, enum frame_type type, const void *message,
                                    const void *payload, uint32_t payload_size, uint64_t limit_us)
{
    return ask(t, id, type, message, payload, payload_size, limit_us) ? &reply.message : NULL;
}

const uint8_t *trio_payload(uint32_t *ret_size)
{
    *ret_size = reply.payload_size;
    return reply.payload;
}

uint32_t trio_batch(uint8_t *memory, uint32_t capacity, uint32_t number)
{
    struct batch_builder builder;
    char value[32];
    int size = snprintf(value, sizeof value, "%u", number);
    batch_builder_begin(&builder, memory, capacity);
    const struct record record = {.value = {.data = (const uint8_t *)value, .size = size}, .timestamp = 1};
    enum err error = batch_builder_append(&builder, &record);
    ASSERT(error == OK);
    uint32_t bytes = batch_builder_finish(&builder);
    batch_seal(memory, bytes);
    return bytes;
}

int64_t trio_produce(struct trio *t, uint64_t group, uint64_t limit_us)
{
    uint8_t batch[512];
    uint32_t number = t->sent++;
    ASSERT(number < TRIO_VALUES_MAX);
    uint32_t size = trio_batch(batch, sizeof batch, number);
    t->offsets[number] = -1;
    for (uint64_t end_us = t->world.now_us + limit_us; t->world.now_us < end_us;) {
        const ProduceRequest request = {.group = group, .acks = ACKS_ALL, .timeout_ms = 1000};
        uint64_t id = trio_leader(t, group, end_us - t->world.now_us);
        if (id == 0) {
            return -1;
        }
        if (ask(t, id, FRAME_PRODUCE, &request, batch, size, 2000000) && reply.message.as_ProduceReply.status == OK) {
            t->offsets[number] = reply.message.as_ProduceReply.base_offset;
            t->acknowledged++;
            judge_acked(t->judge, group, batch, size);
            return number;
        }
    }
    return -1;
}

enum err trio_ask_to_produce(struct trio *t, uint64_t id, uint64_t group, uint64_t limit_us, uint64_t *ret_leader)
{
    uint8_t batch[512];
    const ProduceRequest request = {.group = group, .acks = ACKS_ALL, .timeout_ms = 1000};
    uint32_t size = trio_batch(batch, sizeof batch, TRIO_VALUES_MAX);
    if (!ask(t, id, FRAME_PRODUCE, &request, batch, size, limit_us)) {
        return ERR_TIMEOUT;
    }
    *ret_leader = reply.message.as_ProduceReply.leader;
    return (enum err)reply.message.as_ProduceReply.status;
}

enum err trio_latest(struct trio *t, uint64_t id, uint64_t group, uint64_t limit_us, int64_t *ret_offset)
{
    const ListOffsetsRequest request = {.group = group, .timestamp = -1};
    if (!ask(t, id, FRAME_LIST_OFFSETS, &request, NULL, 0, limit_us)) {
        return ERR_TIMEOUT;
    }
    *ret_offset = reply.message.as_ListOffsetsReply.offset;
    return (enum err)reply.message.as_ListOffsetsReply.status;
}

enum err trio_init_producer(struct trio *t, uint64_t id, uint32_t timeout_ms, uint64_t limit_us)
{
    const InitProducerRequest request = {.name = "p", .timeout_ms = timeout_ms};
    bool answered = ask(t, id, FRAME_INIT_PRODUCER, &request, NULL, 0, limit_us);
    return answered ? (enum err)reply.message.as_InitProducerReply.status : ERR_UNKNOWN_OUTCOME;
}

/* --- the checks --- */

static void check_offsets(struct trio *t, uint64_t group, uint64_t leader)
{
    int64_t next = 0;
    uint32_t found = 0;
    for (;;) {
        const FetchRequest request = {.group = group, .offset = next, .bytes_max = 1u << 20};
        bool answered = ask(t, leader, FRAME_FETCH, &request, NULL, 0, 5000000);
        ASSERT(answered && reply.message.as_FetchReply.status == OK);
        if (reply.payload_size == 0) {
            break;
        }
        for (uint32_t at = 0; at < reply.payload_size;) {
            struct batch_header header;
            enum err error = batch_parse(reply.payload + at, reply.payload_size - at, &header);
            if (error != OK) {
                break; /* cut off by max_bytes: it comes whole the next time */
            }
            ASSERT(header.base_offset == next && batch_crc_ok(reply.payload + at, header.size_bytes));
            for (uint32_t n = 0; n < t->sent; n++) {
                uint8_t batch[512];
                if (t->offsets[n] == next) {
                    uint32_t size = trio_batch(batch, sizeof batch, n);
                    ASSERT(size == header.size_bytes);
                    ASSERT(memcmp(reply.payload + at + 16, batch + 16, size - 16) == 0);
                    found++;
                }
            }
            next += header.records_count;
            at += header.size_bytes;
        }
    }
    ASSERT(found == t->acknowledged);
}

/* The bytes of all log files of a group as one broker has them. */
static uint64_t log_bytes(struct trio *t, uint64_t id, uint64_t group, uint8_t *out)
{
    struct disk *disk = sim_disk_port(t->broker[id].disk);
    uint64_t size = 0;
    for (uint64_t base = 0;;) {
        char path[64];
        struct disk_file *file;
        size_t got = 0;
        snprintf(path, sizeof path, "parts/%lu/%020lu.log", group, base);
        if (disk->ops->open(disk, path, DISK_READ, &file) != OK) {
            return size;
        }
        enum err error = disk->ops->read(disk, file, out + size, FILE_BYTES - size, 0, &got);
        ASSERT(error == OK);
        disk->ops->close(disk, file);
        for (size_t at = 0; at < got;) { /* what lies behind the end is nobody's */
            struct batch_header header;
            if (batch_parse(out + size + at, got - at, &header) != OK || (uint64_t)header.base_offset != base) {
                got = at;
                break;
            }
            at += header.size_bytes;
            base += (uint64_t)header.records_count;
        }
        size += got;
        if (got == 0) {
            return size;
        }
    }
}

void trio_check(struct trio *t, uint64_t group)
{
    static uint8_t first[FILE_BYTES], other[FILE_BYTES];
    uint64_t leader = trio_leader(t, group, START_US);
    ASSERT(leader != 0);
    check_offsets(t, group, leader);
    trio_run(t, 3000000); /* followers learn of the last commit, segments are written */
    uint64_t size = log_bytes(t, leader, group, first);
    const struct roster *roster = &partition_at(t, leader, group)->roster;
    struct roster_other member;
    for (uint32_t place = 0; roster_each(roster, &place, &member);) {
        const struct partition *p = partition_at(t, member.broker, group);
        if (p != NULL && p->replica == member.replica && roster_is_in_force(roster, member.replica)) {
            ASSERT(log_bytes(t, member.broker, group, other) == size);
            ASSERT(memcmp(first, other, size) == 0);
        }
    }
    judge_final(t->judge);
    look_at_verdict(t);
}
