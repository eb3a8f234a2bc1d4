/* Reading all there is, offset by offset where it is damaged. */
#include "view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "host.h"
#include "wire/builder.h"

#define READY_US_MAX 30000000u
#define FETCH_BYTES  (1u << 20)
#define LINES_BYTES  400
#define PROBE_BYTES  512

struct reader {
    const struct oracle *oracle;
    struct host *host;
    struct view *view;
    char *why;
    bool failed;
    char lines[LINES_BYTES]; /* the broker's first warnings */
};

static void fail(struct reader *r, const char *what, uint64_t group, const char *text)
{
    if (!r->failed) {
        r->failed = true;
        const char *failure = r->host != NULL ? host_failure(r->host) : NULL;
        snprintf(r->why, VERIFY_WHY_BYTES, "%s: group %lu: %s%s%s [%.200s]", what, group, text,
                 failure != NULL ? ", broker: " : "", failure != NULL ? failure : "", r->lines);
    }
}

static void on_line(void *context, enum trace_level level, const char *line)
{
    struct reader *r = context;
    size_t length = strlen(r->lines);
    (void)level;
    snprintf(r->lines + length, LINES_BYTES - length, "%s%s", length > 0 ? "; " : "", line);
}

static const struct host_reply *call(struct reader *r, enum frame_type type, const void *message, const void *payload,
                                     uint32_t size)
{
    const struct host_reply *reply = r->failed ? NULL : host_call(r->host, type, message, payload, size);
    if (reply == NULL) {
        fail(r, "a request is not answered", (uint64_t)type, "of this type");
    }
    return reply;
}

/* --- groups --- */

static bool is_wanted(const struct oracle *oracle, uint64_t group)
{
    const struct oracle_topic *topic = oracle_topic_of(oracle, group);
    return topic != NULL && topic->status == TOPIC_THERE && topic->mark.retention_bytes < 0 &&
           topic->mark.retention_ms < 0;
}

static void add_log(struct view *view, const PartitionRow *row)
{
    view->logs = realloc(view->logs, (view->logs_count + 1) * sizeof view->logs[0]);
    ASSERT(view->logs != NULL);
    view->logs[view->logs_count++] = (struct view_log){.group = row->group,
                                                       .is_corrupt = row->status == ERR_CORRUPT,
                                                       .log_start = row->log_start,
                                                       .high_watermark = row->high_watermark};
}

/* ERR_AGAIN: a partition has no leader yet. */
static enum err list_logs(struct reader *r)
{
    MetadataRequest request = {.describe = true};
    const struct host_reply *reply = call(r, FRAME_METADATA, &request, NULL, 0);
    if (reply == NULL)
        return ERR_IO;
    struct codec_cursor cursor = {reply->payload, reply->payload_size};
    BrokerRow broker;
    enum err result = OK, error = codec_next_row(&cursor, ROW_BROKER, &broker);
    r->view->logs_count = 0;
    for (uint32_t i = 0; i < reply->message.as_MetadataReply.topic_count && error == OK; i++) {
        TopicRow topic;
        error = codec_next_row(&cursor, ROW_TOPIC, &topic);
        for (uint32_t p = 0; error == OK && p < topic.partition_count; p++) {
            PartitionRow partition;
            error = codec_next_row(&cursor, ROW_PARTITION, &partition);
            if (error == OK && is_wanted(r->oracle, partition.group)) {
                add_log(r->view, &partition);
                result = partition.status == OK || partition.status == ERR_CORRUPT ? result : ERR_AGAIN;
            }
        }
    }
    return error == OK ? result : error;
}

static void wait_for_logs(struct reader *r)
{
    enum err error = ERR_AGAIN;
    for (uint32_t waited_us = 0; error == ERR_AGAIN && waited_us < READY_US_MAX && !r->failed; waited_us += 10000) {
        error = list_logs(r);
        if (error == ERR_AGAIN) {
            host_idle(r->host, 10000);
        }
    }
    if (error != OK) {
        fail(r, "not everything is led after a while", 0, err_name(error));
    }
}

/* --- records --- */

static void add_piece(struct view_log *log, struct view_piece piece)
{
    struct view_piece *last = log->pieces_count > 0 ? &log->pieces[log->pieces_count - 1] : NULL;
    if (last != NULL && piece.kind == VIEW_CORRUPT && last->kind == VIEW_CORRUPT) {
        last->end_offset = piece.end_offset;
        return;
    }
    log->pieces = realloc(log->pieces, (log->pieces_count + 1) * sizeof piece);
    ASSERT(log->pieces != NULL);
    log->pieces[log->pieces_count++] = piece;
}

static void add_batches(struct reader *r, struct view_log *log, const uint8_t *data, uint32_t size, int64_t *io_offset)
{
    while (size > 0 && !r->failed) {
        struct batch_header header;
        if (batch_parse(data, size, &header) != OK || header.size_bytes > size ||
            !batch_crc_ok(data, header.size_bytes)) {
            fail(r, "S4", log->group, "what is served is no batch");
            return;
        }
        int64_t end_offset = header.base_offset + header.last_offset_delta + 1;
        bool is_empty = header.records_count == 0;
        if (header.base_offset > *io_offset || end_offset <= *io_offset) {
            fail(r, "S6", log->group, "a batch of another offset is served");
        } else if (!is_empty && oracle_batch_find((struct oracle *)(uintptr_t)r->oracle, log->group, header.crc,
                                                  header.size_bytes) == NULL) {
            fail(r, "S4", log->group, "what was never sent is served");
        }
        add_piece(log, (struct view_piece){.kind = is_empty ? VIEW_EMPTY : VIEW_RECORDS,
                                           .base_offset = header.base_offset,
                                           .end_offset = end_offset,
                                           .crc = is_empty ? 0 : header.crc});
        *io_offset = end_offset;
        data += header.size_bytes;
        size -= header.size_bytes;
    }
}

static void read_log(struct reader *r, struct view_log *log)
{
    for (int64_t offset = log->log_start; offset < log->high_watermark && !r->failed;) {
        FetchRequest request = {.group = log->group, .offset = offset, .bytes_max = FETCH_BYTES};
        const struct host_reply *reply = call(r, FRAME_FETCH, &request, NULL, 0);
        if (reply == NULL)
            return;
        enum err status = (enum err)reply->message.as_FetchReply.status;
        if (status == ERR_CORRUPT) {
            add_piece(log, (struct view_piece){VIEW_CORRUPT, offset, offset + 1, 0});
            offset++;
        } else if (status == OK && reply->payload_size > 0) {
            add_batches(r, log, reply->payload, reply->payload_size, &offset);
        } else {
            fail(r, "S5", log->group, err_name(status));
        }
    }
}

/* Life goes on: one more batch, of a client without a producer id. */
static void take_probe(struct reader *r, uint64_t group)
{
    uint8_t data[PROBE_BYTES];
    struct batch_builder builder;
    const struct record record = {.value = {(const uint8_t *)"probe", 5}, .timestamp = host_wall_ms(r->host)};
    const ProduceRequest request = {.group = group, .acks = 1, .timeout_ms = 30000};
    batch_builder_begin(&builder, data, sizeof data);
    enum err error = batch_builder_append(&builder, &record);
    ASSERT(error == OK);
    uint32_t size = batch_builder_finish(&builder);
    batch_seal(data, size);
    const struct host_reply *reply = call(r, FRAME_PRODUCE, &request, data, size);
    if (reply != NULL && reply->message.as_ProduceReply.status != OK) {
        fail(r, "S11: nothing can be added", group, err_name((enum err)reply->message.as_ProduceReply.status));
    }
}

/* --- all of it --- */

bool view_read(const struct oracle *oracle, const char *dir, uint64_t seed, uint64_t probe, struct view *ret_view,
               char why[VERIFY_WHY_BYTES])
{
    struct reader r = {.oracle = oracle, .view = ret_view, .why = why};
    const struct trace trace = {.level = TRACE_WARN, .sink = on_line, .context = &r};
    struct config config;
    int code = 0;
    host_config(&config);
    *ret_view = (struct view){0};
    const struct host_options options = {
        .dir = dir, .config = &config, .trace = &trace, .seed = seed, .wall_ms = oracle->wall_ms + 1};
    enum err error = host_open(&options, &r.host, &code);
    if (error != OK) {
        r.host = NULL;
        fail(&r, "S11: the broker does not start", 0, err_name(error));
        return false;
    }
    wait_for_logs(&r);
    for (uint32_t i = 0; i < ret_view->logs_count && !r.failed; i++) {
        if (!ret_view->logs[i].is_corrupt) {
            read_log(&r, &ret_view->logs[i]);
        }
    }
    if (probe != 0 && !r.failed) {
        take_probe(&r, probe);
    }
    host_close(r.host);
    return !r.failed;
}

void view_free(struct view *view)
{
    for (uint32_t i = 0; i < view->logs_count; i++) {
        free(view->logs[i].pieces);
    }
    free(view->logs);
    *view = (struct view){0};
}

/* --- comparing --- */

const struct view_log *view_log(const struct view *view, uint64_t group)
{
    for (uint32_t i = 0; i < view->logs_count; i++) {
        if (view->logs[i].group == group)
            return &view->logs[i];
    }
    return NULL;
}

static bool piece_same(const struct view_piece *a, const struct view_piece *b)
{
    return a->kind == b->kind && a->base_offset == b->base_offset && a->end_offset == b->end_offset && a->crc == b->crc;
}

bool view_same(const struct view_log *a, const struct view_log *b)
{
    if (a->is_corrupt || b->is_corrupt)
        return a->is_corrupt == b->is_corrupt;
    bool same =
        a->log_start == b->log_start && a->high_watermark == b->high_watermark && a->pieces_count == b->pieces_count;
    for (uint32_t i = 0; i < a->pieces_count && same; i++) {
        same = piece_same(&a->pieces[i], &b->pieces[i]);
    }
    return same;
}

bool view_holds(const struct view_log *log, const struct view_log *old)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < old->pieces_count; i++) {
        if (old->pieces[i].kind != VIEW_RECORDS)
            continue;
        while (at < log->pieces_count && log->pieces[at].base_offset < old->pieces[i].base_offset) {
            at++;
        }
        if (at == log->pieces_count || !piece_same(&log->pieces[at], &old->pieces[i]))
            return false;
    }
    return true;
}

static bool has_corrupt(const struct view_log *log)
{
    bool found = log->is_corrupt;
    for (uint32_t i = 0; i < log->pieces_count; i++) {
        found = found || log->pieces[i].kind == VIEW_CORRUPT;
    }
    return found;
}

bool view_same_records(const struct view_log *a, const struct view_log *b)
{
    return !has_corrupt(a) && !has_corrupt(b) && a->log_start == b->log_start &&
           a->high_watermark == b->high_watermark && view_holds(a, b) && view_holds(b, a);
}

void view_print(const struct view_log *log, char text[VIEW_TEXT_BYTES])
{
    static const char signs[] = {[VIEW_RECORDS] = '+', [VIEW_EMPTY] = '-', [VIEW_CORRUPT] = '!'};
    if (log == NULL || log->is_corrupt) {
        snprintf(text, VIEW_TEXT_BYTES, "%s", log == NULL ? "absent" : "CORRUPT");
        return;
    }
    int length = snprintf(text, VIEW_TEXT_BYTES, "%ld to %ld:", log->log_start, log->high_watermark);
    for (uint32_t i = 0; i < log->pieces_count && length + 24 < VIEW_TEXT_BYTES; i++) {
        if (i + 1 == log->pieces_count || log->pieces[i + 1].kind != log->pieces[i].kind) {
            length += snprintf(text + length, VIEW_TEXT_BYTES - (size_t)length, " %c%ld", signs[log->pieces[i].kind],
                               log->pieces[i].end_offset);
        }
    }
}
