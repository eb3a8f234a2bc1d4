/* See wheel.h. */
#include "base/wheel.h"

#include <stddef.h>

#include "base/assert.h"

static struct wheel_list *wheel__slot(struct wheel *wheel, uint64_t tick)
{
    return &wheel->slots[tick % WHEEL_SLOTS];
}

void wheel_init(struct wheel *wheel, uint64_t now)
{
    wheel->now = now;
    wheel->count = 0;
    for (uint32_t i = 0; i < WHEEL_SLOTS; i++) {
        TAILQ_INIT(&wheel->slots[i]);
    }
}

void wheel_put(struct wheel *wheel, struct wheel_item *item, uint64_t tick)
{
    tick = tick <= wheel->now ? wheel->now + 1 : tick;
    if (item->is_in && item->tick == tick) {
        return;
    }
    wheel_remove(wheel, item);
    item->tick = tick;
    item->is_in = true;
    wheel->count++;
    TAILQ_INSERT_TAIL(wheel__slot(wheel, tick), item, link);
}

void wheel_remove(struct wheel *wheel, struct wheel_item *item)
{
    if (item->is_in) {
        TAILQ_REMOVE(wheel__slot(wheel, item->tick), item, link);
        item->is_in = false;
        wheel->count--;
    }
}

static void wheel__look(struct wheel *wheel, uint64_t slot, uint64_t now, struct wheel_list *io_due)
{
    struct wheel_item *item = TAILQ_FIRST(wheel__slot(wheel, slot));
    while (item != NULL) {
        struct wheel_item *next = TAILQ_NEXT(item, link);
        if (item->tick <= now) {
            wheel_remove(wheel, item);
            TAILQ_INSERT_TAIL(io_due, item, link);
        }
        item = next;
    }
}

void wheel_turn(struct wheel *wheel, uint64_t now, struct wheel_list *io_due)
{
    ASSERT(now >= wheel->now);
    uint64_t passed = now - wheel->now;
    uint64_t slots = passed < WHEEL_SLOTS ? passed : WHEEL_SLOTS; /* a whole lap at most */
    for (uint64_t i = 1; i <= slots && wheel->count > 0; i++) {
        wheel__look(wheel, now - slots + i, now, io_due);
    }
    wheel->now = now;
}
