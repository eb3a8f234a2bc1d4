/* One RaftRow in and out of bytes, by hand. A broker with thousands of groups writes and reads one for each beat of
 * each of them, and nanopb walks its descriptors twice to write one and once to read it; this does neither. The format
 * is protobuf's all the same: what is written here is, byte for byte, what codec_append_row writes, and what is not
 * written like that (a newer broker's fields, another order) codec_next_row reads.
 *
 * Pure; any thread. */
#ifndef FLOTILLA_WIRE_PEER_ROW_H
#define FLOTILLA_WIRE_PEER_ROW_H

#include "wire/codec.h"

/* As codec_append_row with ROW_RAFT. */
enum err peer_row_append(uint8_t *out, uint32_t capacity, const RaftRow *row, uint32_t *io_size);

/* As codec_next_row with ROW_RAFT. Of the arrays only as many items are set as their counts say. */
enum err peer_row_next(struct codec_cursor *cursor, RaftRow *ret_row);

#endif
