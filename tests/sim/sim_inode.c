/* Bytes of the simulated file system. data[] is what the process sees; a page record keeps, per 512 B sector, what the
 * disk holds where that differs. So reads and writes cost a memcpy, a sync costs what was written since the last one.
 */
#include "sim_inode.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define SECTORS_PER_PAGE   (PAGE_BYTES / SECTOR_BYTES)
#define EXPECTED_BYTES_MAX (1u << 20)

struct inode *inode_new(struct tree *tree, bool is_dir)
{
    struct inode *inode = calloc(1, sizeof *inode);
    ASSERT(inode != NULL);
    inode->refs = 1;
    inode->is_dir = is_dir;
    inode->tree = tree;
    TAILQ_INIT(&inode->now);
    TAILQ_INIT(&inode->durable);
    TAILQ_INIT(&inode->pages);
    TAILQ_INSERT_TAIL(&tree->inodes, inode, of_tree);
    return inode;
}

struct inode *inode_ref(struct inode *inode)
{
    inode->refs++;
    return inode;
}

static void page_drop(struct inode *inode, struct page *page)
{
    inode->page_at[page->number] = NULL;
    TAILQ_REMOVE(&inode->pages, page, link);
    TAILQ_INSERT_HEAD(&inode->tree->spare_pages, page, link);
}

static struct page *page_new(struct inode *inode, uint64_t number)
{
    struct page *page = TAILQ_FIRST(&inode->tree->spare_pages);
    if (page != NULL) {
        TAILQ_REMOVE(&inode->tree->spare_pages, page, link);
    } else {
        page = malloc(sizeof *page);
        ASSERT(page != NULL);
    }
    page->number = number;
    page->unsynced = page->lost = page->zero = 0;
    inode->page_at[number] = page;
    TAILQ_INSERT_TAIL(&inode->pages, page, link);
    return page;
}

void pages_free(struct pages *pages)
{
    struct page *page;
    while ((page = TAILQ_FIRST(pages)) != NULL) {
        TAILQ_REMOVE(pages, page, link);
        free(page);
    }
}

void inode_unref(struct inode *inode)
{
    if (inode == NULL || --inode->refs > 0)
        return;
    entries_clear(&inode->now);
    entries_clear(&inode->durable);
    while (!TAILQ_EMPTY(&inode->pages)) {
        page_drop(inode, TAILQ_FIRST(&inode->pages));
    }
    TAILQ_REMOVE(&inode->tree->inodes, inode, of_tree);
    free(inode->data);
    free(inode->page_at);
    free(inode);
}

bool inode_is_dir(const struct inode *inode)
{
    return inode->is_dir;
}

const uint8_t *inode_bytes(const struct inode *inode)
{
    return inode->data;
}

uint64_t inode_size(const struct inode *inode, enum tree_view view)
{
    return view == TREE_NOW ? inode->size : inode->durable_size;
}

uint64_t inode_unsynced_bytes(const struct inode *inode)
{
    uint64_t bytes = 0;
    const struct page *page;
    TAILQ_FOREACH(page, &inode->pages, link)
    {
        bytes += (uint64_t)__builtin_popcount(page->unsynced) * SECTOR_BYTES;
    }
    return bytes;
}

static void inode_grow(struct inode *inode, uint64_t size)
{
    if (size <= inode->capacity)
        return;
    uint64_t capacity = inode->capacity == 0 ? PAGE_BYTES : inode->capacity;
    while (capacity < size) {
        capacity *= 2;
    }
    inode->data = realloc(inode->data, capacity);
    inode->page_at = realloc(inode->page_at, capacity / PAGE_BYTES * sizeof *inode->page_at);
    ASSERT(inode->data != NULL && inode->page_at != NULL);
    uint64_t pages = inode->capacity / PAGE_BYTES;
    memset(inode->page_at + pages, 0, (capacity / PAGE_BYTES - pages) * sizeof *inode->page_at);
    inode->capacity = capacity;
}

/* Zeros up to there, and to the end of that page. */
static void inode_fill(struct inode *inode, uint64_t size)
{
    if (size <= inode->filled)
        return;
    inode_grow(inode, size);
    uint64_t filled = (size + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    memset(inode->data + inode->filled, 0, filled - inode->filled);
    inode->filled = filled;
}

/* What the disk holds of a sector that differs. */
static const uint8_t *page_before(const struct page *page, unsigned i)
{
    static const uint8_t zeros[SECTOR_BYTES];
    return page->zero & (1u << i) ? zeros : page->before + i * SECTOR_BYTES;
}

/* Keeps the durable bytes of the sectors of [offset, offset + size), which lie in one page and are about to change. */
static void page_save(struct inode *inode, uint64_t offset, uint64_t size)
{
    uint64_t number = offset / PAGE_BYTES;
    struct page *page = inode->page_at[number];
    if (page == NULL) {
        page = page_new(inode, number);
    }
    unsigned first = (unsigned)(offset % PAGE_BYTES / SECTOR_BYTES);
    unsigned last = (unsigned)((offset + size - 1) % PAGE_BYTES / SECTOR_BYTES);
    for (unsigned i = first; i <= last; i++) {
        uint8_t bit = (uint8_t)(1u << i);
        uint64_t at = number * PAGE_BYTES + i * SECTOR_BYTES;
        if (!((page->unsynced | page->lost) & bit)) {
            bool is_behind = at >= inode->size && at >= inode->durable_size;
            page->zero = (uint8_t)(is_behind ? page->zero | bit : page->zero & ~bit);
            if (!is_behind) {
                memcpy(page->before + i * SECTOR_BYTES, inode->data + at, SECTOR_BYTES);
            }
        }
        page->unsynced |= bit; /* a rewrite makes a lost sector dirty again: the next sync does write it */
        page->lost &= (uint8_t)~bit;
    }
}

static void range_save(struct inode *inode, uint64_t offset, uint64_t size)
{
    while (size > 0) {
        uint64_t room = PAGE_BYTES - offset % PAGE_BYTES;
        uint64_t part = size < room ? size : room;
        page_save(inode, offset, part);
        offset += part;
        size -= part;
    }
}

void inode_write(struct tree *tree, struct inode *inode, const void *data, size_t size, uint64_t offset)
{
    ASSERT(!inode->is_dir);
    if (size == 0)
        return;
    inode_fill(inode, offset + size);
    range_save(inode, offset, size);
    memcpy(inode->data + offset, data, size);
    if (offset + size > inode->size) {
        inode->size = offset + size;
    }
}

void inode_truncate(struct tree *tree, struct inode *inode, uint64_t size)
{
    ASSERT(!inode->is_dir);
    if (size < inode->size) {
        /* The sector that keeps live bytes is not put at risk: nothing of it that is still in the file changes. */
        uint64_t whole = (size + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES;
        if (whole < inode->size) {
            range_save(inode, whole, inode->size - whole);
        }
        memset(inode->data + size, 0, inode->size - size);
    }
    inode_fill(inode, size);
    inode->size = size;
    inode->reserved = 0;
}

void inode_reserve(struct inode *inode, uint64_t size)
{
    inode->reserved = size > inode->reserved ? size : inode->reserved;
    if (size <= EXPECTED_BYTES_MAX) {
        inode_grow(inode, size);
    }
}

uint64_t inode_blocks_bytes(const struct inode *inode)
{
    return inode->size > inode->reserved ? inode->size : inode->reserved;
}

size_t inode_read(const struct inode *inode, enum tree_view view, void *data, size_t size, uint64_t offset)
{
    uint64_t end = inode_size(inode, view);
    if (offset >= end || size == 0)
        return 0;
    if (size > end - offset) {
        size = (size_t)(end - offset);
    }
    memcpy(data, inode->data + offset, size);
    if (view == TREE_NOW)
        return size;
    for (uint64_t number = offset / PAGE_BYTES; number <= (offset + size - 1) / PAGE_BYTES; number++) {
        const struct page *page = inode->page_at[number];
        for (unsigned i = 0; page != NULL && i < SECTORS_PER_PAGE; i++) {
            if (!((page->unsynced | page->lost) & (1u << i)))
                continue;
            uint64_t from = number * PAGE_BYTES + i * SECTOR_BYTES, to = from + SECTOR_BYTES;
            uint64_t low = from > offset ? from : offset;
            uint64_t high = to < offset + size ? to : offset + size;
            if (low < high) {
                memcpy((uint8_t *)data + (low - offset), page_before(page, i) + low % SECTOR_BYTES,
                       (size_t)(high - low));
            }
        }
    }
    return size;
}

void inode_sync(struct tree *tree, struct inode *inode, tree_synced synced, void *context)
{
    inode->durable_size = inode->size;
    uint64_t run_from = 0, run_to = 0; /* of adjacent pages, told in one call */
    for (struct page *page = TAILQ_FIRST(&inode->pages), *next; page != NULL; page = next) {
        next = TAILQ_NEXT(page, link);
        if (page->unsynced == 0)
            continue;
        uint64_t from = page->number * PAGE_BYTES;
        page->unsynced = 0;
        if (page->lost == 0) {
            page_drop(inode, page);
        }
        if (from != run_to) {
            if (synced != NULL && run_to > run_from) {
                synced(context, inode, run_from, run_to - run_from);
            }
            run_from = from;
        }
        run_to = from + PAGE_BYTES;
    }
    if (synced != NULL && run_to > run_from) {
        synced(context, inode, run_from, run_to - run_from);
    }
}

bool inode_is_durable(const struct inode *inode)
{
    return TAILQ_EMPTY(&inode->pages) && inode->size == inode->durable_size;
}

void inode_sync_fails(struct inode *inode)
{
    struct page *page;
    TAILQ_FOREACH(page, &inode->pages, link)
    {
        page->lost |= page->unsynced;
        page->unsynced = 0;
    }
}

void inode_drop_lost(struct inode *inode)
{
    for (struct page *page = TAILQ_FIRST(&inode->pages), *next; page != NULL; page = next) {
        next = TAILQ_NEXT(page, link);
        for (unsigned i = 0; i < SECTORS_PER_PAGE; i++) {
            if (page->lost & (1u << i)) {
                memcpy(inode->data + page->number * PAGE_BYTES + i * SECTOR_BYTES, page_before(page, i), SECTOR_BYTES);
            }
        }
        page->lost = 0;
        if (page->unsynced == 0) {
            page_drop(inode, page);
        }
    }
}

/* The fate of one un-synced sector. */
static void sector_cut(struct inode *inode, const struct page *page, unsigned i, struct rng *rng,
                       const struct tree_cut *cut)
{
    uint8_t *at = inode->data + page->number * PAGE_BYTES + i * SECTOR_BYTES;
    if ((page->unsynced & (1u << i)) && rng_chance(rng, cut->keep))
        return;
    if ((page->unsynced & (1u << i)) && rng_chance(rng, cut->garbage)) {
        for (unsigned k = 0; k < SECTOR_BYTES; k += sizeof(uint64_t)) {
            uint64_t word = rng_next(rng);
            memcpy(at + k, &word, sizeof word);
        }
        return;
    }
    memcpy(at, page_before(page, i), SECTOR_BYTES);
}

void inode_power_cut(struct tree *tree, struct inode *inode, struct rng *rng, const struct tree_cut *cut)
{
    if (inode->is_dir)
        return;
    while (!TAILQ_EMPTY(&inode->pages)) {
        struct page *page = TAILQ_FIRST(&inode->pages);
        for (unsigned i = 0; i < SECTORS_PER_PAGE; i++) {
            if ((page->unsynced | page->lost) & (1u << i)) {
                sector_cut(inode, page, i, rng, cut);
            }
        }
        page_drop(inode, page);
    }
    if (inode->size != inode->durable_size && !rng_chance(rng, cut->size_keep)) {
        inode_fill(inode, inode->durable_size);
        inode->size = inode->durable_size;
    }
    if (inode->filled > inode->size) {
        memset(inode->data + inode->size, 0, inode->filled - inode->size);
    }
    inode->durable_size = inode->size;
}

static void sector_rot(struct inode *inode, uint64_t sector, struct rng *rng)
{
    uint64_t sectors = (inode->size + SECTOR_BYTES - 1) / SECTOR_BYTES;
    uint8_t *at = inode->data + sector * SECTOR_BYTES;
    uint64_t kind = rng_below(rng, 4);
    if (kind == 0) {
        at[rng_below(rng, SECTOR_BYTES)] ^= (uint8_t)(1u << rng_below(rng, 8));
    } else if (kind == 1) {
        memset(at, 0, SECTOR_BYTES);
    } else if (kind == 2) {
        memmove(at, inode->data + rng_below(rng, sectors) * SECTOR_BYTES, SECTOR_BYTES);
    } else {
        for (unsigned i = 0; i < SECTOR_BYTES; i++) {
            at[i] = (uint8_t)rng_next(rng);
        }
    }
}

static void inode_rot(struct inode *inode, struct rng *rng)
{
    uint64_t sectors = (inode->size + SECTOR_BYTES - 1) / SECTOR_BYTES;
    uint64_t sector = 0;
    for (int tries = 0; tries < 200; tries++) {
        sector = rng_below(rng, sectors);
        const uint8_t *at = inode->data + sector * SECTOR_BYTES;
        if (at[0] != 0 || memcmp(at, at + 1, SECTOR_BYTES - 1) != 0)
            break; /* zeros hold nothing that could be missed */
    }
    sector_rot(inode, sector, rng);
}

bool inode_unsynced_is_zero(const struct inode *inode)
{
    static const uint8_t zeros[SECTOR_BYTES];
    const struct page *page;
    TAILQ_FOREACH(page, &inode->pages, link)
    {
        for (unsigned i = 0; i < SECTORS_PER_PAGE; i++) {
            const uint8_t *at = inode->data + page->number * PAGE_BYTES + i * SECTOR_BYTES;
            if ((page->unsynced & (1u << i)) && memcmp(at, zeros, sizeof zeros) != 0)
                return false;
        }
    }
    return true;
}

void inode_flip_bit(struct inode *inode, uint64_t offset, unsigned bit)
{
    ASSERT(offset < inode->size && bit < 8);
    inode->data[offset] ^= (uint8_t)(1u << bit);
}

void inode_rot_at(struct inode *inode, uint64_t offset, struct rng *rng)
{
    ASSERT(offset < inode->size);
    sector_rot(inode, offset / SECTOR_BYTES, rng);
    if (inode->size % SECTOR_BYTES != 0) { /* no bytes behind the end */
        memset(inode->data + inode->size, 0, SECTOR_BYTES - inode->size % SECTOR_BYTES);
    }
}

void tree_rot(struct tree *tree, struct rng *rng)
{
    uint64_t files = 0;
    struct inode *inode;
    TAILQ_FOREACH(inode, &tree->inodes, of_tree)
    {
        files += inode->size > 0;
    }
    if (files == 0)
        return;
    uint64_t which = rng_below(rng, files);
    TAILQ_FOREACH(inode, &tree->inodes, of_tree)
    {
        if (inode->size > 0 && which-- == 0) {
            inode_rot(inode, rng);
            return;
        }
    }
}
