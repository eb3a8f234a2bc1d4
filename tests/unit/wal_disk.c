/* Files are arrays, names a table; a name's or a byte's two pictures are compared at a power cut. */
#include "wal_disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct disk_file {
    struct wal_disk_node *node;
};

static struct wal_disk *of(struct disk *disk)
{
    return (struct wal_disk *)disk;
}

static bool call_passes(struct wal_disk *d)
{
    d->calls++;
    if (d->crash_at != 0 && d->calls >= d->crash_at) {
        d->crashed = true;
    }
    return !d->crashed;
}

static void node_unref(struct wal_disk_node *node)
{
    if (node != NULL && --node->refs == 0) {
        free(node->data);
        free(node->synced);
        free(node->dirty);
        free(node);
    }
}

static void node_reserve(struct wal_disk_node *node, uint64_t size)
{
    if (size <= node->capacity) {
        return;
    }
    uint64_t capacity = (size * 2 + WAL_DISK_SECTOR_BYTES - 1) / WAL_DISK_SECTOR_BYTES * WAL_DISK_SECTOR_BYTES;
    node->data = realloc(node->data, capacity);
    node->synced = realloc(node->synced, capacity);
    node->dirty = realloc(node->dirty, capacity / WAL_DISK_SECTOR_BYTES);
    ASSERT(node->data != NULL && node->synced != NULL && node->dirty != NULL);
    memset(node->data + node->capacity, 0, capacity - node->capacity);
    memset(node->synced + node->capacity, 0, capacity - node->capacity);
    memset(node->dirty + node->capacity / WAL_DISK_SECTOR_BYTES, 0,
           (capacity - node->capacity) / WAL_DISK_SECTOR_BYTES);
    node->capacity = capacity;
}

static void node_sync(struct wal_disk_node *node)
{
    if (node->size > 0) {
        memcpy(node->synced, node->data, node->size);
        memset(node->dirty, 0, node->capacity / WAL_DISK_SECTOR_BYTES);
    }
    node->synced_size = node->size;
}

static struct wal_disk_name *find_name(struct wal_disk *d, const char *path, bool make)
{
    struct wal_disk_name *unused = NULL;
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        struct wal_disk_name *name = &d->names[i];
        bool used = name->now != NULL || name->synced != NULL;
        if (used && strcmp(name->path, path) == 0) {
            return name;
        }
        if (!used && unused == NULL) {
            unused = name;
        }
    }
    if (!make) {
        return NULL;
    }
    ASSERT(unused != NULL && strlen(path) < sizeof unused->path);
    strcpy(unused->path, path);
    return unused;
}

struct wal_disk_node *wal_disk_find(struct wal_disk *d, const char *path)
{
    struct wal_disk_name *name = find_name(d, path, false);
    return name != NULL ? name->now : NULL;
}

static enum err fake_open(struct disk *disk, const char *path, unsigned flags, struct disk_file **ret_file)
{
    struct wal_disk *d = of(disk);
    if (!call_passes(d)) {
        return ERR_IO;
    }
    struct wal_disk_node *node = wal_disk_find(d, path);
    if (node == NULL) {
        if (!(flags & DISK_CREATE)) {
            return ERR_NO_FILE;
        }
        ASSERT(d->dir_exists);
        node = calloc(1, sizeof *node);
        ASSERT(node != NULL);
        node->refs = 1;
        find_name(d, path, true)->now = node;
    }
    struct disk_file *file = calloc(1, sizeof *file);
    ASSERT(file != NULL);
    file->node = node;
    node->refs++;
    d->open_handles++;
    *ret_file = file;
    return OK;
}

static void fake_close(struct disk *disk, struct disk_file *file)
{
    of(disk)->open_handles--;
    node_unref(file->node);
    free(file);
}

static enum err fake_size(struct disk *disk, struct disk_file *file, uint64_t *ret_size_bytes)
{
    if (!call_passes(of(disk))) {
        return ERR_IO;
    }
    *ret_size_bytes = file->node->size;
    return OK;
}

static enum err fake_read(struct disk *disk, struct disk_file *file, void *data, size_t size, uint64_t offset,
                          size_t *ret_read)
{
    if (!call_passes(of(disk))) {
        return ERR_IO;
    }
    uint64_t left = offset < file->node->size ? file->node->size - offset : 0;
    size_t part = size < left ? size : (size_t)left;
    if (part > 0) {
        memcpy(data, file->node->data + offset, part);
    }
    *ret_read = part;
    return OK;
}

/* On the disk: written, or set aside. */
static uint64_t node_bytes(const struct wal_disk_node *node)
{
    return node->size > node->reserved ? node->size : node->reserved;
}

uint64_t wal_disk_bytes(const struct wal_disk *d)
{
    uint64_t bytes = 0;
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        bytes += d->names[i].now != NULL ? node_bytes(d->names[i].now) : 0;
    }
    return bytes;
}

static enum err fake_write(struct disk *disk, struct disk_file *file, const struct iovec *parts, int parts_count,
                           uint64_t offset)
{
    struct wal_disk *d = of(disk);
    struct wal_disk_node *node = file->node;
    bool was_crashed = d->crashed;
    bool passes = call_passes(d);
    uint64_t size = 0;
    if (was_crashed) {
        return ERR_IO;
    }
    for (int i = 0; i < parts_count; i++) {
        size += parts[i].iov_len;
    }
    uint64_t had_bytes = node_bytes(node);
    uint64_t disk_bytes = wal_disk_bytes(d);
    uint64_t end = had_bytes + (disk_bytes < d->room_bytes ? d->room_bytes - disk_bytes : 0);
    bool fits = offset + size <= end;
    if (!fits) { /* a beginning of it does */
        size = offset < end ? end - offset : 0;
    }
    /* The call that dies leaves a beginning of itself in the page cache. */
    size = passes ? size : rng_below(&d->rng, size + 1);
    node_reserve(node, offset + size);
    for (int i = 0; i < parts_count && size > 0; i++) {
        uint64_t part = parts[i].iov_len < size ? parts[i].iov_len : size;
        if (part > 0) {
            memcpy(node->data + offset, parts[i].iov_base, part);
            for (uint64_t at = offset / WAL_DISK_SECTOR_BYTES; at <= (offset + part - 1) / WAL_DISK_SECTOR_BYTES;
                 at++) {
                node->dirty[at] = 1;
            }
        }
        offset += part;
        size -= part;
    }
    node->size = offset > node->size ? offset : node->size;
    d->writes++;
    return !passes ? ERR_IO : fits ? OK : ERR_STORAGE_FULL;
}

static enum err fake_sync(struct disk *disk, struct disk_file *file)
{
    struct wal_disk *d = of(disk);
    if (!call_passes(d)) {
        return ERR_IO;
    }
    if (d->fail_syncs_in > 0 && --d->fail_syncs_in == 0) {
        return ERR_IO;
    }
    node_sync(file->node);
    d->syncs++;
    return OK;
}

static bool fake_wants_staging(struct disk *disk)
{
    return disk != NULL;
}

static enum err fake_writeback(struct disk *disk, struct disk_file *file, uint64_t offset, uint64_t size)
{
    return call_passes(of(disk)) ? OK : ERR_IO;
}

static enum err fake_truncate(struct disk *disk, struct disk_file *file, uint64_t size)
{
    struct wal_disk *d = of(disk);
    struct wal_disk_node *node = file->node;
    if (!call_passes(d)) {
        return ERR_IO;
    }
    ASSERT(size <= node->size);
    memset(node->data + size, 0, node->size - size);
    memset(node->synced + size, 0, node->capacity - size); /* as if it had been synced: what is cut off is garbage */
    node->size = size;
    node->synced_size = node->synced_size < size ? node->synced_size : size;
    node->reserved = 0;
    return OK;
}

static enum err fake_reserve(struct disk *disk, struct disk_file *file, uint64_t size)
{
    struct wal_disk *d = of(disk);
    struct wal_disk_node *node = file->node;
    uint64_t had_bytes = node_bytes(node);
    if (!call_passes(d)) {
        return ERR_IO;
    }
    if (size > had_bytes && wal_disk_bytes(d) + size - had_bytes > d->room_bytes) {
        node->reserved = 0;
        return ERR_STORAGE_FULL;
    }
    node->reserved = size > had_bytes ? size : had_bytes;
    return OK;
}

static enum err fake_unlink(struct disk *disk, const char *path)
{
    struct wal_disk *d = of(disk);
    if (!call_passes(d)) {
        return ERR_IO;
    }
    struct wal_disk_name *name = find_name(d, path, false);
    if (name == NULL || name->now == NULL) {
        return ERR_NO_FILE;
    }
    node_unref(name->now);
    name->now = NULL;
    d->unlinks++;
    return OK;
}

static void sync_name(struct wal_disk_name *name)
{
    if (name->now != NULL) {
        name->now->refs++;
    }
    node_unref(name->synced);
    name->synced = name->now;
}

static enum err fake_sync_dir(struct disk *disk, const char *path)
{
    struct wal_disk *d = of(disk);
    if (!call_passes(d)) {
        return ERR_IO;
    }
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        sync_name(&d->names[i]);
    }
    return OK;
}

static enum err fake_sync_all(struct disk *disk)
{
    struct wal_disk *d = of(disk);
    if (!call_passes(d)) {
        return ERR_IO;
    }
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        if (d->names[i].now != NULL) {
            node_sync(d->names[i].now);
        }
        sync_name(&d->names[i]);
    }
    d->dir_synced = d->dir_exists;
    return OK;
}

static enum err fake_make_dir(struct disk *disk, const char *path)
{
    if (!call_passes(of(disk))) {
        return ERR_IO;
    }
    of(disk)->dir_exists = true;
    return OK;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static enum err fake_list(struct disk *disk, const char *path, void (*visit)(void *context, const char *name),
                          void *context)
{
    struct wal_disk *d = of(disk);
    const char *names[WAL_DISK_FILES_MAX];
    size_t count = 0;
    if (!call_passes(d)) {
        return ERR_IO;
    }
    if (!d->dir_exists) {
        return ERR_NO_FILE;
    }
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        if (d->names[i].now != NULL) {
            names[count++] = strrchr(d->names[i].path, '/') + 1;
        }
    }
    qsort(names, count, sizeof names[0], compare_names);
    for (size_t i = 0; i < count; i++) {
        visit(context, names[i]);
    }
    return OK;
}

static void fake_submit(struct disk *disk, enum disk_lane lane, struct disk_job *job)
{
    struct wal_disk *d = of(disk);
    struct disk_job **at = &d->first[lane];
    while (*at != NULL) {
        at = &(*at)->next;
    }
    job->next = NULL;
    *at = job;
    d->jobs_count[lane]++;
}

static uint64_t fake_now_us(struct clock *clock)
{
    return ((struct wal_disk *)((char *)clock - offsetof(struct wal_disk, clock)))->now_us;
}

static void fake_random(struct clock *clock, void *data, size_t size)
{
    struct wal_disk *d = (struct wal_disk *)((char *)clock - offsetof(struct wal_disk, clock));
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)data)[i] = (uint8_t)rng_next(&d->rng);
    }
}

static const struct disk_ops ops = {.open = fake_open,
                                    .close = fake_close,
                                    .size = fake_size,
                                    .read = fake_read,
                                    .write = fake_write,
                                    .sync = fake_sync,
                                    .wants_staging = fake_wants_staging,
                                    .writeback = fake_writeback,
                                    .truncate = fake_truncate,
                                    .reserve = fake_reserve,
                                    .sync_all = fake_sync_all,
                                    .make_dir = fake_make_dir,
                                    .unlink = fake_unlink,
                                    .sync_dir = fake_sync_dir,
                                    .list = fake_list,
                                    .submit = fake_submit};
static const struct clock_ops clock_ops = {.now_us = fake_now_us, .random = fake_random};

void wal_disk_init(struct wal_disk *d, uint64_t seed)
{
    memset(d, 0, sizeof *d);
    d->disk.ops = &ops;
    d->clock.ops = &clock_ops;
    d->now_us = 1;
    d->room_bytes = UINT64_MAX / 2;
    rng_seed(&d->rng, seed);
}

void wal_disk_done(struct wal_disk *d)
{
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        node_unref(d->names[i].now);
        node_unref(d->names[i].synced);
        d->names[i].now = d->names[i].synced = NULL;
    }
}

bool wal_disk_step(struct wal_disk *d, enum disk_lane lane)
{
    struct disk_job *job = d->first[lane];
    if (job == NULL) {
        return false;
    }
    d->first[lane] = job->next;
    d->jobs_count[lane]--;
    job->run(job);
    job->done(job);
    return true;
}

void wal_disk_pump(struct wal_disk *d)
{
    bool worked = true;
    while (worked) {
        worked = false;
        for (int lane = 0; lane < DISK_LANES; lane++) {
            worked = wal_disk_step(d, (enum disk_lane)lane) || worked;
        }
    }
}

void wal_disk_power_cut(struct wal_disk *d, enum wal_disk_cut cut)
{
    ASSERT(d->open_handles == 0);
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        struct wal_disk_name *name = &d->names[i];
        bool keep_name = cut == WAL_DISK_KEEP || (cut == WAL_DISK_TEAR && rng_chance(&d->rng, 0.5));
        if (keep_name) {
            sync_name(name);
        } else {
            if (name->synced != NULL) {
                name->synced->refs++;
            }
            node_unref(name->now);
            name->now = name->synced;
        }
        struct wal_disk_node *node = name->now;
        if (node == NULL) {
            continue;
        }
        uint64_t size = node->synced_size;
        for (uint64_t at = 0; at * WAL_DISK_SECTOR_BYTES < node->size; at++) {
            uint64_t fate = cut == WAL_DISK_TEAR ? rng_below(&d->rng, 3) : cut == WAL_DISK_KEEP;
            uint8_t *sector = node->data + at * WAL_DISK_SECTOR_BYTES;
            if (!node->dirty[at]) {
                continue;
            }
            if (fate == 0) {
                memcpy(sector, node->synced + at * WAL_DISK_SECTOR_BYTES, WAL_DISK_SECTOR_BYTES);
            } else if (fate == 2) {
                memset(sector, 0xa5, WAL_DISK_SECTOR_BYTES);
            }
            if (fate != 0 && (at + 1) * WAL_DISK_SECTOR_BYTES > size) {
                size = (at + 1) * WAL_DISK_SECTOR_BYTES;
            }
        }
        if (size < node->size) {
            memset(node->data + size, 0, node->size - size);
        }
        node->size = size;
        node_sync(node);
    }
    d->dir_exists = cut == WAL_DISK_KEEP ? d->dir_exists : d->dir_synced;
    d->dir_synced = d->dir_exists;
    if (!d->dir_exists) {
        wal_disk_done(d);
    }
}

void wal_disk_revive(struct wal_disk *d)
{
    d->crash_at = 0;
    d->crashed = false;
}

struct wal_disk_node *wal_disk_put(struct wal_disk *d, const char *path, const void *data, uint64_t size)
{
    struct wal_disk_name *name = find_name(d, path, true);
    ASSERT(name->now == NULL && name->synced == NULL);
    struct wal_disk_node *node = calloc(1, sizeof *node);
    ASSERT(node != NULL);
    node->refs = 1;
    node_reserve(node, size > 0 ? size : 1);
    if (size > 0) {
        memcpy(node->data, data, size);
    }
    node->size = size;
    node_sync(node);
    name->now = node;
    sync_name(name);
    d->dir_exists = d->dir_synced = true;
    return node;
}

void wal_disk_flip(struct wal_disk *d, const char *path, uint64_t offset, uint64_t size)
{
    struct wal_disk_node *node = wal_disk_find(d, path);
    ASSERT(node != NULL && offset + size <= node->size);
    for (uint64_t i = offset; i < offset + size; i++) {
        node->data[i] ^= 0xff;
        node->synced[i] = node->data[i];
    }
}

void wal_disk_copy(struct wal_disk *to, const struct wal_disk *from)
{
    for (int i = 0; i < WAL_DISK_FILES_MAX; i++) {
        if (from->names[i].now != NULL) {
            wal_disk_put(to, from->names[i].path, from->names[i].now->data, from->names[i].now->size);
        }
    }
    to->dir_exists = to->dir_synced = from->dir_exists;
}
