/* The configuration: defaults, the INI file (libinih), checks. deploy/flotilla.conf documents every key. */
#ifndef FLOTILLA_BROKER_CONFIG_H
#define FLOTILLA_BROKER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/limits.h"
#include "base/trace.h"

#define CLIENT_LISTENERS_MAX 4

struct config_address {
    char name[32];                       /* of the listener; "client" when there is only one */
    char address[ADDRESS_BYTES_MAX + 1]; /* "host:port" */
};

struct config {
    /* [broker] */
    uint64_t id;
    char data[4096];
    char rack[128];
    char cluster[64];
    /* [listen], [advertise] */
    struct config_address client[CLIENT_LISTENERS_MAX];
    uint32_t client_count;
    char peer[ADDRESS_BYTES_MAX + 1];
    char admin[ADDRESS_BYTES_MAX + 1];
    struct config_address advertise_client[CLIENT_LISTENERS_MAX];
    uint32_t advertise_client_count;
    char advertise_peer[ADDRESS_BYTES_MAX + 1];
    /* [registry] */
    char zookeeper[1024]; /* empty: embedded */
    char root[256];
    uint32_t registry_session_timeout_ms;
    /* [topic] defaults of new topics */
    uint32_t partitions;
    uint32_t replicas; /* 0: automatic */
    bool auto_create;
    uint64_t segment_bytes;
    int64_t segment_ms;
    int64_t retention_bytes;
    int64_t retention_ms;
    uint32_t max_batch_bytes;
    /* [raft] */
    uint32_t heartbeat_ms;
    uint32_t election_ms;
    uint32_t quiet_ms;         /* 0: off */
    uint32_t timeout_entry_ms; /* 0: off */
    uint64_t snapshot_bytes;
    uint64_t snapshot_entries;
    int64_t producer_expiry_ms;
    /* [wal] */
    uint64_t wal_file_bytes;
    uint64_t wal_budget_bytes;
    /* [group] */
    uint32_t group_session_timeout_ms;
    uint32_t ack_timeout_ms;
    int64_t offsets_retention_ms;
    /* [limits] */
    uint32_t connections;
    uint64_t inflight_bytes;
    uint64_t memory_bytes;
    uint32_t open_files;
    int64_t scrub_period_ms; /* -1: never */
    /* [log] */
    enum trace_level level;
};

void config_defaults(struct config *config);

/* Reads an INI file over *config. Every fault is printed to `complaints` as "FILE:LINE: text" (one line each, also
 * unknown keys and sections); ERR_INVALID if there was any, ERR_NO_FILE if it cannot be opened. */
enum err config_read(struct config *config, const char *path, FILE *complaints);

/* Checks that need more than one key (limits against each other). Complaints as above, without a line number. */
enum err config_check(const struct config *config, FILE *complaints);

/* "64 MiB", "1GiB", "100000", "10 s", "7d" are numbers to people; these are the units the file accepts. false: not a
 * number. */
bool config_parse_bytes(const char *text, uint64_t *ret_bytes);
bool config_parse_ms(const char *text, int64_t *ret_ms);

#endif
