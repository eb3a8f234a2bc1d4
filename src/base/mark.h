/* Coverage marks: branches that are taken rarely, and that a test of everything at once has to have taken before it may
 * claim anything. A test sets the hook of struct trace and counts; flotillad has no hook, and a mark costs it one
 * branch that is never taken. Loop thread only; trace may be NULL. */
#ifndef FLOTILLA_BASE_MARK_H
#define FLOTILLA_BASE_MARK_H

#include <stddef.h>

#include "base/trace.h"

#define MARK_TABLE(X)                                                                                                  \
    X(MARK_PEER_REFUSED, "peer-refused")               /* HELLO of a stranger, or meant for somebody else */           \
    X(MARK_PEER_OTHER_ANSWERS, "peer-other-answers")   /* the reply to ours is a refusal, or somebody else's */        \
    X(MARK_PEER_EARLIER_LIFE, "peer-earlier-life")     /* a link of a life that is over */                             \
    X(MARK_PEER_NEW_LIFE, "peer-new-life")             /* the peer was started again, links of before were open */     \
    X(MARK_PEER_REPLACED, "peer-replaced")             /* a newer link takes the place of one that is open */          \
    X(MARK_PEER_BAD_FRAME, "peer-bad-frame")           /* bytes that are no frame end the link */                      \
    X(MARK_PEER_BAD_ROW, "peer-bad-row")               /* so does a row of which the payload is not what was sent */   \
    X(MARK_PEER_NO_GREETING, "peer-no-greeting")       /* none in time */                                              \
    X(MARK_PEER_SILENT, "peer-silent")                 /* nothing was heard for too long */                            \
    X(MARK_PEER_TWIN_CLOSED, "peer-twin-closed")       /* the other link to a broker ends with the first */            \
    X(MARK_ROW_UNSENT, "row-unsent")                   /* the link is down, or its queue full */                       \
    X(MARK_ROW_NO_GROUP, "row-no-group")               /* for a group that is not here */                              \
    X(MARK_ROW_OTHER_REPLICA, "row-other-replica")     /* for another replica of a group that is */                    \
    X(MARK_ROW_NOT_BORN, "row-not-born")               /* for one that has not started, or is damaged */               \
    X(MARK_ROW_STRANGER, "row-stranger")               /* from who may not speak */                                    \
    X(MARK_ROW_REFUSED, "row-refused")                 /* a peer has no such replica */                                \
    X(MARK_ROW_NEW_MEMBER, "row-new-member")           /* from a member that no configuration here names yet */        \
    X(MARK_ROW_CONFIG_LATER, "row-config-later")       /* a configuration has to wait for a checkpoint */              \
    X(MARK_WAITS_LONGER, "waits-longer")               /* a message waits behind one for a later record */             \
    X(MARK_WAITER_GONE, "waiter-gone")                 /* its replica ended before it was durable */                   \
    X(MARK_TRUNCATED, "truncated")                     /* a follower's entries are replaced */                         \
    X(MARK_TRUNCATED_CONFIG, "truncated-config")       /* with them a configuration */                                 \
    X(MARK_STEPPED_DOWN, "stepped-down")               /* a leader is none any more */                                 \
    X(MARK_WAITERS_FAILED, "waiters-failed")           /* while somebody waited for his entry */                       \
    X(MARK_WINDOW_KEPT, "window-kept")                 /* applied entries stay for somebody slower */                  \
    X(MARK_WINDOW_SHORT, "window-short")               /* they go although somebody may lack them: memory is short */  \
    X(MARK_WINDOW_LONG, "window-long")                 /* so: this group kept too many */                              \
    X(MARK_WINDOW_CROWDED, "window-crowded")           /* so: too many configurations stand among them */              \
    X(MARK_GAVE_UP, "gave-up")                         /* a replica that lives is found damaged */                     \
    X(MARK_KILLED, "killed")                           /* a replica ends for good */                                   \
    X(MARK_CHANGE_PROPOSED, "change-proposed")         /* a configuration enters the log of its leader */              \
    X(MARK_CHANGE_JOINT, "change-joint")               /* one of two halves */                                         \
    X(MARK_CHANGE_LEFT, "change-left")                 /* and the one behind it */                                     \
    X(MARK_CHANGE_CROWDED, "change-crowded")           /* none now: a checkpoint first */                              \
    X(MARK_CHANGE_NOT_NOW, "change-not-now")           /* none now, says the core */                                   \
    X(MARK_TRANSFER, "transfer")                       /* a leadership is given away */                                \
    X(MARK_TRANSFER_NOT_NOW, "transfer-not-now")       /* it cannot be */                                              \
    X(MARK_CHANGE_TAKEN, "change-taken")               /* a follower gets a configuration */                           \
    X(MARK_CHANGE_APPLIED, "change-applied")           /* one is committed */                                          \
    X(MARK_REMOVED, "removed")                         /* it is without the replica that applies it */                 \
    X(MARK_LOST, "lost")                               /* the registry means a replica that is not here */             \
    X(MARK_BIRTH_WAITS, "birth-waits")                 /* one cannot be born yet */                                    \
    X(MARK_WAY_GIVEN, "way-given")                     /* who leads and is to go lets somebody else */                 \
    X(MARK_NEEDED, "needed")                           /* those who are to stay do not answer: nobody goes */          \
    X(MARK_ASKS_MEMBERS, "asks-members")               /* a replica that nobody wishes asks whether it is one */       \
    X(MARK_TOLD_REMOVED, "told-removed")               /* and is told that it is none */                               \
    X(MARK_REMOVED_BY_WORD, "removed-by-word")         /* and goes */                                                  \
    X(MARK_REMOVED_IS_OLD, "removed-is-old")           /* or does not: the log here knows better */                    \
    X(MARK_STRANGER_CAMPAIGNS, "stranger-campaigns")   /* a vote request of who is no member */                        \
    X(MARK_SNAPSHOT_REFUSED, "snapshot-refused")       /* a transfer is broken off by who was to have it */            \
    X(MARK_SNAPSHOT_NOT_NEEDED, "snapshot-not-needed") /* an offer of what is there already */                         \
    X(MARK_SNAPSHOT_BUSY, "snapshot-busy")             /* an offer while another one is under way */                   \
    X(MARK_SNAPSHOT_RESUMED, "snapshot-resumed")       /* a transfer goes on where it broke off */                     \
    X(MARK_SNAPSHOT_STALE, "snapshot-stale")           /* a message of a transfer that is over */                      \
    X(MARK_SNAPSHOT_CHUNK_IGNORED, "snapshot-chunk-ignored") /* a piece that was not asked for */                      \
    X(MARK_SNAPSHOT_SEGMENT_OWN, "snapshot-segment-own")     /* a segment that need not travel: it is here */          \
    X(MARK_SNAPSHOT_SEGMENT_ANEW, "snapshot-segment-anew")   /* one that has to: what is here differs */               \
    X(MARK_SNAPSHOT_OVERTAKEN, "snapshot-overtaken")         /* entries came in time: it is needed no more */          \
    X(MARK_SNAPSHOT_INSTALLED, "snapshot-installed")         /* one is in force */                                     \
    X(MARK_SNAPSHOT_INSTALL_WAITS, "snapshot-install-waits") /* there is no room to install it */                      \
    X(MARK_SNAPSHOT_MAKES_ROOM, "snapshot-makes-room")       /* none for it: what is gone elsewhere goes here */       \
    X(MARK_SNAPSHOT_NOT_READ, "snapshot-not-read")           /* a segment cannot be read at the sender */              \
    X(MARK_SNAPSHOT_NOT_MADE, "snapshot-not-made")           /* the rows cannot be */                                  \
    X(MARK_SLEEPS_LEADING, "sleeps-leading")                 /* a group goes quiet: everybody has agreed */            \
    X(MARK_SLEEPS_FOLLOWING, "sleeps-following")             /* so, as far as its follower knows */                    \
    X(MARK_WOKEN_BY_WORK, "woken-by-work")                   /* and wakes: there is something to do */                 \
    X(MARK_WOKEN_BY_LEADER, "woken-by-leader")               /* so says a message of a member */                       \
    X(MARK_WOKEN_BY_VOTE, "woken-by-vote")                   /* somebody asks for votes */                             \
    X(MARK_WOKEN_BY_LINK, "woken-by-link")                   /* the link it relies on is lost or renewed */            \
    X(MARK_WOKEN_BY_SILENCE, "woken-by-silence")             /* nothing is heard on it */                              \
    X(MARK_WOKEN_BY_DIGEST, "woken-by-digest")               /* two brokers do not think the same for too long */      \
    X(MARK_DIGEST_DIFFERS, "digest-differs")                 /* they do not, so far */                                 \
    X(MARK_PAUSE_LEFT_OUT, "pause-left-out")                 /* a tick comes so late that the time does not count */   \
    X(MARK_REPLAY_TRUNCATED, "replay-truncated")             /* a start finds a truncation in the log */               \
    X(MARK_REPLAY_CONFIG, "replay-config")                   /* a configuration */                                     \
    X(MARK_REPLAY_UNJOINED, "replay-unjoined")               /* entries of which those before were released */         \
    X(MARK_REPLAY_REBORN, "replay-reborn")                   /* another replica of the same group */                   \
    X(MARK_REPLAY_DAMAGED, "replay-damaged")                 /* a group that is not whole any more */                  \
    X(MARK_REPLAY_WITHHELD, "replay-withheld")               /* a segment that cannot be opened in this life */

enum mark {
#define MARK_ENUM(name, text) name,
    MARK_TABLE(MARK_ENUM)
#undef MARK_ENUM
        MARKS
};

static inline void mark(const struct trace *trace, enum mark which)
{
    if (trace != NULL && __builtin_expect(trace->mark != NULL, 0)) {
        trace->mark(trace->context, (unsigned)which);
    }
}

#endif
