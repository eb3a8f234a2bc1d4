/* `flotilla consume`: records to stdout, without a group: every partition directly, from a position.
 *
 * Output is written in big pieces and flushed when there is nothing more to read. After a piece of work the loop gets
 * its turn (an idle handle brings us back), so that the next fetches are answered while we write. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/limits.h"
#include "client/cli.h"
#include "client/format.h"
#include "client/output.h"

#define WORK_BYTES  (1u << 20) /* written between two looks at the network */
#define PROGRESS_MS 500u

struct consume {
    struct cli *cli;
    const char *topic;
    struct flo_consumer_options options;
    bool stop_at_end;
    bool has_count;
    uint64_t count;
    const char *format_text;
    const char *separator;
    struct format format;
    struct flo_consumer *consumer;
    uv_idle_t idle;
    uv_timer_t progress;
    bool finished;
    uint32_t ended_count; /* partitions that have reached their end once */
    bool ended[PARTITIONS_PER_TOPIC_MAX];
    uint64_t records, bytes;
    uint64_t started_ns;
    struct output output;
};

enum { KEY_PUSH = 0x200, KEY_COMMIT };

/* ---- arguments ---- */

static void parse_start(struct consume *consume, const char *text)
{
    struct flo_consumer_options *options = &consume->options;
    struct timespec now;
    uint64_t number;
    clock_gettime(CLOCK_REALTIME, &now);
    if (strcmp(text, "beginning") == 0) {
        options->start = FLO_START_EARLIEST;
    } else if (strcmp(text, "end") == 0) {
        options->start = FLO_START_LATEST;
    } else if (text[0] == '@') {
        options->start = FLO_START_TIME;
        if (!cli_number_time(text + 1, (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, &options->start_value))
            cli_usage("-o @TIME takes UNIX_MS, RFC 3339 (2026-01-02T03:04:05Z) or -1h, not '%s'", text + 1);
    } else if (cli_number_u64(text[0] == '-' ? text + 1 : text, 0, INT64_MAX, &number)) {
        options->start = text[0] == '-' ? FLO_START_TAIL : FLO_START_OFFSET;
        options->start_value = (int64_t)number;
    } else {
        cli_usage("-o takes beginning, end, N, -N or @TIME, not '%s'", text);
    }
}

static error_t parse_consume(int key, char *argument, struct argp_state *state)
{
    struct consume *consume = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = consume->cli;
        return 0;
    case 'p':
        consume->options.partition = (int32_t)cli_number_option("-p", argument, 0, PARTITIONS_PER_TOPIC_MAX - 1);
        return 0;
    case 'o':
        parse_start(consume, argument);
        return 0;
    case 'n':
        consume->count = cli_number_option("-n", argument, 0, UINT64_MAX);
        consume->has_count = true;
        return 0;
    case 'e':
        consume->stop_at_end = true;
        return 0;
    case 'f':
        consume->format_text = argument;
        return 0;
    case 'K':
        consume->separator = argument;
        return 0;
    case 'g':
        cli_later("consume -g (consumer groups)");
    case KEY_PUSH:
        cli_later("consume --push");
    case KEY_COMMIT:
        cli_later("consume --commit (consumer groups)");
    case ARGP_KEY_ARG:
        if (consume->topic != NULL)
            cli_usage("'%s' is one argument too many (flotilla consume --help)", argument);
        consume->topic = argument;
        return 0;
    case ARGP_KEY_END:
        if (consume->topic == NULL)
            cli_usage("consume needs a topic (flotilla consume --help)");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option consume_options[] = {
    {"partition", 'p', "N", 0, "This partition only (default: all)", 0},
    {"offset", 'o', "WHERE", 0,
     "beginning (default), end, N, -N (that many before the end) or @TIME (UNIX_MS, RFC 3339, -1h)", 0},
    {"count", 'n', "COUNT", 0, "Stop after that many records", 0},
    {"exit", 'e', 0, 0, "Stop at the end of all partitions", 0},
    {"format", 'f', "FORMAT", 0,
     "%t topic %p partition %o offset %k key %s value %S %K their sizes %T timestamp %h headers; \\n \\t \\0 \\xNN "
     "(default \"%s\\n\")",
     0},
    {"key-separator", 'K', "SEP", 0, "Write key, SEP, value", 0},
    {"group", 'g', "GROUP", OPTION_HIDDEN, 0, 0},
    {"push", KEY_PUSH, 0, OPTION_HIDDEN, 0, 0},
    {"commit", KEY_COMMIT, "HOW", OPTION_HIDDEN, 0, 0},
    {0},
};

static const struct argp consume_argp = {
    .options = consume_options,
    .parser = parse_consume,
    .args_doc = "TOPIC",
    .doc = "Writes the records of a topic to stdout.",
    .children = cli_global_child,
};

/* ---- the end ---- */

static void on_consumer_closed(void *context)
{
    struct consume *consume = context;
    cli_close(consume->cli);
}

static void print_summary(const struct consume *consume)
{
    double seconds = (double)(uv_hrtime() - consume->started_ns) / 1e9;
    cli_clear_progress(consume->cli);
    if (!consume->cli->quiet)
        fprintf(stderr, "consumed %" PRIu64 " records, %.1f MB, %.2f s, %.0f records/s\n", consume->records,
                (double)consume->bytes / 1e6, seconds, seconds > 0 ? (double)consume->records / seconds : 0);
}

static void finish(struct consume *consume)
{
    if (consume->finished)
        return;
    consume->finished = true;
    output_flush(&consume->output);
    if (consume->output.state == OUTPUT_FAILED) {
        cli_error("cannot write: %s", strerror(consume->output.error));
        consume->cli->exit_code = CLI_FAILED;
    }
    if (consume->output.state != OUTPUT_PIPE_CLOSED)
        print_summary(consume);
    uv_close((uv_handle_t *)&consume->idle, NULL);
    uv_close((uv_handle_t *)&consume->progress, NULL);
    flo_consumer_close(consume->consumer, on_consumer_closed, consume);
}

static void on_interrupt(void *context)
{
    finish(context);
}

/* ---- work ---- */

static void put_batch(struct consume *consume, struct flo_fetched *fetched)
{
    struct flo_message message;
    enum flo_error error = FLO_OK;
    while (!(consume->has_count && consume->records == consume->count) &&
           (error = flo_fetched_next(fetched, &message)) == FLO_OK) {
        if (consume->cli->json)
            format_put_json(consume->topic, fetched->partition, &message, &consume->output);
        else
            format_put(&consume->format, consume->topic, fetched->partition, &message, &consume->output);
        consume->records++;
        consume->bytes += message.key_size + message.value_size;
    }
    if (error == FLO_CORRUPT_BATCH) {
        cli_error("topic '%s' partition %" PRIu32 ": a batch at offset %" PRId64 " cannot be read", consume->topic,
                  fetched->partition, fetched->base_offset);
        consume->cli->exit_code = CLI_FAILED;
    }
}

/* False: that was all. */
static bool take(struct consume *consume, struct flo_fetched *fetched)
{
    switch (fetched->kind) {
    case FLO_FETCHED_RECORDS:
        put_batch(consume, fetched);
        return !(consume->has_count && consume->records == consume->count) && consume->cli->exit_code == CLI_DONE;
    case FLO_FETCHED_END:
        ASSERT(fetched->partition < PARTITIONS_PER_TOPIC_MAX);
        consume->ended_count += !consume->ended[fetched->partition];
        consume->ended[fetched->partition] = true;
        return !consume->stop_at_end || consume->ended_count < flo_consumer_partitions(consume->consumer);
    case FLO_FETCHED_SKIP:
        output_flush(&consume->output);
        cli_error("topic '%s' partition %" PRIu32 ": offsets %" PRId64 " to %" PRId64
                  " are no longer stored, going on behind them",
                  consume->topic, fetched->partition, fetched->base_offset, fetched->next_offset - 1);
        return true;
    default:
        output_flush(&consume->output);
        if (fetched->error == FLO_OUT_OF_RANGE)
            cli_error("topic '%s' partition %" PRIu32 ": there is no offset %" PRId64 " (flotilla topic describe %s)",
                      consume->topic, fetched->partition, fetched->base_offset, consume->topic);
        else
            cli_error("topic '%s' partition %" PRIu32 ": %s", consume->topic, fetched->partition,
                      flo_error_text(fetched->error));
        consume->cli->exit_code = CLI_FAILED;
        return false;
    }
}

static void work(struct consume *consume)
{
    struct flo_fetched fetched;
    uint64_t stop_bytes = consume->bytes + WORK_BYTES;
    bool more = true;
    while (more && consume->output.state == OUTPUT_OK && consume->bytes < stop_bytes) {
        if (flo_consumer_next(consume->consumer, &fetched) != FLO_OK) {
            output_flush(&consume->output);
            uv_idle_stop(&consume->idle);
            more = consume->output.state == OUTPUT_OK;
            break;
        }
        more = take(consume, &fetched);
        flo_fetched_release(consume->consumer, &fetched);
    }
    if (!more || consume->output.state != OUTPUT_OK)
        finish(consume);
}

static void on_idle(uv_idle_t *idle)
{
    work(idle->data);
}

static void on_readable(void *context)
{
    struct consume *consume = context;
    uv_idle_start(&consume->idle, on_idle);
}

static void on_progress(uv_timer_t *timer)
{
    struct consume *consume = timer->data;
    consume->cli->progress_shown = true;
    fprintf(stderr, "\r%" PRIu64 " records, %.1f MB ", consume->records, (double)consume->bytes / 1e6);
}

static void on_open(void *context, enum flo_error error)
{
    struct consume *consume = context;
    if (error != FLO_OK) {
        cli_topic_error(consume->cli, consume->topic, error, "");
        consume->cli->quiet = true;
        finish(consume);
    } else if (consume->has_count && consume->count == 0) {
        finish(consume);
    }
}

/* -K SEP stands for the format "%kSEP%s\n", whatever SEP holds. */
static void compile_format(struct consume *consume)
{
    char text[1024] = "%k";
    char bad;
    const char *wanted = consume->format_text != NULL ? consume->format_text : "%s\\n";
    if (consume->format_text == NULL && consume->separator != NULL) {
        char *to = text + 2;
        if (strlen(consume->separator) > 400)
            cli_usage("-K: the separator is too long");
        for (const char *at = consume->separator; *at != '\0'; at++) {
            *to++ = *at;
            if (*at == '%')
                *to++ = '%';
        }
        strcpy(to, "%s\\n");
        wanted = text;
    }
    if (!format_compile(&consume->format, wanted, &bad))
        cli_usage("-f does not know %%%c (flotilla consume --help)", bad != '\0' ? bad : ' ');
}

int cli_consume(struct cli *cli, int argc, char **argv)
{
    struct consume *consume = calloc(1, sizeof *consume);
    ASSERT(consume != NULL);
    consume->cli = cli;
    flo_consumer_options_init(&consume->options);
    argp_parse(&consume_argp, argc, argv, 0, NULL, consume);
    compile_format(consume);
    output_init(&consume->output, STDOUT_FILENO);
    cli_open(cli, "consume");
    cli_watch_interrupt(cli, on_interrupt, consume);
    consume->idle.data = consume->progress.data = consume;
    uv_idle_init(cli->loop, &consume->idle);
    uv_timer_init(cli->loop, &consume->progress);
    if (!cli->quiet && isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO))
        uv_timer_start(&consume->progress, on_progress, PROGRESS_MS, PROGRESS_MS);
    consume->started_ns = uv_hrtime();
    consume->options.topic = consume->topic;
    consume->options.context = consume;
    consume->options.on_open = on_open;
    consume->options.on_readable = on_readable;
    enum flo_error error = flo_consumer_open(cli->client, &consume->options, &consume->consumer);
    if (error != FLO_OK) {
        cli_topic_error(cli, consume->topic, error, "");
        return cli->exit_code;
    }
    int exit_code = cli_run(cli);
    format_deinit(&consume->format);
    free(consume);
    return exit_code;
}
