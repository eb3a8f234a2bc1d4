/* The memory account: what clients can make the broker hold, in one place, against [limits] memory_bytes.
 *
 *   part                       share   at its limit
 *   newest batches (tail)      1/4     the oldest leave; they are read from their segments then
 *   produce in flight          1/4     connections are not read until something got done (or inflight_bytes, if less)
 *   replies not taken          1/4     a connection gets little at a time, then fetches are answered BUSY;
 *                                      readers that take less than PRESSED_BYTES_PER_S_MIN are closed
 *   unfinished frames          1/8     a frame waits for memory; who is slower than that is closed then
 *   segments read for replies  1/16    fetches are answered BUSY
 *   requests, without bytes    1/16    requests that would wait are answered BUSY, then reading stops
 *   frames of other brokers    1/16    (on top, with other brokers) their links are not read until there is room
 *   entries for followers      1/16    (they stand in the same chunks as the tail) slow followers get a snapshot
 *
 * Batches stand in the chunks they were received in and are referenced from there by log, tail and replies alike, so
 * the account counts chunks, not their users. When it passes seven eighths all the same (few bytes kept of many
 * chunks), the tail gives way. Not in it: what topics cost (GROUPS_MAX bounds it) and the checkpoint store's page
 * cache, which is the kernel's. Loop thread. */
#ifndef FLOTILLA_BROKER_MEMORY_H
#define FLOTILLA_BROKER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

struct broker;

uint64_t memory_bytes(const struct broker *b); /* the account */

uint64_t memory_inflight_max(const struct broker *b);
uint64_t memory_queue_max(const struct broker *b); /* applied, not yet in a segment */
uint64_t memory_receive_max(const struct broker *b);
uint64_t memory_tail_max(const struct broker *b);
uint64_t memory_kept_max(const struct broker *b);  /* applied entries that followers may lack */
uint64_t memory_peers_max(const struct broker *b); /* frames of other brokers that are not whole */

bool memory_has_requests(const struct broker *b);     /* room for one more that waits */
bool memory_full_of_requests(const struct broker *b); /* no room even for one that does not */

/* Somebody waits for memory to receive into; replies not taken are half of their share: the slow ones must go. */
bool memory_receive_is_short(const struct broker *b);
bool memory_send_is_short(const struct broker *b);
/* Replies that may wait for one connection to take them before no more requests of it are read. */
uint64_t memory_send_share(const struct broker *b);
/* The most that a fetch is answered with now; 0: BUSY. */
uint32_t memory_fetch_max(const struct broker *b);

void memory_turn(struct broker *b); /* end of a turn: the tail gives way, or has its share again */

#endif
