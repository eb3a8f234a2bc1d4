/* The request table: frame type -> handler. Small requests are answered here; produce and fetch have files of their
 * own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/plant.h"
#include "base/text.h"
#include "broker/fetch.h"
#include "broker/impl.h"
#include "broker/memory.h"
#include "broker/produce.h"
#include "broker/producers.h"
#include "store/scrub.h"

#define PROTOCOL_VERSION     1u
#define METADATA_CHARGE_ROWS 16u /* as much work as a small request */

static void api_hello(struct session *s, const struct frame *frame)
{
    HelloRequest request;
    HelloReply reply = {.version = PROTOCOL_VERSION, .broker = s->broker->identity.broker};
    memcpy(reply.cluster_id, s->broker->identity.cluster_id, sizeof reply.cluster_id);
    reply.status = codec_decode(FRAME_HELLO, frame->proto, frame->proto_size, &request);
    if (reply.status == OK && request.version != PROTOCOL_VERSION) {
        reply.status = ERR_UNSUPPORTED;
    }
    session_reply(s, FRAME_HELLO_REPLY, frame->request_id, &reply, NULL, 0);
}

/* --- Metadata --- */

/* Rows of a reply, as they grow; what is sent is a copy of just their size. */
struct rows {
    struct buf *buf; /* owned reference; NULL: none yet */
    uint32_t used;
    uint32_t count;
};

/* ERR_NO_MEMORY. */
static enum err rows_append(struct rows *rows, enum codec_row kind, const void *row)
{
    if (rows->buf == NULL || rows->buf->size - rows->used < CODEC_ROW_BYTES_MAX) {
        struct buf *bigger = buf_new((rows->used + CODEC_ROW_BYTES_MAX) * 2);
        if (bigger == NULL) {
            return ERR_NO_MEMORY;
        }
        if (rows->buf != NULL) {
            memcpy(bigger->data, rows->buf->data, rows->used);
        }
        buf_unref(rows->buf);
        rows->buf = bigger;
    }
    rows->count++;
    return codec_append_row(rows->buf->data, rows->buf->size, kind, row, &rows->used);
}

static uint32_t api__listener_index(const struct session *s)
{
    const struct config *config = s->broker->config;
    for (uint32_t i = 0; i < config->client_count; i++) {
        if (strcmp(config->client[i].name, s->link->listener) == 0) {
            return i;
        }
    }
    return 0;
}

static void api__fill_broker(const struct session *s, BrokerRow *row)
{
    const struct broker *b = s->broker;
    uint32_t listener = api__listener_index(s);
    *row = (BrokerRow){.id = b->identity.broker};
    if (b->advertised[listener].set) {
        text_copy(row->host, sizeof row->host, b->advertised[listener].host);
        row->port = b->advertised[listener].port;
    }
    text_copy(row->rack, sizeof row->rack, b->config->rack);
}

static void api__fill_topic(const struct topic *topic, TopicRow *row)
{
    const struct registry_topic *t = &topic->row;
    *row = (TopicRow){.partition_count = t->partitions_count, .kind = t->kind, .state = t->state};
    text_copy(row->name, sizeof row->name, t->name);
    memcpy(row->id, t->id, sizeof row->id);
    if (t->state == TOPIC_UNREADABLE) { /* nobody knows its configuration any more */
        return;
    }
    row->has_config = true;
    row->config = (TopicConfig){
        .has_segment_bytes = true,
        .segment_bytes = t->config.segment_bytes,
        .has_segment_ms = true,
        .segment_ms = t->config.segment_ms,
        .has_retention_bytes = true,
        .retention_bytes = t->config.retention_bytes,
        .has_retention_ms = true,
        .retention_ms = t->config.retention_ms,
        .has_max_batch_bytes = true,
        .max_batch_bytes = t->config.max_batch_bytes,
        .has_replicas = true,
        .replicas = t->config.replicas,
    };
}

static void api__fill_damage(const struct partition *p, PartitionRow *row)
{
    struct offset_range ranges[DAMAGED_RANGES_TOLD_MAX];
    _Static_assert(sizeof row->damaged == sizeof ranges, "two numbers each");
    row->damaged_ranges = segment_log_damage(p->log, ranges, DAMAGED_RANGES_TOLD_MAX);
    for (uint32_t i = 0; i < row->damaged_ranges && i < DAMAGED_RANGES_TOLD_MAX; i++) {
        row->damaged[row->damaged_count++] = ranges[i].from_offset;
        row->damaged[row->damaged_count++] = ranges[i].end_offset;
    }
}

/* Of a partition that is not here only the wish is known. */
static void api__fill_absent(const struct topic *topic, uint32_t number, PartitionRow *row)
{
    struct registry_partition wish;
    row->status = catalog_missing(topic, number);
    row->state = row->status == ERR_NOT_READY ? PARTITION_BIRTH : row->status == ERR_NOT_LEADER ? PARTITION_LIVE : 0;
    catalog_wish(topic, number, &wish);
    for (uint32_t r = 0; row->status != ERR_CORRUPT && r < wish.replicas_count; r++) {
        row->replicas[row->replicas_count++] = wish.replicas[r].broker;
    }
}

/* A planted bug: partitions are told apart by their names and numbers, run together. */
static uint64_t api__group_by_text(const struct topic *topic, uint32_t number)
{
    char wanted[TOPIC_NAME_BYTES_MAX + 16], text[TOPIC_NAME_BYTES_MAX + 16];
    snprintf(wanted, sizeof wanted, "%s%u", topic->row.name, number);
    for (const struct topic *t = catalog_first(topic->catalog); t != NULL; t = t->hh.next) {
        for (uint32_t i = 0; i < t->row.partitions_count; i++) {
            snprintf(text, sizeof text, "%s%u", t->row.name, i);
            if (strcmp(text, wanted) == 0) {
                return registry_group(&t->row, i);
            }
        }
    }
    UNREACHABLE();
}

static void api__fill_partition(const struct topic *topic, uint32_t number, PartitionRow *row)
{
    const struct partition *p = topic->partitions[number];
    *row = (PartitionRow){.partition = number, .group = registry_group(&topic->row, number)};
    if (PLANT(12)) {
        row->group = api__group_by_text(topic, number);
    }
    if (p == NULL) {
        api__fill_absent(topic, number, row);
        return;
    }
    row->state = partition_told_state(p);
    row->status = partition_status(p);
    row->replicas_count = (pb_size_t)roster_voters(&p->roster, row->replicas);
    row->in_sync_count = (pb_size_t)partition_in_sync(p, row->in_sync);
    row->log_start = partition_log_start(p);
    row->high_watermark = partition_high_watermark(p);
    if (row->state == PARTITION_PARTLY) {
        api__fill_damage(p, row);
    }
    if (p->raft != NULL) {
        row->term = raft_term(p->raft);
        row->leader = partition_leader(p);
    }
}

static enum err api__append_topic(struct rows *rows, const struct topic *topic)
{
    TopicRow topic_row;
    api__fill_topic(topic, &topic_row);
    enum err error = rows_append(rows, ROW_TOPIC, &topic_row);
    for (uint32_t i = 0; i < topic->row.partitions_count && error == OK; i++) {
        PartitionRow row;
        api__fill_partition(topic, i, &row);
        error = rows_append(rows, ROW_PARTITION, &row);
    }
    return error;
}

static int api__by_first_group(const void *left, const void *right)
{
    uint64_t a = (*(struct topic *const *)left)->row.first_group, b = (*(struct topic *const *)right)->row.first_group;
    return a < b ? -1 : a > b;
}

/* All topics behind `after`, in the order of their group ids, which are given out rising: so a list of pages stays
 * whole while topics come and go. */
static enum err api__append_page(struct catalog *catalog, uint64_t after, struct rows *rows, MetadataReply *reply)
{
    struct topic **topics = mem_zeroed(catalog_count(catalog) + 1, sizeof topics[0]);
    uint32_t count = 0;
    enum err error = OK;
    for (struct topic *topic = catalog_first(catalog); topic != NULL; topic = topic->hh.next) {
        if (topic->row.state != TOPIC_DELETING && topic->row.first_group > after) {
            topics[count++] = topic;
        }
    }
    qsort(topics, count, sizeof topics[0], api__by_first_group);
    for (uint32_t i = 0; i < count && error == OK; i++) {
        if (rows->used >= METADATA_PAGE_BYTES) {
            reply->next = topics[i - 1]->row.first_group;
            break;
        }
        error = api__append_topic(rows, topics[i]);
        reply->topic_count++;
    }
    free(topics);
    return error;
}

static enum err api__append_rows(const struct session *s, const MetadataRequest *request, struct rows *rows,
                                 MetadataReply *reply)
{
    struct catalog *catalog = s->broker->catalog;
    BrokerRow broker_row;
    api__fill_broker(s, &broker_row);
    enum err error = rows_append(rows, ROW_BROKER, &broker_row);
    reply->broker_count = 1;
    if (error != OK) {
        return error;
    }
    if (request->topic[0] == '\0') {
        return api__append_page(catalog, request->after, rows, reply);
    }
    const struct topic *topic = catalog_find(catalog, request->topic);
    if (topic == NULL) {
        return ERR_UNKNOWN_TOPIC;
    }
    if (topic->row.state != TOPIC_DELETING) {
        reply->topic_count = 1;
        error = api__append_topic(rows, topic);
    }
    return error;
}

static void api_metadata(struct session *s, const struct frame *frame)
{
    struct broker *b = s->broker;
    MetadataRequest request;
    MetadataReply reply = {0};
    struct rows rows = {0};
    struct slice part = {0};
    enum err error = codec_decode(FRAME_METADATA, frame->proto, frame->proto_size, &request);
    if (error == OK) {
        bool all = request.topic[0] == '\0'; /* may be large, and nobody's record waits for it */
        error = all && memory_fetch_max(b) == 0 ? ERR_BUSY : api__append_rows(s, &request, &rows, &reply);
    }
    if (error == OK) {
        part.buf = buf_new_metered(b->replies, rows.used);
        error = part.buf != NULL ? OK : ERR_NO_MEMORY;
    }
    if (error == OK) {
        memcpy(part.buf->data, rows.buf->data, rows.used);
        part = (struct slice){.buf = part.buf, .data = part.buf->data, .size = rows.used};
    } else {
        reply = (MetadataReply){.status = error == ERR_NO_MEMORY ? ERR_BUSY : error};
    }
    memcpy(reply.cluster_id, b->identity.cluster_id, sizeof reply.cluster_id);
    session_charge(s, rows.count / METADATA_CHARGE_ROWS);
    session_reply(s, FRAME_METADATA_REPLY, frame->request_id, &reply, &part, error == OK ? 1 : 0);
    slice_unref(&part);
    buf_unref(rows.buf);
}

/* --- topics --- */

struct topic_request {
    struct session *session;
    uint64_t request_id;
    bool is_delete;
};

static void api__topic_done(void *context, enum err error, const char *message)
{
    struct topic_request *r = context;
    if (r->is_delete) {
        DeleteTopicReply reply = {.status = error};
        text_copy(reply.message, sizeof reply.message, message);
        session_reply(r->session, FRAME_DELETE_TOPIC_REPLY, r->request_id, &reply, NULL, 0);
    } else {
        CreateTopicReply reply = {.status = error};
        text_copy(reply.message, sizeof reply.message, message);
        session_reply(r->session, FRAME_CREATE_TOPIC_REPLY, r->request_id, &reply, NULL, 0);
    }
    session_release(r->session, 0);
    free(r);
}

static struct topic_request *api__topic_request(struct session *s, const struct frame *frame, bool is_delete)
{
    struct topic_request *r = mem_zeroed(1, sizeof *r);
    *r = (struct topic_request){.session = s, .request_id = frame->request_id, .is_delete = is_delete};
    session_hold(s, 0);
    return r;
}

/* Changes of topics wait for the registry and for elections: so many may, no more. */
static enum err api__topic_decode(struct session *s, const struct frame *frame, void *ret_request)
{
    enum err error = codec_decode(frame->type, frame->proto, frame->proto_size, ret_request);
    return error != OK ? error : s->broker->stopping ? ERR_SHUTTING_DOWN : session_may_wait(s) ? OK : ERR_BUSY;
}

static void api_create_topic(struct session *s, const struct frame *frame)
{
    const struct config *config = s->broker->config;
    struct topic_request *r = api__topic_request(s, frame, false);
    CreateTopicRequest request;
    enum err error = api__topic_decode(s, frame, &request);
    if (error != OK) {
        api__topic_done(r, error, err_text(error));
        return;
    }
    const TopicConfig *wish = &request.config;
    struct registry_topic topic = {
        .kind = TOPIC_DATA,
        .partitions_count = request.partitions != 0 ? request.partitions : config->partitions,
        .config = {
            .segment_bytes = wish->has_segment_bytes ? wish->segment_bytes : config->segment_bytes,
            .segment_ms = wish->has_segment_ms ? wish->segment_ms : config->segment_ms,
            .retention_bytes = wish->has_retention_bytes ? wish->retention_bytes : config->retention_bytes,
            .retention_ms = wish->has_retention_ms ? wish->retention_ms : config->retention_ms,
            .max_batch_bytes = wish->has_max_batch_bytes ? wish->max_batch_bytes : config->max_batch_bytes,
            .replicas = request.replicas != 0 ? request.replicas
                        : wish->has_replicas  ? wish->replicas
                                              : config->replicas,
        }};
    memcpy(topic.name, request.name, sizeof topic.name);
    if (catalog_name_internal(topic.name)) {
        api__topic_done(r, ERR_INVALID_TOPIC, "names that begin with '__' belong to the broker");
        return;
    }
    catalog_create(s->broker->catalog, &topic, api__topic_done, r);
}

static void api_delete_topic(struct session *s, const struct frame *frame)
{
    struct topic_request *r = api__topic_request(s, frame, true);
    DeleteTopicRequest request;
    enum err error = api__topic_decode(s, frame, &request);
    if (error == OK && catalog_name_internal(request.name)) {
        error = ERR_INVALID_TOPIC;
    }
    if (error != OK) {
        api__topic_done(r, error, err_text(error));
        return;
    }
    catalog_delete(s->broker->catalog, request.name, api__topic_done, r);
}

/* --- table --- */

static void (*const api_handlers[])(struct session *s, const struct frame *frame) = {
    [FRAME_HELLO] = api_hello,
    [FRAME_METADATA] = api_metadata,
    [FRAME_CREATE_TOPIC] = api_create_topic,
    [FRAME_DELETE_TOPIC] = api_delete_topic,
    [FRAME_PRODUCE] = produce_request,
    [FRAME_FETCH] = fetch_request,
    [FRAME_LIST_OFFSETS] = list_offsets_request,
    [FRAME_INIT_PRODUCER] = producers_init_request,
};

void api_handle(struct session *s, const struct frame *frame)
{
    size_t type = frame->type;
    if (type < sizeof api_handlers / sizeof api_handlers[0] && api_handlers[type] != NULL) {
        api_handlers[type](s, frame);
        return;
    }
    session_refuse(s, ERR_UNSUPPORTED, frame->request_id, "unknown request type");
}
