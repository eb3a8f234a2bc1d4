/* Copying a C string into a field of fixed size: always terminated, cut if it must be. */
#ifndef FLOTILLA_BASE_TEXT_H
#define FLOTILLA_BASE_TEXT_H

#include <stddef.h>
#include <string.h>

static inline void text_copy(char *to, size_t capacity, const char *from)
{
    size_t size = strnlen(from, capacity - 1);
    memcpy(to, from, size);
    to[size] = '\0';
}

#endif
