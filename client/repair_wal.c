/* What the WAL holds of the partition, read by the rules of a start: entries join the checkpoint by index and term, a
 * TRUNCATE cuts, an (index, term) seen again is the same entry. One pass finds where the damage is, a second one counts
 * what stands in front of it and behind. */
#include <stdlib.h>

#include "base/batch.h"
#include "base/mem.h"
#include "client/repair_plan.h"
#include "wal/wal.h"

#define WAL_DIR    "wal"
#define ENTRY_DATA 3 /* the broker's number for a batch of records */

/* An entry above the checkpoint. */
struct joined {
    uint64_t term;
    uint64_t records;
};

struct walk {
    struct repair *repair;
    uint64_t limit_lsn; /* from here on nothing joins */
    bool found;         /* damage, at found_lsn */
    uint64_t found_lsn;
    struct joined *window; /* owned; entries applied + 1 ... */
    uint64_t count, capacity;
    uint64_t unjoined_index, unjoined_lsn;
    uint64_t behind_entries, behind_records; /* readable, from limit_lsn on */
    uint64_t loose_entries, loose_records;   /* that joined nothing, maybe until they came again */
};

static void walk_damage(struct walk *walk, uint64_t lsn)
{
    if (walk->found || lsn < walk->repair->group.repaired_lsn)
        return;
    walk->found = true;
    walk->found_lsn = lsn;
}

static uint64_t records_of(const struct wal_record *record)
{
    struct batch_header header;
    if (record->entry_type != ENTRY_DATA || batch_parse(record->payload.data, record->payload.size, &header) != OK ||
        header.records_count < 0)
        return 0;
    return (uint64_t)header.records_count;
}

static void walk_entry(struct walk *walk, const struct wal_record *record, uint64_t lsn)
{
    uint64_t applied = walk->repair->group.applied_index;
    uint64_t last = applied + walk->count;
    uint64_t last_term = walk->count > 0 ? walk->window[walk->count - 1].term : walk->repair->group.applied_term;
    if (record->index <= applied)
        return;
    if (record->index <= last && walk->window[record->index - applied - 1].term == record->term)
        return; /* written again */
    if (lsn >= walk->limit_lsn) {
        walk->behind_entries++;
        walk->behind_records += records_of(record);
        return;
    }
    if (record->index <= last) {
        walk_damage(walk, lsn);
        return;
    }
    if (record->index > last + 1) {
        walk->unjoined_index = record->index > walk->unjoined_index ? record->index : walk->unjoined_index;
        walk->unjoined_lsn = lsn;
        walk->loose_entries++;
        walk->loose_records += records_of(record);
        return;
    }
    if (record->term < last_term) {
        walk_damage(walk, lsn);
        return;
    }
    if (walk->count == walk->capacity) {
        walk->capacity = walk->capacity > 0 ? 2 * walk->capacity : 64;
        walk->window = mem_grow(walk->window, walk->capacity * sizeof walk->window[0]);
    }
    walk->window[walk->count++] = (struct joined){.term = record->term, .records = records_of(record)};
}

static void walk_truncate(struct walk *walk, uint64_t index, uint64_t lsn)
{
    uint64_t applied = walk->repair->group.applied_index;
    if (lsn >= walk->limit_lsn)
        return;
    if (index <= applied && walk->count == 0)
        return;
    uint64_t kept = index <= applied ? 0 : index - applied - 1;
    walk->count = kept < walk->count ? kept : walk->count;
    if (walk->unjoined_index >= index)
        walk->unjoined_index = index - 1;
}

static void on_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct walk *walk = context;
    struct repair *repair = walk->repair;
    const struct meta_group *group = &repair->group;
    if (record->group != group->group || record->replica != group->replica || lsn < group->snapshot_lsn)
        return;
    if (record->term > repair->wal.term_max && record->type != WAL_DAMAGED && record->type != WAL_REPAIRED)
        repair->wal.term_max = record->term;
    bool given_up = group->accepted_lsn != 0 && lsn >= group->accepted_lsn && lsn < group->repaired_lsn;
    if (record->type == WAL_ENTRY && !given_up)
        walk_entry(walk, record, lsn);
    else if (record->type == WAL_TRUNCATE && !given_up)
        walk_truncate(walk, record->index, lsn);
    else if (record->type == WAL_DAMAGED)
        walk_damage(walk, lsn);
    else if (record->type == WAL_CHECKPOINT && record->index > repair->wal.told_index)
        repair->wal.told_index = record->index;
}

static void on_damaged(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count)
{
    struct walk *walk = context;
    for (uint32_t i = 0; i < (count > 0 ? count : 1); i++) {
        if (count == 0 || groups[i] == walk->repair->group.group) {
            walk_damage(walk, lsn);
            walk->repair->wal.unreadable_batches += lsn >= walk->repair->group.repaired_lsn;
        }
    }
}

static void on_end(void *context, uint64_t start_lsn, uint64_t end_lsn)
{
    struct walk *walk = context;
    walk->repair->wal.start_lsn = start_lsn;
    walk->repair->wal.end_lsn = end_lsn;
}

static enum err walk_run(struct walk *walk, struct repair *repair, uint64_t limit_lsn)
{
    const struct wal_inspector inspector = {.context = walk, .record = on_record, .damaged = on_damaged, .end = on_end};
    *walk = (struct walk){.repair = repair, .limit_lsn = limit_lsn};
    repair->wal.unreadable_batches = 0;
    enum err error = wal_inspect(repair->disk, WAL_DIR, &inspector);
    if (error == OK && walk->unjoined_index > repair->group.applied_index + walk->count)
        walk_damage(walk, walk->unjoined_lsn);
    return error;
}

static void print_wal(const struct repair *repair, const struct walk *walk)
{
    const struct repair_wal *wal = &repair->wal;
    struct line line;
    if (wal->damaged) {
        line = repair_line(repair, "damage");
        line_text(&line, "where", "wal");
        if (wal->damaged_lsn != UINT64_MAX)
            line_number(&line, "lsn", (int64_t)wal->damaged_lsn);
        line_number(&line, "unreadable_batches", (int64_t)wal->unreadable_batches);
        line_end(&line);
    }
    line = repair_line(repair, "keep");
    line_text(&line, "what", "entries");
    line_number(&line, "entries", (int64_t)walk->count);
    line_number(&line, "first_index", (int64_t)wal->kept_first);
    line_number(&line, "last_index", (int64_t)wal->kept_last);
    line_number(&line, "records", (int64_t)wal->kept_records);
    line_end(&line);
    if (wal->dropped_entries > 0) {
        line = repair_line(repair, "drop");
        line_text(&line, "what", "entries");
        line_number(&line, "entries", (int64_t)wal->dropped_entries);
        line_number(&line, "records", (int64_t)wal->dropped_records);
        line_end(&line);
    }
    if (wal->damaged && wal->damaged_lsn != UINT64_MAX && wal->damaged_lsn < wal->start_lsn) {
        line = repair_line(repair, "drop");
        line_text(&line, "what", "entries that were given up when the WAL was crowded");
        line_end(&line);
    }
    if (wal->told_index > wal->kept_last) {
        line = repair_line(repair, "drop");
        line_text(&line, "what", "entries that a checkpoint held which is gone");
        line_number(&line, "last_index", (int64_t)wal->told_index);
        line_end(&line);
    }
}

enum err repair_plan_wal(struct repair *repair)
{
    struct repair_wal *wal = &repair->wal;
    struct walk walk;
    uint64_t limit_lsn = repair->group.damaged ? repair->group.damaged_lsn : UINT64_MAX;
    enum err error = walk_run(&walk, repair, limit_lsn);
    bool first = error == OK && walk.found && walk.found_lsn < limit_lsn;
    wal->damaged = repair->group.damaged && limit_lsn != UINT64_MAX;
    if (first) { /* seen for the first time, or gaps where entries were given up */
        wal->damaged = true;
        limit_lsn = walk.found_lsn;
    }
    /* Damage behind an earlier repair that no checkpoint has settled: there is but one range to give up. */
    bool again =
        error == OK && wal->damaged && repair->group.accepted_lsn != 0 && repair->group.accepted_lsn < limit_lsn;
    if (again)
        limit_lsn = repair->group.accepted_lsn;
    if (first || again) {
        free(walk.window);
        error = walk_run(&walk, repair, limit_lsn);
    }
    if (error == OK) {
        wal->damaged_lsn = limit_lsn;
        wal->kept_first = repair->group.applied_index + 1;
        wal->kept_last = repair->group.applied_index + walk.count;
        for (uint64_t i = 0; i < walk.count; i++)
            wal->kept_records += walk.window[i].records;
        bool loose = walk.unjoined_index > wal->kept_last;
        wal->dropped_entries = walk.behind_entries + (loose ? walk.loose_entries : 0);
        wal->dropped_records = walk.behind_records + (loose ? walk.loose_records : 0);
        repair->needed = repair->needed || wal->damaged || wal->told_index > wal->kept_last;
        repair->loses = repair->loses || wal->damaged || wal->told_index > wal->kept_last;
        print_wal(repair, &walk);
    }
    free(walk.window);
    return error;
}
