/* The simulated disk: calls, lanes and crashes. What bytes and names do is in sim_tree. */
#include "sim_disk.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/assert.h"
#include "base/crc32c.h"

struct disk_file {
    struct inode *inode; /* one reference */
    char *path;          /* under which it was opened */
    unsigned flags;
    TAILQ_ENTRY(disk_file) link;
};

struct lane {
    struct sim_disk *disk;
    struct disk_job *first, **last;   /* submitted, not run */
    struct disk_job *ran, **ran_last; /* run, `done` not called */
    bool run_is_planned;
    bool is_running;   /* a job's `run` is on the stack */
    uint64_t delay_us; /* by which it takes longer */
    uint64_t run_us;   /* run_is_planned: when */
    uint64_t done_us;  /* when the last planned `done` comes */
};

struct shadow {
    struct disk port;
    struct sim_disk *disk;
};

struct sim_disk {
    struct disk port; /* first: the port is the disk */
    struct sim_world *world;
    struct sim_disk_options options;
    struct tree *tree;
    struct shadow shadow;
    struct sim_media media;
    struct lane lanes[DISK_LANES];
    TAILQ_HEAD(, disk_file) files;
    uint64_t syncs;
    bool is_news;     /* for told_dir */
    bool sync_failed; /* in this life */
    uint64_t sync_error_countdown;
    bool wants_staging;                   /* both kinds of kernel are simulated */
    uint64_t slow_us_max, still_until_us; /* gray */
    uint64_t bytes_max;                   /* of all files; UINT64_MAX: no limit */
    uint64_t life;                        /* events of an earlier life find another number and do nothing */
};

static struct sim_disk *disk_of(struct disk *port)
{
    return (struct sim_disk *)port;
}

/* The gate that every call passes: a crash, or the time that it takes. */
static bool may_go_on(struct sim_disk *disk, enum sim_io kind)
{
    if (!world_io(disk->world, kind))
        return false;
    sim_disk_delay(disk, sim_media_call_us(&disk->media));
    return true;
}

/* --- files --- */

static struct disk_file *file_new(struct sim_disk *disk, struct inode *inode, const char *path, unsigned flags)
{
    struct disk_file *file = malloc(sizeof *file);
    ASSERT(file != NULL);
    *file = (struct disk_file){.inode = inode_ref(inode), .path = strdup(path), .flags = flags};
    TAILQ_INSERT_TAIL(&disk->files, file, link);
    return file;
}

static void file_free(struct sim_disk *disk, struct disk_file *file)
{
    TAILQ_REMOVE(&disk->files, file, link);
    inode_unref(file->inode);
    free(file->path);
    free(file);
}

/* How much of growth_bytes there is room for. */
static uint64_t room_for(const struct sim_disk *disk, uint64_t growth_bytes)
{
    if (disk->bytes_max == UINT64_MAX || growth_bytes == 0)
        return growth_bytes;
    uint64_t used = tree_bytes(disk->tree);
    uint64_t room = used < disk->bytes_max ? disk->bytes_max - used : 0;
    return growth_bytes < room ? growth_bytes : room;
}

static enum err no_room(struct sim_disk *disk)
{
    disk->world->no_room_us = disk->world->now_us;
    return ERR_STORAGE_FULL;
}

static enum err sim_open(struct disk *port, const char *path, unsigned flags, struct disk_file **ret_file)
{
    struct sim_disk *disk = disk_of(port);
    if (!may_go_on(disk, SIM_IO_OPEN))
        return ERR_IO;
    ASSERT(!(flags & DISK_CREATE) || (flags & DISK_WRITE));
    struct inode *inode;
    enum err error = sim_media_open(&disk->media, path);
    if (error != OK)
        return error;
    error = tree_find(disk->tree, TREE_NOW, path, &inode);
    if (error == OK && (flags & DISK_CREATE) && (flags & DISK_EXCLUSIVE))
        return ERR_EXISTS;
    if (error == ERR_NO_FILE && (flags & DISK_CREATE)) {
        if (room_for(disk, 1) == 0)
            return no_room(disk);
        error = tree_create(disk->tree, path, &inode);
        world_log(disk->world, "    disk: create %s", path);
    }
    if (error != OK)
        return error;
    if (inode_is_dir(inode))
        return ERR_IO;
    *ret_file = file_new(disk, inode, path, flags);
    return OK;
}

static void sim_close(struct disk *port, struct disk_file *file)
{
    file_free(disk_of(port), file); /* not an I/O call that can fail: nothing becomes durable or is lost by it */
}

static enum err sim_size(struct disk *port, struct disk_file *file, uint64_t *ret_size_bytes)
{
    if (!may_go_on(disk_of(port), SIM_IO_READ))
        return ERR_IO;
    *ret_size_bytes = inode_size(file->inode, TREE_NOW);
    return OK;
}

static enum err sim_read(struct disk *port, struct disk_file *file, void *data, size_t size, uint64_t offset,
                         size_t *ret_read)
{
    struct sim_disk *disk = disk_of(port);
    if (!may_go_on(disk, SIM_IO_READ))
        return ERR_IO;
    uint64_t end = inode_size(file->inode, TREE_NOW);
    size_t got = offset >= end ? 0 : size < end - offset ? size : (size_t)(end - offset);
    enum err error = sim_media_read(&disk->media, file->path, file->inode, got, offset);
    if (error != OK)
        return error;
    *ret_read = inode_read(file->inode, TREE_NOW, data, size, offset);
    ASSERT(*ret_read == got);
    sim_media_spoil(&disk->media, file->path, file->inode, data, got, offset);
    return OK;
}

/* A write that dies leaves any sectors of it in the page cache, in any order: the kernel may have copied a part, or
 * have sent it to the disk already (O_DIRECT). */
static void write_dies(struct sim_disk *disk, struct disk_file *file, const struct iovec *parts, int parts_count,
                       uint64_t offset)
{
    struct rng *rng = &disk->world->crash;
    double chance = rng_below(rng, 3) / 2.0;
    for (int i = 0; i < parts_count; i++) {
        const uint8_t *data = parts[i].iov_base;
        for (size_t at = 0; at < parts[i].iov_len;) {
            size_t part = SECTOR_BYTES - (size_t)((offset + at) % SECTOR_BYTES);
            if (part > parts[i].iov_len - at) {
                part = parts[i].iov_len - at;
            }
            if (rng_chance(rng, chance)) {
                inode_write(disk->tree, file->inode, data + at, part, offset + at);
            }
            at += part;
        }
        offset += parts[i].iov_len;
    }
}

static uint64_t parts_size(const struct iovec *parts, int parts_count)
{
    uint64_t size = 0;
    for (int i = 0; i < parts_count; i++) {
        size += parts[i].iov_len;
    }
    return size;
}

static enum err sim_write(struct disk *port, struct disk_file *file, const struct iovec *parts, int parts_count,
                          uint64_t offset)
{
    struct sim_disk *disk = disk_of(port);
    ASSERT(file->flags & DISK_WRITE);
    bool was_alive = !disk->world->crashed;
    if (!may_go_on(disk, SIM_IO_WRITE)) {
        if (was_alive) {
            write_dies(disk, file, parts, parts_count, offset);
        }
        return ERR_IO;
    }
    world_log(disk->world, "    disk: write %s at %llu", file->path, (unsigned long long)offset);
    enum err error = sim_media_write(&disk->media, file->path, file->inode, offset, parts_size(parts, parts_count));
    if (error != OK) {
        write_dies(disk, file, parts, parts_count, offset);
        return error;
    }
    for (int i = 0; i < parts_count; i++) {
        uint64_t end = offset + parts[i].iov_len, size = inode_blocks_bytes(file->inode);
        uint64_t growth = end > size ? end - size : 0;
        uint64_t missing = growth - room_for(disk, growth);
        size_t part = missing < parts[i].iov_len ? parts[i].iov_len - (size_t)missing : 0;
        world_mix(disk->world, offset, crc32c(0, parts[i].iov_base, part));
        inode_write(disk->tree, file->inode, parts[i].iov_base, part, offset);
        offset += part;
        if (missing > 0)
            return no_room(disk);
    }
    if (disk->options.on_written != NULL) {
        uint64_t size = parts_size(parts, parts_count);
        disk->options.on_written(disk->options.context, file->path, file->inode, offset - size, size);
    }
    return OK;
}

/* --- news --- */

static void name_is_news(struct sim_disk *disk, const char *path)
{
    const char *dir = disk->options.told_dir;
    disk->is_news = disk->is_news || (dir != NULL && strncmp(path, dir, strlen(dir)) == 0);
}

/* Something is about to become durable that no sync of a file tells of. */
static void rest_is_news(struct sim_disk *disk)
{
    const char *dir = disk->options.told_dir;
    disk->is_news = disk->is_news || (dir != NULL && !tree_is_durable(disk->tree, dir));
}

bool sim_disk_take_news(struct sim_disk *disk)
{
    bool is_news = disk->is_news || disk->options.told_dir == NULL;
    disk->is_news = false;
    return is_news;
}

/* --- durability --- */

struct synced_range {
    struct sim_disk *disk;
    const char *path;
};

static void on_range_synced(void *context, struct inode *inode, uint64_t offset, uint64_t size)
{
    const struct synced_range *range = context;
    const struct sim_disk_options *options = &range->disk->options;
    uint64_t end = inode_size(inode, TREE_NOW);
    if (options->on_synced != NULL && offset < end) {
        options->on_synced(options->context, range->path, inode_bytes(inode), offset,
                           size < end - offset ? size : end - offset);
    }
}

/* The one planned sync error; pages become clean and are not on the disk (fsyncgate). */
static bool sync_error_is_due(struct sim_disk *disk)
{
    if (disk->sync_error_countdown == 0 || --disk->sync_error_countdown > 0)
        return false;
    disk->media.broke = true;
    world_fault(disk->world, FAULT_SYNC_ERROR);
    world_log(disk->world, "a sync fails");
    return true;
}

/* A file that begins with zeros holds nothing yet, nor does one of which only zeros are not synced: no loss, and no
 * reason to end. */
static bool is_spare(const struct disk_file *file)
{
    static const uint8_t zeros[8];
    return inode_size(file->inode, TREE_NOW) < sizeof zeros ||
           memcmp(inode_bytes(file->inode), zeros, sizeof zeros) == 0 || inode_unsynced_is_zero(file->inode);
}

static enum err sim_sync(struct disk *port, struct disk_file *file)
{
    struct sim_disk *disk = disk_of(port);
    if (!may_go_on(disk, SIM_IO_SYNC))
        return ERR_IO;
    if (sync_error_is_due(disk)) {
        disk->sync_failed = disk->sync_failed || !is_spare(file);
        inode_sync_fails(file->inode);
        return ERR_IO;
    }
    world_log(disk->world, "    disk: sync %s", file->path);
    struct synced_range range = {disk, file->path};
    inode_sync(disk->tree, file->inode, on_range_synced, &range);
    disk->syncs++;
    return OK;
}

static enum err sim_sync_all(struct disk *port)
{
    struct sim_disk *disk = disk_of(port);
    if (!may_go_on(disk, SIM_IO_SYNC))
        return ERR_IO;
    world_log(disk->world, "    disk: sync everything");
    rest_is_news(disk);
    tree_sync_all(disk->tree, NULL, NULL);
    disk->syncs++;
    if (disk->options.on_synced != NULL && sim_disk_take_news(disk)) {
        disk->options.on_synced(disk->options.context, NULL, NULL, 0, 0);
    }
    return OK;
}

static bool sim_wants_staging(struct disk *port)
{
    return disk_of(port)->wants_staging;
}

static enum err sim_writeback(struct disk *port, struct disk_file *file, uint64_t offset, uint64_t size)
{
    return may_go_on(disk_of(port), SIM_IO_READ) ? OK : ERR_IO; /* a hint: nothing becomes durable for sure */
}

static enum err sim_truncate(struct disk *port, struct disk_file *file, uint64_t size)
{
    struct sim_disk *disk = disk_of(port);
    ASSERT(file->flags & DISK_WRITE);
    if (!may_go_on(disk, SIM_IO_TRUNCATE))
        return ERR_IO;
    uint64_t old_size = inode_size(file->inode, TREE_NOW);
    if (size > old_size && room_for(disk, size - old_size) < size - old_size)
        return no_room(disk);
    enum err error =
        sim_media_write(&disk->media, file->path, file->inode, size, old_size > size ? old_size - size : 0);
    if (error == OK) {
        inode_truncate(disk->tree, file->inode, size);
    }
    return error;
}

static enum err sim_reserve(struct disk *port, struct disk_file *file, uint64_t size)
{
    struct sim_disk *disk = disk_of(port);
    ASSERT(file->flags & DISK_WRITE);
    if (!world_io(disk->world, SIM_IO_TRUNCATE))
        return ERR_IO;
    uint64_t had = inode_blocks_bytes(file->inode);
    uint64_t growth = size > had ? size - had : 0;
    if (room_for(disk, growth) < growth)
        return no_room(disk);
    inode_reserve(file->inode, size);
    return OK;
}

/* --- names --- */

static bool name_may_change(struct sim_disk *disk, const char *path)
{
    name_is_news(disk, path);
    return may_go_on(disk, SIM_IO_NAME) && sim_media_name(&disk->media, path) == OK;
}

static enum err sim_make_dir(struct disk *port, const char *path)
{
    struct sim_disk *disk = disk_of(port);
    for (const char *slash = strchr(path, '/');; slash = strchr(slash + 1, '/')) {
        char *prefix = slash == NULL ? strdup(path) : strndup(path, (size_t)(slash - path));
        enum err error = name_may_change(disk, prefix) ? tree_make_dir(disk->tree, prefix) : ERR_IO;
        free(prefix);
        if (error != OK || slash == NULL)
            return error;
    }
}

static enum err sim_remove_dir(struct disk *port, const char *path)
{
    struct sim_disk *disk = disk_of(port);
    return name_may_change(disk, path) ? tree_remove_dir(disk->tree, path) : ERR_IO;
}

static enum err sim_rename(struct disk *port, const char *from, const char *to)
{
    struct sim_disk *disk = disk_of(port);
    world_log(disk->world, "    disk: rename %s to %s", from, to);
    return name_may_change(disk, from) ? tree_rename(disk->tree, from, to) : ERR_IO;
}

static enum err sim_unlink(struct disk *port, const char *path)
{
    struct sim_disk *disk = disk_of(port);
    world_log(disk->world, "    disk: unlink %s", path);
    return name_may_change(disk, path) ? tree_unlink(disk->tree, path) : ERR_IO;
}

static enum err sim_sync_dir(struct disk *port, const char *path)
{
    struct sim_disk *disk = disk_of(port);
    if (!may_go_on(disk, SIM_IO_SYNC_DIR))
        return ERR_IO;
    disk->syncs++;
    world_log(disk->world, "    disk: sync_dir %s", path);
    return tree_sync_dir(disk->tree, path);
}

static enum err sim_list(struct disk *port, const char *path, void (*visit)(void *context, const char *name),
                         void *context)
{
    struct sim_disk *disk = disk_of(port);
    return may_go_on(disk, SIM_IO_OPEN) ? tree_list(disk->tree, TREE_NOW, path, visit, context) : ERR_IO;
}

/* --- lanes --- */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t job_delay_us(struct sim_disk *disk)
{
    struct rng *rng = &disk->world->disk;
    if (disk->options.stall > 0 && rng_chance(rng, disk->options.stall)) {
        world_fault(disk->world, FAULT_STALL);
        return rng_between(rng, disk->options.stall_us_max / 100, disk->options.stall_us_max);
    }
    uint64_t slow_us = disk->slow_us_max > 0 ? rng_below(rng, disk->slow_us_max) : 0;
    return slow_us + rng_below(rng, disk->options.job_us_max + 1);
}

static void lane_reset(struct lane *lane)
{
    lane->first = lane->ran = NULL;
    lane->last = &lane->first;
    lane->ran_last = &lane->ran;
    lane->run_is_planned = lane->is_running = false;
    lane->done_us = lane->delay_us = 0;
}

static void lane_done(void *context, uint64_t life)
{
    struct lane *lane = context;
    if (life != lane->disk->life || lane->disk->world->crashed)
        return;
    struct disk_job *job = lane->ran;
    lane->ran = job->next;
    if (lane->ran == NULL) {
        lane->ran_last = &lane->ran;
    }
    world_enter(lane->disk->world);
    job->done(job);
    world_leave(lane->disk->world);
}

static void lane_run(void *context, uint64_t life);

static void lane_plan_run(struct lane *lane)
{
    struct sim_world *world = lane->disk->world;
    if (lane->first == NULL || lane->run_is_planned)
        return;
    lane->run_is_planned = true;
    lane->run_us = later(world->now_us, lane->disk->still_until_us) + lane->delay_us + job_delay_us(lane->disk);
    world_at(world, lane->run_us, lane_run, lane, lane->disk->life);
}

static void lane_run(void *context, uint64_t life)
{
    struct lane *lane = context;
    struct sim_world *world = lane->disk->world;
    if (life != lane->disk->life || world->crashed)
        return;
    lane->run_is_planned = false;
    struct disk_job *job = lane->first;
    lane->first = job->next;
    if (lane->first == NULL) {
        lane->last = &lane->first;
    }
    job->next = NULL;
    lane->is_running = true;
    lane->delay_us = 0;
    world_enter(world);
    job->run(job);
    world_leave(world);
    lane->is_running = false;
    *lane->ran_last = job;
    lane->ran_last = &job->next;
    uint64_t done_us = world->now_us + lane->delay_us + job_delay_us(lane->disk) / 4;
    lane->done_us = done_us > lane->done_us ? done_us : lane->done_us;
    world_at(world, lane->done_us, lane_done, lane, life);
    lane_plan_run(lane); /* behind the delay of this one */
    lane->delay_us = 0;
}

static void sim_submit(struct disk *port, enum disk_lane which, struct disk_job *job)
{
    struct sim_disk *disk = disk_of(port);
    if (disk->world->crashed)
        return; /* dropped, as everything else of a dead process */
    struct lane *lane = &disk->lanes[which];
    job->next = NULL;
    *lane->last = job;
    lane->last = &job->next;
    lane_plan_run(lane);
}

static const struct disk_ops disk_ops = {
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .wants_staging = sim_wants_staging,
    .writeback = sim_writeback,
    .truncate = sim_truncate,
    .reserve = sim_reserve,
    .sync_all = sim_sync_all,
    .make_dir = sim_make_dir,
    .remove_dir = sim_remove_dir,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .sync_dir = sim_sync_dir,
    .list = sim_list,
    .submit = sim_submit,
};

/* --- the shadow --- */

static struct sim_disk *shadowed(struct disk *port)
{
    return ((struct shadow *)port)->disk;
}

static enum err shadow_open(struct disk *port, const char *path, unsigned flags, struct disk_file **ret_file)
{
    ASSERT(!(flags & DISK_WRITE));
    struct inode *inode;
    enum err error = tree_find(shadowed(port)->tree, TREE_DURABLE, path, &inode);
    if (error != OK)
        return error;
    if (inode_is_dir(inode))
        return ERR_IO;
    *ret_file = file_new(shadowed(port), inode, path, flags);
    return OK;
}

static void shadow_close(struct disk *port, struct disk_file *file)
{
    file_free(shadowed(port), file);
}

static enum err shadow_size(struct disk *port, struct disk_file *file, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = inode_size(file->inode, TREE_DURABLE);
    return OK;
}

static enum err shadow_read(struct disk *port, struct disk_file *file, void *data, size_t size, uint64_t offset,
                            size_t *ret_read)
{
    *ret_read = inode_read(file->inode, TREE_DURABLE, data, size, offset);
    return OK;
}

static enum err shadow_list(struct disk *port, const char *path, void (*visit)(void *context, const char *name),
                            void *context)
{
    return tree_list(shadowed(port)->tree, TREE_DURABLE, path, visit, context);
}

/* Whoever writes through a shadow is no offline reader: the missing calls crash. */
static const struct disk_ops shadow_ops = {
    .open = shadow_open, .close = shadow_close, .size = shadow_size, .read = shadow_read, .list = shadow_list};

/* --- life and death --- */

struct sim_disk *sim_disk_new(struct sim_world *world, const struct sim_disk_options *options)
{
    struct sim_disk *disk = calloc(1, sizeof *disk);
    ASSERT(disk != NULL);
    disk->port.ops = &disk_ops;
    disk->world = world;
    disk->options = *options;
    disk->bytes_max = UINT64_MAX;
    disk->wants_staging = world->hash % 2 == 0;
    disk->tree = tree_new();
    sim_media_init(&disk->media, world);
    disk->shadow = (struct shadow){{&shadow_ops}, disk};
    TAILQ_INIT(&disk->files);
    for (int i = 0; i < DISK_LANES; i++) {
        disk->lanes[i].disk = disk;
        lane_reset(&disk->lanes[i]);
    }
    return disk;
}

static void new_life(struct sim_disk *disk)
{
    disk->life++;
    sim_media_new_life(&disk->media);
    disk->sync_failed = false;
    disk->sync_error_countdown = 0;
    while (!TAILQ_EMPTY(&disk->files)) {
        file_free(disk, TAILQ_FIRST(&disk->files));
    }
    for (int i = 0; i < DISK_LANES; i++) {
        lane_reset(&disk->lanes[i]);
    }
}

void sim_disk_free(struct sim_disk *disk)
{
    new_life(disk);
    sim_media_calm(&disk->media);
    tree_free(disk->tree);
    free(disk);
}

void sim_disk_process_death(struct sim_disk *disk)
{
    new_life(disk);
    tree_process_death(disk->tree);
}

void sim_disk_power_cut(struct sim_disk *disk)
{
    new_life(disk);
    rest_is_news(disk);
    tree_power_cut(disk->tree, &disk->world->crash, &disk->options.cut);
}

void sim_disk_wipe(struct sim_disk *disk)
{
    sim_media_forget(&disk->media);
    tree_free(disk->tree);
    disk->tree = tree_new();
    disk->syncs++; /* the shadow is another one */
}

struct disk *sim_disk_port(struct sim_disk *disk)
{
    return &disk->port;
}

void sim_disk_set_context(struct sim_disk *disk, void *context)
{
    disk->options.context = context;
}

bool sim_disk_delay(struct sim_disk *disk, uint64_t delay_us)
{
    for (int i = 0; i < DISK_LANES; i++) {
        if (disk->lanes[i].is_running) {
            disk->lanes[i].delay_us += delay_us;
            return true;
        }
    }
    return false;
}

void sim_disk_set_stall(struct sim_disk *disk, double chance)
{
    disk->options.stall = chance;
}

void sim_disk_set_slow(struct sim_disk *disk, uint64_t job_us_max)
{
    disk->slow_us_max = job_us_max;
}

void sim_disk_stand_still(struct sim_disk *disk, uint64_t until_us)
{
    disk->still_until_us = until_us;
}

uint64_t sim_disk_calm(struct sim_disk *disk)
{
    uint64_t calm_us = disk->world->now_us;
    disk->options.stall = 0;
    disk->slow_us_max = disk->still_until_us = 0;
    sim_media_calm(&disk->media);
    for (int i = 0; i < DISK_LANES; i++) {
        const struct lane *lane = &disk->lanes[i];
        calm_us = later(calm_us, later(lane->run_is_planned ? lane->run_us : 0, lane->done_us));
    }
    return calm_us;
}

struct disk *sim_disk_shadow(struct sim_disk *disk)
{
    return &disk->shadow.port;
}

uint64_t sim_disk_syncs(const struct sim_disk *disk)
{
    return disk->syncs;
}

void sim_disk_plan_sync_error(struct sim_disk *disk, uint64_t countdown)
{
    disk->sync_error_countdown = countdown;
}

bool sim_disk_sync_failed(const struct sim_disk *disk)
{
    return disk->sync_failed;
}

bool sim_disk_broke(const struct sim_disk *disk)
{
    return disk->media.broke;
}

enum err sim_disk_kv_error(struct sim_disk *disk, const char *point)
{
    return sim_media_kv(&disk->media, point);
}

bool sim_disk_erred(const struct sim_disk *disk)
{
    return disk->media.broke || disk->media.erred;
}

void sim_disk_set_faults(struct sim_disk *disk, const bool faults[FAULT_CLASSES])
{
    sim_media_draw(&disk->media, faults);
}

void sim_disk_urge(struct sim_disk *disk, enum sim_fault fault)
{
    disk->media.is_due[fault] = true;
}

void sim_disk_raise_faults(struct sim_disk *disk)
{
    sim_media_raise(&disk->media);
}

void sim_disk_set_room(struct sim_disk *disk, uint64_t room_bytes)
{
    disk->bytes_max = room_bytes == UINT64_MAX ? UINT64_MAX : tree_bytes(disk->tree) + room_bytes;
}

bool sim_disk_is_limited(const struct sim_disk *disk)
{
    return disk->bytes_max != UINT64_MAX;
}

void sim_disk_rot(struct sim_disk *disk)
{
    world_fault(disk->world, FAULT_ROT);
    tree_rot(disk->tree, &disk->world->crash);
}

uint64_t sim_disk_bytes(const struct sim_disk *disk)
{
    return tree_bytes(disk->tree);
}

size_t sim_disk_open_files(const struct sim_disk *disk)
{
    size_t count = 0;
    const struct disk_file *file;
    TAILQ_FOREACH(file, &disk->files, link)
    {
        count++;
    }
    return count;
}

bool sim_disk_is_idle(const struct sim_disk *disk)
{
    for (int i = 0; i < DISK_LANES; i++) {
        if (disk->lanes[i].first != NULL || disk->lanes[i].ran != NULL)
            return false;
    }
    return true;
}

struct tree *sim_disk_tree(struct sim_disk *disk)
{
    return disk->tree;
}
