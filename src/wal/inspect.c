/* Offline reading: the reader of the start with another audience. Nothing is opened for writing, so it may look at the
 * files of a running broker too; what it sees at the end of the log is then of the moment. */
#include "wal/recover.h"

static void wal__inspect_file(void *context, const struct wal__file *file)
{
    const struct wal_inspector *inspector = context;
    char name[WAL__NAME_BYTES_MAX];
    wal__files_name(file->slot, name);
    if (inspector->file != NULL) {
        inspector->file(inspector->context, name, file->header.base_lsn, file->header.salt, file->header.boot,
                        file->header.version);
    }
}

static void wal__inspect_batch(void *context, uint64_t lsn, uint32_t length, const char *verdict)
{
    const struct wal_inspector *inspector = context;
    if (inspector->batch != NULL) {
        inspector->batch(inspector->context, lsn, length, verdict);
    }
}

static void wal__inspect_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    const struct wal_inspector *inspector = context;
    if (inspector->record != NULL) {
        inspector->record(inspector->context, record, lsn);
    }
}

static void wal__inspect_damaged(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count)
{
    const struct wal_inspector *inspector = context;
    if (inspector->damaged != NULL) {
        inspector->damaged(inspector->context, lsn, groups, count);
    }
}

enum err wal_inspect(struct disk *disk, const char *dir, const struct wal_inspector *inspector)
{
    struct wal_inspector copy = *inspector;
    struct wal__sink sink = {.context = &copy,
                             .is_memory = inspector->is_memory,
                             .file = wal__inspect_file,
                             .batch = wal__inspect_batch,
                             .record = wal__inspect_record,
                             .damaged = wal__inspect_damaged};
    struct wal__recovered recovered;
    struct wal__files files;
    enum err error = wal__files_scan(&files, disk, dir, NULL, WAL_FILE_BYTES_MIN, 0);
    if (error == OK) {
        error = wal__recover(&files, &sink, &recovered);
    }
    if (error == OK && copy.end != NULL) {
        copy.end(copy.context, files.start_lsn, recovered.end_lsn);
    }
    wal__files_free(&files);
    return error;
}
