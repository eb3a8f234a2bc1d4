/* The port's calls on a sim_tree. Lanes are one queue: the store uses only one. */
#include "store_disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct disk_file {
    struct inode *inode;
};

static struct store_disk *of(struct disk *port)
{
    return (struct store_disk *)port;
}

static bool passes(struct disk *port)
{
    struct store_disk *disk = of(port);
    disk->calls++;
    return disk->crash_at == 0 || disk->calls < disk->crash_at;
}

static bool is_dead(struct disk *port)
{
    return of(port)->crash_at != 0 && of(port)->calls >= of(port)->crash_at;
}

static enum err file_open(struct disk *port, const char *path, unsigned flags, struct disk_file **ret_file)
{
    struct inode *inode;
    if ((flags & DISK_CREATE) ? !passes(port) : is_dead(port)) {
        return ERR_IO;
    }
    enum err error = tree_find(of(port)->tree, TREE_NOW, path, &inode);
    if (error == ERR_NO_FILE && (flags & DISK_CREATE)) {
        error = tree_create(of(port)->tree, path, &inode);
    }
    if (error != OK) {
        return error;
    }
    *ret_file = malloc(sizeof **ret_file);
    (*ret_file)->inode = inode_ref(inode);
    of(port)->opens++;
    if (++of(port)->open_handles > of(port)->open_handles_max) {
        of(port)->open_handles_max = of(port)->open_handles;
    }
    return OK;
}

static void file_close(struct disk *port, struct disk_file *file)
{
    of(port)->open_handles--;
    inode_unref(file->inode);
    free(file);
}

static enum err file_size(struct disk *port, struct disk_file *file, uint64_t *ret_size_bytes)
{
    if (is_dead(port)) {
        return ERR_IO;
    }
    *ret_size_bytes = inode_size(file->inode, TREE_NOW);
    return OK;
}

static enum err file_read(struct disk *port, struct disk_file *file, void *data, size_t size, uint64_t offset,
                          size_t *ret_read)
{
    if (is_dead(port)) {
        return ERR_IO;
    }
    struct store_disk *disk = (struct store_disk *)port;
    disk->fail_read_at -= disk->fail_read_at > 1;
    if (disk->fail_read_at == 1 && disk->fail_reads > 0) {
        disk->fail_reads--;
        return ERR_IO;
    }
    *ret_read = inode_read(file->inode, TREE_NOW, data, size, offset);
    if (disk->misreads > 0 && *ret_read > 0) {
        disk->misreads--;
        *(uint8_t *)data ^= 1;
    }
    return OK;
}

static enum err file_write(struct disk *port, struct disk_file *file, const struct iovec *parts, int parts_count,
                           uint64_t offset)
{
    struct store_disk *disk = of(port);
    uint64_t bytes = 0;
    if (!passes(port)) {
        return ERR_IO;
    }
    if (disk->is_full) {
        return ERR_STORAGE_FULL;
    }
    if (disk->fail_write_at > 0 && --disk->fail_write_at == 0) {
        return disk->fail_error;
    }
    for (int i = 0; i < parts_count; i++) {
        inode_write(disk->tree, file->inode, parts[i].iov_base, parts[i].iov_len, offset + bytes);
        bytes += parts[i].iov_len;
    }
    disk->writes++;
    disk->write_bytes_max = bytes > disk->write_bytes_max ? bytes : disk->write_bytes_max;
    return OK;
}

static enum err file_sync(struct disk *port, struct disk_file *file)
{
    if (!passes(port)) {
        return ERR_IO;
    }
    of(port)->syncs++;
    if (of(port)->fails_syncs) {
        inode_sync_fails(file->inode);
        return ERR_IO;
    }
    inode_sync(of(port)->tree, file->inode, NULL, NULL);
    return OK;
}

static bool file_wants_staging(struct disk *port)
{
    return !of(port)->drops_cache;
}

static enum err file_writeback(struct disk *port, struct disk_file *file, uint64_t offset, uint64_t size)
{
    (void)file;
    ASSERT(offset % size == 0);
    of(port)->writebacks++;
    return OK;
}

static enum err file_reserve(struct disk *port, struct disk_file *file, uint64_t size)
{
    (void)file;
    (void)size;
    return is_dead(port) ? ERR_IO : OK;
}

static enum err file_truncate(struct disk *port, struct disk_file *file, uint64_t size)
{
    if (!passes(port)) {
        return ERR_IO;
    }
    inode_truncate(of(port)->tree, file->inode, size);
    return OK;
}

static enum err sync_all(struct disk *port)
{
    if (!passes(port)) {
        return ERR_IO;
    }
    of(port)->sync_alls++;
    if (of(port)->fails_syncs) {
        return ERR_IO;
    }
    tree_sync_all(of(port)->tree, NULL, NULL);
    return OK;
}

static enum err make_dir(struct disk *port, const char *path)
{
    char prefix[256];
    enum err error = OK;
    for (size_t i = 1; i <= strlen(path) && error == OK; i++) {
        if (path[i] == '/' || path[i] == '\0') {
            memcpy(prefix, path, i);
            prefix[i] = '\0';
            error = passes(port) ? tree_make_dir(of(port)->tree, prefix) : ERR_IO;
        }
    }
    return error;
}

static enum err remove_dir(struct disk *port, const char *path)
{
    return passes(port) ? tree_remove_dir(of(port)->tree, path) : ERR_IO;
}

static enum err disk_rename(struct disk *port, const char *from, const char *to)
{
    return passes(port) ? tree_rename(of(port)->tree, from, to) : ERR_IO;
}

static enum err disk_unlink(struct disk *port, const char *path)
{
    return passes(port) ? tree_unlink(of(port)->tree, path) : ERR_IO;
}

static enum err sync_dir(struct disk *port, const char *path)
{
    return passes(port) ? tree_sync_dir(of(port)->tree, path) : ERR_IO;
}

static enum err list(struct disk *port, const char *path, void (*visit)(void *context, const char *name), void *context)
{
    return is_dead(port) ? ERR_IO : tree_list(of(port)->tree, TREE_NOW, path, visit, context);
}

static void append(struct disk_job **list_head, struct disk_job *job)
{
    while (*list_head != NULL) {
        list_head = &(*list_head)->next;
    }
    job->next = NULL;
    *list_head = job;
}

static void submit(struct disk *port, enum disk_lane lane, struct disk_job *job)
{
    ASSERT(lane == DISK_LANE_STORE);
    append(&of(port)->first, job);
}

static uint64_t now_us(struct clock *clock)
{
    struct store_disk *disk = (struct store_disk *)((char *)clock - offsetof(struct store_disk, clock));
    return disk->now_us;
}

static const struct disk_ops disk_ops = {
    .open = file_open,
    .close = file_close,
    .size = file_size,
    .read = file_read,
    .write = file_write,
    .sync = file_sync,
    .wants_staging = file_wants_staging,
    .writeback = file_writeback,
    .truncate = file_truncate,
    .reserve = file_reserve,
    .sync_all = sync_all,
    .make_dir = make_dir,
    .remove_dir = remove_dir,
    .rename = disk_rename,
    .unlink = disk_unlink,
    .sync_dir = sync_dir,
    .list = list,
    .submit = submit,
};
static const struct clock_ops clock_ops = {.now_us = now_us};

void store_disk_init(struct store_disk *disk, uint64_t seed)
{
    *disk = (struct store_disk){.port.ops = &disk_ops, .clock.ops = &clock_ops, .now_us = 1000000, .tree = tree_new()};
    rng_seed(&disk->rng, seed);
}

void store_disk_done(struct store_disk *disk)
{
    ASSERT(disk->open_handles == 0);
    tree_free(disk->tree);
}

bool store_disk_run(struct store_disk *disk)
{
    struct disk_job *job = disk->first;
    if (job == NULL) {
        return false;
    }
    disk->first = job->next;
    job->run(job);
    append(&disk->ran, job);
    return true;
}

bool store_disk_finish(struct store_disk *disk)
{
    struct disk_job *job = disk->ran;
    if (job == NULL) {
        return false;
    }
    disk->ran = job->next;
    job->done(job);
    return true;
}

void store_disk_pump(struct store_disk *disk)
{
    while (store_disk_run(disk) || store_disk_finish(disk)) {
    }
}

void store_disk_crash(struct store_disk *disk)
{
    disk->first = disk->ran = NULL;
    disk->crash_at = 0;
    disk->fail_write_at = 0;
    disk->is_full = disk->fails_syncs = false;
}

void store_disk_power_cut(struct store_disk *disk, const struct tree_cut *cut)
{
    tree_power_cut(disk->tree, &disk->rng, cut);
}

/* --- the test's own hands --- */

static struct inode *find(struct store_disk *disk, const char *path)
{
    struct inode *inode = NULL;
    return tree_find(disk->tree, TREE_NOW, path, &inode) == OK ? inode : NULL;
}

bool store_disk_has(struct store_disk *disk, const char *path)
{
    return find(disk, path) != NULL;
}

uint64_t store_disk_size(struct store_disk *disk, const char *path)
{
    struct inode *inode = find(disk, path);
    ASSERT(inode != NULL);
    return inode_size(inode, TREE_NOW);
}

void store_disk_get(struct store_disk *disk, const char *path, uint64_t offset, void *data, size_t size)
{
    struct inode *inode = find(disk, path);
    ASSERT(inode != NULL && inode_read(inode, TREE_NOW, data, size, offset) == size);
}

void store_disk_put(struct store_disk *disk, const char *path, uint64_t offset, const void *data, size_t size)
{
    struct inode *inode = find(disk, path);
    if (inode == NULL) {
        ASSERT(tree_create(disk->tree, path, &inode) == OK);
    }
    inode_write(disk->tree, inode, data, size, offset);
    inode_sync(disk->tree, inode, NULL, NULL);
}

void store_disk_remove(struct store_disk *disk, const char *path)
{
    ASSERT(tree_unlink(disk->tree, path) == OK);
}

static void count_name(void *context, const char *name)
{
    (void)name;
    ++*(int *)context;
}

int store_disk_count(struct store_disk *disk, const char *dir)
{
    int count = 0;
    return tree_list(disk->tree, TREE_NOW, dir, count_name, &count) == OK ? count : -1;
}
