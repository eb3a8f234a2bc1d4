/* One row at the moment it leaves its process, against the image of the disk behind it; and what has not left, or not
 * come, for too long. */
#include "judge_impl.h"

#define ANSWER_US_MAX 20000000u /* who gets no answer for so long got none */
#define TURN_US_MAX   1000u     /* what has nothing to wait for leaves within so long */

/* --- R8: terms and votes --- */

static void check_vote(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                       const struct judge_row *row, const struct judge_replica *candidate)
{
    struct judge_term *term = judge__term(group, row->term);
    uint64_t bit = (uint64_t)1 << r->place;
    uint64_t durable = disk__term(judge, r);
    judge__count(judge, JUDGE_R8);
    if (durable < row->term || (durable == row->term && disk__vote(judge, r) != candidate->id)) {
        judge__fail(judge, JUDGE_R8, group, r->id,
                    "its vote for %llu in term %llu leaves, its disk has term %llu, vote %llu",
                    (unsigned long long)candidate->id, (unsigned long long)row->term, (unsigned long long)durable,
                    (unsigned long long)disk__vote(judge, r));
    }
    for (uint32_t i = 0; i < group->replicas_count; i++) {
        if (i != candidate->place && (term->votes[i] & bit)) {
            judge__fail(judge, JUDGE_R8, group, r->id, "in term %llu it votes for %llu, it did for %llu",
                        (unsigned long long)row->term, (unsigned long long)candidate->id,
                        (unsigned long long)group->replicas[i]->id);
        }
    }
    term->votes[candidate->place] |= bit;
}

static void check_durable_term(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                               const struct judge_row *row)
{
    bool is_pre = row->flags & PEER_FLAG_PRE;
    bool is_promise = is_pre && (row->type == RAFT_VOTE_REQUEST || !(row->flags & PEER_FLAG_REJECT));
    /* The log of who is damaged may be released: it votes for nobody until a picture heals it, which has its term. */
    bool is_refusal = row->type == RAFT_VOTE_REPLY && (row->flags & PEER_FLAG_REJECT);
    bool is_void = r->image.is_given_up && (is_refusal || (row->flags & PEER_FLAG_DAMAGED));
    judge__count(judge, JUDGE_R8);
    if (!is_promise && !is_void && disk__term(judge, r) < row->term) {
        judge__fail(judge, JUDGE_R8, group, r->id, "a row of type %u leaves in term %llu, its disk has term %llu",
                    row->type, (unsigned long long)row->term, (unsigned long long)disk__term(judge, r));
    }
}

/* --- R12: campaigns --- */

static void check_request(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                          const struct judge_row *row)
{
    struct judge_sight s;
    if (row->flags & PEER_FLAG_PRE) {
        return;
    }
    check_vote(judge, group, r, row, r);
    judge__count(judge, JUDGE_R12);
    group->top_term = row->term > group->top_term ? row->term : group->top_term; /* others may have it from now on */
    if (row->flags & PEER_FLAG_FORCE) {
        if (!(judge__term(group, row->term - 1)->urged >> r->place & 1)) {
            judge__fail(judge, JUDGE_R12, group, r->id, "it forces a vote in term %llu, no leader asked it to",
                        (unsigned long long)row->term);
        }
        return;
    }
    struct judge_wishing wishing = {group, judge__term(group, row->term), r};
    if (judge__look(judge, group, r, &s) && !judge__is_quorum(s.config, judge__would_vote, &wishing) &&
        !judge__is_quorum(&r->config, judge__would_vote, &wishing)) {
        judge__fail(judge, JUDGE_R12, group, r->id, "it asks for votes in term %llu before majorities would vote",
                    (unsigned long long)row->term);
    }
}

static void check_grant(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                        const struct judge_row *row)
{
    struct judge_replica *candidate = judge__replica(group, row->to);
    struct judge_sight s;
    if ((row->flags & PEER_FLAG_REJECT) || candidate == NULL) {
        return;
    }
    if (row->flags & PEER_FLAG_PRE) {
        judge__term(group, row->term)->wishes[candidate->place] |= (uint64_t)1 << r->place;
        return;
    }
    check_vote(judge, group, r, row, candidate);
    judge__count(judge, JUDGE_R12);
    if (judge__look(judge, group, r, &s) && s.role == RAFT_LEADER && s.term == row->term) {
        judge__fail(judge, JUDGE_R12, group, r->id, "the leader of term %llu votes for %llu",
                    (unsigned long long)row->term, (unsigned long long)row->to);
    }
}

/* --- R18: who is asked --- */

static void note_request(struct judge *judge, struct judge_group *group, const struct judge_machine *from,
                         const struct judge_row *row)
{
    const struct judge_replica *to = judge__replica(group, row->to);
    if (to != NULL) {
        judge->machines[to->broker].asked_us[from->id] = judge->world->now_us;
    }
}

/* It knows no leader, has its vote, and the candidate's log is no older than its own: then it is all the same what it
 * takes itself for, a configuration that has not come here yet may have made a voter of it. */
static bool must_grant(const struct judge_replica *r, const struct judge_sight *s, const struct judge_row *row)
{
    bool is_pre = row->flags & PEER_FLAG_PRE;
    bool has_vote =
        row->term > s->term || (row->term == s->term && (s->vote == 0 || (s->vote == row->from && !is_pre)));
    bool is_current = row->index_term > s->last_term || (row->index_term == s->last_term && row->index >= s->last);
    return has_vote && is_current && s->leader == 0 && s->role != RAFT_LEADER && !s->is_quiet && !s->is_damaged &&
           !r->is_lost;
}

void send__comes(struct judge *judge, uint64_t to, const struct judge_row *row)
{
    struct judge_group *group = judge__group(judge, row->group);
    struct judge_replica *r = judge__replica(group, row->to);
    const struct judge_replica *candidate = judge__replica(group, row->from);
    struct judge_sight s;
    if (r == NULL || r->broker != to || candidate == NULL || !judge__look(judge, group, r, &s)) {
        return;
    }
    bool is_first = r->delivery != judge->deliveries; /* else what came before it may be the reason */
    r->delivery = judge->deliveries;
    if (row->type == RAFT_VOTE_REQUEST) {
        struct judge_ask *ask = &r->asks[candidate->place];
        bool is_pre = row->flags & PEER_FLAG_PRE;
        bool is_said = s.is_said && judge->world->now_us - ask->at_us >= TURN_US_MAX;
        bool is_clear = ask->at_us == 0 || is_said || (ask->must_grant && ask->is_pre == is_pre);
        *ask = (struct judge_ask){.at_us = judge->world->now_us,
                                  .is_pre = is_pre,
                                  .must_grant = is_first && is_clear && must_grant(r, &s, row)};
    }
}

static void check_refusal(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                          const struct judge_row *row)
{
    const struct judge_replica *candidate = judge__replica(group, row->to);
    if (candidate == NULL) {
        return;
    }
    const struct judge_ask ask = r->asks[candidate->place];
    bool is_pre = row->flags & PEER_FLAG_PRE;
    if (ask.at_us == 0 || judge->world->now_us - ask.at_us > ANSWER_US_MAX || ask.is_pre != is_pre || !ask.must_grant) {
        return;
    }
    judge__count(judge, JUDGE_R18);
    if (row->flags & PEER_FLAG_REJECT) {
        judge__fail(judge, JUDGE_R18, group, r->id, "it refuses its vote to %llu in term %llu, and has no reason to",
                    (unsigned long long)candidate->id, (unsigned long long)row->term);
    }
}

/* --- R9: acknowledgements --- */

static void check_ack(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                      const struct judge_row *row)
{
    struct judge_sight s;
    if (!(row->flags & PEER_FLAG_REJECT)) {
        r->ack_index = r->ack_term == row->term && r->ack_index > row->index ? r->ack_index : row->index;
        r->ack_term = row->term;
    }
    if ((row->flags & PEER_FLAG_REJECT) || disk__term(judge, r) != row->term || r->image.is_dead) {
        return; /* a disk of a later term may have been cut since; a leader of that term does not count this any more.
                   And what waited to leave when the replica was removed says what it had */
    }
    judge__count(judge, JUDGE_R9);
    if (!disk__reaches(judge, r, row->index)) {
        judge__fail(judge, JUDGE_R9, group, r->id, "it acknowledges entry %llu, its disk ends before it",
                    (unsigned long long)row->index);
        return;
    }
    const struct judge_replica *leader = judge__replica(group, judge__term(group, row->term)->leader);
    if (leader == NULL || !judge__look(judge, group, leader, &s) || s.term != row->term) {
        return;
    }
    uint64_t term = s.term_of(s.context, row->index);
    if (term != 0 && !disk__holds(judge, group, r, row->index, term)) {
        judge__fail(judge, JUDGE_R9, group, r->id,
                    "it acknowledges entry %llu, which is of term %llu at the leader, and another one on its disk",
                    (unsigned long long)row->index, (unsigned long long)term);
    }
}

/* --- leaders --- */

static void check_leads(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                        const struct judge_row *row)
{
    struct judge_term *term = judge__term(group, row->term);
    judge__count(judge, JUDGE_R1);
    if (term->leader != 0 && term->leader != r->id) {
        judge__fail(judge, JUDGE_R1, group, r->id, "its row of term %llu leaves, which replica %llu leads",
                    (unsigned long long)row->term, (unsigned long long)term->leader);
    }
    term->leader = r->id;
    const struct judge_replica *to = judge__replica(group, row->to);
    if (to != NULL) {
        r->sent_us[to->place] = judge->world->now_us;
    }
    if (row->commit > group->committed) { /* of this very turn */
        struct judge_sight s;
        if (judge__look(judge, group, r, &s)) {
            ghost__commits(judge, group, &s);
        }
        if (row->commit > group->committed) {
            judge__fail(judge, JUDGE_R5, group, r->id, "it says that %llu is committed, %llu is",
                        (unsigned long long)row->commit, (unsigned long long)group->committed);
        }
    }
}

/* For R5. */
static void note_append(struct judge_group *group, const struct judge_row *row)
{
    const struct judge_replica *to = judge__replica(group, row->to);
    if (to != NULL) {
        uint64_t *shown = &judge__term(group, row->term)->shown[to->place];
        *shown = row->index + row->count > *shown ? row->index + row->count : *shown;
    }
}

static void check_timeout_now(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                              const struct judge_row *row)
{
    struct judge_replica *to = judge__replica(group, row->to);
    struct judge_sight s;
    judge__count(judge, JUDGE_R14);
    if (to == NULL) {
        return;
    }
    judge__term(group, row->term)->urged |= (uint64_t)1 << to->place;
    if (!judge__look(judge, group, r, &s) || s.term != row->term) { /* its removal is committed: it is gone by now */
        return;
    }
    bool is_excused =
        to->is_lost || to->image.is_dead || disk__term(judge, to) > row->term || judge__is_damaged(judge, group, to);
    if (s.accepts) {
        judge__fail(judge, JUDGE_R14, group, r->id, "it gives its leadership to %llu and takes entries meanwhile",
                    (unsigned long long)row->to);
        return;
    }
    /* Who has no vote any more goes at once, and does not wait for entries that are not committed. */
    bool goes = s.config_index <= s.commit && !judge__is_voter(s.config, r->id);
    uint64_t needed = goes ? s.commit : s.last;
    uint64_t term = s.term_of(s.context, needed); /* 0: that is behind it */
    term = term != 0 ? term : ghost__committed_term(group, needed);
    if (!is_excused && !disk__holds(judge, group, to, needed, term)) {
        judge__fail(judge, JUDGE_R14, group, r->id, "it gives its leadership to %llu, who lacks entry %llu",
                    (unsigned long long)row->to, (unsigned long long)needed);
    }
}

/* --- R20 --- */

static void check_whole(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                        const struct judge_row *row)
{
    bool is_damaged = judge__is_damaged(judge, group, r);
    struct judge_sight s;
    if (r->is_lost && r->was_damaged && !is_damaged && judge__look(judge, group, r, &s)) {
        raft__mends(judge, group, r, &s); /* it may speak before anybody looks at it */
    }
    if ((!r->is_lost && !is_damaged) || judge->world->failed) {
        return;
    }
    bool is_answer = row->type == RAFT_APPEND_REPLY || row->type == RAFT_BEAT_REPLY;
    bool is_refusal = row->type == RAFT_VOTE_REPLY && (row->flags & PEER_FLAG_REJECT);
    judge__count(judge, JUDGE_R20);
    if (!is_refusal && !(is_answer && (row->flags & PEER_FLAG_DAMAGED))) {
        judge__fail(judge, JUDGE_R20, group, r->id, "%s, and a row of type %u leaves it as if it were whole",
                    r->is_lost ? "it has lost what was durable" : "it is damaged", row->type);
    }
}

/* --- a row --- */

void send__row(struct judge *judge, struct judge_machine *from, const struct judge_row *row)
{
    struct judge_group *group = judge__group(judge, row->group);
    struct judge_replica *r = judge__replica_on(group, row->from, from->id);
    disk__fresh(judge, from);
    if (r->broker != from->id) {
        judge__fail(judge, JUDGE_R20, group, r->id, "broker %llu speaks for it, it lives on broker %llu",
                    (unsigned long long)from->id, (unsigned long long)r->broker);
    }
    if (judge__term(group, row->term) == NULL) {
        judge__fail(judge, JUDGE_R12, group, r->id, "its term is %llu", (unsigned long long)row->term);
    }
    if (judge->world->failed) {
        return;
    }
    check_whole(judge, group, r, row);
    check_durable_term(judge, group, r, row);
    switch (row->type) {
    case RAFT_VOTE_REQUEST:
        note_request(judge, group, from, row);
        check_request(judge, group, r, row);
        break;
    case RAFT_VOTE_REPLY:
        check_grant(judge, group, r, row);
        check_refusal(judge, group, r, row);
        break;
    case RAFT_APPEND:
        note_append(group, row);
        check_leads(judge, group, r, row);
        break;
    case RAFT_BEAT:
        check_leads(judge, group, r, row);
        break;
    case RAFT_APPEND_REPLY:
        if (!(row->flags & PEER_FLAG_DAMAGED)) {
            check_ack(judge, group, r, row);
        }
        break;
    case RAFT_BEAT_REPLY:
        /* Frames to several brokers leave one after the other: what was said first need not be seen first. */
        if (!(row->flags & PEER_FLAG_DAMAGED) && row->term >= r->heard_term) {
            r->heard_rounds = r->heard_term == row->term && r->heard_rounds > row->round ? r->heard_rounds : row->round;
            r->heard_term = row->term;
        }
        break;
    case RAFT_TIMEOUT_NOW:
        check_leads(judge, group, r, row);
        check_timeout_now(judge, group, r, row);
        break;
    }
}

/* --- Z1: what the registry is told --- */

/* In the turn in which it begins to lead nothing of its has been seen yet. */
void judge_published(struct judge *judge, uint64_t id, uint64_t broker, uint64_t term)
{
    struct judge_group *group = judge__group(judge, id);
    const struct judge_term *t = judge__term(group, term);
    bool led = false;
    for (uint32_t i = 0; t != NULL && i < group->replicas_count; i++) {
        const struct judge_replica *r = group->replicas[i];
        struct judge_sight s;
        bool leads = t->leader == 0 && judge__look(judge, group, r, &s) && s.role == RAFT_LEADER && s.term == term;
        led = led || (r->broker == broker && (t->leader == r->id || leads));
    }
    judge__count(judge, JUDGE_Z1);
    if (!led) {
        judge__fail(judge, JUDGE_Z1, group, 0, "broker %llu is published as its leader in term %llu, and never was",
                    (unsigned long long)broker, (unsigned long long)term);
    }
}

/* --- a leader after a turn --- */

struct hearing {
    struct judge *judge;
    const struct judge_group *group;
    const struct judge_sight *sight;
    uint64_t limit_us;
};

static bool has_been_heard(void *context, uint64_t replica)
{
    const struct hearing *h = context;
    const struct judge_replica *r = judge__replica(h->group, replica);
    if (replica == h->sight->replica) {
        return true;
    }
    const struct judge_machine *machine = &h->judge->machines[h->sight->broker];
    return r != NULL && h->judge->world->now_us - machine->delivered_us[r->broker] <= h->limit_us;
}

/* Who has gone on to a later term may have answered before: a leader that was held hears of it late. */
static bool has_answered_round(void *context, uint64_t replica)
{
    const struct hearing *h = context;
    const struct judge_replica *r = judge__replica(h->group, replica);
    return replica == h->sight->replica ||
           (r != NULL && (r->heard_term > h->sight->term ||
                          (r->heard_term == h->sight->term && r->heard_rounds >= h->sight->round)));
}

/* R13. What is delivered at all is more than what the leader hears for this group: so it errs on the mild side. While
 * the group sleeps, what brokers say to each other stands for heartbeats: silence for an election timeout wakes the
 * leader within the next one, and from then on the rule is the ordinary one. */
static void check_hears(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                        const struct judge_sight *s)
{
    uint64_t heartbeats = s->is_quiet ? 4 : 3, since_us = s->is_quiet ? r->held_us : r->excuse_us;
    uint64_t limit_us = (2 * (uint64_t)s->election_ms + heartbeats * s->heartbeat_ms) * 1000;
    struct hearing hearing = {judge, group, s, limit_us};
    judge__count(judge, JUDGE_R13);
    if (judge->world->now_us - since_us > limit_us && !judge__is_quorum(s->config, has_been_heard, &hearing)) {
        judge__fail(judge, JUDGE_R13, group, r->id, "it leads%s for %llu ms without hearing from majorities",
                    s->is_quiet ? " and sleeps" : "", (unsigned long long)(limit_us / 1000));
    }
}

static void check_talks(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                        const struct judge_sight *s)
{
    uint64_t now_us = judge->world->now_us, limit_us = 6000u * (uint64_t)s->heartbeat_ms;
    if (now_us - r->excuse_us <= limit_us) {
        return;
    }
    for (uint32_t i = 0; i < s->config->count; i++) {
        const struct judge_replica *to = judge__replica(group, s->config->members[i].replica);
        if (to == NULL || to == r || to->broker == s->broker) { /* the one that this machine lost is still a member */
            continue;
        }
        bool is_excused = now_us - judge->machines[s->broker].dropped_us[to->broker] <= limit_us;
        judge__count(judge, JUDGE_R21);
        if (r->sent_us[to->place] ==
            0) { /* it was a member before it was born: what was sent until then is not known */
            r->sent_us[to->place] = now_us;
        }
        if (!is_excused && now_us - r->sent_us[to->place] > limit_us) {
            judge__fail(judge, JUDGE_R21, group, r->id, "it leads and says nothing to %llu for %llu ms",
                        (unsigned long long)to->id, (unsigned long long)((now_us - r->sent_us[to->place]) / 1000));
        }
    }
}

static void check_transfer(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                           const struct judge_sight *s)
{
    uint64_t now_us = judge->world->now_us;
    if (s->accepts) {
        r->refusing_us = 0;
        return;
    }
    judge__count(judge, JUDGE_R14);
    if (r->refusing_us == 0) {
        r->refusing_us = now_us;
    } else if (r->led_term == s->term && !r->accepted && s->last > r->last) {
        judge__fail(judge, JUDGE_R14, group, r->id, "it gives its leadership away and appends entry %llu meanwhile",
                    (unsigned long long)s->last);
    }
    uint64_t since_us = r->refusing_us > r->excuse_us ? r->refusing_us : r->excuse_us;
    /* The paper's election timeout. It is counted from a tick to a tick, each of which a leader waits a heartbeat for;
     * timers and turns that come late have the rest. */
    if (now_us - since_us > (s->election_ms + 3u * s->heartbeat_ms) * UINT64_C(1000)) {
        judge__fail(judge, JUDGE_R14, group, r->id, "it gives its leadership away for %llu ms",
                    (unsigned long long)((now_us - since_us) / 1000));
    }
}

/* The configuration may have changed behind the answers, in the same turn. */
static void check_reads(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                        const struct judge_sight *s)
{
    struct hearing hearing = {judge, group, s, 0};
    if (s->waits_for != 0) {
        judge__count(judge, JUDGE_R15);
        if (s->waits_for <= s->told_round) {
            judge__fail(judge, JUDGE_R15, group, r->id, "a read waits for round %llu, which was over when it was asked",
                        (unsigned long long)s->waits_for);
        }
    }
    if (s->round == r->round || s->round == 0) {
        return;
    }
    judge__count(judge, JUDGE_R15);
    if (!s->has_own_commit) {
        judge__fail(judge, JUDGE_R15, group, r->id, "a read is confirmed before an entry of its term is committed");
    } else if (!judge__is_quorum(s->config, has_answered_round, &hearing) &&
               !(r->was_seen && judge__is_quorum(&r->config, has_answered_round, &hearing))) {
        judge__fail(judge, JUDGE_R15, group, r->id, "read round %llu is confirmed, majorities have not answered it",
                    (unsigned long long)s->round);
    }
}

void send__saw(struct judge *judge, struct judge_group *group, struct judge_replica *r, const struct judge_sight *s)
{
    bool is_changed = r->was_seen && s->config_index != r->config_index; /* other majorities from now on */
    if (s->is_quiet || r->was_quiet || is_changed) {
        r->excuse_us = judge->world->now_us;
    }
    if (s->role != RAFT_LEADER) {
        return;
    }
    if (judge->hears) {
        check_hears(judge, group, r, s);
    }
    check_talks(judge, group, r, s);
    check_transfer(judge, group, r, s);
    check_reads(judge, group, r, s);
}
