/* The one error enum. Functions return it, OK is 0, outputs stay untouched on failure. Foreign codes (errno, libuv,
 * LMDB, nanopb) are translated where they occur and never travel further; the foreign text is traced there.
 * Numbers below 100 travel as the `status` of a reply: they never change. From 100 on they stay inside a process. */
#ifndef FLOTILLA_BASE_ERR_H
#define FLOTILLA_BASE_ERR_H

#define ERR_TABLE(X)                                                                            \
    X(OK, 0, "ok")                                                                              \
    X(ERR_INTERNAL, 1, "internal error")                                                        \
    X(ERR_INVALID, 2, "invalid request")                                                        \
    X(ERR_UNSUPPORTED, 3, "unsupported protocol version or request")                            \
    X(ERR_UNKNOWN_TOPIC, 4, "topic does not exist")                                             \
    X(ERR_UNKNOWN_PARTITION, 5, "partition does not exist")                                     \
    X(ERR_NOT_LEADER, 6, "this broker does not lead the partition")                             \
    X(ERR_NOT_READY, 7, "partition is not ready yet")                                           \
    X(ERR_TOO_LARGE, 8, "record or batch is too large")                                         \
    X(ERR_CORRUPT_BATCH, 9, "batch is malformed or its checksum is wrong")                      \
    X(ERR_OUT_OF_RANGE, 10, "offset is out of range")                                           \
    X(ERR_BUSY, 11, "broker is busy: a limit is reached, try again")                            \
    X(ERR_TIMEOUT, 12, "deadline passed, outcome unknown")                                      \
    X(ERR_UNKNOWN_OUTCOME, 13, "leadership was lost, outcome unknown")                          \
    X(ERR_FENCED, 14, "a newer producer with this name or id exists")                           \
    X(ERR_OUT_OF_ORDER, 15, "sequence number leaves a gap")                                     \
    X(ERR_STALE, 16, "sequence number is older than the window")                                \
    X(ERR_UNKNOWN_PRODUCER, 17, "producer id is unknown or has expired")                        \
    X(ERR_TOPIC_EXISTS, 18, "topic exists already")                                             \
    X(ERR_INVALID_TOPIC, 19, "invalid topic name")                                              \
    X(ERR_INVALID_CONFIG, 20, "invalid topic configuration")                                    \
    X(ERR_NOT_ENOUGH_BROKERS, 21, "not enough brokers for that many replicas")                  \
    X(ERR_STORAGE_FULL, 22, "disk is full")                                                     \
    X(ERR_CORRUPT, 23, "partition is damaged here and not served")                              \
    X(ERR_SHUTTING_DOWN, 24, "broker is shutting down")                                         \
    X(ERR_BAD_FRAME, 25, "malformed frame")                                                     \
    X(ERR_OTHER_CLUSTER, 26, "broker belongs to another cluster")                               \
    X(ERR_UNKNOWN_BROKER, 27, "broker is not known in this cluster")                            \
    X(ERR_REMOVED_BROKER, 28, "broker was removed from this cluster")                           \
    X(ERR_IO, 100, "input/output error")                                                        \
    X(ERR_NO_MEMORY, 101, "out of memory")                                                      \
    X(ERR_NO_FILE, 102, "no such file or row")                                                  \
    X(ERR_EXISTS, 103, "exists already")                                                        \
    X(ERR_FORMAT, 104, "stored data is unreadable")                                             \
    X(ERR_VERSION, 105, "unknown format version")                                               \
    X(ERR_LOCKED, 106, "in use by another process")                                             \
    X(ERR_CLOSED, 107, "closed")                                                                \
    X(ERR_REFUSED, 108, "connection refused")                                                   \
    X(ERR_ADDRESS, 109, "bad address or address in use")                                        \
    X(ERR_CANCELLED, 110, "cancelled")                                                          \
    X(ERR_IDENTITY, 111, "data of another broker or cluster")                                   \
    X(ERR_TOO_MANY_FILES, 112, "too many open files")                                           \
    X(ERR_AGAIN, 113, "more input is needed")                                                   \
    X(ERR_READ_ONLY, 114, "file system is read-only")

enum err {
#define ERR_ENUM(name, number, text) name = number,
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

/* The text of an error, never NULL, static; an unknown number (a newer broker's) gives "unknown error". */
const char *err_text(enum err error);

/* The symbol itself, for metrics and log fields: "ERR_NOT_LEADER". Static, never NULL. */
const char *err_name(enum err error);

#endif
