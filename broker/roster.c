/* A partition's configurations: a list from the newest to the oldest, since what is asked is nearly always the newest.
 * See roster.h. */
#include "broker/roster.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

static struct roster_entry *roster__entry_new(uint64_t index, const struct members *members)
{
    size_t bytes = members->count * sizeof members->member[0];
    struct roster_entry *entry = mem_zeroed(1, sizeof *entry + bytes);
    entry->index = index;
    entry->count = members->count;
    memcpy(entry->member, members->member, bytes);
    return entry;
}

static const struct member *roster__find(const struct roster_entry *entry, uint64_t replica)
{
    for (uint32_t i = 0; i < entry->count; i++) {
        if (entry->member[i].replica == replica) {
            return &entry->member[i];
        }
    }
    return NULL;
}

static const struct member *roster__find_anywhere(const struct roster *roster, uint64_t replica)
{
    for (const struct roster_entry *entry = roster->newest; entry != NULL; entry = entry->older) {
        const struct member *member = roster__find(entry, replica);
        if (member != NULL) {
            return member;
        }
    }
    return NULL;
}

/* --- the history --- */

void roster_init(struct roster *roster, uint64_t index, const struct members *members)
{
    *roster = (struct roster){.newest = roster__entry_new(index, members), .count = 1};
}

static void roster__pop(struct roster *roster)
{
    struct roster_entry *entry = roster->newest;
    roster->newest = entry->older;
    roster->count--;
    free(entry);
}

void roster_free(struct roster *roster)
{
    while (roster->newest != NULL) {
        roster__pop(roster);
    }
    free(roster->others);
    *roster = (struct roster){0};
}

bool roster_has_room(const struct roster *roster, uint64_t index, uint32_t count)
{
    uint32_t kept = roster->count;
    for (const struct roster_entry *e = roster->newest; e != NULL && e->index >= index; e = e->older) {
        kept--;
    }
    return kept + count <= RAFT_CONFIGS_MAX;
}

void roster_push(struct roster *roster, uint64_t index, const struct members *members)
{
    ASSERT(roster->count < RAFT_CONFIGS_MAX && index > roster->newest->index);
    struct roster_entry *entry = roster__entry_new(index, members);
    entry->older = roster->newest;
    roster->newest = entry;
    roster->count++;
}

void roster_truncate(struct roster *roster, uint64_t from_index)
{
    while (roster->newest->index >= from_index) {
        ASSERT(roster->newest->older != NULL);
        roster__pop(roster);
    }
}

/* Drops what is older than this one, and keeps in mind where those lived who are in no later one. */
static void roster__cut_behind(struct roster *roster, struct roster_entry *oldest)
{
    struct roster_entry *entry = oldest->older, *older;
    oldest->older = NULL;
    for (; entry != NULL; entry = older) {
        older = entry->older;
        for (uint32_t i = 0; i < entry->count; i++) {
            if (roster__find_anywhere(roster, entry->member[i].replica) == NULL) {
                roster_meet(roster, entry->member[i].replica, entry->member[i].broker);
            }
        }
        roster->count--;
        free(entry);
    }
}

void roster_compact(struct roster *roster, uint64_t index)
{
    struct roster_entry *entry = roster->newest;
    while (entry->older != NULL && entry->index > index) {
        entry = entry->older;
    }
    if (entry->older != NULL) {
        roster__cut_behind(roster, entry);
    }
}

void roster_install(struct roster *roster, uint64_t index, uint64_t config_index, const struct members *members,
                    bool log_goes_on)
{
    struct roster_entry *installed = roster__entry_new(config_index, members);
    struct roster_entry *newer = NULL;
    ASSERT(config_index <= index);
    if (log_goes_on) {
        for (struct roster_entry *e = roster->newest; e != NULL && e->index > index; e = e->older) {
            newer = e;
        }
    }
    installed->older = newer != NULL ? newer->older : roster->newest;
    if (newer != NULL) {
        newer->older = installed;
    } else {
        roster->newest = installed;
    }
    roster->count++;
    roster__cut_behind(roster, installed);
}

/* --- questions --- */

static uint64_t roster__copy(const struct roster_entry *entry, struct members *ret_members)
{
    ret_members->count = entry->count;
    memcpy(ret_members->member, entry->member, entry->count * sizeof entry->member[0]);
    return entry->index;
}

uint64_t roster_newest(const struct roster *roster, struct members *ret_members)
{
    return roster__copy(roster->newest, ret_members);
}

uint64_t roster_at(const struct roster *roster, uint64_t index, struct members *ret_members)
{
    const struct roster_entry *entry = roster->newest;
    while (entry->index > index) {
        entry = entry->older;
        ASSERT(entry != NULL);
    }
    return roster__copy(entry, ret_members);
}

uint32_t roster_to_raft(const struct roster *roster, uint64_t base_index,
                        struct raft_config_entry ret_configs[RAFT_CONFIGS_MAX])
{
    uint32_t count = 0;
    for (const struct roster_entry *e = roster->newest; e != NULL; e = e->older) {
        count++;
        if (e->index <= base_index) {
            break;
        }
    }
    const struct roster_entry *entry = roster->newest;
    for (uint32_t at = count; at > 0; at--, entry = entry->older) {
        struct members members;
        ret_configs[at - 1].index = roster__copy(entry, &members);
        members_to_raft(&members, &ret_configs[at - 1].config);
    }
    return count;
}

uint64_t roster_first_behind(const struct roster *roster, uint64_t index)
{
    uint64_t first = UINT64_MAX;
    for (const struct roster_entry *e = roster->newest; e != NULL && e->index > index; e = e->older) {
        first = e->index;
    }
    return first;
}

bool roster_is_alone(const struct roster *roster, uint64_t replica)
{
    return roster->newest->count == 1 && roster->newest->member[0].replica == replica;
}

uint32_t roster_voters(const struct roster *roster, uint64_t ret_brokers[RAFT_VOTERS_MAX])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < roster->newest->count && count < RAFT_VOTERS_MAX; i++) {
        if (roster->newest->member[i].next == RAFT_VOTER) {
            ret_brokers[count++] = roster->newest->member[i].broker;
        }
    }
    return count;
}

bool roster_is_in_force(const struct roster *roster, uint64_t replica)
{
    return roster__find(roster->newest, replica) != NULL;
}

bool roster_is_member(const struct roster *roster, uint64_t replica)
{
    return roster__find_anywhere(roster, replica) != NULL;
}

/* --- who lives where --- */

uint64_t roster_broker_of(const struct roster *roster, uint64_t replica)
{
    const struct member *member = roster__find_anywhere(roster, replica);
    if (member != NULL) {
        return member->broker;
    }
    for (uint32_t i = 0; i < roster->others_count; i++) {
        if (roster->others[i].replica == replica) {
            return roster->others[i].broker;
        }
    }
    return 0;
}

void roster_meet(struct roster *roster, uint64_t replica, uint64_t broker)
{
    for (uint32_t i = 0; i < roster->others_count; i++) {
        if (roster->others[i].replica == replica) {
            return;
        }
    }
    if (roster->others == NULL) {
        roster->others = mem_zeroed(ROSTER_OTHERS_MAX, sizeof roster->others[0]);
    }
    if (roster->others_count == ROSTER_OTHERS_MAX) {
        roster->others_count--;
        memmove(&roster->others[0], &roster->others[1], roster->others_count * sizeof roster->others[0]);
    }
    roster->others[roster->others_count++] = (struct roster_other){.replica = replica, .broker = broker};
}

/* Places: the members of each configuration, from the newest on, then the others. */
bool roster_each(const struct roster *roster, uint32_t *io_place, struct roster_other *ret_one)
{
    uint32_t place = 0;
    for (const struct roster_entry *e = roster->newest; e != NULL; e = e->older) {
        for (uint32_t i = 0; i < e->count; i++, place++) {
            /* Who is in a newer one too is found there. */
            if (place >= *io_place && roster__find_anywhere(roster, e->member[i].replica) == &e->member[i]) {
                *ret_one = (struct roster_other){.replica = e->member[i].replica, .broker = e->member[i].broker};
                *io_place = place + 1;
                return true;
            }
        }
    }
    for (uint32_t i = 0; i < roster->others_count; i++, place++) {
        if (place >= *io_place && roster__find_anywhere(roster, roster->others[i].replica) == NULL) {
            *ret_one = roster->others[i];
            *io_place = place + 1;
            return true;
        }
    }
    *io_place = place;
    return false;
}
