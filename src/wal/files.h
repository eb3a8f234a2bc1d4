/* The files of the log: which ones hold records, which ones are spare, and the chores that keep spares at hand.
 *
 * A file is *live* from the job that writes its header until its records are released, then *spare*. A spare is
 * *ready* when all its blocks have been written once (overwriting is 1.6 x to 4 x faster than growing, measured);
 * files shorter than file_bytes are filled up with zeros in pieces on DISK_LANE_STORE, ahead of the writer. A roll
 * that finds no ready spare grows a file rather than wait.
 *
 * A spare is *secured* when all its blocks are set aside, filled or not: a full disk cannot take them away. Some
 * secured spares are the *reserve*: WAL_RESERVE_BYTES or an eighth of the budget, at least one file. One more is there
 * for the next roll. Those of the start are secured before it is over, at the price of a call each; while the log runs,
 * securing goes ahead of filling. Loop thread only, except what chore.run does to its own copy. */
#ifndef FLOTILLA_WAL_FILES_H
#define FLOTILLA_WAL_FILES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "wal/format.h"

#define WAL__PATH_BYTES_MAX 256

struct wal__file {
    TAILQ_ENTRY(wal__file) link;
    uint32_t slot;
    struct wal__file_header header; /* all 0: never used */
    uint64_t end_lsn;               /* live, and not the last: the base of the next one */
    uint64_t size_bytes;            /* on disk */
    bool reserved;                  /* blocks for file_bytes are set aside */
    bool trimmed;                   /* live: what stood behind its end was given back */
};

TAILQ_HEAD(wal__file_list, wal__file);

struct wal__chore;
struct wal;

struct wal__files {
    struct disk *disk;
    const struct trace *trace;
    char *dir;
    uint64_t file_bytes;
    uint64_t budget_bytes;
    struct wal__file_list live;    /* by base lsn; the last one is written to */
    uint64_t live_bytes;           /* of these: wal__files_used_bytes */
    struct wal__file_list ready;   /* spares; longest unused first */
    struct wal__file_list partial; /* spares shorter than file_bytes */
    uint64_t spare_bytes;          /* of the ready and the partial ones */
    uint32_t ready_count;
    uint32_t partial_secured_count; /* of the partial ones */
    uint32_t reserve_count;         /* spares that only what must go on may take */
    uint32_t spares_min;            /* kept secured, and made ready: the reserve and one more */
    uint32_t slot_next;
    struct wal__file *lost; /* found by scan, else NULL: a spare whose beginning is gone, with a batch at lost_lsn */
    uint64_t lost_lsn;
    uint64_t start_lsn;         /* where the log begins */
    uint64_t durable_start_lsn; /* the same, as said by a durable batch of this boot; 0: none yet */
    bool disk_full;             /* the last try to secure or fill a spare found no room */
    enum err chore_error;       /* of the last chore: each change is traced once */
    uint64_t retry_us;          /* after a failed chore: not before; 0: none failed */
    struct wal__chore *chore;   /* under way, or NULL */
};

/* Reads the headers of all files in the directory and sorts them into live, ready and partial. A missing directory is
 * an empty log. ERR_IO, ERR_VERSION, ERR_NO_MEMORY ...: files are to be freed all the same. */
enum err wal__files_scan(struct wal__files *files, struct disk *disk, const char *dir, const struct trace *trace,
                         uint64_t file_bytes, uint64_t budget_bytes);

const struct wal__files *wal__files_of(const struct wal *wal);

/* Lets go of the memory. A chore under way ends by itself and touches nothing of `files` any more. */
void wal__files_free(struct wal__files *files);

#define WAL__NAME_BYTES_MAX 16

/* "00000007.wal" */
void wal__files_name(uint32_t slot, char name[WAL__NAME_BYTES_MAX]);
void wal__files_path(const struct wal__files *files, uint32_t slot, char path[WAL__PATH_BYTES_MAX]);

/* A file with a number of its own and nothing on the disk; in no list. Never NULL. */
struct wal__file *wal__files_new(struct wal__files *files);

/* Spares whose blocks are set aside. */
uint32_t wal__files_secured(const struct wal__files *files);

/* Of a file: no full disk can take the blocks below it away. */
uint64_t wal__file_secured_bytes(const struct wal__files *files, const struct wal__file *file);

/* At the start, blocking, no job under way: secures `current`, the file written to, and spares_min spares. Without room
 * it first cuts what the other live files hold behind their ends: that is how any number of starts finds room on a
 * full disk. If that is not enough either, disk_full says so. */
enum err wal__files_secure(struct wal__files *files, struct wal__file *current);

/* The cutting alone (current may be NULL); true if there was anything to cut. */
bool wal__files_trim(struct wal__files *files, const struct wal__file *current);

/* A spare to write to: ready, else short (secured ones first), else new. Never NULL; taken out of the lists. */
struct wal__file *wal__files_take(struct wal__files *files);

/* Appends a taken file to the live ones; the header says where it begins, which is where the one before it ends. */
void wal__files_enlist(struct wal__files *files, struct wal__file *file, const struct wal__file_header *header);

/* Out of the live ones; and a live one that is longer or shorter now. */
void wal__files_remove_live(struct wal__files *files, struct wal__file *file);
void wal__files_resize_live(struct wal__files *files, struct wal__file *file, uint64_t size_bytes);

/* Into and out of the list that its length says; length and `reserved` do not change in between. */
void wal__files_add_spare(struct wal__files *files, struct wal__file *file);
void wal__files_drop_spare(struct wal__files *files, struct wal__file *file);

/* The live files that end at or below lsn, except the last, become spares. */
void wal__files_release(struct wal__files *files, uint64_t lsn);

uint64_t wal__files_used_bytes(const struct wal__files *files); /* lengths of the live files, together */

/* Starts a chore if one is due: secure a spare, fill one, or remove one beyond the budget. Cheap when there is nothing
 * to do; called every loop turn. */
void wal__files_tend(struct wal__files *files, uint64_t now_us);

/* When tend wants to be called although nothing else happens (a failed chore is tried again); UINT64_MAX = never. */
uint64_t wal__files_deadline_us(const struct wal__files *files);

#endif
