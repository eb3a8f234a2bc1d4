/* Kafka's varints inside records: seven bits a byte, low ones first, zig-zag (0, -1, 1, -2 ... are 0, 1, 2, 3 ...), at
 * most 5 bytes for 32 bits and 10 for 64. (The unsigned ones of Kafka's request headers and of protobuf are not these.)
 * Inline: seven of them are read or written per record. */
#ifndef FLOTILLA_WIRE_VARINT_H
#define FLOTILLA_WIRE_VARINT_H

#include <stdbool.h>
#include <stdint.h>

#define VARINT32_BYTES_MAX 5u
#define VARINT64_BYTES_MAX 10u

static inline uint64_t varint_zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static inline int64_t varint_unzigzag(uint64_t bits)
{
    return (int64_t)((bits >> 1) ^ (0 - (bits & 1)));
}

/* Bytes that varint_write will take; int32 values zig-zag alike in 32 and 64 bits. */
static inline uint32_t varint_size(int64_t value)
{
    uint64_t bits = varint_zigzag(value);
    uint32_t bits_used = 64 - (uint32_t)__builtin_clzll(bits | 1);
    return (bits_used + 6) / 7;
}

/* Writes value at `to` and returns the byte behind it. The caller has made sure of the room. */
static inline uint8_t *varint_write(uint8_t *to, int64_t value)
{
    uint64_t bits = varint_zigzag(value);
    while (bits >= 0x80) {
        *to++ = (uint8_t)(bits | 0x80);
        bits >>= 7;
    }
    *to++ = (uint8_t)bits;
    return to;
}

/* Any length, byte by byte. False: cut off at `end`, or more than bits_max bits. Out of line: it is rare. */
__attribute__((noinline, unused)) static bool varint__read_slowly(const uint8_t **cursor, const uint8_t *end,
                                                                  uint32_t bits_max, uint64_t *ret_bits)
{
    const uint8_t *at = *cursor;
    uint64_t bits = 0;
    for (uint32_t shift = 0; shift < bits_max && at < end; shift += 7) {
        uint8_t byte = *at++;
        uint32_t room = bits_max - shift;
        if (room < 7 && (byte & 0x7fu) >> room != 0)
            return false;
        bits |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *cursor = at;
            *ret_bits = bits;
            return true;
        }
    }
    return false;
}

/* Sizes repeat from record to record, so that a branch per size is guessed right and the next record's start is known
 * early; reading all sizes alike from one 8-byte load measured slower. */
static inline bool varint__read(const uint8_t **cursor, const uint8_t *end, uint32_t bits_max, uint64_t *ret_bits)
{
    const uint8_t *at = *cursor;
    if (at < end && at[0] < 0x80) {
        *ret_bits = at[0];
        *cursor = at + 1;
        return true;
    }
    if (end - at >= 2 && at[1] < 0x80) {
        *ret_bits = (at[0] & 0x7fu) | (uint32_t)at[1] << 7;
        *cursor = at + 2;
        return true;
    }
    if (end - at >= 3 && at[2] < 0x80) {
        *ret_bits = (at[0] & 0x7fu) | (at[1] & 0x7fu) << 7 | (uint32_t)at[2] << 14;
        *cursor = at + 3;
        return true;
    }
    return varint__read_slowly(cursor, end, bits_max, ret_bits);
}

/* Reads a varint in [*cursor, end) and moves *cursor behind it. False, and nothing changed: cut off or too long. */
static inline bool varint_read32(const uint8_t **cursor, const uint8_t *end, int32_t *ret_value)
{
    uint64_t bits;
    if (!varint__read(cursor, end, 32, &bits))
        return false;
    *ret_value = (int32_t)varint_unzigzag(bits);
    return true;
}

static inline bool varint_read64(const uint8_t **cursor, const uint8_t *end, int64_t *ret_value)
{
    uint64_t bits;
    if (!varint__read(cursor, end, 64, &bits))
        return false;
    *ret_value = varint_unzigzag(bits);
    return true;
}

#endif
