/* libflotilla: the client of the Flotilla message broker. This header is its manual.
 *
 * NOUNS
 *   client    the connections to a cluster and what is known of it (brokers, topics, leaders)
 *   producer  appends records to one topic
 *   consumer  reads one or all partitions of one topic from a position you choose
 *   record    {key, value, headers, timestamp}; records travel and are stored in batches; within a partition each has
 * an offset
 *
 * LOOP AND THREADS. Everything runs on the caller's uv_loop_t; no thread is made. A client and all that hangs off it
 * belong to the thread that runs this loop. No function blocks. No callback is made from inside the call that caused
 * it, except where it says so; a callback may call any function of the library, also close what called it.
 *
 * OWNERSHIP. Handles (client, producer, consumer) are made by x_new or x_open and given back by x_close, which is
 * asynchronous: the handle must not be used after the call of x_close, its callbacks are no longer made except
 * on_closed, and its memory is gone when on_closed returns. Close producers and consumers before their client. Strings
 * and structs passed in are copied; what is handed out says how long it is valid.
 *
 * ERRORS are enum flo_error; the numbers are stable. FLO_FULL and FLO_AGAIN are no errors: they say "wait for the
 * callback".
 *
 * OPTIONS. Fill a struct with its x_options_init first, then change what you need: fields that a later version adds get
 * their default.
 *
 * A producer in short (errors left out):
 *     flo_client_options_init(&co);           co.brokers = "127.0.0.1:9640";
 *     flo_client_new(loop, &co, &client);
 *     flo_producer_options_init(&po);         po.topic = "t"; po.on_writable = fill; po.on_delivered = count;
 *     flo_producer_open(client, &po, &producer);
 *     fill():  while (more && flo_producer_send(producer, &record) == FLO_OK) next();
 *     uv_run(loop, UV_RUN_DEFAULT);
 */
#ifndef FLOTILLA_CLIENT_FLOTILLA_H
#define FLOTILLA_CLIENT_FLOTILLA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FLO_API __attribute__((visibility("default")))

/* Below 100: said by a broker. From 100: by this library. */
enum flo_error {
    FLO_OK = 0,
    FLO_INTERNAL = 1,
    FLO_INVALID = 2, /* an argument or a request is wrong */
    FLO_UNSUPPORTED = 3,
    FLO_UNKNOWN_TOPIC = 4,
    FLO_UNKNOWN_PARTITION = 5,
    FLO_NOT_LEADER = 6,
    FLO_NOT_READY = 7,
    FLO_TOO_LARGE = 8,
    FLO_CORRUPT_BATCH = 9,
    FLO_OUT_OF_RANGE = 10,
    FLO_BUSY = 11,
    FLO_TIMEOUT = 12,         /* deadline passed; whether it happened is unknown */
    FLO_UNKNOWN_OUTCOME = 13, /* connection or leadership was lost; whether it happened is unknown */
    FLO_FENCED = 14,          /* a newer producer with this name exists */
    FLO_OUT_OF_ORDER = 15,
    FLO_STALE = 16,
    FLO_UNKNOWN_PRODUCER = 17,
    FLO_TOPIC_EXISTS = 18,
    FLO_INVALID_TOPIC = 19,
    FLO_INVALID_CONFIG = 20,
    FLO_NOT_ENOUGH_BROKERS = 21,
    FLO_STORAGE_FULL = 22,
    FLO_CORRUPT = 23,
    FLO_SHUTTING_DOWN = 24,
    FLO_BAD_FRAME = 25,
    FLO_NO_MEMORY = 101,
    FLO_CLOSED = 107,    /* the handle, or the connection, was closed */
    FLO_REFUSED = 108,   /* no broker could be reached */
    FLO_ADDRESS = 109,   /* not HOST:PORT */
    FLO_CANCELLED = 110, /* given up by a close */
    FLO_AGAIN = 113,     /* nothing there now: wait for on_readable */
    FLO_FULL = 200,      /* no room now: wait for on_writable */
};

/* One line for people; never NULL, static. */
FLO_API const char *flo_error_text(enum flo_error error);

/* "0.1.0"; static. */
FLO_API const char *flo_version(void);

/* --------------------------------------------------------------------------------------------------- client */

struct flo_client;

struct flo_client_options {
    const char *brokers;   /* "HOST:PORT[,HOST:PORT]": first contact only, the rest is asked from whoever answers */
    const char *client_id; /* for the broker's log; may be NULL */
    uint32_t timeout_ms;   /* deadline of a request, 30000 */
    uint32_t connect_timeout_ms; /* nobody answered until then at first contact: FLO_REFUSED; 3000 */
    uint64_t reserved[4];
};

FLO_API void flo_client_options_init(struct flo_client_options *options);

/* Makes no connection yet. FLO_ADDRESS: brokers is malformed. */
FLO_API enum flo_error flo_client_new(uv_loop_t *loop, const struct flo_client_options *options,
                                      struct flo_client **ret_client);

/* Requests under way end with FLO_CANCELLED. on_closed may be NULL. */
FLO_API void flo_client_close(struct flo_client *client, void (*on_closed)(void *context), void *context);

/* --------------------------------------------------------------------------------------------------- topics */

#define FLO_REPLICAS_MAX 7

/* What a topic may be told; a field counts when its has_ is true, else the broker's [topic] default holds. */
struct flo_topic_config {
    bool has_segment_bytes, has_segment_ms, has_retention_bytes, has_retention_ms, has_max_batch_bytes;
    uint64_t segment_bytes;
    int64_t segment_ms;
    int64_t retention_bytes; /* -1: keep */
    int64_t retention_ms;    /* -1: keep */
    uint32_t max_batch_bytes;
    uint32_t replicas; /* filled by describe; not read by create */
};

struct flo_topic_spec {
    const char *name;
    uint32_t partitions; /* 0: the broker's default */
    uint32_t replicas;   /* 0: automatic */
    struct flo_topic_config config;
    uint32_t timeout_ms; /* 0: the client's */
};

/* detail: more than the error's text, from the broker; "" if there is none; valid during the callback. */
typedef void (*flo_topic_cb)(void *context, enum flo_error error, const char *detail);

/* Ends when every partition has a leader. FLO_UNKNOWN_OUTCOME: the connection broke after the request was sent. */
FLO_API enum flo_error flo_topic_create(struct flo_client *client, const struct flo_topic_spec *spec,
                                        flo_topic_cb on_done, void *context);
FLO_API enum flo_error flo_topic_delete(struct flo_client *client, const char *name, flo_topic_cb on_done,
                                        void *context);

struct flo_broker_info {
    uint64_t id;
    const char *host;
    uint32_t port;
    const char *rack;
};

enum flo_partition_state {
    FLO_PARTITION_BIRTH = 1,
    FLO_PARTITION_LIVE = 2,
    FLO_PARTITION_DAMAGED = 3,
    FLO_PARTITION_DEAD = 4,
    FLO_PARTITION_PARTLY = 5 /* live, with ranges that are damaged and not served */
};

#define FLO_DAMAGED_RANGES_MAX 8

struct flo_offset_range {
    int64_t from_offset, end_offset; /* end: behind the last one */
};

struct flo_partition_info {
    uint32_t partition;
    uint64_t group;
    uint64_t leader; /* broker id, 0: none known */
    uint64_t term;
    uint32_t replicas_count, in_sync_count;
    uint64_t replicas[FLO_REPLICAS_MAX], in_sync[FLO_REPLICAS_MAX]; /* broker ids */
    enum flo_error error; /* FLO_OK: log_start and high_watermark are the leader's own */
    int64_t log_start, high_watermark;
    uint32_t state;          /* enum flo_partition_state, 0: not known */
    uint32_t damaged_ranges; /* how many ranges of offsets are not served; the first of them: */
    struct flo_offset_range damaged[FLO_DAMAGED_RANGES_MAX];
};

struct flo_topic_info {
    enum flo_error error;
    const char *name;
    bool internal; /* of the brokers themselves: no records to produce or consume */
    uint8_t id[16];
    uint32_t state;
    struct flo_topic_config config;
    uint32_t partitions_count;
    const struct flo_partition_info *partitions;
};

struct flo_cluster_info {
    uint8_t cluster_id[16];
    uint32_t brokers_count, topics_count;
    const struct flo_broker_info *brokers;
    const struct flo_topic_info *topics;
};

/* info is NULL unless error is FLO_OK; valid during the callback. */
typedef void (*flo_describe_cb)(void *context, enum flo_error error, const struct flo_cluster_info *info);

/* topic NULL: all topics. offsets: also asks every partition's leader for log_start and high_watermark. A topic that
 * does not exist is error FLO_UNKNOWN_TOPIC. */
FLO_API enum flo_error flo_describe(struct flo_client *client, const char *topic, bool offsets, flo_describe_cb on_done,
                                    void *context);

/* -------------------------------------------------------------------------------------------------- records */

struct flo_header {
    const void *key;
    size_t key_size;
    const void *value; /* NULL: null value */
    size_t value_size;
};

#define FLO_ANY_PARTITION (-1)
#define FLO_NOW           (-1)

struct flo_record {
    const void *key; /* NULL: none */
    size_t key_size;
    const void *value; /* NULL: null, which is not the empty value */
    size_t value_size;
    const struct flo_header *headers;
    size_t headers_count;
    int64_t timestamp_ms; /* UNIX time; FLO_NOW */
    int32_t partition; /* FLO_ANY_PARTITION: by key (murmur2 as Kafka's clients do); without a key one that changes per
                          batch */
    uint64_t tag;      /* given back with the delivery if flo_producer_options.tags is set */
};

/* ------------------------------------------------------------------------------------------------- producer */

struct flo_producer;

enum flo_acks { FLO_ACKS_ALL = -1, FLO_ACKS_NONE = 0, FLO_ACKS_LEADER = 1 };
/* The library compresses a batch when it is closed; one that gets no smaller is sent as it is. Consumers open all of
 * them. Measured on 128 KiB of JSON records: lz4 and snappy make 28 and 31 % of them in 0.1 ms, zstd 18 % in 0.24 ms,
 * gzip 18 % in 0.9 ms. */
enum flo_codec {
    FLO_CODEC_NONE = 0,
    FLO_CODEC_GZIP = 1,
    FLO_CODEC_SNAPPY = 2,
    FLO_CODEC_LZ4 = 3,
    FLO_CODEC_ZSTD = 4,
};

/* What became of one batch: records_count records, in the order of their sending. */
struct flo_delivery {
    uint32_t partition;
    enum flo_error error;
    int64_t base_offset; /* of the first record, the others follow; -1: unknown (error, or acks below all) */
    uint32_t records_count;
    uint64_t bytes;       /* of keys, values and headers as they were handed in */
    const uint64_t *tags; /* records_count of them, valid during the callback; NULL without options.tags */
};

struct flo_producer_options {
    const char *topic;
    const char *name; /* NULL: anonymous. A name keeps its id across processes, and fences the one who had it before. */
    enum flo_acks acks;
    enum flo_codec codec;
    uint32_t
        linger_ms; /* a batch waits that long to fill; 0: goes when nothing of its partition is on the way; default 5 */
    uint32_t batch_bytes;  /* 128 KiB */
    uint32_t timeout_ms;   /* a record's deadline from flo_producer_send on; default: the client's */
    uint64_t memory_bytes; /* bound on all batches; 32 MiB */
    bool tags;
    void *context;
    /* Topic and producer id are known, or never will be (FLO_UNKNOWN_TOPIC, FLO_REFUSED ...; then close it). May be
     * NULL. */
    void (*on_open)(void *context, enum flo_error error);
    /* flo_producer_send said FLO_FULL before and has room now; also once after on_open(FLO_OK). */
    void (*on_writable)(void *context);
    /* Exactly once for every record accepted by flo_producer_send, in order within a partition. */
    void (*on_delivered)(void *context, const struct flo_delivery *delivery);
    uint64_t reserved[4];
};

FLO_API void flo_producer_options_init(struct flo_producer_options *options);

/* Guarantees. acks all: a record is stored once, however often the library had to send it, also across restarts of
 * brokers; a batch is retried until its deadline. When the deadline passes with an unknown outcome, its delivery and
 * those behind it that were sent say so (FLO_TIMEOUT, FLO_UNKNOWN_OUTCOME); an anonymous producer then goes on under a
 * new id; a named one has failed: every record ends with that error until it is opened again. FLO_FENCED fails a
 * producer for good, too. acks leader, none: retries may duplicate, and a fail-over may lose; deliveries carry no
 * offset; none: delivered means written to the connection. */
FLO_API enum flo_error flo_producer_open(struct flo_client *client, const struct flo_producer_options *options,
                                         struct flo_producer **ret_producer);

/* Copies the record into its partition's batch. FLO_OK: on_delivered will follow. Otherwise nothing was taken: FLO_FULL
 * (also before on_open), FLO_TOO_LARGE, FLO_UNKNOWN_PARTITION, FLO_INVALID (64-bit sizes that no batch holds), or the
 * error that failed the producer. */
FLO_API enum flo_error flo_producer_send(struct flo_producer *producer, const struct flo_record *record);

/* Sends what lingers. on_flushed comes when every record accepted so far has been delivered. One flush at a time:
 * FLO_BUSY. */
FLO_API enum flo_error flo_producer_flush(struct flo_producer *producer, void (*on_flushed)(void *context),
                                          void *context);

/* Partitions of the topic; 0 before on_open. */
FLO_API uint32_t flo_producer_partitions(const struct flo_producer *producer);

/* The id under which it writes; -1 if it has none (yet). */
FLO_API int64_t flo_producer_id(const struct flo_producer *producer);

/* Flush first if deliveries matter: records not delivered yet are forgotten without a callback. */
FLO_API void flo_producer_close(struct flo_producer *producer, void (*on_closed)(void *context), void *context);

/* ------------------------------------------------------------------------------------------------- consumer */

struct flo_consumer;

enum flo_start {
    FLO_START_EARLIEST,
    FLO_START_LATEST,
    FLO_START_OFFSET, /* start_value: the offset */
    FLO_START_TAIL,   /* start_value: that many records before the end, per partition */
    FLO_START_TIME,   /* start_value: the first record at or after this UNIX time in ms; later than all: the end */
};

struct flo_consumer_options {
    const char *topic;
    int32_t partition; /* FLO_ANY_PARTITION: all */
    enum flo_start start;
    int64_t start_value;
    uint32_t fetch_bytes;    /* asked for at once; 1 MiB */
    uint32_t wait_ms;        /* how long a fetch at the end waits at the broker; 1000 */
    uint32_t timeout_ms;     /* a partition that cannot be read for so long is reported; default: the client's */
    uint64_t prefetch_bytes; /* bound on what was fetched and not yet released; 16 MiB */
    void *context;
    void (*on_open)(void *context, enum flo_error error); /* as the producer's; may be NULL */
    /* flo_consumer_next said FLO_AGAIN before, and has something now; also the first time. */
    void (*on_readable)(void *context);
    uint64_t reserved[4];
};

FLO_API void flo_consumer_options_init(struct flo_consumer_options *options);
FLO_API enum flo_error flo_consumer_open(struct flo_client *client, const struct flo_consumer_options *options,
                                         struct flo_consumer **ret_consumer);

enum flo_fetched_kind {
    FLO_FETCHED_RECORDS,
    FLO_FETCHED_END,   /* everything up to the high watermark has been handed out; more may come */
    FLO_FETCHED_SKIP,  /* records [base_offset, next_offset) are no longer stored (retention) and were passed over */
    FLO_FETCHED_ERROR, /* see error. FLO_CORRUPT_BATCH, FLO_TOO_LARGE (opened batch) and FLO_OUT_OF_RANGE end this
                        * partition; after others the library goes on trying. */
};

/* What flo_consumer_next hands out: for RECORDS one batch, whose memory the caller holds until flo_fetched_release. */
struct flo_fetched {
    enum flo_fetched_kind kind;
    enum flo_error error;
    uint32_t partition;
    int64_t base_offset;
    int64_t next_offset; /* where reading this partition goes on after it */
    int64_t high_watermark;
    uint32_t records_count; /* as the batch says; flo_fetched_next may give fewer when reading started inside it */
    uint64_t internal[12];
};

/* A record as it lies in the batch: pointers are valid until flo_fetched_release. */
struct flo_message {
    int64_t offset;
    int64_t timestamp_ms;
    const void *key; /* NULL: none */
    size_t key_size;
    const void *value; /* NULL: null */
    size_t value_size;
    uint32_t headers_count;
    const uint8_t *headers; /* encoded: read them with flo_message_header */
    uint32_t headers_size;
};

/* FLO_AGAIN: nothing now. FLO_OK: *ret_fetched is filled; give it back with flo_fetched_release (in any order; holding
 * many stops the fetching at prefetch_bytes). The batch's CRC was verified and its codec undone. */
FLO_API enum flo_error flo_consumer_next(struct flo_consumer *consumer, struct flo_fetched *ret_fetched);

/* The next record of a RECORDS item. FLO_AGAIN: that was the last. FLO_CORRUPT_BATCH: the rest cannot be read. */
FLO_API enum flo_error flo_fetched_next(struct flo_fetched *fetched, struct flo_message *ret_message);

FLO_API void flo_fetched_release(struct flo_consumer *consumer, struct flo_fetched *fetched);

/* Takes the next header off a message (headers_count goes down); false: no more. */
FLO_API bool flo_message_header(struct flo_message *message, struct flo_header *ret_header);

FLO_API uint32_t flo_consumer_partitions(const struct flo_consumer *consumer); /* being read; 0 before on_open */

/* Release everything first. */
FLO_API void flo_consumer_close(struct flo_consumer *consumer, void (*on_closed)(void *context), void *context);

#ifdef __cplusplus
}
#endif

#endif
