/* Fetch requests: served from memory or by a read job, or waiting on their partition until there is something to read.
 * They never poll. */
#ifndef FLOTILLA_BROKER_FETCH_H
#define FLOTILLA_BROKER_FETCH_H

#include "broker/impl.h"

/* Room for what a fetch is answered with: large, so a fetch that waits has none. */
struct fetch_read {
    struct segment_read read; /* first: done() casts back */
    struct fetch *fetch;
    TAILQ_ENTRY(fetch_read) free_link; /* broker->read_free */
};

struct fetch {
    struct fetch_read *read; /* NULL: waits, or was refused */
    struct confirm confirm;
    TAILQ_ENTRY(fetch) partition_link; /* p->fetches while waiting; broker->fetch_free while recycled */
    TAILQ_ENTRY(fetch) waiting_link;   /* broker->fetch_waiting */
    struct session *session;           /* held */
    struct partition *partition;
    uint64_t request_id;
    int64_t offset;
    uint32_t bytes_min, bytes_max;
    uint64_t received_us, deadline_us;
    bool waiting;
    bool is_confirmed; /* that the log ends before `offset` is no mistake */
};

void fetch_request(struct session *s, const struct frame *frame);
void list_offsets_request(struct session *s, const struct frame *frame);
void fetch_wake(struct partition *p);                     /* the high watermark moved */
void fetch_fail_all(struct partition *p, enum err error); /* answers all that wait */
void fetch_sweep(struct broker *b, uint64_t now_us);      /* waits that are over */
void fetch_free_all(struct broker *b);

#endif
