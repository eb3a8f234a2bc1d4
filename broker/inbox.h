/* Where the bytes of a connection land and wait until their frame is whole: memory by what arrived, not by what was
 * promised.
 *
 * Everybody reads into one chunk that all connections share; requests are handled where they landed. What is left of a
 * frame moves: a little of it (INBOX_PARKED_BYTES_MAX) into memory of just its size, more into a chunk of the
 * connection's own, into which it goes on reading as long as its frames keep coming in pieces. So an idle connection
 * holds nothing, a slow one what it sent, and small batches of many producers stand side by side in few chunks, which
 * is what the caches of newest batches keep alive.
 *
 * `struct receive` is the broker's, `struct inbox` a connection's. What inboxes hold beyond one callback is counted and
 * bounded by the budget: without room inbox_settle says ERR_BUSY, and the connection is not read until there is some.
 * Batches that were kept (inbox_keep) count elsewhere. Loop thread. */
#ifndef FLOTILLA_BROKER_INBOX_H
#define FLOTILLA_BROKER_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct receive {
    struct buf_pool *chunks; /* owned; RECEIVE_CHUNK_BYTES each */
    struct buf *shared;      /* owned reference; NULL: none yet */
    uint32_t shared_used;    /* bytes at its front that somebody keeps */
    uint64_t budget_bytes;
    uint64_t held_bytes;     /* of all inboxes: parked, and own chunks by capacity */
    uint32_t owners;         /* inboxes with a chunk of their own; the first one may always have it */
    struct buf_meter *large; /* owned; frames above a chunk's size, until their last reference goes */
};

void receive_init(struct receive *receive, uint64_t budget_bytes);
void receive_deinit(struct receive *receive);          /* every inbox is cleared; bufs that are still kept live on */
bool receive_has_room(const struct receive *receive);  /* for one more chunk in somebody's inbox */
uint64_t receive_bytes(const struct receive *receive); /* all of it: chunks, large frames, parked bytes */

struct inbox {
    struct receive *receive;
    struct buf *chunk; /* owned reference; its own, or within a callback the shared one; NULL: none */
    uint32_t start;    /* first byte not handled */
    uint32_t end;      /* after the last byte received */
    uint32_t kept;     /* bytes at the front of a shared chunk that somebody keeps */
    bool is_shared;
    uint8_t *parked; /* owned; a small beginning of a frame; NULL: none */
    uint32_t parked_bytes;
};

void inbox_init(struct inbox *inbox, struct receive *receive);
/* Drops everything. Not while a frame of it is being handled. */
void inbox_clear(struct inbox *inbox);

/* Memory for the next read, for bytes that will follow those held; at most size_max of them, at least 1.
 * ERR_NO_MEMORY. */
enum err inbox_space(struct inbox *inbox, uint32_t size_max, uint8_t **ret_data, size_t *ret_size);
/* `size` bytes stand there now; no other inbox was asked in between. inbox_settle must follow in the same callback. */
void inbox_filled(struct inbox *inbox, uint32_t size);

/* The bytes not handled; valid until the next call. Parked ones cannot be seen: inbox_open brings them. */
const uint8_t *inbox_data(const struct inbox *inbox);
uint32_t inbox_size(const struct inbox *inbox);
uint32_t inbox_held(const struct inbox *inbox);         /* not handled, parked or not */
uint64_t inbox_memory_bytes(const struct inbox *inbox); /* that it counts for in held_bytes */
void inbox_consume(struct inbox *inbox, uint32_t size);
/* A reference to bytes of the frame being handled, which may then be changed by nobody but the caller. */
struct slice inbox_keep(struct inbox *inbox, const uint8_t *data, uint32_t size);

/* Brings parked bytes to where they can be parsed, for a session that goes on without a read. ERR_NO_MEMORY. */
enum err inbox_open(struct inbox *inbox);
/* End of a callback: what is not handled moves out of the shared chunk. needed: bytes the frame at hand will have, 0 if
 * unknown. ERR_BUSY: it moved, but there is no room to receive the rest; ERR_NO_MEMORY: it could not even move. */
enum err inbox_settle(struct inbox *inbox, uint64_t needed);
/* A connection that had nothing to say for a while gives back its own chunk, or what is unused of it. */
void inbox_rest(struct inbox *inbox);

#endif
