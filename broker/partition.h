/* One replica of one group: a Raft core, its window of log entries, and the state machine that committed entries drive.
 *
 *   produce --> pending --> judge (CDM + CSM) --> SUBMIT --> raft update --> WAL record --> PERSISTED
 *                                                                                 --> commit --> apply --> segment,
 * CDM, waiters
 *
 * The window holds the entries that the WAL has (or is getting) and the state machine has not applied, and for a while
 * applied ones that followers may lack; entries are addressed by index. apply moves the applied index by exactly one.
 * Everything here runs on the loop thread, at the end of the turn (partition_turn), so that all work of one turn shares
 * one WAL batch. */
#ifndef FLOTILLA_BROKER_PARTITION_H
#define FLOTILLA_BROKER_PARTITION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/batch.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/order.h"
#include "base/wheel.h"
#include "broker/confirm.h"
#include "broker/entry.h"
#include "broker/roster.h"
#include "meta/done.h"
#include "meta/meta.h"
#include "port/registry.h"
#include "raft/raft.h"
#include "store/store.h"
#include "wal/wal.h"

struct broker;
struct topic;
struct state_table;
struct fetch;
struct produce;
struct router_entries;

enum partition_state {
    PARTITION_BIRTH = 1, /* GROUP_NEW is not durable yet */
    PARTITION_LIVE = 2,
    PARTITION_DAMAGED = 3, /* clients get CORRUPT */
    PARTITION_DEAD = 4,    /* deleted; freed when nothing refers to it any more */
    PARTITION_PARTLY = 5,  /* told to clients, never the state itself: live, with ranges that a scrub found damaged */
};

/* How a proposal ended. */
struct outcome {
    enum err error;
    int64_t offset; /* DATA */
    bool duplicate;
    int64_t producer_id; /* OPS of __producers */
    int32_t producer_epoch;
};

/* Somebody who waits for an entry. complete is called exactly once, on the loop thread, and may free the waiter. */
struct waiter {
    struct waiter *next;
    void (*complete)(struct waiter *waiter, const struct outcome *outcome);
};

struct window_entry {
    uint64_t term;
    uint64_t lsn;
    struct slice payload;
    struct waiter *waiters;
    uint8_t type;
};

/* Entries [first_index, first_index + count), a ring of a power of two. */
struct window {
    struct window_entry *ring; /* owned */
    uint32_t capacity;
    uint32_t count;
    uint64_t first_index;
    uint64_t bytes; /* of payload held */
};

TAILQ_HEAD(partition_list, partition);
TAILQ_HEAD(fetch_list, fetch);
TAILQ_HEAD(fetch_read_list, fetch_read);
STAILQ_HEAD(produce_list, produce);

struct partition {
    UT_hash_handle hh; /* broker->groups, by group */
    struct broker *broker;
    uint64_t group, replica;
    uint32_t number;     /* within its topic */
    struct topic *topic; /* borrowed; NULL until the registry names it */
    enum partition_state state;
    bool is_unborn; /* GROUP_NEW is not durable yet */
    enum registry_topic_kind kind;

    struct raft *raft;
    struct window window;
    uint64_t kept_bytes;                   /* of the window's entries that are applied: followers may lack them */
    uint64_t last_lsn;                     /* of the last record that a raft write gave to the WAL */
    const struct router_entries *incoming; /* with the message that is being stepped; NULL: none */
    uint64_t logged_lsn;                   /* of the last record that anybody gave to it for this group */
    uint32_t installs;                     /* of snapshots, in this life */
    uint32_t sends_count;                  /* transfers of its picture: snapshot.h */
    bool installing; /* a snapshot is about to take the place of all this: only time and durability reach the core */
    bool is_ahead;   /* its log begins further on than what it has applied says: snapshot.h */
    struct wheel_item pulse; /* pulse.h: when its core is ticked */
    struct roster roster;
    bool leave_due;      /* leader: its joint configuration is committed, and to be ended as soon as there is room */
    uint64_t yielded_us; /* when it last gave its leadership away for being no good, 0: never */
    bool is_removed; /* a configuration without this replica is committed, where the one before it had it; in this life
                        only: who starts again later is told by others */

    /* state machine */
    uint64_t applied_index, applied_term;
    int64_t log_clock_ms, idle_clock_ms; /* age.h */
    struct entry_config config;
    struct done_table *done;
    struct submitted_table *submitted;
    struct segment_log *log;   /* DATA */
    struct state_table *table; /* STATE */
    struct meta_epoch *epochs; /* owned; terms that got data or a leader, ascending */
    uint32_t epochs_count, epochs_capacity, epochs_saved;

    /* leader */
    bool leader_ready; /* own LEADER entry applied: judging and serving are allowed */
    /* quiet.h */
    uint64_t idle_index, idle_since_ms; /* leader: nothing was to be done since then */
    uint64_t quiet_places, quiet_hash;  /* the accounts that it is in, and what it is there */
    uint64_t wake_ms;                   /* it is to wake then; 0: not by itself */
    bool quiet_led, is_quiet;           /* as last noted */
    uint8_t woken_by;                   /* enum quiet_why, of when it wakes */
    /* assign.c */
    uint64_t gave_way_term; /* the last one in which it tried to give its leadership away */
    uint64_t reading;       /* of the registry, that its leadership needs before it follows a wish */
    bool log_start_in_flight;
    bool traffic;               /* data applied since the last TIMEOUT entry */
    bool clock_moved;           /* TIMEOUT or LEADER applied: the next deadline is to be found */
    uint64_t clock_proposed_us; /* when the last of them was proposed */
    uint64_t idle_since_us;     /* up to here the idle clock was counted */
    struct order_item deadline; /* in broker->deadlines */

    /* work */
    struct produce_list pending;  /* arrived, not judged yet */
    struct fetch_list fetches;    /* waiting at the end */
    struct confirm_list confirms; /* who asks whether we still lead */
    bool dirty;
    TAILQ_ENTRY(partition) dirty_link;

    /* WAL and checkpoint bookkeeping */
    uint32_t writes_inflight; /* raft writes not yet durable; keeps a dead partition alive */
    uint32_t jobs_inflight;   /* reads and checkpoints under way */
    uint64_t live_lsn;        /* oldest record still needed, UINT64_MAX: none; set by partition__set_live_lsn */
    struct order_item live;   /* in broker->live, by live_lsn */
    uint64_t live_lsn_since;  /* the same for records since the picture of a running checkpoint */
    uint64_t anew_lsn;        /* of the last record that was written again at the log's head; 0: none in this life */
    bool checkpointing;
    bool waits_for_room; /* in the broker's room_queue */
    TAILQ_ENTRY(partition) room_link;
    bool checkpoint_wanted;
    bool rows_doubted;       /* a scrub found bad rows of this group: the next checkpoint writes all of them anew */
    bool checkpoint_delayed; /* its picture waits to be tried again: no newer one may be taken */
    bool damage_saved;       /* the checkpoint store says that this group is damaged */
    bool is_withheld; /* damaged in this life only: what is wrong may pass, and all it has in the WAL must stay */
    bool has_picture; /* a row of this group is durable in the checkpoint store: it can do without GROUP_NEW */
    bool is_over;     /* at start: its log says that it has ended, and what else is there is of no interest */
    /* heal.h */
    bool healing;        /* the core is to know, or knows, that it is damaged: clients get CORRUPT */
    bool was_healing;    /* the row says so */
    bool is_blank;       /* nothing of the rows or of the log before this life is used; no picture is durable since */
    bool heal_due;       /* DAMAGED, and waits until what is left stands at heal_lsn, and the row says so */
    bool noop_due;       /* leader: a damaged replica waits for an entry */
    bool repair_due;     /* the core is whole as soon as REPAIRED is durable */
    bool repair_logged;  /* that is on its way */
    bool repair_unsaved; /* it is whole, and only the log says so */
    uint64_t heal_lsn;
    TAILQ_ENTRY(partition) checkpoint_link;
    uint64_t bytes_since_checkpoint, entries_since_checkpoint;
    uint64_t checkpoint_index;                                      /* applied index of the last durable checkpoint */
    int64_t checkpoint_end;                                         /* and the offset behind its records */
    uint64_t snapshot_lsn, repaired_lsn, accepted_lsn, damaged_lsn; /* struct meta_group */
    uint64_t accepted_index;               /* the last entry that the repair of accepted_lsn kept */
    uint64_t unjoined_index, unjoined_lsn; /* replay: highest entry that did not join what stood before it, 0: none */
    uint64_t told_index;                   /* replay: the applied index that a durable checkpoint had */
    uint64_t term_saved, vote_saved;       /* hard state as last given to the WAL */
};

/* --- window --- */
void window_push(struct window *window, const struct window_entry *entry); /* takes over the payload reference */
struct window_entry *window_at(struct window *window, uint64_t index);     /* a bug if it is not there */
void window_pop_front(struct window *window);                              /* drops the payload; waiters must be gone */
void window_truncate(struct window *window, uint64_t from_index,
                     const struct outcome *outcome); /* completes the waiters cut off */
void window_free(struct window *window);
static inline uint64_t window_last(const struct window *window)
{
    return window->first_index + window->count - 1; /* first_index - 1 when empty */
}

/* --- life --- */
/* A partition in state BIRTH with an empty log and state machine; registered in broker->groups. */
struct partition *partition_new(struct broker *broker, uint64_t group, uint64_t replica,
                                const struct entry_birth *birth);
/* Opens the segment log of a DATA partition from manifest rows (none: a new one). Blocking when there are rows. */
enum err partition_open_log(struct partition *p, const struct segment_row *rows, uint32_t rows_count, int64_t log_start,
                            int64_t next_offset);
/* The same, at any time, over files that were just put there: store/snapshot.h. */
enum err partition_open_placed_log(struct partition *p, const struct segment_row *rows, uint32_t rows_count,
                                   int64_t log_start, int64_t next_offset);
/* Opens the raft core over the recovered window; state becomes LIVE unless DAMAGED. */
void partition_start(struct partition *p);
/* Ends it: waiters and fetches are answered with `error`, files and rows go when nothing holds them. */
void partition_kill(struct partition *p, enum err error);
void partition_free(struct partition *p); /* closing down: everything at once */

/* --- work, from api and groups --- */
void partition_mark_dirty(struct partition *p);
void partition_turn(struct partition *p); /* judge pending produces, drain raft, apply */
void partition_persisted(struct partition *p, uint64_t write_id);
/* A message of another replica, with the entries that came along; what the core wants is carried out at once. */
void partition_receive(struct partition *p, const struct raft_message *m, const struct router_entries *entries);
void partition_tick(struct partition *p, uint64_t now_ms);
bool partition_leads(const struct partition *p); /* leader, own LEADER entry applied, not damaged */
/* The broker that leads the group in the newest term that is known here; 0: none is known. A hint: it may have been
 * deposed since. Every reply about a partition that is here carries it, whatever its status. */
uint64_t partition_leader(const struct partition *p);
/* Leader: the brokers of those voters that are in sync, as it knows, by replica; returns how many. It is itself, and
 * who answers, has lost nothing, waits for no snapshot, and lacks RAFT_LAG_ENTRIES_MAX entries at most: who might lead
 * next. Nobody else can know, so of a replica that does not lead there are 0. */
uint32_t partition_in_sync(const struct partition *p, uint64_t ret_brokers[RAFT_VOTERS_MAX]);
enum err partition_status(const struct partition *p); /* OK or why it cannot serve: NOT_LEADER, NOT_READY, CORRUPT */
/* OK or why nothing may be proposed: as partition_status says, and NOT_READY while the leadership is given away. */
enum err partition_may_propose(const struct partition *p);
/* Proposes one entry; only if that is OK (the LEADER entry is proposed before). Takes over the payload reference.
 * Returns its index. */
uint64_t partition_propose(struct partition *p, enum entry_type type, struct slice payload, struct waiter *waiter);
/* Leader: goes over to this plain configuration, by way of a joint one if voters change; the second step is made here
 * when the first one is committed, whoever leads by then. OK: begun, or it is that already; the roster and the entries
 * that are applied say when it is done. NOT_LEADER; NOT_READY: nothing of the own term is committed yet; BUSY: another
 * change, or a transfer, is under way, or the log holds many configurations until the checkpoint that was asked for;
 * AGAIN: a learner that is to vote lacks too much; INVALID: not plain, not sane, too many; CORRUPT. */
enum err partition_change(struct partition *p, const struct members *next);
/* Leader: gives the leadership to this replica; what comes of it shows within an election timeout. NOT_LEADER; BUSY: it
 * is no voter, or is damaged, full or too far behind, or one is under way. */
enum err partition_transfer(struct partition *p, uint64_t replica);
enum partition_state partition_told_state(const struct partition *p);
/* The term that owns an offset, the last one that began at or below it; and where the next one begins. */
int32_t partition_epoch_at(const struct partition *p, int64_t offset, int64_t *ret_end_offset);
int64_t partition_high_watermark(const struct partition *p);
int64_t partition_log_start(const struct partition *p);

/* From now on it is damaged: everybody who waits is told CORRUPT, nothing stays in memory, its files stay as they are.
 * No checkpoint may be on the lane. What it pins of the WAL it pins until damage_saved. */
void partition_give_up(struct partition *p);

/* Gives a record of this group to the WAL; returns its lsn. */
uint64_t partition__log(struct partition *p, const struct wal_record *record);
void partition__set_live_lsn(struct partition *p, uint64_t lsn);
/* The lsn of the oldest entry that is not applied; UINT64_MAX: all are. */
uint64_t partition__unapplied_lsn(struct partition *p);
/* Drops applied entries that no follower lacks, or that take too much memory to wait for one, and configurations that
 * nobody asks for any more. */
void partition__trim(struct partition *p);
/* Writes hard state and unapplied entries again at the head of the WAL, so that older files can go. When that is
 * durable a checkpoint is asked for, which says so: what rots of the older ones is no damage then. */
void partition__reappend(struct partition *p);

/* change.c */
/* The log now holds this configuration at index, or some were cut off it: who is in the group has changed. */
void partition__take_config(struct partition *p, uint64_t index, struct slice payload);
void partition__members_changed(struct partition *p);
void partition__end_joint(struct partition *p); /* if that is due, and there is room */
enum err partition__apply_config(struct partition *p, uint64_t index, struct slice payload);

/* apply.c */
void partition__apply(struct partition *p, uint64_t commit_index);

#endif
