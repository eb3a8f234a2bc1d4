/* The promises of a broker, from marks. Everything is small and looked for from end to end. */
#include "oracle.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"

/* A zeroed place at the end of an array that doubles. */
static void *grow(void **io_array, uint32_t *io_count, size_t size)
{
    uint32_t count = *io_count;
    if (count == 0 || (count >= 16 && (count & (count - 1)) == 0)) {
        uint32_t room = count == 0 ? 16 : count * 2;
        *io_array = realloc(*io_array, room * size);
        ASSERT(*io_array != NULL);
    }
    *io_count = count + 1;
    return memset((uint8_t *)*io_array + count * size, 0, size);
}

static struct oracle_producer *oracle_producer(struct oracle *oracle, const char *name)
{
    for (uint32_t i = 0; i < oracle->producers_count; i++) {
        if (strcmp(oracle->producers[i].name, name) == 0) {
            return &oracle->producers[i];
        }
    }
    struct oracle_producer *p = grow((void **)&oracle->producers, &oracle->producers_count, sizeof *p);
    *p = (struct oracle_producer){.id = -1, .epoch = -1};
    memcpy(p->name, name, sizeof p->name);
    return p;
}

struct oracle_log *oracle_log(struct oracle *oracle, uint64_t group)
{
    for (uint32_t i = 0; i < oracle->logs_count; i++) {
        if (oracle->logs[i].group == group) {
            return &oracle->logs[i];
        }
    }
    struct oracle_log *log = grow((void **)&oracle->logs, &oracle->logs_count, sizeof *log);
    log->group = group;
    return log;
}

const struct oracle_topic *oracle_topic_of(const struct oracle *oracle, uint64_t group)
{
    for (uint32_t i = 0; i < oracle->topics_count; i++) {
        const struct oracle_topic *topic = &oracle->topics[i];
        for (uint32_t p = 0; topic->has_groups && p < topic->mark.partitions; p++) {
            if (topic->mark.groups[p] == group) {
                return topic;
            }
        }
    }
    return NULL;
}

struct oracle_batch *oracle_batch_find(struct oracle *oracle, uint64_t group, uint32_t crc, uint32_t size_bytes)
{
    for (uint32_t i = 0; i < oracle->batches_count; i++) {
        struct oracle_batch *batch = &oracle->batches[i];
        if (batch->crc == crc && batch->group == group && batch->size_bytes == size_bytes) {
            return batch;
        }
    }
    return NULL;
}

static void add_topic(struct oracle *oracle, const struct mark *mark)
{
    if (mark->kind == MARK_TOPIC_SENT) {
        struct oracle_topic *topic = grow((void **)&oracle->topics, &oracle->topics_count, sizeof *topic);
        *topic = (struct oracle_topic){.status = TOPIC_ASKED, .mark = *mark};
        ASSERT(mark->topic == oracle->topics_count - 1);
        return;
    }
    ASSERT(mark->topic < oracle->topics_count);
    struct oracle_topic *topic = &oracle->topics[mark->topic];
    if (mark->kind == MARK_TOPIC_LIVE) {
        topic->status = TOPIC_THERE;
        topic->has_groups = true;
        memcpy(topic->mark.groups, mark->groups, sizeof topic->mark.groups);
    } else {
        topic->status = mark->kind == MARK_TOPIC_GOING ? TOPIC_LEAVING : TOPIC_AWAY;
    }
}

static void add_batch(struct oracle *oracle, const struct mark *mark, const uint8_t *tail, uint32_t tail_size)
{
    struct batch_header header;
    ASSERT(mark->batch == oracle->batches_count);
    struct oracle_batch *batch = grow((void **)&oracle->batches, &oracle->batches_count, sizeof *batch);
    enum err error = batch_parse(tail, tail_size, &header);
    ASSERT(error == OK);
    uint8_t *copy = malloc(tail_size);
    ASSERT(copy != NULL);
    memcpy(copy, tail, tail_size);
    *batch = (struct oracle_batch){.group = mark->groups[0],
                                   .producer = mark->producer,
                                   .epoch = mark->epoch,
                                   .sequence = mark->sequence,
                                   .count = mark->count,
                                   .is_acks_all = mark->is_acks_all,
                                   .offset = -1,
                                   .sent_ms = mark->wall_ms,
                                   .data = copy,
                                   .size_bytes = tail_size,
                                   .crc = header.crc,
                                   .found = -1};
}

void oracle_add(struct oracle *oracle, const struct mark *mark, const uint8_t *tail, uint32_t tail_size)
{
    struct oracle_producer *producer;
    struct oracle_log *log;
    oracle->wall_ms = mark->wall_ms;
    switch ((enum mark_kind)mark->kind) {
    case MARK_TIME:
        return;
    case MARK_TOPIC_SENT:
    case MARK_TOPIC_GOING:
        add_topic(oracle, mark);
        return;
    case MARK_TOPIC_LIVE:
    case MARK_TOPIC_GONE:
        add_topic(oracle, mark);
        break;
    case MARK_INIT_SENT:
        oracle_producer(oracle, mark->name)->asked++;
        return;
    case MARK_INIT_DONE:
        producer = oracle_producer(oracle, mark->name);
        producer->answered++;
        producer->id = mark->producer;
        producer->epoch = mark->epoch;
        break;
    case MARK_BATCH_SENT:
        add_batch(oracle, mark, tail, tail_size);
        return;
    case MARK_BATCH_ACKED:
        ASSERT(mark->batch < oracle->batches_count);
        oracle->batches[mark->batch].is_acked = true;
        oracle->batches[mark->batch].offset = mark->offset;
        break;
    case MARK_SEEN:
        log = oracle_log(oracle, mark->groups[0]);
        log->high_watermark = mark->offset > log->high_watermark ? mark->offset : log->high_watermark;
        log->log_start = mark->log_start > log->log_start ? mark->log_start : log->log_start;
        break;
    }
    oracle->promises++;
}

void oracle_free(struct oracle *oracle)
{
    for (uint32_t i = 0; i < oracle->batches_count; i++) {
        free((void *)(uintptr_t)oracle->batches[i].data);
    }
    free(oracle->topics);
    free(oracle->batches);
    free(oracle->producers);
    free(oracle->logs);
}
