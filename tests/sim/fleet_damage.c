/* What is done to the machines of a fleet: disks that are replaced by empty ones, bytes that rot or are stored wrong,
 * one disk that is slow or stands still while all others are well. The atlas (fleet_atlas.h) says what is allowed and
 * remembers what was done. All of it is drawn from a generator of its own, so that a seed without these classes means
 * what it meant before there were any. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "broker/impl.h"
#include "fleet_atlas.h"
#include "judge.h"
#include "meta/row.h"

#define DRAWN_CHANCE       0.4
#define AT_START_CHANCE    0.3
#define TRIES_MAX          8u
#define WIPE_FIRST_US      40000000u /* so long it has precedence */
#define EARLY_US           300000u   /* until all have struck: not every moment will do */
#define LOOK_US            500000u
#define DOWN_US_MAX        3000000u
#define GRAY_US_MAX        60000000u
#define GRAY_JOB_US_MAX    1000000u
#define MISWRITE_ONE_IN    200u /* at least so often */
#define FIRST_ONE_IN       5u   /* until the first one */
#define SCRUB_MS_MAX       30000u
#define SCRUB_MS_LEAST     5000u
#define SMALL_MEMORY_MAX   ((uint64_t)2 << 20)
#define SMALL_MEMORY_LEAST ((uint64_t)256 << 10)

static const enum sim_fault by_time[] = {FAULT_WIPE, FAULT_ROT, FAULT_RUST, FAULT_GRAY};
#define BY_TIME (sizeof by_time / sizeof by_time[0])

static bool has(const struct fleet *fleet, enum sim_fault fault)
{
    return fleet->options->one.faults[fault];
}

/* A disk may be lost only while all that it holds is whole elsewhere: so that comes before most other wounds. */
static bool awaits_wipe(const struct fleet *fleet)
{
    return has(fleet, FAULT_WIPE) && !fleet_has_struck(fleet, FAULT_WIPE);
}

/* --- which seeds have what --- */

void fleet_damage_draw(struct fleet_options *o)
{
    struct rng rng;
    bool *faults = o->one.faults;
    rng_seed(&rng, o->one.seed ^ 0xda3a6eu);
    faults[FAULT_WIPE] = rng_chance(&rng, DRAWN_CHANCE);
    faults[FAULT_ROT] = rng_chance(&rng, DRAWN_CHANCE);
    faults[FAULT_RUST] = rng_chance(&rng, DRAWN_CHANCE);
    faults[FAULT_MISWRITE] = rng_chance(&rng, DRAWN_CHANCE);
    faults[FAULT_GRAY] = rng_chance(&rng, DRAWN_CHANCE) && o->brokers > 1;
    if (o->replicas < 3) { /* nobody has what is lost */
        faults[FAULT_WIPE] = faults[FAULT_ROT] = faults[FAULT_RUST] = faults[FAULT_MISWRITE] = false;
    }
    int64_t scrub_ms = (int64_t)sim_log_between(&rng, SCRUB_MS_LEAST, SCRUB_MS_MAX);
    uint64_t memory_bytes = sim_log_between(&rng, SMALL_MEMORY_LEAST, SMALL_MEMORY_MAX);
    o->miswrite = 1.0 / (double)sim_log_between(&rng, 10, MISWRITE_ONE_IN);
    if (faults[FAULT_ROT] || faults[FAULT_RUST] || faults[FAULT_MISWRITE]) {
        o->one.scrub_period_ms = scrub_ms;
        if (!o->has_long_log && !faults[FAULT_CROWD] && rng_chance(&rng, 0.5)) {
            o->one.memory_bytes = memory_bytes; /* reads have to go to the disk */
        }
    }
}

/* --- segments --- */

/* Segments are parts/<group>/<base offset>.log; what a snapshot brings has other names until it is installed. */
static bool read_path(const char *path, uint64_t *ret_group, int64_t *ret_base)
{
    char *end;
    if (strncmp(path, "parts/", 6) != 0 || path[6] < '0' || path[6] > '9') {
        return false;
    }
    *ret_group = strtoull(path + 6, &end, 10);
    if (*end != '/' || end[1] < '0' || end[1] > '9') {
        return false;
    }
    *ret_base = strtoll(end + 1, &end, 10);
    return strcmp(end, ".log") == 0;
}

/* The whole batches from its start; returns where they end, and the offsets of those that touch [at, at + size). */
static uint64_t walk(const struct inode *inode, int64_t base, uint64_t at, uint64_t size, struct wound_bytes *io_bytes)
{
    const uint8_t *data = inode_bytes(inode);
    uint64_t end = inode_size(inode, TREE_NOW), from = 0;
    struct batch_header header;
    while (from < end && batch_parse(data + from, end - from, &header) == OK && header.size_bytes <= end - from &&
           header.base_offset == base) {
        base += header.last_offset_delta + 1;
        bool touches = from < at + size && at < from + header.size_bytes;
        if (touches && io_bytes->first == io_bytes->end) {
            io_bytes->first = header.base_offset;
        }
        io_bytes->end = touches ? base : io_bytes->end;
        from += header.size_bytes;
    }
    return from;
}

/* Before: what stands there, and whose it is. */
static void describe(struct fleet_broker *b, const char *path, const struct inode *inode, uint64_t at, uint32_t size,
                     struct wound *ret_wound)
{
    int64_t base = 0;
    *ret_wound =
        (struct wound){.kind = WOUND_SEGMENT, .broker = b->id, .bytes = {.inode = inode, .at = at, .size = size}};
    bool is_segment = read_path(path, &ret_wound->group, &base);
    ASSERT(is_segment && strlen(path) < sizeof ret_wound->bytes.path && size <= SECTOR_BYTES);
    strcpy(ret_wound->bytes.path, path);
    inode_read(inode, TREE_NOW, ret_wound->bytes.right, size, at);
    (void)walk(inode, base, at, size, &ret_wound->bytes);
}

/* Behind it. True: the bytes are others now. */
static bool note(struct fleet_broker *b, struct wound *wound)
{
    struct wound_bytes *bytes = &wound->bytes;
    inode_read(bytes->inode, TREE_NOW, bytes->wrong, bytes->size, bytes->at);
    bool is_wrong = memcmp(bytes->right, bytes->wrong, bytes->size) != 0;
    if (is_wrong) {
        fleet_atlas_add(b->fleet->atlas, wound);
    }
    return is_wrong;
}

/* These bytes are written there instead. */
static bool spoil(struct fleet_broker *b, const char *path, struct inode *inode, uint64_t at, const uint8_t *wrong,
                  uint32_t size)
{
    struct wound wound;
    describe(b, path, inode, at, size, &wound);
    inode_write(sim_disk_tree(b->disk), inode, wrong, size, at);
    return note(b, &wound);
}

/* Writes that go wrong: a bit is another one; they never arrive; they arrive elsewhere in the file. */
void fleet_damage_written(struct fleet_broker *b, const char *path, struct inode *inode, uint64_t offset, uint64_t size)
{
    struct fleet *fleet = b->fleet;
    struct rng *rng = &fleet->damage;
    uint8_t sector[SECTOR_BYTES] = {0}, old[SECTOR_BYTES] = {0};
    uint64_t group;
    int64_t base;
    if (!has(fleet, FAULT_MISWRITE) || awaits_wipe(fleet) || fleet->phase != FLEET_SAFETY || size == 0 ||
        !read_path(path, &group, &base)) {
        return;
    }
    bool is_first = b->world.tally.faults[FAULT_MISWRITE] == 0;
    if (!rng_chance(rng, is_first ? 1.0 / FIRST_ONE_IN : fleet->options->miswrite) ||
        !fleet_atlas_allows(fleet->atlas, b->id, group)) {
        return;
    }
    uint64_t any = offset + rng_below(rng, size), at = any / SECTOR_BYTES * SECTOR_BYTES;
    uint64_t end = at + SECTOR_BYTES < offset + size ? at + SECTOR_BYTES : offset + size;
    at = at > offset ? at : offset;
    uint32_t part = (uint32_t)(end - at);
    uint64_t kind = rng_below(rng, 3);
    inode_read(inode, TREE_NOW, sector, part, at);
    inode_read(inode, TREE_DURABLE, old, part, at);
    bool is_spoilt = false;
    if (kind == 0) {
        sector[rng_below(rng, part)] ^= (uint8_t)(1u << rng_below(rng, 8));
        is_spoilt = spoil(b, path, inode, at, sector, part);
    } else {
        uint64_t sectors = inode_size(inode, TREE_NOW) / SECTOR_BYTES;
        uint64_t to = sectors > 0 ? rng_below(rng, sectors) * SECTOR_BYTES + at % SECTOR_BYTES : at;
        is_spoilt = spoil(b, path, inode, at, old, part);
        if (kind == 2 && to / SECTOR_BYTES != at / SECTOR_BYTES && to + part <= inode_size(inode, TREE_NOW)) {
            is_spoilt |= spoil(b, path, inode, to, sector, part);
        }
    }
    if (is_spoilt) {
        world_fault(&b->world, FAULT_MISWRITE);
    }
}

struct choice {
    struct fleet_broker *b;
    char dir[32];
    uint64_t seen; /* each one replaces the choice with the right chance */
    char path[96];
};

static void visit_file(void *context, const char *name)
{
    struct choice *choice = context;
    char path[96];
    uint64_t group;
    int64_t base;
    int size = snprintf(path, sizeof path, "parts/%s/%s", choice->dir, name);
    if (size < (int)sizeof path && read_path(path, &group, &base) &&
        rng_below(&choice->b->fleet->damage, ++choice->seen) == 0) {
        strcpy(choice->path, path);
    }
}

static void visit_dir(void *context, const char *name)
{
    struct choice *choice = context;
    char path[64];
    if (strlen(name) < sizeof choice->dir) {
        snprintf(path, sizeof path, "parts/%s", name);
        strcpy(choice->dir, name);
        (void)tree_list(sim_disk_tree(choice->b->disk), TREE_NOW, path, visit_file, choice);
    }
}

static bool rot_segment(struct fleet_broker *b)
{
    struct fleet *fleet = b->fleet;
    struct choice choice = {.b = b};
    struct tree *tree = sim_disk_tree(b->disk);
    struct inode *inode;
    struct wound_bytes none = {0};
    struct wound wound;
    uint64_t group = 0;
    int64_t base = 0;
    (void)tree_list(tree, TREE_NOW, "parts", visit_dir, &choice);
    if (choice.seen == 0 || tree_find(tree, TREE_NOW, choice.path, &inode) != OK ||
        !read_path(choice.path, &group, &base) || !fleet_atlas_allows(fleet->atlas, b->id, group)) {
        return false;
    }
    uint64_t filled = walk(inode, base, 0, 0, &none);
    if (filled == 0) {
        return false;
    }
    uint64_t at = rng_below(&fleet->damage, (filled + SECTOR_BYTES - 1) / SECTOR_BYTES) * SECTOR_BYTES;
    uint32_t size = (uint32_t)(filled - at < SECTOR_BYTES ? filled - at : SECTOR_BYTES);
    describe(b, choice.path, inode, at, size, &wound);
    inode_rot_at(inode, at, &fleet->damage);
    return note(b, &wound);
}

/* --- the log --- */

/* Batches that the next one in the same file vouches for: else nothing tells what rotted from a torn write. */
struct survey {
    char path[64];
    uint64_t base_lsn;
    bool is_ok; /* the batch before, of the same file, */
    uint64_t lsn;
    uint32_t length; /* that one */
    uint64_t count, wanted;
    char found_path[64];
    uint64_t found_at;
    uint32_t found_length; /* 0: none */
};

static void on_file(void *context, const char *name, uint64_t base_lsn, uint64_t salt, uint64_t boot, uint32_t version)
{
    struct survey *survey = context;
    const char *last = strrchr(name, '/');
    (void)salt, (void)boot, (void)version;
    snprintf(survey->path, sizeof survey->path, "wal/%s", last != NULL ? last + 1 : name);
    survey->base_lsn = base_lsn;
    survey->is_ok = false;
}

static void on_batch(void *context, uint64_t lsn, uint32_t length, const char *verdict)
{
    struct survey *survey = context;
    bool is_ok = strcmp(verdict, "ok") == 0;
    if (is_ok && survey->is_ok && ++survey->count == survey->wanted) {
        strcpy(survey->found_path, survey->path);
        survey->found_at = WAL_BLOCK_BYTES + survey->lsn - survey->base_lsn;
        survey->found_length = survey->length;
    }
    survey->is_ok = is_ok;
    survey->lsn = lsn;
    survey->length = length;
}

static bool rot_log(struct fleet_broker *b)
{
    struct fleet *fleet = b->fleet;
    struct survey survey = {.wanted = 0};
    const struct wal_inspector inspector = {.context = &survey, .file = on_file, .batch = on_batch};
    struct inode *inode;
    if (!fleet_atlas_allows(fleet->atlas, b->id, 0) || wal_inspect(sim_disk_shadow(b->disk), "wal", &inspector) != OK ||
        survey.count == 0) {
        return false;
    }
    uint64_t back = sim_log_between(&fleet->damage, 1, survey.count); /* the newest are of most use */
    survey = (struct survey){.wanted = survey.count + 1 - back};
    enum err error = wal_inspect(sim_disk_shadow(b->disk), "wal", &inspector);
    ASSERT(error == OK && survey.found_length > 0);
    uint64_t at = survey.found_at + rng_below(&fleet->damage, survey.found_length);
    if (tree_find(sim_disk_tree(b->disk), TREE_NOW, survey.found_path, &inode) != OK) {
        return false;
    }
    struct wound wound = {.kind = WOUND_LOG, .broker = b->id, .bytes = {.at = at}};
    strcpy(wound.bytes.path, survey.found_path);
    fleet_atlas_add(fleet->atlas, &wound);
    inode_flip_bit(inode, at, (unsigned)rng_below(&fleet->damage, 8));
    return true;
}

/* --- rows --- */

/* Of one of its groups, the first row of this type. */
static bool choose_row(struct fleet_broker *b, struct wound *wound, size_t *ret_size)
{
    static const char types[] = "GMEDS";
    uint8_t from[9] = {(uint8_t)types[rng_below(&b->fleet->damage, sizeof types - 1)]};
    struct kv *copy = sim_kv_copy_visible(b->kv);
    struct kv_bytes key, value;
    struct kv_txn *txn;
    store_be64(from + 1, wound->group);
    enum err error = copy->ops->begin(copy, false, &txn);
    ASSERT(error == OK);
    error = copy->ops->seek(copy, txn, (struct kv_bytes){from, sizeof from}, &key, &value);
    bool is_there =
        error == OK && key.size >= sizeof from && memcmp(key.data, from, sizeof from) == 0 && row_is_whole(key, value);
    if (is_there) {
        memcpy(wound->key, key.data, key.size);
        wound->key_size = key.size;
        *ret_size = value.size;
    }
    copy->ops->abort(copy, txn);
    sim_kv_free(copy);
    return is_there;
}

static uint32_t stored_crc(struct kv *kv, struct kv_bytes key)
{
    struct kv *copy = sim_kv_copy_visible(kv);
    struct kv_bytes value;
    struct kv_txn *txn;
    enum err error = copy->ops->begin(copy, false, &txn);
    ASSERT(error == OK);
    error = copy->ops->get(copy, txn, key, &value);
    ASSERT(error == OK);
    uint32_t crc = crc32c(0, value.data, value.size);
    copy->ops->abort(copy, txn);
    sim_kv_free(copy);
    return crc;
}

static bool rot_row(struct fleet_broker *b)
{
    struct fleet *fleet = b->fleet;
    struct wound wound = {.kind = WOUND_ROW, .broker = b->id};
    size_t size = 0;
    wound.group = fleet->group[rng_below(&fleet->damage, fleet->groups)];
    if (!fleet_atlas_allows(fleet->atlas, b->id, wound.group) || !choose_row(b, &wound, &size)) {
        return false;
    }
    struct kv_bytes key = {wound.key, wound.key_size};
    if (!sim_kv_flip_bit(b->kv, key, rng_below(&fleet->damage, 8 * size))) {
        return false; /* not on the disk yet */
    }
    wound.crc = stored_crc(b->kv, key);
    fleet_atlas_add(fleet->atlas, &wound);
    return true;
}

static bool rot_something(struct fleet_broker *b)
{
    uint64_t kind = rng_below(&b->fleet->damage, 10);
    bool is_rotten = kind < 5 ? rot_segment(b) : kind < 8 ? rot_log(b) : rot_row(b);
    if (is_rotten && kind >= 5 && b->broker == NULL) { /* else the judge reads it when the process dies */
        judge_crashed(b->fleet->judge, b->id);
    }
    return is_rotten;
}

/* --- machines --- */

static bool wipe(struct fleet_broker *b)
{
    if (!fleet_atlas_allows(b->fleet->atlas, b->id, 0)) {
        return false;
    }
    if (b->broker != NULL) {
        fleet_broker_bury(b, false, sim_log_between(&b->fleet->damage, 1000, DOWN_US_MAX));
    }
    world_fault(&b->world, FAULT_WIPE);
    fleet_broker_wipe(b);
    fleet_atlas_add(b->fleet->atlas, &(struct wound){.kind = WOUND_WIPE, .broker = b->id});
    return true;
}

/* While it is down, or so that its next start finds it. */
static bool rot_while_down(struct fleet_broker *b)
{
    struct rng *rng = &b->fleet->damage;
    bool is_rotten = rot_something(b);
    if (is_rotten && b->broker != NULL) {
        fleet_broker_bury(b, rng_chance(rng, 0.5), sim_log_between(rng, 1000, DOWN_US_MAX));
    }
    if (is_rotten) {
        world_fault(&b->world, FAULT_ROT);
    }
    return is_rotten;
}

static bool rot_while_up(struct fleet_broker *b)
{
    bool is_rotten = b->broker != NULL && rot_something(b);
    if (is_rotten) {
        world_fault(&b->world, FAULT_RUST);
    }
    return is_rotten;
}

static void on_well(void *context, uint64_t argument)
{
    (void)argument;
    sim_disk_set_slow(((struct fleet_broker *)context)->disk, 0);
}

static bool turn_gray(struct fleet_broker *b)
{
    struct fleet *fleet = b->fleet;
    struct sim_world *world = &fleet->world;
    uint64_t left_us = fleet->phase_until_us > world->now_us ? fleet->phase_until_us - world->now_us : 0;
    uint64_t for_us = sim_log_between(&fleet->damage, 1000000, GRAY_US_MAX);
    for_us = for_us < left_us ? for_us : left_us;
    if (world->now_us < fleet->gray_until_us || !fleet_broker_is_up(b)) {
        return false;
    }
    fleet->gray_until_us = world->now_us + for_us;
    if (rng_chance(&fleet->damage, 0.5)) {
        sim_disk_set_slow(b->disk, sim_log_between(&fleet->damage, 10000, GRAY_JOB_US_MAX));
        world_at(world, fleet->gray_until_us, on_well, b, 0);
    } else {
        sim_disk_stand_still(b->disk, fleet->gray_until_us);
    }
    world_log(&b->world, "gray for %llu us", (unsigned long long)for_us);
    world_fault(&b->world, FAULT_GRAY);
    return true;
}

/* --- when --- */

static bool strike(struct fleet *fleet, enum sim_fault fault)
{
    for (uint32_t i = 0; i < TRIES_MAX; i++) {
        struct fleet_broker *b = &fleet->broker[rng_between(&fleet->damage, 1, fleet->brokers)];
        bool has_struck = fault == FAULT_WIPE   ? wipe(b)
                          : fault == FAULT_ROT  ? rot_while_down(b)
                          : fault == FAULT_RUST ? rot_while_up(b)
                                                : turn_gray(b);
        if (has_struck) {
            return true;
        }
    }
    return false;
}

void fleet_damage_before_start(struct fleet_broker *b)
{
    struct fleet *fleet = b->fleet;
    if (fleet->phase != FLEET_SAFETY) {
        return;
    }
    if (has(fleet, FAULT_WIPE) && rng_chance(&fleet->damage, AT_START_CHANCE) && wipe(b)) {
        return;
    }
    if (has(fleet, FAULT_ROT) && rng_chance(&fleet->damage, AT_START_CHANCE)) {
        (void)rot_while_down(b);
    }
}

void fleet_damage_last(struct fleet *fleet)
{
    struct fleet_broker *b = &fleet->broker[rng_between(&fleet->damage, 1, fleet->brokers)];
    if (has(fleet, FAULT_ROT) && rot_log(b)) {
        world_fault(&b->world, FAULT_ROT);
        if (b->broker != NULL) {
            fleet_broker_bury(b, false, UINT64_MAX);
        } else {
            judge_crashed(fleet->judge, b->id);
        }
    }
}

static uint32_t times(const struct fleet *fleet, enum sim_fault fault)
{
    uint32_t sum = 0;
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        sum += fleet->broker[id].world.tally.faults[fault];
    }
    return sum;
}

static void on_tick(void *context, uint64_t argument)
{
    struct fleet *fleet = context;
    enum sim_fault drawn[BY_TIME];
    uint64_t count = 0, fault_us = fleet->options->fault_us;
    bool is_early = false;
    (void)argument;
    if (fleet->phase != FLEET_SAFETY) {
        return;
    }
    bool is_begin = fleet->world.now_us < fleet->safety_us + WIPE_FIRST_US;
    if (awaits_wipe(fleet) && is_begin) {
        drawn[count++] = FAULT_WIPE;
        is_early = true;
    }
    for (int early = 1; early >= 0 && count == 0; early--) { /* those that did not strike yet come first */
        for (size_t i = 0; i < BY_TIME; i++) {
            if (has(fleet, by_time[i]) && (early == 0 || times(fleet, by_time[i]) == 0)) {
                drawn[count++] = by_time[i];
                is_early = early > 0;
            }
        }
    }
    if (count > 0) {
        (void)strike(fleet, drawn[rng_below(&fleet->damage, count)]);
    }
    uint64_t in_us = is_early ? EARLY_US : rng_between(&fleet->damage, fault_us / 2, fault_us * 3);
    world_at(&fleet->world, fleet->world.now_us + in_us, on_tick, fleet, 0);
}

static void on_look(void *context, uint64_t argument)
{
    struct fleet *fleet = context;
    (void)argument;
    fleet_atlas_look(fleet->atlas);
    world_at(&fleet->world, fleet->world.now_us + LOOK_US, on_look, fleet, 0);
}

void fleet_damage_begin(struct fleet *fleet)
{
    bool is_any = has(fleet, FAULT_MISWRITE);
    for (size_t i = 0; i < BY_TIME; i++) {
        is_any = is_any || has(fleet, by_time[i]);
    }
    if (is_any) {
        world_at(&fleet->world, fleet->world.now_us + fleet->options->fault_us, on_tick, fleet, 0);
        world_at(&fleet->world, fleet->world.now_us + LOOK_US, on_look, fleet, 0);
    }
}
