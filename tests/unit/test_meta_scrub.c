/* The scrub of the checkpoint store: a walk in steps over more rows than one step takes, bad ones among them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../sim/sim_kv.h"
#include "meta/layout.h"
#include "meta/row.h"
#include "meta/scrub.h"

#define ROWS 1000u

struct seen {
    uint32_t rows, bad, steps;
    struct meta_bad_row last;
};

static struct seen walk(struct kv *kv)
{
    struct meta_scrub_step step = {0};
    struct seen seen = {0};
    do {
        assert_int_equal(meta_scrub_step(kv, &step), OK);
        assert_true(step.rows <= META_SCRUB_ROWS_MAX);
        seen.rows += step.rows;
        seen.bad += step.bad_count;
        seen.steps++;
        if (step.bad_count > 0) {
            seen.last = step.bad[step.bad_count - 1];
        }
    } while (!step.is_over);
    return seen;
}

static struct kv_txn *begin(struct kv *kv)
{
    struct kv_txn *txn;
    assert_int_equal(kv->ops->begin(kv, true, &txn), OK);
    return txn;
}

static void all_rows_are_judged(void **state)
{
    struct kv *kv = sim_kv_new(NULL);
    struct seen seen = walk(kv);
    (void)state;
    assert_int_equal(seen.rows, 0);

    uint8_t value[2000] = {1, 2, 3};
    struct kv_txn *txn = begin(kv);
    for (uint32_t i = 0; i < ROWS; i++) {
        struct layout_key key;
        layout_number_key(&key, i % 2 == 0 ? LAYOUT_SEGMENT : LAYOUT_DONE, 7 + i % 5, i);
        assert_int_equal(row_put(kv, txn, layout_bytes(&key), (struct kv_bytes){value, i * 2}), OK);
    }
    assert_int_equal(kv->ops->commit(kv, txn), OK);
    seen = walk(kv);
    assert_int_equal(seen.rows, ROWS);
    assert_int_equal(seen.bad, 0);
    assert_true(seen.steps > ROWS / META_SCRUB_ROWS_MAX);

    /* each kind of row, bad in turn; its key says whose it is */
    static const struct {
        const char *key;
        uint32_t size;
        uint64_t group;
    } bad[] = {{"B", 1, 0},
               {"G\0\0\0\0\0\0\0\7", 9, 7},
               {"M\0\0\0\0\0\0\0\x9\0\0\0\0\0\0\0\0", 17, 9},
               {"Sx", 2, 0},
               {"S\0\0\0\0\0\0\0\xbwhatever", 17, 11},
               {"Rtopic", 6, 0},
               {"\xff", 1, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct kv_bytes key = {bad[i].key, bad[i].size};
        for (size_t size = 0; size < 20; size += 19) { /* too short for a CRC, too */
            txn = begin(kv);
            assert_int_equal(kv->ops->put(kv, txn, key, (struct kv_bytes){"nineteen bytes long", size}), OK);
            assert_int_equal(kv->ops->commit(kv, txn), OK);
            seen = walk(kv);
            assert_int_equal(seen.rows, ROWS + 1);
            assert_int_equal(seen.bad, 1);
            assert_int_equal(seen.last.type, (uint8_t)bad[i].key[0]);
            assert_int_equal(seen.last.group, bad[i].group);
        }
        txn = begin(kv);
        assert_int_equal(kv->ops->del(kv, txn, key), OK);
        assert_int_equal(kv->ops->commit(kv, txn), OK);
    }
    assert_int_equal(walk(kv).bad, 0);
    sim_kv_free(kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_rows_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
