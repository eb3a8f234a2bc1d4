/* Shares and sums; who acts on them is elsewhere. */
#include "broker/memory.h"

#include "broker/fetch.h"
#include "broker/impl.h"

static uint64_t memory__share(const struct broker *b, uint32_t parts)
{
    return b->config->memory_bytes / parts;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t memory_bytes(const struct broker *b)
{
    return receive_bytes(&b->receive) + peers_bytes(b->peers) + store_read_bytes(b->store) +
           buf_meter_bytes(b->replies) + (uint64_t)b->requests_count * REQUEST_BYTES +
           (uint64_t)b->sessions_count * CONNECTION_BYTES;
}

uint64_t memory_inflight_max(const struct broker *b)
{
    uint64_t bytes = smaller(b->config->inflight_bytes, memory__share(b, MEMORY_INFLIGHT_PARTS));
    return smaller(bytes, b->config->wal_budget_bytes / WAL_BATCH_PARTS); /* all of it may come on top of a full one */
}

uint64_t memory_queue_max(const struct broker *b)
{
    return smaller(STORE_QUEUE_BYTES_MAX, memory__share(b, MEMORY_TAIL_PARTS));
}

uint64_t memory_receive_max(const struct broker *b)
{
    return memory__share(b, MEMORY_RECEIVE_PARTS);
}

uint64_t memory_tail_max(const struct broker *b)
{
    return memory__share(b, MEMORY_TAIL_PARTS);
}

uint64_t memory_kept_max(const struct broker *b)
{
    return memory__share(b, MEMORY_KEPT_PARTS);
}

uint64_t memory_peers_max(const struct broker *b)
{
    return memory__share(b, MEMORY_PEERS_PARTS);
}

static uint64_t memory__requests_max(const struct broker *b)
{
    return memory__share(b, MEMORY_REQUEST_PARTS) / REQUEST_BYTES;
}

bool memory_has_requests(const struct broker *b)
{
    return b->requests_count < memory__requests_max(b) / 2;
}

bool memory_full_of_requests(const struct broker *b)
{
    return b->requests_count >= memory__requests_max(b);
}

bool memory_receive_is_short(const struct broker *b)
{
    return !TAILQ_EMPTY(&b->waits[SESSION_WAITS_FOR_MEMORY]);
}

bool memory_send_is_short(const struct broker *b)
{
    return b->send_bytes > memory__share(b, MEMORY_SEND_PARTS) / 2;
}

uint64_t memory_send_share(const struct broker *b)
{
    return memory_send_is_short(b) ? REPLY_BYTES_MIN
                                   : smaller(CONNECTION_SEND_BYTES_MAX, memory__share(b, MEMORY_SEND_PARTS) / 4);
}

uint32_t memory_fetch_max(const struct broker *b)
{
    if (b->send_bytes >= memory__share(b, MEMORY_SEND_PARTS) ||
        store_read_bytes(b->store) >= memory__share(b, MEMORY_READ_PARTS) + STORE_READ_BUFS_KEPT * STORE_READ_BYTES) {
        return 0;
    }
    return memory_send_is_short(b) ? REPLY_BYTES_MIN : FETCH_BYTES_MAX;
}

void memory_turn(struct broker *b)
{
    uint64_t used = memory_bytes(b);
    uint64_t budget = b->config->memory_bytes;
    if (used > budget - budget / 8 && store_tail_bytes(b->store) > 0) { /* of it, all: a byte may keep a chunk */
        store_limit_tail(b->store, store_tail_bytes(b->store) / 2);
    } else if (used < budget / 2) {
        store_limit_tail(b->store, memory_tail_max(b));
    }
}
