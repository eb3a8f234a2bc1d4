/* Runs the board. Without a plant the same executable must pass (the seeds of `sim` see to that), so a failure here is
 * the plant's. */
#include "sim_board.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/plant.h"
#include "sim_child.h"

#define SEEDS_MAX 100000u

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

int board_run(uint32_t jobs, uint64_t budget_s)
{
    const uint32_t count = sizeof plants / sizeof plants[0];
    uint32_t missed = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        struct catch catch = {0};
        board_plant(plants[i].number);
        const struct child_batch batch = {.first = 1,
                                          .seeds = SEEDS_MAX,
                                          .jobs = jobs,
                                          .stop_at_failure = true,
                                          .deadline_s = (double)now.tv_sec + (double)budget_s / count,
                                          .context = &catch,
                                          .on_result = on_result};
        child_run_batch(&batch);
        if (catch.caught) {
            printf("plant %u %s caught by %s after %llu seeds\n", plants[i].number, plants[i].name, catch.check,
                   (unsigned long long)catch.seeds);
        } else {
            printf("plant %u %s missed in %llu seeds\n", plants[i].number, plants[i].name,
                   (unsigned long long)catch.seeds);
            missed++;
        }
        fflush(stdout);
    }
    printf("plants=%u missed=%u\n", count, missed);
    return missed > 0 ? 1 : 0;
}
