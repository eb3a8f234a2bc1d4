/* Appending, reading back and restarting for the tests of the store. */
#include "store_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/endian.h"

struct slice bench_batch_bytes(uint64_t group, const struct bench_batch *batch, struct batch_header *ret_header)
{
    struct buf *buf = buf_new(batch->size_bytes);
    struct rng rng;
    rng_seed(&rng, group * 1000003 + (uint64_t)batch->base_offset);
    for (uint32_t i = 0; i < batch->size_bytes; i++) {
        buf->data[i] = (uint8_t)(i % 8 == 0 ? rng_next(&rng) : 0x5a + i);
    }
    store_be32(buf->data + 8, batch->size_bytes - BATCH_LENGTH_OVERHEAD);
    buf->data[16] = 2;
    store_be16(buf->data + 21, 0);
    store_be32(buf->data + 23, (uint32_t)(batch->end_offset - batch->base_offset - 1));
    store_be64(buf->data + 27, (uint64_t)batch->timestamp);
    store_be64(buf->data + 35, (uint64_t)batch->timestamp);
    batch_normalise(buf->data);
    batch_seal(buf->data, batch->size_bytes);
    assert_int_equal(batch_parse(buf->data, batch->size_bytes, ret_header), OK);
    return (struct slice){.buf = buf, .data = buf->data, .size = batch->size_bytes};
}

/* --- life --- */

static void on_written(void *context)
{
    ((struct bench *)context)->written_calls++;
}

static void on_error(void *context, struct segment_log *log, enum err error)
{
    (void)context;
    ((struct bench_log *)segment_log_owner(log))->error = error;
}

enum err bench_reopen(struct bench *b)
{
    assert_int_equal(store_open(&b->options, &b->store), OK);
    for (int i = 0; i < BENCH_LOGS; i++) {
        struct bench_log *l = &b->logs[i];
        struct segment_log_options options = {
            .store = b->store,
            .group = l->group,
            .segment_bytes = b->segment_bytes,
            .segment_ms = b->segment_ms,
            .log_start = l->durable_start,
            .next_offset = l->durable_next,
            .rows = l->rows,
            .rows_count = l->rows_count,
            .owner = l,
        };
        enum err error = segment_log_open(&options, &l->log);
        if (error != OK) {
            return error;
        }
    }
    return store_sweep(b->store);
}

struct bench *bench_new(int64_t first_offset, uint64_t tail_bytes_max)
{
    struct bench *b = calloc(1, sizeof *b);
    store_disk_init(&b->disk, 1);
    b->segment_bytes = BENCH_SEGMENT_BYTES;
    b->segment_ms = -1;
    b->options = (struct store_options){
        .disk = &b->disk.port,
        .clock = &b->disk.clock,
        .dir = "parts",
        .open_files_max = 8,
        .tail_bytes_max = tail_bytes_max,
        .spare_files_max = 4,
        .context = b,
        .on_written = on_written,
        .on_error = on_error,
    };
    for (int i = 0; i < BENCH_LOGS; i++) {
        b->logs[i].group = 7 + (uint64_t)i;
        b->logs[i].first_offset = b->logs[i].durable_start = b->logs[i].durable_next = first_offset;
    }
    assert_int_equal(bench_reopen(b), OK);
    return b;
}

static void close_store(struct bench *b)
{
    for (int i = 0; i < BENCH_LOGS; i++) {
        if (b->logs[i].log != NULL) {
            segment_log_close(b->logs[i].log);
            b->logs[i].log = NULL;
        }
    }
    store_close(b->store);
    b->store = NULL;
}

void bench_free(struct bench *b)
{
    segment_read_release(&b->read);
    if (b->store != NULL) {
        close_store(b);
    }
    for (int i = 0; i < BENCH_LOGS; i++) {
        free(b->logs[i].batches);
        free(b->logs[i].rows);
    }
    store_disk_done(&b->disk);
    free(b);
}

void bench_crash(struct bench *b, const struct tree_cut *cut)
{
    close_store(b);
    store_disk_crash(&b->disk);
    if (cut != NULL) {
        store_disk_power_cut(&b->disk, cut);
    }
}

static void append_bytes(struct bench_log *l, const struct bench_batch *batch)
{
    struct batch_header header;
    struct slice bytes = bench_batch_bytes(l->group, batch, &header);
    segment_log_append(l->log, bytes, &header, batch->base_offset, (int32_t)(batch->base_offset % 1000),
                       batch->clock_ms);
    slice_unref(&bytes);
}

void bench_replay(struct bench *b)
{
    for (int i = 0; i < BENCH_LOGS; i++) {
        struct bench_log *l = &b->logs[i];
        for (uint32_t j = 0; j < l->count; j++) {
            if (l->batches[j].base_offset >= segment_log_next(l->log)) {
                append_bytes(l, &l->batches[j]);
            }
        }
    }
}

void bench_restart(struct bench *b, const struct tree_cut *cut)
{
    bench_crash(b, cut);
    assert_int_equal(bench_reopen(b), OK);
    bench_replay(b);
}

/* --- appending --- */

void bench_append_at(struct bench *b, int log, uint32_t records, uint32_t size_bytes, int64_t timestamp,
                     int64_t clock_ms)
{
    struct bench_log *l = &b->logs[log];
    if (l->count == l->capacity) {
        l->capacity = l->capacity > 0 ? 2 * l->capacity : 64;
        l->batches = realloc(l->batches, l->capacity * sizeof l->batches[0]);
    }
    int64_t base_offset = l->count > 0 ? l->batches[l->count - 1].end_offset : l->first_offset;
    struct bench_batch *batch = &l->batches[l->count++];
    *batch = (struct bench_batch){.base_offset = base_offset,
                                  .end_offset = base_offset + records,
                                  .size_bytes = size_bytes,
                                  .timestamp = timestamp,
                                  .clock_ms = clock_ms};
    append_bytes(l, batch);
}

void bench_append(struct bench *b, int log, uint32_t records, uint32_t size_bytes)
{
    bench_append_at(b, log, records, size_bytes, 1000, 1000);
}

void bench_fill(struct bench *b, int log, uint64_t bytes, uint32_t batch_bytes)
{
    for (uint64_t done = 0; done < bytes; done += batch_bytes) {
        bench_append(b, log, 1 + (uint32_t)rng_below(&b->disk.rng, 4), batch_bytes);
    }
}

void bench_let(struct bench *b)
{
    do {
        store_flush(b->store);
        store_disk_pump(&b->disk);
    } while (store_is_busy(b->store));
}

void bench_write(struct bench *b)
{
    store_force(b->store);
    bench_let(b);
}

/* --- reading --- */

const struct bench_batch *bench_at(const struct bench *b, int log, int64_t offset)
{
    const struct bench_log *l = &b->logs[log];
    for (uint32_t i = 0; i < l->count; i++) {
        if (offset < l->batches[i].end_offset) {
            return offset >= l->batches[i].base_offset ? &l->batches[i] : NULL;
        }
    }
    return NULL;
}

void bench_check_parts(const struct bench *b, const struct bench_log *l, const struct segment_read *read)
{
    uint8_t *data = malloc(read->bytes + 1);
    uint32_t size = 0;
    for (uint32_t i = 0; i < read->parts_count; i++) {
        memcpy(data + size, read->parts[i].data, read->parts[i].size);
        size += read->parts[i].size;
    }
    assert_int_equal(size, read->bytes);
    const struct bench_batch *batch = bench_at(b, (int)(l - b->logs), read->offset);
    for (uint32_t at = 0; at < size; batch++) {
        struct batch_header header;
        assert_true(batch != NULL && batch < l->batches + l->count);
        struct slice bytes = bench_batch_bytes(l->group, batch, &header);
        uint8_t prefix[BATCH_PREFIX_BYTES];
        batch_prefix(prefix, batch->base_offset, batch->size_bytes, (int32_t)(batch->base_offset % 1000));
        assert_true(at + batch->size_bytes <= size);
        assert_memory_equal(data + at, prefix, BATCH_PREFIX_BYTES);
        assert_memory_equal(data + at + BATCH_PREFIX_BYTES, bytes.data + BATCH_PREFIX_BYTES,
                            bytes.size - BATCH_PREFIX_BYTES);
        at += batch->size_bytes;
        slice_unref(&bytes);
    }
    free(data);
}

static void read_done(struct segment_read *read, enum err error)
{
    struct bench *b = read->context;
    b->read_error = error;
    b->read_is_done = true;
}

enum err bench_read(struct bench *b, int log, int64_t offset, uint32_t bytes_max)
{
    segment_read_release(&b->read);
    b->read.offset = offset;
    b->read.bytes_max = bytes_max;
    b->read.done = read_done;
    b->read.context = b;
    b->read_is_done = false;
    enum err error = segment_log_read(b->logs[log].log, &b->read);
    if (error == ERR_AGAIN) {
        store_disk_pump(&b->disk);
        assert_true(b->read_is_done);
        error = b->read_error;
    } else {
        assert_false(b->read_is_done);
    }
    if (error == OK) {
        bench_check_parts(b, &b->logs[log], &b->read);
    } else {
        assert_int_equal(b->read.parts_count, 0);
    }
    return error;
}

int bench_read_all(struct bench *b, int log)
{
    struct segment_log *l = b->logs[log].log;
    int64_t offset = segment_log_start(l);
    int reads = 0;
    while (offset < segment_log_next(l)) {
        assert_int_equal(bench_read(b, log, offset, 10000), OK);
        assert_true(b->read.bytes > 0);
        uint32_t left = b->read.bytes;
        for (const struct bench_batch *batch = bench_at(b, log, offset); left > 0; batch++) {
            offset = batch->end_offset;
            left -= batch->size_bytes;
        }
        reads++;
    }
    segment_read_release(&b->read);
    return reads;
}

/* --- checkpoints --- */

struct sync_job {
    struct disk_job job;
    struct store_checkpoint *checkpoint;
    enum err error;
};

static void sync_job_run(struct disk_job *job)
{
    struct sync_job *sync = (struct sync_job *)job;
    sync->error = store_checkpoint_sync(sync->checkpoint);
}

static void sync_job_done(struct disk_job *job)
{
    (void)job;
}

void bench_checkpoint(struct bench *b, int log, bool commits)
{
    struct bench_log *l = &b->logs[log];
    struct sync_job sync = {.job = {.run = sync_job_run, .done = sync_job_done},
                            .checkpoint = store_checkpoint_new(l->log),
                            .error = ERR_CANCELLED};
    b->disk.port.ops->submit(&b->disk.port, DISK_LANE_STORE, &sync.job);
    store_disk_pump(&b->disk);
    b->checkpoint_error = sync.error;
    commits = commits && sync.error == OK && (b->disk.crash_at == 0 || b->disk.calls < b->disk.crash_at);
    if (commits) {
        struct store_checkpoint *c = sync.checkpoint;
        free(l->rows);
        l->rows = calloc(c->rows_count + 1, sizeof l->rows[0]);
        memcpy(l->rows, c->rows, c->rows_count * sizeof l->rows[0]);
        l->rows_count = c->rows_count;
        l->durable_start = c->log_start;
        l->durable_next = c->next_offset;
        for (uint32_t i = 0; i < c->rows_count; i++) {
            assert_true(c->rows[i].tail_size == 0 || i + 1 == c->rows_count);
            memcpy(l->tail, c->rows[i].tail, c->rows[i].tail_size);
            l->rows[i].tail = l->tail;
        }
    }
    store_checkpoint_done(sync.checkpoint, commits);
    store_disk_pump(&b->disk);
}

void bench_path(const struct bench *b, int log, int64_t base_offset, const char *suffix, char path[128])
{
    snprintf(path, 128, "parts/%llu/%020lld%s", (unsigned long long)b->logs[log].group, (long long)base_offset, suffix);
}
