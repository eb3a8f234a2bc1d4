/* Texts and names of enum err, both from the one table in err.h. */
#include "base/err.h"

#include <ctype.h>
#include <stddef.h>

const char *err_text(enum err error)
{
    switch (error) {
#define ERR_TEXT(name, number, text)                                                                                   \
    case name:                                                                                                         \
        return text;
        ERR_TABLE(ERR_TEXT)
#undef ERR_TEXT
    }
    return "unknown error";
}

const char *err_name(enum err error)
{
    switch (error) {
#define ERR_NAME(name, number, text)                                                                                   \
    case name:                                                                                                         \
        return #name;
        ERR_TABLE(ERR_NAME)
#undef ERR_NAME
    }
    return "unknown";
}
