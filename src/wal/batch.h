/* One group commit in the making: record headers in one array, references to payloads in another, nothing copied and,
 * once the arrays have grown, nothing allocated.
 *
 * Life: open (its lsn is fixed: the previous batch is closed, so its length is known) -> add* -> seal (in the job, on
 * the lane thread: CRCs and the list of parts for one gather write) -> drop (loop thread). Owned by struct wal. */
#ifndef FLOTILLA_WAL_BATCH_H
#define FLOTILLA_WAL_BATCH_H

#include <sys/queue.h>
#include <sys/uio.h>

#include "wal/format.h"

/* What a batch says about the one before it. */
struct wal__voucher {
    uint64_t lsn; /* 0: nothing to vouch for, the first batch of a boot */
    uint32_t length;
    uint32_t crc;     /* of its header, which holds that of its body */
    uint64_t *groups; /* owned; any order, repeats allowed until sealed */
    uint32_t groups_count;
    uint32_t groups_capacity;
};

struct wal__batch {
    STAILQ_ENTRY(wal__batch) link;
    uint64_t lsn;
    uint32_t length; /* header, group list and records so far */
    uint32_t crc;    /* of the header; after seal */

    bool vouches;
    uint32_t list_room; /* group ids that the list has room for: counted before repeats are taken out */
    uint8_t *prefix;    /* batch header and group list */
    uint32_t prefix_size, prefix_capacity;

    uint8_t *heads; /* encoded record headers */
    struct slice *payloads;
    uint32_t records_count, records_capacity;

    uint64_t *groups; /* of the records, in order of arrival, neighbours differ */
    uint32_t groups_count, groups_capacity;

    struct iovec *parts; /* after seal */
    int parts_count;
};

/* Never NULL (bookkeeping memory). */
struct wal__batch *wal__batch_new(void);
void wal__batch_free(struct wal__batch *batch);

/* Begins at lsn. If it vouches, list_room is the count of groups of the batch before. The batch must be empty. */
void wal__batch_open(struct wal__batch *batch, uint64_t lsn, bool vouches, uint32_t list_room);

/* True if another record with this payload stays within WAL_BATCH_BYTES_MAX, and within a file of file_bytes. Only a
 * single record is ever larger than a file. */
bool wal__batch_fits(const struct wal__batch *batch, uint32_t payload_size, uint64_t file_bytes);

/* Takes a reference to the payload; one without a buf is copied. Must fit. */
void wal__batch_add(struct wal__batch *batch, const struct wal_record *record);

/* For this life of a file. Any thread that alone holds batch and voucher: sorts the voucher's groups, computes the
 * CRCs and fills parts. Payload bytes are only read. */
void wal__batch_seal(struct wal__batch *batch, const struct wal__file_header *file, struct wal__voucher *voucher);

/* Loop thread: drops the references; the arrays stay for the next use. */
void wal__batch_drop(struct wal__batch *batch);

#endif
