/* The committed log of every group of a fleet, for the ledger (sim_ledger.h) of its clients' history: what the judge
 * sees become durable anywhere is kept here, and given to the ledger when it is committed. So the ledger, which was
 * written for the durable log of one broker, replays what all of them have agreed on: B3, B5, B8 and B13 are judged
 * over it as over that one. */
#ifndef FLOTILLA_SIM_FLEET_LEDGER_H
#define FLOTILLA_SIM_FLEET_LEDGER_H

#include "judge.h"
#include "sim_check.h"

struct fleet_ledger;

/* The check's ledger is fed from now on; before any broker starts. Both are borrowed until fleet_ledger_free. */
struct fleet_ledger *fleet_ledger_new(struct sim_world *world, struct judge *judge, struct check *check);
void fleet_ledger_free(struct fleet_ledger *books);

/* An answer about this group is about to be judged: all that is committed by now is in the ledger. */
void fleet_ledger_catch_up(struct fleet_ledger *books, uint64_t group);

#endif
