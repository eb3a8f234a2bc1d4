/* See assign.h. What the registry says is looked at partition by partition; nothing is kept here but which topics are
 * not settled. */
#include "broker/assign.h"

#include <string.h>

#include "base/assert.h"
#include "base/mark.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/impl.h"
#include "broker/router.h"

static bool is_on_our_disk(const struct broker *b, const struct registry_replica *replica)
{
    return PLANT(26) || memcmp(replica->disk_uuid, b->identity.disk_uuid, sizeof replica->disk_uuid) == 0;
}

static const struct registry_replica *wished(const struct registry_partition *wish, uint64_t replica)
{
    for (uint32_t r = 0; r < wish->replicas_count; r++) {
        if (wish->replicas[r].replica == replica) {
            return &wish->replicas[r];
        }
    }
    return NULL;
}

/* Looks at the topic again, soon or when it is its time. */
static void unsettle(struct topic *topic, bool soon)
{
    struct broker *b = topic_broker(topic);
    uint64_t now_us = clock_now_us(b->clock);
    uint64_t due_us = soon ? now_us : now_us + ASSIGN_INTERVAL_US;
    topic->is_settled = false;
    b->assign_due_us = due_us < b->assign_due_us ? due_us : b->assign_due_us;
}

/* --- the wish as of now --- */

static void on_read(void *context, enum err error)
{
    struct broker *b = context;
    b->is_reading = false;
    if (error != OK) {
        b->assign_due_us = clock_now_us(b->clock) + ASSIGN_INTERVAL_US; /* once more then */
        return;
    }
    b->readings_done = b->readings_begun;
    for (struct topic *topic = catalog_first(b->catalog); topic != NULL; topic = topic->hh.next) {
        topic->is_settled = false;
    }
    b->assign_due_us = clock_now_us(b->clock);
}

static void read_registry(struct broker *b)
{
    if (!b->is_reading && b->readings_wanted > b->readings_done && !b->stopping) {
        b->is_reading = true;
        b->readings_begun++;
        b->registry->ops->refresh(b->registry, on_read, b);
    }
}

void assign_lead(struct partition *p)
{
    struct broker *b = p->broker;
    if (p->topic != NULL && p->topic->row.partitions != NULL) {
        p->reading = b->readings_wanted = b->readings_begun + 1; /* one that is under way was asked for too early */
        read_registry(b);
    }
}

/* --- births --- */

void assign_birth(struct topic *topic, uint32_t number, uint64_t replica)
{
    struct broker *b = topic_broker(topic);
    const struct registry_topic *row = &topic->row;
    struct registry_partition wish;
    catalog_wish(topic, number, &wish);
    struct entry_birth birth = {.kind = (uint8_t)row->kind,
                                .partition = number,
                                .voters_count = wish.founders_count,
                                .config = {.segment_bytes = row->config.segment_bytes,
                                           .segment_ms = row->config.segment_ms,
                                           .retention_bytes = row->config.retention_bytes,
                                           .retention_ms = row->config.retention_ms,
                                           .max_batch_bytes = row->config.max_batch_bytes}};
    for (uint32_t i = 0; i < wish.founders_count; i++) {
        birth.voters[i] = wish.founders[i].replica;
        birth.voter_brokers[i] = wish.founders[i].broker;
    }
    struct partition *p = partition_new(b, wish.group, replica, &birth);
    p->topic = topic;
    p->is_unborn = true;
    topic->partitions[number] = p;
    struct wal_record record = {
        .type = WAL_GROUP_NEW, .group = p->group, .replica = replica, .payload = entry_encode_birth(&birth)};
    uint64_t lsn = partition__log(p, &record);
    slice_unref(&record.payload);
    groups_persist_add(b, p, 0, lsn);
    point(b->trace, POINT_REPLICA_LOGGED);
}

void assign_born(struct partition *p)
{
    if (p->topic != NULL) {
        unsettle(p->topic, true);
    }
}

/* What was there of the group under another id must have left the disk; a full one takes nothing new. */
static bool may_be_born(struct broker *b, uint64_t group)
{
    return !b->stopping && !groups_is_dying(b, group) && HASH_COUNT(b->groups) < GROUPS_MAX && broker__refusal(b) == OK;
}

static void say_lost(struct topic *topic, uint32_t number, const struct registry_replica *own)
{
    struct broker *b = topic_broker(topic);
    uint64_t group = topic->row.partitions[number].group;
    if (!topic->is_lost_said) {
        b->counters.replicas_lost_total++;
        trace_error(b->trace, "partition_lost", "topic=%s partition=%u group=%lu replica=%lu", topic->row.name, number,
                    group, own->replica);
    }
    mark(b->trace, MARK_LOST);
    b->registry->ops->report_lost(b->registry, group, own->replica);
    point(b->trace, POINT_REPLICA_LOST);
}

/* A topic's groups start when it is live; also who is wished no more may still be needed. What is here under the name
 * of a replica on another disk is not what the registry means. */
static void start(struct topic *topic, struct partition *p, const struct registry_replica *own)
{
    bool is_foreign = own != NULL && own->replica == p->replica && !is_on_our_disk(topic_broker(topic), own);
    if (topic->row.state == TOPIC_LIVE && p->state == PARTITION_BIRTH && !p->is_unborn && !is_foreign) {
        partition_start(p);
    }
}

/* The registry wants this replica here. True: there is nothing left to do. */
static bool settle_own(struct topic *topic, uint32_t number, const struct registry_replica *own)
{
    struct broker *b = topic_broker(topic);
    struct partition *p = topic->partitions[number];
    uint64_t group = topic->row.partitions[number].group;
    bool is_nobody = p != NULL && p->replica == 0; /* its row rotted, nothing is known of it */
    bool is_missing = p == NULL || is_nobody;      /* one that is new waits until the nobody is gone */
    if (!is_on_our_disk(b, own) || (is_missing && own->state == REPLICA_BORN && !PLANT(26))) {
        say_lost(topic, number, own);
        return false;
    }
    if (p == NULL) {
        if (may_be_born(b, group)) {
            assign_birth(topic, number, own->replica);
        } else {
            mark(b->trace, MARK_BIRTH_WAITS);
        }
        return false;
    }
    if (p->replica != own->replica || p->is_unborn) {
        return false; /* the one before must go first; or its birth is under way */
    }
    if (own->state == REPLICA_NEW) {
        b->registry->ops->report_born(b->registry, group, own->replica);
        point(b->trace, POINT_REPLICA_BORN);
    }
    return own->state == REPLICA_BORN && topic->row.state == TOPIC_LIVE;
}

/* --- from the fact to the wish --- */

/* Who is wished and no member yet learns; who learns and is wished no more goes. */
static bool learners_differ(const struct registry_partition *wish, struct members *io_members)
{
    const struct members now = *io_members;
    bool differs = false;
    for (uint32_t i = 0; i < now.count; i++) {
        if (now.member[i].next == RAFT_LEARNER && wished(wish, now.member[i].replica) == NULL) {
            differs |= members_set(io_members, now.member[i].replica, now.member[i].broker, RAFT_ABSENT);
        }
    }
    for (uint32_t r = 0; r < wish->replicas_count; r++) {
        const struct registry_replica *one = &wish->replicas[r];
        if (one->state == REPLICA_BORN && members_find(&now, one->replica) == NULL) {
            differs |= members_set(io_members, one->replica, one->broker, RAFT_LEARNER);
        }
    }
    return differs;
}

/* A replica waits to be born on this broker. */
static bool is_awaited(const struct registry_partition *wish, uint64_t broker)
{
    const struct registry_replica *one = registry_replica_on(wish, broker);
    return one != NULL && one->state == REPLICA_NEW;
}

enum goal {
    GOAL_NONE, /* it is too early */
    GOAL_LESS, /* who stands where another one is to be born goes first: a broker has one replica of a group at a time
                */
    GOAL_WISH, /* exactly who is wished votes: all of them are born */
};

static enum goal goal_of(const struct registry_partition *wish, struct members *io_members)
{
    const struct members now = *io_members;
    bool all_born = true;
    enum goal goal = GOAL_NONE;
    for (uint32_t r = 0; r < wish->replicas_count; r++) {
        const struct registry_replica *one = &wish->replicas[r];
        all_born = all_born && one->state == REPLICA_BORN && members_find(&now, one->replica) != NULL;
    }
    for (uint32_t i = 0; i < now.count; i++) {
        const struct member *member = &now.member[i];
        const struct registry_replica *one = wished(wish, member->replica);
        if (one != NULL) {
            members_set(io_members, one->replica, one->broker, RAFT_VOTER);
        } else if (all_born || is_awaited(wish, member->broker)) {
            members_set(io_members, member->replica, member->broker, RAFT_ABSENT);
            goal = GOAL_LESS;
        }
    }
    return all_born ? GOAL_WISH : goal;
}

/* Who leads and is to go lets somebody lead who stays. False: nobody can, or whoever could did not take it; then the
 * group is without a leader for an election timeout. */
static bool gives_way(struct partition *p, const struct registry_partition *wish)
{
    bool is_new = p->gave_way_term != raft_term(p->raft);
    p->gave_way_term = raft_term(p->raft);
    for (uint32_t r = 0; is_new && r < wish->replicas_count; r++) {
        struct raft_peer_state state;
        if (raft_peer_state(p->raft, wish->replicas[r].replica, &state) && state.active &&
            partition_transfer(p, wish->replicas[r].replica) == OK) {
            mark(p->broker->trace, MARK_WAY_GIVEN);
            return true;
        }
    }
    return false;
}

/* Most of those who are to vote answer now. Else the change could begin and never end: what is committed behind its
 * first step needs them. If there will be fewer than wished for a while, as many must answer as are wished by then. */
static bool can_do_without_others(const struct partition *p, const struct registry_partition *wish,
                                  const struct members *next, enum goal goal)
{
    uint32_t voters = 0, present = 0, born = 0;
    for (uint32_t i = 0; i < next->count; i++) {
        struct raft_peer_state state;
        uint64_t replica = next->member[i].replica;
        if (next->member[i].next == RAFT_VOTER) {
            bool answers = raft_peer_state(p->raft, replica, &state) && state.active && !state.damaged;
            voters++;
            present += replica == p->replica || answers;
        }
    }
    for (uint32_t r = 0; r < wish->replicas_count; r++) {
        born += wish->replicas[r].state == REPLICA_BORN;
    }
    return present > voters / 2 && (goal == GOAL_WISH || present >= born);
}

/* The leader's next step. True: the configuration is as wished, and committed. */
static bool settle_members(struct partition *p, const struct registry_partition *wish)
{
    struct members now;
    uint64_t index = roster_newest(&p->roster, &now);
    if (members_are_joint(&now) || index > p->applied_index) {
        return false;
    }
    struct members next = now;
    if (learners_differ(wish, &next)) {
        (void)partition_change(p, &next); /* what cannot be now is tried again */
        return false;
    }
    enum goal goal = goal_of(wish, &next);
    if (goal == GOAL_NONE) {
        return false;
    }
    if (members_equal(&now, &next)) {
        return true;
    }
    if (!can_do_without_others(p, wish, &next, goal)) {
        mark(p->broker->trace, MARK_NEEDED);
        return false;
    }
    if (wished(wish, p->replica) == NULL && gives_way(p, wish)) {
        return false;
    }
    (void)partition_change(p, &next);
    return false;
}

/* --- the end of a replica --- */

static void row_to(struct partition *p, enum peer_refusal type, uint64_t replica, uint64_t broker, uint64_t index)
{
    RaftRow row = {.type = type, .group = p->group, .from = p->replica, .to = replica, .index = index};
    (void)peers_send(p->broker->peers, broker, PEER_LANE_CONTROL, &row, NULL, 0);
}

/* All brokers that are there: where the members live may be known neither to the log here nor to the registry, when
 * they all are to be others. */
static void ask_members(struct partition *p)
{
    struct peers_state peer;
    mark(p->broker->trace, MARK_ASKS_MEMBERS);
    for (uint32_t i = 0; peers_state(p->broker->peers, i, &peer); i++) {
        if (peer.up) {
            row_to(p, PEER_AM_I_MEMBER, 0, peer.broker, 0);
        }
    }
}

static void end_replica(struct partition *p, const char *why)
{
    struct topic *topic = p->topic;
    trace_info(p->broker->trace, "replica_removed", "group=%lu replica=%lu why=\"%s\"", p->group, p->replica, why);
    p->broker->counters.replicas_removed_total++;
    point(p->broker->trace, POINT_REPLICA_ENDS);
    unsettle(topic, false); /* another one may be wished here */
    topic->partitions[p->number] = NULL;
    p->topic = NULL;
    partition_kill(p, ERR_NOT_LEADER);
}

/* The registry does not wish the replica that is here. Whoever leads it will see to it, if anybody does: what it knows
 * of a leader may be old. */
static void settle_unwished(struct partition *p)
{
    if (p->is_removed) {
        end_replica(p, "its removal is committed");
    } else if (p->raft == NULL || raft_role(p->raft) != RAFT_LEADER) {
        ask_members(p);
    }
}

/* The index of the last configuration in the log here that names the replica; false: none does. */
static bool named_at(const struct roster *roster, uint64_t replica, uint64_t *ret_index)
{
    for (const struct roster_entry *entry = roster->newest; entry != NULL; entry = entry->older) {
        for (uint32_t i = 0; i < entry->count; i++) {
            if (entry->member[i].replica == replica) {
                *ret_index = entry->index;
                return true;
            }
        }
    }
    return false;
}

/* Some member says that a configuration without us is committed at row->index. */
static void on_removed(struct partition *p, const RaftRow *row)
{
    struct registry_partition wish;
    uint64_t index;
    if (p->topic == NULL || p->topic->row.partitions == NULL || p->topic->row.state != TOPIC_LIVE) {
        return;
    }
    catalog_wish(p->topic, p->number, &wish);
    bool is_newer = named_at(&p->roster, p->replica, &index) && index > row->index;
    if (wished(&wish, p->replica) == NULL && !is_newer) {
        mark(p->broker->trace, MARK_REMOVED_BY_WORD);
        end_replica(p, "a member says so");
    } else {
        mark(p->broker->trace, MARK_REMOVED_IS_OLD);
    }
}

/* Tells a replica that it was removed, if that can be said: by a configuration that is committed, and names us. */
static void tell_removed(struct partition *p, uint64_t replica, uint64_t broker)
{
    struct members now;
    uint64_t index = roster_at(&p->roster, p->applied_index, &now);
    uint64_t named;
    if (members_find(&now, p->replica) == NULL || members_find(&now, replica) != NULL ||
        (named_at(&p->roster, replica, &named) && named > index)) {
        return;
    }
    if (p->topic != NULL && p->topic->row.partitions != NULL) {
        struct registry_partition wish;
        catalog_wish(p->topic, p->number, &wish);
        if (wished(&wish, replica) != NULL) {
            return; /* it is to become a member */
        }
    }
    mark(p->broker->trace, MARK_TOLD_REMOVED);
    row_to(p, PEER_REMOVED, replica, broker, index);
}

/* --- strangers --- */

bool assign_lets_speak(struct partition *p, uint64_t broker, const RaftRow *row)
{
    struct registry_partition wish = {0};
    if (p->topic != NULL && p->topic->row.partitions != NULL) {
        catalog_wish(p->topic, p->number, &wish);
    }
    const struct registry_replica *one = wished(&wish, row->from);
    if (one != NULL && one->broker == broker) {
        return true;
    }
    switch (row->type) {
    case RAFT_APPEND: /* a leader by a configuration that has not come here yet; who led once has an old term */
    case RAFT_BEAT:
        return row->term >= raft_term(p->raft);
    case RAFT_APPEND_REPLY: /* of who leaves and is being told so */
    case RAFT_BEAT_REPLY:
        return roster_broker_of(&p->roster, row->from) == broker;
    case RAFT_VOTE_REQUEST: /* the only one who can win may be in a configuration that has not come here yet */
        if (raft_leader(p->raft) == 0 && !raft_is_quiet(p->raft)) {
            return true;
        }
        mark(p->broker->trace, MARK_STRANGER_CAMPAIGNS);
        tell_removed(p, row->from, broker);
        return false;
    default:
        return false;
    }
}

void assign_on_row(struct broker *b, uint64_t broker, const RaftRow *row)
{
    struct partition *p = groups_find(b, row->group);
    if (p == NULL) {
        return;
    }
    if (row->type == PEER_AM_I_MEMBER && p->raft != NULL) {
        tell_removed(p, row->from, broker);
    } else if (row->type == PEER_REMOVED && p->replica == row->to) {
        on_removed(p, row);
    }
}

/* --- turns --- */

/* True: all is as wished, as far as this broker has to do with it. */
static bool settle_partition(struct topic *topic, uint32_t number)
{
    struct broker *b = topic_broker(topic);
    const struct registry_partition wish = topic->row.partitions[number]; /* a copy: what follows may bring a new row */
    const struct registry_replica *own = registry_replica_on(&wish, b->identity.broker);
    bool is_settled = own == NULL || settle_own(topic, number, own);
    struct partition *p = topic->partitions[number];
    if (p != NULL) {
        start(topic, p, own);
    }
    bool is_here = p != NULL && (p->state == PARTITION_LIVE || p->state == PARTITION_DAMAGED);
    if (!is_here || topic->row.state != TOPIC_LIVE) {
        return is_settled;
    }
    bool leads = partition_leads(p) || (PLANT(31) && p->raft != NULL && raft_role(p->raft) == RAFT_LEADER);
    if (leads && p->reading <= b->readings_done) {
        is_settled = settle_members(p, &wish) && is_settled;
    }
    if (wished(&wish, p->replica) == NULL) {
        settle_unwished(p);
        is_settled = false;
    }
    return is_settled;
}

static void settle_topic(struct topic *topic)
{
    bool is_settled = true;
    topic->is_settled = true;
    if (topic->row.state != TOPIC_CREATING && topic->row.state != TOPIC_LIVE) {
        return;
    }
    for (uint32_t i = 0; i < topic->row.partitions_count; i++) {
        is_settled = settle_partition(topic, i) && is_settled;
    }
    topic->is_lost_said = true; /* once for each row */
    if (!is_settled) {
        unsettle(topic, false);
    }
}

void assign_topic(struct topic *topic)
{
    settle_topic(topic);
}

void assign_timer(struct broker *b, uint64_t now_us)
{
    if (now_us < b->assign_due_us) {
        return;
    }
    b->assign_due_us = UINT64_MAX;
    read_registry(b);
    for (struct topic *topic = catalog_first(b->catalog); topic != NULL && !b->stopping; topic = topic->hh.next) {
        if (topic->row.partitions != NULL && !topic->is_settled) {
            settle_topic(topic);
        }
    }
}

uint64_t assign_deadline_us(const struct broker *b)
{
    return b->assign_due_us;
}
