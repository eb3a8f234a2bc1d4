/* The end of a run: a random core that holds a majority of every group is healed, and what it owes is a working
 * cluster, whatever becomes of the others. They are dead, cut off, deaf or mute for ever. Usually the core has a
 * majority of unwounded replicas of every group. Now and then it is drawn as if there were no wounds; then a group may
 * be beyond help: it is left out if that can be proven (fleet_proof.h) once it did not come back, and only it. */
#include "fleet_atlas.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "broker/impl.h"
#include "fleet_proof.h"
#include "judge.h"
#include "store/impl.h"

#define START_US_MAX    200000u
#define MEMORY_BYTES    ((uint64_t)64 << 20) /* as little as may be configured */
#define CARELESS_CHANCE 0.15                 /* of a core that is drawn as if nobody had a wound */

enum fate { FATE_DEAD, FATE_CUT_OFF, FATE_DEAF, FATE_MUTE, FATES };

/* --- who has what --- */

static struct partition *replica_at(struct fleet *fleet, uint64_t id, uint64_t group)
{
    struct fleet_broker *b = &fleet->broker[id];
    return b->broker != NULL ? groups_find(b->broker, group) : NULL;
}

bool fleet_core_has(const struct fleet *fleet, uint64_t id)
{
    return !fleet->broker[id].is_lost;
}

static bool is_ours(const struct fleet *fleet, uint64_t group)
{
    for (uint32_t g = 0; g < fleet->groups; g++) {
        if (fleet->group[g] == group) {
            return true;
        }
    }
    return false;
}

/* Without those, has every group its majority? Who is careless counts the wounded too, of groups that can be left out
 * of the rest of the run; but not those whose records are damaged: a leader that cannot read them can send no snapshot,
 * although whoever needs one may have them in its log, so that nothing is proven. */
static bool is_enough(const struct fleet *fleet, const bool lost[FLEET_BROKERS_MAX + 1], bool is_careless)
{
    const struct registry_partition *wish;
    uint64_t place = 0;
    while ((wish = sim_registry_next(fleet->registry, &place)) != NULL) {
        bool counts_all = is_careless && is_ours(fleet, wish->group);
        uint32_t here = 0;
        for (uint32_t r = 0; r < wish->replicas_count; r++) {
            uint64_t id = wish->replicas[r].broker;
            bool is_counted = counts_all && fleet_atlas_segment(fleet->atlas, id, wish->group, 0) == NULL;
            here += !lost[id] && (is_counted || !fleet_atlas_is_open(fleet->atlas, id, wish->group));
        }
        if (here * 2 <= wish->replicas_count) {
            return false;
        }
    }
    return true;
}

/* --- the others' fate --- */

static void leave_to(struct fleet *fleet, struct fleet_broker *b, enum fate fate)
{
    world_log(&b->world, "is lost: fate %d", (int)fate);
    b->is_lost = true;
    if (fate == FATE_DEAD && b->broker != NULL) {
        fleet_broker_bury(b, rng_chance(&fleet->world.crash, 0.5), UINT64_MAX);
    }
    for (uint64_t other = 1; other <= fleet->brokers; other++) {
        if (other != b->id) {
            sim_cables_cut(fleet->cables, other, b->id, fate != FATE_MUTE);
            sim_cables_cut(fleet->cables, b->id, other, fate != FATE_DEAF);
        }
    }
}

void fleet_core_draw(struct fleet *fleet)
{
    struct rng *rng = &fleet->world.crash;
    bool lost[FLEET_BROKERS_MAX + 1] = {false};
    uint64_t first = rng_below(rng, fleet->brokers), spared = rng_below(rng, fleet->brokers);
    if (!fleet_moves_are_settled(fleet)) {
        spared = fleet->brokers; /* who votes may be others than who is wished */
    }
    bool is_careless = fleet_atlas_has_any(fleet->atlas) && rng_chance(&fleet->damage, CARELESS_CHANCE);
    if (is_careless) {
        fleet_damage_last(fleet);
    }
    for (uint64_t i = spared; i < fleet->brokers; i++) {
        uint64_t id = 1 + (first + i) % fleet->brokers;
        lost[id] = true;
        lost[id] = is_enough(fleet, lost, is_careless);
    }
    sim_registry_calm(fleet->registry);
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        for (uint64_t other = 1; other <= fleet->brokers; other++) {
            if (lost[id] || lost[other]) {
                sim_cables_cut(fleet->cables, id, other, false); /* and all else stays as it is */
            } else {
                fleet_net_heal(fleet, id, other);
            }
        }
    }
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        struct fleet_broker *b = &fleet->broker[id];
        if (lost[id]) {
            leave_to(fleet, b, (enum fate)rng_below(rng, FATES));
            continue;
        }
        fleet_broker_heal(b);
        if (b->broker == NULL) {
            fleet_broker_start_in(b, rng_below(rng, START_US_MAX));
        } else if (fleet_broker_withholds(b)) { /* somebody starts it anew: what failed works now */
            fleet_broker_bury(b, false, rng_below(rng, START_US_MAX));
        }
    }
}

uint32_t fleet_core_lags(struct fleet *fleet)
{
    uint32_t lags = 0;
    for (uint32_t g = 0; g < fleet->groups; g++) {
        const struct partition *best = NULL;
        for (uint64_t id = 1; id <= fleet->brokers; id++) {
            const struct partition *p = fleet_core_has(fleet, id) ? replica_at(fleet, id, fleet->group[g]) : NULL;
            bool has_core = p != NULL && p->raft != NULL;
            if (has_core && (best == NULL || raft_last_index(p->raft) > raft_last_index(best->raft))) {
                best = p;
            }
        }
        for (uint64_t id = 1; best != NULL && id <= fleet->brokers; id++) {
            const struct partition *p = fleet_core_has(fleet, id) ? replica_at(fleet, id, fleet->group[g]) : NULL;
            lags += p != NULL && p->raft != NULL && raft_last_index(p->raft) + 1 < best->window.first_index;
        }
    }
    return lags;
}

/* --- what cannot come back --- */

/* In the core, and all that it ever had is on its disk. False with *io_is_known false: it is not, and nobody did that.
 */
static bool is_sound(struct fleet *fleet, uint64_t id, uint64_t group, uint64_t replica, bool *io_is_known)
{
    const struct partition *p = fleet_core_has(fleet, id) ? replica_at(fleet, id, group) : NULL;
    bool is_sound = p != NULL && p->replica == replica && judge_is_sound(fleet->judge, group, replica);
    if (!is_sound && fleet_core_has(fleet, id) && !fleet_atlas_explains(fleet->atlas, id, group)) {
        *io_is_known = false;
    }
    return is_sound;
}

static void add_log(struct fleet *fleet, const struct partition *p, struct proof_facts *facts, bool *io_is_known)
{
    struct members members;
    bool is_committed = roster_newest(&p->roster, &members) <= p->applied_index;
    const struct member *own = members_find(&members, p->replica);
    bool has_vote = own != NULL && (own->now == RAFT_VOTER || own->next == RAFT_VOTER);
    if (is_committed && !has_vote) {
        return; /* it never campaigns, and may still name those of the group's birth */
    }
    struct proof_log *log = &facts->logs[facts->logs_count++];
    log->count = members.count;
    for (uint32_t i = 0; i < members.count; i++) {
        const struct member *m = &members.member[i];
        bool votes = m->now == RAFT_VOTER || m->next == RAFT_VOTER;
        log->voters[i] =
            (struct proof_voter){.replica = m->replica,
                                 .now = m->now == RAFT_VOTER,
                                 .next = m->next == RAFT_VOTER,
                                 .counts = votes && is_sound(fleet, m->broker, p->group, m->replica, io_is_known)};
    }
}

/* The offset behind the records that its log holds, applied or not. */
static int64_t end_of(struct partition *p)
{
    int64_t end = partition_high_watermark(p);
    for (uint64_t index = p->applied_index + 1; index <= window_last(&p->window); index++) {
        const struct window_entry *entry = window_at(&p->window, index);
        struct batch_header header;
        if (entry->type == ENTRY_DATA && batch_parse(entry->payload.data, entry->payload.size, &header) == OK) {
            end += header.last_offset_delta + 1;
        }
    }
    return end;
}

static void add_copy(struct fleet *fleet, uint64_t id, struct partition *p, struct proof_facts *facts)
{
    struct proof_copy *copy = &facts->copies[facts->copies_count++];
    const struct wound_bytes *bytes = fleet_atlas_segment(fleet->atlas, id, p->group, 0);
    while (bytes != NULL && copy->count < PROOF_RANGES_MAX - 1) {
        copy->ranges[copy->count++] = (struct proof_range){bytes->first, bytes->end};
        bytes = fleet_atlas_segment(fleet->atlas, id, p->group, copy->count);
    }
    copy->ranges[copy->count++] = (struct proof_range){end_of(p), INT64_MAX};
    facts->end = partition_high_watermark(p) > facts->end ? partition_high_watermark(p) : facts->end;
}

static const char *why_lost(struct fleet *fleet, uint32_t number)
{
    static struct proof_facts facts;
    uint64_t group = fleet->group[number];
    bool is_known = true;
    facts = (struct proof_facts){.has_leader = fleet_leader(fleet, group) != 0};
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        struct partition *p = fleet_core_has(fleet, id) ? replica_at(fleet, id, group) : NULL;
        if (p == NULL) {
            continue;
        }
        if (is_sound(fleet, id, group, p->replica, &is_known)) {
            add_log(fleet, p, &facts, &is_known);
        }
        add_copy(fleet, id, p, &facts);
    }
    return is_known ? proof_verdict(&facts) : NULL;
}

uint32_t fleet_core_write_off(struct fleet *fleet)
{
    uint32_t count = 0;
    fleet_atlas_look(fleet->atlas);
    for (uint32_t g = 0; g < fleet->groups; g++) {
        const char *why = fleet->is_out[g] ? NULL : why_lost(fleet, g);
        if (why != NULL) {
            world_log(&fleet->world, "group %llu cannot come back: %s", (unsigned long long)fleet->group[g], why);
            fleet->is_out[g] = true;
            fleet->load_class->write_off(fleet->load, g);
            count++;
        }
    }
    fleet->unrecoverable += count;
    for (uint64_t id = 1; id <= fleet->brokers && count > 0; id++) { /* what stays unacknowledged for ever fills more
                                                                      * than the little that these brokers have */
        struct config *config = &fleet->broker[id].config;
        config->memory_bytes = config->memory_bytes > MEMORY_BYTES ? config->memory_bytes : MEMORY_BYTES;
    }
    return count;
}

/* --- convergence --- */

struct content {
    uint64_t size;
    int64_t end;
    uint32_t crc;
};

/* Adds the batches of one segment's file, as far as the log does not begin behind them; returns the offset behind them.
 */
static int64_t add_segment(struct disk *disk, uint64_t group, const struct segment *segment, int64_t start,
                           struct content *content)
{
    char path[64];
    struct disk_file *file;
    uint64_t size = 0;
    size_t got = 0;
    int64_t base = segment->base_offset;
    snprintf(path, sizeof path, "parts/%llu/%020lld.log", (unsigned long long)group, (long long)base);
    if (disk->ops->open(disk, path, DISK_READ, &file) != OK) {
        return base;
    }
    enum err error = disk->ops->size(disk, file, &size);
    uint8_t *bytes = malloc(size + 1);
    ASSERT(error == OK && bytes != NULL);
    error = disk->ops->read(disk, file, bytes, size, 0, &got);
    ASSERT(error == OK);
    disk->ops->close(disk, file);
    struct batch_header header;
    size_t at = 0;
    while (at < got && batch_parse(bytes + at, got - at, &header) == OK && header.base_offset == base &&
           header.size_bytes <= got - at) { /* what lies behind the end is nobody's */
        if (base >= start) {
            content->crc = crc32c(content->crc, bytes + at, header.size_bytes);
            content->size += header.size_bytes;
        }
        at += header.size_bytes;
        base += header.last_offset_delta + 1;
    }
    free(bytes);
    return base;
}

/* Where one segment ends and the next begins differs: after a start the same batches may be put together anew. */
static void read_content(struct fleet *fleet, uint64_t id, struct partition *p, struct content *content)
{
    struct disk *disk = sim_disk_port(fleet->broker[id].disk);
    int64_t start = partition_log_start(p);
    *content = (struct content){.end = start};
    for (uint32_t i = 0; i < p->log->segments_count; i++) {
        content->end = add_segment(disk, p->group, p->log->segments[i], start, content);
    }
}

static bool group_is_equal(struct fleet *fleet, uint32_t number, const char **ret_waits_for)
{
    struct content first = {0};
    const struct partition *one = NULL;
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        if (!fleet_core_has(fleet, id) || !fleet_replica_on(fleet, number, id))
            continue;
        struct partition *p = replica_at(fleet, id, fleet->group[number]);
        struct content content;
        if (p == NULL || p->raft == NULL || p->log == NULL) {
            *ret_waits_for = "a replica of the core that does not live";
            return false;
        }
        if (one != NULL && p->applied_index != one->applied_index) {
            snprintf(fleet->waits_for, sizeof fleet->waits_for,
                     "group %llu: replica %llu applied %llu, replica %llu %llu", (unsigned long long)one->group,
                     (unsigned long long)one->replica, (unsigned long long)one->applied_index,
                     (unsigned long long)p->replica, (unsigned long long)p->applied_index);
            *ret_waits_for = fleet->waits_for;
            return false;
        }
        read_content(fleet, id, p, &content);
        if (content.end != partition_high_watermark(p)) {
            snprintf(fleet->waits_for, sizeof fleet->waits_for,
                     "group %llu: the files of broker %llu hold %lld..%lld, its high watermark is %lld",
                     (unsigned long long)p->group, (unsigned long long)id, (long long)partition_log_start(p),
                     (long long)content.end, (long long)partition_high_watermark(p));
            *ret_waits_for = fleet->waits_for;
            return false;
        }
        if (one != NULL && memcmp(&content, &first, sizeof content) != 0) {
            snprintf(fleet->waits_for, sizeof fleet->waits_for, "group %llu: unequal bytes on broker %llu",
                     (unsigned long long)p->group, (unsigned long long)id);
            *ret_waits_for = fleet->waits_for;
            return false;
        }
        one = p;
        first = content;
    }
    return true;
}

bool fleet_core_is_equal(struct fleet *fleet, const char **ret_waits_for)
{
    for (; fleet->equal_groups < fleet->groups; fleet->equal_groups++) {
        if (!fleet->is_out[fleet->equal_groups] && !group_is_equal(fleet, fleet->equal_groups, ret_waits_for)) {
            return false;
        }
    }
    return true;
}
