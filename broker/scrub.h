/* The scrub: everything at rest is read again and held against its checksums, once per [limits] scrub_period_ms:
 * segments up to what is written (store/scrub.h), all rows of the checkpoint store (meta/scrub.h), the part of the
 * write-ahead log that is still needed (wal/scrub.h).
 *
 * Pace: a round's pieces are spread over seven eighths of the period, at least one a second; counted out anew each
 * second, since a log that is written to grows meanwhile. A piece is one read of 256 KiB at most on the store lane; a
 * busy lane is left alone for up to one interval, so a write never waits for more than one piece, and the round still
 * ends in time.
 *
 * What becomes of damage:
 * - a range of a segment: marked, and reads of it answer CORRUPT at once; described as "damaged" until retention
 * deletes it or it reads well again
 * - a row of the checkpoint store: what is in memory is right, so the whole picture of that group is written again
 * - a topic's row of the registry: is in memory too, and is written again; its other rows are said
 * - a part of the log: what is in memory is right, so the groups that still need it are checkpointed or write it again
 *   at the head, and the next start does not judge it
 * Counted as flotilla_scrub_*, one log line each. */
#ifndef FLOTILLA_BROKER_SCRUB_H
#define FLOTILLA_BROKER_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct scrub;

struct scrub *scrub_new(struct broker *b);
void scrub_free(struct scrub *scrub); /* when no job runs any more; touches neither store nor WAL */

void scrub_start(struct scrub *scrub); /* the broker is ready: the first round begins */
uint64_t scrub_deadline_us(const struct scrub *scrub);
void scrub_tick(struct scrub *scrub, uint64_t now_us);
bool scrub_is_busy(const struct scrub *scrub);        /* a job is under way */
int64_t scrub_finished_ms(const struct scrub *scrub); /* wall clock at the end of the last round; 0: none yet */

#endif
