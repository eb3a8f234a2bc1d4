/* What a hostile broker sends as a snapshot: frames of the snapshot lane, and the rows of a picture. Whatever stands in
 * them, the readers stay inside the bytes; a frame that passes is within all limits and can be written again; rows that
 * pass can be put into a checkpoint store, which then loads them without a complaint.
 *
 * Input: byte 0 options (bit 0: rows, else a frame; bit 1: put right CRCs in, which a fuzzer cannot guess), then for a
 * frame byte 1 the size of the message, the message, and the payload; for rows the file. */
#include <stdlib.h>
#include <string.h>

#include "../sim/sim_kv.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "meta/picture.h"
#include "ram_disk.h"
#include "wire/peer_snapshot.h"

#define GROUP 7u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- frames --- */

static void check_frame(const uint8_t *data, size_t size, bool repairs)
{
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    PeerSnapshot message;
    if (size < 1 || data[0] > size - 1) {
        return;
    }
    uint32_t proto_size = data[0];
    size_t payload_size = size - 1 - proto_size;
    uint8_t *payload = malloc(payload_size + 1); /* exact, so that the sanitizer sees one byte too many */
    memcpy(payload + 1, data + 1 + proto_size, payload_size);
    struct frame frame = {.type = FRAME_SNAPSHOT,
                          .proto = data + 1,
                          .proto_size = proto_size,
                          .payload = payload + 1,
                          .payload_size = (uint32_t)payload_size};
    uint32_t repaired_size;
    if (repairs && codec_decode(FRAME_SNAPSHOT, frame.proto, frame.proto_size, &message) == OK) {
        message.payload_crc = crc32c(0, frame.payload, payload_size);
        enum err error = codec_encode_frame(head, sizeof head, FRAME_SNAPSHOT, 0, &message, 0, &repaired_size);
        ASSERT(error == OK);
        frame.proto = head + FRAME_HEADER_BYTES;
        frame.proto_size = repaired_size - FRAME_HEADER_BYTES;
    }
    if (peer_snapshot_read(&frame, &message) == OK) {
        uint8_t again[CODEC_HEAD_BYTES_MAX];
        bool is_chunk = message.kind == PEER_SNAPSHOT_CHUNK;
        ASSERT(is_chunk == (payload_size > 0) && payload_size <= SNAPSHOT_CHUNK_BYTES_MAX);
        ASSERT(message.base_offset >= 0 && message.group > 0 && message.kind < PEER_SNAPSHOT_KINDS);
        ASSERT(message.kind != PEER_SNAPSHOT_WANT || message.size_bytes <= SNAPSHOT_CHUNK_BYTES_MAX);
        uint32_t crc = message.payload_crc;
        peer_snapshot_write(&message, (struct slice){.data = frame.payload, .size = frame.payload_size}, again);
        ASSERT(!is_chunk || message.payload_crc == crc);
    }
    free(payload);
}

/* --- rows --- */

/* Each value's last four bytes become the CRC of its row, as long as sizes make sense. */
static void repair_rows(uint8_t *data, size_t size)
{
    for (size_t at = 16; at + 6 <= size;) {
        size_t key_size = load_le16(data + at);
        size_t value_size = load_le32(data + at + 2);
        if (value_size < 4 || key_size + value_size > size - at - 6) {
            return;
        }
        at += 6 + key_size + value_size;
        store_le32(data + at - 4, crc32c(0, data + at - key_size - value_size, key_size + value_size - 4));
    }
}

struct rows {
    uint32_t groups, others;
    struct meta_group group;
};

static enum err see_group(void *context, const struct meta_group *group)
{
    struct rows *rows = context;
    ASSERT(group->group == GROUP && rows->others == 0);
    rows->groups++;
    rows->group = *group;
    return OK;
}

static enum err see_other(struct rows *rows, uint64_t group)
{
    ASSERT(rows->groups == 1 && group == GROUP);
    rows->others++;
    return OK;
}

static enum err see_segment(void *context, uint64_t group, const struct meta_segment *segment)
{
    ASSERT(segment->base_offset >= 0 && segment->end_offset >= segment->base_offset);
    return see_other(context, group);
}

static enum err see_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    ASSERT(epoch->first_offset >= 0);
    return see_other(context, group);
}

static enum err see_done(void *context, uint64_t group, const struct done_row *row)
{
    ASSERT(row->count <= DONE_BATCHES);
    return see_other(context, group);
}

static enum err see_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    ASSERT(row->key_size <= META_STATE_KEY_BYTES_MAX);
    return see_other(context, group);
}

static struct meta_visitor visitor_of(struct rows *rows)
{
    return (struct meta_visitor){.context = rows,
                                 .group = see_group,
                                 .segment = see_segment,
                                 .epoch = see_epoch,
                                 .done = see_done,
                                 .state = see_state};
}

static void check_rows(const uint8_t *data, size_t size, bool repairs)
{
    static struct ram_disk disk;
    struct rows rows = {0}, loaded = {0};
    struct meta_visitor visitor = visitor_of(&rows);
    ram_disk_reset(&disk);
    struct disk_file *file = ram_disk_put(&disk, "rows", data, size);
    if (repairs) {
        repair_rows(file->data, size);
    }
    if (meta_import(&disk.disk, "rows", GROUP, &visitor) != OK) {
        return;
    }
    ASSERT(rows.groups == 1);
    struct kv *kv = sim_kv_new(&(struct sim_kv_options){0});
    struct kv_txn *txn;
    enum err error = kv->ops->begin(kv, true, &txn);
    ASSERT(error == OK);
    error = meta_install(kv, txn, &disk.disk, "rows", &rows.group, NULL, 0);
    ASSERT(error == OK);
    error = kv->ops->commit(kv, txn);
    ASSERT(error == OK);
    visitor = visitor_of(&loaded);
    error = meta_load(kv, &visitor);
    ASSERT(error == OK && loaded.groups == 1 && loaded.others <= rows.others);
    sim_kv_free(kv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    bool repairs = (data[0] & 2) != 0;
    if ((data[0] & 1) != 0) {
        check_rows(data + 1, size - 1, repairs);
    } else {
        check_frame(data + 1, size - 1, repairs);
    }
    return 0;
}
