/* The configurations that one partition's log holds, and where everybody lives whom it may hear from.
 *
 * A configuration is in force from the moment its entry is in the log, and is undone when that is cut off; so each one
 * stands here with its index: the one that was in force at the last checkpoint (or at the front of the window, if that
 * is earlier), and all behind it. At most RAFT_CONFIGS_MAX: who has no room takes no more until a checkpoint has moved
 * the front. Whatever raft holds of its own history is here too, and so is all that a start finds in the log.
 *
 * Besides there are a few *others*, in none of those configurations: who left and is still to be told so, and who
 * spoke to us as a member of a configuration that we have not seen yet.
 *
 * Owner: struct partition, which there are ten thousand of: one block of the size that its members need, and one more
 * only while it has others. Threads: the loop. */
#ifndef FLOTILLA_BROKER_ROSTER_H
#define FLOTILLA_BROKER_ROSTER_H

#include "broker/members.h"

#define ROSTER_OTHERS_MAX 8u
/* Held without haste: a whole change (a learner, joint, its end) fits in what is left. */
#define ROSTER_EASY_MAX   (RAFT_CONFIGS_MAX - 3u)

struct roster_entry {
    struct roster_entry *older; /* NULL: the first one */
    uint64_t index;             /* of its entry; 0: birth */
    uint32_t count;
    struct member member[]; /* rising by replica id */
};

struct roster_other {
    uint64_t replica, broker;
};

struct roster {
    struct roster_entry *newest; /* owned, with all older ones; never NULL after roster_init */
    struct roster_other *others; /* owned; ROSTER_OTHERS_MAX of them, or NULL */
    uint8_t count, others_count;
};

/* --- the history --- */

/* Holds nothing but this one, whose entry was at `index`. */
void roster_init(struct roster *roster, uint64_t index, const struct members *members);
void roster_free(struct roster *roster);
/* `count` more fit, the first of them at index, where the log is cut off first if it is longer. A leader asks for two
 * when the one that it appends is joint. */
bool roster_has_room(const struct roster *roster, uint64_t index, uint32_t count);
/* The entry at index, the last of the log, is this one. Only with room. */
void roster_push(struct roster *roster, uint64_t index, const struct members *members);
/* The entries >= from_index were cut off; the first one never is. */
void roster_truncate(struct roster *roster, uint64_t from_index);
/* Nobody asks for what was in force before index any more. Who is in no later one becomes one of the others. */
void roster_compact(struct roster *roster, uint64_t index);
/* A snapshot up to `index` holds this one, whose entry was at config_index. Newer ones stay if its log goes on. */
void roster_install(struct roster *roster, uint64_t index, uint64_t config_index, const struct members *members,
                    bool log_goes_on);

/* --- questions --- */

/* The one in force; returns its index. */
uint64_t roster_newest(const struct roster *roster, struct members *ret_members);
/* The one that was in force at `index`, not before the first; returns its index. */
uint64_t roster_at(const struct roster *roster, uint64_t index, struct members *ret_members);
/* All of them, as raft_new wants them: of those at or below base_index the last one. Returns how many. */
uint32_t roster_to_raft(const struct roster *roster, uint64_t base_index,
                        struct raft_config_entry ret_configs[RAFT_CONFIGS_MAX]);
/* The index of the first one whose entry is behind `index`; UINT64_MAX: there is none. */
uint64_t roster_first_behind(const struct roster *roster, uint64_t index);
/* Nobody else is in the configuration in force. */
bool roster_is_alone(const struct roster *roster, uint64_t replica);
/* The brokers of those who vote, or will when the joint configuration ends, by replica; returns how many. */
uint32_t roster_voters(const struct roster *roster, uint64_t ret_brokers[RAFT_VOTERS_MAX]);
/* In the configuration in force. */
bool roster_is_in_force(const struct roster *roster, uint64_t replica);
/* In any of the configurations. */
bool roster_is_member(const struct roster *roster, uint64_t replica);

/* --- who lives where --- */

/* The broker of a member or of one of the others; 0: not known. */
uint64_t roster_broker_of(const struct roster *roster, uint64_t replica);
/* Somebody unknown spoke, from this broker. Beyond ROSTER_OTHERS_MAX the one that was met first is forgotten. */
void roster_meet(struct roster *roster, uint64_t replica, uint64_t broker);
/* Everybody, once each, in no order that means anything: begins with *io_place = 0. False: that was all. */
bool roster_each(const struct roster *roster, uint32_t *io_place, struct roster_other *ret_one);

#endif
