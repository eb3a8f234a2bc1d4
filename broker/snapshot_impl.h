/* Inside snapshot*.c only.
 *
 *   snapshot.c           the registry: who comes and goes, time, and what is swept away
 *   snapshot_send.c      pictures, and transfers of them to others
 *   snapshot_receive.c   what comes from another broker, until it is whole
 *   snapshot_load.c      lane: rows of another broker, judged
 *   snapshot_install.c   the change from the old picture to the new one
 *
 * Loop thread, but for what jobs run. A job holds what it works on: sends, pictures and receipts are freed by the last
 * job's `done` if they ended before it. */
#ifndef FLOTILLA_BROKER_SNAPSHOT_IMPL_H
#define FLOTILLA_BROKER_SNAPSHOT_IMPL_H

#include <sys/queue.h>

#include "base/map.h"
#include "broker/impl.h"
#include "broker/members.h"
#include "broker/snapshot.h"
#include "meta/picture.h"
#include "store/snapshot.h"

#define SNAPSHOT_DIR        "snapshots"
#define SNAPSHOT_PATH_BYTES 128

TAILQ_HEAD(sends, send);
TAILQ_HEAD(pictures, picture);
TAILQ_HEAD(snapshot_jobs, snapshot_job);

/* One job of the store lane. What it works on stays until `done`; `drop` is for a process that ends before. */
struct snapshot_job {
    struct disk_job job; /* first */
    struct snapshots *s;
    void (*run)(struct snapshot_job *job);
    void (*done)(struct snapshot_job *job); /* frees it */
    void (*drop)(struct snapshot_job *job); /* frees it, and calls nobody */
    TAILQ_ENTRY(snapshot_job) link;
};

/* --- sending --- */

struct picture {
    TAILQ_ENTRY(picture) link;
    struct snapshots *s;
    struct partition *partition; /* NULL: gone */
    uint64_t group;
    bool is_ready;           /* made: rows and segments are known */
    bool is_ended;           /* given up: no new users */
    uint32_t users;          /* transfers, and the job that makes it */
    struct store_hold *hold; /* owned; NULL: a STATE group */
    struct meta_export rows;
    struct segment_row *segments; /* owned; base and size are set */
    uint32_t segments_count, segments_capacity;
    uint64_t made_us, idle_us; /* when it began, and when its last user left */
    char path[SNAPSHOT_PATH_BYTES];
};

enum send_state {
    SEND_WAITING,    /* for its turn with its peer */
    SEND_CHECKPOINT, /* the log does not reach back to the last one, or that not far enough: a newer one is asked for */
    SEND_MAKING,     /* its picture is being made */
    SEND_OFFERED,
    SEND_GOING, /* the receiver has asked for something */
};

struct send {
    UT_hash_handle hh; /* snapshots->sends, by the key */
    struct {
        uint64_t group, replica;
    } key;
    struct snapshots *s;
    struct partition *partition;
    enum send_state state;
    bool is_over;       /* out of the tables: freed with its last job */
    bool mends;         /* not the core but the receiver asked for it: */
    int64_t end_offset; /* records up to here */
    uint64_t transfer, broker;
    struct picture *picture; /* used; NULL: none yet */
    uint64_t not_before_us;  /* waiting */
    uint64_t since_us;       /* state, or word of the receiver */
    uint32_t jobs;
    struct store_sent sent; /* lane */
    TAILQ_ENTRY(send) link; /* of its peer's waiting ones, or of the active ones */
};

struct send_peer {
    uint64_t broker;
    uint32_t active;
    struct sends waiting;
};

/* --- receiving --- */

enum receipt_state {
    RECEIPT_ROWS,     /* coming */
    RECEIPT_LOADING,  /* a job reads them */
    RECEIPT_SEGMENTS, /* pieces[at] is looked for here, fetched, judged */
    RECEIPT_WHOLE,    /* waits for room, then until the group stands still */
    RECEIPT_INSTALLING,
};

enum piece_state {
    PIECE_UNKNOWN,
    PIECE_JUDGED_HERE, /* the own segment is being judged */
    PIECE_ADOPTING,    /* the front of it is being copied */
    PIECE_COMING,
    PIECE_JUDGED, /* what came is being judged */
    PIECE_MENDED, /* and being written over what is here */
    PIECE_THERE,
};

struct piece {
    struct segment_row row; /* of the picture */
    enum piece_state state;
    bool is_own;     /* it stands in its place already */
    bool is_own_bad; /* what stands there is of no use */
    bool is_mixed;   /* not all that is staged came from this sender */
    uint64_t staged_bytes;
};

/* What stood in the rows. Made by a job, handed over whole. */
struct snapshot_rows {
    struct meta_group group;
    struct members members;
    struct segment_row *segments; /* owned */
    uint32_t segments_count, segments_capacity;
    struct done_table *done;   /* owned */
    struct meta_epoch *epochs; /* owned */
    uint32_t epochs_count, epochs_capacity;
    struct state_table *table; /* owned; STATE */
};

struct receipt {
    UT_hash_handle hh; /* snapshots->receipts, by group */
    uint64_t group;
    struct snapshots *s;
    struct partition *partition;
    enum receipt_state state;
    bool is_over;    /* out of the table: freed with its last job */
    bool mends;      /* nothing is installed: damaged segments are written over with what they should be */
    uint64_t broker; /* 0: the link is down */
    uint64_t transfer, from;
    uint64_t index, index_term, rows_bytes; /* which picture */
    uint32_t rows_crc;
    int64_t log_start;               /* of the picture */
    uint64_t asked_bytes, got_bytes; /* of the part that is coming */
    uint32_t got_crc;                /* rows */
    struct snapshot_rows *rows;      /* owned; from RECEIPT_SEGMENTS on */
    struct piece *pieces;            /* owned; of the picture before, too, until the rows are read */
    uint32_t pieces_count, at;
    struct store_hold *own;      /* owned; segments that are here; NULL: none */
    struct store_check check;    /* lane */
    bool has_room;               /* whole: there was some for its rows */
    struct install_job *install; /* waits for another try; owned */
    uint64_t retry_us;
    uint64_t heard_us;
    uint32_t jobs;          /* all of them */
    uint32_t wants, writes; /* chunks asked for and not here; here and not written */
};

struct snapshots {
    struct broker *broker;
    struct snapshots_limits limits;
    struct send *sends; /* uthash */
    struct sends active;
    uint32_t sends_count, active_count;
    struct send_peer peers[PEERS_MAX];
    uint32_t peers_count;
    struct pictures pictures;
    uint32_t pictures_count;
    struct receipt *receipts; /* uthash */
    struct snapshot_jobs jobs;
    uint64_t next_id;           /* of files and transfers */
    uint64_t tick_us, sweep_us; /* UINT64_MAX: nothing to do */
    bool is_closing;            /* no more jobs */
};

/* snapshot.c */
void snapshots__submit(struct snapshots *s, struct snapshot_job *job);
void snapshots__wake(struct snapshots *s); /* there is something to look after */
/* Unlinks files on the lane, behind everything that was submitted; paths_count of SNAPSHOT_PATH_BYTES each, copied. */
void snapshots__unlink(struct snapshots *s, char (*paths)[SNAPSHOT_PATH_BYTES], uint32_t paths_count);
uint64_t snapshots__now_us(const struct snapshots *s);

/* snapshot_send.c */
void send__turn(struct snapshots *s);
void send__tick(struct snapshots *s, uint64_t now_us);
void send__sweep(struct snapshots *s, uint64_t now_us);
void send__on_message(struct snapshots *s, uint64_t broker, const PeerSnapshot *message);
void send__on_ask(struct snapshots *s, uint64_t broker, const PeerSnapshot *message);
void send__lane_down(struct snapshots *s, uint64_t broker);
void send__forget(struct snapshots *s, struct partition *p);
void send__free_all(struct snapshots *s);
uint64_t send__held_bytes(const struct snapshots *s);

/* snapshot_receive.c */
void receipt__turn(struct snapshots *s);
void receipt__sweep(struct snapshots *s, uint64_t now_us);
void receipt__on_message(struct snapshots *s, uint64_t broker, const PeerSnapshot *message, const uint8_t *payload,
                         uint32_t payload_size);
void receipt__lane_down(struct snapshots *s, uint64_t broker);
void receipt__forget(struct snapshots *s, const struct partition *p);
void receipt__free_all(struct snapshots *s);
void receipt__rows_path(const struct receipt *r, char path[SNAPSHOT_PATH_BYTES]);
void receipt__piece_path(const struct receipt *r, const struct piece *piece, char path[SNAPSHOT_PATH_BYTES]);
void receipt__say(struct receipt *r, enum peer_snapshot_kind kind, enum err status);
/* It ends here; why: for the sender, OK: nothing is said. */
void receipt__end(struct receipt *r, enum err why);
void receipt__job_ended(struct receipt *r); /* may free it */

/* snapshot_load.c (lane) */
enum err snapshot_load(struct disk *disk, const char *path, const struct receipt *r, enum registry_topic_kind kind,
                       struct snapshot_rows **ret_rows);
void snapshot_rows_free(struct snapshot_rows *rows); /* NULL is allowed */

/* snapshot_install.c */
void install__turn(struct receipt *r); /* of one that is whole, or waits for another try */
void install__free(struct install_job *job);

#endif
