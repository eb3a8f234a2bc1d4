/* Names of the simulated file system. A directory keeps two lists of entries, now and durable; the tree keeps the
 * changes that separate them, in order. Bytes: sim_inode.c. */
#include "sim_tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim_inode.h"

static char *text_copy(const char *text, size_t size)
{
    char *copy = malloc(size + 1);
    ASSERT(copy != NULL);
    memcpy(copy, text, size);
    copy[size] = '\0';
    return copy;
}

/* --- entries of one directory --- */

static struct entry *entries_find(const struct entries *entries, const char *name)
{
    struct entry *entry;
    TAILQ_FOREACH(entry, entries, link)
    {
        if (strcmp(entry->name, name) == 0)
            return entry;
    }
    return NULL;
}

static void entries_remove(struct entries *entries, struct entry *entry)
{
    TAILQ_REMOVE(entries, entry, link);
    inode_unref(entry->inode);
    free(entry->name);
    free(entry);
}

/* In byte order of the names; an older entry of that name is replaced. */
static void entries_set(struct entries *entries, const char *name, struct inode *inode)
{
    struct entry *entry = malloc(sizeof *entry);
    ASSERT(entry != NULL);
    *entry = (struct entry){.name = text_copy(name, strlen(name)), .inode = inode_ref(inode)};
    struct entry *old = entries_find(entries, name);
    if (old != NULL) {
        entries_remove(entries, old);
    }
    struct entry *after = TAILQ_FIRST(entries);
    while (after != NULL && strcmp(after->name, name) < 0) {
        after = TAILQ_NEXT(after, link);
    }
    if (after != NULL) {
        TAILQ_INSERT_BEFORE(after, entry, link);
    } else {
        TAILQ_INSERT_TAIL(entries, entry, link);
    }
}

void entries_clear(struct entries *entries)
{
    while (!TAILQ_EMPTY(entries)) {
        entries_remove(entries, TAILQ_FIRST(entries));
    }
}

static struct entries *entries_of(struct inode *dir, enum tree_view view)
{
    return view == TREE_NOW ? &dir->now : &dir->durable;
}

/* --- paths --- */

/* The directory that holds path, and the last component. */
static enum err path_parent(const struct tree *tree, enum tree_view view, const char *path, struct inode **ret_dir,
                            const char **ret_name)
{
    struct inode *dir = tree->root;
    for (;;) {
        const char *slash = strchr(path, '/');
        if (slash == NULL)
            break;
        char *name = text_copy(path, (size_t)(slash - path));
        struct entry *entry = entries_find(entries_of(dir, view), name);
        free(name);
        if (entry == NULL || !entry->inode->is_dir)
            return ERR_NO_FILE;
        dir = entry->inode;
        path = slash + 1;
    }
    ASSERT(path[0] != '\0' && strcmp(path, "..") != 0);
    *ret_dir = dir;
    *ret_name = path;
    return OK;
}

enum err tree_find(const struct tree *tree, enum tree_view view, const char *path, struct inode **ret_inode)
{
    if (path[0] == '\0' || strcmp(path, ".") == 0) {
        *ret_inode = tree->root;
        return OK;
    }
    struct inode *dir;
    const char *name;
    enum err error = path_parent(tree, view, path, &dir, &name);
    if (error != OK)
        return error;
    struct entry *entry = entries_find(entries_of(dir, view), name);
    if (entry == NULL)
        return ERR_NO_FILE;
    *ret_inode = entry->inode;
    return OK;
}

/* --- changes: applied now, remembered until synced --- */

static void change_apply(const struct change *change, enum tree_view view)
{
    struct entries *entries = entries_of(change->dir, view);
    if (change->kind == CHANGE_LINK) {
        entries_set(entries, change->name, change->inode);
        return;
    }
    /* In a subset the earlier link may be missing or the name may belong to another file by now: then nothing goes. */
    struct entry *entry = entries_find(entries, change->name);
    if (entry != NULL && entry->inode == change->inode) {
        entries_remove(entries, entry);
    }
    if (change->kind == CHANGE_RENAME) {
        entries_set(entries_of(change->to_dir, view), change->to_name, change->inode);
    }
}

static void change_free(struct tree *tree, struct change *change)
{
    TAILQ_REMOVE(&tree->changes, change, link);
    tree->changes_count--;
    inode_unref(change->dir);
    inode_unref(change->inode);
    inode_unref(change->to_dir);
    free(change->name);
    free(change->to_name);
    free(change);
}

static void change_make(struct tree *tree, enum change_kind kind, struct inode *dir, const char *name,
                        struct inode *inode, struct inode *to_dir, const char *to_name)
{
    struct change *change = malloc(sizeof *change);
    ASSERT(change != NULL);
    *change = (struct change){.kind = kind,
                              .dir = inode_ref(dir),
                              .name = text_copy(name, strlen(name)),
                              .inode = inode_ref(inode),
                              .to_dir = to_dir == NULL ? NULL : inode_ref(to_dir),
                              .to_name = to_name == NULL ? NULL : text_copy(to_name, strlen(to_name))};
    TAILQ_INSERT_TAIL(&tree->changes, change, link);
    tree->changes_count++;
    change_apply(change, TREE_NOW);
}

enum err tree_create(struct tree *tree, const char *path, struct inode **ret_inode)
{
    struct inode *dir;
    const char *name;
    enum err error = path_parent(tree, TREE_NOW, path, &dir, &name);
    if (error != OK)
        return error;
    if (entries_find(&dir->now, name) != NULL)
        return ERR_EXISTS;
    struct inode *inode = inode_new(tree, false);
    change_make(tree, CHANGE_LINK, dir, name, inode, NULL, NULL);
    inode_unref(inode); /* its entry and the change hold it */
    *ret_inode = inode;
    return OK;
}

enum err tree_make_dir(struct tree *tree, const char *path)
{
    struct inode *dir;
    const char *name;
    enum err error = path_parent(tree, TREE_NOW, path, &dir, &name);
    if (error != OK)
        return error;
    struct entry *entry = entries_find(&dir->now, name);
    if (entry != NULL)
        return entry->inode->is_dir ? OK : ERR_IO;
    struct inode *inode = inode_new(tree, true);
    change_make(tree, CHANGE_LINK, dir, name, inode, NULL, NULL);
    inode_unref(inode);
    return OK;
}

static enum err name_remove(struct tree *tree, const char *path, bool is_dir)
{
    struct inode *dir;
    const char *name;
    enum err error = path_parent(tree, TREE_NOW, path, &dir, &name);
    if (error != OK)
        return error;
    struct entry *entry = entries_find(&dir->now, name);
    if (entry == NULL)
        return ERR_NO_FILE;
    if (entry->inode->is_dir != is_dir || (is_dir && !TAILQ_EMPTY(&entry->inode->now)))
        return ERR_IO; /* EISDIR, ENOTDIR, ENOTEMPTY */
    change_make(tree, CHANGE_UNLINK, dir, name, entry->inode, NULL, NULL);
    return OK;
}

enum err tree_remove_dir(struct tree *tree, const char *path)
{
    enum err error = name_remove(tree, path, true);
    return error == ERR_NO_FILE ? OK : error;
}

enum err tree_unlink(struct tree *tree, const char *path)
{
    return name_remove(tree, path, false);
}

enum err tree_rename(struct tree *tree, const char *from, const char *to)
{
    struct inode *dir, *to_dir;
    const char *name, *to_name;
    enum err error = path_parent(tree, TREE_NOW, from, &dir, &name);
    if (error == OK) {
        error = path_parent(tree, TREE_NOW, to, &to_dir, &to_name);
    }
    if (error != OK)
        return error;
    struct entry *entry = entries_find(&dir->now, name);
    if (entry == NULL)
        return ERR_NO_FILE;
    change_make(tree, CHANGE_RENAME, dir, name, entry->inode, to_dir, to_name);
    return OK;
}

/* Marks what a sync of dir makes durable: its changes, and for a rename from or to another directory everything that
 * happened there before, as a journal would: a name must not be settled ahead of what it replaced. */
static void changes_mark(struct tree *tree, struct inode *dir)
{
    uint64_t mark = ++tree->marks;
    dir->mark = mark;
    struct change *change;
    TAILQ_FOREACH_REVERSE(change, &tree->changes, changes, link)
    {
        change->is_marked = change->dir->mark == mark || (change->to_dir != NULL && change->to_dir->mark == mark);
        if (change->is_marked && change->to_dir != NULL) {
            change->dir->mark = change->to_dir->mark = mark;
        }
    }
}

enum err tree_sync_dir(struct tree *tree, const char *path)
{
    struct inode *dir;
    enum err error = tree_find(tree, TREE_NOW, path, &dir);
    if (error != OK)
        return error;
    if (!dir->is_dir)
        return ERR_IO;
    changes_mark(tree, dir);
    for (struct change *change = TAILQ_FIRST(&tree->changes), *next; change != NULL; change = next) {
        next = TAILQ_NEXT(change, link);
        if (change->is_marked) {
            change_apply(change, TREE_DURABLE);
            change_free(tree, change);
        }
    }
    return OK;
}

enum err tree_list(const struct tree *tree, enum tree_view view, const char *path,
                   void (*visit)(void *context, const char *name), void *context)
{
    struct inode *dir;
    enum err error = tree_find(tree, view, path, &dir);
    if (error != OK)
        return error;
    if (!dir->is_dir)
        return ERR_IO;
    struct entry *entry, *next;
    for (entry = TAILQ_FIRST(entries_of(dir, view)); entry != NULL; entry = next) {
        next = TAILQ_NEXT(entry, link);
        visit(context, entry->name);
    }
    return OK;
}

static bool dir_is_durable(const struct tree *tree, const struct inode *dir)
{
    const struct change *change;
    TAILQ_FOREACH(change, &tree->changes, link)
    {
        if (change->dir == dir || change->to_dir == dir)
            return false;
    }
    const struct entry *entry;
    TAILQ_FOREACH(entry, &dir->now, link)
    {
        bool is_durable = entry->inode->is_dir ? dir_is_durable(tree, entry->inode) : inode_is_durable(entry->inode);
        if (!is_durable)
            return false;
    }
    return true;
}

bool tree_is_durable(const struct tree *tree, const char *dir)
{
    struct inode *inode;
    return tree_find(tree, TREE_NOW, dir, &inode) != OK || !inode->is_dir || dir_is_durable(tree, inode);
}

size_t tree_pending_names(const struct tree *tree)
{
    return tree->changes_count;
}

/* --- the whole tree --- */

struct tree *tree_new(void)
{
    struct tree *tree = calloc(1, sizeof *tree);
    ASSERT(tree != NULL);
    TAILQ_INIT(&tree->changes);
    TAILQ_INIT(&tree->inodes);
    TAILQ_INIT(&tree->spare_pages);
    tree->root = inode_new(tree, true);
    return tree;
}

void tree_free(struct tree *tree)
{
    while (!TAILQ_EMPTY(&tree->changes)) {
        change_free(tree, TAILQ_FIRST(&tree->changes));
    }
    inode_unref(tree->root);
    ASSERT(TAILQ_EMPTY(&tree->inodes)); /* else somebody holds a file open, or directories form a ring */
    pages_free(&tree->spare_pages);
    free(tree);
}

void tree_sync_all(struct tree *tree, tree_synced synced, void *context)
{
    struct inode *inode;
    TAILQ_FOREACH(inode, &tree->inodes, of_tree)
    {
        if (!inode->is_dir) {
            inode_sync(tree, inode, synced, context);
        }
    }
    while (!TAILQ_EMPTY(&tree->changes)) {
        change_apply(TAILQ_FIRST(&tree->changes), TREE_DURABLE);
        change_free(tree, TAILQ_FIRST(&tree->changes));
    }
}

uint64_t tree_bytes(const struct tree *tree)
{
    uint64_t bytes = 0;
    const struct inode *inode;
    TAILQ_FOREACH(inode, &tree->inodes, of_tree)
    {
        bytes += inode_blocks_bytes(inode);
    }
    return bytes;
}

/* The process sees from now on what is durable. */
static void dir_forget(struct inode *dir)
{
    entries_clear(&dir->now);
    struct entry *entry;
    TAILQ_FOREACH(entry, &dir->durable, link)
    {
        entries_set(&dir->now, entry->name, entry->inode);
        if (entry->inode->is_dir) {
            dir_forget(entry->inode);
        }
    }
}

void tree_power_cut(struct tree *tree, struct rng *rng, const struct tree_cut *cut)
{
    bool as_prefix = rng_chance(rng, cut->names_prefix);
    uint64_t keep = rng_below(rng, tree->changes_count + 1);
    while (!TAILQ_EMPTY(&tree->changes)) {
        struct change *change = TAILQ_FIRST(&tree->changes);
        bool survives = as_prefix ? keep > 0 : rng_chance(rng, cut->name_keep);
        if (survives) {
            change_apply(change, TREE_DURABLE);
            keep -= as_prefix ? 1 : 0;
        }
        change_free(tree, change);
    }
    dir_forget(tree->root);
    struct inode *inode;
    TAILQ_FOREACH(inode, &tree->inodes, of_tree)
    {
        inode_power_cut(tree, inode, rng, cut);
    }
}

void tree_process_death(struct tree *tree)
{
    struct inode *inode;
    TAILQ_FOREACH(inode, &tree->inodes, of_tree)
    {
        inode_drop_lost(inode);
    }
}
