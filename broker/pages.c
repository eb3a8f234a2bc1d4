/* The pages of the admin server. JSON by jansson, Prometheus text by metrics.c; all facts come through status.h. */
#include "broker/pages.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "broker/metrics.h"
#include "broker/status.h"

#define TYPE_TEXT       "text/plain; charset=utf-8"
#define TYPE_METRICS    "text/plain; version=0.0.4; charset=utf-8"
#define TYPE_JSON       "application/json"
#define UUID_TEXT_BYTES 37

static void pages__dump(FILE *out, json_t *json)
{
    json_dumpf(json, out, JSON_COMPACT);
    fputc('\n', out);
    json_decref(json);
}

static void pages__uuid(const uint8_t *id, char *to)
{
    for (int i = 0; i < UUID_BYTES; i++) {
        to += sprintf(to, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
    }
}

static json_t *pages__id(uint64_t id)
{
    return id != 0 ? json_integer((json_int_t)id) : json_null();
}

/* --- health --- */

static unsigned pages_live(const struct broker *broker, FILE *out)
{
    (void)broker; /* whoever reads this was answered by the loop: it lives */
    fputs("alive\n", out);
    return 200;
}

static unsigned pages_ready(const struct broker *broker, FILE *out)
{
    struct status_broker status = {.reason = "recovering"};
    if (broker != NULL) {
        status_read(broker, &status);
    }
    fprintf(out, "%s\n", status.reason);
    if (status.damaged > 0) { /* no reason to take it away from those it serves */
        fprintf(out, "damaged partitions: %" PRIu32 ", see /v1/partitions\n", status.damaged);
    }
    if (status.scrub_damaged_ranges > 0) {
        fprintf(out, "damaged ranges of offsets: %" PRIu64 ", see /v1/partitions\n", status.scrub_damaged_ranges);
    }
    return status.ready ? 200 : 503;
}

/* --- metrics --- */

struct pages_metric {
    FILE *out;
    unsigned metric;
};

static void pages__topic_metric(void *context, const struct status_topic *topic)
{
    const struct pages_metric *m = context;
    metrics_write_topic(m->out, m->metric, topic);
}

static unsigned pages_metrics(const struct broker *broker, FILE *out)
{
    struct status_broker status;
    status_read(broker, &status);
    metrics_write(out, &status);
    for (unsigned i = 0; i < METRICS_TOPIC_COUNT; i++) {
        struct pages_metric metric = {.out = out, .metric = i};
        metrics_write_topic_header(out, i);
        status_visit(broker, &(struct status_visitor){.context = &metric, .topic = pages__topic_metric});
    }
    return 200;
}

/* --- JSON --- */

static unsigned pages_cluster(const struct broker *broker, FILE *out)
{
    struct status_broker s;
    char cluster[UUID_TEXT_BYTES], disk[UUID_TEXT_BYTES], address[300];
    status_read(broker, &s);
    pages__uuid(s.cluster_id, cluster);
    pages__uuid(s.disk_uuid, disk);
    snprintf(address, sizeof address, "%s:%u", s.host, s.port);
    json_t *self = json_pack("{s:I,s:s,s:s,s:s,s:I,s:s,s:b}", "id", (json_int_t)s.id, "client", address, "rack", s.rack,
                             "disk", disk, "boot", (json_int_t)s.boot, "state", s.reason, "ready", (int)s.ready);
    pages__dump(out, json_pack("{s:s,s:s,s:[o],s:i,s:i,s:i,s:i,s:i,s:i,s:I}", "cluster", cluster, "registry",
                               "embedded", "brokers", self, "topics", (int)s.topics, "partitions", (int)s.groups,
                               "leaders", (int)s.leaders, "leaderless", (int)s.leaderless, "damaged", (int)s.damaged,
                               "quiet", (int)s.quiet, "damaged_ranges", (json_int_t)s.scrub_damaged_ranges));
    return 200;
}

static json_t *pages__ids(const uint64_t *ids, uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++) {
        json_array_append_new(list, pages__id(ids[i]));
    }
    return list;
}

static json_t *pages__partition(const struct status_partition *p)
{
    json_t *replicas = pages__ids(p->voters, p->voters_count), *in_sync = pages__ids(p->in_sync, p->in_sync_count);
    json_t *damaged = json_array();
    for (uint32_t i = 0; i < p->damaged_ranges && i < DAMAGED_RANGES_TOLD_MAX; i++) {
        json_array_append_new(
            damaged, json_pack("[I,I]", (json_int_t)p->damaged[i].from_offset, (json_int_t)p->damaged[i].end_offset));
    }
    return json_pack("{s:i,s:o,s:I,s:o,s:o,s:I,s:I,s:s,s:o,s:i}", "partition", (int)p->number, "leader",
                     pages__id(p->leader), "term", (json_int_t)p->term, "replicas", replicas, "in_sync", in_sync,
                     "log_start", (json_int_t)p->log_start, "high_watermark", (json_int_t)p->high_watermark, "state",
                     p->state, "damaged", damaged, "damaged_ranges", (int)p->damaged_ranges);
}

static void pages__list_topic(void *context, const struct status_topic *topic)
{
    const struct registry_topic_config *c = &topic->row->config;
    char id[UUID_TEXT_BYTES];
    pages__uuid(topic->row->id, id);
    json_t *config =
        topic->row->state == TOPIC_UNREADABLE
            ? json_object()
            : json_pack("{s:I,s:I,s:I,s:I,s:I}", "segment_bytes", (json_int_t)c->segment_bytes, "segment_ms",
                        (json_int_t)c->segment_ms, "retention_bytes", (json_int_t)c->retention_bytes, "retention_ms",
                        (json_int_t)c->retention_ms, "max_batch_bytes", (json_int_t)c->max_batch_bytes);
    json_array_append_new(context, json_pack("{s:s,s:s,s:b,s:o,s:[]}", "name", topic->row->name, "id", id, "internal",
                                             (int)topic->internal, "config", config, "partitions"));
}

static void pages__list_topic_partition(void *context, const struct status_partition *p)
{
    json_t *topic = json_array_get(context, json_array_size(context) - 1); /* a topic's partitions come behind it */
    json_array_append_new(json_object_get(topic, "partitions"), pages__partition(p));
}

static unsigned pages_topics(const struct broker *broker, FILE *out)
{
    json_t *list = json_array();
    status_visit(broker, &(struct status_visitor){
                             .context = list, .topic = pages__list_topic, .partition = pages__list_topic_partition});
    pages__dump(out, list);
    return 200;
}

static void pages__list_partition(void *context, const struct status_partition *p)
{
    json_t *row = pages__partition(p);
    json_object_set_new(row, "topic", json_string(p->topic));
    json_object_set_new(row, "group", json_integer((json_int_t)p->group));
    json_object_set_new(row, "role", json_string(p->role));
    json_object_set_new(row, "commit_index", json_integer((json_int_t)p->commit_index));
    json_object_set_new(row, "applied_index", json_integer((json_int_t)p->applied_index));
    json_object_set_new(row, "stored_bytes", json_integer((json_int_t)p->stored_bytes));
    json_array_append_new(context, row);
}

static unsigned pages_partitions(const struct broker *broker, FILE *out)
{
    json_t *list = json_array();
    status_visit(broker, &(struct status_visitor){.context = list, .partition = pages__list_partition});
    pages__dump(out, list);
    return 200;
}

/* --- table --- */

static const struct {
    const char *path;
    const char *type;
    bool early; /* there before the broker is */
    unsigned (*write)(const struct broker *broker, FILE *out);
} pages_table[] = {
    {"/health/live", TYPE_TEXT, true, pages_live},    {"/health/ready", TYPE_TEXT, true, pages_ready},
    {"/metrics", TYPE_METRICS, false, pages_metrics}, {"/v1/cluster", TYPE_JSON, false, pages_cluster},
    {"/v1/topics", TYPE_JSON, false, pages_topics},   {"/v1/partitions", TYPE_JSON, false, pages_partitions},
};

unsigned pages_write(const struct broker *broker, const char *path, FILE *out, const char **ret_type)
{
    *ret_type = TYPE_TEXT;
    for (size_t i = 0; i < sizeof pages_table / sizeof pages_table[0]; i++) {
        if (strcmp(pages_table[i].path, path) != 0) {
            continue;
        }
        if (broker == NULL && !pages_table[i].early) {
            fputs("recovering\n", out);
            return 503;
        }
        *ret_type = pages_table[i].type;
        return pages_table[i].write(broker, out);
    }
    fputs("no such page; there are", out);
    for (size_t i = 0; i < sizeof pages_table / sizeof pages_table[0]; i++) {
        fprintf(out, " %s", pages_table[i].path);
    }
    fputc('\n', out);
    return 404;
}
