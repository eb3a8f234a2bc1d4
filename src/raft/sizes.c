/* Byte marks of the log: see sizes.h for why they may be approximate. */
#include "raft/sizes.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define SIZES_CAPACITY_FIRST 2u

static void push_mark(struct sizes *s, uint64_t index, int64_t total)
{
    ASSERT(s->count < SIZES_MARKS_MAX);
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? SIZES_CAPACITY_FIRST : s->capacity * 2;
        s->marks = mem_grow(s->marks, s->capacity * sizeof *s->marks);
    }
    s->marks[s->count++] = (struct sizes_mark){.index = index, .total = total};
}

void sizes__init(struct sizes *s, uint64_t last_index)
{
    *s = (struct sizes){0};
    push_mark(s, last_index, 0);
}

void sizes__done(struct sizes *s)
{
    free(s->marks);
    *s = (struct sizes){0};
}

/* Bytes from the arbitrary zero up to index; indexes outside the marks are extrapolated with the guess. */
static int64_t total_at(const struct sizes *s, uint64_t index)
{
    const struct sizes_mark *marks = s->marks;
    uint32_t at = s->count - 1;
    if (index >= marks[at].index) {
        return marks[at].total + (int64_t)(index - marks[at].index) * SIZES_GUESS_BYTES;
    }
    while (at > 0 && marks[at].index > index) {
        at--;
    }
    if (marks[at].index > index) {
        return marks[at].total - (int64_t)(marks[at].index - index) * SIZES_GUESS_BYTES;
    }
    int64_t span_bytes = marks[at + 1].total - marks[at].total;
    int64_t span_entries = (int64_t)(marks[at + 1].index - marks[at].index);
    return marks[at].total + span_bytes / span_entries * (int64_t)(index - marks[at].index);
}

/* Drops every second mark of the older half. */
static void thin_out(struct sizes *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        if (i >= SIZES_MARKS_MAX / 2 || i % 2 == 0) {
            s->marks[kept++] = s->marks[i];
        }
    }
    s->count = kept;
}

void sizes__append(struct sizes *s, uint64_t last_index, uint64_t bytes)
{
    struct sizes_mark *newest = &s->marks[s->count - 1];
    ASSERT(last_index > newest->index);
    int64_t total = newest->total + (int64_t)bytes;
    if (s->count > 1 && total - s->marks[s->count - 2].total <= SIZES_GRAIN_BYTES) {
        *newest = (struct sizes_mark){.index = last_index, .total = total};
        return;
    }
    if (s->count == SIZES_MARKS_MAX) {
        thin_out(s);
    }
    push_mark(s, last_index, total);
}

void sizes__truncate(struct sizes *s, uint64_t last_index)
{
    int64_t total = total_at(s, last_index);
    while (s->count > 0 && s->marks[s->count - 1].index >= last_index) {
        s->count--;
    }
    push_mark(s, last_index, total);
}

uint64_t sizes__between(const struct sizes *s, uint64_t after, uint64_t last)
{
    ASSERT(after <= last);
    return (uint64_t)(total_at(s, last) - total_at(s, after));
}

uint64_t sizes__fit(const struct sizes *s, uint64_t after, uint64_t count, uint64_t bytes)
{
    if (sizes__between(s, after, after + count) <= bytes) {
        return count;
    }
    uint64_t fits = 0;
    uint64_t too_many = count;
    while (too_many - fits > 1) {
        uint64_t middle = fits + (too_many - fits) / 2;
        if (sizes__between(s, after, after + middle) <= bytes) {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    return fits;
}
