/* What the registry is told of leaders, and what becomes of them while nobody can tell it anything.
 *
 *   Z1   who is published leads in that term, is published by itself, and nobody else is in that term; what the
 *        registry says never goes back to an earlier one
 *   Z3   a registry that is away takes nothing from anybody: who leads by the group's log, and has applied its own
 *        LEADER entry, serves
 *   Z7   when all is well again the registry names who leads
 *
 * Fed with plain facts; nothing here calls a broker. */
#ifndef FLOTILLA_SIM_HERALD_H
#define FLOTILLA_SIM_HERALD_H

#include <stdbool.h>
#include <stdint.h>

#include "sim.h"

struct heralds;

struct heralds *heralds_new(struct sim_world *world);
void heralds_free(struct heralds *heralds);

/* Broker `by` publishes; what the registry names afterwards. */
struct herald_word {
    uint64_t group, by;
    uint64_t leader, term;
    uint64_t said_leader, said_term;
};
void heralds_published(struct heralds *heralds, const struct herald_word *word);

/* A replica, looked at while the registry is away. */
struct herald_sight {
    uint64_t group, broker;
    bool leads;  /* by its log, whole, its own LEADER entry applied */
    bool serves; /* clients would be served */
};
void heralds_saw(struct heralds *heralds, const struct herald_sight *sight);

/* Z7, asked again and again until it is so. leader 0: nobody leads, nothing is owed. */
bool heralds_is_true(struct heralds *heralds, uint64_t group, uint64_t leader, uint64_t term);

#endif
