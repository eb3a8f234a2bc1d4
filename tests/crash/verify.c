/* One look at a state: start, topics, every record, retries, named producers. Then the broker is given up as by kill
 * -9, and what clients were told in this life has become a promise for the next one.
 *
 * What may be there and what must: a batch that was sent and not acknowledged may be there, once. Retention may have
 * removed the oldest segments, but never so that less is left than the topic wants, and never what is younger. */
#include "verify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/batch.h"
#include "host.h"
#include "meta/meta.h"
#include "port/registry.h"
#include "tape.h"

#define READY_US_MAX 30000000u
#define FETCH_BYTES  (1u << 20)
#define TOPICS_MAX_  256
#define LINES_BYTES  2048
/* The log clock, by which records age, follows the wall clock in steps of TIMEOUT entries. */
#define CLOCK_LAG_MS 3500

struct found_log {
    uint64_t group;
    int64_t log_start, high_watermark;
    uint64_t bytes;
};

struct verify {
    struct oracle *oracle;
    struct host *host;
    const char *dir;
    uint64_t seed;
    char *why;
    bool failed;
    struct found_log logs[TOPICS_MAX_];
    uint32_t logs_count;
    int64_t end_offset; /* while the checkpoint store is read: of the last segment of the group at hand */
    struct meta_group group;
    uint32_t segments;
    char lines[LINES_BYTES]; /* the broker's last warnings */
};

__attribute__((format(printf, 2, 3))) static void fail(struct verify *v, const char *format, ...)
{
    if (v->failed)
        return;
    v->failed = true;
    va_list list;
    va_start(list, format);
    int length = vsnprintf(v->why, VERIFY_WHY_BYTES, format, list);
    va_end(list);
    if (v->lines[0] != '\0' && length > 0 && length < VERIFY_WHY_BYTES - 1) {
        snprintf(v->why + length, VERIFY_WHY_BYTES - (size_t)length, " [%.200s]", v->lines);
    }
}

static void on_line(void *context, enum trace_level level, const char *line)
{
    struct verify *v = context;
    size_t length = strlen(v->lines);
    (void)level;
    if (length + 200 > LINES_BYTES) {
        length = 0;
    }
    snprintf(v->lines + length, LINES_BYTES - length, "%s%.180s", length > 0 ? "; " : "", line);
}

/* --- S7: the checkpoint store, before the broker sees it --- */

static void group_ends(struct verify *v)
{
    const struct meta_group *g = &v->group;
    if (g->group != 0 && g->kind == TOPIC_DATA && v->segments > 0 && v->end_offset != g->next_offset) {
        fail(v, "S7: the manifest of group %lu ends at %ld, its next offset is %ld", g->group, v->end_offset,
             g->next_offset);
    }
}

static enum err on_group(void *context, const struct meta_group *group)
{
    struct verify *v = context;
    group_ends(v);
    v->group = *group;
    v->end_offset = -1;
    v->segments = 0;
    if (group->damaged) {
        fail(v, "S5: group %lu is marked damaged", group->group);
    }
    if (group->log_start > group->next_offset) {
        fail(v, "S7: the log of group %lu begins behind its end", group->group);
    }
    return OK;
}

static enum err on_segment(void *context, uint64_t group, const struct meta_segment *segment)
{
    struct verify *v = context;
    if (v->segments++ > 0 && segment->base_offset != v->end_offset) {
        fail(v, "S7: a segment of group %lu begins at %ld, the one before it ends at %ld", group, segment->base_offset,
             v->end_offset);
    }
    v->end_offset = segment->end_offset;
    return OK;
}

static enum err on_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    struct verify *v = context;
    if (epoch->first_offset > v->group.next_offset) {
        fail(v, "S7: term %lu of group %lu begins at %ld, its next offset is %ld", epoch->term, group,
             epoch->first_offset, v->group.next_offset);
    }
    return OK;
}

static enum err on_done(void *context, uint64_t group, const struct done_row *row)
{
    struct verify *v = context;
    for (uint8_t i = 0; i < row->count; i++) {
        if (row->batches[i].offset >= v->group.next_offset) {
            fail(v, "S7: the done table of group %lu holds offset %ld, its next offset is %ld", group,
                 row->batches[i].offset, v->group.next_offset);
        }
    }
    return OK;
}

static enum err on_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    (void)context, (void)group, (void)row;
    return OK;
}

static enum err look_at_store(void *context, struct kv *kv)
{
    struct verify *v = context;
    const struct meta_visitor visitor = {
        .context = v, .group = on_group, .segment = on_segment, .epoch = on_epoch, .done = on_done, .state = on_state};
    v->group = (struct meta_group){0};
    enum err error = meta_load(kv, &visitor);
    group_ends(v);
    return error;
}

/* --- S11: the start --- */

static void start(struct verify *v)
{
    static struct config config;
    int code = 0;
    const struct trace trace = {.level = TRACE_WARN, .sink = on_line, .context = v};
    static struct trace held;
    held = trace;
    host_config(&config);
    config.scrub_period_ms = SCRUB_PERIOD_MS_MIN;
    const struct host_options options = {.dir = v->dir,
                                         .config = &config,
                                         .trace = &held,
                                         .seed = v->seed,
                                         .wall_ms = v->oracle->wall_ms + 1,
                                         .on_kv = look_at_store,
                                         .context = v};
    v->lines[0] = '\0';
    v->host = NULL;
    enum err error = host_open(&options, &v->host, &code);
    if (error != OK) {
        fail(v, "S11: the broker does not start: %s, exit code %d", err_name(error), code);
    }
}

static void end(struct verify *v)
{
    if (v->host != NULL) {
        host_close(v->host);
        v->host = NULL;
    }
}

static const struct host_reply *call(struct verify *v, enum frame_type type, const void *message, const void *payload,
                                     uint32_t size)
{
    const struct host_reply *reply = v->failed ? NULL : host_call(v->host, type, message, payload, size);
    if (reply == NULL) {
        const char *failure = v->host != NULL ? host_failure(v->host) : NULL;
        fail(v, "S11: a request of type %d is not answered: %s", (int)type, failure != NULL ? failure : "it hangs");
    }
    return reply;
}

static void told(struct verify *v, struct mark mark)
{
    mark.wall_ms = host_wall_ms(v->host);
    oracle_add(v->oracle, &mark, NULL, 0);
}

/* --- S1: topics --- */

/* The youngest topic of this name that may be there; its groups must be these. */
static const struct oracle_topic *topic_expected(const struct oracle *oracle, const char *name, uint64_t first_group)
{
    for (uint32_t i = oracle->topics_count; i-- > 0;) {
        const struct oracle_topic *topic = &oracle->topics[i];
        if (strcmp(topic->mark.name, name) == 0 && topic->status != TOPIC_AWAY &&
            (!topic->has_groups || topic->mark.groups[0] == first_group)) {
            return topic;
        }
    }
    return NULL;
}

/* One topic of Metadata. ERR_AGAIN: a partition has no leader yet. */
static enum err read_topic(struct verify *v, struct codec_cursor *cursor, bool seen[TOPICS_MAX_])
{
    TopicRow row;
    enum err result = OK, error = codec_next_row(cursor, ROW_TOPIC, &row);
    const struct oracle_topic *topic = NULL;
    for (uint32_t p = 0; error == OK && p < row.partition_count; p++) {
        PartitionRow partition;
        error = codec_next_row(cursor, ROW_PARTITION, &partition);
        if (error != OK)
            break;
        if (p == 0 && row.kind == TOPIC_DATA) {
            topic = topic_expected(v->oracle, row.name, partition.group);
            if (topic == NULL) {
                fail(v, "S1: topic %s, group %lu, should not be there", row.name, partition.group);
                return OK;
            }
            seen[topic - v->oracle->topics] = true;
        }
        if (partition.status == ERR_CORRUPT) {
            fail(v, "S5: group %lu of %s answers CORRUPT", partition.group, row.name);
        }
        if (partition.status != OK || row.state != TOPIC_LIVE) {
            result = ERR_AGAIN;
        }
        if (topic != NULL && v->logs_count < TOPICS_MAX_) {
            v->logs[v->logs_count++] = (struct found_log){
                .group = partition.group, .log_start = partition.log_start, .high_watermark = partition.high_watermark};
        }
    }
    return error == OK ? result : error;
}

static enum err read_topics(struct verify *v, bool seen[TOPICS_MAX_])
{
    MetadataRequest request = {.describe = true};
    const struct host_reply *reply = call(v, FRAME_METADATA, &request, NULL, 0);
    if (reply == NULL)
        return ERR_IO;
    struct codec_cursor cursor = {reply->payload, reply->payload_size};
    const MetadataReply *message = &reply->message.as_MetadataReply;
    BrokerRow broker;
    enum err result = OK, error = codec_next_row(&cursor, ROW_BROKER, &broker);
    memset(seen, 0, TOPICS_MAX_ * sizeof seen[0]);
    v->logs_count = 0;
    for (uint32_t i = 0; i < message->topic_count && error == OK && !v->failed; i++) {
        error = read_topic(v, &cursor, seen);
        if (error == ERR_AGAIN) {
            result = error;
            error = OK;
        }
    }
    return error == OK ? result : error;
}

static void check_topics(struct verify *v)
{
    bool seen[TOPICS_MAX_];
    enum err error = ERR_AGAIN;
    ASSERT(v->oracle->topics_count <= TOPICS_MAX_);
    for (uint32_t waited_us = 0; error == ERR_AGAIN && waited_us < READY_US_MAX && !v->failed; waited_us += 10000) {
        error = read_topics(v, seen);
        if (error == ERR_AGAIN) {
            host_idle(v->host, 10000);
        }
    }
    if (error != OK) {
        fail(v, "S11: topics are not all led after a while: %s", err_name(error));
    }
    for (uint32_t i = 0; i < v->oracle->topics_count && !v->failed; i++) {
        const struct oracle_topic *topic = &v->oracle->topics[i];
        if (topic->status == TOPIC_THERE && !seen[i]) {
            fail(v, "S1: topic %s, group %lu, was acknowledged and is not there", topic->mark.name,
                 topic->mark.groups[0]);
        }
    }
}

/* S2: what a deleted topic held is freed. */
static void check_dirs(struct verify *v)
{
    for (uint32_t i = 0; i < v->oracle->topics_count && !v->failed; i++) {
        const struct oracle_topic *topic = &v->oracle->topics[i];
        for (uint32_t p = 0; topic->status == TOPIC_AWAY && p < topic->mark.partitions; p++) {
            char path[4096];
            struct stat status;
            snprintf(path, sizeof path, "%s/parts/%lu", v->dir, topic->mark.groups[p]);
            if (stat(path, &status) == 0) {
                fail(v, "S2: the directory of deleted group %lu is there", topic->mark.groups[p]);
            }
        }
    }
}

/* --- S1, S4, S6: records --- */

static void found_batch(struct verify *v, struct found_log *log, const struct batch_header *header, const uint8_t *data)
{
    struct oracle_batch *batch = oracle_batch_find(v->oracle, log->group, header->crc, header->size_bytes);
    if (batch == NULL || memcmp(data + BATCH_PREFIX_BYTES, batch->data + BATCH_PREFIX_BYTES,
                                header->size_bytes - BATCH_PREFIX_BYTES) != 0) {
        fail(v, "S4: group %lu serves at offset %ld what was not sent to it", log->group, header->base_offset);
        return;
    }
    if (batch->is_absent) {
        fail(v, "S11: group %lu has a batch at %ld that was not there after the start before", log->group,
             header->base_offset);
    }
    if (batch->found >= 0) {
        fail(v, "S1: group %lu has a batch twice, at %ld and %ld", log->group, batch->found, header->base_offset);
    }
    if (batch->offset >= 0 && batch->offset != header->base_offset) {
        fail(v, "S6: group %lu has a batch at %ld that was acknowledged at %ld", log->group, header->base_offset,
             batch->offset);
    }
    batch->found = header->base_offset;
    log->bytes += header->size_bytes;
}

static void read_batches(struct verify *v, struct found_log *log, const uint8_t *data, uint32_t size,
                         int64_t *io_offset)
{
    while (size > 0 && !v->failed) {
        struct batch_header header;
        enum err error = batch_parse(data, size, &header);
        if (error != OK || header.size_bytes > size || !batch_crc_ok(data, header.size_bytes)) {
            fail(v, "S4: group %lu serves at offset %ld what is no batch", log->group, *io_offset);
            return;
        }
        if (header.base_offset != *io_offset && (header.base_offset > *io_offset || *io_offset != log->log_start)) {
            fail(v, "S1: group %lu goes on at %ld after %ld", log->group, header.base_offset, *io_offset);
            return;
        }
        found_batch(v, log, &header, data);
        *io_offset = header.base_offset + header.records_count;
        data += header.size_bytes;
        size -= header.size_bytes;
    }
}

static void read_log(struct verify *v, struct found_log *log)
{
    int64_t offset = log->log_start;
    while (offset < log->high_watermark && !v->failed) {
        FetchRequest request = {.group = log->group, .offset = offset, .bytes_max = FETCH_BYTES};
        const struct host_reply *reply = call(v, FRAME_FETCH, &request, NULL, 0);
        if (reply == NULL)
            return;
        const FetchReply *message = &reply->message.as_FetchReply;
        if (message->status == ERR_OUT_OF_RANGE && offset < message->log_start) {
            offset = log->log_start = message->log_start; /* retention overtook us */
            continue;
        }
        int64_t before = offset;
        if (message->status == OK) {
            read_batches(v, log, reply->payload, reply->payload_size, &offset);
        }
        if (offset == before) {
            fail(v, "S5: group %lu cannot be read at offset %ld of %ld: %s", log->group, offset, log->high_watermark,
                 err_name((enum err)message->status));
        }
    }
    if (offset > log->high_watermark) {
        log->high_watermark = offset;
    }
}

static bool may_be_removed(const struct verify *v, const struct oracle_topic *topic, const struct oracle_batch *batch,
                           const struct found_log *log)
{
    if (batch->offset >= log->log_start)
        return false;
    return topic->mark.retention_bytes >= 0 ||
           (topic->mark.retention_ms >= 0 &&
            batch->sent_ms + topic->mark.retention_ms <= host_wall_ms(v->host) + CLOCK_LAG_MS);
}

/* Everything acknowledged in this log is there, or was removed for a reason. */
static void check_log(struct verify *v, const struct found_log *log)
{
    const struct oracle_topic *topic = oracle_topic_of(v->oracle, log->group);
    const struct oracle_log *seen = oracle_log(v->oracle, log->group);
    if (log->high_watermark < seen->high_watermark || log->log_start < seen->log_start) {
        fail(v, "S1: group %lu goes from %ld to %ld, clients were told %ld to %ld", log->group, log->log_start,
             log->high_watermark, seen->log_start, seen->high_watermark);
    }
    if (topic == NULL)
        return; /* its creation was not acknowledged: nobody knew the group */
    bool is_short = (int64_t)log->bytes < topic->mark.retention_bytes;
    if (log->log_start > 0 && topic->mark.retention_ms < 0 && is_short) {
        fail(v, "S1: retention left %lu bytes in group %lu", log->bytes, log->group);
    }
    if (log->log_start > 0 && topic->mark.retention_ms < 0 && topic->mark.retention_bytes < 0) {
        fail(v, "S1: group %lu, which keeps everything, begins at %ld", log->group, log->log_start);
    }
    for (uint32_t i = 0; i < v->oracle->batches_count && !v->failed; i++) {
        const struct oracle_batch *batch = &v->oracle->batches[i];
        if (batch->group != log->group || !batch->is_acked || batch->found >= 0)
            continue;
        bool is_leader = batch->offset < 0; /* where it was nobody knows */
        bool expires = topic->mark.retention_bytes >= 0 || topic->mark.retention_ms >= 0;
        if (is_leader ? !expires : !may_be_removed(v, topic, batch, log)) {
            fail(v,
                 "S1: batch %u of group %lu, acknowledged at offset %ld, is lost at the age of %ld ms (log is %ld to "
                 "%ld)",
                 i, log->group, batch->offset, host_wall_ms(v->host) - batch->sent_ms, log->log_start,
                 log->high_watermark);
        }
    }
}

static bool is_known(const struct verify *v, uint64_t group)
{
    for (uint32_t i = 0; i < v->logs_count; i++) {
        if (v->logs[i].group == group)
            return true;
    }
    return false;
}

/* What was read is a promise from now on, and so is that nothing else was there. */
static void promise_found(struct verify *v)
{
    for (uint32_t i = 0; i < v->oracle->batches_count; i++) {
        struct oracle_batch *batch = &v->oracle->batches[i];
        if (batch->found >= 0) {
            batch->is_acked = true;
            batch->offset = batch->found;
        } else if (is_known(v, batch->group)) {
            batch->is_absent = true;
        }
    }
    for (uint32_t i = 0; i < v->logs_count; i++) {
        told(v, (struct mark){.kind = MARK_SEEN,
                              .groups = {v->logs[i].group},
                              .offset = v->logs[i].high_watermark,
                              .log_start = v->logs[i].log_start});
    }
}

static void check_records(struct verify *v)
{
    for (uint32_t i = 0; i < v->oracle->batches_count; i++) {
        v->oracle->batches[i].found = -1;
    }
    for (uint32_t i = 0; i < v->logs_count && !v->failed; i++) {
        v->logs[i].bytes = 0;
        read_log(v, &v->logs[i]);
        check_log(v, &v->logs[i]);
    }
    if (!v->failed) {
        promise_found(v);
    }
}

/* --- S7: retries --- */

static void retry(struct verify *v, uint32_t number)
{
    struct oracle_batch *batch = &v->oracle->batches[number];
    ProduceRequest request = {.group = batch->group, .acks = -1, .timeout_ms = 30000};
    batch->is_absent = false;
    for (int tries = 0; tries < 100; tries++) {
        const struct host_reply *reply = call(v, FRAME_PRODUCE, &request, batch->data, batch->size_bytes);
        if (reply == NULL)
            return;
        const ProduceReply *message = &reply->message.as_ProduceReply;
        if (message->status == ERR_BUSY || message->status == ERR_NOT_READY) {
            host_idle(v->host, 10000);
            continue;
        }
        if (message->status != OK) {
            fail(v, "S7: a retry of batch %u in group %lu, %s, is answered %s", number, batch->group,
                 batch->is_acked ? "which is there" : "which is not there", err_name((enum err)message->status));
        } else if (batch->is_acked && (message->base_offset != batch->offset || !message->duplicate)) {
            fail(v, "S7: batch %u of group %lu is at %ld; a retry is put at %ld", number, batch->group, batch->offset,
                 message->base_offset);
        } else {
            told(v, (struct mark){.kind = MARK_BATCH_ACKED, .batch = number, .offset = message->base_offset});
        }
        return;
    }
    fail(v, "S11: group %lu takes no records", batch->group);
}

/* A producer's batches stand in its order: none is missing before one that is there. */
static void check_hole(struct verify *v, uint32_t number)
{
    const struct oracle_batch *batch = &v->oracle->batches[number];
    const struct oracle_topic *topic = oracle_topic_of(v->oracle, batch->group);
    if (batch->is_acked || topic == NULL || topic->mark.retention_bytes >= 0 || topic->mark.retention_ms >= 0)
        return;
    for (uint32_t i = number + 1; i < v->oracle->batches_count; i++) {
        const struct oracle_batch *later = &v->oracle->batches[i];
        if (later->group == batch->group && later->producer == batch->producer && later->epoch == batch->epoch &&
            later->is_acked) {
            fail(v, "S1: batch %u of group %lu is there, batch %u before it is not", i, batch->group, number);
        }
    }
}

/* Of each stream with the newest epoch: the last batch that is there, and those after it that are not. */
static void check_retries(struct verify *v)
{
    struct oracle *oracle = v->oracle;
    for (uint32_t i = 0; i < oracle->batches_count && !v->failed; i++) {
        const struct oracle_batch *batch = &oracle->batches[i];
        bool is_last = true;
        if (batch->producer < 0 || !is_known(v, batch->group))
            continue;
        check_hole(v, i);
        for (uint32_t n = i + 1; n < oracle->batches_count && is_last; n++) {
            const struct oracle_batch *later = &oracle->batches[n];
            bool is_same = later->group == batch->group && later->producer == batch->producer;
            is_last = !is_same || (later->epoch == batch->epoch && !later->is_acked);
        }
        if (is_last) {
            retry(v, i);
        }
    }
}

static void check_named(struct verify *v)
{
    for (uint32_t i = 0; i < v->oracle->producers_count && !v->failed; i++) {
        const struct oracle_producer *producer = &v->oracle->producers[i];
        InitProducerRequest request = {.timeout_ms = 10000};
        if (producer->id < 0)
            continue;
        snprintf(request.name, sizeof request.name, "%s", producer->name);
        const struct host_reply *reply = call(v, FRAME_INIT_PRODUCER, &request, NULL, 0);
        if (reply == NULL)
            return;
        const InitProducerReply *message = &reply->message.as_InitProducerReply;
        int32_t most = producer->epoch + (int32_t)(producer->asked - producer->answered) + 1;
        if (message->status != OK || message->producer_id != producer->id ||
            message->producer_epoch <= producer->epoch || message->producer_epoch > most) {
            fail(v, "S1: producer %s was %ld epoch %d, and is %ld epoch %d: %s", producer->name, producer->id,
                 producer->epoch, message->producer_id, message->producer_epoch, err_name((enum err)message->status));
            return;
        }
        struct mark asked = {.kind = MARK_INIT_SENT},
                    done = {.kind = MARK_INIT_DONE, .producer = message->producer_id, .epoch = message->producer_epoch};
        memcpy(asked.name, producer->name, sizeof asked.name);
        memcpy(done.name, producer->name, sizeof done.name);
        told(v, asked);
        told(v, done);
    }
}

/* --- S10: the scrub --- */

/* A whole round over everything at rest: what the start and the retries left there. It takes its time by the host's
 * clock only. */
static void check_scrub(struct verify *v)
{
    struct status_broker status;
    if (v->failed)
        return;
    host_idle(v->host, 100000);
    host_status(v->host, &status);
    uint64_t wanted = status.counters->scrub_rounds_total + 1;
    for (uint32_t waited_us = 0;
         waited_us < READY_US_MAX && status.counters->scrub_rounds_total < wanted && host_failure(v->host) == NULL;
         waited_us += 10000) {
        host_idle(v->host, 10000);
        host_status(v->host, &status);
    }
    if (host_failure(v->host) != NULL) {
        fail(v, "S11: the broker ends by itself: %s", host_failure(v->host));
    } else if (status.counters->scrub_rounds_total < wanted) {
        fail(v, "S10: the scrub does not end its round");
    } else if (status.counters->scrub_damaged_total > 0 || status.scrub_damaged_ranges > 0) {
        fail(v, "S10: the scrub finds damage in %lu places", status.counters->scrub_damaged_total);
    }
}

/* --- all of it --- */

bool verify_dir(struct oracle *oracle, const char *dir, uint64_t seed, char why[VERIFY_WHY_BYTES])
{
    struct verify *v = calloc(1, sizeof *v);
    ASSERT(v != NULL);
    *v = (struct verify){.oracle = oracle, .dir = dir, .seed = seed, .why = why};
    for (unsigned life = 0; life < 2 && !v->failed; life++) {
        start(v);
        check_topics(v);
        check_records(v);
        check_retries(v);
        if (life == 1) {
            check_named(v); /* it fences them */
        }
        check_scrub(v);
        if (!v->failed) {
            check_dirs(v);
            v->oracle->wall_ms = host_wall_ms(v->host);
        }
        if (v->failed && life == 1 && strlen(why) + 20 < VERIFY_WHY_BYTES) {
            strcat(why, " (second start)");
        }
        end(v);
    }
    bool good = !v->failed;
    free(v);
    return good;
}

bool verify_record(const struct oracle *oracle, const char *dir, const char *tape, uint64_t seed,
                   char why[VERIFY_WHY_BYTES])
{
    if (!tape_begin(dir, tape)) {
        snprintf(why, VERIFY_WHY_BYTES, "the tape cannot be written");
        return false;
    }
    struct verify *v = calloc(1, sizeof *v);
    ASSERT(v != NULL);
    *v = (struct verify){.oracle = (struct oracle *)(uintptr_t)oracle, .dir = dir, .seed = seed, .why = why};
    start(v);
    if (!v->failed) {
        host_idle(v->host, 50000);
    }
    end(v);
    tape_end();
    bool good = !v->failed;
    free(v);
    return good;
}
