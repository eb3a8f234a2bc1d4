/* The end of a process that found a bug in itself: one line, then a core. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void assert__fail(const char *file, int line, const char *function, const char *what)
{
    fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, what);
    fflush(stderr);
    abort();
}
