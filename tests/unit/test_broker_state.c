/* Small parts of the broker: entry payloads, the window of log entries, and the state machine of `__producers`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/entry.h"
#include "broker/partition.h"
#include "broker/state.h"

/* --- entries --- */

static void entries_survive_a_round_trip(void **state)
{
    (void)state;
    struct entry_birth birth = {.kind = 2, .partition = 70000, .voters_count = 3};
    birth.config = (struct entry_config){.segment_bytes = (uint64_t)1 << 33,
                                         .segment_ms = -1,
                                         .retention_bytes = -1,
                                         .retention_ms = 5,
                                         .max_batch_bytes = 9};
    for (uint64_t i = 0; i < 3; i++) {
        birth.voters[i] = ((uint64_t)1 << 40) + i;
        birth.voter_brokers[i] = i + 1;
    }
    struct slice s = entry_encode_birth(&birth);
    struct entry_birth back;
    assert_int_equal(entry_decode_birth(s, &back), OK);
    assert_memory_equal(&back.voters, &birth.voters, sizeof birth.voters);
    assert_int_equal(back.partition, 70000);
    assert_memory_equal(&back.config, &birth.config, sizeof birth.config);
    for (uint32_t size = 0; size < s.size; size++) {
        struct slice cut = {.data = s.data, .size = size};
        assert_int_equal(entry_decode_birth(cut, &back), ERR_FORMAT);
    }
    slice_unref(&s);

    struct entry_leader leader = {.broker = UINT64_MAX, .clock_ms = -5}, leader_back;
    s = entry_encode_leader(&leader);
    assert_int_equal(entry_decode_leader(s, &leader_back), OK);
    assert_true(leader_back.broker == UINT64_MAX && leader_back.clock_ms == -5);
    slice_unref(&s);

    int64_t offset = 0;
    s = entry_encode_log_start(INT64_MAX);
    assert_int_equal(entry_decode_log_start(s, &offset), OK);
    assert_true(offset == INT64_MAX);
    s.buf->data[0]++; /* a version this build does not know */
    assert_int_equal(entry_decode_log_start(s, &offset), ERR_FORMAT);
    slice_unref(&s);
}

static void entry_types_have_names(void **state)
{
    (void)state;
    assert_string_equal(entry_type_name(ENTRY_LEADER), "LEADER");
    assert_string_equal(entry_type_name(ENTRY_TIMEOUT), "TIMEOUT");
    assert_string_equal(entry_type_name(ENTRY_MARKER), "MARKER");
    assert_string_equal(entry_type_name(200), "UNKNOWN");
}

/* --- window --- */

struct test_waiter {
    struct waiter waiter;
    int calls;
    enum err error;
};

static void on_complete(struct waiter *waiter, const struct outcome *outcome)
{
    struct test_waiter *w = (struct test_waiter *)waiter;
    w->calls++;
    w->error = outcome->error;
}

static void window_of(struct window *window, uint64_t first, uint32_t count)
{
    *window = (struct window){.first_index = first};
    for (uint32_t i = 0; i < count; i++) {
        struct window_entry entry = {.term = i, .payload = entry_encode_bytes("abc", 3)};
        window_push(window, &entry);
    }
}

static void window_crosses_every_boundary_of_indexes(void **state)
{
    (void)state;
    static const uint64_t firsts[] = {1, 120, 32760, ((uint64_t)1 << 31) - 7, ((uint64_t)1 << 32) - 7};
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        struct window window;
        window_of(&window, firsts[i], 100);
        assert_true(window_last(&window) == firsts[i] + 99);
        assert_int_equal(window_at(&window, firsts[i] + 50)->term, 50);
        for (int k = 0; k < 60; k++) {
            window_pop_front(&window);
        }
        assert_true(window.first_index == firsts[i] + 60 && window.count == 40);
        assert_int_equal(window_at(&window, firsts[i] + 99)->term, 99);
        assert_int_equal(window.bytes, 120);
        window_free(&window);
    }
}

static void truncation_answers_the_waiters_it_cuts(void **state)
{
    (void)state;
    struct window window;
    struct test_waiter kept = {.waiter.complete = on_complete}, cut[2];
    struct outcome outcome = {.error = ERR_UNKNOWN_OUTCOME};
    window_of(&window, 10, 5);
    cut[0] = cut[1] = kept;
    window_at(&window, 11)->waiters = &kept.waiter;
    window_at(&window, 13)->waiters = &cut[0].waiter;
    cut[0].waiter.next = &cut[1].waiter;
    window_truncate(&window, 12, &outcome);
    assert_int_equal(window.count, 2);
    assert_int_equal(kept.calls, 0);
    assert_int_equal(cut[0].calls, 1);
    assert_int_equal(cut[1].calls, 1);
    assert_int_equal(cut[1].error, ERR_UNKNOWN_OUTCOME);
    window_at(&window, 11)->waiters = NULL;
    window_free(&window);
}

/* --- producers --- */

static struct outcome init(struct state_table *table, const char *name)
{
    struct outcome outcome = {0};
    struct slice op = state_encode_init(name);
    assert_int_equal(state_apply(table, op, &outcome), OK);
    slice_unref(&op);
    return outcome;
}

static void names_keep_ids_and_raise_epochs(void **state)
{
    (void)state;
    struct state_table *table = state_new(7);
    struct outcome first = init(table, "Leader"), other = init(table, "TIMEOUT"), again = init(table, "Leader");
    struct outcome nobody = init(table, ""), nobody_else = init(table, "");
    assert_int_equal(first.producer_epoch, 0);
    assert_true(again.producer_id == first.producer_id && again.producer_epoch == 1);
    assert_true(other.producer_id != first.producer_id && other.producer_epoch == 0);
    assert_true(nobody.producer_id != nobody_else.producer_id && nobody.producer_id != first.producer_id);
    assert_int_equal(first.producer_id >> 40, 7);
    state_free(table);
}

static void epochs_end_in_a_fresh_id(void **state)
{
    (void)state;
    struct state_table *table = state_new(1);
    int64_t id = init(table, "p").producer_id;
    struct outcome outcome = {0};
    for (int epoch = 1; epoch <= 32767; epoch++) {
        outcome = init(table, "p");
    }
    assert_true(outcome.producer_id == id && outcome.producer_epoch == 32767);
    outcome = init(table, "p");
    assert_true(outcome.producer_id != id && outcome.producer_epoch == 0);
    state_free(table);
}

static void a_checkpoint_carries_everything(void **state)
{
    (void)state;
    struct state_table *table = state_new(3), *copy = state_new(3);
    struct meta_state_row *rows;
    char name[PRODUCER_NAME_BYTES_MAX + 1];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    init(table, name);
    init(table, "a");
    struct outcome before = init(table, "a");
    uint32_t count = state_take_dirty(table, &rows);
    assert_int_equal(count, 3);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(state_put_row(copy, &rows[i]), OK);
    }
    free(rows);
    count = state_take_dirty(table, &rows);
    assert_int_equal(count, 0);
    free(rows);
    struct outcome here = init(copy, "a"), there = init(table, "a");
    assert_true(here.producer_id == there.producer_id && here.producer_epoch == before.producer_epoch + 1);
    assert_true(init(copy, "").producer_id == init(table, "").producer_id);
    state_free(table);
    state_free(copy);
}

static void unreadable_operations_change_nothing(void **state)
{
    (void)state;
    struct state_table *table = state_new(3);
    struct outcome outcome = {0};
    static const uint8_t unknown[] = {99, 1, 2}, cut[] = {1, 0x0a, 0x7f};
    assert_int_equal(state_apply(table, (struct slice){0}, &outcome), ERR_FORMAT);
    assert_int_equal(state_apply(table, (struct slice){.data = unknown, .size = 3}, &outcome), ERR_FORMAT);
    assert_int_equal(state_apply(table, (struct slice){.data = cut, .size = 3}, &outcome), ERR_FORMAT);
    assert_int_equal(state_count(table), 0);
    state_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_survive_a_round_trip),
        cmocka_unit_test(entry_types_have_names),
        cmocka_unit_test(window_crosses_every_boundary_of_indexes),
        cmocka_unit_test(truncation_answers_the_waiters_it_cuts),
        cmocka_unit_test(names_keep_ids_and_raise_epochs),
        cmocka_unit_test(epochs_end_in_a_fresh_id),
        cmocka_unit_test(a_checkpoint_carries_everything),
        cmocka_unit_test(unreadable_operations_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
