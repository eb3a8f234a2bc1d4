/* Hostile log files: whatever bytes they hold, inspection and start read nothing beyond them and agree with each other,
 * and a log that starts is good for work: a record appended now is there at the next start, behind the same records as
 * before.
 *
 * Input: a list of blocks {kind, count n, n bytes}; each becomes 4 KiB that begin with the n bytes. Kinds (mod 4): 0 as
 * they are; 1 the first block of another file, made a valid file header; 2 a batch header with body, put in its place
 * and made valid; 3 the same, but with the position and salt that the bytes say. CRCs are put right, because a fuzzer
 * cannot guess them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "ram_disk.h"
#include "wal/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILES_MAX  8
#define BLOCKS_MAX 64
#define JOBS_MAX   1000

struct block {
    uint8_t kind;
    uint8_t bytes[WAL_BLOCK_BYTES];
};

struct outcome {
    uint32_t digest;
    uint64_t records, damaged, damaged_lsn;
};

static void on_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct outcome *outcome = context;
    uint64_t fields[] = {record->type, record->entry_type, record->group, record->replica, record->index, record->term,
                         lsn};
    outcome->digest = crc32c(outcome->digest, fields, sizeof fields);
    outcome->digest = crc32c(outcome->digest, record->payload.data, record->payload.size);
    outcome->records++;
}

static void on_damaged(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count)
{
    struct outcome *outcome = context;
    outcome->digest = crc32c(outcome->digest, groups, count * sizeof groups[0]);
    outcome->damaged++;
    outcome->damaged_lsn = lsn;
}

static void on_persisted(void *context, uint64_t lsn_end)
{
}

static void on_failed(void *context, enum err error)
{
    UNREACHABLE();
}

/* Small numbers from the bytes, so that files stand near each other. */
static uint64_t make_file_header(struct block *block, uint64_t *ret_base_lsn)
{
    struct wal__file_header header = {.version = WAL__VERSION + (block->bytes[4] == 0xff),
                                      .base_lsn = (1u + block->bytes[0]) * (uint64_t)WAL_BLOCK_BYTES,
                                      .start_lsn =
                                          (1u + block->bytes[1] % (block->bytes[0] + 1u)) * (uint64_t)WAL_BLOCK_BYTES,
                                      .salt = block->bytes[2],
                                      .boot = block->bytes[3]};
    wal__file_header_encode(&header, block->bytes);
    *ret_base_lsn = header.base_lsn;
    return header.salt;
}

/* The body reaches over the blocks behind it, as they are now. */
static void make_batch(struct block *blocks, size_t at, size_t count, uint64_t salt, uint64_t lsn)
{
    uint8_t *bytes = blocks[at].bytes;
    bool placed = blocks[at].kind % 4 == 2;
    struct wal__batch_header header = {.salt = placed ? salt : load_le64(bytes + 8),
                                       .lsn = placed ? lsn : load_le64(bytes + 16),
                                       .length = load_le32(bytes + 24),
                                       .records_count = load_le32(bytes + 32),
                                       .previous_lsn = load_le64(bytes + 40),
                                       .previous_length = load_le32(bytes + 48),
                                       .previous_crc = load_le32(bytes + 52),
                                       .start_lsn = load_le64(bytes + 56)};
    uint64_t left = header.length;
    uint32_t crc = wal__seed(header.salt);
    for (size_t i = at, skip = WAL__BATCH_HEADER_BYTES; i < at + count && left > skip; i++, skip = 0) {
        size_t part = left < WAL_BLOCK_BYTES ? (size_t)left : WAL_BLOCK_BYTES;
        crc = crc32c(crc, blocks[i].bytes + skip, part - skip);
        left -= part;
    }
    header.body_crc = crc;
    wal__batch_header_encode(&header, bytes);
}

static void put_file(struct ram_disk *d, unsigned number, struct block *blocks, size_t count)
{
    char path[32];
    uint64_t base_lsn = 0, salt = 0;
    struct disk_file *file;
    if (blocks[0].kind % 4 == 1) {
        salt = make_file_header(&blocks[0], &base_lsn);
    }
    for (size_t i = count; i-- > 1;) { /* bodies first, for they may hold headers of their own */
        if (blocks[i].kind % 4 >= 2) {
            make_batch(blocks, i, count - i, salt, base_lsn + (i - 1) * WAL_BLOCK_BYTES);
        }
    }
    snprintf(path, sizeof path, "wal/%08u.wal", number);
    file = ram_disk_put(d, path, NULL, count * WAL_BLOCK_BYTES);
    for (size_t i = 0; i < count; i++) {
        memcpy(file->data + i * WAL_BLOCK_BYTES, blocks[i].bytes, WAL_BLOCK_BYTES);
    }
}

static void build_disk(struct ram_disk *d, const uint8_t *data, size_t size)
{
    static struct block blocks[BLOCKS_MAX];
    size_t count = 0, first = 0;
    unsigned files_count = 0;
    while (size >= 2 && count < BLOCKS_MAX) {
        size_t bytes_count = data[1] < size - 2 ? data[1] : size - 2;
        blocks[count].kind = data[0];
        memcpy(blocks[count].bytes, data + 2, bytes_count);
        memset(blocks[count].bytes + bytes_count, 0, WAL_BLOCK_BYTES - bytes_count);
        data += 2 + bytes_count;
        size -= 2 + bytes_count;
        if (blocks[count].kind % 4 == 1 && count > first && files_count < FILES_MAX) {
            put_file(d, files_count++, blocks + first, count - first);
            first = count;
        }
        count++;
    }
    if (count > first) {
        put_file(d, files_count, blocks + first, count - first);
    }
}

static enum err start(struct ram_disk *d, uint64_t boot, struct outcome *outcome, struct wal **ret_wal)
{
    struct wal_visitor visitor = {.context = outcome, .record = on_record, .damaged = on_damaged};
    struct wal_options options = {.disk = &d->disk,
                                  .clock = &d->clock,
                                  .dir = "wal",
                                  .file_bytes = 4 * WAL_BLOCK_BYTES,
                                  .budget_bytes = 256 * WAL_BLOCK_BYTES,
                                  .boot = boot,
                                  .context = outcome,
                                  .on_persisted = on_persisted,
                                  .on_failed = on_failed};
    return wal_open(&options, &visitor, ret_wal);
}

static void stop(struct ram_disk *d, struct wal *wal)
{
    while (wal_pending_bytes(wal) > 0) {
        wal_flush(wal);
        ram_disk_pump(d, JOBS_MAX);
    }
    wal_close(wal);
    ram_disk_pump(d, JOBS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ram_disk d;
    struct outcome inspected = {0}, first = {0}, second = {0}, expected;
    struct wal_inspector inspector = {.context = &inspected, .record = on_record};
    struct wal_record record = {.type = WAL_HARD_STATE, .group = 1, .term = 5};
    struct wal *wal;
    ram_disk_reset(&d);
    build_disk(&d, data, size);
    enum err inspect_error = wal_inspect(&d.disk, "wal", &inspector);
    enum err error = start(&d, 1000, &first, &wal);
    ASSERT(error == inspect_error && (error == OK || error == ERR_VERSION));
    if (error == OK) {
        ASSERT(first.records == inspected.records);
        expected = first;
        on_record(&expected, &record, wal_append(wal, &record));
        stop(&d, wal);
        ASSERT(start(&d, 1001, &second, &wal) == OK);
        /* Damage is never forgotten; ranges side by side may become one. */
        ASSERT(second.records == expected.records && (second.damaged > 0) == (first.damaged > 0));
        ASSERT(second.damaged_lsn >= first.damaged_lsn);
        ASSERT(first.damaged > 0 || second.digest == expected.digest);
        stop(&d, wal);
    }
    ASSERT(d.handles == 0);
    return 0;
}
