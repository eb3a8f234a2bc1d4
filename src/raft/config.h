/* Who is in the group: the configurations that a log holds, and majorities of one.
 *
 * A configuration takes effect when its entry is appended and is undone when that is cut off (dissertation section
 * 4.1), so the history keeps every one whose entry is in the log, and the one in force at the log's base. A place is
 * a member's position in a configuration; sets of members are masks of places. Most logs hold one configuration, so
 * there is memory for as many as there are: it moves when one comes or leaves, never otherwise. Owner: struct raft. */
#ifndef FLOTILLA_RAFT_CONFIG_H
#define FLOTILLA_RAFT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "raft/raft.h"

#define PLACE_NONE UINT32_MAX

struct configs {
    uint32_t count;                    /* at least one */
    uint32_t version;                  /* changes with every change of the newest one */
    struct raft_config_entry *entries; /* owned; rising by index, the newest is in force; at most RAFT_CONFIGS_MAX */
};

/* `count` configurations, rising by index. */
void configs__init(struct configs *c, const struct raft_config_entry *entries, uint32_t count);
void configs__done(struct configs *c);

/* The one in force. */
const struct raft_config_entry *configs__newest(const struct configs *c);

/* True when `count` more fit once those at >= from are cut off. */
bool configs__has_room(const struct configs *c, uint64_t from, uint32_t count);

/* The entry at index, the last of the log, is this one. Bounded: see configs__has_room. */
void configs__push(struct configs *c, uint64_t index, const struct raft_config *config);

/* The entries >= from were cut off. */
void configs__truncate(struct configs *c, uint64_t from);

/* The entries <= index left the log: of theirs the newest stays. */
void configs__compact(struct configs *c, uint64_t index);

/* A snapshot up to index holds this one, whose entry was at config_index; what is newer stays. */
void configs__install(struct configs *c, uint64_t index, uint64_t config_index, const struct raft_config *config);

/* The first one whose entry is at index or behind it; NULL: none. */
const struct raft_config_entry *configs__first_from(const struct configs *c, uint64_t index);

void configs__check(const struct configs *c, uint64_t base_index, uint64_t last_index);

/* ---- one configuration ---- */

/* The place of a replica, PLACE_NONE if it is no member. */
uint32_t config__place(const struct raft_config *config, uint64_t replica);

/* The member at a place is a voter, in one of the halves or in both. */
bool config__votes_anywhere(const struct raft_config *config, uint32_t place);
bool config__votes_everywhere(const struct raft_config *config, uint32_t place);

/* The mask of one place; 0 for PLACE_NONE. */
uint32_t config__bit(uint32_t place);

/* True when `members` has a majority of the voters of each half. Learners in it do not matter. */
bool config__majority_of(const struct raft_config *config, uint32_t members);

/* The largest value that a majority of each half has reached; values by place. */
uint64_t config__reached(const struct raft_config *config, const uint64_t *values);

bool config__equal(const struct raft_config *a, const struct raft_config *b);

#endif
