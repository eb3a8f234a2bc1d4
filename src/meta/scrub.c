/* The walk over the rows, see scrub.h. */
#include "meta/scrub.h"

#include <string.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/plant.h"
#include "meta/layout.h"
#include "meta/row.h"

#define REGISTRY_NUMBER_AT 2u /* in its keys: behind 'R' and the kind of row */

static void step__judge(struct meta_scrub_step *step, struct kv_bytes key, struct kv_bytes stored)
{
    step->rows++;
    step->bytes += (uint32_t)(key.size + stored.size);
    if (PLANT(70) || row_is_whole(key, stored)) {
        return;
    }
    struct meta_bad_row *bad = &step->bad[step->bad_count++];
    *bad = (struct meta_bad_row){.type = *(const uint8_t *)key.data};
    uint64_t group;
    if (bad->type != 0 && strchr("GMEDS", bad->type) != NULL && key.size >= LAYOUT_GROUP_KEY_BYTES &&
        layout_parse_group_key((struct kv_bytes){key.data, LAYOUT_GROUP_KEY_BYTES}, &group) == OK) {
        bad->group = group;
    }
    if (bad->type == 'R' && key.size >= REGISTRY_NUMBER_AT) {
        const uint8_t *bytes = key.data;
        bad->number = bytes[1];
        bad->group = key.size >= REGISTRY_NUMBER_AT + sizeof group ? load_be64(bytes + REGISTRY_NUMBER_AT) : 0;
    }
}

enum err meta_scrub_step(struct kv *kv, struct meta_scrub_step *step)
{
    struct kv_txn *txn;
    struct meta_scrub_step at = {.from_size = step->from_size};
    memcpy(at.from, step->from, step->from_size);
    if (at.from_size == 0) { /* the lowest key there can be: one byte of 0 */
        at.from_size = 1;
    }
    enum err error = kv->ops->begin(kv, false, &txn);
    if (error != OK) {
        return error;
    }
    while (at.rows < META_SCRUB_ROWS_MAX && at.bytes < META_SCRUB_BYTES_MAX && !at.is_over) {
        struct kv_bytes key, stored;
        error = kv->ops->seek(kv, txn, (struct kv_bytes){at.from, at.from_size}, &key, &stored);
        if (error == ERR_NO_FILE) {
            at.is_over = true;
            error = OK;
            break;
        }
        if (error == OK && (key.size == 0 || key.size > sizeof at.from)) {
            error = ERR_FORMAT;
        }
        if (error != OK) {
            break;
        }
        step__judge(&at, key, stored);
        memcpy(at.from, key.data, key.size);
        at.from_size = key.size;
        at.is_over = !row_key_next(at.from, &at.from_size);
    }
    kv->ops->abort(kv, txn);
    if (error == OK) {
        *step = at;
    }
    return error;
}
