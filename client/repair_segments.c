/* The segments of the partition: which offsets can be read, and new files where some cannot.
 *
 * The layout, base offset after base offset, comes from the manifest rows, from the keys of unreadable rows and from
 * the names of the files, so that a lost row costs nothing while its file is whole. In a new file each lost run of
 * offsets is one empty batch, as Kafka's compaction leaves them: offsets stay dense, and nobody's offset moves. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "client/repair_plan.h"

#define PARTS_DIR   "parts"
#define NAME_DIGITS 20
#define RUN_MAX     ((int64_t)INT32_MAX) /* offsets of one segment, and of one empty batch */

static void path_of(const struct repair *repair, int64_t base_offset, const char *suffix, char path[REPAIR_PATH_BYTES])
{
    snprintf(path, REPAIR_PATH_BYTES, PARTS_DIR "/%" PRIu64 "/%0*" PRId64 "%s", repair->group.group, NAME_DIGITS,
             base_offset, suffix);
}

/* ---- the layout ---- */

struct bases {
    struct repair *repair;
    int64_t *list; /* owned; ascending, each once */
    uint32_t count, capacity;
};

static void bases_add(struct bases *bases, int64_t base)
{
    uint32_t at = 0;
    while (at < bases->count && bases->list[at] < base)
        at++;
    if (at < bases->count && bases->list[at] == base)
        return;
    if (bases->count == bases->capacity) {
        bases->capacity = bases->capacity > 0 ? 2 * bases->capacity : 64;
        bases->list = mem_grow(bases->list, bases->capacity * sizeof bases->list[0]);
    }
    memmove(bases->list + at + 1, bases->list + at, (bases->count - at) * sizeof bases->list[0]);
    bases->list[at] = base;
    bases->count++;
}

static struct repair_segment *row_at(struct repair *repair, int64_t base_offset)
{
    for (uint32_t i = 0; i < repair->segments_count; i++) {
        if (repair->segments[i].base_offset == base_offset)
            return &repair->segments[i];
    }
    return NULL;
}

/* A file that no row names is one whose row is lost, or one left over inside of what a row covers. */
static void bases_add_file(void *context, const char *name)
{
    struct bases *bases = context;
    const struct repair *repair = bases->repair;
    size_t digits = 0;
    while (isdigit((unsigned char)name[digits]))
        digits++;
    if (digits != NAME_DIGITS || strcmp(name + digits, ".log") != 0)
        return;
    int64_t base = strtoll(name, NULL, 10);
    bool covered = base >= repair->group.next_offset;
    for (uint32_t i = 0; i < repair->segments_count; i++)
        covered = covered || (repair->segments[i].base_offset <= base && base < repair->segments[i].end_offset);
    if (!covered)
        bases_add(bases, base);
}

static int64_t bases_after(const struct bases *bases, int64_t offset, int64_t end_offset)
{
    for (uint32_t i = 0; i < bases->count; i++) {
        if (bases->list[i] > offset)
            return bases->list[i] < end_offset ? bases->list[i] : end_offset;
    }
    return end_offset;
}

static int64_t bases_first(const struct bases *bases, int64_t log_start)
{
    int64_t first = log_start;
    for (uint32_t i = 0; i < bases->count && bases->list[i] <= log_start; i++)
        first = bases->list[i];
    return first;
}

static enum err lay_out(struct repair *repair)
{
    struct bases bases = {.repair = repair};
    char dir[REPAIR_PATH_BYTES];
    snprintf(dir, sizeof dir, PARTS_DIR "/%" PRIu64, repair->group.group);
    for (uint32_t i = 0; i < repair->segments_count; i++)
        bases_add(&bases, repair->segments[i].base_offset);
    for (uint32_t i = 0; i < repair->bads_count; i++) {
        if (repair->bads[i].type == 'M' && (int64_t)repair->bads[i].number < repair->group.next_offset)
            bases_add(&bases, (int64_t)repair->bads[i].number);
    }
    enum err error = repair->disk->ops->list(repair->disk, dir, bases_add_file, &bases);
    if (error != OK && error != ERR_NO_FILE) {
        free(bases.list);
        return error;
    }
    struct repair_segment *laid = NULL;
    uint32_t count = 0;
    int64_t end_offset = repair->group.next_offset;
    int64_t offset = bases_first(&bases, repair->group.log_start);
    while (offset < end_offset) {
        const struct repair_segment *row = row_at(repair, offset);
        struct repair_segment segment = {.base_offset = offset};
        if (row != NULL)
            segment = *row;
        segment.end_offset = bases_after(&bases, offset, end_offset);
        if (segment.end_offset - offset > RUN_MAX)
            segment.end_offset = offset + RUN_MAX;
        segment.has_row = row != NULL && row->end_offset == segment.end_offset;
        laid = mem_grow(laid, (count + 1) * sizeof laid[0]);
        laid[count++] = segment;
        offset = segment.end_offset;
    }
    free(bases.list);
    free(repair->segments);
    repair->segments = laid;
    repair->segments_count = count;
    return OK;
}

/* ---- terms ---- */

static void learn_term(struct repair *repair, uint64_t term, int64_t offset)
{
    uint32_t at = 0;
    while (at < repair->epochs_count && repair->epochs[at].term < term)
        at++;
    if (at < repair->epochs_count && repair->epochs[at].term == term)
        return;
    if (repair->epochs_count == repair->epochs_capacity) {
        repair->epochs_capacity = repair->epochs_capacity > 0 ? 2 * repair->epochs_capacity : 16;
        repair->epochs = mem_grow(repair->epochs, repair->epochs_capacity * sizeof repair->epochs[0]);
    }
    memmove(repair->epochs + at + 1, repair->epochs + at, (repair->epochs_count - at) * sizeof repair->epochs[0]);
    repair->epochs[at] = (struct meta_epoch){.term = term, .first_offset = offset};
    repair->epochs_count++;
}

static uint64_t term_of(const struct repair *repair, int64_t offset)
{
    uint64_t term = 0;
    for (uint32_t i = 0; i < repair->epochs_count && repair->epochs[i].first_offset <= offset; i++)
        term = repair->epochs[i].term;
    return term;
}

/* ---- looking ---- */

struct look {
    struct repair *repair;
    struct repair_segment *segment;
    bool print;
};

static void look_batch(void *context, uint64_t position, const struct batch_header *header, const uint8_t *data)
{
    struct look *look = context;
    look->segment->is_empty = look->segment->is_empty || header->records_count == 0;
    if (look->print) /* the second look: what is believed by now */
        learn_term(look->repair, (uint64_t)header->leader_epoch, header->base_offset);
}

static void print_loss(const struct repair *repair, const struct repair_segment *segment, int64_t first_offset,
                       int64_t end_offset, const char *why)
{
    struct line line = repair_line(repair, "drop");
    line_text(&line, "what", "offsets");
    line_number(&line, "first_offset", first_offset);
    line_number(&line, "last_offset", end_offset - 1);
    line_number(&line, "segment", segment->base_offset);
    line_text(&line, "why", why);
    line_end(&line);
}

/* All of it stands in its row: a short one. */
static void print_missing(const struct repair *repair, const struct repair_segment *segment)
{
    struct line line = repair_line(repair, "damage");
    line_text(&line, "what", "file of a segment: made anew from its row");
    line_number(&line, "segment", segment->base_offset);
    line_end(&line);
}

static void look_loss(void *context, const struct scan_loss *loss)
{
    struct look *look = context;
    if (look->print)
        print_loss(look->repair, look->segment, loss->first_offset, loss->end_offset, loss->why);
}

static struct scan_options options_of(const struct repair_segment *segment, bool by_row, struct disk *disk,
                                      const char *path)
{
    struct scan_options options = {.disk = disk,
                                   .path = path,
                                   .base_offset = segment->base_offset,
                                   .end_offset = segment->end_offset,
                                   .bytes_max = UINT64_MAX};
    if (by_row) {
        options.bytes_max = segment->row.size_bytes;
        options.tail = segment->tail;
        options.tail_size = segment->row.tail_size;
    }
    return options;
}

static enum err look_at(struct repair *repair, struct repair_segment *segment, bool by_row, bool print)
{
    char path[REPAIR_PATH_BYTES];
    struct look look = {.repair = repair, .segment = segment, .print = print};
    path_of(repair, segment->base_offset, ".log", path);
    struct scan_options options = options_of(segment, by_row, repair->disk, path);
    options.context = &look;
    options.batch = look_batch;
    options.loss = look_loss;
    return scan_segment(&options, &segment->found);
}

/* By its row; if that does not fit, the file as it is: a repair that was broken off may have written it, which its
 * empty batches tell. Whole batches under another chain are another segment's. */
static enum err judge_segment(struct repair *repair, struct repair_segment *segment)
{
    const struct scan_result *found = &segment->found;
    enum err error = look_at(repair, segment, segment->has_row, false);
    bool fits = segment->has_row && found->losses == 0 && found->size_bytes == segment->row.size_bytes &&
                found->chain == segment->row.chain;
    if (error != OK || !segment->has_row || fits)
        return error;
    bool whole = found->losses == 0;
    struct scan_result by_row = *found;
    segment->is_empty = false;
    error = look_at(repair, segment, false, false);
    if (error == OK && found->losses == 0 && segment->is_empty) {
        segment->has_row = false; /* its row is made anew */
        return OK;
    }
    segment->found = by_row;
    segment->is_foreign = whole;
    return error;
}

/* The row as it is to be, but for what a new file will say. */
static void make_row(struct repair *repair, struct repair_segment *segment)
{
    struct meta_segment *row = &segment->row;
    if (row->generation == 0)
        row->generation = repair->generation_next++;
    if (row->max_timestamp == 0)
        row->max_timestamp = repair->group.log_clock_ms;
    if (row->created_clock_ms == 0)
        row->created_clock_ms = repair->group.log_clock_ms;
    if (row->newest_ms == 0)
        row->newest_ms = repair->group.log_clock_ms;
    row->base_offset = segment->base_offset;
    row->end_offset = segment->end_offset;
    row->size_bytes = segment->found.size_bytes;
    row->chain = segment->found.chain;
    if (segment->found.max_timestamp != INT64_MIN)
        row->max_timestamp = segment->found.max_timestamp;
    row->tail_size = 0;
}

static enum err plan_segment(struct repair *repair, struct repair_segment *segment)
{
    enum err error = judge_segment(repair, segment);
    if (error != OK)
        return error;
    if (segment->is_foreign) {
        print_loss(repair, segment, segment->base_offset, segment->end_offset, "whole batches of another segment");
        repair->lost_offsets += segment->end_offset - segment->base_offset;
    } else {
        error = look_at(repair, segment, segment->has_row, true);
        repair->lost_offsets += segment->found.lost_offsets;
    }
    bool loses = segment->is_foreign || segment->found.losses > 0;
    if (!loses && segment->found.is_missing)
        print_missing(repair, segment);
    segment->rewrite = loses || segment->found.is_missing;
    segment->changed = segment->rewrite || !segment->has_row;
    repair->needed = repair->needed || segment->changed;
    repair->loses = repair->loses || loses;
    return error;
}

enum err repair_plan_segments(struct repair *repair)
{
    enum err error = lay_out(repair);
    for (uint32_t i = 0; i < repair->segments_count && error == OK; i++)
        error = plan_segment(repair, &repair->segments[i]);
    /* Entries of the WAL may go on in the newest term, whose row is lost and of which no batch tells. */
    if (error == OK && repair->group.applied_term > 0)
        learn_term(repair, repair->group.applied_term, repair->group.next_offset);
    return error;
}

/* ---- writing ---- */

struct writer {
    struct repair *repair;
    struct repair_segment *segment;
    struct disk_file *file;
    uint64_t position;
    uint32_t chain;
    int64_t max_timestamp;
    enum err error;
};

static void write_bytes(struct writer *writer, const uint8_t *data, size_t size)
{
    struct disk *disk = writer->repair->disk;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    if (writer->error == OK)
        writer->error = disk->ops->write(disk, writer->file, &part, 1, writer->position);
    writer->position += size;
    writer->chain = crc32c(writer->chain, data, BATCH_HEADER_BYTES);
}

static void write_batch(void *context, uint64_t position, const struct batch_header *header, const uint8_t *data)
{
    struct writer *writer = context;
    if (header->max_timestamp > writer->max_timestamp)
        writer->max_timestamp = header->max_timestamp;
    write_bytes(writer, data, header->size_bytes);
}

static void write_empty(struct writer *writer, int64_t first_offset, int64_t end_offset)
{
    uint8_t data[BATCH_HEADER_BYTES];
    const struct batch_header header = {.base_offset = first_offset,
                                        .size_bytes = sizeof data,
                                        .leader_epoch = (int32_t)term_of(writer->repair, first_offset),
                                        .last_offset_delta = (int32_t)(end_offset - first_offset - 1),
                                        .base_timestamp = -1,
                                        .max_timestamp = -1,
                                        .producer_id = -1,
                                        .producer_epoch = -1,
                                        .base_sequence = -1};
    batch_write_header(data, &header);
    batch_seal(data, sizeof data);
    write_bytes(writer, data, sizeof data);
}

static void write_loss(void *context, const struct scan_loss *loss)
{
    write_empty(context, loss->first_offset, loss->end_offset);
}

static enum err write_content(struct writer *writer)
{
    char path[REPAIR_PATH_BYTES];
    struct repair *repair = writer->repair;
    struct repair_segment *segment = writer->segment;
    struct scan_result found;
    if (segment->is_foreign) {
        write_empty(writer, segment->base_offset, segment->end_offset);
        return writer->error;
    }
    path_of(repair, segment->base_offset, ".log", path);
    struct scan_options options = options_of(segment, segment->has_row, repair->disk, path);
    options.context = writer;
    options.batch = write_batch;
    options.loss = write_loss;
    enum err error = scan_segment(&options, &found);
    return error == OK ? writer->error : error;
}

static enum err write_file(struct writer *writer, const char *path)
{
    struct disk *disk = writer->repair->disk;
    enum err error = disk->ops->open(disk, path, DISK_WRITE | DISK_CREATE, &writer->file);
    if (error != OK)
        return error;
    error = disk->ops->truncate(disk, writer->file, 0);
    if (error == OK)
        error = write_content(writer);
    if (error == OK)
        error = disk->ops->sync(disk, writer->file);
    disk->ops->close(disk, writer->file);
    return error;
}

static enum err unlink_if_there(struct repair *repair, const struct repair_segment *segment, const char *suffix)
{
    char path[REPAIR_PATH_BYTES];
    path_of(repair, segment->base_offset, suffix, path);
    enum err error = repair->disk->ops->unlink(repair->disk, path);
    return error == ERR_NO_FILE ? OK : error;
}

/* The new file is whole and durable before it takes the name; index files are rebuilt by the broker. */
static enum err rewrite(struct repair *repair, struct repair_segment *segment)
{
    char path[REPAIR_PATH_BYTES], new_path[REPAIR_PATH_BYTES], dir[REPAIR_PATH_BYTES];
    struct writer writer = {.repair = repair, .segment = segment, .max_timestamp = INT64_MIN};
    struct disk *disk = repair->disk;
    snprintf(dir, sizeof dir, PARTS_DIR "/%" PRIu64, repair->group.group);
    path_of(repair, segment->base_offset, ".log", path);
    path_of(repair, segment->base_offset, ".log.repair", new_path);
    enum err error = disk->ops->make_dir(disk, dir);
    if (error == OK)
        error = write_file(&writer, new_path);
    if (error == OK)
        error = unlink_if_there(repair, segment, ".index");
    if (error == OK)
        error = unlink_if_there(repair, segment, ".timeindex");
    if (error == OK)
        error = disk->ops->sync_dir(disk, dir); /* a repair that finds the new file leaves what stands beside it */
    if (error == OK)
        error = disk->ops->rename(disk, new_path, path);
    if (error == OK)
        error = disk->ops->sync_dir(disk, dir);
    if (error == OK)
        error = disk->ops->sync_dir(disk, PARTS_DIR);
    segment->found.size_bytes = writer.position;
    segment->found.chain = writer.chain;
    segment->found.max_timestamp = writer.max_timestamp;
    return error;
}

/* The bytes of the last, partial block, which the manifest row of the active segment repeats. */
static enum err take_tail(struct repair *repair, struct repair_segment *segment)
{
    char path[REPAIR_PATH_BYTES];
    struct disk_file *file;
    struct disk *disk = repair->disk;
    uint32_t size = (uint32_t)(segment->row.size_bytes % STORE_BLOCK_BYTES);
    size_t got = 0;
    path_of(repair, segment->base_offset, ".log", path);
    enum err error = disk->ops->open(disk, path, DISK_READ, &file);
    if (error != OK)
        return error;
    error = disk->ops->read(disk, file, segment->tail, size, segment->row.size_bytes - size, &got);
    disk->ops->close(disk, file);
    segment->row.tail_size = size;
    return error == OK && got != size ? ERR_IO : error;
}

enum err repair_write_segments(struct repair *repair)
{
    enum err error = OK;
    for (uint32_t i = 0; i < repair->segments_count && error == OK; i++) {
        struct repair_segment *segment = &repair->segments[i];
        if (segment->rewrite)
            error = rewrite(repair, segment);
        if (segment->changed)
            make_row(repair, segment);
        if (segment->changed && error == OK && i + 1 == repair->segments_count)
            error = take_tail(repair, segment);
    }
    return error;
}
