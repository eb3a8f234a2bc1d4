/* Lane: what an earlier process wrote is judged once as a whole before anything of it is served. A batch with a good
 * CRC and the right offset may still be another one: of another partition's segment, or of an earlier use of the file
 * at this place, if a write went astray or never arrived. Only the chain over all headers, which the manifest holds,
 * can tell. The headers are walked in pieces, so that others get their turn on the lane. */
#include "base/crc32c.h"
#include "store/impl.h"

#define PIECE_BYTES (16u << 20)

void doubt__raise(struct segment *segment)
{
    segment->file.doubt = (struct doubt){
        .is_open = segment->size_bytes > 0, .bytes = segment->size_bytes, .offset = segment->base_offset};
    segment->file.doubt.chain_wanted = segment->chain;
}

enum verdict { OURS, FOREIGN, UNKNOWN };

/* A read that failed says nothing about the bytes: it may not fail again. If it does, a place is damaged, and that is
 * why no chain can fit. */
static bool doubt__breaks_off(struct doubt *doubt, enum err error)
{
    bool is_known =
        error == OK || error == ERR_CLOSED || error == ERR_CORRUPT || (error == ERR_IO && doubt->was_unread);
    doubt->was_unread |= error == ERR_IO;
    return !is_known;
}

/* The chain is not the one of the manifest. If some batch is bad by itself, that is why, and its readers find it; if
 * all are good and their leader epochs rise, they are not the ones that were written here: unless this second look
 * finds the right chain, and it was the first that read wrong bytes. If it cannot be finished, nobody knows. */
static enum verdict doubt__judge(struct files *files, struct segment *segment)
{
    struct doubt *doubt = &segment->file.doubt;
    struct walk walk;
    struct batch_header header;
    uint64_t position;
    uint32_t chain = 0;
    int32_t epoch = 0;
    enum err error;
    walk__begin(&walk, files, segment, 0, doubt->bytes);
    while ((error = walk__next(&walk, &header, &position)) == OK) {
        chain = crc32c(chain, files->window + (position - walk.window_position), BATCH_HEADER_BYTES);
        error = walk__check_crc(&walk, position, &header);
        if (error != OK || header.leader_epoch < epoch) {
            return doubt__breaks_off(doubt, error) ? UNKNOWN : OURS;
        }
        epoch = header.leader_epoch;
    }
    if (error != ERR_CLOSED) {
        return doubt__breaks_off(doubt, error) ? UNKNOWN : OURS;
    }
    return chain != doubt->chain_wanted ? FOREIGN : OURS;
}

bool doubt__settle(struct files *files, struct segment *segment)
{
    struct doubt *doubt = &segment->file.doubt;
    struct walk walk;
    struct batch_header header;
    uint64_t position = doubt->position;
    uint64_t until = doubt->position + PIECE_BYTES;
    enum err error = OK;
    if (!doubt->is_open) {
        return true;
    }
    walk__begin(&walk, files, segment, doubt->position, doubt->bytes);
    walk.expected_offset = doubt->offset;
    while (walk.position < until && (error = walk__next(&walk, &header, &position)) == OK) {
        const uint8_t *bytes = files->window + (position - walk.window_position);
        doubt->chain = crc32c(doubt->chain, bytes, BATCH_HEADER_BYTES);
    }
    doubt->position = walk.position;
    doubt->offset = walk.expected_offset;
    if (error == OK) {
        return false;
    }
    if (doubt__breaks_off(doubt, error)) {
        segment->file.is_foreign = true; /* this read is refused, the next one goes on */
        return true;
    }
    doubt->is_open = false; /* if it ended at damage, that is why no chain can fit: its readers find it */
    segment->file.is_foreign = false;
    if (error == ERR_CLOSED && doubt->chain != doubt->chain_wanted) {
        enum verdict verdict = doubt__judge(files, segment);
        segment->file.is_foreign = verdict != OURS;
        trace_error(files->trace, "segment_chain_differs", "group=%llu base=%lld foreign=%d",
                    (unsigned long long)segment->log->group, (long long)segment->base_offset, verdict == FOREIGN);
        if (verdict == UNKNOWN) { /* this read is refused, the next one looks again */
            bool was_unread = doubt->was_unread;
            doubt__raise(segment);
            doubt->was_unread = was_unread;
        }
    }
    return true;
}
