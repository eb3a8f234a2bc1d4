/* The ghost: every message with its fate, every offset with what was seen there. Checks run as facts come in, so a
 * failure is reported at the event that broke the promise, not at the end of the run. */
#include "sim_check.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/map.h"
#include "sim_ledger.h"

enum fate { FATE_SENT, FATE_ACKED, FATE_REFUSED };

struct message {
    struct check_record record;
    uint32_t value_crc;
    uint32_t open_attempts; /* that may have been stored, or may still be */
    enum fate fate;
    int64_t offset; /* acknowledged or seen there; -1: unknown */
    uint64_t index; /* of the first log entry that holds it; 0: unknown */
};

/* How far one producer got in one partition, in order of offsets. */
struct order {
    int64_t producer_id;
    int16_t epoch;
    int32_t next_sequence;
    UT_hash_handle hh;
};

struct entry_fact {
    uint64_t term;
    uint32_t first, count;
    bool is_known;
};

struct term_fact {
    uint64_t term;
    uint64_t life;
};

struct ghost {
    uint64_t group;
    char name[64];
    bool is_deleted;
    bool expires;            /* log start may move */
    struct check_seen *seen; /* by offset; id 0: not seen yet */
    int64_t seen_capacity;
    int64_t high_watermark, log_start;
    int64_t acked_end;   /* behind the last acknowledged offset */
    uint32_t acked_last; /* the message there */
    int64_t scanned_to;  /* B4 was checked for all below */
    bool may_be_damaged; /* rot hit it */
    bool rests;          /* the next two are known */
    int64_t rest_start, rest_end;
    uint32_t rest_done; /* crc of the done table */
    bool has_hole;      /* records were deleted unseen: the next of each producer is taken as it comes */
    struct order *orders;
    struct entry_fact *entries; /* by index */
    uint64_t entries_capacity;
    struct term_fact *terms;
    uint32_t terms_count;
    UT_hash_handle hh;
};

struct producer_fact {
    int64_t producer_id;
    int32_t epoch; /* the newest */
    bool *given;   /* by epoch */
    uint64_t given_capacity;
    char name[64];
    UT_hash_handle hh;
};

struct check {
    struct sim_world *world;
    struct message *messages; /* [0] is unused */
    uint32_t messages_count, messages_capacity;
    uint32_t acked_count;
    struct ghost *ghosts;
    struct producer_fact *producers;
    struct ledger *ledger; /* owned */
    bool producers_expire;
    bool rot_has_address;
};

/* --- tables --- */

static struct ghost *ghost_of(const struct check *check, uint64_t group)
{
    struct ghost *ghost;
    HASH_FIND(hh, check->ghosts, &group, sizeof group, ghost);
    return ghost;
}

static struct message *message_of(const struct check *check, uint32_t id)
{
    return id == 0 || id > check->messages_count ? NULL : &check->messages[id];
}

static struct check_seen *seen_at(struct ghost *ghost, int64_t offset)
{
    uint64_t capacity = (uint64_t)ghost->seen_capacity;
    ghost->seen = sim_grow(ghost->seen, &capacity, (uint64_t)offset + 1, sizeof *ghost->seen);
    ghost->seen_capacity = (int64_t)capacity;
    return &ghost->seen[offset];
}

struct check *check_new(struct sim_world *world)
{
    struct check *check = calloc(1, sizeof *check);
    ASSERT(check != NULL);
    check->world = world;
    check->ledger = ledger_new(world);
    return check;
}

static void ghost_forget_orders(struct ghost *ghost)
{
    struct order *order, *next;
    HASH_ITER(hh, ghost->orders, order, next)
    {
        HASH_DEL(ghost->orders, order);
        free(order);
    }
}

void check_free(struct check *check)
{
    struct ghost *ghost, *next;
    HASH_ITER(hh, check->ghosts, ghost, next)
    {
        HASH_DEL(check->ghosts, ghost);
        ghost_forget_orders(ghost);
        free(ghost->seen);
        free(ghost->entries);
        free(ghost->terms);
        free(ghost);
    }
    struct producer_fact *producer, *after;
    HASH_ITER(hh, check->producers, producer, after)
    {
        HASH_DEL(check->producers, producer);
        free(producer->given);
        free(producer);
    }
    ledger_free(check->ledger);
    free(check->messages);
    free(check);
}

struct ledger *check_ledger(const struct check *check)
{
    return check->ledger;
}

/* --- what clients did --- */

void check_group_born(struct check *check, uint64_t group, const char *name)
{
    world_judged(check->world, JUDGE_W6);
    if (ghost_of(check, group) != NULL) {
        world_fail(check->world, "W6", "group %llu of %s was %s before", (unsigned long long)group, name,
                   ghost_of(check, group)->name);
        return;
    }
    struct ghost *ghost = calloc(1, sizeof *ghost);
    ASSERT(ghost != NULL);
    ghost->group = group;
    strncpy(ghost->name, name, sizeof ghost->name - 1);
    HASH_ADD(hh, check->ghosts, group, sizeof ghost->group, ghost);
    ledger_watch(check->ledger, group, ghost->name);
}

void check_group_expires(struct check *check, uint64_t group)
{
    ghost_of(check, group)->expires = true;
}

void check_group_deleted(struct check *check, uint64_t group)
{
    struct ghost *ghost = ghost_of(check, group);
    ASSERT(ghost != NULL);
    ghost->is_deleted = true;
    ledger_unwatch(check->ledger, group);
}

bool check_group_is_deleted(const struct check *check, uint64_t group)
{
    const struct ghost *ghost = ghost_of(check, group);
    return ghost != NULL && ghost->is_deleted;
}

uint32_t check_sent(struct check *check, const struct check_record *record)
{
    ASSERT(ghost_of(check, record->group) != NULL);
    uint64_t capacity = check->messages_capacity;
    check->messages =
        sim_grow(check->messages, &capacity, (uint64_t)check->messages_count + 2, sizeof *check->messages);
    check->messages_capacity = (uint32_t)capacity;
    uint32_t id = ++check->messages_count;
    check->messages[id] = (struct message){.record = *record, .open_attempts = 1, .offset = -1};
    return id;
}

void check_set_crc(struct check *check, uint32_t id, uint32_t value_crc)
{
    message_of(check, id)->value_crc = value_crc;
}

void check_resent(struct check *check, uint32_t first, uint32_t count)
{
    for (uint32_t id = first; id < first + count; id++) {
        struct message *m = message_of(check, id);
        m->open_attempts++;
        m->fate = m->fate == FATE_REFUSED ? FATE_SENT : m->fate;
    }
}

/* --- what the broker answered --- */

void check_acked(struct check *check, uint32_t first, uint32_t count, int64_t offset, bool durable)
{
    for (uint32_t i = 0; i < count; i++) {
        struct message *m = message_of(check, first + i);
        ASSERT(m != NULL);
        struct ghost *ghost = ghost_of(check, m->record.group);
        world_judged(check->world, JUDGE_W1);
        if (!durable && !ghost->is_deleted) {
            world_fail(check->world, "W1", "message %u of %s is acknowledged but a power cut now would lose it",
                       first + i, ghost->name);
        }
        check->acked_count += m->fate != FATE_ACKED;
        m->fate = FATE_ACKED;
        ledger_acked(check->ledger, m->record.group, first + i, offset < 0 ? -1 : offset + i);
        if (offset < 0)
            continue;
        if (m->offset >= 0 && m->offset != offset + i) {
            world_fail(check->world, "B5", "message %u of %s is at %lld, now it is acknowledged at %lld", first + i,
                       ghost->name, (long long)m->offset, (long long)offset + i);
        }
        m->offset = offset + i;
        if (m->offset >= ghost->acked_end) {
            ghost->acked_end = m->offset + 1;
            ghost->acked_last = first + i;
        }
        struct check_seen *seen = seen_at(ghost, offset + i);
        if (seen->id != 0 && seen->id != first + i) {
            world_fail(check->world, "B7", "message %u of %s is acknowledged at %lld, where %u was read", first + i,
                       ghost->name, (long long)offset + i, seen->id);
        }
    }
}

void check_producers_expire(struct check *check)
{
    check->producers_expire = true;
}

/* A batch of a newer epoch was sent at least: in flight it fences the older ones, and it may not be in the log yet. */
static bool has_newer_epoch(const struct check *check, const struct check_record *record)
{
    for (uint32_t id = 1; id <= check->messages_count; id++) {
        const struct check_record *other = &check->messages[id].record;
        if (other->group == record->group && other->producer_id == record->producer_id &&
            other->epoch > record->epoch) {
            return true;
        }
    }
    return false;
}

/* B5: what the done table must say of an acknowledged batch that comes again. The ledger may be a little ahead of the
 * broker, which has synced but not applied: so it decides only what further batches do not change. */
static void judge_repeat(struct check *check, const struct message *m, uint32_t first, uint32_t status)
{
    struct ledger_row row;
    const char *wrong = NULL;
    world_judged(check->world, JUDGE_B5);
    bool is_known = ledger_find_row(check->ledger, m->record.group, m->record.producer_id, &row);
    bool is_here = is_known && row.epoch == m->record.epoch;
    bool is_in_window = false;
    for (uint8_t i = 0; is_here && i < row.count; i++) {
        is_in_window = is_in_window || row.batches[i].offset == m->offset;
    }
    if (status == ERR_OUT_OF_ORDER) {
        wrong = "a gap";
    } else if (status == ERR_STALE && is_in_window) {
        wrong = "older than the window, which it is in";
    } else if (status == ERR_UNKNOWN_PRODUCER && is_known) {
        wrong = "of an unknown producer";
    } else if (status == ERR_FENCED && is_here && !has_newer_epoch(check, &m->record)) {
        wrong = "of an older epoch";
    }
    if (wrong != NULL) {
        world_fail(check->world, "B5", "message %u of group %llu is acknowledged at %lld; its repeat is called %s",
                   first, (unsigned long long)m->record.group, (long long)m->offset, wrong);
    }
}

void check_refused(struct check *check, uint32_t first, uint32_t count, uint32_t status)
{
    const struct message *m = message_of(check, first);
    if (m->fate == FATE_ACKED && m->record.producer_id >= 0 && m->offset >= 0 &&
        !check_group_is_deleted(check, m->record.group)) {
        judge_repeat(check, m, first, status);
    }
    if (status == ERR_TIMEOUT || status == ERR_UNKNOWN_OUTCOME)
        return;
    for (uint32_t id = first; id < first + count; id++) {
        struct message *refused = message_of(check, id);
        world_judged(check->world, JUDGE_B2);
        refused->open_attempts -= refused->open_attempts > 0 ? 1 : 0;
        if (refused->fate == FATE_SENT && refused->open_attempts == 0) {
            refused->fate = FATE_REFUSED;
        }
        if (refused->fate == FATE_REFUSED && refused->offset >= 0) {
            world_fail(
                check->world, "B2", "message %u of group %llu was read at %lld, now its last attempt is refused: %s",
                id, (unsigned long long)refused->record.group, (long long)refused->offset, err_name((enum err)status));
        }
    }
}

void check_term(struct check *check, uint64_t group, uint64_t term, uint64_t life, bool durable)
{
    struct ghost *ghost = ghost_of(check, group);
    if (ghost == NULL || ghost->is_deleted)
        return;
    world_judged(check->world, JUDGE_R8);
    if (!durable) {
        world_fail(check->world, "R8", "%s is led in term %llu, which is not durable", ghost->name,
                   (unsigned long long)term);
    }
    if (ghost->terms_count > 0) {
        struct term_fact *last = &ghost->terms[ghost->terms_count - 1];
        if (term == last->term && life == last->life)
            return;
        if (term <= last->term) {
            world_fail(check->world, "R8", "%s: life %llu acts in term %llu, life %llu acted in term %llu before",
                       ghost->name, (unsigned long long)life, (unsigned long long)term, (unsigned long long)last->life,
                       (unsigned long long)last->term);
        }
    }
    ghost->terms = realloc(ghost->terms, (ghost->terms_count + 1) * sizeof *ghost->terms);
    ASSERT(ghost->terms != NULL);
    ghost->terms[ghost->terms_count++] = (struct term_fact){term, life};
}

void check_high_watermark(struct check *check, uint64_t group, int64_t offset)
{
    struct ghost *ghost = ghost_of(check, group);
    if (ghost == NULL || ghost->is_deleted)
        return;
    world_judged(check->world, JUDGE_B8);
    if (offset < ghost->high_watermark) {
        world_fail(check->world, "B8", "the high watermark of %s goes back from %lld to %lld", ghost->name,
                   (long long)ghost->high_watermark, (long long)offset);
    }
    ghost->high_watermark = offset;
}

/* Below log start nothing will be read any more: the scan goes on behind it, and forgets what it cannot know. */
static void scan_skip(struct ghost *ghost, int64_t offset)
{
    if (ghost->scanned_to < offset) {
        ghost->scanned_to = offset;
        ghost->has_hole = true;
        ghost_forget_orders(ghost);
    }
}

void check_log_start(struct check *check, uint64_t group, int64_t offset)
{
    struct ghost *ghost = ghost_of(check, group);
    if (ghost == NULL || ghost->is_deleted)
        return;
    if (offset < ghost->log_start) {
        world_fail(check->world, "B8", "log start of %s goes back from %lld to %lld", ghost->name,
                   (long long)ghost->log_start, (long long)offset);
    }
    if (offset > 0 && !ghost->expires) {
        world_fail(check->world, "B13", "log start of %s moves to %lld, but nothing of it may expire", ghost->name,
                   (long long)offset);
    }
    ghost->log_start = offset;
}

int32_t check_epoch(const struct check *check, const char *name)
{
    const struct producer_fact *known = check->producers;
    while (known != NULL && (name[0] == '\0' || strcmp(known->name, name) != 0)) {
        known = known->hh.next;
    }
    return known == NULL ? -1 : known->epoch;
}

void check_producer(struct check *check, const char *name, int64_t producer_id, int32_t epoch)
{
    check_producer_since(check, name, producer_id, epoch, check_epoch(check, name));
}

void check_producer_since(struct check *check, const char *name, int64_t producer_id, int32_t epoch, int32_t floor)
{
    struct producer_fact *known, *other, *next;
    HASH_FIND(hh, check->producers, &producer_id, sizeof producer_id, known);
    world_judged(check->world, JUDGE_B6);
    if (known != NULL && (strcmp(known->name, name) != 0 || name[0] == '\0')) {
        world_fail(check->world, "B6", "producer id %lld is given to '%s', it is that of '%s'", (long long)producer_id,
                   name, known->name);
    } else if (epoch <= floor || epoch < 0) {
        world_fail(check->world, "B6", "producer '%s' gets epoch %d after %d", name, epoch, floor);
        return;
    }
    HASH_ITER(hh, check->producers, other, next)
    {
        if (known == NULL && name[0] != '\0' && strcmp(other->name, name) == 0) {
            world_fail(check->world, "B6", "producer '%s' had id %lld, now it gets %lld", name,
                       (long long)other->producer_id, (long long)producer_id);
        }
    }
    if (known == NULL) {
        known = calloc(1, sizeof *known);
        ASSERT(known != NULL);
        known->producer_id = producer_id;
        strncpy(known->name, name, sizeof known->name - 1);
        HASH_ADD(hh, check->producers, producer_id, sizeof known->producer_id, known);
    }
    known->given = sim_grow(known->given, &known->given_capacity, (uint64_t)epoch + 1, sizeof *known->given);
    if (known->given[epoch]) {
        world_fail(check->world, "B6", "producer '%s' gets epoch %d twice", name, epoch);
    }
    known->given[epoch] = true;
    known->epoch = epoch > known->epoch ? epoch : known->epoch;
}

void check_rot_has_address(struct check *check)
{
    check->rot_has_address = true;
}

void check_may_be_damaged(struct check *check, uint64_t group)
{
    struct ghost *ghost = ghost_of(check, group);
    if (ghost != NULL) {
        ghost->may_be_damaged = true;
    }
}

void check_corrupt(struct check *check, uint64_t group)
{
    const struct ghost *ghost = ghost_of(check, group);
    world_judged(check->world, JUDGE_W7);
    if (ghost != NULL && !ghost->is_deleted && check->rot_has_address && !ghost->may_be_damaged) {
        world_fail(check->world, "W7", "%s answers CORRUPT, but the rot was elsewhere", ghost->name);
    }
}

/* --- what was read --- */

void check_batch(struct check *check, uint64_t group, int64_t expected, int64_t base, int32_t count, bool is_first)
{
    const struct ghost *ghost = ghost_of(check, group);
    bool follows = is_first ? base <= expected && expected < base + count : base == expected;
    if (ghost != NULL && !follows) {
        world_fail(check->world, "B7", "%s: a batch [%lld, %lld) where %lld was to come", ghost->name, (long long)base,
                   (long long)base + count, (long long)expected);
    }
}

/* B4 and B6: the record at `offset` against the one before of its producer. */
static void order_step(struct check *check, struct ghost *ghost, int64_t offset)
{
    const struct check_seen *seen = &ghost->seen[offset];
    if (seen->producer_id < 0)
        return;
    struct order *order;
    world_judged(check->world, JUDGE_B4);
    world_judged(check->world, JUDGE_B6);
    HASH_FIND(hh, ghost->orders, &seen->producer_id, sizeof seen->producer_id, order);
    if (order == NULL) {
        if (seen->sequence != 0 && !ghost->has_hole) {
            world_fail(check->world, "B4", "%s: producer %lld begins with sequence %d at %lld", ghost->name,
                       (long long)seen->producer_id, seen->sequence, (long long)offset);
        }
        order = calloc(1, sizeof *order);
        ASSERT(order != NULL);
        order->producer_id = seen->producer_id;
        HASH_ADD(hh, ghost->orders, producer_id, sizeof order->producer_id, order);
    } else if (check->producers_expire && seen->sequence == 0) {
        order->epoch = seen->epoch; /* forgotten meanwhile: whatever it says first is believed. B11 knows if it was */
    } else if (seen->epoch < order->epoch) {
        world_fail(check->world, "B6", "%s: producer %lld writes with epoch %d at %lld, after epoch %d", ghost->name,
                   (long long)seen->producer_id, seen->epoch, (long long)offset, order->epoch);
    } else if (seen->sequence != (seen->epoch == order->epoch ? order->next_sequence : 0)) {
        world_fail(check->world, "B4", "%s: producer %lld epoch %d has sequence %d at %lld where %d was to come",
                   ghost->name, (long long)seen->producer_id, seen->epoch, seen->sequence, (long long)offset,
                   seen->epoch == order->epoch ? order->next_sequence : 0);
    }
    order->epoch = seen->epoch;
    order->next_sequence = (int32_t)(((uint32_t)seen->sequence + 1) & INT32_MAX);
}

static void scan(struct check *check, struct ghost *ghost)
{
    scan_skip(ghost, ghost->log_start);
    while (ghost->scanned_to < ghost->seen_capacity && ghost->seen[ghost->scanned_to].id != 0) {
        order_step(check, ghost, ghost->scanned_to);
        ghost->scanned_to++;
    }
}

static bool is_same(const struct check_seen *a, const struct check_seen *b)
{
    return a->id == b->id && a->value_crc == b->value_crc && a->producer_id == b->producer_id && a->epoch == b->epoch &&
           a->sequence == b->sequence;
}

void check_read(struct check *check, uint64_t group, int64_t offset, const struct check_seen *seen)
{
    struct ghost *ghost = ghost_of(check, group);
    struct message *m = message_of(check, seen->id);
    ASSERT(ghost != NULL && offset >= 0);
    world_judged(check->world, JUDGE_W2);
    if (m == NULL) {
        world_fail(check->world, "W2", "%s holds at %lld what nobody sent", ghost->name, (long long)offset);
        return;
    }
    if (m->record.group != group) {
        world_fail(check->world, "W2", "message %u of group %llu is in %s at %lld", seen->id,
                   (unsigned long long)m->record.group, ghost->name, (long long)offset);
        return;
    }
    world_judged(check->world, JUDGE_B2);
    world_judged(check->world, JUDGE_B3);
    world_judged(check->world, JUDGE_B7);
    if (m->value_crc != seen->value_crc || m->record.producer_id != seen->producer_id ||
        m->record.epoch != seen->epoch || m->record.sequence != seen->sequence) {
        world_fail(check->world, "B7", "message %u of %s at %lld is not as it was sent", seen->id, ghost->name,
                   (long long)offset);
    }
    if (m->fate == FATE_REFUSED) {
        world_fail(check->world, "B2", "message %u of %s was refused, yet it is read at %lld", seen->id, ghost->name,
                   (long long)offset);
    }
    if (m->offset >= 0 && m->offset != offset) {
        world_fail(check->world, "B3", "message %u of %s is at %lld and at %lld", seen->id, ghost->name,
                   (long long)m->offset, (long long)offset);
    }
    m->offset = offset;
    struct check_seen *at = seen_at(ghost, offset);
    if (at->id != 0 && !is_same(at, seen)) {
        world_fail(check->world, "B7", "%s at %lld: message %u was read there, now it is %u", ghost->name,
                   (long long)offset, at->id, seen->id);
    }
    *at = *seen;
    scan(check, ghost);
}

static void acked_below(struct check *check, const struct ghost *ghost, int64_t high_watermark, const char *id_of_check)
{
    if (ghost->acked_end > high_watermark) {
        world_fail(check->world, id_of_check, "message %u of %s was acknowledged at %lld, the log ends at %lld",
                   ghost->acked_last, ghost->name, (long long)ghost->acked_end - 1, (long long)high_watermark);
    }
}

void check_recovered(struct check *check, uint64_t group, int64_t high_watermark)
{
    const struct ghost *ghost = ghost_of(check, group);
    if (ghost != NULL && !ghost->is_deleted) {
        acked_below(check, ghost, high_watermark, "W2");
    }
}

void check_complete(struct check *check, uint64_t group, int64_t log_start, int64_t high_watermark)
{
    struct ghost *ghost = ghost_of(check, group);
    if (ghost == NULL || ghost->is_deleted)
        return;
    acked_below(check, ghost, high_watermark, "B1");
    for (uint32_t id = 1; id <= check->messages_count && !check->world->failed; id++) {
        const struct message *m = &check->messages[id];
        if (m->record.group != group || m->fate != FATE_ACKED)
            continue;
        world_judged(check->world, JUDGE_B1);
        if (m->offset < 0 && log_start > 0)
            continue; /* acks=leader names no offset: it may lie below log start */
        if (m->offset < 0 || (m->offset >= log_start && seen_at(ghost, m->offset)->id != id)) {
            world_fail(check->world, "B1", "message %u of %s was acknowledged (offset %lld) and is not there", id,
                       ghost->name, (long long)m->offset);
        }
    }
    if (ghost->scanned_to < high_watermark && log_start < high_watermark && !check->world->failed) {
        world_fail(check->world, "B7", "%s was not readable at %lld, below its high watermark %lld", ghost->name,
                   (long long)ghost->scanned_to, (long long)high_watermark);
    }
}

/* --- what stands on the disk --- */

void check_entry(struct check *check, uint64_t group, uint64_t index, uint64_t term, uint32_t first, uint32_t count)
{
    struct ghost *ghost = ghost_of(check, group);
    if (ghost == NULL)
        return; /* the broker's own groups */
    const struct message *m = message_of(check, first);
    if (count > 0 && m == NULL) {
        world_fail(check->world, "W2", "the WAL holds for %s what nobody sent", ghost->name);
        return;
    }
    if (count > 0 && m->record.group != group) {
        world_fail(check->world, "W2", "the WAL holds message %u of group %llu under %s", first,
                   (unsigned long long)m->record.group, ghost->name);
        return;
    }
    ghost->entries = sim_grow(ghost->entries, &ghost->entries_capacity, index + 1, sizeof *ghost->entries);
    struct entry_fact *fact = &ghost->entries[index];
    /* A torn tail may be cut and its index used again, in a later term; the latest is what counts. */
    if (fact->is_known && fact->term == term && fact->first != first) {
        world_fail(check->world, "W2", "%s has two entries %llu of term %llu", ghost->name, (unsigned long long)index,
                   (unsigned long long)term);
    }
    for (uint32_t id = first; id < first + count; id++) {
        struct message *held = message_of(check, id);
        if (held != NULL && (held->index == 0 || held->index > index)) {
            held->index = index;
        }
    }
    if (!fact->is_known || fact->term <= term) {
        *fact = (struct entry_fact){term, first, count, true};
    }
}

/* Entries up to the applied index are in the picture, later ones are not. */
static void image_index(struct check *check, const struct ghost *ghost, const struct check_image *image)
{
    for (uint64_t index = 1; index < ghost->entries_capacity; index++) {
        const struct entry_fact *fact = &ghost->entries[index];
        const struct message *m = fact->is_known && fact->count > 0 ? message_of(check, fact->first) : NULL;
        if (m == NULL || m->offset < 0 || m->index != index)
            continue; /* a repeat that apply refused takes no offset */
        if ((index <= image->applied_index) != (m->offset < image->next_offset)) {
            world_fail(check->world, "S7",
                       "%s: the checkpoint's applied index is %llu and its end %lld; entry %llu is at %lld",
                       ghost->name, (unsigned long long)image->applied_index, (long long)image->next_offset,
                       (unsigned long long)index, (long long)m->offset);
        }
    }
}

static void image_segments(struct check *check, const struct ghost *ghost, const struct check_image *image)
{
    int64_t end = -1;
    for (uint32_t i = 0; i < image->segments_count; i++) {
        const struct check_image_segment *segment = &image->segments[i];
        if (segment->fault != NULL) {
            world_fail(check->world, "S7",
                       "%s: the manifest names segment %lld..%lld, but a power cut now would leave %s", ghost->name,
                       (long long)segment->base_offset, (long long)segment->end_offset, segment->fault);
        }
        if (end >= 0 && segment->base_offset != end) {
            world_fail(check->world, "S7", "%s: a hole in the manifest at %lld", ghost->name, (long long)end);
        }
        end = segment->end_offset;
    }
    if (end >= 0 && end != image->next_offset) {
        world_fail(check->world, "S7", "%s: the manifest ends at %lld, the checkpoint at %lld", ghost->name,
                   (long long)end, (long long)image->next_offset);
    }
    if (end < 0 && image->log_start != image->next_offset) {
        world_fail(check->world, "S7", "%s: no segments for %lld..%lld", ghost->name, (long long)image->log_start,
                   (long long)image->next_offset);
    }
    if (image->segments_count > 0 &&
        (image->log_start < image->segments[0].base_offset || image->log_start > image->next_offset)) {
        world_fail(check->world, "S7", "%s: log start %lld lies outside the manifest", ghost->name,
                   (long long)image->log_start);
    }
}

static const struct check_image_done *image_find(const struct check_image *image, int64_t producer_id)
{
    for (uint32_t i = 0; i < image->done_count; i++) {
        if (image->done[i].producer_id == producer_id)
            return &image->done[i];
    }
    return NULL;
}

/* The done table says of each producer exactly what the log below next_offset says. */
static void image_done(struct check *check, const struct ghost *ghost, const struct check_image *image)
{
    for (uint32_t i = 0; i < image->done_count; i++) {
        if (image->done[i].last_offset >= image->next_offset) {
            world_fail(check->world, "S7", "%s: the done table knows offset %lld, the checkpoint ends at %lld",
                       ghost->name, (long long)image->done[i].last_offset, (long long)image->next_offset);
        }
    }
    if (check->producers_expire)
        return; /* who may be forgotten, and begin again, B11 knows */
    for (uint32_t id = 1; id <= check->messages_count && !check->world->failed; id++) {
        const struct message *m = &check->messages[id];
        if (m->record.group != ghost->group || m->record.producer_id < 0 || m->offset < 0 ||
            m->offset >= image->next_offset)
            continue;
        const struct check_image_done *row = image_find(image, m->record.producer_id);
        if (row == NULL || row->epoch < m->record.epoch ||
            (row->epoch == m->record.epoch && row->last_sequence < m->record.sequence)) {
            world_fail(check->world, "S7", "%s: offset %lld is in the checkpoint, its producer's sequence %d is not",
                       ghost->name, (long long)m->offset, m->record.sequence);
        }
    }
}

void check_image(struct check *check, const struct check_image *image)
{
    const struct ghost *ghost = ghost_of(check, image->group);
    if (ghost == NULL || ghost->is_deleted)
        return;
    world_judged(check->world, JUDGE_S7);
    image_index(check, ghost, image);
    image_segments(check, ghost, image);
    image_done(check, ghost, image);
}

void check_resting(struct check *check, const struct check_image *image)
{
    struct ghost *ghost = ghost_of(check, image->group);
    uint32_t done = 0;
    for (uint32_t i = 0; i < image->done_count; i++) {
        const struct check_image_done *row = &image->done[i];
        const int64_t words[] = {row->producer_id, row->epoch, row->last_sequence, row->last_offset};
        done = crc32c(done, words, sizeof words);
    }
    if (ghost == NULL || ghost->is_deleted || image->next_offset < ledger_end(check->ledger, image->group))
        return; /* a stop that ended at its deadline leaves the rest to the WAL */
    bool same = ghost->rest_end == image->next_offset && ghost->rest_start <= image->log_start &&
                (ghost->expires || ghost->rest_start == image->log_start) &&
                (check->producers_expire || ghost->rest_done == done);
    if (ghost->rests) {
        world_judged(check->world, JUDGE_S11);
    }
    if (ghost->rests && !same) {
        world_fail(check->world, "S11",
                   "%s: two restarts ago the log was %lld..%lld, done table %08x; now it is %lld..%lld, %08x",
                   ghost->name, (long long)ghost->rest_start, (long long)ghost->rest_end, ghost->rest_done,
                   (long long)image->log_start, (long long)image->next_offset, done);
    }
    ghost->rests = true;
    ghost->rest_start = image->log_start;
    ghost->rest_end = image->next_offset;
    ghost->rest_done = done;
}

/* --- questions --- */

bool check_is_acked(const struct check *check, uint32_t id)
{
    return check->messages[id].fate == FATE_ACKED;
}

int64_t check_offset_of(const struct check *check, uint32_t id)
{
    return check->messages[id].offset;
}

uint32_t check_messages(const struct check *check)
{
    return check->messages_count;
}

uint32_t check_acked_count(const struct check *check)
{
    return check->acked_count;
}

int64_t check_scanned_to(const struct check *check, uint64_t group)
{
    const struct ghost *ghost = ghost_of(check, group);
    return ghost == NULL ? 0 : ghost->scanned_to;
}
