/* Links between brokers: both ends of each, and the dialler. Bytes take time and stay in order; a direction may be cut
 * (what is under way waits there), a connection may break, a process may die with its ends. With a sim_wire whole
 * frames have a fate of their own. What happens at an end happens in its broker's world: it waits while that one is
 * held. */
#ifndef FLOTILLA_SIM_CABLE_H
#define FLOTILLA_SIM_CABLE_H

#include "port/link.h"
#include "sim.h"
#include "sim_wire.h"

#define CABLE_BROKERS_MAX 8u

struct sim_cables;

struct sim_cables *sim_cables_new(struct sim_world *world, uint64_t delay_us_max);
void sim_cables_free(struct sim_cables *cables);

void sim_cables_set_world(struct sim_cables *cables, uint64_t id,
                          struct sim_world *world); /* of a machine; else the whole */
/* Borrowed; before the first connection. send: sim_wire_send. */
void sim_cables_set_wire(struct sim_cables *cables, struct sim_wire *wire, sim_wire_sender send);
/* Somebody who sees the traffic. sent: a broker sends, one call for each of link_send: whole frames, at the moment they
 * leave. delivered: bytes of one broker are about to be read by another: whole frames, or NULL: what was held up, in
 * the middle of one. */
struct sim_cable_watcher {
    void *context;
    void (*sent)(void *context, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size);
    void (*delivered)(void *context, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size);
};
void sim_cables_watch(struct sim_cables *cables, const struct sim_cable_watcher *watcher); /* copied */

/* Where others reach broker `id` (1 ..): as an address, and whom a connection is given to. */
const char *sim_cables_address(struct sim_cables *cables, uint64_t id);
void sim_cables_listen(struct sim_cables *cables, uint64_t id, void (*accept)(void *context, struct link *link),
                       void *context);
struct dialer *sim_cables_dialer(struct sim_cables *cables, uint64_t id);

/* The process of `id` is gone: no calls into it; the others see its ends close. */
void sim_cables_kill(struct sim_cables *cables, uint64_t id);
/* Before that: a connection of `id` waits somewhere to be accepted, with the greeting in it, and is so when its process
 * is gone, perhaps when the next one is connected already. */
void sim_cables_echo(struct sim_cables *cables, uint64_t id, uint64_t in_us);
void sim_cables_cut(struct sim_cables *cables, uint64_t from, uint64_t to, bool cut);
void sim_cables_break(struct sim_cables *cables, uint64_t one, uint64_t other); /* all links between them */
/* At the address of `id` broker `answers` answers from now on; `id` itself: all is well again. */
void sim_cables_swap(struct sim_cables *cables, uint64_t id, uint64_t answers);
uint32_t sim_cables_misled(const struct sim_cables *cables);           /* connections that reached somebody else */
size_t sim_cables_count(const struct sim_cables *cables, uint64_t id); /* ends of `id` that are open */

#endif
