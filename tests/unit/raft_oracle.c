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

void shadow_append(struct shadow_log *log, uint64_t term, uint64_t value)
{
    if (log->last == log->capacity) {
        log->capacity = log->capacity == 0 ? 64 : log->capacity * 2;
        log->entries = realloc(log->entries, log->capacity * sizeof *log->entries);
        assert_non_null(log->entries);
    }
    uint64_t before = log->last > 0 ? log->entries[log->last - 1].hash : 0;
    uint64_t hash = mix(mix(mix(before, log->last + 1), term), value) | 1;
    log->entries[log->last++] = (struct shadow_entry){.term = term, .value = value, .hash = hash};
}

void shadow_truncate(struct shadow_log *log, uint64_t last)
{
    if (last < log->last) {
        log->last = last;
    }
}

void shadow_copy(struct shadow_log *to, const struct shadow_log *from)
{
    to->last = 0;
    for (uint64_t i = 1; i <= from->last; i++) {
        shadow_append(to, shadow_at(from, i)->term, shadow_at(from, i)->value);
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

/* ---- the oracle ---- */

void oracle_init(struct oracle *o, uint64_t seed, uint32_t nodes, const uint64_t *now_ms)
{
    memset(o, 0, sizeof *o);
    o->seed = seed;
    o->nodes = nodes;
    o->now_ms = now_ms;
}

void oracle_done(struct oracle *o)
{
    shadow_free(&o->committed);
    shadow_free(&o->commit_term);
}

void oracle_expect(const struct oracle *o, bool condition, uint64_t replica, const char *what)
{
    if (!condition) {
        fail_msg("seed %" PRIu64 ", %" PRIu32 " replicas, %" PRIu64 " ms, replica %" PRIu64 ": %s", o->seed, o->nodes,
                 *o->now_ms, replica, what);
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
    o->leader_of[term] = replica;
    uint64_t last = o->committed.last; /* in earlier terms, that is: a leader may be late, and deposed already */
    while (last > 0 && shadow_at(&o->commit_term, last)->term >= term) {
        last--;
    }
    oracle_expect(o, shadow_hash(log, last) == shadow_hash(&o->committed, last), replica,
                  "a leader without a committed entry");
}

void oracle_committed(struct oracle *o, uint64_t replica, uint64_t term, const struct shadow_log *log, uint64_t index)
{
    const struct shadow_entry *entry = shadow_at(log, index);
    oracle_expect(o, entry != NULL, replica, "commits what it does not have");
    if (index <= o->committed.last) {
        bool same = entry->hash == shadow_hash(&o->committed, index);
        oracle_expect(o, same, replica, "two entries committed at one index");
        return;
    }
    oracle_expect(o, index == o->committed.last + 1, replica, "commits leave a gap");
    uint32_t durable_on = 0;
    for (uint32_t i = 0; i < o->nodes; i++) {
        durable_on += shadow_hash(&o->disks[i]->log, index) == entry->hash;
    }
    oracle_expect(o, durable_on > o->nodes / 2, replica, "commits what no majority has on disk");
    shadow_append(&o->committed, entry->term, entry->value);
    shadow_append(&o->commit_term, term, term);
}

static void check_vote(struct oracle *o, const struct raft_message *m, uint64_t candidate)
{
    const struct shadow_disk *disk = o->disks[m->from - 1];
    oracle_expect(o, disk->term > m->term || disk->vote == candidate, m->from, "a vote leaves before it is on disk");
    oracle_expect(o, m->term < ORACLE_TERMS_MAX, m->from, "more terms than the oracle has room for");
    uint64_t *vote = &o->vote_of[m->from - 1][m->term];
    oracle_expect(o, *vote == 0 || *vote == candidate, m->from, "two votes in one term");
    *vote = candidate;
}

void oracle_sent(struct oracle *o, const struct raft_message *m, const struct shadow_log *leader_log)
{
    const struct shadow_disk *disk = o->disks[m->from - 1];
    oracle_expect(o, disk->term >= m->term, m->from, "a message leaves before its term is on disk");
    switch (m->type) {
    case RAFT_VOTE_REQUEST:
        check_vote(o, m, m->from);
        break;
    case RAFT_VOTE_REPLY:
        if (!m->reject) {
            check_vote(o, m, m->to);
        }
        break;
    case RAFT_APPEND:
        oracle_expect(o, m->term < ORACLE_TERMS_MAX && o->leader_of[m->term] == m->from, m->from,
                      "an append by a replica that is not leader");
        break;
    case RAFT_APPEND_REPLY:
        /* A disk of a later term may have been cut since; a leader of that term does not count this any more. */
        if (!m->reject && leader_log != NULL && disk->term == m->term) {
            oracle_expect(o, shadow_hash(&disk->log, m->index) == shadow_hash(leader_log, m->index), m->from,
                          "acknowledges what is not on disk");
        }
        break;
    }
}
