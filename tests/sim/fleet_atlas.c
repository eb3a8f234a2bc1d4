/* A list of wounds; for each one how to tell that it is over, and what a broker may say because of it. */
#include "fleet_atlas.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "broker/impl.h"
#include "judge.h"

#define LOG_LOOK_US 4000000u /* the whole log is read for it */

struct fleet_atlas {
    struct fleet *fleet;
    struct wound *wounds; /* owned; those that are over stay */
    uint64_t count, capacity;
};

static const char *const kind_names[WOUND_KINDS] = {"wipe", "log", "row", "segment", "given up"};

struct fleet_atlas *fleet_atlas_new(struct fleet *fleet)
{
    struct fleet_atlas *atlas = calloc(1, sizeof *atlas);
    ASSERT(atlas != NULL);
    atlas->fleet = fleet;
    return atlas;
}

void fleet_atlas_free(struct fleet_atlas *atlas)
{
    free(atlas->wounds);
    free(atlas);
}

/* --- what is allowed --- */

static bool is_of(const struct wound *wound, uint64_t broker, uint64_t group)
{
    return wound->broker == broker && (group == 0 || wound->group == 0 || wound->group == group);
}

bool fleet_atlas_is_open(const struct fleet_atlas *atlas, uint64_t broker, uint64_t group)
{
    for (uint64_t i = 0; i < atlas->count; i++) {
        if (!atlas->wounds[i].is_over && is_of(&atlas->wounds[i], broker, group)) {
            return true;
        }
    }
    return false;
}

static bool leaves_a_majority(const struct fleet_atlas *atlas, uint64_t broker, const struct registry_partition *wish)
{
    uint32_t whole = 0;
    for (uint32_t r = 0; r < wish->replicas_count; r++) {
        uint64_t id = wish->replicas[r].broker;
        whole += id != broker && !fleet_atlas_is_open(atlas, id, wish->group);
    }
    return whole > wish->replicas_count / 2;
}

bool fleet_atlas_allows(const struct fleet_atlas *atlas, uint64_t broker, uint64_t group)
{
    struct fleet *fleet = atlas->fleet;
    const struct registry_partition *wish;
    uint64_t place = 0;
    bool is_known = false;
    if (group == 0 && sim_registry_is_creating(fleet->registry)) {
        return false;
    }
    while ((wish = sim_registry_next(fleet->registry, &place)) != NULL) {
        bool is_meant = (group == 0 || wish->group == group) && registry_replica_on(wish, broker) != NULL;
        if (is_meant && (!fleet_moves_is_settled(fleet, wish) || !leaves_a_majority(atlas, broker, wish))) {
            return false;
        }
        is_known = is_known || is_meant;
    }
    return is_known;
}

void fleet_atlas_add(struct fleet_atlas *atlas, const struct wound *wound)
{
    struct fleet *fleet = atlas->fleet;
    for (uint64_t i = 0; i < atlas->count && wound->kind == WOUND_WIPE; i++) {
        atlas->wounds[i].is_over |= atlas->wounds[i].broker == wound->broker;
    }
    atlas->wounds = sim_grow(atlas->wounds, &atlas->capacity, atlas->count + 1, sizeof *atlas->wounds);
    struct wound *copy = &atlas->wounds[atlas->count++];
    *copy = *wound;
    copy->since_us = fleet->world.now_us;
    copy->looked_us = 0;
    copy->is_over = false;
    if (wound->kind == WOUND_LOG || wound->kind == WOUND_ROW) {
        judge_doubts(fleet->judge, wound->broker);
    } else if (wound->kind == WOUND_SEGMENT) {
        judge_doubts_segments(fleet->judge, wound->broker);
    }
    world_log(&fleet->broker[wound->broker].world, "wound: %s, group %llu, %s at %llu, offsets [%lld, %lld)",
              kind_names[wound->kind], (unsigned long long)wound->group, wound->bytes.path,
              (unsigned long long)wound->bytes.at, (long long)wound->bytes.first, (long long)wound->bytes.end);
}

/* --- what is over --- */

bool wound_bytes_are_there(const struct wound_bytes *bytes, const uint8_t *now, uint32_t size)
{
    for (uint32_t i = 0; i < bytes->size && i < size; i++) {
        if (bytes->wrong[i] != bytes->right[i] && now[i] == bytes->wrong[i]) {
            return true;
        }
    }
    return false;
}

static bool segment_is_in(struct fleet_broker *b, const struct wound_bytes *bytes, enum tree_view view)
{
    struct inode *inode;
    uint8_t now[SECTOR_BYTES];
    if (tree_find(sim_disk_tree(b->disk), view, bytes->path, &inode) != OK || inode != bytes->inode) {
        return false;
    }
    size_t got = inode_read(inode, view, now, bytes->size, bytes->at);
    return wound_bytes_are_there(bytes, now, (uint32_t)got);
}

/* What was made good and is not synced may be bad again after a power cut. */
static bool segment_is_there(struct fleet_broker *b, const struct wound_bytes *bytes)
{
    return segment_is_in(b, bytes, TREE_NOW) || segment_is_in(b, bytes, TREE_DURABLE);
}

static bool row_is_there(struct fleet_broker *b, const struct wound *wound)
{
    struct kv *copy = sim_kv_copy_visible(b->kv);
    struct kv_txn *txn;
    struct kv_bytes value;
    enum err error = copy->ops->begin(copy, false, &txn);
    ASSERT(error == OK);
    error = copy->ops->get(copy, txn, (struct kv_bytes){wound->key, wound->key_size}, &value);
    bool is_there = error == OK && crc32c(0, value.data, value.size) == wound->crc;
    copy->ops->abort(copy, txn);
    sim_kv_free(copy);
    return is_there;
}

static void on_damaged(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count)
{
    (void)lsn, (void)groups, (void)count;
    *(bool *)context = true;
}

static bool log_is_damaged(struct fleet_broker *b)
{
    bool is_damaged = false;
    const struct wal_inspector inspector = {.context = &is_damaged, .damaged = on_damaged};
    return wal_inspect(sim_disk_shadow(b->disk), "wal", &inspector) != OK || is_damaged;
}

/* The replica here is what the registry wishes, a member like the others, and bears no mark. */
static bool is_whole(struct fleet_broker *b, const struct registry_partition *wish)
{
    const struct registry_replica *own = registry_replica_on(wish, b->id);
    const struct partition *p = groups_find(b->broker, wish->group);
    return p != NULL && p->replica == own->replica && p->state == PARTITION_LIVE && p->raft != NULL &&
           !raft_is_damaged(p->raft) && !p->healing && !p->repair_unsaved && fleet_moves_is_settled(b->fleet, wish);
}

static bool are_whole(struct fleet_broker *b, uint64_t group)
{
    const struct registry_partition *wish;
    uint64_t place = 0;
    if (!fleet_broker_is_up(b)) {
        return false;
    }
    while ((wish = sim_registry_next(b->fleet->registry, &place)) != NULL) {
        bool is_meant = (group == 0 || wish->group == group) && registry_replica_on(wish, b->id) != NULL;
        if (is_meant && !is_whole(b, wish)) {
            return false;
        }
    }
    return true;
}

static bool is_over(struct fleet_broker *b, struct wound *wound)
{
    switch (wound->kind) {
    case WOUND_SEGMENT:
        return !segment_is_there(b, &wound->bytes);
    case WOUND_ROW:
        return are_whole(b, wound->group) && !row_is_there(b, wound);
    case WOUND_LOG:
        if (b->world.now_us - wound->looked_us < LOG_LOOK_US || !are_whole(b, 0)) {
            return false;
        }
        wound->looked_us = b->world.now_us;
        return !log_is_damaged(b);
    default:
        return are_whole(b, wound->group);
    }
}

void fleet_atlas_look(struct fleet_atlas *atlas)
{
    struct fleet *fleet = atlas->fleet;
    bool is_open[FLEET_BROKERS_MAX + 1] = {false}, has_closed[FLEET_BROKERS_MAX + 1] = {false};
    for (uint64_t i = 0; i < atlas->count; i++) {
        struct wound *wound = &atlas->wounds[i];
        struct fleet_broker *b = &fleet->broker[wound->broker];
        if (wound->is_over) {
            continue;
        }
        wound->is_over = is_over(b, wound);
        if (wound->is_over) {
            world_judged(&b->world, wound->kind == WOUND_WIPE ? JUDGE_R20 : JUDGE_S10);
            world_log(&b->world, "wound is over: %s, group %llu", kind_names[wound->kind],
                      (unsigned long long)wound->group);
        }
        is_open[wound->broker] |= !wound->is_over;
        has_closed[wound->broker] |= wound->is_over;
    }
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        if (has_closed[id] && !is_open[id]) {
            judge_trusts(fleet->judge, id);
        }
    }
}

/* --- what brokers say --- */

bool fleet_atlas_has_any(const struct fleet_atlas *atlas)
{
    return atlas->count > 0;
}

static bool was_wounded(const struct fleet_atlas *atlas, uint64_t broker, uint64_t group, unsigned kinds)
{
    for (uint64_t i = 0; i < atlas->count; i++) {
        const struct wound *wound = &atlas->wounds[i];
        if ((kinds >> wound->kind & 1) && is_of(wound, broker, group)) {
            return true;
        }
    }
    return false;
}

bool fleet_atlas_has_replaced(const struct fleet_atlas *atlas)
{
    bool has_replaced = false;
    for (uint64_t i = 0; i < atlas->count; i++) {
        has_replaced |= atlas->wounds[i].kind == WOUND_WIPE || atlas->wounds[i].kind == WOUND_ROW;
    }
    return has_replaced;
}

bool fleet_atlas_explains(const struct fleet_atlas *atlas, uint64_t broker, uint64_t group)
{
    return was_wounded(atlas, broker, group,
                       1u << WOUND_WIPE | 1u << WOUND_LOG | 1u << WOUND_ROW | 1u << WOUND_GIVEN_UP);
}

const struct wound_bytes *fleet_atlas_segment(const struct fleet_atlas *atlas, uint64_t broker, uint64_t group,
                                              uint32_t n)
{
    for (uint64_t i = 0; i < atlas->count; i++) {
        const struct wound *wound = &atlas->wounds[i];
        bool is_meant = wound->kind == WOUND_SEGMENT && !wound->is_over && is_of(wound, broker, group);
        if (is_meant && n-- == 0) {
            return &wound->bytes;
        }
    }
    return NULL;
}

static bool begins_with(const char *line, const char *word)
{
    size_t size = strlen(word);
    return strncmp(line, word, size) == 0 && line[size] == ' ';
}

/* Reads that went wrong for now, in this run on this machine. */
static bool has_misread(const struct fleet_broker *b)
{
    const uint32_t *faults = b->world.tally.faults;
    return faults[FAULT_READ_ERROR] + faults[FAULT_LATENT] + faults[FAULT_MISREAD] > 0;
}

static bool has_failed(const struct fleet_broker *b)
{
    const uint32_t *faults = b->world.tally.faults;
    return faults[FAULT_READ_ERROR] + faults[FAULT_WRITE_ERROR] + faults[FAULT_LATENT] + faults[FAULT_SYNC_ERROR] > 0;
}

static void judge_word(struct fleet_broker *b, enum sim_judge judge, bool is_true, const char *line)
{
    world_judged(&b->world, judge);
    if (!is_true) {
        world_fail(&b->world, sim_judge_name(judge), "broker %llu says what nothing was done for: %s",
                   (unsigned long long)b->id, line);
    }
}

void fleet_atlas_line(struct fleet_atlas *atlas, struct fleet_broker *b, const char *line)
{
    const char *at = strstr(line, " group=");
    uint64_t group = at != NULL ? strtoull(at + 7, NULL, 10) : 0;
    if (begins_with(line, "group_damaged")) {
        judge_word(b, JUDGE_S10, fleet_atlas_explains(atlas, b->id, group), line);
    } else if (begins_with(line, "row_damaged") || begins_with(line, "scrub_row_damaged")) {
        judge_word(b, JUDGE_S10, was_wounded(atlas, b->id, group, 1u << WOUND_ROW), line);
    } else if (begins_with(line, "wal_damaged")) {
        judge_word(b, JUDGE_S10, was_wounded(atlas, b->id, 0, 1u << WOUND_LOG), line);
    } else if (begins_with(line, "scrub_wal_damaged")) {
        bool is_true = was_wounded(atlas, b->id, 0, 1u << WOUND_LOG) || b->world.tally.faults[FAULT_READ_ERROR] > 0;
        judge_word(b, JUDGE_S10, is_true, line);
    } else if (begins_with(line, "scrub_segment_damaged") || begins_with(line, "bad_leader_epoch")) {
        bool is_true = was_wounded(atlas, b->id, group, 1u << WOUND_SEGMENT) || has_misread(b);
        judge_word(b, JUDGE_S10, is_true, line);
    } else if (begins_with(line, "group_withheld")) {
        judge_word(b, JUDGE_W7, has_failed(b), line);
    } else if (begins_with(line, "group_given_up")) {
        judge_word(b, JUDGE_W7, has_failed(b), line);
        fleet_atlas_add(atlas, &(struct wound){.kind = WOUND_GIVEN_UP, .broker = b->id, .group = group});
    }
}
