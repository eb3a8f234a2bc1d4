/* Names are a table of (directory, name) -> node, once as the process sees them and once as a crash leaves them when
 * all that is pending is lost; a state's names are the second table with the kept changes on top. Bytes of a file are
 * its durable ones; the pending writes stand in the list of changes only. */
#include "disk_model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"

#define PAGE_BYTES 4096u
#define ROOT       0u

struct node {
    bool is_dir;
    uint8_t *bytes;
    uint64_t size, room;
};

struct name {
    uint32_t dir;
    char *name;
    uint32_t node;
};

struct names {
    struct name *names;
    uint32_t count, room;
};

struct model {
    struct node *nodes;
    uint32_t nodes_count, nodes_room;
    uint32_t *files; /* of the tape -> node */
    uint32_t files_room;
    struct names now, durable;
    struct change *changes;
    uint32_t changes_count, changes_room;
    uint64_t settled_hash; /* of all changes that are durable */
};

static void *reserve(void *array, uint32_t *io_room, uint32_t count, size_t size)
{
    if (count < *io_room)
        return array;
    uint32_t room = *io_room == 0 ? 64 : *io_room * 2;
    room = room > count ? room : count + 1;
    array = realloc(array, room * size);
    ASSERT(array != NULL);
    memset((uint8_t *)array + *io_room * size, 0, (room - *io_room) * size);
    *io_room = room;
    return array;
}

static char *text(const char *from)
{
    char *copy = strdup(from);
    ASSERT(copy != NULL);
    return copy;
}

/* --- names --- */

static struct name *names_find(const struct names *names, uint32_t dir, const char *name)
{
    for (uint32_t i = 0; i < names->count; i++) {
        if (names->names[i].dir == dir && strcmp(names->names[i].name, name) == 0) {
            return &names->names[i];
        }
    }
    return NULL;
}

static void names_remove(struct names *names, uint32_t dir, const char *name)
{
    struct name *found = names_find(names, dir, name);
    if (found != NULL) {
        free(found->name);
        *found = names->names[--names->count];
    }
}

static void names_set(struct names *names, uint32_t dir, const char *name, uint32_t node)
{
    names_remove(names, dir, name);
    names->names = reserve(names->names, &names->room, names->count, sizeof names->names[0]);
    names->names[names->count++] = (struct name){dir, text(name), node};
}

static void names_apply(struct names *names, const struct change *change)
{
    if (change->kind == CHANGE_LINK) {
        names_set(names, change->dir, change->name, change->node);
        return;
    }
    struct name *found = names_find(names, change->dir, change->name);
    if (found != NULL && found->node == change->node) { /* else its making was lost */
        names_remove(names, change->dir, change->name);
    }
    if (change->kind == CHANGE_RENAME) {
        names_set(names, change->to_dir, change->to_name, change->node);
    }
}

static void names_copy(struct names *to, const struct names *from)
{
    *to = (struct names){0};
    for (uint32_t i = 0; i < from->count; i++) {
        names_set(to, from->names[i].dir, from->names[i].name, from->names[i].node);
    }
}

static void names_free(struct names *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        free(names->names[i].name);
    }
    free(names->names);
}

/* The directory that holds the last part of path, as the process sees it. */
static uint32_t path_dir(const struct model *model, const char *path, const char **ret_name)
{
    uint32_t dir = ROOT;
    for (const char *slash; (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        char part[NAME_MAX + 1];
        snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        const struct name *found = names_find(&model->now, dir, part);
        ASSERT(found != NULL);
        dir = found->node;
    }
    *ret_name = path;
    return dir;
}

static uint32_t path_node(const struct model *model, const char *path)
{
    const char *name;
    if (*path == '\0')
        return ROOT;
    uint32_t dir = path_dir(model, path, &name);
    const struct name *found = names_find(&model->now, dir, name);
    ASSERT(found != NULL);
    return found->node;
}

/* --- bytes --- */

static uint32_t node_new(struct model *model, bool is_dir)
{
    model->nodes = reserve(model->nodes, &model->nodes_room, model->nodes_count, sizeof model->nodes[0]);
    model->nodes[model->nodes_count] = (struct node){.is_dir = is_dir};
    return model->nodes_count++;
}

static void node_resize(struct node *node, uint64_t size)
{
    if (size > node->room) {
        uint64_t room = size > 2 * node->room ? size : 2 * node->room;
        node->bytes = realloc(node->bytes, room);
        ASSERT(node->bytes != NULL);
        node->room = room;
    }
    if (size > node->size) {
        memset(node->bytes + node->size, 0, size - node->size);
    }
    node->size = size;
}

static void node_apply(struct model *model, const struct change *change)
{
    struct node *node = &model->nodes[change->node];
    if (change->kind == CHANGE_TRUNCATE) {
        node_resize(node, change->offset);
        return;
    }
    if (change->offset + change->size > node->size) {
        node_resize(node, change->offset + change->size);
    }
    memcpy(node->bytes + change->offset, change->data, change->size);
}

static bool is_zero(const uint8_t *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* --- changes --- */

static uint64_t mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
    value = (value ^ value >> 27) * 0x94d049bb133111eb;
    return value ^ value >> 31;
}

static bool change_is_name(const struct change *change)
{
    return change->kind >= CHANGE_LINK;
}

static struct change *change_add(struct model *model, enum change_kind kind, uint32_t serial, uint32_t node)
{
    model->changes = reserve(model->changes, &model->changes_room, model->changes_count, sizeof model->changes[0]);
    struct change *change = &model->changes[model->changes_count++];
    *change = (struct change){.kind = kind, .serial = serial, .node = node};
    return change;
}

static void change_name(struct model *model, enum change_kind kind, uint32_t serial, uint32_t node, const char *path,
                        const char *to)
{
    const char *name;
    struct change *change = change_add(model, kind, serial, node);
    change->dir = path_dir(model, path, &name);
    change->name = text(name);
    if (to != NULL) {
        change->to_dir = path_dir(model, to, &name);
        change->to_name = text(name);
    }
    names_apply(&model->now, change);
}

static void change_free(struct change *change)
{
    free(change->name);
    free(change->to_name);
}

/* What is marked becomes durable. */
static void changes_settle(struct model *model)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < model->changes_count; i++) {
        struct change *change = &model->changes[i];
        if (!change->is_settled) {
            model->changes[kept++] = *change;
            continue;
        }
        if (change_is_name(change)) {
            names_apply(&model->durable, change);
        } else {
            node_apply(model, change);
        }
        model->settled_hash += mix(change->serial);
        change_free(change);
    }
    model->changes_count = kept;
}

static bool node_is_reachable(const struct model *model, uint32_t node)
{
    for (uint32_t i = 0; i < model->now.count; i++) {
        if (model->now.names[i].node == node)
            return true;
    }
    for (uint32_t i = 0; i < model->durable.count; i++) {
        if (model->durable.names[i].node == node)
            return true;
    }
    for (uint32_t i = 0; i < model->changes_count; i++) {
        if (change_is_name(&model->changes[i]) && model->changes[i].node == node)
            return true;
    }
    return false;
}

/* Bytes that no name will ever lead to again. */
static void changes_prune(struct model *model)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < model->changes_count; i++) {
        struct change *change = &model->changes[i];
        if (change_is_name(change) || node_is_reachable(model, change->node)) {
            model->changes[kept++] = *change;
        } else {
            model->settled_hash += mix(change->serial);
            change_free(change);
        }
    }
    model->changes_count = kept;
}

static void sync_file(struct model *model, uint32_t node)
{
    for (uint32_t i = 0; i < model->changes_count; i++) {
        struct change *change = &model->changes[i];
        change->is_settled = !change_is_name(change) && change->node == node;
    }
    changes_settle(model);
}

static void sync_dir(struct model *model, uint32_t dir)
{
    bool *touched = calloc(model->nodes_count, sizeof *touched);
    ASSERT(touched != NULL);
    touched[dir] = true;
    for (uint32_t i = model->changes_count; i-- > 0;) {
        struct change *change = &model->changes[i];
        bool is_rename = change->kind == CHANGE_RENAME;
        change->is_settled = change_is_name(change) && (touched[change->dir] || (is_rename && touched[change->to_dir]));
        if (change->is_settled && is_rename) {
            touched[change->dir] = touched[change->to_dir] = true;
        }
    }
    free(touched);
    changes_settle(model);
    changes_prune(model);
}

static void sync_all(struct model *model)
{
    for (uint32_t i = 0; i < model->changes_count; i++) {
        model->changes[i].is_settled = true;
    }
    changes_settle(model);
}

/* --- events --- */

static void play_write(struct model *model, const struct tape_item *item, uint32_t serial, uint32_t node)
{
    struct change *change = change_add(model, CHANGE_WRITE, serial, node);
    change->offset = item->event->offset;
    change->size = item->event->size;
    change->data = item->payload;
    change->is_zero = is_zero(item->payload, item->event->size);
    if (item->event->is_synced) {
        change->is_settled = true;
        for (uint32_t i = 0; i + 1 < model->changes_count; i++) {
            model->changes[i].is_settled = false;
        }
        changes_settle(model);
    }
}

static void play_new(struct model *model, const struct tape_item *item, uint32_t serial)
{
    const char *path = (const char *)item->payload;
    uint32_t file = item->event->file;
    model->files = reserve(model->files, &model->files_room, file, sizeof model->files[0]);
    if (item->event->kind == TAPE_KNOWN) {
        model->files[file] = path_node(model, path);
        return;
    }
    uint32_t node = node_new(model, false);
    model->files[file] = node;
    change_name(model, CHANGE_LINK, serial, node, path, NULL);
}

bool model_play(struct model *model, const struct tape_item *item, uint32_t serial)
{
    const struct tape_event *event = item->event;
    const char *path = (const char *)item->payload;
    uint32_t node = event->file != 0 && event->file < model->files_room ? model->files[event->file] : 0;
    switch ((enum tape_kind)event->kind) {
    case TAPE_MARK:
    case TAPE_HINT:
        return false;
    case TAPE_KNOWN:
        play_new(model, item, serial);
        return false;
    case TAPE_CREATE:
        play_new(model, item, serial);
        break;
    case TAPE_WRITE:
        play_write(model, item, serial, node);
        break;
    case TAPE_TRUNCATE:
        change_add(model, CHANGE_TRUNCATE, serial, node)->offset = event->offset;
        break;
    case TAPE_SYNC:
        sync_file(model, node);
        break;
    case TAPE_SYNC_DIR:
        sync_dir(model, path_node(model, path));
        break;
    case TAPE_SYNC_ALL:
        sync_all(model);
        break;
    case TAPE_MAKE_DIR:
        change_name(model, CHANGE_LINK, serial, node_new(model, true), path, NULL);
        break;
    case TAPE_REMOVE_DIR:
    case TAPE_UNLINK:
        change_name(model, CHANGE_UNLINK, serial, path_node(model, path), path, NULL);
        changes_prune(model);
        break;
    case TAPE_RENAME:
        change_name(model, CHANGE_RENAME, serial, path_node(model, path), path, path + strlen(path) + 1);
        break;
    }
    return true;
}

uint32_t model_pending(const struct model *model)
{
    return model->changes_count;
}

const struct change *model_change(const struct model *model, uint32_t number)
{
    ASSERT(number < model->changes_count);
    return &model->changes[number];
}

uint32_t model_cuts(const struct change *change)
{
    if (change->kind != CHANGE_WRITE || change->is_zero || change->size == 0)
        return 0;
    uint64_t first = change->offset / MODEL_SECTOR_BYTES;
    uint64_t last = (change->offset + change->size - 1) / MODEL_SECTOR_BYTES;
    return (uint32_t)(last - first);
}

uint64_t model_hash(const struct model *model, const struct fate *fates)
{
    uint64_t hash = model->settled_hash;
    for (uint32_t i = 0; i < model->changes_count; i++) {
        if (fates[i].kind != FATE_LOST) {
            uint64_t way =
                fates[i].kind == FATE_KEPT ? 0 : (uint64_t)fates[i].kind << 60 | (uint64_t)fates[i].cut << 32;
            hash += mix(model->changes[i].serial ^ way);
        }
    }
    return hash;
}

/* --- states --- */

static bool build_write(int fd, const uint8_t *data, uint64_t size, uint64_t offset)
{
    while (size > 0) {
        ssize_t wrote = pwrite(fd, data, size, (off_t)offset);
        if (wrote <= 0)
            return false;
        data += wrote;
        offset += (uint64_t)wrote;
        size -= (uint64_t)wrote;
    }
    return true;
}

/* Pages of zeros stay holes: the log is full of them. */
static bool build_bytes(int fd, const struct node *node)
{
    bool good = ftruncate(fd, (off_t)node->size) == 0;
    for (uint64_t at = 0, end; at < node->size && good; at = end) {
        bool zero = true;
        for (end = at; end < node->size; end += PAGE_BYTES) {
            uint64_t size = node->size - end < PAGE_BYTES ? node->size - end : PAGE_BYTES;
            bool page_is_zero = is_zero(node->bytes + end, size);
            if (end == at) {
                zero = page_is_zero;
            } else if (page_is_zero != zero) {
                break;
            }
        }
        end = end < node->size ? end : node->size;
        good = zero || build_write(fd, node->bytes + at, end - at, at);
    }
    return good;
}

static bool build_change(int fd, const struct change *change, const struct fate *fate)
{
    uint64_t from = 0, to = change->size;
    if (fate->kind == FATE_LOST)
        return true;
    if (change->kind == CHANGE_TRUNCATE)
        return ftruncate(fd, (off_t)change->offset) == 0;
    if (fate->kind == FATE_HEAD) {
        to = fate->cut;
    } else if (fate->kind == FATE_TAIL) {
        from = fate->cut;
    }
    return build_write(fd, change->data + from, to - from, change->offset + from);
}

static bool build_file(const struct model *model, uint32_t node, const struct fate *fates, int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    bool good = fd >= 0 && build_bytes(fd, &model->nodes[node]);
    for (uint32_t i = 0; i < model->changes_count && good; i++) {
        if (!change_is_name(&model->changes[i]) && model->changes[i].node == node) {
            good = build_change(fd, &model->changes[i], &fates[i]);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return good;
}

static bool build_dir(const struct model *model, const struct names *names, uint32_t dir, const struct fate *fates,
                      int dir_fd)
{
    bool good = true;
    for (uint32_t i = 0; i < names->count && good; i++) {
        const struct name *name = &names->names[i];
        if (name->dir != dir)
            continue;
        if (!model->nodes[name->node].is_dir) {
            good = build_file(model, name->node, fates, dir_fd, name->name);
            continue;
        }
        int fd = mkdirat(dir_fd, name->name, 0750) == 0 ? openat(dir_fd, name->name, O_RDONLY | O_DIRECTORY) : -1;
        good = fd >= 0 && build_dir(model, names, name->node, fates, fd);
        if (fd >= 0) {
            close(fd);
        }
    }
    return good;
}

bool model_build(const struct model *model, const struct fate *fates, const char *dir)
{
    struct names names;
    names_copy(&names, &model->durable);
    for (uint32_t i = 0; i < model->changes_count; i++) {
        if (change_is_name(&model->changes[i]) && fates[i].kind != FATE_LOST) {
            names_apply(&names, &model->changes[i]);
        }
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && build_dir(model, &names, ROOT, fates, fd);
    if (fd >= 0) {
        close(fd);
    }
    names_free(&names);
    return good;
}

/* --- life --- */

static bool scan_file(struct model *model, uint32_t node, int fd, uint64_t size)
{
    uint64_t done = 0;
    node_resize(&model->nodes[node], size);
    while (done < size) {
        ssize_t got = pread(fd, model->nodes[node].bytes + done, size - done, (off_t)done);
        if (got <= 0)
            return false;
        done += (uint64_t)got;
    }
    return true;
}

static bool scan_dir(struct model *model, uint32_t dir, int dir_fd)
{
    DIR *stream = fdopendir(dir_fd);
    bool good = stream != NULL;
    for (const struct dirent *entry; good && (entry = readdir(stream)) != NULL;) {
        struct stat status;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int fd = openat(dir_fd, entry->d_name, O_RDONLY | O_CLOEXEC);
        good = fd >= 0 && fstat(fd, &status) == 0;
        if (!good)
            break;
        uint32_t node = node_new(model, S_ISDIR(status.st_mode));
        names_set(&model->now, dir, entry->d_name, node);
        names_set(&model->durable, dir, entry->d_name, node);
        if (S_ISDIR(status.st_mode)) {
            good = scan_dir(model, node, fd); /* closes it */
        } else {
            good = scan_file(model, node, fd, (uint64_t)status.st_size);
            close(fd);
        }
    }
    if (stream != NULL) {
        closedir(stream);
    }
    return good;
}

bool model_scan(struct model *model, const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && scan_dir(model, ROOT, fd);
}

struct model *model_new(void)
{
    struct model *model = calloc(1, sizeof *model);
    ASSERT(model != NULL);
    node_new(model, true); /* the root */
    return model;
}

void model_free(struct model *model)
{
    for (uint32_t i = 0; i < model->nodes_count; i++) {
        free(model->nodes[i].bytes);
    }
    for (uint32_t i = 0; i < model->changes_count; i++) {
        change_free(&model->changes[i]);
    }
    names_free(&model->now);
    names_free(&model->durable);
    free(model->changes);
    free(model->nodes);
    free(model->files);
    free(model);
}
