/* The functions that can fail, in front of the real ones: each asks faults__verdict, and fails or makes the call. Most
 * real ones are one system call. Those that are more are looked up behind us. */
#undef _FILE_OFFSET_BITS /* else the headers give open and open64 one name */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "faults_internal.h"

#define DONTCACHE 0x80 /* RWF_DONTCACHE, which older headers do not have */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
int __fxstat(int version, int fd, struct stat *status);

static struct {
    int (*fcntl)(int, int, ...);
    FILE *(*fopen)(const char *, const char *);
    FILE *(*open_memstream)(char **, size_t *);
    DIR *(*fdopendir)(int);
    struct dirent *(*readdir)(DIR *);
    int (*thread)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    int (*resolve)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    int (*kv_begin)(MDB_env *, MDB_txn *, unsigned, MDB_txn **);
    int (*kv_commit)(MDB_txn *);
    void (*kv_abort)(MDB_txn *);
    int (*kv_size)(MDB_env *, size_t);
    int (*kv_put)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *, unsigned);
    int (*kv_del)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *);
    int (*kv_get)(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *);
    int (*kv_seek)(MDB_cursor *, MDB_val *, MDB_val *, MDB_cursor_op);
} real;

static void *behind_us(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void real_init(void)
{
    *(void **)&real.fcntl = behind_us("fcntl");
    *(void **)&real.fopen = behind_us("fopen64");
    *(void **)&real.open_memstream = behind_us("open_memstream");
    *(void **)&real.fdopendir = behind_us("fdopendir");
    *(void **)&real.readdir = behind_us("readdir");
    *(void **)&real.thread = behind_us("pthread_create");
    *(void **)&real.resolve = behind_us("getaddrinfo");
    *(void **)&real.kv_begin = behind_us("mdb_txn_begin");
    *(void **)&real.kv_commit = behind_us("mdb_txn_commit");
    *(void **)&real.kv_abort = behind_us("mdb_txn_abort");
    *(void **)&real.kv_size = behind_us("mdb_env_set_mapsize");
    *(void **)&real.kv_put = behind_us("mdb_put");
    *(void **)&real.kv_del = behind_us("mdb_del");
    *(void **)&real.kv_get = behind_us("mdb_get");
    *(void **)&real.kv_seek = behind_us("mdb_cursor_get");
}

/* Leaves the function with this errno if the call must fail. */
#define FAIL(id, result)                                                                                               \
    do {                                                                                                               \
        int way_ = VERDICT(id);                                                                                        \
        if (way_ > 0) {                                                                                                \
            errno = way_;                                                                                              \
            return result;                                                                                             \
        }                                                                                                              \
    } while (0)

/* What a descriptor leads to decides how reading from it and writing to it can fail. */
static mode_t kind_of(int fd)
{
    struct stat status = {0};
    return syscall(SYS_fstat, fd, &status) == 0 ? status.st_mode & S_IFMT : 0;
}

#define VERDICT_OF(fd, file, socket, wakeup)                                                                           \
    (kind_of(fd) == S_IFREG ? VERDICT(file) : kind_of(fd) == S_IFSOCK ? VERDICT(socket) : VERDICT(wakeup))

/* On a full disk: whether a file would need blocks that it has not. */
static bool is_refused_room(int fd, off_t end)
{
    struct stat status = {0};
    if (!faults__is_world(FAULT_WORLD_FULL) || syscall(SYS_fstat, fd, &status) != 0 || !S_ISREG(status.st_mode))
        return false;
    return end > status.st_size && end > (off_t)status.st_blocks * 512;
}

static bool is_refused(int fd, const struct iovec *parts, int count, off_t offset)
{
    off_t end = offset < 0 ? syscall(SYS_lseek, fd, (off_t)0, SEEK_CUR) : offset;
    for (int i = 0; i < count; i++) {
        end += (off_t)parts[i].iov_len;
    }
    if (!is_refused_room(fd, end))
        return false;
    errno = ENOSPC;
    return true;
}

/* --- memory --- */

PUBLIC void *malloc(size_t size)
{
    FAIL(MALLOC, NULL);
    return __libc_malloc(size);
}

PUBLIC void *calloc(size_t count, size_t size)
{
    FAIL(CALLOC, NULL);
    return __libc_calloc(count, size);
}

PUBLIC void *realloc(void *memory, size_t size)
{
    FAIL(REALLOC, NULL);
    return __libc_realloc(memory, size);
}

PUBLIC int posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    int way = VERDICT(MEMALIGN);
    void *memory = way == 0 ? __libc_memalign(alignment, size) : NULL;
    if (memory == NULL)
        return ENOMEM;
    *ret_memory = memory;
    return 0;
}

PUBLIC void *aligned_alloc(size_t alignment, size_t size)
{
    FAIL(MEMALIGN, NULL);
    return __libc_memalign(alignment, size);
}

PUBLIC char *strdup(const char *text)
{
    FAIL(STRDUP, NULL);
    size_t size = strlen(text) + 1;
    char *copy = __libc_malloc(size);
    return copy != NULL ? memcpy(copy, text, size) : NULL;
}

PUBLIC void *mmap(void *memory, size_t size, int protection, int flags, int fd, off_t offset)
{
    FAIL(MMAP, MAP_FAILED);
    return (void *)syscall(SYS_mmap, memory, size, protection, flags, fd, offset);
}

/* --- files --- */

#define MODE_OF(flags)                                                                                                 \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {                                                            \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode = va_arg(list, mode_t);                                                                                   \
        va_end(list);                                                                                                  \
    }

#define OPEN(name, dir_fd, ...)                                                                                        \
    PUBLIC int name(__VA_ARGS__, const char *path, int flags, ...)                                                     \
    {                                                                                                                  \
        MODE_OF(flags)                                                                                                 \
        FAIL(OPEN, -1);                                                                                                \
        if (faults__is_world(FAULT_WORLD_NO_FILES)) {                                                                  \
            errno = EMFILE;                                                                                            \
            return -1;                                                                                                 \
        }                                                                                                              \
        return (int)syscall(SYS_openat, dir_fd, path, flags | O_LARGEFILE, mode);                                      \
    }
OPEN(openat, dir_fd, int dir_fd)
OPEN(openat64, dir_fd, int dir_fd)

#define OPEN_HERE(name)                                                                                                \
    PUBLIC int name(const char *path, int flags, ...)                                                                  \
    {                                                                                                                  \
        MODE_OF(flags)                                                                                                 \
        FAIL(OPEN, -1);                                                                                                \
        if (faults__is_world(FAULT_WORLD_NO_FILES)) {                                                                  \
            errno = EMFILE;                                                                                            \
            return -1;                                                                                                 \
        }                                                                                                              \
        return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);                                    \
    }
OPEN_HERE(open)
OPEN_HERE(open64)

#define PREAD(name)                                                                                                    \
    PUBLIC ssize_t name(int fd, void *data, size_t size, off_t offset)                                                 \
    {                                                                                                                  \
        int way = VERDICT(PREAD);                                                                                      \
        if (way > 0) {                                                                                                 \
            errno = way;                                                                                               \
            return -1;                                                                                                 \
        }                                                                                                              \
        return syscall(SYS_pread64, fd, data, way == SHORT ? (size + 1) / 2 : size, offset);                           \
    }
PREAD(pread)
PREAD(pread64)

PUBLIC ssize_t read(int fd, void *data, size_t size)
{
    int way = VERDICT_OF(fd, READ, RECV, WAKE_READ);
    if (way > 0) {
        errno = way;
        return -1;
    }
    return syscall(SYS_read, fd, data, way == SHORT ? (size + 1) / 2 : size);
}

PUBLIC ssize_t write(int fd, const void *data, size_t size)
{
    int way = VERDICT_OF(fd, WRITE, SEND, WAKE_WRITE);
    if (way > 0) {
        errno = way;
        return -1;
    }
    return syscall(SYS_write, fd, data, way == SHORT ? (size + 1) / 2 : size);
}

#define PWRITE(name)                                                                                                   \
    PUBLIC ssize_t name(int fd, const void *data, size_t size, off_t offset)                                           \
    {                                                                                                                  \
        int way = VERDICT(PWRITE);                                                                                     \
        if (way > 0) {                                                                                                 \
            errno = way;                                                                                               \
            return -1;                                                                                                 \
        }                                                                                                              \
        if (is_refused(fd, &(struct iovec){.iov_len = size}, 1, offset))                                               \
            return -1;                                                                                                 \
        return syscall(SYS_pwrite64, fd, data, way == SHORT ? (size + 1) / 2 : size, offset);                          \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

/* Half of it by hand: the parts are the caller's. */
static ssize_t half(int fd, const struct iovec *parts, int count, off_t offset)
{
    size_t size = 0;
    for (int i = 0; i < count && size == 0; i++) {
        size = parts[i].iov_len;
        if (size > 0)
            return offset < 0 ? syscall(SYS_write, fd, parts[i].iov_base, (size + 1) / 2)
                              : syscall(SYS_pwrite64, fd, parts[i].iov_base, (size + 1) / 2, offset);
    }
    return 0;
}

#define PWRITEV(name, number, parameters, ...)                                                                         \
    PUBLIC ssize_t name parameters                                                                                     \
    {                                                                                                                  \
        int way = VERDICT(PWRITEV);                                                                                    \
        if (way > 0) {                                                                                                 \
            errno = way;                                                                                               \
            return -1;                                                                                                 \
        }                                                                                                              \
        if (is_refused(fd, parts, count, offset))                                                                      \
            return -1;                                                                                                 \
        return way == SHORT ? half(fd, parts, count, offset) : syscall(number, __VA_ARGS__);                           \
    }
#define PARTS int fd, const struct iovec *parts, int count, off_t offset
PWRITEV(pwritev, SYS_pwritev, (PARTS), fd, parts, count, offset, 0)
PWRITEV(pwritev64, SYS_pwritev, (PARTS), fd, parts, count, offset, 0)
#define FLAGS (faults__is_world(FAULT_WORLD_DROPS_CACHE) ? flags & ~DONTCACHE : flags)
PWRITEV(pwritev2, SYS_pwritev2, (PARTS, int flags), fd, parts, count, offset, 0, FLAGS)
PWRITEV(pwritev64v2, SYS_pwritev2, (PARTS, int flags), fd, parts, count, offset, 0, FLAGS)

PUBLIC ssize_t writev(int fd, const struct iovec *parts, int count)
{
    int way = VERDICT_OF(fd, WRITEV, SEND, WAKE_WRITE);
    if (way > 0) {
        errno = way;
        return -1;
    }
    if (kind_of(fd) == S_IFREG && is_refused(fd, parts, count, -1))
        return -1;
    return way == SHORT ? half(fd, parts, count, -1) : syscall(SYS_writev, fd, parts, count);
}

/* Functions that either fail or are a system call. */
#define CALL(id, type, name, parameters, ...)                                                                          \
    PUBLIC type name parameters                                                                                        \
    {                                                                                                                  \
        FAIL(id, -1);                                                                                                  \
        return (type)syscall(__VA_ARGS__);                                                                             \
    }
CALL(FSYNC, int, fsync, (int fd), SYS_fsync, fd)
CALL(FDATASYNC, int, fdatasync, (int fd), SYS_fdatasync, fd)
CALL(SYNCFS, int, syncfs, (int fd), SYS_syncfs, fd)
CALL(WRITEBACK, int, sync_file_range, (int fd, off64_t offset, off64_t size, unsigned flags), SYS_sync_file_range, fd,
     offset, size, flags)
CALL(FTRUNCATE, int, ftruncate, (int fd, off_t size), SYS_ftruncate, fd, size)
CALL(FTRUNCATE, int, ftruncate64, (int fd, off64_t size), SYS_ftruncate, fd, size)

#define RESERVE(name, type)                                                                                            \
    PUBLIC int name(int fd, int mode, type offset, type size)                                                          \
    {                                                                                                                  \
        FAIL(RESERVE, -1);                                                                                             \
        if (is_refused_room(fd, offset + size)) {                                                                      \
            errno = ENOSPC;                                                                                            \
            return -1;                                                                                                 \
        }                                                                                                              \
        return (int)syscall(SYS_fallocate, fd, mode, offset, size);                                                    \
    }
RESERVE(fallocate, off_t)
RESERVE(fallocate64, off64_t)

CALL(RENAME, int, rename, (const char *from, const char *to), SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0)
CALL(RENAME, int, renameat, (int dir_fd, const char *from, int to_fd, const char *to), SYS_renameat2, dir_fd, from,
     to_fd, to, 0)
CALL(UNLINK, int, unlink, (const char *path), SYS_unlinkat, AT_FDCWD, path, 0)
CALL(UNLINK, int, rmdir, (const char *path), SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)
CALL(UNLINK, int, unlinkat, (int dir_fd, const char *path, int flags), SYS_unlinkat, dir_fd, path, flags)
CALL(MKDIR, int, mkdir, (const char *path, mode_t mode), SYS_mkdirat, AT_FDCWD, path, mode)
CALL(MKDIR, int, mkdirat, (int dir_fd, const char *path, mode_t mode), SYS_mkdirat, dir_fd, path, mode)
CALL(STAT, int, fstat, (int fd, struct stat *status), SYS_fstat, fd, status)
CALL(STAT, int, fstat64, (int fd, struct stat64 *status), SYS_fstat, fd, status)
CALL(STAT, int, __fxstat, (int version, int fd, struct stat *status), SYS_fstat, fd, status) /* of older libraries */
CALL(STAT, int, stat, (const char *path, struct stat *status), SYS_newfstatat, AT_FDCWD, path, status, 0)
CALL(STAT, int, stat64, (const char *path, struct stat64 *status), SYS_newfstatat, AT_FDCWD, path, status, 0)
CALL(FLOCK, int, flock, (int fd, int operation), SYS_flock, fd, operation)

PUBLIC int fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (command == F_SETLK || command == F_SETLKW) {
        FAIL(FCNTL, -1);
    }
    return real.fcntl(fd, command, argument);
}

PUBLIC DIR *fdopendir(int fd)
{
    FAIL(FDOPENDIR, NULL);
    return real.fdopendir(fd);
}

PUBLIC struct dirent *readdir(DIR *dir)
{
    FAIL(READDIR, NULL);
    return real.readdir(dir);
}

PUBLIC struct dirent64 *readdir64(DIR *dir)
{
    FAIL(READDIR, NULL);
    return (struct dirent64 *)real.readdir(dir);
}

PUBLIC FILE *fopen64(const char *path, const char *mode)
{
    FAIL(FOPEN, NULL);
    return real.fopen(path, mode);
}

PUBLIC FILE *open_memstream(char **ret_data, size_t *ret_size)
{
    FAIL(MEMSTREAM, NULL);
    return real.open_memstream(ret_data, ret_size);
}

/* --- the checkpoint store: where LMDB only reads or changes its map, no function of the system is asked --- */

PUBLIC int mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **ret_txn)
{
    if (faults__is_world(FAULT_WORLD_MAP_RESIZED)) {
        faults__end_world(FAULT_WORLD_MAP_RESIZED);
        return MDB_MAP_RESIZED;
    }
    return real.kv_begin(env, parent, flags, ret_txn);
}

PUBLIC int mdb_txn_commit(MDB_txn *txn)
{
    if (!faults__is_world(FAULT_WORLD_NO_COMMIT))
        return real.kv_commit(txn);
    real.kv_abort(txn);
    return ENOSPC;
}

PUBLIC int mdb_env_set_mapsize(MDB_env *env, size_t size)
{
    int code = real.kv_size(env, size);
    if (code == 0) {
        faults__end_world(FAULT_WORLD_MAP_FULL);
    }
    return code;
}

PUBLIC int mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value, unsigned flags)
{
    int way = faults__is_world(FAULT_WORLD_MAP_FULL) ? MDB_MAP_FULL : VERDICT(KV_PUT);
    return way != 0 ? way : real.kv_put(txn, dbi, key, value, flags);
}

PUBLIC int mdb_del(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value)
{
    int way = VERDICT(KV_DEL);
    return way != 0 ? way : real.kv_del(txn, dbi, key, value);
}

PUBLIC int mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *value)
{
    int way = VERDICT(KV_GET);
    return way != 0 ? way : real.kv_get(txn, dbi, key, value);
}

/* LMDB calls it too: its own calls come here with the program's frames behind LMDB's, and may fail as well. */
PUBLIC int mdb_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *value, MDB_cursor_op operation)
{
    int way = VERDICT(KV_SEEK);
    return way != 0 ? way : real.kv_seek(cursor, key, value, operation);
}

/* --- threads, sockets, events --- */

PUBLIC int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    int way = VERDICT(THREAD);
    return way != 0 ? way : real.thread(thread, attributes, run, argument);
}

CALL(EPOLL, int, epoll_create1, (int flags), SYS_epoll_create1, flags)
CALL(EVENTFD, int, eventfd, (unsigned value, int flags), SYS_eventfd2, value, flags)
CALL(SOCKET, int, socket, (int domain, int type, int protocol), SYS_socket, domain, type, protocol)
CALL(BIND, int, bind, (int fd, const struct sockaddr *address, socklen_t size), SYS_bind, fd, address, size)
CALL(LISTEN, int, listen, (int fd, int backlog), SYS_listen, fd, backlog)
CALL(ACCEPT, int, accept4, (int fd, struct sockaddr *address, socklen_t *size, int flags), SYS_accept4, fd, address,
     size, flags)
CALL(SETSOCKOPT, int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size), SYS_setsockopt, fd,
     level, name, value, size)
CALL(GETNAME, int, getsockname, (int fd, struct sockaddr *address, socklen_t *size), SYS_getsockname, fd, address, size)
CALL(PIPE, int, pipe2, (int fds[2], int flags), SYS_pipe2, fds, flags)
CALL(GETPEER, int, getpeername, (int fd, struct sockaddr *address, socklen_t *size), SYS_getpeername, fd, address, size)
CALL(SHUTDOWN, int, shutdown, (int fd, int how), SYS_shutdown, fd, how)
CALL(RANDOM, ssize_t, getrandom, (void *data, size_t size, unsigned flags), SYS_getrandom, data, size, flags)

/* Only to watch one more descriptor takes memory. */
PUBLIC int epoll_ctl(int fd, int operation, int on_fd, struct epoll_event *event)
{
    if (operation == EPOLL_CTL_ADD) {
        FAIL(EPOLL_CTL, -1);
    }
    return (int)syscall(SYS_epoll_ctl, fd, operation, on_fd, event);
}

CALL(EPOLL_WAIT, int, epoll_wait, (int fd, struct epoll_event *events, int count, int timeout_ms), SYS_epoll_wait, fd,
     events, count, timeout_ms)

PUBLIC int epoll_pwait(int fd, struct epoll_event *events, int count, int timeout_ms, const sigset_t *mask)
{
    FAIL(EPOLL_WAIT, -1);
    return (int)syscall(SYS_epoll_pwait, fd, events, count, timeout_ms, mask, 8 /* bytes of the kernel's mask */);
}

PUBLIC ssize_t send(int fd, const void *data, size_t size, int flags)
{
    int way = VERDICT(SEND);
    if (way > 0) {
        errno = way;
        return -1;
    }
    return syscall(SYS_sendto, fd, data, way == SHORT ? (size + 1) / 2 : size, flags, NULL, 0);
}

PUBLIC int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    FAIL(IOCTL, -1);
    return (int)syscall(SYS_ioctl, fd, request, argument);
}

PUBLIC int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **ret_list)
{
    int way = VERDICT(RESOLVE);
    if (way > 0)
        return way == ENOMEM ? EAI_MEMORY : EAI_AGAIN;
    return real.resolve(host, port, hints, ret_list);
}
