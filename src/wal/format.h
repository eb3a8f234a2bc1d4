/* The bytes of the WAL on disk, format version 1. Everything is little-endian; reserved bytes are 0 and not looked
 * at.
 *
 * File header: one block of 4 KiB at offset 0 of a file, zeros from byte 512 on. Bytes 0-15 keep their meaning in
 * every version.
 *    0 u64 magic  8 u32 version  12 u32 crc of [0,12) and [16,512)
 *   16 u64 base lsn  24 u64 start lsn  32 u64 salt  40 u64 boot
 *   48 u64 length of the file when this life began (0: it grows)
 * Start lsn is where the log began when the header was written: files based below it are released, and hold nothing
 * any more. Because the header that overwrites a released file carries it, releasing is atomic with the first
 * destruction, whatever else survives. A header that is lost (rotten, or torn while a new life began) is rebuilt from
 * the first batch: nothing but a batch header ever stands in block 1, so no payload can pose as one.
 *
 * Batch: on a block boundary, filled up with zeros to the next one.
 *    0 u32 magic  4 u32 crc of [8,64), seeded  8 u64 salt of the file  16 u64 lsn
 *   24 u32 length: header and body without the fill  28 u32 crc of the body [64,length), seeded
 *   32 u32 records  36 u32 reserved
 *   40 u64 previous lsn (0: vouches for none)  48 u32 previous length  52 u32 previous header crc
 *   56 u64 start lsn of the file
 * "Seeded" = the CRC continues that of the 8 bytes of the salt: what an earlier life of the file left behind never
 * passes.
 *
 * Record: 40 bytes, then the payload, without alignment.
 *    0 u8 type  1 u8 entry type  2 u16 reserved  4 u32 payload size
 *    8 u64 group  16 u64 replica  24 u64 index  32 u64 term
 *
 * If the batch vouches, its first record has type 255 and the payload {u32 count, u32 reserved, count * u64 group id
 * (sorted, unique), unused}: the groups that have records in the previous batch. It is not counted in `records`. */
#ifndef FLOTILLA_WAL_FORMAT_H
#define FLOTILLA_WAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "wal/wal.h"

#define WAL__VERSION            1u
#define WAL__SECTOR_BYTES       512u
#define WAL__BATCH_HEADER_BYTES 64u
#define WAL__RECORD_BYTES       40u
#define WAL__LIST_BYTES         8u /* of the group list, before the ids */
#define WAL__RECORD_GROUPS      255u
#define WAL__FIRST_LSN          WAL_BLOCK_BYTES /* of an empty log; 0 is no lsn */

struct wal__file_header {
    uint32_t version;
    uint64_t base_lsn;
    uint64_t start_lsn;
    uint64_t salt;
    uint64_t boot;
    uint64_t file_bytes; /* the file was this long, and durably so, when the header was written; 0: not known */
};

struct wal__batch_header {
    uint64_t salt;
    uint64_t lsn;
    uint32_t length;
    uint32_t body_crc;
    uint32_t records_count;
    uint64_t previous_lsn; /* 0: vouches for none */
    uint32_t previous_length;
    uint32_t previous_crc;
    uint64_t start_lsn;
    uint32_t crc; /* set by encode and decode */
};

/* Bytes of the stream that a batch of this length takes. */
static inline uint32_t wal__span(uint32_t length)
{
    return (length + WAL_BLOCK_BYTES - 1) / WAL_BLOCK_BYTES * WAL_BLOCK_BYTES;
}

/* The start value of every CRC in a life of a file. */
uint32_t wal__seed(uint64_t salt);

bool wal__block_is_zero(const uint8_t block[WAL_BLOCK_BYTES]);

void wal__file_header_encode(const struct wal__file_header *header, uint8_t block[WAL_BLOCK_BYTES]);

/* ERR_NO_FILE: all zeros, a file that was never used. ERR_FORMAT: not whole. ERR_VERSION: whole, and not ours. */
enum err wal__file_header_decode(const uint8_t block[WAL_BLOCK_BYTES], struct wal__file_header *ret_header);

/* Fills header->crc too. */
void wal__batch_header_encode(struct wal__batch_header *header, uint8_t bytes[WAL__BATCH_HEADER_BYTES]);

/* True if the bytes are the header of the batch at `lsn` in the life with this salt, with a possible length. */
bool wal__batch_header_decode(const uint8_t bytes[WAL__BATCH_HEADER_BYTES], uint64_t salt, uint64_t lsn,
                              struct wal__batch_header *ret_header);

/* True if the bytes are the header of a batch of whatever life and place they say. Only for block 1 of a file, see
 * above. */
bool wal__batch_header_decode_any(const uint8_t bytes[WAL__BATCH_HEADER_BYTES], struct wal__batch_header *ret_header);

/* True if the bytes begin like a batch of this life, whole or not: a torn one rather than nothing. */
bool wal__batch_header_hinted(const uint8_t bytes[WAL__BATCH_HEADER_BYTES], uint64_t salt);

void wal__record_encode(const struct wal_record *record, uint8_t bytes[WAL__RECORD_BYTES]);

/* Decodes the record that begins at body[at]; its payload borrows from body. Returns where the next one begins, 0 if
 * it does not fit or its type is unknown (WAL__RECORD_GROUPS is known). */
size_t wal__record_decode(const uint8_t *body, size_t size, size_t at, struct wal_record *ret_record);

#endif
