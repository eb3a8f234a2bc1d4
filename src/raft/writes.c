/* Writes on their way to the WAL: see writes.h for the race this file exists for. */
#include "raft/writes.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/plant.h"

#define WRITES_CAPACITY_FIRST 2u

void writes__init(struct writes *w, uint64_t last_index)
{
    *w = (struct writes){.handed_index = last_index, .durable_index = last_index};
}

void writes__done(struct writes *w)
{
    free(w->flights);
    *w = (struct writes){0};
}

void writes__hard_state(struct writes *w)
{
    w->hard_state = true;
}

static struct writes_flight *flight_at(struct writes *w, uint32_t position)
{
    return &w->flights[(w->flights_first + position) % w->flights_capacity];
}

static void grow(struct writes *w)
{
    uint32_t capacity = w->flights_capacity == 0 ? WRITES_CAPACITY_FIRST : w->flights_capacity * 2;
    struct writes_flight *flights = mem_zeroed(capacity, sizeof *flights);
    for (uint32_t i = 0; i < w->flights_count; i++) {
        flights[i] = *flight_at(w, i);
    }
    free(w->flights);
    w->flights = flights;
    w->flights_first = 0;
    w->flights_capacity = capacity;
}

void writes__truncate(struct writes *w, uint64_t from)
{
    ASSERT(from > 0);
    if (from > w->handed_index) {
        return; /* the WAL has never seen them */
    }
    if (w->truncate_from == 0 || from < w->truncate_from) {
        w->truncate_from = from;
    }
    w->handed_index = from - 1;
    if (w->durable_index >= from) {
        w->durable_index = from - 1;
    }
    for (uint32_t i = 0; i < w->flights_count; i++) {
        struct writes_flight *flight = flight_at(w, i);
        if (flight->index >= from && !PLANT(24)) {
            flight->index = from - 1;
        }
    }
}

void writes__installed(struct writes *w, uint64_t index)
{
    if (w->truncate_from != 0 && w->truncate_from <= index) {
        w->truncate_from = index + 1; /* what the WAL holds behind the snapshot is still to be cut off */
    }
    if (w->handed_index < index) {
        w->handed_index = index;
    }
    if (w->durable_index < index) {
        w->durable_index = index;
    }
}

/* Writes on their way may still land, but no entry of theirs is in the log any more. */
void writes__replaced(struct writes *w, uint64_t index)
{
    w->truncate_from = 0;
    w->handed_index = index;
    w->durable_index = index;
    w->flights_count = 0;
}

bool writes__pending(const struct writes *w, uint64_t last_index)
{
    return w->hard_state || w->truncate_from != 0 || w->handed_index < last_index;
}

/* Remembers that `id` makes the log durable up to handed_index, unless an earlier write does already. */
static void push_flight(struct writes *w, uint64_t id)
{
    uint64_t claimed = w->flights_count > 0 ? flight_at(w, w->flights_count - 1)->index : w->durable_index;
    if (w->handed_index <= claimed) {
        return;
    }
    if (w->flights_count == w->flights_capacity && w->flights_capacity < WRITES_FLIGHTS_MAX) {
        grow(w);
    }
    if (w->flights_count < WRITES_FLIGHTS_MAX) {
        w->flights_count++;
    }
    *flight_at(w, w->flights_count - 1) = (struct writes_flight){.id = id, .index = w->handed_index};
}

void writes__take(struct writes *w, uint64_t term, uint64_t vote, uint64_t last_index, struct raft_write *ret_write)
{
    *ret_write = (struct raft_write){.term = term, .vote = vote, .first = 1, .last = 0};
    if (!writes__pending(w, last_index)) {
        return;
    }
    ret_write->id = ++w->last_id;
    ret_write->hard_state = w->hard_state;
    ret_write->truncate_from = w->truncate_from;
    if (w->handed_index < last_index) {
        ret_write->first = w->handed_index + 1;
        ret_write->last = last_index;
        w->handed_index = last_index;
    }
    if (w->hard_state) {
        w->hard_state_id = ret_write->id;
    }
    w->hard_state = false;
    w->truncate_from = 0;
    push_flight(w, ret_write->id);
}

void writes__persisted(struct writes *w, uint64_t id)
{
    ASSERT(id <= w->last_id);
    if (id <= w->persisted_id) {
        return;
    }
    w->persisted_id = id;
    while (w->flights_count > 0 && flight_at(w, 0)->id <= id) {
        uint64_t index = flight_at(w, 0)->index;
        if (index > w->durable_index) {
            w->durable_index = index;
        }
        w->flights_first = (w->flights_first + 1) % w->flights_capacity;
        w->flights_count--;
    }
}

bool writes__hard_state_durable(const struct writes *w)
{
    return !w->hard_state && w->hard_state_id <= w->persisted_id;
}

void writes__check(const struct writes *w, uint64_t last_index)
{
    ASSERT(w->durable_index <= w->handed_index && w->handed_index <= last_index);
    ASSERT(w->persisted_id <= w->last_id && w->hard_state_id <= w->last_id);
    ASSERT(w->truncate_from == 0 || w->durable_index < w->truncate_from);
    uint64_t id = w->persisted_id;
    uint64_t index = 0;
    for (uint32_t i = 0; i < w->flights_count; i++) {
        const struct writes_flight *flight = &w->flights[(w->flights_first + i) % w->flights_capacity];
        ASSERT(flight->id > id && flight->id <= w->last_id);
        ASSERT(flight->index >= index && flight->index <= w->handed_index);
        id = flight->id;
        index = flight->index;
    }
    ASSERT(w->persisted_id < w->last_id || w->durable_index == w->handed_index);
}
