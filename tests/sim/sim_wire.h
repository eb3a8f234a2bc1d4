/* What becomes of a frame between two brokers: it is lost, comes twice, comes late, comes again minutes later on
 * another connection and in another life, loses its end with the connection, has a bit flipped, or one of its rows
 * names a group that it was not meant for. Links are slow, clogged for a while, and have short queues.
 *
 * sim_cable asks for each frame behind the greeting what arrives instead of it, and when; within one connection nothing
 * overtakes, as on TCP, but for what is replayed. Everything is drawn from the world's `link` generator; what really
 * happened is in the world's tally under its class (sim_tally.h). */
#ifndef FLOTILLA_SIM_WIRE_H
#define FLOTILLA_SIM_WIRE_H

#include "sim.h"

#define WIRE_BROKERS_MAX  8u
#define WIRE_ARRIVALS_MAX 3u

/* Chances are of each frame. A class counts only if its fault is on. */
struct sim_wire_options {
    double loss, twice, replay, flip, sever, astray, clog;
    uint64_t late_least_us, late_mean_us; /* one way: the least, and the mean of what exceeds it (exponential) */
    uint32_t queue_frames_max;            /* under way on one connection; further ones are dropped */
    uint64_t bytes_per_s;                 /* of slow links: one direction of three */
    uint64_t clog_us_max;
};

void sim_wire_draw(struct sim_wire_options *options, struct rng *rng);

struct sim_wire;

/* faults: as in struct sim_options. Nothing goes wrong before sim_wire_begin. */
struct sim_wire *sim_wire_new(struct sim_world *world, const struct sim_wire_options *options, const bool *faults);
void sim_wire_free(struct sim_wire *wire);
void sim_wire_begin(struct sim_wire *wire);
/* From now on, what leaves one for the other arrives whole and in time. */
void sim_wire_heal(struct sim_wire *wire, uint64_t from, uint64_t to);
/* The next frame that can suffer it does: FAULT_FLIP, FAULT_SEVER, FAULT_ASTRAY, FAULT_CLOG, FAULT_REPLAY. */
void sim_wire_strike(struct sim_wire *wire, enum sim_fault fault);
/* What leaves one for the other takes its time, if links are slow at all; queues are as short as they may be. */
void sim_wire_slow(struct sim_wire *wire, uint64_t from, uint64_t to);
void sim_wire_shorten(struct sim_wire *wire);
bool sim_wire_is_due(const struct sim_wire *wire, enum sim_fault fault); /* it waits for such a frame still */

struct sim_wire_arrival {
    uint8_t *bytes; /* the caller's from now on: free() */
    uint64_t size;
    uint64_t at_us; /* not before; nor before what was sent earlier on this connection */
    bool ends;      /* the connection breaks behind it */
};

/* A frame is sent while `queued` of this connection are under way. Returns how many arrivals come of it. */
uint32_t sim_wire_send(struct sim_wire *wire, uint64_t from, uint64_t to, uint32_t queued, const uint8_t *frame,
                       uint64_t size, struct sim_wire_arrival ret_arrivals[WIRE_ARRIVALS_MAX]);
/* So that cables can be linked without it. */
typedef uint32_t (*sim_wire_sender)(struct sim_wire *wire, uint64_t from, uint64_t to, uint32_t queued,
                                    const uint8_t *frame, uint64_t size,
                                    struct sim_wire_arrival ret_arrivals[WIRE_ARRIVALS_MAX]);

#endif
