/* Who is there: groups, replicas, machines; and the two ways in which a live broker is seen: by the rows that leave it,
 * and by what it is after a turn. What is made of it: see judge_impl.h. */
#include "judge_impl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/crc32c.h"
#include "broker/impl.h"
#include "raft/impl.h"

#define TERMS_MAX        65536u /* nothing that a run does needs as many elections */
#define LOOK_US          20000u /* between two looks at a leader that does nothing */
#define SWEEP_US         1000u  /* between two looks at all groups of a broker that has many */
#define SWEEP_GROUPS_MAX 4u
#define ASKED_US_MAX     60000000u /* so long after a request for a vote all that comes is read */

/* --- tables --- */

struct judge *judge_new(struct sim_world *world)
{
    struct judge *judge = calloc(1, sizeof *judge);
    ASSERT(judge != NULL);
    judge->world = world;
    return judge;
}

void judge_watch(struct judge *judge, const struct judge_watcher *watcher)
{
    judge->watcher = *watcher;
}

void judge_free(struct judge *judge)
{
    struct judge_group *group, *next;
    HASH_ITER(hh, judge->groups, group, next)
    {
        HASH_DEL(judge->groups, group);
        ghost__free(group);
        state__free(group);
        for (uint32_t i = 0; i < group->replicas_count; i++) {
            disk__forget(&group->replicas[i]->image);
            free(group->replicas[i]);
        }
        free(group->terms);
        free(group);
    }
    for (uint32_t i = 0; i <= JUDGE_BROKERS_MAX; i++) {
        free(judge->machines[i].places);
    }
    free(judge);
}

struct judge_group *judge__group(struct judge *judge, uint64_t id)
{
    struct judge_group *group;
    HASH_FIND(hh, judge->groups, &id, sizeof id, group);
    if (group == NULL) {
        group = calloc(1, sizeof *group);
        ASSERT(group != NULL);
        group->id = id;
        HASH_ADD(hh, judge->groups, id, sizeof group->id, group);
    }
    return group;
}

struct judge_replica *judge__replica(const struct judge_group *group, uint64_t id)
{
    for (uint32_t i = 0; i < group->replicas_count; i++) {
        if (group->replicas[i]->id == id) {
            return group->replicas[i];
        }
    }
    return NULL;
}

struct judge_replica *judge__replica_on(struct judge_group *group, uint64_t id, uint64_t broker)
{
    struct judge_replica *r = judge__replica(group, id);
    if (r == NULL) {
        ASSERT(group->replicas_count < JUDGE_REPLICAS_MAX);
        r = calloc(1, sizeof *r);
        ASSERT(r != NULL);
        r->id = id;
        r->broker = broker;
        r->place = group->replicas_count;
        r->accepted = true;
        group->replicas[group->replicas_count++] = r;
    }
    return r;
}

struct judge_term *judge__term(struct judge_group *group, uint64_t term)
{
    if (term >= TERMS_MAX) {
        return NULL;
    }
    group->terms = sim_grow(group->terms, &group->terms_capacity, term + 1, sizeof *group->terms);
    return &group->terms[term];
}

void judge__fail(struct judge *judge, enum sim_judge id, const struct judge_group *group, uint64_t replica,
                 const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    world_fail(judge->world, sim_judge_name(id), "group %llu, replica %llu, %.3f s: %s", (unsigned long long)group->id,
               (unsigned long long)replica, (double)judge->world->now_us / 1e6, text);
}

/* --- configurations --- */

bool judge__is_voter(const struct raft_config *config, uint64_t replica)
{
    for (uint32_t i = 0; i < config->count; i++) {
        const struct raft_member *m = &config->members[i];
        if (m->replica == replica) {
            return m->now == RAFT_VOTER || m->next == RAFT_VOTER;
        }
    }
    return false;
}

bool judge__would_vote(void *context, uint64_t replica)
{
    const struct judge_wishing *w = context;
    const struct judge_replica *r = judge__replica(w->group, replica);
    return r != NULL && (r == w->candidate || (w->term->wishes[w->candidate->place] >> r->place & 1));
}

bool judge__is_quorum(const struct raft_config *config, bool (*holds)(void *context, uint64_t replica), void *context)
{
    uint32_t voters[2] = {0}, present[2] = {0};
    for (uint32_t i = 0; i < config->count; i++) {
        const struct raft_member *m = &config->members[i];
        bool votes_now = m->now == RAFT_VOTER, votes_next = m->next == RAFT_VOTER;
        bool is_present = (votes_now || votes_next) && holds(context, m->replica);
        voters[0] += votes_now;
        voters[1] += votes_next;
        present[0] += votes_now && is_present;
        present[1] += votes_next && is_present;
    }
    return present[0] > voters[0] / 2 && present[1] > voters[1] / 2;
}

bool judge__config_equal(const struct raft_config *a, const struct raft_config *b)
{
    bool is_equal = a->count == b->count;
    for (uint32_t i = 0; is_equal && i < a->count; i++) {
        const struct raft_member *x = &a->members[i], *y = &b->members[i];
        is_equal = x->replica == y->replica && x->now == y->now && x->next == y->next;
    }
    return is_equal;
}

/* --- looking at a partition --- */

static uint64_t look_term_of(const void *context, uint64_t index)
{
    return raft_term_of(((const struct partition *)context)->raft, index);
}

static bool look_payload(const void *context, uint64_t index, uint32_t *ret_crc)
{
    struct window *window = (struct window *)&((const struct partition *)context)->window; /* window_at is not const */
    if (index < window->first_index || index > window_last(window)) {
        return false;
    }
    const struct slice *payload = &window_at(window, index)->payload;
    *ret_crc = crc32c(0, payload->data, payload->size);
    return true;
}

static bool look_peer(const void *context, uint64_t replica, struct raft_peer_state *ret_state)
{
    return raft_peer_state(((const struct partition *)context)->raft, replica, ret_state);
}

static uint64_t mixed(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ (hash >> 29);
}

/* Where the log starts is left out: segments that retention dropped go without a newer picture while their log cannot
 * be saved, so a start may find it ahead of what is applied. What clients are told of it is held against the log: B13.
 */
static uint64_t look_state(const void *context)
{
    const struct partition *p = context;
    if (p->installing && p->kind == TOPIC_DATA && p->log == NULL) {
        return 0; /* where its log begins and ends it knows again when that is done */
    }
    uint64_t hash = mixed(done_hash(p->done), (uint64_t)p->log_clock_ms);
    hash = mixed(mixed(hash, (uint64_t)p->idle_clock_ms), (uint64_t)partition_high_watermark(p));
    hash = mixed(hash, p->config.segment_bytes);
    hash = mixed(mixed(hash, (uint64_t)p->config.retention_bytes), (uint64_t)p->config.retention_ms);
    return hash | 1;
}

static void look(const struct judge_machine *machine, const struct partition *p, struct judge_sight *ret_sight)
{
    const struct raft *r = p->raft;
    uint64_t last = raft_last_index(r);
    *ret_sight = (struct judge_sight){.group = p->group,
                                      .replica = p->replica,
                                      .broker = machine->id,
                                      .role = raft_role(r),
                                      .term = raft_term(r),
                                      .vote = raft_vote(r),
                                      .leader = raft_leader(r),
                                      .is_fresh = r->writes.last_id == 0 && !writes__pending(&r->writes, last),
                                      .commit = raft_commit_index(r),
                                      .applied = p->applied_index,
                                      .durable = raft_durable_index(r),
                                      .last = last,
                                      .last_term = raft_term_of(r, last),
                                      .accepts = raft_accepts(r),
                                      .is_quiet = raft_is_quiet(r),
                                      .is_damaged = raft_is_damaged(r),
                                      .is_installing = p->installing,
                                      .is_ahead = p->is_ahead,
                                      .is_said = wal_pending_bytes(machine->broker->wal) == 0,
                                      .end = p->leader_ready ? partition_high_watermark(p) : 0,
                                      .installs = p->installs,
                                      .heartbeat_ms = machine->broker->config->heartbeat_ms,
                                      .election_ms = machine->broker->config->election_ms,
                                      .context = p,
                                      .term_of = look_term_of,
                                      .payload = look_payload,
                                      .peer = look_peer,
                                      .state = look_state};
    ret_sight->config = raft_config(r, &ret_sight->config_index);
    if (ret_sight->role == RAFT_LEADER) {
        const struct confirm *first = STAILQ_FIRST(&p->confirms);
        ret_sight->round = r->round_confirmed;
        ret_sight->told_round = r->told_round;
        ret_sight->waits_for = first != NULL ? first->round : 0;
        ret_sight->has_own_commit = raft__own_term_committed(r);
    }
}

bool judge__look(struct judge *judge, const struct judge_group *group, const struct judge_replica *r,
                 struct judge_sight *ret_sight)
{
    if (judge->look != NULL) {
        return judge->look(r, ret_sight);
    }
    const struct judge_machine *machine = &judge->machines[r->broker];
    const struct partition *p = machine->broker != NULL ? groups_find(machine->broker, group->id) : NULL;
    if (p == NULL || p->raft == NULL || p->replica != r->id) {
        return false;
    }
    look(machine, p, ret_sight);
    return true;
}

bool judge__is_damaged(struct judge *judge, const struct judge_group *group, const struct judge_replica *r)
{
    const struct judge_machine *machine = &judge->machines[r->broker];
    const struct partition *p = machine->broker != NULL ? groups_find(machine->broker, group->id) : NULL;
    return p != NULL && (p->state == PARTITION_DAMAGED || (p->raft != NULL && raft_is_damaged(p->raft)));
}

/* --- turns --- */

/* Every applied entry is counted once by the broker, and moves one applied index by one. */
static void judge_applied(struct judge *judge, struct judge_machine *machine, uint64_t moved, bool is_exact)
{
    uint64_t total = machine->broker->counters.apply_entries_total;
    if (is_exact && total - machine->applied_total != moved) {
        world_fail(judge->world, "R5", "broker %llu, %.3f s: %llu entries were applied, applied indexes moved by %llu",
                   (unsigned long long)machine->id, (double)judge->world->now_us / 1e6,
                   (unsigned long long)(total - machine->applied_total), (unsigned long long)moved);
    }
    machine->applied_total = total;
    machine->configs_proposed = machine->broker->counters.configs_proposed_total;
}

/* Where rows find no place nobody can be told anything. */
static void note_drops(struct judge *judge, struct judge_machine *machine)
{
    struct peers_state peer;
    for (uint32_t i = 0; peers_state(machine->broker->peers, i, &peer); i++) {
        ASSERT(peer.broker <= JUDGE_BROKERS_MAX);
        if (!peer.up || peer.dropped_rows != machine->dropped_rows[peer.broker]) {
            machine->dropped_rows[peer.broker] = peer.dropped_rows;
            machine->dropped_us[peer.broker] = judge->world->now_us;
        }
    }
}

static struct judge_place *place_of(struct judge *judge, struct judge_machine *machine, uint64_t number,
                                    const struct partition *p)
{
    machine->places = sim_grow(machine->places, &machine->places_capacity, number + 1, sizeof *machine->places);
    struct judge_place *place = &machine->places[number];
    if (place->partition != p || place->group->id != p->group || place->replica->id != p->replica) {
        place->partition = p;
        place->group = judge__group(judge, p->group);
        place->replica = judge__replica_on(place->group, p->replica, machine->id);
    }
    return place;
}

/* Nothing that a rule speaks of: but time, of which leaders are judged by, and what they know of others. */
static bool is_as_seen(const struct judge *judge, const struct partition *p, const struct judge_replica *r)
{
    const struct raft *raft = p->raft;
    bool is_same = r->was_seen && raft->term == r->term && raft->role == r->role && raft->commit_index == r->commit &&
                   p->applied_index == r->applied && raft->trail.last_index == r->last &&
                   raft->damaged == r->was_damaged && raft->quiet == r->was_quiet && p->installs == r->installs &&
                   raft->writes.last_id == r->write_id && (!p->is_ahead || r->is_ahead);
    if (!is_same || raft->role != RAFT_LEADER) {
        return is_same;
    }
    return raft->round_confirmed == r->round && STAILQ_EMPTY(&p->confirms) && (raft->transfer_to == 0) == r->accepted &&
           judge->world->now_us - r->looked_us < LOOK_US;
}

static void sweep(struct judge *judge, struct judge_machine *machine, bool is_first)
{
    uint64_t moved = 0, number = 0;
    bool was_held = machine->was_held, is_exact = !is_first;
    machine->was_held = machine->has_unborn = false;
    machine->swept_us = judge->world->now_us;
    disk__fresh(judge, machine);
    note_drops(judge, machine);
    for (const struct partition *p = machine->broker->groups; p != NULL; p = p->hh.next) {
        struct judge_sight sight;
        if (p->raft == NULL) {
            machine->has_unborn = true;
            continue;
        }
        const struct judge_place *place = place_of(judge, machine, number++, p);
        struct judge_replica *r = place->replica;
        if (!was_held && is_as_seen(judge, p, r)) {
            continue;
        }
        look(machine, p, &sight);
        if (was_held) {
            r->excuse_us = r->held_us = judge->world->now_us;
        }
        is_exact = is_exact && r->was_seen && r->installs == sight.installs;
        moved += sight.applied - r->applied;
        r->looked_us = judge->world->now_us;
        r->write_id = p->raft->writes.last_id;
        raft__saw(judge, place->group, r, &sight);
        if (judge->world->failed) {
            return;
        }
    }
    is_exact = is_exact && number == machine->seen; /* none is new, or gone with what it had applied */
    machine->seen = number;
    judge_applied(judge, machine, moved, is_exact);
}

/* A broker comes when its timer is due; between its timer and the turn behind it, soon. */
static uint64_t expected_us(const struct judge_machine *machine)
{
    const struct broker *b = machine->broker;
    uint64_t heartbeat_us = (uint64_t)b->config->heartbeat_ms * 1000;
    uint64_t timer_us = b->next_timer_us == UINT64_MAX ? clock_now_us(b->clock) + heartbeat_us / 2 : b->next_timer_us;
    return timer_us + heartbeat_us / 4 * 3;
}

/* Not every turn does something for a group, and what leaves the broker in between is judged as it leaves. */
static void turn(struct judge *judge, struct judge_machine *machine, bool must_sweep)
{
    uint64_t now_us = judge->world->now_us;
    machine->was_held |= clock_now_us(machine->broker->clock) > machine->turn_us;
    machine->turn_us = expected_us(machine);
    bool is_small = HASH_COUNT(machine->broker->groups) <= SWEEP_GROUPS_MAX;
    bool has_applied = machine->broker->counters.apply_entries_total != machine->applied_total;
    has_applied |= machine->broker->counters.configs_proposed_total != machine->configs_proposed;
    if (must_sweep || is_small || machine->has_unborn || has_applied || now_us - machine->swept_us >= SWEEP_US) {
        sweep(judge, machine, false);
    }
}

void judge_turn(struct judge *judge, uint64_t id)
{
    struct judge_machine *machine = &judge->machines[id];
    if (machine->broker != NULL && !judge->world->failed) {
        turn(judge, machine, false);
    }
}

/* --- machines --- */

void judge_machine(struct judge *judge, uint64_t id, struct sim_disk *disk, struct kv *kv)
{
    ASSERT(id >= 1 && id <= JUDGE_BROKERS_MAX);
    free(judge->machines[id].places);
    judge->machines[id] = (struct judge_machine){.id = id, .disk = disk, .kv = kv, .commits = UINT64_MAX};
}

void judge_started(struct judge *judge, uint64_t id, struct broker *broker)
{
    struct judge_machine *machine = &judge->machines[id];
    machine->broker = broker;
    if (machine->places != NULL) { /* an address may have come back */
        memset(machine->places, 0, machine->places_capacity * sizeof *machine->places);
    }
    machine->commits = UINT64_MAX; /* the start has made durable what an earlier process had committed */
    for (uint32_t i = 0; i <= JUDGE_BROKERS_MAX; i++) {
        machine->delivered_us[i] = machine->dropped_us[i] = judge->world->now_us;
        machine->dropped_rows[i] = 0;
    }
    machine->turn_us = expected_us(machine);
    if (!judge->world->failed) {
        sweep(judge, machine, true);
    }
}

/* What was sent to a process that is gone does not come any more. */
static void forget_shown(struct judge_group *group, const struct judge_replica *r)
{
    for (uint64_t t = 0; t < group->terms_capacity; t++) {
        group->terms[t].shown[r->place] = 0;
    }
}

void judge_dies(struct judge *judge, uint64_t id)
{
    struct judge_machine *machine = &judge->machines[id];
    if (machine->broker != NULL && !judge->world->failed) {
        turn(judge, machine, true);
    }
    machine->broker = NULL;
    for (struct judge_group *group = judge->groups; group != NULL; group = group->hh.next) {
        for (uint32_t i = 0; i < group->replicas_count; i++) {
            struct judge_replica *r = group->replicas[i];
            if (r->broker != id) {
                continue;
            }
            r->was_seen = false;
            r->led_term = 0;
            memset(r->asks, 0, sizeof r->asks);
            if (!judge->replays) {
                forget_shown(group, r);
            }
        }
    }
}

void judge_exited(struct judge *judge, uint64_t id)
{
    judge->machines[id].broker = NULL;
    judge_dies(judge, id);
}

void judge_crashed(struct judge *judge, uint64_t id)
{
    judge_dies(judge, id);
    disk__crashed(judge, &judge->machines[id]);
}

void judge_wiped(struct judge *judge, uint64_t id, struct sim_disk *disk, struct kv *kv)
{
    judge_dies(judge, id);
    for (struct judge_group *group = judge->groups; group != NULL; group = group->hh.next) {
        for (uint32_t i = 0; i < group->replicas_count; i++) {
            struct judge_replica *r = group->replicas[i];
            if (r->broker == id) {
                /* Who never heard of a term has said nothing to anybody: it may be born once more. */
                r->is_lost = r->is_lost || r->term != 0 || r->image.last != 0;
                r->lost_commit = group->committed;
                disk__forget(&r->image);
            }
        }
    }
    judge_machine(judge, id, disk, kv);
}

void judge_deleted(struct judge *judge, uint64_t group)
{
    judge__group(judge, group)->is_deleted = true;
}

void judge_replays(struct judge *judge)
{
    judge->replays = true;
}

void judge_doubts(struct judge *judge, uint64_t id)
{
    judge->machines[id].is_doubted = true;
}

void judge_doubts_segments(struct judge *judge, uint64_t id)
{
    judge->machines[id].has_doubtful_segments = true;
}

void judge_trusts(struct judge *judge, uint64_t id)
{
    judge->machines[id].is_doubted = judge->machines[id].has_doubtful_segments = false;
}

bool judge_is_sound(const struct judge *judge, uint64_t id, uint64_t replica)
{
    const struct judge_group *group;
    HASH_FIND(hh, judge->groups, &id, sizeof id, group);
    const struct judge_replica *r = group != NULL ? judge__replica(group, replica) : NULL;
    bool is_there = r != NULL && (r->image.is_born || r->image.picture.group != 0);
    return is_there && disk__is_sound(r) && !r->image.is_dead;
}

/* --- frames --- */

static bool read_varint(const uint8_t **io_at, const uint8_t *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; *io_at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*io_at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* A RaftRow, read a second way: the codec would fill in its arrays, and this is done for every row of a run. */
static bool read_row(const uint8_t *at, const uint8_t *end, struct judge_row *ret_row)
{
    uint64_t fields[13] = {0}, count = 0, tag, value;
    while (at < end) {
        if (!read_varint(&at, end, &tag) || !read_varint(&at, end, &value)) {
            return false;
        }
        if ((tag & 7) == 2 && value <= (uint64_t)(end - at)) {
            at += value;
            count = tag >> 3 == RaftRow_entry_types_tag ? value : count; /* a byte for each */
        } else if ((tag & 7) != 0) {
            return false;
        } else if (tag >> 3 < 13) {
            fields[tag >> 3] = value;
        }
    }
    *ret_row = (struct judge_row){.type = (uint32_t)fields[1],
                                  .group = fields[2],
                                  .from = fields[3],
                                  .to = fields[4],
                                  .term = fields[5],
                                  .index = fields[6],
                                  .index_term = fields[7],
                                  .commit = fields[9],
                                  .round = fields[10],
                                  .flags = (uint32_t)fields[12],
                                  .count = count};
    return true;
}

/* The next row of a frame; false: there is none. */
static bool next_row(const uint8_t **io_at, const uint8_t *end, struct judge_row *ret_row)
{
    uint64_t size = 0;
    if (*io_at == end) {
        return false;
    }
    bool is_row =
        read_varint(io_at, end, &size) && size <= (uint64_t)(end - *io_at) && read_row(*io_at, *io_at + size, ret_row);
    ASSERT(is_row);
    *io_at += size;
    return true;
}

static const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};

void judge_frame_out(struct judge *judge, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size)
{
    (void)to;
    while (size > 0 && !judge->world->failed) {
        struct frame frame;
        struct judge_row row;
        uint64_t needed;
        enum err error = frame_parse(bytes, size, &limits, &frame, &needed);
        ASSERT(error == OK);
        const uint8_t *at = frame.proto;
        while (frame.type == FRAME_RAFT && !judge->world->failed &&
               next_row(&at, frame.proto + frame.proto_size, &row)) {
            if (row.type < PEER_NO_GROUP) {
                send__row(judge, &judge->machines[from], &row);
            }
        }
        bytes += frame.size_bytes;
        size -= frame.size_bytes;
    }
}

static void forget_asks(struct judge *judge, uint64_t id)
{
    for (struct judge_group *group = judge->groups; group != NULL; group = group->hh.next) {
        for (uint32_t i = 0; i < group->replicas_count; i++) {
            struct judge_replica *r = group->replicas[i];
            if (r->broker == id) {
                memset(r->asks, 0, sizeof r->asks);
            }
        }
    }
}

/* Frames may have been spoilt on their way: behind such a one nothing is read. */
void judge_delivered(struct judge *judge, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size)
{
    struct judge_machine *machine = &judge->machines[to];
    uint64_t now_us = judge->world->now_us, asked_us = machine->asked_us[from];
    struct frame frame;
    uint64_t needed;
    judge->hears = true;
    judge->deliveries++;
    machine->delivered_us[from] = now_us;
    if (asked_us == 0 || now_us - asked_us > ASKED_US_MAX) {
        return; /* nobody wants a vote: what comes is not worth a second reading */
    }
    if (bytes == NULL) {
        forget_asks(judge, to); /* what was read ahead of its time is judged by its broker only now */
    }
    while (size > 0 && frame_parse(bytes, size, &limits, &frame, &needed) == OK) {
        struct judge_row row;
        const uint8_t *at = frame.proto;
        while (frame.type == FRAME_RAFT && next_row(&at, frame.proto + frame.proto_size, &row)) {
            if (row.type < PEER_NO_GROUP) {
                send__comes(judge, to, &row);
            }
        }
        bytes += frame.size_bytes;
        size -= frame.size_bytes;
    }
}

/* --- clients --- */

int64_t judge_read_begin(struct judge *judge, uint64_t id)
{
    return judge__group(judge, id)->told_end;
}

void judge_read_end(struct judge *judge, uint64_t id, int64_t begun, int64_t high_watermark)
{
    struct judge_group *group = judge__group(judge, id);
    judge__count(judge, JUDGE_R15);
    if (high_watermark < begun) {
        judge__fail(judge, JUDGE_R15, group, 0, "the log is told to end at %lld, %lld was known before it was asked",
                    (long long)high_watermark, (long long)begun);
    }
}

static bool acked_holds(void *context, uint64_t replica)
{
    const struct judge_sight *sight = context;
    struct judge *judge = (struct judge *)sight->context;
    struct judge_group *group = judge__group(judge, sight->group);
    const struct judge_replica *r = judge__replica(group, replica);
    uint64_t term = ghost__committed_term(group, sight->commit);
    return r != NULL && (!disk__is_sound(r) || r->image.is_dead || disk__holds(judge, group, r, sight->commit, term));
}

/* What brokers know, and had no turn since. */
static void catch_up(struct judge *judge, struct judge_group *group)
{
    for (uint32_t i = 0; i < group->replicas_count && !judge->world->failed; i++) {
        struct judge_sight sight;
        if (judge__look(judge, group, group->replicas[i], &sight) && sight.commit > group->committed) {
            ghost__commits(judge, group, &sight);
        }
    }
}

/* The configuration that counts for what is committed already: a joint one that is not itself binds only those who vote
 * now. */
static void config_of_committed(const struct judge_sight *sight, struct raft_config *ret_config)
{
    *ret_config = *sight->config;
    bool is_tried = sight->config_index > sight->commit && raft_config_is_joint(sight->config);
    for (uint32_t i = 0; is_tried && i < ret_config->count; i++) {
        ret_config->members[i].next = ret_config->members[i].now;
    }
}

void judge_catch_up(struct judge *judge, uint64_t id)
{
    if (!judge->world->failed) {
        catch_up(judge, judge__group(judge, id));
    }
}

void judge_acked(struct judge *judge, uint64_t id, const uint8_t *batch, size_t size)
{
    struct judge_group *group = judge__group(judge, id);
    struct batch_header header;
    struct acked_batch *found;
    if (judge->world->failed || batch_parse(batch, size, &header) != OK) {
        return;
    }
    uint32_t crc = header.crc;
    HASH_FIND(hh, group->batches, &crc, sizeof crc, found);
    if (found == NULL) {
        catch_up(judge, group);
        HASH_FIND(hh, group->batches, &crc, sizeof crc, found);
    }
    judge__count(judge, JUDGE_W1);
    if (found == NULL) {
        judge__fail(judge, JUDGE_W1, group, 0, "a batch is acknowledged that nobody has committed");
        return;
    }
    /* By whose configuration? Any live member's that has applied it will do: voters do not change without one. But one
     * that is not committed yet says nothing of what was committed before it. */
    for (uint32_t i = 0; i < group->replicas_count; i++) {
        struct judge_sight sight;
        if (!judge__look(judge, group, group->replicas[i], &sight) || sight.role != RAFT_LEADER ||
            sight.applied < found->index || (sight.config_index > sight.commit && sight.config_index > found->index)) {
            continue;
        }
        struct judge_sight asked = {.context = judge, .group = id, .commit = found->index};
        struct raft_config config;
        config_of_committed(&sight, &config);
        if (!judge__is_quorum(&config, acked_holds, &asked)) {
            judge__fail(judge, JUDGE_W1, group, group->replicas[i]->id,
                        "entry %llu is acknowledged, and not durable at majorities", (unsigned long long)found->index);
        }
        return;
    }
}

void judge_final(struct judge *judge)
{
    for (uint64_t id = 1; id <= JUDGE_BROKERS_MAX && !judge->world->failed; id++) {
        struct judge_machine *machine = &judge->machines[id];
        if (machine->disk == NULL) {
            continue;
        }
        judge_turn(judge, id);
        disk__reread(judge, machine);
        state__read(judge, machine, true);
    }
}
