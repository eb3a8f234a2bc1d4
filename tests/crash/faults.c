/* The fault maker, a library to be preloaded: it counts every call that the product makes and that can fail, and lets
 * one of them fail. Whoever counts down (sweep.c, sweep.py) lets the first one fail, then the second ... until a run
 * passes untouched.
 *
 * Counted are calls from the program itself, and those that LMDB and libuv make for it; who called is seen by the
 * return address. Of each call its place is noted as a chain of return addresses (frame pointers are kept in every
 * build), so that a failed pwritev can be told apart by the line of the log, the segments or the checkpoint that asked
 * for it.
 *
 * Each function can fail in up to three ways: those a real system has for it. A short read or write is one of them. A
 * close never fails here: Linux frees the descriptor whatever it answers. */
#undef _FILE_OFFSET_BITS /* else the headers give open and open64 one name */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "faults.h"

#define PUBLIC __attribute__((visibility("default")))
#define SHORT  (-1) /* instead of an errno: half of what was asked for */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

PUBLIC void faults_use(struct fault_table *table);
PUBLIC void faults_product(int is_product);
PUBLIC const char *faults_name(uint32_t function);
PUBLIC int faults_has_variant(uint32_t function, uint32_t variant);

#define FUNCTION_TABLE(X)                                                                                              \
    X(OPEN, "open", EMFILE, EIO, ENOSPC)                                                                               \
    X(PREAD, "pread", EIO, EINTR, SHORT)                                                                               \
    X(READ, "read", EIO, EINTR, 0)                                                                                     \
    X(WRITE, "write", EIO, EINTR, 0)                                                                                   \
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
    X(THREAD, "pthread_create", EAGAIN, 0, 0)                                                                          \
    X(EPOLL, "epoll_create1", EMFILE, ENOMEM, 0)                                                                       \
    X(EVENTFD, "eventfd", EMFILE, ENOMEM, 0)                                                                           \
    X(SOCKET, "socket", EMFILE, ENOBUFS, 0)                                                                            \
    X(BIND, "bind", EADDRINUSE, ENOMEM, 0)                                                                             \
    X(LISTEN, "listen", EADDRINUSE, 0, 0)                                                                              \
    X(ACCEPT, "accept4", EMFILE, ECONNABORTED, ENOMEM)                                                                 \
    X(SETSOCKOPT, "setsockopt", ENOMEM, 0, 0)                                                                          \
    X(GETNAME, "getsockname", ENOBUFS, 0, 0)                                                                           \
    X(PIPE, "pipe2", EMFILE, 0, 0)

#define FUNCTION_ENUM(id, name, a, b, c) FUNCTION_##id,
#define FUNCTION_ROW(id, name, a, b, c)  [FUNCTION_##id] = {name, {a, b, c}},
enum function { FUNCTION_TABLE(FUNCTION_ENUM) FUNCTIONS };
static const struct {
    const char *name;
    int ways[FAULT_VARIANTS];
} functions[] = {FUNCTION_TABLE(FUNCTION_ROW)};

struct range {
    uintptr_t base, from, to;
};

static struct {
    pthread_mutex_t mutex;
    struct fault_table *table;
    int is_product;
    struct range modules[3];
    int (*fcntl)(int, int, ...);
    DIR *(*fdopendir)(int);
    struct dirent *(*readdir)(DIR *);
    int (*thread)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
} faults = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* --- who called --- */

static int on_module(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size, (void)context;
    int module = info->dlpi_name[0] == '\0'                    ? FAULT_MODULE_PROGRAM
                 : strstr(info->dlpi_name, "/liblmdb") != NULL ? FAULT_MODULE_LMDB
                 : strstr(info->dlpi_name, "/libuv") != NULL   ? FAULT_MODULE_UV
                                                               : -1;
    for (int i = 0; module >= 0 && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && (header->p_flags & PF_X)) {
            struct range *range = &faults.modules[module];
            range->base = info->dlpi_addr;
            range->from = info->dlpi_addr + header->p_vaddr;
            range->to = range->from + header->p_memsz;
        }
    }
    return 0;
}

static int module_of(uintptr_t address)
{
    for (int i = 0; i < 3; i++) {
        if (address >= faults.modules[i].from && address < faults.modules[i].to) {
            return i;
        }
    }
    return -1;
}

/* The program's frames above the call. LMDB and libuv keep no frame pointers: theirs is the one address. */
static void chain_walk(struct fault_site *site, uintptr_t caller, const uintptr_t *frame)
{
    uint32_t count = 0;
    site->frames[count++] = caller - faults.modules[site->module].base;
    while (site->module == FAULT_MODULE_PROGRAM && count < FAULT_FRAMES) {
        const uintptr_t *next = (const uintptr_t *)frame[0];
        if (next <= frame || (uintptr_t)next - (uintptr_t)frame > (1u << 20))
            return;
        frame = next;
        if (module_of(frame[1]) != FAULT_MODULE_PROGRAM)
            return;
        site->frames[count++] = frame[1] - faults.modules[0].base;
    }
}

static uint32_t site_find(struct fault_table *table, const struct fault_site *wanted)
{
    uint32_t i = 0;
    while (i < table->sites_count && (memcmp(table->sites[i].frames, wanted->frames, sizeof wanted->frames) != 0 ||
                                      table->sites[i].function != wanted->function)) {
        i++;
    }
    if (i == table->sites_count && i < FAULT_SITES_MAX) {
        table->sites[table->sites_count++] = *wanted;
    }
    return i < FAULT_SITES_MAX ? i : FAULT_SITES_MAX - 1;
}

/* Counts a call; how it must fail (an errno, or SHORT), 0: it must not. */
static int verdict(enum function function, uintptr_t caller, const uintptr_t *frame)
{
    struct fault_table *table = faults.table;
    int module = table != NULL && faults.is_product ? module_of(caller) : -1;
    if (module < 0)
        return 0;
    int way = 0;
    pthread_mutex_lock(&faults.mutex);
    struct fault_site site = {.module = (uint32_t)module, .function = function};
    chain_walk(&site, caller, frame);
    uint32_t found = site_find(table, &site);
    table->sites[found].calls++;
    if (table->calls < FAULT_CALLS_MAX) {
        table->functions[table->calls] = (uint8_t)function;
    }
    bool is_site = table->fail_call != 0 && found == table->fail_site && table->sites[found].calls == table->fail_call;
    if (table->calls++ == table->fail_at || is_site) {
        way = functions[function].ways[table->variant];
        table->has_failed = way != 0;
        table->failed_site = found;
        table->sites[found].is_failed |= way != 0;
    }
    pthread_mutex_unlock(&faults.mutex);
    return way;
}

#define VERDICT(id)                                                                                                    \
    verdict(FUNCTION_##id, (uintptr_t)__builtin_return_address(0), (const uintptr_t *)__builtin_frame_address(0))

/* Leaves the function with this errno if the call must fail. */
#define FAIL(id, result)                                                                                               \
    do {                                                                                                               \
        int way_ = VERDICT(id);                                                                                        \
        if (way_ > 0) {                                                                                                \
            errno = way_;                                                                                              \
            return result;                                                                                             \
        }                                                                                                              \
    } while (0)

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
        return (int)syscall(SYS_openat, dir_fd, path, flags | O_LARGEFILE, mode);                                      \
    }
OPEN(openat, dir_fd, int dir_fd)
OPEN(openat64, dir_fd, int dir_fd)

#define OPEN_HERE(name)                                                                                                \
    PUBLIC int name(const char *path, int flags, ...)                                                                  \
    {                                                                                                                  \
        MODE_OF(flags)                                                                                                 \
        FAIL(OPEN, -1);                                                                                                \
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
    FAIL(READ, -1);
    return syscall(SYS_read, fd, data, size);
}

PUBLIC ssize_t write(int fd, const void *data, size_t size)
{
    FAIL(WRITE, -1);
    return syscall(SYS_write, fd, data, size);
}

#define PWRITE(name)                                                                                                   \
    PUBLIC ssize_t name(int fd, const void *data, size_t size, off_t offset)                                           \
    {                                                                                                                  \
        int way = VERDICT(PWRITE);                                                                                     \
        if (way > 0) {                                                                                                 \
            errno = way;                                                                                               \
            return -1;                                                                                                 \
        }                                                                                                              \
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
        return way == SHORT ? half(fd, parts, count, offset) : syscall(number, __VA_ARGS__);                           \
    }
#define PARTS int fd, const struct iovec *parts, int count, off_t offset
PWRITEV(pwritev, SYS_pwritev, (PARTS), fd, parts, count, offset, 0)
PWRITEV(pwritev64, SYS_pwritev, (PARTS), fd, parts, count, offset, 0)
PWRITEV(pwritev2, SYS_pwritev2, (PARTS, int flags), fd, parts, count, offset, 0, flags)
PWRITEV(pwritev64v2, SYS_pwritev2, (PARTS, int flags), fd, parts, count, offset, 0, flags)

PUBLIC ssize_t writev(int fd, const struct iovec *parts, int count)
{
    int way = VERDICT(WRITEV);
    if (way > 0) {
        errno = way;
        return -1;
    }
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
CALL(RESERVE, int, fallocate, (int fd, int mode, off_t offset, off_t size), SYS_fallocate, fd, mode, offset, size)
CALL(RESERVE, int, fallocate64, (int fd, int mode, off64_t offset, off64_t size), SYS_fallocate, fd, mode, offset, size)
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
    return faults.fcntl(fd, command, argument);
}

PUBLIC DIR *fdopendir(int fd)
{
    FAIL(FDOPENDIR, NULL);
    return faults.fdopendir(fd);
}

PUBLIC struct dirent *readdir(DIR *dir)
{
    FAIL(READDIR, NULL);
    return faults.readdir(dir);
}

PUBLIC struct dirent64 *readdir64(DIR *dir)
{
    FAIL(READDIR, NULL);
    return (struct dirent64 *)faults.readdir(dir);
}

/* --- threads, sockets, events --- */

PUBLIC int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    int way = VERDICT(THREAD);
    return way != 0 ? way : faults.thread(thread, attributes, run, argument);
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

/* --- control --- */

static void *next(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* A process that knows nothing of this (flotillad) gets its table by name, and all it does is the product's. */
__attribute__((constructor)) static void faults_init(void)
{
    const char *path = getenv("FLOTILLA_FAULTS");
    *(void **)&faults.fcntl = next("fcntl");
    *(void **)&faults.fdopendir = next("fdopendir");
    *(void **)&faults.readdir = next("readdir");
    *(void **)&faults.thread = next("pthread_create");
    dl_iterate_phdr(on_module, NULL);
    if (path == NULL)
        return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    long memory = syscall(SYS_mmap, NULL, sizeof(struct fault_table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)0);
    if (fd < 0 || memory < 0) {
        _exit(97);
    }
    faults.is_product = 1;
    faults.table = (struct fault_table *)memory;
}

void faults_use(struct fault_table *table)
{
    faults.table = table;
}

void faults_product(int is_product)
{
    faults.is_product = is_product;
}

const char *faults_name(uint32_t function)
{
    return function < FUNCTIONS ? functions[function].name : "?";
}

int faults_has_variant(uint32_t function, uint32_t variant)
{
    return function < FUNCTIONS && variant < FAULT_VARIANTS && functions[function].ways[variant] != 0;
}
