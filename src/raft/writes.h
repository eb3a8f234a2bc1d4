/* The writes of one replica: what the next one must hold, which ones are on their way, and what is durable.
 *
 * A write on its way is remembered as {id, index}: "when this id is durable, so is the log up to index". A truncation
 * lowers the index of all of them: an (index, term) that was written, cut off and written again while one sync stalls
 * is durable only with its second write (etcd's `append_aba_race`; dissertation section 10.2.1 lets the leader write in
 * parallel, which is where that race comes from). Owner: struct raft. */
#ifndef FLOTILLA_RAFT_WRITES_H
#define FLOTILLA_RAFT_WRITES_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/raft.h"

/* When more writes that added entries are on their way, the newest ones share a place and become durable together:
 * late, never early. */
#define WRITES_FLIGHTS_MAX 32u

struct writes_flight {
    uint64_t id;
    uint64_t index;
};

struct writes {
    uint64_t last_id;       /* handed out last */
    uint64_t persisted_id;  /* durable, with all before it */
    uint64_t hard_state_id; /* the write that held the newest hard state */
    uint64_t handed_index;  /* the log up to here has been handed out */
    uint64_t durable_index; /* the log up to here is durable */

    /* The next write, besides the entries above handed_index. */
    bool hard_state;
    uint64_t truncate_from; /* 0: none */

    uint32_t flights_first;
    uint32_t flights_count;
    uint32_t flights_capacity;     /* doubled up to WRITES_FLIGHTS_MAX: an idle group has one write at a time */
    struct writes_flight *flights; /* owned; a ring; ids rise, indexes never fall */
};

/* A log that ends at last_index, all of it durable. */
void writes__init(struct writes *w, uint64_t last_index);
void writes__done(struct writes *w);

/* Term or vote changed. */
void writes__hard_state(struct writes *w);

/* The entries >= from were cut off. */
void writes__truncate(struct writes *w, uint64_t from);

/* A snapshot up to index is durable. Either what was written behind it still counts, or nothing does that was. */
void writes__installed(struct writes *w, uint64_t index);
void writes__replaced(struct writes *w, uint64_t index);

/* True when there is something to write for a log that ends at last_index. */
bool writes__pending(const struct writes *w, uint64_t last_index);

/* Hands out the next write; id 0 when nothing is pending. */
void writes__take(struct writes *w, uint64_t term, uint64_t vote, uint64_t last_index, struct raft_write *ret_write);

/* All writes up to id are durable. Repeated and older ids change nothing; an id never handed out is a bug. */
void writes__persisted(struct writes *w, uint64_t id);

/* True when the newest term and vote are durable. */
bool writes__hard_state_durable(const struct writes *w);

void writes__check(const struct writes *w, uint64_t last_index);

#endif
