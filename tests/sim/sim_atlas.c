/* Choosing a segment, walking its batches, damaging a sector among them. */
#include "sim_atlas.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "sim_ledger.h"

struct choice {
    const struct sim_atlas *atlas;
    const char *dir;
    char before[64]; /* the last .log of this directory: with another one behind it, it is finished */
    uint64_t seen;   /* candidates so far: each one replaces the choice with the right chance */
    char path[160];
    uint64_t group;
    int64_t base_offset;
};

static void visit_file(void *context, const char *name)
{
    struct choice *choice = context;
    const char *suffix = strstr(name, ".log");
    if (suffix == NULL || suffix[4] != '\0')
        return;
    if (choice->before[0] != '\0' && rng_below(&choice->atlas->world->media, ++choice->seen) == 0) {
        snprintf(choice->path, sizeof choice->path, "parts/%s/%s", choice->dir, choice->before);
        choice->group = strtoull(choice->dir, NULL, 10);
        choice->base_offset = strtoll(choice->before, NULL, 10);
    }
    snprintf(choice->before, sizeof choice->before, "%s", name);
}

static void visit_dir(void *context, const char *name)
{
    struct choice *choice = context;
    char path[96];
    if (name[0] < '0' || name[0] > '9')
        return; /* spares hold nothing */
    snprintf(path, sizeof path, "parts/%s", name);
    choice->dir = name;
    choice->before[0] = '\0';
    tree_list(sim_disk_tree(choice->atlas->disk), TREE_NOW, path, visit_file, choice);
}

/* The batches of a segment from its start: calls visit(from, size) for each; returns where they end. */
static uint64_t walk(const uint8_t *data, uint64_t size, int64_t base_offset,
                     void (*visit)(void *context, const struct batch_header *header, uint64_t at), void *context)
{
    uint64_t at = 0;
    while (at < size) {
        struct batch_header header;
        if (batch_parse(data + at, size - at, &header) != OK || header.size_bytes > size - at ||
            header.base_offset != base_offset || !batch_crc_ok(data + at, header.size_bytes))
            break;
        if (visit != NULL) {
            visit(context, &header, at);
        }
        base_offset += header.last_offset_delta + 1;
        at += header.size_bytes;
    }
    return at;
}

struct wounding {
    struct sim_atlas *atlas;
    struct sim_wound *wound;
    const uint8_t *data;
    uint64_t from; /* byte */
};

static void visit_batch(void *context, const struct batch_header *header, uint64_t at)
{
    struct wounding *w = context;
    if (at + header->size_bytes <= w->from)
        return;
    if (w->wound->first < 0) {
        w->wound->first = header->base_offset;
    }
    w->wound->end = header->base_offset + header->last_offset_delta + 1;
    w->atlas->witness(w->atlas->context, w->wound->group, w->data + at, header->size_bytes);
}

struct wound_place {
    struct tree *tree;
    struct ledger *ledger;
    char path[160];
    struct inode *inode; /* not owned: compared with what stands under that name */
    uint64_t offset;
    uint8_t sector[SECTOR_BYTES]; /* as it decayed */
};

/* Deleted files, what a deleted group left because the disk did not remove it, and what lies below log start need not
 * be found. */
static bool wound_is_there(const struct decay_item *item)
{
    const struct wound_place *place = item->place;
    struct inode *inode;
    uint8_t sector[SECTOR_BYTES] = {0};
    if (tree_find(place->tree, TREE_NOW, place->path, &inode) != OK || inode != place->inode ||
        !ledger_is_watched(place->ledger, item->group) || ledger_start(place->ledger, item->group) >= item->end)
        return false;
    inode_read(inode, TREE_NOW, sector, sizeof sector, place->offset);
    return memcmp(sector, place->sector, sizeof sector) == 0;
}

static void tell_decay(struct sim_atlas *atlas, const struct sim_wound *wound, struct wound_place *place,
                       uint32_t rounds)
{
    decay_begins(atlas->decay, &(struct decay_item){.kind = DECAY_SEGMENT,
                                                    .group = wound->group,
                                                    .from = wound->first,
                                                    .end = wound->end,
                                                    .rounds = rounds,
                                                    .place = place,
                                                    .is_there = wound_is_there});
}

void sim_atlas_wound(struct sim_atlas *atlas, uint32_t rounds)
{
    struct choice choice = {.atlas = atlas};
    struct tree *tree = sim_disk_tree(atlas->disk);
    struct inode *inode;
    struct rng *rng = &atlas->world->media;
    if (atlas->count == ATLAS_WOUNDS_MAX || tree_list(tree, TREE_NOW, "parts", visit_dir, &choice) != OK ||
        choice.seen == 0 || tree_find(tree, TREE_NOW, choice.path, &inode) != OK)
        return;
    const uint8_t *data = inode_bytes(inode);
    uint64_t size = inode_size(inode, TREE_NOW);
    uint64_t filled = walk(data, size, choice.base_offset, NULL, NULL);
    if (filled == 0)
        return;
    struct sim_wound *wound = &atlas->wounds[atlas->count++];
    *wound = (struct sim_wound){.group = choice.group, .base_offset = choice.base_offset, .first = -1};
    uint64_t sector = rng_below(rng, (filled + SECTOR_BYTES - 1) / SECTOR_BYTES);
    struct wounding w = {.atlas = atlas, .wound = wound, .data = data, .from = sector * SECTOR_BYTES};
    walk(data, size, choice.base_offset, visit_batch, &w);
    struct wound_place *place = calloc(1, sizeof *place);
    uint8_t before[SECTOR_BYTES] = {0};
    ASSERT(place != NULL);
    *place =
        (struct wound_place){.tree = tree, .ledger = atlas->ledger, .inode = inode, .offset = sector * SECTOR_BYTES};
    memcpy(place->path, choice.path, sizeof place->path);
    inode_read(inode, TREE_NOW, before, sizeof before, place->offset);
    inode_rot_at(inode, sector * SECTOR_BYTES, rng);
    inode_read(inode, TREE_NOW, place->sector, sizeof place->sector, place->offset);
    uint64_t held = filled - place->offset < SECTOR_BYTES ? filled - place->offset : SECTOR_BYTES; /* by batches */
    if (memcmp(before, place->sector, held) != 0) {
        world_fault(atlas->world, FAULT_RUST);
        tell_decay(atlas, wound, place, rounds);
    } else {
        free(place);
    }
    world_log(atlas->world, "rot: %s sector %" PRIu64 ", offsets [%" PRId64 ", %" PRId64 ")", choice.path, sector,
              wound->first, wound->end);
}

int64_t sim_atlas_behind(const struct sim_atlas *atlas, uint64_t group, int64_t offset)
{
    int64_t behind = -1;
    for (uint32_t i = 0; atlas != NULL && i < atlas->count; i++) {
        const struct sim_wound *wound = &atlas->wounds[i];
        if (wound->group == group && wound->first <= offset && offset < wound->end && wound->end > behind) {
            behind = wound->end;
        }
    }
    return behind;
}

bool sim_atlas_knows(const struct sim_atlas *atlas, uint64_t group)
{
    for (uint32_t i = 0; atlas != NULL && i < atlas->count; i++) {
        if (atlas->wounds[i].group == group)
            return true;
    }
    return false;
}

bool sim_atlas_has(const struct sim_atlas *atlas, uint64_t group, int64_t base_offset)
{
    for (uint32_t i = 0; atlas != NULL && i < atlas->count; i++) {
        if (atlas->wounds[i].group == group && atlas->wounds[i].base_offset == base_offset)
            return true;
    }
    return false;
}
