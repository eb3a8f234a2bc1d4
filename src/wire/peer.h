/* Frames between brokers that carry Raft: many rows, one for each message of a replica to another, with the payloads of
 * their entries behind them. Rows stand in the frame's protobuf part, so that its CRC covers them; the payload of each
 * row has a CRC of its own, because only entries of type DATA bring one along.
 *
 * A frame is built from references and read in place: no payload is copied on either side.
 *
 * Pure; any thread. */
#ifndef FLOTILLA_WIRE_PEER_H
#define FLOTILLA_WIRE_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "wire/codec.h"

/* Two brokers have one link per lane, so that what is large never stands before what is urgent. Numbers travel. */
enum peer_lane {
    PEER_LANE_CONTROL = 1, /* votes, heartbeats, pings, births */
    PEER_LANE_APPEND = 2,  /* entries and their acknowledgements */
    PEER_LANE_SNAPSHOT = 3,
};
#define PEER_LANES 3u

/* Of RaftRow.flags. Numbers travel. */
enum peer_flag {
    PEER_FLAG_REJECT = 1 << 0,
    PEER_FLAG_PRE = 1 << 1,
    PEER_FLAG_FORCE = 1 << 2,
    PEER_FLAG_QUIET = 1 << 3,
    PEER_FLAG_DAMAGED = 1 << 4,
    PEER_FLAG_FULL = 1 << 5,
};

/* RaftRow.type from 32 on. The first four: the answer of a broker that has no such replica; of the row it answers it
 * repeats group, from and to, with from and to exchanged. Numbers travel. */
enum peer_refusal {
    PEER_NO_GROUP = 32,      /* nothing is known of the group: its birth may be on the way */
    PEER_GROUP_DELETED = 33, /* final: the sender may go, too */
    PEER_OTHER_REPLICA = 34, /* the group is here under another replica id */
    PEER_NOT_BORN = 35,      /* being made: ask again */
    PEER_REMOVED = 36,       /* `to` is in no configuration that `from` knows; the one at `index` is committed */
    PEER_AM_I_MEMBER = 37,   /* `from` suspects its end; whatever member knows answers REMOVED, others nothing */
};

/* --- writing --- */

struct peer_builder {
    uint8_t *head; /* borrowed: header and rows */
    uint32_t capacity;
    uint32_t size; /* of head, so far */
    uint32_t rows;
    uint32_t payload_bytes;
    uint32_t parts_count;
    struct slice parts[SEND_PARTS_MAX]; /* borrowed references: whoever sends takes its own */
};

#define PEER_HEAD_BYTES (FRAME_HEADER_BYTES + FRAME_PROTO_BYTES_MAX) /* what a head needs at most */

/* Starts a frame in `head`, which is the caller's and stays until the frame is sent; capacity from CODEC_ROW_BYTES_MAX
 * + FRAME_HEADER_BYTES to PEER_HEAD_BYTES. */
void peer_builder_begin(struct peer_builder *b, uint8_t *head, uint32_t capacity);

/* Adds a row and its entries' payloads (parts_count of them; empty ones allowed). Sets row->entry_sizes,
 * entry_sizes_count and payload_crc; all else is the caller's, entry_types among it. False: it does not fit any more;
 * nothing was added: finish, send, begin anew. A row fits a frame of its own when its payload is at most
 * FRAME_PAYLOAD_BYTES_MAX. */
bool peer_builder_add(struct peer_builder *b, RaftRow *row, const struct slice *parts, uint32_t parts_count);

/* Writes the header; `size` bytes of head and the parts are then the frame. At least one row. */
void peer_builder_finish(struct peer_builder *b);

/* --- reading --- */

struct peer_reader {
    struct codec_cursor rows; /* into the frame */
    const uint8_t *payload;
    uint32_t payload_left;
};

void peer_reader_begin(struct peer_reader *reader, const struct frame *frame);
bool peer_reader_is_done(const struct peer_reader *reader);

/* The next row, checked: as many entry types as sizes, runs that cover them exactly, a payload as long as they say, its
 * CRC. *ret_payload: entry after entry, in the frame's memory. ERR_BAD_FRAME: malformed, or the last row leaves payload
 * over; ERR_CORRUPT: the CRC is wrong. After an error the rest of the frame is not to be read. */
enum err peer_reader_next(struct peer_reader *reader, RaftRow *ret_row, const uint8_t **ret_payload);

#endif
