/* Counts down over every call of scripted runs that can fail. */
#ifndef FLOTILLA_CRASH_SWEEP_H
#define FLOTILLA_CRASH_SWEEP_H

#include <stdint.h>

struct sweep_options {
    const char *dir;    /* where runs are made; must exist */
    const char *sites;  /* a file for what was called, for sweep.py; NULL: none */
    const char *script; /* this one only; NULL: all */
    uint64_t every;     /* fail every so-manieth call only; 1: all */
    uint64_t workers;
    uint64_t failures_max;
    int64_t only; /* this call only, -1: all */
    uint32_t only_variant;
};

/* The exit code: 0 every run ended well, 1 some did not (printed), 3 not even the run without a fault. */
int sweep_run(const struct sweep_options *options);

#endif
