/* Inside the consumer: feeds (one per partition) and what they share.
 *
 *   consumer.c   the public functions: what is handed out, in which order, memory
 *   feed.c       one partition: where to start, one fetch after the other, trouble
 *
 * A feed has at most one fetch under way: where the next begins is known only from the reply. It is sent the moment the
 * reply is there, long before its records are taken, as long as all that waits stays below prefetch_bytes. */
#ifndef FLOTILLA_CLIENT_CONSUMER_H
#define FLOTILLA_CLIENT_CONSUMER_H

#include <sys/queue.h>

#include "client/client.h"
#include "wire/compress.h"
#include "wire/records.h"

/* The payload of one fetch reply, cut batch by batch as it is taken. */
struct chunk {
    STAILQ_ENTRY(chunk) link;
    struct slice bytes; /* a reference to the receive buffer */
    uint32_t taken;     /* bytes handed out */
    int64_t high_watermark;
};

enum feed_state { FEED_STARTING, FEED_READING, FEED_ENDED };

struct feed {
    struct flo_consumer *consumer;
    uint32_t partition;
    uint64_t group;
    enum feed_state state;
    struct request request;
    int64_t fetch_offset;   /* of the next fetch */
    int64_t give_offset;    /* of the next record handed out */
    bool may_wait;          /* nothing is there: the next fetch is a long poll */
    bool at_end;            /* END was said, or is due */
    uint64_t waiting_bytes; /* in chunks */
    STAILQ_HEAD(, chunk) chunks;
    /* Notices, given when the chunks before them are taken. */
    bool end_due, error_due, skip_due;
    int64_t end_offset; /* high watermark of that END */
    int64_t skip_from;
    enum err error;
    /* trouble */
    bool needs_metadata;
    uint32_t backoff_ms;
    uint64_t trouble_since_ms; /* 0: none */
    struct alarm retry;
    struct metadata_wait metadata_wait;
    bool ready; /* in consumer->ready */
    TAILQ_ENTRY(feed) ready_link;
    bool starved; /* in consumer->starved: waits for memory */
    TAILQ_ENTRY(feed) starved_link;
};

TAILQ_HEAD(feed_list, feed);

/* What one opened (decompressed) batch lives in until it is released. */
struct opener {
    struct decompressor decompressor;
    SLIST_ENTRY(opener) link;
};

struct flo_consumer {
    struct flo_client *client;
    struct flo_consumer_options options; /* topic: owned copy */
    struct metadata_topic *topic;
    struct metadata_wait metadata_wait;
    enum err failed;
    bool open;
    bool closing;
    bool was_empty;     /* flo_consumer_next said FLO_AGAIN */
    struct feed *feeds; /* owned */
    uint32_t feeds_count;
    uint32_t fetch_bytes;   /* asked for by each feed */
    struct feed_list ready; /* with something to give, in turns */
    struct feed_list starved;
    uint64_t held_bytes;          /* in chunks and in what is handed out */
    SLIST_HEAD(, opener) openers; /* free ones */
    void (*on_closed)(void *context);
    void *on_closed_context;
    struct turn turn;
};

/* ---- for feed.c ---- */
void consumer__mark_ready(struct flo_consumer *consumer, struct feed *feed);
bool consumer__has_room(const struct flo_consumer *consumer);

/* ---- for consumer.c ---- */
void feed__init(struct feed *feed, struct flo_consumer *consumer, uint32_t partition);
void feed__deinit(struct feed *feed);
void feed__start(struct feed *feed);
void feed__go_on(struct feed *feed);               /* fetches if nothing is under way and there is room */
void feed__drop_chunk(struct feed *feed);          /* the first one is used up */
void feed__end(struct feed *feed, enum err error); /* for good; the error is given out after what is there */
bool feed__has_something(const struct feed *feed);

#endif
