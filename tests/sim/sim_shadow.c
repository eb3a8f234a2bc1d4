/* Reads the durable images. Values end in {mark, id, crc of the value before}, so that an id is found by its mark in
 * any bytes and known to be whole by its crc. */
#include "sim_shadow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/map.h"
#include "meta/meta.h"
#include "sim_kv.h"
#include "wal/wal.h"

#define MARK_BYTES        8u
#define TRAILER_BYTES     16u /* mark, id, crc */
#define FULL_ANSWER_EVERY 24u
#define DATA_ENTRY        3u /* broker/entry.h: ENTRY_DATA */

static const uint8_t mark[MARK_BYTES] = {0x93, 's', 0xf1, 'i', 0xa7, 'm', 0x0d, 0xe5};

/* --- values --- */

void shadow_value_write(uint8_t *data, uint32_t size, uint32_t id, uint64_t salt)
{
    ASSERT(size >= SHADOW_VALUE_BYTES_MIN);
    uint32_t body = size - TRAILER_BYTES;
    uint64_t word = salt ^ id;
    for (uint32_t i = 0; i < body; i++) {
        if (i % 8 == 0) {
            word = word * 0x9e3779b97f4a7c15u + 1;
        }
        data[i] = (uint8_t)(word >> (8 * (i % 8)));
    }
    memcpy(data + body, mark, MARK_BYTES);
    store_le32(data + body + MARK_BYTES, id);
    store_le32(data + body + MARK_BYTES + 4, crc32c(id, data, body));
}

uint32_t shadow_value_id(const uint8_t *data, uint32_t size)
{
    if (size < SHADOW_VALUE_BYTES_MIN || memcmp(data + size - TRAILER_BYTES, mark, MARK_BYTES) != 0)
        return 0;
    uint32_t id = load_le32(data + size - 8);
    return crc32c(id, data, size - TRAILER_BYTES) == load_le32(data + size - 4) ? id : 0;
}

/* --- sets of ids --- */

struct id_set {
    uint8_t *bits;
    uint32_t capacity; /* bits */
};

static void set_add(struct id_set *set, uint32_t id)
{
    if (id >= set->capacity) {
        uint32_t capacity = set->capacity == 0 ? 4096 : set->capacity;
        while (capacity <= id) {
            capacity *= 2;
        }
        set->bits = realloc(set->bits, capacity / 8);
        ASSERT(set->bits != NULL);
        memset(set->bits + set->capacity / 8, 0, (capacity - set->capacity) / 8);
        set->capacity = capacity;
    }
    set->bits[id / 8] |= (uint8_t)(1u << id % 8);
}

static bool set_has(const struct id_set *set, uint32_t id)
{
    return id < set->capacity && (set->bits[id / 8] & (1u << id % 8));
}

static void set_clear(struct id_set *set)
{
    if (set->capacity > 0) {
        memset(set->bits, 0, set->capacity / 8);
    }
}

/* Calls found for every id whose mark stands in data. */
static void scan_ids(const uint8_t *data, size_t size, uint32_t id_max, void (*found)(void *context, uint32_t id),
                     void *context)
{
    const uint8_t *at = data, *end = data + size;
    while ((at = memmem(at, (size_t)(end - at), mark, MARK_BYTES)) != NULL) {
        if (end - at >= TRAILER_BYTES) {
            uint32_t id = load_le32(at + MARK_BYTES);
            if (id > 0 && id <= id_max) {
                found(context, id);
            }
        }
        at += MARK_BYTES;
    }
}

/* --- the shadow --- */

struct group_facts {
    uint64_t group;
    uint64_t term;       /* highest durable */
    int64_t next_offset; /* of the durable checkpoint */
    UT_hash_handle hh;
};

struct shadow {
    struct sim_world *world;
    struct sim_disk *disk;
    struct kv *kv;
    struct check *check;
    struct id_set synced; /* seen in synced WAL bytes of this life */
    struct id_set found;  /* in whole batches of the durable WAL, at the last full reading */
    struct group_facts *groups;
    uint64_t read_at; /* syncs and commits at the last full reading; UINT64_MAX: never */
    uint64_t answers;
};

struct shadow *shadow_new(struct sim_world *world, struct sim_disk *disk, struct kv *kv, struct check *check)
{
    struct shadow *shadow = calloc(1, sizeof *shadow);
    ASSERT(shadow != NULL);
    shadow->world = world;
    shadow->disk = disk;
    shadow->kv = kv;
    shadow->check = check;
    shadow->read_at = UINT64_MAX;
    return shadow;
}

void shadow_free(struct shadow *shadow)
{
    struct group_facts *facts, *next;
    HASH_ITER(hh, shadow->groups, facts, next)
    {
        HASH_DEL(shadow->groups, facts);
        free(facts);
    }
    free(shadow->synced.bits);
    free(shadow->found.bits);
    free(shadow);
}

static struct group_facts *facts_of(struct shadow *shadow, uint64_t group)
{
    struct group_facts *facts;
    HASH_FIND(hh, shadow->groups, &group, sizeof group, facts);
    if (facts == NULL) {
        facts = calloc(1, sizeof *facts);
        ASSERT(facts != NULL);
        facts->group = group;
        HASH_ADD(hh, shadow->groups, group, sizeof facts->group, facts);
    }
    return facts;
}

static void on_synced_id(void *context, uint32_t id)
{
    set_add(&((struct shadow *)context)->synced, id);
}

void shadow_on_synced(void *context, const char *path, const uint8_t *data, uint64_t offset, uint64_t size)
{
    struct shadow *shadow = context;
    if (strncmp(path, "wal/", 4) == 0) {
        scan_ids(data + offset, size, check_messages(shadow->check), on_synced_id, shadow);
    }
}

void shadow_new_life(struct shadow *shadow)
{
    set_clear(&shadow->synced);
    set_clear(&shadow->found);
    struct group_facts *facts, *next;
    HASH_ITER(hh, shadow->groups, facts, next)
    {
        facts->term = 0;
        facts->next_offset = 0;
    }
    shadow->read_at = UINT64_MAX;
}

/* --- full reading: the WAL --- */

struct entry_ids {
    struct shadow *shadow;
    uint32_t first, count;
};

static void on_entry_id(void *context, uint32_t id)
{
    struct entry_ids *ids = context;
    set_add(&ids->shadow->found, id);
    if (ids->count == 0) {
        ids->first = id;
    } else if (id != ids->first + ids->count) {
        world_fail(ids->shadow->world, "W2", "a WAL entry holds message %u behind %u", id, ids->first + ids->count - 1);
    }
    ids->count++;
}

static void on_wal_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct shadow *shadow = context;
    struct group_facts *facts = facts_of(shadow, record->group);
    if (record->type == WAL_HARD_STATE && record->term > facts->term) {
        facts->term = record->term;
    }
    if (record->type != WAL_ENTRY)
        return;
    struct entry_ids ids = {.shadow = shadow};
    if (record->entry_type == DATA_ENTRY) {
        scan_ids(record->payload.data, record->payload.size, check_messages(shadow->check), on_entry_id, &ids);
    }
    check_entry(shadow->check, record->group, record->index, record->term, ids.first, ids.count);
}

/* --- full reading: the checkpoint store --- */

struct picture {
    struct shadow *shadow;
    struct check_image image;
    struct check_image_segment *segments;
    struct check_image_done *done;
    bool is_open;
    bool judge; /* report to the checker, else collect facts only */
    bool with_segments;
};

static void picture_close(struct picture *picture)
{
    if (picture->is_open && picture->judge) {
        picture->image.segments = picture->segments;
        picture->image.done = picture->done;
        check_image(picture->shadow->check, &picture->image);
    }
    picture->is_open = false;
}

static enum err on_group(void *context, const struct meta_group *group)
{
    struct picture *picture = context;
    picture_close(picture);
    struct group_facts *facts = facts_of(picture->shadow, group->group);
    facts->next_offset = group->next_offset;
    facts->term = group->term > facts->term ? group->term : facts->term;
    picture->image = (struct check_image){.group = group->group,
                                          .applied_index = group->applied_index,
                                          .next_offset = group->next_offset,
                                          .log_start = group->log_start};
    picture->is_open = group->kind == 1; /* TOPIC_DATA */
    return OK;
}

/* NULL when data[0, size) is exactly the batches from base to end. */
static const char *batches_fault(const uint8_t *data, uint64_t size, int64_t base, int64_t end)
{
    uint64_t at = 0;
    while (at < size) {
        struct batch_header header;
        if (batch_parse(data + at, size - at, &header) != OK || header.size_bytes > size - at)
            return "bytes that are no batch";
        if (!batch_crc_ok(data + at, header.size_bytes))
            return "a damaged batch";
        if (header.base_offset != base)
            return "a batch of another offset";
        base += header.last_offset_delta + 1;
        at += header.size_bytes;
    }
    return base == end ? NULL : "too few batches";
}

/* Judges the durable bytes of the file that a manifest row calls valid; its last partial block stands in the row
 * itself. */
static const char *segment_fault(struct shadow *shadow, uint64_t group, const struct meta_segment *segment)
{
    struct disk *disk = sim_disk_shadow(shadow->disk);
    struct disk_file *file;
    char path[128];
    snprintf(path, sizeof path, "parts/%llu/%020lld.log", (unsigned long long)group, (long long)segment->base_offset);
    if (segment->size_bytes == 0)
        return segment->base_offset == segment->end_offset ? NULL : "an empty segment";
    if (disk->ops->open(disk, path, DISK_READ, &file) != OK)
        return "no file";
    uint8_t *data = malloc(segment->size_bytes);
    ASSERT(data != NULL);
    size_t got = 0;
    enum err error = disk->ops->read(disk, file, data, segment->size_bytes, 0, &got);
    disk->ops->close(disk, file);
    uint64_t needed = segment->size_bytes - segment->tail_size;
    const char *fault = error != OK || got < needed ? "a short file" : NULL;
    if (fault == NULL) {
        memcpy(data + needed, segment->tail, segment->tail_size);
        fault = batches_fault(data, segment->size_bytes, segment->base_offset, segment->end_offset);
    }
    free(data);
    return fault;
}

static enum err on_segment(void *context, uint64_t group, const struct meta_segment *segment)
{
    struct picture *picture = context;
    if (!picture->judge || !picture->is_open)
        return OK;
    uint32_t i = picture->image.segments_count++;
    picture->segments = realloc(picture->segments, (i + 1) * sizeof *picture->segments);
    ASSERT(picture->segments != NULL);
    picture->segments[i] = (struct check_image_segment){
        .base_offset = segment->base_offset,
        .end_offset = segment->end_offset,
        .fault = picture->with_segments ? segment_fault(picture->shadow, group, segment) : NULL};
    return OK;
}

static enum err on_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    return OK;
}

static enum err on_done(void *context, uint64_t group, const struct done_row *row)
{
    struct picture *picture = context;
    if (!picture->judge || !picture->is_open || row->count == 0)
        return OK;
    uint32_t i = picture->image.done_count++;
    picture->done = realloc(picture->done, (i + 1) * sizeof *picture->done);
    ASSERT(picture->done != NULL);
    const struct done_batch *last = &row->batches[row->count - 1];
    picture->done[i] = (struct check_image_done){row->producer_id, row->epoch, last->last_sequence, last->offset};
    return OK;
}

static enum err on_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    return OK;
}

static void read_checkpoints(struct shadow *shadow, bool judge, bool with_segments)
{
    struct kv *durable = sim_kv_copy_durable(shadow->kv);
    struct picture picture = {.shadow = shadow, .judge = judge, .with_segments = with_segments};
    const struct meta_visitor visitor = {.context = &picture,
                                         .group = on_group,
                                         .segment = on_segment,
                                         .epoch = on_epoch,
                                         .done = on_done,
                                         .state = on_state};
    enum err error = meta_load(durable, &visitor);
    picture_close(&picture);
    if (error != OK) {
        world_fail(shadow->world, "S7", "the durable checkpoint store does not load: %s", err_name(error));
    }
    free(picture.segments);
    free(picture.done);
    sim_kv_free(durable);
}

static void read_all(struct shadow *shadow)
{
    uint64_t now = sim_disk_syncs(shadow->disk) + sim_kv_commits_count(shadow->kv);
    if (now == shadow->read_at)
        return;
    shadow->read_at = now;
    set_clear(&shadow->found);
    const struct wal_inspector inspector = {.context = shadow, .record = on_wal_record};
    enum err error = wal_inspect(sim_disk_shadow(shadow->disk), "wal", &inspector);
    if (error != OK && error != ERR_NO_FILE) {
        world_fail(shadow->world, "W2", "the durable WAL does not read: %s", err_name(error));
    }
    read_checkpoints(shadow, false, false);
}

/* --- questions --- */

static bool holds(const struct id_set *set, uint32_t first, uint32_t count)
{
    for (uint32_t id = first; id < first + count; id++) {
        if (!set_has(set, id))
            return false;
    }
    return true;
}

bool shadow_holds(struct shadow *shadow, uint64_t group, uint32_t first, uint32_t count, int64_t offset)
{
    if (++shadow->answers % FULL_ANSWER_EVERY != 0 && holds(&shadow->synced, first, count))
        return true;
    read_all(shadow);
    if (holds(&shadow->found, first, count))
        return true;
    return offset >= 0 && offset + count <= facts_of(shadow, group)->next_offset;
}

uint64_t shadow_term(struct shadow *shadow, uint64_t group, uint64_t wanted)
{
    struct group_facts *facts = facts_of(shadow, group);
    if (facts->term < wanted) {
        read_all(shadow);
    }
    return facts->term;
}

void shadow_check(struct shadow *shadow, bool with_segments)
{
    read_all(shadow);
    if (!shadow->world->failed) {
        read_checkpoints(shadow, true, with_segments);
    }
}
