/* The dedup tables: Kafka's rules one by one, then the real tables against a naive model over random histories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "meta/done.h"

#define SEQUENCE_MAX INT32_MAX

struct tables {
    struct done_table *done;
    struct submitted_table *submitted;
};

static struct tables tables_new(void)
{
    return (struct tables){.done = done_table_new(), .submitted = submitted_table_new()};
}

static void tables_free(struct tables *tables)
{
    done_table_free(tables->done);
    submitted_table_free(tables->submitted);
}

static struct done_candidate candidate(int64_t producer, int16_t epoch, int32_t first, int32_t count)
{
    return (struct done_candidate){
        .producer_id = producer, .epoch = epoch, .first_sequence = first, .records_count = count};
}

static enum done_verdict verdict(const struct tables *tables, struct done_candidate c)
{
    return done_judge(tables->done, tables->submitted, &c).verdict;
}

static void apply(struct tables *tables, struct done_candidate c, int64_t offset)
{
    assert_int_equal(done_judge(tables->done, NULL, &c).verdict, DONE_GO);
    done_apply(tables->done, &c, offset, 1000 + offset);
}

static void submit(struct tables *tables, struct done_candidate c, uint64_t index)
{
    assert_int_equal(verdict(tables, c), DONE_GO);
    submitted_add(tables->submitted, &c, index, 7);
}

static void test_no_row_takes_sequence_zero_only(void **state)
{
    struct tables t = tables_new();
    assert_int_equal(verdict(&t, candidate(1, 0, 1, 1)), DONE_UNKNOWN);
    assert_int_equal(verdict(&t, candidate(1, 0, SEQUENCE_MAX, 1)), DONE_UNKNOWN);
    assert_int_equal(verdict(&t, candidate(1, 3, 5, 1)), DONE_UNKNOWN);
    assert_int_equal(verdict(&t, candidate(1, 3, 0, 1)), DONE_GO);
    assert_int_equal(verdict(&t, candidate(0, 0, 0, 10)), DONE_GO);
    assert_int_equal(done_count(t.done), 0); /* judging changes nothing */
    /* The very first record is known afterwards; a window of zeroes must not match it before. */
    apply(&t, candidate(0, 0, 0, 1), 0);
    struct done_candidate first = candidate(0, 0, 0, 1);
    struct done_judgement judgement = done_judge(t.done, NULL, &first);
    assert_int_equal(judgement.verdict, DONE_KNOWN);
    assert_int_equal(judgement.offset, 0);
    tables_free(&t);
}

static void test_rules_of_one_epoch(void **state)
{
    struct tables t = tables_new();
    for (int i = 0; i < 7; i++) {
        apply(&t, candidate(9, 2, i * 10, 10), 100 + i * 10);
    }
    static const struct {
        int32_t first, count;
        enum done_verdict verdict;
        int64_t offset;
    } cases[] = {
        {70, 1, DONE_GO, 0},
        {70, 1000, DONE_GO, 0},
        {71, 1, DONE_OUT_OF_ORDER, 0},
        {SEQUENCE_MAX / 2, 1, DONE_OUT_OF_ORDER, 0},
        {60, 10, DONE_KNOWN, 160},
        {50, 10, DONE_KNOWN, 150},
        {20, 10, DONE_KNOWN, 120}, /* the oldest of five */
        {10, 10, DONE_STALE, 0},   /* the sixth */
        {0, 10, DONE_STALE, 0},
        {60, 9, DONE_STALE, 0},  /* first fits, last does not */
        {61, 9, DONE_STALE, 0},  /* last fits, first does not */
        {60, 20, DONE_STALE, 0}, /* overlaps and goes on */
        {20, 50, DONE_STALE, 0}, /* all of the window in one batch */
        {SEQUENCE_MAX, 1, DONE_STALE, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct done_candidate c = candidate(9, 2, cases[i].first, cases[i].count);
        struct done_judgement judgement = done_judge(t.done, t.submitted, &c);
        assert_int_equal(judgement.verdict, cases[i].verdict);
        if (judgement.verdict == DONE_KNOWN) {
            assert_int_equal(judgement.offset, cases[i].offset);
        }
    }
    /* Somebody else's sequences are somebody else's. */
    assert_int_equal(verdict(&t, candidate(8, 2, 70, 1)), DONE_UNKNOWN);
    tables_free(&t);
}

static void test_epochs(void **state)
{
    struct tables t = tables_new();
    apply(&t, candidate(9, 2, 0, 10), 0);
    assert_int_equal(verdict(&t, candidate(9, 1, 0, 10)), DONE_FENCED);
    assert_int_equal(verdict(&t, candidate(9, 1, 10, 1)), DONE_FENCED);
    assert_int_equal(verdict(&t, candidate(9, 3, 10, 1)), DONE_OUT_OF_ORDER);
    assert_int_equal(verdict(&t, candidate(9, 3, 0, 10)), DONE_GO); /* the same numbers, but another life */
    apply(&t, candidate(9, 3, 0, 5), 10);
    assert_int_equal(verdict(&t, candidate(9, 2, 0, 10)), DONE_FENCED);
    assert_int_equal(verdict(&t, candidate(9, 3, 0, 10)), DONE_STALE);
    assert_int_equal(verdict(&t, candidate(9, 3, 5, 5)), DONE_GO);
    const struct done_row *row = done_get_row(t.done, 9);
    assert_int_equal(row->epoch, 3);
    assert_int_equal(row->count, 1);
    assert_int_equal(row->last_idle_ms, 1010);
    apply(&t, candidate(9, INT16_MAX, 0, 1), 15);
    assert_int_equal(verdict(&t, candidate(9, 4, 0, 1)), DONE_FENCED);
    tables_free(&t);
}

static void test_wrap(void **state)
{
    struct tables t = tables_new();
    int64_t offset = 0;
    /* Two huge batches bring the sequence near its end. */
    apply(&t, candidate(1, 0, 0, 1 << 30), offset);
    apply(&t, candidate(1, 0, 1 << 30, (1 << 30) - 2), offset += 1 << 30);
    assert_int_equal(verdict(&t, candidate(1, 0, SEQUENCE_MAX - 1, 1)), DONE_GO);
    assert_int_equal(verdict(&t, candidate(1, 0, 0, 1)), DONE_OUT_OF_ORDER); /* two ahead, across the end */
    /* A batch that crosses the end: 2^31-2, 2^31-1, 0, 1. */
    apply(&t, candidate(1, 0, SEQUENCE_MAX - 1, 4), offset += 1 << 30);
    const struct done_row *row = done_get_row(t.done, 1);
    assert_int_equal(row->batches[2].last_sequence, 1);
    struct done_candidate again = candidate(1, 0, SEQUENCE_MAX - 1, 4);
    struct done_judgement judgement = done_judge(t.done, NULL, &again);
    assert_int_equal(judgement.verdict, DONE_KNOWN);
    assert_int_equal(judgement.offset, offset);
    assert_int_equal(verdict(&t, candidate(1, 0, 2, 1)), DONE_GO);
    assert_int_equal(verdict(&t, candidate(1, 0, 3, 1)), DONE_OUT_OF_ORDER);
    assert_int_equal(verdict(&t, candidate(1, 0, SEQUENCE_MAX, 1)), DONE_STALE);
    assert_int_equal(verdict(&t, candidate(1, 0, SEQUENCE_MAX - 1, 2)), DONE_STALE);
    apply(&t, candidate(1, 0, 2, 1), offset += 4);
    tables_free(&t);

    /* The batch that ends exactly at the end. */
    t = tables_new();
    apply(&t, candidate(2, 0, 0, SEQUENCE_MAX), 0);
    apply(&t, candidate(2, 0, SEQUENCE_MAX, 1), SEQUENCE_MAX);
    assert_int_equal(verdict(&t, candidate(2, 0, 0, 1)), DONE_GO);
    tables_free(&t);
}

static void test_in_flight(void **state)
{
    struct tables t = tables_new();
    submit(&t, candidate(5, 0, 0, 3), 11);
    submit(&t, candidate(5, 0, 3, 3), 12);
    assert_int_equal(submitted_count(t.submitted), 2);
    struct done_candidate retry = candidate(5, 0, 3, 3);
    struct done_judgement judgement = done_judge(t.done, t.submitted, &retry);
    assert_int_equal(judgement.verdict, DONE_IN_FLIGHT);
    assert_int_equal(judgement.index, 12);
    assert_int_equal(judgement.term, 7);
    assert_int_equal(verdict(&t, candidate(5, 0, 3, 2)), DONE_STALE);
    assert_int_equal(verdict(&t, candidate(5, 0, 6, 1)), DONE_GO);
    assert_int_equal(verdict(&t, candidate(5, 0, 7, 1)), DONE_OUT_OF_ORDER);
    /* Apply judges over the CDM alone. */
    assert_int_equal(done_judge(t.done, NULL, &retry).verdict, DONE_UNKNOWN);

    /* Applied: it leaves the CSM and is known. */
    apply(&t, candidate(5, 0, 0, 3), 40);
    submitted_remove(t.submitted, 5, 11, 7);
    assert_int_equal(verdict(&t, candidate(5, 0, 0, 3)), DONE_KNOWN);
    assert_int_equal(verdict(&t, candidate(5, 0, 3, 3)), DONE_IN_FLIGHT);
    submitted_remove(t.submitted, 5, 12, 6); /* another term: not this one */
    submitted_remove(t.submitted, 5, 11, 7); /* gone already */
    submitted_remove(t.submitted, 6, 12, 7); /* somebody else */
    assert_int_equal(submitted_count(t.submitted), 1);

    /* Leadership lost: what was in flight is judged over the CDM again. */
    submitted_clear(t.submitted);
    assert_int_equal(submitted_count(t.submitted), 0);
    assert_int_equal(verdict(&t, candidate(5, 0, 3, 3)), DONE_GO);
    submit(&t, candidate(5, 0, 3, 3), 9);
    submitted_remove(t.submitted, 5, 9, 7);
    assert_int_equal(verdict(&t, candidate(5, 0, 3, 3)), DONE_GO);
    tables_free(&t);
}

static void test_new_epoch_in_flight(void **state)
{
    struct tables t = tables_new();
    apply(&t, candidate(5, 1, 0, 2), 0);
    submit(&t, candidate(5, 1, 2, 2), 20);
    submit(&t, candidate(5, 2, 0, 2), 21);
    /* The old life is fenced as soon as the new one is in the log, known or in flight or not. */
    assert_int_equal(verdict(&t, candidate(5, 1, 0, 2)), DONE_FENCED);
    assert_int_equal(verdict(&t, candidate(5, 1, 2, 2)), DONE_FENCED);
    assert_int_equal(verdict(&t, candidate(5, 1, 4, 1)), DONE_FENCED);
    /* The new one goes on from its own batch, not from the row of the old. */
    assert_int_equal(verdict(&t, candidate(5, 2, 0, 2)), DONE_IN_FLIGHT);
    assert_int_equal(verdict(&t, candidate(5, 2, 2, 2)), DONE_GO);
    assert_int_equal(verdict(&t, candidate(5, 2, 4, 2)), DONE_OUT_OF_ORDER);
    assert_int_equal(verdict(&t, candidate(5, 3, 1, 1)), DONE_OUT_OF_ORDER);
    assert_int_equal(verdict(&t, candidate(5, 3, 0, 1)), DONE_GO);
    /* Without a row at all. */
    submit(&t, candidate(6, 4, 0, 1), 22);
    assert_int_equal(verdict(&t, candidate(6, 3, 0, 1)), DONE_FENCED);
    assert_int_equal(verdict(&t, candidate(6, 4, 1, 1)), DONE_GO);
    assert_int_equal(verdict(&t, candidate(6, 5, 1, 1)), DONE_OUT_OF_ORDER);
    tables_free(&t);
}

static void test_judge_is_total(void **state)
{
    struct tables t = tables_new();
    assert_int_equal(verdict(&t, candidate(-1, 0, 0, 1)), DONE_OUT_OF_ORDER);
    assert_int_equal(verdict(&t, candidate(1, -1, 0, 1)), DONE_OUT_OF_ORDER);
    assert_int_equal(verdict(&t, candidate(1, 0, -1, 1)), DONE_OUT_OF_ORDER);
    assert_int_equal(verdict(&t, candidate(1, 0, 0, 0)), DONE_OUT_OF_ORDER);
    assert_int_equal(verdict(&t, candidate(1, 0, 0, INT32_MIN)), DONE_OUT_OF_ORDER);
    assert_int_equal(verdict(&t, candidate(INT64_MIN, INT16_MIN, INT32_MIN, 0)), DONE_OUT_OF_ORDER);
    /* Without in-flight ones the producer id INT64_MIN must not meet anything inside either. */
    submit(&t, candidate(1, 0, 0, 1), 1);
    assert_int_equal(verdict(&t, candidate(INT64_MIN, 0, 0, 1)), DONE_OUT_OF_ORDER);
    tables_free(&t);
}

static void test_statuses(void **state)
{
    assert_int_equal(done_verdict_status(DONE_GO), OK);
    assert_int_equal(done_verdict_status(DONE_KNOWN), OK);
    assert_int_equal(done_verdict_status(DONE_IN_FLIGHT), OK);
    assert_int_equal(done_verdict_status(DONE_FENCED), ERR_FENCED);
    assert_int_equal(done_verdict_status(DONE_OUT_OF_ORDER), ERR_OUT_OF_ORDER);
    assert_int_equal(done_verdict_status(DONE_STALE), ERR_STALE);
    assert_int_equal(done_verdict_status(DONE_UNKNOWN), ERR_UNKNOWN_PRODUCER);
}

/* ---- checkpoint ---- */

struct seen {
    int64_t ids[64];
    size_t count;
};

static void see(void *context, const struct done_row *row)
{
    struct seen *seen = context;
    assert_true(seen->count < 64);
    seen->ids[seen->count++] = row->producer_id;
}

static void assert_seen(const struct seen *seen, size_t count, const int64_t *ids)
{
    assert_int_equal(seen->count, count);
    assert_memory_equal(seen->ids, ids, count * sizeof ids[0]);
}

static void test_dirty_rows(void **state)
{
    struct tables t = tables_new();
    static const int64_t ids[] = {70, 3, INT64_MAX, 0, 12};
    for (size_t i = 0; i < 5; i++) {
        apply(&t, candidate(ids[i], 0, 0, 1), (int64_t)i);
    }
    apply(&t, candidate(3, 0, 1, 1), 9);
    struct seen seen = {0};
    done_take_dirty(t.done, see, &seen);
    assert_seen(&seen, 5, (int64_t[]){0, 3, 12, 70, INT64_MAX});
    seen.count = 0;
    done_take_dirty(t.done, see, &seen);
    assert_int_equal(seen.count, 0);

    apply(&t, candidate(70, 0, 1, 1), 10);
    apply(&t, candidate(0, 0, 1, 1), 11);
    done_take_dirty(t.done, see, &seen);
    assert_seen(&seen, 2, (int64_t[]){0, 70});

    /* A checkpoint that failed gives its rows back. */
    done_mark_dirty(t.done, 70);
    done_mark_dirty(t.done, 70);
    done_mark_dirty(t.done, 4711);
    seen.count = 0;
    done_take_dirty(t.done, see, &seen);
    assert_seen(&seen, 1, (int64_t[]){70});

    seen.count = 0;
    done_visit(t.done, see, &seen);
    assert_seen(&seen, 5, (int64_t[]){0, 3, 12, 70, INT64_MAX});
    tables_free(&t);
}

static void copy_row(void *context, const struct done_row *row)
{
    done_put_row(context, row);
}

static void test_hash(void **state)
{
    struct tables a = tables_new();
    struct tables b = tables_new();
    assert_int_equal(done_hash(a.done), done_hash(b.done));
    /* Two replicas that met the producers in different order, e.g. one from a snapshot. */
    apply(&a, candidate(1, 0, 0, 1), 0);
    apply(&a, candidate(2, 0, 0, 1), 1);
    apply(&b, candidate(2, 0, 0, 1), 1);
    assert_int_not_equal(done_hash(a.done), done_hash(b.done));
    apply(&b, candidate(1, 0, 0, 1), 0);
    assert_int_equal(done_hash(a.done), done_hash(b.done));
    for (int i = 1; i < 20; i++) {
        apply(&a, candidate(1, 0, i, 1), 10 + i);
    }
    assert_int_not_equal(done_hash(a.done), done_hash(b.done));

    struct tables loaded = tables_new();
    done_visit(a.done, copy_row, loaded.done);
    assert_int_equal(done_hash(a.done), done_hash(loaded.done));
    assert_memory_equal(done_get_row(a.done, 1), done_get_row(loaded.done, 1), sizeof(struct done_row));
    struct seen seen = {0};
    done_take_dirty(loaded.done, see, &seen);
    assert_int_equal(seen.count, 0); /* loaded rows are clean */
    assert_int_equal(verdict(&loaded, candidate(1, 0, 19, 1)), DONE_KNOWN);
    assert_int_equal(verdict(&loaded, candidate(1, 0, 20, 1)), DONE_GO);

    /* Every field counts. */
    struct done_row row = *done_get_row(a.done, 1);
    uint32_t before = done_hash(loaded.done);
    struct done_row changed = row;
    changed.last_idle_ms++;
    done_put_row(loaded.done, &changed);
    assert_int_not_equal(done_hash(loaded.done), before);
    changed = row;
    changed.batches[4].offset++;
    done_put_row(loaded.done, &changed);
    assert_int_not_equal(done_hash(loaded.done), before);
    changed = row;
    changed.epoch++;
    done_put_row(loaded.done, &changed);
    assert_int_not_equal(done_hash(loaded.done), before);
    done_put_row(loaded.done, &row);
    assert_int_equal(done_hash(loaded.done), before);
    tables_free(&a);
    tables_free(&b);
    tables_free(&loaded);
}

/* ---- against a naive model ---- */

#define MODEL_PRODUCERS      4
#define MODEL_RARE_PRODUCERS 1000
#define MODEL_STEPS          200000
#define MODEL_LOG_MAX        100000

struct model_batch {
    struct done_candidate candidate;
    int64_t offset;
    uint64_t index;
};

/* The model knows no rows and no windows: it keeps the whole log, [0, applied) applied and the rest in flight, and
 * reads it through for every judgement. */
struct model {
    struct model_batch log[MODEL_LOG_MAX];
    size_t count, applied;
};

static int32_t model_last(const struct done_candidate *c)
{
    return (int32_t)(((int64_t)c->first_sequence + c->records_count - 1) % ((int64_t)SEQUENCE_MAX + 1));
}

static struct done_judgement model_judge(const struct model *model, size_t visible, const struct done_candidate *c)
{
    int64_t epoch = -1, next = 0;
    size_t applied_behind = 0; /* applied batches of this producer and epoch, newest first */
    for (size_t i = visible; i-- > 0;) {
        if (model->log[i].candidate.producer_id == c->producer_id) {
            epoch = model->log[i].candidate.epoch;
            next = ((int64_t)model_last(&model->log[i].candidate) + 1) % ((int64_t)SEQUENCE_MAX + 1);
            break;
        }
    }
    if (epoch == -1 || c->epoch > epoch) {
        enum done_verdict refused = epoch == -1 ? DONE_UNKNOWN : DONE_OUT_OF_ORDER;
        return (struct done_judgement){.verdict = c->first_sequence == 0 ? DONE_GO : refused};
    }
    if (c->epoch < epoch) {
        return (struct done_judgement){.verdict = DONE_FENCED};
    }
    for (size_t i = visible; i-- > 0;) {
        const struct model_batch *batch = &model->log[i];
        if (batch->candidate.producer_id != c->producer_id || batch->candidate.epoch != c->epoch) {
            continue;
        }
        bool same =
            batch->candidate.first_sequence == c->first_sequence && model_last(&batch->candidate) == model_last(c);
        if (i >= model->applied && same) {
            return (struct done_judgement){.verdict = DONE_IN_FLIGHT, .index = batch->index, .term = 7};
        }
        if (i < model->applied && ++applied_behind <= DONE_BATCHES && same) {
            return (struct done_judgement){.verdict = DONE_KNOWN, .offset = batch->offset};
        }
        if (applied_behind > DONE_BATCHES) {
            break;
        }
    }
    if (c->first_sequence == next) {
        return (struct done_judgement){.verdict = DONE_GO};
    }
    int64_t ahead = ((int64_t)c->first_sequence - next + ((int64_t)SEQUENCE_MAX + 1)) % ((int64_t)SEQUENCE_MAX + 1);
    return (struct done_judgement){.verdict = ahead < (int64_t)1 << 30 ? DONE_OUT_OF_ORDER : DONE_STALE};
}

/* Mostly the next batch or a repeated one, sometimes anything; big counts so that sequences wrap often. */
static struct done_candidate model_invent(const struct model *model, struct rng *rng)
{
    int64_t producer = (int64_t)rng_below(rng, rng_chance(rng, 0.005) ? MODEL_RARE_PRODUCERS : MODEL_PRODUCERS);
    struct done_candidate c = candidate(producer, 0, 0, 1 + (int32_t)rng_below(rng, 3));
    if (rng_chance(rng, 0.1)) {
        c.records_count = (int32_t)rng_between(rng, 1 << 28, 1 << 29);
    }
    for (size_t i = model->count, back = (size_t)rng_below(rng, 12); i-- > 0;) {
        const struct done_candidate *old = &model->log[i].candidate;
        if (old->producer_id != c.producer_id) {
            continue;
        }
        if (back-- > 0 && back < 8) {
            continue; /* far enough back to leave the window now and then */
        }
        c.epoch = old->epoch;
        c.first_sequence = (int32_t)(((int64_t)model_last(old) + 1) % ((int64_t)SEQUENCE_MAX + 1));
        if (rng_chance(rng, 0.4)) {
            c.first_sequence = old->first_sequence;
            c.records_count = old->records_count + (rng_chance(rng, 0.1) ? 1 : 0);
        }
        break;
    }
    if (rng_chance(rng, 0.05)) {
        c.first_sequence = rng_chance(rng, 0.5) ? 0 : (int32_t)rng_below(rng, (uint64_t)SEQUENCE_MAX + 1);
    }
    if (rng_chance(rng, 0.02)) {
        c.epoch = (int16_t)(c.epoch + 1);
        c.first_sequence = rng_chance(rng, 0.8) ? 0 : c.first_sequence;
    } else if (rng_chance(rng, 0.02) && c.epoch > 0) {
        c.epoch = (int16_t)(c.epoch - 1);
    }
    return c;
}

static void assert_same_judgement(struct done_judgement real, struct done_judgement model)
{
    assert_int_equal(real.verdict, model.verdict);
    assert_int_equal(real.offset, model.offset);
    assert_int_equal(real.index, model.index);
    assert_int_equal(real.term, model.term);
}

static void model_apply_one(struct model *model, struct tables *t, struct tables *follower)
{
    struct model_batch *batch = &model->log[model->applied];
    struct done_candidate *c = &batch->candidate;
    /* What the leader let through is never refused by apply. */
    assert_same_judgement(done_judge(t->done, NULL, c), model_judge(model, model->applied, c));
    apply(t, *c, batch->offset);
    submitted_remove(t->submitted, c->producer_id, batch->index, 7);
    apply(follower, *c, batch->offset);
    model->applied++;
}

static void test_against_model(void **state)
{
    struct model *model = calloc(1, sizeof *model);
    struct tables t = tables_new();
    struct tables follower = tables_new();
    struct rng rng;
    size_t verdicts[DONE_UNKNOWN + 1] = {0};
    uint64_t index = 0;
    assert_non_null(model);
    rng_seed(&rng, 20240607);
    for (int step = 0; step < MODEL_STEPS; step++) {
        uint64_t dice = rng_below(&rng, 100);
        if (dice < 30 && model->applied < model->count) {
            model_apply_one(model, &t, &follower);
            assert_true(step % 64 != 0 || done_hash(t.done) == done_hash(follower.done));
        } else if (dice == 99) { /* leadership lost: the tail is cut off */
            model->count = model->applied;
            submitted_clear(t.submitted);
        } else {
            struct done_candidate c = model_invent(model, &rng);
            struct done_judgement judgement = done_judge(t.done, t.submitted, &c);
            assert_same_judgement(judgement, model_judge(model, model->count, &c));
            verdicts[judgement.verdict]++;
            if (judgement.verdict == DONE_GO && model->count < MODEL_LOG_MAX) {
                index++;
                submitted_add(t.submitted, &c, index, 7);
                model->log[model->count++] =
                    (struct model_batch){.candidate = c, .offset = (int64_t)index * 10, .index = index};
            }
        }
        assert_int_equal(submitted_count(t.submitted), model->count - model->applied);
    }
    assert_int_equal(done_hash(t.done), done_hash(follower.done));
    for (size_t i = 0; i <= DONE_UNKNOWN; i++) {
        assert_true(verdicts[i] > 0); /* the histories reach every rule */
    }
    tables_free(&t);
    tables_free(&follower);
    free(model);
}

static void test_room(void **state)
{
    struct done_table *done = done_table_new();
    for (int64_t id = 0; id < PRODUCERS_PER_GROUP_MAX; id++) {
        assert_true(done_has_room(done, id));
        struct done_row row = {.producer_id = id, .count = 0};
        done_put_row(done, &row);
    }
    assert_true(done_has_room(done, 5));
    assert_false(done_has_room(done, PRODUCERS_PER_GROUP_MAX));
    /* One that was in flight when the last place went is applied all the same. */
    struct done_candidate c = candidate(PRODUCERS_PER_GROUP_MAX, 0, 0, 1);
    done_apply(done, &c, 0, 0);
    assert_int_equal(done_count(done), PRODUCERS_PER_GROUP_MAX + 1);
    done_table_free(done);
    done_table_free(NULL);
    submitted_table_free(NULL);
}

static void copy_removed(struct done_table *done, int64_t *ret_ids, uint32_t *ret_count)
{
    int64_t *removed = done_take_removed(done, ret_count);
    memcpy(ret_ids, removed != NULL ? removed : ret_ids, *ret_count * sizeof *ret_ids);
    free(removed);
}

static void apply_at(struct done_table *done, int64_t producer_id, int32_t sequence, int64_t offset, int64_t idle_ms)
{
    struct done_candidate candidate = {
        .producer_id = producer_id, .epoch = 0, .first_sequence = sequence, .records_count = 1};
    assert_int_equal(done_judge(done, NULL, &candidate).verdict, DONE_GO);
    done_apply(done, &candidate, offset, idle_ms);
}

/* The idle go, oldest first, and only they; a batch makes its producer young again. */
static void test_expiry(void **state)
{
    struct done_table *done = done_table_new();
    int64_t ids[4];
    uint32_t count;
    (void)state;
    assert_true(done_oldest_ms(done) == INT64_MAX);
    assert_int_equal(done_expire(done, INT64_MAX), 0);
    apply_at(done, 7, 0, 0, 100);
    apply_at(done, 8, 0, 1, 200);
    apply_at(done, 9, 0, 2, 300);
    apply_at(done, 7, 1, 3, 400);
    assert_int_equal(done_oldest_ms(done), 200);
    assert_int_equal(done_expire(done, 199), 0);
    assert_int_equal(done_expire(done, 300), 2);
    assert_int_equal(done_count(done), 1);
    copy_removed(done, ids, &count);
    assert_int_equal(count, 2);
    assert_true(ids[0] == 8 && ids[1] == 9);
    assert_non_null(done_get_row(done, 7));
    struct done_candidate known = {.producer_id = 9, .epoch = 0, .first_sequence = 1, .records_count = 1};
    assert_int_equal(done_judge(done, NULL, &known).verdict, DONE_UNKNOWN);
    apply_at(done, 9, 0, 4, 500); /* comes back with sequence 0 */
    copy_removed(done, ids, &count);
    assert_int_equal(count, 0);
    assert_int_equal(done_expire(done, 450), 1);
    done_table_free(done);
}

/* Rows come back from a checkpoint in order of producer id; they expire in order of age all the same. */
static void test_expiry_after_loading(void **state)
{
    struct done_table *done = done_table_new();
    uint32_t count;
    int64_t ids[4];
    (void)state;
    for (int64_t id = 1; id <= 3; id++) {
        struct done_row row = {.producer_id = id, .count = 1, .last_idle_ms = 100 - id};
        done_put_row(done, &row);
    }
    assert_int_equal(done_oldest_ms(done), 97);
    assert_int_equal(done_expire(done, 98), 2);
    copy_removed(done, ids, &count);
    assert_true(count == 2 && ids[0] == 3 && ids[1] == 2);
    done_table_free(done);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_expiry_after_loading),
        cmocka_unit_test(test_no_row_takes_sequence_zero_only),
        cmocka_unit_test(test_rules_of_one_epoch),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_in_flight),
        cmocka_unit_test(test_new_epoch_in_flight),
        cmocka_unit_test(test_judge_is_total),
        cmocka_unit_test(test_statuses),
        cmocka_unit_test(test_dirty_rows),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
