/* What a broker had promised at a moment: built from the marks on a tape, one after the other, and asked by verify.c.
 *
 * A mark is made at two moments of every change: when the client asks (from now on it may be there) and when the broker
 * answers (from now on it must). Between the two both are right. */
#ifndef FLOTILLA_CRASH_ORACLE_H
#define FLOTILLA_CRASH_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#define ORACLE_PARTITIONS_MAX 4

enum mark_kind {
    MARK_TOPIC_SENT = 1, /* topic, name, partitions, retention */
    MARK_TOPIC_LIVE,     /* topic, groups */
    MARK_TOPIC_GOING,    /* topic: its deletion was asked for */
    MARK_TOPIC_GONE,     /* topic */
    MARK_INIT_SENT,      /* name */
    MARK_INIT_DONE,      /* name, producer, epoch */
    MARK_BATCH_SENT,     /* batch, groups[0], producer, epoch, sequence, count; the batch follows */
    MARK_BATCH_ACKED,    /* batch, offset (-1: acks leader) */
    MARK_TIME,           /* wall_ms: it is at most so late until the next mark */
    MARK_SEEN,           /* groups[0], offset (high watermark), log_start: a client was told */
};

struct mark {
    uint32_t kind;
    uint32_t topic;
    uint32_t batch;
    uint32_t partitions;
    uint64_t groups[ORACLE_PARTITIONS_MAX];
    int64_t producer; /* -1: none, acks leader */
    int32_t epoch, sequence, count;
    uint32_t is_acks_all;
    int64_t offset, log_start;
    int64_t retention_bytes, retention_ms; /* -1: none */
    int64_t wall_ms;                       /* when the mark was made */
    char name[32];
};

enum topic_status { TOPIC_ASKED, TOPIC_THERE, TOPIC_LEAVING, TOPIC_AWAY };

struct oracle_topic {
    enum topic_status status;
    struct mark mark; /* of TOPIC_SENT, groups of TOPIC_LIVE */
    bool has_groups;
};

struct oracle_batch {
    uint64_t group;
    int64_t producer;
    int32_t epoch, sequence, count;
    bool is_acks_all, is_acked;
    int64_t offset; /* acked with acks all, else -1 */
    int64_t sent_ms;
    const uint8_t *data; /* as sent; owned by the oracle */
    uint32_t size_bytes, crc;
    int64_t found;  /* while verifying: where it was read, -1: nowhere */
    bool is_absent; /* a whole log was read without it, and it was not sent again */
};

struct oracle_producer {
    char name[32];
    int64_t id;    /* -1: never answered */
    int32_t epoch; /* the newest answered */
    uint32_t asked, answered;
};

struct oracle_log { /* of a group: what clients were told */
    uint64_t group;
    int64_t high_watermark, log_start;
};

struct oracle {
    struct oracle_topic *topics;
    uint32_t topics_count;
    struct oracle_batch *batches;
    uint32_t batches_count;
    struct oracle_producer *producers;
    uint32_t producers_count;
    struct oracle_log *logs;
    uint32_t logs_count;
    uint32_t promises; /* marks that bind the broker, so far */
    int64_t wall_ms;   /* of the last mark */
};

void oracle_add(struct oracle *oracle, const struct mark *mark, const uint8_t *tail, uint32_t tail_size);
void oracle_free(struct oracle *oracle);

struct oracle_log *oracle_log(struct oracle *oracle, uint64_t group);                    /* valid until the next call */
const struct oracle_topic *oracle_topic_of(const struct oracle *oracle, uint64_t group); /* NULL: none that is there */
struct oracle_batch *oracle_batch_find(struct oracle *oracle, uint64_t group, uint32_t crc, uint32_t size_bytes);

#endif
