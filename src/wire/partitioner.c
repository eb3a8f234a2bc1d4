/* MurmurHash2 (Austin Appleby), 32-bit variant, as Kafka's Java client uses it to choose partitions. */
#include "wire/partitioner.h"

#include "base/assert.h"
#include "base/endian.h"

#define KAFKA_SEED 0x9747b28cu
#define MULTIPLIER 0x5bd1e995u
#define ROTATION   24

uint32_t partitioner_hash(const void *key, uint32_t size_bytes)
{
    const uint8_t *at = key;
    uint32_t hash = KAFKA_SEED ^ size_bytes;
    uint32_t left = size_bytes;
    for (; left >= 4; left -= 4, at += 4) {
        uint32_t word = load_le32(at) * MULTIPLIER;
        word = (word ^ word >> ROTATION) * MULTIPLIER;
        hash = hash * MULTIPLIER ^ word;
    }
    if (left > 0) {
        for (uint32_t i = 0; i < left; i++)
            hash ^= (uint32_t)at[i] << 8 * i;
        hash *= MULTIPLIER;
    }
    hash = (hash ^ hash >> 13) * MULTIPLIER;
    return hash ^ hash >> 15;
}

uint32_t partitioner_choose(const void *key, uint32_t size_bytes, uint32_t partitions)
{
    ASSERT(partitions > 0);
    /* Kafka clears the sign bit instead of taking the absolute value. */
    return (partitioner_hash(key, size_bytes) & INT32_MAX) % partitions;
}
