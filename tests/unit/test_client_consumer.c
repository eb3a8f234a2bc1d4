/* The consumer against a broker that misbehaves: every record once, in order, from where it was asked; notices; bounds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_mock.h"
#include "wire/builder.h"
#include "wire/compress.h"

#define BATCH_RECORDS 10u
#define KEPT_MAX      512u

struct fixture {
    uv_loop_t loop;
    uv_timer_t timer;
    struct mock *mock;
    struct flo_client *client;
    struct flo_consumer *consumer;
    struct flo_consumer_options options;
    uint32_t timeout_ms;
    enum flo_error open_error;
    bool closed, finished, unused;
    /* what came */
    int64_t next[MOCK_PARTITIONS_MAX]; /* offset expected next; -1: any */
    int64_t first[MOCK_PARTITIONS_MAX];
    uint32_t records_count;
    uint32_t ends[MOCK_PARTITIONS_MAX];
    uint32_t ends_count;
    struct flo_fetched skip, error;
    uint32_t skips_count, errors_count;
    /* when to stop */
    uint32_t stop_records, stop_ends, stop_errors;
    /* hooks */
    uint32_t step;
    struct flo_fetched kept[KEPT_MAX];
    uint32_t kept_count;
    bool keep;
    void (*on_fetched)(struct fixture *fixture, const struct flo_fetched *fetched);
};

static struct fixture *f;

static void on_closed(void *context)
{
    f->closed = true;
}

static void on_consumer_closed(void *context)
{
    flo_client_close(f->client, on_closed, f);
}

static void finish(void)
{
    if (f->finished)
        return;
    f->finished = true;
    for (uint32_t i = 0; i < f->kept_count; i++)
        flo_fetched_release(f->consumer, &f->kept[i]);
    flo_consumer_close(f->consumer, on_consumer_closed, f);
    mock_stop(f->mock);
    uv_close((uv_handle_t *)&f->timer, NULL);
}

static void take_records(struct flo_fetched *fetched)
{
    struct flo_message message;
    enum flo_error error;
    uint32_t p = fetched->partition;
    while ((error = flo_fetched_next(fetched, &message)) == FLO_OK) {
        char expected[32];
        if (f->next[p] < 0)
            f->first[p] = message.offset;
        else
            assert_int_equal(message.offset, f->next[p]);
        f->next[p] = message.offset + 1;
        int size = snprintf(expected, sizeof expected, "%u:%lld", p, (long long)message.offset);
        assert_int_equal(message.value_size, size);
        assert_memory_equal(message.value, expected, (size_t)size);
        f->records_count++;
    }
    assert_int_equal(error, FLO_AGAIN);
    assert_int_equal(f->next[p], fetched->next_offset);
}

static void take(struct flo_fetched *fetched)
{
    if (fetched->kind == FLO_FETCHED_RECORDS) {
        take_records(fetched);
    } else if (fetched->kind == FLO_FETCHED_END) {
        f->ends[fetched->partition]++;
        f->ends_count++;
    } else if (fetched->kind == FLO_FETCHED_SKIP) {
        f->skip = *fetched;
        f->skips_count++;
    } else {
        f->error = *fetched;
        f->errors_count++;
    }
    if (f->on_fetched != NULL)
        f->on_fetched(f, fetched);
}

static bool is_enough(void)
{
    return (f->stop_records > 0 && f->records_count >= f->stop_records) ||
           (f->stop_ends > 0 && f->ends_count >= f->stop_ends) ||
           (f->stop_errors > 0 && f->errors_count >= f->stop_errors);
}

static void on_readable(void *context)
{
    struct flo_fetched fetched;
    while (!f->finished && flo_consumer_next(f->consumer, &fetched) == FLO_OK) {
        take(&fetched);
        if (f->keep && fetched.kind == FLO_FETCHED_RECORDS && f->kept_count < KEPT_MAX)
            f->kept[f->kept_count++] = fetched;
        else
            flo_fetched_release(f->consumer, &fetched);
        if (is_enough())
            finish();
    }
}

static void on_open(void *context, enum flo_error error)
{
    f->open_error = error;
    if (error != FLO_OK)
        finish();
}

static void set_partitions(uint32_t count)
{
    f->mock->partitions_count = count;
    for (uint32_t i = 0; i < count; i++)
        f->mock->partitions[i].group = MOCK_GROUP_FIRST + i;
}

/* Batches of ten records "partition:offset", record k of the partition with timestamp k. */
static void store(uint32_t p, uint32_t batches_count, enum batch_codec codec)
{
    struct mock_partition *partition = &f->mock->partitions[p];
    struct compressor compressor = {0};
    static uint8_t memory[8192], compressed[128 << 10];
    static uint8_t key[100]; /* something to compress */
    for (uint32_t i = 0; i < batches_count; i++) {
        struct batch_builder builder;
        batch_builder_begin(&builder, memory, sizeof memory);
        for (uint32_t k = 0; k < BATCH_RECORDS; k++) {
            char value[32];
            int64_t offset = partition->next_offset + k;
            int size = snprintf(value, sizeof value, "%u:%lld", p, (long long)offset);
            struct record record = {.key = {key, codec == CODEC_LZ4 ? sizeof key : 1},
                                    .value = {(uint8_t *)value, (uint32_t)size},
                                    .timestamp = offset};
            assert_int_equal(batch_builder_append(&builder, &record), OK);
        }
        uint32_t size = batch_builder_finish(&builder);
        uint8_t *batch = memory;
        if (codec == CODEC_LZ4) {
            assert_int_equal(batch_compress(&compressor, codec, memory, size, compressed, sizeof compressed, &size),
                             OK);
            batch = compressed;
        }
        batch_seal(batch, size);
        mock_store(partition, batch, size);
    }
    compressor_deinit(&compressor);
}

static int setup(void **state)
{
    f = calloc(1, sizeof *f);
    uv_loop_init(&f->loop);
    uv_timer_init(&f->loop, &f->timer);
    f->mock = mock_new(&f->loop, 1);
    f->timeout_ms = 30000;
    for (uint32_t i = 0; i < MOCK_PARTITIONS_MAX; i++)
        f->next[i] = f->first[i] = -1;
    flo_consumer_options_init(&f->options);
    f->options.topic = "t";
    f->options.on_open = on_open;
    f->options.on_readable = on_readable;
    return 0;
}

static int teardown(void **state)
{
    mock_free(f->mock);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    free(f);
    return 0;
}

static void run(void)
{
    struct flo_client_options options;
    flo_client_options_init(&options);
    options.brokers = f->mock->address;
    options.timeout_ms = f->timeout_ms;
    options.connect_timeout_ms = 200;
    assert_int_equal(flo_client_new(&f->loop, &options, &f->client), FLO_OK);
    assert_int_equal(flo_consumer_open(f->client, &f->options, &f->consumer), FLO_OK);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->closed);
}

static void reads_everything_to_the_end(void **state)
{
    store(0, 100, CODEC_NONE);
    f->stop_ends = 1;
    run();
    assert_int_equal(f->first[0], 0);
    assert_int_equal(f->records_count, 1000);
}

static void reads_all_partitions(void **state)
{
    set_partitions(4);
    for (uint32_t p = 0; p < 3; p++)
        store(p, 20 * (p + 1), CODEC_NONE); /* the fourth is empty: its end comes, too */
    f->stop_ends = 4;
    run();
    assert_int_equal(f->records_count, 1200);
    for (uint32_t p = 0; p < 4; p++)
        assert_int_equal(f->ends[p], 1);
}

static void reads_one_partition(void **state)
{
    set_partitions(4);
    store(2, 5, CODEC_NONE);
    f->options.partition = 2;
    f->stop_ends = 1;
    run();
    assert_int_equal(f->records_count, 50);
}

static void fetches_in_small_pieces(void **state)
{
    store(0, 2000, CODEC_NONE);
    f->options.fetch_bytes = 16 << 10;
    f->stop_ends = 1;
    run();
    assert_int_equal(f->records_count, 20000);
    assert_true(f->mock->fetches > 10);
}

static void opens_compressed_batches(void **state)
{
    store(0, 30, CODEC_LZ4);
    store(0, 30, CODEC_NONE);
    store(0, 30, CODEC_LZ4);
    f->stop_ends = 1;
    f->keep = true; /* opened batches must not share memory */
    run();
    assert_int_equal(f->records_count, 900);
}

static void start_at(enum flo_start start, int64_t value, int64_t expected_first)
{
    store(0, 100, CODEC_NONE);
    f->options.start = start;
    f->options.start_value = value;
    f->stop_ends = 1;
    run();
    assert_int_equal(f->first[0], expected_first);
    assert_int_equal(f->records_count, expected_first < 0 ? 0 : 1000 - expected_first);
}

static void starts_at_an_offset_inside_a_batch(void **state)
{
    start_at(FLO_START_OFFSET, 437, 437);
}

static void starts_at_the_end(void **state)
{
    start_at(FLO_START_LATEST, 0, -1);
}

static void starts_before_the_end(void **state)
{
    start_at(FLO_START_TAIL, 15, 985);
}

static void starts_before_the_end_at_most_at_the_start(void **state)
{
    start_at(FLO_START_TAIL, 100000, 0);
}

static void starts_at_a_time(void **state)
{
    start_at(FLO_START_TIME, 555, 550); /* the mock answers with the batch's start */
}

static void starts_at_the_end_for_a_time_to_come(void **state)
{
    start_at(FLO_START_TIME, 5000, -1);
}

static void starts_at_the_high_watermark_itself(void **state)
{
    start_at(FLO_START_OFFSET, 1000, -1);
}

static void on_timer_store(uv_timer_t *timer)
{
    store(0, 1, CODEC_NONE);
    mock_wake_readers(f->mock);
}

static void waits_for_what_comes(void **state)
{
    store(0, 1, CODEC_NONE);
    uv_timer_start(&f->timer, on_timer_store, 30, 20);
    f->stop_records = 50;
    run();
    assert_int_equal(f->first[0], 0);
    assert_int_equal(f->ends[0], 4); /* said each time the end is reached */
}

static int fetch_trouble(struct mock *mock, uint32_t partition, const FetchRequest *request)
{
    static const int trouble[] = {ERR_NOT_LEADER, MOCK_DROP_BEFORE, ERR_NOT_READY,         ERR_BUSY,
                                  ERR_CORRUPT,    MOCK_STORE,       ERR_UNKNOWN_PARTITION, MOCK_DROP_BEFORE};
    return f->step < 24 ? trouble[f->step++ % 8] : MOCK_STORE;
}

static void survives_trouble(void **state)
{
    store(0, 2000, CODEC_NONE);
    f->options.fetch_bytes = 16 << 10;
    f->mock->on_fetch = fetch_trouble;
    f->stop_ends = 1;
    run();
    assert_int_equal(f->records_count, 20000);
    assert_int_equal(f->errors_count, 0);
}

static void restart(uv_timer_t *timer)
{
    if (!f->mock->listening)
        mock_listen(f->mock);
    else if (f->step++ < 2)
        mock_stop(f->mock);
    else
        uv_timer_stop(timer);
    if (f->step >= 3)
        store(0, 1, CODEC_NONE); /* 20 batches, then this: the reader is through when it has them */
}

static void survives_restarts_of_the_broker(void **state)
{
    store(0, 20, CODEC_NONE);
    uv_timer_start(&f->timer, restart, 10, 20);
    f->stop_records = 210;
    run();
    assert_int_equal(f->records_count, 210);
}

static int not_ready(struct mock *mock, uint32_t partition, const FetchRequest *request)
{
    return ERR_NOT_READY;
}

static void reports_trouble_that_lasts(void **state)
{
    f->timeout_ms = 200;
    f->mock->on_fetch = not_ready;
    store(0, 1, CODEC_NONE);
    f->stop_errors = 1;
    run();
    assert_int_equal(f->error.error, FLO_NOT_READY);
}

static void finds_a_flipped_bit(void **state)
{
    store(0, 10, CODEC_NONE);
    f->mock->partitions[0].batches[5].data[80] ^= 1;
    f->stop_errors = 1;
    run();
    assert_int_equal(f->error.error, FLO_CORRUPT_BATCH);
    assert_int_equal(f->error.base_offset, 50);
    assert_int_equal(f->records_count, 50); /* all that lies before it */
}

static void skips_what_is_no_longer_stored(void **state)
{
    store(0, 10, CODEC_NONE);
    f->mock->partitions[0].log_start = 40;
    f->options.start = FLO_START_OFFSET;
    f->options.start_value = 15;
    f->stop_ends = 1;
    run();
    assert_int_equal(f->skips_count, 1);
    assert_int_equal(f->skip.base_offset, 15);
    assert_int_equal(f->skip.next_offset, 40);
    assert_int_equal(f->first[0], 40);
    assert_int_equal(f->records_count, 60);
}

static void reports_an_offset_beyond_the_end(void **state)
{
    store(0, 10, CODEC_NONE);
    f->options.start = FLO_START_OFFSET;
    f->options.start_value = 101;
    f->stop_errors = 1;
    run();
    assert_int_equal(f->error.error, FLO_OUT_OF_RANGE);
}

static void remake_topic(struct fixture *fixture, const struct flo_fetched *fetched)
{
    /* At the end: the poll that waits is dropped, and the group is another one. */
    if (fetched->kind == FLO_FETCHED_END) {
        f->mock->partitions[0].group += 1000;
        mock_drop_all(f->mock);
    }
}

static void reports_a_topic_made_anew(void **state)
{
    store(0, 1, CODEC_NONE);
    f->on_fetched = remake_topic;
    f->stop_errors = 1;
    run();
    assert_int_equal(f->error.error, FLO_UNKNOWN_PARTITION);
}

static void hides_control_batches(void **state)
{
    store(0, 3, CODEC_NONE);
    struct mock_batch *batch = &f->mock->partitions[0].batches[1];
    batch->data[22] |= 0x20; /* attributes: control */
    batch_seal(batch->data, batch->size);
    f->next[0] = -1;
    f->options.start = FLO_START_OFFSET;
    f->options.start_value = 10; /* only the control batch and the one behind it */
    f->stop_ends = 1;
    run();
    assert_int_equal(f->first[0], 20);
    assert_int_equal(f->records_count, 10);
}

static void on_timer_stop(uv_timer_t *timer)
{
    finish();
}

static void stops_fetching_when_nothing_is_released(void **state)
{
    store(0, 2000, CODEC_NONE);
    f->options.prefetch_bytes = 32 << 10;
    f->options.fetch_bytes = 16 << 10;
    f->keep = true;
    uv_timer_start(&f->timer, on_timer_stop, 100, 0);
    run();
    /* 400 KiB are there: two fetches of 16 KiB fill the bound, the third may have been under way. */
    assert_true(f->mock->fetches <= 4);
    assert_true(f->records_count < 5000);
}

static void unknown_topic_fails_the_opening(void **state)
{
    f->mock->topic_exists = false;
    run();
    assert_int_equal(f->open_error, FLO_UNKNOWN_TOPIC);
}

static void unknown_partition_fails_the_opening(void **state)
{
    f->options.partition = 3;
    run();
    assert_int_equal(f->open_error, FLO_UNKNOWN_PARTITION);
}

static void may_be_closed_while_it_waits(void **state)
{
    uv_timer_start(&f->timer, on_timer_stop, 30, 0);
    run();
    assert_int_equal(f->ends_count, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(reads_everything_to_the_end),
        TEST(reads_all_partitions),
        TEST(reads_one_partition),
        TEST(fetches_in_small_pieces),
        TEST(opens_compressed_batches),
        TEST(starts_at_an_offset_inside_a_batch),
        TEST(starts_at_the_end),
        TEST(starts_before_the_end),
        TEST(starts_before_the_end_at_most_at_the_start),
        TEST(starts_at_a_time),
        TEST(starts_at_the_end_for_a_time_to_come),
        TEST(starts_at_the_high_watermark_itself),
        TEST(waits_for_what_comes),
        TEST(survives_trouble),
        TEST(survives_restarts_of_the_broker),
        TEST(reports_trouble_that_lasts),
        TEST(finds_a_flipped_bit),
        TEST(skips_what_is_no_longer_stored),
        TEST(reports_an_offset_beyond_the_end),
        TEST(reports_a_topic_made_anew),
        TEST(hides_control_batches),
        TEST(stops_fetching_when_nothing_is_released),
        TEST(unknown_topic_fails_the_opening),
        TEST(unknown_partition_fails_the_opening),
        TEST(may_be_closed_while_it_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
