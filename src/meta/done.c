/* The dedup tables of one group and the judge over them.
 *
 * CDM: a hash from producer id to its row; rows changed since the last checkpoint stand in a list besides, and all rows
 * in order of their last batch, so that expiry finds the idle ones from the front. CSM: a hash from producer id to the
 * queue of its batches in flight, in order of proposal. Nothing here depends on the order of a hash: visitors see rows
 * sorted by producer id, and done_hash adds up, so that every replica and every run gets the same.
 *
 * Cost: a judgement is one look-up per table and at most five comparisons plus the batches in flight of that producer.
 * Applying to a row that exists allocates nothing; nodes of the CSM come from a spare list, since it empties and fills
 * all the time. */
#include "meta/done.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/order.h"
#include "base/plant.h"

#define EPOCH_NONE           (-1)
/* Nodes of the CSM kept for reuse; a group rarely has more batches in flight. */
#define SUBMITTED_SPARES_MAX 256u
/* Never a producer's: the node that keeps the CSM's hash from being torn down each time the last batch leaves. */
#define SUBMITTED_ANCHOR     INT64_MIN

struct done_entry {
    struct done_row row;
    bool dirty; /* in table->dirty */
    struct order_item age;
    TAILQ_ENTRY(done_entry) dirty_link;
    UT_hash_handle hh;
};

TAILQ_HEAD(done_entries, done_entry);

struct done_table {
    struct done_entry *entries; /* owned, by producer id */
    struct done_entries dirty;
    struct order by_age; /* of the newest batch, on the idle clock */
    int64_t *removed;    /* owned; expired since the last checkpoint */
    uint32_t removed_count, removed_capacity;
};

struct submitted_batch {
    int16_t epoch;
    int32_t first_sequence;
    int32_t last_sequence;
    uint64_t index;
    uint64_t term;
    TAILQ_ENTRY(submitted_batch) link;
};

TAILQ_HEAD(submitted_batches, submitted_batch);

struct submitted_producer {
    int64_t producer_id;
    struct submitted_batches batches; /* owned, oldest first; empty only in spares and in the anchor */
    STAILQ_ENTRY(submitted_producer) spare_link;
    UT_hash_handle hh;
};

struct submitted_table {
    struct submitted_producer *producers; /* owned, by producer id */
    size_t batches_count;
    struct submitted_batches spare_batches;
    STAILQ_HEAD(, submitted_producer) spare_producers;
    uint32_t spare_batches_count;
    uint32_t spare_producers_count;
};

static struct done_entry *done__find(const struct done_table *done, int64_t producer_id)
{
    struct done_entry *entry;
    HASH_FIND(hh, done->entries, &producer_id, sizeof producer_id, entry);
    return entry;
}

static struct submitted_producer *submitted__find(const struct submitted_table *submitted, int64_t producer_id)
{
    struct submitted_producer *producer;
    HASH_FIND(hh, submitted->producers, &producer_id, sizeof producer_id, producer);
    return producer;
}

static int32_t done__last_sequence(const struct done_candidate *candidate)
{
    return sequence_add(candidate->first_sequence, candidate->records_count - 1);
}

/* What a batch with a producer id looks like (Kafka: producerId >= 0 needs epoch and baseSequence >= 0). */
static bool done__is_sane(const struct done_candidate *candidate)
{
    return candidate->producer_id >= 0 && candidate->epoch >= 0 && candidate->first_sequence >= 0 &&
           candidate->records_count > 0;
}

/* ---- the judge ---- */

/* On the circle of 2^31 sequences: what is less than half of it ahead of `next` is a gap, all else is behind. */
static bool done__is_ahead(int32_t sequence, int32_t next)
{
    uint32_t distance = ((uint32_t)sequence - (uint32_t)next) & (uint32_t)INT32_MAX;
    return distance < (uint32_t)1 << 30;
}

/* A batch without an exact match, against the newest batch of its epoch; last_sequence -1: there is none. */
static enum done_verdict done__judge_next(int32_t last_sequence, int32_t first_sequence)
{
    int32_t next = last_sequence < 0 ? 0 : sequence_add(last_sequence, 1);
    if (first_sequence == next || (PLANT(5) && done__is_ahead(first_sequence, next))) {
        return DONE_GO;
    }
    return done__is_ahead(first_sequence, next) ? DONE_OUT_OF_ORDER : DONE_STALE;
}

/* The epoch of both tables is the candidate's, or the table knows nothing of that epoch. */
static struct done_judgement done__judge_epoch(const struct done_row *row, const struct submitted_producer *in_flight,
                                               const struct done_candidate *candidate)
{
    int32_t first = candidate->first_sequence;
    int32_t last = done__last_sequence(candidate);
    int32_t newest = -1;
    if (row != NULL && row->epoch == candidate->epoch) {
        for (uint8_t i = PLANT(4) ? row->count - 1 : 0; i < row->count; i++) {
            const struct done_batch *batch = &row->batches[i];
            if (batch->first_sequence == first && batch->last_sequence == last) {
                int64_t offset = PLANT(43) ? row->batches[row->count - 1].offset : batch->offset;
                return (struct done_judgement){.verdict = DONE_KNOWN, .offset = offset};
            }
            newest = batch->last_sequence;
        }
    }
    if (in_flight != NULL) {
        const struct submitted_batch *batch;
        TAILQ_FOREACH(batch, &in_flight->batches, link)
        {
            if (batch->epoch != candidate->epoch) {
                continue; /* an older life of the producer, still ahead of it in the log */
            }
            if (batch->first_sequence == first && batch->last_sequence == last) {
                return (struct done_judgement){.verdict = DONE_IN_FLIGHT, .index = batch->index, .term = batch->term};
            }
            newest = batch->last_sequence;
        }
    }
    enum done_verdict verdict = done__judge_next(newest, first);
    if (PLANT(60) && verdict == DONE_STALE && row != NULL && row->epoch == candidate->epoch) {
        return (struct done_judgement){.verdict = DONE_KNOWN, .offset = row->batches[0].offset};
    }
    return (struct done_judgement){.verdict = verdict};
}

struct done_judgement done_judge(const struct done_table *done, const struct submitted_table *submitted,
                                 const struct done_candidate *candidate)
{
    if (!done__is_sane(candidate)) {
        return (struct done_judgement){.verdict = DONE_OUT_OF_ORDER};
    }
    const struct done_entry *entry = done__find(done, candidate->producer_id);
    const struct done_row *row = entry != NULL ? &entry->row : NULL;
    const struct submitted_producer *in_flight =
        submitted != NULL ? submitted__find(submitted, candidate->producer_id) : NULL;

    /* The newest epoch counts as soon as it is proposed: what stands behind it in the log will be fenced by it. */
    int16_t epoch = row != NULL ? row->epoch : EPOCH_NONE;
    if (in_flight != NULL) {
        const struct submitted_batch *newest = TAILQ_LAST(&in_flight->batches, submitted_batches);
        epoch = newest->epoch > epoch ? newest->epoch : epoch;
    }
    if (epoch == EPOCH_NONE) {
        return (struct done_judgement){.verdict = candidate->first_sequence != 0 ? DONE_UNKNOWN
                                                  : PLANT(6)                     ? DONE_KNOWN
                                                                                 : DONE_GO};
    }
    if (candidate->epoch < epoch) {
        return (struct done_judgement){.verdict = DONE_FENCED};
    }
    if (candidate->epoch > epoch) {
        return (struct done_judgement){.verdict = candidate->first_sequence == 0 ? DONE_GO : DONE_OUT_OF_ORDER};
    }
    return done__judge_epoch(row, in_flight, candidate);
}

enum err done_verdict_status(enum done_verdict verdict)
{
    switch (verdict) {
    case DONE_GO:
    case DONE_KNOWN:
    case DONE_IN_FLIGHT:
        return OK;
    case DONE_FENCED:
        return ERR_FENCED;
    case DONE_OUT_OF_ORDER:
        return ERR_OUT_OF_ORDER;
    case DONE_STALE:
        return ERR_STALE;
    case DONE_UNKNOWN:
        return ERR_UNKNOWN_PRODUCER;
    }
    UNREACHABLE();
}

/* ---- CDM ---- */

struct done_table *done_table_new(void)
{
    struct done_table *done = mem_zeroed(1, sizeof *done);
    TAILQ_INIT(&done->dirty);
    return done;
}

void done_table_free(struct done_table *done)
{
    struct done_entry *entry, *next;
    if (done == NULL) {
        return;
    }
    HASH_ITER(hh, done->entries, entry, next)
    {
        HASH_DEL(done->entries, entry);
        free(entry);
    }
    free(done->removed);
    free(done);
}

static void done__set_age(struct done_table *done, struct done_entry *entry)
{
    int64_t idle_ms = entry->row.last_idle_ms;
    order_put(&done->by_age, &entry->age, idle_ms > 0 ? (uint64_t)idle_ms : 0);
}

static struct done_entry *done__add(struct done_table *done, int64_t producer_id)
{
    struct done_entry *entry = mem_zeroed(1, sizeof *entry);
    entry->row.producer_id = producer_id;
    entry->row.epoch = EPOCH_NONE;
    entry->age = (struct order_item){.id = (uint64_t)producer_id, .owner = entry};
    HASH_ADD(hh, done->entries, row.producer_id, sizeof entry->row.producer_id, entry);
    return entry;
}

static void done__mark_dirty(struct done_table *done, struct done_entry *entry)
{
    if (!entry->dirty) {
        entry->dirty = true;
        TAILQ_INSERT_TAIL(&done->dirty, entry, dirty_link);
    }
}

void done_apply(struct done_table *done, const struct done_candidate *candidate, int64_t offset, int64_t idle_ms)
{
    ASSERT(done__is_sane(candidate));
    ASSERT(offset >= 0);
    struct done_entry *entry = done__find(done, candidate->producer_id);
    if (entry == NULL) {
        entry = done__add(done, candidate->producer_id);
    }
    struct done_row *row = &entry->row;
    if (candidate->epoch != row->epoch) {
        /* A new producer or a new life of it: the old window is void, retries of the old epoch are fenced. */
        ASSERT(candidate->epoch > row->epoch);
        ASSERT(candidate->first_sequence == 0);
        row->epoch = candidate->epoch;
        row->count = 0;
        memset(row->batches, 0, sizeof row->batches);
    }
    if (row->count > 0) {
        const struct done_batch *newest = &row->batches[row->count - 1];
        ASSERT(PLANT(5) || candidate->first_sequence == sequence_add(newest->last_sequence, 1));
        ASSERT(offset > newest->offset);
    }
    if (row->count == DONE_BATCHES) {
        memmove(&row->batches[0], &row->batches[1], (DONE_BATCHES - 1) * sizeof row->batches[0]);
        row->count--;
    }
    row->batches[row->count++] = (struct done_batch){
        .first_sequence = candidate->first_sequence, .last_sequence = done__last_sequence(candidate), .offset = offset};
    row->last_idle_ms = idle_ms;
    done__set_age(done, entry);
    done__mark_dirty(done, entry);
}

bool done_has_room(const struct done_table *done, int64_t producer_id)
{
    return HASH_COUNT(done->entries) < PRODUCERS_PER_GROUP_MAX || done__find(done, producer_id) != NULL;
}

void done_put_row(struct done_table *done, const struct done_row *row)
{
    ASSERT(row->producer_id >= 0 && row->epoch >= 0 && row->count <= DONE_BATCHES);
    struct done_entry *entry = done__find(done, row->producer_id);
    if (entry == NULL) {
        entry = done__add(done, row->producer_id);
    }
    entry->row = *row;
    /* Unused places are zero in every row, so that a loaded row equals the one it was made from. */
    memset(&entry->row.batches[row->count], 0, (DONE_BATCHES - row->count) * sizeof row->batches[0]);
    done__set_age(done, entry);
}

static void done__remove(struct done_table *done, struct done_entry *entry)
{
    if (done->removed_count == done->removed_capacity) {
        done->removed_capacity = done->removed_capacity > 0 ? done->removed_capacity * 2 : 16;
        done->removed = mem_grow(done->removed, done->removed_capacity * sizeof done->removed[0]);
    }
    done->removed[done->removed_count++] = entry->row.producer_id;
    if (entry->dirty) {
        TAILQ_REMOVE(&done->dirty, entry, dirty_link);
    }
    order_remove(&done->by_age, &entry->age);
    HASH_DEL(done->entries, entry);
    free(entry);
}

int64_t done_oldest_ms(struct done_table *done)
{
    const struct order_item *oldest = order_first(&done->by_age);
    return oldest != NULL ? (int64_t)oldest->key : INT64_MAX;
}

size_t done_expire(struct done_table *done, int64_t idle_ms)
{
    size_t count = 0;
    const struct order_item *oldest;
    while ((oldest = order_first(&done->by_age)) != NULL && (int64_t)oldest->key <= idle_ms) {
        done__remove(done, oldest->owner);
        count++;
    }
    return count;
}

int64_t *done_take_removed(struct done_table *done, uint32_t *ret_count)
{
    int64_t *removed = done->removed;
    *ret_count = done->removed_count;
    done->removed = NULL;
    done->removed_count = done->removed_capacity = 0;
    return removed;
}

const struct done_row *done_get_row(const struct done_table *done, int64_t producer_id)
{
    const struct done_entry *entry = done__find(done, producer_id);
    return entry != NULL ? &entry->row : NULL;
}

void done_mark_dirty(struct done_table *done, int64_t producer_id)
{
    struct done_entry *entry = done__find(done, producer_id);
    if (entry != NULL) {
        done__mark_dirty(done, entry);
    }
}

void done_mark_all_dirty(struct done_table *done)
{
    struct done_entry *entry, *next;
    HASH_ITER(hh, done->entries, entry, next)
    {
        done__mark_dirty(done, entry);
    }
}

static int done__compare(const void *a, const void *b)
{
    const struct done_entry *const *left = a;
    const struct done_entry *const *right = b;
    int64_t x = (*left)->row.producer_id;
    int64_t y = (*right)->row.producer_id;
    return (x > y) - (x < y);
}

/* Visits entries[0, count) in order of producer id and frees the array. */
static void done__visit_sorted(struct done_entry **entries, size_t count,
                               void (*visit)(void *context, const struct done_row *row), void *context)
{
    qsort(entries, count, sizeof entries[0], done__compare);
    for (size_t i = 0; i < count; i++) {
        visit(context, &entries[i]->row);
    }
    free(entries);
}

void done_visit(const struct done_table *done, void (*visit)(void *context, const struct done_row *row), void *context)
{
    size_t count = 0;
    struct done_entry **entries = mem_zeroed(HASH_COUNT(done->entries) + 1, sizeof entries[0]);
    struct done_entry *entry, *next;
    HASH_ITER(hh, done->entries, entry, next)
    {
        entries[count++] = entry;
    }
    done__visit_sorted(entries, count, visit, context);
}

void done_take_dirty(struct done_table *done, void (*visit)(void *context, const struct done_row *row), void *context)
{
    size_t count = 0;
    struct done_entry *entry;
    TAILQ_FOREACH(entry, &done->dirty, dirty_link)
    {
        count++;
    }
    struct done_entry **entries = mem_zeroed(count + 1, sizeof entries[0]);
    count = 0;
    TAILQ_FOREACH(entry, &done->dirty, dirty_link)
    {
        entry->dirty = false;
        entries[count++] = entry;
    }
    TAILQ_INIT(&done->dirty);
    done__visit_sorted(entries, count, visit, context);
}

size_t done_count(const struct done_table *done)
{
    return HASH_COUNT(done->entries);
}

static uint32_t done__row_hash(const struct done_row *row)
{
    uint8_t bytes[24 + DONE_BATCHES * 16] = {0};
    uint8_t *at = bytes;
    store_le64(at, (uint64_t)row->producer_id);
    store_le64(at + 8, (uint64_t)row->last_idle_ms);
    store_le16(at + 16, (uint16_t)row->epoch);
    at[18] = row->count;
    at += 24;
    for (uint8_t i = 0; i < row->count; i++, at += 16) {
        store_le32(at, (uint32_t)row->batches[i].first_sequence);
        store_le32(at + 4, (uint32_t)row->batches[i].last_sequence);
        store_le64(at + 8, (uint64_t)row->batches[i].offset);
    }
    return crc32c(0, bytes, sizeof bytes);
}

uint32_t done_hash(const struct done_table *done)
{
    /* A sum, so that the order in which this replica met the producers does not count; multiplied out first, because
     * CRCs are linear and errors in two rows could cancel. */
    uint32_t sum = (uint32_t)HASH_COUNT(done->entries);
    struct done_entry *entry, *next;
    HASH_ITER(hh, done->entries, entry, next)
    {
        uint64_t wide = (uint64_t)done__row_hash(&entry->row) * UINT64_C(0x9e3779b97f4a7c15);
        sum += (uint32_t)(wide >> 32);
    }
    return sum;
}

/* ---- CSM ---- */

struct submitted_table *submitted_table_new(void)
{
    struct submitted_table *submitted = mem_zeroed(1, sizeof *submitted);
    TAILQ_INIT(&submitted->spare_batches);
    STAILQ_INIT(&submitted->spare_producers);
    return submitted;
}

static struct submitted_batch *submitted__take_batch(struct submitted_table *submitted)
{
    struct submitted_batch *batch = TAILQ_FIRST(&submitted->spare_batches);
    if (batch == NULL) {
        return mem_zeroed(1, sizeof *batch);
    }
    TAILQ_REMOVE(&submitted->spare_batches, batch, link);
    submitted->spare_batches_count--;
    return batch;
}

static void submitted__give_batch(struct submitted_table *submitted, struct submitted_batch *batch)
{
    if (submitted->spare_batches_count >= SUBMITTED_SPARES_MAX) {
        free(batch);
        return;
    }
    TAILQ_INSERT_HEAD(&submitted->spare_batches, batch, link);
    submitted->spare_batches_count++;
}

static struct submitted_producer *submitted__add_producer(struct submitted_table *submitted, int64_t producer_id)
{
    struct submitted_producer *producer = STAILQ_FIRST(&submitted->spare_producers);
    if (producer == NULL) {
        producer = mem_zeroed(1, sizeof *producer);
    } else {
        STAILQ_REMOVE_HEAD(&submitted->spare_producers, spare_link);
        submitted->spare_producers_count--;
    }
    producer->producer_id = producer_id;
    TAILQ_INIT(&producer->batches);
    HASH_ADD(hh, submitted->producers, producer_id, sizeof producer->producer_id, producer);
    return producer;
}

static void submitted__remove_producer(struct submitted_table *submitted, struct submitted_producer *producer)
{
    ASSERT(TAILQ_EMPTY(&producer->batches));
    HASH_DEL(submitted->producers, producer);
    if (submitted->spare_producers_count >= SUBMITTED_SPARES_MAX) {
        free(producer);
        return;
    }
    STAILQ_INSERT_HEAD(&submitted->spare_producers, producer, spare_link);
    submitted->spare_producers_count++;
}

void submitted_add(struct submitted_table *submitted, const struct done_candidate *candidate, uint64_t index,
                   uint64_t term)
{
    ASSERT(done__is_sane(candidate));
    if (submitted->producers == NULL) {
        submitted__add_producer(submitted, SUBMITTED_ANCHOR);
    }
    struct submitted_producer *producer = submitted__find(submitted, candidate->producer_id);
    if (producer == NULL) {
        producer = submitted__add_producer(submitted, candidate->producer_id);
    } else {
        /* A leader only appends: an index that does not grow is a CSM of an earlier leadership, not cleared. */
        const struct submitted_batch *newest = TAILQ_LAST(&producer->batches, submitted_batches);
        ASSERT(newest->index < index && newest->term == term && newest->epoch <= candidate->epoch);
    }
    struct submitted_batch *batch = submitted__take_batch(submitted);
    batch->epoch = candidate->epoch;
    batch->first_sequence = candidate->first_sequence;
    batch->last_sequence = done__last_sequence(candidate);
    batch->index = index;
    batch->term = term;
    TAILQ_INSERT_TAIL(&producer->batches, batch, link);
    submitted->batches_count++;
}

void submitted_remove(struct submitted_table *submitted, int64_t producer_id, uint64_t index, uint64_t term)
{
    struct submitted_producer *producer = submitted__find(submitted, producer_id);
    struct submitted_batch *batch;
    if (producer == NULL) {
        return;
    }
    TAILQ_FOREACH(batch, &producer->batches, link)
    {
        if (batch->index == index && batch->term == term) {
            break;
        }
    }
    if (PLANT(7)) {
        batch = TAILQ_LAST(&producer->batches, submitted_batches);
    }
    if (batch == NULL) {
        return;
    }
    TAILQ_REMOVE(&producer->batches, batch, link);
    submitted__give_batch(submitted, batch);
    ASSERT(submitted->batches_count > 0);
    submitted->batches_count--;
    if (TAILQ_EMPTY(&producer->batches)) {
        submitted__remove_producer(submitted, producer);
    }
}

void submitted_clear(struct submitted_table *submitted)
{
    struct submitted_producer *producer, *next;
    struct submitted_batch *batch;
    HASH_ITER(hh, submitted->producers, producer, next)
    {
        while ((batch = TAILQ_FIRST(&producer->batches)) != NULL) {
            TAILQ_REMOVE(&producer->batches, batch, link);
            free(batch);
        }
        HASH_DEL(submitted->producers, producer);
        free(producer);
    }
    while ((batch = TAILQ_FIRST(&submitted->spare_batches)) != NULL) {
        TAILQ_REMOVE(&submitted->spare_batches, batch, link);
        free(batch);
    }
    while ((producer = STAILQ_FIRST(&submitted->spare_producers)) != NULL) {
        STAILQ_REMOVE_HEAD(&submitted->spare_producers, spare_link);
        free(producer);
    }
    submitted->batches_count = 0;
    submitted->spare_batches_count = 0;
    submitted->spare_producers_count = 0;
}

void submitted_table_free(struct submitted_table *submitted)
{
    if (submitted != NULL) {
        submitted_clear(submitted);
        free(submitted);
    }
}

size_t submitted_count(const struct submitted_table *submitted)
{
    return submitted->batches_count;
}
