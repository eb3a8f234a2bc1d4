/* Who is in the group, and who leads it, changed on purpose: what the leader proposes, and what every replica makes of
 * a configuration in its log.
 *
 * A configuration is in force as soon as its entry stands in the log (the roster gets it then), so nothing but the
 * bookkeeping of a log that must not hold too many of them happens when it is applied: a checkpoint is asked for, which
 * lets the older ones go. */
#include "base/assert.h"
#include "base/mark.h"
#include "base/plant.h"
#include "base/point.h"
#include "broker/impl.h"
#include "broker/yield.h"

/* --- the leader --- */

static void change__append(struct partition *p, const struct members *members)
{
    struct raft_config config;
    struct window_entry entry = {.term = raft_term(p->raft), .type = ENTRY_CONFIG, .payload = members_encode(members)};
    members_to_raft(members, &config);
    window_push(&p->window, &entry);
    raft_step(p->raft,
              &(struct raft_event){.type = RAFT_CHANGE, .change = {.config = &config, .bytes = entry.payload.size}});
    ASSERT(raft_last_index(p->raft) == window_last(&p->window));
    roster_push(&p->roster, window_last(&p->window), members);
    mark(p->broker->trace, MARK_CHANGE_PROPOSED);
    p->broker->counters.configs_proposed_total++;
    if (members_are_joint(members)) {
        mark(p->broker->trace, MARK_CHANGE_JOINT);
    }
    trace_info(p->broker->trace, "config_proposed", "group=%lu index=%lu members=%u joint=%d", p->group,
               window_last(&p->window), members->count, (int)members_are_joint(members));
    partition__members_changed(p);
    partition_mark_dirty(p);
    point(p->broker->trace, POINT_CONFIG_APPENDED);
}

static enum err change__error_of(enum raft_change_verdict verdict)
{
    switch (verdict) {
    case RAFT_CHANGE_OK:
        return OK;
    case RAFT_CHANGE_NOT_LEADER:
        return ERR_NOT_LEADER;
    case RAFT_CHANGE_PENDING:
    case RAFT_CHANGE_CROWDED:
        return ERR_BUSY;
    case RAFT_CHANGE_NOT_READY:
        return ERR_NOT_READY;
    case RAFT_CHANGE_BEHIND:
        return ERR_AGAIN;
    case RAFT_CHANGE_SENSELESS:
        break;
    }
    return ERR_INVALID;
}

/* A core that was alone was never told the time; what follows counts from now. */
static void change__tell_time(struct partition *p)
{
    partition_tick(p, pulse_now_ms(p->broker));
}

enum err partition_change(struct partition *p, const struct members *next)
{
    struct members now, step;
    struct raft_config config;
    enum err error = partition_status(p);
    if (error != OK && !PLANT(31)) {
        return error;
    }
    if (!members_are_sane(next) || members_are_joint(next)) {
        return ERR_INVALID;
    }
    change__tell_time(p);
    roster_newest(&p->roster, &now);
    if (members_equal(&now, next)) {
        return OK;
    }
    if (members_are_joint(&now)) {
        return ERR_BUSY;
    }
    if (!members_join(&now, next, &step)) {
        return ERR_INVALID;
    }
    if (!roster_has_room(&p->roster, window_last(&p->window) + 1, members_are_joint(&step) ? 2 : 1)) {
        mark(p->broker->trace, MARK_CHANGE_CROWDED);
        checkpoint_want(p);
        return ERR_BUSY;
    }
    members_to_raft(&step, &config);
    error = change__error_of(raft_may_change(p->raft, &config));
    if (error == OK) {
        change__append(p, &step);
    } else {
        mark(p->broker->trace, MARK_CHANGE_NOT_NOW);
    }
    return error;
}

void partition__end_joint(struct partition *p)
{
    struct members joint, left;
    roster_newest(&p->roster, &joint);
    if (!p->leave_due || p->state != PARTITION_LIVE || !members_are_joint(&joint) || !raft_accepts(p->raft)) {
        return;
    }
    if (!roster_has_room(&p->roster, window_last(&p->window) + 1, 1)) {
        checkpoint_want(p);
        return;
    }
    p->leave_due = false;
    mark(p->broker->trace, MARK_CHANGE_LEFT);
    members_leave(&joint, &left);
    change__append(p, &left);
}

enum err partition_transfer(struct partition *p, uint64_t replica)
{
    enum err error = partition_status(p);
    if (error != OK) {
        return error;
    }
    if (!raft_may_transfer(p->raft, replica)) {
        mark(p->broker->trace, MARK_TRANSFER_NOT_NOW);
        return ERR_BUSY;
    }
    mark(p->broker->trace, MARK_TRANSFER);
    point(p->broker->trace, POINT_TRANSFER);
    trace_info(p->broker->trace, "leadership_given", "group=%lu to=%lu", p->group, replica);
    raft_step(p->raft, &(struct raft_event){.type = RAFT_TRANSFER, .peer = replica});
    partition_mark_dirty(p);
    return OK;
}

/* --- everybody --- */

void partition__members_changed(struct partition *p)
{
    yield_tell(p);
}

void partition__take_config(struct partition *p, uint64_t index, struct slice payload)
{
    struct members members;
    enum err error = members_decode(payload, &members); /* the router has looked at it */
    ASSERT(error == OK);
    roster_push(&p->roster, index, &members);
    mark(p->broker->trace, MARK_CHANGE_TAKEN);
    point(p->broker->trace, POINT_CONFIG_TAKEN);
    partition__members_changed(p);
}

enum err partition__apply_config(struct partition *p, uint64_t index, struct slice payload)
{
    struct members before, now;
    enum err error = members_decode(payload, &now);
    if (error != OK) {
        return error;
    }
    roster_at(&p->roster, index - 1, &before);
    if (members_find(&before, p->replica) != NULL && members_find(&now, p->replica) == NULL) {
        trace_info(p->broker->trace, "removed", "group=%lu replica=%lu index=%lu", p->group, p->replica, index);
        mark(p->broker->trace, MARK_REMOVED);
        p->is_removed = true;
    }
    mark(p->broker->trace, MARK_CHANGE_APPLIED);
    p->broker->counters.configs_applied_total++;
    point(p->broker->trace, POINT_CONFIG_APPLIED);
    checkpoint_want(p);
    return OK;
}
