/* The checkpoint store's twin against a naive model: sorted arrays, copied whole for each transaction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/rng.h"
#include "sim_kv.h"

#define MODEL_KEYS    200u
#define MODEL_READERS 4u
#define MODEL_STEPS   60000
#define FAULT_POINTS  5u

#define BYTES(literal) ((struct kv_bytes){(literal), sizeof(literal) - 1})

/* The map as the model sees it: key k is there if values[k] is not 0. Keys are chosen so that one is a prefix of
 * others. */
struct model {
    uint32_t values[MODEL_KEYS];
};

static struct kv_bytes model_key(uint32_t k, uint8_t bytes[4])
{
    /* In base 4 without leading zeroes, digits as bytes 0, 1, 0xfe and 0xff: all lengths, all edges. */
    static const uint8_t digits[] = {0, 1, 0xfe, 0xff};
    size_t size = 0;
    for (uint32_t rest = k + 1; rest > 0; rest = (rest - 1) / 4) {
        bytes[size++] = digits[(rest - 1) % 4];
    }
    return (struct kv_bytes){bytes, size};
}

static int compare(struct kv_bytes a, struct kv_bytes b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static void assert_bytes(struct kv_bytes a, struct kv_bytes b)
{
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
}

/* Values of many sizes, 0 among them, that say what they are. */
static struct kv_bytes model_value(uint32_t value, uint8_t bytes[64])
{
    memset(bytes, (int)(value & 0xff), 64);
    memcpy(bytes, &value, sizeof value);
    return (struct kv_bytes){bytes, value % 7 == 0 ? 0 : 4 + value % 60};
}

static void check_get(struct kv *kv, struct kv_txn *txn, const struct model *model, uint32_t k)
{
    uint8_t key[4], value[64];
    struct kv_bytes found;
    enum err error = kv->ops->get(kv, txn, model_key(k, key), &found);
    assert_int_equal(error, model->values[k] != 0 ? OK : ERR_NO_FILE);
    if (error == OK) {
        assert_bytes(found, model_value(model->values[k], value));
    }
}

static void check_seek(struct kv *kv, struct kv_txn *txn, const struct model *model, uint32_t k)
{
    uint8_t from[4], first[4], other[4], value[64];
    struct kv_bytes key, found;
    uint32_t best = MODEL_KEYS;
    for (uint32_t i = 0; i < MODEL_KEYS; i++) {
        if (model->values[i] != 0 && compare(model_key(i, other), model_key(k, from)) >= 0 &&
            (best == MODEL_KEYS || compare(model_key(i, other), model_key(best, first)) < 0)) {
            best = i;
        }
    }
    enum err error = kv->ops->seek(kv, txn, model_key(k, from), &key, &found);
    assert_int_equal(error, best < MODEL_KEYS ? OK : ERR_NO_FILE);
    if (error == OK) {
        assert_bytes(key, model_key(best, first));
        assert_bytes(found, model_value(model->values[best], value));
    }
}

static void change(struct kv *kv, struct kv_txn *txn, struct model *model, struct rng *rng)
{
    uint8_t key[4], value[64];
    uint32_t k = (uint32_t)rng_below(rng, MODEL_KEYS);
    if (rng_chance(rng, 0.4)) {
        assert_int_equal(kv->ops->del(kv, txn, model_key(k, key)), OK);
        model->values[k] = 0;
    } else {
        model->values[k] = 1 + (uint32_t)rng_below(rng, 100000);
        assert_int_equal(kv->ops->put(kv, txn, model_key(k, key), model_value(model->values[k], value)), OK);
    }
}

static size_t model_count(const struct model *model)
{
    size_t count = 0;
    for (uint32_t k = 0; k < MODEL_KEYS; k++) {
        count += model->values[k] != 0;
    }
    return count;
}

struct run {
    struct kv *kv;
    struct rng rng;
    struct model committed;
    struct model writing;
    struct kv_txn *writer;
    struct model seen[MODEL_READERS];
    struct kv_txn *readers[MODEL_READERS];
};

static void step_reader(struct run *run)
{
    struct kv *kv = run->kv;
    size_t r = (size_t)rng_below(&run->rng, MODEL_READERS);
    if (run->readers[r] == NULL) {
        assert_int_equal(kv->ops->begin(kv, false, &run->readers[r]), OK);
        run->seen[r] = run->committed;
    } else if (rng_chance(&run->rng, 0.1)) {
        kv->ops->abort(kv, run->readers[r]);
        run->readers[r] = NULL;
    } else {
        check_get(kv, run->readers[r], &run->seen[r], (uint32_t)rng_below(&run->rng, MODEL_KEYS));
        check_seek(kv, run->readers[r], &run->seen[r], (uint32_t)rng_below(&run->rng, MODEL_KEYS));
    }
}

static void step_writer(struct run *run)
{
    struct kv *kv = run->kv;
    if (run->writer == NULL) {
        assert_int_equal(kv->ops->begin(kv, true, &run->writer), OK);
        run->writing = run->committed;
    } else if (rng_chance(&run->rng, 0.05)) {
        assert_int_equal(kv->ops->commit(kv, run->writer), OK);
        run->committed = run->writing;
        run->writer = NULL;
        assert_int_equal(sim_kv_rows_count(kv), model_count(&run->committed));
    } else if (rng_chance(&run->rng, 0.02)) {
        kv->ops->abort(kv, run->writer);
        run->writer = NULL;
    } else {
        change(kv, run->writer, &run->writing, &run->rng);
        check_get(kv, run->writer, &run->writing, (uint32_t)rng_below(&run->rng, MODEL_KEYS)); /* its own writes */
        check_seek(kv, run->writer, &run->writing, (uint32_t)rng_below(&run->rng, MODEL_KEYS));
    }
}

static void run_crash(struct run *run)
{
    sim_kv_crash(run->kv, rng_chance(&run->rng, 0.5));
    sim_kv_restart(run->kv); /* transactions left open are gone with their process */
    run->writer = NULL;
    memset(run->readers, 0, sizeof run->readers);
}

static uint32_t run_model(uint64_t seed)
{
    struct run *run = calloc(1, sizeof *run);
    assert_non_null(run);
    run->kv = sim_kv_new(NULL);
    rng_seed(&run->rng, seed);
    for (int step = 0; step < MODEL_STEPS; step++) {
        uint64_t dice = rng_below(&run->rng, 1000);
        if (dice == 0) {
            run_crash(run);
        } else if (dice < 400) {
            step_reader(run);
        } else {
            step_writer(run);
        }
    }
    uint32_t hash = sim_kv_hash(run->kv);
    sim_kv_free(run->kv);
    free(run);
    return hash;
}

static void test_against_model(void **state)
{
    assert_int_equal(run_model(1), run_model(1)); /* the same run gives the same store */
    assert_int_not_equal(run_model(1), run_model(2));
}

/* Equal contents are equal in whatever order they came. */
static void test_hash_forgets_history(void **state)
{
    struct kv *forth = sim_kv_new(NULL);
    struct kv *back = sim_kv_new(NULL);
    struct kv_txn *a, *b;
    uint8_t key[4], value[64];
    assert_int_equal(forth->ops->begin(forth, true, &a), OK);
    assert_int_equal(back->ops->begin(back, true, &b), OK);
    for (uint32_t k = 0; k < MODEL_KEYS; k++) {
        uint32_t mirrored = MODEL_KEYS - 1 - k;
        assert_int_equal(forth->ops->put(forth, a, model_key(k, key), model_value(k, value)), OK);
        assert_int_equal(back->ops->put(back, b, model_key(mirrored, key), BYTES("old")), OK);
        assert_int_equal(back->ops->put(back, b, model_key(mirrored, key), model_value(mirrored, value)), OK);
    }
    assert_int_equal(back->ops->put(back, b, BYTES("gone"), BYTES("")), OK);
    assert_int_equal(back->ops->del(back, b, BYTES("gone")), OK);
    assert_int_equal(back->ops->del(back, b, BYTES("never")), OK);
    assert_int_equal(forth->ops->commit(forth, a), OK);
    assert_int_equal(back->ops->commit(back, b), OK);
    assert_int_equal(sim_kv_hash(forth), sim_kv_hash(back));
    sim_kv_free(forth);
    sim_kv_free(back);
}

/* ---- crashes ---- */

static const char *const points[FAULT_POINTS] = {"kv.begin", "kv.put", "kv.commit.before", "kv.commit.written",
                                                 "kv.commit.after"};

struct fault {
    const char *point;
};

static bool fault_dies(void *context, const char *point)
{
    const struct fault *fault = context;
    return fault->point != NULL && strcmp(fault->point, point) == 0;
}

static enum err write_row(struct kv *kv, struct kv_bytes key, struct kv_bytes value)
{
    struct kv_txn *txn;
    enum err error = kv->ops->begin(kv, true, &txn);
    if (error != OK) {
        return error;
    }
    error = kv->ops->put(kv, txn, key, value);
    if (error != OK) {
        kv->ops->abort(kv, txn);
        return error;
    }
    return kv->ops->commit(kv, txn);
}

static bool is_there(struct kv *kv, struct kv_bytes key)
{
    struct kv_txn *txn;
    struct kv_bytes value;
    assert_int_equal(kv->ops->begin(kv, false, &txn), OK);
    enum err error = kv->ops->get(kv, txn, key, &value);
    kv->ops->abort(kv, txn);
    assert_true(error == OK || error == ERR_NO_FILE);
    return error == OK;
}

/* What is there after a crash at each point: for the next process, and after a power cut. */
static void test_crash_points(void **state)
{
    static const bool expected[FAULT_POINTS][2] = {
        {false, false}, {false, false}, {false, false}, {true, false}, {true, true}};
    for (size_t i = 0; i < FAULT_POINTS; i++) {
        for (int cut = 0; cut < 2; cut++) {
            struct fault fault = {0};
            struct sim_kv_options options = {.fault = fault_dies, .context = &fault};
            struct kv *kv = sim_kv_new(&options);
            struct kv_txn *reader;
            struct kv_bytes value, key;
            assert_int_equal(write_row(kv, BYTES("old"), BYTES("1")), OK);
            assert_int_equal(kv->ops->begin(kv, false, &reader), OK);
            fault.point = points[i];
            assert_int_equal(write_row(kv, BYTES("new"), BYTES("2")), ERR_IO);
            fault.point = NULL;
            assert_true(sim_kv_is_dead(kv));
            assert_int_equal(kv->ops->get(kv, reader, BYTES("old"), &value), ERR_IO);
            assert_int_equal(kv->ops->seek(kv, reader, BYTES("old"), &key, &value), ERR_IO);
            assert_int_equal(kv->ops->sync(kv), ERR_IO);
            assert_int_equal(write_row(kv, BYTES("new"), BYTES("2")), ERR_IO);
            kv->ops->abort(kv, reader);
            sim_kv_crash(kv, cut == 0);
            sim_kv_restart(kv);
            assert_false(sim_kv_is_dead(kv));
            assert_true(is_there(kv, BYTES("old")));
            assert_int_equal(is_there(kv, BYTES("new")), expected[i][cut]);
            sim_kv_free(kv);
        }
    }
}

/* A commit that its process never saw through is in the page cache only, until somebody makes it durable. */
static void test_page_cache(void **state)
{
    for (int how = 0; how < 3; how++) {
        struct fault fault = {.point = "kv.commit.written"};
        struct sim_kv_options options = {.fault = fault_dies, .context = &fault};
        struct kv *kv = sim_kv_new(&options);
        assert_int_equal(write_row(kv, BYTES("new"), BYTES("2")), ERR_IO);
        fault.point = NULL;
        sim_kv_crash(kv, true);
        sim_kv_restart(kv);
        assert_true(is_there(kv, BYTES("new")));
        if (how == 1) {
            assert_int_equal(kv->ops->sync(kv), OK);
        } else if (how == 2) {
            assert_int_equal(write_row(kv, BYTES("later"), BYTES("3")), OK);
        }
        sim_kv_crash(kv, false);
        sim_kv_restart(kv);
        assert_int_equal(is_there(kv, BYTES("new")), how != 0);
        sim_kv_free(kv);
    }
}

static void test_full_and_rot(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    struct kv_txn *txn;
    assert_int_equal(write_row(kv, BYTES("row"), BYTES("ab")), OK);
    sim_kv_set_full(kv, true);
    assert_int_equal(write_row(kv, BYTES("other"), BYTES("cd")), ERR_STORAGE_FULL);
    assert_int_equal(kv->ops->begin(kv, true, &txn), OK);
    assert_int_equal(kv->ops->del(kv, txn, BYTES("row")), OK);
    assert_int_equal(kv->ops->commit(kv, txn), OK);
    sim_kv_set_full(kv, false);
    assert_false(is_there(kv, BYTES("row")));
    assert_false(sim_kv_flip_bit(kv, BYTES("row"), 0));

    assert_int_equal(write_row(kv, BYTES("row"), BYTES("ab")), OK);
    uint32_t before = sim_kv_hash(kv);
    assert_false(sim_kv_flip_bit(kv, BYTES("row"), 16));
    assert_true(sim_kv_flip_bit(kv, BYTES("row"), 15));
    sim_kv_crash(kv, false); /* it is on the disk that it rots */
    sim_kv_restart(kv);
    struct kv_bytes value;
    assert_int_equal(kv->ops->begin(kv, false, &txn), OK);
    assert_int_equal(kv->ops->get(kv, txn, BYTES("row"), &value), OK);
    assert_bytes(value, BYTES("a\xe2"));
    kv->ops->abort(kv, txn);
    assert_int_not_equal(sim_kv_hash(kv), before);
    sim_kv_free(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model), cmocka_unit_test(test_hash_forgets_history),
        cmocka_unit_test(test_crash_points),  cmocka_unit_test(test_page_cache),
        cmocka_unit_test(test_full_and_rot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
