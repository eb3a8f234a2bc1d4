/* Several whole brokers in one simulated world, joined by cables and one registry, small enough for a test by hand.
 * Each has its own disk, checkpoint store and clock; any of them may die, lose power, be cut off, come back. The judge
 * looks on. */
#ifndef FLOTILLA_SIM_TRIO_H
#define FLOTILLA_SIM_TRIO_H

#include "judge.h"
#include "sim_cable.h"
#include "sim_clock.h"
#include "sim_disk.h"
#include "sim_kv.h"
#include "sim_link.h"
#include "sim_registry.h"
#include "base/mark.h"
#include "base/trace.h"
#include "broker/broker.h"
#include "wire/codec.h"

#define TRIO_BROKERS_MAX 5u
#define TRIO_VALUES_MAX  4096u
#define TRIO_WIPES_MAX   16u

struct trio_broker {
    struct trio *trio;
    uint64_t id;
    struct sim_disk *disk;
    struct kv *kv;
    struct sim_clock clock;
    struct sim_net *net;
    struct config config;
    struct broker *broker; /* NULL: down */
    bool ready;
    struct sim_conn *conn; /* of the test's client; NULL: none */
    bool is_held, missed_timer;
};

struct trio {
    uint64_t seed;
    struct sim_world world;
    struct sim_cables *cables;
    struct sim_registry *registry;
    struct judge *judge; /* sees everything; its verdicts end the test */
    bool judge_rests;    /* a test of so much that nobody can look at all of it */
    struct trace trace;
    uint32_t marks[MARKS]; /* how often any broker came by each */
    uint32_t brokers;
    struct trio_broker broker[TRIO_BROKERS_MAX + 1]; /* from 1 on */
    /* What the client was told: record n has the value n. */
    uint32_t sent, acknowledged;
    /* A test that ends a process within one of its jobs closes the gate (world.crashed), and says here whose it was; it
     * dies when the job returns. */
    uint64_t doomed; /* 0: nobody */
    bool doomed_by_power;
    int64_t offsets[TRIO_VALUES_MAX];            /* of record n; -1: not acknowledged */
    struct sim_disk *worn_disks[TRIO_WIPES_MAX]; /* those that were replaced */
    struct kv *worn_kvs[TRIO_WIPES_MAX];
    uint32_t worn;
};

/* Starts them all; topic `t` with these partitions, a replica on each broker. Returns when it is live everywhere. */
void trio_open(struct trio *t, uint64_t seed, uint32_t brokers, uint32_t partitions);
/* The same; `configure` (NULL is allowed) may change what each of them is told. */
void trio_open_with(struct trio *t, uint64_t seed, uint32_t brokers, uint32_t partitions,
                    void (*configure)(struct config *config));
void trio_close(struct trio *t);
uint64_t trio_group(uint32_t partition); /* its group id */

void trio_run(struct trio *t, uint64_t for_us);
void trio_crash(struct trio *t, uint64_t id, bool power_cut);
void trio_start(struct trio *t, uint64_t id);
/* A process that stands still: no timer, no turn, and what others send waits in front of it. Then its timers come
 * first. Its disk and the registry go on. */
void trio_hold(struct trio *t, uint64_t id);
void trio_release(struct trio *t, uint64_t id);
/* Whose process is gone gets a new, empty disk and store; with keep_identity the store still says whose it is. */
void trio_wipe(struct trio *t, uint64_t id, bool keep_identity);

/* The live broker that leads the group and says so, 0 if there is none within `limit_us`. */
uint64_t trio_leader(struct trio *t, uint64_t group, uint64_t limit_us);
/* Sends a record to the group's leader, as often as it takes; returns its number when it is acknowledged, -1 after
 * limit_us. */
int64_t trio_produce(struct trio *t, uint64_t group, uint64_t limit_us);
/* Asks broker `id`, which is to refuse it; ERR_TIMEOUT: no answer. *ret_leader: who leads, as it says. */
enum err trio_ask_to_produce(struct trio *t, uint64_t id, uint64_t group, uint64_t limit_us, uint64_t *ret_leader);
/* Asks broker `id` for the group's latest offset. ERR_TIMEOUT: no answer. */
enum err trio_latest(struct trio *t, uint64_t id, uint64_t group, uint64_t limit_us, int64_t *ret_offset);
/* Asks broker `id` for a producer id, which has `timeout_ms` for it. ERR_UNKNOWN_OUTCOME: no answer. */
enum err trio_init_producer(struct trio *t, uint64_t id, uint32_t timeout_ms, uint64_t limit_us);
/* What broker `id` answers to one frame; NULL: nothing within limit_us. Valid until the next question; its payload is
 * trio_payload. */
const union codec_message *trio_ask(struct trio *t, uint64_t id, enum frame_type type, const void *message,
                                    const void *payload, uint32_t payload_size, uint64_t limit_us);
const uint8_t *trio_payload(uint32_t *ret_size);
/* The batch with record n. */
uint32_t trio_batch(uint8_t *memory, uint32_t capacity, uint32_t number);
/* Every acknowledged record is at its offset at the leader, once; then the log files of all members that live are
 * equal. */
void trio_check(struct trio *t, uint64_t group);

#endif
