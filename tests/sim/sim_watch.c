/* The bounds, each with the slack that the product's own words allow. */
#include "sim_watch.h"

#include "base/limits.h"

#define SYNC_ERROR_US_MAX ((uint64_t)30 * 1000 * 1000) /* a job that stalls holds up the end, too */
/* A frame that was begun when there was room for it; chunks are counted whole, and a budget below what may be
 * configured has room for none. */
#define FRAME_SLACK_BYTES (BATCH_BYTES_MAX + 6 * RECEIVE_CHUNK_BYTES)
#define PEER_SLACK_BYTES  (3 * RECEIVE_CHUNK_BYTES) /* a lane each, and one that is being replaced */
/* One being written, and what the newest batch and re-appended entries take; each start opens one more. */
#define WAL_FILES_SLACK   4u

void watch_init(struct watch *watch, struct sim_world *world)
{
    *watch = (struct watch){.world = world};
}

void watch_new_life(struct watch *watch)
{
    watch->sync_failed_us = 0;
}

static void look_at_memory(struct watch *watch, const struct watch_facts *facts)
{
    world_judged(watch->world, JUDGE_B15);
    watch->memory_max = facts->memory_bytes > watch->memory_max ? facts->memory_bytes : watch->memory_max;
    uint64_t slack = FRAME_SLACK_BYTES + facts->peers * PEER_SLACK_BYTES;
    if (facts->memory_bytes > facts->memory_budget_bytes + slack) {
        world_fail(watch->world, "B15", "%llu bytes of memory are held, the budget is %llu",
                   (unsigned long long)facts->memory_bytes, (unsigned long long)facts->memory_budget_bytes);
    }
    if (facts->inflight_bytes > facts->inflight_budget_bytes + BATCH_BYTES_DEFAULT) {
        world_fail(watch->world, "B15", "%llu bytes of batches are in flight, the bound is %llu and one batch",
                   (unsigned long long)facts->inflight_bytes, (unsigned long long)facts->inflight_budget_bytes);
    }
}

static void look_at_wal(struct watch *watch, const struct watch_facts *facts)
{
    uint64_t slack = (WAL_FILES_SLACK + facts->starts) * facts->wal_file_bytes;
    world_judged(watch->world, JUDGE_W4);
    watch->wal_max = facts->wal_used_bytes > watch->wal_max ? facts->wal_used_bytes : watch->wal_max;
    if (facts->wal_used_bytes > facts->wal_budget_bytes + slack) {
        world_fail(watch->world, "W4", "the WAL takes %llu bytes, its budget is %llu",
                   (unsigned long long)facts->wal_used_bytes, (unsigned long long)facts->wal_budget_bytes);
    }
    /* Half of the budget is where checkpoints are asked for, also of groups that are idle. */
    if (facts->is_at_rest && facts->wal_used_bytes > facts->wal_budget_bytes / 2 + 2 * facts->wal_file_bytes) {
        world_fail(watch->world, "W4", "at rest the WAL still takes %llu bytes of %llu: somebody pins it",
                   (unsigned long long)facts->wal_used_bytes, (unsigned long long)facts->wal_budget_bytes);
    }
}

static void look_at_sync(struct watch *watch, const struct watch_facts *facts)
{
    uint64_t now_us = watch->world->now_us;
    if (facts->sync_failed && watch->sync_failed_us == 0) {
        watch->sync_failed_us = now_us;
        world_judged(watch->world, JUDGE_S1);
    }
    if (watch->sync_failed_us != 0 && now_us > watch->sync_failed_us + SYNC_ERROR_US_MAX) {
        world_fail(watch->world, "S1", "a sync failed %llu us ago and the broker lives on",
                   (unsigned long long)(now_us - watch->sync_failed_us));
    }
}

void watch_look(struct watch *watch, const struct watch_facts *facts)
{
    look_at_memory(watch, facts);
    look_at_wal(watch, facts);
    look_at_sync(watch, facts);
}
