/* Finds an address with the product's offline reader and flips a bit through the port. */
#include "sim_rot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/limits.h"
#include "wal/wal.h"

#define BATCHES_MAX    16384u
#define GROUPS_PER_ROT 64u
#define NAME_BYTES     64u

struct place {
    char path[NAME_BYTES];
    uint64_t base_lsn; /* of its file */
    uint64_t lsn;
    uint32_t length;
};

struct survey {
    struct place file; /* the one being read */
    struct place *batches;
    uint32_t batches_count;
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
    if (strcmp(verdict, "ok") == 0 && survey->batches_count < BATCHES_MAX) {
        struct place *place = &survey->batches[survey->batches_count++];
        *place = survey->file;
        place->lsn = lsn;
        place->length = length;
    }
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
        if (!is_last_of_file) { /* else the next one, of a later life, may not vouch for it: then all are damaged */
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
