/* What happens in the scripts of the sweep: from a calm life to bad weather. Each plot is run once for every call of it
 * that can fail, so it should be short, and each thing that the product can do should happen in one of them. */
#ifndef FLOTILLA_CRASH_PLOT_H
#define FLOTILLA_CRASH_PLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "script.h"

struct plot {
    const char *name;
    void (*run)(struct script *s); /* after script_begin; may end the process */
    /* Topics may be damaged once their deletion was asked for: they are to be deleted (script_settle) before what is
     * left is judged. */
    bool wounds;
    /* 0: every call fails; else only the first so many of each chain of callers do, and the others are left to the
     * plots that have them too. */
    uint32_t per_chain;
};

extern const struct plot plots[];
extern const uint32_t plots_count;

#endif
