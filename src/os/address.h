/* "host:port" and socket addresses. */
#ifndef FLOTILLA_OS_ADDRESS_H
#define FLOTILLA_OS_ADDRESS_H

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/limits.h"

struct os_address {
    char host[ADDRESS_BYTES_MAX + 1]; /* without brackets; "" or "*" = every address of this machine */
    char port[6];
};

/* Splits "host:port" or "[v6]:port"; port 0 to 65535. ERR_ADDRESS. */
enum err os_address__parse(const char *text, struct os_address *ret_address);

/* Writes "1.2.3.4:5" or "[::1]:5" into to, cut at size. */
void os_address__print(const struct sockaddr *address, char *to, size_t size);

/* What getaddrinfo needs to know for a listening (passive) or an outgoing stream socket. */
struct addrinfo os_address__hints(bool passive);

#endif
