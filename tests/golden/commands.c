/* The commands of golden scenarios. Replicas are named by their ids; "1->2" is the way of a message, "all" everybody.
 */
#include "commands.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define WORDS_MAX 32u

struct words {
    uint32_t count;
    const char *at[WORDS_MAX];
};

static uint64_t number(const struct words *w, uint32_t i)
{
    return i < w->count ? strtoull(w->at[i], NULL, 10) : 0;
}

static bool is(const struct words *w, uint32_t i, const char *text)
{
    return i < w->count && strcmp(w->at[i], text) == 0;
}

static struct replica *actor(struct stage *s, const struct words *w, uint32_t i)
{
    uint64_t id = number(w, i);
    return id >= 1 && id <= ORACLE_REPLICAS_MAX ? group_replica(&s->group, id) : NULL;
}

static struct replica *running(struct stage *s, const struct words *w, uint32_t i)
{
    struct replica *n = actor(s, w, i);
    return n != NULL && n->raft != NULL ? n : NULL;
}

/* "1->2"; "all" is from anybody to anybody. */
static bool read_way(const struct words *w, uint32_t i, uint64_t *ret_from, uint64_t *ret_to)
{
    *ret_from = *ret_to = 0;
    if (is(w, i, "all")) {
        return true;
    }
    return i < w->count && sscanf(w->at[i], "%" SCNu64 "->%" SCNu64, ret_from, ret_to) == 2;
}

/* Ids from word i on, up to the first word that is none; "all" and none at all stand for everybody. */
static uint64_t read_mask(const struct words *w, uint32_t i, uint32_t *ret_next)
{
    uint64_t mask = 0;
    while (number(w, i) != 0) {
        mask |= (uint64_t)1 << (number(w, i++) - 1);
    }
    *ret_next = is(w, i, "all") ? i + 1 : i;
    return mask != 0 ? mask : UINT64_MAX;
}

static bool read_config(const struct words *w, uint32_t i, struct raft_config *ret_config)
{
    enum raft_membership kind = RAFT_VOTER;
    *ret_config = (struct raft_config){.count = 0};
    for (; i < w->count; i++) {
        if (is(w, i, "voters") || is(w, i, "learners")) {
            kind = is(w, i, "voters") ? RAFT_VOTER : RAFT_LEARNER;
            continue;
        }
        if (number(w, i) == 0 || ret_config->count == RAFT_MEMBERS_MAX) {
            return false;
        }
        uint32_t at = ret_config->count++;
        for (; at > 0 && ret_config->members[at - 1].replica > number(w, i); at--) {
            ret_config->members[at] = ret_config->members[at - 1];
        }
        ret_config->members[at] =
            (struct raft_member){.replica = number(w, i), .now = (uint8_t)kind, .next = (uint8_t)kind};
    }
    return ret_config->count > 0;
}

/* ---- time, network, disks ---- */

/* campaign 1: time goes on until its election timer fires; nobody else is told of the time. */
static bool run_campaign(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n == NULL) {
        return false;
    }
    for (int i = 0; i < 4 && raft_next_tick_ms(n->raft) != UINT64_MAX; i++) {
        uint64_t due_ms = raft_next_tick_ms(n->raft);
        s->group.now_ms = due_ms > s->group.now_ms ? due_ms : s->group.now_ms;
        group_tick(&s->group, n);
        if (raft_role(n->raft) != RAFT_FOLLOWER) {
            break;
        }
    }
    if (raft_role(n->raft) == RAFT_FOLLOWER) {
        stage_say(s, "%" PRIu64 " does not campaign", n->id);
    }
    return true;
}

static void tick_all(struct stage *s, uint64_t mask, uint64_t ms)
{
    s->group.now_ms += ms;
    for (uint64_t id = 1; id <= ORACLE_REPLICAS_MAX; id++) {
        struct replica *n = group_replica(&s->group, id);
        if (n->raft != NULL && (mask >> (id - 1) & 1)) {
            group_tick(&s->group, n);
        }
    }
}

/* tick 1 2 by 100: time goes on, and these hear of it; tick all by 100. */
static bool run_tick(struct stage *s, const struct words *w)
{
    uint32_t i = 0;
    uint64_t mask = read_mask(w, 1, &i);
    if (!is(w, i, "by")) {
        return false;
    }
    tick_all(s, mask, number(w, i + 1));
    return true;
}

/* silence 2 3: so much time goes by that these wait for their leader no longer, and do not campaign yet. */
static bool run_silence(struct stage *s, const struct words *w)
{
    uint32_t i = 0;
    uint64_t mask = read_mask(w, 1, &i);
    tick_all(s, mask, 1); /* who has heard from its leader counts from its next tick */
    tick_all(s, mask, GROUP_ELECTION_MS);
    return i == w->count;
}

/* pass 200: that much time goes by in steps of a heartbeat, everything settles after each. */
static bool run_pass(struct stage *s, const struct words *w)
{
    for (uint64_t end_ms = s->group.now_ms + number(w, 1); s->group.now_ms < end_ms;) {
        tick_all(s, UINT64_MAX, GROUP_HEARTBEAT_MS);
        stage_settle(s, UINT64_MAX);
    }
    return w->count == 2;
}

static bool run_deliver(struct stage *s, const struct words *w)
{
    uint64_t from = 0;
    uint64_t to = 0;
    if (!read_way(w, 1, &from, &to)) {
        return false;
    }
    if (!stage_deliver(s, from, to)) {
        stage_say(s, "nothing to deliver");
    }
    return true;
}

static bool run_drop(struct stage *s, const struct words *w)
{
    uint64_t from = 0;
    uint64_t to = 0;
    if (!read_way(w, 1, &from, &to)) {
        return false;
    }
    stage_drop(s, from, to);
    return true;
}

/* keep 3 1->2: a copy of the oldest message on that way goes to pocket 3; replay 3 delivers it, as often as wanted. */
static bool run_keep(struct stage *s, const struct words *w)
{
    uint64_t from = 0;
    uint64_t to = 0;
    uint64_t pocket = number(w, 1);
    if (!read_way(w, 2, &from, &to) || pocket >= STAGE_POCKETS_MAX) {
        return false;
    }
    struct packet *p = stage_find(s, from, to);
    if (p == NULL) {
        stage_say(s, "nothing to keep");
        return true;
    }
    free(s->pockets[pocket]);
    s->pockets[pocket] = packet_copy(p);
    return true;
}

static bool run_replay(struct stage *s, const struct words *w)
{
    uint64_t pocket = number(w, 1);
    if (pocket >= STAGE_POCKETS_MAX || s->pockets[pocket] == NULL) {
        return false;
    }
    struct packet *p = s->pockets[pocket];
    group_deliver(&s->group, group_replica(&s->group, p->message.to), p);
    return true;
}

/* cut 1 from 2 3: both ways; cut 1->2: one way. heal: no more cuts. */
static bool run_cut(struct stage *s, const struct words *w)
{
    uint64_t from = 0;
    uint64_t to = 0;
    if (read_way(w, 1, &from, &to) && from != 0) {
        s->cut[from - 1][to - 1] = true;
        return true;
    }
    uint32_t i = 0;
    uint64_t one = read_mask(w, 1, &i);
    if (!is(w, i, "from")) {
        return false;
    }
    uint64_t other = read_mask(w, i + 1, &i);
    for (uint32_t a = 0; a < ORACLE_REPLICAS_MAX; a++) {
        for (uint32_t b = 0; b < ORACLE_REPLICAS_MAX; b++) {
            bool apart = ((one >> a & 1) && (other >> b & 1)) || ((one >> b & 1) && (other >> a & 1));
            s->cut[a][b] = s->cut[a][b] || apart;
        }
    }
    return true;
}

static bool run_heal(struct stage *s, const struct words *w)
{
    memset(s->cut, 0, sizeof s->cut);
    return w->count == 1;
}

/* persist 1: all its writes; persist 1 first: the oldest one. */
static bool run_persist(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n != NULL && is(w, 2, "first") && !STAILQ_EMPTY(&n->writes)) {
        group_persist(&s->group, n, STAILQ_FIRST(&n->writes)->write.id);
    } else if (n != NULL) {
        stage_persist(s, n);
    }
    return n != NULL;
}

static bool run_stall(struct stage *s, const struct words *w)
{
    struct replica *n = actor(s, w, 1);
    if (n != NULL) {
        s->stalled[n->id - 1] = is(w, 0, "stall");
    }
    return n != NULL;
}

static bool run_settle(struct stage *s, const struct words *w)
{
    uint32_t i = 0;
    stage_settle(s, read_mask(w, 1, &i));
    return i == w->count;
}

/* ---- the leader's owner ---- */

static bool run_submit(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n != NULL && !group_submit(&s->group, n, number(w, 2), 100 * number(w, 2))) {
        stage_say(s, "%" PRIu64 " takes no entries", n->id);
    }
    return n != NULL && number(w, 2) > 0;
}

static bool run_noop(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n != NULL && !group_noop(&s->group, n)) {
        stage_say(s, "%" PRIu64 " needs none", n->id);
    }
    return n != NULL;
}

static bool run_change(struct stage *s, const struct words *w)
{
    static const char *const verdicts[] = {"ok",
                                           "it does not lead",
                                           "another change is pending",
                                           "nothing of its term is committed yet",
                                           "a learner is behind",
                                           "too many configurations or members",
                                           "it makes no sense"};
    struct replica *n = running(s, w, 1);
    struct raft_config next;
    if (n == NULL || !read_config(w, 2, &next)) {
        return false;
    }
    enum raft_change_verdict verdict = group_change(&s->group, n, &next);
    if (verdict != RAFT_CHANGE_OK) {
        stage_say(s, "%" PRIu64 " refuses the change: %s", n->id, verdicts[verdict]);
    }
    return true;
}

static bool run_leave(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n != NULL && !group_leave_joint(&s->group, n)) {
        stage_say(s, "%" PRIu64 " has nothing to leave", n->id);
    }
    return n != NULL;
}

static bool run_transfer(struct stage *s, const struct words *w)
{
    uint64_t from = 0;
    uint64_t to = 0;
    if (!read_way(w, 1, &from, &to) || from == 0 || group_replica(&s->group, from)->raft == NULL) {
        return false;
    }
    if (!group_transfer(&s->group, group_replica(&s->group, from), to)) {
        stage_say(s, "%" PRIu64 " cannot give its leadership to %" PRIu64, from, to);
    }
    return true;
}

static bool run_read(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n != NULL && !group_read(&s->group, n)) {
        stage_say(s, "%" PRIu64 " cannot serve reads", n->id);
    }
    return n != NULL;
}

/* ---- snapshots ---- */

/* compact 1 5: it applies and checkpoints, and drops the log up to 5. */
static bool run_compact(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n == NULL || number(w, 2) > n->seen_commit || number(w, 2) > raft_durable_index(n->raft)) {
        return false;
    }
    if (n->applied < n->seen_commit) {
        group_apply(&s->group, n, n->seen_commit);
    }
    group_compact(&s->group, n, number(w, 2));
    return true;
}

static void end_transfer(struct stage *s, struct replica *from, uint64_t to, uint64_t index, bool ok)
{
    struct raft_event event = {.type = RAFT_SNAPSHOT_DONE, .snapshot = {.peer = to, .index = index, .ok = ok}};
    if (from->raft != NULL) {
        group_step(&s->group, from, event, NULL);
    }
}

/* snapshot 1->3: what 1 has applied, installed by 3 if it wants it, and 1 is told that the transfer has succeeded.
 *   snapshot 1->3 fails: 1 is told that it failed
 *   snapshot 1->3 untold: 3 gets it, 1 is not told; snapshot 1->3 told 5: 1 is told that 3 has everything up to 5 */
static bool run_snapshot(struct stage *s, const struct words *w)
{
    uint64_t from = 0;
    uint64_t to = 0;
    if (!read_way(w, 1, &from, &to) || from == 0) {
        return false;
    }
    struct replica *sender = group_replica(&s->group, from);
    struct replica *receiver = group_replica(&s->group, to);
    uint64_t index = sender->applied;
    if (is(w, 2, "fails") || is(w, 2, "told")) {
        end_transfer(s, sender, to, is(w, 2, "told") ? number(w, 3) : index, is(w, 2, "told"));
        return true;
    }
    if (group_install_begin(&s->group, receiver, &sender->log, index)) {
        stage_say(s, "%" PRIu64 " installs the snapshot of %" PRIu64, to, index);
        group_install_end(&s->group, receiver);
    } else {
        stage_say(s, "%" PRIu64 " has no use for the snapshot of %" PRIu64, to, index);
    }
    if (!is(w, 2, "untold")) {
        end_transfer(s, sender, to, index, true);
    }
    return true;
}

/* ---- life ---- */

static bool run_crash(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n != NULL) {
        group_crash(&s->group, n, 0);
    }
    return n != NULL;
}

/* restart 3; join 5: a replica that is no member yet starts empty, as one of the configuration of the birth. */
static bool run_restart(struct stage *s, const struct words *w)
{
    struct replica *n = actor(s, w, 1);
    if (n == NULL || n->raft != NULL || n->exists != is(w, 0, "restart")) {
        return false;
    }
    group_start(&s->group, n);
    n->told_commit = n->seen_commit;
    return true;
}

/* damage 3 after 2 term 1: of a replica that is down the entries behind 2 are lost, and the term is 1 again, without a
 * vote. doubt 3: one that runs finds its disk rotten. */
static bool run_damage(struct stage *s, const struct words *w)
{
    struct replica *n = actor(s, w, 1);
    if (n == NULL || n->raft != NULL || !is(w, 2, "after") || !is(w, 4, "term")) {
        return false;
    }
    group_lose(&s->group, n, number(w, 3), number(w, 5), 0);
    return true;
}

static bool run_doubt(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n != NULL) {
        group_doubt(&s->group, n);
    }
    return n != NULL;
}

static bool run_event(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n == NULL) {
        return false;
    }
    struct raft_event event = {.type = is(w, 0, "sleep") ? RAFT_SLEEP : RAFT_WAKE};
    if (is(w, 0, "full") || is(w, 0, "room")) {
        event = (struct raft_event){.type = RAFT_FULL, .full = is(w, 0, "full")};
    }
    group_step(&s->group, n, event, NULL);
    return true;
}

/* unreachable 1 to 2: 1 is told that the link to 2 broke. */
static bool run_unreachable(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n == NULL || !is(w, 2, "to")) {
        return false;
    }
    group_unreachable(&s->group, n, number(w, 3));
    return true;
}

/* ---- looking ---- */

static void show(struct stage *s, const struct replica *n)
{
    static const char *const roles[] = {"follower", "asking around", "candidate", "leader"};
    const struct raft *r = n->raft;
    if (r == NULL) {
        stage_say(s, "%" PRIu64 " is down", n->id);
        return;
    }
    stage_say(s,
              "%" PRIu64 " is %s in term %" PRIu64 ", log %" PRIu64 "..%" PRIu64 ", durable %" PRIu64
              ", commit %" PRIu64 "%s%s",
              n->id, roles[raft_role(r)], raft_term(r), n->base + 1, raft_last_index(r), raft_durable_index(r),
              raft_commit_index(r), raft_is_quiet(r) ? ", quiet" : "", raft_is_damaged(r) ? ", damaged" : "");
}

static bool run_show(struct stage *s, const struct words *w)
{
    uint32_t next = 0;
    uint64_t mask = read_mask(w, 1, &next);
    for (uint64_t id = 1; id <= ORACLE_REPLICAS_MAX; id++) {
        const struct replica *n = group_replica(&s->group, id);
        if (n->exists && (mask >> (id - 1) & 1)) {
            show(s, n);
        }
    }
    return true;
}

/* terms 2: of the entries in its log. */
static bool run_terms(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n == NULL) {
        return false;
    }
    char text[400] = "";
    size_t size = 0;
    for (uint64_t i = n->base + 1; i <= n->log.last; i++) {
        size += (size_t)snprintf(text + size, sizeof text - size, " %" PRIu64 "/%" PRIu64, i, raft_term_of(n->raft, i));
        ASSERT(size < sizeof text);
    }
    stage_say(s, "%" PRIu64 " has%s", n->id, text);
    return true;
}

static bool run_peers(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n == NULL) {
        return false;
    }
    for (uint64_t id = 1; id <= ORACLE_REPLICAS_MAX; id++) {
        struct raft_peer_state p;
        if (id != n->id && raft_peer_state(n->raft, id, &p)) {
            stage_say(s, "%" PRIu64 " of %" PRIu64 ": match %" PRIu64 ", next %" PRIu64 "%s%s%s%s%s", n->id, id,
                      p.match, p.next, p.probing ? ", probing" : "", p.in_snapshot ? ", in snapshot" : "",
                      p.damaged ? ", damaged" : "", p.full ? ", full" : "", p.leaving ? ", leaving" : "");
        }
    }
    return true;
}

static bool run_config(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n == NULL) {
        return false;
    }
    char text[400];
    uint64_t index = 0;
    stage_print_config(raft_config(n->raft, &index), text, sizeof text);
    stage_say(s, "%" PRIu64 " is of %s, by entry %" PRIu64, n->id, text, index);
    return true;
}

/* room? 1: does it accept entries, and has a majority room for what clients send? */
static bool run_accepts(struct stage *s, const struct words *w)
{
    struct replica *n = running(s, w, 1);
    if (n != NULL) {
        stage_say(s, "%" PRIu64 " %s entries, %s", n->id, raft_accepts(n->raft) ? "takes" : "takes no",
                  raft_has_room(n->raft) ? "a majority has room" : "no majority has room");
    }
    return n != NULL;
}

static bool run_network(struct stage *s, const struct words *w)
{
    uint32_t count = 0;
    struct packet *p;
    TAILQ_FOREACH(p, &s->network, link)
    {
        count++;
    }
    stage_say(s, "%" PRIu32 " messages on their way", count);
    return w->count == 1;
}

static bool run_replicas(struct stage *s, const struct words *w)
{
    struct raft_config birth;
    if (s->group.oracle.configs_count != 0 || !read_config(w, 1, &birth)) {
        return false;
    }
    bool hushed = s->hushed;
    stage_open(s, &birth, s->out);
    s->hushed = hushed;
    return true;
}

static const struct {
    const char *name;
    bool (*run)(struct stage *s, const struct words *w);
} commands[] = {
    {"replicas", run_replicas}, {"campaign", run_campaign}, {"tick", run_tick},
    {"silence", run_silence},   {"pass", run_pass},         {"deliver", run_deliver},
    {"drop", run_drop},         {"keep", run_keep},         {"replay", run_replay},
    {"cut", run_cut},           {"heal", run_heal},         {"persist", run_persist},
    {"stall", run_stall},       {"unstall", run_stall},     {"stabilize", run_settle},
    {"submit", run_submit},     {"noop", run_noop},         {"change", run_change},
    {"leave", run_leave},       {"transfer", run_transfer}, {"read", run_read},
    {"compact", run_compact},   {"snapshot", run_snapshot}, {"crash", run_crash},
    {"restart", run_restart},   {"join", run_restart},      {"damage", run_damage},
    {"doubt", run_doubt},       {"sleep", run_event},       {"wake", run_event},
    {"full", run_event},        {"room", run_event},        {"show", run_show},
    {"terms", run_terms},       {"peers", run_peers},       {"config", run_config},
    {"accepts", run_accepts},   {"network", run_network},   {"unreachable", run_unreachable},
};

bool command_run(struct stage *s, const char *line)
{
    char copy[256];
    struct words w = {.count = 0};
    snprintf(copy, sizeof copy, "%s", line);
    char *rest = NULL;
    for (char *word = strtok_r(copy, " ", &rest); word != NULL && w.count < WORDS_MAX;
         word = strtok_r(NULL, " ", &rest)) {
        w.at[w.count++] = word;
    }
    s->hushed = is(&w, 0, "hush");
    if (s->hushed) {
        w.count--;
        memmove(w.at, w.at + 1, w.count * sizeof w.at[0]);
    }
    if (!is(&w, 0, "replicas") && s->group.oracle.configs_count == 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (is(&w, 0, commands[i].name)) {
            return commands[i].run(s, &w);
        }
    }
    return false;
}
