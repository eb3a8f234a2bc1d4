/* Hostile configuration files. A file is either accepted without a complaint or refused with at least one, each on a
 * line of its own with the file's name; reading twice says the same; what is accepted is within its bounds, and written
 * as a plain file means the same configuration again. Numbers with units: whatever text is given, the answer is that of
 * exact arithmetic.
 *
 * Input: the file. The first line is also read as a size and as a duration. */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "broker/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_BYTES_MAX  8192u
#define PLAIN_VALUE_MAX 120u /* longer ones came in pieces: libinih's lines are short */

enum kind { U64, I64, U32, BOOL, TEXT };

struct key {
    const char *section, *name;
    enum kind kind;
    size_t place;
};

#define KEY(section, name, kind, field)                                                                                \
    {                                                                                                                  \
        section, name, kind, offsetof(struct config, field)                                                            \
    }
static const struct key keys[] = {
    KEY("broker", "id", U64, id),
    KEY("broker", "data", TEXT, data),
    KEY("broker", "rack", TEXT, rack),
    KEY("broker", "cluster", TEXT, cluster),
    KEY("listen", "peer", TEXT, peer),
    KEY("listen", "admin", TEXT, admin),
    KEY("advertise", "peer", TEXT, advertise_peer),
    KEY("registry", "zookeeper", TEXT, zookeeper),
    KEY("registry", "root", TEXT, root),
    KEY("registry", "session_timeout_ms", U32, registry_session_timeout_ms),
    KEY("topic", "partitions", U32, partitions),
    KEY("topic", "auto_create", BOOL, auto_create),
    KEY("topic", "segment_bytes", U64, segment_bytes),
    KEY("topic", "segment_ms", I64, segment_ms),
    KEY("topic", "retention_bytes", I64, retention_bytes),
    KEY("topic", "retention_ms", I64, retention_ms),
    KEY("topic", "max_batch_bytes", U32, max_batch_bytes),
    KEY("raft", "heartbeat_ms", U32, heartbeat_ms),
    KEY("raft", "election_ms", U32, election_ms),
    KEY("raft", "quiet_ms", U32, quiet_ms),
    KEY("raft", "timeout_entry_ms", U32, timeout_entry_ms),
    KEY("raft", "snapshot_bytes", U64, snapshot_bytes),
    KEY("raft", "snapshot_entries", U64, snapshot_entries),
    KEY("raft", "producer_expiry_ms", I64, producer_expiry_ms),
    KEY("wal", "file_bytes", U64, wal_file_bytes),
    KEY("wal", "budget_bytes", U64, wal_budget_bytes),
    KEY("limits", "connections", U32, connections),
    KEY("limits", "inflight_bytes", U64, inflight_bytes),
    KEY("limits", "memory_bytes", U64, memory_bytes),
    KEY("limits", "open_files", U32, open_files),
};

/* --- reading --- */

static struct config_answer {
    struct config config;
    enum err error;
    char *complaints;
    size_t complaints_size;
} first, second;

/* /proc/self/fd/N of one file in memory that is written anew for every read. */
static const char *put_file(const void *data, size_t size)
{
    static char path[32];
    static int file = -1;
    if (file < 0) {
        file = memfd_create("config", 0);
        ASSERT(file >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    ASSERT(ftruncate(file, 0) == 0 && pwrite(file, data, size, 0) == (ssize_t)size);
    return path;
}

static void read_config(struct config_answer *answer, const void *data, size_t size)
{
    const char *path = put_file(data, size);
    config_defaults(&answer->config);
    FILE *complaints = open_memstream(&answer->complaints, &answer->complaints_size);
    ASSERT(complaints != NULL);
    answer->error = config_read(&answer->config, path, complaints);
    fclose(complaints);
}

static void check_complaints(const struct config_answer *answer)
{
    ASSERT(answer->error == OK || answer->error == ERR_INVALID);
    ASSERT((answer->error == OK) == (answer->complaints_size == 0));
    if (answer->complaints_size > 0) {
        ASSERT(strncmp(answer->complaints, "/proc/self/fd/", 14) == 0);
        ASSERT(answer->complaints[answer->complaints_size - 1] == '\n');
    }
}

/* --- what was accepted --- */

static void check_bounds(const struct config *c)
{
    ASSERT(c->id >= 1 && c->id <= INT64_MAX && c->partitions >= 1 && c->partitions <= PARTITIONS_PER_TOPIC_MAX);
    ASSERT(c->replicas <= RAFT_VOTERS_MAX && c->segment_bytes >= SEGMENT_BYTES_MIN);
    ASSERT(c->segment_bytes <= SEGMENT_BYTES_MAX && c->max_batch_bytes <= BATCH_BYTES_MAX);
    ASSERT((c->segment_ms == -1 || c->segment_ms > 0) && (c->retention_ms == -1 || c->retention_ms > 0));
    ASSERT(c->retention_bytes >= -1 && c->wal_file_bytes >= WAL_FILE_BYTES_MIN);
    ASSERT(c->client_count >= 1 && c->client_count <= CLIENT_LISTENERS_MAX);
    ASSERT(c->advertise_client_count <= CLIENT_LISTENERS_MAX && c->connections > 0 && c->open_files >= 8);
    for (uint32_t i = 0; i < c->client_count; i++) {
        const struct config_address *address = &c->client[i];
        ASSERT(strnlen(address->name, sizeof address->name) < sizeof address->name);
        ASSERT(strnlen(address->address, sizeof address->address) < sizeof address->address);
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (keys[i].kind == TEXT)
            ASSERT(strnlen((const char *)c + keys[i].place, 4096) < 4096);
    }
}

/* The configuration as a plain file; false: a value cannot be said in one line. */
static bool write_plain(const struct config *c, FILE *out)
{
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *place = (const char *)c + keys[i].place;
        fprintf(out, "[%s]\n%s=", keys[i].section, keys[i].name);
        if (keys[i].kind == U64)
            fprintf(out, "%llu\n", (unsigned long long)*(const uint64_t *)place);
        else if (keys[i].kind == I64)
            fprintf(out, "%lld\n", (long long)*(const int64_t *)place);
        else if (keys[i].kind == U32)
            fprintf(out, "%u\n", *(const uint32_t *)place);
        else if (keys[i].kind == BOOL)
            fprintf(out, "%s\n", *(const bool *)place ? "true" : "false");
        else
            fprintf(out, "%s\n", place);
        if (keys[i].kind == TEXT && strlen(place) > PLAIN_VALUE_MAX)
            return false;
    }
    fprintf(out, "[topic]\nreplicas=%u\n[log]\nlevel=%s\n", c->replicas, trace_level_name(c->level));
    for (uint32_t i = 0; i < c->client_count; i++) {
        if (strlen(c->client[i].address) > PLAIN_VALUE_MAX)
            return false;
    }
    return true;
}

static void check_plain(const struct config *c)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    ASSERT(out != NULL);
    bool is_plain = write_plain(c, out);
    fclose(out);
    if (c->replicas == 0) { /* "auto" is its only name */
        is_plain = false;
    }
    if (is_plain) {
        read_config(&second, text, size);
        ASSERT(second.error == OK);
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
            const char *a = (const char *)c + keys[i].place, *b = (const char *)&second.config + keys[i].place;
            size_t width = keys[i].kind == U32 ? 4 : keys[i].kind == BOOL ? 1 : 8;
            ASSERT(keys[i].kind == TEXT ? strcmp(a, b) == 0 : memcmp(a, b, width) == 0);
        }
        free(second.complaints);
    }
    free(text);
}

/* --- numbers with units --- */

/* The same rule written down a second time: digits, blanks, one of the units of the manual, whatever its case. */
static bool parse_exactly(const char *text, const char *const *units, const uint64_t *factors, uint64_t *ret_value)
{
    unsigned __int128 value = 0;
    while (strchr(" \t\n\v\f\r", *text) != NULL && *text != '\0')
        text++;
    if (*text < '0' || *text > '9')
        return false;
    for (; *text >= '0' && *text <= '9'; text++) {
        value = value * 10 + (unsigned)(*text - '0');
        if (value > UINT64_MAX)
            return false;
    }
    while (strchr(" \t\n\v\f\r", *text) != NULL && *text != '\0')
        text++;
    for (; *units != NULL; units++, factors++) {
        if (strcasecmp(text, *units) == 0) {
            value *= *factors;
            *ret_value = (uint64_t)value;
            return value <= UINT64_MAX;
        }
    }
    return false;
}

static void check_numbers(const uint8_t *data, size_t size)
{
    static const char *const byte_units[] = {"",  "B", "KiB", "MiB", "GiB", "TiB", "K",
                                             "M", "G", "kB",  "MB",  "GB",  NULL};
    static const uint64_t byte_factors[] = {1,       1,       1 << 10, 1 << 20, 1 << 30, (uint64_t)1 << 40,
                                            1 << 10, 1 << 20, 1 << 30, 1000,    1000000, 1000000000};
    static const char *const ms_units[] = {"", "ms", "s", "m", "min", "h", "d", NULL};
    static const uint64_t ms_factors[] = {1, 1, 1000, 60000, 60000, 3600000, 86400000};
    const uint8_t *end = memchr(data, '\n', size);
    char *text = strndup((const char *)data, end != NULL ? (size_t)(end - data) : size);
    uint64_t bytes = 77, expected = 77;
    int64_t ms = 77;
    bool is_bytes = parse_exactly(text, byte_units, byte_factors, &expected);
    ASSERT(config_parse_bytes(text, &bytes) == is_bytes && (!is_bytes || bytes == expected));
    bool is_ms = parse_exactly(text, ms_units, ms_factors, &expected) && expected <= INT64_MAX;
    ASSERT(config_parse_ms(text, &ms) == is_ms && (!is_ms || ms == (int64_t)expected));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > FILE_BYTES_MAX)
        return 0;
    read_config(&first, data, size);
    check_complaints(&first);
    read_config(&second, data, size);
    ASSERT(second.error == first.error && second.complaints_size == first.complaints_size);
    ASSERT(memcmp(second.complaints, first.complaints, first.complaints_size) == 0);
    ASSERT(memcmp(&second.config, &first.config, sizeof first.config) == 0);
    free(second.complaints);
    if (first.error == OK) {
        FILE *nowhere = fmemopen(NULL, 4096, "w");
        check_bounds(&first.config);
        ASSERT(nowhere != NULL);
        config_check(&first.config, nowhere);
        fclose(nowhere);
        check_plain(&first.config);
    }
    free(first.complaints);
    check_numbers(data, size);
    return 0;
}
