/* A persistent treap: nodes never change once they are made, so a snapshot is a pointer to a root, a write transaction
 * is a root of its own, commit swaps roots and abort forgets one. Priorities are hashes of the keys, so equal contents
 * give an equal tree in whatever order they came, and every run is the same.
 *
 * Nodes and rows are counted; a reader of a value that its transaction has since overwritten reads freed memory, and
 * the address sanitizer says so. */
#include "sim_kv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/limits.h"

struct sim_row {
    uint32_t refs;
    uint32_t priority;
    size_t key_size;
    size_t value_size;
    uint8_t bytes[]; /* key, value */
};

struct sim_node {
    uint32_t refs;
    struct sim_row *row;    /* shared */
    struct sim_node *left;  /* shared */
    struct sim_node *right; /* shared */
};

struct kv_txn {
    bool write;
    uint32_t process;      /* which one began it */
    struct sim_node *root; /* shared */
    TAILQ_ENTRY(kv_txn) link;
};

struct sim_kv {
    struct kv base; /* first: a struct kv * is a struct sim_kv * */
    struct sim_kv_options options;
    struct sim_node *visible;  /* shared: what a process reads */
    struct sim_node *durable;  /* shared: what a power cut leaves */
    TAILQ_HEAD(, kv_txn) txns; /* owned */
    struct kv_txn *writer;     /* one of txns, or NULL */
    uint64_t commits_count;
    uint32_t process;
    bool dead;
    bool full;
};

/* ---- rows and nodes ---- */

static int sim_kv__compare(struct kv_bytes a, struct kv_bytes b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = memcmp(a.data, b.data, size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static struct kv_bytes sim_row_key(const struct sim_row *row)
{
    return (struct kv_bytes){row->bytes, row->key_size};
}

static struct kv_bytes sim_row_value(const struct sim_row *row)
{
    return (struct kv_bytes){row->bytes + row->key_size, row->value_size};
}

static struct sim_row *sim_row_new(struct kv_bytes key, struct kv_bytes value)
{
    struct sim_row *row = malloc(sizeof *row + key.size + value.size);
    ASSERT(row != NULL);
    row->refs = 1;
    row->priority = crc32c(0x5eed, key.data, key.size);
    row->key_size = key.size;
    row->value_size = value.size;
    memcpy(row->bytes, key.data, key.size);
    if (value.size > 0) {
        memcpy(row->bytes + key.size, value.data, value.size);
    }
    return row;
}

static struct sim_row *sim_row_ref(struct sim_row *row)
{
    row->refs++;
    return row;
}

static void sim_row_unref(struct sim_row *row)
{
    ASSERT(row->refs > 0);
    if (--row->refs == 0) {
        free(row);
    }
}

static struct sim_node *sim_node_ref(struct sim_node *node)
{
    if (node != NULL) {
        node->refs++;
    }
    return node;
}

/* Depth is that of the tree, about two times log2 of its rows. */
static void sim_node_unref(struct sim_node *node)
{
    if (node == NULL) {
        return;
    }
    ASSERT(node->refs > 0);
    if (--node->refs > 0) {
        return;
    }
    sim_row_unref(node->row);
    sim_node_unref(node->left);
    sim_node_unref(node->right);
    free(node);
}

/* Takes over one reference of each argument. */
static struct sim_node *sim_node_new(struct sim_row *row, struct sim_node *left, struct sim_node *right)
{
    struct sim_node *node = malloc(sizeof *node);
    ASSERT(node != NULL);
    *node = (struct sim_node){.refs = 1, .row = row, .left = left, .right = right};
    return node;
}

/* Higher priority is nearer to the root; keys break ties, so that the shape is unique. */
static bool sim_row_is_above(const struct sim_row *a, const struct sim_row *b)
{
    if (a->priority != b->priority) {
        return a->priority > b->priority;
    }
    return sim_kv__compare(sim_row_key(a), sim_row_key(b)) < 0;
}

/* Borrows the tree; gives two new ones, of the keys below and above `key`. A row of that very key is left out. */
static void sim_node_split(struct sim_node *node, struct kv_bytes key, struct sim_node **ret_below,
                           struct sim_node **ret_above)
{
    if (node == NULL) {
        *ret_below = NULL;
        *ret_above = NULL;
        return;
    }
    int order = sim_kv__compare(sim_row_key(node->row), key);
    if (order == 0) {
        *ret_below = sim_node_ref(node->left);
        *ret_above = sim_node_ref(node->right);
    } else if (order < 0) {
        struct sim_node *below;
        sim_node_split(node->right, key, &below, ret_above);
        *ret_below = sim_node_new(sim_row_ref(node->row), sim_node_ref(node->left), below);
    } else {
        struct sim_node *above;
        sim_node_split(node->left, key, ret_below, &above);
        *ret_above = sim_node_new(sim_row_ref(node->row), above, sim_node_ref(node->right));
    }
}

/* Borrows both; every key of `below` is smaller than every key of `above`. */
static struct sim_node *sim_node_join(struct sim_node *below, struct sim_node *above)
{
    if (below == NULL || above == NULL) {
        return sim_node_ref(below != NULL ? below : above);
    }
    if (sim_row_is_above(below->row, above->row)) {
        return sim_node_new(sim_row_ref(below->row), sim_node_ref(below->left), sim_node_join(below->right, above));
    }
    return sim_node_new(sim_row_ref(above->row), sim_node_join(below, above->left), sim_node_ref(above->right));
}

/* Borrows tree and row; gives a new tree with the row in the place of one of the same key. */
static struct sim_node *sim_node_with(struct sim_node *node, struct sim_row *row)
{
    int order = node != NULL ? sim_kv__compare(sim_row_key(row), sim_row_key(node->row)) : 0;
    if (node != NULL && order == 0) {
        return sim_node_new(sim_row_ref(row), sim_node_ref(node->left), sim_node_ref(node->right));
    }
    if (node == NULL || sim_row_is_above(row, node->row)) {
        struct sim_node *below, *above;
        sim_node_split(node, sim_row_key(row), &below, &above);
        return sim_node_new(sim_row_ref(row), below, above);
    }
    if (order < 0) {
        return sim_node_new(sim_row_ref(node->row), sim_node_with(node->left, row), sim_node_ref(node->right));
    }
    return sim_node_new(sim_row_ref(node->row), sim_node_ref(node->left), sim_node_with(node->right, row));
}

/* Borrows the tree; gives a new one without the key. */
static struct sim_node *sim_node_without(struct sim_node *node, struct kv_bytes key)
{
    if (node == NULL) {
        return NULL;
    }
    int order = sim_kv__compare(key, sim_row_key(node->row));
    if (order == 0) {
        return sim_node_join(node->left, node->right);
    }
    if (order < 0) {
        return sim_node_new(sim_row_ref(node->row), sim_node_without(node->left, key), sim_node_ref(node->right));
    }
    return sim_node_new(sim_row_ref(node->row), sim_node_ref(node->left), sim_node_without(node->right, key));
}

/* The first row at or above the key, or NULL. */
static const struct sim_row *sim_node_seek(const struct sim_node *node, struct kv_bytes key)
{
    const struct sim_row *found = NULL;
    while (node != NULL) {
        int order = sim_kv__compare(sim_row_key(node->row), key);
        if (order == 0) {
            return node->row;
        }
        if (order > 0) {
            found = node->row;
        }
        node = order > 0 ? node->left : node->right;
    }
    return found;
}

static size_t sim_node_count(const struct sim_node *node)
{
    return node == NULL ? 0 : 1 + sim_node_count(node->left) + sim_node_count(node->right);
}

static uint32_t sim_node_hash(const struct sim_node *node, uint32_t hash)
{
    if (node == NULL) {
        return hash;
    }
    hash = sim_node_hash(node->left, hash);
    uint64_t sizes[2] = {node->row->key_size, node->row->value_size};
    hash = crc32c(hash, sizes, sizeof sizes);
    hash = crc32c(hash, node->row->bytes, node->row->key_size + node->row->value_size);
    return sim_node_hash(node->right, hash);
}

/* ---- the port ---- */

static struct sim_kv *sim_kv_of(struct kv *kv)
{
    return (struct sim_kv *)kv;
}

/* Moves *root to another tree, whose reference it takes over. */
static void sim_kv__set_root(struct sim_node **root, struct sim_node *tree)
{
    struct sim_node *old = *root;
    *root = tree;
    sim_node_unref(old);
}

/* True: the process is dead, or dies here. */
static bool sim_kv__dies(struct sim_kv *kv, const char *point)
{
    if (!kv->dead && kv->options.fault != NULL && kv->options.fault(kv->options.context, point)) {
        kv->dead = true;
    }
    return kv->dead;
}

static enum err sim_kv__error(struct sim_kv *kv, const char *point)
{
    return kv->options.error != NULL ? kv->options.error(kv->options.context, point) : OK;
}

static void sim_kv__end(struct sim_kv *kv, struct kv_txn *txn)
{
    TAILQ_REMOVE(&kv->txns, txn, link);
    if (kv->writer == txn) {
        kv->writer = NULL;
    }
    sim_node_unref(txn->root);
    free(txn);
}

static enum err sim_kv_begin(struct kv *base, bool write, struct kv_txn **ret_txn)
{
    struct sim_kv *kv = sim_kv_of(base);
    if (kv->dead || (write && sim_kv__dies(kv, "kv.begin"))) {
        return ERR_IO;
    }
    enum err error = write ? sim_kv__error(kv, "kv.begin") : OK;
    if (error != OK) {
        return error;
    }
    ASSERT(!write || kv->writer == NULL); /* the real one would wait for ever: one thread holds both */
    struct kv_txn *txn = calloc(1, sizeof *txn);
    ASSERT(txn != NULL);
    txn->write = write;
    txn->process = kv->process;
    txn->root = sim_node_ref(kv->visible);
    TAILQ_INSERT_TAIL(&kv->txns, txn, link);
    if (write) {
        kv->writer = txn;
    }
    *ret_txn = txn;
    return OK;
}

static enum err sim_kv_commit(struct kv *base, struct kv_txn *txn)
{
    struct sim_kv *kv = sim_kv_of(base);
    ASSERT(txn->write && txn->process == kv->process);
    if (sim_kv__dies(kv, "kv.commit.before")) {
        sim_kv__end(kv, txn);
        return ERR_IO;
    }
    enum err error = sim_kv__error(kv, "kv.commit");
    if (error != OK) {
        sim_kv__end(kv, txn);
        return error;
    }
    sim_kv__set_root(&kv->visible, sim_node_ref(txn->root));
    sim_kv__end(kv, txn);
    if (sim_kv__dies(kv, "kv.commit.written")) {
        return ERR_IO;
    }
    sim_kv__set_root(&kv->durable, sim_node_ref(kv->visible));
    kv->commits_count++;
    return sim_kv__dies(kv, "kv.commit.after") ? ERR_IO : OK;
}

static void sim_kv_abort(struct kv *base, struct kv_txn *txn)
{
    struct sim_kv *kv = sim_kv_of(base);
    ASSERT(txn->process == kv->process);
    sim_kv__end(kv, txn);
}

static void sim_kv__check_key(struct kv_bytes key)
{
    ASSERT(key.size > 0 && key.size <= KV_KEY_BYTES_MAX);
}

static enum err sim_kv_put(struct kv *base, struct kv_txn *txn, struct kv_bytes key, struct kv_bytes value)
{
    struct sim_kv *kv = sim_kv_of(base);
    sim_kv__check_key(key);
    ASSERT(txn->write && txn->process == kv->process);
    if (sim_kv__dies(kv, "kv.put")) {
        return ERR_IO;
    }
    enum err error = kv->full ? ERR_STORAGE_FULL : sim_kv__error(kv, "kv.put");
    if (error != OK) {
        return error;
    }
    struct sim_row *row = sim_row_new(key, value);
    sim_kv__set_root(&txn->root, sim_node_with(txn->root, row));
    sim_row_unref(row);
    return OK;
}

static enum err sim_kv_del(struct kv *base, struct kv_txn *txn, struct kv_bytes key)
{
    struct sim_kv *kv = sim_kv_of(base);
    sim_kv__check_key(key);
    ASSERT(txn->write && txn->process == kv->process);
    if (sim_kv__dies(kv, "kv.put")) {
        return ERR_IO;
    }
    sim_kv__set_root(&txn->root, sim_node_without(txn->root, key));
    return OK;
}

static enum err sim_kv_get(struct kv *base, struct kv_txn *txn, struct kv_bytes key, struct kv_bytes *ret_value)
{
    struct sim_kv *kv = sim_kv_of(base);
    sim_kv__check_key(key);
    ASSERT(txn->process == kv->process);
    if (kv->dead) {
        return ERR_IO;
    }
    const struct sim_row *row = sim_node_seek(txn->root, key);
    if (row == NULL || sim_kv__compare(sim_row_key(row), key) != 0) {
        return ERR_NO_FILE;
    }
    *ret_value = sim_row_value(row);
    return OK;
}

static enum err sim_kv_seek(struct kv *base, struct kv_txn *txn, struct kv_bytes from, struct kv_bytes *ret_key,
                            struct kv_bytes *ret_value)
{
    struct sim_kv *kv = sim_kv_of(base);
    sim_kv__check_key(from);
    ASSERT(txn->process == kv->process);
    if (kv->dead) {
        return ERR_IO;
    }
    const struct sim_row *row = sim_node_seek(txn->root, from);
    if (row == NULL) {
        return ERR_NO_FILE;
    }
    *ret_key = sim_row_key(row);
    *ret_value = sim_row_value(row);
    return OK;
}

static enum err sim_kv_sync(struct kv *base)
{
    struct sim_kv *kv = sim_kv_of(base);
    if (kv->dead) {
        return ERR_IO;
    }
    sim_kv__set_root(&kv->durable, sim_node_ref(kv->visible));
    return OK;
}

static bool sim_kv_is_short(struct kv *base)
{
    return sim_kv_of(base)->full;
}

static const struct kv_ops sim_kv_ops = {
    .is_short = sim_kv_is_short,
    .begin = sim_kv_begin,
    .commit = sim_kv_commit,
    .abort = sim_kv_abort,
    .put = sim_kv_put,
    .del = sim_kv_del,
    .get = sim_kv_get,
    .seek = sim_kv_seek,
    .sync = sim_kv_sync,
};

/* ---- the simulator's side ---- */

struct kv *sim_kv_new(const struct sim_kv_options *options)
{
    struct sim_kv *kv = calloc(1, sizeof *kv);
    ASSERT(kv != NULL);
    kv->base.ops = &sim_kv_ops;
    if (options != NULL) {
        kv->options = *options;
    }
    TAILQ_INIT(&kv->txns);
    return &kv->base;
}

static struct kv *sim_kv__copy(struct sim_node *root)
{
    struct sim_kv *copy = sim_kv_of(sim_kv_new(NULL));
    copy->visible = sim_node_ref(root);
    copy->durable = sim_node_ref(root);
    return &copy->base;
}

struct kv *sim_kv_copy_durable(const struct kv *base)
{
    return sim_kv__copy(((const struct sim_kv *)base)->durable);
}

struct kv *sim_kv_copy_visible(const struct kv *base)
{
    return sim_kv__copy(((const struct sim_kv *)base)->visible);
}

static void sim_kv__end_all(struct sim_kv *kv)
{
    struct kv_txn *txn;
    while ((txn = TAILQ_FIRST(&kv->txns)) != NULL) {
        sim_kv__end(kv, txn);
    }
}

void sim_kv_free(struct kv *base)
{
    struct sim_kv *kv = sim_kv_of(base);
    if (kv == NULL) {
        return;
    }
    sim_kv__end_all(kv);
    sim_node_unref(kv->visible);
    sim_node_unref(kv->durable);
    free(kv);
}

void sim_kv_crash(struct kv *base, bool kept)
{
    struct sim_kv *kv = sim_kv_of(base);
    kv->dead = true;
    if (!kept) {
        sim_kv__set_root(&kv->visible, sim_node_ref(kv->durable));
    }
}

void sim_kv_restart(struct kv *base)
{
    struct sim_kv *kv = sim_kv_of(base);
    sim_kv__end_all(kv);
    kv->process++;
    kv->dead = false;
}

bool sim_kv_is_dead(const struct kv *base)
{
    return ((const struct sim_kv *)base)->dead;
}

void sim_kv_set_full(struct kv *base, bool full)
{
    sim_kv_of(base)->full = full;
}

static bool sim_kv__flip_bit(struct sim_node **root, struct kv_bytes key, size_t bit)
{
    const struct sim_row *row = sim_node_seek(*root, key);
    if (row == NULL || sim_kv__compare(sim_row_key(row), key) != 0 || bit / 8 >= row->value_size) {
        return false;
    }
    struct sim_row *rotten = sim_row_new(key, sim_row_value(row));
    rotten->bytes[rotten->key_size + bit / 8] ^= (uint8_t)(1u << bit % 8);
    sim_kv__set_root(root, sim_node_with(*root, rotten));
    sim_row_unref(rotten);
    return true;
}

bool sim_kv_flip_bit(struct kv *base, struct kv_bytes key, size_t bit)
{
    struct sim_kv *kv = sim_kv_of(base);
    bool shared = kv->visible == kv->durable;
    bool flipped = sim_kv__flip_bit(&kv->visible, key, bit);
    if (shared) {
        sim_kv__set_root(&kv->durable, sim_node_ref(kv->visible));
    } else {
        sim_kv__flip_bit(&kv->durable, key, bit);
    }
    return flipped;
}

size_t sim_kv_rows_count(const struct kv *base)
{
    return sim_node_count(((const struct sim_kv *)base)->visible);
}

uint64_t sim_kv_commits_count(const struct kv *base)
{
    return ((const struct sim_kv *)base)->commits_count;
}

uint32_t sim_kv_hash(const struct kv *base)
{
    return sim_node_hash(((const struct sim_kv *)base)->visible, 0);
}
