/* Swarm options: every seed turns half of the faults off and draws its sizes over orders of magnitude, because a run
 * that mixes everything a little finds less than many runs that each mix a few things a lot. */
#include "sim_options.h"

#include "sim_config.h"

#define PRODUCER_EXPIRY_MS_LONG ((int64_t)7 * 86400 * 1000)

bool sim_options_expire(const struct sim_options *options)
{
    return options->producer_expiry_ms < PRODUCER_EXPIRY_MS_LONG;
}

void sim_options_draw(struct sim_options *options, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed ^ 0x5157a27e0b5e55edu);
    struct sim_options o = {.seed = seed};
    for (int i = 0; i < FAULT_CLASSES; i++) {
        o.faults[i] = rng_chance(&rng, 0.5);
    }
    o.topics = (uint32_t)rng_between(&rng, 1, 3);
    o.partitions_max = (uint32_t)(rng_chance(&rng, 0.2) ? 12 : rng_between(&rng, 1, 4));
    o.producers = (uint32_t)rng_between(&rng, 1, 5);
    o.consumers = (uint32_t)rng_between(&rng, 0, 2);
    o.records_max = (uint32_t)sim_log_between(&rng, 200, 8000);
    o.batch_records_max = (uint32_t)sim_log_between(&rng, 1, 20);
    o.value_bytes_max = (uint32_t)sim_log_between(&rng, 24, 20000);
    if ((uint64_t)o.records_max * o.value_bytes_max > 4u << 20) {
        o.records_max = (4u << 20) / o.value_bytes_max; /* bytes cost time that more seeds use better */
    }
    o.window = (uint32_t)(rng_chance(&rng, 0.6) ? 5 : rng_between(&rng, 1, 4));
    o.load_us = sim_log_between(&rng, 5000000, 120000000);
    o.think_us_max = o.load_us * o.producers * 4 / (o.records_max + 1) + 1000;

    o.wal_file_bytes = WAL_FILE_BYTES_MIN;
    o.wal_budget_bytes = WAL_FILE_BYTES_MIN * rng_between(&rng, 4, 8);
    o.segment_bytes = sim_log_between(&rng, SEGMENT_BYTES_MIN, 1 << 20);
    o.retention_bytes = sim_log_between(&rng, SEGMENT_BYTES_MIN, 1 << 19);
    o.snapshot_bytes = sim_log_between(&rng, 4096, 4 << 20);
    o.snapshot_entries = sim_log_between(&rng, 10, 5000);
    o.timeout_entry_ms = (uint32_t)(rng_chance(&rng, 0.2) ? 0 : sim_log_between(&rng, 100, 5000));
    o.open_files = (uint32_t)(rng_chance(&rng, 0.3) ? 8 : 512);
    o.memory_bytes = sim_log_between(&rng, 256 << 10, 64 << 20); /* small: fetches read the disk */
    o.inflight_bytes = (uint64_t)64 << 20;

    o.crashes = (uint32_t)rng_between(&rng, 0, 10);
    o.crash_calls_max = sim_log_between(&rng, 20, 4000);
    o.job_us_max = sim_log_between(&rng, 50, 20000);
    o.delay_us_max = sim_log_between(&rng, 20, 20000);
    o.cut = (struct tree_cut){
        .keep = (double)rng_below(&rng, 101) / 100,
        .garbage = rng_chance(&rng, 0.5) ? 0 : (double)rng_below(&rng, 101) / 100,
        .names_prefix = rng_chance(&rng, 0.5) ? 1 : 0,
        .name_keep = (double)rng_below(&rng, 101) / 100,
        .size_keep = (double)rng_below(&rng, 101) / 100,
    };
    o.producer_expiry_ms = PRODUCER_EXPIRY_MS_LONG;
    if (o.faults[FAULT_EXPIRY]) {
        o.producer_expiry_ms = (int64_t)sim_log_between(&rng, 10000, 60000);
        o.memory_bytes = (uint64_t)64 << 20; /* with less, a repeat may lie unread until its producer is forgotten */
    }
    o.connections = CONNECTIONS_DEFAULT;
    if (o.faults[FAULT_CROWD]) { /* bounds that a crowd reaches */
        o.inflight_bytes = sim_log_between(&rng, 64 << 10, 16 << 20);
        o.connections = rng_chance(&rng, 0.3) ? 30 : CONNECTIONS_DEFAULT;
        o.memory_bytes = (uint64_t)64 << 20; /* as little as may be configured: who is fair needs room for a frame */
    }
    o.scrub_period_ms = rng_chance(&rng, 0.8) ? (int64_t)sim_log_between(&rng, SCRUB_PERIOD_MS_MIN, 30000) : -1;
    if (o.faults[FAULT_READ_ERROR] && rng_chance(&rng, 0.5)) {
        /* A start that cannot open a segment withholds its group; once a few starts have made a file each, what that
         * group has in the oldest one is written again. */
        o.wal_budget_bytes = 4 * WAL_FILE_BYTES_MIN;
        o.faults[FAULT_DEATH] = true;
        o.crashes = 15;
        o.crash_calls_max = sim_log_between(&rng, 50, 500);
    }
    *options = o;
}

void sim_options_print(const struct sim_options *o, FILE *out)
{
    fprintf(out, "seed=%llu faults=", (unsigned long long)o->seed);
    bool any = false;
    for (int i = 0; i < FAULT_CLASSES_ALL; i++) {
        if (o->faults[i]) {
            fprintf(out, "%s%s", any ? "," : "", sim_fault_name((enum sim_fault)i));
            any = true;
        }
    }
    fprintf(out,
            "%s topics=%u partitions=%u producers=%u consumers=%u records=%u batch_records=%u value_bytes=%u window=%u "
            "load_s=%.1f expiry_ms=%lld connections=%u inflight=%llu wal_budget=%llu segment=%llu snapshot_bytes=%llu "
            "snapshot_entries=%llu timeout_entry_ms=%u "
            "open_files=%u scrub_ms=%lld memory=%llu crashes=%u crash_calls=%llu job_us=%llu delay_us=%llu keep=%.2f "
            "garbage=%.2f "
            "name_keep=%.2f\n",
            any ? "" : "none", o->topics, o->partitions_max, o->producers, o->consumers, o->records_max,
            o->batch_records_max, o->value_bytes_max, o->window, (double)o->load_us / 1e6,
            (long long)o->producer_expiry_ms, o->connections, (unsigned long long)o->inflight_bytes,
            (unsigned long long)o->wal_budget_bytes, (unsigned long long)o->segment_bytes,
            (unsigned long long)o->snapshot_bytes, (unsigned long long)o->snapshot_entries, o->timeout_entry_ms,
            o->open_files, (long long)o->scrub_period_ms, (unsigned long long)o->memory_bytes, o->crashes,
            (unsigned long long)o->crash_calls_max, (unsigned long long)o->job_us_max,
            (unsigned long long)o->delay_us_max, o->cut.keep, o->cut.garbage, o->cut.name_keep);
}

void sim_options_config(const struct sim_options *o, struct config *ret_config)
{
    struct config config;
    sim_config_small(&config, 1);
    config.segment_bytes = o->segment_bytes;
    config.max_batch_bytes =
        (uint32_t)(o->segment_bytes < BATCH_BYTES_DEFAULT ? o->segment_bytes : BATCH_BYTES_DEFAULT);
    config.timeout_entry_ms = o->timeout_entry_ms;
    config.snapshot_bytes = o->snapshot_bytes;
    config.snapshot_entries = o->snapshot_entries;
    config.producer_expiry_ms = o->producer_expiry_ms;
    config.wal_file_bytes = o->wal_file_bytes;
    config.wal_budget_bytes = o->wal_budget_bytes;
    config.connections = o->connections;
    config.inflight_bytes = o->inflight_bytes;
    config.memory_bytes = o->memory_bytes;
    config.open_files = o->open_files;
    config.scrub_period_ms = o->scrub_period_ms;
    config.level = TRACE_DEBUG;
    *ret_config = config;
}
