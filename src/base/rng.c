/* xoshiro256** (Blackman and Vigna), seeded by splitmix64 as its authors advise. */
#include "base/rng.h"

#include "base/assert.h"

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

void rng_seed(struct rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        rng->state[i] = splitmix64(&seed);
    }
}

uint64_t rng_next(struct rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    ASSERT(bound > 0);
    uint64_t reject_below = -bound % bound; /* 2^64 mod bound: drawing below it would favour small results */
    uint64_t value;
    do {
        value = rng_next(rng);
    } while (value < reject_below);
    return value % bound;
}

uint64_t rng_between(struct rng *rng, uint64_t low, uint64_t high)
{
    ASSERT(low <= high);
    return high - low == UINT64_MAX ? rng_next(rng) : low + rng_below(rng, high - low + 1);
}

bool rng_chance(struct rng *rng, double probability)
{
    return (double)(rng_next(rng) >> 11) * 0x1.0p-53 < probability;
}
