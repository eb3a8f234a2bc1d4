/* The deterministic simulator: a whole broker in one thread, on simulated time, disk, checkpoint store and links.
 *
 * One seed = one run = one event hash. Everything that could differ between two runs (time, chance, the order of I/O
 * completions, what a power cut leaves) comes out of the generators below, so a seed that failed once fails every time,
 * and a run that is done twice must give the same hash.
 *
 *   sim_world     time, the event queue, the generators, the hash, the I/O gate (crash at the k-th call)
 *   sim_options   what a seed means: sizes, rates, fault classes; printed with a failure, shrunk after it
 *   sim_tally     the classes of faults and the checkers, and how often each fault happened, each checker judged
 *   sim_point     the product's fault points: crash, delay, count
 *   sim_memory    allocations of the broker that fail
 *   sim_clock     twin of port/clock
 *   sim_tree      names and bytes of a simulated file system, each with what of it is durable (bytes: sim_inode)
 *   sim_disk      twin of port/disk on a sim_tree: lanes, crash semantics, the shadow (what a power cut now leaves)
 *   sim_media     what a running disk does wrong, call by call
 *   sim_atlas     which stored batches rotted while the broker ran, and so may be CORRUPT
 *   sim_kv        twin of port/kv
 *   sim_link      twin of port/link: delays, split and merged reads, connections cut in the middle of a frame
 *   sim_cable     links between brokers;  sim_wire  what becomes of frames on them
 *   sim_registry  the registry that they share
 *   sim_trio      several whole brokers, for tests by hand
 *   fleet         the same with load, faults and checkers: one to seven brokers, up to 64 groups (fleet.h)
 *   fleet_atlas   which stored bytes of which machine are wrong just now; what brokers may say of damage
 *   judge         what several brokers promise together, held against all that can be seen of them (judge.h)
 *   sim_check     the checkers of the promises, over a history of what was sent, acknowledged and read
 *   sim_ledger    the durable log of every group, replayed by a machine of its own
 *   sim_room      what is owed while the disk is full
 *   sim_watch     bounds of what the broker says of itself: memory, WAL, errors
 *   sim_decay     what rots while the broker runs, and has to be found
 *   sim_rot       bits that flip at a known address, and who may be damaged by it
 *   sim_shadow    reads the shadow with the product's own offline readers: what a restart would find
 *   sim_reign     what several brokers say as leaders, term by term
 *   sim_herald    what the registry is told of leaders, and whether they do without it
 *   sim_load      the workload (sim_client, sim_producer, sim_reader, sim_admin), speaking frames; and its
 *                 enemies (sim_vandal, sim_liar, sim_crowd)
 *   sim_run       one run: lives of a broker, crashes, the quiet end in which everything is read back
 *   sim_child     runs in child processes, so that an assertion is one failed seed
 *   sim_board     the planted bugs that a simulator worth its name must catch
 *   sim_main      seeds, determinism, shrinking, the summary line
 *
 * The product is linked as it is: the archives of flotillad without src/os, the listeners and main.c
 * (tests/lint/sim_links.py holds both link lines against each other). */
#ifndef FLOTILLA_SIM_SIM_H
#define FLOTILLA_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "sim_tally.h"

/* --- world --- */

/* Kinds of I/O calls; a crash may be planned for the k-th call of any kind or of one kind. */
enum sim_io {
    SIM_IO_OPEN,
    SIM_IO_READ,
    SIM_IO_WRITE,
    SIM_IO_SYNC,
    SIM_IO_TRUNCATE,
    SIM_IO_NAME, /* make_dir, remove_dir, rename, unlink */
    SIM_IO_SYNC_DIR,
    SIM_IO_KV,
    SIM_IO_KV_COMMIT,
    SIM_IO_KINDS
};
#define SIM_IO_ANY SIM_IO_KINDS

struct decay;
struct sim_atlas;
struct sim_event;
typedef void (*sim_action)(void *context, uint64_t argument);

/* A world may have parts: one for each machine of it. A part has its own gate, generators and tally; time, events, hash
 * and verdict are those of the whole, of which now_us and verbose are copies. A part that is held (world_hold) gets
 * none of its events until then. */
#define SIM_PARTS_MAX 8u

struct sim_world {
    struct sim_world *whole; /* NULL: it is no part */
    uint32_t part;           /* its number, from 1 on; 0: the whole */
    struct sim_world *parts[SIM_PARTS_MAX];
    uint32_t parts_count;
    uint64_t held_until_us; /* of a part */
    bool was_touched;       /* world_enter was called since somebody reset this: product code of it ran */
    uint64_t now_us;
    uint64_t hash;
    uint64_t events_count;
    uint64_t faults_count; /* faults that really happened */
    struct sim_tally tally;
    /* One generator per subject, so that dropping a fault class leaves the choices of the others as they were. */
    struct rng disk, link, load, crash, points, media, clock, memory;

    uint32_t inside; /* not 0: product code of the broker is running (and nobody else's) */

    /* the I/O gate */
    bool crashed; /* every disk and kv call fails, no completion is delivered */
    uint64_t io_calls;
    uint64_t io_calls_of[SIM_IO_KINDS];
    uint64_t crash_countdown; /* 0: none planned; 1: the next call of crash_kind */
    enum sim_io crash_kind;

    struct decay *decay;       /* NULL: the same */
    struct sim_atlas *atlas;   /* NULL: nothing rots while the broker runs */
    int64_t log_clock_max_ms;  /* nothing that the broker was told up to now lets a log entry carry a later time */
    uint64_t wal_files;        /* so many of the newest files of the log the broker needs, as it says */
    uint64_t no_room_us;       /* when a call last found no room in this life; 0: none did */
    uint64_t corrupt_until_us; /* bad bytes were read: until then CORRUPT is an honest answer, to be asked again */

    /* the first failure ends the run */
    bool failed;
    char failed_check[16];
    char failed_text[768];

    bool verbose;

    struct sim_event **heap; /* owned; ordered by (time, sequence) */
    size_t heap_count, heap_capacity;
    uint64_t next_sequence;
};

void world_init(struct sim_world *world, uint64_t seed);
/* The next part of a whole, which must outlive it. */
void world_init_part(struct sim_world *part, struct sim_world *whole, uint64_t seed);
void world_done(struct sim_world *world);

/* Calls action(context, argument) at time_us. The handle is valid until the action runs or is cancelled. */
struct sim_event *world_at(struct sim_world *world, uint64_t time_us, sim_action action, void *context,
                           uint64_t argument);
void world_cancel(struct sim_world *world, struct sim_event *event); /* NULL is allowed */
bool world_step(struct sim_world *world);                            /* runs the next event; false: nothing is left */

/* Nothing happens in this world for so long, as if its processor were taken away: time goes on (a part: for the
 * others), and what falls due meanwhile comes then, at once and in its order. */
void world_hold(struct sim_world *world, uint64_t for_us);

/* Folds something that happened into the run's hash. */
void world_mix(struct sim_world *world, uint64_t what, uint64_t value);

/* Every disk and kv call passes here first. false: the process is dead or dies with this very call; the caller fails
 * with ERR_IO (a write that dies may leave a part of itself). */
bool world_io(struct sim_world *world, enum sim_io kind);
void world_plan_crash(struct sim_world *world, enum sim_io kind, uint64_t countdown);

/* Around each call of the broker. A callback of it that works for the checkers steps outside in between. */
void world_enter(struct sim_world *world);
void world_leave(struct sim_world *world);
uint32_t world_step_out(struct sim_world *world); /* returns what world_step_in needs */
void world_step_in(struct sim_world *world, uint32_t inside);

/* For the tally: one more fault of a class happened; a checker held one more fact against its promise. */
void world_fault(struct sim_world *world, enum sim_fault fault);
void world_judged(struct sim_world *world, enum sim_judge judge);

/* A broken promise. `check` is the id of the checker ("B1"); only the first failure of a run counts. */
void world_fail(struct sim_world *world, const char *check, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void world_log(const struct sim_world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3))); /* verbose only */

/* Draws between low and high, each order of magnitude as likely as the next. */
uint64_t sim_log_between(struct rng *rng, uint64_t low, uint64_t high);

/* Memory of the simulator's own, which is never short; base/mem.h is the product's, whose allocations fail on purpose.
 */
void *sim_zeroed(size_t count, size_t size);
void *sim_resized(void *memory, size_t size);

/* Room for `wanted` items at least; those that are new are zero. Returns where they are now. */
void *sim_grow(void *data, uint64_t *io_capacity, uint64_t wanted, size_t item_size);

#endif
