/* A simulated file system: names and bytes, and of each what is durable.
 *
 * Bytes. A file holds its current bytes and, for every 4 KiB page that was written since the last sync, the bytes of
 * before (what a power cut may bring back), with one bit per 512 B sector. A sync drops the pages of before; a failed
 * sync leaves them but calls the page clean, as ext4 does: later syncs succeed and the bytes are still not on the disk.
 * Names. Every change of a directory (link, unlink, rename) is applied at once and remembered until its directory is
 * synced. A power cut undoes what is remembered: the changes since the last sync_dir survive in any subset, or as a
 * prefix. fdatasync of a file does not make its name durable, as POSIX has it.
 *
 * Nothing here draws time or counts I/O calls: that is sim_disk's. */
#ifndef FLOTILLA_SIM_TREE_H
#define FLOTILLA_SIM_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/rng.h"

#define SECTOR_BYTES 512u

struct tree;
struct inode;

struct tree *tree_new(void);
void tree_free(struct tree *tree);

/* Where names are looked up: as the process sees them, or as a power cut would leave them if nothing un-synced
 * survived. */
enum tree_view { TREE_NOW, TREE_DURABLE };

/* --- names; paths relative to the root, "" and "." are the root --- */
enum err tree_find(const struct tree *tree, enum tree_view view, const char *path,
                   struct inode **ret_inode); /* no reference */
enum err tree_create(struct tree *tree, const char *path,
                     struct inode **ret_inode);              /* ERR_EXISTS, ERR_NO_FILE (parent) */
enum err tree_make_dir(struct tree *tree, const char *path); /* one level; OK if there */
enum err tree_remove_dir(struct tree *tree, const char *path);
enum err tree_unlink(struct tree *tree, const char *path);
enum err tree_rename(struct tree *tree, const char *from, const char *to);
enum err tree_sync_dir(struct tree *tree, const char *path);
enum err tree_list(const struct tree *tree, enum tree_view view, const char *path,
                   void (*visit)(void *context, const char *name), void *context);
/* A power cut leaves the directory, and the files in it, as they are. */
bool tree_is_durable(const struct tree *tree, const char *dir);
size_t tree_pending_names(const struct tree *tree); /* changes of directories that are not durable */

/* --- bytes --- */
bool inode_is_dir(const struct inode *inode);
struct inode *inode_ref(struct inode *inode);
void inode_unref(struct inode *inode);
uint64_t inode_size(const struct inode *inode, enum tree_view view);
size_t inode_read(const struct inode *inode, enum tree_view view, void *data, size_t size, uint64_t offset);
void inode_write(struct tree *tree, struct inode *inode, const void *data, size_t size, uint64_t offset);
void inode_truncate(struct tree *tree, struct inode *inode, uint64_t size); /* gives back what was set aside behind */
void inode_reserve(struct inode *inode, uint64_t size);                     /* blocks; the length stays */
uint64_t inode_blocks_bytes(const struct inode *inode);                     /* its length, or what is set aside */
/* The bytes as the process sees them, [0, inode_size); valid until the next write. */
const uint8_t *inode_bytes(const struct inode *inode);
uint64_t inode_unsynced_bytes(const struct inode *inode);
bool inode_unsynced_is_zero(const struct inode *inode); /* all that a failed sync would lose */

/* Tells which byte range has just become durable. */
typedef void (*tree_synced)(void *context, struct inode *inode, uint64_t offset, uint64_t size);
void inode_sync(struct tree *tree, struct inode *inode, tree_synced synced,
                void *context);             /* context and synced may be NULL */
void inode_sync_fails(struct inode *inode); /* pages become clean, nothing becomes durable */
void tree_sync_all(struct tree *tree, tree_synced synced, void *context); /* bytes and names */
uint64_t tree_bytes(const struct tree *tree);                             /* of all files as the process sees them */

/* --- crashes --- */
struct tree_cut {
    double keep;         /* chance that an un-synced sector is on the disk */
    double garbage;      /* chance that it is neither the old nor the new one */
    double names_prefix; /* chance that directory changes survive as a prefix instead of as any subset */
    double name_keep;    /* in a subset: chance of each change */
    double size_keep;    /* chance that an un-synced file size survives */
};
void tree_power_cut(struct tree *tree, struct rng *rng, const struct tree_cut *cut);
/* The process died: the page cache stays, but pages that a failed sync called clean are dropped from it. */
void tree_process_death(struct tree *tree);

/* Changes some bytes of one file, preferably some that are not zero: a bit, a sector of garbage or of zeros, or a
 * sector that belongs elsewhere in the file. */
void tree_rot(struct tree *tree, struct rng *rng);
void inode_flip_bit(struct inode *inode, uint64_t offset, unsigned bit);  /* of a byte that is durable */
void inode_rot_at(struct inode *inode, uint64_t offset, struct rng *rng); /* the sector that holds the offset */

#endif
