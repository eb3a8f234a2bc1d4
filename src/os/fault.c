/* One table from errno to enum err. What the caller could act on has its own word; everything else is ERR_IO, which
 * always means "the device or the kernel failed", never "you may try again". */
#include "os/fault.h"

#include <errno.h>
#include <uv.h>

enum err os__err_of_errno(int number)
{
    switch (number) {
    case 0:
        return OK;
    case ENOSPC:
    case EDQUOT:
        return ERR_STORAGE_FULL;
    case ENOENT:
        return ERR_NO_FILE;
    case EROFS:
        return ERR_READ_ONLY;
    case EEXIST:
    case ENOTEMPTY:
        return ERR_EXISTS;
    case EMFILE:
    case ENFILE:
        return ERR_TOO_MANY_FILES;
    case ENOMEM:
    case ENOBUFS:
        return ERR_NO_MEMORY;
    case EADDRINUSE:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
        return ERR_ADDRESS;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return ERR_REFUSED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
        return ERR_CLOSED;
    case ECANCELED:
        return ERR_CANCELLED;
    default:
        return ERR_IO;
    }
}

enum err os__err_of_uv(int status)
{
    if (status >= 0) {
        return OK;
    }
    if (status == UV_EOF) {
        return ERR_CLOSED;
    }
    if (status <= UV_EAI_ADDRFAMILY && status >= UV_EAI_SOCKTYPE) {
        return ERR_ADDRESS;
    }
    return os__err_of_errno(-status); /* on Unix libuv's codes are negative errno values */
}
