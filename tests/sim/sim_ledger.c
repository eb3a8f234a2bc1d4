/* Two machines per group replay the same entries: `head` everything that is durable, `picture` up to the last
 * checkpoint that was judged. */
#include "sim_ledger.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/map.h"

#define IDLE_SLACK_MS 20000 /* the first entry may have been long on its way to the disk */

struct item {
    struct ledger_entry entry;
    bool is_known;
    bool is_refused;  /* DATA that took no offset */
    int64_t offset;   /* DATA: as applied */
    uint64_t reading; /* the last one that found it in the WAL */
};

struct row {
    struct ledger_row row;
    UT_hash_handle hh;
};

struct machine {
    uint64_t applied_index;
    int64_t next_offset, log_start;
    int64_t clock_ms, idle_ms;
    struct row *rows; /* by producer id */
};

struct group {
    uint64_t group;
    char name[64];
    bool is_watched;
    struct ledger_policy policy;
    struct item *items; /* by index */
    uint64_t items_capacity;
    struct machine head, picture;
    uint64_t term;      /* of the newest durable entry */
    uint64_t born_us;   /* when its first clock entry was durable */
    int64_t elapsed_ms; /* of all its clock entries */
    /* the last full reading */
    uint64_t birth_reading, picture_reading;
    uint64_t picture_index, term_found;
    UT_hash_handle hh;
};

/* Where a message is: the first entry that holds it. */
struct place {
    uint64_t group, index;
    int64_t offset; /* -1: not applied */
};

struct ledger {
    struct sim_world *world;
    struct group *groups;
    struct place *places; /* by message id */
    uint64_t places_capacity;
    uint64_t reading;
};

/* --- tables --- */

static struct group *group_find(const struct ledger *ledger, uint64_t number)
{
    struct group *group;
    HASH_FIND(hh, ledger->groups, &number, sizeof number, group);
    return group;
}

static struct group *group_of(struct ledger *ledger, uint64_t number)
{
    struct group *group = group_find(ledger, number);
    if (group == NULL) {
        group = calloc(1, sizeof *group);
        ASSERT(group != NULL);
        group->group = number;
        group->policy = (struct ledger_policy){-1, -1};
        HASH_ADD(hh, ledger->groups, group, sizeof group->group, group);
    }
    return group;
}

static struct group *watched(const struct ledger *ledger, uint64_t number)
{
    struct group *group = group_find(ledger, number);
    return group != NULL && group->is_watched ? group : NULL;
}

static struct row *row_find(const struct machine *machine, int64_t producer_id)
{
    struct row *row;
    HASH_FIND(hh, machine->rows, &producer_id, sizeof producer_id, row);
    return row;
}

static void machine_free(struct machine *machine)
{
    struct row *row, *next;
    HASH_ITER(hh, machine->rows, row, next)
    {
        HASH_DEL(machine->rows, row);
        free(row);
    }
}

struct ledger *ledger_new(struct sim_world *world)
{
    struct ledger *ledger = calloc(1, sizeof *ledger);
    ASSERT(ledger != NULL);
    ledger->world = world;
    return ledger;
}

void ledger_free(struct ledger *ledger)
{
    struct group *group, *next;
    HASH_ITER(hh, ledger->groups, group, next)
    {
        HASH_DEL(ledger->groups, group);
        machine_free(&group->head);
        machine_free(&group->picture);
        free(group->items);
        free(group);
    }
    free(ledger->places);
    free(ledger);
}

void ledger_watch(struct ledger *ledger, uint64_t number, const char *name)
{
    struct group *group = group_of(ledger, number);
    group->is_watched = true;
    strncpy(group->name, name, sizeof group->name - 1);
}

void ledger_unwatch(struct ledger *ledger, uint64_t number)
{
    group_of(ledger, number)->is_watched = false;
}

bool ledger_is_watched(const struct ledger *ledger, uint64_t number)
{
    const struct group *group = group_find(ledger, number);
    return group != NULL && group->is_watched;
}

/* --- the machine --- */

static int32_t sequence_after(int32_t sequence, int32_t count)
{
    return (int32_t)(((uint32_t)sequence + (uint32_t)count) & INT32_MAX);
}

static bool accepts(const struct row *row, const struct ledger_entry *e)
{
    if (e->epoch < 0 || e->sequence < 0 || e->records_count <= 0)
        return false;
    if (row == NULL || e->epoch > row->row.epoch)
        return e->sequence == 0;
    if (e->epoch < row->row.epoch)
        return false;
    return e->sequence == sequence_after(row->row.batches[row->row.count - 1].last_sequence, 1);
}

static void remember(struct machine *machine, struct row *row, const struct ledger_entry *e)
{
    if (row == NULL) {
        row = calloc(1, sizeof *row);
        ASSERT(row != NULL);
        row->row = (struct ledger_row){.producer_id = e->producer_id, .epoch = e->epoch};
        HASH_ADD(hh, machine->rows, row.producer_id, sizeof row->row.producer_id, row);
    }
    struct ledger_row *r = &row->row;
    if (r->epoch != e->epoch) {
        r->epoch = e->epoch;
        r->count = 0;
    }
    if (r->count == LEDGER_BATCHES) {
        memmove(&r->batches[0], &r->batches[1], (LEDGER_BATCHES - 1) * sizeof r->batches[0]);
        r->count--;
    }
    r->batches[r->count++] =
        (struct ledger_batch){e->sequence, sequence_after(e->sequence, e->records_count - 1), machine->next_offset};
    r->last_idle_ms = machine->idle_ms;
}

/* Returns how many are forgotten. */
static uint32_t expire(struct machine *machine, int64_t expire_ms)
{
    struct row *row, *next;
    uint32_t count = 0;
    HASH_ITER(hh, machine->rows, row, next)
    {
        if (row->row.last_idle_ms <= machine->idle_ms - expire_ms) {
            HASH_DEL(machine->rows, row);
            free(row);
            count++;
        }
    }
    return count;
}

static void apply_data(struct machine *machine, struct item *item)
{
    const struct ledger_entry *e = &item->entry;
    item->is_refused = false;
    if (e->producer_id >= 0) {
        struct row *row = row_find(machine, e->producer_id);
        item->is_refused = !accepts(row, e);
        if (!item->is_refused) {
            remember(machine, row, e);
        }
    }
    item->offset = item->is_refused ? -1 : machine->next_offset;
    machine->next_offset += item->is_refused ? 0 : e->records_count;
}

/* Applies the next entry if it is known. */
static struct item *machine_step(struct sim_world *world, struct machine *machine, const struct group *group)
{
    uint64_t index = machine->applied_index + 1;
    if (index >= group->items_capacity || !group->items[index].is_known)
        return NULL;
    struct item *item = &group->items[index];
    const struct ledger_entry *e = &item->entry;
    machine->applied_index = index;
    if (e->kind == LEDGER_DATA) {
        apply_data(machine, item);
    } else if (e->kind == LEDGER_START && e->log_start > machine->log_start) {
        machine->log_start = e->log_start;
    } else if (e->kind == LEDGER_CLOCK) {
        machine->clock_ms = e->clock_ms > machine->clock_ms ? e->clock_ms : machine->clock_ms;
        machine->idle_ms += e->elapsed_ms;
        if (e->expire_ms > 0) {
            world->tally.faults[FAULT_EXPIRY] += expire(machine, e->expire_ms);
        }
    }
    return item;
}

/* --- B13 --- */

/* Of batches at or behind an offset, as far as `index`. */
static int64_t bytes_from(const struct group *group, uint64_t index, int64_t offset)
{
    int64_t bytes = 0;
    for (uint64_t i = 1; i <= index; i++) {
        const struct item *item = &group->items[i];
        if (item->entry.kind == LEDGER_DATA && !item->is_refused && item->offset >= offset) {
            bytes += item->entry.size_bytes;
        }
    }
    return bytes;
}

/* Everything that goes was written more than retention_ms before, as the log clock tells. */
static bool is_old(const struct group *group, uint64_t index, int64_t from, int64_t to)
{
    int64_t clock_ms = 0, oldest_kept_ms = group->head.clock_ms - group->policy.retention_ms;
    for (uint64_t i = 1; i <= index; i++) {
        const struct item *item = &group->items[i];
        const struct ledger_entry *e = &item->entry;
        if (e->kind == LEDGER_CLOCK && e->clock_ms > clock_ms) {
            clock_ms = e->clock_ms;
        }
        if (e->kind != LEDGER_DATA || item->is_refused || item->offset < from || item->offset >= to)
            continue;
        bool by_clock = e->max_timestamp < 0 || e->max_timestamp > clock_ms;
        if ((by_clock ? clock_ms : e->max_timestamp) >= oldest_kept_ms)
            return false;
    }
    return true;
}

static void judge_start(struct ledger *ledger, const struct group *group, uint64_t index, int64_t from)
{
    const struct ledger_policy *policy = &group->policy;
    int64_t to = group->items[index].entry.log_start;
    if (!group->is_watched || to <= from)
        return;
    world_judged(ledger->world, JUDGE_B13);
    ledger->world->tally.faults[FAULT_RETENTION]++;
    /* What is left behind a segment that goes by size is what is to be kept, or more. */
    bool by_size = policy->retention_bytes >= 0 && bytes_from(group, index, to) >= policy->retention_bytes;
    bool by_time = policy->retention_ms >= 0 && is_old(group, index, from, to);
    if (to > group->head.next_offset) {
        world_fail(ledger->world, "B13", "%s: log start moves to %lld, but only %lld are applied", group->name,
                   (long long)to, (long long)group->head.next_offset);
    } else if (!by_size && !by_time) {
        world_fail(ledger->world, "B13",
                   "%s: log start moves from %lld to %lld, which leaves %lld bytes of %lld, and what goes is younger "
                   "than %lld ms at %lld",
                   group->name, (long long)from, (long long)to, (long long)bytes_from(group, index, to),
                   (long long)policy->retention_bytes, (long long)policy->retention_ms,
                   (long long)group->head.clock_ms);
    }
}

/* Time deletes: a wall clock that ran away is not followed; and the idle clock, by which producers are forgotten, is
 * slow at worst. */
static void judge_clock(struct ledger *ledger, struct group *group, const struct ledger_entry *entry)
{
    const struct sim_world *world = ledger->world;
    group->born_us = group->born_us == 0 ? world->now_us : group->born_us;
    group->elapsed_ms += entry->elapsed_ms;
    world_judged(ledger->world, JUDGE_B13);
    world_judged(ledger->world, JUDGE_B3);
    int64_t lived_ms = (int64_t)((world->now_us - group->born_us) / 1000) + IDLE_SLACK_MS;
    if (world->log_clock_max_ms != 0 && entry->clock_ms > world->log_clock_max_ms) {
        world_fail(ledger->world, "B13", "group %llu: entry %llu says that it is %lld ms later than can be believed",
                   (unsigned long long)group->group, (unsigned long long)entry->index,
                   (long long)(entry->clock_ms - world->log_clock_max_ms));
    } else if (group->elapsed_ms > lived_ms) {
        world_fail(ledger->world, "B3",
                   "group %llu: %lld ms of idleness are counted, it lives %lld ms: producers are "
                   "forgotten too early",
                   (unsigned long long)group->group, (long long)group->elapsed_ms, (long long)lived_ms);
    }
}

/* --- what became durable --- */

void ledger_born(struct ledger *ledger, uint64_t number, const struct ledger_policy *policy)
{
    group_of(ledger, number)->policy = *policy;
}

static struct place *place_of(struct ledger *ledger, uint32_t id)
{
    ledger->places = sim_grow(ledger->places, &ledger->places_capacity, (uint64_t)id + 1, sizeof *ledger->places);
    return &ledger->places[id];
}

static void note_places(struct ledger *ledger, const struct ledger_entry *entry)
{
    for (int32_t i = 0; entry->first != 0 && i < entry->records_count; i++) {
        struct place *place = place_of(ledger, entry->first + (uint32_t)i);
        if (place->index == 0) {
            *place = (struct place){entry->group, entry->index, -1};
        }
    }
}

static void head_go_on(struct ledger *ledger, struct group *group)
{
    struct item *item;
    int64_t from = group->head.log_start;
    while ((item = machine_step(ledger->world, &group->head, group)) != NULL) {
        const struct ledger_entry *e = &item->entry;
        if (e->kind == LEDGER_START) {
            judge_start(ledger, group, e->index, from);
            from = group->head.log_start;
        }
        for (int32_t i = 0; e->kind == LEDGER_DATA && !item->is_refused && e->first != 0 && i < e->records_count; i++) {
            struct place *place = place_of(ledger, e->first + (uint32_t)i);
            place->offset = place->offset >= 0 ? place->offset : item->offset + i;
        }
    }
}

void ledger_durable(struct ledger *ledger, const struct ledger_entry *entry)
{
    struct group *group = group_of(ledger, entry->group);
    group->items = sim_grow(group->items, &group->items_capacity, entry->index + 1, sizeof *group->items);
    struct item *item = &group->items[entry->index];
    group->term = entry->term > group->term ? entry->term : group->term;
    if (item->is_known) {
        world_judged(ledger->world, JUDGE_W2);
        /* Written again at the head of the WAL, or read again. */
        if (item->entry.term != entry->term || item->entry.first != entry->first || item->entry.kind != entry->kind) {
            world_fail(ledger->world, "W2",
                       "group %llu: entry %llu of term %llu was durable, now term %llu has another",
                       (unsigned long long)entry->group, (unsigned long long)entry->index,
                       (unsigned long long)item->entry.term, (unsigned long long)entry->term);
        }
        return;
    }
    *item = (struct item){.entry = *entry, .is_known = true, .offset = -1};
    world_log(ledger->world,
              "    ledger: group %llu entry %llu term %llu kind %d, message %u producer %lld epoch %d sequence %d",
              (unsigned long long)entry->group, (unsigned long long)entry->index, (unsigned long long)entry->term,
              (int)entry->kind, entry->first, (long long)entry->producer_id, entry->epoch, entry->sequence);
    note_places(ledger, entry);
    if (entry->kind == LEDGER_CLOCK) {
        judge_clock(ledger, group, entry);
    }
    head_go_on(ledger, group);
}

/* --- a full reading --- */

void ledger_read_begin(struct ledger *ledger)
{
    ledger->reading++;
    for (struct group *group = ledger->groups; group != NULL; group = group->hh.next) {
        group->term_found = 0;
        group->picture_index = 0;
    }
}

void ledger_found_birth(struct ledger *ledger, uint64_t number)
{
    group_of(ledger, number)->birth_reading = ledger->reading;
}

void ledger_found_entry(struct ledger *ledger, uint64_t number, uint64_t index)
{
    struct group *group = group_of(ledger, number);
    if (index < group->items_capacity) {
        group->items[index].reading = ledger->reading;
    }
}

void ledger_found_term(struct ledger *ledger, uint64_t number, uint64_t term)
{
    struct group *group = group_of(ledger, number);
    group->term_found = term > group->term_found ? term : group->term_found;
}

void ledger_found_picture(struct ledger *ledger, uint64_t number, uint64_t applied_index)
{
    struct group *group = group_of(ledger, number);
    group->picture_reading = ledger->reading;
    group->picture_index = applied_index;
}

void ledger_read_end(struct ledger *ledger)
{
    for (struct group *group = ledger->groups; group != NULL; group = group->hh.next) {
        if (!group->is_watched)
            continue;
        world_judged(ledger->world, JUDGE_W4);
        if (group->birth_reading != ledger->reading && group->picture_reading != ledger->reading) {
            world_fail(ledger->world, "W4", "%s: a power cut now would leave nothing that says it was ever born",
                       group->name);
        }
        if (group->term_found < group->term) {
            world_fail(ledger->world, "W4", "%s: a power cut now would leave term %llu, there are entries of term %llu",
                       group->name, (unsigned long long)group->term_found, (unsigned long long)group->term);
        }
        for (uint64_t i = group->picture_index + 1; i < group->items_capacity; i++) {
            if (group->items[i].is_known && group->items[i].reading != ledger->reading) {
                world_fail(ledger->world, "W4",
                           "%s: entry %llu was durable, a power cut now would lose it: it is neither in the WAL nor in "
                           "the checkpoint, which ends at %llu",
                           group->name, (unsigned long long)i, (unsigned long long)group->picture_index);
            }
        }
    }
}

/* --- what the broker says --- */

static bool is_row(const struct ledger_row *a, const struct ledger_row *b)
{
    if (a->producer_id != b->producer_id || a->epoch != b->epoch || a->count != b->count ||
        a->last_idle_ms != b->last_idle_ms)
        return false;
    for (uint8_t i = 0; i < a->count; i++) {
        if (a->batches[i].first_sequence != b->batches[i].first_sequence ||
            a->batches[i].last_sequence != b->batches[i].last_sequence || a->batches[i].offset != b->batches[i].offset)
            return false;
    }
    return true;
}

static void judge_rows(struct ledger *ledger, const struct group *group, const struct ledger_picture *picture)
{
    for (uint32_t i = 0; i < picture->rows_count; i++) {
        const struct ledger_row *said = &picture->rows[i];
        const struct row *row = row_find(&group->picture, said->producer_id);
        if (row == NULL || !is_row(&row->row, said)) {
            const struct ledger_row *made = row == NULL ? NULL : &row->row;
            world_fail(
                ledger->world, "B11",
                "%s at entry %llu: the done table says of producer %lld epoch %d, %u batches, last %d, idle %lld; "
                "the log makes epoch %d, %u batches, last %d, idle %lld",
                group->name, (unsigned long long)picture->applied_index, (long long)said->producer_id, said->epoch,
                said->count, said->count > 0 ? said->batches[said->count - 1].last_sequence : -1,
                (long long)said->last_idle_ms, made != NULL ? made->epoch : -1, made != NULL ? made->count : 0,
                made != NULL && made->count > 0 ? made->batches[made->count - 1].last_sequence : -1,
                made != NULL ? (long long)made->last_idle_ms : -1);
            return;
        }
    }
    if (HASH_COUNT(group->picture.rows) != picture->rows_count) {
        world_fail(ledger->world, "B11", "%s at entry %llu: the done table has %u producers, the log makes %u",
                   group->name, (unsigned long long)picture->applied_index, picture->rows_count,
                   HASH_COUNT(group->picture.rows));
    }
}

void ledger_judge_picture(struct ledger *ledger, const struct ledger_picture *picture)
{
    struct group *group = watched(ledger, picture->group);
    if (group == NULL || picture->applied_index < group->picture.applied_index)
        return;
    world_judged(ledger->world, JUDGE_R9);
    world_judged(ledger->world, JUDGE_B11);
    if (picture->applied_index > group->head.applied_index) {
        world_fail(ledger->world, "R9", "%s: a checkpoint has applied entry %llu, the durable log ends at %llu",
                   group->name, (unsigned long long)picture->applied_index,
                   (unsigned long long)group->head.applied_index);
        return;
    }
    while (group->picture.applied_index < picture->applied_index) {
        machine_step(ledger->world, &group->picture, group);
    }
    const struct machine *made = &group->picture;
    /* The start may be ahead of the picture's entry: segments that retention dropped go without a newer picture while
     * their log cannot be saved. */
    bool start_fits = made->log_start <= picture->log_start &&
                      (made->log_start == picture->log_start || picture->log_start <= group->head.log_start);
    if (made->next_offset != picture->next_offset || !start_fits) {
        world_fail(ledger->world, "B11",
                   "%s at entry %llu: the checkpoint says offsets %lld..%lld, the log makes %lld..%lld", group->name,
                   (unsigned long long)picture->applied_index, (long long)picture->log_start,
                   (long long)picture->next_offset, (long long)made->log_start, (long long)made->next_offset);
    }
    if (made->clock_ms != picture->log_clock_ms || made->idle_ms != picture->idle_clock_ms) {
        world_fail(ledger->world, "B11",
                   "%s at entry %llu: the checkpoint's clocks are %lld and %lld, the log's %lld and %lld", group->name,
                   (unsigned long long)picture->applied_index, (long long)picture->log_clock_ms,
                   (long long)picture->idle_clock_ms, (long long)made->clock_ms, (long long)made->idle_ms);
    }
    judge_rows(ledger, group, picture);
}

static const struct place *place_find(const struct ledger *ledger, uint64_t number, uint32_t id)
{
    const struct place *place = id < ledger->places_capacity ? &ledger->places[id] : NULL;
    return place != NULL && place->index != 0 && place->group == number ? place : NULL;
}

void ledger_acked(struct ledger *ledger, uint64_t number, uint32_t first, int64_t offset)
{
    const struct group *group = watched(ledger, number);
    const struct place *place = place_find(ledger, number, first);
    if (group == NULL || place == NULL)
        return; /* not in the WAL at all is W1's */
    world_judged(ledger->world, JUDGE_R9);
    world_judged(ledger->world, JUDGE_B5);
    if (place->index > group->head.applied_index) {
        world_fail(ledger->world, "R9", "message %u of %s is acknowledged in entry %llu, but entry %llu is not durable",
                   first, group->name, (unsigned long long)place->index,
                   (unsigned long long)group->head.applied_index + 1);
    } else if (offset >= 0 && place->offset != offset) {
        world_fail(ledger->world, "B5", "message %u of %s is acknowledged at %lld, the log has it at %lld", first,
                   group->name, (long long)offset, (long long)place->offset);
    }
}

void ledger_served(struct ledger *ledger, uint64_t number, int64_t high_watermark, int64_t log_start)
{
    const struct group *group = watched(ledger, number);
    if (group == NULL)
        return;
    world_judged(ledger->world, JUDGE_B8);
    if (high_watermark > group->head.next_offset) {
        world_fail(ledger->world, "B8", "%s is served up to %lld, its durable log ends at %lld", group->name,
                   (long long)high_watermark, (long long)group->head.next_offset);
    }
    if (log_start > group->head.log_start) {
        world_fail(ledger->world, "B13", "log start of %s is said to be %lld, the durable log moved it to %lld",
                   group->name, (long long)log_start, (long long)group->head.log_start);
    }
}

/* --- questions --- */

bool ledger_has(const struct ledger *ledger, uint64_t number, uint32_t first)
{
    const struct group *group = group_find(ledger, number);
    const struct place *place = place_find(ledger, number, first);
    return group != NULL && place != NULL && place->index <= group->head.applied_index;
}

int64_t ledger_end(const struct ledger *ledger, uint64_t number)
{
    const struct group *group = group_find(ledger, number);
    return group == NULL ? 0 : group->head.next_offset;
}

int64_t ledger_start(const struct ledger *ledger, uint64_t number)
{
    const struct group *group = group_find(ledger, number);
    return group == NULL ? 0 : group->head.log_start;
}

int64_t ledger_bytes(const struct ledger *ledger, uint64_t number)
{
    const struct group *group = group_find(ledger, number);
    return group == NULL ? 0 : bytes_from(group, group->head.applied_index, group->head.log_start);
}

bool ledger_find_row(const struct ledger *ledger, uint64_t number, int64_t producer_id, struct ledger_row *ret_row)
{
    const struct group *group = group_find(ledger, number);
    const struct row *row = group == NULL ? NULL : row_find(&group->head, producer_id);
    if (row == NULL)
        return false;
    *ret_row = row->row;
    return true;
}
