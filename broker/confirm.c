/* Those who ask stand in the order of their rounds. Each asks for one; the core makes one of all that come between two
 * answers of its followers. */
#include "broker/confirm.h"

#include "base/assert.h"
#include "broker/impl.h"

bool confirm_is_needed(const struct partition *p)
{
    return !roster_is_alone(&p->roster, p->replica);
}

void confirm_ask(struct partition *p, struct confirm *confirm)
{
    ASSERT(partition_status(p) == OK);
    raft_step(p->raft, &(struct raft_event){.type = RAFT_READ});
    confirm->round = raft_read_round(p->raft);
    STAILQ_INSERT_TAIL(&p->confirms, confirm, link);
    partition_mark_dirty(p);
}

void confirm_told(struct partition *p, const struct raft_update *update)
{
    struct confirm *first;
    if (p->applied_index < update->read_index) {
        return; /* an entry that could not be applied */
    }
    while ((first = STAILQ_FIRST(&p->confirms)) != NULL && first->round <= update->read_round) {
        STAILQ_REMOVE_HEAD(&p->confirms, link);
        first->done(first, OK);
    }
}

void confirm_fail_all(struct partition *p, enum err error)
{
    struct confirm *first;
    while ((first = STAILQ_FIRST(&p->confirms)) != NULL) {
        STAILQ_REMOVE_HEAD(&p->confirms, link);
        first->done(first, error);
    }
}
