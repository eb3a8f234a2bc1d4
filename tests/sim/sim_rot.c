/* Finds an address with the product's offline reader and flips a bit through the port. */
#include "sim_rot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/limits.h"
#include "meta/row.h"
#include "sim_kv.h"
#include "wal/wal.h"

#define BATCHES_MAX    16384u
#define GROUPS_PER_ROT 64u
#define NAME_BYTES     64u

struct place {
    char path[NAME_BYTES];
    uint64_t base_lsn; /* of its file */
    uint64_t lsn;
    uint32_t length;
    bool borders_rot; /* one of its neighbours is bad already */
};

struct survey {
    struct place file; /* the one being read */
    struct place *batches;
    uint32_t batches_count;
    bool was_bad;        /* the batch before */
    uint64_t wanted_lsn; /* second reading: of whose records the groups are */
    struct check *check;
};

static void on_file(void *context, const char *name, uint64_t base_lsn, uint64_t salt, uint64_t boot, uint32_t version)
{
    struct survey *survey = context;
    const char *last = strrchr(name, '/');
    snprintf(survey->file.path, sizeof survey->file.path, "wal/%s", last != NULL ? last + 1 : name);
    survey->file.base_lsn = base_lsn;
}

static void on_batch(void *context, uint64_t lsn, uint32_t length, const char *verdict)
{
    struct survey *survey = context;
    bool is_ok = strcmp(verdict, "ok") == 0;
    if (!is_ok && survey->batches_count > 0) {
        survey->batches[survey->batches_count - 1].borders_rot = true;
    }
    if (is_ok && survey->batches_count < BATCHES_MAX) {
        struct place *place = &survey->batches[survey->batches_count++];
        *place = survey->file;
        place->lsn = lsn;
        place->length = length;
        place->borders_rot = survey->was_bad;
    }
    survey->was_bad = !is_ok;
}

static void on_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct survey *survey = context;
    if (lsn == survey->wanted_lsn) {
        check_may_be_damaged(survey->check, record->group);
    }
}

static bool flip(struct sim_world *world, struct disk *disk, const char *path, uint64_t offset)
{
    struct disk_file *file;
    uint8_t byte;
    size_t got;
    if (disk->ops->open(disk, path, DISK_WRITE, &file) != OK)
        return false;
    bool done = disk->ops->read(disk, file, &byte, 1, offset, &got) == OK && got == 1;
    byte ^= (uint8_t)(1u << rng_below(&world->crash, 8));
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    done = done && disk->ops->write(disk, file, &part, 1, offset) == OK && disk->ops->sync(disk, file) == OK;
    disk->ops->close(disk, file);
    world_log(world, "rot: %s at %llu", path, (unsigned long long)offset);
    return done;
}

bool sim_rot_wal(struct sim_world *world, struct disk *disk, struct disk *shadow, struct check *check)
{
    struct survey survey = {.check = check, .batches = calloc(BATCHES_MAX, sizeof *survey.batches)};
    ASSERT(survey.batches != NULL);
    const struct wal_inspector first = {.context = &survey, .file = on_file, .batch = on_batch};
    bool found = wal_inspect(shadow, "wal", &first) == OK && survey.batches_count > 0;
    if (found) {
        /* The newest are of most use: what is below the checkpoints rots unnoticed. */
        uint64_t back = sim_log_between(&world->crash, 1, survey.batches_count) - 1;
        const struct place *place = &survey.batches[survey.batches_count - 1 - back];
        uint64_t at = WAL_BLOCK_BYTES + place->lsn - place->base_lsn + rng_below(&world->crash, place->length);
        bool is_last_of_file = back > 0 && strcmp(place->path, place[1].path) != 0;
        /* Else all are damaged: the next one, of a later life, may not vouch for it; or two neighbours are bad, and the
         * list of who stood in the first went with the second. */
        if (!is_last_of_file && !place->borders_rot) {
            check_rot_has_address(check);
        }
        if (back > 0) { /* else nobody vouches for it: torn, and nothing that was acknowledged stood in it */
            survey.wanted_lsn = place->lsn;
        }
        const struct wal_inspector second = {.context = &survey, .record = on_record};
        found = wal_inspect(shadow, "wal", &second) == OK && flip(world, disk, place->path, at);
    }
    free(survey.batches);
    return found;
}

/* --- segments --- */

struct choice {
    struct sim_world *world;
    uint32_t seen;
    char name[NAME_BYTES];
};

/* Every name with the same chance. */
static void on_name(void *context, const char *name)
{
    struct choice *choice = context;
    bool is_data = strspn(name, "0123456789") == strlen(name) || strstr(name, ".log") != NULL;
    if (is_data && strlen(name) < NAME_BYTES && rng_below(&choice->world->crash, ++choice->seen) == 0) {
        strcpy(choice->name, name);
    }
}

bool sim_rot_segment(struct sim_world *world, struct disk *disk, struct check *check)
{
    struct choice group = {.world = world}, file = {.world = world};
    char directory[NAME_BYTES + 16], path[2 * NAME_BYTES + 16];
    uint64_t size;
    struct disk_file *handle;
    if (disk->ops->list(disk, "parts", on_name, &group) != OK || group.seen == 0)
        return false;
    snprintf(directory, sizeof directory, "parts/%s", group.name);
    if (disk->ops->list(disk, directory, on_name, &file) != OK || file.seen == 0)
        return false;
    snprintf(path, sizeof path, "%s/%s", directory, file.name);
    if (disk->ops->open(disk, path, DISK_READ, &handle) != OK)
        return false;
    bool done = disk->ops->size(disk, handle, &size) == OK && size > 0;
    disk->ops->close(disk, handle);
    check_rot_has_address(check);
    check_may_be_damaged(check, strtoull(group.name, NULL, 10));
    return done && flip(world, disk, path, rng_below(&world->crash, size));
}

/* --- the checkpoint store --- */

bool sim_rot_checkpoint(struct sim_world *world, struct kv *kv)
{
    struct rng *rng = &world->crash;
    static const char kinds[] = "BGMEDSR";
    const uint8_t from[9] = {(uint8_t)kinds[rng_below(rng, sizeof kinds - 1)], [8] = (uint8_t)rng_below(rng, 50)};
    struct kv_bytes key, value;
    struct kv_txn *txn;
    uint8_t copy[KV_KEY_BYTES_MAX];
    bool done = false;
    enum err error = kv->ops->begin(kv, false, &txn);
    ASSERT(error == OK);
    error = kv->ops->seek(kv, txn, (struct kv_bytes){from, sizeof from}, &key, &value);
    if (error == OK) {
        memcpy(copy, key.data, key.size);
        done = sim_kv_flip_bit(kv, (struct kv_bytes){copy, key.size}, rng_below(rng, 8 * value.size));
    }
    kv->ops->abort(kv, txn);
    return done;
}

/* --- while the broker runs --- */

struct wal_place {
    const struct sim_world *world;
    struct disk *shadow; /* what is durable */
    struct tree *tree;
    char path[NAME_BYTES];
    uint8_t header[WAL_BLOCK_BYTES];
    uint64_t base_lsn;
    uint64_t offset;
    uint8_t bad;
};

struct newer {
    uint64_t base_lsn;
    uint64_t count; /* of files behind that one */
};

static void on_newer(void *context, const char *name, uint64_t base_lsn, uint64_t salt, uint64_t boot, uint32_t version)
{
    struct newer *newer = context;
    newer->count += base_lsn > newer->base_lsn;
}

/* Whether the broker needs the file. What it released it may not have said yet on the disk. */
static bool is_needed(const struct sim_world *world, struct disk *shadow, uint64_t base_lsn)
{
    struct newer newer = {.base_lsn = base_lsn};
    const struct wal_inspector inspector = {.context = &newer, .file = on_newer};
    return wal_inspect(shadow, "wal", &inspector) == OK && newer.count < world->wal_files;
}

/* Neither released nor written over. */
static bool wal_is_there(const struct decay_item *item)
{
    const struct wal_place *place = item->place;
    struct inode *inode;
    if (tree_find(place->tree, TREE_NOW, place->path, &inode) != OK)
        return false;
    const uint8_t *data = inode_bytes(inode);
    return inode_size(inode, TREE_NOW) > place->offset && data[place->offset] == place->bad &&
           memcmp(data, place->header, sizeof place->header) == 0 &&
           is_needed(place->world, place->shadow, place->base_lsn);
}

/* How many of the newest batches stand in files that are needed. */
static uint32_t batches_needed(const struct sim_world *world, struct disk *shadow, const struct survey *survey)
{
    uint32_t first = survey->batches_count;
    while (first > 0 &&
           (first < survey->batches_count || is_needed(world, shadow, survey->batches[first - 1].base_lsn)) &&
           (first == survey->batches_count || survey->batches[first - 1].base_lsn == survey->batches[first].base_lsn ||
            is_needed(world, shadow, survey->batches[first - 1].base_lsn))) {
        first--;
    }
    return survey->batches_count - first;
}

void sim_rot_running_wal(struct sim_world *world, struct sim_disk *disk, struct decay *decay)
{
    struct survey survey = {.batches = calloc(BATCHES_MAX, sizeof *survey.batches)};
    struct inode *inode;
    struct disk *shadow = sim_disk_shadow(disk);
    ASSERT(survey.batches != NULL);
    const struct wal_inspector inspector = {.context = &survey, .file = on_file, .batch = on_batch};
    bool reads = wal_inspect(shadow, "wal", &inspector) == OK;
    uint32_t needed = reads ? batches_needed(world, shadow, &survey) : 0;
    if (needed > 1) {
        uint64_t back = sim_log_between(&world->media, 1, needed - 1);
        const struct place *batch = &survey.batches[survey.batches_count - 1 - back];
        uint64_t offset = WAL_BLOCK_BYTES + batch->lsn - batch->base_lsn + rng_below(&world->media, batch->length);
        if (tree_find(sim_disk_tree(disk), TREE_NOW, batch->path, &inode) == OK) {
            struct wal_place *place = malloc(sizeof *place);
            ASSERT(place != NULL);
            inode_flip_bit(inode, offset, (unsigned)rng_below(&world->media, 8));
            *place = (struct wal_place){.world = world,
                                        .shadow = shadow,
                                        .tree = sim_disk_tree(disk),
                                        .base_lsn = batch->base_lsn,
                                        .offset = offset,
                                        .bad = inode_bytes(inode)[offset]};
            strcpy(place->path, batch->path);
            memcpy(place->header, inode_bytes(inode), sizeof place->header);
            world_log(world, "rot: %s at %llu", batch->path, (unsigned long long)offset);
            world_fault(world, FAULT_RUST);
            decay_begins(decay, &(struct decay_item){.kind = DECAY_WAL,
                                                     .from = (int64_t)batch->lsn,
                                                     .end = (int64_t)(batch->lsn + batch->length),
                                                     .rounds = 1,
                                                     .place = place,
                                                     .is_there = wal_is_there});
        }
    }
    free(survey.batches);
}

#define ROWS_PASSED_MAX 4u
#define GROUP_KEY_BYTES 9u /* type, group */
#define CRC_BYTES       4u /* at the end of each value */

struct row_place {
    struct kv *kv;
    uint8_t key[KV_KEY_BYTES_MAX];
    size_t key_size;
    size_t bit;
    size_t value_size;
    uint8_t value[]; /* as it decayed */
};

static struct kv_bytes row_key(const struct row_place *place)
{
    return (struct kv_bytes){place->key, place->key_size};
}

static bool row_is_in(const struct row_place *place, struct kv *kv)
{
    struct kv_txn *txn;
    struct kv_bytes value;
    enum err error = kv->ops->begin(kv, false, &txn);
    if (error != OK)
        return true; /* its process is dead: nobody looks */
    bool is_in = kv->ops->get(kv, txn, row_key(place), &value) == OK && value.size == place->value_size &&
                 memcmp(value.data, place->value, value.size) == 0;
    kv->ops->abort(kv, txn);
    return is_in;
}

static bool row_is_there(const struct decay_item *item)
{
    const struct row_place *place = item->place;
    return row_is_in(place, place->kv);
}

static bool has_type(struct kv_bytes key, char type)
{
    const uint8_t *bytes = key.data;
    return bytes[0] == (uint8_t)type && (type != 'R' || (key.size > 1 && bytes[1] == 't'));
}

/* The row to decay; NULL: there is none. */
static struct row_place *row_choose(struct sim_world *world, struct kv *kv, struct kv_txn *txn, char type,
                                    uint64_t group, bool is_exact)
{
    struct row_place *place = NULL;
    uint8_t from[KV_KEY_BYTES_MAX] = {(uint8_t)type};
    size_t from_size = type == 'R' ? 2 : GROUP_KEY_BYTES;
    uint8_t first[GROUP_KEY_BYTES];
    struct kv_bytes key, value;
    store_be64(from + 1, group);
    if (type == 'R') {
        from[1] = 't';
    }
    memcpy(first, from, sizeof first);
    uint64_t passed = rng_below(&world->media, ROWS_PASSED_MAX);
    for (uint64_t i = 0; i <= passed; i++) {
        if (kv->ops->seek(kv, txn, (struct kv_bytes){from, from_size}, &key, &value) != OK || !has_type(key, type) ||
            ((is_exact || place != NULL) && !row_key_has_prefix(key, (struct kv_bytes){first, GROUP_KEY_BYTES})))
            break;
        memcpy(first, key.data, key.size < GROUP_KEY_BYTES ? key.size : GROUP_KEY_BYTES);
        free(place);
        place = calloc(1, sizeof *place + value.size);
        ASSERT(place != NULL);
        *place = (struct row_place){.kv = kv, .key_size = key.size, .value_size = value.size};
        memcpy(place->key, key.data, key.size);
        memcpy(place->value, value.data, value.size);
        memcpy(from, key.data, key.size);
        from_size = key.size;
        if (!row_key_next(from, &from_size))
            break;
    }
    return place;
}

static uint64_t group_of(const struct row_place *place)
{
    size_t at = place->key[0] == 'R' ? 2 : 1;
    return place->key_size >= at + sizeof(uint64_t) ? load_be64(place->key + at) : 0;
}

/* One row of a group at a time: the sum over its rows could not be undone for two. */
static bool is_rotten(const struct decay *decay, uint64_t group)
{
    uint32_t count;
    const struct decay_item *items = decay_items(decay, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (items[i].kind == DECAY_ROW && items[i].group == group && !items[i].is_over)
            return true;
    }
    return false;
}

void sim_rot_running_row(struct sim_world *world, struct kv *kv, char type, uint64_t group, bool is_exact,
                         uint32_t rounds, struct decay *decay)
{
    struct kv_txn *txn;
    if (kv->ops->begin(kv, false, &txn) != OK)
        return;
    struct row_place *place = row_choose(world, kv, txn, type, group, is_exact);
    kv->ops->abort(kv, txn);
    if (place == NULL || is_rotten(decay, group_of(place)) ||
        !row_is_whole(row_key(place), (struct kv_bytes){place->value, place->value_size}) ||
        (type != 'B' && decay_has_lost(decay, group_of(place)))) {
        free(place);
        return;
    }
    bool in_crc = rng_chance(&world->media, 0.3);
    place->bit = 8 * place->value_size - 1 - rng_below(&world->media, 8 * (in_crc ? CRC_BYTES : place->value_size));
    place->value[place->bit / 8] ^= (uint8_t)(1u << place->bit % 8);
    bool done = sim_kv_flip_bit(kv, row_key(place), place->bit);
    ASSERT(done);
    world_fault(world, FAULT_RUST);
    decay_begins(decay, &(struct decay_item){.kind = DECAY_ROW,
                                             .group = group_of(place),
                                             .type = (uint8_t)type,
                                             .rounds = rounds,
                                             .place = place,
                                             .is_there = row_is_there});
}

void sim_rot_undo(const struct decay *decay, struct kv *copy)
{
    uint32_t count;
    const struct decay_item *items = decay_items(decay, &count);
    for (uint32_t i = 0; i < count; i++) {
        const struct row_place *place = items[i].place;
        if (items[i].kind == DECAY_ROW && row_is_in(place, copy)) {
            sim_kv_flip_bit(copy, row_key(place), place->bit);
        }
    }
}
