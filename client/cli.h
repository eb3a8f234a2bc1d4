/* Inside the `flotilla` command: what its subcommands share. main is in cli.c; each subcommand has a file of its own.
 *
 * stdout carries data only. Errors are one line on stderr, "flotilla: what (the way out)". Exit codes: 0 done, 1
 * failed, 2 usage, 130 interrupted. */
#ifndef FLOTILLA_CLIENT_CLI_H
#define FLOTILLA_CLIENT_CLI_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "client/flotilla.h"

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

struct cli {
    /* global options */
    const char *brokers;
    bool json;
    bool quiet;
    uint32_t timeout_ms;
    /* the run */
    uv_loop_t *loop;
    struct flo_client *client; /* NULL: none, or closed */
    int exit_code;
    bool progress_shown; /* a line without its end is on the terminal */
    uv_signal_t interrupt;
    bool interrupt_watched;
    void (*on_interrupt)(void *context); /* first Ctrl-C; the second ends the process */
    void *on_interrupt_context;
};

/* The global options, as .children of every subcommand's argp; its parser hands the struct cli on as child_inputs[0].
 */
extern const struct argp_child cli_global_child[2];

/* Parses the global options in front of a verb (`topic --json list`) and returns where the verb stands in argv. Without
 * one it prints the help and ends the process. */
int cli_take_verb(struct cli *cli, int argc, char **argv, const char *args_doc, const char *doc);

/* One line on stderr. */
void cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same and exit(CLI_USAGE). */
_Noreturn void cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "flotilla: WHAT is not in this version", exit 2. */
_Noreturn void cli_later(const char *what);

/* What is printed next on stderr stands on a line of its own. */
void cli_clear_progress(struct cli *cli);

/* Explains an error about a topic, with the way out; detail may be "". Sets exit_code to CLI_FAILED. */
void cli_topic_error(struct cli *cli, const char *topic, enum flo_error error, const char *detail);

/* Makes loop and client; usage error if the broker list is malformed. */
void cli_open(struct cli *cli, const char *command);
struct flo_client *cli_new_client(struct cli *cli, const char *command); /* another one on the same loop */
void cli_watch_interrupt(struct cli *cli, void (*on_interrupt)(void *context), void *context);
void cli_close(struct cli *cli); /* closes client and signal watcher; the loop ends when all else is closed, too */
int cli_run(struct cli *cli);    /* runs the loop to its end; the exit code */

int cli_topic(struct cli *cli, int argc, char **argv);
int cli_produce(struct cli *cli, int argc, char **argv);
int cli_consume(struct cli *cli, int argc, char **argv);
int cli_bench(struct cli *cli, int argc, char **argv);

/* ---- numbers and times people type (cli_number.c) ---- */
bool cli_number_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value);
bool cli_number_bytes(const char *text, int64_t *ret_bytes);             /* "64MiB", "1 GiB", "100000", "-1" */
bool cli_number_ms(const char *text, int64_t *ret_ms);                   /* "7d", "10 s", "100000", "-1" */
bool cli_number_seconds(const char *text, uint32_t *ret_ms);             /* "30", "0.5" */
bool cli_number_time(const char *text, int64_t now_ms, int64_t *ret_ms); /* "1700000000000", RFC 3339, "-1h" */

/* "-1" or an option's text as in every message: usage error if it is out of bounds. */
uint64_t cli_number_option(const char *option, const char *text, uint64_t min, uint64_t max);

/* Options of produce and bench alike; usage errors end the process. */
enum flo_codec cli_parse_codec(const char *text);
enum flo_acks cli_parse_acks(const char *text);

/* Undoes \n \t \r \0 \\ \xNN in place; returns the new size. */
size_t cli_unescape(char *text);

#endif
