/* A reader of LMDB 0.9's file format that believes nothing. LMDB maps the file and follows page numbers and offsets
 * as it finds them; a torn or foreign file ends in SIGSEGV, SIGBUS or abort(). So the structure is walked here
 * first. Layout (lmdb 0.9.24, data version 1, 64-bit little-endian): page = {u64 number, u16 pad, u16 flags, u16
 * lower, u16 upper | u32 overflow pages}, then u16 offsets of nodes; node = {u16 lo, u16 hi, u16 flags, u16 key
 * size}, key, data. Leaf: lo/hi = data size, flag BIGDATA = the data is a u64 number of the first overflow page.
 * Branch: lo, hi, flags = 48-bit number of the child. */
#include "os/lmdb_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/endian.h"
#include "base/limits.h"
#include "os/fault.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(size_t) == 8, "the layout read here");

#define META_MAGIC 0xbeefc0deu
#define META_VERSION 1u
#define META_BYTES 152u /* page header included */
#define METAS 2u

#define PAGE_HEADER_BYTES 16u
#define PAGE_BYTES_MIN 512u
#define PAGE_BYTES_MAX 32768u
#define PAGE_BRANCH 0x01u
#define PAGE_LEAF 0x02u
#define PAGE_OVERFLOW 0x04u
#define PAGE_META 0x08u
#define PAGE_NONE UINT64_MAX /* the root of an empty tree */

#define NODE_HEADER_BYTES 8u
#define NODE_BIGDATA 0x01u
#define FREE_TREE_FLAGS 0x08u /* integer keys */
#define FREE_KEY_BYTES 8u
#define DEPTH_MAX 32u /* of LMDB's cursors */

struct tree {
    uint16_t flags;
    uint16_t depth;
    uint64_t entries_count;
    uint64_t root;
};

struct meta {
    uint32_t page_bytes;
    struct tree free_tree;
    struct tree row_tree;
    uint64_t last_page;
    uint64_t transaction;
};

struct check {
    int fd;
    const struct trace *trace;
    uint64_t file_bytes;
    struct meta meta;
    uint64_t pages_count; /* whole pages in the file */
    uint8_t *seen;        /* owned; one bit a page */
    uint8_t *levels;      /* owned; one page for each level of the tree being walked */
    bool free_pages;      /* the tree being walked holds lists of free pages */
    uint64_t entries_count;
    uint8_t floor[KV_KEY_BYTES_MAX]; /* no key that comes now is lower; a search relies on it */
    uint16_t floor_size;             /* 0: none yet */
    bool floor_is_key;               /* and none is equal: it was a row's, not a branch's */
};

static enum err damaged(const struct check *check, const char *what, uint64_t page)
{
    trace_error(check->trace, "kv_file_damaged", "what=\"%s\" page=%llu", what, (unsigned long long)page);
    return ERR_FORMAT;
}

static enum err read_exactly(const struct check *check, void *to, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(check->fd, (uint8_t *)to + done, size - done, (off_t)(offset + done));
        if (got == 0) {
            return damaged(check, "file ends too early", offset);
        }
        if (got < 0 && errno != EINTR) {
            return os__err_of_errno(errno);
        }
        done += got > 0 ? (size_t)got : 0;
    }
    return OK;
}

static struct tree tree_load(const uint8_t *at)
{
    return (struct tree){
        .flags = load_le16(at + 4),
        .depth = load_le16(at + 6),
        .entries_count = load_le64(at + 32),
        .root = load_le64(at + 40),
    };
}

static enum err meta_load(const struct check *check, uint64_t offset, struct meta *ret_meta)
{
    uint8_t page[META_BYTES];
    enum err error = read_exactly(check, page, sizeof page, offset);
    if (error != OK) {
        return error;
    }
    const uint8_t *at = page + PAGE_HEADER_BYTES;
    struct meta meta = {
        .page_bytes = load_le32(at + 24),
        .free_tree = tree_load(at + 24),
        .row_tree = tree_load(at + 72),
        .last_page = load_le64(at + 120),
        .transaction = load_le64(at + 128),
    };
    if (!(load_le16(page + 10) & PAGE_META) || load_le32(at) != META_MAGIC || load_le32(at + 4) != META_VERSION) {
        return damaged(check, "no meta page", offset);
    }
    if (meta.page_bytes < PAGE_BYTES_MIN || meta.page_bytes > PAGE_BYTES_MAX ||
        (meta.page_bytes & (meta.page_bytes - 1)) != 0) {
        return damaged(check, "page size", offset);
    }
    if (meta.free_tree.flags != FREE_TREE_FLAGS || meta.row_tree.flags != 0) {
        return damaged(check, "flags of a tree", offset);
    }
    *ret_meta = meta;
    return OK;
}

/* The newest meta page, as LMDB picks it; both must be sound. */
static enum err meta_pick(struct check *check)
{
    struct meta metas[METAS];
    enum err error = meta_load(check, 0, &metas[0]);
    if (error == OK) {
        error = meta_load(check, metas[0].page_bytes, &metas[1]);
    }
    if (error != OK) {
        return error;
    }
    if (metas[0].page_bytes != metas[1].page_bytes) {
        return damaged(check, "two page sizes", 0);
    }
    check->meta = metas[metas[1].transaction > metas[0].transaction];
    check->pages_count = check->file_bytes / check->meta.page_bytes;
    /* Pages taken and given back within one transaction are never written, so last_page may lie beyond the end of the
     * file, but not beyond any map. */
    if (check->meta.last_page < METAS - 1 || check->meta.last_page > (UINT64_C(1) << 47) / check->meta.page_bytes) {
        return damaged(check, "last page", check->meta.last_page);
    }
    return OK;
}

/* Marks a page as named; false when it is outside of the file or was named before. */
static bool page_claim(struct check *check, uint64_t number)
{
    if (number < METAS || number > check->meta.last_page || number >= check->pages_count) {
        return false;
    }
    uint8_t bit = (uint8_t)(1u << (number % 8));
    if (check->seen[number / 8] & bit) {
        return false;
    }
    check->seen[number / 8] |= bit;
    return true;
}

static enum err overflow_check(struct check *check, uint64_t number, uint32_t data_size, uint64_t *ret_offset)
{
    uint8_t header[PAGE_HEADER_BYTES];
    uint32_t page_bytes = check->meta.page_bytes;
    if (!page_claim(check, number)) {
        return damaged(check, "overflow page number", number);
    }
    enum err error = read_exactly(check, header, sizeof header, number * page_bytes);
    if (error != OK) {
        return error;
    }
    uint64_t count = load_le32(header + 12);
    if (load_le64(header) != number || load_le16(header + 10) != PAGE_OVERFLOW ||
        count * page_bytes < (uint64_t)data_size + PAGE_HEADER_BYTES) {
        return damaged(check, "overflow page", number);
    }
    for (uint64_t i = 1; i < count; i++) {
        if (!page_claim(check, number + i)) {
            return damaged(check, "overflow page number", number + i);
        }
    }
    *ret_offset = number * page_bytes + PAGE_HEADER_BYTES;
    return OK;
}

/* A list of free pages: {count, numbers in falling order}. */
static enum err free_list_check(struct check *check, const uint8_t *list, uint32_t size, uint64_t page)
{
    uint64_t count = size >= 8 ? load_le64(list) : UINT64_MAX;
    uint64_t above = UINT64_MAX;
    if (count > size / 8 - (size >= 8)) {
        return damaged(check, "length of a free list", page);
    }
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t number = load_le64(list + 8 * i);
        /* never written pages may lie behind the end of the file, see meta_pick */
        if (number >= above || number > check->meta.last_page ||
            (number < check->pages_count && !page_claim(check, number))) {
            return damaged(check, "page number in a free list", page);
        }
        above = number;
    }
    return OK;
}

static enum err free_list_read(struct check *check, uint64_t offset, uint32_t size, uint64_t page)
{
    uint8_t *list = malloc(size);
    if (list == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err error = read_exactly(check, list, size, offset);
    if (error == OK) {
        error = free_list_check(check, list, size, page);
    }
    free(list);
    return error;
}

/* Keys of rows in the order of the walk, and those of branches between the rows they part. A search that met others
 * would miss rows in silence. */
static bool key_is_in_order(struct check *check, const uint8_t *key, uint16_t size, bool is_row)
{
    uint16_t common = size < check->floor_size ? size : check->floor_size;
    int order = memcmp(key, check->floor, common);
    if (order == 0) {
        order = (size > check->floor_size) - (size < check->floor_size);
    }
    bool good = check->floor_size == 0 || order > 0 || (order == 0 && is_row && !check->floor_is_key);
    memcpy(check->floor, key, size);
    check->floor_size = size;
    check->floor_is_key = is_row;
    return good;
}

static enum err leaf_node_check(struct check *check, const uint8_t *page, uint32_t offset, uint64_t number)
{
    const uint8_t *node = page + offset;
    uint32_t room = check->meta.page_bytes - offset - NODE_HEADER_BYTES;
    uint32_t data_size = load_le16(node) | (uint32_t)load_le16(node + 2) << 16;
    uint16_t flags = load_le16(node + 4);
    uint16_t key_size = load_le16(node + 6);
    uint32_t inline_size = flags & NODE_BIGDATA ? 8 : data_size;
    if ((flags & ~NODE_BIGDATA) != 0 || key_size < 1 || key_size > KV_KEY_BYTES_MAX || key_size > room ||
        inline_size > room - key_size || (check->free_pages && key_size != FREE_KEY_BYTES)) {
        return damaged(check, "row", number);
    }
    const uint8_t *data = node + NODE_HEADER_BYTES + key_size;
    if (!check->free_pages && !key_is_in_order(check, node + NODE_HEADER_BYTES, key_size, true)) {
        return damaged(check, "order of the rows", number);
    }
    check->entries_count++;
    if (!(flags & NODE_BIGDATA)) {
        return check->free_pages ? free_list_check(check, data, data_size, number) : OK;
    }
    uint64_t data_offset;
    enum err error = overflow_check(check, load_le64(data), data_size, &data_offset);
    if (error == OK && check->free_pages) {
        error = free_list_read(check, data_offset, data_size, number);
    }
    return error;
}

static enum err page_read(struct check *check, uint64_t number, uint32_t level, bool leaf, uint8_t **ret_page)
{
    uint32_t page_bytes = check->meta.page_bytes;
    uint8_t *page = check->levels + (size_t)level * page_bytes;
    if (!page_claim(check, number)) {
        return damaged(check, "page number", number);
    }
    enum err error = read_exactly(check, page, page_bytes, number * page_bytes);
    if (error != OK) {
        return error;
    }
    uint32_t lower = load_le16(page + 12);
    uint32_t upper = load_le16(page + 14);
    uint32_t nodes_min = leaf ? 1 : 2; /* LMDB asserts both */
    if (load_le64(page) != number || load_le16(page + 10) != (leaf ? PAGE_LEAF : PAGE_BRANCH) ||
        lower < PAGE_HEADER_BYTES + 2 * nodes_min || lower > upper || upper > page_bytes || lower % 2 != 0) {
        return damaged(check, "page header", number);
    }
    *ret_page = page;
    return OK;
}

/* The subtree at page `number`; `level` counts from 0 at the root, leaves are at depth - 1. Recursion is bounded by
 * DEPTH_MAX. */
static enum err subtree_check(struct check *check, uint64_t number, uint32_t level, uint32_t depth)
{
    uint8_t *page;
    bool leaf = level + 1 == depth;
    enum err error = page_read(check, number, level, leaf, &page);
    if (error != OK) {
        return error;
    }
    uint32_t upper = load_le16(page + 14);
    uint32_t nodes_count = (load_le16(page + 12) - PAGE_HEADER_BYTES) / 2;
    for (uint32_t i = 0; i < nodes_count && error == OK; i++) {
        uint32_t offset = load_le16(page + PAGE_HEADER_BYTES + 2 * i);
        if (offset < upper || offset % 2 != 0 || offset > check->meta.page_bytes - NODE_HEADER_BYTES) {
            return damaged(check, "offset of a row", number);
        }
        if (leaf) {
            error = leaf_node_check(check, page, offset, number);
            continue;
        }
        const uint8_t *node = page + offset;
        uint32_t key_size = load_le16(node + 6);
        if (key_size > KV_KEY_BYTES_MAX || key_size > check->meta.page_bytes - offset - NODE_HEADER_BYTES) {
            return damaged(check, "branch", number);
        }
        if (i > 0 && !check->free_pages && !key_is_in_order(check, node + NODE_HEADER_BYTES, key_size, false)) {
            return damaged(check, "order of the branches", number);
        }
        uint64_t child = load_le16(node) | (uint64_t)load_le16(node + 2) << 16 | (uint64_t)load_le16(node + 4) << 32;
        error = subtree_check(check, child, level + 1, depth);
    }
    return error;
}

static enum err tree_check(struct check *check, const struct tree *tree, bool free_pages)
{
    if (tree->root == PAGE_NONE) {
        return tree->entries_count == 0 && tree->depth == 0 ? OK : damaged(check, "tree without root", 0);
    }
    if (tree->depth < 1 || tree->depth > DEPTH_MAX) {
        return damaged(check, "depth of a tree", tree->root);
    }
    check->free_pages = free_pages;
    check->entries_count = 0;
    check->floor_size = 0;
    enum err error = subtree_check(check, tree->root, 0, tree->depth);
    if (error == OK && check->entries_count != tree->entries_count) {
        error = damaged(check, "number of rows", tree->root);
    }
    return error;
}

static enum err check_run(struct check *check)
{
    struct stat status;
    if (fstat(check->fd, &status) != 0) {
        return os__err_of_errno(errno);
    }
    check->file_bytes = (uint64_t)status.st_size;
    enum err error = meta_pick(check);
    if (error != OK) {
        return error;
    }
    check->seen = calloc(check->pages_count / 8 + 1, 1);
    check->levels = malloc((size_t)DEPTH_MAX * check->meta.page_bytes);
    if (check->seen == NULL || check->levels == NULL) {
        return ERR_NO_MEMORY;
    }
    error = tree_check(check, &check->meta.row_tree, false);
    return error == OK ? tree_check(check, &check->meta.free_tree, true) : error;
}

enum err os_lmdb__check(const char *path, const struct trace *trace)
{
    struct check check = {.trace = trace};
    check.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (check.fd < 0) {
        trace_error(trace, "kv_file_open_failed", "path=%s reason=%s", path, strerrorname_np(errno));
        return errno == ENOENT ? ERR_FORMAT : os__err_of_errno(errno);
    }
    enum err error = check_run(&check);
    free(check.seen);
    free(check.levels);
    close(check.fd);
    return error;
}
