/* The reader of the log, for the start and for inspection: walks the live files in lsn order and judges every bad
 * batch. Writes nothing. */
#ifndef FLOTILLA_WAL_RECOVER_H
#define FLOTILLA_WAL_RECOVER_H

#include "wal/files.h"

/* Any function may be NULL. */
struct wal__sink {
    void *context;
    bool is_memory; /* a read costs no call: nothing is read ahead */
    void (*file)(void *context, const struct wal__file *file);
    void (*batch)(void *context, uint64_t lsn, uint32_t length, const char *verdict); /* length 0: unknown */
    void (*record)(void *context, const struct wal_record *record, uint64_t lsn);
    void (*damaged)(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count); /* count 0: all */
};

struct wal__recovered {
    uint64_t end_lsn;     /* where the log goes on */
    bool last_file_empty; /* the newest file holds its header and nothing that was ever durable: it may be used again */
    bool use_lost_file;   /* files.lost was the newest one: it must be the next one written to */
    uint64_t records_count;
    uint64_t damaged_count; /* calls of sink.damaged */
};

/* `files` as scanned. ERR_IO, ERR_NO_MEMORY ...: a read error stops the recovery, it is no verdict on a batch. */
enum err wal__recover(const struct wal__files *files, const struct wal__sink *sink,
                      struct wal__recovered *ret_recovered);

#endif
