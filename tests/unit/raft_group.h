/* A Raft group in memory, without time or network: replicas, each with an owner that carries out what its core asks
 * for, and a disk that loses what was not synced. Who delivers messages and lets disks and clocks go on is somebody
 * else's: the swarm (raft_cluster.h) by chance, the golden scenarios by hand. The oracle (raft_oracle.h) and raft_check
 * look at every step. */
#ifndef FLOTILLA_TESTS_UNIT_RAFT_GROUP_H
#define FLOTILLA_TESTS_UNIT_RAFT_GROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/rng.h"
#include "raft/raft.h"
#include "raft_oracle.h"

#define GROUP_HEARTBEAT_MS 20
#define GROUP_ELECTION_MS  100

/* What travels with an entry. */
struct payload {
    uint64_t value;
    uint32_t config; /* its number, 0: the entry is none */
};

/* A message with its entries' payload. */
struct packet {
    TAILQ_ENTRY(packet) link;
    uint64_t due_ms;   /* in the network */
    uint64_t needs_id; /* in its owner's hands: leaves when this write is durable */
    struct raft_message message;
    struct payload payloads[]; /* message.count */
};
TAILQ_HEAD(packets, packet);

/* A write the disk has not confirmed. */
struct pending_write {
    STAILQ_ENTRY(pending_write) link;
    struct raft_write write;
    struct shadow_entry *entries;
    bool outdated; /* a snapshot was installed meanwhile: */
    bool dead;     /* it has made the entries obsolete */
};

#define REPLICA_READS_MAX 32u

/* A read that waits for its round; committed: what anybody had committed when it was asked. */
struct replica_read {
    uint64_t round, committed;
};

/* A replica before the message it receives. */
struct replica_before {
    bool leads, slept;
    bool voted; /* for the sender, in the message's term */
    uint64_t term, last, last_term;
};

struct replica {
    uint64_t id;
    bool exists;
    struct raft *raft;       /* NULL: down */
    struct shadow_disk disk; /* survives */
    uint64_t checkpoint;     /* durable: applied up to here */
    uint64_t base;           /* durable: the log below is gone */
    int64_t clock_skew_ms;

    struct shadow_log log; /* the owner's, in memory */
    uint64_t applied;
    uint64_t last_write_id, persisted_id;
    STAILQ_HEAD(, pending_write) writes;
    struct packets held;
    bool leave_due, noop_due, repair_due;
    uint64_t repair_id; /* repaired: as soon as this write is durable */
    bool full;
    bool installing; /* a snapshot: the core sees nothing but time and its disk */
    uint64_t picture_index;
    struct shadow_log picture;

    /* What raft_watch.c remembers. */
    struct replica_before before;
    uint64_t led_term, led_last, led_hash; /* append-only check */
    uint64_t seen_term, seen_commit;       /* monotonic */
    uint64_t told_commit;                  /* in a trace */
    uint32_t told_config;                  /* number */
    uint64_t matches[ORACLE_REPLICAS_MAX];
    uint64_t read_round, read_index; /* newest in this leadership */
    uint32_t reads_count;
    struct replica_read reads[REPLICA_READS_MAX];
    uint64_t heard_ms, heard_term, heard_from;   /* from its leader; 0: never, or it was told that it is unreachable */
    uint64_t heard_peer_ms[ORACLE_REPLICAS_MAX]; /* leader: answers */
    uint64_t sent_ms[ORACLE_REPLICAS_MAX];
    uint64_t excuse_ms;   /* leader: until then it had a reason not to hear a majority */
    uint64_t transfer_ms; /* a leadership transfer began, 0: none */
    bool slept;
    bool piled; /* steps that were not taken yet */
};

/* How often the interesting things happened: a run without them proves nothing. */
struct group_marks {
    uint64_t elections, commits, crashes, writes_lost, truncations;
    uint64_t truncations_in_flight;    /* with writes on their way */
    uint64_t refusals, old_term_tails; /* leaders elected with uncommitted entries of older terms */
    uint64_t delivered, compactions;
    uint64_t changes, joints, rollbacks, promotions, snapshots, installs, snapshot_failures;
    uint64_t transfers, transfers_done, reads, reads_confirmed;
    uint64_t damages, repairs, sleeps, wakes, splits, fulls, configs_behind;
};

struct group {
    uint64_t now_ms;
    struct rng rng;
    double pile;   /* chance that a step other than RECV waits for the next one before the take */
    bool by_hand;  /* clocks go on by hand: nothing that depends on time is checked */
    uint64_t seq;  /* payloads: 1, 2, ... */
    uint64_t hash; /* of everything that happened */
    struct replica replicas[ORACLE_REPLICAS_MAX];
    struct raft_update update;
    struct group_marks marks;
    struct oracle oracle;

    void *context; /* of the four below, which the group's user sets; watch may be NULL */
    void (*transmit)(void *context, struct packet *p);                            /* takes over the packet */
    void (*send_snapshot)(void *context, struct replica *n, uint64_t to);         /* its core asks for that */
    void (*watch)(void *context, struct replica *n, const struct raft_update *u); /* before anything is carried out */
};

void group_init(struct group *g, uint64_t seed, const struct raft_config *birth);
void group_done(struct group *g);
void group_note(struct group *g, uint64_t a, uint64_t b);
uint64_t group_now(const struct group *g, const struct replica *n); /* by the replica's clock */
struct replica *group_replica(struct group *g, uint64_t id);
uint64_t group_leader(const struct group *g); /* of the highest term, 0 = none */

/* Brings a replica into being, empty, knowing the configuration of the group's birth; or starts it again. */
void group_start(struct group *g, struct replica *n);

/* Un-synced writes: the first `landing` reach the disk all the same, the others are lost. */
void group_crash(struct group *g, struct replica *n, uint32_t landing);

/* Of a replica that is down: the log beyond `last` and the newest hard state are gone. */
void group_lose(struct group *g, struct replica *n, uint64_t last, uint64_t term, uint64_t vote);
/* Of one that runs: its disk is doubted. */
void group_doubt(struct group *g, struct replica *n);

/* One event; packet is the message's, for its payload. Carries out everything the core asks for. */
void group_step(struct group *g, struct replica *n, struct raft_event event, const struct packet *packet);
void group_deliver(struct group *g, struct replica *n, const struct packet *packet);
void group_tick(struct group *g, struct replica *n);

/* The writes up to `id` reach the disk; group_persist also tells the core and lets go what waited for it. */
void group_persist(struct group *g, struct replica *n, uint64_t id);

/* The leader's owner; false: the core does not take it now. */
bool group_submit(struct group *g, struct replica *n, uint64_t count, uint64_t bytes);
enum raft_change_verdict group_change(struct group *g, struct replica *n, const struct raft_config *next);
bool group_leave_joint(struct group *g, struct replica *n);
bool group_transfer(struct group *g, struct replica *n, uint64_t to);
bool group_noop(struct group *g, struct replica *n);
bool group_read(struct group *g, struct replica *n);
void group_unreachable(struct group *g, struct replica *n, uint64_t peer);
void group_apply(struct group *g, struct replica *n, uint64_t index);
void group_compact(struct group *g, struct replica *n, uint64_t index); /* <= applied and durable */

/* A snapshot up to `index` of `from`'s log arrives at n: false, not wanted. Then, some time later, it is installed. */
bool group_install_begin(struct group *g, struct replica *n, const struct shadow_log *from, uint64_t index);
void group_install_end(struct group *g, struct replica *n);

struct packet *packet_copy(const struct packet *p);
/* The entries [first, first + count) of the packet's as a packet of their own. */
struct packet *packet_cut(const struct packet *p, uint64_t skip, uint64_t count);

#endif
