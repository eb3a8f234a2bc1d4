/* The fleet's built-in clients: each has one request under way, follows hints, tries elsewhere after any doubt, and
 * knows nothing of producers and sequences. What it was told is held against what is read at the end (B1, B7). */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "fleet.h"
#include "judge.h"
#include "wire/builder.h"
#include "wire/codec.h"

#define CLIENTS_MAX     16u
#define TIMEOUT_US      2000000u
#define AGAIN_US_MAX    150000u
#define READ_CHANCE     0.1
#define BREAK_CHANCE    0.02
#define BATCH_ROOM      (64u << 10)
#define READ_BYTES      (256u << 10)
#define REPLY_BYTES_MAX (1u << 20)

enum job { JOB_NONE, JOB_PRODUCE, JOB_READ, JOB_AUDIT };

/* A batch that was acknowledged. */
struct promise {
    int64_t offset;
    uint32_t size, crc;
};

struct book {
    struct promise *promises; /* owned; sorted by the audit */
    uint64_t count, capacity;
    uint64_t next; /* the first one that the audit has not come by */
    int64_t end;   /* behind the last offset that is known */
    uint64_t hint; /* the broker that leads it, perhaps; 0: nobody knows */
    bool is_proven, is_audited, is_taken;
};

struct client {
    struct fleet_load *load;
    uint64_t number;
    enum job job;
    uint32_t group; /* its number */
    uint64_t to;    /* the broker of conn */
    struct sim_conn *conn;
    uint64_t request_id;     /* 0: none under way */
    struct sim_event *timer; /* the next try, or the end of patience */
    bool is_patient;         /* the timer is the latter */
    int64_t offset;
    uint8_t batch[BATCH_ROOM];
    uint32_t batch_size, batch_records;
};

struct fleet_load {
    struct fleet *fleet;
    uint32_t clients_count;
    struct client *clients[CLIENTS_MAX];
    struct book books[FLEET_GROUPS_MAX];
    uint64_t acked, sent, requests;
    bool is_working, is_proving, is_auditing;
};

static void act(void *context, uint64_t argument);
static void next_job(struct client *c);

static struct sim_world *world_of(const struct client *c)
{
    return &c->load->fleet->world;
}

static void set_timer(struct client *c, uint64_t in_us, bool is_patient)
{
    world_cancel(world_of(c), c->timer);
    c->is_patient = is_patient;
    c->timer = world_at(world_of(c), world_of(c)->now_us + in_us, act, c, 0);
}

static void hang_up(struct client *c)
{
    if (c->conn != NULL) {
        sim_conn_close(c->conn);
        c->conn = NULL;
    }
}

/* Something went wrong: the same again, a little later. */
static void try_again(struct client *c)
{
    c->request_id = 0;
    set_timer(c, 1000 + rng_below(&world_of(c)->load, AGAIN_US_MAX), false);
}

/* --- requests --- */

static void fill_batch(struct client *c)
{
    const struct sim_options *o = &c->load->fleet->options->one;
    struct rng *rng = &world_of(c)->load;
    struct batch_builder builder;
    uint8_t value[4096] = {0};
    uint64_t count = rng_between(rng, 1, o->batch_records_max);
    batch_builder_begin(&builder, c->batch, sizeof c->batch);
    for (uint64_t i = 0; i < count; i++) {
        int head = snprintf((char *)value, sizeof value, "record %llu ", (unsigned long long)++c->load->sent);
        uint64_t size = rng_between(rng, (uint64_t)head, o->value_bytes_max > 64 ? o->value_bytes_max : 64);
        const struct record record = {.value = {.data = value, .size = (int)size}, .timestamp = 1};
        if (batch_builder_append(&builder, &record) != OK)
            break;
    }
    c->batch_records = (uint32_t)builder.records_count;
    c->batch_size = batch_builder_finish(&builder);
    batch_seal(c->batch, c->batch_size);
}

static void send(struct client *c, enum frame_type type, const void *message, const void *payload, uint32_t size)
{
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    uint32_t head_size;
    c->request_id = c->number << 48 | ++c->load->requests;
    enum err error = codec_encode_frame(head, sizeof head, type, c->request_id, message, size, &head_size);
    ASSERT(error == OK);
    sim_conn_send(c->conn, head, head_size);
    if (size > 0) {
        sim_conn_send(c->conn, payload, size);
    }
    set_timer(c, TIMEOUT_US, true);
}

static void ask(struct client *c)
{
    uint64_t group = c->load->fleet->group[c->group];
    if (c->job == JOB_PRODUCE) {
        const ProduceRequest request = {.group = group, .acks = -1, .timeout_ms = 1500};
        send(c, FRAME_PRODUCE, &request, c->batch, c->batch_size);
    } else {
        const FetchRequest request = {.group = group, .offset = c->offset, .bytes_max = READ_BYTES};
        send(c, FRAME_FETCH, &request, NULL, 0);
    }
}

/* --- connections --- */

static size_t on_bytes(void *owner, const uint8_t *data, size_t size);
static void on_closed(void *owner);
static const struct sim_conn_handler conn_handler = {on_bytes, on_closed};

/* To the broker that leads, as far as is known, or to any other. */
static bool connect_somewhere(struct client *c)
{
    struct fleet *fleet = c->load->fleet;
    uint64_t to = c->load->books[c->group].hint;
    if (to == 0 || to > fleet->brokers) {
        to = rng_between(&world_of(c)->load, 1, fleet->brokers);
    }
    c->load->books[c->group].hint = 0; /* until somebody confirms it */
    if (c->conn == NULL || c->to != to) {
        hang_up(c);
        if (!fleet_broker_is_up(&fleet->broker[to])) {
            return false; /* connection refused */
        }
        c->conn = sim_conn_open(fleet->broker[to].net, &conn_handler, c);
        c->to = to;
    }
    return true;
}

static void on_closed(void *owner)
{
    struct client *c = owner;
    c->conn = NULL;
    if (c->request_id != 0) {
        try_again(c);
    }
}

static void act(void *context, uint64_t argument)
{
    struct client *c = context;
    (void)argument;
    c->timer = NULL;
    if (c->is_patient) {
        hang_up(c);
        try_again(c);
        return;
    }
    if (c->job == JOB_NONE) {
        next_job(c);
        return;
    }
    if (!connect_somewhere(c)) {
        try_again(c);
        return;
    }
    ask(c);
    bool breaks = c->load->fleet->options->one.faults[FAULT_DISCONNECT] && c->load->is_working;
    if (breaks && rng_chance(&world_of(c)->load, BREAK_CHANCE)) {
        sim_conn_break(c->conn);
    }
}

/* --- jobs --- */

static void begin(struct client *c, enum job job, uint32_t group)
{
    c->job = job;
    c->group = group;
    set_timer(c, 0, false);
}

/* A group that has this still to be done, and nobody at it; groups: none. */
static uint32_t group_to_do(struct fleet_load *load)
{
    for (uint32_t g = 0; g < load->fleet->groups; g++) {
        const struct book *book = &load->books[g];
        if (!book->is_taken && !(load->is_auditing ? book->is_audited : book->is_proven)) {
            return g;
        }
    }
    return load->fleet->groups;
}

static void next_job(struct client *c)
{
    struct fleet_load *load = c->load;
    struct rng *rng = &world_of(c)->load;
    c->job = JOB_NONE;
    if (load->is_working) {
        uint32_t g = (uint32_t)rng_below(rng, load->fleet->groups);
        if (load->books[g].end > 0 && rng_chance(rng, READ_CHANCE)) {
            c->offset = (int64_t)rng_below(rng, (uint64_t)load->books[g].end);
            begin(c, JOB_READ, g);
        } else {
            fill_batch(c);
            begin(c, JOB_PRODUCE, g);
        }
        return;
    }
    uint32_t g = load->is_proving || load->is_auditing ? group_to_do(load) : load->fleet->groups;
    if (g == load->fleet->groups)
        return;
    load->books[g].is_taken = true;
    if (load->is_auditing) {
        c->offset = 0;
        begin(c, JOB_AUDIT, g);
    } else {
        fill_batch(c);
        begin(c, JOB_PRODUCE, g);
    }
}

static void job_done(struct client *c)
{
    uint64_t think_us =
        c->load->is_working ? rng_below(&world_of(c)->load, c->load->fleet->options->one.think_us_max) : 0;
    c->job = JOB_NONE;
    c->request_id = 0;
    set_timer(c, think_us, false);
}

static void produced(struct client *c, const ProduceReply *reply)
{
    struct book *book = &c->load->books[c->group];
    book->hint = reply->status == OK ? c->to : reply->leader;
    if (reply->status != OK) {
        try_again(c);
        return;
    }
    judge_acked(c->load->fleet->judge, c->load->fleet->group[c->group], c->batch, c->batch_size);
    book->promises = sim_grow(book->promises, &book->capacity, book->count + 1, sizeof *book->promises);
    book->promises[book->count++] =
        (struct promise){reply->base_offset, c->batch_size, crc32c(0, c->batch + 16, c->batch_size - 16)};
    int64_t end = reply->base_offset + c->batch_records;
    book->end = end > book->end ? end : book->end;
    book->is_proven = book->is_proven || c->load->is_proving;
    book->is_taken = false;
    c->load->acked += c->batch_records;
    job_done(c);
}

/* --- reading --- */

static void seen(struct client *c, const struct batch_header *header, const uint8_t *batch)
{
    struct book *book = &c->load->books[c->group];
    struct sim_world *world = world_of(c);
    unsigned long long group = c->load->fleet->group[c->group];
    if (!batch_crc_ok(batch, header->size_bytes)) {
        world_fail(world, "B14", "group %llu: a damaged batch at %lld", group, (long long)header->base_offset);
    }
    if (c->job != JOB_AUDIT)
        return;
    if (header->base_offset != c->offset) {
        world_fail(world, "B7", "group %llu: a batch at %lld where %lld is next", group, (long long)header->base_offset,
                   (long long)c->offset);
    }
    c->offset += header->last_offset_delta + 1;
    if (book->next == book->count || book->promises[book->next].offset > header->base_offset)
        return; /* nobody was told of it */
    const struct promise *promise = &book->promises[book->next++];
    world_judged(world, JUDGE_B1);
    if (promise->offset != header->base_offset || promise->size != header->size_bytes ||
        promise->crc != crc32c(0, batch + 16, header->size_bytes - 16)) {
        world_fail(world, "B1", "group %llu: what was acknowledged at %lld is not what stands at %lld", group,
                   (long long)promise->offset, (long long)header->base_offset);
    }
}

static void fetched(struct client *c, const FetchReply *reply, const uint8_t *payload, uint32_t size)
{
    struct book *book = &c->load->books[c->group];
    book->hint = reply->status == OK ? c->to : reply->leader;
    if (reply->status != OK) {
        try_again(c);
        return;
    }
    struct batch_header header;
    for (uint32_t at = 0; at < size; at += header.size_bytes) {
        if (batch_parse(payload + at, size - at, &header) != OK || header.size_bytes > size - at)
            break; /* cut off: it comes whole the next time */
        seen(c, &header, payload + at);
    }
    if (c->job == JOB_AUDIT && c->offset < reply->high_watermark) {
        c->request_id = 0;
        set_timer(c, 0, false);
        return;
    }
    if (c->job == JOB_AUDIT) {
        if (book->next < book->count) {
            world_fail(world_of(c), "B1", "group %llu: the log ends at %lld, what was acknowledged at %lld is lost",
                       (unsigned long long)c->load->fleet->group[c->group], (long long)c->offset,
                       (long long)book->promises[book->next].offset);
        }
        book->is_audited = true;
        book->is_taken = false;
    }
    job_done(c);
}

static size_t on_bytes(void *owner, const uint8_t *data, size_t size)
{
    static const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, REPLY_BYTES_MAX};
    struct client *c = owner;
    union codec_message message;
    struct frame frame;
    uint64_t needed;
    if (frame_parse(data, size, &limits, &frame, &needed) != OK) {
        return 0;
    }
    enum err error = codec_decode(frame.type, frame.proto, frame.proto_size, &message);
    ASSERT(error == OK);
    if (frame.request_id == c->request_id && c->request_id != 0) {
        if (frame.type == FRAME_PRODUCE_REPLY) {
            produced(c, &message.as_ProduceReply);
        } else if (frame.type == FRAME_FETCH_REPLY) {
            fetched(c, &message.as_FetchReply, frame.payload, frame.payload_size);
        }
    }
    return frame.size_bytes;
}

/* --- the fleet's calls --- */

static struct fleet_load *simple_new(struct fleet *fleet)
{
    struct fleet_load *load = calloc(1, sizeof *load);
    ASSERT(load != NULL);
    load->fleet = fleet;
    load->clients_count = fleet->options->one.producers < CLIENTS_MAX ? fleet->options->one.producers : CLIENTS_MAX;
    for (uint32_t i = 0; i < load->clients_count; i++) {
        struct client *c = load->clients[i] = calloc(1, sizeof *c);
        ASSERT(c != NULL);
        c->load = load;
        c->number = i + 1;
    }
    return load;
}

static void simple_free(struct fleet_load *load)
{
    for (uint32_t i = 0; i < load->clients_count; i++) {
        free(load->clients[i]);
    }
    for (uint32_t g = 0; g < FLEET_GROUPS_MAX; g++) {
        free(load->books[g].promises);
    }
    free(load);
}

static void wake_all(struct fleet_load *load)
{
    for (uint32_t i = 0; i < load->clients_count; i++) {
        if (load->clients[i]->job == JOB_NONE) {
            set_timer(load->clients[i], 0, false);
        }
    }
}

static void simple_begin(struct fleet_load *load)
{
    load->is_working = true;
    wake_all(load);
}

static void simple_quiet(struct fleet_load *load)
{
    load->is_working = false;
}

static bool simple_is_quiet(struct fleet_load *load, const char **ret_waits_for)
{
    for (uint32_t i = 0; i < load->clients_count; i++) {
        if (load->clients[i]->job != JOB_NONE) {
            snprintf(load->fleet->waits_for, sizeof load->fleet->waits_for, "a request to group %llu",
                     (unsigned long long)load->fleet->group[load->clients[i]->group]);
            *ret_waits_for = load->fleet->waits_for;
            return false;
        }
    }
    return true;
}

static void simple_prove(struct fleet_load *load)
{
    load->is_proving = true;
    wake_all(load);
}

static bool simple_is_proven(struct fleet_load *load, const char **ret_waits_for)
{
    for (uint32_t g = 0; g < load->fleet->groups; g++) {
        if (!load->books[g].is_proven) {
            snprintf(load->fleet->waits_for, sizeof load->fleet->waits_for, "group %llu takes no write",
                     (unsigned long long)load->fleet->group[g]);
            *ret_waits_for = load->fleet->waits_for;
            return false;
        }
    }
    return true;
}

static int by_offset(const void *a, const void *b)
{
    int64_t one = ((const struct promise *)a)->offset, other = ((const struct promise *)b)->offset;
    return one < other ? -1 : one > other;
}

static void simple_audit(struct fleet_load *load)
{
    load->is_proving = false;
    load->is_auditing = true;
    for (uint32_t g = 0; g < load->fleet->groups; g++) {
        struct book *book = &load->books[g];
        if (book->count > 0) {
            qsort(book->promises, book->count, sizeof *book->promises, by_offset);
        }
    }
    wake_all(load);
}

static bool simple_is_audited(struct fleet_load *load, const char **ret_waits_for)
{
    *ret_waits_for = "a log that is not read to its end";
    for (uint32_t g = 0; g < load->fleet->groups; g++) {
        if (!load->books[g].is_audited) {
            return false;
        }
    }
    return true;
}

static void simple_write_off(struct fleet_load *load, uint32_t number)
{
    struct book *book = &load->books[number];
    book->is_proven = book->is_audited = true;
    book->is_taken = false;
    for (uint32_t i = 0; i < load->clients_count; i++) {
        struct client *c = load->clients[i];
        if (c->job != JOB_NONE && c->group == number) {
            hang_up(c);
            job_done(c);
        }
    }
}

static uint64_t simple_acked(const struct fleet_load *load)
{
    return load->acked;
}

const struct fleet_load_class fleet_simple = {.name = "simple",
                                              .new = simple_new,
                                              .free = simple_free,
                                              .begin = simple_begin,
                                              .quiet = simple_quiet,
                                              .is_quiet = simple_is_quiet,
                                              .prove = simple_prove,
                                              .is_proven = simple_is_proven,
                                              .audit = simple_audit,
                                              .is_audited = simple_is_audited,
                                              .write_off = simple_write_off,
                                              .acked = simple_acked};
