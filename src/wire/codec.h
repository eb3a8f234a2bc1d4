/* Protobuf in and out: the one door to nanopb. The structs are the generated ones (client.pb.h, stored.pb.h: fixed
 * arrays, bounds in proto/[name].options), used directly by whoever speaks the protocol; there are no mirror structs
 * and no memory is taken.
 *
 * A message pointer must point to the struct that its type names (FRAME_PRODUCE: ProduceRequest, ROW_TOPIC: TopicRow
 * ...). Unknown fields are skipped; a string or list longer than its bound, a wrong wire type and cut-off bytes are
 * errors. When decoding fails, *ret_message is all zero. Strings are always terminated; one with an embedded NUL reads
 * as the part before it, and UTF-8 is not checked: names are judged by the broker's own rules.
 *
 * Pure; any thread. */
#ifndef FLOTILLA_WIRE_CODEC_H
#define FLOTILLA_WIRE_CODEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "client.pb.h"
#include "peer.pb.h"
#include "stored.pb.h"
#include "wire/frame.h"

/* Frame type, its struct. */
#define CODEC_FRAME_TABLE(X)                                                                                           \
    X(FRAME_HELLO, HelloRequest)                                                                                       \
    X(FRAME_HELLO_REPLY, HelloReply)                                                                                   \
    X(FRAME_METADATA, MetadataRequest)                                                                                 \
    X(FRAME_METADATA_REPLY, MetadataReply)                                                                             \
    X(FRAME_CREATE_TOPIC, CreateTopicRequest)                                                                          \
    X(FRAME_CREATE_TOPIC_REPLY, CreateTopicReply)                                                                      \
    X(FRAME_DELETE_TOPIC, DeleteTopicRequest)                                                                          \
    X(FRAME_DELETE_TOPIC_REPLY, DeleteTopicReply)                                                                      \
    X(FRAME_PRODUCE, ProduceRequest)                                                                                   \
    X(FRAME_PRODUCE_REPLY, ProduceReply)                                                                               \
    X(FRAME_FETCH, FetchRequest)                                                                                       \
    X(FRAME_FETCH_REPLY, FetchReply)                                                                                   \
    X(FRAME_LIST_OFFSETS, ListOffsetsRequest)                                                                          \
    X(FRAME_LIST_OFFSETS_REPLY, ListOffsetsReply)                                                                      \
    X(FRAME_INIT_PRODUCER, InitProducerRequest)                                                                        \
    X(FRAME_INIT_PRODUCER_REPLY, InitProducerReply)                                                                    \
    X(FRAME_PEER_HELLO, PeerHello)                                                                                     \
    X(FRAME_PEER_HELLO_REPLY, PeerHelloReply)                                                                          \
    X(FRAME_SNAPSHOT, PeerSnapshot)                                                                                    \
    X(FRAME_PEER_PING, PeerPing)                                                                                       \
    X(FRAME_PEER_PONG, PeerPong)                                                                                       \
    X(FRAME_ERROR, ErrorReply)

/* Rows of a MetadataReply's payload, and of a FRAME_RAFT. */
#define CODEC_ROW_TABLE(X)                                                                                             \
    X(ROW_BROKER, BrokerRow)                                                                                           \
    X(ROW_TOPIC, TopicRow)                                                                                             \
    X(ROW_PARTITION, PartitionRow)                                                                                     \
    X(ROW_RAFT, RaftRow)

/* What is stored: operations in the log of STATE groups and rows of the checkpoint store. */
#define CODEC_STORED_TABLE(X)                                                                                          \
    X(STORED_PRODUCER_INIT, ProducerInit)                                                                              \
    X(STORED_PRODUCER_ROW, ProducerRow)                                                                                \
    X(STORED_TOPIC, TopicRecord)

#define CODEC_ENUM(name, message) name,
enum codec_row { CODEC_ROW_TABLE(CODEC_ENUM) };
enum codec_stored { CODEC_STORED_TABLE(CODEC_ENUM) };
#undef CODEC_ENUM

/* Room for any one frame message, for code that handles all types alike. */
union codec_message {
#define CODEC_MEMBER(type, message) message as_##message;
    CODEC_FRAME_TABLE(CODEC_MEMBER)
#undef CODEC_MEMBER
};

#define CODEC_HEAD_BYTES_MAX   512u  /* header and protobuf of any frame */
#define CODEC_ROW_BYTES_MAX    2560u /* any row with its length */
#define CODEC_STORED_BYTES_MAX 512u  /* any stored message */

/* Decodes a frame's protobuf. ERR_UNSUPPORTED: no such type; ERR_BAD_FRAME: malformed. */
enum err codec_decode(enum frame_type type, const uint8_t *data, uint32_t size_bytes, void *ret_message);

/* Writes frame header and protobuf to out; the caller sends payload_size bytes behind them. out of CODEC_HEAD_BYTES_MAX
 * always suffices; ERR_TOO_LARGE: `capacity` does not. The message is ours: one that cannot be encoded (a string
 * without end, a count above its array) is a bug and asserted. */
enum err codec_encode_frame(uint8_t *out, uint32_t capacity, enum frame_type type, uint64_t request_id,
                            const void *message, uint32_t payload_size, uint32_t *ret_size);

/* Appends a length-delimited row at out[*io_size] and moves *io_size behind it. ERR_TOO_LARGE: no room
 * (CODEC_ROW_BYTES_MAX free bytes always suffice); *io_size is unchanged then. */
enum err codec_append_row(uint8_t *out, uint32_t capacity, enum codec_row row, const void *message, uint32_t *io_size);

/* Walks the rows of a payload; the caller knows from the reply which and how many follow. */
struct codec_cursor {
    const uint8_t *data; /* borrowed: the rest not read yet */
    uint32_t size;
};

/* Reads the next row and moves on. ERR_BAD_FRAME: malformed, or nothing is left; the cursor stays. */
enum err codec_next_row(struct codec_cursor *cursor, enum codec_row row, void *ret_message);

/* Stored messages. Decode: ERR_FORMAT when malformed. Encode: ERR_TOO_LARGE when `capacity` is too small
 * (CODEC_STORED_BYTES_MAX always suffices); asserts as codec_encode_frame does. *ret_size may be 0: a message of
 * nothing but defaults. */
enum err codec_decode_stored(enum codec_stored kind, const uint8_t *data, uint32_t size_bytes, void *ret_message);
enum err codec_encode_stored(enum codec_stored kind, const void *message, uint8_t *out, uint32_t capacity,
                             uint32_t *ret_size);

#endif
