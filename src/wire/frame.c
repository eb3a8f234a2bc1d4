/* Frames: layout, sizes and header CRC. Checks go by position in the stream, so that the verdict on a bad frame does
 * not depend on how TCP split it, and no size is believed before it is within the limits. */
#include "wire/frame.h"

#include <stdbool.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"

#define AT_LENGTH     0
#define AT_MAGIC      4
#define AT_VERSION    6
#define AT_TYPE       7
#define AT_REQUEST_ID 8
#define AT_PROTO_SIZE 16
#define AT_CRC        20

#define LENGTH_BYTES 4u /* of the length field itself, which it does not count */

static uint32_t frame_crc(const uint8_t *header, const uint8_t *proto, uint32_t proto_size)
{
    return crc32c(crc32c(0, header, AT_CRC), proto, proto_size);
}

/* Judges what is there of the header, in the order that frame.h promises; sizes are 64-bit, so that nothing wraps. */
static enum err frame_check_header(const uint8_t *data, uint64_t available, const struct frame_limits *limits)
{
    if (available >= AT_MAGIC + 2 && load_le16(data + AT_MAGIC) != FRAME_MAGIC)
        return ERR_BAD_FRAME;
    if (available >= AT_VERSION + 1 && data[AT_VERSION] != FRAME_VERSION)
        return ERR_UNSUPPORTED;
    if (available < AT_TYPE)
        return ERR_AGAIN;
    /* The length stands before the magic but is judged after it: "GET / HTTP" is a bad frame, not a large one. */
    uint64_t size_bytes = (uint64_t)load_le32(data + AT_LENGTH) + LENGTH_BYTES;
    if (size_bytes < FRAME_HEADER_BYTES)
        return ERR_BAD_FRAME;
    if (size_bytes > (uint64_t)FRAME_HEADER_BYTES + limits->proto_bytes_max + limits->payload_bytes_max)
        return ERR_TOO_LARGE;
    if (available < AT_PROTO_SIZE + 4)
        return ERR_AGAIN;
    uint64_t body_bytes = size_bytes - FRAME_HEADER_BYTES;
    uint32_t proto_size = load_le32(data + AT_PROTO_SIZE);
    if (proto_size > body_bytes)
        return ERR_BAD_FRAME;
    if (proto_size > limits->proto_bytes_max || body_bytes - proto_size > limits->payload_bytes_max)
        return ERR_TOO_LARGE;
    return available < FRAME_HEADER_BYTES ? ERR_AGAIN : OK;
}

enum err frame_parse(const uint8_t *data, uint64_t available, const struct frame_limits *limits,
                     struct frame *ret_frame, uint64_t *ret_needed)
{
    ASSERT(limits->proto_bytes_max <= FRAME_PROTO_BYTES_MAX);
    ASSERT(limits->payload_bytes_max <= FRAME_PAYLOAD_BYTES_MAX);
    enum err error = frame_check_header(data, available, limits);
    if (error == ERR_AGAIN)
        *ret_needed = FRAME_HEADER_BYTES;
    if (error != OK)
        return error;

    uint32_t size_bytes = load_le32(data + AT_LENGTH) + LENGTH_BYTES;
    uint32_t proto_size = load_le32(data + AT_PROTO_SIZE);
    const uint8_t *proto = data + FRAME_HEADER_BYTES;
    bool whole_proto = available >= (uint64_t)FRAME_HEADER_BYTES + proto_size;
    if (whole_proto && frame_crc(data, proto, proto_size) != load_le32(data + AT_CRC))
        return ERR_BAD_FRAME;
    if (available < size_bytes) {
        *ret_needed = size_bytes;
        return ERR_AGAIN;
    }
    *ret_frame = (struct frame){
        .type = (enum frame_type)data[AT_TYPE],
        .request_id = load_le64(data + AT_REQUEST_ID),
        .proto = proto,
        .proto_size = proto_size,
        .payload = proto + proto_size,
        .payload_size = size_bytes - FRAME_HEADER_BYTES - proto_size,
        .size_bytes = size_bytes,
    };
    return OK;
}

uint64_t frame_refused_request_id(const uint8_t *data, uint64_t available)
{
    if (available < AT_REQUEST_ID + 8 || load_le16(data + AT_MAGIC) != FRAME_MAGIC)
        return 0;
    return load_le64(data + AT_REQUEST_ID);
}

void frame_write_header(uint8_t header[FRAME_HEADER_BYTES], enum frame_type type, uint64_t request_id,
                        const uint8_t *proto, uint32_t proto_size, uint32_t payload_size)
{
    ASSERT((unsigned)type <= UINT8_MAX);
    ASSERT(proto_size <= FRAME_PROTO_BYTES_MAX);
    ASSERT(payload_size <= FRAME_PAYLOAD_BYTES_MAX);
    store_le32(header + AT_LENGTH, FRAME_HEADER_BYTES - LENGTH_BYTES + proto_size + payload_size);
    store_le16(header + AT_MAGIC, FRAME_MAGIC);
    header[AT_VERSION] = FRAME_VERSION;
    header[AT_TYPE] = (uint8_t)type;
    store_le64(header + AT_REQUEST_ID, request_id);
    store_le32(header + AT_PROTO_SIZE, proto_size);
    store_le32(header + AT_CRC, frame_crc(header, proto, proto_size));
}
