/* A listening socket: makes links out of connections.
 *
 * Accepting stops while connections_max links of this listener are open (the rest waits in the kernel's backlog, whose
 * end the other side sees as a slow connect), and for LISTENER_PAUSE_MS when the process has no descriptor left. */
#ifndef FLOTILLA_OS_LISTENER_H
#define FLOTILLA_OS_LISTENER_H

#include <stdint.h>

#include "base/err.h"
#include "os/loop.h"
#include "port/link.h"

struct os_listener;

/* Listens on "host:port"; host "" or "*" = every address; port 0 = one of the kernel's choice. `name` (static, or
 * living as long as every link of it) is what link->listener will say. on_accept sets link->handler and
 * link->owner, or calls link->ops->close to refuse (then handler may stay NULL and no callback comes). Blocks for
 * the name service when `address` holds a name. ERR_ADDRESS: malformed, unknown or in use. */
enum err os_listen(struct os_loop *loop, const char *address, const char *name, uint32_t connections_max,
                   void (*on_accept)(void *context, struct link *link), void *context,
                   struct os_listener **ret_listener);

/* The real "host:port", numeric; valid until close. */
const char *os_listener_address(const struct os_listener *listener);

/* Links of this listener that have not seen on_closed. */
uint32_t os_listener_connections(const struct os_listener *listener);

/* Stops listening at once; its links live on. NULL is allowed. */
void os_listener_close(struct os_listener *listener);

#endif
