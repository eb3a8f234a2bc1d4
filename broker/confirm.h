/* Is this broker's leadership still one? Others may have elected a new leader without it: then it knows no longer how
 * far the log goes. What would be wrong after that is answered only when majorities have said, after the question came,
 * that they still follow (ReadIndex): the end of the log, an offset above it, and that sequences leave a gap.
 *
 * All on the loop thread. */
#ifndef FLOTILLA_BROKER_CONFIRM_H
#define FLOTILLA_BROKER_CONFIRM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/err.h"

struct partition;
struct raft_update;

/* Somebody who asks; part of who does. done is called exactly once, and may free it. OK: all that was committed when it
 * asked is applied here. Else the partition's status: nobody can say. */
struct confirm {
    STAILQ_ENTRY(confirm) link;
    uint64_t round;
    void (*done)(struct confirm *confirm, enum err error);
};
STAILQ_HEAD(confirm_list, confirm);

/* There are other replicas. */
bool confirm_is_needed(const struct partition *p);
/* Of a partition whose status is OK. The answer comes within two election timeouts: by then a leader has heard of its
 * followers or is none any more. */
void confirm_ask(struct partition *p, struct confirm *confirm);

/* --- for the partition --- */
void confirm_told(struct partition *p, const struct raft_update *update); /* behind the update's apply */
void confirm_fail_all(struct partition *p, enum err error);

#endif
