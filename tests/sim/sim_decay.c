/* S10: a list of what is bad, and the deadlines of each item. */
#include "sim_decay.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define ITEMS_MAX       64u
#define ALARMS_MAX      64u
#define GROUPS_MAX      64u
#define LOOK_EVERY_US   500000u
#define SLACK_US        ((uint64_t)20 * 1000 * 1000) /* a bad segment is read three times, a piece a second at worst */
#define SLACK_LOADED_US ((uint64_t)60 * 1000 * 1000) /* pieces that find no descriptor, lanes that stall */
#define MEND_US         ((uint64_t)15 * 1000 * 1000)
#define SETTLE_US       ((uint64_t)5 * 1000 * 1000)
#define LATE_US         ((uint64_t)1000 * 1000)

/* Said of a segment while reads of it went wrong: what decays there is known as damaged already. */
struct alarm {
    uint64_t group;
    int64_t from, end;
};

struct decay {
    struct sim_world *world;
    uint64_t period_us;
    uint64_t ready_us; /* of this life; 0: it is not up */
    uint64_t calm_us;  /* 0: not yet */
    uint64_t look_us;  /* not before */
    struct decay_item items[ITEMS_MAX];
    uint32_t count;
    struct alarm alarms[ALARMS_MAX]; /* of this life; the last ones, in turn */
    uint32_t alarms_next;
    uint64_t withheld[GROUPS_MAX]; /* in this life, until it ends; */
    uint32_t withheld_count;
    uint64_t withheld_before[GROUPS_MAX]; /* in the one before: its answers may still be on their way, */
    uint32_t withheld_before_count;
    uint64_t withheld_before_us;   /* until then */
    uint64_t given_up[GROUPS_MAX]; /* in this life, and before if they are marked */
    uint32_t given_up_count, given_up_taken;
};

static const char *const kind_names[] = {"segment", "row", "log"};

struct decay *decay_new(struct sim_world *world, uint64_t period_us)
{
    struct decay *decay = calloc(1, sizeof *decay);
    ASSERT(decay != NULL);
    decay->world = world;
    decay->period_us = period_us;
    return decay;
}

void decay_free(struct decay *decay)
{
    for (uint32_t i = 0; i < decay->count; i++) {
        free(decay->items[i].place);
    }
    free(decay);
}

void decay_begins(struct decay *decay, const struct decay_item *item)
{
    if (decay->count == ITEMS_MAX) {
        free(item->place);
        return;
    }
    struct decay_item *copy = &decay->items[decay->count++];
    *copy = *item;
    copy->since_us = decay->world->now_us;
    for (uint32_t i = 0; i < ALARMS_MAX; i++) {
        const struct alarm *alarm = &decay->alarms[i];
        if (item->kind == DECAY_SEGMENT && alarm->group == item->group && item->from < alarm->end &&
            alarm->from < item->end) {
            copy->found_us = copy->since_us;
        }
    }
    world_log(decay->world, "decay: %s group %" PRIu64 " type %c from %" PRId64 " to %" PRId64, kind_names[item->kind],
              item->group, item->type != 0 ? item->type : '-', item->from, item->end);
}

const struct decay_item *decay_items(const struct decay *decay, uint32_t *ret_count)
{
    *ret_count = decay->count;
    return decay->items;
}

/* --- lives --- */

/* Of a group that is lost nothing is read any more. */
static void note_gone(const struct decay *decay, struct decay_item *item)
{
    bool is_unread = item->kind != DECAY_WAL && !item->is_lost && item->group != 0 && item->type != 'R' &&
                     decay_has_lost(decay, item->group);
    item->is_over = item->is_over || is_unread || !item->is_there(item);
}

void decay_start(struct decay *decay)
{
    for (uint32_t i = 0; i < decay->count; i++) {
        struct decay_item *item = &decay->items[i];
        note_gone(decay, item);
        item->is_lost = item->is_lost || (!item->is_over && item->kind == DECAY_ROW);
    }
}

void decay_ready(struct decay *decay)
{
    decay->ready_us = decay->world->now_us;
}

void decay_down(struct decay *decay)
{
    decay->ready_us = 0;
    memset(decay->alarms, 0, sizeof decay->alarms);
    if (decay->withheld_count > 0) {
        memcpy(decay->withheld_before, decay->withheld, sizeof decay->withheld);
        decay->withheld_before_count = decay->withheld_count;
        decay->withheld_before_us = decay->world->now_us + LATE_US;
    }
    decay->withheld_count = 0;
}

void decay_calm(struct decay *decay)
{
    decay->calm_us = decay->world->now_us;
}

/* --- what the broker says --- */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void note_found(struct decay *decay, struct decay_item *item)
{
    if (item->found_us == 0) {
        item->found_us = decay->world->now_us;
        world_judged(decay->world, JUDGE_S10);
    }
}

/* Segments and the log: what is said to be bad, [from, end). */
static bool find_range(struct decay *decay, enum decay_kind kind, uint64_t group, int64_t from, int64_t end)
{
    bool found = false;
    for (uint32_t i = 0; i < decay->count; i++) {
        struct decay_item *item = &decay->items[i];
        if (item->kind == kind && item->group == group && item->from < end && from < item->end) {
            note_found(decay, item);
            found = true;
        }
    }
    return found;
}

static bool find_row(struct decay *decay, uint64_t group, uint8_t type)
{
    bool found = false;
    for (uint32_t i = 0; i < decay->count; i++) {
        struct decay_item *item = &decay->items[i];
        if (item->kind == DECAY_ROW && item->group == group && item->type == type) {
            note_found(decay, item);
            found = true;
        }
    }
    return found;
}

static int64_t number_in(const char *line, const char *key)
{
    const char *at = strstr(line, key);
    return at == NULL ? 0 : strtoll(at + strlen(key), NULL, 10);
}

static void false_alarm(struct decay *decay, const char *line)
{
    world_fail(decay->world, "S10", "damage is reported, but nothing decayed there: %s", line);
}

static bool holds(const uint64_t *groups, uint32_t count, uint64_t group)
{
    for (uint32_t i = 0; i < count; i++) {
        if (group == 0 || groups[i] == group)
            return true;
    }
    return false;
}

static void note_outcast(struct decay *decay, uint64_t groups[GROUPS_MAX], uint32_t *io_count, uint64_t group,
                         const char *line)
{
    const uint32_t *faults = decay->world->tally.faults;
    world_judged(decay->world, JUDGE_W7);
    if (faults[FAULT_READ_ERROR] + faults[FAULT_WRITE_ERROR] + faults[FAULT_LATENT] + faults[FAULT_SYNC_ERROR] == 0) {
        world_fail(decay->world, "W7", "no call for a segment failed: %s", line);
    }
    if (*io_count < GROUPS_MAX) {
        groups[(*io_count)++] = group;
    }
}

void decay_line(struct decay *decay, const char *line)
{
    const struct sim_world *world = decay->world;
    uint64_t group = (uint64_t)number_in(line, " group=");
    if (strncmp(line, "scrub_segment_damaged ", 22) == 0) {
        int64_t from = number_in(line, " from_offset="), end = number_in(line, " end_offset=");
        bool known = find_range(decay, DECAY_SEGMENT, group, from, end);
        if (!known && world->now_us >= world->corrupt_until_us) {
            false_alarm(decay, line);
        }
        decay->alarms[decay->alarms_next++ % ALARMS_MAX] = (struct alarm){group, from, end};
    } else if (strncmp(line, "scrub_wal_damaged ", 18) == 0) {
        bool known = find_range(decay, DECAY_WAL, 0, number_in(line, " from_lsn="), number_in(line, " end_lsn="));
        if (!known && world->tally.faults[FAULT_READ_ERROR] == 0) {
            false_alarm(decay, line);
        }
    } else if (strncmp(line, "group_withheld ", 15) == 0) {
        note_outcast(decay, decay->withheld, &decay->withheld_count, group, line);
    } else if (strncmp(line, "group_given_up ", 15) == 0) {
        note_outcast(decay, decay->given_up, &decay->given_up_count, group, line);
    } else if (strncmp(line, "scrub_row_damaged ", 18) == 0 || strncmp(line, "row_damaged ", 12) == 0) {
        const char *type = strstr(line, " type=");
        if (type != NULL && !find_row(decay, group, (uint8_t)type[6])) {
            false_alarm(decay, line);
        }
    }
}

void decay_refused(struct decay *decay, uint64_t group, int64_t offset)
{
    find_range(decay, DECAY_SEGMENT, group, offset, offset + 1);
}

void decay_served(struct decay *decay, uint64_t group)
{
    if (decay_has_lost(decay, group)) {
        world_fail(decay->world, "S10", "group %" PRIu64 " is served, although it is damaged", group);
    }
}

/* --- deadlines --- */

/* Under such faults a round takes as long as it takes. */
static bool is_held_up(const struct sim_world *world)
{
    const uint32_t *faults = world->tally.faults;
    return faults[FAULT_READ_ERROR] + faults[FAULT_LATENT] + faults[FAULT_FILES] + faults[FAULT_KV] > 0;
}

static void judge_item(struct decay *decay, const struct decay_item *item)
{
    struct sim_world *world = decay->world;
    bool is_calm = decay->calm_us != 0;
    uint64_t slack_us = is_calm ? SLACK_US : SLACK_LOADED_US;
    uint64_t begin_us = later(item->since_us, later(decay->ready_us, decay->calm_us));
    if (!is_calm && is_held_up(world))
        return;
    if (item->found_us == 0 && decay->period_us != 0 && !item->is_lost &&
        world->now_us > begin_us + item->rounds * decay->period_us + slack_us) {
        world_fail(world, "S10",
                   "%s of group %" PRIu64 " (type %c, %" PRId64 "..%" PRId64 ") decayed %" PRIu64
                   " us ago and nobody noticed; the scrub's period is %" PRIu64 " us",
                   kind_names[item->kind], item->group, item->type != 0 ? item->type : '-', item->from, item->end,
                   world->now_us - item->since_us, decay->period_us);
    }
    if (item->found_us != 0 && item->kind == DECAY_ROW && !item->is_lost && is_calm &&
        world->now_us > later(item->found_us, begin_us) + MEND_US) {
        world_fail(world, "S10", "a row of type %c, group %" PRIu64 ", was found bad %" PRIu64 " us ago and is still",
                   item->type, item->group, world->now_us - item->found_us);
    }
}

void decay_look(struct decay *decay)
{
    if (decay->ready_us == 0 || decay->world->now_us < decay->look_us)
        return;
    decay->look_us = decay->world->now_us + LOOK_EVERY_US;
    for (uint32_t i = 0; i < decay->count; i++) {
        struct decay_item *item = &decay->items[i];
        if (!item->is_over) {
            note_gone(decay, item);
        }
        if (!item->is_over) {
            judge_item(decay, item);
        }
    }
}

/* --- questions --- */

bool decay_is_settled(const struct decay *decay)
{
    for (uint32_t i = 0; i < decay->count; i++) {
        const struct decay_item *item = &decay->items[i];
        bool is_known = item->is_lost || (item->found_us != 0 && item->kind != DECAY_ROW &&
                                          decay->world->now_us > item->found_us + SETTLE_US);
        if (!item->is_over && !is_known)
            return false;
    }
    return true;
}

bool decay_has_lost(const struct decay *decay, uint64_t group)
{
    for (uint32_t i = 0; i < decay->count; i++) {
        const struct decay_item *item = &decay->items[i];
        if (item->is_lost && strchr("GMEDS", item->type) != NULL && (group == 0 || item->group == group))
            return true;
    }
    return holds(decay->given_up, decay->given_up_count, group);
}

bool decay_has_withheld(const struct decay *decay, uint64_t group)
{
    bool was_withheld = group != 0 && decay->world->now_us < decay->withheld_before_us &&
                        holds(decay->withheld_before, decay->withheld_before_count, group);
    return was_withheld || holds(decay->withheld, decay->withheld_count, group);
}

void decay_keep_marked(struct decay *decay, bool (*is_marked)(void *context, uint64_t group), void *context)
{
    uint32_t kept = 0, kept_taken = 0;
    for (uint32_t i = 0; i < decay->given_up_count; i++) {
        if (is_marked(context, decay->given_up[i])) {
            kept_taken += i < decay->given_up_taken;
            decay->given_up[kept++] = decay->given_up[i];
        }
    }
    decay->given_up_count = kept;
    decay->given_up_taken = kept_taken;
}

uint64_t decay_take_given_up(struct decay *decay)
{
    return decay->given_up_taken < decay->given_up_count ? decay->given_up[decay->given_up_taken++] : 0;
}
