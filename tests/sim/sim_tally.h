/* What may go wrong in a run, what is promised meanwhile, and how often each happened. A fault class that was drawn and
 * never struck, or a checker that never had anything to judge, proves nothing however many seeds pass: `sim --coverage`
 * sums both up over all seeds, and fails when one of them stands at 0. */
#ifndef FLOTILLA_SIM_TALLY_H
#define FLOTILLA_SIM_TALLY_H

#include <stdint.h>

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

/* What only a fleet can suffer (fleet.h). */
#define SIM_FLEET_FAULT_TABLE(X)                                                                                       \
    X(FAULT_PAUSE, "pause")             /* a process stands still for up to a minute, then all timers fire at once */  \
    X(FAULT_MINORITY, "minority-crash") /* as many at once as all groups can do without */                             \
    X(FAULT_BLACKOUT, "blackout")       /* power cut of all machines at once */                                        \
    X(FAULT_CUT, "cut")                 /* some cables are cut, both ways */                                           \
    X(FAULT_ONE_WAY, "cut-one-way")     /* some cables are cut, one way */                                             \
    X(FAULT_BREAK, "cable-break")       /* links between two brokers break */                                          \
    X(FAULT_MOVE, "move")               /* replicas are moved, added and taken away */                                 \
    X(FAULT_BRIDGE, "bridge")           /* two halves, and one broker that both of them reach */                       \
    X(FAULT_RING, "ring")               /* everybody reaches a majority, no two of them the same one */                \
    X(FAULT_FLAP, "flapping")           /* cables of one broker that are cut and mended, over and over */              \
    X(FAULT_IDENTITY, "identity-swap")  /* behind a restart another broker answers at an address */                    \
    X(FAULT_LOSS, "frame-loss")         /* and nobody is told */                                                       \
    X(FAULT_TWICE, "frame-twice")       /* a frame comes twice */                                                      \
    X(FAULT_REPLAY, "frame-replay")     /* frames of earlier: of other connections, other lives */                     \
    X(FAULT_LATE, "frame-late")         /* one way takes long, and not always the same */                              \
    X(FAULT_QUEUE, "short-queue")       /* a few frames under way, all others are dropped */                           \
    X(FAULT_CLOG, "clog")               /* nothing arrives for up to five seconds, then all of it */                   \
    X(FAULT_SLOW_LINK, "slow-link")     /* so many bytes a second */                                                   \
    X(FAULT_FLIP, "bit-flip")           /* in a frame: its connection has to end */                                    \
    X(FAULT_SEVER, "cut-in-frame")      /* a connection breaks in the middle of a frame */                             \
    X(FAULT_ASTRAY, "row-astray")       /* a row names another group than it was sent for */                           \
    X(FAULT_WIPE, "wipe")               /* a machine comes back with an empty disk */                                  \
    X(FAULT_MISWRITE, "miswrite")       /* bytes of segments that are stored wrong, elsewhere, or not at all */        \
    X(FAULT_GRAY, "gray-disk")          /* one disk is slow, or stands still; all others are well */                   \
    X(FAULT_AWAY, "registry-away")      /* for a while nothing reaches the registry, or nothing of it one broker */    \
    X(FAULT_NOTICE, "registry-late")    /* notices and answers take up to seconds, and bring what was true before */   \
    X(FAULT_REPORT, "registry-report")  /* reports are lost, or come twice */                                          \
    X(FAULT_DOUBT, "registry-doubt")    /* answers that do not say whether it was done */

enum sim_fault {
#define SIM_FAULT_ENUM(name, text) name,
    SIM_FAULT_TABLE(SIM_FAULT_ENUM) FAULT_CLASSES, /* of one broker */
    FAULT_FLEET_FIRST = FAULT_CLASSES - 1,         /* the next one follows directly */
    SIM_FLEET_FAULT_TABLE(SIM_FAULT_ENUM)
#undef SIM_FAULT_ENUM
        FAULT_CLASSES_ALL
};

/* The checkers by the ids of their promises (sim_check.h and the other checkers say what each one holds). What counts
 * is a fact held against the promise, not a fact that came by. */
#define SIM_JUDGE_TABLE(X)                                                                                             \
    X(JUDGE_W1, "W1")                                                                                                  \
    X(JUDGE_W2, "W2")                                                                                                  \
    X(JUDGE_W4, "W4")                                                                                                  \
    X(JUDGE_W6, "W6")                                                                                                  \
    X(JUDGE_W7, "W7")                                                                                                  \
    X(JUDGE_W8, "W8")                                                                                                  \
    X(JUDGE_R8, "R8")                                                                                                  \
    X(JUDGE_R9, "R9")                                                                                                  \
    X(JUDGE_B1, "B1")                                                                                                  \
    X(JUDGE_B2, "B2")                                                                                                  \
    X(JUDGE_B3, "B3")                                                                                                  \
    X(JUDGE_B4, "B4")                                                                                                  \
    X(JUDGE_B5, "B5")                                                                                                  \
    X(JUDGE_B6, "B6")                                                                                                  \
    X(JUDGE_B7, "B7")                                                                                                  \
    X(JUDGE_B8, "B8")                                                                                                  \
    X(JUDGE_B9, "B9")                                                                                                  \
    X(JUDGE_B11, "B11")                                                                                                \
    X(JUDGE_B13, "B13")                                                                                                \
    X(JUDGE_B14, "B14")                                                                                                \
    X(JUDGE_B15, "B15")                                                                                                \
    X(JUDGE_S1, "S1")                                                                                                  \
    X(JUDGE_S3, "S3")                                                                                                  \
    X(JUDGE_S7, "S7")                                                                                                  \
    X(JUDGE_S10, "S10")                                                                                                \
    X(JUDGE_S11, "S11")                                                                                                \
    X(JUDGE_L1, "L1")

/* What only a fleet is held to. */
#define SIM_FLEET_JUDGE_TABLE(X)                                                                                       \
    X(JUDGE_R1, "R1")                                                                                                  \
    X(JUDGE_R2, "R2")                                                                                                  \
    X(JUDGE_R3, "R3")                                                                                                  \
    X(JUDGE_R4, "R4")                                                                                                  \
    X(JUDGE_R5, "R5")                                                                                                  \
    X(JUDGE_R6, "R6")                                                                                                  \
    X(JUDGE_R7, "R7")                                                                                                  \
    X(JUDGE_R10, "R10")                                                                                                \
    X(JUDGE_R11, "R11")                                                                                                \
    X(JUDGE_R12, "R12")                                                                                                \
    X(JUDGE_R13, "R13")                                                                                                \
    X(JUDGE_R14, "R14")                                                                                                \
    X(JUDGE_R15, "R15")                                                                                                \
    X(JUDGE_R17, "R17")                                                                                                \
    X(JUDGE_R18, "R18")                                                                                                \
    X(JUDGE_R19, "R19")                                                                                                \
    X(JUDGE_R20, "R20")                                                                                                \
    X(JUDGE_R21, "R21")                                                                                                \
    X(JUDGE_Z1, "Z1")                                                                                                  \
    X(JUDGE_B12, "B12")                                                                                                \
    X(JUDGE_Z3, "Z3")                                                                                                  \
    X(JUDGE_Z7, "Z7")                                                                                                  \
    X(JUDGE_L2, "L2") /* every group takes a write soon after the faults end, the core's replicas become equal */

enum sim_judge {
#define SIM_JUDGE_ENUM(name, text) name,
    SIM_JUDGE_TABLE(SIM_JUDGE_ENUM) JUDGES, /* of one broker */
    JUDGE_FLEET_FIRST = JUDGES - 1,         /* the next one follows directly */
    SIM_FLEET_JUDGE_TABLE(SIM_JUDGE_ENUM)
#undef SIM_JUDGE_ENUM
        JUDGES_ALL
};

struct sim_tally {
    uint32_t faults[FAULT_CLASSES_ALL];
    uint32_t judged[JUDGES_ALL];
};

const char *sim_fault_name(enum sim_fault fault);
const char *sim_judge_name(enum sim_judge judge);

#endif
