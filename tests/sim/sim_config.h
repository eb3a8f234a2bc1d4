/* The configuration of a broker in a simulated world: small files, short logs, no limits of time. Who wants something
 * else changes it afterwards. */
#ifndef FLOTILLA_SIM_CONFIG_H
#define FLOTILLA_SIM_CONFIG_H

#include <stdint.h>
#include <string.h>

#include "broker/config.h"

static inline void sim_config_small(struct config *config, uint64_t id)
{
    *config = (struct config){.id = id,
                              .data = "sim",
                              .cluster = "sim",
                              .client_count = 1,
                              .partitions = 1,
                              .segment_bytes = SEGMENT_BYTES_MIN,
                              .segment_ms = -1,
                              .retention_bytes = -1,
                              .retention_ms = -1,
                              .max_batch_bytes = SEGMENT_BYTES_MIN,
                              .heartbeat_ms = 100,
                              .election_ms = 800,
                              .timeout_entry_ms = 1000,
                              .snapshot_bytes = 256 << 10,
                              .snapshot_entries = 200,
                              .producer_expiry_ms = (int64_t)7 * 86400 * 1000,
                              .wal_file_bytes = 256 << 10, /* less than may be configured: they are zero-filled */
                              .wal_budget_bytes = 4 << 20,
                              .group_session_timeout_ms = 10000,
                              .ack_timeout_ms = 30000,
                              .offsets_retention_ms = (int64_t)7 * 86400 * 1000,
                              .connections = 100,
                              .inflight_bytes = BATCH_BYTES_MAX,
                              .memory_bytes = 256 << 20,
                              .open_files = 32,
                              .registry_session_timeout_ms = 6000,
                              .level = TRACE_ERROR};
    strcpy(config->client[0].name, "client");
    strcpy(config->root, "/flotilla");
}

#endif
