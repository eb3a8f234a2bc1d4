/* What the admin server shows: health, metrics, and the cluster, topics and partitions as JSON (the shapes of `flotilla
 * --json`). */
#ifndef FLOTILLA_BROKER_PAGES_H
#define FLOTILLA_BROKER_PAGES_H

#include <stdio.h>

struct broker;

/* Writes the page at `path` (no query) to out and says its media type; returns the HTTP status: 200, 404, or 503 (not
 * ready). `broker` may be NULL while it starts: alive, not ready. Loop thread. A page of all partitions is built in one
 * go: about 200 bytes and half a microsecond each. */
unsigned pages_write(const struct broker *broker, const char *path, FILE *out, const char **ret_type);

#endif
