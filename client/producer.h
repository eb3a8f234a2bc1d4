/* Inside the producer: batches, lanes (one per partition) and what they share.
 *
 *   producer.c   the public functions: where a record goes, memory, linger, deadlines, flush, close
 *   lane.c       one partition: sending in order, replies, retries, sequences
 *
 * A batch is OPEN while records are added, READY when closed, SENT while a reply is awaited, RETRY when it was sent and
 * may be again, DONE when its fate is known; it is delivered, oldest first, when all before it are DONE. */
#ifndef FLOTILLA_CLIENT_PRODUCER_H
#define FLOTILLA_CLIENT_PRODUCER_H

#include <sys/queue.h>

#include "client/client.h"
#include "wire/builder.h"
#include "wire/compress.h"

/* The broker remembers the last five batches of a producer (DONE_BATCHES): more in flight could not all be told from
 * duplicates. */
#define LANE_INFLIGHT_MAX       DONE_BATCHES
#define LANE_INFLIGHT_NO_LINGER 2u /* one on the wire, one at the broker: the rest gathers */

enum batch_state { BATCH_OPEN, BATCH_READY, BATCH_SENT, BATCH_RETRY, BATCH_DONE };

struct batch {
    TAILQ_ENTRY(batch) in_lane;
    TAILQ_ENTRY(batch) by_age;
    struct lane *lane;
    enum batch_state state;
    struct request request;
    struct buf *buf;
    struct batch_builder builder;
    uint32_t size_bytes; /* on the wire; 0 while open */
    uint64_t serial;     /* of opening, over all lanes */
    uint64_t opened_ms;  /* loop time */
    uint64_t bytes;      /* handed in */
    uint64_t *tags;      /* owned; NULL without options.tags */
    uint32_t tags_capacity;
    /* acks all */
    bool has_sequence;
    int32_t base_sequence;
    bool outcome_unknown; /* some try may have been stored */
    enum err error;       /* of the last try; DONE: the verdict */
    int64_t base_offset;
};

TAILQ_HEAD(batch_list, batch);

struct lane {
    struct flo_producer *producer;
    uint32_t partition;
    uint64_t group;
    struct batch *open;        /* NULL: none */
    bool open_due;             /* the open batch has lingered enough */
    struct batch_list batches; /* closed ones, oldest first */
    uint32_t in_flight;
    bool recovering; /* something went wrong: nothing is sent until all replies are in and the retry is due */
    bool needs_metadata;
    uint32_t backoff_ms;
    enum err last_error;
    struct alarm retry;
    struct metadata_wait metadata_wait;
    /* acks all */
    uint64_t identity;     /* of the producer, under which this lane numbers; 0: none */
    uint64_t identity_min; /* older ones must not be used any more */
    int32_t confirmed;     /* the sequence after the last batch that was stored */
    int32_t next_sequence;
    bool due; /* in producer->due */
    TAILQ_ENTRY(lane) due_link;
    bool lingering; /* in producer->lingering */
    TAILQ_ENTRY(lane) linger_link;
};

TAILQ_HEAD(lane_list, lane);

struct flo_producer {
    struct flo_client *client;
    struct flo_producer_options options; /* topic and name: owned copies */
    struct metadata_topic *topic;
    struct metadata_wait metadata_wait; /* of the opening */
    struct call init;
    bool open;
    bool closing;
    enum err failed; /* OK, or why nothing can be sent any more */
    bool idempotent;
    uint64_t identity; /* rises with every id or epoch given to us; 0: none yet */
    int64_t producer_id;
    int16_t producer_epoch;
    struct lane *lanes; /* owned */
    uint32_t lanes_count;
    uint32_t sticky;
    struct lane_list due;       /* to be pumped at the end of the turn */
    struct lane_list lingering; /* with an open batch, oldest first */
    struct batch_list ages;     /* all batches, oldest first */
    struct batch_list spare;    /* without buf */
    struct buf_pool *bufs;
    uint64_t memory_used;
    uint64_t next_serial;
    bool was_full;
    uint64_t flush_serial; /* 0: no flush */
    void (*on_flushed)(void *context);
    void *on_flushed_context;
    void (*on_closed)(void *context);
    void *on_closed_context;
    struct turn turn;
    struct alarm alarm;
    struct compressor compressor;
    struct buf *compressed; /* owned scratch */
};

/* ---- for lane.c ---- */

/* The batch's fate is known and its turn has come: callback, memory back. The producer may be closing afterwards. */
void producer__deliver(struct flo_producer *producer, struct batch *batch);
void producer__mark_due(struct flo_producer *producer, struct lane *lane);
void producer__renew_identity(struct flo_producer *producer); /* anonymous only; joins one under way */
void producer__fail(struct flo_producer *producer, enum err error);

/* ---- for producer.c ---- */

void lane__init(struct lane *lane, struct flo_producer *producer, uint32_t partition);
void lane__deinit(struct lane *lane);      /* cancels what is under way; batches are the producer's to free */
void lane__close_batch(struct lane *lane); /* open -> READY */
void lane__pump(struct lane *lane);
void lane__expire(struct lane *lane, struct batch *batch); /* its deadline has passed */
void lane__fail_all(struct lane *lane, enum err error);

#endif
