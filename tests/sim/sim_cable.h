/* Links between brokers: both ends of each, and the dialler. Bytes take time and stay in order; a direction may be cut
 * (what is under way waits there), a connection may break, a process may die with its ends. */
#ifndef FLOTILLA_SIM_CABLE_H
#define FLOTILLA_SIM_CABLE_H

#include "port/link.h"
#include "sim.h"

#define CABLE_BROKERS_MAX 8u

struct sim_cables;

struct sim_cables *sim_cables_new(struct sim_world *world, uint64_t delay_us_max);
void sim_cables_free(struct sim_cables *cables);

/* Where others reach broker `id` (1 ..): as an address, and whom a connection is given to. */
const char *sim_cables_address(struct sim_cables *cables, uint64_t id);
void sim_cables_listen(struct sim_cables *cables, uint64_t id, void (*accept)(void *context, struct link *link),
                       void *context);
struct dialer *sim_cables_dialer(struct sim_cables *cables, uint64_t id);

/* The process of `id` is gone: no calls into it; the others see its ends close. */
void sim_cables_kill(struct sim_cables *cables, uint64_t id);
void sim_cables_cut(struct sim_cables *cables, uint64_t from, uint64_t to, bool cut);
void sim_cables_break(struct sim_cables *cables, uint64_t one, uint64_t other); /* all links between them */
size_t sim_cables_count(const struct sim_cables *cables, uint64_t id);          /* ends of `id` that are open */

#endif
