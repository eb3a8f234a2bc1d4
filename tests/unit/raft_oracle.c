/* The invariants of a Raft group, watched from outside: see raft_oracle.h. */
#include "raft_oracle.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- shadow logs ---- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

static struct shadow_entry *make_room(struct shadow_log *log)
{
    if (log->last == log->capacity) {
        log->capacity = log->capacity == 0 ? 64 : log->capacity * 2;
        log->entries = realloc(log->entries, log->capacity * sizeof *log->entries);
        assert_non_null(log->entries);
    }
    return &log->entries[log->last++];
}

void shadow_append(struct shadow_log *log, uint64_t term, uint64_t value, uint32_t config)
{
    struct shadow_entry before = {.config = 1};
    if (log->last > 0) {
        before = log->entries[log->last - 1];
    }
    struct shadow_entry *entry = make_room(log);
    uint64_t hash = mix(mix(mix(mix(before.hash, log->last), term), value), config) | 1;
    *entry = (struct shadow_entry){.term = term,
                                   .value = value,
                                   .hash = hash,
                                   .config_index = config != 0 ? log->last : before.config_index,
                                   .config = config != 0 ? config : before.config};
}

void shadow_truncate(struct shadow_log *log, uint64_t last)
{
    if (last < log->last) {
        log->last = last;
    }
}

void shadow_copy(struct shadow_log *to, const struct shadow_log *from, uint64_t last)
{
    to->last = 0;
    for (uint64_t i = 0; i < last; i++) {
        struct shadow_entry entry = from->entries[i];
        *make_room(to) = entry;
    }
}

void shadow_free(struct shadow_log *log)
{
    free(log->entries);
    *log = (struct shadow_log){0};
}

const struct shadow_entry *shadow_at(const struct shadow_log *log, uint64_t index)
{
    return index > 0 && index <= log->last ? &log->entries[index - 1] : NULL;
}

uint64_t shadow_hash(const struct shadow_log *log, uint64_t index)
{
    const struct shadow_entry *entry = shadow_at(log, index);
    return entry != NULL ? entry->hash : 0;
}

uint32_t shadow_config(const struct shadow_log *log, uint64_t index, uint64_t *ret_index)
{
    const struct shadow_entry *entry = shadow_at(log, index);
    *ret_index = entry != NULL ? entry->config_index : 0;
    return entry != NULL ? entry->config : 1;
}

bool shadow_is_config(const struct shadow_log *log, uint64_t index)
{
    const struct shadow_entry *entry = shadow_at(log, index);
    return entry != NULL && entry->config_index == index;
}

/* ---- configurations ---- */

static void count_half(const struct raft_config *config, uint64_t mask, bool next, uint32_t *ret_voters,
                       uint32_t *ret_present)
{
    uint32_t voters = 0;
    uint32_t present = 0;
    for (uint32_t i = 0; i < config->count; i++) {
        const struct raft_member *m = &config->members[i];
        if ((next ? m->next : m->now) == RAFT_VOTER) {
            voters++;
            present += mask >> (m->replica - 1) & 1;
        }
    }
    *ret_voters = voters;
    *ret_present = present;
}

bool oracle_is_quorum(const struct raft_config *config, uint64_t mask)
{
    for (int next = 0; next <= 1; next++) {
        uint32_t voters = 0;
        uint32_t present = 0;
        count_half(config, mask, next == 1, &voters, &present);
        if (present <= voters / 2) {
            return false;
        }
    }
    return true;
}

static const struct raft_member *find_member(const struct raft_config *config, uint64_t replica)
{
    for (uint32_t i = 0; i < config->count; i++) {
        if (config->members[i].replica == replica) {
            return &config->members[i];
        }
    }
    return NULL;
}

bool oracle_is_voter(const struct raft_config *config, uint64_t replica)
{
    const struct raft_member *m = find_member(config, replica);
    return m != NULL && (m->now == RAFT_VOTER || m->next == RAFT_VOTER);
}

bool oracle_is_member(const struct raft_config *config, uint64_t replica)
{
    return find_member(config, replica) != NULL;
}

bool oracle_config_equal(const struct raft_config *a, const struct raft_config *b)
{
    bool equal = a->count == b->count;
    for (uint32_t i = 0; equal && i < a->count; i++) {
        const struct raft_member *x = &a->members[i];
        const struct raft_member *y = &b->members[i];
        equal = x->replica == y->replica && x->now == y->now && x->next == y->next;
    }
    return equal;
}

uint32_t oracle_number_config(struct oracle *o, const struct raft_config *config)
{
    for (uint32_t i = 0; i < o->configs_count; i++) {
        if (oracle_config_equal(&o->configs[i], config)) {
            return i + 1;
        }
    }
    oracle_expect(o, o->configs_count < ORACLE_CONFIGS_MAX, 0, "more configurations than the oracle has room for");
    o->configs[o->configs_count++] = *config;
    return o->configs_count;
}

const struct raft_config *oracle_config(const struct oracle *o, uint32_t number)
{
    return &o->configs[number - 1];
}

/* ---- the oracle ---- */

void oracle_init(struct oracle *o, uint64_t seed, const struct raft_config *birth, const uint64_t *now_ms)
{
    memset(o, 0, sizeof *o);
    o->seed = seed;
    o->now_ms = now_ms;
    o->configs[o->configs_count++] = *birth;
}

void oracle_done(struct oracle *o)
{
    shadow_free(&o->committed);
    shadow_free(&o->commit_term);
}

void oracle_expect(const struct oracle *o, bool condition, uint64_t replica, const char *what)
{
    if (!condition) {
        fail_msg("seed %" PRIu64 ", %" PRIu64 " ms, replica %" PRIu64 ": %s", o->seed, *o->now_ms, replica, what);
    }
}

void oracle_appended(struct oracle *o, uint64_t replica, const struct shadow_log *log)
{
    const struct shadow_entry *entry = shadow_at(log, log->last);
    uint64_t at = mix(mix(1, log->last), entry->term) % ORACLE_SLOTS;
    while (o->slots[at].hash != 0) {
        if (o->slots[at].index == log->last && o->slots[at].term == entry->term) {
            oracle_expect(o, o->slots[at].hash == entry->hash, replica, "one (index, term), two histories");
            return;
        }
        at = (at + 1) % ORACLE_SLOTS;
    }
    oracle_expect(o, ++o->slots_used < ORACLE_SLOTS / 2, replica, "the oracle's table is too small for this run");
    o->slots[at] = (struct oracle_slot){.index = log->last, .term = entry->term, .hash = entry->hash};
}

void oracle_elected(struct oracle *o, uint64_t replica, uint64_t term, const struct shadow_log *log)
{
    oracle_expect(o, term < ORACLE_TERMS_MAX, replica, "more terms than the oracle has room for");
    oracle_expect(o, o->leader_of[term] == 0 || o->leader_of[term] == replica, replica, "two leaders of one term");
    o->leader_of[term] = (uint8_t)replica;
    const struct shadow_disk *disk = o->disks[replica - 1];
    oracle_expect(o, !disk->damaged, replica, "a damaged replica leads");
    oracle_expect(o, disk->term == term && disk->vote == replica, replica, "leads before its own vote is on disk");
    uint64_t config_index = 0;
    const struct raft_config *config = oracle_config(o, shadow_config(log, log->last, &config_index));
    uint64_t votes = o->votes[term][replica - 1] | 1u << (replica - 1);
    oracle_expect(o, oracle_is_quorum(config, votes), replica, "leads without the votes of majorities");
    uint64_t last = o->committed.last; /* in earlier terms, that is: a leader may be late, and deposed already */
    while (last > 0 && shadow_at(&o->commit_term, last)->term >= term) {
        last--;
    }
    oracle_expect(o, shadow_hash(log, last) == shadow_hash(&o->committed, last), replica,
                  "a leader without a committed entry");
}

/* Who has this entry for sure: on an undamaged disk, or acknowledged before the damage. */
static uint64_t holders(const struct oracle *o, uint64_t index, uint64_t hash)
{
    uint64_t mask = 0;
    for (uint32_t i = 0; i < ORACLE_REPLICAS_MAX; i++) {
        const struct shadow_disk *disk = o->disks[i];
        if (disk != NULL && shadow_hash(disk->damaged ? &disk->lost : &disk->log, index) == hash) {
            mask |= (uint64_t)1 << i;
        }
    }
    return mask;
}

void oracle_leader_committed(struct oracle *o, uint64_t replica, uint64_t term, const struct shadow_log *log,
                             uint64_t commit)
{
    const struct shadow_entry *entry = shadow_at(log, commit);
    oracle_expect(o, entry != NULL, replica, "commits what it does not have");
    oracle_expect(o, entry->term == term, replica, "a leader commits an older term's entry by counting");
    uint64_t config_index = 0;
    const struct raft_config *config = oracle_config(o, shadow_config(log, log->last, &config_index));
    if (commit > o->committed.last) {
        bool held = oracle_is_quorum(config, holders(o, commit, entry->hash));
        oracle_expect(o, held, replica, "commits what majorities do not have on disk");
    }
    for (uint64_t i = o->committed.last + 1; i <= commit; i++) {
        entry = shadow_at(log, i);
        struct shadow_entry kept = *entry;
        shadow_append(&o->committed, kept.term, kept.value, kept.config_index == i ? kept.config : 0);
        shadow_append(&o->commit_term, term, term, 0);
    }
    bool same = shadow_hash(log, commit) == shadow_hash(&o->committed, commit);
    oracle_expect(o, same, replica, "two entries committed at one index");
}

void oracle_learned(struct oracle *o, uint64_t replica, const struct shadow_log *log, uint64_t from, uint64_t commit)
{
    (void)from;
    oracle_expect(o, commit <= log->last, replica, "commits what it does not have");
    oracle_expect(o, commit <= o->committed.last, replica, "commits what no leader has committed");
    bool same = shadow_hash(log, commit) == shadow_hash(&o->committed, commit);
    oracle_expect(o, same, replica, "two entries committed at one index");
}

/* The voters of one half are those of another one's half. */
static bool same_voters(const struct raft_config *a, bool a_next, const struct raft_config *b, bool b_next)
{
    for (uint64_t replica = 1; replica <= ORACLE_REPLICAS_MAX; replica++) {
        const struct raft_member *x = find_member(a, replica);
        const struct raft_member *y = find_member(b, replica);
        bool x_votes = x != NULL && (a_next ? x->next : x->now) == RAFT_VOTER;
        bool y_votes = y != NULL && (b_next ? y->next : y->now) == RAFT_VOTER;
        if (x_votes != y_votes) {
            return false;
        }
    }
    return true;
}

void oracle_changes(struct oracle *o, uint64_t replica, uint64_t term, const struct shadow_log *log, uint64_t commit,
                    const struct raft_config *config)
{
    uint64_t config_index = 0;
    const struct raft_config *old = oracle_config(o, shadow_config(log, log->last, &config_index));
    oracle_expect(o, config_index <= commit, replica, "a second configuration before the first is committed");
    const struct shadow_entry *entry = shadow_at(log, commit);
    oracle_expect(o, entry != NULL && entry->term == term, replica, "a configuration before an entry of the own term");
    bool was_joint = !same_voters(old, false, old, true);
    bool is_joint = !same_voters(config, false, config, true);
    oracle_expect(o, !was_joint || !is_joint, replica, "a joint configuration after a joint one");
    oracle_expect(o, same_voters(old, was_joint, config, false), replica,
                  "voters change without a joint configuration");
}

void oracle_asks(struct oracle *o, const struct raft_message *m, const struct shadow_log *log, uint64_t commit)
{
    const struct shadow_disk *disk = o->disks[m->from - 1];
    oracle_expect(o, !disk->damaged, m->from, "a damaged replica campaigns");
    uint64_t config_index = 0;
    const struct raft_config *config = oracle_config(o, shadow_config(log, log->last, &config_index));
    bool votes = oracle_is_voter(config, m->from);
    if (!votes && config_index > commit) { /* it may be the only one with that entry */
        uint64_t before_index = 0;
        votes = oracle_is_voter(oracle_config(o, shadow_config(log, config_index - 1, &before_index)), m->from);
    }
    oracle_expect(o, votes, m->from, "campaigns without being a voter");
    if (m->pre) {
        return;
    }
    if (m->force) {
        oracle_expect(o, o->urged_term[m->from - 1] == m->term - 1, m->from, "forces a vote that no leader asked for");
        return;
    }
    uint64_t would = o->pre_term[m->from - 1] == m->term ? o->pre_votes[m->from - 1] : 0;
    would |= (uint64_t)1 << (m->from - 1);
    oracle_expect(o, oracle_is_quorum(config, would), m->from, "raises the term before majorities would vote for it");
}

static void check_vote(struct oracle *o, const struct raft_message *m, uint64_t candidate)
{
    const struct shadow_disk *disk = o->disks[m->from - 1];
    oracle_expect(o, !disk->damaged, m->from, "a damaged replica votes");
    oracle_expect(o, disk->term > m->term || disk->vote == candidate, m->from, "a vote leaves before it is on disk");
    oracle_expect(o, m->term < ORACLE_TERMS_MAX, m->from, "more terms than the oracle has room for");
    for (uint64_t other = 1; other <= ORACLE_REPLICAS_MAX && m->term > o->forgot_term[m->from - 1]; other++) {
        bool granted = o->votes[m->term][other - 1] >> (m->from - 1) & 1;
        oracle_expect(o, other == candidate || !granted, m->from, "two votes in one term");
    }
    o->votes[m->term][candidate - 1] |= (uint16_t)(1u << (m->from - 1));
}

static void check_pre_vote(struct oracle *o, const struct raft_message *m)
{
    oracle_expect(o, !o->disks[m->from - 1]->damaged, m->from, "a damaged replica would vote");
    if (m->term > o->pre_term[m->to - 1]) {
        o->pre_term[m->to - 1] = m->term;
        o->pre_votes[m->to - 1] = 0;
    }
    if (m->term == o->pre_term[m->to - 1]) {
        o->pre_votes[m->to - 1] |= (uint16_t)(1u << (m->from - 1));
    }
}

static void check_leads(const struct oracle *o, const struct raft_message *m)
{
    bool leads = m->term < ORACLE_TERMS_MAX && o->leader_of[m->term] == m->from;
    oracle_expect(o, leads, m->from, "a leader's message by a replica that is none");
}

static void check_reply(const struct oracle *o, const struct raft_message *m, const struct shadow_log *leader_log)
{
    const struct shadow_disk *disk = o->disks[m->from - 1];
    oracle_expect(o, m->damaged || !disk->damaged, m->from, "hides that it is damaged");
    /* A disk of a later term may have been cut since; a leader of that term does not count this any more. */
    bool checkable = leader_log != NULL && disk->term == m->term;
    if (m->type == RAFT_APPEND_REPLY && !m->reject && checkable) {
        oracle_expect(o, shadow_hash(&disk->log, m->index) == shadow_hash(leader_log, m->index), m->from,
                      "acknowledges what is not on disk");
    }
}

void oracle_sent(struct oracle *o, const struct raft_message *m, const struct shadow_log *leader_log)
{
    const struct shadow_disk *disk = o->disks[m->from - 1];
    bool promise = m->pre && (m->type == RAFT_VOTE_REQUEST || !m->reject); /* of a term that is nobody's yet */
    oracle_expect(o, promise || disk->term >= m->term, m->from, "a message leaves before its term is on disk");
    switch (m->type) {
    case RAFT_VOTE_REQUEST:
        if (!m->pre) {
            check_vote(o, m, m->from);
        }
        break;
    case RAFT_VOTE_REPLY:
        if (!m->reject && m->pre) {
            check_pre_vote(o, m);
        } else if (!m->reject) {
            check_vote(o, m, m->to);
        }
        break;
    case RAFT_APPEND:
    case RAFT_BEAT:
        check_leads(o, m);
        break;
    case RAFT_APPEND_REPLY:
    case RAFT_BEAT_REPLY:
        check_reply(o, m, leader_log);
        break;
    case RAFT_TIMEOUT_NOW: {
        check_leads(o, m);
        o->urged_term[m->to - 1] = m->term;
        const struct shadow_disk *target = o->disks[m->to - 1];
        bool caught_up = leader_log == NULL ||
                         shadow_hash(&target->log, leader_log->last) == shadow_hash(leader_log, leader_log->last);
        oracle_expect(o, caught_up || target->term > m->term || target->damaged, m->from,
                      "gives the leadership to who lacks entries");
        break;
    }
    }
}

/* ---- damage ---- */

void oracle_damaged(struct oracle *o, uint64_t replica, uint64_t term)
{
    if (term > o->forgot_term[replica - 1]) {
        o->forgot_term[replica - 1] = term;
    }
}

void oracle_repaired(struct oracle *o, uint64_t replica)
{
    const struct shadow_disk *disk = o->disks[replica - 1];
    bool holds = shadow_hash(&disk->log, disk->lost_committed) == shadow_hash(&o->committed, disk->lost_committed);
    oracle_expect(o, holds, replica, "is whole again without what was committed before the damage");
    bool voted = false;
    for (uint64_t other = 1; other <= ORACLE_REPLICAS_MAX && disk->term < ORACLE_TERMS_MAX; other++) {
        voted = voted || (o->votes[disk->term][other - 1] >> (replica - 1) & 1);
    }
    oracle_expect(o, !voted || disk->vote != 0, replica, "is whole again and could vote twice in its term");
}
