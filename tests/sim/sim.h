/* The deterministic simulator: a whole broker in one thread, on simulated time, disk, checkpoint store and links.
 *
 * One seed = one run = one event hash. Everything that could differ between two runs (time, chance, the order of I/O
 * completions, what a power cut leaves) comes out of the generators below, so a seed that failed once fails every time,
 * and a run that is done twice must give the same hash.
 *
 *   sim_world     time, the event queue, the generators, the hash, the I/O gate (crash at the k-th call)
 *   sim_options   what a seed means: sizes, rates, fault classes; printed with a failure, shrunk after it
 *   sim_point     the product's fault points: crash, delay, count
 *   sim_memory    allocations of the broker that fail
 *   sim_clock     twin of port/clock
 *   sim_tree      names and bytes of a simulated file system, each with what of it is durable (bytes: sim_inode)
 *   sim_disk      twin of port/disk on a sim_tree: lanes, crash semantics, the shadow (what a power cut now leaves)
 *   sim_media     what a running disk does wrong, call by call
 *   sim_atlas     which stored batches rotted while the broker ran, and so may be CORRUPT
 *   sim_kv        twin of port/kv
 *   sim_link      twin of port/link: delays, split and merged reads, connections cut in the middle of a frame
 *   sim_check     the checkers of the promises, over a history of what was sent, acknowledged and read
 *   sim_ledger    the durable log of every group, replayed by a machine of its own
 *   sim_watch     bounds of what the broker says of itself: memory, WAL, errors
 *   sim_rot       bits that flip at a known address, and who may be damaged by it
 *   sim_shadow    reads the shadow with the product's own offline readers: what a restart would find
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

/* --- fault classes --- */

/* Each is on with probability one half per seed (swarm testing), and is what shrinking drops one by one. */
#define SIM_FAULT_TABLE(X)                                                                                             \
    X(FAULT_DEATH, "process-death")        /* crash at an I/O call, page cache survives */                             \
    X(FAULT_POWER, "power-cut")            /* crash at an I/O call, un-synced bytes and names are lost or torn */      \
    X(FAULT_RECOVERY, "crash-in-recovery") /* the next crash comes within the first calls of a life */                 \
    X(FAULT_SYNC_ERROR, "sync-error")      /* fdatasync fails once; its pages are gone, as on ext4 */                  \
    X(FAULT_STALL, "disk-stall")           /* jobs that take seconds */                                                \
    X(FAULT_DISCONNECT, "disconnect")      /* connections break, also inside a frame */                                \
    X(FAULT_SPLIT, "split-reads")          /* bytes arrive in pieces of any size */                                    \
    X(FAULT_ZOMBIE, "zombie-frames")       /* frames of an abandoned connection arrive late */                         \
    X(FAULT_SLOW_READER, "slow-reader")    /* clients that take their replies slowly */                                \
    X(FAULT_FENCE, "takeover")             /* a named producer is started a second time */                             \
    X(FAULT_TOPICS, "topic-churn")         /* topics are created and deleted under load */                             \
    X(FAULT_RETENTION, "retention")        /* log start moves */                                                       \
    X(FAULT_WALL, "wall-clock-jumps")      /* by up to an hour, both ways */                                           \
    X(FAULT_STOP, "clean-stop")            /* broker_stop instead of some crashes */                                   \
    X(FAULT_FULL, "disk-full")             /* for a while there is no room for longer files and new rows */            \
    X(FAULT_VANDAL, "vandal")              /* a client that sends what is no frame */                                  \
    X(FAULT_LIAR, "liar")                  /* a client that repeats others, lies about sequences, asks for nonsense */ \
    X(FAULT_CROWD, "crowd")                /* connections in numbers: silent, slow, deaf; and one greedy producer */   \
    X(FAULT_EXPIRY, "producer-expiry")     /* producers are forgotten after seconds */                                 \
    X(FAULT_ROT, "bit-rot")                /* at the end, durable bytes change while the broker is down */             \
    X(FAULT_POINT_CRASH, "point-crash")    /* crash at a fault point of the product, between two I/O calls */          \
    X(FAULT_POINT_DELAY, "point-delay")    /* some fault points hold up their lane, or the loop */                     \
    X(FAULT_READ_ERROR, "read-error")      /* EIO: reads of segments, rarely of the log */                             \
    X(FAULT_WRITE_ERROR, "write-error")    /* EIO: writes and names of segments, rarely of the log */                  \
    X(FAULT_LATENT, "latent-error")        /* sectors of segments that cannot be read until they are written */        \
    X(FAULT_MISREAD, "misread")   /* reads of segments that bring flipped, stale or misdirected bytes, once */         \
    X(FAULT_FILES, "file-limit")  /* EMFILE: opens of segments */                                                      \
    X(FAULT_LATENCY, "latency")   /* each call of a job takes time of its own */                                       \
    X(FAULT_KV, "kv-error")       /* rows and commits of the checkpoint store find no room, commits fail */            \
    X(FAULT_LEAP, "clock-leaps")  /* the wall clock goes wrong by a day or a year while the broker runs */             \
    X(FAULT_SHAPE, "clock-shape") /* one for the run: off, drifting, swinging, standing still at times */              \
    X(FAULT_MEMORY, "no-memory")  /* the n-th allocation of a life fails, and a few behind it */                       \
    X(FAULT_RUST, "running-rot")  /* sectors of segments rot while the broker runs: gone, but never served wrong */

enum sim_fault {
#define SIM_FAULT_ENUM(name, text) name,
    SIM_FAULT_TABLE(SIM_FAULT_ENUM)
#undef SIM_FAULT_ENUM
        FAULT_CLASSES
};

const char *sim_fault_name(enum sim_fault fault);

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

struct sim_atlas;
struct sim_event;
typedef void (*sim_action)(void *context, uint64_t argument);

struct sim_world {
    uint64_t now_us;
    uint64_t hash;
    uint64_t events_count;
    uint64_t faults_count; /* faults that really happened */
    /* One generator per subject, so that dropping a fault class leaves the choices of the others as they were. */
    struct rng disk, link, load, crash, points, media, clock, memory;

    uint32_t inside; /* not 0: product code of the broker is running (and nobody else's) */

    /* the I/O gate */
    bool crashed; /* every disk and kv call fails, no completion is delivered */
    uint64_t io_calls;
    uint64_t io_calls_of[SIM_IO_KINDS];
    uint64_t crash_countdown; /* 0: none planned; 1: the next call of crash_kind */
    enum sim_io crash_kind;

    struct sim_atlas *atlas;   /* NULL: nothing rots while the broker runs */
    int64_t log_clock_max_ms;  /* nothing that the broker was told up to now lets a log entry carry a later time */
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
void world_done(struct sim_world *world);

/* Calls action(context, argument) at time_us. The handle is valid until the action runs or is cancelled. */
struct sim_event *world_at(struct sim_world *world, uint64_t time_us, sim_action action, void *context,
                           uint64_t argument);
void world_cancel(struct sim_world *world, struct sim_event *event); /* NULL is allowed */
bool world_step(struct sim_world *world);                            /* runs the next event; false: nothing is left */

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

/* A broken promise. `check` is the id of the checker ("B1"); only the first failure of a run counts. */
void world_fail(struct sim_world *world, const char *check, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void world_log(const struct sim_world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3))); /* verbose only */

/* Draws between low and high, each order of magnitude as likely as the next. */
uint64_t sim_log_between(struct rng *rng, uint64_t low, uint64_t high);

#endif
