/* The `flotilla` command: global options, the table of subcommands, and what they share at run time. */
#include "client/cli.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "client/inspect.h"
#include "client/repair.h"

#define BROKERS_DEFAULT    "127.0.0.1:9640"
#define TIMEOUT_DEFAULT_MS 30000u

enum { KEY_JSON = 0x100, KEY_TIMEOUT };

static void print_version(FILE *stream, struct argp_state *state)
{
    fprintf(stream, "flotilla %s\n", flo_version());
}

/* ---- errors ---- */

static void print_error(const char *format, va_list arguments)
{
    fputs("flotilla: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
}

void cli_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_error(format, arguments);
    va_end(arguments);
}

void cli_usage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_error(format, arguments);
    va_end(arguments);
    exit(CLI_USAGE);
}

void cli_later(const char *what)
{
    cli_usage("%s is not in this version", what);
}

void cli_clear_progress(struct cli *cli)
{
    if (cli->progress_shown)
        fputs("\r\033[K", stderr);
    cli->progress_shown = false;
}

void cli_topic_error(struct cli *cli, const char *topic, enum flo_error error, const char *detail)
{
    cli->exit_code = CLI_FAILED;
    cli_clear_progress(cli);
    switch (error) {
    case FLO_UNKNOWN_TOPIC:
        cli_error("topic '%s' does not exist (flotilla topic create %s)", topic, topic);
        break;
    case FLO_TOPIC_EXISTS:
        cli_error("topic '%s' exists already (flotilla topic describe %s)", topic, topic);
        break;
    case FLO_INVALID_TOPIC:
        cli_error("'%s' is no topic name (1 to 249 of a-z A-Z 0-9 . _ -)", topic);
        break;
    case FLO_UNKNOWN_PARTITION:
        cli_error("topic '%s' has no such partition (flotilla topic describe %s)", topic, topic);
        break;
    case FLO_REFUSED:
        cli_error("no broker answers at %s (start flotillad, or name another with -b)", cli->brokers);
        break;
    case FLO_TOO_LARGE:
        cli_error("topic '%s': a record does not fit a batch (flotilla topic describe %s shows max_batch_bytes)", topic,
                  topic);
        break;
    case FLO_FENCED:
        cli_error("topic '%s': a newer producer with this name is at work (--producer takes another name)", topic);
        break;
    default:
        cli_error("topic '%s': %s", topic, detail != NULL && detail[0] != '\0' ? detail : flo_error_text(error));
    }
}

/* ---- options ---- */

static error_t parse_global(int key, char *argument, struct argp_state *state)
{
    struct cli *cli = state->input;
    switch (key) {
    case 'b':
        cli->brokers = argument;
        return 0;
    case 'q':
        cli->quiet = true;
        return 0;
    case KEY_JSON:
        cli->json = true;
        return 0;
    case KEY_TIMEOUT:
        if (!cli_number_seconds(argument, &cli->timeout_ms))
            cli_usage("--timeout takes seconds, not '%s'", argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option global_options[] = {
    {"brokers", 'b', "HOST:PORT[,...]", 0, "Where to find the cluster (FLOTILLA_BROKERS; default " BROKERS_DEFAULT ")",
     1},
    {"json", KEY_JSON, 0, 0, "Print JSON", 1},
    {"timeout", KEY_TIMEOUT, "SECONDS", 0, "Deadline of a request and of a record (default 30)", 1},
    {"quiet", 'q', 0, 0, "No summary and no progress", 1},
    {0},
};

static const struct argp global_argp = {.options = global_options, .parser = parse_global};

const struct argp_child cli_global_child[2] = {{&global_argp, 0, "Everywhere:", -1}, {0}};

/* ---- subcommands ---- */

struct command {
    const char *name;
    int (*run)(struct cli *cli, int argc, char **argv); /* NULL: of a later version */
    const char *help;
};

static const struct command commands[] = {
    {"topic", cli_topic, "create, list, describe, delete"},
    {"produce", cli_produce, "append records, one per line of files or stdin"},
    {"consume", cli_consume, "write records to stdout"},
    {"bench", cli_bench, "measure produce, consume, roundtrip"},
    {"inspect", cli_inspect, "show a data directory's wal, snapshot or segments, offline"},
    {"repair", cli_repair, "make what is left of a damaged partition the partition again, offline"},
    {"group", NULL, NULL},
    {"cluster", NULL, NULL},
    {"partition", NULL, NULL},
    {"broker", NULL, NULL},
};

/* The first word that is no option is the command; the rest is its own to parse. */
struct top {
    struct cli *cli;
    int command_at; /* in argv; 0: none */
};

static error_t parse_top(int key, char *argument, struct argp_state *state)
{
    struct top *top = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = top->cli;
        return 0;
    case ARGP_KEY_ARG:
        top->command_at = state->next - 1;
        state->next = state->argc;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static char *top_help(int key, const char *text, void *input)
{
    if (key != ARGP_KEY_HELP_POST_DOC)
        return (char *)(uintptr_t)text;
    char *help = NULL;
    size_t size;
    FILE *stream = open_memstream(&help, &size);
    ASSERT(stream != NULL);
    fputs("Commands:\n", stream);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (commands[i].run != NULL)
            fprintf(stream, "  %-10s %s\n", commands[i].name, commands[i].help);
    }
    fputs("\n`flotilla COMMAND --help` says more.", stream);
    fclose(stream);
    return help;
}

static const struct argp top_argp = {
    .parser = parse_top,
    .args_doc = "COMMAND [ARGUMENT...]",
    .doc = "Talks to a Flotilla cluster: topics, records, measurements.\v ",
    .children = cli_global_child,
    .help_filter = top_help,
};

static void print_help(const struct argp *argp, char *name)
{
    argp_help(argp, stdout, ARGP_HELP_STD_HELP & ~(unsigned)(ARGP_HELP_EXIT_OK | ARGP_HELP_EXIT_ERR), name);
}

int cli_take_verb(struct cli *cli, int argc, char **argv, const char *args_doc, const char *doc)
{
    struct top top = {.cli = cli};
    const struct argp argp = {.parser = parse_top, .args_doc = args_doc, .doc = doc, .children = cli_global_child};
    argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &top);
    if (top.command_at == 0) {
        print_help(&argp, argv[0]);
        exit(CLI_DONE);
    }
    return top.command_at;
}

static int run_command(struct cli *cli, int argc, char **argv)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[0], commands[i].name) != 0)
            continue;
        if (commands[i].run == NULL) {
            char what[64];
            /* `group list`, not `group`: what was asked for. */
            bool has_verb = argc > 1 && argv[1][0] != '-';
            snprintf(what, sizeof what, "%s%s%.32s", argv[0], has_verb ? " " : "", has_verb ? argv[1] : "");
            cli_later(what);
        }
        char name[64];
        snprintf(name, sizeof name, "flotilla %s", argv[0]);
        argv[0] = name;
        return commands[i].run(cli, argc, argv);
    }
    cli_usage("there is no command '%s' (flotilla --help)", argv[0]);
}

int main(int argc, char **argv)
{
    const char *brokers = getenv("FLOTILLA_BROKERS");
    struct cli cli = {
        .brokers = brokers != NULL && brokers[0] != '\0' ? brokers : BROKERS_DEFAULT,
        .timeout_ms = TIMEOUT_DEFAULT_MS,
    };
    struct top top = {.cli = &cli};
    char name[] = "flotilla";
    signal(SIGPIPE, SIG_IGN);
    argp_program_version_hook = print_version;
    argp_err_exit_status = CLI_USAGE;
    argv[0] = name;
    argp_parse(&top_argp, argc, argv, ARGP_IN_ORDER, NULL, &top);
    if (top.command_at == 0) {
        print_help(&top_argp, name);
        return CLI_DONE;
    }
    return run_command(&cli, argc - top.command_at, argv + top.command_at);
}

/* ---- the run ---- */

struct flo_client *cli_new_client(struct cli *cli, const char *command)
{
    struct flo_client_options options;
    struct flo_client *client = NULL;
    char client_id[64];
    snprintf(client_id, sizeof client_id, "flotilla-%s", command);
    flo_client_options_init(&options);
    options.brokers = cli->brokers;
    options.client_id = client_id;
    options.timeout_ms = cli->timeout_ms;
    enum flo_error error = flo_client_new(cli->loop, &options, &client);
    if (error == FLO_ADDRESS)
        cli_usage("'%s' is not HOST:PORT[,HOST:PORT] (-b, FLOTILLA_BROKERS)", cli->brokers);
    ASSERT(error == FLO_OK);
    return client;
}

void cli_open(struct cli *cli, const char *command)
{
    cli->loop = uv_default_loop();
    cli->client = cli_new_client(cli, command);
}

static void on_interrupt(uv_signal_t *signal_handle, int number)
{
    struct cli *cli = signal_handle->data;
    if (cli->exit_code == CLI_INTERRUPTED)
        _exit(CLI_INTERRUPTED);
    cli->exit_code = CLI_INTERRUPTED;
    cli->on_interrupt(cli->on_interrupt_context);
}

void cli_watch_interrupt(struct cli *cli, void (*callback)(void *context), void *context)
{
    cli->on_interrupt = callback;
    cli->on_interrupt_context = context;
    cli->interrupt.data = cli;
    cli->interrupt_watched = true;
    int status = uv_signal_init(cli->loop, &cli->interrupt);
    ASSERT(status == 0);
    uv_signal_start(&cli->interrupt, on_interrupt, SIGINT);
    uv_unref((uv_handle_t *)&cli->interrupt);
}

void cli_close(struct cli *cli)
{
    if (cli->client != NULL)
        flo_client_close(cli->client, NULL, NULL);
    cli->client = NULL;
    if (cli->interrupt_watched)
        uv_close((uv_handle_t *)&cli->interrupt, NULL);
    cli->interrupt_watched = false;
}

int cli_run(struct cli *cli)
{
    uv_run(cli->loop, UV_RUN_DEFAULT);
    uv_loop_close(cli->loop);
    return cli->exit_code;
}
