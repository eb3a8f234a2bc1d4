/* Shared inside broker/ only: the broker itself and the small things its parts hand each other. Public: broker.h. */
#ifndef FLOTILLA_BROKER_IMPL_H
#define FLOTILLA_BROKER_IMPL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "broker/broker.h"
#include "broker/catalog.h"
#include "broker/counters.h"
#include "broker/log_clock.h"
#include "broker/partition.h"
#include "broker/peers.h"
#include "broker/pulse.h"
#include "broker/session.h"
#include "broker/snapshot.h"
#include "meta/meta.h"
#include "wal/wal.h"

/* A raft write on its way to the disk; ring in lsn order, so that PERSISTED is found from the front. */
struct persist_item {
    struct partition *partition; /* kept alive by writes_inflight */
    uint64_t write_id;
    uint64_t lsn;
};

TAILQ_HEAD(checkpoint_jobs, checkpoint_job);

enum stop_step { STOP_ANSWER, STOP_CHECKPOINT, STOP_TRIM, STOP_DONE };

#ifndef TAILQ_FOREACH_SAFE /* glibc's <sys/queue.h> lacks it */
#define TAILQ_FOREACH_SAFE(item, head, field, next)                                                                    \
    for ((item) = TAILQ_FIRST(head); (item) != NULL && ((next) = TAILQ_NEXT(item, field), 1); (item) = (next))
#endif

struct scrub;

struct broker {
    const struct config *config;
    struct disk *disk;
    struct clock *clock;
    struct kv *kv;
    const struct trace *trace;
    struct broker_options options;

    struct meta_identity identity;
    struct wal *wal;
    struct store *store;
    struct registry *registry, *own_registry; /* the latter: NULL if somebody else's is used */
    struct counters counters;
    struct log_clock log_clock;
    struct catalog *catalog;

    struct partition *groups; /* uthash, by group */
    struct partition_list dirty;
    TAILQ_HEAD(, dying) dying;                               /* groups.c: killed; their files or rows are still there */
    uint32_t dying_waiting;                                  /* of them: their rows could not be removed yet */
    bool removing_again;                                     /* those of one of these are being removed */
    uint64_t dying_due_us;                                   /* not before */
    uint64_t assign_due_us;                                  /* assign.h */
    uint64_t readings_wanted, readings_begun, readings_done; /* of the registry, by their numbers */
    bool is_reading;
    struct pulse pulse;
    struct quiet *quiet;
    uint64_t yield_due_us; /* yield.h */
    bool has_found_damage; /* the scrub has, in this life: records that are not served */
    uint64_t kept_bytes;   /* of all windows: applied entries that followers may lack */
    struct peers *peers;
    struct router *router;
    struct snapshots *snapshots; /* NULL until recovery is through */
    struct order deadlines;      /* of partitions, by monotonic time: age.h */
    struct order live;           /* partitions that need WAL records, by the oldest of them */
    struct partition_list checkpoint_queue;

    struct persist_item *persists; /* ring */
    uint32_t persists_capacity, persists_head, persists_count;

    /* checkpoint jobs */
    struct checkpoint_job *checkpoint; /* on the lane, or NULL */
    struct checkpoint_jobs checkpoints_delayed;
    uint32_t delayed_count, delayed_full_count; /* pictures that wait; those for room */
    uint32_t retried_count, retried_full_count; /* of them, on the lane again */
    uint64_t probe_us;                          /* the checkpoint store is not asked for room before */
    STAILQ_HEAD(, grave) graves;                /* forget.h */
    bool forgetting;
    bool abandoning; /* a group that is given up is being marked */
    uint64_t abandon_due_us;
    struct heal_job *heal; /* heal.h: rows are being written; owned by the lane */
    bool heals_waiting;    /* some partitions are heal_due */
    uint64_t heal_due_us;  /* not before; 0: at any time */
    uint64_t heal_ask_us;  /* followers look for damaged records */
    struct scrub *scrub;
    uint64_t doubted_lsn; /* the scrub found rot in the WAL below it; 0: none */

    /* sessions and memory */
    struct session_list sessions;
    struct session_list waits[SESSION_WAITS]; /* those that are not read, by why */
    struct session_list watched;              /* patience.h */
    uint64_t patience_due_us;                 /* next sweep, while somebody is watched */
    uint32_t sessions_count;
    uint32_t requests_count; /* under way */
    uint64_t turn;           /* counts shares of work: see session_resume_all */
    uint32_t turn_requests;  /* handled in it */
    struct receive receive;
    struct buf_meter *replies;         /* rows of Metadata replies */
    uint64_t send_bytes;               /* replies that clients have not taken */
    uint64_t inflight_bytes;           /* produce bytes not yet answered */
    struct produce_list produce_free;  /* recycled request objects */
    struct produce_deadlines produces; /* all under way, by arrival */
    TAILQ_HEAD(, init_request) inits;  /* requests for producer ids under way */
    uint32_t inits_late;               /* such that were answered at their deadline, and are not decided yet */
    uint32_t producers_next;           /* partition for the next anonymous producer */
    struct partition_list room_queue;  /* whose produce requests wait for the log's next spare file */
    struct partition *room_turn;       /* the one of them that is being served */
    uint64_t sweep_due_us;
    struct fetch_list fetch_free;
    struct fetch_read_list read_free;
    uint32_t fetch_free_count, read_free_count;
    struct fetch_list fetch_waiting; /* by arrival; deadlines are looked at in the sweep */
    uint64_t fetch_due_us;           /* earliest deadline of a waiting fetch */
    uint32_t jobs_inflight;          /* of partitions that are gone from groups */

    struct {
        bool set;
        char host[256];
        uint16_t port;
    } advertised[CLIENT_LISTENERS_MAX];

    bool disk_is_full;          /* as last noted */
    bool segments_are_full;     /* and its batches wait for room */
    bool disk_full_said;        /* and not taken back */
    uint64_t disk_full_said_us; /* when; 0: never */

    bool ready;
    bool stopping;
    enum stop_step stop_step;
    bool failed;
    uint64_t stop_due_us;
    uint64_t next_timer_us;
    uint32_t dead_count; /* partitions in state DEAD not freed yet */
};

/* groups.c: what all groups share */
#define ANEW_WRITE_ID (UINT64_MAX - 2) /* of groups_persist_add: what was written again at the head */
void groups_persist_add(struct broker *b, struct partition *p, uint64_t write_id, uint64_t lsn);
void groups_on_persisted(void *context, uint64_t lsn_end);
struct partition *groups_find(struct broker *b, uint64_t group);
enum err groups_missing(const struct broker *b,
                        uint64_t group); /* not found: UNKNOWN_PARTITION, or CORRUPT if a topic has it */
/* Says in the log that it is dead; files and rows go, on the store lane, as soon as that is durable. The record stays
 * until they are gone. */
void groups_remove_data(struct partition *p);
void groups_log_deaths_anew(struct broker *b, uint64_t lsn);  /* such records below lsn move to the log's head */
bool groups_is_dying(const struct broker *b, uint64_t group); /* files or rows of a killed replica are still there */
void groups_turn(struct broker *b); /* rows of dead groups that could not be removed are tried again */
uint64_t groups_deadline_us(const struct broker *b);
void groups_free(struct broker *b);
void groups_reap(struct partition *p);              /* frees a dead partition that nothing refers to any more */
uint64_t groups_pinned_lsn(const struct broker *b); /* no group needs a record below it */

/* checkpoint.c */
void checkpoint_want(struct partition *p);
void checkpoint_turn(
    struct broker *b); /* starts a job if groups want one and none runs; asks more groups when the WAL is full */
/* Makes what groups have in the WAL below lsn needless: a checkpoint, or it is written again at the head. */
void checkpoint_clear_below(struct broker *b, uint64_t lsn);
uint64_t checkpoint_reappend_max(const struct broker *b); /* bytes of a group's entries that are written again */
uint64_t checkpoint_deadline_us(const struct broker *b);
void checkpoint_release(struct broker *b); /* WAL files that no group needs become spares */
bool checkpoint_is_busy(const struct broker *b);
bool checkpoint_disk_full(const struct broker *b);  /* pictures, or the checkpoint store itself, wait for room */
void checkpoint_hurry(struct broker *b);            /* the delayed ones are tried again at once */
bool checkpoint_is_delayed(const struct broker *b); /* some groups' pictures could not be saved when last tried */
void checkpoint_free(struct broker *b);

/* abandon.c */
void abandon_turn(struct broker *b); /* no checkpoint is under way: looks for a group that the others must do without */

/* recovery.c */
enum err recovery_run(struct broker *b);
/* The mark of a damaged group: what the checkpoint store is to say of it if it knows nothing else; and putting it
 * there.
 */
void recovery_describe_mark(const struct partition *p, struct meta_group *ret_mark);
enum err recovery_put_mark(struct kv *kv, struct kv_txn *txn, const struct meta_group *mark);
void recovery_settle(struct partition *p); /* before a picture is taken: is what a repair kept applied by now? */

/* broker.c */
void broker__fail(struct broker *b, enum broker_exit code, const char *why);
bool broker__has_room(const struct broker *b); /* false: connections are not read until something got done */
bool broker__wal_full(const struct broker *b);
bool broker__disk_full(const struct broker *b); /* refuse what makes the WAL grow; ends by itself */
/* What to refuse it with: STORAGE_FULL, BUSY (the WAL waits for a descriptor or memory); OK: nothing is refused. */
enum err broker__refusal(const struct broker *b);
uint64_t broker__random_id(struct broker *b);

#endif
