/* The embedded registry: each operation is one job on the store lane around one transaction of the checkpoint store.
 *
 * The lane runs jobs in the order of submission, and each reads what it decides on inside its own transaction: so
 * reservations never overlap, a put before a delete stays before it, and no state but the pending leadership notices is
 * kept in memory. A notice that could not be written stays pending and is tried again with the next notice or after the
 * next write that succeeds: while the disk is full there is no loop of retries.
 *
 * A topic's key says its name and its groups and ends in a CRC of its own, so that of a row whose value is rotten it is
 * known who has to answer CORRUPT. A deleted mark that cannot be read deletes nothing: deleting cannot be undone.
 *
 * Row values but TopicRecord, little-endian: 0 version u16, 2 reserved[6], then
 *   'n'  8 next free id u64      'd'  8 topic id[16]      'l'  8 broker u64  16 term u64 */
#include "broker/registry_embedded.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "base/map.h"
#include "meta/row.h"
#include "wire/codec.h"

#define REGISTRY_ROW_VERSION   1u
#define REGISTRY_ROW_BYTES_MAX 24u
#define NEXT_ID_ROW_BYTES      16u
#define DELETED_ROW_BYTES      24u
#define LEADER_ROW_BYTES       24u
#define FIRST_ID               1u /* 0 means none everywhere */

enum registry_row_type { ROW_TYPE_TOPIC = 't', ROW_TYPE_NEXT_ID = 'n', ROW_TYPE_DELETED = 'd', ROW_TYPE_LEADER = 'l' };

#define KEY_PREFIX_BYTES    2u
#define KEY_PARTITIONS_AT   (KEY_PREFIX_BYTES + 8u)
#define KEY_NAME_AT         (KEY_PARTITIONS_AT + 4u)
#define KEY_CRC_BYTES       4u
#define TOPIC_KEY_BYTES_MAX (KEY_NAME_AT + TOPIC_NAME_BYTES_MAX + KEY_CRC_BYTES)
_Static_assert(TOPIC_KEY_BYTES_MAX <= KV_KEY_BYTES_MAX, "the longest name fits");
struct registry_key {
    uint8_t bytes[TOPIC_KEY_BYTES_MAX];
    size_t size;
};

struct leader_notice {
    uint64_t group;
    uint64_t broker;
    uint64_t term;
    UT_hash_handle hh;
};

struct registry_embedded {
    struct registry base;             /* first: a struct registry * is a struct registry_embedded * */
    struct kv *kv;                    /* borrowed */
    struct disk *disk;                /* borrowed */
    const struct trace *trace;        /* borrowed */
    void (*on_failed)(void *context); /* NULL: nobody to tell */
    void *context;
    struct leader_notice *pending; /* owned, by group; not handed to a job yet */
    uint32_t jobs_count;           /* submitted, not done */
    bool publishing;               /* one of them writes notices */
};

struct registry_operation {
    struct disk_job job;                /* first: a struct disk_job * is a struct registry_operation * */
    struct registry_embedded *registry; /* shared; the lane thread uses kv only */
    const char *name;
    bool write;
    enum err (*work)(struct registry_operation *op, struct kv *kv, struct kv_txn *txn); /* lane thread */
    void (*finish)(struct registry_operation *op);                                      /* loop thread, before `done` */
    enum err error;
    registry_done done; /* NULL: nobody waits */
    void *context;

    struct registry_topic topic; /* put, delete */
    uint64_t ids_count;          /* reserve */
    uint64_t first_id;
    uint64_t *ret_first;
    struct registry_visitor visitor; /* load */
    struct registry_topic *topics;   /* owned */
    size_t topics_count, topics_capacity;
    uint64_t *deleted; /* owned: groups */
    size_t deleted_count, deleted_capacity;
    struct leader_notice *notices; /* publish; owned */
    uint64_t *forgotten;           /* forget_deleted: groups; owned */
    uint32_t forgotten_count;
};

/* ---- rows ---- */

static void registry__key(struct registry_key *ret_key, enum registry_row_type type)
{
    ret_key->bytes[0] = 'R';
    ret_key->bytes[1] = (uint8_t)type;
    ret_key->size = KEY_PREFIX_BYTES;
}

static void registry__group_key(struct registry_key *ret_key, enum registry_row_type type, uint64_t group)
{
    registry__key(ret_key, type);
    store_be64(ret_key->bytes + KEY_PREFIX_BYTES, group);
    ret_key->size += sizeof group;
}

static void registry__topic_key(struct registry_key *ret_key, const struct registry_topic *topic)
{
    registry__group_key(ret_key, ROW_TYPE_TOPIC, topic->first_group);
    size_t size = strlen(topic->name);
    store_be32(ret_key->bytes + KEY_PARTITIONS_AT, topic->partitions_count);
    memcpy(ret_key->bytes + KEY_NAME_AT, topic->name, size);
    ret_key->size = KEY_NAME_AT + size;
    store_be32(ret_key->bytes + ret_key->size, crc32c(0, ret_key->bytes, ret_key->size));
    ret_key->size += KEY_CRC_BYTES;
}

static struct kv_bytes registry__bytes(const struct registry_key *key)
{
    return (struct kv_bytes){key->bytes, key->size};
}

static enum err registry__put(struct kv *kv, struct kv_txn *txn, const struct registry_key *key, uint8_t *bytes,
                              size_t size)
{
    store_le16(bytes, REGISTRY_ROW_VERSION);
    return row_put(kv, txn, registry__bytes(key), (struct kv_bytes){bytes, size});
}

/* A row of fixed size; ret_bytes has room for it. */
static enum err registry__get(struct kv *kv, struct kv_txn *txn, const struct registry_key *key, size_t size,
                              uint8_t ret_bytes[REGISTRY_ROW_BYTES_MAX])
{
    struct kv_bytes value;
    enum err error = row_get(kv, txn, registry__bytes(key), &value);
    if (error != OK) {
        return error;
    }
    if (value.size < sizeof(uint16_t)) {
        return ERR_FORMAT;
    }
    if (load_le16(value.data) != REGISTRY_ROW_VERSION) {
        return ERR_VERSION;
    }
    if (value.size != size) {
        return ERR_FORMAT;
    }
    memcpy(ret_bytes, value.data, size);
    return OK;
}

/* What its key says of it. */
static bool registry__topic_is_named(const struct registry_topic *topic)
{
    size_t name_size = strnlen(topic->name, sizeof topic->name);
    return name_size > 0 && name_size <= TOPIC_NAME_BYTES_MAX && topic->partitions_count > 0 &&
           topic->partitions_count <= PARTITIONS_PER_TOPIC_MAX && topic->first_group >= FIRST_ID &&
           topic->first_group <= UINT64_MAX - topic->partitions_count;
}

static bool registry__topic_is_sane(const struct registry_topic *topic)
{
    return registry__topic_is_named(topic) && topic->state >= TOPIC_CREATING && topic->state <= TOPIC_DELETING &&
           (topic->kind == TOPIC_DATA || topic->kind == TOPIC_STATE) && topic->config.replicas > 0 &&
           topic->config.replicas <= RAFT_VOTERS_MAX && topic->first_replica >= FIRST_ID;
}

/* The topic of a row that cannot be read, or ERR_FORMAT: not even the key can. */
static enum err registry__parse_topic_key(struct kv_bytes key, struct registry_topic *ret_topic)
{
    const uint8_t *bytes = key.data;
    struct registry_topic topic = {.state = TOPIC_UNREADABLE, .kind = TOPIC_DATA};
    if (key.size <= KEY_NAME_AT + KEY_CRC_BYTES || key.size > TOPIC_KEY_BYTES_MAX ||
        load_be32(bytes + key.size - KEY_CRC_BYTES) != crc32c(0, bytes, key.size - KEY_CRC_BYTES)) {
        return ERR_FORMAT;
    }
    size_t name_size = key.size - KEY_NAME_AT - KEY_CRC_BYTES;
    topic.first_group = load_be64(bytes + KEY_PREFIX_BYTES);
    topic.partitions_count = load_be32(bytes + KEY_PARTITIONS_AT);
    memcpy(topic.name, bytes + KEY_NAME_AT, name_size);
    if (strlen(topic.name) != name_size || !registry__topic_is_named(&topic)) {
        return ERR_FORMAT;
    }
    *ret_topic = topic;
    return OK;
}

static enum err registry__put_topic_row(struct kv *kv, struct kv_txn *txn, const struct registry_topic *topic)
{
    TopicRecord record = {
        .state = (uint32_t)topic->state,
        .kind = (uint32_t)topic->kind,
        .partitions = topic->partitions_count,
        .first_group = topic->first_group,
        .first_replica = topic->first_replica,
        .segment_bytes = topic->config.segment_bytes,
        .segment_ms = topic->config.segment_ms,
        .retention_bytes = topic->config.retention_bytes,
        .retention_ms = topic->config.retention_ms,
        .max_batch_bytes = topic->config.max_batch_bytes,
        .replicas = topic->config.replicas,
    };
    struct registry_key key;
    uint8_t bytes[CODEC_STORED_BYTES_MAX];
    uint32_t size = 0;
    _Static_assert(sizeof record.id == sizeof topic->id, "a UUID");
    _Static_assert(sizeof record.name == sizeof topic->name, "a topic's name");
    memcpy(record.id, topic->id, sizeof record.id);
    memcpy(record.name, topic->name, strlen(topic->name));
    enum err error = codec_encode_stored(STORED_TOPIC, &record, bytes, sizeof bytes, &size);
    if (error != OK) {
        return error;
    }
    registry__topic_key(&key, topic);
    return row_put(kv, txn, registry__bytes(&key), (struct kv_bytes){bytes, size});
}

static enum err registry__parse_topic_row(struct kv_bytes key, struct kv_bytes value, struct registry_topic *ret_topic)
{
    TopicRecord record;
    if (value.size > CODEC_STORED_BYTES_MAX) {
        return ERR_FORMAT;
    }
    enum err error = codec_decode_stored(STORED_TOPIC, value.data, (uint32_t)value.size, &record);
    if (error != OK) {
        return error;
    }
    struct registry_topic topic = {
        .state = (enum registry_topic_state)record.state,
        .kind = (enum registry_topic_kind)record.kind,
        .partitions_count = record.partitions,
        .first_group = record.first_group,
        .first_replica = record.first_replica,
        .config = {.segment_bytes = record.segment_bytes,
                   .segment_ms = record.segment_ms,
                   .retention_bytes = record.retention_bytes,
                   .retention_ms = record.retention_ms,
                   .max_batch_bytes = record.max_batch_bytes,
                   .replicas = record.replicas},
    };
    memcpy(topic.id, record.id, sizeof topic.id);
    memcpy(topic.name, record.name, sizeof topic.name);
    if (!registry__topic_is_sane(&topic)) {
        return ERR_FORMAT;
    }
    struct registry_key expected;
    registry__topic_key(&expected, &topic);
    if (key.size != expected.size || memcmp(key.data, expected.bytes, key.size) != 0) {
        return ERR_FORMAT;
    }
    *ret_topic = topic;
    return OK;
}

/* ---- operations: on the lane ---- */

/* Gives an array room for one more; returns where it is now, NULL: no memory, the old one stays. */
static void *registry__grow(void *items, size_t item_size, size_t count, size_t *io_capacity)
{
    if (count < *io_capacity) {
        return items;
    }
    size_t capacity = *io_capacity > 0 ? *io_capacity * 2 : 16;
    void *grown = realloc(items, capacity * item_size);
    if (grown != NULL) {
        *io_capacity = capacity;
    }
    return grown;
}

static enum err registry__collect(struct registry_operation *op, const struct registry_topic *topic)
{
    struct registry_topic *topics =
        registry__grow(op->topics, sizeof topics[0], op->topics_count, &op->topics_capacity);
    if (topics == NULL) {
        return ERR_NO_MEMORY;
    }
    op->topics = topics;
    topics[op->topics_count++] = *topic;
    return OK;
}

static enum err registry__collect_unreadable(void *context, struct kv_bytes key)
{
    struct registry_topic topic;
    enum err error = registry__parse_topic_key(key, &topic);
    return error == OK ? registry__collect(context, &topic) : error;
}

static enum err registry__collect_topic(void *context, struct kv_bytes key, struct kv_bytes value)
{
    struct registry_topic topic;
    enum err error = registry__parse_topic_row(key, value, &topic);
    if (error == ERR_FORMAT) {
        return registry__collect_unreadable(context, key);
    }
    return error == OK ? registry__collect(context, &topic) : error;
}

/* The key says it all; what stands in the value is for people. */
static enum err registry__collect_deleted(void *context, struct kv_bytes key, struct kv_bytes value)
{
    struct registry_operation *op = context;
    if (key.size != KEY_PREFIX_BYTES + sizeof(uint64_t)) {
        return ERR_FORMAT;
    }
    uint64_t *deleted = registry__grow(op->deleted, sizeof deleted[0], op->deleted_count, &op->deleted_capacity);
    if (deleted == NULL) {
        return ERR_NO_MEMORY;
    }
    op->deleted = deleted;
    deleted[op->deleted_count++] = load_be64((const uint8_t *)key.data + KEY_PREFIX_BYTES);
    return OK;
}

/* What it named may be another group than the one that stands there now: that one is kept, and served only if a topic
 * names it. */
static enum err registry__skip_deleted(void *context, struct kv_bytes key)
{
    const struct registry_operation *op = context;
    trace_error(op->registry->trace, "row_damaged", "type=R what=\"deleted mark\" key_bytes=%zu", key.size);
    return OK;
}

static enum err registry__work_load(struct registry_operation *op, struct kv *kv, struct kv_txn *txn)
{
    struct registry_key prefix;
    registry__key(&prefix, ROW_TYPE_TOPIC);
    enum err error =
        row_scan_all(kv, txn, registry__bytes(&prefix), registry__collect_topic, registry__collect_unreadable, op);
    if (error == OK) {
        registry__key(&prefix, ROW_TYPE_DELETED);
        error = row_scan_all(kv, txn, registry__bytes(&prefix), registry__collect_deleted, registry__skip_deleted, op);
    }
    return error;
}

static enum err registry__work_reserve(struct registry_operation *op, struct kv *kv, struct kv_txn *txn)
{
    struct registry_key key;
    uint8_t bytes[REGISTRY_ROW_BYTES_MAX] = {0};
    uint64_t next = FIRST_ID;
    registry__key(&key, ROW_TYPE_NEXT_ID);
    enum err error = registry__get(kv, txn, &key, NEXT_ID_ROW_BYTES, bytes);
    if (error == OK) {
        next = load_le64(bytes + 8);
    } else if (error != ERR_NO_FILE) {
        return error; /* an unreadable counter must never start again at 1 */
    }
    if (next < FIRST_ID || op->ids_count > UINT64_MAX - next) {
        return ERR_FORMAT;
    }
    op->first_id = next;
    store_le64(bytes + 8, next + op->ids_count);
    return registry__put(kv, txn, &key, bytes, NEXT_ID_ROW_BYTES);
}

static enum err registry__work_put(struct registry_operation *op, struct kv *kv, struct kv_txn *txn)
{
    return registry__put_topic_row(kv, txn, &op->topic);
}

/* Readable or not, the row goes. A younger topic of this name has other groups, and so a row of its own. */
static enum err registry__work_delete(struct registry_operation *op, struct kv *kv, struct kv_txn *txn)
{
    struct registry_key topic_key;
    registry__topic_key(&topic_key, &op->topic);
    enum err error = kv->ops->del(kv, txn, registry__bytes(&topic_key));
    for (uint32_t p = 0; error == OK && p < op->topic.partitions_count; p++) {
        struct registry_key key;
        uint8_t bytes[REGISTRY_ROW_BYTES_MAX] = {0};
        memcpy(bytes + 8, op->topic.id, sizeof op->topic.id);
        registry__group_key(&key, ROW_TYPE_DELETED, op->topic.first_group + p);
        error = registry__put(kv, txn, &key, bytes, DELETED_ROW_BYTES);
        if (error == OK) {
            registry__group_key(&key, ROW_TYPE_LEADER, op->topic.first_group + p);
            error = kv->ops->del(kv, txn, registry__bytes(&key));
        }
    }
    return error;
}

static enum err registry__write_notice(struct kv *kv, struct kv_txn *txn, const struct leader_notice *notice)
{
    struct registry_key key;
    uint8_t bytes[REGISTRY_ROW_BYTES_MAX] = {0};
    registry__group_key(&key, ROW_TYPE_DELETED, notice->group);
    enum err error = registry__get(kv, txn, &key, DELETED_ROW_BYTES, bytes);
    if (error == OK || error == ERR_FORMAT || error == ERR_VERSION) {
        return OK; /* deleted meanwhile; a mark that cannot be read is one too, nothing else is ever put there */
    }
    if (error != ERR_NO_FILE) {
        return error;
    }
    registry__group_key(&key, ROW_TYPE_LEADER, notice->group);
    error = registry__get(kv, txn, &key, LEADER_ROW_BYTES, bytes);
    if (error == OK && load_le64(bytes + 16) >= notice->term) {
        return OK;
    }
    if (error != OK && error != ERR_NO_FILE && error != ERR_FORMAT && error != ERR_VERSION) {
        return error; /* a row that cannot be read is only a hint lost: the newer one replaces it */
    }
    memset(bytes, 0, sizeof bytes);
    store_le64(bytes + 8, notice->broker);
    store_le64(bytes + 16, notice->term);
    return registry__put(kv, txn, &key, bytes, LEADER_ROW_BYTES);
}

static enum err registry__work_publish(struct registry_operation *op, struct kv *kv, struct kv_txn *txn)
{
    struct leader_notice *notice, *next;
    enum err error = OK;
    HASH_ITER(hh, op->notices, notice, next)
    {
        error = registry__write_notice(kv, txn, notice);
        if (error != OK) {
            break;
        }
    }
    return error;
}

static enum err registry__work_forget(struct registry_operation *op, struct kv *kv, struct kv_txn *txn)
{
    enum err error = OK;
    for (uint32_t i = 0; i < op->forgotten_count && error == OK; i++) {
        struct registry_key key;
        registry__group_key(&key, ROW_TYPE_DELETED, op->forgotten[i]);
        error = kv->ops->del(kv, txn, registry__bytes(&key));
        if (error == OK) {
            registry__group_key(&key, ROW_TYPE_LEADER, op->forgotten[i]);
            error = kv->ops->del(kv, txn, registry__bytes(&key));
        }
    }
    return error;
}

static void registry__run(struct disk_job *job)
{
    struct registry_operation *op = (struct registry_operation *)job;
    struct kv *kv = op->registry->kv;
    struct kv_txn *txn;
    op->error = kv->ops->begin(kv, op->write, &txn);
    if (op->error != OK) {
        return;
    }
    op->error = op->work(op, kv, txn);
    if (op->error == OK && op->write) {
        op->error = kv->ops->commit(kv, txn);
    } else {
        kv->ops->abort(kv, txn);
    }
}

/* ---- operations: on the loop ---- */

static void registry__publish_pending(struct registry_embedded *registry);

static void registry__job_done(struct disk_job *job)
{
    struct registry_operation *op = (struct registry_operation *)job;
    struct registry_embedded *registry = op->registry;
    if (op->error != OK) {
        trace_error(registry->trace, "registry_failed", "operation=%s error=%s", op->name, err_name(op->error));
    }
    ASSERT(registry->jobs_count > 0);
    registry->jobs_count--;
    if (op->finish != NULL) {
        op->finish(op);
    }
    if (op->error == OK && op->write) {
        registry__publish_pending(registry);
    }
    /* Last, and from here on without the registry: the callback may be the one that ends it. */
    for (size_t i = 0; op->error == OK && i < op->topics_count; i++) {
        op->visitor.topic(op->context, &op->topics[i]);
    }
    for (size_t i = 0; op->error == OK && i < op->deleted_count; i++) {
        op->visitor.deleted(op->context, op->deleted[i]);
    }
    if (op->error == ERR_IO && op->write && registry->on_failed != NULL) {
        registry->on_failed(registry->context); /* nobody else is told: what the disk holds shows at the next start */
    } else if (op->done != NULL) {
        op->done(op->context, op->error);
    }
    free(op->topics);
    free(op->deleted);
    free(op->forgotten);
    free(op);
}

static struct registry_operation *
registry__operation_new(struct registry_embedded *registry, const char *name, bool write,
                        enum err (*work)(struct registry_operation *op, struct kv *kv, struct kv_txn *txn))
{
    struct registry_operation *op = mem_zeroed(1, sizeof *op);
    op->job.run = registry__run;
    op->job.done = registry__job_done;
    op->registry = registry;
    op->name = name;
    op->write = write;
    op->work = work;
    return op;
}

static void registry__submit(struct registry_operation *op)
{
    struct registry_embedded *registry = op->registry;
    registry->jobs_count++;
    registry->disk->ops->submit(registry->disk, DISK_LANE_STORE, &op->job);
}

/* Nobody else changes anything: the visitor is not needed later. */
static void registry_load(struct registry *base, const struct registry_self *self,
                          const struct registry_visitor *visitor, registry_done done, void *context)
{
    struct registry_operation *op =
        registry__operation_new((struct registry_embedded *)base, "load", false, registry__work_load);
    op->visitor = *visitor;
    op->done = done;
    op->context = context;
    registry__submit(op);
}

static void registry__finish_reserve(struct registry_operation *op)
{
    if (op->error == OK) {
        *op->ret_first = op->first_id;
    }
}

static void registry_reserve_ids(struct registry *base, uint64_t count, uint64_t *ret_first, registry_done done,
                                 void *context)
{
    ASSERT(count > 0);
    struct registry_operation *op =
        registry__operation_new((struct registry_embedded *)base, "reserve_ids", true, registry__work_reserve);
    op->ids_count = count;
    op->ret_first = ret_first;
    op->finish = registry__finish_reserve;
    op->done = done;
    op->context = context;
    registry__submit(op);
}

static void registry_put_topic(struct registry *base, const struct registry_topic *topic, registry_done done,
                               void *context)
{
    ASSERT(registry__topic_is_sane(topic));
    struct registry_operation *op =
        registry__operation_new((struct registry_embedded *)base, "put_topic", true, registry__work_put);
    op->topic = *topic;
    op->done = done;
    op->context = context;
    registry__submit(op);
}

static void registry_delete_topic(struct registry *base, const struct registry_topic *topic, registry_done done,
                                  void *context)
{
    ASSERT(registry__topic_is_named(topic));
    struct registry_operation *op =
        registry__operation_new((struct registry_embedded *)base, "delete_topic", true, registry__work_delete);
    op->topic = *topic;
    op->done = done;
    op->context = context;
    registry__submit(op);
}

/* ---- leadership notices ---- */

/* Takes over the notice; the higher term of a group stays. */
static void registry__add_notice(struct registry_embedded *registry, struct leader_notice *notice)
{
    struct leader_notice *found;
    HASH_FIND(hh, registry->pending, &notice->group, sizeof notice->group, found);
    if (found == NULL) {
        HASH_ADD(hh, registry->pending, group, sizeof notice->group, notice);
        return;
    }
    if (notice->term > found->term) {
        found->broker = notice->broker;
        found->term = notice->term;
    }
    free(notice);
}

static void registry__finish_publish(struct registry_operation *op)
{
    struct leader_notice *notice, *next;
    op->registry->publishing = false;
    HASH_ITER(hh, op->notices, notice, next)
    {
        HASH_DEL(op->notices, notice);
        if (op->error == OK) {
            free(notice);
        } else {
            registry__add_notice(op->registry, notice);
        }
    }
}

static void registry__publish_pending(struct registry_embedded *registry)
{
    if (registry->publishing || registry->pending == NULL) {
        return;
    }
    struct registry_operation *op = registry__operation_new(registry, "publish_leader", true, registry__work_publish);
    op->notices = registry->pending;
    op->finish = registry__finish_publish;
    registry->pending = NULL;
    registry->publishing = true;
    registry__submit(op);
}

static void registry_publish_leader(struct registry *base, uint64_t group, uint64_t broker, uint64_t term)
{
    struct registry_embedded *registry = (struct registry_embedded *)base;
    struct leader_notice *notice = mem_zeroed(1, sizeof *notice);
    notice->group = group;
    notice->broker = broker;
    notice->term = term;
    registry__add_notice(registry, notice);
    registry__publish_pending(registry);
}

/* A notice that waits would find no mark any more, and leave a row for ever. One under way is through before. */
static void registry_forget_deleted(struct registry *base, const uint64_t *groups, uint32_t count, registry_done done,
                                    void *context)
{
    struct registry_embedded *registry = (struct registry_embedded *)base;
    struct registry_operation *op = registry__operation_new(registry, "forget_deleted", true, registry__work_forget);
    op->forgotten = mem_zeroed(count + 1, sizeof op->forgotten[0]);
    op->forgotten_count = count;
    op->done = done;
    op->context = context;
    for (uint32_t i = 0; i < count; i++) {
        struct leader_notice *notice;
        op->forgotten[i] = groups[i];
        HASH_FIND(hh, registry->pending, &groups[i], sizeof groups[i], notice);
        if (notice != NULL) {
            HASH_DEL(registry->pending, notice);
            free(notice);
        }
    }
    registry__submit(op);
}

/* ---- life ---- */

static const struct registry_ops registry_embedded_ops = {
    .load = registry_load,
    .reserve_ids = registry_reserve_ids,
    .put_topic = registry_put_topic,
    .delete_topic = registry_delete_topic,
    .forget_deleted = registry_forget_deleted,
    .publish_leader = registry_publish_leader,
};

struct registry *registry_embedded_new(struct kv *kv, struct disk *disk, const struct trace *trace)
{
    struct registry_embedded *registry = mem_zeroed(1, sizeof *registry);
    registry->base.ops = &registry_embedded_ops;
    registry->kv = kv;
    registry->disk = disk;
    registry->trace = trace;
    return &registry->base;
}

void registry_embedded_on_failed(struct registry *base, void (*on_failed)(void *context), void *context)
{
    struct registry_embedded *registry = (struct registry_embedded *)base;
    registry->on_failed = on_failed;
    registry->context = context;
}

bool registry_embedded_is_busy(const struct registry *base)
{
    return ((const struct registry_embedded *)base)->jobs_count > 0;
}

void registry_embedded_free(struct registry *base)
{
    struct registry_embedded *registry = (struct registry_embedded *)base;
    struct leader_notice *notice, *next;
    if (registry == NULL) {
        return;
    }
    HASH_ITER(hh, registry->pending, notice, next)
    {
        HASH_DEL(registry->pending, notice);
        free(notice);
    }
    free(registry);
}
