/* RaftRow by hand: fields in the order of their numbers, none that is zero, lists packed. */
#include "wire/peer_row.h"

#include <stddef.h>
#include <string.h>

#include "base/assert.h"

#define LENGTH_BYTES_MAX 2u /* of a row: see CODEC_ROW_BYTES_MAX */

_Static_assert(RaftRow_size == 2209, "a field is new, or larger: write and read it here, too");

enum wire_type { WIRE_VARINT = 0, WIRE_BYTES = 2 };

/* --- writing --- */

static uint8_t *put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static uint8_t *put_number(uint8_t *at, uint32_t field, uint64_t value)
{
    return value == 0 ? at : put_varint(put_varint(at, field << 3 | WIRE_VARINT), value);
}

static uint32_t varint_bytes(uint64_t value)
{
    return (64 - (uint32_t)__builtin_clzll(value | 1) + 6) / 7;
}

/* Numbers of 64 bits or of 32; the other pointer is NULL. */
static uint8_t *put_list(uint8_t *at, uint32_t field, const uint64_t *wide, const uint32_t *narrow, uint32_t count)
{
    uint32_t size = 0;
    if (count == 0) {
        return at;
    }
    for (uint32_t i = 0; i < count; i++) {
        size += varint_bytes(wide != NULL ? wide[i] : narrow[i]);
    }
    at = put_varint(put_varint(at, field << 3 | WIRE_BYTES), size);
    for (uint32_t i = 0; i < count; i++) {
        at = put_varint(at, wide != NULL ? wide[i] : narrow[i]);
    }
    return at;
}

static uint8_t *put_row(uint8_t *at, const RaftRow *row)
{
    at = put_number(at, RaftRow_type_tag, row->type);
    at = put_number(at, RaftRow_group_tag, row->group);
    at = put_number(at, RaftRow_from_tag, row->from);
    at = put_number(at, RaftRow_to_tag, row->to);
    at = put_number(at, RaftRow_term_tag, row->term);
    at = put_number(at, RaftRow_index_tag, row->index);
    at = put_number(at, RaftRow_index_term_tag, row->index_term);
    at = put_number(at, RaftRow_hint_tag, row->hint);
    at = put_number(at, RaftRow_commit_tag, row->commit);
    at = put_number(at, RaftRow_round_tag, row->round);
    at = put_number(at, RaftRow_heal_tag, row->heal);
    at = put_number(at, RaftRow_flags_tag, row->flags);
    at = put_list(at, RaftRow_run_terms_tag, row->run_terms, NULL, row->run_terms_count);
    at = put_list(at, RaftRow_run_counts_tag, NULL, row->run_counts, row->run_counts_count);
    at = put_list(at, RaftRow_entry_sizes_tag, NULL, row->entry_sizes, row->entry_sizes_count);
    if (row->entry_types.size > 0) {
        at = put_varint(put_varint(at, RaftRow_entry_types_tag << 3 | WIRE_BYTES), row->entry_types.size);
        memcpy(at, row->entry_types.bytes, row->entry_types.size);
        at += row->entry_types.size;
    }
    at = put_number(at, RaftRow_payload_crc_tag, row->payload_crc);
    return put_number(at, RaftRow_damage_tag, row->damage);
}

enum err peer_row_append(uint8_t *out, uint32_t capacity, const RaftRow *row, uint32_t *io_size)
{
    uint8_t scratch[CODEC_ROW_BYTES_MAX], length[LENGTH_BYTES_MAX];
    uint32_t room = capacity - *io_size;
    ASSERT(*io_size <= capacity);
    ASSERT(row->run_terms_count <= RAFT_RUNS_MAX && row->run_counts_count <= RAFT_RUNS_MAX);
    ASSERT(row->entry_sizes_count <= RAFT_APPEND_ENTRIES_MAX && row->entry_types.size <= RAFT_APPEND_ENTRIES_MAX);
    bool is_direct = room >= CODEC_ROW_BYTES_MAX;
    uint8_t *begin = is_direct ? out + *io_size : scratch;
    uint8_t *body = begin + 1; /* most are shorter than 128 bytes */
    uint32_t size = (uint32_t)(put_row(body, row) - body);
    uint32_t length_bytes = (uint32_t)(put_varint(length, size) - length);
    if (size + length_bytes > room) {
        return ERR_TOO_LARGE;
    }
    if (length_bytes != 1) {
        memmove(begin + length_bytes, body, size);
    }
    memcpy(begin, length, length_bytes);
    if (!is_direct) {
        memcpy(out + *io_size, scratch, length_bytes + size);
    }
    *io_size += length_bytes + size;
    return OK;
}

/* --- reading --- */

static bool get_varint(const uint8_t **io_at, const uint8_t *end, uint64_t *ret_value)
{
    const uint8_t *at = *io_at;
    uint64_t value = 0;
    for (unsigned shift = 0; at < end && shift < 63; shift += 7) {
        uint8_t byte = *at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *io_at = at;
            *ret_value = value;
            return true;
        }
    }
    if (at == end || *at > 1) { /* the tenth byte has one bit left */
        return false;
    }
    *ret_value = value | (uint64_t)*at << 63;
    *io_at = at + 1;
    return true;
}

static bool get_list(const uint8_t *at, const uint8_t *end, uint32_t *items, uint32_t count_max, pb_size_t *ret_count)
{
    uint32_t count = 0;
    for (; at < end; count++) {
        uint64_t value;
        if (count == count_max || !get_varint(&at, end, &value) || value > UINT32_MAX) {
            return false;
        }
        items[count] = (uint32_t)value;
    }
    *ret_count = (pb_size_t)count;
    return true;
}

static bool get_terms(const uint8_t *at, const uint8_t *end, RaftRow *row)
{
    uint32_t count = 0;
    for (; at < end; count++) {
        if (count == RAFT_RUNS_MAX || !get_varint(&at, end, &row->run_terms[count])) {
            return false;
        }
    }
    row->run_terms_count = (pb_size_t)count;
    return true;
}

static bool get_types(const uint8_t *at, const uint8_t *end, RaftRow *row)
{
    if (end - at > (ptrdiff_t)sizeof row->entry_types.bytes) {
        return false;
    }
    memcpy(row->entry_types.bytes, at, (size_t)(end - at));
    row->entry_types.size = (pb_size_t)(end - at);
    return true;
}

static bool set_bytes(RaftRow *row, uint64_t field, const uint8_t *at, const uint8_t *end)
{
    switch (field) {
    case RaftRow_run_terms_tag:
        return get_terms(at, end, row);
    case RaftRow_run_counts_tag:
        return get_list(at, end, row->run_counts, RAFT_RUNS_MAX, &row->run_counts_count);
    case RaftRow_entry_sizes_tag:
        return get_list(at, end, row->entry_sizes, RAFT_APPEND_ENTRIES_MAX, &row->entry_sizes_count);
    case RaftRow_entry_types_tag:
        return get_types(at, end, row);
    default:
        return false;
    }
}

static bool set_number(RaftRow *row, uint64_t field, uint64_t value)
{
    static const uint16_t at[] = {
        [RaftRow_group_tag] = offsetof(RaftRow, group),  [RaftRow_from_tag] = offsetof(RaftRow, from),
        [RaftRow_to_tag] = offsetof(RaftRow, to),        [RaftRow_term_tag] = offsetof(RaftRow, term),
        [RaftRow_index_tag] = offsetof(RaftRow, index),  [RaftRow_index_term_tag] = offsetof(RaftRow, index_term),
        [RaftRow_hint_tag] = offsetof(RaftRow, hint),    [RaftRow_commit_tag] = offsetof(RaftRow, commit),
        [RaftRow_round_tag] = offsetof(RaftRow, round),  [RaftRow_heal_tag] = offsetof(RaftRow, heal),
        [RaftRow_damage_tag] = offsetof(RaftRow, damage)};
    if (field < sizeof at / sizeof at[0] && at[field] != 0) {
        memcpy((uint8_t *)row + at[field], &value, sizeof value);
        return true;
    }
    uint32_t *number = field == RaftRow_type_tag          ? &row->type
                       : field == RaftRow_flags_tag       ? &row->flags
                       : field == RaftRow_payload_crc_tag ? &row->payload_crc
                                                          : NULL;
    if (number == NULL || value > UINT32_MAX) {
        return false;
    }
    *number = (uint32_t)value;
    return true;
}

/* False: it is not written as peer_row_append would, or malformed. */
static bool get_row(const uint8_t *at, const uint8_t *end, RaftRow *row)
{
    uint64_t last_field = 0;
    memset(row, 0, offsetof(RaftRow, run_terms));
    row->run_counts_count = row->entry_sizes_count = row->entry_types.size = 0;
    row->payload_crc = 0;
    row->damage = 0;
    while (at < end) {
        uint64_t key, value;
        if (!get_varint(&at, end, &key) || !get_varint(&at, end, &value) || key >> 3 <= last_field) {
            return false;
        }
        last_field = key >> 3;
        bool is_bytes = (key & 7) == WIRE_BYTES;
        if (is_bytes ? value > (uint64_t)(end - at) || !set_bytes(row, last_field, at, at + value)
                     : (key & 7) != WIRE_VARINT || !set_number(row, last_field, value)) {
            return false;
        }
        at += is_bytes ? value : 0;
    }
    return true;
}

enum err peer_row_next(struct codec_cursor *cursor, RaftRow *ret_row)
{
    const uint8_t *at = cursor->data, *end = at + cursor->size;
    uint64_t size;
    if (cursor->size == 0 || !get_varint(&at, end, &size) || size > (uint64_t)(end - at) ||
        !get_row(at, at + size, ret_row)) {
        return codec_next_row(cursor, ROW_RAFT, ret_row);
    }
    cursor->data = at + size;
    cursor->size = (uint32_t)(end - cursor->data);
    return OK;
}
