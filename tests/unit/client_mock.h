/* A broker for the client's tests, in the test's own loop: one topic in memory, spoken to over real TCP. It judges
 * producers by the same rules as the real one (sequences per producer id and epoch, the last five batches known) and
 * lets a test spoil any answer. */
#ifndef FLOTILLA_TESTS_UNIT_CLIENT_MOCK_H
#define FLOTILLA_TESTS_UNIT_CLIENT_MOCK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <uv.h>

#include "base/batch.h"
#include "base/limits.h"
#include "client/flotilla.h"
#include "wire/codec.h"
#include "wire/records.h"

#define MOCK_PARTITIONS_MAX  8
#define MOCK_BATCHES_MAX     4096
#define MOCK_PRODUCERS_MAX   64
#define MOCK_CONNECTIONS_MAX 256
#define MOCK_RECEIVE_BYTES   (8u << 20)
#define MOCK_GROUP_FIRST     100u /* group of partition p: MOCK_GROUP_FIRST + p + generation * 1000 */

/* What a test's hook wants done with a request, besides a plain status. */
enum {
    MOCK_STORE = 0,         /* as a broker does */
    MOCK_DROP_BEFORE = -1,  /* close the connection, nothing stored */
    MOCK_DROP_AFTER = -2,   /* stored, then the connection closes without a reply */
    MOCK_SILENT = -3,       /* nothing stored, never answered */
    MOCK_SILENT_AFTER = -4, /* stored, never answered */
    MOCK_HOLD = -5,         /* stored; answered by mock_release */
};

struct mock_batch {
    uint8_t *data;
    uint32_t size;
    struct batch_header header;
    int64_t base_offset;
};

struct mock_done {
    int32_t first, last;
    int64_t offset;
};

struct mock_producer {
    int64_t id;
    int16_t epoch;
    int32_t next;
    struct mock_done done[DONE_BATCHES]; /* newest first */
    uint32_t done_count;
};

struct mock_partition {
    uint64_t group;
    struct mock_batch batches[MOCK_BATCHES_MAX];
    uint32_t batches_count;
    int64_t next_offset, log_start;
    struct mock_producer producers[MOCK_PRODUCERS_MAX];
    uint32_t producers_count;
};

struct mock_connection {
    uv_tcp_t tcp;
    struct mock *mock;
    bool open;
    uint8_t *data;
    uint32_t size;
};

struct mock_held {
    struct mock_connection *connection;
    uint64_t request_id;
    ProduceReply reply;
};

struct mock_waiting { /* a long poll */
    struct mock_connection *connection;
    uint64_t request_id;
    FetchRequest request;
};

struct mock {
    uv_loop_t *loop;
    uv_tcp_t listener;
    bool listening;
    int port;
    char address[32];
    uint32_t partitions_count;
    struct mock_partition partitions[MOCK_PARTITIONS_MAX];
    struct mock_connection *connections[MOCK_CONNECTIONS_MAX];
    uint32_t connections_count;
    bool topic_exists;
    int64_t next_producer_id;
    int16_t next_epoch;
    uint32_t max_batch_bytes;
    struct mock_held held[1024];
    uint32_t held_count;
    struct mock_waiting waiting[64];
    uint32_t waiting_count;
    /* counters */
    uint32_t hellos, metadatas, inits, produces, fetches;
    /* hooks; NULL: MOCK_STORE */
    void *context;
    int (*on_produce)(struct mock *mock, uint32_t partition, const struct batch_header *header);
    int (*on_fetch)(struct mock *mock, uint32_t partition, const FetchRequest *request);
    int (*on_metadata)(struct mock *mock);
    int (*on_init)(struct mock *mock);
};

/* Listens on a free port, one topic "t". */
struct mock *mock_new(uv_loop_t *loop, uint32_t partitions_count);
void mock_free(struct mock *mock); /* after mock_stop and a last turn of the loop */

/* As kill -9 and a restart: connections and listener go, the log and the port stay. */
void mock_stop(struct mock *mock);
void mock_listen(struct mock *mock);

void mock_drop_all(struct mock *mock);
void mock_release(struct mock *mock); /* answers what MOCK_HOLD kept */

/* Appends a finished batch; returns its base offset. */
int64_t mock_store(struct mock_partition *partition, const uint8_t *data, uint32_t size);
void mock_wake_readers(struct mock *mock); /* long polls look again */

/* Calls visit for every record of a partition, in order. */
void mock_each_record(struct mock_partition *partition, void (*visit)(void *context, const struct record_view *record),
                      void *context);

#endif
