/* Every message from hostile bytes: what decodes can be encoded within the announced bounds, and that encoding means
 * the same message again.
 *
 * Input: byte 0 chooses the message (frame types, then rows, then stored ones); the rest is its protobuf, or with bit 7
 * of byte 0 a script that writes one (see expand). nanopb comes as a library without coverage counters: the script
 * reaches deep without them, and the sizes of what decoded serve as counters of our own. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "wire/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENTRY(name, message) name,
static const enum frame_type frames[] = {CODEC_FRAME_TABLE(ENTRY)};
static const enum codec_row rows[] = {CODEC_ROW_TABLE(ENTRY)};
static const enum codec_stored stored[] = {CODEC_STORED_TABLE(ENTRY)};
#undef ENTRY

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define SIZE_BUCKETS 128u

/* libFuzzer treats a new bucket here like a new edge in the code. */
static uint8_t decoded_sizes[COUNT(frames) + COUNT(rows) + COUNT(stored)][SIZE_BUCKETS]
    __attribute__((section("__libfuzzer_extra_counters"), used));

union any_message {
    union codec_message frame;
    BrokerRow broker;
    TopicRow topic;
    PartitionRow partition;
    RaftRow raft;
    ProducerInit init;
    ProducerRow producer;
    TopicRecord record;
};

static void count_size(size_t choice, uint32_t size)
{
    uint32_t bucket = size / 4 < SIZE_BUCKETS ? size / 4 : SIZE_BUCKETS - 1;
    decoded_sizes[choice][bucket] = 1;
}

#define EXPANDED_MAX 2048u

/* Writes protobuf as a script says: two bytes an instruction, {5 bits field number, 3 bits what follows}, argument. */
static uint32_t expand(const uint8_t *script, size_t size, uint8_t out[EXPANDED_MAX])
{
    static const uint8_t wire_types[8] = {0, 0, 2, 2, 5, 1, 2, 3};
    uint32_t at = 0;
    for (size_t i = 0; i + 1 < size && at < EXPANDED_MAX - 600; i += 2) {
        uint8_t kind = script[i] & 7;
        uint8_t argument = script[i + 1];
        uint32_t tag = (uint32_t)(script[i] >> 3) << 3 | wire_types[kind];
        if (tag >= 0x80)
            out[at++] = (uint8_t)(tag | 0x80);
        out[at++] = (uint8_t)(tag >= 0x80 ? tag >> 7 : tag);
        uint32_t bytes = 0;
        switch (kind) {
        case 0: /* a small varint */
            out[at++] = argument & 0x7f;
            break;
        case 1: /* a varint of up to 12 bytes */
            for (uint32_t more = argument % 12; more > 0; more--)
                out[at++] = 0xff;
            out[at++] = argument & 0x01;
            break;
        case 2: /* bytes, a string, a packed list */
        case 3: /* a long one */
            bytes = kind == 2 ? argument & 0x1f : 200u + argument % 100;
            if (bytes >= 0x80)
                out[at++] = (uint8_t)(bytes | 0x80);
            out[at++] = (uint8_t)(bytes >= 0x80 ? bytes >> 7 : bytes);
            memset(out + at, argument, bytes);
            at += bytes;
            break;
        case 6: /* the length of what the next instructions write, perhaps */
            out[at++] = argument;
            break;
        default:
            bytes = kind == 4 ? 4 : kind == 5 ? 8 : 0;
            memset(out + at, argument, bytes);
            at += bytes;
        }
    }
    return at;
}

static void check_frame(size_t choice, enum frame_type type, const uint8_t *data, uint32_t size)
{
    union any_message message;
    uint8_t first[CODEC_HEAD_BYTES_MAX], second[CODEC_HEAD_BYTES_MAX];
    uint32_t first_size, second_size;
    if (codec_decode(type, data, size, &message) != OK)
        return;
    ASSERT(codec_encode_frame(first, sizeof first, type, 7, &message, 0, &first_size) == OK);
    const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
    struct frame frame;
    uint64_t needed;
    ASSERT(frame_parse(first, first_size, &limits, &frame, &needed) == OK && frame.type == type);
    ASSERT(codec_decode(type, frame.proto, frame.proto_size, &message) == OK);
    ASSERT(codec_encode_frame(second, sizeof second, type, 7, &message, 0, &second_size) == OK);
    ASSERT(first_size == second_size && memcmp(first, second, first_size) == 0);
    count_size(choice, first_size);
}

static void check_rows(size_t choice, enum codec_row row, const uint8_t *data, uint32_t size)
{
    union any_message message;
    struct codec_cursor cursor = {data, size};
    while (cursor.size > 0) {
        uint32_t before = cursor.size;
        if (codec_next_row(&cursor, row, &message) != OK) {
            ASSERT(cursor.size == before);
            return;
        }
        ASSERT(cursor.size < before && cursor.data + cursor.size == data + size);
        uint8_t first[CODEC_ROW_BYTES_MAX], second[CODEC_ROW_BYTES_MAX];
        uint32_t first_size = 0, second_size = 0;
        ASSERT(codec_append_row(first, sizeof first, row, &message, &first_size) == OK);
        struct codec_cursor again = {first, first_size};
        ASSERT(codec_next_row(&again, row, &message) == OK && again.size == 0);
        ASSERT(codec_append_row(second, sizeof second, row, &message, &second_size) == OK);
        ASSERT(first_size == second_size && memcmp(first, second, first_size) == 0);
        count_size(choice, first_size);
    }
}

static void check_stored(size_t choice, enum codec_stored kind, const uint8_t *data, uint32_t size)
{
    union any_message message;
    uint8_t first[CODEC_STORED_BYTES_MAX], second[CODEC_STORED_BYTES_MAX];
    uint32_t first_size, second_size;
    if (codec_decode_stored(kind, data, size, &message) != OK)
        return;
    ASSERT(codec_encode_stored(kind, &message, first, sizeof first, &first_size) == OK);
    ASSERT(codec_decode_stored(kind, first, first_size, &message) == OK);
    ASSERT(codec_encode_stored(kind, &message, second, sizeof second, &second_size) == OK);
    ASSERT(first_size == second_size && memcmp(first, second, first_size) == 0);
    count_size(choice, first_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t choice = (data[0] & 0x7fu) % (COUNT(frames) + COUNT(rows) + COUNT(stored));
    uint8_t expanded[EXPANDED_MAX];
    uint32_t proto_size = (uint32_t)size - 1;
    const uint8_t *from = data + 1;
    if ((data[0] & 0x80) != 0) {
        proto_size = expand(from, size - 1, expanded);
        from = expanded;
    }
    uint8_t *exact = malloc(proto_size + 1); /* the sanitizer sees one byte too many */
    const uint8_t *proto = memcpy(exact + 1, from, proto_size);
    if (choice < COUNT(frames))
        check_frame(choice, frames[choice], proto, proto_size);
    else if (choice < COUNT(frames) + COUNT(rows))
        check_rows(choice, rows[choice - COUNT(frames)], proto, proto_size);
    else
        check_stored(choice, stored[choice - COUNT(frames) - COUNT(rows)], proto, proto_size);
    free(exact);
    return 0;
}
