/* Frames of the snapshot lane in and out. What is checked is form: nobody behind this file sees a size beyond its
 * limit, a position that overflows, or a chunk with wrong bytes. */
#include "wire/peer_snapshot.h"

#include "base/assert.h"
#include "base/crc32c.h"

uint32_t peer_snapshot_write(PeerSnapshot *message, struct slice payload, uint8_t *out)
{
    uint32_t size;
    ASSERT((payload.size > 0) == (message->kind == PEER_SNAPSHOT_CHUNK) && payload.size <= SNAPSHOT_CHUNK_BYTES_MAX);
    message->payload_crc = crc32c(0, payload.data, payload.size);
    enum err error = codec_encode_frame(out, CODEC_HEAD_BYTES_MAX, FRAME_SNAPSHOT, 0, message, payload.size, &size);
    ASSERT(error == OK);
    return size;
}

static bool is_sane(const PeerSnapshot *message)
{
    if (message->kind < PEER_SNAPSHOT_OFFER || message->kind >= PEER_SNAPSHOT_KINDS || message->group == 0 ||
        message->part > PEER_SNAPSHOT_SEGMENT || message->base_offset < 0) {
        return false;
    }
    if (message->kind == PEER_SNAPSHOT_OFFER) {
        return message->index > 0 && message->index_term > 0 && message->index_term <= RAFT_TERM_MAX &&
               message->term >= message->index_term && message->rows_bytes > 0 &&
               message->rows_bytes <= SNAPSHOT_ROWS_BYTES_MAX;
    }
    uint64_t part_max = message->part == PEER_SNAPSHOT_ROWS ? SNAPSHOT_ROWS_BYTES_MAX : SEGMENT_BYTES_MAX;
    if (message->kind == PEER_SNAPSHOT_WANT) {
        return message->size_bytes > 0 && message->size_bytes <= SNAPSHOT_CHUNK_BYTES_MAX &&
               message->position < part_max;
    }
    return message->kind != PEER_SNAPSHOT_CHUNK || message->position < part_max;
}

enum err peer_snapshot_read(const struct frame *frame, PeerSnapshot *ret_message)
{
    PeerSnapshot message;
    enum err error = codec_decode(FRAME_SNAPSHOT, frame->proto, frame->proto_size, &message);
    if (error != OK) {
        return error;
    }
    bool has_payload = message.kind == PEER_SNAPSHOT_CHUNK;
    if (!is_sane(&message) || has_payload != (frame->payload_size > 0) ||
        frame->payload_size > SNAPSHOT_CHUNK_BYTES_MAX) {
        return ERR_BAD_FRAME;
    }
    if (has_payload && crc32c(0, frame->payload, frame->payload_size) != message.payload_crc) {
        return ERR_CORRUPT;
    }
    *ret_message = message;
    return OK;
}
