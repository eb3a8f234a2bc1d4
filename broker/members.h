/* Who is in a group: one configuration of it, by replica and by broker, and the payload of an ENTRY_CONFIG entry.
 *
 * Raft knows replica ids only; where a replica lives stands in the same entry, so that whoever has the log can reach
 * everybody in it. The history of configurations that a partition's log holds: roster.h. Changing them:
 * partition_change.
 *
 * A plain configuration says the same in `now` and `next`; a joint one differs for some member and is only ever made by
 * members_join. Nothing here allocates but members_encode. */
#ifndef FLOTILLA_BROKER_MEMBERS_H
#define FLOTILLA_BROKER_MEMBERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/limits.h"
#include "broker/entry.h"
#include "meta/meta.h"
#include "raft/raft.h"

struct member {
    uint64_t replica, broker; /* > 0; the replica of a wiped disk and the one that follows it share a broker */
    uint8_t now, next;        /* enum raft_membership, as in raft_config */
};

struct members {
    uint32_t count;
    struct member member[RAFT_MEMBERS_MAX]; /* rising by replica id */
};

/* The plain configuration that a group is born with: all of them voters. A birth record without voters gives none. */
void members_of_birth(const struct entry_birth *birth, struct members *ret_members);
void members_to_raft(const struct members *members, struct raft_config *ret_config);
/* As the checkpoint store's group row has them, sane or not. */
void members_of_row(const struct meta_group *row, struct members *ret_members);
void members_to_row(const struct members *members, struct meta_group *io_row);
/* raft_config_is_sane, and everybody lives somewhere. For what comes from outside. */
bool members_are_sane(const struct members *members);
bool members_are_joint(const struct members *members);
bool members_equal(const struct members *a, const struct members *b);
/* NULL: no such member. */
const struct member *members_find(const struct members *members, uint64_t replica);

/* For making the configuration that is wished for out of the present plain one: the replica becomes this (RAFT_ABSENT:
 * it goes). False: there is no room for one more. */
bool members_set(struct members *io_members, uint64_t replica, uint64_t broker, enum raft_membership membership);

/* raft_config_join and raft_config_leave, for members: the way from one plain configuration to another, and its end. */
bool members_join(const struct members *now, const struct members *next, struct members *ret_members);
void members_leave(const struct members *joint, struct members *ret_members);

/* A slice with its own buf, one reference, the caller's. */
struct slice members_encode(const struct members *members);
/* ERR_VERSION: written by a later build. ERR_FORMAT: no writer makes this. */
enum err members_decode(struct slice payload, struct members *ret_members);

#endif
