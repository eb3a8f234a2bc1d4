/* Who should not lead. See yield.h. */
#include "broker/yield.h"

#include "broker/impl.h"
#include "store/scrub.h"

#define YIELD_INTERVAL_US 1000000u
/* That the others' ranges are whole is likely, not known, and they may not want to lead: in that time whoever leads
 * then mends what is damaged here, so that two who have damage each do not pass a group to and fro for nothing. */
#define YIELD_DAMAGE_US   30000000u

/* Who is alone is refused by what the log has room for, not by this. */
void yield_tell(struct partition *p)
{
    if (p->raft != NULL && !p->installing) { /* then it is told when that is done */
        bool full = p->broker->disk_is_full && !roster_is_alone(&p->roster, p->replica);
        raft_step(p->raft, &(struct raft_event){.type = RAFT_FULL, .full = full});
    }
}

void yield_note_disk(struct broker *b)
{
    for (struct partition *p = b->groups; p != NULL; p = p->hh.next) {
        yield_tell(p);
    }
}

/* The next voter, in the order of replica ids, among those that are there, could serve, and lack little of the log; 0:
 * none. Each gives it to its own next, so that it comes round to whoever can keep it: others may be damaged as well,
 * and only they know. */
static uint64_t yield__heir(const struct partition *p)
{
    uint64_t heir = 0;
    struct members now;
    (void)roster_newest(&p->roster, &now);
    for (uint32_t i = 0; i < now.count; i++) {
        struct raft_peer_state state;
        uint64_t replica = now.member[i].replica;
        bool may_lead = raft_peer_state(p->raft, replica, &state) && state.active && !state.in_snapshot &&
                        raft_may_transfer(p->raft, replica) &&
                        raft_last_index(p->raft) - state.match <= RAFT_LAG_ENTRIES_MAX;
        bool is_nearer = heir == 0 || replica - p->replica < heir - p->replica; /* round the end of the numbers */
        heir = may_lead && is_nearer ? replica : heir;
    }
    return heir;
}

static bool yield__is_damaged(const struct partition *p, uint64_t now_us)
{
    bool is_due = p->yielded_us == 0 || now_us >= p->yielded_us + YIELD_DAMAGE_US;
    return is_due && p->log != NULL && segment_log_damaged_ranges(p->log) > 0;
}

static void yield__look(struct partition *p, uint64_t now_us)
{
    bool is_damaged = yield__is_damaged(p, now_us);
    if (partition_may_propose(p) != OK || (!p->broker->disk_is_full && !is_damaged)) {
        return;
    }
    uint64_t heir = yield__heir(p);
    if (heir != 0 && partition_transfer(p, heir) == OK) {
        p->yielded_us = now_us;
        p->broker->counters.leaderships_yielded_total++;
    }
}

void yield_timer(struct broker *b, uint64_t now_us)
{
    if (now_us < yield_deadline_us(b)) {
        return;
    }
    b->yield_due_us = now_us + YIELD_INTERVAL_US;
    for (struct partition *p = b->groups; p != NULL; p = p->hh.next) {
        if (p->raft != NULL && !roster_is_alone(&p->roster, p->replica)) {
            yield__look(p, now_us);
        }
    }
}

uint64_t yield_deadline_us(const struct broker *b)
{
    return (b->disk_is_full || b->has_found_damage) && !b->stopping ? b->yield_due_us : UINT64_MAX;
}
