/* A seeded generator (xoshiro256**, seeded by splitmix64) for jitter and for the simulator; not for salts and ids that
 * must differ between lives: those come from clock_random. */
#ifndef FLOTILLA_BASE_RNG_H
#define FLOTILLA_BASE_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_seed(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t bound);            /* [0, bound), bound > 0, unbiased */
uint64_t rng_between(struct rng *rng, uint64_t low, uint64_t high); /* [low, high] */
bool rng_chance(struct rng *rng, double probability);

#endif
