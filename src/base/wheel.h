/* A timer wheel: who waits for which tick of a clock that its owner moves on. Items embed a struct wheel_item. Put and
 * remove take O(1), a tick as long as what is due in it, and nobody who waits for none costs anything. Items of one
 * slot stand in the order in which they were put, so that every run sees the same order.
 *
 * Hashed: an item of tick n stands in slot n mod WHEEL_SLOTS, and is passed over in the laps before its own. */
#ifndef FLOTILLA_BASE_WHEEL_H
#define FLOTILLA_BASE_WHEEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define WHEEL_SLOTS 64u /* a power of two */

struct wheel_item {
    TAILQ_ENTRY(wheel_item) link;
    uint64_t tick;
    void *owner;
    bool is_in;
};

TAILQ_HEAD(wheel_list, wheel_item);

struct wheel {
    struct wheel_list slots[WHEEL_SLOTS];
    uint64_t now; /* the last tick that was looked at */
    uint32_t count;
};

void wheel_init(struct wheel *wheel, uint64_t now);
/* Due at `tick`, from wherever it stood before; one that is over is due at the next. */
void wheel_put(struct wheel *wheel, struct wheel_item *item, uint64_t tick);
void wheel_remove(struct wheel *wheel, struct wheel_item *item); /* fine if it is not in */
/* It is `now`, not earlier than before: moves what is due to the end of io_due, where it counts as in no more. NULL is
 * fine for an empty wheel. */
void wheel_turn(struct wheel *wheel, uint64_t now, struct wheel_list *io_due);

#endif
