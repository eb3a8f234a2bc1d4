/* Hostile rows in the checkpoint store, and hostile done tables. Every decoder of a row takes any bytes, and what it
 * accepts is written back to the same meaning. A load of a whole store with bad, missing, foreign and left-over rows
 * ends, hands out only what the decoders accept, calls bad only groups that were tampered with, and after the bad rows
 * were dropped calls no row bad but a group's own. Done rows that load judge every candidate without an assertion.
 *
 * Input: byte 0 even: a row for the decoders {type, number (8 bytes), value}. Odd: instructions over a store with 4
 * groups, {bits 0-2 what, bits 3-4 which group}, then arguments:
 *   0 a checkpoint      seed, segments, epochs, done rows, state rows
 *   1 a row with a right CRC   type, number, n, n bytes of value (n 255: those of an encoded row, one of them changed)
 *   2 a row without one        type, number, n, n bytes
 *   3 a flipped bit     which row, which bit (2 bytes)
 *   4 a row removed     which row
 *   5 the group removed
 *   6 bad rows dropped
 *   7 a key of any bytes  n, n bytes of key, a right CRC */
#include <stdlib.h>
#include <string.h>

#include "../sim/sim_kv.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "meta/layout.h"
#include "meta/meta.h"
#include "meta/row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define GROUPS        4
#define GROUP_FIRST   1
#define ROWS_MAX      6
#define VALUE_MAX     (LAYOUT_SEGMENT_BYTES + META_TAIL_BYTES_MAX)
#define TYPES         "GMEDSB"
#define FOREIGN_GROUP UINT64_MAX

struct input {
    const uint8_t *data;
    size_t size;
};

static uint8_t take(struct input *in)
{
    if (in->size == 0)
        return 0;
    in->size--;
    return *in->data++;
}

static size_t take_bytes(struct input *in, const uint8_t **ret, size_t count)
{
    count = count < in->size ? count : in->size;
    *ret = in->data;
    if (count > 0)
        in->data += count;
    in->size -= count;
    return count;
}

/* --- one row --- */

/* Encodes what was decoded; returns its size, 0: the decoder refused. */
static size_t recode(uint8_t type, uint64_t number, struct kv_bytes value, uint8_t out[VALUE_MAX])
{
    union {
        struct meta_identity identity;
        struct meta_group group;
        struct meta_segment segment;
        struct meta_epoch epoch;
        struct done_row done;
    } row;
    uint64_t sum;
    memset(&row, 0, sizeof row);
    switch (type) {
    case LAYOUT_IDENTITY:
        if (layout_decode_identity(value, &row.identity) != OK)
            return 0;
        layout_encode_identity(out, &row.identity);
        return LAYOUT_IDENTITY_BYTES;
    case LAYOUT_GROUP:
        if (layout_decode_group(number, value, &row.group, &sum) != OK)
            return 0;
        return layout_encode_group(out, &row.group, sum);
    case LAYOUT_SEGMENT:
        if (layout_decode_segment(number, value, &row.segment) != OK)
            return 0;
        ASSERT(row.segment.tail_size == 0 ||
               (row.segment.tail >= (const uint8_t *)value.data &&
                row.segment.tail + row.segment.tail_size <= (const uint8_t *)value.data + value.size));
        return layout_encode_segment(out, &row.segment);
    case LAYOUT_EPOCH:
        if (layout_decode_epoch(number, value, &row.epoch) != OK)
            return 0;
        layout_encode_epoch(out, &row.epoch);
        return LAYOUT_EPOCH_BYTES;
    default:
        if (layout_decode_done(number, value, &row.done) != OK)
            return 0;
        layout_encode_done(out, &row.done);
        return LAYOUT_DONE_BYTES;
    }
}

/* A hostile row in a table: judging is total, and applying what it lets through keeps it so. */
static void judge_row(const struct done_row *row)
{
    struct done_table *table = done_table_new();
    done_put_row(table, row);
    int64_t newest = row->count > 0 ? row->batches[row->count - 1].offset : 0;
    ASSERT(done_count(table) == 1 && done_get_row(table, row->producer_id)->count == row->count);
    for (int i = 0; i < 12; i++) {
        const struct done_batch *batch = row->count > 0 ? &row->batches[i % row->count] : NULL;
        struct done_candidate candidate = {.producer_id = row->producer_id,
                                           .epoch = (int16_t)(row->epoch + (i == 7) - (i == 8)),
                                           .records_count = 1 + i % 3};
        if (batch != NULL)
            candidate.first_sequence = i < 6 ? batch->first_sequence : (int32_t)((uint32_t)batch->last_sequence + 1);
        struct done_judgement judgement = done_judge(table, NULL, &candidate);
        if (judgement.verdict != DONE_GO || newest > INT64_MAX - 100)
            continue;
        done_apply(table, &candidate, ++newest, row->last_idle_ms); /* offsets of a log rise */
        ASSERT(done_judge(table, NULL, &candidate).verdict == DONE_KNOWN);
    }
    done_hash(table);
    done_table_free(table);
}

static void check_row(struct input *in)
{
    static uint8_t first[VALUE_MAX], second[VALUE_MAX];
    uint8_t type = (uint8_t)TYPES[take(in) % (sizeof TYPES - 1)];
    const uint8_t *bytes;
    uint64_t number = 0;
    for (int i = 0; i < 8; i++)
        number = number << 8 | take(in);
    size_t size = take_bytes(in, &bytes, VALUE_MAX + 8);
    uint8_t *exact = malloc(size + 1); /* the sanitizer sees one byte too many */
    if (size > 0)
        memcpy(exact + 1, bytes, size);
    struct kv_bytes value = {exact + 1, size};
    size_t first_size = recode(type, number, value, first);
    if (first_size > 0) {
        struct done_row row;
        ASSERT(first_size == size || type == LAYOUT_GROUP); /* an old row comes out as a new one */
        ASSERT(recode(type, number, (struct kv_bytes){first, first_size}, second) == first_size);
        ASSERT(memcmp(first, second, first_size) == 0);
        if (layout_decode_done(number, value, &row) == OK && type == LAYOUT_DONE)
            judge_row(&row);
    }
    free(exact);
}

/* --- a store --- */

struct shelf {
    struct kv *kv;
    bool touched[GROUPS]; /* rows of this group are not those of a checkpoint */
    bool strange;         /* there are rows that belong to no group of ours */
};

static void mark(struct shelf *shelf, const uint8_t *key, size_t size)
{
    uint64_t group = size >= LAYOUT_GROUP_KEY_BYTES ? load_be64(key + 1) : FOREIGN_GROUP;
    if (group >= GROUP_FIRST && group < GROUP_FIRST + GROUPS)
        shelf->touched[group - GROUP_FIRST] = true;
    else
        shelf->strange = true;
    if (key[0] == LAYOUT_GROUP && size != LAYOUT_GROUP_KEY_BYTES)
        shelf->strange = true;
}

static struct kv_txn *begin(struct shelf *shelf, bool write)
{
    struct kv_txn *txn;
    ASSERT(shelf->kv->ops->begin(shelf->kv, write, &txn) == OK);
    return txn;
}

static void put_picture(struct shelf *shelf, struct input *in, uint64_t group)
{
    static uint8_t tail[META_TAIL_BYTES_MAX];
    struct meta_segment segments[ROWS_MAX];
    struct meta_epoch epochs[ROWS_MAX];
    struct done_row done[ROWS_MAX];
    struct meta_state_row state[ROWS_MAX];
    uint8_t seed = take(in);
    struct meta_picture picture = {.segments = segments, .epochs = epochs, .done = done, .state = state};
    picture.segments_count = take(in) % ROWS_MAX;
    picture.epochs_count = take(in) % ROWS_MAX;
    picture.done_count = take(in) % ROWS_MAX;
    picture.state_count = take(in) % ROWS_MAX;
    picture.group =
        (struct meta_group){.group = group, .replica = group + 100, .term = seed, .members_count = seed % 7};
    picture.group.next_offset = 10 * (int64_t)picture.segments_count;
    for (uint32_t i = 0; i < ROWS_MAX; i++) {
        segments[i] = (struct meta_segment){.base_offset = 10 * (int64_t)i,
                                            .end_offset = 10 * (int64_t)i + 10,
                                            .size_bytes = 1000,
                                            .generation = seed,
                                            .tail_size = i + 1 == picture.segments_count ? seed * 16u : 0,
                                            .tail = tail};
        epochs[i] = (struct meta_epoch){.term = 1 + i + seed % 3, .first_offset = i};
        done[i] =
            (struct done_row){.producer_id = (int64_t)(i * 3 + seed % 2), .epoch = seed, .count = (uint8_t)(i % 6)};
        state[i] = (struct meta_state_row){.key = &"names"[i % 5], .key_size = 5 - i % 5, .value = "v"};
        state[i].value_size = (seed >> i & 1) == 0;
    }
    struct kv_txn *txn = begin(shelf, true);
    enum err error = meta_put_picture(shelf->kv, txn, &picture);
    if (error == OK) {
        ASSERT(shelf->kv->ops->commit(shelf->kv, txn) == OK);
    } else {
        ASSERT(shelf->touched[group - GROUP_FIRST]); /* over bad rows a checkpoint may fail */
        shelf->kv->ops->abort(shelf->kv, txn);
    }
}

/* The n-th row of all, from the end of the list on from its beginning; false: the store is empty. */
static bool choose_row(struct shelf *shelf, unsigned n, uint8_t key[KV_KEY_BYTES_MAX], size_t *ret_size,
                       size_t *ret_bits)
{
    struct kv_txn *txn = begin(shelf, false);
    struct kv_bytes found, value;
    size_t size = 1;
    bool any = false;
    key[0] = 0;
    for (unsigned i = 0; i <= n % 64; i++) {
        enum err error = shelf->kv->ops->seek(shelf->kv, txn, (struct kv_bytes){key, size}, &found, &value);
        if (error != OK)
            break;
        any = true;
        memcpy(key, found.data, found.size);
        *ret_size = found.size;
        *ret_bits = 8 * value.size;
        size = found.size;
        if (i < n % 64 && !row_key_next(key, &size))
            break;
    }
    shelf->kv->ops->abort(shelf->kv, txn);
    return any;
}

static void write_row(struct shelf *shelf, struct kv_bytes key, struct kv_bytes value, bool with_crc)
{
    struct kv_txn *txn = begin(shelf, true);
    enum err error = with_crc ? row_put(shelf->kv, txn, key, value) : shelf->kv->ops->put(shelf->kv, txn, key, value);
    ASSERT(error == OK && shelf->kv->ops->commit(shelf->kv, txn) == OK);
    mark(shelf, key.data, key.size);
}

static void put_row(struct shelf *shelf, struct input *in, uint64_t group, bool with_crc)
{
    static uint8_t encoded[VALUE_MAX];
    struct layout_key key;
    uint8_t type = (uint8_t)TYPES[take(in) % (sizeof TYPES - 1)];
    uint64_t number = take(in);
    const uint8_t *bytes;
    uint8_t n = take(in);
    size_t size = take_bytes(in, &bytes, n);
    if (type == LAYOUT_IDENTITY)
        layout_type_key(&key, LAYOUT_IDENTITY);
    else if (type == LAYOUT_GROUP)
        layout_group_key(&key, LAYOUT_GROUP, group);
    else
        layout_number_key(&key, (enum layout_type)type, group, number);
    struct kv_bytes value = {size > 0 ? bytes : encoded, size};
    if (n == 255 && size >= 2) {
        struct done_row row = {.producer_id = (int64_t)number, .count = 2};
        layout_encode_done(encoded, &row);
        encoded[bytes[0] % LAYOUT_DONE_BYTES] ^= bytes[1];
        value = (struct kv_bytes){encoded, LAYOUT_DONE_BYTES};
    }
    write_row(shelf, layout_bytes(&key), value, with_crc);
}

static void spoil_row(struct shelf *shelf, struct input *in, bool removes)
{
    uint8_t key[KV_KEY_BYTES_MAX];
    size_t size, bits;
    uint8_t which = take(in);
    size_t bit = removes ? 0 : take(in) * 256u + take(in);
    if (!choose_row(shelf, which, key, &size, &bits))
        return;
    if (removes) {
        struct kv_txn *txn = begin(shelf, true);
        ASSERT(shelf->kv->ops->del(shelf->kv, txn, (struct kv_bytes){key, size}) == OK);
        ASSERT(shelf->kv->ops->commit(shelf->kv, txn) == OK);
    } else if (bits > 0) {
        sim_kv_flip_bit(shelf->kv, (struct kv_bytes){key, size}, bit % bits);
    }
    mark(shelf, key, size);
}

/* --- loading --- */

struct seen {
    struct shelf *shelf;
    uint64_t group; /* whose rows come now */
    unsigned groups;
    unsigned bad[GROUPS], bad_group_rows, bad_rows;
};

static enum err see_group(void *context, const struct meta_group *group)
{
    struct seen *seen = context;
    ASSERT(seen->groups == 0 || group->group > seen->group);
    ASSERT(group->members_count <= RAFT_MEMBERS_MAX && group->next_offset >= group->log_start);
    seen->group = group->group;
    seen->groups++;
    return OK;
}

static enum err see_segment(void *context, uint64_t group, const struct meta_segment *segment)
{
    const struct seen *seen = context;
    ASSERT(group == seen->group && segment->end_offset >= segment->base_offset);
    uint32_t crc = crc32c(0, segment->tail, segment->tail_size);
    __asm__ volatile("" : : "r"(crc)); /* all of it can be read */
    return OK;
}

static enum err see_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    ASSERT(group == ((struct seen *)context)->group && epoch->first_offset >= 0);
    return OK;
}

static enum err see_done(void *context, uint64_t group, const struct done_row *row)
{
    ASSERT(group == ((struct seen *)context)->group && row->producer_id >= 0 && row->count <= DONE_BATCHES);
    judge_row(row);
    return OK;
}

static enum err see_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    ASSERT(group == ((struct seen *)context)->group && row->key_size <= META_STATE_KEY_BYTES_MAX);
    return OK;
}

static enum err see_bad(void *context, const struct meta_bad_row *row)
{
    struct seen *seen = context;
    bool is_ours = row->group >= GROUP_FIRST && row->group < GROUP_FIRST + GROUPS;
    ASSERT(is_ours ? seen->shelf->touched[row->group - GROUP_FIRST] : seen->shelf->strange);
    seen->bad_rows++;
    if (is_ours && row->type != LAYOUT_GROUP)
        seen->bad[row->group - GROUP_FIRST]++;
    if (row->type == LAYOUT_GROUP)
        seen->bad_group_rows++;
    return OK;
}

static enum err load(struct shelf *shelf, bool tolerant, struct seen *ret_seen)
{
    const struct meta_visitor visitor = {.context = ret_seen,
                                         .group = see_group,
                                         .segment = see_segment,
                                         .epoch = see_epoch,
                                         .done = see_done,
                                         .state = see_state,
                                         .bad = tolerant ? see_bad : NULL};
    *ret_seen = (struct seen){.shelf = shelf};
    return meta_load(shelf->kv, &visitor);
}

static void drop_bad(struct shelf *shelf, uint64_t group)
{
    struct kv_txn *txn = begin(shelf, true);
    enum err error = meta_drop_bad_rows(shelf->kv, txn, group);
    if (error == OK)
        ASSERT(shelf->kv->ops->commit(shelf->kv, txn) == OK);
    else
        shelf->kv->ops->abort(shelf->kv, txn);
}

static void remove_group(struct shelf *shelf, uint64_t group)
{
    struct kv_txn *txn = begin(shelf, true);
    ASSERT(meta_delete_group(shelf->kv, txn, group) == OK && shelf->kv->ops->commit(shelf->kv, txn) == OK);
    shelf->touched[group - GROUP_FIRST] = false;
}

static void check_store(struct shelf *shelf)
{
    struct seen seen, again;
    struct meta_identity identity;
    enum err error = load(shelf, true, &seen);
    enum err strict = load(shelf, false, &again);
    ASSERT(error == OK || error == ERR_VERSION || (error == ERR_FORMAT && shelf->strange));
    ASSERT(strict == OK || strict == ERR_VERSION || strict == ERR_FORMAT);
    ASSERT(error != OK || (strict == OK) == (seen.bad_rows == 0));
    meta_load_identity(shelf->kv, &identity);
    if (error != OK)
        return;
    for (unsigned i = 0; i < GROUPS; i++)
        drop_bad(shelf, GROUP_FIRST + i);
    ASSERT(load(shelf, true, &again) == OK && again.groups == seen.groups);
    for (unsigned i = 0; i < GROUPS; i++)
        ASSERT(again.bad[i] == 0 || again.bad_group_rows > 0);
}

static void run_instruction(struct shelf *shelf, struct input *in)
{
    uint8_t key[256];
    const uint8_t *bytes;
    uint8_t code = take(in);
    uint64_t group = GROUP_FIRST + (code >> 3 & 3);
    switch (code & 7) {
    case 0:
        put_picture(shelf, in, group);
        return;
    case 1:
    case 2:
        put_row(shelf, in, group, (code & 7) == 1);
        return;
    case 3:
    case 4:
        spoil_row(shelf, in, (code & 7) == 4);
        return;
    case 5:
        remove_group(shelf, group);
        return;
    case 6:
        drop_bad(shelf, group);
        return;
    default: {
        size_t size = take_bytes(in, &bytes, take(in));
        if (size == 0)
            return;
        memcpy(key, bytes, size);
        write_row(shelf, (struct kv_bytes){key, size}, (struct kv_bytes){key, size}, true);
    }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    if (take(&in) % 2 == 0) {
        check_row(&in);
        return 0;
    }
    struct shelf shelf = {.kv = sim_kv_new(&(struct sim_kv_options){0})};
    for (int i = 0; i < 24 && in.size > 0; i++)
        run_instruction(&shelf, &in);
    check_store(&shelf);
    sim_kv_free(shelf.kv);
    return 0;
}
