/* The checkpoint store's rows: one group's picture in, all groups out. Formats: layout.c; CRCs: row.c. */
#include "meta/meta.h"

#include <string.h>

#include "base/assert.h"
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

/* ---- checkpoint ---- */

static enum err meta__put_group(struct kv *kv, struct kv_txn *txn, const struct meta_group *group)
{
    struct layout_key key;
    uint8_t bytes[LAYOUT_GROUP_BYTES];
    layout_group_key(&key, LAYOUT_GROUP, group->group);
    layout_encode_group(bytes, group);
    return row_put(kv, txn, layout_bytes(&key), (struct kv_bytes){bytes, sizeof bytes});
}

/* Deletes the manifest rows whose segments the picture no longer has: one walk over both, in order of base offset. */
static enum err meta__drop_segments(struct kv *kv, struct kv_txn *txn, const struct meta_picture *picture)
{
    struct layout_key prefix, from;
    uint32_t at = 0;
    layout_group_key(&prefix, LAYOUT_SEGMENT, picture->group.group);
    from = prefix;
    do {
        struct kv_bytes key, stored;
        uint64_t base_offset = 0;
        enum err error = kv->ops->seek(kv, txn, layout_bytes(&from), &key, &stored);
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
            error = kv->ops->del(kv, txn, layout_bytes(&from));
            if (error != OK) {
                return error;
            }
        }
    } while (row_key_next(from.bytes, &from.size));
    return OK;
}

/* Finished segments do not change, and a partition may have thousands: a row that says the same already is left alone,
 * so that a checkpoint writes the pages of the active segment only. */
static enum err meta__put_segments(struct kv *kv, struct kv_txn *txn, const struct meta_picture *picture)
{
    uint8_t bytes[LAYOUT_SEGMENT_BYTES + META_TAIL_BYTES_MAX];
    enum err error = meta__drop_segments(kv, txn, picture);
    for (uint32_t i = 0; error == OK && i < picture->segments_count; i++) {
        const struct meta_segment *segment = &picture->segments[i];
        struct layout_key key;
        struct kv_bytes stored;
        ASSERT(i == 0 || segment->base_offset > picture->segments[i - 1].base_offset);
        layout_number_key(&key, LAYOUT_SEGMENT, picture->group.group, (uint64_t)segment->base_offset);
        size_t size = layout_encode_segment(bytes, segment);
        if (row_get(kv, txn, layout_bytes(&key), &stored) == OK && stored.size == size &&
            memcmp(stored.data, bytes, size) == 0) {
            continue;
        }
        error = row_put(kv, txn, layout_bytes(&key), (struct kv_bytes){bytes, size});
    }
    return error;
}

static enum err meta__put_epochs(struct kv *kv, struct kv_txn *txn, const struct meta_picture *picture)
{
    enum err error = OK;
    for (uint32_t i = 0; error == OK && i < picture->epochs_count; i++) {
        struct layout_key key;
        uint8_t bytes[LAYOUT_EPOCH_BYTES];
        layout_number_key(&key, LAYOUT_EPOCH, picture->group.group, picture->epochs[i].term);
        layout_encode_epoch(bytes, &picture->epochs[i]);
        error = row_put(kv, txn, layout_bytes(&key), (struct kv_bytes){bytes, sizeof bytes});
    }
    return error;
}

static enum err meta__put_done(struct kv *kv, struct kv_txn *txn, const struct meta_picture *picture)
{
    struct layout_key key;
    enum err error = OK;
    for (uint32_t i = 0; error == OK && i < picture->done_removed_count; i++) {
        layout_number_key(&key, LAYOUT_DONE, picture->group.group, (uint64_t)picture->done_removed[i]);
        error = kv->ops->del(kv, txn, layout_bytes(&key));
    }
    for (uint32_t i = 0; error == OK && i < picture->done_count; i++) {
        uint8_t bytes[LAYOUT_DONE_BYTES];
        layout_number_key(&key, LAYOUT_DONE, picture->group.group, (uint64_t)picture->done[i].producer_id);
        layout_encode_done(bytes, &picture->done[i]);
        error = row_put(kv, txn, layout_bytes(&key), (struct kv_bytes){bytes, sizeof bytes});
    }
    return error;
}

static enum err meta__put_state(struct kv *kv, struct kv_txn *txn, const struct meta_picture *picture)
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
            error = kv->ops->del(kv, txn, layout_bytes(&key));
        } else {
            error = row_put(kv, txn, layout_bytes(&key), (struct kv_bytes){row->value, row->value_size});
        }
    }
    return error;
}

enum err meta_put_picture(struct kv *kv, struct kv_txn *txn, const struct meta_picture *picture)
{
    enum err error = meta__put_group(kv, txn, &picture->group);
    if (error == OK) {
        error = meta__put_segments(kv, txn, picture);
    }
    if (error == OK) {
        error = meta__put_epochs(kv, txn, picture);
    }
    if (error == OK) {
        error = meta__put_done(kv, txn, picture);
    }
    if (error == OK) {
        error = meta__put_state(kv, txn, picture);
    }
    return error;
}

enum err meta_delete_group(struct kv *kv, struct kv_txn *txn, uint64_t group)
{
    static const enum layout_type types[] = {LAYOUT_GROUP, LAYOUT_SEGMENT, LAYOUT_EPOCH, LAYOUT_DONE, LAYOUT_STATE};
    enum err error = OK;
    for (size_t i = 0; error == OK && i < sizeof types / sizeof types[0]; i++) {
        struct layout_key prefix;
        layout_group_key(&prefix, types[i], group);
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
};

static enum err meta__load_segment(void *context, struct kv_bytes key, struct kv_bytes value)
{
    const struct meta__load *load = context;
    struct meta_segment segment;
    uint64_t base_offset = 0;
    enum err error = layout_parse_number_key(key, &base_offset);
    if (error == OK) {
        error = layout_decode_segment(base_offset, value, &segment);
    }
    return error != OK ? error : load->visitor->segment(load->visitor->context, load->group, &segment);
}

static enum err meta__load_epoch(void *context, struct kv_bytes key, struct kv_bytes value)
{
    const struct meta__load *load = context;
    struct meta_epoch epoch;
    uint64_t term = 0;
    enum err error = layout_parse_number_key(key, &term);
    if (error == OK) {
        error = layout_decode_epoch(term, value, &epoch);
    }
    return error != OK ? error : load->visitor->epoch(load->visitor->context, load->group, &epoch);
}

static enum err meta__load_done(void *context, struct kv_bytes key, struct kv_bytes value)
{
    const struct meta__load *load = context;
    struct done_row row;
    uint64_t producer_id = 0;
    enum err error = layout_parse_number_key(key, &producer_id);
    if (error == OK) {
        error = layout_decode_done(producer_id, value, &row);
    }
    return error != OK ? error : load->visitor->done(load->visitor->context, load->group, &row);
}

static enum err meta__load_state(void *context, struct kv_bytes key, struct kv_bytes value)
{
    const struct meta__load *load = context;
    ASSERT(key.size >= LAYOUT_GROUP_KEY_BYTES); /* the scan's prefix */
    struct meta_state_row row = {
        .key = (const uint8_t *)key.data + LAYOUT_GROUP_KEY_BYTES,
        .key_size = (uint32_t)(key.size - LAYOUT_GROUP_KEY_BYTES),
        .value = value.data,
        .value_size = (uint32_t)value.size,
    };
    return load->visitor->state(load->visitor->context, load->group, &row);
}

static enum err meta__load_rows(struct meta__load *load, enum layout_type type,
                                enum err (*visit)(void *context, struct kv_bytes key, struct kv_bytes value))
{
    struct layout_key prefix;
    layout_group_key(&prefix, type, load->group);
    return row_scan(load->kv, load->txn, layout_bytes(&prefix), visit, load);
}

static enum err meta__load_group(void *context, struct kv_bytes key, struct kv_bytes value)
{
    struct meta__load *load = context;
    struct meta_group group;
    enum err error = layout_parse_group_key(key, &load->group);
    if (error == OK) {
        error = layout_decode_group(load->group, value, &group);
    }
    if (error == OK) {
        error = load->visitor->group(load->visitor->context, &group);
    }
    if (error == OK) {
        error = meta__load_rows(load, LAYOUT_SEGMENT, meta__load_segment);
    }
    if (error == OK) {
        error = meta__load_rows(load, LAYOUT_EPOCH, meta__load_epoch);
    }
    if (error == OK) {
        error = meta__load_rows(load, LAYOUT_DONE, meta__load_done);
    }
    if (error == OK) {
        error = meta__load_rows(load, LAYOUT_STATE, meta__load_state);
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
    error = row_scan(kv, load.txn, layout_bytes(&prefix), meta__load_group, &load);
    kv->ops->abort(kv, load.txn);
    return error;
}
