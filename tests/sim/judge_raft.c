/* One replica after a turn of its broker: what it may be seen to have become since the last one. */
#include "base/assert.h"
#include "judge_impl.h"

#define KNOWN_US 10000000u /* what was on its way to a replica when we first saw it has come, or is lost */

/* --- R6: nothing falls --- */

static void check_monotonic(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                            const struct judge_sight *s)
{
    uint64_t term = r->was_seen ? r->term : disk__term(judge, r); /* a crash may take away one that was not synced */
    judge__count(judge, JUDGE_R6);
    if (s->term < term && !r->is_lost) {
        judge__fail(judge, JUDGE_R6, group, r->id, "its term falls from %llu to %llu", (unsigned long long)term,
                    (unsigned long long)s->term);
    }
    if (r->was_seen && (s->commit < r->commit || s->applied < r->applied)) {
        judge__fail(judge, JUDGE_R6, group, r->id, "committed, applied fall from %llu, %llu to %llu, %llu",
                    (unsigned long long)r->commit, (unsigned long long)r->applied, (unsigned long long)s->commit,
                    (unsigned long long)s->applied);
    }
    if (s->applied > s->commit || s->commit > s->last) {
        judge__fail(judge, JUDGE_R6, group, r->id, "applied %llu, committed %llu, last %llu",
                    (unsigned long long)s->applied, (unsigned long long)s->commit, (unsigned long long)s->last);
    }
}

/* --- W2: a start takes up what the disk has --- */

static void check_start(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                        const struct judge_sight *s)
{
    uint64_t applied = r->image.picture.applied_index, last = r->image.last;
    if (r->was_seen || !s->is_fresh || s->is_damaged || !disk__is_sound(r) || judge->machines[r->broker].is_doubted) {
        return;
    }
    uint64_t last_term = last == 0         ? 0
                         : last == applied ? ghost__committed_term(group, last)
                                           : r->image.entries[last].term;
    judge__count(judge, JUDGE_W2);
    if (s->term != disk__term(judge, r) || s->vote != disk__vote(judge, r)) {
        judge__fail(judge, JUDGE_W2, group, r->id, "it starts in term %llu with vote %llu, its disk has %llu and %llu",
                    (unsigned long long)s->term, (unsigned long long)s->vote, (unsigned long long)disk__term(judge, r),
                    (unsigned long long)disk__vote(judge, r));
    } else if (s->last != last || s->last_term != last_term || s->applied != applied) {
        judge__fail(judge, JUDGE_W2, group, r->id,
                    "it starts with entry %llu of term %llu as its last, %llu applied; its disk has %llu, %llu, %llu",
                    (unsigned long long)s->last, (unsigned long long)s->last_term, (unsigned long long)s->applied,
                    (unsigned long long)last, (unsigned long long)last_term, (unsigned long long)applied);
    }
}

/* --- R5: what a follower takes for committed --- */

/* The least that commits: an append of its leader that reached so far. A beat alone says nothing of the log here, which
 * may have lost what the leader remembers of it. Appends to who is not known yet are not counted. */
static void check_shown(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                        const struct judge_sight *s)
{
    bool leads = s->role == RAFT_LEADER || r->led_term != 0;
    if (!r->was_seen || s->commit <= r->commit || leads || s->installs != r->installs ||
        judge->world->now_us < r->known_us + KNOWN_US) {
        return;
    }
    uint64_t shown = 0;
    for (uint64_t t = r->term < s->term ? r->term : s->term; t <= s->term; t++) {
        const struct judge_term *term = judge__term(group, t);
        if (term->leader == r->id) {
            return; /* it led for a moment */
        }
        shown = term->shown[r->place] > shown ? term->shown[r->place] : shown;
    }
    judge__count(judge, JUDGE_R5);
    if (s->commit > shown) {
        judge__fail(judge, JUDGE_R5, group, r->id, "it takes %llu for committed, what leaders sent it ends at %llu",
                    (unsigned long long)s->commit, (unsigned long long)shown);
    }
}

/* --- R9: what it counts of its own --- */

static void check_durable(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                          const struct judge_sight *s)
{
    uint64_t term = s->term_of(s->context, s->durable);
    judge__count(judge, JUDGE_R9);
    bool counts = disk__is_sound(r) && !s->is_damaged && !s->is_installing;
    if (term != 0 && counts && !disk__holds(judge, group, r, s->durable, term)) {
        judge__fail(judge, JUDGE_R9, group, r->id, "it takes its own entry %llu of term %llu for durable",
                    (unsigned long long)s->durable, (unsigned long long)term);
    }
}

/* --- R12: a term is raised by who would be elected --- */

static void check_term(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                       const struct judge_sight *s)
{
    const struct judge_term *term = judge__term(group, s->term);
    if (term == NULL) {
        judge__fail(judge, JUDGE_R12, group, r->id, "its term is %llu", (unsigned long long)s->term);
        return;
    }
    if (s->term <= group->top_term) {
        return;
    }
    judge__count(judge, JUDGE_R12);
    group->top_term = s->term;
    struct judge_wishing wishing = {group, term, r};
    bool is_urged = judge__term(group, s->term - 1)->urged >> r->place & 1;
    bool is_wished = judge__is_quorum(s->config, judge__would_vote, &wishing) ||
                     (r->was_seen && judge__is_quorum(&r->config, judge__would_vote, &wishing));
    if (!is_urged && !is_wished) {
        judge__fail(judge, JUDGE_R12, group, r->id, "it raises its term to %llu, and no majorities would vote for it",
                    (unsigned long long)s->term);
    }
}

/* --- R1, R2: leaders --- */

static void check_leader(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                         const struct judge_sight *s)
{
    struct judge_term *term = judge__term(group, s->term);
    judge__count(judge, JUDGE_R1);
    if (term->leader != 0 && term->leader != r->id) {
        judge__fail(judge, JUDGE_R1, group, r->id, "it leads in term %llu, as replica %llu does",
                    (unsigned long long)s->term, (unsigned long long)term->leader);
        return;
    }
    term->leader = r->id;
    if (r->led_term != s->term) {
        ghost__elected(judge, group, s);
        r->excuse_us = judge->world->now_us;
        r->refusing_us = 0;
        r->round = 0;
        for (uint32_t i = 0; i < JUDGE_REPLICAS_MAX; i++) {
            r->matches[i] = 0;
        }
        return;
    }
    uint64_t last_term = s->term_of(s->context, r->last);
    judge__count(judge, JUDGE_R2);
    if (s->last < r->last || (last_term != 0 && last_term != r->last_term)) {
        judge__fail(judge, JUDGE_R2, group, r->id, "a leader's log changes: entry %llu was of term %llu, is of %llu",
                    (unsigned long long)r->last, (unsigned long long)r->last_term, (unsigned long long)last_term);
    }
}

/* What a leader believes of its members is true. */
static void check_match(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                        const struct judge_sight *s, uint64_t replica)
{
    struct raft_peer_state state;
    const struct judge_replica *peer = judge__replica(group, replica);
    if (peer == NULL || peer == r || !s->peer(s->context, replica, &state)) {
        return;
    }
    uint64_t *match = &r->matches[peer->place];
    if (state.damaged || !disk__is_sound(peer) || peer->image.is_dead || peer->image.is_given_up ||
        disk__term(judge, peer) > s->term) {
        *match = 0; /* it counts for nothing, or is of a later leader */
        return;
    }
    judge__count(judge, JUDGE_R6);
    if (state.next <= state.match || state.match < *match) {
        judge__fail(judge, JUDGE_R6, group, r->id, "of replica %llu it knows match %llu (was %llu), next %llu",
                    (unsigned long long)replica, (unsigned long long)state.match, (unsigned long long)*match,
                    (unsigned long long)state.next);
    }
    if (state.match == *match) {
        return;
    }
    *match = state.match;
    uint64_t term = s->term_of(s->context, state.match);
    judge__count(judge, JUDGE_R9);
    if (term != 0 && !disk__holds(judge, group, peer, state.match, term)) {
        judge__fail(judge, JUDGE_R9, group, r->id, "it takes entry %llu of term %llu for durable at replica %llu",
                    (unsigned long long)state.match, (unsigned long long)term, (unsigned long long)replica);
    }
}

/* --- R17, R18: configurations --- */

static uint8_t half_of(const struct raft_config *config, uint64_t replica, bool next)
{
    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].replica == replica) {
            return next ? config->members[i].next : config->members[i].now;
        }
    }
    return RAFT_ABSENT;
}

/* The voters of one half of one are those of a half of the other. */
static bool have_same_voters(const struct raft_config *a, bool a_next, const struct raft_config *b, bool b_next)
{
    for (uint32_t i = 0; i < a->count; i++) {
        uint64_t replica = a->members[i].replica;
        if ((half_of(a, replica, a_next) == RAFT_VOTER) != (half_of(b, replica, b_next) == RAFT_VOTER)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < b->count; i++) {
        uint64_t replica = b->members[i].replica;
        if ((half_of(a, replica, a_next) == RAFT_VOTER) != (half_of(b, replica, b_next) == RAFT_VOTER)) {
            return false;
        }
    }
    return true;
}

static void check_change(struct judge *judge, struct judge_group *group, const struct judge_replica *r,
                         const struct judge_sight *s)
{
    const struct raft_config *old = &r->config, *new = s->config;
    bool was_joint = !have_same_voters(old, false, old, true);
    bool is_joint = !have_same_voters(new, false, new, true);
    judge__count(judge, JUDGE_R17);
    if (r->config_index > s->commit) {
        judge__fail(judge, JUDGE_R17, group, r->id, "it makes configuration %llu before the one at %llu is committed",
                    (unsigned long long)s->config_index, (unsigned long long)r->config_index);
    } else if (!s->has_own_commit) {
        judge__fail(judge, JUDGE_R17, group, r->id, "it makes configuration %llu before an entry of its term",
                    (unsigned long long)s->config_index);
    } else if ((was_joint && is_joint) || !have_same_voters(old, was_joint, new, false)) {
        judge__fail(judge, JUDGE_R17, group, r->id, "voters change at %llu without a joint configuration",
                    (unsigned long long)s->config_index);
    }
}

static void check_config(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                         const struct judge_sight *s)
{
    bool is_changed = s->config_index != r->config_index || !judge__config_equal(s->config, &r->config);
    if (r->was_seen && is_changed && s->role == RAFT_LEADER && r->led_term == s->term) {
        check_change(judge, group, r, s);
    }
    if (is_changed || !r->was_seen) {
        r->config_index = s->config_index;
        r->config = *s->config;
    }
    if (s->role == RAFT_LEADER && s->config_index <= s->commit && !judge__is_voter(s->config, r->id)) {
        judge__fail(judge, JUDGE_R18, group, r->id, "it leads, and has no vote in the committed configuration");
    }
}

/* --- R20: damage --- */

void raft__mends(struct judge *judge, struct judge_group *group, struct judge_replica *r, const struct judge_sight *s)
{
    uint64_t term = ghost__committed_term(group, r->lost_commit);
    if (!disk__holds(judge, group, r, r->lost_commit, term)) {
        judge__fail(judge, JUDGE_R20, group, r->id, "it is whole again without entry %llu",
                    (unsigned long long)r->lost_commit);
    }
    disk__mended(r, s->durable);
    r->was_damaged = false;
}

static void check_damage(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                         const struct judge_sight *s)
{
    if (!r->is_lost && !s->is_damaged && !r->was_damaged) {
        return;
    }
    judge__count(judge, JUDGE_R20);
    if (s->is_damaged) {
        if (!r->was_damaged && !r->is_lost) {
            r->lost_commit = group->committed;
        }
        if (s->role != RAFT_FOLLOWER) {
            judge__fail(judge, JUDGE_R20, group, r->id, "it is damaged, and no mere follower");
        }
    } else if (r->is_lost && !r->was_damaged) {
        judge__fail(judge, JUDGE_R20, group, r->id, "it has lost what was durable, and takes itself for whole");
    } else {
        raft__mends(judge, group, r, s);
    }
    r->was_damaged = s->is_damaged;
}

void raft__saw(struct judge *judge, struct judge_group *group, struct judge_replica *r, const struct judge_sight *s)
{
    check_monotonic(judge, group, r, s);
    check_start(judge, group, r, s);
    check_durable(judge, group, r, s);
    check_term(judge, group, r, s);
    if (judge->world->failed) {
        return;
    }
    check_damage(judge, group, r, s);
    check_shown(judge, group, r, s);
    if (!r->was_seen || s->commit != r->commit) {
        ghost__commits(judge, group, s);
    }
    state__saw(judge, group, r, s);
    if (s->role == RAFT_LEADER && !judge->world->failed) {
        check_leader(judge, group, r, s);
        for (uint32_t i = 0; i < s->config->count; i++) {
            check_match(judge, group, r, s, s->config->members[i].replica);
        }
    }
    send__saw(judge, group, r, s); /* asks for the configuration that was seen last */
    check_config(judge, group, r, s);
    r->known_us = r->known_us == 0 ? judge->world->now_us + 1 : r->known_us;
    r->was_seen = true;
    r->term = s->term;
    r->commit = s->commit;
    r->applied = s->applied;
    r->last = s->last;
    r->last_term = s->last_term;
    r->role = s->role;
    r->led_term = s->role == RAFT_LEADER ? s->term : 0;
    r->round = s->round;
    r->accepted = s->accepts;
    r->was_quiet = s->is_quiet;
    r->installs = s->installs;
}
