/* Configurations: how one becomes another by joint consensus (dissertation section 4.3), majorities over both halves,
 * and the history of those that a log holds. */
#include "raft/config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/plant.h"

/* ---- what a configuration is ---- */

void raft_config_of_voters(const uint64_t *voters, uint32_t count, struct raft_config *ret_config)
{
    ASSERT(count >= 1 && count <= RAFT_VOTERS_MAX);
    struct raft_config *c = ret_config;
    c->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = c->count++;
        for (; at > 0 && c->members[at - 1].replica > voters[i]; at--) {
            c->members[at] = c->members[at - 1];
        }
        c->members[at] = (struct raft_member){.replica = voters[i], .now = RAFT_VOTER, .next = RAFT_VOTER};
    }
    ASSERT(raft_config_is_sane(c));
}

bool raft_config_is_joint(const struct raft_config *config)
{
    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].now != config->members[i].next) {
            return true;
        }
    }
    return false;
}

bool raft_config_is_sane(const struct raft_config *config)
{
    if (config->count == 0 || config->count > RAFT_MEMBERS_MAX) {
        return false;
    }
    uint32_t voters_now = 0;
    uint32_t voters_next = 0;
    uint64_t before = 0;
    for (uint32_t i = 0; i < config->count; i++) {
        const struct raft_member *member = &config->members[i];
        bool absent = member->now == RAFT_ABSENT && member->next == RAFT_ABSENT;
        if (member->replica <= before || absent || member->now > RAFT_VOTER || member->next > RAFT_VOTER) {
            return false;
        }
        before = member->replica;
        voters_now += member->now == RAFT_VOTER;
        voters_next += member->next == RAFT_VOTER;
    }
    return voters_now >= 1 && voters_now <= RAFT_VOTERS_MAX && voters_next >= 1 && voters_next <= RAFT_VOTERS_MAX;
}

/* Merges the members of both into `joint`; false: too many. */
static bool merge_members(const struct raft_config *now, const struct raft_config *next, struct raft_config *joint)
{
    joint->count = 0;
    uint32_t i = 0;
    uint32_t j = 0;
    while (i < now->count || j < next->count) {
        bool in_now = i < now->count && (j == next->count || now->members[i].replica <= next->members[j].replica);
        bool in_next = j < next->count && (i == now->count || next->members[j].replica <= now->members[i].replica);
        if (joint->count == RAFT_MEMBERS_MAX) {
            return false;
        }
        joint->members[joint->count++] =
            (struct raft_member){.replica = in_now ? now->members[i].replica : next->members[j].replica,
                                 .now = in_now ? now->members[i].now : RAFT_ABSENT,
                                 .next = in_next ? next->members[j].next : RAFT_ABSENT};
        i += in_now;
        j += in_next;
    }
    return true;
}

bool raft_config_join(const struct raft_config *now, const struct raft_config *next, struct raft_config *ret_config)
{
    ASSERT(!raft_config_is_joint(now) && !raft_config_is_joint(next));
    struct raft_config joint;
    if (!merge_members(now, next, &joint)) {
        return false;
    }
    bool same_voters = true;
    for (uint32_t i = 0; i < joint.count; i++) {
        same_voters = same_voters && (joint.members[i].now == RAFT_VOTER) == (joint.members[i].next == RAFT_VOTER);
    }
    *ret_config = same_voters ? *next : joint;
    return true;
}

void raft_config_leave(const struct raft_config *joint, struct raft_config *ret_config)
{
    struct raft_config left = {0};
    for (uint32_t i = 0; i < joint->count; i++) {
        struct raft_member member = joint->members[i];
        if (member.next != RAFT_ABSENT) {
            member.now = member.next;
            left.members[left.count++] = member;
        }
    }
    *ret_config = left;
}

bool config__equal(const struct raft_config *a, const struct raft_config *b)
{
    bool equal = a->count == b->count;
    for (uint32_t i = 0; equal && i < a->count; i++) {
        const struct raft_member *m = &a->members[i];
        const struct raft_member *n = &b->members[i];
        equal = m->replica == n->replica && m->now == n->now && m->next == n->next;
    }
    return equal;
}

/* ---- majorities ---- */

uint32_t config__place(const struct raft_config *config, uint64_t replica)
{
    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].replica == replica) {
            return i;
        }
    }
    return PLACE_NONE;
}

bool config__votes_anywhere(const struct raft_config *config, uint32_t place)
{
    return place != PLACE_NONE &&
           (config->members[place].now == RAFT_VOTER || config->members[place].next == RAFT_VOTER);
}

bool config__votes_everywhere(const struct raft_config *config, uint32_t place)
{
    return place != PLACE_NONE && config->members[place].now == RAFT_VOTER && config->members[place].next == RAFT_VOTER;
}

uint32_t config__bit(uint32_t place)
{
    return place == PLACE_NONE ? 0 : 1u << place;
}

bool config__majority_of(const struct raft_config *config, uint32_t members)
{
    uint32_t now = 0;
    uint32_t next = 0;
    uint32_t voters_now = 0;
    uint32_t voters_next = 0;
    for (uint32_t i = 0; i < config->count; i++) {
        uint32_t in = members >> i & 1;
        uint32_t votes_now = config->members[i].now == RAFT_VOTER;
        uint32_t votes_next = config->members[i].next == RAFT_VOTER;
        voters_now += votes_now;
        voters_next += votes_next;
        now += in & votes_now;
        next += in & votes_next;
    }
    return now > voters_now / 2 && (PLANT(77) || next > voters_next / 2);
}

/* Sorts a voter's value in, largest first. */
static void sort_in(uint64_t *values, uint32_t *count, uint64_t value)
{
    uint32_t at = (*count)++;
    for (; at > 0 && values[at - 1] < value; at--) {
        values[at] = values[at - 1];
    }
    values[at] = value;
}

uint64_t config__reached(const struct raft_config *config, const uint64_t *values)
{
    uint64_t now[RAFT_MEMBERS_MAX];
    uint64_t next[RAFT_MEMBERS_MAX];
    uint32_t voters_now = 0;
    uint32_t voters_next = 0;
    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].now == RAFT_VOTER || (PLANT(76) && config->members[i].now == RAFT_LEARNER)) {
            sort_in(now, &voters_now, values[i]);
        }
        if (config->members[i].next == RAFT_VOTER || (PLANT(76) && config->members[i].next == RAFT_LEARNER)) {
            sort_in(next, &voters_next, values[i]);
        }
    }
    uint64_t reached_now = now[voters_now / 2];
    uint64_t reached_next = next[voters_next / 2];
    return reached_now < reached_next ? reached_now : reached_next;
}

/* ---- the history ---- */

void configs__init(struct configs *c, const struct raft_config_entry *entries, uint32_t count)
{
    ASSERT(count >= 1 && count <= RAFT_CONFIGS_MAX);
    c->count = count;
    c->version = 0;
    c->entries = mem_zeroed(count, sizeof *entries);
    memcpy(c->entries, entries, count * sizeof *entries);
}

void configs__done(struct configs *c)
{
    free(c->entries);
    *c = (struct configs){0};
}

static void resize(struct configs *c, uint32_t count)
{
    if (count != c->count) {
        c->entries = mem_grow(c->entries, count * sizeof *c->entries);
        c->count = count;
    }
}

const struct raft_config_entry *configs__newest(const struct configs *c)
{
    return &c->entries[c->count - 1];
}

bool configs__has_room(const struct configs *c, uint64_t from, uint32_t count)
{
    uint32_t kept = c->count;
    while (kept > 1 && c->entries[kept - 1].index >= from) {
        kept--;
    }
    return kept + count <= RAFT_CONFIGS_MAX;
}

void configs__push(struct configs *c, uint64_t index, const struct raft_config *config)
{
    ASSERT(c->count < RAFT_CONFIGS_MAX && index > configs__newest(c)->index);
    struct raft_config_entry entry = {.index = index, .config = *config}; /* which may stand in what moves now */
    resize(c, c->count + 1);
    c->entries[c->count - 1] = entry;
    c->version++;
}

void configs__truncate(struct configs *c, uint64_t from)
{
    uint32_t kept = c->count;
    while (c->entries[kept - 1].index >= from) {
        ASSERT(kept > 1); /* the base is never cut off */
        kept--;
        c->version++;
    }
    resize(c, kept);
}

void configs__compact(struct configs *c, uint64_t index)
{
    uint32_t dropped = 0;
    while (dropped + 1 < c->count && c->entries[dropped + 1].index <= index) {
        dropped++;
    }
    uint32_t kept = c->count - dropped;
    memmove(c->entries, c->entries + dropped, kept * sizeof *c->entries);
    resize(c, kept);
}

void configs__install(struct configs *c, uint64_t index, uint64_t config_index, const struct raft_config *config)
{
    struct raft_config_entry entry = {.index = config_index, .config = *config};
    configs__compact(c, index);
    c->entries[0] = entry;
    c->version++;
}

const struct raft_config_entry *configs__first_from(const struct configs *c, uint64_t index)
{
    const struct raft_config_entry *first = NULL;
    for (uint32_t i = c->count; i > 0 && c->entries[i - 1].index >= index; i--) {
        first = &c->entries[i - 1];
    }
    return first;
}

void configs__check(const struct configs *c, uint64_t base_index, uint64_t last_index)
{
    ASSERT(c->count >= 1 && c->count <= RAFT_CONFIGS_MAX);
    ASSERT(c->entries[0].index <= base_index && configs__newest(c)->index <= last_index);
    for (uint32_t i = 0; i < c->count; i++) {
        ASSERT(raft_config_is_sane(&c->entries[i].config));
        ASSERT(i == 0 || (c->entries[i].index > c->entries[i - 1].index && c->entries[i].index > base_index));
    }
}
