/* Finds its way by the product's own readers, and changes bytes behind its back. */
#include "damage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/limits.h"
#include "meta/meta.h"
#include "os/disk.h"
#include "os/lmdb.h"
#include "wal/wal.h"

#define SEGMENTS_MAX  256
#define PLACES_MAX    4096
#define FILES_MAX     64
#define ROW_BYTES_MAX 8192
#define KEYS_MAX      64
#define PATH_BYTES    4400

#define GROUP_KEY_BYTES 9u /* type and group */

struct row_key {
    uint8_t bytes[KV_KEY_BYTES_MAX];
    size_t size;
};

struct place { /* of a WAL batch */
    uint64_t lsn;
    uint32_t length;
    bool is_hit; /* holds an entry of the group */
};

struct wal_file {
    char name[64];
    uint64_t base_lsn;
};

struct damage {
    const char *dir;
    uint64_t group;
    struct rng *rng;
    char *text;
    bool has_row;
    struct meta_segment segments[SEGMENTS_MAX];
    uint32_t segments_count;
    struct wal_file files[FILES_MAX];
    uint32_t files_count;
    struct place places[PLACES_MAX];
    uint32_t places_count;
};

/* --- the checkpoint store --- */

static struct kv *store_open(const char *dir, struct os_lmdb **ret_lmdb)
{
    enum err error = os_lmdb_open(dir, "meta", 0, NULL, ret_lmdb);
    ASSERT(error == OK);
    return os_lmdb_port(*ret_lmdb);
}

static enum err on_group(void *context, const struct meta_group *row)
{
    struct damage *d = context;
    d->has_row = d->has_row || row->group == d->group;
    return OK;
}

static enum err on_segment(void *context, uint64_t group, const struct meta_segment *row)
{
    struct damage *d = context;
    if (group == d->group && d->segments_count < SEGMENTS_MAX) {
        d->segments[d->segments_count++] = *row;
    }
    return OK;
}

static enum err on_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    (void)context, (void)group, (void)epoch;
    return OK;
}

static enum err on_done(void *context, uint64_t group, const struct done_row *row)
{
    (void)context, (void)group, (void)row;
    return OK;
}

static enum err on_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    (void)context, (void)group, (void)row;
    return OK;
}

static enum err on_bad(void *context, const struct meta_bad_row *row)
{
    (void)context, (void)row;
    return OK;
}

static void read_store(struct damage *d)
{
    const struct meta_visitor visitor = {d, on_group, on_segment, on_epoch, on_done, on_state, on_bad};
    struct os_lmdb *lmdb;
    enum err error = meta_load(store_open(d->dir, &lmdb), &visitor);
    ASSERT(error == OK);
    os_lmdb_close(lmdb);
}

/* The keys of the group's rows of this type, KEYS_MAX of them at most. */
static uint32_t list_keys(const struct damage *d, struct kv *kv, struct kv_txn *txn, char type, struct row_key *keys)
{
    uint32_t count = 0;
    struct row_key from = {.bytes = {(uint8_t)type}, .size = GROUP_KEY_BYTES};
    store_be64(from.bytes + 1, d->group);
    while (count < KEYS_MAX) {
        struct kv_bytes key, value;
        enum err error = kv->ops->seek(kv, txn, (struct kv_bytes){from.bytes, from.size}, &key, &value);
        if (error != OK || key.size < GROUP_KEY_BYTES || memcmp(key.data, from.bytes, GROUP_KEY_BYTES) != 0)
            break;
        ASSERT(key.size < sizeof from.bytes);
        memcpy(from.bytes, key.data, key.size);
        from.size = key.size;
        keys[count++] = from;
        from.bytes[from.size++] = 0; /* the smallest key behind it */
    }
    return count;
}

/* A bit of one of the group's rows of this type. */
static bool hit_row(struct damage *d, char type)
{
    struct row_key keys[KEYS_MAX];
    uint8_t copy[ROW_BYTES_MAX];
    struct kv_bytes value;
    struct kv_txn *txn;
    struct os_lmdb *lmdb;
    struct kv *kv = store_open(d->dir, &lmdb);
    enum err error = kv->ops->begin(kv, true, &txn);
    ASSERT(error == OK);
    uint32_t count = list_keys(d, kv, txn, type, keys);
    if (count > 0) {
        struct row_key *hit = &keys[rng_below(d->rng, count)];
        struct kv_bytes key = {hit->bytes, hit->size};
        error = kv->ops->get(kv, txn, key, &value);
        ASSERT(error == OK && value.size <= sizeof copy);
        memcpy(copy, value.data, value.size);
        copy[rng_below(d->rng, value.size)] ^= (uint8_t)(1 << rng_below(d->rng, 8));
        error = kv->ops->put(kv, txn, key, (struct kv_bytes){copy, value.size});
        ASSERT(error == OK);
        error = kv->ops->commit(kv, txn);
        ASSERT(error == OK);
        snprintf(d->text, DAMAGE_TEXT_BYTES, "a bit of a row of type %c", type);
    } else {
        kv->ops->abort(kv, txn);
    }
    os_lmdb_close(lmdb);
    return count > 0;
}

/* --- files --- */

static void path_of_segment(const struct damage *d, const struct meta_segment *segment, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/parts/%llu/%020lld.log", d->dir, (unsigned long long)d->group,
             (long long)segment->base_offset);
}

static void hit_bytes(struct damage *d, const char *path, uint64_t offset, uint64_t size)
{
    uint8_t bytes[WAL_BLOCK_BYTES];
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ASSERT(fd >= 0 && size <= sizeof bytes);
    ssize_t got = pread(fd, bytes, size, (off_t)offset); /* nothing, if it was cut off before */
    ASSERT(got >= 0);
    for (ssize_t i = 0; i < got; i++) {
        bytes[i] ^= (uint8_t)(1 + rng_below(d->rng, 255));
    }
    ssize_t wrote = pwrite(fd, bytes, (size_t)got, (off_t)offset);
    ASSERT(wrote == got);
    close(fd);
    snprintf(d->text, DAMAGE_TEXT_BYTES, "%lld bytes at %llu of %.100s", (long long)got, (unsigned long long)offset,
             path + strlen(d->dir) + 1);
}

/* The last segment, which has a copy of its end in the checkpoint store, is as likely as all others. */
static bool hit_segment(struct damage *d)
{
    char path[PATH_BYTES];
    if (d->segments_count == 0)
        return false;
    uint32_t last = d->segments_count - 1;
    const struct meta_segment *segment =
        &d->segments[rng_chance(d->rng, 0.5) ? last : rng_below(d->rng, d->segments_count)];
    uint64_t offset = rng_below(d->rng, segment->size_bytes);
    path_of_segment(d, segment, path);
    if (access(path, R_OK) != 0)
        return false; /* hit before */
    switch (rng_below(d->rng, 5)) {
    case 0:
        snprintf(d->text, DAMAGE_TEXT_BYTES, "%.100s is lost", path + strlen(d->dir) + 1);
        return unlink(path) == 0;
    case 1:
        snprintf(d->text, DAMAGE_TEXT_BYTES, "%.100s ends at %llu", path + strlen(d->dir) + 1,
                 (unsigned long long)offset);
        return truncate(path, (off_t)offset) == 0;
    case 2:
        hit_bytes(d, path, offset / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES, WAL_BLOCK_BYTES);
        return true;
    default:
        hit_bytes(d, path, offset, 1 + rng_below(d->rng, 4));
        return true;
    }
}

/* --- the WAL --- */

static void on_file(void *context, const char *name, uint64_t base_lsn, uint64_t salt, uint64_t boot, uint32_t version)
{
    struct damage *d = context;
    (void)salt, (void)boot, (void)version;
    ASSERT(d->files_count < FILES_MAX);
    struct wal_file *file = &d->files[d->files_count++];
    file->base_lsn = base_lsn;
    snprintf(file->name, sizeof file->name, "%s", name);
}

static void on_batch(void *context, uint64_t lsn, uint32_t length, const char *verdict)
{
    struct damage *d = context;
    if (strcmp(verdict, "ok") == 0 && d->places_count < PLACES_MAX) {
        d->places[d->places_count++] = (struct place){.lsn = lsn, .length = length};
    }
}

static void on_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct damage *d = context;
    struct place *place = d->places_count > 0 ? &d->places[d->places_count - 1] : NULL;
    if (place != NULL && place->lsn == lsn && record->type == WAL_ENTRY && record->group == d->group) {
        place->is_hit = true;
    }
}

static bool hit_wal(struct damage *d)
{
    const struct wal_inspector inspector = {.context = d, .file = on_file, .batch = on_batch, .record = on_record};
    struct os_disk *disk;
    char path[PATH_BYTES];
    enum err error = os_disk_open(d->dir, NULL, &disk);
    error = error == OK ? wal_inspect(os_disk_port(disk), "wal", &inspector) : error;
    ASSERT(error == OK);
    os_disk_close(disk);
    uint32_t hits = 0;
    const struct place *hit = NULL;
    for (uint32_t i = 0; i + 1 < d->places_count; i++) { /* the last one has nobody to vouch for it */
        if (d->places[i].is_hit && rng_below(d->rng, ++hits) == 0) {
            hit = &d->places[i];
        }
    }
    const struct wal_file *file = NULL;
    for (uint32_t i = 0; hit != NULL && i < d->files_count; i++) {
        bool is_nearer = file == NULL || d->files[i].base_lsn > file->base_lsn;
        file = d->files[i].base_lsn <= hit->lsn && is_nearer ? &d->files[i] : file;
    }
    if (file == NULL)
        return false;
    snprintf(path, sizeof path, "%s/wal/%s", d->dir, file->name);
    hit_bytes(d, path, WAL_BLOCK_BYTES + hit->lsn - file->base_lsn + rng_below(d->rng, hit->length), 1);
    return true;
}

/* --- which --- */

bool damage_group(const char *dir, uint64_t group, struct rng *rng, char ret_text[DAMAGE_TEXT_BYTES])
{
    struct damage *d = calloc(1, sizeof *d);
    ASSERT(d != NULL);
    *d = (struct damage){.dir = dir, .group = group, .rng = rng, .text = ret_text};
    read_store(d);
    uint64_t dice = rng_below(rng, 100);
    bool done = dice < 50 ? hit_segment(d) : dice < 75 ? hit_wal(d) : hit_row(d, "MMED"[rng_below(rng, 4)]);
    free(d);
    return done;
}

bool damage_is_possible(const char *dir, uint64_t group)
{
    struct damage *d = calloc(1, sizeof *d);
    ASSERT(d != NULL);
    *d = (struct damage){.dir = dir, .group = group};
    read_store(d);
    bool possible = d->has_row;
    free(d);
    return possible;
}
