/* Every hard limit of Flotilla, in one place, with the relations that must hold between them.
 * A queue, a field or a table without a line here is a bug. Units last in the name. */
#ifndef FLOTILLA_BASE_LIMITS_H
#define FLOTILLA_BASE_LIMITS_H

#include <stdint.h>

/* names and topics */
#define TOPIC_NAME_BYTES_MAX     249 /* Kafka's rule: [a-zA-Z0-9._-]{1,249}, not "." or ".." */
#define PRODUCER_NAME_BYTES_MAX  255
#define CLIENT_ID_BYTES_MAX      127
#define ADDRESS_BYTES_MAX        255
#define TOPICS_MAX               10000
#define PARTITIONS_PER_TOPIC_MAX 10000
#define GROUPS_MAX               65536 /* partition replicas on one broker */
#define TOPIC_CONFIG_KEYS_MAX    16

/* batches, frames, connections */
#define BATCH_HEADER_BYTES                  61u         /* RecordBatch v2, bytes before the first record */
#define BATCH_BYTES_MAX                     (16u << 20) /* the most that [topic] max_batch_bytes may be set to */
#define BATCH_BYTES_DEFAULT                 (1u << 20)  /* [topic] max_batch_bytes */
#define RECORDS_BYTES_MAX                   (64u << 20) /* of one batch, decompressed: what a consumer opens at most */
#define FRAME_HEADER_BYTES                  24u
#define FRAME_PROTO_BYTES_MAX               (64u << 10)
#define FRAME_PAYLOAD_BYTES_MAX             (BATCH_BYTES_MAX + (1u << 20))
#define FRAME_BYTES_MAX                     (FRAME_HEADER_BYTES + FRAME_PROTO_BYTES_MAX + FRAME_PAYLOAD_BYTES_MAX)
#define RECEIVE_CHUNK_BYTES                 (1u << 20) /* one receive buffer; larger frames get a buffer of their own */
#define FETCH_BYTES_MAX                     (16u << 20)
#define SEND_PARTS_MAX                      1024 /* slices in one link_send, IOV_MAX */
#define CONNECTIONS_DEFAULT                 10000
#define CONNECTION_INFLIGHT_BYTES_MAX       (64u << 20) /* produce bytes of one connection not yet answered */
/* Requests that wait for something; further ones are answered BUSY. A consumer waits at each partition of a topic. */
#define PENDING_REQUESTS_PER_CONNECTION_MAX 16384
#define INITS_LATE_MAX                      1024u /* for producer ids, answered at their deadline and not decided */
#define REQUEST_PROTO_BYTES_MAX             (4u << 10)  /* room for fields that clients of a later version know */
#define CONNECTION_SEND_BYTES_MAX           (16u << 20) /* replies queued beyond it: no more requests are read */
#define INBOX_PARKED_BYTES_MAX              4096u       /* of an unfinished frame: more keeps its connection a chunk */
#define REQUESTS_PER_TURN_MAX               4096u       /* of all connections; the rest is handled in the next turns */
#define CONNECTION_REQUESTS_PER_TURN_MAX    512u
#define METADATA_PAGE_BYTES                 (1u << 20) /* a page ends with the topic that passes it */
/* The last quarter of [limits] connections is not for an address that has the other three. */
#define CONNECTIONS_FOR_OTHERS_PARTS        4

/* patience with clients: looked at once in PATIENCE_SWEEP_US, while somebody is waited for */
#define PATIENCE_SWEEP_US       1000000u
#define FRAME_DEADLINE_US       10000000u   /* from a frame's first byte to its last ... */
#define FRAME_BYTES_PER_S_MIN   (16u << 10) /* ... and as much longer as it takes what came at this rate */
#define REPLY_DEADLINE_US       30000000u   /* in so long a reader takes ... */
#define REPLY_BYTES_MIN         (64u << 10) /* ... at least so much of what waits for it, or all */
#define PRESSED_BYTES_PER_S_MIN (64u << 10) /* when memory is short: who moves less and holds more goes first */

/* shares of [limits] memory_bytes: one part in so many */
#define MEMORY_TAIL_PARTS     4  /* newest batches, and those queued for segments */
#define MEMORY_INFLIGHT_PARTS 4  /* or [limits] inflight_bytes, if less */
#define MEMORY_SEND_PARTS     4  /* replies that clients have not taken */
#define MEMORY_RECEIVE_PARTS  8  /* unfinished frames */
#define MEMORY_READ_PARTS     16 /* segments read for replies */
#define MEMORY_REQUEST_PARTS  16 /* requests under way, without their bytes */
#define MEMORY_KEPT_PARTS     16u
#define MEMORY_PEERS_PARTS    16u
#define REQUEST_BYTES         256u  /* what one is taken for */
#define CONNECTION_BYTES      4096u /* what one is taken for, without what it holds */

/* time: how far the wall clock may run ahead of the monotonic clock since the start before it is not followed */
#define LOG_CLOCK_AHEAD_MS_MAX 300000
#define LOG_CLOCK_DRIFT_PARTS  1000 /* plus one part in so many of the time since then: clocks are slewed */

/* dedup (Kafka keeps 5 batches per producer too) */
#define DONE_BATCHES            5
#define PRODUCERS_PER_GROUP_MAX 1000000

/* raft */
#define RAFT_VOTERS_MAX           7
#define RAFT_MEMBERS_MAX          (2 * RAFT_VOTERS_MAX) /* voters and learners of both halves of a configuration */
#define RAFT_CONFIGS_MAX          8                     /* configuration entries in a log, and the one at its base */
#define RAFT_TERM_MAX             ((uint64_t)1 << 31)   /* terms are leader epochs on the wire: int32 */
#define RAFT_RUNS_MAX             16                    /* changes of term inside one append message */
#define RAFT_APPEND_ENTRIES_MAX   256
#define RAFT_APPEND_BYTES_MAX     (4u << 20)
#define RAFT_INFLIGHT_BYTES_MAX   (16u << 20)                     /* per follower */
#define RAFT_INFLIGHT_ENTRIES_MAX 8192                            /* per follower */
#define RAFT_LAG_ENTRIES_MAX      (RAFT_INFLIGHT_ENTRIES_MAX / 8) /* of who is to vote, or to lead next */
#define RAFT_LEAVER_TIMEOUTS      10                              /* election timeouts in which who leaves is told so */
#define RAFT_TRAIL_RUNS_MAX       65536 /* changes of term in one group's log: 1 MiB of trail */

/* WAL */
#define WAL_BLOCK_BYTES          4096u
#define WAL_FILE_BYTES_DEFAULT   ((uint64_t)64 << 20)
#define WAL_FILE_BYTES_MIN       ((uint64_t)1 << 20)
#define WAL_BUDGET_BYTES_DEFAULT ((uint64_t)1 << 30)
#define WAL_RESERVE_BYTES        ((uint64_t)64 << 20) /* spare files that produce never gets, see wal.h */
#define WAL_BATCH_BYTES_MAX      (32u << 20)          /* one group commit */
#define WAL_WRITE_BYTES_MAX      (512u << 10) /* one pwritev: larger ones into new pages run 8 x slower (measured) */
#define WAL_VOUCH_IDLE_US        5000
/* A group that cannot let go of the log is given up when the log is within one part in so many of its budget; and so
 * much of the budget may be written again and again for the sake of one group. */
#define WAL_ABANDON_PARTS        4
#define WAL_BATCH_PARTS          4            /* of its budget: the largest batch */
#define WAL_SCRUB_BYTES          (256u << 10) /* one piece of a scrub */

#define DELETED_FORGET_MAX 1024u /* marks of deleted groups that one transaction takes away */

/* segments */
#define SEGMENT_BYTES_DEFAULT        ((uint64_t)256 << 20)
#define SEGMENT_BYTES_MIN            ((uint64_t)1 << 16)
#define SEGMENT_BYTES_MAX            ((uint64_t)1 << 31) /* positions in Kafka's index files are int32 */
#define SEGMENT_INDEX_INTERVAL_BYTES 4096u
#define STORE_QUEUE_BYTES_MAX        ((uint64_t)256 << 20) /* applied but not yet in a segment file, per broker */
#define STORE_OPEN_FILES_DEFAULT     512
#define STORE_EXPECTED_MAX           GROUPS_MAX /* files that a start has looked at ahead: 5 MiB of names */
#define STORE_BLOCK_BYTES            4096u
#define STORE_WRITE_BYTES_MAX        (512u << 10) /* one write and one start of writeback, see WAL_WRITE_BYTES_MAX */
#define STORE_WRITE_PARTS_MAX        1024         /* IOV_MAX */
/* Queued bytes that start a write job before their age does: long runs write fastest. */
#define STORE_JOB_BYTES_MIN          (8u << 20)
#define STORE_DIRECT_BYTES_MIN       (256u << 10) /* runs from here on go round the page cache */
#define STORE_STAGING_BYTES          (1u << 20)   /* one such write */
#define STORE_JOB_BYTES_MAX          (16u << 20)  /* one write job, so that reads get their turn on the lane */
#define STORE_CHECK_BYTES            (4u << 20)   /* of a segment that came from another broker, judged in one job */
#define STORE_QUEUE_AGE_US           200000
#define STORE_RETRY_US               1000000
#define STORE_FAILURES_MAX           3          /* failed tries in a row, and the partition takes no more records */
#define STORE_FAILURES_FINAL         30         /* errors in a row, and it says that its file is broken */
#define STORE_READ_BYTES             (1u << 20) /* one disk read, unless a single batch is larger */
#define STORE_READ_BUFS_KEPT         16
/* A checkpoint with more dirty files ends in one syncfs (10,000 files: 0.10 s against 1.45 s). */
#define STORE_SYNC_FILES_MAX         32
#define STORE_SCRUB_BYTES            (256u << 10) /* one piece of a scrub: 0.1-0.5 ms of the lane */

#define DISK_DIRECT_BYTES_MIN       (64u << 10) /* below it, the page cache and the kernel's merging win */
/* One O_DIRECT pwritev. Larger ones gain nothing: the copy into the staging buffer then leaves the L2 cache. */
#define DISK_DIRECT_WRITE_BYTES_MAX (1u << 20)

#define DAMAGED_RANGES_TOLD_MAX 8u /* of one partition, to clients and on pages; the others are counted */

/* scrub */
#define SCRUB_PERIOD_MS_DEFAULT ((int64_t)24 * 3600 * 1000)
#define SCRUB_PERIOD_MS_MIN     100
#define SCRUB_PERIOD_MS_MAX     ((int64_t)1000 * 24 * 3600 * 1000)

/* checkpoint store */
#define KV_KEY_BYTES_MAX      511 /* LMDB's own limit */
#define KV_MAP_BYTES          ((uint64_t)64 << 30)
/* Blocks set aside behind the last page, for the transactions that free space on a full disk. Some hundred groups' rows
 * take 3 MiB, and the pages that a transaction frees are there again for the one after the next. */
#define KV_RESERVE_BYTES      ((uint64_t)8 << 20)
#define KV_RESERVE_STEP_BYTES ((uint64_t)1 << 20)

/* peers */
#define ROUTER_WAITING_MAX      65536u     /* votes and acknowledgements that wait for the log */
#define WINDOW_KEPT_BYTES_MAX   (8u << 20) /* of one group's applied entries, for followers that lack them */
#define PEERS_MAX               64u
#define ASSIGN_INTERVAL_US      500000u /* between two looks at what is not as the registry wishes, and two reports */
#define PEER_QUEUE_BYTES_MAX    (32u << 20) /* sent to one peer on one lane and not taken by the kernel */
#define PEER_PING_US            1000000u
#define PEER_SILENCE_US         5000000u /* nothing heard on a lane for so long: it is over */
#define QUIET_PING_PARTS        4u       /* of an election timeout: between brokers with sleeping groups in common */
/* So many election timeouts two brokers may differ on who sleeps: who woke alone campaigns in that time. */
#define QUIET_DIFFERS_ELECTIONS 2u
#define PEER_HELLO_US           3000000u /* from the connection to the end of the greeting */
#define PEER_RETRY_US_MIN       100000u  /* between two dials; doubles up to ... */
#define PEER_RETRY_US_MAX       5000000u /* ... and a random third less, so that brokers do not knock in step */

/* snapshots: pictures of groups on their way to replicas that lack too much */
#define SNAPSHOT_CHUNK_BYTES_MAX (1u << 20)
#define SNAPSHOT_WANTS_MAX       4u                   /* chunks that a receiver has asked for and not got */
#define SNAPSHOT_ROWS_BYTES_MAX  ((uint64_t)8 << 30)  /* done table, terms, manifest, state */
#define SNAPSHOT_SENDS_MAX       65536u               /* that wait for their turn; others are asked for again */
#define SNAPSHOT_PER_PEER_MAX    2u                   /* transfers to one peer at once */
#define SNAPSHOT_PICTURES_MAX    16u                  /* for sending, used or not */
#define SNAPSHOT_RECEIPTS_MAX    16u                  /* being received, or waiting to go on */
#define SNAPSHOT_HELD_BYTES_MAX  ((uint64_t)1 << 30)  /* of files that would be gone but for pictures */
#define SNAPSHOT_KEPT_BYTES_MAX  ((uint64_t)64 << 20) /* of a group's applied entries while it sends one */
#define SNAPSHOT_AGE_US_MAX      ((uint64_t)4 * 3600 * 1000000) /* of a picture */
#define SNAPSHOT_SWEEP_US        60000000u                      /* between two looks for what nobody needs any more */
#define SNAPSHOT_IDLE_US         60000000u                      /* so long either side waits for the other to go on */
#define SNAPSHOT_SILENCE_US      10000000u                      /* nothing heard of a transfer: it has ended */
#define SNAPSHOT_RETRY_US        1000000u                       /* between two tries */

/* links */
#define LINK_HEAD_BLOCK_BYTES         4096u /* copied heads of one link share blocks of this size while they wait */
#define LINK_HEAD_BLOCKS_KEPT         1024u /* free ones kept for reuse, per loop */
#define LINK_READ_BYTES_PER_TURN      (4u << 20) /* of all links together, shared evenly: a turn of 2 ms */
#define LINK_READ_BYTES_MAX           (1u << 20) /* of one link in one turn */
#define LINK_READ_BYTES_MIN           (64u << 10)
#define LINK_CLOSE_MS                 1000  /* writing out the queue, then waiting for the other side to close */
#define LINK_CONNECT_MS               5000  /* one attempt, one address */
#define LINK_KEEPALIVE_S              30    /* idle this long: the kernel asks whether the other side lives, ... */
#define LINK_KEEPALIVE_INTERVAL_S     10    /* ... again after so long, ... */
#define LINK_KEEPALIVE_PROBES         3     /* ... and so often; then the connection is over */
#define LINK_UNHEARD_MS               60000 /* so is one whose other side does not confirm what was sent for so long */
#define LISTENER_PAUSE_MS             100   /* no accepting after running out of descriptors */
#define LISTENER_ACCEPTS_PER_TURN_MAX 4     /* a storm of them must not keep the others' requests waiting: 20 us each */

_Static_assert(FRAME_PAYLOAD_BYTES_MAX >= FETCH_BYTES_MAX, "a fetch reply must fit a frame");
_Static_assert(PENDING_REQUESTS_PER_CONNECTION_MAX > PARTITIONS_PER_TOPIC_MAX, "one consumer of one topic");
_Static_assert(WAL_BATCH_BYTES_MAX > BATCH_BYTES_MAX + WAL_BLOCK_BYTES, "the largest batch must fit a WAL batch");
_Static_assert(RAFT_INFLIGHT_BYTES_MAX >= RAFT_APPEND_BYTES_MAX, "one append must fit the window");
_Static_assert(BATCH_BYTES_MAX >= BATCH_BYTES_DEFAULT, "default within the limit");

#endif
