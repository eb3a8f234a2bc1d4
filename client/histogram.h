/* A log-linear histogram of times: 64 steps per power of two, so a quantile is off by less than 1.6 %. Fixed memory, no
 * allocation. */
#ifndef FLOTILLA_CLIENT_HISTOGRAM_H
#define FLOTILLA_CLIENT_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEP_BITS 6u
#define HISTOGRAM_STEPS     (1u << HISTOGRAM_STEP_BITS)
#define HISTOGRAM_BUCKETS   ((64u - HISTOGRAM_STEP_BITS + 1u) * HISTOGRAM_STEPS)

struct histogram {
    uint64_t count;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline uint32_t histogram__bucket(uint64_t value)
{
    if (value < HISTOGRAM_STEPS)
        return (uint32_t)value;
    uint32_t power = 63u - (uint32_t)__builtin_clzll(value);
    uint32_t shift = power - HISTOGRAM_STEP_BITS;
    return (shift + 1) * HISTOGRAM_STEPS + (uint32_t)(value >> shift) - HISTOGRAM_STEPS;
}

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->buckets[histogram__bucket(value)]++;
}

/* The middle of the bucket that holds the value below which `share` (0 to 1) of all lie; 0 if there are none. */
static inline uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)histogram->count);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > wanted || (seen == histogram->count && seen > 0)) {
            if (i < HISTOGRAM_STEPS)
                return i;
            uint32_t shift = i / HISTOGRAM_STEPS - 1;
            uint64_t low = (uint64_t)(i % HISTOGRAM_STEPS + HISTOGRAM_STEPS) << shift;
            return low + (((uint64_t)1 << shift) >> 1);
        }
    }
    return 0;
}

#endif
