/* Deleted marks in the order in which their groups' last records stand in the WAL; the ones in front go first. */
#include "broker/forget.h"

#include <stdlib.h>

#include "base/mem.h"
#include "broker/impl.h"

struct grave {
    uint64_t group;
    uint64_t lsn; /* nothing of the group stands at or above it */
    STAILQ_ENTRY(grave) link;
};

void forget_add(struct broker *b, uint64_t group)
{
    struct grave *grave = mem_zeroed(1, sizeof *grave);
    grave->group = group;
    grave->lsn = wal_next_lsn(b->wal);
    STAILQ_INSERT_TAIL(&b->graves, grave, link);
}

static void forget__done(void *context, enum err error)
{
    struct broker *b = context;
    (void)error; /* what is still marked is found at the next start */
    b->forgetting = false;
}

void forget_turn(struct broker *b)
{
    uint64_t groups[DELETED_FORGET_MAX];
    uint32_t count = 0;
    uint64_t forgotten_lsn = wal_forgotten_lsn(b->wal);
    struct grave *grave = STAILQ_FIRST(&b->graves);
    if (grave == NULL || grave->lsn > forgotten_lsn || b->forgetting || b->stopping || broker__disk_full(b)) {
        return;
    }
    while (count < DELETED_FORGET_MAX && (grave = STAILQ_FIRST(&b->graves)) != NULL && grave->lsn <= forgotten_lsn) {
        groups[count++] = grave->group;
        STAILQ_REMOVE_HEAD(&b->graves, link);
        free(grave);
    }
    b->forgetting = true;
    trace_info(b->trace, "deleted_forgotten", "groups=%u", count);
    b->registry->ops->forget_deleted(b->registry, groups, count, forget__done, b);
}

void forget_free(struct broker *b)
{
    struct grave *grave;
    while ((grave = STAILQ_FIRST(&b->graves)) != NULL) {
        STAILQ_REMOVE_HEAD(&b->graves, link);
        free(grave);
    }
}
