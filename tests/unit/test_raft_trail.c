/* The core's ledgers against naive models: the trail (index -> term) and the sizes (index -> bytes, roughly). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "raft/sizes.h"
#include "raft/trail.h"

#define MODEL_MAX 2000

/* A term per index; 0: not there. */
struct model {
    uint64_t base, last;
    uint64_t terms[MODEL_MAX + 1];
};

static uint64_t model_last_not_above(const struct model *m, uint64_t term, uint64_t limit)
{
    uint64_t index = limit;
    while (index > m->base && m->terms[index] > term) {
        index--;
    }
    return index;
}

static void compare(const struct trail *t, const struct model *m, struct rng *rng)
{
    trail__check(t);
    assert_int_equal(t->base_index, m->base);
    assert_int_equal(t->last_index, m->last);
    assert_int_equal(trail__last_term(t), m->terms[m->last]);
    assert_int_equal(trail__term(t, m->last + 1), 0);
    for (int tries = 0; tries < 4 && m->last > m->base; tries++) {
        uint64_t index = rng_between(rng, m->base + 1, m->last);
        assert_int_equal(trail__term(t, index), m->terms[index]);
        uint64_t first = trail__run_first(t, index);
        uint64_t last = trail__run_last(t, index);
        assert_true(first <= index && last >= index);
        assert_true(m->terms[first] == m->terms[index] && m->terms[last] == m->terms[index]);
        assert_true(first == m->base + 1 || m->terms[first - 1] < m->terms[first]);
        assert_true(last == m->last || m->terms[last + 1] > m->terms[last]);
        uint64_t term = rng_below(rng, m->terms[m->last] + 2);
        assert_int_equal(trail__last_not_above(t, term, index), model_last_not_above(m, term, index));
        struct raft_run runs[RAFT_RUNS_MAX];
        uint32_t runs_count = 0;
        uint64_t wanted = m->last - index + 1;
        uint64_t copied = trail__copy(t, index, wanted, runs, &runs_count);
        assert_true(copied == wanted || runs_count == RAFT_RUNS_MAX);
        uint64_t at = index;
        for (uint32_t i = 0; i < runs_count; i++) {
            for (uint64_t n = 0; n < runs[i].count; n++) {
                assert_int_equal(runs[i].term, m->terms[at++]);
            }
        }
        assert_int_equal(at, index + copied);
    }
}

static void trail_equals_its_model(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 11);
    for (int round = 0; round < 200; round++) {
        static struct model m;
        memset(&m, 0, sizeof m);
        struct trail t;
        m.base = m.last = rng_below(&rng, 2) * 17;
        m.terms[m.base] = m.base > 0 ? 3 : 0;
        trail__init(&t, m.base, m.terms[m.base]);
        uint64_t term = 3;
        for (int i = 0; i < 200; i++) {
            uint64_t what = rng_below(&rng, 20);
            if (what == 0 && m.last > m.base) {
                uint64_t from = rng_between(&rng, m.base + 1, m.last);
                trail__truncate(&t, from);
                m.last = from - 1;
                term = m.terms[m.last] > 0 ? m.terms[m.last] : 1;
            } else if (what == 1) {
                uint64_t index = rng_between(&rng, m.base, m.last);
                trail__compact(&t, index);
                m.base = index;
            } else {
                term += rng_below(&rng, 3) == 0;
                uint64_t count = rng_between(&rng, 1, 6);
                trail__append(&t, term, count);
                while (count-- > 0) {
                    m.terms[++m.last] = term;
                }
            }
            compare(&t, &m, &rng);
        }
        trail__done(&t);
    }
}

static void trail_is_bounded(void **state)
{
    (void)state;
    struct trail t;
    trail__init(&t, 0, 0);
    for (uint64_t term = 1; term <= RAFT_TRAIL_RUNS_MAX; term++) {
        assert_true(trail__has_room(&t, 1));
        trail__append(&t, term, 1);
    }
    assert_false(trail__has_room(&t, 1));
    trail__append(&t, RAFT_TRAIL_RUNS_MAX, 1000); /* the same term: no new run */
    trail__check(&t);
    assert_int_equal(trail__term(&t, 777), 777);
    trail__compact(&t, 16);
    assert_true(trail__has_room(&t, 16));
    trail__done(&t);
}

/* Recent spans are known within a grain, sums never go wrong by more than rounding, whatever was thinned out. */
static void sizes_are_exact_in_sum_and_near_the_end(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 12);
    for (int round = 0; round < 50; round++) {
        static uint64_t total[MODEL_MAX + 1];
        memset(total, 0, sizeof total);
        struct sizes s;
        sizes__init(&s, 0);
        uint64_t last = 0;
        while (last < MODEL_MAX) {
            uint64_t bytes = rng_below(&rng, rng_chance(&rng, 0.05) ? 4u << 20 : 3000);
            total[last + 1] = total[last] + bytes;
            last++;
            sizes__append(&s, last, bytes);
            assert_int_equal(sizes__between(&s, 0, last), total[last]);
            assert_true(s.count <= SIZES_MARKS_MAX);
            uint64_t recent = last > 5 ? last - 5 : 0;
            uint64_t known = total[last] - total[recent];
            uint64_t told = sizes__between(&s, recent, last);
            assert_true(told <= known + (uint64_t)SIZES_GRAIN_BYTES && known <= told + (uint64_t)SIZES_GRAIN_BYTES);
            uint64_t count = sizes__fit(&s, recent, last - recent, 10000);
            assert_true(count <= last - recent && sizes__between(&s, recent, recent + count) <= 10000);
            if (rng_chance(&rng, 0.01)) {
                uint64_t cut = rng_between(&rng, last > 3 ? last - 3 : 0, last);
                sizes__truncate(&s, cut);
                total[cut] = sizes__between(&s, 0, cut); /* a cut inside a span is a guess from then on */
                last = cut;
            }
        }
        sizes__done(&s);
    }
}

static void entries_of_unknown_size_are_guessed(void **state)
{
    (void)state;
    struct sizes s;
    sizes__init(&s, 100);
    assert_int_equal(sizes__between(&s, 90, 100), 10 * SIZES_GUESS_BYTES);
    sizes__append(&s, 101, 5);
    assert_int_equal(sizes__between(&s, 99, 101), SIZES_GUESS_BYTES + 5);
    sizes__truncate(&s, 50);
    sizes__append(&s, 51, 7);
    assert_int_equal(sizes__between(&s, 50, 51), 7);
    sizes__done(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trail_equals_its_model),
        cmocka_unit_test(trail_is_bounded),
        cmocka_unit_test(sizes_are_exact_in_sum_and_near_the_end),
        cmocka_unit_test(entries_of_unknown_size_are_guessed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
