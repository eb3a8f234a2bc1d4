/* `flotilla produce`: a record per line of files or stdin.
 *
 * Input is read in big blocks into one buffer; lines are handed to the producer where they lie and copied once, into
 * their batch. When the producer is full, reading stops until it has room. Pipes and terminals are polled; what cannot
 * be polled (files) is read block by block from an idle handle, so that the network gets its turn in between. The first
 * record that fails stops the reading: what follows it would hide a gap. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/limits.h"
#include "client/cli.h"

#define READ_BYTES   (256u << 10)
#define BUFFER_BYTES (1u << 20)
#define HEADERS_MAX  64u
#define PROGRESS_MS  500u

struct produce {
    struct cli *cli;
    const char *topic;
    char **files;
    int files_count;
    struct flo_producer_options options;
    int32_t partition;
    const char *separator; /* -K; NULL: no keys */
    size_t separator_size;
    bool null_value;
    struct flo_header headers[HEADERS_MAX];
    size_t headers_count;
    struct flo_producer *producer;
    /* input */
    int file_at; /* next in files */
    int fd;      /* -1: none open */
    const char *file_name;
    uv_poll_t *poll; /* owned until uv_close; NULL: this file cannot be polled */
    int fd_flags;    /* libuv makes it non-blocking, but stdin is the shell's as well */
    uv_idle_t idle;
    char *buffer;
    size_t capacity, start, scanned, end; /* [start, end) is unread; no newline in [start, scanned) */
    bool at_eof;                          /* of this file */
    bool input_over;
    bool full;
    bool finished;
    /* output */
    uv_timer_t progress;
    uint64_t sent, acked, failed, bytes;
    enum flo_error error;
    uint64_t started_ns;
};

enum { KEY_ACKS = 0x200, KEY_PRODUCER, KEY_LINGER, KEY_BATCH_BYTES, KEY_NULL_VALUE };

/* ---- arguments ---- */

enum flo_codec cli_parse_codec(const char *text)
{
    static const char *const names[] = {
        [FLO_CODEC_NONE] = "none", [FLO_CODEC_GZIP] = "gzip", [FLO_CODEC_SNAPPY] = "snappy",
        [FLO_CODEC_LZ4] = "lz4",   [FLO_CODEC_ZSTD] = "zstd",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(text, names[i]) == 0)
            return (enum flo_codec)i;
    cli_usage("-z takes none, gzip, snappy, lz4 or zstd, not '%s'", text);
}

enum flo_acks cli_parse_acks(const char *text)
{
    if (strcmp(text, "all") == 0)
        return FLO_ACKS_ALL;
    if (strcmp(text, "leader") == 0)
        return FLO_ACKS_LEADER;
    if (strcmp(text, "none") == 0)
        return FLO_ACKS_NONE;
    cli_usage("--acks takes all, leader or none, not '%s'", text);
}

static void parse_header(struct produce *produce, char *argument)
{
    char *equals = strchr(argument, '=');
    if (equals == NULL)
        cli_usage("-H takes KEY=VALUE, not '%s'", argument);
    if (produce->headers_count == HEADERS_MAX)
        cli_usage("-H: at most %u headers", HEADERS_MAX);
    produce->headers[produce->headers_count++] = (struct flo_header){.key = argument,
                                                                     .key_size = (size_t)(equals - argument),
                                                                     .value = equals + 1,
                                                                     .value_size = strlen(equals + 1)};
}

static error_t parse_produce(int key, char *argument, struct argp_state *state)
{
    struct produce *produce = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = produce->cli;
        return 0;
    case 'p':
        produce->partition = (int32_t)cli_number_option("-p", argument, 0, PARTITIONS_PER_TOPIC_MAX - 1);
        return 0;
    case 'K':
        produce->separator_size = cli_unescape(argument);
        produce->separator = argument;
        if (produce->separator_size == 0)
            cli_usage("-K needs a separator that is not empty");
        return 0;
    case 'H':
        parse_header(produce, argument);
        return 0;
    case 'z':
        produce->options.codec = cli_parse_codec(argument);
        return 0;
    case KEY_ACKS:
        produce->options.acks = cli_parse_acks(argument);
        return 0;
    case KEY_PRODUCER:
        if (argument[0] == '\0' || strlen(argument) > PRODUCER_NAME_BYTES_MAX)
            cli_usage("--producer takes a name of 1 to %d bytes", PRODUCER_NAME_BYTES_MAX);
        produce->options.name = argument;
        return 0;
    case KEY_LINGER:
        produce->options.linger_ms = (uint32_t)cli_number_option("--linger-ms", argument, 0, 60000);
        return 0;
    case KEY_BATCH_BYTES:
        produce->options.batch_bytes = (uint32_t)cli_number_option("--batch-bytes", argument, 512, BATCH_BYTES_MAX);
        return 0;
    case KEY_NULL_VALUE:
        produce->null_value = true;
        return 0;
    case ARGP_KEY_ARGS:
        produce->topic = state->argv[state->next];
        produce->files = state->argv + state->next + 1;
        produce->files_count = state->argc - state->next - 1;
        return 0;
    case ARGP_KEY_NO_ARGS:
        cli_usage("produce needs a topic (flotilla produce --help)");
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option produce_options[] = {
    {"partition", 'p', "N", 0, "To this partition (default: by key, else spread)", 0},
    {"key-separator", 'K', "SEP", 0, "The key ends at the first SEP of the line; without SEP the key is null", 0},
    {"header", 'H', "KEY=VALUE", 0, "Add a header to every record", 0},
    {"compress", 'z', "CODEC", 0, "none, gzip, snappy, lz4 or zstd", 0},
    {"acks", KEY_ACKS, "WHO", 0, "all (default): on the disks of a majority; leader: on the leader's; none: no answer",
     0},
    {"producer", KEY_PRODUCER, "NAME", 0, "Write under a name: fences whoever had it", 0},
    {"linger-ms", KEY_LINGER, "N", 0, "A batch waits that long to fill (default 5)", 0},
    {"batch-bytes", KEY_BATCH_BYTES, "N", 0, "Size of a batch (default 131072)", 0},
    {"null-value", KEY_NULL_VALUE, 0, 0, "An empty value becomes null", 0},
    {0},
};

static const struct argp produce_argp = {
    .options = produce_options,
    .parser = parse_produce,
    .args_doc = "TOPIC [FILE...]",
    .doc = "Appends a record for each line of the files, or of stdin.",
    .children = cli_global_child,
};

/* ---- the end ---- */

static void print_summary(const struct produce *produce)
{
    double seconds = (double)(uv_hrtime() - produce->started_ns) / 1e9;
    cli_clear_progress(produce->cli);
    if (!produce->cli->quiet)
        fprintf(stderr, "produced %" PRIu64 " records, %.1f MB, %.2f s, %.0f records/s, %" PRIu64 " failed\n",
                produce->acked, (double)produce->bytes / 1e6, seconds,
                seconds > 0 ? (double)produce->acked / seconds : 0, produce->failed);
}

static void on_producer_closed(void *context)
{
    struct produce *produce = context;
    cli_close(produce->cli);
}

static void finish(void *context)
{
    struct produce *produce = context;
    if (produce->finished)
        return;
    produce->finished = true;
    if (produce->error != FLO_OK) {
        int exit_code = produce->cli->exit_code;
        cli_topic_error(produce->cli, produce->topic, produce->error, "");
        if (exit_code == CLI_INTERRUPTED)
            produce->cli->exit_code = exit_code;
    }
    print_summary(produce);
    uv_close((uv_handle_t *)&produce->progress, NULL);
    flo_producer_close(produce->producer, on_producer_closed, produce);
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle);
}

static void close_input(struct produce *produce)
{
    uv_idle_stop(&produce->idle);
    if (produce->poll != NULL) {
        uv_close((uv_handle_t *)produce->poll, on_poll_closed);
        fcntl(produce->fd, F_SETFL, produce->fd_flags);
    }
    produce->poll = NULL;
    if (produce->fd > STDIN_FILENO)
        close(produce->fd);
    produce->fd = -1;
}

/* No more records: what was accepted is delivered, then that was all. */
static void end_input(struct produce *produce)
{
    if (produce->input_over)
        return;
    produce->input_over = true;
    close_input(produce);
    uv_close((uv_handle_t *)&produce->idle, NULL);
    flo_producer_flush(produce->producer, finish, produce);
}

static void on_interrupt(void *context)
{
    end_input(context);
}

static void fail(struct produce *produce, enum flo_error error)
{
    if (produce->error == FLO_OK)
        produce->error = error;
    end_input(produce);
}

/* ---- lines ---- */

static enum flo_error send_line(struct produce *produce, const char *line, size_t size)
{
    struct flo_record record = {
        .value = line,
        .value_size = size,
        .headers = produce->headers,
        .headers_count = produce->headers_count,
        .timestamp_ms = FLO_NOW,
        .partition = produce->partition,
    };
    if (produce->separator != NULL) {
        const char *separator = memmem(line, size, produce->separator, produce->separator_size);
        if (separator != NULL) {
            record.key = line;
            record.key_size = (size_t)(separator - line);
            record.value = separator + produce->separator_size;
            record.value_size = size - record.key_size - produce->separator_size;
        }
    }
    if (produce->null_value && record.value_size == 0)
        record.value = NULL;
    return flo_producer_send(produce->producer, &record);
}

/* Sends the whole lines that are in the buffer (at the end of the file also the last one without newline). False: stop
 * for now. */
static bool send_lines(struct produce *produce)
{
    while (produce->start < produce->end) {
        char *newline = memchr(produce->buffer + produce->scanned, '\n', produce->end - produce->scanned);
        if (newline == NULL && !produce->at_eof) {
            produce->scanned = produce->end;
            return true;
        }
        char *line = produce->buffer + produce->start;
        size_t size = newline != NULL ? (size_t)(newline - line) : produce->end - produce->start;
        produce->scanned = produce->start + size;
        enum flo_error error = send_line(produce, line, size);
        if (error == FLO_FULL) {
            produce->full = true;
            return false;
        }
        if (error != FLO_OK) {
            produce->failed++;
            fail(produce, error);
            return false;
        }
        produce->sent++;
        produce->start += size + (newline != NULL);
        produce->scanned = produce->start;
    }
    return true;
}

/* Room for a read: the unread part moves to the front, or the buffer grows for a line that is longer than it. */
static bool make_room(struct produce *produce)
{
    if (produce->start > 0 && produce->capacity - produce->end < READ_BYTES) {
        memmove(produce->buffer, produce->buffer + produce->start, produce->end - produce->start);
        produce->end -= produce->start;
        produce->scanned -= produce->start;
        produce->start = 0;
    }
    if (produce->capacity - produce->end >= READ_BYTES)
        return true;
    if (produce->capacity > 2 * (size_t)BATCH_BYTES_MAX)
        return false;
    produce->capacity *= 2;
    produce->buffer = realloc(produce->buffer, produce->capacity);
    ASSERT(produce->buffer != NULL);
    return true;
}

/* ---- files ---- */

static void pause_input(struct produce *produce)
{
    if (produce->poll != NULL)
        uv_poll_stop(produce->poll);
    uv_idle_stop(&produce->idle);
}

static void read_some(struct produce *produce);

static void on_poll(uv_poll_t *poll, int status, int events)
{
    read_some(poll->data);
}

static void on_idle(uv_idle_t *idle)
{
    read_some(idle->data);
}

static void resume_input(struct produce *produce)
{
    if (produce->input_over || produce->fd < 0)
        return;
    if (produce->poll != NULL && !produce->at_eof)
        uv_poll_start(produce->poll, UV_READABLE, on_poll);
    else
        uv_idle_start(&produce->idle, on_idle);
}

/* The next file, or stdin when none is named; false: there is none, or it cannot be read. */
static bool open_next(struct produce *produce)
{
    bool from_stdin = produce->files_count == 0;
    if (produce->file_at >= (from_stdin ? 1 : produce->files_count))
        return false;
    const char *name = from_stdin ? "-" : produce->files[produce->file_at];
    produce->file_at++;
    produce->at_eof = false;
    produce->file_name = name;
    produce->fd = strcmp(name, "-") == 0 ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
    if (produce->fd < 0) {
        cli_error("cannot read %s: %s", name, strerror(errno));
        produce->cli->exit_code = CLI_FAILED;
        return false;
    }
    /* epoll refuses files, which are always ready: those are read from the idle handle. */
    produce->fd_flags = fcntl(produce->fd, F_GETFL);
    produce->poll = malloc(sizeof *produce->poll);
    ASSERT(produce->poll != NULL);
    produce->poll->data = produce;
    if (uv_poll_init(produce->cli->loop, produce->poll, produce->fd) != 0) {
        free(produce->poll);
        produce->poll = NULL;
    }
    return true;
}

/* EOF came, and everything read has been handed over. */
static void next_file(struct produce *produce)
{
    close_input(produce);
    produce->start = produce->scanned = produce->end = 0;
    if (open_next(produce))
        resume_input(produce);
    else
        end_input(produce);
}

static void read_some(struct produce *produce)
{
    if (!produce->at_eof) {
        if (!make_room(produce)) {
            produce->failed++;
            fail(produce, FLO_TOO_LARGE);
            return;
        }
        ssize_t size = read(produce->fd, produce->buffer + produce->end, READ_BYTES);
        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (size < 0) {
            cli_error("cannot read %s: %s", produce->file_name, strerror(errno));
            produce->cli->exit_code = CLI_FAILED;
            end_input(produce);
            return;
        }
        produce->at_eof = size == 0;
        produce->end += (size_t)size;
    }
    if (!send_lines(produce))
        pause_input(produce);
    else if (produce->at_eof)
        next_file(produce);
}

/* ---- callbacks of the producer ---- */

static void on_writable(void *context)
{
    struct produce *produce = context;
    produce->full = false;
    if (produce->input_over)
        return;
    if (produce->fd < 0) {
        next_file(produce); /* the first */
    } else if (send_lines(produce)) {
        if (produce->at_eof)
            next_file(produce);
        else
            resume_input(produce);
    }
}

static void on_delivered(void *context, const struct flo_delivery *delivery)
{
    struct produce *produce = context;
    if (delivery->error == FLO_OK) {
        produce->acked += delivery->records_count;
        produce->bytes += delivery->bytes;
        return;
    }
    produce->failed += delivery->records_count;
    fail(produce, delivery->error);
}

static void on_open(void *context, enum flo_error error)
{
    struct produce *produce = context;
    if (error != FLO_OK) {
        produce->cli->quiet = true;
        fail(produce, error);
    } else if (produce->partition >= (int32_t)flo_producer_partitions(produce->producer)) {
        produce->cli->quiet = true;
        fail(produce, FLO_UNKNOWN_PARTITION);
    }
}

static void on_progress(uv_timer_t *timer)
{
    struct produce *produce = timer->data;
    produce->cli->progress_shown = true;
    fprintf(stderr, "\r%" PRIu64 " records, %.1f MB ", produce->acked, (double)produce->bytes / 1e6);
}

int cli_produce(struct cli *cli, int argc, char **argv)
{
    struct produce produce = {.cli = cli, .partition = FLO_ANY_PARTITION, .fd = -1, .capacity = BUFFER_BYTES};
    flo_producer_options_init(&produce.options);
    argp_parse(&produce_argp, argc, argv, 0, NULL, &produce);
    produce.buffer = malloc(produce.capacity);
    ASSERT(produce.buffer != NULL);
    cli_open(cli, "produce");
    cli_watch_interrupt(cli, on_interrupt, &produce);
    produce.idle.data = produce.progress.data = &produce;
    uv_idle_init(cli->loop, &produce.idle);
    uv_timer_init(cli->loop, &produce.progress);
    if (!cli->quiet && isatty(STDERR_FILENO))
        uv_timer_start(&produce.progress, on_progress, PROGRESS_MS, PROGRESS_MS);
    produce.started_ns = uv_hrtime();
    produce.options.topic = produce.topic;
    produce.options.context = &produce;
    produce.options.on_open = on_open;
    produce.options.on_writable = on_writable;
    produce.options.on_delivered = on_delivered;
    enum flo_error error = flo_producer_open(cli->client, &produce.options, &produce.producer);
    if (error != FLO_OK) {
        cli_topic_error(cli, produce.topic, error, "");
        return cli->exit_code;
    }
    int exit_code = cli_run(cli);
    free(produce.buffer);
    return exit_code;
}
