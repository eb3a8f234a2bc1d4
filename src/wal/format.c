/* The WAL's bytes to values and back: pure functions, the layouts are in format.h. */
#include "wal/format.h"

#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"

#define FILE_MAGIC  0x4c41574c544c4f46ull /* "FOLTLWAL" as bytes */
#define BATCH_MAGIC 0x5442574cu           /* "LWBT" as bytes */

uint32_t wal__seed(uint64_t salt)
{
    uint8_t bytes[8];
    store_le64(bytes, salt);
    return crc32c(0, bytes, sizeof bytes);
}

static uint32_t wal__sector_crc(const uint8_t *sector)
{
    return crc32c(crc32c(0, sector, 12), sector + 16, WAL__SECTOR_BYTES - 16);
}

void wal__file_header_encode(const struct wal__file_header *header, uint8_t block[WAL_BLOCK_BYTES])
{
    memset(block, 0, WAL_BLOCK_BYTES);
    store_le64(block, FILE_MAGIC);
    store_le32(block + 8, header->version);
    store_le64(block + 16, header->base_lsn);
    store_le64(block + 24, header->start_lsn);
    store_le64(block + 32, header->salt);
    store_le64(block + 40, header->boot);
    store_le64(block + 48, header->file_bytes);
    store_le32(block + 12, wal__sector_crc(block));
}

/* The upper bound keeps sums of positions from overflowing, whatever the bytes say. */
static bool wal__lsn_is_possible(uint64_t lsn)
{
    return lsn >= WAL__FIRST_LSN && lsn % WAL_BLOCK_BYTES == 0 && lsn <= INT64_MAX / 2;
}

bool wal__block_is_zero(const uint8_t block[WAL_BLOCK_BYTES])
{
    return block[0] == 0 && memcmp(block, block + 1, WAL_BLOCK_BYTES - 1) == 0;
}

enum err wal__file_header_decode(const uint8_t block[WAL_BLOCK_BYTES], struct wal__file_header *ret_header)
{
    if (wal__block_is_zero(block)) {
        return ERR_NO_FILE;
    }
    if (load_le64(block) != FILE_MAGIC || load_le32(block + 12) != wal__sector_crc(block)) {
        return ERR_FORMAT;
    }
    if (load_le32(block + 8) != WAL__VERSION) {
        return ERR_VERSION;
    }
    struct wal__file_header header = {.version = load_le32(block + 8),
                                      .base_lsn = load_le64(block + 16),
                                      .start_lsn = load_le64(block + 24),
                                      .salt = load_le64(block + 32),
                                      .boot = load_le64(block + 40),
                                      .file_bytes = load_le64(block + 48)};
    if (!wal__lsn_is_possible(header.base_lsn) || header.start_lsn > header.base_lsn) {
        return ERR_FORMAT;
    }
    *ret_header = header;
    return OK;
}

void wal__batch_header_encode(struct wal__batch_header *header, uint8_t bytes[WAL__BATCH_HEADER_BYTES])
{
    memset(bytes, 0, WAL__BATCH_HEADER_BYTES);
    store_le32(bytes, BATCH_MAGIC);
    store_le64(bytes + 8, header->salt);
    store_le64(bytes + 16, header->lsn);
    store_le32(bytes + 24, header->length);
    store_le32(bytes + 28, header->body_crc);
    store_le32(bytes + 32, header->records_count);
    store_le64(bytes + 40, header->previous_lsn);
    store_le32(bytes + 48, header->previous_length);
    store_le32(bytes + 52, header->previous_crc);
    store_le64(bytes + 56, header->start_lsn);
    header->crc = crc32c(wal__seed(header->salt), bytes + 8, WAL__BATCH_HEADER_BYTES - 8);
    store_le32(bytes + 4, header->crc);
}

bool wal__batch_header_hinted(const uint8_t bytes[WAL__BATCH_HEADER_BYTES], uint64_t salt)
{
    return load_le32(bytes) == BATCH_MAGIC && load_le64(bytes + 8) == salt;
}

bool wal__batch_header_decode_any(const uint8_t bytes[WAL__BATCH_HEADER_BYTES], struct wal__batch_header *ret_header)
{
    struct wal__batch_header header = {.salt = load_le64(bytes + 8),
                                       .lsn = load_le64(bytes + 16),
                                       .length = load_le32(bytes + 24),
                                       .body_crc = load_le32(bytes + 28),
                                       .records_count = load_le32(bytes + 32),
                                       .previous_lsn = load_le64(bytes + 40),
                                       .previous_length = load_le32(bytes + 48),
                                       .previous_crc = load_le32(bytes + 52),
                                       .start_lsn = load_le64(bytes + 56),
                                       .crc = load_le32(bytes + 4)};
    if (load_le32(bytes) != BATCH_MAGIC ||
        header.crc != crc32c(wal__seed(header.salt), bytes + 8, WAL__BATCH_HEADER_BYTES - 8)) {
        return false;
    }
    if (!wal__lsn_is_possible(header.lsn) || header.length < WAL__BATCH_HEADER_BYTES ||
        header.length > WAL_BATCH_BYTES_MAX || header.previous_length > WAL_BATCH_BYTES_MAX ||
        header.previous_lsn > header.lsn || header.start_lsn > header.lsn) {
        return false;
    }
    *ret_header = header;
    return true;
}

bool wal__batch_header_decode(const uint8_t bytes[WAL__BATCH_HEADER_BYTES], uint64_t salt, uint64_t lsn,
                              struct wal__batch_header *ret_header)
{
    struct wal__batch_header header;
    if (!wal__batch_header_hinted(bytes, salt) || load_le64(bytes + 16) != lsn ||
        !wal__batch_header_decode_any(bytes, &header)) {
        return false;
    }
    *ret_header = header;
    return true;
}

void wal__record_encode(const struct wal_record *record, uint8_t bytes[WAL__RECORD_BYTES])
{
    bytes[0] = (uint8_t)record->type;
    bytes[1] = record->entry_type;
    store_le16(bytes + 2, 0);
    store_le32(bytes + 4, record->payload.size);
    store_le64(bytes + 8, record->group);
    store_le64(bytes + 16, record->replica);
    store_le64(bytes + 24, record->index);
    store_le64(bytes + 32, record->term);
}

size_t wal__record_decode(const uint8_t *body, size_t size, size_t at, struct wal_record *ret_record)
{
    ASSERT(at <= size);
    if (size - at < WAL__RECORD_BYTES) {
        return 0;
    }
    const uint8_t *bytes = body + at;
    uint32_t payload_size = load_le32(bytes + 4);
    bool known = (bytes[0] >= WAL_ENTRY && bytes[0] <= WAL_REPAIRED) || bytes[0] == WAL__RECORD_GROUPS;
    if (!known || payload_size > size - at - WAL__RECORD_BYTES) {
        return 0;
    }
    *ret_record = (struct wal_record){.type = (enum wal_record_type)bytes[0],
                                      .entry_type = bytes[1],
                                      .group = load_le64(bytes + 8),
                                      .replica = load_le64(bytes + 16),
                                      .index = load_le64(bytes + 24),
                                      .term = load_le64(bytes + 32),
                                      .payload = {.data = bytes + WAL__RECORD_BYTES, .size = payload_size}};
    return at + WAL__RECORD_BYTES + payload_size;
}
