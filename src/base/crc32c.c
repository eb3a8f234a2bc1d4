/* ISA-L keeps the register un-inverted at both ends; the usual CRC-32C inverts it. It is made for long data: heads of
 * frames and batches, rows and salts are done with the processor's own instruction in a third of the time, if it has
 * one. */
#include "base/crc32c.h"

#include <string.h>

#include <isa-l/crc.h>

#include "base/assert.h"

#define ISAL_CHUNK_MAX ((size_t)1 << 30) /* its length argument is an int */
#define SHORT_BYTES    256u              /* from here on ISA-L is faster (measured) */

#ifdef __x86_64__
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c_short(uint32_t crc, const uint8_t *at, size_t size)
{
    uint64_t value = ~crc;
    for (; size >= sizeof(uint64_t); size -= sizeof(uint64_t), at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        value = _mm_crc32_u64(value, word);
    }
    for (; size > 0; size--) {
        value = _mm_crc32_u8((uint32_t)value, *at++);
    }
    return ~(uint32_t)value;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
#ifdef __x86_64__
    if (size < SHORT_BYTES && __builtin_cpu_supports("sse4.2")) {
        return crc32c_short(crc, data, size);
    }
#endif
    /* ISA-L reads through a non-const pointer but does not write. */
    unsigned char *at = (unsigned char *)(uintptr_t)data;
    crc = ~crc;
    while (size > 0) {
        size_t chunk = size < ISAL_CHUNK_MAX ? size : ISAL_CHUNK_MAX;
        crc = crc32_iscsi(at, (int)chunk, crc);
        at += chunk;
        size -= chunk;
    }
    return ~crc;
}
