/* `flotilla inspect segment PATH`: every batch of every segment that the manifest names, with the verdict on its bytes,
 * on the whole file, and on the index files beside it. A lone .log file, outside of a data directory, is read as far as
 * batches follow one another. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/limits.h"
#include "base/mem.h"
#include "client/inspect.h"
#include "client/inspect_scan.h"
#include "meta/meta.h"
#include "os/disk.h"
#include "os/lmdb.h"

#define META_DIR          "meta"
#define PARTS_DIR         "parts"
#define INDEX_ENTRY_BYTES 8u
#define TIME_ENTRY_BYTES  12u
#define NAME_DIGITS       20

/* An index file and how far the batches have confirmed it. */
struct index {
    uint8_t *data; /* owned; NULL: no such file */
    size_t size, at;
    size_t entry_bytes;
    bool wrong;
    bool blind; /* a batch is gone whose entries it may hold */
};

struct segment_file {
    uint64_t group;
    struct meta_segment row;
    uint8_t tail[META_TAIL_BYTES_MAX];
};

struct segments {
    struct inspect *inspect;
    struct disk *disk;
    struct segment_file *list; /* owned */
    uint32_t count, capacity;
    /* PATH was more than the data directory */
    bool one_group, one_file;
    uint64_t group;
    int64_t base_offset;
    /* of the file being shown */
    const struct segment_file *file;
    struct index positions, times;
    int64_t max_timestamp;
};

/* ---- index files ---- */

static struct index index_load(struct disk *disk, const char *path, size_t entry_bytes)
{
    struct index index = {.entry_bytes = entry_bytes};
    struct disk_file *file;
    uint64_t size = 0;
    size_t got = 0;
    if (disk->ops->open(disk, path, DISK_READ, &file) != OK)
        return index;
    if (disk->ops->size(disk, file, &size) == OK && size <= SEGMENT_BYTES_MAX) {
        index.data = mem_zeroed(1, (size_t)size + 1);
        index.size = (size_t)size;
        index.wrong = disk->ops->read(disk, file, index.data, index.size, 0, &got) != OK || got != index.size ||
                      index.size % entry_bytes != 0;
    }
    disk->ops->close(disk, file);
    return index;
}

static const char *index_verdict(const struct index *index)
{
    if (index->data == NULL)
        return "none"; /* of an active segment, or not rebuilt yet */
    if (index->blind)
        return "not judged";
    return index->wrong || index->at < index->size ? "wrong" : "ok";
}

static void index_follow(struct segments *s, uint64_t position, const struct batch_header *header)
{
    struct index *positions = &s->positions, *times = &s->times;
    uint32_t relative_last = (uint32_t)(header->base_offset + header->last_offset_delta - s->file->row.base_offset);
    if (header->max_timestamp > s->max_timestamp)
        s->max_timestamp = header->max_timestamp;
    if (positions->at < positions->size && !positions->wrong) {
        const uint8_t *entry = positions->data + positions->at;
        if (load_be32(entry + 4) == position && load_be32(entry) == relative_last)
            positions->at += positions->entry_bytes;
        else
            positions->wrong = load_be32(entry + 4) <= position;
    }
    if (times->at < times->size && !times->wrong) {
        const uint8_t *entry = times->data + times->at;
        if (load_be32(entry + 8) == relative_last && (int64_t)load_be64(entry) == s->max_timestamp)
            times->at += times->entry_bytes;
        else
            times->wrong = load_be32(entry + 8) <= relative_last;
    }
}

/* ---- one file ---- */

static void on_batch(void *context, uint64_t position, const struct batch_header *header, const uint8_t *data)
{
    struct segments *s = context;
    struct line line = inspect_line(s->inspect, "batch");
    line_number(&line, "position", (int64_t)position);
    line_number(&line, "offset", header->base_offset);
    line_number(&line, "last_offset", header->base_offset + header->last_offset_delta);
    line_number(&line, "bytes", header->size_bytes);
    line_number(&line, "term", header->leader_epoch);
    line_text(&line, "crc", "ok");
    line_batch(&line, header);
    line_number(&line, "max_timestamp", header->max_timestamp);
    line_end(&line);
    index_follow(s, position, header);
}

static void on_loss(void *context, const struct scan_loss *loss)
{
    struct segments *s = context;
    struct line line = inspect_line(s->inspect, "damage");
    line_number(&line, "position", (int64_t)loss->position);
    line_number(&line, "offset", loss->first_offset);
    if (loss->end_offset != INT64_MAX)
        line_number(&line, "last_offset", loss->end_offset - 1);
    line_number(&line, "bytes", (int64_t)loss->bytes);
    line_text(&line, "why", loss->why);
    if (loss->header != NULL)
        line_batch(&line, loss->header);
    line_end(&line);
    if (loss->header != NULL)
        index_follow(s, loss->position, loss->header);
    else
        s->positions.blind = s->times.blind = true;
    s->inspect->damage_seen = true;
}

static void begin_file(struct segments *s, const char *path)
{
    struct line line = inspect_line(s->inspect, "file");
    line_text(&line, "name", path);
    if (s->file->group != 0) {
        line_number(&line, "group", (int64_t)s->file->group);
        line_number(&line, "base_offset", s->file->row.base_offset);
        line_number(&line, "end_offset", s->file->row.end_offset);
        line_number(&line, "bytes", (int64_t)s->file->row.size_bytes);
    }
    line_end(&line);
}

static void end_file(struct segments *s, const char *path, const struct scan_result *result)
{
    const struct meta_segment *row = &s->file->row;
    bool named = s->file->group != 0;
    bool whole =
        result->losses == 0 && (!named || (result->size_bytes == row->size_bytes && result->chain == row->chain));
    if (named && result->losses == 0 && !whole) {
        struct line line = inspect_line(s->inspect, "damage");
        line_text(&line, "why", "whole batches, but not those of this segment");
        line_end(&line);
        s->inspect->damage_seen = true;
    }
    struct line line = inspect_line(s->inspect, "total");
    line_text(&line, "name", path);
    line_number(&line, "batches", (int64_t)result->batches);
    line_number(&line, "records", (int64_t)result->records);
    line_number(&line, "bytes", (int64_t)result->size_bytes);
    line_number(&line, "damaged", (int64_t)result->losses);
    line_number(&line, "lost_offsets", result->lost_offsets);
    line_text(&line, "verdict", whole ? "ok" : "damaged");
    line_text(&line, "index", index_verdict(&s->positions));
    line_text(&line, "timeindex", index_verdict(&s->times));
    line_end(&line);
}

static enum err show_file(struct segments *s, const struct segment_file *file, const char *path)
{
    char index_path[PATH_MAX + 16];
    struct scan_result result;
    struct scan_options options = {.disk = s->disk,
                                   .path = path,
                                   .base_offset = file->row.base_offset,
                                   .end_offset = file->group != 0 ? file->row.end_offset : INT64_MAX,
                                   .bytes_max = file->group != 0 ? file->row.size_bytes : UINT64_MAX,
                                   .tail = file->tail,
                                   .tail_size = file->row.tail_size,
                                   .context = s,
                                   .batch = on_batch,
                                   .loss = on_loss};
    int stem = (int)(strlen(path) - strlen(".log"));
    s->file = file;
    s->max_timestamp = INT64_MIN;
    snprintf(index_path, sizeof index_path, "%.*s.index", stem, path);
    s->positions = index_load(s->disk, index_path, INDEX_ENTRY_BYTES);
    snprintf(index_path, sizeof index_path, "%.*s.timeindex", stem, path);
    s->times = index_load(s->disk, index_path, TIME_ENTRY_BYTES);
    begin_file(s, path);
    enum err error = scan_segment(&options, &result);
    if (error == OK)
        end_file(s, path, &result);
    free(s->positions.data);
    free(s->times.data);
    return error;
}

/* ---- the manifest ---- */

static enum err on_group(void *context, const struct meta_group *group)
{
    return OK;
}

static enum err on_segment(void *context, uint64_t group, const struct meta_segment *row)
{
    struct segments *s = context;
    if ((s->one_group && group != s->group) || (s->one_file && row->base_offset != s->base_offset))
        return OK;
    if (s->count == s->capacity) {
        s->capacity = s->capacity > 0 ? 2 * s->capacity : 16;
        s->list = mem_grow(s->list, s->capacity * sizeof s->list[0]);
    }
    struct segment_file *file = &s->list[s->count++];
    *file = (struct segment_file){.group = group, .row = *row};
    memcpy(file->tail, row->tail, row->tail_size);
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

static enum err on_bad(void *context, const struct meta_bad_row *row)
{
    struct segments *s = context;
    if (row->type != 'M' || (s->one_group && row->group != s->group))
        return OK;
    struct line line = inspect_line(s->inspect, "damage");
    line_number(&line, "group", (int64_t)row->group);
    line_number(&line, "base_offset", (int64_t)row->number);
    line_text(&line, "why", "its row in the checkpoint store is unreadable");
    line_end(&line);
    s->inspect->damage_seen = true;
    return OK;
}

static enum err show_manifest(struct segments *s)
{
    const struct meta_visitor visitor = {s, on_group, on_segment, on_epoch, on_done, on_state, on_bad};
    struct os_lmdb *lmdb;
    enum err error = os_lmdb_open(s->inspect->root, META_DIR, 0, NULL, &lmdb);
    if (error != OK)
        return error;
    error = meta_load(os_lmdb_port(lmdb), &visitor);
    os_lmdb_close(lmdb);
    for (uint32_t i = 0; i < s->count && error == OK; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, PARTS_DIR "/%" PRIu64 "/%0*" PRId64 ".log", s->list[i].group, NAME_DIGITS,
                 s->list[i].row.base_offset);
        error = show_file(s, &s->list[i], path);
    }
    return error;
}

/* ---- where PATH leads ---- */

static bool has_dir(const char *path, const char *name)
{
    char tested[PATH_MAX + 32];
    struct stat status;
    snprintf(tested, sizeof tested, "%s/%s", path, name);
    return stat(tested, &status) == 0 && S_ISDIR(status.st_mode);
}

static bool is_number(const char *text, size_t digits)
{
    for (size_t i = 0; i < digits; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
    }
    return digits > 0;
}

/* Cuts the last name off the root and returns it; "" if there is none. */
static const char *cut_name(char *root)
{
    char *slash = strrchr(root, '/');
    if (slash == NULL || slash == root)
        return "";
    *slash = '\0';
    return slash + 1;
}

/* <root>, <root>/parts, <root>/parts/<group> or <root>/parts/<group>/<base offset>.log; false: none of these. */
static bool find_segments(struct segments *s)
{
    char *root = s->inspect->root;
    const char *name;
    size_t length = strlen(root);
    if (has_dir(root, META_DIR))
        return true;
    if (length > strlen(".log") && strcmp(root + length - strlen(".log"), ".log") == 0) {
        name = cut_name(root);
        s->one_file = is_number(name, strlen(name) - strlen(".log"));
        s->base_offset = strtoll(name, NULL, 10);
    }
    name = strrchr(root, '/');
    if (name != NULL && is_number(name + 1, strlen(name + 1))) {
        s->group = strtoull(cut_name(root), NULL, 10);
        s->one_group = true;
    }
    return (s->one_group || !s->one_file) && strcmp(cut_name(root), PARTS_DIR) == 0 && has_dir(root, META_DIR);
}

static enum err show_lone_file(struct segments *s)
{
    struct segment_file file = {0};
    char *root = s->inspect->root;
    if (realpath(s->inspect->path, root) == NULL)
        cli_usage("there is no %s", s->inspect->path);
    const char *name = cut_name(root);
    size_t length = strlen(name);
    if (length <= strlen(".log") || strcmp(name + length - strlen(".log"), ".log") != 0)
        cli_usage("%s is no data directory, and no .log file", s->inspect->path);
    file.row.base_offset = strtoll(name, NULL, 10);
    struct os_disk *disk;
    enum err error = os_disk_open(root, NULL, &disk);
    if (error != OK)
        return error;
    s->disk = os_disk_port(disk);
    error = show_file(s, &file, name);
    os_disk_close(disk);
    return error;
}

enum err inspect_segment(struct inspect *inspect)
{
    struct segments s = {.inspect = inspect};
    struct os_disk *disk;
    if (realpath(inspect->path, inspect->root) == NULL)
        cli_usage("there is no %s", inspect->path);
    if (!find_segments(&s))
        return show_lone_file(&s);
    enum err error = os_disk_open(inspect->root, NULL, &disk);
    if (error != OK)
        return error;
    s.disk = os_disk_port(disk);
    error = show_manifest(&s);
    if (error == OK && s.one_file && s.count == 0)
        cli_usage("%s is no segment of the manifest: what it holds is not valid", inspect->path);
    free(s.list);
    os_disk_close(disk);
    return error;
}
