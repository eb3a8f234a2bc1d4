/* What the files of the judge share. Its checkers work on plain facts, so that a test can make them up:
 *
 *   judge.c        life, tables, the looks at brokers, the frames
 *   judge_ghost.c  the log of every group as it must be: histories (R3), what is committed (R4 R5 R7 R18 W1)
 *   judge_raft.c   one replica after a turn: R1 R2 R5 R6 R9 R12 R17
 *   judge_send.c   one row as it leaves, and who keeps quiet too long: R8 R9 R12 R13 R14 R15 R20 R21; Z1
 *   judge_disk.c   what is durable: images of all replicas: R10 R11 W2, and the answers for all others
 *   judge_state.c  the state machines: R5 R19 B11; stored pictures and segments: B12 */
#ifndef FLOTILLA_SIM_JUDGE_IMPL_H
#define FLOTILLA_SIM_JUDGE_IMPL_H

#include "base/map.h"
#include "judge.h"
#include "meta/meta.h"
#include "raft/raft.h"
#include "wal/wal.h"
#include "wire/peer.h"

#define JUDGE_REPLICAS_MAX 64u /* of a group, over a run */

/* --- the ghost --- */

/* An entry that was durable somewhere, with its history. */
struct ghost_entry {
    uint64_t term; /* 0: none */
    uint64_t prev_term;
    uint64_t hash;      /* of it and everything before it */
    uint32_t crc;       /* of its payload */
    uint32_t batch_crc; /* that its header says, DATA only; 0: none */
    uint8_t type;
    struct ghost_entry *other; /* owned: of the same index and another term */
};

struct ghost_item {
    struct ghost_entry first;
    uint64_t committed_term; /* of the entry that is committed here; 0: none */
    uint64_t committed_in;   /* the term of the leader that did */
    uint64_t state;          /* hash of a state machine that has applied up to here; 0: not known */
};

/* What was said in one term. */
struct judge_term {
    uint64_t leader;
    uint64_t votes[JUDGE_REPLICAS_MAX];  /* by place of the candidate: bit per place of who granted */
    uint64_t wishes[JUDGE_REPLICAS_MAX]; /* the same for pre-votes */
    uint64_t urged;                      /* bit per place: the leader of this term told it to campaign */
    uint64_t shown[JUDGE_REPLICAS_MAX];  /* by place: its leader's appends to that one, in its present life, end here */
};

/* --- images --- */

struct image_entry {
    uint64_t term, lsn;
};

/* What stands durable of one replica. */
struct image {
    uint64_t wal_term, wal_vote, wal_lsn; /* of the newest HARD_STATE record */
    struct meta_group picture;            /* as committed; group 0: none */
    struct image_entry *entries;          /* owned, by index */
    uint64_t capacity, last;
    bool is_born, is_dead;
    bool is_given_up;             /* its picture says that it is damaged: it has said so itself */
    bool is_healing;              /* and that its log is whole again, so far */
    bool is_repaired;             /* its log says that this is over, whatever its picture says */
    uint64_t cut_index, cut_term; /* the first entry that the last new TRUNCATE took away; 0: replaced since */
    uint64_t cut_from;            /* the lowest index that any has; 0: none, since everything was read */
};

/* --- replicas --- */

/* Requests for a vote that have come, of which answers may still wait for the log; and what all of them have to be. */
struct judge_ask {
    uint64_t at_us; /* the last one; 0: none came */
    bool is_pre;
    bool must_grant; /* there was no reason to refuse when they came */
};

struct judge_replica {
    uint64_t id, broker;
    uint32_t place;    /* in its group */
    uint64_t known_us; /* since when it has been seen; 0: never */
    struct image image;
    uint64_t ack_term, ack_index;         /* what it last acknowledged as a whole one, to the leader of that term */
    bool is_lost;                         /* its machine was wiped, or has lost bytes: see R20 */
    uint64_t lost_commit;                 /* what was committed then */
    uint64_t heard_rounds;                /* of reads: the highest one that it answered, */
    uint64_t heard_term;                  /* in this term */
    uint64_t sent_us[JUDGE_REPLICAS_MAX]; /* by place: when it last sent anything to that one */
    struct judge_ask asks[JUDGE_REPLICAS_MAX]; /* by place of who asks */
    uint64_t delivery;                         /* the last one that brought it anything */

    /* as last seen */
    bool was_seen; /* in this life */
    uint64_t term; /* the highest one ever */
    uint64_t commit, applied, last, last_term;
    enum raft_role role;
    uint64_t led_term; /* it leads in this term; 0: it does not */
    uint64_t config_index;
    struct raft_config config;
    uint64_t matches[JUDGE_REPLICAS_MAX];
    uint64_t round;
    bool was_damaged, was_quiet, accepted;
    bool is_ahead;        /* since it was seen so first, until a snapshot: it may forget that in another life */
    uint32_t installs;    /* of snapshots, in its present life */
    uint64_t looked_us;   /* when it was last looked at, */
    uint64_t write_id;    /* behind this write of its log or hard state */
    uint64_t excuse_us;   /* up to here nobody had to hear or be heard */
    uint64_t held_us;     /* its machine went on at this time after it had stood still */
    uint64_t refusing_us; /* since then it takes no entries, as a leader */
};

struct judge_group {
    uint64_t id;
    struct ghost_item *items; /* owned, by index */
    uint64_t items_capacity;
    uint64_t committed;
    struct judge_term *terms; /* owned, by term */
    uint64_t terms_capacity;
    uint64_t top_term; /* that anybody may have by now */
    int64_t told_end;  /* the highest high watermark of a leader */
    bool is_deleted;
    uint32_t replicas_count;
    struct judge_replica *replicas[JUDGE_REPLICAS_MAX]; /* owned, by place */
    struct acked_batch *batches;                        /* committed ones, by the CRC in their headers */
    struct judge_segment *segments;                     /* by range */
    UT_hash_handle hh;
};

/* A stored segment, or as much of one as some picture had. */
struct judge_segment {
    int64_t range[2]; /* base offset, end offset */
    uint64_t size_bytes;
    uint32_t chain;
    UT_hash_handle hh;
};

struct acked_batch {
    uint32_t crc;
    uint64_t index;
    UT_hash_handle hh;
};

/* Where a partition of a broker was found last time: most turns change nothing of most of them. */
struct judge_place {
    const struct partition *partition;
    struct judge_group *group;
    struct judge_replica *replica;
};

struct judge_machine {
    uint64_t id;
    struct sim_disk *disk;
    struct kv *kv;
    struct broker *broker; /* NULL: down */
    uint64_t commits;      /* of the store, as last read */
    uint64_t released_lsn; /* records below it are gone */
    uint64_t top_lsn;      /* of the records that are in the images */
    bool is_doubted, has_doubtful_segments;
    uint64_t applied_total;     /* the broker's own count, as last seen */
    uint64_t configs_proposed;  /* likewise */
    uint64_t turn_us;           /* the next one is to come by then, in the broker's time */
    uint64_t seen;              /* cores, when they were last looked at */
    uint64_t swept_us;          /* when all of its groups were last looked at */
    bool has_unborn;            /* groups without a core, which are seen as soon as they have one */
    bool was_held;              /* since then it stood still */
    struct judge_place *places; /* owned, in the order of the broker's groups */
    uint64_t places_capacity;
    uint64_t readings; /* of the store */
    uint64_t crashes;
    uint64_t delivered_us[JUDGE_BROKERS_MAX + 1];
    uint64_t asked_us[JUDGE_BROKERS_MAX + 1]; /* when a request for a vote last left for it, by sender; 0: never */
    uint64_t dropped_rows[JUDGE_BROKERS_MAX + 1];
    uint64_t dropped_us[JUDGE_BROKERS_MAX + 1];
};

struct judge_sight;

struct judge {
    struct sim_world *world;
    struct judge_group *groups; /* uthash, by id */
    struct judge_machine machines[JUDGE_BROKERS_MAX + 1];
    bool hears;          /* judge_delivered is used */
    bool replays;        /* judge_replays */
    uint64_t deliveries; /* so far */
    struct judge_watcher watcher;
    /* A test's brokers are made up; NULL: real ones are looked at. */
    bool (*look)(const struct judge_replica *r, struct judge_sight *ret_sight);
};

/* --- what a replica shows after a turn --- */

struct judge_sight {
    uint64_t group, replica, broker;
    enum raft_role role;
    uint64_t term, vote, leader, commit, applied, durable, last, last_term;
    bool is_fresh; /* it has written nothing since it was started */
    uint64_t config_index;
    const struct raft_config *config;
    bool accepts, is_quiet, is_damaged;
    bool is_installing;  /* a snapshot: the core is told when that is done, the disk may have it before */
    bool is_ahead;       /* it has dropped what its leaders have, by their word: its log begins further on */
    bool is_said;        /* no answer of its broker waits for the log */
    bool has_own_commit; /* leader: an entry of its own term is committed */
    uint64_t round;      /* of reads, confirmed */
    uint64_t told_round; /* of those, what its owner was told */
    uint64_t waits_for;  /* the round for which somebody waits; 0: nobody */
    int64_t end;         /* high watermark */
    uint32_t installs;   /* of snapshots, in its present life */
    uint32_t heartbeat_ms, election_ms;
    /* Questions; 0 or false: it does not know. */
    const void *context;
    uint64_t (*term_of)(const void *context, uint64_t index);
    bool (*payload)(const void *context, uint64_t index, uint32_t *ret_crc);
    bool (*peer)(const void *context, uint64_t replica, struct raft_peer_state *ret_state);
    uint64_t (*state)(const void *context); /* hash of the state machine; 0: not known just now */
};

/* What a row says, as far as a rule speaks of it; the fields of RaftRow. */
struct judge_row {
    uint32_t type, flags;
    uint64_t group, from, to, term, index, index_term, commit, round;
    uint64_t count; /* of entries */
};

/* --- judge.c --- */
struct judge_group *judge__group(struct judge *judge, uint64_t id);                 /* made when it is new */
struct judge_replica *judge__replica(const struct judge_group *group, uint64_t id); /* NULL: never heard of */
struct judge_replica *judge__replica_on(struct judge_group *group, uint64_t id, uint64_t broker);
struct judge_term *judge__term(struct judge_group *group, uint64_t term); /* NULL: one that nobody can have */
void judge__fail(struct judge *judge, enum sim_judge id, const struct judge_group *group, uint64_t replica,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));
static inline void judge__count(struct judge *judge, enum sim_judge id)
{
    world_judged(judge->world, id);
}
/* The replica as it is now; false: its broker is down, or has no core of it. */
bool judge__look(struct judge *judge, const struct judge_group *group, const struct judge_replica *r,
                 struct judge_sight *ret_sight);
/* One that is live here, whatever is on the disk. */
bool judge__is_damaged(struct judge *judge, const struct judge_group *group, const struct judge_replica *r);

/* Who would vote for a candidate in a term, as they said in answer to its pre-votes: for judge__is_quorum. */
struct judge_wishing {
    const struct judge_group *group;
    const struct judge_term *term;
    const struct judge_replica *candidate;
};
bool judge__would_vote(void *wishing, uint64_t replica);

/* --- configurations --- */
bool judge__is_voter(const struct raft_config *config, uint64_t replica); /* of either half */
/* Those for whom holds() is true are majorities of both halves. */
bool judge__is_quorum(const struct raft_config *config, bool (*holds)(void *context, uint64_t replica), void *context);
bool judge__config_equal(const struct raft_config *a, const struct raft_config *b);

/* --- judge_ghost.c --- */
void ghost__free(struct judge_group *group);
/* NULL: no such entry was ever durable. */
const struct ghost_entry *ghost__at(const struct judge_group *group, uint64_t index, uint64_t term);
uint64_t ghost__committed_term(const struct judge_group *group, uint64_t index); /* 0: not committed */
/* An entry became durable behind one of prev_term. */
void ghost__durable(struct judge *judge, struct judge_group *group, uint64_t replica, const struct wal_record *record,
                    uint64_t prev_term);
/* A leader, or a follower, says that its log is committed up to there. */
void ghost__commits(struct judge *judge, struct judge_group *group, const struct judge_sight *sight);
void ghost__elected(struct judge *judge, struct judge_group *group, const struct judge_sight *sight);

/* --- judge_raft.c, judge_send.c, judge_state.c --- */
void state__free(struct judge_group *group);
void raft__saw(struct judge *judge, struct judge_group *group, struct judge_replica *r,
               const struct judge_sight *sight);
/* What was lost, and known to be, it says to have again. */
void raft__mends(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                 const struct judge_sight *sight);
void send__row(struct judge *judge, struct judge_machine *from, const struct judge_row *row);
/* A row is about to be read by its broker; of a frame that came in the delivery that judge->deliveries counts. */
void send__comes(struct judge *judge, uint64_t to, const struct judge_row *row);
void send__saw(struct judge *judge, struct judge_group *group, struct judge_replica *r,
               const struct judge_sight *sight);
void state__saw(struct judge *judge, struct judge_group *group, struct judge_replica *r,
                const struct judge_sight *sight);
void state__read(struct judge *judge, struct judge_machine *machine, bool with_segments);

/* --- judge_disk.c --- */
void disk__fresh(struct judge *judge, struct judge_machine *machine); /* the store may have committed */
void disk__record(struct judge *judge, struct judge_machine *machine, const struct wal_record *record, uint64_t lsn);
void disk__picture(struct judge *judge, struct judge_machine *machine, const struct meta_group *picture);
void disk__reread(struct judge *judge, struct judge_machine *machine);
void disk__crashed(struct judge *judge, struct judge_machine *machine); /* and nothing was started yet */
void disk__forget(struct image *image);
uint64_t disk__term(const struct judge *judge, const struct judge_replica *r);
uint64_t disk__vote(const struct judge *judge, const struct judge_replica *r); /* of that term */
/* Its durable log reaches the index; and what stands there. */
void disk__mended(struct judge_replica *r, uint64_t last); /* it is whole again, with this log */
bool disk__is_sound(const struct judge_replica *r);        /* nothing of it is known or said to be missing */
bool disk__reaches(const struct judge *judge, const struct judge_replica *r, uint64_t index);
bool disk__holds(const struct judge *judge, const struct judge_group *group, const struct judge_replica *r,
                 uint64_t index, uint64_t term);

#endif
