/* Memory for bookkeeping: small things whose number limits.h bounds. Without it the broker cannot go on, so running out
 * of it ends the process: one line, exit code 3 (MEM_EXIT_CODE). Nothing acknowledged is lost by that, the WAL has it.
 * What is large, or sized by a client (frames, receive chunks, disk reads), is asked for with buf_new or malloc instead
 * and answered with ERR_NO_MEMORY. Any thread. */
#ifndef FLOTILLA_BASE_MEM_H
#define FLOTILLA_BASE_MEM_H

#include <stddef.h>

#define MEM_EXIT_CODE 3

/* Each returns memory that is the caller's to free(), never NULL. */
void *mem_zeroed(size_t count, size_t size);
void *mem_grow(void *memory, size_t size);        /* realloc: what is added has no value yet */
char *mem_text(const char *text);                 /* a copy */
void *mem_aligned(size_t alignment, size_t size); /* alignment: a power of two; no value yet */

_Noreturn void mem_exhausted(void);

#endif
