/* A disk as a tape tells it: what is durable, and which changes a crash may keep or lose.
 *
 * The rules. A write or truncation is durable after fsync or fdatasync of its file, after syncfs, or at once if the
 * write itself was synced. A name (made, removed, renamed) is durable after fsync of its directory, or after syncfs.
 * Until then each change of bytes, and each change of names, is kept or lost on its own, and a write may be torn at
 * every 512 bytes; those that are kept take effect in the order of the tape, since a page cache holds one version of a
 * page. A rename is one change: it is never half there. Of two directories that it touches, the sync of either one
 * settles it, and what happened in the other one before it, as a journal would.
 *
 * The fsync of a file says nothing of its name: real file systems are kinder. */
#ifndef FLOTILLA_CRASH_DISK_MODEL_H
#define FLOTILLA_CRASH_DISK_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "tape.h"

#define MODEL_SECTOR_BYTES 512u

enum change_kind { CHANGE_WRITE, CHANGE_TRUNCATE, CHANGE_LINK, CHANGE_UNLINK, CHANGE_RENAME };

struct change {
    enum change_kind kind;
    uint32_t serial;     /* its place on the tape */
    uint32_t node;       /* whose bytes, or which the name is for */
    uint64_t offset;     /* of a write; the size after a truncation */
    uint32_t size;       /* of a write */
    const uint8_t *data; /* of a write, in the tape */
    bool is_zero;        /* of a write: nothing but zeros */
    uint32_t dir, to_dir;
    char *name, *to_name;
    bool is_settled; /* while a sync is applied */
};

struct model;

/* What a crash leaves of one pending change. */
enum fate_kind { FATE_LOST, FATE_KEPT, FATE_HEAD, FATE_TAIL };
struct fate {
    enum fate_kind kind;
    uint32_t cut; /* HEAD: the bytes before it were written; TAIL: those from it on */
};

struct model *model_new(void);
void model_free(struct model *model);

/* Everything that lies in a real directory now, all of it durable. */
bool model_scan(struct model *model, const char *dir);

/* Plays one event; false: it changes nothing that a crash could show (marks, hints). The event's memory must stay. */
bool model_play(struct model *model, const struct tape_item *item, uint32_t serial);

/* Changes that may be lost, in the order of the tape; those of files that no name leads to any more are left out. */
uint32_t model_pending(const struct model *model);
const struct change *model_change(const struct model *model, uint32_t number);
uint32_t model_cuts(const struct change *change); /* places at which a write may be torn */

/* Tells two states apart: equal only if the same changes, in the same way, are on the disk. */
uint64_t model_hash(const struct model *model, const struct fate *fates);

/* Makes the state in an empty real directory. */
bool model_build(const struct model *model, const struct fate *fates, const char *dir);

#endif
