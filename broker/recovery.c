/* The start: checkpoint store first, then every WAL record in lsn order on top of it.
 *
 * A group's picture says what is applied; WAL entries above it must join it by index and term, else the group is
 * damaged. ENTRY never truncates, only TRUNCATE does; an (index, term) seen again is the same entry (it was
 * re-appended). Nothing is applied here: recovered entries stand in the window, and are applied when a leader's own
 * entry commits them, by the one path that all entries take.
 *
 * Damage, of WAL records or of rows, is one group's: it answers CORRUPT from its first breath, since the mark is
 * durable before recovery_run returns. Its log is replayed up to the damage only to know what must stay in the WAL for
 * a repair. What a repair accepted as lost is skipped: ENTRY and TRUNCATE records in [accepted_lsn, repaired_lsn). */
#include <stdlib.h>
#include <string.h>

#include "base/mark.h"
#include "base/mem.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/heal.h"
#include "broker/impl.h"
#include "broker/manifest.h"
#include "broker/state.h"

struct recovery {
    struct broker *broker;
    struct partition *current; /* group being loaded from the checkpoint store */
    struct segment_row *rows;  /* its manifest */
    uint32_t rows_count, rows_capacity;
    bool rows_bad; /* one of its rows is unreadable, or missing */
    uint8_t tail[4096];
    struct meta_group group;
    uint64_t *dead; /* groups to be removed once the WAL is open */
    uint32_t dead_count, dead_capacity;
    struct found_damage *damaged; /* groups newly found damaged */
    uint32_t damaged_count, damaged_capacity;
    enum err error;
};

struct found_damage {
    uint64_t group;
    const char *why;
};

static void recovery__add(uint64_t **io_array, uint32_t *io_count, uint32_t *io_capacity, uint64_t value)
{
    if (*io_count == *io_capacity) {
        *io_capacity = *io_capacity == 0 ? 16 : *io_capacity * 2;
        *io_array = mem_grow(*io_array, *io_capacity * sizeof **io_array);
    }
    (*io_array)[(*io_count)++] = value;
}

static void recovery__add_damage(struct recovery *r, uint64_t group, const char *why)
{
    if (r->damaged_count == r->damaged_capacity) {
        r->damaged_capacity = r->damaged_capacity == 0 ? 16 : r->damaged_capacity * 2;
        r->damaged = mem_grow(r->damaged, r->damaged_capacity * sizeof *r->damaged);
    }
    r->damaged[r->damaged_count++] = (struct found_damage){group, why};
}

static bool recovery__drop_damage(struct recovery *r, uint64_t group)
{
    for (uint32_t i = 0; i < r->damaged_count; i++) {
        if (r->damaged[i].group == group) {
            r->damaged[i] = r->damaged[--r->damaged_count];
            return true;
        }
    }
    return false;
}

/* From lsn on nothing of the group is replayed; UINT64_MAX: the WAL is not where the damage is. */
static void recovery__damage(struct recovery *r, struct partition *p, uint64_t lsn, const char *why)
{
    bool is_known = p->state == PARTITION_DAMAGED && !p->is_withheld;
    bool is_old = lsn < p->repaired_lsn || p->is_over;
    if (is_old || (is_known && (lsn >= p->damaged_lsn || !heal_is_possible(p)))) {
        return;
    }
    mark(r->broker->trace, MARK_REPLAY_DAMAGED);
    p->is_withheld = false;
    p->state = PARTITION_DAMAGED;
    p->damaged_lsn = lsn;
    if (is_known && !p->damage_saved) {
        (void)recovery__drop_damage(r, p->group); /* there is more to say of it */
    }
    recovery__add_damage(r, p->group, why);
    p->damage_saved = false;
}

/* What was said of a replica that has ended since is of no interest: its rows are gone, so its log could not be judged.
 */
static void recovery__end(struct recovery *r, struct partition *p)
{
    p->is_over = true;
    if (recovery__drop_damage(r, p->group)) {
        p->state = PARTITION_BIRTH;
    }
    recovery__add(&r->dead, &r->dead_count, &r->dead_capacity, p->group);
}

/* A disk that fails at a segment may work at the next start: nothing is marked, and what the group has in the WAL is
 * kept for then. Nobody else has to wait for it. */
static void recovery__withhold(struct recovery *r, struct partition *p, enum err error)
{
    trace_error(r->broker->trace, "group_withheld", "group=%lu error=%s why=\"its segment cannot be opened\"", p->group,
                err_name(error));
    mark(r->broker->trace, MARK_REPLAY_WITHHELD);
    p->state = PARTITION_DAMAGED;
    p->damaged_lsn = UINT64_MAX;
    p->is_withheld = true;
}

/* --- checkpoint store --- */

/* Without a whole manifest nothing is opened; nor is that of a marked group, since a repair that was broken off may
 * have put new files in the place of those that its rows speak of: they are not to be trimmed or written to. */
static enum err recovery__finish_group(struct recovery *r)
{
    struct partition *p = r->current;
    enum err error = OK;
    if (p == NULL) {
        return OK;
    }
    if (!r->rows_bad && (p->state != PARTITION_DAMAGED || heal_is_possible(p))) {
        error = partition_open_log(p, r->rows, r->rows_count, r->group.log_start, r->group.next_offset);
    }
    if (error == ERR_FORMAT) {
        recovery__damage(r, p, UINT64_MAX, "the rows of its segments do not join");
        r->rows_bad = true;
        error = OK;
    } else if (error == ERR_IO && !store_sync_failed(r->broker->store)) {
        if (p->state != PARTITION_DAMAGED) { /* else it stays that, and heals in another life */
            recovery__withhold(r, p, error);
        }
        error = OK;
    }
    if (r->rows_bad && heal_is_possible(p)) {
        heal_make_blank(p);
        error = partition_open_log(p, NULL, 0, 0, 0);
    }
    r->current = NULL;
    r->rows_count = 0;
    r->rows_bad = false;
    return error;
}

static enum err recovery__group(void *context, const struct meta_group *group)
{
    struct recovery *r = context;
    enum err error = recovery__finish_group(r);
    if (error != OK) {
        return error;
    }
    struct entry_birth birth = {.kind = group->kind,
                                .config = {.segment_bytes = group->segment_bytes,
                                           .segment_ms = group->segment_ms,
                                           .retention_bytes = group->retention_bytes,
                                           .retention_ms = group->retention_ms}};
    struct partition *p = partition_new(r->broker, group->group, group->replica, &birth);
    struct members members;
    members_of_row(group, &members);
    roster_free(&p->roster);
    roster_init(&p->roster, group->config_index, &members);
    p->term_saved = group->term;
    p->vote_saved = group->vote;
    p->applied_index = group->applied_index;
    p->applied_term = group->applied_term;
    p->checkpoint_index = group->applied_index;
    p->checkpoint_end = group->next_offset;
    p->has_picture = true;
    p->window.first_index = group->applied_index + 1;
    p->log_clock_ms = group->log_clock_ms;
    p->idle_clock_ms = group->idle_clock_ms;
    p->snapshot_lsn = group->snapshot_lsn;
    p->repaired_lsn = group->repaired_lsn;
    p->accepted_lsn = group->accepted_lsn;
    p->accepted_index = group->applied_index;
    if (group->damaged) {
        p->damage_saved = true;
        p->was_healing = group->healing;
        p->state = PARTITION_DAMAGED;
        p->damaged_lsn = group->damaged_lsn;
        trace_error(r->broker->trace, "group_damaged", "group=%lu lsn=%lu why=\"found at an earlier start\"", p->group,
                    p->damaged_lsn);
    } else if (!members_are_sane(&members)) {
        recovery__damage(r, p, UINT64_MAX, "its row in the checkpoint store names no possible members");
    }
    r->group = *group;
    r->current = p;
    return OK;
}

static enum err recovery__segment(void *context, uint64_t group, const struct meta_segment *segment)
{
    struct recovery *r = context;
    if (r->rows_count == r->rows_capacity) {
        r->rows_capacity = r->rows_capacity == 0 ? 4 : r->rows_capacity * 2;
        r->rows = mem_grow(r->rows, r->rows_capacity * sizeof *r->rows);
    }
    struct segment_row *row = &r->rows[r->rows_count++];
    *row = manifest_from_meta(segment);
    row->tail = r->tail;
    if (segment->tail_size > sizeof r->tail) {
        return ERR_FORMAT;
    }
    memcpy(r->tail, segment->tail, segment->tail_size); /* only the last row, the active segment, has one */
    return OK;
}

static enum err recovery__epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    struct partition *p = ((struct recovery *)context)->current;
    if (p->epochs_count == p->epochs_capacity) {
        p->epochs_capacity = p->epochs_capacity == 0 ? 2 : p->epochs_capacity * 2;
        p->epochs = mem_grow(p->epochs, p->epochs_capacity * sizeof *p->epochs);
    }
    p->epochs[p->epochs_count++] = *epoch;
    p->epochs_saved = p->epochs_count;
    return OK;
}

static enum err recovery__done_row(void *context, uint64_t group, const struct done_row *row)
{
    done_put_row(((struct recovery *)context)->current->done, row);
    return OK;
}

/* Of a group whose own row is gone nothing is known, not even its replica: a place is kept for it, so that its topic
 * answers CORRUPT, and can be deleted. */
static enum err recovery__lost_group(struct recovery *r, uint64_t group)
{
    const struct entry_birth unknown = {0};
    enum err error = recovery__finish_group(r);
    if (error != OK || group == 0) {
        return error;
    }
    struct partition *p = partition_new(r->broker, group, 0, &unknown);
    recovery__damage(r, p, UINT64_MAX, "its row in the checkpoint store is unreadable");
    return OK;
}

static enum err recovery__bad_row(void *context, const struct meta_bad_row *row)
{
    struct recovery *r = context;
    trace_error(r->broker->trace, "row_damaged", "group=%lu type=%c number=%lu", row->group,
                row->type != 0 ? row->type : '-', row->number);
    if (row->type == 'G') {
        return recovery__lost_group(r, row->group);
    }
    r->rows_bad = true;
    recovery__damage(r, r->current, UINT64_MAX,
                     row->type != 0 ? "a row in the checkpoint store is unreadable"
                                    : "rows in the checkpoint store are missing or of an earlier time");
    return OK;
}

static enum err recovery__state_row(void *context, uint64_t group, const struct meta_state_row *row)
{
    struct partition *p = ((struct recovery *)context)->current;
    enum err error = p->table != NULL ? state_put_row(p->table, row) : ERR_FORMAT;
    return error == ERR_FORMAT ? recovery__bad_row(context, &(struct meta_bad_row){.group = group, .type = 'S'})
                               : error;
}

static enum err recovery__expect(void *context, uint64_t group, const struct meta_segment *segment)
{
    store_expect(context, group, segment->base_offset, segment->size_bytes, segment->tail_size);
    return OK;
}

static enum err recovery__load(struct recovery *r)
{
    const struct meta_visitor visitor = {.context = r,
                                         .group = recovery__group,
                                         .segment = recovery__segment,
                                         .epoch = recovery__epoch,
                                         .done = recovery__done_row,
                                         .state = recovery__state_row,
                                         .bad = recovery__bad_row};
    if (store_looks_ahead(r->broker->store) &&
        meta_visit_segments(r->broker->kv, r->broker->store, recovery__expect) == OK) {
        store_look_ahead(r->broker->store);
    }
    enum err error = meta_load(r->broker->kv, &visitor);
    return error != OK ? error : recovery__finish_group(r);
}

/* --- WAL --- */

static void recovery__birth(struct recovery *r, const struct wal_record *record)
{
    struct entry_birth birth;
    if (entry_decode_birth(record->payload, &birth) != OK) {
        trace_error(r->broker->trace, "bad_birth", "group=%lu", record->group);
        return;
    }
    struct partition *p = partition_new(r->broker, record->group, record->replica, &birth);
    enum err error = partition_open_log(p, NULL, 0, 0, 0);
    if (error != OK && r->error == OK) {
        r->error = error;
    }
}

/* Who is in the group from an entry on. */
static void recovery__config(struct recovery *r, struct partition *p, const struct wal_record *record, uint64_t lsn)
{
    struct members members;
    if (members_decode(record->payload, &members) != OK || !roster_has_room(&p->roster, record->index, 1)) {
        recovery__damage(r, p, lsn, "an entry that says who is in the group is unreadable");
        return;
    }
    mark(r->broker->trace, MARK_REPLAY_CONFIG);
    roster_push(&p->roster, record->index, &members);
}

static void recovery__entry(struct recovery *r, struct partition *p, const struct wal_record *record, uint64_t lsn)
{
    uint64_t last = window_last(&p->window);
    uint64_t last_term = p->window.count > 0 ? window_at(&p->window, last)->term : p->applied_term;
    if (record->index <= p->applied_index) {
        r->broker->counters.apply_replay_total++;
        return;
    }
    if (record->index <= last) {
        if (window_at(&p->window, record->index)->term != record->term) {
            recovery__damage(r, p, lsn, "an entry was written over another without a truncation");
        }
        return;
    }
    /* Behind the picture may stand what the history that it shows has replaced: the truncation of it is still to come.
     */
    bool is_replaced = p->window.count == 0 && record->term < last_term;
    if (record->index > last + 1 || is_replaced) {
        /* What was before it may have been released after it was written again further on; it then comes again too. */
        p->unjoined_index = record->index > p->unjoined_index ? record->index : p->unjoined_index;
        p->unjoined_lsn = lsn;
        mark(r->broker->trace, MARK_REPLAY_UNJOINED);
        return;
    }
    if (record->term < last_term) {
        recovery__damage(r, p, lsn, "an entry is of an earlier term than the one before it");
        return;
    }
    struct window_entry entry = {
        .term = record->term, .lsn = lsn, .type = record->entry_type, .payload = slice_ref(record->payload)};
    window_push(&p->window, &entry);
    if (entry.type == ENTRY_CONFIG) {
        recovery__config(r, p, record, lsn);
    }
    if (lsn < p->accepted_lsn) {
        p->accepted_index = record->index;
    }
}

static void recovery__truncate(struct partition *p, uint64_t index)
{
    static const struct outcome nobody_waits = {.error = ERR_UNKNOWN_OUTCOME};
    if (index <= p->applied_index) { /* an old one: the picture is newer */
        index = p->applied_index + 1;
    }
    if (p->unjoined_index >= index) {
        p->unjoined_index = index - 1;
    }
    if (p->window.count == 0) {
        return;
    }
    mark(p->broker->trace, MARK_REPLAY_TRUNCATED);
    window_truncate(&p->window, index, &nobody_waits);
    roster_truncate(&p->roster, index);
}

static bool recovery__is_dead(const struct partition *p, enum wal_record_type type, uint64_t lsn)
{
    if (p->is_blank && (type == WAL_ENTRY || type == WAL_TRUNCATE || type == WAL_CHECKPOINT)) {
        return true;
    }
    if (p->state == PARTITION_DAMAGED && lsn >= p->damaged_lsn) { /* who heals had better know of the latest term */
        bool is_term = type == WAL_HARD_STATE && heal_is_possible(p);
        return type != WAL_GROUP_DEAD && type != WAL_REPAIRED && !is_term;
    }
    bool given_up = p->accepted_lsn != 0 && lsn >= p->accepted_lsn && lsn < p->repaired_lsn;
    return given_up && (type == WAL_ENTRY || type == WAL_TRUNCATE);
}

static bool recovery__drop(uint64_t *groups, uint32_t *io_count, uint64_t group)
{
    for (uint32_t i = 0; i < *io_count; i++) {
        if (groups[i] == group) {
            groups[i] = groups[--*io_count];
            return true;
        }
    }
    return false;
}

/* Another replica of the group is born: if the log said that the one before ended, that had left the disk by then. What
 * the log does not say so of stays, above all a group whose own row is gone. */
static bool recovery__bury(struct recovery *r, struct partition *p)
{
    if (p->has_picture || !recovery__drop(r->dead, &r->dead_count, p->group)) {
        return false;
    }
    mark(r->broker->trace, MARK_REPLAY_REBORN);
    while (recovery__drop(r->dead, &r->dead_count, p->group) || recovery__drop_damage(r, p->group)) {
    }
    partition_free(p);
    return true;
}

/* The group row, of before, says that it was healing. */
static void recovery__healed(struct partition *p)
{
    if (p->state == PARTITION_DAMAGED && p->was_healing && p->damage_saved && !p->is_blank) {
        p->state = PARTITION_BIRTH;
        p->damage_saved = p->was_healing = false;
        p->repair_unsaved = true;
    }
}

/* Nobody's death, of a group whose own row had rotted, is that of whoever the log has there: none but those who came
 * later have rows. */
static bool recovery__is_meant(const struct partition *p, const struct wal_record *record)
{
    bool is_nobody = record->type == WAL_GROUP_DEAD && record->replica == 0;
    return p->replica == record->replica || (is_nobody && !p->has_picture);
}

static void recovery__record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct recovery *r = context;
    struct partition *p = groups_find(r->broker, record->group);
    if (p != NULL && record->type == WAL_GROUP_NEW && p->replica != record->replica && recovery__bury(r, p)) {
        p = NULL;
    }
    if (p == NULL && record->type == WAL_GROUP_NEW) {
        recovery__birth(r, record);
        p = groups_find(r->broker, record->group);
    }
    if (p == NULL || !recovery__is_meant(p, record) || lsn < p->snapshot_lsn ||
        recovery__is_dead(p, record->type, lsn)) {
        return; /* of a deleted group, of another life, behind damage or given up by a repair */
    }
    if (p->live_lsn == UINT64_MAX && record->type != WAL_CHECKPOINT) {
        partition__set_live_lsn(p, lsn);
    }
    switch (record->type) {
    case WAL_ENTRY:
        recovery__entry(r, p, record, lsn);
        break;
    case WAL_HARD_STATE:
        if (record->term > p->term_saved || (record->term == p->term_saved && record->index != 0)) {
            p->term_saved = record->term;
            p->vote_saved = record->index;
        }
        break;
    case WAL_TRUNCATE:
        recovery__truncate(p, record->index);
        break;
    case WAL_GROUP_DEAD:
        recovery__end(r, p);
        break;
    case WAL_DAMAGED:
        if (lsn != p->snapshot_lsn || p->snapshot_lsn == 0) { /* else of the start at which it began to heal */
            recovery__damage(r, p, lsn, "recorded earlier");
        }
        break;
    case WAL_REPAIRED:
        p->repaired_lsn = record->index > p->repaired_lsn ? record->index : p->repaired_lsn;
        recovery__healed(p);
        break;
    case WAL_CHECKPOINT:
        p->told_index = record->index > p->told_index ? record->index : p->told_index;
        break;
    case WAL_GROUP_NEW:
        break;
    }
}

static void recovery__damaged(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count)
{
    struct recovery *r = context;
    if (count == 0) {
        for (struct partition *p = r->broker->groups; p != NULL; p = p->hh.next) {
            recovery__damage(r, p, lsn, "a WAL batch rotted, and with it the list of its groups");
        }
        return;
    }
    for (uint32_t i = 0; i < (PLANT(50) ? 1 : count); i++) {
        struct partition *p = groups_find(r->broker, groups[i]);
        if (p != NULL) {
            recovery__damage(r, p, lsn, "a WAL batch rotted");
        }
    }
}

static void recovery__on_wal_failed(void *context, enum err error)
{
    broker__fail(context, BROKER_EXIT_STORAGE, err_text(error));
}

static enum err recovery__replay(struct recovery *r)
{
    struct broker *b = r->broker;
    const struct wal_options options = {.disk = b->disk,
                                        .clock = b->clock,
                                        .trace = b->trace,
                                        .dir = "wal",
                                        .file_bytes = b->config->wal_file_bytes,
                                        .budget_bytes = b->config->wal_budget_bytes,
                                        .boot = b->identity.boot,
                                        .context = b,
                                        .on_persisted = groups_on_persisted,
                                        .on_failed = recovery__on_wal_failed};
    const struct wal_visitor visitor = {.context = r, .record = recovery__record, .damaged = recovery__damaged};
    enum err error = wal_open(&options, &visitor, &b->wal);
    return error != OK ? error : r->error;
}

/* The log that stands in the window must reach what the WAL says was there. */
static void recovery__judge(struct recovery *r, struct partition *p)
{
    if (p->is_over) {
        return;
    }
    if (p->unjoined_index > window_last(&p->window)) {
        r->broker->counters.apply_gap_total++;
        recovery__damage(r, p, p->unjoined_lsn, "entries do not join");
    }
    if (p->told_index > window_last(&p->window)) {
        recovery__damage(r, p, UINT64_MAX, "the checkpoint store is of an earlier time than the WAL");
    }
    if (p->state == PARTITION_DAMAGED) {
        store_keep(r->broker->store, p->group); /* a repair may want files that no row names */
    }
}

void recovery_describe_mark(const struct partition *p, struct meta_group *ret_mark)
{
    *ret_mark = (struct meta_group){.group = p->group,
                                    .replica = p->replica,
                                    .term = p->term_saved,
                                    .vote = p->vote_saved,
                                    .kind = (uint8_t)p->kind,
                                    .segment_bytes = p->config.segment_bytes,
                                    .segment_ms = p->config.segment_ms,
                                    .retention_bytes = p->config.retention_bytes,
                                    .retention_ms = p->config.retention_ms,
                                    .damaged = true,
                                    .damaged_lsn = p->damaged_lsn};
    struct members members; /* of its birth: a mark without a row says nothing of what is applied */
    (void)roster_at(&p->roster, p->checkpoint_index, &members);
    members_to_row(&members, ret_mark);
}

enum err recovery_put_mark(struct kv *kv, struct kv_txn *txn, const struct meta_group *mark)
{
    struct meta_group row;
    enum err error = meta_get_group(kv, txn, mark->group, &row);
    if (error == ERR_NO_FILE || error == ERR_FORMAT) { /* born in the WAL, or unreadable */
        row = *mark;
    } else if (error != OK) {
        return error;
    }
    row.term = mark->term;
    row.vote = mark->vote;
    row.damaged = true;
    row.healing = false;
    row.damaged_lsn = mark->damaged_lsn;
    return meta_put_group(kv, txn, &row);
}

/* One transaction for all groups newly found damaged. */
static enum err recovery__mark_all(struct recovery *r)
{
    struct broker *b = r->broker;
    struct kv_txn *txn;
    if (r->damaged_count == 0) {
        return OK;
    }
    enum err error = b->kv->ops->begin(b->kv, true, &txn);
    if (error != OK) {
        return error;
    }
    for (uint32_t i = 0; i < r->damaged_count && error == OK; i++) {
        struct meta_group mark;
        const struct partition *p = groups_find(b, r->damaged[i].group);
        trace_error(b->trace, "group_damaged", "group=%lu lsn=%lu why=\"%s\"", p->group, p->damaged_lsn,
                    r->damaged[i].why);
        recovery_describe_mark(p, &mark);
        error = recovery_put_mark(b->kv, txn, &mark);
    }
    if (error != OK) {
        b->kv->ops->abort(b->kv, txn);
        return error;
    }
    return b->kv->ops->commit(b->kv, txn);
}

/* Of a damaged group nothing stays in memory; what its log holds in front of the damage stays in the WAL. */
static void recovery__put_aside(struct partition *p)
{
    struct outcome nobody_waits = {.error = ERR_CORRUPT};
    partition__set_live_lsn(p, p->window.count > 0 ? window_at(&p->window, p->window.first_index)->lsn : UINT64_MAX);
    window_truncate(&p->window, p->window.first_index, &nobody_waits);
    p->damage_saved = true;
}

static enum err recovery__conclude(struct recovery *r)
{
    struct broker *b = r->broker;
    enum err error = recovery__mark_all(r);
    if (error != OK) {
        return error;
    }
    for (struct partition *p = b->groups; p != NULL; p = p->hh.next) {
        if (p->state == PARTITION_DAMAGED && !p->is_withheld && !p->is_over) {
            if (!heal_begin(p)) {
                recovery__put_aside(p);
            }
        } else if (p->accepted_lsn != 0) {
            struct wal_record record = {
                .type = WAL_REPAIRED, .group = p->group, .replica = p->replica, .index = p->repaired_lsn};
            trace_warn(b->trace, "group_repaired", "group=%lu accepted_lsn=%lu repaired_lsn=%lu last_index=%lu",
                       p->group, p->accepted_lsn, p->repaired_lsn, window_last(&p->window));
            partition__log(p, &record);
        }
    }
    for (uint32_t i = 0; i < r->damaged_count; i++) { /* for readers of the log: the mark has said it */
        struct partition *p = groups_find(b, r->damaged[i].group);
        struct wal_record record = {
            .type = WAL_DAMAGED, .group = p->group, .replica = p->replica, .index = p->damaged_lsn};
        wal_append(b->wal, &record);
    }
    for (uint32_t i = 0; i < r->dead_count; i++) {
        struct partition *p = groups_find(b, r->dead[i]);
        if (p != NULL) {
            partition_kill(p, ERR_UNKNOWN_PARTITION);
        }
    }
    return OK;
}

void recovery_settle(struct partition *p)
{
    if (p->accepted_lsn != 0 && p->applied_index >= p->accepted_index) {
        p->snapshot_lsn = p->repaired_lsn;
        p->accepted_lsn = 0;
    }
}

/* --- identity --- */

static enum err recovery__identity(struct broker *b)
{
    struct meta_identity identity = {0};
    enum err error = meta_load_identity(b->kv, &identity);
    if (error == ERR_NO_FILE) {
        clock_random(b->clock, identity.cluster_id, sizeof identity.cluster_id);
        if (b->options.cluster_id != NULL) {
            memcpy(identity.cluster_id, b->options.cluster_id, sizeof identity.cluster_id);
        }
        clock_random(b->clock, identity.disk_uuid, sizeof identity.disk_uuid);
        identity.broker = b->config->id;
    } else if (error != OK) {
        return error;
    }
    if (identity.broker != b->config->id) {
        trace_error(b->trace, "identity", "data_of_broker=%lu configured_id=%lu", identity.broker, b->config->id);
        return ERR_IDENTITY;
    }
    if (b->options.cluster_id != NULL &&
        memcmp(identity.cluster_id, b->options.cluster_id, sizeof identity.cluster_id) != 0) {
        trace_error(b->trace, "identity", "data_of=\"another cluster\"");
        return ERR_IDENTITY;
    }
    identity.boot++;
    error = meta_save_identity(b->kv, &identity);
    if (error == OK) {
        b->identity = identity;
    }
    return error;
}

enum err recovery_run(struct broker *b)
{
    struct recovery r = {.broker = b};
    enum err error = recovery__identity(b);
    if (error == OK) {
        error = recovery__load(&r);
    }
    if (error == OK) {
        point(b->trace, POINT_START_LOADED);
        error = recovery__replay(&r);
    }
    if (error == OK) {
        point(b->trace, POINT_START_REPLAYED);
        error = b->kv->ops->sync(b->kv);
    }
    for (struct partition *p = b->groups; error == OK && p != NULL; p = p->hh.next) {
        recovery__judge(&r, p);
    }
    if (error == OK) {
        error = store_sweep(b->store);
    }
    if (error == OK) {
        error = recovery__conclude(&r);
    }
    if (error == OK) {
        point(b->trace, POINT_START_CONCLUDED);
        trace_info(b->trace, "recovered", "groups=%u replayed_bytes=%lu boot=%lu", HASH_COUNT(b->groups),
                   wal_used_bytes(b->wal), b->identity.boot);
    }
    free(r.rows);
    free(r.dead);
    free(r.damaged);
    return error;
}
