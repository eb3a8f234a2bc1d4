/* The scrub's pace, and what is done about what it finds: see scrub.h. The three walks are store's, meta's and wal's;
 * one of them is under way at a time, and one piece of it. */
#include "broker/scrub.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/plant.h"
#include "broker/impl.h"
#include "meta/scrub.h"
#include "store/scrub.h"
#include "wal/scrub.h"

#define INTERVAL_US_MAX 1000000u
#define INTERVAL_US_MIN 1000u
#define YIELD_US        5000u
#define DAYS_OF_A_WEEK  8u /* eighths of the period; seven are for work */

enum scrub_part { SCRUB_SEGMENTS, SCRUB_ROWS, SCRUB_WAL, SCRUB_PARTS };

struct rows_job {
    struct disk_job job; /* first */
    struct scrub *scrub;
    struct meta_scrub_step step;
    bool save_identity; /* its row is bad */
    enum err error;
};

struct scrub {
    struct broker *broker;
    struct store_scrub *segments;
    struct wal_scrub *wal;
    struct rows_job rows;
    uint64_t rows_pieces, rows_pieces_last; /* of this round, of the one before */

    enum scrub_part part;
    bool is_busy;    /* a piece is under way */
    bool is_started; /* there is a next one */
    uint64_t period_us, interval_us;
    uint64_t pieces;     /* of this round, so far */
    uint64_t paced_us;   /* when the interval was last counted out */
    uint64_t round_us;   /* when the round began */
    uint64_t planned_us; /* when its next piece is to begin */
    uint64_t due_us;     /* the same, or when to look whether the lane is idle */
    int64_t finished_ms;
    uint64_t damaged; /* found in this round */
};

/* --- what is found --- */

static int32_t scrub__epoch_at(void *context, const struct segment_log *log, int64_t offset, int64_t *ret_end_offset)
{
    const struct partition *p = segment_log_owner(log);
    (void)context;
    return partition_epoch_at(p, offset, ret_end_offset);
}

static void scrub__count_damage(struct scrub *scrub)
{
    scrub->damaged++;
    scrub->broker->counters.scrub_damaged_total++;
}

static void scrub__segment_damaged(void *context, const struct segment_log *log, int64_t from_offset,
                                   int64_t end_offset)
{
    struct scrub *scrub = context;
    const struct partition *p = segment_log_owner(log);
    scrub->broker->has_found_damage = true;
    scrub__count_damage(scrub);
    trace_error(scrub->broker->trace, "scrub_segment_damaged",
                "topic=%s partition=%" PRIu32 " group=%" PRIu64 " from_offset=%" PRId64 " end_offset=%" PRId64,
                p->topic != NULL ? p->topic->row.name : "?", p->number, p->group, from_offset, end_offset);
}

static void scrub__wal_damaged(void *context, uint64_t from_lsn, uint64_t end_lsn)
{
    struct scrub *scrub = context;
    struct broker *b = scrub->broker;
    scrub__count_damage(scrub);
    trace_error(b->trace, "scrub_wal_damaged", "from_lsn=%" PRIu64 " end_lsn=%" PRIu64, from_lsn, end_lsn);
    b->doubted_lsn = end_lsn > b->doubted_lsn ? end_lsn : b->doubted_lsn;
    checkpoint_clear_below(b, end_lsn);
    for (struct partition *p = b->groups; p != NULL; p = p->hh.next) { /* any of them may have a record there */
        if (p->state == PARTITION_LIVE && p->repaired_lsn < b->doubted_lsn) {
            checkpoint_want(p);
        }
    }
}

/* A topic's row is in memory too. A leader is a hint that the next one replaces; the next free id and deleted marks are
 * in the store alone. */
static bool scrub__mend_registry(struct scrub *scrub, const struct meta_bad_row *row)
{
    return row->number == 't' && catalog_mend(scrub->broker->catalog, row->group);
}

static void scrub__row_damaged(struct scrub *scrub, const struct meta_bad_row *row)
{
    struct broker *b = scrub->broker;
    if (row->type == 'R') {
        bool is_mended = scrub__mend_registry(scrub, row);
        scrub__count_damage(scrub);
        trace_error(b->trace, "scrub_row_damaged", "type=R row=%c group=%" PRIu64 " mended=%d", (int)row->number,
                    row->group, (int)is_mended);
        return;
    }
    struct partition *p = groups_find(b, row->group);
    bool is_mended = row->type == 'B' || (p != NULL && p->state == PARTITION_LIVE);
    scrub__count_damage(scrub);
    trace_error(b->trace, "scrub_row_damaged", "type=%c group=%" PRIu64 " mended=%d", row->type, row->group,
                (int)is_mended);
    if (row->type == 'B') {
        scrub->rows.save_identity = true;
    } else if (is_mended) {
        p->rows_doubted = true;
        checkpoint_want(p);
    }
}

/* --- pieces --- */

static void scrub__piece_done(void *context, enum err error, uint32_t bytes)
{
    struct scrub *scrub = context;
    struct broker *b = scrub->broker;
    scrub->is_busy = false;
    b->counters.scrub_bytes_total += bytes;
    if (error != OK) { /* no memory, no handles: not so soon again */
        scrub->planned_us = clock_now_us(b->clock) + INTERVAL_US_MAX;
    }
    scrub->due_us = scrub->planned_us;
}

static void rows_job__run(struct disk_job *base)
{
    struct rows_job *job = (struct rows_job *)base;
    struct broker *b = job->scrub->broker;
    if (job->save_identity) {
        enum err error = meta_save_identity(b->kv, &b->identity);
        job->save_identity = error != OK; /* the next walk finds it again, too */
    }
    job->error = meta_scrub_step(b->kv, &job->step);
}

static void rows_job__done(struct disk_job *base)
{
    struct rows_job *job = (struct rows_job *)base;
    struct scrub *scrub = job->scrub;
    uint32_t bytes = job->error == OK ? job->step.bytes : 0;
    scrub->rows_pieces++;
    for (uint32_t i = 0; job->error == OK && i < job->step.bad_count; i++) {
        scrub__row_damaged(scrub, &job->step.bad[i]);
    }
    bool is_transient = job->error == ERR_NO_MEMORY;
    if (job->error != OK && !is_transient) { /* it cannot be walked: rows are mended by checkpoints, this is not */
        scrub__count_damage(scrub);
        trace_error(scrub->broker->trace, "scrub_store_damaged", "error=%s", err_name(job->error));
        job->step.is_over = true;
    }
    scrub__piece_done(scrub, is_transient ? ERR_BUSY : OK, bytes);
}

static enum err scrub__rows_piece(struct scrub *scrub)
{
    struct rows_job *job = &scrub->rows;
    if (job->step.is_over) {
        job->step.is_over = false;
        job->step.from_size = 0;
        scrub->rows_pieces_last = scrub->rows_pieces;
        scrub->rows_pieces = 0;
        return ERR_CLOSED;
    }
    job->job = (struct disk_job){.run = rows_job__run, .done = rows_job__done};
    scrub->broker->disk->ops->submit(scrub->broker->disk, DISK_LANE_STORE, &job->job);
    return OK;
}

static enum err scrub__piece(struct scrub *scrub)
{
    switch (scrub->part) {
    case SCRUB_SEGMENTS:
        return store_scrub_piece(scrub->segments);
    case SCRUB_ROWS:
        return scrub__rows_piece(scrub);
    case SCRUB_WAL:
        return wal_scrub_piece(scrub->wal);
    case SCRUB_PARTS:
        break;
    }
    return ERR_CLOSED;
}

/* --- pace --- */

/* So that what is left of the round fits into what is left of its time: a log that is being written to grows. */
static void scrub__pace(struct scrub *scrub, uint64_t now_us)
{
    const struct broker *b = scrub->broker;
    uint64_t pieces =
        store_scrub_pieces(b->store) + scrub->rows_pieces_last + wal_used_bytes(b->wal) / WAL_SCRUB_BYTES + SCRUB_PARTS;
    uint64_t left = pieces > scrub->pieces ? pieces - scrub->pieces : 1;
    uint64_t end_us = scrub->round_us + scrub->period_us / DAYS_OF_A_WEEK * (DAYS_OF_A_WEEK - 1);
    uint64_t interval_us = now_us < end_us ? (end_us - now_us) / left : INTERVAL_US_MIN;
    interval_us = interval_us > INTERVAL_US_MIN ? interval_us : INTERVAL_US_MIN;
    scrub->interval_us = interval_us < INTERVAL_US_MAX ? interval_us : INTERVAL_US_MAX;
    scrub->paced_us = now_us;
}

static void scrub__begin_round(struct scrub *scrub, uint64_t now_us)
{
    scrub->part = SCRUB_SEGMENTS;
    scrub->round_us = now_us;
    scrub->planned_us = now_us;
    scrub->pieces = 0;
    scrub->damaged = 0;
    scrub__pace(scrub, now_us);
}

static void scrub__end_round(struct scrub *scrub, uint64_t now_us)
{
    struct broker *b = scrub->broker;
    b->counters.scrub_rounds_total++;
    scrub->finished_ms = clock_wall_ms(b->clock);
    trace_debug(b->trace, "scrub_round", "seconds=%" PRIu64 " damaged=%" PRIu64, (now_us - scrub->round_us) / 1000000,
                scrub->damaged);
    uint64_t next_us = scrub->round_us + scrub->period_us;
    scrub__begin_round(scrub, next_us > now_us ? next_us : now_us + scrub->interval_us);
    scrub->due_us = scrub->planned_us;
}

void scrub_tick(struct scrub *scrub, uint64_t now_us)
{
    struct broker *b = scrub->broker;
    if (now_us < scrub_deadline_us(scrub)) {
        return;
    }
    bool lane_is_busy = store_is_busy(b->store) || checkpoint_is_busy(b);
    if (lane_is_busy && now_us < scrub->planned_us + scrub->interval_us) {
        scrub->due_us = now_us + YIELD_US;
        return;
    }
    enum err error = scrub__piece(scrub);
    while (error == ERR_CLOSED && scrub->part < SCRUB_PARTS) {
        scrub->part++;
        error = scrub__piece(scrub);
    }
    if (error == ERR_CLOSED) {
        scrub__end_round(scrub, now_us);
        return;
    }
    scrub->is_busy = true;
    scrub->pieces++;
    if (now_us >= scrub->paced_us + INTERVAL_US_MAX && !PLANT(71)) {
        scrub__pace(scrub, now_us);
    }
    scrub->planned_us += scrub->interval_us;
    if (scrub->planned_us + INTERVAL_US_MAX < now_us) { /* the process stood still: no burst to make up for it */
        scrub->planned_us = now_us;
    }
}

uint64_t scrub_deadline_us(const struct scrub *scrub)
{
    const struct broker *b = scrub->broker;
    return scrub->is_started && !scrub->is_busy && b->ready && !b->stopping ? scrub->due_us : UINT64_MAX;
}

void scrub_start(struct scrub *scrub)
{
    const struct broker *b = scrub->broker;
    if (b->config->scrub_period_ms <= 0) {
        return;
    }
    uint64_t now_us = clock_now_us(b->clock);
    scrub->period_us = (uint64_t)b->config->scrub_period_ms * 1000;
    scrub->is_started = true;
    scrub__begin_round(scrub, now_us);
    scrub->planned_us += scrub->interval_us; /* whoever waited for the start goes first */
    scrub->due_us = scrub->planned_us;
}

bool scrub_is_busy(const struct scrub *scrub)
{
    return scrub->is_busy;
}

int64_t scrub_finished_ms(const struct scrub *scrub)
{
    return scrub->finished_ms;
}

struct scrub *scrub_new(struct broker *b)
{
    struct scrub *scrub = mem_zeroed(1, sizeof *scrub);
    scrub->broker = b;
    scrub->rows.scrub = scrub;
    scrub->segments = store_scrub_new(&(struct store_scrub_options){.store = b->store,
                                                                    .context = scrub,
                                                                    .epoch_at = scrub__epoch_at,
                                                                    .on_damage = scrub__segment_damaged,
                                                                    .on_piece = scrub__piece_done});
    scrub->wal = wal_scrub_new(&(struct wal_scrub_options){.wal = b->wal,
                                                           .disk = b->disk,
                                                           .context = scrub,
                                                           .on_damage = scrub__wal_damaged,
                                                           .on_piece = scrub__piece_done});
    return scrub;
}

void scrub_free(struct scrub *scrub)
{
    if (scrub != NULL) {
        store_scrub_free(scrub->segments);
        wal_scrub_free(scrub->wal);
        free(scrub);
    }
}
