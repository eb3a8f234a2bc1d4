/* Histograms of the broker; the counters themselves are plain fields. */
#include "broker/counters.h"

const uint64_t counters_bucket_us[COUNTER_BUCKETS] = {
    50, 100, 150, 200, 300, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 250000, 1000000, 5000000,
};

void counters_observe(struct counter_histogram *histogram, uint64_t value_us)
{
    unsigned i = 0;
    while (i < COUNTER_BUCKETS && value_us > counters_bucket_us[i]) {
        i++;
    }
    histogram->buckets[i]++;
    histogram->count++;
    histogram->sum_us += value_us;
}
