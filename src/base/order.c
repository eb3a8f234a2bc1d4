/* The tree functions, once for all users. */
#include "base/order.h"

static int order__compare(const struct order_item *a, const struct order_item *b)
{
    if (a->key != b->key) {
        return a->key < b->key ? -1 : 1;
    }
    return (a->id > b->id) - (a->id < b->id);
}

/* Not RB_GENERATE_STATIC: its `__unused` is no word of glibc's. */
RB_GENERATE_INTERNAL(order, order_item, link, order__compare, static __attribute__((unused)))

void order_put(struct order *order, struct order_item *item, uint64_t key)
{
    if (item->is_in) {
        if (item->key == key) {
            return;
        }
        RB_REMOVE(order, order, item);
    }
    item->key = key;
    item->is_in = true;
    RB_INSERT(order, order, item);
}

void order_remove(struct order *order, struct order_item *item)
{
    if (item->is_in) {
        RB_REMOVE(order, order, item);
        item->is_in = false;
    }
}

struct order_item *order_first(const struct order *order)
{
    return RB_MIN(order, (struct order *)(uintptr_t)order);
}

struct order_item *order_next(struct order_item *item)
{
    return RB_NEXT(order, NULL, item);
}
