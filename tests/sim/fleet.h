/* The fleet: 1 to 7 whole brokers with 1 to 64 groups in one simulated world, against every fault at once.
 *
 * One seed = one run = one event hash, as with one broker (sim.h); the twins of disk, checkpoint store, clock, links
 * and registry are the same. What is new:
 *
 *   machines  Each broker is a *machine* of its own: `struct fleet_broker` has its disk, store, clock, fault points,
 *             and a world of its own (`broker.world`, a part of `fleet.world`): its own gate (crashed, planned
 *             crashes), generators and tally. Time, the event queue, the hash and the verdict are the fleet's: to
 *             schedule something that happens in that process or on that machine, world_at(&broker.world, ...), else
 *             world_at(&fleet.world, ...). A machine that is *held* (paused) gets none of its events until it goes
 *             on; then all that fell due come at once. world_enter(&broker.world) around every call into the product
 *             is also what gives that broker its turn after the event.
 *   cables    links between brokers (sim_cable.h): broken, cut one way or both ways.
 *   registry  one twin for all (sim_registry.h), written as a controller would; away, late and forgetful at times
 *             (fleet_registry.c).
 *   load      clients that talk to all brokers (struct fleet_load_class below); `fleet_simple` is the built-in one.
 *   judge     the checkers of the cluster's promises; it hears of each frame, turn, sync, start and death. What is
 *             committed, as it sees it, is what the clients' history is held against (fleet_ledger.h).
 *
 * The phases of a run:
 *
 *   birth     the brokers start, topics are created; ends when every group has a leader. No faults yet.
 *   safety    at least FLEET_SAFETY_US of simulated time under load and all faults of the seed. Nothing has to get
 *             on, but nothing that was promised may be broken. A class that was drawn and has not struck is urged on.
 *   core      A random set of brokers is drawn that holds a majority of every group's replicas. They are healed:
 *             disks err no more, cables among them are whole, whoever is down starts. All others stay for ever as
 *             they are then: dead, cut off, or alive and one-way deaf (drawn).
 *   quiet     every request under way comes to an end
 *   proof     every group takes a write within 20 election timeouts + repair time
 *   audit     everything acknowledged is read
 *   converge  the replicas of the core hold the same bytes, done tables and clocks; the registry names who leads
 *
 * A group for which one of these does not come is left out of the rest if it is proven to be beyond help
 * (fleet_proof.h); else the run fails. Such groups are counted: unrecoverable= in the last line.
 *
 * A *full seed* is one that went through all of them; it is *void*, and counts for nothing, if fewer than
 * FLEET_ACKED_PER_S_MIN records were acknowledged per simulated second of the safety phase, or if a fault class that
 * it drew never struck. A failing seed is shrunk: fewer fault classes, brokers, groups, clients. tests/sim/corpus/fleet
 * has the seeds that failed once; they are run first. */
#ifndef FLOTILLA_SIM_FLEET_H
#define FLOTILLA_SIM_FLEET_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/mark.h"
#include "base/trace.h"
#include "broker/broker.h"
#include "sim_cable.h"
#include "sim_clock.h"
#include "sim_disk.h"
#include "sim_kv.h"
#include "sim_link.h"
#include "sim_options.h"
#include "sim_point.h"
#include "sim_registry.h"
#include "sim_run.h"
#include "sim_watch.h"
#include "sim_wire.h"

#define FLEET_BROKERS_MAX     7u
#define FLEET_GROUPS_MAX      64u
#define FLEET_TOPICS_MAX      8u
#define FLEET_SAFETY_US       120000000u
#define FLEET_ACKED_PER_S_MIN 20u

/* --- what a seed means --- */

struct fleet_options {
    /* Fault classes, the load's sizes, the brokers' sizes, rates of disks and crashes: as for one broker. load_us is
     * the length of the safety phase. */
    struct sim_options one;
    uint32_t brokers;
    uint32_t replicas; /* of each group, at most brokers */
    uint32_t topics;
    uint32_t groups; /* of all topics together: topic t has those with number % topics == t */
    uint32_t heartbeat_ms, election_ms;
    uint32_t quiet_ms;     /* 0: nobody sleeps */
    uint64_t cable_us_max; /* one way between brokers */
    struct sim_wire_options wire;
    bool has_long_log; /* nothing leaves the logs: nobody ever needs a snapshot */
    bool is_simple;    /* its clients are fleet_simple, else fleet_clients */
    struct sim_registry_trouble registry;
    uint64_t fault_us; /* between two faults that have their time, at most twice that */
    double miswrite;   /* chance of a write of a segment */
};

void fleet_options_draw(struct fleet_options *options, uint64_t seed);
void fleet_options_keep_logs(struct fleet_options *options);              /* what has_long_log means for the sizes */
void fleet_options_print(const struct fleet_options *options, FILE *out); /* one line */
/* What its topic number t is to be: name, partitions, limits. */
void fleet_options_topic(const struct fleet_options *options, uint32_t t, struct registry_topic *ret_wish);
void fleet_options_config(const struct fleet_options *options, uint64_t id, struct config *ret_config);

/* --- the world --- */

struct fleet;
struct fleet_atlas;
struct fleet_load;
struct heralds;
struct judge;

struct fleet_broker {
    struct fleet *fleet;
    uint64_t id; /* 1 .. */
    struct sim_world world;
    struct sim_disk *disk;
    struct kv *kv;
    struct sim_clock clock;
    struct sim_net *net; /* where its clients connect: sim_conn_open */
    struct sim_net_options net_options;
    struct sim_points points;
    uint32_t marks[MARKS]; /* how often its processes came by each */
    struct config config;
    struct trace trace;
    struct broker *broker; /* NULL: down */
    uint64_t life;         /* counts its starts */
    bool is_ready;         /* in this life: it answers clients */
    bool was_ever_ready;
    bool must_die;    /* it said fatal: its process ends after this event */
    bool is_stopping; /* it was asked to end in order, at stop_us */
    bool has_stopped; /* and did */
    uint64_t stop_us;
    struct watch watch;
    uint32_t turns;
    bool exited;  /* it called _exit in the middle of something: what it left cannot be freed */
    bool is_lost; /* since the core was drawn: it never comes back, or nobody can rely on it */
    bool is_full; /* there is no room on its disk just now */
    uint32_t crashes_left;
    struct sim_event *turn; /* a turn that comes a little later */
};

enum fleet_phase {
    FLEET_BIRTH,
    FLEET_SAFETY,
    FLEET_QUIET,
    FLEET_PROOF,
    FLEET_AUDIT,
    FLEET_CONVERGE,
    FLEET_END,
};

struct fleet_load_class;

struct fleet {
    struct sim_world world;
    const struct fleet_options *options;
    uint32_t brokers;
    struct fleet_broker broker[FLEET_BROKERS_MAX + 1]; /* from 1 on */
    struct sim_cables *cables;
    struct sim_wire *wire; /* NULL: no class of its faults is on */
    struct sim_registry *registry;
    struct heralds *heralds;
    const struct fleet_load_class *load_class;
    struct fleet_load *load;
    struct judge *judge;
    struct fleet_atlas *atlas; /* fleet_atlas.h */
    struct rng damage;         /* of fleet_damage.c alone */
    uint64_t gray_until_us;
    uint64_t short_of_memory; /* the broker whose allocations fail just now; 0: none. One at a time */
    uint32_t groups;
    uint64_t group[FLEET_GROUPS_MAX]; /* their ids, of all topics that the fleet itself made */
    enum fleet_phase phase;
    uint64_t phase_until_us, phase_within_us;
    uint64_t safety_us; /* when the safety phase began */
    uint64_t faults_end_us;
    uint64_t acked; /* records that were acknowledged in it */
    uint64_t next_look_us;
    bool is_out[FLEET_GROUPS_MAX];    /* proven to be beyond help: nothing is owed for it any more */
    uint32_t unrecoverable;           /* so many of them */
    char waits_for[160];              /* told with a failure */
    uint32_t moves[FLEET_GROUPS_MAX]; /* of each group, so far */
    uint32_t equal_groups;            /* the first of them are: fleet_core.c */
};

/* Clients. What they know of brokers is what a client knows: where they are (broker[id].net), and what those answer.
 * Every call comes from outside of the product. NULL calls are left out. */
struct fleet_load_class {
    const char *name;
    struct fleet_load *(*new)(struct fleet *fleet);
    void (*free)(struct fleet_load *load);
    void (*up)(struct fleet_load *load, uint64_t id);   /* a broker answers from now on */
    void (*down)(struct fleet_load *load, uint64_t id); /* its process is gone, its connections are about to be */
    /* A frame leaves broker `id` (sim_net_options.on_reply). */
    void (*reply)(struct fleet_load *load, uint64_t id, const struct sim_conn *conn, const uint8_t *frame,
                  size_t head_size);
    /* Bytes became durable on a machine (sim_disk_options.on_synced), or a transaction of its checkpoint store. */
    void (*synced)(struct fleet_load *load, uint64_t id, const char *path, const uint8_t *data, uint64_t offset,
                   uint64_t size);
    void (*committed)(struct fleet_load *load, uint64_t id);
    void (*urge)(struct fleet_load *load, enum sim_fault fault); /* one of its own, that has not been seen yet */
    void (*begin)(struct fleet_load *load);                      /* the safety phase begins: fleet.group[] are live */
    void (*quiet)(struct fleet_load *load);                      /* nothing new is begun */
    bool (*is_quiet)(struct fleet_load *load, const char **ret_waits_for);
    void (*prove)(struct fleet_load *load); /* one record to every group */
    bool (*is_proven)(struct fleet_load *load, const char **ret_waits_for);
    void (*audit)(struct fleet_load *load); /* reads everything */
    bool (*is_audited)(struct fleet_load *load, const char **ret_waits_for);
    void (*write_off)(struct fleet_load *load, uint32_t number); /* fleet.group[number] is beyond help: forget it */
    uint64_t (*acked)(const struct fleet_load *load);            /* records, so far */
};
extern const struct fleet_load_class fleet_simple;  /* one request at a time, no sequences */
extern const struct fleet_load_class fleet_clients; /* the whole load of one broker (sim_load.h), against many */

/* --- one run --- */

/* sim_result.is_void says that the seed counts for nothing; its text why. */
void fleet_run(const struct fleet_options *options, bool verbose, struct sim_result *ret_result);

/* --- machines, for those who make faults (fleet_broker.c) --- */

void fleet_broker_open(struct fleet *fleet, uint64_t id);
void fleet_broker_close(struct fleet_broker *b);
void fleet_broker_start(struct fleet_broker *b);
void fleet_broker_start_in(struct fleet_broker *b, uint64_t in_us); /* unless it lives by then */
/* The safety phase has begun: what may end this life. Each later life draws its own. */
void fleet_broker_plan(struct fleet_broker *b);
/* The process is gone, and with it all that was not synced (power cut). It starts again in_us later; UINT64_MAX: not by
 * itself. */
void fleet_broker_bury(struct fleet_broker *b, bool power_cut, uint64_t in_us);
/* Whose process is gone: the machine has an empty disk from now on. */
void fleet_broker_wipe(struct fleet_broker *b);
/* SIGTERM: it ends when it has saved what it can, and is buried then; or dies on the way. */
void fleet_broker_stop(struct fleet_broker *b);
void fleet_broker_end_stop(struct fleet_broker *b, uint64_t in_us);
void fleet_broker_look(struct fleet_broker *b);                  /* what it says of itself is held against its bounds */
void fleet_broker_hold(struct fleet_broker *b, uint64_t for_us); /* a pause: SIGSTOP */
void fleet_broker_heal(struct fleet_broker *b);                  /* its disk, memory and points err no more */
bool fleet_broker_is_up(const struct fleet_broker *b);           /* it lives and answers */
/* Some replica here is withheld for this life: what failed may work at the next start. */
bool fleet_broker_withholds(const struct fleet_broker *b);

/* Faults that have their time, drawn anew as long as the safety phase lasts (fleet_faults.c). */
void fleet_faults_begin(struct fleet *fleet);
/* A class that comes by a rate, and has not struck yet: it does so at the next occasion (fleet_urge.c). */
bool fleet_has_struck(const struct fleet *fleet, enum sim_fault fault);
bool fleet_urge_can(enum sim_fault fault);
void fleet_urge(struct fleet *fleet, enum sim_fault fault);
/* Those of the net (fleet_net.c): which a seed has; whether a class has its time; one of it: false if it could not
 * happen just now. */
void fleet_net_draw(struct fleet_options *options);
bool fleet_net_has_wire(const struct fleet_options *options);
bool fleet_net_has(enum sim_fault fault);
bool fleet_net_strike(struct fleet *fleet, enum sim_fault fault);
void fleet_net_heal(struct fleet *fleet, uint64_t one, uint64_t other); /* what leaves one for the other */
/* Those of the registry (fleet_registry.c), and what is promised meanwhile and afterwards. */
void fleet_registry_draw(struct fleet_options *options);
void fleet_registry_open(struct fleet *fleet);
void fleet_registry_begin(struct fleet *fleet); /* what has no time of its own happens from now on */
bool fleet_registry_has(enum sim_fault fault);
bool fleet_registry_strike(struct fleet *fleet, enum sim_fault fault);
void fleet_registry_look(struct fleet *fleet);
bool fleet_registry_is_true(struct fleet *fleet, const char **ret_waits_for); /* it names who leads */
/* Changes of the groups' configurations (fleet_moves.c); whether all of them have come true, everywhere; and that of
 * one partition, as its leader sees it. */
bool fleet_moves_strike(struct fleet *fleet);
bool fleet_moves_are_settled(struct fleet *fleet);
bool fleet_moves_is_settled(struct fleet *fleet, const struct registry_partition *wish);
/* What is done to disks (fleet_damage.c): which seeds have what; from the begin of the safety phase on; to a machine
 * that is about to start; to what was just written. */
void fleet_damage_draw(struct fleet_options *options);
void fleet_damage_begin(struct fleet *fleet);
void fleet_damage_last(struct fleet *fleet); /* in the moment before the core is drawn */
void fleet_damage_before_start(struct fleet_broker *b);
void fleet_damage_written(struct fleet_broker *b, const char *path, struct inode *inode, uint64_t offset,
                          uint64_t size);
/* The core is drawn and healed, the others are left to their fate (fleet_core.c). */
void fleet_core_draw(struct fleet *fleet);
bool fleet_core_has(const struct fleet *fleet, uint64_t id);
/* The replicas of the core are equal, or what they wait for. */
bool fleet_core_is_equal(struct fleet *fleet, const char **ret_waits_for);

/* Leaves out the groups of the core that can be proven never to come back; returns how many more. */
uint32_t fleet_core_write_off(struct fleet *fleet);
/* Replicas of the core that lack entries which nobody there has in his log any more: they need a snapshot. */
uint32_t fleet_core_lags(struct fleet *fleet);

/* Broker `id` is to have a replica of fleet.group[number]. */
bool fleet_replica_on(const struct fleet *fleet, uint32_t number, uint64_t id);
/* The broker that leads the group and says so, of those that live; 0: none. */
uint64_t fleet_leader(struct fleet *fleet, uint64_t group);

#endif
