/* A group's rows out of one checkpoint store and into another, by way of a file: see picture.h. */
#include "meta/picture.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/mem.h"
#include "meta/layout.h"
#include "meta/row.h"

#define PICTURE_MAGIC        0x50544c46u /* "FLTP" */
#define PICTURE_VERSION      1u
#define PICTURE_HEADER_BYTES 16u
#define ROW_HEADER_BYTES     6u
#define ROW_CRC_BYTES        4u
#define ROW_BYTES_MAX        (ROW_HEADER_BYTES + KV_KEY_BYTES_MAX + ROW_VALUE_BYTES_MAX + ROW_CRC_BYTES)
#define WRITE_BYTES          (256u << 10)

static const enum layout_type row_order[] = {LAYOUT_GROUP, LAYOUT_SEGMENT, LAYOUT_EPOCH, LAYOUT_DONE, LAYOUT_STATE};
#define ROW_KINDS (sizeof row_order / sizeof row_order[0])

/* ---- out ---- */

struct exporter {
    struct disk *disk;
    struct disk_file *file;
    uint8_t *buffer; /* owned, WRITE_BYTES */
    uint32_t filled;
    uint64_t size_bytes, size_max;
    uint32_t crc;
    uint64_t sum; /* of all rows but the group's */
    void (*segment)(void *context, const struct meta_segment *segment);
    void *context;
};

static enum err exporter_flush(struct exporter *out)
{
    struct iovec part = {.iov_base = out->buffer, .iov_len = out->filled};
    uint64_t at = out->size_bytes - out->filled;
    if (out->filled == 0) {
        return OK;
    }
    out->crc = crc32c(out->crc, out->buffer, out->filled);
    out->filled = 0;
    return out->disk->ops->write(out->disk, out->file, &part, 1, at);
}

static enum err exporter_put(struct exporter *out, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    if (size > out->size_max - out->size_bytes) {
        return ERR_TOO_LARGE;
    }
    while (size > 0) {
        uint32_t room = WRITE_BYTES - out->filled;
        uint32_t part = size < room ? (uint32_t)size : room;
        memcpy(out->buffer + out->filled, bytes, part);
        out->filled += part;
        out->size_bytes += part;
        bytes += part;
        size -= part;
        enum err error = out->filled == WRITE_BYTES ? exporter_flush(out) : OK;
        if (error != OK) {
            return error;
        }
    }
    return OK;
}

static enum err exporter_tell(const struct exporter *out, struct kv_bytes key, struct kv_bytes value)
{
    struct meta_segment segment;
    uint64_t base_offset = 0;
    enum err error = layout_parse_number_key(key, &base_offset);
    if (error == OK) {
        error = layout_decode_segment(base_offset, value, &segment);
    }
    if (error == OK) {
        out->segment(out->context, &segment);
    }
    return error;
}

/* row_scan has checked the CRC, which stands behind the value. */
static enum err exporter_row(void *context, struct kv_bytes key, struct kv_bytes value)
{
    struct exporter *out = context;
    uint8_t header[ROW_HEADER_BYTES], crc[ROW_CRC_BYTES];
    uint32_t sum = row_crc(key, value);
    store_le16(header, (uint16_t)key.size);
    store_le32(header + 2, (uint32_t)(value.size + ROW_CRC_BYTES));
    store_le32(crc, sum);
    if (*(const uint8_t *)key.data != LAYOUT_GROUP) {
        out->sum += row_spread(sum);
    }
    enum err error = *(const uint8_t *)key.data == LAYOUT_SEGMENT ? exporter_tell(out, key, value) : OK;
    if (error == OK) {
        error = exporter_put(out, header, sizeof header);
    }
    if (error == OK) {
        error = exporter_put(out, key.data, key.size);
    }
    if (error == OK) {
        error = exporter_put(out, value.data, value.size);
    }
    return error == OK ? exporter_put(out, crc, sizeof crc) : error;
}

static enum err export_rows(struct exporter *out, struct kv *kv, struct kv_txn *txn, uint64_t group,
                            struct meta_group *ret_group)
{
    struct layout_key key;
    struct kv_bytes value;
    uint64_t rows_sum = 0;
    uint8_t header[PICTURE_HEADER_BYTES] = {0};
    layout_group_key(&key, LAYOUT_GROUP, group);
    enum err error = row_get(kv, txn, layout_bytes(&key), &value);
    if (error == OK) {
        error = layout_decode_group(group, value, ret_group, &rows_sum);
    }
    store_le32(header, PICTURE_MAGIC);
    store_le16(header + 4, PICTURE_VERSION);
    store_le64(header + 8, group);
    if (error == OK) {
        error = exporter_put(out, header, sizeof header);
    }
    for (size_t i = 0; error == OK && i < ROW_KINDS; i++) {
        struct layout_key prefix;
        layout_group_key(&prefix, row_order[i], group);
        error = row_scan(kv, txn, layout_bytes(&prefix), exporter_row, out);
    }
    if (error == OK) {
        error = exporter_flush(out);
    }
    return error == OK && out->sum != rows_sum ? ERR_FORMAT : error;
}

enum err meta_export(struct kv *kv, struct disk *disk, const char *path, uint64_t group, uint64_t size_max,
                     void (*segment)(void *context, const struct meta_segment *segment), void *context,
                     struct meta_export *ret_export)
{
    struct exporter out = {.disk = disk, .size_max = size_max, .segment = segment, .context = context};
    struct meta_export found = {0};
    struct kv_txn *txn;
    enum err error = disk->ops->open(disk, path, DISK_WRITE | DISK_CREATE, &out.file);
    if (error != OK) {
        return error;
    }
    error = disk->ops->truncate(disk, out.file, 0);
    if (error == OK) {
        error = kv->ops->begin(kv, false, &txn);
    }
    if (error == OK) {
        out.buffer = mem_grow(NULL, WRITE_BYTES);
        error = export_rows(&out, kv, txn, group, &found.group);
        kv->ops->abort(kv, txn);
    }
    disk->ops->close(disk, out.file);
    free(out.buffer);
    if (error == OK) {
        found.size_bytes = out.size_bytes;
        found.crc = out.crc;
        *ret_export = found;
    }
    return error;
}

/* ---- in ---- */

struct importer {
    struct disk *disk;
    struct disk_file *file;
    uint8_t *buffer; /* owned, ROW_BYTES_MAX: [from, to) is read and not used */
    size_t from, to;
    uint64_t position; /* of what is read next */
    uint8_t last[KV_KEY_BYTES_MAX];
    size_t last_size;
    size_t kind; /* of the last row, in row_order */
};

static enum err importer_open(struct importer *in, struct disk *disk, const char *path)
{
    *in = (struct importer){.disk = disk};
    enum err error = disk->ops->open(disk, path, DISK_READ | DISK_SEQUENTIAL, &in->file);
    if (error != OK) {
        return error;
    }
    in->buffer = malloc(ROW_BYTES_MAX);
    if (in->buffer == NULL) {
        disk->ops->close(disk, in->file);
        return ERR_NO_MEMORY;
    }
    return OK;
}

static void importer_close(struct importer *in)
{
    free(in->buffer);
    in->disk->ops->close(in->disk, in->file);
}

/* ERR_CLOSED: the file ends before so many bytes. */
static enum err importer_need(struct importer *in, size_t size)
{
    ASSERT(size <= ROW_BYTES_MAX);
    if (in->to - in->from >= size) {
        return OK;
    }
    size_t got = 0;
    memmove(in->buffer, in->buffer + in->from, in->to - in->from);
    in->to -= in->from;
    in->from = 0;
    enum err error =
        in->disk->ops->read(in->disk, in->file, in->buffer + in->to, ROW_BYTES_MAX - in->to, in->position, &got);
    if (error != OK) {
        return error;
    }
    in->to += got;
    in->position += got;
    return in->to >= size ? OK : ERR_CLOSED;
}

static enum err importer_begin(struct importer *in, uint64_t group)
{
    enum err error = importer_need(in, PICTURE_HEADER_BYTES);
    if (error != OK) {
        return error == ERR_CLOSED ? ERR_FORMAT : error;
    }
    const uint8_t *header = in->buffer + in->from;
    if (load_le32(header) != PICTURE_MAGIC || load_le64(header + 8) != group) {
        return ERR_FORMAT;
    }
    if (load_le16(header + 4) != PICTURE_VERSION) {
        return ERR_VERSION;
    }
    in->from += PICTURE_HEADER_BYTES;
    return OK;
}

/* Kinds come in their order, the group row first and once; keys rise within a kind and are of this group. */
static bool importer_may_follow(struct importer *in, uint64_t group, struct kv_bytes key)
{
    struct layout_key prefix;
    bool is_first = in->last_size == 0;
    size_t kind = in->kind;
    while (kind < ROW_KINDS && row_order[kind] != *(const uint8_t *)key.data) {
        kind++;
    }
    if (kind == ROW_KINDS || is_first != (row_order[kind] == LAYOUT_GROUP)) {
        return false;
    }
    layout_group_key(&prefix, row_order[kind], group);
    if (!row_key_has_prefix(key, layout_bytes(&prefix))) {
        return false;
    }
    if (!is_first && kind == in->kind) {
        size_t common = key.size < in->last_size ? key.size : in->last_size;
        int order = memcmp(key.data, in->last, common);
        if (order < 0 || (order == 0 && key.size <= in->last_size)) {
            return false;
        }
    }
    in->kind = kind;
    in->last_size = key.size;
    memcpy(in->last, key.data, key.size);
    return true;
}

/* The next row, without its CRC; valid until the next call. ERR_CLOSED: there is none. */
static enum err importer_next(struct importer *in, uint64_t group, struct kv_bytes *ret_key, struct kv_bytes *ret_value)
{
    enum err error = importer_need(in, ROW_HEADER_BYTES);
    if (error == ERR_CLOSED && in->from == in->to) {
        return in->last_size > 0 ? ERR_CLOSED : ERR_FORMAT;
    }
    size_t key_size = 0, value_size = 0;
    if (error == OK) {
        key_size = load_le16(in->buffer + in->from);
        value_size = load_le32(in->buffer + in->from + 2);
        if (key_size < LAYOUT_GROUP_KEY_BYTES || key_size > KV_KEY_BYTES_MAX || value_size < ROW_CRC_BYTES ||
            value_size > ROW_VALUE_BYTES_MAX + ROW_CRC_BYTES) {
            return ERR_FORMAT;
        }
        error = importer_need(in, ROW_HEADER_BYTES + key_size + value_size);
    }
    if (error != OK) {
        return error == ERR_CLOSED ? ERR_FORMAT : error;
    }
    const uint8_t *bytes = in->buffer + in->from + ROW_HEADER_BYTES;
    struct kv_bytes key = {bytes, key_size};
    struct kv_bytes stored = {bytes + key_size, value_size};
    if (!importer_may_follow(in, group, key) || !row_is_whole(key, stored)) {
        return ERR_FORMAT;
    }
    in->from += ROW_HEADER_BYTES + key_size + value_size;
    *ret_key = key;
    *ret_value = (struct kv_bytes){stored.data, value_size - ROW_CRC_BYTES};
    return OK;
}

static enum err visit_group(const struct meta_visitor *visitor, uint64_t group, struct kv_bytes key,
                            struct kv_bytes value)
{
    struct meta_group row;
    uint64_t number, rows_sum;
    enum err error = layout_parse_group_key(key, &number);
    if (error == OK) {
        error = layout_decode_group(group, value, &row, &rows_sum);
    }
    return error == OK ? visitor->group(visitor->context, &row) : error;
}

static enum err visit_row(const struct meta_visitor *visitor, uint64_t group, enum layout_type type,
                          struct kv_bytes key, struct kv_bytes value)
{
    struct meta_segment segment;
    struct meta_epoch epoch;
    struct done_row done;
    uint64_t number = 0;
    enum err error = layout_parse_number_key(key, &number);
    if (error != OK) {
        return error;
    }
    switch (type) {
    case LAYOUT_SEGMENT:
        error = layout_decode_segment(number, value, &segment);
        return error == OK ? visitor->segment(visitor->context, group, &segment) : error;
    case LAYOUT_EPOCH:
        error = layout_decode_epoch(number, value, &epoch);
        return error == OK ? visitor->epoch(visitor->context, group, &epoch) : error;
    default:
        error = layout_decode_done(number, value, &done);
        return error == OK ? visitor->done(visitor->context, group, &done) : error;
    }
}

static enum err visit(const struct meta_visitor *visitor, uint64_t group, struct kv_bytes key, struct kv_bytes value)
{
    enum layout_type type = *(const uint8_t *)key.data;
    if (type == LAYOUT_GROUP) {
        return visit_group(visitor, group, key, value);
    }
    if (type != LAYOUT_STATE) {
        return visit_row(visitor, group, type, key, value);
    }
    const struct meta_state_row row = {.key = (const uint8_t *)key.data + LAYOUT_GROUP_KEY_BYTES,
                                       .key_size = (uint32_t)(key.size - LAYOUT_GROUP_KEY_BYTES),
                                       .value = value.data,
                                       .value_size = (uint32_t)value.size};
    return visitor->state(visitor->context, group, &row);
}

enum err meta_import(struct disk *disk, const char *path, uint64_t group, const struct meta_visitor *visitor)
{
    struct importer in;
    struct kv_bytes key, value;
    enum err error = importer_open(&in, disk, path);
    if (error != OK) {
        return error;
    }
    error = importer_begin(&in, group);
    while (error == OK && (error = importer_next(&in, group, &key, &value)) == OK) {
        error = visit(visitor, group, key, value);
    }
    importer_close(&in);
    return error == ERR_CLOSED ? OK : error;
}

enum err meta_install(struct kv *kv, struct kv_txn *txn, struct disk *disk, const char *path,
                      const struct meta_group *group, const struct meta_segment *segments, uint32_t segments_count)
{
    const struct meta_picture picture = {.group = *group, .segments = segments, .segments_count = segments_count};
    struct importer in;
    struct kv_bytes key, value;
    enum err error = importer_open(&in, disk, path);
    if (error != OK) {
        return error;
    }
    error = meta_delete_group(kv, txn, group->group);
    if (error == OK) {
        error = importer_begin(&in, group->group);
    }
    while (error == OK && (error = importer_next(&in, group->group, &key, &value)) == OK) {
        uint8_t type = *(const uint8_t *)key.data;
        if (type != LAYOUT_GROUP && type != LAYOUT_SEGMENT) {
            error = row_put(kv, txn, key, value);
        }
    }
    importer_close(&in);
    return error == ERR_CLOSED ? meta_put_picture(kv, txn, &picture) : error; /* which finds no sum, and counts it */
}
