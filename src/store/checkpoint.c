/* A log's part of a checkpoint: what the manifest says is taken on the loop thread, made true on the lane, and acted on
 * when it is durable.
 *
 * The order is: create, sync the directory, sync the file, checkpoint store, and only then may a file that no manifest
 * names any more be reused. A renamed spare makes two directories dirty, and both are synced before
 * a manifest names the file: otherwise a power cut could leave one file under both names. */
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "base/plant.h"
#include "store/impl.h"

#include <stdlib.h>
#include <string.h>

#define TAIL_TRIES_MAX 12u

struct checkpoint_state {
    struct segment *active; /* pinned; NULL: no rows */
    uint64_t drops;         /* segments dropped up to here are not in the rows */
    uint32_t tail_crc;      /* of its last, partial block */
    bool is_tail_known;
    uint32_t tail_tries; /* that did not bring the bytes of tail_crc */
    bool is_one_of_many; /* many checkpoints under way: one syncfs is cheaper than a sync per file */
    uint8_t tail[STORE_BLOCK_BYTES];
};

struct store_checkpoint *store_checkpoint_new(struct segment_log *log)
{
    struct store *store = log->store;
    struct store_checkpoint *checkpoint = mem_zeroed(1, sizeof *checkpoint);
    struct checkpoint_state *state = mem_zeroed(1, sizeof *state);
    ASSERT(!log->is_dead);
    if (log->is_stalled) { /* the moment to try again */
        store__unstall(log);
        store__enqueue(log);
    }
    if (log->is_queued) {
        store__submit_writes(store, true);
    }
    checkpoint->log = log;
    checkpoint->log_start = log->start_offset;
    checkpoint->next_offset = log->next_offset;
    checkpoint->rows = mem_zeroed(log->segments_count + 1, sizeof checkpoint->rows[0]);
    for (uint32_t i = 0; i < log->segments_count; i++) {
        const struct segment *segment = log->segments[i];
        checkpoint->rows[i] = (struct segment_row){
            .base_offset = segment->base_offset,
            .end_offset = segment->end_offset,
            .size_bytes = segment->size_bytes,
            .generation = segment->generation,
            .chain = segment->chain,
            .max_timestamp = segment->max_timestamp,
            .created_clock_ms = segment->created_clock_ms,
            .newest_ms = segment->newest_ms,
            .tail = state->tail,
        };
    }
    checkpoint->rows_count = log->segments_count;
    checkpoint->state = state;
    state->active = log->active;
    state->drops = log->drops;
    state->is_one_of_many = store->checkpoints_count++ >= STORE_SYNC_FILES_MAX;
    if (state->active != NULL) {
        state->active->pins++;
        state->tail_crc = state->active->tail_crc;
        state->is_tail_known = state->active->is_tail_known;
    }
    log->holds++;
    return checkpoint;
}

/* --- lane --- */

static enum err files__sync_all(struct files *files)
{
    if (files->sync_error == OK) {
        files->sync_error = files->disk->ops->sync_all(files->disk);
    }
    if (files->sync_error == OK) {
        files->epoch++;
    }
    return files->sync_error;
}

static enum err checkpoint__sync_files(struct files *files, struct log_lane *lane, bool is_one_of_many)
{
    while (!TAILQ_EMPTY(&lane->dirty)) {
        struct segment *segment = TAILQ_FIRST(&lane->dirty);
        if (segment->file.dirty_epoch == files->epoch && !PLANT(15)) {
            enum err error = is_one_of_many || segment->file.handle == NULL
                                 ? files__sync_all(files)
                                 : files->disk->ops->sync(files->disk, segment->file.handle);
            if (error != OK) {
                return error;
            }
        }
        TAILQ_REMOVE(&lane->dirty, segment, file.dirty_link);
        segment->file.is_in_dirty = false;
    }
    return OK;
}

static enum err checkpoint__sync_names(struct files *files, struct segment_log *log)
{
    char path[STORE_PATH_BYTES];
    struct disk *disk = files->disk;
    /* The spares first: a file may have come here and left again since, and this directory knows both, in their order.
     */
    if (files->spare_dir_is_dirty) {
        files__spare_dir(files, path);
        enum err error = disk->ops->sync_dir(disk, path);
        if (error != OK) {
            return error;
        }
        files->spare_dir_is_dirty = false;
    }
    if (log->lane.names_are_dirty && !PLANT(28)) {
        files__log_dir(files, log->group, path);
        enum err error = disk->ops->sync_dir(disk, path);
        if (error != OK) {
            return error;
        }
        log->lane.names_are_dirty = false;
    }
    if (files->root_is_dirty) {
        enum err error = disk->ops->sync_dir(disk, files->dir);
        if (error != OK) {
            return error;
        }
        files->root_is_dirty = false;
    }
    return OK;
}

/* What was appended is known, or, of a segment that was opened without its tail, what the disk brings twice. */
static enum err checkpoint__read_block(struct checkpoint_state *state, struct files *files, uint32_t size,
                                       uint64_t position)
{
    struct disk_file *file = state->active->file.handle;
    size_t got = 0;
    if (!state->is_tail_known) {
        return files__read_twice(files, file, state->tail, size, position);
    }
    enum err error = files->disk->ops->read(files->disk, file, state->tail, size, position, &got);
    return error == OK && (got != size || crc32c(0, state->tail, size) != state->tail_crc) ? ERR_CORRUPT : error;
}

/* A start writes the tail over what it finds, so a read that lies must not get into the row. A block that stays
 * unreadable is lost already: the row then goes without it. */
static enum err checkpoint__read_tail(struct store_checkpoint *checkpoint, struct files *files)
{
    struct checkpoint_state *state = checkpoint->state;
    struct segment_row *row = &checkpoint->rows[checkpoint->rows_count - 1];
    uint32_t size = (uint32_t)(row->size_bytes % STORE_BLOCK_BYTES);
    row->tail_size = 0;
    if (size == 0) {
        return OK;
    }
    enum err error = files__open(files, state->active);
    if (error == OK) {
        error = checkpoint__read_block(state, files, size, row->size_bytes - size);
    }
    if (error == OK) {
        row->tail_size = size;
        return OK;
    }
    if (error == ERR_TOO_MANY_FILES || error == ERR_NO_MEMORY) {
        return error;
    }
    struct segment_file *file = &state->active->file;
    uint64_t block_end = row->size_bytes - size + STORE_BLOCK_BYTES;
    if (++state->tail_tries < TAIL_TRIES_MAX && file->lost_tail != block_end) {
        return ERR_AGAIN;
    }
    file->lost_tail = block_end; /* later checkpoints need not wait for it again */
    trace_error(files->trace, "segment_tail_unreadable", "group=%llu base=%lld error=%s",
                (unsigned long long)checkpoint->log->group, (long long)row->base_offset, err_name(error));
    return OK;
}

enum err store_checkpoint_sync(struct store_checkpoint *checkpoint)
{
    struct checkpoint_state *state = checkpoint->state;
    struct segment_log *log = checkpoint->log;
    struct log_lane *lane = &log->lane;
    struct files *files = &log->store->files;
    if (lane->is_deleted) {
        return OK; /* nobody will read it */
    }
    if (lane->sync_error != OK || files->sync_error != OK) {
        return ERR_IO;
    }
    if (lane->written_offset < checkpoint->next_offset) {
        /* A failed write, unlike a failed sync, may be asked again: the bytes are still in memory. */
        return lane->error == OK || lane->error == ERR_IO ? ERR_AGAIN : lane->error;
    }
    enum err error = checkpoint__sync_files(files, lane, state->is_one_of_many);
    if (error == OK) {
        error = checkpoint__sync_names(files, log);
    }
    if (error == ERR_TOO_MANY_FILES || error == ERR_NO_MEMORY) {
        return error; /* a directory could not be opened: nothing was synced, so nothing failed for good */
    }
    if (error != OK) {
        trace_error(files->trace, "segment_sync_failed", "group=%llu error=%s", (unsigned long long)log->group,
                    err_name(error));
        lane->sync_error = error;
        return ERR_IO;
    }
    return checkpoint->rows_count > 0 ? checkpoint__read_tail(checkpoint, files) : OK;
}

/* --- loop --- */

/* Whether a batch that is not written yet still needs the segment: its own, or the one it seals. */
static bool segment__is_awaited(const struct segment *segment)
{
    const struct tail_ring *ring = &segment->log->ring;
    if (ring->written == ring->count) {
        return false;
    }
    const struct store_item *first = ring__at(ring, ring->written);
    return first->segment->base_offset < segment->end_offset || first->seals == segment;
}

/* A pinned one goes with its last pin, or, for a shed, not at all: a picture that waits may name it. */
static void segment_log__free_dropped(struct segment_log *log, uint64_t drops, bool is_shed, int64_t kept_base)
{
    struct segment_list list = TAILQ_HEAD_INITIALIZER(list);
    struct segment *segment = TAILQ_FIRST(&log->dropped);
    while (segment != NULL && segment->dropped_at <= drops) {
        struct segment *next = TAILQ_NEXT(segment, link);
        bool stays = is_shed && (segment->base_offset == kept_base || segment->pins > 0);
        if (stays || segment->is_free || segment__is_awaited(segment)) {
            segment = next;
            continue;
        }
        segment->is_free = true;
        if (segment->pins == 0) {
            TAILQ_REMOVE(&log->dropped, segment, link);
            TAILQ_INSERT_TAIL(&list, segment, link);
        }
        segment = next;
    }
    segment_log__retire(log, &list);
}

bool segment_log_sheds(const struct segment_log *log, struct segment_shed *ret_shed)
{
    if (log->is_dead || TAILQ_EMPTY(&log->dropped)) {
        return false;
    }
    *ret_shed = (struct segment_shed){
        .first_base = log->segments_count > 0 ? log->segments[0]->base_offset : log->next_offset, .drops = log->drops};
    return true;
}

void segment_log_shed(struct segment_log *log, const struct segment_shed *shed, int64_t kept_base)
{
    if (!log->is_dead) {
        segment_log__free_dropped(log, shed->drops, true, kept_base);
    }
}

/* A picture that waits for room may name segments that went meanwhile. Its last row stays: what is replayed behind the
 * picture goes on in that segment. */
void store_checkpoint_refresh(struct store_checkpoint *checkpoint)
{
    const struct segment_log *log = checkpoint->log;
    uint32_t gone = 0;
    while (gone + 1 < checkpoint->rows_count && checkpoint->rows[gone].end_offset <= log->start_offset) {
        gone++;
    }
    if (gone > 0) {
        checkpoint->rows_count -= gone;
        memmove(checkpoint->rows, checkpoint->rows + gone, checkpoint->rows_count * sizeof checkpoint->rows[0]);
        checkpoint->log_start = checkpoint->rows[0].base_offset;
    }
}

void store_checkpoint_done(struct store_checkpoint *checkpoint, bool ok)
{
    struct checkpoint_state *state = checkpoint->state;
    struct segment_log *log = checkpoint->log;
    struct store *store = log->store;
    ASSERT(store->checkpoints_count > 0);
    store->checkpoints_count--;
    if (state->active != NULL) {
        segment__unpin(state->active);
    }
    if (ok && !log->is_dead) {
        segment_log__free_dropped(log, state->drops, false, -1); /* no durable manifest names them any more */
    }
    free(state);
    free(checkpoint->rows);
    free(checkpoint);
    segment_log__release_hold(log);
}
