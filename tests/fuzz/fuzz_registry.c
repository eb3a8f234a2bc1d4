/* The embedded registry over hostile rows. Whatever stands in the checkpoint store, every operation calls back exactly
 * once; a failed one changes nothing; topics are visited only if all of their fields are possible; ids that were given
 * out never come again, nor ids below the counter; a group that was deleted stays deleted; and what was put comes back
 * field by field.
 *
 * Input: instructions of {bits 0-2 what, bits 3-7 which}, then arguments:
 *   0 a topic row with a right CRC     n, n bytes of protobuf under the name of topic `which`
 *   1 another row with a right CRC     kind (n, d, l, t), key n, n bytes, value n, n bytes
 *   2 a flipped bit                    of the row of topic `which`: 2 bytes
 *   3 a topic is put                   state, kind, partitions, a number
 *   4 a topic is deleted
 *   5 ids are reserved                 count
 *   6 a leader is published            group, term
 *   7 everything is loaded */
#include <stdlib.h>
#include <string.h>

#include "../sim/sim_kv.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "broker/registry_embedded.h"
#include "meta/row.h"
#include "ram_disk.h"
#include "wire/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define JOBS_MAX     64
#define TOPICS       4
#define DELETED_MAX  256
#define INSTRUCTIONS 32

struct bench {
    const uint8_t *data;
    size_t size;
    struct ram_disk disk;
    struct kv *kv;
    struct registry *registry;
    unsigned calls; /* of the last operation */
    enum err error;
    uint64_t next_id; /* no id below it may come any more; 0: the counter was tampered with */
    struct registry_topic put[TOPICS];
    bool is_put[TOPICS]; /* its row is what was put last */
    bool found[TOPICS];
    uint64_t deleted[DELETED_MAX]; /* groups */
    unsigned deleted_count, seen_count;
};

static struct bench bench;

static const char *const names[TOPICS] = {"a", "ab", "topic", "x.y-z_0"};

static uint8_t take(void)
{
    if (bench.size == 0)
        return 0;
    bench.size--;
    return *bench.data++;
}

static struct kv_bytes take_bytes(size_t count)
{
    struct kv_bytes bytes = {bench.data, count < bench.size ? count : bench.size};
    if (bytes.size > 0)
        bench.data += bytes.size;
    bench.size -= bytes.size;
    return bytes;
}

static void on_done(void *context, enum err error)
{
    bench.calls++;
    bench.error = error;
}

/* Lets the operation end; a failed one has changed nothing. */
static enum err finish(uint32_t hash_before)
{
    ram_disk_pump(&bench.disk, JOBS_MAX);
    ASSERT(bench.calls == 1 && !registry_embedded_is_busy(bench.registry));
    bench.calls = 0;
    ASSERT(bench.error == OK || sim_kv_hash(bench.kv) == hash_before);
    return bench.error;
}

/* --- rows --- */

static void put_raw(struct kv_bytes key, struct kv_bytes value)
{
    struct kv_txn *txn;
    ASSERT(bench.kv->ops->begin(bench.kv, true, &txn) == OK);
    ASSERT(row_put(bench.kv, txn, key, value) == OK && bench.kv->ops->commit(bench.kv, txn) == OK);
}

/* The key of the row that was put last, or of one that never was. */
static struct kv_bytes topic_key(unsigned which, uint8_t key[KV_KEY_BYTES_MAX])
{
    const struct registry_topic *put = &bench.put[which];
    size_t size = strlen(names[which]);
    memcpy(key, "Rt", 2);
    store_be64(key + 2, put->first_group > 0 ? put->first_group : 1 + which);
    store_be32(key + 10, put->partitions_count > 0 ? put->partitions_count : 1);
    memcpy(key + 14, names[which], size);
    store_be32(key + 14 + size, crc32c(0, key, 14 + size));
    return (struct kv_bytes){key, 18 + size};
}

static void put_topic_row(unsigned which)
{
    uint8_t key[KV_KEY_BYTES_MAX];
    struct kv_bytes value = take_bytes(take());
    bench.is_put[which] = false;
    put_raw(topic_key(which, key), value);
}

static void put_other_row(void)
{
    uint8_t key[KV_KEY_BYTES_MAX] = {'R'};
    key[1] = (uint8_t) "ndlt"[take() % 4];
    struct kv_bytes rest = take_bytes(take());
    memcpy(key + 2, rest.data != NULL ? rest.data : key, rest.size);
    struct kv_bytes value = take_bytes(take());
    if (key[1] == 'n')
        bench.next_id = 0;
    for (unsigned i = 0; i < TOPICS && key[1] == 't'; i++) {
        uint8_t its[KV_KEY_BYTES_MAX];
        struct kv_bytes its_key = topic_key(i, its);
        bool is_its = rest.size + 2 == its_key.size && memcmp(key, its, its_key.size) == 0;
        bench.is_put[i] = bench.is_put[i] && !is_its;
    }
    put_raw((struct kv_bytes){key, rest.size + 2}, value);
}

static void flip(unsigned which)
{
    uint8_t key[KV_KEY_BYTES_MAX];
    size_t bit = take() * 256u + take();
    if (sim_kv_flip_bit(bench.kv, topic_key(which, key), bit))
        bench.is_put[which] = false;
}

/* --- operations --- */

static void delete_topic(unsigned which)
{
    const struct registry_topic *topic = &bench.put[which];
    if (topic->partitions_count == 0)
        return;
    uint32_t hash = sim_kv_hash(bench.kv);
    bench.registry->ops->delete_topic(bench.registry, topic, on_done, NULL);
    if (finish(hash) != OK)
        return;
    bench.is_put[which] = false;
    for (uint32_t i = 0; i < topic->partitions_count && bench.deleted_count < DELETED_MAX; i++)
        bench.deleted[bench.deleted_count++] = topic->first_group + i;
}

static void put_topic(unsigned which)
{
    uint8_t state = take(), kind = take(), partitions = take(), number = take();
    struct registry_topic topic = {.state = TOPIC_CREATING + state % 3,
                                   .kind = TOPIC_DATA + kind % 2,
                                   .partitions_count = 1 + partitions % 16,
                                   .first_group = 1 + number,
                                   .first_replica = UINT64_MAX - number,
                                   .config = {.segment_bytes = (uint64_t)number << 40,
                                              .segment_ms = (int8_t)number,
                                              .retention_bytes = -1,
                                              .retention_ms = INT64_MAX - number,
                                              .max_batch_bytes = (uint32_t)number << 24,
                                              .replicas = 1 + number % RAFT_VOTERS_MAX}};
    memset(topic.id, 1 + number, sizeof topic.id);
    strcpy(topic.name, names[which]);
    if (topic.first_group != bench.put[which].first_group ||
        topic.partitions_count != bench.put[which].partitions_count)
        delete_topic(which); /* a name has one topic at a time: its owner's business */
    uint32_t hash = sim_kv_hash(bench.kv);
    bench.registry->ops->put_topic(bench.registry, &topic, on_done, NULL);
    ASSERT(finish(hash) == OK);
    bench.put[which] = topic;
    bench.is_put[which] = true;
}

static void reserve(uint64_t count)
{
    uint64_t first = 0;
    uint32_t hash = sim_kv_hash(bench.kv);
    bench.registry->ops->reserve_ids(bench.registry, count, &first, on_done, NULL);
    if (finish(hash) != OK) {
        ASSERT(bench.next_id == 0 || bench.next_id > UINT64_MAX - count);
        return;
    }
    ASSERT(first > 0 && first >= bench.next_id && first <= UINT64_MAX - count);
    bench.next_id = first + count;
}

static void publish(uint64_t group, uint64_t term)
{
    bench.registry->ops->publish_leader(bench.registry, group, 1, term);
    ram_disk_pump(&bench.disk, JOBS_MAX);
    ASSERT(!registry_embedded_is_busy(bench.registry) && bench.calls == 0);
}

static void see_topic(void *context, const struct registry_topic *topic)
{
    size_t size = strnlen(topic->name, sizeof topic->name);
    ASSERT(size > 0 && size <= TOPIC_NAME_BYTES_MAX);
    ASSERT(topic->partitions_count > 0 && topic->partitions_count <= PARTITIONS_PER_TOPIC_MAX);
    ASSERT(topic->first_group > 0 && topic->first_group + topic->partitions_count > topic->first_group);
    ASSERT(topic->state >= TOPIC_CREATING && topic->state <= TOPIC_UNREADABLE);
    ASSERT(topic->kind == TOPIC_DATA || topic->kind == TOPIC_STATE);
    ASSERT(topic->state == TOPIC_UNREADABLE ||
           (topic->config.replicas > 0 && topic->config.replicas <= RAFT_VOTERS_MAX));
    for (unsigned i = 0; i < TOPICS; i++) {
        const struct registry_topic *put = &bench.put[i];
        bool is_its = strcmp(topic->name, names[i]) == 0 && topic->first_group == put->first_group &&
                      topic->partitions_count == put->partitions_count;
        if (!is_its || !bench.is_put[i])
            continue;
        bench.found[i] = true;
        ASSERT(memcmp(topic->id, put->id, sizeof put->id) == 0 && topic->state == put->state);
        ASSERT(topic->kind == put->kind && topic->partitions_count == put->partitions_count);
        ASSERT(topic->first_group == put->first_group && topic->first_replica == put->first_replica);
        ASSERT(memcmp(&topic->config, &put->config, sizeof put->config) == 0);
    }
}

static void see_deleted(void *context, uint64_t group)
{
    bench.seen_count++;
    for (unsigned i = 0; i < bench.deleted_count; i++) {
        if (bench.deleted[i] == group)
            bench.deleted[i] = UINT64_MAX; /* seen; put back after the load */
    }
}

static void load_all(void)
{
    static const struct registry_visitor visitor = {.topic = see_topic, .deleted = see_deleted};
    static uint64_t kept[DELETED_MAX];
    uint32_t hash = sim_kv_hash(bench.kv);
    memcpy(kept, bench.deleted, sizeof kept);
    memset(bench.found, 0, sizeof bench.found);
    bench.registry->ops->load(bench.registry, &(struct registry_self){.broker = 1}, &visitor, on_done, NULL);
    enum err error = finish(hash);
    ASSERT(error == OK || error == ERR_FORMAT || error == ERR_VERSION);
    for (unsigned i = 0; i < bench.deleted_count && error == OK; i++)
        ASSERT(bench.deleted[i] == UINT64_MAX);
    for (unsigned i = 0; i < TOPICS && error == OK; i++)
        ASSERT(bench.found[i] == bench.is_put[i]);
    memcpy(bench.deleted, kept, sizeof kept);
}

static void run_instruction(void)
{
    uint8_t code = take();
    unsigned which = code >> 3 & 3;
    switch (code & 7) {
    case 0:
        put_topic_row(which);
        return;
    case 1:
        put_other_row();
        return;
    case 2:
        flip(which);
        return;
    case 3:
        put_topic(which);
        return;
    case 4:
        delete_topic(which);
        return;
    case 5:
        reserve(1u + take());
        return;
    case 6:
        publish(1 + take(), take());
        return;
    default:
        load_all();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ram_disk disk = bench.disk; /* keeps its memory */
    bench = (struct bench){.data = data, .size = size, .disk = disk, .next_id = 1};
    ram_disk_reset(&bench.disk);
    bench.kv = sim_kv_new(&(struct sim_kv_options){0});
    bench.registry = registry_embedded_new(bench.kv, &bench.disk.disk, NULL);
    for (unsigned i = 0; i < INSTRUCTIONS && bench.size > 0; i++)
        run_instruction();
    load_all();
    registry_embedded_free(bench.registry);
    sim_kv_free(bench.kv);
    return 0;
}
