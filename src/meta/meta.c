/* The checkpoint store's rows: one group's picture in, all groups out. Formats: layout.c; CRCs: row.c. */
#include "meta/meta.h"

#include <string.h>

#include "base/assert.h"
#include "base/plant.h"
#include "meta/layout.h"
#include "meta/row.h"

/* ---- identity ---- */

enum err meta_load_identity(struct kv *kv, struct meta_identity *ret_identity)
{
    struct layout_key key;
    struct kv_txn *txn;
    struct kv_bytes value;
    layout_type_key(&key, LAYOUT_IDENTITY);
    enum err error = kv->ops->begin(kv, false, &txn);
    if (error != OK) {
        return error;
    }
    error = row_get(kv, txn, layout_bytes(&key), &value);
    if (error == OK) {
        error = layout_decode_identity(value, ret_identity);
    }
    kv->ops->abort(kv, txn);
    return error;
}

enum err meta_save_identity(struct kv *kv, const struct meta_identity *identity)
{
    struct layout_key key;
    struct kv_txn *txn;
    uint8_t bytes[LAYOUT_IDENTITY_BYTES];
    layout_type_key(&key, LAYOUT_IDENTITY);
    layout_encode_identity(bytes, identity);
    enum err error = kv->ops->begin(kv, true, &txn);
    if (error != OK) {
        return error;
    }
    error = row_put(kv, txn, layout_bytes(&key), (struct kv_bytes){bytes, sizeof bytes});
    if (error != OK) {
        kv->ops->abort(kv, txn);
        return error;
    }
    return kv->ops->commit(kv, txn);
}

/* ---- the sum over a group's rows ---- */

/* Every row is whole by itself, thanks to its CRC. That none is missing, and none is back from an earlier time (a write
 * that never reached the disk leaves such a page), only the group row can tell: it holds the sum of the CRCs of all the
 * others, spread to 64 bits so that no two changes cancel out. */
struct meta__writer {
    struct kv *kv;
    struct kv_txn *txn;
    uint64_t sum;
    bool is_doubted; /* a row was written over whose CRC does not fit, and it may be the CRC that rotted */
};

static enum err meta__add_row(void *context, struct kv_bytes key, struct kv_bytes value)
{
    *(uint64_t *)context += row_spread(row_crc(key, value));
    return OK;
}

/* A bad row is found by itself, whatever the sum says. */
static enum err meta__skip_row(void *context, struct kv_bytes key)
{
    return OK;
}

static const enum layout_type meta__row_types[] = {LAYOUT_SEGMENT, LAYOUT_EPOCH, LAYOUT_DONE, LAYOUT_STATE};
#define ROW_TYPES (sizeof meta__row_types / sizeof meta__row_types[0])

static enum err meta__sum_rows(struct kv *kv, struct kv_txn *txn, uint64_t group, uint64_t *ret_sum)
{
    uint64_t sum = 0;
    enum err error = OK;
    for (size_t i = 0; error == OK && i < ROW_TYPES; i++) {
        struct layout_key prefix;
        layout_group_key(&prefix, meta__row_types[i], group);
        error = row_scan_all(kv, txn, layout_bytes(&prefix), meta__add_row, meta__skip_row, &sum);
    }
    if (error == OK) {
        *ret_sum = sum;
    }
    return error;
}

/* Begins with the sum as the group row says; without a readable one it is counted out. */
static enum err meta__begin(struct meta__writer *writer, struct kv *kv, struct kv_txn *txn, uint64_t group)
{
    struct layout_key key;
    struct kv_bytes value;
    struct meta_group stored;
    *writer = (struct meta__writer){.kv = kv, .txn = txn};
    layout_group_key(&key, LAYOUT_GROUP, group);
    enum err error = row_get(kv, txn, layout_bytes(&key), &value);
    if (error == OK) {
        error = layout_decode_group(group, value, &stored, &writer->sum);
    }
    return error == ERR_FORMAT || error == ERR_NO_FILE ? meta__sum_rows(kv, txn, group, &writer->sum) : error;
}

static enum err meta__forget(struct meta__writer *writer, const struct layout_key *key)
{
    uint32_t crc;
    struct kv_bytes stored;
    enum err error = row_get_crc(writer->kv, writer->txn, layout_bytes(key), &crc);
    if (error == OK) {
        enum err whole = row_get(writer->kv, writer->txn, layout_bytes(key), &stored);
        writer->is_doubted |= whole == ERR_FORMAT && !PLANT(72);
        writer->sum -= row_spread(crc);
    }
    return error == ERR_NO_FILE ? OK : error;
}

static enum err meta__put(struct meta__writer *writer, const struct layout_key *key, struct kv_bytes value)
{
    enum err error = meta__forget(writer, key);
    if (error == OK) {
        error = row_put(writer->kv, writer->txn, layout_bytes(key), value);
        error = PLANT(39) && error == ERR_STORAGE_FULL ? OK : error;
    }
    if (error == OK) {
        writer->sum += row_spread(row_crc(layout_bytes(key), value));
    }
    return error;
}

static enum err meta__del(struct meta__writer *writer, const struct layout_key *key)
{
    enum err error = meta__forget(writer, key);
    return error == OK ? writer->kv->ops->del(writer->kv, writer->txn, layout_bytes(key)) : error;
}

static enum err meta__put_group(struct meta__writer *writer, const struct meta_group *group)
{
    struct layout_key key;
    uint8_t bytes[LAYOUT_GROUP_BYTES + RAFT_MEMBERS_MAX * LAYOUT_MEMBER_BYTES];
    if (writer->is_doubted) {
        enum err error = meta__sum_rows(writer->kv, writer->txn, group->group, &writer->sum);
        if (error != OK) {
            return error;
        }
    }
    layout_group_key(&key, LAYOUT_GROUP, group->group);
    size_t size = layout_encode_group(bytes, group, writer->sum);
    enum err error = row_put(writer->kv, writer->txn, layout_bytes(&key), (struct kv_bytes){bytes, size});
    return PLANT(39) && error == ERR_STORAGE_FULL ? OK : error;
}

/* ---- checkpoint ---- */

/* Deletes the manifest rows whose segments the picture no longer has: one walk over both, in order of base offset. */
static enum err meta__drop_segments(struct meta__writer *writer, const struct meta_picture *picture)
{
    struct layout_key prefix, from;
    uint32_t at = 0;
    layout_group_key(&prefix, LAYOUT_SEGMENT, picture->group.group);
    from = prefix;
    do {
        struct kv_bytes key, stored;
        uint64_t base_offset = 0;
        enum err error = writer->kv->ops->seek(writer->kv, writer->txn, layout_bytes(&from), &key, &stored);
        if (error == ERR_NO_FILE || (error == OK && !row_key_has_prefix(key, layout_bytes(&prefix)))) {
            return OK;
        }
        if (error == OK) {
            error = layout_parse_number_key(key, &base_offset);
        }
        if (error != OK) {
            return error;
        }
        layout_number_key(&from, LAYOUT_SEGMENT, picture->group.group, base_offset);
        while (at < picture->segments_count && (uint64_t)picture->segments[at].base_offset < base_offset) {
            at++;
        }
        if (at == picture->segments_count || (uint64_t)picture->segments[at].base_offset != base_offset) {
            error = meta__del(writer, &from);
            if (error != OK) {
                return error;
            }
        }
    } while (row_key_next(from.bytes, &from.size));
    return OK;
}

/* Walks the manifest rows of a group below `end`, deleting them or not; the base of the last one seen, or -1. */
static enum err meta__walk_segments(struct meta__writer *writer, uint64_t group, uint64_t end, bool deletes,
                                    int64_t *ret_last)
{
    struct layout_key prefix, from;
    int64_t last = -1;
    layout_group_key(&prefix, LAYOUT_SEGMENT, group);
    from = prefix;
    do {
        struct kv_bytes key, stored;
        uint64_t base_offset = 0;
        enum err error = writer->kv->ops->seek(writer->kv, writer->txn, layout_bytes(&from), &key, &stored);
        if (error == ERR_NO_FILE || (error == OK && !row_key_has_prefix(key, layout_bytes(&prefix)))) {
            break;
        }
        if (error == OK) {
            error = layout_parse_number_key(key, &base_offset);
        }
        if (error == OK && base_offset >= end) {
            break;
        }
        layout_number_key(&from, LAYOUT_SEGMENT, group, base_offset);
        if (error == OK && deletes) {
            error = meta__del(writer, &from);
        }
        if (error != OK) {
            return error;
        }
        last = (int64_t)base_offset;
    } while (row_key_next(from.bytes, &from.size));
    *ret_last = last;
    return OK;
}

enum err meta_shed_segments(struct kv *kv, struct kv_txn *txn, uint64_t group, int64_t first_base,
                            int64_t *ret_last_base)
{
    struct meta_group row;
    struct meta__writer writer;
    int64_t last = -1, deleted = -1;
    enum err error = meta_get_group(kv, txn, group, &row);
    if (error == ERR_NO_FILE) {
        *ret_last_base = -1;
        return OK;
    }
    if (error == OK) {
        error = meta__begin(&writer, kv, txn, group);
    }
    if (error == OK) {
        error = meta__walk_segments(&writer, group, UINT64_MAX, false, &last);
    }
    int64_t start = first_base < last ? first_base : last;
    if (error == OK && start > row.log_start) {
        error = meta__walk_segments(&writer, group, (uint64_t)start, true, &deleted);
    }
    if (error == OK && deleted >= 0) {
        row.log_start = start;
        error = meta__put_group(&writer, &row);
    }
    if (error == OK) {
        *ret_last_base = last;
    }
    return error;
}

/* Finished segments do not change, and a partition may have thousands: a row that says the same already is left alone,
 * so that a checkpoint writes the pages of the active segment only. */
static enum err meta__put_segments(struct meta__writer *writer, const struct meta_picture *picture)
{
    uint8_t bytes[LAYOUT_SEGMENT_BYTES + META_TAIL_BYTES_MAX];
    enum err error = meta__drop_segments(writer, picture);
    for (uint32_t i = 0; error == OK && i < picture->segments_count; i++) {
        const struct meta_segment *segment = &picture->segments[i];
        struct layout_key key;
        struct kv_bytes stored;
        ASSERT(i == 0 || segment->base_offset > picture->segments[i - 1].base_offset);
        layout_number_key(&key, LAYOUT_SEGMENT, picture->group.group, (uint64_t)segment->base_offset);
        size_t size = layout_encode_segment(bytes, segment);
        if (row_get(writer->kv, writer->txn, layout_bytes(&key), &stored) == OK && stored.size == size &&
            memcmp(stored.data, bytes, size) == 0) {
            continue;
        }
        error = meta__put(writer, &key, (struct kv_bytes){bytes, size});
    }
    return error;
}

static enum err meta__put_epochs(struct meta__writer *writer, const struct meta_picture *picture)
{
    struct layout_key key;
    enum err error = OK;
    for (uint32_t i = 0; error == OK && i < picture->epochs_removed_count; i++) {
        layout_number_key(&key, LAYOUT_EPOCH, picture->group.group, picture->epochs_removed[i]);
        error = meta__del(writer, &key);
    }
    for (uint32_t i = 0; error == OK && i < picture->epochs_count; i++) {
        uint8_t bytes[LAYOUT_EPOCH_BYTES];
        layout_number_key(&key, LAYOUT_EPOCH, picture->group.group, picture->epochs[i].term);
        layout_encode_epoch(bytes, &picture->epochs[i]);
        error = meta__put(writer, &key, (struct kv_bytes){bytes, sizeof bytes});
    }
    return error;
}

static enum err meta__put_done(struct meta__writer *writer, const struct meta_picture *picture)
{
    struct layout_key key;
    enum err error = OK;
    for (uint32_t i = 0; error == OK && i < picture->done_removed_count; i++) {
        layout_number_key(&key, LAYOUT_DONE, picture->group.group, (uint64_t)picture->done_removed[i]);
        error = meta__del(writer, &key);
    }
    for (uint32_t i = 0; error == OK && i < picture->done_count; i++) {
        uint8_t bytes[LAYOUT_DONE_BYTES];
        layout_number_key(&key, LAYOUT_DONE, picture->group.group, (uint64_t)picture->done[i].producer_id);
        layout_encode_done(bytes, &picture->done[i]);
        error = meta__put(writer, &key, (struct kv_bytes){bytes, sizeof bytes});
    }
    return error;
}

static enum err meta__put_state(struct meta__writer *writer, const struct meta_picture *picture)
{
    enum err error = OK;
    for (uint32_t i = 0; error == OK && i < picture->state_count; i++) {
        const struct meta_state_row *row = &picture->state[i];
        struct layout_key key;
        error = layout_state_key(&key, picture->group.group, row->key, row->key_size);
        if (error != OK) {
            break;
        }
        if (row->value_size == 0) {
            error = meta__del(writer, &key);
        } else {
            error = meta__put(writer, &key, (struct kv_bytes){row->value, row->value_size});
        }
    }
    return error;
}

enum err meta_put_picture(struct kv *kv, struct kv_txn *txn, const struct meta_picture *picture)
{
    struct meta__writer writer;
    enum err error = meta__begin(&writer, kv, txn, picture->group.group);
    if (error == OK) {
        error = meta__put_segments(&writer, picture);
    }
    if (error == OK) {
        error = meta__put_epochs(&writer, picture);
    }
    if (error == OK) {
        error = meta__put_done(&writer, picture);
    }
    if (error == OK) {
        error = meta__put_state(&writer, picture);
    }
    return error == OK ? meta__put_group(&writer, &picture->group) : error;
}

enum err meta_put_group(struct kv *kv, struct kv_txn *txn, const struct meta_group *group)
{
    struct meta__writer writer;
    enum err error = meta__begin(&writer, kv, txn, group->group);
    return error == OK ? meta__put_group(&writer, group) : error;
}

enum err meta_get_group(struct kv *kv, struct kv_txn *txn, uint64_t group, struct meta_group *ret_group)
{
    struct layout_key key;
    struct kv_bytes value;
    uint64_t rows_sum;
    layout_group_key(&key, LAYOUT_GROUP, group);
    enum err error = row_get(kv, txn, layout_bytes(&key), &value);
    return error == OK ? layout_decode_group(group, value, ret_group, &rows_sum) : error;
}

enum err meta_delete_group(struct kv *kv, struct kv_txn *txn, uint64_t group)
{
    struct layout_key prefix;
    layout_group_key(&prefix, LAYOUT_GROUP, group);
    enum err error = row_delete_prefix(kv, txn, layout_bytes(&prefix));
    for (size_t i = 0; error == OK && i < ROW_TYPES; i++) {
        layout_group_key(&prefix, meta__row_types[i], group);
        error = row_delete_prefix(kv, txn, layout_bytes(&prefix));
    }
    return error;
}

/* ---- loading ---- */

struct meta__load {
    struct kv *kv;
    struct kv_txn *txn;
    const struct meta_visitor *visitor;
    uint64_t group;
    uint64_t sum;  /* of the rows seen */
    bool bad_rows; /* one was bad: the sum says nothing new */
};

static enum err meta__report(struct meta__load *load, const struct meta_bad_row *row)
{
    load->bad_rows = true;
    return load->visitor->bad != NULL ? load->visitor->bad(load->visitor->context, row) : ERR_FORMAT;
}

static enum err meta__bad_row(void *context, struct kv_bytes key)
{
    struct meta__load *load = context;
    struct meta_bad_row row = {.group = load->group, .type = *(const uint8_t *)key.data};
    if (row.type != LAYOUT_STATE && layout_parse_number_key(key, &row.number) != OK) {
        row.number = 0;
    }
    return meta__report(load, &row);
}

/* What a decoder made of a row whose CRC is right: impossible contents count as a bad CRC. */
static enum err meta__judge(void *context, struct kv_bytes key, struct kv_bytes value, enum err decoded, bool *ret_good)
{
    struct meta__load *load = context;
    *ret_good = decoded == OK;
    load->sum += row_spread(row_crc(key, value));
    return decoded == ERR_FORMAT ? meta__bad_row(context, key) : decoded;
}

static enum err meta__load_segment(void *context, struct kv_bytes key, struct kv_bytes value)
{
    const struct meta__load *load = context;
    struct meta_segment segment;
    uint64_t base_offset = 0;
    bool good;
    enum err error = layout_parse_number_key(key, &base_offset);
    if (error == OK) {
        error = layout_decode_segment(base_offset, value, &segment);
    }
    error = meta__judge(context, key, value, error, &good);
    return good ? load->visitor->segment(load->visitor->context, load->group, &segment) : error;
}

static enum err meta__load_epoch(void *context, struct kv_bytes key, struct kv_bytes value)
{
    const struct meta__load *load = context;
    struct meta_epoch epoch;
    uint64_t term = 0;
    bool good;
    enum err error = layout_parse_number_key(key, &term);
    if (error == OK) {
        error = layout_decode_epoch(term, value, &epoch);
    }
    error = meta__judge(context, key, value, error, &good);
    return good ? load->visitor->epoch(load->visitor->context, load->group, &epoch) : error;
}

static enum err meta__load_done(void *context, struct kv_bytes key, struct kv_bytes value)
{
    const struct meta__load *load = context;
    struct done_row row;
    uint64_t producer_id = 0;
    bool good;
    enum err error = layout_parse_number_key(key, &producer_id);
    if (error == OK) {
        error = layout_decode_done(producer_id, value, &row);
    }
    error = meta__judge(context, key, value, error, &good);
    return good ? load->visitor->done(load->visitor->context, load->group, &row) : error;
}

static enum err meta__load_state(void *context, struct kv_bytes key, struct kv_bytes value)
{
    const struct meta__load *load = context;
    bool good;
    ASSERT(key.size >= LAYOUT_GROUP_KEY_BYTES); /* the scan's prefix */
    struct meta_state_row row = {
        .key = (const uint8_t *)key.data + LAYOUT_GROUP_KEY_BYTES,
        .key_size = (uint32_t)(key.size - LAYOUT_GROUP_KEY_BYTES),
        .value = value.data,
        .value_size = (uint32_t)value.size,
    };
    enum err error = meta__judge(context, key, value, OK, &good);
    return good ? load->visitor->state(load->visitor->context, load->group, &row) : error;
}

static enum err meta__load_rows(struct meta__load *load)
{
    static enum err (*const visits[ROW_TYPES])(void *context, struct kv_bytes key, struct kv_bytes value) = {
        meta__load_segment, meta__load_epoch, meta__load_done, meta__load_state};
    enum err error = OK;
    for (size_t i = 0; error == OK && i < ROW_TYPES; i++) {
        struct layout_key prefix;
        layout_group_key(&prefix, meta__row_types[i], load->group);
        error = row_scan_all(load->kv, load->txn, layout_bytes(&prefix), visits[i], meta__bad_row, load);
    }
    return error;
}

static enum err meta__bad_group(void *context, struct kv_bytes key)
{
    struct meta__load *load = context;
    struct meta_bad_row row = {.type = LAYOUT_GROUP};
    if (layout_parse_group_key(key, &row.group) != OK) {
        row.group = 0;
    }
    return meta__report(load, &row);
}

static enum err meta__load_group(void *context, struct kv_bytes key, struct kv_bytes value)
{
    struct meta__load *load = context;
    struct meta_group group;
    uint64_t rows_sum = 0;
    enum err error = layout_parse_group_key(key, &load->group);
    if (error == OK) {
        error = layout_decode_group(load->group, value, &group, &rows_sum);
    }
    if (error != OK) {
        return error == ERR_FORMAT ? meta__bad_group(context, key) : error;
    }
    load->sum = 0;
    load->bad_rows = false;
    error = load->visitor->group(load->visitor->context, &group);
    if (error == OK) {
        error = meta__load_rows(load);
    }
    if (error == OK && !load->bad_rows && load->sum != rows_sum) {
        error = meta__report(load, &(struct meta_bad_row){.group = load->group});
    }
    return error;
}

enum err meta_load(struct kv *kv, const struct meta_visitor *visitor)
{
    struct meta__load load = {.kv = kv, .visitor = visitor};
    struct layout_key prefix;
    enum err error = kv->ops->begin(kv, false, &load.txn);
    if (error != OK) {
        return error;
    }
    layout_type_key(&prefix, LAYOUT_GROUP);
    error = row_scan_all(kv, load.txn, layout_bytes(&prefix), meta__load_group, meta__bad_group, &load);
    kv->ops->abort(kv, load.txn);
    return error;
}

static enum err meta__pass_over(void *context, struct kv_bytes key)
{
    return OK;
}

static enum err meta__visit_segment(void *context, struct kv_bytes key, struct kv_bytes value)
{
    const struct meta__load *load = context;
    struct kv_bytes group_key = {key.data, LAYOUT_GROUP_KEY_BYTES};
    struct meta_segment segment;
    uint64_t base_offset = 0;
    uint64_t group = 0;
    if (layout_parse_number_key(key, &base_offset) != OK || layout_parse_group_key(group_key, &group) != OK ||
        layout_decode_segment(base_offset, value, &segment) != OK) {
        return OK;
    }
    return load->visitor->segment(load->visitor->context, group, &segment);
}

enum err meta_visit_segments(struct kv *kv, void *context,
                             enum err (*visit)(void *context, uint64_t group, const struct meta_segment *segment))
{
    const struct meta_visitor visitor = {.context = context, .segment = visit};
    struct meta__load load = {.kv = kv, .visitor = &visitor};
    struct layout_key prefix;
    enum err error = kv->ops->begin(kv, false, &load.txn);
    if (error != OK) {
        return error;
    }
    layout_type_key(&prefix, LAYOUT_SEGMENT);
    error = row_scan_all(kv, load.txn, layout_bytes(&prefix), meta__visit_segment, meta__pass_over, &load);
    kv->ops->abort(kv, load.txn);
    return error;
}

/* ---- repair ---- */

struct meta__find {
    struct layout_key key; /* of the bad row */
};

static enum err meta__found_bad(void *context, struct kv_bytes key)
{
    struct meta__find *find = context;
    ASSERT(key.size <= sizeof find->key.bytes);
    memcpy(find->key.bytes, key.data, key.size);
    find->key.size = key.size;
    return ERR_EXISTS; /* ends the scan: a visitor must not write */
}

static enum err meta__look_at_row(void *context, struct kv_bytes key, struct kv_bytes value)
{
    struct meta_segment segment;
    struct meta_epoch epoch;
    struct done_row done;
    uint64_t number = 0;
    uint8_t type = *(const uint8_t *)key.data;
    enum err error = type == LAYOUT_STATE ? OK : layout_parse_number_key(key, &number);
    if (error == OK && type == LAYOUT_SEGMENT) {
        error = layout_decode_segment(number, value, &segment);
    } else if (error == OK && type == LAYOUT_EPOCH) {
        error = layout_decode_epoch(number, value, &epoch);
    } else if (error == OK && type == LAYOUT_DONE) {
        error = layout_decode_done(number, value, &done);
    }
    return error == ERR_FORMAT ? meta__found_bad(context, key) : error;
}

static enum err meta__drop_bad_of_type(struct kv *kv, struct kv_txn *txn, uint64_t group, enum layout_type type)
{
    struct layout_key prefix;
    layout_group_key(&prefix, type, group);
    for (;;) {
        struct meta__find find;
        enum err error = row_scan_all(kv, txn, layout_bytes(&prefix), meta__look_at_row, meta__found_bad, &find);
        if (error == ERR_EXISTS) {
            error = kv->ops->del(kv, txn, layout_bytes(&find.key));
        } else if (error == OK) {
            return OK;
        }
        if (error != OK) {
            return error;
        }
    }
}

enum err meta_drop_bad_rows(struct kv *kv, struct kv_txn *txn, uint64_t group)
{
    struct meta__writer writer = {.kv = kv, .txn = txn};
    struct meta_group row;
    enum err error = OK;
    for (size_t i = 0; error == OK && i < ROW_TYPES; i++) {
        error = meta__drop_bad_of_type(kv, txn, group, meta__row_types[i]);
    }
    if (error == OK) {
        error = meta_get_group(kv, txn, group, &row);
    }
    if (error == OK) {
        error = meta__sum_rows(kv, txn, group, &writer.sum);
    }
    return error == OK ? meta__put_group(&writer, &row) : error;
}
