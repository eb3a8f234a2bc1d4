/* The configuration file: one table says section, key, kind, place and bounds; libinih reads, this file judges. */
#include "broker/config.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum config_kind {
    CONFIG_U64,
    CONFIG_U32,
    CONFIG_BYTES64, /* uint64_t, with units */
    CONFIG_BYTES32, /* uint32_t, with units */
    CONFIG_LIMIT,   /* int64_t bytes, -1 = none */
    CONFIG_MS32,    /* uint32_t milliseconds, with units */
    CONFIG_MS64,    /* int64_t milliseconds, -1 = never */
    CONFIG_BOOL,
    CONFIG_TEXT,
    CONFIG_LEVEL,
    CONFIG_REPLICAS, /* a number or "auto" */
    CONFIG_LISTENERS,
};

struct config_key {
    const char *section;
    const char *name;
    enum config_kind kind;
    size_t place;
    size_t size; /* CONFIG_TEXT: capacity; CONFIG_LISTENERS: place of the count */
    uint64_t minimum, maximum;
};

#define PLACE(field) offsetof(struct config, field)
#define TEXT(section, name, field)                                                                                     \
    {                                                                                                                  \
        section, name, CONFIG_TEXT, PLACE(field), sizeof((struct config *)0)->field, 0, 0                              \
    }
#define NUMBER(section, name, kind, field, minimum, maximum)                                                           \
    {                                                                                                                  \
        section, name, kind, PLACE(field), 0, minimum, maximum                                                         \
    }
#define LISTENERS(section, field)                                                                                      \
    {                                                                                                                  \
        section, "client", CONFIG_LISTENERS, PLACE(field), PLACE(field##_count), 0, 0                                  \
    }
#define MINUTE_MS 60000u
#define GIB       ((uint64_t)1 << 30)

static const struct config_key config_keys[] = {
    NUMBER("broker", "id", CONFIG_U64, id, 1, INT64_MAX),
    TEXT("broker", "data", data),
    TEXT("broker", "rack", rack),
    TEXT("broker", "cluster", cluster),
    LISTENERS("listen", client),
    TEXT("listen", "peer", peer),
    TEXT("listen", "admin", admin),
    LISTENERS("advertise", advertise_client),
    TEXT("advertise", "peer", advertise_peer),
    TEXT("registry", "zookeeper", zookeeper),
    TEXT("registry", "root", root),
    NUMBER("registry", "session_timeout_ms", CONFIG_MS32, registry_session_timeout_ms, 100, 10 * MINUTE_MS),
    NUMBER("topic", "partitions", CONFIG_U32, partitions, 1, PARTITIONS_PER_TOPIC_MAX),
    NUMBER("topic", "replicas", CONFIG_REPLICAS, replicas, 1, RAFT_VOTERS_MAX),
    NUMBER("topic", "auto_create", CONFIG_BOOL, auto_create, 0, 0),
    NUMBER("topic", "segment_bytes", CONFIG_BYTES64, segment_bytes, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
    NUMBER("topic", "segment_ms", CONFIG_MS64, segment_ms, 1, INT64_MAX),
    NUMBER("topic", "retention_bytes", CONFIG_LIMIT, retention_bytes, 0, INT64_MAX),
    NUMBER("topic", "retention_ms", CONFIG_MS64, retention_ms, 1, INT64_MAX),
    NUMBER("topic", "max_batch_bytes", CONFIG_BYTES32, max_batch_bytes, 1024, BATCH_BYTES_MAX),
    NUMBER("raft", "heartbeat_ms", CONFIG_MS32, heartbeat_ms, 1, MINUTE_MS),
    NUMBER("raft", "election_ms", CONFIG_MS32, election_ms, 2, 10 * MINUTE_MS),
    NUMBER("raft", "quiet_ms", CONFIG_MS32, quiet_ms, 0, 60 * MINUTE_MS),
    NUMBER("raft", "timeout_entry_ms", CONFIG_MS32, timeout_entry_ms, 0, 60 * MINUTE_MS),
    NUMBER("raft", "snapshot_bytes", CONFIG_BYTES64, snapshot_bytes, 4096, 1024 * GIB),
    NUMBER("raft", "snapshot_entries", CONFIG_U64, snapshot_entries, 1, UINT32_MAX),
    NUMBER("raft", "producer_expiry_ms", CONFIG_MS64, producer_expiry_ms, 1000, INT64_MAX),
    NUMBER("wal", "file_bytes", CONFIG_BYTES64, wal_file_bytes, WAL_FILE_BYTES_MIN, GIB),
    NUMBER("wal", "budget_bytes", CONFIG_BYTES64, wal_budget_bytes, 4 * WAL_FILE_BYTES_MIN, 1024 * GIB),
    NUMBER("group", "session_timeout_ms", CONFIG_MS32, group_session_timeout_ms, 100, 60 * MINUTE_MS),
    NUMBER("group", "ack_timeout_ms", CONFIG_MS32, ack_timeout_ms, 100, 60 * MINUTE_MS),
    NUMBER("group", "offsets_retention_ms", CONFIG_MS64, offsets_retention_ms, 1000, INT64_MAX),
    NUMBER("limits", "connections", CONFIG_U32, connections, 1, 1000000),
    NUMBER("limits", "inflight_bytes", CONFIG_BYTES64, inflight_bytes, BATCH_BYTES_MAX, 1024 * GIB),
    NUMBER("limits", "memory_bytes", CONFIG_BYTES64, memory_bytes, (uint64_t)64 << 20, 1024 * GIB),
    NUMBER("limits", "open_files", CONFIG_U32, open_files, 8, 1000000),
    NUMBER("limits", "scrub_period_ms", CONFIG_MS64, scrub_period_ms, SCRUB_PERIOD_MS_MIN, SCRUB_PERIOD_MS_MAX),
    NUMBER("log", "level", CONFIG_LEVEL, level, 0, 0),
};

void config_defaults(struct config *c)
{
    *c = (struct config){
        .id = 1,
        .data = "./flotilla-data",
        .client = {{.name = "client", .address = "127.0.0.1:9640"}},
        .client_count = 1,
        .peer = "127.0.0.1:9641",
        .admin = "127.0.0.1:9642",
        .root = "/flotilla",
        .registry_session_timeout_ms = 6000,
        .partitions = 1,
        .segment_bytes = SEGMENT_BYTES_DEFAULT,
        .segment_ms = -1,
        .retention_bytes = -1,
        .retention_ms = -1,
        .max_batch_bytes = BATCH_BYTES_DEFAULT,
        .heartbeat_ms = 100,
        .election_ms = 800,
        .quiet_ms = 5000,
        .timeout_entry_ms = 1000,
        .snapshot_bytes = (uint64_t)256 << 20,
        .snapshot_entries = 100000,
        .producer_expiry_ms = (int64_t)7 * 24 * 60 * MINUTE_MS,
        .wal_file_bytes = WAL_FILE_BYTES_DEFAULT,
        .wal_budget_bytes = WAL_BUDGET_BYTES_DEFAULT,
        .group_session_timeout_ms = 10000,
        .ack_timeout_ms = 30000,
        .offsets_retention_ms = (int64_t)7 * 24 * 60 * MINUTE_MS,
        .connections = CONNECTIONS_DEFAULT,
        .inflight_bytes = (uint64_t)256 << 20,
        .memory_bytes = GIB,
        .open_files = STORE_OPEN_FILES_DEFAULT,
        .scrub_period_ms = SCRUB_PERIOD_MS_DEFAULT,
        .level = TRACE_INFO,
    };
}

/* --- numbers with units --- */

struct config_unit {
    const char *name;
    uint64_t factor;
};

static bool config__parse_units(const char *text, const struct config_unit *units, uint64_t *ret_value)
{
    char *end;
    while (isspace((unsigned char)*text)) {
        text++;
    }
    if (!isdigit((unsigned char)*text)) {
        return false;
    }
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    while (isspace((unsigned char)*end)) {
        end++;
    }
    for (const struct config_unit *unit = units; unit->name != NULL; unit++) {
        if (strcasecmp(end, unit->name) == 0) {
            return !__builtin_mul_overflow(value, unit->factor, ret_value);
        }
    }
    return false;
}

bool config_parse_bytes(const char *text, uint64_t *ret_bytes)
{
    static const struct config_unit units[] = {
        {"", 1},     {"B", 1},        {"KiB", 1024}, {"MiB", 1u << 20}, {"GiB", GIB},    {"TiB", GIB * 1024},
        {"K", 1024}, {"M", 1u << 20}, {"G", GIB},    {"kB", 1000},      {"MB", 1000000}, {"GB", 1000000000},
        {NULL, 0}};
    return config__parse_units(text, units, ret_bytes);
}

bool config_parse_ms(const char *text, int64_t *ret_ms)
{
    static const struct config_unit units[] = {{"", 1},        {"ms", 1},      {"s", 1000},     {"m", 60000},
                                               {"min", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0}};
    uint64_t value;
    if (!config__parse_units(text, units, &value) || value > INT64_MAX) {
        return false;
    }
    *ret_ms = (int64_t)value;
    return true;
}

/* --- one key --- */

static bool config__number(const struct config_key *key, const char *text, uint64_t *ret_value)
{
    int64_t ms;
    switch (key->kind) {
    case CONFIG_BYTES64:
    case CONFIG_BYTES32:
    case CONFIG_LIMIT:
        return config_parse_bytes(text, ret_value);
    case CONFIG_MS32:
    case CONFIG_MS64:
        if (!config_parse_ms(text, &ms)) {
            return false;
        }
        *ret_value = (uint64_t)ms;
        return true;
    default: {
        char *end;
        errno = 0;
        *ret_value = strtoull(text, &end, 10);
        return isdigit((unsigned char)*text) && *end == '\0' && errno == 0;
    }
    }
}

static const char *config__set_number(struct config *c, const struct config_key *key, const char *text)
{
    uint64_t value;
    char *place = (char *)c + key->place;
    if ((key->kind == CONFIG_LIMIT || key->kind == CONFIG_MS64) && strcmp(text, "-1") == 0) {
        *(int64_t *)place = -1;
        return NULL;
    }
    if (key->kind == CONFIG_REPLICAS && strcmp(text, "auto") == 0) {
        *(uint32_t *)place = 0;
        return NULL;
    }
    if (!config__number(key, text, &value)) {
        return "is not a number";
    }
    if (value < key->minimum) {
        return "is too small";
    }
    if (value > key->maximum) {
        return "is too large";
    }
    if (key->kind == CONFIG_U64 || key->kind == CONFIG_BYTES64) {
        *(uint64_t *)place = value;
    } else if (key->kind == CONFIG_LIMIT || key->kind == CONFIG_MS64) {
        *(int64_t *)place = (int64_t)value;
    } else {
        *(uint32_t *)place = (uint32_t)value;
    }
    return NULL;
}

/* "host:port", or up to four of "name=host:port" separated by commas. */
static const char *config__set_listeners(struct config *c, const struct config_key *key, const char *text)
{
    struct config_address *out = (struct config_address *)((char *)c + key->place);
    uint32_t count = 0;
    while (*text != '\0') {
        size_t size = strcspn(text, ",");
        const char *equals = memchr(text, '=', size);
        struct config_address address = {.name = "client"};
        if (count == CLIENT_LISTENERS_MAX) {
            return "names more than 4 addresses";
        }
        if (equals != NULL) {
            size_t name_size = (size_t)(equals - text);
            if (name_size == 0 || name_size >= sizeof address.name) {
                return "has a listener name that is empty or too long";
            }
            memcpy(address.name, text, name_size);
            address.name[name_size] = '\0';
            text += name_size + 1;
            size -= name_size + 1;
        }
        if (size == 0 || size >= sizeof address.address) {
            return "is not an address";
        }
        memcpy(address.address, text, size);
        for (uint32_t i = 0; i < count; i++) {
            if (strcmp(out[i].name, address.name) == 0) {
                return "names one listener twice";
            }
        }
        out[count++] = address;
        text += size + (text[size] == ',' ? 1 : 0);
        text += strspn(text, " ");
    }
    if (count == 0) {
        return "is empty";
    }
    *(uint32_t *)((char *)c + key->size) = count;
    return NULL;
}

static const char *config__set(struct config *c, const struct config_key *key, const char *text)
{
    char *place = (char *)c + key->place;
    switch (key->kind) {
    case CONFIG_TEXT:
        if (strlen(text) >= key->size) {
            return "is too long";
        }
        text_copy(place, key->size, text);
        return NULL;
    case CONFIG_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) {
            return "is neither true nor false";
        }
        *(bool *)place = text[0] == 't';
        return NULL;
    case CONFIG_LEVEL:
        for (enum trace_level level = TRACE_DEBUG; level <= TRACE_ERROR; level++) {
            if (strcmp(text, trace_level_name(level)) == 0) {
                c->level = level;
                return NULL;
            }
        }
        return "is none of debug, info, warn, error";
    case CONFIG_LISTENERS:
        return config__set_listeners(c, key, text);
    default:
        return config__set_number(c, key, text);
    }
}

/* --- the file --- */

struct config_reader {
    struct config *config;
    const char *path;
    FILE *complaints;
    FILE *file;
    int line; /* Debian's libinih does not hand it to the handler, so it is counted where lines are read */
    bool failed;
};

static char *config__next_line(char *line, int size, void *context)
{
    struct config_reader *r = context;
    r->line++;
    if (fgets(line, size, r->file) == NULL) {
        return NULL;
    }
    size_t used = strlen(line);
    if (used == (size_t)size - 1 && line[used - 1] != '\n') { /* the rest must not be read as a line of its own */
        int c;
        while ((c = fgetc(r->file)) != EOF && c != '\n') {
        }
        if (line[strspn(line, " \t")] != ';' && line[strspn(line, " \t")] != '#') {
            fprintf(r->complaints, "%s:%d: longer than %d bytes\n", r->path, r->line, size - 2);
            r->failed = true;
        }
    }
    return line;
}

static int config__on_key(void *context, const char *section, const char *name, const char *value)
{
    struct config_reader *r = context;
    int line = r->line;
    for (size_t i = 0; i < sizeof config_keys / sizeof config_keys[0]; i++) {
        const struct config_key *key = &config_keys[i];
        if (strcmp(key->section, section) != 0 || strcmp(key->name, name) != 0) {
            continue;
        }
        const char *why = config__set(r->config, key, value);
        if (why != NULL) {
            fprintf(r->complaints, "%s:%d: [%s] %s = '%s' %s\n", r->path, line, section, name, value, why);
            r->failed = true;
        }
        return 1;
    }
    fprintf(r->complaints, "%s:%d: unknown key '%s' in section [%s]\n", r->path, line, name, section);
    r->failed = true;
    return 1;
}

enum err config_read(struct config *config, const char *path, FILE *complaints)
{
    struct config_reader reader = {.config = config, .path = path, .complaints = complaints};
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return ERR_NO_FILE;
    }
    reader.file = file;
    int line = ini_parse_stream(config__next_line, &reader, config__on_key, &reader);
    fclose(file);
    if (line > 0) {
        fprintf(complaints, "%s:%d: neither [section] nor key = value\n", path, line);
    }
    return line != 0 || reader.failed ? ERR_INVALID : OK;
}

enum err config_check(const struct config *c, FILE *complaints)
{
    bool good = true;
    if (c->election_ms < 2 * c->heartbeat_ms) {
        fprintf(complaints, "[raft] election_ms must be at least twice heartbeat_ms\n");
        good = false;
    }
    if (c->wal_budget_bytes < 4 * c->wal_file_bytes) {
        fprintf(complaints, "[wal] budget_bytes must be at least four times file_bytes\n");
        good = false;
    }
    if (c->max_batch_bytes > c->segment_bytes) {
        fprintf(complaints, "[topic] max_batch_bytes must not exceed segment_bytes\n");
        good = false;
    }
    if (c->max_batch_bytes > c->wal_budget_bytes / WAL_BATCH_PARTS) {
        fprintf(complaints, "[topic] max_batch_bytes must not exceed a quarter of [wal] budget_bytes\n");
        good = false;
    }
    if (c->data[0] == '\0') {
        fprintf(complaints, "[broker] data must name a directory\n");
        good = false;
    }
    return good ? OK : ERR_INVALID;
}
