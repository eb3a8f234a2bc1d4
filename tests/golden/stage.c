/* The stage of golden scenarios: what happens in a group of replicas, told as lines of text. See stage.h. */
#include "stage.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define LINE_MAX_BYTES 512

void stage_say(struct stage *s, const char *format, ...)
{
    if (s->hushed) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    fputs("    ", s->out);
    vfprintf(s->out, format, arguments);
    fputc('\n', s->out);
    va_end(arguments);
}

/* A text that grows by pieces; what does not fit is cut. */
struct text {
    char bytes[LINE_MAX_BYTES];
    size_t size;
};

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(t->bytes + t->size, sizeof t->bytes - t->size, format, arguments);
    va_end(arguments);
    ASSERT(size >= 0 && t->size + (size_t)size < sizeof t->bytes);
    t->size += (size_t)size;
}

static void add_half(struct text *t, const struct raft_config *config, bool next, enum raft_membership kind)
{
    for (uint32_t i = 0; i < config->count; i++) {
        const struct raft_member *m = &config->members[i];
        if ((next ? m->next : m->now) == kind) {
            add(t, " %" PRIu64, m->replica);
        }
    }
}

static bool has_learners(const struct raft_config *config, bool next)
{
    bool learners = false;
    for (uint32_t i = 0; i < config->count; i++) {
        learners = learners || (next ? config->members[i].next : config->members[i].now) == RAFT_LEARNER;
    }
    return learners;
}

static void add_config(struct text *t, const struct raft_config *config)
{
    for (int next = 0; next <= raft_config_is_joint(config); next++) {
        add(t, "%svoters", next ? " -> " : "");
        add_half(t, config, next, RAFT_VOTER);
        if (has_learners(config, next)) {
            add(t, " learners");
            add_half(t, config, next, RAFT_LEARNER);
        }
    }
}

void stage_print_config(const struct raft_config *config, char *text, size_t size)
{
    struct text t = {.size = 0};
    add_config(&t, config);
    snprintf(text, size, "%s", t.bytes);
}

/* ---- messages ---- */

static void add_range(struct text *t, uint64_t first, uint64_t last)
{
    add(t, first == last ? "%" PRIu64 : "%" PRIu64 "..", first);
    if (first != last) {
        add(t, "%" PRIu64, last);
    }
}

static void add_append(struct text *t, const struct raft_message *m)
{
    add(t, "append after %" PRIu64 "/%" PRIu64 ":", m->index, m->index_term);
    uint64_t at = m->index + 1;
    for (uint32_t i = 0; i < m->runs_count; i++) {
        add(t, " ");
        add_range(t, at, at + m->runs[i].count - 1);
        add(t, " (term %" PRIu64 ")", m->runs[i].term);
        at += m->runs[i].count;
    }
    add(t, m->count == 0 ? " nothing" : "");
    if (m->has_config) {
        add(t, ", %" PRIu64 " is ", m->index + m->count);
        add_config(t, &m->config);
    }
    add(t, ", commit %" PRIu64, m->commit);
}

static void add_append_reply(struct text *t, const struct raft_message *m)
{
    if (!m->reject) {
        add(t, "has up to %" PRIu64, m->index);
    } else if (m->index_term != 0) {
        add(t, "refuses %" PRIu64 ": has term %" PRIu64 " from %" PRIu64 " on", m->index, m->index_term, m->hint);
    } else if (m->hint != 0) {
        add(t, "refuses %" PRIu64 ": its log ends at %" PRIu64, m->index, m->hint - 1);
    } else {
        add(t, "refuses %" PRIu64, m->index);
    }
}

static void add_vote(struct text *t, const struct raft_message *m)
{
    if (m->type == RAFT_VOTE_REQUEST) {
        add(t, m->pre ? "would you vote?" : "your vote?");
        add(t, " log ends at %" PRIu64 "/%" PRIu64 "%s", m->index, m->index_term, m->force ? ", by order" : "");
    } else if (m->pre) {
        add(t, m->reject ? "would not vote" : "would vote");
    } else {
        add(t, m->reject ? "no vote" : "a vote");
    }
}

static void add_message(struct text *t, const struct raft_message *m)
{
    add(t, "%" PRIu64 " -> %" PRIu64 " in %" PRIu64 ": ", m->from, m->to, m->term);
    switch (m->type) {
    case RAFT_VOTE_REQUEST:
    case RAFT_VOTE_REPLY:
        add_vote(t, m);
        break;
    case RAFT_APPEND:
        add_append(t, m);
        break;
    case RAFT_APPEND_REPLY:
        add_append_reply(t, m);
        break;
    case RAFT_BEAT:
        add(t, m->quiet ? "beat, let us sleep at %" PRIu64 : "beat", m->index);
        add(t, ", commit %" PRIu64, m->commit);
        break;
    case RAFT_BEAT_REPLY:
        add(t, m->quiet ? "beat back, asleep" : "beat back");
        break;
    case RAFT_TIMEOUT_NOW:
        add(t, "campaign now");
        break;
    }
    if (m->round != 0) {
        add(t, ", round %" PRIu64, m->round);
    }
    if (m->heal != 0) {
        add(t, ", whole from %" PRIu64 " on", m->heal);
    }
    add(t, "%s%s", m->damaged ? ", damaged" : "", m->full ? ", full" : "");
}

static void say_message(struct stage *s, const struct raft_message *m, const char *fate)
{
    struct text t = {.size = 0};
    add_message(&t, m);
    stage_say(s, "%s%s", t.bytes, fate);
}

static void transmit(void *context, struct packet *p)
{
    struct stage *s = context;
    bool cut = s->cut[p->message.from - 1][p->message.to - 1];
    say_message(s, &p->message, cut ? " (lost)" : "");
    if (cut) {
        free(p);
        return;
    }
    TAILQ_INSERT_TAIL(&s->network, p, link);
}

/* ---- updates ---- */

static void say_write(struct stage *s, const struct replica *n, const struct raft_write *w)
{
    struct text t = {.size = 0};
    add(&t, "%" PRIu64 " writes", n->id);
    if (w->hard_state) {
        add(&t, " term %" PRIu64 ", vote %" PRIu64, w->term, w->vote);
    }
    if (w->truncate_from != 0) {
        add(&t, "%s cut from %" PRIu64, w->hard_state ? ";" : "", w->truncate_from);
    }
    if (w->first <= w->last) {
        add(&t, "%s entries ", w->hard_state || w->truncate_from != 0 ? ";" : "");
        add_range(&t, w->first, w->last);
    }
    stage_say(s, "%s", t.bytes);
}

static void say_role(struct stage *s, const struct replica *n, const struct raft_update *u)
{
    switch (u->role) {
    case RAFT_FOLLOWER:
        if (u->leader != 0) {
            stage_say(s, "%" PRIu64 " follows %" PRIu64 " in term %" PRIu64, n->id, u->leader, u->term);
        } else {
            stage_say(s, "%" PRIu64 " follows nobody in term %" PRIu64, n->id, u->term);
        }
        break;
    case RAFT_PRE_CANDIDATE:
        stage_say(s, "%" PRIu64 " asks around in term %" PRIu64, n->id, u->term);
        break;
    case RAFT_CANDIDATE:
        stage_say(s, "%" PRIu64 " campaigns in term %" PRIu64, n->id, u->term);
        break;
    case RAFT_LEADER:
        stage_say(s, "%" PRIu64 " leads term %" PRIu64, n->id, u->term);
        break;
    }
}

/* Runs before the update is carried out: so the sends follow. */
static void watch(void *context, struct replica *n, const struct raft_update *u)
{
    struct stage *s = context;
    if (u->role_changed) {
        say_role(s, n, u);
    }
    if (u->write.id != 0) {
        say_write(s, n, &u->write);
    }
    if (u->commit > n->told_commit) {
        stage_say(s, "%" PRIu64 " has committed %" PRIu64, n->id, u->commit);
        n->told_commit = u->commit;
    }
    if (u->config_changed) {
        struct text t = {.size = 0};
        uint64_t index = 0;
        add_config(&t, raft_config(n->raft, &index));
        stage_say(s, "%" PRIu64 " is now of %s, by entry %" PRIu64, n->id, t.bytes, index);
    }
    if (u->leave_due && !n->leave_due) {
        stage_say(s, "%" PRIu64 " may leave the joint configuration", n->id);
    }
    if (u->noop_due && !n->noop_due) {
        stage_say(s, "%" PRIu64 " wants an entry for a damaged replica", n->id);
    }
    if (u->repaired && !n->repair_due) {
        stage_say(s, "%" PRIu64 " is whole again once that is durable", n->id);
    }
    if (u->role == RAFT_LEADER && u->read_round > n->read_round) {
        stage_say(s, "%" PRIu64 " may serve reads of round %" PRIu64 " at %" PRIu64, n->id, u->read_round,
                  u->read_index);
    }
}

static void send_snapshot(void *context, struct replica *n, uint64_t to)
{
    stage_say(context, "%" PRIu64 " must send %" PRIu64 " a snapshot", n->id, to);
}

/* ---- moving things ---- */

struct packet *stage_find(struct stage *s, uint64_t from, uint64_t to)
{
    struct packet *p;
    TAILQ_FOREACH(p, &s->network, link)
    {
        if ((from == 0 || p->message.from == from) && (to == 0 || p->message.to == to)) {
            return p;
        }
    }
    return NULL;
}

bool stage_deliver(struct stage *s, uint64_t from, uint64_t to)
{
    struct packet *p = stage_find(s, from, to);
    if (p == NULL) {
        return false;
    }
    TAILQ_REMOVE(&s->network, p, link);
    group_deliver(&s->group, group_replica(&s->group, p->message.to), p);
    free(p);
    return true;
}

void stage_drop(struct stage *s, uint64_t from, uint64_t to)
{
    struct packet *p;
    while ((p = stage_find(s, from, to)) != NULL) {
        TAILQ_REMOVE(&s->network, p, link);
        free(p);
    }
}

void stage_persist(struct stage *s, struct replica *n)
{
    if (n->raft != NULL && n->persisted_id < n->last_write_id) {
        group_persist(&s->group, n, n->last_write_id);
    } else if (n->raft != NULL && n->repair_due) {
        group_persist(&s->group, n, n->persisted_id);
    }
}

void stage_settle(struct stage *s, uint64_t mask)
{
    bool moved = true;
    for (int rounds = 0; moved; rounds++) {
        ASSERT(rounds < 1000); /* it never settles */
        moved = false;
        for (uint64_t id = 1; id <= ORACLE_REPLICAS_MAX; id++) {
            struct replica *n = group_replica(&s->group, id);
            if (n->raft == NULL || !(mask >> (id - 1) & 1)) {
                continue;
            }
            if (n->applied < n->seen_commit) {
                group_apply(&s->group, n, n->seen_commit);
            }
            bool pending = n->persisted_id < n->last_write_id || n->repair_due;
            if (pending && !s->stalled[id - 1]) {
                stage_persist(s, n);
                moved = true;
            }
        }
        struct packet *p;
        TAILQ_FOREACH(p, &s->network, link)
        {
            if (mask >> (p->message.to - 1) & 1) {
                break;
            }
        }
        if (p != NULL) {
            stage_deliver(s, p->message.from, p->message.to);
            moved = true;
        }
    }
}

/* ---- life ---- */

void stage_open(struct stage *s, const struct raft_config *birth, FILE *out)
{
    memset(s, 0, sizeof *s);
    s->out = out;
    TAILQ_INIT(&s->network);
    group_init(&s->group, 1, birth);
    s->group.context = s;
    s->group.by_hand = true;
    s->group.transmit = transmit;
    s->group.send_snapshot = send_snapshot;
    s->group.watch = watch;
    for (uint32_t i = 0; i < birth->count; i++) {
        group_start(&s->group, group_replica(&s->group, birth->members[i].replica));
    }
}

void stage_close(struct stage *s)
{
    stage_drop(s, 0, 0);
    for (uint32_t i = 0; i < STAGE_POCKETS_MAX; i++) {
        free(s->pockets[i]);
    }
    group_done(&s->group);
}
