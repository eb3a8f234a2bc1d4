/* Rows of another broker, read and judged: what comes out of here may be installed without another look. Lane. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/plant.h"
#include "broker/manifest.h"
#include "broker/snapshot_impl.h"
#include "broker/state.h"

struct loader {
    const struct receipt *receipt;
    enum registry_topic_kind kind;
    struct snapshot_rows *rows;
};

void snapshot_rows_free(struct snapshot_rows *rows)
{
    if (rows == NULL) {
        return;
    }
    done_table_free(rows->done);
    state_free(rows->table);
    free(rows->segments);
    free(rows->epochs);
    free(rows);
}

static enum err load__group(void *context, const struct meta_group *group)
{
    struct loader *l = context;
    struct snapshot_rows *rows = l->rows;
    members_of_row(group, &rows->members);
    bool is_it = group->applied_index == l->receipt->index && group->applied_term == l->receipt->index_term &&
                 group->kind == l->kind && !group->damaged && group->config_index <= group->applied_index;
    bool is_usable = members_are_sane(&rows->members) && group->segment_bytes >= SEGMENT_BYTES_MIN &&
                     group->segment_bytes <= SEGMENT_BYTES_MAX && group->next_offset >= group->log_start;
    rows->group = *group;
    return is_it && is_usable ? OK : ERR_FORMAT;
}

static enum err load__segment(void *context, uint64_t group, const struct meta_segment *segment)
{
    struct loader *l = context;
    struct snapshot_rows *rows = l->rows;
    (void)group;
    if (PLANT(10)) {
        return OK;
    }
    int64_t begin = rows->segments_count > 0 ? rows->segments[rows->segments_count - 1].end_offset : -1;
    bool joins = rows->segments_count > 0
                     ? segment->base_offset == begin
                     : segment->base_offset <= rows->group.log_start && segment->end_offset > rows->group.log_start;
    if (!joins || segment->end_offset <= segment->base_offset || segment->size_bytes < BATCH_HEADER_BYTES ||
        segment->size_bytes > SEGMENT_BYTES_MAX || l->kind != TOPIC_DATA) {
        return ERR_FORMAT;
    }
    if (rows->segments_count == rows->segments_capacity) {
        rows->segments_capacity = rows->segments_capacity == 0 ? 4 : rows->segments_capacity * 2;
        rows->segments = mem_grow(rows->segments, rows->segments_capacity * sizeof *rows->segments);
    }
    struct segment_row *row = &rows->segments[rows->segments_count++];
    *row = manifest_from_meta(segment);
    row->generation = 0; /* of the sender's files: nothing here */
    row->tail_size = 0;
    row->tail = NULL;
    return OK;
}

static enum err load__epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    struct loader *l = context;
    struct snapshot_rows *rows = l->rows;
    (void)group;
    const struct meta_epoch *last = rows->epochs_count > 0 ? &rows->epochs[rows->epochs_count - 1] : NULL;
    if (epoch->term > l->receipt->index_term || (last != NULL && epoch->first_offset < last->first_offset) ||
        epoch->first_offset > rows->group.next_offset) {
        return ERR_FORMAT;
    }
    if (rows->epochs_count == rows->epochs_capacity) {
        rows->epochs_capacity = rows->epochs_capacity == 0 ? 8 : rows->epochs_capacity * 2;
        rows->epochs = mem_grow(rows->epochs, rows->epochs_capacity * sizeof *rows->epochs);
    }
    rows->epochs[rows->epochs_count++] = *epoch;
    return OK;
}

static enum err load__done(void *context, uint64_t group, const struct done_row *row)
{
    (void)group;
    done_put_row(((struct loader *)context)->rows->done, row);
    return OK;
}

static enum err load__state(void *context, uint64_t group, const struct meta_state_row *row)
{
    struct loader *l = context;
    (void)group;
    return l->rows->table != NULL ? state_put_row(l->rows->table, row) : ERR_FORMAT;
}

/* The manifest ends where the group does. */
static bool load__is_whole(const struct snapshot_rows *rows)
{
    int64_t end =
        rows->segments_count > 0 ? rows->segments[rows->segments_count - 1].end_offset : rows->group.log_start;
    return PLANT(10) || end == rows->group.next_offset;
}

enum err snapshot_load(struct disk *disk, const char *path, const struct receipt *r, enum registry_topic_kind kind,
                       struct snapshot_rows **ret_rows)
{
    struct loader l = {.receipt = r, .kind = kind, .rows = mem_zeroed(1, sizeof *l.rows)};
    const struct meta_visitor visitor = {.context = &l,
                                         .group = load__group,
                                         .segment = load__segment,
                                         .epoch = load__epoch,
                                         .done = load__done,
                                         .state = load__state};
    l.rows->done = done_table_new();
    l.rows->table = kind == TOPIC_STATE ? state_new(r->group) : NULL;
    enum err error = meta_import(disk, path, r->group, &visitor);
    if (error == OK && !load__is_whole(l.rows)) {
        error = ERR_FORMAT;
    }
    if (error != OK) {
        snapshot_rows_free(l.rows);
        return error;
    }
    *ret_rows = l.rows;
    return OK;
}
