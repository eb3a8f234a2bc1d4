/* A group is given up only for a reason; and for each reason it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "fleet_proof.h"

/* One sound replica knows these voters, of both halves; those of `counts` are in the core and sound: a bit each. */
static void add_log(struct proof_facts *facts, uint32_t voters, uint32_t counts)
{
    struct proof_log *log = &facts->logs[facts->logs_count++];
    log->count = voters;
    for (uint32_t i = 0; i < voters; i++) {
        log->voters[i] = (struct proof_voter){.replica = i + 1, .now = true, .next = true, .counts = counts >> i & 1};
    }
}

static void add_range(struct proof_facts *facts, uint32_t copy, int64_t first, int64_t end)
{
    struct proof_copy *one = &facts->copies[copy];
    one->ranges[one->count++] = (struct proof_range){first, end};
    facts->copies_count = copy + 1 > facts->copies_count ? copy + 1 : facts->copies_count;
}

static void who_has_a_majority_must_come_back(void **state)
{
    (void)state;
    struct proof_facts facts = {0};
    add_log(&facts, 3, 3);
    add_log(&facts, 3, 3);
    assert_null(proof_verdict(&facts));
    facts = (struct proof_facts){0};
    add_log(&facts, 5, 7);
    assert_null(proof_verdict(&facts));
    facts = (struct proof_facts){0};
    add_log(&facts, 1, 1);
    assert_null(proof_verdict(&facts));
}

static void half_is_no_majority(void **state)
{
    (void)state;
    struct proof_facts facts = {0};
    add_log(&facts, 4, 3);
    assert_non_null(proof_verdict(&facts));
    facts = (struct proof_facts){0};
    add_log(&facts, 3, 1);
    assert_non_null(proof_verdict(&facts));
}

static void nobody_is_sound(void **state)
{
    (void)state;
    struct proof_facts facts = {0};
    assert_non_null(proof_verdict(&facts));
}

/* The one whose configuration is the newest may be the only one that can win, or the only one that cannot. */
static void one_who_may_win_is_enough(void **state)
{
    (void)state;
    struct proof_facts facts = {0};
    add_log(&facts, 5, 3);
    add_log(&facts, 3, 3);
    assert_null(proof_verdict(&facts));
}

static void both_halves_have_to_agree(void **state)
{
    (void)state;
    struct proof_facts facts = {0};
    add_log(&facts, 4, 3);
    facts.logs[0].voters[3].now = false; /* {1 2 3} and {2 3 4}, of which 1 and 2 are there */
    facts.logs[0].voters[0].next = false;
    assert_non_null(proof_verdict(&facts));
    facts.logs[0].voters[2].counts = true;
    assert_null(proof_verdict(&facts));
}

static void learners_do_not_count(void **state)
{
    (void)state;
    struct proof_facts facts = {0};
    add_log(&facts, 5, 0x19); /* 1, and 4 and 5, who learn */
    facts.logs[0].voters[3].now = facts.logs[0].voters[3].next = false;
    facts.logs[0].voters[4].now = facts.logs[0].voters[4].next = false;
    assert_non_null(proof_verdict(&facts));
}

static void who_leads_needs_no_votes(void **state)
{
    (void)state;
    struct proof_facts facts = {.has_leader = true, .end = 100};
    add_log(&facts, 3, 1);
    assert_null(proof_verdict(&facts));
}

static void what_is_damaged_everywhere_is_gone(void **state)
{
    (void)state;
    struct proof_facts facts = {.has_leader = true, .end = 100};
    add_range(&facts, 0, 10, 20);
    add_range(&facts, 0, 40, 50);
    add_range(&facts, 1, 30, 41);
    assert_non_null(proof_verdict(&facts));
    facts.copies[1].ranges[0].end = 40; /* next to one another */
    assert_null(proof_verdict(&facts));
}

static void one_whole_copy_is_enough(void **state)
{
    (void)state;
    struct proof_facts facts = {.has_leader = true, .end = 100};
    add_range(&facts, 0, 10, 20);
    add_range(&facts, 1, 10, 20);
    assert_non_null(proof_verdict(&facts));
    facts.copies_count = 3;
    assert_null(proof_verdict(&facts));
}

static void what_never_came_is_not_there(void **state)
{
    (void)state;
    struct proof_facts facts = {.has_leader = true, .end = 100};
    add_range(&facts, 0, 10, 20);
    add_range(&facts, 1, 15, INT64_MAX);
    assert_non_null(proof_verdict(&facts));
    facts.copies[1].ranges[0].first = 20;
    assert_null(proof_verdict(&facts));
}

static void what_is_not_committed_is_not_owed(void **state)
{
    (void)state;
    struct proof_facts facts = {.has_leader = true, .end = 100};
    add_range(&facts, 0, 100, INT64_MAX);
    add_range(&facts, 1, 90, INT64_MAX);
    assert_null(proof_verdict(&facts));
    facts.end = 101;
    assert_non_null(proof_verdict(&facts));
}

static void nothing_is_no_range(void **state)
{
    (void)state;
    struct proof_facts facts = {.has_leader = true, .end = 100};
    add_range(&facts, 0, 10, 10);
    assert_null(proof_verdict(&facts));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_a_majority_must_come_back),
        cmocka_unit_test(half_is_no_majority),
        cmocka_unit_test(nobody_is_sound),
        cmocka_unit_test(one_who_may_win_is_enough),
        cmocka_unit_test(both_halves_have_to_agree),
        cmocka_unit_test(learners_do_not_count),
        cmocka_unit_test(who_leads_needs_no_votes),
        cmocka_unit_test(what_is_damaged_everywhere_is_gone),
        cmocka_unit_test(one_whole_copy_is_enough),
        cmocka_unit_test(what_never_came_is_not_there),
        cmocka_unit_test(what_is_not_committed_is_not_owed),
        cmocka_unit_test(nothing_is_no_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
