/* Leaders that serve badly give way: one whose disk is full, to a voter that has room; one with ranges of records that
 * are damaged on its disk, to another voter, which most likely has them. Whoever is alone, or finds nobody fit, goes on
 * leading: records that can be served are better than none. Loop thread. */
#ifndef FLOTILLA_BROKER_YIELD_H
#define FLOTILLA_BROKER_YIELD_H

#include <stdint.h>

struct broker;
struct partition;

/* The disk became full, or has room again: every core with other members tells them, so that nobody gives it a
 * leadership, and leaders refuse what no majority has room for. */
void yield_note_disk(struct broker *b);
/* The same for one core, which was made, or whose members have changed, just now. */
void yield_tell(struct partition *p);
/* Looks at the leaders now and then, while any may have a reason to give way. */
void yield_timer(struct broker *b, uint64_t now_us);
uint64_t yield_deadline_us(const struct broker *b);

#endif
