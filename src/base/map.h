/* Hash maps: uthash (Debian: uthash-dev), with our way of dying when bookkeeping memory runs out. Items embed a
 * `UT_hash_handle hh`; iteration (HASH_ITER) is in order of insertion, so it is the same in every run. Lists are
 * <sys/queue.h>: TAILQ and STAILQ. */
#ifndef FLOTILLA_BASE_MAP_H
#define FLOTILLA_BASE_MAP_H

#include "base/mem.h"

#define uthash_fatal(message) mem_exhausted()
#include <uthash.h>

#endif
