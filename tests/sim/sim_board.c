/* Runs the board. A seed that fails is a catch only if it passes without the plant. */
#include "sim_board.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/plant.h"
#include "fleet.h"
#include "sim_child.h"

#define SEEDS_MAX   2000u /* ordinary ones, none chosen for a plant */
#define SLACK       4u    /* a quick board gives each plant so many times the seeds that it was seen to need, */
#define SEEDS_LEAST 20u   /* and at least these */

#define FLEETS_PER_CHILD 2u /* behind the first that fails nothing is needed */

#ifdef FLOTILLA_PLANTS
unsigned plant_active;
#endif

enum hunter { ONE, FLEET }; /* of one broker, or of several: the cheaper one that has what the bug needs */

/* The cheap ones first. Numbers up to 40 are those of the list of known bugs; the others are ours. */
static const struct plant {
    uint32_t number;
    enum hunter hunter;
    uint32_t needs; /* seeds, as last seen by the whole board; 0: not known */
    const char *name;
} plants[] = {
    {2, ONE, 1, "log-is-kept-in-memory"},
    {11, ONE, 1, "applied-index-jumps-at-leader-entry"},
    {13, ONE, 2, "magic-producer-name"},
    {7, ONE, 4, "submission-removed-by-whoever-woke"},
    {39, ONE, 11, "row-skipped-when-the-map-is-full"},
    {40, ONE, 16, "buffer-reused-before-it-was-sent"},
    {12, ONE, 25, "names-and-numbers-run-together"},
    {1, ONE, 0, "term-is-not-made-durable"},
    {4, ONE, 0, "dedup-looks-at-the-last-batch-only"},
    {5, ONE, 0, "any-gap-is-accepted"},
    {6, ONE, 0, "sequence-0-is-a-duplicate"},
    {14, ONE, 0, "ack-before-durable-write"},
    {15, ONE, 0, "segment-is-not-synced-before-its-manifest"},
    {25, ONE, 0, "recovery-stops-at-first-bad-batch"},
    {27, ONE, 0, "sync-retried-after-error"},
    {28, ONE, 0, "rename-without-directory-sync"},
    {30, ONE, 0, "applied-index-outside-the-transaction"},
    {33, ONE, 0, "dedup-state-dropped-with-retention"},
    {34, ONE, 0, "wal-file-released-before-the-slowest-group"},
    {8, ONE, 0, "joined-waiter-gets-another-outcome"},
    {42, ONE, 0, "submitted-table-is-never-filled"},
    {43, ONE, 0, "repeat-answered-with-the-newest-offset"},
    {44, ONE, 0, "retention-goes-by-the-wall-clock"},
    {45, ONE, 0, "log-start-moves-before-its-entry-is-durable"},
    {46, ONE, 0, "done-table-is-not-in-the-checkpoint"},
    {47, ONE, 0, "first-batch-behind-a-roll-goes-to-the-old-file"},
    {48, ONE, 0, "tail-block-is-not-restored"},
    {49, ONE, 0, "damage-is-cut-like-a-torn-tail"},
    {50, ONE, 0, "only-the-first-named-group-is-damaged"},
    {51, ONE, 0, "picture-overwrites-another-group"},
    {52, ONE, 0, "producers-expire-in-half-the-time"},
    {54, ONE, 0, "high-watermark-counts-what-is-not-applied"},
    {55, ONE, 0, "bad-segment-bytes-served-as-nothing"},
    {56, ONE, 0, "recovery-does-not-sync-what-it-read"},
    {58, ONE, 0, "unknown-outcome-called-busy"},
    {60, ONE, 0, "older-than-the-window-called-known"},
    {61, ONE, 0, "log-clock-follows-every-jump"},
    {64, ONE, 0, "in-flight-bytes-without-bound"},
    {66, ONE, 0, "full-disk-is-never-over"},
    {67, ONE, 0, "reads-are-refused-on-a-full-disk"},
    {68, ONE, 0, "scrub-forgives-the-log"},
    {69, ONE, 0, "row-found-bad-is-not-written-again"},
    {70, ONE, 0, "scrub-looks-at-no-row"},
    {71, ONE, 0, "scrub-does-not-keep-pace-with-a-growing-log"},
    {72, ONE, 0, "sum-over-rows-keeps-a-rotten-crc"},
    {38, FLEET, 2, "high-watermark-told-before-leader-is-ready"},
    {23, FLEET, 2, "older-term-committed-by-count"},
    {17, FLEET, 5, "unknown-group-stalls-the-loop"},
    {35, FLEET, 2, "leader-published-without-its-own-term"},
    {21, FLEET, 2, "term-lowered-by-a-snapshot"},
    {22, FLEET, 8, "vote-of-a-lower-term-counts"},
    {79, FLEET, 2, "campaign-without-a-pre-vote"},
    {10, FLEET, 2, "snapshot-without-segments"},
    {19, FLEET, 2, "append-at-0-always-fits"},
    {18, FLEET, 2, "snapshot-refused-through-a-null-pointer"},
    {29, FLEET, 2, "read-round-used-again"},
    {74, FLEET, 2, "answers-leave-before-their-sync"},
    {16, FLEET, 2, "match-set-to-commit"},
    {81, FLEET, 2, "leadership-given-to-who-lacks-entries"},
    {24, FLEET, 4, "sync-counts-for-what-was-cut-off"},
    {76, FLEET, 5, "learners-count"},
    {86, FLEET, 2, "truncation-is-not-logged"},
    {3, FLEET, 2, "term-and-index-cut-to-8-bits"},
    {20, FLEET, 2, "append-instead-of-snapshot"},
    {80, FLEET, 2, "leader-that-hears-nobody-goes-on"},
    {9, FLEET, 7, "submissions-kept-after-step-down"},
    {26, FLEET, 12, "empty-disk-starts-as-the-old-member"},
    {31, FLEET, 17, "members-changed-before-a-commit"},
    {32, FLEET, 15, "learner-refuses-its-vote"},
    {77, FLEET, 14, "majority-of-the-old-half-is-enough"},
    {73, FLEET, 35, "follower-commits-beyond-the-match"},
};

bool board_plant(uint32_t plant)
{
#ifdef FLOTILLA_PLANTS
    plant_active = plant;
    return true;
#else
    return plant == 0 && false;
#endif
}

struct catch
{
    uint64_t seeds;
    bool caught;
    char check[16];
};

static void on_result(void *context, uint64_t seed, const struct sim_result *result)
{
    struct catch *catch = context;
    catch->seeds++;
    if (result->failed && !catch->caught) {
        catch->caught = true;
        memcpy(catch->check, result->check, sizeof catch->check);
    }
}

static void run_fleet(uint64_t seed, struct sim_result *ret_result)
{
    struct fleet_options options;
    fleet_options_draw(&options, seed);
    fleet_run(&options, false, ret_result);
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double children_cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static uint32_t seeds_for(const struct plant *plant, bool is_whole)
{
    uint32_t quick = plant->needs * SLACK < SEEDS_LEAST ? SEEDS_LEAST : plant->needs * SLACK;
    return is_whole || plant->needs == 0 || quick > SEEDS_MAX ? SEEDS_MAX : quick;
}

/* A seed that fails without the plant as well proves nothing. */
static bool is_clean(const struct plant *plant, uint64_t seed)
{
    struct catch catch = {0};
    const struct child_batch batch = {.first = seed,
                                      .seeds = 1,
                                      .jobs = 1,
                                      .run = plant->hunter == FLEET ? run_fleet : NULL,
                                      .context = &catch,
                                      .on_result = on_result};
    board_plant(0);
    child_run_batch(&batch);
    if (catch.caught) {
        printf("seed %llu fails without a plant: %s\n", (unsigned long long)seed, catch.check);
    }
    return !catch.caught;
}

static void hunt(const struct plant *plant, const struct board_options *options, double deadline_s,
                 struct catch *ret_catch)
{
    uint64_t seeds = seeds_for(plant, options->is_whole);
    struct catch catch = {0};
    while (catch.seeds < seeds && !catch.caught) {
        uint64_t before = catch.seeds;
        const struct child_batch batch = {.first = 1 + before,
                                          .seeds = seeds - before,
                                          .jobs = options->jobs,
                                          .seeds_per_child = plant->hunter == FLEET ? FLEETS_PER_CHILD : 0,
                                          .stop_at_failure = true,
                                          .deadline_s = deadline_s,
                                          .run = plant->hunter == FLEET ? run_fleet : NULL,
                                          .context = &catch,
                                          .on_result = on_result};
        board_plant(plant->number);
        child_run_batch(&batch);
        if (catch.seeds == before) {
            break; /* its time is over */
        }
        catch.caught = catch.caught && is_clean(plant, catch.seeds);
    }
    *ret_catch = catch;
}

static bool board_one(const struct plant *plant, const struct board_options *options, double deadline_s)
{
    struct catch catch;
    double before_s = children_cpu_s();
    hunt(plant, options, deadline_s, &catch);
    const char *hunter = plant->hunter == FLEET ? "fleet" : "one broker";
    double cpu_s = children_cpu_s() - before_s;
    if (catch.caught) {
        printf("plant %u %s caught by %s after %llu seeds (%s, %.1f CPU-s)\n", plant->number, plant->name, catch.check,
               (unsigned long long)catch.seeds, hunter, cpu_s);
    } else {
        printf("plant %u %s missed in %llu seeds (%s, %.1f CPU-s)\n", plant->number, plant->name,
               (unsigned long long)catch.seeds, hunter, cpu_s);
    }
    fflush(stdout);
    return catch.caught;
}

int board_run(const struct board_options *options)
{
    const uint32_t count = sizeof plants / sizeof plants[0];
    uint32_t tried = 0, missed = 0;
    double end_s = now_s() + (double)options->budget_s;
    for (uint32_t i = 0; i < count; i++) {
        if (options->only != 0 && plants[i].number != options->only)
            continue;
        tried++;
        /* What one leaves of its share, the others have. */
        double left_s = end_s - now_s();
        double share_s = options->only != 0 ? left_s : left_s * 4 / (count - i + 3);
        missed += !board_one(&plants[i], options, now_s() + share_s);
    }
    printf("plants=%u missed=%u\n", tried, missed);
    return missed > 0 ? 1 : 0;
}
