/* Hostile segment files, manifest rows and index files of one partition. Whatever they hold: what is served are whole
 * batches with good CRCs that join each other from the offset asked for, never a byte behind what the manifest says;
 * every answer comes after a bounded number of jobs; good batches in front of the damage are served as they are, also
 * when index files lie or are missing; and the log is good for work: what is appended now is read back, before and
 * after a restart from its own checkpoint.
 *
 * Input: byte 0 options, byte 1 how far the manifest lies, byte 2 the first offset; then instructions of {what, n,
 * arguments} that write the files:
 *   0 a good batch          n records, size, timestamp
 *   1 n bytes as they are
 *   2 a good batch, misplaced by n (signed) offsets
 *   3 a good batch with one byte changed: which (2 bytes), by how much
 *   4 a good batch with a wrong length: 2 bytes
 *   5 a good batch with 8 bytes of the header changed, its CRC right: where, the bytes
 *   6 the next segment
 *   7 the manifest of this segment ends here, the file goes on
 *   8 n bytes into .index, 9 n bytes into .timeindex of the first segment
 * Options: bit 0 the manifest's size lies, 1 its end does, 2 the last block of the file is not what the manifest has of
 * it, 3 no tail cache, 4 the file of the first segment is missing, 5 offsets begin high. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "ram_disk.h"
#include "store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SEGMENTS_MAX     3
#define FILE_BYTES_MAX   (48u << 10)
#define PIECES_MAX       64
#define INDEX_BYTES_MAX  1024
#define JOBS_MAX         64 /* of one question */
#define TRIES_MAX        16
#define GROUP            7u
#define HIGH_OFFSET      (((int64_t)1 << 62) - 3)
#define RECORDS_PER_BYTE 3 /* offsets need not have records behind them here: the store never looks */

struct good { /* a good batch with only such before it */
    int64_t base_offset;
    uint32_t position, size;
};

struct made { /* one segment as it is made */
    uint8_t bytes[FILE_BYTES_MAX];
    uint32_t chain, manifest_chain; /* of the headers as they were written */
    uint32_t size, manifest_size;   /* manifest_size UINT32_MAX: all of it */
    int64_t base_offset, end_offset, manifest_end;
    struct good good[PIECES_MAX];
    unsigned good_count;
    bool is_hostile; /* from here on nothing is good any more */
    bool may_pose;   /* something in here may pose as another batch: an index that lies may find it */
    uint8_t tail[STORE_BLOCK_BYTES];
};

struct input {
    const uint8_t *data;
    size_t size;
    uint8_t options, lie;
    bool may_mislead; /* the manifest lies, or bytes pose as batches with a right CRC: rot does neither */
    struct made made[SEGMENTS_MAX];
    unsigned count;
    uint8_t index[INDEX_BYTES_MAX], times[INDEX_BYTES_MAX];
    uint32_t index_size, times_size;
};

struct bench {
    struct ram_disk disk;
    struct store *store; /* one for all inputs */
    struct segment_log *log;
    enum err error; /* of the last answer */
    int64_t offset;
    bool is_answered;
};

static struct bench bench;
static struct input input;

static uint8_t take(void)
{
    if (input.size == 0)
        return 0;
    input.size--;
    return *input.data++;
}

static uint32_t take_into(uint8_t *bytes, uint32_t room, uint32_t count)
{
    count = count < room ? count : room;
    count = count < input.size ? count : (uint32_t)input.size;
    if (count > 0)
        memcpy(bytes, input.data, count);
    input.data += count;
    input.size -= count;
    return count;
}

/* --- making the files --- */

/* A batch as it is stored, all but its place in the log invented. */
static uint32_t make_batch(uint8_t *bytes, int64_t base_offset, uint32_t body_size, int32_t records, uint8_t seed)
{
    struct batch_header header = {.base_offset = base_offset,
                                  .size_bytes = BATCH_HEADER_BYTES + body_size,
                                  .leader_epoch = 1,
                                  .last_offset_delta = records - 1,
                                  .base_timestamp = seed,
                                  .max_timestamp = seed,
                                  .producer_id = -1,
                                  .producer_epoch = -1,
                                  .base_sequence = -1,
                                  .records_count = records};
    batch_write_header(bytes, &header);
    memset(bytes + BATCH_HEADER_BYTES, seed, body_size);
    batch_seal(bytes, header.size_bytes);
    return header.size_bytes;
}

static void next_segment(int64_t base_offset)
{
    struct made *made = &input.made[input.count++];
    made->size = made->good_count = made->chain = 0;
    made->manifest_size = UINT32_MAX;
    made->base_offset = made->end_offset = made->manifest_end = base_offset;
    made->is_hostile = made->may_pose = false;
}

static void put_batch(struct made *made, uint8_t what, uint8_t n)
{
    int32_t records = what == 0 ? 1 + n * RECORDS_PER_BYTE : 1;
    uint32_t body_size = take() * 16u;
    uint8_t *at = made->bytes + made->size;
    if (FILE_BYTES_MAX - made->size < BATCH_HEADER_BYTES + body_size + 8)
        return;
    int64_t misplaced = what == 2 ? (int8_t)n : 0;
    uint32_t size = make_batch(at, made->end_offset + misplaced, body_size, records, take());
    if (what == 0 && !made->is_hostile && made->manifest_size == UINT32_MAX && made->good_count < PIECES_MAX)
        made->good[made->good_count++] = (struct good){made->end_offset, made->size, size};
    else
        made->is_hostile = true;
    made->may_pose = made->may_pose || what == 2 || what == 5 || made->manifest_size != UINT32_MAX;
    if (what == 5) {
        take_into(at + n % (BATCH_HEADER_BYTES - 8), 8, 8);
        batch_seal(at, size);
    }
    made->chain = crc32c(made->chain, at, BATCH_HEADER_BYTES);
    if (what == 3) {
        uint32_t place = (take() * 256u + take()) % size;
        at[place] ^= (uint8_t)(1 + take() % 255);
        made->may_pose =
            made->may_pose || place < BATCH_PREFIX_BYTES; /* no CRC covers it: whole, and not what it was */
    } else if (what == 4) {
        store_be32(at + 8, n * 256u + take());
    }
    made->size += size;
    made->end_offset += records;
}

static void make_files(int64_t first_offset)
{
    input.count = input.index_size = input.times_size = 0;
    next_segment(first_offset);
    while (input.size > 0) {
        struct made *made = &input.made[input.count - 1];
        uint8_t what = take() % 10, n = take();
        if (what == 1) {
            made->size += take_into(made->bytes + made->size, FILE_BYTES_MAX - made->size, n);
            made->is_hostile = made->may_pose = true;
        } else if (what <= 5) {
            put_batch(made, what, n);
        } else if (what == 6 && input.count < SEGMENTS_MAX && made->end_offset > made->base_offset) {
            next_segment(made->manifest_size == UINT32_MAX ? made->end_offset : made->manifest_end);
        } else if (what == 7 && made->end_offset > made->base_offset && made->manifest_size == UINT32_MAX) {
            made->manifest_size = made->size;
            made->manifest_end = made->end_offset;
            made->manifest_chain = made->chain;
        } else if (what == 8) {
            input.index_size += take_into(input.index + input.index_size, INDEX_BYTES_MAX - input.index_size, n);
        } else if (what == 9) {
            input.times_size += take_into(input.times + input.times_size, INDEX_BYTES_MAX - input.times_size, n);
        }
    }
    if (input.made[input.count - 1].end_offset == input.made[input.count - 1].base_offset)
        input.count--; /* a row is never empty */
}

static void put_file(int64_t base_offset, const char *suffix, const uint8_t *bytes, uint32_t size)
{
    char path[80];
    snprintf(path, sizeof path, "parts/%u/%020lld%s", GROUP, (long long)base_offset, suffix);
    ram_disk_put(&bench.disk, path, bytes, size);
}

static void put_files(struct segment_row rows[SEGMENTS_MAX])
{
    for (unsigned i = 0; i < input.count; i++) {
        struct made *made = &input.made[i];
        bool is_last = i + 1 == input.count;
        if (made->manifest_size == UINT32_MAX) {
            made->manifest_size = made->size;
            made->manifest_end = made->end_offset;
            made->manifest_chain = made->chain;
        }
        if ((input.options & 1) != 0 && is_last)
            made->manifest_size += (uint32_t)((int8_t)input.lie * 16);
        if ((input.options & 2) != 0 && is_last)
            made->manifest_end += input.lie;
        rows[i] = (struct segment_row){.base_offset = made->base_offset,
                                       .end_offset = made->manifest_end,
                                       .size_bytes = made->manifest_size,
                                       .generation = i + 1,
                                       .chain = made->manifest_chain,
                                       .max_timestamp = 255};
        if (is_last && made->manifest_size <= made->size) { /* the manifest holds the last block as it was */
            rows[i].tail_size = made->manifest_size % STORE_BLOCK_BYTES;
            memcpy(made->tail, made->bytes + made->manifest_size - rows[i].tail_size, rows[i].tail_size);
            rows[i].tail = made->tail;
            if ((input.options & 4) != 0)
                memset(made->bytes + made->manifest_size - rows[i].tail_size, input.lie, rows[i].tail_size);
        }
        if (i > 0 || (input.options & 0x10) == 0)
            put_file(made->base_offset, ".log", made->bytes, made->size);
    }
    if (input.index_size > 0)
        put_file(input.made[0].base_offset, ".index", input.index, input.index_size);
    if (input.times_size > 0)
        put_file(input.made[0].base_offset, ".timeindex", input.times, input.times_size);
}

/* --- asking --- */

static void on_written(void *context)
{
}

static void on_error(void *context, struct segment_log *log, enum err error)
{
}

static void on_read(struct segment_read *read, enum err error)
{
    bench.error = error;
    bench.is_answered = true;
}

static void on_found(void *context, enum err error, int64_t offset)
{
    bench.error = error;
    bench.offset = offset;
    bench.is_answered = true;
}

/* What is served holds together. Memory comes in two parts a batch, the disk in one. */
static void check_served(const struct segment_read *read, int64_t offset)
{
    static uint8_t bytes[(2u << 20) + FILE_BYTES_MAX];
    uint32_t size = 0;
    int64_t expected = -1;
    for (uint32_t i = 0; i < read->parts_count; i++) {
        ASSERT(read->parts[i].size <= sizeof bytes - size);
        memcpy(bytes + size, read->parts[i].data, read->parts[i].size);
        size += read->parts[i].size;
    }
    ASSERT(size == read->bytes);
    for (uint32_t at = 0; at < size;) {
        struct batch_header header;
        ASSERT(batch_parse(bytes + at, size - at, &header) == OK && header.size_bytes <= size - at);
        ASSERT(batch_crc_ok(bytes + at, header.size_bytes) && header.leader_epoch >= 0);
        int64_t end_offset = header.base_offset + header.last_offset_delta + 1;
        ASSERT(at > 0 ? header.base_offset == expected : header.base_offset <= offset && offset < end_offset);
        expected = end_offset;
        at += header.size_bytes;
    }
}

/* Returns the outcome; *read holds what was served. */
static enum err ask(struct segment_read *read, int64_t offset, uint32_t bytes_max)
{
    read->offset = offset;
    read->bytes_max = bytes_max;
    read->done = on_read;
    bench.is_answered = false;
    enum err error = segment_log_read(bench.log, read);
    if (error == ERR_AGAIN) {
        ram_disk_pump(&bench.disk, JOBS_MAX);
        ASSERT(bench.is_answered);
        error = bench.error;
        ASSERT(error == OK || error == ERR_CORRUPT);
    }
    if (error == OK)
        check_served(read, offset);
    else
        ASSERT(read->parts_count == 0);
    return error;
}

static void check_good(const struct made *made, uint32_t bytes_max)
{
    static struct segment_read read;
    bool index_lies = made->may_pose && made == &input.made[0] && input.index_size > 0;
    uint64_t until = made->manifest_size < made->size ? made->manifest_size : made->size;
    for (unsigned i = 0; i < made->good_count && !index_lies; i++) {
        const struct good *good = &made->good[i];
        if (good->position + good->size > until || good->base_offset >= made->manifest_end)
            return;
        ASSERT(ask(&read, good->base_offset, bytes_max) == OK && read.bytes >= good->size);
        ASSERT(read.parts_count != 1 || read.parts[0].size < good->size ||
               memcmp(read.parts[0].data + BATCH_PREFIX_BYTES, made->bytes + good->position + BATCH_PREFIX_BYTES,
                      good->size - BATCH_PREFIX_BYTES) == 0);
        segment_read_release(&read);
    }
}

static void ask_everywhere(uint32_t bytes_max)
{
    static struct segment_read read;
    int64_t start = segment_log_start(bench.log), next = segment_log_next(bench.log);
    int64_t step = (next - start) / 24 + 1;
    for (int64_t offset = start; offset<next; offset = offset> next - step ? next : offset + step) {
        if (ask(&read, offset, bytes_max) == OK)
            ASSERT(read.bytes > 0);
        segment_read_release(&read);
    }
    ASSERT(ask(&read, next, bytes_max) == OK && read.bytes == 0);
    ASSERT(ask(&read, next + 1, bytes_max) == ERR_OUT_OF_RANGE);
    for (unsigned timestamp = 0; timestamp < 320; timestamp += 40) {
        bench.is_answered = false;
        segment_log_find_time(bench.log, timestamp, on_found, NULL);
        ram_disk_pump(&bench.disk, JOBS_MAX);
        ASSERT(bench.is_answered && (bench.error == OK || bench.error == ERR_CORRUPT));
        ASSERT(bench.error != OK || (bench.offset >= start && bench.offset <= next) || (input.options & 3) != 0);
    }
}

/* --- working on --- */

static void append_and_read(uint8_t batches)
{
    static struct segment_read read;
    for (unsigned i = 0; i < batches; i++) {
        struct batch_header header;
        struct buf *buf = buf_new(BATCH_HEADER_BYTES + 4000);
        int64_t offset = segment_log_next(bench.log);
        uint32_t size = make_batch(buf->data, 0, 4000, 2, 0xee);
        ASSERT(batch_parse(buf->data, size, &header) == OK);
        struct slice slice = slice_of(buf, 0, size);
        segment_log_append(bench.log, slice, &header, offset, 3, 1000);
        slice_unref(&slice);
        buf_unref(buf);
        ASSERT(ask(&read, offset + 1, 1) == OK && read.bytes == size); /* from memory */
        segment_read_release(&read);
    }
    store_force(bench.store);
    store_flush(bench.store);
    ram_disk_pump(&bench.disk, JOBS_MAX);
    ASSERT(store_queued_bytes(bench.store) == 0);
    for (int64_t offset = segment_log_next(bench.log) - 2 * batches; offset < segment_log_next(bench.log);
         offset += 2) {
        enum err error = ask(&read, offset, 1);
        ASSERT(error == OK || input.may_mislead); /* a neighbour may say that the batch begins elsewhere */
        ASSERT(error != OK || read.bytes == BATCH_HEADER_BYTES + 4000 || input.may_mislead);
        segment_read_release(&read);
    }
}

static enum err open_log(int64_t log_start, int64_t next_offset, const struct segment_row *rows, uint32_t rows_count)
{
    const struct segment_log_options options = {.store = bench.store,
                                                .group = GROUP,
                                                .segment_bytes = SEGMENT_BYTES_MIN,
                                                .segment_ms = -1,
                                                .log_start = log_start,
                                                .next_offset = next_offset,
                                                .rows = rows,
                                                .rows_count = rows_count};
    return segment_log_open(&options, &bench.log);
}

/* A checkpoint, an end, a start from it. */
static void restart(void)
{
    struct store_checkpoint *checkpoint = store_checkpoint_new(bench.log);
    struct segment_row rows[SEGMENTS_MAX + 2];
    uint8_t tail[STORE_BLOCK_BYTES];
    int64_t log_start = checkpoint->log_start, next_offset = checkpoint->next_offset;
    uint32_t count = checkpoint->rows_count;
    ram_disk_pump(&bench.disk, JOBS_MAX);
    enum err error = ERR_AGAIN;
    for (unsigned tries = 0; error == ERR_AGAIN; tries++) {
        ASSERT(tries < TRIES_MAX);
        error = store_checkpoint_sync(checkpoint);
    }
    ASSERT(count <= SEGMENTS_MAX + 2 && error == OK);
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = checkpoint->rows[i];
        if (rows[i].tail_size > 0) {
            memcpy(tail, rows[i].tail, rows[i].tail_size);
            rows[i].tail = tail;
        }
    }
    store_checkpoint_done(checkpoint, true);
    ram_disk_pump(&bench.disk, JOBS_MAX);
    segment_log_close(bench.log);
    ASSERT(open_log(log_start, next_offset, rows, count) == OK);
}

static void open_store(void)
{
    static const struct trace silent = {.level = TRACE_ERROR};
    const struct store_options options = {.disk = &bench.disk.disk,
                                          .clock = &bench.disk.clock,
                                          .trace = &silent,
                                          .dir = "parts",
                                          .open_files_max = 2,
                                          .on_written = on_written,
                                          .on_error = on_error};
    ASSERT(store_open(&options, &bench.store) == OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment_row rows[SEGMENTS_MAX];
    input.data = data;
    input.size = size;
    input.options = take();
    input.lie = take();
    uint8_t first = take();
    ram_disk_reset(&bench.disk);
    if (bench.store == NULL)
        open_store();
    make_files((input.options & 0x20) != 0 ? HIGH_OFFSET + first : first);
    put_files(rows);
    int64_t log_start = input.count > 0 ? input.made[0].base_offset : first;
    int64_t next_offset = input.count > 0 ? input.made[input.count - 1].manifest_end : first;
    if (open_log(log_start, next_offset, rows, input.count) != OK)
        return 0;
    uint32_t bytes_max = first % 2 == 0 ? 1 : 100000;
    bool is_whole = (input.options & 0x17) == 0;
    input.may_mislead = (input.options & 3) != 0;
    for (unsigned i = 0; i < input.count; i++)
        input.may_mislead = input.may_mislead || input.made[i].may_pose;
    for (unsigned i = 0; i < input.count && is_whole && !input.may_mislead; i++)
        check_good(&input.made[i], bytes_max);
    ask_everywhere(bytes_max);
    append_and_read(1 + first % 3);
    restart();
    append_and_read(1);
    for (unsigned i = 0; i < input.count && is_whole && !input.may_mislead; i++)
        check_good(&input.made[i], 100000);
    segment_log_close(bench.log);
    ASSERT(bench.disk.handles == 0);
    return 0;
}
