/* A group's picture as one file: its rows, copied out of the checkpoint store, and put into another one.
 *
 * The file: {magic u32, version u16, 0 u16, group u64}, then rows {key size u16, value size u32, key, value}, all
 * little-endian, to its end: first the group row, then manifest, terms, done rows and state rows, each kind in key
 * order; values as they stand in the store, with their CRC. Who has it whole is told by size and CRC, which travel
 * apart from it.
 *
 * Threads: store lane; files and the checkpoint store are read and written in these calls. */
#ifndef FLOTILLA_META_PICTURE_H
#define FLOTILLA_META_PICTURE_H

#include "meta/meta.h"
#include "port/disk.h"

struct meta_export {
    uint64_t size_bytes;
    uint32_t crc;            /* over the whole file */
    struct meta_group group; /* its row */
};

/* Copies all rows of the group, of one moment, into the file at path, which is made anew. ERR_NO_FILE: no such group;
 * ERR_FORMAT: one of its rows is bad, or they are not those of its picture; ERR_TOO_LARGE: above size_max; and what
 * disk and store say. `segment` is told each row of the
 * manifest. Not synced. After an error the file may be there. */
enum err meta_export(struct kv *kv, struct disk *disk, const char *path, uint64_t group, uint64_t size_max,
                     void (*segment)(void *context, const struct meta_segment *segment), void *context,
                     struct meta_export *ret_export);

/* Reads the file of another broker, believing nothing: group and visitor as in meta_load, `bad` is never called.
 * ERR_FORMAT: no picture of this group; ERR_VERSION: of a format this build does not know. */
enum err meta_import(struct disk *disk, const char *path, uint64_t group, const struct meta_visitor *visitor);

/* Replaces everything that stands there of the group by terms, done rows and state rows of the file, which meta_import
 * found good, and by this group row and manifest. The caller's transaction; after an error it aborts it. */
enum err meta_install(struct kv *kv, struct kv_txn *txn, struct disk *disk, const char *path,
                      const struct meta_group *group, const struct meta_segment *segments, uint32_t segments_count);

#endif
