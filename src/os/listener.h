/* A listening socket: makes links out of connections.
 *
 * While connections_max links of this listener are open, accepting stops: the rest waits in the kernel's backlog, whose
 * end the other side sees as a slow connect. Or, with os_listener_refuse, those in excess are told so and closed at
 * once, without becoming links. Accepting also stops for LISTENER_PAUSE_MS when the process has no descriptor left. */
#ifndef FLOTILLA_OS_LISTENER_H
#define FLOTILLA_OS_LISTENER_H

#include <stddef.h>
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

enum os_refusal {
    OS_REFUSED_FULL,    /* connections_max */
    OS_REFUSED_ADDRESS, /* per_address_max */
};

/* Instead of waiting, connections above connections_max, or above per_address_max from one address (an IPv6 one: its
 * first 64 bits), are sent `text` as far as the kernel takes it at once, and closed; on_refuse (with os_listen's
 * context) counts them. `text` is borrowed until close. */
void os_listener_refuse(struct os_listener *listener, uint32_t per_address_max, const void *text, size_t size,
                        void (*on_refuse)(void *context, enum os_refusal why));

/* Links of this listener that have not seen on_closed. */
uint32_t os_listener_connections(const struct os_listener *listener);

/* Stops listening at once; its links live on. NULL is allowed. */
void os_listener_close(struct os_listener *listener);

#endif
