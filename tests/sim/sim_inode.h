/* Internals shared by sim_tree.c (names) and sim_inode.c (bytes). */
#ifndef FLOTILLA_SIM_INODE_H
#define FLOTILLA_SIM_INODE_H

#include <sys/queue.h>

#include "sim_tree.h"

#define PAGE_BYTES 4096u

struct entry {
    char *name;          /* owned */
    struct inode *inode; /* one reference */
    TAILQ_ENTRY(entry) link;
};
TAILQ_HEAD(entries, entry);

/* What a power cut may bring back of one page. */
struct page {
    uint64_t number;
    uint8_t unsynced; /* bit per sector: written since the last sync */
    uint8_t lost;     /* bit per sector: a failed sync called it clean; never both */
    uint8_t zero;     /* bit per sector: it was behind the end of the file, and before[] does not say so */
    TAILQ_ENTRY(page) link;
    uint8_t before[PAGE_BYTES]; /* durable bytes of the sectors above */
};
TAILQ_HEAD(pages, page);

struct inode {
    uint32_t refs;
    bool is_dir;
    struct entries now, durable; /* directories */
    uint64_t mark;
    uint8_t *data;             /* files */
    uint64_t size;             /* at most filled: zero behind it */
    uint64_t filled, capacity; /* multiples of PAGE_BYTES: what of data means anything, and what there is */
    uint64_t reserved;         /* blocks set aside from the beginning on */
    uint64_t durable_size;
    struct page **page_at; /* capacity / PAGE_BYTES pointers, NULL = all durable */
    struct pages pages;    /* in order of first write since the last sync */
    struct tree *tree;
    TAILQ_ENTRY(inode) of_tree;
};

enum change_kind { CHANGE_LINK, CHANGE_UNLINK, CHANGE_RENAME };

/* A change of a directory that is not durable yet. Holds references to all it names. */
struct change {
    enum change_kind kind;
    struct inode *dir, *inode, *to_dir;
    char *name, *to_name;
    bool is_marked; /* by the sync of a directory */
    TAILQ_ENTRY(change) link;
};
TAILQ_HEAD(changes, change);

struct tree {
    struct inode *root;
    struct changes changes;
    uint64_t marks;
    size_t changes_count;
    TAILQ_HEAD(, inode) inodes; /* in order of creation */
    struct pages spare_pages;   /* owned */
};

struct inode *inode_new(struct tree *tree, bool is_dir); /* one reference, the caller's */
void entries_clear(struct entries *entries);
void inode_power_cut(struct tree *tree, struct inode *inode, struct rng *rng, const struct tree_cut *cut);
void pages_free(struct pages *pages);
void inode_drop_lost(struct inode *inode);
bool inode_is_durable(const struct inode *inode); /* its bytes and its size */

#endif
