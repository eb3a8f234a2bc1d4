/* Between faults.c (preloaded) and those who count down: a table in memory that both share. */
#ifndef FLOTILLA_CRASH_FAULTS_H
#define FLOTILLA_CRASH_FAULTS_H

#include <stdint.h>

#define FAULT_FRAMES    8u
#define FAULT_SITES_MAX 8192u
#define FAULT_CALLS_MAX 200000u
#define FAULT_VARIANTS  3u
#define FAULT_NONE      UINT64_MAX

enum fault_module { FAULT_MODULE_PROGRAM, FAULT_MODULE_LMDB, FAULT_MODULE_UV };

/* A place that calls something that can fail, with those who called it: return addresses, relative to the program. */
struct fault_site {
    uint64_t frames[FAULT_FRAMES]; /* innermost first, 0: no more */
    uint32_t module;               /* of frames[0] */
    uint32_t function;
    uint32_t calls;
    uint32_t is_failed; /* at least once, in all runs on this table */
};

/* sweep.py knows this layout. */
struct fault_table {
    uint64_t fail_at;   /* the number of the call that fails, from 0; FAULT_NONE: none */
    uint32_t fail_site; /* or, where threads make the order of calls another in each run: this site ... */
    uint32_t fail_call; /* ... when it is called so often, from 1; 0: never */
    uint32_t variant;
    uint32_t has_failed;
    uint32_t failed_site;
    uint32_t sites_count;
    uint64_t calls;                     /* so far in this run */
    uint8_t functions[FAULT_CALLS_MAX]; /* of each call */
    struct fault_site sites[FAULT_SITES_MAX];
    uint16_t sites_of_calls[FAULT_CALLS_MAX];
};

/* What is wrong with the world for a while, beside the one call that fails: then others fail without being counted. */
enum fault_world {
    FAULT_WORLD_FULL = 1 << 0,        /* no file gets another block */
    FAULT_WORLD_NO_FILES = 1 << 1,    /* no file can be opened */
    FAULT_WORLD_NO_COMMIT = 1 << 2,   /* LMDB finds no room when it commits */
    FAULT_WORLD_MAP_FULL = 1 << 3,    /* LMDB's map is too small, until it is made larger */
    FAULT_WORLD_MAP_RESIZED = 1 << 4, /* another process made LMDB's map larger: said once */
    FAULT_WORLD_DROPS_CACHE = 1 << 5, /* nothing wrong: the kernel takes RWF_DONTCACHE, whatever the file system */
};

/* faults.c: `table` is shared memory, NULL ends it. Only calls that are made while faults_product says 1 are counted.
 */
typedef void (*faults_use_function)(struct fault_table *table);
typedef void (*faults_product_function)(int is_product);
typedef void (*faults_world_function)(unsigned world);
typedef const char *(*faults_name_function)(uint32_t function);
typedef int (*faults_has_variant_function)(uint32_t function, uint32_t variant);

#endif
