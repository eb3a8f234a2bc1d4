/* How many payload bytes a range of the log has, roughly: enough to keep messages and windows bounded, without a number
 * per entry.
 *
 * A bounded list of marks {index, bytes up to it}. Between two marks entries count as equally large. Small appends
 * share a mark up to SIZES_GRAIN_BYTES, larger ones have their own, and when the list is full its older half loses
 * every second mark: what is being sent now is known well, what is long past coarsely. Entries read from the disk at
 * start count as SIZES_GUESS_BYTES each. An idle group has two marks, and memory for no more. Owner: struct raft. */
#ifndef FLOTILLA_RAFT_SIZES_H
#define FLOTILLA_RAFT_SIZES_H

#include <stdint.h>

#define SIZES_MARKS_MAX   32u
#define SIZES_GRAIN_BYTES ((int64_t)64 << 10)
#define SIZES_GUESS_BYTES ((int64_t)64 << 10)

struct sizes_mark {
    uint64_t index;
    int64_t total; /* bytes of the entries up to and including index, from an arbitrary zero */
};

struct sizes {
    uint32_t count, capacity;
    struct sizes_mark *marks; /* owned; doubled up to SIZES_MARKS_MAX */
};

void sizes__init(struct sizes *s, uint64_t last_index);
void sizes__done(struct sizes *s);

/* The log grew up to last_index by entries of `bytes` together. */
void sizes__append(struct sizes *s, uint64_t last_index, uint64_t bytes);

/* The log now ends at last_index. */
void sizes__truncate(struct sizes *s, uint64_t last_index);

/* Bytes of the entries after + 1 .. last. */
uint64_t sizes__between(const struct sizes *s, uint64_t after, uint64_t last);

/* The largest n <= count such that the entries after + 1 .. after + n have at most `bytes`. */
uint64_t sizes__fit(const struct sizes *s, uint64_t after, uint64_t count, uint64_t bytes);

#endif
