/* The window of log entries that are in (or on their way to) the WAL and not applied: a ring indexed by Raft index. */
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "broker/partition.h"

#define WINDOW_CAPACITY_MIN 4u /* idle groups have one entry at a time */

static void window__grow(struct window *window)
{
    uint32_t capacity = window->capacity == 0 ? WINDOW_CAPACITY_MIN : window->capacity * 2;
    struct window_entry *ring = mem_zeroed(capacity, sizeof *ring);
    for (uint32_t i = 0; i < window->count; i++) {
        uint64_t index = window->first_index + i;
        ring[index & (capacity - 1)] = window->ring[index & (window->capacity - 1)];
    }
    free(window->ring);
    window->ring = ring;
    window->capacity = capacity;
}

void window_push(struct window *window, const struct window_entry *entry)
{
    if (window->count == window->capacity) {
        window__grow(window);
    }
    uint64_t index = window->first_index + window->count;
    window->ring[index & (window->capacity - 1)] = *entry;
    window->count++;
    window->bytes += entry->payload.size;
}

struct window_entry *window_at(struct window *window, uint64_t index)
{
    ASSERT(index >= window->first_index && index - window->first_index < window->count);
    return &window->ring[index & (window->capacity - 1)];
}

void window_pop_front(struct window *window)
{
    struct window_entry *entry = window_at(window, window->first_index);
    ASSERT(entry->waiters == NULL);
    window->bytes -= entry->payload.size;
    slice_unref(&entry->payload);
    window->first_index++;
    window->count--;
}

void window_truncate(struct window *window, uint64_t from_index, const struct outcome *outcome)
{
    ASSERT(from_index >= window->first_index);
    while (window->count > 0 && window_last(window) >= from_index) {
        struct window_entry *entry = window_at(window, window_last(window));
        struct waiter *waiter = entry->waiters;
        entry->waiters = NULL;
        window->bytes -= entry->payload.size;
        slice_unref(&entry->payload);
        window->count--;
        while (waiter != NULL) {
            struct waiter *next = waiter->next;
            waiter->complete(waiter, outcome);
            waiter = next;
        }
    }
}

void window_free(struct window *window)
{
    while (window->count > 0) {
        window_pop_front(window);
    }
    free(window->ring);
    *window = (struct window){0};
}
