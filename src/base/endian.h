/* Loads and stores at any alignment: be = network order (batches, Kafka's index files), le = our own formats. */
#ifndef FLOTILLA_BASE_ENDIAN_H
#define FLOTILLA_BASE_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define ENDIAN_PAIR(bits, order)                                              \
    static inline uint##bits##_t load_##order##bits(const void *from)         \
    {                                                                         \
        uint##bits##_t value;                                                 \
        memcpy(&value, from, sizeof value);                                   \
        return order##bits##toh(value);                                       \
    }                                                                         \
    static inline void store_##order##bits(void *to, uint##bits##_t value)    \
    {                                                                         \
        value = hto##order##bits(value);                                      \
        memcpy(to, &value, sizeof value);                                     \
    }

ENDIAN_PAIR(16, be)
ENDIAN_PAIR(32, be)
ENDIAN_PAIR(64, be)
ENDIAN_PAIR(16, le)
ENDIAN_PAIR(32, le)
ENDIAN_PAIR(64, le)

#endif
