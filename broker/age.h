/* What time does to a partition: TIMEOUT entries, retention, the expiry of producers.
 *
 * Apply reads no clock: time is in the log. A leader proposes a TIMEOUT entry one interval after traffic began, and at
 * the earliest deadline that only an entry can act on; an idle partition has one deadline at most and its log does not
 * grow until then. Such an entry moves the group's two clocks:
 *   log clock    what rolls and retention by time go by: max(last, the leader's log_clock.h time)
 *   idle clock   what producers expire by: the sum of what leaders counted on their monotonic clocks; time without a
 *                leader does not count, so it is slow at worst, never fast
 * The first batch after a pause is preceded by a TIMEOUT entry, so that it is not taken for as old as the pause is
 * long. Leader only, unless said otherwise. */
#ifndef FLOTILLA_BROKER_AGE_H
#define FLOTILLA_BROKER_AGE_H

#include <stdint.h>

struct broker;
struct entry_config;
struct partition;

/* This replica has just proposed its LEADER entry: clocks count from here. Returns the time for that entry. */
int64_t age_lead(struct partition *p);
void age_propose(struct partition *p); /* a TIMEOUT entry, now; only if partition_may_propose */
void age_freshen(struct partition *p); /* data is about to be proposed */
void age_traffic(struct partition *p); /* data was applied: a TIMEOUT entry is due one interval later. Any role */
void age_turn(struct partition *p);   /* entries were applied: proposes LOG_START if retention asks for it, and sets the
                                         next deadline if the clocks moved */
void age_forget(struct partition *p); /* no deadline any more. Any role */

/* Rolls by time: a segment lives no longer than segment_ms, nor than retention_ms, else a partition with little traffic
 * would keep its oldest records until segment_bytes are full. -1: no roll by time. */
int64_t age_segment_ms(const struct entry_config *config);

/* The broker's timer; the wall clock was accepted by an operator: deadlines are to be looked at again. */
void age_timer(struct broker *b, uint64_t now_us);
void age_accept_clock(struct broker *b);
uint64_t age_deadline_us(const struct broker *b);

#endif
