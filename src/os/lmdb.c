/* port/kv.h on LMDB 0.9. Readers hold their slot in the transaction, not in the thread (MDB_NOTLS), so that a snapshot
 * may be read step by step on any thread. Sync is LMDB's own: data, fdatasync, then the meta page through an
 * O_DSYNC descriptor. */
#include "os/lmdb.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/limits.h"
#include "os/fault.h"
#include "os/lmdb_check.h"

#define DATA_FILE           "data.mdb"
#define LOCK_FILE           "lock.mdb"
#define NEW_SUFFIX          ".new"
#define MAP_BYTES_MIN       ((uint64_t)1 << 20)
#define FILE_MODE           0640
#define LOCK_FILE_BYTES_MAX (64 << 10) /* 8 KiB for the 126 readers of LMDB */

struct kv_txn {
    MDB_txn *txn;
    MDB_cursor *cursor; /* for seek; opened at the first one */
    bool write;
    enum err error; /* of the first failed put or del */
};

struct os_lmdb {
    struct kv kv; /* first: the port points here */
    MDB_env *env;
    MDB_dbi dbi;
    const struct trace *trace;

    atomic_bool is_short;  /* the loop asks often, and shall not wait for a transaction's begin */
    pthread_mutex_t mutex; /* guards what follows */
    uint64_t map_bytes;
    uint32_t txns_open;
    bool map_full;
    bool poisoned;
    uint64_t reserved_bytes; /* of the file: blocks are set aside up to here; UINT64_MAX: cannot be asked for */
    bool writing;
    pthread_t writer;
};

static struct os_lmdb *lmdb_of(struct kv *port)
{
    return (struct os_lmdb *)port; /* its first member */
}

static enum err lmdb_translate(int code)
{
    switch (code) {
    case MDB_SUCCESS:
        return OK;
    case MDB_NOTFOUND:
        return ERR_NO_FILE;
    case MDB_MAP_FULL:
        return ERR_STORAGE_FULL;
    case MDB_TXN_FULL:
    case MDB_READERS_FULL:
    case MDB_MAP_RESIZED: /* until the other transactions are over */
        return ERR_NO_MEMORY;
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_PAGE_NOTFOUND:
    case MDB_CURSOR_FULL: /* deeper than any tree of 2^64 rows */
    case MDB_INCOMPATIBLE:
        return ERR_FORMAT;
    default:
        return code > 0 ? os__err_of_errno(code) : ERR_IO; /* MDB_PANIC and friends */
    }
}

static enum err lmdb_fault(const struct trace *trace, const char *call, int code)
{
    enum err error = lmdb_translate(code);
    if (error == ERR_STORAGE_FULL && code != MDB_MAP_FULL) { /* the owner says when it begins and ends */
        trace_debug(trace, "kv_call_failed", "call=%s reason=\"%s\"", call, mdb_strerror(code));
    } else if (error != OK && error != ERR_NO_FILE) {
        trace_error(trace, "kv_call_failed", "call=%s reason=\"%s\"", call, mdb_strerror(code));
    }
    return error;
}

static void lmdb_poison(struct os_lmdb *lmdb)
{
    pthread_mutex_lock(&lmdb->mutex);
    lmdb->poisoned = true;
    pthread_mutex_unlock(&lmdb->mutex);
    trace_error(lmdb->trace, "kv_poisoned", "every later call fails; restart to read back what the disk holds");
}

static bool lmdb_is_poisoned(struct os_lmdb *lmdb)
{
    pthread_mutex_lock(&lmdb->mutex);
    bool poisoned = lmdb->poisoned;
    pthread_mutex_unlock(&lmdb->mutex);
    return poisoned;
}

static void lmdb_set_map_full(struct os_lmdb *lmdb)
{
    pthread_mutex_lock(&lmdb->mutex);
    lmdb->map_full = true;
    pthread_mutex_unlock(&lmdb->mutex);
}

/* With the mutex held and no transaction open: LMDB may move its map then, and only then. It gives up the old map
 * before it asks for the new one, so whoever is refused has none. */
static int lmdb_remap(struct os_lmdb *lmdb, uint64_t map_bytes)
{
    int code = mdb_env_set_mapsize(lmdb->env, map_bytes);
    if (code != 0) {
        lmdb->poisoned = true;
        trace_error(lmdb->trace, "kv_poisoned", "there is no map any more; restart to get one");
    }
    return code;
}

static void lmdb_grow(struct os_lmdb *lmdb)
{
    uint64_t wanted = lmdb->map_bytes * 2;
    int code = lmdb_remap(lmdb, wanted);
    if (code != 0) {
        lmdb_fault(lmdb->trace, "set_mapsize", code);
        return;
    }
    lmdb->map_bytes = wanted;
    lmdb->map_full = false;
    trace_warn(lmdb->trace, "kv_map_grown", "bytes=%llu", (unsigned long long)wanted);
}

/* LMDB writes to pages that earlier transactions freed, whose blocks may be holes if they were never written, and to
 * new ones behind the last. Called with the mutex held. */
static void lmdb_reserve(struct os_lmdb *lmdb)
{
    MDB_envinfo info;
    MDB_stat stat;
    mdb_filehandle_t fd;
    if (mdb_env_info(lmdb->env, &info) != 0 || mdb_env_stat(lmdb->env, &stat) != 0 ||
        mdb_env_get_fd(lmdb->env, &fd) != 0) {
        return;
    }
    uint64_t wanted = (info.me_last_pgno + 1) * stat.ms_psize + KV_RESERVE_BYTES;
    if (lmdb->reserved_bytes < wanted) {
        wanted += KV_RESERVE_STEP_BYTES;
        if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)wanted) == 0) {
            lmdb->reserved_bytes = wanted;
        } else if (errno == EOPNOTSUPP || errno == ENOSYS) {
            lmdb->reserved_bytes = UINT64_MAX;
        }
    }
    lmdb->is_short = lmdb->reserved_bytes < wanted;
}

/* With the mutex held. Hardly anything is left, and LMDB takes a write that is cut short by a full disk for a broken
 * disk. */
static bool lmdb_is_exhausted(const struct os_lmdb *lmdb)
{
    MDB_envinfo info;
    MDB_stat stat;
    if (!lmdb->is_short || lmdb->reserved_bytes == 0 || mdb_env_info(lmdb->env, &info) != 0 ||
        mdb_env_stat(lmdb->env, &stat) != 0) {
        return false;
    }
    return lmdb->reserved_bytes < (info.me_last_pgno + 1) * stat.ms_psize + KV_RESERVE_STEP_BYTES;
}

/* Counts a transaction in before it begins, so that no one moves the map meanwhile. */
static enum err lmdb_enter(struct os_lmdb *lmdb, bool write)
{
    pthread_mutex_lock(&lmdb->mutex);
    /* LMDB's writer lock does not recurse: a second write transaction on one thread would wait for itself. */
    ASSERT(!write || !lmdb->writing || !pthread_equal(lmdb->writer, pthread_self()));
    if (lmdb->map_full && lmdb->txns_open == 0 && !lmdb->poisoned) {
        lmdb_grow(lmdb);
    }
    if (lmdb->poisoned) {
        pthread_mutex_unlock(&lmdb->mutex);
        return ERR_IO;
    }
    if (write) {
        lmdb_reserve(lmdb);
    }
    if (write && lmdb_is_exhausted(lmdb)) {
        pthread_mutex_unlock(&lmdb->mutex);
        return ERR_STORAGE_FULL;
    }
    lmdb->txns_open++;
    pthread_mutex_unlock(&lmdb->mutex);
    return OK;
}

/* Another process, an inspecting tool say, opened the store with a larger map and used it. */
static int lmdb_begin_resized(struct os_lmdb *lmdb, unsigned flags, MDB_txn **ret_txn)
{
    pthread_mutex_lock(&lmdb->mutex);
    int code = lmdb->txns_open == 1 ? lmdb_remap(lmdb, 0) : MDB_MAP_RESIZED; /* 1: the caller */
    if (code == 0) {
        code = mdb_txn_begin(lmdb->env, NULL, flags, ret_txn);
    }
    pthread_mutex_unlock(&lmdb->mutex);
    return code;
}

static void lmdb_leave(struct os_lmdb *lmdb)
{
    pthread_mutex_lock(&lmdb->mutex);
    ASSERT(lmdb->txns_open > 0);
    lmdb->txns_open--;
    pthread_mutex_unlock(&lmdb->mutex);
}

static void lmdb_set_writing(struct os_lmdb *lmdb, bool writing)
{
    pthread_mutex_lock(&lmdb->mutex);
    ASSERT(writing || pthread_equal(lmdb->writer, pthread_self())); /* ended on the thread that began it */
    lmdb->writing = writing;
    lmdb->writer = pthread_self();
    pthread_mutex_unlock(&lmdb->mutex);
}

static enum err lmdb_begin(struct kv *port, bool write, struct kv_txn **ret_txn)
{
    struct os_lmdb *lmdb = lmdb_of(port);
    struct kv_txn *txn = calloc(1, sizeof *txn);
    if (txn == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err error = lmdb_enter(lmdb, write);
    if (error != OK) {
        free(txn);
        return error;
    }
    unsigned how = write ? 0 : MDB_RDONLY;
    int code = mdb_txn_begin(lmdb->env, NULL, how, &txn->txn);
    if (code == MDB_MAP_RESIZED) {
        code = lmdb_begin_resized(lmdb, how, &txn->txn);
    }
    if (code != 0) {
        lmdb_leave(lmdb);
        free(txn);
        return lmdb_fault(lmdb->trace, "txn_begin", code);
    }
    txn->write = write;
    if (write) {
        lmdb_set_writing(lmdb, true);
    }
    *ret_txn = txn;
    return OK;
}

/* What must happen before LMDB ends a transaction: after that, the next writer may be in already. */
static void lmdb_before_end(struct os_lmdb *lmdb, struct kv_txn *txn)
{
    if (txn->cursor != NULL) {
        mdb_cursor_close(txn->cursor);
    }
    if (txn->write) {
        lmdb_set_writing(lmdb, false);
    }
}

static void lmdb_abort(struct kv *port, struct kv_txn *txn)
{
    lmdb_before_end(lmdb_of(port), txn);
    mdb_txn_abort(txn->txn);
    lmdb_leave(lmdb_of(port));
    free(txn);
}

/* LMDB marks its environment dead when the meta page could not be written, but returns the plain errno. */
static bool lmdb_is_dead(struct os_lmdb *lmdb)
{
    MDB_txn *probe;
    int code = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &probe);
    if (code == 0) {
        mdb_txn_abort(probe);
    }
    return code == MDB_PANIC;
}

/* Decides whether the store may be used after a failed commit. Out of space or memory was found before the meta
 * page was touched: the pages written belong to nobody. Anything else may be a failed sync. */
static enum err lmdb_commit_failed(struct os_lmdb *lmdb, int code)
{
    enum err error = lmdb_fault(lmdb->trace, "txn_commit", code);
    if (code == MDB_MAP_FULL) {
        lmdb_set_map_full(lmdb);
        return error;
    }
    if ((error == ERR_STORAGE_FULL || error == ERR_NO_MEMORY) && !lmdb_is_dead(lmdb)) {
        return error;
    }
    lmdb_poison(lmdb);
    return ERR_IO;
}

static enum err lmdb_commit(struct kv *port, struct kv_txn *txn)
{
    struct os_lmdb *lmdb = lmdb_of(port);
    ASSERT(txn->write);
    enum err error = lmdb_is_poisoned(lmdb) ? ERR_IO : txn->error;
    if (error != OK) {
        lmdb_abort(port, txn);
        return error;
    }
    lmdb_before_end(lmdb, txn);
    int code = mdb_txn_commit(txn->txn);
    if (code != 0) {
        error = lmdb_commit_failed(lmdb, code);
    }
    lmdb_leave(lmdb);
    free(txn);
    return error;
}

/* Before any row is touched: the sizes are our own doing, the state of the store is not. */
static enum err lmdb_check_call(struct os_lmdb *lmdb, const struct kv_txn *txn, struct kv_bytes key, size_t key_min)
{
    ASSERT(key.size >= key_min && key.size <= KV_KEY_BYTES_MAX);
    if (lmdb_is_poisoned(lmdb)) {
        return ERR_IO;
    }
    return txn->error;
}

static enum err lmdb_write_failed(struct os_lmdb *lmdb, struct kv_txn *txn, const char *call, int code)
{
    if (code == MDB_MAP_FULL) {
        lmdb_set_map_full(lmdb);
    }
    txn->error = lmdb_fault(lmdb->trace, call, code);
    return txn->error;
}

static enum err lmdb_put(struct kv *port, struct kv_txn *txn, struct kv_bytes key, struct kv_bytes value)
{
    struct os_lmdb *lmdb = lmdb_of(port);
    ASSERT(txn->write);
    enum err error = lmdb_check_call(lmdb, txn, key, 1);
    if (error != OK) {
        return error;
    }
    MDB_val k = {key.size, (void *)(uintptr_t)key.data};
    MDB_val v = {value.size, (void *)(uintptr_t)value.data};
    int code = mdb_put(txn->txn, lmdb->dbi, &k, &v, 0);
    return code == 0 ? OK : lmdb_write_failed(lmdb, txn, "put", code);
}

static enum err lmdb_del(struct kv *port, struct kv_txn *txn, struct kv_bytes key)
{
    struct os_lmdb *lmdb = lmdb_of(port);
    ASSERT(txn->write);
    enum err error = lmdb_check_call(lmdb, txn, key, 1);
    if (error != OK) {
        return error;
    }
    MDB_val k = {key.size, (void *)(uintptr_t)key.data};
    int code = mdb_del(txn->txn, lmdb->dbi, &k, NULL);
    return code == 0 || code == MDB_NOTFOUND ? OK : lmdb_write_failed(lmdb, txn, "del", code);
}

static enum err lmdb_get(struct kv *port, struct kv_txn *txn, struct kv_bytes key, struct kv_bytes *ret_value)
{
    struct os_lmdb *lmdb = lmdb_of(port);
    enum err error = lmdb_check_call(lmdb, txn, key, 1);
    if (error != OK) {
        return error;
    }
    MDB_val k = {key.size, (void *)(uintptr_t)key.data};
    MDB_val v;
    int code = mdb_get(txn->txn, lmdb->dbi, &k, &v);
    if (code != 0) {
        return lmdb_fault(lmdb->trace, "get", code);
    }
    *ret_value = (struct kv_bytes){v.mv_data, v.mv_size};
    return OK;
}

static enum err lmdb_seek(struct kv *port, struct kv_txn *txn, struct kv_bytes from, struct kv_bytes *ret_key,
                          struct kv_bytes *ret_value)
{
    struct os_lmdb *lmdb = lmdb_of(port);
    enum err error = lmdb_check_call(lmdb, txn, from, 0);
    if (error != OK) {
        return error;
    }
    int code = txn->cursor != NULL ? 0 : mdb_cursor_open(txn->txn, lmdb->dbi, &txn->cursor);
    MDB_val k = {from.size, (void *)(uintptr_t)from.data};
    MDB_val v;
    if (code == 0) {
        /* LMDB refuses an empty key; for us it stands before all others. */
        code = mdb_cursor_get(txn->cursor, &k, &v, from.size == 0 ? MDB_FIRST : MDB_SET_RANGE);
    }
    if (code != 0) {
        return lmdb_fault(lmdb->trace, "seek", code);
    }
    *ret_key = (struct kv_bytes){k.mv_data, k.mv_size};
    *ret_value = (struct kv_bytes){v.mv_data, v.mv_size};
    return OK;
}

static enum err lmdb_sync(struct kv *port)
{
    struct os_lmdb *lmdb = lmdb_of(port);
    if (lmdb_is_poisoned(lmdb)) {
        return ERR_IO;
    }
    int code = mdb_env_sync(lmdb->env, 1);
    if (code != 0) {
        lmdb_fault(lmdb->trace, "env_sync", code);
        lmdb_poison(lmdb);
        return ERR_IO;
    }
    return OK;
}

static bool lmdb_is_short(struct kv *port)
{
    return lmdb_of(port)->is_short;
}

static const struct kv_ops lmdb_ops = {
    .begin = lmdb_begin,
    .commit = lmdb_commit,
    .abort = lmdb_abort,
    .put = lmdb_put,
    .del = lmdb_del,
    .get = lmdb_get,
    .seek = lmdb_seek,
    .sync = lmdb_sync,
    .is_short = lmdb_is_short,
};

static enum err path_join(char *to, size_t size, const char *a, const char *b, const char *suffix)
{
    int length = snprintf(to, size, "%s/%s%s", a, b, suffix);
    return length > 0 && (size_t)length < size ? OK : ERR_INVALID;
}

/* The table of readers is a mapped file with holes: on a full disk, a store to one would be a SIGBUS. Before LMDB opens
 * it: to close any descriptor of it afterwards would let go of LMDB's lock. */
static void lock_reserve(const char *path)
{
    char lock_path[PATH_MAX];
    if (path_join(lock_path, sizeof lock_path, path, LOCK_FILE, "") != OK) {
        return;
    }
    int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (fd >= 0) {
        fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LOCK_FILE_BYTES_MAX);
        close(fd);
    }
}

/* An environment on `path`; the file is made if it is missing. Asks for less address space as long as it is refused. */
static enum err env_open(const char *path, uint64_t map_bytes, const struct trace *trace, MDB_env **ret_env)
{
    lock_reserve(path);
    for (;;) {
        MDB_env *env;
        int code = mdb_env_create(&env);
        if (code != 0) {
            return lmdb_fault(trace, "env_create", code);
        }
        code = mdb_env_set_mapsize(env, map_bytes);
        if (code == 0) {
            code = mdb_env_open(env, path, MDB_NOTLS, FILE_MODE);
        }
        if (code == 0) {
            *ret_env = env;
            return OK;
        }
        mdb_env_close(env);
        if (code != ENOMEM || map_bytes / 2 < MAP_BYTES_MIN) {
            enum err error = lmdb_fault(trace, "env_open", code);
            return error == ERR_NO_FILE ? ERR_FORMAT : error;
        }
        map_bytes /= 2;
    }
}

static enum err dir_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return synced ? OK : ERR_IO;
}

/* What a start that died half way may have left. */
static void new_remove(const char *path)
{
    char file[PATH_MAX];
    static const char *const names[] = {DATA_FILE, LOCK_FILE};
    for (int i = 0; i < 2; i++) {
        if (path_join(file, sizeof file, path, names[i], "") == OK) {
            unlink(file); /* whatever is left makes mkdir or rename fail, and that is reported */
        }
    }
    rmdir(path);
}

/* Builds an empty store aside, makes it durable, and only then gives it its name. */
static enum err store_create(const char *root, const char *dir, const char *path, uint64_t map_bytes,
                             const struct trace *trace)
{
    char new_path[PATH_MAX];
    MDB_env *env;
    enum err error = path_join(new_path, sizeof new_path, root, dir, NEW_SUFFIX);
    if (error != OK) {
        return error;
    }
    new_remove(new_path);
    if (mkdir(new_path, 0750) != 0) {
        return lmdb_fault(trace, "mkdir", errno);
    }
    error = env_open(new_path, map_bytes, trace, &env);
    if (error != OK) {
        return error;
    }
    int code = mdb_env_sync(env, 1);
    mdb_env_close(env);
    if (code != 0) {
        lmdb_fault(trace, "env_sync", code);
        return ERR_IO;
    }
    error = dir_sync(new_path);
    if (error == OK && rename(new_path, path) != 0) {
        error = lmdb_fault(trace, "rename", errno);
    }
    return error == OK ? dir_sync(root) : error;
}

/* Everything short of trusting LMDB with the file. */
static enum err store_prepare(const char *root, const char *dir, const char *path, uint64_t map_bytes,
                              const struct trace *trace)
{
    char data_path[PATH_MAX];
    struct stat status;
    if (stat(path, &status) != 0) {
        if (errno != ENOENT) {
            return lmdb_fault(trace, "stat", errno);
        }
        enum err error = store_create(root, dir, path, map_bytes, trace);
        if (error != OK) {
            return error;
        }
    }
    enum err error = path_join(data_path, sizeof data_path, path, DATA_FILE, "");
    return error == OK ? os_lmdb__check(data_path, trace) : error;
}

static enum err store_open_database(struct os_lmdb *lmdb)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn);
    if (code == 0) {
        code = mdb_dbi_open(txn, NULL, 0, &lmdb->dbi);
        mdb_txn_abort(txn); /* the unnamed database's handle is not bound to the transaction */
    }
    return lmdb_fault(lmdb->trace, "dbi_open", code);
}

enum err os_lmdb_open(const char *root, const char *dir, uint64_t map_bytes, const struct trace *trace,
                      struct os_lmdb **ret_lmdb)
{
    char path[PATH_MAX];
    map_bytes = map_bytes == 0 ? KV_MAP_BYTES : map_bytes;
    enum err error = path_join(path, sizeof path, root, dir, "");
    if (error == OK) {
        error = store_prepare(root, dir, path, map_bytes, trace);
    }
    if (error != OK) {
        return error;
    }
    struct os_lmdb *lmdb = calloc(1, sizeof *lmdb);
    if (lmdb == NULL) {
        return ERR_NO_MEMORY;
    }
    lmdb->kv.ops = &lmdb_ops;
    lmdb->trace = trace;
    error = env_open(path, map_bytes, trace, &lmdb->env);
    if (error != OK) {
        free(lmdb);
        return error;
    }
    pthread_mutex_init(&lmdb->mutex, NULL);
    MDB_envinfo info;
    mdb_env_info(lmdb->env, &info);
    lmdb->map_bytes = info.me_mapsize;
    error = store_open_database(lmdb);
    if (error != OK) {
        os_lmdb_close(lmdb);
        return error;
    }
    lmdb_reserve(lmdb);
    *ret_lmdb = lmdb;
    return OK;
}

struct kv *os_lmdb_port(struct os_lmdb *lmdb)
{
    return &lmdb->kv;
}

void os_lmdb_close(struct os_lmdb *lmdb)
{
    if (lmdb == NULL) {
        return;
    }
    ASSERT(lmdb->txns_open == 0);
    mdb_env_close(lmdb->env);
    pthread_mutex_destroy(&lmdb->mutex);
    free(lmdb);
}
