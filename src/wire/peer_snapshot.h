/* Frames of the snapshot lane: one message, and behind a CHUNK its bytes under a CRC of their own. What they mean to a
 * group is judged by broker/snapshot.h; here is form only.
 *
 * Pure; any thread. */
#ifndef FLOTILLA_WIRE_PEER_SNAPSHOT_H
#define FLOTILLA_WIRE_PEER_SNAPSHOT_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "wire/codec.h"

/* Of PeerSnapshot.kind. Numbers travel. Behind each: who says it, and the fields besides transfer, group, from, to. */
enum peer_snapshot_kind {
    PEER_SNAPSHOT_OFFER = 1,   /* sender: term, index, index_term, rows_bytes, rows_crc; base_offset: the log start */
    PEER_SNAPSHOT_HAVE_IT = 2, /* receiver: all of it is committed here already */
    PEER_SNAPSHOT_WANT = 3,    /* receiver: part, base_offset, position, size_bytes. The first one accepts the offer */
    PEER_SNAPSHOT_CHUNK = 4,   /* sender: the same, answered: part, base_offset, position, payload_crc; and payload */
    PEER_SNAPSHOT_DONE = 5,    /* receiver: installed and durable */
    PEER_SNAPSHOT_END = 6,     /* either: no more of this transfer; status says why */
    PEER_SNAPSHOT_ASK = 7, /* receiver, unasked: segments here are damaged. Offer a picture, whatever the core says */
    PEER_SNAPSHOT_KINDS,
};

/* Of PeerSnapshot.part. Numbers travel. */
enum peer_snapshot_part {
    PEER_SNAPSHOT_ROWS = 0,    /* base_offset is 0 */
    PEER_SNAPSHOT_SEGMENT = 1, /* of base_offset */
};

/* Writes header and message; `payload`, of a CHUNK only, is to follow. Sets message->payload_crc. out of
 * CODEC_HEAD_BYTES_MAX. Returns the size written. */
uint32_t peer_snapshot_write(PeerSnapshot *message, struct slice payload, uint8_t *out);

/* The message of a frame of type FRAME_SNAPSHOT. ERR_BAD_FRAME: malformed, sizes that no sender makes, payload with
 * anything but a CHUNK; ERR_CORRUPT: the payload's CRC is wrong. */
enum err peer_snapshot_read(const struct frame *frame, PeerSnapshot *ret_message);

#endif
