/* The checkpoint store's rows: all kinds there and back, whole or not at all over crashes, and never taken for data
 * when damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../sim/sim_kv.h"
#include "base/endian.h"
#include "base/rng.h"
#include "meta/layout.h"
#include "meta/meta.h"
#include "meta/row.h"

#define BYTES(literal) ((struct kv_bytes){(literal), sizeof(literal) - 1})
#define TEXT_BYTES_MAX 65536

/* ---- one picture of everything, and its rows as text ---- */

static const uint8_t tail[100] = {1, 2, 3, [99] = 0xff};

static struct meta_group group_of(uint64_t group)
{
    struct meta_group row = {
        .group = group,
        .replica = 3,
        .term = 12,
        .vote = 4,
        .applied_index = UINT64_MAX - 1,
        .applied_term = 11,
        .next_offset = INT64_MAX,
        .log_start = 17,
        .log_clock_ms = 1700000000123,
        .config_index = UINT64_MAX - 2,
        .members_count = RAFT_MEMBERS_MAX,
        .kind = 2,
        .segment_bytes = 1 << 28,
        .segment_ms = -1,
        .retention_bytes = -1,
        .retention_ms = 604800000,
        .snapshot_lsn = 0x123456789abcdef0,
        .repaired_lsn = 5,
        .damaged = true,
        .csm_count = 6,
    };
    for (uint64_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        row.members[i] = (struct meta_member){.replica = 100 + i, .broker = 1 + i, .now = i % 3, .next = 2 - i % 3};
    }
    return row;
}

static const struct meta_segment segments[] = {
    {.base_offset = 17,
     .end_offset = 300,
     .size_bytes = 4096,
     .generation = 2,
     .chain = 0xdeadbeef,
     .max_timestamp = -1},
    {.base_offset = 300, .end_offset = 300},
    {.base_offset = INT64_MAX - 1,
     .end_offset = INT64_MAX,
     .size_bytes = 100,
     .generation = UINT64_MAX,
     .chain = 1,
     .max_timestamp = 1700000000000,
     .created_clock_ms = 1600000000000,
     .tail_size = sizeof tail,
     .tail = tail},
};
static const struct meta_epoch epochs[] = {
    {.term = 1, .first_offset = 0}, {.term = 255}, {.term = 256, .first_offset = 299}};
static const struct done_row done_rows[] = {
    {.producer_id = 0, .epoch = 0, .count = 1, .batches = {{0, 0, 0}}, .last_idle_ms = 1},
    {.producer_id = INT64_MAX,
     .epoch = INT16_MAX,
     .count = DONE_BATCHES,
     .last_idle_ms = -5,
     .batches = {{INT32_MAX, 1, 100}, {2, 2, 104}, {3, 5, 105}, {6, 6, 108}, {7, INT32_MAX, INT64_MAX}}},
};
static const struct meta_state_row state_rows[] = {
    {.key = "", .key_size = 0, .value = "empty key", .value_size = 9},
    {.key = "a\0b", .key_size = 3, .value = "\0", .value_size = 1},
    {.key = "a\0bc", .key_size = 4, .value = "value", .value_size = 5},
};

static struct meta_picture picture_of(uint64_t group)
{
    return (struct meta_picture){
        .group = group_of(group),
        .segments = segments,
        .segments_count = 3,
        .epochs = epochs,
        .epochs_count = 3,
        .done = done_rows,
        .done_count = 2,
        .state = state_rows,
        .state_count = 3,
    };
}

#define PICTURE_ROWS 12u

static enum err put(struct kv *kv, const struct meta_picture *picture)
{
    struct kv_txn *txn;
    enum err error = kv->ops->begin(kv, true, &txn);
    if (error != OK) {
        return error;
    }
    error = meta_put_picture(kv, txn, picture);
    if (error != OK) {
        kv->ops->abort(kv, txn);
        return error;
    }
    return kv->ops->commit(kv, txn);
}

struct text {
    char bytes[TEXT_BYTES_MAX];
    size_t size;
};

static void append(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text->bytes + text->size, sizeof text->bytes - text->size, format, arguments);
    va_end(arguments);
    assert_true(size >= 0 && (size_t)size < sizeof text->bytes - text->size);
    text->size += (size_t)size;
}

static void append_hex(struct text *text, const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        append(text, "%02x", ((const uint8_t *)data)[i]);
    }
}

static enum err text_group(void *context, const struct meta_group *g)
{
    struct text *text = context;
    append(text,
           "G %llu replica %llu term %llu vote %llu applied %llu/%llu offsets %lld-%lld clock %lld kind %u damaged %d",
           (unsigned long long)g->group, (unsigned long long)g->replica, (unsigned long long)g->term,
           (unsigned long long)g->vote, (unsigned long long)g->applied_index, (unsigned long long)g->applied_term,
           (long long)g->log_start, (long long)g->next_offset, (long long)g->log_clock_ms, g->kind, g->damaged);
    append(text, " config %llu %lld %lld %lld lsn %llu %llu csm %u members %llu", (unsigned long long)g->segment_bytes,
           (long long)g->segment_ms, (long long)g->retention_bytes, (long long)g->retention_ms,
           (unsigned long long)g->snapshot_lsn, (unsigned long long)g->repaired_lsn, g->csm_count,
           (unsigned long long)g->config_index);
    for (uint32_t i = 0; i < g->members_count; i++) {
        const struct meta_member *m = &g->members[i];
        append(text, " %llu@%llu:%u%u", (unsigned long long)m->replica, (unsigned long long)m->broker, m->now, m->next);
    }
    append(text, "\n");
    return OK;
}

static enum err text_segment(void *context, uint64_t group, const struct meta_segment *s)
{
    struct text *text = context;
    append(text, "M %llu %lld-%lld size %llu generation %llu chain %08x times %lld %lld tail ",
           (unsigned long long)group, (long long)s->base_offset, (long long)s->end_offset,
           (unsigned long long)s->size_bytes, (unsigned long long)s->generation, s->chain, (long long)s->max_timestamp,
           (long long)s->created_clock_ms);
    append_hex(text, s->tail, s->tail_size);
    append(text, "\n");
    return OK;
}

static enum err text_epoch(void *context, uint64_t group, const struct meta_epoch *e)
{
    append(context, "E %llu %llu %lld\n", (unsigned long long)group, (unsigned long long)e->term,
           (long long)e->first_offset);
    return OK;
}

static enum err text_done(void *context, uint64_t group, const struct done_row *row)
{
    struct text *text = context;
    append(text, "D %llu producer %lld epoch %d clock %lld", (unsigned long long)group, (long long)row->producer_id,
           row->epoch, (long long)row->last_idle_ms);
    for (uint8_t i = 0; i < row->count; i++) {
        append(text, " %d-%d@%lld", row->batches[i].first_sequence, row->batches[i].last_sequence,
               (long long)row->batches[i].offset);
    }
    append(text, "\n");
    return OK;
}

static enum err text_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    struct text *text = context;
    append(text, "S %llu ", (unsigned long long)group);
    append_hex(text, row->key, row->key_size);
    append(text, " = ");
    append_hex(text, row->value, row->value_size);
    append(text, "\n");
    return OK;
}

static enum err load_text(struct kv *kv, struct text *text)
{
    struct meta_visitor visitor = {text, text_group, text_segment, text_epoch, text_done, text_state};
    text->size = 0;
    text->bytes[0] = 0;
    return meta_load(kv, &visitor);
}

/* What a load of that one picture in an empty store must say, from the picture itself. */
static void picture_text(const struct meta_picture *p, struct text *text)
{
    text_group(text, &p->group);
    for (uint32_t i = 0; i < p->segments_count; i++) {
        text_segment(text, p->group.group, &p->segments[i]);
    }
    for (uint32_t i = 0; i < p->epochs_count; i++) {
        text_epoch(text, p->group.group, &p->epochs[i]);
    }
    for (uint32_t i = 0; i < p->done_count; i++) {
        text_done(text, p->group.group, &p->done[i]);
    }
    for (uint32_t i = 0; i < p->state_count; i++) {
        text_state(text, p->group.group, &p->state[i]);
    }
}

/* ---- roundtrips ---- */

static void test_picture_there_and_back(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    struct text *expected = calloc(1, sizeof *expected);
    struct text *loaded = calloc(1, sizeof *loaded);
    /* Loaded in order of group id, which little-endian keys would get wrong. */
    static const uint64_t groups[] = {256, 1, UINT64_MAX, 255, 65536};
    static const uint64_t sorted[] = {1, 255, 256, 65536, UINT64_MAX};
    for (size_t i = 0; i < 5; i++) {
        struct meta_picture picture = picture_of(groups[i]);
        assert_int_equal(put(kv, &picture), OK);
        picture = picture_of(sorted[i]);
        picture_text(&picture, expected);
    }
    assert_int_equal(sim_kv_rows_count(kv), 5 * PICTURE_ROWS);
    assert_int_equal(load_text(kv, loaded), OK);
    assert_string_equal(loaded->bytes, expected->bytes);
    free(expected);
    free(loaded);
    sim_kv_free(kv);
}

static void test_identity(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    struct meta_identity identity = {
        .cluster_id = {1, 2, [15] = 3}, .broker = 7, .disk_uuid = {9, [15] = 8}, .boot = 41};
    struct meta_identity loaded;
    memset(&loaded, 0x55, sizeof loaded);
    struct meta_identity untouched = loaded;
    assert_int_equal(meta_load_identity(kv, &loaded), ERR_NO_FILE);
    assert_memory_equal(&loaded, &untouched, sizeof loaded);
    assert_int_equal(meta_save_identity(kv, &identity), OK);
    assert_int_equal(meta_load_identity(kv, &loaded), OK);
    assert_memory_equal(&loaded, &identity, sizeof loaded);
    identity.boot++;
    assert_int_equal(meta_save_identity(kv, &identity), OK);
    assert_int_equal(meta_load_identity(kv, &loaded), OK);
    assert_int_equal(loaded.boot, 42);
    for (size_t bit = 0; bit < 8 * (LAYOUT_IDENTITY_BYTES + 4); bit++) {
        assert_true(sim_kv_flip_bit(kv, BYTES("B"), bit));
        assert_int_equal(meta_load_identity(kv, &loaded), ERR_FORMAT);
        assert_true(sim_kv_flip_bit(kv, BYTES("B"), bit));
    }
    assert_int_equal(meta_load_identity(kv, &loaded), OK);
    sim_kv_free(kv);
}

/* ---- what a later picture changes ---- */

static bool count_puts(void *context, const char *point)
{
    *(size_t *)context += strcmp(point, "kv.put") == 0;
    return false;
}

static void test_next_picture(void **state)
{
    size_t puts = 0;
    struct sim_kv_options options = {.fault = count_puts, .context = &puts};
    struct kv *kv = sim_kv_new(&options);
    struct text *expected = calloc(1, sizeof *expected);
    struct text *loaded = calloc(1, sizeof *loaded);
    struct meta_picture first = picture_of(5);
    struct meta_picture neighbour = picture_of(6);
    assert_int_equal(put(kv, &neighbour), OK);
    assert_int_equal(put(kv, &first), OK);

    /* A segment went, one is new, the last one grew; a producer expired, one is new; a state row went. */
    struct meta_segment now[] = {segments[1], segments[1], segments[2]};
    now[1].base_offset = 301;
    now[1].end_offset = 400;
    now[2].size_bytes++;
    struct meta_epoch epoch = {.term = 257, .first_offset = 300};
    struct done_row row = {.producer_id = 8, .epoch = 1, .count = 1, .batches = {{0, 9, 290}}};
    struct meta_state_row gone[] = {{.key = "a\0b", .key_size = 3}, {.key = "never", .key_size = 5}};
    int64_t removed[] = {0, 77};
    struct meta_picture second = {.group = group_of(5),
                                  .segments = now,
                                  .segments_count = 3,
                                  .epochs = &epoch,
                                  .epochs_count = 1,
                                  .done = &row,
                                  .done_count = 1,
                                  .done_removed = removed,
                                  .done_removed_count = 2,
                                  .state = gone,
                                  .state_count = 2};
    second.group.log_start = 300;
    second.group.damaged = false;
    second.group.members_count = 1;
    puts = 0;
    assert_int_equal(put(kv, &second), OK);
    /* group 1, segments 1 gone + 2 put (the unchanged one is left alone), epoch 1, done 2 gone + 1 put, state 2 gone */
    assert_int_equal(puts, 1 + 3 + 1 + 3 + 2);

    text_group(expected, &second.group);
    for (size_t i = 0; i < 3; i++) {
        text_segment(expected, 5, &now[i]);
        text_epoch(loaded, 5, &epochs[i]);
    }
    append(expected, "%s", loaded->bytes);
    text_epoch(expected, 5, &epoch);
    text_done(expected, 5, &row);
    text_done(expected, 5, &done_rows[1]);
    text_state(expected, 5, &state_rows[0]);
    text_state(expected, 5, &state_rows[2]);
    picture_text(&neighbour, expected);
    assert_int_equal(load_text(kv, loaded), OK);
    assert_string_equal(loaded->bytes, expected->bytes);

    /* A picture without segments drops them all, and only its own group's. */
    second.segments_count = 0;
    assert_int_equal(put(kv, &second), OK);
    assert_int_equal(load_text(kv, loaded), OK);
    assert_null(strstr(loaded->bytes, "M 5 "));
    assert_non_null(strstr(loaded->bytes, "M 6 17-300"));
    free(expected);
    free(loaded);
    sim_kv_free(kv);
}

static void test_delete_group(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    struct kv_txn *txn;
    static const uint64_t groups[] = {0xfe, 0xff, 0x100};
    for (size_t i = 0; i < 3; i++) {
        struct meta_picture picture = picture_of(groups[i]);
        assert_int_equal(put(kv, &picture), OK);
    }
    /* Also rows that cannot be read go. */
    struct layout_key key;
    layout_number_key(&key, LAYOUT_DONE, 0xff, 0);
    assert_true(sim_kv_flip_bit(kv, layout_bytes(&key), 3));
    assert_int_equal(kv->ops->begin(kv, true, &txn), OK);
    assert_int_equal(meta_delete_group(kv, txn, 0xff), OK);
    assert_int_equal(meta_delete_group(kv, txn, 12345), OK);
    assert_int_equal(kv->ops->commit(kv, txn), OK);
    assert_int_equal(sim_kv_rows_count(kv), 2 * PICTURE_ROWS);
    struct text *expected = calloc(1, sizeof *expected);
    struct text *loaded = calloc(1, sizeof *loaded);
    struct meta_picture left = picture_of(0xfe);
    struct meta_picture right = picture_of(0x100);
    picture_text(&left, expected);
    picture_text(&right, expected);
    assert_int_equal(load_text(kv, loaded), OK);
    assert_string_equal(loaded->bytes, expected->bytes);
    free(expected);
    free(loaded);
    sim_kv_free(kv);
}

/* ---- damage ---- */

/* All keys of the store, in order. */
static size_t all_keys(struct kv *kv, struct layout_key *keys, size_t capacity)
{
    struct layout_key from = {.bytes = {0}, .size = 1};
    struct kv_txn *txn;
    struct kv_bytes key, value;
    size_t count = 0;
    assert_int_equal(kv->ops->begin(kv, false, &txn), OK);
    while (kv->ops->seek(kv, txn, layout_bytes(&from), &key, &value) == OK) {
        assert_true(count < capacity);
        memcpy(keys[count].bytes, key.data, key.size);
        keys[count].size = key.size;
        from = keys[count++];
        assert_true(row_key_next(from.bytes, &from.size));
    }
    kv->ops->abort(kv, txn);
    return count;
}

static void test_every_bit_counts(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    struct text *text = calloc(1, sizeof *text);
    struct layout_key keys[PICTURE_ROWS];
    struct meta_picture picture = picture_of(5);
    size_t flips = 0;
    assert_int_equal(put(kv, &picture), OK);
    assert_int_equal(all_keys(kv, keys, PICTURE_ROWS), PICTURE_ROWS);
    for (size_t i = 0; i < PICTURE_ROWS; i++) {
        for (size_t bit = 0; sim_kv_flip_bit(kv, layout_bytes(&keys[i]), bit); bit++) {
            assert_int_equal(load_text(kv, text), ERR_FORMAT);
            assert_true(sim_kv_flip_bit(kv, layout_bytes(&keys[i]), bit));
            flips++;
        }
    }
    assert_true(flips > 8 * (LAYOUT_GROUP_BYTES + 3 * LAYOUT_SEGMENT_BYTES + 2 * LAYOUT_DONE_BYTES));
    assert_int_equal(load_text(kv, text), OK);
    free(text);
    sim_kv_free(kv);
}

/* Puts a value under a key with a right CRC and says what the load makes of it. */
static enum err load_with(struct kv *kv, const struct layout_key *key, struct kv_bytes value, struct text *text)
{
    struct kv_txn *txn;
    assert_int_equal(kv->ops->begin(kv, true, &txn), OK);
    assert_int_equal(row_put(kv, txn, layout_bytes(key), value), OK);
    assert_int_equal(kv->ops->commit(kv, txn), OK);
    return load_text(kv, text);
}

static size_t copy_value(struct kv *kv, const struct layout_key *key, uint8_t *ret_value, size_t capacity)
{
    struct kv_txn *txn;
    struct kv_bytes value;
    assert_int_equal(kv->ops->begin(kv, false, &txn), OK);
    assert_int_equal(row_get(kv, txn, layout_bytes(key), &value), OK);
    assert_true(value.size <= capacity);
    memcpy(ret_value, value.data, value.size);
    kv->ops->abort(kv, txn);
    return value.size;
}

static void test_versions_and_sizes(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    struct text *text = calloc(1, sizeof *text);
    struct layout_key keys[PICTURE_ROWS];
    uint8_t value[8192];
    struct meta_picture picture = picture_of(5);
    assert_int_equal(put(kv, &picture), OK);
    assert_int_equal(all_keys(kv, keys, PICTURE_ROWS), PICTURE_ROWS);
    for (size_t i = 0; i < PICTURE_ROWS; i++) {
        if (keys[i].bytes[0] == LAYOUT_STATE) {
            continue; /* whoever owns the group gives them meaning */
        }
        size_t size = copy_value(kv, &keys[i], value, sizeof value);
        value[0]++;
        assert_int_equal(load_with(kv, &keys[i], (struct kv_bytes){value, size}, text), ERR_VERSION);
        value[0]--;
        for (size_t cut = 0; cut < size; cut++) {
            assert_int_equal(load_with(kv, &keys[i], (struct kv_bytes){value, cut}, text), ERR_FORMAT);
        }
        value[size] = 0;
        assert_int_equal(load_with(kv, &keys[i], (struct kv_bytes){value, size + 1}, text), ERR_FORMAT);
        assert_int_equal(load_with(kv, &keys[i], (struct kv_bytes){value, size}, text), OK);
    }
    free(text);
    sim_kv_free(kv);
}

/* A right CRC over numbers that no writer makes: somebody's bug or hands. Bounds must hold all the same. */
static void test_impossible_values(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    struct text *text = calloc(1, sizeof *text);
    uint8_t value[8192];
    struct layout_key group_key, segment_key, done_key, epoch_key;
    struct meta_picture picture = picture_of(5);
    assert_int_equal(put(kv, &picture), OK);
    layout_group_key(&group_key, LAYOUT_GROUP, 5);
    layout_number_key(&segment_key, LAYOUT_SEGMENT, 5, 300);
    layout_number_key(&done_key, LAYOUT_DONE, 5, 0);
    layout_number_key(&epoch_key, LAYOUT_EPOCH, 5, 255);
    struct {
        const struct layout_key *key;
        size_t at;
        uint8_t byte;
    } cases[] = {
        {&group_key, 3, 3},                       /* damaged */
        {&group_key, 4, RAFT_MEMBERS_MAX - 1},    /* members */
        {&group_key, 7, 0x80},                    /* members */
        {&group_key, 160, 0xff},                  /* a configuration that is not applied */
        {&group_key, LAYOUT_GROUP_BYTES + 16, 3}, /* more than a voter */
        {&group_key, 55, 0x80},                   /* next offset below 0 */
        {&group_key, 63, 0x80},                   /* log start below 0 */
        {&segment_key, 4, 1},                     /* tail longer than the value */
        {&segment_key, 8, 1},                     /* end below base */
        {&segment_key, 15, 0x80},                 /* end below 0 */
        {&epoch_key, 15, 0x80},                   /* offset below 0 */
        {&done_key, 3, 0x80},                     /* epoch below 0 */
        {&done_key, 4, DONE_BATCHES + 1},         /* count */
        {&done_key, 51, 0x80},                    /* sequences below 0 */
        {&done_key, 55, 0x80},
        {&done_key, 63, 0x80}, /* offset below 0 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = copy_value(kv, cases[i].key, value, sizeof value);
        uint8_t before = value[cases[i].at];
        value[cases[i].at] = cases[i].byte;
        assert_int_equal(load_with(kv, cases[i].key, (struct kv_bytes){value, size}, text), ERR_FORMAT);
        value[cases[i].at] = before;
        assert_int_equal(load_with(kv, cases[i].key, (struct kv_bytes){value, size}, text), OK);
    }
    /* Keys of a wrong size, and numbers above what is signed. */
    struct layout_key odd = done_key;
    odd.size--;
    size_t size = copy_value(kv, &done_key, value, sizeof value);
    assert_int_equal(load_with(kv, &odd, (struct kv_bytes){value, size}, text), ERR_FORMAT);
    sim_kv_free(kv);
    kv = sim_kv_new(NULL);
    assert_int_equal(put(kv, &picture), OK);
    layout_number_key(&odd, LAYOUT_DONE, 5, UINT64_MAX);
    assert_int_equal(load_with(kv, &odd, (struct kv_bytes){value, size}, text), ERR_FORMAT);
    free(text);
    sim_kv_free(kv);
}

static void test_random_values(void **state)
{
    struct rng rng;
    struct text *text = calloc(1, sizeof *text);
    static const enum layout_type types[] = {LAYOUT_GROUP, LAYOUT_SEGMENT, LAYOUT_EPOCH, LAYOUT_DONE};
    static const size_t sizes[] = {LAYOUT_GROUP_BYTES, LAYOUT_SEGMENT_BYTES, LAYOUT_EPOCH_BYTES, LAYOUT_DONE_BYTES};
    struct meta_picture picture = {.group = group_of(5)};
    rng_seed(&rng, 99);
    for (int round = 0; round < 4000; round++) {
        struct kv *kv = sim_kv_new(NULL);
        struct layout_key key;
        size_t type = (size_t)rng_below(&rng, 4);
        assert_int_equal(put(kv, &picture), OK);
        if (types[type] == LAYOUT_GROUP) {
            layout_group_key(&key, LAYOUT_GROUP, 5);
        } else {
            layout_number_key(&key, types[type], 5, rng_next(&rng) >> 1);
        }
        /* On the heap and of just that size, so that the sanitizer sees a read behind it. */
        size_t size = rng_chance(&rng, 0.7) ? sizes[type] : (size_t)rng_below(&rng, 300);
        uint8_t *value = malloc(size + 1);
        for (size_t i = 0; i < size; i++) {
            value[i] = rng_chance(&rng, 0.5) ? 0 : (uint8_t)rng_next(&rng);
        }
        if (size >= 2) {
            store_le16(value, types[type] == LAYOUT_GROUP || types[type] == LAYOUT_SEGMENT ? 2 : 1);
        }
        enum err error = load_with(kv, &key, (struct kv_bytes){value, size}, text);
        assert_true(error == OK || error == ERR_FORMAT);
        free(value);
        sim_kv_free(kv);
    }
    free(text);
}

/* ---- rows ---- */

static void test_rows(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    struct kv_txn *txn;
    struct kv_bytes value = BYTES("untouched");
    uint8_t *big = calloc(1, ROW_VALUE_BYTES_MAX + 1);
    big[ROW_VALUE_BYTES_MAX - 1] = 7;
    assert_int_equal(kv->ops->begin(kv, true, &txn), OK);
    assert_int_equal(row_get(kv, txn, BYTES("key"), &value), ERR_NO_FILE);
    assert_string_equal(value.data, "untouched");
    assert_int_equal(row_put(kv, txn, BYTES("key"), (struct kv_bytes){NULL, 0}), OK);
    assert_int_equal(row_get(kv, txn, BYTES("key"), &value), OK);
    assert_int_equal(value.size, 0);
    assert_int_equal(row_put(kv, txn, BYTES("big"), (struct kv_bytes){big, ROW_VALUE_BYTES_MAX + 1}), ERR_TOO_LARGE);
    assert_int_equal(row_put(kv, txn, BYTES("big"), (struct kv_bytes){big, ROW_VALUE_BYTES_MAX}), OK);
    assert_int_equal(row_get(kv, txn, BYTES("big"), &value), OK);
    assert_int_equal(value.size, ROW_VALUE_BYTES_MAX);
    assert_memory_equal(value.data, big, value.size);

    /* The value of another row, and values too short for a CRC. */
    assert_int_equal(row_put(kv, txn, BYTES("one"), BYTES("1")), OK);
    assert_int_equal(kv->ops->get(kv, txn, BYTES("one"), &value), OK);
    uint8_t copy[5];
    assert_int_equal(value.size, sizeof copy);
    memcpy(copy, value.data, sizeof copy);
    assert_int_equal(kv->ops->put(kv, txn, BYTES("two"), (struct kv_bytes){copy, sizeof copy}), OK);
    assert_int_equal(row_get(kv, txn, BYTES("two"), &value), ERR_FORMAT);
    for (size_t size = 0; size < 4; size++) {
        assert_int_equal(kv->ops->put(kv, txn, BYTES("two"), (struct kv_bytes){copy, size}), OK);
        assert_int_equal(row_get(kv, txn, BYTES("two"), &value), ERR_FORMAT);
    }
    assert_int_equal(kv->ops->commit(kv, txn), OK);
    free(big);
    sim_kv_free(kv);
}

struct scan {
    size_t count;
    size_t stop_at;
    struct layout_key last;
};

static enum err scan_visit(void *context, struct kv_bytes key, struct kv_bytes value)
{
    struct scan *scan = context;
    assert_true(scan->count == 0 || key.size != scan->last.size || memcmp(key.data, scan->last.bytes, key.size) != 0);
    memcpy(scan->last.bytes, key.data, key.size);
    scan->last.size = key.size;
    assert_int_equal(value.size, 1);
    return ++scan->count == scan->stop_at ? ERR_NO_FILE : OK;
}

static void test_scan(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    struct kv_txn *txn;
    uint8_t longest[KV_KEY_BYTES_MAX];
    memset(longest, 0xff, sizeof longest);
    longest[0] = 'x';
    struct kv_bytes keys[] = {
        BYTES("w\xff"), BYTES("x"), BYTES("x\0"), BYTES("x\0\0"), BYTES("xa"), BYTES("xab"), {longest, sizeof longest},
        BYTES("y")};
    assert_int_equal(kv->ops->begin(kv, true, &txn), OK);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(row_put(kv, txn, keys[i], BYTES("v")), OK);
    }
    struct scan scan = {0};
    assert_int_equal(row_scan(kv, txn, BYTES("x"), scan_visit, &scan), OK);
    assert_int_equal(scan.count, 6);
    scan = (struct scan){0};
    assert_int_equal(row_scan(kv, txn, BYTES("xa"), scan_visit, &scan), OK);
    assert_int_equal(scan.count, 2);
    scan = (struct scan){0};
    assert_int_equal(row_scan(kv, txn, BYTES("z"), scan_visit, &scan), OK);
    assert_int_equal(scan.count, 0);
    scan = (struct scan){.stop_at = 3}; /* the visitor's own error, even one that ends a scan from below */
    assert_int_equal(row_scan(kv, txn, BYTES("x"), scan_visit, &scan), ERR_NO_FILE);
    assert_int_equal(scan.count, 3);
    assert_int_equal(row_delete_prefix(kv, txn, BYTES("x")), OK);
    assert_int_equal(kv->ops->commit(kv, txn), OK);
    assert_int_equal(sim_kv_rows_count(kv), 2);

    uint8_t key[KV_KEY_BYTES_MAX];
    size_t size = sizeof key;
    memset(key, 0xff, sizeof key);
    assert_false(row_key_next(key, &size));
    key[5] = 0x10;
    size = sizeof key;
    assert_true(row_key_next(key, &size));
    assert_int_equal(size, 6);
    assert_int_equal(key[5], 0x11);
    sim_kv_free(kv);
}

/* ---- errors and crashes ---- */

static void test_too_large_state_key(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    char key[META_STATE_KEY_BYTES_MAX + 1] = {0};
    struct meta_state_row row = {.key = key, .key_size = META_STATE_KEY_BYTES_MAX, .value = "v", .value_size = 1};
    struct meta_picture picture = {.group = group_of(1), .state = &row, .state_count = 1};
    assert_int_equal(put(kv, &picture), OK);
    row.key_size++;
    assert_int_equal(put(kv, &picture), ERR_TOO_LARGE);
    sim_kv_free(kv);
}

static enum err refuse_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    return ++*(int *)context == 2 ? ERR_BUSY : OK;
}
static enum err take_group(void *context, const struct meta_group *group)
{
    return OK;
}
static enum err take_segment(void *context, uint64_t group, const struct meta_segment *segment)
{
    return OK;
}
static enum err no_done(void *context, uint64_t group, const struct done_row *row)
{
    fail();
    return OK;
}
static enum err no_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    fail();
    return OK;
}

static void test_visitor_ends_load(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    int epochs_seen = 0;
    struct meta_picture picture = picture_of(1);
    assert_int_equal(put(kv, &picture), OK);
    struct meta_visitor visitor = {&epochs_seen, take_group, take_segment, refuse_epoch, no_done, no_state};
    assert_int_equal(meta_load(kv, &visitor), ERR_BUSY);
    assert_int_equal(epochs_seen, 2);
    sim_kv_free(kv);
}

struct fault {
    size_t die_at; /* the how manieth point */
    size_t asked;
};

static bool fault_dies(void *context, const char *point)
{
    struct fault *fault = context;
    return fault->asked++ == fault->die_at;
}

/* Whatever point of a checkpoint the process dies at, the next one finds the old picture or the new, whole. */
static void test_crash_anywhere(void **state)
{
    struct text *before = calloc(1, sizeof *before);
    struct text *after = calloc(1, sizeof *after);
    struct text *found = calloc(1, sizeof *found);
    size_t kept_news = 0, kept_olds = 0;
    bool whole = false;
    for (size_t die_at = 0; !whole; die_at++) {
        for (int power_cut = 0; power_cut < 2; power_cut++) {
            struct fault fault = {.die_at = SIZE_MAX};
            struct sim_kv_options options = {.fault = fault_dies, .context = &fault};
            struct kv *kv = sim_kv_new(&options);
            struct meta_picture old = picture_of(5);
            struct meta_picture new = picture_of(5);
            new.group.term++;
            new.segments_count = 2;
            assert_int_equal(put(kv, &old), OK);
            assert_int_equal(load_text(kv, before), OK);
            fault = (struct fault){.die_at = die_at};
            enum err error = put(kv, &new);
            whole = error == OK;
            assert_int_equal(error, whole ? OK : ERR_IO);
            assert_int_equal(sim_kv_is_dead(kv), !whole);
            fault.die_at = SIZE_MAX;
            sim_kv_crash(kv, power_cut == 0);
            assert_int_equal(load_text(kv, found), ERR_IO);
            sim_kv_restart(kv);
            assert_int_equal(load_text(kv, found), OK);
            bool is_old = strcmp(found->bytes, before->bytes) == 0;
            after->size = 0;
            picture_text(&new, after);
            assert_true(is_old || strcmp(found->bytes, after->bytes) == 0);
            assert_false(whole && is_old);
            kept_olds += is_old;
            kept_news += !is_old && !whole;
            sim_kv_free(kv);
        }
    }
    /* Only a process that dies between page cache and disk leaves news to its successor that a power cut takes away. */
    assert_int_equal(kept_news, 3); /* commit.after twice, commit.written once */
    assert_true(kept_olds > 10);
    free(before);
    free(after);
    free(found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_picture_there_and_back),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_next_picture),
        cmocka_unit_test(test_delete_group),
        cmocka_unit_test(test_every_bit_counts),
        cmocka_unit_test(test_versions_and_sizes),
        cmocka_unit_test(test_impossible_values),
        cmocka_unit_test(test_random_values),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_too_large_state_key),
        cmocka_unit_test(test_visitor_ends_load),
        cmocka_unit_test(test_crash_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
