/* Gathering and sealing of a batch, see batch.h. The loop thread only stores 40 bytes and a reference per record;
 * everything that touches payload (CRC, copy into the page cache) happens on the WAL's lane. */
#include "wal/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/crc32c.h"
#include "base/endian.h"

#define RECORDS_CAPACITY_MIN 64u

/* Even if every record of the batch before was of another group, the list leaves room for the largest entry. */
_Static_assert(WAL__BATCH_HEADER_BYTES + WAL__RECORD_BYTES + WAL__LIST_BYTES +
                       WAL_BATCH_BYTES_MAX / WAL__RECORD_BYTES * 8 + WAL__RECORD_BYTES + FRAME_PAYLOAD_BYTES_MAX <=
                   WAL_BATCH_BYTES_MAX,
               "group list and the largest entry must fit one batch");

static const uint8_t zero_block[WAL_BLOCK_BYTES];

static void *wal__grow(void *memory, size_t count, size_t item_bytes)
{
    return mem_grow(memory, count * item_bytes);
}

struct wal__batch *wal__batch_new(void)
{
    struct wal__batch *batch = mem_zeroed(1, sizeof *batch);
    return batch;
}

void wal__batch_free(struct wal__batch *batch)
{
    if (batch == NULL) {
        return;
    }
    wal__batch_drop(batch);
    free(batch->prefix);
    free(batch->heads);
    free(batch->payloads);
    free(batch->groups);
    free(batch->parts);
    free(batch);
}

void wal__batch_open(struct wal__batch *batch, uint64_t lsn, bool vouches, uint32_t list_room)
{
    ASSERT(batch->records_count == 0 && batch->groups_count == 0);
    ASSERT(lsn >= WAL__FIRST_LSN && lsn % WAL_BLOCK_BYTES == 0);
    batch->lsn = lsn;
    batch->vouches = vouches;
    batch->list_room = vouches ? list_room : 0;
    batch->prefix_size = WAL__BATCH_HEADER_BYTES;
    if (vouches) {
        batch->prefix_size += WAL__RECORD_BYTES + WAL__LIST_BYTES + list_room * (uint32_t)sizeof(uint64_t);
    }
    if (batch->prefix_size > batch->prefix_capacity) {
        batch->prefix_capacity = batch->prefix_size * 2;
        batch->prefix = wal__grow(batch->prefix, batch->prefix_capacity, 1);
    }
    batch->length = batch->prefix_size;
}

bool wal__batch_fits(const struct wal__batch *batch, uint32_t payload_size, uint64_t file_bytes)
{
    uint64_t room_bytes = file_bytes - WAL_BLOCK_BYTES;
    uint64_t bytes_max = room_bytes < WAL_BATCH_BYTES_MAX ? room_bytes : WAL_BATCH_BYTES_MAX;
    return (uint64_t)batch->length + WAL__RECORD_BYTES + payload_size <= bytes_max;
}

static void wal__batch_reserve(struct wal__batch *batch)
{
    if (batch->records_count == batch->records_capacity) {
        uint32_t capacity = batch->records_capacity > 0 ? batch->records_capacity * 2 : RECORDS_CAPACITY_MIN;
        batch->heads = wal__grow(batch->heads, capacity, WAL__RECORD_BYTES);
        batch->payloads = wal__grow(batch->payloads, capacity, sizeof batch->payloads[0]);
        /* prefix, header and payload of each record, fill */
        batch->parts = wal__grow(batch->parts, 2 * (size_t)capacity + 2, sizeof batch->parts[0]);
        batch->records_capacity = capacity;
    }
    if (batch->groups_count == batch->groups_capacity) {
        batch->groups_capacity = batch->groups_capacity > 0 ? batch->groups_capacity * 2 : RECORDS_CAPACITY_MIN;
        batch->groups = wal__grow(batch->groups, batch->groups_capacity, sizeof batch->groups[0]);
    }
}

void wal__batch_add(struct wal__batch *batch, const struct wal_record *record)
{
    ASSERT(batch->records_count == 0 || wal__batch_fits(batch, record->payload.size, UINT64_MAX));
    wal__batch_reserve(batch);
    struct slice payload = record->payload;
    if (payload.buf != NULL || payload.size == 0) {
        payload = slice_ref(payload);
    } else {
        struct buf *copy = buf_new(payload.size);
        if (copy == NULL) {
            mem_exhausted();
        }
        memcpy(copy->data, payload.data, payload.size);
        payload = (struct slice){.buf = copy, .data = copy->data, .size = payload.size};
    }
    wal__record_encode(record, batch->heads + (size_t)batch->records_count * WAL__RECORD_BYTES);
    batch->payloads[batch->records_count++] = payload;
    batch->length += WAL__RECORD_BYTES + payload.size;
    if (batch->groups_count == 0 || batch->groups[batch->groups_count - 1] != record->group) {
        batch->groups[batch->groups_count++] = record->group;
    }
}

static int wal__group_compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static uint32_t wal__sort_unique(uint64_t *groups, uint32_t count)
{
    uint32_t kept = 0;
    if (count > 1) {
        qsort(groups, count, sizeof groups[0], wal__group_compare);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (kept == 0 || groups[kept - 1] != groups[i]) {
            groups[kept++] = groups[i];
        }
    }
    return kept;
}

static void wal__batch_write_list(struct wal__batch *batch, struct wal__voucher *voucher)
{
    uint8_t *at = batch->prefix + WAL__BATCH_HEADER_BYTES;
    uint32_t list_bytes = batch->prefix_size - WAL__BATCH_HEADER_BYTES - WAL__RECORD_BYTES;
    voucher->groups_count = wal__sort_unique(voucher->groups, voucher->groups_count);
    ASSERT(voucher->groups_count <= batch->list_room);
    struct wal_record record = {.type = (enum wal_record_type)WAL__RECORD_GROUPS, .payload = {.size = list_bytes}};
    wal__record_encode(&record, at);
    at += WAL__RECORD_BYTES;
    memset(at, 0, list_bytes);
    store_le32(at, voucher->groups_count);
    for (uint32_t i = 0; i < voucher->groups_count; i++) {
        store_le64(at + WAL__LIST_BYTES + 8 * (size_t)i, voucher->groups[i]);
    }
}

/* Headers of neighbours without payload lie side by side and become one part. */
static void wal__batch_add_part(struct wal__batch *batch, const void *data, size_t size)
{
    struct iovec *last = batch->parts_count > 0 ? &batch->parts[batch->parts_count - 1] : NULL;
    if (last != NULL && (const uint8_t *)last->iov_base + last->iov_len == data) {
        last->iov_len += size;
        return;
    }
    batch->parts[batch->parts_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = size};
}

void wal__batch_seal(struct wal__batch *batch, const struct wal__file_header *file, struct wal__voucher *voucher)
{
    ASSERT(batch->vouches == (voucher->lsn != 0));
    if (batch->parts == NULL) {
        batch->parts = wal__grow(NULL, 2, sizeof batch->parts[0]);
    }
    if (batch->vouches) {
        wal__batch_write_list(batch, voucher);
    }
    batch->parts_count = 0;
    wal__batch_add_part(batch, batch->prefix, batch->prefix_size);
    for (uint32_t i = 0; i < batch->records_count; i++) {
        wal__batch_add_part(batch, batch->heads + (size_t)i * WAL__RECORD_BYTES, WAL__RECORD_BYTES);
        if (batch->payloads[i].size > 0) {
            wal__batch_add_part(batch, batch->payloads[i].data, batch->payloads[i].size);
        }
    }
    uint32_t crc = crc32c(wal__seed(file->salt), batch->prefix + WAL__BATCH_HEADER_BYTES,
                          batch->parts[0].iov_len - WAL__BATCH_HEADER_BYTES);
    for (int i = 1; i < batch->parts_count; i++) {
        crc = crc32c(crc, batch->parts[i].iov_base, batch->parts[i].iov_len);
    }
    struct wal__batch_header header = {.salt = file->salt,
                                       .lsn = batch->lsn,
                                       .length = batch->length,
                                       .body_crc = crc,
                                       .records_count = batch->records_count,
                                       .previous_lsn = voucher->lsn,
                                       .previous_length = voucher->length,
                                       .previous_crc = voucher->crc,
                                       .start_lsn = file->start_lsn};
    wal__batch_header_encode(&header, batch->prefix);
    batch->crc = header.crc;
    uint32_t fill = wal__span(batch->length) - batch->length;
    if (fill > 0) {
        batch->parts[batch->parts_count++] = (struct iovec){.iov_base = (void *)(uintptr_t)zero_block, .iov_len = fill};
    }
}

void wal__batch_drop(struct wal__batch *batch)
{
    for (uint32_t i = 0; i < batch->records_count; i++) {
        slice_unref(&batch->payloads[i]);
    }
    batch->records_count = 0;
    batch->groups_count = 0;
    batch->parts_count = 0;
}
