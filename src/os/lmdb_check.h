/* Is this file an LMDB store that LMDB can read without falling over? */
#ifndef FLOTILLA_OS_LMDB_CHECK_H
#define FLOTILLA_OS_LMDB_CHECK_H

#include "base/err.h"
#include "base/trace.h"

/* Reads the meta pages and walks both trees of the newest one (rows and free pages), through read calls, never
 * through a map. OK: every page number leads to a page inside the file, of the right kind, named once, whose rows
 * lie inside it and stand in order. ERR_FORMAT: not so, or no such file; the trace says where. The rows' bytes are not
 * judged: their own CRCs do that. Costs one read of all branch and leaf pages, about 1 us each when cached. */
enum err os_lmdb__check(const char *path, const struct trace *trace);

#endif
