/* The state machine of `__producers`. */
#include "broker/state.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/plant.h"
#include "base/text.h"
#include "base/endian.h"
#include "base/map.h"
#include "wire/codec.h"

#define ID_COUNTER_BITS   40
#define OPS_PRODUCER_INIT 1 /* first byte of an OPS payload */
#define EPOCH_MAX         32767
#define COUNTER_KEY       "c"
#define NAME_KEY          'n' /* followed by the name */

struct state_row {
    UT_hash_handle hh; /* by name */
    struct state_row *next_dirty;
    int64_t producer_id;
    int32_t epoch;
    bool dirty;
    char name[]; /* terminated */
};

struct state_table {
    uint64_t group;
    uint64_t counter;
    bool counter_dirty;
    struct state_row *rows; /* owned */
    struct state_row *dirty;
    uint32_t dirty_count;
};

struct state_table *state_new(uint64_t group)
{
    struct state_table *table = mem_zeroed(1, sizeof *table);
    table->group = group;
    return table;
}

void state_free(struct state_table *table)
{
    struct state_row *row, *next;
    if (table == NULL) {
        return;
    }
    HASH_ITER(hh, table->rows, row, next)
    {
        HASH_DEL(table->rows, row);
        free(row);
    }
    free(table);
}

size_t state_count(const struct state_table *table)
{
    return HASH_COUNT(table->rows);
}

struct slice state_encode_init(const char *producer_name)
{
    ProducerInit op = {0};
    uint8_t bytes[1 + CODEC_STORED_BYTES_MAX];
    uint32_t size = 0;
    text_copy(op.name, sizeof op.name, producer_name);
    bytes[0] = OPS_PRODUCER_INIT;
    enum err error = codec_encode_stored(STORED_PRODUCER_INIT, &op, bytes + 1, sizeof bytes - 1, &size);
    ASSERT(error == OK);
    return entry_encode_bytes(bytes, size + 1);
}

static struct state_row *state__find(struct state_table *table, const char *name, size_t size)
{
    struct state_row *row;
    HASH_FIND(hh, table->rows, name, size, row);
    return row;
}

static struct state_row *state__add(struct state_table *table, const char *name, size_t size)
{
    struct state_row *row = mem_zeroed(1, sizeof *row + size + 1);
    memcpy(row->name, name, size);
    HASH_ADD_KEYPTR(hh, table->rows, row->name, size, row);
    return row;
}

static int64_t state__fresh_id(struct state_table *table)
{
    table->counter++;
    table->counter_dirty = true;
    ASSERT(table->counter < (uint64_t)1 << ID_COUNTER_BITS && table->group < (uint64_t)1 << (62 - ID_COUNTER_BITS));
    return (int64_t)(table->group << ID_COUNTER_BITS | table->counter);
}

static void state__mark_dirty(struct state_table *table, struct state_row *row)
{
    if (!row->dirty) {
        row->dirty = true;
        row->next_dirty = table->dirty;
        table->dirty = row;
        table->dirty_count++;
    }
}

void state_mark_all_dirty(struct state_table *table)
{
    struct state_row *row, *next;
    table->counter_dirty = table->counter > 0;
    HASH_ITER(hh, table->rows, row, next)
    {
        state__mark_dirty(table, row);
    }
}

static void state__init_producer(struct state_table *table, const char *name, struct outcome *outcome)
{
    size_t size = strlen(name);
    if (PLANT(13) && strncmp(name, "TIMEOUT", 7) == 0) {
        return;
    }
    if (size == 0) {
        outcome->producer_id = state__fresh_id(table);
        outcome->producer_epoch = 0;
        return;
    }
    struct state_row *row = state__find(table, name, size);
    if (row == NULL) {
        row = state__add(table, name, size);
        row->producer_id = state__fresh_id(table);
    } else if (row->epoch == EPOCH_MAX) {
        row->producer_id = state__fresh_id(table);
        row->epoch = 0;
    } else {
        row->epoch++;
    }
    state__mark_dirty(table, row);
    outcome->producer_id = row->producer_id;
    outcome->producer_epoch = row->epoch;
}

enum err state_apply(struct state_table *table, struct slice payload, struct outcome *outcome)
{
    ProducerInit op;
    if (payload.size < 1 || payload.data[0] != OPS_PRODUCER_INIT ||
        codec_decode_stored(STORED_PRODUCER_INIT, payload.data + 1, payload.size - 1, &op) != OK) {
        return ERR_FORMAT;
    }
    state__init_producer(table, op.name, outcome);
    return OK;
}

enum err state_put_row(struct state_table *table, const struct meta_state_row *row)
{
    const char *key = row->key;
    if (row->key_size == 1 && key[0] == COUNTER_KEY[0] && row->value_size == 8) {
        table->counter = load_le64(row->value);
        return OK;
    }
    ProducerRow value;
    if (row->key_size < 2 || key[0] != NAME_KEY || row->key_size - 1 > PRODUCER_NAME_BYTES_MAX ||
        codec_decode_stored(STORED_PRODUCER_ROW, row->value, row->value_size, &value) != OK) {
        return ERR_FORMAT;
    }
    struct state_row *mine = state__find(table, key + 1, row->key_size - 1);
    if (mine == NULL) {
        mine = state__add(table, key + 1, row->key_size - 1);
    }
    mine->producer_id = value.producer_id;
    mine->epoch = value.producer_epoch;
    return OK;
}

uint32_t state_take_dirty(struct state_table *table, struct meta_state_row **ret_rows)
{
    uint32_t count = table->dirty_count + (table->counter_dirty ? 1 : 0);
    const size_t slot = 1 + PRODUCER_NAME_BYTES_MAX + CODEC_STORED_BYTES_MAX;
    struct meta_state_row *rows = mem_zeroed(1, count * (sizeof *rows + slot) + 1);
    char *bytes = (char *)(rows + count);
    uint32_t filled = 0;
    if (table->counter_dirty) {
        bytes[0] = COUNTER_KEY[0];
        store_le64(bytes + 1, table->counter);
        rows[filled++] = (struct meta_state_row){.key = bytes, .key_size = 1, .value = bytes + 1, .value_size = 8};
        bytes += slot;
        table->counter_dirty = false;
    }
    for (struct state_row *row = table->dirty; row != NULL; row = row->next_dirty, bytes += slot) {
        ProducerRow value = {.producer_id = row->producer_id, .producer_epoch = row->epoch};
        size_t name_size = strlen(row->name);
        uint32_t value_size = 0;
        bytes[0] = NAME_KEY;
        memcpy(bytes + 1, row->name, name_size);
        uint8_t *at = (uint8_t *)bytes + 1 + name_size;
        enum err error = codec_encode_stored(STORED_PRODUCER_ROW, &value, at, CODEC_STORED_BYTES_MAX, &value_size);
        ASSERT(error == OK);
        rows[filled++] = (struct meta_state_row){
            .key = bytes, .key_size = (uint32_t)name_size + 1, .value = at, .value_size = value_size};
        row->dirty = false;
    }
    table->dirty = NULL;
    table->dirty_count = 0;
    ASSERT(filled == count);
    *ret_rows = rows;
    return count;
}
