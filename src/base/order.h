/* Things kept in order of a number that changes: deadlines, log positions. Items embed a struct order_item; equal keys
 * stand in order of their id, so that every run sees the same order. A red-black tree of libbsd's <sys/tree.h>:
 * put, remove and first take O(log n) without an allocation. */
#ifndef FLOTILLA_BASE_ORDER_H
#define FLOTILLA_BASE_ORDER_H

#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct order_item {
    RB_ENTRY(order_item) link;
    uint64_t key, id;
    void *owner;
    bool is_in;
};

RB_HEAD(order, order_item);

static inline void order_init(struct order *order)
{
    RB_INIT(order);
}

/* Puts the item at `key`, from wherever it stood before. id: unique among the items of one order. */
void order_put(struct order *order, struct order_item *item, uint64_t key);
void order_remove(struct order *order, struct order_item *item); /* fine if it is not in */
struct order_item *order_first(const struct order *order);       /* NULL: empty */
struct order_item *order_next(struct order_item *item);

#endif
