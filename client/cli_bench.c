/* `flotilla bench produce | consume | roundtrip`: measures with the library as an application would use it, everything
 * on one loop.
 *
 *   produce    as fast as the broker takes it, or at --rate; latency from flo_producer_send (with --rate: from the time
 * the record was due, so that a stall is not hidden by the records it kept from being sent) to the acknowledgement
 *   roundtrip  one record at a time and no linger; the same latency
 *   consume    from the beginning; latency is the time between two batches handed out
 * --producers N: each has a connection of its own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/rng.h"
#include "client/cli.h"
#include "client/histogram.h"

#define PAYLOAD_BYTES      (1u << 20)
#define PRODUCERS_MAX      1000u
#define RECORDS_DEFAULT    1000000u
#define ROUNDTRIPS_DEFAULT 10000u
#define SIZE_DEFAULT       100u
#define MEMORY_BYTES       ((uint64_t)4 << 20) /* per producer: more would only queue here, and count as latency */
#define RATE_TICK_MS       1u
#define FILL_RECORDS       4096u /* sent between two looks at the network */

enum bench_kind { BENCH_PRODUCE, BENCH_ROUNDTRIP, BENCH_CONSUME };

struct bench;

struct worker {
    struct bench *bench;
    struct flo_client *client;
    struct flo_producer *producer;
    bool ready; /* open, and not full */
    bool done;
};

struct bench {
    struct cli *cli;
    enum bench_kind kind;
    const char *topic;
    uint64_t records; /* to do; 0: no bound */
    uint64_t rate;
    uint32_t size;
    uint32_t seconds_ms;
    int32_t partition;
    uint32_t workers_count;
    struct flo_producer_options options;
    struct worker *workers;
    struct flo_consumer *consumer;
    uint32_t ended_count;
    bool *ended; /* partitions that have reached their end */
    uint32_t next_worker;
    uint32_t open_count;
    uint32_t closing_count;
    char *payload;
    uv_timer_t tick;     /* --rate */
    uv_timer_t deadline; /* --seconds */
    uv_idle_t idle;
    uint64_t sent, acked, failed, bytes;
    uint64_t started_ns, ended_ns;
    uint64_t last_batch_ns;
    bool stopping, finished;
    enum flo_error error;
    struct histogram histogram;
};

enum { KEY_RECORDS = 0x200, KEY_SIZE, KEY_RATE, KEY_PRODUCERS, KEY_ACKS, KEY_BATCH_BYTES, KEY_LINGER, KEY_SECONDS };

/* ---- arguments ---- */

static error_t parse_bench(int key, char *argument, struct argp_state *state)
{
    struct bench *bench = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = bench->cli;
        return 0;
    case KEY_RECORDS:
        bench->records = cli_number_option("--records", argument, 1, UINT64_MAX);
        return 0;
    case KEY_SIZE:
        bench->size = (uint32_t)cli_number_option("--size", argument, 0, PAYLOAD_BYTES);
        return 0;
    case KEY_RATE:
        bench->rate = cli_number_option("--rate", argument, 1, 1000000000);
        return 0;
    case KEY_PRODUCERS:
        bench->workers_count = (uint32_t)cli_number_option("--producers", argument, 1, PRODUCERS_MAX);
        return 0;
    case KEY_SECONDS:
        if (!cli_number_seconds(argument, &bench->seconds_ms))
            cli_usage("--seconds takes seconds, not '%s'", argument);
        return 0;
    case KEY_ACKS:
        bench->options.acks = cli_parse_acks(argument);
        return 0;
    case KEY_BATCH_BYTES:
        bench->options.batch_bytes = (uint32_t)cli_number_option("--batch-bytes", argument, 512, BATCH_BYTES_MAX);
        return 0;
    case KEY_LINGER:
        bench->options.linger_ms = (uint32_t)cli_number_option("--linger-ms", argument, 0, 60000);
        return 0;
    case 'z':
        bench->options.codec = cli_parse_codec(argument);
        return 0;
    case 'p':
        bench->partition = (int32_t)cli_number_option("-p", argument, 0, PARTITIONS_PER_TOPIC_MAX - 1);
        return 0;
    case ARGP_KEY_ARG:
        if (bench->topic != NULL)
            cli_usage("'%s' is one argument too many (%s --help)", argument, state->name);
        bench->topic = argument;
        return 0;
    case ARGP_KEY_END:
        if (bench->topic == NULL)
            cli_usage("%s needs a topic (%s --help)", state->name + strlen("flotilla "), state->name);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option bench_options[] = {
    {"records", KEY_RECORDS, "N", 0, "How many (default 1000000; roundtrip 10000; consume: all)", 0},
    {"seconds", KEY_SECONDS, "S", 0, "Stop after that time", 0},
    {"size", KEY_SIZE, "B", 0, "Bytes of a value (default 100)", 0},
    {"rate", KEY_RATE, "R", 0, "Records per second over all producers (default: as many as possible)", 0},
    {"producers", KEY_PRODUCERS, "N", 0, "Producers, each with its connection (default 1)", 0},
    {"acks", KEY_ACKS, "WHO", 0, "all (default), leader or none", 0},
    {"batch-bytes", KEY_BATCH_BYTES, "N", 0, "Size of a batch (default 131072)", 0},
    {"linger-ms", KEY_LINGER, "N", 0, "A batch waits that long to fill (default 5; roundtrip 0)", 0},
    {"compress", 'z', "CODEC", 0, "none, gzip, snappy, lz4 or zstd", 0},
    {"partition", 'p', "N", 0, "This partition only", 0},
    {0},
};

/* ---- results ---- */

static void print_results(const struct bench *bench)
{
    double seconds = (double)(bench->ended_ns - bench->started_ns) / 1e9;
    double records_per_s = seconds > 0 ? (double)bench->acked / seconds : 0;
    double mb_per_s = seconds > 0 ? (double)bench->bytes / 1e6 / seconds : 0;
    uint64_t p50_us = histogram_quantile(&bench->histogram, 0.50) / 1000;
    uint64_t p99_us = histogram_quantile(&bench->histogram, 0.99) / 1000;
    if (!bench->cli->json) {
        printf("%.0f records/s, %.1f MB/s, p50 %" PRIu64 " p99 %" PRIu64 " us\n", records_per_s, mb_per_s, p50_us,
               p99_us);
        return;
    }
    uint64_t total = bench->kind == BENCH_CONSUME ? bench->acked : bench->sent;
    json_t *json =
        json_pack("{s:I,s:I,s:I,s:f,s:f,s:f,s:I,s:I}", "records", (json_int_t)total, "acked", (json_int_t)bench->acked,
                  "failed", (json_int_t)bench->failed, "seconds", seconds, "records_per_s", records_per_s, "mb_per_s",
                  mb_per_s, "p50_us", (json_int_t)p50_us, "p99_us", (json_int_t)p99_us);
    json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', stdout);
    json_decref(json);
}

static void on_client_closed(void *context)
{
    struct bench *bench = context;
    if (--bench->closing_count == 0)
        cli_close(bench->cli);
}

static void on_producer_closed(void *context)
{
    struct worker *worker = context;
    flo_client_close(worker->client, on_client_closed, worker->bench);
}

static void on_consumer_closed(void *context)
{
    struct bench *bench = context;
    cli_close(bench->cli);
}

static void finish(struct bench *bench)
{
    if (bench->finished)
        return;
    bench->finished = true;
    bench->ended_ns = uv_hrtime();
    if (bench->error != FLO_OK)
        cli_topic_error(bench->cli, bench->topic, bench->error, "");
    if (bench->open_count > 0)
        print_results(bench);
    uv_close((uv_handle_t *)&bench->tick, NULL);
    uv_close((uv_handle_t *)&bench->deadline, NULL);
    uv_close((uv_handle_t *)&bench->idle, NULL);
    bench->closing_count = bench->workers_count;
    for (uint32_t i = 0; i < bench->workers_count; i++)
        flo_producer_close(bench->workers[i].producer, on_producer_closed, &bench->workers[i]);
    if (bench->consumer != NULL)
        flo_consumer_close(bench->consumer, on_consumer_closed, bench);
}

static void on_worker_flushed(void *context)
{
    struct worker *worker = context;
    struct bench *bench = worker->bench;
    worker->done = true;
    for (uint32_t i = 0; i < bench->workers_count; i++) {
        if (!bench->workers[i].done)
            return;
    }
    finish(bench);
}

/* Sends nothing more; ends when everything sent has been answered. */
static void stop(struct bench *bench)
{
    if (bench->stopping)
        return;
    bench->stopping = true;
    uv_timer_stop(&bench->tick);
    uv_idle_stop(&bench->idle);
    if (bench->kind == BENCH_CONSUME) {
        finish(bench);
        return;
    }
    for (uint32_t i = 0; i < bench->workers_count; i++)
        flo_producer_flush(bench->workers[i].producer, on_worker_flushed, &bench->workers[i]);
}

static void on_interrupt(void *context)
{
    stop(context);
}

static void on_deadline(uv_timer_t *timer)
{
    stop(timer->data);
}

/* ---- producing ---- */

static enum flo_error send_one(struct bench *bench, struct worker *worker, uint64_t due_ns)
{
    struct flo_record record = {
        .value = bench->payload + bench->sent * 61 % PAYLOAD_BYTES,
        .value_size = bench->size,
        .timestamp_ms = FLO_NOW,
        .partition = bench->partition,
        .tag = due_ns,
    };
    enum flo_error error = flo_producer_send(worker->producer, &record);
    if (error == FLO_OK)
        bench->sent++;
    else if (error == FLO_FULL)
        worker->ready = false;
    else if (bench->error == FLO_OK)
        bench->error = error;
    return error;
}

static bool all_sent(const struct bench *bench)
{
    return bench->records != 0 && bench->sent >= bench->records;
}

/* The next worker with room, in turns; NULL: none has. */
static struct worker *choose_worker(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->workers_count; i++) {
        struct worker *worker = &bench->workers[bench->next_worker];
        bench->next_worker = bench->next_worker + 1 == bench->workers_count ? 0 : bench->next_worker + 1;
        if (worker->ready)
            return worker;
    }
    return NULL;
}

/* As many as there is room for; the clock is read once per 64. */
static void fill(struct bench *bench)
{
    struct worker *worker = NULL;
    uint64_t now_ns = 0;
    for (uint32_t i = 0; i < FILL_RECORDS && !all_sent(bench) && bench->error == FLO_OK; i++) {
        if (i % 64 == 0)
            now_ns = uv_hrtime();
        if (i % 64 == 0 || !worker->ready)
            worker = choose_worker(bench);
        if (worker == NULL) {
            uv_idle_stop(&bench->idle);
            return;
        }
        send_one(bench, worker, now_ns);
    }
    if (all_sent(bench) || bench->error != FLO_OK)
        stop(bench);
}

/* Those that are due by now; the k-th is due at start + k / rate. */
static void keep_rate(struct bench *bench)
{
    uint64_t now_ns = uv_hrtime();
    while (!all_sent(bench) && bench->error == FLO_OK) {
        uint64_t due_ns = bench->started_ns + (uint64_t)((double)bench->sent * 1e9 / (double)bench->rate);
        struct worker *worker = due_ns <= now_ns ? choose_worker(bench) : NULL;
        if (worker == NULL)
            return;
        send_one(bench, worker, due_ns);
    }
    stop(bench);
}

static void on_tick(uv_timer_t *timer)
{
    keep_rate(timer->data);
}

static void on_idle(uv_idle_t *idle)
{
    fill(idle->data);
}

static void go_on(struct worker *worker)
{
    struct bench *bench = worker->bench;
    if (bench->stopping || bench->open_count < bench->workers_count)
        return;
    if (all_sent(bench)) {
        stop(bench);
    } else if (bench->kind == BENCH_ROUNDTRIP) {
        send_one(bench, worker, uv_hrtime());
        if (bench->error != FLO_OK)
            stop(bench);
    } else if (bench->rate == 0) {
        uv_idle_start(&bench->idle, on_idle);
    }
}

/* The clock starts when all are open. */
static void start(struct bench *bench)
{
    bench->started_ns = uv_hrtime();
    if (bench->seconds_ms > 0)
        uv_timer_start(&bench->deadline, on_deadline, bench->seconds_ms, 0);
    if (bench->rate > 0 && bench->kind == BENCH_PRODUCE)
        uv_timer_start(&bench->tick, on_tick, 0, RATE_TICK_MS);
    for (uint32_t i = 0; i < bench->workers_count; i++)
        go_on(&bench->workers[i]);
}

static void on_writable(void *context)
{
    struct worker *worker = context;
    bool first = !worker->ready;
    worker->ready = true;
    /* A roundtrip's next record is sent by the delivery of the one before. */
    if (worker->bench->kind == BENCH_PRODUCE && first)
        go_on(worker);
}

static void on_open(void *context, enum flo_error error)
{
    struct worker *worker = context;
    struct bench *bench = worker->bench;
    if (bench->finished)
        return;
    if (error != FLO_OK) {
        bench->error = error;
        bench->open_count = 0;
        finish(bench);
        return;
    }
    if (bench->partition >= (int32_t)flo_producer_partitions(worker->producer)) {
        bench->error = FLO_UNKNOWN_PARTITION;
        bench->open_count = 0;
        finish(bench);
        return;
    }
    worker->ready = true;
    if (++bench->open_count == bench->workers_count)
        start(bench);
}

static void on_delivered(void *context, const struct flo_delivery *delivery)
{
    struct worker *worker = context;
    struct bench *bench = worker->bench;
    if (delivery->error == FLO_OK) {
        uint64_t now_ns = uv_hrtime();
        for (uint32_t i = 0; i < delivery->records_count; i++)
            histogram_add(&bench->histogram, now_ns > delivery->tags[i] ? now_ns - delivery->tags[i] : 0);
        bench->acked += delivery->records_count;
        bench->bytes += delivery->bytes;
    } else {
        bench->failed += delivery->records_count;
        if (bench->error == FLO_OK)
            bench->error = delivery->error;
        stop(bench);
    }
    if (bench->kind == BENCH_ROUNDTRIP)
        go_on(worker);
}

/* Text of random letters: it compresses about as well as text does. */
static char *make_payload(uint32_t size)
{
    static const char letters[] = "eeettaaooinnsshrdlcu  0123456789 ";
    struct rng rng;
    char *payload = malloc((size_t)PAYLOAD_BYTES + size + 1);
    ASSERT(payload != NULL);
    rng_seed(&rng, 1);
    for (size_t i = 0; i < (size_t)PAYLOAD_BYTES + size; i++)
        payload[i] = letters[rng_below(&rng, sizeof letters - 1)];
    return payload;
}

static void open_workers(struct bench *bench)
{
    struct cli *cli = bench->cli;
    bench->payload = make_payload(bench->size);
    bench->workers = calloc(bench->workers_count, sizeof bench->workers[0]);
    ASSERT(bench->workers != NULL);
    bench->options.topic = bench->topic;
    bench->options.tags = true;
    bench->options.memory_bytes = MEMORY_BYTES > 4 * (uint64_t)bench->options.batch_bytes
                                      ? MEMORY_BYTES
                                      : 4 * (uint64_t)bench->options.batch_bytes;
    bench->options.on_open = on_open;
    bench->options.on_writable = on_writable;
    bench->options.on_delivered = on_delivered;
    for (uint32_t i = 0; i < bench->workers_count; i++) {
        struct worker *worker = &bench->workers[i];
        worker->bench = bench;
        worker->client = cli_new_client(cli, "bench");
        bench->options.context = worker;
        enum flo_error error = flo_producer_open(worker->client, &bench->options, &worker->producer);
        if (error != FLO_OK) {
            cli_topic_error(cli, bench->topic, error, "");
            exit(cli->exit_code);
        }
    }
}

/* ---- consuming ---- */

static void take_batch(struct bench *bench, struct flo_fetched *fetched)
{
    struct flo_message message;
    uint64_t now_ns = uv_hrtime();
    histogram_add(&bench->histogram, now_ns - bench->last_batch_ns);
    bench->last_batch_ns = now_ns;
    while (!(bench->records != 0 && bench->acked == bench->records) && flo_fetched_next(fetched, &message) == FLO_OK) {
        bench->acked++;
        bench->bytes += message.key_size + message.value_size;
    }
}

static void on_consume_idle(uv_idle_t *idle);

static void on_readable(void *context)
{
    struct bench *bench = context;
    if (!bench->stopping)
        uv_idle_start(&bench->idle, on_consume_idle);
}

static void on_consume_idle(uv_idle_t *idle)
{
    struct bench *bench = idle->data;
    struct flo_fetched fetched;
    uint64_t stop_bytes = bench->bytes + PAYLOAD_BYTES;
    while (!bench->stopping && bench->bytes < stop_bytes) {
        if (flo_consumer_next(bench->consumer, &fetched) != FLO_OK) {
            uv_idle_stop(idle);
            return;
        }
        if (fetched.kind == FLO_FETCHED_RECORDS) {
            take_batch(bench, &fetched);
        } else if (fetched.kind == FLO_FETCHED_ERROR) {
            bench->error = fetched.error;
        } else if (fetched.kind == FLO_FETCHED_END && !bench->ended[fetched.partition]) {
            bench->ended[fetched.partition] = true;
            bench->ended_count++;
        }
        flo_fetched_release(bench->consumer, &fetched);
        if ((bench->records != 0 && bench->acked == bench->records) || bench->error != FLO_OK ||
            (bench->records == 0 && bench->seconds_ms == 0 &&
             bench->ended_count == flo_consumer_partitions(bench->consumer)))
            stop(bench);
    }
}

static void on_consumer_open(void *context, enum flo_error error)
{
    struct bench *bench = context;
    if (error != FLO_OK) {
        bench->error = error;
        finish(bench);
        return;
    }
    bench->open_count = 1;
    bench->started_ns = bench->last_batch_ns = uv_hrtime();
    if (bench->seconds_ms > 0)
        uv_timer_start(&bench->deadline, on_deadline, bench->seconds_ms, 0);
}

static void open_consumer(struct bench *bench)
{
    struct flo_consumer_options options;
    flo_consumer_options_init(&options);
    options.topic = bench->topic;
    options.partition = bench->partition;
    options.context = bench;
    options.on_open = on_consumer_open;
    options.on_readable = on_readable;
    bench->ended = calloc(PARTITIONS_PER_TOPIC_MAX, sizeof bench->ended[0]);
    ASSERT(bench->ended != NULL);
    enum flo_error error = flo_consumer_open(bench->cli->client, &options, &bench->consumer);
    if (error != FLO_OK) {
        cli_topic_error(bench->cli, bench->topic, error, "");
        exit(bench->cli->exit_code);
    }
}

/* ---- the command ---- */

static void set_defaults(struct bench *bench, uint32_t linger_not_given)
{
    if (bench->options.linger_ms == linger_not_given) {
        struct flo_producer_options defaults;
        flo_producer_options_init(&defaults);
        bench->options.linger_ms = bench->kind == BENCH_ROUNDTRIP ? 0 : defaults.linger_ms;
    }
    if (bench->records == 0 && bench->seconds_ms == 0 && bench->kind != BENCH_CONSUME)
        bench->records = bench->kind == BENCH_PRODUCE ? RECORDS_DEFAULT : ROUNDTRIPS_DEFAULT;
    if (bench->kind == BENCH_CONSUME)
        bench->workers_count = 0;
}

static int run_bench(struct cli *cli, enum bench_kind kind, const char *doc, int argc, char **argv)
{
    struct bench *bench = calloc(1, sizeof *bench);
    ASSERT(bench != NULL);
    const struct argp argp = {
        .options = bench_options, .parser = parse_bench, .args_doc = "TOPIC", .doc = doc, .children = cli_global_child};
    bench->cli = cli;
    bench->kind = kind;
    bench->size = SIZE_DEFAULT;
    bench->partition = FLO_ANY_PARTITION;
    bench->workers_count = 1;
    flo_producer_options_init(&bench->options);
    bench->options.linger_ms = UINT32_MAX;
    argp_parse(&argp, argc, argv, 0, NULL, bench);
    set_defaults(bench, UINT32_MAX);
    cli_open(cli, "bench");
    cli_watch_interrupt(cli, on_interrupt, bench);
    bench->tick.data = bench->deadline.data = bench->idle.data = bench;
    uv_timer_init(cli->loop, &bench->tick);
    uv_timer_init(cli->loop, &bench->deadline);
    uv_idle_init(cli->loop, &bench->idle);
    if (kind == BENCH_CONSUME)
        open_consumer(bench);
    else
        open_workers(bench);
    int exit_code = cli_run(cli);
    free(bench->workers);
    free(bench->payload);
    free(bench->ended);
    free(bench);
    return exit_code;
}

int cli_bench(struct cli *cli, int argc, char **argv)
{
    static const struct {
        const char *name;
        enum bench_kind kind;
        const char *doc;
    } verbs[] = {
        {"produce", BENCH_PRODUCE, "Produces as fast as possible, or at a rate; latency to the acknowledgement."},
        {"roundtrip", BENCH_ROUNDTRIP, "Produces one record at a time; latency to the acknowledgement."},
        {"consume", BENCH_CONSUME, "Consumes from the beginning; latency between batches."},
    };
    int at = cli_take_verb(cli, argc, argv, "produce|consume|roundtrip TOPIC",
                           "Measures. The last line on stdout is the result.");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(argv[at], verbs[i].name) == 0) {
            char name[64];
            snprintf(name, sizeof name, "flotilla bench %s", verbs[i].name);
            argv[at] = name;
            return run_bench(cli, verbs[i].kind, verbs[i].doc, argc - at, argv + at);
        }
    }
    cli_usage("there is no command 'bench %s' (flotilla bench --help)", argv[at]);
}
