/* One whole broker on simulated time, disk, checkpoint store and links (tests/sim), small enough to be started for
 * every input. Anything unexpected is an assertion: a broker that gives up, a stop that does not end or leaves
 * connections or files open. */
#ifndef FLOTILLA_TESTS_MINI_BROKER_H
#define FLOTILLA_TESTS_MINI_BROKER_H

#include "../sim/sim_clock.h"
#include "../sim/sim_config.h"
#include "../sim/sim_disk.h"
#include "../sim/sim_kv.h"
#include "../sim/sim_link.h"
#include "base/trace.h"
#include "broker/broker.h"

struct mini_broker {
    struct sim_world world;
    struct sim_disk *disk;
    struct kv *kv;
    struct sim_clock clock;
    struct sim_net *net;
    struct sim_net_options net_options; /* after a change: sim_net_set */
    struct config config;
    struct trace trace;
    struct broker *broker;
    bool ready, stopped, rested;
};

/* A new broker with an empty disk; returns when it is ready. */
void mini_broker_open(struct mini_broker *m, uint64_t seed, uint64_t memory_bytes);
void mini_broker_run(struct mini_broker *m, uint64_t for_us); /* lets so much simulated time pass */
/* The process dies, or the machine loses power with it, and a broker starts anew. Connections are cut. The memory of
 * jobs under way is lost: as it goes with a process, so not to be looked for as a leak. */
void mini_broker_restart(struct mini_broker *m, bool power_cut);
void mini_broker_close(struct mini_broker *m); /* a clean stop; the clients have left */

#endif
