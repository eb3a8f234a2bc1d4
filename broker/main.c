/* flotillad: arguments, configuration, the real ports, signals, exit codes. Everything the broker decides is in
 * lib_broker. */
#include <argp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/text.h"
#include "broker/admin.h"
#include "broker/broker.h"
#include "broker/config.h"
#include "broker/pages.h"
#include "os/disk.h"
#include "os/link.h"
#include "os/listener.h"
#include "os/lmdb.h"
#include "os/loop.h"
#include "wire/codec.h"

/* glibc reads it: it must be seen outside the program, which is built with hidden symbols. */
__attribute__((visibility("default"))) const char *argp_program_version = "flotillad " FLOTILLA_VERSION;

#define KV_DIR "meta"
#define FILES_RESERVED                                                                                                 \
    (64u + ADMIN_CONNECTIONS_MAX) /* also WAL, checkpoint store, listeners, what jobs open briefly                     \
                                   */

enum option_key {
    OPTION_DATA = 256,
    OPTION_ID,
    OPTION_CLIENT,
    OPTION_PEER,
    OPTION_ADMIN,
    OPTION_ZOOKEEPER,
    OPTION_CHECK
};

struct arguments {
    const char *file, *data, *client, *peer, *admin, *zookeeper;
    uint64_t id;
    bool id_given;
    bool check;
};

struct daemon {
    struct config config;
    struct trace trace;
    struct os_loop *loop;
    struct os_disk *disk;
    struct os_lmdb *kv;
    struct broker *broker;
    struct os_listener *client[CLIENT_LISTENERS_MAX];
    uint8_t refusal[CODEC_HEAD_BYTES_MAX]; /* what connections in excess are told */
    struct os_listener *peer;
    struct admin *admin;
    const char *config_file; /* NULL: none */
    unsigned signals;
    int exit_code;
};

/* --- arguments --- */

static error_t arguments__parse(int key, char *text, struct argp_state *state)
{
    struct arguments *a = state->input;
    char *end;
    switch (key) {
    case 'c':
        a->file = text;
        return 0;
    case OPTION_DATA:
        a->data = text;
        return 0;
    case OPTION_ID:
        a->id = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9' || *end != '\0' || a->id == 0) {
            argp_error(state, "--id wants a number from 1 on, not '%s'", text);
        }
        a->id_given = true;
        return 0;
    case OPTION_CLIENT:
        a->client = text;
        return 0;
    case OPTION_PEER:
        a->peer = text;
        return 0;
    case OPTION_ADMIN:
        a->admin = text;
        return 0;
    case OPTION_ZOOKEEPER:
        a->zookeeper = text;
        return 0;
    case OPTION_CHECK:
        a->check = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected argument '%s'", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void arguments__read(int argc, char **argv, struct arguments *ret_arguments)
{
    static const struct argp_option options[] = {
        {"config", 'c', "FILE", 0, "configuration file (INI)", 0},
        {"data", OPTION_DATA, "DIR", 0, "data directory (default ./flotilla-data)", 0},
        {"id", OPTION_ID, "N", 0, "broker id (default 1)", 0},
        {"client", OPTION_CLIENT, "HOST:PORT", 0, "address for clients (default 127.0.0.1:9640)", 0},
        {"peer", OPTION_PEER, "HOST:PORT", 0, "address for other brokers (default 127.0.0.1:9641)", 0},
        {"admin", OPTION_ADMIN, "HOST:PORT", 0, "address for health and metrics (default 127.0.0.1:9642)", 0},
        {"zookeeper", OPTION_ZOOKEEPER, "LIST", 0, "ZooKeeper servers (default: embedded registry)", 0},
        {"check", OPTION_CHECK, 0, 0, "check the configuration and exit", 0},
        {0},
    };
    static const struct argp argp = {
        options, arguments__parse,
        0,       "flotillad - a durable, partitioned message broker. Flags override the file.",
        0,       0,
        0};
    argp_err_exit_status = BROKER_EXIT_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, ret_arguments);
}

static enum err daemon__configure(struct daemon *d, const struct arguments *a)
{
    struct config *c = &d->config;
    config_defaults(c);
    if (a->file != NULL) {
        enum err error = config_read(c, a->file, stderr);
        if (error == ERR_NO_FILE) {
            fprintf(stderr, "flotillad: cannot read configuration file %s\n", a->file);
        }
        if (error != OK) {
            return error;
        }
    }
    if (a->data != NULL) {
        text_copy(c->data, sizeof c->data, a->data);
    }
    if (a->id_given) {
        c->id = a->id;
    }
    if (a->client != NULL) {
        text_copy(c->client[0].address, sizeof c->client[0].address, a->client);
        c->client_count = 1;
    }
    if (a->peer != NULL) {
        text_copy(c->peer, sizeof c->peer, a->peer);
    }
    if (a->admin != NULL) {
        text_copy(c->admin, sizeof c->admin, a->admin);
    }
    if (a->zookeeper != NULL) {
        text_copy(c->zookeeper, sizeof c->zookeeper, a->zookeeper);
    }
    enum err error = config_check(c, stderr);
    if (error == OK && c->zookeeper[0] != '\0') {
        fprintf(stderr, "flotillad: --zookeeper is not in this version; leave it out to use the embedded registry\n");
        error = ERR_UNSUPPORTED;
    }
    return error;
}

/* --- events --- */

static void daemon__exit(struct daemon *d, int code)
{
    d->exit_code = code;
    os_loop_stop(d->loop);
}

static void daemon__on_accept(void *context, struct link *link)
{
    struct daemon *d = context;
    broker_accept(d->broker, link);
}

static void daemon__on_refuse(void *context, enum os_refusal why)
{
    struct daemon *d = context;
    broker_count_refused(d->broker, why == OS_REFUSED_ADDRESS);
}

static void daemon__on_peer(void *context, struct link *link)
{
    (void)context;
    link->ops->close(link); /* one broker has no peers; the port is held for when there are */
}

static void daemon__advertise(struct daemon *d, uint32_t listener)
{
    const char *address = os_listener_address(d->client[listener]);
    for (uint32_t i = 0; i < d->config.advertise_client_count; i++) {
        if (strcmp(d->config.advertise_client[i].name, d->config.client[listener].name) == 0) {
            address = d->config.advertise_client[i].address;
        }
    }
    char host[ADDRESS_BYTES_MAX + 1];
    text_copy(host, sizeof host, address);
    char *colon = strrchr(host, ':');
    uint16_t port = colon != NULL ? (uint16_t)strtoul(colon + 1, NULL, 10) : 0;
    if (colon != NULL) {
        *colon = '\0';
    }
    broker_set_advertised(d->broker, listener, host, port);
}

static bool daemon__listen_at(struct daemon *d, const char *address, const char *name,
                              void (*on_accept)(void *context, struct link *link), struct os_listener **ret_listener)
{
    enum err error = os_listen(d->loop, address, name, d->config.connections, on_accept, d, ret_listener);
    if (error != OK) {
        fprintf(stderr, "flotillad: cannot listen on %s for %s: %s\n", address, name, err_text(error));
        daemon__exit(d, BROKER_EXIT_START);
    }
    return error == OK;
}

static unsigned daemon__page(void *context, const char *path, FILE *out, const char **ret_type)
{
    const struct daemon *d = context;
    return pages_write(d->broker, path, out, ret_type);
}

/* Before recovery: whoever asks for health is answered as soon as the loop turns, with "recovering". */
static bool daemon__listen_admin(struct daemon *d)
{
    const struct admin_source source = {.context = d, .page = daemon__page};
    enum err error = admin_open(d->loop, d->config.admin, &source, ADMIN_DEADLINE_MS, &d->admin);
    if (error != OK) {
        fprintf(stderr, "flotillad: cannot listen on %s for admin: %s\n", d->config.admin, err_text(error));
    }
    return error == OK;
}

static void daemon__on_ready(void *context)
{
    struct daemon *d = context;
    for (uint32_t i = 0; i < d->config.client_count; i++) {
        const struct config_address *listen = &d->config.client[i];
        if (!daemon__listen_at(d, listen->address, listen->name, daemon__on_accept, &d->client[i])) {
            return;
        }
        uint32_t size = broker_write_refusal(d->refusal, sizeof d->refusal);
        os_listener_refuse(d->client[i], broker_connections_per_address(&d->config), d->refusal, size,
                           daemon__on_refuse);
        daemon__advertise(d, i);
    }
    if (!daemon__listen_at(d, d->config.peer, "peer", daemon__on_peer, &d->peer)) {
        return;
    }
    printf("ready id=%lu client=%s peer=%s admin=%s registry=embedded\n", d->config.id,
           os_listener_address(d->client[0]), os_listener_address(d->peer), admin_address(d->admin));
    fflush(stdout);
}

static void daemon__on_fatal(void *context, enum broker_exit code, const char *why)
{
    struct daemon *d = context;
    fprintf(stderr, "flotillad: %s\n", why);
    daemon__exit(d, (int)code);
}

static void daemon__on_stopped(void *context)
{
    daemon__exit(context, BROKER_EXIT_STOPPED);
}

static void daemon__turn(void *context)
{
    struct daemon *d = context;
    if (d->broker != NULL) {
        broker_turn(d->broker);
    }
}

static void daemon__timer(void *context)
{
    struct daemon *d = context;
    broker_timer(d->broker);
}

static void daemon__reload(struct daemon *d)
{
    struct config fresh;
    config_defaults(&fresh);
    if (d->config_file == NULL || config_read(&fresh, d->config_file, stderr) != OK) {
        trace_warn(&d->trace, "reload", "changed=0");
        return;
    }
    d->trace.level = fresh.level; /* what can change while running */
    trace_info(&d->trace, "reload", "level=%s", trace_level_name(fresh.level));
}

static void daemon__signal(void *context, int signal_number)
{
    struct daemon *d = context;
    if (signal_number == SIGHUP) {
        if (d->broker != NULL) {
            broker_accept_clock(d->broker);
        }
        daemon__reload(d);
        return;
    }
    if (d->signals++ > 0 || d->broker == NULL) {
        daemon__exit(d, BROKER_EXIT_STOPPED); /* asked twice: the WAL has everything that was acknowledged */
        return;
    }
    for (uint32_t i = 0; i < d->config.client_count; i++) {
        os_listener_close(d->client[i]);
        d->client[i] = NULL;
    }
    broker_stop(d->broker);
}

/* --- start and end --- */

static int daemon__refuse(const struct daemon *d, enum err error)
{
    const char *data = d->config.data;
    switch (error) {
    case ERR_LOCKED:
        fprintf(stderr, "flotillad: data directory %s is in use by another broker\n", data);
        return BROKER_EXIT_START;
    case ERR_IDENTITY:
        fprintf(stderr, "flotillad: data directory %s belongs to another broker than id %lu\n", data, d->config.id);
        return BROKER_EXIT_START;
    case ERR_VERSION:
        fprintf(stderr, "flotillad: data directory %s has a format this version does not know\n", data);
        return BROKER_EXIT_START;
    case ERR_FORMAT:
        fprintf(
            stderr,
            "flotillad: the checkpoint store in %s/%s is unreadable: keep a copy of %s, then restore it from a backup, "
            "or start empty with another data directory\n",
            data, KV_DIR, data);
        return BROKER_EXIT_UNREADABLE;
    default:
        fprintf(stderr, "flotillad: cannot open data directory %s: %s\n", data, err_text(error));
        return error == ERR_NO_FILE ? BROKER_EXIT_START : BROKER_EXIT_STORAGE;
    }
}

static const struct os_loop_handler daemon__handler = {
    .turn = daemon__turn, .timer = daemon__timer, .signal = daemon__signal};

/* Clients must never take the last descriptors: a WAL file that cannot be opened ends the broker. So we ask for all
 * that the system allows, and what the configuration wants is cut down to it: half for segment files (two each: cached
 * and direct), the rest for connections, which then wait to be accepted. */
static void daemon__limit_files(struct daemon *d)
{
    struct config *config = &d->config;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    rlim_t given = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    uint64_t files = setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : given;
    uint64_t room = files > 2 * FILES_RESERVED ? files - FILES_RESERVED : files / 2;
    uint64_t segments = room / 4 < config->open_files ? room / 4 : config->open_files;
    uint64_t connections = (room - 2 * segments) / config->client_count;
    if (connections >= config->connections && segments == config->open_files) {
        return;
    }
    config->open_files = (uint32_t)segments;
    config->connections = connections < config->connections ? (uint32_t)connections : config->connections;
    trace_warn(&d->trace, "file_limit_low", "limit=%lu open_files=%u connections=%u", files, config->open_files,
               config->connections);
}

static enum err daemon__open(struct daemon *d)
{
    daemon__limit_files(d);
    enum err error = os_loop_open(NULL, &d->trace, &d->loop);
    if (error == OK) {
        error = os_loop_watch_signals(d->loop);
    }
    if (error == OK) {
        error = os_disk_open(d->config.data, d->loop, &d->disk);
    }
    if (error == OK) {
        error = os_disk_lock(d->disk);
    }
    if (error == OK) {
        error = os_lmdb_open(d->config.data, KV_DIR, 0, &d->trace, &d->kv);
    }
    return error;
}

static enum err daemon__recover(struct daemon *d)
{
    os_loop_set_handler(d->loop, &daemon__handler, d);
    const struct broker_options options = {.config = &d->config,
                                           .disk = os_disk_port(d->disk),
                                           .clock = os_loop_clock(d->loop),
                                           .kv = os_lmdb_port(d->kv),
                                           .trace = &d->trace,
                                           .context = d,
                                           .on_ready = daemon__on_ready,
                                           .on_fatal = daemon__on_fatal,
                                           .on_stopped = daemon__on_stopped};
    return broker_new(&options, &d->broker);
}

int main(int argc, char **argv)
{
    struct arguments arguments = {0};
    static struct daemon daemon; /* large; one per process */
    struct daemon *d = &daemon;
    arguments__read(argc, argv, &arguments);
    enum err error = daemon__configure(d, &arguments);
    if (error != OK) {
        return BROKER_EXIT_USAGE;
    }
    if (arguments.check) {
        printf("configuration ok\n");
        return 0;
    }
    d->config_file = arguments.file;
    d->trace = (struct trace){
        .level = d->config.level, .sink = trace_to_stderr, .context = getenv("JOURNAL_STREAM") != NULL ? d : NULL};
    error = daemon__open(d);
    if (error == OK && !daemon__listen_admin(d)) {
        return BROKER_EXIT_START;
    }
    if (error == OK) {
        error = daemon__recover(d);
    }
    if (error != OK) {
        return daemon__refuse(d, error);
    }
    os_loop_run(d->loop);
    fflush(stdout);
    /* Links, lanes and memory go with the process: what must be durable is. */
    _exit(d->exit_code);
}
