/* The time of the Raft cores: who of them is ticked when.
 *
 * A tick is half a heartbeat. Each core stands in a timer wheel at the tick at which it has something to do next
 * (raft_next_tick_ms); who sleeps, or leads nobody else, stands nowhere and costs nothing. Leaders beat at even ticks,
 * so that the heartbeats of all groups share one frame per broker and interval.
 *
 * The cores' clock counts ticks, in milliseconds of the monotonic clock, but for pauses: when the process was stopped,
 * or the loop so busy that a tick comes late by half an election timeout, that time does not count. Else a broker that
 * comes back from a pause would find the timers of all its groups at their end before it has read what their leaders
 * had to say meanwhile, and thousands of groups would campaign at once.
 *
 * Loop thread. */
#ifndef FLOTILLA_BROKER_PULSE_H
#define FLOTILLA_BROKER_PULSE_H

#include <stdint.h>

#include "base/wheel.h"

struct broker;
struct partition;

struct pulse {
    struct wheel wheel;
    uint64_t origin_us; /* of tick 0, and later by each pause */
    uint64_t due_us;    /* the next tick; UINT64_MAX: nobody waits for one */
};

/* Its identity is known: brokers tick at moments of their own, or candidates would meet more often. */
void pulse_init(struct broker *b);
/* What cores take for the time. */
uint64_t pulse_now_ms(const struct broker *b);
/* Something was done with this core: puts it where it belongs in the wheel. */
void pulse_plan(struct partition *p);
void pulse_forget(struct partition *p); /* fine if it is not in */

void pulse_timer(struct broker *b, uint64_t now_us);
uint64_t pulse_deadline_us(const struct broker *b);

#endif
