/* Configurations with the brokers in them. The rules are raft's: what is computed here is what raft makes of the same
 * replica ids, so that the two never disagree about who is in. */
#include "broker/members.h"

#include <string.h>

#include "base/assert.h"
#include "base/endian.h"
#include "base/mem.h"

#define MEMBERS_VERSION     1
#define MEMBERS_FIXED_BYTES 2u
#define MEMBER_BYTES        18u

static void members__sort_in(struct members *members, struct member member)
{
    uint32_t at = members->count++;
    for (; at > 0 && members->member[at - 1].replica > member.replica; at--) {
        members->member[at] = members->member[at - 1];
    }
    members->member[at] = member;
}

void members_of_birth(const struct entry_birth *birth, struct members *ret_members)
{
    struct members members = {0};
    for (uint32_t i = 0; i < birth->voters_count; i++) {
        members__sort_in(&members, (struct member){.replica = birth->voters[i],
                                                   .broker = birth->voter_brokers[i],
                                                   .now = RAFT_VOTER,
                                                   .next = RAFT_VOTER});
    }
    *ret_members = members;
}

void members_to_raft(const struct members *members, struct raft_config *ret_config)
{
    struct raft_config config = {.count = members->count};
    for (uint32_t i = 0; i < members->count; i++) {
        const struct member *m = &members->member[i];
        config.members[i] = (struct raft_member){.replica = m->replica, .now = m->now, .next = m->next};
    }
    *ret_config = config;
}

void members_of_row(const struct meta_group *row, struct members *ret_members)
{
    ret_members->count = row->members_count;
    for (uint32_t i = 0; i < row->members_count; i++) {
        const struct meta_member *m = &row->members[i];
        ret_members->member[i] =
            (struct member){.replica = m->replica, .broker = m->broker, .now = m->now, .next = m->next};
    }
}

void members_to_row(const struct members *members, struct meta_group *io_row)
{
    io_row->members_count = members->count;
    for (uint32_t i = 0; i < members->count; i++) {
        const struct member *m = &members->member[i];
        io_row->members[i] =
            (struct meta_member){.replica = m->replica, .broker = m->broker, .now = m->now, .next = m->next};
    }
}

bool members_are_sane(const struct members *members)
{
    struct raft_config config;
    if (members->count > RAFT_MEMBERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < members->count; i++) {
        if (members->member[i].broker == 0) {
            return false;
        }
    }
    members_to_raft(members, &config);
    return raft_config_is_sane(&config);
}

bool members_are_joint(const struct members *members)
{
    for (uint32_t i = 0; i < members->count; i++) {
        if (members->member[i].now != members->member[i].next) {
            return true;
        }
    }
    return false;
}

bool members_equal(const struct members *a, const struct members *b)
{
    bool equal = a->count == b->count;
    for (uint32_t i = 0; equal && i < a->count; i++) {
        const struct member *m = &a->member[i], *n = &b->member[i];
        equal = m->replica == n->replica && m->broker == n->broker && m->now == n->now && m->next == n->next;
    }
    return equal;
}

const struct member *members_find(const struct members *members, uint64_t replica)
{
    for (uint32_t i = 0; i < members->count; i++) {
        if (members->member[i].replica == replica) {
            return &members->member[i];
        }
    }
    return NULL;
}

bool members_set(struct members *io_members, uint64_t replica, uint64_t broker, enum raft_membership membership)
{
    const struct member *found = members_find(io_members, replica);
    if (found != NULL) {
        uint32_t at = (uint32_t)(found - io_members->member);
        io_members->count--;
        memmove(&io_members->member[at], &io_members->member[at + 1],
                (io_members->count - at) * sizeof io_members->member[0]);
    }
    if (membership == RAFT_ABSENT) {
        return true;
    }
    if (io_members->count == RAFT_MEMBERS_MAX) {
        return false;
    }
    members__sort_in(
        io_members,
        (struct member){.replica = replica, .broker = broker, .now = (uint8_t)membership, .next = (uint8_t)membership});
    return true;
}

/* Puts the brokers to a configuration that raft made of these two. */
static void members__of_raft(const struct raft_config *config, const struct members *now, const struct members *next,
                             struct members *ret_members)
{
    ret_members->count = config->count;
    for (uint32_t i = 0; i < config->count; i++) {
        const struct raft_member *m = &config->members[i];
        const struct member *known = members_find(next, m->replica);
        known = known != NULL ? known : members_find(now, m->replica);
        ASSERT(known != NULL);
        ret_members->member[i] =
            (struct member){.replica = m->replica, .broker = known->broker, .now = m->now, .next = m->next};
    }
}

bool members_join(const struct members *now, const struct members *next, struct members *ret_members)
{
    struct raft_config from, to, joint;
    struct members joined = {0};
    members_to_raft(now, &from);
    members_to_raft(next, &to);
    if (!raft_config_join(&from, &to, &joint)) {
        return false;
    }
    members__of_raft(&joint, now, next, &joined);
    *ret_members = joined;
    return true;
}

void members_leave(const struct members *joint, struct members *ret_members)
{
    struct raft_config config, left;
    struct members members = {0};
    members_to_raft(joint, &config);
    raft_config_leave(&config, &left);
    members__of_raft(&left, joint, joint, &members);
    *ret_members = members;
}

struct slice members_encode(const struct members *members)
{
    ASSERT(members_are_sane(members));
    uint32_t size = MEMBERS_FIXED_BYTES + members->count * MEMBER_BYTES;
    struct buf *b = buf_new(size);
    if (b == NULL) {
        mem_exhausted();
    }
    uint8_t *at = b->data;
    at[0] = MEMBERS_VERSION;
    at[1] = (uint8_t)members->count;
    at += MEMBERS_FIXED_BYTES;
    for (uint32_t i = 0; i < members->count; i++, at += MEMBER_BYTES) {
        store_le64(at, members->member[i].replica);
        store_le64(at + 8, members->member[i].broker);
        at[16] = members->member[i].now;
        at[17] = members->member[i].next;
    }
    return (struct slice){.buf = b, .data = b->data, .size = size};
}

enum err members_decode(struct slice payload, struct members *ret_members)
{
    struct members members = {0};
    if (payload.size < MEMBERS_FIXED_BYTES) {
        return ERR_FORMAT;
    }
    if (payload.data[0] != MEMBERS_VERSION) {
        return ERR_VERSION;
    }
    members.count = payload.data[1];
    if (members.count > RAFT_MEMBERS_MAX || payload.size != MEMBERS_FIXED_BYTES + members.count * MEMBER_BYTES) {
        return ERR_FORMAT;
    }
    const uint8_t *at = payload.data + MEMBERS_FIXED_BYTES;
    for (uint32_t i = 0; i < members.count; i++, at += MEMBER_BYTES) {
        members.member[i] =
            (struct member){.replica = load_le64(at), .broker = load_le64(at + 8), .now = at[16], .next = at[17]};
    }
    if (!members_are_sane(&members)) {
        return ERR_FORMAT;
    }
    *ret_members = members;
    return OK;
}
