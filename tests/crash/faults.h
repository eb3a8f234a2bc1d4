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
};

/* faults.c: `table` is shared memory, NULL ends it. Only calls that are made while faults_product says 1 are counted.
 */
typedef void (*faults_use_function)(struct fault_table *table);
typedef void (*faults_product_function)(int is_product);
typedef const char *(*faults_name_function)(uint32_t function);
typedef int (*faults_has_variant_function)(uint32_t function, uint32_t variant);

#endif
