/* How long the broker waits for a client.
 *
 *   unfinished frame   FRAME_DEADLINE_US from its first byte, and longer only while bytes come at a rate of
 *                      FRAME_BYTES_PER_S_MIN
 *   replies not taken  in each REPLY_DEADLINE_US the client takes REPLY_BYTES_MIN, or all there is
 *   memory is short    those that hold much of it and move less than PRESSED_BYTES_PER_S_MIN go at once
 *   nothing at all     for ever: a consumer may wait, and an idle connection costs little
 *
 * A connection that the broker itself does not read at the moment is not blamed. Whoever is given up hears why in an
 * error frame, and a counter says how many. Connections that hold something are looked at once in PATIENCE_SWEEP_US;
 * without any there is no timer. */
#ifndef FLOTILLA_BROKER_PATIENCE_H
#define FLOTILLA_BROKER_PATIENCE_H

#include <stdint.h>

struct broker;
struct session;

void patience_note_received(struct session *s); /* at the end of a go: its inbox tells whether a frame is open */
void patience_note_sent(struct session *s);     /* send_bytes may have grown */
void patience_note_taken(struct session *s, uint64_t size);
void patience_forget(struct session *s);

void patience_sweep(struct broker *b, uint64_t now_us); /* of broker_timer */
uint64_t patience_deadline_us(const struct broker *b);  /* UINT64_MAX: nobody is waited for */

#endif
