/* The state machines behind the logs: what is applied, what it makes of them, and what is stored of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "judge_impl.h"

#define TOPIC_DATA_KIND 1

void state__free(struct judge_group *group)
{
    struct judge_segment *segment, *next;
    HASH_ITER(hh, group->segments, segment, next)
    {
        HASH_DEL(group->segments, segment);
        free(segment);
    }
}

/* --- after a turn --- */

/* The very bytes, as far as they are still at hand. */
static void check_applied(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                          const struct judge_sight *s, uint64_t from)
{
    for (uint64_t index = from + 1; index <= s->applied; index++) {
        const struct ghost_entry *entry = ghost__at(group, index, ghost__committed_term(group, index));
        uint32_t crc;
        judge__count(judge, JUDGE_R5);
        if (entry == NULL) {
            judge__fail(judge, JUDGE_R5, group, r->id, "it applies entry %llu, which is not committed",
                        (unsigned long long)index);
            return;
        }
        if (s->payload(s->context, index, &crc) && crc != entry->crc) {
            judge__fail(judge, JUDGE_R5, group, r->id, "it applies other bytes than were committed as entry %llu",
                        (unsigned long long)index);
        }
    }
}

static void check_state(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                        const struct judge_sight *s)
{
    if (s->applied == 0 || s->applied >= group->items_capacity) {
        return;
    }
    struct ghost_item *item = &group->items[s->applied];
    uint64_t state = s->state(s->context);
    if (item->state == 0 || state == 0) {
        item->state |= state;
        return;
    }
    judge__count(judge, JUDGE_B11);
    if (item->state != state) {
        judge__fail(judge, JUDGE_B11, group, r->id, "at entry %llu its done table, clocks or offsets are others",
                    (unsigned long long)s->applied);
    }
}

void state__saw(struct judge *judge, struct judge_group *group, struct judge_replica *r, const struct judge_sight *s)
{
    bool is_installed = r->was_seen && s->installs != r->installs;
    r->is_ahead = (r->is_ahead && !is_installed) || s->is_ahead;
    if (is_installed) {
        judge__count(judge, JUDGE_R19);
        if (s->applied < r->applied || s->commit < r->commit || s->last < s->applied) {
            judge__fail(judge, JUDGE_R19, group, r->id, "a snapshot takes it from %llu back to %llu",
                        (unsigned long long)r->applied, (unsigned long long)s->applied);
        }
    }
    if (judge->world->failed) {
        return;
    }
    if (r->was_seen && !is_installed) {
        check_applied(judge, group, r, s, r->applied);
    }
    if (!r->is_ahead && (!r->was_seen || s->applied != r->applied)) {
        check_state(judge, group, r, s);
    }
    if (s->role == RAFT_LEADER && s->end > group->told_end) {
        group->told_end = s->end;
    }
}

/* --- stored pictures and segments --- */

struct store_reading {
    struct judge *judge;
    struct judge_machine *machine;
    struct judge_group *group;
    struct meta_group picture;
    int64_t next_offset; /* of the segments so far; -1: none yet */
    bool is_open, with_segments;
};

static void store_fail(struct store_reading *reading, const char *what, int64_t offset)
{
    judge__fail(reading->judge, JUDGE_B12, reading->group, reading->picture.replica,
                "stored at entry %" PRIu64 " with offsets [%" PRId64 ", %" PRId64 "): %s at %" PRId64,
                reading->picture.applied_index, reading->picture.log_start, reading->picture.next_offset, what, offset);
}

static void store_close(struct store_reading *reading)
{
    const struct meta_group *picture = &reading->picture;
    if (!reading->is_open) {
        return;
    }
    reading->is_open = false;
    int64_t end = reading->next_offset >= 0 ? reading->next_offset : picture->log_start;
    if (end != picture->next_offset) {
        store_fail(reading, "a hole at the end", end);
    }
}

static enum err on_group(void *context, const struct meta_group *group)
{
    struct store_reading *reading = context;
    store_close(reading);
    reading->picture = *group;
    reading->group = judge__group(reading->judge, group->group);
    reading->next_offset = -1;
    const struct judge_replica *r = judge__replica(reading->group, group->replica);
    bool is_dead = r != NULL && r->image.is_dead; /* what is left of it goes at the next start at the latest */
    reading->is_open = group->kind == TOPIC_DATA_KIND && !group->damaged && !is_dead;
    if (reading->is_open) {
        judge__count(reading->judge, JUDGE_B12);
    }
    return OK;
}

/* The same offsets are the same bytes wherever they are stored. */
static void compare_segment(struct store_reading *reading, const struct meta_segment *row)
{
    const int64_t range[2] = {row->base_offset, row->end_offset};
    struct judge_segment *segment;
    HASH_FIND(hh, reading->group->segments, range, sizeof range, segment);
    if (segment == NULL) {
        segment = calloc(1, sizeof *segment);
        ASSERT(segment != NULL);
        memcpy(segment->range, range, sizeof range);
        segment->size_bytes = row->size_bytes;
        segment->chain = row->chain;
        HASH_ADD(hh, reading->group->segments, range, sizeof segment->range, segment);
        return;
    }
    judge__count(reading->judge, JUDGE_B12);
    if (segment->chain != row->chain || segment->size_bytes != row->size_bytes) {
        store_fail(reading, "a segment that is another one elsewhere", row->base_offset);
    }
}

/* NULL: data[0, size) is exactly committed batches, from base to end. */
static const char *batches_fault(const struct judge_group *group, const uint8_t *data, uint64_t size, int64_t base,
                                 int64_t end)
{
    for (uint64_t at = 0; at < size;) {
        struct batch_header header;
        const struct acked_batch *batch;
        if (batch_parse(data + at, size - at, &header) != OK || !batch_crc_ok(data + at, header.size_bytes)) {
            return "bytes that are no batch";
        }
        uint32_t crc = header.crc;
        HASH_FIND(hh, group->batches, &crc, sizeof crc, batch);
        if (batch == NULL) {
            return "a batch that nobody has committed";
        }
        if (header.base_offset != base) {
            return "a batch of another offset";
        }
        base += header.last_offset_delta + 1;
        at += header.size_bytes;
    }
    return base == end ? NULL : "too few batches";
}

static const char *segment_fault(const struct store_reading *reading, const struct meta_segment *row)
{
    struct disk *disk = sim_disk_shadow(reading->machine->disk);
    struct disk_file *file;
    char path[128];
    size_t got = 0;
    snprintf(path, sizeof path, "parts/%" PRIu64 "/%020" PRId64 ".log", reading->group->id, row->base_offset);
    if (row->size_bytes == 0) {
        return NULL;
    }
    if (disk->ops->open(disk, path, DISK_READ, &file) != OK) {
        return "no file";
    }
    uint8_t *data = malloc(row->size_bytes);
    ASSERT(data != NULL);
    enum err error = disk->ops->read(disk, file, data, row->size_bytes, 0, &got);
    disk->ops->close(disk, file);
    uint64_t needed = row->size_bytes - row->tail_size; /* its last partial block stands in the row */
    const char *fault = error != OK || got < needed ? "a short file" : NULL;
    if (fault == NULL) {
        memcpy(data + needed, row->tail, row->tail_size);
        fault = batches_fault(reading->group, data, row->size_bytes, row->base_offset, row->end_offset);
    }
    free(data);
    return fault;
}

static enum err on_segment(void *context, uint64_t group, const struct meta_segment *row)
{
    struct store_reading *reading = context;
    (void)group;
    if (!reading->is_open || reading->judge->world->failed) {
        return OK;
    }
    bool is_first = reading->next_offset < 0;
    if ((!is_first && row->base_offset != reading->next_offset) ||
        (is_first && row->base_offset > reading->picture.log_start)) {
        store_fail(reading, "a hole", row->base_offset);
    }
    reading->next_offset = row->end_offset;
    compare_segment(reading, row);
    const char *fault = reading->with_segments ? segment_fault(reading, row) : NULL;
    if (fault != NULL) {
        store_fail(reading, fault, row->base_offset);
    }
    return OK;
}

static enum err on_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    return OK;
}

static enum err on_done(void *context, uint64_t group, const struct done_row *row)
{
    return OK;
}

static enum err on_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    return OK;
}

void state__read(struct judge *judge, struct judge_machine *machine, bool with_segments)
{
    struct store_reading reading = {
        .judge = judge, .machine = machine, .with_segments = with_segments && !machine->has_doubtful_segments};
    const struct meta_visitor visitor = {.context = &reading,
                                         .group = on_group,
                                         .segment = on_segment,
                                         .epoch = on_epoch,
                                         .done = on_done,
                                         .state = on_state};
    if (machine->is_doubted || judge->world->failed) {
        return;
    }
    struct kv *durable = sim_kv_copy_durable(machine->kv);
    enum err error = meta_load(durable, &visitor);
    store_close(&reading);
    if (error != OK) {
        world_fail(judge->world, "W2", "broker %llu: its checkpoint store does not load: %s",
                   (unsigned long long)machine->id, err_name(error));
    }
    sim_kv_free(durable);
}
