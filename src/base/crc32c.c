/* ISA-L keeps the register un-inverted at both ends; the usual CRC-32C inverts it. */
#include "base/crc32c.h"

#include <isa-l/crc.h>

#include "base/assert.h"

#define ISAL_CHUNK_MAX ((size_t)1 << 30) /* its length argument is an int */

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
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
