/* The real checkpoint store: rows, transactions, growth, faults of the disk below it, and damaged files. LMDB's own
 * pwrite and fdatasync are interposed by this program's definitions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/rng.h"
#include "os/lmdb.h"
#include "os/lmdb_check.h"

static int sync_error;
static int write_error;
static int fallocate_error;

/* The C library's names as liblmdb.so calls them; ours would be turned into pwrite64 and the like. */
#define INTERPOSED(name) __asm__(name) __attribute__((visibility("default")))
int lmdb_fdatasync(int fd) INTERPOSED("fdatasync");
ssize_t lmdb_pwrite(int fd, const void *data, size_t size, off_t offset) INTERPOSED("pwrite");
ssize_t lmdb_writev(int fd, const struct iovec *parts, int count) INTERPOSED("writev");
int lmdb_fallocate(int fd, int mode, off_t offset, off_t size) INTERPOSED("fallocate64");

static int fails(int error)
{
    errno = error != 0 ? error : errno;
    return error != 0;
}

int lmdb_fdatasync(int fd)
{
    return fails(sync_error) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

ssize_t lmdb_pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return fails(write_error) ? -1 : syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t lmdb_writev(int fd, const struct iovec *parts, int count)
{
    return fails(write_error) ? -1 : syscall(SYS_writev, fd, parts, count);
}

int lmdb_fallocate(int fd, int mode, off_t offset, off_t size)
{
    return fails(fallocate_error) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

struct fixture {
    char root[64];
    char data_path[128];
    struct os_lmdb *lmdb;
    struct kv *kv;
};

static void reopen(struct fixture *f, uint64_t map_bytes)
{
    os_lmdb_close(f->lmdb);
    f->lmdb = NULL;
    assert_int_equal(os_lmdb_open(f->root, "meta", map_bytes, NULL, &f->lmdb), OK);
    f->kv = os_lmdb_port(f->lmdb);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    sync_error = write_error = fallocate_error = 0;
    strcpy(f->root, "test_os_lmdb.XXXXXX");
    assert_non_null(mkdtemp(f->root));
    snprintf(f->data_path, sizeof f->data_path, "%s/meta/data.mdb", f->root);
    reopen(f, 0);
    *state = f;
    return 0;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    os_lmdb_close(f->lmdb);
    nftw(f->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static struct kv_bytes bytes(const char *text)
{
    return (struct kv_bytes){text, strlen(text)};
}

static struct kv_txn *begin(struct fixture *f, bool write)
{
    struct kv_txn *txn = NULL;
    assert_int_equal(f->kv->ops->begin(f->kv, write, &txn), OK);
    return txn;
}

static void put_one(struct fixture *f, const char *key, const char *value)
{
    struct kv_txn *txn = begin(f, true);
    assert_int_equal(f->kv->ops->put(f->kv, txn, bytes(key), bytes(value)), OK);
    assert_int_equal(f->kv->ops->commit(f->kv, txn), OK);
}

static void assert_row(struct fixture *f, const char *key, const char *value)
{
    struct kv_bytes got;
    struct kv_txn *txn = begin(f, false);
    enum err error = f->kv->ops->get(f->kv, txn, bytes(key), &got);
    assert_int_equal(error, value == NULL ? ERR_NO_FILE : OK);
    if (value != NULL) {
        assert_int_equal(got.size, strlen(value));
        assert_memory_equal(got.data, value, got.size);
    }
    f->kv->ops->abort(f->kv, txn);
}

static void test_rows(void **state)
{
    struct fixture *f = *state;
    put_one(f, "a", "1");
    put_one(f, "b", "");
    put_one(f, "a", "22");
    assert_row(f, "a", "22");
    assert_row(f, "b", "");
    assert_row(f, "c", NULL);
    struct kv_txn *txn = begin(f, true);
    assert_int_equal(f->kv->ops->del(f->kv, txn, bytes("a")), OK);
    assert_int_equal(f->kv->ops->del(f->kv, txn, bytes("never")), OK);
    assert_int_equal(f->kv->ops->put(f->kv, txn, bytes("d"), bytes("4")), OK);
    f->kv->ops->abort(f->kv, txn);
    assert_row(f, "a", "22");
    assert_row(f, "d", NULL);
    assert_int_equal(f->kv->ops->sync(f->kv), OK);
    reopen(f, 0);
    assert_row(f, "a", "22");
}

static void test_reader_sees_its_beginning(void **state)
{
    struct fixture *f = *state;
    struct kv_bytes got;
    put_one(f, "k", "old");
    struct kv_txn *reader = begin(f, false);
    put_one(f, "k", "new");
    assert_int_equal(f->kv->ops->get(f->kv, reader, bytes("k"), &got), OK);
    assert_memory_equal(got.data, "old", 3);
    f->kv->ops->abort(f->kv, reader);
    assert_row(f, "k", "new");
}

static void test_seek(void **state)
{
    struct fixture *f = *state;
    struct kv_bytes key, value;
    struct kv_txn *txn = begin(f, true);
    assert_int_equal(f->kv->ops->seek(f->kv, txn, bytes(""), &key, &value), ERR_NO_FILE);
    assert_int_equal(f->kv->ops->put(f->kv, txn, bytes("b"), bytes("B")), OK);
    assert_int_equal(f->kv->ops->put(f->kv, txn, bytes("bb"), bytes("BB")), OK);
    assert_int_equal(f->kv->ops->put(f->kv, txn, bytes("\xff"), bytes("last")), OK);
    assert_int_equal(f->kv->ops->seek(f->kv, txn, bytes(""), &key, &value), OK);
    assert_memory_equal(key.data, "b", key.size);
    assert_int_equal(f->kv->ops->seek(f->kv, txn, bytes("b"), &key, &value), OK);
    assert_int_equal(key.size, 1);
    assert_int_equal(f->kv->ops->seek(f->kv, txn, bytes("ba"), &key, &value), OK);
    assert_memory_equal(value.data, "BB", 2);
    assert_int_equal(f->kv->ops->del(f->kv, txn, bytes("bb")), OK); /* the cursor survives a write */
    assert_int_equal(f->kv->ops->seek(f->kv, txn, bytes("ba"), &key, &value), OK);
    assert_memory_equal(value.data, "last", 4);
    assert_int_equal(f->kv->ops->seek(f->kv, txn, bytes("\xff\x01"), &key, &value), ERR_NO_FILE);
    assert_int_equal(f->kv->ops->commit(f->kv, txn), OK);
}

/* ---- a model: rows of a random workload, remembered by number ---- */

#define MODEL_ROWS 600

struct model {
    uint32_t sizes[MODEL_ROWS]; /* 0: no such row */
    uint8_t fills[MODEL_ROWS];
};

static struct kv_bytes model_key(uint32_t row, char *to)
{
    return (struct kv_bytes){to, (size_t)sprintf(to, "row-%0*u", 3 + (int)(row % 200), row)};
}

static void model_step(struct fixture *f, struct kv_txn *txn, struct model *model, struct rng *rng)
{
    static uint8_t value[70000];
    char text[256];
    uint32_t row = (uint32_t)rng_below(rng, MODEL_ROWS);
    struct kv_bytes key = model_key(row, text);
    if (rng_chance(rng, 0.4)) {
        model->sizes[row] = 0;
        assert_int_equal(f->kv->ops->del(f->kv, txn, key), OK);
        return;
    }
    model->sizes[row] = (uint32_t)rng_between(rng, 1, rng_chance(rng, 0.1) ? sizeof value : 300);
    model->fills[row] = (uint8_t)rng_next(rng);
    memset(value, model->fills[row], model->sizes[row]);
    assert_int_equal(f->kv->ops->put(f->kv, txn, key, (struct kv_bytes){value, model->sizes[row]}), OK);
}

static void model_compare(struct fixture *f, const struct model *model)
{
    char text[256];
    struct kv_txn *txn = begin(f, false);
    for (uint32_t row = 0; row < MODEL_ROWS; row++) {
        struct kv_bytes value;
        enum err error = f->kv->ops->get(f->kv, txn, model_key(row, text), &value);
        assert_int_equal(error, model->sizes[row] == 0 ? ERR_NO_FILE : OK);
        if (error == OK) {
            assert_int_equal(value.size, model->sizes[row]);
            assert_int_equal(((const uint8_t *)value.data)[value.size - 1], model->fills[row]);
        }
    }
    f->kv->ops->abort(f->kv, txn);
}

/* The checker must never call a store bad that LMDB wrote itself. */
static void model_run(struct fixture *f, struct model *model, struct rng *rng, int transactions)
{
    for (int i = 0; i < transactions; i++) {
        struct model before = *model;
        struct kv_txn *txn = begin(f, true);
        uint64_t steps = rng_between(rng, 1, 60);
        for (uint64_t step = 0; step < steps; step++) {
            model_step(f, txn, model, rng);
        }
        if (rng_chance(rng, 0.1)) {
            *model = before;
            f->kv->ops->abort(f->kv, txn);
        } else {
            assert_int_equal(f->kv->ops->commit(f->kv, txn), OK);
        }
        assert_int_equal(os_lmdb__check(f->data_path, NULL), OK);
    }
}

static void test_random_workload(void **state)
{
    struct fixture *f = *state;
    static struct model model;
    struct rng rng;
    rng_seed(&rng, 1);
    for (int life = 0; life < 4; life++) {
        model_run(f, &model, &rng, 60);
        model_compare(f, &model);
        reopen(f, 0);
        model_compare(f, &model);
    }
}

/* ---- growth and faults ---- */

static enum err put_big(struct fixture *f, uint32_t number)
{
    static const uint8_t value[100000];
    char text[16];
    struct kv_bytes key = {text, (size_t)sprintf(text, "%08u", number)};
    struct kv_txn *txn = begin(f, true);
    enum err error = f->kv->ops->put(f->kv, txn, key, (struct kv_bytes){value, sizeof value});
    if (error != OK) {
        assert_int_equal(f->kv->ops->commit(f->kv, txn), error); /* the first error, and the transaction is gone */
        return error;
    }
    return f->kv->ops->commit(f->kv, txn);
}

static void test_map_grows(void **state)
{
    struct fixture *f = *state;
    int refused = 0;
    reopen(f, 1u << 20);
    for (uint32_t i = 0; i < 100; i++) {
        enum err error = put_big(f, i);
        if (error != OK) {
            assert_int_equal(error, ERR_STORAGE_FULL);
            refused++;
            assert_int_equal(put_big(f, i), OK);
        }
    }
    assert_in_range(refused, 3, 6); /* 1 MiB doubles until it holds 10 MB */
    reopen(f, 1u << 20);            /* smaller than the file by now */
    assert_row(f, "never", NULL);
    put_one(f, "a", "b");
}

static void test_map_does_not_grow_under_a_reader(void **state)
{
    struct fixture *f = *state;
    struct kv_bytes got;
    enum err error = OK;
    reopen(f, 1u << 20);
    put_one(f, "k", "v");
    struct kv_txn *reader = begin(f, false);
    uint32_t number = 0;
    while (error == OK && number < 100) {
        error = put_big(f, number++);
    }
    assert_int_equal(error, ERR_STORAGE_FULL);
    assert_int_equal(put_big(f, number), ERR_STORAGE_FULL);
    assert_int_equal(f->kv->ops->get(f->kv, reader, bytes("k"), &got), OK);
    assert_memory_equal(got.data, "v", 1);
    f->kv->ops->abort(f->kv, reader);
    assert_int_equal(put_big(f, number), OK);
}

static void assert_poisoned(struct fixture *f)
{
    struct kv_txn *txn = NULL;
    assert_int_equal(f->kv->ops->begin(f->kv, true, &txn), ERR_IO);
    assert_int_equal(f->kv->ops->begin(f->kv, false, &txn), ERR_IO);
    assert_int_equal(f->kv->ops->sync(f->kv), ERR_IO);
    assert_null(txn);
}

static void test_failed_sync_poisons(void **state)
{
    struct fixture *f = *state;
    struct kv_bytes got;
    put_one(f, "k", "old");
    struct kv_txn *reader = begin(f, false);
    struct kv_txn *txn = begin(f, true);
    assert_int_equal(f->kv->ops->put(f->kv, txn, bytes("k"), bytes("new")), OK);
    sync_error = EIO;
    assert_int_equal(f->kv->ops->commit(f->kv, txn), ERR_IO);
    sync_error = 0;
    assert_int_equal(f->kv->ops->get(f->kv, reader, bytes("k"), &got), ERR_IO);
    f->kv->ops->abort(f->kv, reader);
    assert_poisoned(f);
    reopen(f, 0);
    assert_row(f, "k", "old");

    sync_error = EIO;
    assert_int_equal(f->kv->ops->sync(f->kv), ERR_IO);
    sync_error = 0;
    assert_poisoned(f);
}

static void test_full_disk_passes(void **state)
{
    struct fixture *f = *state;
    put_one(f, "k", "old");
    struct kv_txn *txn = begin(f, true);
    assert_int_equal(f->kv->ops->put(f->kv, txn, bytes("k"), bytes("new")), OK);
    write_error = ENOSPC;
    assert_int_equal(f->kv->ops->commit(f->kv, txn), ERR_STORAGE_FULL);
    write_error = 0;
    assert_row(f, "k", "old");
    put_one(f, "k", "new");
    reopen(f, 0);
    assert_row(f, "k", "new");
}

static uint64_t blocks_behind_the_end(const struct fixture *f)
{
    struct stat status;
    assert_int_equal(stat(f->data_path, &status), 0);
    return (uint64_t)status.st_blocks * 512 - (uint64_t)status.st_size;
}

/* Adds rows of 1 KiB until the room that is set aside must be drawn upon; returns what the last one got. */
static enum err grow(struct fixture *f, uint32_t rows)
{
    char value[1024] = {0};
    char key[32];
    enum err error = OK;
    for (uint32_t i = 0; i < rows && error == OK; i++) {
        struct kv_txn *txn;
        error = f->kv->ops->begin(f->kv, true, &txn);
        for (uint32_t j = 0; j < 256 && error == OK; j++) {
            snprintf(key, sizeof key, "%u.%u", i, j);
            error = f->kv->ops->put(f->kv, txn, bytes(key), (struct kv_bytes){value, sizeof value});
        }
        error = error == OK ? f->kv->ops->commit(f->kv, txn) : error;
    }
    return error;
}

static void test_room_is_set_aside_for_a_full_disk(void **state)
{
    struct fixture *f = *state;
    assert_true(blocks_behind_the_end(f) >= KV_RESERVE_BYTES);
    assert_int_equal(grow(f, 20), OK);
    put_one(f, "k", "before");
    assert_true(blocks_behind_the_end(f) >= KV_RESERVE_BYTES);
    assert_false(f->kv->ops->is_short(f->kv));
    fallocate_error = ENOSPC; /* from now on: what is set aside, and nothing else */
    assert_int_equal(grow(f, 3), OK);
    put_one(f, "k", "during");
    fallocate_error = 0;
    put_one(f, "k", "after");
    assert_false(f->kv->ops->is_short(f->kv));
    reopen(f, 0);
    assert_row(f, "k", "after");
}

static void test_room_that_is_used_up_refuses_before_a_write_fails(void **state)
{
    struct fixture *f = *state;
    fallocate_error = ENOSPC;
    assert_int_equal(grow(f, 1000), ERR_STORAGE_FULL);
    assert_true(f->kv->ops->is_short(f->kv));
    assert_true(blocks_behind_the_end(f) >= KV_RESERVE_STEP_BYTES / 2);
    fallocate_error = 0;
    put_one(f, "k", "after");
    assert_false(f->kv->ops->is_short(f->kv));
    assert_true(blocks_behind_the_end(f) >= KV_RESERVE_BYTES);
}

static void test_failed_write_poisons(void **state)
{
    struct fixture *f = *state;
    put_one(f, "k", "old");
    struct kv_txn *txn = begin(f, true);
    assert_int_equal(f->kv->ops->put(f->kv, txn, bytes("k"), bytes("new")), OK);
    write_error = EIO;
    assert_int_equal(f->kv->ops->commit(f->kv, txn), ERR_IO);
    write_error = 0;
    assert_poisoned(f);
    reopen(f, 0);
    assert_row(f, "k", "old");
}

/* ---- damaged files ---- */

static size_t file_load(const char *path, uint8_t **ret_data)
{
    struct stat status;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &status) == 0);
    *ret_data = malloc((size_t)status.st_size + 1);
    assert_int_equal(read(fd, *ret_data, (size_t)status.st_size), status.st_size);
    close(fd);
    return (size_t)status.st_size;
}

static void file_save(const char *path, const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}

/* Opens the file as it is; when it opens, every row is read: what LMDB is allowed to see, it must survive. */
static enum err open_and_read(struct fixture *f)
{
    struct os_lmdb *lmdb = NULL;
    enum err error = os_lmdb_open(f->root, "meta", 0, NULL, &lmdb);
    if (error != OK) {
        assert_null(lmdb);
        return error;
    }
    struct kv *kv = os_lmdb_port(lmdb);
    struct kv_txn *txn = NULL;
    assert_int_equal(kv->ops->begin(kv, false, &txn), OK);
    struct kv_bytes key = {"", 0};
    struct kv_bytes value;
    volatile uint8_t sum = 0;
    char next[600];
    for (int rows = 0; rows < 10000 && kv->ops->seek(kv, txn, key, &key, &value) == OK; rows++) {
        for (size_t i = 0; i < value.size; i += 4096) {
            sum = (uint8_t)(sum + ((const uint8_t *)value.data)[i]);
        }
        if (key.size >= 511) {
            break;
        }
        memcpy(next, key.data, key.size);
        next[key.size] = '\0';
        key = (struct kv_bytes){next, key.size + 1};
    }
    kv->ops->abort(kv, txn);
    os_lmdb_close(lmdb);
    return OK;
}

static void test_not_a_store(void **state)
{
    struct fixture *f = *state;
    uint8_t *data;
    os_lmdb_close(f->lmdb);
    f->lmdb = NULL;
    size_t size = file_load(f->data_path, &data);
    file_save(f->data_path, data, 0);
    assert_int_equal(open_and_read(f), ERR_FORMAT);
    file_save(f->data_path, data, size / 2);
    assert_int_equal(open_and_read(f), ERR_FORMAT);
    memset(data, 0, size);
    file_save(f->data_path, data, size);
    assert_int_equal(open_and_read(f), ERR_FORMAT);
    memset(data, 'x', size);
    file_save(f->data_path, data, size);
    assert_int_equal(open_and_read(f), ERR_FORMAT);
    unlink(f->data_path);
    assert_int_equal(open_and_read(f), ERR_FORMAT); /* lost, not new */
    free(data);
}

/* What a first start that died half way leaves does not hinder the second. */
static void test_half_made_store(void **state)
{
    struct fixture *f = *state;
    char path[256];
    snprintf(path, sizeof path, "%s/other.new", f->root);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/other.new/data.mdb", f->root);
    file_save(path, (const uint8_t *)"half", 4);
    struct os_lmdb *other = NULL;
    assert_int_equal(os_lmdb_open(f->root, "other", 0, NULL, &other), OK);
    os_lmdb_close(other);
}

/* A key that rotted: rows behind it would be missed by every search. */
static void test_rows_out_of_order(void **state)
{
    struct fixture *f = *state;
    uint8_t *data;
    char key[16];
    for (int i = 0; i < 500; i++) { /* several leaves */
        sprintf(key, "key-%04d", i);
        put_one(f, key, "value of a row");
    }
    os_lmdb_close(f->lmdb);
    f->lmdb = NULL;
    size_t size = file_load(f->data_path, &data);
    assert_int_equal(open_and_read(f), OK);
    static const char *const moved[] = {"key-0250", "key-0000", "key-0499", "key-0100"};
    for (size_t i = 0; i < sizeof moved / sizeof moved[0]; i++) {
        uint8_t *copy = malloc(size);
        memcpy(copy, data, size);
        for (uint8_t *at = copy; (at = memmem(at, size - (size_t)(at - copy), moved[i], 8)) != NULL; at++) {
            at[4] ^= i == 2 ? 0x10 : 0x40; /* the last one to the front, the others behind it */
        }
        file_save(f->data_path, copy, size);
        assert_int_equal(open_and_read(f), ERR_FORMAT);
        free(copy);
    }
    free(data);
}

static void damage(uint8_t *data, size_t size, struct rng *rng)
{
    uint64_t page = rng_below(rng, size / 4096) * 4096;
    uint64_t kind = rng_below(rng, 5);
    if (kind == 0) { /* a page header or its first offsets */
        data[page + rng_below(rng, 64)] ^= (uint8_t)(1u << rng_below(rng, 8));
    } else if (kind == 1) {
        data[rng_below(rng, 2) * 4096 + rng_below(rng, 160)] = (uint8_t)rng_next(rng); /* a meta page */
    } else if (kind == 2) {
        memset(data + page, 0, 4096);
    } else if (kind == 3) {
        memcpy(data + page, data + rng_below(rng, size / 4096) * 4096, 4096);
    } else {
        for (int i = 0; i < 20; i++) {
            data[page + rng_below(rng, 4096)] = (uint8_t)rng_next(rng);
        }
    }
}

static void test_damaged_store_never_crashes(void **state)
{
    struct fixture *f = *state;
    static struct model model;
    struct rng rng;
    uint8_t *data;
    int refused = 0;
    rng_seed(&rng, 2);
    model_run(f, &model, &rng, 40);
    os_lmdb_close(f->lmdb);
    f->lmdb = NULL;
    size_t size = file_load(f->data_path, &data);
    uint8_t *copy = malloc(size);
    for (int i = 0; i < 400; i++) {
        memcpy(copy, data, size);
        damage(copy, size, &rng);
        file_save(f->data_path, copy, i % 10 == 0 ? rng_below(&rng, size) : size);
        enum err error = open_and_read(f);
        assert_true(error == OK || error == ERR_FORMAT);
        refused += error != OK;
    }
    assert_in_range(refused, 50, 350); /* the rest hit values, free pages or the older meta page */
    free(copy);
    free(data);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_rows),
        TEST(test_reader_sees_its_beginning),
        TEST(test_seek),
        TEST(test_random_workload),
        TEST(test_map_grows),
        TEST(test_map_does_not_grow_under_a_reader),
        TEST(test_failed_sync_poisons),
        TEST(test_full_disk_passes),
        TEST(test_room_is_set_aside_for_a_full_disk),
        TEST(test_room_that_is_used_up_refuses_before_a_write_fails),
        TEST(test_failed_write_poisons),
        TEST(test_not_a_store),
        TEST(test_half_made_store),
        TEST(test_rows_out_of_order),
        TEST(test_damaged_store_never_crashes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
