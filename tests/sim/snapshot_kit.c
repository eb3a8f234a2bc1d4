/* See snapshot_kit.h. */
#include "snapshot_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/batch.h"
#include "wire/builder.h"

struct trio kit_trio;
static const struct snapshots_limits kit_quick = {.held_bytes = SNAPSHOT_HELD_BYTES_MAX,
                                                  .age_us = 60000000,
                                                  .sweep_us = 1000000,
                                                  .idle_us = 10000000,
                                                  .silence_us = 3000000,
                                                  .retry_us = 300000,
                                                  .chunk_bytes = 777};
struct snapshots_limits kit_limits;
uint64_t kit_sent, kit_installed, kit_resumed, kit_ignored, kit_kills; /* of processes that are gone */

/* --- brokers --- */

void kit_count(uint64_t id)
{
    const struct broker *b = kit_trio.broker[id].broker;
    if (b != NULL) {
        kit_sent += b->counters.snapshots_sent_total;
        kit_installed += b->counters.snapshots_installed_total;
        kit_resumed += b->counters.snapshots_resumed_total;
        kit_ignored += b->counters.snapshot_chunks_ignored_total;
    }
}

void kit_down(uint64_t id, bool power_cut)
{
    if (kit_trio.broker[id].broker != NULL) {
        kit_count(id);
        trio_crash(&kit_trio, id, power_cut);
    }
}

void kit_up(uint64_t id)
{
    if (kit_trio.broker[id].broker == NULL) {
        trio_start(&kit_trio, id);
        snapshot_limit(kit_trio.broker[id].broker, &kit_limits);
    }
}

void kit_open(uint64_t seed, uint32_t entries)
{
    kit_limits = kit_quick;
    kit_sent = kit_installed = kit_resumed = kit_ignored = 0;
    trio_open(&kit_trio, seed, 3, 1);
    for (uint64_t id = 1; id <= 3; id++) {
        kit_trio.broker[id].config.snapshot_entries = entries;
        snapshot_limit(kit_trio.broker[id].broker, &kit_limits);
    }
}

/* A batch of a producer that nobody heard of before: its row is to be everywhere. */
static void produce_of_producer(void)
{
    uint8_t bytes[256];
    struct batch_builder builder;
    const struct record record = {.value = {.data = (const uint8_t *)"x", .size = 1}, .timestamp = 1};
    uint64_t leader = trio_leader(&kit_trio, trio_group(0), 30000000);
    struct partition *p = kit_partition(leader);
    if (partition_may_propose(p) != OK) {
        return;
    }
    batch_builder_begin(&builder, bytes, sizeof bytes);
    assert_int_equal(batch_builder_append(&builder, &record), OK);
    uint32_t size = batch_builder_finish(&builder);
    batch_set_producer(bytes, (int64_t)(1000 + kit_trio.sent), 0, 0);
    batch_seal(bytes, size);
    batch_normalise(bytes);
    partition_propose(p, ENTRY_DATA, entry_encode_bytes(bytes, size), NULL);
}

void kit_produce(uint32_t records)
{
    for (uint32_t i = 0; i < records; i++) {
        if (i % 7 == 3) {
            produce_of_producer();
        }
        assert_true(trio_produce(&kit_trio, trio_group(0), 30000000) >= 0);
    }
}

struct partition *kit_partition(uint64_t id)
{
    return groups_find(kit_trio.broker[id].broker, trio_group(0));
}

/* Applied entries leave memory with the process that held them, so that only the others' pictures go back so far. */
void kit_forget_entries(uint64_t except)
{
    for (uint64_t id = 1; id <= 3; id++) {
        if (id != except) {
            kit_down(id, false);
            kit_up(id);
            assert_true(trio_leader(&kit_trio, trio_group(0), 30000000) != 0);
        }
    }
}

bool kit_has_caught_up(uint64_t id, uint64_t limit_us)
{
    for (uint64_t end_us = kit_trio.world.now_us + limit_us; kit_trio.world.now_us < end_us;
         trio_run(&kit_trio, 100000)) {
        uint64_t leader = trio_leader(&kit_trio, trio_group(0), 0);
        if (leader != 0 && kit_trio.broker[id].broker != NULL && kit_partition(id) != NULL &&
            kit_partition(id)->raft != NULL &&
            kit_partition(id)->applied_index + 2 >= kit_partition(leader)->applied_index) {
            return true;
        }
    }
    return false;
}

uint64_t kit_installed_by(uint64_t id)
{
    return kit_trio.broker[id].broker->counters.snapshots_installed_total;
}

/* Follower 3 lacks what the others have forgotten. */
void kit_prepare(uint64_t seed, uint32_t before, uint32_t after)
{
    kit_open(seed, 20);
    kit_produce(before);
    trio_run(&kit_trio, 3000000);
    kit_down(3, false);
    kit_produce(after);
    kit_forget_entries(3);
    kit_produce(5);
}

/* Dense offsets from the log start on, all here: what a reader would find, without asking anybody. */
void kit_check(void)
{
    trio_check(&kit_trio, trio_group(0));
    const struct partition *leader = kit_partition(trio_leader(&kit_trio, trio_group(0), 0));
    for (uint64_t id = 1; id <= 3; id++) {
        const struct partition *p = kit_partition(id);
        assert_int_equal(partition_high_watermark(p), partition_high_watermark(leader));
        assert_int_equal(partition_log_start(p), partition_log_start(leader));
        assert_int_equal(done_hash(p->done), done_hash(leader->done));
        assert_false(p->installing);
    }
}

struct snapshots_state kit_state(uint64_t id)
{
    struct snapshots_state state;
    snapshot_state(kit_trio.broker[id].broker, &state);
    return state;
}

static void count_name(void *context, const char *name)
{
    (void)name;
    (*(uint32_t *)context)++;
}

uint32_t kit_files(uint64_t id)
{
    uint32_t files = 0;
    struct disk *disk = sim_disk_port(kit_trio.broker[id].disk);
    assert_int_equal(disk->ops->list(disk, "snapshots", count_name, &files), OK);
    return files;
}

void kit_limit_all(void)
{
    for (uint64_t id = 1; id <= 3; id++) {
        if (kit_trio.broker[id].broker != NULL) {
            snapshot_limit(kit_trio.broker[id].broker, &kit_limits);
        }
    }
}

void kit_cut_off(uint64_t id, bool cut)
{
    for (uint64_t other = 1; other <= 3; other++) {
        if (other != id) {
            sim_cables_cut(kit_trio.cables, id, other, cut);
            sim_cables_cut(kit_trio.cables, other, id, cut);
        }
    }
}
