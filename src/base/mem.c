/* The end of a process that has no memory for its own bookkeeping. It does not stop in order: stopping needs memory. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Noreturn void mem_exhausted(void)
{
    static const char line[] = "out of memory: nothing acknowledged is lost, the next start goes on from the WAL\n";
    ssize_t written = write(STDERR_FILENO, line, sizeof line - 1);
    (void)written;
    _exit(MEM_EXIT_CODE);
}

void *mem_zeroed(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL && count > 0 && size > 0) {
        mem_exhausted();
    }
    return memory;
}

void *mem_grow(void *memory, size_t size)
{
    void *grown = realloc(memory, size);
    if (grown == NULL) {
        mem_exhausted();
    }
    return grown;
}

void *mem_aligned(size_t alignment, size_t size)
{
    void *memory = NULL;
    if (posix_memalign(&memory, alignment, size) != 0) {
        mem_exhausted();
    }
    return memory;
}

char *mem_text(const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL) {
        mem_exhausted();
    }
    return copy;
}
