/* The edge where foreign error codes end: errno, libuv (negative errno and its own), LMDB (see os/lmdb.c). */
#ifndef FLOTILLA_OS_FAULT_H
#define FLOTILLA_OS_FAULT_H

#include "base/err.h"

/* The enum err for an errno value; 0 is OK, what has no better word is ERR_IO. Any thread. */
enum err os__err_of_errno(int number);

/* The same for libuv's status: 0 or positive is OK; UV_EOF is ERR_CLOSED. Any thread. */
enum err os__err_of_uv(int status);

#endif
