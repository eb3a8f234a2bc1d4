/* Walks a tape and tries the crash states at every point of it. */
#ifndef FLOTILLA_CRASH_EXPLORE_H
#define FLOTILLA_CRASH_EXPLORE_H

#include <stdbool.h>
#include <stdint.h>

#include "disk_model.h"
#include "oracle.h"
#include "tape.h"
#include "verify.h"

struct explore_counts {
    uint64_t events, points;
    double combinations;   /* of all points: more than fit an integer */
    uint64_t states;       /* tried, all different */
    uint64_t whole_points; /* points of which every combination was tried */
    uint64_t nested_tapes, nested_states;
    uint64_t failures;
};

/* Who reads the states. Both calls are made in a process of their own, which may end; false: `why`. */
struct explore_subject {
    void *context;
    /* Opens the state in dir and judges it. */
    bool (*judge)(void *context, struct oracle *oracle, const char *dir, uint64_t seed, char why[VERIFY_WHY_BYTES]);
    /* Only does what may be cut off again, and writes it to a tape. */
    bool (*recover)(void *context, const struct oracle *oracle, const char *dir, const char *tape, uint64_t seed,
                    char why[VERIFY_WHY_BYTES]);
};

struct explore_options {
    const struct explore_subject *subject;
    uint64_t seed;
    uint64_t states;          /* to be tried at most, by all workers together */
    uint32_t workers, worker; /* this one takes every workers-th point */
    uint32_t nested_every;    /* a state in so many is crashed again while it recovers; 0: none */
    uint32_t nested_states;   /* of each such recovery */
    uint32_t failures_max;    /* then it ends */
    const char *dir;          /* for states; must exist */
    bool keep;                /* failed states stay there */
    int64_t only_point;       /* -1: all */
    const char *only_fates;   /* with only_point: as a failure names them */
    const char *label;        /* printed before failures */
};

/* `model` is as the tape begins, `oracle` what was promised by then; both move on with the tape. Failures are printed
 * to stdout, each in one line with what is needed to see it again. */
void explore_tape(const struct explore_options *options, const struct tape *tape, struct model *model,
                  struct oracle *oracle, struct explore_counts *counts);

void explore_remove(const char *dir); /* and what is in it */

/* Tells the oracle what a TAPE_MARK says. */
void explore_mark(const struct tape_item *item, struct oracle *oracle);

/* Adds what a worker counted to what others did. */
void explore_add(struct explore_counts *sum, const struct explore_counts *counts);

#endif
