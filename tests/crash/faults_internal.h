/* The two halves of the fault maker: faults.c counts and judges, fault_calls.c has the functions that fail. */
#ifndef FLOTILLA_CRASH_FAULTS_INTERNAL_H
#define FLOTILLA_CRASH_FAULTS_INTERNAL_H

#include <errno.h>
#include <lmdb.h>
#include <stdbool.h>
#include <stdint.h>

#include "faults.h"

#define PUBLIC __attribute__((visibility("default")))
#define SHORT  (-1) /* instead of an errno: half of what was asked for */

/* Name and ways to fail, those that a real system has. What is read from and written to depends on the descriptor:
 * files, sockets, and the pipes and eventfds that libuv wakes itself with. sweep.py reads this table too. */
#define FUNCTION_TABLE(X)                                                                                              \
    X(OPEN, "open", EMFILE, EIO, ENOSPC)                                                                               \
    X(FOPEN, "fopen", EMFILE, EIO, 0)                                                                                  \
    X(PREAD, "pread", EIO, EINTR, SHORT)                                                                               \
    X(READ, "read", EIO, EINTR, 0)                                                                                     \
    X(WRITE, "write", EIO, ENOSPC, 0)                                                                                  \
    X(PWRITE, "pwrite", ENOSPC, EIO, SHORT)                                                                            \
    X(PWRITEV, "pwritev", ENOSPC, EIO, SHORT)                                                                          \
    X(WRITEV, "writev", ENOSPC, EIO, SHORT)                                                                            \
    X(FSYNC, "fsync", EIO, ENOSPC, 0)                                                                                  \
    X(FDATASYNC, "fdatasync", EIO, ENOSPC, 0)                                                                          \
    X(SYNCFS, "syncfs", EIO, ENOSPC, 0)                                                                                \
    X(WRITEBACK, "sync_file_range", EIO, 0, 0)                                                                         \
    X(FTRUNCATE, "ftruncate", EIO, ENOSPC, 0)                                                                          \
    X(RESERVE, "fallocate", ENOSPC, EIO, EINTR)                                                                        \
    X(RENAME, "rename", EIO, ENOSPC, 0)                                                                                \
    X(UNLINK, "unlink", EIO, 0, 0)                                                                                     \
    X(MKDIR, "mkdir", EIO, ENOSPC, 0)                                                                                  \
    X(STAT, "stat", EIO, ENOMEM, 0)                                                                                    \
    X(FLOCK, "flock", ENOLCK, EINTR, 0)                                                                                \
    X(FCNTL, "fcntl", ENOLCK, EINTR, 0)                                                                                \
    X(FDOPENDIR, "fdopendir", ENOMEM, 0, 0)                                                                            \
    X(READDIR, "readdir", EIO, 0, 0)                                                                                   \
    X(MMAP, "mmap", ENOMEM, 0, 0)                                                                                      \
    X(MALLOC, "malloc", ENOMEM, 0, 0)                                                                                  \
    X(CALLOC, "calloc", ENOMEM, 0, 0)                                                                                  \
    X(REALLOC, "realloc", ENOMEM, 0, 0)                                                                                \
    X(MEMALIGN, "posix_memalign", ENOMEM, 0, 0)                                                                        \
    X(STRDUP, "strdup", ENOMEM, 0, 0)                                                                                  \
    X(MEMSTREAM, "open_memstream", ENOMEM, 0, 0)                                                                       \
    X(KV_PUT, "mdb_put", ENOMEM, 0, 0)                                                                                 \
    X(KV_DEL, "mdb_del", ENOMEM, 0, 0)                                                                                 \
    X(KV_GET, "mdb_get", MDB_CORRUPTED, 0, 0)                                                                          \
    X(KV_SEEK, "mdb_cursor_get", MDB_CORRUPTED, 0, 0)                                                                  \
    X(THREAD, "pthread_create", EAGAIN, 0, 0)                                                                          \
    X(RANDOM, "getrandom", EINTR, 0, 0)                                                                                \
    X(EPOLL, "epoll_create1", EMFILE, ENOMEM, 0)                                                                       \
    X(EPOLL_CTL, "epoll_ctl", ENOMEM, ENOSPC, 0)                                                                       \
    X(EPOLL_WAIT, "epoll_wait", EINTR, 0, 0)                                                                           \
    X(EVENTFD, "eventfd", EMFILE, ENOMEM, 0)                                                                           \
    X(PIPE, "pipe2", EMFILE, 0, 0)                                                                                     \
    X(WAKE_READ, "read_of_a_wakeup", EINTR, 0, 0)                                                                      \
    X(WAKE_WRITE, "write_of_a_wakeup", EINTR, 0, 0)                                                                    \
    X(RESOLVE, "getaddrinfo", ENOMEM, EAGAIN, 0)                                                                       \
    X(SOCKET, "socket", EMFILE, ENOBUFS, 0)                                                                            \
    X(BIND, "bind", EADDRINUSE, ENOMEM, 0)                                                                             \
    X(LISTEN, "listen", EADDRINUSE, 0, 0)                                                                              \
    X(ACCEPT, "accept4", EMFILE, ECONNABORTED, ENOMEM)                                                                 \
    X(RECV, "recv", ECONNRESET, EINTR, SHORT)                                                                          \
    X(SEND, "send", EPIPE, EAGAIN, SHORT)                                                                              \
    X(SHUTDOWN, "shutdown", ENOTCONN, 0, 0)                                                                            \
    X(SETSOCKOPT, "setsockopt", ENOMEM, 0, 0)                                                                          \
    X(GETNAME, "getsockname", ENOBUFS, 0, 0)                                                                           \
    X(GETPEER, "getpeername", ENOTCONN, 0, 0)                                                                          \
    X(IOCTL, "ioctl", EPERM, 0, 0)

#define FUNCTION_ENUM(id, name, a, b, c) FUNCTION_##id,
enum function { FUNCTION_TABLE(FUNCTION_ENUM) FUNCTIONS };

/* Counts a call; how it must fail (an errno, an error of LMDB, or SHORT), 0: it must not. `caller` is the return
 * address of the function, `frame` its frame. */
int faults__verdict(enum function function, uintptr_t caller, const uintptr_t *frame);

/* Whether the product runs and its world is so. */
bool faults__is_world(enum fault_world what);
void faults__end_world(enum fault_world what);

#define VERDICT(id)                                                                                                    \
    faults__verdict(FUNCTION_##id, (uintptr_t)__builtin_return_address(0),                                             \
                    (const uintptr_t *)__builtin_frame_address(0))

#endif
