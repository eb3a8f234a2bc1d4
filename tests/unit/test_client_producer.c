/* The producer against a broker that misbehaves: order, exactly one copy, exactly one callback, whatever happens in
 * between. */
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "client_mock.h"

#define RECORDS_MAX 20000u

struct fixture {
    uv_loop_t loop;
    struct mock *mock;
    struct flo_client *client;
    struct flo_producer *producer;
    struct flo_producer_options options;
    uint32_t timeout_ms;
    /* what to send: records 0 .. records_count - 1, the value is the number */
    uint32_t records_count;
    uint32_t sent;
    uint32_t records_later; /* sent when all of records_count have been delivered */
    uint32_t value_padding;
    int32_t partition;
    enum flo_error open_error;
    bool opened;
    uint32_t fulls;
    uint32_t writables;
    uint32_t callbacks[RECORDS_MAX]; /* per record */
    enum flo_error errors[RECORDS_MAX];
    int64_t offsets[RECORDS_MAX];
    int32_t partitions[RECORDS_MAX];
    uint32_t ok_count, error_count;
    bool flushed;
    bool closed;
    bool unused; /* made, but not run */
    void (*on_delivery)(struct fixture *f, const struct flo_delivery *delivery);
    /* for hooks */
    struct rng rng;
    uint32_t step;
    uint32_t first_tries;
    int32_t tried_counts[RECORDS_MAX]; /* by sequence */
    uint32_t in_flight, in_flight_max;
    uv_timer_t timer;
};

static struct fixture *f;

static void on_closed(void *context)
{
    ((struct fixture *)context)->closed = true;
}

static void on_producer_closed(void *context)
{
    flo_client_close(((struct fixture *)context)->client, on_closed, context);
}

static void finish(struct fixture *fixture)
{
    flo_producer_close(fixture->producer, on_producer_closed, fixture);
    mock_stop(fixture->mock);
    uv_close((uv_handle_t *)&fixture->timer, NULL);
}

static void on_flushed(void *context)
{
    struct fixture *fixture = context;
    fixture->flushed = true;
    finish(fixture);
}

static void fill(void *context)
{
    struct fixture *fixture = context;
    char value[4096];
    fixture->writables++;
    while (fixture->sent < fixture->records_count) {
        memset(value, 'x', sizeof value);
        int size = snprintf(value, 32, "%u ", fixture->sent);
        struct flo_record record = {
            .value = value,
            .value_size = (size_t)size + fixture->value_padding,
            .timestamp_ms = FLO_NOW,
            .partition = fixture->partition,
            .tag = fixture->sent,
        };
        enum flo_error error = flo_producer_send(fixture->producer, &record);
        if (error == FLO_FULL) {
            fixture->fulls++;
            return;
        }
        if (error != FLO_OK) {
            fixture->errors[fixture->sent] = error;
            fixture->error_count++;
        }
        fixture->sent++;
    }
    if (!fixture->flushed && fixture->records_later == 0)
        flo_producer_flush(fixture->producer, on_flushed, fixture);
}

static void on_open(void *context, enum flo_error error)
{
    struct fixture *fixture = context;
    fixture->opened = true;
    fixture->open_error = error;
    if (error != FLO_OK)
        finish(fixture);
}

static void on_delivered(void *context, const struct flo_delivery *delivery)
{
    struct fixture *fixture = context;
    for (uint32_t i = 0; i < delivery->records_count; i++) {
        uint64_t tag = delivery->tags[i];
        assert_true(tag < fixture->sent || tag == fixture->sent);
        fixture->callbacks[tag]++;
        fixture->errors[tag] = delivery->error;
        fixture->partitions[tag] = (int32_t)delivery->partition;
        fixture->offsets[tag] = delivery->base_offset < 0 ? -1 : delivery->base_offset + i;
    }
    *(delivery->error == FLO_OK ? &fixture->ok_count : &fixture->error_count) += delivery->records_count;
    if (fixture->records_later > 0 && fixture->ok_count + fixture->error_count == fixture->records_count) {
        fixture->records_count += fixture->records_later;
        fixture->records_later = 0;
        fill(fixture);
    }
    if (fixture->on_delivery != NULL)
        fixture->on_delivery(fixture, delivery);
}

static void make_fixture(void)
{
    f = calloc(1, sizeof *f);
    uv_loop_init(&f->loop);
    uv_timer_init(&f->loop, &f->timer);
    f->timer.data = f;
    f->mock = mock_new(&f->loop, 1);
    f->mock->context = f;
    f->timeout_ms = 30000;
    f->records_count = 1000;
    f->value_padding = 50; /* about 30 records a batch */
    f->partition = FLO_ANY_PARTITION;
    flo_producer_options_init(&f->options);
    f->options.topic = "t";
    f->options.batch_bytes = 2048;
    f->options.linger_ms = 1;
    f->options.tags = true;
    f->options.context = f;
    f->options.on_open = on_open;
    f->options.on_writable = fill;
    f->options.on_delivered = on_delivered;
}

static void free_fixture(void)
{
    mock_free(f->mock);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    free(f);
    f = NULL;
}

static int setup(void **state)
{
    make_fixture();
    return 0;
}

static int teardown(void **state)
{
    if (f->unused) {
        mock_stop(f->mock);
        uv_close((uv_handle_t *)&f->timer, NULL);
        uv_run(&f->loop, UV_RUN_DEFAULT);
    }
    free_fixture();
    return 0;
}

/* For tests that run more than once; the last run leaves nothing behind. */
static void start_over(void)
{
    free_fixture();
    make_fixture();
    f->unused = true;
}

static void run(void)
{
    struct flo_client_options options;
    f->unused = false;
    flo_client_options_init(&options);
    options.brokers = f->mock->address;
    options.timeout_ms = f->timeout_ms;
    options.connect_timeout_ms = 200;
    assert_int_equal(flo_client_new(&f->loop, &options, &f->client), FLO_OK);
    assert_int_equal(flo_producer_open(f->client, &f->options, &f->producer), FLO_OK);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(f->closed);
}

static uint32_t number_of(const struct record_view *record)
{
    char text[16] = {0};
    memcpy(text, record->value.data, record->value.size < 15 ? record->value.size : 15);
    return (uint32_t)strtoul(text, NULL, 10);
}

/* Every record that was acknowledged is in the log at its offset, once; numbers rise within a partition. */
struct check {
    uint32_t partition;
    int64_t last;
    uint32_t seen[RECORDS_MAX];
    uint32_t stored_count;
};

static void check_record(void *context, const struct record_view *record)
{
    struct check *check = context;
    uint32_t number = number_of(record);
    assert_true((int64_t)number > check->last);
    check->last = number;
    check->seen[number]++;
    check->stored_count++;
    assert_int_equal(check->seen[number], 1);
    if (f->errors[number] == FLO_OK && f->options.acks == FLO_ACKS_ALL) {
        assert_int_equal(f->partitions[number], check->partition);
        assert_int_equal(f->offsets[number], record->offset);
    }
}

static uint32_t check_log(void)
{
    struct check *check = calloc(1, sizeof *check);
    for (uint32_t p = 0; p < f->mock->partitions_count; p++) {
        check->partition = p;
        check->last = -1;
        mock_each_record(&f->mock->partitions[p], check_record, check);
    }
    for (uint32_t i = 0; i < f->records_count; i++) {
        assert_int_equal(f->callbacks[i], 1);
        if (f->errors[i] == FLO_OK)
            assert_int_equal(check->seen[i], 1);
    }
    uint32_t stored_count = check->stored_count;
    free(check);
    return stored_count;
}

static void expect_all_stored(void)
{
    assert_int_equal(f->ok_count, f->records_count);
    assert_int_equal(f->error_count, 0);
    assert_int_equal(check_log(), f->records_count);
}

/* ---- the quiet life ---- */

static void stores_in_order(void **state)
{
    run();
    expect_all_stored();
    assert_int_equal(f->mock->hellos, 1);
}

static void spreads_over_partitions(void **state)
{
    f->mock->partitions_count = 4;
    for (uint32_t i = 1; i < 4; i++)
        f->mock->partitions[i].group = MOCK_GROUP_FIRST + i;
    run();
    expect_all_stored();
    for (uint32_t i = 0; i < 4; i++)
        assert_true(f->mock->partitions[i].batches_count > 0);
}

static void compresses(void **state)
{
    f->options.codec = FLO_CODEC_LZ4;
    f->value_padding = 100;
    run();
    expect_all_stored();
    assert_int_equal(batch_codec(&f->mock->partitions[0].batches[0].header), CODEC_LZ4);
}

static void sends_at_once_without_linger(void **state)
{
    f->options.linger_ms = 0;
    f->records_count = 1;
    run();
    expect_all_stored();
}

static int count_in_flight(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    f->in_flight++;
    if (f->in_flight > f->in_flight_max)
        f->in_flight_max = f->in_flight;
    return MOCK_HOLD;
}

static void release_held(uv_timer_t *timer)
{
    f->in_flight = 0;
    mock_release(f->mock);
}

static void keeps_five_in_flight(void **state)
{
    f->mock->on_produce = count_in_flight;
    uv_timer_start(&f->timer, release_held, 20, 20);
    run();
    expect_all_stored();
    assert_int_equal(f->in_flight_max, 5);
}

static void says_full_and_writable(void **state)
{
    f->options.memory_bytes = 4 * 2048;
    f->mock->on_produce = count_in_flight;
    uv_timer_start(&f->timer, release_held, 5, 5);
    run();
    expect_all_stored();
    assert_true(f->fulls >= 3);
    assert_int_equal(f->writables, f->fulls + 1);
}

static void carries_large_records(void **state)
{
    f->value_padding = 4000; /* above batch_bytes */
    f->records_count = 20;
    run();
    expect_all_stored();
    assert_int_equal(f->mock->partitions[0].batches_count, 20);
}

static void refuses_what_no_batch_holds(void **state)
{
    f->mock->max_batch_bytes = 1000;
    f->value_padding = 2000;
    f->records_count = 2;
    run();
    assert_int_equal(f->errors[0], FLO_TOO_LARGE);
    assert_int_equal(f->ok_count, 0);
}

struct seen_record {
    bool matches;
};

static void check_parts(void *context, const struct record_view *record)
{
    struct seen_record *seen = context;
    struct record_view copy = *record;
    struct record_header header;
    assert_int_equal(record->key.size, 3);
    assert_memory_equal(record->key.data, "key", 3);
    assert_null(record->value.data);
    assert_int_equal(record->timestamp, 12345);
    assert_true(record_next_header(&copy, &header));
    assert_memory_equal(header.key.data, "h", 1);
    assert_null(header.value.data);
    assert_false(record_next_header(&copy, &header));
    seen->matches = true;
}

static void send_parts(void *context)
{
    struct flo_header header = {.key = "h", .key_size = 1};
    struct flo_record record = {.key = "key",
                                .key_size = 3,
                                .headers = &header,
                                .headers_count = 1,
                                .timestamp_ms = 12345,
                                .partition = FLO_ANY_PARTITION};
    if (f->sent++ > 0)
        return;
    assert_int_equal(flo_producer_send(f->producer, &record), FLO_OK);
    record.partition = 5;
    assert_int_equal(flo_producer_send(f->producer, &record), FLO_UNKNOWN_PARTITION);
    assert_int_equal(flo_producer_flush(f->producer, on_flushed, f), FLO_OK);
    assert_int_equal(flo_producer_flush(f->producer, on_flushed, f), FLO_BUSY);
}

static void carries_key_null_headers_timestamp(void **state)
{
    struct seen_record seen = {0};
    f->options.on_writable = send_parts;
    run();
    mock_each_record(&f->mock->partitions[0], check_parts, &seen);
    assert_true(seen.matches);
}

static int check_anonymous(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    assert_int_equal(header->producer_id, -1);
    assert_int_equal(header->base_sequence, -1);
    return MOCK_STORE;
}

static void acks_leader_and_none_carry_no_producer(void **state)
{
    f->options.acks = FLO_ACKS_LEADER;
    f->mock->on_produce = check_anonymous;
    run();
    expect_all_stored();
    assert_int_equal(f->mock->inits, 0);
    assert_int_equal(f->offsets[0], -1);
}

static void acks_none_is_delivered_when_written(void **state)
{
    f->options.acks = FLO_ACKS_NONE;
    f->mock->on_produce = check_anonymous;
    run();
    assert_int_equal(f->ok_count, f->records_count);
    assert_int_equal(f->offsets[0], -1);
}

/* ---- trouble that passes ---- */

/* The status in `step` for the first ten tries; every try of a sequence must be the same batch. */
static int refuse_at_first(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    assert_true(header->base_sequence >= 0 && (uint32_t)header->base_sequence < f->records_count);
    int32_t *count = &f->tried_counts[header->base_sequence];
    assert_true(*count == 0 || *count == header->records_count);
    *count = header->records_count;
    f->first_tries += header->base_sequence == 0;
    return f->mock->produces <= 10 ? (int)f->step : MOCK_STORE;
}

static void retries_with_the_same_sequences(void **state)
{
    static const enum err statuses[] = {ERR_NOT_READY,     ERR_BUSY,    ERR_NOT_LEADER,      ERR_STORAGE_FULL,
                                        ERR_SHUTTING_DOWN, ERR_TIMEOUT, ERR_UNKNOWN_OUTCOME, ERR_UNKNOWN_PARTITION};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        f->step = statuses[i];
        f->mock->on_produce = refuse_at_first;
        run();
        expect_all_stored();
        assert_true(f->first_tries >= 2);
        start_over();
    }
}

static int drop_some(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    switch (f->mock->produces) {
    case 2:
        return MOCK_DROP_BEFORE;
    case 6:
        return MOCK_DROP_AFTER;
    case 12:
        return MOCK_DROP_AFTER;
    default:
        return MOCK_STORE;
    }
}

static void survives_lost_connections(void **state)
{
    f->mock->on_produce = drop_some;
    run();
    expect_all_stored();
    assert_int_equal(f->mock->connections_count, 4);
}

static void restart(uv_timer_t *timer)
{
    if (!f->mock->listening)
        mock_listen(f->mock);
    else if (f->step++ < 3)
        mock_stop(f->mock);
    else
        uv_timer_stop(timer);
}

static void survives_restarts_of_the_broker(void **state)
{
    f->records_count = RECORDS_MAX;
    f->options.memory_bytes = 16 * 2048;
    uv_timer_start(&f->timer, restart, 5, 30);
    run();
    expect_all_stored();
    assert_true(f->mock->connections_count >= 2);
}

static int random_trouble(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    static const int trouble[] = {MOCK_DROP_BEFORE, MOCK_DROP_AFTER, ERR_NOT_READY,       ERR_BUSY,
                                  ERR_NOT_LEADER,   ERR_TIMEOUT,     ERR_UNKNOWN_OUTCOME, ERR_STORAGE_FULL};
    if (rng_chance(&f->rng, 0.1))
        return trouble[rng_below(&f->rng, sizeof trouble / sizeof trouble[0])];
    return MOCK_STORE;
}

static int random_metadata(struct mock *mock)
{
    return rng_chance(&f->rng, 0.2) ? MOCK_DROP_BEFORE : MOCK_STORE;
}

static void random_trouble_loses_and_doubles_nothing(void **state)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        rng_seed(&f->rng, seed);
        f->mock->partitions_count = 1 + (uint32_t)(seed % 4);
        for (uint32_t i = 1; i < 4; i++)
            f->mock->partitions[i].group = MOCK_GROUP_FIRST + i;
        f->options.linger_ms = seed % 2;
        f->options.codec = seed % 3 == 0 ? FLO_CODEC_LZ4 : FLO_CODEC_NONE;
        f->options.name = seed % 2 == 0 ? "named" : NULL;
        f->records_count = 3000;
        f->mock->on_produce = random_trouble;
        f->mock->on_metadata = random_metadata;
        run();
        expect_all_stored();
        start_over();
    }
}

/* ---- trouble that does not pass ---- */

static int refuse_one_for_good(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    /* Renumbering gives its sequences to the next batch: count tries, not sequences. */
    return f->mock->produces == 3 ? ERR_CORRUPT_BATCH : MOCK_STORE;
}

static void goes_on_behind_a_refused_batch(void **state)
{
    f->mock->on_produce = refuse_one_for_good;
    run();
    assert_true(f->error_count > 0);
    assert_int_equal(f->ok_count + f->error_count, f->records_count);
    assert_int_equal(check_log(), f->ok_count);
    assert_int_equal(f->mock->inits, 1); /* same id: only the numbers moved up */
}

static int never_answer_first(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    return header->producer_id == 1000 ? MOCK_SILENT : MOCK_STORE;
}

static void deadline_gives_up_and_takes_a_new_id(void **state)
{
    f->timeout_ms = 300;
    f->records_count = 200;
    f->records_later = 100;
    f->mock->on_produce = never_answer_first;
    run();
    assert_int_equal(f->error_count, 200);
    assert_int_equal(f->ok_count, 100);
    assert_int_equal(f->ok_count + f->error_count, f->records_count);
    for (uint32_t i = 0; i < f->records_count; i++)
        assert_true(f->errors[i] == FLO_OK || f->errors[i] == FLO_TIMEOUT);
    assert_int_equal(check_log(), f->ok_count);
    assert_int_equal(f->mock->inits, 2);
}

static int never_answer(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    return MOCK_SILENT;
}

static void deadline_fails_a_named_producer(void **state)
{
    f->timeout_ms = 300;
    f->options.name = "named";
    f->mock->on_produce = never_answer;
    run();
    assert_int_equal(f->ok_count, 0);
    for (uint32_t i = 0; i < f->records_count; i++)
        assert_int_equal(f->errors[i], FLO_TIMEOUT);
    assert_int_equal(f->mock->inits, 1);
}

static int not_ready(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    return ERR_NOT_READY;
}

static void deadline_reports_the_refusal(void **state)
{
    f->timeout_ms = 300;
    f->mock->on_produce = not_ready;
    run();
    assert_int_equal(f->error_count, f->records_count);
    assert_int_equal(f->errors[0], FLO_NOT_READY); /* not "unknown": nothing was stored */
    assert_int_equal(f->mock->inits, 1);
}

static int forget_producers(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    if (f->mock->produces == 10)
        f->mock->partitions[0].producers_count = 0;
    return MOCK_STORE;
}

static void forgotten_anonymous_producer_takes_a_new_id(void **state)
{
    f->mock->on_produce = forget_producers;
    run();
    expect_all_stored();
    assert_int_equal(f->mock->inits, 2);
}

static void forgotten_named_producer_fails(void **state)
{
    f->mock->on_produce = forget_producers;
    f->options.name = "named";
    run();
    assert_true(f->ok_count > 0);
    assert_int_equal(f->ok_count + f->error_count, f->records_count);
    assert_int_equal(f->errors[f->records_count - 1], FLO_UNKNOWN_PRODUCER);
    assert_int_equal(f->mock->inits, 1);
}

static int fence(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    return f->mock->produces >= 5 ? ERR_FENCED : MOCK_STORE;
}

static void fenced_producer_fails_for_good(void **state)
{
    f->mock->on_produce = fence;
    f->options.name = "named";
    run();
    assert_int_equal(f->errors[f->records_count - 1], FLO_FENCED);
    assert_int_equal(f->ok_count + f->error_count, f->records_count);
}

/* The topic is deleted and made again: another group id, nothing of ours in it. */
static int remake_topic(struct mock *mock, uint32_t partition, const struct batch_header *header)
{
    if (f->mock->produces == 5) {
        struct mock_partition *p = &f->mock->partitions[0];
        p->group += 1000;
        p->producers_count = 0;
        for (uint32_t i = 0; i < p->batches_count; i++)
            free(p->batches[i].data);
        p->batches_count = 0;
        p->next_offset = 0;
        return ERR_UNKNOWN_PARTITION;
    }
    return MOCK_STORE;
}

static void check_rising(void *context, const struct record_view *record)
{
    int64_t *last = context;
    assert_true((int64_t)number_of(record) > *last);
    *last = number_of(record);
}

static void goes_on_in_a_topic_made_anew(void **state)
{
    int64_t last = -1;
    f->mock->on_produce = remake_topic;
    run();
    assert_int_equal(f->ok_count, f->records_count);
    mock_each_record(&f->mock->partitions[0], check_rising, &last);
    assert_int_equal(last, f->records_count - 1);
}

/* ---- opening and closing ---- */

static void unknown_topic_fails_the_opening(void **state)
{
    f->mock->topic_exists = false;
    run();
    assert_int_equal(f->open_error, FLO_UNKNOWN_TOPIC);
    assert_int_equal(f->ok_count + f->error_count, 0);
}

static void nobody_there_fails_the_opening(void **state)
{
    mock_stop(f->mock);
    run();
    assert_int_equal(f->open_error, FLO_REFUSED);
}

static void on_timer_listen(uv_timer_t *timer)
{
    mock_listen(f->mock);
}

static void waits_for_a_broker_that_starts(void **state)
{
    mock_stop(f->mock);
    uv_timer_start(&f->timer, on_timer_listen, 50, 0);
    run();
    expect_all_stored();
}

static void close_now(struct fixture *fixture, const struct flo_delivery *delivery)
{
    finish(fixture);
}

static void may_be_closed_in_a_callback(void **state)
{
    f->on_delivery = close_now;
    run();
    assert_true(f->ok_count > 0);
    assert_true(f->ok_count < f->records_count);
}

static void on_timer_close(uv_timer_t *timer)
{
    finish(f);
}

static void may_be_closed_with_everything_under_way(void **state)
{
    f->mock->on_produce = never_answer;
    uv_timer_start(&f->timer, on_timer_close, 30, 0);
    run();
    assert_int_equal(f->ok_count + f->error_count, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(stores_in_order),
        TEST(spreads_over_partitions),
        TEST(compresses),
        TEST(sends_at_once_without_linger),
        TEST(keeps_five_in_flight),
        TEST(says_full_and_writable),
        TEST(carries_large_records),
        TEST(refuses_what_no_batch_holds),
        TEST(carries_key_null_headers_timestamp),
        TEST(acks_leader_and_none_carry_no_producer),
        TEST(acks_none_is_delivered_when_written),
        TEST(retries_with_the_same_sequences),
        TEST(survives_lost_connections),
        TEST(survives_restarts_of_the_broker),
        TEST(random_trouble_loses_and_doubles_nothing),
        TEST(goes_on_behind_a_refused_batch),
        TEST(deadline_gives_up_and_takes_a_new_id),
        TEST(deadline_fails_a_named_producer),
        TEST(deadline_reports_the_refusal),
        TEST(forgotten_anonymous_producer_takes_a_new_id),
        TEST(forgotten_named_producer_fails),
        TEST(fenced_producer_fails_for_good),
        TEST(goes_on_in_a_topic_made_anew),
        TEST(unknown_topic_fails_the_opening),
        TEST(nobody_there_fails_the_opening),
        TEST(waits_for_a_broker_that_starts),
        TEST(may_be_closed_in_a_callback),
        TEST(may_be_closed_with_everything_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
