/* Port: a connection, to a client or to another broker. Loop thread only.
 *
 * Reading: before bytes arrive the link asks the handler for memory (on_alloc), then says how many came (on_read). So
 * payload lands once, in the handler's refcounted memory. Writing: link_send copies the small head, takes references to
 * the parts, and queues; everything queued in one loop turn leaves in as few system calls as possible at its end.
 * Lifecycle: on_closed comes exactly once, also after link_close; after it the link is gone.
 * Real twin: os/link.c. Simulated twin: tests/sim/sim_link.c. */
#ifndef FLOTILLA_PORT_LINK_H
#define FLOTILLA_PORT_LINK_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct link;

struct link_handler {
    /* Gives memory for the next read: at least 1 byte. on_read follows directly: no call to the handler of this or any
     * other link comes in between, so an owner may give all its links the same piece of memory, and keep of it what
     * on_read says. If another call comes first, nothing was read, and the memory is the owner's again. */
    void (*on_alloc)(struct link *link, uint8_t **ret_data, size_t *ret_size);
    void (*on_read)(struct link *link, size_t size); /* size bytes stand at what on_alloc gave; may be 0 */
    /* The bytes queued fell below half of what they were when link_send last found them above the owner's mark; a
     * paused reader may resume. Called after every completed write. */
    void (*on_drain)(struct link *link);
    void (*on_closed)(struct link *link, enum err reason); /* OK: we closed; ERR_CLOSED: they did; ERR_IO */
};

struct link {
    const struct link_ops *ops;
    const struct link_handler *handler; /* set by the owner on accept or connect */
    void *owner;                        /* of the handler */
    const char *listener;               /* name of the listener it came by; static as long as the link lives */
    char remote[64];                    /* "127.0.0.1:40222" */
};

struct link_ops {
    /* head: copied. parts: each must hold a buf reference or static memory; the link takes its own reference. */
    void (*send)(struct link *link, const void *head, size_t head_size, const struct slice *parts, size_t parts_count);
    size_t (*queued_bytes)(const struct link *link); /* sent by us, not yet taken by the kernel */
    void (*pause)(struct link *link);                /* no more on_read until resume */
    void (*resume)(struct link *link);
    void (*close)(
        struct link *link); /* what is queued is tried to be written first; on_closed follows in a later turn */
};

/* Makes connections. */
struct dialer {
    const struct dialer_ops *ops;
};

struct dialer_ops {
    /* To "host:port". The link exists at once: it may be closed, and what is sent is queued. on_connected comes in a
     * later turn; if nobody can be reached, on_closed comes instead. ERR_ADDRESS, ERR_NO_MEMORY: there is no link. */
    enum err (*dial)(struct dialer *dialer, const char *address, const struct link_handler *handler, void *owner,
                     void (*on_connected)(struct link *link), struct link **ret_link);
};

#endif
