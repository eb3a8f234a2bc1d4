/* A frame: what clients and brokers exchange over TCP. 24 bytes of header, a small protobuf message, then raw payload.
 *
 * offset size field             (little-endian)
 *      0    4 length            bytes after this field: 20 + proto size + payload size
 *      4    2 magic             0x4c46
 *      6    1 protocol version  1
 *      7    1 type              enum frame_type
 *      8    8 request id        chosen by the client, echoed in the reply
 *     16    4 proto size
 *     20    4 crc               CRC-32C of bytes 0-19 and of the protobuf bytes
 *     24      protobuf message, then payload
 *
 * The payload is not in the CRC: batches carry their own, from producer to consumer. The protobuf's strings and ids
 * have none, hence this one: a flipped bit must not make a produce land in another partition.
 *
 * Pure: no memory is taken, nothing is copied. Any thread. */
#ifndef FLOTILLA_WIRE_FRAME_H
#define FLOTILLA_WIRE_FRAME_H

#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

#define FRAME_MAGIC   0x4c46u
#define FRAME_VERSION 1u

/* The messages themselves: proto/client.proto. Numbers travel; they are never reused. */
enum frame_type {
    FRAME_HELLO = 1,
    FRAME_HELLO_REPLY = 2,
    FRAME_METADATA = 3,
    FRAME_METADATA_REPLY = 4,
    FRAME_CREATE_TOPIC = 5,
    FRAME_CREATE_TOPIC_REPLY = 6,
    FRAME_DELETE_TOPIC = 7,
    FRAME_DELETE_TOPIC_REPLY = 8,
    FRAME_PRODUCE = 9,
    FRAME_PRODUCE_REPLY = 10,
    FRAME_FETCH = 11,
    FRAME_FETCH_REPLY = 12,
    FRAME_LIST_OFFSETS = 13,
    FRAME_LIST_OFFSETS_REPLY = 14,
    FRAME_INIT_PRODUCER = 15,
    FRAME_INIT_PRODUCER_REPLY = 16,
    FRAME_PEER_HELLO = 65, /* between brokers: proto/peer.proto */
    FRAME_PEER_HELLO_REPLY = 66,
    FRAME_RAFT = 67, /* rows instead of one message, and no reply: wire/peer.h */
    FRAME_SNAPSHOT = 68, /* wire/peer_snapshot.h; no reply */
    FRAME_PEER_PING = 69,
    FRAME_PEER_PONG = 70,
    FRAME_ERROR = 255,
};

struct frame {
    enum frame_type type; /* 0-255, not necessarily one of the names above */
    uint64_t request_id;
    const uint8_t *proto; /* into the parsed bytes */
    uint32_t proto_size;
    const uint8_t *payload; /* into the parsed bytes */
    uint32_t payload_size;
    uint32_t size_bytes; /* of the whole frame: the next one starts here */
};

struct frame_limits {
    uint32_t proto_bytes_max;   /* at most FRAME_PROTO_BYTES_MAX */
    uint32_t payload_bytes_max; /* at most FRAME_PAYLOAD_BYTES_MAX */
};

/* Reads the frame at data. OK: *ret_frame points into data. Otherwise *ret_frame is untouched and the answer is
 * - ERR_AGAIN: the `available` bytes are the start of a good frame. *ret_needed says how many the receiver should hold
 *   before it asks again: FRAME_HEADER_BYTES until the header is there, then the size of the whole frame, which is
 *   within the limits, so that memory may be sized by it. Written in this case only.
 * - ERR_BAD_FRAME: wrong magic, sizes that contradict each other, wrong CRC.
 * - ERR_UNSUPPORTED: another protocol version.
 * - ERR_TOO_LARGE: the protobuf or the payload is above the limits.
 *
 * The verdict depends on the stream only, never on how it was split: checks go by position (magic, version, length,
 * proto size, CRC) and each is made as soon as its bytes are there; the CRC before the payload has arrived. After an
 * error the stream cannot be followed any further. An unknown type is not judged here (codec_decode does). */
enum err frame_parse(const uint8_t *data, uint64_t available, const struct frame_limits *limits,
                     struct frame *ret_frame, uint64_t *ret_needed);

/* The request id in bytes that frame_parse refused, to address the error frame; 0 when those bytes are not there or not
 * a frame of ours. Unchecked: the CRC does not vouch for it. */
uint64_t frame_refused_request_id(const uint8_t *data, uint64_t available);

/* Writes the 24 bytes at header for a message of proto_size bytes at proto and payload_size bytes that will follow.
 * Sizes are within FRAME_PROTO_BYTES_MAX and FRAME_PAYLOAD_BYTES_MAX. codec_encode_frame is the usual way here. */
void frame_write_header(uint8_t header[FRAME_HEADER_BYTES], enum frame_type type, uint64_t request_id,
                        const uint8_t *proto, uint32_t proto_size, uint32_t payload_size);

#endif
