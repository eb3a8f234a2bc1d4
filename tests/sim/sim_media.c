/* Faults of a running disk, drawn call by call. Rates differ by orders of magnitude from seed to seed: a disk that errs
 * once a run finds other mistakes than one that errs at every third call. */
#include "sim_media.h"

#include <string.h>

#include "base/assert.h"

#define ELSEWHERE_ONE_IN  50 /* errors outside of segments end the process: most lives should get on */
#define EXCUSE_US         30000000u
#define SECTORS_PER_BLOCK 8u

static bool is_segment(const char *path)
{
    return strncmp(path, "parts/", 6) == 0;
}

static bool happens_by_chance(struct sim_media *media, enum sim_fault fault, double chance)
{
    if (chance <= 0 || !rng_chance(&media->world->media, chance))
        return false;
    world_fault(media->world, fault);
    return true;
}

static bool happens(struct sim_media *media, enum sim_fault fault, double chance)
{
    chance = media->is_due[fault] && chance > 0 ? 1 : chance;
    media->is_due[fault] = false;
    return happens_by_chance(media, fault, chance);
}

static double draw_chance(struct rng *rng, bool is_on, uint64_t one_in_least, uint64_t one_in_most)
{
    double chance = 1.0 / (double)sim_log_between(rng, one_in_least, one_in_most);
    return is_on ? chance : 0;
}

void sim_media_init(struct sim_media *media, struct sim_world *world)
{
    *media = (struct sim_media){.world = world};
}

void sim_media_draw(struct sim_media *media, const bool faults[FAULT_CLASSES])
{
    struct rng *rng = &media->world->media;
    media->options = (struct sim_media_options){
        .read_error = draw_chance(rng, faults[FAULT_READ_ERROR], 4, 1000),
        .write_error = draw_chance(rng, faults[FAULT_WRITE_ERROR], 4, 1000),
        .name_error = draw_chance(rng, faults[FAULT_WRITE_ERROR], 4, 1000),
        .misread = draw_chance(rng, faults[FAULT_MISREAD], 4, 1000),
        .latent = draw_chance(rng, faults[FAULT_LATENT], 4, 1000),
        .files_error = draw_chance(rng, faults[FAULT_FILES], 4, 1000),
        .excuse_us = EXCUSE_US,
    };
    media->options.kv_full = draw_chance(rng, faults[FAULT_KV], 20, 5000);
    media->options.kv_error = draw_chance(rng, faults[FAULT_KV], 20, 5000);
    uint64_t call_us_max = sim_log_between(rng, 10, 30000);
    media->options.call_us_max = faults[FAULT_LATENCY] ? call_us_max : 0;
}

static void raise_to(double *chance, uint64_t one_in)
{
    if (*chance > 0 && *chance * (double)one_in < 1) {
        *chance = 1.0 / (double)one_in;
    }
}

void sim_media_raise(struct sim_media *media)
{
    raise_to(&media->options.read_error, 100);
    raise_to(&media->options.write_error, 300);
    raise_to(&media->options.name_error, 300);
    raise_to(&media->options.misread, 50);
    raise_to(&media->options.latent, 50);
    raise_to(&media->options.files_error, 20);
    raise_to(&media->options.kv_full, 200);
    raise_to(&media->options.kv_error, 500);
}

static void latent_forget(struct sim_media_latent *latent)
{
    inode_unref(latent->inode);
    latent->inode = NULL;
}

void sim_media_forget(struct sim_media *media)
{
    for (int i = 0; i < MEDIA_LATENT_MAX; i++) {
        latent_forget(&media->latent[i]);
    }
}

void sim_media_calm(struct sim_media *media)
{
    media->options = (struct sim_media_options){0};
    sim_media_forget(media);
}

void sim_media_new_life(struct sim_media *media)
{
    media->broke = media->erred = false;
}

/* From now on, and until the answers that are under way have arrived, CORRUPT is honest. */
static void excuse(struct sim_media *media)
{
    media->world->corrupt_until_us = media->world->now_us + media->options.excuse_us;
}

enum err sim_media_open(struct sim_media *media, const char *path)
{
    if (!is_segment(path) || !happens(media, FAULT_FILES, media->options.files_error))
        return OK;
    world_log(media->world, "    disk: no descriptor for %s", path);
    media->erred = true;
    return ERR_TOO_MANY_FILES;
}

enum err sim_media_name(struct sim_media *media, const char *path)
{
    if (!is_segment(path) || !happens(media, FAULT_WRITE_ERROR, media->options.name_error))
        return OK;
    world_log(media->world, "    disk: error at the name %s", path);
    media->erred = true;
    return ERR_IO;
}

enum err sim_media_write(struct sim_media *media, const char *path, struct inode *inode, uint64_t offset, uint64_t size)
{
    double chance = media->options.write_error;
    if (is_segment(path) ? happens(media, FAULT_WRITE_ERROR, chance)
                         : happens_by_chance(media, FAULT_WRITE_ERROR, chance / ELSEWHERE_ONE_IN)) {
        world_log(media->world, "    disk: error writing %s at %llu", path, (unsigned long long)offset);
        media->broke = media->broke || !is_segment(path);
        media->erred = true;
        return ERR_IO;
    }
    for (int i = 0; i < MEDIA_LATENT_MAX; i++) { /* a sector that is written anew can be read again */
        struct sim_media_latent *latent = &media->latent[i];
        uint64_t at = latent->sector * SECTOR_BYTES;
        if (latent->inode == inode && at < offset + size && offset < at + SECTOR_BYTES) {
            latent_forget(latent);
        }
    }
    return OK;
}

/* --- reads --- */

static bool hits_latent(const struct sim_media *media, const struct inode *inode, uint64_t offset, size_t size)
{
    for (int i = 0; i < MEDIA_LATENT_MAX; i++) {
        const struct sim_media_latent *latent = &media->latent[i];
        uint64_t at = latent->sector * SECTOR_BYTES;
        if (latent->inode == inode && inode != NULL && at < offset + size && offset < at + SECTOR_BYTES)
            return true;
    }
    return false;
}

static void make_latent(struct sim_media *media, struct inode *inode, uint64_t sector)
{
    struct sim_media_latent *latent = &media->latent[rng_below(&media->world->media, MEDIA_LATENT_MAX)];
    latent_forget(latent);
    latent->inode = inode_ref(inode);
    latent->sector = sector;
}

/* A piece of data[0, size) is not what was written there. */
static void misread(struct sim_media *media, struct inode *inode, uint8_t *data, size_t size, uint64_t offset)
{
    struct rng *rng = &media->world->media;
    uint64_t begin = rng_below(rng, size);
    uint64_t room = size - begin;
    uint64_t length = room < SECTOR_BYTES ? room : SECTOR_BYTES;
    switch (rng_below(rng, 4)) {
    case 0:
        data[begin] ^= (uint8_t)(1u << rng_below(rng, 8));
        break;
    case 1:
        memset(data + begin, 0, length);
        break;
    case 2: /* misdirected: from elsewhere in the file */
        inode_read(inode, TREE_NOW, data + begin, length, rng_below(rng, inode_size(inode, TREE_NOW)));
        break;
    default: /* stale: the block as it was at the last sync */
        inode_read(inode, TREE_DURABLE, data, size, offset);
        break;
    }
}

/* A start looks whether the last, partial block was torn. A look that brings what it hopes for would be a second fault.
 */
static bool is_tail_check(size_t size, uint64_t offset)
{
    return size < SECTORS_PER_BLOCK * SECTOR_BYTES && offset % (SECTORS_PER_BLOCK * SECTOR_BYTES) == 0;
}

enum err sim_media_read(struct sim_media *media, const char *path, struct inode *inode, size_t size, uint64_t offset)
{
    const struct sim_media_options *options = &media->options;
    if (!is_segment(path)) {
        if (!happens_by_chance(media, FAULT_READ_ERROR, options->read_error / ELSEWHERE_ONE_IN))
            return OK;
        world_log(media->world, "    disk: error reading %s at %llu", path, (unsigned long long)offset);
        media->broke = true;
        return ERR_IO;
    }
    if (size > 0 && happens(media, FAULT_LATENT, options->latent)) {
        uint64_t sector = (offset + rng_below(&media->world->media, size)) / SECTOR_BYTES;
        /* Never in the last block: an unreadable sector and a torn overwrite of it would be two faults. */
        if (sector / SECTORS_PER_BLOCK < (inode_size(inode, TREE_NOW) - 1) / SECTORS_PER_BLOCK / SECTOR_BYTES) {
            make_latent(media, inode, sector);
        }
    }
    if (hits_latent(media, inode, offset, size) || happens(media, FAULT_READ_ERROR, options->read_error)) {
        world_log(media->world, "    disk: error reading %s at %llu", path, (unsigned long long)offset);
        excuse(media);
        return ERR_IO;
    }
    return OK;
}

void sim_media_spoil(struct sim_media *media, const char *path, struct inode *inode, uint8_t *data, size_t size,
                     uint64_t offset)
{
    if (is_segment(path) && size > 0 && !is_tail_check(size, offset) &&
        happens(media, FAULT_MISREAD, media->options.misread)) {
        world_log(media->world, "    disk: misread of %s at %llu", path, (unsigned long long)offset);
        excuse(media);
        misread(media, inode, data, size, offset);
    }
}

enum err sim_media_kv(struct sim_media *media, const char *point)
{
    bool is_commit = strcmp(point, "kv.commit") == 0;
    if (is_commit && happens_by_chance(media, FAULT_KV, media->options.kv_error)) {
        world_log(media->world, "    kv: a commit fails");
        media->broke = true;
        return ERR_IO;
    }
    if (strcmp(point, "kv.begin") != 0 && happens(media, FAULT_KV, media->options.kv_full)) {
        world_log(media->world, "    kv: no room at %s", point);
        media->erred = true;
        media->world->no_room_us = media->world->now_us;
        return ERR_STORAGE_FULL;
    }
    return OK;
}

uint64_t sim_media_call_us(struct sim_media *media)
{
    uint64_t most = media->options.call_us_max;
    if (most == 0)
        return 0;
    media->world->tally.faults[FAULT_LATENCY]++;
    return sim_log_between(&media->world->media, 1, most);
}
