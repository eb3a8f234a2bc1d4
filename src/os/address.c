/* Parsing and printing of endpoint addresses. */
#include "os/address.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum err os_address__parse(const char *text, struct os_address *ret_address)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return ERR_ADDRESS;
    }
    const char *host = text;
    size_t host_size = (size_t)(colon - text);
    if (host_size >= 2 && host[0] == '[' && host[host_size - 1] == ']') {
        host++;
        host_size -= 2;
    } else if (memchr(host, ':', host_size) != NULL) {
        return ERR_ADDRESS; /* IPv6 needs its brackets, else the port is a guess */
    }
    size_t digits = strspn(colon + 1, "0123456789");
    if (host_size > ADDRESS_BYTES_MAX || digits < 1 || digits > 5 || colon[1 + digits] != '\0' ||
        strtoul(colon + 1, NULL, 10) > 65535) {
        return ERR_ADDRESS;
    }
    memcpy(ret_address->host, host, host_size);
    ret_address->host[host_size] = '\0';
    memcpy(ret_address->port, colon + 1, digits + 1);
    return OK;
}

void os_address__print(const struct sockaddr *address, char *to, size_t size)
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
        uv_ip6_name(v6, host, sizeof host);
        snprintf(to, size, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        uv_ip4_name(v4, host, sizeof host);
        snprintf(to, size, "%s:%u", host, ntohs(v4->sin_port));
    }
}

struct addrinfo os_address__hints(bool passive)
{
    return (struct addrinfo){
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0),
    };
}
