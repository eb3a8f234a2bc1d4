/* Hash maps: uthash (Debian: uthash-dev), with our way of dying when bookkeeping memory runs out. Items embed a
 * `UT_hash_handle hh`; iteration (HASH_ITER) is in order of insertion, so it is the same in every run. Lists are
 * <sys/queue.h>: TAILQ and STAILQ. */
#ifndef FLOTILLA_BASE_MAP_H
#define FLOTILLA_BASE_MAP_H

#include "base/mem.h"

#define uthash_fatal(message) mem_exhausted()
#include <uthash.h>

/* A partition has several maps, nearly always of a handful of items: 4 buckets to begin with instead of 32 are 0.9 KiB
 * less for each. They double like any. */
#undef HASH_INITIAL_NUM_BUCKETS
#undef HASH_INITIAL_NUM_BUCKETS_LOG2
#define HASH_INITIAL_NUM_BUCKETS      4U
#define HASH_INITIAL_NUM_BUCKETS_LOG2 2U

#endif
