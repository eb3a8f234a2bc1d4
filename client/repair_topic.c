/* The registry's row of the topic: from a name to groups. If the row is unreadable but its key is not, what it said is
 * put together again from the key and from the row of one of the groups. Only two things stood nowhere else: the
 * topic's id, of which it gets a new one, and max_batch_bytes. */
#include <string.h>
#include <sys/random.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "client/repair_plan.h"
#include "meta/row.h"
#include "wire/codec.h"

/* 'R' 't' first group u64, partitions u32, name, crc32c u32; big-endian */
#define KEY_PARTITIONS_AT 10u
#define KEY_NAME_AT       14u
#define KEY_CRC_BYTES     4u
#define TOPIC_LIVE        2 /* the registry's number */

static bool is_ours(const struct repair *repair, struct kv_bytes key)
{
    size_t size = strlen(repair->topic);
    return key.size == KEY_NAME_AT + size + KEY_CRC_BYTES &&
           memcmp((const uint8_t *)key.data + KEY_NAME_AT, repair->topic, size) == 0;
}

static enum err on_unreadable(void *context, struct kv_bytes key)
{
    struct repair *repair = context;
    struct repair_topic *row = &repair->topic_row;
    const uint8_t *bytes = key.data;
    size_t crc_at = key.size - KEY_CRC_BYTES;
    if (!is_ours(repair, key) || load_be32(bytes + crc_at) != crc32c(0, bytes, crc_at))
        return OK;
    row->is_found = row->is_bad = true;
    row->first_group = load_be64(bytes + 2);
    row->partitions = load_be32(bytes + KEY_PARTITIONS_AT);
    row->key_size = key.size;
    memcpy(row->key, key.data, key.size);
    return OK;
}

static enum err on_topic(void *context, struct kv_bytes key, struct kv_bytes value)
{
    struct repair *repair = context;
    struct repair_topic *row = &repair->topic_row;
    TopicRecord topic;
    if (!is_ours(repair, key))
        return OK;
    if (value.size > CODEC_STORED_BYTES_MAX ||
        codec_decode_stored(STORED_TOPIC, value.data, (uint32_t)value.size, &topic) != OK)
        return on_unreadable(context, key);
    row->is_found = true;
    row->first_group = topic.first_group;
    row->partitions = topic.partitions;
    return OK;
}

enum err repair_find_topic(struct repair *repair)
{
    const struct repair_topic *row = &repair->topic_row;
    struct kv_txn *txn;
    enum err error = repair->kv->ops->begin(repair->kv, false, &txn);
    if (error != OK)
        return error;
    error = row_scan_all(repair->kv, txn, (struct kv_bytes){"Rt", 2}, on_topic, on_unreadable, repair);
    repair->kv->ops->abort(repair->kv, txn);
    if (error != OK)
        return error;
    if (!row->is_found)
        cli_usage("there is no topic '%s' in %s", repair->topic, repair->dir);
    if (repair->partition >= row->partitions)
        cli_usage("topic '%s' has partitions 0 to %u", repair->topic, row->partitions - 1);
    repair->group.group = row->first_group + repair->partition;
    return OK;
}

void repair_plan_topic(struct repair *repair)
{
    if (!repair->topic_row.is_bad)
        return;
    struct line line = repair_line(repair, "drop");
    line_text(&line, "what", "row of the topic: its id and max_batch_bytes, the rest is made anew from its partitions");
    line_text(&line, "topic", repair->topic);
    line_end(&line);
    repair->needed = repair->loses = true;
}

enum err repair_put_topic(struct repair *repair, struct kv_txn *txn)
{
    const struct repair_topic *row = &repair->topic_row;
    const struct meta_group *group = &repair->group;
    uint64_t batch_max = group->segment_bytes < BATCH_BYTES_DEFAULT ? group->segment_bytes : BATCH_BYTES_DEFAULT;
    TopicRecord record = {
        .state = TOPIC_LIVE,
        .kind = group->kind,
        .partitions = row->partitions,
        .first_group = row->first_group,
        .first_replica = group->replica - repair->partition,
        .segment_bytes = group->segment_bytes,
        .segment_ms = group->segment_ms,
        .retention_bytes = group->retention_bytes,
        .retention_ms = group->retention_ms,
        .max_batch_bytes = (uint32_t)batch_max,
        .replicas = 1,
    };
    uint8_t bytes[CODEC_STORED_BYTES_MAX];
    uint32_t size = 0;
    if (!row->is_bad)
        return OK;
    memcpy(record.name, repair->topic, strlen(repair->topic));
    if (getrandom(record.id, sizeof record.id, 0) != sizeof record.id)
        return ERR_IO;
    enum err error = codec_encode_stored(STORED_TOPIC, &record, bytes, sizeof bytes, &size);
    if (error != OK)
        return error;
    return row_put(repair->kv, txn, (struct kv_bytes){row->key, row->key_size}, (struct kv_bytes){bytes, size});
}
