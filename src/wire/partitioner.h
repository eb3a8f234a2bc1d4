/* Which partition a key belongs to: Kafka's default partitioner, so that the same key goes to the same partition
 * whichever client wrote it. Records without key are spread by the producer's own policy, not here. */
#ifndef FLOTILLA_WIRE_PARTITIONER_H
#define FLOTILLA_WIRE_PARTITIONER_H

#include <stdint.h>

/* MurmurHash2, 32 bits, with Kafka's seed: the value that Java's Utils.murmur2 returns, as unsigned. */
uint32_t partitioner_hash(const void *key, uint32_t size_bytes);

/* The partition, 0 to partitions - 1, of a key that is not null (it may be empty); partitions >= 1. */
uint32_t partitioner_choose(const void *key, uint32_t size_bytes, uint32_t partitions);

#endif
