/* Runs the board. Without a plant the same executable must pass (the seeds of `sim` see to that), so a failure here is
 * the plant's. */
#include "sim_board.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/plant.h"
#include "sim_child.h"

#define SEEDS_MAX 2000u /* ordinary ones, none chosen for a plant */

#ifdef FLOTILLA_PLANTS
unsigned plant_active;
#endif

static const struct plant {
    uint32_t number;
    const char *name;
} plants[] = {
    {1, "term-is-not-made-durable"},
    {4, "dedup-looks-at-the-last-batch-only"},
    {5, "any-gap-is-accepted"},
    {6, "sequence-0-is-a-duplicate"},
    {14, "ack-before-durable-write"},
    {15, "segment-is-not-synced-before-its-manifest"},
    {25, "recovery-stops-at-first-bad-batch"},
    {27, "sync-retried-after-error"},
    {28, "rename-without-directory-sync"},
    {30, "applied-index-outside-the-transaction"},
    {33, "dedup-state-dropped-with-retention"},
    {34, "wal-file-released-before-the-slowest-group"},
    {8, "joined-waiter-gets-another-outcome"},
    {42, "submitted-table-is-never-filled"},
    {43, "repeat-answered-with-the-newest-offset"},
    {44, "retention-goes-by-the-wall-clock"},
    {45, "log-start-moves-before-its-entry-is-durable"},
    {46, "done-table-is-not-in-the-checkpoint"},
    {47, "first-batch-behind-a-roll-goes-to-the-old-file"},
    {48, "tail-block-is-not-restored"},
    {49, "damage-is-cut-like-a-torn-tail"},
    {50, "only-the-first-named-group-is-damaged"},
    {51, "picture-overwrites-another-group"},
    {52, "producers-expire-in-half-the-time"},
    {54, "high-watermark-counts-what-is-not-applied"},
    {55, "bad-segment-bytes-served-as-nothing"},
    {56, "recovery-does-not-sync-what-it-read"},
    {58, "unknown-outcome-called-busy"},
    {60, "older-than-the-window-called-known"},
    {61, "log-clock-follows-every-jump"},
    {64, "in-flight-bytes-without-bound"},
    {66, "full-disk-is-never-over"},
    {67, "reads-are-refused-on-a-full-disk"},
    {68, "scrub-forgives-the-log"},
    {69, "row-found-bad-is-not-written-again"},
    {70, "scrub-looks-at-no-row"},
    {71, "scrub-does-not-keep-pace-with-a-growing-log"},
    {72, "sum-over-rows-keeps-a-rotten-crc"},
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

static bool board_one(const struct plant *plant, uint32_t jobs, double deadline_s)
{
    struct catch catch = {0};
    const struct child_batch batch = {.first = 1,
                                      .seeds = SEEDS_MAX,
                                      .jobs = jobs,
                                      .stop_at_failure = true,
                                      .deadline_s = deadline_s,
                                      .context = &catch,
                                      .on_result = on_result};
    board_plant(plant->number);
    child_run_batch(&batch);
    if (catch.caught) {
        printf("plant %u %s caught by %s after %llu seeds\n", plant->number, plant->name, catch.check,
               (unsigned long long)catch.seeds);
    } else {
        printf("plant %u %s missed in %llu seeds\n", plant->number, plant->name, (unsigned long long)catch.seeds);
    }
    fflush(stdout);
    return catch.caught;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int board_run(uint32_t jobs, uint64_t budget_s, uint32_t only)
{
    const uint32_t count = sizeof plants / sizeof plants[0];
    uint32_t tried = 0, missed = 0;
    double end_s = now_s() + (double)budget_s;
    for (uint32_t i = 0; i < count; i++) {
        if (only != 0 && plants[i].number != only)
            continue;
        tried++;
        /* What one leaves of its share, the others have. */
        double left_s = end_s - now_s();
        missed += !board_one(&plants[i], jobs, now_s() + (only != 0 ? left_s : left_s * 4 / (count - i + 3)));
    }
    printf("plants=%u missed=%u\n", tried, missed);
    return missed > 0 ? 1 : 0;
}
