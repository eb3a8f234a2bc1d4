/* The matrix: an unreliable net, partitions, restarts, snapshots, configuration changes and many clients, each with
 * each, all of them at once, and nothing at all: one named run for every combination, short ones. A run passes if
 * nothing promised was broken, everything came to its end, and each part of the combination really happened in it. */
#include <string.h>

#include "base/assert.h"
#include "fleet.h"
#include "fleet_main.h"
#include "sim_child.h"

#define PARTS                6u
#define LOAD_US              25000000u
#define BROKERS              4u /* with three replicas of each group, so that one may move */
#define GROUPS               4u
#define MANY_CLIENTS         32u
#define SOME_CLIENTS         8u
#define SEED_OF(combination) (1000 * (uint64_t)(combination) + 1)
#define SEEDS_MAX            5u /* of a combination: what is drawn may miss a part of it */

enum part { PART_NET, PART_PARTITIONS, PART_RESTARTS, PART_SNAPSHOTS, PART_CHANGES, PART_CLIENTS };

static const struct {
    const char *name;
    uint32_t least; /* so many of its faults have to strike */
    uint32_t count;
    enum sim_fault faults[8];
} parts[PARTS] = {
    [PART_NET] = {"net",
                  5,
                  7,
                  {FAULT_LOSS, FAULT_TWICE, FAULT_REPLAY, FAULT_LATE, FAULT_FLIP, FAULT_SEVER, FAULT_ASTRAY}},
    [PART_PARTITIONS] = {"partitions",
                         2,
                         6,
                         {FAULT_CUT, FAULT_ONE_WAY, FAULT_BRIDGE, FAULT_RING, FAULT_FLAP, FAULT_BREAK}},
    [PART_RESTARTS] = {"restarts", 2, 5, {FAULT_DEATH, FAULT_POWER, FAULT_PAUSE, FAULT_MINORITY, FAULT_BLACKOUT}},
    [PART_SNAPSHOTS] = {"snapshots", 0, 0, {0}},
    [PART_CHANGES] = {"changes", 1, 1, {FAULT_MOVE}},
    [PART_CLIENTS] = {"clients", 0, 0, {0}},
};

static bool has(uint32_t combination, enum part part)
{
    return combination >> part & 1;
}

static void options_of(uint32_t combination, uint64_t seed, struct fleet_options *ret_options)
{
    fleet_options_draw(ret_options, seed);
    struct sim_options *one = &ret_options->one;
    memset(one->faults, 0, sizeof one->faults);
    for (uint32_t part = 0; part < PARTS; part++) {
        for (uint32_t i = 0; i < parts[part].count; i++) {
            one->faults[parts[part].faults[i]] = has(combination, (enum part)part);
        }
    }
    ret_options->is_simple = false;
    ret_options->brokers = BROKERS;
    ret_options->replicas = 3;
    ret_options->groups = GROUPS;
    ret_options->topics = 1;
    ret_options->fault_us = 700000;
    ret_options->has_long_log = false;
    one->load_us = LOAD_US;
    one->producers = has(combination, PART_CLIENTS) ? MANY_CLIENTS : SOME_CLIENTS;
    one->think_us_max = has(combination, PART_CLIENTS) ? 2000000 : 700000;
    one->crashes = 4;
    one->value_bytes_max = 1000;
    one->connections = CONNECTIONS_DEFAULT;
    one->memory_bytes = (uint64_t)64 << 20;
    one->snapshot_bytes = (uint64_t)1 << 20;
    one->snapshot_entries = 1000;
    if (has(combination, PART_SNAPSHOTS)) { /* hardly anything stays for who was away */
        one->memory_bytes = (uint64_t)1 << 20;
        one->snapshot_bytes = 16384;
        one->snapshot_entries = 20;
        one->value_bytes_max = 2000;
    }
}

/* What did not happen; NULL: all of it did. Snapshots are needed only by who was away, or is new. */
static const char *what_is_missing(uint32_t combination, const struct sim_result *result)
{
    for (uint32_t part = 0; part < PARTS; part++) {
        uint32_t struck = 0;
        for (uint32_t i = 0; i < parts[part].count; i++) {
            struck += result->tally.faults[parts[part].faults[i]] > 0;
        }
        if (has(combination, (enum part)part) && struck < parts[part].least) {
            return parts[part].name;
        }
    }
    bool is_needed = has(combination, PART_PARTITIONS) || has(combination, PART_RESTARTS);
    if (has(combination, PART_SNAPSHOTS) && is_needed && result->marks[MARK_SNAPSHOT_INSTALLED] == 0) {
        return "an install";
    }
    return has(combination, PART_CHANGES) && result->marks[MARK_CHANGE_APPLIED] == 0 ? "an applied change" : NULL;
}

static void run(void *context, struct sim_result *ret_result)
{
    fleet_run(context, false, ret_result);
}

static void print_name(uint32_t combination)
{
    printf("matrix:");
    for (uint32_t part = 0; part < PARTS; part++) {
        if (has(combination, (enum part)part)) {
            printf(" %s", parts[part].name);
        }
    }
    printf("%s", combination == 0 ? " nothing" : "");
}

/* True: it passes. */
static bool run_combination(uint32_t combination)
{
    struct sim_result result;
    const char *missing = "never run";
    struct fleet_options options;
    for (uint64_t i = 0; missing != NULL && i < SEEDS_MAX; i++) {
        options_of(combination, SEED_OF(combination) + i, &options);
        child_call(run, &options, false, &result);
        if (result.failed) {
            print_name(combination);
            printf(": FAILED check=%s %s\n  options: ", result.check, result.text);
            fleet_options_print(&options, stdout);
            return false;
        }
        missing = what_is_missing(combination, &result);
    }
    print_name(combination);
    printf(": %s%s, seed %llu, %llu records, %llu faults\n",
           missing == NULL ? "ok" : "FAILED, never happened: ", missing == NULL ? "" : missing,
           (unsigned long long)options.one.seed, (unsigned long long)result.acked, (unsigned long long)result.faults);
    return missing == NULL;
}

int fleet_matrix_one(uint32_t combination)
{
    struct sim_result result;
    struct fleet_options options;
    options_of(combination, SEED_OF(combination), &options);
    fleet_options_print(&options, stdout);
    fleet_run(&options, true, &result);
    print_name(combination);
    printf(": %s %s %s\n", result.failed ? "FAILED" : "ok", result.check, result.text);
    return result.failed;
}

int fleet_matrix(void)
{
    uint32_t failed = 0;
    for (uint32_t combination = 0; combination < 1u << PARTS; combination++) {
        failed += !run_combination(combination);
        fflush(stdout);
    }
    printf("matrix combinations=%u failed=%u\n", 1u << PARTS, failed);
    return failed > 0 ? 1 : 0;
}
