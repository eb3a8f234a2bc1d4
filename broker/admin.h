/* The admin server: a small HTTP/1.1 listener on the broker's loop. It knows HTTP, not brokers: pages come through a
 * callback.
 *
 * One request per connection (the answer says "Connection: close"); GET and HEAD only. Bounds: ADMIN_REQUEST_BYTES_MAX
 * for request line and headers (431), ADMIN_CONNECTIONS_MAX connections (more wait in the kernel's backlog),
 * ADMIN_DEADLINE_MS from accept to the last byte (408 where nothing was sent yet; then it closes). Not in the
 * simulator: it decides nothing. */
#ifndef FLOTILLA_BROKER_ADMIN_H
#define FLOTILLA_BROKER_ADMIN_H

#include <stdio.h>

#include "base/err.h"
#include "os/loop.h"

#define ADMIN_REQUEST_BYTES_MAX 8192u
#define ADMIN_CONNECTIONS_MAX   64u
#define ADMIN_DEADLINE_MS       10000u

struct admin;

struct admin_source {
    void *context;
    /* Writes the page at `path` (query cut off) to out; returns the HTTP status; *ret_type is a static media type. Loop
     * thread. */
    unsigned (*page)(void *context, const char *path, FILE *out, const char **ret_type);
};

/* Listens on "host:port" (port 0: a free one). ERR_ADDRESS: malformed or in use. `source` is copied. */
enum err admin_open(struct os_loop *loop, const char *address, const struct admin_source *source, uint32_t deadline_ms,
                    struct admin **ret_admin);
const char *admin_address(const struct admin *admin); /* the real one; valid until close */
/* Stops listening, cuts the connections; memory goes when the loop has let go of them. NULL is allowed. */
void admin_close(struct admin *admin);

#endif
