/* Payloads of the small entries. Each begins with a version byte, so that a later format can be told from this one. */
#include "broker/entry.h"

#include <string.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/mem.h"

#define ENTRY_VERSION     1
#define LEADER_BYTES      17
#define TIMEOUT_BYTES     25
#define LOG_START_BYTES   9
#define ELAPSED_MS_MAX    ((int64_t)1 << 48) /* sums of them never overflow */
#define CONFIG_BYTES      37
#define BIRTH_FIXED_BYTES 10

const char *entry_type_name(uint8_t type)
{
    static const char *const names[] = {"UNKNOWN",      "LEADER", "TIMEOUT", "DATA",  "LOG_START",
                                        "CONFIG_TOPIC", "CONFIG", "OPS",     "MARKER"};
    return type < sizeof names / sizeof names[0] ? names[type] : names[0];
}

static struct buf *entry__buf(uint32_t size)
{
    struct buf *b = buf_new(size);
    if (b == NULL) {
        mem_exhausted();
    }
    return b;
}

static struct slice entry__new(uint32_t size)
{
    struct buf *b = entry__buf(size);
    if (size > 0) {
        b->data[0] = ENTRY_VERSION;
    }
    return (struct slice){.buf = b, .data = b->data, .size = size};
}

static enum err entry__check(struct slice payload, uint32_t size)
{
    return payload.size == size && payload.data[0] == ENTRY_VERSION ? OK : ERR_FORMAT;
}

struct slice entry_encode_leader(const struct entry_leader *entry)
{
    struct slice s = entry__new(LEADER_BYTES);
    store_le64(s.buf->data + 1, entry->broker);
    store_le64(s.buf->data + 9, (uint64_t)entry->clock_ms);
    return s;
}

enum err entry_decode_leader(struct slice payload, struct entry_leader *ret_entry)
{
    if (entry__check(payload, LEADER_BYTES) != OK) {
        return ERR_FORMAT;
    }
    ret_entry->broker = load_le64(payload.data + 1);
    ret_entry->clock_ms = (int64_t)load_le64(payload.data + 9);
    return OK;
}

struct slice entry_encode_timeout(const struct entry_timeout *entry)
{
    struct slice s = entry__new(TIMEOUT_BYTES);
    store_le64(s.buf->data + 1, (uint64_t)entry->clock_ms);
    store_le64(s.buf->data + 9, (uint64_t)entry->elapsed_ms);
    store_le64(s.buf->data + 17, (uint64_t)entry->expire_ms);
    return s;
}

enum err entry_decode_timeout(struct slice payload, struct entry_timeout *ret_entry)
{
    if (entry__check(payload, TIMEOUT_BYTES) != OK) {
        return ERR_FORMAT;
    }
    struct entry_timeout entry = {.clock_ms = (int64_t)load_le64(payload.data + 1),
                                  .elapsed_ms = (int64_t)load_le64(payload.data + 9),
                                  .expire_ms = (int64_t)load_le64(payload.data + 17)};
    if (entry.elapsed_ms < 0 || entry.elapsed_ms > ELAPSED_MS_MAX || entry.expire_ms < 0) {
        return ERR_FORMAT;
    }
    *ret_entry = entry;
    return OK;
}

struct slice entry_encode_log_start(int64_t offset)
{
    struct slice s = entry__new(LOG_START_BYTES);
    store_le64(s.buf->data + 1, (uint64_t)offset);
    return s;
}

enum err entry_decode_log_start(struct slice payload, int64_t *ret_offset)
{
    if (entry__check(payload, LOG_START_BYTES) != OK) {
        return ERR_FORMAT;
    }
    *ret_offset = (int64_t)load_le64(payload.data + 1);
    return OK;
}

static void entry__store_config(uint8_t *at, const struct entry_config *entry)
{
    at[0] = ENTRY_VERSION;
    store_le64(at + 1, entry->segment_bytes);
    store_le64(at + 9, (uint64_t)entry->segment_ms);
    store_le64(at + 17, (uint64_t)entry->retention_bytes);
    store_le64(at + 25, (uint64_t)entry->retention_ms);
    store_le32(at + 33, entry->max_batch_bytes);
}

static enum err entry__load_config(const uint8_t *at, struct entry_config *ret_entry)
{
    if (at[0] != ENTRY_VERSION) {
        return ERR_FORMAT;
    }
    ret_entry->segment_bytes = load_le64(at + 1);
    ret_entry->segment_ms = (int64_t)load_le64(at + 9);
    ret_entry->retention_bytes = (int64_t)load_le64(at + 17);
    ret_entry->retention_ms = (int64_t)load_le64(at + 25);
    ret_entry->max_batch_bytes = load_le32(at + 33);
    return OK;
}

struct slice entry_encode_config(const struct entry_config *entry)
{
    struct slice s = entry__new(CONFIG_BYTES);
    entry__store_config(s.buf->data, entry);
    return s;
}

enum err entry_decode_config(struct slice payload, struct entry_config *ret_entry)
{
    return payload.size == CONFIG_BYTES ? entry__load_config(payload.data, ret_entry) : ERR_FORMAT;
}

struct slice entry_encode_birth(const struct entry_birth *entry)
{
    ASSERT(entry->voters_count <= RAFT_VOTERS_MAX);
    struct slice s = entry__new(BIRTH_FIXED_BYTES + 16 * entry->voters_count + CONFIG_BYTES);
    uint8_t *at = s.buf->data;
    at[1] = entry->kind;
    store_le32(at + 2, entry->partition);
    store_le32(at + 6, entry->voters_count);
    at += BIRTH_FIXED_BYTES;
    for (uint32_t i = 0; i < entry->voters_count; i++, at += 16) {
        store_le64(at, entry->voters[i]);
        store_le64(at + 8, entry->voter_brokers[i]);
    }
    entry__store_config(at, &entry->config);
    return s;
}

enum err entry_decode_birth(struct slice payload, struct entry_birth *ret_entry)
{
    struct entry_birth entry = {0};
    if (payload.size < BIRTH_FIXED_BYTES || payload.data[0] != ENTRY_VERSION) {
        return ERR_FORMAT;
    }
    const uint8_t *at = payload.data;
    entry.kind = at[1];
    entry.partition = load_le32(at + 2);
    entry.voters_count = load_le32(at + 6);
    if (entry.voters_count > RAFT_VOTERS_MAX ||
        payload.size != BIRTH_FIXED_BYTES + 16 * entry.voters_count + CONFIG_BYTES) {
        return ERR_FORMAT;
    }
    at += BIRTH_FIXED_BYTES;
    for (uint32_t i = 0; i < entry.voters_count; i++, at += 16) {
        entry.voters[i] = load_le64(at);
        entry.voter_brokers[i] = load_le64(at + 8);
    }
    if (entry__load_config(at, &entry.config) != OK) {
        return ERR_FORMAT;
    }
    *ret_entry = entry;
    return OK;
}

struct slice entry_encode_bytes(const void *data, uint32_t size)
{
    struct buf *b = entry__buf(size);
    memcpy(b->data, data, size);
    return (struct slice){.buf = b, .data = b->data, .size = size};
}
