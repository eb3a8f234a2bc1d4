/* The one file that calls nanopb's pb_encode and pb_decode: tables from frame types, rows and stored kinds to generated
 * descriptors, and the translation of nanopb's yes/no to enum err.
 *
 * Why decoding is safe on hostile bytes: every field is a fixed array bounded by its .options line, so nanopb neither
 * allocates nor calls back, and reads only within the stream it is given. */
#include "wire/codec.h"

#include <stddef.h>
#include <string.h>

#include <pb_decode.h>
#include <pb_encode.h>

#include "base/assert.h"

struct message_type {
    const pb_msgdesc_t *fields; /* NULL: no such type */
    uint32_t struct_bytes;
};

#define TYPE_LINE(type, message) [type] = {message##_fields, sizeof(message)},
static const struct message_type frame_messages[] = {CODEC_FRAME_TABLE(TYPE_LINE)};
static const struct message_type row_messages[] = {CODEC_ROW_TABLE(TYPE_LINE)};
static const struct message_type stored_messages[] = {CODEC_STORED_TABLE(TYPE_LINE)};
#undef TYPE_LINE

/* Two bytes of length are enough for rows of up to 16383 bytes. */
#define ROW_LENGTH_BYTES_MAX 2u
#define HEAD_FITS(type, message)                                                                                       \
    _Static_assert(FRAME_HEADER_BYTES + message##_size <= CODEC_HEAD_BYTES_MAX,                                        \
                   #message " needs a larger CODEC_HEAD_BYTES_MAX");
#define ROW_FITS(row, message)                                                                                         \
    _Static_assert(ROW_LENGTH_BYTES_MAX + message##_size <= CODEC_ROW_BYTES_MAX,                                       \
                   #message " needs a larger CODEC_ROW_BYTES_MAX");
#define STORED_FITS(kind, message)                                                                                     \
    _Static_assert(message##_size <= CODEC_STORED_BYTES_MAX, #message " needs a larger CODEC_STORED_BYTES_MAX");
CODEC_FRAME_TABLE(HEAD_FITS)
CODEC_ROW_TABLE(ROW_FITS)
CODEC_STORED_TABLE(STORED_FITS)
_Static_assert(CODEC_HEAD_BYTES_MAX - FRAME_HEADER_BYTES <= FRAME_PROTO_BYTES_MAX,
               "every message must pass frame_parse");

/* The arrays of client.options must hold what the limits allow. */
_Static_assert(sizeof(((CreateTopicRequest *)0)->name) == TOPIC_NAME_BYTES_MAX + 1,
               "client.options and limits.h disagree");
_Static_assert(sizeof(((HelloRequest *)0)->client_id) == CLIENT_ID_BYTES_MAX + 1,
               "client.options and limits.h disagree");
_Static_assert(sizeof(((BrokerRow *)0)->host) == ADDRESS_BYTES_MAX + 1, "client.options and limits.h disagree");
_Static_assert(sizeof(((InitProducerRequest *)0)->name) == PRODUCER_NAME_BYTES_MAX + 1,
               "client.options and limits.h disagree");
_Static_assert(sizeof(((PartitionRow *)0)->replicas) == RAFT_VOTERS_MAX * sizeof(uint64_t),
               "client.options and limits.h disagree");

static bool message_read(const struct message_type *type, pb_istream_t *stream, unsigned flags, void *ret_message)
{
    /* Every default is zero: nanopb would set field after field to it. */
    memset(ret_message, 0, type->struct_bytes);
    if (pb_decode_ex(stream, type->fields, ret_message, flags | PB_DECODE_NOINIT))
        return true;
    memset(ret_message, 0, type->struct_bytes);
    return false;
}

/* False: out is too small. Any other refusal of nanopb's is a malformed struct of ours. */
static bool message_write(const struct message_type *type, const void *message, unsigned flags, uint8_t *out,
                          uint32_t capacity, uint32_t *ret_size)
{
    pb_ostream_t stream = pb_ostream_from_buffer(out, capacity);
    if (pb_encode_ex(&stream, type->fields, message, flags)) {
        *ret_size = (uint32_t)stream.bytes_written;
        return true;
    }
    size_t size_bytes;
    ASSERT(pb_get_encoded_size(&size_bytes, type->fields, message));
    return false;
}

static const struct message_type *frame_message(enum frame_type type)
{
    if ((size_t)type >= sizeof frame_messages / sizeof frame_messages[0] || frame_messages[type].fields == NULL)
        return NULL;
    return &frame_messages[type];
}

enum err codec_decode(enum frame_type type, const uint8_t *data, uint32_t size_bytes, void *ret_message)
{
    const struct message_type *message = frame_message(type);
    if (message == NULL)
        return ERR_UNSUPPORTED;
    pb_istream_t stream = pb_istream_from_buffer(data, size_bytes);
    return message_read(message, &stream, 0, ret_message) ? OK : ERR_BAD_FRAME;
}

enum err codec_encode_frame(uint8_t *out, uint32_t capacity, enum frame_type type, uint64_t request_id,
                            const void *message, uint32_t payload_size, uint32_t *ret_size)
{
    const struct message_type *known = frame_message(type);
    ASSERT(known != NULL);
    if (capacity < FRAME_HEADER_BYTES)
        return ERR_TOO_LARGE;
    uint8_t *proto = out + FRAME_HEADER_BYTES;
    uint32_t proto_size;
    if (!message_write(known, message, 0, proto, capacity - FRAME_HEADER_BYTES, &proto_size))
        return ERR_TOO_LARGE;
    frame_write_header(out, type, request_id, proto, proto_size, payload_size);
    *ret_size = FRAME_HEADER_BYTES + proto_size;
    return OK;
}

/* nanopb writes a delimited message twice, to know its length: here it is written once, behind room for the length. */
static bool row_write(const struct message_type *type, const void *message, uint8_t *out, uint32_t *ret_size)
{
    uint32_t size_bytes;
    if (!message_write(type, message, 0, out + ROW_LENGTH_BYTES_MAX, CODEC_ROW_BYTES_MAX - ROW_LENGTH_BYTES_MAX,
                       &size_bytes)) {
        return false;
    }
    if (size_bytes < 0x80) {
        out[0] = (uint8_t)size_bytes;
        memmove(out + 1, out + ROW_LENGTH_BYTES_MAX, size_bytes);
        *ret_size = 1 + size_bytes;
        return true;
    }
    out[0] = (uint8_t)(size_bytes | 0x80);
    out[1] = (uint8_t)(size_bytes >> 7);
    *ret_size = ROW_LENGTH_BYTES_MAX + size_bytes;
    return true;
}

enum err codec_append_row(uint8_t *out, uint32_t capacity, enum codec_row row, const void *message, uint32_t *io_size)
{
    ASSERT(*io_size <= capacity);
    uint32_t size_bytes, room = capacity - *io_size;
    bool is_written = room >= CODEC_ROW_BYTES_MAX ? row_write(&row_messages[row], message, out + *io_size, &size_bytes)
                                                  : message_write(&row_messages[row], message, PB_ENCODE_DELIMITED,
                                                                  out + *io_size, room, &size_bytes);
    if (!is_written)
        return ERR_TOO_LARGE;
    *io_size += size_bytes;
    return OK;
}

enum err codec_next_row(struct codec_cursor *cursor, enum codec_row row, void *ret_message)
{
    pb_istream_t stream = pb_istream_from_buffer(cursor->data, cursor->size);
    if (!message_read(&row_messages[row], &stream, PB_DECODE_DELIMITED, ret_message))
        return ERR_BAD_FRAME;
    cursor->data += cursor->size - stream.bytes_left;
    cursor->size = (uint32_t)stream.bytes_left;
    return OK;
}

enum err codec_decode_stored(enum codec_stored kind, const uint8_t *data, uint32_t size_bytes, void *ret_message)
{
    pb_istream_t stream = pb_istream_from_buffer(data, size_bytes);
    return message_read(&stored_messages[kind], &stream, 0, ret_message) ? OK : ERR_FORMAT;
}

enum err codec_encode_stored(enum codec_stored kind, const void *message, uint8_t *out, uint32_t capacity,
                             uint32_t *ret_size)
{
    return message_write(&stored_messages[kind], message, 0, out, capacity, ret_size) ? OK : ERR_TOO_LARGE;
}
