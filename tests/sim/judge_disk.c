/* Images: of each replica what the next start would find if the power went out now. Kept as it is synced, so that every
 * question is answered at once; after a crash that may have left something else, and at the end, everything is read
 * with the product's own offline readers, and what the image had must be there. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "judge_impl.h"
#include "wal/format.h"

#define STORE_READ_EVERY 16u /* commits of a checkpoint store, between two full readings */
#define LOG_READ_EVERY   4u  /* crashes that leave nothing new, between two full readings of the log */

void disk__forget(struct image *image)
{
    free(image->entries);
    *image = (struct image){0};
}

bool disk__is_sound(const struct judge_replica *r)
{
    return !r->is_lost && !r->image.is_given_up;
}

/* Not of what it has stored since it heals: that may be durable before its core hears so. */
static bool is_of_before(const struct image *image, uint64_t index)
{
    const struct image_entry *entry = &image->entries[index];
    return index >= image->capacity || entry->term == 0 || image->picture.snapshot_lsn == 0 ||
           entry->lsn < image->picture.snapshot_lsn;
}

void disk__mended(struct judge_replica *r, uint64_t last)
{
    struct image *image = &r->image;
    r->is_lost = image->is_given_up = false;
    while (image->last > last && image->last > image->picture.applied_index && is_of_before(image, image->last)) {
        image->last--; /* what stood behind the damage is nobody's */
    }
}

/* --- questions --- */

/* Records below it are gone, or dead. */
static uint64_t live_lsn(const struct judge *judge, const struct judge_replica *r)
{
    uint64_t released = judge->machines[r->broker].released_lsn;
    return r->image.picture.snapshot_lsn > released ? r->image.picture.snapshot_lsn : released;
}

uint64_t disk__term(const struct judge *judge, const struct judge_replica *r)
{
    const struct image *image = &r->image;
    uint64_t term = image->wal_lsn >= live_lsn(judge, r) ? image->wal_term : 0;
    return term > image->picture.term ? term : image->picture.term;
}

uint64_t disk__vote(const struct judge *judge, const struct judge_replica *r)
{
    const struct image *image = &r->image;
    bool in_wal = image->wal_lsn >= live_lsn(judge, r);
    uint64_t term = disk__term(judge, r);
    if (in_wal && image->wal_term == term && image->wal_vote != 0) {
        return image->wal_vote;
    }
    return image->picture.term == term ? image->picture.vote : 0;
}

bool disk__reaches(const struct judge *judge, const struct judge_replica *r, uint64_t index)
{
    const struct image *image = &r->image;
    uint64_t applied = image->picture.applied_index;
    if (index == 0) {
        return true;
    }
    if (image->is_dead || index > image->last) {
        return false;
    }
    /* A log's lsns rise with its indexes: if the first one that is needed is there, all are. */
    return index <= applied ||
           (image->entries[applied + 1].term != 0 && image->entries[applied + 1].lsn >= live_lsn(judge, r));
}

bool disk__holds(const struct judge *judge, const struct judge_group *group, const struct judge_replica *r,
                 uint64_t index, uint64_t term)
{
    if (index == 0) {
        return true;
    }
    if (!disk__reaches(judge, r, index)) {
        return false;
    }
    return index <= r->image.picture.applied_index ? ghost__committed_term(group, index) == term
                                                   : r->image.entries[index].term == term;
}

/* --- records --- */

static void image_reach(struct image *image, uint64_t index)
{
    image->entries = sim_grow(image->entries, &image->capacity, index + 2, sizeof *image->entries);
}

static uint64_t prev_term(const struct judge_group *group, const struct image *image, uint64_t index)
{
    uint64_t before = index - 1;
    bool is_in_log = before > image->picture.applied_index && before < image->capacity;
    uint64_t term = is_in_log ? image->entries[before].term : 0; /* what a snapshot covers may have been another one */
    return term != 0 ? term : ghost__committed_term(group, before);
}

static void on_entry(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                     const struct wal_record *record, uint64_t lsn, bool is_new)
{
    struct image *image = &r->image;
    uint64_t index = record->index;
    image_reach(image, index);
    is_new = is_new && disk__is_sound(r); /* else what it has is not known any more */
    struct image_entry *entry = &image->entries[index];
    judge__count(judge, JUDGE_R10);
    if (is_new && index > image->last + 1) {
        judge__fail(judge, JUDGE_W2, group, r->id, "entry %llu is stored behind entry %llu", (unsigned long long)index,
                    (unsigned long long)image->last);
        return;
    }
    if (is_new && index <= image->last && index > image->picture.applied_index && entry->term != 0 &&
        entry->term != record->term) {
        judge__fail(judge, JUDGE_R10, group, r->id, "entry %llu of term %llu is stored over the one of term %llu",
                    (unsigned long long)index, (unsigned long long)record->term, (unsigned long long)entry->term);
        return;
    }
    bool is_again = image->cut_index == index && image->cut_term == record->term;
    image->cut_index = 0;
    if (is_new && is_again) {
        judge__fail(judge, JUDGE_R10, group, r->id, "entry %llu of term %llu is cut off and then stored again",
                    (unsigned long long)index, (unsigned long long)record->term);
        return;
    }
    if (is_new || ghost__at(group, index, record->term) == NULL) {
        ghost__durable(judge, group, r->id, record, prev_term(group, image, index));
    }
    bool is_other = !disk__is_sound(r) && entry->term != record->term;
    *entry = (struct image_entry){.term = record->term, .lsn = lsn};
    image->last = index > image->last || (is_other && index >= image->picture.applied_index) ? index : image->last;
}

static void on_truncate(struct judge *judge, struct judge_group *group, struct judge_replica *r, uint64_t from,
                        bool is_new)
{
    struct image *image = &r->image;
    is_new = is_new && disk__is_sound(r);
    if (is_new && from < image->capacity) {
        image->cut_index = from;
        image->cut_term = image->entries[from].term;
        image->cut_from = image->cut_from == 0 || from < image->cut_from ? from : image->cut_from;
    }
    for (uint64_t index = from; index <= image->last && index < image->capacity; index++) {
        struct image_entry *entry = &image->entries[index];
        judge__count(judge, JUDGE_R11);
        if (is_new && entry->term != 0 && entry->term == ghost__committed_term(group, index)) {
            judge__fail(judge, JUDGE_R11, group, r->id, "entry %llu of term %llu is committed and cut off",
                        (unsigned long long)index, (unsigned long long)entry->term);
        }
        if (index > image->picture.applied_index) {
            *entry = (struct image_entry){0};
        }
    }
    uint64_t applied = image->picture.applied_index;
    if (from <= image->last) {
        image->last = from > applied ? from - 1 : applied;
    }
}

static void on_hard_state(struct judge *judge, struct judge_group *group, struct judge_replica *r, uint64_t term,
                          uint64_t vote, uint64_t lsn, bool is_new)
{
    struct image *image = &r->image;
    judge__count(judge, JUDGE_R8);
    is_new = is_new && disk__is_sound(r);
    if (is_new && term < image->wal_term) {
        judge__fail(judge, JUDGE_R6, group, r->id, "term %llu is stored behind term %llu", (unsigned long long)term,
                    (unsigned long long)image->wal_term);
    } else if (is_new && term == image->wal_term && vote != image->wal_vote && image->wal_vote != 0) {
        judge__fail(judge, JUDGE_R8, group, r->id, "in term %llu a vote for %llu is stored over one for %llu",
                    (unsigned long long)term, (unsigned long long)vote, (unsigned long long)image->wal_vote);
    }
    if (term > image->wal_term || (term == image->wal_term && vote != 0)) {
        image->wal_vote = vote;
    }
    if (term >= image->wal_term) {
        image->wal_term = term;
        image->wal_lsn = lsn;
    }
}

void disk__record(struct judge *judge, struct judge_machine *machine, const struct wal_record *record, uint64_t lsn)
{
    struct judge_group *group = judge__group(judge, record->group);
    struct judge_replica *r = judge__replica_on(group, record->replica, machine->id);
    bool is_new = lsn > machine->top_lsn;
    if (record->replica == 0 || judge->world->failed || lsn < r->image.picture.snapshot_lsn) {
        return; /* dead, or of a group that is not even that */
    }
    switch (record->type) {
    case WAL_ENTRY:
        on_entry(judge, group, r, record, lsn, is_new);
        break;
    case WAL_TRUNCATE:
        on_truncate(judge, group, r, record->index, is_new);
        break;
    case WAL_HARD_STATE:
        on_hard_state(judge, group, r, record->term, record->index, lsn, is_new);
        break;
    case WAL_GROUP_NEW:
        if (r->is_lost && is_new) {
            judge__count(judge, JUDGE_R20);
            judge__fail(judge, JUDGE_R20, group, r->id, "it is born again after its machine was wiped");
        }
        r->image.is_born = true;
        if (judge->watcher.durable != NULL) {
            judge->watcher.durable(judge->watcher.context, record);
        }
        break;
    case WAL_GROUP_DEAD:
        r->image.is_dead = true;
        break;
    case WAL_REPAIRED:
        if (r->image.is_healing) {
            r->image.is_repaired = true;
            r->image.is_given_up = false;
        }
        break;
    default:
        break;
    }
}

/* --- the checkpoint store --- */

/* The records of before are dead; a replica that heals has written what is left of them again. */
static void image_bury(struct image *image, uint64_t applied, uint64_t lsn)
{
    uint64_t last = applied;
    for (uint64_t index = 0; index < image->capacity; index++) {
        struct image_entry *entry = &image->entries[index];
        if (entry->lsn < lsn) {
            *entry = (struct image_entry){0};
        } else if (entry->term != 0 && index > last) {
            last = index;
        }
    }
    image->last = last;
}

void disk__picture(struct judge *judge, struct judge_machine *machine, const struct meta_group *picture)
{
    struct judge_group *group = judge__group(judge, picture->group);
    struct judge_replica *r = judge__replica_on(group, picture->replica, machine->id);
    struct image *image = &r->image;
    const struct meta_group old = image->picture;
    uint64_t applied = picture->applied_index;
    bool is_installed = picture->snapshot_lsn > old.snapshot_lsn; /* it may be the first picture there */
    image->is_healing = picture->damaged && picture->healing;
    image->is_repaired = image->is_repaired && image->is_healing;
    image->is_given_up |= picture->damaged && !image->is_repaired;
    if (picture->replica == 0 || judge->world->failed || (picture->damaged && applied < old.applied_index)) {
        return; /* whoever marks a group need not know what it was */
    }
    judge__count(judge, JUDGE_R6);
    if (applied < old.applied_index || picture->term < old.term) {
        judge__fail(judge, JUDGE_R6, group, r->id, "its picture goes back from %llu in term %llu to %llu in term %llu",
                    (unsigned long long)old.applied_index, (unsigned long long)old.term, (unsigned long long)applied,
                    (unsigned long long)picture->term);
        return;
    }
    if (is_installed) {
        judge__count(judge, JUDGE_R19);
    }
    judge__count(judge, JUDGE_R5);
    if (applied > group->committed || (applied > 0 && picture->applied_term != ghost__committed_term(group, applied))) {
        judge__fail(judge, is_installed ? JUDGE_R19 : JUDGE_R5, group, r->id,
                    "its picture has applied %llu of term %llu, committed are %llu, of term %llu there",
                    (unsigned long long)applied, (unsigned long long)picture->applied_term,
                    (unsigned long long)group->committed, (unsigned long long)ghost__committed_term(group, applied));
        return;
    }
    image->picture = *picture;
    image_reach(image, applied);
    if (is_installed) {
        image_bury(image, applied, picture->snapshot_lsn);
    }
    image->last = image->last > applied ? image->last : applied;
}

static void read_pictures(struct judge *judge, struct judge_machine *machine)
{
    struct kv *durable = sim_kv_copy_durable(machine->kv);
    struct kv_txn *txn;
    if (durable->ops->begin(durable, false, &txn) == OK) {
        for (struct judge_group *group = judge->groups; group != NULL; group = group->hh.next) {
            struct meta_group row;
            for (uint32_t i = 0; i < group->replicas_count; i++) {
                if (group->replicas[i]->broker == machine->id) { /* one look for all that ever lived there */
                    if (meta_get_group(durable, txn, group->id, &row) == OK) {
                        disk__picture(judge, machine, &row);
                    }
                    break;
                }
            }
        }
        durable->ops->abort(durable, txn);
    }
    sim_kv_free(durable);
}

void disk__fresh(struct judge *judge, struct judge_machine *machine)
{
    if (machine->kv == NULL || sim_kv_commits_count(machine->kv) == machine->commits || judge->world->failed) {
        return;
    }
    machine->commits = sim_kv_commits_count(machine->kv);
    read_pictures(judge, machine);
    if (++machine->readings % STORE_READ_EVERY == 0) {
        state__read(judge, machine, false);
    }
}

/* --- as it is synced --- */

/* The length of the whole batch at data[at], 0: there is none that ends before `end`. */
static uint32_t whole_batch(const uint8_t *data, uint64_t at, uint64_t end, const struct wal__file_header *file,
                            uint64_t lsn)
{
    struct wal__batch_header header;
    if (end - at < WAL__BATCH_HEADER_BYTES || !wal__batch_header_decode(data + at, file->salt, lsn, &header) ||
        wal__span(header.length) > end - at) {
        return 0;
    }
    uint32_t crc =
        crc32c(wal__seed(file->salt), data + at + WAL__BATCH_HEADER_BYTES, header.length - WAL__BATCH_HEADER_BYTES);
    return crc == header.body_crc ? header.length : 0;
}

static void on_batch(struct judge *judge, struct judge_machine *machine, const uint8_t *batch, uint32_t length,
                     uint64_t lsn)
{
    size_t at = WAL__BATCH_HEADER_BYTES;
    while (at != 0 && at < length) {
        struct wal_record record;
        at = wal__record_decode(batch, length, at, &record);
        if (at != 0 && (unsigned)record.type != WAL__RECORD_GROUPS) {
            disk__record(judge, machine, &record, lsn);
        }
    }
    machine->top_lsn = lsn > machine->top_lsn ? lsn : machine->top_lsn;
}

void judge_synced(struct judge *judge, uint64_t id, const char *path, const uint8_t *data, uint64_t offset,
                  uint64_t size)
{
    struct judge_machine *machine = &judge->machines[id];
    struct wal__file_header file;
    uint64_t end = offset + size;
    if (judge->world->failed || machine->disk == NULL) {
        return;
    }
    disk__fresh(judge, machine);
    if (path == NULL) {
        disk__reread(judge, machine); /* a sync of everything takes along what the log has written and not synced */
        return;
    }
    if (strncmp(path, "wal/", 4) != 0 || wal__file_header_decode(data, &file) != OK) {
        return;
    }
    if (offset < WAL_BLOCK_BYTES && file.start_lsn > machine->released_lsn) {
        machine->released_lsn = file.start_lsn;
    }
    for (uint64_t at = offset < WAL_BLOCK_BYTES ? WAL_BLOCK_BYTES : offset; at < end;) {
        uint64_t lsn = file.base_lsn + at - WAL_BLOCK_BYTES;
        uint32_t length = whole_batch(data, at, end, &file, lsn);
        on_batch(judge, machine, data + at, length, lsn);
        at += length > 0 ? wal__span(length) : WAL_BLOCK_BYTES;
    }
}

/* --- reading everything --- */

struct reading {
    struct judge *judge;
    struct judge_machine *machine;
    uint64_t top_lsn;
    bool is_damaged;
};

static void on_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct reading *reading = context;
    disk__record(reading->judge, reading->machine, record, lsn);
    reading->top_lsn = lsn > reading->top_lsn ? lsn : reading->top_lsn;
}

static void on_damaged(void *context, uint64_t lsn, const uint64_t *groups, uint32_t count)
{
    ((struct reading *)context)->is_damaged = true;
}

static void on_end(void *context, uint64_t start_lsn, uint64_t end_lsn)
{
    struct reading *reading = context;
    reading->machine->released_lsn = start_lsn;
}

/* The entries that the old image had must be there, unless a cut that nobody knew of came through with the crash: the
 * image says so, and it was judged then. */
static const char *image_lacks(const struct judge *judge, const struct judge_replica *r, const struct image *old,
                               uint64_t old_term)
{
    const struct image *image = &r->image;
    if (image->is_dead || old->is_dead || r->is_lost) {
        return NULL;
    }
    if (image->picture.group == 0 && (old->picture.group != 0 || (old->is_born && !image->is_born))) {
        return "its row or its birth"; /* no start knows what the rest belongs to */
    }
    if (image->is_given_up || old->is_given_up) {
        return NULL;
    }
    if (disk__term(judge, r) < old_term) {
        return "its term";
    }
    if (image->picture.applied_index < old->picture.applied_index) {
        return "its picture";
    }
    for (uint64_t index = image->picture.applied_index + 1; index <= old->last; index++) {
        if (image->cut_from != 0 && index >= image->cut_from) {
            break;
        }
        if (index > image->last || image->entries[index].term != old->entries[index].term) {
            return "entries";
        }
    }
    if (image->last > image->picture.applied_index && !disk__reaches(judge, r, image->last)) {
        return "the entry that joins its picture";
    }
    return NULL;
}

/* The process that runs has in memory what rotted under it: until it dies, nothing of that is lost. */
static void image_keep(struct image *image, const struct image *old)
{
    for (uint64_t index = 0; index <= old->last && index < old->capacity; index++) {
        bool is_cut = image->cut_from != 0 && index >= image->cut_from;
        if (!is_cut && old->entries[index].term != 0) {
            image_reach(image, index);
            image->entries[index] = image->entries[index].term != 0 ? image->entries[index] : old->entries[index];
            image->last = index > image->last ? index : image->last;
        }
    }
    if (image->picture.group == 0 || image->picture.applied_index < old->picture.applied_index) {
        image->picture = old->picture;
    }
    if (image->wal_term < old->wal_term) {
        image->wal_term = old->wal_term;
        image->wal_vote = old->wal_vote;
        image->wal_lsn = old->wal_lsn;
    }
    image->is_born |= old->is_born;
}

static void check_found(struct judge *judge, struct judge_machine *machine, struct judge_group *group,
                        struct judge_replica *r, const struct image *old, uint64_t old_term)
{
    const char *lacks = group->is_deleted ? NULL : image_lacks(judge, r, old, old_term);
    judge__count(judge, JUDGE_W2);
    if (lacks != NULL && machine->is_doubted && machine->broker != NULL) {
        image_keep(&r->image, old);
    } else if (lacks != NULL && machine->is_doubted) {
        r->is_lost = true;
        r->lost_commit = group->committed;
    } else if (lacks != NULL && !r->is_lost) {
        judge__fail(judge, JUDGE_W2, group, r->id,
                    "%s, durable before (last %llu, picture %llu, term %llu), is not found (%llu, %llu, %llu)", lacks,
                    (unsigned long long)old->last, (unsigned long long)old->picture.applied_index,
                    (unsigned long long)old_term, (unsigned long long)r->image.last,
                    (unsigned long long)r->image.picture.applied_index, (unsigned long long)disk__term(judge, r));
    }
}

struct kept {
    struct judge_group *group;
    struct judge_replica *replica;
    struct image image;
    uint64_t term;
};

void disk__reread(struct judge *judge, struct judge_machine *machine)
{
    struct kept *kept = NULL;
    uint64_t capacity = 0, count = 0;
    for (struct judge_group *group = judge->groups; group != NULL; group = group->hh.next) {
        for (uint32_t i = 0; i < group->replicas_count; i++) {
            struct judge_replica *r = group->replicas[i];
            if (r->broker == machine->id) {
                kept = sim_grow(kept, &capacity, count + 1, sizeof *kept);
                kept[count++] = (struct kept){group, r, r->image, disk__term(judge, r)};
                r->image = (struct image){0};
            }
        }
    }
    struct reading reading = {.judge = judge, .machine = machine};
    const struct wal_inspector inspector = {
        .context = &reading, .is_memory = true, .record = on_record, .damaged = on_damaged, .end = on_end};
    machine->commits = sim_kv_commits_count(machine->kv);
    read_pictures(judge, machine);
    enum err error = wal_inspect(sim_disk_shadow(machine->disk), "wal", &inspector);
    machine->top_lsn = reading.top_lsn;
    if (!machine->is_doubted && ((error != OK && error != ERR_NO_FILE) || reading.is_damaged)) {
        world_fail(judge->world, "W2", "broker %llu: its log on the disk is damaged, or does not read: %s",
                   (unsigned long long)machine->id, err_name(error));
    }
    for (uint64_t i = 0; i < count; i++) {
        if (!judge->world->failed) {
            check_found(judge, machine, kept[i].group, kept[i].replica, &kept[i].image, kept[i].term);
        }
        kept[i].replica->image.cut_index = kept[i].replica->image.cut_from = 0;
        free(kept[i].image.entries);
    }
    free(kept);
}

/* What a death alone leaves durable is what was durable before it, and the image says that already: the next start is
 * held against it (W2 in judge_raft.c). Everything is read only if there may be more, or less, and now and then. */
void disk__crashed(struct judge *judge, struct judge_machine *machine)
{
    bool is_news = sim_disk_take_news(machine->disk) || machine->is_doubted;
    if (is_news || ++machine->crashes % LOG_READ_EVERY == 0) {
        disk__reread(judge, machine);
        return;
    }
    disk__fresh(judge, machine);
    for (struct judge_group *group = judge->groups; group != NULL; group = group->hh.next) {
        for (uint32_t i = 0; i < group->replicas_count; i++) {
            struct judge_replica *r = group->replicas[i];
            if (r->broker == machine->id) {
                r->image.cut_index = r->image.cut_from = 0;
            }
        }
    }
}
