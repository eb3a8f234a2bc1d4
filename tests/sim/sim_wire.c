/* See sim_wire.h. Frames are remembered in an archive per direction, old ones as likely as new ones, whatever became of
 * the connections and processes that they were for. */
#include "sim_wire.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "wire/peer.h"

#define ARCHIVE_FRAMES     48u
#define ARCHIVE_BYTES_MAX  65536u /* larger frames are not worth their memory */
#define ARCHIVE_ONE_IN     6u     /* frames that take the place of another, once it is full */
#define SLOW_ONE_IN        3u
#define LATE_LEAST_US_MAX  30000u
#define LATE_MEAN_US_LEAST 30000u
#define LATE_MEAN_US_MAX   100000u
#define LATE_STEPS         4u
#define QUEUE_FRAMES_LEAST 2u
#define QUEUE_FRAMES_MAX   20u
#define SLOW_BYTES_LEAST   20000u
#define SLOW_BYTES_MAX     2000000u
#define CLOG_US_MAX        5000000u
#define CLOG_US_LEAST      10000u
#define DIRECT_US_MAX      200u
#define SLOW_WAITS_US_MAX  2000000u
#define FRAME_TYPE_AT      7u
#define DIRECTIONS         ((WIRE_BROKERS_MAX + 1) * (WIRE_BROKERS_MAX + 1))

struct kept {
    uint8_t *bytes;
    uint64_t size;
};

/* One direction between two brokers. */
struct path {
    struct kept rafts[ARCHIVE_FRAMES], snapshots[ARCHIVE_FRAMES];
    uint32_t rafts_count, snapshots_count;
    uint64_t clogged_until_us, free_at_us;
    bool is_slow, is_whole;
};

struct sim_wire {
    struct sim_world *world;
    struct sim_wire_options options;
    bool faults[FAULT_CLASSES_ALL];
    bool is_due[FAULT_CLASSES_ALL];
    bool is_on;
    uint64_t groups[2]; /* two that differ, the later one last; 0: not seen yet */
    struct path paths[DIRECTIONS];
};

static struct path *path_of(struct sim_wire *wire, uint64_t from, uint64_t to)
{
    ASSERT(from <= WIRE_BROKERS_MAX && to <= WIRE_BROKERS_MAX);
    return &wire->paths[from * (WIRE_BROKERS_MAX + 1) + to];
}

/* --- options --- */

/* Mostly mild, since nothing gets on where everything is bad; rarely up to the worst. */
static double draw_chance(struct rng *rng, double worst)
{
    double most = rng_chance(rng, 0.7) ? worst / 10 : worst;
    return most * (double)rng_between(rng, 1, 1000) / 1000;
}

void sim_wire_draw(struct sim_wire_options *o, struct rng *rng)
{
    o->loss = draw_chance(rng, 0.3);
    o->twice = draw_chance(rng, 0.5);
    o->replay = draw_chance(rng, 0.5);
    o->flip = draw_chance(rng, 1e-3);
    o->sever = draw_chance(rng, 1e-3);
    o->astray = draw_chance(rng, 1e-2);
    o->clog = draw_chance(rng, 5e-4);
    o->late_least_us = rng_below(rng, LATE_LEAST_US_MAX);
    o->late_mean_us = sim_log_between(rng, LATE_MEAN_US_LEAST / 10, LATE_MEAN_US_MAX);
    o->queue_frames_max = (uint32_t)sim_log_between(rng, QUEUE_FRAMES_LEAST, QUEUE_FRAMES_MAX);
    o->bytes_per_s = sim_log_between(rng, SLOW_BYTES_LEAST, SLOW_BYTES_MAX);
    o->clog_us_max = sim_log_between(rng, CLOG_US_LEAST, CLOG_US_MAX);
}

struct sim_wire *sim_wire_new(struct sim_world *world, const struct sim_wire_options *options, const bool *faults)
{
    struct sim_wire *wire = sim_zeroed(1, sizeof *wire);
    wire->world = world;
    wire->options = *options;
    memcpy(wire->faults, faults, sizeof wire->faults);
    return wire;
}

void sim_wire_free(struct sim_wire *wire)
{
    for (uint32_t d = 0; d < DIRECTIONS; d++) {
        for (uint32_t i = 0; i < ARCHIVE_FRAMES; i++) {
            free(wire->paths[d].rafts[i].bytes);
            free(wire->paths[d].snapshots[i].bytes);
        }
    }
    free(wire);
}

void sim_wire_begin(struct sim_wire *wire)
{
    wire->is_on = true;
    for (uint32_t d = 0; d < DIRECTIONS; d++) {
        wire->paths[d].is_slow = wire->faults[FAULT_SLOW_LINK] && rng_below(&wire->world->link, SLOW_ONE_IN) == 0;
    }
}

void sim_wire_heal(struct sim_wire *wire, uint64_t from, uint64_t to)
{
    path_of(wire, from, to)->is_whole = true;
}

void sim_wire_strike(struct sim_wire *wire, enum sim_fault fault)
{
    wire->is_due[fault] = true;
}

void sim_wire_slow(struct sim_wire *wire, uint64_t from, uint64_t to)
{
    path_of(wire, from, to)->is_slow = wire->faults[FAULT_SLOW_LINK];
}

void sim_wire_shorten(struct sim_wire *wire)
{
    wire->options.queue_frames_max = QUEUE_FRAMES_LEAST;
}

bool sim_wire_is_due(const struct sim_wire *wire, enum sim_fault fault)
{
    return wire->is_due[fault];
}

/* Now, or by chance? */
static bool draws(struct sim_wire *wire, enum sim_fault fault, double chance)
{
    if (!wire->faults[fault]) {
        return false;
    }
    bool is_drawn = rng_chance(&wire->world->link, chance); /* in any case: one number for each question */
    return wire->is_due[fault] || is_drawn;
}

static void struck(struct sim_wire *wire, enum sim_fault fault)
{
    wire->is_due[fault] = false;
    world_fault(wire->world, fault);
}

/* --- frames of long ago --- */

static bool is_snapshot(const uint8_t *frame)
{
    return frame[FRAME_TYPE_AT] == FRAME_SNAPSHOT;
}

static void keep(struct sim_wire *wire, struct path *path, const uint8_t *frame, uint64_t size)
{
    bool is_of_snapshot = is_snapshot(frame);
    struct kept *all = is_of_snapshot ? path->snapshots : path->rafts;
    uint32_t *count = is_of_snapshot ? &path->snapshots_count : &path->rafts_count;
    struct kept *slot = &all[*count];
    if (size > ARCHIVE_BYTES_MAX || (!wire->faults[FAULT_REPLAY] && !wire->faults[FAULT_ASTRAY])) {
        return;
    }
    if (*count == ARCHIVE_FRAMES) {
        if (rng_below(&wire->world->link, ARCHIVE_ONE_IN) != 0) {
            return;
        }
        slot = &all[rng_below(&wire->world->link, ARCHIVE_FRAMES)];
    } else {
        (*count)++;
    }
    slot->bytes = sim_resized(slot->bytes, size);
    memcpy(slot->bytes, frame, size);
    slot->size = size;
}

/* One that belongs on the same lane; NULL: none yet. */
static const struct kept *recall(struct sim_wire *wire, const struct path *path, const uint8_t *frame)
{
    bool is_of_snapshot = is_snapshot(frame);
    uint32_t count = is_of_snapshot ? path->snapshots_count : path->rafts_count;
    return count == 0 ? NULL : &(is_of_snapshot ? path->snapshots : path->rafts)[rng_below(&wire->world->link, count)];
}

/* --- rows that go astray --- */

static void note_group(struct sim_wire *wire, uint64_t group)
{
    if (group != wire->groups[1]) {
        wire->groups[0] = wire->groups[1];
        wire->groups[1] = group;
    }
}

/* The frame anew, its first row in another group; false: it is none of rows, or there is no other group. */
static bool mislead(struct sim_wire *wire, struct sim_wire_arrival *a)
{
    static const struct frame_limits limits = {.proto_bytes_max = FRAME_PROTO_BYTES_MAX,
                                               .payload_bytes_max = FRAME_PAYLOAD_BYTES_MAX};
    struct frame frame;
    struct peer_reader reader;
    struct peer_builder *b = sim_zeroed(1, sizeof *b);
    uint8_t *out = sim_zeroed(1, PEER_HEAD_BYTES + a->size);
    uint64_t needed;
    bool is_first = true, is_misled = false, is_good = a->bytes[FRAME_TYPE_AT] == FRAME_RAFT;
    is_good = is_good && frame_parse(a->bytes, a->size, &limits, &frame, &needed) == OK;
    if (is_good) {
        peer_reader_begin(&reader, &frame);
        peer_builder_begin(b, out, PEER_HEAD_BYTES);
    }
    while (is_good && !peer_reader_is_done(&reader)) {
        RaftRow row;
        const uint8_t *payload;
        struct slice parts[sizeof row.entry_sizes / sizeof row.entry_sizes[0]];
        is_good = peer_reader_next(&reader, &row, &payload) == OK;
        for (uint32_t i = 0; is_good && i < row.entry_sizes_count; i++) {
            parts[i] = (struct slice){.data = payload, .size = row.entry_sizes[i]};
            payload += row.entry_sizes[i];
        }
        uint64_t other = wire->groups[row.group == wire->groups[1] ? 0 : 1];
        note_group(wire, row.group);
        is_misled = is_misled || (is_first && other != 0 && other != row.group);
        row.group = is_first && other != 0 ? other : row.group;
        is_first = false;
        is_good = is_good && peer_builder_add(b, &row, parts, row.entry_sizes_count);
    }
    if (is_good && is_misled) {
        peer_builder_finish(b);
        uint64_t size = b->size;
        for (uint32_t i = 0; i < b->parts_count; i++) {
            memcpy(out + size, b->parts[i].data, b->parts[i].size);
            size += b->parts[i].size;
        }
        free(a->bytes);
        a->bytes = out;
        a->size = size;
        out = NULL;
    }
    free(out);
    free(b);
    return is_good && is_misled;
}

/* --- when --- */

/* As good as: a geometric number of short steps. */
static uint64_t draw_exponential(struct rng *rng, uint64_t mean_us)
{
    uint64_t step_us = mean_us / LATE_STEPS + 1, us = rng_below(rng, step_us);
    while (rng_below(rng, LATE_STEPS + 1) != 0) {
        us += step_us;
    }
    return us;
}

static uint64_t arrives_us(struct sim_wire *wire, struct path *path, uint64_t size)
{
    const struct sim_wire_options *o = &wire->options;
    struct rng *rng = &wire->world->link;
    uint64_t now_us = wire->world->now_us, at_us = now_us + 1 + rng_below(rng, DIRECT_US_MAX);
    if (wire->faults[FAULT_LATE]) {
        at_us += o->late_least_us + draw_exponential(rng, o->late_mean_us);
        world_fault(wire->world, FAULT_LATE);
    }
    if (path->is_slow) { /* what waits longer would be a clog */
        uint64_t begins_us = path->free_at_us > now_us ? path->free_at_us : now_us;
        if (begins_us < now_us + SLOW_WAITS_US_MAX) {
            path->free_at_us = begins_us + size * 1000000 / o->bytes_per_s;
        }
        at_us = path->free_at_us > at_us ? path->free_at_us : at_us;
        world_fault(wire->world, FAULT_SLOW_LINK);
    }
    if (draws(wire, FAULT_CLOG, o->clog)) {
        path->clogged_until_us = now_us + sim_log_between(rng, CLOG_US_LEAST / 10, o->clog_us_max);
        struck(wire, FAULT_CLOG);
    }
    return path->clogged_until_us > at_us ? path->clogged_until_us : at_us;
}

/* --- a frame --- */

static struct sim_wire_arrival *add(struct sim_wire_arrival *arrivals, uint32_t *io_count, const uint8_t *bytes,
                                    uint64_t size, uint64_t at_us)
{
    struct sim_wire_arrival *a = &arrivals[(*io_count)++];
    *a = (struct sim_wire_arrival){.bytes = sim_zeroed(1, size), .size = size, .at_us = at_us};
    memcpy(a->bytes, bytes, size);
    return a;
}

static void add_old(struct sim_wire *wire, struct path *path, const uint8_t *frame, uint64_t at_us,
                    struct sim_wire_arrival *arrivals, uint32_t *io_count)
{
    const struct kept *old = recall(wire, path, frame);
    if (old != NULL) {
        add(arrivals, io_count, old->bytes, old->size, at_us);
        struck(wire, FAULT_REPLAY);
    }
}

/* What happens to its bytes on the way. */
static void spoil(struct sim_wire *wire, struct sim_wire_arrival *a)
{
    struct rng *rng = &wire->world->link;
    if (draws(wire, FAULT_ASTRAY, wire->options.astray) && mislead(wire, a)) {
        struck(wire, FAULT_ASTRAY);
    }
    if (draws(wire, FAULT_FLIP, wire->options.flip)) {
        uint64_t bit = rng_below(rng, a->size * 8);
        a->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struck(wire, FAULT_FLIP);
    }
    if (draws(wire, FAULT_SEVER, wire->options.sever)) {
        a->size = rng_between(rng, 1, a->size - 1);
        a->ends = true;
        struck(wire, FAULT_SEVER);
    }
}

uint32_t sim_wire_send(struct sim_wire *wire, uint64_t from, uint64_t to, uint32_t queued, const uint8_t *frame,
                       uint64_t size, struct sim_wire_arrival ret_arrivals[WIRE_ARRIVALS_MAX])
{
    struct path *path = path_of(wire, from, to);
    const struct sim_wire_options *o = &wire->options;
    uint32_t count = 0;
    ASSERT(size >= FRAME_HEADER_BYTES);
    if (!wire->is_on || path->is_whole || frame[FRAME_TYPE_AT] == FRAME_PEER_HELLO ||
        frame[FRAME_TYPE_AT] == FRAME_PEER_HELLO_REPLY) {
        uint64_t at_us = wire->world->now_us + 1 + rng_below(&wire->world->link, DIRECT_US_MAX);
        add(ret_arrivals, &count, frame, size, at_us);
        return count;
    }
    uint64_t at_us = arrives_us(wire, path, size);
    if (wire->faults[FAULT_QUEUE] && queued >= o->queue_frames_max) {
        struck(wire, FAULT_QUEUE);
        return 0;
    }
    if (draws(wire, FAULT_REPLAY, o->replay)) {
        add_old(wire, path, frame, at_us, ret_arrivals, &count);
    }
    keep(wire, path, frame, size);
    if (draws(wire, FAULT_LOSS, o->loss)) {
        struck(wire, FAULT_LOSS);
        return count;
    }
    spoil(wire, add(ret_arrivals, &count, frame, size, at_us));
    if (!ret_arrivals[count - 1].ends && draws(wire, FAULT_TWICE, o->twice)) {
        add(ret_arrivals, &count, frame, size, at_us);
        struck(wire, FAULT_TWICE);
    }
    return count;
}
