/* The real twin of port/link.h on uv_tcp_t: connections that others made (os/listener.h) and that we make
 * (os_connect).
 *
 * What the port leaves open:
 * - Output queued in a turn leaves at its end; output queued by on_drain leaves at the end of the next turn, which
 *   follows at once. SEND_PARTS_MAX is per link_send; a queue may hold any number.
 * - The other side's end of stream (also a half-close) ends the link: what is queued, and what the owner queues
 *   until on_closed, is still written within LINK_CLOSE_MS, then on_closed(ERR_CLOSED).
 * - close: output is written within LINK_CLOSE_MS, then our end of stream is sent and input is dropped until theirs
 *   comes or the time is up (closing at once would answer unread input with a reset, and the reset destroys output
 *   on its way: the error frame that explains why). link_send after link_close does nothing.
 * - A paused link does not notice that the other side left. ERR_TIMEOUT: it vanished (LINK_KEEPALIVE_S).
 * - One link reads at most its share of LINK_READ_BYTES_PER_TURN in a turn (plus one on_alloc), and on_read never
 *   brings more than LINK_READ_BYTES_MAX; what is left comes in the next turn.
 * - on_alloc may give size 0 when there is no memory: the link ends with ERR_NO_MEMORY.
 * - on_drain comes once after each write that moved bytes, on_closed never inside a call made by the owner. */
#ifndef FLOTILLA_OS_LINK_H
#define FLOTILLA_OS_LINK_H

#include "base/err.h"
#include "os/loop.h"
#include "port/link.h"

/* Connects to "host:port", trying each address of the name for LINK_CONNECT_MS. The link exists at once: it may be
 * closed, and what is sent is queued. on_connected (may be NULL) comes in a later turn; if it cannot be reached,
 * on_closed comes instead: ERR_REFUSED, ERR_TIMEOUT, ERR_ADDRESS (no such name), ERR_TOO_MANY_FILES. Returns
 * ERR_ADDRESS for a malformed text, ERR_NO_MEMORY. */
enum err os_connect(struct os_loop *loop, const char *address, const struct link_handler *handler, void *owner,
                    void (*on_connected)(struct link *link), struct link **ret_link);

#endif
