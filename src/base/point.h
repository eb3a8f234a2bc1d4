/* Fault points: named moments between two steps of which the order matters, most of them where something has just
 * become durable and nobody knows it yet, or the other way round. A test sets the hook of struct trace and may end the
 * process at such a moment, or hold it up; flotillad has no hook, and a point costs it one branch that is never taken.
 *
 * point(trace, POINT_X) is called by whoever does the step, on the loop or on a lane; never once per record. trace may
 * be NULL. The code behind a point runs on after the hook: whoever ends the process there has to see to it that nothing
 * of the dead reaches the world (as the simulator does, which fails all their calls). */
#ifndef FLOTILLA_BASE_POINT_H
#define FLOTILLA_BASE_POINT_H

#include <stddef.h>

#include "base/trace.h"

#define POINT_TABLE(X)                                                                                                 \
    X(POINT_WAL_SUBMIT, "wal-submit")           /* a batch of records is closed, its job not yet on the lane */        \
    X(POINT_WAL_SUBMITTED, "wal-submitted")     /* the job is on the lane, the next batch gathers */                   \
    X(POINT_WAL_ROLL, "wal-roll")               /* lane: a file is about to get the header of a new life */            \
    X(POINT_WAL_ROLLED, "wal-rolled")           /* lane: that header is durable, no batch stands behind it */          \
    X(POINT_WAL_WRITE, "wal-write")             /* lane: nothing of the batch is written */                            \
    X(POINT_WAL_WRITTEN, "wal-written")         /* lane: it is in the page cache only */                               \
    X(POINT_WAL_SYNCED, "wal-synced")           /* lane: it is durable, the loop does not know */                      \
    X(POINT_WAL_PERSISTED, "wal-persisted")     /* the loop knows, no group was told */                                \
    X(POINT_WAL_SPARE, "wal-spare")             /* lane: a spare file is filled, its name not synced */                \
    X(POINT_WAL_RELEASED, "wal-released")       /* files that no group needs have become spares */                     \
    X(POINT_WAL_REAPPENDED, "wal-reappended")   /* what a group needs of an old file was appended at the head */       \
    X(POINT_HARD_STATE, "hard-state")           /* term and vote are about to be appended */                           \
    X(POINT_PROPOSED, "proposed")               /* an entry has its index, nothing of it is in the WAL */              \
    X(POINT_COMMIT, "commit")                   /* the commit index rose, nothing is applied */                        \
    X(POINT_APPLIED, "applied")                 /* entries are applied and their waiters answered */                   \
    X(POINT_REPLY, "reply")                     /* a produce was applied, its answer is about to leave */              \
    X(POINT_LEADER, "leader")                   /* a LEADER entry is applied, about to be published */                 \
    X(POINT_TOPIC_RESERVED, "topic-reserved")   /* a new topic has its ids, the registry does not know it */           \
    X(POINT_TOPIC_PUT, "topic-put")             /* the registry knows it as half made, no group is born */             \
    X(POINT_GROUP_BORN, "group-born")           /* GROUP_NEW is durable, the group has not started */                  \
    X(POINT_GROUP_DEAD, "group-dead")           /* a group ends, GROUP_DEAD is about to be appended */                 \
    X(POINT_GROUP_REMOVE, "group-remove")       /* lane: its files are gone, its rows are not */                       \
    X(POINT_SEGMENT_ROLL, "segment-roll")       /* a batch begins a new segment */                                     \
    X(POINT_SEGMENT_WRITE, "segment-write")     /* lane: applied batches are about to be written */                    \
    X(POINT_SEGMENT_WRITTEN, "segment-written") /* lane: they are written, not synced */                               \
    X(POINT_SEGMENT_SEAL, "segment-seal")       /* lane: a finished segment is trimmed, its indexes are to come */     \
    X(POINT_SEGMENT_REMOVE, "segment-remove")   /* lane: a segment that no manifest names is about to go */            \
    X(POINT_SEGMENT_RECYCLE, "segment-recycle") /* lane: such a segment is about to become a spare */                  \
    X(POINT_SEGMENT_REUSE, "segment-reuse")     /* lane: a spare got the name of a new segment */                      \
    X(POINT_CHECKPOINT_CAPTURED, "checkpoint-captured")   /* the pictures are taken, the job not submitted */          \
    X(POINT_CHECKPOINT_SYNCED, "checkpoint-synced")       /* lane: segments are durable, no row is put */              \
    X(POINT_CHECKPOINT_COMMIT, "checkpoint-commit")       /* lane: rows are put, the commit is to come */              \
    X(POINT_CHECKPOINT_COMMITTED, "checkpoint-committed") /* lane: the pictures are durable, the loop does not know */ \
    X(POINT_CHECKPOINT_SETTLED, "checkpoint-settled")     /* all groups know, no WAL file is released yet */           \
    X(POINT_START_LOADED, "start-loaded")                 /* a start has read the checkpoint store */                  \
    X(POINT_START_REPLAYED, "start-replayed")             /* and the WAL */                                            \
    X(POINT_START_CONCLUDED, "start-concluded")           /* what the replay learned is appended, not durable */       \
    X(POINT_STOP_CHECKPOINT, "stop-checkpoint")           /* a clean stop has asked for its checkpoints */             \
    X(POINT_STOP_TRIM, "stop-trim")                       /* a clean stop has asked for its trims */

/* What a broker that is alone never comes by. */
#define POINT_CLUSTER_TABLE(X)                                                                                         \
    X(POINT_PEER_UP, "peer-up")                 /* a broker answers on both lanes, nobody was told */                  \
    X(POINT_PEER_DOWN, "peer-down")             /* a link ended, nobody was told */                                    \
    X(POINT_ROWS_LEAVE, "rows-leave")           /* a frame of rows is about to leave */                                \
    X(POINT_ROW_TAKEN, "row-taken")             /* a row with entries is about to reach its replica */                 \
    X(POINT_ANSWER_WAITS, "answer-waits")       /* an answer was put behind the log record that it needs */            \
    X(POINT_ANSWERS_LEAVE, "answers-leave")     /* that record is durable, the answers are about to be sent */         \
    X(POINT_TRUNCATE, "truncate")               /* a truncation is about to be appended, the window still whole */     \
    X(POINT_TRUNCATED, "truncated")             /* it is appended, what replaces the entries is not */                 \
    X(POINT_CONFIG_APPENDED, "config-appended") /* a leader has a new configuration in its window */                   \
    X(POINT_CONFIG_TAKEN, "config-taken")       /* a follower has it in its window */                                  \
    X(POINT_CONFIG_APPLIED, "config-applied")   /* it is committed, the checkpoint that keeps it is to come */         \
    X(POINT_TRANSFER, "transfer")               /* a leadership is about to be given away */                           \
    X(POINT_SNAPSHOT_MADE, "snapshot-made")     /* lane: a picture is copied, the loop does not know */                \
    X(POINT_SNAPSHOT_PLACED, "snapshot-placed") /* lane: segments are in their places, the rows are not */             \
    X(POINT_SNAPSHOT_COMMIT, "snapshot-commit") /* lane: the rows are put, the commit is to come */                    \
    X(POINT_SNAPSHOT_COMMITTED, "snapshot-committed") /* lane: they are durable, the loop does not know */             \
    X(POINT_SNAPSHOT_OFFER, "snapshot-offer")         /* a picture is about to be offered */                           \
    X(POINT_SNAPSHOT_CHUNK, "snapshot-chunk")         /* a piece of one came, nothing of it is written */              \
    X(POINT_SNAPSHOT_INSTALLED, "snapshot-installed") /* it is in force here, its sender does not know */              \
    X(POINT_REPLICA_LOGGED, "replica-logged")         /* GROUP_NEW of a replica is appended, not durable */            \
    X(POINT_REPLICA_BORN, "replica-born")             /* it is durable, the registry was just told so */               \
    X(POINT_REPLICA_LOST, "replica-lost")             /* the registry was told that a replica is not here */           \
    X(POINT_REPLICA_ENDS, "replica-ends")             /* a removed replica is about to end itself */

enum point {
#define POINT_ENUM(name, text) name,
    POINT_TABLE(POINT_ENUM) POINTS_OF_ONE,   /* of a broker that is alone */
    POINT_CLUSTER_FIRST = POINTS_OF_ONE - 1, /* the next one follows directly */
    POINT_CLUSTER_TABLE(POINT_ENUM)
#undef POINT_ENUM
        POINTS
};

static inline void point(const struct trace *trace, enum point which)
{
    if (trace != NULL && __builtin_expect(trace->point != NULL, 0)) {
        trace->point(trace->context, (unsigned)which);
    }
}

#endif
