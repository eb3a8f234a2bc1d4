/* Swarm options of a fleet: those of one broker, and how many machines, groups and kinds of trouble there are. */
#include "fleet.h"

/* Classes of one broker that a fleet leaves alone, since they end a run of its own, or draws by itself
 * (fleet_damage.c). */
static bool is_for_fleet(enum sim_fault fault)
{
    switch (fault) {
    case FAULT_EXPIRY:
    case FAULT_ROT:
    case FAULT_RUST:
    case FAULT_RECOVERY: /* drawn with the deaths */
        return false;
    default:
        return true;
    }
}

static uint32_t draw_brokers(struct rng *rng)
{
    static const uint8_t counts[] = {1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 5, 6, 7, 7};
    return counts[rng_below(rng, sizeof counts)];
}

/* Short, since the load leaves hardly a group alone for long. */
static uint32_t draw_quiet_ms(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed ^ 0x51ee5e11u);
    return rng_chance(&rng, 0.2) ? 0 : (uint32_t)sim_log_between(&rng, 50, 3000);
}

/* Few groups that take much, on brokers with much memory: who is away for some seconds lacks more than is kept for him.
 */
static void draw_heavy(struct fleet_options *o)
{
    struct rng rng;
    rng_seed(&rng, o->one.seed ^ 0x4ea7e5u);
    if (!rng_chance(&rng, 0.06) || o->is_simple || o->replicas < 3) {
        return;
    }
    o->groups = 2;
    o->topics = (uint32_t)rng_between(&rng, 1, 2);
    o->has_long_log = false;
    o->one.value_bytes_max = (uint32_t)rng_between(&rng, 6000, 10000);
    o->one.think_us_max = 2000000;
    o->one.memory_bytes = (uint64_t)256 << 20;
    o->one.wal_budget_bytes = (uint64_t)32 << 20;
    o->one.faults[FAULT_READ_ERROR] = o->one.faults[FAULT_LATENT] = o->one.faults[FAULT_MISREAD] = false;
}

void fleet_options_draw(struct fleet_options *options, uint64_t seed)
{
    struct rng rng;
    struct fleet_options o = {0};
    sim_options_draw(&o.one, seed);
    rng_seed(&rng, seed ^ 0x0f1ee70f1ee7u);
    for (int i = 0; i <= FAULT_BREAK; i++) { /* those behind it: fleet_net_draw */
        bool is_on = rng_chance(&rng, 0.5);
        o.one.faults[i] = i < FAULT_CLASSES ? o.one.faults[i] && is_for_fleet((enum sim_fault)i) : is_on;
    }
    o.brokers = draw_brokers(&rng);
    uint32_t replicas = rng_chance(&rng, 0.8) ? 3 : (uint32_t)rng_between(&rng, 1, FLEET_BROKERS_MAX);
    o.replicas = replicas > o.brokers ? o.brokers : replicas;
    o.groups = rng_chance(&rng, 0.3) ? 8 : (uint32_t)sim_log_between(&rng, 1, FLEET_GROUPS_MAX);
    o.topics = (uint32_t)rng_between(&rng, 1, o.groups < 3 ? o.groups : 3);
    o.heartbeat_ms = (uint32_t)(rng_chance(&rng, 0.7) ? 100 : rng_between(&rng, 50, 200));
    o.election_ms = o.heartbeat_ms * (uint32_t)(rng_chance(&rng, 0.7) ? 8 : rng_between(&rng, 5, 12));
    o.quiet_ms = draw_quiet_ms(seed);
    o.cable_us_max = sim_log_between(&rng, 100, 60000);
    o.fault_us = sim_log_between(&rng, 1200000, 8000000);
    if (o.brokers == 1) {
        o.one.faults[FAULT_MINORITY] = false;
    }
    if (o.replicas < 3) {
        o.one.faults[FAULT_MINORITY] = false; /* no group can do without anybody */
    }
    o.one.load_us = FLEET_SAFETY_US + rng_below(&rng, 30000000);
    o.one.producers = (uint32_t)rng_between(&rng, 8, 12);
    o.one.consumers = (uint32_t)rng_between(&rng, 0, 3);
    o.one.batch_records_max = (uint32_t)rng_between(&rng, 16, 32);
    o.one.value_bytes_max = (uint32_t)sim_log_between(&rng, 24, 4000);
    if (o.one.value_bytes_max > 1000) { /* all of them have to be read in the end */
        o.one.batch_records_max = o.one.batch_records_max / 4 + 7;
    }
    o.one.think_us_max = 500000;
    o.one.memory_bytes = (uint64_t)64 << 20;
    if (o.one.faults[FAULT_FILES]) {
        o.one.open_files = 8; /* they are opened again and again */
    }
    if (o.one.faults[FAULT_READ_ERROR] || o.one.faults[FAULT_LATENT] || o.one.faults[FAULT_MISREAD]) {
        o.one.memory_bytes = sim_log_between(&rng, 256 << 10, 2 << 20); /* reads have to go to the disk */
        o.one.consumers += o.one.consumers == 0;
    }
    o.one.wal_file_bytes = WAL_FILE_BYTES_MIN / 4; /* less than may be configured: each start reads and fills some */
    o.one.wal_budget_bytes = WAL_FILE_BYTES_MIN * rng_between(&rng, 6, 12);
    o.one.scrub_period_ms = -1;
    o.one.producer_expiry_ms = (int64_t)7 * 86400 * 1000; /* retries here may last longer than any short one */
    o.one.crashes = (uint32_t)rng_between(&rng, 0, 8);
    if (o.one.crashes == 0 && (o.one.faults[FAULT_POINT_CRASH] || o.one.faults[FAULT_MEMORY])) {
        o.one.crashes = 1; /* else they would never strike */
    }
    o.one.crash_calls_max = sim_log_between(&rng, 200, 4000);
    o.has_long_log = rng_chance(&rng, 0.3);
    o.is_simple = rng_chance(&rng, 0.1);
    draw_heavy(&o);
    fleet_options_keep_logs(&o);
    if (o.is_simple) {
        o.one.faults[FAULT_ZOMBIE] = o.one.faults[FAULT_FENCE] = o.one.faults[FAULT_VANDAL] = false;
        o.one.faults[FAULT_LIAR] = o.one.faults[FAULT_CROWD] = o.one.faults[FAULT_TOPICS] = false;
        o.one.faults[FAULT_RETENTION] = false; /* they read everything that they were told */
    }
    fleet_net_draw(&o);
    fleet_damage_draw(&o);
    fleet_registry_draw(&o);
    *options = o;
}

void fleet_options_keep_logs(struct fleet_options *o)
{
    if (o->has_long_log) {
        o->one.wal_file_bytes = WAL_FILE_BYTES_MIN;
        o->one.wal_budget_bytes = 96 * WAL_FILE_BYTES_MIN;
        o->one.snapshot_bytes = (uint64_t)1 << 40;
        o->one.snapshot_entries = (uint64_t)1 << 40;
        o->one.memory_bytes = (uint64_t)64 << 20; /* for slow followers too: hardly anything is read from the disk */
        o->one.faults[FAULT_READ_ERROR] = o->one.faults[FAULT_LATENT] = o->one.faults[FAULT_MISREAD] = false;
        o->one.faults[FAULT_KV] = false; /* hardly a row is put */
    }
}

void fleet_options_print(const struct fleet_options *o, FILE *out)
{
    fprintf(out,
            "%sbrokers=%u replicas=%u groups=%u topics=%u heartbeat_ms=%u election_ms=%u quiet_ms=%u cable_us=%llu "
            "fault_us=%llu long_log=%d ",
            o->is_simple ? "simple clients, " : "", o->brokers, o->replicas, o->groups, o->topics, o->heartbeat_ms,
            o->election_ms, o->quiet_ms, (unsigned long long)o->cable_us_max, (unsigned long long)o->fault_us,
            o->has_long_log);
    if (fleet_net_has_wire(o)) {
        fprintf(out, "loss=%.3f twice=%.3f replay=%.3f late_us=%llu+%llu queue=%u slow=%llu clog_us=%llu ",
                o->wire.loss, o->wire.twice, o->wire.replay, (unsigned long long)o->wire.late_least_us,
                (unsigned long long)o->wire.late_mean_us, o->wire.queue_frames_max,
                (unsigned long long)o->wire.bytes_per_s, (unsigned long long)o->wire.clog_us_max);
    }
    if (o->one.faults[FAULT_MISWRITE]) {
        fprintf(out, "miswrite=%.4f ", o->miswrite);
    }
    if (o->one.faults[FAULT_NOTICE] || o->one.faults[FAULT_REPORT] || o->one.faults[FAULT_DOUBT]) {
        fprintf(out, "registry_late_us=%llu lost=%.3f twice=%.3f doubt=%.3f ",
                (unsigned long long)o->registry.late_us_max, o->registry.lost, o->registry.twice, o->registry.doubt);
    }
    sim_options_print(&o->one, out);
}

/* The first topic's limits are short enough for any run to meet them. */
static void draw_limits(const struct fleet_options *o, uint32_t t, struct registry_topic_config *config)
{
    struct rng rng;
    rng_seed(&rng, o->one.seed ^ (0x2e7e2710u + t));
    bool by_size = rng_chance(&rng, 0.6), by_time = t == 0 || rng_chance(&rng, 0.5);
    uint64_t kept = sim_log_between(&rng, SEGMENT_BYTES_MIN, 8 * SEGMENT_BYTES_MIN);
    uint64_t kept_ms = sim_log_between(&rng, 2000, t == 0 ? 20000 : 90000);
    uint64_t rolled_ms = sim_log_between(&rng, 1000, t == 0 ? 6000 : 60000);
    if (t == 0 || rng_chance(&rng, 0.5)) {
        config->retention_bytes = by_size ? (int64_t)kept : -1;
        config->retention_ms = by_time ? (int64_t)kept_ms : -1;
        config->segment_ms = by_time ? (int64_t)rolled_ms : -1;
    }
}

void fleet_options_topic(const struct fleet_options *o, uint32_t t, struct registry_topic *ret_wish)
{
    struct registry_topic wish = {.kind = TOPIC_DATA,
                                  .partitions_count = o->groups / o->topics + (t < o->groups % o->topics),
                                  .config = {.segment_bytes = SEGMENT_BYTES_MIN,
                                             .segment_ms = -1,
                                             .retention_bytes = -1,
                                             .retention_ms = -1,
                                             .max_batch_bytes = SEGMENT_BYTES_MIN,
                                             .replicas = o->replicas}};
    snprintf(wish.name, sizeof wish.name, "t%u", t);
    if (o->one.faults[FAULT_RETENTION]) {
        draw_limits(o, t, &wish.config);
    }
    *ret_wish = wish;
}

void fleet_options_config(const struct fleet_options *o, uint64_t id, struct config *ret_config)
{
    sim_options_config(&o->one, ret_config);
    ret_config->id = id;
    ret_config->replicas = o->replicas;
    ret_config->heartbeat_ms = o->heartbeat_ms;
    ret_config->election_ms = o->election_ms;
    ret_config->quiet_ms = o->quiet_ms;
}
