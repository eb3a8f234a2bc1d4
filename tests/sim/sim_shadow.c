/* Reads the durable images and feeds the ledger. Values end in {mark, id, crc of the value before}, so that an id is
 * found by its mark in any bytes and known to be whole by its crc. */
#include "sim_shadow.h"
#include "sim_atlas.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/map.h"
#include "broker/entry.h"
#include "meta/meta.h"
#include "sim_decay.h"
#include "sim_kv.h"
#include "sim_ledger.h"
#include "sim_rot.h"
#include "wal/format.h"
#include "wal/wal.h"

#define MARK_BYTES        8u
#define TRAILER_BYTES     16u /* mark, id, crc */
#define FULL_ANSWER_EVERY 24u

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

/* --- the shadow --- */

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
    struct ledger *ledger; /* the check's */
    struct group_facts *groups;
    uint64_t read_at; /* syncs and commits at the last full reading; UINT64_MAX: never */
    uint64_t answers;
    bool rotten;
};

struct shadow *shadow_new(struct sim_world *world, struct sim_disk *disk, struct kv *kv, struct check *check)
{
    struct shadow *shadow = calloc(1, sizeof *shadow);
    ASSERT(shadow != NULL);
    shadow->world = world;
    shadow->disk = disk;
    shadow->kv = kv;
    shadow->check = check;
    shadow->ledger = check_ledger(check);
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

/* --- records of the WAL --- */

struct entry_ids {
    struct sim_world *world;
    uint32_t first, count;
};

static void on_entry_id(void *context, uint32_t id)
{
    struct entry_ids *ids = context;
    if (ids->count == 0) {
        ids->first = id;
    } else if (id != ids->first + ids->count) {
        world_fail(ids->world, "W2", "a WAL entry holds message %u behind %u", id, ids->first + ids->count - 1);
    }
    ids->count++;
}

/* What kind of entry it is, with what the ledger's machine needs of it. */
static void read_payload(const struct wal_record *record, struct ledger_entry *entry)
{
    struct entry_leader leader;
    struct entry_timeout timeout;
    struct batch_header header;
    int64_t log_start;
    if (record->entry_type == ENTRY_LEADER && entry_decode_leader(record->payload, &leader) == OK) {
        entry->kind = LEDGER_CLOCK;
        entry->clock_ms = leader.clock_ms;
    } else if (record->entry_type == ENTRY_TIMEOUT && entry_decode_timeout(record->payload, &timeout) == OK) {
        entry->kind = LEDGER_CLOCK;
        entry->clock_ms = timeout.clock_ms;
        entry->elapsed_ms = timeout.elapsed_ms;
        entry->expire_ms = timeout.expire_ms;
    } else if (record->entry_type == ENTRY_LOG_START && entry_decode_log_start(record->payload, &log_start) == OK) {
        entry->kind = LEDGER_START;
        entry->log_start = log_start;
    } else if (record->entry_type == ENTRY_DATA &&
               batch_parse(record->payload.data, record->payload.size, &header) == OK) {
        entry->kind = LEDGER_DATA;
        entry->producer_id = header.producer_id;
        entry->epoch = header.producer_epoch;
        entry->sequence = header.base_sequence;
        entry->records_count = header.records_count;
        entry->size_bytes = record->payload.size;
        entry->max_timestamp = header.max_timestamp;
    }
}

uint32_t shadow_read_entry(struct sim_world *world, const struct wal_record *record, uint32_t id_max,
                           struct ledger_entry *ret_entry)
{
    struct entry_ids ids = {.world = world};
    *ret_entry = (struct ledger_entry){.group = record->group, .index = record->index, .term = record->term};
    read_payload(record, ret_entry);
    if (record->entry_type == ENTRY_DATA) {
        scan_ids(record->payload.data, record->payload.size, id_max, on_entry_id, &ids);
    }
    ret_entry->first = ids.first;
    return ids.count;
}

static void durable_entry(struct shadow *shadow, const struct wal_record *record)
{
    struct ledger_entry entry;
    uint32_t count = shadow_read_entry(shadow->world, record, check_messages(shadow->check), &entry);
    ledger_durable(shadow->ledger, &entry);
    check_entry(shadow->check, record->group, record->index, record->term, entry.first, count);
}

static void durable_record(struct shadow *shadow, const struct wal_record *record)
{
    struct entry_birth birth;
    if (record->type == WAL_ENTRY) {
        durable_entry(shadow, record);
    } else if (record->type == WAL_HARD_STATE) {
        struct group_facts *facts = facts_of(shadow, record->group);
        facts->term = record->term > facts->term ? record->term : facts->term;
    } else if (record->type == WAL_GROUP_NEW && entry_decode_birth(record->payload, &birth) == OK) {
        const struct ledger_policy policy = {birth.config.retention_bytes, birth.config.retention_ms};
        ledger_born(shadow->ledger, record->group, &policy);
    }
}

/* --- as it is synced --- */

static void read_all(struct shadow *shadow);

/* The length of the whole batch at data[at], 0: there is none that ends before `end`, with what fills its last block:
 * recovery takes no other. */
static uint32_t whole_batch(const uint8_t *data, uint64_t at, uint64_t end, const struct wal__file_header *file)
{
    struct wal__batch_header header;
    uint64_t lsn = file->base_lsn + at - WAL_BLOCK_BYTES;
    if (end - at < WAL__BATCH_HEADER_BYTES || !wal__batch_header_decode(data + at, file->salt, lsn, &header) ||
        wal__span(header.length) > end - at)
        return 0;
    uint32_t crc =
        crc32c(wal__seed(file->salt), data + at + WAL__BATCH_HEADER_BYTES, header.length - WAL__BATCH_HEADER_BYTES);
    return crc == header.body_crc ? header.length : 0;
}

static void durable_batch(struct shadow *shadow, const uint8_t *batch, uint32_t length)
{
    size_t at = WAL__BATCH_HEADER_BYTES;
    while (at != 0 && at < length) {
        struct wal_record record;
        at = wal__record_decode(batch, length, at, &record);
        if (at != 0 && (unsigned)record.type != WAL__RECORD_GROUPS) {
            durable_record(shadow, &record);
        }
    }
}

void shadow_on_synced(void *context, const char *path, const uint8_t *data, uint64_t offset, uint64_t size)
{
    struct shadow *shadow = context;
    struct wal__file_header file;
    uint64_t end = offset + size;
    if (path == NULL) {
        read_all(shadow); /* a sync of everything takes along what the WAL has written and not synced */
        return;
    }
    if (strncmp(path, "wal/", 4) != 0 || end <= WAL_BLOCK_BYTES || wal__file_header_decode(data, &file) != OK)
        return;
    uint64_t at = offset < WAL_BLOCK_BYTES ? WAL_BLOCK_BYTES : offset;
    while (at < end) {
        uint32_t length = whole_batch(data, at, end, &file);
        durable_batch(shadow, data + at, length);
        at += length > 0 ? wal__span(length) : WAL_BLOCK_BYTES;
    }
}

/* --- full reading: the WAL --- */

static void on_wal_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct shadow *shadow = context;
    durable_record(shadow, record);
    if (record->type == WAL_ENTRY) {
        ledger_found_entry(shadow->ledger, record->group, record->index);
    } else if (record->type == WAL_HARD_STATE) {
        ledger_found_term(shadow->ledger, record->group, record->term);
    } else if (record->type == WAL_GROUP_NEW) {
        ledger_found_birth(shadow->ledger, record->group);
    }
}

/* The next start will find the group marked as damaged, or will not find what it is. */
static bool is_marked(void *context, uint64_t group)
{
    struct kv *kv = context;
    struct kv_txn *txn;
    struct meta_group row;
    enum err error = kv->ops->begin(kv, false, &txn);
    ASSERT(error == OK);
    error = meta_get_group(kv, txn, group, &row);
    kv->ops->abort(kv, txn);
    return error == OK ? row.damaged : error != ERR_NO_FILE;
}

void shadow_new_life(struct shadow *shadow)
{
    struct kv *kv = sim_kv_copy_visible(shadow->kv);
    decay_keep_marked(shadow->world->decay, is_marked, kv);
    sim_kv_free(kv);
    struct group_facts *facts, *next;
    HASH_ITER(hh, shadow->groups, facts, next)
    {
        facts->term = 0;
        facts->next_offset = 0;
    }
    shadow->read_at = UINT64_MAX;
}

/* --- full reading: the checkpoint store --- */

struct picture {
    struct shadow *shadow;
    struct check_image image;
    struct check_image_segment *segments;
    struct check_image_done *done;
    struct ledger_picture ledger;
    struct ledger_row *rows;
    bool is_open;
    bool judge; /* report to the checker, else collect facts only */
    bool with_segments;
    bool is_resting; /* only this is judged */
};

static void picture_close(struct picture *picture)
{
    if (picture->is_open && picture->judge) {
        picture->image.segments = picture->segments;
        picture->image.done = picture->done;
        if (picture->is_resting) {
            check_resting(picture->shadow->check, &picture->image);
            picture->is_open = false;
            return;
        }
        check_image(picture->shadow->check, &picture->image);
        picture->ledger.rows = picture->rows;
        ledger_judge_picture(picture->shadow->ledger, &picture->ledger);
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
    picture->ledger = (struct ledger_picture){.group = group->group,
                                              .applied_index = group->applied_index,
                                              .next_offset = group->next_offset,
                                              .log_start = group->log_start,
                                              .log_clock_ms = group->log_clock_ms,
                                              .idle_clock_ms = group->idle_clock_ms};
    picture->is_open = group->kind == 1; /* TOPIC_DATA */
    if (!picture->judge) {
        ledger_found_picture(picture->shadow->ledger, group->group, group->applied_index);
        ledger_found_term(picture->shadow->ledger, group->group, group->term);
    }
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
    if (sim_atlas_has(shadow->world->atlas, group, segment->base_offset))
        return NULL; /* it rots, and its readers are told */
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
    picture->ledger.rows_count = i + 1;
    picture->rows = realloc(picture->rows, (i + 1) * sizeof *picture->rows);
    ASSERT(picture->rows != NULL && DONE_BATCHES == LEDGER_BATCHES);
    struct ledger_row *copy = &picture->rows[i];
    *copy = (struct ledger_row){
        .producer_id = row->producer_id, .epoch = row->epoch, .count = row->count, .last_idle_ms = row->last_idle_ms};
    for (uint8_t k = 0; k < row->count; k++) {
        copy->batches[k] = (struct ledger_batch){row->batches[k].first_sequence, row->batches[k].last_sequence,
                                                 row->batches[k].offset};
    }
    return OK;
}

static enum err on_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    return OK;
}

static void read_pictures(struct picture *picture)
{
    struct shadow *shadow = picture->shadow;
    uint32_t inside = world_step_out(shadow->world);
    struct kv *durable = sim_kv_copy_durable(shadow->kv);
    if (shadow->world->decay != NULL) {
        sim_rot_undo(shadow->world->decay, durable);
    }
    const struct meta_visitor visitor = {.context = picture,
                                         .group = on_group,
                                         .segment = on_segment,
                                         .epoch = on_epoch,
                                         .done = on_done,
                                         .state = on_state};
    enum err error = meta_load(durable, &visitor);
    picture_close(picture);
    if (error != OK) {
        world_fail(shadow->world, "S7", "the durable checkpoint store does not load: %s", err_name(error));
    }
    free(picture->segments);
    free(picture->done);
    free(picture->rows);
    sim_kv_free(durable);
    world_step_in(shadow->world, inside);
}

static void read_checkpoints(struct shadow *shadow, bool judge, bool with_segments)
{
    struct picture picture = {.shadow = shadow, .judge = judge, .with_segments = with_segments};
    read_pictures(&picture);
}

static void read_all(struct shadow *shadow)
{
    uint64_t now = sim_disk_syncs(shadow->disk) + sim_kv_commits_count(shadow->kv);
    if (now == shadow->read_at || shadow->rotten)
        return;
    shadow->read_at = now;
    uint32_t inside = world_step_out(shadow->world); /* a sync may have brought us here: no allocation fails for us */
    ledger_read_begin(shadow->ledger);
    const struct wal_inspector inspector = {.context = shadow, .is_memory = true, .record = on_wal_record};
    enum err error = wal_inspect(sim_disk_shadow(shadow->disk), "wal", &inspector);
    if (error != OK && error != ERR_NO_FILE) {
        world_fail(shadow->world, "W2", "the durable WAL does not read: %s", err_name(error));
    }
    read_checkpoints(shadow, false, false);
    ledger_read_end(shadow->ledger);
    world_step_in(shadow->world, inside);
}

/* --- questions --- */

void shadow_resting(struct shadow *shadow)
{
    struct picture picture = {.shadow = shadow, .judge = true, .is_resting = true};
    read_pictures(&picture);
}

void shadow_rotten(struct shadow *shadow, bool is_rotten)
{
    shadow->rotten = is_rotten;
    shadow->read_at = UINT64_MAX;
}

bool shadow_holds(struct shadow *shadow, uint64_t group, uint32_t first, uint32_t count, int64_t offset)
{
    if (++shadow->answers % FULL_ANSWER_EVERY == 0 || !ledger_has(shadow->ledger, group, first)) {
        read_all(shadow);
    }
    return ledger_has(shadow->ledger, group, first + count - 1);
}

void shadow_served(struct shadow *shadow, uint64_t group, int64_t high_watermark, int64_t log_start)
{
    if (ledger_end(shadow->ledger, group) < high_watermark || ledger_start(shadow->ledger, group) < log_start) {
        read_all(shadow);
    }
    ledger_served(shadow->ledger, group, high_watermark, log_start);
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
